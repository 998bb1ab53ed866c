"""Files in memory through which workers hand large values to each other: written once, mapped by each that reads.

A value's pickle and its buffers (arrays, columns, tables) are one file on ``/dev/shm``; what travels through a pipe is
its name. A reader maps it without a copy, privately: what it writes there is its own copy of that page, so that no
other worker ever sees it. The files belong to the process that the workers belong to: it removes each when the last
task that needs it is done, and all of them at the end of a run, after the death of a worker, and when it leaves the
back end. If it is killed, the watcher (:mod:`pipeline.backends.descendants`) removes them; if that is killed as well,
the next run of this user does.
"""

# Rejected: multiprocessing.shared_memory. Before Python 3.13 whoever attaches to a segment registers it with a resource
# tracker, which unlinks it when the first worker ends and warns of a leak; it does not reserve the space, so a full
# /dev/shm is SIGBUS; and it maps a segment writable for all. Also rejected: using files again, which saves their pages,
# since a task may keep a mapping for as long as it likes.

from __future__ import annotations

import itertools
import math
import mmap
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from pipeline.backends import descendants
from pipeline.worker.mapped_files import map_file
from pipeline.worker.temp_folders import hold

__all__ = [
    "LEAST",
    "NEVER",
    "Block",
    "SharedFiles",
    "Sharing",
    "crossing",
    "crossover",
    "map_block",
    "read_block",
    "write_block",
]

LEAST = mmap.PAGESIZE
"""Bytes from which a value is shared at all: a smaller one costs as much by its name."""
NEVER = 1 << 62
"""A crossover that no value reaches."""

_ALIGNED = 64  # bytes: what numpy and Arrow align their own memory to
_WRITE = 1 << 30  # bytes of one system call
_PIPE = 65_536  # bytes that a pipe holds
_SIZES = (65_536, 262_144, 1_048_576, 4_194_304)  # of the trials, in bytes
_TRIALS = 3

_numbers = itertools.count()


@dataclass(frozen=True)
class Sharing:
    """What a worker must know to share values.

    Parameters
    ----------
    folder : where it writes
    least : bytes of a value from which it is shared
    """

    folder: str
    least: int


class Block(NamedTuple):
    """A value in shared memory.

    Parameters
    ----------
    path : of its file
    sizes : bytes of its frames, each of which begins at a multiple of 64 bytes
    """

    path: str
    sizes: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return sum(self.sizes)


# ---------------------------------------------------------------------------------------------------------------------
# In the workers
# ---------------------------------------------------------------------------------------------------------------------


def write_block(folder: str, frames: Sequence[memoryview | bytes]) -> Block:
    """Write frames of bytes to a new file.

    Raises
    ------
    OSError : there is no room for it; then there is no file
    """
    views = [memoryview(frame).cast("B") for frame in frames]
    sizes = tuple(view.nbytes for view in views)
    starts, end = _layout(sizes)
    path, file = _new_file(folder)
    try:
        os.posix_fallocate(file, 0, max(end, 1))  # else a full file system is found by a signal, when it is read
        for view, start in zip(views, starts, strict=True):
            done = 0
            while done < view.nbytes:
                done += os.pwrite(file, view[done : done + _WRITE], start + done)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(file)
    return Block(path, sizes)


def _new_file(folder: str) -> tuple[str, int]:
    while True:
        path = f"{folder}/{os.getpid()}-{next(_numbers)}"
        with suppress(FileExistsError):  # of an earlier process with this id
            return path, os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)


