"""Put many staged files and folders into place: a journal first, then one atomic rename each.

The steps are ``journal.json`` in the staging folder, one rename per target, the mark ``committed``. Until the mark
exists, :func:`pipeline.outputs.recovery.roll_back` can undo everything from the journal and the folders alone: a rename
keeps the inode, so the inodes in the journal show which renames were done. The journal is therefore written only once,
and a roll-back that is interrupted can be repeated.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.outputs.files import sync_folder
from pipeline.outputs.target_paths import is_below
from pipeline.worker.atomic_write import replacing

__all__ = ["Journal", "Swap", "exchange_names", "inode", "is_committed", "rename_all"]

_JOURNAL, _COMMITTED, _ASIDE = "journal.json", "committed", ".aside"
# 1: folders, swaps.
_FORMAT = 1
_CURE = "restore the outputs beside it by hand, then delete its folder"

# of renameat2(2)
_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Swap:
    """One target that gets another file or folder.

    Parameters
    ----------
    target : path below the output root
    staged : path below the staging folder of what takes its place; empty: the target is only removed
    number : position of the swap; the old data may be moved to a path with this number
    new, old : inodes of the new and of the old file or folder; 0: there is none
    """

    target: str
    staged: str
    number: int
    new: int = 0
    old: int = 0

    def aside(self, staging: Path) -> Path:
        """Return the path that the old data is moved to where two names can't be exchanged in one step."""
        return staging / _ASIDE / str(self.number)


@dataclass(frozen=True)
class Journal:
    """What a commit is about to do, written before its first rename.

    Parameters
    ----------
    folders : made for this commit below the output root, parents first
    swaps : in the order in which they are done
    """

    folders: tuple[str, ...]
    swaps: tuple[Swap, ...]

    @classmethod
    def load(cls, staging: Path) -> Journal | None:
        """Read the journal of a staging folder; None if no rename was begun there.

        Raises
        ------
        OutputError : if it is damaged, or names a path that is not below the output root
        """
        place = staging / _JOURNAL
        try:
            found = json.loads(place.read_text(encoding="utf-8"))
            journal = cls(tuple(found["folders"]), tuple(Swap(**swap) for swap in found["swaps"]))
            names = [*journal.folders, *(name for s in journal.swaps for name in (s.target, s.staged) if name)]
            outside = [name for name in names if not is_below(name)]
            if not all(type(n) is int for s in journal.swaps for n in (s.number, s.new, s.old)):
                raise TypeError("a number is of another type")
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise OutputError(f"{place}: the journal is damaged: {error}; {_CURE}") from None
        if outside:
            raise OutputError(f"{place}: names {outside[0]!r}, which is not below the output root; {_CURE}")
        return journal

    def save(self, staging: Path) -> None:
        """Write the journal, durably."""
        swaps = [asdict(swap) for swap in self.swaps]
        _write_durably(staging / _JOURNAL, {"format": _FORMAT, "folders": list(self.folders), "swaps": swaps})

    @staticmethod
    def remove(staging: Path) -> None:
        """Remove the journal, durably."""
        (staging / _JOURNAL).unlink(missing_ok=True)
        sync_folder(staging)


def is_committed(staging: Path) -> bool:
    """Return whether all renames of this staging folder were done, so that none may be undone any more."""
    return (staging / _COMMITTED).exists()


def rename_all(
    staging: Path,
    names: Iterable[tuple[str, str]],
    folders: Sequence[str],
    *,
    on_stage: Callable[[str], None],
    exchange: bool = True,
) -> None:
    """Put each staged file or folder in its target's place, and the old data into the staging folder.

    Parameters
    ----------
    staging : the staging folder, directly below the output root
    names : pairs of a target below the root and a path below ``staging`` (empty: the target is only removed), in the
        order in which they are done
    folders : made for this commit below the root, parents first
    on_stage : called with the name of each stage when it is done; tests end the process there
    exchange : False: as on a file system that can't exchange two names in one step

    Raises
    ------
    OSError : some renames may have been done; :func:`pipeline.outputs.recovery.roll_back` undoes them
    """
    root = staging.parent
    swaps = tuple(
        Swap(target, staged, i, inode(staging / staged) if staged else 0, inode(root / target))
        for i, (target, staged) in enumerate(names)
    )
    (staging / _ASIDE).mkdir(exist_ok=True)
    Journal(tuple(folders), swaps).save(staging)
    on_stage("journal")
    for swap in swaps:
        _swap(staging, swap, exchange)
        on_stage(f"swap {swap.number}")
    for folder in {(root / swap.target).parent for swap in swaps}:
        sync_folder(folder)
    _write_durably(staging / _COMMITTED, {})
    on_stage("committed")


def _swap(staging: Path, swap: Swap, exchange: bool) -> None:
    target, aside = staging.parent / swap.target, swap.aside(staging)
    if not swap.staged:
        if swap.old:
            os.rename(target, aside)
        return
    staged = staging / swap.staged
    if exchange and (exchange_names(staged, target) if swap.old else _renameat2(staged, target, _NOREPLACE)):
        return
    if swap.old:
        os.rename(target, aside)
    os.rename(staged, target)


def exchange_names(one: Path, other: Path) -> bool:
    """Exchange two existing files or folders in one step; return False where the system can't."""
    return _renameat2(one, other, _EXCHANGE)


def inode(path: Path) -> int:
    """Return the inode number of a path, links not followed; 0 if there is nothing."""
    try:
        return os.lstat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _renameat2(source: Path, target: Path, flags: int) -> bool:
    """Call ``renameat2``; return False where the system or the file system doesn't have it."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


def _write_durably(path: Path, value: object) -> None:
    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
