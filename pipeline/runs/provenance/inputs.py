"""Hashes of the files that a run read.

Content is hashed up to a budget, small files first. Of larger files size, time of change and both ends are recorded,
marked ``partial``; of too many of these only size and time. Of the files that a user's function or program opens, those
are recorded that its arguments name and that existed before the run began.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.builder.step import located
from pipeline.config.model import Command, Over
from pipeline.ops.sources.paths import SUFFIXES, ZARR_METADATA, is_remote, locate, options_of, stores

if TYPE_CHECKING:
    from pipeline.config.model import Config, Step


__all__ = ["UNKNOWN", "Source", "input_hashes", "sources"]

UNKNOWN = "unknown"
"""Stands for a hash if the content is unknown."""

_BUDGET = 256_000_000  # bytes of files that are hashed as a whole
_END = 1_000_000  # bytes hashed at each end of a larger file
_MOST_ENDS = 64  # files of which the ends are hashed
_MOST_OPENED = 3_000  # files; opening one takes as long as hashing 100 kB
_ASKING = 2.0  # seconds after which no storage is asked about a remote file any more
_MOST_SINGLE = 5_000  # files of one source that are recorded one by one

_FAR = os.path.join("..", "..", "..", "")
"""How the relative path of a file far from a folder begins."""


@dataclass(frozen=True)
class Source:
    """What one source or check reads.

    Parameters
    ----------
    step, check : name of the step in the file; else the position of the check
    folders : folders that are read as a whole
    files : single files, and those that the patterns find now
    patterns : patterns and folders as they are searched
    """

    step: str
    check: int
    folders: tuple[str, ...]
    files: tuple[str, ...]
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class _Read:
    """The files of one source, recorded one by one or together under ``name``."""

    name: str
    files: tuple[str, ...]
    together: bool


@dataclass(frozen=True)
class _File:
    """A local file that exists: bytes, ns since the epoch, hash, and whether only a part of it was hashed."""

    size: int
    modified: int
    sha256: str = ""
    partial: bool = True


def input_hashes(config: Config, *, budget: int = _BUDGET, since: float | None = None) -> dict[str, dict[str, Any]]:
    """Return the files that the sources and checks of a pipeline read, by path, relative to its folder if near it.

    Each is a map of ``bytes``, ``mtime_ns`` and ``sha256``; ``partial: true`` if only a part of the content was hashed;
    ``files`` if many are recorded as one (a zarr store; a source of more than 5,000 files). A remote file has ``etag``
    and ``modified`` if its storage reports them, and the hash ``unknown``. Files that can't be read any more, and
    remote ones whose storage did not answer within two seconds, are unknown as a whole. Nothing is raised.

    Parameters
    ----------
    budget : bytes of files that are hashed as a whole; smaller files come first
    since : seconds since the epoch; files that arguments name and that have changed since then are not inputs
    """
    reads = [*_reads(config), *_named(config, since)]
    files = _files({name for read in reads for name in read.files if not is_remote(name)}, budget)
    deadline = time.monotonic() + _ASKING
    found: dict[str, dict[str, Any]] = {}
    for read in reads:
        for name in [read.name] if read.together else read.files:
            label = config.masked(_recorded_name(name, config.root))
            if label in found:
                continue
            if is_remote(name):
                found[label] = _remote(name, config.storage) if time.monotonic() < deadline else _one(None)
            else:
                found[label] = _together(read, files) if read.together else _one(files.get(name))
    return found


def sources(config: Config) -> Iterator[Source]:
    """Yield what each source and check of a pipeline reads; the files inside a folder are not listed."""
    for step, paths in _source_steps(config):
        op = type(step.parameters).op
        patterns = _searched(op, paths)
        named = _stores(patterns, config.storage) if op == "from_zarr" else patterns
        folders = tuple(path for path in named if not is_remote(path) and os.path.isdir(_local(path)))
        single = [path for path in named if path not in folders]
        yield Source(step.step, -1, folders, _located(op, single, config.storage), tuple(patterns))
    for i, check in enumerate(config.checks):
        if check.equals_csv is not None:
            yield Source("", i, (), (os.path.join(os.path.abspath(config.root), check.equals_csv),), ())


def _local(path: str) -> str:
    return path.removeprefix("file://")


def _source_steps(config: Config) -> Iterator[tuple[Step, list[str]]]:
    """Yield each step that is a source, with its paths; each path once."""
    seen: set[tuple[str, ...]] = set()
    root = os.path.abspath(config.root)
    for step in config.steps.values():
        path = getattr(step.parameters, "path", None) if step.kind == "op" else None
        if getattr(type(step.parameters), "family", "") != "sources" or not path:
            continue
        paths = located([path] if isinstance(path, str) else list(path), root)
        op = type(step.parameters).op
        if (op, *paths) not in seen:
            seen.add((op, *paths))
            yield step, list(paths)


def _reads(config: Config) -> Iterator[_Read]:
    """Yield what each source and check reads."""
    root = os.path.abspath(config.root)
    for step, paths in _source_steps(config):
        yield from _read(step, paths, config.storage)
    for check in config.checks:
        if check.equals_csv is not None:
            name = os.path.join(root, check.equals_csv)
            yield _Read(name, (name,), together=False)


def _named(config: Config, since: float | None) -> Iterator[_Read]:
    """Yield the files that arguments name, relative to the current folder or to the file's folder."""
    texts = (text for s in config.steps.values() for text in _texts((s.args, s.over, s.command)))
    for text in itertools.islice(dict.fromkeys(texts), _MOST_SINGLE):
        for path in (os.path.abspath(text), os.path.join(os.path.abspath(config.root), text)):
            with contextlib.suppress(OSError, ValueError):  # too long for a path, or with a null character
                status = os.stat(path)
                if stat.S_ISREG(status.st_mode) and (since is None or status.st_mtime < since):
                    yield _Read(path, (path,), together=False)
                    break


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for inner in value:
            if not isinstance(inner, int | float):  # most values of a long over are numbers
                yield from _texts(inner)
    elif isinstance(value, Over):
        yield from _texts((value.axes, value.maps))
    elif isinstance(value, Command):
        yield from _texts((value.argv, value.env))


