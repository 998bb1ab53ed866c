"""Arithmetic of numbers over columns as SQL: whole numbers and decimals are exact, or fail.

Where DuckDB differs, the SQL makes it ours: ``//`` and ``%`` round down as Python's, by zero they are missing; a result
of whole numbers has the next width, 64 bits are checked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config.expressions.references import ExpressionError
from pipeline.ops.elementwise.sql_types import (
    NUMERIC,
    Typed,
    as_type,
    clean,
    decimal_of,
    digits,
    finer,
    kind,
    let,
    literal,
    null,
    numeric,
    sql_name,
    unit_of,
)

__all__ = [
    "chosen_type",
    "divided",
    "is_decimal",
    "is_float",
    "is_whole",
    "narrowed",
    "of_decimals",
    "of_floats",
    "of_whole",
    "scaled",
    "unscaled",
    "whole_number",
]


def is_whole(value: Typed) -> bool:
    """Return whether a number is whole by its type; truth values count as whole numbers."""
    return bool(pa.types.is_integer(value.type) or pa.types.is_boolean(value.type))


def is_float(value: Typed) -> bool:
    """Return whether a number is a float by its type."""
    return bool(pa.types.is_floating(value.type))


def is_decimal(value: Typed) -> bool:
    """Return whether a number is a decimal by its type."""
    return bool(pa.types.is_decimal(value.type))


# ---------------------------------------------------------------------------------------------------------------------
# Types of results
# ---------------------------------------------------------------------------------------------------------------------


def _beside(value: Typed, other: Typed) -> np.dtype[Any]:
    """The type as which a whole number counts beside another: a constant as the other's if that holds it."""
    if value.constant and is_whole(other) and not other.constant:
        limits = np.iinfo(numeric(other))
        if limits.min <= int(value.constant[0]) <= limits.max:
            return numeric(other)
    return numeric(value)


def _common(a: Typed, b: Typed) -> np.dtype[Any]:
    """The common type of two numbers that are no decimals; constants don't widen floats."""
    if is_whole(a) and is_whole(b):
        found = np.result_type(_beside(a, b), _beside(b, a))
        return np.dtype(np.int64) if found.kind == "f" else found
    plain = [
        (1.0 if is_float(x) else 1) if x.constant and (is_float(y) or is_float(x)) else numeric(x)
        for x, y in ((a, b), (b, a))
    ]
    return np.dtype(np.result_type(*plain)) if not all(type(p) in (int, float) for p in plain) else np.dtype(np.float64)


def chosen_type(a: Typed, b: Typed) -> pa.DataType:
    """Return the common type of two values of one kind, of which one is chosen.

    Raises
    ------
    ExpressionError : decimals whose common type has more than 38 digits
    """
    t = pa.types
    if kind(a) in NUMERIC:
        if kind(a) == kind(b) == "true/false":
            return pa.bool_()
        if is_decimal(a) or is_decimal(b):
            return _common_decimal(a, b)
        return pa.from_numpy_dtype(_common(a, b))
    if a.type == b.type:
        return a.type
    if kind(a) == "text":
        return next((v.type for v, w in ((a, b), (b, a)) if not v.constant and w.constant), pa.string())
    for one, other in ((a, b), (b, a)):
        if t.is_date(one.type) and other.constant and _is_midnight(other.constant[0]):
            return one.type
    if kind(a) in {"time", "zoned time", "duration"}:
        unit = finer(unit_of(a.type), unit_of(b.type))
        if kind(a) == "duration":
            return pa.duration(unit)
        zones = [v.type.tz for v in sorted((a, b), key=lambda v: bool(v.constant)) if t.is_timestamp(v.type)]
        return pa.timestamp(unit, zones[0])
    raise ExpressionError(f"{a.type} and {b.type} have no common type")


def _is_midnight(when: Any) -> bool:
    return not (isinstance(when, np.generic) or when.hour or when.minute or when.second or when.microsecond)


def _common_decimal(a: Typed, b: Typed) -> pa.DataType:
    if (is_float(a) and not _written(a)) or (is_float(b) and not _written(b)):
        return pa.float64()
    (before, after), (more, scale) = _digits(a), _digits(b)
    whole, scale = max(before, more), max(after, scale)
    if whole + scale > 38:
        raise ExpressionError(f"{_called(a)} and {_called(b)} need {whole + scale} digits together, decimals have 38")
    return pa.decimal128(max(whole + scale, 1), scale)


def _written(value: Typed) -> bool:
    """Whether a constant float stands in the expression, so that it counts as the decimal that is written there."""
    return bool(value.constant) and not value.bound and decimal_of(value.constant[0]) is not None


def _digits(value: Typed) -> tuple[int, int]:
    """How many digits a number needs before and after the point."""
    if value.constant:
        found = decimal_of(value.constant[0])
        assert found is not None, "the caller asked"
        return digits(found)
    if is_decimal(value):
        return value.type.precision - value.type.scale, value.type.scale
    if pa.types.is_boolean(value.type):
        return 1, 0
    return {8: 3, 16: 5, 32: 10, 64: 20 if pa.types.is_unsigned_integer(value.type) else 19}[value.type.bit_width], 0


