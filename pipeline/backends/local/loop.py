"""The one loop of all back ends on this machine: from a Graph and an executor to results and a Trace.

Order, retries, lost workers, the release of values, the rows of the Trace and the events are here; how a segment is
run is the executor's part (:class:`pipeline.backends.local.executor.Executor`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import groupby
from time import perf_counter_ns
from typing import Any

from pipeline.backends.base import Outcome
from pipeline.backends.events import (
    Event,
    ItemDropped,
    Listener,
    TaskRetry,
    TasksDone,
    WorkerLoss,
    output_events,
    shared_note,
    show_output,
)
from pipeline.backends.local.executor import Executor, Finished, Job, LostWorker
from pipeline.backends.trace_records import Usage, records
from pipeline.errors import TaskError, WorkerLost
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import CONTEXT, Graph, Key
from pipeline.graph.scheduler import Scheduler
from pipeline.graph.segments import NOT_AGAIN, Failure, Segment, SegmentTask
from pipeline.trace.trace import Record, Trace
from pipeline.worker.output_buffer import Line
from pipeline.worker.segment_result import SegmentResult
from pipeline.worker.tracebacks import describe

__all__ = ["MOST_LOSSES", "Attempts", "Events", "run"]

MOST_LOSSES = 3
"""A segment that has lost so many workers is not run again."""


def run(executor: Executor, graph: Graph, *, context: Any = None, listener: Listener | None = None) -> Outcome:
    """Run a graph; see :meth:`pipeline.backends.base.Backend.run`."""
    start_up = executor.prepare(graph)
    this = _Run(executor, graph, fuse(graph, n_workers=executor.n_workers), context, listener)
    try:
        return this.complete(start_up)
    except BaseException:
        executor.abandon()
        raise


class _Run:
    """One run: hands ready segments to the executor until every one has finished, and keeps the values meanwhile.

    States of a segment: waiting -> ready -> submitted -> finished; back to ready when it failed or lost its worker and
    may be run again (the :class:`Scheduler` keeps them). A value is kept, as the executor stores it, from when its
    segment finished until no segment needs it any more.
    """

    def __init__(
        self,
        executor: Executor,
        graph: Graph,
        segments: Sequence[Segment],
        context: Any,
        listener: Listener | None,
    ) -> None:
        self._executor, self._graph = executor, graph
        self._segments = list(segments)  # an item that is dropped changes its segment
        self._left: dict[int, Segment] = {}  # what is left of a batch that lost its worker
        self._values: dict[Key, Any] = {CONTEXT: executor.encode(context)}
        self._scheduler = Scheduler([s.inputs for s in segments], [s.outputs for s in segments], graph.wanted)
        self._attempts = Attempts(recovers_workers=executor.capabilities.recovers_workers)
        self._events = Events(graph, listener)
        self._timeline = _Timeline(segments)

    def complete(self, start_up: float) -> Outcome:
        """Run every segment; return the wanted results."""
        while not self._scheduler.done:
            while self._scheduler.n_ready and self._executor.has_room(self._scheduler.n_ready):
                self._submit(self._scheduler.take())
            for finished in self._executor.wait():
                self._handle(finished)
        results = {key: self._decode(key) for key in self._graph.wanted}
        trace = self._timeline.trace(self._executor, start_up, self._events.shared)
        return Outcome(results, trace, tuple(self._segments), tuple(self._events.dropped), trace.notes)

    def _submit(self, number: int) -> None:
        segment = self._left.get(number, self._segments[number])
        self._timeline.submitted(number)
        inputs = {key: self._values[key] for key in segment.inputs}
        self._executor.submit(Job(segment, inputs, self._attempts.n_made(segment), self._events.output))

    def _decode(self, key: Key) -> Any:
        try:
            return self._executor.decode(self._values[key])
        except Exception as error:
            cause = f"its result can't be unpickled: {describe(error)}"
            raise TaskError(self._graph.owners[key], str(key), cause, self._graph.item(key)) from error

    def _handle(self, finished: Finished) -> None:
        if finished.kept is not None:
            finished = self._keep(finished, finished.kept)
        segment, result = finished.job.segment, finished.result
        if result is None:
            if finished.lost is not None and finished.blame:
                self._events.emit(self._attempts.lose(segment, finished.lost))
                if segment.batch and finished.lost.task is not None:
                    self._left[segment.number] = segment.after((), lost=str(finished.lost.task.key))
            self._scheduler.again(segment.number)
            return
        self._events.attempted(result)
        self._timeline.ran(finished, result)
        if result.failure is not None:
            if segment.batch:
                self._events.finished(segment, result)
            self._fail(segment, result.failure)
        else:
            self._finish(segment.number, result)

    def _keep(self, finished: Finished, kept: SegmentResult) -> Finished:
        """Take what the items of a batch gave before their worker was lost; the job that remains is the rest of it."""
        job = finished.job
        self._events.attempted(kept)
        self._timeline.ran(finished, kept)
        self._values.update(kept.outputs)
        self._events.finished(job.segment, kept)
        left = job.segment.after(kept.done, [failure.key for failure, again in kept.failures if again])
        self._left[left.number] = left
        if not left.outputs:  # it had finished
            return replace(finished, result=SegmentResult(), lost=None)
        return replace(finished, job=replace(job, segment=left))

    def _finish(self, number: int, result: SegmentResult) -> None:
        self._values.update(result.outputs)
        progress = self._scheduler.finish(number)
        for other in progress.ready:
            self._timeline.ready_by_inputs(other)
        for key in progress.released:
            if key != CONTEXT:
                del self._values[key]  # type: ignore[arg-type]  # the scheduler takes any hashable for a value
        self._events.finished(self._left.pop(number, self._segments[number]), result)

    def _fail(self, segment: Segment, failure: Failure) -> None:
        number = segment.number
        if self._attempts.fail(segment, failure) == "retry":
            self._events.emit(TaskRetry(failure.step, failure.key, failure.item, failure.cause))
            if segment.batch:
                self._left[number] = segment.after((), [failure.key])
        else:
            self._segments[number] = self._segments[number].without(failure)
            if segment.batch:
                self._left[number] = segment.without(failure)
        self._timeline.ready_now(number)
        self._scheduler.again(number)


class Attempts:
    """How often each segment, or each task of a batch, has failed and lost its worker; decides whether it runs again.

    State: three counts for each segment; of a batch the losses of each task, which knows how often it may fail. The
    failures are counted anew when an item is dropped.
    """

    def __init__(self, *, recovers_workers: bool) -> None:
        self._recovers_workers = recovers_workers
        self._made: Counter[int] = Counter()
        self._failures: Counter[int] = Counter()
        self._losses: Counter[int | Key] = Counter()

    def n_made(self, segment: Segment) -> int:
        """Return how often a segment has been run and has failed or lost its worker; 0 for a batch."""
        return self._made[segment.number]

    def fail(self, segment: Segment, failure: Failure) -> str:
        """Count a failure; return ``retry``, or ``drop`` where the item is to be left out.

        Raises
        ------
        PipelineError : the failure, if its item may not be left out and no retry remains
        """
        if segment.batch:
            if failure.final:
                raise failure.error()
            action = "retry" if segment.task(failure.key).retries > 0 else "drop"
            if action == "drop" and not failure.drop:
                raise failure.error()
            return action
        number = segment.number
        if self._failures[number] < segment.retries:
            self._failures[number] += 1
            action = "retry"
        elif failure.drop:
            self._failures[number] = 0  # the other items of the segment may fail as often
            action = "drop"
        else:
            raise failure.error()
        self._made[number] += 1
        return action

    def lose(self, segment: Segment, lost: LostWorker) -> WorkerLoss:
        """Count a worker that a segment may have ended; return the event of it.

        Raises
        ------
        WorkerLost : if the segment may not be run again
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
            raise WorkerLost(f"{message}; {NOT_AGAIN}", task.name)
        if self._losses[lost_by] >= MOST_LOSSES:
            raise WorkerLost(f"{message}; it is the {MOST_LOSSES}rd worker lost by this segment", task.name)
        return WorkerLoss(task.step, str(task.key), task.item, lost.cause)


