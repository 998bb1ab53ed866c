"""The scratch folder of an explanation: locked while in use, deleted at the end, or by a later explanation."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import OutputError

__all__ = ["scratch_folder"]

_PREFIX = ".explain-"


@contextlib.contextmanager
def scratch_folder(runs: Path) -> Iterator[Path]:
    """Make a locked folder below the runs folder; delete it at the end, and the runs folder if it was made for it.

    Raises
    ------
    OutputError : if the folder can't be made
    """
    made = not runs.exists()
    try:
        runs.mkdir(parents=True, exist_ok=True)
        runs = runs.resolve()
        _delete_unused(runs)
        token = secrets.token_hex(6)
        unlocked, folder = runs / f".explaining-{token}", runs / f"{_PREFIX}{token}"
        unlocked.mkdir(mode=0o700)
        lock = os.open(unlocked / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        unlocked.rename(folder)  # only a locked folder has the prefix that others delete by
    except OSError as error:
        raise OutputError(f"the scratch folder can't be made: {error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        if made:
            with contextlib.suppress(OSError):  # there is something else in it by now
                runs.rmdir()


def _delete_unused(runs: Path) -> None:
    """Delete the scratch folders of explanations that were killed: nothing locks them."""
    for left in runs.glob(f"{_PREFIX}*/lock"):
        with contextlib.suppress(OSError):
            fd = os.open(left, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else it is in use
                shutil.rmtree(left.parent, ignore_errors=True)
            finally:
                os.close(fd)
