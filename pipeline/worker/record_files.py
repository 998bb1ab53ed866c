"""Files of records, to which one process appends: what was added can be read after that process was killed.

Each record is preceded by its length and its CRC-32. A record that is cut, or whose bytes have changed, ends the file.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

__all__ = ["append_record", "read_record", "records"]

_HEAD = struct.Struct("<QI")
_MOST = 1 << 30  # bytes of one system call


def append_record(descriptor: int, *parts: Any) -> int:
    """Append the bytes of some buffers as one record; return how many the file has more. Nothing else is written.

    Parameters
    ----------
    descriptor : of a file that is open for appending

    Raises
    ------
    OSError : it can't be written; the file is then as it was
    """
    crc, n = 0, 0
    for part in parts:
        crc, n = zlib.crc32(part, crc), n + memoryview(part).nbytes
    before = os.fstat(descriptor).st_size
    try:
        for data in (_HEAD.pack(n, crc), *parts):
            view = memoryview(data).cast("B")
            while view.nbytes:
                view = view[os.write(descriptor, view[:_MOST]) :]
    except OSError:
        os.ftruncate(descriptor, before)
        raise
    return _HEAD.size + n


def records(data: Any) -> Iterator[tuple[int, memoryview]]:
    """Yield the position and the bytes of each whole record in what a file holds."""
    view, start = memoryview(data), 0
    while (record := _record(view, start)) is not None:
        yield start, record
        start += _HEAD.size + record.nbytes


def read_record(descriptor: int, position: int) -> bytes | None:
    """Return the bytes of the record at a position; None if there is no whole one."""
    head = os.pread(descriptor, _HEAD.size, position)
    if len(head) < _HEAD.size:
        return None
    size = _HEAD.size + _HEAD.unpack(head)[0]
    if position + size > os.fstat(descriptor).st_size:
        return None
    record = _record(memoryview(os.pread(descriptor, size, position)), 0)
    return None if record is None else bytes(record)


def _record(view: memoryview, start: int) -> memoryview | None:
    if start + _HEAD.size > view.nbytes:
        return None
    n, crc = _HEAD.unpack_from(view, start)
    record = view[start + _HEAD.size : start + _HEAD.size + n]
    return record if record.nbytes == n and zlib.crc32(record) == crc else None
