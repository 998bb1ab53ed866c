"""The cases that every back end must pass; where the outcome depends on the back end, its capabilities decide."""

from __future__ import annotations

import gc
import importlib
import operator
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from backend_tasks import (
    be_stubborn,
    big,
    call_shipped,
    change,
    close_files,
    drop_two,
    exit_worker,
    explode,
    fill_the_disk,
    find_damage,
    fork_and_return,
    hang_once,
    hold,
    hold_or_die,
    hold_or_fail,
    hold_until,
    kill_worker,
    leave,
    leave_a_fork,
    lock_of,
    make_small,
    never_return,
    once,
    one_way,
    open_files,
    run_free,
    square,
    take_a_while,
    worker_id,
)
from conftest import passing_children

from pipeline.backends.base import Backend, Capabilities
from pipeline.backends.events import Event
from pipeline.backends.local import child_processes, process_backend
from pipeline.backends.local.child_processes import Children
from pipeline.backends.options import parse, with_options
from pipeline.backends.registry import BACKENDS, create
from pipeline.errors import (
    BackendError,
    ConfigError,
    TaskDataError,
    TaskEntryDamaged,
    TaskError,
    TaskTimeout,
    TaskWriteError,
    WorkerLost,
)
from pipeline.graph.graph import CONTEXT, Graph, Key, Policy
from pipeline.graph.nodes import listed, ref, task
from pipeline.graph.segments import Dropped
from pipeline.graph.task_keys import combine
from pipeline.trace.trace import INSTANTS
from pipeline.worker.cache_entries import Store
from pipeline.worker.client_entries import kept_by_client
from pipeline.worker.kept_tasks import KeepRule, KeptTask, kept, loaded
from pipeline.worker.temp_folders import Folder
from pipeline.worker.value_digest import digest

FORK = os.environ.get("PIPELINE_TEST_FORK")  # fork needs a process without threads: see the last test

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "serial": ("serial", {}),
    "threads": ("threads", {}),
    "pool-spawn": ("pool", {"start_method": "spawn"}),
    "pool-forkserver": ("pool", {"start_method": "forkserver"}),
    "processes-spawn": ("processes", {"start_method": "spawn"}),
    "processes-forkserver": ("processes", {"start_method": "forkserver"}),
    "pool-shared-memory": ("pool", {"start_method": "forkserver", "transport": "shared-memory"}),
    "pool-imap": ("pool", {"start_method": "forkserver", "ordered": True, "chunksize": 2}),
    "pool-imap-unordered": ("pool", {"start_method": "forkserver", "ordered": False, "chunksize": 3}),
    "pool-map": ("pool", {"start_method": "forkserver", "chunksize": 2}),
    "processes-shared-memory": ("processes", {"start_method": "forkserver", "transport": "shared-memory"}),
    "process-per-task": ("process-per-task", {"start_method": "forkserver"}),
    "manager": ("manager", {"start_method": "forkserver"}),
    "process-per-task-shared-memory": (
        "process-per-task",
        {"start_method": "forkserver", "transport": "shared-memory"},
    ),
    "dask": ("dask", {"dashboard": False}),
}
if FORK:
    KINDS = {
        "pool-fork": ("pool", {"start_method": "fork"}),
        "processes-fork": ("processes", {"start_method": "fork"}),
        "process-per-task-fork": ("process-per-task", {"start_method": "fork"}),
    }

SLOW = {
    *("pool-forkserver", "pool-shared-memory", "pool-imap", "pool-imap-unordered", "pool-map"),
    *("processes-spawn", "processes-shared-memory", "process-per-task-shared-memory", "manager"),
}
LISTED = {kind: pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in KINDS}
LOCAL_PROCESSES = [
    LISTED[kind] for kind in KINDS if kind.startswith(("pool-", "process", "manager")) and "shared" not in kind
]


def capabilities(kind: str) -> Capabilities:
    module, _, name = BACKENDS[KINDS[kind][0]][0].partition(":")
    found: Capabilities = getattr(importlib.import_module(module), name).capabilities
    return found


def those_that(**wanted: bool) -> Any:
    """Run a test on the back ends with these capabilities."""
    kinds = [one for kind, one in LISTED.items() if all(getattr(capabilities(kind), k) is v for k, v in wanted.items())]
    return pytest.mark.parametrize("opened", kinds, indirect=True)


def make(kind: str) -> Backend:
    name, options = KINDS[kind]
    return create(name, workers=2, **options)


