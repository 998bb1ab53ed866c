"""The options of a step that back ends carry out: retries, timeout, on_error, pure; the same on every back end."""

from __future__ import annotations

import os
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import until

import pipeline
from pipeline.backends.base import Backend, Outcome
from pipeline.backends.events import Event
from pipeline.backends.options import keeps_resources
from pipeline.backends.registry import BACKENDS, create
from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.config.model import Config
from pipeline.errors import ConfigError, TaskTimeout, WorkerLost
from pipeline.experiments.comparison.compare import compare
from pipeline.graph.collect import collect
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import Graph

KINDS: dict[str, dict[str, Any]] = {
    "serial": {},
    "threads": {},
    "pool": {"start_method": "forkserver"},
    "processes": {"start_method": "forkserver"},
    "process-per-task": {"start_method": "forkserver"},
    "dask": {"dashboard": False},
}

MODULE = """
import os, signal, threading, time

def tries(folder, x):
    open(os.path.join(folder, f"{x}-{time.monotonic_ns()}-{threading.get_ident()}"), "x").close()
    return sum(name.startswith(f"{x}-") for name in os.listdir(folder))

def even_fails(x, folder):
    tries(folder, x)
    if x % 2 == 0:
        raise ValueError("even")
    return x

def third_time(x, folder):
    if tries(folder, x) < 3:
        raise OSError("not now")
    return x * x

def hangs(x, folder):
    if tries(folder, x) and x == 2:
        time.sleep(1)
    return x

def hangs_once(x, folder):
    if tries(folder, x) == 1 and x == 2:
        time.sleep(4)
    return x

def exits(x):
    if x == 2:
        raise SystemExit("no")
    return x

def opens(x):
    return threading.Lock() if x == 2 else x

def kills(x, folder):
    tries(folder, x)
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x

def third_block(block, folder):
    return third_time(50 + int(block[0]), folder) * 0 + block

def numbers():
    return [31, 32, 33, 34]

def total(values):
    return sum(values)

def first_line(path):
    with open(path) as file:
        return file.readline()
"""


@dataclass
class Ran:
    """What a graph of steps came to."""

    graph: Graph
    outcome: Outcome
    events: list[Event]
    folder: Path

    def __getitem__(self, step: str) -> Any:
        return collect(self.graph.value_types[step], self.outcome.results)

    def dropped(self, step: str) -> dict[str, str]:
        return {item: cause for name, item, cause in self.outcome.dropped if name == step}

    def n_tries(self, x: int) -> int:
        return sum(name.startswith(f"{x}-") for name in os.listdir(self.folder / "tries"))


def config(steps: str, folder: Path) -> Config:
    (folder / "rules.py").write_text(MODULE)
    (folder / "tries").mkdir(exist_ok=True)
    text = f"version: 1\nmodules: [./rules.py]\nparams: {{tries: {folder / 'tries'}}}\nlimits: {{db: 1}}\nsteps:\n"
    return loads(text + textwrap.indent(textwrap.dedent(steps), "  "), root=folder)


def ran(steps: str, backend: Backend, folder: Path) -> Ran:
    events: list[Event] = []
    graph = build(config(steps, folder))
    return Ran(graph, backend.run(graph, listener=events.append), events, folder)


def slow(*kinds: str) -> list[Any]:
    """These back ends; the others, too, where the slow tests run."""
    return [*kinds, *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind not in kinds)]


@pytest.fixture(scope="module", params=slow("serial", "threads", "processes", "dask"))
def opened(request: pytest.FixtureRequest) -> Iterator[Backend]:
    workers = 1 if request.param == "dask" else 2  # a cluster of two takes longer to start
    with create(request.param, workers=workers, **KINDS[request.param]) as backend:
        yield backend


def n_alive() -> tuple[int, int]:
    """Processes and threads."""
    return len(psutil.Process().children(recursive=True)), threading.active_count()


@pytest.fixture
def backend(opened: Backend, tmp_path: Path) -> Iterator[Backend]:
    """An open back end, whose workers are all there again when a test has ended some."""
    processes, threads = n_alive()
    yield opened
    assert ran('numbers: {call: "rules:numbers"}\n', opened, tmp_path)["numbers"] == [31, 32, 33, 34]
    assert until(lambda: n_alive()[0] >= processes and n_alive()[1] >= threads)


