"""How long a run will go on, as a range that is to hold what comes; or why that can't be said yet.

What is left of a step is its tasks to come, times the seconds that one takes in its worker; of the run the sum of that,
divided by how many tasks were at work at a time so far, which has in it that workers wait and move things. At the upper
end a last task that has a worker to itself takes its whole time.

* What a task takes is the mean over those that ended, once with the first end, which holds imports, and once without.
* The range is widened by the spread of that over eight stretches of the step, and towards a trend: a step that has
  become slower goes on so, at most to four times what it cost lately.
* How many are at work is taken over the whole run and over its latter half: the range goes from the one to the other.
* A step of which hardly a task has ended costs what it did in an earlier run of the same graph, by half more or less.
  Where there was none nobody knows: then there is a lower bound, and no upper one. Rejected: guessing it from other
  steps, and from runs of another graph, whose functions or inputs differ.

Where a back end doesn't tell what a task took, it is the time since the end before, as if one ran at a time. While
nothing ends, the range sinks with the clock, but its upper end never below the time of silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, floor, sqrt

from pipeline.units import count_text, whole_duration_text

__all__ = ["Estimate", "PreviousRun", "TimeLeft"]

_STRETCHES = 8
_ENDS = 3  # moments at which tasks of a step ended before anything is said of it
_TOO_WIDE = 10.0  # a range wider than this, upper over lower end, says nothing
_FURTHEST = 4.0  # how far a trend is followed, in what it costs lately
_LEAST_ERROR, _BLIND_ERROR, _MOST_ERROR = 0.05, 0.5, 0.9  # relative


@dataclass(frozen=True)
class TimeLeft:
    """What is left of a run.

    Parameters
    ----------
    low : seconds; None where not even that is known
    high : seconds; None where it is not known
    early : steps under way of which too little is known
    waiting : number of steps of which no task has ended, and whose tasks cost nobody knows what
    earlier : number of steps of which hardly a task has ended, taken to cost what they did in an earlier run
    """

    low: float | None
    high: float | None
    early: tuple[str, ...] = ()
    waiting: int = 0
    earlier: int = 0

    def text(self) -> str:
        """The range for a reader, rounded outwards; empty where nothing is left.

        >>> Left(42.0, 100.0).text(), Left(0.5, 3.2).text()
        ('about 40 s to 2 min left', 'less than 4 s left')
        >>> Left(42.0, None, waiting=3).text(), Left(None, None, waiting=3).text()
        ('at least 40 s left, and 3 steps not begun', 'time left unknown: 3 steps not begun')
        >>> Left(42.0, 100.0, earlier=2).text()
        'about 40 s to 2 min left, 2 steps as in an earlier run'
        >>> Left(None, None, early=("fit",)).text()
        "time left unknown: too early to say for 'fit'"
        """
        if self.high is not None:
            said = _range(self.low or 0.0, self.high)
            return f"{said}, {count_text(self.earlier, 'step')} as in an earlier run" if said and self.earlier else said
        reasons = []
        if self.early:
            others = f" and {len(self.early) - 1} more" if len(self.early) > 1 else ""
            reasons.append(f"too early to say for '{self.early[0]}'{others}")
        if self.waiting:
            reasons.append(f"{count_text(self.waiting, 'step')} not begun")
        if self.low is None or not _down(self.low):
            return f"time left unknown: {', '.join(reasons)}" if reasons else ""
        least = whole_duration_text(_down(self.low))
        return f"at least {least} left, {'and ' if not self.early else ''}{', '.join(reasons)}"


@dataclass(frozen=True)
class PreviousRun:
    """What an earlier run of the same graph took.

    Parameters
    ----------
    seconds : step -> seconds in its worker that one of its tasks took, the mean
    at_work : tasks that were at work at a time, the mean
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    at_work: float = 1.0


