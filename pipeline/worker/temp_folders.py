"""Folders below the temp folder that are removed even when their process was killed.

All are in one folder of the user's. A process that uses a folder holds a lock on it (``flock``), which the system takes
away when the last process that holds it has ended, by whatever signal. Making a folder removes those that nobody holds.
"""

# Rejected: the age of a folder (a run may take days), and the process id in its name (ids are used again).

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Self

from pipeline.errors import BackendError

__all__ = ["Folder", "hold"]

_PREFIXES = ("code-", "held-", "server-")


def _home() -> Path:
    """Return the folder of this user in the temp folder, made if it is missing.

    Raises
    ------
    BackendError : if it can't be made, belongs to another user or can be read or written by others
    """
    path = Path(tempfile.gettempdir(), f"pipeline-{os.getuid()}")
    _make(path)
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or path.is_symlink():
        raise BackendError(f"{path}: must be a folder that belongs to you and that no other user can read; remove it")
    return path


def hold(name: str) -> tuple[Path, int]:
    """Return the folder ``name``, ``KIND-…``, made if it is missing, and a descriptor; closing it releases the folder.

    Several processes may hold the same folder. Before a new one is made, those that nobody holds are removed.
    """
    path = _home() / name
    if not path.exists():
        _sweep(path.parent)
    while True:
        _make(path)
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as stack:  # removed before we had the lock
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, held)
            with contextlib.suppress(OSError):  # a file system without locks: nothing is removed there either
                fcntl.flock(held, fcntl.LOCK_SH)
            if os.path.samestat(path.stat(), os.fstat(held)):
                stack.pop_all()
                return path, held


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise BackendError(f"{path}: can't be made: {error.strerror}; set TMPDIR to another temp folder") from error


def _sweep(folder: Path) -> None:
    """Remove the folders that nobody holds."""
    for name in os.listdir(folder):
        if not name.startswith(_PREFIXES):
            continue
        with contextlib.suppress(OSError):  # held, or being removed by another process
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder / name, ignore_errors=True)
            finally:
                os.close(descriptor)


class Folder:
    """A new folder ``KIND-…``: removed by ``close``, or, if the process was killed, when a later one is made."""

    def __init__(self, kind: str = "held") -> None:
        path, self._held = hold(f"{kind}-{secrets.token_hex(4)}")
        self.path = str(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._held)
