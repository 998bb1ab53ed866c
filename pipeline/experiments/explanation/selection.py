"""Choose the tasks whose inputs are saved, and those of them that the probes run.

The tasks to save are chosen before any has run, since their inputs are gone afterwards: the first of each layer of a
step (tasks whose keys begin alike do the same) and others at even distances. When all times are known, the probes take
those of the layer that took most of the step's time, the nearest to its median first.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from pipeline.experiments.explanation.saved_task import SavedTask
from pipeline.graph.graph import CONTEXT, Graph, Key
from pipeline.graph.nodes import constant, dependencies, dependents_in_order, is_constant

__all__ = ["Batch", "Sampled", "TaskTime", "batches", "byte_limits", "candidates", "choose", "layer_of", "pure_part"]

N_CANDIDATES = 6  # tasks of a layer whose inputs are saved
N_SAMPLES = 3  # tasks of a step that the probes run
_OF_DISK = 0.25  # share of the free disk space that the saved inputs may take
_OF_MEMORY = 0.25  # share of the free memory that the inputs of one step may take in all processes of a probe
_MOST = 2e9  # bytes of saved inputs, however large the machine is
_LONG = 0.2  # seconds of a task that is long enough for a probe by itself


class TaskTime(NamedTuple):
    """One task that ran, with its wall time in seconds."""

    step: str
    layer: str
    seconds: float


@dataclass
class Sampled:
    """The result of the serial run.

    Parameters
    ----------
    times : key of a task, as text -> its time, for those that ran
    saved : tasks with their inputs
    refused : step -> why its inputs could not be saved
    complete : all tasks ran
    cut : the task that was killed at the deadline: key, step, seconds that it had run
    """

    times: dict[str, TaskTime] = field(default_factory=dict)
    saved: list[SavedTask] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    cut: tuple[str, str, float] | None = None

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each task that ran."""
        return {key: t.seconds for key, t in self.times.items()}

    def by_step(self) -> dict[str, float]:
        """Return the seconds of each step, the most expensive first."""
        total: dict[str, float] = defaultdict(float)
        for t in self.times.values():
            total[t.step] += t.seconds
        return dict(sorted(total.items(), key=lambda item: -item[1]))


def pure_part(graph: Graph, impure: Collection[str]) -> tuple[Graph, dict[str, str]]:
    """Return the Graph without some steps and everything that needs them, and for each step why it is left out.

    Parameters
    ----------
    impure : instances of steps whose tasks have effects outside
    """
    users = dependents_in_order({**graph.tasks, CONTEXT: constant(CONTEXT, None)})
    step = {name: policy.step for name, policy in graph.policies.items()}
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
    """Return the layer of a task: the first part of its key, which tasks that do the same have in common.

    >>> layer_of(("parsed.counts", 7)), layer_of("x")
    ('parsed.counts', 'x')
    """
    return str(key[0] if isinstance(key, tuple) and key else key)


def candidates(graph: Graph, order: Sequence[Key], without: Collection[str] = ()) -> set[Key]:
    """Return the tasks to save: of each layer the first in the order, and others at even distances.

    Parameters
    ----------
    without : instances of steps of which none is saved
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


def choose(sampled: Sampled, step: str, n: int = N_SAMPLES) -> list[SavedTask]:
    """Return the saved tasks that the probes of a step run: of its most expensive layer, nearest to the median first.

    There are at most ``n``, and a single one if it takes long enough for a probe by itself.
    """
    total: Counter[str] = Counter()
    each: dict[str, list[float]] = defaultdict(list)
    for t in sampled.times.values():
        if t.step == step:
            total[t.layer] += t.seconds  # type: ignore[assignment]  # a Counter adds up floats as well
            each[t.layer].append(t.seconds)
    saved = [one for one in sampled.saved if one.step == step and one.key in sampled.times]
    for layer, _ in total.most_common():
        some = [one for one in saved if one.layer == layer]
        if some:
            middle = median(each[layer])
            some.sort(key=lambda one: abs(sampled.times[one.key].seconds - middle))
            return some[: 1 if sampled.times[some[0].key].seconds > _LONG else n]
    return []


@dataclass(frozen=True)
class Batch:
    """Saved tasks that are probed together, and the steps that they stand for."""

    steps: tuple[str, ...]
    saved: tuple[SavedTask, ...]


def batches(
    steps: Sequence[str], sampled: Sampled, links: Collection[str], *, most: float, longest: float
) -> list[Batch]:
    """Return the batches to probe, in the order of the steps: a batch for each step, and one for the links of a chain.

    Beginning a probe takes longer than most links run, and more workers make no link faster: they are diagnosed
    together.

    Parameters
    ----------
    steps : the most expensive first
    links : steps that are links of a chain, of one task each
    most, longest : bytes of inputs and seconds of the links in one batch; further ones get another batch
    """
    found: list[Batch] = []
    chain = None  # index of the last batch of links
    for step in steps:
        saved = tuple(choose(sampled, step))
        if step in links and chain is not None:
            both = (*found[chain].saved, *saved)
            seconds = sum(sampled.times[one.key].seconds for one in both)
            if sum(one.nbytes for one in both) <= most and seconds <= longest:
                found[chain] = Batch((*found[chain].steps, step), both)
                continue
        chain = len(found) if step in links else chain
        found.append(Batch((step,), saved))
    return found


def byte_limits(folder: Path, n_workers: int) -> tuple[int, int]:
    """Return the bytes of inputs that may be saved in all, and of one task; each process of a probe holds a copy."""
    free = shutil.disk_usage(folder).free
    memory = psutil.virtual_memory().available
    total = int(min(_MOST, _OF_DISK * free))
    return total, int(min(total, _OF_MEMORY * memory / (n_workers + 1)))
