"""Tables of where the core-seconds of a comparison went, for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.report.compare_reason_text import LOSS_NAMES
from pipeline.report.text_tables import WIDTH, Column, table_text, wrapped
from pipeline.trace.critical_path import PATH_KINDS
from pipeline.trace.scaling_laws import is_fraction
from pipeline.units import bytes_text, count_text, digits, duration_text, ratio_text

if TYPE_CHECKING:
    from pipeline.experiments.comparison.result import Comparison, Reference, Scaling
    from pipeline.trace.account import Account


__all__ = ["account_lines", "short_account_lines"]

_SIDE_BY_SIDE = 4
_BESIDE = {"parent": "CPU of the parent", "scheduler": "CPU of the scheduler", "workers": "other CPU of workers"}
_STEPS = 10
_TASKS = 10


_SHORT_TITLES = {
    "useful": "useful",
    "inflation": "infla-\ntion",
    "runtime": "run-\ntime",
    "transfer": "trans-\nfer",
    "scheduling": "sched-\nuling",
    "limit": "limit",
    "dependency": "depen-\ndency",
    "unexplained": "unex-\nplained",
}


def short_account_lines(comparison: Comparison, *, width: int = WIDTH) -> list[str]:
    """Return where the core-seconds of each back end went, as one table of per cents, and what a law or a call says."""
    accounts = [a for a in comparison.accounts if a.losses is not None and a.runs.label in comparison.causes]
    columns = [
        Column("backend", "where the time\nof workers went", folded=14),
        Column("total", "core-\nseconds", True),
        *(Column(name, title, True) for name, title in _SHORT_TITLES.items()),
    ]
    rows = []
    for a in accounts:
        percents = a.losses.percents() if a.losses is not None else {}
        cells = {name: f"{percents[name]}%" if percents.get(name) else "-" for name in _SHORT_TITLES}
        rows.append({"backend": a.runs.label.replace("[", "\n["), "total": digits(a.n_workers * a.elapsed), **cells})
    lines = [table_text(columns, rows, width=width), ""] if rows else []
    lines += wrapped((_law_line(law) for law in comparison.scaling), width)
    if comparison.reference is not None:
        lines += wrapped([_reference_line(comparison.reference)], width)
    return [*lines, ""] if comparison.scaling or comparison.reference else lines


def account_lines(comparison: Comparison, *, width: int = WIDTH) -> list[str]:
    """Return the tables that explain a comparison; empty if no losses are known."""
    accounts = [a for a in comparison.accounts if a.losses is not None]
    if not accounts:
        return []
    parallel = [a for a in accounts if a.runs.label in comparison.causes] or accounts
    lines = []
    for i in range(0, len(parallel), _SIDE_BY_SIDE):
        lines += [_losses_text(parallel[i : i + _SIDE_BY_SIDE], width), ""]
    sharing = [a for a in parallel if a.transfers is not None]
    if sharing:
        lines += [_transfers_text(sharing, width), ""]
    fastest = min(parallel, key=lambda a: a.elapsed)
    for text in (
        _steps_text(accounts, width),
        _tasks_text(fastest, width),
        _limits_text(parallel, width),
        _paths_text(parallel, width),
        _factors_text(parallel, width),
    ):
        lines += [text, ""] if text else []
    for law in comparison.scaling:
        lines += [*_scaling_lines(law, width), ""]
    if comparison.reference is not None:
        lines += [*wrapped([_reference_line(comparison.reference)], width), ""]
    return lines


def _losses_text(accounts: Sequence[Account], width: int) -> str:
    columns = [
        Column("what", "core-seconds", folded=18),
        *(Column(str(i), _title(a.runs.label), True) for i, a in enumerate(accounts)),
    ]
    percents = [a.losses.percents() if a.losses else {} for a in accounts]
    rows: list[dict[str, str]] = []
    for name, word in LOSS_NAMES.items():
        if name == "limit" and not any(a.limits for a in accounts):
            continue
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


def _transfers_text(accounts: Sequence[Account], width: int) -> str:
    """Return a table of what moved between workers, of back ends that used shared memory."""
    columns = [
        Column("backend", "handed over"),
        Column("pickled", "by pickle", True),
        Column("pickling", "seconds", True),
        Column("shared", "in shared\nmemory", True),
        Column("sharing", "seconds", True),
    ]
    rows = [
        {
            "backend": a.runs.label,
            "pickled": bytes_text(a.transfers.pickled),
            "pickling": duration_text(a.transfers.pickling),
            "shared": bytes_text(a.transfers.shared),
            "sharing": duration_text(a.transfers.sharing),
        }
        for a in accounts
        if a.transfers is not None
    ]
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
        *(Column(str(i), _title(a.runs.label), True) for i, a in enumerate(others)),
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


def _limits_text(accounts: Sequence[Account], width: int) -> str:
    """Return a table of the limits of the file: how long tasks waited for each, and what that cost the workers."""
    columns = [
        Column("limit", "limit (places)"),
        Column("backend", "back end", folded=20),
        Column("n_tasks", "tasks that\nwaited", True),
        Column("waited", "elapsed with\nsome waiting", True),
        Column("idle", "core-seconds\nidle for it", True),
    ]
    rows = [
        {
            "limit": f"{name} ({wait.places:,})",
            "backend": a.runs.label,
            "n_tasks": f"{wait.n_tasks:,}",
            "waited": duration_text(wait.waited),
            "idle": _seconds(wait.idle),
        }
        for name in dict.fromkeys(name for a in accounts for name in a.limits)
        for a, wait in ((a, a.limits[name]) for a in accounts if name in a.limits)
    ]
    return table_text(columns, rows, width=width) if rows else ""


def _paths_text(accounts: Sequence[Account], width: int) -> str:
    columns = [
        Column("backend", "critical path"),
        Column("compute", "compute", True),
        Column("data-wait", "data-wait", True),
        Column("core-wait", "core-wait", True),
        *([Column("limit-wait", "limit-wait", True)] if any(a.limits for a in accounts) else []),
        Column("span", "span", True),
        Column("steps", "its steps", folded=12),
    ]
    rows: list[dict[str, str]] = []
    for a in accounts:
        by_step = sorted(a.critical.by_step().items(), key=lambda item: -item[1])
        kinds: dict[str, str] = {kind: duration_text(a.critical.seconds(kind)) for kind in PATH_KINDS}
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
    yield from wrapped([_law_line(law)], width)


def _law_line(law: Scaling) -> str:
    bound = (
        f"at most {ratio_text(law.largest_speedup)} with any number" if law.largest_speedup else "no bound was found"
    )
    fitted = f"{law.backend} with more workers, by Amdahl's law: {law.serial_fraction:.1%} is serial, {bound}"
    if law.contention is not None and law.coherency is not None:
        fitted += f"; USL: contention {law.contention:.3f}, coherency {law.coherency:.4f}"
    return fitted


def _reference_line(reference: Reference) -> str:
    if reference.failure or reference.elapsed is None or reference.speedup is None:
        return f"The reference {reference.call} did not run: {reference.failure}"
    needed = [
        f"{backend}: {count_text(n, 'worker')}" if n else f"{backend}: no measured number"
        for backend, n in reference.cost.items()
    ]
    return (
        f"The reference {reference.call} takes {duration_text(reference.elapsed.value)} in one thread, "
        f"{ratio_text(reference.speedup.value)} as fast as serial, results {reference.equality}; workers needed to be "
        f"faster (COST): {', '.join(needed)}"
    )


def _seconds(value: float) -> str:
    return f"{'-' if value < 0 else ''}{digits(abs(value))}"


def _title(label: str) -> str:
    """Return the name of a back end as the title of a narrow column: its options are on lines of their own."""
    return label.replace("[", "\n[").replace("=", "=\n").replace(",", ",\n")
