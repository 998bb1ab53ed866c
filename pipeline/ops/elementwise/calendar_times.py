"""Operations on times of calendars that numpy lacks, which are arrays of cftime objects, and time constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.config.expressions.references import ExpressionError
from pipeline.graph.calendars import calendar_of, in_calendar
from pipeline.ops.elementwise.kinds import Value, is_missing, kind

__all__ = ["compare_times", "in_one_calendar", "shift_times"]


def in_one_calendar(*values: Value) -> tuple[Value, ...]:
    """Return the values, with constant times in the calendar of the others, if that is one that numpy lacks.

    Raises
    ------
    ExpressionError : the calendar does not have a time, or the values are of two calendars
    """
    calendars = sorted(set(filter(None, map(calendar_of, values))))
    return tuple(_of_calendar(value, calendars) for value in values) if calendars else values


def _of_calendar(value: Value, calendars: list[str]) -> Value:
    times = np.asarray(value)
    if times.dtype.kind == "M" and times.ndim == 0 and len(calendars) == 1:
        try:
            return in_calendar(times[()], calendars[0])
        except ValueError as error:
            raise ExpressionError(str(error)) from None
    if len(calendars) > 1 or times.dtype.kind == "M":
        names = sorted({*calendars, *(["standard"] if times.dtype.kind == "M" else [])})
        raise ExpressionError(f"times of the calendars {' and '.join(names)} can't be compared, nor combined")
    return value


def shift_times(function: Callable[..., Any], a: Value, b: Value) -> Value:
    """Return the sum or difference of times and durations, by ``function``; of two times as ``timedelta64``."""
    left, right = (v.astype("m8[us]").astype(object) if kind(v) == "duration" else v for v in in_one_calendar(a, b))
    try:
        found = np.asarray(function(left, right))
    except OverflowError as error:
        raise ExpressionError(f"a time is out of range: {error}") from None
    return found.astype("m8[us]") if calendar_of(left) and calendar_of(right) else found


def compare_times(function: Callable[..., Any], a: Value, b: Value) -> Any:
    """Return the comparison by ``function``; false where a time is missing, with which cftime compares nothing."""
    left, right = np.broadcast_arrays(*(np.asarray(v, dtype=object) for v in in_one_calendar(a, b)))
    known, found = ~np.logical_or(is_missing(left), is_missing(right)), np.zeros(left.shape, bool)
    found[known] = function(left[known], right[known]).astype(bool)
    return found
