"""Array ops on arrays of any shape, chunks and dtype, with values missing: the same as numpy, pandas and xarray."""

from __future__ import annotations

import math
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from named_ops import arrays as array
from strategies import SETTINGS, arrays, cut
from test_array_ops import run

from pipeline.config.expressions.expression import parse
from pipeline.errors import DataError, OpError

DIMS = ("x", "y")
ANY_ARRAY = arrays(empty_chunks=True)
SOME_AXIS = st.sampled_from([None, "x", "y", ["y", "x"]])
FAMILIES = [["sum", "mean"], ["min", "max"], ["any", "all"], ["std", "var"], ["count", "first", "last"]]


def whole(x: xr.DataArray) -> np.ndarray:
    values: np.ndarray = x.compute(scheduler="sync").values
    return values


def missing(values: np.ndarray) -> np.ndarray:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)


def rows_along(values: np.ndarray, axis: Any) -> np.ndarray:
    """The values of two dims as a table: what is reduced along ``axis`` lies in one row."""
    return values.T if axis == "x" else values if axis == "y" else values.reshape(1, values.size)


def close(got: xr.DataArray, want: Any) -> None:
    want = np.asarray(want)
    rtol = 2e-5 if np.float32 in (got.dtype, want.dtype) else 1e-9
    np.testing.assert_allclose(run(got).values, want.reshape(got.shape), rtol=rtol, atol=rtol)


def valued(values: np.ndarray, chunks: Any = 1, **coords: Any) -> xr.DataArray:
    dims = DIMS[: values.ndim]
    return xr.DataArray(da.from_array(values, chunks=chunks), coords, dims)


# ---------------------------------------------------------------------------------------------------------------------
# What one row comes to, as pandas and numpy have it
# ---------------------------------------------------------------------------------------------------------------------


def aggregate(row: np.ndarray, agg: str, *, skipna: bool = True, ddof: int = 0) -> Any:
    """The aggregate of some values, said once more, slowly."""
    there = row[~missing(row)]
    left = there if skipna else row
    lost = not skipna and len(there) < len(row)
    if agg == "count":
        return len(left)
    if agg in ("sum", "any", "all"):
        return getattr(np, agg)(left)
    if agg in ("std", "var"):
        return np.nan if lost or len(left) <= ddof else getattr(left.astype("float64"), agg)(ddof=ddof)
    if not len(left) or (lost and agg not in ("first", "last")):
        return np.nan
    if agg in ("first", "last"):
        return left[0 if agg == "first" else -1]
    return getattr(left.astype("float64") if agg == "mean" else left, agg)()


def aggregates(table: np.ndarray, agg: str, **how: Any) -> np.ndarray:
    return np.array([aggregate(row, agg, **how) for row in table])


# ---------------------------------------------------------------------------------------------------------------------
# Reductions
# ---------------------------------------------------------------------------------------------------------------------


@SETTINGS
@given(x=ANY_ARRAY, axis=SOME_AXIS, skipna=st.booleans(), keepdims=st.booleans(), data=st.data())
@pytest.mark.parametrize("family", FAMILIES[:3])
def test_reductions(
    family: list[str], x: xr.DataArray, axis: Any, skipna: bool, keepdims: bool, data: st.DataObject
) -> None:
    op = data.draw(st.sampled_from(family))
    function = getattr(array, op)
    table = rows_along(whole(x), axis)
    if op in ("min", "max") and not table.shape[1]:
        with pytest.raises(DataError, match="which has length 0"):
            function(x, axis=axis)
        return
    got = function(x, axis=axis, skipna=skipna, keepdims=keepdims)
    close(got, aggregates(table, op, skipna=skipna))
    reduced = [axis] if isinstance(axis, str) else axis or DIMS
    assert got.dims == tuple(dim for dim in DIMS if keepdims or dim not in reduced)
    assert set(got.coords) == set(x.coords) - set(reduced)
    if op == "mean":
        assert got.dtype == (x.dtype if x.dtype.kind == "f" else np.float64)
    else:
        assert got.dtype == getattr(np, op)(np.ones(1, x.dtype)).dtype


