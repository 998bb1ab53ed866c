"""Run folders after the run: which there are, what has changed from one to another, whether it is faster."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import chained

from pipeline import cli
from pipeline.errors import ConfigError, OutputError
from pipeline.report.history_text import diff_text, runs_text
from pipeline.runs.facts import noted_failure
from pipeline.runs.folders import began, new_folder
from pipeline.runs.history.diff import diff
from pipeline.runs.history.find import find, runs
from pipeline.runs.history.read import Case, RunFolder, read
from pipeline.runs.history.result import Change

FIRST, SECOND = "2026-01-31T10-00-00Z", "2026-02-01T09-00-00Z"
ENVIRONMENT = {
    "python": "3.11.7", "platform": "Linux-6", "machine": "aaaa", "processor": "cpu", "cores": 4, "memory": 8 * 10**9,
    "versions": {"dask": "2026.8.0", "numpy": "2.4.6"},
}  # fmt: skip
INPUTS = {
    "in.csv": {"bytes": 4, "mtime_ns": 10, "sha256": "aa"},
    "big.nc": {"bytes": 9, "mtime_ns": 10, "sha256": "bb", "partial": True},
}
CONFIG = (
    "version: 1\nname: month\nparams: {n: 1}\nsteps:\n  fit: {call: 'm:f', batch: 50}\n  sum: {op: sum, axis: [x, y]}\n"
)
SHAPE = {
    "steps": [
        {"step": "fit", "kind": "items", "n_tasks": 2},
        {"step": "sum", "kind": "value", "n_tasks": 1},
    ],
    "edges": [["fit", "sum"]],
}
QUICK = (1.0, 1.01, 1.02)
SLOW = (2.0, 2.02, 2.04)


def report(kind, cases, **fields):
    """A ``report.json``: each case a label, back end, workers and the elapsed seconds of its rounds."""
    rows = [
        {
            "label": label,
            "backend": backend,
            "workers": workers,
            "n_rounds": len(times),
            "elapsed": {"value": times[0], "low": None, "high": None, "n": 1, "confidence": 0.0} if times else None,
            "failure": "" if times else "lost",
        }
        for label, backend, workers, times in cases
    ]
    measurements = [
        {
            "case": label,
            "backend": backend,
            "round": number,
            "elapsed": elapsed,
            "n_workers": workers,
            "trace": f"/elsewhere/{backend}-{number + 1}/trace.parquet",
        }
        for label, backend, workers, times in cases
        for number, elapsed in enumerate(times)
        if kind == "comparison"
    ]
    told = {
        "format": 1, "kind": kind, "name": "month", "fingerprint": "0123456789abcdef", "n_tasks": 3, "folder": ".",
        "created": "2026-01-31T10:00:00+00:00", "exit_code": 0, "problem": "", "rows": rows,
        "measurements": measurements, "environment": ENVIRONMENT, "inputs": INPUTS, "code": {"m.py": "cc"},
        "config": CONFIG, "graph": SHAPE,
    }  # fmt: skip
    return copy.deepcopy(told) | fields


def left(top, time, told, *, name="month", steps=None):
    """A run folder with a report, and with traces: seconds by step of each measured run."""
    folder = top / name / time
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(told))
    for inner, seconds in (steps or {}).items():
        (folder / inner).mkdir(exist_ok=True)
        chained(seconds).save(folder / inner / "trace.parquet")
    return folder


def comparison(top, time, *, times=QUICK, backend="processes", workers=2, steps=None, **fields):
    told = report(
        "comparison", [("serial", "serial", 1, (4.0, 4.1, 4.2)), (backend, backend, workers, times)], **fields
    )
    return left(top, time, told, steps=steps)


def pair(top, **fields):
    """Two comparisons: the second took half of the time, and has the fields that are given."""
    return comparison(top, FIRST, times=SLOW), comparison(top, SECOND, times=QUICK, **fields)


def compared(top, **fields):
    return diff(*map(read, pair(top, **fields)))


def found(changes):
    return [(change.path, change.kind, change.old, change.new) for change in changes]


# ---------------------------------------------------------------------------------------------------------------------
# The list, and names
# ---------------------------------------------------------------------------------------------------------------------


def many(top):
    """Folders of every sort; gives the names of those of ``month`` in their order."""
    names = [f"{FIRST}.2", f"{FIRST}.10", SECOND]
    left(top, f"{FIRST}.10", report("run", [("dask", "dask", 4, (1.5,))]))
    cases = [("serial", "serial", 1, (3.0, 9.0, 4.0)), ("pool", "pool", 2, (2.0, 1.0, 3.0)), ("dask", "dask", 2, ())]
    left(top, SECOND, report("comparison", cases, exit_code=4, problem="dask did not run: lost"))
    left(top, f"{FIRST}.2", report("run", [("serial", "serial", 1, (0.5,))], exit_code=1))
    left(top, FIRST, report("run", [("threads", "threads", 2, (75.0,))], n_tasks=1234), name="a/b")
    return names


def test_two_run_folders_of_one_second_are_two(tmp_path):
    assert new_folder(tmp_path, "x") != new_folder(tmp_path, "x")


@pytest.mark.parametrize("name", ["taken", "taken/below", "n" * 300])
def test_a_run_folder_that_cannot_be_made_is_an_output_error(tmp_path, name):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="the run folder can't be made: "):
        new_folder(tmp_path, name)


def test_a_comparison_that_failed_is_told_as_one(tmp_path):
    folder = new_folder(tmp_path, "x")
    with pytest.raises(ConfigError), noted_failure(folder, "comparison", None):
        raise ConfigError("steps.a: no")
    run = read(folder)
    assert (run.kind, run.state, run.problem) == ("comparison", "exit 2", "steps.a: no")
    with pytest.raises(OSError, match="No space"), noted_failure(folder, "run", None):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert read(folder).state == "exit 5"


def test_the_time_of_two_rounds_is_the_median_of_the_comparison(tmp_path):
    run = RunFolder(tmp_path, "x", "now", cases=(Case("a", "a", 1, (1.0, 4.0)), Case("b", "b", 2, (2.0, 2.2))))
    assert ([case.label for case in run.ran], run.elapsed) == (["b", "a"], 2.1)


def test_when_a_run_began_is_read_from_the_name_of_its_folder(tmp_path):
    before = time.time()
    assert int(before) <= began(new_folder(tmp_path, "x")) <= time.time()
    assert began(tmp_path / "2026-01-31T10-00-00Z.2") == 1769853600
    assert began(tmp_path / "other") is None


def test_run_folders_are_listed_the_newest_last_with_their_times(tmp_path):
    names = many(tmp_path)
    listed = runs(tmp_path)
    assert [run.label for run in listed] == [f"a/b/{FIRST}", *(f"month/{name}" for name in names)]
    assert [run.kind for run in listed] == ["run", "run", "run", "comparison"]
    assert [run.state for run in listed] == ["ok", "exit 1", "ok", "exit 4"]
    assert [run.elapsed for run in listed] == [75.0, 0.5, 1.5, 2.0]
    assert [[case.label for case in run.ran] for run in listed] == [
        ["threads"],
        ["serial"],
        ["dask"],
        ["pool", "serial"],
    ]
    assert [run.n_tasks for run in listed] == [1234, 3, 3, 3]
    assert [run.label for run in runs(tmp_path, "a/b")] == [f"a/b/{FIRST}"]


def test_the_table_fits_a_terminal_and_ends_with_the_newest_run(tmp_path):
    many(tmp_path)
    lines = runs_text(runs(tmp_path)).split("\n")
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "a/b: 1 run"
    assert " ".join(lines[-3:-1]).split() == [
        *(SECOND, "comparison", "exit", "4", "pool,", "2.00", "s", "3", "012345"), "serial"]  # fmt: skip
    assert lines[-1] == f"{SECOND}: dask did not run: lost"


def test_a_run_without_a_report_is_told_by_its_other_files(tmp_path):
    old, failed, killed, begun, strange = (tmp_path / "month" / f"2026-01-0{i}T00-00-00Z" for i in range(1, 6))
    for folder in (old, failed, killed, begun, strange):
        folder.mkdir(parents=True)
    for folder in (old, failed, killed):
        (folder / "config.json").write_text("{}")
    chained({"fit-0": 1.0, "fit-1": 2.0}, backend="threads").save(old / "trace.parquet")
    (old / "manifest.json").write_text('{"outputs": [{"graph": "feed"}]}')
    (failed / "failure.json").write_text('{"exit_code": 3, "message": "in.csv: no such file\\nmore"}')
    (begun / "graph").write_bytes(b"never opened")
    listed = runs(tmp_path)
    assert [run.state for run in listed] == ["ok", "exit 3", "not ended", "not ended", "unreadable"]
    assert [run.kind for run in listed] == ["run", "run", "run", "comparison", ""]
    assert (listed[0].elapsed, listed[0].n_tasks, listed[0].fingerprint) == (3.0, 2, "feed")
    assert listed[0].ran[0].label == "threads"
    assert [run.missing for run in listed[:4]] == [("report.json",)] * 4
    assert listed[1].problem == "in.csv: no such file"
    assert "killed" in listed[2].problem
    assert "it has none of run.json, report.json" in listed[4].problem


def test_an_older_comparison_is_read_from_its_comparison_json(tmp_path):
    told = report("comparison", [("serial", "serial", 1, (4.0,)), ("pool", "pool", 2, (2.0,))])
    kept = {
        key: told[key] for key in ("name", "fingerprint", "n_tasks", "exit_code", "problem", "rows", "measurements")
    }
    for row in (*kept["rows"], *kept["measurements"]):
        row.pop("label", row.pop("case", None))
    folder = tmp_path / "month" / FIRST
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps(kept))
    run = read(folder)
    assert (run.kind, run.state, run.elapsed) == ("comparison", "ok", 2.0)
    assert [case.label for case in run.ran] == ["pool", "serial"]
    assert run.environment is run.inputs is run.code is run.config is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("month", SECOND), ("month~1", f"{FIRST}.10"), ("month~", f"{FIRST}.10"), ("month~2", f"{FIRST}.2"),
     (f"month/{FIRST}.2", f"{FIRST}.2"), ("a/b", FIRST), (f"a/b/{FIRST}", FIRST), ("runs/month", SECOND),
     ("runs/month~1", f"{FIRST}.10"), (f"runs/month/{FIRST}.10", f"{FIRST}.10"),
     (f"runs/month/{FIRST}.10/report.json", f"{FIRST}.10"), (f"month/{FIRST}.2/", f"{FIRST}.2")],
)  # fmt: skip
def test_a_run_folder_is_named_by_path_by_time_or_by_age(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    many(tmp_path / "runs")
    run = find(text)
    assert run.time == expected
    assert run.name == ("a/b" if "a/b" in text else "month")


@pytest.mark.parametrize(
    ("text", "said"),
    [("mnth", "did you mean 'month'?"), ("month~3", "month has 3 runs; the oldest is month~2"),
     (f"month/{FIRST}", f"did you mean 'month/{FIRST}.2' or "), ("xyz", "there are a/b, month"),
     ("", "write a run folder"), ("a\0b", "write a run folder"), ("project", "not a run folder: it has none of"),
     ("nowhere/month", "no such run folder below runs")],
)  # fmt: skip
def test_what_is_no_run_folder_is_exit_2_with_names_like_it(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    many(tmp_path / "runs")
    (tmp_path / "project").mkdir()
    with pytest.raises(ConfigError) as caught:
        find(text)
    assert said in str(caught.value)


def test_a_measured_run_of_a_comparison_is_told_as_such(tmp_path):
    folder = comparison(tmp_path, FIRST)
    (folder / "pool-1").mkdir()
    (folder / "pool-1" / "report.json").write_text('{"elapsed": 1.0, "start_up": 0.1}')
    with pytest.raises(ConfigError, match="a single measured run of the comparison "):
        find(str(folder / "pool-1"))


def test_no_folder_of_runs_and_no_run_of_a_name_are_told(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        runs(tmp_path / "nowhere")
    assert runs_text(runs(tmp_path)) == "no run folders"
    many(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'month'"):
        runs(tmp_path, "moth")


# ---------------------------------------------------------------------------------------------------------------------
# What has changed
# ---------------------------------------------------------------------------------------------------------------------


def test_changed_keys_of_the_file_are_named_by_their_paths(tmp_path):
    other = (
        CONFIG.replace("batch: 50", "batch: 100, retries: 2").replace("params: {n: 1}\n", "").replace("[x, y]", "[x]")
    )
    assert found(compared(tmp_path, config=other).changes["config"]) == [
        ("params.n", "removed", 1, None),
        ("steps.fit.batch", "changed", 50, 100),
        ("steps.sum.axis", "changed", ["x", "y"], ["x"]),
        ("steps.fit.retries", "added", None, 2),
    ]


def test_a_changed_param_is_listed_once(tmp_path):
    given = compared(tmp_path)
    changes = (Change("steps.fit.batch", "changed", 1, 2), Change("params.n", "changed", 1, 2))
    text = diff_text(replace(given, changes={**given.changes, "config": changes}))
    assert "params.n: 1 -> 2 (in steps.fit.batch)" in text
    assert text.count("1 -> 2") == 1


def test_code_versions_machine_inputs_and_graph_are_told(tmp_path):
    environment = ENVIRONMENT | {"python": "3.12.0", "machine": "bbbb", "memory": 16 * 10**9}
    environment["versions"] = {"dask": "2026.9.0", "scipy": "1"}
    inputs = {"in.csv": INPUTS["in.csv"] | {"bytes": 5, "sha256": "ee"}, "new.csv": {"bytes": 1, "sha256": "ff"}}
    changes = compared(
        tmp_path, environment=environment, inputs=inputs, code={"n.py": "cc"}, fingerprint="ffff"
    ).changes
    assert found(changes["code"]) == [("m.py", "removed", "cc", None), ("n.py", "added", None, "cc")]
    assert [c[:2] for c in found(changes["versions"])] == [
        ("python", "changed"), ("dask", "changed"), ("numpy", "removed"), ("scipy", "added")]  # fmt: skip
    assert [c[:2] for c in found(changes["machine"])] == [("machine", "changed"), ("memory", "changed")]
    assert [(c.path, c.kind, c.partial) for c in changes["inputs"]] == [
        ("in.csv", "changed", False), ("big.nc", "removed", True), ("new.csv", "added", False)]  # fmt: skip
    assert found(changes["graph"]) == [("graph", "changed", "0123456789abcdef", "ffff")]
    assert not changes["config"]


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ({"mtime_ns": 1, "sha256": "a"}, {"mtime_ns": 2, "sha256": "a"}, ""),
        ({"mtime_ns": 1, "sha256": "a"}, {"mtime_ns": 1, "sha256": "b"}, "changed"),
        ({"mtime_ns": 1, "sha256": "a", "partial": True}, {"mtime_ns": 1, "sha256": "a", "partial": True}, ""),
        ({"mtime_ns": 1, "sha256": "a", "partial": True}, {"mtime_ns": 2, "sha256": "a", "partial": True}, "unsure"),
        ({"mtime_ns": 1, "sha256": "a", "partial": True}, {"mtime_ns": 1, "sha256": "b", "partial": True}, "changed"),
        ({"mtime_ns": 1, "sha256": "a", "partial": True}, {"mtime_ns": 1, "sha256": "b"}, ""),
        ({"mtime_ns": 1, "sha256": "a", "partial": True}, {"mtime_ns": 2, "sha256": "b"}, "unsure"),
        ({"etag": "x", "modified": "1"}, {"etag": "x", "modified": "2"}, ""),
        ({"etag": "x"}, {"etag": "y"}, "changed"),
        ({"modified": "1"}, {"modified": "1"}, ""),
        ({"modified": "1"}, {"modified": "2"}, "unsure"),
        ({}, {}, "unsure"),
        ({"bytes": None}, {"bytes": None, "modified": "1"}, "unsure"),
        ({"bytes": 8, "sha256": "a"}, {"bytes": 7, "sha256": "a", "partial": True}, "changed"),
    ],
)
def test_an_input_is_the_same_another_or_nobody_knows(tmp_path, old, new, kind):
    times = [
        report("comparison", [("serial", "serial", 1, QUICK)], inputs={"x": {"bytes": 7} | one}) for one in (old, new)
    ]
    found = diff(*(read(left(tmp_path, time, told)) for time, told in zip((FIRST, SECOND), times, strict=True)))
    assert [change.kind for change in found.changes["inputs"]] == ([kind] if kind else [])


def test_a_copy_of_a_folder_has_not_changed_and_is_no_faster(tmp_path):
    folder = comparison(tmp_path, FIRST, steps={"processes-1": {"fit-0": 1.0}})
    shutil.copytree(folder, tmp_path / "month" / SECOND)
    found = diff(read(folder), find("month", tmp_path))
    assert found.nothing_changed
    assert found.judged.text == "verdict withheld: the intervals of serial, processes overlap"
    assert "the same  config, code, versions, machine, inputs, graph" in diff_text(found).split("\n")


def test_a_difference_without_any_change_is_no_verdict(tmp_path):
    text = compared(tmp_path).judged.text
    assert text.startswith(
        "verdict withheld: nothing that is recorded has changed, so it is chance, or the machine had other work"
    )
    assert "(faster: processes 2.00x [1.96, 2.04]); the intervals of serial overlap" in text


def test_a_folder_and_itself_are_one_run(tmp_path):
    (tmp_path / "month").mkdir()
    (tmp_path / "month" / FIRST).mkdir()
    (tmp_path / "month" / FIRST / "config.json").write_text("{}")
    for folder in (tmp_path / "month" / FIRST, comparison(tmp_path, SECOND)):
        found = diff(read(folder), read(folder))
        assert found.nothing_changed
        assert found.judged.text == "verdict withheld: both are the same run"


def test_times_by_step_are_those_of_the_traces_over_the_rounds(tmp_path):
    old = {f"processes-{i}": {"fit-0": 1.0, "fit[b]-1": 0.5 + i / 100, "sum-0": 0.2} for i in (1, 2, 3)}
    new = {f"processes-{i}": {"fit-0": 0.5 + i / 100, "write out-0": 0.1} for i in (1, 2, 3)}
    a = comparison(tmp_path, FIRST, times=SLOW, steps=old)
    b = comparison(tmp_path, SECOND, steps=new)
    found = diff(read(a), read(b))
    (times,) = [t for t in found.times if t.label == "processes"]
    told = {
        step.step: (step.old and round(step.old.value, 9), step.new and round(step.new.value, 9), step.differs)
        for step in times.steps
    }
    assert told == {"fit": (1.52, 0.52, True), "sum": (0.2, None, False), "write out": (None, 0.1, False)}
    text = diff_text(found)
    (line,) = [line for line in text.split("\n") if " fit " in line]
    assert line.split() == ["processes", "fit", "1.52", "[1.51,", "1.53]", "0.520", "[0.510,", "0.530]", "apart"]
    lacking = "times by step of serial: serial-1/trace.parquet is missing (3 of 3 traces)"
    assert found.notes == (f"A: {lacking}", f"B: {lacking}")


# ---------------------------------------------------------------------------------------------------------------------
# The verdict
# ---------------------------------------------------------------------------------------------------------------------


def test_a_run_in_half_the_time_is_twice_as_fast(tmp_path):
    a, b = map(read, pair(tmp_path, code={"m.py": "dd"}))
    assert (
        diff(a, b).judged.text == "B is faster: processes 2.00x [1.96, 2.04]; withheld: the intervals of serial overlap"
    )
    assert (
        diff(b, a).judged.text == "B is slower: processes 0.50x [0.49, 0.51]; withheld: the intervals of serial overlap"
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"environment": ENVIRONMENT | {"machine": "bbbb"}}, "the machines differ"),
        ({"environment": None}, "machine not recorded in B"),
        ({"inputs": None, "environment": None}, "inputs and machine not recorded in B"),
        ({"inputs": INPUTS | {"in.csv": {"bytes": 5, "sha256": "x"}}}, "the inputs differ (in.csv changed)"),
        ({"inputs": {}}, "the inputs differ (in.csv removed, big.nc removed)"),
        ({"inputs": INPUTS | {"big.nc": INPUTS["big.nc"] | {"mtime_ns": 11}}},
         "the inputs may differ (big.nc: not hashed as a whole)"),
        ({"fingerprint": "ffff"}, "the graphs differ, so different work was timed"),
        ({"fingerprint": ""}, "graph not recorded in B"),
        ({"fingerprint": "ffff", "code": {"m.py": "dd"}, "config": CONFIG + "seed: 1\n"},
         "the graphs differ, so different work was timed"),
        ({"fingerprint": "ffff", "code": {"m.py": "dd"}, "graph": SHAPE | {"edges": []}},
         "the graphs differ, so different work was timed"),
        ({"backend": "pool"}, ""),
        ({"exit_code": 70}, ""),
    ],
)  # fmt: skip
def test_the_verdict_is_withheld_if_something_else_has_changed(tmp_path, fields, reason):
    found = compared(tmp_path, **fields)
    if reason:
        assert found.judged.withheld == (reason,)
        assert found.judged.text == f"verdict withheld: {reason}"
        assert diff_text(found).replace("\n", " ").endswith(found.judged.text)
        assert "speedup" not in diff_text(found)  # it would be taken for a verdict
    else:
        assert "the intervals of serial overlap" in found.judged.text


def test_other_code_and_versions_do_not_withhold_the_verdict(tmp_path):
    found = compared(tmp_path, fingerprint="ffff", code={"m.py": "dd"})
    assert found.judged.text.startswith("B is faster: processes 2.00x")
    versions = ENVIRONMENT | {"versions": {"dask": "2026.9.0", "numpy": "2.4.6"}}
    shutil.rmtree(tmp_path / "month")
    assert compared(tmp_path, fingerprint="ffff", environment=versions).judged.text.startswith("B is faster: processes")


def test_other_back_ends_or_workers_can_not_be_compared(tmp_path):
    a = left(tmp_path, FIRST, report("run", [("dask", "dask", 2, (1.0,))]))
    for backend, workers in (("pool", 2), ("dask", 4)):
        b = left(tmp_path, f"{SECOND}.{workers}", report("run", [(backend, backend, workers, (1.0,))]))
        found = diff(read(a), read(b))
        assert found.judged.withheld == (f"back end or workers differ: A has dask on 2; B has {backend} on {workers}",)
        assert found.times == ()


def test_runs_that_were_not_repeated_show_nothing(tmp_path):
    one = [
        left(tmp_path, time, report("run", [("processes", "processes", 2, (t,))]))
        for time, t in ((FIRST, 1.0), (SECOND, 9.0))
    ]
    many = comparison(tmp_path, f"{SECOND}.2")
    few = comparison(tmp_path, f"{SECOND}.3", times=(9.0, 9.1))
    assert diff(*map(read, one)).judged.text == "verdict withheld: one run each has no spread; use compare"
    assert (
        diff(read(one[0]), read(many)).judged.text == "verdict withheld: A is one run, which has no spread; use compare"
    )
    assert "fewer than 3 rounds of processes show no difference" in diff(read(many), read(few)).judged.text


def test_a_cluster_of_unknown_machines_withholds_dasks_verdict(tmp_path):
    config = CONFIG + "cluster: {address: 'tcp://h:1'}\n"
    a = comparison(tmp_path, FIRST, times=SLOW, backend="dask", config=config)
    b = comparison(tmp_path, SECOND, backend="dask", config=config)
    assert "the machines of the cluster of dask are not recorded" in diff(read(a), read(b)).judged.withheld
    assert not diff(read(a), read(b)).changes["config"]


def test_a_run_that_failed_is_held_against_one_that_did_not(tmp_path):
    asked = {"name": "month", "steps": {"fit": {"batch": 50, "args": {"n": 1}}}}
    good = left(tmp_path, FIRST, report("run", [("serial", "serial", 1, (1.0,))]))
    bad = tmp_path / "month" / SECOND
    bad.mkdir()
    (good / "config.json").write_text(json.dumps(asked))
    asked["steps"]["fit"]["args"]["n"] = 2
    (bad / "config.json").write_text(json.dumps(asked))
    (bad / "versions.json").write_text(json.dumps({"python": "3.11.7", "dask": "2026.9.0", "numpy": "2.4.6"}))
    (bad / "failure.json").write_text(json.dumps({"exit_code": 1, "message": "fit: ValueError"}))
    told = diff(read(good), read(bad))
    assert found(told.changes["config"]) == [("steps.fit.args.n", "changed", 1, 2)]
    assert found(told.changes["versions"]) == [("dask", "changed", "2026.8.0", "2026.9.0")]
    assert told.unknown["inputs"] == told.unknown["machine"] == "not recorded in B"
    assert told.judged.withheld[0] == "B failed"
    assert "fit: ValueError" in diff_text(told)


# ---------------------------------------------------------------------------------------------------------------------
# Whatever lies in a folder
# ---------------------------------------------------------------------------------------------------------------------

HOSTILE = [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": 2}', b'{"format": [[1]]}', b'{"kind": "run"}',
    b'{"a": NaN}', b'{"a": 1e999}', b"1" * 5_000, json.dumps(report("opera", [])).encode(),
    json.dumps(report("run", [("x", "x", 1, (1.0,))], name=["month"])).encode(),
    json.dumps(report("run", [("x", "x", 1, (-1.0,))])).encode(),
    json.dumps(report("run", [("x", "x", 1, (1.0,))], inputs={"in.csv": 3})).encode(),
    json.dumps(report("run", [("x", "x", 10**400, (1.0,))])).encode(),
]  # fmt: skip


@pytest.mark.parametrize("name", ["report.json", "comparison.json", "failure.json", "config.json"])
@pytest.mark.parametrize("content", HOSTILE)
def test_a_file_that_is_none_of_ours_is_told_in_a_line(tmp_path, capsys, name, content):
    good = comparison(tmp_path, FIRST)
    bad = tmp_path / "month" / SECOND
    bad.mkdir()
    (bad / name).write_bytes(content)
    assert cli.main(["runs", "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert FIRST in out
    assert SECOND in out
    assert cli.main(["diff", str(good), str(bad), "--runs", str(tmp_path)]) in (0, 2)
    assert cli.main(["report", str(bad)]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 64 + b"PAR1", "text", "table", "head", "steps"])
def test_a_trace_that_is_none_is_told_in_a_line(tmp_path, content):
    old = tmp_path / "month" / FIRST
    old.mkdir(parents=True)
    (old / "config.json").write_text("{}")
    new = left(tmp_path, SECOND, report("run", [("serial", "serial", 1, (1.0,))]))
    good = left(tmp_path, f"{SECOND}.2", report("run", [("serial", "serial", 1, (1.0,))]))
    chained({"fit-0": 1.0}).save(good / "trace.parquet")
    heads = {"text": b'"text"', "head": b'{"backend": 1, "n_workers": "x", "elapsed": "nan"}', "steps": b"{}"}
    for folder in (old, new):
        if isinstance(content, bytes):
            (folder / "trace.parquet").write_bytes(content)
        else:
            columns = {"step": [None], "start": [1], "stop": [2]} if content == "steps" else {"x": [1]}
            table = pa.table(columns)
            about = {b"pipeline": heads[content]} if content in heads else None
            pq.write_table(table.replace_schema_metadata(about), folder / "trace.parquet")
    assert read(old).state == "unreadable"
    assert "trace.parquet can't be read" in read(old).problem
    told = diff(read(new), read(good))
    assert len(told.notes) == 1
    assert "times by step" in diff_text(told)


def test_what_moves_a_terminals_text_is_written_out(tmp_path):
    name = "m\x1b[31m"
    told = report("comparison", [("\x1b[31mred", "serial", 1, QUICK)], problem="\x1b]0;x\x07", exit_code=4,
                  fingerprint="\x1b[31m", inputs={"\x1b[31m": {"bytes": 1}}, code={"\x1b[31m": "a"},
                  config="a: \"\\e[31m\"\n")  # fmt: skip
    a = left(tmp_path, FIRST, told, name=name)
    b = left(tmp_path, SECOND, told | {"inputs": {}, "code": {}, "config": "a: 1\n", "fingerprint": "0"}, name=name)
    for text in (runs_text(runs(tmp_path)), diff_text(diff(read(a), read(b)))):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\\x1b[31m" in text


def test_a_trace_is_sought_in_the_folder_alone(tmp_path):
    told = report("comparison", [("serial", "serial", 1, QUICK)])
    for measured, trace in zip(
        told["measurements"], ("../../trace.parquet", "/etc/passwd", "trace.parquet"), strict=True
    ):
        measured["trace"] = trace
    assert read(left(tmp_path, FIRST, told)).cases[0].traces == ()


BOMB = "a: &a [b]\n" + "\n".join(
    f"{c}: &{c} [{{}}, {', '.join([f'*{p}'] * 9)}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)
NO_YAML = ["a: [1", "a: !!python/object:os.system {}", "a: &x [*x]", "a: 2026-13-45", "x" * 400_000, BOMB]


@pytest.mark.parametrize("config", [*NO_YAML, "- {}", ""], ids=range(8))
def test_broken_and_too_long_yaml_is_reported_as_such(tmp_path, config):
    told = compared(tmp_path, config=config)
    assert ("can't be compared" in told.unknown.get("config", "")) == (config in NO_YAML)
    assert bool(told.changes["config"]) == (config not in NO_YAML)
    assert diff_text(told)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """The places in a document."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


