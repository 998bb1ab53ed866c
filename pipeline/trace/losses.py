"""The rectangle *workers x elapsed*, tiled exactly: where every core-second of a run went.

Each worker thread is a lane from 0 to elapsed, in integer nanoseconds, and each moment of it belongs to the first of
these classes that it fits:

* ``task``: a function of the pipeline runs, in whichever attempt;
* ``runtime``: the worker has the task but its function is not running: it is unpickled, an event loop has its turn, or
  it is the moment between two tasks of one segment;
* ``transfer``: what the task needs is moved in and unpickled, what it gave is pickled and handed out;
* ``unexplained``: nobody saw what the worker did, since it was lost;
* ``scheduling``: the worker is idle while a segment is ready anywhere that no worker has, or that another has and
  leaves lying behind something else;
* ``dependency``: it is idle, and nothing is ready.

Then it is arithmetic: the time in tasks is what the same tasks take serially (``useful``) and the rest, ``inflation``,
which is signed: tasks may well run faster side by side than alone. Nothing is clipped and nothing is hidden.

Rejected: seconds as floats (the tiles would not add up); a sweep over all instants in Python (a second for 20,000
tasks: here the length of nested unions is taken, one sort each); tiling by the parent's clock (the way there and back
would count as work).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.trace.replay import lanes
from pipeline.trace.statistics import Interval, median, median_interval
from pipeline.trace.trace import INSTANTS, Trace

__all__ = [
    "CLASSES",
    "LOSSES",
    "CoreTime",
    "Losses",
    "SerialTimes",
    "inflation_interval",
    "losses",
    "moved",
    "rectangle",
    "serial_times",
    "useful_seconds",
    "whole_percents",
]

CLASSES = ("task", "runtime", "transfer", "scheduling", "dependency", "unexplained")
"""What a moment of a worker can be."""

LOSSES = ("useful", "inflation", "runtime", "transfer", "scheduling", "dependency", "unexplained")
"""What becomes of core-seconds: the same, with the time in tasks in two."""

_Times = npt.NDArray[np.int64]
_AROUND = (("received", "loaded"), ("opened", "start"), ("stop", "packed"), ("packed", "sent"))  # what is transfer


# ---------------------------------------------------------------------------------------------------------------------
# The rectangle
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoreTime:
    """Workers x elapsed, tiled; the classes of each lane add up to ``elapsed`` exactly.

    Parameters
    ----------
    elapsed : ns
    lanes : class -> ns, for each lane
    names : the workers that each lane shows, in time; none on a lane where nothing ran
    """

    elapsed: int
    lanes: tuple[Mapping[str, int], ...]
    names: tuple[tuple[str, ...], ...]

    def total(self, name: str) -> int:
        """Nanoseconds of a class over all lanes."""
        return sum(lane[name] for lane in self.lanes)


def rectangle(trace: Trace) -> CoreTime:
    """Tile workers x elapsed of a run; O(n log n) in its rows, what lies outside of [0, elapsed] is cut off.

    The lanes are those of :func:`pipeline.trace.replay.lanes`: ``n_workers``, or more where a cluster grew.
    """
    elapsed = round(trace.elapsed * 1e9)
    names = lanes(trace)
    columns = {name: trace.tasks[name].to_numpy() for name in ("segment", "attempt", "ready", *INSTANTS)}
    waiting = _Union.of(*_waiting(columns, _free(trace, columns)), elapsed)
    gaps = _gaps(trace, names)
    tiles = []
    for lane, rows in enumerate(_rows(trace, names)):
        at = {name: columns[name][rows] for name in INSTANTS}
        busy = _Union.of(at["start"], at["stop"], elapsed)
        tile = {"task": busy.length}
        for name, pairs in (
            ("runtime", [(at["loaded"], at["opened"])]),
            ("transfer", [(at[a], at[b]) for a, b in _AROUND]),
            ("unexplained", gaps[lane]),
        ):
            more = busy.joined(pairs, elapsed)
            tile[name] = more.length - busy.length
            busy = more
        tile["scheduling"] = waiting.length - waiting.within(busy)
        tile["dependency"] = elapsed - busy.length - tile["scheduling"]
        tiles.append({name: tile[name] for name in CLASSES})
    return CoreTime(elapsed, tuple(tiles), names)


@dataclass(frozen=True, eq=False)
class _Union:
    """Some stretches of time that neither overlap nor touch, in order; ns."""

    starts: _Times
    stops: _Times

    @classmethod
    def of(cls, starts: _Times, stops: _Times, elapsed: int) -> _Union:
        """What any of the stretches covers of [0, elapsed]."""
        starts, stops = np.clip(starts, 0, elapsed), np.clip(stops, 0, elapsed)
        some = stops > starts
        starts, stops = starts[some], stops[some]
        order = np.argsort(starts, kind="stable")
        starts, stops = starts[order], np.maximum.accumulate(stops[order])
        apart = starts[1:] > stops[:-1]
        return cls(starts[np.append(True, apart)[: len(starts)]], stops[np.append(apart, True)[: len(stops)]])

    def joined(self, pairs: Sequence[tuple[_Times, _Times]], elapsed: int) -> _Union:
        """With more stretches."""
        starts = np.concatenate([self.starts, *(starts for starts, _ in pairs)])
        return _Union.of(starts, np.concatenate([self.stops, *(stops for _, stops in pairs)]), elapsed)

    @property
    def length(self) -> int:
        return int((self.stops - self.starts).sum())

    def within(self, other: _Union) -> int:
        """Nanoseconds that both cover."""
        return int((self._before(other.stops) - self._before(other.starts)).sum())

    def _before(self, moments: _Times) -> _Times:
        """How much of it lies before each moment."""
        whole = np.append(0, np.cumsum(self.stops - self.starts))
        i = np.searchsorted(self.starts, moments, side="right")  # so many began by then
        over = np.append(0, self.stops)[i] - moments  # what the last of them still has to go
        found: _Times = whole[i] - np.where(i > 0, np.maximum(over, 0), 0)
        return found


def _rows(trace: Trace, names: Sequence[Sequence[str]]) -> list[npt.NDArray[np.intp]]:
    """For each lane its rows."""
    if not trace.tasks.num_rows:
        return [np.empty(0, dtype=np.intp) for _ in names]
    worker = trace.tasks["worker"].combine_chunks().dictionary_encode()
    number = {name: i for i, some in enumerate(names) for name in some}
    of_name = np.array([number[name] for name in worker.dictionary.to_pylist()])
    lane = of_name[worker.indices.to_numpy()]
    order = np.argsort(lane, kind="stable")
    return np.split(order, np.searchsorted(lane[order], np.arange(1, len(names))))


def _free(trace: Trace, columns: Mapping[str, Any]) -> _Times:
    """For each row when its worker was through with the rows before it; before everything, where there are none."""
    start, stop = columns["start"], columns["stop"]
    if not len(start):
        return np.empty(0, dtype=np.int64)
    worker = trace.tasks["worker"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    order = np.lexsort((start, worker))
    low = min(int(stop.min()), 0) - 1
    apart = worker[order] * (int(stop.max()) - low + 1)  # so that one running maximum does for all workers
    latest = np.maximum.accumulate(stop[order] - low + apart) - apart + low
    before = np.append(low, latest[:-1])
    before[np.append(True, np.diff(worker[order]) != 0)] = low
    free = np.empty_like(before)
    free[order] = before
    return free


def _waiting(columns: Mapping[str, Any], free: _Times) -> tuple[_Times, _Times]:
    """When a segment was ready and no worker was at it, for each attempt; a later one waits from the end of the one
    before it.

    A worker is at it from the moment it takes it in, or is through with what it did before that; then there is nothing
    to hand to anybody else.
    """
    order = np.lexsort((columns["start"], columns["attempt"], columns["segment"]))
    segment, attempt = (columns[name][order] for name in ("segment", "attempt"))
    begun = np.minimum(columns["start"], np.maximum(columns["received"], free))[order]
    same = segment[1:] == segment[:-1]
    first = np.append(True, ~(same & (attempt[1:] == attempt[:-1])))[: len(order)]
    again = np.append(False, same)[: len(order)]
    ready = columns["ready"][order].copy()
    stop = columns["stop"][order]
    ready[1:] = np.where(again[1:], np.maximum(ready[1:], stop[:-1]), ready[1:])
    return ready[first], begun[first]


def _gaps(trace: Trace, names: Sequence[Sequence[str]]) -> list[list[tuple[_Times, _Times]]]:
    """For each lane when nobody saw what it did; a worker that was lost before it ran anything has the first lane
    that shows none, if there is one."""
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
    """What the tasks take when they run one after the other: medians over the rounds, in seconds.

    Parameters
    ----------
    seconds, cpu : task's key as text -> seconds in the task, and CPU seconds of them
    elapsed : of the whole serial run
    """

    seconds: Mapping[str, float]
    cpu: Mapping[str, float]
    elapsed: float


@dataclass(frozen=True)
class Losses:
    """Where the core-seconds of a run went; those of :data:`LOSSES` add up to ``n_workers * elapsed``, up to rounding.

    Parameters
    ----------
    n_workers : lanes of the rectangle
    useful : what the same tasks take serially
    inflation : what they took beyond that: negative where they were faster
    inflation_cpu : CPU seconds of the tasks beyond serial's
    inflation_wait : the rest of the inflation: time in tasks beyond serial's without CPU. Both are signed, and say
        something about an inflation > 0 only
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

    def share(self, name: str) -> float:
        """A loss over ``n_workers * elapsed``.

        Raises
        ------
        ValueError : of a run that took no time
        """
        if not self.n_workers * self.elapsed:
            raise ValueError("a run that took no time has no shares of it")
        seconds: float = getattr(self, name)
        return seconds / (self.n_workers * self.elapsed)

    def percents(self) -> dict[str, int]:
        """The shares as whole per cents that add up to 100: rounded down, the rest goes to the largest remainders.

        An inflation below 0 stays below 0.

        >>> third = Losses(1, 3.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        >>> [n for n in third.percents().values() if n]
        [34, 33, 33]
        """
        return whole_percents({name: getattr(self, name) for name in LOSSES})


