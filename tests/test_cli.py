"""The command line: options, exit codes, the last line on stderr, JSON events, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pipeline import cli
from pipeline.errors import (
    BackendError,
    Bug,
    CheckError,
    ConfigError,
    DataError,
    Fault,
    Location,
    OutputError,
    TaskError,
    TaskTimeout,
    WorkerLost,
)
from pipeline.report.failures import failure_event, failure_lines, no_such_file

FILE = """\
version: 1
steps:
  x: {op: arange, stop: 8, chunks: 4, dim: i}
  total: {op: sum, input: x}
outputs: {total: {to: npy, path: total.npy}}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to stand in, with ``sums.yaml``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    (tmp_path / "sums.yaml").write_text(FILE)
    return tmp_path


def called(*arguments):
    """The program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def raising(error):
    def load(*args, **kwargs):
        raise error

    return load


FAULTS = [Fault(Location("a.yaml", 9, 31), "steps.x.axes", "unknown key"), Fault(Location("a.yaml", 2, 1), "", "bad")]
TASK = TaskError(
    "fit[t2m]", "('fit', 3)", "ValueError: degree too high (models.py:41, in fit)", "alpha=0.1", "Traceback: …"
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no"), 2),
        (DataError("no"), 3),
        (TASK, 1),
        (BackendError("no"), 4),
        (WorkerLost("no"), 4),
        (TaskTimeout("no"), 4),
        (OutputError("no"), 5),
        (CheckError("no"), 6),
        (Bug("no"), 70),
        (RuntimeError("no"), 70),
        (KeyboardInterrupt(), 130),
        (cli.Terminated(), 143),
    ],
)
def test_each_error_has_its_exit_code_and_its_last_line_and_no_traceback(here, monkeypatch, capsys, error, code):
    monkeypatch.setattr("pipeline.config.load", raising(error), raising=False)
    assert cli.main(["check", "sums.yaml"]) == code
    stderr = capsys.readouterr().err
    assert stderr.strip().split("\n")[-1].startswith("pipeline: error: ")
    assert "Traceback" not in stderr


def test_debug_prints_our_traceback_and_that_of_the_task(here, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.config.load", raising(TASK), raising=False)
    assert cli.main(["check", "sums.yaml", "--debug"]) == 1
    stderr = capsys.readouterr().err
    assert "Traceback (most recent call last)" in stderr
    assert "Traceback: …" in stderr


def test_errors_are_json_events_too_and_the_last_line_is_the_result(here, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.config.load", raising(ConfigError(FAULTS)), raising=False)
    assert cli.main(["check", "sums.yaml", "--json"]) == 2
    error, result = map(json.loads, capsys.readouterr().out.splitlines())
    assert error["event"] == "error"
    assert [fault["line"] for fault in error["faults"]] == [2, 9]
    assert result == {"event": "result", "ok": False, "exit_code": 2}


def test_all_faults_are_listed_before_the_last_line():
    lines = failure_lines(ConfigError(FAULTS), file="a.yaml")
    assert lines == [
        "a.yaml:2:1: bad",
        "a.yaml:9:31: steps.x.axes: unknown key",
        "pipeline: error: 2 faults, listed above. Mend them, then: pipeline check a.yaml",
    ]


def test_one_fault_is_the_last_line():
    assert failure_lines(ConfigError(FAULTS[:1])) == ["pipeline: error: a.yaml:9:31: steps.x.axes: unknown key"]


def test_failed_checks_are_listed_and_summed_up_in_the_last_line():
    lines = failure_lines(CheckError("a.yaml:7: rows: got 3\n1 of 2 checks failed; nothing was committed"))
    assert lines == ["a.yaml:7: rows: got 3", "pipeline: error: 1 of 2 checks failed; nothing was committed."]


def test_a_failed_task_is_told_with_its_item_its_place_in_the_file_and_what_to_try():
    (line,) = failure_lines(TASK, file="a.yaml", locations={"fit[t2m]": "a.yaml:6"})
    assert line == (
        "pipeline: error: fit[t2m,alpha=0.1] (a.yaml:6): ValueError: degree too high (models.py:41, in fit). "
        "See its traceback: pipeline run a.yaml --backend serial --debug"
    )


def test_an_event_of_a_failed_task_names_step_item_and_cause():
    event = failure_event(TASK, exit_code=1)
    assert (event["step"], event["item"], event["exit_code"]) == ("fit[t2m]", "alpha=0.1", 1)
    assert event["cause"].startswith("ValueError")


def test_what_nobody_expected_asks_for_a_report():
    assert "report it" in failure_lines(ZeroDivisionError("x"))[-1]


@pytest.mark.parametrize("name", ["sum.yaml", "sums", "sums.yml", "configs/sums.yaml", "nowhere/sums.yaml"])
def test_a_missing_file_is_exit_2_with_a_similar_name(here, capsys, name):
    assert cli.main(["run", name]) == 2
    assert "did you mean 'sums.yaml'?" in capsys.readouterr().err


def test_a_folder_is_answered_with_the_files_in_it(here):
    assert str(no_such_file(".")) == ".: is a folder; did you mean 'sums.yaml'?"


@pytest.mark.parametrize(
    "arguments",
    [["frobnicate"], ["run"], ["run", "sums.yaml", "--workers", "0"], ["run", "sums.yaml", "--nope"],
     ["run", "sums.yaml", "--set", "smooth"], ["compare", "sums.yaml", "--budget", "soon"],
     ["compare", "sums.yaml", "--backends", "procs"],
     ["run", "sums.yaml", "--cluster", "tcp://h:1", "--backend", "pool"]],
)  # fmt: skip
def test_wrong_usage_is_exit_2_in_one_line(here, monkeypatch, capsys, arguments):
    config = SimpleNamespace(steps={}, warnings=(), compare={}, cluster={}, name="sums", storage={})
    monkeypatch.setattr("pipeline.config.load", lambda *a, **k: config, raising=False)
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.strip().startswith("pipeline: error: ")


@pytest.mark.parametrize(("text", "seconds"), [("2min", 120), ("90s", 90), ("1.5h", 5400), ("30", 30), ("2 m", 120)])
def test_a_budget_is_a_time(text, seconds):
    assert cli._seconds(text) == seconds


def test_set_values_are_handed_on_as_they_are_written(here, monkeypatch):
    got = {}
    monkeypatch.setattr(
        "pipeline.config.load", lambda file, **k: got.update(k) or raising(DataError("x"))(), raising=False
    )
    cli.main(["check", "sums.yaml", "--set", "params.a.b=[1, 2]", "--set", "c=x=y"])
    assert got["sets"] == {"params.a.b": "[1, 2]", "c": "x=y"}


def test_no_arguments_are_answered_with_help(capsys):
    assert cli.main([]) == 0
    assert "compare" in capsys.readouterr().out


def test_the_version_is_printed(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pipeline 0.")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["check", "bad.yaml"], ["run", "nofile.yaml"]])
def test_help_and_a_bad_file_are_answered_without_numpy_or_dask(here, arguments):
    (here / "bad.yaml").write_text("version: 1\nsteps: {x: {op: meen, input: y}}\n")
    code = f"""
import sys
from pipeline.cli import main
code = main({arguments!r})
heavy = {{"numpy", "dask", "pandas", "xarray", "distributed", "pyarrow"}} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "AssertionError" not in done.stderr
    assert done.returncode == (0 if "--help" in arguments else 2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_program_cleanly_with_its_exit_code(here, number, code):
    script = """
import pathlib, signal, sys
import pipeline.config
def load(*args, **kwargs):
    print("ready", flush=True)
    while True:
        signal.pause()
pipeline.config.load = load
from pipeline.cli import main
sys.exit(main(["run", "sums.yaml"]))
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    os.kill(child.pid, number)
    _, stderr = child.communicate(timeout=30)
    assert child.returncode == code
    assert stderr.strip().startswith("pipeline: error: ended by ")
    assert "Traceback" not in stderr


def test_a_closed_pipe_is_no_fault_of_ours(here):
    first = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    first.stdout.close()
    stderr = first.stderr.read()
    first.stderr.close()
    assert first.wait(timeout=60) in (0, 141)
    assert b"Traceback" not in stderr