@pytest.fixture(scope="module", params=LISTED.values())
def opened(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A back end that stays open for all cases of its kind; one that shares memory shares even the smallest value."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process_backend, "LEAST", 1)
        with make(request.param) as backend:
            backend.run(mapped(square, [3]))
            yield backend


@pytest.fixture
def backend(opened: Backend) -> Iterator[Backend]:
    """An open back end, which must be fit for the next graph whatever the test did."""
    yield opened
    assert opened.run(mapped(square, [3])).results == {("fit", 0): 9}


# ---------------------------------------------------------------------------------------------------------------------
# Graphs, by hand: a step `over` items, and what comes after
# ---------------------------------------------------------------------------------------------------------------------


def mapped(
    function: Callable[..., Any], items: list[Any], *, last: Callable[..., Any] | None = None, **policy: Any
) -> Graph:
    """``fit`` calls the function with each item; ``sum`` calls ``last`` with the list of the results."""
    tasks = {("fit", i): task(("fit", i), function, item) for i, item in enumerate(items)}
    owners: dict[Key, str] = dict.fromkeys(tasks, "fit")
    names = tuple(f"x={i}" for i in range(len(items)))
    policies = {"fit": Policy("fit", items=names, over="fit", **policy)}
    wanted: tuple[Key, ...] = tuple(tasks)
    if last is not None:
        tasks["sum",] = task(("sum",), last, listed([ref(key) for key in wanted]))
        owners["sum",] = "sum"
        policies["sum"] = Policy("sum")
        wanted = (("sum",),)
    return Graph(tasks, wanted, owners, policies)


# ---------------------------------------------------------------------------------------------------------------------
# What goes well
# ---------------------------------------------------------------------------------------------------------------------


def test_results_are_those_of_the_tasks_whoever_runs_them(backend: Backend) -> None:
    assert backend.run(mapped(square, list(range(20)), last=sum)).results == {("sum",): 2470}


def test_objects_loaded_by_a_worker_are_not_garbage_collected(backend: Backend) -> None:
    one = Graph(
        {("count",): task(("count",), gc.get_freeze_count)}, (("count",),), {("count",): "c"}, {"c": Policy("c")}
    )
    found = backend.run(one)
    assert (found.results["count",] > 10_000) == backend.capabilities.isolates_tasks


def test_many_wanted_keys_come_back_by_key(backend: Backend) -> None:
    assert backend.run(mapped(square, [3, 4])).results == {("fit", 0): 9, ("fit", 1): 16}


def test_two_thousand_tiny_tasks_run_once_each(backend: Backend) -> None:
    batch = {"dask": None, "process-per-task": 200}.get(backend.name, 1)
    outcome = backend.run(mapped(square, list(range(2_000)), last=sum, batch=batch))
    assert outcome.results["sum",] == 2_664_667_000
    assert outcome.trace.tasks.num_rows == 2_001
    assert len(set(outcome.trace.tasks["key"].to_pylist())) == 2_001
    assert {inner.key for segment in outcome.segments for inner in segment.tasks} >= set(outcome.results)
    assert set(outcome.trace.tasks["segment"].to_pylist()) <= {segment.number for segment in outcome.segments}


def test_the_instants_of_every_task_come_in_their_order(backend: Backend) -> None:
    tasks = {
        ("make", 0): task(("make", 0), big, 500_000),
        ("use", 1): task(("use", 1), change, ref(("make", 0))),
        ("length", 2): task(("length", 2), len, ref(("make", 0))),
    }
    policies = {key[0]: Policy(key[0], writable=True) for key in tasks}
    trace = backend.run(Graph(tasks, tuple(tasks), {key: key[0] for key in tasks}, policies)).trace
    rows = trace.tasks.to_pylist()
    assert [row["key"] for row in rows if row["step"] == "make"] == ["('make', 0)"]
    for row in rows:
        instants = [row[name] for name in INSTANTS]
        assert instants == sorted(instants), row
        assert row["received"] >= 0
        assert row["ready"] <= row["start"]
        assert row["sent"] <= row["done"]
    assert set(trace.notes["cpu"]) >= {"parent"}
    assert ("workers" in trace.notes["cpu"]) == backend.capabilities.isolates_tasks
    assert trace.notes["gaps"] == []


def test_what_crosses_to_a_worker_is_counted_in_bytes_and_time(backend: Backend) -> None:
    tasks = {("make", 0): task(("make", 0), big, 4_000_000), ("sum", 1): task(("sum", 1), change, ref(("make", 0)))}
    policies = {name: Policy(name, merge=False, writable=True) for name in ("make", "sum")}
    trace = backend.run(Graph(tasks, (("make", 0), ("sum", 1)), {key: key[0] for key in tasks}, policies)).trace
    moved = sum(row["bytes_in"] + row["bytes_sent"] for row in trace.tasks.to_pylist())
    frame = trace.to_frame()
    around = frame[["transfer", "deserialization", "serialization"]].sum().sum()
    if not backend.capabilities.pickles_results:
        assert moved == 0
    elif backend.name != "dask":  # there a value moves only to a worker that does not have it
        shared = sum(row["shared_in"] + row["shared_sent"] for row in trace.tasks.to_pylist())
        assert max(moved, shared) >= 2 * 4_000_000
        assert around > 0


def test_a_large_array_goes_from_task_to_task(backend: Backend) -> None:
    tasks = {
        ("make", 0): task(("make", 0), big, 6_500_000),
        ("use", 1): task(("use", 1), change, ref(("make", 0))),
        ("length", 2): task(("length", 2), len, ref(("make", 0))),
    }
    owners: dict[Key, str] = {key: str(key[0]) for key in tasks}
    policies = {name: Policy(name, merge=False, writable=name == "use") for name in owners.values()}
    graph = Graph(tasks, (("use", 1), ("length", 2)), owners, policies)
    assert backend.run(graph).results == {("use", 1): 6_500_004.0, ("length", 2): 6_500_000}


def test_a_graph_runs_twice_with_its_own_context_each_time(backend: Backend) -> None:
    tasks = {("put",): task(("put",), operator.add, ref(CONTEXT), "/part-0")}
    graph = Graph(tasks, (("put",),), {("put",): "put"}, {"put": Policy("put")})
    folders = [backend.run(graph, context=folder).results["put",] for folder in ("one", "two")]
    assert folders == ["one/part-0", "two/part-0"]


def test_times_in_the_trace_follow_each_other(backend: Backend) -> None:
    trace = backend.run(mapped(square, list(range(10)), last=sum)).trace
    assert trace.backend == backend.name
    assert trace.n_workers == backend.n_workers
    assert trace.elapsed > 0
    for row in trace.tasks.to_pylist():
        assert 0 <= max(row["ready"], row["submitted"]) <= row["start"] <= row["stop"] <= row["done"]
        assert row["worker"]
        assert row["step"] == row["key"][2:5]


def test_the_listener_gets_every_task(backend: Backend) -> None:
    heard: list[Event] = []
    backend.run(mapped(square, list(range(10)), last=sum), listener=heard.append)
    assert sum(event.count for event in heard if event.kind == "task" and event.step == "fit") == 10
    assert sum(event.count for event in heard if event.kind == "task" and event.step == "sum") == 1


def test_modules_that_come_with_the_graph_can_be_imported(backend: Backend) -> None:
    tasks = {("call",): task(("call",), call_shipped)}
    for answer in (42, 43):
        modules = {"shipped_for_tests.py": f"def answer():\n    return {answer}\n".encode()}
        graph = Graph(tasks, (("call",),), {("call",): "call"}, {"call": Policy("call")}, modules=modules)
        assert backend.run(graph).results["call",] == answer


def test_dropped_items_are_reported_and_keep_their_place(backend: Backend) -> None:
    heard: list[Event] = []
    outcome = backend.run(mapped(drop_two, [1, 2, 3], last=list), listener=heard.append)
    assert outcome.results["sum",] == [1, Dropped("no good"), 3]
    assert outcome.dropped == (("fit", "x=1", "no good"),)
    assert [(event.item, event.message) for event in heard if event.kind == "dropped"] == [("x=1", "no good")]


def test_a_task_is_tried_again_as_often_as_its_step_says(backend: Backend, tmp_path: Path) -> None:
    graph = mapped(once, [1, 2, 3], retries=2, merge=False)
    graph = with_arguments(graph, str(tmp_path), "raise")
    outcome = backend.run(graph)
    assert list(outcome.results.values()) == [1, 4, 9]
    attempts = [row["attempt"] for row in outcome.trace.tasks.to_pylist() if row["key"] == "('fit', 1)"]
    assert max(attempts) == 2


def with_arguments(graph: Graph, *arguments: Any) -> Graph:
    """The same items, with further arguments to the function."""
    tasks = {key: task(key, once, i + 1, *arguments) for i, key in enumerate(graph.tasks)}
    return Graph(tasks, graph.wanted, graph.owners, graph.policies)


def test_what_a_task_kept_is_loaded_in_the_next_run(backend: Backend, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "cache"))
    store.prepare()
    rule = KeepRule(store, "fit", always=True)
    whole = mapped(square, [1, 2, 3], last=sum, retries=1)
    last = kept(whole.tasks["sum",], KeptTask(rule, "", "sum", (None,) * 3))  # its key is found in the run
    first = {key: kept(node, KeptTask(rule, f"{key[1]:032x}")) for key, node in whole.tasks.items() if len(key) == 2}
    again: dict[Key, Any] = {key: loaded(key, store, f"{key[1]:032x}") for key in first}
    for tasks, became in ((first, ["kept"] * 4), (again, ["loaded"] * 4)):
        outcome = backend.run(replace(whole, tasks={**tasks, ("sum",): last}))
        assert outcome.results == {("sum",): 14}
        assert outcome.trace.tasks["kept"].to_pylist() == became


