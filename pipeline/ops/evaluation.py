"""The evaluation of expressions: one walk, and one meaning, for arrays and for columns.

Rules that numpy and pandas do not share are settled here: a comparison with a missing value is false, ``!=`` and ``not
in`` too; true and false count as 1 and 0 in arithmetic; ``/`` is true division; values of two kinds never compare.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Protocol

import numpy as np
import pandas as pd

from pipeline.expressions.functions import FUNCTIONS, duration, moment
from pipeline.expressions.references import ExpressionError
from pipeline.expressions.tree import (
    Binary,
    Boolean,
    Bound,
    Call,
    Compare,
    Constant,
    Membership,
    Node,
    Unary,
    arithmetic,
    compare,
    render,
    unlike,
)
from pipeline.ops.kinds import TEXT, Value, is_missing, kind, scalar, truth
from pipeline.ops.texts import TEXT_FUNCTIONS
from pipeline.ops.times import convert, floor_time, localize, part

__all__ = ["Lookup", "SlotLookup", "evaluate"]


class Lookup(Protocol):
    """Gives the value of a Name or a Bound; ``columns`` says that text is a pandas column, not a numpy array."""

    columns: bool

    def __call__(self, node: Node) -> Value: ...


class SlotLookup:
    """The values of Bounds, by their slots; text is numpy's."""

    columns = False

    def __init__(self, values: Sequence[Value]) -> None:
        self.values = values

    def __call__(self, node: Node) -> Value:
        if not isinstance(node, Bound):
            raise ExpressionError(f"{render(node)} is not bound to a value")
        return self.values[node.slot]


_UFUNCS: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.true_divide,
    "//": np.floor_divide,
    "%": np.mod,
    "**": np.power,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_NUMERIC = frozenset({"number", "true/false"})
# (operator, left, right) that have a meaning although a time or a duration takes part
_OF_TIMES = frozenset(
    {
        ("-", "time", "time"),
        ("-", "zoned time", "zoned time"),
        *((op, time, "duration") for op in "+-" for time in ("time", "zoned time", "duration")),
        ("+", "duration", "time"),
        ("+", "duration", "zoned time"),
        ("*", "number", "duration"),
        ("*", "duration", "number"),
        ("/", "duration", "number"),
        *((op, "duration", "duration") for op in ("/", "//", "%")),
    }
)


def evaluate(node: Node, lookup: Lookup) -> Value:
    """The value of the tree ``node``.

    Raises
    ------
    ExpressionError : if the kinds of the values don't go together
    """
    with np.errstate(all="ignore"):
        return _value(node, lookup)


def _value(node: Node, lookup: Lookup) -> Value:
    match node:
        case Constant(value):
            return scalar(value) if isinstance(value, datetime | timedelta) else value
        case Unary("not", operand):
            return np.logical_not(truth(_value(operand, lookup), "not"))
        case Unary(op, operand):
            return _arithmetic("*", _value(operand, lookup), -1 if op == "-" else 1)
        case Binary(op, left, right):
            return _arithmetic(op, _value(left, lookup), _value(right, lookup))
        case Compare(first, ops, rest):
            values = [_value(first, lookup), *(_value(x, lookup) for x in rest)]
            links = (_compare(op, a, b) for op, a, b in zip(ops, values, values[1:], strict=False))
            return reduce(np.logical_and, links)
        case Boolean(op, operands):
            truths = (truth(_value(x, lookup), op) for x in operands)
            return reduce(np.logical_and if op == "and" else np.logical_or, truths)
        case Membership(operand, constants, negated, listed):
            found = [_value(x, lookup) for x in constants]
            return _membership(_value(operand, lookup), list(found[0]) if listed else found, negated)
        case Call(function, args, keywords):
            given = {name: _value(x, lookup) for name, x in keywords}
            if function in {"text", "where"}:
                given["columns"] = lookup.columns
            values = [_value(x, lookup) for x in args]
            for at, parameter in enumerate(FUNCTIONS[function].parameters[: len(values)]):
                if parameter.kind == "int":
                    values[at] = int(values[at])  # from the run it comes as a float
            return _FUNCTIONS[function](*values, **given)
    return lookup(node)


