"""Explanations of real files with known causes; what is not probed; what is left behind.

Other programs on the machine may hide the cause of a step: then "unclear" is the right answer, and a core that one
probe gets and the next one does not looks like waiting or like a lock. So the tests assert what holds on any machine
(threads under the GIL keep one core busy together, tasks that sleep use none), that the answer follows from the
numbers, and, if every probe got its cores, that it is none of the wrong answers.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from time import perf_counter

import psutil
import pytest
import slowly

from pipeline import cli
from pipeline.config.loader import load
from pipeline.errors import ConfigError, TaskError, WorkerLost
from pipeline.experiments.explanation import explain as explain_module
from pipeline.experiments.explanation.diagnosis import diagnose
from pipeline.experiments.explanation.explain import explain
from pipeline.experiments.explanation.measurements import MovingCost, ProbeTimes, StepMeasurements
from pipeline.experiments.explanation.probe_backend import Failed, Late, Lost, ProbeBackend
from pipeline.experiments.explanation.saved_task import SavedTask
from pipeline.experiments.explanation.scratch_folder import scratch_folder
from pipeline.experiments.explanation.selection import Batch, Sampled, TaskTime, batches, candidates, choose, pure_part
from pipeline.graph.graph import Graph, Policy
from pipeline.graph.nodes import ref, task
from pipeline.report.explain_cause_text import ExplanationReport, what_to_change
from pipeline.report.explanation_text import explanation_text


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Change into an empty folder with the module of causes."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(slowly.__file__, tmp_path / "slowly.py")
    return tmp_path


def written(text, name="made.yaml"):
    Path(name).write_text(text)
    return name


def explained(cause, **options):
    """Return the explanation of a file with a known cause; assert what is true of every explanation."""
    result = ExplanationReport.of(
        explain(load(written(slowly.file(cause))), **{"workers": 2, "budget": 120.0, **options})
    )
    assert result.complete
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    for one, said in zip(result.steps, told["steps"], strict=True):
        if one.measurements is not None and (result.bound is None or one.step not in result.bound.steps):
            same = read_again(said["step"], said["readings"])
            assert one.cause.kind in {cause.kind for cause in diagnose(same)} | {"tiny"}
            assert same.to_dict() == one.measurements.to_dict()
    text = explanation_text(result)
    assert max(map(len, text.split("\n"))) <= 80
    assert " ".join(text.split()).startswith(" ".join(result.verdict.split()))
    assert sorted(os.listdir()) == ["made.yaml", "slowly.py"]  # nothing committed, nothing left
    return result


def read_again(step, told):
    """Return the measurements of a step from their JSON."""
    names = ("one", "threads", "processes", "counting", "counting_processes", "blas", "blas_processes", "many")
    found = {name: probe_times(told[name]) for name in names}
    moved = told["moved"] and MovingCost(told["moved"]["seconds"], told["moved"]["nbytes"])
    return StepMeasurements(
        step, told["n_workers"], told["n_cores"], moved=moved, together=tuple(told["together"]), **found
    )


def probe_times(told):
    if told is None:
        return None
    return ProbeTimes(told["n_workers"], told["n_tasks"], tuple(told["seconds"]), tuple(told["cpu"]))


def undisturbed(r):
    """Return whether nothing else used the cores while the probes ran, by the control and the repeats."""
    if r.control is None:
        return False
    given = [times.busy for times in (r.one, r.counting, r.counting_processes)]
    spread = max(times.spread for times in (r.one, r.threads, r.processes, r.counting, r.counting_processes))
    return min(given) > 0.95 and spread < 0.1 and r.control > 0.9 * min(r.n_workers, r.n_cores)


# ---------------------------------------------------------------------------------------------------------------------
# Causes known by construction
# ---------------------------------------------------------------------------------------------------------------------


def test_a_loop_in_pure_python_holds_the_gil(here):
    result = explained("gil")
    r = result["step"].measurements
    assert 2 * r.threads.busy < 1.3  # two threads, of one core
    assert not {"transfer", "oversubscription"} & kinds(result)
    if undisturbed(r):
        assert result["step"].cause.kind in ("gil", "tiny")
    if result["step"].cause.kind == "gil":
        assert any(what_to_change(change) == "Use `--backend processes`, not threads" for change in result.changes)


def test_sleeping_is_waiting_and_asks_for_more_threads(here):
    result = explained("waiting")
    assert result["step"].measurements.one.busy < 0.3
    assert kinds(result) in ({"waiting"}, {"unclear"})
    if kinds(result) == {"waiting"}:
        assert what_to_change(result.changes[0]).startswith("Use `--backend threads --workers ")
        assert result.changes[0].after < result.changes[0].before / 2
        assert "waits" in result.verdict


@pytest.mark.slow  # test_a_loop_in_pure_python… is the short form: the same probes on another cause
def test_large_results_through_pickles_are_transfer(here):
    result = explained("transfer")
    assert result["step"].measurements.moved.nbytes >= 40e6
    assert "transfer" in kinds(result)
    if undisturbed(result["step"].measurements):
        assert "waiting" not in kinds(result)
    assert {"Use `--backend threads`", "Reduce the data in `step` before it is handed on"} & {
        what_to_change(change) for change in result.changes
    }


@pytest.mark.slow
def test_one_long_task_among_short_ones_is_named(here):
    result = explained("long")
    assert result.bound.cause.kind == "long task"
    assert result.bound.steps == ("step",)
    assert result.structure.longest_task == "('step', 6)"
    assert "one long task" in result.verdict
    assert "Split the long task" in result.verdict


def test_small_and_short_links_of_a_chain_are_one_batch():
    names = ["first", "second", "wide", "third", "large", "fourth"]
    kept = [SavedTask(f"('{name}',)", name, name, name, 900 if name == "large" else 10) for name in names]
    sampled = Sampled({one.key: TaskTime(one.step, one.layer, 0.1) for one in kept}, kept)
    links = set(names) - {"wide"}
    small = batches(names, sampled, links, most=100, longest=1.0)
    assert [batch.steps for batch in small] == [("first", "second", "third"), ("wide",), ("large",), ("fourth",)]
    assert [one.step for one in small[0].saved] == ["first", "second", "third"]
    short = batches(names, sampled, links, most=1000, longest=0.25)
    assert [batch.steps for batch in short] == [("first", "second"), ("wide",), ("third", "large"), ("fourth",)]


@pytest.mark.slow
def test_a_chain_is_found_whatever_its_steps_are_like(here):
    result = explained("chain")
    assert result.bound.cause.kind == "chain"
    assert {f"link{k}" for k in range(8)} >= set(result.bound.steps)
    assert len(result.bound.steps) >= 4
    assert result.structure.most < 1.1
    assert "are a chain" in result.verdict
    links = {one.step for one in result.steps if one.measurements is not None and one.measurements.together}
    assert links >= {f"link{k}" for k in range(8)}
    assert not set(result.not_probed) & links
    assert "more of its chain, probed as one" in explanation_text(result)


@pytest.mark.slow
def test_blas_threads_are_neither_the_gil_nor_waiting(here):
    result = explained("blas")
    assert not {"gil", "waiting", "transfer"} & kinds(result)
    r = result["step"].measurements
    assert r.blas is not None
    if r.blas.busy > 1.4:  # BLAS was given a second core, so all workers were tried with it
        assert r.blas_processes is not None


@pytest.mark.slow
def test_threads_of_a_task_are_seen_as_more_than_one_busy_core(here):
    result = explained("nested")
    r = result["step"].measurements
    assert not {"waiting", "transfer"} & kinds(result)
    if r.one.busy > 1.3 and r.ratio(r.processes) < 1.3:
        assert result["step"].cause.kind == "oversubscription"
        assert "cores busy" in result.verdict


def test_memory_traffic_is_neither_the_gil_nor_waiting(here, monkeypatch):
    small = slowly.FILES["bandwidth"].replace("128000000", "32000000").replace("range: 8", "range: 4")
    monkeypatch.setitem(slowly.FILES, "bandwidth", small)
    result = explained("bandwidth", steps=["step"])
    assert result["step"].measurements.one.cpu_best > 0
    if undisturbed(result["step"].measurements):  # of four tasks of some ten ms one may be long all the same
        assert result["step"].cause.kind in ("bandwidth", "none", "unclear", "transfer", "long task")


@pytest.mark.slow
def test_a_gigabyte_of_memory_is_neither_the_gil_nor_waiting(here):
    result = explained("bandwidth", steps=["step"])
    assert result["step"].cause.kind in ("bandwidth", "none", "unclear", "transfer")
    assert result["step"].measurements.one.cpu_best > 0


@pytest.mark.slow
def test_tasks_of_nothing_are_tiny_and_are_put_together(here):
    result = explained("tiny")
    assert {"threads", "processes", "dask"} == set(result.overheads)
    assert result["step"].cause.kind == "tiny"
    assert any(what_to_change(change).startswith("Set `steps.step.batch: ") for change in result.changes)


def kinds(result):
    return {cause.kind for one in result.steps for cause in one.causes}


# ---------------------------------------------------------------------------------------------------------------------
# What is not probed, and what goes wrong
# ---------------------------------------------------------------------------------------------------------------------

LEFT_OUT = """\
version: 1
modules: [./slowly.py]
steps:
  seen: {call: "slowly:count", over: {i: {range: 4}}, args: {n: 20000}}
  left: {call: "slowly:count", over: {i: {range: 2}}, args: {n: no number}, retries: 1, on_error: drop}
  sent: {call: "slowly:note", over: {i: seen}, args: {folder: "FOLDER"}, pure: false}
  after: {op: to_frame, input: sent, columns: {value: int64}}
  locks: {call: "slowly:lock", over: {i: {range: 4}}}
  locked: {call: "slowly:use", over: {lock: locks}, batch: 1, retries: 1}
  lists: {call: "slowly:fill", over: {i: {range: 4}}}
  emptied: {call: "slowly:empty", over: {items: lists}}
