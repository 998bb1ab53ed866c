"""``nan`` and ``missing`` as values of expressions."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from test_expression_values import over_arrays, over_columns, table_of_arrays

from pipeline.config.expressions.expression import parse
from pipeline.config.expressions.references import ExpressionError

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
TABLE = table_of_arrays(CELLS).append_column("z", pa.array(CELLS["t"]).cast(pa.timestamp("us", "UTC")))
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


@pytest.mark.parametrize("name", ["f", "g", "i", "u", "k", "t", "d", "s", "z"])
@pytest.mark.parametrize("text", ["where(b > 0, {}, missing)", "where(not b > 0, missing, {})"])
def test_columns_of_every_type_have_missing_values(name: str, text: str) -> None:
    for table, wanted in ((TABLE, WANTED), (TABLE.slice(0, 1), [True]), (TABLE.slice(1, 1), [False]), (TABLE[:0], [])):
        got = over_columns(text.format(name), table)
        assert got.type == TABLE.schema.field(name).type
        assert got.is_valid().to_pylist() == list(wanted)
    kept = over_columns(text.format(name), TABLE).drop_null()
    assert kept.to_pylist() == TABLE.column(name).filter(pa.array(WANTED)).to_pylist()


@pytest.mark.parametrize(("text", "kind"), [
    ("where(b > 0, 'x', missing)", pa.string()), ("where(b > 0, 1, missing)", pa.int64()),
    ("where(b > 0, i, nan)", pa.float64()), ("where(b > 0, True, missing)", pa.bool_()),
    ("where(b > 0, date('2001-01-01'), missing)", pa.timestamp("us")),
])  # fmt: skip
def test_constants_or_missing(text: str, kind: pa.DataType) -> None:
    got = over_columns(text, TABLE)
    assert (got.type, got.is_valid().to_pylist()) == (kind, WANTED.tolist())


@pytest.mark.parametrize("text", [
    "missing", "a == missing", "missing + 1", "fill(a, missing)", "where(missing, a, 1)", "where(c, missing, missing)",
    "a in [1, missing]", "not missing",
])  # fmt: skip
def test_missing_elsewhere_says_how_to_ask(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"missing\(x\)|constants"):
        parse(text, "columns")


def test_missing_still_asks_and_backticks_name_columns() -> None:
    table = pa.table({"missing": [1.0, None], "nan": [2.0, 3.0]})
    assert over_columns("missing(`missing`)", table).to_pylist() == [False, True]
    assert over_columns("`nan` + 0", table).to_pylist() == [2, 3]
    assert over_columns("missing(nan)", table).to_pylist() == [True, True]


def test_expressions_with_nan_are_equal_to_themselves() -> None:
    first, second = (parse("where(a > 0, a, nan) + missing(a)", "columns") for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
