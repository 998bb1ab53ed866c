"""Coordinates whose labels are computed in the run: the ids of the rows of a frame that became an array.

While a graph is built, the values of a coordinate are in memory, but those of a column of a frame are not. Such labels
are a dask array along a dim, held by an :class:`xarray.Index` of ours, which is xarray's public way to attach an object
to a coordinate: xarray keeps it through every method that keeps the coordinate. The coordinate itself has no dims and
only a placeholder value, because xarray refuses a second variable along a dim of unknown length (nan != nan).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import dask.array as da
import pandas as pd
import xarray as xr

from pipeline.ops.arrays.block_tasks import per_block
from pipeline.ops.arrays.unknown_chunks import rechunk_like
from pipeline.ops.whole_numbers import cast

__all__ = [
    "DeferredLabels",
    "deferred_labels",
    "joined_labels",
    "labels_of",
    "plain_coords",
    "shared_labels",
    "with_labels",
]


PLACEHOLDER = "computed in the run"
"""The value of a coordinate that stands for deferred labels."""


class DeferredLabels(xr.Index):
    """Labels along ``dim`` that are computed in the run.

    Parameters
    ----------
    data : 1-d; objects if numpy has no dtype for the column
    dtype : dtype of the column in pandas
    """

    def __init__(self, dim: str, data: da.Array, dtype: Any) -> None:
        self.dim, self.data, self.dtype = dim, data, dtype

    def equals(self, other: xr.Index, *, exclude: frozenset[Hashable] | None = None) -> bool:
        return isinstance(other, DeferredLabels) and (self.data.name, self.dim) == (other.data.name, other.dim)

    def along(self, dim: str) -> DeferredLabels:
        """Return the same labels along a dim of another name."""
        return DeferredLabels(dim, self.data, self.dtype)

    def with_data(self, data: da.Array) -> DeferredLabels:
        """Return other labels of the same dtype along the same dim."""
        return DeferredLabels(self.dim, data, self.dtype)

    def to_pandas_index(self) -> pd.Index:
        return pd.Index([PLACEHOLDER])  # DataArray.indexes, which anybody may read, converts every index

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> DeferredLabels:
        return self  # xarray copies indexes deeply, and tasks must stay the same


def with_labels(x: xr.DataArray, labels: Mapping[str, DeferredLabels]) -> xr.DataArray:
    """Return ``x`` with more deferred labels, by the name of their coordinate."""
    if not labels:
        return x
    placeholders = {name: xr.Variable((), PLACEHOLDER) for name in labels}
    return x.assign_coords(xr.Coordinates(placeholders, indexes=dict(labels)))


def labels_of(x: xr.DataArray) -> dict[str, DeferredLabels]:
    """Return the deferred labels along dims of ``x``, in the chunks that they have; see :func:`deferred_labels`."""
    return {
        str(name): index
        for name, index in x.xindexes.items()
        if isinstance(index, DeferredLabels) and index.dim in x.dims
    }


def deferred_labels(x: xr.DataArray) -> dict[str, DeferredLabels]:
    """Return the deferred labels along dims of ``x``, in the chunks of ``x``."""
    return {
        name: labels.with_data(rechunk_like(labels.data, 0, x.data, x.dims.index(labels.dim)))
        for name, labels in labels_of(x).items()
    }


def plain_coords(x: xr.DataArray) -> dict[Hashable, xr.DataArray]:
    """Return the coordinates of ``x`` whose values are in memory."""
    return {name: c for name, c in x.coords.items() if not isinstance(x.xindexes.get(name), DeferredLabels)}


def shared_labels(arrays: Sequence[xr.DataArray], dims: Iterable[Hashable]) -> dict[str, DeferredLabels]:
    """Return the deferred labels that arrays have along ``dims``, without those that differ between two of them.

    A name that is a plain coordinate of one array and deferred labels of another differs, too.
    """
    names = set(dims)
    found: dict[str, DeferredLabels] = {}
    differing = {str(name) for x in arrays for name in plain_coords(x)}
    for x in arrays:
        for name, labels in labels_of(x).items():
            if not found.setdefault(name, labels).equals(labels):
                differing.add(name)
    return {name: labels for name, labels in found.items() if labels.dim in names and name not in differing}


def joined_labels(labels: Sequence[DeferredLabels], dtype: Any) -> DeferredLabels:
    """Return labels one after the other, as ``dtype``."""
    data = [
        each.data if each.dtype == dtype else per_block(each.data, "cast", cast, dtype, dtype=dtype) for each in labels
    ]
    return DeferredLabels(labels[0].dim, da.concatenate(data, allow_unknown_chunksizes=True), dtype)
