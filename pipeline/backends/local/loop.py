"""The one loop of all back ends on this machine: from a Graph and an executor to results and a Trace.

Order, retries, lost workers, the release of values, the rows of the Trace and the events are here; how a segment is
run is the executor's part (:class:`pipeline.backends.local.executor.Executor`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from time import perf_counter_ns
from typing import Any

from pipeline.backends.base import Outcome
from pipeline.backends.events import (
    Event,
    ItemDropped,
    Listener,
    TaskFailed,
    TaskRetry,
    TasksDone,
    output_events,
    pickled_note,
    shared_note,
    show_output,
)
from pipeline.backends.local.attempts import Attempts
from pipeline.backends.local.executor import Executor, Finished, Job
from pipeline.backends.trace_records import Usage, records
from pipeline.errors import TaskError
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import CONTEXT, Graph, Key
from pipeline.graph.scheduler import Scheduler
from pipeline.graph.segments import Failure, Segment
from pipeline.trace.trace import Record, Trace
from pipeline.worker.client_entries import is_sent, write_sent
from pipeline.worker.output_buffer import Line
from pipeline.worker.segment_result import SegmentResult
from pipeline.worker.tracebacks import describe

__all__ = ["Events", "run"]


def run(
    executor: Executor,
    graph: Graph,
    *,
    context: Any = None,
    listener: Listener | None = None,
    keep_going: bool = False,
) -> Outcome:
    """Run a graph; see :meth:`pipeline.backends.base.Backend.run`."""
    start_up = executor.prepare(graph)
    segments = fuse(graph, n_workers=executor.n_workers, keep_going=keep_going)
    this = _Run(executor, graph, segments, context, listener, keep_going)
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

    With ``keep_going`` a task that has failed finally is given up: its value and those of the tasks that need it are
    missing, and each segment is run without them.
    """

    def __init__(
        self,
        executor: Executor,
        graph: Graph,
        segments: Sequence[Segment],
        context: Any,
        listener: Listener | None,
        keep_going: bool,
    ) -> None:
        self._executor, self._graph, self._keep_going = executor, graph, keep_going
        self._segments = list(segments)  # an item that is dropped changes its segment
        self._left: dict[int, Segment] = {}  # what is left of a batch that lost its worker, or after a failure
        self._missing: set[Key] = set()  # values that can't be computed
        self._values: dict[Key, Any] = {CONTEXT: executor.encode(context)}
        self._scheduler = Scheduler(
            [s.inputs for s in segments],
            [s.outputs for s in segments],
            graph.wanted,
            uses=[s.uses for s in segments],
            limits=graph.limits,
        )
        recovers = executor.capabilities.recovers_workers
        self._attempts = Attempts(recovers_workers=recovers, keep_going=keep_going)
        self._events = Events(graph, listener)
        self._timeline = _Timeline(segments, graph.limits)

    def complete(self, start_up: float) -> Outcome:
        """Run every segment; return the wanted results."""
        while not self._scheduler.done:
            while (n_ready := self._scheduler.n_ready) and self._has_room(n_ready):
                self._submit(self._scheduler.take())
            for finished in self._executor.wait() if not self._scheduler.done else ():
                self._handle(finished)
        results = self._results()
        trace = self._timeline.trace(self._executor, start_up, self._events.shared)
        events = self._events
        return Outcome(results, trace, tuple(self._segments), tuple(events.dropped), trace.notes, tuple(events.failed))

    def _has_room(self, n_ready: int) -> bool:
        """Whether a segment may be submitted now.

        A segment that has a place of a limit must not wait behind other work, nor one that gets a place soon: so where
        there are such segments, no more are submitted than there are workers.
        """
        if self._scheduler.n_limited and self._scheduler.n_running >= self._executor.n_workers:
            return False
        return self._executor.has_room(n_ready)

    def _submit(self, number: int) -> None:
        segment = self._left.get(number, self._segments[number])
        if self._missing:
            segment, whole = segment.computable(self._missing), segment
            if segment.is_empty and segment is not whole:
                self._finish(number, SegmentResult())
                return
        self._timeline.submitted(number, self._scheduler.place_before(number))
        inputs = {key: self._values[key] for key in segment.inputs}
        self._executor.submit(Job(segment, inputs, self._attempts.n_made(segment), self._events.output))

    def _results(self) -> dict[Key, Any]:
        """Return the wanted values that could be computed, decoded."""
        results = {}
        for key in self._graph.wanted:
            if key in self._missing:
                continue
            try:
                results[key] = self._decode(key)
            except TaskError as error:
                if not self._keep_going:
                    raise
                self._events.fail([Failure(error.step, error.key, error.item, error.cause, error.traceback)])
        return results

    def _decode(self, key: Key) -> Any:
        try:
            value = self._executor.decode(self._values[key])
        except Exception as error:
            cause = f"its result can't be unpickled: {describe(error)}"
            raise TaskError(self._graph.owners[key], str(key), cause, self._graph.item(key)) from error
        self._executor.release(self._values[key])
        return value

    def _handle(self, finished: Finished) -> None:
        if finished.kept is not None:
            finished = self._keep(finished, finished.kept)
        segment, result = finished.job.segment, finished.result
        if result is None:
            self._timeline.lost(segment.number)
            if finished.lost is not None and finished.blame:
                lost = self._attempts.lose(segment, finished.lost)
                if isinstance(lost, Failure):
                    self._give_up(segment, lost)
                    return
                self._events.emit(lost)
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
        self._write_sent(kept)
        self._events.finished(job.segment, kept)
        left = job.segment.after(kept.done, [failure.key for failure, again in kept.failures if again])
        self._left[left.number] = left
        if not left.outputs:  # it had finished
            return replace(finished, result=SegmentResult(), lost=None)
        return replace(finished, job=replace(job, segment=left))

    def _finish(self, number: int, result: SegmentResult) -> None:
        self._values.update(result.outputs)
        self._write_sent(result)
        if self._keep_going:
            self._missing.update(key for key in self._segments[number].outputs if key not in self._values)
        progress = self._scheduler.finish(number)
        for other in progress.ready:
            self._timeline.ready_by_inputs(self._segments[other])
        for key in progress.released:
            if key != CONTEXT and key not in self._missing:
                self._executor.release(self._values.pop(key))  # type: ignore[call-overload]  # any hashable
        self._events.finished(self._left.pop(number, self._segments[number]), result)

    def _write_sent(self, result: SegmentResult) -> None:
        """Keep the values that the workers could not keep themselves."""
        for timing in result.timings if self._graph.collected else ():
            if is_sent(timing.kept) and timing.key in result.outputs:
                with suppress(Exception):  # unpickling may raise anything; what is not kept is computed again
                    value = self._executor.decode(result.outputs[timing.key])
                    write_sent(self._graph.tasks, timing.key, timing.kept, value)

    def _fail(self, segment: Segment, failure: Failure) -> None:
        number = segment.number
        action = self._attempts.fail(segment, failure)
        if action == "give up":
            self._give_up(segment, failure)
            return
        if action == "retry":
            self._events.emit(TaskRetry(failure.step, failure.key, failure.item, failure.cause))
            if segment.batch:
                self._left[number] = segment.after((), [failure.key])
        else:
            self._segments[number] = self._segments[number].without(failure)
            if segment.batch or number in self._left:
                self._left[number] = segment.without(failure)
        self._timeline.ready_now(number)
        self._scheduler.again(number)

    def _give_up(self, segment: Segment, failure: Failure) -> None:
        """Run a segment again without a task that has failed finally, and those that need it."""
        number, left = segment.number, segment.computable([segment.task(failure.key).key])
        self._events.fail([failure] if segment.pure else segment.all_failed(failure))
        self._left[number] = left
        if left.is_empty or not segment.pure:  # what has effects outside must not run twice
            self._finish(number, SegmentResult())
        else:
            self._timeline.ready_now(number)
            self._scheduler.again(number)


