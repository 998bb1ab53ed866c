"""A second run: outputs and checks of which nothing has changed are not made again; all others are, and it says why."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import resumed

from pipeline import cli
from pipeline.errors import CheckError, ConfigError, OutputError
from pipeline.outputs.audit import verify
from pipeline.outputs.manifest import Manifest
from pipeline.runs.history.find import find
from pipeline.runs.resume import value_stores
from pipeline.runs.run import Run

MODULE = """
LOG = "PLACE"

def noted(a, by):
    with open(LOG, "a") as file:
        file.write(f"{a} ")
    return a * by

def effect():
    with open(LOG, "a") as file:
        file.write("effect ")
    return 1
"""
TEXT = """
version: 1
modules: [./resumed_functions.py]
params: {by: 10, n: 3, least: 0}
steps:
  rows: {op: read_csv, path: "in/*.csv"}
  sums: {op: groupby, input: rows, by: k, agg: {s: sum(v)}}
  x: {op: arange, start: 0, stop: 8, chunks: 4, dim: i, dtype: float64}
  y: {expr: "x * ${by}"}
  fit: {call: "resumed_functions:noted", over: {a: [1, 2]}, args: {by: "${by}"}}
outputs:
  sums: {to: csv, path: o/sums.csv}
  parts: {input: rows, to: parquet, path: o/parts}
  y: {to: zarr, path: o/y.zarr}
  fit: {to: json, path: "o/fit/${key}.json"}
checks:
  - {that: sums, rows: "> ${least}"}
  - {that: "y[i=7] == 7 * ${by}"}
"""


class Project(resumed.Project):
    """A pipeline with one module and two tables."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {"resumed_functions": MODULE})
        (folder / "in").mkdir()
        self.table(1)
        self.table(2)

    def code(self, text: str, module: str = "resumed_functions") -> None:
        super().code(text, module)

    def table(self, number: int, value: int = 1) -> None:
        (self.folder / f"in/{number}.csv").write_text(f"k,v\na,{value}\nb,{number}\n")

    def run(self, text: str = TEXT, **options: Any) -> Run:
        return super().run(text, **options)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def states(r: Run) -> dict[str, str]:
    return {one["name"]: one["state"] for one in r.resumed["outputs"]}


def written(r: Run) -> set[str]:
    """The outputs that a run wrote."""
    return {name for name, state in states(r).items() if state == "run"}


def reasons(r: Run, name: str, kind: str = "outputs") -> list[str]:
    return next(one["reasons"] for one in r.resumed[kind] if one["name"] == name)


ALL = {"sums", "parts", "y", "fit"}


def test_a_second_run_has_nothing_to_do(project: Project) -> None:
    first = project.run()
    assert (written(first), project.said, project.log.read_text()) == (ALL, "", "1 2 ")
    before = {path: path.stat().st_ino for path in (project.folder / "o").rglob("*")}
    second = project.run()
    assert (written(second), len(second.trace.tasks), project.log.read_text()) == (set(), 0, "")
    assert project.said == "5 of 5 steps unchanged: nothing to do"
    assert {path: path.stat().st_ino for path in (project.folder / "o").rglob("*")} == before
    assert [check.ok for check in second.checks] == [True, True]
    assert second.checks[0].message == first.checks[0].message
    assert second.outputs == first.outputs
    assert second["y"].values.tolist() == [0, 10, 20, 30, 40, 50, 60, 70]
    assert second.open("fit") == {"a=1": 10, "a=2": 20}
    assert not list(project.folder.glob(".staging*"))


def test_a_first_run_recommends_to_keep_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_stores, "_WORTH_SAYING", 1e-9)
    r = project.run()
    assert not [note for note in project.notes if "ran again" in note]
    assert {one["reasons"][0] for one in r.resumed["steps"]} == {"new"}
    project.run(sets={"least": "1"})
    assert [note for note in project.notes if "ran again" in note]


def test_no_back_end_is_started_for_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run()
    monkeypatch.setattr("pipeline.backends.registry.create", None)
    for backend in ("serial", "threads", "pool", "processes", "process-per-task", "manager", "dask"):
        assert project.run(backend=backend).backend == backend


