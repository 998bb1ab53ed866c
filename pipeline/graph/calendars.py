"""Times of the calendars that numpy's ``datetime64`` does not have: decoded from files, encoded, compared, as text.

Climate models count years of 365 (``noleap``), 366 (``all_leap``) or 360 days (``360_day``); historical records use the
Julian calendar. Labels in such a calendar are ``cftime`` objects, in numpy arrays of dtype object, and xarray indexes
them by its ``CFTimeIndex``. All other times are ``datetime64``: in nanoseconds, or in microseconds if they are before
1678 or after 2262. Cells of arrays are never cftime objects: numpy computes with them only one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.graph.importing import Deferred

if TYPE_CHECKING:
    import cftime  # type: ignore[import-untyped]
    import pandas as pd
    import xarray as xr
else:
    cftime = Deferred("cftime")
    pd = Deferred("pandas")
    xr = Deferred("xarray")

__all__ = [
    "calendar_name",
    "calendar_of",
    "decode_times",
    "encode_times",
    "in_calendar",
    "join_times",
    "map_times",
    "time_texts",
]

Values = np.ndarray[Any, Any]

_ALIASES = {"gregorian": "standard", "365_day": "noleap", "366_day": "all_leap", "": "standard"}
_NUMPY = frozenset({"standard", "proleptic_gregorian"})
_STEPS = {**dict.fromkeys(("month", "months", "mon", "mons"), 1), **dict.fromkeys(("year", "years", "yr", "yrs"), 12)}
"""Units of calendar months and years -> months. cftime has them for 360 days only, UDUNITS as parts of a mean year."""
_TYPES: dict[str, Any] = {
    "noleap": cftime.DatetimeNoLeap,
    "all_leap": cftime.DatetimeAllLeap,
    "360_day": cftime.Datetime360Day,
    "julian": cftime.DatetimeJulian,
    "standard": cftime.DatetimeGregorian,
    "proleptic_gregorian": cftime.DatetimeProlepticGregorian,
}
_ISO = re.compile(r"(\d{4,})(?:-(\d\d?)(?:-(\d\d?)(?:[T ](\d\d?)(?::(\d\d)(?::(\d\d)(\.\d+)?)?)?)?)?)?")
_EPOCH = "1970-01-01 00:00:00"
_REFORM = np.datetime64("1582-10-15", "us")
"""First day of the Gregorian calendar: before it the calendar ``standard`` is the Julian one."""
_MISSING = int(np.iinfo(np.int64).min)


def calendar_name(attrs: Mapping[str, Any]) -> str:
    """Return the calendar that attributes name, under one name for each calendar.

    >>> calendar_name({"calendar": "365_day"}), calendar_name({"calendar": "gregorian"}), calendar_name({})
    ('noleap', 'standard', 'standard')
    """
    name = str(attrs.get("calendar", "")).strip().lower()
    return _ALIASES.get(name, name)


def calendar_of(values: Any) -> str:
    """Return the calendar of cftime objects, by the first that is not missing; empty for all other values."""
    first = values
    if getattr(getattr(values, "dtype", None), "kind", "") == "O":
        first = next((value for value in np.asarray(values).flat if not _is_missing(value)), None)
    return _ALIASES.get(first.calendar, first.calendar) if isinstance(first, cftime.datetime) else ""


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and value != value)


def map_times(function: Callable[[Any], Any], values: Any) -> Values:
    """Return ``function`` of each cftime object, None for a missing one, as an array of objects."""
    array = np.asarray(values, dtype=object)
    found = np.empty(array.shape, dtype=object)
    for at, value in np.ndenumerate(array):
        found[at] = None if _is_missing(value) else function(value)
    return found


def time_texts(values: Any) -> Values:
    """Return cftime objects as text in ISO 8601, None for a missing one, as an array of objects."""
    return map_times(lambda time: time.isoformat(), values)


def in_calendar(time: Any, calendar: str) -> Any:
    """Return a time as cftime object.

    Parameters
    ----------
    time : ``datetime``, ``datetime64`` or text in ISO 8601; may be a day that only this calendar has (``2001-02-30``)

    Raises
    ------
    ValueError : it is no time, or the calendar does not have it
    """
    text = time if isinstance(time, str) else (time if isinstance(time, datetime) else pd.Timestamp(time)).isoformat()
    found = _ISO.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time")
    year, month, day, *clock = found.groups()
    hour, minute, second = (int(part or 0) for part in clock[:3])
    try:
        whole = (int(year), int(month or 1), int(day or 1), hour, minute, second, round(float(clock[3] or 0) * 1e6))
        return _TYPES[calendar](*whole)
    except ValueError:
        raise ValueError(f"{text!r} is no time of the calendar {calendar}") from None


def join_times(several: Sequence[Values]) -> Values:
    """Return times one after the other, in the type that holds all of them.

    Raises
    ------
    ValueError : they are of several calendars
    """
    several = [values for values in several if len(values)] or several[:1]
    odd = next((values.dtype for values in several if values.dtype.kind != "M" and not calendar_of(values)), None)
    if odd is not None and len(several) > 1:
        raise ValueError(f"some are times, some {odd}")
    calendars = {calendar_of(values) for values in several}
    if calendars == {"", "standard"}:  # before and after the reform
        several = [values if values.dtype == object else _as_objects(values) for values in several]
    elif len(calendars) > 1:
        raise ValueError(f"the calendars {' and '.join(sorted(c or 'standard' for c in calendars))} differ")
    if any(values.dtype == "M8[us]" for values in several):  # numpy's common type is ns, in which they may not fit
        several = [values.astype("M8[us]") for values in several]
    return np.concatenate(several)


def _as_objects(times: Values) -> Values:
    numbers = times.astype("M8[us]").astype(np.int64)
    return np.asarray(cftime.num2date(numbers, f"microseconds since {_EPOCH}", "standard"), dtype=object)


# ---------------------------------------------------------------------------------------------------------------------
# Numbers of files
# ---------------------------------------------------------------------------------------------------------------------


def decode_times(values: Values, units: str, calendar: str) -> Values:
    """Return the times that numbers of a file stand for, as ``datetime64`` where that holds them, else as objects.

    A month or year is one of the calendar, its fraction one of that month or year: ``1.5`` of ``months since
    1955-01-01`` is the middle of February 1955.

    Parameters
    ----------
    units : ``days since 2001-01-01``
    calendar : see :func:`calendar_name`

    Raises
    ------
    ValueError : units or a calendar that there are not
    """
    unit, _, reference = (part.strip() for part in units.partition(" since "))
    numbers = np.asarray(values)
    missing = np.isnan(numbers) if numbers.dtype.kind == "f" else numbers == _MISSING
    if calendar not in _TYPES:
        raise ValueError(f"there is no calendar {calendar!r}; there are {', '.join(_TYPES)}")
    step = _STEPS.get(unit.lower())
    if step is None and calendar in _NUMPY:
        found = _by_xarray(numbers, unit, reference, calendar)
        if found is not None:
            return found
    if re.match(r"[+-]?\d+-\d+-\d", reference) is None:
        raise ValueError(f"{reference!r} is no date such as 2001-01-01")
    if step is not None:
        return _numpy_if_held(_calendar_steps(numbers, missing, step, reference, calendar), calendar)
    return _numpy_if_held(_objects(numbers, missing, f"{unit} since {reference}", calendar), calendar)


def _by_xarray(numbers: Values, unit: str, reference: str, calendar: str) -> Values | None:
    """Return ``datetime64``; None where xarray can't, as for reference dates before 1582 of the calendar standard."""
    start = re.match(r"(\d+)-", reference)
    if start is None or (calendar == "standard" and int(start[1]) <= 1582):
        return None
    padded = start[1].zfill(4) + reference[len(start[1]) :]
    variable = xr.Variable(("i",), numbers.reshape(-1), {"units": f"{unit} since {padded}", "calendar": calendar})
    for resolution in ("ns", "us"):
        coder = xr.coders.CFDatetimeCoder(use_cftime=False, time_unit=resolution)
        try:
            times = coder.decode(variable, "time").values
        except (ValueError, OverflowError):  # out of range
            continue
        # nanoseconds begin after the reform, and numpy would take the day of it to nanoseconds, where it wraps around
        early = calendar == "standard" and times.dtype != "M8[ns]" and bool((times < _REFORM).any())
        return None if early else _finest(times.reshape(numbers.shape))
    return None


