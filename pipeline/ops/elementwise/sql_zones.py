"""Local times of zones over columns as SQL: to the clock of a zone and back, and times as text.

A column with a zone is carried as UTC. DuckDB moves a local time that a clock change skips, and takes the later of two
that it repeats; here both are found by the offsets a day before and after, and the expression decides.
"""

from __future__ import annotations

import functools
import re
import zoneinfo
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from pipeline.ops.elementwise.sql_types import Typed, from_ticks, let, quoted, sql_name, ticks

__all__ = [
    "floor_of_local",
    "local",
    "local_ticks",
    "localized",
    "offset_text",
    "shifted",
    "start_of_local",
    "time_text",
]

_DAY = 86_400


def _fixed(zone: str) -> int | None:
    """The offset in seconds of a zone that has no clock changes by its name; None of others."""
    if zone in ("UTC", "Etc/UTC", "GMT", "Z"):
        return 0
    found = re.fullmatch(r"([+-])(\d\d):?(\d\d)", zone)
    return None if found is None else int(f"{found[1]}1") * (int(found[2]) * 3600 + int(found[3]) * 60)


def offset_seconds(seconds: str, zone: str) -> str:
    """Return the offset from UTC in seconds, at an instant given in whole seconds of UTC."""
    fixed = _fixed(zone)
    if fixed is not None:
        return str(fixed)
    instant = f"make_timestamp(({seconds}) * 1000000)"
    return f"(epoch_us(timezone({quoted(zone)}, timezone('UTC', {instant}))) // 1000000 - ({seconds}))"


def _per_second(unit: str) -> int:
    return {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]


def _floor(sql: str, n: int) -> str:
    """``sql`` divided by ``n`` and rounded down."""
    return sql if n == 1 else f"(({sql}) // {n} - (case when ({sql}) % {n} < 0 then 1 else 0 end))"


def local_ticks(value: Typed) -> str:
    """Return the local time of a zoned or the time of a plain column, in its unit since 1970."""
    unit = value.type.unit if pa.types.is_timestamp(value.type) else "s"
    count = ticks(value, unit)
    zone = getattr(value.type, "tz", None)
    fixed = _fixed(zone) if zone else 0
    n = _per_second(unit)
    if zone is None or fixed is not None:
        return f"({count} + {fixed * n})" if fixed else count
    return let(lambda t: f"({t} + {offset_seconds(_floor(t, n), zone)} * {n})", count)


def local(value: Typed) -> Typed:
    """Return the local time without its zone."""
    if not getattr(value.type, "tz", None):
        return value
    plain = pa.timestamp(value.type.unit)
    if _fixed(value.type.tz) == 0:
        return Typed(value.sql, plain, value.nullable)
    if value.type.unit != "ns" and _fixed(value.type.tz) is None:
        stamp = value.sql if value.type.unit == "us" else f"{value.sql}::timestamp"
        shown = f"timezone({quoted(value.type.tz)}, timezone('UTC', {stamp}))"
        return Typed(shown if value.type.unit == "us" else f"{shown}::{sql_name(plain)}", plain, value.nullable)
    return Typed(from_ticks(local_ticks(value), plain), plain, value.nullable)


def _candidates(wall: str, zone: str, n: int, body: str, at: str = "") -> str:
    """``body`` with ``v``: the local time in ticks and the instants that it may be, with ``n`` ticks a second.

    ``v.w`` is the local time, ``v.a`` the instant by the offset of the day after, ``v.b`` by that of the day before;
    ``v.x`` and ``v.y`` say whether the clock shows ``w`` then. ``v.t`` is ``at``, if it is given.
    """
    fixed = _fixed(zone)
    if fixed is not None:
        return f"({wall} - {fixed * n})"
    more = [f", 't': {name}.t" if at else "" for name in "usr"]
    first = f"[{{'w': {wall}, 't': {at}}}]" if at else f"[{{'w': {wall}}}]"
    steps = f"list_transform({first}, lambda u: {{'w': u.w, 's': {_floor('u.w', n)}{more[0]}}})"
    after, before = (offset_seconds(f"s.s + {d}", zone) for d in (_DAY, -_DAY))
    steps = f"list_transform({steps}, lambda s: {{'w': s.w, 's': s.s, 'a': s.s - ({after}), 'b': s.s - ({before})"
    steps += f"{more[1]}}})"
    shows = [f"(r.{x} + {offset_seconds(f'r.{x}', zone)} = r.s)" for x in "ab"]
    steps = f"list_transform({steps}, lambda r: {{'w': r.w, 'a': r.a * {n} + (r.w - r.s * {n}), "
    steps += f"'b': r.b * {n} + (r.w - r.s * {n}), 'x': {shows[0]}, 'y': {shows[1]}{more[2]}}})"
    return f"list_transform({steps}, lambda v: {body})[1]"


