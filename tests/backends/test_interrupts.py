"""A signal that comes while something is started is handled when it has started, whichever thread takes it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pipeline.backends.interrupts import interrupts_blocked


class Ended(Exception):
    """What the handler of the test raises."""


@pytest.fixture
def taken() -> Iterator[int]:
    """A pipe that tells that a thread, other than this one, has taken a signal."""
    done = threading.Event()
    other = threading.Thread(target=done.wait, name="takes signals")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def end(number: int, frame: object) -> None:
        raise Ended

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    other.start()
    signal.set_wakeup_fd(writing)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        done.set()
        other.join()
        os.close(reading)
        os.close(writing)


def started(passed: list[str], number: int, taken: int, *, nested: bool = False) -> None:
    """Start something, and note how far that came; the signal comes in the middle of it."""
    with interrupts_blocked():
        if nested:
            started(passed, number, taken)
        else:
            os.kill(os.getpid(), number)
            assert os.read(taken, 1) == bytes([number])
        passed.append("the end of the block")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("nested", [False, True])
def test_a_signal_is_handled_when_the_block_is_left(taken: int, number: int, nested: bool) -> None:
    passed: list[str] = []
    with pytest.raises(Ended):
        started(passed, number, taken, nested=nested)
    assert passed == ["the end of the block"] * (1 + nested)
