"""The tasks of test_process_per_task.py, apart from it: a worker imports this alone, and none of the tests."""

from __future__ import annotations

import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any


def put_and_end(queue: Queue[Any], n: int) -> None:
    """Put n bytes, and end as the standard library does it: when all of them are written."""
    queue.put(bytes(n))


def put_and_forget(queue: Queue[Any], n: int) -> None:
    queue.put(bytes(n))
    queue.cancel_join_thread()


def be_cut_off(x: int, folder: str) -> int:
    """The first time with 2: have this process killed when the first half of its result is written."""

    def half(self: Connection, data: bytes) -> None:
        os.write(self.fileno(), data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    if x == 2 and not os.listdir(folder):
        Path(folder, "cut").touch()
        Connection._send = half  # type: ignore[attr-defined]
    return x * x


def die_at_the_end(x: int, folder: str) -> int:
    """Have this process killed when it has nothing more to do."""
    Path(folder, f"{x}-{os.getpid()}").touch()
    Finalize(None, os.kill, (os.getpid(), signal.SIGKILL), exitpriority=0)
    return x * x


def burn(x: int) -> int:
    """Use a fifth of a second of CPU time of its thread."""
    began = time.thread_time()
    while time.thread_time() - began < 0.2:
        pass
    return x


def leave_a_thread(x: int) -> int:
    threading.Thread(target=threading.Event().wait).start()
    return x


def wait_for_file(x: int, wanted: str, ended: str) -> int:
    """With 0: return when a file is there; else make one at the end."""
    while x == 0 and not os.path.exists(wanted):
        time.sleep(0.01)
    if x:
        Path(ended).touch()
    return x


def end_by_itself(path: str) -> None:
    """Have this process make a file when it ends, unless it is killed."""
    Finalize(None, Path(path).touch, exitpriority=0)


def files_in(folder: str) -> list[str]:
    return os.listdir(folder)
