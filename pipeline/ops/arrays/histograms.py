"""The op ``histogram``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from pipeline.errors import OpError
from pipeline.ops.arrays.dims import Axis, axes_of, rebuild, require_real
from pipeline.ops.whole_numbers import bounds

__all__ = ["histogram"]

Block = np.ndarray[Any, Any]
Range = Sequence[float] | None


def histogram(x: xr.DataArray, *, bins: int | Sequence[float], range: Range = None, axis: Axis = None) -> xr.DataArray:  # noqa: A002
    """Return the number of values in each bin: int64, a first dim ``bin``, then the dims that are not counted over.

    A bin includes its left edge and excludes its right edge; the last bin includes both. Missing values and values
    outside are not counted. Labels are the left edges; the coordinate ``right`` holds the right edges.

    Parameters
    ----------
    bins : number of bins of equal width; or all edges, increasing
    range : left edge of the first bin and right edge of the last, for a number of ``bins``. (Rejected: the smallest and
        largest value as default, as in numpy: labels must be known before the run.)

    Raises
    ------
    OpError : no such dim, edges that do not increase, or values without an order
    """
    axes = axes_of(x, axis)
    require_real(x, "histogram")
    edges = _edges(bins, range)
    kept = [i for i, _ in enumerate(x.dims) if i not in axes]
    if "bin" in [x.dims[i] for i in kept]:
        raise OpError("axis", "the result has a dim 'bin' for the bins; count over the dim 'bin' of the input")
    numbers = tuple(i for i, _ in enumerate(x.dims))
    counts = da.blockwise(
        _counts,
        (x.ndim, *numbers),
        x.data,
        numbers,
        edges=edges,
        axes=axes,
        new_axes={x.ndim: len(edges) - 1},
        adjust_chunks=dict.fromkeys(axes, 1),
        dtype=np.int64,
        meta=np.empty((0,) * (x.ndim + 1), np.int64),
    )
    data = da.sum(counts, axis=tuple(i + 1 for i in axes)) if axes else counts
    coords = {"bin": edges[:-1], "right": ("bin", edges[1:])}
    return rebuild(x, data, ["bin", *(x.dims[i] for i in kept)], coords=coords, gone=["bin"], attrs=False)


def _edges(bins: int | Sequence[float], ends: Range) -> Block:
    if not isinstance(bins, int):
        edges = np.asarray(bins, np.float64)
        if len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise OpError("bins", f"got {list(bins)}; write two edges or more, in increasing order")
        if ends is not None:
            raise OpError("range", "has no effect where bins is a list of edges; it is for a number of bins")
        return edges
    if ends is None:
        raise OpError("range", "is needed for a number of bins; write [low, high]: edges must be known before the run")
    low, high = ends
    if not -math.inf < low < high < math.inf:
        raise OpError("range", f"got [{low}, {high}]; both must be finite, and the first below the second")
    return np.linspace(low, high, bins + 1)


def _counts(block: Block, edges: Block, axes: tuple[int, ...]) -> Block:
    """Return the counts of one block along ``axes``, which keep size 1; the axis of the bins comes first."""
    n = len(edges) - 1
    moved = np.moveaxis(block, axes, range(block.ndim - len(axes), block.ndim))
    shape = moved.shape[: block.ndim - len(axes)]
    lanes = math.prod(shape)
    values = moved.reshape(lanes, math.prod(moved.shape[len(shape) :]))
    if values.dtype.kind in "iu" and max(map(abs, bounds(values))) > 2**53:  # which floats would round
        values, edges = values.astype(object), edges.astype(object)
    found = np.searchsorted(edges, values, side="right") - 1  # n: beyond the last edge, and NaN
    found[values == edges[-1]] = n - 1
    places = found + n * np.arange(lanes)[:, None]
    counts = np.bincount(places[(found >= 0) & (found < n)], minlength=lanes * n)
    kept = [1 if i in axes else size for i, size in enumerate(block.shape)]
    return np.moveaxis(counts.reshape(lanes, n), 1, 0).reshape(n, *kept)
