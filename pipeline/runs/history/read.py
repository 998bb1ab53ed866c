"""Read one run folder, whatever state a run, a kill or an older version has left it in.

====================================  =====================================================================
``run.json`` and its neighbours       a run; see :mod:`pipeline.runs.facts`
``report.json``                       a comparison, or a run of version 0.1
``comparison.json``                   a comparison before there was ``report.json``: times without provenance
``failure.json``                      a run or a comparison that failed
``trace.parquet``, ``manifest.json``  a run that ended well before there was ``report.json``
``graph``                             a comparison that began; never opened, since opening it runs code
====================================  =====================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError, printable
from pipeline.runs.folders import FAILURE, INPUTS, MARKS, PROVENANCE, REPORT, RUN, TRACE
from pipeline.runs.history.schema import Inputs, Provenance, RunFacts, Unreadable, document
from pipeline.runs.report_model import Environment, Input, Report
from pipeline.runs.report_schema import parse, upgraded

__all__ = ["BROKEN", "Case", "RunFolder", "read", "step_seconds"]

NOT_ENDED = "it has not ended: it still runs, or was killed"

BROKEN = (OSError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RecursionError,
          OverflowError, pa.ArrowException)  # fmt: skip
"""What reading a Parquet file may raise if it is damaged, or another program's."""


@dataclass(frozen=True)
class Case:
    """A back end with a number of workers, and its times.

    Parameters
    ----------
    elapsed : seconds of each round; empty if it did not run
    traces : files of the rounds' traces, as far as they are known
    """

    label: str
    backend: str
    workers: int
    elapsed: tuple[float, ...] = ()
    traces: tuple[Path, ...] = ()


@dataclass(frozen=True)
class RunFolder:
    """The content of a run folder.

    Parameters
    ----------
    name : of the pipeline
    time : name of the folder: when the run began
    kind : ``run`` or ``comparison``; empty if that is unknown
    exit_code : None if it has not ended (it still runs, or was killed), or can't be read
    problem : why it failed or can't be read; else empty
    cases : what was timed, in the order of the report
    environment, inputs, code : provenance; None if not recorded
    config : the resolved file as YAML; None if not recorded
    shape : the graph of its steps, as in ``report.json``
    reused : one line: which steps were unchanged and which ran again; empty if nothing was there before
    missing : what a run folder of this version has and this one lacks
    """

    folder: Path
    name: str
    time: str
    kind: str = ""
    exit_code: int | None = None
    problem: str = ""
    cases: tuple[Case, ...] = ()
    n_tasks: int | None = None
    fingerprint: str = ""
    environment: Environment | None = None
    inputs: Mapping[str, Input] | None = None
    code: Mapping[str, str] | None = None
    config: str | None = field(default=None, repr=False)
    shape: Any = field(default=None, repr=False)
    reused: str = ""
    missing: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """A name that no other run has: ``quickstart/2026-01-31T10-00-00Z``."""
        return f"{self.name}/{self.time}" if self.name else self.time

    @property
    def state(self) -> str:
        """``ok``, ``exit 1``, ``not ended`` or ``unreadable``."""
        if not self.kind:
            return "unreadable"
        if self.exit_code is None:
            return "not ended"
        return f"exit {self.exit_code}" if self.exit_code else "ok"

    @property
    def ran(self) -> list[Case]:
        """The cases that have times, the fastest first."""
        return sorted((case for case in self.cases if case.elapsed), key=lambda case: median(case.elapsed))

    @property
    def elapsed(self) -> float | None:
        """Seconds of the run, or of the fastest back end (the median of its rounds)."""
        return median(self.ran[0].elapsed) if self.ran else None

    def to_dict(self) -> dict[str, Any]:
        """Return a summary as plain values."""
        return {
            "folder": str(self.folder),
            "name": self.name,
            "time": self.time,
            "kind": self.kind or None,
            "state": self.state,
            "exit_code": self.exit_code,
            "problem": self.problem,
            "backends": [{"label": c.label, "backend": c.backend, "workers": c.workers, "elapsed": list(c.elapsed)}
                         for c in self.cases],
            "elapsed": self.elapsed,
            "n_tasks": self.n_tasks,
            "graph": self.fingerprint,
            "reused": self.reused,
            "missing": list(self.missing),
        }  # fmt: skip


