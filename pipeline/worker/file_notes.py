"""Facts about local files, kept between runs in one SQLite file."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from pipeline.worker.local_cache import local_cache_folder

__all__ = ["SETTLED_NS", "FileNotes", "FileStamp", "content_digest", "file_stamps"]

T = TypeVar("T")

SETTLED_NS = 2_000_000_000
"""Facts of a file that changed less than these nanoseconds before it was read are not kept: another change may follow
within one tick of the file system's clock, and would not be seen."""

_NAME = "file_notes-2.sqlite"  # the number changes with the format
_LARGEST = 64_000_000  # bytes of a fact
_MOST = 256_000_000  # bytes of the file; beyond that, the half that was not used for longest is dropped
_BATCH = 900  # parameters of a statement; old versions of SQLite allow 999
_BUSY = 5.0  # seconds to wait for another process that writes
_CREATE = (
    """CREATE TABLE IF NOT EXISTS notes
        (kind TEXT, path BLOB, state BLOB, used INTEGER, digest BLOB, fact BLOB, UNIQUE (kind, path))""",
    "CREATE TABLE IF NOT EXISTS shared (digest BLOB PRIMARY KEY, used INTEGER, content BLOB)",
)
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH}
"""Codes of a file that is no database, or not ours; after others (locked, full, read-only) it is left as it is."""


class FileStamp(NamedTuple):
    """What distinguishes one state of a file from another: bytes, nanoseconds since 1970, number of the inode."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    taken_ns: int
    """When the file was looked at: no part of its state."""

    @property
    def settled(self) -> bool:
        """Whether the file was last changed long enough before it was looked at."""
        return max(self.mtime_ns, self.ctime_ns) + SETTLED_NS <= self.taken_ns

    @property
    def state(self) -> bytes:
        """The state, equal for a file that has not changed."""
        return b"%d %d %d %d" % self[:4]


def file_stamps(paths: Iterable[str]) -> dict[str, FileStamp]:
    """Return the present stamp of each file; those that can't be looked at are left out."""
    found = {}
    for path in paths:
        with suppress(OSError, ValueError):
            now = time.time_ns()
            is_ = os.stat(path)
            found[path] = FileStamp(is_.st_size, is_.st_mtime_ns, is_.st_ctime_ns, is_.st_ino, now)
    return found


def content_digest(content: bytes) -> bytes:
    """Return the digest under which :class:`FileNotes` keeps a shared part of facts."""
    return hashlib.blake2b(content, digest_size=16).digest()


class FileNotes:
    """Facts about local files, as bytes, kept between runs and forgotten when the file changes.

    Many processes and threads may use one database at the same time, also children that were forked: no connection is
    open between two calls. Each fact has a digest, so that a damaged one is not returned; a database that can't be read
    is removed and made anew. Nothing is raised: where nothing can be kept, nothing is found.

    Parameters
    ----------
    folder : folder of the database; default: the local cache folder, or nothing is kept if that can't be used
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or local_cache_folder()
        self._path = folder and folder / _NAME

    def get(self, kind: str, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the facts of one kind that are kept for files which have not changed since, by path as given.

        Parameters
        ----------
        kind : name of what the facts are, and of how they are encoded: it changes with the encoding
        """
        if self._path is None or not os.path.exists(self._path):
            return {}
        stamps = file_stamps(paths)
        found: dict[str, bytes] = {}
        self._with_connection(lambda connection: found.update(_found(connection, kind, stamps)))
        return found

    def shared(self, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the parts of facts that are kept, by digest."""
        found: dict[bytes, bytes] = {}
        wanted = list(dict.fromkeys(digests))
        if wanted and self._path is not None and os.path.exists(self._path):
            self._with_connection(lambda connection: found.update(_shared(connection, wanted)))
        return found

    def put(
        self,
        kind: str,
        facts: Mapping[str, bytes],
        stamps: Mapping[str, FileStamp],
        shared: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Keep facts about files, in place of those of the same kind and files.

        Files without a stamp, and those that had changed shortly before they were looked at, are left out.

        Parameters
        ----------
        stamps : of ``file_stamps``, called before the files were read
        shared : large parts that facts of several files have in common, by their digest: each is kept once
        """
        rows = [
            (kind, _key(path), stamps[path].state, _today(), _digest(kind, path, stamps[path].state, fact), fact)
            for path, fact in facts.items()
            if path in stamps and stamps[path].settled and len(fact) <= _LARGEST
        ]
        if rows and self._path is not None:
            with suppress(OSError):  # it exists, as a rule; SQLite would make it as the umask has it
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            parts = {digest: content for digest, content in (shared or {}).items() if len(content) <= _LARGEST}
            self._with_connection(lambda connection: _keep(connection, rows, parts))

    def _with_connection(self, use: Callable[[sqlite3.Connection], object]) -> None:
        """Call with an open connection; a second time with a new database if this one is damaged."""
        assert self._path is not None
        for _ in range(2):
            try:
                # isolation_level: transactions begin and end where this file does it
                with closing(sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None)) as connection:
                    # what a power cut leaves is noticed by the digests
                    connection.execute("PRAGMA synchronous = OFF")
                    use(connection)
                return
            except sqlite3.Error as error:
                # extended codes have the primary one in their last byte
                if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF not in _DAMAGE:
                    return
                with suppress(OSError):
                    # the journal first: it must not be applied to the next database
                    self._path.with_name(f"{_NAME}-journal").unlink(missing_ok=True)
                    self._path.unlink(missing_ok=True)


