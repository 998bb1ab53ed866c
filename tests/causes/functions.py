"""Step functions that are slow for a known cause, and innocent ones; the files of the cases ship this module."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_LOCK = threading.Lock()
_BLOCK = bytes(1_000_000)


# ---------------------------------------------------------------------------------------------------------------------
# Innocents
# ---------------------------------------------------------------------------------------------------------------------


def digest(i: int, megabytes: int) -> str:
    """Hash: one core's work in C without the GIL, in pieces of a megabyte."""
    found = hashlib.sha256(str(i).encode())
    for _ in range(megabytes):
        found.update(_BLOCK)
    return found.hexdigest()


def wait(i: int, seconds: float) -> int:
    """Sleep, as a task does that waits for a server."""
    time.sleep(seconds)
    return i


def seed(i: int) -> int:
    """Return a number: next to nothing."""
    return i


def last(values: list[Any]) -> int:
    """Return how many values there are."""
    return len(values)


# ---------------------------------------------------------------------------------------------------------------------
# Holding the GIL
# ---------------------------------------------------------------------------------------------------------------------


def count(i: int, n: int) -> int:
    """Count in pure Python."""
    total = 0
    for k in range(n):
        total += (k ^ i) & 7
    return total


def power(i: int, digits: int) -> int:
    """Multiply big integers: a few calls in C that never release the GIL."""
    return (7**digits * 11**digits) & 0xFFFF + i


def objects(i: int, n: int, times: int) -> float:
    """Add up an array of Python objects: numpy holds the GIL for them."""
    values = np.arange(n).astype(object)
    return float(sum((values * k).sum() for k in range(1, times + 1))) + i


def encode(i: int, n: int) -> int:
    """Write and read JSON and search it with a pattern: extensions in C that hold the GIL."""
    text = json.dumps([{"number": k, "text": str(k * i)} for k in range(n)])
    return len(re.findall(r"\d+\d*5", text)) + len(json.loads(text))


# ---------------------------------------------------------------------------------------------------------------------
# Threads and programs of their own
# ---------------------------------------------------------------------------------------------------------------------


def in_threads(i: int, megabytes: int, n: int) -> int:
    """Hash in n threads that the task starts."""
    threads = [threading.Thread(target=digest, args=(i, megabytes)) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return i


_PROGRAM = """
import hashlib, sys, threading
def work():
    found = hashlib.sha256()
    for _ in range(int(sys.argv[1])):
        found.update(bytes(1000000))
threads = [threading.Thread(target=work) for _ in range(int(sys.argv[2]))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def program(i: int, megabytes: int, n: int) -> int:
    """Run a program of n threads, each of which hashes."""
    subprocess.run([sys.executable, "-S", "-c", _PROGRAM, str(megabytes), str(n)], check=True)
    return i


# ---------------------------------------------------------------------------------------------------------------------
# Locks, disks, stopped processes
# ---------------------------------------------------------------------------------------------------------------------


def in_lock(i: int, megabytes: int) -> str:
    """Hash under a lock of the process."""
    with _LOCK:
        return digest(i, megabytes)


def in_file_lock(i: int, megabytes: int) -> str:
    """Hash under a lock that all processes of the user share."""
    with open(Path(tempfile.gettempdir(), f"pipeline-causes-{os.getuid()}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return digest(i, megabytes)


def synced(i: int, n: int, kilobytes: int) -> int:
    """Write a file and wait for the disk after each of n pieces."""
    with tempfile.NamedTemporaryFile(dir=os.environ.get("PIPELINE_CAUSES_DISK") or "/var/tmp") as file:
        for _ in range(n):
            file.write(bytes(kilobytes * 1000))
            file.flush()
            os.fsync(file.fileno())
    return i


def stopped(i: int, megabytes: int, seconds: float) -> str:
    """Hash; item 3 is stopped meanwhile, where it runs in a process of its own."""
    if i == 3 and _in_worker():
        again = f"import os, signal, time; time.sleep({seconds}); os.kill({os.getpid()}, signal.SIGCONT)"
        waker = subprocess.Popen([sys.executable, "-S", "-c", again], start_new_session=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        waker.wait()
    return digest(i, megabytes)


def _in_worker() -> bool:
    if multiprocessing.parent_process() is not None:
        return True
    with contextlib.suppress(ImportError, ValueError):
        from distributed import get_worker

        return get_worker() is not None
    return False


# ---------------------------------------------------------------------------------------------------------------------
# Moving data, memory
# ---------------------------------------------------------------------------------------------------------------------


def frame(i: int, rows: int) -> pd.DataFrame:
    """Return a frame of four columns."""
    return pd.DataFrame({name: np.arange(rows, dtype=float) + i for name in "abcd"})


def array(i: int, megabytes: int) -> np.ndarray:
    """Return an array."""
    return np.full(megabytes * 125_000, float(i))


def total(values: list[Any], i: int) -> float:
    """Return the total length of many values."""
    return float(sum(len(value) for value in values) + i)


def stream(i: int, megabytes: int, passes: int) -> float:
    """Read and write more memory than any cache holds, and compute next to nothing."""
    source = np.full(megabytes * 125_000, float(i))
    out = np.empty_like(source)
    for k in range(passes):
        np.copyto(out, source)
        np.copyto(source, out)
        source[0] += k
    return float(out[0])


# ---------------------------------------------------------------------------------------------------------------------
# Structure
# ---------------------------------------------------------------------------------------------------------------------


def one_long(i: int, megabytes: int, times: int, item: int) -> str:
    """Hash; one item takes many times as long as the others."""
    return digest(i, megabytes * (times if i == item else 1))


def link(before: Any, megabytes: int, i: int = 0) -> str:
    """Run one link of a chain: it needs the result of the link before it."""
    return digest(len(str(before)), megabytes)


def late_import(i: int, seconds: float, megabytes: int) -> str:
    """Hash; the first call in each process loads something for some seconds, as an import in a function does."""
    if not _LOADED:
        ends = time.thread_time() + seconds
        while time.thread_time() < ends:
            digest(i, 1)
        _LOADED.append(i)
    return digest(i, megabytes)


_LOADED: list[int] = []
