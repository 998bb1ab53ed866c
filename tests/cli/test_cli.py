"""The command line: options, exit codes, the last line on stderr, JSON events, signals."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from dask.callbacks import Callback

from pipeline import cli
from pipeline.cli import session
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
    "fit[t2m]", "('fit[t2m]', 3)", "ValueError: degree too high (models.py:41, in fit)", "alpha=0.1", "Traceback: …"
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
def test_each_error_has_an_exit_code_and_a_line_and_no_traceback(here, monkeypatch, capsys, error, code):
    monkeypatch.setattr("pipeline.config.loader.load", raising(error), raising=False)
    assert cli.main(["check", "sums.yaml"]) == code
    stderr = capsys.readouterr().err
    assert stderr.strip().split("\n")[-1].startswith("pipeline: error: ")
    assert "Traceback" not in stderr


def test_debug_prints_our_traceback_and_that_of_the_task(here, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.config.loader.load", raising(TASK), raising=False)
    assert cli.main(["check", "sums.yaml", "--debug"]) == 1
    stderr = capsys.readouterr().err
    assert "Traceback (most recent call last)" in stderr
    assert "Traceback: …" in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "x.yaml", "--workers", "0"], "'--workers': write a whole number >= 1. See: pipeline run --help"),
        (["run", "x.yaml", "--workers", "1e3"], "'--workers': write a whole number. See: pipeline run --help"),
        (["compare", "x.yaml", "--repeat", "0"], "'--repeat': write a whole number >= 1. See: pipeline compare --help"),
        (["rnu"], "No such command 'rnu'. Did you mean 'run'? See: pipeline --help"),
    ],
)
def test_wrong_arguments_are_answered_with_the_help_of_their_command(here, capsys, arguments, message):
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.endswith(f"{message}\n")


def test_errors_are_json_events_and_the_last_is_the_result(here, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.config.loader.load", raising(ConfigError(FAULTS)), raising=False)
    assert cli.main(["check", "sums.yaml", "--json"]) == 2
    error, result = map(json.loads, capsys.readouterr().out.splitlines())
    assert error["event"] == "error"
    assert [fault["line"] for fault in error["faults"]] == [2, 9]
    assert result == {"event": "result", "ok": False, "exit_code": 2}


def test_what_would_colour_a_terminal_is_written_out():
    assert failure_lines(DataError("\x1b[31mred: no such file"))[0].startswith("pipeline: error: \\x1b[31mred: no such")


def test_all_faults_are_listed_before_the_last_line():
    lines = failure_lines(ConfigError(FAULTS), file="a.yaml")
    assert lines == [
        "a.yaml:2:1: bad",
        "a.yaml:9:31: steps.x.axes: unknown key",
        "pipeline: error: 2 errors, listed above. Fix them, then run: pipeline check a.yaml",
    ]


def test_one_fault_is_the_last_line():
    assert failure_lines(ConfigError(FAULTS[:1])) == ["pipeline: error: a.yaml:9:31: steps.x.axes: unknown key"]


def test_failed_checks_are_listed_and_summed_up_in_the_last_line():
    lines = failure_lines(CheckError("a.yaml:7: rows: got 3\n1 of 2 checks failed; nothing was committed"))
    assert lines == ["a.yaml:7: rows: got 3", "pipeline: error: 1 of 2 checks failed; nothing was committed."]


def test_a_failed_task_has_its_item_its_place_and_a_command():
    (line,) = failure_lines(TASK, file="a.yaml", locations={"fit[t2m]": "a.yaml:6"})
    assert line == (
        "pipeline: error: fit[t2m,alpha=0.1] (a.yaml:6): ValueError: degree too high (models.py:41, in fit). "
        "Try it here: pipeline debug a.yaml 'fit[t2m,alpha=0.1]'"
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
    config = SimpleNamespace(
        steps={}, all_steps={}, outputs=(), masked=list, warnings=(), compare={}, cluster={}, name="sums", storage={}
    )
    monkeypatch.setattr("pipeline.config.loader.load", lambda *a, **k: config, raising=False)
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.strip().startswith("pipeline: error: ")


@pytest.mark.parametrize(("text", "expected"), [("2min", 120), ("90s", 90), ("1.5h", 5400), ("30", 30), ("2 m", 120)])
def test_a_budget_is_a_time(text, expected):
    assert session.seconds(text) == expected


def test_set_values_are_handed_on_as_they_are_written(here, monkeypatch):
    got = {}
    monkeypatch.setattr(
        "pipeline.config.loader.load", lambda file, **k: got.update(k) or raising(DataError("x"))(), raising=False
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "AssertionError" not in done.stderr
    assert done.returncode == (0 if "--help" in arguments else 2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_program_cleanly_with_its_exit_code(here, number, code):
    script = """
