"""What to change in the file, ranked by what it should save: predictions, and marked as such.

The elapsed time on n workers is predicted by Amdahl's law over the steps: each takes its serial time over its measured
ratio, and no less than a schedule of the graph with the serial run's task times, to which the moving of values and the
overhead of tasks are added where the workers are processes. A step that was not probed counts as scaling, before a
change and after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pipeline.experiments.comparison.reasons import TuningKnob, two_digits
from pipeline.experiments.explanation.diagnosis import FASTER, FINE, NESTED, Cause, Overhead, Structure
from pipeline.experiments.explanation.measurements import ProbeTimes, StepMeasurements
from pipeline.experiments.explanation.structure import scheduled
from pipeline.graph.segments import Segment
from pipeline.units import ratio_text

__all__ = ["Change", "Model", "changes"]

_LEAST = 0.1  # of the time before, that a change must save to be told of: less changes from run to run anyway
_BY_HAND = (
    0.75  # of what a change of the step's code saves, for its rank: a switch that saves nearly as much is before it
)
Way = Literal["threads", "processes"]


@dataclass(frozen=True)
class Change:
    """Something to change.

    Parameters
    ----------
    step : whose cause it answers
    what : as it is written in the file or on the command line
    why : what it is compared with, or what it does; a few words
    before, after : predicted seconds on n workers; None: it can't be predicted
    kind : of the cause that it answers
    by_hand : the step's own code must be changed, and by how much it helps depends on that
    """

    step: str
    what: str
    why: str
    before: float | None = None
    after: float | None = None
    by_hand: bool = False
    kind: str = ""

    @property
    def saves(self) -> float:
        """Seconds; 0 where nothing can be predicted."""
        return self.before - self.after if self.before is not None and self.after is not None else 0.0

    def to_dict(self) -> dict[str, Any]:
        """In the types that JSON has."""
        return asdict(self) | {"saves": self.saves}


@dataclass(frozen=True, eq=False)
class Model:
    """What a prediction is made of.

    Parameters
    ----------
    segments : as coarsened for the workers
    seconds : task's key as text -> serial seconds
    owner : task's key as text -> step
    structure : of the graph
    measurements : by step, of the probed ones
    overheads : of an empty task, by back end; of those that were measured
    knobs : step -> where the file says how large its tasks are
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
        """Of the back end that runs in that way: of dask, which is the default, before ``processes``."""
        if way == "threads":
            return self.overheads.get("threads")
        return self.overheads.get("dask") or self.overheads.get("processes")

    @property
    def by_step(self) -> dict[str, float]:
        """Serial seconds of each step."""
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
        """Predicted seconds on n workers.

        Parameters
        ----------
        way : threads of one process, or processes
        ratios : of some steps, in the place of the measured ones
        moving : whether values are moved between processes
        overhead : seconds a segment, in the place of the measured ones
        seconds : of the tasks, in the place of the measured ones
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
    """Core-seconds of an empty task."""
    return overhead.seconds * overhead.n_workers if overhead is not None else 0.0


def changes(model: Model, causes: Mapping[str, Sequence[Cause]]) -> tuple[Change, ...]:
    """What to change, most seconds saved first; what can't be predicted comes last, in the order of the steps' costs.

    Parameters
    ----------
    causes : by step, the steps that cost most first
    """
    found: dict[str, Change] = {}
    for step, some in causes.items():
        for cause in some:
            for change in _ANSWERS.get(cause.kind, _nothing)(model, step):
                large = change.before is None or change.saves >= _LEAST * change.before
                if large and change.what not in found:
                    found[change.what] = replace(change, kind=cause.kind)
    return tuple(sorted(found.values(), key=lambda change: -change.saves * (_BY_HAND if change.by_hand else 1.0)))


# ---------------------------------------------------------------------------------------------------------------------
# One function a cause
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
    n = many.n_workers
    where = f"cluster: {{workers: 1, threads_per_worker: {n}}}"
    return [
        Change(step, f"--backend threads --workers {n}", f"waiting needs no core; with dask {where}", before, after)
    ]


def _ratio_of_many(r: StepMeasurements | None, n_workers: int) -> float:
    """Of more threads than cores, where they were tried, else of threads; of a step that was not probed, all."""
    return float(n_workers) if r is None else r.ratio(r.many or r.threads)


def _gil(model: Model, step: str) -> list[Change]:
    before, after = model.elapsed("threads"), model.elapsed("processes")
    return [Change(step, "--backend processes, not threads", "dask's workers are processes, too", before, after)]


def _bandwidth(model: Model, step: str) -> list[Change]:
    r = model.measurements[step]
    best = max(r.ratio(r.threads), r.ratio(r.processes))
    before = model.elapsed(model.way)
    after = model.elapsed(model.way, ratios={step: min(float(r.n_workers), 2 * best)})
    knob = model.knobs.get(step)
    smaller = f"smaller {knob.path}" if knob is not None and knob.kind == "chunks" else "smaller chunks"
    return [Change(step, f"half the bytes in `{step}`: float32, or {smaller} that fit the cache, or fewer passes",
                   "more workers don't help", before, after)]  # fmt: skip


def _oversubscription(model: Model, step: str) -> list[Change]:
    r = model.measurements[step]
    if r.one.busy > NESTED:
        each = f"each of its tasks keeps {r.one.busy:.1f} cores busy"
        return [Change(step, f"no threads inside `{step}`, or fewer workers", each)]
    both = r.blas_processes
    if both is not None and r.ratio(r.processes) >= FASTER * r.ratio(both):
        before = model.elapsed("processes", ratios={step: r.scaling(both)})
        return [Change(step, "BLAS on 1 thread a worker", "Pipeline's default: start no threads in the step",
                       before, model.elapsed("processes"))]  # fmt: skip
    if r.blas is not None and r.ratio(r.blas) >= FASTER:
        return [
            Change(step, "1 worker with all cores for BLAS, or n workers with 1 each", f"both are as fast for `{step}`")
        ]
    return []


def _transfer(model: Model, step: str) -> list[Change]:
    r = model.measurements[step]
    before = model.elapsed("processes")
    found = []
    after = model.elapsed("threads")
    if after < before:
        found.append(Change(step, "--backend threads", "nothing is moved", before, after))
    without = replace(r, moved=None)
    after = replace(model, measurements={**model.measurements, step: without}).elapsed("processes")
    found.append(Change(step, f"reduce in `{step}` before handing on", "moving next to nothing, in processes",
                        before, after, by_hand=True))  # fmt: skip
    return found


def _long_task(model: Model, step: str) -> list[Change]:
    s = model.structure
    before = model.elapsed(model.way)
    pieces = {**model.seconds, s.longest_task: s.longest / s.n_workers}
    # its pieces run beside each other, and nothing else meanwhile: the rest is scheduled as it was
    after = model.elapsed(model.way, seconds=pieces)
    knob = model.knobs.get(step)
    how = f"smaller {knob.path}" if knob is not None and knob.kind == "chunks" else f"split the long task of `{step}`"
    return [Change(step, how, f"{s.longest_task}, into {s.n_workers}; else start it first", before, after)]


def _chain(model: Model, step: str) -> list[Change]:
    most = model.structure.most
    return [
        Change(
            step,
            "independent pieces in the place of a chain",
            f"{ratio_text(most)} is the most on any number of workers",
        )
    ]


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
            found.append(Change(step, f"--backend {way}", f"a task costs less there than on {used.backend}",
                                before, after_other))  # fmt: skip
    if knob is not None and knob.kind == "batch":
        n_items = sum(len([i for i in s.tasks if model.owner.get(str(i.key)) == step]) for s in mine)
        batch = max(2, two_digits(together * n_items // n))
        return [Change(step, f"{knob.path}: {batch}", "fewer, larger tasks", before, after), *found]
    what = f"larger {knob.path}" if knob is not None else f"larger pieces in `{step}`"
    return [Change(step, what, f"about {together} times as much at once", before, after), *found]


_ANSWERS = {
    "waiting": _waiting,
    "gil": _gil,
    "bandwidth": _bandwidth,
    "oversubscription": _oversubscription,
    "transfer": _transfer,
    "long task": _long_task,
    "chain": _chain,
    "tiny": _tiny,
}
