"""Rank what to change in the file by the time that it should save: predictions, and marked as such.

The elapsed time on n workers is predicted by Amdahl's law over the steps: each takes its serial time over its measured
ratio. It is at least the length of a schedule of the graph with the serial run's task times, with the moving of values
and the overhead of tasks added where the workers are processes. A step that was not probed counts as scaling. The text
of a change is made in :mod:`pipeline.report.explain_cause_text`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipeline.experiments.comparison.tuning_knobs import TuningKnob, two_digits
from pipeline.experiments.explanation.diagnosis import FASTER, FINE, NESTED, Cause, Overhead, Structure
from pipeline.experiments.explanation.measurements import ProbeTimes, StepMeasurements
from pipeline.experiments.explanation.structure import scheduled
from pipeline.graph.segments import Segment

__all__ = ["Change", "Model", "changes"]

_LEAST = 0.1  # share of the time that a change must save to be listed: runs differ by less
# Share of the seconds saved that counts for the rank of a change of the step's code: a setting that saves nearly as
# much comes first.
_BY_HAND = 0.75
Way = Literal["threads", "processes"]


@dataclass(frozen=True)
class Change:
    """Something to change.

    Parameters
    ----------
    step : the step whose cause it answers
    action : the key of its text in :mod:`pipeline.report.explain_cause_text`
    before, after : predicted seconds on n workers; None: no prediction
    by_hand : the step's own code must be changed, and the gain depends on how
    kind : of the cause that it answers
    knob : the key of the file to change, if there is one
    n : number of workers, of items in a batch, or of pieces
    backend : the back end to use
    numbers : what else the text contains
    """

    step: str
    action: str
    before: float | None = None
    after: float | None = None
    by_hand: bool = False
    kind: str = ""
    knob: TuningKnob | None = None
    n: int = 0
    backend: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def saves(self) -> float:
        """Return the seconds saved; 0 where nothing can be predicted."""
        return self.before - self.after if self.before is not None and self.after is not None else 0.0

    @property
    def key(self) -> Hashable:
        """Return what identifies the change: the same one may answer the causes of several steps."""
        if self.backend:
            return self.backend
        if self.action in _OF_THE_FILE:
            return self.action, self.n
        in_code = self.knob is None or self.action == "less memory"
        return (self.action, self.step) if in_code or self.knob is None else self.knob.path


_OF_THE_FILE = frozenset({"more threads", "processes", "one BLAS thread", "one worker", "no chain"})


@dataclass(frozen=True, eq=False)
class Model:
    """The data of a prediction.

    Parameters
    ----------
    segments : of the graph, fused for the workers
    seconds : task's key as text -> serial seconds
    owner : task's key as text -> step
    structure : of the graph
    measurements : by step, of those that were probed
    overheads : of an empty task, by back end, of those that were measured
    knobs : step -> the key that sets the size of its tasks
    way : how the file runs now
    """

    segments: Sequence[Segment]
    seconds: Mapping[str, float]
    owner: Mapping[str, str]
    structure: Structure
    measurements: Mapping[str, StepMeasurements]
    overheads: Mapping[str, Overhead]
    knobs: Mapping[str, TuningKnob]
    way: Way = "processes"

    @property
    def n_workers(self) -> int:
        return self.structure.n_workers

    def overhead(self, way: Way) -> Overhead | None:
        """Return the overhead of a back end that runs in that way: of dask, the default, before ``processes``."""
        if way == "threads":
            return self.overheads.get("threads")
        return self.overheads.get("dask") or self.overheads.get("processes")

    @property
    def by_step(self) -> dict[str, float]:
        """Return the serial seconds of each step."""
        total: dict[str, float] = {}
        for key, seconds in self.seconds.items():
            total[self.owner[key]] = total.get(self.owner[key], 0.0) + seconds
        return total

    def elapsed(
        self,
        way: Way,
        *,
        ratios: Mapping[str, float] | None = None,
        moving: bool = True,
        overhead: float | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> float:
        """Predict the seconds on n workers.

        Parameters
        ----------
        way : threads of one process, or processes
        ratios : speedups of some steps, instead of the measured ones
        moving : whether values are moved between processes
        overhead : seconds a segment, instead of the measured ones
        seconds : of the tasks, instead of the measured ones
        """
        n, times = self.n_workers, dict(seconds or self.seconds)
        by_step, amdahl = self.by_step, 0.0
        moved = {}
        for step, serial in by_step.items():
            r = self.measurements.get(step)
            ratio = (ratios or {}).get(step) or (_ratio(r, way) if r is not None else float(n))
            moved[step] = r.moved_share if r is not None and way == "processes" and moving else 0.0
            amdahl += serial / max(ratio, 1e-9) + serial * moved[step] / n
        if overhead is None:
            overhead = _each(self.overhead(way))
        amdahl += overhead * sum(bool(s.tasks) for s in self.segments) / n
        times = {key: s * (1 + moved[self.owner[key]]) for key, s in times.items()}
        return max(amdahl, scheduled(self.segments, times, n, overhead))


def _ratio(r: StepMeasurements, way: Way) -> float:
    return r.scaling(r.threads if way == "threads" else r.processes)


def _each(overhead: Overhead | None) -> float:
    """Return the core-seconds of an empty task."""
    return overhead.seconds * overhead.n_workers if overhead is not None else 0.0


def changes(model: Model, causes: Mapping[str, Sequence[Cause]]) -> tuple[Change, ...]:
    """Return what to change, ordered by the seconds saved; changes without a prediction come last.

    Parameters
    ----------
    causes : by step, the most expensive step first
    """
    found: dict[Hashable, Change] = {}
    for step, some in causes.items():
        for cause in some:
            for change in _ANSWERS.get(cause.kind, _nothing)(model, step):
                large = change.before is None or change.saves >= _LEAST * change.before
                if large and change.key not in found:
                    found[change.key] = replace(change, kind=cause.kind)
    return tuple(sorted(found.values(), key=lambda change: -change.saves * (_BY_HAND if change.by_hand else 1.0)))


# ---------------------------------------------------------------------------------------------------------------------
# One function for each cause
# ---------------------------------------------------------------------------------------------------------------------


def _nothing(model: Model, step: str) -> list[Change]:
    return []


def _waiting(model: Model, step: str) -> list[Change]:
    r = model.measurements[step]
    many: ProbeTimes = r.many or r.threads
    before = model.elapsed(model.way)
    after = sum(
        seconds / max(_ratio_of_many(model.measurements.get(name), model.n_workers), 1e-9)
        for name, seconds in model.by_step.items()
    )
    after = max(after, scheduled(model.segments, model.seconds, many.n_workers))
    return [Change(step, "more threads", before, after, n=many.n_workers)]


def _ratio_of_many(r: StepMeasurements | None, n_workers: int) -> float:
    """Return the ratio of more threads than cores if they were tried, else of threads; n if it was not probed."""
    return float(n_workers) if r is None else r.ratio(r.many or r.threads)


def _gil(model: Model, step: str) -> list[Change]:
    before, after = model.elapsed("threads"), model.elapsed("processes")
    return [Change(step, "processes", before, after)]


def _bandwidth(model: Model, step: str) -> list[Change]:
    r = model.measurements[step]
    best = max(r.ratio(r.threads), r.ratio(r.processes))
    before = model.elapsed(model.way)
    after = model.elapsed(model.way, ratios={step: min(float(r.n_workers), 2 * best)})
    return [Change(step, "less memory", before, after, knob=_chunks(model, step))]


def _oversubscription(model: Model, step: str) -> list[Change]:
    r = model.measurements[step]
    if r.one.busy > NESTED:
        return [Change(step, "no own threads", numbers={"busy": r.one.busy})]
    both = r.blas_processes
    if both is not None and r.ratio(r.processes) >= FASTER * r.ratio(both):
        before = model.elapsed("processes", ratios={step: r.scaling(both)})
        return [Change(step, "one BLAS thread", before, model.elapsed("processes"))]
    if r.blas is not None and r.ratio(r.blas) >= FASTER:
        return [Change(step, "one worker")]
    return []


def _transfer(model: Model, step: str) -> list[Change]:
    r = model.measurements[step]
    before = model.elapsed("processes")
    found = []
    after = model.elapsed("threads")
    if after < before:
        found.append(Change(step, "threads", before, after, backend="threads"))
    without = replace(r, moved=None)
    after = replace(model, measurements={**model.measurements, step: without}).elapsed("processes")
    found.append(Change(step, "reduce", before, after, by_hand=True))
    return found


def _long_task(model: Model, step: str) -> list[Change]:
    s = model.structure
    before = model.elapsed(model.way)
    pieces = {**model.seconds, s.longest_task: s.longest / s.n_workers}
    # its pieces run at the same time, and nothing else with them: the rest is scheduled as before
    after = model.elapsed(model.way, seconds=pieces)
    numbers = {"task": s.longest_task}
    return [Change(step, "split", before, after, knob=_chunks(model, step), n=s.n_workers, numbers=numbers)]


def _few_tasks(model: Model, step: str) -> list[Change]:
    before = model.elapsed(model.way)
    after = before * model.structure.after / model.structure.schedule
    return [Change(step, "more tasks", before, after, knob=_chunks(model, step), n=model.n_workers)]


def _chain(model: Model, step: str) -> list[Change]:
    return [Change(step, "no chain", numbers={"most": model.structure.most})]


def _chunks(model: Model, step: str) -> TuningKnob | None:
    """Return the key of the file that sets the chunks of a step, if there is one."""
    knob = model.knobs.get(step)
    return knob if knob is not None and knob.kind == "chunks" else None


def _tiny(model: Model, step: str) -> list[Change]:
    used = model.overhead("processes")
    if used is None:
        return []
    knob = model.knobs.get(step)
    each = _each(used)
    mine = [s for s in model.segments if any(model.owner.get(str(inner.key)) == step for inner in s.tasks)]
    serial = model.by_step[step]
    n = len(mine)
    if not n or not serial:
        return []
    together = max(2, min(math.ceil(FINE * each * n / serial), -(-n // model.n_workers)))
    before = model.elapsed("processes")
    fewer = n - -(-n // together)
    n_all = sum(bool(s.tasks) for s in model.segments)
    after = model.elapsed("processes", overhead=each * (1 - fewer / n_all))
    found = []
    ways: tuple[Way, ...] = ("processes", "threads")
    for way in ways:
        other = model.overheads.get(way)
        if other is not None and other is not used and other.seconds < used.seconds:
            after_other = model.elapsed(way, overhead=_each(other))
            numbers = {"used": used.backend}
            found.append(Change(step, "backend", before, after_other, backend=way, numbers=numbers))
    if knob is not None and knob.kind == "batch":
        n_items = sum(len([i for i in s.tasks if model.owner.get(str(i.key)) == step]) for s in mine)
        batch = max(2, two_digits(together * n_items // n))
        return [Change(step, "batch", before, after, knob=knob, n=batch), *found]
    return [Change(step, "larger", before, after, knob=knob, n=together), *found]


_ANSWERS = {
    "waiting": _waiting,
    "gil": _gil,
    "bandwidth": _bandwidth,
    "oversubscription": _oversubscription,
    "transfer": _transfer,
    "long task": _long_task,
    "few tasks": _few_tasks,
    "chain": _chain,
    "tiny": _tiny,
}
