"""A run, from a file to committed outputs; and that one that fails commits nothing."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xarray as xr

from pipeline.config.loader import loads
from pipeline.errors import CheckError, ConfigError, OutputError, TaskError
from pipeline.outputs.commit import OutputTransaction
from pipeline.outputs.damage import differences
from pipeline.outputs.manifest import Manifest
from pipeline.runs.run import Run, run
from pipeline.trace.trace import Trace

MODULE = """
def scaled(a, by):
    if a == by:
        raise ValueError("a is by")
    return {"a": a, "product": a * by}

def interrupted():
    raise KeyboardInterrupt
"""
TEXT = """
version: 1
modules: [./mine.py]
params: {by: 10, column: product}
steps:
  x: {op: arange, start: 0, stop: 10, chunks: 4, dim: row, dtype: float64}
  y: {expr: "x * ${by}"}
  total: {op: sum, input: y}
  scaled: {call: "mine:scaled", over: {a: [1, 2, 3]}, args: {by: "${by}"}, parts: [a, product], on_error: ON_ERROR}
  frame: {op: to_frame, input: scaled.product, columns: {product: int64}}
  best: {op: nlargest, input: frame, n: 1, columns: product}
outputs:
  y: {to: zarr, path: out/y.zarr, attrs: {units: K}}
  frame: {to: parquet, path: out/frame}
  text: {input: frame, to: csv, path: out/frame.csv}
  each: {input: scaled.product, to: pickle, path: "out/each/${key}.pkl"}
checks:
"""
HOLD = """
  - {that: total, approx: 450, rel: 1e-9}
  - {that: "total > 400 and total < 500"}
  - {that: frame, rows: ">= 3", columns: {product: int64}}
  - {that: best.product, approx: 30, abs: 0.5}
  - {that: frame, equals_csv: wanted.csv, sep: "|"}
"""
FAIL = """
  - {that: total, approx: 451, rel: 1e-9}
  - {that: "total < 400"}
  - {that: total, approx: 450, rel: 1e-9}
  - {that: frame, rows: "== 4"}
  - {that: frame, columns: {product: string, other: int64}}
  - {that: frame, equals_csv: other.csv, sep: "|"}
  - {that: total}
"""


@pytest.fixture
def ran(tmp_path):
    """Runs the file of this module with given checks and params."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "wanted.csv").write_text("a | key | product\n3|a=3|30.0\n1|a=1|10\n2|a=2|20\n")
    (tmp_path / "other.csv").write_text("a|key|product\n1|a=1|10\n2|a=2|20\n3|a=3|31\n")

    def ran(checks: str = " []", *, text: str = TEXT, on_error: str = "stop", sets=None, **options) -> Run:
        config = loads((text + checks).replace("ON_ERROR", on_error), name="a", root=str(tmp_path), sets=sets or {})
        return run(config, backend="serial", out=tmp_path, runs=tmp_path / "runs", **options)

    return ran


def test_a_run_commits_its_outputs_and_opens_them_by_step(ran, tmp_path):
    r = ran()
    assert set(r.outputs) == {"y", "frame", "text", "each"}
    assert isinstance(r["y"], xr.DataArray)
    assert r["y"].chunks is not None
    assert r["y"].attrs == {"units": "K"}
    assert r["y"].values.tolist() == [i * 10.0 for i in range(10)]
    assert sorted(r["frame"].compute()["product"]) == [10, 20, 30]
    assert r["scaled.product"] == {"a=1": 10, "a=2": 20, "a=3": 30}
    assert pd.read_csv(tmp_path / "out/frame.csv")["product"].sum() == 60
    with pytest.raises(KeyError, match="there is no step 'nothing'"):
        r["nothing"]
    with pytest.raises(KeyError, match="'x' was not kept"):
        r["x"]
    assert list(r) == ["y", "frame"]
    assert ("y" in r, "best" in r, "x" in r, "nothing" in r, 3 in r) == (True, False, False, False, False)


def test_no_more_workers_are_started_than_there_are_tasks(tmp_path):
    config = loads(
        "version: 1\nsteps: {x: {op: arange, stop: 6, chunks: 2, dim: i}}\nkeep: [x]\n", name="x", root=str(tmp_path)
    )
    for backend in ("threads", "processes"):
        found = run(config, backend=backend, workers=1000, runs=tmp_path / "runs", out=tmp_path)
        assert found.trace.n_workers == found.trace.tasks.num_rows == 3


def test_values_of_checks_are_kept_and_what_nothing_needs_is_not_computed(ran):
    heard = []
    r = ran("\n  - {that: total, approx: 450, rel: 1e-9}\n", listener=heard.append)
    assert float(r["total"]) == 450
    assert not any(step.startswith("best") for step in r.trace.tasks["step"].to_pylist())
    notes = [event.message for event in heard if event.kind == "note"]
    assert notes == ["not computed, since no output, check or keep needs it: best"]
    assert r.to_dict()["unused"] == ["best"]
    with pytest.raises(KeyError, match=r"'best' was not computed, since nothing needs it: p.show\('best'\)"):
        r["best"]
    assert ran(keep=["best"])["best"]["product"].tolist() == [30]


