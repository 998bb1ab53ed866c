"""Times of files: in numpy's type where that holds them, else as objects of their calendar; back again as numbers."""

from __future__ import annotations

import cftime  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SETTINGS

from pipeline.graph.calendars import calendar_name, calendar_of, decode_times, encode_times, in_calendar, join_times

CALENDARS = ("noleap", "all_leap", "360_day", "julian", "standard", "proleptic_gregorian")


def texts(units: str, values: list[float], calendar: str = "standard") -> list[str]:
    return [str(time).replace("T", " ")[:19] for time in decode_times(np.array(values), units, calendar)]


@pytest.mark.parametrize(("units", "value", "calendar", "said"), [
    ("days since 2001-02-28", 1, "noleap", "2001-03-01 00:00:00"),
    ("days since 2001-02-28", 1, "all_leap", "2001-02-29 00:00:00"),
    ("days since 2001-02-28", 2, "360_day", "2001-02-30 00:00:00"),
    ("days since 1900-02-28", 1, "julian", "1900-02-29 00:00:00"),
    ("days since 1900-02-28", 1, "standard", "1900-03-01 00:00:00"),
    ("hours since 1-1-1", 17540000, "standard", "2001-12-13 08:00:00"),  # two days before the proleptic one
    ("hours since 1-1-1", 17540000, "proleptic_gregorian", "2001-12-15 08:00:00"),
    ("days since 1582-10-04", 1, "standard", "1582-10-15 00:00:00"),  # the day after the last of the Julian calendar
    ("months since 1955-01-01", 14, "standard", "1956-03-01 00:00:00"),
    ("months since 1955-01-01", 1.5, "noleap", "1955-02-15 00:00:00"),
    ("months since 1955-01-31", 1, "standard", "1955-02-28 00:00:00"),
    ("months since 1955-01-01", -1, "360_day", "1954-12-01 00:00:00"),
    ("years since 2000-02-29", 1, "standard", "2001-02-28 00:00:00"),
    ("Seconds since 1600-01-01 12:00:00", 0.5, "standard", "1600-01-01 12:00:00"),
    ("days since 3000-01-01", 0.25, "proleptic_gregorian", "3000-01-01 06:00:00"),
])  # fmt: skip
def test_numbers_are_the_times_that_a_calendar_says(units: str, value: float, calendar: str, said: str) -> None:
    assert texts(units, [value], calendar) == [said]


def test_numpy_holds_all_that_it_can() -> None:
    assert decode_times(np.array([0]), "days since 2001-01-01", "standard").dtype == "M8[ns]"
    assert decode_times(np.array([0]), "days since 1600-01-01", "standard").dtype == "M8[us]"
    assert decode_times(np.array([0]), "days since 2500-01-01", "standard").dtype == "M8[us]"
    assert calendar_of(decode_times(np.array([0]), "days since 1500-01-01", "standard")) == "standard"
    assert decode_times(np.array([0]), "days since 1500-01-01", "proleptic_gregorian").dtype == "M8[us]"


@pytest.mark.parametrize(("units", "calendar"), [
    ("days since 2001-01-01", "lunar"), ("fortnights since 2001-01-01", "standard"), ("days since when", "noleap"),
    ("months since 2001-02-31", "standard"), ("days since 2001", "standard"), ("days since 2001-05", "noleap"),
    ("years since 2001", "360_day"),
])  # fmt: skip
def test_what_is_no_time_is_a_value_error(units: str, calendar: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_times(np.array([0]), units, calendar)


def test_names_of_calendars() -> None:
    names = [calendar_name({"calendar": name}) for name in ("gregorian", "STANDARD", "365_day", "366_day", "360_day")]
    assert names == ["standard", "standard", "noleap", "all_leap", "360_day"]


@SETTINGS
@given(st.sampled_from(["noleap", "all_leap", "360_day", "julian"]), st.lists(st.integers(-(10**13), 10**14)))
def test_encoded_times_are_decoded_as_they_were(calendar: str, micros: list[int]) -> None:
    times = decode_times(np.array(micros, np.int64), "microseconds since 1990-01-01", calendar)
    numbers, attrs = encode_times(times)
    if micros:
        again = decode_times(numbers, attrs["units"], attrs["calendar"])
        assert again.tolist() == times.tolist()


def test_missing_times_stay_missing() -> None:
    times = decode_times(np.array([0, np.nan]), "days since 2001-01-01", "noleap")
    assert times[1] is None
    numbers, attrs = encode_times(times)
    assert attrs["missing_value"] == numbers[1] == np.iinfo(np.int64).min
    assert decode_times(numbers, attrs["units"], "noleap").tolist() == times.tolist()


@pytest.mark.parametrize("calendar", CALENDARS)
def test_a_literal_is_a_time_of_the_calendar(calendar: str) -> None:
    time = in_calendar("2001-02-03T04:05:06.5", calendar)
    assert isinstance(time, cftime.datetime)
    assert (calendar_of(time), time.isoformat()) == (calendar, "2001-02-03T04:05:06.500000")


def test_a_day_that_a_calendar_lacks_is_no_literal() -> None:
    with pytest.raises(ValueError, match="'2000-02-29' is no time of the calendar noleap"):
        in_calendar("2000-02-29", "noleap")
    assert str(in_calendar("2000-02-30", "360_day")) == "2000-02-30 00:00:00"


def test_times_of_two_calendars_are_not_joined() -> None:
    a, b = (decode_times(np.array([0]), "days since 2001-01-01", calendar) for calendar in ("noleap", "360_day"))
    with pytest.raises(ValueError, match="360_day and noleap differ"):
        join_times([a, b])
    with pytest.raises(ValueError, match="some are times, some int64"):
        join_times([a, np.array([1])])
