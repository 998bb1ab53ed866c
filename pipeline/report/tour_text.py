"""The tour as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.config.json_values import without_nan
from pipeline.report.compare_reason_text import LOSS_NAMES, cause_text
from pipeline.report.text_tables import WIDTH, Column, table_text, wrapped
from pipeline.report.verdicts import measured_text
from pipeline.units import count_text, duration_text

if TYPE_CHECKING:
    from pipeline.experiments.tour import Stop

__all__ = ["stop_dict", "stop_text", "summary_text"]

_SHOWN = 3  # classes of core-seconds


def stop_text(stop: Stop, *, width: int = WIDTH) -> str:
    """Return a claim, what was measured for it, where the time went, and the verdict."""
    lines = [f"{stop.name}: {stop.claim}"]
    lines += [f"  {claim.claim}: {claim.verdict} ({measured_text(claim)})" for claim in stop.judged]
    lines += [f"  {check}" for check in stop.checks]
    lines += [f"  {text}" for text in _reasons(stop)]
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
    """Return where the time of each back end went that a claim is about, and what cost most, where that is known.

    No advice: these files are slow on purpose.
    """
    if stop.comparison is None:
        return []
    named = {name for claim in stop.comparison.claims for name in claim.labels}
    found = []
    for account in stop.comparison.accounts:
        label = account.runs.label
        reason = stop.comparison.causes.get(label)
        if label not in named or reason is None or account.losses is None:
            continue
        percents = sorted(account.losses.percents().items(), key=lambda share: -share[1])
        shares = ", ".join(f"{LOSS_NAMES[name]} {percent}%" for name, percent in percents[:_SHOWN] if percent > 0)
        why = f"; {cause_text(reason.cause)}" if reason.cause.kind != "none" else ""
        found.append(f"{label}: the time of its {count_text(account.n_workers, 'worker')} was {shares}{why}")
    return found