def _read(step: Step, paths: Sequence[str], storage: Mapping[str, Any]) -> Iterator[_Read]:
    op = type(step.parameters).op
    if op == "from_zarr":
        yield from map(_read_store, _stores(paths, storage))
        return
    paths = _searched(op, paths)
    name = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    files = _located(op, paths, storage)
    yield _Read(name, files, together=len(files) > _MOST_SINGLE and not is_remote(name))


def _read_store(store: str) -> _Read:
    if is_remote(store):
        return _Read(store, tuple(f"{store.rstrip('/')}/{name}" for name in ZARR_METADATA), together=False)
    inner = tuple(sorted(os.path.join(top, name) for top, _, names in os.walk(store) for name in names))
    return _Read(store, inner or (store,), together=bool(inner))


def _stores(paths: Sequence[str], storage: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return stores(paths, storage)
    except Exception:  # noqa: BLE001  (as in _located)
        return tuple(paths)


def _searched(op: str, paths: Sequence[str]) -> list[str]:
    """Return the paths as the op searches them: ``files`` takes a folder for the files directly in it."""
    if op != "files":
        return list(paths)
    return [os.path.join(path, "*") if not is_remote(path) and os.path.isdir(path) else path for path in paths]


def _located(op: str, paths: Sequence[str], storage: Mapping[str, Any]) -> tuple[str, ...]:
    if not paths:
        return ()
    try:
        return locate(paths, storage, suffixes=SUFFIXES.get(op, ()))
    except Exception:  # noqa: BLE001  (a library of its own for each storage; the files were there for the run)
        return tuple(paths)


def _files(names: Iterable[str], budget: int) -> dict[str, _File]:
    """Return the local files that exist, hashed as far as the budget allows."""
    found: dict[str, _File] = {}
    for name in names:
        with contextlib.suppress(OSError):
            status = os.stat(name)
            found[name] = _File(status.st_size, status.st_mtime_ns)
    left, ends = budget, _MOST_ENDS
    for name in sorted(found, key=lambda name: (found[name].size, name))[:_MOST_OPENED]:
        file = found[name]
        whole = file.size <= left
        if not whole and not ends:
            break
        with contextlib.suppress(OSError):
            digest = _whole(name) if whole else _ends(name, file.size)
            found[name] = _File(file.size, file.modified, digest, partial=not whole)
        left, ends = (left - file.size, ends) if whole else (0, ends - 1)
    return found


def _whole(name: str) -> str:
    with open(name, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ends(name: str, size: int) -> str:
    """Return the hash of the first and the last bytes of a file."""
    with open(name, "rb", buffering=0) as file:
        digest = hashlib.sha256(file.read(_END))
        file.seek(max(_END, size - _END))
        digest.update(file.read(_END))
    return digest.hexdigest()


def _one(file: _File | None) -> dict[str, Any]:
    if file is None:
        return {"bytes": None, "sha256": UNKNOWN}
    found = {"bytes": file.size, "mtime_ns": file.modified, "sha256": file.sha256 or UNKNOWN}
    return found | ({"partial": True} if file.partial else {})


def _together(read: _Read, files: Mapping[str, _File]) -> dict[str, Any]:
    """Return many files as one: the sum of sizes, the latest change, a hash of their names, sizes and hashes."""
    own = {name: files[name] for name in read.files if name in files}
    if not own:
        return _one(None)
    top = os.path.commonpath(own)
    digest = hashlib.sha256()
    for name, file in own.items():
        digest.update(f"{os.path.relpath(name, top)}\0{file.size}\0{file.sha256}\0".encode())
    whole = _File(
        sum(file.size for file in own.values()),
        max(file.modified for file in own.values()),
        digest.hexdigest(),
        any(file.partial for file in own.values()),
    )
    return {**_one(whole), "files": len(own)}


def _remote(name: str, storage: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the storage reports about a file, without reading it."""
    import fsspec

    found: dict[str, Any] = {"bytes": None, "sha256": UNKNOWN}
    try:
        filesystem, inner = fsspec.core.url_to_fs(name, **options_of(name, storage))
        about = filesystem.info(inner)
    except Exception:  # noqa: BLE001  (a library of its own for each storage; the run has ended well)
        return found
    found["bytes"] = about["size"] if isinstance(about.get("size"), int) else None
    keys = {"etag": ("ETag", "etag"), "modified": ("LastModified", "last_modified", "updated", "mtime", "created")}
    for key, names in keys.items():
        value = next((about[n] for n in names if about.get(n)), None)
        if value is not None:
            found[key] = str(value).strip('"')
    return found


def _recorded_name(name: str, root: str) -> str:
    """Return the path to record: relative if near the file's folder, so that it is the same in a copied project.

    User names, passwords and signatures are taken out of URLs.
    """
    if not is_remote(name):
        name = os.path.normpath(name.removeprefix("file://"))
        near = os.path.relpath(name, root)
        return name if near.startswith(_FAR) else near
    name = re.sub(r"(?<=://)[^/@]*@", "", name)
    address, mark, query = name.partition("?")
    return f"{address}?{hashlib.sha256(query.encode()).hexdigest()[:8]}" if mark else address
