"""The ops ``stack`` and ``concatenate``, which join several arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from pipeline.config.scalars import label
from pipeline.errors import OpError
from pipeline.graph.calendars import calendar_of, join_times
from pipeline.graph.column_types import type_name
from pipeline.ops.arrays.block_tasks import per_block
from pipeline.ops.arrays.deferred_labels import (
    DeferredLabels,
    deferred_labels,
    joined_labels,
    labels_of,
    plain_coords,
    with_labels,
)
from pipeline.ops.arrays.dims import axis_of, rebuild
from pipeline.ops.arrays.unknown_chunks import check_against_first
from pipeline.ops.elementwise.alignment import align_chunks
from pipeline.ops.whole_numbers import WholeNumberError, cast, common_dtype, concatenated

__all__ = ["concatenate", "stack"]

Labels = Mapping[str, Any]
Gathered = Sequence[tuple[Labels, xr.DataArray]]


def stack(*inputs: xr.DataArray | Gathered, dim: str) -> xr.DataArray:
    """Return arrays of the same dims, lengths and labels, joined along a new first dim.

    Gathered instances label the new dim with the values of their matrix key; with several keys, with the names of the
    instances (``alpha=0.1,fold=2``), and a coordinate for each key. Other inputs give no labels. The dtype is the
    common one.

    Raises
    ------
    OpError : the arrays already have this dim, or their dims, lengths or labels differ
    DataError : in the run, if lengths that are unknown before it differ
    """
    arrays, labels = _gathered(inputs)
    first = arrays[0]
    if dim in first.dims:
        raise OpError("dim", f"the arrays already have a dim {dim!r}; to join them along it use op concatenate")
    arrays = [first, *(_like(first, x, number) for number, x in enumerate(arrays[1:], start=2))]
    data = da.stack(_alike(arrays), axis=0, allow_unknown_chunksizes=True)
    coords = _common_coords(arrays) | _labels_of(labels, dim)
    stacked = xr.DataArray(data, coords, [dim, *first.dims], attrs=_common_attrs(arrays))
    return with_labels(stacked, _common_labels(arrays))


def concatenate(*inputs: xr.DataArray | Gathered, axis: str) -> xr.DataArray:
    """Return arrays of the same dims, one after the other along one of them; their lengths along it may differ.

    Coordinates along it are joined where all inputs have them. The dtype is the common one.

    Raises
    ------
    OpError : no such dim; dims, or lengths or labels along other dims, that differ; labels of several types
    DataError : in the run, if lengths along other dims that are unknown before it differ
    """
    arrays, _ = _gathered(inputs)
    first = arrays[0]
    along = axis_of(first, axis, "axis")
    arrays = [first, *(_like(first, x, number, but=axis) for number, x in enumerate(arrays[1:], start=2))]
    data = da.concatenate(_alike(arrays, but=along), axis=along, allow_unknown_chunksizes=True)
    coords = _common_coords(arrays, but=axis)
    for name, c in first.coords.items():
        if c.dims == (axis,) and all(name in x.coords and x.coords[name].dims == (axis,) for x in arrays):
            values = _joined_labels(str(name), [x.coords[name] for x in arrays])
            coords[str(name)] = xr.Variable((axis,), values, c.attrs)
    joined = xr.DataArray(data, coords, first.dims, attrs=_common_attrs(arrays))
    deferred = [{name: own for name, own in deferred_labels(x).items() if own.dim == axis} for x in arrays]
    everywhere = [name for name in deferred[0] if all(name in own for own in deferred)]
    labels = {name: _joined_deferred(name, [own[name] for own in deferred]) for name in everywhere}
    return with_labels(joined, _common_labels(arrays, but=axis) | labels)


def _gathered(inputs: Sequence[xr.DataArray | Gathered]) -> tuple[list[xr.DataArray], list[Labels]]:
    """Return the arrays in order, with a common dtype, and the matrix keys of each; empty if it is not gathered."""
    arrays: list[xr.DataArray] = []
    labels: list[Labels] = []
    for given in inputs:
        for own, x in [({}, given)] if isinstance(given, xr.DataArray) else given:
            arrays.append(x)
            labels.append(own)
    kind = _common_dtype([x.dtype for x in arrays], "input", "arrays")
    return [
        x if x.dtype == kind else rebuild(x, per_block(x.data, "cast", cast, kind, dtype=kind), x.dims) for x in arrays
    ], labels


def _common_dtype(dtypes: Sequence[np.dtype[Any]], field: str, what: str) -> np.dtype[Any]:
    """Return the common dtype, int64 for int64 and uint64; numbers do not become text, nor times numbers.

    Raises
    ------
    OpError : if there is none
    """
    sorts = {"number" if dtype.kind in "biufc" else dtype.kind for dtype in dtypes}
    if len(sorts) > 1:
        raise OpError(field, f"{what} of {' and '.join(dict.fromkeys(map(str, dtypes)))} have no common dtype")
    return common_dtype(*dtypes)


def _like(first: xr.DataArray, x: xr.DataArray, number: int, *, but: str = "") -> xr.DataArray:
    """Return ``x`` with its dims in the order of ``first``; check lengths and labels along all dims except ``but``.

    Raises
    ------
    OpError : with what differs
    """
    if set(x.dims) != set(first.dims):
        dims = [", ".join(map(str, each.dims)) for each in (first, x)]
        raise OpError("input", f"the first array has the dims ({dims[0]}), number {number} has ({dims[1]})")
    for dim in map(str, first.dims):
        if dim == but:
            continue
        n, m = (each.sizes[dim] for each in (first, x))
        if n != m and n == n and m == m:  # nan: unknown until run time
            raise OpError("input", f"the first array has {n} positions along {dim!r}, number {number} has {m}")
        if dim in first.indexes and dim in x.indexes and not first.indexes[dim].equals(x.indexes[dim]):
            raise OpError("input", f"labels along {dim!r} of number {number} differ from those of the first array")
    return x.transpose(*first.dims)


def _alike(arrays: Sequence[xr.DataArray], *, but: int | None = None) -> list[da.Array]:
    """Return the arrays with equal chunks, and checked for equal lengths, along all axes except ``but``."""
    places = [tuple(i if i != but else i + k * x.ndim for i in range(x.ndim)) for k, x in enumerate(arrays)]
    return check_against_first(align_chunks([x.data for x in arrays], places), places)


def _common_coords(arrays: Sequence[xr.DataArray], *, but: str = "") -> dict[str, Any]:
    """Return the coordinates, except those along ``but``, that all arrays have and that are equal in all."""
    return {
        str(name): c.variable
        for name, c in plain_coords(arrays[0]).items()
        if but not in c.dims and all(name in x.coords and x.coords[name].variable.equals(c.variable) for x in arrays)
    }


def _common_labels(arrays: Sequence[xr.DataArray], *, but: str = "") -> dict[str, DeferredLabels]:
    """Return the deferred labels, except those along ``but``, that all arrays have and that are equal in all."""
    others = [labels_of(x) for x in arrays]
    return {
        name: own
        for name, own in others[0].items()
        if own.dim != but and all(name in other and other[name].equals(own) for other in others)
    }


def _common_attrs(arrays: Sequence[xr.DataArray]) -> dict[str, Any]:
    return {
        str(name): value
        for name, value in arrays[0].attrs.items()
        if all(name in x.attrs and np.array_equal(x.attrs[name], value) for x in arrays)
    }


def _joined_labels(name: str, labels: Sequence[xr.DataArray]) -> np.ndarray[Any, Any]:
    values = [each.values for each in labels]
    if any(map(calendar_of, values)) or all(each.dtype.kind == "M" for each in values):
        try:
            return join_times(values)
        except ValueError as error:
            raise OpError("axis", f"the labels {name!r} can't be joined: {error}") from error
    _common_dtype([each.dtype for each in labels], "axis", f"the labels {name!r}")
    try:
        return concatenated(values)
    except WholeNumberError as error:
        raise OpError("axis", f"the labels {name!r} can't be joined: {str(error).partition(';')[0]}") from error


def _joined_deferred(name: str, labels: Sequence[DeferredLabels]) -> DeferredLabels:
    joined = joined_labels(labels)
    if joined is None:
        types = " and ".join(dict.fromkeys(type_name(each.field.type) for each in labels))
        raise OpError("axis", f"the labels {name!r} of {types} have no common type")
    return joined


def _labels_of(labels: Sequence[Labels], dim: str) -> dict[str, Any]:
    """Return the coordinates along ``dim``, the new dim, from the matrix keys of gathered instances."""
    keys = list(labels[0])
    if not keys or any(list(own) != keys for own in labels):
        return {}
    found = {key: [own[key] for own in labels] for key in keys}
    texts = [",".join(f"{key}={label(value)}" for key, value in own.items()) for own in labels]
    if len(set(texts)) < len(texts):
        return {}
    if len(keys) == 1:
        return {dim: (dim, _as_labels(found[keys[0]]))}
    if dim in keys:
        hint = f"choose another name; {', '.join(keys)} become coordinates along the new dim"
        raise OpError("dim", f"{dim!r} is one of several matrix keys; {hint}")
    return {dim: (dim, np.array(texts)), **{key: (dim, _as_labels(values)) for key, values in found.items()}}


def _as_labels(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Return numbers as numbers, booleans as booleans, and all else as text as in the file."""
    sorts = {bool if isinstance(value, bool) else float if isinstance(value, int | float) else str for value in values}
    return np.array(values if len(sorts) == 1 and sorts != {str} else [label(value) for value in values])
