"""What the steps and checks of a pipeline read: files of sources, and files that arguments name."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.builder.step import located
from pipeline.config.model import Command, Over
from pipeline.ops.sources.paths import SUFFIXES, ZARR_METADATA, is_remote, locate, stores

if TYPE_CHECKING:
    from pipeline.config.model import Config, Step


__all__ = ["Read", "Source", "all_reads", "depended_on", "named_by", "reads_of", "sources", "tree"]

_MOST_SINGLE = 5_000  # files of one source that are recorded one by one
_MOST_IN_FOLDER = 100_000  # files of a folder that an argument names which are looked at
_TABLES_OF_FILES = frozenset({"read_delta", "read_iceberg"})  # all files of their folders count, hidden ones too


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
class Read:
    """The files of one source, recorded one by one or together under ``name``.

    Parameters
    ----------
    given : of a file that an argument names: the text of the argument
    """

    name: str
    files: tuple[str, ...]
    together: bool
    given: str = ""


def sources(config: Config) -> Iterator[Source]:
    """Yield what each source and check of a pipeline reads; the files inside a folder are not listed."""
    for step, paths in _source_steps(config, keeps=True):
        op = type(step.parameters).op
        patterns = _searched(op, paths)
        named = _stores(patterns, config.storage) if op == "from_zarr" else patterns
        folders = tuple(path for path in named if not is_remote(path) and os.path.isdir(_local(path)))
        single = [path for path in named if path not in folders]
        yield Source(step.step, -1, folders, _located(op, single, config.storage), tuple(patterns))
    for step in config.steps.values():
        if step.depends_on:
            folders = tuple(filter(os.path.isdir, step.depends_on))
            files = tuple(path for path in step.depends_on if path not in folders)
            yield Source(step.step, -1, folders, files, step.depends_on)
    for i, check in enumerate(config.checks):
        if check.equals_csv is not None:
            yield Source("", i, (), (os.path.join(os.path.abspath(config.root), check.equals_csv),), ())


def _local(path: str) -> str:
    return path.removeprefix("file://")


def _paths(step: Step, root: str, *, keeps: bool) -> list[str]:
    """Return the paths that an op reads; ``keeps``: also folders that it keeps."""
    signature = type(step.parameters)
    given = [getattr(step.parameters, key) for key in signature.paths() if keeps or key not in signature.keeps]
    return list(located([one for path in given for one in ([path] if isinstance(path, str) else path or ())], root))


def _source_steps(config: Config, *, keeps: bool = False) -> Iterator[tuple[Step, list[str]]]:
    """Yield each step that reads files, with its paths; each path once. ``keeps``: also folders that it keeps."""
    seen: set[tuple[str, ...]] = set()
    root = os.path.abspath(config.root)
    for step in config.steps.values():
        if step.kind == "op":
            paths = _paths(step, root, keeps=keeps)
            place = (step.function, *paths)
            if paths and place not in seen:
                seen.add(place)
                yield step, paths


def reads_of(step: Step, config: Config) -> tuple[Read, ...]:
    """Return what the op of a step reads; files that its arguments name are not among it."""
    if step.kind != "op":
        return ()
    root = os.path.abspath(config.root)
    paths = _paths(step, root, keeps=False)
    reads = [*_read(step, paths, config.storage)] if paths else []
    for path in (path for paths in step.parameters.read_files().values() for path in paths):
        name = os.path.join(root, path)
        reads.append(Read(name, (name,), together=False))
    return tuple(reads)


def all_reads(config: Config) -> Iterator[Read]:
    """Yield what the sources, steps with ``depends_on`` and checks of a pipeline read, each once."""
    root = os.path.abspath(config.root)
    for step, paths in _source_steps(config):
        yield from _read(step, paths, config.storage)
    yield from dict.fromkeys(read for step in config.steps.values() for read in depended_on(step))
    for check in config.checks:
        if check.equals_csv is not None:
            name = os.path.join(root, check.equals_csv)
            yield Read(name, (name,), together=False)


def depended_on(step: Step) -> tuple[Read, ...]:
    """Return the files and folders that a step depends on because its ``depends_on`` names them."""
    return tuple(
        Read(path, tree(path), together=True) if os.path.isdir(path) else Read(path, (path,), together=False)
        for path in step.depends_on
    )


def named_by(steps: Iterable[Step], root: str, *, folders: bool = False, most: int | None = None) -> Iterator[Read]:
    """Yield the files that arguments name, relative to the current folder or to the file's folder ``root``.

    Parameters
    ----------
    folders : whether folders are files, too: all files in them, at any depth
    most : how many texts are looked at; None: all
    """
    texts = (text for step in steps for value in _arguments(step) for text in _texts(value))
    bases = dict.fromkeys((os.getcwd(), os.path.abspath(root)))
    listings: dict[str, frozenset[str]] = {}
    for text in itertools.islice(dict.fromkeys(texts), most):
        folder, name = os.path.split(text.rstrip("/"))
        for base in bases:
            place = os.path.normpath(os.path.join(base, folder))
            if place not in listings:  # of 100,000 texts, most are in folders that are not there, or in one
                listings[place] = _names_in(place)
            if name not in listings[place]:
                continue
            path = os.path.join(place, name)
            if os.path.isfile(path):
                yield Read(path, (path,), together=False, given=text)
                break
            if folders and os.path.isdir(path):
                yield Read(path, tree(path, most=_MOST_IN_FOLDER), together=True, given=text)
                break


def _arguments(step: Step) -> tuple[Any, ...]:
    own = getattr(step.parameters, "args", None) if step.kind == "op" else None
    return step.args, step.over, step.command, own


def _names_in(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except (OSError, ValueError):  # too long for a path, or with a null character
        return frozenset()


def tree(folder: str, most: int | None = None) -> tuple[str, ...]:
    """Return the files below a folder, at any depth, sorted; links to folders are not followed."""
    found = (os.path.join(top, name) for top, _, names in os.walk(folder) for name in names)
    return tuple(sorted(itertools.islice(found, most)))


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


def _read(step: Step, paths: Sequence[str], storage: Mapping[str, Any]) -> Iterator[Read]:
    op = type(step.parameters).op
    if op == "from_zarr":
        yield from map(_read_store, _stores(paths, storage))
        return
    if op in _TABLES_OF_FILES:
        yield from (_read_store(path) for path in paths)
        return
    paths = _searched(op, paths)
    name = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    files = _located(op, paths, storage)
    yield Read(name, files, together=len(files) > _MOST_SINGLE and not is_remote(name))


def _read_store(store: str) -> Read:
    if is_remote(store):
        return Read(store, tuple(f"{store.rstrip('/')}/{name}" for name in ZARR_METADATA), together=False)
    inner = tree(_local(store))
    return Read(store, inner or (store,), together=bool(inner))


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
