"""From what a worker measured to the rows of a Trace; and the CPU time that goes into everything but the tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from time import perf_counter, process_time

import psutil

from pipeline.graph.graph import GraphNode, execute, task
from pipeline.graph.segments import Segment, SegmentTask
from pipeline.trace.trace import Record, Trace
from pipeline.worker.run_segment import SegmentTimes, TaskTiming, run_segment

__all__ = ["Usage", "measuring_cost", "records"]

_SAMPLE = 300  # tasks that the cost of measuring is measured with


def records(
    measured: Sequence[TaskTiming],
    around: SegmentTimes,
    *,
    worker: str,
    segment: int,
    attempt: int,
    ready: int,
    submitted: int,
    done: int,
    origin: int,
    bytes_in: int = 0,
    bytes_sent: int = 0,
) -> Iterator[Record]:
    """The rows of one segment that ran.

    Parameters
    ----------
    measured, around : instants on the clock of ``perf_counter_ns``; ``origin`` is when the run began on it
    ready, submitted, done : ns since the run began
    bytes_in, bytes_sent : of the segment; they stand on its first and its last row, so that the columns add up
    """
    last = len(measured) - 1
    before = 0
    for i, m in enumerate(measured):
        if i:
            received = loaded = before
            opened = m.start
        else:
            opened = around.opened or m.start
            loaded = around.loaded or opened
            received = around.received or loaded
        packed = (around.packed or m.stop) if i == last else m.stop
        sent = max(around.sent, packed) if i == last else m.stop
        before = m.stop
        yield Record(
            str(m.key),
            m.step,
            worker,
            segment,
            attempt,
            ready,
            submitted,
            received - origin,
            loaded - origin,
            opened - origin,
            m.start - origin,
            m.stop - origin,
            packed - origin,
            sent - origin,
            done,
            m.cpu,
            0 if i else bytes_in,
            m.bytes_out,
            bytes_sent if i == last else 0,
            m.memory,
        )


class Usage:
    """CPU seconds of this process and of those below it, from the moment it is made."""

    def __init__(self) -> None:
        self._own, self._below = process_time(), _below()

    def beside(self, *, tasks: float, in_process: bool) -> dict[str, float]:
        """What went into everything but the tasks; signed, since the system counts in steps of 10 ms.

        Parameters
        ----------
        tasks : CPU seconds of the tasks
        in_process : the tasks ran in this process
        """
        own = process_time() - self._own
        if in_process:
            return {"parent": own - tasks}
        below = sum(seconds - self._below.get(pid, 0.0) for pid, seconds in _below().items())
        return {"parent": own, "workers": below - tasks}


def _below() -> dict[int, float]:
    found = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    return found


def measuring_cost() -> float:
    """Seconds that measuring one task costs here: tasks of nothing, measured and made into a Trace, against bare ones.

    What a segment costs besides (its message's instants) is far less than what this counts for each task.
    """
    nodes: list[GraphNode] = [task(("empty", i), _nothing) for i in range(_SAMPLE)]
    inners = tuple(SegmentTask(("empty", i), node, "empty") for i, node in enumerate(nodes))
    segment = Segment(0, "empty", inners, (), (("empty", _SAMPLE - 1),))
    began = perf_counter()
    for node in nodes:
        execute(node, {})
    bare = perf_counter() - began
    began = perf_counter()
    completion = run_segment(segment, {})
    rows = records(completion.measured, completion.around, worker="", segment=0, attempt=0, ready=0, submitted=0,
                   done=0, origin=0)  # fmt: skip
    Trace.from_records(rows, elapsed=0.0, backend="", n_workers=1)
    return max(0.0, perf_counter() - began - bare) / _SAMPLE


def _nothing() -> None:
    """A task of no work."""
