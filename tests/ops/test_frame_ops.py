"""Every frame op against pandas on the same data, cut into partitions in several ways."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from dask.base import tokenize
from dask.callbacks import Callback
from named_ops import frames as ops
from pandas.testing import assert_frame_equal
from serially import rows_of, values_of

from pipeline.config.expressions import expression
from pipeline.errors import OpError
from pipeline.graph.nodes import constant, task
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
    schema = pa.schema([_field(parts, str(column)) for column in parts[0].columns])
    tables = [pa.Table.from_pandas(part, schema, preserve_index=False).replace_schema_metadata(None) for part in parts]
    tasks = {(name, i): constant((name, i), piece) for i, piece in enumerate(tables)}
    return Frame(tasks, tuple(tasks), schema)


def _field(parts: list[pd.DataFrame], column: str) -> pa.Field:
    whole = pd.concat([part[column] for part in parts])
    kind = pa.Array.from_pandas(whole).type
    kind = pa.dictionary(pa.int32(), pa.string()) if pa.types.is_dictionary(kind) else kind
    return pa.field(column, pa.string() if pa.types.is_large_string(kind) else kind, bool(whole.isna().any()))


def rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows in a canonical order; a frame as a multiset of rows."""
    texts = [name for name in frame.columns if isinstance(frame[name].dtype, pd.CategoricalDtype | pd.StringDtype)]
    plain = frame.astype(dict.fromkeys(texts, "str"))
    if not len(frame.columns):
        return plain
    return plain.sort_values(list(frame.columns), na_position="last", ignore_index=True)


def computed(collection: Any) -> pd.DataFrame:
    return rows_of(collection)


def same_rows(got: Any, wanted: pd.DataFrame) -> None:
    assert_frame_equal(rows(computed(got)), rows(wanted), check_dtype=False)


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
    same_rows(got, pd.concat([one, other], ignore_index=True))
    assert got.schema.field("k").type == pa.int64()


def test_concat_refuses_other_columns_and_types() -> None:
    one = cut(table(), [])
    with pytest.raises(OpError, match="'b' is a column of input 1 and not of input 2"):
        ops.concat(one, ops.select(one, columns=["x"]))
    with pytest.raises(OpError, match="column 'k' is int64 and string; make it one type"):
        ops.concat(one, cut(table().astype({"k": "str"}), []))


# ---------------------------------------------------------------------------------------------------------------------
# All of them
# ---------------------------------------------------------------------------------------------------------------------


def every_op(one: Any, other: Any) -> dict[str, Any]:
    return {
        "select": ops.select(one, columns=["x"]),
        "filter": ops.filter(one, where=expr("x > 0")),
        "assign": ops.assign(one, columns={"y": expr("x * 2")}),
        "concat": ops.concat(one, other),
        "groupby": ops.groupby(one, by="k", agg=aggs(y="sum(x)")),
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
        "resample": ops.resample(one, on="t", rule="D", agg=aggs(y="sum(x)")),
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
        (lambda f: ops.groupby(f, by="k", agg=aggs(m="mean(s)")), r"agg.m: mean\(x\) has no meaning for string"),
        (lambda f: ops.groupby(f, by="k", agg=aggs(m="any(x)")), r"agg.m: any\(x\) needs true or false; got float64"),
        (
            lambda f: ops.merge(f, f, left_on="k", right_on="s"),
            "'k' of the left .int64. and 's' of the right .string.",
        ),
        (lambda f: ops.merge(f, f, on="k", suffixes=["", ""]), "would give two columns the name"),
        (lambda f: ops.merge(f, f), "on: is missing"),
    ],
)
def test_a_fault_is_said_while_building_with_its_place(build: Any, message: str) -> None:
    with pytest.raises(OpError, match=message):
        build(cut(table(), [100]))


def test_many_columns_are_assigned_as_few_are(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": [1.5, 2.5], "t": ["u", "v"], **{f"x{i}": [i, i + 1] for i in range(12)}})
    rows.to_parquet(tmp_path / "f.parquet")
    one = {f"x{i}": f"x{i} + a" for i in range(12)} | {"y": "x3 * 2", "t": "upper(t)", "z": "y + x11"}
    steps = "".join(f"  s{i}: {{op: assign, input: {'f' if not i else f's{i - 1}'}, columns: {{{name}: '{text}'}}}}\n"
                    for i, (name, text) in enumerate(one.items()))  # fmt: skip
    together = ", ".join(f"{name}: '{text}'" for name, text in one.items())
    whole = f"  all: {{op: assign, input: f, columns: {{{together}}}}}\n"
    got = values_of(f"steps:\n  f: {{op: read_parquet, path: f.parquet}}\n{steps}{whole}", tmp_path)
    pd.testing.assert_frame_equal(got["all"], got[f"s{len(one) - 1}"])
    assert got["all"]["z"].tolist() == [(3 + 1.5) * 2 + 11 + 1.5, (4 + 2.5) * 2 + 12 + 2.5]
