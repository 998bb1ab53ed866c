"""The results of ``check``, ``run`` and ``compare`` as text for a terminal of 80 columns.

Nothing is computed here. A comparison begins with the answer, which is to be understood in three seconds; two tables
follow, and only on request the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.builder.plan import SOMETHING_MOVED
from pipeline.report.loss_tables import account_lines, short_account_lines
from pipeline.report.text_tables import WIDTH, Column, labelled, table_text, wrapped
from pipeline.report.verdicts import ComparisonReport
from pipeline.runs.wall_time import PARTS
from pipeline.units import (
    bytes_text,
    count_text,
    digits,
    duration_text,
    interval_text,
    ratio_text,
    share_text,
    unused_text,
)

if TYPE_CHECKING:
    from pipeline.experiments.comparison.result import Comparison


__all__ = ["bold_in", "comparison_text", "plan_event", "plan_text", "run_text", "wall_time_lines"]

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
        n_ok = sum(check["ok"] for check in result["checks"])
        rest = len(result["checks"]) - n_ok  # they were not evaluated: one that fails ends the run
        lines.append(f"{count_text(n_ok, 'check')} passed" + (f", {rest:,} not evaluated" if rest else ""))
    for output in result["outputs"]:
        files = count_text(output["files"], "file")
        about = f"{output['format']}, {files}, {bytes_text(output['bytes'])}{', unchanged' * output['unchanged']}"
        lines.append(f"{output['name']}: {output['path']} ({about})")
    moved = result.get("transfers")
    if moved:
        lines.append(
            f"between workers: {bytes_text(moved['shared'])} in shared memory in {duration_text(moved['sharing'])}, "
            f"{bytes_text(moved['pickled'])} by pickle in {duration_text(moved['pickling'])}"
        )
    lines.append(f"run folder: {result['folder']}")
    lines += wall_time_lines(result["times"])
    summary = result["resumed"].get("summary", "")
    if summary:
        lines.append(summary)
    ran = (
        f"{count_text(result['tasks'], 'task')} took {duration_text(result['elapsed'])} on "
        f"{count_text(result['workers'], 'worker')} of '{result['backend']}'"
    )
    whole = f"{result['name']}: {duration_text(result['wall'])} in all"
    lines.append(f"{whole}; {ran if result['tasks'] else 'no task ran'}")
    return "\n".join(lines)


def wall_time_lines(times: Mapping[str, float]) -> list[str]:
    """Return a line for each part of the wall time that took some; the numbers add up to their sum, as they are shown.

    Parameters
    ----------
    times : part -> seconds
    """
    shown, whole, before = [], sum(times.values()), 0.0
    for part, seconds in times.items():
        # the difference of rounded sums: rounded one by one, the parts would not add up
        text = f"{round(before + seconds, 2) - round(before, 2):.2f} s"
        before += seconds
        if seconds > 0:
            shown.append((part, text, f"{seconds / whole:.0%}", PARTS.get(part, "")))
    widths = [max((len(row[i]) for row in shown), default=0) for i in range(3)]
    return [f"  {a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {what}".rstrip() for a, b, c, what in shown]


def plan_event(plan: Any) -> dict[str, Any]:
    """Return the plan as a map of plain values, for ``--json``; sizes in bytes."""
    names = ("step", "kind", "shape", "copies", "tasks", "largest_chunk", "moved", "whole", "notes")
    rows = [{name: _field(row, name) for name in names} for row in plan.rows]
    writing, unused = _field(plan, "writing") or 0, list(_field(plan, "unused") or ())
    return {"plan": rows, "absent": dict(plan.absent), "writing": writing, "unused": unused}


def comparison_text(comparison: Comparison, *, width: int = WIDTH, tables: bool = False) -> str:
    """Return which back end is fastest, what to do, two tables and the reason of each back end.

    Parameters
    ----------
    tables : True: all tables that there are, as in the report
    """
    report = ComparisonReport.of(comparison)
    lines = [
        *wrapped([report.answer], width),
        "",
        *wrapped([report.advice], width),
        *wrapped(report.warnings, width),
        "",
    ]
    lines += [_speed_table(report, width), *wrapped([*report.footnotes, *report.claim_lines], width), ""]
    if tables:
        lines += [_times_table(report, width), "", _costs_table(report, width), ""]
    if report.causes:
        lines += [*labelled(report.reasons, width), ""]
    lines += account_lines(comparison, width=width) if tables else short_account_lines(comparison, width=width)
    return "\n".join([*lines, report.place])  # one line, so that the path can be clicked


def bold_in(comparison: Comparison) -> list[str]:
    """Return what is bold in the text of a comparison: the answer, and what to do."""
    report = ComparisonReport.of(comparison)
    return [report.answer, *(one.do for one in (report.advice, *report.warnings, *report.reasons.values()))]


def _speed_table(report: ComparisonReport, width: int) -> str:
    columns = (
        Column("backend", "back end", folded=10),
        Column("workers", "work-\ners", True),
        Column("start_up", "start-up", True),
        Column("elapsed", "elapsed s", True),
        Column("speedup", "speedup", True),
        Column("equality", "results"),
    )
    return table_text(columns, map(_speed_row, report.rows), width=width)


def _times_table(report: ComparisonReport, width: int) -> str:
    columns = (
        Column("backend", "back end", folded=10),
        Column("real", "real s", True),
        Column("user", "user s", True),
        Column("system", "sys s", True),
        Column("saved", "time saved\nof serial", True),
        Column("beside", "of process-\nper-task", True),
    )
    return table_text(columns, map(_time_row, report.rows), width=width)


def _costs_table(report: ComparisonReport, width: int) -> str:
    columns = (
        Column("backend", "back end", folded=10),
        Column("efficiency", "effi-\nciency", True),
        Column("commit", "commit", True),
        Column("memory", "peak\nmemory", True),
        Column("everything", "speedup,\nall included", True),
    )
    return table_text(columns, map(_cost_row, report.rows), width=width)


def _label(row: Any) -> str:
    """Return the name of a back end, with its options on a line of their own."""
    return str(row.backend).replace("[", "\n[")


def _speed_row(row: Any) -> dict[str, str]:
    if row.failure:
        return {"backend": _label(row), "workers": str(row.workers or "-"), "elapsed": "did not run"}
    return {
        "backend": _label(row),
        "workers": str(row.workers),
        "start_up": duration_text(row.start_up),
        "elapsed": interval_text(row.elapsed),
        "speedup": "1" if row.reference else ratio_text(row.speedup),
        "equality": "reference" if row.reference else row.equality,
    }


def _time_row(row: Any) -> dict[str, str]:
    if row.failure:
        return {"backend": _label(row), "real": "-"}
    return {
        "backend": _label(row),
        "real": digits(row.elapsed.value),
        "user": digits(row.user),
        "system": digits(row.system),
        "saved": share_text(row.saved),
        "beside": share_text(row.saved_beside_processes),
    }


def _cost_row(row: Any) -> dict[str, str]:
    if row.failure:
        return {"backend": _label(row), "commit": "-"}
    return {
        "backend": _label(row),
        "efficiency": "-" if row.efficiency is None else f"{row.efficiency:.0%}",
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
