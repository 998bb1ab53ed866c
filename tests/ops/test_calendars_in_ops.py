"""Labels in calendars that numpy lacks: every op that looks at labels gives what it gives for numpy's times."""

from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from serially import graph_of, values_of
from test_round_trips import write as write_output

from pipeline.config.expressions.expression import parse
from pipeline.config.expressions.references import ExpressionError
from pipeline.errors import ConfigError, DataError, OpError
from pipeline.graph.calendars import calendar_of
from pipeline.graph.value_types import ItemsType
from pipeline.ops.arrays.label_changes import align, set_labels
from pipeline.ops.arrays.labelled import sel
from pipeline.ops.elementwise.targets import evaluate_coords
from pipeline.ops.sources.array_files import from_netcdf, from_zarr
from pipeline.outputs.open import read

CALENDARS = ("standard", "noleap", "360_day", "julian", "all_leap")
DAYS = 800  # from the middle of 2000, so that a 29th of February is among them where the calendar has one


def write(folder: Path, calendar: str, units: str = "days since 2000-06-01") -> Path:
    """``x(time, y)``, whose cells are the number of the day; named after the calendar."""
    cells = np.arange(DAYS, dtype=float)[:, None] + [0.0, 1000.0]
    time = ("time", np.arange(DAYS, dtype=float), {"units": units, "calendar": calendar})
    path = folder / f"{calendar}.nc"
    xr.Dataset({"x": (("time", "y"), cells)}, {"time": time}).to_netcdf(path, engine="scipy")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calendars")
    for calendar in CALENDARS:
        write(path, calendar)
    return path


STEPS = """
keep: [month, late, doy, week, span, day, near, monthly, back, january, since, pairs, rows, wide, parts, joined, text]
steps:
  x: {op: from_netcdf, path: "CALENDAR.nc", chunks: {time: 77}}
  month: {op: groupby, input: x, by: "month(time)", agg: mean}
  late: {op: groupby, input: x, by: "time >= timestamp('2001-02-28') and time != date('2001-03-01')", agg: sum}
  doy: {op: groupby, input: x, by: "dayofyear(time)", agg: max}
  week: {op: groupby, input: x, by: "floor_time(time, '7d')", agg: count}
  text: {op: groupby, input: x, by: "slice(text(time), 0, 7)", agg: count}
  span: {op: sel, input: x, labels: {time: ["2000-12", "2001-02-02"]}}
  day: {op: sel, input: x, labels: {time: "2001-02-03"}}
  near: {op: sel, input: x, labels: {time: "2001-02-03T18:00"}, method: nearest}
  monthly: {op: resample, input: x, rule: {time: MS}, agg: mean}
  back: {op: take, input: month, at: {month: "month(time)"}, like: span}
  january: {expr: "where(month(coord(x, 'time')) == 1, x, 0)"}
  since: {expr: "number(coord(x, 'time') - date('2000-06-01')) / 86400 + 0 * x"}
  pairs: {op: coarsen, input: span, window: {time: 2}, boundary: trim, agg: mean}
  rows: {op: to_frame, input: span}
  wide: {op: to_frame, input: span, columns: y}
  parts: {op: to_items, input: span, along: time}
  joined: {op: concatenate, input: [span, monthly], axis: time}
"""


def expected(times: pd.Index[Any], cells: np.ndarray[Any, Any]) -> dict[str, list[float]]:
    """What groups are, by plain Python over the times' own fields."""
    groups: dict[tuple[int, int], list[float]] = {}
    for time, cell in zip(times, cells, strict=True):
        groups.setdefault((time.year, time.month), []).append(cell)
    by_month: dict[int, list[float]] = {}
    for (_, month), several in groups.items():
        by_month.setdefault(month, []).extend(several)
    return {
        "monthly": [sum(several) / len(several) for several in groups.values()],
        "month": [sum(by_month[m]) / len(by_month[m]) for m in sorted(by_month)],
        "text": [float(len(several)) for several in groups.values()],
    }


