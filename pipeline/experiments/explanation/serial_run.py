"""Run the whole graph once on `serial`, in a worker process; time every task and save the inputs of some.

What happens is written to a file as it happens, so that a run which the budget ends has reported everything until then.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

from pipeline.backends.events import Event
from pipeline.backends.local.executor import Job
from pipeline.backends.local.serial import Serial
from pipeline.errors import PipelineError, TaskError, WorkerLost
from pipeline.experiments.explanation.probe_backend import Failed, Late, Lost, ProbeBackend
from pipeline.experiments.explanation.probe_tasks import be_quiet
from pipeline.experiments.explanation.saved_task import SavedInputs, SavedTask
from pipeline.experiments.explanation.selection import Sampled, TaskTime, byte_limits, candidates, layer_of
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import CONTEXT, Graph, Key
from pipeline.graph.nodes import dependencies, execute, is_constant, task
from pipeline.graph.segments import Segment
from pipeline.outputs.commit import OutputTransaction
from pipeline.worker.tracebacks import describe

__all__ = ["sample"]

_START = 30.0  # seconds in which a process starts on the busiest machine


# ---------------------------------------------------------------------------------------------------------------------
# In the worker
# ---------------------------------------------------------------------------------------------------------------------


def run_serially(
    graph: Graph, folder: str, until: float, storage: Mapping[str, Any], without: Sequence[str], limits: tuple[int, int]
) -> tuple[bool, bytes]:
    """Run a Graph; return whether all tasks ran, and the pickled error of the one that failed.

    Parameters
    ----------
    folder : absolute path of the folder for the log, the saved inputs and the staged outputs
    limits : bytes of inputs that may be saved in all, and of one task
    """
    be_quiet()
    transaction = OutputTransaction(graph.sinks, folder + "/outputs", run="explain", storage=storage)
    backend = _SamplingSerial(graph, folder, perf_counter() + until, without, limits)
    try:
        with transaction, backend:
            backend.run(graph, context=transaction.context, listener=_drop)
    except _Stopped:
        return False, b""
    except PipelineError as error:
        return False, pickle.dumps(error)
    return True, b""


class _Stopped(Exception):
    """No further task is begun."""


class _SamplingSerial(Serial):
    """`serial`, which logs each task before and after it runs, and saves the inputs of some before they run.

    A line of the log is a JSON list: ``["begun", position, ns]``, ``["ran", position, seconds]``,
    ``["saved", position, nbytes]``, ``["not saved", position, reason]``. Positions are those of the Graph's tasks.
    """

    def __init__(self, graph: Graph, folder: str, ends: float, without: Sequence[str], limits: tuple[int, int]) -> None:
        super().__init__()
        self._folder, self._ends = folder, ends
        self._position = {key: i for i, key in enumerate(graph.tasks)}
        order = [inner.key for segment in fuse(graph, n_workers=1) for inner in segment.tasks]
        self._candidates = candidates(graph, list(dict.fromkeys(order)), without)
        self._bytes_left, self._most_bytes = limits
        self._file = os.open(_log_path(folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def submit(self, job: Job) -> None:
        inner = job.segment.tasks[-1]  # those before it are constants
        if is_constant(inner.node):
            super().submit(job)
            return
        if perf_counter() > self._ends:
            raise _Stopped
        position = self._position[inner.key]
        if inner.key in self._candidates and not job.attempt:
            self._save(position, job)
        self._log("begun", position, perf_counter_ns())
        super().submit(job)
        result = self._finished[-1].result
        if result is not None and result.failure is None:
            timing = result.timings[-1]
            self._log("ran", position, (timing.stop - timing.start) / 1e9)

    def _save(self, position: int, job: Job) -> None:
        """Write the inputs of a task to a file, unless they are too large or can't be pickled."""
        *constants, inner = job.segment.tasks
        try:
            values = {constant.key: execute(constant.node, {}) for constant in constants}
            content = SavedInputs.of(inner.node, {**values, **job.inputs}, writable=inner.writable)
        except Exception as error:  # noqa: BLE001 - pickling runs the user's code
            self._log("not saved", position, f"its inputs can't be pickled: {describe(error)}")
            return
        if content.nbytes > min(self._bytes_left, self._most_bytes):
            self._log("not saved", position, "its inputs are too large to be saved")
            return
        content.save(_saved_path(self._folder, position))
        self._bytes_left -= content.nbytes
        self._log("saved", position, content.nbytes)

    def _log(self, *entry: Any) -> None:
        os.write(self._file, json.dumps(entry).encode() + b"\n")


