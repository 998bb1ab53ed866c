"""Every frame op against pandas on the same data, cut into partitions in several ways."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dask.base import tokenize
from dask.callbacks import Callback
from named_ops import frames as ops
from pandas.testing import assert_frame_equal
from serially import partitions_of, rows_of

from pipeline.config.expressions import expression
from pipeline.errors import DataError, OpError
from pipeline.graph.graph import constant, task
from pipeline.ops.collections import Frame, Single

CUTS: dict[str, list[int]] = {
    "one partition": [],
    "three partitions": [67, 133],
    "seven partitions": [30, 60, 90, 120, 150, 180],
    "empty partitions": [0, 100, 100, 200],
}
cuts = pytest.mark.parametrize("at", CUTS.values(), ids=CUTS.keys())


def expr(text: str) -> expression.Expression:
    return expression.parse(text, "columns")


def aggs(**texts: str) -> dict[str, expression.Expression]:
    return {name: expression.parse(text, "agg") for name, text in texts.items()}


def cut(frame: pd.DataFrame, at: list[int]) -> Any:
    """A collection with the rows cut at these positions, partitions without rows included."""
    edges = [0, *(min(a, len(frame)) for a in at), len(frame)]
    parts = [frame.iloc[start:stop] for start, stop in itertools.pairwise(edges)]
    return collection(parts)


def collection(parts: list[pd.DataFrame]) -> Any:
    name = f"data-{tokenize(parts)}"
    tasks = {(name, i): constant((name, i), part) for i, part in enumerate(parts)}
    return Frame(tasks, tuple(tasks), parts[0].iloc[:0])


def rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows in a canonical order; a frame as a multiset of rows."""
    plain = frame.astype({name: "str" for name in frame.columns if isinstance(frame[name].dtype, pd.CategoricalDtype)})
    if not len(frame.columns):
        return plain
    return plain.sort_values(list(frame.columns), na_position="last", ignore_index=True)


def computed(collection: Any, *, clean: bool = True) -> pd.DataFrame:
    parts = partitions_of(collection)
    for part in parts:
        assert not clean or part.index.equals(pd.RangeIndex(len(part)))
        assert list(part.columns) == list(collection.columns)
        for name in part.columns:
            if not isinstance(part[name].dtype, pd.CategoricalDtype):
                assert part[name].dtype == collection.meta[name].dtype, name
    return pd.concat(parts, ignore_index=True)


def same_rows(got: Any, wanted: pd.DataFrame, *, clean: bool = True) -> None:
    assert_frame_equal(rows(computed(got, clean=clean)), rows(wanted), check_dtype=False)


