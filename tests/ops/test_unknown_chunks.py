"""Dims of unknown length: an op gives the same result as for known lengths, or an error says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from serially import graph_of, values_of
from strategies import EXAMPLES, SETTINGS, arrays, cut

from pipeline.builder.build import build
from pipeline.builder.plan import plan
from pipeline.config.loader import loads
from pipeline.errors import ConfigError, DataError, OpError
from pipeline.ops.arrays.algebra import einsum, fft
from pipeline.ops.arrays.block_tasks import per_block
from pipeline.ops.arrays.blocks import rechunk
from pipeline.ops.arrays.decompositions import svd
from pipeline.ops.arrays.dims import pick_positions
from pipeline.ops.arrays.overlap import BOUNDARIES, map_overlap
from pipeline.ops.arrays.quantiles import median, quantile
from pipeline.ops.arrays.reductions import average
from pipeline.ops.arrays.reshaping import pad, reshape, roll
from pipeline.ops.arrays.scans import argmax, argmin
from pipeline.ops.arrays.stacking import concatenate, stack
from pipeline.ops.arrays.windows import coarsen, rolling

ANY_ARRAY = arrays(coords=False, empty_chunks=True)
MODES = ("edge", "reflect", "symmetric", "wrap")


def floats(x: xr.DataArray) -> xr.DataArray:
    """Its values as floats, 0 where they are missing."""
    return xr.DataArray(per_block(x.data, "floats", _floats, dtype=np.dtype(float)), dims=x.dims)


def _floats(block: np.ndarray) -> np.ndarray:
    return np.nan_to_num(block.astype(float))


def twice(x: xr.DataArray) -> xr.DataArray:
    return xr.DataArray(per_block(floats(x).data, "twice", np.multiply, 2.0), dims=x.dims)


# Each on an array with the dims x and y, of which the length of x is known or not, and a number from 0 on.
OPS: dict[str, Callable[[xr.DataArray, int], xr.DataArray]] = {
    "argmax": lambda x, n: argmax(x, axis="x", skipna=n > 2, keepdims=n == 1),
    "argmin": lambda x, n: argmin(x, axis="x", skipna=n > 2),
    "coarsen": lambda x, n: coarsen(x, window={"x": n // 2 + 1, "y": 1}, agg="mean"),
    "coarsen and trim": lambda x, n: coarsen(x, window={"x": n + 1}, agg="sum", boundary="trim"),
    "concatenate along it": lambda x, n: concatenate(x, floats(x), axis="x"),
    "concatenate beside it": lambda x, n: concatenate(x, twice(x), axis="y"),
    "einsum": lambda x, n: einsum(x, twice(x), subscripts="x y, x z -> y z"),
    "fft": lambda x, n: fft(x, axis="x", n=n or None).drop_vars("freq_x", errors="ignore"),
    "map_overlap": lambda x, n: map_overlap(
        floats(x), function="numpy:negative", depth={"x": n}, boundary=BOUNDARIES[n % 4], dtype="float64"
    ),
    "median": lambda x, n: median(x, axis="x", keepdims=n == 1),
    "pad with a constant": lambda x, n: pad(x, pad_width={"x": [n, 1], "y": [0, 1]}, constant_values=1),
    "pad with what is there": lambda x, n: pad(x, pad_width={"x": [n, 2]}, mode=MODES[n % 4]),
    "quantile": lambda x, n: quantile(x, q=[0.2, n / 6], axis=["x", "y"]),
    "rechunk": lambda x, n: rechunk(x, chunks={"x": -1}),
    "reshape to one dim": lambda x, n: reshape(x, dims={"cell": -1}),
    "reshape to a fixed shape": lambda x, n: reshape(x, dims={"a": n, "b": 2}, axis=["x", "y"]),
    "reshape, splitting": lambda x, n: reshape(x, dims={"a": -1, "b": n}, axis="x"),
    "roll": lambda x, n: roll(x, shift={"x": 3 * n - 7, "y": 1}),
    "rolling": lambda x, n: rolling(x, window={"x": n + 1}, agg="mean", center=n > 2, min_periods=1),
    "stack": lambda x, n: stack(x, twice(x), dim="z"),
    "svd of a wide one": lambda x, n: svd(floats(x).transpose("y", "x")).parts["s"],
}


def late(x: xr.DataArray) -> xr.DataArray:
    """The same, but nobody knows how long it is along x."""
    chunks = ((np.nan,) * x.data.numblocks[0], *x.data.chunks[1:])
    return xr.DataArray(da.Array(x.data.dask, x.data.name, chunks, dtype=x.dtype), dims=x.dims)


def outcome(op: Callable[..., xr.DataArray], *args: Any) -> Any:
    """The values and dims; or what is wrong, without the parameter that a fault of the file names first."""
    try:
        found = op(*args)
        with np.errstate(all="ignore"):
            return found.dims, found.data.compute(scheduler="sync")
    except (OpError, DataError) as error:
        return str(error).removeprefix("axis: ").removeprefix("pad_width: ").removeprefix("dims: ")


def assert_same(got: Any, want: Any) -> None:
    if isinstance(want, str):
        assert isinstance(got, str)
        assert got.removeprefix("window: ") == want.removeprefix("window: ")
        return
    assert not isinstance(got, str), got
    assert got[0] == want[0]
    assert got[1].dtype == want[1].dtype
    np.testing.assert_allclose(got[1], want[1], rtol=1e-6, atol=1e-9)


@settings(SETTINGS, max_examples=3 * EXAMPLES)
@given(x=ANY_ARRAY, n=st.integers(0, 5), name=st.sampled_from(sorted(OPS)))
def test_an_op_gives_what_it_gives_where_the_length_is_known(x: xr.DataArray, n: int, name: str) -> None:
    assert_same(outcome(OPS[name], late(x), n), outcome(OPS[name], x, n))


PAIRS: dict[str, Callable[[xr.DataArray, xr.DataArray], xr.DataArray]] = {
    "stack": lambda x, y: stack(x, y, dim="z"),
    "concatenate": lambda x, y: concatenate(x, y, axis="y"),
    "average": lambda x, y: average(x, y, axis="x"),
    "average along the other dim": lambda x, y: average(x, y, axis="y"),
    "a product": lambda x, y: einsum(x, y, subscripts="x y, x y -> x y"),
    "a sum of products": lambda x, y: einsum(x, y, subscripts="x y, x z -> y z"),
}


def chunked(values: np.ndarray, sizes: tuple[int, ...]) -> xr.DataArray:
    data = da.from_array(values, chunks=(sizes, 2), name=f"x-{tokenize(values, sizes)}")
    return xr.DataArray(data, dims=["x", "y"])


@settings(SETTINGS, max_examples=2 * EXAMPLES)
@given(data=st.data(), name=st.sampled_from(sorted(PAIRS)))
def test_two_arrays_align_or_an_error_says_why(data: Any, name: str) -> None:
    n = data.draw(st.integers(0, 6))
    longer = data.draw(st.sampled_from([0, 0, 0, 1]))
    values = np.random.default_rng(n).integers(1, 9, (2 * n + longer, 3)).astype(float)
    x, y = (chunked(some, data.draw(cut(len(some)))) for some in (values[:n], values[n:]))
    sizes = x.data.chunks[0], y.data.chunks[0]
    known = data.draw(st.booleans())  # of the second one alone
    got = outcome(PAIRS[name], late(x), y if known else late(y))
    if longer:
        assert isinstance(got, str)
        assert ("different lengths" in got and f"{n:,}" in got) or "do not align" in got
    elif not known and len(sizes[0]) == len(sizes[1]) and sizes[0] != sizes[1]:
        assert isinstance(got, str)
        assert "before to_array: {op: repartition, npartitions: 8, count_rows: true}" in got
    else:
        assert_same(got, outcome(PAIRS[name], x, y))


@SETTINGS
@given(x=ANY_ARRAY, start=st.none() | st.integers(-8, 8), stop=st.none() | st.integers(-8, 8))
def test_slices_of_a_dim_of_unknown_length(x: xr.DataArray, start: int | None, stop: int | None) -> None:
    n = x.sizes["x"]
    got = outcome(pick_positions, late(x), "x", (start, stop))
    if any(place is not None and not -n <= place <= n for place in (start, stop)) or not range(n)[start:stop]:
        assert f": 'x' has {n} positions" in got
    else:
        np.testing.assert_array_equal(got[1], x.values[start:stop])
        if start is not None and stop is not None and start >= 0 and stop >= 0:
            assert pick_positions(late(x), "x", (start, stop)).sizes["x"] == stop - start


# ---------------------------------------------------------------------------------------------------------------------
# In files
# ---------------------------------------------------------------------------------------------------------------------

READ = """
steps:
  a: {op: read_parquet, path: "a*.parquet"}
  b: {op: read_parquet, path: "b*.parquet"}
  some: {op: filter, input: a, where: "f0 > 0"}
  others: {op: filter, input: b, where: "f0 > 0"}
  x: {op: to_array, input: some, columns: [f0, f1], dims: [row, feature]}
  y: {op: to_array, input: others, columns: [f0, f1], dims: [row, feature]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frame = pd.DataFrame({"f0": np.arange(5.0), "f1": np.arange(5.0) ** 2})
    for name, edges in {"a": (0, 2, 5), "b": (0, 4, 5), "c": (0, 5)}.items():
        for i, stop in enumerate(edges[1:]):
            frame.iloc[edges[i] : stop].to_parquet(tmp_path / f"{name}{i}.parquet")
    return tmp_path


def test_rows_in_different_chunks_are_not_broadcast(folder: Path) -> None:
    text = READ + '  z: {expr: "x + y"}\n'
    with pytest.raises(DataError, match=r"chunk sizes 1 and 3 differ.*; to align them"):
        values_of(text, folder)
    assert values_of(text.replace("b*", "c*"), folder)["z"].values[:, 0].tolist() == [2, 4, 6, 8]


def test_the_plan_says_what_only_one_task_can_hold(folder: Path) -> None:
    steps = "  r: {op: roll, input: x, shift: {row: 1}}\n  m: {op: argmax, input: x, axis: row}\n"
    config = loads(f"version: 1{READ}{steps}", name="t", root=folder)
    made = {row.step: row.notes for row in plan(config, build(config)).rows}
    assert made["r"] == ("brings everything along a dim of unknown length into one task",)
    assert made["m"] == ()


@pytest.mark.parametrize(("step", "said"), [
    ("{op: rechunk, input: x, chunks: {row: 2}}", "unknown until run time; -1 makes it one chunk; for other sizes"),
    ("{op: to_items, input: x, along: row}", "if you know it, declare it before to_array: {op: repart"),
    ("{op: to_frame, input: x, columns: row}", "if you know it, declare it before to_array: {op: repart"),
])  # fmt: skip
def test_what_needs_a_length_before_the_run_says_what_to_do(step: str, said: str, folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        graph_of(f"{READ}  r: {step}\n", folder)
    assert said in str(caught.value)
    told = READ.replace("  x:", "  told: {op: repartition, input: some, count_rows: 4}\n  x:").replace(
        "input: some, col", "input: told, col"
    )
    assert values_of(f"{told}  r: {step}\n", folder)["r"] is not None
