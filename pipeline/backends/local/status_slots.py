"""What each worker does now, readable after its death."""

from __future__ import annotations

from multiprocessing.context import BaseContext

from pipeline.graph.segments import Segment, SegmentTask

__all__ = ["StatusSlots"]

_FIELDS = 3  # number of the segment, position of the task in it (-1: none), when it started (0: it is not running)


class StatusSlots:
    """Shared memory where each worker writes what it runs before it runs it: no lock, one writer a slot.

    The start is written before the position and read after it: a task is never seen with the start of an earlier one.
    """

    def __init__(self, context: BaseContext, n: int) -> None:
        self.n = n
        self._numbers = context.RawArray("q", _FIELDS * n)

    def write(self, slot: int, segment: int, position: int, start: int) -> None:
        at = _FIELDS * slot
        self._numbers[at + 2] = start
        self._numbers[at] = segment
        self._numbers[at + 1] = position

    def clear(self, slot: int) -> None:
        self.write(slot, -1, -1, 0)

    def read(self, slot: int) -> tuple[int, int, int]:
        """Segment, position and start."""
        at = _FIELDS * slot
        position, segment = self._numbers[at + 1], self._numbers[at]
        return segment, position, self._numbers[at + 2]

    def late(self, slot: int, segment: Segment, now: int) -> SegmentTask | None:
        """The task of ``segment`` that runs in the slot and has run longer than it may."""
        number, position, start = self.read(slot)
        if number != segment.number or position < 0 or not start:
            return None
        inner = segment.tasks[position]
        return inner if inner.timeout is not None and now - start > inner.timeout * 1e9 else None
