"""The results of ``check``, ``run`` and ``compare`` as text for a terminal of 80 columns.

Nothing is computed here. A comparison has two tables, one of speed and one of costs, because one table of both would
not fit into the width; the verdict is the last line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.builder.plan import SOMETHING_MOVED
from pipeline.report.loss_tables import account_lines
from pipeline.report.text_tables import WIDTH, Column, table_text, wrapped
from pipeline.report.verdicts import ComparisonReport
from pipeline.units import bytes_text, count_text, digits, duration_text, interval_text, ratio_text

if TYPE_CHECKING:
    from pipeline.experiments.comparison.result import Comparison


__all__ = ["comparison_text", "plan_event", "plan_text", "run_text"]

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


def run_text(run: Any, *, shown: int = 10) -> str:
    """Return what a run dropped, checked and wrote, and how long it took.

    Parameters
    ----------
    run : has the ``to_dict()`` of :class:`pipeline.runs.run.Run`
    shown : number of dropped items to list
    """
    result = run.to_dict()
    dropped = [f"dropped {d['step']}, item {d['item']}: {d['cause']}" for d in result["dropped"]]
    lines = dropped[:shown]
    if len(dropped) > shown:
        lines.append(f"… {len(dropped) - shown} more; all of them are in {result['folder']}")
    if result["checks"]:
        lines.append(f"{count_text(len(result['checks']), 'check')} passed")
    for output in result["outputs"]:
        files = count_text(output["files"], "file")
        lines.append(f"{output['name']}: {output['path']} ({output['format']}, {files}, {bytes_text(output['bytes'])})")
    lines.append(f"run folder: {result['folder']}")
    lines.append(
        f"{result['name']}: {duration_text(result['elapsed'])} on {count_text(result['workers'], 'worker')} of "
        f"'{result['backend']}', {count_text(result['tasks'], 'task')}; start-up {duration_text(result['start_up'])}, "
        f"commit {duration_text(result['commit'])}"
    )
    return "\n".join(lines)


def plan_event(plan: Any) -> dict[str, Any]:
    """Return the plan as a map of plain values, for ``--json``; sizes in bytes."""
    names = ("step", "kind", "shape", "copies", "tasks", "largest_chunk", "moved", "whole", "notes")
    rows = [{name: _field(row, name) for name in names} for row in plan.rows]
    return {"plan": rows, "absent": dict(plan.absent), "writing": _field(plan, "writing") or 0}


def comparison_text(comparison: Comparison, *, width: int = WIDTH) -> str:
    """Return the tables of a comparison, why each speedup is not higher, and the verdict on the last lines."""
    rows = [_speed_row(row) for row in comparison.rows]
    speed = table_text(
        (
            Column("backend", "back end"),
            Column("workers", "workers", True),
            Column("elapsed", "elapsed s", True),
            Column("speedup", "speedup", True),
            Column("efficiency", "effi-\nciency", True),
            Column("equality", "results"),
        ),
        rows,
        width=width,
    )
    costs = table_text(
        (
            Column("backend", "back end"),
            Column("cpu", "CPU s\nuser + sys", True),
            Column("start_up", "start-up", True),
            Column("commit", "commit", True),
            Column("memory", "peak\nmemory", True),
            Column("everything", "speedup,\nall included", True),
        ),
        (_cost_row(row) for row in comparison.rows),
        width=width,
    )
    report = ComparisonReport.of(comparison)
    lines = [speed, "", costs, "", *account_lines(comparison, width=width), *wrapped(report.footnotes, width)]
    if report.causes:
        lines += ["", *wrapped(report.reasons.values(), width), ""]
    first = [report.recommended] if report.recommended else []
    return "\n".join([*lines, *wrapped([*first, *report.verdict], width)])


def _speed_row(row: Any) -> dict[str, str]:
    if row.failure:
        return {"backend": row.backend, "workers": str(row.workers), "elapsed": "did not run"}
    shown = {
        "backend": row.backend,
        "workers": str(row.workers),
        "elapsed": interval_text(row.elapsed),
        "equality": row.equality,
    }
    if row.reference:
        return shown | {"speedup": "1", "equality": "reference"}
    return shown | {
        "speedup": ratio_text(row.speedup),
        "efficiency": f"{row.efficiency:.0%}" if row.efficiency is not None else "-",
    }


def _cost_row(row: Any) -> dict[str, str]:
    if row.failure:
        return {"backend": row.backend, "cpu": "-"}
    return {
        "backend": row.backend,
        "cpu": f"{digits(row.user)} + {digits(row.system)}",
        "start_up": duration_text(row.start_up),
        "commit": duration_text(row.commit),
        "memory": bytes_text(row.memory),
        "everything": "1" if row.reference else ratio_text(row.speedup_all),
    }


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
