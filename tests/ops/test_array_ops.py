"""Array operations against numpy, pandas and xarray on the same data, over several chunkings."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from dask.base import tokenize
from dask.callbacks import Callback
from named_ops import arrays as array

from pipeline.config.expressions.expression import parse
from pipeline.errors import DataError, OpError
from pipeline.ops.arrays import histograms, quantiles, reshaping, scans, stacking, windows
from pipeline.ops.collections import Parts

TIMES = pd.date_range("2000-01-15", periods=70, freq="D")
CHUNKINGS = [(70, 6), (10, 3), ((1, 30, 9, 30), (2, 4)), (7, 6)]
CASES = [
    ("float64", CHUNKINGS[0]),
    ("float64", CHUNKINGS[2]),
    ("float32", CHUNKINGS[1]),
    ("float32", CHUNKINGS[3]),
    ("int32", CHUNKINGS[2]),
]


def numbers(dtype: str = "float64") -> np.ndarray:
    values = np.random.default_rng(7).normal(10, 30, (70, 6))
    if dtype.startswith("f"):
        values[3, 2] = values[0, 0] = values[60:, 5] = np.nan
        values[:, 4] = np.nan
    return values.astype(dtype)


def lazy(values: np.ndarray, chunks: Any = (10, 3)) -> xr.DataArray:
    data = da.from_array(values, chunks=chunks, name=f"x-{tokenize(values, chunks)}")
    coords = {"time": TIMES[: len(values)], "y": np.arange(values.shape[1]) * 10}
    return xr.DataArray(data, coords, ["time", "y"], name="tas", attrs={"units": "K"})


def run(x: xr.DataArray) -> xr.DataArray:
    """The array in memory; its chunks must have the dtype and shape that were promised."""
    result = x.compute(scheduler="sync")
    assert result.dtype == x.dtype
    assert result.shape == x.shape
    return result


def double(block: np.ndarray, by: float = 2) -> np.ndarray:
    return block * by


def total(block: np.ndarray) -> np.ndarray:
    return block.sum(axis=0)


def crooked(block: np.ndarray) -> np.ndarray:
    return block[:1]


MONTH = parse("month(time)", "coords")

BUILDS: dict[str, Callable[[xr.DataArray], Any]] = {
    **{
        name: (lambda x, n=name: getattr(array, n)(x, axis="time"))
        for name in ["sum", "mean", "min", "max", "any", "all"]
    },
    "std": lambda x: array.std(x, axis="time", ddof=1),
    "var": lambda x: array.var(x, ddof=0),
    "average": lambda x: array.average(x, array.sum(x, axis="time"), axis="y"),
    "quantile": lambda x: array.quantile(x, q=[0.1, 0.5], axis="time"),
    "rechunk": lambda x: array.rechunk(x, chunks={"time": 35}),
    "svd": array.svd,
    "sel": lambda x: array.sel(x, labels={"time": ["2000-02", "2000-02"]}),
    "groupby": lambda x: array.groupby(x, by=MONTH, agg="mean"),
    "take": lambda x: array.take(array.groupby(x, by=MONTH, agg="mean"), x, at={"month": MONTH}),
    "resample": lambda x: array.resample(x, rule={"time": "MS"}, agg="mean"),
    "rolling": lambda x: array.rolling(x, window={"time": 12}, agg="mean"),
    "map_blocks": lambda x: array.map_blocks(x, function="test_array_ops:double", dtype="float64", args={"by": 3}),
    "coarsen": lambda x: windows.coarsen(x, window={"time": 14, "y": 2}, agg="mean"),
    "median": lambda x: quantiles.median(x, axis="time"),
    "histogram": lambda x: histograms.histogram(x, bins=4, range=[0, 1], axis="time"),
    "cumsum": lambda x: scans.cumsum(x, axis="time"),
    "argmax": lambda x: scans.argmax(x, axis="y"),
    "topk": lambda x: scans.topk(x, k=3, axis="time"),
    "transpose": reshaping.transpose,
    "reshape": lambda x: reshaping.reshape(x, dims={"cell": -1}),
    "pad": lambda x: reshaping.pad(x, pad_width={"time": [3, 0]}, mode="reflect"),
    "roll": lambda x: reshaping.roll(x, shift={"time": 3}),
    "stack": lambda x: stacking.stack(x, x, dim="copy"),
    "concatenate": lambda x: stacking.concatenate(x, x, axis="time"),
}


def collections(value: Any) -> list[xr.DataArray]:
    return list(value.parts.values()) if isinstance(value, Parts) else [value]


def fingerprints() -> str:
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        return tokenize(
            {
                name: sorted(
                    (str(key), tokenize(node)) for x in collections(build(lazy(numbers()))) for key, node in graph(x)
                )
                for name, build in BUILDS.items()
            }
        )


def graph(x: xr.DataArray) -> list[tuple[Any, Any]]:
    return list(dict(x.__dask_graph__()).items())


class Counted(Callback):
    """Counts the tasks that run."""

    n = 0

    def _pretask(self, *args: Any) -> None:
        self.n += 1


# ---------------------------------------------------------------------------------------------------------------------
# What holds of every op
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDS)
def test_building_runs_no_task_and_every_task_pickles(name: str) -> None:
    with Counted() as count:
        result = collections(BUILDS[name](lazy(numbers())))
    assert count.n == 0
    for x in result:
        assert isinstance(x.data, da.Array)
        assert all(isinstance(c.variable._data, np.ndarray) or c.variable.dims == c.dims for c in x.coords.values())
        assert all(pickle.loads(pickle.dumps(node)) is not None for _, node in graph(x))


def test_another_process_builds_the_same_graphs() -> None:
    program = "import test_array_ops; print(test_array_ops.fingerprints())"
    other = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert other.strip() == fingerprints()


@pytest.mark.parametrize(
    "name", ["sum", "mean", "min", "max", "std", "average", "quantile", "groupby", "resample", "sel"]
)
def test_attributes_survive_reductions_and_picks(name: str) -> None:
    assert BUILDS[name](lazy(numbers())).attrs == {"units": "K"}


def test_a_dim_that_is_none_is_named_with_those_that_are() -> None:
    with pytest.raises(OpError, match="no dim 'tim'; dims: time, y; did you mean 'time'"):
        array.mean(lazy(numbers()), axis="tim")


# ---------------------------------------------------------------------------------------------------------------------
# Reductions
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "chunks"), CASES)
@pytest.mark.parametrize("axis", [None, "time", "y", ["time", "y"]])
@pytest.mark.parametrize("op", ["sum", "mean", "min", "max", "std", "var"])
def test_reductions_skip_missing_values_as_pandas_does(op: str, axis: Any, dtype: str, chunks: Any) -> None:
    values = numbers(dtype)
    options = {"ddof": 1} if op in ("std", "var") else {}
    got = run(getattr(array, op)(lazy(values, chunks), axis=axis, **options))
    frame = pd.DataFrame(values.astype("float64") if op != "sum" else values)
    if axis in (None, ["time", "y"]):
        want = getattr(pd.Series(frame.to_numpy().ravel()), op)(**options)
    else:
        want = getattr(frame, op)(axis=0 if axis == "time" else 1, **options)
    np.testing.assert_allclose(got, want, rtol=2e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("op", ["sum", "mean", "min", "max"])
def test_missing_values_count_when_they_are_not_skipped(op: str) -> None:
    got = run(getattr(array, op)(lazy(numbers()), axis="time", skipna=False))
    np.testing.assert_allclose(got, getattr(np, op)(numbers(), axis=0))


@pytest.mark.parametrize(("op", "dtype", "want"), [
    ("sum", "int32", "int64"), ("sum", "float32", "float32"), ("sum", "bool", "int64"), ("mean", "int32", "float64"),
    ("mean", "float32", "float32"), ("min", "int32", "int32"), ("max", "float32", "float32"), ("any", "int32", "bool"),
])  # fmt: skip
def test_reductions_have_numpys_dtypes(op: str, dtype: str, want: str) -> None:
    assert run(getattr(array, op)(lazy(numbers("int32").astype(dtype)))).dtype == want


def test_kept_dims_have_size_1_and_no_labels() -> None:
    got = run(array.max(lazy(numbers()), axis="time", keepdims=True))
    assert got.shape == (1, 6)
    assert set(got.coords) == {"y"}
    assert run(array.std(lazy(numbers()), axis="time", ddof=0, keepdims=True)).shape == (1, 6)


@pytest.mark.parametrize(("op", "want"), [("sum", 0.0), ("mean", np.nan), ("any", False), ("all", True)])
def test_reductions_of_nothing(op: str, want: Any) -> None:
    with np.errstate(all="ignore"):
        got = run(getattr(array, op)(lazy(np.empty((0, 2)), (0, 1)), axis="time"))
    np.testing.assert_array_equal(got, [want, want])


def test_the_deviation_of_too_few_values_is_missing() -> None:
    assert np.isnan(run(array.std(lazy(np.array([[1.0, 2.0]]), 1), axis="time", ddof=1))).all()
    assert np.isnan(run(array.var(lazy(np.empty((0, 2)), (0, 1)), axis="time", ddof=0))).all()


def test_there_is_no_largest_of_nothing() -> None:
    with pytest.raises(DataError, match="'time', which has length 0"):
        array.max(lazy(np.empty((0, 2)), (0, 1)), axis="time")


@pytest.mark.parametrize("dtype", ["float64", "int32", "bool"])
@pytest.mark.parametrize("op", ["min", "max"])
def test_the_largest_of_each_of_no_rows_are_none(op: str, dtype: str) -> None:
    got = run(getattr(array, op)(lazy(np.empty((0, 2), dtype), (1, 1)), axis="y"))
    assert (got.dims, got.shape, got.dtype) == (("time",), (0,), dtype)


@pytest.mark.parametrize("dtype", ["M8[ns]", "m8[s]", "U3"])
@pytest.mark.parametrize("op", [
    lambda x: array.sum(x),
    lambda x: array.std(x, ddof=0),
    lambda x: array.any(x),
    lambda x: array.quantile(x, q=0.5, axis="time"),
    lambda x: array.svd(x),
    lambda x: array.average(x, lazy(numbers()[:2])),
    lambda x: array.average(lazy(numbers()[:2, :2]), x),
    lambda x: array.rolling(x, window={"time": 1}, agg="max"),
    lambda x: array.groupby(x, by=parse("month(time)", "coords"), agg="mean"),
    lambda x: array.resample(x, rule={"time": "D"}, agg="sum"),
])  # fmt: skip
def test_arithmetic_needs_numbers(op: Callable[[xr.DataArray], Any], dtype: str) -> None:
    with pytest.raises(OpError, match=r"(input|weights): \w+ needs numbers; the array has dtype"):
        op(lazy(np.array([["1", "2"], ["3", "4"]]).astype("U1" if dtype == "U3" else "int64").astype(dtype)))


@pytest.mark.parametrize("op", ["min", "max"])
def test_text_has_no_largest_value(op: str) -> None:
    with pytest.raises(OpError, match=r"input: m.. needs numbers or times; the array has dtype <U1"):
        getattr(array, op)(lazy(np.array([["a", "b"]])), axis="time")


def test_deviations_keep_their_digits_far_from_zero() -> None:
    values = 1e9 + np.tile([0.0, 1.0], 35).reshape(70, 1)
    assert float(run(array.var(lazy(values, (7, 1)), ddof=0))) == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize(("values", "some", "every"), [
    ([np.nan, 0.0], False, False), ([np.nan, 1.0], True, True), ([np.nan, np.nan], False, True),
    ([0.0, 2.0], True, False),
])  # fmt: skip
def test_missing_values_are_neither_true_nor_false(values: list[float], some: bool, every: bool) -> None:
    x = lazy(np.array([values]).T, (1, 1))
    assert bool(run(array.any(x))) is some
    assert bool(run(array.all(x))) is every


def test_times_have_a_first_and_a_last() -> None:
    values = TIMES.to_numpy().reshape(70, 1)
    assert run(array.min(lazy(values, (9, 1)))).values == TIMES.to_numpy()[0]
    assert run(array.max(lazy(values, (9, 1)), axis="time")).values == TIMES.to_numpy()[-1]


@pytest.mark.parametrize("lengths", [False, True])
def test_times_have_a_mean_that_is_built_without_reading_them(*, lengths: bool) -> None:
    values = np.stack([TIMES.to_numpy(), TIMES.to_numpy() + np.timedelta64(1, "h")], axis=1)
    values = values - values[3] if lengths else values
    values[5:9, 1] = np.datetime64("NaT")
    x = lazy(values, (9, 1))
    read: list[Any] = []
    with Callback(pretask=lambda key, *_: read.append(key)):
        means = array.mean(x, axis="time"), array.mean(x, axis="time", skipna=False), array.mean(x)
    assert not read
    whole = x.compute()
    wanted = whole.mean("time"), whole.mean("time", skipna=False), whole.mean()
    for mean, want in zip(means, wanted, strict=True):
        got = run(mean)
        assert got.isnull().equals(want.isnull())
        assert (abs(got - want).fillna(np.timedelta64(0)) <= np.timedelta64(1, "us")).all()


# ---------------------------------------------------------------------------------------------------------------------
# Averages, quantiles, decompositions
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", CHUNKINGS)
@pytest.mark.parametrize("axis", ["y", None, ["time"]])
def test_average_is_xarrays_weighted_mean(axis: Any, chunks: Any) -> None:
    dims = "time" if axis == ["time"] else "y"
    n = {"time": 70, "y": 6}[dims]
    coords = {dims: TIMES if dims == "time" else np.arange(6) * 10}
    weights = xr.DataArray(np.arange(1.0, n + 1), coords, [dims])
    got = run(array.average(lazy(numbers("float32"), chunks), weights.chunk(4), axis=axis))
    want = lazy(numbers("float32")).compute(scheduler="sync").weighted(weights).mean(axis)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert got.dtype == np.float64


def test_average_refuses_weights_with_other_labels() -> None:
    weights = xr.DataArray(da.ones(6), {"y": np.arange(6)}, ["y"])
    with pytest.raises(OpError, match="labels along 'y' differ"):
        array.average(lazy(numbers()), weights, axis="y")
    with pytest.raises(OpError, match="the dim 'z', but input does not"):
        array.average(lazy(numbers()), weights.drop_vars("y").rename(y="z"), axis="y")


def test_an_average_with_no_weight_is_missing() -> None:
    x = lazy(numbers(), (9, 2))
    assert np.isnan(run(array.average(x, xr.DataArray(da.zeros(6), dims=["y"]), axis="y"))).all()


@pytest.mark.parametrize(("dtype", "chunks"), CASES)
def test_quantiles_are_pandas_quantiles(dtype: str, chunks: Any) -> None:
    got = run(array.quantile(lazy(numbers(dtype), chunks), q=[0, 0.05, 0.5, 1], axis="time"))
    want = pd.DataFrame(numbers(dtype).astype("float64")).quantile([0, 0.05, 0.5, 1])
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert got.dims == ("quantile", "y")
    assert got["quantile"].values.tolist() == [0, 0.05, 0.5, 1]


def test_one_quantile_over_all_dims_is_one_number() -> None:
    got = run(array.quantile(lazy(numbers("int32")), q=0.3, axis=["y", "time"]))
    assert float(got) == pytest.approx(np.quantile(numbers("int32"), 0.3))
    assert np.isnan(run(array.quantile(lazy(numbers()), q=0.3, axis="time", skipna=False))[0])


@pytest.mark.parametrize("chunks", CHUNKINGS)
@pytest.mark.parametrize("shape", [(70, 6), (4, 6)])
def test_svd_is_numpys_with_signs_that_chunks_do_not_change(shape: tuple[int, int], chunks: Any) -> None:
    values = np.random.default_rng(1).normal(size=shape)
    grid = chunks if shape[0] == 70 else (2, 2)
    parts = array.svd(lazy(values, grid)).parts
    assert [parts[name].dims for name in "usv"] == [("time", "component"), ("component",), ("component", "y")]
    u, s, v = (run(parts[name]) for name in "usv")
    np.testing.assert_allclose(s, np.linalg.svd(values, compute_uv=False))
    np.testing.assert_allclose((u * s).values @ v.values, values, atol=1e-12)
    assert (np.take_along_axis(u.values, np.abs(u.values).argmax(0)[None], 0) > 0).all()
    assert (u.time.values == TIMES[: shape[0]]).all()


def test_svd_has_floats_for_integers_and_keeps_float32() -> None:
    assert run(array.svd(lazy(numbers("int32"))).parts["u"]).dtype == "float64"
    assert run(array.svd(lazy(numbers("int32").astype("float32"))).parts["v"]).dtype == "float32"


def test_svd_needs_two_dims() -> None:
    with pytest.raises(OpError, match="two dims, got y"):
        array.svd(array.sum(lazy(numbers()), axis="time"))


# ---------------------------------------------------------------------------------------------------------------------
# Groups and windows
# ---------------------------------------------------------------------------------------------------------------------

AGGREGATES = ["sum", "mean", "min", "max", "count", "first", "last", "std", "var"]


@pytest.mark.parametrize(("dtype", "chunks"), CASES)
@pytest.mark.parametrize("agg", AGGREGATES)
def test_groups_are_pandas_groups(agg: str, dtype: str, chunks: Any) -> None:
    options = {"ddof": 1} if agg in ("std", "var") else {}
    got = run(array.groupby(lazy(numbers(dtype), chunks), by=MONTH, agg=agg, **options))
    grouped = pd.DataFrame(numbers(dtype)).groupby(TIMES.month)
    np.testing.assert_allclose(got, getattr(grouped, agg)(), rtol=2e-5 if dtype == "float32" else 1e-10)
    assert got.dims == ("month", "y")
    assert got.month.values.tolist() == [1, 2, 3]


def test_a_group_stands_in_the_place_of_its_dim() -> None:
    got = array.groupby(lazy(numbers()).transpose("y", "time"), by=MONTH, agg="mean")
    assert got.dims == ("y", "month")
    want = run(array.groupby(lazy(numbers()), by=MONTH, agg="mean"))
    np.testing.assert_allclose(run(got), want.transpose())


def test_many_chunks_are_merged_in_levels() -> None:
    got = run(array.groupby(lazy(numbers(), (1, 6)), by=MONTH, agg="mean"))
    np.testing.assert_allclose(got, pd.DataFrame(numbers()).groupby(TIMES.month).mean())


def test_a_missing_label_is_a_group_of_its_own() -> None:
    x = lazy(np.arange(4.0).reshape(4, 1), (2, 1)).assign_coords(zone=("time", [1.0, np.nan, 1.0, np.nan]))
    got = run(array.groupby(x, by=parse("zone", "coords"), agg="sum"))
    np.testing.assert_array_equal(got.values[:, 0], [2, 4])
    np.testing.assert_array_equal(got.zone, [1, np.nan])


@pytest.mark.parametrize("agg", ["std", "var"])
def test_deviations_of_groups_need_ddof(agg: str) -> None:
    with pytest.raises(OpError, match=f"{agg} needs ddof"):
        array.groupby(lazy(numbers()), by=MONTH, agg=agg)


@pytest.mark.parametrize(("dtype", "chunks"), CASES)
@pytest.mark.parametrize("rule", ["MS", "W", "3D"])
@pytest.mark.parametrize("agg", ["sum", "mean", "max", "count", "last"])
def test_periods_are_pandas_periods(agg: str, rule: str, dtype: str, chunks: Any) -> None:
    x = lazy(numbers(dtype), chunks)
    got = run(array.resample(x, rule={"time": rule}, agg=agg))
    want = getattr(pd.DataFrame(numbers(dtype), index=TIMES).resample(rule), agg)()
    np.testing.assert_allclose(got, want, rtol=2e-5 if dtype == "float32" else 1e-12)
    assert (got.time.values == want.index.values).all()


def test_a_period_without_data_is_missing_and_sums_to_0() -> None:
    x = lazy(numbers("int32"), (10, 6)).isel(time=[0, 1, 60, 61])
    mean = run(array.resample(x, rule={"time": "MS"}, agg="max"))
    assert mean.dtype == "float64"
    assert np.isnan(mean[1]).all()
    assert (run(array.resample(x, rule={"time": "MS"}, agg="sum"))[1] == 0).all()


def test_a_period_without_text_is_empty_text() -> None:
    times = pd.to_datetime(["2001-01-01", "2001-01-03"])
    x = xr.DataArray(da.from_array(np.array(["a", "b"]), chunks=1), {"time": times}, ["time"])
    assert run(array.resample(x, rule={"time": "D"}, agg="first")).values.tolist() == ["a", "", "b"]


def test_only_times_in_order_have_periods() -> None:
    with pytest.raises(OpError, match="not times in increasing order"):
        array.resample(lazy(numbers()), rule={"y": "MS"}, agg="sum")
    with pytest.raises(OpError, match="'month' is not a valid period"):
        array.resample(lazy(numbers()), rule={"time": "month"}, agg="sum")


@pytest.mark.parametrize("chunks", CHUNKINGS)
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(("n", "least"), [(3, None), (12, 5), (4, 1)])
@pytest.mark.parametrize("agg", ["sum", "mean", "min", "max", "std"])
def test_windows_are_pandas_windows(agg: str, n: int, least: int | None, center: bool, chunks: Any) -> None:
    options = {"ddof": 1} if agg == "std" else {}
    x = lazy(numbers(), chunks)
    got = run(array.rolling(x, window={"time": n}, agg=agg, center=center, min_periods=least, **options))
    windows = pd.DataFrame(numbers()).rolling(n, center=center, min_periods=least)
    np.testing.assert_allclose(got, getattr(windows, agg)(**options), rtol=1e-7, atol=1e-7)
    assert got.chunks == x.chunks if got.chunks else True


def test_windows_count_what_is_there() -> None:
    got = run(array.rolling(lazy(numbers()), window={"time": 3}, agg="count", min_periods=1))
    want = lazy(numbers()).compute(scheduler="sync").rolling(time=3, min_periods=1).count()
    np.testing.assert_array_equal(got, want)


def test_a_window_fits_into_its_dim() -> None:
    with pytest.raises(OpError, match="got 71, but 'time' has 70"):
        array.rolling(lazy(numbers()), window={"time": 71}, agg="sum")


# ---------------------------------------------------------------------------------------------------------------------
# Picks
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_take_brings_a_climatology_back_to_its_times(chunks: Any) -> None:
    x = lazy(numbers(), chunks)
    normal = array.groupby(x, by=MONTH, agg="mean")
    got = array.take(normal, x, at={"month": MONTH})
    assert got.dims == ("time", "y")
    assert got.chunksizes["time"] == x.chunksizes["time"]
    np.testing.assert_allclose(run(got), pd.DataFrame(numbers()).groupby(TIMES.month).transform("mean"))
    assert (got.time.values == x.time.values).all()


def test_take_by_two_labels_of_one_dim() -> None:
    x = lazy(numbers("int32"))
    table = xr.DataArray(
        da.arange(3 * 7, chunks=5).reshape(3, 7), {"month": [1, 2, 3], "weekday": np.arange(7)}, ["month", "weekday"]
    )
    got = run(array.take(table, x, at={"month": MONTH, "weekday": parse("weekday(time)", "coords")}))
    want = (TIMES.month - 1) * 7 + TIMES.day_of_week
    np.testing.assert_array_equal(got, want)


def test_take_names_a_label_that_is_not_there() -> None:
    x = lazy(numbers())
    normal = array.groupby(x.isel(time=slice(0, 20)), by=MONTH, agg="mean")
    with pytest.raises(OpError, match="'month' of input has no label 3"):
        array.take(normal, x, at={"month": MONTH})


@pytest.mark.parametrize(("labels", "want"), [
    ({"time": ["2000-02-01", "2000-02-10"]}, {"time": slice("2000-02-01", "2000-02-10")}),
    ({"time": ["2000-02", "2000-02"], "y": 20}, {"time": slice("2000-02", "2000-02"), "y": 20}),
    ({"time": "2000-02"}, {"time": "2000-02"}),
    ({"y": [10, 30]}, {"y": slice(10, 30)}),
    ({"y": [None, 30]}, {"y": slice(None, 30)}),
])  # fmt: skip
def test_labels_select_both_ends_included(labels: dict[str, Any], want: dict[str, Any]) -> None:
    x = lazy(numbers())
    xr.testing.assert_identical(run(array.sel(x, labels=labels)), x.compute(scheduler="sync").sel(want))


def test_a_range_may_run_against_falling_labels() -> None:
    x = lazy(numbers()).isel(y=slice(None, None, -1))
    assert array.sel(x, labels={"y": [10, 30]}).y.values.tolist() == [30, 20, 10]


@pytest.mark.parametrize(("labels", "why"), [
    ({"y": 15}, "15 is not among the labels: 'y' has the labels 0 to 50"),
    ({"time": ["1990", "1991"]}, "selects nothing"),
    ({"z": 1}, "no dim 'z'"),
])  # fmt: skip
def test_labels_that_are_not_there_are_faults(labels: dict[str, Any], why: str) -> None:
    with pytest.raises(OpError, match=why):
        array.sel(lazy(numbers()), labels=labels)


def test_the_nearest_label_will_do_if_asked() -> None:
    assert float(array.sel(lazy(numbers()), labels={"y": 16}, method="nearest").y) == 20


def test_rechunk_keeps_what_is_not_named() -> None:
    got = array.rechunk(lazy(numbers()), chunks={"time": -1})
    assert got.chunks == ((70,), (3, 3))
    np.testing.assert_array_equal(run(got), numbers())
    assert array.rechunk(lazy(numbers()), chunks={"y": [1, 5]}).chunks[1] == (1, 5)
    with pytest.raises(OpError, match="chunks"):
        array.rechunk(lazy(numbers()), chunks={"y": [1, 2]})


def test_a_function_maps_blocks() -> None:
    x = lazy(numbers("int32"))
    got = array.map_blocks(x, function="test_array_ops:double", dtype="int32", args={"by": 3})
    np.testing.assert_array_equal(run(got), numbers("int32") * 3)
    assert got.attrs == {}
    less = array.map_blocks(x, function="test_array_ops:total", dtype="int64", dims=["y"])
    np.testing.assert_array_equal(run(less), numbers("int32").sum(axis=0))
    assert less.y.values.tolist() == x.y.values.tolist()


@pytest.mark.parametrize(("function", "dtype", "why"), [
    ("double", "float32", "a block of dtype int32; the step declares dtype: float32"),
    ("crooked", "int32", r"shape \(1, 3\); expected \(10, 3\)"),
])  # fmt: skip
def test_a_block_that_is_not_as_declared_fails(function: str, dtype: str, why: str) -> None:
    x = array.map_blocks(lazy(numbers("int32")), function=f"test_array_ops:{function}", dtype=dtype)
    with pytest.raises(DataError, match=why):
        x.compute(scheduler="sync")
