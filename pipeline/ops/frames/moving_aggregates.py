"""Aggregates of many windows over the same values: window ``i`` holds those from ``starts[i]`` to ``stops[i]``.

Every window is computed from its own values alone, so that it is the same wherever partitions begin.
"""

from __future__ import annotations

import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError
from pipeline.graph.column_types import type_name
from pipeline.graph.late_pandas import numbers_of
from pipeline.worker.sql_engine import carrier

__all__ = ["Array", "aggregates"]

Array = np.ndarray[Any, Any]

_CELLS = 2**21
"""How many cells of windows are looked at at once, where an aggregate needs the values side by side."""


def aggregates(
    function: str, values: pa.Array, starts: Array, stops: Array, *, least: int, kind: pa.DataType, argument: Any = None
) -> pa.Array:
    """One aggregate of each window.

    Parameters
    ----------
    function : ``sum mean std var median quantile min max first last count nunique any all``
    least : values that a window needs, else it is missing (but for counts, any and all)
    kind : of the result; of sums, the type that they are computed in
    argument : q or ddof

    Raises
    ------
    DataError : a sum that its type can't hold
    """
    present = numbers_of(values.is_valid())
    counts = _counted(present, starts, stops)
    if function == "count":
        return pa.array(counts)
    if function in ("any", "all"):
        truth = numbers_of(pc.fill_null(values, pa.scalar(function == "all", pa.bool_())))
        found = _counted(truth, starts, stops) > 0 if function == "any" else _counted(~truth, starts, stops) == 0
        return pa.array(found)
    missing = counts < least
    if function in ("first", "last"):
        chosen = _chosen(function, np.arange(len(values)), present, starts, stops)
        return values.take(pa.array(chosen, mask=missing | (chosen < 0)))
    if function in ("min", "max", "nunique"):
        codes, different = _codes(values)
        if function == "nunique":
            return pa.array(_side_by_side(_distinct, codes.astype(float), present, starts, stops))
        chosen = _chosen(function, codes, present, starts, stops)
        return different.take(pa.array(chosen, mask=missing | (chosen < 0)))
    if function == "sum" and not pa.types.is_floating(kind):
        return _exact_sums(values, starts, stops, missing, kind)
    numbers = _doubles(values)
    if function in ("sum", "mean"):
        found = _reduced(np.add, np.where(present, numbers, 0.0), starts, stops, 0.0)
        if function == "mean":
            with np.errstate(all="ignore"):
                found = found / counts
    else:
        kernel = _variance if function in ("std", "var") else _quantile
        given = 0.5 if function == "median" else argument
        found = _side_by_side(kernel, numbers, present, starts, stops, given)
        found = np.sqrt(found) if function == "std" else found
    return pa.array(found, mask=missing | np.isnan(found))


def _doubles(values: pa.Array) -> Array:
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    return numbers_of(pc.fill_null(values.cast(pa.float64(), safe=False), pa.scalar(np.nan, pa.float64())))


def _codes(values: pa.Array) -> tuple[Array, pa.Array]:
    """Each value as its place among the different ones (-1: missing), and these, in order."""
    plain = values.cast(carrier(values.type))
    if pa.types.is_floating(plain.type):
        plain = pc.add(plain, pa.scalar(0, plain.type))  # -0.0 equals 0.0
    encoded = plain.dictionary_encode()
    different = encoded.dictionary
    order = numbers_of(pc.sort_indices(different))
    places = np.empty(len(order) + 1, dtype=np.int64)
    places[order], places[-1] = np.arange(len(order)), -1
    codes = numbers_of(pc.fill_null(encoded.indices, pa.scalar(-1, encoded.indices.type)))
    return places[codes], different.take(pa.array(order))


def _exact_sums(values: pa.Array, starts: Array, stops: Array, missing: Array, kind: pa.DataType) -> pa.Array:
    """Sums of whole numbers and decimals; slower where 64 bits might not do."""
    if not pa.types.is_decimal(kind):
        numbers = numbers_of(pc.fill_null(values.cast(kind), pa.scalar(0, kind)))
        width = int((stops - starts).max(initial=0))
        most = max(abs(int(numbers.max(initial=0))), abs(int(numbers.min(initial=0))))
        if most * width < 2**63:
            return pa.array(_reduced(np.add, numbers, starts, stops, numbers.dtype.type(0)), kind, mask=missing)
    objects = np.empty(len(values), dtype=object)
    objects[:] = pc.fill_null(values.cast(kind), 0).to_pylist()
    with decimal.localcontext(prec=76):
        sums = _reduced(np.add, objects, starts, stops, 0)
    try:
        return pa.array([None if gone else v for v, gone in zip(sums.tolist(), missing, strict=True)], kind)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise DataError(f"sum of a window: it does not fit {type_name(kind)}; sum number(x), as float64") from error


def _counted(flags: Array, starts: Array, stops: Array) -> Array:
    sums = np.concatenate([[0], np.cumsum(flags)]).astype(np.int64)
    return np.asarray(sums[stops] - sums[starts])


def _reduced(ufunc: np.ufunc, values: Array, starts: Array, stops: Array, nothing: Any) -> Array:
    """Each window reduced by itself."""
    if not len(starts):
        return np.empty(0, values.dtype)
    pairs = np.stack([starts, stops], axis=1).reshape(-1)
    padded = np.append(values, np.asarray([nothing], dtype=values.dtype))
    with np.errstate(all="ignore"):  # sums of floats may be infinite, or have no value
        found = ufunc.reduceat(padded, pairs)[::2]  # every other piece lies between two windows
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
        is_known = (counts > ddof) & ~np.isinf(cells).any(axis=1)
        return np.asarray(np.where(is_known, squares / (counts - ddof), np.nan))


def _quantile(cells: Array, counts: Array, q: float) -> Array:
    at = q * np.maximum(counts - 1, 0)
    low = np.floor(at).astype(np.int64)
    rows = np.arange(len(cells))
    lower, upper = cells[rows, low], cells[rows, np.minimum(low + 1, np.maximum(counts - 1, 0))]
    share = at - low
    with np.errstate(all="ignore"):
        width = upper - lower
        between = np.where(np.isfinite(width), lower + width * share, lower * (1 - share) + upper * share)
    return np.asarray(np.where((share == 0) | (lower == upper), lower, between))