WHOLE = report("comparison", [("serial", "serial", 1, SLOW), ("pool", "pool", 2, QUICK)])
PLACES = [path for path in places(WHOLE) if path]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PLACES), JSON)
def test_a_report_with_anything_anywhere_is_read_or_told(path, value):
    told = copy.deepcopy(WHOLE)
    inner = told
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with tempfile.TemporaryDirectory() as folder:
        a, b = left(Path(folder), FIRST, WHOLE), left(Path(folder), SECOND, told)
        one, other = runs(folder)
        assert runs_text([one, other])
        assert json.dumps(other.to_dict())
        for pair in ((read(a), read(b)), (read(b), read(a))):
            found = diff(*pair)
            assert all(len(line) <= 80 for line in diff_text(found).split("\n"))
            assert json.dumps(found.to_dict())


@settings(max_examples=60, deadline=None)
@given(*[st.dictionaries(st.text("abc", min_size=1, max_size=2), st.text("xy", max_size=2), max_size=5) for _ in "ab"])
def test_what_is_added_one_way_is_removed_the_other_way(old, new):
    with tempfile.TemporaryDirectory() as folder:
        cases = [("serial", "serial", 1, QUICK)]
        a = read(left(Path(folder), FIRST, report("comparison", cases, code=old)))
        b = read(left(Path(folder), SECOND, report("comparison", cases, code=new)))
    there, back = (diff(*pair).changes["code"] for pair in ((a, b), (b, a)))
    turned = {"added": "removed", "removed": "added", "changed": "changed"}
    assert sorted((c.path, turned[c.kind], c.new, c.old) for c in there) == sorted(
        (c.path, c.kind, c.old, c.new) for c in back
    )
    assert {c.path for c in there} == {k for k in {*old, *new} if old.get(k) != new.get(k)}


