"""``report.json`` of a run, made from the files that the run left in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.runs import report_json
from pipeline.runs.folders import INPUTS, PROVENANCE, RUN, SHAPE, TRACE
from pipeline.runs.history.read import BROKEN, RunFolder, read
from pipeline.runs.history.schema import RunFacts, Unreadable, document
from pipeline.trace.account import Account, Runs, account
from pipeline.trace.shape import Shape
from pipeline.trace.statistics import median_interval
from pipeline.trace.trace import Trace
from pipeline.units import count_text, duration_text

__all__ = ["write"]


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
    accounts = [_account(folder)] if (folder / TRACE).is_file() else []
    n_workers = accounts[0].n_workers if accounts else facts.workers or 0
    if found.problem:
        verdict = f"{facts.name} failed: {found.problem}"
    else:
        workers = count_text(n_workers, "worker")
        verdict = f"{facts.name}: {duration_text(facts.elapsed)} on {workers} of {facts.backend}"
    row = {
        "label": facts.backend,
        "backend": facts.backend,
        "workers": n_workers,
        "n_rounds": 0 if found.problem else 1,
        "elapsed": None if facts.elapsed is None else vars(median_interval([facts.elapsed])),
        "start_up": facts.start_up,
        "commit": facts.commit,
        "failure": found.problem,
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
        rows=[row],
        accounts=accounts,
        exit_code=found.exit_code,
        problem=found.problem,
        verdict=[verdict],
    )


def _account(folder: Path) -> Account:
    """Return where the time of the run went.

    Raises
    ------
    Unreadable : if its Trace or its Shape is damaged
    """
    try:
        trace, shape = Trace.load(folder / TRACE), Shape.load(folder / SHAPE)
        return account([trace], Runs(trace.backend, trace.backend, trace.n_workers, (TRACE,)), shape=shape)
    except BROKEN as error:
        raise Unreadable(f"{TRACE} or {SHAPE} can't be read: {error}") from error
