"""The one loop of the back ends of one machine: scheduler + submit -> results and Trace.

A back end of this kind is an :class:`Executor`: it takes a segment with the values that it needs and some time later
says what came of it. Everything else is here, once: order, retries, what a lost worker means, the release of values,
the rows of the Trace, what the listener hears.

Values are opaque to the loop: an executor whose workers are processes hands out pickled bytes, which are passed on as
they are, and only the wanted ones are decoded, at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from time import perf_counter_ns
from typing import Any, ClassVar, Protocol

from pipeline.backends.base import Capabilities, Outcome
from pipeline.backends.events import (
    Event,
    ItemDropped,
    Listener,
    TaskRetry,
    TasksDone,
    WorkerLoss,
    output_events,
    show_output,
)
from pipeline.backends.trace_records import Usage, records
from pipeline.errors import PipelineError, TaskError, WorkerLost, where
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import CONTEXT, Graph, Key
from pipeline.graph.scheduler import Scheduler
from pipeline.graph.segments import NOT_AGAIN, Failure, Segment, SegmentTask
from pipeline.trace.trace import Record, Trace
from pipeline.worker.output_capture import Line
from pipeline.worker.run_segment import SegmentResult
from pipeline.worker.tracebacks import describe

__all__ = ["MOST_LOSSES", "Executor", "Finished", "Job", "Lost", "run"]

MOST_LOSSES = 3
"""A segment during which so many workers were lost is not given to another."""


@dataclass(frozen=True, eq=False)
class Job:
    """A segment to run, with the values that it needs as the executor stores them.

    Parameters
    ----------
    tell : takes what its tasks write, with the worker's name; called in the thread that calls ``submit`` and ``wait``.
        Executors that hear nothing before the end leave the lines in the Completion
    """

    segment: Segment
    inputs: Mapping[Key, Any]
    attempt: int = 0
    tell: Callable[[str, Sequence[Line]], None] = lambda worker, lines: None


@dataclass(frozen=True)
class Lost:
    """A worker that ended.

    Parameters
    ----------
    worker : its name and process id, as text
    ended : ``SIGKILL``, ``exit code 1``
    inner : the task that it ran; None if it ran none
    """

    worker: str
    ended: str
    inner: SegmentTask | None = None

    def message(self) -> str:
        """What to tell the user."""
        likely = "; out of memory is likely" if self.ended == "SIGKILL" else ""
        if self.inner is None:
            return f"{self.worker} ended by {self.ended} while it ran no task{likely}"
        task = where(self.inner.step, self.inner.item)
        return f"{task}: {self.worker} ended by {self.ended} while it ran task {self.inner.key}{likely}"


@dataclass(frozen=True, eq=False)
class Finished:
    """What came of a job: a completion, or a lost worker. ``blame``: whether the loss may be the job's own doing.

    ``bytes_in``, ``bytes_sent``: what moved to the worker and back.
    """

    job: Job
    completion: SegmentResult | None = None
    lost: Lost | None = None
    blame: bool = True
    bytes_in: int = 0
    bytes_sent: int = 0


class Executor(Protocol):
    """What runs the segments. Its methods are called from one thread."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    n_workers: int

    def prepare(self, graph: Graph) -> float:
        """Have the workers up and warm for a graph; the seconds that it took since the last run."""
        ...

    def has_room(self, n_ready: int) -> bool:
        """Whether a job may be submitted now; ``n_ready`` could be."""
        ...

    def submit(self, job: Job) -> None:
        """Have a job run. Returns at once where the workers are others' than the caller's thread."""
        ...

    def wait(self) -> Sequence[Finished]:
        """Wait until something happened; what finished since, which may be nothing."""
        ...

    def abandon(self) -> None:
        """End what still runs; the next ``prepare`` makes good for it."""
        ...

    def encode(self, value: Any) -> Any:
        """A value of this process as the executor stores it."""
        ...

    def decode(self, stored: Any) -> Any:
        """The value itself."""
        ...

    def notes(self) -> Mapping[str, Any]:
        """What the Trace should tell of the workers; ``gaps``, if any, in ns on the clock of ``perf_counter_ns``."""
        ...


def run(executor: Executor, graph: Graph, *, context: Any = None, listener: Listener | None = None) -> Outcome:
    """Run a graph; see :meth:`pipeline.backends.base.Backend.run`."""
    start_up = executor.prepare(graph)
    state = _Run(executor, graph, list(fuse(graph, n_workers=executor.n_workers)), listener)
    state.values[CONTEXT] = executor.encode(context)
    try:
        return state.complete(start_up)
    except BaseException:
        executor.abandon()
        raise