@pytest.mark.parametrize("limits", [{}, {"api": 1}], ids=["free", "limited"])
def test_a_client_keeps_the_values_of_workers_that_can_not(
    backend: Backend, tmp_path: Path, limits: dict[str, int]
) -> None:
    store = Store(str(tmp_path / "cache"))
    store.prepare()
    rule, cheap = KeepRule(store, "fit", "models", always=True), KeepRule(store, least=1e9)
    whole = replace(mapped(square, [1, 2, 3], last=sum, retries=1, uses=tuple(limits)), limits=limits)
    tasks = {key: kept(node, KeptTask(rule, f"{key[1]:032x}")) for key, node in whole.tasks.items() if len(key) == 2}
    tasks["fit", 2] = kept(whole.tasks["fit", 2], KeptTask(cheap, f"{2:032x}"))
    tasks["sum",] = kept(whole.tasks["sum",], KeptTask(rule, "ff" * 16, "sum", (None,) * 3))
    outcome = backend.run(kept_by_client(replace(whole, tasks=tasks)))
    assert outcome.results == {("sum",): 14}
    rows = outcome.trace.tasks.to_pylist()
    assert [row["kept"] for row in sorted(rows, key=lambda row: row["key"])] == ["kept", "kept", "cheap", "kept"]
    assert {key: store.load(key) for key in (f"{0:032x}", f"{1:032x}", "ff" * 16)} == {
        f"{0:032x}": 1,
        f"{1:032x}": 4,
        "ff" * 16: 14,
    }
    found = store.find("ff" * 16)
    assert found is not None
    assert found.key == combine("sum", [digest(n) or "" for n in (1, 4, 9)])
    assert (found.step, found.pipeline, found.seconds > 0) == ("fit", "models", True)
    again = {key: loaded(key, store, f"{key[1]:032x}") for key in (("fit", 0), ("fit", 1))}
    assert backend.run(kept_by_client(replace(whole, tasks={**whole.tasks, **again}))).results == {("sum",): 14}


