"""Files in which each worker thread writes what it begins, readable after the worker has died."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

from pipeline.graph.segments import Segment

__all__ = ["finished_file", "mark_late", "read_late", "read_status", "status_file", "write_status"]

_STATUS = struct.Struct("qq")  # number of the segment, position of the task in it
_local = threading.local()


def status_file(folder: str, address: str) -> int:
    """Return the descriptor of the file of this thread; it stays open as long as the worker lives."""
    files: dict[str, int] = _local.__dict__.setdefault("files", {})
    if folder not in files:
        name = f"{_port(address)}-{threading.get_ident()}"
        files[folder] = os.open(Path(folder, name), os.O_CREAT | os.O_WRONLY, 0o600)
    return files[folder]


def write_status(file: int, segment: int, position: int) -> None:
    """Write which task this thread begins."""
    os.pwrite(file, _STATUS.pack(segment, position), 0)


def read_status(folder: str, address: str) -> list[tuple[int, int]]:
    """Return the number of the segment and the position of the task that each thread of a worker began last."""
    found = []
    for path in Path(folder).glob(f"{_port(address)}-*"):
        data = path.read_bytes()
        if len(data) == _STATUS.size:
            number, position = _STATUS.unpack(data)
            found.append((number, position))
    return found


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