def table(n: int = 200, seed: int = 0) -> pd.DataFrame:
    """All the types that frames have, a fifth of most columns missing, many ties."""
    rng = np.random.default_rng(seed)

    def holes(column: pd.Series) -> pd.Series:
        return column.mask(rng.random(n) < 0.2)

    text = pd.Series(rng.choice(["ash", "beech", "oak", "yew"], n), dtype="str")
    return pd.DataFrame(
        {
            "k": rng.integers(0, 4, n),
            "s": holes(text),
            "x": holes(pd.Series(rng.normal(size=n).round(1))),
            "n": holes(pd.Series(rng.integers(-3, 3, n), dtype="Int64")),
            "b": rng.random(n) < 0.5,
            "t": holes(pd.Series(pd.Timestamp("2020-03-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 3, n), "D"))),
            "c": holes(text).astype("category"),
        }
    )


# ---------------------------------------------------------------------------------------------------------------------
# select, filter, assign, concat
# ---------------------------------------------------------------------------------------------------------------------


@cuts
def test_select_keeps_columns_in_the_order_asked_for(at: list[int]) -> None:
    same_rows(ops.select(cut(table(), at), columns=["x", "k"]), table()[["x", "k"]])


@cuts
def test_filter_keeps_the_rows_for_which_the_condition_is_true(at: list[int]) -> None:
    frame = table()
    same_rows(ops.filter(cut(frame, at), where=expr("x > 0 and k != 2")), frame[(frame.x > 0) & (frame.k != 2)])


@pytest.mark.parametrize("where", ["n != 1", "n == 1", "s != 'oak'", "x < 0", "t > timestamp('2020-03-01T00:00Z')"])
def test_a_comparison_with_a_missing_value_is_false(where: str) -> None:
    names = {"n", "s", "x", "t"} & expr(where).names
    assert not computed(ops.filter(cut(table(), [100]), where=expr(where)))[list(names)].isna().any().any()


@cuts
def test_assign_adds_and_replaces_columns_in_order(at: list[int]) -> None:
    frame = table()
    got = ops.assign(cut(frame, at), columns={"k": expr("k + 1"), "double": expr("k * 2"), "one": expr("1")})
    wanted = frame.assign(k=frame.k + 1, double=(frame.k + 1) * 2, one=1)
    assert list(got.columns) == list(wanted.columns)
    same_rows(got, wanted)


def test_run_time_values_reach_assign_filter_and_groupby() -> None:
    best = Single(("best",), {("best",): task(("best",), int, "2")})
    frame = table()
    low = expression.bind(expr("k < ${best}"), {"best": _Reference("best")}, {})
    plus = expression.bind(expr("k + ${best}"), {"best": _Reference("best")}, {})
    total = expression.bind(expression.parse("sum(k + ${best})", "agg"), {"best": _Reference("best")}, {})
    same_rows(ops.filter(cut(frame, [50]), where=low, bound={"where": [best]}), frame[frame.k < 2])
    same_rows(
        ops.select(ops.assign(cut(frame, [50]), columns={"p": plus}, bound={"columns.p": [best]}), columns=["p"]),
        frame.assign(p=frame.k + 2)[["p"]],
    )
    got = computed(ops.groupby(cut(frame, [50]), by=[], agg={"total": total}, bound={"agg.total": [best]}))
    assert got["total"].tolist() == [(frame.k + 2).sum()]


class _Reference:
    def __init__(self, name: str) -> None:
        self.name = name

    def __dask_tokenize__(self) -> str:
        return self.name


@cuts
def test_concat_puts_frames_below_each_other(at: list[int]) -> None:
    one, other = table(), table(seed=1)
    shuffled = other[list(reversed(other.columns))].astype({"k": "int32"})
    got = ops.concat(cut(one, at), cut(shuffled, at))
    same_rows(got, pd.concat([one, other], ignore_index=True), clean=False)  # partitions pass as they are
    assert got.meta.dtypes["k"] == np.int64


def test_concat_refuses_other_columns_and_types() -> None:
    one = cut(table(), [])
    with pytest.raises(OpError, match="'b' is a column of input 1 and not of input 2"):
        ops.concat(one, ops.select(one, columns=["x"]))
    with pytest.raises(OpError, match="column 'k' is int64 and str; make it one type"):
        ops.concat(one, cut(table().astype({"k": "str"}), []))


# ---------------------------------------------------------------------------------------------------------------------
# sort_values, nlargest, nsmallest, drop_duplicates
# ---------------------------------------------------------------------------------------------------------------------


def ordered(frame: pd.DataFrame, by: list[str], ascending: list[bool]) -> pd.DataFrame:
    """Pandas' sort with our meaning: ties by the remaining columns, ascending, missing last."""
    rest = [name for name in frame.columns if name not in by]
    plain = frame.astype({"c": "str"})
    order = plain.sort_values([*by, *rest], ascending=[*ascending, *(True for _ in rest)], na_position="last").index
    return plain.loc[order].reset_index(drop=True)


@cuts
@pytest.mark.parametrize(
    ("by", "ascending"),
    [(["x"], [True]), (["s"], [False]), (["n", "x"], [True, False]), (["b", "t"], [False, True]), (["c"], [False])],
)
def test_sort_values_gives_one_order_however_rows_are_cut(by: list[str], ascending: list[bool], at: list[int]) -> None:
    frame = table()
    got = computed(ops.sort_values(cut(frame, at), by=by, ascending=ascending))
    assert_frame_equal(got.astype({"c": "str"}), ordered(frame, by, ascending))


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([None] * 20, dtype="float64"),
        pd.Series([7] * 20),
        pd.Series(2**62 + np.arange(20)[::-1]),
        pd.Series(pd.Categorical(list("abcd") * 5, categories=["d", "b", "c", "a"], ordered=True)),
    ],
    ids=["all missing", "all equal", "beyond float64", "ordered categories"],
)
def test_sort_values_of_odd_columns(column: pd.Series) -> None:
    frame = pd.DataFrame({"v": column, "i": np.arange(20)[::-1]})
    got = computed(ops.sort_values(cut(frame, [3, 3, 9, 15]), by="v"))
    assert_frame_equal(got, frame.sort_values(["v", "i"], ignore_index=True))


def test_a_sort_spreads_its_rows_even_if_most_are_equal() -> None:
    frame = pd.DataFrame({"v": [1] * 3900 + [2] * 100, "i": np.random.default_rng(0).permutation(4000)})
    got = ops.sort_values(cut(frame, [1000, 2000, 3000]), by="v")
    sizes = [len(part) for part in partitions_of(got)]
    assert max(sizes) < 1100


def test_a_sort_of_many_partitions_goes_in_two_stages() -> None:
    frame = pd.DataFrame({"v": np.random.default_rng(0).permutation(400)})
    got = ops.sort_values(cut(frame, list(range(10, 400, 10))), by="v", ascending=False)
    assert any(str(key[0]).startswith("sort-spread") for key in got.tasks)
    assert computed(got)["v"].tolist() == list(range(399, -1, -1))


@cuts
@pytest.mark.parametrize(("columns", "n"), [("x", 5), ("n", 1), (["s", "x"], 500), ("t", 5), ("x", 180)])
def test_nlargest_and_nsmallest_are_the_first_rows_of_a_sort(columns: Any, n: int, at: list[int]) -> None:
    frame, by = table(), [columns] if isinstance(columns, str) else columns
    for op, ascending in ((ops.nlargest, False), (ops.nsmallest, True)):
        got = computed(op(cut(frame, at), n=n, columns=columns)).astype({"c": "str"})
        assert_frame_equal(got, ordered(frame, by, [ascending] * len(by)).head(n))


@cuts
def test_nlargest_by_group_takes_the_first_rows_of_each(at: list[int]) -> None:
    frame = table()
    got = computed(ops.nlargest(cut(frame, at), n=2, columns="x", by="s")).astype({"c": "str"})
    wanted = ordered(frame, ["s", "x"], [True, False]).groupby("s", dropna=False).head(2).reset_index(drop=True)
    assert_frame_equal(got, wanted)


@cuts
@pytest.mark.parametrize("subset", [None, "k", ["k", "n"], ["s", "b"]])
def test_drop_duplicates_keeps_the_first_by_other_columns(subset: Any, at: list[int]) -> None:
    frame = pd.concat([table(), table().iloc[:50]], ignore_index=True)
    names = list(frame.columns) if subset is None else [subset] if isinstance(subset, str) else subset
    wanted = ordered(frame, names, [True] * len(names)).drop_duplicates(names)
    same_rows(ops.drop_duplicates(cut(frame, at), subset=subset), wanted)


# ---------------------------------------------------------------------------------------------------------------------
# groupby
# ---------------------------------------------------------------------------------------------------------------------

ALL = aggs(
    total="sum(x)",
    whole="sum(n)",
    mean="mean(x)",
    low="min(x)",
    high="max(s)",
    size="count()",
    present="count(x)",
    distinct="nunique(s)",
    middle="median(x)",
    p90="quantile(x, 0.9)",
    sd="std(x, 1)",
    variance="var(n, 0)",
    start="first(s)",
    end="last(t)",
    some="any(b)",
    every="all(x > 0)",
)


def by_pandas(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    groups = frame.assign(up=frame.x > 0).groupby(by, dropna=False, observed=True)
    columns = {
        "total": groups["x"].sum(),
        "whole": groups["n"].sum(),
        "mean": groups["x"].mean(),
        "low": groups["x"].min(),
        "high": groups["s"].max(),
        "size": groups.size(),
        "present": groups["x"].count(),
        "distinct": groups["s"].nunique(),
        "middle": groups["x"].median(),
        "p90": groups["x"].quantile(0.9),
        "sd": groups["x"].std(ddof=1),
        "variance": groups["n"].var(ddof=0).astype("float64"),
        "start": groups["s"].first(),
        "end": groups["t"].last(),
        "some": groups["b"].any(),
        "every": groups["up"].all(),
    }
    return pd.DataFrame(columns).reset_index()


@cuts
@pytest.mark.parametrize("by", [["k"], ["s"], ["c"], ["t", "n"], ["k", "s", "b"]], ids=",".join)
def test_groupby_gives_what_pandas_gives(by: list[str], at: list[int]) -> None:
    got = computed(ops.groupby(cut(table(), at), by=by, agg=ALL))
    wanted = by_pandas(table(), by)
    assert list(got.columns) == list(wanted.columns)
    assert "c" in by or got[by].dtypes.equals(wanted[by].dtypes)
    for frame in (got, wanted):
        frame["text"] = frame[by].astype("str").fillna("missing").agg("|".join, axis=1)
    left, right = (frame.set_index("text").drop(columns=by).sort_index() for frame in (got, wanted))
    assert_frame_equal(left, right, check_dtype=False)


def test_a_missing_key_is_a_group_and_nothing_sums_to_0() -> None:
    frame = pd.DataFrame({"g": ["a", None, None], "x": [np.nan, 1.0, 2.0]}).astype({"g": "str"})
    got = computed(ops.groupby(cut(frame, [1, 2]), by="g", agg=aggs(total="sum(x)", mean="mean(x)", n="count(x)")))
    wanted = pd.DataFrame({"g": ["a", None], "total": [0.0, 3.0], "mean": [np.nan, 1.5], "n": [0, 2]}).astype(
        {"g": "str"}
    )
    assert_frame_equal(rows(got), wanted)


@pytest.mark.parametrize("at", [[], [0, 0]], ids=["one partition", "three"])
def test_groupby_of_no_rows_has_no_groups_but_its_types(at: list[int]) -> None:
    frame = ops.groupby(cut(table(0), at), by=["k", "s"], agg=ALL)
    assert len(computed(frame)) == 0
    assert frame.meta.dtypes["total"] == np.float64
    assert frame.meta.dtypes["whole"] == pd.Int64Dtype()


@pytest.mark.parametrize("n", [0, 200])
def test_groupby_by_nothing_is_one_group(n: int) -> None:
    got = computed(ops.groupby(cut(table(n), [50, 100]), by=[], agg=aggs(n="count()", total="sum(x)", low="min(k)")))
    frame = table(n)
    assert got["n"].tolist() == [n]
    assert got["total"].tolist() == [pytest.approx(frame.x.sum())]
    assert got["low"].isna().tolist() == [n == 0]


def test_std_keeps_its_digits_far_from_zero() -> None:
    frame = pd.DataFrame({"g": 1, "x": 1e9 + np.random.default_rng(0).normal(size=1000)})
    got = computed(ops.groupby(cut(frame, list(range(50, 1000, 50))), by="g", agg=aggs(sd="std(x, 0)")))
    assert got["sd"][0] == pytest.approx(np.std(frame.x.to_numpy()), rel=1e-7)


def test_categories_may_differ_between_partitions() -> None:
    parts = [pd.DataFrame({"c": pd.Categorical(list(text)), "x": 1}) for text in ("ba", "cb", "")]
    got = computed(ops.groupby(collection(parts[::-1]), by="c", agg=aggs(n="sum(x)")))
    assert dict(zip(got["c"].astype("str"), got["n"], strict=True)) == {"a": 1, "b": 2, "c": 1}


@pytest.mark.parametrize(
    ("values", "text", "answer", "of_nothing", "dtype"),
    [
        (pd.to_timedelta([1, 2, None, 4], unit="h"), "sum(v)", pd.Timedelta("7h"), pd.Timedelta(0), "timedelta64[us]"),
        (pd.to_timedelta([1, 2, None, 5], unit="h"), "mean(v)", pd.Timedelta("160min"), None, "timedelta64[us]"),
        (pd.to_datetime(["2020-01-01", "2020-01-03", None, "2020-01-04"]), "median(v)", pd.Timestamp("2020-01-03"),
         None, "datetime64[us]"),
        (np.full(4, 100, dtype="int8"), "sum(v)", 400, 0, "int64"),
        (np.full(4, 100, dtype="int8"), "min(v)", 100, None, "Int8"),
        (np.arange(4, dtype="uint32"), "sum(v)", 6, 0, "uint64"),
        (np.arange(4, dtype="float32"), "sum(v)", 6.0, 0.0, "float64"),
        (pd.array([True, None, False, None], dtype="boolean"), "sum(v)", 1, 0, "Int64"),
        (pd.array([True, None, False, None], dtype="boolean"), "all(v)", False, True, "bool"),
        (pd.array([None, None, False, None], dtype="boolean"), "any(v)", False, False, "bool"),
        (pd.array([1.5, None, 2, 3], dtype="Float64"), "max(v)", 3.0, None, "Float64"),
        (pd.Categorical(list("abab"), categories=["b", "a"], ordered=True), "max(v)", "a", None, "category"),
    ],
)  # fmt: skip
def test_an_aggregate_has_one_type_whatever_the_rows(
    values: Any, text: str, answer: Any, of_nothing: Any, dtype: str
) -> None:
    frame = pd.DataFrame({"v": values})
    for part, wanted in ((frame, answer), (frame.iloc[:0], of_nothing)):
        got = computed(ops.groupby(cut(part, [1, 2]), by=[], agg=aggs(a=text)))["a"]
        assert str(got.dtype) == dtype
        assert got.isna()[0] if wanted is None else got[0] == wanted


LINES = aggs(
    sum_qty="sum(quantity)",
    sum_base="sum(price)",
    sum_disc="sum(price * (1 - discount))",
    sum_charge="sum(price * (1 - discount) * (1 + tax))",
    avg_qty="mean(quantity)",
    avg_price="mean(price)",
    avg_disc="mean(discount)",
    n="count()",
)


def lines(n: int = 4000) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "flag": pd.Series(rng.choice(["A", "N", "R"], n), dtype="str"),
            "status": pd.Series(rng.choice(["O", "F"], n), dtype="str"),
            "quantity": rng.integers(1, 51, n).astype(float),
            "price": rng.uniform(900, 1e5, n).round(2),
            "discount": rng.integers(0, 11, n) / 100,
            "tax": rng.integers(0, 9, n) / 100,
        }
    )


