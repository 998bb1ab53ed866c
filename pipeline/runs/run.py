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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.backends import registry
from pipeline.backends.base import Backend, Outcome
from pipeline.backends.events import Event, Listener, Note, Resumed, TasksDone, show_output
from pipeline.backends.options import parse, refuse_resources, with_options
from pipeline.backends.shared_folder import shared_folder
from pipeline.builder.build import build
from pipeline.builder.plan import unused_steps
from pipeline.config.from_python import StepReference
from pipeline.config.model import Config
from pipeline.config.targets import parse_target
from pipeline.errors import CheckError, ConfigError, OutputError, PipelineError, WriteError
from pipeline.graph.garbage_collection import passed_over
from pipeline.graph.graph import Graph, Key
from pipeline.ops.metadata_progress import reported
from pipeline.outputs.appending import with_earlier
from pipeline.outputs.commit import OutputTransaction
from pipeline.outputs.manifest import Manifest, stale_files
from pipeline.runs.check_results import CheckResult, evaluate
from pipeline.runs.facts import Facts, hide_secrets, noted_failure
from pipeline.runs.folders import TASK_LOG, TaskLog, new_folder
from pipeline.runs.partial import Partial, find_missing
from pipeline.runs.protected_inputs import check_outputs, refuse_collisions
from pipeline.runs.provenance.machine import versions
from pipeline.runs.resume.plan import ResumePlan
from pipeline.runs.resume.planner import plan_run
from pipeline.runs.resume.unfinished import ITEMS, UnfinishedRuns
from pipeline.runs.resume.value_stores import (
    closing_notes,
    evict,
    has_log,
    in_use,
    stores_of,
    with_cache,
    with_whole_entries,
)
from pipeline.runs.resume.wishes import Wishes
from pipeline.runs.run_result import Run as Run
from pipeline.runs.wall_time import WallTime
from pipeline.trace.trace import Trace
from pipeline.units import count_text, unused_text
from pipeline.worker.atomic_write import write_json
from pipeline.worker.client_entries import kept_by_client
from pipeline.worker.temp_folders import remove_spilled

__all__ = ["Run", "masked", "opened", "run", "tell_warnings"]


