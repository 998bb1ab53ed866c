"""rolling of frames: aggregates over the rows, or the time, that lead up to each row or lie around it.

Rows are brought into one order first (by group, then by the column asked for, ties by the remaining columns). A window
may begin in an earlier partition: of each partition the rows that later windows can reach are cut off as its tail, and
a chain of small tasks hands the tails on. Windows around their rows reach into later partitions, too: the same chain
runs the other way. Every window is computed from its own values: a running sum that adds one
value and takes one away is faster, but what a large value leaves behind would depend on where partitions begin.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import parse_duration
from pipeline.errors import OpError
from pipeline.graph.graph import Key, listed, ref
from pipeline.ops.frames.aggregation_tasks import codes_of
from pipeline.ops.frames.cast import family
from pipeline.ops.frames.columns import column_of, dtype_of
from pipeline.ops.frames.groupby import aggregate_dtypes, bound_names, take_apart
from pipeline.ops.frames.partitions import Partitions, conform, stack
from pipeline.ops.frames.sort import comparable, in_order, names_of, total_order

__all__ = ["rolling"]

Array = np.ndarray[Any, Any]

_FLOATS = frozenset({"sum", "mean", "std", "var", "median", "quantile"})
_CELLS = 2**21
"""How many cells of windows are looked at at once, where an aggregate needs the values side by side."""


@dataclass(frozen=True)
class Moving:
    """One new column: ``value`` None for ``count()``; ``argument``: q or ddof; ``held``: the dtype of the value."""

    name: str
    function: str
    value: Expression | None
    argument: float
    held: Any
    dtype: Any


@dataclass(frozen=True)
class Window:
    """The window of each row.

    Parameters
    ----------
    by : columns of groups; no window reaches into another group
    on : the column that rows are in order of
    rows : how many rows; None: ``span``
    span : so much time up to and with the row's own, the moment so long before it left out
    center : whether the row, or its time, is the window's middle; an even number of rows reaches one further back
    least : values that a window needs
    """

    by: tuple[str, ...]
    on: str
    rows: int | None
    span: np.timedelta64 | None
    center: bool
    least: int

    @property
    def rows_after(self) -> int:
        return (self.rows - 1) // 2 if self.rows is not None and self.center else 0

    @property
    def rows_before(self) -> int:
        return 0 if self.rows is None else self.rows - 1 - self.rows_after


def rolling(
    input: Any,  # noqa: A002
    *,
    on: str,
    window: int | str,
    columns: Mapping[str, Expression],
    by: str | Sequence[str] | None = None,
    center: bool = False,
    min_periods: int | None = None,
    bound: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """The rows in order of ``by`` and ``on``, with a column for each aggregate of the window that belongs to the row.

    Sums, means, std, var, median and quantile are float64; min, max, first and last keep the type (whole numbers
    become nullable); count and nunique are int64, any and all bool. A row whose ``on`` is missing comes last; a window
    of time of it is empty.

    Parameters
    ----------
    input : frame
    on : the column that rows are in order of; ties are in the order of the remaining columns
    window : rows, the row itself among them; or a length of time, ``7d``
    columns : new column -> aggregate expression, as in groupby
    by : columns of groups, each with windows of its own
    center : whether a window has its row in the middle; else it ends there
    min_periods : values a window needs, else it is missing (but for counts, any and all); default: all rows of a window
        of rows, one of a window of time
    bound : run-time values of the expressions, under ``columns.NAME``

    Raises
    ------
    OpError : an unknown column, a value that the aggregate has no meaning for, a window of time over something else
    """
    meta = input.meta
    (order_column,) = names_of("on", on, meta.columns)
    groups = names_of("by", by, meta.columns) if by else []
    if order_column in groups:
        raise OpError("on", f"'{order_column}' is a column of by, too: in a group all its values are equal")
    made = [_moving(name, expression, meta) for name, expression in columns.items()]
    reach = _window(tuple(groups), order_column, window, center, min_periods, meta)
    partitions = Partitions.of(input, parameters=("rolling", reach, made, bound_names(bound)))
    slots = partitions.bind_all(bound, [f"columns.{name}" for name in columns])
    how = (made, reach, slots)
    names = [*groups, order_column]
    order = total_order(names, [True] * len(names), meta.columns)
    ordered = in_order(partitions, partitions.keys[0], order)
    before = _reached(partitions, "tail", ordered, tail_of, reach)
    after = _reached(partitions, "head", ordered[::-1], head_of, reach)[::-1] if center else [[] for _ in ordered]
    rolled = [
        partitions.add("roll", (i,), roll, listed(map(ref, before[i])), ref(key), listed(map(ref, after[i])), *how)
        for i, key in enumerate(ordered)
    ]
    new = meta.copy(deep=False)
    for column in made:
        new[column.name] = pd.Series([], dtype=column.dtype, index=meta.index)
    return partitions.frame(rolled, new)


def _moving(name: str, expression: Expression, meta: pd.DataFrame) -> Moving:
    place = f"columns.{name}"
    function, inner, argument = take_apart(place, expression)
    if inner is None:
        return Moving(name, function, None, argument, None, np.dtype("int64"))
    found = dtype_of(place, inner, meta)
    if function in _FLOATS:
        if family(found) not in ("number", "bool") or found.kind == "c":
            raise OpError(place, f"{function}(x) of a window needs numbers; got {found}; take number(x)")
        return Moving(name, function, inner, argument, np.dtype("float64"), np.dtype("float64"))
    held, dtype = aggregate_dtypes(place, function, found, full=False)
    return Moving(name, function, inner, argument, held, dtype)


def _window(
    by: tuple[str, ...], on: str, window: int | str, center: bool, least: int | None, meta: pd.DataFrame
) -> Window:
    if isinstance(window, int):
        if least is not None and least > window:
            raise OpError("min_periods", f"got {least}, more than the {window} rows of the window")
        return Window(by, on, window, None, center, least or window)
    try:
        span = np.timedelta64(parse_duration(window), "us")
    except ExpressionError as error:
        raise OpError("window", str(error)) from error
    if span <= np.timedelta64(0, "us"):
        raise OpError("window", f"got {window!r}; a window is longer than nothing")
    if family(meta[on].dtype) not in ("time", "zoned time"):
        raise OpError("window", f"got {window!r}, but '{on}' is {meta[on].dtype}; a length of time needs times")
    return Window(by, on, None, span, center, least or 1)


def _reached(
    partitions: Partitions, layer: str, keys: Sequence[Key], cut: Callable[..., pd.DataFrame], reach: Window
) -> list[list[Key]]:
    """For each partition, on the way along ``keys``, what windows reach of those passed: a key, for the first none."""
    passed: list[list[Key]] = [[]]
    for i, key in enumerate(keys[:-1]):
        own = partitions.add(f"{layer}-own", (i,), cut, listed([ref(key)]), reach)
        both = [*passed[-1], own] if layer == "tail" else [own, *passed[-1]]
        passed.append([partitions.add(layer, (i,), cut, listed(map(ref, both)), reach) if i else own])
    return passed


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def tail_of(frames: Sequence[pd.DataFrame], reach: Window) -> pd.DataFrame:
    """The rows that windows of later rows can reach: of the last group only."""
    frame = stack(frames)
    if not len(frame):
        return frame
    codes, _ = codes_of(frame[list(reach.by)], len(frame))
    last = frame[codes == codes[-1]]
    if reach.rows is not None:
        return stack([last.iloc[max(0, len(last) - reach.rows_before) :]])
    if pd.isna(last[reach.on].iloc[-1]):  # so are those that follow in the group
        return frame.iloc[:0]
    times, back, _ = _ticks(last[reach.on], reach)
    return stack([last[times > times[-1] - back]])


def head_of(frames: Sequence[pd.DataFrame], reach: Window) -> pd.DataFrame:
    """The rows that windows of earlier rows can reach: of the first group only."""
    frame = stack(frames)
    if not len(frame):
        return frame
    codes, _ = codes_of(frame[list(reach.by)], len(frame))
    first = frame[codes == codes[0]]
    if reach.rows is not None:
        return stack([first.iloc[: reach.rows_after]])
    first = first[first[reach.on].notna().to_numpy()]
    times, _, ahead = _ticks(first[reach.on], reach)
    return stack([first[times <= times[:1] + ahead]])


def roll(
    before: Sequence[pd.DataFrame],
    frame: pd.DataFrame,
    after: Sequence[pd.DataFrame],
    made: Sequence[Moving],
    reach: Window,
    slots: Sequence[Sequence[Any]],
) -> pd.DataFrame:
    """One ordered partition with the aggregates of the windows of its rows."""
    whole = stack([*before, frame, *after])
    n = sum(map(len, before))
    starts, stops = (bounds[n : n + len(frame)] for bounds in _bounds(whole, reach))
    new = frame.reset_index(drop=True)
    for column, values in zip(made, slots, strict=True):
        if column.value is None:
            found: Any = stops - starts
        else:
            found = _aggregate(column, column_of(column.value, whole, values, column.held), starts, stops, reach.least)
        new[column.name] = conform(pd.Series(found, index=new.index), column.dtype)
    return new


def _ticks(times: pd.Series[Any], reach: Window) -> tuple[Array, int, int]:
    """Times as whole numbers, and how far a window reaches back and ahead of one, in the same unit."""
    index = pd.DatetimeIndex(times)
    if index.unit != "ns":
        index = index.as_unit("us")  # what lengths of time are written in
    span = int(np.timedelta64(reach.span, index.unit).astype(np.int64))
    ahead = span // 2 if reach.center else 0
    return index.asi8, span - ahead, ahead


def _bounds(frame: pd.DataFrame, reach: Window) -> tuple[Array, Array]:
    """For each row of a frame in order where its window starts, and where it stops."""
    n = len(frame)
    rows = np.arange(n)
    codes, firsts = codes_of(frame[list(reach.by)], n)
    ends = np.append(firsts[1:], n)
    if reach.rows is not None:
        starts, stops = rows - reach.rows_before, rows + reach.rows_after + 1
        return (np.maximum(firsts[codes], starts), np.minimum(ends[codes], stops)) if n else (rows, rows)
    times, back, ahead = _ticks(frame[reach.on], reach)
    starts, stops = rows + 1, rows + 1  # of a missing time: nothing
    present = frame[reach.on].notna().to_numpy()
    for first, end in itertools.pairwise([*firsts, n]):
        some = slice(first, first + int(present[first:end].sum()))  # missing ones are the last of their group
        starts[some] = first + np.searchsorted(times[some], times[some] - back, side="right")
        if reach.center:
            stops[some] = first + np.searchsorted(times[some], times[some] + ahead, side="right")
    return starts, stops


def _aggregate(column: Moving, values: pd.Series[Any], starts: Array, stops: Array, least: int) -> Any:
    present = values.notna().to_numpy(dtype=bool)
    counts = _counted(present, starts, stops)
    if column.function == "count":
        return counts
    if column.function in ("any", "all"):
        truth = values.to_numpy(dtype=bool, na_value=column.function == "all")
        return _counted(truth, starts, stops) > 0 if column.function == "any" else _counted(~truth, starts, stops) == 0
    if column.function in ("min", "max", "first", "last", "nunique"):
        codes, different = pd.factorize(comparable(values, False), sort=column.function != "nunique")
        if column.function == "nunique":
            return _side_by_side(_distinct, codes.astype(float), present, starts, stops)
        chosen = _chosen(column.function, codes, present, starts, stops)
        chosen = np.where(counts >= least, chosen, -1)
        return pd.Series(pd.api.extensions.take(pd.Series(different).array, chosen, allow_fill=True))
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if column.function in ("sum", "mean"):
        found = _reduced(np.add, np.where(present, numbers, 0.0), starts, stops, 0.0)
        if column.function == "mean":
            with np.errstate(all="ignore"):
                found = found / counts
    else:
        kernel = _variance if column.function in ("std", "var") else _quantile
        found = _side_by_side(
            kernel, numbers, present, starts, stops, 0.5 if column.function == "median" else column.argument
        )
        found = np.sqrt(found) if column.function == "std" else found
    return np.where(counts >= least, found, np.nan)


def _counted(flags: Array, starts: Array, stops: Array) -> Array:
    sums = np.concatenate([[0], np.cumsum(flags)]).astype(np.int64)
    return np.asarray(sums[stops] - sums[starts])


def _reduced(ufunc: np.ufunc, values: Array, starts: Array, stops: Array, nothing: Any) -> Array:
    """Each window reduced by itself."""
    if not len(starts):
        return np.empty(0, values.dtype)
    pairs = np.stack([starts, stops], axis=1).reshape(-1)
    found = ufunc.reduceat(np.append(values, nothing), pairs)[::2]  # every other piece lies between two windows
    return np.where(stops > starts, found, nothing)


def _chosen(function: str, codes: Array, present: Array, starts: Array, stops: Array) -> Array:
    """The code of one value of each window; -1 where it has none."""
    n = len(codes)
    if function in ("min", "max"):
        nothing = n if function == "min" else -1
        found = _reduced(
            np.minimum if function == "min" else np.maximum, np.where(present, codes, nothing), starts, stops, nothing
        )
        return np.where(found == n, -1, found)
    rows = np.arange(n)
    if function == "first":
        following = np.append(np.minimum.accumulate(np.where(present, rows, n)[::-1])[::-1], n)
        at = following[starts]
        return np.where(at < stops, np.append(codes, -1)[at], -1)
    before = np.append(-1, np.maximum.accumulate(np.where(present, rows, -1)))
    at = before[stops]
    return np.where((at >= starts) & (at >= 0), np.append(codes, -1)[at], -1)


# -- aggregates that need the values of a window side by side ---------------------------------------------------------


def _side_by_side(kernel: Any, values: Array, present: Array, starts: Array, stops: Array, *arguments: float) -> Array:
    """``kernel(cells, counts, *arguments)`` of the windows as rows of ``cells``: sorted, missing ones (nan) last."""
    width = int((stops - starts).max(initial=0))
    step = max(1, _CELLS // max(width, 1))
    values = np.append(np.where(present, values, np.nan), np.nan)
    found = [np.empty(0)]
    for first in range(0, len(starts), step):
        start, stop = starts[first : first + step, None], stops[first : first + step, None]
        places = start + np.arange(max(width, 1))
        cells = np.sort(values[np.where(places < stop, places, len(values) - 1)], axis=1)
        counts = (~np.isnan(cells)).sum(axis=1)
        found.append(kernel(cells, counts, *arguments))
    return np.concatenate(found)


def _distinct(cells: Array, counts: Array) -> Array:
    changes = (np.diff(cells, axis=1) > 0).sum(axis=1)
    return np.asarray(changes + (counts > 0), dtype=np.int64)


def _variance(cells: Array, counts: Array, ddof: float) -> Array:
    with np.errstate(all="ignore"):
        mean = np.nansum(cells, axis=1) / counts
        squares = np.nansum((cells - mean[:, None]) ** 2, axis=1)
        return np.asarray(np.where(counts > ddof, squares / (counts - ddof), np.nan))


def _quantile(cells: Array, counts: Array, q: float) -> Array:
    at = q * np.maximum(counts - 1, 0)
    low = np.floor(at).astype(np.int64)
    rows = np.arange(len(cells))
    lower, upper = cells[rows, low], cells[rows, np.minimum(low + 1, np.maximum(counts - 1, 0))]
    share = at - low
    with np.errstate(all="ignore"):
        between = lower + (upper - lower) * share
    return np.asarray(np.where(share == 0, lower, between))
