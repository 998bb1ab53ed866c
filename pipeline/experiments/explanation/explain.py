"""``explain()``: a serial run, then probes of the steps that cost most, within a budget; causes, and what to change.

::

    build -> serial run in scratch, inputs of some tasks kept -> overhead of a task, where tasks are short
          -> probes, step by step in the order of costs -> diagnosis -> what to change

Everything lies in a scratch folder below the runs folder that is deleted at the end; nothing is committed. The folder
is locked while it is in use: what a killed explanation left is found by its lock being free, and deleted by the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from pipeline.backends.local.child_main import write_setup
from pipeline.backends.local.child_processes import count_cores
from pipeline.build.build import build
from pipeline.errors import ConfigError, OutputError
from pipeline.experiments.comparison.loss_accounts import handles
from pipeline.experiments.explanation.diagnosis import Cause, Overhead, Structure, diagnose, diagnose_structure
from pipeline.experiments.explanation.explained import Explained, Explanation
from pipeline.experiments.explanation.measurements import StepReadings
from pipeline.experiments.explanation.overhead import overhead
from pipeline.experiments.explanation.probe_processes import Failed, Late
from pipeline.experiments.explanation.probes import probe
from pipeline.experiments.explanation.recommendations import Model, Way, changes
from pipeline.experiments.explanation.selection import Batch, Sampled, batches, byte_limits, choose, pure_part
from pipeline.experiments.explanation.serial_run import sample
from pipeline.experiments.explanation.structure import estimated, segment_seconds, structure
from pipeline.graph.fusion import fuse
from pipeline.trace.account import Shape
from pipeline.units import count_text, duration_text

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph
    from pipeline.graph.segments import Segment


__all__ = ["BUDGET", "explain"]

BUDGET = 60.0
"""Seconds that an explanation may take, unless it is said."""

_SERIAL, _CUT = (
    0.5,
    0.65,
)  # of the budget: when no further task of the serial run is begun, when the running one is ended
_LEAST_SHARE = 0.02  # of all tasks' time, that a step takes to be probed
_LEAST_TIME = 2.0  # seconds in which processes start and are probed, at the very least
_ENDING = 2.0  # seconds kept for ending processes and for deleting
_SHORT = {"threads": 0.01, "processes": 0.02, "dask": 0.05}  # seconds of a segment: if longer, overhead is no cause
_TAKES = {"threads": 6.0, "processes": 6.0, "dask": 25.0}  # seconds that must be left for measuring it
_PREFIX = ".explain-"

Tell = Callable[[str], None]


def explain(
    config: Config,
    *,
    workers: int | None = None,
    budget: float = BUDGET,
    spent: float = 0.0,
    steps: Sequence[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    tell: Tell | None = None,
) -> Explanation:
    """Find out by experiment why a file does not scale, and what to change.

    Tasks of steps marked ``pure: false`` are never run, nor is what needs them.

    Parameters
    ----------
    workers : of the probes, at least 2; default: as many as cores
    budget : seconds that all of it may take; what it does not reach is listed
    spent : seconds of these that are gone already
    steps : the steps to probe, by their names in the file; default: those that cost most
    runs : folder in which the scratch folder is made; it is deleted
    tell : called with lines of text as it goes on

    Raises
    ------
    ConfigError : if there is no such step, or fewer than 2 workers are asked for
    PipelineError : if a task of the serial run fails, as a run raises it
    """
    began = perf_counter() - spent
    known = dict.fromkeys(step.step for step in config.steps.values())
    unknown = [name for name in steps or () if name not in known]
    if unknown:
        raise ConfigError(f"--step {unknown[0]}: there is no such step; there are {', '.join(known)}")
    n_workers = workers if workers is not None else max(2, count_cores())
    if type(n_workers) is not int or n_workers < 2:
        raise ConfigError(f"workers: got {n_workers!r}; there is a speedup to explain from 2 workers on")
    if not budget > spent:
        raise ConfigError(f"budget: got {budget:g} s; all of it takes some seconds: 60s")
    threads = config.cluster.get("threads_per_worker", 1)
    graph, reasons = pure_part(build(config), {copy for copy, step in config.steps.items() if not step.pure})
    experiment = _Experiment(
        graph=graph,
        config=config,
        n_workers=n_workers,
        ends=began + budget - min(_ENDING, budget / 10),
        began=began,
        budget=budget,
        asked=tuple(steps or ()),
        not_probed=dict(reasons),
        way="threads" if isinstance(threads, int) and threads > 1 else "processes",
        tell=tell or _silent,
    )
    with _scratch(Path(runs)) as folder:
        return experiment.run(folder)


@dataclass
class _Experiment:
    """One explanation. States: built -> run serially -> probed -> diagnosed; ``ends`` on the clock of perf_counter."""

    graph: Graph
    config: Config
    n_workers: int
    ends: float
    began: float
    budget: float
    asked: tuple[str, ...]
    not_probed: dict[str, str]
    way: Way
    tell: Tell
    readings: dict[str, StepReadings] = field(default_factory=dict)
    overheads: dict[str, Overhead] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return self.ends - perf_counter()

    def run(self, folder: Path) -> Explanation:
        graph = self.graph
        file = folder / "graph"
        graph.save(file)
        setup = write_setup(str(folder), graph, graph.modules)
        limit = duration_text(self.left * _SERIAL)
        self.tell(f"{graph.name}: {count_text(len(graph), 'task')} run serially, for {limit} at most")
        sampled = self._sample(folder, file, setup)
        segments = fuse(graph, n_workers=self.n_workers)
        seconds = estimated(graph, sampled)
        each = segment_seconds(segments, graph, seconds)
        shape = Shape.of(graph)
        found = structure(graph, shape, segments, seconds, self.n_workers)
        bound = diagnose_structure(found)
        chain = dict(found.path) if bound is not None and bound.cause.kind == "chain" else {}
        links = [step for step in chain if shape.n_tasks[step] == 1]
        candidates = self._candidates(sampled, links)
        self._overheads(min((each[step] for step in candidates if step in each), default=1.0))
        _, most = byte_limits(folder, self.n_workers)
        longest = self.left / 4 / (2 + self.n_workers)  # seconds of one worker, where all of its probes take as long
        self._probe(batches(candidates, sampled, links, most=most, longest=longest), sampled.by_step(), setup)
        return self._concluded(sampled, seconds, segments, each, shape, found)

    def _sample(self, folder: Path, file: Path, setup: str) -> Sampled:
        keep = folder / "serial"
        keep.mkdir()
        left = self.left
        copies = self.config.steps
        without = [copy for copy in self.graph.policies if copy not in copies or not self._wants(copies[copy].step)]
        return sample(
            self.graph,
            file=file,
            setup=setup,
            folder=keep,
            n_workers=self.n_workers,
            until=left * _SERIAL,
            deadline=perf_counter() + left * _CUT,
            storage=self.config.storage,
            without=without,
        )

    def _wants(self, step: str) -> bool:
        return not self.asked or step in self.asked

    # ---- probing

    def _candidates(self, sampled: Sampled, links: Sequence[str]) -> list[str]:
        """The steps to probe, most expensive first; the others' reasons are noted.

        Parameters
        ----------
        links : of a chain, of which each costs little and all together much
        """
        by_step = sampled.by_step()
        total = sum(by_step.values())
        writers = {policy.step for copy, policy in self.graph.policies.items() if copy not in self.config.steps}
        found = []
        for step, seconds in by_step.items():
            if step in self.not_probed or not self._wants(step):
                continue
            if step in writers:
                self.not_probed[step] = "writes an output"
            elif seconds < _LEAST_SHARE * total and not self.asked and step not in links:
                self.not_probed[step] = f"takes under {_LEAST_SHARE:.0%} of the time"
            elif not choose(sampled, step):
                self.not_probed[step] = sampled.refused.get(step, "none of its tasks was kept")
            else:
                found.append(step)
        owned = {self.graph.policies[self.graph.owners[key]].step for key in self.graph.tasks}
        for step in dict.fromkeys(policy.step for policy in self.graph.policies.values()):
            if sampled.complete:
                break  # what did not run has no tasks but constants
            if step in owned and step not in by_step and step not in self.not_probed and self._wants(step):
                reason = "the serial run did not reach it"
                if sampled.cut is not None and sampled.cut[1] == step:
                    reason = f"one of its tasks was ended after {duration_text(sampled.cut[2])}"
                self.not_probed[step] = reason
        return found

    def _overheads(self, shortest: float) -> None:
        """What a task costs beside itself, where tasks are so short that it may matter."""
        for backend, least in _SHORT.items():
            if shortest < least and self.left > _TAKES[backend]:
                self.tell(f"empty tasks through '{backend}'")
                with contextlib.suppress(Late, Failed):  # then nothing is said of it
                    deadline = perf_counter() + self.left / 2
                    self.overheads[backend] = overhead(backend, self.n_workers, deadline=deadline)

    def _probe(self, some: Sequence[Batch], cost: Mapping[str, float], setup: str) -> None:
        n_cores = count_cores()
        costs = [sum(cost[step] for step in batch.steps) for batch in some]
        for i, batch in enumerate(some):
            if self.left < _LEAST_TIME:
                late = dict.fromkeys(step for other in some[i:] for step in other.steps)
                self.not_probed |= dict.fromkeys(late, f"the budget of {duration_text(self.budget)} did not reach it")
                return
            deadline = perf_counter() + self.left * max(0.5, costs[i] / sum(costs[i:]))
            first, *others = batch.steps
            more = f" and {len(others)} more of its chain" if others else ""
            workers = f"{count_text(self.n_workers, 'thread')} and {count_text(self.n_workers, 'process')}"
            self.tell(f"{first}{more}: probed with {workers}")
            try:
                found = probe(first, batch.kept, setup=setup, n_workers=self.n_workers, n_cores=n_cores,
                              deadline=deadline)  # fmt: skip
            except Late as late:
                why = f"the budget of {duration_text(self.budget)} is too short for it: {late}"
                self.not_probed |= dict.fromkeys(batch.steps, why)
            except Failed as failed:
                self.not_probed |= dict.fromkeys(batch.steps, f"failed when it was run again: {failed}")
            else:
                together = batch.steps if others else ()
                self.readings |= {step: replace(found, step=step, together=together) for step in batch.steps}

    # ---- concluding

    def _concluded(
        self,
        sampled: Sampled,
        seconds: Mapping[str, float],
        segments: Sequence[Segment],
        each: Mapping[str, float],
        shape: Shape,
        found: Structure,
    ) -> Explanation:
        graph = self.graph
        owner = {str(key): graph.policies[graph.owners[key]].step for key in graph.tasks}
        cost: dict[str, float] = {}
        for key, s in seconds.items():
            cost[owner[key]] = cost.get(owner[key], 0.0) + s
        bound = diagnose_structure(found)
        model = Model(segments, seconds, owner, found, self.readings, self.overheads, handles(self.config), self.way)
        counted = model.overhead("processes")
        causes: dict[str, tuple[Cause, ...]] = {}
        for step in sorted(cost, key=lambda name: -cost[name]):
            mine = [bound.cause] if bound is not None and step in bound.steps else []
            if step in self.readings:
                others = diagnose(self.readings[step], overhead=counted, segment=each.get(step))
                mine += [c for c in others if not mine or c.kind != "none"]
            if mine:
                causes[step] = tuple(mine)
        steps = tuple(
            Explained(step, shape.n_tasks.get(step, 0), cost[step], cost[step] / found.work if found.work else 0.0,
                      some, self.readings.get(step))
            for step, some in causes.items()
        )  # fmt: skip
        return Explanation(
            name=graph.name,
            fingerprint=graph.fingerprint,
            n_tasks=len(seconds),
            n_ran=len(sampled.times),
            n_workers=self.n_workers,
            n_cores=count_cores(),
            budget=self.budget,
            elapsed=perf_counter() - self.began,
            structure=found,
            bound=bound,
            steps=steps,
            not_probed=self.not_probed,
            changes=changes(model, causes),
            predicted={way: model.elapsed(way) for way in ("threads", "processes")},
            overheads=self.overheads,
        )


# ---------------------------------------------------------------------------------------------------------------------
# Scratch
# ---------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _scratch(runs: Path) -> Iterator[Path]:
    """A folder of our own below the runs folder, locked, and deleted at the end; a runs folder made for it, too."""
    made = not runs.exists()
    try:
        runs.mkdir(parents=True, exist_ok=True)
        runs = runs.resolve()
        _sweep(runs)
        token = secrets.token_hex(6)
        unlocked, folder = runs / f".explaining-{token}", runs / f"{_PREFIX}{token}"
        unlocked.mkdir(mode=0o700)
        lock = os.open(unlocked / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        unlocked.rename(folder)  # it has the name that is swept only once it is locked
    except OSError as error:
        raise OutputError(f"the scratch folder can't be made: {error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        if made:
            with contextlib.suppress(OSError):  # somebody else has put something there
                runs.rmdir()


def _sweep(runs: Path) -> None:
    """Delete the scratch folders of explanations that were killed."""
    for left in runs.glob(f"{_PREFIX}*/lock"):
        with contextlib.suppress(OSError):
            fd = os.open(left, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else it is in use
                shutil.rmtree(left.parent, ignore_errors=True)
            finally:
                os.close(fd)


def _silent(message: str) -> None:
    """Tell nobody."""
