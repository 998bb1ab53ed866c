"""Add to a comparison where the core-seconds went, why speedups are not higher, and the laws of scaling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends.local.child_processes import count_cores
from pipeline.experiments.comparison.reasons import LEAST_SHARE, Evidence, TuningKnob, reason
from pipeline.experiments.comparison.result import Comparison, Difference, Measurement, Reference
from pipeline.experiments.comparison.scaling import scaling
from pipeline.trace.account import Runs, account
from pipeline.trace.costs import cost
from pipeline.trace.losses import serial_times
from pipeline.trace.shape import Shape
from pipeline.trace.statistics import median, median_interval, ratio_interval
from pipeline.trace.trace import Trace

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph


__all__ = ["Calls", "explained", "tuning_knobs"]


@dataclass
class Calls:
    """The runs of a single-threaded reference call so far."""

    call: str
    elapsed: list[float] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    failure: str = ""


def explained(comparison: Comparison, graph: Graph, calls: Calls | None, config: Config | None) -> Comparison:
    """Return the comparison with accounts, causes, laws of scaling, and the comparison with the reference call."""
    by_case = {row.label: [m for m in comparison.measurements if m.case == row.label] for row in comparison.ran}
    reference = comparison.rows[0]
    traces = {label: [Trace.load(m.trace) for m in runs] for label, runs in by_case.items()}
    serial = serial_times(traces[reference.label])
    shape = Shape.of(graph)
    accounts = []
    for row in comparison.ran:
        files = tuple(str(Path(m.trace).relative_to(comparison.folder)) for m in by_case[row.label])
        runs = Runs(row.label, row.backend, row.workers, files)
        accounts.append(account(traces[row.label], runs, shape=shape, serial=serial))
    found = {a.runs.label: a for a in accounts}
    n_items = Counter[str]()
    for policy in graph.policies.values():
        n_items[policy.step] += len(policy.items or ())
    sizes = tuning_knobs(config, n_items) if config is not None else {}
    causes = {}
    for row in comparison.ran:
        if row.reference or row.speedup is None or row.elapsed is None:
            continue
        mine = found[row.label]
        others = [a for a in accounts if a is not mine and a.n_workers == mine.n_workers > 1]
        cpu = (row.user + row.system) / row.elapsed.value
        starved = median([m.starved or 0.0 for m in by_case[row.label]]) if comparison.disturbed >= LEAST_SHARE else 0.0
        evidence = Evidence(row.speedup.value, cpu, others, sizes, count_cores(), starved)
        causes[row.label] = reason(mine, evidence)
    return replace(
        comparison,
        graph=graph,
        config=config,
        accounts=tuple(accounts),
        causes=causes,
        scaling=scaling(comparison.rows),
        reference=_reference(calls, comparison, by_case) if calls is not None else None,
    )


def tuning_knobs(config: Config, n_items: Mapping[str, int] | None = None) -> dict[str, TuningKnob]:
    """Return for each step the key that sets the size of its tasks: its ``batch``, its ``chunks``, or its source's.

    Parameters
    ----------
    n_items : step -> number of items of its ``over``
    """
    found: dict[str, TuningKnob] = {}
    for step in config.steps.values():
        if step.over is not None:
            found[step.step] = TuningKnob(f"steps.{step.step}.batch", "batch", (n_items or {}).get(step.step, 0))
        elif getattr(step.parameters, "chunks", None):
            found[step.step] = TuningKnob(f"steps.{step.step}.chunks", "chunks")
        else:  # steps come after the steps that they refer to
            sources = (found.get(reference.step) for reference in step.references())
            inherited = next((knob for knob in sources if knob is not None and knob.kind == "chunks"), None)
            if inherited is not None:
                found.setdefault(step.step, inherited)
    return found


def _reference(calls: Calls, comparison: Comparison, runs: Mapping[str, list[Measurement]]) -> Reference:
    if calls.failure or not calls.elapsed:
        return Reference(calls.call, failure=calls.failure or "it was not called")
    elapsed = median_interval(calls.elapsed)
    serial = [m.elapsed for m in runs[comparison.rows[0].label]]
    times: dict[str, dict[int, float]] = {}
    for row in comparison.ran:
        if row.elapsed is not None:
            times.setdefault(row.backend, {})[row.workers] = row.elapsed.value
    return Reference(
        call=calls.call,
        elapsed=elapsed,
        speedup=ratio_interval(serial, calls.elapsed),
        differences=tuple(calls.differences),
        cost={backend: cost(elapsed.value, by_workers) for backend, by_workers in times.items()},
    )
