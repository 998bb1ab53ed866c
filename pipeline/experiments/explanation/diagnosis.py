"""From readings to causes: a pure function of numbers, which a test can make by hand.

The order of the questions is the order in which an answer makes the next one meaningless. Tasks that mostly wait need
no core, so nothing that follows applies; tasks that have threads below them are not one worker each; where the machine
gives nothing to a second process that only counts, nothing can be said of scaling; and only tasks that are slower in
threads than in processes, at the same CPU time, hold a lock. What no question answers is called unclear, with the
numbers: a wrong cause costs a user a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.experiments.explanation.measurements import NOISE, ProbeTimes, StepMeasurements
from pipeline.units import bytes_text, count_text, duration_text, ratio_text

__all__ = [
    "BOUND",
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
"""Below so many CPU seconds a second, a lone worker waits for more than half of its time."""

NESTED = 1.3
"""Above so many, a worker that has BLAS on one thread has threads or programs of its own below it."""

SCALES = 0.6
"""Of what the machine gives to additional workers, the part from which a step counts as scaling: of two workers 1.6x.
Halfway would be 1.5x, which a neighbour on the machine can take from a step that scales; so little it seldom takes."""

WHOLE = 0.75
"""Below this part of the additional cores, the machine does not give them whole: others use it, or two of its cores are
hardware threads of one."""

FASTER = 1.25
"""By so much one way of running must be faster than another to be called faster; twice what repeats may differ by."""

LOCKED = 0.85
"""Threads that get less of a core each than processes do, by this, wait for each other; a busy machine takes as much
from both."""

GROWN = 1.2
"""CPU time a task, over that of a lone worker and beyond what counting shows, from which workers share memory or
caches: repeats of tasks that share nothing differ by a tenth."""

MOVING = 0.3
"""Moving over computing from which moving is a cause: of two workers it then costs a quarter of the speedup."""

FINE = 10
"""Tasks shorter than so many times the overhead of one lose a tenth of their time to it."""

BOUND = 0.75
"""Below this part of n workers, the graph alone (its chains, its longest task) bounds the speedup noticeably."""

MOSTLY = 0.5
"""Of the longest path: one task that takes so much of it is the reason, else it is the chain."""

Kind = Literal[
    "waiting", "gil", "bandwidth", "oversubscription", "transfer", "long task", "chain", "tiny", "none", "unclear"
]


@dataclass(frozen=True)
class Cause:
    """Why a step does not scale.

    Parameters
    ----------
    kind : which of the causes
    text : the evidence, one clause with the numbers, that follows the name of the step
    disturbed : it is unclear since something else used the machine: another time it may be clear
    """

    kind: Kind
    text: str
    disturbed: bool = False


@dataclass(frozen=True)
class Overhead:
    """What a task costs beside itself: elapsed seconds of one empty task through a back end, of many of them."""

    backend: str
    n_workers: int
    seconds: float


@dataclass(frozen=True)
class Structure:
    """What the graph allows, from the serial run's task times.

    Parameters
    ----------
    work, span : seconds of all tasks, and of the longest path
    schedule : seconds of all tasks on ``n_workers`` if nothing else takes time, in the order of our scheduler
    longest, longest_task, longest_step : the task that takes longest
    n_tasks, median : how many tasks ran, and the median of those of the longest one's kind, seconds
    path : step -> seconds on the longest path, most first
    n_path : tasks on the longest path
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

    @property
    def most(self) -> float:
        """The speedup on any number of workers, at most; 1 of no work."""
        return self.work / self.span if self.span else 1.0

    @property
    def speedup(self) -> float:
        """The speedup on ``n_workers``, at most."""
        return self.work / self.schedule if self.schedule else 1.0


@dataclass(frozen=True)
class Bound:
    """The steps whose tasks bound the speedup, the one that costs most of it first, and how."""

    steps: tuple[str, ...]
    cause: Cause

    @property
    def text(self) -> str:
        """A whole sentence, without its full stop."""
        named = ", ".join(f"`{step}`" for step in self.steps[:3])
        more = f" and {count_text(len(self.steps) - 3, 'more step')}" if len(self.steps) > 3 else ""
        return f"{named}{more} {self.cause.text}"


# ---------------------------------------------------------------------------------------------------------------------
# Of a step
# ---------------------------------------------------------------------------------------------------------------------


