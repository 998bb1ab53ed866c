"""Measure one graph on several back ends in turns, and compare their results with serial's.

The Graph is built once and saved. Each measured run is a fresh process that commits to its own folder below the run
folder. Each round runs every back end once, in an order that rotates, so that a slow minute of the machine slows down
all of them. The outputs of a run are compared with those of serial's first run and deleted; the outputs of the file
are not written.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends.local.child_processes import count_cores
from pipeline.backends.options import keeps_resources, parse, refuse_resources, with_options
from pipeline.backends.registry import BACKENDS, COMPARED, base_name, create, is_remote
from pipeline.builder.build import build
from pipeline.errors import BackendError, ConfigError
from pipeline.experiments.comparison.claims import check_labels, judged
from pipeline.experiments.comparison.loss_accounts import explained
from pipeline.experiments.comparison.result import Case, Comparison
from pipeline.experiments.comparison.rounds import OUTPUTS, REFERENCE, Rounds, Tell
from pipeline.experiments.comparison.rows import compared
from pipeline.experiments.comparison.trial import with_trial
from pipeline.runs.facts import noted_failure, trace_without_secrets
from pipeline.runs.folders import TRACE, new_folder
from pipeline.runs.protected_inputs import refuse_collisions
from pipeline.trace.trace import Trace
from pipeline.worker.atomic_write import write_errors

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph


__all__ = ["Comparison", "ComparisonInterrupted", "compare", "compare_graph"]

REPEAT = 3
TRY_SECONDS = 60.0
"""Seconds that the round of the first recommendation may take by default."""

_ELSEWHERE = frozenset({"dask", "manager"})  # back ends that refuse objects which are shared on one machine
_SHARED = re.compile(rb"^\s*(import|from) pipeline\.shared\b|^\s*from pipeline import\b.*\bshared\b", re.MULTILINE)


class ComparisonInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM while back ends were measured; ``comparison`` has what was measured until then."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.comparison = comparison


def compare(
    config: Config,
    *,
    backends: Sequence[str] | None = None,
    workers: int | None = None,
    scale: Sequence[int] | None = None,
    cluster: str | None = None,
    repeat: int | None = None,
    budget: float | None = None,
    runs: str | Path = "runs",
    allow_effects: bool = False,
    try_seconds: float = TRY_SECONDS,
    tell: Tell | None = None,
) -> Comparison:
    """Run a pipeline on several back ends and compare speed and results.

    Parameters
    ----------
    backends : names, with options or without (``pool[chunksize=4]``); serial is the reference and always runs.
        ``all``: every one that the file can use. Default: the file's ``compare``, else
        :data:`pipeline.backends.registry.COMPARED`
    workers : of each back end but serial; default: ``cluster: {workers}`` of the file, else as many as cores
    scale : several numbers of workers, instead of ``workers``: each back end is measured with each
    cluster : address of a running Dask scheduler, measured as one more back end, with the workers that it has
    repeat : rounds; default: the file's ``compare``, else 3
    budget : seconds; fewer rounds are made if they would take longer, at least one
    runs : folder of the run folders; nothing is written elsewhere
    allow_effects : run steps marked ``pure: false``; their effects take place once for each back end and round
    try_seconds : the first recommendation is tried in one more round, if it is a setting and a round takes no longer;
        0: nothing is tried
    tell : called with lines of text about the progress

    Raises
    ------
    ConfigError : if a back end is unknown, or a step has effects outside and ``allow_effects`` is not given
    PipelineError : whatever serial raises; other back ends that fail are rows of the comparison
    ComparisonInterrupted : by Ctrl-C, when serial and another back end were measured
    """
    impure = [name for name, step in config.steps.items() if not step.pure]
    if impure and not allow_effects:
        raise ConfigError(
            f"{', '.join(impure)}: effects outside (pure: false) would take place once a back end and round; "
            "to compare nevertheless: --allow-effects"
        )
    asked = list(backends if backends is not None else config.compare.get("backends") or ())
    more = [f"dask[address={cluster}]"] if cluster else []
    names = _usable(chosen([*(asked or COMPARED), *more]), [*asked, *more], config, tell or _silent)
    graph = build(config)
    names = _on_this_machine(names, [*asked, *more], graph.modules, tell or _silent)
    refuse_collisions(config, graph, Path(runs, config.name, "new", OUTPUTS))
    return compare_graph(
        graph,
        folder=new_folder(Path(runs), config.name),
        backends=names,
        workers=scale or workers or n_workers(config),
        repeat=repeat or int(config.compare.get("repeat", REPEAT)),
        budget=budget,
        call=str((config.compare.get("reference") or {}).get("call", "")),
        params=config.params,
        about=config,
        cluster=config.cluster,
        storage=config.storage,
        try_seconds=try_seconds,
        tell=tell,
    )


def compare_graph(
    graph: Graph,
    *,
    folder: Path,
    backends: Sequence[str] | None = None,
    workers: int | Sequence[int],
    repeat: int = REPEAT,
    budget: float | None = None,
    call: str = "",
    params: Mapping[str, Any] | None = None,
    about: Config | None = None,
    cluster: Mapping[str, Any] | None = None,
    storage: Mapping[str, Any] | None = None,
    try_seconds: float = TRY_SECONDS,
    tell: Tell | None = None,
) -> Comparison:
    """Run a Graph on several back ends and compare speed and results.

    Parameters
    ----------
    folder : the run folder; made if it does not exist
    workers : of each back end but serial; several numbers: each is measured
    call, params : the single-threaded reference ``module:function`` and its keywords; empty: none
    about : the Config of the Graph, for the report and for masking secrets
    cluster : that section of a file, with options of the back ends
    """
    cases = _cases(chosen(backends), workers)
    claims = about.compare.get("claims", ()) if about is not None else ()
    check_labels(claims, [case.label for case in cases])
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    with noted_failure(folder, "comparison", about), _tidied(folder, about):
        with write_errors(folder / "graph"):
            graph.save(folder / "graph")
        rounds = Rounds(
            graph=graph,
            folder=folder,
            cases=cases,
            cluster=cluster or {},
            storage=storage or {},
            tell=tell or _silent,
            call=call,
            params=params or {},
            inputs=about.root if about is not None else "",
        )
        named = ", ".join(case.label for case in rounds.cases)
        rounds.tell(f"{graph.name}: graph {graph.fingerprint}, {len(graph):,} tasks; {named}")
        interrupt: KeyboardInterrupt | None = None
        try:
            left = rounds.run(repeat, budget)
        except KeyboardInterrupt as error:
            if not rounds.keep_complete():
                raise
            interrupt, left = error, 0.0
        result = compared(
            rounds.measurements,
            cases=rounds.cases,
            differences=rounds.differences,
            failures=rounds.failures,
            name=graph.name,
            fingerprint=graph.fingerprint,
            n_tasks=len(graph),
            folder=str(folder),
        )
        failures = {label: reason for label, (reason, _) in rounds.failures.items()}
        result = replace(result, claims=judged(claims, rounds.measurements, failures))
        result = explained(result, graph, rounds.calls, about)
        try:
            result = with_trial(result, graph, rounds.extra, min(try_seconds, left))
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is None:
        return result
    code, name = getattr(interrupt, "exit_code", 130), getattr(interrupt, "name", "Ctrl-C")
    raise ComparisonInterrupted(replace(result, interrupted=code, interrupted_by=name)) from interrupt


@contextlib.contextmanager
def _tidied(folder: Path, about: Config | None) -> Iterator[None]:
    """Delete outputs and pickled values from the run folder at the end, and mask secrets, also after an error."""
    try:
        yield
    finally:
        shutil.rmtree(folder / OUTPUTS, ignore_errors=True)
        for pickled in ("values", "error"):
            for file in folder.glob(f"*/{pickled}.pickle"):
                file.unlink()
        if about is not None and about.secrets:
            (folder / "graph").unlink(missing_ok=True)  # secrets are among the arguments of its tasks
            _mask(folder, about)


def _mask(folder: Path, about: Config) -> None:
    """Mask the file's secrets in the logs, reports and Traces of the measured runs."""
    for log in folder.glob("*/log.txt"):
        log.write_text(about.masked(log.read_text(errors="replace")))
    for report in folder.glob("*/report.json"):
        report.write_text(json.dumps(about.masked(json.loads(report.read_text())), indent=1))
    for trace in folder.glob(f"*/{TRACE}"):
        trace_without_secrets(Trace.load(trace), about).save(trace)


