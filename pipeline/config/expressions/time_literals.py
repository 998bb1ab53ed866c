"""Times and durations as text: ``1995-03-15 12:30``, ``1h 30min``."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta
from typing import Any

from pipeline.config.expressions.references import ExpressionError

__all__ = ["parse_duration", "parse_time"]

_SECONDS = {
    **dict.fromkeys(("us",), 1e-6),
    **dict.fromkeys(("ms",), 1e-3),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
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
        if amount is None or amount.group(2).lower() not in _SECONDS:
            raise ExpressionError(f"got {text!r}; a duration is written '5min', '1h', '2d' (us ms s min h d w)")
        seconds += float(amount.group(1) or 1) * _SECONDS[amount.group(2).lower()]
        position = amount.end()
    if not stripped or not math.isfinite(seconds) or abs(seconds) > 1e11:
        raise ExpressionError(f"got {text!r}; a duration is written '5min', '1h', '2d'")
    return timedelta(seconds=seconds)


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
