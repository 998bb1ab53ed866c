"""Functions of times: without zone in numpy, with a zone in pandas, other calendars as cftime objects."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import parse_duration
from pipeline.graph.calendars import calendar_of, map_times
from pipeline.ops.elementwise.kinds import Value, as_scalar, kind

__all__ = ["convert", "floor_time", "localize", "time_component"]

_DAY = timedelta(days=1)


def _whole(array: np.ndarray, unit: str) -> np.ndarray:
    return array.astype(unit).astype(np.int64)


def _day(t: np.ndarray) -> np.ndarray:
    return _whole(t.astype("M8[D]") - t.astype("M8[M]").astype("M8[D]"), "m8[D]") + 1


def _dayofyear(t: np.ndarray) -> np.ndarray:
    return _whole(t.astype("M8[D]") - t.astype("M8[Y]").astype("M8[D]"), "m8[D]") + 1


_PARTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "year": lambda t: _whole(t, "M8[Y]") + 1970,
    "month": lambda t: _whole(t, "M8[M]") % 12 + 1,
    "day": _day,
    "hour": lambda t: _whole(t - t.astype("M8[D]"), "m8[h]"),
    "weekday": lambda t: (_whole(t, "M8[D]") + 3) % 7,
    "dayofyear": _dayofyear,
}
_OBJECT_PARTS = {"weekday": "tm_wday", "dayofyear": "tm_yday"}


def time_component(name: str, t: Value) -> Value:
    """Return ``year month day hour weekday dayofyear`` as int64 (Monday is 0), in local time if there is a zone.

    Float64 with nan if times are missing; the caller converts it to the dtype of the result, or fails.
    """
    if kind(t) == "object" or calendar_of(t):
        return _part_of_objects(name, np.asarray(t, dtype=object))
    wall = np.asarray(_wall(t, name))
    missing = np.isnat(wall)
    numbers: np.ndarray = _PARTS[name](wall)
    if missing.any():
        numbers = numbers.astype(np.float64)
        numbers[missing] = np.nan
    return numbers[()]


def _part_of_objects(name: str, array: np.ndarray) -> np.ndarray:
    def one(t: Any) -> float:
        if pd.isna(t):
            return np.nan
        return float(getattr(t, name) if name not in _OBJECT_PARTS else getattr(t.timetuple(), _OBJECT_PARTS[name]))

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


def floor_time(t: Value, length: Value) -> Value:
    """Round times down to a multiple of ``length``, counted from 1970-01-01; in local time if there is a zone."""
    step = parse_duration(length) if isinstance(length, str) else pd.Timedelta(length).to_pytimedelta()
    if step <= timedelta(0):
        raise ExpressionError(f"floor_time needs a duration above 0, got {length!r}")
    if calendar_of(t):
        return map_times(lambda one: _floored(one, step), t)
    if isinstance(t, pd.Timestamp):
        zoned = floor_time(pd.Series([t]), length)
        return zoned.iloc[0]
    if not isinstance(t, pd.Series) or kind(t) != "zoned time":
        return _floor(np.asarray(_wall(t, "floor_time")), step)[()]
    if step % _DAY == timedelta(0):
        return t.dt.floor(step)  # a clock change may repeat or skip midnight: pandas raises then
    wall = pd.Series(_wall(t, "floor_time"))
    offset = wall - t.dt.tz_convert("UTC").dt.tz_localize(None)
    floored = pd.Series(_floor(wall.to_numpy(), step)) - offset
    return floored.dt.tz_localize("UTC").dt.tz_convert(t.dt.tz)


def _floored(time: Any, step: timedelta) -> Any:
    """Round a cftime object down to a multiple of ``step``, counted from 1970-01-01 of its calendar."""
    start = type(time)(1970, 1, 1)
    return start + (time - start) // step * step


def _floor(t: np.ndarray, step: timedelta) -> np.ndarray:
    if np.datetime_data(t.dtype)[0] not in {"us", "ns"}:
        t = t.astype("M8[us]")
    size = step // timedelta(microseconds=1) * (1000 if np.datetime_data(t.dtype)[0] == "ns" else 1)
    count = t.astype(np.int64)
    return np.where(np.isnat(t), t, (count - count % size).astype(t.dtype))


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
