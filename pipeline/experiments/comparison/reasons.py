"""Why a speedup is not higher, as one sentence: the largest loss, the evidence, and what to change in the file.

A loss is named as the cause only where it takes a tenth of the core-seconds in the run in the middle, and in two of
three rounds: below that, what is seen changes from run to run. That a step holds the GIL is said only where the same
step was measured in processes as well, and was faster there: a wall time above the CPU time alone may be a lock, a
disk, or a core that somebody else uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.trace.account import Account, StepTimes
from pipeline.trace.losses import Losses
from pipeline.units import bytes_text, count_text, duration_text, ratio_text

__all__ = ["LEAST_ROUNDS", "LEAST_SHARE", "WORDS", "Evidence", "Reason", "TuningKnob", "reason"]

LEAST_SHARE = 0.10
LEAST_ROUNDS = 2 / 3
_WASTED = ("inflation", "runtime", "transfer", "scheduling", "dependency", "unexplained")
_MOSTLY = 0.5
_FASTER = 1.25  # by which a step must be faster in processes before threads are blamed
_FINE = 10  # times the overhead that a task should take at least
_SCALES = 0.85  # parallel efficiency from which nothing is wrong
_BALANCED = 0.9
_HELD = 0.75  # cores that threads of one process keep busy, at least, if what they wait for is the GIL

WORDS: Mapping[str, str] = {
    "useful": "useful",
    "inflation": "inflation",
    "runtime": "runtime",
    "transfer": "transfer + serialization",
    "scheduling": "scheduling",
    "dependency": "dependency wait",
    "unexplained": "unexplained",
}
"""What the classes of losses are called."""


@dataclass(frozen=True)
class TuningKnob:
    """Where the file says how large the tasks of a step are: ``batch`` of the step, or ``chunks`` of it or a source.

    ``n_items``: of a batch, how many there are to be put together.
    """

    path: str
    kind: str
    n_items: int = 0


@dataclass(frozen=True)
class Evidence:
    """What else was measured.

    Parameters
    ----------
    speedup : median, over serial
    cpu : CPU seconds (user and system) of everything, over elapsed
    others : the accounts of the other back ends with as many workers
    knobs : step -> where the size of its tasks is said
    n_cores : of this machine
    starved : seconds for which threads were ready to run and had no core, where something else used the machine
    """

    speedup: float
    cpu: float
    others: Sequence[Account] = ()
    knobs: Mapping[str, TuningKnob] | None = None
    n_cores: int = 1
    starved: float = 0.0


@dataclass(frozen=True)
class Reason:
    """Why a speedup is not higher.

    Parameters
    ----------
    cause : the class of losses that it names; empty: no single one
    share : of the core-seconds
    text : the sentence
    """

    cause: str
    share: float
    text: str


def reason(account: Account, evidence: Evidence) -> Reason:
    """The sentence for one back end.

    Raises
    ------
    ValueError : if serial's times are not known
    """
    if account.losses is None:
        raise ValueError("without serial's times no speedup is known, nor why it is not higher")
    cause = _cause(account.losses, account.every)
    many = count_text(account.n_workers, "worker")
    head = f"{account.runs.label}: {ratio_text(evidence.speedup)} of {many}"
    if not cause:
        return Reason("", 0.0, f"{head}; {_no_single(account, account.losses, evidence)}")
    share = account.losses.share(cause)
    return Reason(cause, share, f"{head}; {_SENTENCES[cause](account, evidence)}")


def _cause(middle: Losses, every: Sequence[Losses]) -> str:
    """The largest class that is large in the middle run and in two of three rounds; empty if there is none."""
    large = [
        name
        for name in _WASTED
        if _is_large(middle, name) and sum(_is_large(each, name) for each in every) >= LEAST_ROUNDS * len(every)
    ]
    return max(large, key=middle.share, default="")


def _is_large(found: Losses, name: str) -> bool:
    return round(found.share(name), 9) >= LEAST_SHARE  # a tenth of a binary fraction may be a little less


def _no_single(account: Account, found: Losses, evidence: Evidence) -> str:
    first, second = sorted(_WASTED, key=found.share, reverse=True)[:2]
    whole = found.percents()  # as the table has them
    two = f"{WORDS[first]} {whole[first]} % and {WORDS[second]} {whole[second]} %"
    said = f"no single cause: {two} are the largest losses"
    useful, on_cpu = (
        sum(getattr(times, name) for times in account.by_step.values()) for name in ("useful", "useful_cpu")
    )
    # not so if threads of theirs are busy, or something else had the cores
    if on_cpu < _MOSTLY * useful and evidence.cpu < _MOSTLY * account.n_workers and not evidence.starved:
        more = 4 * account.n_workers
        return f"{said}; the tasks are on a core for {_percent(on_cpu / useful)} of their time: try --workers {more}"
    if evidence.speedup >= _SCALES * account.n_workers:
        return f"{said}; nothing to change for so many workers"
    return f"{said}; measure the steps: pipeline explain"


# ---------------------------------------------------------------------------------------------------------------------
# One function a class
# ---------------------------------------------------------------------------------------------------------------------


def _inflation(account: Account, evidence: Evidence) -> str:
    step = max(account.by_step, key=lambda name: account.by_step[name].seconds - account.by_step[name].useful)
    times = account.by_step[step]
    grown = times.seconds - times.useful
    waiting = grown - (times.cpu - times.useful_cpu)
    cpu = f"user + sys = {evidence.cpu:.2f} x elapsed"
    more = (
        f"its tasks take {ratio_text(times.seconds / times.useful)} their serial time"
        if times.useful
        else "its tasks wait"
    )
    in_threads = "workers" not in account.cpu_beside
    if waiting < _MOSTLY * grown:
        smaller = _or(evidence, step, "smaller chunks or a smaller dtype", "touch less memory at once in")
        alone = f"`{step}` takes {ratio_text(times.cpu / max(times.useful_cpu, 1e-9))} the CPU time that it takes alone"
        if any(_grown_cpu(step, other) >= _FASTER for other in evidence.others):
            return f"{alone}, and more elsewhere, too: the workers share memory bandwidth and caches; {smaller}"
        return f"{alone}, and not so elsewhere; tell why with pipeline explain --step {step}"
    if in_threads:
        rival = _fastest(step, evidence.others)
        own = _throughput(times, account.n_workers)
        if rival is not None and _throughput(rival.by_step[step], rival.n_workers) >= _FASTER * own:
            theirs = _throughput(rival.by_step[step], rival.n_workers)
            threads, processes = count_text(account.n_workers, "thread"), count_text(rival.n_workers, "process")
            shown = f"{threads} {ratio_text(own)}, {processes} {ratio_text(theirs)}"
            return f"{cpu}: `{step}` holds the GIL or a lock like it ({shown}); use --backend {rival.runs.backend}"
        if evidence.starved < _MOSTLY * waiting and evidence.cpu >= _HELD:
            return (f"{cpu}: in `{step}` threads wait for each other ({more}): the GIL or another lock; tell which "
                    f"with pipeline explain --step {step}")  # fmt: skip
    if account.n_workers > evidence.n_cores and evidence.cpu >= _HELD:
        return (f"{count_text(account.n_workers, 'worker')} share {count_text(evidence.n_cores, 'core')}, so tasks of "
                f"`{step}` wait for one; cluster: {{workers: {evidence.n_cores}}}")  # fmt: skip
    beside = account.cpu_beside.get("workers", 0.0)
    if any(_threads_of_its_own(a) >= _MOSTLY * waiting for a in (account, *evidence.others)):
        return (f"`{step}`: {more}, and {duration_text(beside)} of CPU went into threads that they start themselves: "
                f"more threads than cores; limit the threads inside {_place(step)}")  # fmt: skip
    if beside >= _MOSTLY * waiting:
        coarser = _coarser(account, evidence, step, beside / max(account.n_segments, 1))
        return (f"`{step}`: {more}, without CPU: the workers' own threads take {duration_text(beside)} of CPU beside "
                f"the tasks and hold the GIL; {coarser}")  # fmt: skip
    if evidence.starved >= _MOSTLY * waiting:
        return (f"`{step}`: {more}, and threads that were ready to run had no core for "
                f"{duration_text(evidence.starved)}: something else uses this machine; measure again when it is "
                "free")  # fmt: skip
    lock = "a lock, " if in_threads else ""
    return (f"`{step}`: {more}, without CPU: {lock}a disk, or a core that something else uses; tell which with "
            f"pipeline explain --step {step}")  # fmt: skip


def _overhead(name: str, what: str) -> Callable[[Account, Evidence], str]:
    def told(account: Account, evidence: Evidence) -> str:
        assert account.losses is not None
        if name == "scheduling" and (long := _one_long(account)):
            return long  # what waits lies behind it, on the same worker
        n = max(account.n_segments, 1)
        mean = sum(times.seconds for times in account.by_step.values()) / n
        each = getattr(account.losses, name) / n
        step = max(account.by_step, key=lambda s: account.by_step[s].seconds)
        one = "task" if n == account.n_tasks else "piece of work"
        return (f"mean {one} {duration_text(mean)} against {duration_text(each)} of {what} a {one.split()[0]} measured "
                f"here; {_coarser(account, evidence, step, each)}")  # fmt: skip

    return told


def _transfer(account: Account, evidence: Evidence) -> str:
    assert account.losses is not None
    step = _step(max(account.moved, key=lambda name: account.moved[name], default=""))
    total = sum(account.moved.values())
    where = "between workers" if "scheduler" in account.cpu_beside else "through the parent"
    faster = [a for a in evidence.others if a.elapsed < account.elapsed and a.losses is not None
              and a.losses.transfer < _MOSTLY * account.losses.transfer]  # fmt: skip
    best = min(faster, key=lambda a: a.elapsed, default=None)
    cure = (
        f"use --backend {best.runs.backend}" if best else f"let {_place(step)} give less (a reduction, fewer columns)"
    )
    of = f", most of it of `{step}`," if len(account.moved) > 1 else f" of `{step}`"
    return f"{account.losses.percents()['transfer']} % of core-seconds move {bytes_text(total)}{of} {where}; {cure}"


def _dependency(account: Account, evidence: Evidence) -> str:
    if long := _one_long(account):
        return long
    path = [_step(copy) for copy, _ in sorted(account.critical.by_step().items(), key=lambda item: -item[1])]
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(path[:3]))
    step = path[0] if path else ""
    computing = account.critical.seconds("compute")
    useful = account.losses.useful if account.losses is not None else 0.0
    smaller = _or(evidence, step, "more, smaller pieces", "give the workers more to do at once: split")
    if account.span >= _MOSTLY * account.elapsed:
        bound = useful / account.span
        times = f"{duration_text(computing)} of {duration_text(account.elapsed)} elapsed"
        # tasks that ran faster here than serially are no proof of what serial's times forbid
        most = f": at most {ratio_text(bound)} with any number of workers" if bound >= evidence.speedup else ""
        return f"the critical path through {names} computes {times}{most}; {smaller}"
    if account.factors is not None and account.factors.load_balance < _BALANCED:
        pieces = count_text(account.n_segments, "piece of work", "pieces of work")
        return (f"the workers are busy for {_percent(account.factors.load_balance)} of the busiest one's time: "
                f"{pieces} on {count_text(account.n_workers, 'worker')}; {smaller}")  # fmt: skip
    wait = account.critical.seconds("data-wait")
    waited = f"{duration_text(wait)} of the critical path ({names})"
    return (f"workers wait for inputs: {waited} is neither work nor a busy worker; "
            f"{_coarser(account, evidence, step, wait / max(len(account.critical.steps), 1))}")  # fmt: skip


def _one_long(account: Account) -> str:
    """The sentence of a task that takes half of the run or more while others had something to share; empty without."""
    longest = account.tasks[0] if account.tasks and account.n_workers > 1 else None
    if longest is None or longest.seconds < _MOSTLY * account.elapsed:
        return ""
    times = f"takes {duration_text(longest.seconds)} of {duration_text(account.elapsed)} elapsed"
    where = _place(longest.step)
    return f"one task of `{longest.step}` ({longest.key}) {times}, and the other workers wait; split it: {where}"


def _unexplained(account: Account, evidence: Evidence) -> str:
    if account.gaps:
        return "a worker was lost, and its work done again; see the messages of the run, and the memory of its steps"
    return "nobody saw what the workers did; please report this run's trace"


_SENTENCES: Mapping[str, Callable[[Account, Evidence], str]] = {
    "inflation": _inflation,
    "runtime": _overhead("runtime", "unpickling and event loop"),
    "transfer": _transfer,
    "scheduling": _overhead("scheduling", "waiting to be handed out"),
    "dependency": _dependency,
    "unexplained": _unexplained,
}


# ---------------------------------------------------------------------------------------------------------------------
# Parts of sentences
# ---------------------------------------------------------------------------------------------------------------------


def _step(copy: str) -> str:
    """The step in the file that a copy is of."""
    return copy.partition("[")[0]


def _place(copy: str) -> str:
    """Where it stands in the file: ``steps.fit``, ``outputs.model``."""
    step = _step(copy)
    return f"outputs.{step.removeprefix('write ')}" if step.startswith("write ") else f"steps.{step}"


def _throughput(times: StepTimes, n_workers: int) -> float:
    """How many times as fast as serially the step's tasks went, if all workers were at it."""
    return n_workers * times.useful / times.seconds if times.seconds else 0.0


