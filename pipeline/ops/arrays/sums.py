"""Sums of blocks: whole numbers exactly, floats in float64 and pairwise, so that chunks make no difference.

A partial sum of whole numbers is an array of int64 (uint64), or of Python ints where it may pass 64 bits: the total of
all blocks can be smaller again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from pipeline.ops.whole_numbers import bounds, cast

__all__ = [
    "added",
    "cumulated",
    "is_exact",
    "joined_pairs",
    "mean_of",
    "moments",
    "settled",
    "sum_dtype",
    "sum_of_blocks",
    "total",
    "total_and_count",
]

Block = np.ndarray[Any, Any]
Axes = tuple[int, ...]

_RUN = 256
_PIECE = 64  # numpy adds up to 128 numbers one after the other
_LOW = np.uint64(0xFFFF_FFFF)


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a sum, as in numpy: small integers become int64 or uint64."""
    kind: np.dtype[Any] = np.sum(np.empty(0, dtype)).dtype
    return kind


def is_exact(values: Block) -> bool:
    """Return whether sums of these values are whole numbers."""
    return values.dtype.kind in "biuO"


def sum_of_blocks(data: da.Array, axes: Axes, *, skipna: bool = False, dtype: Any = None) -> da.Array:
    """Return the sum along ``axes``, which keep size 1, in a tree over the blocks."""
    kind = sum_dtype(data.dtype) if dtype is None else dtype
    found: da.Array = da.reduction(
        data,
        partial(total, skipna=skipna),
        partial(_last_total, kind=kind),
        combine=total,
        axis=axes,
        keepdims=True,
        dtype=kind,
        meta=np.empty((0,) * data.ndim, kind),
        concatenate=True,
    )
    return found


def _last_total(values: Block, axis: Any, keepdims: bool, kind: np.dtype[Any]) -> Block:
    return settled(total(values, axis), kind)


def settled(values: Block, dtype: np.dtype[Any]) -> Block:
    """Return sums in the dtype of the result.

    Raises
    ------
    WholeNumberError : a sum of whole numbers that the dtype can't hold
    """
    with np.errstate(over="ignore"):  # of float32
        return np.asarray(cast(values, dtype, "the sum "))


def total(values: Block, axis: Any, keepdims: bool = True, skipna: bool = False) -> Block:
    """Return the sum along axes, which keep size 1: of floats in float64, NaN left out with ``skipna``."""
    return total_and_count(values, axis, skipna)[0]


def total_and_count(values: Block, axis: Any, skipna: bool) -> tuple[Block, Block]:
    """Return the sum and the number of values along axes, which keep size 1."""
    axes: Axes = axis if isinstance(axis, tuple) else (axis,)
    shape = tuple(1 if i in axes else n for i, n in enumerate(values.shape))
    n = np.full(shape, np.prod([values.shape[i] for i in axes], dtype=np.int64))
    if is_exact(values):
        return _exact_total(values, axes), n
    with np.errstate(invalid="ignore", over="ignore"):
        found = _float_total(values, axes)
        if skipna and np.isnan(found).any():
            missing = np.isnan(values)
            found = _float_total(np.where(missing, np.zeros((), values.dtype), values), axes)
            n = n - missing.sum(axis=axes, keepdims=True)
    return found, n


def _float_total(values: Block, axes: Axes) -> Block:
    kind = np.result_type(values.dtype, np.float64)
    for axis in axes:
        if axis < values.ndim - 1 or not values.flags.c_contiguous:
            values = _shortened(values, axis)
    return np.asarray(np.sum(values, axis=axes, dtype=kind, keepdims=True))


def _shortened(values: Block, axis: int) -> Block:
    """Return sums of pieces along an axis that numpy would add up one by one, with an error that grows with it."""
    while values.shape[axis] > 4 * _PIECE:
        n = values.shape[axis] // _PIECE
        before, after = values.shape[:axis], values.shape[axis + 1 :]
        whole = (slice(None),) * axis
        pieces = values[(*whole, slice(0, n * _PIECE))].reshape(*before, n, _PIECE, *after)
        sums = pieces.sum(axis=axis + 1, dtype=np.result_type(values.dtype, np.float64))
        values = np.concatenate([sums, values[(*whole, slice(n * _PIECE, None))]], axis=axis)
    return values


def _exact_total(values: Block, axes: Axes) -> Block:
    if values.dtype.kind == "O":
        return np.asarray(np.sum(values, axis=axes, keepdims=True), dtype=object)
    kind = sum_dtype(values.dtype)
    n = int(np.prod([values.shape[i] for i in axes], dtype=np.int64))
    if n * _magnitude(values, n, kind) <= np.iinfo(kind).max:
        return np.asarray(np.sum(values, axis=axes, dtype=kind, keepdims=True))
    high, low = _halves(values)
    return _joined(high.sum(axis=axes, keepdims=True), low.sum(axis=axes, keepdims=True), kind)


