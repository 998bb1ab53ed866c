"""``nan`` and ``missing`` as values of expressions."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from test_expression_values import over_arrays

from pipeline.config.expressions.expression import parse
from pipeline.config.expressions.references import ExpressionError
from pipeline.ops.elementwise.targets import columns_dtype, evaluate_columns

CELLS: dict[str, Any] = {
    "b": np.array([1, -1, 2, 0]),
    "f": np.array([1.0, 2.0, 3.0, 4.0]),
    "g": np.array([1, 2, 3, 4], np.float32),
    "i": np.array([1, 2, 3, 4]),
    "u": np.array([1, 2, 3, 4], np.uint8),
    "k": np.array([True, False, True, False]),
    "t": np.array(["2001-01-01", "2002-01-01", "2003-01-01", "2004-01-01"], "M8[us]"),
    "d": np.array([1, 2, 3, 4], "m8[s]"),
    "s": np.array(["a", "b", "c", "d"]),
}
ARRAYS = {name: xr.DataArray(da.from_array(x, chunks=2), dims=["x"]) for name, x in CELLS.items()}
FRAME = pd.DataFrame(
    {**CELLS, "z": pd.Series(CELLS["t"]).dt.tz_localize("UTC"), "s": pd.Series(CELLS["s"], dtype="str")}
)
WANTED = np.array([True, False, True, False])


@pytest.mark.parametrize(("text", "dtype"), [
    ("where(b > 0, f, nan)", "f8"), ("where(b > 0, i, nan)", "f8"), ("where(b > 0, f, missing)", "f8"),
    ("where(not b > 0, missing, f)", "f8"), ("where(b > 0, g, missing)", "f4"), ("where(b > 0, t, missing)", "M8[us]"),
    ("where(b > 0, d, missing)", "m8[s]"), ("where(b > 0, where(b > 0, f, missing), 1 * nan)", "f8"),
    ("where(b > 0, 1.5, missing)", "f8"), ("f * where(b > 0, 1, nan)", "f8"),
])  # fmt: skip
def test_arrays_have_the_missing_value_of_their_type(text: str, dtype: str) -> None:
    got = over_arrays(text, ARRAYS).compute(scheduler="sync")
    assert got.dtype == dtype
    assert pd.notna(got.values).tolist() == WANTED.tolist()


@pytest.mark.parametrize(("text", "said"), [
    ("where(b > 0, i, missing)", "arrays of whole numbers have no missing value; write nan, which gives floats"),
    ("where(b > 0, 1, missing)", "arrays of whole numbers"), ("where(b > 0, k, missing)", "arrays of truth values"),
    ("where(b > 0, text(i), missing)", "arrays of text"), ("where(b > 0, s, missing)", "arrays of text"),
    ("where(b > 0, t, nan)", "nan is a number; for a missing time write missing"),
])  # fmt: skip
def test_what_arrays_have_no_missing_value_for_is_refused(text: str, said: str) -> None:
    with pytest.raises(ExpressionError, match=said):
        over_arrays(text, ARRAYS)


@pytest.mark.parametrize(("name", "dtype"), [
    ("f", "float64"), ("g", "float32"), ("i", "float64"), ("u", "float64"), ("k", "boolean"), ("t", "datetime64[us]"),
    ("d", "timedelta64[s]"), ("s", "str"), ("z", "datetime64[us, UTC]"),
])  # fmt: skip
@pytest.mark.parametrize("text", ["where(b > 0, {}, missing)", "where(not b > 0, missing, {})"])
def test_columns_of_every_type_have_missing_values(name: str, dtype: str, text: str) -> None:
    e = parse(text.format(name), "columns")
    for frame in (FRAME, FRAME.iloc[:1], FRAME.iloc[1:2], FRAME.iloc[:0]):
        got = evaluate_columns(e, frame)
        assert str(got.dtype) == dtype
        assert got.notna().tolist() == WANTED[frame.index].tolist()
    assert str(columns_dtype(e, FRAME.iloc[:0])) == dtype
    kept = evaluate_columns(e, FRAME)[WANTED].tolist()
    assert kept == FRAME[name][WANTED].tolist()


@pytest.mark.parametrize(("text", "dtype"), [
    ("where(b > 0, 'x', missing)", "str"), ("where(b > 0, 1, missing)", "float64"), ("where(b > 0, i, nan)", "float64"),
    ("where(b > 0, True, missing)", "boolean"), ("where(b > 0, date('2001-01-01'), missing)", "datetime64[us]"),
])  # fmt: skip
def test_constants_or_missing(text: str, dtype: str) -> None:
    got = evaluate_columns(parse(text, "columns"), FRAME)
    assert (str(got.dtype), got.notna().tolist()) == (dtype, WANTED.tolist())


@pytest.mark.parametrize("text", [
    "missing", "a == missing", "missing + 1", "fill(a, missing)", "where(missing, a, 1)", "where(c, missing, missing)",
    "a in [1, missing]", "not missing",
])  # fmt: skip
def test_missing_elsewhere_says_how_to_ask(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"missing\(x\)|constants"):
        parse(text, "columns")


def test_missing_still_asks_and_backticks_name_columns() -> None:
    frame = pd.DataFrame({"missing": [1.0, np.nan], "nan": [2.0, 3.0]})
    assert evaluate_columns(parse("missing(`missing`)", "columns"), frame).tolist() == [False, True]
    e = parse("`nan` + 0", "columns")
    assert evaluate_columns(e, frame).tolist() == [2, 3]
    assert evaluate_columns(parse("missing(nan)", "columns"), frame).tolist() == [True, True]


def test_expressions_with_nan_are_equal_to_themselves() -> None:
    first, second = (parse("where(a > 0, a, nan) + missing(a)", "columns") for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