@pytest.mark.parametrize("calendar", CALENDARS)
def test_every_op_on_labels_takes_every_calendar(folder: Path, calendar: str) -> None:
    got = values_of(STEPS.replace("CALENDAR", calendar), folder)
    times = xr.date_range("2000-06-01", periods=DAYS, calendar=calendar, use_cftime=True)
    cells = np.arange(DAYS, dtype=float)
    want = expected(times, cells)
    for name in ("month", "monthly", "text"):
        np.testing.assert_allclose(got[name].values[:, 0], want[name])
    late = np.array([str(time)[:10] >= "2001-02-28" and str(time)[:10] != "2001-03-01" for time in times])
    assert got["late"].values[:, 0].tolist() == [cells[~late].sum(), cells[late].sum()]
    assert got["doy"].sizes["dayofyear"] == max(time.dayofyr for time in times)
    assert got["week"].values[1:-1, 0].tolist() == [7] * (len(got["week"]) - 2)
    shown = [str(time)[:10] for time in times]
    first, last = shown.index("2000-12-01"), shown.index("2001-02-02")
    assert got["span"].values[:, 0].tolist() == cells[first : last + 1].tolist()
    assert got["day"].values.tolist() == [shown.index("2001-02-03"), shown.index("2001-02-03") + 1000]
    assert got["near"].values.tolist() == [shown.index("2001-02-04"), shown.index("2001-02-04") + 1000]
    assert [str(t)[:10] for t in got["monthly"].time.values] == sorted({f"{day[:7]}-01" for day in shown})
    np.testing.assert_allclose(
        got["back"].values[:, 0], [want["month"][int(day[5:7]) - 1] for day in shown[first : last + 1]]
    )
    january = np.array([day[5:7] == "01" for day in shown])
    assert got["january"].values[:, 0].tolist() == np.where(january, cells, 0).tolist()
    assert got["since"].values[:, 0].tolist() == cells.tolist()
    assert str(got["pairs"].time.values[0]).replace("T", " ")[:19] == "2000-12-01 12:00:00"
    assert [str(t)[:10] for t in got["rows"]["time"][::2]] == shown[first : last + 1]
    assert [str(t)[:10] for t in got["wide"]["time"]] == shown[first : last + 1]
    assert len(got["parts"]) == last + 1 - first
    assert len(got["joined"].time) == len(got["span"].time) + len(got["monthly"].time)


def test_the_keys_of_items_are_text_as_for_numpys_times(folder: Path) -> None:
    text = """
    steps:
      x: {op: from_netcdf, path: "360_day.nc"}
      two: {op: sel, input: x, labels: {time: ["2001-02-29", "2001-02-30"]}}
      items: {op: to_items, input: two, along: time}
    """
    items = graph_of(text, folder).value_types["items"]
    assert isinstance(items, ItemsType)
    assert items.names == ("2001-02-29T00:00:00", "2001-02-30T00:00:00")


def test_partial_texts_select_what_they_name(folder: Path) -> None:
    x = from_netcdf(path=str(folder / "noleap.nc"))
    assert sel(x, labels={"time": "2001-02"}).sizes["time"] == 28
    assert sel(x, labels={"time": "2001"}).sizes["time"] == 365
    assert sel(x, labels={"time": [None, "2000-06-03"]}).sizes["time"] == 3
    backwards = x.isel(time=slice(None, None, -1))
    assert sel(backwards, labels={"time": ["2001-03-01", "2001-02-27"]}).sizes["time"] == 3
    hourly = x.isel(time=slice(0, 2)).assign_coords(time=[x.time.values[0] + timedelta(hours=h) for h in (0, 6)])
    assert sel(hourly, labels={"time": "2000-06-01"}).sizes["time"] == 2
    assert "time" not in sel(hourly, labels={"time": "2000-06-01T06"}).dims


@pytest.mark.parametrize("start", ["0001-06-01", "1600-06-01", "3000-06-01"])
def test_partial_texts_select_beyond_nanoseconds(start: str) -> None:
    times = np.datetime64(start, "us") + np.arange(DAYS) * np.timedelta64(24, "h")
    x = xr.DataArray(np.arange(DAYS), {"time": times}, ["time"])
    year = int(start[:4])
    march = [f"{year + 1:04}-03-{day:02}" for day in range(1, 32)]
    assert days_of(sel(x, labels={"time": f"{year + 1:04}-03"})) == march
    assert days_of(sel(x, labels={"time": [march[0], march[0][:7]]})) == march
    assert sel(x, labels={"time": f"{year + 1:04}"}).sizes["time"] == 365
    assert sel(x, labels={"time": [None, f"{year:04}-06"]}).sizes["time"] == 30
    assert sel(x, labels={"time": march[4]}).item() == 277
    backwards = x[::-1]
    assert days_of(sel(backwards, labels={"time": march[0][:7]})) == march[::-1]
    for ends in ([march[4], march[1]], [march[1], march[4]]):
        assert days_of(sel(backwards, labels={"time": ends})) == march[4:0:-1]
    hourly = x[:2].assign_coords(time=times[0] + np.array([0, 6]) * np.timedelta64(1, "h"))
    assert sel(hourly, labels={"time": start}).sizes["time"] == 2
    assert sel(hourly, labels={"time": f"{start}T06"}).item() == 1
    with pytest.raises(OpError, match="is not among the labels"):
        sel(x, labels={"time": "1900-01-01"})


