"""Values from text: numbers, truth values, days, times as ISO 8601 writes them, durations, JSON, base64.

The whole text is read, spaces around it are not: ``1e3`` is no whole number, ``0x10`` no number, ``2020-01-01T00:00Z``
no time without a zone, ``.1234567`` seconds none in microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction

import pyarrow as pa

from pipeline.graph.column_types import family
from pipeline.ops.elementwise.sql_types import UNITS, Typed, from_ticks, let, quoted, sql_name, ticks
from pipeline.ops.elementwise.sql_zones import localized
from pipeline.outputs.column_text import from_text
from pipeline.worker.sql_engine import query

__all__ = ["FLOAT", "WHOLE", "duration_ticks", "parsed"]

WHOLE = r"[+-]?\d+"
FLOAT = r"(?i)[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?"
_DAY = r"\d{4}-\d\d-\d\d"
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"
_OFFSET = r"(Z|[+-]\d\d(:?\d\d(:?\d\d)?)?)"


def parsed(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Return the values of a text column as the carrier of a type; missing where a text is no such value.

    The text ``nan`` is a missing float.
    """
    t = pa.types
    if family(target) in ("list", "struct", "binary"):  # JSON and base64, as outputs write them
        return pa.chunked_array([from_text(column.combine_chunks(), target)], target)
    source = {"t": pa.table([column.combine_chunks()], names=["c0"])}
    text = "trim(c0, ' ' || chr(9) || chr(10) || chr(13))"
    if t.is_boolean(target):
        for yes, no in (("true", "false"), ("1", "0")):
            found = _column(f"case lower({text}) when '{yes}' then true when '{no}' then false end", source)
            if found.null_count == column.null_count:
                break
        return found
    if t.is_floating(target):
        name = sql_name(target)
        number = let(
            lambda x: f"(case when not isinf({x}) or {text} ilike '%inf%' then {x} end)", _when(text, FLOAT, name)
        )
        return _column(f"case when lower({text}) = 'nan' then 'nan'::{name} else {number} end", source)
    if t.is_integer(target):
        return _column(_when(text, WHOLE, sql_name(target)), source)
    if t.is_decimal(target):
        n = target.scale
        form = rf"\d+(\.\d{{0,{n}}}0*)?|\.\d{{1,{n}}}0*" if n else r"\d+(\.0*)?"
        return _column(_when(text, f"[+-]?({form})", sql_name(target)), source)
    if t.is_date(target):
        whole = rf"{_DAY}([T ]00:00(:00(\.0+)?)?)?"
        return _column(f"case when {_matches(text, whole)} then try_cast({text}[:10] as date) end", source)
    if t.is_time(target):
        clock = rf"{_CLOCK}(:[0-5]\d{_fraction(target.unit)})?"
        return _column(_when(text, clock, sql_name(target)), source)
    return _column(_time(text, target), source)


def _column(sql: str, source: dict[str, pa.Table]) -> pa.ChunkedArray:
    return query(f"select {sql} as e from t", source).column(0)


def _matches(text: str, pattern: str) -> str:
    return f"regexp_full_match({text}, {quoted(pattern)})"


def _when(text: str, pattern: str, name: str) -> str:
    return f"(case when {_matches(text, pattern)} then try_cast({text} as {name}) end)"


def _fraction(unit: str) -> str:
    """As many digits of a second as the unit has, and zeros."""
    digits = len(str(UNITS[unit])) - 1
    return r"(\.\d{0," + str(digits) + r"}0*)?"


def _time(text: str, target: pa.DataType) -> str:
    plain = pa.timestamp(target.unit)
    form = rf"{_DAY}([T ]{_CLOCK}(:[0-5]\d{_fraction(target.unit)})?)?"
    if not target.tz:
        return _when(text, form, sql_name(plain))
    stamp = Typed(_when(text, form, sql_name(plain)), plain, True)
    here = localized(stamp, target.tz, "NaT", "NaT")
    body = f"regexp_replace({text}, {quoted(_OFFSET + '$')}, '')"
    there = ticks(Typed(f"try_cast({body} as {sql_name(plain)})", plain, True), target.unit)
    offset = f"regexp_extract({text}, {quoted(_OFFSET + '$')})"
    digits = f"rpad(replace({offset}[2:], ':', ''), 6, '0')"
    parts = (f"{digits}[{i}:{i + 1}]::bigint * {n}" for i, n in ((1, 3600), (3, 60), (5, 1)))
    sign = f"(case when {offset}[1] = '-' then -1 else 1 end)"
    seconds = f"(case when ends_with({text}, 'Z') then 0::bigint else {sign} * ({' + '.join(parts)}) end)"
    both = let(
        lambda s: (
            f"(case when {_matches(s, form + _OFFSET)} then {there} - {seconds} * {UNITS[target.unit]} else {here} end)"
        ),
        text,
    )
    return from_ticks(both, target)


def duration_ticks(text: str | None, unit: str, parse: Callable[[str], timedelta]) -> int | None:
    """Return a duration such as ``5min``, ``1 days 02:00:00`` or ``-00:00:01.5`` as a whole number of a unit.

    Raises
    ------
    ValueError : it is no duration, or has a fraction of the unit
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*(-)?\s*(?:(\d+)\s*(?:d|days?)\s*)?(?:\+?(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?))?\s*", text)
    if found and (found[2] or found[3]):
        hours, minutes, seconds = (Fraction(found[i] or 0) for i in (3, 4, 5))
        exact = int(found[2] or 0) * 86_400 + hours * 3600 + minutes * 60 + seconds
        exact = -exact if found[1] else exact
    else:
        length = parse(text)
        exact = Fraction(length // timedelta(microseconds=1), 10**6)
    count = exact * UNITS[unit]
    if count.denominator != 1 or abs(count) >= 2**63:
        raise ValueError("has a fraction of its unit")
    return int(count)