@dataclass
class _Marks:
    """Seconds against a growing number, kept at no more than nine points of its way."""

    points: list[tuple[float, float]] = field(default_factory=list)
    stride: float = 0.0

    def add(self, number: float, seconds: float) -> None:
        if self.points and number - self.points[-1][0] < self.stride:
            return
        self.points.append((number, seconds))
        if len(self.points) > _STRETCHES + 1:
            self.points = self.points[::2] if len(self.points) % 2 else [*self.points[::2], self.points[-1]]
            self.stride = (number - self.points[0][0]) / _STRETCHES

    @property
    def middle(self) -> tuple[float, float]:
        return self.points[(len(self.points) - 1) // 2]


@dataclass
class _Pace:
    """What is known of one step; ``own`` are the seconds of its tasks."""

    n_tasks: int
    done: int = 0
    ends: int = 0  # moments
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
        """Seconds a task, least and most."""
        done, own = self.first
        after = self.done - done
        both = (self.own / self.done, (self.own - own) / after if after else self.own / self.done)
        down, up = self._factors()
        return min(both) * down, max(both) * up

    def _factors(self) -> tuple[float, float]:
        """By what the spread and the trend widen the cost, downwards and upwards."""
        marks = self.marks.points
        pairs = [(b - a, t - s) for (a, s), (b, t) in pairwise(marks)]
        seconds = marks[-1][1] - marks[0][1]
        if len(pairs) < _STRETCHES // 2 or not seconds:
            return 1 - _BLIND_ERROR, 1 + _BLIND_ERROR
        n_tasks = marks[-1][0] - marks[0][0]
        stretches = [cost / n * n_tasks / seconds for n, cost in pairs]
        spread = sqrt(sum((cost - 1) ** 2 for cost in stretches) / (len(stretches) - 1))
        to_come = max(1.0, self.left * len(stretches) / n_tasks)
        error = min(_MOST_ERROR, max(_LEAST_ERROR, 2 * spread * sqrt(1 / len(stretches) + 1 / to_come)))
        low, high = self._trend(seconds / n_tasks)
        return min(1 - error, low * (1 - _LEAST_ERROR)), max(1 + error, high * (1 + _LEAST_ERROR))

    def _trend(self, mean: float) -> tuple[float, float]:
        """The cost of what is to come over the mean, if that before and after the middle lie on a line."""
        (start, at_start), (half, at_half), (stop, at_stop) = (
            self.marks.points[0], self.marks.middle, self.marks.points[-1])  # fmt: skip
        first, second = (at_half - at_start) / (half - start) / mean, (at_stop - at_half) / (stop - half) / mean
        slope = (second - first) / ((stop - start) / 2)  # a task, between the middles of the halves
        coming = second + slope * (self.done + self.left / 2 - (half + stop) / 2)
        if second >= first:
            return 1.0, max(second, min(coming, _FURTHEST * second))
        return min(second, max(coming, second / _FURTHEST)), 1.0


class Estimate:
    """What is left of a run, from the ends of tasks. States: nothing known -> begun -> all ended; O(1) an end.

    Parameters
    ----------
    clock : seconds, monotonic
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._paces: dict[str, _Pace] = {}
        self._earlier: PreviousRun | None = None
        self._seconds = 0.0  # of all tasks
        self._marks = _Marks()  # of them, against the clock
        self._last = clock()

    def begin(self, n_tasks: Mapping[str, int], earlier: PreviousRun | None = None) -> None:
        """Learn the steps and their numbers of tasks; the clock starts."""
        self._paces = {name: _Pace(n) for name, n in n_tasks.items() if n}
        self._earlier, self._last = earlier, self._clock()

    def finished(self, step: str, n: int = 1, seconds: float = 0.0) -> None:
        """``n`` tasks of a step have ended, which took ``seconds`` in all in their worker; 0: that is not known."""
        pace = self._paces.get(step)
        n = min(n, pace.left) if pace is not None else 0
        if pace is None or not n:
            return
        now = self._clock()
        seconds = seconds or now - self._last
        if not self._marks.points:
            self._marks.add(now - seconds, 0.0)  # when the first task began: what was before is start-up
        self._seconds, self._last = self._seconds + seconds, now
        self._marks.add(now, self._seconds)
        pace.finished(n, seconds, now)

    def left(self) -> TimeLeft:
        """What is left, as far as it is known by now."""
        most, least = self._at_work()
        low, high, n_known, waiting, earlier = 0.0, 0.0, 0, 0, 0
        early: list[str] = []
        paces = {name: pace for name, pace in self._paces.items() if pace.left}
        for name, pace in paces.items():
            costs = pace.costs() if pace.ends >= _ENDS else None
            if costs is None and self._earlier is not None and name in self._earlier.seconds:
                expected = self._earlier.seconds[name]
                costs = expected * (1 - _BLIND_ERROR), expected * (1 + _BLIND_ERROR)
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
        """How many tasks are at work at a time, the most and the least that it may be."""
        found = [self._earlier.at_work] if self._earlier is not None and len(self._marks.points) <= _ENDS else []
        for since, seconds in {self._marks.points[0], self._marks.middle} if self._marks.points else ():
            if self._last > since:
                found.append((self._seconds - seconds) / (self._last - since))
        found = [one for one in found if one] or [1.0]
        return max(found), min(found)


def _range(low: float, high: float) -> str:
    if high <= 0:
        return ""
    below, above = _down(low), _up(high)
    if not below:
        return f"less than {whole_duration_text(above)} left"
    return (
        f"about {whole_duration_text(below)} left"
        if below == above
        else f"about {whole_duration_text(below)} to {whole_duration_text(above)} left"
    )


def _grain(seconds: float) -> int:
    """To what a time is rounded, so that it can be read and does not flicker."""
    return next(grain for bound, grain in ((10, 1), (60, 5), (120, 30), (600, 60), (3600, 300), (1e99, 1800))
                if seconds < bound)  # fmt: skip


def _down(seconds: float) -> int:
    return floor(seconds / _grain(seconds)) * _grain(seconds)


def _up(seconds: float) -> int:
    return ceil(seconds / _grain(seconds)) * _grain(seconds)
