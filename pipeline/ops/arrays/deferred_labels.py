"""Coordinates whose labels are computed in the run: the ids of the rows of a frame that became an array.

While a graph is built, the values of a coordinate are in memory, but those of a column of a frame are not. Such labels
are a dask array along a dim, held by an ``xarray.Index`` of ours, which is xarray's public way to attach an object
to a coordinate: xarray keeps it through every method that keeps the coordinate. The coordinate itself has no dims and
only a placeholder value, because xarray refuses a second variable along a dim of unknown length (nan != nan).

Times and durations are numpy's, days times at midnight; text, decimals, times with a zone and times of day are Python
objects, and so are whole numbers and truth values if some may be missing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError
from pipeline.graph.column_types import common_type, type_name
from pipeline.graph.declared_values import Misfit, fitted
from pipeline.graph.importing import Deferred
from pipeline.ops.arrays.block_tasks import per_block
from pipeline.ops.arrays.unknown_chunks import rechunk_like
from pipeline.ops.whole_numbers import cast

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd
    import xarray as xr
else:
    da = Deferred("dask.array")
    pd = Deferred("pandas")
    xr = Deferred("xarray")

Labels = np.ndarray[Any, Any]

__all__ = [
    "DeferredLabels",
    "column_of_labels",
    "deferred_labels",
    "joined_labels",
    "label_dtype",
    "labels_of",
    "labels_of_column",
    "number_labels",
    "plain_coords",
    "shared_labels",
    "with_labels",
]


PLACEHOLDER = "computed in the run"
"""The value of a coordinate that stands for deferred labels."""


@dataclass(frozen=True, eq=False)
class DeferredLabels:
    """Labels along ``dim`` that are computed in the run.

    Parameters
    ----------
    data : 1-d, of the dtype :func:`label_dtype`
    field : the column that they come from; its name does not matter
    """

    dim: str
    data: da.Array
    field: pa.Field

    def equals(self, other: DeferredLabels) -> bool:
        """Return whether these are the same labels along the same dim."""
        return (self.data.name, self.dim) == (other.data.name, other.dim)

    def along(self, dim: str) -> DeferredLabels:
        """Return the same labels along a dim of another name."""
        return replace(self, dim=dim)

    def with_data(self, data: da.Array) -> DeferredLabels:
        """Return other labels of the same type along the same dim."""
        return replace(self, data=data)


@cache
def _index_class() -> Any:
    """Return our class of xarray's indexes; made when it is first needed, since all pipelines load this module."""

    class LabelsIndex(xr.Index):
        def __init__(self, labels: DeferredLabels) -> None:
            self.labels = labels

        def equals(self, other: xr.Index, *, exclude: frozenset[Hashable] | None = None) -> bool:
            return isinstance(other, LabelsIndex) and self.labels.equals(other.labels)

        def to_pandas_index(self) -> pd.Index:
            return pd.Index([PLACEHOLDER])  # DataArray.indexes, which anybody may read, converts every index

        def __deepcopy__(self, memo: dict[int, Any] | None = None) -> LabelsIndex:
            return self  # xarray copies indexes deeply, and tasks must stay the same

    return LabelsIndex


def with_labels(x: xr.DataArray, labels: Mapping[str, DeferredLabels]) -> xr.DataArray:
    """Return ``x`` with more deferred labels, by the name of their coordinate."""
    if not labels:
        return x
    placeholders = {name: xr.Variable((), PLACEHOLDER) for name in labels}
    indexes = {name: _index_class()(own) for name, own in labels.items()}
    return x.assign_coords(xr.Coordinates(placeholders, indexes=indexes))


def labels_of(x: xr.DataArray) -> dict[str, DeferredLabels]:
    """Return the deferred labels along dims of ``x``, in the chunks that they have; see :func:`deferred_labels`."""
    return {
        str(name): index.labels
        for name, index in x.xindexes.items()
        if isinstance(index, _index_class()) and index.labels.dim in x.dims
    }


def deferred_labels(x: xr.DataArray) -> dict[str, DeferredLabels]:
    """Return the deferred labels along dims of ``x``, in the chunks of ``x``."""
    return {
        name: labels.with_data(rechunk_like(labels.data, 0, x.data, x.dims.index(labels.dim)))
        for name, labels in labels_of(x).items()
    }


def plain_coords(x: xr.DataArray) -> dict[Hashable, xr.DataArray]:
    """Return the coordinates of ``x`` whose values are in memory."""
    return {name: c for name, c in x.coords.items() if not isinstance(x.xindexes.get(name), _index_class())}


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


def joined_labels(labels: Sequence[DeferredLabels]) -> DeferredLabels | None:
    """Return labels one after the other, in the type that holds all; None if there is none."""
    kind = common_type([each.field.type for each in labels])
    if kind is None:
        return None
    field = pa.field("", kind, any(each.field.nullable for each in labels))
    dtype = label_dtype(field)
    data = [
        each.data if each.data.dtype == dtype else per_block(each.data, "cast", _cast, dtype, dtype=dtype)
        for each in labels
    ]
    return DeferredLabels(labels[0].dim, da.concatenate(data, allow_unknown_chunksizes=True), field)


def _cast(labels: Labels, dtype: np.dtype[Any]) -> Labels:
    found: Labels = labels.astype(dtype) if dtype.kind in "mMO" else cast(labels, dtype)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Columns and labels
# ---------------------------------------------------------------------------------------------------------------------


def label_dtype(field: pa.Field) -> np.dtype[Any]:
    """Return the dtype in which numpy holds the labels of a column."""
    t, kind = pa.types, field.type
    if t.is_floating(kind) or (not field.nullable and (t.is_boolean(kind) or t.is_integer(kind))):
        found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        return found
    if t.is_date(kind):
        return np.dtype("datetime64[s]")
    if (t.is_timestamp(kind) and not kind.tz) or t.is_duration(kind):
        return np.dtype(f"{'timedelta' if t.is_duration(kind) else 'datetime'}64[{kind.unit}]")
    return np.dtype(object)


def labels_of_column(name: str, table: pa.Table) -> Labels:
    """Return one column of a partition as labels."""
    column = table.column(name)
    dtype = label_dtype(table.schema.field(name))
    if dtype.kind == "O":
        found = np.empty(len(column), dtype)
        found[:] = column.to_pylist()
        return found
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    return np.asarray(column.to_numpy(), dtype=dtype)


def number_labels(labels: DeferredLabels) -> da.Array | None:
    """Return labels as an expression over arrays takes them: numbers and times; None for others.

    Numbers that may be missing become float64; the run fails at one that float64 does not hold.
    """
    if labels.data.dtype.kind in "biufmM":
        return labels.data
    if pa.types.is_integer(labels.field.type) or pa.types.is_boolean(labels.field.type):
        return per_block(labels.data, "numbers", _floats, dtype=np.dtype(np.float64))
    return None


def _floats(labels: Labels) -> Labels:
    found = np.asarray([np.nan if label is None else label for label in labels], np.float64)
    for label, number in zip(labels, found, strict=True):
        if label is not None and label != number:
            raise DataError(f"the label {label} is no float64, which labels become where some may be missing")
    return found


def column_of_labels(labels: Labels, kind: pa.DataType) -> pa.Array:
    """Return labels as the column that they come from.

    Raises
    ------
    DataError : a label is no value of the column's type any more
    """
    try:
        return fitted(pa.array(labels, from_pandas=True) if labels.dtype.kind != "O" else labels.tolist(), kind)
    except Misfit as error:
        raise DataError(f"the label {error.shown} does not fit {type_name(kind)}") from error
