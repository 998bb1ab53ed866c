"""What the tasks of the tour do: compute in Python, wait, compute in numpy, and so on."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np


def count(n: int) -> int:
    """Compute in Python for a while: the sum of ``n`` small numbers."""
    total = 0
    for i in range(n):
        total += i * i % 7
    return total


def wait(seconds: float, n: int = 0) -> float:
    """Wait, as for an answer from the network; ``n`` only tells calls apart."""
    time.sleep(seconds)
    return seconds


def use(found: float, seconds: float, n: int) -> float:
    """Wait, as for something that is done with what was found."""
    time.sleep(seconds)
    return found * n


def wait_then_count(seconds: float, n: int) -> int:
    """Wait, then compute."""
    time.sleep(seconds)
    return count(n)


def roots(seed: int, size: int) -> float:
    """Compute in numpy, which lets other threads run meanwhile."""
    x = np.full(size, 1.0 + seed)
    for _ in range(6):
        x = np.sqrt(x) + 1.0
    return float(x[0])


def product(seed: int, size: int) -> float:
    """Multiply two matrices, which BLAS does with as many threads as it is given."""
    x = np.full((size, size), 1.0 / (seed + 1))
    for _ in range(3):
        x = x @ x / size
    return float(x[0, 0])


def block(seed: int, megabytes: int) -> np.ndarray:
    """Return an array of so many million bytes."""
    return np.full(megabytes * 125_000, float(seed))


def number(x: np.ndarray, place: int) -> float:
    """Read one number of an array."""
    return float(x[place])


_kept: list[bytearray] = []


def leak(megabytes: int, n: int) -> int:
    """Keep memory that is never freed, as a faulty library does."""
    _kept.append(bytearray(os.urandom(1)) * (megabytes * 1_000_000))
    time.sleep(0.1)  # the peak of memory is looked for every now and then
    return n


# ---------------------------------------------------------------------------------------------------------------------
# Fork beside threads
# ---------------------------------------------------------------------------------------------------------------------

_lock = threading.Lock()


def _needs_lock() -> None:
    sys.exit(0 if _lock.acquire(timeout=0.5) else 1)


def child_gets_lock(start_method: str) -> int:
    """Start a process while a thread of this one holds a lock; return 1 if the process can take its own such lock."""
    taken, over = threading.Event(), threading.Event()

    def hold() -> None:
        with _lock:
            taken.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    try:
        child = multiprocessing.get_context(start_method).Process(target=_needs_lock)
        child.start()
        child.join()
        return int(child.exitcode == 0)
    finally:
        over.set()
        thread.join()


# ---------------------------------------------------------------------------------------------------------------------
# Two processes that print
# ---------------------------------------------------------------------------------------------------------------------

_PRINTER = """
import fcntl, sys, time
lock = open(sys.argv[2]) if len(sys.argv) > 2 else None
for i in range(40):
    if lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    for part in (sys.argv[1], sys.argv[1], "\\n"):
        print(part, end="", flush=True)
        time.sleep(0.001)
    if lock:
        fcntl.flock(lock, fcntl.LOCK_UN)
"""


def torn_lines(locked: bool) -> int:
    """Have two processes print ``aa`` and ``bb`` to one pipe at the same time; return the number of other lines."""
    with tempfile.NamedTemporaryFile() as lock:
        read, write = os.pipe()
        more = [lock.name] if locked else []
        printers = [subprocess.Popen([sys.executable, "-c", _PRINTER, name, *more], stdout=write) for name in "ab"]
        os.close(write)
        with os.fdopen(read) as pipe:
            lines = pipe.read().split("\n")
        for printer in printers:
            printer.wait()
    return sum(line not in ("aa", "bb", "") for line in lines)
