"""``compare()``: the same Graph on several back ends, interleaved and repeated; how fast, and whether it is the same.

The Graph is built once and saved; each measured run is a fresh process (:mod:`pipeline.measurement`) that commits to a
folder of its own below the run folder. Rounds interleave the back ends in an order that rotates, so that what slows the
machine down for a minute slows down all of them. Each run's outputs are held against those of serial's first run, and
deleted; nothing is written where the file says.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends import BACKENDS
from pipeline.comparison.result import Comparison, Difference, Measurement, compared
from pipeline.errors import Bug, ConfigError, PipelineError

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.graph import Graph

__all__ = ["Comparison", "compare", "compare_graph"]

REFERENCE = "serial"
REPEAT = 3

Tell = Callable[[str], None]


def compare(
    config: Config,
    *,
    backends: Sequence[str] | None = None,
    workers: int | None = None,
    repeat: int | None = None,
    budget: float | None = None,
    runs: str | Path = "runs",
    allow_effects: bool = False,
    tell: Tell | None = None,
) -> Comparison:
    """Run a pipeline on several back ends and compare speed and results.

    Parameters
    ----------
    backends : names; serial is the reference and always runs. Default: the file's ``compare``, else all
    workers : of each back end but serial; default: as many as cores
    repeat : rounds; default: the file's ``compare``, else 3
    budget : seconds; fewer rounds are made where they would take longer, at least one
    runs : folder of the run folders; nothing is written elsewhere
    allow_effects : run steps marked ``pure: false``, which will take effect once a back end and round
    tell : called with lines of text as it goes on

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
    from pipeline.steps import build

    return compare_graph(
        build(config),
        folder=new_folder(Path(runs), config.name),
        backends=names,
        workers=workers or n_cores(),
        repeat=repeat or int(config.compare.get("repeat", REPEAT)),
        budget=budget,
        options={"dask": {"cluster": dict(config.cluster) or None, "dashboard": False}},  # nobody would see it
        storage=config.storage,
        tell=tell,
    )


