"""Turns what the workers report into events, rows of the Trace, and the list of dropped items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.backends.dask.clock import Rows
from pipeline.backends.events import (
    ItemDropped,
    Listener,
    TaskFailed,
    TaskRetry,
    TasksDone,
    WorkerLoss,
    output_events,
    shared_note,
)
from pipeline.graph.segments import Failure, Segment
from pipeline.worker.output_buffer import Line

__all__ = ["Reports"]


class Reports:
    """Turns what the workers report into events, rows of the Trace, and the list of dropped items.

    Attributes
    ----------
    rows : one for each task that ran
    dropped : step and item -> step, item and cause
    failed : the failures of the tasks that were given up, by the task's key as text
    lost : addresses of the workers that ended
    shared : step and type of the values that several tasks of a segment got as they are, since they can't be pickled
    """

    def __init__(self, segments: Sequence[Segment], listener: Listener) -> None:
        self._segments = segments
        self.listener = listener
        self.rows = Rows(segments)
        self.dropped: dict[tuple[str, str], tuple[str, str, str]] = {}
        self.failed: dict[str, Failure] = {}
        self.lost: list[str] = []
        self.shared: set[tuple[str, str]] = set()
        self._attempts = _Attempts()

    def output(self, report: Mapping[str, Any]) -> None:
        """Pass on the lines that tasks printed."""
        for event in output_events(report["name"], (Line(*line) for line in report["output"])):
            self.listener(event)

    def item_failed(self, report: Mapping[str, Any]) -> None:
        """Take the report of a failure after which a batch goes on."""
        failure = Failure(*report["item failed"])
        self._attempts.count(self._segments[report["segment"]], failure)
        if report["again"]:
            self.listener(TaskRetry(failure.step, failure.key, failure.item, failure.cause))

    def task_failed(self, segment: Segment, failure: Failure) -> bool:
        """Count a failure; return whether the segment, or the task of a batch, is run again."""
        again = self._attempts.fail(segment, failure)
        if again:
            self.listener(TaskRetry(failure.step, failure.key, failure.item, failure.cause))
        return again

    def fail(self, failures: Iterable[Failure]) -> None:
        """Keep and report the failures of tasks that are given up."""
        for failure in failures:
            if failure.key not in self.failed:
                self.failed[failure.key] = failure
                self.listener(TaskFailed(failure.step, failure.key, failure.item, failure.cause))

    def segment_lost(self, number: int, failure: Failure) -> None:
        """Take the failure of a segment of which nothing could be computed; it may name no task."""
        segment = self._segments[number]
        if not failure.step:
            last = segment.tasks[-1]
            failure = replace(failure, step=last.step, key=str(last.key), item=last.item)
        self.fail(segment.all_failed(failure))

    def segment_ended(self, report: Mapping[str, Any], arrived: int) -> None:
        """Take the report of a segment that has ended or failed, which arrived at ``perf_counter_ns``."""
        segment = self._segments[report["segment"]]
        self.rows.add(report, arrived)
        for step, kind in report["shared"]:
            if (step, kind) not in self.shared:
                self.shared.add((step, kind))
                self.listener(shared_note(step, kind))
        if report["failed"] is not None and not segment.batch:
            self.task_failed(segment, Failure(*report["failed"]))
            return
        self.fail(Failure(*about) for about in report["gone"])
        over = self._attempts.finish(segment, report)
        seconds = {position: (stop - start) / 1e9 for position, start, stop, *_ in report["rows"]}
        for position in over:
            task = segment.tasks[position]
            self.listener(TasksDone(task.step, str(task.key), task.item, seconds=seconds[position]))
        if not over:
            return
        for step, item, cause in report["dropped"]:
            self.dropped[step, item] = (step, item, cause)
            self.listener(ItemDropped(step, item, cause))

    def worker_ended(self, address: str, how: str = "ended") -> None:
        """Record a worker that has ended."""
        self.lost.append(address)
        self.listener(WorkerLoss(message=f"worker {address} {how}; its tasks are run again elsewhere"))


class _Attempts:
    """Counts the failures of each segment, and which have finished.

    State: the failures since the last that was final; the tasks with a result. A segment can finish more than once: it
    is run again when a worker was lost with its result.
    """

    def __init__(self) -> None:
        self._failures: Counter[int] = Counter()
        self._of_tasks: Counter[str] = Counter()  # of batches
        self._finished: set[tuple[int, int]] = set()

    def count(self, segment: Segment, failure: Failure) -> int:
        """Count a failure of a task of a batch; return how often it has failed."""
        self._of_tasks[failure.key] += 1
        return self._of_tasks[failure.key]

    def fail(self, segment: Segment, failure: Failure) -> bool:
        """Count a failure; return whether the segment, or the task of a batch, is run again.

        If not, its item is dropped or the run ends. The count then begins anew: other items may fail as often.
        """
        if segment.batch:
            return self.count(segment, failure) <= segment.task(failure.key).retries
        self._failures[segment.number] += 1
        if self._failures[segment.number] <= segment.retries:
            return True
        self._failures[segment.number] = 0
        return False

    def finish(self, segment: Segment, report: Mapping[str, Any]) -> list[int]:
        """Record what has finished; return the positions of the tasks that have for the first time, in order."""
        over = report["done"] if segment.batch else dict.fromkeys(row[0] for row in report["rows"])
        if report["missing"]:
            over = [position for position in over if position not in report["missing"]]
        first = [position for position in over if (segment.number, position) not in self._finished]
        self._finished.update((segment.number, position) for position in first)
        return first
