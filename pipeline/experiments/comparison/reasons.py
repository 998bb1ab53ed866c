"""Find why a speedup is not higher: the largest loss, the evidence for its cause, and what to change in the file.

A loss is named as the cause only if it takes a tenth of the core-seconds in the middle run and in two of three rounds:
smaller losses change from run to run. The GIL is named only if the same step was measured in processes as
well, and was faster there: a wall time above the CPU time alone may be a lock, a disk, or a core used by others.
The sentences are in :mod:`pipeline.report.compare_reason_text`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.trace.account import Account, StepTimes
from pipeline.trace.losses import Losses

__all__ = ["LEAST_ROUNDS", "LEAST_SHARE", "Advice", "Evidence", "Finding", "Reason", "TuningKnob", "reason"]

LEAST_SHARE = 0.10
LEAST_ROUNDS = 2 / 3
_WASTED = ("inflation", "runtime", "transfer", "scheduling", "dependency", "unexplained")
_MOSTLY = 0.5
_FASTER = 1.25  # by which a step must be faster in processes before threads are blamed
_FINE = 10  # times the overhead that a task should take at least
_SCALES = 0.85  # parallel efficiency from which nothing is wrong
_BALANCED = 0.9
_HELD = 0.75  # cores that threads of one process keep busy, at least, if what they wait for is the GIL


@dataclass(frozen=True)
class TuningKnob:
    """The key of the file that sets the size of a step's tasks: ``batch``, or ``chunks`` of the step or of its source.

    Parameters
    ----------
    path : ``steps.parse.batch``
    kind : ``batch`` or ``chunks``
    n_items : of a batch: the number of items of the step
    """

    path: str
    kind: str
    n_items: int = 0


@dataclass(frozen=True)
class Evidence:
    """What was measured besides the account.

    Parameters
    ----------
    speedup : median, over serial
    cpu : CPU seconds (user and system) of everything, over elapsed
    others : the accounts of the other back ends with as many workers
    knobs : step -> the key that sets the size of its tasks
    n_cores : of this machine
    starved : seconds for which threads were ready to run and had no core, where other programs used the machine
    """

    speedup: float
    cpu: float
    others: Sequence[Account] = ()
    knobs: Mapping[str, TuningKnob] | None = None
    n_cores: int = 1
    starved: float = 0.0


@dataclass(frozen=True)
class Advice:
    """What to change.

    Parameters
    ----------
    kind : the key of its text in :mod:`pipeline.report.compare_reason_text`
    step : the step, or output, that it is about
    knob : where the file sets the size of the step's tasks, if it does
    n : suggested number of items, or of workers
    backend : suggested back end
    """

    kind: Literal[
        "backend", "cores", "explain", "explain all", "fewer tasks", "less memory", "limit threads", "measure again",
        "more tasks", "none", "reduce", "report", "see messages", "split", "workers"
    ]  # fmt: skip
    step: str = ""
    knob: TuningKnob | None = None
    n: int = 0
    backend: str = ""


@dataclass(frozen=True)
class Finding:
    """The evidence for a cause.

    Parameters
    ----------
    kind : the key of its text in :mod:`pipeline.report.compare_reason_text`
    numbers : what the text says, by name: seconds, bytes, ratios, steps
    """

    kind: str
    advice: Advice
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reason:
    """Why the speedup of one back end is not higher.

    Parameters
    ----------
    label : of the case
    cause : the class of losses that is the cause; empty: no single one
    share : of the core-seconds
    """

    label: str
    n_workers: int
    speedup: float
    cause: str
    share: float
    finding: Finding


def reason(account: Account, evidence: Evidence) -> Reason:
    """Return why the speedup of one back end is not higher.

    Raises
    ------
    ValueError : if serial's times are not known
    """
    found = account.losses
    if found is None:
        raise ValueError("without serial's times no speedup is known, nor why it is not higher")
    cause = _cause(found, account.every)
    finding = _FINDERS[cause](account, evidence) if cause else _no_single_cause(account, found, evidence)
    share = found.share(cause) if cause else 0.0
    return Reason(account.runs.label, account.n_workers, evidence.speedup, cause, share, finding)


def _cause(middle: Losses, every: Sequence[Losses]) -> str:
    """Return the largest class that is large in the middle run and in two of three rounds; empty if there is none."""
    large = [
        name
        for name in _WASTED
        if _is_large(middle, name) and sum(_is_large(each, name) for each in every) >= LEAST_ROUNDS * len(every)
    ]
    return max(large, key=middle.share, default="")


def _is_large(found: Losses, name: str) -> bool:
    return round(found.share(name), 9) >= LEAST_SHARE  # a tenth of a binary fraction may be a little less


def _no_single_cause(account: Account, found: Losses, evidence: Evidence) -> Finding:
    percents = found.percents()  # as the table has them
    largest = sorted(_WASTED, key=found.share, reverse=True)[:2]
    numbers: dict[str, Any] = {"largest": [(name, percents[name]) for name in largest]}
    useful, on_cpu = (
        sum(getattr(times, name) for times in account.by_step.values()) for name in ("useful", "useful_cpu")
    )
    # not if threads that the tasks start are busy, or other programs had the cores
    if on_cpu < _MOSTLY * useful and evidence.cpu < _MOSTLY * account.n_workers and not evidence.starved:
        numbers["on_cpu"] = on_cpu / useful
        return Finding("no single cause", Advice("workers", n=4 * account.n_workers), numbers)
    enough = evidence.speedup >= _SCALES * account.n_workers
    return Finding("no single cause", Advice("none" if enough else "explain all"), numbers)


# ---------------------------------------------------------------------------------------------------------------------
# One function for each class of losses
# ---------------------------------------------------------------------------------------------------------------------


def _inflation(account: Account, evidence: Evidence) -> Finding:
    step = max(account.by_step, key=lambda name: account.by_step[name].seconds - account.by_step[name].useful)
    times = account.by_step[step]
    grown = times.seconds - times.useful
    waiting = grown - (times.cpu - times.useful_cpu)
    in_threads = "workers" not in account.cpu_beside
    beside = account.cpu_beside.get("workers", 0.0)
    explain = Advice("explain", step)
    numbers = {
        "step": step,
        "cpu": evidence.cpu,
        "growth": times.seconds / times.useful if times.useful else None,
        "cpu_growth": times.cpu / max(times.useful_cpu, 1e-9),
        "n_cores": evidence.n_cores,
        "beside": beside,
        "starved": evidence.starved,
        "in_threads": in_threads,
    }
    if waiting < _MOSTLY * grown:
        if any(_cpu_growth(step, other) >= _FASTER for other in evidence.others):
            return Finding("memory", _advice("less memory", evidence, step), numbers)
        return Finding("more CPU", explain, numbers)
    if in_threads:
        rival = _fastest(step, evidence.others)
        own = _throughput(times, account.n_workers)
        theirs = _throughput(rival.by_step[step], rival.n_workers) if rival is not None else 0.0
        if rival is not None and theirs >= _FASTER * own:
            more = {"threads": own, "n_processes": rival.n_workers, "processes": theirs}
            return Finding("GIL", Advice("backend", backend=rival.runs.backend), numbers | more)
        if evidence.starved < _MOSTLY * waiting and evidence.cpu >= _HELD:
            return Finding("threads wait", explain, numbers)
    if account.n_workers > evidence.n_cores and evidence.cpu >= _HELD:
        return Finding("few cores", Advice("cores", n=evidence.n_cores), numbers)
    if any(_threads_of_its_own(a) >= _MOSTLY * waiting for a in (account, *evidence.others)):
        return Finding("own threads", Advice("limit threads", step), numbers)
    if beside >= _MOSTLY * waiting:
        coarser = _fewer_tasks(account, evidence, step, beside / max(account.n_segments, 1))
        return Finding("worker threads", coarser, numbers)
    if evidence.starved >= _MOSTLY * waiting:
        return Finding("no core", Advice("measure again"), numbers)
    return Finding("waits", explain, numbers)


def _overhead(name: str) -> Callable[[Account, Evidence], Finding]:
    def finder(account: Account, evidence: Evidence) -> Finding:
        if name == "scheduling" and (long := _one_long(account)):
            return long  # the tasks that wait come after it on the same worker
        n = max(account.n_segments, 1)
        each = getattr(account.losses, name) / n
        step = max(account.by_step, key=lambda s: account.by_step[s].seconds)
        numbers = {
            "mean": sum(times.seconds for times in account.by_step.values()) / n,
            "overhead": each,
            "kind": name,
            "fused": n != account.n_tasks,
        }
        return Finding("overhead", _fewer_tasks(account, evidence, step, each), numbers)

    return finder


def _transfer(account: Account, evidence: Evidence) -> Finding:
    assert account.losses is not None
    step = max(account.moved, key=lambda name: account.moved[name], default="")
    faster = [a for a in evidence.others if a.elapsed < account.elapsed and a.losses is not None
              and a.losses.transfer < _MOSTLY * account.losses.transfer]  # fmt: skip
    best = min(faster, key=lambda a: a.elapsed, default=None)
    numbers = {
        "percent": account.losses.percents()["transfer"],
        "nbytes": sum(account.moved.values()),
        "step": _step(step),
        "other_steps": len(account.moved) > 1,
        "between_workers": "scheduler" in account.cpu_beside,
    }
    advice = Advice("backend", backend=best.runs.backend) if best is not None else Advice("reduce", step)
    return Finding("transfer", advice, numbers)


def _dependency(account: Account, evidence: Evidence) -> Finding:
    if long := _one_long(account):
        return long
    path = [_step(name) for name, _ in sorted(account.critical.by_step().items(), key=lambda item: -item[1])]
    step = path[0] if path else ""
    useful = account.losses.useful if account.losses is not None else 0.0
    wait = account.critical.seconds("data-wait")
    numbers = {
        "steps": list(dict.fromkeys(path[:3])),
        "computing": account.critical.seconds("compute"),
        "elapsed": account.elapsed,
        "wait": wait,
        "n_segments": account.n_segments,
    }
    if account.span >= _MOSTLY * account.elapsed:
        bound = useful / account.span
        # serial's times forbid nothing that tasks which ran faster here have reached
        numbers["bound"] = bound if bound >= evidence.speedup else None
        return Finding("critical path", _advice("more tasks", evidence, step), numbers)
    if account.factors is not None and account.factors.load_balance < _BALANCED:
        numbers["load_balance"] = account.factors.load_balance
        return Finding("load balance", _advice("more tasks", evidence, step), numbers)
    each = wait / max(len(account.critical.steps), 1)
    return Finding("inputs", _fewer_tasks(account, evidence, step, each), numbers)


def _one_long(account: Account) -> Finding | None:
    """Return the task that takes half of the run or more while other workers wait; None if there is none."""
    longest = account.tasks[0] if account.tasks and account.n_workers > 1 else None
    if longest is None or longest.seconds < _MOSTLY * account.elapsed:
        return None
    numbers = {"step": longest.step, "key": longest.key, "seconds": longest.seconds, "elapsed": account.elapsed}
    return Finding("long task", Advice("split", longest.step), numbers)


def _unexplained(account: Account, evidence: Evidence) -> Finding:
    return Finding("lost worker", Advice("see messages")) if account.gaps else Finding("unseen", Advice("report"))


_FINDERS: Mapping[str, Callable[[Account, Evidence], Finding]] = {
    "inflation": _inflation,
    "runtime": _overhead("runtime"),
    "transfer": _transfer,
    "scheduling": _overhead("scheduling"),
    "dependency": _dependency,
    "unexplained": _unexplained,
}


# ---------------------------------------------------------------------------------------------------------------------
# Evidence and advice
# ---------------------------------------------------------------------------------------------------------------------


def _step(name: str) -> str:
    """Return the step in the file of an instance of a step."""
    return name.partition("[")[0]


def _throughput(times: StepTimes, n_workers: int) -> float:
    """Return how many times as fast as serially the step's tasks went, if all workers ran them."""
    return n_workers * times.useful / times.seconds if times.seconds else 0.0


