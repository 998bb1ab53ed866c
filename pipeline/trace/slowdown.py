"""Which step slowed down which: the seconds that tasks took beyond their serial time, by the steps beside them.

A task is slowed down by what runs at the same time. For the tasks of one step, their extra seconds are explained by the
seconds for which tasks of each step ran beside them (least squares without negative coefficients): the victims of a
step that holds a lock are slow while it runs, and only then. What no overlap explains stays with the step itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.trace.measured_schedule import Tasks

__all__ = ["blame", "overlaps"]

_Floats = npt.NDArray[np.float64]
_MOST = 8  # steps that can be guilty: those with the most seconds


def overlaps(tasks: Tasks) -> Mapping[int, _Floats]:
    """Return for each of the longest steps the seconds for which its tasks ran beside each task; O(n log n) a lane."""
    by_seconds = np.argsort(-tasks.by_step(tasks.seconds), kind="stable")[:_MOST]
    found = {}
    for step in by_seconds.tolist():
        beside = np.zeros(len(tasks.keys))
        for lane in np.unique(tasks.lane):
            own = (tasks.step == step) & (tasks.lane == lane)  # tasks of one lane follow each other
            elsewhere = tasks.lane != lane
            starts, stops = tasks.start[own], tasks.stop[own]
            beside[elsewhere] += _before(starts, stops, tasks.stop[elsewhere])
            beside[elsewhere] -= _before(starts, stops, tasks.start[elsewhere])
        found[step] = beside
    return found


def _before(starts: _Floats, stops: _Floats, moments: _Floats) -> _Floats:
    """Return the seconds covered before each moment by intervals that don't overlap, in order of time."""
    if not len(starts):
        return np.zeros(len(moments))
    whole = np.append(0.0, np.cumsum(stops - starts))
    i = np.searchsorted(starts, moments, side="right")
    left = np.where(i > 0, np.maximum(np.append(0.0, stops)[i] - moments, 0.0), 0.0)
    found: _Floats = whole[i] - left
    return found


def blame(tasks: Tasks, extra: _Floats, beside: Mapping[int, _Floats]) -> dict[int, _Floats]:
    """Return for each guilty step the extra seconds of each task that it caused.

    Parameters
    ----------
    extra : seconds of each task beyond its serial time, of one kind; negative ones are noise
    beside : from :func:`overlaps`
    """
    found: dict[int, _Floats] = {}
    for victim in range(tasks.n_steps):
        rows = np.flatnonzero(tasks.step == victim)
        total = float(extra[rows].sum())
        if total <= 0:
            continue
        positive = np.maximum(extra[rows], 0.0)
        positive *= total / positive.sum()  # so that noise cancels in the sum
        steps = [step for step, seconds in beside.items() if seconds[rows].any()]
        if not steps:
            found.setdefault(victim, np.zeros(len(tasks.keys)))[rows] += positive
            continue
        columns = np.stack([beside[step][rows] for step in steps], axis=1)
        rates = _non_negative(columns, positive)
        caused = columns * rates
        explained = caused.sum(axis=1)
        scale = np.divide(positive, explained, out=np.zeros_like(positive), where=explained > 0)
        for k, step in enumerate(steps):
            if rates[k] > 0:
                found.setdefault(step, np.zeros(len(tasks.keys)))[rows] += caused[:, k] * scale
        found.setdefault(victim, np.zeros(len(tasks.keys)))[rows] += np.where(explained > 0, 0.0, positive)
    return found


def _non_negative(columns: _Floats, values: _Floats) -> _Floats:
    """Return the least-squares coefficients, none below 0: columns with negative ones are left out one by one."""
    active = list(range(columns.shape[1]))
    found = np.zeros(columns.shape[1])
    while active:
        solved = np.linalg.lstsq(columns[:, active], values, rcond=1e-6)[0]
        worst = int(solved.argmin())
        if solved[worst] >= 0:
            found[active] = solved
            break
        del active[worst]
    return found
