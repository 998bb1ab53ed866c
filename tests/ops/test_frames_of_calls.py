"""What functions of the user get for frames, what they may give, and one value of a frame of one row."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from serially import frame_of, graph_of, partitions_of, table_of, values_of

from pipeline.builder.plan import plan
from pipeline.config.loader import loads
from pipeline.errors import ConfigError, DataError
from pipeline.graph.pandas_frames import as_frame
from pipeline.ops.frames.map_partitions import call_function, map_partitions
from pipeline.worker.isolation import handed_out

MODULE = """
import pandas as pd
import pyarrow as pa

def kind(frame, more=None):
    several = [frame] if more is None else [frame, more]
    return [type(one).__module__.partition(".")[0] + "." + type(one).__name__ for one in several]

def described(frame):
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}

def doubled(frame):
    if isinstance(frame, pa.Table):
        return pa.table({"a": [None if x is None else 2 * x for x in frame["a"].to_pylist()]})
    if isinstance(frame, pd.DataFrame):
        return pd.DataFrame({"a": frame["a"] * 2})
    return frame.select(frame["a"] * 2)

def given(x):
    return [type(x).__name__, str(x)]

def rows():
    return [{"a": 1, "b": 2.5}, {"a": 2, "b": None}]

def row():
    return {"a": 2**53 + 1, "b": None, "c": "x"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    for i, values in enumerate(([2**53 + 1, None], [3])):
        pq.write_table(pa.table({"a": pa.array(values, pa.int64()), "b": np.arange(len(values)) / 2}),
                       tmp_path / f"t{i}.parquet")  # fmt: skip
    return tmp_path


def values(steps: str, folder: Path) -> dict[str, Any]:
    read = "modules: [./mine.py]\nsteps:\n  t: {op: read_parquet, path: 't*.parquet'}\n"
    return values_of(read + steps, folder)


@pytest.mark.parametrize(("form", "kind"), [
    ("", "pandas.DataFrame"), (", frames: pandas", "pandas.DataFrame"), (", frames: arrow", "pyarrow.Table"),
    (", frames: polars", "polars.DataFrame"),
])  # fmt: skip
def test_a_call_gets_the_frames_that_its_step_says(form: str, kind: str, folder: Path) -> None:
    got = values(f"""
  one: {{call: "mine:kind", input: t{form}}}
  two: {{call: "mine:kind", input: t, args: {{more: "${{t}}"}}{form}}}
  m: {{op: map_partitions, input: t, function: "mine:doubled", columns: {{a: int64}}{form}}}
""", folder)  # fmt: skip
    assert got["one"] == [kind]
    assert got["two"] == [kind, kind]
    assert got["m"]["a"].tolist() == [2**54 + 2, pd.NA, 6]


def test_the_dtypes_come_from_the_schema_not_the_values(folder: Path) -> None:
    got = values("""
  f: {op: filter, input: t, where: "b < 0"}
  all: {call: "mine:described", input: t}
  none: {call: "mine:described", input: f}
""", folder)  # fmt: skip
    assert got["all"] == got["none"] == {"a": "Int64", "b": "float64"}


@pytest.mark.parametrize("form", ["pandas", "polars"])
def test_what_a_call_does_to_its_frame_others_do_not_see(form: str) -> None:
    whole: Any = as_frame(pa.table({"a": [1, 2]}), form)  # type: ignore[arg-type]
    mine = handed_out(whole)
    if form == "pandas":
        mine["mine"] = 1
        mine.loc[0, "a"] = 7
    else:
        mine.insert_column(0, mine["a"].alias("mine"))
        mine[0, "a"] = 7
    assert list(whole.columns) == ["a"]
    assert whole["a"].to_list() == [1, 2]


def test_arrow_and_polars_share_the_memory_of_the_partition() -> None:
    table = pa.table({"a": np.arange(1000.0), "s": pa.array(["x"] * 1000)})
    assert as_frame(table, "arrow") is table
    addresses = [column.to_arrow().buffers()[1].address for column in as_frame(table, "polars").select("a")]
    assert addresses == [table["a"].chunk(0).buffers()[1].address]


def test_polars_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_polars(name: str, *rest: Any) -> Any:
        if name == "polars":
            raise ModuleNotFoundError(name="polars")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_polars)
    with pytest.raises(DataError, match="frames: polars needs polars, which is not installed here: pip install"):
        as_frame(pa.table({"a": [1]}), "polars")


