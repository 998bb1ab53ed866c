"""The ops ``quantile`` and ``median``, which need all values along a dim in one task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from pipeline.ops.arrays.dims import Axis, axes_of, one_chunk, rebuild, require_real, take_first

__all__ = ["median", "quantile"]

Block = np.ndarray[Any, Any]


def quantile(x: xr.DataArray, *, q: float | Sequence[float], axis: Axis, skipna: bool = True) -> xr.DataArray:
    """Return quantiles over dims by linear interpolation, float64; a list of ``q`` adds a first dim ``quantile``.

    The reduced dims are rechunked to one chunk.
    """
    axes = axes_of(x, axis)
    require_real(x, "quantile")
    x = one_chunk(x, [str(x.dims[i]) for i in axes])
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    single = isinstance(q, int | float)
    wanted = (float(q),) if isinstance(q, int | float) else tuple(float(each) for each in q)
    data = da.blockwise(
        _quantiles,
        (x.ndim, *kept),
        x.data,
        tuple(range(x.ndim)),
        q=wanted,
        axes=axes,
        skipna=skipna,
        new_axes={x.ndim: len(wanted)},
        concatenate=True,
        dtype=np.float64,
        meta=np.empty((0,) * (len(kept) + 1)),
    )
    dims = [x.dims[i] for i in kept]
    if single:
        return rebuild(x, data[0], dims, coords={"quantile": wanted[0]})
    return rebuild(x, data, ["quantile", *dims], coords={"quantile": list(wanted)})


def _quantiles(block: Block, q: tuple[float, ...], axes: tuple[int, ...], skipna: bool) -> Block:
    """Return quantiles along ``axes``, as a new first axis. One sort for all; ``np.nanquantile`` loops in Python."""
    values = _sorted(block, axes, np.float64)
    shape = values.shape[:-1]
    if not values.shape[-1]:
        return np.full((len(q), *shape), np.nan)
    n = np.sum(~np.isnan(values), axis=-1)
    last = np.maximum(n - 1, 0)
    found = np.empty((len(q), *shape))
    for i, fraction in enumerate(q):
        place = fraction * last
        low = np.floor(place).astype(np.intp)
        high = np.minimum(low + 1, last)
        a = np.take_along_axis(values, low[..., None], -1)[..., 0]
        b = np.take_along_axis(values, high[..., None], -1)[..., 0]
        part = place - low
        with np.errstate(invalid="ignore"):
            found[i] = np.where((part == 0) | (a == b), a, a + (b - a) * part)
    if not skipna:
        found[:, n < values.shape[-1]] = np.nan
    return found


def median(x: xr.DataArray, *, axis: Axis = None, skipna: bool = True, keepdims: bool = False) -> xr.DataArray:
    """Return the middle value over dims, or the mean of the two middle values of an even number; NaN of no values.

    Floats keep their dtype, others become float64. The reduced dims are rechunked to one chunk.
    """
    axes = axes_of(x, axis)
    require_real(x, "median")
    x = one_chunk(x, [str(x.dims[i]) for i in axes])
    kind = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    data = da.blockwise(
        _medians,
        tuple(range(x.ndim)),
        x.data,
        tuple(range(x.ndim)),
        axes=axes,
        skipna=skipna,
        kind=kind,
        adjust_chunks=dict.fromkeys(axes, 1),
        dtype=kind,
        meta=np.empty((0,) * x.ndim, kind),
    )
    gone = [x.dims[i] for i in axes]
    if keepdims:
        return rebuild(x, data, x.dims, gone=gone)
    data = take_first(data, axes)
    return rebuild(x, data, [dim for dim in x.dims if dim not in gone])


def _medians(block: Block, axes: tuple[int, ...], skipna: bool, kind: Any) -> Block:
    shape = tuple(1 if i in axes else n for i, n in enumerate(block.shape))
    values = _sorted(block, axes, kind)
    if not values.shape[-1]:
        return np.full(shape, np.nan, kind)
    n = np.sum(~np.isnan(values), axis=-1, keepdims=True)
    low, high = (np.take_along_axis(values, np.maximum(place, 0), -1) for place in ((n - 1) // 2, n // 2))
    with np.errstate(invalid="ignore"):  # inf - inf
        found = np.where(low == high, low, low / 2 + high / 2)
    missing = np.zeros(n.shape, bool) if skipna else n < values.shape[-1]
    return np.where(missing, np.nan, found).astype(kind, copy=False).reshape(shape)


def _sorted(block: Block, axes: tuple[int, ...], dtype: Any) -> Block:
    """Return the values along ``axes`` as a new last axis, sorted, NaN last."""
    moved = np.moveaxis(block, axes, range(block.ndim - len(axes), block.ndim))
    kept = moved.shape[: block.ndim - len(axes)]
    n = math.prod(moved.shape[len(kept) :])
    return np.sort(moved.reshape(*kept, n).astype(dtype), axis=-1)