def test_an_entry_that_is_gone_is_no_item_to_leave_out(backend: Backend, tmp_path: Path) -> None:
    whole = mapped(square, [1, 2, 3], retries=2, drop=True)
    gone = loaded(("fit", 1), Store(str(tmp_path / "cache")), "a0" * 16)
    with pytest.raises(TaskEntryDamaged, match="no such entry") as caught:
        backend.run(replace(whole, tasks={**whole.tasks, ("fit", 1): gone}))
    assert caught.value.task == "fit[x=1]"


# ---------------------------------------------------------------------------------------------------------------------
# Keeping going
# ---------------------------------------------------------------------------------------------------------------------


def with_another(graph: Graph) -> Graph:
    """The graph and a step that needs nothing of it; the items are wanted, too."""
    tasks = {**graph.tasks, ("other", 0): task(("other", 0), square, 5)}
    policies = {**graph.policies, "other": Policy("other")}
    return Graph(tasks, tuple(tasks), {**graph.owners, ("other", 0): "other"}, policies)


def kept_going(
    backend: Backend, function: Callable[..., Any], cause: str, *, left: tuple[int, ...] = (1, 3), **policy: Any
) -> None:
    """Item 2 of three fails: the others and what does not need it have results, and one failure is reported."""
    heard: list[Event] = []
    graph = with_another(mapped(function, [1, 2, 3], last=list, **policy))
    outcome = backend.run(graph, listener=heard.append, keep_going=True)
    assert outcome.results == {**{("fit", i - 1): i for i in left}, ("other", 0): 25}
    assert [(failure.step, failure.item) for failure in outcome.failures if cause in failure.cause] == [("fit", "x=1")]
    assert {event.key for event in heard if event.kind == "failed"} == {failure.key for failure in outcome.failures}
    assert outcome.trace.tasks.num_rows >= len(outcome.results)


