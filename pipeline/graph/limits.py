"""Segments that are ready, and the limits that decide which of them may run.

A limit is a number of places: a segment that uses it has one of them while it runs. A segment that uses several limits
gets a place of each at once, or none, so no two segments can wait for each other.

Of the segments that may run, the one with the lowest number is next. One that has to wait keeps a free place of each
limit that it uses from those behind it: else a segment that uses two limits could wait until all that use one of them
have run. Rejected: segments that use limits before all others, since their results would fill the memory.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["ReadySegments"]

_Names = tuple[str, ...]


class ReadySegments:
    """The segments that are ready. States of a segment: ready (``add``) -> running (``take``) -> gone (``release``).

    It has no clock. Each operation is O(log n) in the segments, times the number of different combinations of limits.

    Parameters
    ----------
    uses : for each segment the names of the limits that it uses; empty: no segment uses any
    limits : name -> number of places, >= 1; a name that is not here is not limited
    """

    def __init__(self, uses: Sequence[Sequence[str]] = (), limits: Mapping[str, int] | None = None) -> None:
        limits = limits or {}
        self._uses: list[_Names] = [tuple(sorted({n for n in names if n in limits})) for names in uses if limits]
        self._limited = any(self._uses)
        self._ready: dict[_Names, list[int]] = {(): []}  # heaps of numbers
        self._unused = dict(limits)  # places that no segment has had yet
        self._freed: dict[str, deque[int]] = {name: deque() for name in limits}  # free places: who had them last
        self._before: dict[int, dict[str, int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._ready.values()))

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(number for heap in self._ready.values() for number in heap))

    @property
    def n_able(self) -> int:
        """Number of segments that may run now; 0 only if none may; too high where combinations of limits overlap."""
        if not self._limited:
            return len(self._ready[()])
        return sum(n for _, n in self._turns())

    @property
    def n_limited(self) -> int:
        """Number of ready segments that use a limit, whether or not they may run now."""
        return len(self) - len(self._ready[()]) if self._limited else 0

    def uses(self, number: int) -> _Names:
        """Return the limits that a segment uses."""
        return self._uses[number] if self._limited else ()

    def add(self, number: int) -> None:
        """Make a segment ready."""
        heapq.heappush(self._ready.setdefault(self._uses[number], []) if self._limited else self._ready[()], number)

    def take(self) -> int:
        """Return the segment to run next, which now has its places.

        Raises
        ------
        IndexError : if none may run
        """
        if not self._limited:
            return heapq.heappop(self._ready[()])
        names = next((names for names, n in self._turns() if n), ())
        number = heapq.heappop(self._ready[names])
        if names:
            self._before[number] = {}
            for name in names:
                if self._unused[name]:
                    self._unused[name] -= 1
                else:
                    self._before[number][name] = self._freed[name].popleft()
        return number

    def release(self, number: int) -> None:
        """Give back the places of a segment that was taken."""
        for name in self.uses(number):
            self._freed[name].append(number)

    def before(self, number: int) -> Mapping[str, int]:
        """Return limit -> the segment that had this one's place before; without those of which it had a new place."""
        return self._before.get(number, {})

    def _turns(self) -> Iterator[tuple[_Names, int]]:
        """Yield the combinations of limits in the order of their lowest segment, each with how many of it may run."""
        free = {name: self._unused[name] + len(freed) for name, freed in self._freed.items()}
        heaps = sorted((heap[0], names) for names, heap in self._ready.items() if heap)
        for _, names in heaps:
            n = min([len(self._ready[names]), *(max(free[name], 0) for name in names)])
            for name in names:
                free[name] -= n or 1  # one that waits keeps a place of each
            yield names, n
