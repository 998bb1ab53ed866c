"""Frames put right, in whole files: what fails is named, what is read is what is needed, what moves is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serially import graph_of, values_of

from pipeline.builder.build import build
from pipeline.builder.plan import plan
from pipeline.config.loader import loads
from pipeline.errors import ConfigError, DataError

MODULE = """
def double(frame, *, factor=2):
    frame["a"] = frame["a"] * factor
    return frame[["a", "c"]]

def whole(frame):
    import pandas as pd
    return pd.DataFrame({"d": [frame["d"].nunique()]})

def wrong(frame, *, how):
    return {"kind": 7, "column": frame.assign(z=1), "value": frame[["a"]].assign(a=1.5)}[how]
"""

READ = "modules: [./mine.py]\nsteps:\n  t: {op: read_parquet, path: 't*.parquet'}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    frame = pd.DataFrame(
        {
            "a": [5, 3, 8, 1, 9, 2],
            "b": [1.0, np.nan, 3.5, 4.0, np.nan, 6.0],
            "c": ["7", "8", None, "x9", "10", "11"],
            "d": [0, 1, 0, 1, 0, 1],
            "time": pd.to_datetime("2001-01-30 12:00") + pd.to_timedelta([0, 1, 2, 40, 41, 70], "D"),
        }
    )
    for i in range(3):
        frame.iloc[2 * i : 2 * i + 2].to_parquet(tmp_path / f"t{i}.parquet")
    return tmp_path


def value(step: str, folder: Path) -> pd.DataFrame:
    found: pd.DataFrame = values_of(f"{READ}  r: {step}\n", folder)["r"]
    return found


def read(step: str, folder: Path) -> list[str]:
    return list(
        graph_of(f"{READ}  r: {step}\n  s: {{op: select, input: r, columns: [a]}}\n", folder)
        .value_types["t"]
        .schema.names
    )


def test_without_keys_all_rows_are_one_group_whatever_is_read(folder: Path) -> None:
    got = value("{op: groupby, input: t, by: [], agg: {n: count()}}", folder)
    assert got.to_dict("list") == {"n": [6]}
    text = f'{READ}  none: {{op: filter, input: t, where: "a > 99"}}\n'
    step = "  r: {op: groupby, input: none, by: [], agg: {n: count(), s: sum(a), m: max(a), q: median(b)}}\n"
    ((n, s, m, q),) = values_of(text + step, folder)["r"].itertuples(index=False)
    assert (n, s) == (0, 0)
    assert pd.isna([m, q]).all()


# -- columns that are needed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "columns"),
    [
        ("{op: rename, input: t, columns: {b: a, a: b}}", ["a", "b"]),
        ("{op: astype, input: t, columns: {d: float64}}", ["a", "d"]),
        ("{op: fillna, input: t, value: {b: 0}}", ["a", "b"]),
        ("{op: fillna, input: t, value: 0}", ["a"]),
        ("{op: dropna, input: t, subset: c}", ["a", "c"]),
        ("{op: dropna, input: t}", ["a", "b", "c", "d", "time"]),
        ("{op: value_counts, input: t, columns: [a, d]}", ["a", "d"]),
        ("{op: repartition, input: t, npartitions: 2}", ["a"]),
        ("{op: set_index, input: t, keys: d}", ["a", "b", "c", "d", "time"]),
        ("{op: map_partitions, input: t, function: 'mine:double', columns: {a: int64, c: string}}",
         ["a", "b", "c", "d", "time"]),
        ("{op: resample, input: t, 'on': time, rule: MS, by: d, agg: {a: max(a)}}", ["a", "d", "time"]),
        ("{op: rolling, input: t, 'on': time, window: 2, columns: {n: sum(b)}}", ["a", "b", "c", "d", "time"]),
        ("{op: merge, left: t, right: t, on: d, how: semi}", ["a", "d"]),
    ],
)  # fmt: skip
def test_only_the_columns_that_an_op_needs_are_read(step: str, columns: list[str], folder: Path) -> None:
    assert read(step, folder) == columns


def test_the_right_of_a_semi_join_is_read_for_its_keys_only(folder: Path) -> None:
    text = READ + "  u: {op: read_parquet, path: t0.parquet}\n  r: {op: merge, left: t, right: u, on: d, how: anti}\n"
    graph = graph_of(text, folder)
    assert list(graph.value_types["u"].schema.names) == ["d"]
    assert list(graph.value_types["r"].schema.names) == ["a", "b", "c", "d", "time"]


# -- values that don't fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("{c: int64}", "column 'c' got 'x9', which does not fit int64"),
        ("{b: int64}", "column 'b' got 3.5, which does not fit int64"),
        ("{c: float64}", "column 'c' got 'x9', which does not fit float64"),
        ("{a: bool}", "column 'a' got 5, which does not fit bool"),
        ("{time: date}", "column 'time' got 2001-01-30 12:00:00, which does not fit date"),
        ("{c: timestamp}", "column 'c' got '7', which does not fit timestamp"),
        ("{c: duration}", "column 'c' got '.*', which does not fit duration"),
    ],
)
def test_what_does_not_fit_a_type_is_named(columns: str, message: str, folder: Path) -> None:
    with pytest.raises(DataError, match=message):
        value(f"{{op: astype, input: t, columns: {columns}}}", folder)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("{op: rename, input: t, columns: {a: b}}", "'b' would be the name of two columns"),
        ("{op: rename, input: t, columns: {aa: b}}", "'aa' is no column of .*; did you mean 'a'"),
        ("{op: astype, input: t, columns: {time: int64}}", "does not become int64; take year"),
        ("{op: astype, input: t, columns: {a: timestamp}}", "a number has no unit of time"),
        ("{op: astype, input: t, columns: {c: 'timestamp[Mars]'}}", "is no type"),
        ("{op: fillna, input: t, value: {a: 0.5}}", "got 0.5, which does not fit int64"),
        ("{op: fillna, input: t, value: {time: noon}}", "a time is written '1995-03-15'"),
        ("{op: fillna, input: t, value: {time: '2001-01-01T00:00Z'}}", "naive and zoned times never mix"),
        ("{op: fillna, input: t, value: {b: none}}", "got 'none' for a column of float64"),
        ("{op: fillna, input: t, value: true}", "no column takes True"),
        ("{op: repartition, input: t}", "needs npartitions, or count_rows: true"),
        ("{op: resample, input: t, 'on': a, rule: D, agg: {n: count()}}", "'a' is int64; periods need times"),
        ("{op: resample, input: t, 'on': time, rule: often, agg: {n: count()}}", "got 'often', which is no period"),
        ("{op: rolling, input: t, 'on': a, window: 2d, columns: {n: count()}}", "a length of time needs times"),
        ("{op: rolling, input: t, 'on': time, window: 2, columns: {n: sum(c)}}", "needs numbers; got str"),
        ("{op: rolling, input: t, 'on': time, window: 2, min_periods: 3, columns: {n: sum(b)}}", "than the 2 rows"),
    ],
)  # fmt: skip
def test_a_fault_of_the_file_is_told_while_building(step: str, message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        graph_of(f"{READ}  r: {step}\n", folder)


# -- functions of the user's ------------------------------------------------------------------------------------------


def test_map_partitions_calls_a_function_with_each_partition(folder: Path) -> None:
    made = value(
        "{op: map_partitions, input: t, function: 'mine:double', args: {factor: 10}, columns: {a: float64, c: string}}",
        folder,
    )
    assert made["a"].tolist() == [50.0, 30.0, 80.0, 10.0, 90.0, 20.0]
    assert list(made.columns) == ["a", "c"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("kind", "mine:wrong gave a int; a partition becomes a pandas.DataFrame"),
        ("column", "mine:wrong gave the column 'b', which is not among them; columns: says a"),
        ("value", "column 'a' got 1.5, which does not fit int64"),
    ],
)
def test_what_a_function_gives_is_held_to_what_was_said(how: str, message: str, folder: Path) -> None:
    with pytest.raises(DataError, match=message):
        value(f"{{op: map_partitions, input: t, function: 'mine:wrong', args: {{how: {how}}}, columns: {{a: int64}}}}",
              folder)  # fmt: skip


def test_after_set_index_a_partition_has_its_keys_whole(folder: Path) -> None:
    text = f"""{READ}
  i: {{op: set_index, input: t, keys: d}}
  n: {{op: map_partitions, input: i, function: 'mine:whole', columns: {{d: int64}}}}
