"""What to change so that a back end is faster, and why: a sentence for each, and the one recommendation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.report.text_tables import Sentence
from pipeline.units import bytes_text, count_text, duration_text, ratio_text

if TYPE_CHECKING:
    from pipeline.experiments.comparison.advice import Advice, Reason, Recommendation
    from pipeline.experiments.comparison.causes import Cause

__all__ = ["LOSS_NAMES", "cause_text", "change_text", "reason_text", "recommendation_text", "tried_text", "use_text"]

LOSS_NAMES: Mapping[str, str] = {
    "useful": "useful",
    "inflation": "inflation",
    "runtime": "runtime",
    "transfer": "transfer + serialization",
    "scheduling": "scheduling",
    "limit": "limit",
    "dependency": "dependency wait",
    "unexplained": "unexplained",
}
"""What the classes of losses are called."""

Numbers = Mapping[str, Any]
_SHOWN = 4  # steps of a chain, and victims


def reason_text(reason: Reason) -> Sentence:
    """Return what to change about one back end, and why."""
    advice = reason.advice
    found = _none(reason) if reason.cause.kind == "none" else cause_text(reason.cause)
    if advice.after is None:
        return Sentence(change_text(advice), found)
    how = "Measured" if advice.measured else "Predicted"
    times = f"{duration_text(advice.after)} instead of {duration_text(reason.elapsed)}"
    return Sentence(change_text(advice), f"{found}. {how}: {times}")


def recommendation_text(one: Recommendation) -> Sentence:
    """Return the recommendation, why, and its measured or predicted time."""
    cause = cause_text(one.reason.cause)
    if one.tried is None:
        predicted = f"Predicted: {duration_text(one.advice.after or 0.0)} instead of {duration_text(one.best)}"
        not_tried = f" ({one.not_tried})" if one.not_tried else ""
        return Sentence(_with_backend(one), f"{cause}. {predicted}{not_tried}")
    return Sentence(_with_backend(one), f"{cause}. Tried: {_outcome(one)}")


def tried_text(one: Recommendation) -> Sentence:
    """Return that a change which was tried in one round did not help."""
    change = change_text(one.advice)
    return Sentence(f"Don't {change[0].lower()}{change[1:]}", f"it was tried: {_outcome(one)}")


def use_text(backend: str, workers: int = 0) -> str:
    """Return how to run on a back end; ``workers`` is 0 where their number is not chosen."""
    if backend.startswith("dask[address="):
        return f"Use `--cluster {backend.removeprefix('dask[address=').removesuffix(']')}`"
    return f"Use `--backend {backend}{f' --workers {workers}' if workers else ''}`"


def _with_backend(one: Recommendation) -> str:
    """Return the change with the back end that it is for, unless it names one itself."""
    change = change_text(one.advice)
    if one.advice.kind in ("backend", "workers"):
        return change
    return f"{change}, and {use_text(one.backend).replace('Use', 'use', 1)}"


def _outcome(one: Recommendation) -> str:
    tried = one.tried
    assert tried is not None, "it was tried"
    if tried.failure:
        return f"it failed: {tried.failure}"
    text = f"{duration_text(tried.elapsed)} instead of {duration_text(one.best)}"
    return f"{text}, {ratio_text(tried.speedup)} as fast as serial, results {tried.equality}"


def cause_text(cause: Cause) -> str:
    """Return the evidence for a cause as one clause that names its step."""
    return _CAUSES[cause.kind](cause, cause.numbers)


def change_text(advice: Advice) -> str:
    """Return what to do, with the keys of the file or the options of the command line where there are any."""
    return _ADVICE[advice.kind](advice)


def _none(reason: Reason) -> str:
    speedup = f"{ratio_text(reason.speedup)} on {count_text(reason.n_workers, 'worker')}"
    if reason.advice.kind == "none":
        return f"{speedup}: its workers are busy"
    two = " and ".join(f"{LOSS_NAMES[name]} {percent}%" for name, percent in reason.largest)
    return f"{speedup}, and no single cause was found; the largest losses are {two}"


def _name(cause: Cause) -> str:
    return f"`{cause.step}`"


def _names(steps: tuple[str, ...]) -> str:
    more = f" and {count_text(len(steps) - _SHOWN, 'more step')}" if len(steps) > _SHOWN else ""
    return ", ".join(f"`{name}`" for name in steps[:_SHOWN]) + more


def _slower(cause: Cause, n: Numbers) -> str:
    """Return who is slowed down by how much: ``its tasks take 1.90x as long as alone``."""
    growth = ratio_text(n["growth"])
    if n["victims"] == (cause.step,) or not n["victims"]:
        return f"its tasks take {growth} as long as alone"
    verb = "takes" if len(n["victims"]) == 1 else "take"
    return f"{_names(n['victims'])} {verb} {growth} as long beside it as alone"


def _tiny(cause: Cause, n: Numbers) -> str:
    pieces = count_text(n["n"], "piece of work", "pieces of work")
    return (f"{_name(cause)} has {pieces} of {duration_text(n['mean'])}, and handing out each of them takes "
            f"{duration_text(n['overhead'])}")  # fmt: skip


def _long(cause: Cause, n: Numbers) -> str:
    median = f" (the median takes {duration_text(n['median'])})" if n["median"] is not None else ""
    return (f"the other workers wait for one task of `{cause.step}`, {n['key']}, which takes "
            f"{duration_text(n['seconds'])} of {duration_text(n['elapsed'])}{median}")  # fmt: skip


_CAUSES: Mapping[str, Callable[[Cause, Numbers], str]] = {
    "gil": lambda c, n: f"{_name(c)} holds the GIL: {_slower(c, n)}",
    "lock": lambda c, n: f"{_name(c)} holds a lock{'' if n['in_threads'] else ' that its processes share'}: "
                         f"{_slower(c, n)}, without using more CPU time",
    "disk": lambda c, n: f"{_name(c)} waits for the disk ({bytes_text(n['disk'])}): {_slower(c, n)}",
    "stopped worker": lambda c, n: f"the worker of one task of {_name(c)}, {n['key']}, did nothing for "
                                   f"{duration_text(n['seconds'])}: it was stopped, or waited where others did not",
    "own threads": lambda c, n: f"{_name(c)} keeps {n['cores']:.1f} cores busy by itself, with threads or programs of "
                                f"its own: {_slower(c, n)}",
    "few cores": lambda c, n: f"there are more workers than the {count_text(n['n_cores'], 'core')}, so tasks wait for "
                              "a core",
    "machine": lambda c, n: "other programs used this machine: tasks were ready to run and had no core for "
                            f"{duration_text(n['seconds'])}",
    "worker threads": lambda c, n: f"{_name(c)} shares the GIL with the worker's own threads: {_slower(c, n)}",
    "memory": lambda c, n: f"{_name(c)} fills the memory bandwidth or the caches: {_slower(c, n)}, in CPU time",
    "page faults": lambda c, n: f"{_name(c)} gets new memory from the system for each array: {_slower(c, n)}, because "
                                "of page faults",
    "tiny tasks": _tiny,
    "transfer": lambda c, n: f"moving the results of {_name(c)}, {bytes_text(n['nbytes'])}, takes "
                             f"{duration_text(n['seconds'])} of the workers' time",
    "long task": _long,
    "few tasks": lambda c, n: f"{_name(c)} has only {count_text(n['n'], 'piece of work', 'pieces of work')}, of up to "
                              f"{duration_text(n['seconds'])} each: too few to keep the workers busy",
    "limit": lambda c, n: f"{_names(c.steps)} {'waits' if len(c.steps) == 1 else 'wait'} for the limit `{n['name']}: "
                          f"{n['n']:,}`",
    "chain": lambda c, n: f"{_names(c.steps)} {'is' if len(c.steps) == 1 else 'are'} a chain: "
                          f"{count_text(n['n'], 'task')} that run one after the other take "
                          f"{duration_text(n['seconds'])} of {duration_text(n['elapsed'])}, so the speedup is at most "
                          f"{ratio_text(n['most'])} with any number of workers",
    "waiting": lambda c, n: f"{_name(c)} mostly waits: it uses a core for {n['on_core']:.0%} of its time",
    "first calls": lambda c, n: f"the first call of {_name(c)} in each process takes {duration_text(n['seconds'])} "
                                "longer than the others: it loads or imports something",
    "outputs": lambda c, n: f"verifying the outputs takes {duration_text(n['seconds'])} after the last task",
    "start-up": lambda c, n: f"starting its workers takes {duration_text(n['seconds'])}, for "
                             f"{duration_text(n['elapsed'])} of work",
    "lost worker": lambda c, n: "a worker was lost, and its work was done again",
}  # fmt: skip


def _smaller(a: Advice) -> str:
    return f"Make `{a.knob.path}` smaller" if a.knob is not None and a.knob.kind == "chunks" else ""


def _batch(a: Advice) -> str:
    return f"Set `{a.knob.path if a.knob is not None else ''}: {a.n}`"


_ADVICE: Mapping[str, Callable[[Advice], str]] = {
    "backend": lambda a: use_text(a.backend),
    "batch": _batch,
    "smaller batch": _batch,
    "workers": lambda a: use_text(a.backend, a.n),
    "cores": lambda a: f"Set `cluster: {{workers: {a.n}}}`",
    "more cluster workers": lambda a: "Start more workers on the cluster",
    "chunks": lambda a: _smaller(a) or f"Make the pieces of {_place(a.step)} smaller",
    "split": lambda a: f"Split the work of {_place(a.step)} into more, smaller tasks",
    "no chain": lambda a: f"Shorten the chain at {_place(a.step)}, or make its tasks independent of each other",
    "release the GIL": lambda a: f"Release the GIL in {_place(a.step)} (use numpy on whole arrays, or compiled code)",
    "limit threads": lambda a: f"Use one thread in {_place(a.step)}, or fewer workers",
    "less memory": lambda a: _smaller(a) or f"Use less memory at a time in {_place(a.step)}",
    "return less": lambda a: f"Return less from {_place(a.step)} (reduce first, or select columns)",
    "hold the lock for less": lambda a: f"Hold the lock in {_place(a.step)} for a shorter time",
    "write less often": lambda a: f"Write and sync less often in {_place(a.step)}",
    "load once": lambda a: f"Import and load at the top of the module of {_place(a.step)}, not in its function",
    "larger tasks": lambda a: f"Make `{a.knob.path}` larger" if a.knob is not None
                              else f"Make fewer, larger tasks of {_place(a.step)}",
    "allocate once": lambda a: "Set `MALLOC_TRIM_THRESHOLD_=268435456 MALLOC_MMAP_THRESHOLD_=33554432` in the "
                               f"environment, so that {_place(a.step)} reuses memory",
    "raise the limit": lambda a: f"Raise `limits.{a.step}` above {a.n:,}, if what it protects can do more",
    "fewer files": lambda a: "Write fewer, larger files",
    "measure again": lambda a: "Measure again",
    "see messages": lambda a: "Read the messages of the run, and look at the memory of its steps",
    "explain": lambda a: "Find the cause by experiment: `pipeline explain`",
    "none": lambda a: "Change nothing",
}  # fmt: skip


def _place(name: str) -> str:
    """Return the keys of a step, or of an output, in the file: ``steps.fit``, ``outputs.model``."""
    step = name.partition("[")[0]
    return f"`outputs.{step.removeprefix('write ')}`" if step.startswith("write ") else f"`steps.{step}`"
