"""Plots: what can be seen in their pixels and texts, which data they take, and that their bytes are always the same."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pyarrow as pa
import pytest
import xarray as xr

from pipeline.config.loader import loads
from pipeline.errors import ConfigError, DataError
from pipeline.experiments.comparison.output_differences import _pictures
from pipeline.outputs import plot_data, plots
from pipeline.runs.run import run

pytest.importorskip("matplotlib")

MONTHS = np.arange("2001-01", "2006-01", dtype="datetime64[M]").astype("datetime64[ns]")
FRAME = pa.table({"carrier": ["UA", "AA", "DL"], "delay": [4.0, -2.0, None], "n": [3, 2, 1]})


def series(n: int = 60, **attrs: str) -> xr.DataArray:
    values = np.sin(np.arange(n) / 5.0)
    return xr.DataArray(values, {"time": MONTHS[:n]}, ["time"], attrs={"long_name": "anomaly", "units": "K", **attrs})


def world(values: Any = None, *, descending: bool = False) -> xr.DataArray:
    lat, lon = np.arange(-60.0, 61.0, 20.0), np.arange(0.0, 360.0, 30.0)
    found = np.outer(np.cos(np.radians(lat)), np.sin(np.radians(lon))) if values is None else values
    array = xr.DataArray(found, {"lat": lat, "lon": lon}, ["lat", "lon"], attrs={"units": "K"})
    return array.isel(lat=slice(None, None, -1)) if descending else array


def pixels(value: Any, **keys: Any) -> np.ndarray[Any, Any]:
    """The colours of a PNG, shape (height, width, 3), in [0, 1]."""
    from matplotlib.image import imread

    return np.asarray(imread(io.BytesIO(plots.drawn(value, "png", "x", keys))))[..., :3]


def texts(value: Any, **keys: Any) -> list[str]:
    """The texts of an SVG."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", plots.drawn(value, "svg", "x", keys).decode())


