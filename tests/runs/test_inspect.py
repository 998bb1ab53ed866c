"""``pipeline show``: one value, nothing else computed, nothing written."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr

from pipeline import cli
from pipeline.report.preview import preview_dict, preview_text
from pipeline.runs.inspect import Preview

MODULE = """
from pathlib import Path

def load():
    return {"name": "data", "n": 3}

def fit(alpha, fold):
    print("fitting")
    Path(f"ran-{alpha}-{fold}").touch()
    return {"model": object(), "rmse": alpha * 2 + fold}

def names():
    return ["a/b", "c d", "e,f"]

def half(x):
    if x == 2:
        raise ValueError("two")
    return x / 2

def bad(x):
    Path("ran-bad").touch()
    raise ValueError("never")
"""
FILE = """
version: 1
modules: [./mine.py]
params: {folds: 2}
steps:
  data: {call: "mine:load"}
  fit: {call: "mine:fit", over: {alpha: [0.1, 1, 10], fold: {range: "${folds}"}}, parts: [model, rmse]}
  scores: {op: to_frame, input: fit.rmse, columns: {rmse: float64}}
  best: {op: nsmallest, input: scores, n: 1, columns: rmse}
  field: {op: random, matrix: {var: [t2m, tp]}, shape: {time: 6, x: 4}, chunks: {time: 3}, dtype: float32}
  mean: {op: mean, input: field, axis: x}
  parts: {op: svd, input: "field[tp]"}
  listed: {call: "mine:names"}
  dealt: {call: "mine:half", over: {x: [1, 2, 3]}, on_error: drop}
  broken: {call: "mine:bad", args: {x: "${data}"}}
outputs:
  scores: {to: parquet, path: scores}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MODULE)
    Path("a.yaml").write_text(FILE)
    return tmp_path