def test_a_pricing_summary_equals_pandas() -> None:
    frame = lines()
    got = ops.sort_values(
        ops.groupby(cut(frame, list(range(400, 4000, 400))), by=["flag", "status"], agg=LINES), by=["flag", "status"]
    )
    frame["disc"] = frame.price * (1 - frame.discount)
    frame["charge"] = frame.disc * (1 + frame.tax)
    wanted = frame.groupby(["flag", "status"], as_index=False).agg(
        sum_qty=("quantity", "sum"),
        sum_base=("price", "sum"),
        sum_disc=("disc", "sum"),
        sum_charge=("charge", "sum"),
        avg_qty=("quantity", "mean"),
        avg_price=("price", "mean"),
        avg_disc=("discount", "mean"),
        n=("price", "size"),
    )
    assert_frame_equal(computed(got), wanted)


@pytest.mark.parametrize("n", [8, 30])
def test_a_pricing_summary_takes_one_task_a_partition_and_a_tree(n: int) -> None:
    step = 4000 // n
    frame = ops.groupby(cut(lines(), [step * i for i in range(1, n)]), by=["flag", "status"], agg=LINES)
    names = [str(key[0]) for key in frame.tasks]
    own = [name for name in names if name.startswith(("partial", "aggregate"))]
    assert len(own) == n + (0 if n <= 8 else -(-n // 8)) + 1


# ---------------------------------------------------------------------------------------------------------------------
# merge
# ---------------------------------------------------------------------------------------------------------------------


def by_relations(left: pd.DataFrame, right: pd.DataFrame, how: str, on: list[str]) -> pd.DataFrame:
    """Pandas' merge, missing keys matching nothing."""
    matched = left.dropna(subset=on).merge(right.dropna(subset=on), how=how, on=on)
    alone = left[left[on].isna().any(axis=1)]
    if how == "inner" or not len(alone):
        return matched
    renamed = alone.rename(columns={name: f"{name}_x" for name in set(left) & set(right) - set(on)})
    return pd.concat([matched, renamed], ignore_index=True)[list(matched.columns)]


@cuts
@pytest.mark.parametrize("other", [[], [20, 20, 40]], ids=["broadcast", "shuffled"])
@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("on", [["k"], ["n", "x"], ["t", "s"], ["c"]], ids=",".join)
def test_merge_pairs_the_rows_whose_keys_are_equal(on: list[str], how: str, other: list[int], at: list[int]) -> None:
    left, right = table()[[*on, "b"]], table(60, seed=1)[[*on, "b"]]
    got = ops.merge(cut(left, at), cut(right, other), how=how, on=on)
    assert list(got.columns) == [*on, "b_x", "b_y"]
    wanted = by_relations(left, right, how, on)
    text = [
        frame.astype("str").sort_values(list(frame.columns), ignore_index=True) for frame in (computed(got), wanted)
    ]
    assert_frame_equal(*text)


@pytest.mark.parametrize("at", [[], [50, 100]], ids=["broadcast", "shuffled"])
def test_merge_by_keys_of_other_names_keeps_both_and_every_type(at: list[int]) -> None:
    left = pd.DataFrame({"a": pd.array([1, 2, 3, None], dtype="Int64"), "v": list("pqrs")}).astype({"v": "str"})
    right = pd.DataFrame({"z": np.array([3, 2, 2], dtype="int32"), "v": [1.5, 2.5, 3.5], "w": [10, 20, 30]})
    got = ops.merge(cut(left, at), cut(right, at), how="left", left_on="a", right_on="z", suffixes=["", "_right"])
    assert {name: str(dtype) for name, dtype in got.meta.dtypes.items()} == {
        "a": "Int64", "v": "str", "z": "Int32", "v_right": "float64", "w": "Int64",
    }  # fmt: skip
    wanted = pd.DataFrame(
        {
            "a": [1, 2, 2, 3, None],
            "v": list("pqqrs"),
            "z": [None, 2, 2, 3, None],
            "v_right": [np.nan, 2.5, 3.5, 1.5, np.nan],
            "w": [None, 20, 30, 10, None],
        }
    )
    assert_frame_equal(rows(computed(got)), wanted.astype(got.meta.dtypes.to_dict()))


def test_merge_compares_whole_numbers_of_any_size() -> None:
    large = 2**63 + 1
    left = pd.DataFrame({"k": np.array([large, 2, 3, large], dtype="uint64"), "a": range(4)})
    right = pd.DataFrame({"k": [2, large - 2**64, -3], "b": range(3)})
    for how, kept in (("semi", [1]), ("anti", [0, 2, 3])):
        got = rows_of(ops.merge(cut(left, [1, 2]), cut(right, [1]), on="k", how=how))
        assert sorted(got["a"]) == kept
    with pytest.raises(DataError, match=f"the key k={large} repeats on the left"):
        rows_of(ops.merge(cut(left, []), cut(right, []), on="k", validate="one_to_one"))


@pytest.mark.parametrize("values", [[[1], None, [1]], [{"a": 1}, {}, None]])
def test_lists_and_maps_are_no_keys(values: list[Any]) -> None:
    frame = pd.DataFrame({"l": pd.Series(values, dtype=object), "a": [1, 2, 3]})
    x = cut(frame, [1])
    for made in (
        ops.groupby(x, by="l", agg=aggs(n="count()")),
        ops.drop_duplicates(x),
        ops.value_counts(x, columns=["a", "l"]),
        ops.merge(x, x, on="l"),
    ):
        with pytest.raises(DataError, match="column 'l' holds lists or maps; keys are single values"):
            rows_of(made)
    got = ops.groupby(ops.assign(x, columns={"l": expr("text(l)")}), by="l", agg=aggs(n="count()", m="max(a)"))
    assert len(rows_of(got)) == frame["l"].astype("str").nunique(dropna=False)


def test_merge_says_which_side_lacks_a_column() -> None:
    left, right = pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})
    with pytest.raises(OpError, match="right_on: 'a' is no column of the right side; its columns: b"):
        ops.merge(cut(left, []), cut(right, []), left_on="a", right_on="a")