def red_of(found: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray((found[..., 0] > found[..., 2] + 0.2) & (found[..., 1] < 0.5))


def blue_of(found: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray((found[..., 2] > found[..., 0] + 0.2) & (found[..., 2] > 0.3))


def ink(found: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where a picture is not white."""
    return np.asarray((found < 0.97).any(axis=-1))


# ---------------------------------------------------------------------------------------------------------------------
# Pixels and texts
# ---------------------------------------------------------------------------------------------------------------------

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "line": (series(), {"plot": "line"}),
    "lines": (xr.concat([series(), series() * 2], "k"), {"plot": "line"}),
    "bar": (FRAME, {"plot": "bar"}),
    "histogram": (series(), {"plot": "histogram"}),
    "heatmap": (world(), {"plot": "heatmap"}),
    "map": (world(), {"plot": "map"}),
    "number": (xr.DataArray(2.5), {"plot": "bar"}),
}


@pytest.mark.parametrize("case", CASES)
def test_there_is_ink_where_data_and_labels_belong(case: str) -> None:
    value, keys = CASES[case]
    found = ink(pixels(value, **keys))
    height, width = found.shape
    assert (height, width) == (675, 1200)
    inside = found[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4]
    assert inside.mean() > 0.003  # the data
    assert found[:, : width // 9].any()  # labels at the left
    assert found[-height // 9 :, :].any()  # labels below
    assert not found[:2].any()  # nothing is cut off at the edges
    assert not found[:, :2].any()


def test_axes_have_names_and_units() -> None:
    found = texts(series(), plot="line", title="A title")
    assert {"A title", "time", "anomaly [K]"} <= set(found)
    assert {"2001", "2003", "2005"} <= set(found)  # dates, not numbers
    degrees = {"units": "degrees_east", "long_name": "longitude"}
    named = world().assign_coords(lon=("lon", world().lon.values, degrees))
    assert "longitude [degrees_east]" in texts(named, plot="map")
    assert "surface temperature [K]" in texts(
        xr.DataArray([1.0, 2.0], dims="i", attrs={"standard_name": "surface_temperature", "units": "K"}), plot="line"
    )


def test_a_series_a_label_has_a_legend() -> None:
    two = xr.concat([series(), series() + 1], "scenario").assign_coords(scenario=["A1B", "E1"])
    assert {"scenario", "A1B", "E1"} <= set(texts(two, plot="line"))
    assert {"scenario", "A1B", "E1"} <= set(texts(two, plot="histogram", by="scenario"))
    long = pa.table({"day": pa.array([1, 2, 1, 2]), "n": [1.0, 2.0, 3.0, 4.0], "who": ["a", "a", None, "b"]})
    assert {"who", "a", "b", "missing"} <= set(texts(long, plot="line", x="day", y="n", by="who"))


def test_bars_are_as_long_as_their_values() -> None:
    found = pixels(FRAME, plot="bar", y="delay")
    blue = blue_of(found)
    columns = np.flatnonzero(blue.any(axis=0))
    left, right = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)  # of the missing one there is none
    heights = [int(blue[:, part].any(axis=1).sum()) for part in (left, right)]
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.05)  # 4 up, 2 down, in the order of the rows
    assert np.flatnonzero(blue[:, left].any(axis=1)).max() <= np.flatnonzero(blue[:, right].any(axis=1)).min() + 4
    shown = texts(FRAME, plot="bar", y="delay")
    assert [text for text in shown if text in ("UA", "AA", "DL")] == ["UA", "AA", "DL"]
    assert "1 of 3 values are missing" in shown


@pytest.mark.parametrize("descending", [False, True])
def test_a_map_has_north_above_and_colours_around_zero(descending: bool) -> None:
    values = np.zeros((7, 12))
    values[-1], values[0] = 8.0, -6.0  # the northernmost row, the southernmost
    found = pixels(world(values, descending=descending), plot="map")
    cells = found[:, : int(found.shape[1] * 0.8)]
    red, blue = red_of(cells), blue_of(cells)
    assert red.sum() > 1_000
    assert blue.sum() > 1_000
    assert np.flatnonzero(red.any(axis=1)).mean() < np.flatnonzero(blue.any(axis=1)).mean()
    ticks = [text for text in texts(world(values), plot="map") if re.fullmatch(r"[−-]?\d+(\.\d+)?", text)]
    assert {"8", "−8"} <= set(ticks)  # as far below zero as above


def test_values_of_one_sign_have_another_scale() -> None:
    assert not red_of(pixels(world(np.full((7, 12), 3.0)), plot="map")).any()


def test_missing_cells_are_grey_and_counted() -> None:
    values = np.full((7, 12), np.nan)
    values[0, 0], values[1, 1] = 1.0, np.inf
    grey = np.abs(pixels(world(values), plot="heatmap") - 0.85).max(axis=-1) < 0.01
    assert grey.mean() > 0.3
    assert "83 of 84 values are missing" in texts(world(values), plot="heatmap")


def test_a_gap_is_a_gap_and_a_lone_point_is_seen() -> None:
    values = series()
    values[10:50] = np.nan
    found = ink(pixels(values, plot="line"))
    assert "40 of 60 values are missing" in texts(values, plot="line")
    assert blue_of(pixels(values, plot="line"))[:, 500:700].sum() == 0
    assert found.any()
    lone = series() * np.nan
    lone[30] = 1.0
    assert blue_of(pixels(lone, plot="line")).sum() > 10


@pytest.mark.parametrize("plot", ["line", "bar", "histogram"])
def test_no_data_and_nothing_but_missing_data_say_so(plot: str) -> None:
    assert "no data" in texts(series(0), plot=plot)
    assert "all 60 values are missing" in texts(series() * np.nan, plot=plot)
    assert "no data" in texts(FRAME.slice(0, 0), plot=plot, x="n" if plot == "histogram" else "carrier")


def test_other_calendars_durations_and_decimals_are_drawn() -> None:
    noleap = [cftime.DatetimeNoLeap(2001 + i // 12, i % 12 + 1, 1) for i in range(24)]
    assert "time [years, calendar noleap]" in texts(
        xr.DataArray(np.arange(24.0), {"time": noleap}, ["time"]), plot="line"
    )
    spans = pa.table(
        {"d": pa.array(np.arange(3) * 3_600 * 10**9, pa.duration("ns")), "day": pa.array([1, 2, 3], pa.date32())}
    )
    assert {"d [hours]", "day"} <= set(texts(spans, plot="line"))
    prices = pa.table({"what": ["a", "b"], "price": [Decimal("1.50"), Decimal("2.25")]})
    assert {"what", "price"} <= set(texts(prices, plot="bar"))
    zoned = pa.table(
        {"t": pa.array(MONTHS[:3].astype("datetime64[us]"), pa.timestamp("us", "Europe/Berlin")), "v": [1, 2, 3]}
    )
    assert {"t", "v"} <= set(texts(zoned, plot="line"))
    assert "cost in $ and $" in texts(series(long_name="cost in $ and $", units=""), plot="line")


# ---------------------------------------------------------------------------------------------------------------------
# What does not fit
# ---------------------------------------------------------------------------------------------------------------------

CUBE = xr.DataArray(np.zeros((2, 2, 2)), dims=["t", "y", "x"])


@pytest.mark.parametrize(
    ("value", "keys", "message"),
    [
        (CUBE, {"plot": "line"}, "takes 0 to 2 dims, and the array has t, y, x; reduce it"),
        (series(), {"plot": "line", "x": "tim"}, "x: 'tim' is no dim; there are time; did you mean 'time'"),
        (series(), {"plot": "line", "y": "time"}, "y: got 'time'; an array has its values as y"),
        (series(), {"plot": "heatmap"}, "heatmap needs 2 dims, and it has time"),
        (
            CUBE[0],
            {"plot": "map"},
            "map needs dims of longitude and latitude, and there are y, x; name them: x: x, y: y",
        ),
        (CUBE[0], {"plot": "heatmap", "x": "y", "y": "y"}, "x and y are both 'y'"),
        (xr.DataArray(["a"], dims="i"), {"plot": "bar"}, "can't be drawn; a plot takes numbers"),
        (FRAME, {"plot": "bar", "x": "carier"}, "x: 'carier' is no column"),
        (FRAME, {"plot": "bar", "y": ["delay", "carrier"]}, "'carrier' is string; a plot takes numbers"),
        (FRAME, {"plot": "histogram"}, "histogram needs a column: x: delay or n"),
        (FRAME, {"plot": "heatmap", "x": "carrier", "y": "n"}, ""),
        (FRAME, {"plot": "heatmap"}, "heatmap of a frame needs two columns: x and y"),
        (pa.concat_tables([FRAME, FRAME]), {"plot": "bar", "x": "carrier"}, "needs one row for each 'carrier'"),
        (FRAME, {"plot": "line", "x": "n", "by": "carrier", "y": ["n", "delay"]}, "by: needs one column as y"),
    ],
)
def test_what_does_not_fit_is_named_with_a_cure(value: Any, keys: dict[str, Any], message: str) -> None:
    if not message:
        assert plots.drawn(value, "svg", "x", keys)
        return
    with pytest.raises(DataError) as caught:
        plots.drawn(value, "png", "x", keys)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "value", "keys", "message"),
    [
        ("points", series(), {"plot": "line"}, "line shows at most 5 points, and there are 60; aggregate first"),
        ("bars", series(), {"plot": "bar"}, "bar shows at most 5 bars, and there are 60; aggregate first"),
        ("values", series(), {"plot": "histogram"}, "histogram shows at most 5 values, and there are 60"),
        ("cells", world(), {"plot": "map"}, "map shows at most 5 cells, and there are 84; aggregate first (coarsen"),
        ("series", world(), {"plot": "line"}, "line shows at most 5 series, and there are 7; choose some"),
    ],
)
def test_too_much_is_refused_with_the_limit(
    limit: str, value: Any, keys: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(plot_data.LIMITS, limit, 5)
    with pytest.raises(DataError) as caught:
        plots.drawn(value, "png", "x", keys)
    assert message in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# As outputs
# ---------------------------------------------------------------------------------------------------------------------

TEXT = """
version: 1
params: {what: random}
steps:
  x: {op: random, shape: {time: 12, y: 4}, chunks: {time: 6}}
  m: {op: mean, input: x, axis: y}
  f: {op: to_frame, input: m}
outputs:
  m: {to: png, path: "m.png", plot: line, title: "${what} numbers"}
  h: {input: x, to: svg, path: h.svg, plot: heatmap}
  f: {to: svg, path: f.svg, plot: bar, x: time, y: [value]}
  v: {input: m, to: npy, path: m.npy}
"""


def test_a_plot_is_an_output_like_any_other(tmp_path: Path) -> None:
    config = loads(TEXT, name="p", root=tmp_path)
    made = run(config, backend="serial", out=tmp_path / "out", runs=tmp_path / "runs")
    assert [made.outputs[name].rows for name in "mhf"] == [12, 48, 12]
    picture = made.open("m")
    assert (picture[:4], picture._repr_svg_(), repr(picture)[:13]) == (b"\x89PNG", None, "<Picture: PNG")
    assert "<svg" in made.open("h")._repr_svg_()
    assert made["m"].shape == (12,)  # the array, not its picture
    again = run(config, backend="threads", workers=2, out=tmp_path / "two", runs=tmp_path / "runs", force=True)
    for name, manifest in made.outputs.items():
        assert [file.hash for file in manifest.files] == [file.hash for file in again.outputs[name].files]


def test_the_same_bytes_come_whatever_a_user_has_set(tmp_path: Path) -> None:
    here = plots.drawn(series(), "svg", "x", {"plot": "line"}), plots.drawn(series(), "png", "x", {"plot": "line"})
    import matplotlib as mpl

    with mpl.rc_context({"lines.linewidth": 9, "figure.facecolor": "red", "svg.fonttype": "path", "axes.grid": True}):
        assert plots.drawn(series(), "svg", "x", {"plot": "line"}) == here[0]
        assert plots.drawn(series(), "png", "x", {"plot": "line"}) == here[1]
        assert mpl.rcParams["lines.linewidth"] == 9
    assert "pyplot" not in here[0].decode()
    code = "import sys; import pipeline.outputs.planners; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_keys_that_do_not_fit_are_found_before_the_run(tmp_path: Path) -> None:
    wrong = TEXT.replace("plot: heatmap", "plot: map").replace("x: time", "x: tim")
    with pytest.raises(ConfigError) as caught:
        run(loads(wrong, root=tmp_path), backend="serial", out=tmp_path, runs=tmp_path)
    assert "outputs.h.plot: plot: map needs dims of longitude and latitude" in str(caught.value)
    assert "outputs.f.plot: x: 'tim' is no column" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        loads(TEXT.replace(", plot: line", "").replace("to: npy", "to: npy, plot: line"), root=tmp_path)
    assert "to: png needs plot" in str(caught.value)
    assert "outputs.v.plot: does not apply to npy; it is for png and svg" in str(caught.value)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"png needs Matplotlib: pip install 'pipeline\[plot\]'"):
        run(loads(TEXT, root=tmp_path), backend="serial", out=tmp_path, runs=tmp_path)


@pytest.mark.parametrize("form", ["png", "svg"])
def test_pictures_are_compared_by_what_is_seen(form: str) -> None:
    one, near, far = (plots.drawn(series() * factor, form, "x", {"plot": "line"}) for factor in (1, 1 + 1e-9, 2))
    assert _pictures("output 'x'", form, one, near).same
    found = _pictures("output 'x'", form, one, far)
    assert not found.same
    assert "the picture differs" in found.message