def start_of_local(wall: str, zone: str, unit: str, *, midnight: bool = False) -> str:
    """Return the instant, in ticks, at which a local time is shown first; where it is skipped, as much later.

    Parameters
    ----------
    midnight : it is the start of a day, and where it is skipped, the day starts with the clock change
    """
    n = _per_second(unit)
    skipped = _begun(zone, n, _DAY) if midnight else "v.b"
    first = "when v.x and v.y then least(v.a, v.b) when v.x then v.a when v.y then v.b"
    return _candidates(wall, zone, n, f"(case {first} else {skipped} end)")


def floor_of_local(wall: str, zone: str, unit: str, at: str, step: int) -> str:
    """Return the instant, in ticks, at which the period of a local time begins: never later than ``at``.

    Parameters
    ----------
    wall : a multiple of ``step`` seconds on the clock; shown twice, it is the last one that is not after ``at``
    at : an instant in the period
    """
    n = _per_second(unit)
    last = "(case when greatest(v.a, v.b) <= v.t then greatest(v.a, v.b) else least(v.a, v.b) end)"
    body = f"(case when v.x and v.y then {last} when v.x then v.a when v.y then v.b else {_begun(zone, n, step)} end)"
    return _candidates(wall, zone, n, body, at)


def _begun(zone: str, n: int, step: int) -> str:
    """The instant at which a period of ``step`` seconds begins whose first local time is skipped."""
    changes = _changes_across(zone, step)
    if not changes:
        return "v.b"
    listed = ", ".join(map(str, changes))
    inside = f"list_filter([{listed}]::bigint[], lambda c: c * {n} > v.a and c * {n} <= v.b)"
    return f"coalesce(list_max({inside}) * {n}, v.b)"


@functools.cache
def _changes_across(zone: str, step: int) -> tuple[int, ...]:
    """The clock changes that skip a multiple of ``step`` seconds other than as the first moment."""
    if _fixed(zone) is not None:
        return ()
    where = zoneinfo.ZoneInfo(zone)

    def clock(seconds: int, offset_at: int) -> int:
        there = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=offset_at)).astimezone(where).utcoffset()
        return seconds + int((there or timedelta()).total_seconds())

    return tuple(c for c in clock_changes(zone) if clock(c, c - 1) // step < (clock(c, c) - 1) // step)


def localized(value: Typed, zone: str, ambiguous: bool | str, nonexistent: str) -> str:
    """Return the instant of a local time; where a clock change repeats or skips it, the options decide.

    Parameters
    ----------
    ambiguous : ``raise``, ``NaT``, True (the first, daylight time) or False
    nonexistent : ``raise``, ``NaT``, ``shift_forward`` or ``shift_backward``
    """
    unit = value.type.unit
    n = _per_second(unit)
    twice = {True: "least(v.a, v.b)", False: "greatest(v.a, v.b)", "NaT": "null"}.get(ambiguous) or _refusal(
        "repeated", zone, "ambiguous=True or ''NaT''", n
    )
    if nonexistent in ("shift_forward", "shift_backward"):
        changes = ", ".join(map(str, clock_changes(zone)))
        change = f"list_max(list_filter([{changes}]::bigint[], lambda c: c * {n} <= v.b)) * {n}"
        never = change if nonexistent == "shift_forward" else f"({change} - 1)"
    elif nonexistent == "NaT":
        never = "null"
    else:
        never = _refusal("skipped", zone, "nonexistent=''shift_forward'' or ''NaT''", n)
    body = (
        f"(case when v.w is null then null when v.x and v.y and v.a <> v.b then {twice} "
        f"when v.x then v.a when v.y then v.b else {never} end)::bigint"
    )
    return _candidates(ticks(value, unit), zone, n, body)


def _refusal(problem: str, zone: str, option: str, n: int) -> str:
    when = f"make_timestamp(v.w * {10**6 // n})" if n <= 10**6 else f"make_timestamp_ns(v.w * {10**9 // n})"
    return (
        f"error({when}::varchar || ' is {problem} by a clock change in ' || {quoted(zone)} || "
        f"'; write localize(t, zone, {option})')"
    )


@functools.cache
def clock_changes(zone: str) -> tuple[int, ...]:
    """Return the instants from 1880 to 2200 at which the clock of a zone is changed, in seconds since 1970."""
    where = zoneinfo.ZoneInfo(zone)

    def offset(seconds: int) -> timedelta:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).astimezone(
            where
        ).utcoffset() or timedelta()

    first, last = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1880, 2200))
    found, step = [], 7 * _DAY
    known = offset(first)
    for start in range(first, last, step):
        if (later := offset(start + step)) != known:
            low, high = start, start + step
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == known else (low, middle)
            found.append(high)
            known = later
    return tuple(found)