def _layout(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Return where each frame begins, and where the last one ends."""
    starts, end = [], 0
    for size in sizes:
        start = -(-end // _ALIGNED) * _ALIGNED
        starts.append(start)
        end = start + size
    return starts, end


def map_block(block: Block) -> list[memoryview]:
    """Return the frames of a value, mapped: writable, but nobody else sees what is written.

    The mapping ends when nothing refers to a frame any more; it outlives the file.

    Raises
    ------
    OSError : there is no such file, or no more memory for a mapping
    """
    starts, end = _layout(block.sizes)
    size = max(end, 1)
    file = os.open(block.path, os.O_RDONLY)
    try:
        whole = map_file(file, size)
    finally:
        os.close(file)
    return [whole[start : start + n] for start, n in zip(starts, block.sizes, strict=True)]


def read_block(block: Block) -> list[bytearray]:
    """Return a copy of the frames of a value.

    Raises
    ------
    OSError : there is no such file
    """
    frames = [bytearray(size) for size in block.sizes]
    file = os.open(block.path, os.O_RDONLY)
    try:
        for frame, start in zip(frames, _layout(block.sizes)[0], strict=True):
            view, done = memoryview(frame), 0
            while done < view.nbytes:
                n = os.preadv(file, [view[done : done + _WRITE]], start + done)
                if not n:
                    raise OSError(f"{block.path}: it is shorter than it was written")
                done += n
    finally:
        os.close(file)
    return frames


# ---------------------------------------------------------------------------------------------------------------------
# In their parent
# ---------------------------------------------------------------------------------------------------------------------


class SharedFiles:
    """The files of the workers of one back end. State: those that values are in; the others are being written.

    Raises
    ------
    OSError : there is no ``/dev/shm``, or it can't be written to
    """

    def __init__(self, n: int) -> None:
        name = f"{descendants.shared_prefix(descendants.mark().rpartition(':')[2])}{n}"
        folder, self._held = hold(name, Path(descendants.SHARED))
        self.folder = str(folder)
        self._used: set[str] = set()
        try:
            os.unlink(write_block(self.folder, [bytes(LEAST)]).path)
        except OSError:
            self.close()
            raise

    def adopt(self, blocks: Iterable[Block]) -> None:
        """Take note of values that have arrived: their files stay until they are removed one by one."""
        self._used.update(block.path for block in blocks)

    def remove(self, block: Block) -> None:
        """Remove the file of a value that nobody needs any more."""
        self._used.discard(block.path)
        with suppress(OSError):
            os.unlink(block.path)

    def sweep(self, living: Collection[int | None]) -> None:
        """Remove what processes that have ended were writing, or had written and not sent.

        Parameters
        ----------
        living : ids of the workers that live
        """
        writing = {str(process) for process in living}
        for name in self._names():
            path = f"{self.folder}/{name}"
            if path not in self._used and name.partition("-")[0] not in writing:
                with suppress(OSError):
                    os.unlink(path)

    def clear(self) -> None:
        """Remove all files: no task runs."""
        self._used.clear()
        self.sweep(())

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.folder)
        except OSError:
            return []

    def close(self) -> None:
        """Remove all files and their folder."""
        self.clear()
        with suppress(OSError):
            os.rmdir(self.folder)
        os.close(self._held)


# ---------------------------------------------------------------------------------------------------------------------
# Which way is faster
# ---------------------------------------------------------------------------------------------------------------------


def crossover(folder: str) -> int:
    """Return the bytes from which a value goes faster through shared memory than through pipes, by a trial of 20 ms.

    Parameters
    ----------
    folder : of :class:`SharedFiles`, for the files of the trial

    Raises
    ------
    OSError : there is no room for them
    """
    content = memoryview(bytearray(secrets.token_bytes(_ALIGNED)) * (_SIZES[-1] // _ALIGNED))
    piped: list[float] = []
    shared: list[float] = []
    for size in _SIZES:
        if size == _SIZES[-1] and crossing(_SIZES[:-1], piped, shared) <= _SIZES[-2]:
            break  # the largest is tried where the others don't show it
        times = [
            (_seconds(_through_pipes, content[:size]), _seconds(_through_memory, content[:size], folder))
            for _ in range(_TRIALS if size < _SIZES[-1] else 2)
        ]
        for way, taken in zip((piped, shared), zip(*times, strict=True), strict=True):
            way.append(min(taken))  # the others have been disturbed
    return crossing(_SIZES[: len(piped)], piped, shared)


def _seconds(move: Callable[..., object], *arguments: object) -> float:
    began = perf_counter()
    move(*arguments)
    return perf_counter() - began


def _through_pipes(content: memoryview) -> None:
    """Move bytes as far as from a worker to its parent and on to another worker."""
    reading, writing = os.pipe()
    try:
        for _ in range(2):
            arrived = memoryview(bytearray(content.nbytes))
            done = 0
            while done < content.nbytes:
                n = os.write(writing, content[done : done + _PIPE])
                while n:
                    got = os.readv(reading, [arrived[done : done + n]])
                    n, done = n - got, done + got
            content = arrived
    finally:
        os.close(reading)
        os.close(writing)


def _through_memory(content: memoryview, folder: str) -> None:
    block = write_block(folder, [content])
    try:
        (arrived,) = map_block(block)
        bytes(arrived[:: mmap.PAGESIZE])  # reads a byte of each page, as a task would
    finally:
        os.unlink(block.path)


def crossing(sizes: Sequence[int], one: Sequence[float], other: Sequence[float]) -> int:
    """Return the size from which on the second of two ways takes less time; :data:`NEVER` if it never does.

    Between two sizes, and beyond the largest, times are taken to grow evenly.

    Parameters
    ----------
    sizes : bytes, rising
    one, other : seconds for each size

    >>> crossing([10, 20, 30], [1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    20
    """
    gains = [a - b for a, b in zip(one, other, strict=True)]
    if gains[-1] < 0:
        growth = (gains[-1] - gains[-2]) / (sizes[-1] - sizes[-2])
        return math.ceil(sizes[-1] - gains[-1] / growth) if growth > 0 else NEVER
    last_loss = max((i for i, gain in enumerate(gains) if gain < 0), default=-1)
    if last_loss < 0:
        return sizes[0]
    share = -gains[last_loss] / (gains[last_loss + 1] - gains[last_loss])
    return math.ceil(sizes[last_loss] + share * (sizes[last_loss + 1] - sizes[last_loss]))
