"""Times in columns: zones whose clocks change at midnight, periods, months, text; against pandas."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SETTINGS
from test_column_expressions import all_over_columns
from test_expression_values import over_columns

from pipeline.config.expressions.references import ExpressionError
from pipeline.errors import DataError, OpError
from pipeline.ops.elementwise.times import floor_time
from pipeline.ops.sources.text_values import _by_format
from pipeline.worker.sql_engine import _range, entered

ZONES = ("UTC", "Europe/Paris", "Africa/Cairo", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe", "+05:30")
# moments around changes of clocks, many of them at midnight: Cairo 2010 and 2023, Sao Paulo 2018, Lord Howe
CHANGES = [
    *(datetime(2010, 4, 29, 22), datetime(2010, 9, 30, 21), datetime(2023, 4, 27, 22), datetime(2018, 11, 4, 3)),
    *(datetime(2018, 2, 18, 2), datetime(2011, 3, 27, 1), datetime(2011, 10, 30, 1), datetime(2021, 4, 3, 15)),
]
moments = st.one_of(
    st.builds(lambda t, s: t + timedelta(seconds=s), st.sampled_from(CHANGES), st.integers(-93_600, 93_600)),
    st.datetimes(datetime(1975, 1, 1), datetime(2030, 1, 1)),
)


def zoned(values: list[Any], zone: str, unit: str = "us") -> pa.Table:
    return pa.table({"t": pa.array(values, pa.timestamp("us")).cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone))})


def of_pandas(values: list[Any], zone: str) -> Any:
    return pd.Series(values, dtype="datetime64[us]").dt.tz_localize("UTC").dt.tz_convert(zone)


def as_utc(column: pa.ChunkedArray) -> list[Any]:
    plain = pa.timestamp(column.type.unit, "UTC")
    return column.cast(plain).to_pylist()


@SETTINGS
@given(values=st.lists(st.none() | moments, min_size=1, max_size=12), zone=st.sampled_from(ZONES))
def test_parts_of_zoned_times_are_those_of_the_clock(values: list[Any], zone: str) -> None:
    clock = of_pandas(values, zone).dt
    parts = {name: getattr(clock, name) for name in ("year", "quarter", "month", "day", "hour", "minute", "second")}
    parts |= {"weekday": clock.day_of_week, "dayofyear": clock.day_of_year, "isoweek": clock.isocalendar().week}
    for unit in ("us", "ns", "s"):
        table = zoned([v and v.replace(microsecond=0) for v in values] if unit == "s" else values, zone, unit)
        for got, (name, wanted) in zip(all_over_columns([f"{n}(t)" for n in parts], table), parts.items(), strict=True):
            assert got.to_pylist() == [None if pd.isna(v) else int(v) for v in wanted], name


@SETTINGS
@given(values=st.lists(st.none() | moments, min_size=1, max_size=12), zone=st.sampled_from(ZONES))
def test_days_and_longer_begin_when_the_clock_first_shows_them(values: list[Any], zone: str) -> None:
    wall = of_pandas(values, zone).dt.tz_localize(None)
    starts = {
        "day": wall.dt.floor("D"),
        "week": wall.dt.floor("D") - pd.to_timedelta(wall.dt.day_of_week, "D"),
        "month": wall.dt.to_period("M").dt.start_time,
        "quarter": wall.dt.to_period("Q").dt.start_time,
        "year": wall.dt.to_period("Y").dt.start_time,
    }
    made = all_over_columns([f"floor_time(t, '{name}')" for name in starts], zoned(values, zone))
    for got, (name, shown) in zip(made, starts.items(), strict=True):
        first = np.ones(len(values), bool)
        wanted = shown.astype("M8[us]").dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
        assert as_utc(got) == [None if pd.isna(v) else v.to_pydatetime() for v in wanted.dt.tz_convert("UTC")], name


@SETTINGS
@given(values=st.lists(st.none() | moments, min_size=1, max_size=8), zone=st.sampled_from(ZONES), data=st.data())
def test_localize_is_that_of_pandas(values: list[Any], zone: str, data: st.DataObject) -> None:
    ambiguous = data.draw(st.sampled_from(["'NaT'", "True", "False"]))
    nonexistent = data.draw(st.sampled_from(["NaT", "shift_forward", "shift_backward"]))
    plain = pd.Series(values, dtype="datetime64[us]")
    first = "NaT" if ambiguous == "'NaT'" else np.full(len(values), ambiguous == "True")
    wanted = plain.dt.tz_localize(zone, ambiguous=first, nonexistent=nonexistent).dt.tz_convert("UTC")
    table = pa.table({"t": pa.array(values, pa.timestamp("us"))})
    text = f"localize(t, '{zone}', ambiguous={ambiguous}, nonexistent='{nonexistent}')"
    if zone == "+05:30":
        with pytest.raises(ExpressionError, match="not a known time zone"):
            over_columns(text, table)
        return
    assert as_utc(over_columns(text, table)) == [None if pd.isna(v) else v.to_pydatetime() for v in wanted]


@SETTINGS
@given(values=st.lists(st.none() | moments, min_size=1, max_size=8), n=st.integers(-40, 40))
def test_months_later_is_as_pandas_says(values: list[Any], n: int) -> None:
    shifted = pd.Series(values, dtype="datetime64[us]") + pd.DateOffset(months=n)
    wanted = [None if pd.isna(v) else v.to_pydatetime() for v in shifted]
    for unit in ("us", "ns"):
        table = pa.table({"t": pa.array(values, pa.timestamp("us")).cast(pa.timestamp(unit))})
        got = over_columns(f"t + duration(months={n})", table)
        assert got.type == pa.timestamp(unit)
        assert got.cast(pa.timestamp("us")).to_pylist() == wanted
    days = pa.table({"d": pa.array([v and v.date() for v in values], pa.date32())})
    got = over_columns(f"d - duration(months={-n})", days)
    assert got.to_pylist() == [v and v.date() for v in wanted]


@pytest.mark.parametrize(
    ("period", "wanted"),
    [
        ("2 months", "2020-03-01"), ("5 years", "2020-01-01"), ("half", None), ("2 weeks", "2020-03-30"),
        ("6h", "2020-04-05 06:00"), ("15 minutes", "2020-04-05 10:30"), ("1D", "2020-04-05"), ("7d", "2020-04-02"),
        ("second", "2020-04-05 10:31:17"), ("1h 30min", "2020-04-05 10:30"), ("1 week", "2020-03-30"),
    ],
)  # fmt: skip
def test_times_are_rounded_down_to_multiples(period: str, wanted: str | None) -> None:
    table = pa.table({"t": pa.array([datetime(2020, 4, 5, 10, 31, 17, 250)], pa.timestamp("us"))})
    if wanted is None:
        with pytest.raises(ExpressionError, match="a duration is written"):
            over_columns(f"floor_time(t, '{period}')", table)
        return
    assert over_columns(f"floor_time(t, '{period}')", table).to_pylist() == [datetime.fromisoformat(wanted)]


def test_months_of_zoned_times_keep_the_clock() -> None:
    table = zoned(
        [datetime(2021, 1, 31, 9, 30), datetime(2021, 2, 28, 1, 30), datetime(2021, 9, 30, 0, 30)], "Europe/Paris"
    )
    got = over_columns("text(t + duration(months=1))", table).to_pylist()
    assert got == ["2021-02-28T10:30:00+01:00", "2021-03-28T03:30:00+02:00", "2021-10-30T02:30:00+02:00"]


def test_nanoseconds_are_kept() -> None:
    table = pa.table(
        {
            "t": pa.array([1_580_466_615_123_456_789, -1, None], pa.timestamp("ns")).cast(
                pa.timestamp("ns", "Africa/Cairo")
            )
        }
    )
    whole = pa.int64()
    day = over_columns("t - floor_time(t, 'day')", table).cast(whole).to_pylist()
    assert day == [(1_580_466_615_123_456_789 + 7200 * 10**9) % (86_400 * 10**9), 7200 * 10**9 - 1, None]
    later = over_columns("t + duration('1us') - t", table)
    assert (later.type, later.cast(whole).to_pylist()) == (pa.duration("ns"), [1000, 1000, None])
    assert over_columns("text(t)", table).to_pylist() == [
        "2020-01-31T12:30:15.123456789+02:00",
        "1970-01-01T01:59:59.999999999+02:00",
        None,
    ]
    assert over_columns("t < timestamp('3000-01-01T00:00Z')", table).to_pylist() == [True, True, False]


def test_times_become_text_of_a_format() -> None:
    table = zoned([datetime(2020, 1, 31, 9, 5, 7, 250), None], "Europe/Paris")
    assert over_columns("strftime(t, '%d.%m.%Y %H:%M:%S.%f %a %j')", table).to_pylist() == [
        "31.01.2020 10:05:07.000250 Fri 031",
        None,
    ]
    assert over_columns("strftime(t, '%H:%M%z')", table).to_pylist() == ["10:05+0100", None]
    days = pa.table({"d": pa.array([date(2020, 1, 5)])})
    assert over_columns("strftime(d, '%A, week %V: 100%%')", days).to_pylist() == ["Sunday, week 01: 100%"]
    with pytest.raises(OpError, match="'%z' is the offset of a zone"):
        over_columns("strftime(d, '%z')", days)


TEXTS = pa.table({"s": ["01.02.2020", "2020-01-31", None, "31.02.2020", "soon"]})


def test_texts_of_several_formats_become_times(capsys: pytest.CaptureFixture[str]) -> None:
    got = over_columns("parse_time(s, ['%d.%m.%Y', '%Y-%m-%d'], errors='missing')", TEXTS)
    told = capsys.readouterr().err
    assert told.startswith("warning: ")
    assert told.endswith("2 of 5 texts are no times and missing now, as '31.02.2020'\n")
    assert got.to_pylist() == [datetime(2020, 2, 1), datetime(2020, 1, 31), None, None, None]
    with pytest.raises(DataError, match=r"parse_time\(s\): got '31.02.2020', which is none of '%d.%m.%Y', '%Y-%m-%d'"):
        over_columns("parse_time(s, ['%d.%m.%Y', '%Y-%m-%d'])", TEXTS)
    over_columns("parse_time(s, ['%d.%m.%Y', '%Y-%m-%d'], errors='missing')", TEXTS.slice(0, 3))
    assert not capsys.readouterr().err


def test_texts_with_an_offset_become_zoned_times() -> None:
    table = pa.table({"s": ["1.2.2020 10:00+0200"]})
    got = over_columns("parse_time(s, '%d.%m.%Y %H:%M%z')", table)
    assert (got.type, got.to_pylist()) == (pa.timestamp("us", "UTC"), [datetime(2020, 2, 1, 8, tzinfo=UTC)])
    with pytest.raises(OpError, match="some of the formats have '%z'"):
        over_columns("parse_time(s, ['%d%z', '%d'])", table)


@SETTINGS
@given(st.lists(st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2068, 1, 1)), max_size=8))
def test_times_are_the_same_after_a_way_through_a_format(values: list[Any]) -> None:
    table = pa.table({"t": pa.array(values, pa.timestamp("us"))})
    for form in ("%d.%m.%Y %H:%M:%S.%f", "%Y-%j %I:%M:%S.%f %p", "%d %B %y %H:%M:%S.%f"):
        texts = over_columns(f"strftime(t, '{form}')", table)
        assert texts.to_pylist() == [v and v.strftime(form) for v in values]
        assert over_columns(f"parse_time(s, '{form}')", pa.table({"s": texts})).to_pylist() == values


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_each_unit_are_compared_with_constants(unit: str, zone: str | None) -> None:
    plain = pa.array([datetime(2000, 1, 1), datetime(1999, 1, 1), None], pa.timestamp(unit))
    table = pa.table({"t": plain.cast(pa.timestamp(unit, zone)) if zone else plain})
    c = f"timestamp('2000-01-01T00:00{'Z' if zone else ''}')"
    texts = [f"t >= {c}", f"t == {c}", f"t in [{c}]", f"maximum(t, {c}) == {c}"]
    same = [[True, False, False]] * 3 + [[True, True, False]]
    assert [got.to_pylist() for got in all_over_columns(texts, table)] == same


@pytest.mark.parametrize("word", ["infinity", "-infinity", "epoch", " Infinity", "EPOCH\t"])
@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m-%d%z"])
def test_words_for_times_are_in_no_format(word: str, form: str) -> None:
    table = pa.table({"s": [word, None]})
    assert over_columns(f"parse_time(s, '{form}', errors='missing')", table).to_pylist() == [None, None]
    with pytest.raises(DataError, match="which is none of"):
        over_columns(f"parse_time(s, '{form}')", table)
    with pytest.raises(ValueError, match="is not in this format"):
        _by_format(pa.chunked_array([[word]]), [form])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_that_enter_are_none_of_the_infinities(unit: str) -> None:
    kind = pa.timestamp(unit)
    schema = pa.schema([("t", kind)])
    for i in (-(2**63), -(2**63) + 1, 2**63 - 1):
        with pytest.raises(DataError, match="column 't': has a time outside"):
            entered(pa.table({"t": pa.array([i]).cast(kind)}), schema)
    low, high = _range(kind)
    table = entered(pa.table({"t": pa.array([low, high]).cast(kind)}), schema)
    assert not any("inf" in text for text in over_columns("text(t)", table).to_pylist())
    assert over_columns("fill(t, t)", table).cast(pa.int64()).to_pylist() == [low, high]


@SETTINGS
@given(
    values=st.lists(st.none() | moments, min_size=1, max_size=12),
    zone=st.sampled_from([*ZONES, "Europe/Berlin"]),
    period=st.sampled_from(["90min", "2h", "150min", "3h", "6h", "8h", "12h"]),
)
def test_several_hours_count_on_the_clock_from_midnight(values: list[Any], zone: str, period: str) -> None:
    shown = of_pandas(values, zone).dt.tz_localize(None).dt.floor(period)
    first, last = (
        shown.dt.tz_localize(zone, ambiguous=np.full(len(values), fold), nonexistent="shift_forward").dt.tz_convert(
            "UTC"
        )
        for fold in (True, False)
    )
    at = pd.Series(values, dtype="datetime64[us]").dt.tz_localize("UTC")
    wanted = [None if pd.isna(v) else v.to_pydatetime() for v in last.where(last <= at, first)]
    for unit in ("us", "ns"):
        got = as_utc(over_columns(f"floor_time(t, '{period}')", zoned(values, zone, unit)))
        assert [v and (v.to_pydatetime() if hasattr(v, "to_pydatetime") else v) for v in got] == wanted
    assert all(v is None or v <= t.replace(tzinfo=UTC) for v, t in zip(wanted, values, strict=True))


@pytest.mark.parametrize("period", ["2h", "3h", "6h", "12h"])
@pytest.mark.parametrize("day", [datetime(2024, 3, 30, 22), datetime(2024, 10, 26, 21)])
def test_several_hours_are_those_of_pandas_on_the_days_of_clock_changes(day: datetime, period: str) -> None:
    values = [day + timedelta(minutes=19 * i) for i in range(85)]
    got = as_utc(over_columns(f"floor_time(t, '{period}')", zoned(values, "Europe/Berlin")))
    told = 0
    for v, found in zip(values, got, strict=True):
        assert found <= v.replace(tzinfo=UTC)
        try:
            wanted = pd.Timestamp(v, tz="UTC").tz_convert("Europe/Berlin").floor(period)
        except ValueError:  # it begins at a time that is shown twice or never
            continue
        told += 1
        assert found == wanted.tz_convert("UTC").to_pydatetime()
    assert told > 60
    assert got == sorted(got)
    constant = [floor_time(pd.Timestamp(v, tz="UTC").tz_convert("Europe/Berlin"), period) for v in values]
    assert [v.tz_convert("UTC") for v in constant] == got


@pytest.mark.parametrize("period", ["2h", "6h", "day", "week", "12h"])
def test_a_period_whose_start_is_skipped_begins_with_the_clock_change(period: str) -> None:
    # the clock of Toronto went from 23:30 to 0:30, into a Monday
    table = zoned([datetime(1919, 3, 31, 4, 30), datetime(1919, 3, 31, 4, 40)], "America/Toronto")
    got = as_utc(over_columns(f"floor_time(t, '{period}')", table))
    assert got == [datetime(1919, 3, 31, 4, 30, tzinfo=UTC)] * 2


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Europe/Berlin", "Africa/Cairo", "UTC"])
def test_a_constant_is_localized_where_no_column_is_needed(zone: str) -> None:
    table = pa.table({"t": [1, 2]})
    got = over_columns(f"localize(timestamp('2018-05-01T23:30'), '{zone}')", table)
    wanted = pd.Timestamp("2018-05-01T23:30").tz_localize(zone).tz_convert("UTC").to_pydatetime()
    assert as_utc(got) == [wanted, wanted]
