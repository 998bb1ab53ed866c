"""One run, from a Config to committed outputs: the place where all parts are put together.

::

    build -> lock the outputs -> back end writes to staging -> checks -> verify -> commit -> run folder

A run that fails anywhere commits nothing. Its run folder stays, and records why it failed.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from pipeline.backends import registry
from pipeline.backends.base import Backend, Outcome
from pipeline.backends.events import Event, Listener, Note, TasksDone, show_output
from pipeline.builder.build import build
from pipeline.config.expressions.references import parse_reference
from pipeline.config.from_python import StepReference
from pipeline.config.model import Config
from pipeline.errors import CheckError, ConfigError, OutputError, PipelineError, WriteError
from pipeline.graph.collect import collect
from pipeline.graph.garbage_collection import passed_over
from pipeline.graph.graph import Graph, Key
from pipeline.graph.value_types import PartsType, ValueType
from pipeline.outputs.commit import OutputTransaction
from pipeline.outputs.damage import refuse_damaged
from pipeline.outputs.manifest import Manifest, stale_files
from pipeline.outputs.open import open_output
from pipeline.runs import run_report
from pipeline.runs.check_results import CheckResult, evaluate
from pipeline.runs.facts import Facts, hide_secrets, noted_failure, write_json
from pipeline.runs.folders import TASK_LOG, TaskLog, new_folder
from pipeline.runs.protected_inputs import check_outputs, refuse_collisions
from pipeline.runs.provenance.machine import versions
from pipeline.trace.trace import Trace
from pipeline.units import count_text, duration_text

__all__ = ["Run", "masked", "opened", "run", "tell_warnings"]


@dataclass(frozen=True, eq=False)
class Run:
    """A run that ended well: its results, and what happened.

    ``run["step"]`` opens the step's committed output lazily if it has one, else returns its value if that was kept. The
    name may also be a reference that :meth:`pipeline.Pipeline.step` returned. ``"step" in run`` and ``list(run)`` show
    which values there are.

    Parameters
    ----------
    name : of the pipeline
    folder : the run folder
    root : the folder that output paths are relative to
    results : key -> value of the results that were kept
    outputs : name -> manifest
    checks : all of them passed
    dropped : step instance, item and cause of each item that failed under ``on_error: drop``
    start_up : seconds until the first task could be submitted
    commit : seconds for verifying and committing the outputs
    notes : other measurements of the back end
    draw : function that makes the report of a run folder and returns its path; here it writes ``report.json`` alone,
        ``pipeline.run`` sets one that makes the page, too
    """

    name: str
    backend: str
    folder: Path
    root: Path
    graph: Graph
    results: Mapping[Key, Any]
    trace: Trace
    outputs: Mapping[str, Manifest]
    checks: tuple[CheckResult, ...] = ()
    dropped: tuple[tuple[str, str, str], ...] = ()
    start_up: float = 0.0
    commit: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[Path], Path] = run_report.write

    @property
    def elapsed(self) -> float:
        """Seconds from the first submitted task until all outputs are verified, with warm workers."""
        return self.trace.elapsed

    def __getitem__(self, name: str | StepReference) -> Any:
        value_type = self._value_type(_instance(name))
        output = self._output(value_type)
        if output is not None:
            return self.open(output)
        if all(key in self.results for key in value_type.keys):
            return collect(value_type, self.results)
        raise KeyError(f"{_instance(name)!r} was not kept; give it an output, or run with keep: [{name}]")

    def __contains__(self, name: object) -> bool:
        try:
            value_type = self._value_type(_instance(name))
        except KeyError:
            return False
        return self._output(value_type) is not None or all(key in self.results for key in value_type.keys)

    def __iter__(self) -> Iterator[str]:
        return (instance for instance in self.graph.value_types if instance in self)

    def _output(self, value_type: ValueType) -> str | None:
        """Return the name of the output that holds the value; None if there is none."""
        return next((sink.name for sink in self.graph.sinks if _same_tasks(sink.value_type, value_type)), None)

    def open(self, output: str, *, hashes: bool = False) -> Any:
        """Open a committed output: arrays and Parquet lazily, other formats in memory.

        Parameters
        ----------
        hashes : whether its files are read and compared with the hashes of its manifest; their sizes always are

        Raises
        ------
        DataError : it is not as it was committed
        """
        for sink in self.graph.sinks:
            if sink.name == output:
                refuse_damaged(self.root, sink.path, hashes=hashes)
                return open_output(sink, self.root, files=[file.path for file in self.outputs[output].files])
        raise KeyError(f"there is no output {output!r}; there are {', '.join(self.outputs) or 'none'}")

    def report(self) -> Path:
        """Make ``report.json`` and ``report.html`` in the run folder, and return the path of the page."""
        return self.draw(self.folder)

    def _value_type(self, name: str) -> ValueType:
        value_types = self.graph.value_types
        if name in value_types:
            return value_types[name]
        instance, _, part = name.rpartition(".")
        owner = value_types.get(instance)
        if isinstance(owner, PartsType) and part in owner.parts:
            return owner.parts[part]
        instances = [other for other in value_types if other.partition("[")[0] == name.partition("[")[0]]
        raise KeyError(f"there is no step {name!r}; there are {', '.join(instances or value_types)}")

    def to_dict(self) -> dict[str, Any]:
        """Return a summary of the run as plain values."""
        outputs = [
            {
                "name": name,
                "format": manifest.format,
                "path": str(self.root / manifest.path),
                "files": len(manifest.files),
                "rows": manifest.rows,
                "bytes": manifest.nbytes,
            }
            for name, manifest in self.outputs.items()
        ]
        return {
            "name": self.name,
            "backend": self.backend,
            "workers": self.trace.n_workers,
            "tasks": len(self.graph),
            "graph": next((m.graph for m in self.outputs.values()), ""),
            "elapsed": self.elapsed,
            "start_up": self.start_up,
            "commit": self.commit,
            "folder": str(self.folder),
            "outputs": outputs,
            "checks": [check.to_dict() for check in self.checks],
            "dropped": [{"step": step, "item": item, "cause": cause} for step, item, cause in self.dropped],
        }

    def __repr__(self) -> str:
        texts = [
            count_text(len(self.outputs), "output"),
            f"{duration_text(self.elapsed)} on {count_text(self.trace.n_workers, 'worker')}",
        ]
        if self.checks:
            texts.insert(1, f"{count_text(len(self.checks), 'check')} passed")
        if self.dropped:
            texts.append(f"{count_text(len(self.dropped), 'item')} dropped")
        return f"<Run {self.name!r} on {self.backend}: {', '.join(texts)}; {self.folder}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(str(self.root / manifest.path))}</td>"
            f"<td>{len(manifest.files):,}</td><td>{manifest.nbytes:,}</td></tr>"
            for name, manifest in self.outputs.items()
        )
        head = "<tr><th>output</th><th>path</th><th>files</th><th>bytes</th></tr>"
        return f"<p>{escape(repr(self))}</p><table>{head}{rows}</table>"


def _instance(name: object) -> str:
    """Return the name of a step instance as the Graph has it: without the quotes that a reference may have."""
    if not isinstance(name, StepReference):
        return str(name)
    reference = parse_reference(str(name))
    picks = ",".join(str(replace(pick, quoted=False)) for pick in reference.picks)
    return f"{replace(reference, picks=())}[{picks}]" if picks else str(name)


def _same_tasks(one: ValueType, other: ValueType) -> bool:
    """Return whether two values are made by the same tasks; a value with parts is made by the tasks of its whole."""
    if isinstance(other, PartsType):
        return other.whole is not None and _same_tasks(one, other.whole)
    return one.kind == other.kind and getattr(one, "name", None) == other.name


# ---------------------------------------------------------------------------------------------------------------------
# The run
# ---------------------------------------------------------------------------------------------------------------------


def run(
    config: Config,
    *,
    backend: str = "dask",
    workers: int | None = None,
    cluster: str | None = None,
    out: str | os.PathLike[str] = ".",
    runs: str | os.PathLike[str] = "runs",
    listener: Listener | None = None,
    **options: Any,
) -> Run:
    """Build, run, check and commit a pipeline.

    Parameters
    ----------
    backend : a name in :data:`pipeline.backends.registry.BACKENDS`
    workers : number of workers; None: ``cluster: {workers}`` of the file, else as many as cores
    cluster : address of a running Dask scheduler
    out : the folder that output paths are relative to; every output must be below it
    runs : the folder in which the run folder ``NAME/TIME`` (UTC) is made
    listener : called in this process with each event; if it has a method ``begin``, that gets the Graph first. None:
        lines that tasks print are shown. They are also kept in ``tasks.log`` of the run folder
    options : of the back end

    Raises
    ------
    ConfigError : also for options that do not fit together
    PipelineError : the run failed; nothing was committed, and earlier outputs are unchanged
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # multiprocessing tests it like this
        raise ConfigError(
            "a starting worker process imports this script, which would run the pipeline again; call run only below: "
            'if __name__ == "__main__":'
        )
    if workers is not None and (type(workers) is not int or workers < 1):
        raise ConfigError(f"workers: got {workers!r}; write a whole number >= 1")
    registry.require_known(backend)
    graph = build(config)
    check_outputs(config, graph, out)
    begin = getattr(listener, "begin", None)
    if begin is not None:
        begin(graph)
    folder = new_folder(Path(runs), config.name)
    facts = Facts(folder, config, graph, backend=backend, workers=workers)
    name = f"{folder.name}-{secrets.token_hex(4)}"  # unlike that of any other run
    outcome: Outcome | None = None
    with noted_failure(folder, "run", config):
        facts.begin()
        try:
            with (
                TaskLog(folder / TASK_LOG) as log,
                OutputTransaction(
                    graph.sinks,
                    out,
                    run=name,
                    storage=config.storage,
                    protect=lambda: refuse_collisions(config, graph, out),
                ) as transaction,
            ):
                tell_warnings(graph, config, listener)
                listener = masked(log.beside(listener or show_output), config)
                outcome, start_up = _computed(config, graph, transaction, backend, workers, cluster, listener, options)
                checks = _checked(config, graph, outcome.results, folder)
                began = time.perf_counter()
                records = transaction.verify(outcome.results)
                verified = time.perf_counter()
                manifests = _manifests(config, graph, records, run=name)
                _require_open_names(config, manifests)
                stale = {key: stale_files(transaction.root, manifest) for key, manifest in manifests.items()}
                transaction.commit({key: manifest.to_bytes() for key, manifest in manifests.items()}, stale)
        except BaseException as error:
            hide_secrets(error, config)
            if isinstance(error, PipelineError):
                error.run_folder = folder
                facts.fail(outcome.trace if outcome is not None else None)
            raise
        commit = time.perf_counter() - began
        elapsed = outcome.trace.elapsed + verified - began
        notes = {**outcome.trace.notes, "commit": commit, "verify": verified - began, "graph": graph.fingerprint}
        trace = replace(outcome.trace, elapsed=elapsed, notes=notes)
        try:
            write_json(folder / "manifest.json", {"outputs": [manifest.to_dict() for manifest in manifests.values()]})
            facts.end(trace, start_up=start_up, commit=commit, n_dropped=len(outcome.dropped))
        except WriteError as error:
            raise WriteError(f"{error}. The outputs are committed, but the run folder is not complete") from error
    return Run(
        name=config.name,
        backend=backend,
        folder=folder,
        root=transaction.root,
        graph=graph,
        results=_kept(graph, outcome.results),
        trace=trace,
        outputs=manifests,
        checks=checks,
        dropped=tuple((step, config.masked(item), config.masked(cause)) for step, item, cause in outcome.dropped),
        start_up=start_up,
        commit=commit,
        notes=outcome.notes,
    )


