"""Divide the core time of a run (workers x elapsed) into task time and losses, exactly.

Each worker thread is a lane from 0 to elapsed, in whole nanoseconds. Each moment of a lane belongs to the first of
these classes that fits it:

* ``task``: a function of the pipeline runs, in any attempt;
* ``runtime``: the worker has a task whose function is not running: it is being unpickled, the event loop does something
  else, or one task of a segment has ended and the next has not begun;
* ``transfer``: inputs are moved to the worker and unpickled, or results are pickled and sent;
* ``unexplained``: unknown, since the worker was lost;
* ``scheduling``: the worker is idle although some segment is ready that no worker has, or that waits at another worker
  behind other work;
* ``limit``: the worker is idle, and every segment that is ready waits for a limit;
* ``dependency``: the worker is idle, and no segment is ready.

Task time is then split in ``useful``, the time that the same tasks take in a serial run, and ``inflation``, the rest.
Inflation may be negative: tasks can run faster side by side than alone. No value is clipped.

Rejected: seconds as floats (the classes would not add up exactly); a loop over all instants in Python (a second for
20,000 tasks; here each class costs one sort: the length of a growing union of intervals); the clock of the parent
process (sending there and back would count as work); a file for waits of limits (they are cut out of the same lanes by
the same unions, and a class that is counted apart would no longer add up with the others).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.trace.lanes import lanes
from pipeline.trace.statistics import Interval, median, median_interval
from pipeline.trace.trace import INSTANTS, Trace

__all__ = [
    "CLASSES",
    "LOSSES",
    "CoreTime",
    "LimitWait",
    "Losses",
    "SerialTimes",
    "bytes_moved",
    "core_time",
    "inflation_interval",
    "limit_waits",
    "losses",
    "serial_times",
    "useful_seconds",
    "whole_percents",
]

CLASSES = ("task", "runtime", "transfer", "scheduling", "limit", "dependency", "unexplained")
"""The classes of core time."""

LOSSES = ("useful", "inflation", "runtime", "transfer", "scheduling", "limit", "dependency", "unexplained")
"""The same, with task time split in two."""

_Times = npt.NDArray[np.int64]
_TRANSFER = (("received", "loaded"), ("opened", "start"), ("stop", "packed"), ("packed", "sent"))  # its intervals


# ---------------------------------------------------------------------------------------------------------------------
# Core time
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoreTime:
    """Workers x elapsed, divided into classes; those of each lane add up to ``elapsed`` exactly.

    Parameters
    ----------
    elapsed : ns
    lanes : for each lane: class -> ns
    names : for each lane its workers in order of time; none where nothing ran
    """

    elapsed: int
    lanes: tuple[Mapping[str, int], ...]
    names: tuple[tuple[str, ...], ...]

    def total(self, name: str) -> int:
        """Return the nanoseconds of a class in all lanes."""
        return sum(lane[name] for lane in self.lanes)


def core_time(trace: Trace) -> CoreTime:
    """Divide workers x elapsed of a run into classes; O(n log n) in its rows. Instants are clipped to [0, elapsed].

    The lanes are from :func:`pipeline.trace.lanes.lanes`: ``n_workers``, or more if a cluster grew.
    """
    elapsed = round(trace.elapsed * 1e9)
    names = lanes(trace)
    ready, granted, begun, _ = _waits(trace)
    waiting = _Union.of(granted, begun, elapsed)
    limited = waiting.joined([(ready, granted)], elapsed)
    columns = {name: trace.tasks[name].to_numpy() for name in INSTANTS}
    gaps = _gaps(trace, names)
    divided = []
    for lane, rows in enumerate(_rows(trace, names)):
        at = {name: columns[name][rows] for name in INSTANTS}
        busy = _Union.of(at["start"], at["stop"], elapsed)
        lane_times = {"task": busy.length}
        for name, pairs in (
            ("runtime", [(at["loaded"], at["opened"])]),
            ("transfer", [(at[a], at[b]) for a, b in _TRANSFER]),
            ("unexplained", gaps[lane]),
        ):
            more = busy.joined(pairs, elapsed)
            lane_times[name] = more.length - busy.length
            busy = more
        lane_times["scheduling"] = waiting.length - waiting.overlap(busy)
        lane_times["limit"] = limited.length - limited.overlap(busy) - lane_times["scheduling"]
        lane_times["dependency"] = elapsed - busy.length - lane_times["scheduling"] - lane_times["limit"]
        divided.append({name: lane_times[name] for name in CLASSES})
    return CoreTime(elapsed, tuple(divided), names)


@dataclass(frozen=True, eq=False)
class _Union:
    """Intervals of time in ascending order that neither overlap nor touch; ns."""

    starts: _Times
    stops: _Times

    @classmethod
    def of(cls, starts: _Times, stops: _Times, elapsed: int) -> _Union:
        """Return the union of some intervals, clipped to [0, elapsed]."""
        starts, stops = np.clip(starts, 0, elapsed), np.clip(stops, 0, elapsed)
        some = stops > starts
        starts, stops = starts[some], stops[some]
        order = np.argsort(starts, kind="stable")
        starts, stops = starts[order], np.maximum.accumulate(stops[order])
        apart = starts[1:] > stops[:-1]
        return cls(starts[np.append(True, apart)[: len(starts)]], stops[np.append(apart, True)[: len(stops)]])

    def joined(self, pairs: Sequence[tuple[_Times, _Times]], elapsed: int) -> _Union:
        """Return the union with more intervals."""
        starts = np.concatenate([self.starts, *(starts for starts, _ in pairs)])
        return _Union.of(starts, np.concatenate([self.stops, *(stops for _, stops in pairs)]), elapsed)

    @property
    def length(self) -> int:
        return int((self.stops - self.starts).sum())

    def overlap(self, other: _Union) -> int:
        """Return the nanoseconds that both cover."""
        return int((self._before(other.stops) - self._before(other.starts)).sum())

    def _before(self, moments: _Times) -> _Times:
        """Return the nanoseconds covered before each moment."""
        whole = np.append(0, np.cumsum(self.stops - self.starts))
        i = np.searchsorted(self.starts, moments, side="right")  # number of intervals begun by then
        over = np.append(0, self.stops)[i] - moments  # ns that the last of them still has to go
        found: _Times = whole[i] - np.where(i > 0, np.maximum(over, 0), 0)
        return found


def _rows(trace: Trace, names: Sequence[Sequence[str]]) -> list[npt.NDArray[np.intp]]:
    """Return the row numbers of each lane."""
    if not trace.tasks.num_rows:
        return [np.empty(0, dtype=np.intp) for _ in names]
    worker = trace.tasks["worker"].combine_chunks().dictionary_encode()
    number = {name: i for i, some in enumerate(names) for name in some}
    of_name = np.array([number[name] for name in worker.dictionary.to_pylist()])
    lane = of_name[worker.indices.to_numpy()]
    order = np.argsort(lane, kind="stable")
    return np.split(order, np.searchsorted(lane[order], np.arange(1, len(names))))


def _free(trace: Trace, columns: Mapping[str, Any]) -> _Times:
    """Return for each row when its worker had finished all earlier rows; before all times for a worker's first row."""
    start, stop = columns["start"], columns["stop"]
    if not len(start):
        return np.empty(0, dtype=np.int64)
    worker = trace.tasks["worker"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    order = np.lexsort((start, worker))
    low = min(int(stop.min()), 0) - 1
    # each worker's times are shifted above those of the worker before: one running maximum does for all
    apart = worker[order] * (int(stop.max()) - low + 1)
    latest = np.maximum.accumulate(stop[order] - low + apart) - apart + low
    before = np.append(low, latest[:-1])
    before[np.append(True, np.diff(worker[order]) != 0)] = low
    free = np.empty_like(before)
    free[order] = before
    return free


def _waits(trace: Trace) -> tuple[_Times, _Times, _Times, npt.NDArray[np.intp]]:
    """Return for each attempt of a segment when it was ready, had its limits, and was begun by a worker; its first row.

    A worker works on a segment from the moment it receives it, or has finished what it did before; from then on the
    segment can't be given to another worker. A further attempt is ready when the earlier one has ended.
    """
    columns = {name: trace.tasks[name].to_numpy() for name in ("segment", "attempt", "ready", "granted", *INSTANTS)}
    free = _free(trace, columns)
    order = np.lexsort((columns["start"], columns["attempt"], columns["segment"]))
    segment, attempt = (columns[name][order] for name in ("segment", "attempt"))
    begun = np.minimum(columns["start"], np.maximum(columns["received"], free))[order]
    same = segment[1:] == segment[:-1]
    first = np.append(True, ~(same & (attempt[1:] == attempt[:-1])))[: len(order)]
    again = np.append(False, same)[: len(order)]
    ready = columns["ready"][order].copy()
    stop = columns["stop"][order]
    ready[1:] = np.where(again[1:], np.maximum(ready[1:], stop[:-1]), ready[1:])
    begun, ready = begun[first], ready[first]
    return ready, np.clip(columns["granted"][order][first], ready, np.maximum(begun, ready)), begun, order[first]


@dataclass(frozen=True)
class LimitWait:
    """What a limit cost a run.

    Parameters
    ----------
    places : how many segments may use it at once
    n_tasks : attempts of segments that waited for it
    waited : seconds in which at least one of them did
    idle : core-seconds in which a worker was idle meanwhile and nothing else was ready: its part of the loss ``limit``
    """

    places: int
    n_tasks: int
    waited: float
    idle: float


def limit_waits(trace: Trace) -> dict[str, LimitWait]:
    """Return limit -> what it cost, for each limit that tasks of the run use; O(n log n) in its rows, for each limit.

    A segment that uses several waits for the one of which it gets a place last. Where segments wait for different
    limits at once, the idle time counts for each of them.
    """
    places = trace.notes.get("limits", {})
    if not places:
        return {}
    elapsed = round(trace.elapsed * 1e9)
    names = lanes(trace)
    ready, granted, begun, first = _waits(trace)
    named = np.array(trace.tasks["limit"].to_pylist(), dtype=object)[first]
    waiting = _Union.of(granted, begun, elapsed)
    columns = {name: trace.tasks[name].to_numpy() for name in INSTANTS}
    gaps = _gaps(trace, names)
    busy = []
    for lane, rows in enumerate(_rows(trace, names)):
        at = {name: columns[name][rows] for name in INSTANTS}
        spans = [(at["start"], at["stop"]), (at["loaded"], at["opened"]), *((at[a], at[b]) for a, b in _TRANSFER)]
        busy.append(waiting.joined([*spans, *gaps[lane]], elapsed))
    found = {}
    for name, n in places.items():
        own = (named == name) & (granted > ready)
        wait = _Union.of(ready[own], granted[own], elapsed)
        idle = sum(wait.length - wait.overlap(lane) for lane in busy)
        found[name] = LimitWait(int(n), int(own.sum()), wait.length / 1e9, idle / 1e9)
    return found


def _gaps(trace: Trace, names: Sequence[Sequence[str]]) -> list[list[tuple[_Times, _Times]]]:
    """Return for each lane when it is unknown what its worker did.

    A worker that was lost before it ran anything gets the first lane without a worker, if there is one.
    """
    number = {name: i for i, some in enumerate(names) for name in some}
    unused = iter([i for i, some in enumerate(names) if not some])
    found: list[list[tuple[_Times, _Times]]] = [[] for _ in names]
    for name, since, until in trace.notes.get("gaps", ()):
        if name not in number:
            number[name] = next(unused, -1)
        if number[name] >= 0:
            found[number[name]].append((np.array([since]), np.array([until])))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Losses
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SerialTimes:
    """The times of the tasks in serial runs: medians over the rounds, in seconds.

    Parameters
    ----------
    seconds, cpu : task's key as text -> seconds in the task; CPU seconds of it
    elapsed : of the whole serial run
    delay, cpu_beside : seconds that it was ready and had no core; CPU seconds of threads and programs of its own
    """

    seconds: Mapping[str, float]
    cpu: Mapping[str, float]
    elapsed: float
    delay: Mapping[str, float] = field(default_factory=dict)
    cpu_beside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Losses:
    """The core-seconds of a run by loss; those of :data:`LOSSES` add up to ``n_workers * elapsed``, up to rounding.

    Parameters
    ----------
    n_workers : number of lanes
    useful : seconds that the same tasks take in a serial run
    inflation : seconds that they took beyond that; negative if they were faster
    limit : seconds in which workers were idle since what was ready waited for a limit
    inflation_cpu : CPU seconds of the tasks beyond those of the serial run
    inflation_wait : the rest of the inflation: time in tasks without CPU. Both may be negative, and are only meaningful
        for an inflation > 0
    """

    n_workers: int
    elapsed: float
    useful: float
    inflation: float
    runtime: float
    transfer: float
    scheduling: float
    dependency: float
    unexplained: float
    inflation_cpu: float
    inflation_wait: float
    limit: float = 0.0

    def share(self, name: str) -> float:
        """Return a loss divided by ``n_workers * elapsed``.

        Raises
        ------
        ValueError : if the run took no time
        """
        if not self.n_workers * self.elapsed:
            raise ValueError("the run took no time, so there are no shares of it")
        seconds: float = getattr(self, name)
        return seconds / (self.n_workers * self.elapsed)

    def percents(self) -> dict[str, int]:
        """Return the shares as whole per cents; see :func:`whole_percents`. A negative inflation stays negative.

        >>> third = Losses(1, 3.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        >>> [n for n in third.percents().values() if n]
        [34, 33, 33]
        """
        return whole_percents({name: getattr(self, name) for name in LOSSES})


def whole_percents(seconds: Mapping[str, float]) -> dict[str, int]:
    """Return shares of the sum as whole per cents that add up to 100.

    They are rounded down; the missing per cents go to the largest remainders.

    Raises
    ------
    ValueError : if the sum is not above 0
    """
    total = math.fsum(seconds.values())
    if total <= 0:
        raise ValueError("the run took no time, so there are no shares of it")
    exact = {name: round(100 * value / total, 9) for name, value in seconds.items()}
    found = {name: math.floor(value) for name, value in exact.items()}
    each, rest = divmod(100 - sum(found.values()), len(exact))
    by_remainder = sorted(exact, key=lambda name: found[name] - exact[name])
    return {name: n + each + (by_remainder.index(name) < rest) for name, n in found.items()}


def serial_times(traces: Sequence[Trace]) -> SerialTimes:
    """Return the medians over some serial runs; if a task was tried again, its last attempt counts.

    Raises
    ------
    ValueError : if there is no trace
    """
    if not traces:
        raise ValueError("there are no serial runs to take times from")
    number: dict[str, int] = {}
    task: list[npt.NDArray[np.intp]] = []
    columns: dict[str, list[_Times]] = {name: [] for name in ("seconds", "cpu", "delay", "cpu_beside")}
    for trace in traces:
        last = {key: i for i, key in enumerate(trace.tasks["key"].to_pylist())}  # the rows are in the order of start
        rows = np.fromiter(last.values(), dtype=np.intp, count=len(last))
        task.append(np.array([number.setdefault(key, len(number)) for key in last], dtype=np.intp))
        columns["seconds"].append((trace.tasks["stop"].to_numpy() - trace.tasks["start"].to_numpy())[rows])
        for name in ("cpu", "delay", "cpu_beside"):
            columns[name].append(trace.tasks[name].to_numpy()[rows])
    of_task = np.concatenate(task)
    medians = {
        name: dict(zip(number, _medians(of_task, np.concatenate(some)), strict=True)) for name, some in columns.items()
    }
    return SerialTimes(elapsed=median([trace.elapsed for trace in traces]), **medians)


def _medians(group: npt.NDArray[np.intp], ns: _Times) -> list[float]:
    """Return the median of each group in seconds; groups are numbered from 0, none is empty."""
    order = np.lexsort((ns, group))
    counts = np.bincount(group)
    first = np.cumsum(counts) - counts
    ordered = ns[order]
    middle = ordered[first + (counts - 1) // 2] + ordered[first + counts // 2]
    seconds: list[float] = (middle / 2e9).tolist()
    return seconds


def losses(trace: Trace, serial: SerialTimes) -> Losses:
    """Return the losses of a run; a task that was tried several times is useful once.

    Raises
    ------
    ValueError : if a task has no time in ``serial``
    """
    divided = core_time(trace)
    seconds = {name: divided.total(name) / 1e9 for name in CLASSES}
    useful = useful_seconds(trace, serial)
    inflation = seconds.pop("task") - useful
    more_cpu = int(trace.tasks["cpu"].to_numpy().sum()) / 1e9 - _sum(serial.cpu, trace)
    return Losses(
        n_workers=len(divided.lanes),
        elapsed=divided.elapsed / 1e9,
        useful=useful,
        inflation=inflation,
        **seconds,
        inflation_cpu=more_cpu,
        inflation_wait=inflation - more_cpu,
    )


def useful_seconds(trace: Trace, serial: SerialTimes) -> float:
    """Return the seconds that the tasks of a run take serially; each task counts once.

    Raises
    ------
    ValueError : if a task has no time in ``serial``
    """
    return _sum(serial.seconds, trace)


def _sum(seconds: Mapping[str, float], trace: Trace) -> float:
    try:
        return math.fsum(seconds[key] for key in dict.fromkeys(trace.tasks["key"].to_pylist()))
    except KeyError as error:
        raise ValueError(f"the serial run has no time for task {error.args[0]}: it ran another graph") from None


def inflation_interval(traces: Sequence[Trace], serial: SerialTimes) -> Interval:
    """Return the median of the rounds' inflation (seconds, signed) with its interval; ``serial`` counts as exact.

    Raises
    ------
    ValueError : of no traces, or if serial's time of a task is not known
    """
    return median_interval([losses(trace, serial).inflation for trace in traces])


def bytes_moved(trace: Trace) -> dict[str, int]:
    """Return step -> bytes sent to and from workers for its tasks, without steps that moved none."""
    found: dict[str, int] = {}
    columns = [trace.tasks[name].to_pylist() for name in ("step", "bytes_in", "bytes_sent")]
    for step, bytes_in, bytes_sent in zip(*columns, strict=True):
        if bytes_in + bytes_sent:
            found[step] = found.get(step, 0) + bytes_in + bytes_sent
    return found
