"""The tasks of test_faults.py, apart from it: a worker imports this alone, and none of the tests."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from typing import Any

from pipeline.backends.base import Backend
from pipeline.backends.registry import create


def opened(name: str) -> Backend:
    """A back end of two workers, to be entered."""
    options: dict[str, Any] = {"dashboard": False} if name == "dask" else {"start_method": "forkserver"}
    return create(name, workers=2, **options)


def leave_processes(x: int) -> int:
    """Leave a child, a child in a session of its own, a fork, and a daemon whose parents have ended."""
    subprocess.Popen(["sleep", "3600"])
    subprocess.Popen(["sleep", "3600"], start_new_session=True)
    if os.fork() == 0:
        threading.Event().wait()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            threading.Event().wait()
        os._exit(0)
    return x


def stop_itself(x: int) -> int:
    os.kill(os.getpid(), signal.SIGSTOP)
    threading.Event().wait()  # the signal may reach this thread a little later than others: it must not return first
    return x


def keep_the_gil(x: int) -> int:
    ctypes.PyDLL(None).sleep(3600)
    return x
