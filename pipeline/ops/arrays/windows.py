"""The ops ``rolling`` and ``coarsen``, which aggregate windows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError
from pipeline.graph.calendars import calendar_of
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, task
from pipeline.ops.arrays.block_tasks import Part, array_of_tasks, join_parts, parts_of_blocks, per_block, rechunked
from pipeline.ops.arrays.deferred_labels import DeferredLabels, deferred_labels, label_dtype, plain_coords, with_labels
from pipeline.ops.arrays.dims import axis_of, has_unknown_length, one_chunk, pick_positions, rebuild, require_numbers
from pipeline.ops.arrays.partial_aggregates import (
    aggregate_dtype,
    finish_aggregate,
    partial_aggregate,
    require_aggregate,
    rolling_aggregate,
)
from pipeline.ops.arrays.sums import settled
from pipeline.ops.arrays.unknown_chunks import any_unknown, merge_chunks
from pipeline.ops.whole_numbers import bounds, cast

__all__ = ["coarsen", "rolling"]

Block = np.ndarray[Any, Any]


def rolling(
    x: xr.DataArray,
    *,
    window: Mapping[str, int],
    agg: str,
    center: bool = False,
    min_periods: int | None = None,
    ddof: int | None = None,
) -> xr.DataArray:
    """Return aggregates of a moving window along one dim; same dims and chunks.

    The window of a position ends there; with ``center`` the position is in its middle (an even window has one position
    more before it). NaN for a window with fewer than ``min_periods`` values. A dim of unknown length becomes one chunk.

    Raises
    ------
    OpError : no such dim, a window longer than the dim, or more ``min_periods`` than positions
    DataError : in the run, if the window is longer than a dim of unknown length
    """
    require_numbers(x, "rolling")
    require_aggregate(x, agg, ddof)
    if len(window) > 1:
        raise OpError("window", "got several dims; write a step for each dim, one after the other")
    ((dim, n),) = window.items()
    axis, length = axis_of(x, dim, "window"), x.sizes[dim]
    least = n if min_periods is None else min_periods
    if n > length:
        raise OpError("window", f"{_too_long(n, dim, length)}")
    if least > n:
        raise OpError("min_periods", f"got {least}, more than the {n} positions of the window")
    before = n // 2 if center else n - 1
    after = n - 1 - before
    kind = x.dtype if x.dtype.kind in "fc" else np.dtype(np.float64)
    if has_unknown_length(x, dim):
        how = (axis, dim, (before, after), n, agg, least, ddof, kind)
        return rebuild(x, per_block(merge_chunks(x.data, axis), "rolling", _rolled_whole, *how, dtype=kind), x.dims)
    name = f"rolling-{tokenize(x.data.name, axis, n, agg, before, least, ddof)}"
    ends = np.cumsum([0, *x.data.chunks[axis]])
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(m) for m in x.data.numblocks)):
        start, stop = int(ends[index[axis]]), int(ends[index[axis] + 1])
        low, high = start - before, stop + after
        several = parts_of_blocks(x.data, index, axis, (max(low, 0), min(high, length)))
        pads = (max(-low, 0), max(high - length, 0))
        tasks[name, *index] = task((name, *index), _rolled, *several, axis, pads, n, agg, least, ddof, kind)
    return rebuild(x, array_of_tasks(name, tasks, x.data.chunks, kind, x.data), x.dims)


def _too_long(n: int, dim: str, length: int) -> str:
    return f"got {n}, but {dim!r} has {length} positions"


def _rolled_whole(block: Block, axis: int, dim: str, pads: tuple[int, int], n: int, *how: Any) -> Block:
    if n > block.shape[axis]:
        raise DataError(f"window: {_too_long(n, dim, block.shape[axis])}")
    return _rolled([block], ((0, block.shape[axis]),), axis, pads, n, *how)


def _rolled(
    several: list[Block],
    parts: tuple[Part, ...],
    axis: int,
    pads: tuple[int, int],
    n: int,
    agg: str,
    least: int,
    ddof: int | None,
    dtype: Any,
) -> Block:
    whole = np.moveaxis(join_parts(several, parts, axis), axis, 0)
    block = cast(whole, np.dtype(dtype)) if agg in ("min", "max", "first", "last") else whole.astype(dtype)
    ends = [np.full((pad, *block.shape[1:]), np.nan, dtype) for pad in pads]
    found = rolling_aggregate(np.concatenate([ends[0], block, ends[1]]), n, agg, least, ddof)
    if agg == "sum" and whole.dtype.kind in "iu" and n * max(map(abs, bounds(whole))) > 2**53:
        found = np.where(np.isnan(found), np.nan, _exact_sums(whole, pads, n))
    return np.moveaxis(found, 0, axis)


def _exact_sums(block: Block, pads: tuple[int, int], n: int) -> Block:
    """Return the sums of windows of whole numbers whose sums float64 may round.

    Raises
    ------
    WholeNumberError : a sum that float64 can't hold
    """
    ends = [np.zeros((pad, *block.shape[1:]), object) for pad in pads]
    wide = np.concatenate([ends[0], block.astype(object), ends[1]])
    sums = sum(wide[k : k + len(wide) - n + 1] for k in range(n))
    return settled(np.asarray(sums, dtype=object), np.dtype(np.float64))


def coarsen(
    x: xr.DataArray,
    *,
    window: Mapping[str, int],
    agg: str,
    boundary: str = "exact",
    skipna: bool = True,
    ddof: int | None = None,
) -> xr.DataArray:
    """Return aggregates of adjacent windows: along each dim of ``window`` one value for that number of positions.

    Several dims make one window together. The label of a window is the mean of its labels if they are numbers or times,
    else the first. Chunk borders inside a window are moved to its end by a rechunk. A dim of unknown length becomes one
    chunk.

    Parameters
    ----------
    boundary : exact: lengths must be multiples of the window; trim: positions that do not fill a window are dropped

    Raises
    ------
    OpError : no such dim, or a length that is not a multiple
    DataError : in the run, if an unknown length is not a multiple
    """
    require_aggregate(x, agg, ddof)
    for dim, n in window.items():
        axis_of(x, dim, "window")
        length = x.sizes[dim]
        if has_unknown_length(x, dim):
            x = one_chunk(x, [dim])
        elif length % n and boundary == "exact":
            raise OpError("window", f"{_no_multiple(dim, length, n)}")
        elif length % n:
            x = pick_positions(x, dim, (0, length - length % n))
    sizes = tuple(window.get(str(dim), 1) for dim in x.dims)
    cut = [n > 1 and not any_unknown(own) for own, n in zip(x.data.chunks, sizes, strict=True)]
    grid = {i: _whole_windows(x.data.chunks[i], sizes[i]) for i, moves in enumerate(cut) if moves}
    data = rechunked(x.data, grid) if any(own != x.data.chunks[i] for i, own in grid.items()) else x.data
    kind = aggregate_dtype(x.dtype, agg, empty=False)
    chunks = tuple(tuple(c // n if n > 1 else c for c in own) for own, n in zip(data.chunks, sizes, strict=True))
    exact = tuple(map(str, x.dims)) if boundary == "exact" else None
    how = (sizes, exact, agg, skipna, ddof, kind)
    coarse = per_block(data, "coarsen", _coarsened, *how, chunks=chunks, dtype=kind)
    gone = [dim for dim, n in window.items() if n > 1]
    along = {name: c for name, c in plain_coords(x).items() if c.ndim == 1 and c.dims[0] in gone}
    coords = {str(name): _coarse_labels(c, window[str(c.dims[0])]) for name, c in along.items()}
    deferred = {name: own for name, own in deferred_labels(rebuild(x, data, x.dims)).items() if own.dim in gone}
    result = rebuild(x, coarse, x.dims, coords=coords, gone=gone)
    return with_labels(result, {name: _coarse_deferred(own, window[own.dim]) for name, own in deferred.items()})


def _no_multiple(dim: str, length: int, n: int) -> str:
    return f"{dim!r} has {length} positions, not a multiple of {n}; boundary: trim drops the last {length % n}"


def _whole_windows(sizes: tuple[int, ...], n: int) -> tuple[int, ...]:
    """Return chunk sizes with every border moved to the end of the window that contains it."""
    ends = dict.fromkeys(math.ceil(end / n) * n for end in itertools.accumulate(sizes))
    return tuple(int(size) for size in np.diff([0, *ends]) if size) or (0,)


def _coarsened(
    block: Block,
    sizes: tuple[int, ...],
    exact: tuple[str, ...] | None,
    agg: str,
    skipna: bool,
    ddof: int | None,
    dtype: np.dtype[Any],
) -> Block:
    """Aggregate the windows of one block: the positions within windows become the first axis, and are reduced.

    Raises
    ------
    DataError : if a length is not a multiple of the window, and ``exact`` has the names of the dims
    """
    for dim, length, n in zip(exact or (), block.shape, sizes, strict=exact is not None):
        if length % n:
            raise DataError(f"window: {_no_multiple(dim, length, n)}")
    block = block[tuple(slice(0, length - length % n) for length, n in zip(block.shape, sizes, strict=True))]
    apart = [part for n, size in zip(block.shape, sizes, strict=True) for part in (n // size, size)]
    windows = np.moveaxis(block.reshape(apart), range(1, 2 * block.ndim, 2), range(block.ndim))
    windows = windows.reshape(math.prod(sizes), *windows.shape[block.ndim :])
    found = partial_aggregate(windows, 0, np.zeros(len(windows), np.intp), agg, skipna)
    return np.asarray(finish_aggregate([found], 0, 1, agg, ddof, dtype)[0])


def _coarse_labels(labels: xr.DataArray, n: int) -> xr.Variable:
    return xr.Variable(labels.dims, _coarse(labels.values, n), labels.attrs)


def _coarse_deferred(labels: DeferredLabels, n: int) -> DeferredLabels:
    kind = labels.field
    if labels.data.dtype.kind in "biuf":
        kind = pa.field("", pa.float64())
    elif pa.types.is_date(kind.type):  # the middle of days may be a noon
        kind = pa.field("", pa.timestamp("s"))
    chunks, dtype = (tuple(size // n for size in labels.data.chunks[0]),), label_dtype(kind)
    return DeferredLabels(labels.dim, per_block(labels.data, "coarse", _coarse, n, chunks=chunks, dtype=dtype), kind)


def _coarse(labels: Block, n: int) -> Block:
    """Return the label of each window of ``n`` positions; labels at the end that do not fill a window are dropped."""
    values = labels[: len(labels) - len(labels) % n].reshape(-1, n)
    if values.dtype.kind in "mM":
        whole = values.astype(np.int64)
        middle = whole[:, 0] + (whole - whole[:, :1]).sum(axis=1) // n  # whole numbers: floats lose nanoseconds
        means = np.where(np.isnat(values).any(axis=1), np.array("NaT", values.dtype), middle.astype(values.dtype))
        return np.asarray(means)
    if values.dtype.kind in "biuf":
        return np.asarray(values.mean(axis=1))
    if calendar_of(values):
        middles = [row[0] + sum((time - row[0] for time in row), timedelta(0)) / n for row in values]
        return np.array(middles, dtype=object)
    return values[:, 0]
