"""Run one segment and measure its tasks: what every back end does where its tasks run."""

# Rejected: measuring in the parent, where the way there and back would count as work; keeping the exception object.

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import Any

from pipeline.errors import DataError, EntryDamaged, TaskTimeout, WriteError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import dependencies, execute, is_constant
from pipeline.graph.segments import Dropped, Failure, FailureKind, Group, Segment, SegmentTask
from pipeline.worker import output_capture, shared_store
from pipeline.worker.finished_items import FinishedItems
from pipeline.worker.isolation import Isolation, detached, read_only_cure
from pipeline.worker.kept_tasks import take_outcome
from pipeline.worker.memory import nbytes, resident, without_rest
from pipeline.worker.output_buffer import Emit, Line, OutputBuffer
from pipeline.worker.segment_result import SegmentResult, SegmentTimes, TaskTiming
from pipeline.worker.sql_engine import make_ready
from pipeline.worker.statement_chains import (
    Relation,
    chains_of,
    learn_proportions,
    proportions,
    relation_of,
    sample_times,
)
from pipeline.worker.thread_usage import TaskUsage, UsageMeter
from pipeline.worker.tracebacks import describe, traceback_of

__all__ = ["Hooks", "begin_item", "cause_of", "run_segment"]


@dataclass(frozen=True)
class Hooks:
    """What a back end adds to the run of a segment.

    Parameters
    ----------
    on_start : called before each attempt at a task
    emit, hold : what gets the lines that the tasks print, see :class:`pipeline.worker.output_buffer.OutputBuffer`;
        None: they are part of the result. Lines are captured while the streams of the process are replaced
        (:func:`pipeline.worker.output_capture.install`)
    store : of a batch: makes of each output what is sent or kept; what it raises fails the task. None: the value itself
    finished : of a batch: takes what its items have given, for the case that this process dies
    on_failure : of a batch: called with each failure after which it goes on, and whether the task is tried again
    """

    on_start: Callable[[SegmentTask], None] | None = None
    emit: Emit | None = None
    hold: float = 0.0
    store: Callable[[Any], Any] | None = None
    finished: FinishedItems | None = None
    on_failure: Callable[[Failure, bool], None] | None = None


def run_segment(
    segment: Segment, inputs: Mapping[Key, Any], hooks: Hooks | None = None, *, only_here: bool = False
) -> SegmentResult:
    """Run the tasks of a segment in order and measure each.

    Never raises because of a task, not even for ``sys.exit``: the failure is part of the result. Only a real Ctrl-C
    passes through, in a process that does not ignore it. A timeout is noticed after the task has returned; stopping the
    task earlier is up to the back end.

    Parameters
    ----------
    inputs : values of ``segment.inputs``, as objects
    only_here : whether ``inputs`` were made for this call alone, so that a task may change those that no other needs
    """
    hooks = hooks or Hooks()
    began = perf_counter_ns()
    result = SegmentResult(times=SegmentTimes(began, began))
    run = _Run(segment, dict(inputs), result, hooks, Isolation(segment, only_here=only_here))
    buffer = run.buffer = output_capture.start(hooks.emit or run.take_lines, hooks.hold)
    try:
        run.tasks()
    finally:
        _current.restart = None
        shared_store.task_begins("", pure=False)
        output_capture.stop(buffer)
        result.extend(run.news)
        if hooks.finished is not None:
            hooks.finished.close()
    result.shared = sorted(run.isolation.shared)
    return result


_DAEMONIC = "the workers of this back end can't start processes; --backend processes, threads or serial can"
_current = threading.local()  # of the task in this thread: ``item``, and ``restart``, which restarts its time limit


def begin_item(key: str) -> None:
    """Called by a task of several items before each: failures name the item, and the time limit restarts with it."""
    _current.item = key
    if getattr(_current, "restart", None) is not None:
        _current.restart()


