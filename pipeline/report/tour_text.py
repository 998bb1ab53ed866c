"""The tour as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.config.json_values import without_nan
from pipeline.report.compare_reason_text import reason_text
from pipeline.report.text_tables import WIDTH, Column, table_text, wrapped
from pipeline.report.verdicts import measured_text
from pipeline.units import count_text, duration_text

if TYPE_CHECKING:
    from pipeline.experiments.tour import Stop

__all__ = ["stop_dict", "stop_text", "summary_text"]


def stop_text(stop: Stop, *, width: int = WIDTH) -> str:
    """Return a claim, what was measured for it, why it came out so, and the verdict."""
    lines = [f"{stop.name}: {stop.claim}"]
    lines += [f"  {claim.claim}: {claim.verdict} ({measured_text(claim)})" for claim in stop.judged]
    lines += [f"  {check}" for check in stop.checks]
    lines += [f"  why: {text}" for text in _reasons(stop)]
    return "\n".join(wrapped([*lines, f"  => {stop.verdict} ({duration_text(stop.seconds)})"], width))


def summary_text(stops: Sequence[Stop], seconds: float, *, width: int = WIDTH) -> str:
    """Return a table with a row for each claim, and how long it took."""
    columns = (Column("claim", "claim", folded=40), Column("verdict", "verdict here", folded=20))
    rows = [{"claim": stop.claim, "verdict": stop.verdict.removesuffix(" here")} for stop in stops]
    return f"{table_text(columns, rows, width=width)}\n{count_text(len(stops), 'claim')} in {duration_text(seconds)}"


def stop_dict(stop: Stop) -> dict[str, Any]:
    """Return a claim as plain values, for JSON."""
    judged = [vars(one) | {"measured": vars(one.measured) if one.measured else None} for one in stop.judged]
    found: dict[str, Any] = without_nan(
        {
            "name": stop.name,
            "claim": stop.claim,
            "verdict": stop.verdict,
            "judged": judged,
            "checks": list(stop.checks),
            "why": _reasons(stop),
            "seconds": stop.seconds,
            "folder": stop.comparison.folder if stop.comparison is not None else "",
        }
    )
    return found


def _reasons(stop: Stop) -> list[str]:
    """Return why each back end that a claim is about was not faster."""
    if stop.comparison is None:
        return []
    named = {name for claim in stop.comparison.claims for name in claim.labels}
    return [f"{label}: {reason_text(one)}" for label, one in stop.comparison.causes.items() if label in named]
