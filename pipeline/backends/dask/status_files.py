"""Files in which each worker thread writes what it runs, readable when the worker is dead, stopped or has no GIL."""

from __future__ import annotations

import os
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.graph.segments import Segment

__all__ = [
    "Status",
    "finished_file",
    "forget_status",
    "mark_late",
    "read_late",
    "read_status",
    "read_status_file",
    "status_file",
    "write_status",
]

_FORMAT = struct.Struct("qqq")
_local = threading.local()


class Status(NamedTuple):
    """What a worker thread runs, or ran last: number of the segment, position of the task in it.

    ``start`` is when the task began, by the clock ``perf_counter_ns``; 0 when it has ended.
    """

    segment: int
    position: int
    start: int

    def to_bytes(self) -> bytes:
        return _FORMAT.pack(*self)


def status_file(folder: str, address: str) -> Path:
    """Return the path of the file of this thread."""
    return Path(folder, f"{_port(address)}-{threading.get_ident()}")


def write_status(file: Path, status: Status) -> None:
    """Write what this thread runs. The file is kept open, and opened again if a task has closed it."""
    files: dict[Path, int] = _local.__dict__.setdefault("files", {})
    data = status.to_bytes()
    if file in files:
        with suppress(OSError):
            if os.path.samestat(os.fstat(files[file]), file.stat()):
                os.pwrite(files[file], data, 0)
                return
    with suppress(FileNotFoundError):  # the run is over
        files[file] = os.open(file, os.O_CREAT | os.O_WRONLY, 0o600)
        os.pwrite(files[file], data, 0)


def read_status(folder: str, address: str) -> list[Status]:
    """Return what each thread of a worker runs, or ran last."""
    found = map(read_status_file, Path(folder).glob(f"{_port(address)}-*"))
    return [status for status in found if status is not None]


def read_status_file(path: Path) -> Status | None:
    """Return what a thread runs, or ran last; None if its file is gone or not complete."""
    with suppress(OSError):
        data = path.read_bytes()
        if len(data) == _FORMAT.size:
            return Status(*_FORMAT.unpack(data))
    return None


def forget_status(folder: str, address: str) -> None:
    """Remove the files of a worker."""
    for path in Path(folder).glob(f"{_port(address)}-*"):
        path.unlink(missing_ok=True)


def mark_late(folder: str, segment: Segment, position: int, *, again: bool) -> None:
    """Write that a task exceeded its timeout: it is left out, or, in a batch, tried again."""
    name = f"late-{segment.number}-{position}"
    if again:
        name += f"-{sum(other.startswith(f'{name}-') for other in os.listdir(folder))}"
    Path(folder, name).touch()


def read_late(folder: str, segment: Segment) -> tuple[list[int], list[int]]:
    """Return the positions of the tasks that :func:`mark_late` left out, and of those to be tried again.

    The latter are in the list once for each time.
    """
    prefix = f"late-{segment.number}-"
    marks = [name.removeprefix(prefix).split("-") for name in os.listdir(folder) if name.startswith(prefix)]
    return [int(mark[0]) for mark in marks if len(mark) == 1], [int(mark[0]) for mark in marks if len(mark) > 1]


def finished_file(folder: str, segment: Segment) -> str:
    """Return the path of the file in which the worker of a batch keeps what its items give."""
    return os.path.join(folder, f"finished-{segment.number}")


def _port(address: str) -> str:
    return address.rpartition(":")[2]