def test_a_run_leaves_a_folder_with_its_config_and_trace(ran, tmp_path):
    r = ran(HOLD)
    assert {path.name for path in r.folder.iterdir()} == {
        "config.json",
        "versions.json",
        "checks.json",
        "manifest.json",
        "provenance.json",
        "inputs.json",
        "run.json",
        "shape.parquet",
        "trace.parquet",
    }
    assert r.folder.parent == tmp_path / "runs/a"
    assert json.loads((r.folder / "config.json").read_text())["steps"]["y"]["expression"] == "x * ${by}"
    assert Trace.load(r.folder / "trace.parquet").elapsed == r.elapsed
    assert not list(tmp_path.glob(".staging*"))


def test_manifests_name_the_run_the_graph_and_every_file(ran, tmp_path):
    r = ran()
    for manifest in r.outputs.values():
        assert Manifest.load(tmp_path, manifest.path) == manifest
        assert differences(manifest, tmp_path, hashes=True) == []
        assert manifest.graph == r.graph.fingerprint
    assert [Path(file.path).name for file in r.outputs["each"].files] == ["a=1.pkl", "a=2.pkl", "a=3.pkl"]


def test_checks_that_hold_say_what_was_got(ran):
    r = ran(HOLD)
    assert [check.ok for check in r.checks] == [True] * 5
    assert "got 450, wanted 450" in r.checks[0].message
    assert "got 3 rows equal to wanted.csv" in r.checks[4].message


def test_all_failing_checks_are_told_and_nothing_is_committed(ran, tmp_path):
    ran()
    before = (tmp_path / "out/frame.csv").stat()
    with pytest.raises(CheckError) as caught:
        ran(FAIL)
    told = str(caught.value).splitlines()
    assert "got 450, wanted 451 within 4.51e-07 (off by 1)" in told[0]
    assert "got False, wanted true" in told[1]
    assert "got 3 rows, wanted == 4" in told[2]
    assert "column 'product' is int64, wanted string; no column 'other'" in told[3]
    assert "wanted those of other.csv: product: no row for row 2, which has 30 (31)" in told[4]
    assert "got 450.0, wanted true" in told[5]
    assert told[6] == "6 of 7 checks failed; nothing was committed"
    after = (tmp_path / "out/frame.csv").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not list(tmp_path.glob(".staging*"))


def test_a_failed_run_keeps_the_last_outputs_and_records_why(ran, tmp_path):
    first = ran()
    with pytest.raises(TaskError, match="a is by"):
        ran(sets={"by": "2"})
    assert first["y"].values[1] == 10
    (failed,) = tmp_path.glob("runs/a/*/failure.json")
    assert json.loads(failed.read_text())["exit_code"] == 1


def test_dropped_items_are_named_and_their_stale_files_go(ran, tmp_path):
    ran()
    r = ran(on_error="drop", sets={"by": "2"})
    assert [(step, item) for step, item, _ in r.dropped] == [("scaled", "a=2")]
    assert r["scaled.product"] == {"a=1": 2, "a=3": 6}
    assert not (tmp_path / "out/each/a=2.pkl").exists()


def test_ctrl_c_leaves_no_staging_and_no_lock(ran, tmp_path):
    text = 'version: 1\nmodules: [./mine.py]\nsteps: {x: {call: "mine:interrupted"}}\n'
    text += "outputs: {x: {to: json, path: x.json}}\nchecks:"

    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, TaskError)):
        ran(text=text, listener=stop)
    assert not list(tmp_path.glob(".*"))


def test_the_run_folder_says_that_ctrl_c_ended_the_run(ran, tmp_path):
    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(listener=stop)
    (written,) = tmp_path.glob("runs/*/*/failure.json")
    failure = json.loads(written.read_text())
    assert (failure["message"], failure["exit_code"]) == ("ended by Ctrl-C", 130)


def test_what_an_ended_run_has_finished_is_told(ran, tmp_path):
    def stop(event):
        if any(tmp_path.glob("runs/*/*/items/*/*")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        ran(listener=stop)
    assert caught.value.__notes__ == ["What has finished is kept for the next run."]


def test_a_run_on_locked_outputs_fails_before_it_computes(ran, tmp_path):
    r = ran()
    with OutputTransaction(r.graph.sinks, tmp_path, run="other"), pytest.raises(OutputError, match="run other"):
        ran()


def test_a_run_shows_itself_small_and_escaped(ran):
    r = ran(HOLD)
    assert repr(r).startswith("<Run 'a' on serial: 4 outputs, 5 checks passed, ")
    assert "<p>Run &#x27;a&#x27; on serial: 4 outputs" in r._repr_html_()
    assert json.loads(json.dumps(r.to_dict()))["outputs"][0]["name"] == "y"


@pytest.mark.parametrize("workers", [0, "2", 1.5, True])
def test_a_number_of_workers_that_is_none_is_refused(tmp_path: Path, workers: Any) -> None:
    with pytest.raises(ConfigError, match=r"workers: got .*; write a whole number >= 1"):
        run(loads("version: 1\nsteps: {x: {op: arange, stop: 3}}"), workers=workers, runs=tmp_path)


def test_an_unknown_back_end_leaves_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'serial'"):
        run(loads("version: 1\nsteps: {x: {op: arange, stop: 3}}"), backend="seral", runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_script_that_a_worker_imports_does_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match='call run only below: if __name__ == "__main__"'):
        run(loads("version: 1\nsteps: {x: {op: arange, stop: 3}}"), runs=tmp_path)