@pytest.mark.parametrize("how", ["inner", "left"])
def test_merge_of_frames_without_rows(how: str) -> None:
    empty, full = cut(table(0), [0]), cut(table(), [100])
    assert len(computed(ops.merge(empty, full, how=how, on="k"))) == 0
    assert len(computed(ops.merge(full, empty, how=how, on="k"))) == (200 if how == "left" else 0)


@pytest.mark.parametrize(
    ("validate", "side"), [("one_to_one", "left"), ("one_to_many", "left"), ("many_to_one", "right")]
)
@pytest.mark.parametrize("at", [[], [2]], ids=["one partition", "two"])
def test_merge_says_which_key_repeats_against_its_validation(validate: Any, side: str, at: list[int]) -> None:
    twice, once = pd.DataFrame({"k": [1, 5, 5]}), pd.DataFrame({"k": [5, 6, 7]})
    left, right = (twice, once) if side == "left" else (once, twice)
    with pytest.raises(DataError, match=f"validate: the key k=5 repeats on the {side}"):
        computed(ops.merge(cut(left, at), cut(right, at), on="k", validate=validate))
    turned = {"one_to_many": "many_to_one", "many_to_one": "one_to_many"}.get(validate)
    if turned:
        assert len(computed(ops.merge(cut(left, at), cut(right, at), on="k", validate=turned))) == 2  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------------
