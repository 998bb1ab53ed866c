"""``report.json`` of a run, made from the files that the run left in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.backends.registry import base_name
from pipeline.errors import DataError
from pipeline.runs import report_json
from pipeline.runs.folders import INPUTS, PROVENANCE, RUN, SHAPE, TRACE
from pipeline.runs.history.read import BROKEN, RunFolder, read
from pipeline.runs.history.schema import RunFacts, Unreadable, document
from pipeline.runs.wall_time import PARTS
from pipeline.trace.account import Account, Runs, account
from pipeline.trace.shape import Shape
from pipeline.trace.statistics import median_interval
from pipeline.trace.trace import Trace
from pipeline.units import count_text, duration_text

__all__ = ["write"]

_BUSY = 0.85  # share of workers x elapsed in tasks from which few are idle
_LESS = {
    "loading": "Give one run more work: a matrix, or more inputs, instead of more runs",
    "metadata": "Use fewer, larger input files",
    "planning": "Make fewer, larger tasks: larger `chunks`, or a larger `batch`",
    "start-up": "Make fewer, larger tasks: larger `chunks`, or a larger `batch`",
    "": "Write fewer, larger files",
}
"""Part of the wall time -> what makes it shorter."""


def write(folder: Path) -> Path:
    """Write ``report.json`` of a run from the other files of its folder, and return its path. No pickle is opened.

    A run that failed has a report, too; it has an account of its time if all tasks had run.

    Raises
    ------
    DataError : if the run has not ended, or one of its files can't be read
    """
    found = read(folder)
    if found.exit_code is None:
        raise DataError(f"{folder}: there is nothing to report: {found.problem}")
    try:
        return report_json.write(folder, _document(folder, found))
    except Unreadable as error:
        raise DataError(f"{folder}: {error}") from error


def _document(folder: Path, found: RunFolder) -> dict[str, Any]:
    facts = RunFacts.of(document(folder / RUN), RUN)
    provenance = document(folder / PROVENANCE) or {}
    has_trace = (folder / TRACE).is_file() and facts.n_tasks > 0
    accounts = [_account(folder, partial=bool(facts.problem))] if has_trace else []
    n_workers = accounts[0].n_workers if accounts else facts.workers or 0
    failure = "" if facts.elapsed is not None else found.problem
    if failure:
        verdict = f"{facts.name} failed: {found.problem}"
    else:
        running = f"{duration_text(facts.elapsed)} on {count_text(n_workers, 'worker')} of {facts.backend}"
        in_all = "" if facts.wall is None else f"{duration_text(facts.wall)} in all; its tasks ran "
        verdict = f"{facts.name}: {in_all}{running}"
        verdict += f"; partial: {found.problem}" if found.problem else ""
    row = {
        "label": facts.backend,
        "backend": facts.backend,
        "workers": n_workers,
        "n_rounds": 0 if failure else 1,
        "elapsed": None if facts.elapsed is None else vars(median_interval([facts.elapsed])),
        "start_up": facts.start_up,
        "commit": facts.commit,
        "failure": failure,
        "exit_code": found.exit_code,
    }
    return report_json.document(
        "run",
        {
            "name": facts.name,
            "fingerprint": facts.fingerprint,
            "n_tasks": facts.n_tasks,
            "environment": provenance.get("environment", {}),
            "inputs": (document(folder / INPUTS) or {}).get("inputs", {}),
            "code": provenance.get("code", {}),
            "config": provenance.get("config", ""),
            "graph": facts.graph,
        },
        wall=_wall(facts),
        advice=_advice(facts, accounts, problem=found.problem),
        rows=[row],
        accounts=accounts,
        exit_code=found.exit_code,
        problem=found.problem,
        verdict=[verdict, *([found.reused] if found.reused else [])],
    )


def _wall(facts: RunFacts) -> dict[str, Any] | None:
    """Return where the wall time of the run went; None for a run that failed, or of an earlier version."""
    if facts.wall is None:
        return None
    parts = [{"part": part, "what": PARTS.get(part, ""), "seconds": value} for part, value in facts.times.items()]
    return {"seconds": facts.wall, "parts": parts}


def _advice(facts: RunFacts, accounts: Sequence[Account], *, problem: str) -> dict[str, str] | None:
    """Return the one thing to do about a run: about the part of its wall time that took most, or its idle workers."""
    if problem:
        kept = "what is complete was committed" if facts.problem else "nothing was committed"
        return {"do": "Correct this, and run again", "why": f"{kept}, and earlier outputs are unchanged"}
    if facts.wall is None:
        return None
    times = dict(facts.times)
    running = times.pop("running", 0.0)
    part = max(times, key=lambda name: times[name], default="")
    if part and times[part] > running:
        took = f"{part} ({PARTS.get(part, '')}) took {duration_text(times[part])} of {duration_text(facts.wall)}"
        by_workers = part == "start-up" and base_name(facts.backend) not in ("serial", "threads")
        do = "Try `--backend threads`, whose workers start at once" if by_workers else _LESS.get(part, _LESS[""])
        return {"do": do, "why": f"{took}, and the tasks {duration_text(running)}"}
    had = sum(a.n_workers * a.elapsed for a in accounts)
    busy = sum(a.core_time.total("task") for a in accounts) / 1e9 / had if had else 1.0
    do = "Find out with `pipeline compare` why workers were idle"
    if busy >= _BUSY:
        do = "Try other back ends with `pipeline compare`"
    return {"do": do, "why": f"the workers ran tasks for {busy:.0%} of the time that they had"}


def _account(folder: Path, *, partial: bool) -> Account:
    """Return where the time of the run went; of a ``partial`` one that of the tasks that ran.

    Raises
    ------
    Unreadable : if its Trace or its Shape is damaged
    """
    try:
        trace, shape = Trace.load(folder / TRACE), Shape.load(folder / SHAPE)
        if partial:
            shape = shape.only(set(trace.tasks["key"].to_pylist()))
        return account([trace], Runs(trace.backend, trace.backend, trace.n_workers, (TRACE,)), shape=shape)
    except BROKEN as error:
        raise Unreadable(f"{TRACE} or {SHAPE} can't be read: {error}") from error