"""
    assert values_of(text, folder)["n"]["d"].sum() == 2


# -- lengths ----------------------------------------------------------------------------------------------------------

MATRIX = "  x: {op: to_array, input: r, columns: [a, d], dims: [row, column], dtype: float64}\n"


@pytest.mark.parametrize(
    ("step", "lengths"),
    [
        ("{op: assign, input: t, columns: {d: a + 1}}", (2, 2, 2)),
        ("{op: filter, input: t, where: a > 2}", None),
        ("{op: sort_values, input: t, by: a}", None),
        ("{op: concat, input: [t, t]}", (2, 2, 2, 2, 2, 2)),
        ("{op: repartition, input: t, npartitions: 4, count_rows: true}", (2, 2, 2, 0)),
        ("{op: repartition, input: t, npartitions: 4, count_rows: 6}", (2, 2, 2, 0)),
    ],
)
def test_an_array_of_a_frame_is_as_long_as_is_known(step: str, lengths: Any, folder: Path) -> None:
    graph = graph_of(f"{READ}  r: {step}\n{MATRIX}", folder)
    chunks = graph.value_types["x"].chunks[0]
    assert chunks == lengths if lengths else all(np.isnan(chunks))
    assert values_of(f"{READ}  r: {step}\n{MATRIX}", folder)["x"].shape[1] == 2


def test_frames_of_equal_length_are_repartitioned_alike(folder: Path) -> None:
    text = f"""{READ}
  one: {{op: filter, input: t, where: a > 2}}
  other: {{op: filter, input: t, where: a < 9 and a != 3}}
  p: {{op: repartition, input: one, npartitions: 2, count_rows: true}}
  q: {{op: repartition, input: other, npartitions: 2, count_rows: true}}
  x: {{op: to_array, input: p, columns: [a], dims: [row, column]}}
  y: {{op: to_array, input: q, columns: [a], dims: [row, column]}}
  z: {{expr: "x + y"}}
