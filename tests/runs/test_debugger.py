"""``pipeline debug``: the task that a message names, under pdb in this process."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from pipeline.builder.build import build
from pipeline.config.loader import load
from pipeline.errors import TaskTimeout, WorkerLost, task_name
from pipeline.graph.nodes import is_constant
from pipeline.report.failures import failure_lines
from pipeline.runs.inspect import ready

MODULE = """
from pathlib import Path
import numpy as np

def load():
    return [1, 2, 3]

def fit(data, alpha, fold, bad):
    tenfold = alpha * 10
    if bad == "fit" and alpha == 2:
        raise ValueError(f"alpha {alpha} too high")
    return sum(data) + tenfold

def each(k, var, bad):
    inside = "each"
    if bad == "each" and (var, k) == ("b", 2):
        np.zeros(3).reshape(2, 2)
    return k

def warm(x, bad):
    if bad == "warm":
        raise ValueError("too warm")
    return x + 1.0

def plain(bad):
    if bad == "plain":
        raise SystemExit("gone")
    return {"n": 3}

def half(x, bad):
    if bad == "half" and x == 2:
        raise ValueError("two")
    return x / 2

def thing(bad):
    return (lambda: 3) if bad == "thing" else 3

def grouped(x, bad):
    if bad == "grouped" and x == 3:
        raise ValueError("three")
    with open("sent", "a") as file:
        file.write("x")
    return x
"""
FILE = """
version: 1
modules: [./mine.py]
params: {bad: none}
steps:
  data: {call: "mine:load"}
  fit: {call: "mine:fit", over: {alpha: [1, 2], fold: [0, 1]}, args: {data: "${data}", bad: "${bad}"}}
  each: {call: "mine:each", matrix: {var: [a, b]}, over: {k: [1, 2]}, args: {var: "${var}", bad: "${bad}"}}
  cell: {op: arange, stop: 8, dim: x, chunks: {x: 4}}
  warm: {op: map_blocks, input: cell, function: "mine:warm", args: {bad: "${bad}"}, dtype: float64}
  plain: {call: "mine:plain", args: {bad: "${bad}"}}
  half: {call: "mine:half", over: {x: [1, 2]}, on_error: drop, args: {bad: "${bad}"}}
  grouped: {call: "mine:grouped", over: {x: data}, args: {bad: "${bad}"}, pure: false}
  thing: {call: "mine:thing", args: {bad: "${bad}"}}
  said: {command: [sh, -c, "echo ${bad}; test ${bad} != said"]}
outputs:
  thing: {to: pickle, path: thing.pkl}
  fit: {to: pickle, path: "fit-${key}.pkl"}
  each: {to: pickle, path: "each-${var}-${key}.pkl"}
  warm: {to: npy, path: warm.npy}
  plain: {to: pickle, path: plain.pkl}
  half: {to: pickle, path: "half-${key}.pkl"}
  said: {input: said.stdout, to: pickle, path: said.pkl}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MODULE)
    Path("a.yaml").write_text(FILE)
    return tmp_path


