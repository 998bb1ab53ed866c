"""Start threads and processes that never see Ctrl-C, and are not half started when it comes."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

__all__ = ["interrupts_blocked"]


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT in this thread; a signal that comes meanwhile, SIGTERM too, is handled at the end.

    Ctrl-C reaches every process of the terminal's group. Threads and processes inherit the blocked signal, also through
    ``exec``: so workers never see it, and only their parent ends them.
    """
    resource_tracker.ensure_running()  # multiprocessing unblocks SIGINT in the thread that starts this process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _handled_later():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _handled_later() -> Iterator[None]:
    """Have the handlers of this process run after the block.

    Another thread takes a signal that this one has blocked, and then Python runs its handler in the main thread.
    """
    came: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():  # nowhere else do handlers run, or can they be set
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)