class Events:
    """Calls the listener; keeps the items that were dropped. Without a listener, only output of tasks is shown.

    Attributes
    ----------
    shared : step and type of the values that several tasks got as they are, since they can't be pickled
    """

    def __init__(self, graph: Graph, listener: Listener | None) -> None:
        self._graph, self._listener = graph, listener
        self.dropped: list[tuple[str, str, str]] = []
        self.shared: set[tuple[str, str]] = set()

    def emit(self, event: Event) -> None:
        """Pass on one event."""
        if self._listener is not None:
            self._listener(event)

    def output(self, worker: str, lines: Sequence[Line]) -> None:
        """Pass on, or show, lines that tasks of a worker printed."""
        listener: Callable[[Event], None] = self._listener or show_output
        for event in output_events(worker, lines):
            listener(event)

    def attempted(self, result: SegmentResult) -> None:
        """Report what happened in an attempt besides finished tasks: output, retries, values that tasks share."""
        self.output(result.worker, result.lines)
        for failure, again in result.failures:
            if again:
                self.emit(TaskRetry(failure.step, failure.key, failure.item, failure.cause))
        for step, kind in result.shared:
            if (step, kind) not in self.shared:
                self.shared.add((step, kind))
                self.emit(shared_note(step, kind))

    def finished(self, segment: Segment, result: SegmentResult) -> None:
        """Report the dropped items of a segment, and one event for each sequence of its tasks of the same step."""
        self.dropped += result.dropped
        if self._listener is None:
            return
        for step, item, cause in result.dropped:
            self._listener(ItemDropped(step, item, cause))
        took = {timing.key: timing.stop - timing.start for timing in result.timings}
        over = set(result.done) if segment.batch else took
        counted = [task for task in segment.tasks if task.key in over and task.key in self._graph.tasks]
        for step, group in groupby(counted, key=lambda task: task.step):
            tasks = list(group)
            seconds = sum(took[task.key] for task in tasks) / 1e9
            self._listener(TasksDone(step, str(tasks[-1].key), tasks[-1].item, len(tasks), seconds))


