"""The path of an output and of the hidden files beside it, and whether a run may replace what is at the path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.config.sections.formats import FOLDERS
from pipeline.errors import OutputError
from pipeline.graph.graph import Sink

__all__ = ["HIDDEN", "check_targets", "fixed_folder", "lock_path", "manifest_path"]

HIDDEN = (".manifest.json", ".lock")
"""How the names of the hidden files beside an output end."""


def manifest_path(path: str) -> str:
    """Return the path of the manifest of the output ``path``, both below the output root: a hidden sibling.

    >>> manifest_path("a/b.zarr"), manifest_path("a/${key}/x.npy")
    ('a/.b.zarr.manifest.json', 'a/.{key},x.npy.manifest.json')
    """
    return _hidden(path, HIDDEN[0])


def lock_path(path: str) -> str:
    """Return the path of the lock file of the output ``path``, both below the output root: a hidden sibling."""
    return _hidden(path, HIDDEN[1])


def _hidden(path: str, ending: str) -> str:
    parts = PurePosixPath(path).parts
    n_fixed = len(fixed_folder(path).parts)
    name = ",".join(parts[n_fixed:]).replace("${key}", "{key}")
    return str(PurePosixPath(*parts[:n_fixed], f".{name}{ending}"))


def fixed_folder(path: str) -> PurePosixPath:
    """Return the folder that an output is in, below the output root; for items, the folder above all their files."""
    parts = PurePosixPath(path).parts
    return PurePosixPath(*parts[: next((i for i, part in enumerate(parts) if "${key}" in part), len(parts) - 1)])


# ---------------------------------------------------------------------------------------------------------------------
# Before a run: may these targets be replaced?
# ---------------------------------------------------------------------------------------------------------------------


def check_targets(sinks: Sequence[Sink], root: Path) -> None:
    """Check that each output may be written below ``root``, which exists; nothing is changed.

    Raises
    ------
    OutputError : a path leads out of the root or to another file system, what is there has another format, or two
        outputs overlap
    """
    device = os.stat(root).st_dev
    for sink in sinks:
        path = PurePosixPath(sink.path)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise OutputError(f"output {sink.name!r}: got the path {sink.path!r}; it must lead below the output root")
        fixed = root / fixed_folder(sink.path) if "${key}" in sink.path else root / path
        if not Path(os.path.realpath(fixed)).is_relative_to(root):
            raise OutputError(f"output {sink.name!r}: {fixed} is a link that leads out of the output root, {root}")
        existing = next(p for p in (fixed, *fixed.parents) if p.exists())
        if os.stat(existing).st_dev != device:
            raise OutputError(
                f"output {sink.name!r}: {existing} is on another file system than {root}, so it can't be replaced in "
                f"one step; use an output root on it: --out {existing}"
            )
        if "${key}" not in sink.path:
            _check_existing(sink, fixed)
    _refuse_overlaps(sinks)


def _check_existing(sink: Sink, target: Path) -> None:
    if not os.path.lexists(target):
        return
    if sink.format not in FOLDERS:
        if target.is_dir():
            raise OutputError(f"output {sink.name!r}: {target} is a folder, but {sink.format} is one file")
        return
    foreign = [target.name] if not target.is_dir() else _foreign_names(sink.format, target)
    if foreign:
        raise OutputError(
            f"output {sink.name!r}: {target} would be replaced, but it holds {foreign[0]!r}, which is not part of "
            f"{sink.format}; move it, or write elsewhere"
        )


def _foreign_names(form: str, folder: Path) -> list[str]:
    """Return the names in a folder that a dataset of this format would not have, so that it must not be replaced."""
    names = sorted(os.listdir(folder))
    if form == "zarr":
        marked = {".zgroup", ".zarray", "zarr.json"} & set(names)
        return [] if marked else names
    known = (name.endswith(".parquet") or name[0] in "._" or "=" in name for name in names)
    return [name for name, ok in zip(names, known, strict=True) if not ok]


def _refuse_overlaps(sinks: Sequence[Sink]) -> None:
    taken: dict[PurePosixPath, str] = {}
    for sink in sinks:
        path = PurePosixPath(sink.path)
        if path in taken:
            raise OutputError(f"outputs {taken[path]!r} and {sink.name!r} have the same path, {path}")
        taken[path] = sink.name
    for path, name in taken.items():
        for parent in path.parents:
            if parent in taken:
                raise OutputError(f"output {name!r} ({path}) would be inside output {taken[parent]!r} ({parent})")
