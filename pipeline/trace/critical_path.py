"""The longest chains: of the graph (span), and of what happened in a run (the observed critical path).

The span is the time of the longest path through the graph, task times alone: no number of workers makes a run shorter.

The observed critical path goes backwards from the task that ended last. Each task was released by whatever ended last
before it started: one of the tasks it needs, or the task before it on the same worker. The stretches of this walk tile
the elapsed time exactly: a second taken out of any of them could have been a second less.

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

from pipeline.trace.replay import lanes
from pipeline.trace.trace import Trace

__all__ = ["CriticalPath", "Kind", "PathSegment", "critical_path", "longest_path", "span"]

Kind = Literal["compute", "data-wait", "core-wait"]


# ---------------------------------------------------------------------------------------------------------------------
# Static
# ---------------------------------------------------------------------------------------------------------------------


def span(needs: Mapping[str, Collection[str]], seconds: Mapping[str, float]) -> float:
    """Seconds of the longest path through a graph; 0 of no tasks. O(tasks + edges).

    Parameters
    ----------
    needs : task -> the tasks it needs; what is not itself a key of it takes no time
    seconds : task -> seconds, each >= 0

    Raises
    ------
    ValueError : if a task has no time, or the tasks need each other in a circle

    >>> span({"a": (), "b": ("a",), "c": ("a",)}, {"a": 1.0, "b": 2.0, "c": 3.0})
    4.0
    """
    return max(_ends(needs, seconds).values(), default=0.0)


def longest_path(needs: Mapping[str, Collection[str]], seconds: Mapping[str, float]) -> tuple[str, ...]:
    """The tasks of the longest path in their order; see :func:`span`.

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
    """When each task ends if there is a worker for each."""
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
# Observed
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PathSegment:
    """A part of the critical path.

    Parameters
    ----------
    key, step, worker : of the task that runs, or that is waited for to start
    kind : ``compute``: the task runs; ``data-wait``: what it needs was made last, and it is not yet running;
        ``core-wait``: its worker was busy with another task last
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
    """The stretches in time; each begins where the one before it stops, the first at 0, the last stops at elapsed."""

    steps: tuple[PathSegment, ...]

    def seconds(self, kind: Kind) -> float:
        """Of all stretches of one kind."""
        return sum(stretch.stop - stretch.start for stretch in self.steps if stretch.kind == kind) / 1e9

    def by_step(self, kind: Kind = "compute") -> dict[str, float]:
        """Step -> seconds of its stretches of one kind, the most first."""
        found: dict[str, int] = {}
        for stretch in self.steps:
            if stretch.kind == kind:
                found[stretch.step] = found.get(stretch.step, 0) + stretch.stop - stretch.start
        return {step: ns / 1e9 for step, ns in sorted(found.items(), key=lambda item: -item[1])}


def critical_path(trace: Trace, needs: Mapping[str, Collection[str]]) -> CriticalPath:
    """The observed critical path of a run; O(n log n) in its rows.

    Parameters
    ----------
    needs : task -> the tasks it needs, as text

    What ended at the same moment as the task before it on the worker counts as the data. A task that, by clocks that
    are off, ended after the start of one that needs it did not release that one. What lies before the first task and
    after the last is data-wait; so is all of a run of no tasks. What lies outside of [0, elapsed] is cut off.

    Raises
    ------
    ValueError : if ``needs`` does not know a task of the path
    """
    elapsed = round(trace.elapsed * 1e9)
    rows = _Rows.of(trace, elapsed)
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
            raise ValueError(f"task {rows.keys[row]} is none of the graph's")
        releaser, kind = rows.releaser(row, needs[rows.keys[row]])
        add(row, kind, rows.stops[releaser] if releaser >= 0 else 0, start)
        if releaser < 0:
            return CriticalPath(tuple(reversed(found)))
        row = releaser


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a Trace in the order of their stop (then start), which is what a row is called here.

    Parameters
    ----------
    of_key, of_lane : the rows of each task, and of each lane, ascending
    lane : of each row
    """

    keys: Sequence[str]
    steps: Sequence[str]
    workers: Sequence[str]
    starts: Sequence[int]
    stops: Sequence[int]
    lane: Sequence[int]
    of_key: Mapping[str, Sequence[int]]
    of_lane: Mapping[int, Sequence[int]]

    @classmethod
    def of(cls, trace: Trace, elapsed: int) -> _Rows:
        start = np.clip(trace.tasks["start"].to_numpy(), 0, elapsed)
        stop = np.maximum(np.clip(trace.tasks["stop"].to_numpy(), 0, elapsed), start)
        order = np.lexsort((start, stop))
        keys, steps, workers = (trace.tasks[name].take(order).to_pylist() for name in ("key", "step", "worker"))
        number = {name: i for i, names in enumerate(lanes(trace)) for name in names}
        lane = [number[name] for name in workers]
        of_key: dict[str, list[int]] = {}
        of_lane: dict[int, list[int]] = {}
        for row, key in enumerate(keys):
            of_key.setdefault(key, []).append(row)
            of_lane.setdefault(lane[row], []).append(row)
        return cls(keys, steps, workers, start[order].tolist(), stop[order].tolist(), lane, of_key, of_lane)

    def releaser(self, row: int, needed: Collection[str]) -> tuple[int, Kind]:
        """The row that ended last before this one started, of those it waited for; -1 if there is none."""
        # those that stopped by its start; of tasks without length at one moment, only what comes before it
        bound = min(row, bisect_right(self.stops, self.starts[row]))
        data = max((self._last(self.of_key.get(key, ()), bound) for key in needed), default=-1)
        core = self._last(self.of_lane[self.lane[row]], bound)
        if core >= 0 and (data < 0 or self.stops[core] > self.stops[data]):
            return core, "core-wait"
        return data, "data-wait"

    @staticmethod
    def _last(rows: Sequence[int], bound: int) -> int:
        i = bisect_left(rows, bound)
        return rows[i - 1] if i else -1
