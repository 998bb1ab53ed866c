"""Regular periods of time: what a rule such as ``6h`` or ``2 months`` says, the period of each time, where it starts.

Days and longer periods are those of the local calendar, shorter ones lengths of time, whatever the clock does. Several
units in one (``7h``, ``2MS``) are counted from the first time of all: from its day, week, month, quarter or year.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import OpError
from pipeline.graph.column_types import type_name
from pipeline.graph.late_pandas import numbers_of

__all__ = ["Rule", "period_numbers", "rule_of", "starts_of"]

Numbers = np.ndarray[Any, np.dtype[np.int64]]

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_SHORT: Mapping[str, str] = {
    **{unit: unit for unit in _SECONDS},
    **{f"{word}{s}": unit for word, unit in (("second", "s"), ("minute", "min"), ("hour", "h")) for s in ("", "s")},
}
_LONG: Mapping[str, str] = {
    **{f"{word}{s}": word for word in ("day", "week", "month", "quarter", "year") for s in ("", "s")},
    "D": "day",
    "d": "day",
    "MS": "month",
    "QS": "quarter",
    "YS": "year",
}
_PART = re.compile(r"(\d+(?:\.\d+)?)?\s*([A-Za-z]+)\s*")
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class Rule:
    """A regular period of a column.

    Parameters
    ----------
    unit : day, week, month, quarter, year; or ``ticks``: of the column
    n : how many of them
    counted : whether periods are counted from the first time of all
    """

    unit: str
    n: int
    counted: bool


def rule_of(text: str, kind: pa.DataType) -> Rule:
    """Return what a rule means for a column of this type.

    Raises
    ------
    OpError : it is no period, or too fine for the column

    >>> rule_of("2 weeks", pa.timestamp("us"))
    Rule(unit='week', n=2, counted=True)
    """
    parts = []
    position, stripped = 0, text.strip()
    while (found := _PART.match(stripped, position)) and position < len(stripped):
        parts.append((found[1] or "1", found[2]))
        position = found.end()
    if position == len(stripped) and len(parts) == 1 and parts[0][1] in _LONG:
        unit = _LONG[parts[0][1]]
        if parts[0][0].isdigit() and int(parts[0][0]):
            n = int(parts[0][0])
            return Rule(unit, n, n > 1)
    elif position == len(stripped) and parts and all(unit in _SHORT for _, unit in parts):
        seconds = sum(float(amount) * _SECONDS[_SHORT[unit]] for amount, unit in parts)
        return _length(text, seconds, kind)
    old = {"W": "week", "ME": "month", "M": "month", "QE": "quarter", "YE": "year", "A": "year", "Y": "year"}
    hint = f"; write '{old[parts[-1][1]]}'" if parts and parts[-1][1] in old else ""
    raise OpError(
        "rule",
        f"got {text!r}, which is no period; periods are D, 6h, 15 minutes, week (it begins on Monday), MS or month, "
        f"quarter, 10YS or 10 years{hint}",
    )


def _length(text: str, seconds: float, kind: pa.DataType) -> Rule:
    if pa.types.is_date(kind):
        if seconds and seconds % 86400 == 0:
            return Rule("day", round(seconds / 86400), seconds > 86400)
        raise OpError("rule", f"got {text!r}; days have no periods of hours, take timestamp(x) before")
    ticks = _TICKS[kind.unit]
    n = round(seconds * ticks)
    if n < 1 or abs(n - seconds * ticks) > 1e-6 * n:
        raise OpError("rule", f"got {text!r}, which is finer than {type_name(kind)}")
    return Rule("ticks", n, kind.tz is not None or 86400 * ticks % n != 0)


def period_numbers(times: pa.ChunkedArray, rule: Rule, first: int | None) -> Numbers:
    """Return for each time the number of its period, the periods' order; no time is missing.

    Parameters
    ----------
    first : the first time of all as the column stores it, if the rule is counted from it
    """
    kind = times.type
    if rule.unit == "ticks":
        start = 0 if first is None else int(_day_starts(_days(_column(first, kind)), kind)[0])
        return (_stored(times) - start) // rule.n
    units = _units(_days(times), rule.unit)
    return (units - _base(rule, first, kind)) // rule.n


def starts_of(numbers: Numbers, rule: Rule, first: int | None, kind: pa.DataType) -> pa.Array:
    """Return where periods start, in the type of the column; a midnight that is skipped is the moment after it."""
    if rule.unit == "ticks":
        start = 0 if first is None else int(_day_starts(_days(_column(first, kind)), kind)[0])
        return pa.array(numbers * rule.n + start, pa.int64()).cast(kind)
    units = numbers * rule.n + _base(rule, first, kind)
    days = _first_days(units, rule.unit)
    if pa.types.is_date(kind):
        return pa.array(days.astype(np.int32)).cast(kind)
    return pa.array(_day_starts(days, kind), pa.int64()).cast(kind)


def _base(rule: Rule, first: int | None, kind: pa.DataType) -> int:
    return 0 if first is None else int(_units(_days(_column(first, kind)), rule.unit)[0])


def _column(value: int, kind: pa.DataType) -> pa.ChunkedArray:
    plain = pa.int32() if pa.types.is_date(kind) else pa.int64()
    return pa.chunked_array([pa.array([value], plain).cast(kind)])


def _stored(times: pa.ChunkedArray) -> Numbers:
    plain = pa.int32() if pa.types.is_date(times.type) else pa.int64()
    return np.asarray(numbers_of(times.cast(plain)), dtype=np.int64)


def _days(times: pa.ChunkedArray) -> Numbers:
    """The local day of each time, counted from 1970-01-01."""
    if pa.types.is_date(times.type):
        return _stored(times)
    local = pc.local_timestamp(times) if times.type.tz else times
    return _stored(local) // (86400 * _TICKS[times.type.unit])


def _day_starts(days: Numbers, kind: pa.DataType) -> Numbers:
    """When local days start, as the column stores it."""
    midnights = pa.array(days * (86400 * _TICKS[kind.unit]), pa.int64())
    if not kind.tz:
        return np.asarray(numbers_of(midnights))
    local = midnights.cast(pa.timestamp(kind.unit))
    zoned = pc.assume_timezone(local, kind.tz, ambiguous="earliest", nonexistent="latest")
    return np.asarray(numbers_of(zoned.cast(pa.int64())))


def _units(days: Numbers, unit: str) -> Numbers:
    if unit == "week":
        return (days + 3) // 7  # 1970-01-01 is a Thursday
    if unit == "day":
        return days
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return months // _MONTHS[unit]


def _first_days(units: Numbers, unit: str) -> Numbers:
    if unit == "week":
        return units * 7 - 3
    if unit == "day":
        return units
    months = (units * _MONTHS[unit]).astype("datetime64[M]")
    return months.astype("datetime64[D]").astype(np.int64)


_MONTHS = {"month": 1, "quarter": 3, "year": 12}