def _finest(times: Values) -> Values:
    """Return ``datetime64`` in nanoseconds if these hold all the times, else in microseconds."""
    limits = (np.datetime64("1678-01-01"), np.datetime64("2262-01-01"))
    fits = np.isnat(times) | ((times >= limits[0]) & (times < limits[1]))
    return times.astype("M8[ns]" if fits.all() else "M8[us]")


def _objects(numbers: Values, missing: Values, units: str, calendar: str) -> Values:
    found = np.empty(numbers.shape, dtype=object)
    if not missing.all():  # cftime fails on an empty array
        found[~missing] = cftime.num2date(numbers[~missing], units, calendar, only_use_cftime_datetimes=True)
    return found


def _calendar_steps(numbers: Values, missing: Values, step: int, reference: str, calendar: str) -> Values:
    base = cftime.num2date(0, f"days since {reference}", calendar, only_use_cftime_datetimes=True)

    def shifted(months: int) -> Any:
        year, month = divmod(base.year * 12 + base.month - 1 + months, 12)
        first = base.replace(year=year, month=month + 1, day=1)
        return first.replace(day=min(base.day, first.daysinmonth))

    found = np.empty(numbers.shape, dtype=object)
    for at, number in np.ndenumerate(numbers):
        if not missing[at]:
            whole = int(np.floor(number))
            start = shifted(whole * step)
            found[at] = start + (shifted((whole + 1) * step) - start) * float(number - whole)
    return found


def _numpy_if_held(times: Values, calendar: str) -> Values:
    """Return cftime objects as ``datetime64`` if numpy has their calendar and they are not before its reform."""
    if calendar not in _NUMPY:
        return times
    numbers = _counted(times, calendar)
    found = numbers.view("M8[us]")
    if calendar == "standard" and (found < _REFORM).any():
        return times
    return _finest(found)


def _counted(times: Values, calendar: str) -> Values:
    """Return microseconds since 1970 in the calendar, as int64; the smallest for a missing time."""
    found = np.full(times.shape, _MISSING, np.int64)
    known = np.array([not _is_missing(time) for time in times.flat], bool).reshape(times.shape)
    if known.any():  # cftime fails on an empty array
        found[known] = cftime.date2num(times[known], f"microseconds since {_EPOCH}", calendar)
    return found


def encode_times(times: Values) -> tuple[Values, dict[str, Any]]:
    """Return cftime objects as whole numbers, and the attributes by which readers decode them.

    They count seconds, or microseconds if a time has a fraction of a second. A missing one is the smallest int64.
    """
    calendar = calendar_of(times)
    numbers = _counted(np.asarray(times, dtype=object), calendar)
    known = numbers != _MISSING
    unit = "microseconds" if (numbers[known] % 1_000_000).any() else "seconds"
    if unit == "seconds":
        numbers[known] //= 1_000_000
    attrs = {"units": f"{unit} since {_EPOCH}", "calendar": calendar}
    return numbers, attrs if known.all() else {**attrs, "missing_value": np.int64(_MISSING)}