def run(
    config: Config,
    *,
    backend: str = "dask",
    workers: int | None = None,
    cluster: str | None = None,
    out: str | os.PathLike[str] = ".",
    runs: str | os.PathLike[str] = "runs",
    keep: Sequence[str | StepReference] = (),
    options: Mapping[str, Any] | None = None,
    force: bool | str | Sequence[str] = False,
    only: str | Sequence[str] = (),
    from_: str | Sequence[str] = (),
    accept: str | Sequence[str] = (),
    verify: bool = False,
    cache: str | os.PathLike[str] | None = None,
    listener: Listener | None = None,
    wall_time: WallTime | None = None,
    keep_going: bool = False,
) -> Run:
    """Build, run, check and commit a pipeline; outputs and checks of which nothing has changed are not made again.

    Parameters
    ----------
    backend : a name of :data:`pipeline.backends.registry.BACKENDS`, with options or without: ``pool[chunksize=4]``
    workers : number of workers; None: ``cluster: {workers}`` of the file, else as many as cores
    cluster : address of a running Dask scheduler
    out : the folder that output paths are relative to; every output must be below it
    runs : the folder in which the run folder ``NAME/TIME`` (UTC) is made
    keep : steps, or instances of them, whose values the run returns as well as those that ``keep`` of the file names
    options : name -> value of options of the back end, besides those in ``backend`` and in the file's ``cluster``
    force : True: run all of it, whatever has changed; the name of a step, or several: run these anew
    only : the name of a step, or several: write only their outputs, and run what these need; the value of one that has
        no output is returned
    from_ : the name of a step, or several, which run anew with all that depends on them
    accept : ``COMPONENT:STEP``, or several: changes that are taken as harmless; see
        :data:`pipeline.runs.resume.records.COMPONENTS`
    verify : whether files of earlier outputs are compared by their hashes, too, before they are reused
    cache : the folder where values of all steps are kept for later runs; None: that of the file, if it has one
    listener : called in this process with each event; if it has a method ``begin``, that gets what is to be run first.
        None: lines that tasks print are shown. They are also kept in ``tasks.log`` of the run folder
    wall_time : the clock of the whole call, if that began before this
    keep_going : whether, after a task has failed finally, what does not need it is computed nevertheless; the outputs
        that are complete are committed, the others stay as they were. See :attr:`Run.partial`

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
    wall_time = wall_time or WallTime()
    wall_time.mark("loading")
    began = time.time()
    parse(backend)
    refuse_resources(backend, config)
    wishes = Wishes.of(force=force, only=only, from_=from_, accept=accept, verify=verify)
    wishes.require_steps(config)
    config = with_cache(_keeping(config, keep), cache)
    with reported(listener):
        graph = build(config)
    check_outputs(config, graph, out)
    stores = stores_of(config, runs, prepare=True)
    folder = new_folder(Path(runs), config.name)
    facts = Facts(folder, config, graph, backend=backend, workers=workers)
    name = f"{folder.name}-{secrets.token_hex(4)}"  # unlike that of any other run
    outcome: Outcome | None = None
    begun: ResumePlan | None = None
    transaction = OutputTransaction(
        graph.sinks,
        out,
        run=name,
        storage=config.storage,
        protect=lambda: refuse_collisions(config, graph, out),
    )
    with noted_failure(folder, "run", config):
        facts.begin()
        try:
            with (
                TaskLog(folder / TASK_LOG) as log,
                in_use(stores),
                UnfinishedRuns(folder, wanted=has_log(config), staging=transaction.staging) as unfinished,
                transaction,
            ):
                log_of_items = unfinished.log if stores.cache is None else None
                stores = replace(stores, log=log_of_items, earlier=unfinished.earlier, parts=unfinished.parts)
                begin = getattr(listener, "begin", None) or (lambda graph: None)
                tell_warnings(graph, config, listener)
                listener = masked(log.beside(listener or show_output), config)
                if unused := unused_steps(config):
                    listener(Note(unused_text(unused)))

                def compute(plan: ResumePlan) -> Outcome:
                    """Run what is planned; when this returns no task runs any more."""
                    nonlocal begun
                    begun = plan
                    transaction.leave_out(plan.settled)
                    if unfinished.parts is not None:
                        unfinished.parts.remove_others(plan.values.part_keys)
                    facts.planned(plan.graph, plan.to_dict())
                    begin(plan.graph)
                    if plan.summary:
                        listener(Resumed(plan.summary, plan.to_dict()))
                    wall_time.mark("planning")
                    wall_time.move(graph.metadata.seconds, source="planning", target="metadata")
                    how = backend, workers, cluster, listener, options or {}
                    folders = stores.folders if plan.values.nodes else ()
                    more: dict[str, Any] = {"wall_time": wall_time, "keep_going": keep_going, "folders": folders}
                    try:
                        return _computed(config, plan.graph, transaction, *how, **more)
                    finally:
                        remove_spilled()  # by workers that were killed

                planned = partial(plan_run, config, graph, transaction.root, wishes)
                plan, outcome = with_whole_entries(planned, stores, compute)
                wall_time.mark("after")
                asked, known = plan.asked(config)
                open_ = tuple(check for i, check in enumerate(asked.checks) if i not in known)
                missing = find_missing(replace(config, checks=open_), plan.graph, outcome)
                checks = _checked(asked, graph, outcome.results, folder, missing, known)
                wall_time.mark("checks")
                transaction.leave_out(missing.outputs)
                verify_began = time.perf_counter()
                records = transaction.verify(outcome.results)
                verify_seconds = time.perf_counter() - verify_began
                wall_time.mark("running")
                changed, affected = plan.affected(config)
                incomplete = plan.incomplete(config, changed, affected, outcome.dropped)
                plan.forget(affected)
                keys = {name: key for name, key in plan.append.items() if name in records}
                made = _manifests(config, graph, plan, records, checks, incomplete, run=name)
                manifests, unchanged = with_earlier(made, keys, transaction.root)
                _require_open_names(config, manifests)
                equal = plan.equal_after(manifests)
                transaction.leave_out(equal)
                anew = {**plan.recorded_anew(config, checks, incomplete), **equal}
                written = {name: manifest for name, manifest in manifests.items() if name not in equal}
                stale = {name: stale_files(transaction.root, manifest) for name, manifest in written.items()}
                contents = {name: manifest.to_bytes() for name, manifest in {**written, **anew}.items()}
                transaction.commit(contents, stale, unchanged=unchanged)
                wall_time.mark("commit")  # from here on an interrupt does not undo it
                there = {**plan.reused, **written, **anew}  # with keep_going, some outputs are in none of them
                manifests = {sink.name: there[sink.name] for sink in graph.sinks if sink.name in there}
                if not missing and not outcome.dropped:
                    unfinished.remove()
                wall_time.mark("commit")
        except BaseException as error:
            hide_secrets(error, config)
            if begun is not None and (gone := begun.affected(config)[1]):
                begun.forget(gone)
                unfinished.remove()
            if isinstance(error, PipelineError):
                error.run_folder = folder
                facts.fail(outcome.trace if outcome is not None else None)
            elif isinstance(error, KeyboardInterrupt) and (folder / ITEMS).is_dir():
                error.add_note("What has finished is kept for the next run.")
            raise
        evict(stores, config, since=began)
        commit = wall_time.parts["commit"]
        notes = {**outcome.trace.notes, "commit": commit, "verify": verify_seconds, "graph": graph.fingerprint}
        trace = replace(outcome.trace, elapsed=outcome.trace.elapsed + verify_seconds, notes=notes)
        try:
            more = {"partial": True, "missing": list(missing.outputs)} if missing else {}
            committed = [manifest.to_dict() for manifest in manifests.values()]
            write_json(folder / "manifest.json", {"outputs": committed, **more})
            facts.end(trace, wall_time=wall_time, n_dropped=len(outcome.dropped), partial=missing)
        except WriteError as error:
            raise WriteError(f"{error}. The outputs are committed, but the run folder is not complete") from error
    for key in sorted({*unchanged, *(sink.name for sink in graph.sinks if sink.append and sink.name in plan.reused)}):
        earlier = next((each.run for each in manifests[key].appended if each.key == plan.append[key]), None)
        if earlier is not None:
            listener(Note(f"{key}: nothing is appended, since the run {earlier} has appended the same"))
    for note in closing_notes(config, plan, trace, changed, affected):
        listener(Note(note))
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
        partial=missing,
        times=wall_time.parts,
        resumed=config.masked(plan.to_dict()),
        notes=outcome.notes,
        config=config,
    )


def _keeping(config: Config, keep: Sequence[str | StepReference]) -> Config:
    """Return the Config that keeps the values of these steps, too.

    Raises
    ------
    ConfigError : if one of them is no step or instance of one
    """
    if isinstance(keep, str):
        raise ConfigError(f"keep: got {keep!r}; write a list of steps: keep=[{keep!r}]")
    kept = list(config.keep)
    for name in map(str, keep):
        instances = [step.name for step in config.all_steps.values() if step.step == name]
        if instances:
            kept += instances
            continue
        target = parse_target(config, name)
        reference = target.reference
        if reference.part or reference.picks or target.picks_items:
            raise ConfigError(f"keep: got {name!r}; it names whole steps, or instances: {reference.step}")
        kept += reference.instances
    return replace(config, keep=tuple(dict.fromkeys(kept))).used() if keep else config


def _manifests(
    config: Config,
    graph: Graph,
    plan: ResumePlan,
    records: Mapping[str, Any],
    checks: Sequence[CheckResult],
    incomplete: Mapping[str, str],
    *,
    run: str,
) -> dict[str, Manifest]:
    """Return the manifest of each output that was written.

    Parameters
    ----------
    incomplete : step instance -> why nothing that depends on it may be reused later
    """
    about = {
        "run": run,
        "graph": graph.fingerprint,
        "config": hashlib.sha256(config.text.encode()).hexdigest(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "pipeline": versions()["pipeline"],
    }
    manifests = {}
    for sink, output in ((s, o) for s, o in zip(graph.sinks, config.outputs, strict=True) if s.name in records):
        record = plan.record(output, config, checks, incomplete)
        why = next((incomplete[name] for name in output.input.instances if name in incomplete), "")
        if why:
            record = {"incomplete": why, "steps": record["steps"]}
        made: dict[str, Any] = {"key": "" if why else plan.keys.outputs[sink.name].key, "record": record}
        manifests[sink.name] = Manifest.of(sink, records[sink.name], **about, **made)
    return manifests


def _computed(
    config: Config,
    graph: Graph,
    transaction: OutputTransaction,
    backend: str,
    workers: int | None,
    cluster: str | None,
    listener: Listener,
    options: Mapping[str, Any],
    *,
    wall_time: WallTime,
    keep_going: bool,
    folders: Iterable[str],
) -> Outcome:
    """Return what the back end returns. When this returns no task runs any more; without a task none is started.

    Parameters
    ----------
    folders : where values of tasks are kept; if a worker does not see one, as this user, this process keeps them
    """
    if not graph.tasks:
        return Outcome({}, Trace.from_records([], elapsed=0.0, backend=parse(backend)[0], n_workers=0), ())
    with opened(config, graph, backend, workers=workers, cluster=cluster, **options) as entered:
        pages = getattr(entered, "pages", {})
        if pages:
            listener(Note(", ".join(f"{name}: {url}" for name, url in pages.items())))
        if not all(shared_folder(entered, folder) for folder in folders):
            graph = kept_by_client(graph)
        with passed_over():
            outcome = entered.run(graph, context=transaction.context, listener=listener, keep_going=keep_going)
        # start-up includes what was done before the first submit: fusing, and waiting for workers
        wall_time.mark("start-up")
        wall_time.move(outcome.trace.elapsed, source="start-up", target="running")
        return outcome


def opened(
    config: Config,
    graph: Graph,
    backend: str,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    **options: Any,
) -> Backend:
    """Return the back end with the options of the file and of the caller; the caller enters it.

    It has no more workers than the graph has tasks: more would be started for nothing.
    """
    name, given = with_options(backend, config.cluster)
    arguments: dict[str, Any] = {"workers": workers, "modules": dict(graph.modules), **given, **options}
    if name == "dask":
        arguments |= {"masked": config.masked, **({"address": cluster} if cluster is not None else {})}
    elif workers is None and isinstance(config.cluster.get("workers"), int):
        arguments["workers"] = config.cluster["workers"]
    if isinstance(arguments["workers"], int):
        arguments["workers"] = min(arguments["workers"], max(1, len(graph.tasks)))
    return registry.create(name, **arguments)


def masked(listener: Listener, config: Config) -> Listener:
    """Return a listener that passes events on with their secrets masked."""

    def listen(event: Event) -> None:
        shown = {
            name: config.masked(text) for name, text in vars(event).items() if name in ("message", "item", "answers")
        }
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


def _checked(
    config: Config,
    graph: Graph,
    results: Mapping[Key, Any],
    folder: Path,
    missing: Partial,
    known: Mapping[int, CheckResult],
) -> tuple[CheckResult, ...]:
    reasons = {text: missing.reason(text) for text in missing.checks}
    checks = evaluate(config, graph, results, missing=reasons, passed=known)
    if checks:
        write_json(folder / "checks.json", config.masked([check.to_dict() for check in checks]))
    failed = [check for check in checks if check.evaluated and not check.ok]
    if failed:
        lines = "\n".join([*(f"{step.name}: {step.tasks[0].cause}" for step in missing.failed), *map(str, failed)])
        raise CheckError(f"{lines}\n{len(failed)} of {count_text(len(checks), 'check')} failed; nothing was committed")
    return checks


def _kept(graph: Graph, results: Mapping[Key, Any]) -> dict[Key, Any]:
    """Return the results without the records of writer tasks, which are in the manifests."""
    records = {key for sink in graph.sinks for key in sink.records}
    return {key: value for key, value in results.items() if key not in records}
