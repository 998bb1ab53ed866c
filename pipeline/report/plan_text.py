"""The plan of a file, which ``check`` shows, as text for a terminal of 80 columns, and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.builder.plan import SOMETHING_MOVED
from pipeline.report.text_tables import WIDTH, Column, table_text, wrapped
from pipeline.units import bytes_text, count_text, unused_text

__all__ = ["plan_event", "plan_text"]

PLAN_COLUMNS = (
    Column("step", "step", folded=16),
    Column("kind", "kind"),
    Column("shape", "dims, columns", folded=12),
    Column("size", "instances\nx tasks", True),
    Column("chunk", "largest\nchunk", True),
    Column("moved", "moved", True),
    Column("whole", "in one\ntask", True),
)


def plan_text(plan: Any, *, width: int = WIDTH, shown: int = 20) -> str:
    """Return the plan of a file: a table with a row for each step, its notes, and the totals.

    Parameters
    ----------
    plan : has ``rows``, each with ``step kind shape copies tasks largest_chunk moved whole notes`` (sizes in bytes or
        None), and ``absent``, a map of each step instance that does not exist to the reason
    shown : number of instances that do not exist to list
    """
    rows = [_plan_row(row) for row in plan.rows]
    lines = [table_text(PLAN_COLUMNS, rows, width=width)]
    by_note: dict[str, list[str]] = {}
    for row in plan.rows:
        for note in _field(row, "notes") or ():
            by_note.setdefault(note, []).append(str(_field(row, "step")))
    lines += wrapped((f"{', '.join(steps)}: {note}" for note, steps in by_note.items()), width)
    absent = [f"{name} does not exist: {why}" for name, why in plan.absent.items()]
    lines += wrapped(absent[:shown], width)
    if unused := _field(plan, "unused"):
        lines += wrapped([unused_text(unused)], width)
    if len(absent) > shown:
        lines.append(f"… {count_text(len(absent) - shown, 'more instance')} that do not exist; --json lists all")
    n_tasks = sum(_field(row, "tasks") or 0 for row in plan.rows)
    moved = sum(_field(row, "moved") or 0 for row in plan.rows)
    if n_tasks:
        more = ", more in the run" if SOMETHING_MOVED in by_note else ""
        writing = _field(plan, "writing") or 0
        steps, tasks = count_text(len(rows), "step"), count_text(n_tasks + writing, "task")
        tasks += f" ({count_text(writing, 'of them writes outputs', 'of them write outputs')})" if writing else ""
        lines.append(f"{steps}, {tasks}; {bytes_text(moved)} moved by rechunks and shuffles{more}")
    return "\n".join(lines)


def plan_event(plan: Any) -> dict[str, Any]:
    """Return the plan as a map of plain values, for ``--json``; sizes in bytes."""
    names = ("step", "kind", "shape", "copies", "tasks", "largest_chunk", "moved", "whole", "notes")
    rows = [{name: _field(row, name) for name in names} for row in plan.rows]
    writing, unused = _field(plan, "writing") or 0, list(_field(plan, "unused") or ())
    return {"plan": rows, "absent": dict(plan.absent), "writing": writing, "unused": unused}


def _plan_row(row: Any) -> dict[str, str]:
    instances, tasks = _field(row, "copies") or 1, _field(row, "tasks") or 0
    return {
        "step": str(_field(row, "step")),
        "kind": str(_field(row, "kind")),
        "shape": str(_field(row, "shape") or ""),
        "size": _task_count(instances, tasks),
        "chunk": _size(_field(row, "largest_chunk")),
        "moved": _size(_field(row, "moved")),
        "whole": _size(_field(row, "whole")),
    }


def _task_count(instances: int, tasks: int) -> str:
    """Return "instances x tasks of each" if all have the same number of tasks; the number is ? before the build."""
    if instances > 1 and tasks % instances == 0:
        return f"{instances} x {tasks // instances:,}" if tasks else f"{instances} x ?"
    return f"{tasks:,}" if tasks else "-"


def _size(n: float | None) -> str:
    return bytes_text(n) if n else "-"


def _field(row: Any, name: str) -> Any:
    return row.get(name) if isinstance(row, Mapping) else getattr(row, name, None)