def read(folder: Path, name: str | None = None) -> RunFolder:
    """Read a run folder; what is wrong with its files is in ``problem``, and never raised.

    Parameters
    ----------
    name : of the pipeline; None: the name of the folder above
    """
    folder = folder.absolute()
    start = RunFolder(folder, folder.parent.name if name is None else name, folder.name)
    try:
        for form in (_recorded, _reported, _old_comparison, _run, _begun_comparison):
            if (found := form(start)) is not None:
                return found
    except Unreadable as error:
        return _with(start, problem=printable(str(error)))
    return _with(start, problem=_strange(folder))


def step_seconds(trace: Path) -> dict[str, float]:
    """Return the seconds in the tasks of each step, over all its instances, in the order of their first task.

    Raises
    ------
    Unreadable : if the file is missing, or not a trace
    """
    if not trace.is_file():
        raise Unreadable(f"{trace.parent.name}/{trace.name} is missing")
    try:
        table = pq.read_table(trace, columns=["step", "start", "stop"], partitioning=None)
        if b"pipeline" not in (table.schema.metadata or {}):
            raise Unreadable(f"{trace.name} is not a trace")
        steps, start, stop = (table[name].to_pylist() for name in ("step", "start", "stop"))
        seconds: dict[str, float] = {}
        for step, began, ended in zip(steps, start, stop, strict=True):
            name = step.partition("[")[0]
            seconds[name] = seconds.get(name, 0.0) + (ended - began) / 1e9
    except BROKEN as error:
        raise Unreadable(f"{trace.parent.name}/{trace.name} can't be read: {_first_line(error)}") from error
    return seconds


def _with(start: RunFolder, **fields: Any) -> RunFolder:
    return RunFolder(**{**vars(start), **fields})


# ---------------------------------------------------------------------------------------------------------------------
# A run that recorded its facts
# ---------------------------------------------------------------------------------------------------------------------


def _recorded(start: RunFolder) -> RunFolder | None:
    folder = start.folder
    run, provenance, inputs = (document(folder / name) for name in (RUN, PROVENANCE, INPUTS))
    if run is None:
        return None
    facts = RunFacts.of(run, RUN)
    about = Provenance.of(provenance, PROVENANCE) if provenance is not None else None
    found = _with(
        start,
        kind="run",
        exit_code=facts.exit_code,
        problem=printable(facts.problem) if facts.exit_code is not None else NOT_ENDED,
        n_tasks=facts.n_tasks,
        fingerprint=facts.fingerprint,
        environment=about and about.environment,
        inputs=Inputs.of(inputs, INPUTS).inputs if inputs is not None else None,
        code=about and about.code,
        config=about and about.config,
        shape=facts.graph,
        reused=facts.resumed.summary,
    )
    if facts.elapsed is not None and facts.workers is not None:
        case = Case(facts.backend, facts.backend, facts.workers, (facts.elapsed,), (folder / TRACE,))
        found = _with(found, cases=(case,))
    failure = document(folder / FAILURE)
    return found if failure is None else _failed(found, failure)


# ---------------------------------------------------------------------------------------------------------------------
# With a report: comparisons, and runs of earlier versions
# ---------------------------------------------------------------------------------------------------------------------


def _reported(start: RunFolder) -> RunFolder | None:
    content = document(start.folder / REPORT)
    if content is None:
        return None
    if isinstance(content, dict) and "kind" not in content and "start_up" in content:
        raise Unreadable(f"it is a single measured run of the comparison {start.folder.parent}")
    return _of(content, REPORT, start)


def _old_comparison(start: RunFolder) -> RunFolder | None:
    content = document(start.folder / "comparison.json")
    if content is None:
        return None
    return _with(_of(content, "comparison.json", start), missing=(REPORT,))


def _of(document: Any, name: str, start: RunFolder) -> RunFolder:
    """Return the folder with the content of a report; fields that an old report lacks are None."""
    try:
        report = parse(upgraded(document))
    except DataError as error:
        raise Unreadable(f"{name}: {' '.join(str(error).splitlines()[:2])}") from None
    recorded = {key: getattr(report, key) for key in ("environment", "inputs", "code", "config")
                if document.get(key) is not None}  # fmt: skip
    return _with(
        start,
        kind=report.kind,
        exit_code=report.exit_code,
        problem=printable(report.problem),
        cases=tuple(_case(report, number, start.folder) for number in range(len(report.rows))),
        n_tasks=report.n_tasks,
        fingerprint=report.fingerprint,
        shape=document.get("graph"),
        missing=() if {"environment", "inputs", "code"} <= recorded.keys() else ("where its numbers came from",),
        **recorded,
    )


