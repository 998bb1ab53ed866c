"""How often segments fail and lose their workers, and whether they run again."""

from __future__ import annotations

from collections import Counter

from pipeline.backends.events import WorkerLoss
from pipeline.backends.local.executor import LostWorker
from pipeline.errors import WorkerLost
from pipeline.graph.graph import Key
from pipeline.graph.segments import NOT_AGAIN, Failure, Segment, SegmentTask

__all__ = ["MOST_LOSSES", "Attempts"]

MOST_LOSSES = 3
"""A segment that has lost so many workers is not run again."""


class Attempts:
    """How often each segment, or each task of a batch, has failed and lost its worker; decides whether it runs again.

    State: three counts for each segment; of a batch the losses of each task, which knows how often it may fail. The
    failures are counted anew when an item is dropped, or a task given up.

    Parameters
    ----------
    keep_going : whether what has failed finally is given up, and the others go on
    """

    def __init__(self, *, recovers_workers: bool, keep_going: bool = False) -> None:
        self._recovers_workers, self._keep_going = recovers_workers, keep_going
        self._made: Counter[int] = Counter()
        self._failures: Counter[int] = Counter()
        self._losses: Counter[int | Key] = Counter()

    def n_made(self, segment: Segment) -> int:
        """Return how often a segment has been run and has failed or lost its worker; 0 for a batch."""
        return self._made[segment.number]

    def fail(self, segment: Segment, failure: Failure) -> str:
        """Count a failure; return ``retry``, ``drop`` where the item is to be left out, or ``give up``.

        Raises
        ------
        PipelineError : the failure, if it may not be left out, no retry remains, and the run does not keep going; or
            if a kept value is damaged
        """
        number = segment.number
        if failure.kind == "entry":  # of a kept value: the run plans again without it
            raise failure.error()
        if segment.batch:
            again = not failure.final and segment.task(failure.key).retries > 0
        else:
            again = self._failures[number] < segment.retries
        if not again and not self._keep_going and (failure.final or not failure.drop):
            raise failure.error()
        if not segment.batch:
            self._failures[number] = self._failures[number] + 1 if again else 0  # others may fail as often
            self._made[number] += 1
        return "retry" if again else "drop" if failure.drop and not failure.final else "give up"

    def lose(self, segment: Segment, lost: LostWorker) -> WorkerLoss | Failure:
        """Count a worker that a segment may have ended; return the event of it, or the failure of what is given up.

        Raises
        ------
        WorkerLost : if the segment may not be run again, and the run does not keep going
        """
        task: SegmentTask = lost.task or segment.tasks[0]
        lost_by = task.key if segment.batch else segment.number
        self._losses[lost_by] += 1
        if not segment.batch:
            self._made[segment.number] += 1
        message = lost.message()
        if not self._recovers_workers:
            raise WorkerLost(message, task.name)
        if not segment.pure:
            why = NOT_AGAIN
        elif self._losses[lost_by] >= MOST_LOSSES:
            why = f"it is the {MOST_LOSSES}rd worker lost by this segment"
        else:
            return WorkerLoss(task.step, str(task.key), task.item, lost.cause)
        if self._keep_going:
            return Failure.of(task, f"{lost.cause}; {why}", kind="lost")
        raise WorkerLost(f"{message}; {why}", task.name)
