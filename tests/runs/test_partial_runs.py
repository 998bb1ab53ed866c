"""Runs that keep going after a task has failed: what they commit, report and return."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from pipeline.config.loader import loads
from pipeline.errors import CheckError, TaskError
from pipeline.report.redraw import redraw
from pipeline.runs.folders import FAILURE
from pipeline.runs.history.read import read
from pipeline.runs.run import Run, run

MODULE = """
def fit(alpha, limit):
    if alpha > limit:
        raise ValueError(f"alpha {alpha} is too high")
    return {"rmse": alpha * 2.0}

def answer(service):
    if service == "down":
        raise RuntimeError("the service is down")
    return 42
"""
TEXT = """
version: 1
modules: [./mine.py]
params: {limit: 2, service: down, wanted: 42}
steps:
  fit: {call: "mine:fit", over: {alpha: [1, 2, 3, 4]}, args: {limit: "${limit}"}, parts: [rmse]}
  scores: {op: to_frame, input: fit.rmse, columns: {rmse: float64}}
  best: {op: nsmallest, input: scores, n: 1, columns: rmse}
  ask: {call: "mine:answer", args: {service: "${service}"}}
  other: {call: "mine:answer", args: {service: up}}
  x: {op: arange, start: 0, stop: 4, chunks: 2, dim: row}
outputs:
  scores: {to: csv, path: out/tables/scores.csv}
  best: {to: parquet, path: out/best}
  other: {to: json, path: out/other.json}
  x: {to: zarr, path: out/x.zarr}
checks:
  - {that: scores, rows: ">= 4"}
  - {that: "other == ${wanted}"}
