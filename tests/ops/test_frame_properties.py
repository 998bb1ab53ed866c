"""Frame ops against pandas, for any rows cut into any partitions: none, one, some of them empty, all missing."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from named_ops import frames as ops
from pandas.testing import assert_frame_equal
from serially import rows_of
from strategies import SETTINGS, arrays, frames, partitioned

from pipeline.config.expressions import expression
from pipeline.ops import conversions
from pipeline.ops import to_frame as rows

TYPES = {"i": "int64", "f": "float64", "s": "string", "b": "bool", "t": "timestamp"}
BOTH = st.booleans()


def expr(text: str) -> expression.Expression:
    return expression.parse(text, "columns")


def aggs(**texts: str) -> dict[str, expression.Expression]:
    return {name: expression.parse(text, "agg") for name, text in texts.items()}


def computed(collection: Any) -> pd.DataFrame:
    """The rows as its partitions give them; each has the schema that was said while building."""
    return rows_of(collection)


def keys(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """The rows as values that compare: missing ones as None, times and numbers by value."""
    columns = [
        [
            None if pd.isna(v) else round(float(v), 9) if isinstance(v, float | np.floating) else v
            for v in frame[n].tolist()
        ]
        for n in frame.columns
    ]
    return list(zip(*columns, strict=True)) if columns else []


def same_rows(got: Any, wanted: pd.DataFrame) -> None:
    """Equal as multisets of rows."""
    found = got if isinstance(got, pd.DataFrame) else computed(got)
    assert list(found.columns) == list(wanted.columns)
    assert sorted(map(repr, keys(found))) == sorted(map(repr, keys(wanted)))


def same(got: Any, wanted: pd.DataFrame) -> None:
    """Equal row for row."""
    found = computed(got)
    assert list(found.columns) == list(wanted.columns)
    assert keys(found) == keys(wanted)


def in_order(frame: pd.DataFrame, by: list[str], ascending: list[bool] | None = None) -> pd.DataFrame:
    """Pandas' sort with the language's order: ties by the remaining columns, missing last."""
    rest = [name for name in frame.columns if name not in by]
    directions = [*(ascending or [True] * len(by)), *(True for _ in rest)]
    return frame.sort_values([*by, *rest], ascending=directions, na_position="last", ignore_index=True)


@st.composite
def cut(draw: st.DrawFn, columns: dict[str, str] = TYPES, largest: int = 12) -> tuple[pd.DataFrame, Any]:
    """A frame, and the same rows as a step's input."""
    frame = draw(frames(columns, largest=largest))
    return frame, draw(partitioned(frame))


# ---------------------------------------------------------------------------------------------------------------------
# Rows and columns
# ---------------------------------------------------------------------------------------------------------------------


@SETTINGS
@given(cut())
def test_select_filter_and_assign(given: Any) -> None:
    frame, x = given
    same(ops.select(x, columns=["s", "i"]), frame[["s", "i"]])
    same(ops.filter(x, where=expr("f > -1 and s != 'a'")), frame[(frame.f > -1) & frame.s.notna() & (frame.s != "a")])
    same(
        ops.assign(x, columns={"f": expr("f * 2"), "g": expr("f + i"), "h": expr("missing(s)")}),
        frame.assign(f=frame.f * 2, g=frame.f * 2 + frame.i, h=frame.s.isna()),
    )


@SETTINGS
@given(cut())
def test_rename_changes_names_at_once(given: Any) -> None:
    frame, x = given
    same(ops.rename(x, columns={"i": "f", "f": "i", "s": "text"}), frame.set_axis(["f", "i", "text", "b", "t"], axis=1))


@SETTINGS
@given(cut())
def test_fillna_and_dropna(given: Any) -> None:
    frame, x = given
    same(ops.fillna(x, value=7), frame.fillna({"f": 7.0}))
    same(ops.fillna(x, value="none"), frame.fillna({"s": "none"}))
    filled = {"f": 1.5, "t": "1999-12-31", "i": 3, "s": ""}
    same(ops.fillna(x, value=filled), frame.fillna({"f": 1.5, "t": pd.Timestamp("1999-12-31"), "s": ""}))
    same(ops.dropna(x), frame.dropna())
    same(ops.dropna(x, subset="s"), frame.dropna(subset=["s"]))
    same(ops.dropna(x, subset=["s", "f"], how="all"), frame.dropna(subset=["s", "f"], how="all"))


@SETTINGS
@given(cut())
def test_astype_of_what_fits(given: Any) -> None:
    frame, x = given
    types = {"i": "float32", "f": "string", "b": "int8", "t": "timestamp[UTC]", "s": "string"}
    got = computed(ops.astype(x, columns=types))
    assert got["i"].dtype == np.float32
    assert got["i"].tolist() == frame.i.tolist()
    assert got["b"].tolist() == frame.b.astype(int).tolist()
    same_rows(got[["t"]].assign(t=got.t.dt.tz_localize(None)), frame[["t"]])
    again = ops.astype(ops.astype(x, columns=types), columns={"f": "float64", "i": "int64", "b": "bool"})
    same(ops.select(again, columns=["i", "f", "s", "b"]), frame[["i", "f", "s", "b"]])
    texts = ops.astype(ops.select(x, columns=["i", "f", "b", "t"]), columns=dict.fromkeys("ifbt", "string"))
    back = ops.astype(texts, columns={"i": "int64", "f": "float64", "b": "bool", "t": "timestamp"})
    same(back, frame[["i", "f", "b", "t"]])