# ---------------------------------------------------------------------------------------------------------------------
# The commands
# ---------------------------------------------------------------------------------------------------------------------


def test_the_list_and_a_difference_as_json(tmp_path, capsys):
    pair(tmp_path, code={"m.py": "dd"})
    assert cli.main(["runs", "month", "--runs", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["event"], told["ok"]) == ("result", True)
    assert [run["time"] for run in told["runs"]] == [FIRST, SECOND]
    assert cli.main(["diff", "month~1", "month", "--runs", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changes"]["code"] == [{"path": "m.py", "kind": "changed", "old": "cc", "new": "dd", "partial": False}]
    assert told["verdict"].startswith("B is faster: processes 2.00x")
    assert told["times"][1]["speedup"]["n"] == 3


def test_a_difference_fits_a_terminal_and_ends_with_the_verdict(tmp_path, capsys):
    inputs = {f"{'folder/' * 12}{i}.csv": {"bytes": i, "sha256": "x"} for i in range(30)}
    pair(tmp_path, inputs=inputs, config=CONFIG + f"seed: '{'long ' * 40}'\n")
    assert cli.main(["diff", "month~1", "month", "--runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.rstrip().split("\n")
    assert all(len(line) <= 80 for line in lines)
    assert any("22 more; --json lists all" in line for line in lines)
    assert "".join(lines).count("verdict withheld: the inputs differ (in.csv removed, ") == 1


def test_the_schema_of_the_report_is_printed(capsys):
    assert cli.main(["schema", "--report"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "report.json of Pipeline"


def test_two_real_runs_differ_in_nothing_but_what_was_changed(tmp_path, capsys):
    configs = Path(__file__).parents[2] / "configs"
    options = ["--backend", "serial", "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs"), "--force"]
    shutil.copytree(configs.parent / "data" / "climate", tmp_path / "climate")
    for root in ("climate", "climate"):
        assert cli.main(["run", str(configs / "climate.yaml"), "--set", f"root={tmp_path / root}", *options]) == 0
    capsys.readouterr()
    command = ["diff", "climate~1", "climate", "--runs", str(tmp_path / "runs")]
    assert cli.main(command) == 0
    lines = capsys.readouterr().out.rstrip().split("\n")
    assert "the same  config, code, versions, machine, inputs, graph" in lines
    assert lines[-1] == "verdict withheld: one run each has no spread; use compare"
    (netcdf, *_) = sorted((tmp_path / "climate").glob("A1B*.nc"))
    with netcdf.open("ab") as file:
        file.write(b"\0")
    assert cli.main(["run", str(configs / "climate.yaml"), "--set", f"root={tmp_path / 'climate'}", *options]) == 0
    capsys.readouterr()
    assert cli.main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    ((change,),) = [found for about, found in told["changes"].items() if found]
    assert (os.path.basename(change["path"]), change["kind"]) == (netcdf.name, "changed")
    assert change["new"]["bytes"] == change["old"]["bytes"] + 1
    assert told["withheld"][0].startswith("the inputs differ (")
    assert cli.main(["runs", "--runs", str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out.startswith("climate: 3 runs\n")
