"""What array ops share: dims by name, checks of their inputs, and the coordinates of their results."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import OpError, nearest
from pipeline.graph.importing import Deferred
from pipeline.ops.arrays.block_tasks import rechunked
from pipeline.ops.arrays.deferred_labels import deferred_labels, labels_of, plain_coords, with_labels
from pipeline.ops.arrays.unknown_chunks import any_unknown, merge_chunks, slice_in_run
from pipeline.ops.whole_numbers import WholeNumberError, cast

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
else:
    da = Deferred("dask.array")
    xr = Deferred("xarray")

__all__ = [
    "Axis",
    "axes_of",
    "axis_of",
    "constant_of",
    "has_unknown_length",
    "is_missing",
    "one_chunk",
    "pick_positions",
    "rebuild",
    "require_length",
    "require_numbers",
    "require_real",
    "require_same_labels",
    "take_first",
]

Axis = str | Sequence[str] | None


def axis_of(x: xr.DataArray, dim: str, key: str = "") -> int:
    """Return the position of a dim among the dims; ``key`` is the parameter that names it.

    Raises
    ------
    OpError : if the array has no such dim
    """
    dims = [str(name) for name in x.dims]
    if dim in dims:
        return dims.index(dim)
    has = f"dims: {', '.join(dims)}" if dims else "the array has none: it is a single number"
    raise OpError(key, f"no dim {dim!r}; {has}{nearest(dim, dims)}")


def require_length(x: xr.DataArray, dim: str, key: str) -> int:
    """Return the length of a dim; ``key`` is the parameter that names it.

    Raises
    ------
    OpError : if the length is unknown until run time
    """
    length = x.shape[axis_of(x, dim, key)]
    if np.isnan(length):
        hint = "if you know it, declare it before to_array: {op: repartition, count_rows: 1000}"
        raise OpError(key, f"the length of {dim!r} is unknown until run time; {hint}")
    return int(length)


def axes_of(x: xr.DataArray, axis: Axis) -> tuple[int, ...]:
    """Return the positions of dims, in the order of the array; None means all.

    Raises
    ------
    OpError : if there is no such dim
    """
    if axis is None:
        return tuple(range(x.ndim))
    names = [axis] if isinstance(axis, str) else axis
    return tuple(sorted({axis_of(x, name, "axis") for name in names}))


def is_missing(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return where values are missing (NaN of floats, NaT of times), as bool."""
    if values.dtype.kind not in "fcmM":
        return np.zeros(values.shape, bool)
    return np.asarray(np.isnat(values) if values.dtype.kind in "mM" else np.isnan(values))


def require_numbers(x: xr.DataArray, what: str, *, times: bool = False, key: str = "input") -> None:
    """Check that an array holds numbers or booleans, or, with ``times``, times or durations.

    Parameters
    ----------
    what : the operation that needs them, for the message
    key : the input key of the array

    Raises
    ------
    OpError : with the dtype of the array
    """
    if x.dtype.kind in "biufc" or (times and x.dtype.kind in "mM"):
        return
    allowed = "numbers or times" if times else "numbers"
    hint = "; for seconds: {expr: number(x)}" if x.dtype.kind == "m" else ""
    raise OpError(key, f"{what} needs {allowed}; the array has dtype {x.dtype}{hint}")


def require_real(x: xr.DataArray, what: str, *, times: bool = False) -> None:
    """Like :func:`require_numbers`, without complex numbers, which have no order.

    Raises
    ------
    OpError : with the dtype of the array
    """
    require_numbers(x, what, times=times)
    if x.dtype.kind == "c":
        raise OpError("input", f"{what} needs numbers with an order; the array has dtype {x.dtype}")


def constant_of(value: float, dtype: np.dtype[Any], key: str) -> np.ndarray[Any, Any]:
    """Return a number in the dtype of an array; floats may be rounded. ``key`` is the parameter that holds it.

    Raises
    ------
    OpError : if the dtype cannot hold it
    """
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(cast(np.asarray(value), dtype)) if dtype.kind in "biufc" else None
    except WholeNumberError:
        found = None
    if found is None or (np.isfinite(found) != np.isfinite(value) if dtype.kind in "fc" else found != value):
        raise OpError(key, f"got {value}, which dtype {dtype} cannot hold")
    return found


