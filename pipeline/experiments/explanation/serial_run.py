"""The serial run: every task timed, and the real inputs of a few of each step kept.

It happens in a fresh process, in the order of the scheduler, into a staging folder that is thrown away. What it saw is
told as it goes on, so that a run which the budget ends has told what it saw until then; of a task that is ended in its
middle the seconds are told that it had run.

Which tasks are kept, and what is not run at all, is said in :mod:`pipeline.experiments.explanation.selection`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

import cloudpickle

from pipeline.backends.local.child_main import set_up
from pipeline.backends.local.serialization import pack
from pipeline.errors import PipelineError, TaskError, WorkerLost
from pipeline.experiments.explanation.probe_processes import Failed, Late, ProbeProcesses, silent
from pipeline.experiments.explanation.saved_task import Content, SavedTask
from pipeline.experiments.explanation.selection import Sampled, Times, byte_limits, candidates, layer_of
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import CONTEXT, Graph, Key, dependencies, is_constant
from pipeline.graph.scheduler import Scheduler
from pipeline.graph.segments import Segment, SegmentTask
from pipeline.outputs.commit import Publication
from pipeline.worker.run_segment import run_segment
from pipeline.worker.tracebacks import describe

__all__ = ["sample"]

_EVERY = 50_000_000  # ns between two reports of a child, at least: one costs as much as a few small tasks


# ---------------------------------------------------------------------------------------------------------------------
# In the child
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What the child is to do; paths are absolute.

    Parameters
    ----------
    until : seconds after which no further task is begun
    without : copies of which nothing is kept
    """

    graph: str
    setup: str
    folder: str
    n_workers: int
    until: float
    storage: Mapping[str, Any]
    without: tuple[str, ...]
    limits: tuple[int, int]


def _serve(connection: Connection, plan: Plan, slot: Any) -> None:
    """Run the Graph; send lists of what happened: ``("ran", …)``, ``("kept", …)``, ``("refused", …)``, at last
    ``("done", complete)`` or ``("failed", error)``."""
    silent(os.path.join(plan.folder, "log.txt"))
    try:
        set_up(plan.setup)
        graph = Graph.load(plan.graph)
        complete = _Run(connection, plan, slot, graph).run()
    except PipelineError as error:
        connection.send([("failed", error)])
    else:
        connection.send([("done", complete)])
    with contextlib.suppress(EOFError):
        connection.recv()  # live until the other side has read it all


class _Run:
    """One serial run. ``slot`` is shared with the parent: the position of the task that runs, and since when (ns)."""

    def __init__(self, connection: Connection, plan: Plan, slot: Any, graph: Graph) -> None:
        self.connection, self.plan, self.slot, self.graph = connection, plan, slot, graph
        self.segments = fuse(graph, n_workers=plan.n_workers)
        order = [inner.key for segment in self.segments for inner in segment.tasks if inner.key in graph.tasks]
        self.candidates = candidates(graph, list(dict.fromkeys(order)), plan.without)
        self.position = {key: i for i, key in enumerate(graph.tasks)}
        self.left, self.most = plan.limits
        self.told: list[tuple[Any, ...]] = []
        self.flushed = perf_counter_ns()

    def run(self) -> bool:
        """Whether all tasks ran."""
        segments, plan = self.segments, self.plan
        scheduler = Scheduler([s.inputs for s in segments], [s.outputs for s in segments], self.graph.wanted)
        ends = perf_counter() + plan.until
        with Publication(
            self.graph.sinks, plan.folder + "/outputs", run="explain", storage=plan.storage
        ) as publication:
            values: dict[Any, Any] = {CONTEXT: publication.context}
            while not scheduler.done:
                segment = segments[scheduler.take()]
                if not self._segment(segment, values, ends):
                    self._flush()
                    return False
                for key in scheduler.finish(segment.number).released:
                    values.pop(key, None)
        self._flush()
        return True

    def _segment(self, segment: Segment, values: dict[Any, Any], ends: float) -> bool:
        made = set()
        for inner in segment.tasks:
            if not is_constant(inner.node):
                if perf_counter() > ends:
                    return False
                if inner.key in self.candidates:
                    self._keep(inner, segment, values)
            self._task(inner, segment, values)
            made.add(inner.key)
            for key in inner.frees:
                if key in made:  # what others need as well is released by the scheduler
                    values.pop(key, None)
        return True

    def _task(self, inner: SegmentTask, segment: Segment, values: dict[Any, Any]) -> None:
        needed = {key: values[key] for key in dependencies(inner.node)}
        alone = inner._replace(frees=())  # the values are ours: they are freed with the segment
        one = replace(segment, tasks=(alone,), inputs=tuple(needed), outputs=(inner.key,))
        attempts = self.graph.policies[self.graph.owners[inner.key]].retries + 1
        if perf_counter_ns() - self.flushed > _EVERY:
            self._flush()
        for attempt in range(attempts):
            self.slot[0], self.slot[1] = self.position[inner.key], perf_counter_ns()
            completion = run_segment(one, needed)
            self.slot[1] = 0
            failure = completion.failure
            if failure is None:
                break
            if attempt == attempts - 1 and failure.drop:
                completion = run_segment(one.without(failure), needed)
            elif attempt == attempts - 1:
                self._flush()
                raise failure.error()
        values.update(completion.outputs)
        for m in completion.measured:
            self.told.append(("ran", self.position[m.key], (m.stop - m.start) / 1e9, m.cpu / 1e9))

    def _keep(self, inner: SegmentTask, segment: Segment, values: Mapping[Any, Any]) -> None:
        """Pickle the inputs of a task into a file, if they are not too large."""
        graph, step = self.graph, self.graph.policies[self.graph.owners[inner.key]].step
        content: Content | None = None
        try:
            packed = {key: pack(values[key]) for key in dependencies(inner.node)}
            nbytes = sum(p.nbytes for p in packed.values())
            if nbytes <= min(self.left, self.most):
                moved = tuple(key for key in packed if key in segment.inputs and not is_constant(graph.tasks[key]))
                content = Content(cloudpickle.dumps(inner.node), packed, moved, inner.key in segment.outputs)
        except Exception as error:  # noqa: BLE001 - pickling runs the user's code
            self.told.append(("refused", step, f"its inputs can't be pickled: {describe(error)}"))
            return
        if content is None:
            self.told.append(("refused", step, "its inputs are too large to be kept"))
            return
        path = os.path.join(self.plan.folder, f"kept-{self.position[inner.key]}")
        content.save(path)
        self.left -= nbytes
        self.told.append(("kept", SavedTask(str(inner.key), step, layer_of(inner.key), path, nbytes)))

    def _flush(self) -> None:
        if self.told:
            self.connection.send(self.told)
        self.told, self.flushed = [], perf_counter_ns()


