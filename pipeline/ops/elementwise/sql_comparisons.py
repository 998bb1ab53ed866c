"""Comparisons and ``in`` over columns as SQL: exact between all types of numbers, false where a value is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import compare as compare_constants
from pipeline.config.expressions.tree import mismatch_message
from pipeline.ops.elementwise.sql_numbers import chosen_type, is_decimal, is_float, is_whole
from pipeline.ops.elementwise.sql_types import (
    NUMERIC,
    Typed,
    as_type,
    clean,
    digits,
    finer,
    from_ticks,
    kind,
    let,
    literal,
    numeric,
    quoted,
    sql_name,
    ticks,
    ticks_of,
    true_only,
    unit_of,
)

__all__ = ["compare_values", "comparison", "is_in", "require_same_kind"]

_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_IN_LINE = 100  # a longer list is a table


def require_same_kind(a: Typed, b: Typed) -> None:
    """Check that two values can be compared.

    Raises
    ------
    ExpressionError : with how to convert one of them
    """
    left, right = kind(a), kind(b)
    if left != right and not {left, right} <= NUMERIC:
        raise ExpressionError(mismatch_message(left, right))


def compare_values(op: str, a: Typed, b: Typed) -> Typed:
    """Return ``a op b``; NULL, which means false, where a value is missing.

    Raises
    ------
    ExpressionError : values of different kinds
    """
    if a.constant and b.constant and not any(isinstance(v.constant[0], np.generic) for v in (a, b)):
        return literal(compare_constants(op, a.constant[0], b.constant[0]))
    require_same_kind(a, b)
    if kind(a) in {"list", "struct"} and (op not in ("==", "!=") or a.type != b.type):
        raise ExpressionError(f"{a.type} and {b.type} cannot be compared by '{op}'")
    missing = a.nullable or b.nullable or a.nan or b.nan
    return Typed(comparison(op, a, b), pa.bool_(), missing, loose=True)


def comparison(op: str, a: Typed, b: Typed) -> str:
    """Return the SQL of a comparison of two values of one kind."""
    if a.loose or b.loose:
        a, b = (v if not v.loose else Typed(true_only(v), v.type, False) for v in (a, b))
    if kind(a) in NUMERIC:
        return _of_numbers(op, a, b)
    if kind(a) in {"time", "zoned time", "duration"} and unit_of(a.type) != unit_of(b.type):
        return _of_units(op, a, b)
    return _plain(op, *(as_type(v, _own(v, w)) for v, w in ((a, b), (b, a))))


def _own(value: Typed, other: Typed) -> pa.DataType:
    return other.type if value.constant and not other.constant else value.type


def _plain(op: str, x: str, y: str) -> str:
    return f"({x} {'=' if op == '==' else '<>' if op == '!=' else op} {y})"


def _of_units(op: str, a: Typed, b: Typed) -> str:
    for one, other in ((a, b), (b, a)):
        if one.constant:
            count = ticks_of(one.constant[0], unit_of(other.type))
            if count is not None and abs(count) < 2**62 and (not pa.types.is_date(other.type) or count % 86_400 == 0):
                constant = from_ticks(str(count), other.type)
                return _plain(op, *((constant, other.sql) if one is a else (other.sql, constant)))
    if pa.types.is_date(a.type) or pa.types.is_date(b.type):
        stamps = [v for v in (a, b) if not pa.types.is_date(v.type)]
        if stamps and stamps[0].type.unit == "us":
            return _plain(op, as_type(a, stamps[0].type), as_type(b, stamps[0].type))
    unit = finer(unit_of(a.type), unit_of(b.type))
    return _plain(op, ticks(a, unit, wide=True), ticks(b, unit, wide=True))


# ---------------------------------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------------------------------


def _of_numbers(op: str, a: Typed, b: Typed) -> str:
    if a.constant and not b.constant:
        op, a, b = _SWAPPED[op], b, a
    if kind(a) == kind(b) == "true/false":
        return _plain(op, a.sql, b.sql)
    if is_decimal(a) or is_decimal(b):
        return _of_decimals(op, a, b)
    if b.constant:
        return _with_constant(op, a, b)
    if is_whole(a) and is_whole(b):
        return _plain(op, *_whole_pair(a, b))
    if is_float(a) and is_float(b):
        common = pa.from_numpy_dtype(np.result_type(numeric(a), numeric(b)))
        return _plain(op, *(_float(v, common) for v in (a, b)))
    if is_float(a):
        op, a, b = _SWAPPED[op], b, a
    return _whole_with_float(op, a, b)


def _float(value: Typed, target: pa.DataType) -> str:
    sql = clean(value)
    return sql if sql_name(value.type) == sql_name(target) else f"{sql}::{sql_name(target)}"


def _whole_pair(a: Typed, b: Typed) -> tuple[str, str]:
    """Two whole numbers in one type that holds both."""
    found = np.result_type(numeric(a), numeric(b))
    name = "hugeint" if found.kind == "f" else sql_name(pa.from_numpy_dtype(found))
    x, y = (v.sql if sql_name(v.type) == name else f"{v.sql}::{name}" for v in (a, b))
    return x, y


def _whole_with_float(op: str, a: Typed, b: Typed) -> str:
    x, y = a.sql, f"{clean(b)}::double"
    if numeric(a).itemsize < 8:
        return _plain(op, f"{x}::double", y)
    # rounding keeps the order: only equal roundings need the exact values
    return let(
        lambda p, q: (
            f"(case when {p}::double = {q} then {_plain(op, p + '::hugeint', q + '::hugeint')} "
            f"else {_plain(op, p + '::double', q)} end)"
        ),
        x,
        y,
    )


def _with_constant(op: str, a: Typed, b: Typed) -> str:
    value = b.constant[0]
    if isinstance(value, float) and math.isnan(value):
        return "null::boolean"
    if is_float(a):
        return _float_with_constant(op, a, value)
    x = f"{a.sql}::bigint" if pa.types.is_boolean(a.type) else a.sql
    known = f"{a.sql} is not null"
    if isinstance(value, float):
        if math.isinf(value):
            return known if op == "!=" or ((op in ("<", "<=")) == (value > 0) and op != "==") else "false"
        if value != int(value) and op in ("==", "!="):
            return known if op == "!=" else "false"
        value = math.ceil(value) if op in ("<", ">=") else math.floor(value)
    value = int(value)
    limits = np.iinfo(numeric(a))
    if value > limits.max or value < limits.min:
        return known if op == "!=" or ((op in ("<", "<=")) == (value > 0) and op != "==") else "false"
    return _plain(op, x, f"'{value}'::{sql_name(a.type) if x is a.sql else 'bigint'}")


def _float_with_constant(op: str, a: Typed, value: Any) -> str:
    with np.errstate(over="ignore"):
        near = float(numeric(a).type(value))
    x, constant = clean(a), f"'{near!r}'::{sql_name(a.type)}"
    if isinstance(value, float) or near == value:
        return _plain(op, x, constant)
    # between two floats lies the whole number: nothing is equal to it
    if op in ("==", "!="):
        return "false" if op == "==" else f"{x} is not null"
    below = near < value
    return f"({x} {('<=' if below else '<') if op in ('<', '<=') else ('>' if below else '>=')} {constant})"


def _of_decimals(op: str, a: Typed, b: Typed) -> str:
    if not is_decimal(a):
        op, a, b = _SWAPPED[op], b, a
    if b.constant:
        value = b.constant[0]
        if isinstance(value, float) and math.isnan(value):
            return "null::boolean"
        known = f"{a.sql} is not null"
        exact = _exact(value)
        if exact is None or digits(exact)[0] > a.type.precision - a.type.scale:  # beyond all values of the column
            return known if op == "!=" or ((op in ("<", "<=")) == (value > 0) and op != "==") else "false"
        if digits(exact)[1] <= a.type.scale:
            return _plain(op, a.sql, f"'{exact:f}'::{sql_name(a.type)}")
        if op in ("==", "!="):
            return "false" if op == "==" else known
        step = Decimal(1).scaleb(-a.type.scale)
        near = exact // step * step  # rounded towards zero, which the type holds
        least, more = ("<=", ">") if exact > 0 else ("<", ">=")
        return _plain(least if op in ("<", "<=") else more, a.sql, f"'{near:f}'::{sql_name(a.type)}")
    if is_float(b):
        x, y = f"{a.sql}::double", f"{clean(b)}::double"
        return let(
            lambda d, p, q: (
                f"(case when {p} = {q} and abs({q}) >= 9007199254740992 "
                f"then {_plain(op, d, f'try_cast({q} as {sql_name(a.type)})')} else {_plain(op, p, q)} end)"
            ),
            a.sql,
            x,
            y,
        )
    common = chosen_type(a, b)
    return _plain(op, as_type(a, common), as_type(b, common))


# ---------------------------------------------------------------------------------------------------------------------
# in
# ---------------------------------------------------------------------------------------------------------------------


def is_in(value: Typed, constants: Sequence[Any], negated: bool) -> Typed:
    """Return whether a value is one of some constants; false where it is missing, also for ``not in``.

    Raises
    ------
    ExpressionError : a constant of another kind
    """
    for one in {_sort(constant): constant for constant in constants}.values():
        require_same_kind(value, literal(one))
    known = [c for c in constants if c == c]  # nan is equal to nothing
    if value.constant:
        found = any(compare_constants("==", value.constant[0], c) for c in known)
        return literal(found != negated and not value.nullable)
    if pa.types.is_boolean(value.type) and not all(isinstance(c, bool) for c in known):
        value = Typed(f"{true_only(value) if value.loose else value.sql}::bigint", pa.int64(), value.nullable)
    fit = _fitting(value.type)
    texts = sorted({text for c in known if (text := fit(c)) is not None})
    missing = value.nullable or value.nan
    x = true_only(value) if value.loose else clean(value)
    if not texts:
        return Typed(f"({x} is not null)" if negated else "false", pa.bool_(), False)
    made = _among(texts, value.type)
    return Typed(f"({x} {'not ' if negated else ''}in {made})", pa.bool_(), missing and not value.loose, loose=True)


def _sort(constant: Any) -> Any:
    return type(constant), getattr(constant, "tzinfo", None) is None


def _fitting(target: pa.DataType) -> Callable[[Any], str | None]:
    """How a constant is written that DuckDB reads as the type; None if the type lacks it, so that nothing is equal."""
    t = pa.types
    if t.is_integer(target):
        limits = np.iinfo(target.to_pandas_dtype())
        low, high = int(limits.min), int(limits.max)

        def whole(value: Any) -> str | None:
            fits = isinstance(value, int) or (math.isfinite(value) and value == int(value))
            return str(int(value)) if fits and low <= value <= high else None

        return whole
    if t.is_floating(target):
        narrow = np.dtype(target.to_pandas_dtype()).type

        def near(value: Any) -> str | None:
            with np.errstate(over="ignore"):
                number = float(narrow(value))
            return repr(number + 0.0) if isinstance(value, float) or number == value else None

        return near
    if t.is_decimal(target):
        return lambda value: _as_decimal(value, target)
    if t.is_boolean(target):
        return lambda value: str(value).lower()
    if not (t.is_date(target) or t.is_timestamp(target) or t.is_duration(target)):
        return str
    unit, days = unit_of(target), t.is_date(target)

    def count(value: Any) -> str | None:
        number = ticks_of(value, unit)
        fits = number is not None and abs(number) < 2**63 and not (days and number % 86_400)
        return str(number) if fits else None

    return count


def _exact(value: bool | int | float) -> Decimal | None:
    """A constant as it is written in decimals, without zeros at the end: 1.0 is 1; None if it is not finite."""
    if not isinstance(value, float):
        return Decimal(int(value))
    if value.is_integer():
        return Decimal(int(Decimal(repr(value))))
    return Decimal(repr(value)) if math.isfinite(value) else None


def _as_decimal(value: Any, target: pa.DataType) -> str | None:
    exact = _exact(value)
    if exact is None or digits(exact)[0] > target.precision - target.scale or digits(exact)[1] > target.scale:
        return None
    return f"{exact:f}"


def _among(texts: Sequence[str], target: pa.DataType) -> str:
    """A list, or a table of one column: as fast with 10,000 constants as with ten."""
    t = pa.types
    timed = t.is_date(target) or t.is_timestamp(target)
    name = "bigint" if timed else sql_name(target)
    if len(texts) <= _IN_LINE:
        return "(" + ", ".join(
            from_ticks(text, target) if timed else f"{quoted(text)}::{name}" for text in texts
        ) + ")"  # fmt: skip
    used = set("".join(texts))
    separator = next(c for c in ("\x1f", *map(chr, range(0xE000, 0xF8FF))) if c not in used)
    column = f"unnest(string_split({quoted(separator.join(texts))}, {quoted(separator)}))::{name}"
    if timed:
        return f"(select {from_ticks('u', target)} from (select {column} as u))"
    return f"(select {column})"