"""
    assert values_of(text, folder)["z"].values[:, 0].tolist() == [5 + 5, 3 + 8, 8 + 1, 9 + 2]


def test_other_rows_than_were_said_fail_the_run(folder: Path) -> None:
    with pytest.raises(DataError, match="count_rows: got 6 rows; 7 are declared"):
        value("{op: repartition, input: t, count_rows: 7}", folder)


# -- what moves, and what is in order ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "moves", "ordered"),
    [
        ("{op: set_index, input: t, keys: d}", True, True),
        ("{op: rolling, input: t, 'on': time, window: 2, columns: {n: count()}}", True, True),
        ("{op: repartition, input: t, npartitions: 2}", False, False),
        ("{op: repartition, input: t, count_rows: true}", True, False),
        ("{op: merge, left: t, right: t, on: a, how: anti}", False, False),  # small: all of it goes to each task
        ("{op: resample, input: t, 'on': time, rule: MS, agg: {n: count()}}", False, True),
        ("{op: value_counts, input: t, columns: d}", False, True),
        ("{op: rename, input: t, columns: {a: z}}", False, False),
    ],
)
def test_the_plan_tells_which_rows_are_moved(step: str, moves: bool, ordered: bool, folder: Path) -> None:
    config = loads(f"version: 1\n{READ}  r: {step}\n", name="test", root=folder)
    made = plan(config, build(config))
    (row,) = [row for row in made.rows if row.step == "r"]
    assert (row.moved is not None) is moves
    assert made.graph is not None
    assert made.graph.value_types["r"].ordered is ordered


def test_a_cleaned_frame_stays_in_order(folder: Path) -> None:
    steps = """
  s: {op: sort_values, input: t, by: a}
  n: {op: rename, input: s, columns: {a: key}}
  p: {op: repartition, input: n, npartitions: 2, count_rows: true}
  r: {op: fillna, input: p, value: {b: -1}}
"""
    assert graph_of(READ + steps, folder).value_types["r"].ordered
    made = values_of(READ + steps, folder)["r"]
    assert made["key"].tolist() == [1, 2, 3, 5, 8, 9]
    assert made["b"].tolist() == [4.0, 6.0, -1.0, 1.0, 3.5, -1.0]


# -- periods and windows ----------------------------------------------------------------------------------------------


def test_months_without_rows_are_there(folder: Path) -> None:
    made = value("{op: resample, input: t, 'on': time, rule: MS, agg: {n: count(), a: max(a), b: sum(b)}}", folder)
    assert made["time"].dt.strftime("%m").tolist() == ["01", "02", "03", "04"]
    assert made["n"].tolist() == [2, 1, 2, 1]
    assert made["a"].dtype == "Int64"
    weeks = value("{op: resample, input: t, 'on': time, rule: week, agg: {n: count(), a: max(a), b: sum(b)}}", folder)
    assert weeks["n"].sum() == 6
    assert weeks.loc[weeks["n"] == 0, "b"].tolist() == [0.0] * int((weeks["n"] == 0).sum())
    assert weeks.loc[weeks["n"] == 0, "a"].isna().all()


def test_a_window_of_zoned_times_is_a_length_of_time(folder: Path) -> None:
    steps = """
  z: {op: assign, input: t, columns: {when: "localize(time, 'Europe/Paris')"}}
  r: {op: rolling, input: z, 'on': when, window: 2d, columns: {n: count(), a: sum(a)}, by: d}