@pytest.fixture
def debug(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command with what somebody types; its exit code, what pdb said, what was said beside it."""

    def typed(*arguments: str, types: str = "q\n", options: tuple[str, ...] = ()) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(types))
        code = cli.main(["debug", "a.yaml", *arguments, "--backend", "serial", *options])
        return code, *capsys.readouterr()

    return typed


# ---------------------------------------------------------------------------------------------------------------------
# From the message to the frame
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "task", "types", "said"),
    [
        ("fit", "fit[alpha=2,fold=0]", "p alpha, fold, tenfold", "(2, 0, 20)"),
        ("each", "each[b,k=2]", "p inside, k", "('each', 2)"),
        ("warm", "warm(0)", "p x.tolist()", "[0, 1, 2, 3]"),
        ("plain", "plain", "p bad", "'plain'"),
    ],
)
def test_the_command_of_a_message_leads_to_the_frame_that_failed(
    here: Path, debug: Any, capsys: Any, bad: str, task: str, types: str, said: str
) -> None:
    assert cli.main(["run", "a.yaml", "--backend", "serial", "--set", f"bad={bad}"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    command = shlex.split(last.rpartition("Try it here: ")[2])
    assert command == ["pipeline", "debug", "a.yaml", task, "--set", f"bad={bad}"]
    code, out, err = debug(*command[3:], types=f"{types}\nq\n")
    assert code == 1
    assert f"(Pdb) {said}" in out
    assert task in err


def test_a_dropped_item_fails_all_the_same_and_in_its_frame(debug: Any) -> None:
    code, out, err = debug("half[x=2]", types="p x\nq\n", options=("--set", "bad=half"))
    assert (code, "(Pdb) 2" in out) == (1, True)
    assert "ValueError: two (mine.py:" in err


def test_a_writer_has_a_folder_of_its_own(here: Path, debug: Any, capsys: Any) -> None:
    assert cli.main(["run", "a.yaml", "--backend", "serial", "--set", "bad=thing"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("Try it here: pipeline debug a.yaml 'write thing' --set bad=thing")
    code, _, err = debug("write thing", options=("--set", "bad=thing"))
    assert code == 1
    assert "pickle" in err
    code, _, err = debug("write thing", types="c\n")  # twice, since it does not fail
    assert (code, "does not fail" in err) == (0, True)
    assert not Path("thing.pkl").exists()


def test_a_command_that_fails_is_looked_at_where_it_was_run(debug: Any) -> None:
    code, out, err = debug("said", types="w\nq\n", options=("--set", "bad=said"))
    assert code == 1
    assert "commands.py" in out
    assert "said" in err


def test_frames_of_others_are_below_the_users(debug: Any) -> None:
    _, out, _ = debug("fit[alpha=2,fold=1]", types="up\ndown\np tenfold\nq\n", options=("--set", "bad=fit"))
    assert "users_function.py" in out
    assert "(Pdb) 20" in out


# ---------------------------------------------------------------------------------------------------------------------
# A task that does not fail
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--step",)])
def test_it_stops_at_the_first_line_of_the_users_function(debug: Any, options: tuple[str, ...]) -> None:
    code, out, err = debug("fit[alpha=1,fold=1]", types="a\nn\nn\np tenfold\nc\n", options=options)
    assert code == 0
    assert "-> tenfold = alpha * 10" in out
    assert "data = [1, 2, 3]" in out
    assert "(Pdb) 10" in out
    assert ("does not fail" in err) == (not options)
    assert err.endswith("fit[alpha=1,fold=1]: int\n\n16\n")


def test_a_task_without_users_code_stops_in_its_own_function(debug: Any) -> None:
    code, out, err = debug("warm(0)", types="c\n")
    assert (code, "return x + 1" in out or "if bad" in out) == (0, True)
    code, out, err = debug("said", types="c\n", options=("--step",))
    assert code == 0
    assert "No code of yours runs" in err
    assert "run_command()" in out


def test_a_task_of_many_items_is_named_by_its_key(here: Path, debug: Any, capsys: Any) -> None:
    assert cli.main(["run", "a.yaml", "--backend", "serial", "--set", "bad=grouped"]) == 1
    assert "pipeline debug a.yaml 'grouped(63)' --set bad=grouped" in capsys.readouterr().err
    code, out, err = debug("grouped(63)", types="p x\nc\nq\n", options=("--set", "bad=grouped"))
    assert "stops at the first line" in err  # it has effects: it is not run twice
    assert (code, "(Pdb) 3" in out) == (1, True)


def test_what_has_effects_is_run_once(here: Path, debug: Any) -> None:
    code, _, err = debug("grouped(63)", types="c\n")
    assert code == 0
    assert "does not fail" not in err
    assert Path("sent").read_text() == "x"


def test_quitting_is_no_failure(debug: Any) -> None:
    assert debug("fit[alpha=1,fold=1]", types="q\n")[0] == 0
    assert debug("fit[alpha=1,fold=1]", types="")[0] == 0
    assert sys.gettrace() is None or "pdb" not in repr(sys.gettrace())


def test_another_process_types_into_it(here: Path) -> None:
    """As a user has it, with threads for what comes before; secrets are masked in what we say."""
    Path("mine.py").write_text(
        "def use(token, data):\n    raise ValueError('not with ' + token)\ndef load():\n    return 1\n"
    )
    Path("a.yaml").write_text(
        'version: 1\nmodules: [./mine.py]\nparams: {token: "${secret:TOKEN}"}\nsteps:\n  data: {call: "mine:load"}\n'
        '  f: {call: "mine:use", args: {token: "${token}", data: "${data}"}}\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "debug", "a.yaml", "f"],
        input="p data + 41\nq\n", capture_output=True, text=True, env={**os.environ, "TOKEN": "hunter2"}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "(Pdb) 42" in done.stdout
    assert "not with ***" in done.stderr
    assert "hunter2" not in done.stderr
    assert not Path("runs").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------------------------------------------------


def test_every_task_of_a_run_has_a_name_that_finds_it(here: Path) -> None:
    config = load("a.yaml")
    graph = build(config)
    names = {
        task_name(graph.owners[key], str(key), graph.item(key)): key
        for key, node in graph.tasks.items()
        if not is_constant(node)
    }
    assert len(names) == sum(not is_constant(node) for node in graph.tasks.values())
    for name, key in [*list(names.items())[::9], *((str(key), key) for key in list(names.values())[:2])]:
        with ready(config, name, backend="serial") as found:
            assert found.node.key == key


def test_keys_may_be_in_any_order_and_a_step_of_one_task_will_do(here: Path) -> None:
    config = load("a.yaml")
    for name, key in [("fit[fold=1, alpha=2]", ("fit", 3)), ("plain", ("plain",)), ("each[var=b,k=1]", ("each[b]", 0))]:
        with ready(config, name, backend="serial") as found:
            assert found.node.key == key


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("fti", "no task is named 'fti'; did you mean 'fit'?"),
        ("fit", "'fit' is 4 tasks; name one of them: fit[alpha=1,fold=0], fit[alpha=1,fold=1], "),
        ("fit[alpha=2]", "'fit[alpha=2]' is 2 tasks; name one of them: fit[alpha=2,fold=0], fit[alpha=2,fold=1]"),
        ("fit[alpha=3,fold=0]", "'fit' has no item 'alpha=3,fold=0'"),
        ("warm(2)", "no task is named 'warm(2)'; did you mean 'warm(1)'?"),
        ("each[c,k=1]", "'each' has no"),
        ("each", "'each' has 2 instances; name one: each[a], each[b]"),
        ("write thign", "no task is named 'write thign'; did you mean 'write thing'?"),
    ],
)
def test_a_name_of_nothing_is_told_with_the_nearest(debug: Any, task: str, said: str) -> None:
    code, _, err = debug(task)
    assert code == 2
    assert said in err


def test_what_the_task_needs_may_fail_first(debug: Any) -> None:
    Path("mine.py").write_text(MODULE.replace("return [1, 2, 3]", "raise ValueError('no data')"))
    code, _, err = debug("fit[alpha=1,fold=0]")
    assert code == 1
    assert err.rstrip().endswith("Try it here: pipeline debug a.yaml data")


@pytest.mark.parametrize("kind", [WorkerLost, TaskTimeout])
def test_a_lost_worker_and_a_late_task_are_named_too(kind: type[WorkerLost] | type[TaskTimeout]) -> None:
    options = ["--set", "a=it's", "--params", "p.yaml", "--root", "a b"]
    (line,) = failure_lines(kind("fit[x=1]: ended", "fit[x=1]"), file="a b.yaml", options=options)
    command = shlex.split(line.rpartition("Try it here: ")[2])
    assert command == ["pipeline", "debug", "a b.yaml", "fit[x=1]", *options]
    assert "Try it" not in failure_lines(kind("no"), file="a.yaml")[-1]