STEPS = """
dropped: {call: "rules:even_fails", over: {x: [1, 2, 3, 4]}, args: {folder: "${tries}"}, on_error: drop}
sum: {call: "rules:total", args: {values: "${dropped}"}}
retried: {call: "rules:third_time", over: {x: [11, 12]}, args: {folder: "${tries}"}, retries: 2, uses: db}
again:
  {call: "rules:even_fails", over: {x: [21, 22, 23]}, args: {folder: "${tries}"}, on_error: drop, retries: 1, uses: db}
batched:
  {call: "rules:even_fails", over: {x: [41, 42, 43, 44]}, args: {folder: "${tries}"}, on_error: drop, retries: 1,
   batch: 4, uses: db}
numbers: {call: "rules:numbers"}
line: {op: arange, stop: 4, chunks: 2}
blocks:
  {op: map_blocks, input: line, function: "rules:third_block", args: {folder: "${tries}"}, dtype: int64, retries: 2,
   uses: db}
dealt: {call: "rules:even_fails", over: {x: numbers}, args: {folder: "${tries}"}, on_error: drop, retries: 1}
after: {call: "rules:even_fails", over: {x: dealt}, args: {folder: "${tries}"}}
exits: {call: "rules:exits", over: {x: [1, 2, 3]}, on_error: drop}
programs:
  command: [sh, -c, "echo $0 > left; echo >> ${tries}/p$0; test $0 != 2", "${x}"]
  over: {x: [1, 2, 3]}
  files: {left: left}
  retries: 1
  on_error: drop
  uses: db
read: {call: "rules:first_line", over: {path: programs.left}}
joined: {command: [cat, "${programs.left}"]}
"""


