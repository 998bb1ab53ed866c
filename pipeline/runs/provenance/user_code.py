"""The code of the user that a step runs: the module of its function, and every module of theirs that this imports.

Modules are read, not imported. What is installed counts by the version of its distribution, Python and Pipeline not at
all. Of compiled modules in the user's folders the file counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pipeline.builder.function_code import function_code
from pipeline.config.source_digests import Import, ModuleSource, read_source
from pipeline.runs.provenance.installed_modules import distributions_of
from pipeline.runs.provenance.loaded_modules import is_outdated
from pipeline.runs.provenance.user_modules import SUFFIXES, FoundModule, ModuleFinder
from pipeline.worker.file_notes import FileNotes, FileStamp, file_stamps

__all__ = ["NO_MODULE", "THIS", "WHOLE", "Code", "UserCode"]

WHOLE = ""
"""The name of a file that counts as a whole: one that is compiled, or holds data."""
THIS = "this script or notebook"
"""The label of what is defined there."""
NO_MODULE = {WHOLE: "absent"}
"""The digests of a module that may be absent, and is."""

_NOTE = "source-2"  # changes with what ModuleSource has, and with how its digests are made
_LARGE = 4_000  # bytes of a source; a smaller one is parsed as fast as a note of it is found


@dataclass(frozen=True)
class Code:
    """The code that some functions of the user run.

    Parameters
    ----------
    modules : label of a module -> qualified name of a function or class, or ``module level`` -> digest
    distributions : those that these modules import
    notes : what could not be followed
    unknown : why the code is unknown; empty: it is known
    bytecode : whether a part has no source, so that the version of Python counts
    """

    modules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    distributions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unknown: str = ""
    bytecode: bool = False


class _Wanted(NamedTuple):
    """A module that another one imports."""

    module: str
    by: str
    optional: bool


class UserCode:
    """Reads the user's modules, each once; one object for each plan.

    Parameters
    ----------
    shipped : paths of the modules that are sent to the workers
    contents : file name below a modules folder -> its content, as the workers get it
    objects : functions that were given as objects, by the names that steps have for them
    notes : where what large modules have is kept between runs
    """

    def __init__(
        self,
        shipped: Sequence[str] = (),
        contents: Mapping[str, bytes] | None = None,
        *,
        objects: Mapping[str, Callable[..., Any]] | None = None,
        notes: FileNotes | None = None,
    ) -> None:
        self._objects = objects or {}
        self._finder = ModuleFinder(shipped, contents)
        self._contents = contents or {}
        self._data: dict[str, Mapping[str, Mapping[str, str]]] = {}
        self._notes = notes if notes is not None else FileNotes()
        self._sources: dict[str, ModuleSource | str] = {}
        self._codes: dict[tuple[str, ...], Code] = {}

    def of(self, functions: Sequence[str]) -> Code:
        """Return the code of functions, each written ``module:function``."""
        named = [text for text in functions if text not in self._objects]
        wanted = tuple(dict.fromkeys([*(text.partition(":")[0] for text in named), *set(functions) - set(named)]))
        if wanted not in self._codes:
            self._codes[wanted] = self._all(wanted)
        return self._codes[wanted]

    def _all(self, wanted: Sequence[str]) -> Code:
        """Return the code of modules, and of functions that were given as objects."""
        codes = [function_code(self._objects[name]) for name in wanted if name in self._objects]
        unknown = next((code.unknown for code in codes if code.unknown), "")
        if unknown:
            return Code(unknown=unknown)
        modules = [name for name in wanted if name not in self._objects]
        found = self._followed([*modules, *dict.fromkeys(name for code in codes for name in code.modules)])
        parts = {name: digest for code in codes for name, digest in code.parts.items()}
        own = {THIS: parts} if parts else {}
        return replace(found, modules={**own, **found.modules}, bytecode=any(code.bytecode for code in codes))

    def _followed(self, modules: Sequence[str]) -> Code:
        found: dict[str, Mapping[str, str]] = {}
        installed: dict[str, None] = {}
        notes: dict[str, None] = {}
        waiting = [_Wanted(module, "", False) for module in reversed(modules)]
        seen: set[str] = set()
        while waiting:
            wanted = waiting.pop()
            module = wanted.module
            place = self._finder.find(module)
            if place.kind == "missing":
                if not wanted.optional:
                    by = f", which {wanted.by} imports," if wanted.by else ""
                    return Code(unknown=f"the module {module!r}{by} was not found; name it under modules")
                found.setdefault(f"{module.replace('.', '/')}.py", NO_MODULE)
                continue
            if module in seen:
                continue
            seen.add(module)
            parent = module.rpartition(".")[0]
            if parent and parent not in seen:  # importing a module runs the packages that it is in
                waiting.append(_Wanted(parent, wanted.by, wanted.optional))
            if place.kind == "installed":
                installed[module] = None
            if place.kind != "user" or not place.file:
                continue
            source = self._source(place)
            if isinstance(source, ModuleSource) and self._is_outdated(module, place):
                source = f"{place.label} was changed after this process imported it: start Python again, or reload it"
            if isinstance(source, str):
                return Code(unknown=source)
            found[place.label] = source.digests
            found |= self._data_beside(module)
            if source.changes_path:  # nearly always to import what is beside it
                self._finder.add_folder(os.path.dirname(place.file))
            if source.dynamic:
                notes[f"{place.label} imports modules by {source.dynamic[0]}(); all modules beside it are counted"] = (
                    None
                )
                waiting += [_Wanted(one, place.label, True) for one in self._beside(module)]
            waiting += [*self._imported(module, place, source)]
        distributions = sorted({name for module in installed for name in distributions_of(module)})
        return Code(dict(sorted(found.items())), tuple(distributions), tuple(notes))

    def _source(self, place: FoundModule) -> ModuleSource | str:
        """Return what a module of the user has; or why that is unknown."""
        if place.file not in self._sources:
            self._sources[place.file] = self._read(place)
        return self._sources[place.file]

    def _read(self, place: FoundModule) -> ModuleSource | str:
        try:
            content = place.content
            stamps = file_stamps([place.file])
            if content is None:
                with open(place.file, "rb") as file:
                    content = file.read()
            if not place.file.endswith(".py"):
                return ModuleSource({WHOLE: hashlib.sha256(content).hexdigest()[:16]})
            if len(content) < _LARGE:
                return read_source(content)
            return self._noted(place.file, content) or self._parsed(place.file, content, stamps)
        except OSError as error:
            return f"{place.label} can't be read: {error.strerror}"
        except (SyntaxError, ValueError, RecursionError) as error:
            return f"{place.label} is no Python: {error}"

    def _noted(self, path: str, content: bytes) -> ModuleSource | None:
        """Return what an earlier run has read of the same content; None if there is no note of it."""
        for fact in self._notes.get(_NOTE, [path]).values():
            if fact[:32] == hashlib.sha256(content).digest():
                return ModuleSource.from_dict(json.loads(fact[32:]))
        return None

    def _parsed(self, path: str, content: bytes, stamps: Mapping[str, FileStamp]) -> ModuleSource:
        source = read_source(content)
        self._notes.put(_NOTE, {path: hashlib.sha256(content).digest() + json.dumps(source.to_dict()).encode()}, stamps)
        return source

    def _is_outdated(self, module: str, place: FoundModule) -> bool:
        """Return whether tasks in this process would run a module as it was before; shipped ones are imported anew."""
        if place.content is not None or module not in sys.modules or not place.file.endswith(".py"):
            return False
        with open(place.file, "rb") as file:
            return is_outdated(module, place.file, file.read())

    def _imported(self, module: str, place: FoundModule, source: ModuleSource) -> Iterator[_Wanted]:
        package = module if place.folders else module.rpartition(".")[0]
        for one in source.imports:
            base = _absolute(one, package)
            if base is None:
                continue  # a relative import beyond the package: the run fails there
            if base:
                yield _Wanted(base, place.label, one.optional)
            for name in one.names:
                yield from self._inner(base, name, place, one)

    def _inner(self, base: str, name: str, place: FoundModule, one: Import) -> Iterator[_Wanted]:
        """Yield what is imported from a module, if that is a module."""
        outer = self._finder.find(base) if base else None
        if name == "*":
            if outer is not None and outer.kind == "user" and outer.file:
                source = self._source(outer)
                exported = source.exported if isinstance(source, ModuleSource) else ()
                yield from (w for each in exported for w in self._inner(base, each, place, one))
            return
        full = f"{base}.{name}" if base else name
        if outer is not None and outer.kind == "installed":
            return
        if self._finder.find(full).kind != "missing" or (outer is not None and outer.kind == "user" and not outer.file):
            yield _Wanted(full, place.label, one.optional)

    def _data_beside(self, module: str) -> Mapping[str, Mapping[str, str]]:
        """Return the digests of the other files of a shipped package, which its modules may read."""
        top = module.partition(".")[0]
        if top not in self._data:
            files = {name: data for name, data in self._contents.items() if name.startswith(f"{top}/")}
            self._data[top] = {
                name: {WHOLE: hashlib.sha256(data).hexdigest()[:16]}
                for name, data in files.items()
                if not name.endswith((".py", *SUFFIXES))
            }
        return self._data[top]

    def _beside(self, module: str) -> Iterator[str]:
        """Yield the modules that one which computes their names may import."""
        tops = dict.fromkeys([module.partition(".")[0], *self._finder.shipped])
        for top in tops:
            yield from self._finder.inside(top)


def _absolute(one: Import, package: str) -> str | None:
    """Return the full name of what is imported; None if it is beyond the package."""
    if not one.level:
        return one.module
    parts = package.split(".") if package else []
    if one.level - 1 >= len(parts):
        return None
    parts = parts[: len(parts) - (one.level - 1)]
    return ".".join([*parts, one.module] if one.module else parts)
