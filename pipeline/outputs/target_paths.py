"""The path of an output and of the hidden files beside it; whether outputs overlap or lead out of the root."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pipeline.errors import OutputError
from pipeline.graph.graph import Sink
from pipeline.outputs.files import STAGING

__all__ = [
    "HIDDEN",
    "check_targets",
    "fixed_folder",
    "is_below",
    "is_locked",
    "item_pattern",
    "lock_path",
    "manifest_path",
    "overlaps",
]

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


def is_below(path: str) -> bool:
    """Return whether a path in a file of ours leads below the folder that it is relative to.

    >>> is_below("a/b.csv"), is_below("../b.csv"), is_below("/b.csv"), is_below("")
    (True, False, False, False)
    """
    parts = path.split("/")
    return not any(part in ("", ".", "..") for part in parts) and "\0" not in path


def item_pattern(path: str) -> re.Pattern[str]:
    """Return the pattern of the paths of items' files, with the group ``key``."""
    first, *rest = (re.escape(piece) for piece in path.split("${key}"))
    return re.compile(first + "(?P<key>.+)" + "(?P=key)".join(rest) if rest else first)


# ---------------------------------------------------------------------------------------------------------------------
# Before a run: may these targets be written?
# ---------------------------------------------------------------------------------------------------------------------


def check_targets(sinks: Sequence[Sink], root: Path) -> None:
    """Check that each output may be written below ``root``, which exists; nothing is changed.

    Raises
    ------
    OutputError : a path leads out of the root or to another file system, or two outputs overlap
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
    for _, message in overlaps({sink.name: sink.path for sink in sinks}, root):
        raise OutputError(message)


def overlaps(paths: Mapping[str, str], root: Path) -> Iterator[tuple[str, str]]:
    """Yield each output that would write into another one or into its hidden files, and a message about it.

    Parameters
    ----------
    paths : output -> its path below ``root``
    """

    def resolved(path: str) -> str:
        """Resolve links to folders; a link at the path itself is replaced, whatever it leads to."""
        return os.path.join(os.path.realpath((root / path).parent), PurePosixPath(path).name)

    hidden = {resolved(place(path)): name for name, path in paths.items() for place in (manifest_path, lock_path)}
    taken: dict[str, str] = {}
    for name, path in paths.items():
        real = resolved(path)
        if real in taken:
            yield name, f"outputs {taken[real]!r} and {name!r} have the same path, {path}"
        taken.setdefault(real, name)
        if real in hidden:
            yield name, f"output {name!r}: {path} is the manifest or the lock file of output {hidden[real]!r}"
        elif any(part.startswith(STAGING) for part in PurePosixPath(path).parts):
            yield name, f"output {name!r}: {path} is the name of a staging folder; its files would be deleted"
    for real, name in taken.items():
        above = next((str(p) for p in PurePosixPath(real).parents if str(p) in taken), None)
        if above is not None:
            other = taken[above]
            yield name, f"output {name!r} ({paths[name]}) would be inside output {other!r} ({paths[other]})"


def is_locked(path: str, root: Path) -> bool:
    """Return whether a run writes the output, or died while it did: what is there may change until it is recovered."""
    return (root / lock_path(path)).exists()