"""
    made = values_of(READ + steps, folder)["r"]
    assert made["n"].tolist() == [1, 1, 1, 1, 1, 1]
    wide = values_of(READ + steps.replace("2d", "41d"), folder)["r"]
    assert wide["a"].tolist() == [5.0, 13.0, 17.0, 3.0, 4.0, 3.0]


def test_run_time_values_are_used_in_rolling_and_resample(folder: Path) -> None:
    steps = """
  top: {op: nlargest, input: t, n: 1, columns: a}
  r: {op: rolling, input: t, 'on': time, window: 1, columns: {gap: "max(${top.a} - a)"}}
  p: {op: resample, input: r, 'on': time, rule: YS, agg: {gap: "max(gap + ${top.a})"}}
"""
    made = values_of(READ + steps, folder)
    assert made["p"]["gap"].tolist() == [17]


# -- results of steps in the arguments of the user's functions --------------------------------------------------------

ARGUMENTS = """
def factor():
    return 3

def scaled(values, *, by, offset=0):
    return values * by + float(offset)

def scaled_frame(frame, *, by, table):
    return frame[["a"]] * by + len(table)

def added(values, *, by):
    return sum(values) * by
"""


def test_a_result_of_a_step_is_an_argument_of_an_ops_function(folder: Path) -> None:
    (folder / "more.py").write_text(ARGUMENTS)
    text = """
modules: [./mine.py, ./more.py]
steps:
  t: {op: read_parquet, path: 't*.parquet'}
  by: {call: "more:factor"}
  x: {op: arange, start: 0, stop: 6, chunks: 2, dim: x, dtype: float64}
  top: {op: max, input: x}
  f:
    op: map_partitions
    input: t
    function: "more:scaled_frame"
    args: {by: "${by}", table: "${each}"}
    columns: {a: int64}
  b: {op: map_blocks, input: x, function: "more:scaled", args: {by: "${by}", offset: "${top}"}, dtype: float64}
  o: {op: map_overlap, input: x, function: "more:scaled", args: {by: "${by}"}, depth: {x: 1}, dtype: float64}
  each: {op: to_items, input: x, along: x}
  sum: {op: tree_reduce, input: each, function: "more:added", args: {by: "${by}"}, fan_in: 8}
"""
    made = values_of(text, folder)
    assert made["f"]["a"].tolist() == [21, 15, 30, 9, 33, 12]
    assert made["b"].values.tolist() == [5.0, 8.0, 11.0, 14.0, 17.0, 20.0]
    assert made["o"].values.tolist() == [0.0, 3.0, 6.0, 9.0, 12.0, 15.0]
    assert float(made["sum"]) == 45.0


# ---------------------------------------------------------------------------------------------------------------------
# Copies below each other
# ---------------------------------------------------------------------------------------------------------------------


def test_gathered_copies_are_below_each_other_with_their_labels(tmp_path: Path) -> None:
    steps = """
    steps:
      n: {op: arange, stop: 3, dim: i, matrix: {k: [a, b], m: [1, 2.5]}}
      f: {op: to_frame, input: n}
      all: {op: concat, input: "f[*]"}
    """
    got = values_of(steps, tmp_path)["all"]
    assert list(got.columns) == ["k", "m", "i", "value"]
    assert got["k"].tolist() == ["a"] * 6 + ["b"] * 6
    assert got["m"].tolist() == [1.0] * 3 + [2.5] * 3 + [1.0] * 3 + [2.5] * 3
    assert got["value"].tolist() == [0, 1, 2] * 4


def test_a_label_that_is_a_column_already_is_refused(tmp_path: Path) -> None:
    steps = """
    steps:
      n: {op: arange, stop: 3, dim: i, matrix: {k: [a, b]}}
      f: {op: to_frame, input: n, value: k}
      all: {op: concat, input: "f[*]"}
    """
    with pytest.raises(ConfigError, match="'k' is a matrix key and a column"):
        values_of(steps, tmp_path)


def test_a_shuffle_of_too_many_partitions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("k,v\n" + "1,2\n" * 6000)
    steps = """
    steps:
      f: {op: read_csv, path: a.csv, blocksize: 4}
      g: {op: sort_values, input: f, by: v}
    """
    with pytest.raises(ConfigError, match=r"moving rows between 6,0\d\d partitions takes some .* with op repartition"):
        values_of(steps, tmp_path)
