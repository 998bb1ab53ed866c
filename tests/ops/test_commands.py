"""Steps that run a program: what it gets, what it leaves, how it fails, and that it never outlives its task."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import until
from serially import graph_of, values_of

from pipeline.backends.registry import create
from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.errors import ConfigError, DataError, ProgramError, TaskError, TaskTimeout
from pipeline.graph import file_value
from pipeline.graph.file_value import FileValue
from pipeline.worker import subprocesses

MODULE = """
import os

def read(path):
    assert os.path.isabs(path)
    with open(path) as file:
        return os.path.basename(path), file.read()

def read_all(paths):
    return [read(path)[1] for path in paths]

def seen(left):
    return {name: os.path.isfile(value) if name == "made" else value for name, value in left.items()}

def text():
    return "b\\na\\n"

def data():
    return b"\\xff\\x00"

def three():
    return 3

def words():
    return ["one", "two"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


def steps_of(steps: str) -> str:
    return "modules: [./mine.py]\nsteps:\n" + textwrap.indent(textwrap.dedent(steps), "  ")


def values(steps: str, folder: Path) -> dict[str, Any]:
    return values_of(steps_of(steps), folder)


# ---------------------------------------------------------------------------------------------------------------------
# What it gets and what it leaves
# ---------------------------------------------------------------------------------------------------------------------


def test_arguments_reach_the_program_without_a_shell(folder: Path) -> None:
    got = values("x: {command: [printf, '[%s]', 'a b', '$HOME', '*', \"\", 1, 0.5, true]}\n", folder)["x"]
    assert got == {"stdout": "[a b][$HOME][*][][1][0.5][true]", "stderr": "", "returncode": 0}


def test_placeholders_are_filled_in_wherever_values_are_known(folder: Path) -> None:
    text = """
    three: {call: "mine:three"}
    words: {call: "mine:words"}
    x:
      command: [printf, "%s.", "${p}", "${k}", "n=${n}", "${three}", "${words}", "$${n}"]
      matrix: {k: [a]}
      over: {n: [1, 2]}
      env: {SEEN: "${n}${three}"}
    """
    found = values_of("params: {p: q}\n" + steps_of(text), folder)["x[a]"]
    assert [item["stdout"] for item in found.values()] == ["q.a.n=1.3.one.two.${n}.", "q.a.n=2.3.one.two.${n}."]


def test_a_list_of_maps_names_its_keys(folder: Path) -> None:
    text = """
    x: {command: [echo, "${a}-${b}"], over: [{a: 1, b: x}, {a: 2, b: y, c: 0}]}
    frame: {op: to_frame, input: x, columns: {stdout: string, returncode: int64}}
    """
    found = values(text, folder)["frame"]
    assert found["stdout"].tolist() == ["1-x\n", "2-y\n"]
    assert found["a"].tolist() == [1, 2]
    assert found["returncode"].tolist() == [0, 0]


def test_variables_come_on_top_of_the_workers_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "kept")
    text = "x: {command: [sh, -c, 'echo $HERE $MINE $N'], over: {n: [7]}, env: {MINE: a b, N: \"${n}\"}}\n"
    assert values(text, folder)["x"]["n=7"]["stdout"] == "kept a b 7\n"


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ('{call: "mine:text"}', "a\nb\n"),
        ("{command: [printf, 'd\\nc\\n'], check: false}", "c\nd\n"),
        ("{command: [sh, -c, 'printf \"f\\ne\\n\" > f'], files: {made: f}}", "e\nf\n"),
    ],
    ids=["text", "stdout", "file"],
)
def test_a_program_reads_a_value(source: str, read: str, folder: Path) -> None:
    part = ".made" if "files" in source else ".stdout" if "command" in source else ""
    found = values(f"a: {source}\nx: {{command: [sort], stdin: a{part}}}\n", folder)
    assert found["x"]["stdout"] == read


def test_a_program_reads_bytes_and_text_that_is_none_is_marked(folder: Path) -> None:
    found = values('a: {call: "mine:data"}\nx: {command: [cat], stdin: a}\n', folder)
    assert found["x"]["stdout"] == "\ufffd\x00"


