"""Pauses that end with the run, and a rate that all threads and processes of a machine share.

The next free moment of each rate is in a small file of the user's in the temp folder; a process that is killed while
it waits holds up nobody. Workers on other machines have files of their own: on n machines the rate is n times as high.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from pipeline.errors import BackendError
from pipeline.worker.subprocesses import is_stopping
from pipeline.worker.temp_folders import user_folder

__all__ = ["pause", "postpone", "require_running", "take_turn"]

_SLICE = 0.1  # seconds between looks at whether the run has ended
_MOMENT = struct.Struct("<d")
_UNUSED = 3600.0  # seconds after which the file of a rate is removed


def require_running() -> None:
    """Do nothing while the run goes on.

    Raises
    ------
    BackendError : if the back end of this thread is being left
    """
    if is_stopping():
        raise BackendError("the run has ended")


def pause(seconds: float) -> None:
    """Wait.

    Raises
    ------
    BackendError : if the run ends meanwhile
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        require_running()
        time.sleep(min(left, _SLICE))


def take_turn(name: str, per_second: float, *, within: float | None = None) -> bool:
    """Wait for the next turn of a rate, so that there are never more than ``per_second``.

    Parameters
    ----------
    name : whose rate it is: a site, a file
    within : seconds; if the next turn comes later it is not taken, and nothing waits

    Returns
    -------
    bool : whether the turn was taken
    """
    now = time.monotonic()
    turn = now

    def next_after(free: float) -> float:
        nonlocal turn
        turn = max(now, free)
        return free if within is not None and turn - now > within else turn + 1 / per_second

    _change(name, next_after)
    if within is not None and turn - now > within:
        return False
    pause(turn - now)
    return True


def postpone(name: str, seconds: float) -> None:
    """Let the next turn of a rate come no sooner than in ``seconds``, for everyone on this machine."""
    _change(name, lambda free: max(free, time.monotonic() + seconds))


def _change(name: str, change: Callable[[float], float]) -> None:
    """Replace the next free moment of a rate, on the monotonic clock, which all processes of a machine share."""
    path = _folder() / f"{hashlib.sha256(f'{_boot()} {name}'.encode()).hexdigest()[:32]}"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    stored = os.pread(descriptor, _MOMENT.size, 0)
                    free = _MOMENT.unpack(stored)[0] if len(stored) == _MOMENT.size else 0.0
                    os.pwrite(descriptor, _MOMENT.pack(change(free)), 0)
                    return
        finally:
            os.close(descriptor)


def _folder() -> Path:
    path = user_folder() / "rates"
    path.mkdir(mode=0o700, exist_ok=True)
    _remove_unused(str(path))
    return path


@cache
def _remove_unused(folder: str) -> None:
    """Remove the files of rates that nobody has used for an hour; once in each process."""
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            if time.time() - entry.stat().st_mtime > _UNUSED:
                os.unlink(entry.path)


@cache
def _boot() -> str:
    """Return what distinguishes this boot of the machine from others: the monotonic clock begins anew with each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(round((time.time() - time.monotonic()) / 60))
