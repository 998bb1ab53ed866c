"""Whether a run may replace what is at the path of an output: only files that the output's manifest names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.config.sections.formats import FOLDERS
from pipeline.errors import OutputError
from pipeline.graph.graph import Sink
from pipeline.outputs.appending import obstacle_of_append
from pipeline.outputs.manifest import DamagedManifest, Manifest

__all__ = ["check_replaceable", "item_files", "obstacle"]


_CURE = "move it, or set overwrite: true on this output"


def check_replaceable(sinks: Sequence[Sink], root: Path, *, items: Mapping[str, Sequence[str]] | None = None) -> None:
    """Check that what is at the paths of the outputs may be replaced.

    Parameters
    ----------
    items : output -> files of its items, below ``root``, once they are known; then only these are looked at

    Raises
    ------
    OutputError : for the first output that must not replace what is there
    """
    for sink in sinks:
        if "${key}" in sink.path:
            files = items[sink.name] if items is not None else item_files(sink.path, sink.item_names)
        elif items is not None:
            continue
        else:
            files = ()
        if sink.append:
            message = obstacle_of_append(sink.path, root)
        else:
            message = obstacle(sink.name, sink.path, sink.format, root, overwrite=sink.overwrite, files=files)
        if message:
            raise OutputError(f"output {sink.name!r}: {message}")


def obstacle(
    name: str, path: str, form: str, root: Path, *, overwrite: bool = False, files: Iterable[str] = ()
) -> str | None:
    """Return what is wrong with replacing what is at ``path`` below ``root``, with the cure; None if it may be done.

    Parameters
    ----------
    name, form : name and format of the output
    overwrite : whether the user allows that foreign files are replaced
    files : of items, as far as they are known, as paths below ``root``
    """
    target = root / path
    if "${key}" not in path and form not in FOLDERS and target.is_dir():
        return f"{target} is a folder, but {form} is one file"
    if overwrite:
        return None
    try:
        manifest = Manifest.load(root, path)
    except DamagedManifest as error:
        return f"{error}; {_CURE}"
    known = set() if manifest is None else set(manifest.paths())
    others = manifest is not None and manifest.output.partition("[")[0] != name.partition("[")[0]  # of any matrix keys
    if manifest is not None and others and any(os.path.lexists(root / file) for file in known):
        return f"{target} would be replaced, but it is the output {manifest.output!r} of {manifest.run}; {_CURE}"
    if "${key}" in path:
        return _first_foreign(root, (name for name in files if os.path.lexists(f"{root}/{name}")), known)
    if target.is_dir() and not target.is_symlink():
        foreign = next((name for name in _files_in(root, path) if name not in known), None)
        if foreign is None:
            return None
        inner = foreign[len(path) + 1 :]
        return f"{target} would be replaced, but it holds {inner!r}, which no manifest of this output names; {_CURE}"
    return _first_foreign(root, [path] if os.path.lexists(target) else [], known)


def _first_foreign(root: Path, files: Iterable[str], known: set[str]) -> str | None:
    foreign = next((name for name in files if name not in known), None)
    if foreign is None:
        return None
    return f"{root / foreign} would be replaced, but no manifest of this output names it; {_CURE}"


def item_files(path: str, names: Iterable[str]) -> Iterator[str]:
    """Yield the path of each item's file; keys that can't be part of a path are refused when they are written."""
    for name in names:
        yield path.replace("${key}", name)


def _files_in(root: Path, path: str) -> Iterator[str]:
    """Yield the files and links in a folder, at any depth, as paths below the root."""
    todo = [path]
    while todo:
        folder = todo.pop()
        with os.scandir(root / folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    todo.append(f"{folder}/{entry.name}")
                else:
                    yield f"{folder}/{entry.name}"
