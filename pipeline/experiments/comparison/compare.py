"""Measure one graph on several back ends in turns, and compare their results with serial's.

The Graph is built once and saved. Each measured run is a fresh process that commits to its own folder below the run
folder. Each round runs every back end once, in an order that rotates, so that a slow minute of the machine slows down
all of them. The outputs of a run are compared with those of serial's first run and deleted; the outputs of the file
are not written.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.backends.local.child_processes import count_cores
from pipeline.backends.registry import BACKENDS
from pipeline.builder.build import build
from pipeline.errors import Bug, ConfigError, PipelineError, WorkerLost
from pipeline.experiments.comparison.child_process import Child, measured
from pipeline.experiments.comparison.loss_accounts import Calls, explained
from pipeline.experiments.comparison.output_differences import differences, reference_differences
from pipeline.experiments.comparison.result import Case, Comparison, Difference, Measurement
from pipeline.experiments.comparison.rows import compared
from pipeline.experiments.comparison.trial import with_trial
from pipeline.runs.facts import noted_failure, trace_without_secrets
from pipeline.runs.folders import TRACE, new_folder
from pipeline.runs.protected_inputs import refuse_collisions
from pipeline.trace.trace import Trace
from pipeline.units import count_text, duration_text
from pipeline.worker.atomic_write import write_errors

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph


__all__ = ["Comparison", "compare", "compare_graph"]

REFERENCE = "serial"
REPEAT = 3
TRY_SECONDS = 60.0
"""Seconds that the round of the first recommendation may take by default."""
_OUTPUTS = "outputs"  # folder in the run folder
_REPORTED = ("elapsed", "start_up", "verify", "commit", "user", "system", "n_workers", "starved")

Tell = Callable[[str], None]
Named = TypeVar("Named")


def compare(
    config: Config,
    *,
    backends: Sequence[str] | None = None,
    workers: int | None = None,
    scale: Sequence[int] | None = None,
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
    backends : names; serial is the reference and always runs. Default: the file's ``compare``, else all
    workers : of each back end but serial; default: as many as cores
    scale : several numbers of workers, instead of ``workers``: each back end is measured with each
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
    """
    impure = [name for name, step in config.steps.items() if not step.pure]
    if impure and not allow_effects:
        raise ConfigError(
            f"{', '.join(impure)}: effects outside (pure: false) would take place once a back end and round; "
            "to compare nevertheless: --allow-effects"
        )
    names = chosen(backends if backends is not None else config.compare.get("backends"))
    graph = build(config)
    refuse_collisions(config, graph, Path(runs, config.name, "new", _OUTPUTS))
    return compare_graph(
        graph,
        folder=new_folder(Path(runs), config.name),
        backends=names,
        workers=scale or workers or count_cores(),
        repeat=repeat or int(config.compare.get("repeat", REPEAT)),
        budget=budget,
        call=str((config.compare.get("reference") or {}).get("call", "")),
        params=config.params,
        about=config,
        options={"dask": {"cluster": dict(config.cluster) or None, "dashboard": False}},  # no one looks at it
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
    options: Mapping[str, Mapping[str, Any]] | None = None,
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
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    with noted_failure(folder, "comparison", about), _tidied(folder, about):
        with write_errors(folder / "graph"):
            graph.save(folder / "graph")
        rounds = Rounds(
            graph=graph,
            folder=folder,
            cases=_cases(chosen(backends), workers),
            options=options or {},
            storage=storage or {},
            tell=tell or _silent,
            call=call,
            params=params or {},
            inputs=about.root if about is not None else "",
        )
        named = ", ".join(case.label for case in rounds.cases)
        rounds.tell(f"{graph.name}: graph {graph.fingerprint}, {len(graph):,} tasks; {named}")
        left = rounds.run(repeat, budget)
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
        result = explained(result, graph, rounds.calls, about)
        return with_trial(result, graph, rounds.extra, min(try_seconds, left))


@dataclass
class Rounds:
    """The rounds of one comparison. States: nothing measured -> first round done -> all rounds done.

    Parameters
    ----------
    options : back end -> its options
    call, params, inputs : the reference call, its keywords, and the folder that paths among them are relative to
    calls : results of the reference call
    differences : label of a case -> what was compared, over all rounds
    failures : label of a case -> why it did not run, and its exit code
    """

    graph: Graph
    folder: Path
    cases: Sequence[Case]
    options: Mapping[str, Mapping[str, Any]]
    storage: Mapping[str, Any]
    tell: Tell
    call: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: str = ""
    calls: Calls | None = None
    measurements: list[Measurement] = field(default_factory=list)
    differences: dict[str, list[Difference]] = field(default_factory=dict)
    failures: dict[str, tuple[str, int]] = field(default_factory=dict)

    def run(self, repeat: int, budget: float | None) -> float:
        """Make up to ``repeat`` rounds, fewer if the next one would exceed ``budget`` seconds; return what is left."""
        began = time.perf_counter()
        for number in range(repeat):
            start = time.perf_counter()
            for case in rotated(self.cases, number):
                if case.label not in self.failures:
                    self._one(case, number)
                if number == 0 and case.backend == REFERENCE:
                    self._estimate(time.perf_counter() - start, repeat, budget)
            if self.call:
                self._call(number)
            now = time.perf_counter()
            last, spent = now - start, now - began
            if budget is not None and number + 1 < repeat and spent + last > budget:
                self.tell(f"stopped after {number + 1} of {count_text(repeat, 'round')}: "
                          f"the next would take {duration_text(last)}, and {duration_text(spent)} of "
                          f"{duration_text(budget)} are gone")  # fmt: skip
                break
            if number == 0 and repeat > 1:
                self.tell(f"{count_text(repeat - 1, 'more round')} will take {duration_text(last * (repeat - 1))}")
        return math.inf if budget is None else max(0.0, budget - (time.perf_counter() - began))

    def _estimate(self, whole: float, repeat: int, budget: float | None) -> None:
        """Report how long it will take, from serial's first run: between perfect speedup everywhere and none at all."""
        elapsed = self.measurements[0].elapsed
        n = len(self.cases)
        perfect = sum(elapsed * (1 - 1 / case.workers) for case in self.cases)  # what perfect speedup would save
        least, most = repeat * (whole * n - perfect), repeat * whole * n
        took = dict.fromkeys((duration_text(least), duration_text(most)))
        self.tell(f"serial took {duration_text(elapsed)}; {count_text(repeat, 'round')} of {count_text(n, 'back end')} "
                  f"will take {' to '.join(took)}, and the start of their workers")  # fmt: skip
        if budget is not None and most > budget:
            few, many = (max(1, min(repeat, int(budget * repeat / max(whole, 1e-9)))) for whole in (most, least))
            fits = count_text(few, "round") if few == many else f"{few} to {count_text(many, 'round')}"
            self.tell(f"for a budget of {duration_text(budget)} that may be {fits}")

    def _call(self, number: int) -> None:
        """Measure the call that does the whole job in one thread, and compare its results with serial's outputs."""
        self.calls = self.calls or Calls(self.call)
        if self.calls.failure:
            return
        own = self.folder / f"reference-{number + 1}"
        own.mkdir()
        child = measured(
            graph=self.folder / "graph",
            backend="",
            workers=1,
            options={},
            storage=self.storage,
            outputs=self.folder / _OUTPUTS / own.name,
            folder=own,
            call=self.call,
            params=self.params,
            inputs=self.inputs,
        )
        if child.report.failure:
            self.calls.failure = child.report.failure.split("\n")[0]
            self.tell(f"the reference did not run: {self.calls.failure}")
            return
        self.calls.elapsed.append(child.report.elapsed)
        self.tell(f"round {number + 1}: reference {duration_text(child.report.elapsed)}")
        first = self.folder / _OUTPUTS / f"{folder_name(self.cases[0])}-1"
        self.calls.differences += reference_differences(self.graph, own / "values.pickle", first)
        (own / "values.pickle").unlink()

    def _one(self, case: Case, number: int) -> None:
        """Measure one run, compare its results with the reference's, delete them."""
        name = f"{folder_name(case)}-{number + 1}"
        found = self._measured(case, name, number, self.folder / "graph")
        if isinstance(found, Child):
            self._failed(case, found.report.failure, found.report.exit_code, found.error)
            return
        self.measurements.append(found)
        self.tell(f"round {number + 1}: {case.label} {duration_text(found.elapsed)}")
        if name != f"{REFERENCE}-1":
            differences = self._differences(name)
            self.differences.setdefault(case.label, []).extend(differences)
            self._delete(name)

    def extra(self, case: Case, graph: Graph) -> tuple[Measurement | str, list[Difference]]:
        """Measure one run of another Graph with the same results; they are compared with the reference's."""
        path = self.folder / "graph-tried"
        graph.save(path)
        try:
            found = self._measured(case, "tried", 0, path)
        finally:
            path.unlink()
        if isinstance(found, Child):
            return found.report.failure.split("\n")[0], []
        self.tell(f"tried: {case.label} {duration_text(found.elapsed)}")
        try:
            return found, self._differences("tried")
        finally:
            self._delete("tried")

    def _measured(self, case: Case, name: str, number: int, graph: Path) -> Measurement | Child:
        """Measure one run; return the child if it failed."""
        own, outputs = self.folder / name, self.folder / _OUTPUTS / name
        for place in (own, outputs):
            place.mkdir(parents=True)
        child = measured(
            graph=graph,
            backend=case.backend,
            workers=case.workers,
            options=self.options.get(case.backend, {}),
            storage=self.storage,
            outputs=outputs,
            folder=own,
        )
        report = child.report
        if report.failure:
            self._delete(name)
            return child
        return Measurement(
            case=case.label,
            backend=case.backend,
            round=number,
            memory=child.peak_memory,
            process=child.elapsed,
            trace=str(own / "trace.parquet"),
            dropped=len(report.dropped),
            **{key: getattr(report, key) for key in _REPORTED},
        )

    def _differences(self, name: str) -> list[Difference]:
        """Return how the results of a run differ from those of the reference's first run."""
        runs = (f"{REFERENCE}-1", name)
        found = differences(
            self.graph, [self.folder / run for run in runs], [self.folder / _OUTPUTS / run for run in runs]
        )
        for wrong in (d for d in found if not d.same):
            self.tell(f"{name}: {wrong.what}: {wrong.message}")
        return found

    def _delete(self, name: str) -> None:
        """Delete the results of a run."""
        shutil.rmtree(self.folder / _OUTPUTS / name, ignore_errors=True)
        (self.folder / name / "values.pickle").unlink(missing_ok=True)

    def _failed(self, case: Case, reason: str, exit_code: int, error: BaseException | None) -> None:
        if case.backend == REFERENCE:
            if isinstance(error, PipelineError):
                raise error
            message = f"serial did not run: {reason} (log: {self.folder / f'{REFERENCE}-1' / 'log.txt'})"
            if exit_code == Bug.exit_code:
                raise Bug(message) from error
            raise WorkerLost(f"{message}; a task has ended it, or the memory was short")
        first = reason.split("\n")[0]
        self.failures[case.label] = (first, exit_code)
        self.tell(f"{case.label} did not run: {first}")


@contextlib.contextmanager
def _tidied(folder: Path, about: Config | None) -> Iterator[None]:
    """Delete outputs and pickled values from the run folder at the end, and mask secrets, also after an error."""
    try:
        yield
    finally:
        shutil.rmtree(folder / _OUTPUTS, ignore_errors=True)
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
    """Return the names of the back ends to compare, the reference first.

    Raises
    ------
    ConfigError : if one is unknown
    """
    names = list(dict.fromkeys(backends or BACKENDS))
    for name in names:
        if name not in BACKENDS:
            raise ConfigError(f"no back end '{name}'; there are {', '.join(BACKENDS)}")
    return (REFERENCE, *(name for name in names if name != REFERENCE))


def _cases(backends: Sequence[str], workers: int | Sequence[int]) -> list[Case]:
    """Return the cases: serial, then each back end with each number of workers."""
    counts = [workers] if isinstance(workers, int) else sorted(set(workers))
    if not counts or any(type(n) is not int or n < 1 for n in counts):
        raise ConfigError(f"scale: got {workers!r}; numbers of workers are whole numbers >= 1: 1,2,4")
    scaled = len(counts) > 1
    return [Case(REFERENCE, 1), *(Case(b, n, scaled) for b in backends if b != REFERENCE for n in counts)]


def folder_name(case: Case) -> str:
    """Return the prefix of the folders of a case's runs."""
    return f"{case.backend}-x{case.workers}" if case.scaled else case.backend


def rotated(names: Sequence[Named], by: int) -> list[Named]:
    """Return the items in an order that begins with another one each round.

    >>> rotated(["a", "b", "c"], 4)
    ['b', 'c', 'a']
    """
    by %= len(names)
    return [*names[by:], *names[:by]]


def _silent(message: str) -> None:
    """Report no progress."""
