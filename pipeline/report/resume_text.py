"""What a run would reuse and what it would run again, as text: the answers of ``pipeline run --dry-run``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.report.text_tables import WIDTH, Column, table_text

if TYPE_CHECKING:
    from pipeline.runs.resume.answers import Answer
    from pipeline.runs.resume.plan import ResumePlan

__all__ = ["resume_text"]

_COLUMNS = (
    Column("name", "step", folded=20),
    Column("state", "next run"),
    Column("why", "why", folded=24),
)
_STATES = {"unchanged": "unchanged", "run": "runs", "depends": "may run"}


def resume_text(plan: ResumePlan, *, width: int = WIDTH) -> str:
    """Return a table with a row for each step and output, and the plan in one line."""
    rows = [_row(name, one) for name, one in plan.by_step.items()]
    rows += [_row(f"output {name}", one) for name, one in plan.outputs.items()]
    return "\n".join(
        [table_text(_COLUMNS, rows, width=width), plan.summary or "nothing that earlier runs have left can be used"]
    )


def _row(name: str, one: Answer) -> dict[str, str]:
    why = "; ".join(one.reasons)
    if one.reused:
        why = f"{why}; " * bool(why) + f"{one.reused:,} of {one.total:,} results are reused"
    return {"name": name, "state": _STATES[one.state], "why": why or "-"}
