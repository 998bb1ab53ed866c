"""The results of ``run`` and ``compare`` as text for a terminal of 80 columns.

Nothing is computed here. A comparison begins with the answer, which is to be understood in three seconds; two tables
follow, and only on request the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
)

if TYPE_CHECKING:
    from pipeline.experiments.comparison.result import Comparison


__all__ = ["bold_in", "comparison_text", "run_text", "wall_time_lines"]


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
