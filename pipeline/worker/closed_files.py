"""Whether a task has closed the files of its worker: such a worker ends at once, and says so by its exit code."""

from __future__ import annotations

import os

__all__ = ["FILES_CLOSED", "end_without_files"]

FILES_CLOSED = 74
"""Exit code of a worker whose files a task has closed."""

_A_FILE = os.open(os.devnull, os.O_RDONLY)


def end_without_files() -> None:
    """End this process if a task has closed its files; else each of its threads would print a traceback."""
    try:
        os.fstat(_A_FILE)
    except OSError:
        os._exit(FILES_CLOSED)