@pytest.mark.parametrize("policy", [{}, {"retries": 1}, {"batch": 1, "pure": False}, {"uses": ("api",)}], ids=str)
def test_a_run_that_keeps_going_runs_what_needs_no_failed_task(backend: Backend, policy: dict[str, Any]) -> None:
    kept_going(backend, explode, "ValueError: too high", **policy)


@those_that(pickles_results=True)
def test_a_run_keeps_going_after_a_result_that_cannot_be_pickled(backend: Backend) -> None:
    kept_going(backend, lock_of, "pickle")
    outcome = backend.run(with_another(mapped(one_way, [1, 2, 3], last=list)), keep_going=True)
    assert outcome.results == {("fit", 0): 1, ("fit", 2): 3, ("other", 0): 25}  # nobody can read the result of item 2
    assert "division by zero" in outcome.failures[0].cause


@those_that(recovers_workers=True)
def test_a_run_keeps_going_after_a_task_that_ends_workers(backend: Backend) -> None:
    kept_going(backend, kill_worker, "", batch=3, retries=1)
    if backend.name != "dask":  # there results are lost with their worker, and these must not be computed again
        kept_going(backend, kill_worker, "", batch=1, pure=False)


@those_that(can_stop_tasks=True)
def test_a_run_keeps_going_after_a_task_that_was_stopped(backend: Backend) -> None:
    kept_going(backend, never_return, "timeout of 1 s", timeout=1.0)


# ---------------------------------------------------------------------------------------------------------------------
# Limits
# ---------------------------------------------------------------------------------------------------------------------


def limited(
    steps: dict[str, tuple[int, Callable[..., Any], dict[str, int]]], folder: Path, *more: Any, **policy: Any
) -> Graph:
    """``steps``: name -> how many items, their function, the limits that they use."""
    tasks = {}
    for name, (n, function, limits) in steps.items():
        tasks |= {(name, i): task((name, i), function, i, str(folder), limits, *more) for i in range(n)}
    items = {name: tuple(f"x={i}" for i in range(n)) for name, (n, _, _) in steps.items()}
    policies = {
        name: Policy(name, items=items[name], over=name, batch=1, uses=tuple(sorted(limits)), **policy)
        for name, (_, _, limits) in steps.items()
    }
    limits = {limit: n for _, _, some in steps.values() for limit, n in some.items()}
    return Graph(tasks, tuple(tasks), {key: key[0] for key in tasks}, policies, limits=limits)


@pytest.mark.parametrize("n", [1, 2])
def test_as_many_tasks_run_at_once_as_their_limit_says(backend: Backend, tmp_path: Path, n: int) -> None:
    meet = min(n, backend.n_workers)
    outcome = backend.run(limited({"fit": (6, hold, {"api": n})}, tmp_path, meet))
    assert max(outcome.results.values()) == meet
    rows = outcome.trace.tasks.to_pylist()
    waited = [row for row in rows if row["limit"]]
    assert [row["limit"] for row in waited] == ["api"] * (6 - n)
    assert all(row["ready"] < row["granted"] <= row["start"] for row in waited)
    assert outcome.trace.notes["limits"] == {"api": n}


@pytest.mark.parametrize("opened", [LISTED[kind] for kind in KINDS if kind != "serial"], indirect=True)
def test_a_task_that_waits_for_a_limit_holds_no_worker(backend: Backend, tmp_path: Path) -> None:
    graph = limited({"fit": (4, hold_until, {"db": 1})}, tmp_path)
    free = ("free", 0)
    tasks = {**graph.tasks, free: task(free, run_free, str(tmp_path))}
    owners = {**graph.owners, free: "free"}
    policies = {**graph.policies, "free": Policy("free")}
    outcome = backend.run(Graph(tasks, tuple(tasks), owners, policies, limits=graph.limits))
    assert outcome.results[free] == "free"


def test_a_task_has_a_place_of_all_its_limits_or_of_none(backend: Backend, tmp_path: Path) -> None:
    steps = {"one": (3, hold, {"a": 1}), "both": (3, hold, {"a": 1, "b": 1}), "two": (3, hold, {"b": 1})}
    assert set(backend.run(limited(steps, tmp_path)).results.values()) == {1}


def test_a_task_that_is_tried_again_has_its_limit(backend: Backend, tmp_path: Path) -> None:
    graph = limited({"fit": (4, hold_or_fail, {"db": 1})}, tmp_path, retries=2, merge=False)
    assert list(backend.run(graph).results.values()) == [1, 1, 1, 1]