# ---------------------------------------------------------------------------------------------------------------------
# Here
# ---------------------------------------------------------------------------------------------------------------------


def sample(
    graph: Graph,
    *,
    file: Path,
    setup: str,
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
    file, setup : the saved Graph, and what :func:`pipeline.backends.local.child_main.write_setup` wrote of it
    folder : of its own; the kept inputs and the staged outputs lie in it
    until : seconds after which no further task is begun
    deadline : on the clock of ``perf_counter``: then the process is ended whatever it does
    without : copies of steps of which no inputs are kept

    Raises
    ------
    PipelineError : what a task raised
    BackendError : if the process was ended by something else
    """
    plan = Plan(str(file), setup, str(folder), n_workers, until, dict(storage or {}), tuple(without),
                byte_limits(folder, n_workers))  # fmt: skip
    found = Sampled()
    names = list(graph.tasks)
    step = {copy: policy.step for copy, policy in graph.policies.items()}
    slot = _slot()
    with ProbeProcesses(1, _serve, plan, slot) as team:
        try:
            for told in _reports(team, deadline):
                for kind, *rest in told:
                    if kind == "ran":
                        position, seconds, cpu = rest
                        key = names[position]
                        found.times[str(key)] = Times(step[graph.owners[key]], layer_of(key), seconds, cpu)
                    elif kind == "kept":
                        found.kept.append(rest[0])
                    elif kind == "refused":
                        found.refused[rest[0]] = rest[1]
                    elif kind == "failed":
                        raise rest[0]
                    elif kind == "done":
                        found.complete = rest[0]
        except Late:
            position, since = slot[0], slot[1]
            if since:
                key = names[position]
                found.cut = (str(key), step[graph.owners[key]], (perf_counter_ns() - since) / 1e9)
        except Failed as error:
            raise _lost(graph, slot, names, error) from error
    return found


def _slot() -> Any:
    return multiprocessing.get_context("spawn").RawArray("q", 2)


def _reports(team: ProbeProcesses, deadline: float) -> Iterator[list[tuple[Any, ...]]]:
    while True:
        told = team.answer(0, deadline=deadline)
        yield told
        if told and told[-1][0] in ("done", "failed"):
            return


def _lost(graph: Graph, slot: Any, names: Sequence[Key], error: Failed) -> PipelineError:
    """The process ended in the middle: which task did it."""
    if not slot[1]:
        return Failed(f"the serial run: {error}")
    key = names[slot[0]]
    where = TaskError(graph.owners[key], str(key), "", graph.item(key)).where
    return WorkerLost(f"{where}: {error} while it ran task {key} in the serial run")
