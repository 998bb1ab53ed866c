"""``map_overlap`` against the whole array padded with numpy, for any chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from serially import values_of
from strategies import SETTINGS, arrays

from pipeline.errors import DataError, OpError
from pipeline.ops.arrays.overlap import map_overlap

BOUNDARIES = {"reflect": "symmetric", "nearest": "edge", "periodic": "wrap"}  # as numpy's pad calls them


def neighbours(block: np.ndarray[Any, Any], reach: dict[int, int]) -> np.ndarray[Any, Any]:
    """The sum of all places up to ``reach`` away along each axis; beyond the block there are zeros."""
    for axis, n in reach.items():
        padded = np.pad(block, [(n, n) if i == axis else (0, 0) for i in range(block.ndim)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * n + 1, axis)
        block = windows.sum(axis=-1)
    return block.astype(np.float64)


def centre(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return block[1:-1]


def same(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return block


@given(st.data())
@SETTINGS
def test_a_function_sees_as_far_as_depth_whatever_the_chunks(data: Any) -> None:
    x = data.draw(arrays(("t", "y", "x"), ("float64", "float32", "int64", "bool"), empty_chunks=True))
    dims = data.draw(st.lists(st.sampled_from(["t", "y", "x"]), min_size=1, max_size=3, unique=True))
    depth = {dim: data.draw(st.integers(0, x.sizes[dim])) for dim in dims}
    boundary = data.draw(st.sampled_from(["none", *BOUNDARIES, 3]))
    reach = {x.dims.index(dim): n for dim, n in depth.items()}
    got = map_overlap(
        x, function="test_overlap:neighbours", args={"reach": reach}, depth=depth, boundary=boundary, dtype="float64"
    )
    values = x.data.compute(scheduler="sync")
    assert got.chunks == x.chunks
    assert set(got.coords) == set(x.coords)
    if not values.size:
        assert got.data.compute(scheduler="sync").shape == values.shape
        return
    whole = values
    if boundary != "none":
        width = [(reach.get(axis, 0),) * 2 for axis in range(3)]
        how = {"mode": BOUNDARIES[boundary]} if isinstance(boundary, str) else {"constant_values": boundary}
        whole = np.pad(values, width, **how)
    wanted = neighbours(whole, reach)
    if whole is not values:
        wanted = wanted[tuple(slice(reach.get(axis, 0), reach.get(axis, 0) + values.shape[axis]) for axis in range(3))]
    np.testing.assert_allclose(got.data.compute(scheduler="sync"), wanted)


def test_only_what_is_needed_of_a_neighbour_is_cut_off() -> None:
    x = xr.DataArray(da.from_array(np.arange(40.0).reshape(20, 2), chunks=(5, 2)), dims=["y", "x"])
    got = map_overlap(x, function="test_overlap:same", depth={"y": 1, "x": 1}, boundary="reflect", dtype="float64")
    edges = [node for key, node in dict(got.data.dask).items() if "edge" in str(key)]
    assert len(edges) == 2 * 3
    far = map_overlap(x, function="test_overlap:same", depth={"y": 12}, dtype="float64")
    np.testing.assert_array_equal(far.data.compute(scheduler="sync"), x.values)


def test_what_does_not_fit_is_refused() -> None:
    x = xr.DataArray(da.ones((4, 2), chunks=2), dims=["y", "x"])
    with pytest.raises(OpError, match="depth: no dim 'z'; dims: y, x"):
        map_overlap(x, function="test_overlap:same", depth={"z": 1}, dtype="float64")
    with pytest.raises(OpError, match="depth: got 5, but 'y' has 4 positions"):
        map_overlap(x, function="test_overlap:same", depth={"y": 5}, dtype="float64")
    shape = map_overlap(x, function="test_overlap:centre", depth={"y": 1}, dtype="float64")
    with pytest.raises(DataError, match=r"centre returned a block of shape \(1, 2\) for one of shape \(3, 2\)"):
        shape.data.compute(scheduler="sync")
    dtype = map_overlap(x, function="test_overlap:same", depth={"y": 1}, dtype="float32")
    with pytest.raises(DataError, match="same returned a block of dtype float64; the step declares dtype: float32"):
        dtype.data.compute(scheduler="sync")


def test_a_file_says_depth_boundary_and_args(tmp_path: Path) -> None:
    (tmp_path / "smoothing.py").write_text(
        "import numpy as np\n\n\ndef shift(block, by):\n    return np.roll(block, by, 0)\n"
    )
    text = """
    modules: [./smoothing.py]
    steps:
      x: {op: arange, stop: 10, chunks: 3}
      y: {op: map_overlap, input: x, function: "smoothing:shift", args: {by: 2}, depth: {dim_0: 2}, boundary: -1,
          dtype: int64}
    """
    assert values_of(text, tmp_path)["y"].values.tolist() == [-1, -1, *range(8)]