@those_that(recovers_workers=True)
def test_a_task_that_dies_with_a_limit_gives_it_back(backend: Backend, tmp_path: Path) -> None:
    steps = {"fit": (4, hold_or_die, {"db": 1}), "other": (4, hold, {"db": 1})}
    assert set(backend.run(limited(steps, tmp_path)).results.values()) == {1}


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (explode, r"ValueError: too high \(backend_tasks.py:\d+, in explode\)"),
        (leave, r"SystemExit: 3 \(backend_tasks.py:\d+, in leave\)"),
        (be_stubborn, r"Stubborn: 1 and 2 \(backend_tasks.py:\d+, in be_stubborn\)"),
    ],
)
def test_a_failing_task_is_named_with_its_cause(backend: Backend, function: Callable[..., Any], cause: str) -> None:
    with pytest.raises(TaskError, match=rf"^fit\[x=1\]: {cause}$") as caught:
        backend.run(mapped(function, [1, 2, 3], last=sum))
    assert (caught.value.step, caught.value.item, caught.value.key) == ("fit", "x=1", "('fit', 1)")
    assert function.__name__ in caught.value.traceback


@pytest.mark.parametrize(
    ("function", "kind", "code"), [(find_damage, TaskDataError, 3), (fill_the_disk, TaskWriteError, 5)]
)
def test_damage_and_a_full_disk_keep_their_exit_codes(
    backend: Backend, function: Callable[..., Any], kind: type[TaskError], code: int
) -> None:
    with pytest.raises(kind, match=r"fit\[x=1\]: x\.csv: can't be ") as caught:
        backend.run(mapped(function, [1, 2, 3], last=sum))
    assert caught.value.exit_code == code


def test_too_few_retries_end_the_run(backend: Backend, tmp_path: Path) -> None:
    graph = with_arguments(mapped(once, [1, 2, 3], retries=1, merge=False), str(tmp_path), "raise")
    with pytest.raises(TaskError, match="not now"):
        backend.run(graph)


@those_that(pickles_results=True)
@pytest.mark.parametrize(("function", "what"), [(lock_of, "pickle"), (one_way, "ZeroDivisionError|unpickle")])
def test_a_result_that_cannot_be_pickled_fails_its_task(
    backend: Backend, function: Callable[..., Any], what: str
) -> None:
    with pytest.raises(TaskError, match=what) as caught:
        backend.run(mapped(function, [1, 2, 3], batch=1))
    assert (caught.value.step, caught.value.item) == ("fit", "x=1")


@those_that(pickles_results=False)
def test_in_one_process_a_result_need_not_be_picklable(backend: Backend) -> None:
    assert backend.run(mapped(lock_of, [1, 2, 3], last=len)).results["sum",] == 3


@those_that(isolates_tasks=True)
@pytest.mark.parametrize(("function", "how"), [(kill_worker, "SIGKILL"), (exit_worker, "exit code 0")])
def test_a_task_that_ends_its_worker_each_time_is_named(
    backend: Backend, function: Callable[..., Any], how: str
) -> None:
    with pytest.raises(WorkerLost, match=r"fit\[x=1\]") as caught:
        backend.run(mapped(function, [1, 2, 3], batch=1))
    assert "('fit', 1)" in str(caught.value)
    if backend.name != "dask":
        assert how in str(caught.value)
        assert ("it was out of memory, or somebody killed it" in str(caught.value)) == (how == "SIGKILL")


@those_that(isolates_tasks=True)
def test_a_worker_killed_once_costs_what_the_capabilities_say(backend: Backend, tmp_path: Path) -> None:
    graph = with_arguments(mapped(once, [1, 2, 3, 4, 5], batch=1), str(tmp_path), "kill")
    if not backend.capabilities.recovers_workers:
        with pytest.raises(WorkerLost, match=r"fit\[x=1\]"):
            backend.run(graph)
    assert list(backend.run(graph).results.values()) == [1, 4, 9, 16, 25]


@those_that(isolates_tasks=True)
def test_a_task_that_forks_and_comes_back_twice_is_over_once(backend: Backend) -> None:
    assert list(backend.run(mapped(fork_and_return, [1, 2, 3], batch=1)).results.values()) == [1, 2, 3]


@pytest.mark.parametrize("opened", LOCAL_PROCESSES, indirect=True)
def test_a_worker_is_lost_though_what_its_task_forked_lives(backend: Backend, tmp_path: Path) -> None:
    tasks = {("fit", i): task(("fit", i), leave_a_fork, i, str(tmp_path)) for i in (1, 2)}
    graph = Graph(tasks, tuple(tasks), dict.fromkeys(tasks, "fit"), {"fit": Policy("fit", batch=1)})
    if not backend.capabilities.recovers_workers:
        with pytest.raises(WorkerLost, match=r"fit.* ended by SIGKILL"):
            backend.run(graph)
    assert list(backend.run(graph).results.values()) == [1, 2]


