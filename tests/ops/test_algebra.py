"""Products, equations and transforms, against numpy, for any chunks, dtypes and sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from serially import graph_of, values_of
from strategies import SETTINGS, arrays, cut

from pipeline.builder.build import build
from pipeline.builder.plan import plan
from pipeline.errors import ConfigError, DataError, OpError
from pipeline.ops.arrays.algebra import einsum, fft, matmul, solve, tensordot

DTYPES = ("float64", "float32", "int64", "int32", "uint8", "bool")


def computed(x: xr.DataArray) -> np.ndarray[Any, Any]:
    values = np.asarray(x.data.compute(scheduler="sync"))
    assert values.dtype == x.dtype
    assert values.shape == x.shape
    return values


def summed_as(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """In the dtype of its sum, which is a product's: whole numbers and truth values are int64 or uint64."""
    return values.astype(np.sum(np.empty(0, values.dtype)).dtype)


def chunked(draw: Any, values: np.ndarray[Any, Any], dims: str) -> xr.DataArray:
    return xr.DataArray(da.from_array(values, chunks=tuple(draw(cut(n)) for n in values.shape)), dims=dims.split())


def close(got: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> None:
    tolerance = 1e-4 if wanted.dtype in (np.float32, np.complex64) else 1e-11
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------------------------------------------------------
# Products
# ---------------------------------------------------------------------------------------------------------------------


@given(st.data())
@SETTINGS
def test_matmul_is_numpys_for_any_chunks(data: Any) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    x = data.draw(arrays(("t", "y", "x"), (dtype,), coords=False))
    t, _, n = x.shape
    values = np.random.default_rng(n).integers(0, 5, (n, t, data.draw(st.integers(0, 4)))).astype(dtype)
    y = chunked(data.draw, values, "x t z")
    left = summed_as(computed(x))
    got = matmul(x, y, axis="x")
    assert got.dims == ("t", "y", "z")
    close(computed(got), np.einsum("tyx,xtz->tyz", left, summed_as(values)))
    assert got.dtype == left.dtype
    assert matmul(x[:, :, :0], y[:0], axis="x").data.compute(scheduler="sync").sum() == 0


@given(st.data())
@SETTINGS
def test_tensordot_sums_over_the_dims_said(data: Any) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    x = data.draw(arrays(("t", "y", "x"), (dtype,)))
    y = x.transpose("y", "x", "t").rename(t="s").drop_vars("s", errors="ignore")
    y = y.copy(data=y.data.rechunk({1: 2}))
    values = summed_as(computed(x))
    got = tensordot(x, y)
    assert got.dims == ("t", "s")
    close(computed(got), np.einsum("tyx,syx->ts", values, values))
    assert set(got.coords) == set(x.coords) & {"t"}
    close(computed(tensordot(x, x)), np.einsum("tyx,tyx->", values, values))


@given(st.data())
@SETTINGS
def test_einsum_is_numpys_by_names(data: Any) -> None:
    dtype = data.draw(st.sampled_from((*DTYPES, "complex128")))
    x = data.draw(arrays(("y", "x"), (dtype,)))
    values = np.random.default_rng(1).integers(0, 5, (x.shape[1], 3)).astype(dtype)
    z = chunked(data.draw, values, "x z")
    a, b = summed_as(computed(x)), summed_as(values)
    close(computed(einsum(x, z, x, subscripts="y x, x z, y other -> other z")), np.einsum("yx,xz,yo->oz", a, b, a))
    close(computed(einsum(x, subscripts="y x -> x y")), a.T)
    close(computed(einsum(x, subscripts="y x ->")), np.asarray(a.sum()))
    square = einsum(x, x, subscripts="row x, row other -> x other")
    close(computed(square), a.T @ a)
    for name in ("x", "other"):
        assert (name in square.coords) == ("x" in x.coords)


def test_the_labels_of_a_product_are_those_of_its_dims() -> None:
    x = xr.DataArray(da.ones((2, 3)), {"x": [1, 2, 3], "run": 7, "half": ("y", [0, 1])}, ["y", "x"])
    y = xr.DataArray(da.ones((3, 2)), {"x": [1, 2, 3], "z": ["a", "b"]}, ["x", "z"])
    got = matmul(x, y)
    assert {name: c.values.tolist() for name, c in got.coords.items()} == {"run": 7, "half": [0, 1], "z": ["a", "b"]}


def test_missing_values_spread_through_a_product() -> None:
    x = xr.DataArray(da.from_array(np.array([[1, np.nan], [1, 1]])), dims=["y", "x"])
    got = computed(matmul(x, xr.DataArray(da.ones((2, 1)), dims=["x", "z"])))
    np.testing.assert_array_equal(got, [[np.nan], [2]])


FAULTS: dict[str, tuple[str, str]] = {
    "nothing is shared": (
        "{op: matmul, left: x, right: z}",
        "left: shares no dim with right: left has y, x, right has z",
    ),
    "several could be meant": (
        "{op: matmul, left: x, right: x}",
        "axis: left and right share the dims y, x",
    ),
    "no dim of left": ("{op: matmul, left: x, right: w, axis: z}", "axis: no dim 'z'; dims: y, x"),
    "no dim of right": ("{op: matmul, left: x, right: w, axis: y}", "axis: right has no dim 'y'; dims: x, z"),
    "other lengths": ("{op: matmul, left: x, right: 'w[x=0:2]'}", "right: has 2 positions along 'x', left has 3"),
    "one is left": ("{op: tensordot, left: x, right: x, axis: y}", "axis: left and right also share the dim 'x'"),
    "no arrow": ("{op: einsum, input: x, subscripts: 'y x'}", "subscripts: got 'y x'; write the dims of the result"),
    "lists": ("{op: einsum, input: [x, w], subscripts: 'y x -> y'}", "subscripts: got 1 lists of names for 2 inputs"),
    "names": ("{op: einsum, input: x, subscripts: 'y -> y'}", "subscripts: got 1 names for input 1; its dims: y, x"),
    "order": (
        "{op: einsum, input: x, subscripts: 'x y -> y'}",
        "'x' is another dim of input 1; the order of its dims: y x",
    ),
    "twice": ("{op: einsum, input: x, subscripts: 'y y -> y'}", "subscripts: got 'y' twice in 'y y'"),
    "letters": ("{op: einsum, input: x, subscripts: 'y i* -> y'}", "subscripts: 'i*' is not a valid name of a dim"),
    "result": ("{op: einsum, input: x, subscripts: 'y x -> z'}", "subscripts: no input has the dim 'z' of the result"),
    "no square": ("{op: solve, left: x, right: z}", "left: solve needs a square matrix, got {'y': 2, 'x': 3}"),
    "no rows": ("{op: solve, left: s, right: x}", "right: has 0 of the dims of left (a, b); it must have one"),
    "no such axis": ("{op: fft, input: x, axis: t}", "axis: no dim 't'; dims: y, x"),
    "components": ("{op: svd_compressed, input: x, k: 3}", "k: got 3, but 'y' has 2 positions"),
    "one dim": ("{op: qr, input: z}", "input: qr needs two dims, got z"),
    "axis twice": ("{op: svd_compressed, input: x, k: 1, axis: [x, x]}", "axis: got 'x' twice"),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_what_does_not_fit_is_refused_where_it_stands(name: str, tmp_path: Path) -> None:
    step, message = FAULTS[name]
    text = f"""
    steps:
      x: {{op: random, shape: {{y: 2, x: 3}}}}
      w: {{op: random, shape: {{x: 3, z: 2}}}}
      z: {{op: random, shape: {{z: 2}}}}
      s: {{op: random, shape: {{a: 2, b: 2}}}}
      r: {step}
    """
    with pytest.raises(ConfigError) as caught:
        graph_of(text, tmp_path)
    assert message in str(caught.value).replace("steps.r.", "")


def test_other_labels_are_refused() -> None:
    x = xr.DataArray(da.ones((2, 2)), {"x": [1, 2]}, ["y", "x"])
    y = xr.DataArray(da.ones((2, 2)), {"x": [1, 3]}, ["x", "z"])
    for product in (matmul, tensordot):
        with pytest.raises(OpError, match="right: labels along 'x' differ from those of left"):
            product(x, y)
    plain = y.drop_vars("x")
    with pytest.raises(OpError, match="input 3: labels along 'x' differ from those of input 2"):
        einsum(plain, x, y, subscripts="x z, y x, x z -> y")
    with pytest.raises(OpError, match="right: labels along 'x' differ from those of left"):
        solve(x, y)


# ---------------------------------------------------------------------------------------------------------------------
# Equations and frequencies
# ---------------------------------------------------------------------------------------------------------------------


@given(st.data())
@SETTINGS
def test_solve_is_numpys_for_any_chunks(data: Any) -> None:
    dtype = data.draw(st.sampled_from(("float64", "float32", "int64", "complex128")))
    n = data.draw(st.integers(0, 5))
    matrix = (np.random.default_rng(n).integers(-3, 3, (n, n)) + 20 * np.eye(n)).astype(dtype)
    values = np.random.default_rng(1).integers(0, 9, (2, n, data.draw(st.integers(0, 3)))).astype(dtype)
    left, right = chunked(data.draw, matrix, "row col"), chunked(data.draw, values, "t row z")
    got = solve(left.assign_coords(col=np.arange(n)), right)
    assert got.dims == ("t", "col", "z")
    close(computed(got), np.linalg.solve(matrix, values))
    assert list(got.coords) == ["col"]
    close(computed(solve(left.transpose(), right[:, :, :1].isel(t=0))), np.linalg.solve(matrix, values[0, :, :1]))


def test_a_singular_matrix_fails_its_task() -> None:
    x = solve(xr.DataArray(da.zeros((2, 2)), dims=["a", "b"]), xr.DataArray(da.ones(2), dims=["a"]))
    with pytest.raises(DataError, match="left is a singular matrix"):
        x.data.compute(scheduler="sync")


@given(st.data())
@SETTINGS
def test_fft_is_numpys_and_comes_back(data: Any) -> None:
    dtype = data.draw(st.sampled_from((*DTYPES, "complex64")))
    x = data.draw(arrays(("y", "x"), (dtype,), smallest=1, missing=False))
    axis = data.draw(st.sampled_from(["y", "x"]))
    n = data.draw(st.sampled_from([None, 1, 4, 9]))
    number = x.dims.index(axis)
    values = computed(x)
    there = fft(x, axis=axis, n=n)
    close(computed(there), np.fft.fft(values, n, number))
    np.testing.assert_allclose(there[f"freq_{axis}"], np.fft.fftfreq(n or x.sizes[axis]))
    back = fft(there, axis=f"freq_{axis}", inverse=True)
    assert back.dims == x.dims
    assert axis not in back.coords
    if n is None:
        close(computed(back).real, values.real.astype(back.real.dtype))


def test_frequencies_of_nothing_are_refused() -> None:
    with pytest.raises(OpError, match="axis: 'x' has length 0"):
        fft(xr.DataArray(da.zeros(0), dims=["x"]), axis="x")
    assert fft(xr.DataArray(da.zeros(0), dims=["x"]), axis="x", n=4).shape == (4,)
    with pytest.raises(OpError, match="axis: the dim of the result would be 'freq_x'"):
        fft(xr.DataArray(da.zeros((2, 2)), dims=["x", "freq_x"]), axis="x")


def test_what_needs_one_chunk_shows_the_bytes_that_are_moved(tmp_path: Path) -> None:
    text = """
    version: 1
    steps:
      x: {op: random, shape: {row: 100, col: 10}, chunks: {row: 10, col: 5}}
      s: {op: random, shape: {a: 10, row: 10}, chunks: {a: 5, row: 5}}
      f: {op: fft, input: x, axis: row}
      q: {op: qr, input: x}
      e: {op: solve, left: s, right: s[a=0]}
      m: {op: matmul, left: x, right: x, axis: row}
    """.replace("s[a=0]", '"s[a=0]"')
    from pipeline.config.loader import loads

    config = loads(text, name="t", root=tmp_path)
    rows = {row.step: row.moved for row in plan(config, build(config)).rows}
    assert (rows["f"], rows["q"], rows["m"]) == (8000, 8000, None)
    assert rows["e"] == 800 + 800


def test_a_gathered_step_is_a_list_of_inputs(tmp_path: Path) -> None:
    text = """
    steps:
      short: {op: arange, matrix: {m: [0, 1]}, start: "${m}", stop: 3, step: 1.5, dim: x}
      r: {op: einsum, input: "short[*]", subscripts: "x, x ->"}
    """
    assert values_of(text, tmp_path)["r"] == 0 * 1 + 1.5 * 2.5
