"""Kinds of values and missing values, of expressions over arrays, coordinates and scalars.

While an expression is evaluated, a value is a Python scalar, a numpy array (numbers, booleans, times without zone,
durations, text of arrays; times of other calendars as cftime objects), or a ``pandas.Series`` with a RangeIndex if
numpy has no dtype for it (text and zoned times of coordinates, Python objects).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import constant_kind
from pipeline.graph.calendars import calendar_of
from pipeline.graph.importing import Deferred

if TYPE_CHECKING:
    import cftime  # type: ignore[import-untyped]
    import pandas as pd
else:
    cftime = Deferred("cftime")
    pd = Deferred("pandas")

__all__ = ["NUMERIC", "TEXT", "Value", "as_bool", "coordinate_values", "is_missing", "kind"]

Value = Any
"""A Python scalar, ``numpy.ndarray``, ``numpy.generic`` or ``pandas.Series``."""

TEXT: Literal["str"] = "str"
"""The dtype of text in pandas."""

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


def coordinate_values(coordinate: np.ndarray[Any, Any]) -> Value:
    """Return a coordinate in the type that expressions use: numbers and times as they are, text as a column."""
    if coordinate.dtype.kind in "biufcMm" or calendar_of(coordinate):
        return coordinate
    return pd.Series(coordinate)