@SETTINGS
@given(op=st.sampled_from(["std", "var"]), x=ANY_ARRAY, axis=SOME_AXIS, skipna=st.booleans(), ddof=st.integers(0, 2))
def test_deviations(op: str, x: xr.DataArray, axis: Any, skipna: bool, ddof: int) -> None:
    got = getattr(array, op)(x, axis=axis, skipna=skipna, ddof=ddof)
    close(got, aggregates(rows_along(whole(x), axis), op, skipna=skipna, ddof=ddof))


@SETTINGS
@given(x=ANY_ARRAY, axis=SOME_AXIS, skipna=st.booleans(), data=st.data())
def test_weighted_means(x: xr.DataArray, axis: Any, skipna: bool, data: st.DataObject) -> None:
    dims = data.draw(st.sampled_from([("x",), ("y",), ("x", "y"), ("y", "x")]))
    shape = tuple(x.sizes[dim] for dim in dims)
    weights = (
        np.random.default_rng(x.size).integers(0, 4, shape).astype(data.draw(st.sampled_from(["int64", "float32"])))
    )
    grid = tuple(data.draw(cut(n)) for n in shape)
    w = xr.DataArray(da.from_array(weights, chunks=grid), dims=dims)
    values = whole(x).astype("float64")
    spread = np.broadcast_to(
        weights.T if dims == ("y", "x") else weights[:, None] if dims == ("x",) else weights, x.shape
    )
    valid = ~np.isnan(values) if skipna else np.ones(x.shape, bool)
    sums = [rows_along(np.where(valid, part, 0), axis).sum(axis=1) for part in (values * spread, spread)]
    with np.errstate(invalid="ignore"):
        want = sums[0] / sums[1].astype("float64")
    close(array.average(x, w, axis=axis, skipna=skipna), want)


FRACTIONS = st.sampled_from([0, 0.05, 0.25, 0.5, 0.9, 1])


@SETTINGS
@given(
    x=ANY_ARRAY,
    q=st.one_of(FRACTIONS, st.lists(FRACTIONS, min_size=1, max_size=3)),
    axis=st.sampled_from(["x", "y", ["y", "x"]]),
    skipna=st.booleans(),
)
def test_quantiles(x: xr.DataArray, q: Any, axis: Any, skipna: bool) -> None:
    got = array.quantile(x, q=q, axis=axis, skipna=skipna)
    table = rows_along(whole(x).astype("float64"), axis)
    wanted = q if isinstance(q, list) else [q]
    want = [
        np.nan if not len(row) or (not skipna and np.isnan(row).any()) else pd.Series(row).quantile(each)
        for each in wanted
        for row in table
    ]
    close(got, np.array(want))
    assert got["quantile"].values.tolist() == q


@pytest.mark.parametrize(("op", "want"), [
    ("sum", 5), ("mean", 5), ("min", 5), ("max", 5), ("any", True), ("all", True), ("std", 0), ("var", 0),
])  # fmt: skip
@pytest.mark.parametrize("dtype", ["float64", "int32", "bool"])
def test_one_number_is_reduced_to_itself(op: str, want: Any, dtype: str) -> None:
    options = {"ddof": 0} if op in ("std", "var") else {}
    got = run(getattr(array, op)(valued(np.array(5, dtype)), **options))
    assert got.shape == ()
    assert got == (min(want, 1) if dtype == "bool" else want)


@pytest.mark.parametrize(("op", "want"), [
    ("sum", 2 + 2j), ("mean", 1 + 1j), ("std", math.sqrt(2)), ("var", 2), ("any", True), ("all", False),
])  # fmt: skip
def test_complex_numbers_are_added_up(op: str, want: Any) -> None:
    options = {"ddof": 0} if op in ("std", "var") else {}
    got = run(getattr(array, op)(valued(np.array([2 + 2j, 0, np.nan])), **options))
    assert got.values == pytest.approx(want)