def days_of(x: xr.DataArray) -> list[str]:
    return [str(time)[:10] for time in x.time.values]


@pytest.mark.parametrize(("labels", "said"), [
    ("2000-02-29", "is not among the labels: 'time' has the labels 2000-06-01"), ("2050-01-01", "not among"),
    (["2050", "2051"], "selects nothing"), ("soon", "not among"), (7, "not among"),
])  # fmt: skip
def test_labels_that_a_calendar_lacks_are_refused(folder: Path, labels: Any, said: str) -> None:
    x = from_netcdf(path=str(folder / "noleap.nc"))
    with pytest.raises(OpError, match=said):
        sel(x, labels={"time": labels})


@pytest.mark.parametrize(("step", "said"), [
    ('{op: resample, input: x, rule: {time: W}, agg: mean}', "'W' is not a period in the calendar noleap"),
    ('{op: groupby, input: x, by: "hour(localize(time, \'UTC\'))", agg: mean}', "calendar noleap have no time zone"),
    ('{op: groupby, input: x, by: "time > timestamp(\'2000-02-29\')", agg: mean}', "no time of the calendar noleap"),
    ('{op: groupby, input: x, by: "time > 3", agg: mean}', "time and number"),
    ('{op: groupby, input: x, by: "number(time)", agg: mean}', "for a time write year"),
    ('{op: groupby, input: x, by: "time + time", agg: mean}', "not defined for time and time"),
    ("{expr: \"coord(x, 'time')\"}", "times of the calendar noleap, which only labels can be"),
    ('{expr: "x - y"}', "calendars noleap and standard along 'time'"),
    ('{op: concatenate, input: [x, y], axis: time}', "the calendars noleap and standard differ"),
    ('{op: concatenate, input: [x, z], axis: time}', "the calendars 360_day and noleap differ"),
])  # fmt: skip
def test_what_a_calendar_lacks_is_refused_by_its_name(folder: Path, step: str, said: str) -> None:
    sources = "".join(
        f'  {name}: {{op: from_netcdf, path: "{calendar}.nc"}}\n'
        for name, calendar in (("x", "noleap"), ("y", "standard"), ("z", "360_day"))
    )
    with pytest.raises((ConfigError, ExpressionError), match=said):
        values_of(f"steps:\n{sources}  s: {step}\n", folder)


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("to", ["netcdf", "zarr"])
def test_calendars_come_back_from_files(folder: Path, tmp_path: Path, calendar: str, to: str) -> None:
    x = from_netcdf(path=str(folder / f"{calendar}.nc"), chunks={"time": 500})
    path = "a.nc" if to == "netcdf" else "a.zarr"
    sink = write_output(to, x, str(tmp_path), path)
    source = from_netcdf if to == "netcdf" else from_zarr
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = (read(sink, tmp_path), source(path=str(tmp_path / path), variable="v"))
    for got in again:
        assert got.time.values.tolist() == x.time.values.tolist()
        assert calendar_of(got.time.values) == calendar_of(x.time.values)
    foreign = xr.open_dataset(tmp_path / path, engine="h5netcdf" if to == "netcdf" else "zarr")
    np.testing.assert_array_equal(foreign.time.values, x.time.values)
    foreign.close()


def test_decode_times_false_leaves_the_numbers(folder: Path) -> None:
    got = from_netcdf(path=str(folder / "noleap.nc"), decode_times=False)
    assert got.time.values.tolist() == list(range(DAYS))
    assert got.time.attrs == {"units": "days since 2000-06-01", "calendar": "noleap"}


def test_cells_of_other_calendars_stay_numbers_with_units(tmp_path: Path) -> None:
    about = {"units": "days since 2001-01-01", "calendar": "noleap", "bounds": "b"}
    bounds = (("time", "two"), [[0.0, 1.0], [1.0, 2.0]])
    xr.Dataset({"b": bounds}, {"time": ("time", [0.5, 1.5], about)}).to_netcdf(tmp_path / "x.nc", engine="scipy")
    got = from_netcdf(path=str(tmp_path / "x.nc"), variable="b").compute(scheduler="sync")
    assert got.values.tolist() == [[0, 1], [1, 2]]
    assert (got.attrs["units"], got.attrs["calendar"]) == ("days since 2001-01-01", "noleap")


