"""Find the longest chain of tasks in a graph (span), and the chain that decided how long a run took (critical path).

The span is the time of the longest path through the graph, counting only tasks: no number of workers can be faster.

The critical path of a run is found backwards from the task that ended last. Each task could start when the last of
these had ended: the tasks it needs, the task before it on the same worker, and the one that had its place of a limit.
The segments of the path cover the elapsed time exactly, without gaps or overlaps: a second less in any of them could
have made the run a second shorter.

References
----------
Yang and Miller, "Critical path analysis for the execution of parallel and distributed programs", ICDCS 1988.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.trace.lanes import lanes
from pipeline.trace.trace import Trace

__all__ = ["PATH_KINDS", "CriticalPath", "Kind", "PathSegment", "critical_path", "longest_path", "span"]

Kind = Literal["compute", "data-wait", "core-wait", "limit-wait"]
PATH_KINDS: tuple[Kind, ...] = ("compute", "data-wait", "core-wait", "limit-wait")


# ---------------------------------------------------------------------------------------------------------------------
# Of a graph
# ---------------------------------------------------------------------------------------------------------------------


def span(needs: Mapping[str, Collection[str]], seconds: Mapping[str, float]) -> float:
    """Return the seconds of the longest path through a graph; 0 if it has no tasks. O(tasks + edges).

    Parameters
    ----------
    needs : task -> the tasks it needs; one that is not a key of ``needs`` takes no time
    seconds : task -> seconds, each >= 0

    Raises
    ------
    ValueError : if a task has no time, or the tasks form a cycle

    >>> span({"a": (), "b": ("a",), "c": ("a",)}, {"a": 1.0, "b": 2.0, "c": 3.0})
    4.0
    """
    return max(_ends(needs, seconds).values(), default=0.0)


def longest_path(needs: Mapping[str, Collection[str]], seconds: Mapping[str, float]) -> tuple[str, ...]:
    """Return the tasks of the longest path, in order; see :func:`span`.

    >>> longest_path({"a": (), "b": ("a",), "c": ("a",)}, {"a": 1.0, "b": 2.0, "c": 3.0})
    ('a', 'c')
    """
    ends = _ends(needs, seconds)
    path: list[str] = []
    before: Collection[str] = ends
    while before:
        path.append(max(before, key=ends.__getitem__))
        before = [key for key in needs[path[-1]] if key in ends]
    return tuple(reversed(path))


def _ends(needs: Mapping[str, Collection[str]], seconds: Mapping[str, float]) -> dict[str, float]:
    """Return when each task ends if each has a worker of its own."""
    users: dict[str, list[str]] = {key: [] for key in needs}
    missing = {}
    for key, needed in needs.items():
        some = {other for other in needed if other in users}
        missing[key] = len(some)
        for other in some:
            users[other].append(key)
    starts = dict.fromkeys(needs, 0.0)
    ends: dict[str, float] = {}
    todo = [key for key, n in missing.items() if not n]
    while todo:
        key = todo.pop()
        if key not in seconds:
            raise ValueError(f"task {key} has no time")
        end = ends[key] = starts[key] + seconds[key]
        for user in users[key]:
            starts[user] = max(starts[user], end)
            missing[user] -= 1
            if not missing[user]:
                todo.append(user)
    if len(ends) != len(needs):
        raise ValueError(f"{len(needs) - len(ends)} of {len(needs)} tasks are on a cycle or need one")
    return ends


# ---------------------------------------------------------------------------------------------------------------------
# Of a run
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PathSegment:
    """A segment of the critical path.

    Parameters
    ----------
    key, step, worker : of the task that runs, or that has not started yet
    kind : ``compute``: the task runs; ``data-wait``: it has not started, and the last thing it waited for was a task
        that it needs; ``core-wait``: the last thing it waited for was another task on its worker; ``limit-wait``: the
        last thing it waited for was a task that had its place of a limit
    start, stop : ns since the run began
    """

    key: str
    step: str
    worker: str
    kind: Kind
    start: int
    stop: int


@dataclass(frozen=True)
class CriticalPath:
    """The segments in order of time: from 0 to elapsed, each starting where the one before it stops."""

    steps: tuple[PathSegment, ...]

    def seconds(self, kind: Kind) -> float:
        """Return the seconds of all segments of one kind."""
        return sum(segment.stop - segment.start for segment in self.steps if segment.kind == kind) / 1e9

    def by_step(self, kind: Kind = "compute") -> dict[str, float]:
        """Return step -> seconds of its segments of one kind, the longest first."""
        found: dict[str, int] = {}
        for segment in self.steps:
            if segment.kind == kind:
                found[segment.step] = found.get(segment.step, 0) + segment.stop - segment.start
        return {step: ns / 1e9 for step, ns in sorted(found.items(), key=lambda item: -item[1])}


def critical_path(
    trace: Trace, needs: Mapping[str, Collection[str]], uses: Mapping[str, Collection[str]] | None = None
) -> CriticalPath:
    """Return the critical path of a run; O(n log n) in its rows.

    If a needed task and the task before on the same worker ended at the same moment, it was a data-wait. A needed task
    that seems to have ended after the start of its user (clocks differ between machines) is ignored. The time before
    the first task and after the last is data-wait. Instants are clipped to [0, elapsed].

    Parameters
    ----------
    needs : task -> the tasks it needs, keys as text
    uses : step instance -> the limits that its tasks use

    Raises
    ------
    ValueError : if a task of the path is not in ``needs``
    """
    elapsed = round(trace.elapsed * 1e9)
    rows = _Rows.of(trace, elapsed, uses or {})
    if not rows.starts:
        return CriticalPath((PathSegment("", "", "", "data-wait", 0, elapsed),) if elapsed else ())
    found: list[PathSegment] = []

    def add(row: int, kind: Kind, start: int, stop: int) -> None:
        if stop > start:
            found.append(PathSegment(rows.keys[row], rows.steps[row], rows.workers[row], kind, start, stop))

    row = len(rows.starts) - 1
    add(row, "data-wait", rows.stops[row], elapsed)
    while True:
        start = rows.starts[row]
        add(row, "compute", start, rows.stops[row])
        if rows.keys[row] not in needs:
            raise ValueError(f"task {rows.keys[row]} is not a task of the graph")
        releaser, kind = rows.releaser(row, needs[rows.keys[row]])
        add(row, kind, rows.stops[releaser] if releaser >= 0 else 0, start)
        if releaser < 0:
            return CriticalPath(tuple(reversed(found)))
        row = releaser


@dataclass(frozen=True, eq=False)
class _Rows:
    """The columns of a Trace, sorted by stop, then start; a row is a position in this order.

    Parameters
    ----------
    lane : number of each row's lane
    of_key, of_lane, of_limit : the rows of each task, of each lane, and of those that use each limit, ascending
    segments, limits : the segment of each row; the limit that it waited for, empty for none
    """

    keys: Sequence[str]
    steps: Sequence[str]
    workers: Sequence[str]
    starts: Sequence[int]
    stops: Sequence[int]
    lane: Sequence[int]
    of_key: Mapping[str, Sequence[int]]
    of_lane: Mapping[int, Sequence[int]]
    of_limit: Mapping[str, Sequence[int]]
    segments: Sequence[int]
    limits: Sequence[str]

    @classmethod
    def of(cls, trace: Trace, elapsed: int, uses: Mapping[str, Collection[str]]) -> _Rows:
        start = np.clip(trace.tasks["start"].to_numpy(), 0, elapsed)
        stop = np.maximum(np.clip(trace.tasks["stop"].to_numpy(), 0, elapsed), start)
        order = np.lexsort((start, stop))
        keys, steps, workers = (trace.tasks[name].take(order).to_pylist() for name in ("key", "step", "worker"))
        number = {name: i for i, names in enumerate(lanes(trace)) for name in names}
        lane = [number[name] for name in workers]
        of_key: dict[str, list[int]] = {}
        of_lane: dict[int, list[int]] = {}
        of_limit: dict[str, list[int]] = {}
        for row, key in enumerate(keys):
            of_key.setdefault(key, []).append(row)
            of_lane.setdefault(lane[row], []).append(row)
            for name in uses.get(steps[row], ()):
                of_limit.setdefault(name, []).append(row)
        segments, limits = (trace.tasks[name].take(order).to_pylist() for name in ("segment", "limit"))
        starts, stops = start[order].tolist(), stop[order].tolist()
        return cls(keys, steps, workers, starts, stops, lane, of_key, of_lane, of_limit, segments, limits)

    def releaser(self, row: int, needed: Collection[str]) -> tuple[int, Kind]:
        """Return the row that this one waited for last, and what kind of wait it was; -1 if it waited for none."""
        # rows before `bound` had stopped by its start; `row` bounds it where tasks of no length are at one moment
        bound = min(row, bisect_right(self.stops, self.starts[row]))
        data = max((self._last(self.of_key.get(key, ()), bound) for key in needed), default=-1)
        core = self._last(self.of_lane[self.lane[row]], bound)
        held = self._holder(row, bound)
        if held >= 0 and self.stops[held] >= max(self.stops[other] for other in (held, core, data) if other >= 0):
            return held, "limit-wait"
        if core >= 0 and (data < 0 or self.stops[core] > self.stops[data]):
            return core, "core-wait"
        return data, "data-wait"

    def _holder(self, row: int, bound: int) -> int:
        """Return the row after which there was a place of the limit that this one waited for; -1 if it did not wait."""
        last = self._last(self.of_limit.get(self.limits[row], ()), bound)
        return -1 if last >= 0 and self.segments[last] == self.segments[row] else last

    @staticmethod
    def _last(rows: Sequence[int], bound: int) -> int:
        i = bisect_left(rows, bound)
        return rows[i - 1] if i else -1