def diagnose(
    readings: StepMeasurements, *, overhead: Overhead | None = None, segment: float | None = None
) -> tuple[Cause, ...]:
    """The causes of one step, the one that costs most first; ``none`` stands alone.

    Parameters
    ----------
    overhead : what a task costs beside itself on the back end that the file runs on
    segment : seconds of what is handed to a worker at once, on average
    """
    computing = _computing(readings)
    moving = _moving(readings)
    tiny = _tiny(overhead, segment)
    found = [computing]
    if moving is not None:
        eaten = readings.processes_with_moving < FASTER * readings.ratio(readings.threads)
        found.insert(0 if eaten and computing.kind not in ("waiting", "gil") else len(found), moving)
    if tiny is not None and overhead is not None and segment is not None:
        share = overhead.seconds * overhead.n_workers / (overhead.seconds * overhead.n_workers + segment)
        found.insert(0 if share >= MOVING else len(found), tiny)
    return tuple(cause for cause in found if cause.kind != "none") or (computing,)


def _computing(r: StepMeasurements) -> Cause:
    """The cause as far as threads, processes and BLAS tell it."""
    n, noisy, nested = r.n_workers, _noisy(r), _nested(r)
    rt, rp = r.ratio(r.threads), r.ratio(r.processes)
    measured = f"{count_text(n, 'thread')} {ratio_text(rt)}, {count_text(n, 'process')} {ratio_text(rp)}"
    if nested is not None and r.one.busy > NESTED:  # seen in the CPU time, which noise does not change
        return nested
    if noisy:
        return Cause("unclear", f"repeats differ by {noisy:.0%}: something else uses this machine ({measured})",
                     disturbed=True)  # fmt: skip
    if r.busy < WAITS:
        return _waiting(r, measured)
    if nested is not None:
        return nested
    if r.gives - 1 < MOSTLY * (min(n, r.n_cores) - 1):
        return Cause("unclear", f"{measured}, but {count_text(n, 'process')} that only count get "
                     f"{ratio_text(r.gives)}: something else uses the cores", disturbed=True)  # fmt: skip
    threads, processes = _scales(r, r.threads), _scales(r, r.processes)
    if threads and processes:
        if r.control is not None and r.gives - 1 < WHOLE * (min(n, r.n_cores) - 1):
            given = f"{count_text(n, 'process')} that only count get {ratio_text(r.control)}"
            return Cause("none", f"scales as far as this machine lets it now: {measured}; {given}")
        return Cause("none", f"scales: {measured}")
    in_threads, in_processes = r.growth(r.threads), r.growth(r.processes)
    if not threads and rp >= FASTER * rt and r.threads.busy < LOCKED * r.processes.busy:
        how = "holds the GIL, or a lock like it" + (", for a part of its time" if _partly(r) else "")
        return Cause("gil", f"{how}: {measured}")
    if max(in_threads, in_processes) >= GROWN:
        grown = max(in_threads, in_processes)
        return Cause("bandwidth", f"shares memory bandwidth and caches: {measured}, and a task takes "
                     f"{ratio_text(grown)} the CPU time that it takes alone")  # fmt: skip
    return Cause("unclear", f"does not scale, at the same CPU time a task: {measured}; a lock, a disk, or something "
                 "else on this machine")  # fmt: skip


def _noisy(r: StepMeasurements) -> float:
    """By how much the repeats differ where they differ by too much to say anything; else 0."""
    spread = max(reading.spread for reading in (r.one, r.threads, r.processes))
    return spread if spread > NOISE else 0.0


def _scales(r: StepMeasurements, reading: ProbeTimes) -> bool:
    """Whether additional workers are of use, of what the machine gives them."""
    return r.ratio(reading) - 1 >= SCALES * (r.gives - 1)


def _partly(r: StepMeasurements) -> bool:
    """Whether threads are of some use."""
    return r.ratio(r.threads) - 1 >= (1 - SCALES) * (r.gives - 1)


