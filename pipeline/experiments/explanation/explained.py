"""The noun that an explanation gives: what was measured of each step, the causes, and what to change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.experiments.explanation.diagnosis import Bound, Cause, Overhead, Structure
from pipeline.experiments.explanation.measurements import StepMeasurements
from pipeline.experiments.explanation.recommendations import Change
from pipeline.units import count_text, duration_text

__all__ = ["Explained", "Explanation"]


@dataclass(frozen=True)
class Explained:
    """One step that was probed, or whose tasks bound the speedup.

    Parameters
    ----------
    seconds, share : of its tasks in the serial run, and of all tasks
    causes : at least one, the main one first
    measurements : None: it was not probed
    """

    step: str
    n_tasks: int
    seconds: float
    share: float
    causes: tuple[Cause, ...]
    measurements: StepMeasurements | None = None

    @property
    def cause(self) -> Cause:
        """The main one."""
        return self.causes[0]

    def to_dict(self) -> dict[str, Any]:
        """In the types that JSON has."""
        return {
            "step": self.step,
            "n_tasks": self.n_tasks,
            "seconds": self.seconds,
            "share": self.share,
            "cause": self.cause.kind,
            "causes": [asdict(cause) for cause in self.causes],
            "readings": self.measurements.to_dict() if self.measurements is not None else None,
        }


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a file is not as many times faster as it has workers, told apart by experiment.

    Parameters
    ----------
    n_tasks, n_ran : of the graph (without what must not run), and of those the tasks that the serial run reached
    n_workers, n_cores : of the probes, of this machine
    budget, elapsed : seconds that it might take, and took
    structure : what the graph allows
    bound : the steps whose one long task, or whose chain, leaves workers without work; None: nothing does
    steps : most expensive first
    not_probed : step -> why not
    changes : what to change, the most seconds saved first
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
        """Whether the serial run reached every task."""
        return self.n_ran == self.n_tasks

    @property
    def main(self) -> Explained | None:
        """The step to speak of: the one whose change saves most, else the most expensive one that has a cause."""
        by_name = {one.step: one for one in self.steps}
        best = self.changes[0] if self.changes else None
        if best is not None and best.saves > 0 and best.step in by_name:
            return by_name[best.step]
        if self.bound is not None:
            return by_name.get(self.bound.steps[0])
        named = [one for one in self.steps if one.cause.kind not in ("none", "unclear")]
        return next(iter(named or self.steps), None)

    @property
    def verdict(self) -> str:
        """One sentence: the step, the cause with its numbers, what to change, what that should save."""
        main = self.main
        if main is None:
            return "nothing was probed: see why above, or give it more time: --budget"
        best = next((change for change in self.changes if change.step == main.step), None)
        cause = next((cause for cause in main.causes if best is not None and cause.kind == best.kind), main.cause)
        said = f"`{main.step}` ({main.share:.0%} of {duration_text(self.structure.work)}) {cause.text}"
        if self.bound is not None and cause == self.bound.cause:
            said = self.bound.text
        if best is None:
            return f"{said}. {_nothing_to_change(cause)}"
        if best.before is None or best.after is None:
            return f"{said}. Change: {best.what}"
        gain = f"{duration_text(best.before)} -> {duration_text(best.after)} on {count_text(self.n_workers, 'worker')}"
        return f"{said}. Change: {best.what}; predicted: {gain}"

    def __getitem__(self, step: str) -> Explained:
        for one in self.steps:
            if one.step == step:
                return one
        raise KeyError(f"{step!r}: {self.not_probed.get(step, 'there is no such step')}")

    def to_dict(self) -> dict[str, Any]:
        """In the types that JSON has; seconds and bytes."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "n_tasks": self.n_tasks,
            "n_ran": self.n_ran,
            "workers": self.n_workers,
            "cores": self.n_cores,
            "budget": self.budget,
            "elapsed": self.elapsed,
            "structure": asdict(self.structure) | {"most": self.structure.most, "speedup": self.structure.speedup},
            "bound": asdict(self.bound) if self.bound is not None else None,
            "steps": [one.to_dict() for one in self.steps],
            "not_probed": dict(self.not_probed),
            "changes": [change.to_dict() for change in self.changes],
            "predicted": dict(self.predicted),
            "overheads": {name: asdict(one) for name, one in self.overheads.items()},
            "verdict": self.verdict,
        }

    def __repr__(self) -> str:
        return f"<Explanation of {self.name!r}: {self.verdict}>"


def _nothing_to_change(cause: Cause) -> str:
    if cause.kind == "none":
        return "Nothing to change"
    return "Explain it again on a quieter machine" if cause.disturbed else "No change is known to help"
