"""Find the causes in the measurements of a step, and in the structure of the graph. The text is made in `report`.

The order of the questions is the order in which an answer makes the next question meaningless. Tasks that mostly wait
need no core, so nothing that follows applies; tasks with threads of their own are not one worker each; where the
machine gives nothing to a second process that only counts, nothing is known about scaling; and only tasks that are
slower in threads than in processes, at the same CPU time, hold a lock. What no question answers is called unclear: a
wrong cause costs a user a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.experiments.explanation.measurements import NOISE, ProbeTimes, StepMeasurements

__all__ = [
    "FASTER",
    "FINE",
    "GROWN",
    "LOCKED",
    "MOSTLY",
    "MOVING",
    "NESTED",
    "SCALES",
    "WAITS",
    "WHOLE",
    "Bound",
    "Cause",
    "Kind",
    "Overhead",
    "Structure",
    "diagnose",
    "diagnose_structure",
]

WAITS = 0.5
"""CPU seconds a second below which a single worker waits for more than half of its time."""

NESTED = 1.3
"""CPU seconds a second above which a worker with BLAS on one thread has threads or programs of its own."""

SCALES = 0.6
"""Share of what the machine gives to additional workers from which a step scales: for two workers 1.6x. Halfway would
be 1.5x, which another program on the machine can take from a step that scales; it seldom takes so much as 0.4."""

WHOLE = 0.75
"""Share of the additional cores below which the machine does not give them whole: other programs use it, or two of its
cores are hardware threads of one."""

FASTER = 1.25
"""Ratio from which one way of running is called faster than another; twice what repeats may differ by."""

LOCKED = 0.85
"""Share of a core that threads get, over what processes get, below which the threads wait for each other; a busy
machine takes as much from both."""

GROWN = 1.2
"""CPU time a task, over that of a single worker and beyond what counting shows, from which workers share memory or
caches: repeats of tasks that share nothing differ by a tenth."""

MOVING = 0.3
"""Moving over computing from which moving is a cause: with two workers it then costs a quarter of the speedup."""

FINE = 10
"""Times the overhead of a task below which tasks are too short: they lose a tenth of their time to it."""

MOSTLY = 0.5
"""Share of the additional cores below which the machine gives none."""

Kind = Literal[
    "waiting",
    "gil",
    "bandwidth",
    "oversubscription",
    "transfer",
    "long task",
    "few tasks",
    "chain",
    "tiny",
    "none",
    "unclear",
]


@dataclass(frozen=True)
class Cause:
    """Why a step does not scale.

    Parameters
    ----------
    kind : which of the causes
    finding : the evidence: the key of its text in :mod:`pipeline.report.explain_cause_text`
    numbers : what the text contains, by name: ratios, seconds, bytes
    disturbed : it is unclear because other programs used the machine: another time it may be clear
    """

    kind: Kind
    finding: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    disturbed: bool = False


@dataclass(frozen=True)
class Overhead:
    """Elapsed seconds of one empty task through a back end, among many of them."""

    backend: str
    n_workers: int
    seconds: float


@dataclass(frozen=True)
class Structure:
    """Work, span and schedule of the graph with the serial run's task times.

    Parameters
    ----------
    work, span : seconds of all tasks, and of the longest path
    schedule : seconds of all tasks on ``n_workers`` if nothing else takes time, in the order of our scheduler
    longest, longest_task, longest_step : seconds, key and step of the longest task
    n_tasks, median : number of tasks, and the median of those of the longest one's layer, seconds
    path : step -> seconds on the longest path, most first
    n_path : tasks on the longest path
    cause, guilty, after : what in the graph keeps n workers from being faster, of which steps, and the seconds without
        it, from :mod:`pipeline.experiments.comparison.causes`
    """

    n_workers: int
    work: float
    span: float
    schedule: float
    longest: float
    longest_task: str
    longest_step: str
    n_tasks: int
    median: float
    path: tuple[tuple[str, float], ...]
    n_path: int
    cause: str = "none"
    guilty: tuple[str, ...] = ()
    after: float = 0.0

    @property
    def most(self) -> float:
        """Return the largest speedup on any number of workers; 1 if there is no work."""
        return self.work / self.span if self.span else 1.0

    @property
    def speedup(self) -> float:
        """Return the largest speedup on ``n_workers``."""
        return self.work / self.schedule if self.schedule else 1.0


@dataclass(frozen=True)
class Bound:
    """The steps whose tasks bound the speedup, the most expensive first, and why."""

    steps: tuple[str, ...]
    cause: Cause


# ---------------------------------------------------------------------------------------------------------------------
# Causes of a step
# ---------------------------------------------------------------------------------------------------------------------


def diagnose(
    measurements: StepMeasurements, *, overhead: Overhead | None = None, segment: float | None = None
) -> tuple[Cause, ...]:
    """Return the causes of one step, the most expensive first; ``none`` is returned alone.

    Parameters
    ----------
    overhead : of an empty task on the back end that the file runs on
    segment : seconds of a segment, the unit that is sent to a worker, on average
    """
    computing = _computing(measurements)
    moving = _moving(measurements)
    tiny = _tiny(overhead, segment)
    found = [computing]
    if moving is not None:
        eaten = measurements.processes_with_moving < FASTER * measurements.ratio(measurements.threads)
        found.insert(0 if eaten and computing.kind not in ("waiting", "gil") else len(found), moving)
    if tiny is not None and overhead is not None and segment is not None:
        share = overhead.seconds * overhead.n_workers / (overhead.seconds * overhead.n_workers + segment)
        found.insert(0 if share >= MOVING else len(found), tiny)
    return tuple(cause for cause in found if cause.kind != "none") or (computing,)


def _computing(r: StepMeasurements) -> Cause:
    """Return the cause as far as threads, processes and BLAS show it."""
    n, noise, nested = r.n_workers, _noise(r), _nested(r)
    numbers = _ratios(r)
    if nested is not None and r.one.busy > NESTED:  # seen in the CPU time, which noise does not change
        return nested
    if noise:
        return Cause("unclear", "noise", numbers | {"spread": noise}, disturbed=True)
    if r.busy < WAITS:
        return _waiting(r)
    if nested is not None:
        return nested
    if r.gives - 1 < MOSTLY * (min(n, r.n_cores) - 1):
        return Cause("unclear", "no cores", numbers | {"gives": r.gives}, disturbed=True)
    if _scales(r, r.threads) and _scales(r, r.processes):
        if r.control is not None and r.gives - 1 < WHOLE * (min(n, r.n_cores) - 1):
            return Cause("none", "scales with the machine", numbers | {"control": r.control})
        return Cause("none", "scales", numbers)
    slower = r.ratio(r.processes) >= FASTER * r.ratio(r.threads)
    if not _scales(r, r.threads) and slower and r.threads.busy < LOCKED * r.processes.busy:
        return Cause("gil", "GIL", numbers | {"partly": _partly(r)})
    growth = max(r.growth(r.threads), r.growth(r.processes))
    if growth >= GROWN:
        return Cause("bandwidth", "memory", numbers | {"growth": growth})
    return Cause("unclear", "same CPU", numbers)


def _ratios(r: StepMeasurements) -> dict[str, Any]:
    return {"n": r.n_workers, "threads": r.ratio(r.threads), "processes": r.ratio(r.processes), "busy": r.one.busy}


def _noise(r: StepMeasurements) -> float:
    """Return by how much the repeats differ, if by too much to tell anything; else 0."""
    spread = max(times.spread for times in (r.one, r.threads, r.processes))
    return spread if spread > NOISE else 0.0


def _scales(r: StepMeasurements, times: ProbeTimes) -> bool:
    """Return whether additional workers help, relative to what the machine gives them."""
    return r.ratio(times) - 1 >= SCALES * (r.gives - 1)


def _partly(r: StepMeasurements) -> bool:
    """Return whether threads help a little."""
    return r.ratio(r.threads) - 1 >= (1 - SCALES) * (r.gives - 1)


def _waiting(r: StepMeasurements) -> Cause:
    numbers = _ratios(r)
    if r.ratio(r.threads) - 1 >= SCALES * (r.n_workers - 1):  # waiting takes no core: compared with n itself
        many = {"n_many": r.many.n_workers, "many": r.ratio(r.many)} if r.many is not None else {}
        return Cause("waiting", "waits", numbers | many)
    if r.ratio(r.processes) >= FASTER * r.ratio(r.threads):
        return Cause("gil", "waits with lock", numbers)
    return Cause("unclear", "waits together", numbers)


def _nested(r: StepMeasurements) -> Cause | None:
    """Return the cause if workers have threads: of the step's own, or of BLAS."""
    numbers = _ratios(r)
    if r.one.busy > NESTED:
        return None if _scales(r, r.processes) else Cause("oversubscription", "own threads", numbers)
    if r.blas is None or r.blas.busy <= NESTED or r.blas.spread > NOISE:
        return None
    rp, alone = r.ratio(r.processes), r.ratio(r.blas)
    both = r.ratio(r.blas_processes) if r.blas_processes is not None and r.blas_processes.spread <= NOISE else None
    numbers |= {"blas_one": alone, "blas_all": both}
    if both is not None and rp >= FASTER * both:
        return Cause("oversubscription", "BLAS threads", numbers)
    if alone >= FASTER and alone >= rp / FASTER:
        return Cause("oversubscription", "BLAS alone", numbers)
    return None


