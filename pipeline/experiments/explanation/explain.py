"""Explain by experiment why a file does not scale: a serial run, probes of the most expensive steps, a diagnosis.

::

    build -> serial run, inputs of some tasks saved -> overhead of a task, where tasks are short
          -> probes, the most expensive step first -> diagnosis -> recommendations

All files are in a scratch folder below the runs folder, which is deleted at the end; no output is committed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from pipeline.backends.local.child_processes import count_cores
from pipeline.builder.build import build
from pipeline.errors import ConfigError
from pipeline.experiments.comparison.tuning_knobs import tuning_knobs
from pipeline.experiments.explanation.diagnosis import Cause, Overhead, Structure, diagnose, diagnose_structure
from pipeline.experiments.explanation.explained import Explained, Explanation
from pipeline.experiments.explanation.measurements import StepMeasurements
from pipeline.experiments.explanation.overhead import overhead
from pipeline.experiments.explanation.probe_backend import Failed, Late, ProbeBackend
from pipeline.experiments.explanation.probes import probe
from pipeline.experiments.explanation.recommendations import Model, Way, changes
from pipeline.experiments.explanation.scratch_folder import scratch_folder
from pipeline.experiments.explanation.selection import Batch, Sampled, batches, byte_limits, choose, pure_part
from pipeline.experiments.explanation.serial_run import sample
from pipeline.experiments.explanation.structure import estimated, segment_seconds, structure
from pipeline.graph.fusion import fuse
from pipeline.trace.shape import Shape
from pipeline.units import count_text, duration_text

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph
    from pipeline.graph.segments import Segment


__all__ = ["BUDGET", "explain"]

BUDGET = 60.0
"""Seconds that an explanation may take by default."""

# Parts of the budget after which the serial run begins no further task, and after which its running task is killed.
_SERIAL, _CUT = 0.5, 0.65
_LEAST_SHARE = 0.02  # of all tasks' time that a step must take to be probed
_LEAST_TIME = 2.0  # seconds in which processes start and are probed, at the very least
_LEAST = 5.0  # seconds of the budget that are left at least when the file is loaded
_FIRST = 20.0  # seconds that the most expensive step gets at least, even if the budget is over
_ENDING = 2.0  # seconds reserved for ending processes and deleting files
_SHORT = {"threads": 0.01, "processes": 0.02, "dask": 0.05}  # seconds of a segment above which overhead is no cause
_TAKES = {"threads": 6.0, "processes": 6.0, "dask": 25.0}  # seconds that must be left for measuring the overhead

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

    Tasks of steps marked ``pure: false`` are never run, nor is anything that needs them.

    Parameters
    ----------
    workers : of the probes, at least 2; default: as many as cores
    budget : seconds that all of it should take; steps that it does not reach are listed. The most expensive step
        is probed also where loading the file, or the start of a process, took all of them
    spent : seconds of the budget that have passed already
    steps : the steps to probe, by their names in the file; default: the most expensive ones
    runs : folder in which the scratch folder is made
    tell : called with lines of text about the progress

    Raises
    ------
    ConfigError : if there is no such step, or fewer than 2 workers are asked for
    PipelineError : what a task raised in the serial run
    """
    began = perf_counter() - spent
    names = dict.fromkeys(step.step for step in config.steps.values())
    unknown = [name for name in steps or () if name not in names]
    if unknown:
        raise ConfigError(f"--step {unknown[0]}: there is no such step; there are {', '.join(names)}")
    n_workers = workers if workers is not None else max(2, count_cores())
    if type(n_workers) is not int or n_workers < 2:
        raise ConfigError(f"workers: got {n_workers!r}; there is a speedup to explain from 2 workers on")
    if not budget > 0:
        raise ConfigError(f"budget: got {budget:g} s; all of it takes some seconds: 60s")
    threads = config.cluster.get("threads_per_worker", 1)
    graph, reasons = pure_part(build(config), {name for name, step in config.steps.items() if not step.pure})
    for step in config.steps.values():
        if step.uses:
            reasons.setdefault(
                step.step, f"uses {', '.join(step.uses)}: probes would run too many of its tasks at once"
            )
    loading = perf_counter() - began
    planned, least = began + budget - min(_ENDING, budget / 10), perf_counter() + min(budget, _LEAST)
    if planned < least and tell is not None:
        used = f"loading the file took {duration_text(loading)} of {budget:g} s"
        tell(f"{used}; the most expensive step is probed all the same")
    experiment = _Experiment(
        graph=graph,
        config=config,
        n_workers=n_workers,
        ends=max(planned, least),
        began=began,
        budget=budget,
        loading=loading,
        asked=tuple(steps or ()),
        not_probed=dict(reasons),
        way="threads" if isinstance(threads, int) and threads > 1 else "processes",
        tell=tell or _silent,
    )
    with scratch_folder(Path(runs)) as folder:
        return experiment.run(folder)


