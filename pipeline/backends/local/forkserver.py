"""The server that worker processes are forked from (``forkserver``): one a process, which ends with it.

Workers begin with what they import anyway, and share the memory of it: started anew, each takes a second of a core and
80 MB. It is started deaf to Ctrl-C, which its children inherit, and what it puts into the temp folder lies in a folder
that does not outlive this process, however it ends.
"""

from __future__ import annotations

import atexit
import functools
import os
import signal
from collections.abc import Sequence
from multiprocessing import forkserver, process, resource_tracker

from pipeline.worker.temp_folders import Folder

__all__ = ["start"]


def start(modules: Sequence[str]) -> None:
    """Have it run; ``modules`` are imported if it does not yet.

    Raises
    ------
    OSError : if it can't be started: its socket's path may be too long, below a long temp folder
    """
    process.current_process()._config.setdefault("tempdir", _folder(os.getpid()))  # type: ignore[attr-defined]
    forkserver.set_forkserver_preload(list(modules))
    resource_tracker.ensure_running()  # it unblocks SIGINT in the thread that starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@functools.cache
def _folder(pid: int) -> str:
    folder = Folder("server")
    atexit.register(_remove, folder, pid)
    return folder.path


def _remove(folder: Folder, pid: int) -> None:
    if os.getpid() == pid:  # and not in a process that was forked from this one
        folder.close()
