"""A file in which a worker keeps what the items of a batch have given, readable after the worker has died."""

from __future__ import annotations

import os
import pickle
from contextlib import suppress

from pipeline.worker.record_files import append_record, records
from pipeline.worker.segment_result import SegmentResult

__all__ = ["FinishedItems", "read_finished", "remove_finished"]

_MOST = 64_000_000  # bytes of one batch; an item that does not fit is computed again if the worker is lost


class FinishedItems:
    """Takes what is new of a batch after each of its items. States: no file -> open -> full -> closed.

    The file is written without a buffer: what was added outlives this process.

    Parameters
    ----------
    worker : name of the worker
    remove : whether the file is removed at the end; else that is up to who reads it
    """

    def __init__(self, path: str, worker: str, *, remove: bool = False) -> None:
        self._path, self._worker, self._remove = path, worker, remove
        self._file = -1
        self._n = 0

    def add(self, news: SegmentResult) -> None:
        """Add what is new; nothing where the file is full or can't be written."""
        news.worker = self._worker
        if self._n + sum(timing.bytes_out for timing in news.timings) > _MOST:
            return
        with suppress(OSError):
            data = pickle.dumps(news, protocol=5)
            self._n += len(data)
            if self._n > _MOST:
                return
            if self._file < 0:
                self._file = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            append_record(self._file, data)

    def close(self) -> None:
        """Close the file: the batch is over."""
        if self._file >= 0:
            with suppress(OSError):
                os.close(self._file)
            if self._remove:
                remove_finished(self._path)


def remove_finished(path: str) -> None:
    """Remove the file, if there is one."""
    with suppress(OSError):
        os.unlink(path)


def read_finished(path: str) -> SegmentResult:
    """Return all that was added to a file, which may not exist; the last piece may be cut."""
    found = SegmentResult()
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return found
    for _, record in records(data):
        found.extend(pickle.loads(record))
    return found
