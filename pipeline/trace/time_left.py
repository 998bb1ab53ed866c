"""Estimate how long a run will still take, as a range; or report which steps are unknown as yet.

The work left in a step is the number of its tasks that have not ended, times the seconds that one takes in its worker.
The time left is the sum over all steps, divided by the number of tasks that have run at the same time so far, which
accounts for workers that wait or move data. At the upper end, a last task that runs alone takes its whole time.

* The seconds per task are the mean over the tasks that ended, once with the first end, which includes imports, and once
  without it.
* The range is widened by the spread of the cost over eight parts of the step, and by its trend: a step that became
  slower is expected to go on so, up to four times its recent cost.
* The number of tasks at the same time is taken over the whole run and over its second half; the range covers both.
* A step of which hardly a task has ended is expected to cost what it did in an earlier run of the same graph, plus or
  minus one half. Without such a run there is a lower bound only. Rejected: a guess from other steps, or from runs of
  another graph, whose functions or inputs differ.

If a back end does not report the time of a task, the time since the last end is used, as if one task ran at a time.
While no task ends, the range shrinks with the clock, but its upper end stays above the time without an end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, sqrt

__all__ = ["Estimate", "PreviousRun", "TimeLeft"]

_PARTS = 8
_ENDS = 3  # number of moments at which tasks of a step must have ended before its cost is used
_TOO_WIDE = 10.0  # a range whose upper end is so many times the lower one is not used
_FURTHEST = 4.0  # a trend is followed up to so many times the recent cost
_LEAST_ERROR, _UNKNOWN_ERROR, _MOST_ERROR = 0.05, 0.5, 0.9  # relative


@dataclass(frozen=True)
class TimeLeft:
    """The estimated time until a run ends; as text: :func:`pipeline.units.time_left_text`.

    Parameters
    ----------
    low, high : seconds; None: unknown
    early : steps that have begun, but of which too few tasks have ended for an estimate
    waiting : number of steps of which no task has ended, and without an estimate from an earlier run
    earlier : number of steps whose cost is taken from an earlier run
    """

    low: float | None
    high: float | None
    early: tuple[str, ...] = ()
    waiting: int = 0
    earlier: int = 0


@dataclass(frozen=True)
class PreviousRun:
    """Measurements of an earlier run of the same graph.

    Parameters
    ----------
    seconds : step -> mean seconds of one of its tasks in its worker
    at_work : mean number of tasks that ran at the same time
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    at_work: float = 1.0


