"""Times and durations of arrays beyond what nanoseconds hold: compared exactly, or the task fails; they never wrap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from serially import values_of

from pipeline.errors import DataError
from pipeline.graph.calendars import decode_times
from pipeline.ops.elementwise.time_units import comparable, in_one_unit, shifted

TIMES = np.array(["2001-01-01", "NaT", "2001-04-11"], "M8[ns]")


@pytest.fixture
def show(tmp_path: Path) -> Any:
    xr.Dataset({"v": ("t", [1.0, 2.0, 4.0])}, {"t": TIMES[[0, 0, 2]] + np.arange(3)}).to_netcdf(
        tmp_path / "x.nc", engine="h5netcdf"
    )
    text = 'steps:\n  x: {{op: from_netcdf, path: x.nc, variable: v}}\n  y: {{expr: "{}"}}\n'
    return lambda expr: values_of(text.format(expr), tmp_path)["y"].values.tolist()


@pytest.mark.parametrize(
    ("expr", "wanted"),
    [
        ("coord(x, 't') < timestamp('9999-12-31')", [True] * 3),
        ("coord(x, 't') > timestamp('1500-01-01')", [True] * 3),
        ("coord(x, 't') == timestamp('2585-07-22')", [False] * 3),
        ("where(coord(x, 't') < timestamp('3000-01-01'), x, 0.0)", [1.0, 2.0, 4.0]),
    ],
)
def test_times_are_compared_with_any_constant(show: Any, expr: str, wanted: list[Any]) -> None:
    assert show(expr) == wanted


@pytest.mark.parametrize(
    "expr",
    [
        "year(minimum(coord(x, 't'), timestamp('3000-01-01')))",
        "year(coord(x, 't') + duration('200000d'))",
        "(coord(x, 't') - timestamp('1500-01-01')) / duration('1d')",
    ],
)
def test_what_nanoseconds_cannot_hold_is_an_error(show: Any, expr: str) -> None:
    with pytest.raises(DataError, match="is further away than 64 bits of ns can hold"):
        show(expr)


def test_values_are_taken_to_the_finer_unit() -> None:
    coarse = np.array(["2001-01-01", "NaT", "1500-01-01", "9999-01-01"], "M8[us]")
    ours, theirs = comparable(TIMES[:1], coarse)
    assert (ours < theirs).tolist() == [False, False, False, True]
    assert (ours > theirs).tolist() == [False, False, True, False]
    assert (ours == theirs).tolist() == [True, False, False, False]
    assert np.isnat(theirs).tolist() == [False, True, False, False]
    one, other = in_one_unit(TIMES, np.timedelta64(3, "h"))
    assert (one.dtype, other.dtype) == ("M8[ns]", "m8[ns]")


def test_sums_are_those_of_numpy_where_they_fit() -> None:
    for step in (np.timedelta64(5, "us"), np.timedelta64("NaT", "s"), np.array([1, 2, 3], "m8[D]")):
        assert np.array_equal(shifted(np.add, TIMES, step), TIMES + step, equal_nan=True)
        assert np.array_equal(shifted(np.subtract, TIMES, step), TIMES - step, equal_nan=True)
    assert np.array_equal(shifted(np.subtract, TIMES, TIMES[0]), TIMES - TIMES[0], equal_nan=True)


def test_times_of_the_standard_calendar_keep_their_nanoseconds() -> None:
    found = decode_times(np.array([0.123456789]), "seconds since 2001-01-01", "standard")
    assert found.tolist() == np.array(["2001-01-01T00:00:00.123456789"], "M8[ns]").tolist()
    assert decode_times(np.array([7]), "nanoseconds since 2001-01-01", "standard")[0] == np.datetime64(
        "2001-01-01T00:00:00.000000007"
    )
