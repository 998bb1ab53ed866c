"""One run's outputs, from the locks to the publish: all of them together, or none.

::

    Publication(sinks, out, run=…)
      enter    targets admitted, locks taken, what a dead run left cleaned up, staging folder made
      verify   every staged file against its writer's record: there, size, hash; what no record names is removed
      publish  journal, one swap a target, the manifests last, commit mark
      leave    published: old data removed; else: roll back, staging removed. Locks given back

Whenever the process dies before the commit mark, the next run that takes the lock of one of the outputs puts all of
them back as they were; until then each output is readable, as it was or as it has become. Rejected: writing into
place, which reads back as good data when it is half done; a symlink to the current version, which other tools follow
badly.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Self

from pipeline.config.sections.formats import FOLDERS
from pipeline.errors import OutputError
from pipeline.graph.graph import Key, Sink
from pipeline.outputs.files import Context, FileRecord, PartRecord, hash_file, sync_folder
from pipeline.outputs.locks import Lock
from pipeline.outputs.recovery import PREFIX, recover, remove_folders, swap_all

__all__ = ["Publication", "manifest_path", "stage", "verify"]

_MANIFESTS = ".manifests"
HIDDEN = (".manifest.json", ".lock")
"""How the names of the hidden files beside an output end."""


def _anchor(path: str) -> tuple[str, str]:
    """Fixed folder of an output, and a name in it for its hidden files.

    >>> _anchor("a/b.zarr"), _anchor("a/${key}/x.npy")
    (('a', 'b.zarr'), ('a', '{key},x.npy'))
    """
    parts = PurePosixPath(path).parts
    fixed = next((i for i, part in enumerate(parts) if "${key}" in part), len(parts) - 1)
    return "/".join(parts[:fixed]), ",".join(parts[fixed:]).replace("${key}", "{key}")


def manifest_path(path: str) -> str:
    """Where the manifest of the output ``path`` lies, below the output root: a hidden sibling."""
    folder, name = _anchor(path)
    return str(PurePosixPath(folder, f".{name}.manifest.json"))


def stage(sinks: Iterable[Sink], folder: Path) -> None:
    """Make the folders that writers may find nothing to put into: a frame without rows is still an output."""
    for sink in sinks:
        if sink.format in FOLDERS:
            (folder / sink.path).mkdir(parents=True, exist_ok=True)


class Publication:
    """The outputs of one run; enter it before the run, leave it after :meth:`publish` or an error.

    Parameters
    ----------
    sinks : the outputs
    out : the output root; made if it is not there
    run : name of the run, unlike any other's
    storage : fsspec options, for the writers
    fault : called with the name of each stage as it is passed; tests end the process there
    exchange : False: do without the file system's atomic exchange

    Raises
    ------
    OutputError : if the root can't be made, a target is not ours to replace, or another run holds one of the outputs
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        out: str | os.PathLike[str],
        *,
        run: str,
        storage: Mapping[str, Any] | None = None,
        fault: Callable[[str], None] | None = None,
        exchange: bool = True,
    ) -> None:
        self.sinks = tuple(sinks)
        self.root = Path(os.path.realpath(out))
        self.run = run
        self.staging = self.root / f"{PREFIX}{run}"
        self.context = Context(str(self.staging) if self.sinks else "", run, dict(storage or {}))
        self._fault = fault or (lambda point: None)
        self._exchange = exchange
        self._locks: list[Lock] = []
        self._folders: list[str] = []  # made below the root, to be taken away if nothing comes of it
        self._records: dict[str, tuple[PartRecord, ...]] = {}
        self._verified = self._published = False
        self._unrecovered = False  # a lock leads to what a dead run left, and that could not be cleaned up

    def __enter__(self) -> Self:
        if not self.sinks:
            return self  # nothing to write: no folder is made or needed
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            _admit(self.sinks, self.root)
            self._lock()
            self._fault("locked")
            self.staging.mkdir()
            stage(self.sinks, self.staging)
            self._fault("staged")
        except BaseException as error:
            self._leave()
            if isinstance(error, OSError):
                raise OutputError(f"outputs below {self.root}: {error}") from error
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._leave()

    def verify(self, results: Mapping[Key, Any]) -> dict[str, tuple[PartRecord, ...]]:
        """Hold every staged file against its record; the records by output.

        Raises
        ------
        OutputError : naming the first file that is not as its writer left it
        """
        self._records = verify(self.sinks, results, self.staging)
        self._verified = True
        self._fault("verified")
        return self._records

    def publish(self, manifests: Mapping[str, bytes], stale: Mapping[str, Sequence[str]] | None = None) -> None:
        """Put all outputs into place, or none.

        Parameters
        ----------
        manifests : by output, the bytes of its manifest
        stale : by output, files below the root that the last run of it wrote and this one did not

        Raises
        ------
        OutputError : if the file system refused; everything stands as it stood before
        """
        if not self._verified:
            raise RuntimeError("verify() comes before publish()")
        if not self.sinks:
            return
        try:
            names = [*self._targets(), *self._stale(stale or {})]
            hidden = self._stage_manifests(manifests)
            for target, _ in [*names, *hidden]:
                self._make_folder(str(PurePosixPath(target).parent))
            swap_all(self.staging, [*names, *hidden], self._folders, fault=self._fault, exchange=self._exchange)
        except OSError as error:
            raise OutputError(f"outputs below {self.root}: {error}; what stood there still stands") from error
        self._published = True

    def _targets(self) -> list[tuple[str, str]]:
        """What is to be swapped for the outputs' data: a folder or a file an output, a file an item."""
        names = []
        for sink in self.sinks:
            if "${key}" in sink.path:
                files = [file.path for record in self._records[sink.name] for file in record.files]
                names += [(file, file) for file in files]
            else:
                names.append((sink.path, sink.path))
        return names

    def _stale(self, stale: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
        return [(file, "") for files in stale.values() for file in files if (self.root / file).is_file()]

    def _stage_manifests(self, manifests: Mapping[str, bytes]) -> list[tuple[str, str]]:
        names = []
        (self.staging / _MANIFESTS).mkdir(exist_ok=True)
        for i, sink in enumerate(self.sinks):
            if sink.name in manifests:
                name = f"{_MANIFESTS}/{i}.json"
                with open(self.staging / name, "wb") as file:
                    file.write(manifests[sink.name])
                    file.flush()
                    os.fsync(file.fileno())
                names.append((manifest_path(sink.path), name))
        return names

    def _lock(self) -> None:
        for path, name in sorted((str(PurePosixPath(*_anchor(sink.path))), sink.name) for sink in self.sinks):
            folder, _, label = path.rpartition("/")
            self._make_folder(folder)
            lock = Lock(self.root / folder / f".{label}.lock", name)
            left = lock.acquire()
            self._locks.append(lock)
            if left and isinstance(left.get("staging"), str):
                self._unrecovered = True
                recover(Path(left["staging"]))
                self._unrecovered = False
            lock.sign(str(self.staging), self.run)

    def _make_folder(self, folder: str) -> None:
        missing = []
        path = PurePosixPath(folder)
        while str(path) not in ("", ".") and not (self.root / path).is_dir():
            missing.append(str(path))
            path = path.parent
        for name in reversed(missing):
            (self.root / name).mkdir(exist_ok=True)
            self._folders.append(name)

    def _leave(self) -> None:
        """Remove the staging folder and give the locks back; locks that cannot be given back clean stay signed."""
        clean = False
        try:
            if self._published:
                self._fault("published")
            if self.staging.is_dir():
                recover(self.staging)
            clean = not self._unrecovered
        finally:
            for lock in reversed(self._locks):
                lock.release(clean=clean)
            self._locks.clear()
            if clean and not self._published:
                remove_folders(self.root, self._folders)


# ---------------------------------------------------------------------------------------------------------------------
# Before the run: may these targets be replaced?
# ---------------------------------------------------------------------------------------------------------------------


def _admit(sinks: Sequence[Sink], root: Path) -> None:
    device = os.stat(root).st_dev
    for sink in sinks:
        path = PurePosixPath(sink.path)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise OutputError(f"output {sink.name!r}: got the path {sink.path!r}; it must lead below the output root")
        fixed = root / _anchor(sink.path)[0] if "${key}" in sink.path else root / path
        if not Path(os.path.realpath(fixed)).is_relative_to(root):
            raise OutputError(f"output {sink.name!r}: {fixed} is a link that leads out of the output root, {root}")
        existing = next(p for p in (fixed, *fixed.parents) if p.exists())
        if os.stat(existing).st_dev != device:
            raise OutputError(
                f"output {sink.name!r}: {existing} is on another file system than {root}, so it can't be replaced in "
                f"one step; use an output root on it: --out {existing}"
            )
        if "${key}" not in sink.path:
            _admit_target(sink, fixed)
    _refuse_overlaps(sinks)


def _admit_target(sink: Sink, target: Path) -> None:
    if not os.path.lexists(target):
        return
    if sink.format not in FOLDERS:
        if target.is_dir():
            raise OutputError(f"output {sink.name!r}: {target} is a folder, and {sink.format} is one file")
        return
    foreign = [target.name] if not target.is_dir() else _foreign(sink.format, target)
    if foreign:
        raise OutputError(
            f"output {sink.name!r}: {target} is to be replaced, but holds {foreign[0]!r}, which is no {sink.format}; "
            "move it, or write elsewhere"
        )


def _foreign(form: str, folder: Path) -> list[str]:
    """Names in a folder that a dataset of this format would not have: it is not ours to replace then."""
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
                raise OutputError(f"output {name!r} ({path}) would lie within output {taken[parent]!r} ({parent})")


# ---------------------------------------------------------------------------------------------------------------------
# After the run: is every file what its writer says it is?
# ---------------------------------------------------------------------------------------------------------------------


def verify(sinks: Iterable[Sink], results: Mapping[Key, Any], folder: Path) -> dict[str, tuple[PartRecord, ...]]:
    """Hold the staged files of ``sinks`` below ``folder`` against the records among ``results``; the records by output.

    Files of a folder output that no record names (a writer that died left them) are removed.

    Raises
    ------
    OutputError : if a file is missing, was written twice, or has another size or hash than its record says
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
        faults = pool.map(lambda pair: _fault_of(folder, *pair), files)
        fault = next((fault for fault in faults if fault), "")
    if fault:
        raise OutputError(f"{fault}; nothing was published")
    for sink in sinks:
        _settle(folder, sink, owner)
    return found


def _fault_of(folder: Path, output: str, file: FileRecord) -> str:
    path = folder / file.path
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return f"output {output!r}: {file.path} is not there, though its writer reported it (a folder not shared?)"
    if not stat.S_ISREG(status.st_mode):
        return f"output {output!r}: {file.path} is not a plain file"
    if status.st_size != file.bytes:
        return f"output {output!r}: {file.path} has {status.st_size} bytes, its writer reported {file.bytes}"
    if hash_file(path) != file.hash:
        return f"output {output!r}: {file.path} has another hash than its writer reported"
    return ""


def _settle(folder: Path, sink: Sink, owner: Mapping[str, str]) -> None:
    """Remove what no record names from a folder output, and force its names to the disk."""
    target = folder / sink.path
    if sink.format not in FOLDERS:
        return
    for place, _, names in os.walk(target, topdown=False):
        for name in names:
            path = Path(place, name)
            if path.relative_to(folder).as_posix() not in owner:
                path.unlink()
        sync_folder(place)
