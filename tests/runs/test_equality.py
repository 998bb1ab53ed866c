"""What counts as the same result, by kind; and what is said where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipeline.runs.equality import equal, relative_difference

X = xr.DataArray([[1.0, np.nan], [0.0, -4.0]], dims=("y", "x"), coords={"x": ["a", "b"]})
F = pd.DataFrame({"k": ["a", "b", "b", None], "v": [1.0, 2.0, np.nan, 4.0], "n": [1, 2, 3, 4]})

BITWISE = [
    ("array", X, X.copy()),
    ("array", X, X.chunk(x=1)),
    ("array", xr.DataArray(pd.date_range("2000", periods=2)), xr.DataArray(pd.date_range("2000", periods=2))),
    ("frame", F, F.iloc[::-1]),
    ("frame", F[:0], F[:0]),
    ("frame", F.astype({"k": object}), F.astype({"k": "str"})),
    ("items", {"a": 1, "b": np.arange(3)}, {"b": np.arange(3), "a": 1}),
    ("value", {"a": [1, (2.5, None)], "n": np.nan}, {"a": [1, (2.5, None)], "n": np.nan}),
    ("value", np.float32(1), np.float32(1)),
    ("value", pd.Series([1.0, np.nan]), pd.Series([1.0, np.nan])),
    ("value", {"x", "y"}, {"y", "x"}),
    ("value", Path("a"), Path("a")),
]


@pytest.mark.parametrize(("kind", "a", "b"), BITWISE)
def test_equal_results_are_bitwise_equal(kind, a, b):
    found = equal(kind, a, b)
    assert (found.same, found.bitwise, found.largest_relative, found.message) == (True, True, 0.0, "")


CLOSE = [
    ("array", X, X * (1 + 1e-12)),
    ("frame", F, F.assign(v=F["v"] * (1 + 1e-12))),
    ("items", {"a": 3.0}, {"a": 3.0 * (1 + 1e-12)}),
    ("value", {"a": [np.array([1.0, 2.0])]}, {"a": [np.array([1.0, 2.0 * (1 + 1e-12)])]}),
    ("value", 1 + 2j, (1 + 2j) * (1 + 1e-12)),
]


@pytest.mark.parametrize(("kind", "a", "b"), CLOSE)
def test_numbers_within_the_tolerance_are_equal_but_not_bitwise(kind, a, b):
    found = equal(kind, a, b, rtol=1e-9)
    assert found.same
    assert not found.bitwise
    assert 0 < found.largest_relative < 1.1e-12
    assert not equal(kind, a, b, rtol=1e-13).same


DIFFERENT = [
    ("array", X, X.T, r"dims are \('x', 'y'\), reference \('y', 'x'\)"),
    ("array", X, X.astype("f4"), r"is \(2, 2\) of float32, reference \(2, 2\) of float64"),
    ("array", X, X.drop_vars("x"), r"coordinates are \[\], reference \['x'\]"),
    ("array", X, X.assign_coords(x=["a", "c"]), r"x\[1\]: got c, reference b"),
    ("array", X, X.fillna(7), r"\[0, 1\]: got 7.0, reference nan"),
    ("array", X, X.where(X != -4, -4.5), r"\[1, 1\]: got -4.5, reference -4.0"),
    ("frame", F, F.rename(columns={"n": "m"}), r"columns are \['k', 'v', 'm'\]"),
    ("frame", F, F[:3], "has 3 rows, reference 4"),
    ("frame", F, F.assign(n=F["n"].astype("f8")), "n: type is float64, reference int64"),
    ("frame", F, F.assign(n=[1, 2, 3, 3]), "n: no row for row 3, which has"),
    ("frame", F, F.assign(k=["a", "b", "b", "c"]), "k: no row for row"),
    ("frame", pd.concat([F, F[:1]]), pd.concat([F, F[1:2]]), "no row for row"),
    ("items", {"a": 1}, {"b": 1}, "item 'a' is missing; item 'b' is not in the reference"),
    ("items", {"a": 1}, {"a": 2}, "a: got 2, reference 1"),
    ("value", [1, 2], [1, 2, 3], "has 3 members, reference 2"),
    ("value", {"a": {"b": 1}}, {"a": {"b": True}}, r"a\.b: is a bool, reference a int"),
    ("value", {"a": 1}, {"b": 1}, "keys are"),
    ("value", np.arange(2), np.arange(3), "shape is"),
    ("value", 1.0, 2.0, "got 2.0, reference 1.0"),
]


@pytest.mark.parametrize(("kind", "a", "b", "message"), DIFFERENT, ids=[row[3] for row in DIFFERENT])
def test_a_difference_is_named(kind, a, b, message):
    import re

    found = equal(kind, a, b)
    assert not found.same
    assert not found.bitwise
    assert re.search(message, found.message)


def test_the_order_of_rows_counts_only_if_part_of_the_value():
    assert not equal("frame", F, F.iloc[::-1], ordered=True).same
    assert equal("frame", F, F, ordered=True).bitwise


def test_rows_match_although_noise_changes_their_order():
    a = pd.DataFrame({"x": [1.0, 1.0 + 1e-12], "y": [5.0, 3.0]})
    b = pd.DataFrame({"x": [1.0 + 1e-12, 1.0], "y": [5.0, 3.0]})
    assert equal("frame", a, b).same
    assert equal("frame", a, b).largest_relative < 2e-12


def test_relative_differences_overflow_nowhere():
    assert relative_difference([1e308, 0.0, np.inf], [-1e308, 0.0, np.inf]).tolist() == [2.0, 0.0, 0.0]