# All of them
# ---------------------------------------------------------------------------------------------------------------------


def every_op(one: Any, other: Any) -> dict[str, Any]:
    return {
        "select": ops.select(one, columns=["x"]),
        "filter": ops.filter(one, where=expr("x > 0")),
        "assign": ops.assign(one, columns={"y": expr("x * 2")}),
        "concat": ops.concat(one, other),
        "groupby": ops.groupby(one, by="k", agg=ALL),
        "merge": ops.merge(one, other, on="k"),
        "sort_values": ops.sort_values(one, by="x"),
        "nlargest": ops.nlargest(one, n=3, columns="x"),
        "nsmallest": ops.nsmallest(one, n=3, columns="x", by="k"),
        "drop_duplicates": ops.drop_duplicates(one, subset="k"),
        "rename": ops.rename(one, columns={"k": "key"}),
        "astype": ops.astype(one, columns={"k": "string"}),
        "fillna": ops.fillna(one, value={"x": 0, "t": "2020-01-01T00:00Z"}),
        "dropna": ops.dropna(one, subset="x"),
        "value_counts": ops.value_counts(one, columns=["k", "s"]),
        "set_index": ops.set_index(one, keys="k"),
        "repartition": ops.repartition(one, npartitions=2, count_rows=True),
        "regroup": ops.repartition(one, npartitions=5),
        "map_partitions": ops.map_partitions(one, function="test_frame_ops:doubled", columns={"y": "float64"}),
        "resample": ops.resample(one, on="t", rule="D", agg=ALL),
        "rolling": ops.rolling(one, on="t", window="2d", by="k", columns=aggs(y="sum(x)", z="last(s)")),
        "anti": ops.merge(one, other, on="k", how="anti"),
    }