@dataclass
class _Marks:
    """Seconds as a function of a growing number, stored at nine points or fewer."""

    points: list[tuple[float, float]] = field(default_factory=list)
    stride: float = 0.0

    def add(self, number: float, seconds: float) -> None:
        if self.points and number - self.points[-1][0] < self.stride:
            return
        self.points.append((number, seconds))
        if len(self.points) > _PARTS + 1:
            self.points = self.points[::2] if len(self.points) % 2 else [*self.points[::2], self.points[-1]]
            self.stride = (number - self.points[0][0]) / _PARTS

    @property
    def middle(self) -> tuple[float, float]:
        return self.points[(len(self.points) - 1) // 2]


@dataclass
class _Pace:
    """The progress of one step; ``own``: seconds of its tasks that have ended."""

    n_tasks: int
    done: int = 0
    ends: int = 0  # moments at which tasks ended
    last: float = 0.0
    own: float = 0.0
    first: tuple[int, float] = (0, 0.0)  # at the first end: done, own
    marks: _Marks = field(default_factory=_Marks)

    @property
    def left(self) -> int:
        return self.n_tasks - self.done

    def finished(self, n: int, seconds: float, now: float) -> None:
        self.ends += not self.done or now > self.last
        self.done, self.own, self.last = self.done + n, self.own + seconds, now
        if not self.first[0]:
            self.first = (self.done, self.own)
        self.marks.add(self.done, self.own)

    def costs(self) -> tuple[float, float]:
        """Return the least and most seconds per task."""
        done, own = self.first
        after = self.done - done
        both = (self.own / self.done, (self.own - own) / after if after else self.own / self.done)
        down, up = self._factors()
        return min(both) * down, max(both) * up

    def _factors(self) -> tuple[float, float]:
        """Return the factors by which spread and trend lower and raise the cost."""
        marks = self.marks.points
        pairs = [(b - a, t - s) for (a, s), (b, t) in pairwise(marks)]
        seconds = marks[-1][1] - marks[0][1]
        if len(pairs) < _PARTS // 2 or not seconds:
            return 1 - _UNKNOWN_ERROR, 1 + _UNKNOWN_ERROR
        n_tasks = marks[-1][0] - marks[0][0]
        parts = [cost / n * n_tasks / seconds for n, cost in pairs]
        spread = sqrt(sum((cost - 1) ** 2 for cost in parts) / (len(parts) - 1))
        to_come = max(1.0, self.left * len(parts) / n_tasks)
        error = min(_MOST_ERROR, max(_LEAST_ERROR, 2 * spread * sqrt(1 / len(parts) + 1 / to_come)))
        low, high = self._trend(seconds / n_tasks)
        return min(1 - error, low * (1 - _LEAST_ERROR)), max(1 + error, high * (1 + _LEAST_ERROR))

    def _trend(self, mean: float) -> tuple[float, float]:
        """Return the cost of the tasks to come, relative to the mean: the line through the costs of both halves."""
        (start, at_start), (half, at_half), (stop, at_stop) = (
            self.marks.points[0], self.marks.middle, self.marks.points[-1])  # fmt: skip
        first, second = (at_half - at_start) / (half - start) / mean, (at_stop - at_half) / (stop - half) / mean
        slope = (second - first) / ((stop - start) / 2)  # a task, between the middles of the halves
        coming = second + slope * (self.done + self.left / 2 - (half + stop) / 2)
        if second >= first:
            return 1.0, max(second, min(coming, _FURTHEST * second))
        return min(second, max(coming, second / _FURTHEST)), 1.0


class Estimate:
    """Estimates the time left from the ends of tasks. States: new -> begun -> all tasks ended. O(1) per end.

    Parameters
    ----------
    clock : returns seconds, monotonic
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._paces: dict[str, _Pace] = {}
        self._earlier: PreviousRun | None = None
        self._seconds = 0.0  # of all tasks
        self._marks = _Marks()  # of them, against the clock
        self._last = clock()

    def begin(self, n_tasks: Mapping[str, int], earlier: PreviousRun | None = None) -> None:
        """Start the clock with the number of tasks of each step."""
        self._paces = {name: _Pace(n) for name, n in n_tasks.items() if n}
        self._earlier, self._last = earlier, self._clock()

    def finished(self, step: str, n: int = 1, seconds: float = 0.0) -> None:
        """Record that ``n`` tasks of a step ended, which took ``seconds`` in their worker, all together; 0: unknown."""
        pace = self._paces.get(step)
        n = min(n, pace.left) if pace is not None else 0
        if pace is None or not n:
            return
        now = self._clock()
        seconds = seconds or now - self._last
        if not self._marks.points:
            self._marks.add(now - seconds, 0.0)  # start of the first task; the time before is start-up
        self._seconds, self._last = self._seconds + seconds, now
        self._marks.add(now, self._seconds)
        pace.finished(n, seconds, now)

    def left(self) -> TimeLeft:
        """Return the present estimate."""
        most, least = self._at_work()
        low, high, n_known, waiting, earlier = 0.0, 0.0, 0, 0, 0
        early: list[str] = []
        paces = {name: pace for name, pace in self._paces.items() if pace.left}
        for name, pace in paces.items():
            costs = pace.costs() if pace.ends >= _ENDS else None
            if costs is None and self._earlier is not None and name in self._earlier.seconds:
                expected = self._earlier.seconds[name]
                costs = expected * (1 - _UNKNOWN_ERROR), expected * (1 + _UNKNOWN_ERROR)
                earlier += 1
            if costs is None or costs[1] > _TOO_WIDE * costs[0]:
                waiting += not pace.done
                early += [name] if pace.done else []
                continue
            n_known += 1
            low += pace.left * costs[0] / most
            high += ceil(pace.left / least) * costs[1]
        silence = self._clock() - self._last
        known = not early and not waiting
        return TimeLeft(
            max(0.0, low - silence) if n_known or not paces else None,
            max(high - silence, silence if paces else 0.0) if known else None,
            tuple(early),
            waiting,
            earlier,
        )

    def _at_work(self) -> tuple[float, float]:
        """Return the most and the least number of tasks that run at the same time."""
        found = [self._earlier.at_work] if self._earlier is not None and len(self._marks.points) <= _ENDS else []
        for since, seconds in {self._marks.points[0], self._marks.middle} if self._marks.points else ():
            if self._last > since:
                found.append((self._seconds - seconds) / (self._last - since))
        found = [one for one in found if one] or [1.0]
        return max(found), min(found)
