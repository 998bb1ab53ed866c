"""The tables of the HTML report: the numbers of ``report.json`` as text, in the formats of the terminal.

Cells are text without markup; the template escapes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.compare_reason_text import LOSS_NAMES
from pipeline.report.html.bokeh_figures import LOSSES
from pipeline.trace.critical_path import PATH_KINDS
from pipeline.trace.scaling_laws import is_fraction
from pipeline.trace.statistics import Interval
from pipeline.units import bytes_text, count_text, digits, duration_text, interval_text, ratio_text, share_text

__all__ = [
    "LOSS_NAMES",
    "Table",
    "claims",
    "costs",
    "critical",
    "critical_steps",
    "elapsed",
    "expensive_steps",
    "expensive_tasks",
    "factors",
    "files",
    "interval",
    "label",
    "limits",
    "losses",
    "machine",
    "needed",
    "other_cpu",
    "points",
    "ratio",
    "rows",
    "seconds",
    "step_text",
    "transfers",
    "wall_time",
]

_OTHER_CPU = {"parent": "CPU of the parent", "scheduler": "CPU of the scheduler", "workers": "other CPU of workers"}
_MOST_STEPS = 15
_MOST_FILES = 200

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table.

    Parameters
    ----------
    texts : columns that are not numbers
    colours : column -> colour of its title
    bars : share from 0 to 1 for each row, drawn below its first cell; may be empty
    more : a note about rows that are not shown
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: frozenset[int] = frozenset({0})
    colours: Mapping[int, str] | None = None
    bars: tuple[float, ...] = ()
    more: str = ""


def interval(record: Mapping[str, Any] | None) -> Interval | None:
    """Return an Interval from a record of ``report.json``; null becomes nan."""
    if record is None:
        return None
    value, low, high = (math.nan if record[name] is None else record[name] for name in ("value", "low", "high"))
    return Interval(value, low, high, record["n"], record["confidence"])


def ratio(record: Mapping[str, Any] | None) -> str:
    """Return a ratio with its bounds."""
    return ratio_text(interval(record))


def seconds(value: float | None) -> str:
    """Return core-seconds with their sign, always in seconds."""
    return "-" if value is None else f"{digits(value)} s"


def elapsed(record: Mapping[str, Any]) -> str:
    """Return seconds with their bounds."""
    return f"{interval_text(interval(record))} s"


def step_text(step: Row) -> str:
    """Return the kind of a step's value and its number of tasks."""
    tasks = count_text(step["n_tasks"], "task")
    return f"{step['kind']}, {tasks}" if step["kind"] else tasks


def _without_empty(titles: Sequence[str], found: Iterable[Sequence[str]], **fields: Any) -> Table:
    """Return a table without its empty columns."""
    cells = [tuple(row) for row in found]
    some = [i for i in range(len(titles)) if i == 0 or any(row[i] not in ("", "-") for row in cells)]
    texts = frozenset(some.index(i) for i in fields.pop("texts", {0}) if i in some)
    colours = {some.index(i): colour for i, colour in (fields.pop("colours", None) or {}).items() if i in some}
    picked = tuple(tuple(row[i] for i in some) for row in cells)
    return Table(tuple(titles[i] for i in some), picked, texts=texts, colours=colours, **fields)


def label(row: Row) -> str:
    """Return the unique name of a row or an account."""
    return str(row.get("label") or row.get("case") or row["backend"])


# ---------------------------------------------------------------------------------------------------------------------
# All back ends
# ---------------------------------------------------------------------------------------------------------------------


def rows(document: Row) -> Table:
    """Return the speed of each back end."""
    titles = ("back end", "workers", "runs", "elapsed, s", "speedup", "efficiency", "speedup, all included", "results")
    return _without_empty(titles, (_speed(row) for row in document["rows"]), texts={0, 7})


def _speed(row: Row) -> Sequence[str]:
    head = (label(row), str(row["workers"]))
    if row.get("failure"):
        return (*head, "-", "did not run", "-", "-", "-", "-")
    efficiency = row.get("efficiency")
    reference = row.get("reference")
    return (
        *head,
        str(row.get("n_rounds", "-")),
        interval_text(interval(row["elapsed"])),
        "1" if reference else ratio(row.get("speedup")),
        "-" if efficiency is None else f"{efficiency:.0%}",
        "1" if reference else ratio(row.get("speedup_all")),
        row.get("equality", ""),
    )


