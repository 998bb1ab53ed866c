"""Contenders measured in turns, and what a row of the table says of them.

A single time says little on a shared machine, where the same work takes a tenth longer from one minute to the next. So
the contenders take turns, the order changing from round to round, and what counts is the ratio of medians with its
bootstrap interval over whole rounds (:mod:`pipeline.trace.statistics`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np

from pipeline.trace.statistics import Interval, median, median_interval, ratio_interval

__all__ = [
    "Aim",
    "Contender",
    "Differs",
    "Row",
    "Sizes",
    "Skipped",
    "counted",
    "differences",
    "measured",
    "ratios",
    "take_turns",
]

Contender = Callable[[], Callable[[], Any]]
"""Does the work, which is timed, and returns a function that returns the result as numbers, which is not timed."""


class Skipped(Exception):
    """A case can't be run here; the text says what it needs."""


class Differs(AssertionError):
    """The contenders computed different results."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of the cases.

    Parameters
    ----------
    pairs : rounds of each case
    few_pairs : rounds of cases that take half a minute each
    n_workers : processes
    n_tasks : tasks of an array or call case
    seconds : CPU seconds of each of them
    n_partitions, n_rows : partitions of the frame case, and rows of each
    n_items : items of 1 ms in the batching case
    n_many : empty tasks in the case of a whole run
    build : items in the building cases, and the allowed seconds
    n_small : partitions of 1,000 rows
    tpch : scale factor of the tables of TPC-H
    accounted : files of ``configs/`` whose core-seconds are accounted for
    warm_up : rounds before the first that counts
    """

    pairs: int
    few_pairs: int
    n_workers: int
    n_tasks: int
    seconds: float
    n_partitions: int
    n_rows: int
    n_items: int
    n_many: int
    build: tuple[tuple[int, float], ...]
    n_small: int = 1000
    tpch: float = 1
    accounted: tuple[str, ...] = ("quickstart", "climate", "tpch_q1", "weather")
    warm_up: int = 1


@dataclass(frozen=True)
class Aim:
    """An upper limit for the median of a figure, or for the lower end of its interval (``by``).

    The lower end is for ratios that should be 1: noise alone makes half of the medians larger.
    """

    at_most: float
    by: Literal["value", "low"] = "value"

    def met(self, figure: Interval) -> bool:
        """Return whether the figure is within the limit; without an interval its value decides."""
        return (figure.low if self.by == "low" and figure.known else figure.value) <= self.at_most


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Parameters
    ----------
    ours, theirs : medians in seconds, or counts; empty if there is nothing to compare with
    figure : the number that the aim limits
    unit : unit of the figure, ``s``; empty for a ratio
    aim : None for a figure that is only printed
    """

    case: str
    ours: str
    theirs: str
    figure: Interval
    unit: str = ""
    aim: Aim | None = None


def take_turns(contenders: Mapping[str, Contender], rounds: int, *, warm_up: int = 1) -> dict[str, list[float]]:
    """Return the seconds of each contender in each round, without the ``warm_up`` rounds.

    Raises
    ------
    Differs : if their results are not the same numbers
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        turn = number % len(names)
        results = {}
        for name in names[turn:] + names[:turn]:
            began = perf_counter()
            result = contenders[name]()
            took = perf_counter() - began
            results[name] = np.asarray(result(), dtype=float)
            if number >= 0:
                seconds[name].append(took)
        for name in names[1:]:
            if not np.allclose(results[names[0]], results[name], rtol=1e-9):
                raise Differs(f"{names[0]} gave {results[names[0]]}, {name} gave {results[name]}")
    return seconds


def ratios(case: str, ours: list[float], theirs: list[float], aim: Aim | None) -> Row:
    """Ours over theirs."""
    return Row(case, _seconds(median(ours)), _seconds(median(theirs)), ratio_interval(ours, theirs), "", aim)


def differences(case: str, ours: list[float], theirs: list[float], aim: Aim | None) -> Row:
    """Ours less theirs, pair by pair."""
    figure = median_interval([a - b for a, b in zip(ours, theirs, strict=True)])
    return Row(case, _seconds(median(ours)), _seconds(median(theirs)), figure, "s", aim)


def measured(case: str, ours: list[float], aim: Aim) -> Row:
    """Ours alone, against an absolute limit."""
    return Row(case, _seconds(median(ours)), "", median_interval(ours), "s", aim)


def counted(case: str, ours: int, theirs: int, aim: Aim | None, *, unit: int = 1) -> Row:
    """Two numbers, as of tasks, which are what they are; shown in ``unit``."""
    ratio = ours / theirs
    return Row(case, f"{ours // unit:,}", f"{theirs // unit:,}", Interval(ratio, ratio, ratio, 1, 1.0), "", aim)


def _seconds(value: float) -> str:
    return f"{value * 1e3:.1f} ms" if value < 0.1 else f"{value:.2f} s"
