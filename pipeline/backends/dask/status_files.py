"""Files in which each worker thread writes what it begins, readable after the worker has died."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

from pipeline.graph.segments import Segment

__all__ = ["late_mark", "read_status", "status_file", "write_status"]

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


def late_mark(folder: str, segment: Segment, position: int) -> Path:
    """Return the path of a file whose existence says that a task exceeded its timeout and is left out."""
    return Path(folder, f"late-{segment.number}-{position}")


def _port(address: str) -> str:
    return address.rpartition(":")[2]
