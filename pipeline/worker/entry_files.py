"""The file of an entry: a value that was kept, with what is known of it.

::

    magic (8 bytes) · length of the header (4) · its SHA-256 (32) · header (JSON, padded with blanks) · parts

Each part begins at a multiple of 64 bytes, with zeros before it; the header has the length and the SHA-256 of each. A
file is written under another name and gets its own when it is complete, so none is ever changed. It is read only if it
belongs to this user and nobody else may write to it, and every byte of it is checked before anything is made of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import EntryDamaged
from pipeline.worker.atomic_write import replacing
from pipeline.worker.mapped_files import is_local, map_file

__all__ = ["Entry", "owned", "read_entry", "read_header", "write_entry"]

# 1: the first.
_FORMAT = 1
_MAGIC = b"PLENTRY1"
_HEAD = struct.Struct("<8sI32s")
_ALIGNED = 64
_FIRST = 4096  # bytes that are read for the header at first
_MAPPED = 1 << 20  # bytes from which a file is mapped
_WRITE = 1 << 30  # bytes of one system call


class Entry(NamedTuple):
    """What is known of a value that was kept.

    Parameters
    ----------
    key : the key of its task
    kind : ``npy``, ``arrow``, ``json``, ``pickle``; ``same``: it is the value of the entry ``target``
    digest : of the value (:func:`pipeline.worker.value_digest.digest`); None if it is unknown
    seconds : that computing it took
    step, pipeline : the instance of the step, and the name of the pipeline
    created, used : seconds since 1970
    nbytes : of the file
    target : of kind ``same``, the key of the entry with the value
    """

    key: str
    kind: str
    digest: str | None = None
    seconds: float = 0.0
    step: str = ""
    pipeline: str = ""
    created: float = 0.0
    used: float = 0.0
    nbytes: int = 0
    target: str = ""


_WRITTEN = ("key", "kind", "digest", "seconds", "step", "pipeline", "created", "target")


# ---------------------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------------------


def write_entry(path: Path, entry: Entry, parts: Sequence[Any] = (), hashes: Sequence[bytes | None] = ()) -> None:
    """Write a file, readable by this user only; another one of the same name is replaced.

    Parameters
    ----------
    parts : buffers, or functions that write to the file that they get
    hashes : SHA-256 of those parts for which it is known

    Raises
    ------
    WriteError : it can't be written
    """
    about = {"format": _FORMAT, **{name: getattr(entry, name) for name in _WRITTEN}}
    room = len(json.dumps({**about, "parts": [[1 << 62, "0" * 64]] * len(parts)}).encode())
    start = -(-(_HEAD.size + room) // _ALIGNED) * _ALIGNED
    with replacing(path) as partial:
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            with contextlib.suppress(OSError):  # it shows that the writer is alive
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            written = []
            end = start
            for part, known in zip(parts, hashes, strict=True):
                os.lseek(descriptor, -(-end // _ALIGNED) * _ALIGNED, os.SEEK_SET)
                file = _Part(descriptor, known)
                part(file) if callable(part) else file.write(part)
                written.append([file.n, file.sha()])
                end = os.lseek(descriptor, 0, os.SEEK_CUR)
            os.ftruncate(descriptor, end)
            text = json.dumps({**about, "parts": written}).encode().ljust(start - _HEAD.size)
            head = _HEAD.pack(_MAGIC, len(text), hashlib.sha256(text).digest()) + text
            os.pwrite(descriptor, head, 0)
        finally:
            os.close(descriptor)


class _Part:
    """Writes and hashes a part. The methods are those that Arrow wants of a file."""

    closed = False

    def __init__(self, descriptor: int, known: bytes | None) -> None:
        self._descriptor, self._known = descriptor, known
        self._state = hashlib.sha256()
        self.n = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < view.nbytes:
            done += os.write(self._descriptor, view[done : done + _WRITE])
        if self._known is None:
            self._state.update(view)
        self.n += done
        return done

    def sha(self) -> str:
        return (self._known or self._state.digest()).hex()

    def tell(self) -> int:
        return self.n

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """The file stays open: more parts may follow."""


# ---------------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------------


def owned(status: os.stat_result, what: str) -> str:
    """Return why a file or folder must not be trusted; empty if it is this user's and no other may write to it."""
    if status.st_uid != os.geteuid():
        return f"{what} belongs to another user (uid {status.st_uid})"
    return f"{what} may be written by other users" if status.st_mode & 0o022 else ""


