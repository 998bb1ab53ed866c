"""Values and messages as bytes, for workers that are processes.

A value is pickled once, where it was made, and stays :class:`Packed` until a task needs it. Its large buffers (arrays,
columns) are kept apart from the pickle (protocol 5) and written to a pipe from where they are; they are read into
memory that the new value then uses. So there is one copy on each side. That memory is writable, as it would be after a
plain pickle.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, SupportsIndex

import cloudpickle

__all__ = ["PIPE", "Packed", "dump", "load", "pack", "receive", "send", "to_bytes"]

_LARGE = 65_536  # bytes from which a buffer is kept apart
_WRITE = 1 << 20  # bytes of one system call
PIPE = 65_536  # bytes that a pipe holds: writing no more than that does not wait for the reader


class Packed:
    """A pickled value. ``frames``: the pickle, then the buffers that were kept apart."""

    __slots__ = ("frames",)

    def __init__(self, frames: Sequence[Any]) -> None:
        self.frames = tuple(frames)

    @property
    def nbytes(self) -> int:
        """Bytes of all its frames."""
        return sum(memoryview(frame).nbytes for frame in self.frames)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        large = [memoryview(frame).nbytes >= _LARGE for frame in self.frames]
        return Packed, ([pickle.PickleBuffer(f) if big else f for f, big in zip(self.frames, large, strict=True)],)


def pack(value: Any) -> Packed:
    """Pickle a value, with cloudpickle where pickle can't (lambdas, classes of ``__main__``)."""
    try:
        return _pack(value, pickle.dumps)
    except Exception:  # noqa: BLE001 - if cloudpickle fails as well, its error is the better message
        return _pack(value, cloudpickle.dumps)


def _pack(value: Any, dumps: Any) -> Packed:
    buffers: list[memoryview] = []

    def keep_in_pickle(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _LARGE:
            return True
        buffers.append(raw)
        return False

    head = dumps(value, protocol=5, buffer_callback=keep_in_pickle)
    return Packed((head, *buffers))


def load(packed: Packed) -> Any:
    """Return the value. Arrays in it use the memory of ``packed``: load a Packed only once."""
    head, *buffers = packed.frames
    return pickle.loads(head, buffers=buffers)


def dump(message: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle a message; return it and the large buffers of the values in it."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    return head, [buffer.raw() for buffer in buffers]


def to_bytes(message: Any) -> bytes:
    """Pickle a message, buffers included."""
    return pickle.dumps(message, protocol=5)


def send(connection: Connection, head: bytes, buffers: Sequence[memoryview] = ()) -> None:
    """Write a dumped message; returns when the other side has read all but what the pipe holds."""
    views = [buffer.cast("B") for buffer in buffers]
    sizes = [view.nbytes for view in views]
    connection.send_bytes(struct.pack(f"<Q{len(sizes)}Q", len(sizes), *sizes) + head)
    for view in views:
        sent = 0
        while sent < view.nbytes:
            sent += os.write(connection.fileno(), view[sent : sent + _WRITE])


def receive(connection: Connection) -> tuple[Any, int]:
    """Read a message; return it and its size in bytes.

    Raises
    ------
    EOFError, OSError : if the other side is gone
    """
    data = memoryview(connection.recv_bytes())
    (n,) = struct.unpack_from("<Q", data)
    sizes = struct.unpack_from(f"<{n}Q", data, 8)
    buffers = [_read(connection.fileno(), size) for size in sizes]
    return pickle.loads(data[8 + 8 * n :], buffers=buffers), data.nbytes + sum(sizes)


def _read(fd: int, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    done = 0
    while done < size:
        n = os.readv(fd, [view[done:]])
        if not n:
            raise EOFError("the other side is gone")
        done += n
    return buffer