def _waiting(r: StepMeasurements, measured: str) -> Cause:
    n = r.n_workers
    idle = f"waits: {r.one.busy:.0%} of its time on a core"
    if r.ratio(r.threads) - 1 >= SCALES * (n - 1):  # waiting takes no core: held against n itself
        more = f", {count_text(r.many.n_workers, 'thread')} {ratio_text(r.ratio(r.many))}" if r.many is not None else ""
        return Cause("waiting", f"{idle}; {measured}{more}")
    if r.ratio(r.processes) >= FASTER * r.ratio(r.threads):
        return Cause("gil", f"waits while it holds the GIL or another lock of its process: {measured}")
    return Cause("unclear", f"{idle}, and neither threads nor processes wait together ({measured}): what they wait for "
                 "(a disk, a server, a lock) gives no more")  # fmt: skip


def _nested(r: StepMeasurements) -> Cause | None:
    """Threads below the workers: of the step's own, or of BLAS."""
    n, rp = r.n_workers, r.ratio(r.processes)
    if r.one.busy > NESTED:
        if _scales(r, r.processes):
            return None
        return Cause("oversubscription", f"starts threads or programs of its own: 1 worker keeps {r.one.busy:.1f} "
                     f"cores busy, {count_text(n, 'process')} {ratio_text(rp)}")  # fmt: skip
    if r.blas is None or r.blas.busy <= NESTED or r.blas.spread > NOISE:
        return None
    alone = r.ratio(r.blas)
    both = r.ratio(r.blas_processes) if r.blas_processes is not None and r.blas_processes.spread <= NOISE else None
    workers = count_text(n, "worker")
    told = f"BLAS on {count_text(n, 'thread')}: 1 worker {ratio_text(alone)}"
    if both is not None:
        told += f", {workers} {ratio_text(both)}; BLAS on 1 thread: {workers} {ratio_text(rp)}"
        if rp >= FASTER * both:
            return Cause("oversubscription", f"more threads than cores: {told}")
    else:
        told += f"; BLAS on 1 thread: {workers} {ratio_text(rp)}"
    if alone >= FASTER and alone >= rp / FASTER:
        return Cause("oversubscription", f"uses the cores by itself: {told}")
    return None


def _moving(r: StepMeasurements) -> Cause | None:
    if r.moved is None or r.moved_share < MOVING:
        return None
    return Cause("transfer", f"moving {bytes_text(r.moved.nbytes)} a task takes {r.moved_share:.0%} of its time "
                 f"({duration_text(r.moved.seconds)} for {duration_text(r.one.best)}): "
                 f"{count_text(r.n_workers, 'process')} {ratio_text(r.ratio(r.processes))}, with moving "
                 f"{ratio_text(r.processes_with_moving)}; {count_text(r.n_workers, 'thread')} "
                 f"{ratio_text(r.ratio(r.threads))}")  # fmt: skip


def _tiny(overhead: Overhead | None, segment: float | None) -> Cause | None:
    if overhead is None or segment is None:
        return None
    each = overhead.seconds * overhead.n_workers
    if segment >= FINE * each:
        return None
    return Cause("tiny", f"tasks are small: {duration_text(segment)} of work at once, against {duration_text(each)} "
                 f"that a task costs beside it on {count_text(overhead.n_workers, 'worker')} of "
                 f"'{overhead.backend}'")  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Of the graph
# ---------------------------------------------------------------------------------------------------------------------


def diagnose_structure(s: Structure) -> Bound | None:
    """The long task, or the chain, that bounds the speedup; None where the graph lets n workers work."""
    if s.work <= 0 or s.speedup >= BOUND * s.n_workers:
        return None
    bound = f"at most {ratio_text(s.speedup)} on {count_text(s.n_workers, 'worker')}"
    if s.longest > MOSTLY * s.span and s.longest >= s.schedule / 3:
        short = f", where the median takes {duration_text(s.median)}" if s.median < s.longest / 2 else ""
        text = f"has one long task: {duration_text(s.longest)} of {duration_text(s.work)}{short}: {bound}"
        return Bound((s.longest_step,), Cause("long task", text))
    if s.most >= s.n_workers:  # the path has room beside it: it is the order that is at fault
        return None
    steps = tuple(step for step, seconds in s.path if seconds >= s.span / 20)
    verb = "is" if len(steps) == 1 else "are"
    text = (f"{verb} a chain: {count_text(s.n_path, 'task')} that need each other take {duration_text(s.span)} of "
            f"{duration_text(s.work)}: at most {ratio_text(s.most)} on any number of workers")  # fmt: skip
    return Bound(steps or tuple(step for step, _ in s.path[:1]), Cause("chain", text))
