"""Write labels that are computed in the run into files, next to the coordinates known before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError
from pipeline.graph.value_types import LabelsType

__all__ = ["plain_dtype", "with_labels"]


def plain_dtype(field: pa.Field) -> np.dtype[Any]:
    """Return the numpy dtype in which labels of a column are stored in a file; text where there is no other.

    Decimals, and numbers that may be missing, become float64, times with a zone times in UTC, days times at midnight.
    """
    t, kind = pa.types, field.type
    if t.is_boolean(kind) or t.is_integer(kind) or t.is_floating(kind):
        return np.dtype(np.float64) if field.nullable and not t.is_floating(kind) else np.dtype(kind.to_pandas_dtype())
    if t.is_decimal(kind):
        return np.dtype(np.float64)
    if t.is_date(kind):
        return np.dtype("datetime64[s]")
    if t.is_timestamp(kind) or t.is_duration(kind):
        return np.dtype(f"{'datetime' if t.is_timestamp(kind) else 'timedelta'}64[{kind.unit}]")
    return np.dtype(np.str_)


def with_labels(
    template: Any, labels: Mapping[str, LabelsType], values: Sequence[Sequence[np.ndarray[Any, Any]]]
) -> Any:
    """Return a copy of a dataset with more coordinates.

    Parameters
    ----------
    template : ``xarray.Dataset`` with the coordinates known before the run
    labels : name of a coordinate -> its value type
    values : for each of ``labels``, in order, the labels of each chunk
    """
    pairs = zip(labels.items(), values, strict=True)
    return template.assign_coords({name: (own.dim, _plain(some, own.field)) for (name, own), some in pairs})


def _plain(several: Sequence[np.ndarray[Any, Any]], field: pa.Field) -> np.ndarray[Any, Any]:
    labels, kind = np.concatenate(several) if several else np.empty(0, object), field.type
    dtype = plain_dtype(field)
    if dtype.kind == "U":
        return np.asarray(["" if label is None else str(label) for label in labels], dtype=np.str_)
    if labels.dtype != object:
        return labels.astype(dtype, copy=False)
    if pa.types.is_timestamp(kind):
        return np.asarray(pa.array(labels.tolist(), kind).cast(pa.timestamp(kind.unit)).to_numpy(zero_copy_only=False))
    plain = np.asarray([np.nan if label is None else label for label in labels], dtype=dtype)
    for label, stored in zip(labels, plain, strict=True):
        if isinstance(label, int) and label != stored:
            raise DataError(f"the label {label} can't be stored: the column may have missing values, and then its "
                            "labels are float64; drop them, or make it string")  # fmt: skip
    return plain