@pytest.mark.parametrize("op", ["sum", "mean", "min", "max", "std", "any", "all"])
def test_a_length_that_only_the_run_knows_is_reduced(op: str) -> None:
    values = np.random.default_rng(3).normal(size=(20, 3))
    x = uncounted(values, (6, 2))
    options = {"ddof": 1} if op == "std" else {}
    for axis in ("x", "y", None):
        got = getattr(array, op)(x, axis=axis, **options)
        want = getattr(np, op)(values, axis={"x": 0, "y": 1}.get(axis), **options)  # type: ignore[arg-type]
        np.testing.assert_allclose(got.data.compute(scheduler="sync"), want)


def uncounted(values: np.ndarray, chunks: Any) -> xr.DataArray:
    """An array whose number of rows is unknown until run time."""
    data = da.from_array(values, chunks=chunks, name="uncounted")
    rows = (math.nan,) * data.numblocks[0]
    return xr.DataArray(da.Array(data.dask, data.name, (rows, *data.chunks[1:]), dtype=data.dtype), dims=DIMS)


def test_average_over_rows_of_unknown_number_some_chunks_empty() -> None:
    values = np.random.default_rng(4).normal(size=(5, 3))
    x = uncounted(values, ((2, 0, 3), (2, 1)))
    weights = valued(np.array([1.0, 2.0, 4.0])).rename(x="y")
    got = array.average(x, weights, axis="y").data.compute(scheduler="sync")
    np.testing.assert_allclose(got, np.average(values, axis=1, weights=[1, 2, 4]))
    assert array.max(x).data.compute(scheduler="sync") == values.max()
    assert array.min(x, axis="x", keepdims=True).data.compute(scheduler="sync").shape == (1, 3)


def test_rows_of_which_none_is_left_have_no_largest() -> None:
    with pytest.raises(DataError, match="no smallest or largest value of an empty array: no row is left"):
        array.max(uncounted(np.empty((0, 2)), ((0, 0), (2,))), axis="x").data.compute(scheduler="sync")


def test_quantiles_among_infinities() -> None:
    x = valued(np.array([np.inf, np.inf, -np.inf, np.nan]))
    assert run(array.quantile(x, q=[0, 0.5, 0.75, 1], axis="x")).values.tolist() == [-np.inf, np.inf, np.inf, np.inf]


# ---------------------------------------------------------------------------------------------------------------------
# Groups, periods, windows
# ---------------------------------------------------------------------------------------------------------------------


def holes(counts: list[int], agg: str, dtype: np.dtype[Any]) -> bool:
    """Whether an aggregate of whole numbers becomes float64, since some of the groups hold nothing."""
    return dtype.kind in "biu" and 0 in counts and agg in ("min", "max", "first", "last")


@SETTINGS
@given(
    x=ANY_ARRAY,
    axis=st.sampled_from(DIMS),
    skipna=st.booleans(),
    labels=st.lists(st.sampled_from([2.5, -1.0, 0.0, math.nan]), min_size=7, max_size=7),
    data=st.data(),
)
@pytest.mark.parametrize("family", FAMILIES)
def test_groups(
    family: list[str], x: xr.DataArray, axis: str, skipna: bool, labels: list[float], data: st.DataObject
) -> None:
    agg = data.draw(st.sampled_from(family))
    zone = np.array(labels[: x.sizes[axis]])
    x = x.assign_coords(zone=(axis, zone))
    options = {"ddof": 1} if agg in ("std", "var") else {}
    got = array.groupby(x, by=parse("zone", "coords"), agg=agg, skipna=skipna, **options)
    groups = [g for g in (-1.0, 0.0, 2.5) if g in zone] + [math.nan] * bool(np.isnan(zone).any())
    table = rows_along(whole(x), axis)
    members = [np.isnan(zone) if math.isnan(g) else zone == g for g in groups]
    want = [aggregates(table[:, each], agg, skipna=skipna, **options) for each in members]
    places = np.array(want).reshape(len(groups), len(table))
    close(got, places if axis == "x" else places.T)
    np.testing.assert_array_equal(got["zone"], groups)
    assert got.dims == (("zone", "y") if axis == "x" else ("x", "zone"))


