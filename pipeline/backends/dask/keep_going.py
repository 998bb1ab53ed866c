"""On a worker, in a run that keeps going: what takes the place of missing values; which tasks have ended workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from distributed import Worker
from distributed.utils import sync

from pipeline.backends.dask.status_files import read_status_file, status_file

__all__ = ["NotComputed", "Reporting", "losses"]

_METADATA = "pipeline-begun-last"
"""The key of the scheduler's metadata: run -> segment -> how often it has begun without an end."""


class NotComputed:
    """Takes the place of a value that can't be computed, since a task has failed; so does each member of it."""

    def __getitem__(self, place: int) -> NotComputed:
        return self


class Reporting(NamedTuple):
    """Where the worker of a segment reports: see :class:`pipeline.backends.dask.remote_task.Job`."""

    run: str
    topic: str
    status_folder: str


@contextmanager
def losses(worker: Worker, reporting: Reporting, number: int) -> Iterator[Mapping[int, int]]:
    """Record that a segment begins and ends; yield how many workers each of its tasks has ended, by position.

    Where the workers are not ours, the tasks are not known: the losses of the segment are those of the position -1.
    """
    if not reporting.status_folder:
        keys = [_METADATA, reporting.run, str(number)]
        n_begun = sync(worker.loop, worker.scheduler.get_metadata, keys=keys, default=0)
        sync(worker.loop, worker.scheduler.set_metadata, keys=keys, value=n_begun + 1)
        try:
            yield {-1: n_begun}
        finally:
            sync(worker.loop, worker.scheduler.set_metadata, keys=keys, value=0)
        return
    folder = Path(reporting.status_folder)
    begun = folder / f"begun-{number}"
    found = _read(folder, begun, number)
    with suppress(OSError):
        begun.write_text(status_file(reporting.status_folder, worker.address).name)
    try:
        yield found
    finally:
        begun.unlink(missing_ok=True)


def _read(folder: Path, begun: Path, number: int) -> Mapping[int, int]:
    """Return the losses of a segment; that of the worker that began it last, and did not end it, is added."""
    ended = folder / f"ended-{number}"
    with suppress(OSError):
        status = read_status_file(folder / begun.read_text())
        if status is not None and status.segment == number:
            with ended.open("a") as file:
                file.write(f"{status.position}\n")
    with suppress(OSError):
        return Counter(map(int, ended.read_text().split()))
    return {}