def _moving(r: StepMeasurements) -> Cause | None:
    if r.moved is None or r.moved_share < MOVING:
        return None
    more = {
        "nbytes": r.moved.nbytes,
        "share": r.moved_share,
        "moving": r.moved.seconds,
        "task": r.one.best,
        "processes_with_moving": r.processes_with_moving,
    }
    return Cause("transfer", "moving", _ratios(r) | more)


def _tiny(overhead: Overhead | None, segment: float | None) -> Cause | None:
    if overhead is None or segment is None:
        return None
    each = overhead.seconds * overhead.n_workers
    if segment >= FINE * each:
        return None
    numbers = {"segment": segment, "overhead": each, "n": overhead.n_workers, "backend": overhead.backend}
    return Cause("tiny", "tiny", numbers)


# ---------------------------------------------------------------------------------------------------------------------
# Causes in the graph
# ---------------------------------------------------------------------------------------------------------------------


def diagnose_structure(s: Structure) -> Bound | None:
    """Return the long task, the few tasks or the chain that bound the speedup; None if n workers have work enough."""
    numbers: dict[str, Any] = {"n": s.n_workers, "work": s.work, "span": s.span, "n_path": s.n_path}
    if s.cause == "chain":
        numbers |= {"most": s.most, "n_steps": len(s.guilty)}
        return Bound(s.guilty, Cause("chain", "chain", numbers))
    if s.cause == "long task":
        median = s.median if s.median < s.longest / 2 else None
        numbers |= {"longest": s.longest, "median": median, "speedup": s.speedup}
        return Bound(s.guilty, Cause("long task", "long task", numbers))
    if s.cause == "few tasks":
        return Bound(s.guilty, Cause("few tasks", "few tasks", numbers | {"speedup": s.speedup}))
    return None