def shifted(value: Typed, months: int) -> Typed:
    """Return times some months later, on the same day of the month, or on its last; the clock shows the same time.

    A local time that a clock change skips is as much later, of one that it repeats it is the first.
    """
    if pa.types.is_date(value.type):
        return Typed(f"({value.sql} + to_months({months}))::date", value.type, value.nullable)
    unit, zone = value.type.unit, getattr(value.type, "tz", None)
    size = _DAY * _per_second(unit)

    def body(w: str) -> str:
        day = f"(date '1970-01-01' + {_floor(w, size)}::integer + to_months({months}))::date"
        return f"(({day} - date '1970-01-01') * {size} + ({w} % {size} + {size}) % {size})"

    wall = let(body, local_ticks(value))
    sql = start_of_local(wall, zone, unit) if zone else wall
    return Typed(from_ticks(sql, value.type), value.type, value.nullable)


def time_text(value: Typed) -> str:
    """Return times as ISO 8601 text, with as many digits as they need; days as ``2020-01-31``."""
    t = pa.types
    if t.is_date(value.type):
        return f"{value.sql}::varchar"
    clock = local(value)
    form, digits = ("%n", 9) if value.type.unit == "ns" else ("%f", 6)
    stamp = clock.sql if value.type.unit in ("us", "ns") else f"{clock.sql}::timestamp"
    whole = f"strftime({stamp}, '%Y-%m-%dT%H:%M:%S')"
    text = whole
    if value.type.unit != "s":
        full = f"strftime({stamp}, '%Y-%m-%dT%H:%M:%S.{form}')"
        text = let(
            lambda s: f"(case when ends_with({s}, '{'0' * digits}') then {s}[:-{digits + 2}] else {s} end)", full
        )
        if digits == 9:
            text = let(
                lambda s: f"(case when length({s}) > 20 and ends_with({s}, '000') then {s}[:-4] else {s} end)", text
            )
    if not getattr(value.type, "tz", None):
        return text
    return f"({text} || {offset_text(value)})"


def offset_text(value: Typed) -> str:
    """Return the offset of zoned times as text: ``+01:00``."""
    zone, n = value.type.tz, _per_second(value.type.unit)
    return let(_offset_text, let(lambda c: offset_seconds(_floor(c, n), zone), ticks(value, value.type.unit)))


def _offset_text(o: str) -> str:
    two = "lpad((({}) % 60)::varchar, 2, '0')"
    hours = f"lpad((abs({o}) // 3600)::varchar, 2, '0')"
    minutes = two.format(f"abs({o}) // 60")
    seconds = f"(case when {o} % 60 <> 0 then ':' || {two.format(f'abs({o})')} else '' end)"
    return f"((case when {o} < 0 then '-' else '+' end) || {hours} || ':' || {minutes} || {seconds})"
