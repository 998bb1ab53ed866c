"""Kinds of values, missing values, and conversion from pandas.

While an expression is evaluated, a value is a Python scalar, a numpy array (numbers, booleans, times without zone,
durations, text of arrays; times of other calendars as cftime objects), or a ``pandas.Series`` with a RangeIndex if
numpy has no dtype for it (text and zoned times of columns, Python objects). So numbers and times of columns go through
the same code as those of arrays.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import cftime  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import constant_kind
from pipeline.graph.calendars import calendar_of
from pipeline.ops import whole_numbers
from pipeline.ops.column_types import TEXT

__all__ = ["NUMERIC", "TEXT", "Value", "as_bool", "as_scalar", "column_values", "is_missing", "kind", "without_index"]

Value = Any
"""A Python scalar, ``numpy.ndarray``, ``numpy.generic`` or ``pandas.Series``."""

NUMERIC = frozenset({"number", "true/false"})
"""The kinds that arithmetic treats as numbers."""

_KINDS = {
    "b": "true/false",
    "i": "number",
    "u": "number",
    "f": "number",
    "c": "number",
    "M": "time",
    "m": "duration",
    "U": "text",
    "T": "text",
    "S": "text",
}


def kind(value: Value) -> str:
    """Return ``number``, ``true/false``, ``text``, ``time``, ``zoned time``, ``duration`` or ``object`` (anything)."""
    if isinstance(value, pd.Series):
        if isinstance(value.dtype, pd.DatetimeTZDtype):
            return "zoned time"
        if isinstance(value.dtype, pd.BooleanDtype):
            return "true/false"
        return "text" if isinstance(value.dtype, pd.StringDtype) else "object"
    if isinstance(value, np.ndarray | np.generic):
        return "time" if calendar_of(value) else _KINDS.get(value.dtype.kind, "object")
    return "time" if isinstance(value, cftime.datetime) else constant_kind(value)


def is_missing(value: Value) -> Any:
    """Return where a value is missing (nan, NaT, None), as bool array or bool. Text of arrays is never missing."""
    if isinstance(value, pd.Series):
        return value.isna().to_numpy()
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind in "fc":
            return np.isnan(value)
        if value.dtype.kind in "Mm":
            return np.isnat(value)
        return pd.isna(np.asarray(value)) if value.dtype.kind == "O" else np.zeros(np.shape(value), bool)
    return bool(pd.isna(value))


def as_bool(value: Value, word: str) -> Any:
    """Return the value as booleans; missing is false.

    Parameters
    ----------
    word : the operator or function that needs them, for the message

    Raises
    ------
    ExpressionError : if the value is not boolean
    """
    value_kind = kind(value)
    if value_kind == "object":
        array = np.asarray(value, dtype=object)
        return np.equal(array, True).astype(bool) & ~pd.isna(array)
    if value_kind != "true/false":
        raise ExpressionError(f"'{word}' needs true or false, got {value_kind}; compare it: x != 0")
    return value.to_numpy(bool, na_value=False) if isinstance(value, pd.Series) else value


def as_scalar(value: Any) -> Value:
    """Return the single element of a scalar, array, column or frame, in the type that expressions use.

    Raises
    ------
    ExpressionError : if there is more than one element, or an expression cannot hold such a value
    """
    if isinstance(value, pd.DataFrame | pd.Series | pd.Index):
        # not to_numpy, which would drop the time zone
        if value.size != 1:
            raise ExpressionError(f"one value is needed, got {value.size}")
        value = value.iloc[0, 0] if isinstance(value, pd.DataFrame) else value.to_list()[0]
    elif hasattr(value, "values") and not isinstance(value, dict):
        value = value.values
    if isinstance(value, np.ndarray):
        if value.size != 1:
            raise ExpressionError(f"one value is needed, got {value.size}: an array of shape {value.shape}")
        value = value.reshape(-1)[0]
    if value is None or value is pd.NA:
        return float("nan")
    if value is pd.NaT:
        return np.datetime64("NaT", "us")
    if isinstance(value, np.generic):
        return value if value.dtype.kind in "Mm" else value.item()
    if isinstance(value, pd.Timestamp | datetime):
        moment = pd.Timestamp(value)
        return moment.to_datetime64() if moment.tzinfo is None else moment
    if isinstance(value, pd.Timedelta | timedelta):
        return pd.Timedelta(value).to_timedelta64()
    constant_kind(value)
    return value


def column_values(column: pd.Series) -> Value:
    """Return a column in the type that expressions use: nullable and Arrow types become numpy's, integers float64.

    Only booleans stay nullable, because numpy has no missing boolean.
    """
    dtype: Any = column.dtype
    if isinstance(dtype, np.dtype):
        return column.to_numpy() if dtype.kind in "biufcMm" or calendar_of(column) else without_index(column)
    if isinstance(dtype, pd.CategoricalDtype):
        return column_values(column.astype(dtype.categories.dtype))
    if isinstance(dtype, pd.DatetimeTZDtype):
        return without_index(column)
    if isinstance(dtype, pd.StringDtype):
        return without_index(column if dtype == TEXT else column.astype(TEXT))
    if isinstance(dtype, pd.ArrowDtype):
        return _from_arrow(column, dtype.pyarrow_dtype)
    return _from_masked(column, dtype)


def _from_arrow(column: pd.Series, arrow: pa.DataType) -> Value:
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow):
        return without_index(column.astype(TEXT))
    if pa.types.is_timestamp(arrow):
        if arrow.tz is not None:
            return without_index(column.astype(pd.DatetimeTZDtype(arrow.unit, arrow.tz)))
        return column.astype(np.dtype(f"M8[{arrow.unit}]")).to_numpy()
    if pa.types.is_date(arrow):
        return column.astype(np.dtype("M8[s]")).to_numpy()
    if pa.types.is_duration(arrow):
        return column.astype(np.dtype(f"m8[{arrow.unit}]")).to_numpy()
    if pa.types.is_decimal(arrow):
        return column.to_numpy(np.float64, na_value=np.nan)
    if pa.types.is_dictionary(arrow):
        return column_values(column.astype(pd.ArrowDtype(arrow.value_type)))
    if pa.types.is_boolean(arrow) or pa.types.is_integer(arrow) or pa.types.is_floating(arrow):
        return _from_masked(column, np.dtype(arrow.to_pandas_dtype()))
    return without_index(column.astype(object))


def _from_masked(column: pd.Series, dtype: Any) -> Value:
    plain = np.dtype(getattr(dtype, "numpy_dtype", dtype if isinstance(dtype, np.dtype) else object))
    if plain.kind == "b":
        return without_index(column.astype("boolean"))
    if plain.kind == "f":
        return column.to_numpy(plain, na_value=np.nan)
    if plain.kind in "iu":
        # float64 even if none is missing: the same dtype in all partitions
        whole_numbers.cast(column.dropna().to_numpy(plain), np.dtype(np.float64))
        return column.to_numpy(np.float64, na_value=np.nan)
    return without_index(column.astype(object))


def without_index(column: pd.Series) -> pd.Series:
    """Return the column with a RangeIndex, without a copy, so that pandas does not align by the index."""
    return pd.Series(column.array, copy=False)