# ---------------------------------------------------------------------------------------------------------------------
# Operators
# ---------------------------------------------------------------------------------------------------------------------


def _plain(*values: Value) -> bool:
    return all(isinstance(value, bool | int | float | str) for value in values)


def _numpy(value: Value) -> Value:
    """A Series of what numpy has a type for as an array."""
    if isinstance(value, pd.Series) and isinstance(value.dtype, np.dtype) and value.dtype.kind != "O":
        return value.to_numpy()
    return value


def _numbers(value: Value) -> Value:
    """True and false as 1 and 0; as floats in a column where they may be missing."""
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, pd.Series) and isinstance(value.dtype, pd.BooleanDtype):
        return value.to_numpy(np.float64, na_value=np.nan)
    return value.astype(np.int64) if isinstance(value, np.ndarray) and value.dtype.kind == "b" else value


def _arithmetic(op: str, a: Value, b: Value) -> Value:
    if _plain(a, b):
        return arithmetic(op, a, b)
    kinds = ("number" if k == "true/false" else k for k in (kind(a), kind(b)))
    left, right = kinds
    a, b = _numbers(a), _numbers(b)
    if "object" not in (left, right) and {left, right} != {"number"} and (op, left, right) not in _OF_TIMES:
        raise ExpressionError(_no_arithmetic(op, left, right))
    if isinstance(a, pd.Series | pd.Timestamp) or isinstance(b, pd.Series | pd.Timestamp):
        return _numpy(_OPERATORS[op](_beside_pandas(a), _beside_pandas(b)))
    if op == "**" and isinstance(b, int) and b < 0:
        b = float(b)  # numpy refuses whole numbers to negative powers
    return _UFUNCS[op](*_held(a, b))


def _held(*values: Value) -> list[Value]:
    """The values, with whole numbers that an array of small ones among them can't hold as what numpy widens it for.

    numpy refuses ``uint8 + 300``, and makes 44 of the 300 in a ``where``.
    """
    limits = [np.iinfo(v.dtype) for v in values if isinstance(v, np.ndarray | np.generic) and v.dtype.kind in "iu"]
    return [_typed(v) if type(v) is int and not all(one.min <= v <= one.max for one in limits) else v for v in values]


def _typed(number: int) -> Any:
    if number >= 1 << 63:
        return np.uint64(number)
    return np.int64(number) if number >= -1 << 63 else float(number)


def _beside_pandas(value: Value) -> Value:
    if isinstance(value, np.datetime64):
        return pd.Timestamp(value)
    if isinstance(value, np.timedelta64):
        return pd.Timedelta(value)
    return pd.Series(value) if isinstance(value, np.ndarray) and value.ndim == 1 else value


def _no_arithmetic(op: str, left: str, right: str) -> str:
    kinds = {left, right}
    if "text" in kinds:
        return f"got text beside '{op}'; to join text write concat(a, b), for a number number(x)"
    if kinds == {"time", "zoned time"}:
        return unlike(left, right)
    if "number" in kinds:
        return f"'{op}' has no meaning between {left} and {right}; a length of time is written duration('5min')"
    return f"'{op}' has no meaning between {left} and {right}"


def _check_alike(a: Value, b: Value) -> None:
    left, right = kind(a), kind(b)
    if left != right and not {left, right} <= _NUMERIC and "object" not in (left, right):
        raise ExpressionError(unlike(left, right))


def _compare(op: str, a: Value, b: Value) -> Any:
    if _plain(a, b):
        return compare(op, a, b)
    _check_alike(a, b)
    if isinstance(a, pd.Series | pd.Timestamp) or isinstance(b, pd.Series | pd.Timestamp):
        found = _OPERATORS[op](_beside_pandas(a), _beside_pandas(b))
        result = found.fillna(False).to_numpy(bool) if isinstance(found, pd.Series) else found
    else:
        result = _UFUNCS[op](a, b)
    return result & ~_any_missing(a, b) if op == "!=" else result


def _any_missing(a: Value, b: Value) -> Any:
    return np.logical_or(is_missing(a), is_missing(b))


