"""What sources learn of each of their files while a Graph is built: kept between builds, read in parallel, counted.

What a reader learns of local files is kept by path, size and times of change, so that the next build opens none of
them. Remote files have no such stamp: they are read each time, many at once.
"""

from __future__ import annotations

import contextvars
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa

from pipeline.ops.metadata_progress import FilesRead, reading
from pipeline.ops.sources.paths import is_remote
from pipeline.worker.file_notes import FileNotes, FileStamp, content_digest, file_stamps
from pipeline.worker.helper_processes import call_each

__all__ = ["Fact", "FactReader", "facts_of", "kind_of", "with_schema", "without_schema"]

T = TypeVar("T")

_REMOTE = 8  # remote files that are read at once
_BYTES = 16  # of a digest


@dataclass(frozen=True)
class Fact:
    """What is known of a file, as bytes.

    Parameters
    ----------
    head : its own part
    digests : of the large parts that it has, which many files may have in common; see
        :func:`pipeline.worker.file_notes.content_digest`
    parts : large parts by digest, these and perhaps others
    """

    head: bytes
    digests: tuple[bytes, ...] = ()
    parts: Mapping[bytes, bytes] = field(default_factory=dict)


class FactReader(Protocol[T]):
    """Reads what is to be known of a file. It is pickled for helper processes, with what it has learnt up to then."""

    @property
    def kind(self) -> str:
        """What is read, with all options that it depends on, and how it is encoded; empty: it is never kept."""

    def read(self, path: str, /) -> T:
        """Read a file; raise a DataError that names it, or an OpError."""

    def pack(self, found: T, /) -> Fact | None:
        """Return what was read as bytes; None if it can't be made again from bytes."""

    def unpack(self, path: str, fact: Fact, /) -> T:
        """Return what was packed; any exception means that the bytes are of no use."""


def kind_of(name: str, *options: Any) -> str:
    """Return the kind of a reader with options.

    Parameters
    ----------
    name : ends with a number that changes with the encoding, and with what is read
    options : whose ``repr`` describes it completely
    """
    return f"{name} {content_digest(repr(options).encode()).hex()}"


def with_schema(schema: pa.Schema, *plain: Any) -> Fact:
    """Return a fact of a schema and plain values that JSON holds."""
    return Fact(json.dumps(plain).encode() + b"\0" + schema.serialize().to_pybytes())


def without_schema(fact: Fact) -> tuple[pa.Schema, list[Any]]:
    """Return the schema and the plain values of a fact; equal schemas of many files are one object."""
    plain, _, schema = fact.head.partition(b"\0")
    return _schema(schema), json.loads(plain)


@functools.lru_cache(maxsize=256)
def _schema(data: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(data))


def facts_of(reader: FactReader[T], paths: Sequence[str]) -> list[T]:
    """Return what a reader learns of each file, in the order of ``paths``.

    Raises
    ------
    What ``reader.read`` raises, for the first file in the order of ``paths`` for which it raises.
    """
    with reading(len(paths)) as files:
        each = dict.fromkeys(paths)
        found = _kept(reader, [path for path in each if not is_remote(path)])
        files.done(sum(path in found for path in paths), opened=0)
        missing = [path for path in each if path not in found]
        if missing and all(map(is_remote, missing)):
            found |= _read_remote(reader, missing, files)
        elif missing:
            found |= _read(reader, missing, files)
        return [found[path] for path in paths]


def _read_remote(reader: FactReader[T], paths: Sequence[str], files: FilesRead) -> dict[str, T]:
    found = {}
    context = contextvars.copy_context()  # the warnings of the op

    def read(path: str) -> T:
        return context.copy().run(reader.read, path)

    with ThreadPoolExecutor(min(_REMOTE, len(paths))) as pool:
        try:
            for path, one in zip(paths, pool.map(read, paths), strict=True):
                found[path] = one
                files.done()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _read(reader: FactReader[T], paths: Sequence[str], files: FilesRead) -> dict[str, T]:
    """Read files, in helper processes too if that takes long, and keep what was read, also before an error."""
    stamps = file_stamps(paths) if reader.kind else {}
    facts: dict[str, Fact] = {}
    parts: dict[bytes, bytes] = {}

    def here(path: str) -> T:
        one = reader.read(path)
        if path in stamps and stamps[path].settled and (fact := reader.pack(one)) is not None:
            facts[path] = fact
            parts.update(fact.parts)
        return one

    def received(reply: tuple[str, Fact]) -> T:
        path, fact = reply
        facts[path] = fact
        parts.update(fact.parts)
        return reader.unpack(path, Fact(fact.head, fact.digests, parts))

    try:
        found = call_each(paths, here, _There(reader), received, files.done)
        return dict(zip(paths, found, strict=True))
    finally:
        _keep(reader.kind, facts, stamps, parts)


@dataclass
class _There(Generic[T]):
    """What a helper process does with a file. Each helper sends a large part once."""

    reader: FactReader[T]
    sent: set[bytes] = field(default_factory=set)

    def __call__(self, path: str) -> tuple[str, Fact]:
        fact = self.reader.pack(self.reader.read(path))
        if fact is None:
            raise ValueError(f"{path}: what was read can't be sent")  # the first process reads it again
        new = {digest: part for digest, part in fact.parts.items() if digest not in self.sent}
        self.sent.update(new)
        return path, Fact(fact.head, fact.digests, new)


# ---------------------------------------------------------------------------------------------------------------------
# Facts in notes: the number of digests, these, the head
# ---------------------------------------------------------------------------------------------------------------------


def _keep(kind: str, facts: Mapping[str, Fact], stamps: Mapping[str, FileStamp], parts: Mapping[bytes, bytes]) -> None:
    if kind and facts:
        notes = {
            path: len(fact.digests).to_bytes(2, "big") + b"".join(fact.digests) + fact.head
            for path, fact in facts.items()
        }
        FileNotes().put(kind, notes, stamps, parts)


def _kept(reader: FactReader[T], paths: Iterable[str]) -> dict[str, T]:
    if not reader.kind:
        return {}
    notes = FileNotes()
    heads: dict[str, tuple[bytes, tuple[bytes, ...]]] = {}
    for path, note in notes.get(reader.kind, paths).items():
        stop = 2 + int.from_bytes(note[:2], "big") * _BYTES
        heads[path] = note[stop:], tuple(note[i : i + _BYTES] for i in range(2, stop, _BYTES))
    parts = notes.shared(digest for _, digests in heads.values() for digest in digests)
    found: dict[str, Any] = {}
    for path, (head, digests) in heads.items():
        if all(digest in parts for digest in digests):
            with suppress(Exception):  # of another version, perhaps: the file is read again
                found[path] = reader.unpack(path, Fact(head, digests, parts))
    return found
