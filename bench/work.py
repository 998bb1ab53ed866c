"""The user's functions: shipped to the workers by the YAML files, imported by what is written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from time import thread_time
from typing import Any

__all__ = ["add_one", "burn", "nothing", "total"]


def burn(number: int, seconds: float) -> int:
    """``number`` again, after ``seconds`` of this thread's CPU time.

    CPU time and not a number of rounds: the speed of a core changes from second to second on shared machines, and
    what is to be seen is what lies around the tasks.
    """
    end = thread_time() + seconds
    while thread_time() < end:
        pass
    return number


def add_one(block: Any, seconds: float) -> Any:
    """A numpy block, each value one higher, after ``seconds`` of CPU time."""
    burn(0, seconds)
    return block + 1


def total(numbers: Sequence[int]) -> int:
    """The sum."""
    return sum(numbers)


def nothing(number: int) -> int:
    """``number`` again, at once."""
    return number