def test_a_program_reads_an_item_each(folder: Path) -> None:
    text = """
    words: {call: "mine:words"}
    a: {command: [cat], over: {w: words}, stdin: w}
    b: {command: [tr, o, "${to}"], over: {line: a.stdout, to: ["0"]}, stdin: line}
    """
    with pytest.raises(ConfigError, match="unknown until run time"):
        values(text, folder)
    text = text.replace('{call: "mine:words"}', '{command: [echo, "${w}"], over: {w: [one, two]}}')
    text = text.replace("w: words}", "w: words.stdout}")
    assert [item["stdout"] for item in values(text, folder)["b"].values()] == ["0ne\n", "tw0\n"]


def test_without_stdin_there_is_nothing_to_read(folder: Path) -> None:
    assert values("x: {command: [cat]}\n", folder)["x"]["stdout"] == ""


def test_files_go_to_calls_and_commands_as_local_paths(folder: Path) -> None:
    text = """
    a: {command: [sh, -c, 'mkdir d; echo $0 > d/f.txt', "${w}"], over: {w: [x, y]}, files: {made: d/f.txt}}
    each: {call: "mine:read", over: {path: a.made}}
    all: {call: "mine:read_all", args: {paths: "${a.made}"}}
    cat: {command: [cat, "${a.made}"]}
    one: {command: [sh, -c, 'echo "$0"; cat "$1"', "is ${path}", "${path}"], over: {path: a.made}}
    b: {command: [touch, m], files: {made: m}}
    whole: {call: "mine:seen", input: b}
    """
    found = values(text, folder)
    assert found["each"] == [("f.txt", "x\n"), ("f.txt", "y\n")]
    assert found["all"] == ["x\n", "y\n"]
    assert found["cat"]["stdout"] == "x\ny\n"
    first = found["one"]["w=x"]["stdout"]
    assert first.startswith("is /")
    assert first.endswith("f.txt\nx\n")
    assert found["whole"] == {"stdout": "", "stderr": "", "returncode": 0, "made": True}


def test_every_task_has_its_own_folder_which_is_gone_after_it(folder: Path) -> None:
    text = "x: {command: [sh, -c, 'ls | wc -l; touch left; pwd'], over: {n: {range: 3}}}\n"
    found = [item["stdout"].split() for item in values(text, folder)["x"].values()]
    assert [n for n, _ in found] == ["0", "0", "0"]
    assert len({path for _, path in found}) == 3
    assert not any(os.path.exists(path) for _, path in found)


def test_a_program_and_its_folder_are_relative_to_the_file(folder: Path) -> None:
    (folder / "tools").mkdir()
    tool = folder / "tools" / "greet"
    tool.write_text("#!/bin/sh\necho hello from $(basename $(pwd))\n")
    tool.chmod(0o755)
    found = values("x: {command: [./tools/greet], cwd: tools}\n", folder)
    assert found["x"]["stdout"] == "hello from tools\n"


def test_any_return_code_will_do_without_check(folder: Path) -> None:
    text = "x: {command: [sh, -c, 'exit 3'], check: false}\ny: {command: [sh, -c, 'kill -9 $$'], check: false}\n"
    found = values(text, folder)
    assert found["x"]["returncode"] == 3
    assert found["y"]["returncode"] == -9


def test_a_value_of_a_command_stands_in_expressions(folder: Path) -> None:
    text = """
    x: {command: [sh, -c, "exit 4"], check: false}
    y: {expr: "x.returncode * 2"}
    """
    assert float(values(text, folder)["y"]) == 8.0