def _log_path(folder: str) -> str:
    return os.path.join(folder, "log")


def _saved_path(folder: str, position: int) -> str:
    return os.path.join(folder, f"saved-{position}")


def _drop(event: Event) -> None:
    """Drop what happens in the run: the log has it."""


# ---------------------------------------------------------------------------------------------------------------------
# In the program
# ---------------------------------------------------------------------------------------------------------------------


def sample(
    graph: Graph,
    segments: Sequence[Segment],
    *,
    folder: Path,
    n_workers: int,
    until: float,
    deadline: float,
    storage: Mapping[str, Any] | None = None,
    without: Collection[str] = (),
) -> Sampled:
    """Run the Graph serially in a fresh process, as far as the time allows.

    Parameters
    ----------
    segments : of the Graph, as it is run in parallel
    folder : an empty folder, for the log, the saved inputs and the staged outputs
    n_workers : of the probes, which load the saved inputs
    until : seconds after which no further task is begun
    deadline : on the clock of ``perf_counter``; a task that still runs is killed, ``until`` seconds after the start of
        the process at the earliest
    without : instances of steps of which no inputs are saved

    Raises
    ------
    PipelineError : what a task raised
    WorkerLost : if a task ended the process
    """
    policies = {name: replace(policy, merge=False, batch=1) for name, policy in graph.policies.items()}
    task_by_task = replace(graph, policies=policies)
    options = (str(folder), until, dict(storage or {}), tuple(without), byte_limits(folder, n_workers))
    error: PipelineError | None = None
    complete = False
    try:
        with ProbeBackend(1, graph.modules) as backend:
            backend.start(deadline=max(deadline, perf_counter() + _START))
            deadline = max(deadline, perf_counter() + until)  # its process may have started slowly
            found = backend.run(
                "serial run", {"run": task("run", run_serially, task_by_task, *options)}, deadline=deadline
            )
            complete, raised = found.results["run"]
            error = pickle.loads(raised) if raised else None  # pickled by our own worker, a moment ago
    except Late:
        pass
    except Lost as lost:
        error = lost
    except Failed as failed:
        raise Failed(f"the serial run: {failed}") from failed
    sampled, running = _read_log(graph, segments, str(folder))
    if isinstance(error, Lost) and running is not None:
        where = TaskError(graph.owners[running], str(running), "", graph.item(running)).where
        error = WorkerLost(f"{where}: its process ended while it ran task {running} in the serial run: {error}")
    if error is not None:
        raise error
    sampled.complete = complete
    return sampled


def _read_log(graph: Graph, segments: Sequence[Segment], folder: str) -> tuple[Sampled, Key | None]:
    """Return the content of the log, and the task that was running when the log ended."""
    found, running = Sampled(), None
    keys = list(graph.tasks)
    segment_of = {inner.key: segment for segment in segments for inner in segment.tasks}
    log = Path(_log_path(folder))
    for line in log.read_text().split("\n")[:-1] if log.exists() else ():  # the last line may be cut
        kind, position, value = json.loads(line)
        key = keys[position]
        step, layer = graph.policies[graph.owners[key]].step, layer_of(key)
        if kind == "begun":
            running, found.cut = key, (str(key), step, (perf_counter_ns() - value) / 1e9)
        elif kind == "ran":
            running, found.cut = None, None
            found.times[str(key)] = TaskTime(step, layer, value)
        elif kind == "saved":
            segment = segment_of[key]
            needed = dependencies(graph.tasks[key])
            moved = tuple(k for k in segment.inputs if k in needed and k != CONTEXT and not is_constant(graph.tasks[k]))
            path = _saved_path(folder, position)
            found.saved.append(SavedTask(str(key), step, layer, path, value, moved, key in segment.outputs))
        else:
            found.refused[step] = value
    return found, running
