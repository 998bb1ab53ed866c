"""Times, durations and periods as text: ``1995-03-15 12:30``, ``1h 30min``, ``quarter``; durations of months."""

from __future__ import annotations

import calendar
import math
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from pipeline.config.expressions.references import ExpressionError

__all__ = ["Months", "Period", "parse_duration", "parse_period", "parse_time"]

_SECONDS = {
    **dict.fromkeys(("us",), 1e-6),
    **dict.fromkeys(("ms",), 1e-3),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}
_MONTHS = {
    **dict.fromkeys(("month", "months"), 1),
    **dict.fromkeys(("quarter", "quarters"), 3),
    **dict.fromkeys(("year", "years"), 12),
}
# letters that mean one length here and another elsewhere -> what to write
_DOUBTFUL = {
    **dict.fromkeys(("MS", "Ms", "mS"), "'ms' for milliseconds, 'month' in floor_time for months"),
    **dict.fromkeys(("M", "m", "ME", "MONTH_START"), "'min' for minutes, 'month' in floor_time for months"),
    **dict.fromkeys(("Q", "QS", "QE"), "'quarter' in floor_time"),
    **dict.fromkeys(("Y", "YS", "YE", "A", "AS"), "'year' in floor_time"),
    **dict.fromkeys(("T",), "'min' for minutes"),
    **dict.fromkeys(("L",), "'ms' for milliseconds"),
}
_AMOUNT = re.compile(r"([+-]?\d+(?:\.\d+)?)?\s*([A-Za-z]+)\s*")


def parse_duration(text: str) -> timedelta:
    """Return the duration that a text such as ``5min``, ``1h 30min`` or ``d`` (one day) stands for.

    Raises
    ------
    ExpressionError : if the text is not a duration

    >>> parse_duration("1h 30min")
    datetime.timedelta(seconds=5400)
    """
    position, seconds, stripped = 0, 0.0, text.strip()
    while position < len(stripped):
        amount = _AMOUNT.match(stripped, position)
        if amount is not None and amount.group(2) in _DOUBTFUL:
            cure = _DOUBTFUL[amount.group(2)]
            raise ExpressionError(f"got {text!r}; {amount.group(2)!r} means several lengths of time; write {cure}")
        if amount is not None and amount.group(2).lower() in _MONTHS:
            name = amount.group(2).lower().rstrip("s")
            raise ExpressionError(f"got {text!r}; a {name} has no one length; write duration({name}s=1)")
        if amount is None or amount.group(2).lower() not in _SECONDS:
            raise ExpressionError(f"got {text!r}; a duration is written '5min', '1h', '2d' (us ms s min h d w)")
        seconds += float(amount.group(1) or 1) * _SECONDS[amount.group(2).lower()]
        position = amount.end()
    if not stripped or not math.isfinite(seconds) or abs(seconds) > 1e11:
        raise ExpressionError(f"got {text!r}; a duration is written '5min', '1h', '2d'")
    return timedelta(seconds=seconds)


@dataclass(frozen=True)
class Period:
    """What times are rounded down to: a multiple of months, of weeks from Monday on, or of a fixed length from 1970 on.

    Exactly one of them is not 0.
    """

    months: int = 0
    weeks: int = 0
    length: timedelta = timedelta(0)


def parse_period(value: Any) -> Period:
    """Return the period that a text such as ``month``, ``15 minutes``, ``week`` or ``6h`` stands for.

    Raises
    ------
    ExpressionError : if it is no period

    >>> parse_period("2 quarters").months, parse_period("1D").length
    (6, datetime.timedelta(days=1))
    """
    if isinstance(value, timedelta):
        found = Period(length=value)
    elif not isinstance(value, str):
        raise ExpressionError(f"got {value!r}; a period is written 'month', 'week', '15 minutes', '6h'")
    else:
        named = re.fullmatch(r"\s*(\d+)?\s*([A-Za-z]+)\s*", value)
        unit, n = (named.group(2).lower(), int(named.group(1) or 1)) if named else ("", 0)
        if unit in _MONTHS and named and named.group(2) not in _DOUBTFUL:
            found = Period(months=n * _MONTHS[unit])
        elif unit in ("w", "week", "weeks"):
            found = Period(weeks=n)
        else:
            found = Period(length=parse_duration(value))
    if not 0 < found.months + found.weeks + (found.length > timedelta(0)) <= 120_000:
        raise ExpressionError(f"floor_time needs a duration above 0, got {value!r}")
    return found


@dataclass(frozen=True, order=True)
class Months:
    """A length of time by the calendar: a day of the month stays the same, or becomes the last where there is none."""

    n: int

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Months):
            return Months(self.n + other.n)
        return _later(other, self.n) if isinstance(other, datetime) else NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return Months(self.n - other.n) if isinstance(other, Months) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return _later(other, -self.n) if isinstance(other, datetime) else NotImplemented

    def __mul__(self, other: Any) -> Any:
        return Months(self.n * other) if isinstance(other, int) and not isinstance(other, bool) else NotImplemented

    __rmul__ = __mul__


def _later(time: datetime, months: int) -> datetime:
    index = time.year * 12 + time.month - 1 + months
    year, month = index // 12, index % 12 + 1
    if not 1 <= year <= 9999:
        raise OverflowError
    return time.replace(year=year, month=month, day=min(time.day, calendar.monthrange(year, month)[1]))


def parse_time(value: Any) -> datetime:
    """Return the time that a date or an ISO 8601 text stands for; with ``Z`` or an offset it has a time zone.

    Raises
    ------
    ExpressionError : if it is not a time
    """
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        return datetime.fromisoformat(value.strip())
    except (ValueError, AttributeError):
        raise ExpressionError(f"got {value!r}; a time is written '1995-03-15' or '1995-03-15 12:30:00'") from None
