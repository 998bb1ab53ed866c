"""A cache: a folder of values that runs have kept, a file each, found by the key of their task.

``FOLDER/KK/KEY``, where KK are the first two digits of the key. Any number of processes may use a folder at once: a
file gets its name when it is complete, and is never changed. There are no locks: who finds no file, or one that is
damaged, computes the value. The folder and its files belong to one user, since a pickle can run any code.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import ConfigError, EntryDamaged, WriteError
from pipeline.units import bytes_text
from pipeline.worker.entry_files import Entry, owned, read_entry, read_header, write_entry
from pipeline.worker.entry_values import Encoded, decoded, encoded
from pipeline.worker.memory import nbytes

__all__ = ["Entry", "Evicted", "Store"]

_KEY = re.compile(r"[0-9a-f]{16,128}")
_FOLDER = re.compile(r"[0-9a-f]{2}")
_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n# Values that 'pipeline' keeps; 'pipeline cache rm' removes them.\n"
)
_OLD = 3600.0  # seconds after which a file that was never finished is removed, if its writer is gone
_NEW = 60.0  # seconds within which the mark of a run may not be locked yet
_LEFT = 1_000_000_000, 0.05  # bytes, and part of the disk, of which the lesser stays free for the outputs


class Evicted(NamedTuple):
    """What was removed: number of files, and their bytes."""

    n: int = 0
    nbytes: int = 0


@dataclass(frozen=True)
class Store:
    """The cache in a folder. Cheap to make and to pickle; state is in the folder alone.

    Parameters
    ----------
    folder : absolute path; it need not exist
    """

    folder: str

    def __post_init__(self) -> None:
        assert os.path.isabs(self.folder), f"{self.folder}: the folder of a cache is an absolute path"

    def path(self, key: str) -> str:
        """Return the path of the file for a key."""
        assert _KEY.fullmatch(key), f"{key!r} is no key: 16 to 128 digits in hex"
        return f"{self.folder}/{key[:2]}/{key}"

    def prepare(self) -> None:
        """Make the folder, if it is missing.

        Raises
        ------
        ConfigError : it can't be made, belongs to another user, or may be written by others
        """
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: the cache can't be made: {error.strerror}; name another folder"
            ) from error
        self.check()
        tag = Path(self.folder, "CACHEDIR.TAG")
        with contextlib.suppress(OSError):
            if not tag.exists():
                tag.write_text(_TAG, encoding="ascii")

    def check(self) -> None:
        """Check that the folder, if it exists, belongs to this user alone.

        Raises
        ------
        ConfigError : it does not; the message gives the reason
        """
        why = untrusted(self.folder)
        if why and os.path.lexists(self.folder):
            cure = f"chmod go-w {self.folder}" if "written" in why else "name another folder, or remove it"
            raise ConfigError(
                f"{self.folder}: can't be used as a cache: {why}, and what is in it could run any code; {cure}"
            )

    # One value

    def find(self, key: str) -> Entry | None:
        """Return what is known of a value; None if it was not kept, or its file can't be used.

        The header of its file is checked, its content when it is loaded. For an entry that is the same as another one,
        the other one is returned.
        """
        try:
            entry = read_header(self.path(key), key)
            return read_header(self.path(entry.target), entry.target) if entry.target else entry
        except (FileNotFoundError, EntryDamaged):
            return None

    def why_unusable(self, key: str) -> str:
        """Return what is wrong with the entry of a key; empty if it is whole, or there is none."""
        try:
            entry = read_header(self.path(key), key)
            read_entry(self.path(entry.target or key), entry.target or key)
        except FileNotFoundError:
            return ""
        except EntryDamaged as error:
            return str(error)
        return ""

    def load(self, key: str) -> Any:
        """Return a value. Arrays and tables may be mapped from the file, and can be written to without changing it.

        Raises
        ------
        EntryDamaged : there is no such entry, or its file can't be used; the message gives the reason
        """
        used = [key]
        try:
            entry, parts = read_entry(self.path(key), key)
            if entry.target:
                used.append(entry.target)
                entry, parts = read_entry(self.path(entry.target), entry.target)
        except FileNotFoundError:
            raise EntryDamaged("there is no such entry") from None
        try:
            value = decoded(entry.kind, parts)
        except Exception as error:
            raise EntryDamaged(f"its value can't be read: {type(error).__name__}: {error}") from error
        self.touch(used)
        return value

    def keep(self, key: str, value: Any, *, seconds: float = 0.0, step: str = "", pipeline: str = "") -> str:
        """Write a value; return why it was not kept, empty if it was. An earlier entry is replaced.

        Parameters
        ----------
        seconds : that computing it took
        step, pipeline : the instance of the step, and the name of the pipeline
        """
        why = untrusted(self.folder) or self._too_full(nbytes(value))
        if why:
            return why
        try:
            found: Encoded = encoded(value)
        except Exception as error:  # noqa: BLE001 - pickling the user's objects may raise anything
            return f"a {type(value).__name__} can't be pickled: {type(error).__name__}: {error}"
        now = time.time()
        entry = Entry(key, found.kind, found.digest, seconds, step, pipeline, created=now)
        return self._write(entry, found)

    def outcome(self, key: str, seconds: float) -> str:
        """Return what a task reports of a value that it has kept."""
        return "kept"

    def link(self, key: str, target: str) -> str:
        """Make the value of one entry that of another key, too; return why that failed, empty if it did not."""
        try:
            entry = read_header(self.path(target), target)
        except (FileNotFoundError, EntryDamaged) as error:
            return str(error)
        return self._write(entry._replace(key=key, kind="same", target=target))

    def remove(self, key: str) -> bool:
        """Remove an entry; return whether there was one."""
        with contextlib.suppress(OSError):
            os.unlink(self.path(key))
            return True
        return False

    def touch(self, keys: Iterable[str]) -> None:
        """Note that some entries are used now: the ones used last are evicted last."""
        for key in keys:
            with contextlib.suppress(OSError):
                os.utime(self.path(key))

    # All of them

    def known(self, keys: Collection[str]) -> dict[str, Entry]:
        """Return what is known of those values that were kept, of many: folders are listed first."""
        by_folder: dict[str, list[str]] = {}
        for key in keys:
            by_folder.setdefault(key[:2], []).append(key)
        found = {}
        for name, wanted in by_folder.items():
            there: frozenset[str] = frozenset()
            with contextlib.suppress(OSError):
                there = frozenset(os.listdir(f"{self.folder}/{name}"))
            for key in wanted:
                if key in there and (entry := self.find(key)) is not None:
                    found[key] = entry
        return found

    def entries(self) -> Iterator[Entry]:
        """Yield what is known of every entry, also of those that are the same as others; damaged ones have no kind."""
        for path, status in self._files():
            key = os.path.basename(path)
            try:
                yield read_header(path, key)
            except EntryDamaged:
                yield Entry(key, "", nbytes=status.st_size, created=status.st_mtime, used=status.st_mtime)
            except FileNotFoundError:  # removed meanwhile
                continue

    def evict(
        self,
        *,
        max_bytes: float | None = None,
        max_entries: int | None = None,
        max_age: float | None = None,
        since: float | None = None,
    ) -> Evicted:
        """Remove the entries that were not used for longest until the limits hold; return what was removed.

        Whatever was used since a run began that is still running is kept, whatever the limits. So are the limits kept
        as well as that allows.

        Parameters
        ----------
        max_bytes, max_entries : that may remain
        max_age : seconds since its last use after which an entry is removed
        since : seconds since 1970, when the caller's run began; default: now
        """
        now = time.time()
        began = min([now if since is None else since, *self._runs(now)])
        found = sorted((status.st_mtime, status.st_size, path) for path, status in self._files())
        n, total, removed, freed = len(found), sum(size for _, size, _ in found), 0, 0
        for used, size, path in found:
            if used >= began - 1:  # file systems that count in seconds
                break
            too_old = max_age is not None and now - used > max_age
            too_many = max_entries is not None and n - removed > max_entries
            too_large = max_bytes is not None and total - freed > max_bytes
            if not (too_old or too_many or too_large):
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                removed, freed = removed + 1, freed + size
        self._tidy(now)
        return Evicted(removed, freed)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While the block runs, nothing that is used from now on is evicted, by whatever run."""
        path = f"{self.folder}/run-{secrets.token_hex(8)}"
        descriptor = -1
        with contextlib.suppress(OSError):  # full, or read-only: nothing is kept there either
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                os.close(descriptor)

    def _write(self, entry: Entry, content: Encoded | None = None) -> str:
        path = Path(self.path(entry.key))
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path.parent, mode=0o700)  # not the folder itself, which may be on another machine
            write_entry(path, entry, content.parts if content else (), content.hashes if content else ())
        except WriteError as error:
            return str(error)
        except OSError as error:
            return str(WriteError.of(path, error))
        return ""

    def _too_full(self, size: int) -> str:
        """Return why a value of this size would leave too little of the disk to the outputs; empty if it would not."""
        try:
            disk = os.statvfs(self.folder)
        except OSError:
            return ""
        left = min(_LEFT[0], int(_LEFT[1] * disk.f_blocks * disk.f_frsize))
        if disk.f_bavail * disk.f_frsize - size >= left:
            return ""
        return f"{self.folder}: the disk is nearly full; {bytes_text(left)} are left to the outputs"

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield path and status of every file that has the name of an entry."""
        for path, name, status in self._listed():
            if _KEY.fullmatch(name) and stat.S_ISREG(status.st_mode):
                yield path, status

    def _listed(self) -> Iterator[tuple[str, str, os.stat_result]]:
        for folder in _names(self.folder):
            if not _FOLDER.fullmatch(folder):
                continue
            for name in _names(f"{self.folder}/{folder}"):
                with contextlib.suppress(OSError):  # removed meanwhile
                    path = f"{self.folder}/{folder}/{name}"
                    yield path, name, os.lstat(path)

    def _runs(self, now: float) -> Iterator[float]:
        """Yield when the runs began that use this folder now; marks of dead ones are removed."""
        for name in _names(self.folder):
            path = f"{self.folder}/{name}"
            if not name.startswith("run-"):
                continue
            with contextlib.suppress(OSError):  # removed meanwhile
                began = os.lstat(path).st_mtime
                if now - began < _NEW or not _remove_if_free(path):
                    yield began

    def _tidy(self, now: float) -> None:
        """Remove files that writers left unfinished when they died."""
        for path, name, status in self._listed():
            age = now - status.st_mtime
            if name.startswith(".partial-") and age > _OLD and not _remove_if_free(path) and age > 24 * _OLD:
                with contextlib.suppress(OSError):  # of a file system without locks
                    os.unlink(path)


def untrusted(folder: str) -> str:
    """Return why nothing may be read from a folder or written to it; empty if it is there and belongs to this user."""
    try:
        return owned(os.stat(folder), "the folder")
    except OSError as error:
        return error.strerror or str(error)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _remove_if_free(path: str) -> bool:
    """Remove a file that no process holds a lock on; return whether it was removed, or is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
