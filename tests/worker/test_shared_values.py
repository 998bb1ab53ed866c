"""``pipeline.shared``: no update is lost, each run begins anew, and no lock outlives its holder."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import counting_functions
import numpy as np
import pytest

from pipeline import shared
from pipeline.backends.base import Backend
from pipeline.backends.local import child_main
from pipeline.backends.registry import create
from pipeline.errors import TaskError, WorkerLost
from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.nodes import ref, task
from pipeline.worker import shared_store

N, M = 8, 400  # tasks, increments of each


def counting(function: Callable[..., Any], *arguments: Any, n: int = N, pure: bool = False) -> Graph:
    """Tasks that count, and one that reads what they have counted."""
    tasks = {("count", i): task(("count", i), function, i, *arguments) for i in range(n)}
    owners: dict[Key, str] = dict.fromkeys(tasks, "count")
    last: Key = ("total", 0)
    tasks[last] = task(last, counting_functions.total, *map(ref, owners))
    owners[last] = "total"
    policies = {"count": Policy("count", pure=pure), "total": Policy("total", pure=False)}
    return Graph(tasks, (last,), owners, policies)


def total(outcome: Any) -> Any:
    return outcome.results["total", 0]


BACK_ENDS: dict[str, dict[str, Any]] = {
    "serial": {},
    "threads": {},
    "processes": {"start_method": "forkserver"},
    "pool": {"start_method": "forkserver"},
    "process-per-task": {},
}
SLOW = {"pool", "process-per-task"}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in BACK_ENDS]
)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with create(request.param, workers=2, **BACK_ENDS[request.param]) as opened:
        yield opened


@pytest.fixture
def processes() -> Iterator[Backend]:
    with create("processes", workers=2, start_method="forkserver") as opened:
        yield opened


# ---------------------------------------------------------------------------------------------------------------------
# In a run
# ---------------------------------------------------------------------------------------------------------------------


def test_no_increment_is_lost_and_each_run_begins_anew(backend: Backend) -> None:
    for _ in range(2):
        found = total(backend.run(counting(counting_functions.count, M)))
        assert found[:2] == (N * M, 7)
        assert {value % 3 for value in found[2]} == {0.0, 1.0, 2.0}
        assert found[3] == [1, 2, 3]
        assert counting_functions.seen.value == N * M  # read by the process that started the run


def test_a_step_that_may_run_again_must_not_use_them(backend: Backend) -> None:
    with pytest.raises(
        TaskError, match=r"shared.Value\('seen', 'q'\) is used by step 'count'.*'pure: false' on the step"
    ):
        backend.run(counting(counting_functions.count, 1, pure=True))
    assert total(backend.run(counting(counting_functions.count, 1)))[0] == N


def test_threads_of_a_task_count_too(backend: Backend) -> None:
    assert total(backend.run(counting(counting_functions.in_a_thread)))[0] == 10 * N


def test_a_lock_that_a_task_keeps_is_released_at_its_end(backend: Backend) -> None:
    assert total(backend.run(counting(counting_functions.keep_the_lock)))[0] == N


def test_a_lock_ends_with_a_killed_holder(processes: Backend, tmp_path: Path) -> None:
    with pytest.raises(WorkerLost, match=r"ended by SIGKILL.*it is not run again"):
        processes.run(counting(counting_functions.die_with_the_lock, str(tmp_path)))
    assert total(processes.run(counting(counting_functions.die_with_the_lock, str(tmp_path))))[0] == N


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("dask", {"dashboard": False}), ("manager", {})])
def test_back_ends_with_workers_elsewhere_refuse_them(name: str, options: dict[str, Any]) -> None:
    graph = counting(counting_functions.count, 1, n=1)
    refused = rf"shared.Value\('seen', 'q'\) can't be used on back end '{name}'.*use processes"
    with create(name, workers=1, **options) as opened, pytest.raises(TaskError, match=refused):
        opened.run(graph)


def test_a_set_up_for_other_machines_refuses_them(tmp_path: Path) -> None:
    graph = counting(counting_functions.count, 1, n=1)
    path = child_main.write_setup(str(tmp_path), child_main.setup_of(graph, {}))
    done = subprocess.run([sys.executable, "-c", REFUSED, path], capture_output=True, text=True, check=True)
    assert "'x', 'q') can't be used on back end 'manager'" in done.stdout


REFUSED = """
import sys
from pipeline import shared
from pipeline.backends.local import child_main
child_main.set_up(sys.argv[1])
try:
    shared.Value("x", "q").value