def test_programs_are_not_put_together_with_other_tasks(folder: Path) -> None:
    text = 'a: {command: [echo, "${n}"], over: {n: {range: 9}}}\nb: {call: "mine:read", over: {path: a.stdout}}\n'
    policy = graph_of(steps_of(text), folder).policies["a"]
    assert not policy.merge
    assert policy.items is not None
    assert policy.items[0] == "n=0"


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (
            "{command: [sh, -c, 'for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; exit 3']}",
            ProgramError,
            "sh ended with 3: line 3 | line 4 | line 5 | line 6 | line 7",
        ),
        ("{command: [sh, -c, 'exit 1']}", ProgramError, "sh ended with 1, and wrote nothing to stderr"),
        ("{command: [sh, -c, 'kill -9 $$']}", ProgramError, "sh was ended by SIGKILL, and wrote nothing to stderr"),
        (
            "{command: [no_such_program, x]}",
            ProgramError,
            "there is no program 'no_such_program' on this machine's PATH; install it where the workers run",
        ),
        ("{command: [./mine.py]}", ProgramError, "mine.py can't be executed; it must be on every machine with workers"),
        ("{command: [./none]}", ProgramError, "none is not there; it must be on every machine with workers"),
        (
            "{command: [sh, -c, 'touch b; mkdir a; echo sorry >&2'], files: {png: plot.png}}",
            ProgramError,
            "sh wrote no file 'plot.png'; its folder has a, b: sorry",
        ),
        ("{command: [mkdir, a], files: {a: a}}", ProgramError, "mkdir wrote no file 'a'; it is a folder"),
        ("{command: ['true'], cwd: nowhere}", DataError, "nowhere' on this machine"),
        ("{command: [cat], stdin: three}", DataError, "stdin takes text, bytes or a file; got int"),
        ('{command: [echo, "${nested}"]}', DataError, "got a list for ${…} inside a text; it must be a scalar"),
    ],
)  # fmt: skip
def test_a_program_that_fails_says_why(step: str, error: type[Exception], message: str, folder: Path) -> None:
    (folder / "mine.py").write_text(MODULE + "\ndef nested():\n    return [[1], [2]]\n")
    with pytest.raises(error) as caught:
        values(f'three: {{call: "mine:three"}}\nnested: {{call: "mine:nested"}}\nx: {step}\n', folder)
    assert message in str(caught.value)


def test_a_file_from_before_does_not_count_as_written(folder: Path) -> None:
    (folder / "out.txt").write_text("old")
    with pytest.raises(ProgramError, match=r"true did not write 'out.txt': the file is unchanged"):
        values("x: {command: ['true'], cwd: ., files: {out: out.txt}}\n", folder)
    found = values("x: {command: [sh, -c, 'printf old > out.txt'], cwd: ., files: {out: out.txt}}\n", folder)
    assert found["x"]["out"].data == b"old"


def test_what_is_too_large_for_other_tasks_is_not_carried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_value, "LARGEST_FILE", 10)
    monkeypatch.setattr("pipeline.ops.calls.commands.LARGEST_FILE", 10)
    with pytest.raises(DataError, match="f' has 11 bytes; a file that goes from task to task has at most 10"):
        values("x: {command: [sh, -c, 'printf 12345678901 > f'], files: {f: f}}\n", folder)
    with pytest.raises(DataError, match="printf: stdout has 11 bytes; at most 10 are passed between tasks"):
        values("x: {command: [printf, '12345678901']}\n", folder)


def test_a_failed_item_is_named_and_may_be_left_out(folder: Path) -> None:
    text = 'x: {command: [test, "${n}", "!=", 2], over: {n: [1, 2, 3]}%s}\n'
    graph = build(loads("version: 1\n" + steps_of(text % ""), root=folder))
    with create("serial") as serial:
        with pytest.raises(TaskError, match=r"^x\[n=2\]: test ended with 1, and wrote nothing to stderr$"):
            serial.run(graph)
        found = serial.run(build(loads("version: 1\n" + steps_of(text % ", on_error: drop"), root=folder)))
    assert found.dropped == (("x", "n=2", "test ended with 1, and wrote nothing to stderr"),)


def test_a_program_is_tried_again(folder: Path) -> None:
    script = f"echo >> {folder}/tries; test $(wc -l < {folder}/tries) = 3"
    text = f"x: {{command: [sh, -c, '{script}'], retries: 2}}\n"
    with create("serial") as serial:
        serial.run(build(loads("version: 1\n" + steps_of(text), root=folder)))
    assert (folder / "tries").read_text() == "\n\n\n"


