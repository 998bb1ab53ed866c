"""Ctrl-C and SIGTERM as exceptions that end the program once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Interrupted", "Terminated", "raising"]

_SOON = 0.01  # seconds
_PATIENCE = 5.0  # seconds of cleaning up in which further signals are ignored


class Interrupted(KeyboardInterrupt):
    """Ctrl-C."""

    exit_code, name = 130, "Ctrl-C"


class Terminated(KeyboardInterrupt):
    """SIGTERM as an exception, so that it is cleaned up after as Ctrl-C is."""

    exit_code, name = 143, "SIGTERM"


_KINDS: dict[int, type[Interrupted | Terminated]] = {signal.SIGINT: Interrupted, signal.SIGTERM: Terminated}


class _Signals:
    """States: none came -> raised -> cleaning up, where others are ignored -> after ``_PATIENCE`` the next one ends.

    Python swallows an exception in a finalizer or a callback of the garbage collector and prints it; then it is raised
    again, after that.
    """

    def __init__(self) -> None:
        self._raised: float | None = None
        self._report_swallowed = sys.unraisablehook

    def handle(self, number: int, frame: FrameType | None) -> None:
        kind, now = _KINDS[number], time.monotonic()
        if self._raised is None:
            self._raised = now
            raise kind
        if now - self._raised > _PATIENCE:
            os.write(2, f"pipeline: error: ended by {kind.name} before everything was cleaned up.\n".encode())
            os._exit(kind.exit_code)

    def swallowed(self, what: Any) -> None:
        if issubclass(what.exc_type, (Interrupted, Terminated)):
            self._raised = None
            number = signal.SIGINT if what.exc_type is Interrupted else signal.SIGTERM
            again = threading.Timer(_SOON, os.kill, [os.getpid(), number])  # not here, where it is swallowed again
            again.daemon = True
            again.start()
        else:
            self._report_swallowed(what)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Have the first Ctrl-C or SIGTERM within the block raise an exception, and the next not interrupt the cleaning up.

    Ctrl-C stays ignored where it is, as in a shell's background.
    """
    signals = _Signals()
    numbers = [n for n in _KINDS if n == signal.SIGTERM or signal.getsignal(n) is not signal.SIG_IGN]
    try:
        before = {n: signal.signal(n, signals.handle) for n in numbers}
    except ValueError:  # not in the main thread, where signals cannot be handled
        yield
        return
    sys.unraisablehook = signals.swallowed
    try:
        yield
    finally:
        sys.unraisablehook = signals._report_swallowed
        for number, handler in before.items():
            signal.signal(number, handler)
