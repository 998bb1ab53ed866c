"""``align`` and ``set_labels``: labels that are near each other become equal, and cells stay with theirs."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from strategies import SETTINGS

from pipeline.config.expressions.expression import parse
from pipeline.errors import OpError
from pipeline.ops.arrays.label_changes import align, set_labels


def array(labels: Any, *, dim: str = "y", cells: Any = None, chunk: int = 2, **coords: Any) -> xr.DataArray:
    """An array along ``dim``, whose cells are by default the positions."""
    values = np.arange(len(labels), dtype=float) if cells is None else np.asarray(cells)
    return xr.DataArray(
        da.from_array(values, chunks=chunk), {dim: (dim, labels), **coords}, [dim], attrs={"units": "K"}
    )


def cells(x: xr.DataArray) -> list[float]:
    found: list[float] = x.compute(scheduler="sync").values.tolist()
    return found


@SETTINGS
@given(st.data())
def test_aligning_undoes_noise_and_order(data: st.DataObject) -> None:
    """Whatever noise below half the spacing, whatever order: cells come back to their labels."""
    steps = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=9))
    like = array(np.cumsum(steps).astype(float)[:: data.draw(st.sampled_from([1, -1]))])
    noise = data.draw(st.lists(st.floats(-0.4, 0.4), min_size=len(steps), max_size=len(steps)))
    order = data.draw(st.permutations(range(len(steps))))
    x = array(
        like.y.values[order] + np.array(noise), cells=np.array(cells(like))[order], chunk=data.draw(st.integers(1, 4))
    )
    got = align(x, like, tolerance={"y": 0.4000001})
    assert got.y.values.tolist() == like.y.values.tolist()
    assert cells(got) == cells(like)
    assert got.attrs == {"units": "K"}


def test_equal_arrays_can_be_used_together() -> None:
    like = array([10.0, 20.0, 30.0])
    x = array(np.array([10.0, 20.0, 30.0], "f4") + np.float32(1e-5), z=("y", [7, 8, 9]))
    got = align(x, like, tolerance={"y": 1e-4})
    assert got.y.variable.identical(like.y.variable)
    assert got.z.values.tolist() == [7, 8, 9]
    assert got.data.chunks == x.data.chunks  # nothing moves


def test_positions_that_are_near_nothing_are_left_out() -> None:
    got = align(array([0.0, 1.0, 2.0, 3.0], z=("y", [5, 6, 7, 8])), array([3.01, 0.99]), tolerance={"y": 0.1})
    assert (cells(got), got.z.values.tolist(), got.y.values.tolist()) == ([3, 1], [8, 6], [3.01, 0.99])


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_large_whole_labels_are_near_exactly(dtype: str) -> None:
    labels = np.array([2**62 + 1, 2**62 + 2, 2**62 + 3], dtype)
    assert cells(align(array(labels), array(labels[::-1].copy()), tolerance={"y": 0})) == [2, 1, 0]
    with pytest.raises(OpError, match=f"no label of input is within 0 of {2**62 + 2}"):
        align(array(labels[::2]), array(labels[1:2]), tolerance={"y": 0})


@pytest.mark.parametrize("calendar", ["standard", "360_day"])
def test_times_are_near_within_a_duration(calendar: str) -> None:
    dawn = xr.date_range("2001-01-01T06", periods=3, freq="D", calendar=calendar, use_cftime=calendar != "standard")
    midnight = xr.date_range("2001-01-01", periods=3, freq="D", calendar=calendar, use_cftime=calendar != "standard")
    got = align(array(dawn.values), array(midnight.values), tolerance={"y": "6h"})
    assert got.y.values.tolist() == midnight.values.tolist()
    with pytest.raises(OpError, match=r"no label of input is within 5h of 2001-01-01.*; the nearest is 2001-01-01.06"):
        align(array(dawn.values), array(midnight.values), tolerance={"y": "5h"})


@pytest.mark.parametrize(("mine", "like", "tolerance", "said"), [
    ([0.0, 1.0], [0.0, 1.5], 0.1, "no label of input is within 0.1 of 1.5; the nearest is 1.0"),
    ([0.0, 5.0], [-0.1, 0.1], 0.2, "the labels -0.1 and 0.1 of like are both nearest to 0.0"),
    ([0.0], [0.0], "1h", "the labels are numbers, so the tolerance is one"), ([0.0], [0.0], -1, "is not negative"),
    ([0.0, np.nan], [0.0], 1, "a label of 'y' is missing"), (["a"], ["a"], 1, "only numbers and times"),
    ([0.0], np.array(["2001-01-01"], "M8[ns]"), 1, "are numbers, those of like times of the calendar standard"),
    (np.array(["2001-01-01"], "M8[ns]"),) * 2 + (1, "the labels are times"), ([], [1.0], 1, "length 0"),
])  # fmt: skip
def test_labels_that_do_not_match_are_refused(mine: Any, like: Any, tolerance: Any, said: str) -> None:
    with pytest.raises(OpError, match=said):
        align(array(np.array(mine)), array(np.array(like)), tolerance={"y": tolerance})


def test_a_dim_without_labels_is_named() -> None:
    bare = array([0.0, 1.0]).drop_vars("y")
    with pytest.raises(OpError, match="'y' of input has no labels; give it some: op set_labels"):
        align(bare, array([0.0, 1.0]), tolerance={"y": 1})
    with pytest.raises(OpError, match="no dim 'z'"):
        align(array([0.0]), array([0.0]), tolerance={"z": 1})


def test_labels_are_set_computed_and_dropped() -> None:
    x = array([0.1004, 0.2004], z=("y", [1, 2]))
    assert set_labels(x, labels={"y": ["a", "b"]}).y.values.tolist() == ["a", "b"]
    assert set_labels(x, by={"y": parse("round(y, 2)", "coords")}).y.values.tolist() == [0.1, 0.2]
    assert set_labels(x, by={"y": parse("z * 10", "coords")}).y.values.tolist() == [10, 20]
    assert list(set_labels(x, drop=["y", "z"]).coords) == []
    assert cells(set_labels(x, drop=["y"])) == [0, 1]


@pytest.mark.parametrize(("given", "said"), [
    ({"labels": {"y": [1]}}, "got 1 labels; 'y' has 2 positions"), ({"labels": {"q": [1]}}, "no dim 'q'"),
    ({"labels": {"y": [1, "a"]}}, "several kinds"), ({"drop": ["q"]}, "no coordinate 'q'; there are y"),
    ({"by": {"y": parse("q + 1", "coords")}}, "no coordinate 'q'"),
    ({"by": {"y": parse("1", "coords")}}, "has no dims"),
    ({"labels": {"y": [2**53 + 1, 0.5]}}, f"{2**53 + 1} can't be held exactly"),
])  # fmt: skip
def test_labels_that_do_not_fit_are_refused(given: Any, said: str) -> None:
    with pytest.raises(OpError, match=said):
        set_labels(array([1.0, 2.0]), **given)
