"""Write labels that are computed in the run into files, next to the coordinates known before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.graph.value_types import LabelsType

__all__ = ["plain_dtype", "with_labels"]


def plain_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the numpy dtype in which labels of a pandas dtype are stored in a file; text where there is no other.

    Numbers that may be missing become float64, times with a zone become times in UTC.
    """
    if isinstance(dtype, pd.CategoricalDtype):
        return plain_dtype(dtype.categories.dtype)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return np.dtype(f"datetime64[{dtype.unit}]")
    if isinstance(dtype, np.dtype) and dtype.kind in "biufmM":
        return dtype
    number = pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
    return np.dtype(np.float64 if number else np.str_)


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
    return template.assign_coords({name: (own.dim, _plain(some, own.dtype)) for (name, own), some in pairs})


def _plain(several: Sequence[np.ndarray[Any, Any]], dtype: Any) -> np.ndarray[Any, Any]:
    column = pd.concat([pd.Series(values, dtype=dtype) for values in several], ignore_index=True)
    kind = plain_dtype(dtype)
    if kind.kind == "U":
        return np.asarray(column.astype("string").fillna("").to_numpy(dtype=object), dtype=np.str_)
    if isinstance(dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return np.asarray(column.to_numpy(dtype=kind, na_value=np.nan) if kind.kind == "f" else column.to_numpy(dtype=kind))