def _grown_cpu(step: str, account: Account) -> float:
    """How many times the CPU time that a step takes alone it took."""
    times = account.by_step.get(step)
    return times.cpu / times.useful_cpu if times is not None and times.useful_cpu else 0.0


def _threads_of_its_own(account: Account) -> float:
    """CPU seconds beside the tasks, in processes that run nothing but tasks: Dask's workers have an event loop, too."""
    return 0.0 if "scheduler" in account.cpu_beside else account.cpu_beside.get("workers", 0.0)


def _fastest(step: str, others: Sequence[Account]) -> Account | None:
    """The back end with processes in which the tasks of a step were least slowed down."""
    able = [a for a in others if "workers" in a.cpu_beside and step in a.by_step]
    return max(able, key=lambda a: _throughput(a.by_step[step], a.n_workers), default=None)


def _coarser(account: Account, evidence: Evidence, step: str, overhead: float) -> str:
    """How to have fewer, larger tasks: ``steps.parse.batch: 50``."""
    knob = (evidence.knobs or {}).get(step)
    if knob is None:
        return f"fewer, larger tasks in {_place(step)}"
    if knob.kind != "batch":
        return f"larger {knob.path}"
    times, n = account.by_step[step], max(knob.n_items, 1)
    enough = math.ceil(_FINE * overhead * n / times.seconds) if times.seconds else n
    now = -(-n // times.n_segments)
    most = max(2, -(-n // account.n_workers))
    return f"{knob.path}: {min(_round(max(enough, 2 * now)), most)}"


def _or(evidence: Evidence, step: str, with_handle: str, without: str) -> str:
    knob = (evidence.knobs or {}).get(step)
    if knob is not None and knob.kind == "chunks":
        return f"{with_handle}: {knob.path}"
    return f"{without} {_place(step)}"


def _round(n: int) -> int:
    """Two digits are enough of a suggestion.

    >>> _round(1234)
    1200
    """
    digits = max(0, len(str(n)) - 2)
    return round(n, -digits)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
