"""The rows of a Trace from what a worker measured, and the CPU time of everything but the tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from time import perf_counter, process_time

import psutil

from pipeline.graph.nodes import GraphNode, execute, task
from pipeline.graph.segments import Segment, SegmentTask
from pipeline.trace.trace import Record, Trace
from pipeline.worker.client_entries import is_sent
from pipeline.worker.run_segment import run_segment
from pipeline.worker.segment_result import SegmentTimes, SharedUse, TaskTiming

__all__ = ["Usage", "measuring_cost", "records"]

_SAMPLE = 300  # tasks to measure the cost of measuring with


def records(
    timings: Sequence[TaskTiming],
    times: SegmentTimes,
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
    memory: SharedUse = SharedUse(),  # noqa: B008  (it can't be changed)
    granted: int = 0,
    limit: str = "",
) -> Iterator[Record]:
    """Yield the rows of one attempt at a segment, one for each task that ran.

    Parameters
    ----------
    attempt : of the segment; in a batch each task has its own
    timings, times : instants of ``perf_counter_ns``; ``origin`` is when the run began by the same clock
    ready, submitted, done : ns since the run began
    bytes_in, bytes_sent, memory : of the segment; they are put on its first and its last row, so that the columns add
        up
    granted, limit : when the segment got its limits, in ns since the run began, and which of them it waited for
    """
    last = len(timings) - 1
    previous_stop = 0
    for i, m in enumerate(timings):
        if i:
            received, loaded = previous_stop, previous_stop + m.copying
            opened = m.start
        else:
            opened = times.opened or m.start
            loaded = times.loaded or opened
            received = times.received or loaded
            loaded = min(loaded + m.copying, m.start)  # as if the values had come from elsewhere
            opened = max(opened, loaded)
        packed = (times.packed or m.stop) if i == last else m.stop
        sent = max(times.sent, packed) if i == last else m.stop
        previous_stop = m.stop
        yield Record(
            str(m.key),
            m.step,
            worker,
            segment,
            attempt + m.attempt,
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
            m.usage.cpu,
            0 if i else bytes_in,
            m.bytes_out,
            bytes_sent if i == last else 0,
            m.memory,
            *m.usage[1:],
            0 if i else memory.bytes_in,
            memory.bytes_sent if i == last else 0,
            memory.ns if i == last else 0,
            granted,
            limit,
            "kept" if is_sent(m.kept) else m.kept,
        )


class Usage:
    """CPU seconds of this process and of its descendants, from when the object is made."""

    def __init__(self) -> None:
        self._own, self._descendants = process_time(), _cpu_of_descendants()

    def beside(self, *, tasks: float, in_process: bool) -> dict[str, float]:
        """Return the CPU seconds of everything but the tasks; possibly negative, since the system counts 10 ms steps.

        Parameters
        ----------
        tasks : CPU seconds of the tasks
        in_process : the tasks ran in this process
        """
        own = process_time() - self._own
        if in_process:
            return {"parent": own - tasks}
        return {"parent": own, "workers": _cpu_of_descendants() - self._descendants - tasks}


def _cpu_of_descendants() -> float:
    """Return the CPU seconds of all processes below this one: of those that run, and of those that were waited for."""
    this = psutil.Process()
    total = 0.0
    for process in [this, *this.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            times = process.cpu_times()
            total += times.children_user + times.children_system
            if process.pid != this.pid:
                total += times.user + times.system
    return total


def measuring_cost() -> float:
    """Return the seconds that measuring one task costs here: empty tasks with measuring minus those without.

    The instants of a segment's message are left out: they cost far less than what is counted for each of its tasks.
    """
    nodes: list[GraphNode] = [task(("empty", i), _nothing) for i in range(_SAMPLE)]
    tasks = tuple(SegmentTask(("empty", i), node, "empty") for i, node in enumerate(nodes))
    segment = Segment(0, "empty", tasks, (), (("empty", _SAMPLE - 1),))
    began = perf_counter()
    for node in nodes:
        execute(node, {})
    bare = perf_counter() - began
    began = perf_counter()
    result = run_segment(segment, {})
    rows = records(result.timings, result.times, worker="", segment=0, attempt=0, ready=0, submitted=0,
                   done=0, origin=0)  # fmt: skip
    Trace.from_records(rows, elapsed=0.0, backend="", n_workers=1)
    return max(0.0, perf_counter() - began - bare) / _SAMPLE


def _nothing() -> None:
    """A task of no work."""