import pathlib, signal, sys
import pipeline.config.loader
def load(*args, **kwargs):
    print("ready", flush=True)
    while True:
        signal.pause()
pipeline.config.loader.load = load
from pipeline.cli import main
sys.exit(main(["run", "sums.yaml"]))
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    os.kill(child.pid, number)
    _, stderr = child.communicate(timeout=120)
    assert child.returncode == code
    assert stderr.strip().startswith("pipeline: error: ended by ")
    assert "Traceback" not in stderr


def test_commands_that_commit_nothing_do_not_speak_of_it(here, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.config.loader.load", raising(KeyboardInterrupt()), raising=False)
    assert cli.main(["check", "sums.yaml"]) == 130
    assert capsys.readouterr().err == "pipeline: error: ended by Ctrl-C.\n"
    monkeypatch.undo()
    monkeypatch.setattr("pipeline.runs.run.run", raising(KeyboardInterrupt()), raising=False)
    assert cli.main(["run", str(here / "sums.yaml"), "--backend", "serial"]) == 130
    assert capsys.readouterr().err.endswith("pipeline: error: ended by Ctrl-C. Nothing was committed.\n")


def test_an_ended_run_says_what_it_leaves(here, monkeypatch, capsys):
    ended = KeyboardInterrupt()
    ended.add_note("What has finished is kept for the next run.")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.runs.run.run", raising(ended), raising=False)
        assert cli.main(["run", "sums.yaml", "--backend", "serial"]) == 130
    assert capsys.readouterr().err.endswith("Nothing was committed. What has finished is kept for the next run.\n")
    monkeypatch.setattr("pipeline.cli.run._show_run", raising(KeyboardInterrupt()))
    assert cli.main(["run", "sums.yaml", "--backend", "serial"]) == 130
    assert capsys.readouterr().err.endswith("ended by Ctrl-C. The outputs were committed before.\n")


def test_a_full_disk_is_no_fault_of_ours(here, monkeypatch, capsys):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "graph")

    monkeypatch.setattr("pipeline.graph.graph.Graph.save", full)
    (here / "a.yaml").write_text("version: 1\nsteps: {a: {op: arange, stop: 3}}\n")
    assert cli.main(["compare", "a.yaml", "--repeat", "1"]) == 5
    message = "/graph: can't be written: No space left on device; free some space, or write elsewhere.\n"
    assert capsys.readouterr().err.endswith(message)


def test_tasks_that_leave_the_program_no_files_or_folder_are_no_fault_of_ours(here):
    (here / "own.py").write_text("""\
import os, resource, tempfile
kept = []
def opened(n):
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        while True:
            kept.append(open(os.devnull))
    except OSError:
        return n
def gone(n):
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)
    return n
""")
    outcomes = {}
    for name in ("opened", "gone"):
        (here / f"{name}.yaml").write_text(
            f'version: 1\nmodules: [./own.py]\nsteps:\n  a: {{call: "own:{name}", over: {{n: [1, 2]}}}}\n'
            f"outputs: {{a: {{to: json, path: {name}.json}}}}\n"
        )
        done = called("run", f"{name}.yaml", "--backend", "serial")
        outcomes[name] = done.returncode, done.stderr
    assert outcomes["opened"][0] == 4
    assert "Too many open files in this process; a task must close what it opens" in outcomes["opened"][1]
    assert outcomes["gone"][0] == 0
    assert (here / "gone.json").exists()


