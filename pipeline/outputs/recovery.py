"""Undo an unfinished commit, and delete the staging folder of a run: at its end, or after it was killed.

A staging folder ``.staging-RUN`` is deleted by :func:`recover`, which is called

* by the run itself when it ends (:class:`pipeline.outputs.commit.OutputTransaction`), after success or failure;
* after a kill or a crash by the next run that takes the lock of one of the same outputs: the lock file beside the
  output names the staging folder of the run that died.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.outputs.atomic_rename import Journal, Swap, exchange_names, inode, is_committed
from pipeline.outputs.files import STAGING, sync_folder

__all__ = ["delete_staging", "prepare", "recover", "remove_empty_folders", "roll_back"]

_LOCK = ".recovery"
_TRIES = 20  # a worker that outlives its run may add a file to a folder while it is emptied


def prepare(staging: Path) -> None:
    """Make what :func:`recover` needs in a new staging folder: later the disk may be full."""
    (staging / _LOCK).touch()


def recover(staging: Path) -> None:
    """Roll back a commit that was not finished, then delete the staging folder.

    The caller must hold the lock of one of the run's outputs. Several callers take turns; the second finds nothing.
    It may be killed at any point and done again. A path that is not a staging folder is left alone.

    Raises
    ------
    OutputError : if the journal is damaged, or names files outside the output root; nothing is changed
    """
    if not staging.name.startswith(STAGING) or staging.is_symlink() or not staging.is_dir():
        return
    try:
        number = os.open(staging / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        if not staging.is_dir():
            return
        if not is_committed(staging):
            roll_back(staging)
        delete_staging(staging)
    finally:
        os.close(number)


def delete_staging(staging: Path) -> None:
    """Delete a staging folder whose renames are all done or all undone.

    The journal goes first: without it nobody tries to roll back from a folder that is half deleted.
    """
    Journal.remove(staging)
    for _ in range(_TRIES):
        shutil.rmtree(staging, ignore_errors=True)
        if not staging.exists():
            return
    shutil.rmtree(staging)


def roll_back(staging: Path) -> None:
    """Undo the renames that the journal of a staging folder lists, as far as they were done; may be repeated."""
    journal = Journal.load(staging)
    if journal is None:
        return
    for swap in reversed(journal.swaps):
        _undo(staging, swap)
    root = staging.parent
    for folder in {(root / swap.target).parent for swap in journal.swaps}:
        if folder.is_dir():
            sync_folder(folder)
    remove_empty_folders(root, journal.folders)


def _undo(staging: Path, swap: Swap) -> None:
    target, aside = staging.parent / swap.target, swap.aside(staging)
    if swap.new and inode(target) == swap.new:
        staged = staging / swap.staged
        if swap.old and inode(staged) == swap.old:
            if not exchange_names(staged, target):
                os.rename(staged, aside)
                os.rename(target, staged)
        else:
            os.rename(target, staged)
    if swap.old and not inode(target) and inode(aside) == swap.old:
        os.rename(aside, target)


def remove_empty_folders(root: Path, folders: Sequence[str]) -> None:
    """Remove folders that were made for a commit that did not happen, the last one first; others' files stay."""
    for folder in reversed(folders):
        try:
            os.rmdir(root / folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST, errno.ENOTDIR):
                raise
