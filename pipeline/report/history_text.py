"""The results of ``runs`` and ``diff`` as text for a terminal of 80 columns."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import printable
from pipeline.report.text_tables import WIDTH, Column, table_text, wrapped
from pipeline.units import bytes_text, count_text, duration_text, interval_text, ratio_text

if TYPE_CHECKING:
    from pipeline.runs.history.diff import Difference
    from pipeline.runs.history.read import RunFolder
    from pipeline.runs.history.result import CaseTimes, Change, StepTimes


__all__ = ["diff_text", "runs_text"]

_LABEL = 10  # width of the labels at the left
_SHOWN = 10  # changes of one kind
_ALSO = 3  # further places of one change
_STEPS = 5  # steps of one back end
_LONGEST = 60  # characters of a value
_HASH = 6  # characters of the hash of a Graph

_STATES = {"not ended": "open", "unreadable": "?"}

_RUNS = (
    Column("time", "run (UTC)"),
    Column("kind", "kind"),
    Column("state", "state"),
    Column("backends", "back ends,\nfastest first", folded=8),
    Column("elapsed", "elapsed", True),
    Column("tasks", "tasks", True),
    Column("graph", "graph"),
)
_CASES = (
    Column("case", "back end x\nworkers", folded=9),
    Column("old", "A elapsed s", True),
    Column("new", "B elapsed s", True),
    Column("speedup", "speedup of B", True),
)
_TIMES = (
    Column("case", "back end", folded=9),
    Column("step", "steps, s in tasks", folded=12),
    Column("old", "A", True),
    Column("new", "B", True),
    Column("note", "inter-\nvals"),
)


def runs_text(runs: Sequence[RunFolder], *, width: int = WIDTH) -> str:
    """Return a table of runs for each pipeline, the one with the newest run last; problems are below each table."""
    if not runs:
        return "no run folders"
    by_name: dict[str, list[RunFolder]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    lines: list[str] = []
    newest = {name: i for i, run in enumerate(runs) for name in [run.name]}
    for name in sorted(by_name, key=lambda name: newest[name]):
        own = by_name[name]
        lines += [f"{printable(name)}: {count_text(len(own), 'run')}"]
        lines += [table_text(_RUNS, [_run_row(run) for run in own], width=width)]
        lines += wrapped([f"{printable(run.time)}: {_cut(run.problem, 200)}" for run in own if run.problem], width)
        lines.append("")
    return "\n".join(lines[:-1])


def _run_row(run: RunFolder) -> dict[str, str]:
    names = [printable(case.label) for case in run.ran or run.cases]
    return {
        "time": printable(run.time),
        "kind": run.kind or "?",
        "state": _STATES.get(run.state, run.state),
        "backends": ", ".join(names[:8]) + (" …" if len(names) > 8 else ""),
        "elapsed": "unchanged" if run.reused and run.n_tasks == 0 else duration_text(run.elapsed),
        "tasks": f"{run.n_tasks:,}" if run.n_tasks is not None else "-",
        "graph": printable(run.fingerprint[:_HASH]),
    }


def diff_text(found: Difference, *, width: int = WIDTH) -> str:
    """Return what has changed, the times, and the verdict on the last lines."""
    lines = [line for side, run in (("A", found.a), ("B", found.b)) for line in _head(side, run, width)]
    lines.append("")
    for about, changes in found.changes.items():
        lines += _about(about, changes, width)
    for about, why in found.unknown.items():
        lines += _labelled(about, [printable(why)], width)
    same = [about for about, changes in found.changes.items() if not changes and about not in found.unknown]
    if same:
        lines += _labelled("the same", [", ".join(same)], width)
    lines.append("")
    if found.times:
        is_judged = not found.judged.text.startswith("verdict withheld")
        lines += [table_text(_CASES, [_case_row(times, is_judged) for times in found.times], width=width), ""]
        rows = [row for times in found.times for row in _step_rows(times)]
        if rows:
            lines += [table_text(_TIMES, rows, width=width), ""]
    if found.notes:
        lines += [*wrapped([printable(note) for note in found.notes[:_SHOWN]], width), ""]
    return "\n".join([*lines, *wrapped([printable(found.judged.text)], width)])


def _head(side: str, run: RunFolder, width: int) -> list[str]:
    facts = [printable(run.label), run.kind, run.state]
    if run.elapsed is not None:
        fastest = f" ({printable(run.ran[0].label)})" if len(run.ran) > 1 else ""
        facts.append(f"{duration_text(run.elapsed)}{fastest}")
    lines = [", ".join(facts)]
    if run.problem:
        lines.append(_cut(run.problem, 200))
    if run.reused:
        lines.append(_cut(printable(run.reused), 200))
    return _labelled(side, lines, width)


def _about(about: str, changes: Sequence[Change], width: int) -> list[str]:
    places = _places(changes) if about == "config" else {change.path: [] for change in changes}
    shown = [change for change in changes if change.path in places]
    lines = [_change_line(about, change) + _also(places[change.path]) for change in shown[:_SHOWN]]
    if len(shown) > _SHOWN:
        lines.append(f"… {len(shown) - _SHOWN} more; --json lists all")
    return _labelled(about, lines, width)


def _places(changes: Sequence[Change]) -> dict[str, list[str]]:
    """Return each change by its path, with the other places of the file that a changed param has changed alike."""
    places: dict[str, list[str]] = {}
    by_values: dict[str, str] = {}
    for change in sorted(changes, key=lambda change: not change.path.startswith("params.")):
        values = repr((change.kind, change.old, change.new))
        if change.path.startswith("params."):
            by_values.setdefault(values, change.path)
        elif values in by_values:
            places[by_values[values]].append(change.path)
            continue
        places[change.path] = []
    return places


def _also(paths: Sequence[str]) -> str:
    if not paths:
        return ""
    more = f" and {len(paths) - _ALSO} more" if len(paths) > _ALSO else ""
    return f" (in {', '.join(map(printable, paths[:_ALSO]))}{more})"


def _change_line(about: str, change: Change) -> str:
    path = printable(change.path)
    if about == "code":
        return f"{path} {change.kind}"
    if about == "inputs":
        return _input_line(path, change)
    if about == "graph":
        return f"{_value(change.old)} -> {_value(change.new)}"
    if about == "machine" and path == "memory":
        return f"{path}: {_bytes(change.old)} -> {_bytes(change.new)}"
    if change.kind == "changed":
        return f"{path}: {_value(change.old)} -> {_value(change.new)}"
    return f"{path}: {_value(change.old if change.kind == 'removed' else change.new)} ({change.kind})"


def _input_line(path: str, change: Change) -> str:
    sizes = [side.get("bytes") for side in (change.old, change.new) if side is not None]
    size = " -> ".join(dict.fromkeys(_bytes(n) for n in sizes))
    partial = ", only partly hashed" if change.partial else ""
    kind = "may have changed" if change.kind == "unsure" else change.kind
    return f"{path}: {kind} ({size}{partial})"


def _case_row(times: CaseTimes, is_judged: bool) -> dict[str, str]:
    """Return the times of one back end; without a verdict their ratio would be taken for one."""
    return {
        "case": f"{printable(times.backend)} x{times.workers}",
        "old": interval_text(times.old),
        "new": interval_text(times.new),
        "speedup": ratio_text(times.speedup) if is_judged else "",
    }


def _step_rows(times: CaseTimes) -> Iterator[dict[str, str]]:
    """Yield the steps whose times have changed most, in the order of the file."""

    def gap(step: StepTimes) -> float:
        return abs((step.old.value if step.old else 0.0) - (step.new.value if step.new else 0.0))

    most = sorted(times.steps, key=gap, reverse=True)[:_STEPS]
    for step in (s for s in times.steps if s in most):
        yield {
            "case": printable(times.label),
            "step": printable(step.step),
            "old": interval_text(step.old),
            "new": interval_text(step.new),
            "note": "apart" if step.differs else "",
        }


def _labelled(label: str, lines: Sequence[str], width: int) -> list[str]:
    """Return the lines, wrapped, with a label at the left of the first."""
    pieces = [piece for line in lines for piece in _hung(line, width - _LABEL)]
    return [f"{label if i == 0 else '':<{_LABEL}}{piece}" for i, piece in enumerate(pieces)]


def _hung(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False) or [""]


def _value(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
    return _cut(printable(text), _LONGEST)


def _bytes(n: Any) -> str:
    return bytes_text(n) if isinstance(n, int) else "size unknown"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
