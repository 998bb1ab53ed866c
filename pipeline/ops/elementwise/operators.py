"""Arithmetic, comparisons and ``in`` for values in memory.

Where numpy and pandas differ, one rule holds here: a comparison with a missing value is false, ``!=`` and ``not in``
included; booleans count as 1 and 0 in arithmetic; ``/`` is true division; values of different kinds cannot be compared;
whole numbers are exact, or the task fails (``pipeline.ops.whole_numbers``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import Months
from pipeline.config.expressions.tree import ARITHMETIC, COMPARISONS, arithmetic, compare, mismatch_message
from pipeline.graph.calendars import calendar_of
from pipeline.graph.importing import Deferred
from pipeline.ops import whole_numbers
from pipeline.ops.elementwise.calendar_times import compare_times, shift_times
from pipeline.ops.elementwise.definitions import OF_TIMES, no_arithmetic
from pipeline.ops.elementwise.kinds import NUMERIC, Value, is_missing, kind
from pipeline.ops.elementwise.time_units import are_times, comparable, shifted
from pipeline.ops.elementwise.times import shift_months

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Deferred("pandas")

__all__ = [
    "apply_arithmetic",
    "apply_sign",
    "as_numbers",
    "as_pandas",
    "compare_values",
    "is_in",
    "require_same_kind",
]

_UFUNCS: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.true_divide,
    "//": np.floor_divide,
    "%": np.mod,
    "**": np.power,
}
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {**ARITHMETIC, **COMPARISONS}


def are_constants(*values: Value) -> bool:
    return all(isinstance(value, bool | int | float | str) for value in values)


def _numpy(value: Value) -> Value:
    """Convert a Series to an array if numpy has a dtype for it."""
    if isinstance(value, pd.Series) and isinstance(value.dtype, np.dtype) and value.dtype.kind != "O":
        return value.to_numpy()
    return value


def as_numbers(value: Value) -> Value:
    """Convert booleans to 1 and 0; to floats in a column that may have missing values."""
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, pd.Series) and isinstance(value.dtype, pd.BooleanDtype):
        return value.to_numpy(np.float64, na_value=np.nan)
    return value.astype(np.int64) if isinstance(value, np.ndarray) and value.dtype.kind == "b" else value


def apply_arithmetic(op: str, a: Value, b: Value, *, columns: bool = False, checked: bool = True) -> Value:
    """Return ``a op b``.

    Parameters
    ----------
    columns : whether whole numbers divided by zero are missing; else that is an error
    checked : false: only the dtype of the result matters, so no whole number is too large
    """
    if are_constants(a, b):
        return arithmetic(op, a, b)
    kinds = ("number" if k == "true/false" else k for k in (kind(a), kind(b)))
    left, right = kinds
    a, b = as_numbers(a), as_numbers(b)
    if "object" not in (left, right) and {left, right} != {"number"} and (op, left, right) not in OF_TIMES:
        raise ExpressionError(no_arithmetic(op, left, right))
    if isinstance(a, Months) or isinstance(b, Months):
        if isinstance(a, Months) and isinstance(b, Months):
            return _OPERATORS[op](a, b)
        time, months = (b, a) if isinstance(a, Months) else (a, b)
        return shift_months(time, months.n if op == "+" else -months.n)
    if isinstance(a, pd.Series | pd.Timestamp) or isinstance(b, pd.Series | pd.Timestamp):
        return _numpy(_OPERATORS[op](as_pandas(a), as_pandas(b)))
    if calendar_of(a) or calendar_of(b):
        return shift_times(_UFUNCS[op], a, b)
    if op in ("+", "-") and checked and are_times(a, b):
        return shifted(_UFUNCS[op], a, b)
    if op == "**" and isinstance(b, int) and b < 0:
        b = float(b)  # numpy refuses whole numbers to negative powers
    if op != "/" and all(isinstance(value, int) or whole_numbers.is_whole(value) for value in (a, b)):
        return whole_numbers.arithmetic(op, a, b, checked=checked, missing=columns)
    if op == "/":  # numpy refuses uint8 / 300
        a, b = (float(value) if type(value) is int else value for value in (a, b))
    return _UFUNCS[op](a, b)


def apply_sign(op: str, value: Value, *, checked: bool = True) -> Value:
    """Return ``-value`` or ``+value``."""
    value = as_numbers(value)
    if not whole_numbers.is_whole(value):
        return apply_arithmetic("*", value, -1 if op == "-" else 1)
    return whole_numbers.arithmetic("-", 0, value, checked=checked) if op == "-" else value


def as_pandas(value: Value) -> Value:
    if isinstance(value, np.datetime64):
        return pd.Timestamp(value)
    if isinstance(value, np.timedelta64):
        return pd.Timedelta(value)
    return pd.Series(value) if isinstance(value, np.ndarray) and value.ndim == 1 else value


def require_same_kind(a: Value, b: Value) -> None:
    left, right = kind(a), kind(b)
    if left != right and not {left, right} <= NUMERIC and "object" not in (left, right):
        raise ExpressionError(mismatch_message(left, right))


def compare_values(op: str, a: Value, b: Value) -> Any:
    if are_constants(a, b):
        return compare(op, a, b)
    require_same_kind(a, b)
    if isinstance(a, pd.Series | pd.Timestamp) or isinstance(b, pd.Series | pd.Timestamp):
        found = _OPERATORS[op](as_pandas(a), as_pandas(b))
        result = found.fillna(False).to_numpy(bool) if isinstance(found, pd.Series) else found
    elif calendar_of(a) or calendar_of(b):
        result = compare_times(COMPARISONS[op], a, b)
    else:
        if are_times(a, b):
            a, b = comparable(a, b)
        result = whole_numbers.compare(op, a, b)
    return result & ~_any_missing(a, b) if op == "!=" else result


def _any_missing(a: Value, b: Value) -> Any:
    return np.logical_or(is_missing(a), is_missing(b))


def is_in(value: Value, constants: Sequence[Value], negated: bool) -> Any:
    for constant in constants:
        require_same_kind(value, constant)
    if isinstance(value, pd.Series) and kind(value) == "text":
        found: Any = value.isin([c for c in constants if not pd.isna(c)]).to_numpy()
    elif isinstance(value, np.ndarray) and kind(value) in NUMERIC and constants and are_constants(*constants):
        found = whole_numbers.is_in(value, constants)
    else:
        found = reduce(
            np.logical_or, (compare_values("==", value, c) for c in constants), np.zeros(np.shape(value), bool)
        )
    return np.logical_not(found) & ~np.asarray(is_missing(value)) if negated else found