def chosen(backends: Sequence[str] | None) -> tuple[str, ...]:
    """Return the back ends to compare, the reference first; ``all`` means every one.

    Raises
    ------
    ConfigError : if one is unknown
    """
    names = list(dict.fromkeys(n for text in backends or COMPARED for n in (BACKENDS if text == "all" else [text])))
    for name in names:
        parse(name)
    return (REFERENCE, *(name for name in names if name != REFERENCE))


def n_workers(config: Config) -> int:
    """Return the number of workers that a file asks for, else the number of cores."""
    asked = config.cluster.get("workers")
    return asked if isinstance(asked, int) else count_cores()


def _usable(names: Sequence[str], asked: Sequence[str], config: Config, tell: Tell) -> tuple[str, ...]:
    """Return the back ends without those that nobody asked for by name and that the file can't use.

    Raises
    ------
    ConfigError : if one that was asked for by name does not keep to the resources of steps
    """
    found = []
    for name in names:
        if name in asked:
            refuse_resources(name, config)
        elif not keeps_resources(name, config):
            tell(f"{name} is left out: it does not keep to the resources of steps")
            continue
        try:
            if "all" in asked and name not in asked:
                base, options = with_options(name, config.cluster)
                create(base, **options)
        except (BackendError, ConfigError) as error:
            tell(f"{name} is left out: {error}")
        else:
            found.append(name)
    return tuple(found)


def _on_this_machine(
    names: Sequence[str], asked: Sequence[str], modules: Mapping[str, bytes], tell: Tell
) -> tuple[str, ...]:
    """Return the back ends without those that nobody asked for by name and that can't have ``pipeline.shared``."""
    using = next((name for name, source in modules.items() if name.endswith(".py") and _SHARED.search(source)), None)
    if using is None:
        return tuple(names)
    left_out = {name for name in names if base_name(name) in _ELSEWHERE and name not in asked}
    for name in sorted(left_out):
        tell(f"{name} is left out: {using} uses pipeline.shared, and its workers may be on several machines")
    return tuple(name for name in names if name not in left_out)


def _cases(backends: Sequence[str], workers: int | Sequence[int]) -> list[Case]:
    """Return the cases: serial, then each back end with each number of workers; a running cluster has its own."""
    counts = [workers] if isinstance(workers, int) else sorted(set(workers))
    if not counts or any(type(n) is not int or n < 1 for n in counts):
        raise ConfigError(f"scale: got {workers!r}; numbers of workers are whole numbers >= 1: 1,2,4")
    scaled = len(counts) > 1
    found = [Case(REFERENCE, 1)]
    for name in backends:
        if is_remote(name):
            found.append(Case(name, 0))
        elif name != REFERENCE:
            found += [Case(name, n, scaled) for n in counts]
    return found


def _silent(message: str) -> None:
    """Report no progress."""
