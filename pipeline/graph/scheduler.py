"""Decide which segment runs next and which values can be freed; used by real runs and by replays.

It has no clock, does no I/O and knows no workers. A segment is a number, and the numbers are the order in which a
single worker should run them (fusion numbers them depth first, so that values are used soon after they are computed).
Of the segments that are ready, the one with the lowest number runs next: with several workers the run then stays close
to that order, and so does the memory that it needs. Those whose limits are used up wait meanwhile, and others run.

Rejected: the segment that became ready last, which needs no numbers, but starts every branch of a wide graph at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pipeline.graph.limits import ReadySegments

__all__ = ["Progress", "Scheduler"]


class Progress(NamedTuple):
    """What changed when a segment finished.

    Parameters
    ----------
    ready : segments that can run now
    released : values that no segment needs any more
    """

    ready: list[int]
    released: list[Hashable]


class Scheduler:
    """The scheduling state of one run. Not thread-safe.

    Each segment is in one of these states::

        waiting ── all it needs has finished ──> ready ── take ──> running ── finish ──> finished
                                                   ^                  │
                                                   └───── again ──────┘

    From take to finish or again it has a place of each limit that it uses.

    A value is kept from the end of the segment that computes it until the end of the last one that needs it; a wanted
    value is kept to the end.

    Parameters
    ----------
    inputs : for each segment the values it needs; a value that no segment computes is available from the start
    outputs : for each segment the values it computes
    wanted : values that are never released
    uses, limits : see :class:`pipeline.graph.limits.ReadySegments`
    """

    def __init__(
        self,
        inputs: Sequence[Sequence[Hashable]],
        outputs: Sequence[Sequence[Hashable]],
        wanted: Iterable[Hashable] = (),
        *,
        uses: Sequence[Sequence[str]] = (),
        limits: Mapping[str, int] | None = None,
    ) -> None:
        maker = {value: number for number, values in enumerate(outputs) for value in values}
        self._inputs, self._outputs = inputs, outputs
        self._users: list[list[int]] = [[] for _ in inputs]
        self._missing: list[int] = []
        for number, values in enumerate(inputs):
            needed = {maker[value] for value in values if value in maker}
            for other in needed:
                self._users[other].append(number)
            self._missing.append(len(needed))
        self._uses: dict[Hashable, int] = dict.fromkeys(wanted, 1)  # a use that never ends
        for values in inputs:
            for value in values:
                self._uses[value] = self._uses.get(value, 0) + 1
        self._ready = ReadySegments(uses, limits)
        for number, n in enumerate(self._missing):
            if not n:
                self._ready.add(number)
        self._running: set[int] = set()
        self._left = len(inputs)

    @property
    def done(self) -> bool:
        """Whether all segments have finished."""
        return not self._left

    @property
    def ready(self) -> tuple[int, ...]:
        """The segments that have all they need, lowest number first; some may wait for a limit."""
        return tuple(self._ready)

    @property
    def n_ready(self) -> int:
        """Number of segments that can run now; see :attr:`pipeline.graph.limits.ReadySegments.n_able`."""
        return self._ready.n_able

    @property
    def n_limited(self) -> int:
        """Number of segments that have all they need and use a limit, whether or not they can run now."""
        return self._ready.n_limited

    def place_before(self, number: int) -> Mapping[str, int]:
        """Return limit -> the segment that had the place that this one was taken with."""
        return self._ready.before(number)

    @property
    def n_running(self) -> int:
        """Number of segments that are running."""
        return len(self._running)

    def take(self) -> int:
        """Return the segment to run next; its state is now running.

        Raises
        ------
        IndexError : if no segment can run
        """
        number = self._ready.take()
        self._running.add(number)
        return number

    def again(self, number: int) -> None:
        """Make a running segment ready again, after it failed or its worker was lost."""
        self._running.remove(number)
        self._ready.release(number)
        self._ready.add(number)

    def finish(self, number: int) -> Progress:
        """Record that a running segment has finished; return what this changed."""
        self._running.remove(number)
        self._ready.release(number)
        self._left -= 1
        ready: list[int] = []
        for user in self._users[number]:
            self._missing[user] -= 1
            if not self._missing[user]:
                self._ready.add(user)
                ready.append(user)
        released: list[Hashable] = [value for value in self._outputs[number] if value not in self._uses]
        for value in self._inputs[number]:
            self._uses[value] -= 1
            if not self._uses[value]:
                released.append(value)
        return Progress(ready, released)
