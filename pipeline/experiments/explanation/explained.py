"""The result: what was measured of each step, its causes, and what to change. Its sentences are made in `report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.experiments.explanation.diagnosis import Bound, Cause, Overhead, Structure
from pipeline.experiments.explanation.measurements import StepMeasurements
from pipeline.experiments.explanation.recommendations import Change

__all__ = ["Explained", "Explanation"]


@dataclass(frozen=True)
class Explained:
    """One step that was probed, or whose tasks bound the speedup.

    Parameters
    ----------
    seconds, share : time of its tasks in the serial run, and its share of the time of all tasks
    causes : at least one, the main one first
    measurements : None if it was not probed
    """

    step: str
    n_tasks: int
    seconds: float
    share: float
    causes: tuple[Cause, ...]
    measurements: StepMeasurements | None = None

    @property
    def cause(self) -> Cause:
        """Return the main cause."""
        return self.causes[0]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why n workers are not n times as fast, found by experiment.

    :class:`pipeline.report.explain_cause_text.ExplanationReport` adds the sentences.

    Parameters
    ----------
    n_tasks, n_ran : tasks of the graph without those that must not run, and those that the serial run reached
    n_workers, n_cores : of the probes, of this machine
    budget, elapsed : seconds that it was allowed to take, and took
    structure : work, span and schedule of the graph
    bound : the steps whose one long task, or whose chain, leaves workers without work; None if there is none
    steps : most expensive first
    not_probed : step -> why it was not probed
    changes : what to change, ordered by the seconds that it saves
    predicted : seconds on n workers, by ``threads`` and ``processes``
    overheads : of an empty task, by back end
    """

    name: str
    fingerprint: str
    n_tasks: int
    n_ran: int
    n_workers: int
    n_cores: int
    budget: float
    elapsed: float
    structure: Structure
    bound: Bound | None
    steps: tuple[Explained, ...]
    not_probed: Mapping[str, str]
    changes: tuple[Change, ...]
    predicted: Mapping[str, float]
    overheads: Mapping[str, Overhead] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Return whether the serial run reached every task."""
        return self.n_ran == self.n_tasks

    @property
    def main(self) -> Explained | None:
        """Return the step whose change saves most, else the most expensive one that has a cause."""
        by_name = {one.step: one for one in self.steps}
        best = self.changes[0] if self.changes else None
        if best is not None and best.saves > 0 and best.step in by_name:
            return by_name[best.step]
        if self.bound is not None:
            return by_name.get(self.bound.steps[0])
        named = [one for one in self.steps if one.cause.kind not in ("none", "unclear")]
        return next(iter(named or self.steps), None)

    def __getitem__(self, step: str) -> Explained:
        for one in self.steps:
            if one.step == step:
                return one
        raise KeyError(f"{step!r}: {self.not_probed.get(step, 'there is no such step')}")
