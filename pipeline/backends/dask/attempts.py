"""How often each segment may still fail, which have finished, and which tasks exceed their timeout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from pipeline.graph.segments import Segment, SegmentTask

__all__ = ["Attempts", "Deadlines", "Overdue"]


class Attempts:
    """Counts the failures of each segment, and which have finished.

    State: the failures since the last that was final; the segments with a result. A segment can finish more than once:
    it is run again when a worker was lost with its result.
    """

    def __init__(self) -> None:
        self._failures: Counter[int] = Counter()
        self._finished: set[int] = set()

    def fail(self, segment: Segment) -> bool:
        """Count a failure; return whether the segment is run again.

        If not, its item is dropped or the run ends. The count then begins anew: other items may fail as often.
        """
        self._failures[segment.number] += 1
        if self._failures[segment.number] <= segment.retries:
            return True
        self._failures[segment.number] = 0
        return False

    def finish(self, segment: Segment) -> bool:
        """Record that a segment has finished; return whether it is the first time."""
        is_first = segment.number not in self._finished
        self._finished.add(segment.number)
        return is_first


class Overdue(NamedTuple):
    """A task that has exceeded its timeout, and where it runs: number of the segment, address, process id."""

    number: int
    address: str
    task: SegmentTask
    pid: int


class Deadlines:
    """The deadline of each running task that has a timeout.

    Workers report when such a task begins. State: for each segment and worker the task that began last.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._due: dict[tuple[int, str], tuple[float, SegmentTask, int]] = {}

    def begin(self, report: Mapping[str, Any]) -> None:
        """Take a worker's report that a task has begun."""
        number, address = report["segment"], report["address"]
        task = self._segments[number].tasks[report["began"]]
        self._due.pop((number, address), None)
        if task.timeout is not None:
            self._due[number, address] = (perf_counter() + task.timeout, task, report["pid"])

    def end(self, number: int, address: str) -> None:
        """Forget a segment that has ended on a worker."""
        self._due.pop((number, address), None)

    def forget_worker(self, address: str) -> None:
        """Forget everything that ran on a worker."""
        self._due = {key: value for key, value in self._due.items() if key[1] != address}

    def overdue(self) -> list[Overdue]:
        """Return the tasks that have exceeded their timeout."""
        now = perf_counter()
        return [Overdue(*key, task, pid) for key, (due, task, pid) in self._due.items() if now >= due]
