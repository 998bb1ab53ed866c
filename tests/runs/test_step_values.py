"""The value of a step in Python: shown, kept by a run, or computed again where that is quick and gives the same."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xarray as xr

import pipeline
from pipeline.errors import ConfigError
from pipeline.runs import recomputation

MODULE = """
from pathlib import Path

def read(path):
    return [int(line) for line in Path(path).read_text().split()]

def fit(alpha):
    print("fitting", alpha)
    return {"model": alpha * 10, "rmse": alpha / 2}

def send(x):
    return len(x)

def gathered(*values):
    return list(values)
"""
FILE = """
version: 1
modules: [./own.py]
steps:
  field: {op: arange, matrix: {var: [t2m, tp]}, stop: 6, chunks: 2, dim: time}
  monthly: {expr: "field * 2"}
  parts: {op: svd, input: grid}
  grid: {op: random, shape: {y: 4, x: 3}, chunks: {y: 2}}
  table: {op: read_csv, path: table.csv}
  large: {op: filter, input: table, where: "n > 1"}
  numbers: {call: "own:read", args: {path: numbers.txt}}
  sent: {call: "own:send", input: numbers, pure: false}
  after: {call: "builtins:str", input: sent}
  fit: {call: "own:fit", over: {alpha: [1, 2]}, parts: [model, rmse]}
  total: {call: "builtins:len", input: fit.model}
  sum: {op: sum, input: "monthly[t2m]"}
  all: {call: "own:gathered", input: [after, total, numbers]}
  grids: {op: mean, input: parts.u}
outputs:
  sum: {to: npy, path: sum}
  large: {to: csv, path: large.csv}
  all: {to: pickle, path: all.pkl}
  grids: {to: npy, path: grids}
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("values")
    (folder / "own.py").write_text(MODULE)
    (folder / "table.csv").write_text("n,name\n1,a\n2,b\n3,c\n")
    (folder / "numbers.txt").write_text("1 2 3\n")
    (folder / "a.yaml").write_text(FILE.replace("modules: [./own.py]", "modules: [./own.py, builtins]").replace(
        "args: {path: numbers.txt}", f"args: {{path: {folder}/numbers.txt}}"))  # fmt: skip
    for name in ("numbers.txt", "table.csv"):  # a file that an argument names is an input if the run has not made it
        os.utime(folder / name, (1e9, 1e9))
    return folder


@pytest.fixture(scope="module")
def p(here: Path) -> pipeline.Pipeline:
    return pipeline.load(here / "a.yaml")


@pytest.fixture(scope="module")
def r(p: pipeline.Pipeline, here: Path) -> Any:
    return p.run(backend="serial", out=here / "out", runs=here / "runs", keep=["after", p["monthly"]["tp"]])


# ---------------------------------------------------------------------------------------------------------------------
# Shown
# ---------------------------------------------------------------------------------------------------------------------


def test_an_array_is_shown_as_xarray_has_it(p: pipeline.Pipeline) -> None:
    value = p.show("monthly[t2m]")
    assert isinstance(value, xr.DataArray)
    assert value.dims == ("time",)
    assert value.values.tolist() == [0, 2, 4, 6, 8, 10]
    assert p.show(p["monthly"]["t2m"][{"time": slice(1, 3)}]).values.tolist() == [2, 4]


def test_a_frame_is_shown_as_pandas_has_it(p: pipeline.Pipeline) -> None:
    value = p.show("large", backend="serial")
    assert isinstance(value, pd.DataFrame)
    assert value.to_dict("list") == {"n": [2, 3], "name": ["b", "c"]}


