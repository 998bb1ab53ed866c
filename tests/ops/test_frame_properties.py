"""Frame ops against pandas, for any rows cut into any partitions: none, one, some of them empty, all missing."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from named_ops import frames as ops
from pandas.testing import assert_frame_equal
from serially import partitions_of
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
    """The rows as its partitions give them; each has the columns and types that were said while building."""
    parts = partitions_of(collection)
    for part in parts:
        assert part.index.equals(pd.RangeIndex(len(part)))
        assert part.dtypes.to_dict() == collection.meta.dtypes.to_dict()
    full = [part for part in parts if len(part)] or [parts[0]]
    return pd.concat(full, ignore_index=True)


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


@SETTINGS
@given(cut(), st.integers(1, 5))
def test_repartition_keeps_rows_and_order(given: Any, n: int) -> None:
    frame, x = given
    for count in (False, True, len(frame)):
        got = ops.repartition(x, npartitions=n, count_rows=count)
        assert len(got.keys) == n
        same(got, frame)
    sizes = [len(part) for part in partitions_of(got)]
    size = max(1, -(-len(frame) // n))
    assert all(m == size or sum(sizes[: i + 1]) == len(frame) for i, m in enumerate(sizes))


# ---------------------------------------------------------------------------------------------------------------------
# Order
# ---------------------------------------------------------------------------------------------------------------------

NAMES = st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=2, unique=True)


@SETTINGS
@given(cut(), NAMES, st.tuples(BOTH, BOTH))
def test_sort_values_gives_one_order(given: Any, by: list[str], ups: tuple[bool, bool]) -> None:
    frame, x = given
    ascending = list(ups[: len(by)])
    same(ops.sort_values(x, by=by, ascending=ascending), in_order(frame, by, ascending))


@SETTINGS
@given(cut(), NAMES)
def test_set_index_sorts_and_keeps_equal_keys_in_one_partition(given: Any, names: list[str]) -> None:
    frame, x = given
    got = ops.set_index(x, keys=names)
    same(got, in_order(frame, names))
    parts = partitions_of(got)
    seen = [set(map(repr, keys(part[names]))) for part in parts]
    assert sum(map(len, seen)) == len(set().union(*seen))


@SETTINGS
@given(cut(), NAMES, st.integers(1, 5), st.sampled_from([None, "s", "b"]))
def test_nlargest_and_nsmallest_are_the_first_rows_of_each_group(given: Any, names: list[str], n: int, by: Any) -> None:
    frame, x = given
    names = [name for name in names if name != by] or ["i"]
    for op, up in ((ops.nlargest, False), (ops.nsmallest, True)):
        wanted = in_order(frame, [*([by] if by else []), *names], [*([True] if by else []), *(up for _ in names)])
        wanted = wanted.groupby(by, dropna=False).head(n) if by and len(wanted) else wanted.head(n)
        same(op(x, n=n, columns=names, by=by), wanted)


@SETTINGS
@given(cut(), st.none() | NAMES)
def test_drop_duplicates_keeps_the_first_of_an_order(given: Any, subset: Any) -> None:
    frame, x = given
    wanted = in_order(frame, subset or list(TYPES)).drop_duplicates(subset)
    same_rows(ops.drop_duplicates(x, subset=subset), wanted)


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


@SETTINGS
@given(cut(), NAMES)
def test_groupby_aggregates_each_group_the_missing_one_too(given: Any, by: list[str]) -> None:
    frame, x = given
    groups = [{**dict(zip(by, key, strict=True)), **aggregated(rows)} for key, rows in frame.groupby(by, dropna=False)]
    wanted = pd.DataFrame(groups, columns=[*by, *AGGREGATES])
    same_rows(ops.groupby(x, by=by, agg=aggs(**AGGREGATES)), wanted)


@SETTINGS
@given(cut(), NAMES)
def test_value_counts_counts_what_is_missing(given: Any, names: list[str]) -> None:
    frame, x = given
    wanted = frame.value_counts(names, dropna=False).reset_index() if len(frame) else frame[names].assign(count=[])
    same_rows(ops.value_counts(x, columns=names), wanted)


@SETTINGS
@given(cut(), st.sampled_from(["D", "36h", "2D", "MS"]), st.sampled_from([None, "s"]))
def test_resample_has_every_period_of_a_group(given: Any, rule: str, by: Any) -> None:
    frame, x = given
    got = ops.resample(x, on="t", rule=rule, by=by, agg=aggs(n="count()", total="sum(f)", top="max(i)", m="mean(f)"))
    timed = frame.dropna(subset=["t"])
    periods = pd.Series(1, index=pd.DatetimeIndex(timed.t.sort_values())).resample(rule).count().index
    rows = []
    for key, group in timed.groupby(by, dropna=False) if by else [("", timed)]:
        places = periods.searchsorted(pd.DatetimeIndex(group.t), side="right") - 1
        for place in range(places.min(), places.max() + 1) if len(group) else []:
            some = group[places == place]
            one = {"t": periods[place], "n": len(some), "total": some.f.sum(), "top": some.i.max(), "m": some.f.mean()}
            rows.append({by: key, **one} if by else one)
    wanted = pd.DataFrame(rows, columns=[*([by] if by else []), "t", "n", "total", "top", "m"])
    same(got, in_order(wanted, ["s", "t"] if by else ["t"]) if rows else wanted)


# ---------------------------------------------------------------------------------------------------------------------
# Windows
# ---------------------------------------------------------------------------------------------------------------------

MOVING = {k: v for k, v in AGGREGATES.items() if k not in ("low", "high")} | {
    "low": "min(s)", "high": "max(t)", "one": "first(i)", "end": "last(s)",
}  # fmt: skip


def moved(rows: pd.DataFrame, least: int) -> dict[str, Any]:
    """The aggregates of one window by pandas; missing where it has too few values."""
    found = aggregated(rows) | {
        "low": rows.s.dropna().min() if rows.s.notna().any() else None, "high": rows.t.max(),
        "one": rows.i.iloc[0] if len(rows) else None,
        "end": rows.s.dropna().iloc[-1] if rows.s.notna().any() else None,
    }  # fmt: skip
    counts = {"total": (rows.f + rows.i).count(), "m": rows.f.count(), "sd": rows.f.count(), "med": rows.f.count()}
    counts |= {"q": rows.f.count(), "v": len(rows), "one": len(rows)}
    counts |= {"low": rows.s.count(), "high": rows.t.count(), "end": rows.s.count()}
    return found | {name: None for name, n in counts.items() if n < least}


@SETTINGS
@given(
    cut(),
    st.sampled_from([1, 2, 3, 20, "1D", "36h", "9D"]),
    st.sampled_from([None, "b", "s"]),
    BOTH,
    st.none() | st.just(1),
)
def test_rolling_reaches_over_partitions_within_its_group(
    given: Any, window: Any, by: Any, center: bool, least: Any
) -> None:
    frame, x = given
    names = [*([by] if by else []), "t"]
    got = ops.rolling(x, on="t", window=window, by=by, center=center, columns=aggs(**MOVING), min_periods=least)
    ordered = in_order(frame, names)
    made = []
    for i in range(len(ordered)):
        rows = ordered if center else ordered.iloc[: i + 1]
        if by:
            value = ordered[by].iloc[i]
            rows = rows[(rows[by] == value) | (rows[by].isna() & pd.isna(value))]
        if isinstance(window, int):
            at, after = rows.index.get_loc(ordered.index[i]), (window - 1) // 2 if center else 0
            rows = rows.iloc[max(0, at + after + 1 - window) : at + after + 1]
        else:
            ahead = pd.Timedelta(window) / 2 if center else pd.Timedelta(0)
            middle = ordered.t.iloc[i]
            rows = rows[(rows.t > middle + ahead - pd.Timedelta(window)) & (rows.t <= middle + ahead)]
        made.append(moved(rows, least or (window if isinstance(window, int) else 1)))
    columns = pd.DataFrame(made, columns=list(MOVING), index=ordered.index)
    same(got, pd.concat([ordered, columns], axis=1))


# ---------------------------------------------------------------------------------------------------------------------
# Joins
# ---------------------------------------------------------------------------------------------------------------------

HOWS = ("inner", "left", "semi", "anti")
RIGHT = {"i": "int64", "s": "string", "t": "timestamp", "z": "float64"}


def joined(left: pd.DataFrame, right: pd.DataFrame, on: list[str], how: str) -> pd.DataFrame:
    """The join by its definition, row by row."""
    both = set(left.columns) & set(right.columns) - set(on)
    rows: list[dict[str, Any]] = []
    taken = [c for c in right.columns if c not in on]
    for a in left.to_dict("records"):
        matches = [b for b in right.to_dict("records") if all(a[k] == b[k] for k in on)]
        if how in ("semi", "anti"):
            rows += [a] if bool(matches) == (how == "semi") else []
            continue
        named = {c + "_x" if c in both else c: v for c, v in a.items()}
        nothing = [dict.fromkeys(taken)] if how == "left" else []
        rows += [named | {c + "_y" if c in both else c: b[c] for c in taken} for b in matches or nothing]
    columns = list(left.columns)
    if how in ("inner", "left"):
        columns = [c + "_x" if c in both else c for c in columns] + [c + "_y" if c in both else c for c in taken]
    return pd.DataFrame(rows, columns=columns, dtype=object)


@SETTINGS
@given(cut(largest=7), cut(RIGHT, largest=7), st.sampled_from([["i"], ["s"], ["t"], ["s", "i"]]))
def test_merge_matches_equal_keys_and_no_missing_ones(left: Any, right: Any, on: list[str]) -> None:
    for how in HOWS:
        same_rows(ops.merge(left[1], right[1], on=on, how=how), joined(left[0], right[0], on, how))


@SETTINGS
@given(
    cut(largest=7),
    cut(RIGHT, largest=7),
    st.sampled_from(HOWS),
    st.sampled_from(["one_to_one", "one_to_many", "many_to_one"]),
)
def test_a_merge_is_held_to_its_validation(left: Any, right: Any, how: str, validate: Any) -> None:
    once = {"one_to_one": (0, 1), "one_to_many": (0,), "many_to_one": (1,)}[validate]
    repeats = any((left, right)[side][0].s.dropna().duplicated().any() for side in once)
    made = ops.merge(left[1], right[1], on="s", how=how, validate=validate)
    if repeats:
        with pytest.raises(Exception, match="validate: the key s="):
            computed(made)
    else:
        same_rows(made, joined(left[0], right[0], ["s"], how))


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
    assert_frame_equal(pd.concat(parts, ignore_index=True), frame)


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
