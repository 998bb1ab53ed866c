"""The result of ``explain`` as text for a terminal of 80 columns: what to change, measurements, causes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.experiments.explanation.diagnosis import NESTED
from pipeline.report.explain_cause_text import ExplanationReport, bound_text, cause_text, what_to_change, why_change
from pipeline.report.text_tables import WIDTH, Column, table_text, wrapped
from pipeline.units import count_text, duration_text, ratio_text

if TYPE_CHECKING:
    from pipeline.experiments.explanation.explained import Explained, Explanation
    from pipeline.experiments.explanation.measurements import ProbeTimes


__all__ = ["explanation_text"]

_NAMES = {
    "waiting": "waiting",
    "gil": "GIL",
    "bandwidth": "memory",
    "oversubscription": "threads",
    "transfer": "transfer",
    "long task": "long task",
    "few tasks": "few tasks",
    "chain": "chain",
    "tiny": "tiny tasks",
    "none": "scales",
    "unclear": "unclear",
}
_CHANGES = 5
_STEPS = 10
_SENTENCES = 4


def explanation_text(explanation: Explanation, *, width: int = WIDTH) -> str:
    """Return what to change first, the table of probes, a sentence for each step, what was not probed, ranked changes.

    Parameters
    ----------
    width : of the terminal, in columns
    """
    lines = [*wrapped([ExplanationReport.of(explanation).advice], width), "", *wrapped(_head(explanation), width), ""]
    if explanation.steps:
        lines += [_table(explanation, width), ""]
        lines += [*wrapped(_sentences(explanation), width), ""]
    if explanation.not_probed:
        lines += [*wrapped(_not_probed(explanation), width), ""]
    if explanation.changes:
        lines += [_ranking(explanation, width), ""]
    return "\n".join(lines[:-1])


def _head(e: Explanation) -> Iterator[str]:
    s = e.structure
    reached = "" if e.complete else f" (measured: {e.n_ran:,} of them, the rest estimated)"
    workers = count_text(e.n_workers, "worker")
    yield (f"{e.name}: {count_text(e.n_tasks, 'task')}{reached}, {duration_text(s.work)} of work; "
           f"span {duration_text(s.span)}: at most {ratio_text(s.speedup)} on {workers}, {ratio_text(s.most)} on any "
           "number")  # fmt: skip
    overheads = ", ".join(f"{duration_text(overhead.seconds)} on '{name}'" for name, overhead in e.overheads.items())
    if overheads:
        yield f"Handing out an empty task takes {overheads}, with {workers}"


def _table(e: Explanation, width: int) -> str:
    n = e.n_workers
    columns = (
        Column("step", "step", folded=12),
        Column("share", "time", True),
        Column("one", "1 worker\na task", True),
        Column("busy", "on\nCPU", True),
        Column("threads", f"{n}\nthreads", True),
        Column("processes", f"{n} pro-\ncesses", True),
        Column("blas", f"BLAS {n}\n1 worker", True),
        Column("blas_processes", f"BLAS {n}\n{n} proc.", True),
        Column("moved", "mov-\ning", True),
        Column("cause", "cause"),
    )
    return table_text(columns, (_row(some) for some in _together(e)[:_STEPS]), width=width)


def _together(e: Explanation) -> list[list[Explained]]:
    """Return groups of steps: steps that were probed as one batch are in one group."""
    found: dict[tuple[str, ...], list[Explained]] = {}
    for one in e.steps:
        batch = one.measurements.together if one.measurements is not None else ()
        found.setdefault(batch or (one.step,), []).append(one)
    return list(found.values())


def _row(some: Sequence[Explained]) -> dict[str, str]:
    one, *others = some
    row = {
        "step": f"{one.step} + {len(others)}" if others else one.step,
        "share": f"{sum(each.share for each in some):.0%}",
        "cause": _NAMES[one.cause.kind],
    }
    r = one.measurements
    if r is None:
        return row | {"one": "-"}

    def ratio(reading: ProbeTimes | None) -> str:
        return "-" if reading is None else ratio_text(r.ratio(reading))

    return row | {
        "one": duration_text(r.one.best),
        "busy": f"{r.one.busy:.0%}",
        "threads": ratio(r.threads),
        "processes": ratio(r.processes),
        "blas": ratio(r.blas if r.blas is not None and r.blas.busy > NESTED else None),
        "blas_processes": ratio(r.blas_processes),
        "moved": "-" if r.moved is None else f"{r.moved_share:.0%}",
    }


def _sentences(e: Explanation) -> Iterator[str]:
    """Yield what bounds the whole graph, then a sentence for each of the most expensive steps."""
    if e.bound is not None:
        yield bound_text(e.bound)
    bound = e.bound.cause if e.bound is not None else None
    for one, *more in _together(e)[:_SENTENCES]:
        others = [cause_text(c) for i, c in enumerate(one.causes) if c != bound and not (i and c.disturbed)]
        links = f"and {len(more)} more of its chain, probed as one: " if more else ""
        if others:
            yield f"`{one.step}` {links}{'; '.join(others)}"


def _not_probed(e: Explanation) -> Iterator[str]:
    """Yield a line for each reason, with its steps."""
    by_reason: dict[str, list[str]] = {}
    for step, reason in e.not_probed.items():
        by_reason.setdefault(reason, []).append(step)
    for reason, steps in by_reason.items():
        yield f"not probed: {', '.join(steps)}: {reason}"


def _ranking(e: Explanation, width: int) -> str:
    columns = (
        Column("n", "", True),
        Column("what", "what to change", folded=24),
        Column("why", "", folded=16),
        Column("gain", f"predicted, {count_text(e.n_workers, 'worker')}", True),
    )
    rows = []
    for i, change in enumerate(e.changes[:_CHANGES], 1):
        known = change.before is not None and change.after is not None
        gain = f"{duration_text(change.before)} -> {duration_text(change.after)}" if known else "-"
        rows.append({"n": str(i), "what": what_to_change(change), "why": why_change(change), "gain": gain})
    return table_text(columns, rows, width=width)
