"""What to change about a cause, and what is recommended first: the change that should make the file fastest.

A change is a *setting* (a batch, a back end, a number of workers), which can be tried at once, or one of the file or of
the step's code. Another back end is advised only if it was measured and was faster, whatever makes up its time; so two
back ends never advise each other. Nothing is advised that should save less than a twentieth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.backends.registry import base_name, is_remote
from pipeline.experiments.comparison.causes import Cause
from pipeline.experiments.comparison.tuning_knobs import TuningKnob, two_digits

__all__ = ["LEAST_SAVED", "Advice", "MeasuredCase", "Reason", "Recommendation", "Situation", "Tried", "advise",
           "recommended", "start_up_first"]  # fmt: skip

LEAST_SAVED = 0.05
"""Share of the elapsed time that a change must be expected to save."""

_BY_HAND = 0.75  # share of the seconds saved that counts for a change by hand, beside a setting
_SCALES = 0.85  # parallel efficiency from which nothing is wrong
_STARTS = 5  # times the elapsed time from which the start of the workers is what a user waits for
_MOSTLY = 0.5
_PIECES = 4  # segments a worker that balance the load
_OF_CODE = frozenset({"release the GIL", "hold the lock for less", "load once"})  # changes of a step's own functions

Kind = Literal[
    "backend", "batch", "workers", "cores", "chunks", "smaller batch", "split", "no chain", "release the GIL",
    "limit threads", "less memory", "return less", "hold the lock for less", "write less often", "load once",
    "larger tasks", "allocate once", "raise the limit", "fewer files", "measure again", "see messages",
    "explain", "more cluster workers", "none",
]  # fmt: skip


@dataclass(frozen=True)
class Advice:
    """What to change.

    Parameters
    ----------
    kind : the key of its text in :mod:`pipeline.report.compare_reason_text`
    step : the step, or output, that it is about
    knob : the key of the file to change, if there is one
    n : suggested number of items, or of workers
    backend : suggested back end; empty: the same
    after : predicted seconds; None: no prediction
    measured : the prediction is a measurement: of another back end in the same comparison
    """

    kind: Kind
    step: str = ""
    knob: TuningKnob | None = None
    n: int = 0
    backend: str = ""
    after: float | None = None
    measured: bool = False

    @property
    def is_setting(self) -> bool:
        """Whether it can be tried without changing a file."""
        return self.kind in ("backend", "batch", "smaller batch", "workers", "cores")


@dataclass(frozen=True)
class MeasuredCase:
    """A measured case: seconds, and with the start of its workers and the commit."""

    label: str
    backend: str
    n_workers: int
    elapsed: float
    everything: float
    start_up: float = 0.0
    in_processes: bool = False


@dataclass(frozen=True)
class Situation:
    """What advice depends on besides the cause.

    Parameters
    ----------
    case : the one that is judged
    cases : all that ran, serial included
    speedup : over serial, median
    knobs : step -> the key that sets the size of its tasks
    n_cores : of this machine
    held : back ends on which a step holds the GIL
    ours : steps that run no code of the user, who can't change what they do
    """

    case: MeasuredCase
    cases: Sequence[MeasuredCase] = ()
    speedup: float = 1.0
    knobs: Mapping[str, TuningKnob] = field(default_factory=dict)
    n_cores: int = 1
    held: frozenset[str] = frozenset()
    ours: frozenset[str] = frozenset()

    @property
    def fastest(self) -> MeasuredCase:
        """Return the case with the least elapsed time."""
        return min((self.case, *self.cases), key=lambda c: c.elapsed)


@dataclass(frozen=True)
class Reason:
    """Why one back end is not faster, and what to change.

    Parameters
    ----------
    label, backend : of the case
    largest : names and per cents of the two largest losses, for where there is no single cause
    """

    label: str
    backend: str
    n_workers: int
    elapsed: float
    speedup: float
    cause: Cause
    advice: Advice
    largest: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Tried:
    """One round with a recommendation: seconds, speedup over serial, whether the results are the reference's."""

    elapsed: float
    speedup: float
    equality: str
    failure: str = ""


@dataclass(frozen=True)
class Recommendation:
    """What to change first.

    Parameters
    ----------
    reason : of the case that it starts from
    best : seconds of the fastest case as it is
    tried : what it gave; None: it was not tried
    not_tried : why not
    """

    reason: Reason
    best: float
    tried: Tried | None = None
    not_tried: str = ""

    @property
    def advice(self) -> Advice:
        """Return the change."""
        return self.reason.advice

    @property
    def backend(self) -> str:
        """Return the back end to run on."""
        return self.advice.backend or self.reason.backend

    @property
    def n_workers(self) -> int:
        """Return the number of workers to run with."""
        return self.advice.n if self.advice.kind in ("workers", "cores") else self.reason.n_workers

    @property
    def helps(self) -> bool | None:
        """Return whether it was faster than the fastest case when it was tried; None: it was not tried."""
        if self.tried is None or self.tried.failure:
            return None if self.tried is None else False
        return self.tried.elapsed < (1 - LEAST_SAVED) * self.best


_FOR_COMPARISON = "manager"
"""The back end that is there for comparison: it is not recommended beside others."""


def recommended(reasons: Sequence[Reason], best: float) -> list[Recommendation]:
    """Return what to change, the change that should save most first; compared with the fastest case as it is.

    Parameters
    ----------
    best : seconds of the fastest case
    """
    found: list[Recommendation] = []
    for reason in reasons:
        if base_name(reason.backend) == _FOR_COMPARISON and len(reasons) > 1:
            continue
        after = reason.advice.after
        if after is not None and not reason.advice.measured and after <= (1 - LEAST_SAVED) * best:
            found.append(Recommendation(reason, best))

    def saved(one: Recommendation) -> float:
        return (best - (one.advice.after or best)) * _weight(one.advice)

    return sorted(found, key=saved, reverse=True)


