"""The distributions that installed modules are of, and their versions. No module is imported."""

from __future__ import annotations

import functools
import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib import metadata

from pipeline.worker.file_notes import FileNotes, file_stamps

__all__ = ["distributions_of", "installed_versions", "is_installed", "is_of_python"]

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_NOTE = "distributions-1"


def is_of_python(path: str) -> bool:
    """Return whether a file is of Python's standard library."""
    real = os.path.realpath(path)
    return real.startswith(_of_python()) and not _INSTALLED & set(real.split(os.sep))


def is_installed(path: str) -> bool:
    """Return whether a file is in a folder of installed packages."""
    return path.startswith(_of_packages()) or bool(_INSTALLED & set(path.split(os.sep)))


@functools.cache
def _of_python() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(os.path.join(os.path.realpath(paths[name]), "") for name in ("stdlib", "platstdlib"))


@functools.cache
def _of_packages() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()]
    return tuple(os.path.join(folder, "") for folder in dict.fromkeys([*folders, *map(os.path.realpath, folders)]))


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of those distributions that are installed, sorted by name."""
    return {name: version for name in sorted(set(distributions)) if (version := _version_of(name))}


@functools.cache
def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        return ""


@functools.cache
def distributions_of(module: str) -> tuple[str, ...]:
    """Return the distributions that an installed module may be of; empty if none has it.

    Parameters
    ----------
    module : its name; of several distributions that share a package, those that have this module
    """
    top = module.partition(".")[0]
    if _has_module(top):  # most have the name of their module; to look into all of them takes 0.3 s
        return (top,)
    names = sorted({name for folder in dict.fromkeys(sys.path) for name in _by_module(folder).get(top, ())})
    if len(names) > 1:
        path = module.replace(".", "/")
        names = [name for name in names if any(_is_of(str(file), path) for file in metadata.files(name) or ())] or names
    return tuple(names)


def _has_module(name: str) -> bool:
    """Return whether there is a distribution with the name of a module, which is beside it."""
    try:
        found = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        return False
    return any(os.path.isfile(str(found.locate_file(file))) for file in (f"{name}/__init__.py", f"{name}.py"))


def _is_of(file: str, path: str) -> bool:
    return file.startswith((f"{path}/", f"{path}."))


@functools.cache
def _by_module(folder: str) -> Mapping[str, list[str]]:
    """Return the distributions in a folder by their modules; from a note, as long as none is added or removed."""
    if not any(name.endswith((".dist-info", ".egg-info")) for name in _entries(folder)):
        return {}
    notes, stamps = FileNotes(), file_stamps([folder])
    for fact in notes.get(_NOTE, [folder]).values():
        known: dict[str, list[str]] = json.loads(fact)
        return known
    found: dict[str, list[str]] = {}
    for one in metadata.distributions(path=[folder]):
        declared = (one.read_text("top_level.txt") or "").split()
        for module in declared or _modules(str(file) for file in one.files or ()):
            found.setdefault(module, []).append(one.metadata["Name"])
    notes.put(_NOTE, {folder: json.dumps(found).encode()}, stamps)
    return found


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _modules(files: Iterable[str]) -> set[str]:
    """Return the names of the modules that a distribution has, from its files."""
    tops = {file.partition("/")[0] for file in files if file.endswith((".py", ".so", ".pyd"))}
    return {name for top in tops if (name := top.partition(".")[0]).isidentifier()}
