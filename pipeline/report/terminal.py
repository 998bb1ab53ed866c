"""Tables and lines for a terminal of 80 columns; the numbers come in, the text goes out, nothing is computed here.

Only what a user compares stands in one table: a table that is cut at the right edge hides what it was made for. So a
comparison is drawn as two tables, one of the speed, one of the costs, and the verdict is the last line of all.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.planning import SOMETHING_MOVED

if TYPE_CHECKING:
    from pipeline.analysis.statistics import Interval
    from pipeline.comparison import Comparison

__all__ = [
    "Column",
    "bytes_text",
    "comparison_text",
    "digits",
    "duration",
    "interval_text",
    "plan_event",
    "plan_text",
    "ratio_text",
    "run_text",
    "table_text",
    "wrapped",
]

WIDTH = 80


class Column(NamedTuple):
    """One column: where its values stand in the rows, its title, whether it is a number.

    ``folded`` is the least width of a column of text that may be folded; 0: its values are never folded.
    """

    name: str
    title: str
    number: bool = False
    folded: int = 0


PLAN_COLUMNS = (
    Column("step", "step", folded=16),
    Column("kind", "kind"),
    Column("shape", "dims, columns", folded=12),
    Column("size", "copies x\ntasks", True),
    Column("chunk", "largest\nchunk", True),
    Column("moved", "moved", True),
    Column("whole", "in one\ntask", True),
)


def duration(seconds: float | None) -> str:
    """Seconds for a reader: three digits, and minutes or hours where those say more.

    >>> duration(0.01234), duration(9.876), duration(75), duration(4000)
    ('0.012 s', '9.88 s', '1 min 15 s', '1 h 07 min')
    """
    if seconds is None or math.isnan(seconds):
        return "-"
    if seconds < 60:
        return f"{digits(seconds)} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"


def bytes_text(n: float | None) -> str:
    """Bytes for a reader, in powers of 1000.

    >>> bytes_text(0), bytes_text(1500), bytes_text(41_000_000_000)
    ('0 B', '1.5 kB', '41.0 GB')
    """
    if n is None or math.isnan(n):
        return "-"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n) < 999.95 or unit == "TB":
            break
        n /= 1000
    return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"


def interval_text(interval: Interval | None) -> str:
    """Seconds with their bounds; a value alone where one repeat was made.

    >>> from pipeline.analysis.statistics import Interval
    >>> interval_text(Interval(1.2, 1.1, 1.34, 3, 0.75))
    '1.20 [1.10, 1.34]'
    """
    return _bounded(interval, digits, "")


def ratio_text(interval: Interval | None) -> str:
    """A ratio with its bounds, to the hundredth, which is more than repeats ever show.

    >>> from pipeline.analysis.statistics import Interval
    >>> ratio_text(Interval(0.9312, 0.92, 0.944, 3, 0.75))
    '0.93x [0.92, 0.94]'
    """
    return _bounded(interval, lambda x: f"{x:.2f}" if x < 10 else f"{x:.0f}", "x")


def _bounded(interval: Interval | None, digits: Callable[[float], str], suffix: str) -> str:
    if interval is None:
        return "-"
    bounds = f" [{digits(interval.low)}, {digits(interval.high)}]" if interval.known else ""
    return f"{digits(interval.value)}{suffix}{bounds}"


def table_text(
    columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], *, width: int = WIDTH, color: bool = False
) -> str:
    """A table as text; a column without any value is left out, long text is folded rather than cut."""
    rows = [{c.name: str(row.get(c.name, "") or "") for c in columns} for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    shown = [c for c in columns if any(row[c.name] not in ("", "-") for row in rows)]
    for column in shown:
        longest = max(len(row[column.name]) for row in rows)
        table.add_column(
            column.title,
            justify="right" if column.number else "left",
            no_wrap=not column.folded,
            overflow="fold",
            min_width=min(longest, column.folded) or None,
        )
    for row in rows:
        table.add_row(*(Text(row[c.name]) for c in shown))
    console = Console(file=io.StringIO(), width=width, force_terminal=color, color_system="standard" if color else None,
                      legacy_windows=False)  # fmt: skip
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))


def plan_text(plan: Any, *, width: int = WIDTH, shown: int = 20) -> str:
    """The plan of a file: a row a step, notes and copies that do not exist below, and what the whole comes to.

    Parameters
    ----------
    plan : something with ``rows`` (each with ``step kind shape copies tasks largest_chunk moved whole notes``),
        sizes in bytes or None, and ``absent``, copy -> reason
    shown : how many of the copies that do not exist are named
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
        lines.append(f"… {len(absent) - shown} more copies that do not exist; --json names them all")
    n_tasks = sum(_field(row, "tasks") or 0 for row in plan.rows)
    moved = sum(_field(row, "moved") or 0 for row in plan.rows)
    if n_tasks:
        more = ", more in the run" if SOMETHING_MOVED in by_note else ""
        lines.append(f"{len(rows)} steps, {n_tasks:,} tasks; {bytes_text(moved)} moved by rechunks and shuffles{more}")
    return "\n".join(lines)


