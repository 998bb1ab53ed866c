"""Ops that move values, order them or put arrays together, against numpy and xarray on the same data."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st
from serially import values_of
from strategies import NUMBERS, SETTINGS, arrays, cut
from test_array_ops import lazy, numbers, run

from pipeline.builder.build import build
from pipeline.builder.plan import plan
from pipeline.config.loader import loads
from pipeline.errors import ConfigError, DataError, OpError
from pipeline.ops.arrays.histograms import histogram
from pipeline.ops.arrays.quantiles import median
from pipeline.ops.arrays.reshaping import pad, reshape, roll, transpose
from pipeline.ops.arrays.scans import argmax, argmin, cumsum, topk
from pipeline.ops.arrays.stacking import concatenate, stack
from pipeline.ops.arrays.windows import coarsen

DIMS = ("x", "y")
AXES = st.sampled_from(DIMS)
ANY_ARRAY = arrays(empty_chunks=True)


def whole(x: xr.DataArray) -> xr.DataArray:
    return x.compute(scheduler="sync")


def same(got: xr.DataArray, want: Any, *, rtol: float = 0.0) -> None:
    """The values are equal, the labels too; missing is equal to missing."""
    np.testing.assert_allclose(run(got).values, np.asarray(want), rtol=rtol, atol=rtol)


def missing(values: np.ndarray) -> np.ndarray:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)


def lanes_along(values: np.ndarray, axis: int | None) -> np.ndarray:
    """The values of two dims as rows along one of them, or all in one row."""
    return values.reshape(1, values.size) if axis is None else values.T if axis == 0 else values


# ---------------------------------------------------------------------------------------------------------------------
# Along one axis
# ---------------------------------------------------------------------------------------------------------------------


@SETTINGS
@given(x=ANY_ARRAY, axis=st.sampled_from([None, "x", "y", ["y", "x"]]), skipna=st.booleans(), keepdims=st.booleans())
def test_the_median_is_numpys(x: xr.DataArray, axis: Any, skipna: bool, keepdims: bool) -> None:
    values = whole(x).values.astype(x.dtype if x.dtype.kind == "f" else "float64")
    numbered = {"x": 0, "y": 1}.get(axis) if isinstance(axis, str) else None
    got = median(x, axis=axis, skipna=skipna, keepdims=keepdims)
    lanes = lanes_along(values, numbered)
    want = pd.DataFrame(lanes).median(axis=1, skipna=skipna).to_numpy() if lanes.size else np.full(len(lanes), np.nan)
    same(got, want.reshape(got.shape), rtol=1e-6)
    assert got.dtype == values.dtype
    assert got.ndim == (2 if keepdims else 0 if numbered is None else 1)


@SETTINGS
@given(x=ANY_ARRAY, axis=AXES, skipna=st.booleans())
def test_running_sums_are_numpys(x: xr.DataArray, axis: str, skipna: bool) -> None:
    function = np.nancumsum if skipna else np.cumsum
    want = function(whole(x).values, axis=DIMS.index(axis))
    got = cumsum(x, axis=axis, skipna=skipna)
    same(got, want, rtol=1e-6)
    assert got.dtype == want.dtype
    assert got.chunks == x.chunks
    assert set(got.coords) == set(x.coords)


def test_cumsums_of_float32_agree_for_all_chunks() -> None:
    values = np.random.default_rng(1).random((1000, 1)).astype("float32")
    sums = [run(cumsum(lazy(values[:, :1], chunks), axis="time")) if len(values) <= 70 else
            run(cumsum(xr.DataArray(da.from_array(values, chunks=chunks), dims=["t", "y"]), axis="t"))
            for chunks in [(1000, 1), (7, 1)]]  # fmt: skip
    np.testing.assert_array_equal(sums[0], sums[1])
    np.testing.assert_allclose(sums[0], np.cumsum(values.astype("float64"), axis=0), rtol=1e-7)


@SETTINGS
@given(x=arrays(smallest=1, empty_chunks=True), axis=AXES, largest=st.booleans(), keepdims=st.booleans())
def test_the_place_of_the_extreme_is_numpys(x: xr.DataArray, axis: str, largest: bool, keepdims: bool) -> None:
    values, along = whole(x).values, DIMS.index(axis)
    got = (argmax if largest else argmin)(x, axis=axis, keepdims=keepdims)
    if missing(values).all(axis=along).any():
        with pytest.raises(DataError, match=f"along '{axis}'.*all are missing"):
            run(got)
        return
    want = (np.nanargmax if largest else np.nanargmin)(values, axis=along, keepdims=keepdims)
    same(got, want)
    assert got.dtype == np.int64


@SETTINGS
@given(x=arrays(smallest=1), axis=AXES, largest=st.booleans())
def test_a_missing_value_that_counts_is_the_extreme(x: xr.DataArray, axis: str, largest: bool) -> None:
    got = (argmax if largest else argmin)(x, axis=axis, skipna=False)
    same(got, (np.argmax if largest else np.argmin)(whole(x).values, axis=DIMS.index(axis)))


def test_there_is_no_place_in_nothing() -> None:
    with pytest.raises(DataError, match="no largest value along 'time', which has length 0"):
        argmax(lazy(np.empty((0, 2)), (0, 1)), axis="time")
    assert run(argmin(lazy(np.empty((0, 2)), (0, 1)), axis="y")).shape == (0,)


def test_the_place_among_infinities_and_times() -> None:
    x = lazy(np.array([[np.nan, -np.inf, -np.inf]]).T, (1, 1))
    assert run(argmax(x, axis="time")).values == [1]
    times = np.array([["NaT", "2001-01-02", "2001-01-01", "2001-01-02"]], "M8[s]").T
    assert run(argmax(lazy(times, (3, 1)), axis="time")).values == [1]
    assert run(argmin(lazy(times, (1, 1)), axis="time")).values == [2]


@SETTINGS
@given(x=ANY_ARRAY, axis=AXES, k=st.integers(-9, 9).filter(bool))
def test_the_largest_are_the_first_of_those_sorted(x: xr.DataArray, axis: str, k: int) -> None:
    values, along = whole(x).values, DIMS.index(axis)
    frame = pd.DataFrame(values if along == 0 else values.T)
    ordered = [frame[c].sort_values(ascending=k < 0, na_position="last").to_numpy()[: abs(k)] for c in frame]
    want = np.array(ordered, x.dtype).reshape(len(ordered), min(abs(k), x.shape[along]))
    got = topk(x, k=k, axis=axis)
    same(got, want.T if along == 0 else want)
    assert got.dtype == x.dtype
    assert axis not in got.coords


def test_topk_of_times_and_of_whole_numbers_at_their_limits() -> None:
    low, high = np.iinfo("int64").min, np.iinfo("int64").max
    x = lazy(np.array([[low, 0, high, -1]]).T, (1, 1))
    assert run(topk(x, k=2, axis="time")).values.tolist() == [[high], [0]]
    assert run(topk(x, k=-2, axis="time")).values.tolist() == [[low], [-1]]
    times = lazy(np.array([["2001", "NaT", "2003"]], "M8[us]").T, (2, 1))
    want = np.array([["2003"], ["2001"], ["NaT"]], "M8[us]")
    np.testing.assert_array_equal(run(topk(times, k=3, axis="time")), want)


@pytest.mark.parametrize(("op", "why"), [
    (lambda x: cumsum(x, axis="tim"), "axis: no dim 'tim'; dims: time, y; did you mean 'time'"),
    (lambda x: argmax(x, axis="z"), "axis: no dim 'z'"),
    (lambda x: topk(x, k=0, axis="time"), "k: got 0"),
    (lambda x: topk(x.astype(complex), k=1, axis="time"), "input: topk needs numbers with an order"),
    (lambda x: median(x.astype(complex)), "input: median needs numbers with an order"),
    (lambda x: median(x.astype("M8[s]")), "input: median needs numbers; the array has dtype datetime64"),
    (lambda x: cumsum(x.astype("U3"), axis="time"), "input: cumsum needs numbers; the array has dtype <U3"),
    (lambda x: histogram(x, bins=3), "range: is needed"),
    (lambda x: histogram(x, bins=3, range=[2, 2]), "range: got .2, 2.; both must be finite, and the first below"),
    (lambda x: histogram(x, bins=[0, 2, 2]), "bins: got .0, 2, 2.; write two edges or more"),
    (lambda x: histogram(x.rename(y="bin"), bins=[0, 1], axis="time"), "axis: the result has a dim 'bin'"),
    (lambda x: transpose(x, dims=["y"]), "dims: got y; name each of time, y once"),
    (lambda x: transpose(x, dims=["y", "z"]), "dims: no dim 'z'"),
    (lambda x: reshape(x, dims={"a": 4, "b": -1}, axis="time"), "dims: got 4 x ., but time has 70 values"),
    (lambda x: reshape(x, dims={"a": -1, "b": -1}), "dims: a and b are -1"),
    (lambda x: reshape(x, dims={"a": 5}), "dims: got 5, but time x y has 420 values"),
    (lambda x: reshape(x, dims={"y": 70}, axis="time"), "dims: the array already has a dim 'y'"),
    (lambda x: reshape(x, dims={"a": 70}, axis=["time", "time"]), "axis: got time, time; name each dim once"),
    (lambda x: pad(x, pad_width={"z": [0, 1]}), "pad_width: no dim 'z'"),
    (lambda x: pad(x.astype("int8"), pad_width={"y": [0, 1]}, constant_values=300), "constant_values: got 300, which"),
    (lambda x: pad(x.astype(int), pad_width={"y": [0, 1]}, constant_values=math.nan), "constant_values: got nan"),
    (lambda x: pad(x[:0], pad_width={"time": [0, 1]}, mode="edge"), "pad_width: 'time' has length 0"),
    (lambda x: roll(x, shift={"z": 1}), "shift: no dim 'z'"),
    (lambda x: coarsen(x, window={"time": 12}, agg="mean"), "window: 'time' has 70 positions, not a multiple.*10"),
    (lambda x: coarsen(x, window={"time": 10}, agg="std"), "agg: std needs ddof"),
    (lambda x: stack(x, x, dim="y"), "dim: the arrays already have a dim 'y'"),
    (lambda x: stack(x, x[:3], dim="z"), "input: the first array has 70 positions along 'time', number 2 has 3"),
    (lambda x: stack(x, x.rename(y="z"), dim="a"), r"input: the first array has the dims \(time, y\), number 2 has"),
    (lambda x: stack(x, x.assign_coords(y=range(6)), dim="z"), "input: labels along 'y' of number 2 differ"),
    (lambda x: stack(x, x.astype("M8[s]"), dim="z"), "input: arrays of float64 and datetime64.* no common dtype"),
    (lambda x: concatenate(x, x, axis="z"), "axis: no dim 'z'"),
    (lambda x: concatenate(x, x[:, :3], axis="time"), "input: the first array has 6 positions along 'y', number 2"),
    (lambda x: concatenate(x, x.assign_coords(time=range(70)), axis="time"), "axis: the labels 'time' of datetime64"),
])  # fmt: skip
def test_what_does_not_fit_is_said(op: Any, why: str) -> None:
    with pytest.raises(OpError, match=f"^{why}"):
        op(lazy(np.where(np.isnan(numbers()), 0, numbers())))


def test_joined_labels_stay_the_same_numbers() -> None:
    x, y, z = (
        lazy(numbers()[:2]).assign_coords(time=np.array(labels, dtype))
        for labels, dtype in (([2**62 + 1, -1], "i8"), ([5, 2**62 + 3], "u8"), ([2**64 - 1, 0], "u8"))
    )
    assert concatenate(x, y, axis="time").time.values.tolist() == [2**62 + 1, -1, 5, 2**62 + 3]
    with pytest.raises(OpError, match=f"the labels 'time' can't be joined: {2**64 - 1} is a value that int64"):
        concatenate(x, z, axis="time")


def test_a_length_that_only_the_run_knows_is_not_needed() -> None:
    data = lazy(numbers()).data
    x = xr.DataArray(da.Array(data.dask, data.name, ((math.nan,) * 7, (3, 3)), dtype=data.dtype), dims=["time", "y"])
    np.testing.assert_allclose(cumsum(x, axis="time").data.compute(scheduler="sync"), np.nancumsum(numbers(), axis=0))
    top = topk(x, k=2, axis="time").data.compute(scheduler="sync")
    np.testing.assert_array_equal(top, -np.sort(-numbers(), axis=0)[:2])


# ---------------------------------------------------------------------------------------------------------------------
# Bins
# ---------------------------------------------------------------------------------------------------------------------


@SETTINGS
@given(
    x=ANY_ARRAY,
    bins=st.one_of(st.integers(1, 8), st.sets(st.integers(-5, 10), min_size=2, max_size=6).map(sorted)),
    axis=st.sampled_from([None, "x", "y", ["x", "y"]]),
)
def test_bins_hold_what_numpys_hold(x: xr.DataArray, bins: Any, axis: Any) -> None:
    got = run(histogram(x, bins=bins, range=[-2, 3.5] if isinstance(bins, int) else None, axis=axis))
    edges = np.linspace(-2, 3.5, bins + 1) if isinstance(bins, int) else np.array(bins, "float64")
    values = whole(x).values.astype("float64")
    lanes = lanes_along(values, DIMS.index(axis) if isinstance(axis, str) else None)
    counts = [np.histogram(lane[~np.isnan(lane)], bins=edges)[0] for lane in lanes]
    want = np.array(counts, np.int64).reshape(len(lanes), len(edges) - 1).T
    np.testing.assert_array_equal(got, want.reshape(got.shape))
    assert got.dims[0] == "bin"
    np.testing.assert_array_equal(got["bin"], edges[:-1])
    np.testing.assert_array_equal(got["right"], edges[1:])


def test_the_last_bin_includes_its_right_edge_but_no_infinity() -> None:
    x = lazy(np.array([[0.0, 1.0, 2.0, np.inf, -np.inf, np.nan]]).T, (2, 1))
    assert run(histogram(x, bins=2, range=[0, 2])).values.tolist() == [1, 2]


# ---------------------------------------------------------------------------------------------------------------------
# Shapes
# ---------------------------------------------------------------------------------------------------------------------


@SETTINGS
@given(x=arrays(dims=("x", "y", "z"), largest=4), dims=st.one_of(st.none(), st.permutations("xyz")))
def test_dims_in_another_order(x: xr.DataArray, dims: list[str] | None) -> None:
    xr.testing.assert_identical(run(transpose(x, dims=dims)), whole(x).transpose(*(dims or ())))


@st.composite
def factors(draw: st.DrawFn, n: int) -> list[int]:
    """Sizes that multiply to ``n``."""
    sizes = []
    while n > 1 and len(sizes) < 3:
        size = draw(st.sampled_from([k for k in range(1, n + 1) if n % k == 0]))
        sizes.append(size)
        n //= size
    return [*sizes, n]


@SETTINGS
@given(data=st.data(), x=arrays(dims=("x", "y", "z"), largest=6, empty_chunks=True, dtypes=("int32", "float64")))
def test_values_under_new_dims_are_read_in_c_order(data: st.DataObject, x: xr.DataArray) -> None:
    axis = data.draw(st.lists(st.sampled_from("xyz"), min_size=1, unique=True))
    sizes = data.draw(factors(math.prod(x.sizes[dim] for dim in axis)))
    dims = {f"n{i}": n for i, n in enumerate(sizes)}
    others = [str(dim) for dim in x.dims if dim not in axis]
    at = min(x.dims.index(dim) for dim in axis)
    before = [dim for dim in others if x.dims.index(dim) < at]
    moved = whole(x).transpose(*before, *axis, *(dim for dim in others if dim not in before))
    shape = [x.sizes[dim] for dim in before] + sizes + [x.sizes[dim] for dim in others if dim not in before]
    given_dims = {**dims, "n0": -1} if math.prod(sizes[1:]) else dims
    got = run(reshape(x, dims=given_dims, axis=axis))
    np.testing.assert_array_equal(got, moved.values.reshape(shape))
    assert got.dims == (*before, *dims, *(dim for dim in others if dim not in before))
    assert set(got.coords) == set(x.coords) - set(axis)


def test_one_number_is_reshaped_and_back() -> None:
    x = xr.DataArray(da.from_array(np.float64(3.5)), dims=[])
    line = reshape(x, dims={"a": 1, "b": -1})
    assert run(line).values.tolist() == [[3.5]]
    assert run(reshape(line, dims={})).values == 3.5


def test_a_dim_is_split_without_a_rechunk_where_possible() -> None:
    x = xr.DataArray(da.arange(240, chunks=24), dims=["time"])
    got = reshape(x, dims={"year": -1, "month": 12}, axis="time")
    assert got.chunks == ((2,) * 10, (12,))
    assert not any("rechunk" in str(key) for key in got.data.dask)
    back = reshape(got, dims={"time": 240})
    assert back.chunks == x.chunks
    assert not any("rechunk" in str(key) for key in back.data.dask)


def test_reshape_does_not_bring_a_wide_array_into_one_chunk() -> None:
    x = xr.DataArray(da.zeros((2, 10_000), chunks=(2, 100)), dims=["a", "b"])
    got = reshape(x, dims={"c": -1})
    assert max(got.chunks[0]) <= 200
    assert run(got).shape == (20_000,)


MODES = ["constant", "edge", "reflect", "symmetric", "wrap"]


@SETTINGS
@given(
    x=arrays(dtypes=("float64", "int64", "bool"), empty_chunks=True, smallest=1),
    mode=st.sampled_from(MODES),
    widths=st.lists(st.integers(0, 9), min_size=4, max_size=4),
    value=st.sampled_from([0, 1]),
)
def test_padding_is_numpys(x: xr.DataArray, mode: str, widths: list[int], value: int) -> None:
    pad_width = {"x": widths[:2], "y": widths[2:]}
    options = {"constant_values": value} if mode == "constant" else {}
    want = np.pad(whole(x).values, list(pad_width.values()), mode=mode, **options)  # type: ignore[call-overload]
    got = pad(x, pad_width=pad_width, mode=mode, **options)
    same(got, want)
    assert not got.coords


def test_nothing_is_padded_with_a_constant() -> None:
    got = run(pad(lazy(np.empty((0, 2)), (0, 1)), pad_width={"time": [1, 2]}, constant_values=math.nan))
    assert got.shape == (3, 2)
    assert np.isnan(got).all()
    assert set(got.coords) == {"y"}


def test_a_shift_of_any_size_is_taken() -> None:
    x = xr.DataArray(np.arange(6), dims=["t"]).chunk({"t": 4})
    assert roll(x, shift={"t": 10**30 + 2}).values.tolist() == np.roll(np.arange(6), (10**30 + 2) % 6).tolist()


@SETTINGS
@given(x=ANY_ARRAY, shift=st.dictionaries(AXES, st.integers(-20, 20), min_size=1))
def test_rolling_round_leaves_labels_where_they_are(x: xr.DataArray, shift: dict[str, int]) -> None:
    want = whole(x).roll(shift, roll_coords=False)
    got = roll(x, shift=shift)
    xr.testing.assert_identical(run(got), want)
    assert got.chunks == x.chunks


# ---------------------------------------------------------------------------------------------------------------------
# Windows side by side
# ---------------------------------------------------------------------------------------------------------------------


@SETTINGS
@given(
    x=arrays(empty_chunks=True),
    window=st.dictionaries(AXES, st.integers(1, 4), min_size=1),
    agg=st.sampled_from(["sum", "mean", "min", "max", "count", "std", "var"]),
)
def test_windows_side_by_side_hold_what_pandas_finds_in_them(x: xr.DataArray, window: dict[str, int], agg: str) -> None:
    assume(x.dtype != bool or agg in ("sum", "count"))
    options = {"ddof": 0} if agg in ("std", "var") else {}
    got = coarsen(x, window=window, agg=agg, boundary="trim", **options)
    steps = [window.get(dim, 1) for dim in DIMS]
    sizes = [n // step for n, step in zip(x.shape, steps, strict=True)]
    cells = whole(x).values[: sizes[0] * steps[0], : sizes[1] * steps[1]]
    cells = cells.reshape(sizes[0], steps[0], sizes[1], steps[1]).transpose(0, 2, 1, 3)
    lanes = pd.DataFrame(cells.reshape(math.prod(sizes), math.prod(steps)))
    want = lanes.agg(agg, axis=1, **options).to_numpy() if lanes.size else np.empty(0)
    same(got, want.reshape(sizes), rtol=2e-5)
    for dim in x.coords:
        labels = whole(x)[dim].values[: sizes[DIMS.index(str(dim))] * window.get(str(dim), 1)]
        np.testing.assert_array_equal(got[dim], labels.reshape(-1, window.get(str(dim), 1)).mean(axis=1))


def test_a_windows_label_is_the_mean_time_or_the_first_text() -> None:
    times = pd.to_datetime(["2001-01-01", "2001-01-02", "2001-01-03", "NaT"])
    x = xr.DataArray(da.zeros(4), {"time": times, "name": ("time", list("abcd"))}, ["time"])
    got = coarsen(x, window={"time": 2}, agg="first")
    np.testing.assert_array_equal(got["time"], np.array(["2001-01-01T12:00", "NaT"], "M8[ns]"))
    assert got["name"].values.tolist() == ["a", "c"]


# ---------------------------------------------------------------------------------------------------------------------
# Several arrays
# ---------------------------------------------------------------------------------------------------------------------


@st.composite
def alike(draw: st.DrawFn) -> list[xr.DataArray]:
    """Arrays of the same shape and labels, each of a dtype and of chunks of its own."""
    first = draw(arrays(empty_chunks=True))
    made = [first]
    for _ in range(draw(st.integers(0, 3))):
        values = whole(first)
        if not missing(values.values).any():
            values = values.astype(draw(st.sampled_from(NUMBERS)))
        grid = tuple(draw(cut(n)) for n in first.shape)
        made.append(xr.DataArray(da.from_array(values.values, chunks=grid), first.coords, first.dims))
    return made


@SETTINGS
@given(several=alike(), turned=st.booleans())
def test_stacked_arrays_lie_side_by_side(several: list[xr.DataArray], turned: bool) -> None:
    others = [x.transpose() for x in several[1:]] if turned else several[1:]
    got = stack(several[0], *others, dim="z")
    want = np.stack([whole(x).values for x in several])
    same(got, want)
    assert got.dtype == want.dtype
    assert got.dims == ("z", "x", "y")
    assert set(got.coords) == set(several[0].coords)


@SETTINGS
@given(x=arrays(empty_chunks=True), axis=AXES, data=st.data())
def test_concatenated_parts_of_an_array_are_the_array(x: xr.DataArray, axis: str, data: st.DataObject) -> None:
    edges = list(itertools.accumulate(data.draw(cut(x.sizes[axis])), initial=0))
    pieces = [x.isel({axis: slice(a, b)}) for a, b in itertools.pairwise(edges)]
    got = concatenate(*pieces, axis=axis)
    xr.testing.assert_equal(run(got), whole(x))


def test_attributes_and_coordinates_that_differ_are_left_out() -> None:
    x = lazy(numbers()).assign_coords(run=1, height=("y", range(6)))
    other = x.assign_coords(run=2).assign_attrs(units="K", source="b")
    for got in (stack(x, other, dim="z"), concatenate(other, x, axis="time")):
        assert got.attrs == {"units": "K"}
        assert set(got.coords) == {"time", "y", "height"}
    assert set(concatenate(x, x.drop_vars("time"), axis="time").coords) == {"run", "y", "height"}


GATHERED = """
steps:
  a: {op: arange, stop: 4, chunks: 2, dim: x, dtype: int32, matrix: {%s}}
  together: {op: stack, input: "a[*]", dim: %s}