def costs(document: Row) -> Table:
    """Return the costs of each back end."""
    titles = ("back end", "real, s", "CPU user, s", "CPU system, s", "time saved of serial", "of process-per-task",
              "start-up", "verify", "commit", "peak memory")  # fmt: skip
    ran = (row for row in document["rows"] if not row.get("failure"))
    found = (
        (
            label(row),
            _or_dash((row.get("elapsed") or {}).get("value"), digits),
            _or_dash(row.get("user"), digits),
            _or_dash(row.get("system"), digits),
            share_text(row.get("saved")) or "-",
            share_text(row.get("saved_beside_processes")) or "-",
            *(duration_text(row.get(name)) for name in ("start_up", "verify", "commit")),
            bytes_text(row.get("memory")),
        )
        for row in ran
    )
    return _without_empty(titles, found)


def losses(accounts: Sequence[Row]) -> Table:
    """Return where the core-seconds went: seconds and percentage of each class."""
    names = [name for name in LOSSES if any((a["losses"] or {}).get(name) for a in accounts)]
    titles = ("back end", *(LOSS_NAMES.get(name, "in tasks") for name in names), "workers x elapsed")
    found = (
        (
            label(a),
            *(_loss((a["losses"] or {}).get(name)) for name in names),
            f"{seconds(a['workers'] * a['elapsed'])}\n100%",
        )
        for a in accounts
    )
    return _without_empty(titles, found, colours={i: LOSSES[name] for i, name in enumerate(names, 1)})


def other_cpu(accounts: Sequence[Row]) -> Table:
    """Return CPU seconds that were not in tasks, and the share of measuring."""
    found = (
        (
            label(a),
            *(seconds(a["cpu_beside"].get(where)) for where in _OTHER_CPU),
            f"{a['measuring']['share']:.2%}",
        )
        for a in accounts
    )
    return _without_empty(("back end", *_OTHER_CPU.values(), "taken by measuring"), found)


def transfers(accounts: Sequence[Row]) -> Table:
    """Return what moved between workers, of the back ends that used shared memory; empty if none did."""
    titles = ("back end", "handed over by pickle", "seconds of that", "in shared memory", "seconds of that")
    found = (
        (
            label(a),
            bytes_text(a["transfers"]["pickled"]),
            duration_text(a["transfers"]["pickling"]),
            bytes_text(a["transfers"]["shared"]),
            duration_text(a["transfers"]["sharing"]),
        )
        for a in accounts
        if a.get("transfers")
    )
    return Table(titles, tuple(found))


def _loss(loss: Row | None) -> str:
    if loss is None:
        return "-"
    low, high = loss.get("low"), loss.get("high")
    bounds = f"\n[{digits(low)}, {digits(high)}]" if low is not None and high is not None else ""
    return f"{seconds(loss['seconds'])}\n{loss['percent']}%{bounds}"


_FACTORS = ("computation_scaling", "load_balance", "serialization_efficiency", "transfer_efficiency", "overhead")


def factors(accounts: Sequence[Row]) -> Table:
    """Return the POP factors; the product of a row is its speedup."""
    titles = ("back end", "speedup", "= workers", "x computation scaling", "x load balance", "x serialization",
              "x transfer", "x serial's overhead")  # fmt: skip
    found = [_product(label(a), a["factors"]) for a in accounts if a["factors"]]
    starred = any(a["factors"]["transfer_is_model"] for a in accounts if a["factors"])
    more = "* above 1: the model runs the tasks in the measured order, which was not the best" if starred else ""
    return Table(titles, tuple(found), more=more)


def _product(name: str, row: Row) -> tuple[str, ...]:
    cells = [f"{row[factor]:.3f}" for factor in _FACTORS]
    cells[3] += "*" if row["transfer_is_model"] else ""
    return (name, f"{row['speedup']:.2f}", f"= {row['n_workers']}", *(f"x {cell}" for cell in cells))


def points(law: Row) -> Table:
    """Return the measurements of one back end with several numbers of workers."""
    found = (
        (
            str(point["workers"]),
            interval_text(interval(point["elapsed"])),
            ratio_text(point["speedup"]),
            f"{point['karp_flatt']:.3f}" if is_fraction(point["karp_flatt"]) else "-",
        )
        for point in law["points"]
    )
    return _without_empty(
        ("workers", "elapsed, s", "speedup", "Karp-Flatt's serial fraction"), found, texts=frozenset()
    )


def needed(cost: Mapping[str, int | None]) -> Table:
    """Return COST: the number of workers with which each back end beats one thread."""
    found = ((backend, "no measured number" if n is None else str(n)) for backend, n in cost.items())
    return Table(("back end", "workers needed to beat it (COST)"), tuple(found))


# ---------------------------------------------------------------------------------------------------------------------
# One run
# ---------------------------------------------------------------------------------------------------------------------