@SETTINGS
@given(cut(), cut(), BOTH)
def test_concat_puts_rows_below_each_other(one: Any, other: Any, turned: bool) -> None:
    names = list(TYPES)[::-1] if turned else list(TYPES)
    got = ops.concat(one[1], ops.select(other[1], columns=names))
    same(got, pd.concat([one[0], other[0]], ignore_index=True))


NAMES = st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=2, unique=True)


# ---------------------------------------------------------------------------------------------------------------------
# Groups
# ---------------------------------------------------------------------------------------------------------------------

AGGREGATES = {
    "n": "count()", "nf": "count(f)", "total": "sum(f + i)", "m": "mean(f)", "low": "min(t)", "high": "max(s)",
    "sd": "std(f, 1)", "v": "var(i, 0)", "med": "median(f)", "q": "quantile(f, 0.25)", "u": "nunique(s)",
    "some": "any(b)", "every": "all(b)",
}  # fmt: skip


def aggregated(rows: pd.DataFrame) -> dict[str, Any]:
    """One row of a groupby by pandas, column by column."""
    return {
        "n": len(rows), "nf": rows.f.count(), "total": (rows.f + rows.i).sum(), "m": rows.f.mean(), "low": rows.t.min(),
        "high": rows.s.dropna().max() if rows.s.notna().any() else None,
        "sd": rows.f.std(ddof=1), "v": rows.i.var(ddof=0), "med": rows.f.median(), "q": rows.f.quantile(0.25),
        "u": rows.s.nunique(), "some": rows.b.any(), "every": rows.b.all(),
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Other kinds
# ---------------------------------------------------------------------------------------------------------------------


@SETTINGS
@given(cut())
def test_rows_and_partitions_become_items(given: Any) -> None:
    frame, x = given
    items = conversions.to_items(x, name="rows", by="rows")
    pairs = [pair for part in dask.get(dict(items.tasks), list(items.keys)) for pair in part]
    assert [key for key, _ in pairs] == [str(i) for i in range(len(frame))]
    assert keys(pd.DataFrame([row for _, row in pairs], columns=list(TYPES))) == keys(frame)
    items = conversions.to_items(x, name="parts", by="partitions")
    parts = dask.get(dict(items.tasks), list(items.keys))
    assert_frame_equal(pd.concat(parts, ignore_index=True), frame, check_dtype=False)


@SETTINGS
@given(arrays(("x", "y", "z"), ("float64", "int64", "bool"), largest=4))
def test_an_array_becomes_a_row_a_cell_or_a_column_a_label(x: Any) -> None:
    labels = {str(d): x[d].values if d in x.coords else np.arange(n) for d, n in x.sizes.items()}
    cells = [
        {**{str(d): labels[str(d)][i] for d, i in zip(x.dims, at, strict=True)}, "value": value}
        for at, value in np.ndenumerate(x.values)
    ]
    same_rows(rows.to_frame(x, name="long"), pd.DataFrame(cells, columns=["x", "y", "z", "value"]))
    names = [f"c{label}" for label in labels["y"]]
    known = [d for d in ("x", "z") if d in x.coords]
    across = [
        {
            **{d: labels[d][i] for d, i in (("x", at[0]), ("z", at[1])) if d in known},
            **dict(zip(names, row, strict=True)),
        }
        for at in np.ndindex(x.sizes["x"], x.sizes["z"])
        for row in [x.values[at[0], :, at[1]]]
    ]
    same_rows(rows.to_frame(x, name="wide", columns="y", prefix="c"), pd.DataFrame(across, columns=[*known, *names]))


@SETTINGS
@given(cut({"i": "int64", "f": "float64"}))
def test_a_frame_becomes_a_matrix_and_a_frame_again(given: Any) -> None:
    frame, x = given
    matrix = conversions.to_array(x, name="matrix", columns=["i", "f"], dims=["row", "column"], dtype="float64")
    np.testing.assert_array_equal(matrix.data.compute(scheduler="synchronous"), frame.to_numpy(dtype=float))
    cells = computed(rows.to_frame(matrix, name="long"))
    assert cells["row"].tolist() == np.repeat(np.arange(len(frame)), 2).tolist()
    assert cells["column"].tolist() == ["i", "f"] * len(frame)
    np.testing.assert_array_equal(cells["value"], frame.to_numpy(dtype=float).reshape(-1))
    wide = computed(rows.to_frame(matrix, name="wide", columns="column", prefix=""))
    np.testing.assert_array_equal(wide[["i", "f"]], frame.to_numpy(dtype=float))
