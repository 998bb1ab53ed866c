"""The tasks of a Trace as bars on lanes; bars narrower than a pixel are merged so that they fit into a page.

Up to :data:`FEW` tasks have a bar each. With more, neighbours of one step on one lane share a bar if they and the gaps
between them are narrower than a pixel (1/2,000 of the run); the longest tasks and the critical path keep their own. If
there are still too many bars the pixel is enlarged. If that does not suffice (many workers, alternating steps), all
small tasks that begin in one pixel of a lane share a bar in the colour of the step with most seconds in it. No task is
left out: each bar has its number of tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.report.html.bokeh_figures import step_of
from pipeline.trace.trace import Trace

__all__ = ["FEW", "PIXELS", "Bars", "Lines", "around", "bars", "memory"]

FEW = 5_000
PIXELS = 2_000
_LONGEST = 500

_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Bars:
    """Bars in the order of their start; arrays of equal length.

    Parameters
    ----------
    lane : number of the lane
    start, stop : ns since the run began
    seconds : ns in the tasks of the bar
    n : number of its tasks
    step : index of its step in ``steps``; of several, the one with most seconds
    bytes_in, bytes_out : sums over its tasks
    row : row of its first task in the Trace
    critical : whether it is on the critical path
    n_tasks : number of tasks in the Trace
    width : ns of a pixel; 0 if nothing was merged
    mixed : whether a bar may hold tasks of several steps
    longest : number of the longest tasks, which are not merged
    path : whether tasks on the critical path are not merged
    """

    lane: _Ints
    start: _Ints
    stop: _Ints
    seconds: _Ints
    n: _Ints
    step: _Ints
    bytes_in: _Ints
    bytes_out: _Ints
    row: _Ints
    critical: _Flags
    steps: tuple[str, ...]
    n_tasks: int
    width: int = 0
    mixed: bool = False
    longest: int = 0
    path: bool = True


def bars(
    trace: Trace, lanes: Sequence[Sequence[str]], critical: Collection[tuple[str, int]], *, most: int, few: int = FEW
) -> Bars:
    """Return the bars of a Trace.

    Parameters
    ----------
    lanes : names of the workers on each lane
    critical : key and start (ns) of the tasks on the critical path
    most : largest number of bars
    few : number of tasks up to which nothing is merged
    """
    tasks = trace.tasks
    starts, stops = tasks["start"].to_numpy(), tasks["stop"].to_numpy()
    instances = tasks["step"].combine_chunks().dictionary_encode()
    names = [step_of(instance) for instance in instances.dictionary.to_pylist()]
    steps = tuple(dict.fromkeys(names))
    number = np.array([steps.index(name) for name in names], dtype=np.int64)
    n = tasks.num_rows
    at = {
        "lane": _lane_of(trace, lanes),
        "start": starts,
        "stop": np.maximum(stops, starts),
        "step": number[instances.indices.to_numpy()] if n else np.zeros(0, np.int64),
        "bytes_in": tasks["bytes_in"].to_numpy(),
        "bytes_out": tasks["bytes_out"].to_numpy(),
        "critical": np.fromiter(
            (
                (key, max(start, 0)) in critical
                for key, start in zip(tasks["key"].to_pylist(), starts.tolist(), strict=True)
            ),
            dtype=bool,
            count=n,
        ),
    }
    if n <= min(few, most):
        return _grouped(at, np.arange(n), np.arange(n), steps)
    longest, path = min(_LONGEST, most // 4), bool(at["critical"].sum() <= most // 2)
    apart = at["critical"] & path
    apart[np.argsort(starts - at["stop"], kind="stable")[:longest]] = True
    whole = int(max(at["stop"].max() - min(starts.min(), 0), 1))
    width = max(whole // PIXELS, 1)
    merged: dict[str, Any] = {"longest": longest, "path": path}
    for pixel in (width, 2 * width, 4 * width, 8 * width):
        order, group = _neighbours(at, apart, pixel)
        if group[-1] < most:
            return _grouped(at, order, group, steps, width=pixel, **merged)
    while True:
        order, group = _cells(at, apart, width)
        if group[-1] < most or width > whole:
            return _grouped(at, order, group, steps, width=width, mixed=True, **merged)
        width *= 2


def _lane_of(trace: Trace, lanes: Sequence[Sequence[str]]) -> _Ints:
    worker = trace.tasks["worker"].combine_chunks().dictionary_encode()
    number = {name: i for i, names in enumerate(lanes) for name in names}
    of_name = np.array([number[name] for name in worker.dictionary.to_pylist()], dtype=np.int64)
    found: _Ints = of_name[worker.indices.to_numpy()] if len(worker) else of_name
    return found


def _neighbours(at: dict[str, Any], apart: _Flags, width: int) -> tuple[_Ints, _Ints]:
    """Return the rows in the order of lanes and time, and the bar number of each; neighbours of a step share one."""
    order = np.lexsort((at["start"], at["lane"]))
    lane, step, start, stop, critical = (at[name][order] for name in ("lane", "step", "start", "stop", "critical"))
    small = (stop - start < width) & ~apart[order]
    joined = small[1:] & small[:-1] & (start[1:] - stop[:-1] < width)
    for column in (lane, step, critical):
        joined &= column[1:] == column[:-1]
    return order, np.concatenate([[0], np.cumsum(~joined)])


def _cells(at: dict[str, Any], apart: _Flags, width: int) -> tuple[_Ints, _Ints]:
    """Return the same as :func:`_neighbours`, but all small tasks that begin in one pixel of a lane share a bar."""
    small = (at["stop"] - at["start"] < width) & ~apart
    cell = at["start"] // width
    single = np.where(small, 0, np.arange(1, len(small) + 1))  # distinct numbers for what is not merged
    columns = (cell, at["critical"], single, at["lane"])
    order = np.lexsort((at["start"], *columns))
    other = np.zeros(len(order) - 1, dtype=bool)
    for column in columns:
        other |= column[order][1:] != column[order][:-1]
    return order, np.concatenate([[0], np.cumsum(other)])


def _grouped(
    at: dict[str, Any], order: _Ints, group: _Ints, steps: tuple[str, ...], *, mixed: bool = False, **merged: Any
) -> Bars:
    """Return one bar for each group; the rows of a group are adjacent in ``order``."""
    n = len(order)
    if not n:
        empty = np.zeros(0, np.int64)
        return Bars(*(empty,) * 9, critical=empty.astype(bool), steps=steps, n_tasks=0)
    firsts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    seconds = (at["stop"] - at["start"])[order]
    step = at["step"][order][firsts]
    if mixed:
        step = _longest(group, at["step"][order], seconds, len(steps))
    start = np.minimum.reduceat(at["start"][order], firsts)
    by_start = np.argsort(start, kind="stable")
    columns = {
        "lane": at["lane"][order][firsts],
        "start": start,
        "stop": np.maximum.reduceat(at["stop"][order], firsts),
        "seconds": np.add.reduceat(seconds, firsts),
        "n": np.diff(np.append(firsts, n)),
        "step": step,
        "bytes_in": np.add.reduceat(at["bytes_in"][order], firsts),
        "bytes_out": np.add.reduceat(at["bytes_out"][order], firsts),
        "row": order[firsts],
        "critical": at["critical"][order][firsts],
    }
    return Bars(**{name: x[by_start] for name, x in columns.items()}, steps=steps, n_tasks=n, mixed=mixed, **merged)


def _longest(group: _Ints, step: _Ints, seconds: _Ints, n_steps: int) -> _Ints:
    """Return the step with most seconds in each group."""
    pairs, which = np.unique(group * n_steps + step, return_inverse=True)
    sums = np.zeros(len(pairs), dtype=np.int64)
    np.add.at(sums, which, seconds)
    order = np.lexsort((-sums, pairs // n_steps))
    first = np.concatenate([[True], np.diff(pairs[order] // n_steps) > 0])
    found: _Ints = pairs[order][first] % n_steps
    return found


def around(trace: Trace, lanes: Sequence[Sequence[str]], *, most: int) -> tuple[_Ints, _Ints, _Ints]:
    """Return lane, start and stop (ns) of the phases around tasks (received to start, stop to sent), at most ``most``.

    Phases on one lane with gaps narrower than a pixel are merged.
    """
    at = {name: trace.tasks[name].to_numpy() for name in ("received", "start", "stop", "sent")}
    lane = np.tile(_lane_of(trace, lanes), 2)
    start, stop = np.concatenate([at["received"], at["stop"]]), np.concatenate([at["start"], at["sent"]])
    some = stop > start
    lane, start, stop = lane[some], start[some], stop[some]
    order = np.lexsort((start, lane))
    lane, start, stop = lane[order], start[order], stop[order]
    if not len(lane):
        return lane, start, stop
    width = max(round(trace.elapsed * 1e9) // PIXELS, 1)
    while True:
        # The latest stop so far on the lane: shifting the lanes apart allows one running maximum over all lanes.
        shift = lane * (int(stop.max() - start.min()) + 1)
        latest = np.maximum.accumulate(stop + shift) - shift
        new = np.concatenate([[True], (lane[1:] != lane[:-1]) | (start[1:] - latest[:-1] >= width)])
        firsts = np.flatnonzero(new)
        if len(firsts) <= most or width > trace.elapsed * 2e9:
            return lane[firsts], start[firsts], np.maximum.reduceat(stop, firsts)
        width *= 2


@dataclass(frozen=True, eq=False)
class Lines:
    """Memory of the workers of each lane: times (ns) and bytes."""

    times: tuple[_Ints, ...]
    values: tuple[_Ints, ...]


def memory(trace: Trace, lanes: Sequence[Sequence[str]], *, most: int) -> Lines | None:
    """Return resident bytes after each task, the maximum in each pixel, at most ``most`` points; None if not known."""
    values = trace.tasks["memory"].to_numpy()
    if not values.any():
        return None
    lane, stop = _lane_of(trace, lanes), trace.tasks["stop"].to_numpy()
    pixels = max(min(PIXELS, most // max(len(lanes), 1)), 1)
    width = max(round(trace.elapsed * 1e9) // pixels, 1)
    times, found = [], []
    for i in range(len(lanes)):
        rows = np.flatnonzero((lane == i) & (values > 0))
        rows = rows[np.argsort(stop[rows], kind="stable")]
        if len(rows) > pixels:
            cell = stop[rows] // width
            order = np.lexsort((values[rows], cell))
            rows = rows[order[np.append(np.diff(cell[order]) > 0, True)]]
        times.append(stop[rows])
        found.append(values[rows])
    return Lines(tuple(times), tuple(found))
