"""Functions of numbers and text over columns as SQL.

Regular expressions are RE2's: ``\\w \\d \\s`` are ASCII, and there is no looking ahead and no back reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.expressions.references import ExpressionError
from pipeline.ops.elementwise.sql_numbers import is_decimal, is_float, is_whole, narrowed, scaled, unscaled
from pipeline.ops.elementwise.sql_types import NUMERIC, Typed, clean, kind, let, quoted, settled, sql_name

__all__ = ["NUMBERS", "TEXTS"]

_DOUBLE = {
    "sqrt": "sqrt({})",
    "exp": "exp({})",
    "log": "ln({})",
    "log10": "log10({})",
    "sin": "sin({})",
    "cos": "cos({})",
    "tan": "tan({})",
    "arcsin": "asin({})",
    "arccos": "acos({})",
    "arctan": "atan({})",
    "arctan2": "atan2({}, {})",
    "deg2rad": "radians({})",
    "rad2deg": "degrees({})",
}
# white space as Python's str.strip has it
_SPACES = (
    " \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680"
    + "".join(map(chr, range(0x2000, 0x200B)))
    + "\u2028\u2029\u202f\u205f\u3000"
)


def _numbers(name: str, *values: Typed) -> list[Typed]:
    """The operands without truth values.

    Raises
    ------
    ExpressionError : one is no number
    """
    for value in values:
        if kind(value) not in NUMERIC:
            raise ExpressionError(f"{name}(x) needs numbers, got {kind(value)}")
    settle = [settled(v) if v.loose else v for v in values]
    return [
        Typed(f"{v.sql}::bigint", pa.int64(), v.nullable) if pa.types.is_boolean(v.type) else v for v in settle
    ]  # fmt: skip


def _double(name: str, form: str) -> Callable[..., Typed]:
    def call(*values: Typed) -> Typed:
        operands = _numbers(name, *values)
        floats = [v.type for v in operands if is_float(v) and not v.constant]
        found = max(floats, key=lambda kind: kind.bit_width) if floats and len(floats) == len(values) else pa.float64()
        sql = form.format(*(v.sql if sql_name(v.type) == "double" else f"{v.sql}::double" for v in operands))
        return Typed(narrowed(sql, found), found, True, nan=True)

    return call


def _abs(value: Typed) -> Typed:
    if kind(value) == "duration":
        return Typed(f"abs({value.sql})", value.type, value.nullable)
    (x,) = _numbers("abs", value)
    if not is_whole(x):
        return Typed(f"abs({x.sql})", x.type, x.nullable, nan=x.nan)
    if pa.types.is_unsigned_integer(x.type):
        return x
    found = {8: pa.int16(), 16: pa.int32()}.get(x.type.bit_width, pa.int64())
    return Typed(f"abs({x.sql}::{sql_name(found)})", found, x.nullable)


def _sign(value: Typed) -> Typed:
    (x,) = _numbers("sign", value)
    found = _room(x.type) if is_decimal(x) and x.type.precision == x.type.scale else x.type
    return Typed(f"sign({clean(x)})::{sql_name(found)}", found, x.nullable or x.nan)


def _whole_part(name: str) -> Callable[[Typed], Typed]:
    def call(value: Typed) -> Typed:
        (x,) = _numbers(name, value)
        if is_whole(x):
            return Typed(x.sql, x.type, x.nullable)
        found = _room(x.type)
        return Typed(f"{name}({x.sql})::{sql_name(found)}", found, x.nullable, nan=x.nan)

    return call


def _room(kind: pa.DataType) -> pa.DataType:
    """A decimal type with one more digit before the point, which rounding may need; of 38, one less after it."""
    if not pa.types.is_decimal(kind):
        return kind
    return pa.decimal128(min(kind.precision + 1, 38), kind.scale if kind.precision < 38 else max(kind.scale - 1, 0))


def _round(value: Typed, digits: Typed | None = None) -> Typed:
    (x,) = _numbers("round", value)
    n = 0 if digits is None else int(_constant(digits, "n", (int, float)))
    if is_decimal(x):
        found = _room(x.type)
        if n >= x.type.scale:
            found = found if found.scale == x.type.scale else x.type
            return Typed(f"{x.sql}::{sql_name(found)}", found, x.nullable)
        whole = _half_even(unscaled(x.sql), x.type.scale - n)
        whole = whole if found.scale == x.type.scale else f"({whole} // 10)"
        return Typed(scaled(whole, found), found, x.nullable)
    if is_whole(x):
        if n >= 0:
            return Typed(x.sql, x.type, x.nullable)
        if n < -38:
            return Typed(f"(case when {x.sql} is not null then 0::{sql_name(x.type)} end)", x.type, x.nullable)
        return Typed(f"{_half_even(f'{x.sql}::hugeint', -n)}::{sql_name(x.type)}", x.type, x.nullable)
    name = sql_name(x.type)
    if n == 0:
        return Typed(f"round_even({x.sql}, 0)", x.type, x.nullable, nan=x.nan)
    step = f"'{10.0 ** abs(n)!r}'::{name}"
    there, back = ("*", "/") if n > 0 else ("/", "*")
    return Typed(f"(round_even({x.sql} {there} {step}, 0) {back} {step})", x.type, True, nan=True)


def _half_even(sql: str, n: int) -> str:
    """A whole number of 128 bits rounded to a multiple of ``10 ** n``."""
    step = 10**n
    half = step // 2

    def body(x: str) -> str:
        rest = f"(({x} % {step} + {step}) % {step})"
        odd = f"((({x} - {rest}) // {step}) % 2 <> 0)"
        return f"({x} - {rest} + (case when {rest} > {half} or ({rest} = {half} and {odd}) then {step} else 0 end))"

    return let(body, sql)


# ---------------------------------------------------------------------------------------------------------------------
# Texts
# ---------------------------------------------------------------------------------------------------------------------


def _text(value: Typed, function: str) -> str:
    if kind(value) != "text":
        raise ExpressionError(f"{function}(s) needs text, got {kind(value)}; write text(x)")
    return value.sql


def _constant(value: Typed, name: str, kinds: tuple[type, ...]) -> Any:
    """The value of an argument that is the same for all rows.

    Raises
    ------
    ExpressionError : it is of another kind
    """
    found = value.constant[0] if value.constant else None
    wanted = "text, in single quotes" if kinds == (str,) else "a whole number"
    if not isinstance(found, kinds) or isinstance(found, bool) or (isinstance(found, float) and found != found // 1):
        raise ExpressionError(f"'{name}' got {found!r}; it must be {wanted}")
    return found


def _truth(name: str, form: str) -> Callable[[Typed, Typed], Typed]:
    def call(s: Typed, part: Typed) -> Typed:
        text = quoted(_constant(part, "text", (str,)))
        return Typed(form.format(_text(s, name), text), pa.bool_(), s.nullable, loose=True)

    return call


def _simple(name: str, form: str) -> Callable[[Typed], Typed]:
    def call(s: Typed) -> Typed:
        return Typed(form.format(_text(s, name)), pa.string(), s.nullable)

    return call


def _length(s: Typed) -> Typed:
    return Typed(f"length({_text(s, 'length')})::bigint", pa.int64(), s.nullable)


def _regex(value: Typed) -> str:
    text = str(_constant(value, "regex", (str,)))
    try:
        pc.match_substring_regex(pa.array([""], pa.string()), text)
    except pa.ArrowInvalid as error:
        said = str(error).removeprefix("Invalid regular expression: ")
        raise ExpressionError(
            f"got {text!r}, which is no regular expression of RE2: {said}; it has no looking ahead or behind and no "
            "back references"
        ) from None
    return text


def _match(s: Typed, regex: Typed) -> Typed:
    pattern = quoted(rf"\A(?:{_regex(regex)})")
    return Typed(f"regexp_matches({_text(s, 'match')}, {pattern})", pa.bool_(), s.nullable, loose=True)


def _extract(s: Typed, regex: Typed) -> Typed:
    text = _regex(regex)
    pattern, group = quoted(text), int(_has_group(text))
    sql = let(
        lambda x: f"(case when regexp_matches({x}, {pattern}) then regexp_extract({x}, {pattern}, {group}) end)",
        _text(s, "extract"),
    )
    return Typed(sql, pa.string(), True)


def _has_group(pattern: str) -> bool:
    import re

    return re.compile(pattern).groups > 0


def _slice(s: Typed, first: Typed | None = None, last: Typed | None = None) -> Typed:
    i, j = (None if v is None else int(_constant(v, n, (int, float))) for v, n in ((first, "i"), (last, "j")))
    i = i or 0

    def body(x: str) -> str:
        start = str(i) if i >= 0 else f"greatest(length({x}) - {-i}, 0)"
        if j is None:
            return f"substring({x}, {start} + 1)"
        if j >= 0 and i >= 0:
            return f"substring({x}, {i + 1}, {max(j - i, 0)})"
        stop = str(j) if j >= 0 else f"length({x}) - {-j}"
        return f"substring({x}, {start} + 1, greatest({stop} - ({start}), 0))"

    return Typed(let(body, _text(s, "slice")), pa.string(), s.nullable)


def _replace(s: Typed, old: Typed, new: Typed) -> Typed:
    before, after = (_constant(v, n, (str,)) for v, n in ((old, "old"), (new, "new")))
    if not before:
        raise ExpressionError("'old' of replace(s, old, new) is empty")
    return Typed(f"replace({_text(s, 'replace')}, {quoted(before)}, {quoted(after)})", pa.string(), s.nullable)


def _split(s: Typed, separator: Typed, i: Typed) -> Typed:
    by, at = _constant(separator, "sep", (str,)), int(_constant(i, "i", (int, float)))
    if not by:
        raise ExpressionError("'sep' of split(s, sep, i) is empty")
    sql = f"string_split({_text(s, 'split')}, {quoted(by)})[{at + 1 if at >= 0 else at}]"
    return Typed(sql, pa.string(), True)


def _concat(*values: Typed) -> Typed:
    for value in values:
        if kind(value) != "text":
            raise ExpressionError(f"concat(a, b, …) needs text, got {kind(value)}; write text(x)")
    return Typed(f"({' || '.join(v.sql for v in values)})", pa.string(), any(v.nullable for v in values))


NUMBERS: dict[str, Callable[..., Typed]] = {
    **{name: _double(name, form) for name, form in _DOUBLE.items()},
    "abs": _abs,
    "sign": _sign,
    "floor": _whole_part("floor"),
    "ceil": _whole_part("ceil"),
    "round": _round,
}
"""Name -> function from the arguments, in order."""

TEXTS: dict[str, Callable[..., Typed]] = {
    "contains": _truth("contains", "contains({}, {})"),
    "startswith": _truth("startswith", "starts_with({}, {})"),
    "endswith": _truth("endswith", "ends_with({}, {})"),
    "match": _match,
    "lower": _simple("lower", "lower({})"),
    "upper": _simple("upper", "upper({})"),
    "strip": _simple("strip", f"trim({{}}, {quoted(_SPACES)})"),
    "length": _length,
    "slice": _slice,
    "replace": _replace,
    "split": _split,
    "extract": _extract,
    "concat": _concat,
}
"""Name -> function from the arguments, in order."""
