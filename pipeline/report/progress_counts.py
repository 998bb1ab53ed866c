"""The progress of a run: tasks done and failed of each step, and an estimate of the time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from pipeline.backends.events import (
    Event,
    ItemDropped,
    MetadataRead,
    Note,
    TaskFailed,
    TaskRetry,
    TasksDone,
    WorkerLoss,
)
from pipeline.graph.graph import Graph
from pipeline.graph.nodes import is_constant
from pipeline.runs.folders import RUN
from pipeline.runs.history.schema import RunFacts, Unreadable, document
from pipeline.trace.time_left import Estimate, PreviousRun, TimeLeft
from pipeline.units import count_text

__all__ = ["COUNTED", "Counts", "Step", "earlier_run"]

COUNTED = (TasksDone, TaskRetry, ItemDropped, MetadataRead)
"""Events that are only counted; a message is shown for each of the others."""


@dataclass
class Step:
    """The progress of a step, with all its instances; times are those of the clock of :class:`Counts`."""

    name: str
    n_tasks: int
    n_items: int = 0
    done: int = 0
    retried: int = 0
    dropped: int = 0
    lost: int = 0
    failed: int = 0
    first: float | None = None
    last: float | None = None

    @property
    def ended(self) -> bool:
        return self.done + self.failed >= self.n_tasks

    @property
    def elapsed(self) -> float:
        """Seconds between its first and its last finished task."""
        return 0.0 if self.first is None or self.last is None else self.last - self.first

    def units(self) -> tuple[int, int]:
        """Return the number done and the total: of items (of several tasks each, with parts), or of tasks."""
        each = max(1, self.n_tasks // self.n_items) if self.n_items else 1
        return self.done // each, self.n_tasks // each

    def extras(self) -> str:
        """Return the counts of failures, lost workers, retries and dropped items as text."""
        pairs = (
            (self.failed, f"{self.failed:,} failed"),
            (self.lost, count_text(self.lost, "worker lost", "workers lost")),
            (self.retried, f"{self.retried:,} retried"),
            (self.dropped, f"{self.dropped:,} dropped"),
        )
        return ", ".join(text for n, text in pairs if n)


@dataclass
class Counts:
    """The progress of all steps of one run. States: empty -> begun -> all steps ended.

    Parameters
    ----------
    clock : seconds, monotonic
    runs : folder with the folders of earlier runs, for the estimate of the time left; None for no earlier runs
    metadata : the files read up to now, before there are steps; None where that took no time
    """

    clock: Callable[[], float] = time.perf_counter
    runs: str | Path | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    metadata: MetadataRead | None = None
    _step_of: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._estimate = Estimate(self.clock)

    def begin(self, graph: Graph) -> None:
        """Set the steps, in the order of the file, and their numbers of tasks; constants are not counted."""
        self._step_of = {instance: policy.step for instance, policy in graph.policies.items()}
        for instance, name in self._step_of.items():
            self.steps.setdefault(name, Step(name, 0)).n_items += len(graph.policies[instance].items or ())
        for key, node in graph.tasks.items():
            if not is_constant(node):
                self.steps[self._step_of[graph.owners[key]]].n_tasks += 1
        for name in [name for name, step in self.steps.items() if not step.n_tasks]:
            del self.steps[name]
        earlier = earlier_run(self.runs, graph) if self.runs is not None else None
        self._estimate.begin({name: step.n_tasks for name, step in self.steps.items()}, earlier)

    def count(self, event: Event) -> Step | None:
        """Count one event; return the step if the event ended it."""
        if isinstance(event, MetadataRead):
            self.metadata = event
            return None
        step = None if isinstance(event, Note) else self.of(event.step)
        if step is None:
            return None
        if isinstance(event, TasksDone):
            return step if self._finished(step, event) else None
        if isinstance(event, TaskRetry):
            step.retried += 1
        elif isinstance(event, ItemDropped):
            step.dropped += 1
        elif isinstance(event, TaskFailed):
            was, step.failed = step.ended, step.failed + 1
            return step if step.ended and not was else None
        elif isinstance(event, WorkerLoss):
            step.lost += 1
        return None

    def fail(self, error: object) -> None:
        """Count the error that ended the run, if it belongs to a step."""
        step = self.of(str(getattr(error, "step", "")))
        if step is not None:
            step.failed += 1

    def _finished(self, step: Step, event: TasksDone) -> bool:
        step.last = self.clock()
        step.first = step.last if step.first is None else step.first
        was = step.ended
        step.done = min(
            step.done + event.count, step.n_tasks
        )  # a task whose result was lost with a worker is done twice
        self._estimate.finished(step.name, event.count, event.seconds)
        return step.ended and not was

    def of(self, instance: str) -> Step | None:
        """Return the step of an instance, None if it has no tasks."""
        return self.steps.get(self.name_of(instance))

    def name_of(self, instance: str) -> str:
        """Return the name of the step of an instance."""
        return self._step_of.get(instance, instance)

    def left(self) -> TimeLeft:
        """Return an estimate of the time left."""
        return self._estimate.left()

    @property
    def n_tasks(self) -> int:
        return sum(step.n_tasks for step in self.steps.values())

    @property
    def done(self) -> int:
        return sum(step.done for step in self.steps.values())


_MOST_FOLDERS = 20  # the latest run folders, which are searched


def earlier_run(runs: str | Path, graph: Graph) -> PreviousRun | None:
    """Return what the latest run of this very Graph took, from its ``run.json`` below ``runs``; None if there is none.

    A file that can't be read is passed over: the time left is not worth a failed run.
    """
    for path in islice(sorted(Path(runs, graph.name).glob(f"*/{RUN}"), reverse=True), _MOST_FOLDERS):
        with suppress(Unreadable):
            facts = RunFacts.of(document(path), RUN)
            if facts.elapsed and not facts.problem and facts.fingerprint == graph.fingerprint:
                total = sum(step.seconds for step in facts.steps.values())
                each = {name: step.seconds / step.n_tasks for name, step in facts.steps.items() if step.n_tasks}
                return PreviousRun(each, total / facts.elapsed) if total else None
    return None
