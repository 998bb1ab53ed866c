"""The items that runs have finished which did not end themselves: failed, interrupted or killed ones.

The log of a run is the folder ``items`` in its run folder. Who runs holds a lock on a file in it, which the kernel
releases however the process ends. A run that ends well removes its log and those of the runs that it went on from.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pipeline.runs.folders import STAMP
from pipeline.worker.item_logs import ItemLog

__all__ = ["ITEMS", "UnfinishedItems", "earlier_logs"]

ITEMS = "items"
"""The name of the folder in a run folder."""

_LOCK = ".running"
_MOST = 5  # logs of earlier runs; older ones are removed


class UnfinishedItems:
    """The log of one run, and those of the runs before it. States: entered -> left, with or without :meth:`remove`.

    Parameters
    ----------
    folder : the run folder
    wanted : whether items are logged; False: only what earlier runs have left is removed at the end

    Attributes
    ----------
    log : of this run; None: it has none, or no folder can be made for it
    earlier : of runs that are over and did not end well, the newest last
    """

    def __init__(self, folder: Path, *, wanted: bool = True) -> None:
        self._folder, self._wanted = folder, wanted
        self._lock = -1
        self.log: ItemLog | None = None
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
        return self

    def __exit__(self, *exc: object) -> None:
        path = self._folder / ITEMS
        if self._lock >= 0:
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
