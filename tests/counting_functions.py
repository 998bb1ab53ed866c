"""Functions of a user that count in shared objects, for test_shared_values.py."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from pipeline import shared

seen = shared.Value("seen", "q")
unlocked = shared.Value("unlocked", "q", 7, lock=False)
sums = shared.Array("sums", "d", 3)
by_letter = shared.Array("by letter/../x", "i", [1, 2, 3])


def count(x: int, n: int) -> int:
    for _ in range(n):
        with seen.get_lock():
            seen.value += 1
    sums[x % 3] = float(x)
    return os.getpid()


def total(*before: object) -> tuple[int, int, list[float], list[int]]:
    return seen.value, unlocked.value, list(sums), by_letter[:]


def die_with_the_lock(x: int, folder: str) -> int:
    """The first time: killed while it holds the lock."""
    with seen.get_lock():
        seen.value += 1
        if not os.listdir(folder):
            Path(folder, "tried").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return seen.value


def keep_the_lock(x: int) -> int:
    seen.get_lock().acquire()
    seen.value += 1
    return x


def in_a_thread(x: int) -> int:
    """Counts in a thread of its own."""
    thread = threading.Thread(target=count, args=(x, 10))
    thread.start()
    thread.join()
    return x
