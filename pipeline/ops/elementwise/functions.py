"""Functions of numbers, choices and conversions; the table of all functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import Months, parse_duration, parse_time
from pipeline.graph.calendars import calendar_of, time_texts
from pipeline.graph.importing import Deferred
from pipeline.ops import whole_numbers
from pipeline.ops.elementwise.calendar_times import in_one_calendar
from pipeline.ops.elementwise.kinds import NUMERIC, TEXT, Value, as_bool, is_missing, kind
from pipeline.ops.elementwise.operators import as_numbers, as_pandas, compare_values, require_same_kind
from pipeline.ops.elementwise.scalars import as_scalar
from pipeline.ops.elementwise.texts import TEXT_FUNCTIONS
from pipeline.ops.elementwise.time_units import are_times, in_one_unit
from pipeline.ops.elementwise.times import PARTS, convert, floor_time, localize, parse_times, strftime, time_component

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Deferred("pandas")

__all__ = ["IMPLEMENTATIONS", "MISSING"]

MISSING = object()
"""The value of ``missing``, until ``where`` gives it the type of its other choice."""


def _numeric(function: Callable[..., Any], name: str, *more: str) -> Callable[..., Any]:
    """Return a numpy function that takes numbers, and values of the kinds ``more``."""

    def prepared(value: Value) -> Value:
        value_kind = kind(value)
        if value_kind not in NUMERIC and value_kind != "object" and value_kind not in more:
            raise ExpressionError(f"{name}(x) needs numbers, got {value_kind}")
        whole = isinstance(value, np.ndarray) and value.dtype.kind in "iu" and name in _NUMPY
        # numpy computes the root of an int8 in float16
        return _as_float(value) if whole or value_kind == "object" else as_numbers(value)

    def call(*values: Value) -> Value:
        return function(*map(prepared, values))

    return call


def _as_float(value: Value) -> Any:
    return np.asarray(value, dtype=np.float64)


def _where(condition: Value, a: Value, b: Value, *, columns: bool) -> Value:
    for one, other in ((a, b), (b, a)):
        if isinstance(one, float) and one != one and kind(other) not in NUMERIC | {"object"}:
            raise ExpressionError(f"nan is a number; for a missing {kind(other)} write missing")
    if a is MISSING or b is MISSING:
        chosen = np.asarray(as_bool(condition, "where"))
        return _or_missing(chosen, a, columns) if b is MISSING else _or_missing(~chosen, b, columns)
    require_same_kind(a, b)
    a, b = _of_one_kind(a, b)
    chosen = np.asarray(as_bool(condition, "where"))
    if not columns or not any(isinstance(v, pd.Series | pd.Timestamp) or kind(v) == "text" for v in (a, b)):
        return _chosen(chosen, a, b)
    if chosen.ndim == 0:
        return a if chosen else b
    return _spread(a, len(chosen), b).where(chosen, b)


def _chosen(condition: Any, a: Value, b: Value) -> Any:
    numbers = kind(a) == kind(b) == "number"
    return whole_numbers.choose(condition, a, b) if numbers else np.where(condition, *_alike(a, b))


def _or_missing(chosen: np.ndarray, value: Value, columns: bool) -> Value:
    """Return the value where it is chosen, elsewhere a missing value of its type.

    Raises
    ------
    ExpressionError : arrays have no missing value of this type
    """
    value_kind, dtype = kind(value), getattr(value, "dtype", np.asarray(value).dtype)
    whole = value_kind == "number" and getattr(dtype, "kind", "") not in "fc"
    if not columns and (whole or value_kind in {"text", "true/false"}):
        names = {"text": ("text", "''"), "true/false": ("truth values", "False, or where(c, number(x), nan)")}
        what, cure = names.get(value_kind, ("whole numbers", "nan, which gives floats"))
        raise ExpressionError(f"where(…, missing): arrays of {what} have no missing value; write {cure}")
    if value_kind == "true/false":
        size = chosen.shape or np.shape(value)
        return pd.Series(np.broadcast_to(value, size), dtype="boolean").where(np.broadcast_to(chosen, size))
    if isinstance(value, pd.Series | pd.Timestamp) or (columns and value_kind == "text"):
        n = chosen.size if chosen.ndim else np.size(value)
        return _spread(value, n, value).where(np.broadcast_to(chosen, n))
    if value_kind == "number":
        value = _as_float(value) if whole else np.asarray(value)
        return np.where(chosen, value, np.array(np.nan, value.dtype))
    missing = None if calendar_of(value) or value_kind == "object" else np.array("NaT", dtype)
    return np.where(chosen, value, missing)


def _of_one_kind(a: Value, b: Value) -> tuple[Value, Value]:
    """Convert booleans to numbers if the other value is a number."""
    return (as_numbers(a), as_numbers(b)) if {kind(a), kind(b)} == NUMERIC else (a, b)


def _spread(value: Value, n: int, like: Value) -> pd.Series:
    """Return the value as a Series of ``n`` rows, with the dtype of ``like`` if that is a Series."""
    if isinstance(value, pd.Series):
        return value
    if isinstance(value, str):
        return pd.Series([value] * n, dtype=TEXT)
    dtype = like.dtype if isinstance(like, pd.Series) else pd.Series([value]).dtype
    found: pd.Series = pd.Series(value if isinstance(value, np.ndarray) else [as_pandas(value)] * n, dtype=dtype)
    return found


def _alike(a: Value, b: Value) -> tuple[Value, Value]:
    """Return two values in one calendar and one unit."""
    a, b = in_one_calendar(a, b)
    return in_one_unit(a, b) if are_times(a, b) else (a, b)


def _extreme(op: str, ufunc: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Value, b: Value) -> Value:
        require_same_kind(a, b)
        if "text" in (kind(a), kind(b)):
            raise ExpressionError("minimum and maximum are for numbers and times, not for text")
        a, b = as_numbers(a), as_numbers(b)
        if not isinstance(a, pd.Series) and not isinstance(b, pd.Series):
            return whole_numbers.extreme(op, a, b) if kind(a) == "number" else ufunc(*_alike(a, b))
        if not isinstance(a, pd.Series):
            a, b = b, a
        chosen = compare_values(op, a, b) | np.asarray(is_missing(a))  # missing stays missing
        return a.where(pd.Series(chosen), b)

    return call


def _fill(x: Value, v: Value) -> Value:
    require_same_kind(x, v)
    x, v = _of_one_kind(x, v)
    missing = is_missing(x)
    if isinstance(v, pd.Series) and isinstance(x, np.ndarray):
        x = _spread(x, len(v), v)
    if isinstance(x, pd.Series):
        return x.where(~pd.Series(missing), as_pandas(v))
    if isinstance(x, np.ndarray | np.generic):
        return _chosen(missing, v, x)
    return v if missing else x


def _isfinite(x: Value) -> Any:
    value_kind = kind(x)
    if value_kind in {"text", "true/false"}:
        raise ExpressionError(f"isfinite(x) needs numbers, got {value_kind}")
    if isinstance(x, pd.Series):
        return np.isfinite(_as_float(x)) if value_kind == "object" else ~is_missing(x)
    return np.isfinite(x)


def _parsed(x: Value, name: str) -> Any:
    """Parse numbers from text; float64 if one is missing."""
    try:
        return pd.to_numeric(x if isinstance(x, pd.Series) else pd.Series(np.ravel(x))).to_numpy().reshape(np.shape(x))
    except ValueError as error:
        raise ExpressionError(f"{name}(x): {error}") from None


def _number(x: Value) -> Value:
    value_kind = kind(x)
    if value_kind == "text":
        return _parsed(x, "number").astype(np.float64)[()]
    if value_kind == "duration":
        return x / np.timedelta64(1, "s")
    if value_kind in {"time", "zoned time"}:
        raise ExpressionError("number(x) needs numbers, text or a duration; for a time write year(t), or t - date('…')")
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return x
    return _as_float(as_numbers(x))[()]


def _integer(x: Value) -> Value:
    """Return whole numbers, rounded towards zero; float64 with nan if one is missing, which the caller handles."""
    value_kind = kind(x)
    if value_kind not in NUMERIC | {"text", "object"}:
        raise ExpressionError(f"integer(x) needs numbers or text, got {value_kind}")
    given = _parsed(x, "integer") if value_kind == "text" else _as_float(x) if value_kind == "object" else as_numbers(x)
    numbers = np.asarray(given)
    if numbers.dtype.kind != "f":
        return whole_numbers.cast(numbers, np.dtype(np.int64))[()]
    if np.isinf(numbers).any():
        raise ExpressionError("integer(x): got an infinite number")
    if value_kind == "text" and np.any(np.abs(numbers) >= 2**53):
        raise ExpressionError("integer(x): got a whole number beyond 2**53 beside a fraction or a missing text")
    missing = np.isnan(numbers)
    whole = whole_numbers.truncated(np.where(missing, 0, numbers))
    return np.where(missing, np.nan, whole)[()] if missing.any() else whole[()]


def _boolean(x: Value) -> Value:
    value_kind = kind(x)
    if value_kind == "text":
        lower = x.str.lower() if isinstance(x, pd.Series) else np.strings.lower(np.asarray(x))
        if np.any(compare_values("!=", lower, "true") & compare_values("!=", lower, "false")):
            raise ExpressionError("boolean(x): got text other than 'true' and 'false'")
        return compare_values("==", lower, "true")
    return as_bool(x, "boolean") if value_kind in {"true/false", "object"} else compare_values("!=", x, 0)


def _text(x: Value, *, columns: bool) -> Value:
    value_kind = kind(x)
    if value_kind == "text":
        return x
    if isinstance(x, pd.Series):
        return (
            x.map(lambda t: t.isoformat(), na_action="ignore").astype(TEXT)
            if value_kind == "zoned time"
            else x.astype(TEXT)
        )
    array = np.asarray(x)
    if value_kind == "duration":
        array = array / np.timedelta64(1, "s")
    if calendar_of(array):
        written = np.where(is_missing(array), "", time_texts(array)).astype("U32")
    elif value_kind == "time" and array.size:  # numpy fails on an empty one
        written = np.strings.replace(np.datetime_as_string(array, unit="us"), ".000000", "")
    else:
        written = array.astype("U32")
    missing = is_missing(array)
    if columns and array.ndim:
        return pd.Series(written, dtype=TEXT).where(pd.Series(~missing))
    return np.where(missing, "", written).astype("U32")[()]


def _abs(x: Value) -> Value:
    return whole_numbers.absolute(x) if whole_numbers.is_whole(x) else np.abs(x)


def _round(x: Value, digits: int = 0) -> Value:
    return whole_numbers.rounded(x, digits) if whole_numbers.is_whole(x) else np.round(x, digits)


_NUMPY = (
    *("sqrt", "exp", "log", "log10", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2"),
    *("deg2rad", "rad2deg"),
)
IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    **{name: _numeric(getattr(np, name), name) for name in _NUMPY},
    **{name: _numeric(getattr(np, name), name) for name in ("sign", "floor", "ceil")},
    "abs": _numeric(_abs, "abs", "duration"),
    "round": _numeric(_round, "round"),
    "minimum": _extreme("<=", np.minimum),
    "maximum": _extreme(">=", np.maximum),
    "where": _where,
    "missing": is_missing,
    "fill": _fill,
    "isfinite": _isfinite,
    "number": _number,
    "integer": _integer,
    "text": _text,
    "boolean": _boolean,
    "floor_time": floor_time,
    "strftime": strftime,
    "parse_time": parse_times,
    "localize": localize,
    "convert": convert,
    **TEXT_FUNCTIONS,
}


def _clip(x: Value, low: Value, high: Value) -> Value:
    return IMPLEMENTATIONS["minimum"](IMPLEMENTATIONS["maximum"](x, low), high)


def _constant_of_time(value: Value) -> Value:
    """Evaluate ``date(${x})`` or ``timestamp(${x})`` of a text that is unknown until run time."""
    return as_scalar(parse_time(value))


def _constant_duration(value: Value = None, **lengths: Any) -> Value:
    if lengths:
        return Months(sum(int(n) * {"years": 12, "quarters": 3, "months": 1}[name] for name, n in lengths.items()))
    return as_scalar(parse_duration(value))


def _part_function(name: str) -> Callable[[Value], Value]:
    def call(t: Value) -> Value:
        return time_component(name, t)

    return call


IMPLEMENTATIONS |= {
    "clip": _clip,
    "date": _constant_of_time,
    "timestamp": _constant_of_time,
    "duration": _constant_duration,
    **{name: _part_function(name) for name in PARTS},
}