@pytest.mark.parametrize(("end", "memory"), [("SIGKILL", True), ("SIGALRM", False), ("exit code 3", False)])
def test_memory_is_suspected_where_a_worker_was_killed(end, memory):
    (line,) = failure_lines(WorkerLost(f"worker processes-0 (pid 7) ended by {end} while it ran task ('a', 0)"))
    assert ("If memory ran out" in line) == memory


def test_a_closed_pipe_is_no_fault_of_ours(here):
    first = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    first.stdout.close()
    stderr = first.stderr.read()
    first.stderr.close()
    assert first.wait(timeout=120) in (0, 141)
    assert b"Traceback" not in stderr


# ---------------------------------------------------------------------------------------------------------------------
# Whole runs
# ---------------------------------------------------------------------------------------------------------------------

MODELS = """\
def refuse(x):
    if x > 1:
        raise ValueError(f"{x} is too high")
    return x
"""


def file(here, text, name="made.yaml"):
    (here / name).write_text(f"version: 1\n{text}")
    return name


def test_a_run_says_what_it_wrote_and_a_second_one_replaces_it(here, capsys):
    for _ in range(2):
        assert cli.main(["run", "sums.yaml", "--backend", "serial", "--force"]) == 0
        last = capsys.readouterr().out.strip().split("\n")
        assert any(line.startswith(f"total: {here / 'total.npy'} (npy, 1 file, ") for line in last)
        assert "on 1 worker of 'serial'" in last[-1]
    assert np.load("total.npy") == 28