@pytest.fixture
def show(here: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def shown(*arguments: str, code: int = 0) -> str:
        assert cli.main(["show", "a.yaml", *arguments, "--workers", "1"]) == code
        captured = capsys.readouterr()
        assert all(len(line) <= 80 for line in captured.out.splitlines())
        return captured.err if code else captured.out

    return shown


@pytest.fixture
def seen(here: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def told(reference: str, *options: str) -> dict[str, Any]:
        assert cli.main(["show", "a.yaml", reference, *options, "--json"]) == 0
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (last["event"], last["ok"]) == ("result", True)
        (value,) = last["values"]
        return dict(value)

    return told


# ---------------------------------------------------------------------------------------------------------------------
# What is computed
# ---------------------------------------------------------------------------------------------------------------------


def test_one_item_is_all_that_is_computed_and_nothing_is_written(here: Path, show: Any) -> None:
    before = {path.name for path in here.iterdir()}
    text = show("fit.rmse[alpha=1,fold=1]")
    assert text == "fit.rmse[alpha=1, fold=1]: int\n\n3\n"
    assert {path.name for path in here.iterdir()} - before == {"ran-1-1"}


def test_what_others_need_is_not_computed(here: Path, show: Any) -> None:
    show("mean[t2m]")
    assert not list(here.glob("ran-*"))


def test_steps_that_are_not_needed_may_lack_their_inputs(here: Path, show: Any) -> None:
    text = FILE + "  other: {to: csv, path: x.csv}\n"
    Path("a.yaml").write_text(text.replace("outputs:", "  other: {op: read_csv, path: none.csv}\noutputs:"))
    assert "'n': 3" in show("data")
    assert "none.csv: no such file" in show("other", code=3)


def test_what_tasks_print_is_beside_the_value(show: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "a.yaml", "fit[alpha=1,fold=0]"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "fit[alpha=1,fold=0]: fitting\n"
    assert "fitting" not in captured.out


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_it_is_computed_where_it_is_asked_for(seen: Any, backend: str) -> None:
    assert seen("scores", "--backend", backend)["rows"] == 6


def test_a_failing_task_ends_it_as_it_ends_a_run(here: Path, show: Any) -> None:
    message = show("broken", code=1)
    assert "broken (a.yaml:15): ValueError: never" in message
    assert message.rstrip().endswith("Try it here: pipeline debug a.yaml broken")


# ---------------------------------------------------------------------------------------------------------------------
# References
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "kind", "sizes"),
    [
        ("field[t2m]", "array", {"time": 6, "x": 4}),
        ("field[t2m,time=0:3]", "array", {"time": 3, "x": 4}),
        ("field[var=tp, x=-1]", "array", {"time": 6}),
        ("parts.s", "array", {"component": 4}),
        ("parts.u[component=0:2]", "array", {"time": 6, "component": 2}),
    ],
)
def test_parts_and_positions_are_those_of_the_language(seen: Any, reference: str, kind: str, sizes: Any) -> None:
    told = seen(reference)
    assert (told["kind"], told["sizes"]) == (kind, sizes)


def test_gathered_copies_are_shown_one_after_the_other(show: Any) -> None:
    text = show("mean[*]")
    assert [line for line in text.splitlines() if ": array" in line] == [
        f"mean[{var}]: array, float32, (time: 6), 24 B" for var in ("t2m", "tp")
    ]


def test_a_column_of_one_row_and_a_frame(seen: Any) -> None:
    assert seen("best.rmse")["text"] == "0.2"
    told = seen("scores", "--rows", "2")
    assert (told["rows"], list(told["columns"])) == (6, ["alpha", "fold", "key", "rmse"])
    assert [row["rmse"] for row in told["first"]] == [0.2, 1.2]
    rmse = told["columns"]["rmse"]
    assert (rmse["missing"], rmse["min"], rmse["max"]) == (0, 0.2, 21)
    assert rmse["mean"] == pytest.approx(7.9)


def test_some_keys_pick_some_items(seen: Any) -> None:
    told = seen("fit.rmse[fold=1]")
    assert (told["kind"], told["n_items"]) == ("items", 3)
    assert list(told["first"]) == ["alpha=0.1,fold=1", "alpha=1,fold=1", "alpha=10,fold=1"]


def test_an_item_has_the_name_that_messages_give_it(here: Path, show: Any) -> None:
    (here / "texts").mkdir()
    for name in ("a b", "c"):
        (here / f"texts/{name}.txt").write_text("x")
    Path("a.yaml").write_text("version: 1\nsteps:\n  paths: {op: files, path: 'texts/*.txt'}\n")
    assert "a b.txt" in " ".join(show("paths[a b]").split())  # the path may be wrapped
    assert "did you mean 'c'?" in show("paths[cc]", code=2)


def test_dropped_items_are_counted_and_one_says_why(seen: Any, show: Any) -> None:
    told = seen("dealt")
    assert (told["n_items"], told["n_dropped"], list(told["first"])) == (2, 1, ["x=1", "x=3"])
    assert "dealt[x=2] (a.yaml:14" in show("dealt[x=2]", code=1)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("scors", "no step is named 'scors'; did you mean 'scores'?"),
        ("zzz", "no step is named 'zzz'; steps: data, fit, scores, best, field, mean, parts, listed, …"),
        ("field", "'field' has 2 instances; name one: field[t2m], field[tp], or all: field[*]"),
        ("field[t2n]", "'field' has no instance with var 't2n'; it has t2m, tp; did you mean 't2m'?"),
        ("field[t2m,time=9]", "picks are positions, 0 to 5 here"),
        ("field[t2m,y=0]", "there is no dim 'y'; there are time, x"),
        ("parts", "'parts' has parts only: u, s, v"),
        ("parts.w", "there is no part 'w'; there are u, s, v"),
        ("fit[alpha=2,fold=0]", "'fit' has no item 'alpha=2,fold=0'; did you mean 'alpha=1,fold=0'?"),
        ("scores[3]", "'scores' has no matrix, so no label '3'"),
        ("scores.rmse", "'scores.rmse' needs a frame of one row; it has 6"),
        ("fit.", "'.' must be followed by the name of a part"),
        ("", "a reference begins with the name of a step"),
    ],
)
def test_a_reference_of_nothing_is_told_with_the_nearest(show: Any, reference: str, said: str) -> None:
    assert said in show(reference, code=2)


def test_a_copy_that_does_not_exist_says_why(here: Path, show: Any) -> None:
    Path("a.yaml").write_text(FILE.replace("dtype: float32}", "dtype: float32, when: \"${var} == 'tp'\"}"))
    assert "when is false" in show("field[t2m]", code=2)
    assert "field" in show("field")  # the one there is


# ---------------------------------------------------------------------------------------------------------------------
# How it looks
# ---------------------------------------------------------------------------------------------------------------------


def text_of(value: Any, kind: str = "value", rows: int = 3) -> str:
    return preview_text(preview_dict(Preview("x", kind, value), rows=rows))