except RuntimeError as error:
    print(error)
"""


def test_a_run_within_a_task_leaves_the_outer_ones_alone(tmp_path: Path) -> None:
    outer = shared.Value("outer", "q", 1)
    shared_store.attach(str(tmp_path))
    try:
        outer.value = 5
        with shared_store.during():
            assert outer.value == 1
            outer.value = 2
        assert outer.value == 5
    finally:
        shared_store.refuse("")


# ---------------------------------------------------------------------------------------------------------------------
# One object
# ---------------------------------------------------------------------------------------------------------------------


def test_single_numbers_and_arrays_are_as_in_multiprocessing() -> None:
    flag, ratio = shared.Value("flag", ctypes.c_bool), shared.Value("ratio", "d", 0.5)
    flag.value, ratio.value = True, ratio.value * 2
    assert (flag.value, ratio.value) == (True, 1.0)
    letters = shared.Array("letters", "c", b"abc")
    letters[1] = b"x"
    assert (letters[:], len(letters), list(letters)) == (b"axc", 3, [97, 120, 99])
    numbers = shared.Array("numbers", "d", 4)
    np.frombuffer(numbers.get_obj())[:] = 2.0
    assert numbers[:] == [2.0] * 4


def test_two_of_one_name_are_one_and_a_pickle_is_too() -> None:
    one, other = shared.Value("twice", "q", 3), shared.Value("twice", "q", 3)
    one.value += 1
    assert other.value == 4
    assert pickle.loads(pickle.dumps(one)).value == 4


@pytest.mark.parametrize(
    "make", [lambda first: shared.Value("n", "q", first), lambda first: shared.Array("a", "q", [first])]
)
def test_another_initial_value_under_the_same_name_is_refused(make: Callable[[int], Any]) -> None:
    """Else the one that a process happens to use first would decide."""
    with shared_store.during():
        assert make(100).get_obj() is not None
        assert make(100).get_obj() is not None
        with pytest.raises(ValueError, match="made twice, with different initial values; make it in one module"):
            make(5).get_obj()


def test_another_type_under_the_same_name_is_refused() -> None:
    shared.Value("typed", "q").value = 1
    with pytest.raises(
        ValueError, match=r"'typed': shared.Value\('typed', 'd'\) is asked for, but it is shared.Value\('typed', 'q'\)"
    ):
        shared.Value("typed", "d").value = 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: shared.Value("", "q"), "its name is a text"),
        (lambda: shared.Value("x", "z"), "got the type 'z'; allowed: c, u, b"),
        (lambda: shared.Value("x", int), "got the type <class 'int'>"),
        (lambda: shared.Array("x", "q", 0), "got a size of 0"),
        (lambda: shared.Value("x", "q", lock=threading.Lock()), "lock is True or False"),
    ],
)
def test_what_can_not_be_made_is_refused_by_name(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_without_a_lock_there_is_none() -> None:
    bare = shared.Value("bare", "q", lock=False)
    bare.value += 1
    assert bare.value == 1
    with pytest.raises(AttributeError, match="it was made with lock=False"):
        bare.get_lock()


def test_a_lock_is_taken_again_by_its_holder_and_by_nobody_else() -> None:
    lock = shared.Value("again", "q").get_lock()
    got: list[bool] = []

    def others(timeouts: Sequence[float | None]) -> None:
        got.extend(lock.acquire(timeout is not None, timeout) for timeout in timeouts)

    with lock, lock:
        thread = threading.Thread(target=others, args=([None, 0.01],))
        thread.start()
        thread.join()
    assert got == [False, False]
    with pytest.raises(RuntimeError, match="not held by this thread"):
        lock.release()


def hold(folder: str, ready: Any, done: Any) -> None:
    shared_store.attach(folder)
    with shared.Value("held", "q").get_lock():
        ready.set()
        done.wait()


def test_another_process_waits_for_the_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(tmp_path), ready, done))
    other.start()
    shared_store.attach(str(tmp_path))
    try:
        ready.wait()
        lock = shared.Value("held", "q").get_lock()
        assert not lock.acquire(False)
        assert not lock.acquire(True, 0.01)
        done.set()
        assert lock.acquire()
        lock.release()
    finally:
        done.set()
        other.join()
        shared_store.refuse("")
    assert os.listdir(tmp_path) == ["object-held"]
