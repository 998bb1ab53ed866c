"""Functions of times: without zone in numpy, with a zone in pandas, other calendars as cftime objects."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import Period, parse_period
from pipeline.graph.calendars import calendar_of, map_times
from pipeline.graph.importing import Deferred
from pipeline.ops.elementwise.kinds import TEXT, Value, kind
from pipeline.ops.elementwise.scalars import as_scalar

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Deferred("pandas")

__all__ = [
    "PARTS",
    "convert",
    "floor_time",
    "localize",
    "parse_times",
    "shift_months",
    "strftime",
    "time_component",
]

_DAY = timedelta(days=1)


def _whole(array: np.ndarray, unit: str) -> np.ndarray:
    return array.astype(unit).astype(np.int64)


def _day(t: np.ndarray) -> np.ndarray:
    return _whole(t.astype("M8[D]") - t.astype("M8[M]").astype("M8[D]"), "m8[D]") + 1


def _weekday(t: np.ndarray) -> np.ndarray:
    return (_whole(t, "M8[D]") + 3) % 7


def _isoweek(t: np.ndarray) -> np.ndarray:
    thursday = _whole(t, "M8[D]") - _weekday(t) + 3
    return (_dayofyear(thursday.astype("M8[D]")) - 1) // 7 + 1


def _dayofyear(t: np.ndarray) -> np.ndarray:
    return _whole(t.astype("M8[D]") - t.astype("M8[Y]").astype("M8[D]"), "m8[D]") + 1


PARTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "year": lambda t: _whole(t, "M8[Y]") + 1970,
    "quarter": lambda t: _whole(t, "M8[M]") % 12 // 3 + 1,
    "month": lambda t: _whole(t, "M8[M]") % 12 + 1,
    "isoweek": _isoweek,
    "day": _day,
    "hour": lambda t: _whole(t - t.astype("M8[D]"), "m8[h]"),
    "minute": lambda t: _whole(t - t.astype("M8[h]"), "m8[m]"),
    "second": lambda t: _whole(t - t.astype("M8[m]"), "m8[s]"),
    "weekday": _weekday,
    "dayofyear": _dayofyear,
}
_OBJECTPARTS = {"weekday": "tm_wday", "dayofyear": "tm_yday"}


def time_component(name: str, t: Value) -> Value:
    """Return a part of times, as ``year`` or ``weekday`` (Monday is 0), as int64; in local time if there is a zone.

    Float64 with nan if times are missing; the caller converts it to the dtype of the result, or fails.
    """
    if kind(t) == "object" or calendar_of(t):
        return _part_of_objects(name, np.asarray(t, dtype=object))
    wall = np.asarray(_wall(t, name))
    missing = np.isnat(wall)
    numbers: np.ndarray = PARTS[name](wall)
    if missing.any():
        numbers = numbers.astype(np.float64)
        numbers[missing] = np.nan
    return numbers[()]


def _part_of_objects(name: str, array: np.ndarray) -> np.ndarray:
    if name == "isoweek" and calendar_of(array):
        raise ExpressionError(f"isoweek(t): the calendar {calendar_of(array)} has no ISO weeks")
    if name in ("quarter", "isoweek"):
        return _of_other_parts(name, array)

    def one(t: Any) -> float:
        if pd.isna(t):
            return np.nan
        return float(getattr(t, name) if name not in _OBJECTPARTS else getattr(t.timetuple(), _OBJECTPARTS[name]))

    numbers = np.array([one(t) for t in array.ravel()], dtype=np.float64).reshape(array.shape)
    return numbers if np.isnan(numbers).any() else numbers.astype(np.int64)


def _wall(t: Value, function: str) -> Any:
    """Return local time as datetime64."""
    if isinstance(t, pd.Series) and kind(t) == "zoned time":
        return t.dt.tz_localize(None).to_numpy()
    if isinstance(t, pd.Timestamp):
        return t.tz_localize(None).to_datetime64()
    if kind(t) != "time":
        raise ExpressionError(f"{function}(t) needs times, got {kind(t)}; see timestamp('…') and cast")
    return t


def _of_other_parts(name: str, array: np.ndarray) -> np.ndarray:
    if name == "isoweek":
        return np.asarray(time_component("isoweek", np.asarray(array, dtype="M8[us]")))
    months = _part_of_objects("month", array)
    return (months - 1) // 3 + 1


def floor_time(t: Value, length: Value) -> Value:
    """Round times down to the start of a period, in local time if there is a zone.

    Parameters
    ----------
    length : ``month``, ``2 quarters``, ``week`` (from Monday on) …, or a length of time, whose multiples count from
        1970-01-01; several hours on the clock, up to one hour those that a clock change repeats stay two
    """
    period = parse_period(length if isinstance(length, str) else pd.Timedelta(length).to_pytimedelta())
    if calendar_of(t):
        return map_times(lambda one: _floored(one, period), t)
    if isinstance(t, pd.Timestamp):
        zoned = floor_time(pd.Series([t]), length)
        return zoned.iloc[0]
    if not isinstance(t, pd.Series) or kind(t) != "zoned time":
        return _floor(np.asarray(_wall(t, "floor_time")), period)[()]
    wall = pd.Series(_wall(t, "floor_time"))
    if not period.length % _DAY:
        shown = pd.Series(_floor(wall.to_numpy(), period))
        return shown.dt.tz_localize(t.dt.tz, ambiguous=np.ones(len(t), bool), nonexistent="shift_forward")
    if period.length > timedelta(hours=1):
        shown = pd.Series(_floor(wall.to_numpy(), period))
        first, last = (
            shown.dt.tz_localize(t.dt.tz, ambiguous=np.full(len(t), fold), nonexistent="shift_forward")
            for fold in (True, False)
        )
        return last.where(last <= t.reset_index(drop=True), first)
    offset = wall - t.dt.tz_convert("UTC").dt.tz_localize(None)
    floored = pd.Series(_floor(wall.to_numpy(), period)) - offset
    return floored.dt.tz_localize("UTC").dt.tz_convert(t.dt.tz)


def _floored(time: Any, period: Period) -> Any:
    """Round a cftime object down to the start of a period, counted from 1970-01-01 of its calendar."""
    if period.months:
        index = (time.year - 1970) * 12 + time.month - 1
        index -= index % period.months
        return type(time)(1970 + index // 12, index % 12 + 1, 1)
    start, step = type(time)(1970, 1, 1), period.length
    if period.weeks:
        start, step = start - timedelta(days=start.dayofwk), timedelta(weeks=period.weeks)
    return start + (time - start) // step * step


def _floor(t: np.ndarray, period: Period) -> np.ndarray:
    unit = np.datetime_data(t.dtype)[0]
    unit = unit if unit in {"us", "ns"} else "us"
    t = t.astype(f"M8[{unit}]")
    if period.months:
        months = t.astype("M8[M]").astype(np.int64)
        start = (months - months % period.months).astype("M8[M]").astype(t.dtype)
        return np.where(np.isnat(t), t, start)
    size = (period.length or timedelta(weeks=period.weeks)) // timedelta(microseconds=1) * (1000 if unit == "ns" else 1)
    first = int(np.array("1969-12-29", f"M8[{unit}]").astype(np.int64)) if period.weeks else 0
    count = t.astype(np.int64)
    return np.where(np.isnat(t), t, (count - (count - first) % size).astype(t.dtype))


def shift_months(t: Value, n: int) -> Value:
    """Return times ``n`` months later, on the same day of the month, or on its last; the clock shows the same time."""
    if calendar_of(t):
        return map_times(lambda one: _months_later(one, n), t)
    if isinstance(t, pd.Timestamp):
        return shift_months(pd.Series([t]), n).iloc[0]
    if isinstance(t, pd.Series) and kind(t) == "zoned time":
        shown: Any = pd.Series(shift_months(t.dt.tz_localize(None).to_numpy(), n))
        return shown.dt.tz_localize(t.dt.tz, ambiguous=np.ones(len(t), bool), nonexistent=pd.Timedelta("1h"))
    times = np.asarray(_wall(t, "t + duration(months=n)"))
    month, day = times.astype("M8[M]"), times.astype("M8[D]")
    new = month + np.timedelta64(n, "M")
    last = (new + np.timedelta64(1, "M")).astype("M8[D]") - np.timedelta64(1, "D")
    found = np.minimum(new.astype("M8[D]") + (day - month.astype("M8[D]")), last)
    return (found.astype(times.dtype) + (times - day.astype(times.dtype)))[()]


def _months_later(time: Any, n: int) -> Any:
    index = time.year * 12 + time.month - 1 + n
    first = time.replace(year=index // 12, month=index % 12 + 1, day=1)
    return first.replace(day=min(time.day, first.daysinmonth))


def strftime(t: Value, form: str) -> Value:
    """Return times as text of a format."""
    if calendar_of(t) or kind(t) not in {"time", "zoned time"}:
        raise ExpressionError(f"strftime(t, format) needs times, got {calendar_of(t) or kind(t)}")
    if np.ndim(t) == 0:
        return str(pd.Timestamp(t).strftime(form))
    column: Any = pd.Series(t)
    return column.dt.strftime(form).astype(TEXT)


def parse_times(s: Value, formats: str | tuple[str, ...], *, errors: str = "fail") -> Value:
    """Return the times that texts of one of some formats stand for.

    Raises
    ------
    ExpressionError : the first text of none of the formats, unless ``errors`` is ``missing``
    """
    forms = (formats,) if isinstance(formats, str) else formats
    if kind(s) != "text":
        raise ExpressionError(f"parse_time(s, formats) needs text, got {kind(s)}")

    def one(text: Any) -> Any:
        for form in () if pd.isna(text) else forms:
            try:
                return datetime.strptime(text.strip(), form)
            except ValueError:
                continue
        if not pd.isna(text) and errors == "fail":
            raise ExpressionError(f"parse_time(s): got {text!r}, which is none of {', '.join(map(repr, forms))}")
        return None

    if isinstance(s, str):
        return as_scalar(one(s)) if one(s) is not None else np.datetime64("NaT", "us")
    return pd.Series([one(text) for text in s], dtype="M8[us]").to_numpy()


def localize(t: Value, zone: str, *, ambiguous: Any = "raise", nonexistent: str = "raise") -> Value:
    """Interpret times without zone as local times of a zone.

    Parameters
    ----------
    ambiguous : for an hour that a clock change repeats: ``raise``, ``NaT``, True (the first, daylight time) or False
    nonexistent : for an hour that a clock change skips: ``raise``, ``NaT``, ``shift_forward``, ``shift_backward``

    Raises
    ------
    ExpressionError : at such an hour, with ``raise``
    """
    if calendar_of(t):
        raise ExpressionError(f"localize(t, zone): times of the calendar {calendar_of(t)} have no time zone")
    if kind(t) != "time":
        hint = "; it has a zone: convert(t, zone)" if kind(t) == "zoned time" else ""
        raise ExpressionError(f"localize(t, zone) needs times without a zone, got {kind(t)}{hint}")
    given: Any = pd.Series(np.atleast_1d(np.asarray(t)))
    choice = np.full(len(given), ambiguous) if isinstance(ambiguous, bool) else ambiguous
    try:
        zoned = given.dt.tz_localize(zone, ambiguous=choice, nonexistent=nonexistent)
    except ValueError as error:
        option = "nonexistent='shift_forward' or 'NaT'" if "nonexistent" in str(error) else "ambiguous=True or 'NaT'"
        moment = str(error).removeprefix("Cannot infer dst time from ").split(" is a ")[0].split(", try")[0]
        problem = "skipped" if "nonexistent" in str(error) else "repeated"
        raise ExpressionError(
            f"{moment} is {problem} by a clock change in {zone}; write localize(t, zone, {option})"
        ) from None
    return zoned if np.ndim(t) else zoned.iloc[0]


def convert(t: Value, zone: str) -> Value:
    """Return the same times in another zone."""
    if kind(t) != "zoned time":
        hint = "; localize(t, zone) first" if kind(t) == "time" else ""
        raise ExpressionError(f"convert(t, zone) needs zoned times, got {kind(t)}{hint}")
    return t.dt.tz_convert(zone) if isinstance(t, pd.Series) else as_scalar(pd.Timestamp(t).tz_convert(zone))