outputs:
  after: {to: csv, path: after.csv}
  seen: {to: pickle, path: "seen-${key}.pickle"}
  locked: {to: pickle, path: "locked-${key}.pickle"}
  emptied: {to: pickle, path: "emptied-${key}.pickle"}
"""


def test_what_can_not_run_again_is_listed_with_its_reason(here):
    (here / "sent").mkdir()
    config = load(written(LEFT_OUT.replace("FOLDER", str(here / "sent"))))
    result = explain(config, workers=2, budget=120.0, steps=["sent", "after", "locked", "emptied"])
    why = result.not_probed
    assert os.listdir("sent") == []
    assert why["sent"] == "has effects outside (pure: false)"
    assert why["after"] == "needs a step that has effects outside"
    assert "can't be pickled" in why["locked"]
    assert "failed when it was run again: ValueError" in why["emptied"]
    assert "seen" not in why  # it was not asked for
    assert not list(here.glob("seen*"))
    text = explanation_text(result)
    assert "not probed: sent: has effects outside" in text


def test_a_task_that_never_ends_is_ended_by_the_budget_and_told(here):
    steps = '{call: "slowly:wait", over: {i: {range: 2}}, args: {seconds: 100000}}'
    result = explain(load(written(f"version: 1\nmodules: [./slowly.py]\nsteps:\n  step: {steps}\n")), budget=5.0)
    assert not result.complete
    assert "was ended after" in result.not_probed["step"] or "did not reach it" in result.not_probed["step"]
    assert ExplanationReport.of(result).verdict


def test_a_task_that_fails_raises_as_in_a_run(here, capsys):
    name = written('version: 1\nmodules: [./slowly.py]\nsteps:\n  step: {call: "slowly:fail", over: {i: {range: 4}}}\n')
    with pytest.raises(TaskError, match="not this one") as caught:
        explain(load(name), budget=60.0)
    assert (caught.value.step, caught.value.item) == ("step", "i=2")
    assert cli.main(["explain", name, "--budget", "60s"]) == 1
    assert "ValueError: not this one" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["made.yaml", "slowly.py"]


def test_the_command_prints_the_text_or_json(here, capsys):
    text = slowly.file("waiting").replace("0.1", "0.05")
    assert cli.main(["explain", written(text), "--workers", "2", "--step", "step", "--budget", "1min", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["event"] == "note"
    assert events[-1]["event"] == "result"
    assert events[-1]["ok"] is True
    assert events[-1]["steps"][0]["cause"] in ("waiting", "unclear")  # where repeats differ by too much


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": ["stepp"]}, "there is no such step; there are step"),
        ({"workers": 1}, "from 2 workers on"),
        ({"budget": 0.0}, "budget"),
    ],
)
def test_wrong_usage_is_refused_before_anything_runs(here, options, said):
    with pytest.raises(ConfigError, match=said):
        explain(load(written(slowly.file("gil"))), **options)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),  # ends it in the same way as SIGINT
        (signal.SIGKILL, -9),
    ],
)
def test_a_signal_ends_the_children_and_leaves_no_scratch(here, number, code):
    os.mkfifo("started")
    steps = '{call: "slowly:tell_and_wait", args: {path: "PATH"}}'.replace("PATH", str(here / "started"))
    written(f"version: 1\nmodules: [./slowly.py]\nsteps:\n  step: {steps}\n")
    parent = subprocess.Popen([sys.executable, "-m", "pipeline", "explain", "made.yaml"], stderr=subprocess.DEVNULL)
    child = psutil.Process(int(Path("started").read_text()))  # waits for who writes
    parent.send_signal(number)
    assert parent.wait(timeout=120) == code
    child.wait(timeout=120)
    left = list(here.glob("runs/.explain-*"))
    assert bool(left) == (number == signal.SIGKILL)
    with scratch_folder(here / "runs"):
        assert len(list(here.glob("runs/.explain-*"))) == 1  # what was left is swept


def test_a_scratch_folder_in_use_is_not_swept(tmp_path):
    with scratch_folder(tmp_path) as first:
        lock = os.open(first, os.O_RDONLY | os.O_DIRECTORY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(lock)
        with scratch_folder(tmp_path) as second:
            assert first.is_dir()
            assert second != first
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------------------------------------
# The parts
# ---------------------------------------------------------------------------------------------------------------------


def graph_of(*steps):
    """A Graph of ``(step, layer, n, needed layer)``."""
    tasks, owners = {}, {}
    for step, layer, n, needed in steps:
        for i in range(n):
            tasks[layer, i] = task((layer, i), max, *([ref((needed, i))] if needed else []), 0)
            owners[layer, i] = step
    return Graph(tasks, tuple(tasks), owners, {step: Policy(step) for step in owners.values()})


def test_saved_tasks_of_a_layer_are_the_first_and_some_evenly():
    graph = graph_of(("a", "a", 60, ""), ("a", "a.part", 3, "a"), ("b", "b", 2, "a"))
    found = candidates(graph, list(graph.tasks), without={"b"})
    assert sorted(i for layer, i in found if layer == "a") == [0, 10, 20, 30, 40, 50]
    assert {layer for layer, _ in found} == {"a", "a.part"}


def test_a_step_is_probed_by_median_tasks_of_its_costliest_layer():
    seconds = [0.01, 0.5, 0.1, 0.11, 0.09, 0.1]
    times = {f"a{i}": TaskTime("s", "a", s) for i, s in enumerate(seconds)}
    times |= {f"p{i}": TaskTime("s", "p", 0.001) for i in range(100)}
    kept = [SavedTask(key, "s", key[0], "", 0) for key in ("p0", "p1", "a0", "a1", "a2", "a3")]
    assert [k.key for k in choose(Sampled(times, kept), "s", n=2)] == ["a2", "a3"]
    assert choose(Sampled(times, kept), "other") == []
    long = {key: t._replace(seconds=10 * t.seconds) for key, t in times.items()}
    assert [k.key for k in choose(Sampled(long, kept), "s", n=2)] == ["a2"]  # long enough by itself


def test_what_needs_a_step_with_effects_is_left_out_with_it():
    graph = graph_of(("a", "a", 2, ""), ("b", "b", 2, "a"), ("c", "c", 2, "b"), ("d", "d", 2, "a"))
    pure, reasons = pure_part(graph, {"b"})
    assert {key[0] for key in pure.tasks} == {"a", "d"}
    assert set(reasons) == {"b", "c"}
    pure.validate()
    assert pure_part(graph, set()) == (graph, {})


def test_a_probe_returns_raises_is_late_or_is_lost():
    with ProbeBackend(2, {}) as backend:

        def results(function, *arguments, seconds=120.0):
            backend.start(deadline=perf_counter() + 120.0)
            tasks = {("probe", i): task(("probe", i), function, *arguments) for i in range(2)}
            return backend.run("step", tasks, deadline=perf_counter() + seconds)

        together = results(slowly.process_id, 0.5)
        assert len(set(together.results.values())) == 2  # each in a worker of its own,
        rows = together.trace.tasks
        assert max(rows["start"].to_pylist()) < min(rows["stop"].to_pylist())  # at the same time
        with pytest.raises(Failed, match="ValueError: not this one"):
            results(slowly.fail, 2)
        with pytest.raises(Late):
            results(time.sleep, 1000, seconds=1.0)
        with pytest.raises(Lost, match=r"step: worker processes-\d \(pid \d+\) ended by SIGKILL"):
            results(slowly.die, 2)
        assert set(results(max, 1, 2).results.values()) == {2}  # the workers were replaced
        with pytest.raises(Late, match="no time left"):
            results(max, 1, 2, seconds=0.0)


def test_a_task_that_ends_its_process_is_named_in_the_serial_run(here):
    steps = '{call: "slowly:die", over: {i: {range: 4}}}'
    name = written(f"version: 1\nmodules: [./slowly.py]\nsteps:\n  step: {steps}\n")
    with pytest.raises(WorkerLost, match=r"step\[i=2\]: its process ended while it ran task .*SIGKILL"):
        explain(load(name), budget=60.0)


@pytest.mark.slow
def test_a_step_that_starts_processes_is_probed(here):
    steps = '{call: "slowly:pooled", over: {i: {range: 2}}}'
    result = explain(load(written(f"version: 1\nmodules: [./slowly.py]\nsteps:\n  step: {steps}\n")), budget=90.0)
    assert result["step"].measurements is not None


def test_a_budget_that_loading_used_up_still_probes_the_dearest_step(here):
    told = []
    step = '{call: "slowly:count", over: {i: {range: 4}}, args: {n: 30000}}'
    text = f"version: 1\nmodules: [./slowly.py]\nsteps:\n  step: {step}\n"
    result = explain(load(written(text)), workers=2, budget=3.0, spent=20.0, tell=told.append)
    assert told[0].startswith("loading the file took 20.")
    assert result.steps[0].measurements is not None
    assert result.not_probed == {}


@pytest.mark.parametrize("left", [-5.0, 0.5, 100.0])
def test_the_dearest_step_is_probed_whatever_is_left(monkeypatch, left):
    probed = {}

    class NoBackend:
        def __init__(self, n_workers, modules):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            pass

    def probe(backend, step, saved, *, n_cores, deadline):
        probed[step] = deadline - perf_counter()
        return StepMeasurements(step, 2, 2, *[ProbeTimes(1, 1, (1.0,), (1.0,))] * 5)

    monkeypatch.setattr(explain_module, "ProbeBackend", NoBackend)
    monkeypatch.setattr(explain_module, "probe", probe)
    made = explain_module._Experiment(
        graph=Graph(tasks={}, wanted=(), owners={}, policies={}), config=None, n_workers=2,
        ends=perf_counter() + left, began=0.0, budget=5.0, loading=0.0, asked=(), not_probed={}, way=None,
        tell=lambda line: None,
    )  # fmt: skip
    made._probe([Batch(("dear",), ()), Batch(("cheap",), ())], {"dear": 3.0, "cheap": 1.0})
    assert set(probed) == ({"dear", "cheap"} if left > 2 else {"dear"})
    assert set(made.not_probed) == {"dear", "cheap"} - set(probed)
    assert probed["dear"] > 15