class Events:
    """Calls the listener; keeps the items that were dropped. Without a listener, only output of tasks is shown.

    Attributes
    ----------
    failed : the failures of the tasks that were given up
    shared : step and type of the values that several tasks got as they are, since they can't be pickled
    """

    def __init__(self, graph: Graph, listener: Listener | None) -> None:
        self._graph, self._listener = graph, listener
        self.dropped: list[tuple[str, str, str]] = []
        self.failed: list[Failure] = []
        self.shared: set[tuple[str, str]] = set()
        self._lacked: set[str] = set()

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
        self.fail(result.failed)
        if result.lacked and result.lacked not in self._lacked:
            self._lacked.add(result.lacked)
            self.emit(pickled_note(result.lacked))
        for step, kind in result.shared:
            if (step, kind) not in self.shared:
                self.shared.add((step, kind))
                self.emit(shared_note(step, kind))

    def fail(self, failures: Sequence[Failure]) -> None:
        """Keep and report the failures of tasks that are given up."""
        self.failed += failures
        for failure in failures:
            self.emit(TaskFailed(failure.step, failure.key, failure.item, failure.cause))

    def finished(self, segment: Segment, result: SegmentResult) -> None:
        """Report the dropped items of a segment, and one event for each sequence of its tasks of the same step."""
        self.dropped += result.dropped
        if self._listener is None:
            return
        for step, item, cause in result.dropped:
            self._listener(ItemDropped(step, item, cause))
        failed = {failure.key for failure in result.failed}
        took = {timing.key: timing.stop - timing.start for timing in result.timings}
        over = took.keys() & result.done if segment.batch else took.keys()
        if failed:
            over = {key for key in over if str(key) not in failed}
        counted = [task for task in segment.tasks if task.key in over and task.key in self._graph.tasks]
        for step, group in groupby(counted, key=lambda task: task.step):
            tasks = list(group)
            seconds = sum(took[task.key] for task in tasks) / 1e9
            self._listener(TasksDone(step, str(tasks[-1].key), tasks[-1].item, len(tasks), seconds))