FAULTS: dict[str, tuple[str, str, str]] = {
    "text": ("{command: wc -l}", "command", "got 'wc -l'; write a list, which no shell reads: [wc, -l]"),
    "empty": ("{command: []}", "command", "got an empty list; the first is the program"),
    "no program": ('{command: ["", a]}', "command[0]", "got an empty text; the first is the program"),
    "map": ("{command: [wc, {a: 1}]}", "command[1]", "got a map; an argument is text or a number"),
    "null": ("{command: [wc, null]}", "command[1]", "got null; an argument is text or a number, or a list of them"),
    "unknown": ("{command: [wc, '${no}']}", "command[1]", "no param, matrix key or step is named 'no'"),
    "input": ("{command: [wc], input: a}", "input", "unknown key of 'command'"),
    "args": ("{command: [wc], args: {a: 1}}", "args", "unknown key of 'command'; allowed: over, cwd, env, stdin"),
    "env": ("{command: [wc], env: [a]}", "env", "got a list of 1; write a map: {NAME: value}"),
    "variable": ("{command: [wc], env: {'A=B': 1}}", "env.A=B", "can't be the name of an environment variable"),
    "value": ("{command: [wc], env: {A: [1]}}", "env.A", "an argument is text or a number"),
    "stdin hole": ("{command: [wc], stdin: '${a}'}", "stdin", "a reference is the bare name of a step: a"),
    "stdin array": ("{command: [wc], stdin: arr}", "stdin", "got 'arr' (array); stdin takes a value: text, bytes or"),
    "stdin items": ("{command: [wc], stdin: its}", "stdin", "(items); stdin takes a value: text, bytes or a file; map"),
    "stdin unknown": ("{command: [wc], stdin: aa}", "stdin", "no step is named 'aa'"),
    "files": ("{command: [wc], files: [a]}", "files", "got a list of 1; write a map: {png: plot.png}"),
    "part": ("{command: [wc], files: {stdout: a}}", "files.stdout", "every command has the part 'stdout' already"),
    "part name": ("{command: [wc], files: {a-b: a}}", "files.a-b", "'a-b' can't be a name"),
    "outside": ("{command: [wc], files: {a: ../a}}", "files.a", "write a path below the folder"),
    "absolute": ("{command: [wc], files: {a: /a}}", "files.a", "write a path below the folder"),
    "run path": ("{command: [wc], over: {n: [1]}, files: {a: '${n}'}}", "files.a", "is unknown until run time"),
    "run cwd": ("{command: [wc], over: {n: [1]}, cwd: '${n}'}", "cwd", "is unknown until run time"),
    "shared": ("{command: [wc], over: {n: [1]}, cwd: ., files: {a: a}}", "files", "with cwd all items would write the"),
    "spread": ("{command: [wc], over: its}", "over", "write {name: its}, and ${name} where it goes"),
    "check": ("{command: [wc], check: 3}", "check", "got 3; check takes true or false"),
    "drop": ("{command: [wc], on_error: drop}", "on_error", "of a call or a command with over"),
    "no part": ("{call: 'mine:read', args: {path: '${its.png}'}}", "args.path", "'its' has no part 'png'; it has"),
}  # fmt: skip


