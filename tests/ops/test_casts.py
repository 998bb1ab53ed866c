"""Conversions of columns: every value keeps what it is, or the run names the first that does not fit."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import frame_of, table_of
from strategies import SETTINGS

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import type_name
from pipeline.ops.frames.cast import cast_column, target_type
from pipeline.ops.frames.cleaning import astype, dropna, fillna, rename

D = Decimal


def cast(values: list[Any], kind: str, have: pa.DataType | None = None) -> pa.ChunkedArray:
    column = pa.chunked_array([pa.array(values, have)])
    target = target_type("columns.x", column.type, kind)
    made = cast_column("x", column, target, kind)
    assert made.type == target
    made.validate(full=True)
    return made


NS = pa.timestamp("ns")
FITS: list[tuple[str, list[Any], pa.DataType | None, list[Any]]] = [
    ("int8", [127.0, -128.0, None], None, [127, -128, None]),
    ("uint64", ["18446744073709551615", " 7 "], None, [2**64 - 1, 7]),
    ("int64", ["9007199254740993", "-1", "+2"], None, [2**53 + 1, -1, 2]),
    ("int64", [D("2.00"), None], None, [2, None]),
    ("int64", [True, None], None, [1, None]),
    ("bool", ["TRUE", " false"], None, [True, False]),
    ("bool", [1, 0], None, [True, False]),
    ("float32", [0.1, np.inf], None, [float(np.float32(0.1)), np.inf]),
    ("float64", ["1e3", "inf", ".5", "nan"], None, [1000.0, np.inf, 0.5, None]),
    ("float64", [2**53 + 2], None, [2.0**53 + 2]),
    ("float64", [D("0.1"), D("123456789.5")], None, [0.1, 123456789.5]),
    ("float16", [1.5, None], pa.float32(), [1.5, None]),
    ("decimal(5, 2)", [5, None], None, [D("5.00"), None]),
    ("decimal(5, 2)", ["1.25", "1.2500", ".5", "7"], None, [D("1.25"), D("1.25"), D("0.50"), D("7.00")]),
    ("decimal(5, 1)", [1.2], None, [D("1.2")]),
    ("decimal(5, 1)", [D("1.20")], None, [D("1.2")]),
    ("timestamp", ["2001-02-03", "2001-02-03T04:05:06.789"], None,
     [datetime(2001, 2, 3), datetime(2001, 2, 3, 4, 5, 6, 789000)]),
    ("timestamp", [date(2020, 1, 1)], None, [datetime(2020, 1, 1)]),
    ("timestamp", [1000, None], NS, [datetime(1970, 1, 1, 0, 0, 0, 1), None]),
    ("timestamp[UTC]", ["2001-02-03T04:05+02:00", "2001-02-03 04:05Z", "2001-02-03 04:05-0330"], None,
     [datetime(2001, 2, 3, 2, 5, tzinfo=UTC), datetime(2001, 2, 3, 4, 5, tzinfo=UTC),
      datetime(2001, 2, 3, 7, 35, tzinfo=UTC)]),
    ("timestamp[Europe/Paris]", ["2021-06-01T02:30"], None, [datetime(2021, 6, 1, 0, 30, tzinfo=UTC)]),
    ("timestamp[Europe/Paris]", [datetime(2021, 6, 1, 2, 30)], None, [datetime(2021, 6, 1, 0, 30, tzinfo=UTC)]),
    ("timestamp[Europe/Paris]", [date(2021, 6, 1)], None, [datetime(2021, 5, 31, 22, tzinfo=UTC)]),
    ("date", ["2001-02-03", "2001-02-03T00:00:00"], None, [date(2001, 2, 3)] * 2),
    ("date", [datetime(2001, 2, 3), None], None, [date(2001, 2, 3), None]),
    ("time", ["10:00", "10:00:00.5"], None, [time(10), time(10, 0, 0, 500000)]),
    ("duration", ["1 days 02:00:00", "5min", "-00:00:01.5"], None,
     [timedelta(days=1, hours=2), timedelta(minutes=5), timedelta(seconds=-1.5)]),
    ("string", [2**62 + 1, None], None, [str(2**62 + 1), None]),
    ("string", [True, None], None, ["True", None]),
    ("string", [date(2020, 1, 31)], None, ["2020-01-31"]),
    ("category", [1.5, None], None, ["1.5", None]),
    ("category", ["b", "a", None, "b"], None, ["b", "a", None, "b"]),
    ("string", ["a", None], pa.dictionary(pa.int32(), pa.string()), ["a", None]),
    ("list[string]", [[1, 2], None, []], None, [["1", "2"], None, []]),
    ("struct[b: int8, a: string]", [{"a": 1, "b": 2.0}, None], None, [{"b": 2, "a": "1"}, None]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "have", "wanted"), FITS, ids=[f"{k}-{g}"[:40] for k, g, *_ in FITS])
def test_values_become_other_types_unchanged(
    kind: str, given: list[Any], have: pa.DataType | None, wanted: list[Any]
) -> None:
    assert cast(given, kind, have).to_pylist() == wanted


MISFITS: list[tuple[str, list[Any], pa.DataType | None]] = [
    ("int8", [1.0, 128.0], None),
    ("int8", [0.5], None),
    ("int64", [2.0**63], None),
    ("int64", [np.inf], None),
    ("uint8", [-1], None),
    ("uint64", [-1], None),
    ("int32", [2**31], None),
    ("float64", [2**53 + 1], None),
    ("float64", [2**64 - 1], pa.uint64()),
    ("float64", [D("9007199254740993")], None),
    ("float32", [2**24 + 1], None),
    ("float32", [1e300], None),
    ("int64", ["1.5"], None),
    ("int64", ["1e3"], None),
    ("int64", ["0x10"], None),
    ("int64", ["1_000"], None),
    ("int64", ["true"], None),
    ("int64", ["9223372036854775808"], None),
    ("int64", [D("1.50")], None),
    ("bool", ["TRUE", "false", "1"], None),
    ("bool", [2], None),
    ("float64", [""], None),
    ("float64", ["1e400"], None),
    ("float64", ["0x10"], None),
    ("decimal(5, 1)", [D("1.23")], None),
    ("decimal(5, 1)", [1.25], None),
    ("decimal(5, 2)", [50_000], None),
    ("decimal(5, 2)", ["1.255"], None),
    ("timestamp", ["2001-02-03T04:05Z"], None),
    ("timestamp", ["2001-02-03T04:05+02"], None),
    ("timestamp", ["2001-02-30"], None),
    ("timestamp", ["2001-02-03 24:00"], None),
    ("timestamp", ["2001-02-03 10:00:00.1234567"], None),
    ("timestamp", [1001], NS),
    ("timestamp[Europe/Paris]", ["2021-03-28T02:30"], None),
    ("timestamp[Europe/Paris]", [datetime(2021, 3, 28, 2, 30)], None),
    ("timestamp[Europe/Paris]", [datetime(2021, 10, 31, 2, 30)], None),
    ("date", [datetime(2001, 2, 3, 12)], None),
    ("date", ["2001-02-03 10:00"], None),
    ("time", ["25:00"], None),
    ("duration", ["soon"], None),
    ("duration", [1], pa.duration("ns")),
    ("list[int8]", [[1.0], [1.5, 2]], None),
]


@pytest.mark.parametrize(("kind", "given", "have"), MISFITS, ids=[f"{k}-{g}"[:40] for k, g, *_ in MISFITS])
def test_a_value_that_does_not_fit_is_named(kind: str, given: list[Any], have: pa.DataType | None) -> None:
    with pytest.raises(DataError, match=r"column 'x' got .*, which does not fit"):
        cast(given, kind, have)


def test_the_first_of_many_values_is_named() -> None:
    values = ["1", None, *["2"] * 1000, "x9", *["3"] * 1000, "y"]
    with pytest.raises(DataError, match="column 'x' got 'x9', which does not fit float64"):
        cast(values, "float64")


def test_a_time_is_told_to_be_too_fine_or_to_be_no_time_of_the_zone() -> None:
    fine = [datetime(2024, 3, 31, 12, 0, 0, 123456)]
    for kind in ("timestamp[ms, UTC]", "timestamp[s, UTC]", "timestamp[ms]"):
        with pytest.raises(DataError) as caught:
            cast(fine, kind)
        assert str(caught.value) == f"column 'x' got 2024-03-31 12:00:00.123456, which does not fit {kind}"
    with pytest.raises(DataError, match="it is twice or never on that clock"):
        cast([datetime(2024, 3, 31, 2, 30)], "timestamp[ms, Europe/Berlin]")


@pytest.mark.parametrize(
    ("have", "kind", "message"),
    [
        (pa.timestamp("us"), "int64", "timestamp does not become int64; take year"),
        (pa.int64(), "timestamp", "a number has no unit of time"),
        (pa.timestamp("us", "UTC"), "timestamp", "say which clock is meant"),
        (pa.timestamp("us", "UTC"), "date", "say which clock is meant"),
        (pa.duration("s"), "float64", "gives seconds"),
        (pa.string(), "timestamp[Mars]", "is no type"),
        (pa.binary(), "string", "binary does not become string"),
        (pa.list_(pa.timestamp("us")), "list[int8]", "does not become"),
        (pa.int64(), "complex128", "is no type"),
    ],
)
def test_types_without_a_conversion_are_refused(have: pa.DataType, kind: str, message: str) -> None:
    with pytest.raises(OpError, match=message):
        target_type("columns.x", have, kind)


WHOLE = [getattr(pa, f"{u}int{n}")() for u in ("", "u") for n in (8, 16, 32, 64)]


@SETTINGS
@given(st.data())
def test_whole_numbers_fit_or_fail_as_numpy_says(data: st.DataObject) -> None:
    have, want = data.draw(st.sampled_from(WHOLE)), data.draw(st.sampled_from([*WHOLE, pa.float32(), pa.float64()]))
    limits = np.iinfo(have.to_pandas_dtype())
    near = [limits.min, limits.max, 0, 127, 128, 2**24 + 1, 2**53, 2**53 + 1, 2**63 - 1]
    number = data.draw(st.sampled_from([v for v in near if limits.min <= v <= limits.max]))
    plain = np.dtype(want.to_pandas_dtype())
    if plain.kind == "f":
        fits = int(plain.type(number)) == number
    else:
        fits = np.iinfo(plain).min <= number <= np.iinfo(plain).max
    if fits:
        assert cast([number, None], type_name(want), have).to_pylist() == [number, None]
    else:
        with pytest.raises(DataError, match=f"got {number}, which does not fit"):
            cast([number, None], type_name(want), have)


@SETTINGS
@given(st.lists(st.none() | st.floats(allow_nan=False) | st.integers(-(2**60), 2**60), max_size=8))
def test_numbers_are_the_same_after_a_way_through_text(values: list[Any]) -> None:
    numbers = [None if v is None else float(v) for v in values]
    texts = cast(numbers, "string", pa.float64())
    assert cast_column("x", texts, pa.float64(), "float64").to_pylist() == numbers


@SETTINGS
@given(st.lists(st.none() | st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), max_size=8))
def test_times_are_the_same_after_a_way_through_text(values: list[Any]) -> None:
    for kind in (pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("us", "Africa/Cairo")):
        column = pa.chunked_array([pa.array(values, pa.timestamp("us")).cast(pa.timestamp(kind.unit)).cast(kind)])
        texts = cast_column("x", column, pa.string(), "string")
        assert cast_column("x", texts, kind, type_name(kind)).equals(column)


# ---------------------------------------------------------------------------------------------------------------------
# The ops
# ---------------------------------------------------------------------------------------------------------------------

TIMES = [datetime(2001, 1, 1), None, datetime(2001, 1, 2), datetime(2001, 1, 3)]
TEXTS = pa.dictionary(pa.int32(), pa.string())
TABLE = pa.table(
    [pa.array([5, 3, 8, 1]), pa.array([1.0, None, 3.5, None]), pa.array(["7", "8", None, "x9"]),
     pa.array(TIMES, pa.timestamp("us")),
     pa.array(["u", None, "u", "v"]).cast(TEXTS)],
    schema=pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.float64()),
                      pa.field("c", pa.string()), pa.field("t", pa.timestamp("us")), pa.field("k", TEXTS)]),
)  # fmt: skip


def test_columns_are_renamed_all_at_once() -> None:
    got = table_of(rename(frame_of(TABLE, 2), columns={"a": "b", "b": "a"}))
    assert got.column_names == ["b", "a", "c", "t", "k"]
    assert got.column("b").to_pylist() == [5, 3, 8, 1]
    assert got.schema.field("b").nullable is False


def test_columns_are_cast_in_their_places() -> None:
    got = table_of(astype(frame_of(TABLE, 2), columns={"b": "decimal(4, 2)", "t": "date", "c": "category"}))
    assert got.column("b").to_pylist() == [D("1.00"), None, D("3.50"), None]
    assert got.schema.field("t").type == pa.date32()
    assert got.column("c").to_pylist() == ["7", "8", None, "x9"]
    with pytest.raises(DataError, match="column 'c' got 'x9', which does not fit int64"):
        table_of(astype(frame_of(TABLE, 2), columns={"c": "int64"}))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"b": 0}, {"b": [1.0, 0.0, 3.5, 0.0]}),
        (0, {"b": [1.0, 0.0, 3.5, 0.0], "a": [5, 3, 8, 1]}),
        ("?", {"c": ["7", "8", "?", "x9"], "k": ["u", "?", "u", "v"]}),
        ({"t": "2000-01-01"}, {"t": [t or datetime(2000, 1, 1) for t in TIMES]}),
    ],
)  # fmt: skip
def test_missing_values_are_filled(value: Any, wanted: dict[str, list[Any]]) -> None:
    got = table_of(fillna(frame_of(TABLE, 2), value=value))
    for name in got.column_names:
        assert got.column(name).to_pylist() == wanted.get(name, TABLE.column(name).to_pylist())
        assert got.schema.field(name).nullable is (name not in wanted and name != "a")


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (0.5, pa.int64(), "got 0.5, which does not fit int64"),
        (300, pa.uint8(), "got 300, which does not fit uint8"),
        (0.125, pa.decimal128(5, 2), "got 0.125, which does not fit decimal"),
        ("noon", pa.timestamp("us"), "a time is written '1995-03-15'"),
        ("2001-01-01T00:00Z", pa.timestamp("us"), "naive and zoned times never mix"),
        ("2001-01-01 12:00", pa.date32(), "has a time of day"),
        ("none", pa.float64(), "got 'none' for a column of float64"),
        (True, pa.float64(), "got True for a column of float64"),
        (float("nan"), pa.float64(), "missing itself"),
    ],
)
def test_a_value_that_fills_is_of_the_columns_type(value: Any, kind: pa.DataType, message: str) -> None:
    with pytest.raises(OpError, match=message):
        fillna(frame_of(pa.table([pa.array([None], kind)], names=["x"])), value={"x": value})


@pytest.mark.parametrize(
    ("subset", "how", "wanted", "there"),
    [(None, "any", [5], "abctk"), ("b", "any", [5, 8], "ab"), (["b", "c"], "all", [5, 3, 8, 1], "a"),
     (["b", "t"], "all", [5, 8, 1], "a"), ("b", "all", [5, 8], "ab"), ("a", "any", [5, 3, 8, 1], "a")],
)  # fmt: skip
def test_rows_with_missing_values_are_dropped(subset: Any, how: str, wanted: list[int], there: str) -> None:
    got = table_of(dropna(frame_of(TABLE, 3), subset=subset, how=how))
    assert got.column("a").to_pylist() == wanted
    assert "".join(field.name for field in got.schema if not field.nullable) == there