"""


def test_gathered_numbers_become_a_line(tmp_path: Path) -> None:
    text = """
    steps:
      a: {op: arange, stop: "${n}", dim: x, matrix: {n: [3, 5]}}
      m: {op: mean, input: a}
      line: {op: stack, input: "m[*]", dim: n}
    """
    got = values_of(text, tmp_path)["line"]
    assert got.values.tolist() == [1, 2]
    assert got["n"].values.tolist() == [3, 5]


@pytest.mark.parametrize(("matrix", "dim", "coords"), [
    ("run: [1, 10]", "run", {"run": [1, 10]}),
    ("run: [1, 0.5]", "model", {"model": [1.0, 0.5]}),
    ("run: [true, false]", "run", {"run": [True, False]}),
    ("run: [b, a]", "run", {"run": ["b", "a"]}),
    ("run: [b, 1]", "run", {"run": ["b", "1"]}),
    ("run: [1, 2], m: [a]", "z", {"z": ["run=1,m=a", "run=2,m=a"], "run": [1, 2], "m": ["a", "a"]}),
])  # fmt: skip
def test_gathered_copies_are_stacked_under_their_labels(
    matrix: str, dim: str, coords: dict[str, list[Any]], tmp_path: Path
) -> None:
    got = values_of(GATHERED % (matrix, dim), tmp_path)["together"]
    assert {name: got[name].values.tolist() for name in got.coords} == coords
    np.testing.assert_array_equal(got, [range(4)] * got.sizes[dim])


def test_gathered_copies_are_followed_and_joined(tmp_path: Path) -> None:
    text = """
    steps:
      a: {op: arange, stop: 3, dim: x, matrix: {fold: [1, 2], run: [1, 2]}}
      b: {expr: "a * 10 + ${fold}"}
      runs: {op: stack, input: "b[fold=*]", dim: fold}
      line: {op: concatenate, input: ["b[*]", "a[fold=1,run=1]"], axis: x}
      both: {op: stack, input: ["b[fold=1,run=1]", "a[fold=1,run=1]"], dim: z}
    """
    got = values_of(text, tmp_path)
    assert got["runs[1]"].fold.values.tolist() == [1, 2]
    np.testing.assert_array_equal(got["runs[2]"], [[1, 11, 21], [2, 12, 22]])
    np.testing.assert_array_equal(got["line"][3:], [1, 11, 21, 2, 12, 22, 2, 12, 22, 0, 1, 2])
    assert got["both"].shape == (2, 3)
    assert not got["both"].coords


def test_one_of_several_matrix_keys_is_no_name_for_their_dim(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dim: 'm' is one of several matrix keys; choose another name"):
        values_of(GATHERED % ("run: [1, 2], m: [a]", "m"), tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# In a file
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "int8", "bool", "float32"])
@pytest.mark.parametrize(("shape", "chunks"), [("{a: 5, b: 3}", "{a: 2}"), ("{a: 0}", "{a: 2}"), ("{a: 1}", "{}")])
def test_zeros_and_ones(dtype: str, shape: str, chunks: str, tmp_path: Path) -> None:
    made = f"shape: {shape}, dtype: {dtype}" + (f", chunks: {chunks}" if chunks != "{}" else "")
    got = values_of(f"steps:\n  z: {{op: zeros, {made}}}\n  o: {{op: ones, {made}}}", tmp_path)
    for name, value in (("z", 0), ("o", 1)):
        assert got[name].dtype == dtype
        assert (got[name] == value).all()
        assert str(dict(got[name].sizes)).replace("'", "") == shape


MOVING = {
    "median": "{op: median, input: x, axis: row}",
    "reshape": "{op: reshape, input: x, dims: {cell: -1}}",
    "coarsen": "{op: coarsen, input: x, window: {row: 20}, agg: mean}",
}


@pytest.mark.parametrize("op", MOVING)
def test_check_shows_the_bytes_that_are_moved(op: str, tmp_path: Path) -> None:
    text = f"""
version: 1
steps:
  x: {{op: zeros, shape: {{row: 100, col: 10}}, chunks: {{row: 30, col: 5}}}}
  y: {MOVING[op]}
"""
    config = loads(text, name="test", root=tmp_path)
    rows = {row.step: row for row in plan(config, build(config)).rows}
    assert rows["y"].moved == 8000
    assert rows["x"].moved is None


@pytest.mark.parametrize(("step", "why"), [
    ("{op: histogram, input: x, bins: 3}", "steps.y.bins: a number of bins needs range"),
    ("{op: histogram, input: x, bins: [0, 1], range: [0, 1]}", "steps.y.range: has no effect"),
    ("{op: pad, input: x, pad_width: {a: [1, 1]}, mode: wrap, constant_values: 1}", "constant_values: has no effect"),
    ("{op: roll, input: x, shift: {b: 1}}", "steps.y.shift: no dim 'b'; dims: a"),
    ("{op: stack, input: x, dim: a}", "steps.y.dim: the arrays already have a dim 'a'"),
])  # fmt: skip
def test_faults_stand_at_their_key(step: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why):
        values_of(f"steps:\n  x: {{op: zeros, shape: {{a: 3}}}}\n  y: {step}", tmp_path)
