"""Combine measured runs into a row for each case: medians with intervals, speedups over the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pipeline.backends.registry import base_name, is_remote
from pipeline.experiments.comparison.result import Case, Comparison, Difference, Measurement, Row, equality_text
from pipeline.trace.statistics import differ, median, median_interval, parallel_efficiency, ratio_interval

__all__ = ["compared"]


def compared(
    measurements: Sequence[Measurement],
    *,
    cases: Sequence[Case],
    differences: Mapping[str, Sequence[Difference]],
    failures: Mapping[str, tuple[str, int]],
    name: str = "pipeline",
    fingerprint: str = "",
    n_tasks: int = 0,
    folder: str = "",
) -> Comparison:
    """Combine measured runs into a comparison; the first of ``cases`` is the reference.

    Parameters
    ----------
    failures : label of a case -> why it did not run, and its exit code
    """
    labels = [case.label for case in cases]
    by_label = {b: sorted((m for m in measurements if m.case == b), key=lambda m: m.round) for b in labels}
    reference = by_label[labels[0]]
    rows = []
    for case in cases:
        if case.label in failures:
            reason, code = failures[case.label]
            rows.append(Row(case.label, case.backend, case.workers, failure=reason, exit_code=code))
        else:
            beside = _beside_processes(case, cases, by_label)
            rows.append(_row(case, by_label[case.label], reference, beside, differences.get(case.label, ())))
    return Comparison(
        name=name,
        fingerprint=fingerprint,
        n_tasks=n_tasks,
        folder=folder,
        rows=tuple(rows),
        measurements=tuple(measurements),
        differences={b: tuple(found) for b, found in differences.items()},
    )


def _beside_processes(
    case: Case, cases: Sequence[Case], by_label: Mapping[str, list[Measurement]]
) -> list[Measurement]:
    """Return the runs of the back end ``process-per-task``, with as many workers where several numbers are measured."""
    for other in cases:
        if base_name(other.backend) == "process-per-task" and (not other.scaled or other.workers == case.workers):
            return by_label[other.label]
    return []


def _saved(own: list[Measurement], other: list[Measurement]) -> float | None:
    """Return the share of the elapsed time of the other runs that these save, by the rounds that both have."""
    common = sorted({m.round for m in own} & {m.round for m in other})
    if own is other or not common:
        return None
    pairs = [[next(m.elapsed for m in ms if m.round == r) for r in common] for ms in (other, own)]
    ratio = ratio_interval(*pairs).value
    return 1 - 1 / ratio if ratio else None


def _row(
    case: Case,
    own: list[Measurement],
    reference: list[Measurement],
    beside: list[Measurement],
    found: Sequence[Difference],
) -> Row:
    is_reference = own is reference
    n_workers = own[-1].n_workers
    remote = is_remote(case.backend)  # CPU and memory of another machine's workers are not known here
    common = sorted({m.round for m in own} & {m.round for m in reference})
    pairs = [[next(m for m in ms if m.round == r) for r in common] for ms in (reference, own)]
    speedup = ratio_interval(*([m.elapsed for m in ms] for ms in pairs))
    elapsed = median_interval([m.elapsed for m in own])
    return Row(
        label=case.label,
        backend=case.backend,
        workers=n_workers,
        reference=is_reference,
        n_rounds=len(own),
        elapsed=elapsed,
        speedup=None if is_reference else speedup,
        efficiency=None if is_reference else parallel_efficiency(speedup.value, n_workers),
        speedup_all=None if is_reference else ratio_interval(*([m.everything for m in ms] for ms in pairs)),
        saved=_saved(own, reference),
        saved_beside_processes=_saved(own, beside),
        differs=differ(elapsed, median_interval([m.elapsed for m in reference])),
        equality="reference" if is_reference else equality_text(found),
        user=math.nan if remote else median([m.user for m in own]),
        system=math.nan if remote else median([m.system for m in own]),
        start_up=median([m.start_up for m in own]),
        verify=median([m.verify for m in own]),
        commit=median([m.commit for m in own]),
        memory=math.nan if remote else median([m.memory for m in own]),
    )