def compare_graph(
    graph: Graph,
    *,
    folder: Path,
    backends: Sequence[str] | None = None,
    workers: int,
    repeat: int = REPEAT,
    budget: float | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    storage: Mapping[str, Any] | None = None,
    tell: Tell | None = None,
) -> Comparison:
    """The same for a Graph; ``folder`` is the run folder, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    graph.save(folder / "graph")
    rounds = Rounds(
        graph=graph,
        folder=folder,
        backends=list(chosen(backends)),
        workers=workers,
        options=options or {},
        storage=storage or {},
        tell=tell or _silent,
    )
    rounds.tell(f"{graph.name}: graph {graph.fingerprint}, {len(graph):,} tasks; {', '.join(rounds.backends)}")
    try:
        rounds.run(repeat, budget)
    finally:
        shutil.rmtree(folder / "outputs", ignore_errors=True)
    result = compared(
        rounds.measurements,
        backends=rounds.backends,
        differences=rounds.differences,
        failures=rounds.failures,
        name=graph.name,
        fingerprint=graph.fingerprint,
        n_tasks=len(graph),
        folder=str(folder),
        workers=workers,
    )
    (folder / "comparison.json").write_text(json.dumps(result.to_dict(), indent=1, default=str) + "\n")
    return result


@dataclass
class Rounds:
    """The rounds of one comparison. States: nothing measured -> the first round is done -> all rounds are done."""

    graph: Graph
    folder: Path
    backends: list[str]
    workers: int
    options: Mapping[str, Mapping[str, Any]]
    storage: Mapping[str, Any]
    tell: Tell
    measurements: list[Measurement] = field(default_factory=list)
    differences: dict[str, list[Difference]] = field(default_factory=dict)
    failures: dict[str, tuple[str, int]] = field(default_factory=dict)

    def run(self, repeat: int, budget: float | None) -> None:
        """Make up to ``repeat`` rounds, fewer where ``budget`` seconds would not do for the next one."""
        began = time.perf_counter()
        for number in range(repeat):
            start = time.perf_counter()
            for backend in rotated(self.backends, number):
                if backend not in self.failures:
                    self._one(backend, number)
                if number == 0 and backend == REFERENCE:
                    self._estimate(time.perf_counter() - start, repeat, budget)
            now = time.perf_counter()
            last, spent = now - start, now - began
            if budget is not None and number + 1 < repeat and spent + last > budget:
                self.tell(f"stopped after {number + 1} of {repeat} rounds: "
                          f"the next would take {last:.0f} s, and {spent:.0f} of {budget:.0f} s are gone")  # fmt: skip
                return
            if number == 0 and repeat > 1:
                self.tell(f"{_rounds(repeat - 1, 'more ')} will take {_about(last * (repeat - 1))}")

    def _estimate(self, whole: float, repeat: int, budget: float | None) -> None:
        """Say how long it will take, from serial's first run: between perfect speedup everywhere and none at all."""
        elapsed = self.measurements[0].elapsed
        n = len(self.backends)
        least, most = (
            repeat * (whole * n - elapsed * (n - 1) * (1 - share)) for share in (1 / max(1, self.workers), 1.0)
        )
        took = dict.fromkeys((_about(least), _about(most)))
        self.tell(f"serial took {elapsed:.2f} s; {_rounds(repeat)} of {n} back ends will take {' to '.join(took)}, "
                  "and the start of their workers")  # fmt: skip
        if budget is not None and most > budget:
            fits = max(1, min(repeat, int(budget / (most / repeat))))
            self.tell(f"for a budget of {_about(budget)} that may be {fits} to {_rounds(repeat)}")

    def _one(self, backend: str, number: int) -> None:
        """Measure one run, hold its results against the reference's, delete them."""
        from pipeline.comparison.children import measured

        name = f"{backend}-{number + 1}"
        own, outputs = self.folder / name, self.folder / "outputs" / name
        for place in (own, outputs):
            place.mkdir(parents=True)
        child = measured(
            graph=self.folder / "graph",
            backend=backend,
            workers=1 if backend == REFERENCE else self.workers,
            options=self.options.get(backend, {}),
            storage=self.storage,
            outputs=outputs,
            folder=own,
        )
        reference = f"{REFERENCE}-1"
        try:
            if child.report.failure:
                self._failed(backend, child.report.failure, child.report.exit_code, child.error)
                return
            report = child.report
            self.measurements.append(
                Measurement(
                    backend=backend,
                    round=number,
                    elapsed=report.elapsed,
                    start_up=report.start_up,
                    verify=report.verify,
                    commit=report.commit,
                    user=report.user,
                    system=report.system,
                    memory=child.peak_memory,
                    n_workers=report.n_workers,
                    process=child.elapsed,
                    trace=str(own / "trace.parquet"),
                )
            )
            self.tell(f"round {number + 1}: {backend} {report.elapsed:.2f} s")
            if name != reference:
                self._hold_against(backend, name, reference)
        finally:
            if name != reference:
                shutil.rmtree(outputs, ignore_errors=True)
                (own / "values.pickle").unlink(missing_ok=True)

    def _hold_against(self, backend: str, name: str, reference: str) -> None:
        from pipeline.comparison.sameness import differences

        found = differences(
            self.graph,
            [self.folder / run for run in (reference, name)],
            [self.folder / "outputs" / run for run in (reference, name)],
        )
        self.differences.setdefault(backend, []).extend(found)
        for wrong in (d for d in found if not d.same):
            self.tell(f"{name}: {wrong.what}: {wrong.message}")

    def _failed(self, backend: str, reason: str, exit_code: int, error: BaseException | None) -> None:
        if backend == REFERENCE:
            if isinstance(error, PipelineError):
                raise error
            raise Bug(f"serial did not run: {reason} (log: {self.folder / f'{REFERENCE}-1' / 'log.txt'})") from error
        first = reason.split("\n")[0]
        self.failures[backend] = (first, exit_code)
        self.tell(f"{backend} did not run: {first}")


def chosen(backends: Sequence[str] | None) -> tuple[str, ...]:
    """The back ends to compare, the reference first.

    Raises
    ------
    ConfigError : naming the ones that are unknown
    """
    names = list(dict.fromkeys(backends or BACKENDS))
    for name in names:
        if name not in BACKENDS:
            raise ConfigError(f"no back end '{name}'; there are {', '.join(BACKENDS)}")
    return (REFERENCE, *(name for name in names if name != REFERENCE))


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The names, beginning with another one each round.

    >>> rotated(["a", "b", "c"], 4)
    ['b', 'c', 'a']
    """
    by %= len(names)
    return [*names[by:], *names[:by]]


def n_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def new_folder(runs: Path, name: str) -> Path:
    """A new folder ``runs/name/UTC time``, made."""
    stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    for n in range(1, 1000):
        folder = runs / name / (stamp if n == 1 else f"{stamp}.{n}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise PipelineError(f"{runs / name}: no free name for a run folder")


def _rounds(n: int, more: str = "") -> str:
    return f"{n} {more}round{'s' if n != 1 else ''}"


def _about(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _silent(message: str) -> None:
    """Tell nobody."""
