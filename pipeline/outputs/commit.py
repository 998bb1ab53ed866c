"""Commit the outputs of one run: all of them together, or none.

::

    OutputTransaction(sinks, out, run=…)
      enter    paths checked, locks taken, a dead run's staging folder recovered, what is at the paths checked, our own
               staging folder made
      verify   every staged file compared with its writer's record: it exists, has this size and this hash
      commit   journal, one rename per target (of an output that grows per new file), the manifests last, commit mark
      leave    committed: the old data is deleted; else: roll back, new files deleted. Locks are released

If the process dies before the commit mark, the next run that takes the lock of one of the outputs restores all of them
(:mod:`pipeline.outputs.recovery`); until then each output is readable, either the old or the new one.

Rejected: writing into the final place, since half an output can be read like a whole one; a symlink to the current
version, since other tools handle it badly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self

from pipeline.config.sections.formats import FOLDERS
from pipeline.errors import OutputError
from pipeline.graph.graph import Key, Sink
from pipeline.outputs.appending import refuse_other_columns
from pipeline.outputs.atomic_rename import rename_all
from pipeline.outputs.files import STAGING, Context, PartRecord
from pipeline.outputs.locks import Lock
from pipeline.outputs.recovery import prepare, recover, remove_empty_folders, roll_back
from pipeline.outputs.replaceable import check_replaceable
from pipeline.outputs.target_paths import check_targets, lock_path, manifest_path
from pipeline.outputs.verification import verify

__all__ = ["OutputTransaction", "make_folders"]

_MANIFESTS = ".manifests"


def make_folders(sinks: Iterable[Sink], staging: Path) -> None:
    """Make the folders of folder outputs: a frame without rows has no file to write, but is still an output."""
    for sink in sinks:
        if sink.format in FOLDERS:
            (staging / sink.path).mkdir(parents=True, exist_ok=True)


class OutputTransaction:
    """The outputs of one run. Enter it before the run; leave it after :meth:`commit`, or after an error.

    States: locked (entered), verified, committed; leaving it in any state but the last restores everything.

    Parameters
    ----------
    sinks : the outputs
    out : the output root; made if it does not exist
    run : unique name of the run
    storage : fsspec options, for the writers
    on_stage : called with the name of each stage when it is done; tests end the process there
    exchange : False: do without the file system's atomic exchange
    protect : called when the locks are held and before anything is written; raises an error if an output path collides
        with an input

    Raises
    ------
    OutputError : if the root can't be made, a target must not be replaced, or another run holds one of the outputs
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        out: str | os.PathLike[str],
        *,
        run: str,
        storage: Mapping[str, Any] | None = None,
        on_stage: Callable[[str], None] | None = None,
        exchange: bool = True,
        protect: Callable[[], None] | None = None,
    ) -> None:
        self.sinks = self._locked = tuple(sinks)
        self.root = Path(os.path.realpath(out))
        self.run = run
        self.staging = self.root / f"{STAGING}{run}"
        self.context = Context(str(self.staging) if self.sinks else "", run, dict(storage or {}))
        self._on_stage = on_stage or (lambda stage: None)
        self._exchange = exchange
        self._protect = protect or (lambda: None)
        self._locks: list[Lock] = []
        self._folders: list[str] = []  # made below the root; removed again if nothing is committed
        self._unused: list[str] = []  # those of outputs that are left out
        self._records: dict[str, tuple[PartRecord, ...]] = {}
        self._verified = self._committed = False
        self._unrecovered = False  # a lock names a dead run's staging folder that could not be recovered

    def __enter__(self) -> Self:
        if not self.sinks:
            return self  # nothing to write: no folder is made or needed
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            check_targets(self.sinks, self.root)
            self._lock()
            self._on_stage("locked")
            self._protect()
            check_replaceable(self.sinks, self.root)
            for sink in self.sinks:
                if sink.append:
                    refuse_other_columns(sink, self.root)
            self.staging.mkdir()
            prepare(self.staging)
            make_folders(self.sinks, self.staging)
            self._on_stage("staged")
        except BaseException as error:
            self._leave()
            if isinstance(error, OSError):
                raise OutputError(f"outputs below {self.root}: {error}") from error
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._leave()

    def leave_out(self, outputs: Collection[str]) -> None:
        """Leave some outputs as they are, before :meth:`verify`; what was staged of them is thrown away.

        Their locks are held until the transaction is left.
        """
        self.sinks = tuple(sink for sink in self.sinks if sink.name not in outputs)
        paths = [PurePosixPath(sink.path) for sink in self.sinks]
        wanted = {str(folder) for path in paths for folder in (path, *path.parents)}
        self._unused = [folder for folder in self._folders if folder not in wanted]

    def verify(self, results: Mapping[Key, Any]) -> dict[str, tuple[PartRecord, ...]]:
        """Compare every staged file with its writer's record; return the records by output.

        Raises
        ------
        OutputError : naming the first file that is not as its writer left it
        """
        try:
            self._records = verify(self.sinks, results, self.staging)
            self._verified = True
            self._on_stage("verified")
        except OSError as error:
            raise OutputError(f"outputs below {self.root}: {error}; nothing was committed") from error
        return self._records

    def commit(
        self,
        manifests: Mapping[str, bytes],
        stale: Mapping[str, Sequence[str]] | None = None,
        *,
        unchanged: Collection[str] = (),
    ) -> None:
        """Put all outputs into place, or none.

        Parameters
        ----------
        manifests : output -> bytes of its manifest; of an output that was left out, the manifest alone is replaced
        unchanged : outputs that stay as they are: what was written for them is thrown away
        stale : output -> files below the root that an earlier run of it wrote and this one did not; they are removed

        Raises
        ------
        OutputError : if the file system refused; everything is as it was before
        """
        if not self._verified:
            raise RuntimeError("verify() comes before commit()")
        if not self.sinks and not manifests:
            return
        try:
            check_replaceable(self.sinks, self.root, items={n: self._items(n) for n in self._records})
            names = [*self._targets(unchanged), *self._removed(stale or {})]
            names += self._stage_manifests({name: data for name, data in manifests.items() if name not in unchanged})
            for sink in self.sinks:
                if sink.append:  # also if there is no file to add
                    self._make_folder(sink.path)
            for target, _ in names:
                self._make_folder(str(PurePosixPath(target).parent))
            try:
                rename_all(self.staging, names, self._folders, on_stage=self._on_stage, exchange=self._exchange)
            except BaseException:
                roll_back(self.staging)
                raise
        except OSError as error:
            raise OutputError(f"outputs below {self.root}: {error}; the earlier outputs are unchanged") from error
        self._committed = True

    def _targets(self, unchanged: Collection[str]) -> list[tuple[str, str]]:
        """Return the targets with their staged paths: a folder or a file per output, or a file per item or addition."""
        names = []
        for sink in self.sinks:
            if sink.name in unchanged:
                continue
            if "${key}" in sink.path or sink.append:
                names += [(file, file) for file in self._items(sink.name)]
            else:
                names.append((sink.path, sink.path))
        return names

    def _items(self, output: str) -> list[str]:
        return [file.path for record in self._records[output] for file in record.files]

    def _removed(self, stale: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
        return [(file, "") for files in stale.values() for file in files if (self.root / file).is_file()]

    def _stage_manifests(self, manifests: Mapping[str, bytes]) -> list[tuple[str, str]]:
        names = []
        (self.staging / _MANIFESTS).mkdir(exist_ok=True)
        for i, sink in enumerate(self._locked):
            if sink.name in manifests:
                name = f"{_MANIFESTS}/{i}.json"
                with open(self.staging / name, "wb") as file:
                    file.write(manifests[sink.name])
                    file.flush()
                    os.fsync(file.fileno())
                names.append((manifest_path(sink.path), name))
        return names

    def _lock(self) -> None:
        # sorted: two runs that want the same locks try them in the same order
        for path, name in sorted((lock_path(sink.path), sink.name) for sink in self.sinks):
            self._make_folder(str(PurePosixPath(path).parent))
            lock = Lock(self.root / path, name)
            dead = lock.acquire()
            self._locks.append(lock)
            staging = self._staging_of(dead, name)
            if staging is not None:
                self._unrecovered = True
                recover(staging)
                self._unrecovered = False
            lock.sign(str(self.staging), self.run)

    def _staging_of(self, dead: Mapping[str, Any] | None, output: str) -> Path | None:
        """Return the staging folder that a dead run's lock file names; None if there is none.

        Raises
        ------
        OutputError : if it is not directly below this root, where this run must not change it
        """
        text = dead.get("staging") if dead else None
        if not isinstance(text, str) or "\0" in text:
            return None
        staging = Path(text)
        if not staging.name.startswith(STAGING) or staging.is_symlink() or not staging.is_dir():
            return None
        if not os.path.samefile(staging.parent, self.root):
            self._unrecovered = True  # the lock file keeps its text
            raise OutputError(
                f"output {output!r}: its lock file names the staging folder {staging} of a run that died, which is not "
                f"directly below the output root {self.root}, so it is left alone; to recover it, run with --out "
                f"{staging.parent}, or delete {self.root / lock_path(self._path(output))}"
            )
        return self.root / staging.name

    def _path(self, output: str) -> str:
        return next(sink.path for sink in self.sinks if sink.name == output)

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
        """Delete the staging folder and release the locks.

        If a recovery fails, the lock files keep their text, which leads the next run to what is left.
        """
        clean = False
        try:
            if self._committed:
                self._on_stage("cleanup")
            if self.staging.is_dir():
                recover(self.staging)
            clean = not self._unrecovered
        finally:
            for lock in reversed(self._locks):
                lock.release(clean=clean)
            self._locks.clear()
            if clean:
                remove_empty_folders(self.root, self._unused if self._committed else self._folders)
