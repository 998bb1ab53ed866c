"""A process for each segment: its queue is written to the end, each process is joined, and none is one too many."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing import process as process_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_tasks import big, explode, kill_worker, never_return, square, worker_id
from process_tasks import be_cut_off, burn, die_at_the_end, leave_a_thread, put_and_end, put_and_forget
from test_backends import mapped

from pipeline.backends.events import Event
from pipeline.backends.local import process_per_task
from pipeline.backends.local.process_per_task import ProcessPerTask
from pipeline.backends.local.shared_memory import write_block
from pipeline.backends.registry import create
from pipeline.errors import BackendError, TaskError, TaskTimeout, WorkerLost
from pipeline.graph.graph import Graph
from pipeline.graph.nodes import task


def opened(name: str = "process-per-task", **options: Any) -> Any:
    return create(name, **{"workers": 2, "start_method": "forkserver", **options})


def with_folder(function: Callable[..., Any], items: list[int], folder: Path) -> Graph:
    """``fit`` calls the function with each item and the folder."""
    graph = mapped(function, items, batch=1)
    tasks = {key: task(key, function, item, str(folder)) for key, item in zip(graph.tasks, items, strict=True)}
    return Graph(tasks, graph.wanted, graph.owners, graph.policies)


# ---------------------------------------------------------------------------------------------------------------------
# The queue
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "arrives"), [(put_and_forget, False), (put_and_end, True)])
def test_cancel_join_thread_loses_what_the_pipe_has_not_taken(function: Callable[..., Any], arrives: bool) -> None:
    context = multiprocessing.get_context("forkserver")
    queue = context.Queue()
    child = context.Process(target=function, args=(queue, 5_000_000))
    child.start()
    queue._writer.close()
    if not arrives:
        child.join()  # it does not wait for a reader
    try:
        if arrives:
            assert len(queue.get()) == 5_000_000
        else:
            with pytest.raises((EOFError, OSError)):
                queue.get()
    finally:
        child.join()
        child.close()
        queue.close()
        queue._reader.close()


def test_a_result_larger_than_a_pipe_is_written_before_the_end() -> None:
    with opened() as backend:
        found = backend.run(mapped(big, [8_000_000], merge=False)).results["fit", 0]
    assert found.shape == (8_000_000,)
    assert np.all(found == 1.0)


def test_a_process_killed_while_it_writes_costs_only_its_own(tmp_path: Path) -> None:
    heard: list[Event] = []
    with opened() as backend:
        outcome = backend.run(with_folder(be_cut_off, [1, 2, 3], tmp_path), listener=heard.append)
    assert list(outcome.results.values()) == [1, 4, 9]
    assert [event.item for event in heard if event.kind == "worker lost"] == ["x=1"]
    assert [worker for worker, _, _ in outcome.trace.notes["gaps"]]


def test_a_process_killed_after_its_result_has_finished(tmp_path: Path) -> None:
    heard: list[Event] = []
    with opened() as backend:
        outcome = backend.run(with_folder(die_at_the_end, [1, 2, 3], tmp_path), listener=heard.append)
    assert list(outcome.results.values()) == [1, 4, 9]
    assert len(list(tmp_path.iterdir())) == 3
    assert not [event for event in heard if event.kind == "worker lost"]


def test_a_result_in_shared_memory_is_kept_until_it_is_read() -> None:
    with opened(transport="shared-memory") as backend:
        child = backend._children.process(target=write_block, args=(backend._files.folder, [b"x"]))
        child.start()
        child.join()
        backend._sweep_values()
        assert os.listdir(backend._files.folder)
        backend._children.forget(child)
        backend._sweep_values()
        assert not os.listdir(backend._files.folder)


# ---------------------------------------------------------------------------------------------------------------------
# The processes
# ---------------------------------------------------------------------------------------------------------------------


def test_each_segment_has_a_process_of_its_own() -> None:
    with opened() as backend:
        outcome = backend.run(mapped(worker_id, [1, 2, 3], batch=1))
    assert len(set(outcome.results.values())) == 3
    assert set(outcome.trace.tasks["worker"].to_pylist()) == {"process-per-task-0", "process-per-task-1"}


def test_the_cpu_time_of_processes_that_have_ended_is_counted() -> None:
    with opened(workers=1) as backend:
        trace = backend.run(mapped(burn, [1, 2, 3], batch=1)).trace
    assert sum(trace.tasks["cpu"].to_pylist()) >= 0.55e9  # of 0.6, rounded by the clock
    assert trace.notes["cpu"]["workers"] > -0.3  # beside the tasks; without those that have ended it is about -0.6


def test_never_more_processes_than_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, living = ProcessPerTask._begin, []

    def counted(self: ProcessPerTask, place: Any) -> None:
        begin(self, place)
        living.append(len(self._children.living()))

    monkeypatch.setattr(ProcessPerTask, "_begin", counted)
    with opened() as backend:
        backend.run(mapped(square, [1, 2, 3, 4], batch=1))
    assert len(living) == 5  # and one to find out whether processes can be started
    assert max(living) == 2


def test_a_thread_that_a_task_left_does_not_hold_up_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_per_task, "_END_LIMIT", 0.05)
    with opened(workers=1) as backend:
        assert list(backend.run(mapped(leave_a_thread, [1, 2], batch=1)).results.values()) == [1, 2]


def test_processes_that_end_while_they_start_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = ProcessPerTask._begin

    def killed(self: ProcessPerTask, place: Any) -> None:
        begin(self, place)
        os.kill(place.process.pid, signal.SIGSTOP)  # so that it can't be faster
        os.kill(place.process.pid, signal.SIGKILL)

    with opened() as backend:
        monkeypatch.setattr(ProcessPerTask, "_begin", killed)
        with pytest.raises(BackendError, match=r"ended by SIGKILL while it started; so did 2 before it"):
            backend.run(mapped(square, [1, 2, 3]))
        monkeypatch.undo()
        assert backend.run(mapped(square, [3])).results == {("fit", 0): 9}


def interrupt(event: Event) -> None:
    raise KeyboardInterrupt


ENDS: dict[str, tuple[Callable[..., Any], dict[str, Any], type[BaseException] | None]] = {
    "success": (square, {}, None),
    "an error": (explode, {}, TaskError),
    "a timeout": (never_return, {"timeout": 0.2}, TaskTimeout),
    "a lost worker": (kill_worker, {}, WorkerLost),
    "Ctrl-C": (square, {}, KeyboardInterrupt),
}


@pytest.mark.parametrize("end", list(ENDS))
@pytest.mark.parametrize("name", ["process-per-task", "pool", pytest.param("processes", marks=pytest.mark.slow)])
def test_all_children_are_joined_however_a_run_ends(name: str, end: str) -> None:
    function, policy, error = ENDS[end]
    graph = mapped(function, [1, 2, 3], batch=1, **policy)
    listener = interrupt if end == "Ctrl-C" else None
    with opened(name) as backend:
        if error is None:
            backend.run(graph)
        else:
            with pytest.raises(error):
                backend.run(graph, listener=listener)
    assert not process_module._children  # before active_children, which joins those that have ended
    assert multiprocessing.active_children() == []
