"""The items of a run that have finished, on disk, for the next run if this one does not finish.

A folder with a file of records for each process that wrote some: a header (JSON: key, digest, seconds, step) and the
pickle of the value. What a process added can be read whatever was killed. A log is read by the user who wrote it only.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import secrets
import stat
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.errors import EntryDamaged
from pipeline.worker.cache_entries import untrusted
from pipeline.worker.entry_files import owned
from pipeline.worker.pickle_frames import frames_of
from pipeline.worker.record_files import append_record, read_record, records
from pipeline.worker.value_digest import digest

__all__ = ["LEAST_OF_ITEMS", "ItemLog", "LoggedItem"]

LEAST_OF_ITEMS = 0.001
"""Seconds: an item that took less is not logged."""

_SUFFIX = ".items"
_LENGTH = struct.Struct("<I")
_lock = threading.Lock()


class LoggedItem(NamedTuple):
    """What is known of an item in a log.

    Parameters
    ----------
    place : what :meth:`ItemLog.load` takes
    digest : of the value; None if it is unknown
    seconds : that computing it took
    step : the instance of its step
    nbytes : of its record
    """

    place: str
    digest: str | None
    seconds: float
    step: str
    nbytes: int


@dataclass(frozen=True)
class ItemLog:
    """The log of the items of one run. Cheap to make and to pickle; state is in the folder alone.

    Parameters
    ----------
    folder : absolute path; :meth:`prepare` makes it
    max_bytes : of all its files, roughly: what does not fit is not logged
    """

    folder: str
    max_bytes: int = 2_000_000_000

    def prepare(self) -> None:
        """Make the folder, for this user only.

        Raises
        ------
        OSError : it can't be made
        """
        os.makedirs(self.folder, mode=0o700, exist_ok=True)

    def keep(self, key: str, value: Any, *, seconds: float = 0.0, step: str = "", pipeline: str = "") -> str:
        """Add an item; return why that failed, empty if it did not."""
        if why := untrusted(self.folder):
            return why
        try:
            (data,) = frames_of(value, 1 << 62, by_value=True)
        except Exception as error:  # noqa: BLE001 - pickling the user's objects may raise anything
            return f"a {type(value).__name__} can't be pickled: {type(error).__name__}: {error}"
        if self._nbytes() + len(data) > self.max_bytes:
            return f"the log of items would exceed {self.max_bytes:,} bytes"
        return self._append({"key": key, "digest": digest(value), "seconds": seconds, "step": step}, data)

    def outcome(self, key: str, seconds: float) -> str:
        """Return what a task reports of a value that it has kept."""
        return "kept"

    def link(self, key: str, target: str) -> str:
        """Do nothing: the keys of items in a log are known before they run."""
        return "a log has no links"

    def load(self, place: str) -> Any:
        """Return the value of an item.

        Parameters
        ----------
        place : of a :class:`LoggedItem`

        Raises
        ------
        EntryDamaged : it is gone, or can't be read
        """
        name, _, position = place.partition(":")
        try:
            with _opened(f"{self.folder}/{name}") as descriptor:
                record = read_record(descriptor, int(position))
        except OSError as error:
            raise EntryDamaged(f"{name}: can't be read: {error.strerror}") from error
        if record is None:
            raise EntryDamaged(f"{name}: there is no whole record at {position}")
        (n,) = _LENGTH.unpack_from(record)
        try:
            return pickle.loads(memoryview(record)[_LENGTH.size + n :])
        except Exception as error:
            raise EntryDamaged(f"{name}: its value can't be read: {type(error).__name__}: {error}") from error

    def remove(self, place: str) -> bool:
        """Take an item out of the index; return whether that was noted."""
        return not self._append({"removed": place}, b"")

    def index(self) -> dict[str, LoggedItem]:
        """Return the items by key, of files that belong to this user alone; all bytes are checked."""
        found: dict[str, LoggedItem] = {}
        removed: set[str] = set()
        for name in sorted(self._names()):
            with contextlib.suppress(OSError, EntryDamaged), _opened(f"{self.folder}/{name}") as descriptor:
                with open(descriptor, "rb", closefd=False) as file:
                    data = file.read()
                for position, record in records(data):
                    (n,) = _LENGTH.unpack_from(record)
                    head = json.loads(bytes(record[_LENGTH.size : _LENGTH.size + n]))
                    if "removed" in head:
                        removed.add(head["removed"])
                        continue
                    about = head["digest"], head["seconds"], head["step"], record.nbytes
                    found[head["key"]] = LoggedItem(f"{name}:{position}", *about)
        return {key: item for key, item in found.items() if item.place not in removed}

    def _append(self, head: dict[str, Any], data: bytes) -> str:
        text = json.dumps(head).encode()
        try:
            with _lock:
                path = f"{self.folder}/{_own_name(os.getpid())}"
                flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                descriptor = os.open(path, flags, 0o600)
                try:
                    append_record(descriptor, _LENGTH.pack(len(text)), text, data)
                finally:
                    os.close(descriptor)
        except OSError as error:
            return f"{self.folder}: {error.strerror}"
        return ""

    def _nbytes(self) -> int:
        total = 0
        for name in self._names():
            with contextlib.suppress(OSError):
                total += os.lstat(f"{self.folder}/{name}").st_size
        return total

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.folder) if name.endswith(_SUFFIX)]
        except OSError:
            return []


@functools.lru_cache(maxsize=1)
def _own_name(pid: int) -> str:
    """Return the name of the file of this process."""
    return f"{pid}-{secrets.token_hex(8)}{_SUFFIX}"


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """Open a file of a log.

    Raises
    ------
    OSError : it can't be opened
    EntryDamaged : it must not be trusted
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        why = owned(status, "the file") if stat.S_ISREG(status.st_mode) else "it is no file"
        if why:
            raise EntryDamaged(f"{path}: {why}")
        yield descriptor
    finally:
        os.close(descriptor)
