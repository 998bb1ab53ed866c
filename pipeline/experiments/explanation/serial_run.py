"""Run the whole graph once on `serial`, in a worker process; time every task and save the inputs of some.

What happens is written to a file as it happens, so that a run which the budget ends has reported everything until then.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from pipeline.graph.graph import CONTEXT, Graph, Key, dependencies, execute, is_constant, task
from pipeline.graph.segments import Segment
from pipeline.outputs.commit import OutputTransaction
from pipeline.worker.tracebacks import describe

__all__ = ["sample"]


@dataclass(frozen=True)
class Plan:
    """What the worker is to do; paths are absolute.

    Parameters
    ----------
    until : seconds after which no further task is begun
    without : steps' instances of which no inputs are saved
    limits : bytes of inputs that may be saved in all, and of one task
    """

    graph: str
    folder: str
    until: float
    storage: Mapping[str, Any]
    without: tuple[str, ...]
    limits: tuple[int, int]

    @property
    def log(self) -> str:
        """Path of the file that the run writes."""
        return os.path.join(self.folder, "log")


# ---------------------------------------------------------------------------------------------------------------------
# In the worker
# ---------------------------------------------------------------------------------------------------------------------


def run_serially(plan: Plan) -> tuple[bool, bytes]:
    """Run the Graph of a plan; return whether all tasks ran, and the pickled error of the one that failed."""
    be_quiet()
    graph = _task_by_task(Graph.load(plan.graph))
    transaction = OutputTransaction(graph.sinks, plan.folder + "/outputs", run="explain", storage=plan.storage)
    try:
        with transaction, _SamplingSerial(graph, plan) as backend:
            backend.run(graph, context=transaction.context, listener=_drop)
    except _Stopped:
        return False, b""
    except PipelineError as error:
        return False, pickle.dumps(error)
    return True, b""


def _task_by_task(graph: Graph) -> Graph:
    """The Graph with every task a segment of its own."""
    policies = {name: replace(policy, merge=False, batch=1) for name, policy in graph.policies.items()}
    return replace(graph, policies=policies)


class _Stopped(Exception):
    """No further task is begun."""


class _SamplingSerial(Serial):
    """`serial`, which logs each task before and after it runs, and saves the inputs of some before they run.

    A line of the log is a JSON list: ``["begun", position, ns]``, ``["ran", position, seconds]``,
    ``["saved", position, nbytes]``, ``["not saved", position, reason]``. Positions are those of the Graph's tasks.
    """

    def __init__(self, graph: Graph, plan: Plan) -> None:
        super().__init__()
        self._plan = plan
        self._position = {key: i for i, key in enumerate(graph.tasks)}
        order = [inner.key for segment in fuse(graph, n_workers=1) for inner in segment.tasks]
        self._candidates = candidates(graph, list(dict.fromkeys(order)), plan.without)
        self._bytes_left, self._most_bytes = plan.limits
        self._ends = perf_counter() + plan.until
        self._file = os.open(plan.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

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
            content = SavedInputs.of(inner.node, {**values, **job.inputs})
        except Exception as error:  # noqa: BLE001 - pickling runs the user's code
            self._log("not saved", position, f"its inputs can't be pickled: {describe(error)}")
            return
        if content.nbytes > min(self._bytes_left, self._most_bytes):
            self._log("not saved", position, "its inputs are too large to be saved")
            return
        content.save(_path(self._plan, position))
        self._bytes_left -= content.nbytes
        self._log("saved", position, content.nbytes)

    def _log(self, *entry: Any) -> None:
        os.write(self._file, json.dumps(entry).encode() + b"\n")


def _path(plan: Plan, position: int) -> str:
    return os.path.join(plan.folder, f"saved-{position}")


def _drop(event: Event) -> None:
    """Drop what happens in the run: the log has it."""


# ---------------------------------------------------------------------------------------------------------------------
# In the program
# ---------------------------------------------------------------------------------------------------------------------


def sample(
    graph: Graph,
    segments: Sequence[Segment],
    *,
    file: Path,
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
    file : the saved Graph
    folder : an empty folder, for the saved inputs and the staged outputs
    n_workers : of the probes, which load the saved inputs
    until : seconds after which no further task is begun
    deadline : on the clock of ``perf_counter``; a task that still runs is killed
    without : instances of steps of which no inputs are saved

    Raises
    ------
    PipelineError : what a task raised
    WorkerLost : if a task ended the process
    """
    plan = Plan(str(file), str(folder), until, dict(storage or {}), tuple(without), byte_limits(folder, n_workers))
    error: PipelineError | None = None
    complete = False
    try:
        with ProbeBackend(1, graph.modules) as backend:
            backend.start(deadline=deadline)
            found = backend.run("serial run", {"run": task("run", run_serially, plan)}, deadline=deadline)
            complete, raised = found.results["run"]
            error = pickle.loads(raised) if raised else None  # pickled by our own worker, a moment ago
    except Late:
        pass
    except Lost as lost:
        error = lost
    except Failed as failed:
        raise Failed(f"the serial run: {failed}") from failed
    sampled, running = _read_log(graph, segments, plan)
    if isinstance(error, Lost) and running is not None:
        where = TaskError(graph.owners[running], str(running), "", graph.item(running)).where
        error = WorkerLost(f"{where}: its process ended while it ran task {running} in the serial run: {error}")
    if error is not None:
        raise error
    sampled.complete = complete
    return sampled


def _read_log(graph: Graph, segments: Sequence[Segment], plan: Plan) -> tuple[Sampled, Key | None]:
    """Return what the log says, and the task that was running when the log ended."""
    found, running = Sampled(), None
    keys = list(graph.tasks)
    segment_of = {inner.key: segment for segment in segments for inner in segment.tasks}
    for kind, position, value in _entries(Path(plan.log)):
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
            path = _path(plan, position)
            found.saved.append(SavedTask(str(key), step, layer, path, value, moved, key in segment.outputs))
        else:
            found.refused[step] = value
    return found, running


def _entries(log: Path) -> Iterator[tuple[str, int, Any]]:
    """Read the log; its last line may be cut."""
    if log.exists():
        for line in log.read_text().split("\n")[:-1]:
            kind, position, value = json.loads(line)
            yield kind, position, value