@SETTINGS
@given(
    x=arrays(smallest=1, empty_chunks=True),
    hours=st.lists(st.integers(0, 100), min_size=7, max_size=7),
    rule=st.sampled_from(["D", "12h", "3D", "MS"]),
    data=st.data(),
)
@pytest.mark.parametrize("family", FAMILIES)
def test_periods(family: list[str], x: xr.DataArray, hours: list[int], rule: str, data: st.DataObject) -> None:
    agg = data.draw(st.sampled_from(family))
    times = pd.Timestamp("2001-01-30") + pd.to_timedelta(sorted(hours[: x.sizes["x"]]), "h")
    x = x.assign_coords(x=times)
    options = {"ddof": 0} if agg in ("std", "var") else {}
    got = array.resample(x, rule={"x": rule}, agg=agg, **options)
    rows = pd.Series(range(len(times)), times).resample(rule)
    values = whole(x)
    want = [aggregates(values[members.to_numpy()].T, agg, **options) for _, members in rows]
    close(got, np.array(want))
    assert (got["x"].values == rows.count().index.values).all()
    counts = rows.count().tolist()
    if agg in ("min", "max", "first", "last"):
        assert got.dtype == (np.float64 if holes(counts, agg, x.dtype) else x.dtype)


@SETTINGS
@given(
    x=arrays(smallest=1, empty_chunks=True),
    axis=st.sampled_from(DIMS),
    center=st.booleans(),
    data=st.data(),
)
@pytest.mark.parametrize("family", FAMILIES)
def test_moving_windows(family: list[str], x: xr.DataArray, axis: str, center: bool, data: st.DataObject) -> None:
    agg = data.draw(st.sampled_from(family))
    n = data.draw(st.integers(1, x.sizes[axis]))
    least = data.draw(st.one_of(st.none(), st.integers(1, n)))
    options = {"ddof": 1} if agg in ("std", "var") else {}
    got = array.rolling(x, window={axis: n}, agg=agg, center=center, min_periods=least, **options)
    table = rows_along(whole(x), axis).astype(x.dtype if x.dtype.kind == "f" else "float64")
    behind = n // 2 if center else n - 1
    want = np.full(table.shape, np.nan)
    for i, row in enumerate(table):
        for k in range(len(row)):
            window = row[max(k - behind, 0) : k - behind + n]
            if (~np.isnan(window)).sum() >= (n if least is None else least):
                want[i, k] = aggregate(window, agg, **options)
    close(got, want if axis == "y" else want.T)
    assert got.dtype == table.dtype
    assert got.chunks == x.chunks


# ---------------------------------------------------------------------------------------------------------------------
# Labels and chunks
# ---------------------------------------------------------------------------------------------------------------------


@SETTINGS
@given(x=ANY_ARRAY, data=st.data())
def test_other_chunks_hold_the_same(x: xr.DataArray, data: st.DataObject) -> None:
    chunks = {
        dim: data.draw(st.one_of(st.integers(1, 9), st.just(-1), cut(x.sizes[dim]).map(list)))
        for dim in data.draw(st.sets(st.sampled_from(DIMS)))
    }
    got = array.rechunk(x, chunks=chunks)
    xr.testing.assert_equal(run(got), x.compute(scheduler="sync"))
    for dim, size in chunks.items():
        sizes = got.chunksizes[dim]
        if isinstance(size, list):
            assert list(sizes) == size
        else:
            assert set(sizes[:-1]) <= {size}
            assert sizes[-1] <= (size if size > 0 else x.sizes[dim])