def test_a_run_that_did_nothing_has_a_report(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.run()
    second = project.run()
    assert second.report().name == "report.json"
    found = find("t", project.folder / "runs")
    assert (found.state, found.n_tasks) == ("ok", 0)
    assert cli.main(["diff", "t~1", "t", "--runs", str(project.folder / "runs")]) == 0
    shown = capsys.readouterr().out
    assert "the same  config" in shown
    assert "5 of 5 steps unchanged: nothing to do" in shown
    assert "B did not run all steps again" in " ".join(shown.split())
    assert cli.main(["runs", "--runs", str(project.folder / "runs")]) == 0
    assert " unchanged " in capsys.readouterr().out
    assert "5 of 5 steps unchanged" in json.loads((second.folder / "report.json").read_text())["verdict"][1]
    assert json.loads(json.dumps(second.to_dict()))["outputs"][0]["unchanged"] is True
    assert "nothing to do" in repr(second.resumed)


def test_one_more_file_runs_what_reads_it(project: Project) -> None:
    project.run()
    project.table(3, 5)
    r = project.run()
    assert written(r) == {"sums", "parts"}
    assert project.log.read_text() == ""
    assert project.said == ("3 of 5 steps unchanged; rows: 1 of 3 files is new: in/3.csv: rows, sums run again")
    assert r.open("sums").set_index("k")["s"].to_dict() == {"a": 7, "b": 6}


def test_a_touched_file_is_unchanged_and_an_edited_one_is_not(project: Project) -> None:
    project.run()
    os.utime(project.folder / "in/1.csv")
    assert written(project.run()) == set()
    project.table(1, 2)
    r = project.run()
    assert written(r) == {"sums", "parts"}
    assert reasons(r, "rows", "steps") == ["1 of 2 files changed: in/1.csv"]


def test_a_param_runs_what_depends_on_it(project: Project) -> None:
    project.run()
    r = project.run(sets={"by": "7"})
    assert written(r) == {"y", "fit"}
    assert "by 10 -> 7" in reasons(r, "fit", "steps")
    assert reasons(r, "x", "steps") == ["its result is needed, and was not kept"]
    assert project.log.read_text() == "1 2 "


def test_a_changed_function_runs_and_a_changed_comment_does_not(project: Project) -> None:
    project.run()
    project.code(MODULE.replace("    return a * by", "\n    # the product\n    return a * by"))
    assert written(project.run()) == set()
    project.code(MODULE.replace("a * by", "a * by + 1"))
    r = project.run()
    assert written(r) == {"fit"}
    assert reasons(r, "fit", "steps") == ["resumed_functions.py: noted() changed"]
    assert r.open("fit") == {"a=1": 11, "a=2": 21}


def test_back_to_an_earlier_value_is_not_what_is_there(project: Project) -> None:
    project.run()
    project.run(sets={"by": "7"})
    r = project.run()
    assert written(r) == {"y", "fit"}
    assert r["y"].values[1] == 10


@pytest.mark.parametrize(
    "backend",
    [
        "threads",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("processes", "pool", "process-per-task", "manager", "dask")
        ),
    ],
)
def test_it_is_the_same_on_another_back_end(project: Project, backend: str) -> None:
    project.run(backend=backend, workers=1)
    assert written(project.run()) == set()
    assert written(project.run(backend="threads", sets={"by": "7"})) == {"y", "fit"}


# What is there


def flip(path: Path, position: int = 5) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("output", "damage", "reason"),
    [
        ("sums", lambda o: (o / "sums.csv").unlink(), "missing: o/sums.csv is missing"),
        ("sums", lambda o: flip(o / "sums.csv"), "damaged: o/sums.csv has another hash"),
        ("sums", lambda o: (o / "sums.csv").write_text("k"), "damaged: o/sums.csv has 1 bytes"),
        ("sums", lambda o: (o / ".sums.csv.manifest.json").unlink(), "new"),
        ("y", lambda o: next((o / "y.zarr/y").glob("*0*")).unlink(), "missing: o/y.zarr/y/"),
        ("fit", lambda o: (o / "fit/a=2.json").unlink(), "missing: o/fit/a=2.json"),
        ("parts", lambda o: flip(next((o / "parts").glob("*.parquet"))), "damaged: o/parts/part-"),
    ],
)
def test_what_is_damaged_is_written_again(project: Project, output: str, damage: Any, reason: str) -> None:
    first = project.run()
    damage(project.folder / "o")
    if reason == "new":  # what has no manifest is somebody else's
        (project.folder / "o/sums.csv").unlink()
    r = project.run()
    assert written(r) == {output}
    assert reasons(r, output)[0].startswith(reason)
    assert {file.path: file.hash for file in r.outputs[output].files} == {
        file.path: file.hash for file in first.outputs[output].files
    }
    assert written(project.run()) == set()


def test_a_flipped_byte_with_the_old_time_is_found_by_hashes(project: Project) -> None:
    project.run()
    path = project.folder / "o/sums.csv"
    times = path.stat()
    flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert written(project.run()) == set()
    r = project.run(verify=True)
    assert written(r) == {"sums"}
    assert reasons(r, "sums") == ["damaged: o/sums.csv has another hash than it was committed with"]


def test_a_foreign_file_in_an_output_is_refused_as_ever(project: Project) -> None:
    project.run()
    (project.folder / "o/parts/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'mine\.txt', which no manifest of this output names"):
        project.run()


