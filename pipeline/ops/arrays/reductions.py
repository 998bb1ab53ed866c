"""Reductions over named dims: the ops ``sum mean std var min max any all average``.

Functions have the names of the ops, so they hide the builtins of these names. Missing values of floats are ignored
unless ``skipna`` is false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from pipeline.errors import DataError, OpError
from pipeline.ops.arrays.block_tasks import per_block
from pipeline.ops.arrays.dims import Axis, axes_of, rebuild, require_numbers, require_same_labels, take_first
from pipeline.ops.arrays.sums import joined_pairs, mean_of, moments, sum_of_blocks, total, total_and_count
from pipeline.ops.arrays.unknown_chunks import require_equal_chunks
from pipeline.ops.elementwise.alignment import align_chunks

__all__ = ["all", "any", "average", "max", "mean", "min", "std", "sum", "var"]

Block = np.ndarray[Any, Any]


def sum(x: xr.DataArray, *, axis: Axis = None, skipna: bool = True, keepdims: bool = False) -> xr.DataArray:  # noqa: A001
    """Return the sum over dims; small integers become int64. The sum of no values is 0.

    Raises
    ------
    DataError : in the run, if a sum of whole numbers passes 64 bits
    """
    axes = axes_of(x, axis)
    require_numbers(x, "sum")
    return _of_axes(x, sum_of_blocks(x.data, axes, skipna=skipna), axes, keepdims)


def mean(x: xr.DataArray, *, axis: Axis = None, skipna: bool = True, keepdims: bool = False) -> xr.DataArray:
    """Return the mean over dims; integers and booleans become float64. The mean of no values is NaN."""
    axes = axes_of(x, axis)
    require_numbers(x, "mean", times=True)
    if x.dtype.kind in "mM":
        means = per_block(
            _means(_microseconds(x.data), axes, skipna), "times", _of_microseconds, x.dtype, dtype=x.dtype
        )
        return _of_axes(x, means, axes, keepdims)
    return _of_axes(x, _means(x.data, axes, skipna), axes, keepdims)


def _means(data: da.Array, axes: tuple[int, ...], skipna: bool) -> da.Array:
    kind = data.dtype if data.dtype.kind in "fc" else np.dtype(np.float64)
    found: da.Array = da.reduction(
        data,
        partial(_sum_and_count, skipna=skipna),
        partial(_mean, kind=kind),
        combine=_joined,
        axis=axes,
        keepdims=True,
        dtype=kind,
        meta=np.empty((0,) * data.ndim, kind),
        concatenate=False,
    )
    return found


def _sum_and_count(block: Block, axis: Any, keepdims: bool, skipna: bool) -> tuple[Block, Block]:
    return total_and_count(block, axis, skipna)


def _joined(pairs: Any, axis: Any, keepdims: bool) -> tuple[Block, Block]:
    return joined_pairs(list(_leaves(pairs)))


def _leaves(pairs: Any) -> Iterator[tuple[Block, Block]]:
    """Yield the pairs in lists of lists."""
    if isinstance(pairs, tuple):
        yield pairs
    else:
        for each in pairs:
            yield from _leaves(each)


def _mean(pairs: Any, axis: Any, keepdims: bool, kind: np.dtype[Any]) -> Block:
    return mean_of(*_joined(pairs, axis, keepdims), kind)


def std(x: xr.DataArray, *, ddof: int, axis: Axis = None, skipna: bool = True, keepdims: bool = False) -> xr.DataArray:
    """Return the standard deviation over dims, with the divisor ``n - ddof``."""
    return _spread(x, axis, skipna, keepdims, ddof, root=True)


def var(x: xr.DataArray, *, ddof: int, axis: Axis = None, skipna: bool = True, keepdims: bool = False) -> xr.DataArray:
    """Return the variance over dims, with the divisor ``n - ddof``."""
    return _spread(x, axis, skipna, keepdims, ddof, root=False)


def min(x: xr.DataArray, *, axis: Axis = None, skipna: bool = True, keepdims: bool = False) -> xr.DataArray:  # noqa: A001
    """Return the smallest value over dims, in the dtype of the array; NaN where all are missing."""
    return _extreme("min", x, axis, skipna, keepdims)


def max(x: xr.DataArray, *, axis: Axis = None, skipna: bool = True, keepdims: bool = False) -> xr.DataArray:  # noqa: A001
    """Return the largest value over dims, in the dtype of the array; NaN where all are missing."""
    return _extreme("max", x, axis, skipna, keepdims)


def any(x: xr.DataArray, *, axis: Axis = None, skipna: bool = True, keepdims: bool = False) -> xr.DataArray:  # noqa: A001
    """Return whether any value over dims is true; false of no values."""
    return _reduced(da.any, _truths(x, missing=False, skipna=skipna), axis, keepdims)


def all(x: xr.DataArray, *, axis: Axis = None, skipna: bool = True, keepdims: bool = False) -> xr.DataArray:  # noqa: A001
    """Return whether all values over dims are true; true of no values."""
    return _reduced(da.all, _truths(x, missing=True, skipna=skipna), axis, keepdims)


def _reduced(function: Callable[..., Any], x: xr.DataArray, axis: Axis, keepdims: bool) -> xr.DataArray:
    axes = axes_of(x, axis)
    return _of_axes(x, function(x.data, axis=axes, keepdims=True), axes, keepdims)


_NEAR = np.datetime64("2000-01-01", "us")  # float64 counts microseconds exactly for 285 years before and after it


def _microseconds(data: da.Array) -> da.Array:
    """Return times or durations as floats, nan where one is missing.

    (Rejected: xarray's mean, which counts from the smallest time, and reads all data for it while the graph is built.)
    """
    lengths = data - _NEAR if data.dtype.kind == "M" else data
    microseconds: da.Array = lengths / np.timedelta64(1, "us")
    return microseconds


def _of_microseconds(block: Block, like: np.dtype[Any]) -> Block:
    whole = np.where(np.isnan(block), 0, np.round(block)).astype("timedelta64[us]")
    lengths = np.where(np.isnan(block), np.timedelta64("NaT", "us"), whole)
    return (_NEAR + lengths if like.kind == "M" else lengths).astype(like)


def _of_axes(x: xr.DataArray, data: da.Array, axes: tuple[int, ...], keepdims: bool) -> xr.DataArray:
    """Return ``data``, which has size 1 along ``axes``, as a reduction of ``x``."""
    gone = [x.dims[i] for i in axes]
    if keepdims:
        return rebuild(x, data, x.dims, gone=gone)
    return rebuild(x, take_first(data, axes), [dim for dim in x.dims if dim not in gone])


def _extreme(op: str, x: xr.DataArray, axis: Axis, skipna: bool, keepdims: bool) -> xr.DataArray:
    """Return the smallest or largest values.

    (Rejected: dask's reductions, which fail for an empty chunk; chunks of filtered rows may be empty.)
    """
    axes = axes_of(x, axis)
    require_numbers(x, op, times=True)
    for i in axes:
        if x.shape[i] == 0:
            raise DataError(_NOTHING.format(f"along {str(x.dims[i])!r}, which has length 0"))
    data = da.reduction(
        x.data,
        partial(_extremes, op=op, skipna=skipna),
        partial(_extremes, op=op, skipna=skipna, last=True),
        combine=partial(_extremes, op=op, skipna=skipna),
        axis=axes,
        keepdims=True,
        dtype=x.dtype,
        meta=np.empty((0,) * x.ndim, x.dtype),
        concatenate=True,
    )
    return _of_axes(x, data, axes, keepdims)


_NOTHING = "there is no smallest or largest value {}"


def _extremes(block: Block, axis: Any, keepdims: bool, op: str, skipna: bool, last: bool = False) -> Block:
    """Return the extremes along ``axis`` with size 1; size 0 for an empty block, so that it does not count."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    if 0 in [block.shape[i] for i in axes]:
        if last:
            raise DataError(_NOTHING.format("of an empty array: no row is left"))
        return np.empty([n and 1 if i in axes else n for i, n in enumerate(block.shape)], block.dtype)
    reduction = {"min": (np.minimum, np.fmin), "max": (np.maximum, np.fmax)}[op][skipna]
    return np.asarray(reduction.reduce(block, axis=axes, keepdims=True))


def _truths(x: xr.DataArray, *, missing: bool, skipna: bool) -> xr.DataArray:
    require_numbers(x, "any" if not missing else "all")
    if x.dtype == bool:
        return x
    return rebuild(x, x.data.map_blocks(_is_true, missing if skipna else True, dtype=bool), x.dims)


def _is_true(block: Block, missing: bool) -> Block:
    truth = block != 0
    return np.asarray(np.where(np.isnan(block), missing, truth) if block.dtype.kind in "fc" else truth)


def _spread(x: xr.DataArray, axis: Axis, skipna: bool, keepdims: bool, ddof: int, *, root: bool) -> xr.DataArray:
    """Return the variance, or its root, from counts, means and squared deviations of blocks, merged by Chan's formula.

    (Rejected: ``dask.array.nanvar``, which warns in the run where all values are missing.)
    """
    axes = axes_of(x, axis)
    require_numbers(x, "std" if root else "var")
    kind = x.real.dtype if x.dtype.kind in "fc" else np.dtype(np.float64)
    wide = np.result_type(x.dtype, np.float64)
    numbers = tuple(range(x.ndim))
    meta = np.empty((0,) * (x.ndim + 1), wide)
    moments = da.blockwise(
        _moments,
        (*numbers, x.ndim),
        x.data,
        numbers,
        axes=axes,
        skipna=skipna,
        new_axes={x.ndim: 3},
        adjust_chunks=dict.fromkeys(axes, 1),
        dtype=wide,
        meta=meta,
    )
    merged = da.reduction(moments, _merged_moments, _merged_moments, axis=axes, keepdims=True, dtype=wide, meta=meta)
    data = da.blockwise(
        _variance, numbers, merged, (*numbers, x.ndim), dtype=kind, concatenate=True, ddof=ddof, root=root, kind=kind,
        meta=np.empty((0,) * x.ndim, kind),
    )  # fmt: skip
    return _of_axes(x, data, axes, keepdims)


def _moments(block: Block, axes: tuple[int, ...], skipna: bool) -> Block:
    """Return count, mean and sum of squared deviations of one block along ``axes``, stacked in a new last axis."""
    return np.stack(moments(block, axes, skipna), axis=-1)


def _merged_moments(moments: Block, axis: tuple[int, ...], keepdims: bool) -> Block:
    """Merge moments along ``axis`` by Chan's formula."""
    n, mean, squares = moments[..., 0], moments[..., 1], moments[..., 2]
    total = n.sum(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):
        middle = (n * mean).sum(axis=axis, keepdims=True) / np.maximum(total.real, 1)
        spread = (squares + n * np.abs(mean - middle) ** 2).sum(axis=axis, keepdims=True)
    return np.stack([total, middle, spread], axis=-1)


def _variance(moments: Block, ddof: int, root: bool, kind: Any) -> Block:
    n, squares = moments[..., 0].real, moments[..., 2].real
    variance = np.where(n > ddof, squares / np.maximum(n - ddof, 1), np.nan)
    return np.asarray(np.sqrt(variance) if root else variance, dtype=kind)


def average(x: xr.DataArray, weights: xr.DataArray, *, axis: Axis = None, skipna: bool = True) -> xr.DataArray:
    """Return the weighted mean ``sum(x * w) / sum(w)`` over dims, summed in float64, without missing values.

    Raises
    ------
    OpError : if ``weights`` has a dim that ``x`` does not have, or other labels
    """
    axes = axes_of(x, axis)
    require_numbers(x, "average")
    require_numbers(weights, "average", key="weights")
    for dim in weights.dims:
        if dim not in x.dims:
            known = ", ".join(map(str, x.dims))
            raise OpError("weights", f"has the dim {str(dim)!r}, but input does not; dims of input: {known}")
    require_same_labels(x, weights, "weights")
    dtype = np.result_type(x.dtype, weights.dtype, np.float32)
    wide = np.result_type(dtype, np.float64)
    numbers = tuple(range(x.ndim))
    ordered = weights.transpose(*(dim for dim in x.dims if dim in weights.dims))
    places = tuple(x.dims.index(dim) for dim in ordered.dims)
    # aligned here, because dask assumes one chunk for a dim of size 1, and empty chunks beside it are possible
    data, w = align_chunks([x.data, ordered.data], [numbers, places])
    both = da.blockwise(
        _weigh,
        (*numbers, x.ndim),
        data,
        numbers,
        w,
        places,
        axes=axes,
        places=places,
        skipna=skipna,
        wide=wide,
        new_axes={x.ndim: 2},
        adjust_chunks=dict.fromkeys(axes, 1),
        align_arrays=False,
        dtype=wide,
        meta=np.empty((0,) * (x.ndim + 1), wide),
    )
    sums = take_first(sum_of_blocks(both, axes), axes)
    kept = tuple(range(sums.ndim))
    data = da.blockwise(
        _ratio,
        kept[:-1],
        sums,
        kept,
        dtype=dtype,
        concatenate=True,
        kind=dtype,
        meta=np.empty((0,) * len(kept[:-1]), dtype),
    )
    return rebuild(x, data, [dim for i, dim in enumerate(x.dims) if i not in axes])


def _weigh(x: Block, w: Block, axes: tuple[int, ...], places: tuple[int, ...], skipna: bool, wide: Any) -> Block:
    """Return for one block the sums of ``x * w`` and of ``w`` along ``axes``, stacked in a new last axis."""
    require_equal_chunks([x, w], [tuple(range(x.ndim)), places])
    shape = [w.shape[places.index(i)] if i in places else 1 for i in range(x.ndim)]
    w = np.broadcast_to(w.reshape(shape), x.shape).astype(wide, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        products = x * w
    if skipna and x.dtype.kind in "fc":
        missing = np.isnan(x)
        products, w = np.where(missing, 0, products), np.where(missing, 0, w)
    both = [total(part, axes) for part in (products, w)]
    return np.stack(both, axis=-1)


def _ratio(sums: Block, kind: Any) -> Block:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1], dtype=kind)