def _cpu_growth(step: str, account: Account) -> float:
    """Return the CPU time of a step over the CPU time that it takes alone."""
    times = account.by_step.get(step)
    return times.cpu / times.useful_cpu if times is not None and times.useful_cpu else 0.0


def _threads_of_its_own(account: Account) -> float:
    """Return the CPU seconds beside the tasks in processes that run only tasks (Dask's have an event loop, too)."""
    return 0.0 if "scheduler" in account.cpu_beside else account.cpu_beside.get("workers", 0.0)


def _fastest(step: str, others: Sequence[Account]) -> Account | None:
    """Return the back end with processes in which the tasks of a step were slowed down least."""
    able = [a for a in others if "workers" in a.cpu_beside and step in a.by_step]
    return max(able, key=lambda a: _throughput(a.by_step[step], a.n_workers), default=None)


def _advice(kind: Literal["less memory", "more tasks"], evidence: Evidence, step: str) -> Advice:
    knob = (evidence.knobs or {}).get(step)
    return Advice(kind, step, knob if knob is not None and knob.kind == "chunks" else None)


def _fewer_tasks(account: Account, evidence: Evidence, step: str, overhead: float) -> Advice:
    """Advise fewer, larger tasks; of a batch with the number of items that makes ``overhead`` seconds small enough."""
    knob = (evidence.knobs or {}).get(step)
    if knob is None or knob.kind != "batch":
        return Advice("fewer tasks", step, knob)
    times, n = account.by_step[step], max(knob.n_items, 1)
    enough = math.ceil(_FINE * overhead * n / times.seconds) if times.seconds else n
    now = -(-n // times.n_segments)
    most = max(2, -(-n // account.n_workers))
    return Advice("fewer tasks", step, knob, n=min(two_digits(max(enough, 2 * now)), most))


def two_digits(n: int) -> int:
    """Round a suggested number to two digits.

    >>> two_digits(1234)
    1200
    """
    return round(n, -max(0, len(str(n)) - 2))