def test_an_output_that_was_edited_and_accepted_is_written_again(project: Project) -> None:
    project.run()
    path = project.folder / "o/sums.csv"
    path.write_text("k,s\na,0\n")
    assert [audit.ok for audit in verify([path], accept=True)] == [True]
    r = project.run()
    assert written(r) == {"sums"}
    assert r.open("sums")["s"].tolist() == [2, 3]


def test_a_manifest_of_an_earlier_version_is_read_and_replaced(project: Project) -> None:
    project.run()
    place = project.folder / "o/.sums.csv.manifest.json"
    old = {name: value for name, value in json.loads(place.read_text()).items() if name not in ("key", "record")}
    place.write_text(json.dumps(old))
    loaded = Manifest.load(project.folder, "o/sums.csv")
    assert loaded is not None
    assert (loaded.key, loaded.record) == ("", {})
    r = project.run()
    assert written(r) == {"sums"}
    assert reasons(r, "sums") == ["it is not recorded what the committed one was made of"]
    assert written(project.run()) == set()


@pytest.mark.parametrize("record", ['"text"', '{"steps": 3, "checks": [1]}', '{"steps": {"version": 1}}'])
def test_a_record_that_somebody_edited_is_no_error(project: Project, record: str) -> None:
    project.run()
    place = project.folder / "o/.sums.csv.manifest.json"
    found = json.loads(place.read_text())
    place.write_text(json.dumps({**found, "record": json.loads(record)}))
    project.table(3)
    assert written(project.run()) == {"sums", "parts"}


# What is always run


def test_steps_with_effects_run_and_so_does_what_they_feed(project: Project) -> None:
    text = TEXT.replace(
        "outputs:",
        '  done: {call: "resumed_functions:effect", pure: false}\noutputs:\n  done: {to: json, path: o/done.json}',
    )
    project.run(text)
    r = project.run(text)
    assert written(r) == {"done"}
    assert project.log.read_text() == "effect "
    assert project.said == "5 of 6 steps unchanged; done: pure: false, so it is never reused: done runs again"


def test_kept_values_are_computed(project: Project) -> None:
    project.run()
    r = project.run(keep=["fit"])
    assert (written(r), project.log.read_text(), r["fit"]) == (set(), "1 2 ", {"a=1": 10, "a=2": 20})


def test_force_runs_a_step_or_everything(project: Project) -> None:
    project.run()
    assert written(project.run(force=True)) == ALL
    r = project.run(force="fit")
    assert written(r) == {"fit"}
    assert reasons(r, "fit") == ["forced"]
    assert written(project.run(force=["rows", "x"])) == {"sums", "parts", "y"}
    with pytest.raises(ConfigError, match=r"--force fitt: there is no step 'fitt'; did you mean 'fit'\?"):
        project.run(force="fitt")


# Checks


def test_a_new_check_is_evaluated_once(project: Project) -> None:
    project.run()
    assert {one["name"] for one in project.run(sets={"least": "1"}).resumed["steps"] if one["state"] == "run"} == {
        "rows",
        "sums",
    }
    assert len(project.run(sets={"least": "1"}).trace.tasks) == 0
    with pytest.raises(CheckError):
        project.run(sets={"least": "2"})
    assert len(project.run(sets={"least": "1"}).trace.tasks) == 0


def test_outputs_of_a_run_whose_check_failed_are_not_reused(project: Project) -> None:
    with pytest.raises(CheckError):
        project.run(sets={"least": "5"})
    assert written(project.run()) == ALL


def test_one_more_instance_runs_alone(project: Project) -> None:
    text = """
version: 1
modules: [./resumed_functions.py]
params: {alphas: [1, 2]}
steps:
  fit: {call: "resumed_functions:noted", matrix: {alpha: "${alphas}"}, args: {a: "${alpha}", by: 2}}
outputs:
  fit: {to: json, path: "o/${alpha}.json"}
"""
    project.run(text)
    r = project.run(text, sets={"alphas": "[1, 2, 3]"})
    assert (written(r), project.log.read_text()) == ({"fit[3]"}, "3 ")
    assert r["fit[1]"] == 2


def test_an_output_that_grows_is_not_computed_twice(project: Project) -> None:
    text = TEXT.replace("to: parquet, path: o/parts", "to: parquet, path: o/parts, mode: append")
    project.run(text)
    r = project.run(text)
    assert (len(r.trace.tasks), r.outputs["parts"].rows) == (0, 4)
    os.remove(project.folder / "in/2.csv")
    assert project.run(text).outputs["parts"].rows == 6
    assert pq.read_table(project.folder / "o/parts").column("v").combine_chunks().sum() == pa.scalar(7)