@pytest.mark.parametrize(("step", "key", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_command_is_told_at_its_key(step: str, key: str, message: str, folder: Path) -> None:
    text = f"""
    a: {{call: "mine:text"}}
    arr: {{op: arange, stop: 3}}
    its: {{command: [echo, "${{w}}"], over: {{w: [x, y]}}}}
    x: {step}
    """
    with pytest.raises(ConfigError) as caught:
        loads("version: 1\n" + steps_of(text), root=folder)
    (fault,) = caught.value.faults
    assert fault.path == f"steps.x.{key}"
    assert message in fault.message
    assert fault.location.line


# ---------------------------------------------------------------------------------------------------------------------
# It never outlives its task
# ---------------------------------------------------------------------------------------------------------------------


def sleeper(folder: Path) -> str:
    """Arguments of a program that starts another and waits for it; both write down what they are."""
    return f"[sh, -c, 'sleep 3600 & echo $! >> {folder}/pids; echo $$ >> {folder}/pids; wait']"


def written_down(folder: Path) -> bool:
    """Whether the program has written down both."""
    path = folder / "pids"
    return path.exists() and path.read_text().count("\n") == 2


def all_ended(folder: Path) -> bool:
    pids = (folder / "pids").read_text().split()
    return until(lambda: not any(psutil.pid_exists(int(pid)) and lives(int(pid)) for pid in pids))


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_program_that_runs_too_long_is_ended_with_its_children(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"x: {{command: {sleeper(folder)}, timeout: 0.1}}\n"
    wait = subprocess.Popen.wait

    def wait_for_both(process: Any, timeout: float | None = None) -> int:
        """The time of the program begins when it has started the other."""
        assert timeout is None or until(lambda: written_down(folder))
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_for_both)
    with create("serial") as serial, pytest.raises(TaskTimeout, match=r"^x: sh ran longer than the timeout of 0.1 s"):
        serial.run(build(loads("version: 1\n" + steps_of(text), root=folder)))
    assert all_ended(folder)


def test_an_item_whose_program_runs_too_long_is_left_out(folder: Path) -> None:
    text = """
    x: {command: [sleep, 3600], over: {n: [2]}, timeout: 0.1, on_error: drop}
    y: {command: ["true"], over: {n: [1, 2]}}
    """
    with create("threads", workers=2) as threads:
        found = threads.run(build(loads("version: 1\n" + steps_of(text), root=folder)))
    assert found.dropped == (("x", "n=2", "sleep ran longer than the timeout of 0.1 s"),)


def test_what_a_program_left_in_the_background_ends_with_it(folder: Path) -> None:
    text = f"x: {{command: [sh, -c, 'sleep 3600 & echo $! > {folder}/pids']}}\n"
    values(text, folder)
    assert all_ended(folder)


def test_threads_end_running_programs_when_another_task_fails(folder: Path) -> None:
    waits = f"while ! test -s {folder}/pids; do sleep 0.01; done; exit 1"
    text = f"x: {{command: {sleeper(folder)}}}\ny: {{command: [sh, -c, '{waits}']}}\n"
    with create("threads", workers=2) as threads, pytest.raises(TaskError, match="y: sh ended with 1"):
        threads.run(build(loads("version: 1\n" + steps_of(text), root=folder)))
    assert all_ended(folder)


def test_nothing_is_started_in_a_thread_that_has_been_stopped(folder: Path) -> None:
    with subprocesses.stopping([threading.get_ident()]):
        ended = values("x: {command: [sleep, 3600], check: false}\n", folder)["x"]
    assert ended["returncode"] == -signal.SIGKILL
    assert values("x: {command: ['true']}\n", folder)["x"]["returncode"] == 0


SCRIPT = """
import sys
from pipeline.backends.registry import create
from pipeline.config.loader import loads
from pipeline.builder.build import build

if __name__ == "__main__":
    with create(sys.argv[1], workers=1) as backend:
        backend.run(build(loads(open("steps.yaml").read())))
"""


@pytest.mark.parametrize(
    ("kind", "ended_by"),
    [
        pytest.param("serial", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("serial", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("threads", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("processes", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("pool", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("dask", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("dask", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_no_program_outlives_the_run(kind: str, ended_by: signal.Signals, folder: Path) -> None:
    (folder / "script.py").write_text(SCRIPT)
    (folder / "steps.yaml").write_text(f"version: 1\nsteps: {{x: {{command: {sleeper(folder)}}}}}\n")
    command = [sys.executable, "script.py", kind]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as parent:
        while not written_down(folder) and parent.poll() is None:
            time.sleep(0.01)
        parent.send_signal(ended_by)
    assert all_ended(folder)


def test_a_killed_worker_takes_its_program_and_folder_with_it(folder: Path) -> None:
    text = f"""
    x:
      command:
        - sh
        - -c
        - >-
          pwd >> {folder}/places;
          test $(wc -l < {folder}/places) -gt 1 && exit;
          echo $PPID > {folder}/parent;
          sleep 3600 & echo $! >> {folder}/pids; echo $$ >> {folder}/pids; wait
    """
    graph = build(loads("version: 1\n" + steps_of(text), root=folder))

    def kill() -> None:
        while not written_down(folder):
            time.sleep(0.01)
        os.kill(int((folder / "parent").read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with create("processes", workers=1, start_method="spawn") as processes:
        assert processes.run(graph).results["x",]["returncode"] == 0
    killer.join()
    assert all_ended(folder)
    assert until(lambda: not any(os.path.exists(path) for path in (folder / "places").read_text().split()))


# ---------------------------------------------------------------------------------------------------------------------
# The same on every back end
# ---------------------------------------------------------------------------------------------------------------------


def test_what_a_command_leaves_is_pickled_by_value() -> None:
    one = pickle.loads(pickle.dumps(FileValue("a.txt", b"abc")))
    assert one == FileValue("b.txt", b"abc")
    assert sys.getsizeof(FileValue("a", b"x" * 1000)) > 1000
