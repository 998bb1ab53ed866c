"""Whether a task has left its worker without files: such a worker ends at once, and says so by its exit code."""

from __future__ import annotations

import os

__all__ = ["FILES_CLOSED", "end_without_files"]

FILES_CLOSED = 74
"""Exit code of a worker whose files a task has closed, or that can open no more."""

_A_FILE = os.open(os.devnull, os.O_RDONLY)


def end_without_files() -> None:
    """End this process if a task has closed its files, or has opened all that the system allows.

    Else each of its threads would print a traceback, or wait for what it can't get.
    """
    try:
        os.close(os.dup(_A_FILE))
    except OSError:
        os._exit(FILES_CLOSED)
