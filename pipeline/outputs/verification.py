"""Check that every staged file is as its writer task reported it, before anything is committed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.config.sections.formats import FOLDERS
from pipeline.errors import OutputError
from pipeline.graph.graph import Key, Sink
from pipeline.outputs.files import FileRecord, PartRecord, hash_file, sync_folder

__all__ = ["verify"]


def verify(sinks: Iterable[Sink], results: Mapping[Key, Any], folder: Path) -> dict[str, tuple[PartRecord, ...]]:
    """Compare the staged files of the outputs with what their writer tasks reported.

    Files of a folder output that no record names are removed: a writer that died left them.

    Parameters
    ----------
    results : of the writer tasks, by key
    folder : the staging folder

    Returns
    -------
    output -> what its writer tasks wrote

    Raises
    ------
    OutputError : if a file is missing, was written twice, or has another size or hash than its record
    """
    found: dict[str, tuple[PartRecord, ...]] = {}
    owner: dict[str, str] = {}
    files: list[tuple[str, FileRecord]] = []
    for sink in sinks:
        records = tuple(results[key] for key in sink.records)
        for record in records:
            for file in record.files:
                if file.path in owner:
                    raise OutputError(
                        f"output {sink.name!r}: {file.path} was written twice, also by {owner[file.path]!r}"
                    )
                owner[file.path] = sink.name
                files.append((sink.name, file))
        found[sink.name] = records
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        errors = pool.map(lambda pair: _error_of(folder, *pair), files)
        error = next((error for error in errors if error), "")
    if error:
        raise OutputError(f"{error}; nothing was committed")
    for sink in sinks:
        _settle(folder, sink, owner)
    return found


def _error_of(folder: Path, output: str, file: FileRecord) -> str:
    path = folder / file.path
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        hint = "(do all workers share the output folder?)"
        return f"output {output!r}: {file.path} is missing, though its writer reported it {hint}"
    if not stat.S_ISREG(status.st_mode):
        return f"output {output!r}: {file.path} is not a regular file"
    if status.st_size != file.bytes:
        return f"output {output!r}: {file.path} has {status.st_size} bytes, its writer reported {file.bytes}"
    if hash_file(path) != file.hash:
        return f"output {output!r}: {file.path} has another hash than its writer reported"
    return ""


def _settle(folder: Path, sink: Sink, owner: Mapping[str, str]) -> None:
    """Remove files without a record from a folder output, and force its names to the disk."""
    target = folder / sink.path
    if sink.format not in FOLDERS:
        return
    for place, _, names in os.walk(target, topdown=False):
        for name in names:
            path = Path(place, name)
            if path.relative_to(folder).as_posix() not in owner:
                path.unlink()
        sync_folder(place)