def test_json_is_one_event_a_line_and_the_last_is_the_result(here, capsys):
    assert cli.main(["run", "sums.yaml", "--backend", "threads", "--workers", "2", "--json", "--out", "there"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["event"] == "graph"
    assert events[-1]["event"] == "result"
    assert events[-1]["ok"] is True
    assert events[-1]["outputs"][0]["path"] == str(here / "there" / "total.npy")
    done = {e["step"]: (e["done"], e["n_tasks"]) for e in events if e["event"] == "progress"}
    assert all(n == total for n, total in done.values())
    assert set(done) == set(events[0]["steps"])


@pytest.mark.parametrize("command", [["check"], ["check", "--no-data"], ["run", "--dry-run"]])
def test_a_plan_creates_no_file_and_runs_no_task(here, capsys, command):
    ran = []
    with Callback(pretask=lambda *a: ran.append(a)):
        assert cli.main([*command, "sums.yaml"]) == 0
    assert not ran
    assert [p.name for p in here.iterdir()] == ["sums.yaml"]
    assert "total" in capsys.readouterr().out


def test_a_plan_in_json_has_bytes_as_numbers(here, capsys):
    assert cli.main(["check", "sums.yaml", "--json"]) == 0
    (result,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["step"] for row in result["plan"]] == ["x", "total"]
    assert result["plan"][0]["largest_chunk"] == 32


def test_a_failed_task_is_exit_1_with_its_place_and_no_output(here, capsys):
    (here / "models.py").write_text(MODELS)
    name = file(here, 'modules: [./models.py]\nsteps:\n  fit: {call: "models:refuse", over: {x: [1, 2]}}\n')
    assert cli.main(["run", name, "--backend", "serial"]) == 1
    last = capsys.readouterr().err.strip().split("\n")[-1]
    assert last.startswith(
        "pipeline: error: fit[x=2] (made.yaml:4; 1 of 2 failed, 1 done): ValueError: 2 is too high "
        "(models.py:3, in refuse)"
    )


def test_an_item_that_does_not_fit_its_column_is_exit_3(here, capsys):
    (here / "models.py").write_text(MODELS + "def row(x):\n    return {'branches': x if x < 2 else 1.5}\n")
    text = """
modules: [./models.py]
steps:
  rows: {call: "models:row", over: {x: [1, 2]}}
  functions: {op: to_frame, input: rows, columns: {branches: int64}}
"""
    assert cli.main(["run", file(here, text), "--backend", "serial"]) == 3
    last = capsys.readouterr().err.strip().split("\n")[-1]
    assert last == (
        "pipeline: error: functions (made.yaml:6; 1 of 2 failed, 1 done): item 'x=2': column 'branches' got 1.5, which "
        "does not fit int64."
    )


def test_dropped_items_are_named_and_counted_with_exit_code_1(here, capsys):
    (here / "models.py").write_text(MODELS)
    text = """
modules: [./models.py]
steps:
  fit: {call: "models:refuse", over: {x: [1, 2]}, on_error: drop}
outputs: {fit: {to: pickle, path: "fit/${key}.pkl"}}
"""
    assert cli.main(["run", file(here, text), "--backend", "serial"]) == 1
    got = capsys.readouterr()
    assert "dropped fit, item x=2: ValueError: 2 is too high" in got.out
    assert got.err.strip().startswith("pipeline: error: 1 item of step 'fit' was dropped")
    assert [p.name for p in (here / "fit").glob("*.pkl")] == ["x=1.pkl"]


def test_a_missing_input_is_exit_3(here, capsys):
    name = file(here, "steps: {x: {op: read_csv, path: no.csv}}\n")
    assert cli.main(["run", name, "--backend", "serial"]) == 3
    assert "no.csv" in capsys.readouterr().err.split("\n")[-2]


def test_a_failed_check_is_exit_6_and_nothing_is_committed(here, capsys):
    file(here, FILE.removeprefix("version: 1\n") + "checks: [{that: total, approx: 29, abs: 0}]\n", "sums.yaml")
    assert cli.main(["run", "sums.yaml", "--backend", "serial"]) == 6
    assert not (here / "total.npy").exists()
    last = capsys.readouterr().err.strip().split("\n")[-1]
    assert last == "pipeline: error: 1 of 1 check failed; nothing was committed."


def test_a_scheduler_that_is_not_there_is_exit_4(here, monkeypatch, capsys):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:9")
    assert cli.main(["run", "sums.yaml"]) == 4
    assert "127.0.0.1:9" in capsys.readouterr().err


def test_ops_and_schema_are_printed(capsys):
    assert cli.main(["ops"]) == 0
    assert "mean" in capsys.readouterr().out
    assert cli.main(["ops", "mean", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ops"][0]["op"] == "mean"
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Pipeline"


def test_compare_prints_a_table_and_writes_its_run_folder_only(here, capsys):
    assert cli.main(["compare", "sums.yaml", "--backends", "serial,threads", "--repeat", "1", "--workers", "2"]) == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert lines[0].startswith("sums: graph ")
    answer = " ".join(lines[lines.index("") + 1 :])
    assert answer.startswith("Undecided after 1 round: ")
    assert "results equal bit by bit " in answer  # folded as the times make it long
    assert sorted(p.name for p in here.iterdir()) == ["runs", "sums.yaml"]


def test_compare_in_json_ends_with_the_verdict_and_every_number(here, capsys):
    arguments = ["compare", "sums.yaml", "--backends", "threads", "--repeat", "1", "--budget", "1s"]
    assert cli.main([*arguments, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {e["event"] for e in events[:-1]} == {"note"}
    result = events[-1]
    assert (result["event"], result["ok"], result["exit_code"]) == ("result", True, 0)
    assert [row["backend"] for row in result["rows"]] == ["serial", "threads"]
    assert result["verdict"].endswith("results equal bit by bit")


def test_compare_refuses_effects_unless_they_are_allowed(here, monkeypatch, capsys):
    steps = {"send": SimpleNamespace(pure=False, location=Location())}
    config = SimpleNamespace(steps=steps, all_steps=steps, outputs=(), masked=list, warnings=())
    monkeypatch.setattr("pipeline.config.loader.load", lambda *a, **k: config)
    assert cli.main(["compare", "sums.yaml"]) == 2
    assert "send: effects outside" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["fit[t2m,alpha=0.1]", "fit[t2m]"])
def test_a_lost_worker_is_reported_with_the_line_of_the_step(task):
    (line,) = failure_lines(WorkerLost(f"{task}: worker 3 ended"), locations={"f": "a:1", "fit[t2m]": "sweep.yaml:6"})
    assert line.startswith(f"pipeline: error: {task} (sweep.yaml:6): worker 3 ended.")


@pytest.mark.parametrize("option", ["--out", "--runs"])
@pytest.mark.parametrize("below", ["", "/x"])
def test_a_folder_that_cannot_be_made_is_no_bug(here, capsys, option, below):
    (here / "taken").write_text("a file")
    assert cli.main(["run", "sums.yaml", "--backend", "serial", option, f"taken{below}"]) == 5
    assert "/taken" in capsys.readouterr().err.replace("'taken", "/taken")


@pytest.mark.parametrize(
    ("over", "path", "said"),
    [
        ("", "f.pkl", "write f (a.yaml:6"),
        (", over: {x: [1, 2]}", "${key}.pkl", "item 'x=1' can't be written to pickle"),
    ],
    ids=["a value", "an item"],
)
def test_an_output_error_has_its_line_or_its_item(here, capsys, over, path, said):
    (here / "lambdas.py").write_text("def make(x=1):\n    return lambda: x\n")
    (here / "a.yaml").write_text(
        f'version: 1\nmodules: [./lambdas.py]\nsteps:\n  f: {{call: "lambdas:make"{over}}}\n'
        f'outputs:\n  f: {{to: pickle, path: "{path}"}}\n'
    )
    assert cli.main(["run", "a.yaml", "--backend", "serial"]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["serial", "processes"])
def test_what_tasks_print_is_not_among_the_json_events(here, backend):
    (here / "loud.py").write_text("import os\ndef speak(x):\n    print('hello')\n    os.write(1, b'world')\n")
    (here / "a.yaml").write_text(
        'version: 1\nmodules: [./loud.py]\nsteps:\n  f: {call: "loud:speak", over: {x: [1, 2]}}\n'
        'outputs:\n  f: {to: pickle, path: "${key}.pkl"}\n'
    )
    done = called("run", "a.yaml", "--backend", backend, "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "result"
    assert [event["line"] for event in events if event["event"] == "output"] == ["hello"] * 2
    assert done.stderr.count("world") == 2  # past Python's streams: it can't be told whose it is


def test_a_run_can_fork_its_workers(here):
    done = called("run", "sums.yaml", "--backend", "pool[start_method=fork]", "--workers", "1")
    assert "1 worker of 'pool[start_method=fork]'" in done.stdout


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_closed_standard_output_is_no_fault(here, json):
    command = [sys.executable, "-m", "pipeline", "run", "sums.yaml", "--backend", "serial", *json]
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_input_that_is_missing_is_in_the_json_event(here, capsys):
    (here / "a.yaml").write_text(
        "version: 1\nsteps:\n  a: {op: read_csv, path: no.csv}\n  b: {op: read_csv, path: none.csv}\n"
    )
    assert cli.main(["check", "a.yaml", "--json"]) == 3
    error, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert "no.csv" in error["message"]
    assert "none.csv" in "".join(error["before"])


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_secret_is_neither_told_nor_stored(here, monkeypatch, capsys, as_json):
    monkeypatch.setenv("TOKEN", "hunter2")
    (here / "mine.py").write_text("def use(token, path):\n    raise ValueError('not with ' + token)\n")
    (here / "a.yaml").write_text(
        'version: 1\nmodules: [./mine.py]\nparams: {token: "${secret:TOKEN}"}\nsteps:\n'
        '  f: {call: "mine:use", args: {token: "${token}", path: "to/${token}"}}\n'
    )
    assert cli.main(["run", "a.yaml", "--backend", "serial", *as_json]) == 1
    told = "".join(capsys.readouterr())
    assert "not with ***" in told
    stored = "".join(path.read_text() for path in here.glob("runs/**/*.json"))
    assert "hunter2" not in told + stored


def test_a_secret_in_an_input_path_is_not_told(here, monkeypatch, capsys):
    monkeypatch.setenv("TOKEN", "hunter2")
    (here / "a.yaml").write_text('version: 1\nsteps:\n  a: {op: read_csv, path: "${secret:TOKEN}/a.csv"}\n')
    assert cli.main(["check", "a.yaml"]) == 3
    assert "/***/a.csv: no such file" in capsys.readouterr().err