def rebuild(
    x: xr.DataArray,
    data: da.Array,
    dims: Iterable[Hashable],
    *,
    coords: Mapping[str, Any] | None = None,
    gone: Iterable[Hashable] = (),
    attrs: bool = True,
) -> xr.DataArray:
    """Return ``data`` with these dims, and with the coordinates of ``x`` along those dims.

    Parameters
    ----------
    coords : new coordinates, which replace those of ``x``
    gone : dims of ``x`` whose coordinates are dropped although the result has a dim of that name
    attrs : whether the attributes are kept
    """
    names = list(dims)
    lost = set(gone)
    kept = {k: c for k, c in plain_coords(x).items() if set(c.dims) <= set(names) and not set(c.dims) & lost}
    result = xr.DataArray(data, {**kept, **(coords or {})}, names, name=x.name, attrs=x.attrs if attrs else None)
    labels = {k: own for k, own in labels_of(x).items() if own.dim in names and own.dim not in lost}
    return with_labels(result, {k: own for k, own in labels.items() if k not in (coords or {})})


def take_first(data: da.Array, axes: Iterable[int]) -> da.Array:
    """Return the first position along ``axes``, without these axes; unlike ``squeeze`` it works for unknown lengths."""
    gone = set(axes)
    return data[tuple(0 if i in gone else slice(None) for i in range(data.ndim))] if gone else data


def has_unknown_length(x: xr.DataArray, dim: str) -> bool:
    """Return whether the length of a dim is unknown until run time."""
    return bool(np.isnan(x.sizes[dim]))


def one_chunk(x: xr.DataArray, dims: Iterable[str]) -> xr.DataArray:
    """Return ``x`` with a single chunk along each of ``dims``."""
    several = [axis for axis in (axis_of(x, dim) for dim in dims) if x.data.numblocks[axis] > 1]
    if not several:
        return x
    late = [axis for axis in several if any_unknown(x.data.chunks[axis])]
    known = {axis: -1 for axis in several if axis not in late}
    data = rechunked(x.data, known) if known else x.data
    for axis in late:
        data = merge_chunks(data, axis)
    return rebuild(x, data, x.dims)


def pick_positions(x: xr.DataArray, dim: str, positions: int | tuple[int | None, int | None]) -> xr.DataArray:
    """Return one position along a dim, without the dim, or the positions from a start to a stop, which is excluded.

    Raises
    ------
    DataError : in the run, if a dim of unknown length does not have these positions
    """
    axis = axis_of(x, dim)
    late, kept = has_unknown_length(x, dim), [name for name in x.dims if name != dim]
    start, stop = positions if isinstance(positions, tuple) else (positions, positions + 1 if positions != -1 else None)
    if not isinstance(positions, tuple):
        if not late:
            return x.isel({dim: positions}, drop=True)
        return rebuild(x, take_first(slice_in_run(x.data, axis, start, stop, dim), [axis]), kept)
    labels = {c: own for c, own in deferred_labels(x).items() if own.dim == dim}
    cut = {
        c: slice_in_run(own.data, 0, start, stop, dim) if late else own.data[start:stop] for c, own in labels.items()
    }
    x = rebuild(x, slice_in_run(x.data, axis, start, stop, dim), x.dims) if late else x.isel({dim: slice(start, stop)})
    return with_labels(x, {c: labels[c].with_data(data) for c, data in cut.items()})


def require_same_labels(x: xr.DataArray, other: xr.DataArray, what: str) -> None:
    """Check that ``other`` has the lengths and labels of ``x`` along the dims that both have.

    Parameters
    ----------
    what : the input key of ``other``

    Raises
    ------
    OpError : with the first dim that differs
    """
    for dim in other.dims:
        n, m = x.sizes[dim], other.sizes[dim]
        if n != m and n == n and m == m:  # nan: unknown until run time
            raise OpError(what, f"has {m} positions along {str(dim)!r}, input has {n}")
        if dim in x.indexes and dim in other.indexes and not x.indexes[dim].equals(other.indexes[dim]):
            raise OpError(what, f"labels along {str(dim)!r} differ from those of input")
