"""Where the modules are that a user's function imports, found without importing them."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.runs.provenance.installed_modules import distributions_of, is_installed, is_of_python

__all__ = ["SUFFIXES", "FoundModule", "ModuleFinder"]

_OWN = __name__.partition(".")[0]
SUFFIXES = tuple(importlib.machinery.EXTENSION_SUFFIXES)
"""Endings of compiled modules."""


@dataclass(frozen=True)
class FoundModule:
    """Where a module is.

    Parameters
    ----------
    kind : ``user``: a file of the user's; ``installed``: of a distribution; ``python``: of Python or of Pipeline;
        ``missing``
    file : the path of its source, or of its compiled file; empty for a folder without ``__init__.py``
    label : of a module of the user: its path below the folder that it is imported from
    folders : of a package: where its modules are
    content : what was read of the file already
    """

    kind: Literal["user", "installed", "python", "missing"]
    file: str = ""
    label: str = ""
    folders: tuple[str, ...] = ()
    content: bytes | None = None


_MISSING = FoundModule("missing")


class ModuleFinder:
    """Finds modules by name: those that are shipped first, then those that Python would import.

    Parameters
    ----------
    shipped : paths of files and folders of modules
    contents : name of a file below the folder of all shipped modules -> its content
    """

    def __init__(self, shipped: Sequence[str] = (), contents: Mapping[str, bytes] | None = None) -> None:
        self._shipped = {os.path.basename(path).removesuffix(".py"): path for path in shipped}
        self._contents = contents or {}
        self._found: dict[str, FoundModule] = {}
        self._folders: dict[str, None] = {}

    def add_folder(self, folder: str) -> None:
        """Look for modules that Python would not find in this folder, too."""
        if folder not in self._folders:
            self._folders[folder] = None
            self._found = {name: found for name, found in self._found.items() if found.kind != "missing"}

    @property
    def shipped(self) -> tuple[str, ...]:
        """The names of the modules that are shipped."""
        return tuple(self._shipped)

    def find(self, module: str) -> FoundModule:
        """Return where a module is."""
        if module not in self._found:
            parent, _, name = module.rpartition(".")
            if not parent:
                self._found[module] = self._top(module)
            else:
                outer = self.find(parent)
                inner = self._inside(outer, name, module)
                self._found[module] = inner
        return self._found[module]

    def inside(self, package: str) -> Iterator[str]:
        """Yield the names of all modules of a package of the user, at any depth."""
        waiting = [package]
        while waiting:
            module = waiting.pop()
            found = self.find(module)
            if found.kind != "user":
                continue
            yield module
            for folder in found.folders:
                waiting += [f"{module}.{name}" for name in _names_in(folder)]

    def _top(self, name: str) -> FoundModule:
        path = self._shipped.get(name)
        if path is not None:
            if os.path.isdir(path):
                return self._package(path, name)
            return FoundModule("user", path, f"{name}.py", content=self._contents.get(f"{name}.py"))
        if name == _OWN or name in sys.stdlib_module_names:
            return FoundModule("python")
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):  # of a module without a spec, or one that a finder refuses
            spec = None
        if spec is None:
            spec = importlib.machinery.PathFinder.find_spec(name, [*self._folders]) if self._folders else None
        if spec is None:
            return _MISSING
        folders = tuple(spec.submodule_search_locations or ())
        place = spec.origin if spec.origin and os.path.isabs(spec.origin) else next(iter(folders), "")
        if not place:  # built in or frozen
            return FoundModule("python")
        if is_of_python(place):
            return FoundModule("python")
        if is_installed(place) and distributions_of(name):  # a file that was put there by hand is the user's
            return FoundModule("installed")
        if not spec.origin:
            return FoundModule("user", "", name, folders)
        if not os.path.isfile(spec.origin):
            return FoundModule("user", _archive(spec.origin), name)
        return FoundModule("user", spec.origin, _label(name, spec.origin), folders)

    def _inside(self, outer: FoundModule, name: str, module: str) -> FoundModule:
        if outer.kind in ("installed", "python"):
            return outer
        for folder in outer.folders:
            path = os.path.join(folder, name)
            if os.path.isfile(os.path.join(path, "__init__.py")):
                return self._package(path, module)
            for suffix in (".py", *SUFFIXES):
                if os.path.isfile(path + suffix):
                    file = f"{path}{suffix}"
                    label = _label(module, file)
                    return FoundModule("user", file, label, content=self._contents.get(label))
            if os.path.isdir(path):
                return FoundModule("user", "", module.replace(".", "/"), (path,))
        return _MISSING

    def _package(self, path: str, module: str) -> FoundModule:
        file = os.path.join(path, "__init__.py")
        label = f"{module.replace('.', '/')}/__init__.py"
        if not os.path.isfile(file):
            return FoundModule("user", "", module.replace(".", "/"), (path,))
        return FoundModule("user", file, label, (path,), self._contents.get(label))


def _archive(path: str) -> str:
    """Return the file that a path leads into, as that of a module in a zip file; the path if there is none."""
    folder = path
    while folder != (folder := os.path.dirname(folder)):
        if os.path.isfile(folder):
            return folder
    return path


def _label(module: str, file: str) -> str:
    base = os.path.basename(file)
    folder = module.replace(".", "/")
    if base.startswith("__init__."):
        return f"{folder}/{base}"
    return f"{folder}{base[len(base.partition('.')[0]) :]}"


def _names_in(folder: str) -> list[str]:
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return []
    found = []
    for entry in entries:
        name = entry.partition(".")[0]
        is_module = entry.endswith((".py", *SUFFIXES)) and name != "__init__"
        is_package = os.path.isfile(os.path.join(folder, entry, "__init__.py"))
        if name.isidentifier() and (is_module or is_package):
            found.append(name)
    return list(dict.fromkeys(found))
