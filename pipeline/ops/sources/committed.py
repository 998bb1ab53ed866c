"""Whether the outputs of earlier runs that a source reads are still as they were committed.

The manifest beside an output names its files and their sizes. A source that reads the output, a part of it or a folder
with several outputs is refused where one of the files that it would read is missing or has another size, or where a
folder output has another file that it would read. Files that no manifest names are not checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DataError
from pipeline.ops.sources.glob import WILD, fixed_folder, would_find
from pipeline.ops.sources.paths import SUFFIXES, is_remote, locate, stores
from pipeline.outputs.collisions import absolute
from pipeline.outputs.damage import differences, refuse, unreadable_manifest
from pipeline.outputs.manifest import DamagedManifest, Manifest
from pipeline.outputs.target_paths import HIDDEN

__all__ = ["CommittedOutputs"]

_ENDING = HIDDEN[0]


@dataclass(frozen=True)
class _Names:
    """The manifests in one folder: names of outputs, and for outputs of items their file and what their paths match."""

    outputs: frozenset[str] = frozenset()
    items: tuple[tuple[str, re.Pattern[str]], ...] = ()


@dataclass
class CommittedOutputs:
    """Checks sources against the manifests of outputs; one object for each build, since what it reads is kept."""

    _names: dict[str, _Names] = field(default_factory=dict)
    _manifests: dict[str, Manifest | None] = field(default_factory=dict)
    _checked: set[tuple[str, str, bool]] = field(default_factory=set)

    def require_undamaged(self, op: str, paths: str | Sequence[str], *, hashes: bool = False) -> None:
        """Check what a source reads.

        Parameters
        ----------
        op : name of the op; empty: ``paths`` are single files
        paths : absolute; remote ones are not checked
        hashes : whether the files are read and compared with their hashes, too

        Raises
        ------
        DataError : naming an output that is not as it was committed, its files, and the cure; or there is no such file
        """
        for path in [paths] if isinstance(paths, str) else paths:
            if not is_remote(path) and (op, path, hashes) not in self._checked:
                self._check(op, path.removeprefix("file://"), hashes)
                self._checked.add((op, path, hashes))

    def _check(self, op: str, path: str, hashes: bool) -> None:
        if op == "files" and os.path.isdir(path):
            path = os.path.join(path, "*")
        pattern = WILD.search(path) is not None and not os.path.exists(path)
        start = fixed_folder(path) if pattern else path
        rest = path[len(start) :].lstrip("/") if pattern else ""
        seen: set[str] = set()
        # as it is written, for an output that was moved and left a link in its place, and with its links resolved
        for top in dict.fromkeys((absolute(start), os.path.realpath(start))):
            is_folder = pattern or os.path.isdir(top)
            source = _Source(op, top, os.path.join(top, rest) if pattern else top, pattern, is_folder)
            found = source.found()
            self._compare(source, found, hashes)
            seen.update(found)
        for real in _linked(seen):
            self._compare(_Source("", real, real), [real], hashes)

    def _compare(self, source: _Source, found: Sequence[str], hashes: bool) -> None:
        for place in self._places(source, found):
            root = os.path.dirname(place)
            manifest = self._manifest(place)
            while manifest is not None:
                differing = differences(
                    manifest,
                    Path(root),
                    hashes=hashes,
                    wanted=lambda path, root=root: source.reads(os.path.join(root, path)),  # type: ignore[misc]
                    below=_relative(source.top, root),
                )
                if not differing:
                    break
                before, manifest = manifest, self._manifest(place, again=True)
                if manifest == before:  # else it was committed anew in the meantime
                    refuse(manifest, Path(root), differing)

    def _manifest(self, place: str, *, again: bool = False) -> Manifest | None:
        if again or place not in self._manifests:
            try:
                self._manifests[place] = Manifest.beside(Path(place))
            except DamagedManifest as error:
                raise unreadable_manifest(error) from None
        return self._manifests[place]

    def _places(self, source: _Source, found: Iterable[str]) -> Iterator[str]:
        """Yield the manifests of the outputs that a source reads, of all it can tell from names."""
        children: dict[str, set[str]] = {}
        for path in (source.top, *found):
            while path != (folder := os.path.dirname(path)) and os.path.basename(path) not in children.get(folder, ()):
                children.setdefault(folder, set()).add(os.path.basename(path))
                path = folder
        if source.is_folder:
            children.setdefault(source.top, set())
        for folder, names in children.items():
            if source.op == "from_zarr" and not source.is_pattern:  # its folder may take long to list
                hidden = (os.path.join(folder, f".{name}{_ENDING}") for name in names)
                yield from (place for place in hidden if os.path.isfile(place))
                continue
            there, inside = self._names_in(folder), folder == source.top or folder.startswith(f"{source.top}/")
            known = there.outputs & names
            if inside:
                known |= {name for name in there.outputs if source.may_read(os.path.join(folder, name))}
            yield from (os.path.join(folder, f".{name}{_ENDING}") for name in sorted(known))
            for hidden_name, matches in there.items:
                if inside or any(matches.fullmatch(_relative(path, folder) or "") for path in found):
                    yield os.path.join(folder, hidden_name)

    def _names_in(self, folder: str) -> _Names:
        if folder not in self._names:
            self._names[folder] = _listed(folder)
        return self._names[folder]


def _listed(folder: str) -> _Names:
    try:
        with os.scandir(folder) as entries:
            hidden = [entry.name for entry in entries if entry.name[:1] == "." and entry.name.endswith(_ENDING)]
    except OSError:  # it can't be listed, though a path leads through it
        return _Names()
    stems = {name: name[1 : -len(_ENDING)] for name in hidden}
    items = [
        (name, re.compile("[,/]".join(".+".join(map(re.escape, p.split("{key}"))) for p in stem.split(","))))
        for name, stem in sorted(stems.items())
        if "{key}" in stem
    ]
    return _Names(frozenset(stem for stem in stems.values() if "{key}" not in stem), tuple(items))


def _linked(paths: Iterable[str]) -> Iterator[str]:
    """Yield where those of the paths lead that are links or in linked folders, unless they are among the paths."""
    folders: dict[str, str] = {}
    known = set(paths)
    for path in known:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(folders[folder], name)
        if real not in known:
            yield real


def _relative(path: str, folder: str) -> str | None:
    """Return a path below a folder relative to it; None if it is not below."""
    prefix = folder if folder.endswith("/") else f"{folder}/"
    return path[len(prefix) :] if path.startswith(prefix) else None


@dataclass(frozen=True)
class _Source:
    """What a source reads.

    Parameters
    ----------
    top : the file or folder, or the folders before the first wildcard of the pattern
    path : the same, or the pattern
    is_pattern, is_folder : whether ``path`` is a pattern; whether files below ``top`` are read
    """

    op: str
    top: str
    path: str
    is_pattern: bool = False
    is_folder: bool = False

    def found(self) -> list[str]:
        """Return the files that are there; of zarr stores the stores themselves."""
        try:
            if self.op == "from_zarr":
                return [path for path in stores(self.path) if os.path.exists(path)]
            return list(locate(self.path, suffixes=SUFFIXES.get(self.op, ())))
        except DataError:  # there is none, which a manifest explains, or else the op
            return []

    def reads(self, path: str) -> bool:
        """Return whether the source would read a file, if it is there."""
        inner = _relative(path, self.top)
        if inner is None or not self.is_folder:
            return path == self.top
        if self.op == "from_zarr":
            parts = inner.split("/")
            return not self.is_pattern or any(
                would_find(self.path, "/".join(parts[:n])) for n in range(1, len(parts) + 1)
            )
        if self.is_pattern:
            return would_find(self.path, inner)
        hidden = any(part.startswith((".", "_")) for part in inner.split("/"))
        return not hidden and inner.endswith(SUFFIXES.get(self.op, ("",)))

    def may_read(self, path: str) -> bool:
        """Return whether the source would read an output with this path, or may read files in it."""
        if self.reads(path):
            return True
        inner = _relative(path, self.top)
        if not self.is_folder or inner is None or os.path.isfile(path):
            return False
        rest = self.path[len(self.top) :].strip("/")
        return not self.is_pattern or "**" in rest or rest.count("/") > inner.count("/")
