"""``+ - * / // % **`` over columns as SQL; times and durations are whole numbers of their units."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import arithmetic as fold_arithmetic
from pipeline.ops.elementwise.definitions import OF_TIMES, no_arithmetic
from pipeline.ops.elementwise.sql_numbers import (
    divided,
    is_decimal,
    is_float,
    is_whole,
    of_decimals,
    of_floats,
    of_whole,
    whole_number,
)
from pipeline.ops.elementwise.sql_types import (
    NUMERIC,
    Typed,
    as_type,
    clean,
    finer,
    from_ticks,
    kind,
    let,
    literal,
    ticks,
    unit_of,
)
from pipeline.ops.elementwise.sql_zones import shifted

__all__ = ["apply_arithmetic", "apply_sign"]


def apply_arithmetic(op: str, a: Typed, b: Typed) -> Typed:
    """Return ``a op b``.

    Raises
    ------
    ExpressionError : it is not defined for these kinds
    """
    left, right = ("number" if kind(v) in NUMERIC else kind(v) for v in (a, b))
    if {left, right} != {"number"} and (op, left, right) not in OF_TIMES:
        raise ExpressionError(no_arithmetic(op, left, right))
    if a.constant and b.constant and not any(isinstance(v.constant[0], np.generic) for v in (a, b)):
        return literal(fold_arithmetic(op, a.constant[0], b.constant[0]), bound=a.bound or b.bound)
    if "months" in (left, right):
        months, time = (a, b) if left == "months" else (b, a)
        n = months.constant[0].n
        return shifted(time, n if op == "+" else -n)
    if {left, right} != {"number"}:
        return _of_times(op, a, b)
    if is_decimal(a) or is_decimal(b):
        return of_decimals(op, a, b)
    if op == "**" and b.constant and not is_float(a) and b.constant[0] < 0:
        b = literal(float(b.constant[0]))
    if op != "/" and is_whole(a) and is_whole(b):
        return of_whole(op, a, b)
    return of_floats(op, a, b)


def apply_sign(op: str, value: Typed) -> Typed:
    """Return ``-value`` or ``+value``."""
    if kind(value) in NUMERIC:
        if op == "+":
            return value if kind(value) == "number" else apply_arithmetic("+", value, literal(0))
        if is_decimal(value):
            return Typed(f"(-{value.sql})", value.type, value.nullable)
        if is_float(value) and not value.constant:
            return Typed(f"(-{value.sql})", value.type, value.nullable, nan=value.nan)
        return apply_arithmetic("-", literal(0), value)
    return apply_arithmetic("*", value, literal(-1 if op == "-" else 1))


# ---------------------------------------------------------------------------------------------------------------------
# Times and durations
# ---------------------------------------------------------------------------------------------------------------------


def _of_times(op: str, a: Typed, b: Typed) -> Typed:
    missing = a.nullable or b.nullable
    left, right = kind(a), kind(b)
    if left == right == "duration" and op in ("/", "//", "%"):
        return _ratio(op, a, b)
    if "number" in (left, right) or "true/false" in (left, right):
        return _scaled(op, a, b)
    unit = finer(unit_of(a.type), unit_of(b.type))
    if (left == right and left != "duration") or left == right:
        found = pa.duration(unit)
    else:
        when = b.type if left == "duration" else a.type
        found = pa.timestamp(finer("us", unit) if pa.types.is_date(when) else unit, getattr(when, "tz", None))
        unit = found.unit
    return Typed(from_ticks(f"({ticks(a, unit)} {op} {ticks(b, unit)})", found), found, missing)


def _ratio(op: str, a: Typed, b: Typed) -> Typed:
    unit = finer(unit_of(a.type), unit_of(b.type))
    x, y = (Typed(ticks(v, unit), pa.int64(), v.nullable) for v in (a, b))
    if op == "/":
        return of_floats(op, x, y)
    found = divided(op, x, y, pa.int64())
    return found if op == "//" else Typed(found.sql, pa.duration(unit), found.nullable)


def _scaled(op: str, a: Typed, b: Typed) -> Typed:
    """A duration times or by a number: fractions of its unit are cut off."""
    length, number = (a, b) if kind(a) == "duration" else (b, a)
    found = length.type
    count, missing = ticks(length, unit_of(found)), length.nullable or number.nullable
    if is_whole(number):
        if op == "*":
            factor = whole_number(number, "bigint" if number.type != pa.uint64() else "hugeint")
            return Typed(f"({count} * {factor})::bigint", found, missing)
        divisor = whole_number(number, "hugeint" if number.type == pa.uint64() else "bigint")
        sql = let(lambda p, q: f"(case when {q} <> 0 then {p} // {q} end)::bigint", count, divisor)
        return Typed(sql, found, True)
    if is_decimal(number):
        number = Typed(f"{number.sql}::double", pa.float64(), number.nullable)
    factor = clean(Typed(as_type(number, pa.float64()), pa.float64(), number.nullable, nan=number.nan))
    exact = clean(Typed(f"({count}::double {op} {factor})", pa.float64(), True, nan=True))
    return Typed(let(lambda x: f"trunc({x})::bigint", exact), found, True)
