"""Many renames that happen all or not at all: a journal, atomic exchanges, roll back, recovery after a crash.

A swap is known by inodes, which a rename keeps: whether it happened can be read from the folders alone, so the journal
is written once, before the first rename, and recovery may itself be killed and done again.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.outputs.files import sync_folder

__all__ = ["PREFIX", "Swap", "recover", "swap_all"]

PREFIX = ".staging-"
"""Staging folders, hidden siblings of the outputs, begin with this."""

_JOURNAL, _COMMITTED, _ASIDE, _RECOVERY = "journal.json", "committed", ".aside", ".recovery"
# 1: folders, swaps.
_FORMAT = 1

_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Swap:
    """One name that is to change its file or folder.

    Parameters
    ----------
    target : below the output root
    staged : below the staging folder; empty: the target is taken away
    number : of the swap, which names its place aside
    new, old : inodes of what is to come and of what stood there; 0: nothing
    """

    target: str
    staged: str
    number: int
    new: int = 0
    old: int = 0


def _inode(path: Path) -> int:
    try:
        return os.lstat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _rename(source: Path, target: Path, flags: int) -> bool:
    """``renameat2``; False where the system or the file system has it not."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


def swap_all(
    staging: Path,
    names: Iterable[tuple[str, str]],
    folders: Sequence[str],
    *,
    fault: Callable[[str], None],
    exchange: bool = True,
) -> None:
    """Put every staged name in its target's place, and what stood there into the staging folder.

    Parameters
    ----------
    staging : the staging folder, in the output root
    names : pairs of a target below the root and a name below ``staging`` (empty: take the target away), in the order
        in which they are to be done
    folders : made for this below the root, to be taken away again if it does not come off
    fault : called between the steps, with their names; tests end the process there
    exchange : False: as on a file system without atomic exchange

    Raises
    ------
    OSError : everything stands as it stood before
    """
    root = staging.parent
    swaps = [
        Swap(target, staged, i, _inode(staging / staged) if staged else 0, _inode(root / target))
        for i, (target, staged) in enumerate(names)
    ]
    (staging / _ASIDE).mkdir(exist_ok=True)
    _write(staging / _JOURNAL, {"format": _FORMAT, "folders": list(folders), "swaps": [asdict(swap) for swap in swaps]})
    fault("journal")
    try:
        for swap in swaps:
            _do(staging, swap, exchange)
            fault(f"swap {swap.number}")
        for folder in {(root / swap.target).parent for swap in swaps}:
            sync_folder(folder)
    except BaseException:
        roll_back(staging, swaps, folders)
        raise
    _write(staging / _COMMITTED, {})
    fault("committed")


def _write(path: Path, value: object) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def _do(staging: Path, swap: Swap, exchange: bool) -> None:
    target, aside = staging.parent / swap.target, staging / _ASIDE / str(swap.number)
    if not swap.staged:
        if swap.old:
            os.rename(target, aside)
        return
    staged = staging / swap.staged
    if exchange and _rename(staged, target, _EXCHANGE if swap.old else _NOREPLACE):
        return
    if swap.old:
        os.rename(target, aside)
    os.rename(staged, target)


def roll_back(staging: Path, swaps: Sequence[Swap], folders: Sequence[str]) -> None:
    """Undo what was done of ``swaps``, whatever that is; may be interrupted and called again."""
    root = staging.parent
    for swap in reversed(swaps):
        target, aside = root / swap.target, staging / _ASIDE / str(swap.number)
        if swap.new and _inode(target) == swap.new:
            staged = staging / swap.staged
            if swap.old and _inode(staged) == swap.old:
                if not _rename(staged, target, _EXCHANGE):
                    os.rename(staged, aside)
                    os.rename(target, staged)
            else:
                os.rename(target, staged)
        if swap.old and not _inode(target) and _inode(aside) == swap.old:
            os.rename(aside, target)
    for folder in {(root / swap.target).parent for swap in swaps}:
        if folder.is_dir():
            sync_folder(folder)
    remove_folders(root, folders)


def remove_folders(root: Path, folders: Sequence[str]) -> None:
    """Take away folders that were made for nothing, the last made first; those with something in them stay."""
    for folder in reversed(folders):
        try:
            os.rmdir(root / folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST, errno.ENOTDIR):
                raise


def recover(staging: Path) -> None:
    """Clean up after a run that died: undo a publish it did not finish, remove its staging folder.

    Whoever holds the lock of any of its outputs may call this; callers take turns, and the second finds nothing.
    """
    if not staging.name.startswith(PREFIX) or not staging.is_dir():
        return
    try:
        number = os.open(staging / _RECOVERY, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        if not staging.is_dir():
            return
        if (staging / _JOURNAL).exists() and not (staging / _COMMITTED).exists():
            journal = json.loads((staging / _JOURNAL).read_text(encoding="utf-8"))
            roll_back(staging, [Swap(**swap) for swap in journal["swaps"]], journal["folders"])
        remove(staging)
    finally:
        os.close(number)


def remove(staging: Path) -> None:
    """Remove a staging folder whose swaps are all done or all undone: the journal first, which says otherwise."""
    (staging / _JOURNAL).unlink(missing_ok=True)
    sync_folder(staging)
    shutil.rmtree(staging)