class _Run:
    """One run of a segment. State: the values that are there; in ``news`` what is new since the last finished item.

    A batch goes on after a task that failed: it is tried again as often as its step allows, then its item is dropped if
    it may be. Else the task is the last one, as in any segment, unless the segment goes on (``keep_going``): then those
    that need it are not run.
    """

    def __init__(
        self, segment: Segment, values: dict[Key, Any], result: SegmentResult, hooks: Hooks, isolation: Isolation
    ) -> None:
        self.segment, self.values, self.result, self.hooks, self.isolation = segment, values, result, hooks, isolation
        self.news = SegmentResult()
        self.buffer: OutputBuffer
        self._outputs = frozenset(segment.outputs) if segment.batch else frozenset()
        self._leaving = frozenset(segment.outputs)
        self._needed = {key for task in segment.tasks for key in dependencies(task.node)} if segment.batch else set()
        self._item: list[Key] = []  # the tasks of the item that runs
        self._lacking: set[Key] = set()  # the tasks that failed, and those that need them
        self._meter = UsageMeter()
        self._chains = chains_of(segment)
        self._computed: set[Key] = set()  # as parts of a statement
        self._learned: tuple[tuple[SegmentTask, ...], Relation] | None = None  # of the tasks that run now

    def tasks(self) -> None:
        """Run the tasks in order; the result is filled on the way."""
        for task in self.segment.tasks:
            if is_constant(task.node):
                self.values[task.key] = execute(task.node, self.values)
                continue
            if task.key in self._chains:
                self._compute(self._chains[task.key])
            if task.key in self._computed:
                self._free(task)
                continue
            if task.opens:
                self._finish_item()
            if self._lacking and not self._lacking.isdisjoint(dependencies(task.node)):
                self._lacking.add(task.key)
            elif (failure := self._complete(task)) is not None:
                if not self.segment.goes_on or failure.kind == "entry":
                    self.result.failure = failure
                    return
                self.news.failed.append(failure)
                self._lacking.add(task.key)
            self._item.append(task.key)
            self._free(task)
            self._learn(task)
        self._finish_item()
        if not self.segment.batch:
            self.result.outputs = {key: self.values[key] for key in self.segment.outputs if key not in self._lacking}

    def _free(self, task: SegmentTask) -> None:
        """Forget the values that are not needed after a task."""
        for key in task.frees:
            if key not in self._lacking:
                del self.values[key]
                self.isolation.free(key)

    def _compute(self, chain: tuple[SegmentTask, ...]) -> None:
        """Compute tasks as one statement; where that is not possible, or fails, they run one by one after this."""
        self._learned = None
        if any(key in self._lacking for task in chain for key in dependencies(task.node)):
            return
        start, relation = perf_counter_ns(), None
        try:
            relation = relation_of(chain, self.values)
            parts = proportions(chain, relation) if relation is not None else ()
            if relation is not None and parts is None:
                before = perf_counter_ns()
                parts = self._sampled(chain, relation)
                spent = perf_counter_ns() - before
                self.result.measuring, start = self.result.measuring + spent, start + spent
            if relation is None or not parts:
                self.result.measuring += perf_counter_ns() - start
                return
            if self.hooks.on_start is not None:
                for task in chain:
                    self.hooks.on_start(task)
            self._meter.begin()
            value = relation.computed()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and _is_users(error):
                raise
            if relation is not None:
                learn_proportions(chain, relation, ())
            return  # the task that is at fault says what is wrong
        self._split(chain, parts, value, start, perf_counter_ns())
        self.values |= {task.key: None for task in chain} | {chain[-1].key: value}
        self._computed |= {task.key for task in chain}

    def _sampled(self, chain: tuple[SegmentTask, ...], relation: Relation) -> tuple[float, ...] | None:
        """Learn from some of its rows how to split the time of a statement; None: its tasks run one by one now."""
        make_ready()
        times = None
        with contextlib.suppress(Exception):  # the task at fault fails again, and says what is wrong
            times = sample_times(chain, self.values, relation)
        if times is not None:
            return learn_proportions(chain, relation, times)
        self._learned = chain, relation
        return None

    def _split(self, chain: Sequence[SegmentTask], parts: Sequence[float], value: Any, start: int, stop: int) -> None:
        """Note what each task of a statement took."""
        used, memory, at, done = self._meter.end(), resident(stop), start, 0.0
        for task, part in zip(chain, parts, strict=True):
            done += part
            end = stop if task is chain[-1] else start + round((stop - start) * done)
            usage = TaskUsage(*[round(count * part) for count in used])
            size = nbytes(value) if task is chain[-1] else 0
            self.news.timings.append(TaskTiming(task.key, task.step, at, end, usage, size, memory))
            at = end
        self.result.measuring += perf_counter_ns() - stop

    def _learn(self, task: SegmentTask) -> None:
        """Note how long the tasks of a statement took one by one, after the last of them."""
        if self._learned is not None and task is self._learned[0][-1]:
            chain, relation = self._learned
            took = {timing.key: timing.stop - timing.start for timing in self.news.timings}
            if self._lacking.isdisjoint(one.key for one in chain):
                learn_proportions(chain, relation, [took[one.key] for one in chain])
            self._learned = None

    def _finish_item(self) -> None:
        """Note that the item before is over, where it can be read if this process dies."""
        if not self.segment.batch or not self._item:
            return
        self.news.done, self._item = self._item, []
        self._keep()

    def _keep(self) -> None:
        if self.hooks.finished is not None:
            self.hooks.finished.add(self.news)
        self.result.extend(self.news)
        self.news = SegmentResult()

    def take_lines(self, lines: Sequence[Line]) -> None:
        """Take lines that a task printed, where there is no way to send them sooner."""
        self.news.lines += lines

    def _complete(self, task: SegmentTask) -> Failure | None:
        """Run one task as often as needed; return the failure that ends the segment, if any."""
        tries = 0
        while True:
            value, failure = self._once(task, task.attempt + tries)
            if failure is None or not self.segment.batch:
                break
            again = tries < task.retries and failure.kind != "entry"
            if not again and not failure.drop:
                failure.final = True
                break
            tries += 1
            self.news.failures.append((failure, again))
            if self.hooks.on_failure is not None:
                self.hooks.on_failure(failure, again)
            if not again:
                value, failure = Dropped(failure.cause), None
                break
            self._keep()
        if failure is not None:
            return failure
        if type(value) is Dropped and not any(type(self.values[k]) is Dropped for k in dependencies(task.node)):
            self.news.dropped.append((task.step, task.item or str(task.key), value.cause))
        elif type(value) is Group:
            self.news.dropped += [(task.step, key, cause) for key, cause in value.dropped]
        if task.key not in self._outputs:
            self.values[task.key] = value
            return None
        if self.hooks.store is not None and type(value) is Dropped:
            self.news.outputs[task.key] = self.hooks.store(value)
        self.news.outputs.setdefault(task.key, value)
        if task.key in self._needed:  # else it is kept once, as it is stored
            self.values[task.key] = value
        return None

    def _once(self, task: SegmentTask, attempt: int) -> tuple[Any, Failure | None]:
        """Run and measure one attempt at a task; return its value and its failure."""
        if self.hooks.on_start is not None:
            self.hooks.on_start(task)
        restart = partial(self.hooks.on_start, task) if self.hooks.on_start is not None and task.timeout else None
        _current.item, _current.restart, _current.writable = "", restart, task.writable
        began = perf_counter_ns()
        node, given = self.isolation.prepare(task, self.values)
        copying = perf_counter_ns() - began if given is not self.values else 0
        streams = output_capture.current_streams()
        self.buffer.task = task
        shared_store.task_begins(task.step, pure=task.pure)
        failure, value = None, None
        self._meter.begin()
        start, pid = perf_counter_ns(), os.getpid()
        try:
            value = execute(node, given)
            if task.key in self._leaving:
                value = without_rest(value)
        except BaseException as error:
            stop = perf_counter_ns()
            if isinstance(error, KeyboardInterrupt) and _is_users(error):
                raise
            failure = _failure(task, error)
        else:
            stop = perf_counter_ns()
        if os.getpid() != pid:  # a process that the task has forked returned, too: it must not go on here
            os._exit(failure is not None)
        used, kept = self._meter.end(), take_outcome()
        shared_store.release_all()
        output_capture.put_back(streams)
        self.buffer.task = None
        if self.isolation.gave_arrays:
            value = detached(value)
        del given
        if self.buffer.has_output:
            self.buffer.end_task()
        size, memory = nbytes(value), resident(stop)
        timing = TaskTiming(task.key, task.step, start, stop, used, size, memory, attempt, copying, kept)
        self.news.timings.append(timing)
        self.result.measuring += perf_counter_ns() - stop
        is_late = task.timeout is not None and stop - start > task.timeout * 1e9
        if failure is None and is_late and type(value) is not Group:  # the items of a Group have a limit each
            failure = Failure.late(task)
        if failure is None and task.key in self._outputs and self.hooks.store is not None:
            failure = self._store(task, value)
        return value, failure

    def _store(self, task: SegmentTask, value: Any) -> Failure | None:
        """Store an output as the back end sends it; return the failure if it can't be sent."""
        assert self.hooks.store is not None
        try:
            self.news.outputs[task.key] = self.hooks.store(value)
        except BaseException as error:  # noqa: BLE001 - pickling runs the user's code
            return Failure.of(task, f"its result ({type(value).__name__}) can't be pickled: {describe(error)}")
        return None


def _failure(task: SegmentTask, error: BaseException) -> Failure:
    kind: FailureKind = "data" if isinstance(error, DataError) else "raised"
    if isinstance(error, WriteError):
        kind = "write"
    if isinstance(error, TaskTimeout):  # of a program, which its task has ended
        kind = "timeout"
    if isinstance(error, EntryDamaged):
        kind = "entry"
    cause = f"item {_current.item}: {cause_of(error)}" if _current.item else cause_of(error)
    return Failure.of(task, cause, traceback=traceback_of(error), kind=kind)


def cause_of(error: BaseException) -> str:
    """Return what a task raised as text, with the cure where the way in which tasks run is the cause."""
    cure = "" if getattr(_current, "writable", False) else read_only_cure(error)
    if isinstance(error, AssertionError) and "daemonic processes" in str(error):
        cure = _DAEMONIC
    return f"{describe(error)}; {cure}" if cure else describe(error)


def _is_users(error: KeyboardInterrupt) -> bool:
    """Whether it is the user's Ctrl-C: worker processes ignore that, and the program's handler raises its own kind."""
    if threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(signal.SIGINT)
    return handler is not signal.SIG_IGN and (
        type(error) is not KeyboardInterrupt or handler is signal.default_int_handler
    )