def whole_percents(seconds: Mapping[str, float]) -> dict[str, int]:
    """Shares of the sum as whole per cents that add up to 100: rounded down, the rest goes to the largest remainders.

    Raises
    ------
    ValueError : if the sum is no time
    """
    total = math.fsum(seconds.values())
    if total <= 0:
        raise ValueError("a run that took no time has no shares of it")
    exact = {name: round(100 * value / total, 9) for name, value in seconds.items()}
    found = {name: math.floor(value) for name, value in exact.items()}
    each, rest = divmod(100 - sum(found.values()), len(exact))
    by_remainder = sorted(exact, key=lambda name: found[name] - exact[name])
    return {name: n + each + (by_remainder.index(name) < rest) for name, n in found.items()}


def serial_times(traces: Sequence[Trace]) -> SerialTimes:
    """The medians over the rounds of a serial run; of a task that was tried again, the last attempt's times count.

    Raises
    ------
    ValueError : of no traces
    """
    if not traces:
        raise ValueError("no serial runs have no times")
    number: dict[str, int] = {}
    task, seconds, cpu = [], [], []
    for trace in traces:
        last = {key: i for i, key in enumerate(trace.tasks["key"].to_pylist())}  # the rows are in the order of start
        rows = np.fromiter(last.values(), dtype=np.intp, count=len(last))
        task.append(np.array([number.setdefault(key, len(number)) for key in last], dtype=np.intp))
        seconds.append((trace.tasks["stop"].to_numpy() - trace.tasks["start"].to_numpy())[rows])
        cpu.append(trace.tasks["cpu"].to_numpy()[rows])
    of_task = np.concatenate(task)
    return SerialTimes(
        dict(zip(number, _medians(of_task, np.concatenate(seconds)), strict=True)),
        dict(zip(number, _medians(of_task, np.concatenate(cpu)), strict=True)),
        median([trace.elapsed for trace in traces]),
    )