class _Timeline:
    """The instants of each segment and the rows of the Trace; times are ns since the run began.

    State: for each segment when it became ready and was last submitted, when it got its limits and which of them it
    waited for, and when its results had left the worker, or it was lost; the rows of all attempts that have ended,
    failed ones included.
    """

    def __init__(self, segments: Sequence[Segment], limits: Mapping[str, int]) -> None:
        self._limits = limits
        self._maker = {key: segment.number for segment in segments for key in segment.outputs}
        self._made, self._ready, self._submitted = ([0] * len(segments) for _ in range(3))
        self._granted: dict[int, tuple[int, str]] = {}
        self._rows: list[Record] = []
        self._measuring = 0  # ns
        self._usage = Usage()
        self._origin = perf_counter_ns()

    def _now(self) -> int:
        return perf_counter_ns() - self._origin

    def submitted(self, number: int, before: Mapping[str, int]) -> None:
        """Record that a segment is submitted; ``before``: limit -> the segment that had its place before."""
        self._submitted[number] = self._now()
        if before:
            freed = max((self._made[other], name) for name, other in before.items())
            self._granted[number] = freed if freed[0] > self._ready[number] else (0, "")

    def lost(self, number: int) -> None:
        """Record that a segment gave back its places without a result."""
        self._made[number] = self._now()

    def ready_now(self, number: int) -> None:
        self._ready[number] = self._now()

    def ready_by_inputs(self, segment: Segment) -> None:
        makers = (self._maker[key] for key in segment.inputs if key in self._maker)
        self._ready[segment.number] = max((self._made[maker] for maker in makers), default=0)

    def ran(self, finished: Finished, result: SegmentResult) -> None:
        """Add the rows of an attempt."""
        number, done = finished.job.segment.number, self._now()
        granted, limit = self._granted.get(number, (0, ""))
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
            memory=result.memory,
            granted=granted,
            limit=limit,
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
            **({"limits": dict(self._limits)} if self._limits else {}),
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
