"""What failed, interrupted and killed runs have finished: items of steps, and parts of outputs.

The log of a run is the folder ``items`` in its run folder, with a folder ``parts`` in it. Who runs holds a lock on a
file in it, which the kernel releases however the process ends. A run takes over the parts of the last one, by renaming
their folder; one that ends well removes its log and those of the runs that it went on from.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from pipeline.outputs.written_parts import WrittenParts
from pipeline.runs.folders import STAMP
from pipeline.worker.entry_files import owned
from pipeline.worker.item_logs import ItemLog

__all__ = ["ITEMS", "UnfinishedRuns", "earlier_logs", "earlier_parts"]

ITEMS = "items"
"""The name of the folder in a run folder."""

_PARTS = "parts"
_LOCK = ".running"
_MOST = 5  # logs of earlier runs; older ones are removed


class UnfinishedRuns:
    """The log of one run, and those of the runs before it. States: entered -> left, with or without :meth:`remove`.

    Parameters
    ----------
    folder : the run folder
    wanted : whether this run has a log; False: only what earlier runs have left is removed at the end
    staging : the staging folder of its outputs

    Attributes
    ----------
    log : of this run; None: it has none, or no folder can be made for it
    parts : of outputs, those of the last run among them; None as ``log``
    earlier : of runs that are over and did not end well, the newest last
    """

    def __init__(self, folder: Path, *, wanted: bool = True, staging: Path = Path()) -> None:
        self._folder, self._wanted, self._staging = folder, wanted, staging
        self._lock = -1
        self.log: ItemLog | None = None
        self.parts: WrittenParts | None = None
        self.earlier: tuple[ItemLog, ...] = ()

    def __enter__(self) -> Self:
        logs = list(_logs_of_dead_runs(self._folder.parent, self._folder.name))
        for path in logs[:-_MOST]:
            shutil.rmtree(path, ignore_errors=True)
        self.earlier = tuple(ItemLog(str(path)) for path in logs[-_MOST:])
        if self._wanted:
            with contextlib.suppress(OSError):  # no room, or a folder that can't be written: nothing is logged
                log = ItemLog(str(self._folder / ITEMS))
                log.prepare()
                self._lock = os.open(self._folder / ITEMS / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.log = log
                self.parts = self._taken_over(logs)
        return self

    def _taken_over(self, logs: Sequence[Path]) -> WrittenParts:
        """Return the parts of the last run as those of this one; what others have left of theirs is removed."""
        own = self._folder / ITEMS / _PARTS
        for path in reversed(logs):
            with contextlib.suppress(OSError):
                if not owned(os.lstat(path / _PARTS), "the folder") and not (path / _PARTS).is_symlink():
                    (path / _PARTS).rename(own)  # fails where this run has some already
            shutil.rmtree(path / _PARTS, ignore_errors=True)
        parts = WrittenParts(str(own), str(self._staging))
        parts.prepare()
        return parts

    def __exit__(self, *exc: object) -> None:
        path = self._folder / ITEMS
        if self._lock >= 0:
            if self.parts is not None:
                self.parts.remove_if_large()
            with contextlib.suppress(OSError):
                (path / _PARTS).rmdir()  # nothing was written
            with contextlib.suppress(OSError):
                if os.listdir(path) == [_LOCK]:  # nothing was logged
                    shutil.rmtree(path)
            # explicitly: a forked child may hold a copy of the descriptor
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> None:
        """Remove all logs: the run has ended well, or what it read has changed meanwhile."""
        for log in (*self.earlier, *((self.log,) if self.log is not None else ())):
            shutil.rmtree(log.folder, ignore_errors=True)


def earlier_logs(series: Path) -> tuple[ItemLog, ...]:
    """Return the logs of runs of one pipeline that are over and did not end well, the newest last.

    Parameters
    ----------
    series : the folder of its run folders
    """
    return tuple(ItemLog(str(path)) for path in list(_logs_of_dead_runs(series))[-_MOST:])


def earlier_parts(series: Path) -> WrittenParts:
    """Return the parts of outputs that the next run takes over, to be looked at."""
    paths = [path for path in _logs_of_dead_runs(series) if (path / _PARTS).is_dir()]
    return WrittenParts(str(paths[-1] / _PARTS) if paths else "", "")


def _logs_of_dead_runs(series: Path, own: str = "") -> Iterator[Path]:
    """Yield the logs of the runs of one pipeline that do not run any more, the oldest first."""
    try:
        names = sorted(name for name in os.listdir(series) if STAMP.fullmatch(name) and name != own)
    except OSError:
        return
    for name in names:
        path = series / name / ITEMS
        if path.is_dir() and not path.is_symlink() and not _is_held(path / _LOCK):
            yield path


def _is_held(path: Path) -> bool:
    try:
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(number)
    return False