keep: [ask, other]
"""


DEBUG = "Try it here: pipeline debug a.yaml 'fit[alpha=3]'"


@pytest.fixture
def ran(tmp_path: Path) -> Any:
    (tmp_path / "mine.py").write_text(MODULE)

    def ran(*, keep_going: bool = True, **sets: Any) -> Run:
        config = loads(TEXT, name="a", root=str(tmp_path), sets={k: str(v) for k, v in sets.items()})
        return run(config, backend="serial", out=tmp_path, runs=tmp_path / "runs", keep_going=keep_going)

    return ran


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if ".zarr/" not in f"{path}/"}


def test_complete_outputs_are_committed_the_others_stay(ran: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    partial = ran()
    manifests = {path.name for path in out.iterdir() if path.name.endswith(".manifest.json")}
    assert set(partial.outputs) == {"other", "x"}
    assert {path.name for path in out.iterdir()} - manifests == {"other.json", "x.zarr"}
    assert not list(tmp_path.glob(".staging-*"))

    whole = ran(limit=9, service="up")
    assert set(whole.outputs) == {"scores", "best", "other", "x"}
    assert not whole.partial
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    again = ran()
    assert set(again.outputs) == {"other", "x"}
    changed = {path for path, data in before.items() if path.read_bytes() != data}
    assert {path.name for path in changed} <= manifests  # these outputs were written again, with the same values
    assert (out / "tables/scores.csv").read_bytes() == before[out / "tables/scores.csv"]


def test_each_failure_is_listed_with_what_depends_on_it(ran: Any) -> None:
    fit, ask = ran().partial.failed
    assert [(task.item, task.task) for task in fit.tasks] == [("alpha=3", "fit[alpha=3]"), ("alpha=4", "fit[alpha=4]")]
    assert fit.tasks[0].cause == "ValueError: alpha 3 is too high (mine.py:4, in fit)"
    assert (fit.n_units, fit.steps, fit.outputs, fit.checks) == (
        4, ("scores", "best"), ("scores", "best"), ("scores",)
    )  # fmt: skip
    assert (ask.step, ask.steps, ask.outputs, ask.checks) == ("ask", (), (), ())


def test_what_is_missing_says_why_when_it_is_asked_for(ran: Any) -> None:
    partial = ran()
    assert (partial["other"], partial["x"].values.tolist()) == (42, [0, 1, 2, 3])
    for name in ("scores", "best", "ask", "fit.rmse"):
        with pytest.raises(KeyError, match=r"not computed, since (fit|ask) failed"):
            partial[name]
        assert name not in partial
    with pytest.raises(KeyError, match="output 'best' was not computed, since fit failed"):
        partial.open("best")
    assert "3 tasks failed (fit, ask); 2 of 4 outputs committed, not written: scores, best" in repr(partial)


def test_checks_of_missing_values_are_not_evaluated(ran: Any) -> None:
    partial = ran()
    assert [(check.ok, check.evaluated) for check in partial.checks] == [(False, False), (True, True)]
    assert partial.checks[0].message.startswith("not computed, since fit failed: ValueError: alpha 3 is too high")
    with pytest.raises(CheckError, match=r"(?s)fit: ValueError.*got False, wanted true.*nothing was committed"):
        ran(wanted=41)


def test_its_folder_says_that_it_is_partial(ran: Any) -> None:
    partial = ran()
    manifest = json.loads((partial.folder / "manifest.json").read_text())
    assert (manifest["partial"], manifest["missing"]) == (True, ["scores", "best"])
    found = read(partial.folder)
    assert (found.exit_code, found.state, found.elapsed) == (7, "exit 7", partial.elapsed)
    assert found.problem == "3 tasks failed (fit, ask); 2 of 4 outputs committed, not written: scores, best"
    assert not (partial.folder / FAILURE).exists()
    redraw(partial.folder)
    report = json.loads((partial.folder / "report.json").read_text())
    assert (report["exit_code"], report["problem"], report["rows"][0]["failure"]) == (7, found.problem, "")
    assert "; partial: 3 tasks failed" in report["verdict"][0]
    assert report["accounts"][0]["span"] > 0


def test_nothing_to_commit_is_a_partial_run_too(ran: Any, tmp_path: Path) -> None:
    text = 'version: 1\nmodules: [./mine.py]\nsteps: {ask: {call: "mine:answer", args: {service: down}}}\n'
    config = loads(text + "outputs: {ask: {to: json, path: out/deep/ask.json}}\n", name="b", root=str(tmp_path))
    found = run(config, backend="serial", out=tmp_path, runs=tmp_path / "runs", keep_going=True)
    assert (dict(found.outputs), found.partial.outputs) == ({}, ("ask",))
    assert not (tmp_path / "out").exists()


def test_without_keep_going_a_failure_commits_nothing(ran: Any, tmp_path: Path) -> None:
    with pytest.raises(TaskError):
        ran(keep_going=False)
    assert not (tmp_path / "out").exists()


def test_the_command_ends_with_a_code_of_its_own_and_a_list(
    ran: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(TEXT)
    assert cli.main(["run", "a.yaml", "--backend", "serial", "--keep-going"]) == 7
    out, err = capfd.readouterr()
    assert "1 check passed, 1 not evaluated" in out
    assert err.splitlines() == [
        "failed: fit[alpha=3] (a.yaml:6; 2 of 4 failed): ValueError: alpha 3 is too high (mine.py:4, in fit)",
        "failed: fit[alpha=4] (a.yaml:6; 2 of 4 failed): ValueError: alpha 4 is too high (mine.py:4, in fit)",
        "  not computed, since fit failed: steps scores, best; outputs scores, best; check scores",
        "failed: ask (a.yaml:9): RuntimeError: the service is down (mine.py:9, in answer)",
        "pipeline: error: 3 tasks failed (fit, ask); 2 of 4 outputs committed, not written: scores, best. " + DEBUG,
    ]
    assert cli.main(["run", "a.yaml", "--backend", "serial", "--keep-going", "--json"]) == 7
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [event["item"] for event in events if event["event"] == "failed" and event["step"] == "fit"] == [
        "alpha=3", "alpha=4",
    ]  # fmt: skip
    assert (events[-1]["exit_code"], events[-1]["ok"]) == (7, False)
    assert events[-1]["partial"]["missing"] == {"outputs": ["scores", "best"], "checks": ["scores"]}
