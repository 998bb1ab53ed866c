"""Why a back end is not faster, as one sentence: the cause with its evidence, what to change; the recommendation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.units import bytes_text, count_text, duration_text, ratio_text

if TYPE_CHECKING:
    from pipeline.experiments.comparison.advice import Advice, Reason, Recommendation
    from pipeline.experiments.comparison.causes import Cause

__all__ = ["LOSS_NAMES", "cause_text", "change_text", "reason_text", "recommendation_text"]

LOSS_NAMES: Mapping[str, str] = {
    "useful": "useful",
    "inflation": "inflation",
    "runtime": "runtime",
    "transfer": "transfer + serialization",
    "scheduling": "scheduling",
    "dependency": "dependency wait",
    "unexplained": "unexplained",
}
"""What the classes of losses are called."""

Numbers = Mapping[str, Any]
_SHOWN = 4  # steps of a chain, and victims


def reason_text(reason: Reason) -> str:
    """Return the sentence of one back end: ``threads: 1.04x of 2 workers; evidence; advice``."""
    head = f"{reason.label}: {ratio_text(reason.speedup)} of {count_text(reason.n_workers, 'worker')}"
    found = _none(reason) if reason.cause.kind == "none" else cause_text(reason.cause)
    return f"{head}; {found}; {_with_gain(reason)}"


def recommendation_text(one: Recommendation) -> str:
    """Return the recommendation, with its predicted and its measured time: ``recommended: steps.small.batch: 1400``."""
    where = f", with --backend {one.backend}" if one.advice.kind not in ("backend", "workers") else ""
    text = f"recommended: {change_text(one.advice)}{where} ({cause_text(one.reason.cause)})"
    if one.tried is None:
        predicted = f"predicted: {duration_text(one.advice.after or 0.0)} instead of {duration_text(one.best)}"
        return f"{text}; {predicted}" + (f"; {one.not_tried}" if one.not_tried else "")
    return f"{text}; tried: {_outcome(one)}"


def tried_text(one: Recommendation) -> str:
    """Return what one round with a recommendation gave: ``tried steps.small.batch: 1400: 0.69 s, 3.4x``."""
    where = f", with --backend {one.backend}" if one.advice.kind not in ("backend", "workers") else ""
    return f"tried {change_text(one.advice)}{where}: {_outcome(one)}"


def _outcome(one: Recommendation) -> str:
    tried = one.tried
    assert tried is not None, "it was tried"
    if tried.failure:
        return f"it failed: {tried.failure}"
    text = f"{duration_text(tried.elapsed)}, {ratio_text(tried.speedup)} of serial, results {tried.equality}"
    return text if one.helps else f"{text}: no faster than {duration_text(one.best)}"


def cause_text(cause: Cause) -> str:
    """Return the evidence for a cause as one clause that names its step."""
    return _CAUSES[cause.kind](cause, cause.numbers)


def change_text(advice: Advice) -> str:
    """Return what to change, as it is written in the file or on the command line where that is possible."""
    return _ADVICE[advice.kind](advice)


def _with_gain(reason: Reason) -> str:
    advice = reason.advice
    text = change_text(advice)
    if advice.after is None:
        return text
    times = f"{duration_text(reason.elapsed)} -> {duration_text(advice.after)}"
    return f"{text} ({'measured' if advice.measured else 'predicted'}: {times})"


def _none(reason: Reason) -> str:
    if reason.advice.kind == "none":
        return "nothing is wrong"
    two = " and ".join(f"{LOSS_NAMES[name]} {percent}%" for name, percent in reason.largest)
    return f"no single cause: {two} are the largest losses"


def _name(cause: Cause) -> str:
    return f"`{cause.step}`"


def _names(steps: tuple[str, ...]) -> str:
    more = f" and {count_text(len(steps) - _SHOWN, 'more step')}" if len(steps) > _SHOWN else ""
    return ", ".join(f"`{name}`" for name in steps[:_SHOWN]) + more


def _victims(cause: Cause, n: Numbers) -> str:
    return _names(n["victims"]) if n["victims"] != (cause.step,) else "its tasks"


def _slower(cause: Cause, n: Numbers) -> str:
    """Return who is slowed down by how much: ``its tasks take 1.9x their serial time``."""
    verb = "takes" if len(n["victims"]) == 1 and n["victims"] != (cause.step,) else "take"
    return f"{_victims(cause, n)} {verb} {ratio_text(n['growth'])} the serial time beside it"


def _tiny(cause: Cause, n: Numbers) -> str:
    return (f"{_name(cause)} is {count_text(n['n'], 'piece of work', 'pieces of work')} of {duration_text(n['mean'])} "
            f"each, which cost {duration_text(n['overhead'])} each to hand out")  # fmt: skip


def _long(cause: Cause, n: Numbers) -> str:
    median = f" (the median takes {duration_text(n['median'])})" if n["median"] is not None else ""
    return (f"one task of {_name(cause)} ({n['key']}) takes {duration_text(n['seconds'])} of "
            f"{duration_text(n['elapsed'])}{median}, and the other workers wait")  # fmt: skip


_CAUSES: Mapping[str, Callable[[Cause, Numbers], str]] = {
    "gil": lambda c, n: f"{_name(c)} holds the GIL: {_slower(c, n)}",
    "lock": lambda c, n: f"{_name(c)} holds a lock{'' if n['in_threads'] else ' that its processes share'}: "
                         f"{_slower(c, n)}, without CPU time",
    "disk": lambda c, n: f"{_name(c)} waits for the disk ({bytes_text(n['disk'])}): {_slower(c, n)}",
    "stopped worker": lambda c, n: f"the worker of one task of {_name(c)} ({n['key']}) did nothing for "
                                   f"{duration_text(n['seconds'])}: it was stopped, or waited where others did not",
    "own threads": lambda c, n: f"{_name(c)} keeps {n['cores']:.1f} cores busy by itself, with threads or programs of "
                                f"its own: {_slower(c, n)}",
    "few cores": lambda c, n: f"more workers than the {count_text(n['n_cores'], 'core')}: tasks wait for one",
    "machine": lambda c, n: f"something else uses this machine: tasks were ready and had no core for "
                            f"{duration_text(n['seconds'])}",
    "worker threads": lambda c, n: f"{_slower(c, n)}: the workers' own threads hold the GIL",
    "memory": lambda c, n: f"{_name(c)} fills the memory bandwidth or the caches: {_slower(c, n)}, in CPU time",
    "page faults": lambda c, n: f"{_name(c)} gets fresh memory from the system each time: {_slower(c, n)}, in page "
                                "faults",
    "tiny tasks": _tiny,
    "transfer": lambda c, n: f"moving the results of {_name(c)} ({bytes_text(n['nbytes'])}) takes "
                             f"{duration_text(n['seconds'])} of the workers",
    "long task": _long,
    "few tasks": lambda c, n: f"{_name(c)} is {count_text(n['n'], 'piece of work', 'pieces of work')} of up to "
                              f"{duration_text(n['seconds'])}: too few to keep the workers busy",
    "chain": lambda c, n: f"{_names(c.steps)} {'is' if len(c.steps) == 1 else 'are'} a chain of "
                          f"{count_text(n['n'], 'task')} that need each other: {duration_text(n['seconds'])} of "
                          f"{duration_text(n['elapsed'])}, at most {ratio_text(n['most'])} with any number of workers",
    "waiting": lambda c, n: f"{_name(c)} waits: it is on a core for {n['on_core']:.0%} of its time",
    "first calls": lambda c, n: f"the first call of {_name(c)} in each process takes {duration_text(n['seconds'])} "
                                "longer than the others: it loads or imports something",
    "outputs": lambda c, n: f"after the last task {duration_text(n['seconds'])} pass until the outputs are verified",
    "start-up": lambda c, n: f"its workers take {duration_text(n['seconds'])} to start, for "
                             f"{duration_text(n['elapsed'])} of work",
    "lost worker": lambda c, n: "a worker was lost, and its work done again",
}  # fmt: skip


def _smaller(a: Advice) -> str:
    return f"smaller {a.knob.path}" if a.knob is not None and a.knob.kind == "chunks" else ""


def _batch(a: Advice) -> str:
    return f"{a.knob.path if a.knob is not None else ''}: {a.n}"


_ADVICE: Mapping[str, Callable[[Advice], str]] = {
    "backend": lambda a: f"use --backend {a.backend}",
    "batch": _batch,
    "smaller batch": _batch,
    "workers": lambda a: f"--backend {a.backend} --workers {a.n}",
    "cores": lambda a: f"cluster: {{workers: {a.n}}}",
    "chunks": lambda a: _smaller(a) or f"smaller pieces in {_place(a.step)}",
    "split": lambda a: f"split the work of {_place(a.step)} into more, smaller tasks",
    "no chain": lambda a: f"shorten the chain at {_place(a.step)}, or make its links independent",
    "release the GIL": lambda a: f"release the GIL in {_place(a.step)}: numpy on whole arrays, or compiled code",
    "limit threads": lambda a: f"one thread in {_place(a.step)}, or fewer workers",
    "less memory": lambda a: _smaller(a) or f"touch less memory at once in {_place(a.step)}",
    "return less": lambda a: f"let {_place(a.step)} return less (a reduction, fewer columns)",
    "hold the lock for less": lambda a: f"hold the lock in {_place(a.step)} for less of its work",
    "write less often": lambda a: f"write and sync less often in {_place(a.step)}",
    "load once": lambda a: f"import and load at the top of the module of {_place(a.step)}, not in its function",
    "larger tasks": lambda a: f"larger {a.knob.path}" if a.knob is not None
                              else f"fewer, larger tasks in {_place(a.step)}",
    "allocate once": lambda a: f"keep freed memory in {_place(a.step)}: MALLOC_TRIM_THRESHOLD_=268435456 "
                               "MALLOC_MMAP_THRESHOLD_=33554432",
    "fewer files": lambda a: "write fewer, larger files",
    "measure again": lambda a: "measure again",
    "see messages": lambda a: "see the messages of the run, and the memory of its steps",
    "explain": lambda a: "measure the steps: pipeline explain",
    "none": lambda a: "nothing to change for so many workers",
}  # fmt: skip


def _place(name: str) -> str:
    """Return the keys of a step, or of an output, in the file: ``steps.fit``, ``outputs.model``."""
    step = name.partition("[")[0]
    return f"outputs.{step.removeprefix('write ')}" if step.startswith("write ") else f"steps.{step}"
