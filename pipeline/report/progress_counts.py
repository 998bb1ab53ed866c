"""How far a run is: how many tasks of each step are done, what else happened to them, and what is left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.backends.events import Event, ItemDropped, Note, TaskRetry, TasksDone, WorkerLoss
from pipeline.trace.time_left import Estimate, PreviousRun, TimeLeft
from pipeline.trace.trace import Trace
from pipeline.units import count_text

if TYPE_CHECKING:
    from pipeline.graph.graph import Graph


__all__ = ["COUNTED", "Counts", "Step"]

COUNTED = (TasksDone, TaskRetry, ItemDropped)
"""Kinds of events that only a count tells of; the others are told as they come."""


@dataclass
class Step:
    """How far one step is, all its copies together; times are of the clock that the counts use."""

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
        return self.done >= self.n_tasks

    @property
    def elapsed(self) -> float:
        """Seconds between its first and its last finished task."""
        return 0.0 if self.first is None or self.last is None else self.last - self.first

    def units(self) -> tuple[int, int]:
        """Done, and in all: items where it makes some, of which one with parts is several tasks; else tasks."""
        each = max(1, self.n_tasks // self.n_items) if self.n_items else 1
        return self.done // each, self.n_tasks // each

    def extras(self) -> str:
        """What else happened: failures, lost workers, retries and dropped items."""
        pairs = (
            (self.failed, f"{self.failed:,} failed"),
            (self.lost, count_text(self.lost, "worker lost", "workers lost")),
            (self.retried, f"{self.retried:,} retried"),
            (self.dropped, f"{self.dropped:,} dropped"),
        )
        return ", ".join(text for n, text in pairs if n)


@dataclass
class Counts:
    """How many tasks of each step are done. States: nothing known -> begun -> all ended; one run long.

    Parameters
    ----------
    clock : seconds, monotonic
    runs : where the folders of earlier runs are; None: none is looked at
    """

    clock: Callable[[], float] = time.perf_counter
    runs: str | Path | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    _step_of: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._estimate = Estimate(self.clock)

    def begin(self, graph: Graph) -> None:
        """Learn the steps, in the order of the file, and their numbers of tasks (constants cost nothing: left out)."""
        from pipeline.graph.graph import is_constant

        self._step_of = {copy: policy.step for copy, policy in graph.policies.items()}
        for copy, name in self._step_of.items():
            self.steps.setdefault(name, Step(name, 0)).n_items += len(graph.policies[copy].items or ())
        for key, node in graph.tasks.items():
            if not is_constant(node):
                self.steps[self._step_of[graph.owners[key]]].n_tasks += 1
        for name in [name for name, step in self.steps.items() if not step.n_tasks]:
            del self.steps[name]
        earlier = earlier_run(self.runs, graph) if self.runs is not None else None
        self._estimate.begin({name: step.n_tasks for name, step in self.steps.items()}, earlier)

    def count(self, event: Event) -> Step | None:
        """Take one event into account; gives the step that this event ended."""
        step = None if isinstance(event, Note) else self.of(event.step)
        if step is None:
            return None
        if isinstance(event, TasksDone):
            return step if self._finished(step, event) else None
        if isinstance(event, TaskRetry):
            step.retried += 1
        elif isinstance(event, ItemDropped):
            step.dropped += 1
        elif isinstance(event, WorkerLoss):
            step.lost += 1
        return None

    def fail(self, error: object) -> None:
        """Take into account what ended the run, where it names a step."""
        step = self.of(str(getattr(error, "step", "")))
        if step is not None:
            step.failed += 1

    def _finished(self, step: Step, event: TasksDone) -> bool:
        step.last = self.clock()
        step.first = step.last if step.first is None else step.first
        was = step.ended
        step.done = min(step.done + event.count, step.n_tasks)  # a task that a lost worker had done is done twice
        self._estimate.finished(step.name, event.count, event.seconds)
        return step.ended and not was

    def of(self, copy: str) -> Step | None:
        """The step that a copy is of; None where it has no tasks."""
        return self.steps.get(self._step_of.get(copy, copy))

    def name_of(self, copy: str) -> str:
        """The name in the file of the step that a copy is of."""
        return self._step_of.get(copy, copy)

    def left(self) -> TimeLeft:
        """What is left of the run."""
        return self._estimate.left()

    @property
    def n_tasks(self) -> int:
        return sum(step.n_tasks for step in self.steps.values())

    @property
    def done(self) -> int:
        return sum(step.done for step in self.steps.values())


__all__ = ["earlier_run"]

_LOOKED_AT = 20  # run folders, from the latest back


def earlier_run(runs: str | Path, graph: Graph) -> PreviousRun | None:
    """What the latest run of this very graph took whose trace is in a folder of ``runs``; None if there is none.

    A trace that can't be read is none: the range is not worth a run.
    """
    for path in islice(_traces(Path(runs, graph.name)), _LOOKED_AT):
        with suppress(OSError, ValueError, TypeError, pa.ArrowException):
            if _graph_of(path) == graph.fingerprint:
                return _taken(Trace.load(path), {copy: policy.step for copy, policy in graph.policies.items()})
    return None


def _traces(folder: Path) -> list[Path]:
    """The traces of the runs of a pipeline, the latest first."""
    return sorted(folder.glob("*/trace.parquet"), reverse=True)


def _graph_of(path: Path) -> str:
    """The fingerprint that stands in the head of a trace; empty where there is none, as in those of older versions."""
    head = json.loads((pq.read_schema(path).metadata or {}).get(b"pipeline", b"{}"))
    return str(head["notes"].get("graph", "")) if head else ""


def _taken(trace: Trace, steps: dict[str, str]) -> PreviousRun | None:
    sums: dict[str, list[float]] = {}
    for copy, start, stop in zip(*(trace.tasks[name].to_pylist() for name in ("step", "start", "stop")), strict=True):
        one = sums.setdefault(steps.get(copy, copy), [0.0, 0])
        one[0], one[1] = one[0] + (stop - start) / 1e9, one[1] + 1
    total = sum(seconds for seconds, _ in sums.values())
    if not total or not trace.elapsed:
        return None
    return PreviousRun({step: seconds / n for step, (seconds, n) in sums.items()}, total / trace.elapsed)