@dataclass
class _Experiment:
    """One explanation. States: built -> run serially -> probed -> diagnosed.

    Parameters
    ----------
    began, ends : on the clock of ``perf_counter``
    asked : the steps to probe; empty: the most expensive ones
    not_probed : step -> why it was not probed
    way : how the file runs now
    loading : seconds of the budget that loading and building the file took
    measurements : by step, of those that were probed
    overheads : by back end
    """

    graph: Graph
    config: Config
    n_workers: int
    ends: float
    began: float
    budget: float
    loading: float
    asked: tuple[str, ...]
    not_probed: dict[str, str]
    way: Way
    tell: Tell
    measurements: dict[str, StepMeasurements] = field(default_factory=dict)
    overheads: dict[str, Overhead] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return self.ends - perf_counter()

    @property
    def _budget_text(self) -> str:
        """The budget, with the part of it that loading the file took where that is much."""
        used = (
            f", of which loading the file took {duration_text(self.loading)}," if 5 * self.loading > self.budget else ""
        )
        return f"{duration_text(self.budget)}{used}"

    def run(self, folder: Path) -> Explanation:
        graph = self.graph
        limit = duration_text(self.left * _SERIAL)
        self.tell(f"{graph.name}: {count_text(len(graph), 'task')} run serially, for {limit} at most")
        segments = fuse(graph, n_workers=self.n_workers)
        sampled = self._sample(folder, segments)
        seconds = estimated(graph, sampled)
        mean_seconds = segment_seconds(segments, graph, seconds)
        shape = Shape.of(graph)
        found = structure(graph, shape, segments, seconds, self.n_workers)
        bound = diagnose_structure(found)
        chain = dict(found.path) if bound is not None and bound.cause.kind == "chain" else {}
        links = [step for step in chain if shape.n_tasks[step] == 1]
        candidates = self._candidates(sampled, links)
        shortest = min((mean_seconds[step] for step in candidates if step in mean_seconds), default=1.0)
        self._measure_overheads(folder, shortest)
        _, most_bytes = byte_limits(folder, self.n_workers)
        longest = self.left / 4 / (2 + self.n_workers)  # seconds of one worker, where all of its probes take as long
        self._probe(batches(candidates, sampled, links, most=most_bytes, longest=longest), sampled.by_step())
        return self._concluded(sampled, seconds, segments, mean_seconds, shape, found)

    def _sample(self, folder: Path, segments: Sequence[Segment]) -> Sampled:
        own = folder / "serial"
        own.mkdir()
        left = self.left
        steps = self.config.steps
        without = [name for name in self.graph.policies if name not in steps or not self._wants(steps[name].step)]
        return sample(
            self.graph,
            segments,
            folder=own,
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
        """Return the steps to probe, most expensive first; note why the others are not.

        Parameters
        ----------
        links : steps of a chain: each costs little, and all together much
        """
        by_step = sampled.by_step()
        total = sum(by_step.values())
        writers = {policy.step for name, policy in self.graph.policies.items() if name not in self.config.steps}
        found = []
        for step, seconds in by_step.items():
            if step in self.not_probed or not self._wants(step):
                continue
            if step in writers:
                self.not_probed[step] = "writes an output"
            elif seconds < _LEAST_SHARE * total and not self.asked and step not in links:
                self.not_probed[step] = f"takes under {_LEAST_SHARE:.0%} of the time"
            elif not choose(sampled, step):
                self.not_probed[step] = sampled.refused.get(step, "the inputs of none of its tasks were saved")
            else:
                found.append(step)
        if not sampled.complete:  # else what did not run has no tasks but constants
            self._note_not_reached(sampled)
        return found

    def _note_not_reached(self, sampled: Sampled) -> None:
        """Note the steps of which the serial run finished no task."""
        by_step = sampled.by_step()
        owned = {self.graph.policies[self.graph.owners[key]].step for key in self.graph.tasks}
        for step in dict.fromkeys(policy.step for policy in self.graph.policies.values()):
            if step in owned and step not in by_step and step not in self.not_probed and self._wants(step):
                reason = f"the serial run did not reach it in the budget of {self._budget_text.rstrip(',')}"
                if sampled.cut is not None and sampled.cut[1] == step:
                    reason = f"one of its tasks was ended after {duration_text(sampled.cut[2])}"
                self.not_probed[step] = reason

    def _measure_overheads(self, folder: Path, shortest: float) -> None:
        """Measure what a task costs beside its work, where segments are so short that it may matter."""
        for backend, least in _SHORT.items():
            if shortest < least and self.left > _TAKES[backend]:
                self.tell(f"empty tasks through '{backend}'")
                own = folder / f"overhead-{backend}"
                own.mkdir()
                found = overhead(backend, self.n_workers, folder=own, deadline=perf_counter() + self.left / 2)
                if found is not None:
                    self.overheads[backend] = found

    def _probe(self, some: Sequence[Batch], cost: Mapping[str, float]) -> None:
        """Probe each batch, with a share of the time left that is as large as its share of the cost, at least half.

        The first is probed in any case: on a busy machine the serial run may take all of a small budget.
        """
        if not some:
            return
        costs = [sum(cost[step] for step in batch.steps) for batch in some]
        with ProbeBackend(self.n_workers, self.graph.modules) as backend:
            for i, batch in enumerate(some):
                if i and self.left < _LEAST_TIME:
                    missed = dict.fromkeys(step for other in some[i:] for step in other.steps)
                    why = f"the budget of {self._budget_text} did not reach it"
                    self.not_probed |= dict.fromkeys(missed, why)
                    return
                seconds = self.left * max(0.5, costs[i] / sum(costs[i:]))
                self._probe_batch(backend, batch, perf_counter() + max(seconds, _FIRST if i == 0 else 0.0))

    def _probe_batch(self, backend: ProbeBackend, batch: Batch, deadline: float) -> None:
        first, *others = batch.steps
        more = f" and {len(others)} more of its chain" if others else ""
        workers = f"{count_text(self.n_workers, 'thread')} and {count_text(self.n_workers, 'process')}"
        self.tell(f"{first}{more}: probed with {workers}")
        try:
            found = probe(backend, first, batch.saved, n_cores=count_cores(), deadline=deadline)
        except Late as late:
            why = f"the budget of {self._budget_text} is too short for it: {late}"
            self.not_probed |= dict.fromkeys(batch.steps, why)
        except Failed as failed:
            self.not_probed |= dict.fromkeys(batch.steps, f"failed when it was run again: {failed}")
        else:
            together = batch.steps if others else ()
            self.measurements |= {step: replace(found, step=step, together=together) for step in batch.steps}

    # ---- concluding

    def _concluded(
        self,
        sampled: Sampled,
        seconds: Mapping[str, float],
        segments: Sequence[Segment],
        mean_seconds: Mapping[str, float],
        shape: Shape,
        found: Structure,
    ) -> Explanation:
        graph = self.graph
        owner = {str(key): graph.policies[graph.owners[key]].step for key in graph.tasks}
        cost: dict[str, float] = {}
        for key, s in seconds.items():
            cost[owner[key]] = cost.get(owner[key], 0.0) + s
        bound = diagnose_structure(found)
        knobs = tuning_knobs(self.config)
        model = Model(segments, seconds, owner, found, self.measurements, self.overheads, knobs, self.way)
        used = model.overhead("processes")
        causes: dict[str, tuple[Cause, ...]] = {}
        for step in sorted(cost, key=lambda name: -cost[name]):
            own = [bound.cause] if bound is not None and step in bound.steps else []
            if step in self.measurements:
                others = diagnose(self.measurements[step], overhead=used, segment=mean_seconds.get(step))
                own += [c for c in others if not own or c.kind != "none"]
            if own:
                causes[step] = tuple(own)
        steps = tuple(
            Explained(step, shape.n_tasks.get(step, 0), cost[step], cost[step] / found.work if found.work else 0.0,
                      some, self.measurements.get(step))
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


def _silent(message: str) -> None:
    """Report no progress."""
