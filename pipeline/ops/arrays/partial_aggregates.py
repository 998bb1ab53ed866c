"""Aggregates of groups and windows of numpy arrays; partial results that can be merged.

A partial result holds, for the groups in a block, the number of values and what is needed to finish the aggregate: the
sum, the extreme, the first value, or the mean and the sum of squared deviations. The latter are merged by Chan's
formula, because a sum of squares would lose digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import xarray as xr

from pipeline.errors import OpError
from pipeline.ops.arrays.dims import require_numbers
from pipeline.ops.arrays.sums import mean_of, moments, settled, sum_dtype, total
from pipeline.ops.whole_numbers import bounds, cast

__all__ = [
    "AGGREGATES",
    "Partial",
    "aggregate_dtype",
    "finish_aggregate",
    "merge_partials",
    "partial_aggregate",
    "require_aggregate",
    "rolling_aggregate",
]

Block = np.ndarray[Any, Any]

AGGREGATES = ("sum", "mean", "min", "max", "count", "first", "last", "any", "all", "std", "var")


def require_aggregate(x: xr.DataArray, agg: str, ddof: int | None) -> None:
    """Check that ``agg`` is an aggregate and that it takes the dtype of the array.

    Raises
    ------
    OpError : an unknown aggregate, ``std`` or ``var`` without ``ddof``, or a dtype that ``agg`` does not take
    """
    if agg not in AGGREGATES:
        raise OpError("agg", f"unknown aggregate {agg!r}; aggregates: {', '.join(AGGREGATES)}")
    if agg in ("std", "var") and ddof is None:
        raise OpError("agg", f"{agg} needs ddof: 0 (numpy) or 1 (pandas)")
    if agg not in ("count", "first", "last"):
        require_numbers(x, agg, times=agg in ("min", "max"))


def aggregate_dtype(dtype: np.dtype[Any], agg: str, *, empty: bool) -> np.dtype[Any]:
    """Return the dtype of an aggregate; ``empty``: whether a group may have no values."""
    if agg in ("any", "all"):
        return np.dtype(bool)
    if agg == "count":
        return np.dtype(np.int64)
    if agg == "sum":
        return sum_dtype(dtype)
    if agg in ("std", "var"):
        return np.empty(0, dtype).real.dtype if dtype.kind in "fc" else np.dtype(np.float64)
    if agg == "mean":
        return dtype if dtype.kind in "fc" else np.dtype(np.float64)
    return np.dtype(np.float64) if empty and dtype.kind in "biu" else dtype


@dataclass(frozen=True, eq=False)
class Partial:
    """A partial result for G groups.

    Parameters
    ----------
    groups : numbers of the groups, increasing, shape (G,)
    n : number of values in each, shape (G, …)
    values : sum (of ``mean``, too), extreme, first or last value, boolean, or mean of ``std`` and ``var``, shape (G, …)
    squares : sums of squared deviations from the mean, for ``std`` and ``var``, shape (G, …)
    """

    groups: Block
    n: Block
    values: Block
    squares: Block | None = None


def partial_aggregate(block: Block, axis: int, codes: Block, agg: str, skipna: bool) -> Partial:
    """Return the partial result of one block; ``codes``: the group number of each position along ``axis``."""
    moved = np.moveaxis(block, axis, 0)
    groups = np.unique(codes)
    found = [_one(moved[codes == group], agg, skipna) for group in groups]
    if not found:  # an empty block: the same dtypes as other blocks
        found = [_one(np.zeros((1, *moved.shape[1:]), moved.dtype), agg, skipna)]
        n, values, squares = (each[None][:0] for each in found[0])
    else:
        n, values, squares = (np.stack(each) for each in zip(*found, strict=True))
    return Partial(groups, n, values, squares if agg in ("std", "var") else None)


def _one(values: Block, agg: str, skipna: bool) -> tuple[Block, Block, Block]:
    """Return count, value and squared deviations of one group over the first axis."""
    valid = ~np.isnan(values) if values.dtype.kind in "fc" else np.ones(values.shape, bool)
    if values.dtype.kind in "mM":
        valid = ~np.isnat(values)
    n = valid.sum(axis=0)
    if not skipna:
        valid, n = np.ones(values.shape, bool), np.full(values.shape[1:], len(values))
    none = np.zeros(values.shape[1:])
    values = np.asarray(values)
    if agg in ("std", "var"):
        n, mean, squares = (each[0] for each in moments(values, (0,), skipna))
        return n, mean, squares
    if agg in ("sum", "mean"):
        return n, total(values, 0, skipna=skipna).squeeze(0), none  # an array of Python ints, not an int
    if agg in ("any", "all"):
        truth = np.where(valid, values != 0, agg == "all")
        found = truth.any(axis=0) if agg == "any" else truth.all(axis=0)
        return n, np.asarray(found), none
    if agg in ("min", "max"):
        return n, _extreme(values, valid, agg), none
    if agg == "count":
        return n, n, none
    place = np.argmax(valid, axis=0) if agg == "first" else len(values) - 1 - np.argmax(valid[::-1], axis=0)
    return n, np.take_along_axis(values, place[None], 0)[0], none


def _extreme(values: Block, valid: Block, agg: str) -> Block:
    function = np.minimum if agg == "min" else np.maximum
    if valid.all():
        return np.asarray(function.reduce(values, axis=0))
    return np.asarray((np.fmin if agg == "min" else np.fmax).reduce(values, axis=0))


def merge_partials(partials: Sequence[Partial], agg: str) -> Partial:
    """Merge partial results, which are given in the order of the data."""
    groups = np.unique(np.concatenate([p.groups for p in partials]))
    shape = (len(groups), *partials[0].values.shape[1:])
    kind = np.result_type(*(p.values.dtype for p in partials))
    if agg in ("sum", "mean") and kind.kind in "iu":  # a sum of several may pass 64 bits
        largest = sum(max(map(abs, bounds(p.values))) for p in partials)
        kind = kind if largest <= np.iinfo(kind).max else np.dtype(object)
    squares = np.zeros(shape, np.result_type(np.float64, *(p.squares.dtype for p in partials if p.squares is not None)))
    whole = Partial(groups, np.zeros(shape, np.int64), np.zeros(shape, kind), squares)
    for p in partials:
        _add(whole, p, np.searchsorted(groups, p.groups), agg)
    return whole


def _add(whole: Partial, p: Partial, at: Block, agg: str) -> None:
    """Merge ``p`` in place into the groups at ``at`` of ``whole``."""
    n, m = whole.n[at], p.n
    old, new = whole.values[at], p.values
    if agg in ("std", "var"):
        both = np.maximum(n + m, 1)
        with np.errstate(invalid="ignore", over="ignore"):
            delta = new - old
            value = np.where(n == 0, new, np.where(m == 0, old, old + delta * (m / both)))
            if p.squares is not None and whole.squares is not None:
                whole.squares[at] += p.squares + np.where(n * m == 0, 0, np.abs(delta) ** 2 * (n * m / both))
    elif agg in ("sum", "mean", "count"):
        with np.errstate(invalid="ignore", over="ignore"):
            value = old + new
    elif agg == "any":
        value = old | new
    else:
        value = np.where(n == 0, new, _chosen(old, new, m, agg))
    whole.values[at] = value
    whole.n[at] = n + m


def _chosen(old: Block, new: Block, m: Block, agg: str) -> Block:
    if agg == "all":
        return np.asarray(old & new)
    if agg in ("first", "last"):
        return old if agg == "first" else np.where(m > 0, new, old)
    better = np.minimum(old, new) if agg == "min" else np.maximum(old, new)
    return np.where(m > 0, better, old)


def finish_aggregate(
    partials: Sequence[Partial], axis: int, n_groups: int, agg: str, ddof: int | None, dtype: Any
) -> Block:
    """Return the aggregates of all groups along ``axis`` as ``dtype``; NaN for a group without values."""
    whole = merge_partials(partials, agg)
    shape = (n_groups, *whole.values.shape[1:])
    kind = np.dtype(dtype)
    result = np.full(shape, _nothing(agg, kind), kind)
    values, n = whole.values, whole.n
    if agg == "mean":
        values = mean_of(values, n, kind)
    elif agg in ("std", "var") and whole.squares is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(n > (ddof or 0), whole.squares / np.maximum(n - (ddof or 0), 0), np.nan)
        values = (np.sqrt(values) if agg == "std" else values).astype(kind)
    elif agg == "sum":
        values = settled(values, kind)
    elif values.dtype.kind in "iu":
        values = cast(values, kind)
    if agg in ("sum", "count", "any", "all"):
        result[whole.groups] = values
    else:
        result[whole.groups] = np.where(n > 0, values, _nothing(agg, kind)) if (n == 0).any() else values
    return np.moveaxis(result, 0, axis)


def _nothing(agg: str, dtype: np.dtype[Any]) -> Any:
    """Return the aggregate of no values."""
    if agg in ("sum", "count", "any", "all"):
        return agg == "all"
    if dtype.kind in "mM":
        return np.array("NaT", dtype)
    return np.nan if dtype.kind in "fc" else "" if dtype.kind in "US" else 0


def rolling_aggregate(block: Block, n: int, agg: str, least: int, ddof: int | None) -> Block:
    """Return the aggregates of each window of ``n`` positions along the first axis, which becomes ``n - 1`` shorter.

    Floats; NaN for a window with fewer than ``least`` values. Makes ``n`` passes over the block, without a copy ``n``
    times as large. (Rejected: running sums, which carry rounding errors into all later windows.)
    """
    with np.errstate(invalid="ignore", over="ignore"):
        result, count = _windows(block, n, agg, ddof)
    return np.where(count >= least, result, np.nan).astype(block.dtype, copy=False)


def _windows(block: Block, n: int, agg: str, ddof: int | None) -> tuple[Block, Block]:
    """Return the aggregate and the number of values of each window."""
    m = len(block) - n + 1
    valid = ~np.isnan(block)
    shifts = [slice(k, k + m) for k in range(n)]
    count = reduce(np.add, (valid[s].astype(np.int64) for s in shifts))
    if agg == "count":
        result = count.astype(block.dtype)
    elif agg in ("min", "max"):
        function = np.fmin if agg == "min" else np.fmax
        result = reduce(function, (block[s] for s in shifts))
    elif agg in ("any", "all"):
        truth = np.where(valid, block != 0, agg == "all")
        result = reduce(np.logical_or if agg == "any" else np.logical_and, (truth[s] for s in shifts))
    elif agg in ("first", "last"):
        result = reduce(_first_valid, (block[s] for s in (shifts if agg == "first" else shifts[::-1])))
    else:
        result = _moments(np.where(valid, block, 0), valid, shifts, count, agg, ddof or 0)
    return np.asarray(result), count


def _first_valid(one: Block, other: Block) -> Block:
    return np.where(np.isnan(one), other, one)


def _moments(filled: Block, valid: Block, shifts: list[slice], count: Block, agg: str, ddof: int) -> Block:
    wide = filled.astype(np.result_type(filled.dtype, np.float64), copy=False)
    total = reduce(np.add, (wide[s] for s in shifts))
    if agg == "sum":
        return np.asarray(total)
    mean = total / np.maximum(count, 1)
    if agg == "mean":
        return np.asarray(mean)
    squares = reduce(np.add, (np.where(valid[s], np.abs(wide[s] - mean) ** 2, 0) for s in shifts))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(count > ddof, squares / np.maximum(count - ddof, 0), np.nan)
    return np.sqrt(variance) if agg == "std" else variance
