"""Why a speedup is not higher, as one sentence for each back end: the evidence, then what to change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.units import bytes_text, count_text, duration_text, ratio_text

if TYPE_CHECKING:
    from pipeline.experiments.comparison.reasons import Advice, Reason

__all__ = ["LOSS_NAMES", "reason_text"]

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

_OVERHEADS = {"runtime": "unpickling and event loop", "scheduling": "waiting to be handed out"}


def reason_text(reason: Reason) -> str:
    """Return the sentence of one back end: ``threads: 1.04x of 2 workers; evidence; advice``."""
    head = f"{reason.label}: {ratio_text(reason.speedup)} of {count_text(reason.n_workers, 'worker')}"
    finding = _FINDINGS[reason.finding.kind](reason, dict(reason.finding.numbers))
    return f"{head}; {finding}; {_ADVICE[reason.finding.advice.kind](reason.finding.advice)}"


def _no_single_cause(reason: Reason, n: Mapping[str, Any]) -> str:
    two = " and ".join(f"{LOSS_NAMES[name]} {percent}%" for name, percent in n["largest"])
    text = f"no single cause: {two} are the largest losses"
    return f"{text}; the tasks are on a core for {_percent(n['on_cpu'])} of their time" if "on_cpu" in n else text


def _gil(reason: Reason, n: Mapping[str, Any]) -> str:
    threads = f"{count_text(reason.n_workers, 'thread')} {ratio_text(n['threads'])}"
    processes = f"{count_text(n['n_processes'], 'process')} {ratio_text(n['processes'])}"
    return f"{_cpu(n)}: `{n['step']}` holds the GIL or a lock like it ({threads}, {processes})"


def _overhead(reason: Reason, n: Mapping[str, Any]) -> str:
    task = "piece of work" if n["fused"] else "task"
    return (f"mean {task} {duration_text(n['mean'])} against {duration_text(n['overhead'])} of {_OVERHEADS[n['kind']]} "
            f"a {task.split()[0]} measured here")  # fmt: skip


def _transfer(reason: Reason, n: Mapping[str, Any]) -> str:
    of = f", most of it of `{n['step']}`," if n["other_steps"] else f" of `{n['step']}`"
    where = "between workers" if n["between_workers"] else "through the parent"
    return f"{n['percent']}% of core-seconds move {bytes_text(n['nbytes'])}{of} {where}"


def _critical_path(reason: Reason, n: Mapping[str, Any]) -> str:
    times = f"{duration_text(n['computing'])} of {duration_text(n['elapsed'])} elapsed"
    most = f": at most {ratio_text(n['bound'])} with any number of workers" if n["bound"] is not None else ""
    return f"the critical path through {_names(n)} computes {times}{most}"


def _load_balance(reason: Reason, n: Mapping[str, Any]) -> str:
    pieces = count_text(n["n_segments"], "piece of work", "pieces of work")
    return (f"the workers are busy for {_percent(n['load_balance'])} of the busiest one's time: {pieces} on "
            f"{count_text(reason.n_workers, 'worker')}")  # fmt: skip


_FINDINGS: Mapping[str, Callable[[Reason, Mapping[str, Any]], str]] = {
    "no single cause": _no_single_cause,
    "GIL": _gil,
    "overhead": _overhead,
    "transfer": _transfer,
    "critical path": _critical_path,
    "load balance": _load_balance,
    "memory": lambda reason, n: f"{_alone(n)}, and more on other back ends, too: the workers share memory bandwidth "
                                f"and caches",
    "more CPU": lambda reason, n: f"{_alone(n)}, and not more on other back ends",
    "threads wait": lambda reason, n: f"{_cpu(n)}: in `{n['step']}` threads wait for each other ({_growth(n)}): the "
                                      f"GIL or another lock",
    "few cores": lambda reason, n: f"{count_text(reason.n_workers, 'worker')} share {count_text(n['n_cores'], 'core')}"
                                   f", so tasks of `{n['step']}` wait for one",
    "own threads": lambda reason, n: f"`{n['step']}`: {_growth(n)}, and {duration_text(n['beside'])} of CPU went into "
                                     f"threads that they start themselves: more threads than cores",
    "worker threads": lambda reason, n: f"`{n['step']}`: {_growth(n)}, without CPU: the workers' own threads take "
                                        f"{duration_text(n['beside'])} of CPU beside the tasks and hold the GIL",
    "no core": lambda reason, n: f"`{n['step']}`: {_growth(n)}, and threads that were ready to run had no core for "
                                 f"{duration_text(n['starved'])}: something else uses this machine",
    "waits": lambda reason, n: f"`{n['step']}`: {_growth(n)}, without CPU: {'a lock, ' if n['in_threads'] else ''}a "
                               f"disk, or a core that something else uses",
    "inputs": lambda reason, n: f"workers wait for inputs: {duration_text(n['wait'])} of the critical path "
                                f"({_names(n)}) is neither work nor a busy worker",
    "long task": lambda reason, n: f"one task of `{n['step']}` ({n['key']}) takes {duration_text(n['seconds'])} of "
                                   f"{duration_text(n['elapsed'])} elapsed, and the other workers wait",
    "lost worker": lambda reason, n: "a worker was lost, and its work done again",
    "unseen": lambda reason, n: "what the workers did was not recorded",
}  # fmt: skip


def _fewer_tasks(advice: Advice) -> str:
    if advice.knob is None:
        return f"fewer, larger tasks in {_place(advice.step)}"
    return f"{advice.knob.path}: {advice.n}" if advice.n else f"larger {advice.knob.path}"


_ADVICE: Mapping[str, Callable[[Advice], str]] = {
    "backend": lambda a: f"use --backend {a.backend}",
    "cores": lambda a: f"cluster: {{workers: {a.n}}}",
    "explain": lambda a: f"find out why: pipeline explain --step {a.step}",
    "explain all": lambda a: "measure the steps: pipeline explain",
    "fewer tasks": _fewer_tasks,
    "less memory": lambda a: f"smaller chunks or a smaller dtype: {a.knob.path}" if a.knob is not None
                             else f"touch less memory at once in {_place(a.step)}",
    "limit threads": lambda a: f"limit the threads inside {_place(a.step)}",
    "measure again": lambda a: "measure again when it is free",
    "more tasks": lambda a: f"more, smaller pieces: {a.knob.path}" if a.knob is not None
                            else f"give the workers more to do at once: split {_place(a.step)}",
    "none": lambda a: "nothing to change for so many workers",
    "reduce": lambda a: f"let {_place(a.step)} return less (a reduction, fewer columns)",
    "report": lambda a: "please report this run's trace",
    "see messages": lambda a: "see the messages of the run, and the memory of its steps",
    "split": lambda a: f"split it: {_place(a.step)}",
    "workers": lambda a: f"try --workers {a.n}",
}  # fmt: skip


def _cpu(n: Mapping[str, Any]) -> str:
    return f"user + sys = {n['cpu']:.2f} x elapsed"


def _growth(n: Mapping[str, Any]) -> str:
    return f"its tasks take {ratio_text(n['growth'])} their serial time" if n["growth"] else "its tasks wait"


def _alone(n: Mapping[str, Any]) -> str:
    return f"`{n['step']}` takes {ratio_text(n['cpu_growth'])} the CPU time that it takes alone"


def _names(n: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in n["steps"])


def _place(name: str) -> str:
    """Return the keys of a step, or of an output, in the file: ``steps.fit``, ``outputs.model``."""
    step = name.partition("[")[0]
    return f"outputs.{step.removeprefix('write ')}" if step.startswith("write ") else f"steps.{step}"


def _percent(share: float) -> str:
    return f"{share:.0%}"
