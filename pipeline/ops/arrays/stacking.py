"""Several arrays as one: ``stack concatenate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from pipeline.config.scalars import label
from pipeline.errors import OpError
from pipeline.ops.arrays.deferred_labels import (
    DeferredLabels,
    deferred_labels,
    joined_labels,
    labels_of,
    plain_coords,
    with_labels,
)
from pipeline.ops.arrays.dims import dim_number, rebuilt
from pipeline.ops.arrays.unknown_chunks import like_first
from pipeline.ops.elementwise.alignment import aligned

__all__ = ["concatenate", "stack"]

Labels = Mapping[str, Any]
Gathered = Sequence[tuple[Labels, xr.DataArray]]


def stack(*inputs: xr.DataArray | Gathered, dim: str) -> xr.DataArray:
    """Arrays of the same dims, lengths and labels, one beside the other along a new first dim.

    The labels of the new dim are those of gathered copies: the values of their matrix key; of several keys the texts
    that name the copies (``alpha=0.1,fold=2``), beside a coordinate for each key. Other inputs give no labels. The
    dtype holds that of each input.

    Raises
    ------
    OpError : a dim of that name is there already, or dims, lengths or labels differ
    DataError : in the run, if lengths differ that only it knows
    """
    arrays, labels = _gathered(inputs)
    first = arrays[0]
    if dim in first.dims:
        raise OpError("dim", f"{dim!r} is a dim of the arrays already; to join them along it: op concatenate")
    arrays = [first, *(_like(first, x, number) for number, x in enumerate(arrays[1:], start=2))]
    data = da.stack(_alike(arrays), axis=0, allow_unknown_chunksizes=True)
    coords = _common_coords(arrays) | _labels_of(labels, dim)
    stacked = xr.DataArray(data, coords, [dim, *first.dims], attrs=_common_attrs(arrays))
    return with_labels(stacked, _common_labels(arrays))


def concatenate(*inputs: xr.DataArray | Gathered, axis: str) -> xr.DataArray:
    """Arrays of the same dims one after the other along one of them, where their lengths may differ.

    Coordinates along it are joined where all inputs have them. The dtype holds that of each input.

    Raises
    ------
    OpError : no such dim; other dims, or other lengths or labels along the others; labels of several types
    DataError : in the run, if lengths along the others differ that only it knows
    """
    arrays, _ = _gathered(inputs)
    first = arrays[0]
    along = dim_number(first, axis, "axis")
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
    """The arrays in order, of one dtype, and the matrix keys of those that are gathered copies; empty of the others."""
    arrays: list[xr.DataArray] = []
    labels: list[Labels] = []
    for given in inputs:
        for own, x in [({}, given)] if isinstance(given, xr.DataArray) else given:
            arrays.append(x)
            labels.append(own)
    kind = _common_dtype([x.dtype for x in arrays], "input", "arrays")
    return [x if x.dtype == kind else rebuilt(x, x.data.astype(kind), x.dims) for x in arrays], labels


def _common_dtype(dtypes: Sequence[np.dtype[Any]], field: str, what: str) -> np.dtype[Any]:
    """The dtype that holds the values of all; numbers don't become text, nor times numbers.

    Raises
    ------
    OpError : if there is none
    """
    sorts = {"number" if dtype.kind in "biufc" else dtype.kind for dtype in dtypes}
    if len(sorts) > 1:
        raise OpError(field, f"{what} of {' and '.join(dict.fromkeys(map(str, dtypes)))} have no dtype in common")
    return np.result_type(*dtypes)


def _like(first: xr.DataArray, x: xr.DataArray, number: int, *, but: str = "") -> xr.DataArray:
    """``x`` with its dims in the order of ``first``; lengths and labels are the same but along ``but``.

    Raises
    ------
    OpError : naming what differs
    """
    if set(x.dims) != set(first.dims):
        dims = [", ".join(map(str, each.dims)) for each in (first, x)]
        raise OpError("input", f"the first array has the dims ({dims[0]}), number {number} has ({dims[1]})")
    for dim in map(str, first.dims):
        if dim == but:
            continue
        n, m = (each.sizes[dim] for each in (first, x))
        if n != m and n == n and m == m:  # nan: known only in the run
            raise OpError("input", f"the first array has {n} positions along {dim!r}, number {number} has {m}")
        if dim in first.indexes and dim in x.indexes and not first.indexes[dim].equals(x.indexes[dim]):
            raise OpError("input", f"number {number} has other labels along {dim!r} than the first array")
    return x.transpose(*first.dims)


def _alike(arrays: Sequence[xr.DataArray], *, but: int | None = None) -> list[da.Array]:
    """The arrays cut alike, and held to equal lengths, along all axes but one."""
    places = [tuple(i if i != but else i + k * x.ndim for i in range(x.ndim)) for k, x in enumerate(arrays)]
    return like_first(aligned([x.data for x in arrays], places), places)


def _common_coords(arrays: Sequence[xr.DataArray], *, but: str = "") -> dict[str, Any]:
    """The coordinates, but those along ``but``, that all have and that are equal in all."""
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
    kind = _common_dtype([each.dtype for each in labels], "axis", f"the labels {name!r}")
    return np.concatenate([each.values.astype(kind, copy=False) for each in labels])


def _joined_deferred(name: str, labels: Sequence[DeferredLabels]) -> DeferredLabels:
    dtypes = {each.dtype for each in labels}
    if len(dtypes) == 1:
        return joined_labels(labels, labels[0].dtype)
    plain = [each.dtype for each in labels if isinstance(each.dtype, np.dtype)]
    if len(plain) < len(labels):
        raise OpError("axis", f"the labels {name!r} of {' and '.join(map(str, dtypes))} have no dtype in common")
    return joined_labels(labels, _common_dtype(plain, "axis", f"the labels {name!r}"))


def _labels_of(labels: Sequence[Labels], dim: str) -> dict[str, Any]:
    """The coordinates along ``dim``, the new one."""
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
        cure = f"name the new dim otherwise; {', '.join(keys)} become coordinates along it"
        raise OpError("dim", f"{dim!r} is one of several matrix keys; {cure}")
    return {dim: (dim, np.array(texts)), **{key: (dim, _as_labels(values)) for key, values in found.items()}}


def _as_labels(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Numbers as numbers, truth values as such, all else as the texts that the file has."""
    sorts = {bool if isinstance(value, bool) else float if isinstance(value, int | float) else str for value in values}
    return np.array(values if len(sorts) == 1 and sorts != {str} else [label(value) for value in values])
