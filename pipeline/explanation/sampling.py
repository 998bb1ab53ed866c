"""The serial run: every task timed, and the real inputs of a few of each step kept.

It happens in a fresh process, in the order of the scheduler, into a staging folder that is thrown away. What it saw is
told as it goes on, so that a run which the budget ends has told what it saw until then; of a task that is ended in its
middle the seconds are told that it had run.

Which tasks are kept is decided before any has run, since their inputs are gone afterwards: the first of each layer of
a step (the tasks whose keys begin alike, which do the same) and others at even distances. When all times are known,
those of the layer that took most of the step's time stay, the nearest to its median first.

Tasks of a step that has effects outside (``pure: false``) are not run, nor what needs them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any, NamedTuple

import cloudpickle
import psutil

from pipeline.backends.children import set_up
from pipeline.backends.packing import pack
from pipeline.coarsening import coarsen
from pipeline.errors import PipelineError, TaskError, WorkerLost
from pipeline.explanation.keeping import Content, Kept
from pipeline.explanation.teams import Failed, Late, Team, silent
from pipeline.graph import CONTEXT, Graph, Key, constant, dependencies, dependents_in_order, is_constant
from pipeline.outputs import Publication
from pipeline.scheduler import Scheduler
from pipeline.worker import Inner, Segment, describe, run_segment

__all__ = ["Sampled", "Times", "candidates", "choose", "layer_of", "pure_part", "sample"]

N_CANDIDATES = 6  # tasks of a layer whose inputs are kept until the times are known
N_SAMPLES = 3  # tasks of a step that the probes run
_LONG = 0.2  # seconds of a task that is a probe by itself
_EVERY = 50_000_000  # ns between two reports of a child, at least: one costs as much as a few small tasks
_OF_DISK = 0.25  # of what is free, that the kept inputs may take
_OF_MEMORY = 0.25  # of what is free, that the inputs of one step may take in all the processes of a probe
_MOST = 2e9  # bytes of kept inputs, however large the machine


class Times(NamedTuple):
    """One task that ran: seconds of wall and of its thread's CPU time."""

    step: str
    layer: str
    seconds: float
    cpu: float


@dataclass
class Sampled:
    """What the serial run saw.

    Parameters
    ----------
    times : task's key as text -> its times, of those that ran
    kept : tasks with their inputs
    refused : step -> why its inputs could not be kept
    complete : all tasks ran
    cut : the task that was ended in its middle: key, step, seconds that it had run
    """

    times: dict[str, Times] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    cut: tuple[str, str, float] | None = None

    def seconds(self) -> dict[str, float]:
        """Seconds of each task that ran."""
        return {key: t.seconds for key, t in self.times.items()}

    def by_step(self) -> dict[str, float]:
        """Seconds of each step, most first."""
        total: dict[str, float] = defaultdict(float)
        for t in self.times.values():
            total[t.step] += t.seconds
        return dict(sorted(total.items(), key=lambda item: -item[1]))


# ---------------------------------------------------------------------------------------------------------------------
# What is run, and what is kept
# ---------------------------------------------------------------------------------------------------------------------


def pure_part(graph: Graph, impure: Collection[str]) -> tuple[Graph, dict[str, str]]:
    """The Graph without the tasks of some copies of steps and without all that needs them; step -> why it is left out.

    Parameters
    ----------
    impure : copies whose tasks have effects outside
    """
    users = dependents_in_order({**graph.tasks, CONTEXT: constant(CONTEXT, None)})
    step = {copy: policy.step for copy, policy in graph.policies.items()}
    reasons: dict[str, str] = {}
    left: set[Key] = set()
    stack = [key for key in graph.tasks if graph.owners[key] in impure]
    first = set(stack)
    while stack:
        key = stack.pop()
        if key in left:
            continue
        left.add(key)
        why = "has effects outside (pure: false)" if key in first else "needs a step that has effects outside"
        name = step[graph.owners[key]]
        if name not in reasons or key in first:
            reasons[name] = why
        stack += users[key]
    if not left:
        return graph, {}
    tasks = {key: node for key, node in graph.tasks.items() if key not in left}
    wanted = tuple(key for key in graph.wanted if key in tasks)
    sinks = tuple(sink for sink in graph.sinks if all(key in tasks for key in sink.records))
    return replace(graph, tasks=tasks, wanted=wanted, sinks=sinks), reasons


