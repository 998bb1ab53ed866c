"""Where the wall time of one run goes: parts that add up to the whole, since one clock is read at consecutive marks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["PARTS", "WallTime", "process_age"]

PARTS: Mapping[str, str] = {
    "loading": "Python, imports, reading the file",
    "metadata": "reading the metadata of inputs",
    "planning": "building the task graph",
    "start-up": "fusing tasks, starting the workers",
    "running": "tasks, until the outputs are verified",
    "checks": "checks of the file",
    "commit": "committing the outputs",
    "after": "ending the workers, hashing inputs, writing the run folder",
}
"""Part of the wall time -> what is done in it, in the order of a run."""


class WallTime:
    """A clock that gives every moment since it was made to one part of :data:`PARTS`.

    Each :meth:`mark` gives the time since the mark before it to a part, so the parts always add up to ``total``.

    Parameters
    ----------
    before : seconds that had passed when it was made; they are part of ``loading``
    clock : nanoseconds that only grow
    """

    def __init__(self, *, before: float = 0.0, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock = clock
        self._last = clock()
        self._parts = dict.fromkeys(PARTS, 0)
        self._parts["loading"] = round(before * 1e9)

    def mark(self, part: str) -> None:
        """Give the time since the last mark to a part."""
        now = self._clock()
        self._parts[part] += now - self._last
        self._last = now

    def move(self, seconds: float, *, source: str, target: str) -> None:
        """Give some seconds of one part to another, at most all that it has: they were measured inside of it."""
        moved = min(max(round(seconds * 1e9), 0), self._parts[source])
        self._parts[source] -= moved
        self._parts[target] += moved

    @property
    def parts(self) -> dict[str, float]:
        """Return the seconds of each part up to the last mark; 0 for a part that there was not."""
        return {part: ns / 1e9 for part, ns in self._parts.items()}

    @property
    def total(self) -> float:
        """Return the seconds from the beginning to the last mark."""
        return sum(self._parts.values()) / 1e9


def process_age() -> float:
    """Return the seconds since this process began, the start of the interpreter included.

    It began with the fork: a script that ends with ``exec pipeline run`` is the same process.
    """
    try:  # psutil counts from a boot time in whole seconds, which is wrong by up to one
        began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, ValueError, IndexError, AttributeError):  # no Linux
        import psutil  # 10 ms that a command needs nowhere else before it runs

        age = time.time() - psutil.Process().create_time()
    return max(age, 0.0)
