"""resample of frames: periods of every unit, in zones whose clocks change, against pandas and Python's own zones."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import frame_of, table_of
from strategies import SETTINGS

from pipeline.config.expressions import expression
from pipeline.errors import OpError
from pipeline.ops.frames.resample import resample

ZONES = ["Africa/Cairo", "America/Sao_Paulo", "America/Havana", "Europe/Paris", "Asia/Kathmandu", "UTC"]


def aggs(**texts: str) -> dict[str, expression.Expression]:
    return {name: expression.parse(text, "agg") for name, text in texts.items()}


def rows(frame: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table_of(frame).to_pylist()]


@st.composite
def timed(draw: st.DrawFn) -> tuple[pd.DataFrame, Any]:
    """Some rows with times over some days, and the same rows as a step's input."""
    n = draw(st.integers(0, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    hours = rng.integers(0, draw(st.sampled_from([40, 400, 4000])), n)
    frame = pd.DataFrame(
        {
            "t": (pd.Timestamp("2001-01-30") + pd.to_timedelta(hours, "h")).astype("datetime64[us]"),
            "s": rng.choice(["a", "b"], n).astype(object),
            "x": rng.integers(-4, 4, n) / 4,
            "i": rng.integers(0, 9, n),
        }
    )
    frame.loc[rng.random(n) < 0.2, "t"] = pd.NaT
    frame.loc[rng.random(n) < 0.2, "s"] = None
    table = pa.Table.from_pandas(frame, preserve_index=False).cast(
        pa.schema({"t": pa.timestamp("us"), "s": pa.string(), "x": pa.float64(), "i": pa.int64()})
    )
    return frame, frame_of(table, draw(st.integers(1, 4)))


@SETTINGS
@given(
    timed(),
    st.sampled_from(["D", "36h", "2D", "MS", "2MS", "7h", "15 minutes", "quarter", "2YS"]),
    st.sampled_from([None, "s"]),
)
def test_resample_has_every_period_of_a_group(given: Any, rule: str, by: Any) -> None:
    frame, x = given
    words = {"15 minutes": "15min", "quarter": "QS"}
    timed = frame.dropna(subset=["t"])
    ordered = pd.Series(1, index=pd.DatetimeIndex(timed.t.sort_values()))
    periods = ordered.resample(words.get(rule, rule)).count().index
    wanted = []
    for key, group in timed.groupby(by, dropna=False) if by else [("", timed)]:
        places = periods.searchsorted(pd.DatetimeIndex(group.t), side="right") - 1
        for place in range(places.min(), places.max() + 1) if len(group) else []:
            some = group[places == place]
            mean = some.x.mean() if len(some) else None
            one = (periods[place], len(some), some.x.sum(), some.i.max() if len(some) else None, mean)
            wanted.append((None if pd.isna(key) else key, *one) if by else one)
    got = resample(x, on="t", rule=rule, by=by, agg=aggs(n="count()", total="sum(x)", top="max(i)", m="mean(x)"))
    assert rows(got) == wanted


@pytest.mark.parametrize("zone", ZONES)
def test_days_begin_where_the_local_clock_says(zone: str) -> None:
    """Every hour of two years, also those of clocks that change at midnight."""
    start = dt.datetime(2018, 1, 1, tzinfo=dt.UTC)
    times = [start + dt.timedelta(hours=3 * i) for i in range(8 * 730)]
    table = pa.table({"t": pa.array(times, pa.timestamp("us", zone))})
    for rule, first_day in (("day", lambda d: d), ("week", lambda d: d - dt.timedelta(d.weekday()))):
        counts: dict[dt.date, int] = {}
        for time in times:
            day = first_day(time.astimezone(ZoneInfo(zone)).date())
            counts[day] = counts.get(day, 0) + 1
        got = table_of(resample(frame_of(table, 3), on="t", rule=rule, agg=aggs(n="count()")))
        assert got.column("n").to_pylist() == list(counts.values())
        instants = [t.astimezone(dt.UTC) for t in got.column("t").to_pylist()]
        assert instants == [_start(day, zone) for day in counts]


def _start(day: dt.date, zone: str) -> dt.datetime:
    """The first moment of a local day."""
    moment = dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC) - dt.timedelta(hours=16)
    while moment.astimezone(ZoneInfo(zone)).date() < day:
        moment += dt.timedelta(minutes=15)
    return moment


def test_hours_are_lengths_of_time_whatever_the_clock_does() -> None:
    start = dt.datetime(2019, 10, 26, 22, tzinfo=dt.UTC)  # midnight in Paris; the clock goes back at 1:00
    times = [start + dt.timedelta(hours=i) for i in range(26)]
    x = frame_of({"t": pa.array(times, pa.timestamp("us", "Europe/Paris"))}, 4)
    got = rows(resample(x, on="t", rule="6h", agg=aggs(n="count()")))
    assert got == [(start + dt.timedelta(hours=6 * i), n) for i, n in enumerate([6, 6, 6, 6, 2])]


@pytest.mark.parametrize(
    ("rule", "starts"),
    [
        ("2 weeks", ["2000-12-25", "2001-01-08", "2001-01-22"]),
        ("week", ["2000-12-25", "2001-01-01", "2001-01-08", "2001-01-15", "2001-01-22", "2001-01-29"]),
        ("month", ["2000-12-01", "2001-01-01"]),
        ("quarters", ["2000-10-01", "2001-01-01"]),
        ("10YS", ["2000-01-01"]),
        ("20d", ["2000-12-31", "2001-01-20"]),
        ("480h", ["2000-12-31", "2001-01-20"]),
    ],
)
@pytest.mark.parametrize("n", [1, 3])
def test_periods_by_name_are_counted_from_the_first_time_of_all(rule: str, starts: list[str], n: int) -> None:
    days = [dt.date(2001, 1, 29), dt.date(2001, 1, 2), dt.date(2000, 12, 31)]
    wanted = [dt.date.fromisoformat(text) for text in starts]
    got = resample(frame_of({"t": days}, n), on="t", rule=rule, agg=aggs(n="count()"))
    assert got.schema.field("t").type == pa.date32()
    assert [day for day, _ in rows(got)] == wanted
    times = pa.array(days).cast(pa.timestamp("ns"))
    got = resample(frame_of({"t": times}, n), on="t", rule=rule, agg=aggs(n="count()"))
    assert [time.date() for time, _ in rows(got)] == wanted


@pytest.mark.parametrize("by", [None, "g"])
def test_periods_without_rows_hold_what_nothing_gives(by: str | None) -> None:
    times = [dt.datetime(2001, 1, 1), dt.datetime(2001, 1, 3), None]
    x = frame_of({"t": times, "x": [1.0, 2.0, 9.0], "b": [True, False, True], "g": ["a", "a", "b"]}, 3)
    texts = {"s": "sum(x)", "c": "count(x)", "u": "nunique(x)", "y": "any(b)", "z": "all(b)", "m": "median(x)"}
    got = rows(resample(x, on="t", rule="D", by=by, agg=aggs(**texts, f="first(x)")))
    key = ("a",) if by else ()
    assert got == [
        (*key, times[0], 1, 1, 1, True, True, 1, 1),
        (*key, dt.datetime(2001, 1, 2), 0, 0, 0, False, True, None, None),
        (*key, times[1], 2, 1, 1, False, False, 2, 2),
    ]


def test_resample_of_no_rows_has_no_periods() -> None:
    x = frame_of(pa.table({"t": pa.array([None, None], pa.timestamp("s")), "x": [1, 2]}), 2)
    assert rows(resample(x, on="t", rule="7h", agg=aggs(n="count()"))) == []


@pytest.mark.parametrize(
    ("on", "rule", "message"),
    [
        ("x", "D", "on: 'x' is int64; periods need times"),
        ("t", "often", "rule: got 'often', which is no period"),
        ("t", "W", "it begins on Monday), MS or month, quarter, 10YS or 10 years; write 'week'"),
        ("t", "1h 2D", "rule: got '1h 2D', which is no period"),
        ("t", "0h", "rule: got '0h'"),
        ("t", "5ms", "rule: got '5ms', which is finer than timestamp[s]"),
        ("d", "6h", "days have no periods of hours"),
        ("g", "D", "on: 'g' is a column of by, too"),
    ],
)
def test_a_fault_of_a_period_is_said_while_building(on: str, rule: str, message: str) -> None:
    now = dt.datetime(2001, 1, 1)
    x = frame_of({"t": pa.array([now], pa.timestamp("s")), "d": [now.date()], "x": [1], "g": [now]})
    with pytest.raises(OpError) as error:
        resample(x, on=on, rule=rule, by="g", agg=aggs(n="count()"))
    assert message in str(error.value)
