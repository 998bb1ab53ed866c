"""Dims by name: what array ops share."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from pipeline.errors import OpError, nearest
from pipeline.ops.arrays.block_tasks import rechunked
from pipeline.ops.arrays.deferred_labels import deferred_labels, labels_of, plain_coords, with_labels
from pipeline.ops.arrays.unknown_chunks import merged, span, unknown

__all__ = [
    "Axis",
    "axes_of",
    "dim_number",
    "first_along",
    "is_late",
    "known_length",
    "missing",
    "one_chunk",
    "part",
    "rebuilt",
    "require_numbers",
    "require_real",
    "same_labels",
]

Axis = str | Sequence[str] | None


def dim_number(x: xr.DataArray, dim: str, key: str = "") -> int:
    """The position of a dim; ``key`` is the parameter that names it.

    Raises
    ------
    OpError : if the array has no such dim
    """
    dims = [str(name) for name in x.dims]
    if dim in dims:
        return dims.index(dim)
    known = ", ".join(dims) or "no dims: it is one number"
    raise OpError(key, f"{dim!r} is no dim; the array has {known}{nearest(dim, dims)}")


def known_length(x: xr.DataArray, dim: str, key: str) -> int:
    """The length of a dim, for an op that can't do without; ``key`` is the parameter that names it.

    Raises
    ------
    OpError : if only the run knows it
    """
    length = x.shape[dim_number(x, dim, key)]
    if np.isnan(length):
        cure = "if you know it, say it where its rows are a frame still: {op: repartition, count_rows: 1000}"
        raise OpError(key, f"the length of {dim!r} is known only in the run; {cure}")
    return int(length)


def axes_of(x: xr.DataArray, axis: Axis) -> tuple[int, ...]:
    """The positions of the dims meant, in the array's order; None means all.

    Raises
    ------
    OpError : if there is no such dim
    """
    if axis is None:
        return tuple(range(x.ndim))
    names = [axis] if isinstance(axis, str) else axis
    return tuple(sorted({dim_number(x, name, "axis") for name in names}))


def missing(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Which values are missing: NaN of floats, NaT of times; bool."""
    if values.dtype.kind not in "fcmM":
        return np.zeros(values.shape, bool)
    return np.asarray(np.isnat(values) if values.dtype.kind in "mM" else np.isnan(values))


def require_numbers(x: xr.DataArray, what: str, *, times: bool = False, key: str = "input") -> None:
    """Hold an array to numbers and truth values, and to times and durations where ``what`` takes them.

    Raises
    ------
    OpError : naming its dtype
    """
    if x.dtype.kind in "biufc" or (times and x.dtype.kind in "mM"):
        return
    wanted = "numbers or times" if times else "numbers"
    hint = "; for seconds: {expr: number(x)}" if x.dtype.kind == "m" else ""
    raise OpError(key, f"{what} needs {wanted}, and the array is of {x.dtype}{hint}")


def require_real(x: xr.DataArray, what: str, *, times: bool = False) -> None:
    """Like :func:`require_numbers`, for what needs an order: complex numbers have none.

    Raises
    ------
    OpError : naming the array's dtype
    """
    require_numbers(x, what, times=times)
    if x.dtype.kind == "c":
        raise OpError("input", f"{what} needs numbers that have an order, and the array is of {x.dtype}")


def rebuilt(
    x: xr.DataArray,
    data: da.Array,
    dims: Iterable[Hashable],
    *,
    coords: Mapping[str, Any] | None = None,
    gone: Iterable[Hashable] = (),
    attrs: bool = True,
) -> xr.DataArray:
    """``data`` with these dims, and all coordinates of ``x`` that still fit.

    Parameters
    ----------
    coords : further ones, in the place of those of ``x``
    gone : dims whose coordinates go even though a dim of that name is there
    """
    names = list(dims)
    lost = set(gone)
    kept = {k: c for k, c in plain_coords(x).items() if set(c.dims) <= set(names) and not set(c.dims) & lost}
    result = xr.DataArray(data, {**kept, **(coords or {})}, names, name=x.name, attrs=x.attrs if attrs else None)
    labels = {k: own for k, own in labels_of(x).items() if own.dim in names and own.dim not in lost}
    return with_labels(result, {k: own for k, own in labels.items() if k not in (coords or {})})


def first_along(data: da.Array, axes: Iterable[int]) -> da.Array:
    """The first position along ``axes``, which are gone; for those of size 1, and for lengths that nobody knows."""
    gone = set(axes)
    return data[tuple(0 if i in gone else slice(None) for i in range(data.ndim))] if gone else data


def is_late(x: xr.DataArray, dim: str) -> bool:
    """Whether only the run knows how long a dim is."""
    return bool(np.isnan(x.sizes[dim]))


def one_chunk(x: xr.DataArray, dims: Iterable[str]) -> xr.DataArray:
    """``x`` with a single chunk along each of ``dims``."""
    several = [axis for axis in (dim_number(x, dim) for dim in dims) if x.data.numblocks[axis] > 1]
    if not several:
        return x
    late = [axis for axis in several if unknown(x.data.chunks[axis])]
    known = {axis: -1 for axis in several if axis not in late}
    data = rechunked(x.data, known) if known else x.data
    for axis in late:
        data = merged(data, axis)
    return rebuilt(x, data, x.dims)


def part(x: xr.DataArray, dim: str, pick: int | tuple[int | None, int | None]) -> xr.DataArray:
    """One position along a dim, which is gone then, or those from one to another, half-open.

    Raises
    ------
    DataError : in the run, if only that knows how long the dim is, and they lie outside
    """
    axis = dim_number(x, dim)
    late, kept = is_late(x, dim), [name for name in x.dims if name != dim]
    start, stop = pick if isinstance(pick, tuple) else (pick, pick + 1 if pick != -1 else None)
    if not isinstance(pick, tuple):
        if not late:
            return x.isel({dim: pick}, drop=True)
        return rebuilt(x, first_along(span(x.data, axis, start, stop, dim), [axis]), kept)
    labels = {c: own for c, own in deferred_labels(x).items() if own.dim == dim}
    cut = {c: span(own.data, 0, start, stop, dim) if late else own.data[start:stop] for c, own in labels.items()}
    x = rebuilt(x, span(x.data, axis, start, stop, dim), x.dims) if late else x.isel({dim: slice(start, stop)})
    return with_labels(x, {c: labels[c].with_data(data) for c, data in cut.items()})


def same_labels(x: xr.DataArray, other: xr.DataArray, what: str) -> None:
    """Hold ``other`` to the lengths and coordinates of ``x`` along the dims that they share.

    Raises
    ------
    OpError : naming the first dim that differs
    """
    for dim in other.dims:
        n, m = x.sizes[dim], other.sizes[dim]
        if n != m and n == n and m == m:  # nan: known only in the run
            raise OpError(what, f"has {m} positions along {str(dim)!r}, input {n}")
        if dim in x.indexes and dim in other.indexes and not np.array_equal(x[dim].values, other[dim].values):
            raise OpError(what, f"has other labels along {str(dim)!r} than input")
