"""The server process that workers are forked from (``forkserver``)."""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Sequence
from multiprocessing import forkserver, process

from pipeline.backends import descendants
from pipeline.backends.interrupts import interrupts_blocked
from pipeline.worker.temp_folders import Folder

__all__ = ["start"]

# Forked workers have what the server has imported, and share its memory: starting a fresh interpreter takes a second of
# a core and 80 MB for each worker.


def start(modules: Sequence[str]) -> None:
    """Start the server of this process if it does not run yet; it imports ``modules``, and ends with this process.

    Raises
    ------
    OSError : if it can't be started: the path of its socket may be too long, below a long temp folder
    """
    # its files are then in a folder of ours, which is removed however this process ends
    process.current_process()._config.setdefault("tempdir", _folder(os.getpid()))  # type: ignore[attr-defined]
    forkserver.set_forkserver_preload(list(modules))
    with interrupts_blocked(), descendants.marked():
        forkserver.ensure_running()


@functools.cache
def _folder(pid: int) -> str:
    folder = Folder("server")
    atexit.register(_remove, folder, pid)
    return folder.path


def _remove(folder: Folder, pid: int) -> None:
    if os.getpid() == pid:  # and not in a process that was forked from this one
        folder.close()
