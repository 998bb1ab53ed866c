"""Tables of where the core-seconds of a comparison went, for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.report.compare_reason_text import LOSS_NAMES
from pipeline.report.text_tables import WIDTH, Column, table_text, wrapped
from pipeline.trace.scaling_laws import is_fraction
from pipeline.units import count_text, digits, duration_text, ratio_text

if TYPE_CHECKING:
    from pipeline.experiments.comparison.result import Comparison, Reference, Scaling
    from pipeline.trace.account import Account


__all__ = ["account_lines"]

_SIDE_BY_SIDE = 4
_BESIDE = {"parent": "CPU of the parent", "scheduler": "CPU of the scheduler", "workers": "other CPU of workers"}
_STEPS = 10
_TASKS = 10


def account_lines(comparison: Comparison, *, width: int = WIDTH) -> list[str]:
    """Return the tables that explain a comparison; empty if no losses are known."""
    accounts = [a for a in comparison.accounts if a.losses is not None]
    if not accounts:
        return []
    parallel = [a for a in accounts if a.runs.label in comparison.causes] or accounts
    lines = []
    for i in range(0, len(parallel), _SIDE_BY_SIDE):
        lines += [_losses_text(parallel[i : i + _SIDE_BY_SIDE], width), ""]
    fastest = min(parallel, key=lambda a: a.elapsed)
    for text in (
        _steps_text(accounts, width),
        _tasks_text(fastest, width),
        _paths_text(parallel, width),
        _factors_text(parallel, width),
    ):
        lines += [text, ""]
    for law in comparison.scaling:
        lines += [*_scaling_lines(law, width), ""]
    if comparison.reference is not None:
        lines += [*wrapped([_reference_line(comparison.reference)], width), ""]
    return lines


def _losses_text(accounts: Sequence[Account], width: int) -> str:
    columns = [
        Column("what", "core-seconds", folded=18),
        *(Column(str(i), a.runs.label, True) for i, a in enumerate(accounts)),
    ]
    percents = [a.losses.percents() if a.losses else {} for a in accounts]
    rows: list[dict[str, str]] = []
    for name, word in LOSS_NAMES.items():
        cells = {str(i): f"{_seconds(getattr(a.losses, name))} {percents[i][name]:>4}%" for i, a in enumerate(accounts)}
        rows.append({"what": word, **cells})
    total = {str(i): f"{_seconds(a.n_workers * a.elapsed)}  100%" for i, a in enumerate(accounts)}
    rows.append({"what": "workers x elapsed", **total})
    for where, word in _BESIDE.items():
        cells = {
            str(i): _seconds(a.cpu_beside[where]) + " " * 6 for i, a in enumerate(accounts) if where in a.cpu_beside
        }
        if cells:
            rows.append({"what": word, **cells})
    shares = {str(i): f"{a.measuring_share:.2%}" for i, a in enumerate(accounts)}
    rows.append({"what": "taken by measuring", **shares})
    return table_text(columns, rows, width=width)


def _steps_text(accounts: Sequence[Account], width: int) -> str:
    """Return a table of the most expensive steps: their serial seconds, and the ratio of their seconds elsewhere."""
    serial, *others = accounts
    others = others[:_SIDE_BY_SIDE]
    costly = sorted(serial.by_step.items(), key=lambda item: -item[1].seconds)[:_STEPS]
    columns = [
        Column("step", "most expensive steps", folded=16),
        Column("tasks", "tasks", True),
        Column("serial", "serial", True),
        *(Column(str(i), a.runs.label, True) for i, a in enumerate(others)),
    ]
    rows = []
    for step, times in costly:
        cells = {
            str(i): f"{ratio_text(a.by_step[step].seconds / times.seconds)}"
            for i, a in enumerate(others)
            if step in a.by_step and times.seconds
        }
        rows.append({"step": step, "tasks": f"{times.n_tasks:,}", "serial": duration_text(times.seconds), **cells})
    return table_text(columns, rows, width=width)


def _tasks_text(account: Account, width: int) -> str:
    columns = [
        Column("task", f"most expensive tasks, {account.runs.label}", folded=30),
        Column("seconds", "seconds", True),
        Column("useful", "serial", True),
    ]
    rows = [
        {
            "task": f"{task.key} of {task.step}",
            "seconds": duration_text(task.seconds),
            "useful": duration_text(task.useful),
        }
        for task in account.tasks[:_TASKS]
    ]
    return table_text(columns, rows, width=width)


def _paths_text(accounts: Sequence[Account], width: int) -> str:
    columns = [
        Column("backend", "critical path"),
        Column("compute", "compute", True),
        Column("data-wait", "data-wait", True),
        Column("core-wait", "core-wait", True),
        Column("span", "span", True),
        Column("steps", "its steps", folded=12),
    ]
    rows = []
    for a in accounts:
        by_step = sorted(a.critical.by_step().items(), key=lambda item: -item[1])
        kinds = {kind: duration_text(a.critical.seconds(kind)) for kind in ("compute", "data-wait", "core-wait")}
        names = ", ".join(dict.fromkeys(instance.partition("[")[0] for instance, _ in by_step[:3]))
        rows.append({"backend": a.runs.label, **kinds, "span": duration_text(a.span), "steps": names})
    return table_text(columns, rows, width=width)


def _factors_text(accounts: Sequence[Account], width: int) -> str:
    """Return a table of the POP factors; the product of a row is its speedup."""
    names = ("computation_scaling", "load_balance", "serialization_efficiency", "transfer_efficiency", "overhead")
    titles = ("x compu-\ntation", "x load\nbalance", "x seria-\nlization", "x trans-\nfer", "x serial\nitself")
    columns = [
        Column("backend", "why"),
        Column("speedup", "speedup", True),
        Column("n_workers", "= workers", True),
        *(Column(name, title, True) for name, title in zip(names, titles, strict=True)),
    ]
    rows = []
    for a in accounts:
        if a.factors is None:
            continue
        cells = {name: f"{getattr(a.factors, name):.3f}" for name in names}
        if a.factors.transfer_is_model:
            cells["transfer_efficiency"] += "*"
        rows.append(
            {"backend": a.runs.label, "speedup": f"{a.factors.speedup:.2f}", "n_workers": str(a.n_workers), **cells}
        )
    text = table_text(columns, rows, width=width) if rows else ""
    if any(a.factors and a.factors.transfer_is_model for a in accounts):
        text += "\n* above 1: the model runs the tasks in the measured order, which was not the best"
    return text


def _scaling_lines(law: Scaling, width: int) -> Iterator[str]:
    columns = (
        Column("workers", f"{law.backend}: workers", True),
        Column("speedup", "speedup", True),
        Column("karp", "Karp-Flatt", True),
        Column("amdahl", "Amdahl", True),
        Column("usl", "USL", True),
        Column("note", ""),
    )
    measured = {point["workers"]: point for point in law.points}
    rows: dict[int, dict[str, str]] = {}
    for point in law.curve:
        row = rows.setdefault(point["workers"], {"workers": str(point["workers"])})
        row[point["model"]] = f"{point['speedup']:.2f}"
        if point["extrapolated"]:
            row["note"] = "extrapolated"
    for n, point in measured.items():
        row = rows.setdefault(n, {"workers": str(n)})
        fraction = point["karp_flatt"]
        row |= {"speedup": f"{point['speedup']:.2f}", "karp": f"{fraction:.3f}" if is_fraction(fraction) else "-"}
    yield table_text(columns, [rows[n] for n in sorted(rows)], width=width)
    bound = f"at most {ratio_text(law.largest_speedup)} with any number" if law.largest_speedup else "no bound seen"
    fitted = f"Amdahl: {law.serial_fraction:.1%} serial, {bound}"
    if law.contention is not None and law.coherency is not None:
        fitted += f"; USL: contention {law.contention:.3f}, coherency {law.coherency:.4f}"
    yield from wrapped([fitted], width)


def _reference_line(reference: Reference) -> str:
    if reference.failure or reference.elapsed is None or reference.speedup is None:
        return f"reference {reference.call}: did not run: {reference.failure}"
    needed = [
        f"{backend}: {count_text(n, 'worker')}" if n else f"{backend}: no measured number"
        for backend, n in reference.cost.items()
    ]
    ratio = f"{ratio_text(reference.speedup.value)} of serial"
    return (
        f"reference {reference.call}: {duration_text(reference.elapsed.value)} in one thread, {ratio}, results "
        f"{reference.equality}; workers needed to beat it (COST): {', '.join(needed)}"
    )


def _seconds(value: float) -> str:
    return f"{'-' if value < 0 else ''}{digits(abs(value))}"
