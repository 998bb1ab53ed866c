"""Values and messages as bytes, for workers that are processes.

A value is pickled once, where it was made, and stays :class:`Packed` until a task needs it. Its large buffers (arrays,
columns) are kept apart from the pickle (protocol 5) and written to a pipe from where they are; they are read into
memory that the new value then uses. So there is one copy on each side. That memory is writable, as it would be after a
plain pickle.

Workers that share memory write a large value to a :class:`~pipeline.backends.local.shared_memory.Block` instead, which
those that need it map: one copy in all. What does not fit there goes through the pipe.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, SupportsIndex

import numpy as np

from pipeline.backends.local.shared_memory import Block, Sharing, map_block, read_block, write_block
from pipeline.worker.pickle_frames import frames_of

__all__ = ["PIPE", "Packed", "dump", "load", "pack", "receive", "send", "to_bytes"]

_LARGE = 65_536  # bytes from which a buffer is kept apart
_WRITE = 1 << 20  # bytes of one system call
PIPE = 65_536  # bytes that a pipe holds: writing no more than that does not wait for the reader


class Packed:
    """A pickled value. ``frames``: the pickle, then the buffers that were kept apart; or it is all in a ``block``.

    Attributes
    ----------
    lacked : why it is not in shared memory, though it is large enough
    """

    __slots__ = ("block", "frames", "lacked")

    def __init__(self, frames: Sequence[Any] = (), block: Block | None = None, lacked: str = "") -> None:
        self.frames, self.block, self.lacked = tuple(frames), block, lacked

    @property
    def nbytes(self) -> int:
        """Bytes of the pickle and the buffers."""
        return sum(memoryview(frame).nbytes for frame in self.frames) + (self.block.nbytes if self.block else 0)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        if self.block is not None:
            return Packed, ((), self.block)
        return Packed, ([_in_message(frame) for frame in self.frames],)


def _in_message(frame: Any) -> Any:
    """Return what is pickled for a frame; a small one is copied, and stays writable."""
    if memoryview(frame).nbytes >= _LARGE:
        return pickle.PickleBuffer(frame)
    return bytearray(frame) if isinstance(frame, memoryview) else frame


def pack(value: Any, sharing: Sharing | None = None) -> Packed:
    """Pickle a value, with cloudpickle where pickle can't (lambdas, classes of ``__main__``).

    Parameters
    ----------
    sharing : how large values go through shared memory; None: none does
    """
    if sharing is not None and type(value) is np.ndarray and not (value.flags.forc or value.dtype.hasobject):
        value = np.ascontiguousarray(value)  # else it is copied into the pickle, and out of it
    apart = _LARGE if sharing is None else min(_LARGE, sharing.least)
    frames = frames_of(value, apart)
    packed = Packed(frames)
    if sharing is None or packed.nbytes < sharing.least:
        return packed
    try:
        return Packed(block=write_block(sharing.folder, frames))
    except OSError as error:
        return Packed(frames, lacked=error.strerror or str(error))


def load(packed: Packed, *, copy: bool = False) -> Any:
    """Return the value. Arrays in it use the memory of ``packed``: load one without a block only once.

    Parameters
    ----------
    copy : whether a value in a block is copied, so that it does not need shared memory any more
    """
    frames: Sequence[Any] = packed.frames
    if packed.block is not None:
        frames = read_block(packed.block) if copy else map_block(packed.block)
    head, *buffers = frames
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
