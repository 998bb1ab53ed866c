"""Choices and conversions over columns as SQL: ``where fill minimum maximum clip missing``, ``number integer text``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pipeline.config.expressions.references import ExpressionError
from pipeline.graph.column_types import is_text
from pipeline.ops.elementwise.sql_comparisons import compare_values, comparison, require_same_kind
from pipeline.ops.elementwise.sql_numbers import chosen_type, is_decimal, is_float, is_whole
from pipeline.ops.elementwise.sql_types import (
    NUMERIC,
    Typed,
    as_type,
    clean,
    kind,
    let,
    literal,
    quoted,
    settled,
    sql_name,
    ticks,
)
from pipeline.ops.elementwise.sql_zones import time_text

__all__ = ["CHOICES", "MISSING", "condition"]

MISSING = Typed("null", pa.null(), nullable=True)
"""The value of ``missing``, until ``where`` gives it the type of its other choice."""

_FLOAT = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?[iI][nN][fF]([iI][nN][iI][tT][yY])?"
_WHOLE = r"[+-]?\d+"


def condition(value: Typed, word: str) -> Typed:
    """Return the value as a condition: NULL means false.

    Raises
    ------
    ExpressionError : if it is no truth value
    """
    if kind(value) != "true/false":
        raise ExpressionError(f"'{word}' needs true or false, got {kind(value)}; compare it: x != 0")
    return Typed(value.sql, value.type, value.nullable, value.constant, loose=True)


def _where(chosen: Typed, a: Typed, b: Typed) -> Typed:
    for one, other in ((a, b), (b, a)):
        if one.constant and one.constant[0] != one.constant[0] and other is not MISSING and kind(other) not in NUMERIC:
            raise ExpressionError(f"nan is a number; for a missing {kind(other)} write missing")
    test = condition(chosen, "where").sql
    if a is MISSING or b is MISSING:
        value = settled(b if a is MISSING else a)
        value = value if not value.constant else literal(value.constant[0])
        choice = "not coalesce({}, false)" if a is MISSING and chosen.nullable else "not {}" if a is MISSING else "{}"
        return Typed(f"(case when {choice.format(test)} then {value.sql} end)", value.type, nullable=True)
    require_same_kind(a, b)
    found = chosen_type(a, b)
    x, y = (as_type(_number(v, found), found, exact=True) for v in (a, b))
    return Typed(f"(case when {test} then {x} else {y} end)", found, a.nullable or b.nullable, nan=a.nan or b.nan)


def _number(value: Typed, target: pa.DataType) -> Typed:
    """A condition without NULL; as a number where numbers are chosen."""
    if value.constant:
        return value
    if value.loose:
        value = settled(value)
    if pa.types.is_boolean(value.type) and not pa.types.is_boolean(target):
        return Typed(f"{value.sql}::bigint", pa.int64(), value.nullable)
    return value


def _fill(x: Typed, v: Typed) -> Typed:
    require_same_kind(x, v)
    found = chosen_type(x, v)
    first, second = (as_type(_number(w, found), found, exact=True) for w in (x, v))
    if x.nan:
        first = clean(Typed(first, found, True, nan=True))
    return Typed(f"coalesce({first}, {second})", found, (x.nullable or x.nan) and v.nullable, nan=v.nan)


def _extreme(op: str) -> Callable[[Typed, Typed], Typed]:
    def call(a: Typed, b: Typed) -> Typed:
        require_same_kind(a, b)
        if kind(a) not in {"number", "true/false", "time", "zoned time", "duration", "time of day"}:
            raise ExpressionError(f"minimum and maximum are for numbers and times, not for {kind(a)}")
        a, b = (_number(v, pa.int64()) for v in (a, b))
        if _bounded(op, a, b):
            return a if b.constant else b
        found = chosen_type(a, b)
        if a.type == b.type == found and not (a.nullable or b.nullable or a.nan or b.nan):
            return Typed(f"{'least' if op == '<=' else 'greatest'}({a.sql}, {b.sql})", found, False)
        x, y = (Typed(clean(v), v.type, v.nullable, v.constant) for v in (a, b))
        sql = let(lambda p, q: _smaller(op, replace(x, sql=p), replace(y, sql=q), found), x.sql, y.sql)
        return Typed(f"{sql}::{sql_name(found)}", found, a.nullable or b.nullable or a.nan or b.nan)

    return call


def _smaller(op: str, x: Typed, y: Typed, found: pa.DataType) -> str:
    other = ">" if op == "<=" else "<"
    return (
        f"(case when {comparison(op, x, y)} then {as_type(x, found, exact=True)} "
        f"when {comparison(other, x, y)} then {as_type(y, found, exact=True)} end)"
    )


def _holds(found: pa.DataType, value: Any) -> bool:
    unsigned, width = pa.types.is_unsigned_integer(found), found.bit_width
    return bool((0 if unsigned else -(2 ** (width - 1))) <= value < 2 ** (width - (not unsigned)))


def _bounded(op: str, a: Typed, b: Typed) -> bool:
    """Whether a constant lies beyond all values of the other operand, and so is never the result."""
    for values, limit in ((a, b), (b, a)):
        if limit.constant and not values.constant and pa.types.is_integer(values.type):
            number = limit.constant[0]
            if type(number) is int and not _holds(values.type, number):
                return (number > 0) == (op == "<=")
    return False


def _clip(x: Typed, low: Typed, high: Typed) -> Typed:
    return CHOICES["minimum"](CHOICES["maximum"](x, low), high)


def _missing(x: Typed) -> Typed:
    value = settled(x)
    return Typed(f"({value.sql} is null)", pa.bool_(), False) if value.nullable else literal(False)


def _isfinite(x: Typed) -> Typed:
    if kind(x) not in {"number", "time", "zoned time", "duration"}:
        raise ExpressionError(f"isfinite(x) needs numbers, got {kind(x)}")
    if is_float(x):
        return Typed(f"coalesce(isfinite({x.sql}), false)", pa.bool_(), False)
    return Typed(f"({x.sql} is not null)", pa.bool_(), False)


# ---------------------------------------------------------------------------------------------------------------------
# Conversions
# ---------------------------------------------------------------------------------------------------------------------


def _to_number(x: Typed) -> Typed:
    if kind(x) == "text":
        return Typed(_parsed(x.sql, "number", _FLOAT, "double", "no number"), pa.float64(), x.nullable)
    if kind(x) == "duration":
        return Typed(_seconds(x), pa.float64(), x.nullable)
    if kind(x) not in NUMERIC:
        cure = "; for a time write year(t), or t - date('…')" if "time" in kind(x) else ""
        raise ExpressionError(f"number(x) needs numbers, text or a duration{cure}")
    if is_float(x) and not x.constant:
        return x
    x = settled(x) if x.loose else x
    value = f"{x.sql}::bigint" if pa.types.is_boolean(x.type) else x.sql
    return Typed(f"{value}::double", pa.float64(), x.nullable)


def _seconds(x: Typed) -> str:
    return (
        f"({ticks(x, 'ns', wide=True)}::double / 1e9)"
        if x.constant or x.type.unit == "ns"
        else (f"({x.sql}::double / {float({'s': 1, 'ms': 1000, 'us': 10**6}[x.type.unit])!r}::double)")
    )


def _parsed(sql: str, function: str, pattern: str, target: str, problem: str, cure: str = "") -> str:
    return let(
        lambda s: (
            f"(case when regexp_full_match({s}, {quoted(pattern)}) then {s}::{target} when {s} is not null then "
            f"error({quoted(function + '(x): got ')} || chr(39) || {s}[:60] || chr(39) || "
            f"{quoted(f', which is {problem}{cure}')}) end)"
        ),
        f"trim({sql}, ' ' || chr(9) || chr(10) || chr(13))",
    )


def _to_integer(x: Typed) -> Typed:
    if kind(x) == "text":
        cure = "; integer(number(x)) takes fractions, too"
        sql = _parsed(x.sql, "integer", _WHOLE, "hugeint", "no whole number", cure)
        return Typed(f"{sql}::bigint", pa.int64(), x.nullable)
    if kind(x) not in NUMERIC:
        raise ExpressionError(f"integer(x) needs numbers or text, got {kind(x)}")
    x = settled(x)
    if is_whole(x):
        return Typed(x.sql if x.type == pa.int64() else f"{x.sql}::bigint", pa.int64(), x.nullable)
    if is_decimal(x):
        return Typed(f"trunc({x.sql})::bigint", pa.int64(), x.nullable)
    said = quoted(" is a value that int64 can't hold; number(x) keeps it")
    sql = let(
        lambda v: (
            f"(case when abs({v}) < 9223372036854775808 or {v} = -9223372036854775808 then trunc({v})::bigint "
            f"when {v} is not null then error({v}::varchar || {said}) end)"
        ),
        x.sql,
    )
    return Typed(sql, pa.int64(), x.nullable)


def _to_boolean(x: Typed) -> Typed:
    if kind(x) == "text":
        sql = let(
            lambda s: (
                f"(case lower({s}) when 'true' then true when 'false' then false else (case when {s} is not null "
                f"then error('boolean(x): got ' || chr(39) || {s}[:60] || chr(39) || "
                f"', which is neither true nor false') else false end) end)"
            ),
            x.sql,
        )
        return Typed(sql, pa.bool_(), False)
    if kind(x) == "true/false":
        return settled(condition(x, "boolean"))
    if kind(x) != "number":
        raise ExpressionError(f"boolean(x) needs numbers, text or true and false, got {kind(x)}")
    return settled(compare_values("!=", x, literal(0)))


def _to_text(x: Typed) -> Typed:
    x = settled(x)
    if is_text(x.type) or pa.types.is_dictionary(x.type):
        return Typed(x.sql, pa.string(), x.nullable)
    if kind(x) == "true/false":
        return Typed(f"(case {x.sql} when true then 'True' when false then 'False' end)", pa.string(), x.nullable)
    if kind(x) in {"list", "struct", "binary"}:
        raise ExpressionError(f"text(x) needs numbers, times or text, got {kind(x)}")
    if kind(x) == "duration":
        return Typed(f"{_seconds(x)}::varchar", pa.string(), x.nullable)
    if kind(x) in {"time", "zoned time"}:
        return Typed(time_text(x), pa.string(), x.nullable)
    text = f"{x.sql}::varchar"
    if is_decimal(x) and x.type.precision == x.type.scale:  # DuckDB writes .5
        text = f"regexp_replace({text}, '^(-?)[.]', '\\10.')"
    return Typed(text, pa.string(), x.nullable)


CHOICES: dict[str, Callable[..., Typed]] = {
    "where": _where,
    "fill": _fill,
    "minimum": _extreme("<="),
    "maximum": _extreme(">="),
    "clip": _clip,
    "missing": _missing,
    "isfinite": _isfinite,
    "number": _to_number,
    "integer": _to_integer,
    "boolean": _to_boolean,
    "text": _to_text,
}
"""Name -> function from the arguments, in order."""
