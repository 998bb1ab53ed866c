"""The report of a run: made from the files of its folder when somebody asks, also if the run failed or was moved."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import cloudpickle
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline import cli
from pipeline.errors import CheckError, TaskError
from pipeline.runs import run_report
from pipeline.runs.folders import SHAPE, TRACE
from pipeline.runs.history.find import find
from pipeline.runs.history.read import read
from pipeline.runs.report_schema import parse
from pipeline.trace.shape import Shape

FILES = {
    *("config.json", "versions.json", "provenance.json", "inputs.json", "run.json", "manifest.json"),
    *("shape.parquet", "trace.parquet"),
}
TEXT = """
version: 1
modules: [./mine.py]
params: {limit: 10, by: 1}
steps:
  half: {call: "mine:half", over: {n: [2, 4, 6]}, args: {by: "${by}"}}
  total: {call: "mine:total", args: {values: "${half}"}}
outputs: {total: {to: json, path: total.json}}
checks: [{that: "total < ${limit}"}]
"""
MODULE = """
def half(n, by):
    return n / 2 / by

def total(values):
    return sum(values)
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "sums.yaml").write_text(TEXT)
    return tmp_path / "sums.yaml"


@pytest.fixture
def command(file, tmp_path):
    """Call the program with the file, on the serial back end; give the exit code."""

    def command(*options):
        places = ["--out", str(tmp_path), "--runs", str(tmp_path / "runs")]
        return cli.main(["run", str(file), "--backend", "serial", *places, *options])

    return command


def run(file, tmp_path, **params):
    return pipeline.load(file, params=params).run(backend="serial", out=tmp_path, runs=tmp_path / "runs")


def failed(file, tmp_path, error, **params):
    """The folder of a run that fails with this error."""
    with pytest.raises(error) as caught:
        run(file, tmp_path, **params)
    return caught.value.run_folder


def reported(folder):
    """What ``report.json`` says after ``pipeline report``; it fits the published schema."""
    assert cli.main(["report", str(folder)]) == 0
    assert "<html" in (folder / "report.html").read_text()
    told = json.loads((folder / "report.json").read_text())
    parse(told)
    return told


def test_a_run_leaves_what_happened_and_no_report(file, tmp_path):
    r = run(file, tmp_path)
    assert {path.name for path in r.folder.iterdir()} == FILES | {"checks.json"}
    assert Shape.load(r.folder / SHAPE) == Shape.of(r.graph)


def test_the_result_of_a_run_makes_its_report(file, tmp_path):
    r = run(file, tmp_path)
    assert r.report() == r.folder / "report.html"
    told = json.loads((r.folder / "report.json").read_text())
    parse(told)
    assert (told["kind"], told["name"], told["fingerprint"]) == ("run", "sums", r.graph.fingerprint)
    assert told["rows"][0]["elapsed"]["value"] == r.elapsed
    assert (told["rows"][0]["start_up"], told["rows"][0]["commit"]) == (r.start_up, r.commit)
    assert told["graph"] == Shape.of(r.graph).to_dict()
    assert set(told["code"]) == {"mine.py", "pipeline"}
    assert "mine:half" in told["config"]
    (account,) = told["accounts"]
    cells = [cell for cell in account["losses"].values() if cell is not None]
    assert sum(cell["percent"] for cell in cells) == 100
    assert sum(cell["seconds"] for cell in cells) == pytest.approx(r.trace.n_workers * r.elapsed)


def test_a_failed_task_has_a_report(file, tmp_path, capsys):
    told = reported(failed(file, tmp_path, TaskError, by=0))
    assert (told["exit_code"], told["accounts"]) == (1, [])
    assert "division by zero" in told["problem"]
    assert told["rows"][0]["failure"] == told["problem"]
    assert [step["n_tasks"] for step in told["graph"]["steps"]][:2] == [3, 2]
    assert "mine.py" in told["code"]


def test_a_failed_check_has_a_report_with_an_account(file, tmp_path):
    folder = failed(file, tmp_path, CheckError, limit=1)
    told = reported(folder)
    assert (told["exit_code"], len(told["accounts"])) == (6, 1)
    assert (folder / TRACE).is_file()
    assert find("sums", tmp_path / "runs").state == "exit 6"


def test_a_run_that_has_not_ended_has_no_report(file, tmp_path, capsys):
    folder = run(file, tmp_path).folder
    begun = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**begun, "exit_code": None, "elapsed": None}))
    (folder / TRACE).unlink()
    assert cli.main(["report", str(folder)]) == 2
    assert "make a report from: it has not ended: it still runs, or was killed" in capsys.readouterr().err
    assert not (folder / "report.json").exists()


