"""The tasks of test_compare.py, apart from it: a measured run imports this alone, and none of the tests."""

from __future__ import annotations

import math
import os
import signal
import threading
from pathlib import Path


def process_id(i):
    return os.getpid()


def fails_off_the_main_thread(i):
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("not here")
    return i


def refuses(i):
    raise ValueError("no")


def dies_in_threads(i):
    if threading.current_thread() is not threading.main_thread():
        os.kill(os.getpid(), signal.SIGKILL)
    return i


def by_hand(n):
    return {"all": [math.factorial(i) for i in range(n)]}


def waits(folder, i):
    Path(folder, "started").write_text(str(os.getpid()))
    signal.pause()
