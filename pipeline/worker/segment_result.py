"""What one attempt at a segment gives: results, measurements, failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.graph.graph import Key
from pipeline.graph.segments import Failure
from pipeline.worker.output_buffer import Line
from pipeline.worker.thread_usage import TaskUsage

__all__ = ["SegmentResult", "SegmentTimes", "SharedUse", "TaskTiming"]


class TaskTiming(NamedTuple):
    """One task that ran: ``perf_counter_ns`` at start and stop, sizes in bytes.

    Parameters
    ----------
    usage : what the system counted for it
    attempt : how often it had failed before in the same batch
    copying : ns before its start for copies of values that other tasks see as well
    kept : what became of the value of a kept task, see :func:`pipeline.worker.kept_tasks.take_outcome`
    """

    key: Key
    step: str
    start: int
    stop: int
    usage: TaskUsage
    bytes_out: int
    memory: int
    attempt: int = 0
    copying: int = 0
    kept: str = ""


class SegmentTimes(NamedTuple):
    """Instants around the tasks of a segment, by ``perf_counter_ns``; 0 where there is none or it was not observed.

    They are described at :data:`pipeline.trace.trace.INSTANTS`.
    """

    received: int = 0
    loaded: int = 0
    opened: int = 0
    packed: int = 0
    sent: int = 0


class SharedUse(NamedTuple):
    """What went through shared memory for a segment: bytes mapped, bytes written, ns of both."""

    bytes_in: int = 0
    bytes_sent: int = 0
    ns: int = 0


@dataclass
class SegmentResult:
    """The result of one attempt at a segment.

    Parameters
    ----------
    outputs : key -> value of all outputs; empty if a task failed, except in a batch
    timings : the tasks that ran, in order, failed ones included; constants are not counted as tasks
    failure : of the task that failed, as text: an exception may refuse to be pickled or unpickled
    done : of a batch, the tasks of the items that have finished, dropped ones included
    failures : of a batch, the failures after which it went on, each with whether its task was tried again
    failed : the final failures after which it went on (``keep_going``); what needs these tasks is not among the outputs
    dropped : the items that failed under ``on_error: drop``: step, item, cause
    worker : name of the worker thread or process
    times : when the segment reached the worker and left it
    measuring : ns spent on looking at the results of the tasks: their sizes, the memory of the process
    lines : what the tasks printed, where there was no way to send it sooner
    shared : step and type of values that several tasks got as they are, since they can't be pickled
    memory : what went through shared memory
    lacked : why a large value did not
    """

    outputs: dict[Key, Any] = field(default_factory=dict)
    timings: list[TaskTiming] = field(default_factory=list)
    failure: Failure | None = None
    done: list[Key] = field(default_factory=list)
    failures: list[tuple[Failure, bool]] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)
    worker: str = ""
    times: SegmentTimes = field(default_factory=SegmentTimes)
    measuring: int = 0
    lines: list[Line] = field(default_factory=list)
    shared: list[tuple[str, str]] = field(default_factory=list)
    memory: SharedUse = field(default_factory=SharedUse)
    lacked: str = ""

    def extend(self, news: SegmentResult) -> None:
        """Add what is new in the same attempt."""
        self.outputs |= news.outputs
        self.timings += news.timings
        self.done += news.done
        self.failures += news.failures
        self.failed += news.failed
        self.dropped += news.dropped
        self.lines += news.lines
        self.worker = news.worker or self.worker