def _weight(advice: Advice) -> float:
    return 1.0 if advice.is_setting else _BY_HAND


def start_up_first(cause: Cause, at: Situation) -> Cause:
    """Return the start of the workers as the cause where little else takes time and another case starts sooner."""
    case = at.case
    rival = min((case, *at.cases), key=lambda c: c.everything)
    saved = 1 - rival.everything / case.everything if case.everything else 0.0
    if case.start_up >= _STARTS * case.elapsed and saved >= _MOSTLY:
        return Cause("start-up", (), saved, rival.elapsed, {"seconds": case.start_up, "elapsed": case.elapsed})
    return cause


def advise(cause: Cause, at: Situation) -> Advice:
    """Return what to change about a cause on one back end."""
    advice = _ANSWERS[cause.kind](cause, at)
    rival = at.fastest
    faster = rival.elapsed <= (1 - LEAST_SAVED) * at.case.elapsed and cause.kind not in ("start-up", "machine")
    # what is measured comes before a prediction that saves no more; before a change by hand that saves half more, too
    hoped = 0.0 if advice.after is None else at.case.elapsed - advice.after
    hoped *= 1.0 if advice.is_setting else _MOSTLY
    if faster and at.case.elapsed - rival.elapsed >= hoped:
        return Advice("backend", cause.step, backend=rival.backend, n=rival.n_workers, after=rival.elapsed,
                      measured=True)  # fmt: skip
    if advice.after is not None and advice.after > (1 - LEAST_SAVED) * at.case.elapsed:
        return Advice("none", cause.step)
    of_code = advice.kind in _OF_CODE or (advice.kind == "less memory" and advice.knob is None)
    if of_code and cause.step in at.ours:
        return Advice("none", cause.step)
    if advice.kind in ("workers", "cores") and is_remote(at.case.backend):
        return Advice("more cluster workers", cause.step, n=advice.n, after=advice.after)
    return advice


def _by_hand(kind: Kind) -> Callable[[Cause, Situation], Advice]:
    return lambda cause, at: Advice(kind, cause.step, at.knobs.get(cause.step), after=cause.after)


def _gil(cause: Cause, at: Situation) -> Advice:
    if not any(c.in_processes for c in at.cases):
        return Advice("backend", cause.step, backend="processes", n=at.case.n_workers, after=cause.after)
    return _by_hand("release the GIL")(cause, at)


def _tiny(cause: Cause, at: Situation) -> Advice:
    knob = at.knobs.get(cause.step)
    if knob is None or knob.kind != "batch":
        return Advice("larger tasks", cause.step, knob, after=cause.after)
    n_items = max(knob.n_items, 1)
    now = -(-n_items // cause.numbers["n"])
    n = min(two_digits(now * cause.numbers["together"]), max(2, -(-n_items // at.case.n_workers)))
    return Advice("batch", cause.step, knob, n=n, after=cause.after)


def _few(cause: Cause, at: Situation) -> Advice:
    knob = at.knobs.get(cause.step)
    if knob is not None and knob.kind == "batch" and knob.n_items > cause.numbers["n"]:
        n = max(1, knob.n_items // (_PIECES * at.case.n_workers))
        return Advice("smaller batch", cause.step, knob, n=n, after=cause.after)
    if knob is not None and knob.kind == "chunks":
        return Advice("chunks", cause.step, knob, after=cause.after)
    return Advice("split", cause.step, after=cause.after)


def _waiting(cause: Cause, at: Situation) -> Advice:
    backend = at.case.backend if "threads" in at.held else "threads"
    return Advice("workers", cause.step, n=cause.numbers["n"], backend=backend, after=cause.after)


def _limit(cause: Cause, at: Situation) -> Advice:
    return Advice("raise the limit", cause.numbers["name"], n=cause.numbers["n"], after=cause.after)


def _start_up(cause: Cause, at: Situation) -> Advice:
    rival = min((at.case, *at.cases), key=lambda c: c.everything)
    if rival is at.case:
        return Advice("none")
    return Advice("backend", backend=rival.backend, n=rival.n_workers)  # its elapsed time may even be longer


def _nothing(cause: Cause, at: Situation) -> Advice:
    return Advice("none" if at.speedup >= _SCALES * at.case.n_workers else "explain")


_ANSWERS: Mapping[str, Callable[[Cause, Situation], Advice]] = {
    "gil": _gil,
    "lock": _by_hand("hold the lock for less"),
    "disk": _by_hand("write less often"),
    "stopped worker": lambda cause, at: Advice("measure again", cause.step),
    "own threads": _by_hand("limit threads"),
    "few cores": lambda cause, at: Advice("cores", n=at.n_cores, after=cause.after),
    "machine": lambda cause, at: Advice("measure again"),
    "worker threads": _by_hand("larger tasks"),
    "memory": _by_hand("less memory"),
    "page faults": _by_hand("allocate once"),
    "tiny tasks": _tiny,
    "transfer": _by_hand("return less"),
    "long task": _few,
    "few tasks": _few,
    "limit": _limit,
    "chain": _by_hand("no chain"),
    "waiting": _waiting,
    "first calls": _by_hand("load once"),
    "outputs": _by_hand("fewer files"),
    "start-up": _start_up,
    "lost worker": lambda cause, at: Advice("see messages"),
    "none": _nothing,
}
