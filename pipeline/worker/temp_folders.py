"""Folders below the temp folder that don't outlive whoever needs them, however that ended.

They lie in one folder of the user's own. Whoever needs one holds a lock on it (``flock``), which the system takes off
when the last process that holds it has ended, by whatever signal; whoever makes another removes those that nobody
holds. Rejected: their age (a run may take days), and the process id in a name (ids are given anew).
"""

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
    """The user's own folder in the temp folder.

    Raises
    ------
    BackendError : if it can't be made, or is somebody else's or open to others
    """
    path = Path(tempfile.gettempdir(), f"pipeline-{os.getuid()}")
    _make(path)
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or path.is_symlink():
        raise BackendError(f"{path}: must be a folder of yours that nobody else can write to; remove it")
    return path


def hold(name: str) -> tuple[Path, int]:
    """The folder of this name, ``KIND-…``, made if it isn't there, and the descriptor that holds it.

    Many may hold one. Before a new one is made, those that nobody holds are removed.
    """
    path = _home() / name
    if not path.exists():
        _sweep(path.parent)
    while True:
        _make(path)
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as stack:  # swept before we had the lock
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, held)
            with contextlib.suppress(OSError):  # a file system without locks: nothing is swept there either
                fcntl.flock(held, fcntl.LOCK_SH)
            if os.path.samestat(path.stat(), os.fstat(held)):
                stack.pop_all()
                return path, held


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise BackendError(f"{path}: can't be made: {error.strerror}; name another temp folder by TMPDIR") from error


def _sweep(folder: Path) -> None:
    """Remove the folders that nobody holds."""
    for name in os.listdir(folder):
        if not name.startswith(_PREFIXES):
            continue
        with contextlib.suppress(OSError):  # held, or somebody else removes it
            found = os.open(folder / name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder / name, ignore_errors=True)
            finally:
                os.close(found)


class Folder:
    """A new folder ``KIND-…``, for one use: removed at ``close``, or by a later one's maker."""

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