def _case(report: Report, number: int, folder: Path) -> Case:
    row = report.rows[number]
    if report.kind == "run":
        seconds = row.elapsed.value if row.elapsed else None
        if seconds is not None and not 0 <= seconds <= 1e10:
            raise Unreadable(f"{REPORT}: rows[{number}].elapsed.value: got {seconds:g}; it must be >= 0")
        elapsed = () if seconds is None else (seconds,)
        return Case(row.label, row.backend, row.workers, elapsed, (folder / "trace.parquet",))
    own = sorted((m for m in report.measurements if m.case == row.label), key=lambda m: m.round)
    traces = tuple(folder / Path(m.trace).parent.name / Path(m.trace).name for m in own if _is_inner(m.trace))
    return Case(row.label, row.backend, row.workers, () if row.failure else tuple(m.elapsed for m in own), traces)


def _is_inner(trace: str) -> bool:
    """Return whether a path ends like that of a trace in a run folder, wherever the folder is now."""
    parts = Path(trace).parts[-2:]
    return len(parts) == 2 and ".." not in parts and "\0" not in trace and parts[1] == "trace.parquet"


# ---------------------------------------------------------------------------------------------------------------------
# Without: comparisons that failed, and runs of earlier versions
# ---------------------------------------------------------------------------------------------------------------------


def _run(start: RunFolder) -> RunFolder | None:
    """Read a run or comparison that failed, a run that did not end, or one from before there were reports."""
    config, failure = document(start.folder / "config.json"), document(start.folder / FAILURE)
    trace, manifest = start.folder / TRACE, document(start.folder / "manifest.json")
    if config is None and failure is None and not trace.is_file():
        return None
    found = _with(start, kind="run", missing=(REPORT,))
    if failure is not None:
        return _failed(found, failure)
    if not trace.is_file():
        return _with(found, problem=NOT_ENDED)
    case, n_tasks = _head(trace)
    outputs = manifest.get("outputs") if isinstance(manifest, dict) else None
    graphs = [o["graph"] for o in outputs or () if isinstance(o, dict) and isinstance(o.get("graph"), str)]
    return _with(found, exit_code=0, cases=(case,), n_tasks=n_tasks, fingerprint=next(iter(graphs), ""))


def _failed(found: RunFolder, failure: Any) -> RunFolder:
    """Return the folder with the content of its ``failure.json``."""
    code = failure.get("exit_code") if isinstance(failure, dict) else None
    if type(code) is not int:
        raise Unreadable(f"{FAILURE} was not written by pipeline: it has no exit code")
    kind = "comparison" if failure.get("kind") == "comparison" else "run"
    problem = printable(str(failure.get("message", "")).split("\n")[0]) or str(failure.get("type", ""))
    return _with(found, kind=kind, exit_code=code, problem=problem)


def _head(trace: Path) -> tuple[Case, int]:
    """Return the back end and times in the metadata of a trace, and its number of tasks."""
    try:
        file = pq.read_metadata(trace)
        head = json.loads((file.metadata or {}).get(b"pipeline", b"null"))
        backend, workers, elapsed = head["backend"], head["n_workers"], float(head["elapsed"])
        if not isinstance(backend, str) or type(workers) is not int or not 0 <= elapsed < float("inf"):
            raise ValueError("it has no back end, workers and elapsed time")
    except BROKEN as error:
        raise Unreadable(f"trace.parquet can't be read: {_first_line(error)}") from error
    return Case(backend, backend, workers, (elapsed,), (trace,)), int(file.num_rows)


def _begun_comparison(start: RunFolder) -> RunFolder | None:
    if not (start.folder / "graph").is_file():
        return None
    return _with(start, kind="comparison", problem=NOT_ENDED, missing=(REPORT,))


def _strange(folder: Path) -> str:
    if not folder.is_dir():
        return "it is not a folder"
    if (folder / "spec.json").is_file():
        return f"it is a single measured run of the comparison {folder.parent}"
    return f"it is not a run folder: it has none of {', '.join(MARKS)}"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).split("\n")[0][:200]
