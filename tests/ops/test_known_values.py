"""pivot, dummies, cut and describe: against pandas; what their columns are called; what fails."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import frame_of, table_of, values_of
from strategies import SETTINGS

from pipeline.builder.build import build
from pipeline.config.expressions import expression
from pipeline.config.loader import loads
from pipeline.errors import ConfigError, DataError, OpError, TaskError
from pipeline.ops.frames.describe import describe
from pipeline.ops.frames.known_values import cut, dummies, pivot
from pipeline.runs.run import run


def agg(text: str) -> expression.Expression:
    return expression.parse(text, "agg")


@st.composite
def sales(draw: st.DrawFn) -> tuple[pd.DataFrame, Any]:
    """Some rows, and the same rows as a step's input."""
    n = draw(st.integers(0, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    frame = pd.DataFrame(
        {"shop": rng.integers(0, 3, n), "quarter": rng.integers(1, 4, n), "x": rng.integers(-8, 8, n) / 4}
    )
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return frame, frame_of(table, draw(st.integers(1, 4)))


@SETTINGS
@given(sales())
def test_a_pivot_is_that_of_pandas(given: Any) -> None:
    frame, x = given
    got = table_of(pivot(x, index="shop", columns="quarter", names=[1, 2, 3], agg=agg("sum(x) + count()")))
    assert got.column_names == ["shop", "1", "2", "3"]
    totals = frame.groupby(["shop", "quarter"]).x.agg(["sum", "count"]).sum(axis=1)
    wanted = [(shop, *(totals.get((shop, quarter), 0.0) for quarter in (1, 2, 3))) for shop in sorted(set(frame.shop))]
    assert [tuple(row.values()) for row in got.to_pylist()] == wanted


def test_a_pivot_without_rows_for_a_value_says_so() -> None:
    x = frame_of({"k": ["a", "b", "a"], "c": ["x", "y", None], "v": [1, 2, 4]}, 2)
    got = table_of(pivot(x, index=[], columns="c", names={"first": "x", "none": "z"}, agg=agg("max(v)"), rest="drop"))
    assert got.to_pylist() == [{"first": 1, "none": None}]
    got = table_of(pivot(x, index="k", columns="c", names=["y", "x"], agg=agg("count()"), rest="drop"))
    assert got.to_pylist() == [{"k": "a", "y": 0, "x": 1}, {"k": "b", "y": 1, "x": 0}]
    whole = frame_of({"k": ["a", "b"], "c": ["x", "y"]}, 2)
    with pytest.raises(DataError, match="names: 'c' is 'y' too; name it, or write rest: drop"):
        table_of(pivot(whole, index="k", columns="c", names=["x"], agg=agg("count()")))
    some = frame_of({"c": ["x", None], "v": [1, 2]})
    with pytest.raises(DataError, match="names: 'c' is missing in some rows; give it a value by op fillna"):
        table_of(pivot(some, index=[], columns="c", names=["x"], agg=agg("sum(v)")))


def table_in_the_run(made: Any) -> pa.Table:
    """The table that a pivot gives whose values are found in the run."""
    table: pa.Table = dask.get(dict(made.tasks), made.key)
    return table


@SETTINGS
@given(sales(), st.sampled_from(["sum(x) + count()", "mean(x)", "max(x)", "count()"]), st.sampled_from(["shop", []]))
def test_values_found_in_the_run_give_what_known_ones_give(given: Any, text: str, index: Any) -> None:
    frame, x = given
    names = sorted(set(frame.quarter.tolist()))
    got = table_in_the_run(pivot(x, index=index, columns="quarter", names="auto", agg=agg(text)))
    assert got.column_names == [*([index] if index else []), *map(str, names)]
    if names:
        wanted = table_of(pivot(x, index=index, columns="quarter", names=names, agg=agg(text)))
        assert got.to_pylist() == wanted.to_pylist()


def test_values_found_in_the_run_are_ascending_and_missing_ones_no_column() -> None:
    days = [dt.date(2001, 1, 2), dt.date(2001, 1, 1), None, dt.date(2001, 1, 1)]
    x = frame_of({"k": ["b", None, "a", "b"], "d": days, "v": [1, 2, 4, 8]}, 3)
    got = table_in_the_run(pivot(x, index="k", columns="d", names="auto", agg=agg("sum(v)")))
    assert got.to_pylist() == [
        {"k": "a", "2001-01-01": 0, "2001-01-02": 0},
        {"k": "b", "2001-01-01": 8, "2001-01-02": 1},
        {"k": None, "2001-01-01": 2, "2001-01-02": 0},
    ]
    with pytest.raises(DataError, match="'d' has a value for a column '2001-01-01', and there is one of this name"):
        table_in_the_run(
            pivot(frame_of({"2001-01-01": [1], "d": days[1:2]}), index="2001-01-01", columns="d", names="auto",
                  agg=agg("count()"))
        )  # fmt: skip


@pytest.mark.parametrize("output", ["{to: csv, path: o.csv.gz}", "{to: parquet, path: o}", "{to: json, path: o.json}"])
@pytest.mark.parametrize("rows", [3, 0])
def test_a_table_whose_columns_are_found_in_the_run_is_written(output: str, rows: int, tmp_path: Path) -> None:
    frame = pd.DataFrame({"k": ["a", "b", "a"], "c": ["x", "y", "x"], "v": [1, 2, 4]}).iloc[:rows]
    frame.to_parquet(tmp_path / "t.parquet")
    text = f"""
version: 1
steps:
  t: {{op: read_parquet, path: t.parquet}}
  p: {{op: pivot, input: t, index: k, columns: c, names: auto, agg: sum(v)}}
outputs:
  p: {output}
"""
    r = run(loads(text, root=str(tmp_path)), backend="serial", out=tmp_path, runs=tmp_path / "runs")
    got = pd.DataFrame(r.open("p"))
    wanted = [{"k": "a", "x": 5, "y": 0}, {"k": "b", "x": 0, "y": 2}] if rows else []
    assert got.to_dict("records") == wanted
    for wrong in ("partition_by: [k]", "files: 2", "mode: append"):
        if "parquet" in output:
            with pytest.raises(ConfigError, match="the columns of this table are known in the run alone"):
                build(loads(text.replace("path: o", f"path: o, {wrong}"), root=str(tmp_path)))


@pytest.mark.parametrize(
    "step",
    [
        "{op: head, input: p}",
        "{op: select, input: p, columns: [x]}",
        "{op: groupby, input: p, by: x, agg: {n: count()}}",
        "{op: merge, left: t, right: p, on: k}",
        "{op: concat, input: [t, p]}",
        "{op: describe, input: p}",
        "{op: sql, inputs: {p: p}, query: select k from p}",
        "{op: pivot, input: p, index: k, columns: x, names: auto, agg: count()}",
    ],
)
def test_columns_that_are_found_in_the_run_are_no_input_of_another_op(step: str, tmp_path: Path) -> None:
    pd.DataFrame({"k": ["a"], "c": ["x"], "v": [1]}).to_parquet(tmp_path / "t.parquet")
    text = f"""
version: 1
steps:
  t: {{op: read_parquet, path: t.parquet}}
  p: {{op: pivot, input: t, index: k, columns: c, names: auto, agg: sum(v)}}
  f: {step}
"""
    with pytest.raises(ConfigError, match=r"f\.(input|right|inputs).*: the columns of 'p' are known only in the run"):
        build(loads(text, root=str(tmp_path)))


FRAMES = """
import pandas as pd, polars as pl, pyarrow as pa
def plain(): return pd.DataFrame({"k": ["a", "b"], "v": [1, 2]})
def indexed(): return plain().set_index("k")
def arrow(): return pa.Table.from_pandas(plain())
def polars(): return pl.DataFrame({"k": ["a", "b"], "v": [1, 2]})
def no_frame(): return [1, 2]
"""


def written_value(tmp_path: Path, function: str) -> Any:
    (tmp_path / "frame_functions.py").write_text(FRAMES)
    text = "version: 1\nmodules: [./frame_functions.py]\n"
    text += f"steps: {{p: {{call: 'frame_functions:{function}'}}}}\noutputs: {{p: {{to: csv, path: o.csv}}}}\n"
    return run(loads(text, root=str(tmp_path)), backend="serial", out=tmp_path, runs=tmp_path / "runs").open("p")


@pytest.mark.parametrize("function", ["plain", "indexed", "arrow", "polars"])
def test_a_frame_that_a_call_returns_is_written(function: str, tmp_path: Path) -> None:
    assert written_value(tmp_path, function).to_dict("list") == {"k": ["a", "b"], "v": [1, 2]}


def test_what_is_no_frame_is_not_written_as_one(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="csv takes a frame, got list; write it as json or pickle"):
        written_value(tmp_path, "no_frame")


def test_a_pivot_of_days_medians_and_values_of_the_run(tmp_path: Path) -> None:
    days = [dt.date(2001, 1, 1), dt.date(2001, 1, 2), dt.date(2001, 1, 1)]
    x = frame_of({"d": days, "v": [1, 2, 4]}, 3)
    got = table_of(pivot(x, index=[], columns="d", names=days[:2], agg=agg("median(v)")))
    assert got.to_pylist() == [{"2001-01-01": 2.5, "2001-01-02": 2.0}]
    pd.DataFrame({"k": [1, 2, 2], "v": [1.0, 2.0, 4.0]}).to_parquet(tmp_path / "t.parquet")
    text = """
steps:
  t: {op: read_parquet, path: t.parquet}
  top: {op: groupby, input: t, by: [], agg: {v: max(v)}}
  p: {op: pivot, input: t, index: [], columns: k, names: [1, 2], agg: "sum(v) / ${top.v} + 0"}
"""
    assert values_of(text, tmp_path)["p"].to_dict("list") == {"1": [0.25], "2": [1.5]}


@SETTINGS
@given(st.lists(st.integers(-3, 12) | st.none(), max_size=9), st.sampled_from(["left", "right"]))
def test_bins_are_those_of_pandas(values: list[int | None], closed: str) -> None:
    edges = [0, 1, 4, 9]
    x = frame_of({"x": pa.array(values, pa.int64())}, 2)
    wanted = pd.cut(pd.Series(values, dtype="float64"), edges, right=closed == "right", labels=["low", "mid", "high"])
    got = table_of(cut(x, column="x", bins=edges, into="bin", labels=["low", "mid", "high"], closed=closed))
    assert got.column("bin").to_pylist() == [None if pd.isna(v) else v for v in wanted]


def test_bins_are_called_by_their_edges() -> None:
    now = dt.datetime(2001, 1, 1, 12)
    x = frame_of({"t": [now, now + dt.timedelta(9)], "x": [0.5, 2.0]})
    assert table_of(cut(x, column="x", bins=[0, 1.5, 3], into="b"))["b"].to_pylist() == ["[0, 1.5)", "[1.5, 3)"]
    got = table_of(cut(x, column="t", bins=["2001-01-01", "2001-01-05"], into="x", labels=[7]))
    assert got.to_pylist() == [{"t": now, "x": 7}, {"t": now + dt.timedelta(9), "x": None}]


def test_dummies_take_the_place_of_their_column() -> None:
    x = frame_of({"a": [1, 2, 3], "c": ["x", "y", None]}, 2)
    got = table_of(dummies(x, column="c", names=["x", "z"]))
    assert got.to_pylist() == [
        {"a": 1, "c_x": True, "c_z": False},
        {"a": 2, "c_x": False, "c_z": False},
        {"a": 3, "c_x": False, "c_z": False},
    ]
    assert table_of(dummies(x, column="a", names={"one": 1})).column_names == ["c", "one"]


@pytest.mark.parametrize("n", [1, 3])
def test_describe_has_a_row_a_column(n: int) -> None:
    x = frame_of(
        {
            "i": pa.array([2**60, None, 3, 5], pa.int64()),
            "s": ["b", "a", None, None],
            "t": pa.array([0, 1, 2, None], pa.timestamp("s", "UTC")),
            "l": [[1], None, [2], [3]],
            "d": pa.array([0, 5, None, None], pa.duration("s")),
        },
        n,
    )
    got = table_of(describe(x)).to_pylist()
    assert [row["column"] for row in got] == ["i", "s", "t", "l", "d"]
    assert [(row["type"], row["count"], row["missing"], row["min"], row["max"]) for row in got] == [
        ("int64", 3, 1, "3", str(2**60)),
        ("string", 2, 2, "a", "b"),
        ("timestamp[s, UTC]", 3, 1, "1970-01-01 00:00:00Z", "1970-01-01 00:00:02Z"),
        ("list[int64]", 3, 1, None, None),
        ("duration[s]", 2, 2, "0:00:00", "0:00:05"),
    ]
    wanted = pd.Series([2.0**60, 3, 5]).describe()
    assert [got[0][name] for name in ("mean", "std", "q25", "median", "q75")] == pytest.approx(
        [wanted[name] for name in ("mean", "std", "25%", "50%", "75%")]
    )
    assert got[1]["mean"] is None
    assert table_of(describe(x, columns="i")).num_rows == 1


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda x: pivot(x, index="k", columns="q", names=[1], agg=agg("count()")), "columns: 'q' is no column"),
        (lambda x: pivot(x, index="k", columns="k", names=[1, 1], agg=agg("count()")), "would be called '1'"),
        (lambda x: pivot(x, index="k", columns="c", names=["k"], agg=agg("count()")), "'k' is a column of the keys"),
        (lambda x: pivot(x, index="k", columns="k", names=["x"], agg=agg("count()")), "names: a number and text"),
        (lambda x: pivot(x, index="k", columns="k", names="auto", agg=agg("count()")), "'k' is one of the keys"),
        (lambda x: dummies(x, column="c", names={"k": "x"}), "names: 'k' is a column already"),
        (lambda x: dummies(x, column="c", names=[1]), "names: "),
        (lambda x: cut(x, column="k", bins=[0, 0], into="b"), "bins: got [0, 0]; edges are in ascending order"),
        (lambda x: cut(x, column="k", bins=[0, "a"], into="b"), "edges are in ascending order"),
        (lambda x: cut(x, column="c", bins=[0, 1], into="b"), "bins: "),
        (lambda x: cut(x, column="k", bins=[0, 1], into="b", labels=["a", "b"]), "labels: got 2; 2 edges make 1 bins"),
    ],
)
def test_a_fault_of_known_values_is_said_while_building(made: Any, message: str) -> None:
    with pytest.raises(OpError) as error:
        made(frame_of({"k": [1], "c": ["x"]}))
    assert message in str(error.value)