def _keep(
    connection: sqlite3.Connection,
    rows: Sequence[tuple[str, bytes, bytes, int, bytes, bytes]],
    parts: Mapping[bytes, bytes],
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in _CREATE:
        connection.execute(statement)
    connection.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?, ?, ?)", rows)
    today = _today()
    connection.executemany(
        "INSERT OR REPLACE INTO shared VALUES (?, ?, ?)", ((digest, today, part) for digest, part in parts.items())
    )
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    if (pages - free) * size > _MOST:
        for table in ("notes", "shared"):
            connection.execute(
                f"DELETE FROM {table} WHERE rowid IN "
                f"(SELECT rowid FROM {table} ORDER BY used, rowid LIMIT (SELECT (count(*) + 1) / 2 FROM {table}))"
            )
    connection.execute("COMMIT")


def _found(connection: sqlite3.Connection, kind: str, stamps: Mapping[str, FileStamp]) -> Iterator[tuple[str, bytes]]:
    if _is_new(connection):
        return
    by_key: dict[bytes, list[str]] = {}
    for path in stamps:
        by_key.setdefault(_key(path), []).append(path)
    again: list[bytes] = []  # those not used today before
    today = _today()
    for keys in _batches([*by_key]):
        marks = ", ".join("?" * len(keys))
        query = f"SELECT path, state, used, digest, fact FROM notes WHERE kind = ? AND path IN ({marks})"
        for key, state, used, digest, fact in connection.execute(query, (kind, *keys)):
            path = by_key[key][0]
            if state == stamps[path].state and isinstance(fact, bytes) and digest == _digest(kind, path, state, fact):
                if used != today:
                    again.append(key)
                yield from ((path, fact) for path in by_key[key])
    for keys in _batches(again):
        marks = ", ".join("?" * len(keys))
        connection.execute(f"UPDATE notes SET used = ? WHERE kind = ? AND path IN ({marks})", (today, kind, *keys))


def _shared(connection: sqlite3.Connection, digests: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    if _is_new(connection):
        return
    again: list[bytes] = []
    today = _today()
    for some in _batches(digests):
        marks = ", ".join("?" * len(some))
        query = f"SELECT digest, used, content FROM shared WHERE digest IN ({marks})"
        for digest, used, content in connection.execute(query, some):
            if isinstance(content, bytes) and content_digest(content) == digest:
                if used != today:
                    again.append(digest)
                yield digest, content
    for some in _batches(again):
        marks = ", ".join("?" * len(some))
        connection.execute(f"UPDATE shared SET used = ? WHERE digest IN ({marks})", (today, *some))


def _is_new(connection: sqlite3.Connection) -> bool:
    """Return whether another process is about to make the tables."""
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _batches(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(keys), _BATCH):
        yield keys[start : start + _BATCH]


def _key(path: str) -> bytes:
    return os.fsencode(os.path.abspath(path))  # a name may hold any bytes


def _digest(kind: str, path: str, state: bytes, fact: bytes) -> bytes:
    head = b"\0".join((kind.encode(), state, _key(path)))  # none of them holds a zero byte
    return hashlib.blake2b(len(head).to_bytes(8, "little") + head + fact, digest_size=16).digest()


def _today() -> int:
    return int(time.time() // 86_400)
