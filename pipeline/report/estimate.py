"""How long a run will go on, as a range that is to hold what comes; or why that can't be said yet.

Known are the moments at which tasks ended, and how many of each step are still to come. What a task of a step costs, in
seconds of the whole run with all its workers, is therefore read off the clock:

* The time between two ends belongs to the step whose task ended; or, by a second reading, to all steps that are under
  way, in equal parts. The two agree where one step runs at a time. Where several do, neither is right, and the range
  goes from the one to the other.
* The wait for the first end of a step holds start-up, and the ends of a first wave come together: so the cost is taken
  once with the first end and once without.
* The range is widened by the spread of the cost over eight stretches of the step, and towards a trend: a step that has
  become slower goes on so, at most to four times what it cost lately.

While nothing ends, the range sinks with the clock, but its upper end never below the time of silence. Steps of which no
task has ended cost nobody knows what: then there is a lower bound, and no upper one. Rejected: guessing them from other
steps, and from earlier runs, whose machine and inputs differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, floor, sqrt

__all__ = ["Estimate", "Left"]

_STRETCHES = 8
_ENDS = 3  # moments at which tasks of a step ended before anything is said of it
_TOO_WIDE = 10.0  # a range wider than this, upper over lower end, says nothing
_FURTHEST = 4.0  # how far a trend is followed, in what it costs lately
_LEAST_ERROR, _BLIND_ERROR, _MOST_ERROR = 0.05, 0.5, 0.9  # relative


@dataclass(frozen=True)
class Left:
    """What is left of a run.

    Parameters
    ----------
    low : seconds; None where not even that is known
    high : seconds; None where it is not known
    early : steps under way of which too little is known
    waiting : number of steps of which no task has ended
    """

    low: float | None
    high: float | None
    early: tuple[str, ...] = ()
    waiting: int = 0

    def text(self) -> str:
        """The range for a reader, rounded outwards; empty where nothing is left.

        >>> Left(42.0, 100.0).text(), Left(0.5, 3.2).text()
        ('about 40 s to 2 min left', 'less than 4 s left')
        >>> Left(42.0, None, waiting=3).text(), Left(None, None, waiting=3).text()
        ('at least 40 s left, and 3 steps not begun', 'time left unknown: 3 steps not begun')
        >>> Left(None, None, early=("fit",)).text()
        "time left unknown: too early to say for 'fit'"
        """
        if self.high is not None:
            return _range(self.low or 0.0, self.high)
        reasons = []
        if self.early:
            others = f" and {len(self.early) - 1} more" if len(self.early) > 1 else ""
            reasons.append(f"too early to say for '{self.early[0]}'{others}")
        if self.waiting:
            reasons.append(f"{self.waiting} step{'s' if self.waiting > 1 else ''} not begun")
        if self.low is None or not _down(self.low):
            return f"time left unknown: {', '.join(reasons)}" if reasons else ""
        return f"at least {_said(_down(self.low))} left, {'and ' if not self.early else ''}{', '.join(reasons)}"


@dataclass
class _Pace:
    """What is known of one step; seconds. ``own`` and ``shared`` are the two readings of the clock."""

    n_tasks: int
    done: int = 0
    ends: int = 0  # moments
    last: float = 0.0
    own: float = 0.0
    began_shared: float = 0.0  # on the shared clock
    first: tuple[int, float, float] = (0, 0.0, 0.0)  # at the first end: done, own, shared clock
    marks: list[tuple[int, float]] = field(default_factory=list)  # done, own
    stride: int = 1

    @property
    def left(self) -> int:
        return self.n_tasks - self.done

    def mark(self) -> None:
        """Keep how far it is, in at most eight stretches from its first end on."""
        if not self.marks:
            self.marks.append((self.done, self.own))
        if self.done - self.marks[-1][0] < self.stride:
            return
        self.marks.append((self.done, self.own))
        if len(self.marks) > _STRETCHES + 1:
            self.marks = self.marks[::2] if len(self.marks) % 2 else [*self.marks[::2], self.marks[-1]]
            self.stride = max(self.stride * 2, self.done // _STRETCHES)

    def costs(self, shared: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """Seconds a task, least and most, by the first and by the second reading."""
        done, own, clock = self.first
        after = self.done - done
        first = (self.own / self.done, (self.own - own) / after if after else 0.0)
        second = ((shared - self.began_shared) / self.done, (shared - clock) / after if after else 0.0)
        return (min(first), max(first)), (min(second), max(second))

    def factors(self) -> tuple[float, float]:
        """By what the spread and the trend widen the cost, downwards and upwards."""
        pairs = [(b - a, t - s) for (a, s), (b, t) in zip(self.marks, self.marks[1:], strict=False)]
        seconds = self.marks[-1][1] - self.marks[0][1]
        if len(pairs) < _STRETCHES // 2 or not seconds:
            return 1 - _BLIND_ERROR, 1 + _BLIND_ERROR
        n_tasks = self.marks[-1][0] - self.marks[0][0]
        stretches = [cost / n * n_tasks / seconds for n, cost in pairs]
        spread = sqrt(sum((cost - 1) ** 2 for cost in stretches) / (len(stretches) - 1))
        to_come = max(1.0, self.left * len(stretches) / n_tasks)
        error = min(_MOST_ERROR, max(_LEAST_ERROR, 2 * spread * sqrt(1 / len(stretches) + 1 / to_come)))
        low, high = self._trend(self.marks[len(pairs) // 2], seconds / n_tasks)
        return min(1 - error, low * (1 - _LEAST_ERROR)), max(1 + error, high * (1 + _LEAST_ERROR))

    def _trend(self, middle: tuple[int, float], mean: float) -> tuple[float, float]:
        """The cost of what is to come over the mean, if that before and after the middle lie on a line."""
        (start, at_start), (half, at_half), (stop, at_stop) = self.marks[0], middle, self.marks[-1]
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
        self._under_way = 0
        self._shared = 0.0  # a clock that goes slower by the number of steps under way
        self._last = clock()

    def begin(self, n_tasks: Mapping[str, int]) -> None:
        """Learn the steps and their numbers of tasks; the clock starts."""
        self._paces = {name: _Pace(n) for name, n in n_tasks.items() if n}
        self._last = self._clock()

    def finished(self, step: str, n: int = 1) -> None:
        """``n`` tasks of a step have ended."""
        pace = self._paces.get(step)
        n = min(n, pace.left) if pace is not None else 0
        if pace is None or not n:
            return
        now, new = self._clock(), not pace.done
        passed, self._last = now - self._last, now
        before = self._shared
        self._under_way += new
        self._shared += passed / self._under_way
        pace.done += n
        pace.own += passed
        if new:
            pace.began_shared, pace.first = before, (pace.done, pace.own, self._shared)
        pace.ends += new or now > pace.last
        pace.last = now
        pace.mark()
        self._under_way -= not pace.left

    def left(self) -> Left:
        """What is left, as far as it is known by now."""
        under_way = {name: pace for name, pace in self._paces.items() if pace.done and pace.left}
        waiting = sum(not pace.done for pace in self._paces.values())
        lows, highs, early = [0.0, 0.0], [0.0, 0.0], []
        for name, pace in under_way.items():
            down, up = pace.factors()
            costs = pace.costs(self._shared)
            if pace.ends < _ENDS or not costs[0][0]:
                early.append(name)
                continue
            for i, (least, most) in enumerate(costs):
                lows[i] += pace.left * least * down
                highs[i] += pace.left * most * up
        low, high = min(lows), max(highs)
        if not early and high > _TOO_WIDE * low:
            early = list(under_way)
        silence = self._clock() - self._last
        known = len(under_way) > len(early) or not (under_way or waiting)
        return Left(
            max(0.0, low - silence) if known else None,
            max(high - silence, silence if under_way else 0.0) if not early and not waiting else None,
            tuple(early),
            waiting,
        )


def _range(low: float, high: float) -> str:
    if high <= 0:
        return ""
    below, above = _down(low), _up(high)
    if not below:
        return f"less than {_said(above)} left"
    return f"about {_said(below)} left" if below == above else f"about {_said(below)} to {_said(above)} left"


def _grain(seconds: float) -> int:
    """To what a time is rounded, so that it can be read and does not flicker."""
    return next(grain for bound, grain in ((10, 1), (60, 5), (120, 30), (600, 60), (3600, 300), (1e99, 1800))
                if seconds < bound)  # fmt: skip


def _down(seconds: float) -> int:
    return floor(seconds / _grain(seconds)) * _grain(seconds)


def _up(seconds: float) -> int:
    return ceil(seconds / _grain(seconds)) * _grain(seconds)


def _said(seconds: int) -> str:
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes % 60 else f"{minutes // 60} h"
