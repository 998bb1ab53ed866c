"""The tasks of test_backends.py, apart from it: a worker imports this alone, and none of the test's own imports."""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError, WriteError
from pipeline.graph.importing import resolve
from pipeline.graph.segments import Dropped


def square(x: int) -> int:
    return x * x


def explode(x: int) -> int:
    if x == 2:
        raise ValueError("too high")
    return x


def find_damage(x: int) -> int:
    if x == 2:
        raise DataError("x.csv: can't be read")
    return x


def fill_the_disk(x: int) -> int:
    if x == 2:
        raise WriteError.of("x.csv", OSError(errno.ENOSPC, "full"))
    return x


def leave(x: int) -> int:
    if x == 2:
        sys.exit(3)
    return x


def lock_of(x: int) -> Any:
    return threading.Lock() if x == 2 else x


class Stubborn(Exception):
    """Pickles, but can't be unpickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def be_stubborn(x: int) -> int:
    if x == 2:
        raise Stubborn(1, 2)
    return x


class OneWay:
    """A value that pickles, but can't be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return operator.truediv, (1, 0)


def one_way(x: int) -> Any:
    return OneWay() if x == 2 else x


def kill_worker(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def exit_worker(x: int) -> int:
    if x == 2:
        os._exit(0)
    return x


def once(x: int, folder: str, action: str) -> int:
    """The first two times it is called with 2, something bad."""
    if x == 2:
        tries = len(os.listdir(folder))
        if tries < (1 if action == "kill" else 2):
            Path(folder, str(tries)).touch()
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("not now")
    return x * x


def never_return(x: int) -> int:
    if x == 2:
        threading.Event().wait()
    return x


def take_a_while(x: int) -> int:
    if x == 2:
        time.sleep(0.05)
    return x


def big(n: int) -> np.ndarray:
    return np.full(n, 1.0)


def change(x: np.ndarray) -> float:
    x[0] = 5.0  # a task may change its own copy
    return float(x.sum())


def call_shipped() -> Any:
    return resolve("shipped_for_tests:answer")()


def drop_two(x: int) -> Any:
    return Dropped("no good") if x == 2 else x


def hang_once(folder: str) -> int:
    if not os.listdir(folder):
        Path(folder, "tried").touch()
        threading.Event().wait()
    return 7


def worker_id(x: int) -> int:
    return os.getpid()


def make_small(n: int) -> np.ndarray:
    return np.ones((n, n)) @ np.ones((n, n))


def fork_and_return(x: int) -> int:
    """Comes back twice, the second time in a process that it forked; there by an exception where x is 3."""
    if x > 1 and os.fork() == 0 and x == 3:
        raise ValueError("in the copy")
    return x


def leave_a_fork(x: int, folder: str) -> int:
    """The first time: forks a process that waits for ever, with all files that are open here, and ends this one."""
    if x == 2 and not os.listdir(folder):
        Path(folder, "forked").touch()
        if os.fork() == 0:
            threading.Event().wait()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def close_files(x: int) -> int:
    if x == 2:
        os.closerange(3, 256)
    return x


_OPENED: list[Any] = []


def open_files(x: int) -> int:
    """Open as many files as the process may, and keep them."""
    if x == 2:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with contextlib.suppress(OSError):
            while True:
                _OPENED.append(open(os.devnull))  # noqa: SIM115 - kept open
    return x


def hold(x: int, folder: str, limits: dict[str, int], meet: int = 1) -> int:
    """Have a place of each limit: waits until ``meet`` tasks have had one at once; returns the most that had one."""
    most = 0
    for name in limits:
        Path(folder, f"{name}-holds-{x}").touch()
    deadline = time.monotonic() + 60
    while True:
        for name, limit in limits.items():
            n = len(list(Path(folder).glob(f"{name}-holds-*")))
            most = max(most, n)
            assert n <= limit, f"{n} tasks have a place of {name}"
            for i in range(n):
                Path(folder, f"{name}-seen-{i + 1}").touch()
        if all(Path(folder, f"{name}-seen-{meet}").exists() for name in limits):
            break
        assert time.monotonic() < deadline, f"no {meet} tasks had a place at once"
        time.sleep(0.005)
    for name in limits:
        Path(folder, f"{name}-holds-{x}").unlink()
    return most


def hold_until(x: int, folder: str, limits: dict[str, int]) -> int:
    """The first has its place until a file says that a task without one has run."""
    deadline = time.monotonic() + 60
    while not Path(folder, "free-ran").exists():
        assert time.monotonic() < deadline, "no worker was free"
        time.sleep(0.005)
    return hold(x, folder, limits)


def when_there(x: int, path: str) -> int:
    """The number, as soon as there is a file."""
    deadline = time.monotonic() + 60
    while not Path(path).exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.005)
    return x


def run_free(folder: str) -> str:
    Path(folder, "free-ran").touch()
    return "free"


def hold_or_die(x: int, folder: str, limits: dict[str, int]) -> int:
    """The second dies with its place, the first time."""
    if x == 1 and not Path(folder, "died").exists():
        Path(folder, "died").touch()
        Path(folder, f"{next(iter(limits))}-holds-{x}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return hold(x, folder, limits)


def hold_or_fail(x: int, folder: str, limits: dict[str, int]) -> int:
    """The second fails twice, while it has its place."""
    tries = len(list(Path(folder).glob("failed-*")))
    found = hold(x, folder, limits)
    if x == 1 and tries < 2:
        Path(folder, f"failed-{tries}").touch()
        raise OSError("not now")
    return found