def _membership(value: Value, constants: Sequence[Value], negated: bool) -> Any:
    for constant in constants:
        _check_alike(value, constant)
    if isinstance(value, pd.Series) and kind(value) == "text":
        found: Any = value.isin([c for c in constants if not pd.isna(c)]).to_numpy()
    elif isinstance(value, np.ndarray) and kind(value) in _NUMERIC and constants and _plain(*constants):
        # as comparisons would: 0.1 is a float32 beside float32
        dtype = np.result_type(*_held(value, *constants))
        found = np.isin(value, np.array(constants, dtype=dtype))
    else:
        found = reduce(np.logical_or, (_compare("==", value, c) for c in constants), np.zeros(np.shape(value), bool))
    return np.logical_not(found) & ~np.asarray(is_missing(value)) if negated else found


# ---------------------------------------------------------------------------------------------------------------------
# Functions
# ---------------------------------------------------------------------------------------------------------------------


def _numeric(function: Callable[..., Any], name: str, *more: str) -> Callable[..., Any]:
    """A function of numpy for numbers, and for the kinds ``more``."""

    def prepared(value: Value) -> Value:
        said = kind(value)
        if said not in _NUMERIC and said != "object" and said not in more:
            raise ExpressionError(f"{name}(x) needs numbers, and got {said}")
        whole = isinstance(value, np.ndarray) and value.dtype.kind in "iu" and name in _NUMPY
        # numpy takes the root of an int8 in float16
        return _as_float(value) if whole or said == "object" else _numbers(value)

    def call(*values: Value) -> Value:
        return function(*map(prepared, values))

    return call


def _as_float(value: Value) -> Any:
    return np.asarray(value, dtype=np.float64)


def _where(condition: Value, a: Value, b: Value, *, columns: bool) -> Value:
    _check_alike(a, b)
    a, b = _held(*_of_one_kind(a, b))
    chosen = np.asarray(truth(condition, "where"))
    if not columns or not any(isinstance(v, pd.Series | pd.Timestamp) or kind(v) == "text" for v in (a, b)):
        return np.where(chosen, a, b)
    if chosen.ndim == 0:
        return a if chosen else b
    return _spread(a, len(chosen), b).where(chosen, b)


def _of_one_kind(a: Value, b: Value) -> tuple[Value, Value]:
    """True and false as numbers where the other one is a number."""
    return (_numbers(a), _numbers(b)) if {kind(a), kind(b)} == _NUMERIC else (a, b)


def _spread(value: Value, n: int, like: Value) -> pd.Series:
    """The value as a Series of ``n`` rows, of the dtype that the other one has where that is a Series."""
    if isinstance(value, pd.Series):
        return value
    if isinstance(value, str):
        return pd.Series([value] * n, dtype=TEXT)
    if isinstance(value, np.ndarray):
        return pd.Series(value, dtype=like.dtype)
    dtype = like.dtype if isinstance(like, pd.Series) else pd.Series([value]).dtype
    return pd.Series([_beside_pandas(value)] * n, dtype=dtype)


def _extreme(op: str, ufunc: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Value, b: Value) -> Value:
        _check_alike(a, b)
        if "text" in (kind(a), kind(b)):
            raise ExpressionError("minimum and maximum are for numbers and times, not for text")
        a, b = _numbers(a), _numbers(b)
        if not isinstance(a, pd.Series) and not isinstance(b, pd.Series):
            return ufunc(*_held(a, b))
        if not isinstance(a, pd.Series):
            a, b = b, a
        chosen = _compare(op, a, b) | np.asarray(is_missing(a))  # what is missing stays so
        return a.where(pd.Series(chosen), b)

    return call


def _fill(x: Value, v: Value) -> Value:
    _check_alike(x, v)
    x, v = _of_one_kind(x, v)
    missing = is_missing(x)
    if isinstance(v, pd.Series) and isinstance(x, np.ndarray):
        x = _spread(x, len(v), v)
    if isinstance(x, pd.Series):
        return x.where(~pd.Series(missing), _beside_pandas(v))
    if isinstance(x, np.ndarray | np.generic):
        return np.where(missing, v, x)
    return v if missing else x


def _isfinite(x: Value) -> Any:
    said = kind(x)
    if said in {"text", "true/false"}:
        raise ExpressionError(f"isfinite(x) needs numbers, and got {said}")
    if isinstance(x, pd.Series):
        return np.isfinite(_as_float(x)) if said == "object" else ~is_missing(x)
    return np.isfinite(x)