def run_text(run: Any, *, shown: int = 10) -> str:
    """What a run dropped, checked and wrote, and how long it took.

    Parameters
    ----------
    run : something with ``to_dict()`` as :class:`pipeline.execution.Run` has it
    shown : how many of the dropped items are named
    """
    told = run.to_dict()
    dropped = [f"dropped {d['step']}, item {d['item']}: {d['cause']}" for d in told["dropped"]]
    lines = dropped[:shown]
    if len(dropped) > shown:
        lines.append(f"… {len(dropped) - shown} more; all of them are in {told['folder']}")
    if told["checks"]:
        n = len(told["checks"])
        lines.append(f"{n} check{'s' if n > 1 else ''} held")
    for output in told["outputs"]:
        files = f"{output['files']:,} file{'s' if output['files'] != 1 else ''}"
        lines.append(f"{output['name']}: {output['path']} ({output['format']}, {files}, {bytes_text(output['bytes'])})")
    lines.append(f"run folder: {told['folder']}")
    lines.append(
        f"{told['name']}: {duration(told['elapsed'])} on {told['workers']} workers of '{told['backend']}', "
        f"{told['tasks']:,} tasks; start-up {duration(told['start_up'])}, commit {duration(told['commit'])}"
    )
    return "\n".join(lines)


def plan_event(plan: Any) -> dict[str, Any]:
    """The plan as a map of plain values, for ``--json``; sizes in bytes."""
    names = ("step", "kind", "shape", "copies", "tasks", "largest_chunk", "moved", "whole", "notes")
    return {"plan": [{name: _field(row, name) for name in names} for row in plan.rows], "absent": dict(plan.absent)}


def comparison_text(comparison: Comparison, *, width: int = WIDTH) -> str:
    """The tables of a comparison, why each speedup is not higher, and the verdict on the last lines."""
    from pipeline.report.accounts import account_lines

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
    lines = [speed, "", costs, "", *account_lines(comparison, width=width), *wrapped(comparison.footnotes, width)]
    if comparison.reasons:
        lines += ["", *wrapped(comparison.reasons.values(), width), ""]
    return "\n".join([*lines, *wrapped(comparison.verdict, width)])


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
        "start_up": duration(row.start_up),
        "commit": duration(row.commit),
        "memory": bytes_text(row.memory),
        "everything": "1" if row.reference else ratio_text(row.speedup_all),
    }


def _plan_row(row: Any) -> dict[str, str]:
    copies, tasks = _field(row, "copies") or 1, _field(row, "tasks") or 0
    return {
        "step": str(_field(row, "step")),
        "kind": str(_field(row, "kind")),
        "shape": str(_field(row, "shape") or ""),
        "size": _count(copies, tasks),
        "chunk": _size(_field(row, "largest_chunk")),
        "moved": _size(_field(row, "moved")),
        "whole": _size(_field(row, "whole")),
    }


def _count(copies: int, tasks: int) -> str:
    """Copies by tasks of each, where there are several and they are alike; copies alone before anything is built."""
    if copies > 1 and tasks % copies == 0:
        return f"{copies} x {tasks // copies:,}" if tasks else f"{copies} x ?"
    return f"{tasks:,}" if tasks else "-"


def _size(n: float | None) -> str:
    return bytes_text(n) if n else "-"


def _field(row: Any, name: str) -> Any:
    return row.get(name) if isinstance(row, Mapping) else getattr(row, name, None)


def digits(x: float) -> str:
    """Three significant digits, without an exponent, for what people time."""
    if x == 0 or math.isnan(x):
        return "0" if x == 0 else "-"
    return f"{x:.{min(3, max(0, 2 - math.floor(math.log10(abs(x)))))}f}"


def wrapped(lines: Iterable[str], width: int) -> list[str]:
    """The lines, those that are too long broken between words."""
    import textwrap

    return [piece for line in lines for piece in (textwrap.wrap(line, width) or [""])]