def _called(value: Typed) -> str:
    return str(value.constant[0]) if value.constant else str(value.type).replace("decimal128", "decimal")


# ---------------------------------------------------------------------------------------------------------------------
# Whole numbers
# ---------------------------------------------------------------------------------------------------------------------


def of_whole(op: str, a: Typed, b: Typed) -> Typed:
    x, y = _beside(a, b), _beside(b, a)
    missing = a.nullable or b.nullable
    if op == "**":
        found = pa.uint64() if x == np.uint64 else pa.int64()
        return Typed(_power(a, b, found), found, missing)
    if op in ("//", "%"):
        return divided(op, a, b, pa.from_numpy_dtype(_common(a, b)))
    size = min(2 * max(x.itemsize, y.itemsize), 8)
    unsigned = x.kind == y.kind == "u" and op != "-"
    found = pa.from_numpy_dtype(np.dtype(f"{'u' if unsigned else 'i'}{size}"))
    wide = size == 8 and not unsigned and np.uint64 in (x, y)
    through = "hugeint" if wide else sql_name(found)
    sql = f"({whole_number(a, through)} {op} {whole_number(b, through)})"
    return Typed(f"{sql}::bigint" if wide else sql, found, missing)


def whole_number(value: Typed, name: str) -> str:
    if value.constant:
        number = int(value.constant[0])
        return f"'{number}'::{name if -(2**63) <= number < 2**64 else 'hugeint'}"
    return value.sql if sql_name(value.type) == name else f"{value.sql}::{name}"


def divided(op: str, a: Typed, b: Typed, found: pa.DataType) -> Typed:
    """``//`` and ``%`` of whole numbers, in a type that holds both operands and the result of -min // -1."""
    name = sql_name(found)
    limits = np.iinfo(found.to_pandas_dtype())
    fits = all(_limits(v)[0] >= limits.min and _limits(v)[1] <= limits.max for v in (a, b))
    through = name if fits else "hugeint"
    unsigned = _limits(a)[0] >= 0 and _limits(b)[0] >= 0
    divisor = int(b.constant[0]) if b.constant else None
    if divisor == 0:
        return null(found)
    x, y = whole_number(a, through), whole_number(b, through)
    if unsigned:
        sql = f"({x} {op} {y})"
    elif op == "//":
        sql = let(lambda p, q: f"({p} // {q} - (case when {_mixed(p, q, divisor)} then 1 else 0 end))", x, y)
    else:
        sql = let(lambda p, q: f"({p} % {q} + (case when {_mixed(p, q, divisor)} then {q} else 0 end))", x, y)
    if divisor is None:
        sql = f"(case when {clean(b)} <> 0 then {sql} end)"
    return Typed(f"({sql})::{name}", found, a.nullable or b.nullable or divisor is None)


def _mixed(p: str, q: str, divisor: int | None) -> str:
    """Where division rounds up instead of down."""
    if divisor is not None:
        return f"{p} % {q} {'<' if divisor > 0 else '>'} 0"
    return f"{p} % {q} <> 0 and ({p} < 0) <> ({q} < 0)"


def _limits(value: Typed) -> tuple[int, int]:
    if value.constant:
        return int(value.constant[0]), int(value.constant[0])
    if pa.types.is_boolean(value.type):
        return 0, 1
    limits = np.iinfo(numeric(value))
    return int(limits.min), int(limits.max)