def test_an_array_shows_dims_labels_numbers_and_the_first_cells() -> None:
    times = pd.date_range("2020-01-01", periods=2)
    array = xr.DataArray(np.array([[1.0, np.nan], [3.0, 4.0]]), {"time": times, "y": [10, 20]}, ("time", "y"))
    assert text_of(array, "array").splitlines() == [
        "x: array, float64, (time: 2, y: 2), 32 B",
        "",
        f"time: {times.dtype}, 2020-01-01 … 2020-01-02",
        "y: int64, 10 … 20",
        "",
        "        type     missing  min     mean  max",
        "───────────────────────────────────────────",
        "values  float64        1    1  2.66667    4",
        "",
        "      time  y   value",
        "2020-01-01 10       1",
        "2020-01-01 20 missing",
        "2020-01-02 10       3",
    ]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (xr.DataArray(np.zeros((0, 3)), dims=("a", "b")), "array"),
        (xr.DataArray(np.float32(3)), "array"),
        (xr.DataArray(np.array([True, False]), dims="a"), "array"),
        (xr.DataArray(np.array(["a", "b"]), dims="a"), "array"),
        (pd.DataFrame({"a": pd.Series([], dtype="int64"), "t": pd.Series([], dtype="datetime64[ns]")}), "frame"),
        (pd.DataFrame({"t": pd.to_datetime(["2020-01-01", None]), "s": ["a", None]}), "frame"),
        (
            pd.DataFrame({"a_long_name": pd.date_range("2020-01-01 10:11:12.5", periods=4, freq="7s", tz="UTC")}),
            "frame",
        ),
        (pd.DataFrame({"took": pd.to_timedelta([1, None], unit="s")}), "frame"),
        (pd.DataFrame({f"column number {i}": range(3) for i in range(150)}), "frame"),
        (pd.DataFrame({"long": ["y" * 500], "\x1b[31m": ["\x1b"]}), "frame"),
        (pd.DataFrame(), "frame"),
        ({}, "items"),
        ({f"k={i}": np.zeros(3) for i in range(5)}, "items"),
        ({"k" * 100: "v" * 100}, "items"),
        (np.arange(5), "value"),
        (list(range(100_000)), "value"),
        ("word " * 1000, "value"),
        (None, "value"),
    ],
)
@pytest.mark.parametrize("rows", [0, 3])
def test_any_value_fits_the_terminal_and_json(value: Any, kind: str, rows: int) -> None:
    text = text_of(value, kind, rows)
    assert text.startswith("x: ")
    assert all(len(line) <= 80 and line.isprintable() for line in text.splitlines())
    assert all("…" not in line for line in text.splitlines() if line.startswith("a_long_name"))
    assert len(text.splitlines()) < 250
    json.dumps(preview_dict(Preview("x", kind, value), rows=rows), allow_nan=True)


def test_a_time_is_shown_where_the_clock_of_its_zone_skips_midnight() -> None:
    noon = dt.datetime(2017, 10, 15, 12, tzinfo=ZoneInfo("America/Sao_Paulo"))
    table = pa.table({"t": pa.array([noon], pa.timestamp("us", "America/Sao_Paulo"))})
    assert "2017-10-15 12:00:00-02:00" in text_of(table, "frame")


def test_an_object_whose_repr_breaks_is_shown_by_its_type() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "<Broken" in text_of(Broken())


def test_the_help_lists_it_after_run(here: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "pipeline", "--help"], capture_output=True, text=True, check=True)
    words = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line.split()]
    assert words.index("check") < words.index("show") < words.index("debug") < words.index("explain")


@pytest.mark.parametrize(
    ("kind", "values", "least"),
    [
        (pa.duration("us"), [1_000_000, None, -500_000], "-1 days +23:59:59.500000"),
        (pa.date32(), [0, None, 1], "1970-01-01"),
        (pa.time64("us"), [0, None, 1], None),
        (pa.decimal128(5, 2), [Decimal("1.50"), None, Decimal("-2.00")], "-2.00"),
        (pa.binary(), [b"a", None, b"b"], None),
        (pa.list_(pa.int8()), [[1], None, []], None),
    ],
)
def test_a_column_of_any_type_is_described(kind: pa.DataType, values: list[Any], least: Any) -> None:
    table = pa.table({"x": pa.array(values, kind)})
    described = preview_dict(Preview("x", "frame", table), rows=3)["columns"]["x"]
    assert described["missing"] == 1
    assert described.get("min") == least