@SETTINGS
@given(
    x=arrays(smallest=1, empty_chunks=True), ends=st.tuples(st.integers(-5, 65), st.integers(-5, 65)), one=st.booleans()
)
def test_labels_pick_what_xarray_picks(x: xr.DataArray, ends: tuple[int, int], one: bool) -> None:
    x = x.assign_coords(x=np.arange(x.sizes["x"]) * 10)
    held = x.compute(scheduler="sync")
    want: Any = ends[0] if one else slice(*ends)
    if (one and ends[0] not in held["x"]) or (not one and not held.sel(x=want).sizes["x"]):
        with pytest.raises(OpError, match=r"labels: .* 'x' has the labels 0 to"):
            array.sel(x, labels={"x": ends[0] if one else list(ends)})
        return
    got = array.sel(x, labels={"x": ends[0] if one else list(ends)})
    xr.testing.assert_equal(run(got), held.sel(x=want))


@SETTINGS
@given(x=arrays(smallest=1, empty_chunks=True, coords=False), data=st.data())
def test_take_gathers_what_xarray_gathers(x: xr.DataArray, data: st.DataObject) -> None:
    labels = np.random.default_rng(x.size).permutation(x.sizes["x"]) * 10
    x = x.assign_coords(x=labels)
    wanted = data.draw(st.lists(st.sampled_from(labels.tolist()), max_size=9))
    chunks = data.draw(cut(len(wanted)))
    like = xr.DataArray(da.zeros(len(wanted), chunks=(chunks,)), {"zone": ("t", np.array(wanted, int))}, ["t"])
    got = array.take(x, like, at={"x": parse("zone", "coords")})
    want = x.compute(scheduler="sync").sel(x=xr.DataArray(np.array(wanted, int), dims="t"))
    np.testing.assert_array_equal(run(got), want)
    assert got.dims == ("t", "y")
    assert got.chunksizes["t"] == chunks


# ---------------------------------------------------------------------------------------------------------------------
# Functions over blocks, decompositions
# ---------------------------------------------------------------------------------------------------------------------


def turned(block: np.ndarray, by: int) -> np.ndarray:
    return block.T * by


def totals(block: np.ndarray) -> np.ndarray:
    return block.sum(axis=0, dtype="float64")


@SETTINGS
@given(x=ANY_ARRAY)
def test_a_function_gets_every_block_once(x: xr.DataArray) -> None:
    dtype = str((np.ones(1, x.dtype) * 3).dtype)
    got = array.map_blocks(x, function="test_array_properties:turned", dtype=dtype, args={"by": 3}, dims=["y", "x"])
    np.testing.assert_array_equal(run(got), whole(x).T * 3)
    assert got.chunks == x.chunks[::-1]
    less = array.map_blocks(x, function="test_array_properties:totals", dtype="float64", dims=["y"])
    close(less, whole(x).sum(axis=0, dtype="float64"))


@SETTINGS
@given(x=arrays(smallest=1, missing=False, coords=False), data=st.data())
def test_factors_multiply_to_the_matrix_whatever_its_chunks(x: xr.DataArray, data: st.DataObject) -> None:
    u, s, v = (run(array.svd(x).parts[name]) for name in "usv")
    rtol = 1e-5 if x.dtype == np.float32 else 1e-12
    np.testing.assert_allclose((u.values * s.values) @ v.values, whole(x), atol=rtol * 100)
    np.testing.assert_allclose(u.values.T @ u.values, np.eye(len(s)), atol=rtol * 10)
    assert (np.diff(s) <= 0).all()
    other = array.svd(array.rechunk(x, chunks={dim: list(data.draw(cut(n))) for dim, n in x.sizes.items()}))
    np.testing.assert_allclose(run(other.parts["s"]), s, atol=rtol * 100)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_an_empty_matrix_has_no_factors(shape: tuple[int, int]) -> None:
    parts = array.svd(valued(np.empty(shape), (2, 2))).parts
    assert run(parts["s"]).shape == (0,)
    assert run(parts["u"]).shape == (shape[0], 0)
    assert run(parts["v"]).shape == (0, shape[1])