@pytest.mark.parametrize("function", [close_files, open_files])
@pytest.mark.parametrize("name", ["pool", "processes", "process-per-task", "manager"])
def test_a_task_that_leaves_its_worker_without_files_loses_it(
    name: str, function: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        create(name, workers=1, start_method="forkserver") as opened,
        pytest.raises(
            WorkerLost, match=r"ended by (a task that|SIGKILL from the parent, since a task) had closed its files"
        ),
    ):
        opened.run(mapped(function, [1, 2, 3], batch=1))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("function", [close_files, open_files])
def test_a_task_that_leaves_a_dask_worker_without_files(function: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with create("dask", workers=1) as opened, pytest.raises(WorkerLost, match=r"fit\[x=1\].*the task ends its process"):
        opened.run(mapped(function, [1, 2, 3], batch=1))
    assert "Traceback" not in capfd.readouterr().err


def test_threads_that_can_not_be_started_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def start_two(thread: threading.Thread) -> None:
        if thread.name == "threads-2":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    with pytest.raises(BackendError, match="thread 3 of 5 can't be started; use fewer workers"):
        create("threads", workers=5).__enter__()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("threads-")]


@those_that(can_stop_tasks=True)
def test_a_task_that_never_returns_is_stopped_at_its_timeout(backend: Backend) -> None:
    with pytest.raises(TaskTimeout, match=r"fit\[x=0\].*timeout of 0.2 s"):
        backend.run(beside(mapped(never_return, [2], timeout=0.2, merge=False)))


@those_that(can_stop_tasks=False)
def test_a_task_over_its_timeout_fails_when_it_returns(backend: Backend) -> None:
    with pytest.raises(TaskTimeout, match=r"fit\[x=0\].*timeout of 0.01 s"):
        backend.run(beside(mapped(take_a_while, [2], timeout=0.01, merge=False)))


def beside(graph: Graph) -> Graph:
    """The same with tasks of another step around it, which no timeout can hit where they are slow for once."""
    tasks = {("other", i): task(("other", i), square, i) for i in range(3)}
    first, *rest = tasks
    return Graph(
        {first: tasks[first], **graph.tasks, **{key: tasks[key] for key in rest}},
        (first, *graph.wanted, *rest),
        {**graph.owners, **dict.fromkeys(tasks, "other")},
        {**graph.policies, "other": Policy("other")},
    )


def test_after_a_failure_the_back_end_runs_the_next_graph(backend: Backend) -> None:
    with pytest.raises(TaskError):
        backend.run(mapped(explode, list(range(50)), last=sum, batch=1))
    assert backend.run(mapped(square, [3])).results == {("fit", 0): 9}


def test_a_listener_that_raises_ends_the_run_with_its_error(backend: Backend) -> None:
    def refuse(event: Event) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        backend.run(mapped(square, list(range(10))), listener=refuse)


# ---------------------------------------------------------------------------------------------------------------------
# Beginning and end
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LISTED.values())
def test_leaving_ends_all_it_started_when_it_was_never_used(kind: str) -> None:
    before = set(passing_children())
    with make(kind) as opened:
        assert opened.n_workers >= 1
    assert not set(passing_children()) - before