@dataclass
class _Run:
    """The state of one run; times are ns on the clock of ``perf_counter``."""

    executor: Executor
    graph: Graph
    segments: list[Segment]
    listener: Listener | None
    values: dict[Key, Any] = field(default_factory=dict)
    attempts: Counter[int] = field(default_factory=Counter)
    failures: Counter[int] = field(default_factory=Counter)
    losses: Counter[int] = field(default_factory=Counter)
    records: list[Record] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        segments = self.segments
        self.scheduler = Scheduler([s.inputs for s in segments], [s.outputs for s in segments], self.graph.wanted)
        maker = {key: s.number for s in segments for key in s.outputs}
        self.makers = [{maker[key] for key in s.inputs if key in maker} for s in segments]
        self.made = [0] * len(segments)  # when its results had left the worker
        self.measuring = 0  # ns
        self.usage = Usage()
        self.origin = perf_counter_ns()
        self.ready = [0] * len(segments)  # ns since the origin
        self.submitted = [0] * len(segments)

    def complete(self, start_up: float) -> Outcome:
        """Run everything, in the order and under the rules of the scheduler."""
        scheduler, executor = self.scheduler, self.executor
        while not scheduler.done:
            while scheduler.n_ready and executor.has_room(scheduler.n_ready):
                self._submit(scheduler.take())
            for finished in executor.wait():
                self._handle(finished)
        results = {key: self._decode(key) for key in self.graph.wanted}
        elapsed = (perf_counter_ns() - self.origin) / 1e9
        notes = {**executor.notes(), **self._usage(), "n_segments": len(self.segments)}
        trace = Trace.from_records(
            self.records,
            elapsed=elapsed,
            backend=executor.name,
            n_workers=executor.n_workers,
            start_up=start_up,
            notes=notes,
        )
        return Outcome(results, trace, tuple(self.segments), tuple(self.dropped), notes)

    def _usage(self) -> dict[str, Any]:
        """CPU beside the tasks, and the gaps on the Trace's clock."""
        tasks = sum(row.cpu for row in self.records) / 1e9
        in_process = not self.executor.capabilities.isolates_tasks
        gaps = [[worker, a - self.origin, b - self.origin] for worker, a, b in self.executor.notes().get("gaps", ())]
        return {
            "cpu": self.usage.beside(tasks=tasks, in_process=in_process),
            "gaps": gaps,
            "measuring": self.measuring / 1e9 / max(1, len(self.records)),
        }

    def _submit(self, number: int) -> None:
        segment = self.segments[number]
        self.submitted[number] = perf_counter_ns() - self.origin
        inputs = {key: self.values[key] for key in segment.inputs}
        self.executor.submit(Job(segment, inputs, self.attempts[number], self._tell_output))

    def _decode(self, key: Key) -> Any:
        try:
            return self.executor.decode(self.values[key])
        except Exception as error:
            cause = f"its result can't be unpickled: {describe(error)}"
            raise TaskError(self.graph.owners[key], str(key), cause, self.graph.item(key)) from error

    # What may have happened to a job

    def _handle(self, finished: Finished) -> None:
        if finished.completion is None:
            self._lose(finished)
            return
        self._tell_output(finished.completion.worker, finished.completion.said)
        self._record(finished, finished.completion)
        if finished.completion.failure is not None:
            self._fail(finished.job.segment, finished.completion.failure)
        else:
            self._finish(finished.job.segment.number, finished.completion)

    def _finish(self, number: int, completion: SegmentResult) -> None:
        self.values.update(completion.outputs)
        progress = self.scheduler.finish(number)
        for other in progress.ready:
            self.ready[other] = max((self.made[n] for n in self.makers[other]), default=0)
        for key in progress.released:
            if key != CONTEXT:
                del self.values[key]  # type: ignore[arg-type]  # the scheduler takes any hashable for a value
        for step, item, cause in completion.dropped:
            self.dropped.append((step, item, cause))
            self._tell(ItemDropped(step, item, cause))
        if self.listener is not None:
            self._tell_tasks(self.segments[number], completion)

    def _fail(self, segment: Segment, failure: Failure) -> None:
        error: PipelineError = failure.error()
        number = segment.number
        if self.failures[number] < segment.retries:
            self.failures[number] += 1
            self._tell(TaskRetry(failure.step, failure.key, failure.item, failure.cause))
        elif failure.drop:
            self.failures[number] = 0  # the other items of the segment may fail as often
            self.segments[number] = self.segments[number].without(failure)
        else:
            raise error
        self.attempts[number] += 1
        self.ready[number] = perf_counter_ns() - self.origin
        self.scheduler.again(number)

    def _lose(self, finished: Finished) -> None:
        number, lost = finished.job.segment.number, finished.lost
        if lost is not None and finished.blame:
            inner = lost.inner or finished.job.segment.tasks[0]
            self.losses[number] += 1
            self.attempts[number] += 1
            message = lost.message()
            if not self.executor.capabilities.recovers_workers:
                raise WorkerLost(message, inner.name)
            if not finished.job.segment.pure:
                raise WorkerLost(f"{message}; {NOT_AGAIN}", inner.name)
            if self.losses[number] >= MOST_LOSSES:
                raise WorkerLost(f"{message}; it is the {MOST_LOSSES}rd worker lost by this segment", inner.name)
            self._tell(WorkerLoss(inner.step, str(inner.key), inner.item, message))
        self.scheduler.again(number)

    # What is told

    def _record(self, finished: Finished, completion: SegmentResult) -> None:
        number, done = finished.job.segment.number, perf_counter_ns() - self.origin
        self.measuring += completion.measuring
        self.records += records(
            completion.measured,
            completion.around,
            worker=completion.worker,
            segment=number,
            attempt=finished.job.attempt,
            ready=self.ready[number],
            submitted=self.submitted[number],
            done=done,
            origin=self.origin,
            bytes_in=finished.bytes_in,
            bytes_sent=finished.bytes_sent,
        )
        self.made[number] = self.records[-1].sent if completion.measured else done

    def _tell_tasks(self, segment: Segment, completion: SegmentResult) -> None:
        """One event for each stretch of tasks of one step."""
        took = {m.key: m.stop - m.start for m in completion.measured}
        counted = [inner for inner in segment.tasks if inner.key in took and inner.key in self.graph.tasks]
        for step, inners in groupby(counted, key=lambda inner: inner.step):
            some = list(inners)
            seconds = sum(took[inner.key] for inner in some) / 1e9
            self._tell(TasksDone(step, str(some[-1].key), some[-1].item, len(some), seconds))

    def _tell_output(self, worker: str, lines: Sequence[Line]) -> None:
        tell = self.listener or show_output
        for event in output_events(worker, lines):
            tell(event)

    def _tell(self, event: Event) -> None:
        if self.listener is not None:
            self.listener(event)