def test_functions_of_times_say_that_cells_are_numbers(tmp_path: Path) -> None:
    seen = ("i", [0.0, 1.0], {"units": "days since 2001-01-01", "calendar": "noleap"})
    xr.Dataset({"seen": seen}).to_netcdf(tmp_path / "x.nc", engine="scipy")
    steps = 'steps: {x: {op: from_netcdf, path: x.nc}, y: {expr: "month(x)"}}'
    with pytest.raises(ConfigError, match=r"month\(t\) needs times.*'x' holds numbers.*in the calendar noleap"):
        values_of(steps, tmp_path)


def test_cells_that_are_times_are_decoded_file_by_file(tmp_path: Path) -> None:
    for i, calendar in enumerate(("standard", "standard", "noleap")):
        seen = ("i", [0.0], {"units": f"days since 200{i}-01-01", "calendar": calendar})
        xr.Dataset({"seen": seen}, {"i": [i]}).to_netcdf(tmp_path / f"{i}.nc", engine="scipy")
    got = from_netcdf(path=[f"{tmp_path}/0.nc", f"{tmp_path}/1.nc"]).compute(scheduler="sync")
    assert got.values.astype("M8[D]").astype(str).tolist() == ["2000-01-01", "2001-01-01"]
    with pytest.raises(DataError, match=r"holds times of the calendar noleap as numbers.*in .*0\.nc times"):
        from_netcdf(path=[f"{tmp_path}/0.nc", f"{tmp_path}/2.nc"])


def test_labels_of_a_calendar_are_rounded_and_aligned(folder: Path) -> None:
    x = from_netcdf(path=str(folder / "360_day.nc")).isel(time=slice(0, 3))
    shifted = x.assign_coords(time=x.time.values + timedelta(hours=5))
    rounded = set_labels(shifted, by={"time": parse("floor_time(time, '1d')", "coords")})
    aligned = align(shifted, x, tolerance={"time": "5h"})
    for got in (rounded, aligned):
        assert got.time.values.tolist() == x.time.values.tolist()


def test_parts_and_months_of_a_calendar(folder: Path) -> None:
    x = from_netcdf(path=str(folder / "360_day.nc")).isel(time=slice(0, 3))
    one = x.time.values[0]
    for text, wanted in (
        ("minute(time) + second(time)", 0),
        ("quarter(time)", 2),
        ("floor_time(time, 'year')", type(one)(one.year, 1, 1)),
        ("floor_time(time, '2 quarters')", type(one)(one.year, 1, 1)),
        ("time + duration(months=9)", type(one)(one.year + 1, one.month - 3, one.day)),
    ):
        assert evaluate_coords(parse(text, "coords"), x).values[0] == wanted, text
    with pytest.raises(ExpressionError, match="the calendar 360_day has no ISO weeks"):
        evaluate_coords(parse("isoweek(time)", "coords"), x)


def test_cells_after_2262_are_times_in_microseconds(tmp_path: Path) -> None:
    seen = ("i", [0.0, 1.0], {"units": "days since 2500-01-01"})
    xr.Dataset({"seen": seen}).to_netcdf(tmp_path / "x.nc", engine="scipy")
    got = from_netcdf(path=str(tmp_path / "x.nc"), chunks={"i": 1})
    assert got.dtype == "M8[us]"
    assert got.compute(scheduler="sync").values.astype("M8[D]").astype(str).tolist() == ["2500-01-01", "2500-01-02"]


@pytest.mark.parametrize("dim", ["time", "t"])
def test_periods_of_a_calendar_are_those_of_any_dim(dim: str, tmp_path: Path) -> None:
    times = xr.date_range("2001-01-01", periods=45, calendar="noleap", use_cftime=True)
    xr.Dataset({"v": (dim, np.ones(45))}, {dim: times}).to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    text = "steps:\n  x: {op: from_netcdf, path: x.nc, variable: v}\n"
    text += f"  y: {{op: resample, input: x, rule: {{{dim}: MS}}, agg: sum}}\n"
    assert values_of(text, tmp_path)["y"].values.tolist() == [31.0, 14.0]