SCRIPT = """
import os, sys, threading
import psutil
from pipeline.backends.registry import create
from pipeline.graph.graph import Graph, Policy
from pipeline.graph.nodes import task

def hold(x):
    os.write(1, b"holding\\n")
    threading.Event().wait()

# no `if __name__ == "__main__"`: a child must not run this again
tasks = {("a", i): task(("a", i), hold, i) for i in range(2)}
with create(sys.argv[1], workers=2, start_method=sys.argv[2]) as backend:
    print(*[c.pid for c in psutil.Process().children(recursive=True)], flush=True)
    backend.run(Graph(tasks, tuple(tasks), dict.fromkeys(tasks, "a"), {"a": Policy("a")}))
"""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for the temp files of a child: the path of a socket below it must be shorter than 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("kind", LOCAL_PROCESSES)
def test_no_worker_and_no_folder_outlives_its_parent(
    kind: str, ended_by: signal.Signals, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = short_folder / "script.py"
    script.write_text(SCRIPT)
    name, options = KINDS[kind]
    command = [sys.executable, str(script), name, options["start_method"]]
    environment = {**os.environ, "TMPDIR": str(short_folder)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        try:
            workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
            assert len(workers) >= 2
            assert parent.stdout.readline() == "holding\n"
            assert parent.stdout.readline() == "holding\n"
            parent.send_signal(ended_by)
            _, errors = parent.communicate(timeout=120)
        finally:
            parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=120)
    assert not alive
    if ended_by is signal.SIGINT:
        assert errors.count("\nKeyboardInterrupt") == 1, errors  # of the parent alone
    monkeypatch.setattr(tempfile, "tempdir", str(short_folder))
    with Folder() as folder:  # making one removes what was left
        assert sorted(short_folder.iterdir()) == [Path(folder.path).parent, script]
        assert list(Path(folder.path).parent.iterdir()) == [Path(folder.path)]


def test_a_pool_replaces_its_workers_after_maxtasksperchild() -> None:
    with create("pool", workers=2, start_method="forkserver", maxtasksperchild=3) as pool:
        outcome = pool.run(mapped(worker_id, list(range(12)), batch=1))
    assert 4 <= len(set(outcome.results.values())) <= 8


def test_a_timeout_in_a_pool_is_tried_again_too(tmp_path: Path) -> None:
    graph = mapped(square, [1, 2, 3], retries=1, timeout=2.0, merge=False)
    tasks = {**graph.tasks, ("fit", 1): task(("fit", 1), hang_once, str(tmp_path))}
    graph = Graph(tasks, graph.wanted, graph.owners, graph.policies)
    with create("pool", workers=2) as pool:
        assert list(pool.run(graph).results.values()) == [1, 7, 9]


@pytest.mark.parametrize("name", ["pool", "processes", "process-per-task"])
def test_fork_is_refused_while_other_threads_run(name: str) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="another")
    thread.start()
    try:
        with pytest.raises(BackendError, match="another"), create(name, workers=2, start_method="fork"):
            pass
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    "cases", ["results_are_those or worker_killed_once", pytest.param("fork", marks=pytest.mark.slow)]
)
def test_fork_passes_the_same_cases_in_a_process_without_threads(cases: str) -> None:
    command = [sys.executable, "-m", "pytest", __file__, "-q", "-x", "-p", "no:cacheprovider"]
    command += ["-k", f"fork and not same_cases and ({cases})"]
    environment = {**os.environ, "PIPELINE_TEST_FORK": "1"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-5_000:]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("proceses", {}, "did you mean 'processes'"),
        ("serial", {"start_method": "spawn"}, "unknown option 'start_method'"),
        ("pool", {"start_method": "thread"}, "allowed: spawn, forkserver, fork"),
        ("pool", {"start_method": "fork", "maxtasksperchild": 1}, "maxtasksperchild"),
    ],
)
def test_a_back_end_that_cannot_be_made_says_why(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(name, **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pool[start_metod=fork]", "did you mean 'start_method'"),
        ("pool[start_method=thread]", "takes spawn or forkserver or fork"),
        ("pool[maxtasksperchild=0]", "got 0; maxtasksperchild takes a whole number >= 1"),
        ("pool[start_method]", "write each option once, with its value"),
        ("pool[start_method=fork", "or a name with options"),
        ("serial[start_method=fork]", "unknown option 'start_method'; allowed: blas_threads"),
    ],
)
def test_a_wrong_option_in_brackets_says_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_options_in_brackets_replace_those_of_the_file() -> None:
    cluster = {"workers": 2, "start_method": "spawn", "blas_threads": 3, "threads_per_worker": 4}
    name, options = with_options("pool[start_method=forkserver]", cluster)
    assert (name, options) == ("pool", {"start_method": "forkserver", "blas_threads": 3})
    with create(name, workers=1, **options) as pool:
        notes = pool.run(mapped(make_small, [3], last=len)).notes
    assert notes["start_method"] == "forkserver"
    assert set(notes["threads"].values()) == {3}
    theirs = {"blas_threads": 3, "cluster": {"workers": 2, "threads_per_worker": 4}}
    assert with_options("dask", cluster) == ("dask", theirs)


def test_threads_of_blas_and_arrow_are_limited_and_reported() -> None:
    with create("processes", workers=1) as processes:
        found = processes.run(mapped(make_small, [3], last=len)).notes["threads"]
    assert set(found.values()) == {1}
    assert {"openblas", "arrow"} <= set(found)


def test_the_server_of_forks_has_what_tasks_import(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("pipeline.ops.calls.calls")
    started: list[list[str]] = []
    monkeypatch.setattr(child_processes.forkserver, "start", started.append)
    Children("forkserver", blas_threads=1, n_slots=1).process()
    assert {"pipeline.backends.local.messages", "pipeline.ops.calls.calls"} <= set(started[0])
    assert not {name for name in started[0] if not name.startswith("pipeline.")}
