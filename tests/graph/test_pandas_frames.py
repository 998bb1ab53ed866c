"""Tables as pandas frames and back: dtypes follow the schema, values never change."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SETTINGS

from pipeline.errors import DataError
from pipeline.graph.column_types import declared_type
from pipeline.graph.pandas_frames import from_pandas, pandas_dtype, to_pandas

VALUES: dict[str, list[Any]] = {
    "bool": [True, False],
    **{f"int{n}": [-(2 ** (n - 1)), 2 ** (n - 1) - 1] for n in (8, 16, 32, 64)},
    **{f"uint{n}": [0, 2**n - 1] for n in (8, 16, 32, 64)},
    "float16": [0.5, float("inf")],
    "float32": [1.5, -2.0],
    "float64": [0.1, float("-inf")],
    "decimal(38, 2)": [Decimal("1.10"), Decimal("-999999999999999999999999999999999999.99")],
    "string": ["NA", "ä\0b"],
    "category": ["b", "a"],
    "binary": [b"\xff", b""],
    "date": [dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    "time": [dt.time(0), dt.time(23, 59, 59, 999999)],
    "timestamp": [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999)],
    "timestamp[ns]": [dt.datetime(1970, 1, 1), dt.datetime(2020, 2, 29, 1, 2, 3, 4)],
    "timestamp[Europe/Paris]": [
        dt.datetime(2021, 3, 28, 1, tzinfo=dt.UTC),
        dt.datetime(2021, 10, 31, 0, 30, tzinfo=dt.UTC),
    ],
    "duration": [dt.timedelta(microseconds=1), dt.timedelta(days=-9)],
    "list[int64]": [[2**53 + 1, None], []],
    "struct[a: int64, b: list[string]]": [{"a": 2**53 + 1, "b": ["x"]}, {"a": None, "b": []}],
}
FORMS = ("two", "no rows", "two chunks", "missing")


def column(kind: pa.DataType, form: str) -> pa.ChunkedArray:
    values = VALUES[next(name for name in VALUES if declared_type(name, "x") == kind)]
    parts = {"two": [values], "no rows": [], "two chunks": [values[:1], values[1:]], "missing": [[None], values]}[form]
    if pa.types.is_dictionary(kind):  # each chunk has a dictionary of its own
        return pa.chunked_array([pa.array(part, pa.string()).dictionary_encode().cast(kind) for part in parts], kind)
    return pa.chunked_array([pa.array(part, kind) for part in parts], kind)


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", VALUES)
def test_every_type_goes_to_pandas_and_back(name: str, form: str, nullable: bool) -> None:
    if form == "missing" and not nullable:
        return
    kind = declared_type(name, "x")
    schema = pa.schema([pa.field("x", kind, nullable)])
    table = pa.Table.from_arrays([column(kind, form)], schema=schema)
    frame = to_pandas(table)
    dtype = pandas_dtype(schema.field("x"))
    assert frame["x"].dtype == (frame["x"].dtype if isinstance(dtype, pd.CategoricalDtype) else dtype)
    assert isinstance(frame["x"].dtype, type(dtype))
    assert frame["x"].isna().sum() == table["x"].null_count
    back = from_pandas(frame, schema, "it")
    assert back.schema.equals(schema)
    assert back["x"].to_pylist() == table["x"].to_pylist()
    if len(frame) and not pa.types.is_nested(kind):
        frame.loc[0, "x"] = frame.loc[len(frame) - 1, "x"]  # the caller's own
    assert back["x"].to_pylist() == table["x"].to_pylist()


def test_the_dtypes_that_a_call_gets() -> None:
    def dtypes(nullable: bool) -> dict[str, str]:
        fields = [pa.field(name, declared_type(name, "x"), nullable) for name in VALUES]
        return {field.name: str(pandas_dtype(field)) for field in fields}

    may = {"int8": "Int8", "uint64": "UInt64", "bool": "boolean", "string": "string", "float32": "float32"}
    none = {"int8": "int8", "uint64": "uint64", "bool": "bool", "string": "str", "float32": "float32"}
    assert may.items() <= dtypes(True).items()
    assert none.items() <= dtypes(False).items()
    both = {"date": "datetime64[s]", "timestamp[ns]": "datetime64[ns]", "duration": "timedelta64[us]"}
    assert both.items() <= dtypes(True).items()
    assert both.items() <= dtypes(False).items()


def taken(values: Any, kind: str, *, nullable: bool = True) -> list[Any]:
    schema = pa.schema([pa.field("x", declared_type(kind, "x"), nullable)])
    frame = pd.DataFrame({"x": values if isinstance(values, pd.Series) else pd.Series(values, dtype=object)})
    made = from_pandas(frame, schema, "f")
    made.validate(full=True)
    assert made.schema.equals(schema)
    found: list[Any] = made["x"].to_pylist()
    return found


NOON = dt.datetime(2001, 2, 3, 12)
DAY = dt.date(2001, 2, 3)
FITS = [
    ("int64", [2**53 + 1, None, np.nan, pd.NA, pd.NaT, "9007199254740993", True, 2.0, Decimal(3), np.int8(4)],
     [2**53 + 1, None, None, None, None, 2**53 + 1, 1, 2, 3, 4]),
    ("uint64", [2**64 - 1, "18446744073709551615"], [2**64 - 1] * 2),
    ("int8", [127.0, -128], [127, -128]),
    ("float64", [1, 0.1, "1e3", "inf", "nan", Decimal("0.1"), True], [1.0, 0.1, 1000.0, np.inf, None, 0.1, 1.0]),
    ("float64", [2**53, 2**60], [2.0**53, 2.0**60]),
    ("float32", [0.1, np.inf], [float(np.float32(0.1)), np.inf]),
    ("decimal(12, 2)", [1, 0.1, Decimal("2.50"), "3.4", "1e3"],
     [Decimal(x) for x in ("1.00", "0.10", "2.50", "3.40", "1000.00")]),
    ("bool", [True, 0, 1.0, "TRUE", " false", None], [True, False, True, True, False, None]),
    ("string", ["NA", "", None, np.str_("x")], ["NA", "", None, "x"]),
    ("category", ["a", None], ["a", None]),
    ("binary", [b"a", bytearray(b"b")], [b"a", b"b"]),
    ("date", [DAY, "2001-02-03", dt.datetime(2001, 2, 3), pd.Timestamp(DAY)], [DAY] * 4),
    ("timestamp", [NOON, "2001-02-03T12:00", DAY, np.datetime64("2001-02-03T12")],
     [NOON, NOON, dt.datetime(2001, 2, 3), NOON]),
    ("timestamp[UTC]", ["2001-02-03T14:00+02:00", NOON], [NOON.replace(tzinfo=dt.UTC)] * 2),
    ("duration", ["1 days 02:00:00", dt.timedelta(1), np.timedelta64(5, "s")],
     [dt.timedelta(hours=26), dt.timedelta(1), dt.timedelta(seconds=5)]),
    ("time", [dt.time(1, 2), "03:04:05"], [dt.time(1, 2), dt.time(3, 4, 5)]),
    ("list[int64]", [[1, 2.0], (3,), np.array([4]), None], [[1, 2], [3], [4], None]),
    ("struct[a: int64, b: string]", [{"a": 1}, {"b": "x", "a": "2"}], [{"a": 1, "b": None}, {"a": 2, "b": "x"}]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values", "want"), FITS, ids=[kind for kind, *_ in FITS])
def test_values_that_fit_keep_what_they_are(kind: str, values: list[Any], want: list[Any]) -> None:
    assert taken(values, kind) == want
    for value, expected in zip(values, want, strict=True):  # alone, too
        assert taken([value], kind) == [expected]


DO_NOT = [
    *(("int64", x) for x in (1.5, 2.0**63, np.inf, "1.5", "1e3", "0x10", "true", "", 2**63, Decimal("1.5"), [1], DAY)),
    *(("int8", x) for x in (128, -129.0)),
    *(("uint64", x) for x in (-1, 2**64, -1.0)),
    *(("bool", x) for x in (2, 0.5, "1", "yes", "")),
    *(("float64", x) for x in (2**53 + 1, "", "x9", "1_000", "0x10", 1j, NOON)),
    *(("float32", x) for x in (1e300, 2**24 + 1)),
    *(("decimal(4, 2)", x) for x in (0.123, 100, "1.234", Decimal("99.999"))),
    *(("string", x) for x in (1, 1.5, True, b"a", "\ud800", ["a"])),
    *(("binary", x) for x in ("a", 1)),
    *(("date", x) for x in (NOON, "2001-02-03T12:00", "2001-02-30", "7", 7, NOON.replace(tzinfo=dt.UTC))),
    *(("timestamp", x) for x in ("7", 7, "2001-02-03T04:05Z", NOON.replace(tzinfo=dt.UTC), "noon")),
    ("timestamp", np.datetime64("2001-02-03T12:00:00.000000001")),
    *(("timestamp[s]", x) for x in (NOON.replace(microsecond=1),)),
    *(("timestamp[Europe/Paris]", x) for x in ("2021-03-28T02:30", "2021-10-31T02:30")),
    *(("duration", x) for x in (1, "7", "soon", 1.5)),
    *(("time", x) for x in (dt.time(1, tzinfo=dt.UTC), "25:00", 5)),
    *(("list[int64]", x) for x in ("12", [1.5], 1, {"a": 1})),
    *(("struct[a: int64]", x) for x in ({"b": 1}, {"a": 1.5}, [1])),
]


@pytest.mark.parametrize(("kind", "value"), DO_NOT, ids=[f"{kind}-{value!r}"[:40] for kind, value in DO_NOT])
def test_a_value_that_does_not_fit_is_named(kind: str, value: Any) -> None:
    with pytest.raises(DataError, match=r"f: column 'x' got .*, which does not fit"):
        taken([None, value], kind)
    with pytest.raises(DataError, match=r"f: column 'x' got .*, which does not fit"):
        taken(pd.Series([value]) if not isinstance(value, list | dict | str) else [value], kind)


@pytest.mark.parametrize(("series", "kind", "want"), [
    (pd.Series([2**62 + 1, None], dtype="Int64"), "int64", [2**62 + 1, None]),
    (pd.Series([True, None], dtype="boolean"), "bool", [True, None]),
    (pd.Series([1.5, None], dtype="Float64"), "float64", [1.5, None]),
    (pd.Series([1, None], dtype="float64"), "int64", [1, None]),
    (pd.Series(["a", None], dtype="category"), "string", ["a", None]),
    (pd.Series([3, 1], dtype="category"), "int8", [3, 1]),
    (pd.Series([1, 0], dtype="Sparse[int64]"), "int64", [1, 0]),
    (pd.Series([2**62 + 1, None], dtype="int64[pyarrow]"), "uint64", [2**62 + 1, None]),
    (pd.Series(pd.array(["a"], "string[pyarrow]")), "category", ["a"]),
    (pd.Series([Decimal("1.5")], dtype=pd.ArrowDtype(pa.decimal128(5, 3))), "decimal(4, 1)", [Decimal("1.5")]),
    (pd.Series(pd.to_datetime(["2001-02-03", None])), "date", [DAY, None]),
    (pd.Series(pd.to_datetime(["2001-02-03T12:00"])), "timestamp[UTC]", [NOON.replace(tzinfo=dt.UTC)]),
    (pd.Series(np.array([1.5, np.nan], np.float16)), "float32", [1.5, None]),
    (pd.Series([1, 0], dtype="float64"), "bool", [True, False]),
])  # fmt: skip
def test_columns_of_every_dtype_are_taken(series: Any, kind: str, want: list[Any]) -> None:
    assert taken(series, kind) == want


def test_frames_of_other_libraries_are_taken_too() -> None:
    schema = pa.schema([("b", pa.dictionary(pa.int32(), pa.string())), ("a", pa.int64())])
    arrow = pa.table({"a": pa.array([1.0, 2.0]), "more": ["", ""], "b": pa.array(["x", "x"], pa.large_string())})
    polars = pl.from_arrow(arrow).with_columns(pl.col("b").cast(pl.Categorical))
    for given_ in (arrow, arrow.to_batches()[0], polars, arrow.to_pandas().set_index("more", drop=False)):
        made = from_pandas(given_, schema, "f")
        assert made.schema.equals(schema)
        assert made.to_pydict() == {"b": ["x", "x"], "a": [1, 2]}


def test_what_is_no_such_frame_is_refused() -> None:
    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(DataError, match=r"m:f gave a int; a frame is a pandas.DataFrame, or one of polars or Arrow"):
        from_pandas(3, schema, "m:f")
    with pytest.raises(DataError, match="m:f has no column 'a'; it has b"):
        from_pandas(pd.DataFrame({"b": [1]}), schema, "m:f")
    with pytest.raises(DataError, match="m:f has 2 columns 'a'"):
        from_pandas(pd.DataFrame([[1, 2]], columns=["a", "a"]), schema, "m:f")
    with pytest.raises(DataError, match="m:f: column 'a' has missing values, and none are allowed"):
        from_pandas(pd.DataFrame({"a": [1, None]}), pa.schema([pa.field("a", pa.int64(), False)]), "m:f")


def test_what_a_call_gave_is_not_seen_to_change() -> None:
    values = np.array([1.5, 2.5])
    frame = pd.DataFrame({"a": values}, copy=False)
    made = from_pandas(frame, pa.schema([("a", pa.float64())]), "f")
    values[0] = 9
    assert made["a"].to_pylist() == [1.5, 2.5]


ANY = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), st.text("1.ae ", max_size=3),
    st.decimals(allow_nan=False, allow_infinity=False, places=2), st.datetimes(), st.dates(), st.timedeltas(),
)  # fmt: skip


@SETTINGS
@given(st.lists(ANY, max_size=4), st.sampled_from(["int64", "uint8", "float32", "decimal(9, 2)", "bool", "timestamp"]))
def test_values_are_the_same_afterwards_or_refused(values: list[Any], kind: str) -> None:
    try:
        got = taken(values, kind)
    except DataError:
        return
    again = taken(got, kind)
    assert again == got
    for before, after in zip(values, got, strict=True):
        if after is None:
            assert before is None or before != before or str(before).strip().lower() == "nan"
        elif isinstance(before, int | Decimal) or (isinstance(before, float) and kind not in ("float32",)):
            assert float(before) == float(after)