def _power(a: Typed, b: Typed, found: pa.DataType) -> str:
    name = sql_name(found)
    if b.constant:
        n = int(b.constant[0])
        if n == 0:
            return f"(case when {a.sql} is not null then '1'::{name} end)"
        if n <= 64:
            return let(lambda x: "(" + " * ".join([x] * n) + ")", whole_number(a, name))
    said = f"which {found} can''t hold; write number(x) to compute with float64"
    return let(
        lambda x, n: (
            f"(case when {n} < 0 then error({x}::varchar || ' ** ' || {n}::varchar "
            f"|| ' is no whole number; write number(x) to compute with float64') "
            f"when {n} = 0 then 1 when {x} in (0, 1) then {x} "
            f"when {x} = -1 then (case when {n} % 2 = 0 then 1 else -1 end) "
            f"when {n} > 64 then error({x}::varchar || ' ** ' || {n}::varchar || ' {said}') "
            f"else list_reduce(repeat([{x}], {n}::bigint), lambda p, q: p * q) end)::{name}"
        ),
        whole_number(a, "hugeint"),
        whole_number(b, "hugeint"),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Floats and decimals
# ---------------------------------------------------------------------------------------------------------------------


def of_floats(op: str, a: Typed, b: Typed) -> Typed:
    if op == "/" and is_whole(a) and is_whole(b):
        found = np.dtype(np.float64)
    else:
        found = _common(*(_as_float_constant(v) if op == "/" else v for v in (a, b)))
    kind_of = pa.from_numpy_dtype(found)
    x, y = as_type(a, kind_of), as_type(b, kind_of)
    made = Typed("", kind_of, True, nan=True)
    if op in ("//", "%"):
        return _typed(let(lambda p, q: _float_division(op, p, q), x, y), made)
    if op == "**":
        return _typed(narrowed(f"pow({x}, {y})", kind_of), made)
    return Typed(f"({x} {op} {y})", kind_of, *_missing_of(op, a, b))


def _typed(sql: str, like: Typed) -> Typed:
    return Typed(sql, like.type, like.nullable, nan=like.nan)


def _as_float_constant(value: Typed) -> Typed:
    return literal(float(value.constant[0]), bound=value.bound) if value.constant else value


def _missing_of(op: str, a: Typed, b: Typed) -> tuple[bool, tuple[Any, ...], bool, bool]:
    """Whether a result may be missing, no constant, not bound, and whether it may be NaN: inf - inf, 0 * inf, 0 / 0."""
    safe = a.nullable or b.nullable, (), False, a.nan or b.nan
    for one in (a, b):
        number = float(one.constant[0]) if one.constant else math.nan
        if math.isfinite(number) and (op in "+-" or (number and (op == "*" or one is b))):
            return safe
    return True, (), False, True


def narrowed(sql: str, target: pa.DataType) -> str:
    """Return a double as the float of a type; beyond its range it is infinite."""
    if sql_name(target) == "double":
        return sql
    return let(
        lambda x: (
            f"(case when abs({x}) > 3.4028235677973362e38 then (sign({x}) * 'inf'::float)::float else {x}::float end)"
        ),
        sql,
    )


def _float_division(op: str, p: str, q: str) -> str:
    """As numpy's, from the remainder, which is exact."""
    rest = f"({p} % {q})"
    off = f"({rest} <> 0 and ({q} < 0) <> ({rest} < 0))"
    if op == "%":
        return f"(case when {off} then {rest} + {q} else {rest} end)"
    quotient = f"(({p} - {rest}) / {q} - (case when {off} then 1 else 0 end))"
    return (
        f"(case when {q} = 0 then {p} / {q} "
        f"else floor({quotient}) + (case when {quotient} - floor({quotient}) > 0.5 then 1 else 0 end) end)"
    )


def of_decimals(op: str, a: Typed, b: Typed) -> Typed:
    """Decimals with decimals, whole numbers and constants are exact; ``/`` and ``**`` give float64, as floats do."""
    if op in ("/", "**") or any(is_float(v) and not _written(v) for v in (a, b)):
        plain = [
            v if not is_decimal(v) else Typed(f"{v.sql}::double", pa.float64(), v.nullable)
            for v in (_as_float_constant(a), _as_float_constant(b))
        ]
        return of_floats(op, *plain)
    missing = a.nullable or b.nullable
    (before, after), (more, scale) = _digits(a), _digits(b)
    if op == "*":
        if after + scale > 38:
            raise ExpressionError(
                f"'*' of {_called(a)} and {_called(b)} has {after + scale} digits after the point, decimals have 38; "
                "write number(x) to compute with float64"
            )
        found = pa.decimal128(min(before + after + more + scale, 38), after + scale)
        return Typed(f"({_decimal(a)} * {_decimal(b)})::{sql_name(found)}", found, missing)
    common = _common_decimal(a, b)
    x, y = as_type(a, common), as_type(b, common)
    if op in ("+", "-"):
        found = pa.decimal128(min(common.precision + 1, 38), common.scale)
        return Typed(f"({x} {op} {y})::{sql_name(found)}", found, missing)
    return _decimal_division(op, x, y, common)


def _decimal(value: Typed) -> str:
    before, after = _digits(value)
    return as_type(value, pa.decimal128(max(before + after, 1), after))


def unscaled(sql: str) -> str:
    """Return the whole number of 128 bits that a decimal is without its point."""
    return f"replace({sql}::varchar, '.', '')::hugeint"


def scaled(sql: str, target: pa.DataType) -> str:
    """Return the decimal of a whole number without its point."""
    unit = f"'{10.0**-target.scale:.{target.scale}f}'::decimal({min(target.scale + 1, 38)}, {target.scale})"
    return (
        f"({sql}::decimal({target.precision}, 0) * {unit})::{sql_name(target)}"
        if target.scale
        else (f"{sql}::{sql_name(target)}")
    )


def _decimal_division(op: str, x: str, y: str, common: pa.DataType) -> Typed:
    """``//`` and ``%`` on the whole numbers that decimals of one scale are."""

    def body(p: str, q: str) -> str:
        up = f"(case when {_mixed(p, q, None)} then {'1' if op == '//' else q} else 0 end)"
        return (
            f"(case when {q} <> 0 then {p} // {q} - {up} end)"
            if op == "//"
            else (f"(case when {q} <> 0 then {p} % {q} + {up} end)")
        )

    sql = let(body, unscaled(x), unscaled(y))
    if op == "//":
        found = pa.decimal128(common.precision, 0)
        return Typed(f"{sql}::{sql_name(found)}", found, True)
    return Typed(scaled(sql, common), common, True)