class _Timeline:
    """The instants of each segment and the rows of the Trace; times are ns since the run began.

    State: for each segment when it became ready and was last submitted, and when its results had left the worker; the
    rows of all attempts that have ended, failed ones included.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        maker = {key: segment.number for segment in segments for key in segment.outputs}
        self._makers = [{maker[key] for key in segment.inputs if key in maker} for segment in segments]
        self._made, self._ready, self._submitted = ([0] * len(segments) for _ in range(3))
        self._rows: list[Record] = []
        self._measuring = 0  # ns
        self._usage = Usage()
        self._origin = perf_counter_ns()

    def _now(self) -> int:
        return perf_counter_ns() - self._origin

    def submitted(self, number: int) -> None:
        self._submitted[number] = self._now()

    def ready_now(self, number: int) -> None:
        self._ready[number] = self._now()

    def ready_by_inputs(self, number: int) -> None:
        self._ready[number] = max((self._made[maker] for maker in self._makers[number]), default=0)

    def ran(self, finished: Finished, result: SegmentResult) -> None:
        """Add the rows of an attempt."""
        number, done = finished.job.segment.number, self._now()
        self._measuring += result.measuring
        self._rows += records(
            result.timings,
            result.times,
            worker=result.worker,
            segment=number,
            attempt=finished.job.attempt,
            ready=self._ready[number],
            submitted=self._submitted[number],
            done=done,
            origin=self._origin,
            bytes_in=finished.bytes_in,
            bytes_sent=finished.bytes_sent,
        )
        self._made[number] = self._rows[-1].sent if result.timings else done

    def trace(self, executor: Executor, start_up: float, shared: Collection[tuple[str, str]]) -> Trace:
        """Return the Trace of the run, which ends now."""
        elapsed = self._now() / 1e9
        in_process = not executor.capabilities.isolates_tasks
        about = executor.notes()
        notes = {
            **about,
            "cpu": self._usage.beside(tasks=sum(row.cpu for row in self._rows) / 1e9, in_process=in_process),
            "gaps": [[worker, a - self._origin, b - self._origin] for worker, a, b in about.get("gaps", ())],
            "measuring": self._measuring / 1e9 / max(1, len(self._rows)),
            "n_segments": len(self._made),
            "shared": sorted(map(list, shared)),
        }
        return Trace.from_records(
            self._rows,
            elapsed=elapsed,
            backend=executor.name,
            n_workers=executor.n_workers,
            start_up=start_up,
            notes=notes,
        )