def doubled(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"y": frame["x"] * 2})


EVERY_OP = ("select", "filter", "assign", "concat", "groupby", "merge", "sort_values", "nlargest", "nsmallest",
            "drop_duplicates", "rename", "astype", "fillna", "dropna", "value_counts", "set_index", "repartition",
            "regroup", "map_partitions", "resample", "rolling", "anti")  # fmt: skip


class _Counter(Callback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.n = 0
        super().__init__(pretask=self.count)

    def count(self, *_: Any) -> None:
        self.n += 1


def test_building_runs_no_task() -> None:
    with _Counter() as counter:
        every_op(cut(table(), [50, 100]), cut(table(), [20]))
    assert counter.n == 0


def test_building_twice_gives_equal_keys_and_tasks_that_pickle() -> None:
    first = every_op(cut(table(), [50, 100]), cut(table(), [20]))
    again = every_op(cut(table(), [50, 100]), cut(table(), [20]))
    for op, frame in first.items():
        graph, other = (dict(x.tasks) for x in (frame, again[op]))
        assert set(graph) == set(other), op
        assert len(pickle.dumps(graph)) > 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda f: ops.filter(f, where=expr("kk > 1")),
            "where: column 1: 'kk' is no column of the input; did you mean",
        ),
        (lambda f: ops.filter(f, where=expr("k + 1")), "where: gives int64, a condition is true or false"),
        (lambda f: ops.select(f, columns=["k", "k"]), "columns: 'k' is named twice"),
        (lambda f: ops.select(f, columns=["zebra"]), "'zebra' is no column of the input; its columns: k, s, x"),
        (lambda f: ops.sort_values(f, by=["k", "x"], ascending=[True]), "got 1 directions for 2 columns"),
        (lambda f: ops.groupby(f, by="k", agg=aggs(k="sum(x)")), "agg.k: 'k' is a column of the keys already"),
        (lambda f: ops.groupby(f, by="k", agg=aggs(m="mean(s)")), r"agg.m: mean\(x\) has no meaning for str"),
        (lambda f: ops.groupby(f, by="k", agg=aggs(m="any(x)")), r"agg.m: any\(x\) needs true or false; got float64"),
        (
            lambda f: ops.merge(f, f, left_on="k", right_on="s"),
            "'k' of the left .int64. and 's' of the right .str.",
        ),
        (lambda f: ops.merge(f, f, on="k", suffixes=["", ""]), "would give two columns the name"),
        (lambda f: ops.merge(f, f), "on: is missing"),
    ],
)
def test_a_fault_is_said_while_building_with_its_place(build: Any, message: str) -> None:
    with pytest.raises(OpError, match=message):
        build(cut(table(), [100]))