def _magnitude(values: Block, n: int, kind: np.dtype[Any]) -> int:
    """Return a bound of the magnitudes: that of the dtype if it will do, else that of the values."""
    if values.dtype.kind == "b":
        return 1
    limits = np.iinfo(values.dtype)
    widest = max(-int(limits.min), int(limits.max))
    return widest if n * widest <= np.iinfo(kind).max else max(map(abs, bounds(values)))


def _halves(values: Block) -> tuple[Block, Block]:
    """Return the upper (signed) and the lower 32 bits of numbers, as int64."""
    wide = values.astype(sum_dtype(values.dtype))
    return (wide >> 32).astype(np.int64), (wide.astype(np.uint64) & _LOW).astype(np.int64)


def _joined(high: Block, low: Block, kind: np.dtype[Any]) -> Block:
    """Return ``high * 2**32 + low`` in ``kind``, or as Python ints if one does not fit."""
    high = high + (low >> 32)
    limits = np.iinfo(kind)
    if ((high >= limits.min >> 32) & (high <= limits.max >> 32)).all():
        return np.asarray((high.astype(np.uint64) << np.uint64(32)) | (low.astype(np.uint64) & _LOW), np.uint64).astype(
            kind
        )
    return np.asarray(high.astype(object) * 2**32 + (low.astype(np.uint64) & _LOW).astype(object), dtype=object)


def added(a: Block, b: Block) -> Block:
    """Return the sum of two partial sums."""
    return total(np.stack([a, b]), 0).squeeze(0)


def joined_pairs(pairs: Sequence[tuple[Block, Block]]) -> tuple[Block, Block]:
    """Return the sum and the number of values of several blocks, given those of each."""
    sums, counts = zip(*pairs, strict=True)
    return total(np.stack(sums), 0).squeeze(0), np.sum(np.stack(counts), axis=0)


def mean_of(sums: Block, n: Block, dtype: np.dtype[Any]) -> Block:
    """Return ``sums / n`` in a float dtype; NaN where there is no value."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = np.where(n > 0, sums / np.where(n > 0, n, 1), np.nan)
        return np.asarray(found.astype(dtype))


def moments(values: Block, axes: Axes, skipna: bool) -> tuple[Block, Block, Block]:
    """Return count, mean and sum of squared deviations from the mean along axes, which keep size 1.

    In float64; of whole numbers beyond 2**53, which float64 rounds, in numpy's longdouble.
    """
    large = values.dtype.kind in "iu" and values.dtype.itemsize == 8 and max(map(abs, bounds(values))) > 2**53
    wide = values.astype(np.longdouble if large else np.result_type(values.dtype, np.float64))
    with np.errstate(invalid="ignore", over="ignore"):
        sums, n = total_and_count(wide, axes, skipna)
        mean = sums / np.maximum(n, 1)
        deviations = wide - mean
        if skipna and wide.dtype.kind in "fc":
            deviations = np.where(np.isnan(wide), 0, deviations)
        rest = total(deviations, axes)  # what the mean was rounded by
        squares = total(np.abs(deviations) ** 2, axes) - np.abs(rest) ** 2 / np.maximum(n, 1)
        return n, mean + rest / np.maximum(n, 1), np.where(squares < 0, 0, squares)


# ---------------------------------------------------------------------------------------------------------------------
# Running sums
# ---------------------------------------------------------------------------------------------------------------------


def cumulated(values: Block, before: Block | None, axis: int, dtype: np.dtype[Any]) -> Block:
    """Return the running sums along an axis, in ``dtype``, after the sum ``before`` of earlier blocks.

    Raises
    ------
    WholeNumberError : a sum of whole numbers that the dtype can't hold
    """
    if not is_exact(values):
        with np.errstate(invalid="ignore", over="ignore"):
            wide = values.astype(np.result_type(values.dtype, np.float64), copy=False)
            sums = _float_running(np.moveaxis(wide, axis, 0))
            moved = np.moveaxis(sums, 0, axis)
            return settled(moved if before is None else moved + before, dtype)
    n = values.shape[axis]
    least = 0 if before is None else max(map(abs, bounds(before)))
    if n * _magnitude(values, n, dtype) + least <= np.iinfo(dtype).max:
        sums = np.cumsum(values, axis=axis, dtype=dtype)
        return np.asarray(sums if before is None else sums + before.astype(dtype))
    high, low = _halves(values)
    exact = _joined(np.cumsum(high, axis=axis), np.cumsum(low, axis=axis), dtype)
    return settled(exact if before is None else exact.astype(object) + before, dtype)


def _float_running(values: Block) -> Block:
    """Return running sums along the first axis, piece by piece: the error of one by one would grow with the length."""
    n = len(values) // _RUN
    if n < 2:
        return np.asarray(np.cumsum(values, axis=0))
    sums = np.empty(values.shape, values.dtype)
    pieces, own = (each[: n * _RUN].reshape(n, _RUN, *values.shape[1:]) for each in (sums, values))
    np.cumsum(own, axis=1, out=pieces)
    ends = _float_running(pieces[:, -1])
    pieces[1:] += ends[:-1, None]
    np.cumsum(values[n * _RUN :], axis=0, out=sums[n * _RUN :])
    sums[n * _RUN :] += ends[-1]
    return sums