def test_a_moved_folder_has_the_same_report(file, tmp_path):
    folder = run(file, tmp_path).folder
    before = reported(folder)
    moved = shutil.move(folder, tmp_path / "elsewhere")
    for name in ("report.json", "report.html", "perfetto.json"):
        (moved / name).unlink()
    after = reported(moved)
    assert {**after, "created": ""} == {**before, "created": ""}
    assert str(tmp_path / "runs") not in (moved / "report.json").read_text()


def test_a_report_is_made_without_pickles_and_without_code(file, tmp_path, monkeypatch):
    folder = run(file, tmp_path).folder
    (tmp_path / "mine.py").unlink()
    file.unlink()
    for module in (pickle, cloudpickle):
        monkeypatch.delattr(module, "load")
        monkeypatch.delattr(module, "loads")
    run_report.write(folder)
    parse(json.loads((folder / "report.json").read_text()))


def test_a_report_is_made_by_another_version_than_the_run(file, tmp_path):
    """Fields that this version does not know, and a report.json of another format: it is made again."""
    folder = run(file, tmp_path).folder
    for name in ("run.json", "provenance.json", "inputs.json"):
        told = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**told, "new": {"in": "0.9"}}))
    (folder / "report.json").write_text('{"format": 99}')
    assert reported(folder)["format"] == 1


def test_a_damaged_file_is_named_and_is_exit_3(file, tmp_path, capsys):
    folder = run(file, tmp_path).folder
    (folder / SHAPE).write_bytes(b"PAR1")
    assert cli.main(["report", str(folder)]) == 3
    assert "trace.parquet or shape.parquet can't be read" in capsys.readouterr().err


def test_run_makes_the_report_if_asked(command, tmp_path, capsys):
    assert command("--report") == 0
    folder = find("sums", tmp_path / "runs").folder
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "report.html")
    assert command("--report", "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["report"] == str(find("sums", tmp_path / "runs").folder / "report.html")
    assert command("--report", "--set", "by=0") == 1
    assert (find("sums", tmp_path / "runs").folder / "report.html").is_file()


def test_diff_makes_the_reports_of_both_runs(command, tmp_path):
    assert command() == command() == 0
    assert cli.main(["diff", "sums~1", "sums", "--runs", str(tmp_path / "runs")]) == 0
    for text in ("sums~1", "sums"):
        folder = find(text, tmp_path / "runs").folder
        assert {path.name for path in folder.iterdir()} >= {"report.json", "report.html"}


def test_a_secret_is_in_no_file_of_a_run_folder(file, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cr3t-word")
    file.write_text(TEXT.replace('args: {by: "${by}"}', 'args: {by: "${secret:TOKEN}"}'))
    folder = failed(file, tmp_path, TaskError)
    reported(folder)
    assert not [path.name for path in folder.iterdir() if b"s3cr3t-word" in path.read_bytes()]


def test_steps_whose_names_are_secrets_stay_apart(tmp_path, monkeypatch):
    """A secret may be an ordinary word that is also the name of a step."""
    monkeypatch.setenv("ONE", "alpha")
    monkeypatch.setenv("TWO", "beta")
    (tmp_path / "mine.py").write_text("def size(t):\n    return len(t)\n")
    (tmp_path / "m.yaml").write_text(
        "version: 1\nmodules: [./mine.py]\nsteps:\n"
        '  alpha: {call: "mine:size", args: {t: "${secret:ONE}"}}\n'
        '  beta: {call: "mine:size", args: {t: "${secret:TWO}"}}\nkeep: [alpha, beta]\n'
    )
    folder = Path(pipeline.load(tmp_path / "m.yaml").run(backend="serial", runs=tmp_path / "runs").folder)
    report = reported(folder)
    assert {row["step"] for row in report["accounts"][0]["steps"]} == {"***1", "***2"}
    for name in ("trace.parquet", "shape.parquet"):
        assert set(pq.read_table(folder / name)["step"].to_pylist()) == {"***1", "***2"}


def test_a_run_is_read_from_its_own_files(file, tmp_path):
    found = read(run(file, tmp_path).folder)
    (case,) = found.cases
    assert (case.backend, case.workers, len(case.elapsed)) == ("serial", 1, 1)
    assert (found.state, found.missing, found.n_tasks) == ("ok", (), 6)
    assert found.environment is not None
    assert found.inputs == {}
    assert found.config is not None
