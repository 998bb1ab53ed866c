"""The meaning of expressions that must not differ: one table over numpy arrays, dask arrays and pandas columns."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from dask.base import tokenize
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.expressions.expression import Expression, bind, parse
from pipeline.config.expressions.references import ExpressionError
from pipeline.errors import DataError
from pipeline.ops.elementwise.targets import (
    columns_dtype,
    evaluate_arrays,
    evaluate_columns,
    evaluate_coords,
    evaluate_numpy,
    evaluate_scalar,
)

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


def over_columns(text: str, frame: pd.DataFrame) -> pd.Series:
    return evaluate_columns(parse(text, "columns"), frame)


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
    ("fill(year(t), 0)", [1969, 2000, 0, 2024]),
    ("year(t) == 2000", [False, True, False, False]),
    ("floor_time(t, '1h')", ["1969-12-31T23:00", "2000-02-29T12:00", "NaT", "2024-12-31T00:00"]),
    ("floor_time(t, '1d') + duration('90min')", ["1969-12-31T01:30", "2000-02-29T01:30", "NaT", "2024-12-31T01:30"]),
    ("number(w - date('1970-01-01')) / 86400", [0.0, 10957.0, 18262.0, 19723.0]),
    ("(w - date('1970-01-01')) / duration('1d')", [0.0, 10957.0, 18262.0, 19723.0]),
]


@pytest.mark.parametrize(("text", "expected"), TABLE, ids=[text for text, _ in TABLE])
def test_an_expression_means_the_same_on_every_target(text: str, expected: Any) -> None:
    wanted = np.asarray(expected, dtype="M8[ns]" if isinstance(expected[0], str) else None)
    frame = pd.DataFrame(DATA, index=[3, 3, 1, 0])
    whole = over_numpy(text, DATA)
    lazy = over_arrays(text, chunked())
    column = over_columns(text, frame)
    for got in (whole, lazy.compute(scheduler="sync").values, column.to_numpy()):
        np.testing.assert_array_equal(got.astype(wanted.dtype) if wanted.dtype.kind == "M" else got, wanted)
        assert got.dtype == wanted.dtype or wanted.dtype.kind == "M"
    assert lazy.dtype == whole.dtype == column.dtype
    assert column.dtype == columns_dtype(parse(text, "columns"), frame.iloc[:0])
    assert list(column.index) == [3, 3, 1, 0]


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
    ("x in [date('2020-01-01')]", "cannot be compared"),
    ("t > timestamp('2020-01-01T00:00Z')", "localize"),
    ("x == 'a'", "number(x)"),
]


@pytest.mark.parametrize(("text", "cure"), KINDS, ids=[text for text, _ in KINDS])
def test_operands_of_different_kinds_fail_on_every_target(text: str, cure: str) -> None:
    for target in (
        lambda: over_numpy(text, DATA),
        lambda: over_arrays(text, chunked()),
        lambda: over_columns(text, pd.DataFrame(DATA)),
    ):
        with pytest.raises(ExpressionError) as caught:
            target()
        assert cure in caught.value.message


def test_a_missing_whole_number_fails_on_every_target() -> None:
    wanted = "month.t.' is missing for 1 of . values, and int64 has no missing value"
    with pytest.raises(DataError, match=wanted):
        over_columns("month(t)", pd.DataFrame(DATA))
    with pytest.raises(DataError, match=wanted):
        over_arrays("month(t)", chunked()).compute(scheduler="sync")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(width=32) | st.just(NAN), min_size=1, max_size=6), st.sampled_from(["<", "!=", "==", ">="]))
def test_comparisons_agree_on_arrays_and_columns(values: list[float], op: str) -> None:
    data = {"p": np.array(values), "q": np.array(values[::-1])}
    text = f"p {op} q"
    expected = over_numpy(text, data)
    assert over_columns(text, pd.DataFrame(data)).to_list() == list(expected)
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


@pytest.fixture
def frame() -> pd.DataFrame:
    t = pd.to_datetime(["2020-01-31 10:30", None, "2021-12-31 23:59"])
    return pd.DataFrame(
        {
            "s": ["Ab-1", None, "cd"],
            "n": ["1", None, "3"],
            "t": t,
            "z": t.tz_localize("Europe/Paris"),
            "i": [1, 2, 3],
            "nullable": pd.array([1, None, 3], dtype="Int64"),
            "flag": pd.array([True, None, False], dtype="boolean"),
            "category": pd.Categorical(["Ab-1", None, "cd"]),
            "arrow": pd.array(["Ab-1", None, "cd"], dtype="string[pyarrow]"),
            "mixed": pd.Series(["Ab-1", None, "cd"], dtype=object),
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
    ("arrow != 'cd'", [True, False, False]),
    ("mixed != 'cd'", [True, False, False]),
    ("upper(mixed)", ["AB-1", None, "CD"]),
    ("fill(nullable + 1, 0)", [2.0, 0.0, 4.0]),
    ("nullable != 3", [True, False, False]),
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
def test_columns_of_text_and_zoned_times(frame: pd.DataFrame, text: str, expected: list[Any]) -> None:
    got = over_columns(text, frame)
    assert [None if pd.isna(v) else v for v in got] == expected
    assert got.dtype == columns_dtype(parse(text, "columns"), frame.iloc[:0])


def test_text_keeps_the_type_of_pandas(frame: pd.DataFrame) -> None:
    for text in ("lower(s)", "upper(mixed)", "where(i > 1, 'x', 'y')", "split(s, '-', 1)", "text(i)", "'x'"):
        assert over_columns(text, frame.iloc[:0]).dtype == "str"


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
        ("nix > 1", "no column"),
        ("nullabel > 1", "did you mean 'nullable'?"),
    ],
)
def test_columns_that_do_not_go_together_are_refused(frame: pd.DataFrame, text: str, cure: str) -> None:
    for part in (frame, frame.iloc[:0]):
        with pytest.raises(ExpressionError) as caught:
            over_columns(text, part)
        assert cure in caught.value.message


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
    frame = pd.DataFrame({"t": pd.to_datetime([moment])})
    text = f"localize(t, 'Europe/Paris'{option})"
    if expected is None:
        with pytest.raises(ValueError, match=r"by a clock change in Europe/Paris; write localize"):
            over_columns(text, frame)
    else:
        utc = over_columns(text, frame).dt.tz_convert("UTC").dt.tz_localize(None)
        np.testing.assert_array_equal(utc.to_numpy(), np.array([expected], dtype="M8[us]"))


def test_zoned_times_are_floored_by_the_wall_clock() -> None:
    t = pd.to_datetime(["2011-10-30T00:30Z", "2011-10-30T01:30Z", "2011-06-01T00:45Z"])
    frame = pd.DataFrame({"z": t.tz_convert("Europe/Paris"), "k": t.tz_convert("Asia/Kolkata")})
    assert list(over_columns("floor_time(z, '1h')", frame)) == list(t.floor("h").tz_convert("Europe/Paris"))
    assert over_columns("floor_time(k, '1h')", frame).dt.minute.to_list() == [0, 0, 0]
    assert over_columns("floor_time(z, '1d')", frame).dt.hour.to_list() == [0, 0, 0]


def test_a_value_of_the_run_stands_in_an_expression_of_columns(frame: pd.DataFrame) -> None:
    e = bind(parse("i + ${n}", "columns"), {"n": Elsewhere("n")})
    assert evaluate_columns(e, frame, [pd.DataFrame({"n": [2]})]).to_list() == [3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("i + ${q}", "float64"),
        ("s == ${q}", "bool"),
        ("t > ${q}", "bool"),
        ("z > ${q}", "bool"),
        ("fill(s, ${q})", "str"),
        ("contains(s, ${q})", "bool"),
        ("round(i / 3, ${q})", "float64"),
        ("t + ${q}", "datetime64[us]"),
        ("flag and ${q}", "bool"),
    ],
)
def test_the_type_is_known_before_the_values_of_the_run(frame: pd.DataFrame, text: str, dtype: str) -> None:
    assert columns_dtype(bind(parse(text, "columns"), {"q": Elsewhere("q")}), frame.iloc[:0]) == dtype


# ---------------------------------------------------------------------------------------------------------------------
# Coordinates and scalars
# ---------------------------------------------------------------------------------------------------------------------


def test_coordinates_are_evaluated_along_their_dim(climate: dict[str, xr.DataArray]) -> None:
    months = evaluate_coords(parse("month(time)", "coords"), climate["monthly"])
    assert (months.dims, months.dtype) == (("time",), np.int64)
    assert months.values.tolist() == [*range(1, 13)] * 2
    assert months.indexes["time"].equals(climate["monthly"].indexes["time"])


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
