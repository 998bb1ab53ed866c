"""The sentences of an explanation: the evidence for a cause, what to change, the verdict."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Self

from pipeline.config.html_table import html_table
from pipeline.experiments.explanation.diagnosis import Bound, Cause
from pipeline.experiments.explanation.explained import Explained, Explanation
from pipeline.experiments.explanation.recommendations import Change
from pipeline.report.text_tables import Sentence
from pipeline.units import bytes_text, count_text, duration_text, ratio_text

__all__ = ["ExplanationReport", "bound_text", "cause_text", "what_to_change", "why_change"]

Numbers = Mapping[str, Any]


# ---------------------------------------------------------------------------------------------------------------------
# Causes
# ---------------------------------------------------------------------------------------------------------------------


def cause_text(cause: Cause) -> str:
    """Return the evidence as one clause with the numbers, which follows the name of the step."""
    return _CAUSES[cause.finding](cause.numbers)


def bound_text(bound: Bound) -> str:
    """Return which steps bound the speedup and how, as a sentence without its full stop."""
    named = ", ".join(f"`{step}`" for step in bound.steps[:3])
    more = f" and {count_text(len(bound.steps) - 3, 'more step')}" if len(bound.steps) > 3 else ""
    return f"{named}{more} {cause_text(bound.cause)}"


def _threads(n: Numbers) -> str:
    return f"{count_text(n['n'], 'thread')} {ratio_text(n['threads'])}"


def _processes(n: Numbers) -> str:
    return f"{count_text(n['n'], 'process')} {ratio_text(n['processes'])}"


def _both(n: Numbers) -> str:
    return f"{_threads(n)}, {_processes(n)}"


def _counting(n: Numbers, name: str) -> str:
    return f"{count_text(n['n'], 'process')} that only count get {ratio_text(n[name])}"


def _waits(n: Numbers) -> str:
    return f"waits: it uses a core for {n['busy']:.0%} of its time"


def _many(n: Numbers) -> str:
    return f", {count_text(n['n_many'], 'thread')} {ratio_text(n['many'])}" if "many" in n else ""


def _blas(n: Numbers) -> str:
    workers = count_text(n["n"], "worker")
    every = f", {workers} {ratio_text(n['blas_all'])}" if n["blas_all"] is not None else ""
    return (f"BLAS on {count_text(n['n'], 'thread')}: 1 worker {ratio_text(n['blas_one'])}{every}; "
            f"BLAS on 1 thread: {workers} {ratio_text(n['processes'])}")  # fmt: skip


def _moving(n: Numbers) -> str:
    return (f"moves {bytes_text(n['nbytes'])} a task, which takes {n['share']:.0%} of its time "
            f"({duration_text(n['moving'])} for {duration_text(n['task'])}): {_processes(n)}, with moving "
            f"{ratio_text(n['processes_with_moving'])}; {_threads(n)}")  # fmt: skip


def _long_task(n: Numbers) -> str:
    short = f", where the median takes {duration_text(n['median'])}" if n["median"] is not None else ""
    return (f"has one long task: {duration_text(n['longest'])} of {duration_text(n['work'])}{short}: at most "
            f"{ratio_text(n['speedup'])} on {count_text(n['n'], 'worker')}")  # fmt: skip


def _chain(n: Numbers) -> str:
    return (f"{'is' if n['n_steps'] == 1 else 'are'} a chain: {count_text(n['n_path'], 'task')} that need each other "
            f"take {duration_text(n['span'])} of {duration_text(n['work'])}: at most {ratio_text(n['most'])} on any "
            "number of workers")  # fmt: skip


_CAUSES: Mapping[str, Callable[[Numbers], str]] = {
    "noise": lambda n: f"has repeats that differ by {n['spread']:.0%}: other programs use this machine ({_both(n)})",
    "no cores": lambda n: f"gets {_both(n)}, but {_counting(n, 'gives')}: other programs use the cores",
    "scales": lambda n: f"scales: {_both(n)}",
    "scales with the machine": lambda n: f"scales as far as this machine allows now: {_both(n)}; "
                                         f"{_counting(n, 'control')}",
    "GIL": lambda n: f"holds the GIL, or a lock like it{', for a part of its time' if n['partly'] else ''}: {_both(n)}",
    "memory": lambda n: f"shares memory bandwidth and caches: {_both(n)}, and a task takes {ratio_text(n['growth'])} "
                        "the CPU time that it takes alone",
    "same CPU": lambda n: f"does not scale, at the same CPU time a task: {_both(n)}; a lock, a disk, or something else "
                          "on this machine",
    "waits": lambda n: f"{_waits(n)}; {_both(n)}{_many(n)}",
    "waits with lock": lambda n: f"waits while it holds the GIL or another lock of its process: {_both(n)}",
    "waits together": lambda n: f"{_waits(n)}, and neither more threads nor more processes help ({_both(n)}): what "
                                "they wait for (a disk, a server, a lock) is at its limit",
    "own threads": lambda n: f"starts threads or programs of its own: 1 worker keeps {n['busy']:.1f} cores busy, "
                             f"{_processes(n)}",
    "BLAS threads": lambda n: f"has more threads than cores: {_blas(n)}",
    "BLAS alone": lambda n: f"uses the cores by itself: {_blas(n)}",
    "moving": _moving,
    "tiny": lambda n: f"has small tasks: {duration_text(n['segment'])} of work each, and handing out each takes "
                      f"{duration_text(n['overhead'])} on {count_text(n['n'], 'worker')} of '{n['backend']}'",
    "long task": _long_task,
    "few tasks": lambda n: f"has too few tasks to keep the workers busy: at most {ratio_text(n['speedup'])} on "
                           f"{count_text(n['n'], 'worker')}",
    "chain": _chain,
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Changes
# ---------------------------------------------------------------------------------------------------------------------


def what_to_change(change: Change) -> str:
    """Return the change as it is written in the file or on the command line."""
    return _CHANGES[change.action][0](change)


def why_change(change: Change) -> str:
    """Return in a few words what the change does, or what it is compared with."""
    return _CHANGES[change.action][1](change)


def _smaller(change: Change) -> str:
    return f"Make `{change.knob.path}` smaller" if change.knob is not None else ""


def _fitting(change: Change) -> str:
    return f"smaller `{change.knob.path}`" if change.knob is not None else "smaller chunks"


def _larger(change: Change) -> str:
    path = change.knob.path if change.knob is not None else ""
    return f"Make `{path}` larger" if path else f"Make the pieces of `{change.step}` larger"


_Text = Callable[[Change], str]
_CHANGES: Mapping[str, tuple[_Text, _Text]] = {
    "more threads": (
        lambda c: f"Use `--backend threads --workers {c.n}`",
        lambda c: f"waiting needs no core; on Dask `cluster: {{workers: 1, threads_per_worker: {c.n}}}`",
    ),
    "processes": (lambda c: "Use `--backend processes`, not threads", lambda c: "Dask's workers are processes, too"),
    "threads": (lambda c: "Use `--backend threads`", lambda c: "nothing is moved between threads"),
    "backend": (
        lambda c: f"Use `--backend {c.backend}`", lambda c: f"a task costs less there than on {c.numbers['used']}"
    ),
    "less memory": (
        lambda c: f"Use half the bytes in `{c.step}`: float32, {_fitting(c)} that fit the cache, or fewer passes",
        lambda c: "more workers don't help",
    ),
    "no own threads": (
        lambda c: f"Start no threads in `{c.step}`, or use fewer workers",
        lambda c: f"each of its tasks keeps {c.numbers['busy']:.1f} cores busy",
    ),
    "one BLAS thread": (
        lambda c: "Give BLAS 1 thread a worker", lambda c: "that is Pipeline's default: start no threads in the step"
    ),
    "one worker": (
        lambda c: "Use 1 worker with all cores for BLAS, or as many workers as cores with 1 thread each",
        lambda c: f"both are as fast for `{c.step}`",
    ),
    "reduce": (
        lambda c: f"Reduce the data in `{c.step}` before it is handed on",
        lambda c: "with processes that moves next to nothing",
    ),
    "split": (
        lambda c: _smaller(c) or f"Split the long task of `{c.step}`",
        lambda c: f"{c.numbers['task']}, into {c.n}; else start it first",
    ),
    "more tasks": (
        lambda c: _smaller(c) or f"Make more, smaller tasks in `{c.step}`",
        lambda c: f"a multiple of {c.n} of equal size",
    ),
    "no chain": (
        lambda c: "Make independent pieces instead of a chain",
        lambda c: f"{ratio_text(c.numbers['most'])} is the most on any number of workers",
    ),
    "batch": (
        lambda c: f"Set `{c.knob.path if c.knob is not None else ''}: {c.n}`", lambda c: "fewer, larger tasks"
    ),
    "larger": (_larger, lambda c: f"about {c.n} times as much in each task"),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# The verdict
# ---------------------------------------------------------------------------------------------------------------------


class ExplanationReport(Explanation):
    """An explanation with its sentences, as Python users get it."""

    @classmethod
    def of(cls, explanation: Explanation) -> Self:
        """Add the sentences to an explanation."""
        return cls(**vars(explanation))

    @property
    def verdict(self) -> str:
        """Return the advice as text."""
        return str(self.advice)

    @property
    def advice(self) -> Sentence:
        """Return what to change first; why: the step, the cause with its numbers, and what it should save."""
        main = self.main
        if main is None:
            return Sentence("Give it more time: `--budget 2min`", "no step was probed, for the reasons listed")
        best = next((change for change in self.changes if change.step == main.step), None)
        cause = next((cause for cause in main.causes if best is not None and cause.kind == best.kind), main.cause)
        why = f"`{main.step}` ({main.share:.0%} of {duration_text(self.structure.work)}) {cause_text(cause)}"
        if self.bound is not None and cause == self.bound.cause:
            why = bound_text(self.bound)
        if best is None:
            return Sentence(_nothing_to_change(cause), why)
        if best.before is None or best.after is None:
            return Sentence(what_to_change(best), why)
        gain = f"{duration_text(best.after)} instead of {duration_text(best.before)}"
        return Sentence(what_to_change(best), f"{why}. Predicted: {gain} on {count_text(self.n_workers, 'worker')}")

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types that JSON has; times in seconds, sizes in bytes."""
        structure = asdict(self.structure) | {"most": self.structure.most, "speedup": self.structure.speedup}
        bound = self.bound
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "n_tasks": self.n_tasks,
            "n_ran": self.n_ran,
            "workers": self.n_workers,
            "cores": self.n_cores,
            "budget": self.budget,
            "elapsed": self.elapsed,
            "structure": structure,
            "bound": {"steps": bound.steps, "cause": _cause_dict(bound.cause)} if bound is not None else None,
            "steps": [_step_dict(one) for one in self.steps],
            "not_probed": dict(self.not_probed),
            "changes": [_change_dict(change) for change in self.changes],
            "predicted": dict(self.predicted),
            "overheads": {name: asdict(one) for name, one in self.overheads.items()},
            "verdict": self.verdict,
            "advice": self.advice._asdict(),
        }

    def __repr__(self) -> str:
        return f"<Explanation of {self.name!r}: {self.verdict}>"

    def _repr_html_(self) -> str:
        steps = [
            (one.step, f"{one.share:.0%}", duration_text(one.seconds), cause_text(one.cause)) for one in self.steps
        ]
        steps += [(name, "", "", f"not probed: {why}") for name, why in self.not_probed.items()]
        table = html_table(("step", "share", "work", "cause"), steps, numbers=("share", "work"))
        changes = [f"<li><b>{html.escape(what_to_change(one))}</b>: {html.escape(why_change(one))}</li>"
                   for one in self.changes]  # fmt: skip
        listed = f"<ol>{''.join(changes)}</ol>" if changes else ""
        return f"<p><b>{html.escape(self.verdict)}</b></p>{table}{listed}"


def _step_dict(one: Explained) -> dict[str, Any]:
    return {
        "step": one.step,
        "n_tasks": one.n_tasks,
        "seconds": one.seconds,
        "share": one.share,
        "cause": one.cause.kind,
        "causes": [_cause_dict(cause) for cause in one.causes],
        "readings": one.measurements.to_dict() if one.measurements is not None else None,
    }


def _cause_dict(cause: Cause) -> dict[str, Any]:
    return {"kind": cause.kind, "text": cause_text(cause), "disturbed": cause.disturbed}


def _change_dict(change: Change) -> dict[str, Any]:
    return {
        "step": change.step,
        "what": what_to_change(change),
        "why": why_change(change),
        "before": change.before,
        "after": change.after,
        "by_hand": change.by_hand,
        "kind": change.kind,
        "saves": change.saves,
    }


def _nothing_to_change(cause: Cause) -> str:
    if cause.kind == "none":
        return "Change nothing"
    return "Explain it again when the machine does nothing else" if cause.disturbed else "Leave it: no change is known"