def read_header(path: str, key: str) -> Entry:
    """Return what is known of the value in a file, whose header is checked.

    Raises
    ------
    FileNotFoundError : there is no such file
    EntryDamaged : it is not an entry of this key, or must not be trusted; the message gives the reason
    """
    with _opened(path) as (descriptor, status):
        return _header(descriptor, status, key)[0]


def read_entry(path: str, key: str) -> tuple[Entry, list[memoryview]]:
    """Return what is known of the value in a file, and its parts. All bytes are checked.

    Raises
    ------
    FileNotFoundError, EntryDamaged : as for :func:`read_header`
    """
    with _opened(path) as (descriptor, status):
        entry, start, parts = _header(descriptor, status, key)
        try:
            whole = _content(descriptor, status.st_size, os.path.dirname(path))
        except OSError as error:
            raise EntryDamaged(f"can't be read: {error.strerror}") from error
    found = []
    for size, sha in parts:
        part = whole[start : start + size]
        if len(part) != size or hashlib.sha256(part).hexdigest() != sha:
            raise EntryDamaged("its bytes are not those that were written")
        found.append(part)
        end = start + size
        start = -(-end // _ALIGNED) * _ALIGNED
        if any(whole[end:start]):
            raise EntryDamaged("its bytes are not those that were written")
    return entry, found


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[int, os.stat_result]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise EntryDamaged(f"can't be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        why = owned(status, "the file") if stat.S_ISREG(status.st_mode) else "it is no file"
        if why:
            raise EntryDamaged(why)
        yield descriptor, status
    finally:
        os.close(descriptor)


def _header(descriptor: int, status: os.stat_result, key: str) -> tuple[Entry, int, list[tuple[int, str]]]:
    """Return the entry, where its first part begins, and length and hash of each part."""
    try:
        data = os.pread(descriptor, _FIRST, 0)
        if len(data) < _HEAD.size or not data.startswith(_MAGIC):
            raise EntryDamaged("the file is empty" if not data else "it is no entry of a cache")
        _, n, sha = _HEAD.unpack_from(data)
        start = _HEAD.size + n
        if start > status.st_size:
            raise EntryDamaged("the file is cut")
        if start > len(data):
            data += os.pread(descriptor, start - len(data), len(data))
    except OSError as error:
        raise EntryDamaged(f"can't be read: {error.strerror}") from error
    text = data[_HEAD.size : start]
    if hashlib.sha256(text).digest() != sha:
        raise EntryDamaged("its header is not the one that was written")
    about = json.loads(text)
    if about["format"] != _FORMAT:
        raise EntryDamaged(f"it has format {about['format']}, and this version reads {_FORMAT}")
    if about["key"] != key:
        raise EntryDamaged("it is the entry of another key")
    end = position = start
    for size, _ in about["parts"]:
        end = position + size
        position = -(-end // _ALIGNED) * _ALIGNED
    if end != status.st_size:
        raise EntryDamaged("the file is cut" if end > status.st_size else "the file is longer than what was written")
    fields = {name: about[name] for name in _WRITTEN}
    return Entry(**fields, used=status.st_mtime, nbytes=status.st_size), start, about["parts"]


def _content(descriptor: int, size: int, folder: str) -> memoryview:
    """Return all bytes of a file, as memory that may be written to."""
    if size >= _MAPPED and is_local(folder):
        with contextlib.suppress(OSError):
            return map_file(descriptor, size)
    content = np.empty(size, np.uint8).data.cast("B")  # bytearray would fill it with zeros first
    done = 0
    while done < size:
        n = os.preadv(descriptor, [content[done : done + _WRITE]], done)
        if not n:
            break  # it became shorter, which its hash shows
        done += n
    return content
