"""Add to a comparison where the core-seconds went, why speedups are not higher, and the laws of scaling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends.local.child_processes import count_cores
from pipeline.backends.registry import base_name, is_remote
from pipeline.experiments.comparison.advice import (
    MeasuredCase,
    Reason,
    Situation,
    advise,
    recommended,
    start_up_first,
)
from pipeline.experiments.comparison.causes import Cause, RunFacts, guilty
from pipeline.experiments.comparison.judge import causes
from pipeline.experiments.comparison.result import Comparison, Difference, Measurement, Reference
from pipeline.experiments.comparison.scaling import scaling
from pipeline.experiments.comparison.tuning_knobs import TuningKnob, tuning_knobs
from pipeline.graph.ownership import runs_users_code
from pipeline.trace.account import Account, Runs, account
from pipeline.trace.costs import cost
from pipeline.trace.losses import SerialTimes, serial_times
from pipeline.trace.measured_schedule import MeasuredSchedule
from pipeline.trace.shape import Shape
from pipeline.trace.statistics import median, median_interval, ratio_interval
from pipeline.trace.trace import Trace

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph


__all__ = ["Calls", "explained"]

_WASTED = ("inflation", "runtime", "transfer", "scheduling", "limit", "dependency", "unexplained")
_IN_COMMON = frozenset({"waiting", "limit", "chain", "few tasks", "long task"})
"""Causes that lie in the tasks and the graph: they hold on every back end."""


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
    found = {
        a.runs.label: (_cause(traces[a.runs.label], by_case, a, shape, serial, reference.label), a)
        for a in accounts
        if a.runs.label != reference.label and a.elapsed
    }
    reasons = _reasons(comparison, found, _knobs(graph, config), _ours(graph))
    best = min(row.elapsed.value for row in comparison.ran if row.elapsed is not None)
    return replace(
        comparison,
        graph=graph,
        config=config,
        accounts=tuple(accounts),
        causes=reasons,
        recommendations=tuple(recommended(list(reasons.values()), best)),
        scaling=scaling(comparison.rows),
        reference=_reference(calls, comparison, by_case) if calls is not None else None,
    )


def _knobs(graph: Graph, config: Config | None) -> Mapping[str, TuningKnob]:
    n_items = Counter[str]()
    for policy in graph.policies.values():
        n_items[policy.step] += len(policy.items or ())
    return tuning_knobs(config, n_items) if config is not None else {}


def _ours(graph: Graph) -> frozenset[str]:
    """Return the steps, and outputs, none of whose tasks runs code of the user."""
    users = {graph.owners[key] for key, node in graph.tasks.items() if runs_users_code(node)}
    return frozenset(graph.owners.values()) - users


def _cause(
    traces: Sequence[Trace],
    runs: Mapping[str, Sequence[Measurement]],
    judged: Account,
    shape: Shape,
    serial: SerialTimes,
    reference: str,
) -> tuple[Cause, Cause]:
    """Return what kept a case from being faster: in its median run, and in two of three rounds.

    And the same without the causes that lie in the tasks and the graph, which all back ends have in common.
    """
    own = judged.runs.label
    start_up, serial_start_up = (median([m.start_up for m in runs[label]]) for label in (own, reference))
    rounds = []
    for trace in traces:
        n_cores = judged.n_workers if is_remote(judged.runs.backend) else count_cores()
        facts = RunFacts.of(trace, n_cores=n_cores, start_up=start_up, serial_start_up=serial_start_up)
        try:
            schedule = MeasuredSchedule.of(trace, shape, serial)
        except ValueError:  # items were dropped, or a worker was lost with tasks that have no row
            lost = Cause("lost worker", after=judged.elapsed) if judged.gaps else Cause("none")
            return lost, lost
        rounds.append(causes(schedule, facts))
    apart = [[cause for cause in found if cause.kind not in _IN_COMMON] for found in rounds]
    return guilty(rounds, judged.round - 1), guilty(apart, judged.round - 1)


def _reasons(
    comparison: Comparison,
    found: Mapping[str, tuple[tuple[Cause, Cause], Account]],
    knobs: Mapping[str, TuningKnob],
    ours: frozenset[str],
) -> dict[str, Reason]:
    """Return for each case why it is not faster, and what to change."""
    measured = {
        row.label: MeasuredCase(row.label, row.backend, row.workers, row.elapsed.value,
                                row.start_up + row.elapsed.value + row.commit, row.start_up,
                                base_name(row.backend) not in ("serial", "threads"))
        for row in comparison.ran if row.elapsed is not None
    }  # fmt: skip
    held = frozenset(account.runs.backend for (cause, _), account in found.values() if cause.kind == "gil")
    reasons = {}
    for row in comparison.ran:
        if row.label not in found or row.speedup is None:
            continue
        (cause, own), account = found[row.label]
        cases = tuple(measured.values())
        at = Situation(measured[row.label], cases, row.speedup.value, knobs, count_cores(), held, ours)
        cause = start_up_first(cause, at)
        advice = advise(cause, at)
        if advice.measured and cause.kind in _IN_COMMON and own.kind not in ("none", "machine"):
            cause = own  # why another back end is faster than this one
        percents = account.losses.percents() if account.losses is not None else {}
        largest = sorted(_WASTED, key=lambda name: -percents.get(name, 0))[:2]
        reasons[row.label] = Reason(
            label=row.label,
            backend=row.backend,
            n_workers=account.n_workers,
            elapsed=at.case.elapsed,
            speedup=row.speedup.value,
            cause=cause,
            advice=advice,
            largest=tuple((name, percents.get(name, 0)) for name in largest),
        )
    return reasons


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