@pytest.mark.parametrize(("step", "message"), [
    ("{op: select, input: t, columns: a, frames: arrow}", "says which frames a function of yours gets"),
    ("{call: 'mine:kind', input: t, frames: dask}", r"frames: got 'dask'"),
])  # fmt: skip
def test_a_wrong_key_is_told_while_loading(step: str, message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        values(f"  x: {step}\n", folder)


# -- map_partitions ---------------------------------------------------------------------------------------------------


def test_an_empty_partition_goes_through_a_function_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("pipeline.ops.frames.map_partitions.called", lambda _, frame: seen.append(len(frame)) or frame)
    frame = map_partitions(frame_of({"a": [1, 2]}, 3), function="m:f", columns={"a": "float64"})
    assert [part.num_rows for part in partitions_of(frame)] == [0, 1, 1]
    assert sorted(seen) == [0, 1, 1]
    assert table_of(frame).to_pydict() == {"a": [1.0, 2.0]}


@pytest.mark.parametrize(("given", "message"), [
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "m:f has 2 columns 'a'"),
    (pl.DataFrame({"a": [1], "b": [1]}), "m:f gave the column 'b', which is not among them; columns: says a"),
    (pa.table({"a": [300]}), "m:f: column 'a' got 300, which does not fit int8"),
    (pd.DataFrame({"b": [1]}), "m:f gave no column 'a'; columns: says a"),
    ({"a": 1}, "m:f gave a dict; a partition becomes a pandas.DataFrame"),
])  # fmt: skip
def test_what_a_function_gave_is_held_to_its_columns(given: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ops.frames.map_partitions.called", lambda *_: given)
    with pytest.raises(DataError, match=message):
        call_function(pa.table({"x": [1]}), "m:f", {}, pa.schema([("a", pa.int8())]), "pandas")


# -- one row ----------------------------------------------------------------------------------------------------------


def test_the_value_of_a_frame_of_one_row_is_exact(folder: Path) -> None:
    got = values("""
  v: {call: "mine:row"}
  m: {op: to_frame, input: v, columns: {a: int64, b: float64, c: string}}
  a: {call: "mine:given", args: {x: "${m.a}"}}
  b: {call: "mine:given", args: {x: "${m.b}"}}
  c: {call: "mine:given", args: {x: "${m.c}"}}
""", folder)  # fmt: skip
    assert [got["a"], got["b"], got["c"]] == [["int", str(2**53 + 1)], ["float", "nan"], ["str", "x"]]


@pytest.mark.parametrize(("where", "n"), [("b >= 0", 3), ("b < 0", 0)])
def test_another_number_of_rows_is_told_with_the_cure(where: str, n: int, folder: Path) -> None:
    with pytest.raises(DataError, match=f"'f.a' needs a frame of one row; it has {n}: filter it, aggregate it"):
        values(f"""
  f: {{op: filter, input: t, where: "{where}"}}
  g: {{call: "mine:given", args: {{x: "${{f.a}}"}}}}
""", folder)  # fmt: skip
    with pytest.raises(ConfigError, match=r"'t\.a' needs a frame of one row; it has 3"):
        values('  g: {call: "mine:given", args: {x: "${t.a}"}}\n', folder)  # as the files tell


def test_check_notes_that_there_may_be_more_rows(folder: Path) -> None:
    steps = '  f: {op: filter, input: t, where: "b > 0"}\n  g: {call: "mine:given", args: {x: "${f.a}"}}\n'
    text = "modules: [./mine.py]\nsteps:\n  t: {op: read_parquet, path: 't*.parquet'}\n" + steps
    config = loads("version: 1\n" + text, name="test", root=folder)
    (row,) = [row for row in plan(config, graph_of(text, folder)).rows if row.step == "g"]
    assert "'f.a' needs one row: the run fails if there are more, or none" in row.notes
