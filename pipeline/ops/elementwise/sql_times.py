"""Functions of times over columns as SQL: parts, rounding down, zones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import Months, parse_duration, parse_period, parse_time
from pipeline.ops.elementwise.sql_types import (
    UNITS,
    Typed,
    from_ticks,
    kind,
    let,
    literal,
    quoted,
    renamed,
    ticks,
    time_of_text,
)
from pipeline.ops.elementwise.sql_zones import (
    floor_of_local,
    local,
    local_ticks,
    localized,
    offset_text,
    start_of_local,
)

__all__ = ["TIMES"]

_DAY = timedelta(days=1)
_MONDAY = -3 * 86_400  # the Monday before 1970-01-01

_PARTS = {
    "year": "year({})",
    "quarter": "quarter({})",
    "month": "month({})",
    "isoweek": "week({})",
    "day": "day({})",
    "hour": "hour({})",
    "minute": "minute({})",
    "second": "second({})",
    "weekday": "(isodow({}) - 1)",
    "dayofyear": "dayofyear({})",
}


def _part(name: str) -> Callable[[Typed], Typed]:
    def call(t: Typed) -> Typed:
        _require_time(t, name)
        clock = local(t)
        stamp = clock.sql if pa.types.is_date(t.type) or t.type.unit in ("us", "ns") else f"{clock.sql}::timestamp"
        if name in ("hour", "minute", "second") and pa.types.is_date(t.type):
            return Typed(f"(case when {t.sql} is not null then 0::bigint end)", pa.int64(), t.nullable)
        return Typed(f"{_PARTS[name].format(stamp)}::bigint", pa.int64(), t.nullable)

    return call


def _require_time(t: Typed, function: str) -> None:
    if kind(t) not in {"time", "zoned time"}:
        raise ExpressionError(f"{function}(t) needs times, got {kind(t)}; see timestamp('…') and cast")


def _floor_time(t: Typed, length: Typed) -> Typed:
    _require_time(t, "floor_time")
    period = parse_period(_constant(length))
    is_day = pa.types.is_date(t.type)
    if is_day and (period.length % _DAY or not (period.months or period.weeks or period.length)):
        return t if _DAY % period.length == timedelta(0) else _floor_time(_as_stamp(t), length)
    unit = "s" if is_day else "ns" if t.type.unit == "ns" else "us"
    found = t.type if is_day else pa.timestamp(unit, t.type.tz)
    stamp = t if is_day or t.type.unit == unit else Typed(from_ticks(ticks(t, unit), found), found, t.nullable)
    zone = getattr(t.type, "tz", None)
    if period.months:
        sql = _month_floor(local(stamp), period.months, unit)
        return Typed(
            from_ticks(start_of_local(sql, zone, unit, midnight=True) if zone else sql, found), found, t.nullable
        )
    step = period.length or timedelta(weeks=period.weeks)
    size = step // timedelta(microseconds=1) * UNITS[unit] // 10**6
    first = _MONDAY * UNITS[unit] if period.weeks else 0
    if zone and step > timedelta(hours=1) and step % _DAY:
        wall = let(lambda w: f"({w} - {_mod(w, size)})", local_ticks(stamp))
        sql = floor_of_local(wall, zone, unit, ticks(stamp, unit), int(step.total_seconds()))
        return Typed(from_ticks(sql, found), found, t.nullable)
    if zone and step % _DAY:  # by the wall clock, but an hour that a clock change repeats stays two
        sql = let(lambda c, w: f"({c} - {_mod(w, size)})", ticks(stamp, unit), local_ticks(stamp))
        return Typed(from_ticks(sql, found), found, t.nullable)
    shown = local_ticks(stamp) if zone else ticks(stamp, unit)
    sql = let(lambda w: f"({w} - {_mod(f'({w} - {first})', size)})", shown)
    return Typed(from_ticks(start_of_local(sql, zone, unit, midnight=True) if zone else sql, found), found, t.nullable)


def _month_floor(clock: Typed, months: int, unit: str) -> str:
    """The first of the month, counted in multiples from 1970 on, in ticks."""
    stamp = clock.sql

    def body(m: str) -> str:
        start = f"({m} - {_mod(m, months)})"
        year = f"(1970 + ({start} - {_mod(start, 12)}) // 12)"
        return f"(make_date({year}, {_mod(start, 12)} + 1, 1) - date '1970-01-01')"

    days = let(body, f"((year({stamp}) - 1970) * 12 + month({stamp}) - 1)")
    return f"({days} * {86_400 * UNITS[unit]})"


def _strftime(t: Typed, form: Typed) -> Typed:
    _require_time(t, "strftime")
    clock = local(t)
    stamp = clock.sql if pa.types.is_date(t.type) or t.type.unit in ("us", "ns") else f"{clock.sql}::timestamp"
    parts = _text(_constant(form), "format").split("%z")
    if len(parts) > 1 and kind(t) != "zoned time":
        raise ExpressionError("strftime(t, format): '%z' is the offset of a zone, and the times have none")
    shown = [f"strftime({stamp}, {quoted(part)})" if part else "''" for part in parts]
    offset = f"replace({offset_text(t)}, ':', '')" if len(parts) > 1 else "''"
    return Typed("(" + f" || {offset} || ".join(shown) + ")", pa.string(), t.nullable)


def _parse_time(s: Typed, formats: Typed, *, errors: str = "fail") -> Typed:
    if kind(s) != "text":
        raise ExpressionError(f"parse_time(s, formats) needs text, got {kind(s)}")
    given = _constant(formats)
    forms = [_text(one, "formats") for one in (given if isinstance(given, tuple) else (given,))]
    zoned = ["%z" in form for form in forms]
    if any(zoned) and not all(zoned):
        raise ExpressionError("parse_time(s, formats): some of the formats have '%z' and some don't; parse them apart")
    found = pa.timestamp("us", "UTC" if zoned[0] else None)
    listed = f"[{', '.join(map(quoted, forms))}]"

    def parsed(text: str) -> str:
        read = time_of_text(text, listed)
        return f"timezone('UTC', {read})" if zoned[0] else read

    if errors == "missing":
        return Typed(parsed(s.sql), found, nullable=True)
    said = quoted(f", which is none of {', '.join(map(repr, forms))}; errors='missing' lets it be missing")
    checked = let(
        lambda x: (
            f"(case when {parsed(x)} is null and {x} is not null "
            f"then error('parse_time(s): got ' || chr(39) || {x}[:60] || chr(39) || {said}) else {parsed(x)} end)"
        ),
        s.sql,
    )
    return Typed(checked, found, s.nullable)


def _as_stamp(t: Typed) -> Typed:
    return Typed(f"{t.sql}::timestamp", pa.timestamp("us"), t.nullable)


def _mod(sql: str, n: int) -> str:
    """The remainder, at least 0."""
    return f"(({sql} % {n} + {n}) % {n})"


def _localize(t: Typed, zone: Typed, *, ambiguous: Any = "raise", nonexistent: str = "raise") -> Typed:
    if kind(t) != "time":
        hint = "; it has a zone: convert(t, zone)" if kind(t) == "zoned time" else ""
        raise ExpressionError(f"localize(t, zone) needs times without a zone, got {kind(t)}{hint}")
    t = _as_stamp(t) if pa.types.is_date(t.type) else t
    name = _text(_constant(zone), "zone")
    found = pa.timestamp(t.type.unit, name)
    sql = localized(t, name, ambiguous, nonexistent)
    return Typed(from_ticks(sql, found), found, t.nullable or "NaT" in (ambiguous, nonexistent))


def _convert(t: Typed, zone: Typed) -> Typed:
    if kind(t) != "zoned time":
        hint = "; localize(t, zone) first" if kind(t) == "time" else ""
        raise ExpressionError(f"convert(t, zone) needs zoned times, got {kind(t)}{hint}")
    return renamed(t, pa.timestamp(t.type.unit, _text(_constant(zone), "zone")))


def _time_of(value: Typed) -> Typed:
    """``date(${x})`` or ``timestamp(${x})`` of a text that is unknown until the run."""
    given = _constant(value)
    if isinstance(given, bool | int | float | timedelta):
        raise ExpressionError(f"got {given!r}; a time is written '1995-03-15' or '1995-03-15 12:30:00'")
    return literal(parse_time(given), bound=True)


def _duration_of(value: Typed | None = None, **lengths: Any) -> Typed:
    if value is None:
        n = sum(
            _whole(number, name) * {"years": 12, "quarters": 3, "months": 1}[name] for name, number in lengths.items()
        )
        return literal(Months(n), bound=True)
    given = _constant(value)
    return value if isinstance(given, timedelta) else literal(parse_duration(_text(given, "text")), bound=True)


def _whole(value: Any, name: str) -> int:
    if not isinstance(value, int | float) or isinstance(value, bool) or value != int(value):
        raise ExpressionError(f"'{name}' of duration got {value!r}; it must be a whole number")
    return int(value)


def _constant(value: Typed) -> Any:
    if not value.constant:
        raise ExpressionError("a constant is needed here")
    return value.constant[0]


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ExpressionError(f"'{name}' got {value!r}; it must be text, in single quotes")
    return value


TIMES: dict[str, Callable[..., Typed]] = {
    **{name: _part(name) for name in _PARTS},
    "floor_time": _floor_time,
    "strftime": _strftime,
    "parse_time": _parse_time,
    "localize": _localize,
    "convert": _convert,
    "date": _time_of,
    "timestamp": _time_of,
    "duration": _duration_of,
}
"""Name -> function from the arguments, in order."""