def _parsed(x: Value, name: str) -> Any:
    """Numbers from text; float64 where one is missing."""
    try:
        return pd.to_numeric(x).to_numpy() if isinstance(x, pd.Series) else np.asarray(x).astype(np.float64)
    except ValueError as error:
        raise ValueError(f"{name}(x): {error}") from None


def _number(x: Value) -> Value:
    said = kind(x)
    if said == "text":
        return _parsed(x, "number").astype(np.float64)[()]
    if said == "duration":
        return x / np.timedelta64(1, "s")
    if said in {"time", "zoned time"}:
        raise ExpressionError("number(x) needs numbers, text or a duration; of a time take year(t), or t - date('…')")
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return x
    return _as_float(_numbers(x))[()]


def _integer(x: Value) -> Value:
    """Whole numbers, towards zero; float64 with nan where one is missing, for the caller to settle."""
    said = kind(x)
    if said not in _NUMERIC | {"text", "object"}:
        raise ExpressionError(f"integer(x) needs numbers or text, and got {said}")
    numbers = np.asarray(_parsed(x, "integer") if said == "text" else _as_float(x) if said == "object" else _numbers(x))
    if numbers.dtype.kind != "f":
        return numbers.astype(np.int64)[()]
    if np.isinf(numbers).any():
        raise ValueError("integer(x): got an infinite number")
    return np.trunc(numbers)[()] if np.isnan(numbers).any() else numbers.astype(np.int64)[()]


def _boolean(x: Value) -> Value:
    said = kind(x)
    if said == "text":
        lower = x.str.lower() if isinstance(x, pd.Series) else np.strings.lower(np.asarray(x))
        result, wrong = _compare("==", lower, "true"), _compare("!=", lower, "true") & _compare("!=", lower, "false")
        if np.any(wrong):
            raise ValueError("boolean(x): a text is neither 'true' nor 'false'")
        return result
    return truth(x, "boolean") if said in {"true/false", "object"} else _compare("!=", x, 0)


def _text(x: Value, *, columns: bool) -> Value:
    said = kind(x)
    if said == "text":
        return x
    if isinstance(x, pd.Series):
        return (
            x.map(lambda t: t.isoformat(), na_action="ignore").astype(TEXT) if said == "zoned time" else x.astype(TEXT)
        )
    array = np.asarray(x)
    if said == "duration":
        array = array / np.timedelta64(1, "s")
    if said == "time" and array.size:  # numpy fails on an empty one
        written = np.strings.replace(np.datetime_as_string(array, unit="us"), ".000000", "")
    else:
        written = array.astype("U32")
    missing = is_missing(array)
    if columns and array.ndim:
        return pd.Series(written, dtype=TEXT).where(pd.Series(~missing))
    return np.where(missing, "", written).astype("U32")[()]


_NUMPY = (
    *("sqrt", "exp", "log", "log10", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2"),
    *("deg2rad", "rad2deg"),
)
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _numeric(getattr(np, name), name) for name in _NUMPY},
    **{name: _numeric(getattr(np, name), name) for name in ("sign", "floor", "ceil")},
    "abs": _numeric(np.abs, "abs", "duration"),
    "round": _numeric(np.round, "round"),
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
    "localize": localize,
    "convert": convert,
    **TEXT_FUNCTIONS,
}


def _clip(x: Value, low: Value, high: Value) -> Value:
    return _FUNCTIONS["minimum"](_FUNCTIONS["maximum"](x, low), high)


def _constant_of_time(value: Value) -> Value:
    """``date(${x})`` and the like, where the text is known only in the run."""
    return scalar(moment(value))


def _constant_duration(value: Value) -> Value:
    return scalar(duration(value))


def _part_function(name: str) -> Callable[[Value], Value]:
    def call(t: Value) -> Value:
        return part(name, t)

    return call


_FUNCTIONS |= {
    "clip": _clip,
    "date": _constant_of_time,
    "timestamp": _constant_of_time,
    "duration": _constant_duration,
    **{name: _part_function(name) for name in ("year", "month", "day", "hour", "weekday", "dayofyear")},
}
