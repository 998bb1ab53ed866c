"""Which segment may run next: no clock, no I/O, no workers. One object drives a real run, or a replayed one.

A segment is a number here, and the numbers are the order in which a single worker should run them (coarsening numbers
them depth first, so that what was made is used soon). Of the segments that can run, the lowest is next: with several
workers the run then stays close to that order, and so does the memory.

Rejected: the newest ready segment first, which needs no numbering, but starts every branch of a wide graph at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

__all__ = ["Progress", "Scheduler"]


class Progress(NamedTuple):
    """What a finished segment changed.

    Parameters
    ----------
    ready : the segments that can run since
    released : the values that nothing needs any more
    """

    ready: list[int]
    released: list[Hashable]


class Scheduler:
    """The state of one run.

    Each segment is in one of these states; ``take``, ``again`` and ``finish`` move it along::

        waiting ── all it needs is finished ──> ready ── take ──> running ── finish ──> finished
                                                  ^                  │
                                                  └───── again ──────┘

    A value is held from the finish of the segment that makes it until the finish of the last that needs it, and to the
    end if it is wanted.

    Parameters
    ----------
    inputs : for each segment the values it needs; one that no segment makes is there from the start
    outputs : for each segment the values it makes
    wanted : the values that are never released
    """

    def __init__(
        self,
        inputs: Sequence[Sequence[Hashable]],
        outputs: Sequence[Sequence[Hashable]],
        wanted: Iterable[Hashable] = (),
    ) -> None:
        maker = {value: number for number, values in enumerate(outputs) for value in values}
        needs = [{maker[value] for value in values if value in maker} for values in inputs]
        self._inputs, self._outputs = inputs, outputs
        self._users: list[list[int]] = [[] for _ in inputs]
        for number, needed in enumerate(needs):
            for other in needed:
                self._users[other].append(number)
        self._missing = [len(needed) for needed in needs]
        self._uses: dict[Hashable, int] = dict.fromkeys(wanted, 1)  # a use that never ends
        for values in inputs:
            for value in values:
                self._uses[value] = self._uses.get(value, 0) + 1
        self._ready = [number for number, n in enumerate(self._missing) if not n]  # ascending: a heap already
        self._running: set[int] = set()
        self._left = len(inputs)

    @property
    def done(self) -> bool:
        """Whether every segment has finished."""
        return not self._left

    @property
    def ready(self) -> tuple[int, ...]:
        """The segments that could run now, lowest first."""
        return tuple(sorted(self._ready))

    @property
    def n_ready(self) -> int:
        """How many segments could run now."""
        return len(self._ready)

    @property
    def n_running(self) -> int:
        """How many segments have been taken and not finished."""
        return len(self._running)

    def take(self) -> int:
        """The segment to run next, which is running from now on.

        Raises
        ------
        IndexError : if none is ready
        """
        number = heapq.heappop(self._ready)
        self._running.add(number)
        return number

    def again(self, number: int) -> None:
        """Let a running segment be taken once more: it failed, or its worker was lost."""
        self._running.remove(number)
        heapq.heappush(self._ready, number)

    def finish(self, number: int) -> Progress:
        """Say that a running segment has finished, and learn what that changed."""
        self._running.remove(number)
        self._left -= 1
        ready: list[int] = []
        for user in self._users[number]:
            self._missing[user] -= 1
            if not self._missing[user]:
                heapq.heappush(self._ready, user)
                ready.append(user)
        released: list[Hashable] = [value for value in self._outputs[number] if value not in self._uses]
        for value in self._inputs[number]:
            self._uses[value] -= 1
            if not self._uses[value]:
                released.append(value)
        return Progress(ready, released)
