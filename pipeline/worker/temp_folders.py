"""Temporary folders that are removed even when their process was killed.

They are in one folder of the user's below the temp folder, or in a folder that the caller names. A process that uses a
folder holds a lock on it (``flock``), which the system takes away when the last process that holds it has ended, by
whatever signal. Making a folder removes those that nobody holds.
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

__all__ = ["Folder", "hold", "remove_spilled", "user_folder"]

_PREFIXES = ("code-", "held-", "server-", "spill-")


def user_folder() -> Path:
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


def hold(name: str, parent: Path | None = None) -> tuple[Path, int]:
    """Return the folder ``name``, ``KIND-…``, made if it is missing, and a descriptor; closing it releases the folder.

    Several processes may hold the same folder. Before a new one is made, those that nobody holds are removed.

    Parameters
    ----------
    parent : where the folder is made, and those of its kind are removed; None: the user's own in the temp folder, where
        those of all kinds are

    Raises
    ------
    BackendError : if the user's own folder can't be used
    OSError : if the folder can't be made in ``parent``
    """
    path = (parent or user_folder()) / name
    if not path.exists():
        # nothing else is removed from a folder that is not our own
        _remove_unheld(path.parent, _PREFIXES if parent is None else (f"{name.rpartition('-')[0]}-",))
    while True:
        if parent is None:
            _make(path)
        else:
            path.mkdir(mode=0o700, exist_ok=True)
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


def remove_spilled() -> None:
    """Remove what statements of killed processes have written to disk, of this user."""
    with contextlib.suppress(OSError):
        _remove_unheld(user_folder(), ("spill-",))


def _remove_unheld(folder: Path, prefixes: tuple[str, ...]) -> None:
    """Remove the folders with one of these prefixes that nobody holds."""
    for name in os.listdir(folder):
        if not name.startswith(prefixes):
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

    def __init__(self, kind: str = "held", parent: Path | None = None) -> None:
        path, self._held = hold(f"{kind}-{secrets.token_hex(4)}", parent)
        self.path = str(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._held)