def _medians(group: npt.NDArray[np.intp], ns: _Times) -> list[float]:
    """Of each group, in seconds; groups are numbered from 0, and each has a value."""
    order = np.lexsort((ns, group))
    counts = np.bincount(group)
    first = np.cumsum(counts) - counts
    ordered = ns[order]
    middle = ordered[first + (counts - 1) // 2] + ordered[first + counts // 2]
    seconds: list[float] = (middle / 2e9).tolist()
    return seconds


def losses(trace: Trace, serial: SerialTimes) -> Losses:
    """Where the core-seconds of a run went; a task that was tried several times is useful once.

    Raises
    ------
    ValueError : if serial's time of a task is not known
    """
    tiled = rectangle(trace)
    seconds = {name: tiled.total(name) / 1e9 for name in CLASSES}
    useful = useful_seconds(trace, serial)
    inflation = seconds.pop("task") - useful
    more_cpu = int(trace.tasks["cpu"].to_numpy().sum()) / 1e9 - _sum(serial.cpu, trace)
    return Losses(
        n_workers=len(tiled.lanes),
        elapsed=tiled.elapsed / 1e9,
        useful=useful,
        inflation=inflation,
        **seconds,
        inflation_cpu=more_cpu,
        inflation_wait=inflation - more_cpu,
    )


def useful_seconds(trace: Trace, serial: SerialTimes) -> float:
    """What the tasks of a run take serially; one that was tried several times counts once.

    Raises
    ------
    ValueError : if serial's time of a task is not known
    """
    return _sum(serial.seconds, trace)


def _sum(seconds: Mapping[str, float], trace: Trace) -> float:
    try:
        return math.fsum(seconds[key] for key in dict.fromkeys(trace.tasks["key"].to_pylist()))
    except KeyError as error:
        raise ValueError(f"serial's time of task {error.args[0]} is not known: it ran another graph") from None


def inflation_interval(traces: Sequence[Trace], serial: SerialTimes) -> Interval:
    """The median of the rounds' inflation in seconds, signed, with its interval; serial's medians are taken as given.

    Raises
    ------
    ValueError : of no traces, or if serial's time of a task is not known
    """
    return median_interval([losses(trace, serial).inflation for trace in traces])


def moved(trace: Trace) -> dict[str, int]:
    """Step -> bytes that went to workers for its tasks and came from them; steps that moved none are left out."""
    found: dict[str, int] = {}
    columns = [trace.tasks[name].to_pylist() for name in ("step", "bytes_in", "bytes_sent")]
    for step, bytes_in, bytes_sent in zip(*columns, strict=True):
        if bytes_in + bytes_sent:
            found[step] = found.get(step, 0) + bytes_in + bytes_sent
    return found
