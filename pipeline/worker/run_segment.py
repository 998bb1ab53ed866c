"""Run one segment, measure its tasks: what every back end does where its tasks run.

A segment is what is handed to a worker at once: some tasks of the Graph, in an order in which they can run. A fault of
a task never leaves :func:`run_segment` as an exception: it comes back as a :class:`Failure` made of text alone, since
an exception may refuse to be pickled, or to be unpickled, and ``sys.exit`` in a task must not end the worker.

Rejected: measuring in the parent (the way there and back would count as work); keeping the exception object.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns, thread_time_ns
from typing import Any, Literal, NamedTuple

from pipeline.errors import DataError, TaskTimeout
from pipeline.graph.graph import Key, execute, is_constant
from pipeline.graph.segments import NOT_AGAIN, Dropped, Failure, Group, Segment, SegmentTask
from pipeline.worker.memory import nbytes, resident
from pipeline.worker.output_capture import Line, OutputBuffer, Tell, listen, unlisten
from pipeline.worker.tracebacks import describe, traceback_of

__all__ = [
    "NOT_AGAIN",
    "Dropped",
    "Failure",
    "Group",
    "Segment",
    "SegmentResult",
    "SegmentTask",
    "SegmentTimes",
    "TaskTiming",
    "begin_item",
    "run_segment",
]


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
    """What happens around the tasks of a segment, by ``perf_counter_ns``; 0 where it takes no time or was not seen.

    The instants are those of :data:`pipeline.trace.trace.INSTANTS`.
    """

    received: int = 0
    loaded: int = 0
    opened: int = 0
    packed: int = 0
    sent: int = 0


@dataclass
class SegmentResult:
    """What came of a segment.

    Parameters
    ----------
    outputs : key -> value, of all outputs if nothing failed, else empty
    measured : the tasks that ran, in order, a failed one included; constants are not counted as tasks
    dropped : the items that failed under ``on_error: drop`` here: step, item, cause
    worker : name of the worker thread or process
    around : when it came to the worker and left it
    measuring : ns that looking at the results of its tasks took: their sizes, the process's memory
    said : the lines that its tasks wrote, where there was no way to tell them sooner
    """

    outputs: dict[Key, Any] = field(default_factory=dict)
    measured: list[TaskTiming] = field(default_factory=list)
    failure: Failure | None = None
    dropped: list[tuple[str, str, str]] = field(default_factory=list)
    worker: str = ""
    around: SegmentTimes = field(default_factory=SegmentTimes)
    measuring: int = 0
    said: list[Line] = field(default_factory=list)


# ---------------------------------------------------------------------------------------------------------------------
# Running
# ---------------------------------------------------------------------------------------------------------------------


def run_segment(
    segment: Segment,
    inputs: Mapping[Key, Any],
    *,
    started: Callable[[SegmentTask], None] | None = None,
    tell: Tell | None = None,
    hold: float = 0.0,
) -> SegmentResult:
    """Run the tasks of a segment in order and measure each.

    Parameters
    ----------
    inputs : values of ``segment.inputs``, as objects
    started : called before each task
    tell, hold : what gets the lines that the tasks write, see :class:`pipeline.worker.output_capture.OutputBuffer`;
        None: the Completion
        has them. They are heard where the streams are captured (:func:`pipeline.worker.output_capture.install`)

    A fault of a task, ``sys.exit`` included, is told in ``failure``. Only a real Ctrl-C, in a process that listens to
    it, passes through. A timeout is noticed after the task came back; stopping it earlier is up to the back end. It is
    that of each item where a task does several, which looks after it itself: see :func:`begin_item`.
    """
    began = perf_counter_ns()
    completion = SegmentResult(around=SegmentTimes(began, began))
    speaker = listen(tell or completion.said.extend, hold)
    try:
        _run(segment, dict(inputs), completion, speaker, started)
    finally:
        _here.again = None
        unlisten(speaker)
    return completion


_here = threading.local()  # the item that the task of this thread is at, and how to say that its time begins anew


def begin_item(key: str) -> None:
    """Say that the task which runs here turns to the next of its items: failures name it, and its time begins anew."""
    _here.item = key
    if getattr(_here, "again", None) is not None:
        _here.again()


def _run(
    segment: Segment,
    values: dict[Key, Any],
    completion: SegmentResult,
    speaker: OutputBuffer,
    started: Callable[[SegmentTask], None] | None,
) -> None:
    """Run the tasks; ``completion`` and ``values`` are filled as they go on."""
    for inner in segment.tasks:
        node = inner.node
        if is_constant(node):
            values[inner.key] = execute(node, values)
            continue
        if started is not None:
            started(inner)
        _here.item, _here.again = "", partial(started, inner) if started is not None and inner.timeout else None
        speaker.inner = inner
        cpu = thread_time_ns()
        start, pid = perf_counter_ns(), os.getpid()
        try:
            value = execute(node, values)
        except BaseException as error:
            stop = perf_counter_ns()
            if isinstance(error, KeyboardInterrupt) and _listens_to_interrupts():
                raise
            kind: Literal["data", "raised", "timeout"] = "data" if isinstance(error, DataError) else "raised"
            if isinstance(error, TaskTimeout):  # of a program, which its task has ended
                kind = "timeout"
            cause = f"item {_here.item}: {describe(error)}" if _here.item else describe(error)
            completion.failure = Failure.of(inner, cause, traceback=traceback_of(error), kind=kind)
            value = None
        else:
            stop = perf_counter_ns()
        if os.getpid() != pid:  # a process that the task forked came back, too: the task is over once
            os._exit(completion.failure is not None)
        spent = thread_time_ns() - cpu
        speaker.inner = None
        if speaker.spoke:
            speaker.end_task()
        completion.measured.append(TaskTiming(inner.key, inner.step, start, stop, spent, nbytes(value), resident(stop)))
        completion.measuring += perf_counter_ns() - stop
        is_late = inner.timeout is not None and stop - start > inner.timeout * 1e9
        if completion.failure is None and is_late and type(value) is not Group:
            completion.failure = Failure.late(inner)
        if completion.failure is not None:
            return
        if type(value) is Dropped and not any(type(values[key]) is Dropped for key in node.dependencies):
            completion.dropped.append((inner.step, inner.item or str(inner.key), value.cause))
        elif type(value) is Group:
            completion.dropped += [(inner.step, key, cause) for key, cause in value.dropped]
        values[inner.key] = value
        for key in inner.frees:
            del values[key]
    completion.outputs = {key: values[key] for key in segment.outputs}


def _listens_to_interrupts() -> bool:
    """Whether a KeyboardInterrupt here is the user's Ctrl-C; worker processes ignore it."""
    return (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    )
