"""Run one segment and measure its tasks: what every back end does where its tasks run."""

# Rejected: measuring in the parent, where the way there and back would count as work; keeping the exception object.

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns, thread_time_ns
from typing import Any, Literal, NamedTuple

from pipeline.errors import DataError, TaskTimeout, WriteError
from pipeline.graph.graph import Key, dependencies, execute, is_constant
from pipeline.graph.segments import Dropped, Failure, Group, Segment, SegmentTask
from pipeline.worker import output_capture
from pipeline.worker.isolation import Isolation, detached, read_only_cure
from pipeline.worker.memory import nbytes, resident
from pipeline.worker.output_buffer import Emit, Line, OutputBuffer
from pipeline.worker.tracebacks import describe, traceback_of

__all__ = ["SegmentResult", "SegmentTimes", "TaskTiming", "begin_item", "cause_of", "run_segment"]


class TaskTiming(NamedTuple):
    """One task that ran: ``perf_counter_ns`` at start and stop, ns of its thread's CPU time, sizes in bytes."""

    key: Key
    step: str
    start: int
    stop: int
    cpu: int
    bytes_out: int
    memory: int


class SegmentTimes(NamedTuple):
    """Instants around the tasks of a segment, by ``perf_counter_ns``; 0 where there is none or it was not observed.

    They are described at :data:`pipeline.trace.trace.INSTANTS`.
    """

    received: int = 0
    loaded: int = 0
    opened: int = 0
    packed: int = 0
    sent: int = 0


@dataclass
class SegmentResult:
    """The result of one attempt at a segment.

    Parameters
    ----------
    outputs : key -> value of all outputs; empty if a task failed
    timings : the tasks that ran, in order, a failed one included; constants are not counted as tasks
    failure : of the task that failed, as text: an exception may refuse to be pickled or unpickled
    dropped : the items that failed under ``on_error: drop``: step, item, cause
    worker : name of the worker thread or process
    times : when the segment reached the worker and left it
    measuring : ns spent on looking at the results of the tasks: their sizes, the memory of the process
    lines : what the tasks printed, where there was no way to send it sooner
    shared : step and type of values that several tasks got as they are, since they can't be pickled
    """

    outputs: dict[Key, Any] = field(default_factory=dict)
    timings: list[TaskTiming] = field(default_factory=list)
    failure: Failure | None = None
    dropped: list[tuple[str, str, str]] = field(default_factory=list)
    worker: str = ""
    times: SegmentTimes = field(default_factory=SegmentTimes)
    measuring: int = 0
    lines: list[Line] = field(default_factory=list)
    shared: list[tuple[str, str]] = field(default_factory=list)


def run_segment(
    segment: Segment,
    inputs: Mapping[Key, Any],
    *,
    on_start: Callable[[SegmentTask], None] | None = None,
    emit: Emit | None = None,
    hold: float = 0.0,
    only_here: bool = False,
) -> SegmentResult:
    """Run the tasks of a segment in order and measure each.

    Never raises because of a task, not even for ``sys.exit``: the failure is part of the result. Only a real Ctrl-C
    passes through, in a process that does not ignore it. A timeout is noticed after the task has returned; stopping the
    task earlier is up to the back end.

    Parameters
    ----------
    inputs : values of ``segment.inputs``, as objects
    on_start : called before each task
    emit, hold : what gets the lines that the tasks print, see :class:`pipeline.worker.output_buffer.OutputBuffer`;
        None: they are part of the result. Lines are captured while the streams of the process are replaced
        (:func:`pipeline.worker.output_capture.install`)
    only_here : whether ``inputs`` were made for this call alone, so that a task may change those that no other needs
    """
    began = perf_counter_ns()
    result = SegmentResult(times=SegmentTimes(began, began))
    buffer = output_capture.start(emit or result.lines.extend, hold)
    try:
        isolation = Isolation(segment, only_here=only_here)
        _run(segment, dict(inputs), result, buffer, on_start, isolation)
        result.shared = sorted(isolation.shared)
    finally:
        _current.restart = None
        output_capture.stop(buffer)
    return result


_current = threading.local()  # of the task in this thread: ``item``, and ``restart``, which restarts its time limit


def begin_item(key: str) -> None:
    """Called by a task of several items before each: failures name the item, and the time limit restarts with it."""
    _current.item = key
    if getattr(_current, "restart", None) is not None:
        _current.restart()


def _run(
    segment: Segment,
    values: dict[Key, Any],
    result: SegmentResult,
    buffer: OutputBuffer,
    on_start: Callable[[SegmentTask], None] | None,
    isolation: Isolation,
) -> None:
    """Run the tasks; ``result`` and ``values`` are filled on the way."""
    for task in segment.tasks:
        if is_constant(task.node):
            values[task.key] = execute(task.node, values)
            continue
        if on_start is not None:
            on_start(task)
        _current.item, _current.restart = "", partial(on_start, task) if on_start is not None and task.timeout else None
        _current.writable = task.writable
        node, given = isolation.prepare(task, values)
        buffer.task = task
        cpu = thread_time_ns()
        start, pid = perf_counter_ns(), os.getpid()
        try:
            value = execute(node, given)
        except BaseException as error:
            stop = perf_counter_ns()
            if isinstance(error, KeyboardInterrupt) and _accepts_interrupts():
                raise
            result.failure = _failure(task, error)
            value = None
        else:
            stop = perf_counter_ns()
        if os.getpid() != pid:  # a process that the task has forked returned, too: it must not go on here
            os._exit(result.failure is not None)
        spent = thread_time_ns() - cpu
        buffer.task = None
        if given is not values:
            value = detached(value)
        del given
        if buffer.has_output:
            buffer.end_task()
        result.timings.append(TaskTiming(task.key, task.step, start, stop, spent, nbytes(value), resident(stop)))
        result.measuring += perf_counter_ns() - stop
        is_late = task.timeout is not None and stop - start > task.timeout * 1e9
        if result.failure is None and is_late and type(value) is not Group:  # the items of a Group have a limit each
            result.failure = Failure.late(task)
        if result.failure is not None:
            return
        if type(value) is Dropped and not any(type(values[key]) is Dropped for key in dependencies(task.node)):
            result.dropped.append((task.step, task.item or str(task.key), value.cause))
        elif type(value) is Group:
            result.dropped += [(task.step, key, cause) for key, cause in value.dropped]
        values[task.key] = value
        for key in task.frees:
            del values[key]
            isolation.free(key)
    result.outputs = {key: values[key] for key in segment.outputs}


def _failure(task: SegmentTask, error: BaseException) -> Failure:
    kind: Literal["data", "raised", "timeout", "write"] = "data" if isinstance(error, DataError) else "raised"
    if isinstance(error, WriteError):
        kind = "write"
    if isinstance(error, TaskTimeout):  # of a program, which its task has ended
        kind = "timeout"
    cause = f"item {_current.item}: {cause_of(error)}" if _current.item else cause_of(error)
    return Failure.of(task, cause, traceback=traceback_of(error), kind=kind)


def cause_of(error: BaseException) -> str:
    """Return what a task raised as text, with the cure where it tried to write to a read-only array."""
    cure = "" if getattr(_current, "writable", False) else read_only_cure(error)
    return f"{describe(error)}; {cure}" if cure else describe(error)


def _accepts_interrupts() -> bool:
    """Whether a KeyboardInterrupt here is the user's Ctrl-C; worker processes ignore that."""
    return (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    )