def layer_of(key: Key) -> str:
    """What the tasks that do the same have in common.

    >>> layer_of(("parsed.counts", 7)), layer_of("x")
    ('parsed.counts', 'x')
    """
    return str(key[0] if isinstance(key, tuple) and key else key)


def candidates(graph: Graph, order: Sequence[Key], without: Collection[str] = ()) -> set[Key]:
    """The tasks whose inputs are to be kept: of each layer the first in the order, and others at even distances.

    Parameters
    ----------
    without : copies of steps of which none is kept
    """
    layers: dict[tuple[str, str], list[Key]] = defaultdict(list)
    for key in order:
        node = graph.tasks[key]
        if is_constant(node) or graph.owners[key] in without or CONTEXT in dependencies(node):
            continue
        layers[graph.policies[graph.owners[key]].step, layer_of(key)].append(key)
    found: set[Key] = set()
    for keys in layers.values():
        n = min(N_CANDIDATES, len(keys))
        found |= {keys[i * len(keys) // n] for i in range(n)}
    return found


def choose(sampled: Sampled, step: str, n: int = N_SAMPLES) -> list[Kept]:
    """The kept tasks of a step that stand for it: of its most expensive layer, the nearest to the median first.

    As many as ``n``, but a single one where it takes long enough for a probe by itself.
    """
    total: Counter[str] = Counter()
    each: dict[str, list[float]] = defaultdict(list)
    for t in sampled.times.values():
        if t.step == step:
            total[t.layer] += t.seconds  # type: ignore[assignment]  # a Counter adds up floats as well
            each[t.layer].append(t.seconds)
    kept = [k for k in sampled.kept if k.step == step and k.key in sampled.times]
    for layer, _ in total.most_common():
        some = [k for k in kept if k.layer == layer]
        if some:
            middle = median(each[layer])
            some.sort(key=lambda k: abs(sampled.times[k.key].seconds - middle))
            return some[: 1 if sampled.times[some[0].key].seconds > _LONG else n]
    return []


def byte_limits(folder: Path, n_workers: int) -> tuple[int, int]:
    """Bytes of inputs that may be kept in all, and of one task: each process of a probe holds a copy."""
    free = shutil.disk_usage(folder).free
    memory = psutil.virtual_memory().available
    total = int(min(_MOST, _OF_DISK * free))
    return total, int(min(total, _OF_MEMORY * memory / (n_workers + 1)))


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
        self.segments = coarsen(graph, n_workers=plan.n_workers)
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

    def _task(self, inner: Inner, segment: Segment, values: dict[Any, Any]) -> None:
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
            if completion.failure is None:
                break
            if attempt == attempts - 1:
                self._flush()
                raise completion.failure.error()
        values.update(completion.outputs)
        for m in completion.measured:
            self.told.append(("ran", self.position[m.key], (m.stop - m.start) / 1e9, m.cpu / 1e9))

    def _keep(self, inner: Inner, segment: Segment, values: Mapping[Any, Any]) -> None:
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
        self.told.append(("kept", Kept(str(inner.key), step, layer_of(inner.key), path, nbytes)))

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
    file, setup : the saved Graph, and what :func:`pipeline.backends.children.write_setup` wrote of it
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
    with Team(1, _serve, plan, slot) as team:
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


def _reports(team: Team, deadline: float) -> Iterator[list[tuple[Any, ...]]]:
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