@pytest.fixture(scope="module")
def all_rules(opened: Backend, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All rules at once on a back end: a graph costs more than its tasks."""
    return ran(STEPS, opened, tmp_path_factory.mktemp("rules"))


def test_dropped_items_are_left_out_counted_and_named(all_rules: Ran) -> None:
    assert all_rules["sum"] == 4
    named = all_rules.dropped("dropped")
    assert sorted(named) == ["x=2", "x=4"]
    assert named["x=2"].startswith("ValueError: even (rules.py:")
    dropped = {event.item for event in all_rules.events if event.kind == "dropped" and event.step == "dropped"}
    assert dropped == {"x=2", "x=4"}
    assert list(all_rules.dropped("exits")) == ["x=2"]


def test_a_task_is_tried_again_as_often_as_its_step_says(all_rules: Ran) -> None:
    assert list(all_rules["retried"].values()) == [121, 144]
    assert all_rules.n_tries(11) == all_rules.n_tries(12) == 3
    retries = [event.item for event in all_rules.events if event.kind == "retry" and event.step == "retried"]
    assert sorted(retries) == ["x=11", "x=11", "x=12", "x=12"]


def test_the_chunks_of_an_op_are_tried_again_too(all_rules: Ran) -> None:
    assert all_rules["blocks"].values.tolist() == [0, 1, 2, 3]
    assert all_rules.n_tries(50) == all_rules.n_tries(52) == 3


def test_an_item_is_dropped_when_no_retry_remains(all_rules: Ran) -> None:
    assert all_rules["again"] == {"x=21": 21, "x=23": 23}
    assert list(all_rules.dropped("again")) == ["x=22"]
    assert (all_rules.n_tries(21), all_rules.n_tries(22)) == (1, 2)
    attempts = [row["attempt"] for row in all_rules.outcome.trace.tasks.to_pylist() if row["key"] == "('again', 1)"]
    assert attempts == [0, 1, 2]  # the last one is the empty place


def test_the_other_items_of_a_batch_stay(all_rules: Ran) -> None:
    assert all_rules["batched"] == {"x=41": 41, "x=43": 43}
    assert sorted(all_rules.dropped("batched")) == ["x=42", "x=44"]
    assert all_rules.n_tries(42) >= 2
    assert all_rules.n_tries(44) == 2


def test_items_counted_at_run_time_are_retried_and_named(all_rules: Ran) -> None:
    assert all_rules["after"] == {"0": 31, "2": 33}
    assert sorted(all_rules.dropped("dealt")) == ["1", "3"]
    assert all_rules.dropped("after") == {}
    assert (all_rules.n_tries(32), all_rules.n_tries(31)) == (2, 2)  # 31: once in dealt, once in after


def test_programs_are_retried_and_dropped_with_their_files(all_rules: Ran) -> None:
    assert all_rules["read"] == {"x=1": "1\n", "x=3": "3\n"}
    assert all_rules["joined"]["stdout"] == "1\n3\n"
    assert all_rules.dropped("programs") == {"x=2": "sh ended with 1, and wrote nothing to stderr"}
    assert len((all_rules.folder / "tries" / "p2").read_text()) == 2


@pytest.mark.parametrize("opened", slow("processes"), indirect=True)
def test_an_item_that_runs_too_long_is_tried_again_then_left_out(backend: Backend, tmp_path: Path) -> None:
    steps = """
    late:
      {call: "rules:hangs", over: {x: [2]}, args: {folder: "${tries}"}, timeout: 0.5, retries: 1, on_error: drop}
    others: {call: "rules:hangs", over: {x: [1, 3]}, args: {folder: "${tries}"}}
    """
    found = ran(steps, backend, tmp_path)
    assert (found["late"], found["others"]) == ({}, {"x=1": 1, "x=3": 3})
    assert found.dropped("late") == {"x=2": "ran longer than its timeout of 0.5 s"}
    assert found.n_tries(2) == 2
    assert [event.item for event in found.events if event.kind == "retry"] == ["x=2"]


@pytest.mark.parametrize("opened", slow("dask"), indirect=True)
def test_a_task_that_runs_too_long_is_tried_again(backend: Backend, tmp_path: Path) -> None:
    steps = """
    late: {call: "rules:hangs_once", over: {x: [2]}, args: {folder: "${tries}"}, timeout: 3, retries: 1}
    others: {call: "rules:hangs_once", over: {x: [1, 3]}, args: {folder: "${tries}"}}
    """
    found = ran(steps, backend, tmp_path)
    assert [*found["late"].values(), *found["others"].values()] == [2, 1, 3]
    assert found.n_tries(2) == 2


@pytest.mark.parametrize("opened", slow(), indirect=True)
def test_a_task_that_runs_too_long_once_too_often_fails_the_run(backend: Backend, tmp_path: Path) -> None:
    steps = 'late: {call: "rules:hangs", over: {x: [2]}, args: {folder: "${tries}"}, timeout: 0.5, retries: 1}\n'
    with pytest.raises(TaskTimeout, match=r"late\[x=2\]: ran longer than its timeout of 0.5 s"):
        ran(steps, backend, tmp_path)


@pytest.mark.parametrize("opened", ["processes", "dask"], indirect=True)
def test_an_item_whose_result_cannot_travel_is_left_out(backend: Backend, tmp_path: Path) -> None:
    found = ran('odd: {call: "rules:opens", over: {x: [1, 2, 3]}, on_error: drop, batch: 1}\n', backend, tmp_path)
    assert found["odd"] == {"x=1": 1, "x=3": 3}
    assert "can't be pickled" in found.dropped("odd")["x=2"]


@pytest.mark.parametrize("opened", ["processes", pytest.param("dask", marks=pytest.mark.slow)], indirect=True)
def test_an_impure_step_is_not_run_again_after_a_lost_worker(backend: Backend, tmp_path: Path) -> None:
    steps = 'sent: {call: "rules:kills", over: {x: [1, 2, 3]}, args: {folder: "${tries}"}, pure: false}\n'
    with pytest.raises(WorkerLost, match=r"sent\[x=2\].*effects outside \(pure: false\).*not run again"):
        ran(steps, backend, tmp_path)
    assert sum(name.startswith("2-") for name in os.listdir(tmp_path / "tries")) == 1


# ---------------------------------------------------------------------------------------------------------------------
# pure: false
# ---------------------------------------------------------------------------------------------------------------------


def test_tasks_with_effects_outside_are_handed_out_one_by_one(tmp_path: Path) -> None:
    steps = """
    x: {op: arange, stop: 8, chunks: 4}
    y: {expr: "x + 1"}
    sent: {expr: "y * 2", pure: false}
    calls: {call: "rules:exits", over: {x: {range: 5}}, batch: 5, pure: false}
    """
    segments = fuse(build(config(steps, tmp_path)), n_workers=1)
    impure = [segment for segment in segments if not segment.pure]
    assert sorted(segment.step for segment in impure) == ["calls"] * 5 + ["sent"] * 2
    assert all(len(segment.tasks) == 1 for segment in impure)


def test_compare_refuses_what_has_effects_outside(tmp_path: Path) -> None:
    made = config('sent: {call: "rules:numbers", pure: false}\n', tmp_path)
    with pytest.raises(ConfigError, match=r"sent: effects outside \(pure: false\).*--allow-effects"):
        compare(made, backends=["serial"], repeat=1)


def test_pure_is_true_or_false_and_leaves_no_retries(tmp_path: Path) -> None:
    steps = 'a: {call: "rules:numbers", pure: false, retries: 1}\nb: {call: "rules:numbers", pure: maybe}\n'
    with pytest.raises(ConfigError) as caught:
        config(steps, tmp_path)
    assert [(fault.path, fault.message) for fault in caught.value.faults] == [
        ("steps.a.retries", "a step with pure: false has effects outside, and is never run twice; leave retries out"),
        ("steps.b.pure", "got 'maybe'; pure takes true or false"),
    ]


def test_resources_are_refused_where_no_scheduler_knows_them(tmp_path: Path) -> None:
    asked = config('one: {call: "rules:numbers", resources: {GPU: 1}}\n', tmp_path)
    made = pipeline.Pipeline(asked)
    for run, given in ((made.run, {"backend": "threads"}), (made.compare, {"backends": ["threads"]})):
        with pytest.raises(ConfigError) as caught:
            run(runs=tmp_path / "runs", **(given))
        (fault,) = caught.value.faults
        assert (fault.path, fault.location.line) == ("steps.one.resources", 6)
        assert "back end 'threads' does not know what a worker has; use --backend dask, or" in fault.message
    assert [name for name in BACKENDS if keeps_resources(name, asked)] == ["serial", "dask"]
    assert not (tmp_path / "runs").exists()