def _manifests(config: Config, graph: Graph, records: Mapping[str, Any], *, run: str) -> dict[str, Manifest]:
    """Return the manifest of each output."""
    about = {
        "run": run,
        "graph": graph.fingerprint if graph.sinks else "",
        "config": hashlib.sha256(config.text.encode()).hexdigest(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "pipeline": versions()["pipeline"],
    }
    return {sink.name: Manifest.of(sink, records[sink.name], **about) for sink in graph.sinks}


def _computed(
    config: Config,
    graph: Graph,
    transaction: OutputTransaction,
    backend: str,
    workers: int | None,
    cluster: str | None,
    listener: Listener,
    options: Mapping[str, Any],
) -> tuple[Outcome, float]:
    """Return what the back end returns, and its start-up in seconds. When this returns no task runs any more."""
    began = time.perf_counter()
    with opened(config, graph, backend, workers=workers, cluster=cluster, **options) as entered:
        start_up = time.perf_counter() - began
        pages = getattr(entered, "pages", {})
        if pages:
            listener(Note(", ".join(f"{name}: {url}" for name, url in pages.items())))
        started = time.perf_counter()
        with passed_over():
            outcome = entered.run(graph, context=transaction.context, listener=listener)
        # start-up includes what was done before the first submit: fusing, and waiting for workers
        return outcome, start_up + time.perf_counter() - started - outcome.trace.elapsed


def opened(
    config: Config,
    graph: Graph,
    backend: str,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    **options: Any,
) -> Backend:
    """Return the back end with the options of the file and of the caller; the caller enters it."""
    arguments: dict[str, Any] = {"workers": workers, "modules": dict(graph.modules), **options}
    if backend == "dask":
        arguments |= {"address": cluster, "cluster": dict(config.cluster) or None, "masked": config.masked}
    elif workers is None and isinstance(config.cluster.get("workers"), int):
        arguments["workers"] = config.cluster["workers"]
    return registry.create(backend, **arguments)


def masked(listener: Listener, config: Config) -> Listener:
    """Return a listener that passes events on with their secrets masked."""

    def listen(event: Event) -> None:
        shown = {name: config.masked(text) for name, text in vars(event).items() if name in ("message", "item")}
        listener(event if isinstance(event, TasksDone) else replace(event, **shown))

    return listen


def tell_warnings(graph: Graph, config: Config, listener: Listener | None) -> None:
    """Tell the listener what the sources say about their data; without one they are warnings of Python."""
    for warning in map(config.masked, graph.warnings):
        if listener is None:
            warnings.warn(warning, stacklevel=3)
        else:
            listener(Note(f"warning: {warning}"))


def _require_open_names(config: Config, manifests: Mapping[str, Manifest]) -> None:
    """Check that no secret is part of the name of a file: an item that the run made may be one.

    Raises
    ------
    OutputError : naming the output
    """
    for name, manifest in manifests.items():
        shown = next((path for path in config.masked(manifest.paths()) if path not in manifest.paths()), None)
        if shown is not None and config.masked(manifest.path) == manifest.path:
            raise OutputError(
                f"output {name!r}: the name of the file {shown!r} contains a secret, which names can't; "
                "give the items other names, and the secret to the function in args"
            )


def _checked(config: Config, graph: Graph, results: Mapping[Key, Any], folder: Path) -> tuple[CheckResult, ...]:
    checks = evaluate(config, graph, results)
    if checks:
        write_json(folder / "checks.json", config.masked([check.to_dict() for check in checks]))
    failed = [check for check in checks if not check.ok]
    if failed:
        lines = "\n".join(str(check) for check in failed)
        raise CheckError(f"{lines}\n{len(failed)} of {count_text(len(checks), 'check')} failed; nothing was committed")
    return checks


def _kept(graph: Graph, results: Mapping[Key, Any]) -> dict[Key, Any]:
    """Return the results without the records of writer tasks, which are in the manifests."""
    records = {key for sink in graph.sinks for key in sink.records}
    return {key: value for key, value in results.items() if key not in records}