def test_items_parts_and_instances_are_shown(p: pipeline.Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert p.show("fit.rmse") == {"alpha=1": 0.5, "alpha=2": 1.0}
    assert p.show("fit[alpha=2]") == {"model": 20, "rmse": 1.0}
    assert p.show(p["parts"].u[{"component": 0}]).dims == ("y",)
    found = p.show("monthly[*]")
    assert list(found) == ["monthly[t2m]", "monthly[tp]"]
    assert found["monthly[tp]"].values[-1] == 10
    assert "fitting 2" in capsys.readouterr().out


def test_showing_what_is_not_there_names_what_is(p: pipeline.Pipeline) -> None:
    with pytest.raises(ConfigError, match="no step is named 'monthyl'; did you mean 'monthly'"):
        p.show("monthyl")


def test_progress_of_a_value_is_shown_when_asked_for(p: pipeline.Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    p.show("sum", backend="serial", progress=True)
    assert "sum: " in capsys.readouterr().out
    p.show("sum", backend="serial")
    assert not capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------------------
# Kept
# ---------------------------------------------------------------------------------------------------------------------


def test_steps_to_keep_may_be_named_for_one_run(r: Any) -> None:
    assert r["after"] == "3"
    assert r["monthly[tp]"].values.tolist() == [0, 2, 4, 6, 8, 10]
    assert "monthly[tp]" in r
    assert "monthly[t2m]" not in r


@pytest.mark.parametrize("keep", ["after", ["fit.model"], ["grid[y=0]"], ["fit[alpha=1]"], ["nothing"]])
def test_only_whole_steps_are_kept(p: pipeline.Pipeline, here: Path, keep: Any) -> None:
    with pytest.raises(ConfigError, match=r"keep: got|no step is named 'nothing'"):
        p.run(backend="serial", out=here / "out", runs=here / "runs", keep=keep)


# ---------------------------------------------------------------------------------------------------------------------
# Computed again
# ---------------------------------------------------------------------------------------------------------------------


def test_what_was_quick_is_computed_again(r: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert r["monthly[t2m]"].values.tolist() == [0, 2, 4, 6, 8, 10]
    assert r["fit.rmse"] == {"alpha=1": 0.5, "alpha=2": 1.0}
    assert r["numbers"] == [1, 2, 3]
    assert r["table"]["name"].tolist() == ["a", "b", "c"]
    assert not capsys.readouterr().out  # the lines of its tasks were shown in the run


def test_what_took_long_is_not_computed_unasked(r: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recomputation, "MOST_SECONDS", 0.0)
    with pytest.raises(KeyError, match=r"'monthly\[t2m\]' was not kept, and computing it again takes about .* of work. "
                                       r"To do that now: p.show\('monthly\[t2m\]'\)"):  # fmt: skip
        r["monthly[t2m]"]


@pytest.mark.parametrize("harm", [False, True])
def test_what_took_long_and_is_kept_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: bool) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\n\ndef twice(x):\n    with open('ran', 'a') as file:\n        file.write('x')\n"
        "    time.sleep(0.01)\n    return 2 * x\n"
    )
    monkeypatch.chdir(tmp_path)
    p = pipeline.load("""
version: 1
modules: [./slow.py]
steps:
  a: {call: "slow:twice", args: {x: 2}, checkpoint: true}
  b: {call: "slow:twice", args: {x: "${a}"}}
outputs:
  b: {to: json, path: b.json}
""")
    r = p.run(backend="serial")
    monkeypatch.setattr(recomputation, "MOST_SECONDS", 0.0)
    if harm:
        for entry in tmp_path.glob("runs/.cache/??/*"):
            entry.write_bytes(b"")
        with pytest.raises(KeyError, match="'a' was not kept, and computing it again takes about"):
            r["a"]
    else:
        assert r["a"] == 4
    assert (tmp_path / "ran").read_text() == "xx"  # in the run alone


def test_effects_do_not_take_place_again(p: pipeline.Pipeline, here: Path) -> None:
    r = p.run(backend="serial", out=here / "other", runs=here / "runs")
    with pytest.raises(KeyError, match=r"would run step 'sent', which is marked pure: false. Keep it: p.run\(keep="):
        r["after"]


def test_a_changed_input_or_module_changes_no_value_of_a_run(p: pipeline.Pipeline, here: Path, r: Any) -> None:
    own, table = here / "own.py", here / "table.csv"
    try:
        own.write_text(MODULE.replace("alpha / 2", "alpha / 4"))
        assert r["fit.rmse"] == {"alpha=1": 0.5, "alpha=2": 1.0}
        assert p.show("fit.rmse") == {"alpha=1": 0.25, "alpha=2": 0.5}
        later = time.time_ns() + 10**9
        os.utime(table, ns=(later, later))
        with pytest.raises(KeyError, match=r"its input table.csv is not as the run read it. Run it again: p.run\(keep"):
            r["table"]
    finally:
        own.write_text(MODULE)


def test_a_step_with_a_matrix_is_kept_with_all_instances(p: pipeline.Pipeline, here: Path) -> None:
    r = p.run(backend="serial", out=here / "out", runs=here / "runs", keep=["monthly", "field[tp]"])
    assert [name for name in r if name.startswith(("monthly", "field"))] == ["field[tp]", "monthly[t2m]", "monthly[tp]"]


def test_a_run_without_its_folder_knows_no_inputs(p: pipeline.Pipeline, here: Path) -> None:
    q = p.copy()
    q.keep("sum")
    r = q.run(backend="serial", out=here / "third", runs=here / "runs")
    for file in r.folder.iterdir():
        file.unlink()
    with pytest.raises(KeyError, match=r"its input .*numbers.txt is not as the run read it"):
        r["numbers"]
    assert r["monthly[t2m]"].sum() == 30
