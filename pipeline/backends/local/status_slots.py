"""Shared status slots: the task that each worker is running, readable after the worker has died."""

from __future__ import annotations

from multiprocessing.context import BaseContext
from multiprocessing.heap import Arena

from pipeline.graph.segments import Segment, SegmentTask

__all__ = ["StatusSlots"]

_FIELDS = 3  # number of the segment, position of the task in it (-1: none), its start (0: it does not run)


class StatusSlots:
    """Shared memory with a slot for each worker, which writes there what it is about to run.

    There is no lock, since each slot has one writer. The start is written before the position and read after it: so a
    task is never seen with the start of an earlier one.
    """

    def __init__(self, context: BaseContext, n: int) -> None:
        self.n = n
        try:
            self._numbers = context.RawArray("q", _FIELDS * n)
        except OSError:  # there is no /dev/shm, or it can't be written to: the temp folder does as well
            Arena._dir_candidates = []  # type: ignore[attr-defined]
            self._numbers = context.RawArray("q", _FIELDS * n)

    def write(self, slot: int, segment: int, position: int, start: int) -> None:
        first = _FIELDS * slot
        self._numbers[first + 2] = start
        self._numbers[first] = segment
        self._numbers[first + 1] = position

    def clear(self, slot: int) -> None:
        self.write(slot, -1, -1, 0)

    def read(self, slot: int) -> tuple[int, int, int]:
        """Return segment, position and start."""
        first = _FIELDS * slot
        position, segment = self._numbers[first + 1], self._numbers[first]
        return segment, position, self._numbers[first + 2]

    def overdue(self, slot: int, segment: Segment, now: int) -> SegmentTask | None:
        """Return the task of ``segment`` that runs in the slot, if it has run longer than its timeout."""
        number, position, start = self.read(slot)
        if number != segment.number or position < 0 or not start:
            return None
        task = segment.tasks[position]
        return task if task.timeout is not None and now - start > task.timeout * 1e9 else None
