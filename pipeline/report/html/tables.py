"""The tables of the HTML report: the numbers of ``report.json`` as text, in the formats of the terminal.

A cell is text, nothing of it is markup: the template escapes all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.html.bokeh_figures import LOSSES
from pipeline.report.reason_text import LOSS_NAMES
from pipeline.trace.statistics import Interval
from pipeline.units import bytes_text, count_text, digits, duration_text, interval_text, ratio_text

__all__ = [
    "LOSS_NAMES",
    "Table",
    "beside",
    "costs",
    "critical",
    "critical_steps",
    "described",
    "elapsed",
    "expensive_steps",
    "expensive_tasks",
    "factors",
    "files",
    "interval",
    "label",
    "losses",
    "machine",
    "needed",
    "points",
    "ratio",
    "rows",
    "seconds",
]

_BESIDE = {"parent": "CPU of the parent", "scheduler": "CPU of the scheduler", "workers": "CPU of workers besides"}
_MOST_STEPS = 15
_MOST_FILES = 200

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table: titles, cells, which columns are numbers, and the colours of some titles.

    Parameters
    ----------
    bars : for each row a share from 0 to 1 that is drawn below its first cell; empty: none
    more : what is not shown, in words
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: frozenset[int] = frozenset({0})
    colours: Mapping[int, str] | None = None
    bars: tuple[float, ...] = ()
    more: str = ""


def interval(found: Mapping[str, Any] | None) -> Interval | None:
    """An interval of the document, with nan for what is not known."""
    if found is None:
        return None
    low, high = (math.nan if found[name] is None else found[name] for name in ("low", "high"))
    value = math.nan if found["value"] is None else found["value"]
    return Interval(value, low, high, found["n"], found["confidence"])


def ratio(found: Mapping[str, Any] | None) -> str:
    """A ratio with its bounds."""
    return ratio_text(interval(found))


def seconds(value: float | None) -> str:
    """Core-seconds, signed, always in seconds."""
    return "-" if value is None else f"{digits(value)} s"


def elapsed(found: Mapping[str, Any]) -> str:
    """Seconds with their bounds."""
    return f"{interval_text(interval(found))} s"


def described(step: Row) -> str:
    """What a step of the graph is."""
    tasks = count_text(step["n_tasks"], "task")
    return f"{step['kind']}, {tasks}" if step["kind"] else tasks


def _kept(titles: Sequence[str], found: Iterable[Sequence[str]], **fields: Any) -> Table:
    """A table without the columns in which nothing is known."""
    cells = [tuple(row) for row in found]
    some = [i for i in range(len(titles)) if i == 0 or any(row[i] not in ("", "-") for row in cells)]
    texts = frozenset(some.index(i) for i in fields.pop("texts", {0}) if i in some)
    colours = {some.index(i): colour for i, colour in (fields.pop("colours", None) or {}).items() if i in some}
    picked = tuple(tuple(row[i] for i in some) for row in cells)
    return Table(tuple(titles[i] for i in some), picked, texts=texts, colours=colours, **fields)


def label(row: Row) -> str:
    """What tells a row or an account from the others."""
    return str(row.get("label") or row.get("case") or row["backend"])


# ---------------------------------------------------------------------------------------------------------------------
# All back ends
# ---------------------------------------------------------------------------------------------------------------------


def rows(document: Row) -> Table:
    """How fast each back end was."""
    titles = ("back end", "workers", "runs", "elapsed, s", "speedup", "efficiency", "speedup, all included", "results")
    return _kept(titles, (_speed(row) for row in document["rows"]), texts={0, 7})


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
    """What each back end cost."""
    titles = ("back end", "CPU user, s", "CPU system, s", "start-up", "verify", "commit", "peak memory")
    ran = (row for row in document["rows"] if not row.get("failure"))
    found = (
        (
            label(row),
            _or_dash(row.get("user"), digits),
            _or_dash(row.get("system"), digits),
            *(duration_text(row.get(name)) for name in ("start_up", "verify", "commit")),
            bytes_text(row.get("memory")),
        )
        for row in ran
    )
    return _kept(titles, found)


def losses(accounts: Sequence[Row]) -> Table:
    """Where the core-seconds went: seconds and per cents of each class."""
    names = [name for name in LOSSES if any((a["losses"] or {}).get(name) for a in accounts)]
    titles = ("back end", *(LOSS_NAMES.get(name, "in tasks") for name in names), "workers x elapsed")
    found = (
        (
            label(a),
            *(_loss((a["losses"] or {}).get(name)) for name in names),
            f"{seconds(a['workers'] * a['elapsed'])}\n100 %",
        )
        for a in accounts
    )
    return _kept(titles, found, colours={i: LOSSES[name] for i, name in enumerate(names, 1)})


def beside(accounts: Sequence[Row]) -> Table:
    """CPU seconds beside the tasks, and what measuring took."""
    found = (
        (
            label(a),
            *(seconds(a["cpu_beside"].get(where)) for where in _BESIDE),
            f"{a['measuring']['share']:.2%}",
        )
        for a in accounts
    )
    return _kept(("back end", *_BESIDE.values(), "taken by measuring"), found)


def _loss(loss: Row | None) -> str:
    if loss is None:
        return "-"
    low, high = loss.get("low"), loss.get("high")
    bounds = f"\n[{digits(low)}, {digits(high)}]" if low is not None and high is not None else ""
    return f"{seconds(loss['seconds'])}\n{loss['percent']} %{bounds}"


_FACTORS = ("computation_scaling", "load_balance", "serialization_efficiency", "transfer_efficiency", "overhead")


def factors(accounts: Sequence[Row]) -> Table:
    """The POP factors: each row multiplies to its speedup."""
    titles = ("back end", "speedup", "= workers", "x computation scaling", "x load balance", "x serialization",
              "x transfer", "x serial's overhead")  # fmt: skip
    found = [_product(label(a), a["factors"]) for a in accounts if a["factors"]]
    starred = any(a["factors"]["transfer_is_model"] for a in accounts if a["factors"])
    more = "* above 1: the model plays the tasks in the order measured, which was not the best" if starred else ""
    return Table(titles, tuple(found), more=more)


def _product(name: str, told: Row) -> tuple[str, ...]:
    cells = [f"{told[factor]:.3f}" for factor in _FACTORS]
    cells[3] += "*" if told["transfer_is_model"] else ""
    return (name, f"{told['speedup']:.2f}", f"= {told['n_workers']}", *(f"x {cell}" for cell in cells))


def points(law: Row) -> Table:
    """What was measured of one back end with several numbers of workers."""
    found = (
        (
            str(point["workers"]),
            interval_text(interval(point["elapsed"])),
            f"{ratio_text(point['speedup'])}",
            _or_dash(point["karp_flatt"], lambda x: f"{x:.3f}"),
        )
        for point in law["points"]
    )
    return _kept(("workers", "elapsed, s", "speedup", "Karp-Flatt's serial fraction"), found, texts=frozenset())


def needed(cost: Mapping[str, int | None]) -> Table:
    """COST: the workers with which each back end beats one thread."""
    found = ((backend, "none of those measured" if n is None else str(n)) for backend, n in cost.items())
    return Table(("back end", "workers that beat it (COST)"), tuple(found))


# ---------------------------------------------------------------------------------------------------------------------
# One run
# ---------------------------------------------------------------------------------------------------------------------


def critical(account: Row) -> Table:
    """The critical path, by what happened on it."""
    told = account["critical"]
    kinds = ("compute", "data-wait", "core-wait")
    titles = ("", *kinds, "elapsed", "longest path through the graph")
    cells = (
        *(duration_text(told[kind]) for kind in kinds),
        duration_text(account["elapsed"]),
        duration_text(account["span"]),
    )
    return Table(titles, (("seconds", *cells),))


def critical_steps(account: Row) -> Table:
    """The steps that compute on the critical path."""
    told = list(account["critical"]["steps"].items())
    whole = account["elapsed"] or 1.0
    shown = told[:_MOST_STEPS]
    return Table(
        ("step on the critical path", "compute"),
        tuple((step, duration_text(value)) for step, value in shown),
        bars=tuple(min(value / whole, 1.0) for _, value in shown),
        more=_more(len(told) - len(shown), "steps"),
    )


def expensive_steps(account: Row) -> Table:
    """The steps whose tasks took longest."""
    titles = ("step", "tasks", "in tasks", "serially", "CPU", "bytes of results", "bytes moved")
    told = account["steps"]
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
        for step in told
    )
    return _kept(titles, found, bars=_shares(told))


def expensive_tasks(account: Row) -> Table:
    """The tasks that took longest."""
    told = account["tasks"]
    found = (
        (task["key"], task["step"], task["worker"], duration_text(task["seconds"]), duration_text(task["useful"]))
        for task in told
    )
    return _kept(("task", "step", "worker", "in the task", "serially"), found, texts={0, 1, 2}, bars=_shares(told))


def _shares(told: Sequence[Row]) -> tuple[float, ...]:
    most = max((item["seconds"] for item in told), default=0.0)
    return tuple(item["seconds"] / most if most > 0 else 0.0 for item in told)


# ---------------------------------------------------------------------------------------------------------------------
# Where it comes from
# ---------------------------------------------------------------------------------------------------------------------


def machine(environment: Row) -> Table:
    """The machine and the versions."""
    found = [
        (name, bytes_text(value) if name == "memory" else str(value))
        for name, value in environment.items()
        if name != "versions" and value not in (None, "")
    ]
    versions = [f"{name} {version}" for name, version in environment.get("versions", {}).items()]
    return Table(
        ("", ""), (*found, *([("versions", ", ".join(versions))] if versions else ())), texts=frozenset({0, 1})
    )


def files(told: Mapping[str, Any], what: str) -> Table:
    """Input files with their hashes, or pieces of code."""
    found = []
    for name, value in list(told.items())[:_MOST_FILES]:
        if isinstance(value, Mapping):
            found.append((name, bytes_text(value.get("bytes")), value.get("sha256") or "-"))
        else:
            found.append((name, "-", str(value)))
    return _kept((what, "size", "SHA-256"), found, texts={0, 2}, more=_more(len(told) - len(found), what + "s"))


def _more(n: int, what: str) -> str:
    return f"… {n:,} more {what}; all of them are in report.json" if n > 0 else ""


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)