def critical(account: Row) -> Table:
    """Return the seconds of the critical path by kind."""
    path = account["critical"]
    kinds = PATH_KINDS if path.get("limit-wait") else PATH_KINDS[:3]
    titles = ("", *kinds, "elapsed", "longest path through the graph")
    cells = (
        *(duration_text(path[kind]) for kind in kinds),
        duration_text(account["elapsed"]),
        duration_text(account["span"]),
    )
    return Table(titles, (("seconds", *cells),))


def wall_time(wall: Row) -> Table:
    """Return where the wall time of a run went, without the parts that there were not."""
    whole = wall["seconds"] or 1.0
    shown = [part for part in wall["parts"] if part["seconds"] > 0]
    found = [(p["part"], duration_text(p["seconds"]), f"{p['seconds'] / whole:.0%}", p["what"]) for p in shown]
    return Table(
        ("part", "seconds", "share", ""),
        (*found, ("in all", duration_text(wall["seconds"]), "100%", "")),
        texts=frozenset({0, 3}),
        bars=(*(part["seconds"] / whole for part in shown), 1.0),
    )


def claims(judged: Sequence[Row]) -> Table:
    """Return the claims of the file, what was measured for each, and whether it is true."""
    found = ((c["claim"], c["what"], interval_text(interval(c["measured"])), c["bound"], c["verdict"]) for c in judged)
    return Table(("claim", "measured", "value", "claimed", "verdict"), tuple(found), texts=frozenset({0, 1, 3, 4}))


def limits(account: Row) -> Table:
    """Return how long tasks waited for each limit of the file, and what that cost the workers."""
    found = (
        (name, f"{wait['places']:,}", f"{wait['n_tasks']:,}", duration_text(wait["waited"]), seconds(wait["idle"]))
        for name, wait in (account.get("limits") or {}).items()
    )
    titles = ("limit", "at once", "tasks that waited", "elapsed with some waiting", "core-seconds idle for it")
    return Table(titles, tuple(found))


def critical_steps(account: Row) -> Table:
    """Return the steps that compute on the critical path."""
    steps = list(account["critical"]["steps"].items())
    whole = account["elapsed"] or 1.0
    shown = steps[:_MOST_STEPS]
    return Table(
        ("step on the critical path", "compute"),
        tuple((step, duration_text(value)) for step, value in shown),
        bars=tuple(min(value / whole, 1.0) for _, value in shown),
        more=_more(len(steps) - len(shown), "step"),
    )


def expensive_steps(account: Row) -> Table:
    """Return the steps with most seconds."""
    titles = ("step", "tasks", "seconds in tasks", "serial", "CPU", "bytes of results", "bytes moved")
    steps = account["steps"]
    found = (
        (
            step["step"],
            f"{step['n_tasks']:,}",
            duration_text(step["seconds"]),
            duration_text(step["useful"]),
            duration_text(step["cpu"]),
            bytes_text(step["bytes_out"]),
            bytes_text(step["bytes_moved"]),
        )
        for step in steps
    )
    return _without_empty(titles, found, bars=_shares(steps))


def expensive_tasks(account: Row) -> Table:
    """Return the longest tasks."""
    tasks = account["tasks"]
    found = (
        (task["key"], task["step"], task["worker"], duration_text(task["seconds"]), duration_text(task["useful"]))
        for task in tasks
    )
    return _without_empty(("task", "step", "worker", "seconds", "serial"), found, texts={0, 1, 2}, bars=_shares(tasks))


def _shares(costs: Sequence[Row]) -> tuple[float, ...]:
    most = max((cost["seconds"] for cost in costs), default=0.0)
    return tuple(cost["seconds"] / most if most > 0 else 0.0 for cost in costs)


# ---------------------------------------------------------------------------------------------------------------------
# Where it comes from
# ---------------------------------------------------------------------------------------------------------------------


def machine(environment: Row) -> Table:
    """Return the machine and the versions."""
    found = [
        (name, bytes_text(value) if name == "memory" else str(value))
        for name, value in environment.items()
        if name != "versions" and value not in (None, "")
    ]
    versions = [f"{name} {version}" for name, version in environment.get("versions", {}).items()]
    return Table(
        ("", ""), (*found, *([("versions", ", ".join(versions))] if versions else ())), texts=frozenset({0, 1})
    )


def files(records: Mapping[str, Any], what: str) -> Table:
    """Return a table of input files or modules, with their hashes."""
    found = []
    for name, value in list(records.items())[:_MOST_FILES]:
        if isinstance(value, Mapping):
            found.append((name, bytes_text(value.get("bytes")), value.get("sha256") or "-"))
        else:
            found.append((name, "-", str(value)))
    return _without_empty((what, "size", "SHA-256"), found, texts={0, 2}, more=_more(len(records) - len(found), what))


def _more(n: int, noun: str) -> str:
    return f"… {count_text(n, f'more {noun}')}; all are in report.json" if n > 0 else ""


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)
