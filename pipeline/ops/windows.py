"""Array operations over windows: ``rolling coarsen``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import ConfigError
from pipeline.graph import GraphNode, Key, ref, task
from pipeline.ops.dims import blocks, dim_number, known_length, rebuilt, require_numbers
from pipeline.ops.partials import aggregate_dtype, aggregated, partial, require_aggregate, rolled
from pipeline.ops.pieces import Part, joined, pieces

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
    """Aggregates of a moving window; same dims and chunks. NaN where fewer than ``min_periods`` values lie in it.

    The window of a position ends there, or, with ``center``, has it in its middle (an even one reaches one further
    back). One dim.

    Raises
    ------
    ConfigError : no such dim, a window longer than it, or more ``min_periods`` than positions
    """
    require_numbers(x, "rolling")
    require_aggregate(x, agg, ddof)
    if len(window) > 1:
        raise ConfigError("window: got several dims; take one after the other, each in a step of its own")
    ((dim, n),) = window.items()
    axis, length = dim_number(x, dim, "window"), known_length(x, dim, "window")
    least = n if min_periods is None else min_periods
    if n > length:
        raise ConfigError(f"window: got {n}, but {dim!r} has {length} positions")
    if least > n:
        raise ConfigError(f"min_periods: got {least}, more than the {n} positions of the window")
    before = n // 2 if center else n - 1
    after = n - 1 - before
    kind = x.dtype if x.dtype.kind in "fc" else np.dtype(np.float64)
    name = f"rolling-{tokenize(x.data.name, axis, n, agg, before, least, ddof)}"
    ends = np.cumsum([0, *x.data.chunks[axis]])
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(m) for m in x.data.numblocks)):
        start, stop = int(ends[index[axis]]), int(ends[index[axis] + 1])
        low, high = start - before, stop + after
        several = pieces(x.data, index, axis, (max(low, 0), min(high, length)))
        pads = (max(-low, 0), max(high - length, 0))
        tasks[name, *index] = task((name, *index), _rolled, *several, axis, pads, n, agg, least, ddof, kind)
    return rebuilt(x, blocks(name, tasks, x.data.chunks, kind, x.data), x.dims)


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
    block = np.moveaxis(joined(several, parts, axis), axis, 0).astype(dtype)
    ends = [np.full((pad, *block.shape[1:]), np.nan, dtype) for pad in pads]
    return np.moveaxis(rolled(np.concatenate([ends[0], block, ends[1]]), n, agg, least, ddof), 0, axis)


def coarsen(
    x: xr.DataArray,
    *,
    window: Mapping[str, int],
    agg: str,
    boundary: str = "exact",
    skipna: bool = True,
    ddof: int | None = None,
) -> xr.DataArray:
    """Aggregates of windows that lie side by side; along each dim of ``window`` one value for so many positions.

    Several dims make one window together. Labels are the means of those in a window, where they are numbers or times,
    else the first. A chunk border inside a window is moved to the window's end: a rechunk.

    Parameters
    ----------
    boundary : exact: lengths are multiples of the window's; trim: what is left at the end is left out

    Raises
    ------
    ConfigError : no such dim, or a length that is no multiple
    """
    require_aggregate(x, agg, ddof)
    for dim, n in window.items():
        dim_number(x, dim, "window")
        length = known_length(x, dim, "window")
        rest = length % n
        if rest and boundary == "exact":
            cure = f"boundary: trim leaves out the last {rest}"
            raise ConfigError(f"window: {dim!r} has {length} positions, no multiple of {n}; {cure}")
        if rest:
            x = x.isel({dim: slice(0, length - rest)})
    sizes = tuple(window.get(str(dim), 1) for dim in x.dims)
    grid = tuple(_whole_windows(own, n) if n > 1 else own for own, n in zip(x.data.chunks, sizes, strict=True))
    data = x.data.rechunk(grid, method="tasks") if grid != x.data.chunks else x.data
    kind = aggregate_dtype(x.dtype, agg, empty=False)
    name = f"coarsen-{tokenize(data.name, sizes, agg, skipna, ddof)}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(n) for n in data.numblocks)):
        key = (name, *index)
        tasks[key] = task(key, _coarsened, ref((data.name, *index)), sizes, agg, skipna, ddof, kind)
    chunks = tuple(tuple(c // n if n > 1 else c for c in own) for own, n in zip(grid, sizes, strict=True))
    gone = [dim for dim, n in window.items() if n > 1]
    along = {name: c for name, c in x.coords.items() if c.ndim == 1 and c.dims[0] in gone}
    coords = {str(name): _coarse_labels(c, window[str(c.dims[0])]) for name, c in along.items()}
    return rebuilt(x, blocks(name, tasks, chunks, kind, data), x.dims, coords=coords, gone=gone)


def _whole_windows(sizes: tuple[int, ...], n: int) -> tuple[int, ...]:
    """Chunks with every border moved on to the end of the window that it lies in."""
    ends = dict.fromkeys(math.ceil(end / n) * n for end in itertools.accumulate(sizes))
    return tuple(int(size) for size in np.diff([0, *ends]) if size) or (0,)


def _coarsened(
    block: Block, sizes: tuple[int, ...], agg: str, skipna: bool, ddof: int | None, dtype: np.dtype[Any]
) -> Block:
    """One value a window: its positions, in the order of the dims, are brought to the front and aggregated."""
    apart = [part for n, size in zip(block.shape, sizes, strict=True) for part in (n // size, size)]
    windows = np.moveaxis(block.reshape(apart), range(1, 2 * block.ndim, 2), range(block.ndim))
    windows = windows.reshape(math.prod(sizes), *windows.shape[block.ndim :])
    found = partial(windows, 0, np.zeros(len(windows), np.intp), agg, skipna)
    return np.asarray(aggregated([found], 0, 1, agg, ddof, dtype)[0])


def _coarse_labels(labels: xr.DataArray, n: int) -> xr.Variable:
    values = labels.values.reshape(-1, n)
    if values.dtype.kind in "mM":
        whole = values.astype(np.int64)
        middle = whole[:, 0] + (whole - whole[:, :1]).sum(axis=1) // n  # floats would lose nanoseconds
        means = np.where(np.isnat(values).any(axis=1), np.array("NaT", values.dtype), middle.astype(values.dtype))
        return xr.Variable(labels.dims, means, labels.attrs)
    if values.dtype.kind in "biuf":
        return xr.Variable(labels.dims, values.mean(axis=1), labels.attrs)
    return xr.Variable(labels.dims, values[:, 0], labels.attrs)
