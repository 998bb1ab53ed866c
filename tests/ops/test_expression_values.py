"""The meaning of expressions that must not differ: one table over numpy arrays, dask arrays and columns of tables."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import xarray as xr
from dask.base import tokenize
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.expressions.expression import Expression, bind, parse
from pipeline.config.expressions.references import ExpressionError
from pipeline.errors import DataError, OpError
from pipeline.ops.elementwise.targets import (
    evaluate_arrays,
    evaluate_coords,
    evaluate_numpy,
    evaluate_scalar,
)
from pipeline.ops.frames.columns import column_of, field_of_expression

NAN = float("nan")
DATA: dict[str, Any] = {
    "x": np.array([1.0, NAN, -3.0, 4.0]),
    "y": np.array([2.0, 2.0, NAN, 4.0]),
    "f": np.array([0.1, 0.5, 1.5, 2.5], dtype=np.float32),
    "i": np.array([1, -7, 3, 4]),
    "u": np.array([1, 2, 3, 4], dtype=np.uint8),
    "b": np.array([True, False, True, False]),
    "t": np.array(["1969-12-31T23:59:59", "2000-02-29T12:30:00", "NaT", "2024-12-31T00:00:00"], dtype="M8[us]"),
    "w": np.array(["1970-01-01", "2000-01-01", "2020-01-01", "2024-01-01"], dtype="M8[ns]"),
}


class Elsewhere:
    """Stands for a reference of the Config."""

    def __init__(self, text: str) -> None:
        self.text = text


def over_arrays(text: str, arrays: dict[str, xr.DataArray]) -> xr.DataArray:
    e = parse(text, "arrays")
    e = bind(e, {}, {reference: Elsewhere(str(reference)) for reference in e.step_references})
    return evaluate_arrays(e, [arrays[reference.text] for reference in e.references])


def over_numpy(text: str, data: dict[str, Any]) -> Any:
    e = parse(text, "arrays")
    e = bind(e, {}, {reference: Elsewhere(str(reference)) for reference in e.step_references})
    return evaluate_numpy(e, [data[reference.text] for reference in e.references])


def table_of_arrays(data: dict[str, Any]) -> pa.Table:
    """Columns with NaN and NaT as missing values, and none missing elsewhere."""
    columns = [pa.array(v, from_pandas=True) if isinstance(v, np.ndarray) else v for v in data.values()]
    fields = [pa.field(n, c.type, bool(c.null_count)) for n, c in zip(data, columns, strict=True)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def over_columns(text: str, table: pa.Table, *values: Any) -> pa.ChunkedArray:
    """The column that an expression gives, of the type and with the missing values that were found while building."""
    e = parse(text, "columns")
    e = bind(e, {name: Elsewhere(name) for name in e.placeholders})
    field = field_of_expression("x", e, table.schema)
    made = column_of(e, table, values, field.type)
    assert made.type == field.type
    assert field.nullable or not made.null_count
    return made


def chunked(chunks: Any = 2) -> dict[str, xr.DataArray]:
    return {name: xr.DataArray(da.from_array(v, chunks=chunks), dims=["row"]) for name, v in DATA.items()}


TABLE: list[tuple[str, Any]] = [
    # a comparison with a missing value is false, != and not in too
    ("x > 0", [True, False, False, True]),
    ("x < 0", [False, False, True, False]),
    ("x == 4", [False, False, False, True]),
    ("x != 4", [True, False, True, False]),
    ("x != y", [True, False, False, False]),
    ("not x != 4", [False, True, False, True]),
    ("x in [1, 4]", [True, False, False, True]),
    ("x not in [1, 4]", [False, False, True, False]),
    ("x not in []", [True, False, True, True]),
    ("t != date('2024-12-31')", [True, True, False, False]),
    ("t < date('2000-01-01')", [True, False, False, False]),
    ("t in [date('2024-12-31')]", [False, False, False, True]),
    ("-4 < x <= 1", [True, False, True, False]),
    ("t > w", [False, True, False, True]),
    # and, or, not are elementwise
    ("x > 0 and y > 2 or b", [True, False, True, True]),
    ("not b and i > 0", [False, False, False, True]),
    # / is true division; whole numbers stay whole elsewhere; true counts as 1
    ("i / 2", [0.5, -3.5, 1.5, 2.0]),
    ("i // 2", [0, -4, 1, 2]),
    ("i % 4", [1, 1, 3, 0]),
    ("i ** 2", [1, 49, 9, 16]),
    ("i ** -1", [1.0, -1 / 7, 1 / 3, 0.25]),
    ("b + b", [2, 0, 2, 0]),
    ("-i", [-1, 7, -3, -4]),
    ("i / 0", [np.inf, -np.inf, np.inf, np.inf]),
    # constants don't widen floats; a float32 0.1 is the constant 0.1
    ("f * 2", np.array([0.2, 1.0, 3.0, 5.0], dtype=np.float32)),
    ("f == 0.1", [True, False, False, False]),
    ("f in [0.1]", [True, False, False, False]),
    # whole numbers have the next width, which holds the result
    ("u + 1", np.array([2, 3, 4, 5], dtype=np.uint16)),
    ("u - 2", np.array([-1, 0, 1, 2], dtype=np.int16)),
    ("-u", np.array([-1, -2, -3, -4], dtype=np.int16)),
    # a constant that the type can't hold counts as int64, and is never another number
    ("u + 300", [301, 302, 303, 304]),
    ("1000 - u", [999, 998, 997, 996]),
    ("u % -3", [-2, -1, 0, -2]),
    ("u + 10 ** 19", np.array([1, 2, 3, 4], dtype=np.uint64) + np.uint64(10**19)),
    ("where(b, u, 300)", [1, 300, 3, 300]),
    ("where(b, -1, u)", [-1, 2, -1, 4]),
    ("maximum(u, 300)", [300, 300, 300, 300]),
    ("minimum(u, 300)", DATA["u"]),
    ("clip(u, -1, 300)", DATA["u"]),
    ("u in [1, 300]", [True, False, False, False]),
    ("-1 < u < 300", [True, True, True, True]),
    # missing values go through arithmetic and functions
    ("x + y", [3.0, NAN, NAN, 8.0]),
    ("missing(x)", [False, True, False, False]),
    ("fill(x, 0)", [1.0, 0.0, -3.0, 4.0]),
    ("fill(x, y)", [1.0, 2.0, -3.0, 4.0]),
    ("fill(i, 0)", [1, -7, 3, 4]),
    ("where(x > 0, x, 0)", [1.0, 0.0, 0.0, 4.0]),
    ("where(b, i, 0)", [1, 0, 3, 0]),
    ("where(b, t, w)", ["1969-12-31T23:59:59", "2000-01-01", "NaT", "2024-01-01"]),
    ("minimum(x, y)", [1.0, NAN, NAN, 4.0]),
    ("maximum(x, 2)", [2.0, NAN, 2.0, 4.0]),
    ("clip(i, -1, 3)", [1, -1, 3, 3]),
    ("isfinite(x / 0)", [False, False, False, False]),
    ("round(f, 0)", np.array([0, 0, 2, 2], dtype=np.float32)),
    ("abs(x)", [1.0, NAN, 3.0, 4.0]),
    ("sign(x)", [1.0, NAN, -1.0, 1.0]),
    ("sqrt(x ** 2)", [1.0, NAN, 3.0, 4.0]),
    ("log10(10.0 ** u)", [1.0, 2.0, 3.0, 4.0]),
    ("sqrt(u * u)", [1.0, 2.0, 3.0, 4.0]),
    ("arctan2(i, i) > 0", [True, False, True, True]),
    ("number(b)", [1.0, 0.0, 1.0, 0.0]),
    ("integer(f)", [0, 0, 1, 2]),
    ("integer(-f)", [0, 0, -1, -2]),
    ("boolean(i - 1)", [False, True, True, True]),
    # times
    ("year(fill(t, w))", [1969, 2000, 2020, 2024]),
    ("month(fill(t, w))", [12, 2, 1, 12]),
    ("day(fill(t, w))", [31, 29, 1, 31]),
    ("hour(fill(t, w))", [23, 12, 0, 0]),
    ("weekday(fill(t, w))", [2, 1, 2, 1]),
    ("dayofyear(fill(t, w))", [365, 60, 1, 366]),
    ("quarter(fill(t, w))", [4, 1, 1, 4]),
    ("isoweek(fill(t, w))", [1, 9, 1, 1]),
    ("minute(fill(t, w))", [59, 30, 0, 0]),
    ("second(fill(t, w))", [59, 0, 0, 0]),
    ("fill(year(t), 0)", [1969, 2000, 0, 2024]),
    ("year(t) == 2000", [False, True, False, False]),
    ("floor_time(t, '1h')", ["1969-12-31T23:00", "2000-02-29T12:00", "NaT", "2024-12-31T00:00"]),
    ("floor_time(t, '1d') + duration('90min')", ["1969-12-31T01:30", "2000-02-29T01:30", "NaT", "2024-12-31T01:30"]),
    ("floor_time(t, 'month')", ["1969-12-01", "2000-02-01", "NaT", "2024-12-01"]),
    ("floor_time(t, '2 quarters')", ["1969-07-01", "2000-01-01", "NaT", "2024-07-01"]),
    ("floor_time(t, 'year')", ["1969-01-01", "2000-01-01", "NaT", "2024-01-01"]),
    ("floor_time(t, 'week')", ["1969-12-29", "2000-02-28", "NaT", "2024-12-30"]),
    ("floor_time(t, '15 minutes')", ["1969-12-31T23:45", "2000-02-29T12:30", "NaT", "2024-12-31T00:00"]),
    ("t + duration(years=1)", ["1970-12-31T23:59:59", "2001-02-28T12:30", "NaT", "2025-12-31"]),
    ("w - duration(months=1)", ["1969-12-01", "1999-12-01", "2019-12-01", "2023-12-01"]),
    ("duration(months=2) + t", ["1970-02-28T23:59:59", "2000-04-29T12:30", "NaT", "2025-02-28"]),
    ("number(w - date('1970-01-01')) / 86400", [0.0, 10957.0, 18262.0, 19723.0]),
    ("(w - date('1970-01-01')) / duration('1d')", [0.0, 10957.0, 18262.0, 19723.0]),
]


@pytest.mark.parametrize(("text", "expected"), TABLE, ids=[text for text, _ in TABLE])
def test_an_expression_means_the_same_on_every_target(text: str, expected: Any) -> None:
    wanted = np.asarray(expected, dtype="M8[ns]" if isinstance(expected[0], str) else None)
    whole = over_numpy(text, DATA)
    lazy = over_arrays(text, chunked())
    column = over_columns(text, table_of_arrays(DATA))
    for got in (whole, lazy.compute(scheduler="sync").values, column.to_numpy()):
        np.testing.assert_array_equal(got.astype(wanted.dtype) if wanted.dtype.kind == "M" else got, wanted)
        assert got.dtype == wanted.dtype or wanted.dtype.kind == "M"
    assert lazy.dtype == whole.dtype
    assert column.type == pa.from_numpy_dtype(whole.dtype)


KINDS = [
    ("t > 1", "number"),
    ("t + 1", "duration('5min')"),
    ("t + t", "not defined"),
    ("x and b", "x != 0"),
    ("where(x, 1, 2)", "x != 0"),
    ("where(b, t, 1)", "cannot be compared"),
    ("sqrt(t)", "needs numbers"),
    ("month(x)", "needs times"),
    ("number(t)", "duration"),
    ("x + duration(months=1)", "not defined for number and months"),
    ("x in [date('2020-01-01')]", "cannot be compared"),
    ("t > timestamp('2020-01-01T00:00Z')", "localize"),
    ("x == 'a'", "number(x)"),
]


@pytest.mark.parametrize(("text", "cure"), KINDS, ids=[text for text, _ in KINDS])
def test_operands_of_different_kinds_fail_on_every_target(text: str, cure: str) -> None:
    for target in (
        lambda: over_numpy(text, DATA),
        lambda: over_arrays(text, chunked()),
        lambda: over_columns(text, table_of_arrays(DATA)),
    ):
        with pytest.raises((ExpressionError, OpError)) as caught:
            target()
        assert cure in str(caught.value)


def test_a_missing_whole_number_fails_in_arrays_alone() -> None:
    assert over_columns("month(t)", table_of_arrays(DATA)).to_pylist() == [12, 2, None, 12]
    wanted = "month.t.' is missing for 1 of . values, and int64 has no missing value"
    with pytest.raises(DataError, match=wanted):
        over_arrays("month(t)", chunked()).compute(scheduler="sync")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(width=32) | st.just(NAN), min_size=1, max_size=6), st.sampled_from(["<", "!=", "==", ">="]))
def test_comparisons_agree_on_arrays_and_columns(values: list[float], op: str) -> None:
    data = {"p": np.array(values), "q": np.array(values[::-1])}
    text = f"p {op} q"
    expected = over_numpy(text, data)
    assert over_columns(text, table_of_arrays(data)).to_pylist() == list(expected)
    assert not expected[np.isnan(data["p"]) | np.isnan(data["q"])].any()


# ---------------------------------------------------------------------------------------------------------------------
# Arrays: dims, coordinates, tasks
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def climate() -> dict[str, xr.DataArray]:
    time, month = pd.date_range("2000-01-01", periods=24, freq="MS"), np.arange(1, 13)
    monthly = xr.DataArray(
        da.from_array(np.arange(72.0).reshape(24, 3), chunks=(8, 3)),
        dims=["time", "y"],
        coords={"time": time, "y": [10, 20, 30], "height": 2.0},
        attrs={"units": "K"},
        name="tas",
    )
    clim = xr.DataArray(da.ones((12, 3)), dims=["month", "y"], coords={"month": month, "y": [10, 20, 30]})
    profile = xr.DataArray(da.ones(3), dims=["y"], coords={"y": [10, 20, 30]})
    return {
        "monthly": monthly,
        "clim": clim,
        "profile": profile,
        "turned": monthly.transpose("y", "time"),
        "moved": profile.assign_coords(y=[10, 20, 31]),
        "short": monthly.isel(time=slice(0, 20)),
        "other": monthly.assign_coords(height=3.0),
        "recut": monthly.chunk({"time": 5}),
        "line": xr.DataArray(da.ones(24, chunks=8), dims=["time"]),
        "one": xr.DataArray(da.ones(())),
    }


def test_dims_where_neither_contains_the_other_are_refused(
    climate: dict[str, xr.DataArray],
) -> None:
    with pytest.raises(ExpressionError) as caught:
        over_arrays("monthly - clim", climate)
    assert str(caught.value) == (
        "'monthly' has dims (time, y), 'clim' has (month, y), and neither contains the other; for the month of each "
        'time: {op: take, input: clim, at: {month: "month(time)"}, like: monthly}'
    )


@pytest.mark.parametrize("text", ["profile + line", "monthly * (profile + line)", "where(line > 0, profile, 0)"])
def test_dims_are_compared_operation_by_operation(climate: dict[str, xr.DataArray], text: str) -> None:
    with pytest.raises(ExpressionError, match="neither contains the other"):
        over_arrays(text, climate)


@pytest.mark.parametrize(
    ("text", "dims"),
    [
        ("profile - monthly", ("time", "y")),
        ("monthly * profile + line", ("time", "y")),
        ("turned - monthly", ("y", "time")),
        ("one * profile", ("y",)),
        ("one + 1", ()),
        ("coord(monthly, 'y') * 2", ("y",)),
        ("line * monthly", ("time", "y")),
    ],
)
def test_the_order_of_dims_is_the_larger_operands(
    climate: dict[str, xr.DataArray], text: str, dims: tuple[str, ...]
) -> None:
    assert over_arrays(text, climate).dims == dims


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("monthly - moved", "different coordinates along 'y': 30 and 31 at position 2"),
        ("monthly - short", "'monthly' has length 24 along 'time', 'short' has 20"),
        ("coord(monthly, 'z')", "'monthly' has no coordinate 'z'; coordinates: time, y, height"),
    ],
)
def test_coordinates_must_be_equal(climate: dict[str, xr.DataArray], text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        over_arrays(text, climate)
    assert message in caught.value.message


def test_coordinates_are_kept_and_attributes_are_not(climate: dict[str, xr.DataArray]) -> None:
    result = over_arrays("monthly - profile", climate)
    assert (set(result.coords), result.attrs, result.name) == ({"time", "y", "height"}, {}, None)


def test_a_coordinate_beside_the_dims_that_differs_is_dropped(climate: dict[str, xr.DataArray]) -> None:
    assert "height" not in over_arrays("monthly - other", climate).coords


def test_values_are_those_of_xarray_over_several_chunkings(climate: dict[str, xr.DataArray]) -> None:
    m, p = climate["monthly"].compute(), climate["profile"].compute()
    for name in ("monthly", "recut", "turned"):
        got = over_arrays(f"({name} - profile) / 2 + monthly", climate).compute(scheduler="sync")
        xr.testing.assert_allclose(got.transpose("time", "y"), ((m - p) / 2 + m).drop_attrs())


def test_an_expression_adds_one_task_a_chunk(climate: dict[str, xr.DataArray]) -> None:
    result = over_arrays("sqrt(monthly ** 2 + monthly) * 3 - where(monthly > 1, monthly, 0)", climate)
    assert len(result.data.dask) - len(climate["monthly"].data.dask) == result.data.npartitions == 3


def test_building_runs_no_task(climate: dict[str, xr.DataArray]) -> None:
    class Count(Callback):
        tasks = 0

        def _pretask(self, key: object, dsk: object, state: object) -> None:
            Count.tasks += 1

    with Count():
        over_arrays("month(coord(monthly, 'time')) * monthly - profile / one", climate)
    assert Count.tasks == 0


def test_keys_are_deterministic(climate: dict[str, xr.DataArray]) -> None:
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        names = {over_arrays("where(monthly > 1 and line != 2, monthly, 0)", climate).data.name for _ in range(2)}
        assert len(names) == 1
        assert tokenize(over_arrays("monthly > 1", climate).data)


def test_lengths_known_only_in_the_run_are_taken_as_they_come() -> None:
    rows = da.from_array(np.arange(10.0).reshape(5, 2), chunks=(3, 1))
    rows = rows[rows[:, 0] > 2]
    x = xr.DataArray(rows, dims=["row", "feature"])
    mu = xr.DataArray(da.ones(2), dims=["feature"])
    got = over_arrays("x - mu * x", {"x": x, "mu": mu}).data.compute(scheduler="sync")
    assert got.tolist() == np.zeros((3, 2)).tolist()


def test_a_scalar_among_arrays_does_not_widen_them(climate: dict[str, xr.DataArray]) -> None:
    e = bind(parse("monthly * ${k}", "arrays"), {"k": Elsewhere("k")})
    e = bind(e, {}, {reference: Elsewhere(str(reference)) for reference in e.step_references})
    values = {"k": 2, "monthly": climate["monthly"].astype("float32")}
    assert evaluate_arrays(e, [values[r.text] for r in e.references]).dtype == np.float32


# ---------------------------------------------------------------------------------------------------------------------
# Columns: text, zones, nullable types
# ---------------------------------------------------------------------------------------------------------------------


NAIVE = [datetime(2020, 1, 31, 10, 30), None, datetime(2021, 12, 31, 23, 59)]
WORDS = ["Ab-1", None, "cd"]


@pytest.fixture
def frame() -> pa.Table:
    naive = pa.array(NAIVE, pa.timestamp("us"))
    return pa.table(
        {
            "s": WORDS,
            "n": ["1", None, "3"],
            "t": naive,
            "z": pc.assume_timezone(naive, "Europe/Paris"),
            "i": pa.array([1, 2, 3], pa.int64()),
            "nullable": pa.array([1, None, 2**53 + 1], pa.int64()),
            "flag": [True, None, False],
            "category": pa.array(WORDS).cast(pa.dictionary(pa.int32(), pa.string())),
            "d": pa.array([date(2020, 1, 31), None, date(2021, 12, 31)]),
            "money": pa.array([Decimal("1.25"), None, Decimal("-0.10")], pa.decimal128(6, 2)),
            "long": pa.array([90, None, -30], pa.duration("s")),
            "f": pa.array([1.0, None, 0.5], pa.float64()),
        }
    )


TEXTS: list[tuple[str, list[Any]]] = [
    ("s == 'cd'", [False, False, True]),
    ("s != 'cd'", [True, False, False]),
    ("s < 'b'", [True, False, False]),
    ("s in ['cd', 'x']", [False, False, True]),
    ("s not in ['cd', 'x']", [True, False, False]),
    ("not s == 'cd'", [True, True, False]),
    ("missing(s)", [False, True, False]),
    ("fill(s, '?')", ["Ab-1", "?", "cd"]),
    ("where(i > 1, s, 'y')", ["y", None, "cd"]),
    ("where(i > 1, 'x', 'y')", ["y", "x", "x"]),
    ("contains(s, '-')", [True, False, False]),
    ("contains(s, '.')", [False, False, False]),
    ("startswith(s, 'A')", [True, False, False]),
    ("endswith(s, 'd')", [False, False, True]),
    (r"match(s, '[a-z]+$')", [False, False, True]),
    ("lower(s)", ["ab-1", None, "cd"]),
    ("upper(s)", ["AB-1", None, "CD"]),
    ("strip(concat(' ', s))", ["Ab-1", None, "cd"]),
    ("fill(length(s), 0)", [4, 0, 2]),
    ("slice(s, 0, 2)", ["Ab", None, "cd"]),
    ("slice(s, -1)", ["1", None, "d"]),
    ("replace(s, '-', '.')", ["Ab.1", None, "cd"]),
    ("split(s, '-', 1)", ["1", None, None]),
    (r"extract(s, '-(\d)')", ["1", None, None]),
    ("concat(s, '/', text(i))", ["Ab-1/1", None, "cd/3"]),
    ("fill(number(n), 0) + 0.5", [1.5, 0.5, 3.5]),
    ("integer(fill(n, '7'))", [1, 7, 3]),
    ("boolean(where(i > 1, 'True', 'false'))", [False, True, True]),
    ("text(t)", ["2020-01-31T10:30:00", None, "2021-12-31T23:59:00"]),
    ("text(i > 1)", ["False", "True", "True"]),
    ("category == 'cd'", [False, False, True]),
    ("upper(category)", ["AB-1", None, "CD"]),
    ("fill(category, '?')", ["Ab-1", "?", "cd"]),
    ("category < s", [False, False, False]),
    # whole numbers with missing neighbours stay whole
    ("nullable", [1, None, 2**53 + 1]),
    ("fill(nullable + 1, 0)", [2, 0, 2**53 + 2]),
    ("nullable != 1", [False, False, True]),
    ("nullable == 2 ** 53 + 1", [False, False, True]),
    ("nullable == 9007199254740992.0", [False, False, False]),
    ("nullable in [9007199254740992.0, 1]", [True, False, False]),
    ("text(nullable)", ["1", None, "9007199254740993"]),
    ("integer(f)", [1, None, 0]),
    ("where(i > 1, nullable, missing)", [None, None, 2**53 + 1]),
    # a float that is not a number is missing
    ("missing(f / 0 - f / 0)", [True, True, True]),
    ("f / 0 > 1", [True, False, True]),
    ("log(-f)", [None, None, None]),
    ("fill(sqrt(-f), 7)", [7.0, 7.0, 7.0]),
    # decimals are exact
    ("money + 1", [Decimal("2.25"), None, Decimal("0.90")]),
    ("money * 0.5", [Decimal("0.625"), None, Decimal("-0.050")]),
    ("money * money", [Decimal("1.5625"), None, Decimal("0.0100")]),
    ("money / 2", [0.625, None, -0.05]),
    ("money // 0.1", [Decimal(12), None, Decimal(-1)]),
    ("money % 0.1", [Decimal("0.05"), None, Decimal("0.00")]),
    ("money // 0", [None, None, None]),
    ("money == 1.25", [True, False, False]),
    ("money > 1.249", [True, False, False]),
    ("money <= -0.1", [False, False, True]),
    ("money in [1.25, 0.3]", [True, False, False]),
    ("round(money, 1)", [Decimal("1.20"), None, Decimal("-0.10")]),
    ("floor(money)", [Decimal("1.00"), None, Decimal("-1.00")]),
    ("-money", [Decimal("-1.25"), None, Decimal("0.10")]),
    ("text(money)", ["1.25", None, "-0.10"]),
    ("integer(money)", [1, None, 0]),
    ("fill(money, 0)", [Decimal("1.25"), Decimal("0.00"), Decimal("-0.10")]),
    ("maximum(money, 0)", [Decimal("1.25"), None, Decimal("0.00")]),
    ("number(money)", [1.25, None, -0.1]),
    # days
    ("d == date('2020-01-31')", [True, False, False]),
    ("d < t", [True, False, True]),
    ("text(d)", ["2020-01-31", None, "2021-12-31"]),
    ("t - d", [timedelta(hours=10, minutes=30), None, timedelta(hours=23, minutes=59)]),
    ("d - d", [timedelta(0), None, timedelta(0)]),
    ("d + duration('1d')", [datetime(2020, 2, 1), None, datetime(2022, 1, 1)]),
    ("fill(d, date('2000-01-01'))", [date(2020, 1, 31), date(2000, 1, 1), date(2021, 12, 31)]),
    ("weekday(d)", [4, None, 4]),
    ("floor_time(d, '1w')", [date(2020, 1, 27), None, date(2021, 12, 27)]),
    # durations
    ("text(long)", ["90.0", None, "-30.0"]),
    ("long / duration('1min')", [1.5, None, -0.5]),
    ("long // duration('1min')", [1, None, -1]),
    ("long % duration('1min')", [timedelta(seconds=30), None, timedelta(seconds=30)]),
    ("abs(long) * 2", [timedelta(minutes=3), None, timedelta(minutes=1)]),
    ("long * 0.5", [timedelta(seconds=45), None, timedelta(seconds=-15)]),
    ("long / 4", [timedelta(seconds=22), None, timedelta(seconds=-7)]),
    ("t + long", [datetime(2020, 1, 31, 10, 31, 30), None, datetime(2021, 12, 31, 23, 58, 30)]),
    ("text(z)", ["2020-01-31T10:30:00+01:00", None, "2021-12-31T23:59:00+01:00"]),
    ("flag or i > 2", [True, False, True]),
    ("missing(flag)", [False, True, False]),
    ("flag != True", [False, False, True]),
    ("not flag", [False, True, True]),
    ("fill(flag, True)", [True, True, False]),
    ("fill(i > 2, flag)", [False, False, True]),
    ("text(flag)", ["True", None, "False"]),
    ("flag + 1", [2.0, None, 1.0]),
    ("where(i > 1, flag, i > 0)", [True, None, False]),
    ("where(i > 1, i > 0, flag)", [True, True, True]),
    ("where(i > 1, flag, 7)", [7.0, None, 0.0]),
    ("maximum(flag, 0.5)", [1.0, None, 0.5]),
    ("fill(number(flag), 2) + integer(fill(flag, True))", [2.0, 3.0, 0.0]),
    ("z > timestamp('2021-01-01T00:00Z')", [False, False, True]),
    ("fill(hour(z), -1)", [10, -1, 23]),
    ("fill(hour(convert(z, 'UTC')), -1)", [9, -1, 22]),
    ("z == localize(t, 'Europe/Paris')", [True, False, True]),
    ("convert(z, 'UTC') == z", [True, False, True]),
    ("z - z == duration('0s')", [True, False, True]),
    ("'x'", ["x", "x", "x"]),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=[text for text, _ in TEXTS])
def test_columns_of_all_types(frame: pa.Table, text: str, expected: list[Any]) -> None:
    assert over_columns(text, frame).to_pylist() == expected
    assert len(over_columns(text, frame.slice(0, 0))) == 0


@pytest.mark.parametrize(
    ("text", "kind", "nullable"),
    [
        ("i + 1", pa.int64(), False),
        ("nullable + 1", pa.int64(), True),
        ("i > 1 and nullable > 1", pa.bool_(), False),
        ("i // 2", pa.int64(), False),
        ("i // i", pa.int64(), True),
        ("missing(s)", pa.bool_(), False),
        ("fill(s, '')", pa.string(), False),
        ("where(i > 1, category, missing)", pa.dictionary(pa.int32(), pa.string()), True),
        ("where(i > 1, i, 2)", pa.int64(), False),
        ("f * 2", pa.float64(), True),
        ("i / 2", pa.float64(), False),
        ("i / i", pa.float64(), True),
        ("money + money", pa.decimal128(7, 2), True),
        ("money * 2", pa.decimal128(7, 2), True),
        ("d - d", pa.duration("s"), True),
        ("length(s)", pa.int64(), True),
        ("clip(i, 0, 300)", pa.int64(), False),
    ],
)
def test_what_may_be_missing_follows_from_the_types(text: str, kind: pa.DataType, nullable: bool) -> None:
    fields = {"i": pa.int64(), "nullable": pa.int64(), "s": pa.string(), "f": pa.float64(), "d": pa.date32(),
              "money": pa.decimal128(6, 2), "category": pa.dictionary(pa.int32(), pa.string())}  # fmt: skip
    schema = pa.schema([pa.field(name, one, name != "i") for name, one in fields.items()])
    assert field_of_expression("x", parse(text, "columns"), schema) == pa.field("", kind, nullable)


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("t > z", "localize"),
        ("t == z", "localize"),
        ("z - t", "localize"),
        ("s > 1", "number(x)"),
        ("s + 'x'", "concat(a, b)"),
        ("t <= '2020-01-01'", "date("),
        ("lower(i)", "text(x)"),
        ("concat(s, i)", "text(x)"),
        ("localize(z, 'UTC')", "convert"),
        ("convert(t, 'UTC')", "localize"),
        ("match(s, '(?=a)')", "no looking ahead"),
        ("money * 1e-37", "39 digits"),
        ("binary == s", "no column"),
        ("nix > 1", "no column"),
        ("nullabel > 1", "did you mean 'nullable'?"),
    ],
)
def test_columns_that_do_not_go_together_are_refused(frame: pa.Table, text: str, cure: str) -> None:
    with pytest.raises(OpError) as caught:
        over_columns(text, frame)
    assert cure in str(caught.value)


@pytest.mark.parametrize(
    ("moment", "option", "expected"),
    [
        ("2011-10-30 02:30", "", None),
        ("2011-10-30 02:30", ", ambiguous=True", "2011-10-30T00:30"),
        ("2011-10-30 02:30", ", ambiguous=False", "2011-10-30T01:30"),
        ("2011-10-30 02:30", ", ambiguous='NaT'", "NaT"),
        ("2011-03-27 02:30", "", None),
        ("2011-03-27 02:30", ", nonexistent='shift_forward'", "2011-03-27T01:00"),
        ("2011-03-27 02:30", ", nonexistent='NaT'", "NaT"),
        ("2011-06-01 02:30", "", "2011-06-01T00:30"),
    ],
)
def test_localize_fails_at_clock_changes_unless_options_decide(moment: str, option: str, expected: str | None) -> None:
    table = pa.table({"t": pa.array([datetime.fromisoformat(moment)], pa.timestamp("us"))})
    text = f"localize(t, 'Europe/Paris'{option})"
    if expected is None:
        with pytest.raises(DataError, match=r"by a clock change in Europe/Paris; write localize"):
            over_columns(text, table)
    else:
        (got,) = over_columns(text, table).cast(pa.timestamp("us", "UTC")).to_pylist()
        assert got == (None if expected == "NaT" else datetime.fromisoformat(expected + "Z"))


def test_zoned_times_are_floored_by_the_wall_clock() -> None:
    moments = [datetime.fromisoformat(t) for t in ("2011-10-30T00:30Z", "2011-10-30T01:30Z", "2011-06-01T00:45Z")]
    utc = pa.array(moments, pa.timestamp("us", "UTC"))
    table = pa.table(
        {"z": utc.cast(pa.timestamp("us", "Europe/Paris")), "k": utc.cast(pa.timestamp("us", "Asia/Kolkata"))}
    )
    hours = [t.replace(minute=0) for t in moments]
    assert over_columns("floor_time(z, '1h')", table).cast(utc.type).to_pylist() == hours
    assert [t.minute for t in over_columns("floor_time(k, '1h')", table).to_pylist()] == [0, 0, 0]
    assert [t.hour for t in over_columns("floor_time(z, '1d')", table).to_pylist()] == [0, 0, 0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, [3.0, 4.0, 5.0]),
        (np.int32(2), [3.0, 4.0, 5.0]),
        (pa.scalar(2), [3.0, 4.0, 5.0]),
        (pa.table({"n": [2]}), [3.0, 4.0, 5.0]),
        (pd.DataFrame({"n": [2]}), [3.0, 4.0, 5.0]),
        (xr.DataArray(0.5), [1.5, 2.5, 3.5]),
        (Decimal("0.5"), [1.5, 2.5, 3.5]),
        (None, [None, None, None]),
        (pd.NA, [None, None, None]),
    ],
)
def test_a_value_of_the_run_stands_in_an_expression_of_columns(frame: pa.Table, value: Any, expected: Any) -> None:
    assert over_columns("i + ${n}", frame, value).to_pylist() == expected


def test_a_value_of_the_run_that_float64_can_not_hold_fails(frame: pa.Table) -> None:
    with pytest.raises(DataError, match="got 9007199254740993, and a number from another step counts as float64"):
        over_columns("i + ${n}", frame, 2**53 + 1)


def test_a_value_of_the_run_of_another_kind_fails(frame: pa.Table) -> None:
    with pytest.raises(DataError, match=r"number\(x\)"):
        over_columns("i + ${n}", frame, "x")
    with pytest.raises(DataError, match="one value is needed, got 2"):
        over_columns("i + ${n}", frame, pa.table({"n": [1, 2]}))


def test_times_of_the_run_are_compared_exactly(frame: pa.Table) -> None:
    for moment in (datetime(2020, 1, 31, 10, 30), pd.Timestamp("2020-01-31 10:30"), np.datetime64("2020-01-31T10:30")):
        assert over_columns("t == ${n}", frame, moment).to_pylist() == [True, False, False]
    assert over_columns("t < ${n}", frame, np.datetime64("2020-01-31T10:30:00.000000001")).to_pylist() == [
        True,
        False,
        False,
    ]
    assert over_columns("z == ${n}", frame, pd.Timestamp("2020-01-31 09:30Z")).to_pylist() == [True, False, False]
    assert over_columns("d == ${n}", frame, date(2020, 1, 31)).to_pylist() == [True, False, False]
    assert over_columns("long > ${n}", frame, np.timedelta64(1, "m")).to_pylist() == [True, False, False]


@pytest.mark.parametrize("n", [3, 10_000])
def test_a_list_of_any_length_stands_after_in(frame: pa.Table, n: int) -> None:
    texts = (*(f"x{k}" for k in range(n)), "cd", "it's", "")
    for values, text, expected in (
        (texts, "s in ${n}", [False, False, True]),
        (texts, "s not in ${n}", [True, False, False]),
        (tuple(range(2, n + 2)), "i in ${n}", [False, True, True]),
        (tuple(k + 0.25 for k in range(n)), "money in ${n}", [True, False, False]),
        (tuple(datetime(2020, 1, 31, 10, 30) + timedelta(days=k) for k in range(n)), "t in ${n}", [True, False, False]),
        (tuple(date(2020, 1, 31) + timedelta(days=k) for k in range(n)), "d in ${n}", [True, False, n > 700]),
    ):
        assert over_columns(text, frame, list(values)).to_pylist() == expected


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("i + ${q}", pa.float64()),
        ("s == ${q}", pa.bool_()),
        ("t > ${q}", pa.bool_()),
        ("z > ${q}", pa.bool_()),
        ("fill(s, ${q})", pa.string()),
        ("contains(s, ${q})", pa.bool_()),
        ("round(i / 3, ${q})", pa.float64()),
        ("t + ${q}", pa.timestamp("us")),
        ("flag and ${q}", pa.bool_()),
        ("money * ${q}", pa.float64()),
        ("i in ${q}", pa.bool_()),
        ("t > timestamp(${q})", pa.bool_()),
        ("t + duration(${q})", pa.timestamp("us")),
        ("floor_time(t, ${q})", pa.timestamp("us")),
    ],
)
def test_the_type_is_known_before_the_values_of_the_run(frame: pa.Table, text: str, kind: pa.DataType) -> None:
    e = bind(parse(text, "columns"), {"q": Elsewhere("q")})
    assert field_of_expression("x", e, frame.schema).type == kind


# ---------------------------------------------------------------------------------------------------------------------
# Coordinates and scalars
# ---------------------------------------------------------------------------------------------------------------------


def test_coordinates_are_evaluated_along_their_dim(climate: dict[str, xr.DataArray]) -> None:
    months = evaluate_coords(parse("month(time)", "coords"), climate["monthly"])
    assert (months.dims, months.dtype) == (("time",), np.int64)
    assert months.values.tolist() == [*range(1, 13)] * 2
    assert months.indexes["time"].equals(climate["monthly"].indexes["time"])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("strftime(time, '%m/%y')", ["01/00", "02/00"]),
        ("text(floor_time(time, 'quarter'))", ["2000-01-01T00:00:00"] * 2),
        ("isoweek(time)", [52, 5]),
        (
            "text(localize(time, 'Africa/Cairo') + duration(months=1))",
            ["2000-02-01T00:00:00+02:00", "2000-03-01T00:00:00+02:00"],
        ),
    ],
)
def test_functions_of_times_over_coordinates(climate: dict[str, xr.DataArray], text: str, wanted: list[Any]) -> None:
    assert evaluate_coords(parse(text, "coords"), climate["monthly"]).values[:2].tolist() == wanted


def test_texts_of_times_are_not_for_arrays() -> None:
    for text in ("strftime(t, '%Y')", "parse_time(t, '%Y')"):
        with pytest.raises(ExpressionError, match="is for columns and coordinates, not for arrays"):
            over_numpy(text, DATA)


def test_coordinates_of_two_dims_are_spread_over_both() -> None:
    x = xr.DataArray(np.zeros((2, 3)), dims=["y", "x"], coords={"y": [1, 2], "lat": (("x", "y"), np.ones((3, 2)))})
    assert evaluate_coords(parse("lat + y", "coords"), x).transpose("y", "x").values.tolist() == [[2.0] * 3, [3.0] * 3]


def test_a_name_that_is_no_coordinate_is_refused(climate: dict[str, xr.DataArray]) -> None:
    with pytest.raises(ExpressionError, match="column 7: no coordinate 'tim'; did you mean 'time'"):
        evaluate_coords(parse("month(tim)", "coords"), climate["monthly"])


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("abs(${a} - 4.853) < 1e-3", {"a": xr.DataArray([4.8531])}, True),
        ("${a} == 'x'", {"a": pd.DataFrame({"c": ["x"]})}, True),
        ("${a} + ${b}", {"a": 1, "b": np.float32(0.5)}, 1.5),
        ("${a} - date('2020-01-01')", {"a": datetime(2020, 1, 3)}, timedelta(days=2)),
        ("${a} + duration('1d')", {"a": np.array(["2020-01-03"], "M8[ns]")}, datetime(2020, 1, 4)),
        ("${a} in ['x', 'y']", {"a": "y"}, True),
        ("${a} + duration(months=1)", {"a": datetime(2020, 1, 31)}, datetime(2020, 2, 29)),
        ("strftime(${a}, '%d.%m.%Y')", {"a": datetime(2020, 1, 31)}, "31.01.2020"),
        ("parse_time(${a}, ['%d.%m.%Y'])", {"a": "31.01.2020"}, datetime(2020, 1, 31)),
        ("floor_time(${a}, 'month')", {"a": datetime(2020, 1, 31)}, datetime(2020, 1, 1)),
        ("${a} != 1", {"a": NAN}, False),
        ("upper(${a})", {"a": "x"}, "X"),
        ("missing(${a})", {"a": None}, True),
    ],
)
def test_scalars_of_the_run_are_evaluated_at_once(text: str, values: dict[str, Any], expected: Any) -> None:
    e: Expression = bind(parse(text, "columns"), {name: Elsewhere(name) for name in values})
    got = evaluate_scalar(e, [values[reference.text] for reference in e.references])
    assert got == expected
    assert type(got) is type(expected)


def test_more_than_one_element_is_no_scalar() -> None:
    e = bind(parse("${a} > 1", "columns"), {"a": Elsewhere("a")})
    with pytest.raises(ExpressionError, match="one value is needed, got 2"):
        evaluate_scalar(e, [xr.DataArray([1, 2])])
