"""Start threads and processes that never see Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker

__all__ = ["interrupts_blocked"]


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT in this thread; a signal that comes meanwhile is delivered at the end.

    Ctrl-C reaches every process of the terminal's group. Threads and processes inherit the blocked signal, also through
    ``exec``: so workers never see it, and only their parent ends them.
    """
    resource_tracker.ensure_running()  # multiprocessing unblocks SIGINT in the thread that starts this process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
