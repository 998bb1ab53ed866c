"""Whether the files of a committed output are still as its manifest records: missing, extra and changed files."""

from __future__ import annotations

import math
import os
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.config.sections.formats import FOLDERS
from pipeline.errors import DataError
from pipeline.outputs.files import FileRecord, hash_file
from pipeline.outputs.manifest import DamagedManifest, Manifest
from pipeline.outputs.target_paths import is_locked
from pipeline.units import count_text

__all__ = ["Difference", "differences", "refuse", "refuse_damaged", "scanned", "unreadable_manifest"]

_SHOWN = 3  # files that a message names


class Difference(NamedTuple):
    """A file that is not as it was committed: its path below the output root, and what is wrong with it."""

    kind: Literal["missing", "extra", "changed"]
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path} {self.text}"


def differences(
    manifest: Manifest,
    root: Path,
    *,
    hashes: bool = False,
    newer: int | None = None,
    wanted: Callable[[str], bool] | None = None,
    below: str | None = None,
) -> list[Difference]:
    """Return how the files of an output differ from its manifest, missing ones first; one scan of its folder.

    Parameters
    ----------
    root : the folder that the paths in the manifest are relative to
    hashes : whether the files are read and hashed, too; else only their sizes are compared
    newer : ns since the epoch; files that were changed later are hashed in any case
    wanted : whether a path below ``root`` matters; None: all do
    below : the part of the output to look at, as a path below ``root``; None: all of it
    """
    if below is not None and below in manifest.by_path:
        files = {below: manifest.by_path[below]}
    else:
        files = {path: file for path, file in manifest.by_path.items() if wanted is None or wanted(path)}
    is_folder = manifest.format in FOLDERS
    sizes = dict(scanned(root, below or manifest.path)) if is_folder else {}
    if not is_folder:
        sizes = {path: size for path in files if (size := _size(root / path)) is not None}
    found: list[Difference] = []
    same = []
    for path, file in sorted(files.items()):
        if path not in sizes:
            found.append(Difference("missing", path, "is missing"))
        elif sizes[path] != file.bytes:
            found.append(Difference("changed", path, f"has {sizes[path]} bytes; it was committed with {file.bytes}"))
        else:
            same.append(file)
    extra = sorted(path for path in sizes if path not in files and (wanted is None or wanted(path)))
    found += [Difference("extra", path, "was not written by that run") for path in extra]
    if not hashes and newer is not None:
        same = [file for file in same if _modified(root / file.path) > newer]
    if same and (hashes or newer is not None):
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            found += [changed for changed in pool.map(lambda file: _changed(root, file), same) if changed is not None]
    return sorted(found, key=lambda each: ("missing", "changed", "extra").index(each.kind))


def scanned(root: Path, start: str) -> Iterator[tuple[str, int]]:
    """Yield each file in a folder, at any depth, as a path below the root, and its size; of one file itself."""
    todo = [start]
    while todo:
        folder = todo.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(path)
                    elif not entry.name.startswith(".nfs"):  # a deleted file that another process has open
                        size = _size(Path(entry.path)) if entry.is_symlink() else entry.stat().st_size
                        yield path, -1 if size is None else size
        except NotADirectoryError:
            size = _size(root / folder)
            if size is not None:
                yield folder, size
        except FileNotFoundError:
            continue


def _size(path: Path) -> int | None:
    """Return the size of a file; None if it is not there, or no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _modified(path: Path) -> float:
    """Return the time of change of a file in ns since the epoch; infinity if it can't be read any more."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return math.inf


def _changed(root: Path, file: FileRecord) -> Difference | None:
    try:
        same = hash_file(root / file.path) == file.hash
    except OSError as error:
        return Difference("changed", file.path, f"can't be read: {error.strerror}")
    return None if same else Difference("changed", file.path, "has another hash than it was committed with")


def refuse_damaged(root: Path, path: str, *, hashes: bool = False) -> None:
    """Check that the output ``path`` below ``root`` is as its manifest records; without a manifest nothing is checked.

    Raises
    ------
    DataError : naming the files that differ, and the cure
    """
    before: Manifest | None = None
    while True:
        try:
            manifest = Manifest.load(root, path)
        except DamagedManifest as error:
            raise unreadable_manifest(error) from None
        found = differences(manifest, root, hashes=hashes) if manifest is not None else []
        if manifest is None or not found:
            return
        if manifest == before:  # else it was committed anew in the meantime
            refuse(manifest, root, found)
        before = manifest


def unreadable_manifest(error: DamagedManifest) -> DataError:
    """Return the error for an output whose manifest is damaged."""
    return DataError(f"{error}. Run the pipeline that writes this output again, or delete the file: then nothing is "
                     "compared with it")  # fmt: skip


def refuse(manifest: Manifest, root: Path, found: Sequence[Difference]) -> None:
    """Raise an error that names the files in which an output differs from its manifest, if there are any.

    Raises
    ------
    DataError : naming at most three files, and the cure
    """
    if not found:
        return
    more = f" and {count_text(len(found) - _SHOWN, 'more file')}" if len(found) > _SHOWN else ""
    files = "; ".join(map(str, found[:_SHOWN])) + more
    target = root / manifest.path
    if is_locked(manifest.path, root):
        raise DataError(
            f"{target} is not as its run committed it: {files}. A run is writing it, or died while it did: wait until "
            "it has ended, or run that pipeline again"
        )
    raise DataError(
        f"{target} is not as its run committed it: {files}. If it was changed on purpose, run: pipeline verify "
        f"--accept {shlex.quote(str(target))}; else run the pipeline that writes it again"
    )
