"""Why a run was not faster: the guilty step, or chain of steps, the kind of cause, and what it costs.

Every cause is a change of the measured run that a replay shows to save time; they are found in
:mod:`pipeline.experiments.comparison.judge`. The one that saves most names the guilty step; a step that only suffers
saves nothing, however long it takes. No other back end is evidence; serial's times of the same tasks are the measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.trace.lanes import lanes
from pipeline.trace.trace import Trace

__all__ = ["KINDS", "LEAST_GAIN", "LEAST_ROUNDS", "Cause", "Kind", "RunFacts", "guilty"]

Kind = Literal[
    "gil", "lock", "disk", "stopped worker", "own threads", "few cores", "machine", "worker threads", "memory",
    "page faults", "tiny tasks", "transfer", "long task", "few tasks", "limit", "chain", "waiting", "first calls",
    "outputs", "start-up", "lost worker", "none",
]  # fmt: skip
KINDS: tuple[str, ...] = Kind.__args__  # type: ignore[attr-defined]

LEAST_GAIN = 0.10
"""Share of the elapsed time that a cause must cost to be named: smaller ones change from run to run."""

LEAST_ROUNDS = 2 / 3
"""Share of the rounds in which it must cost so much."""


@dataclass(frozen=True)
class Cause:
    """Why a run was not faster.

    Parameters
    ----------
    kind : which of :data:`KINDS`
    steps : the guilty step; of a chain its steps in order; empty: the run as a whole
    gain : share of the elapsed time that the run would save without it
    after : seconds that the run would take without it, on the cores that there are; what advice can hope for
    numbers : the evidence, by name: seconds, bytes, ratios
    """

    kind: Kind
    steps: tuple[str, ...] = ()
    gain: float = 0.0
    after: float = 0.0
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> str:
        """Return the guilty step, the first of a chain; empty if there is none."""
        return self.steps[0] if self.steps else ""


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run besides its schedule.

    Parameters
    ----------
    in_threads : its workers are threads of one process, or of a few (of Dask, where they are named ``worker/thread``)
    n_cores : of the machine
    beside : CPU seconds of everything but the tasks: of the parent, the scheduler, the workers' own threads
    start_up, serial_start_up : seconds until the workers were warm, here and of serial
    gaps : a worker was lost
    """

    in_threads: bool = False
    n_cores: int = 1
    beside: float = 0.0
    start_up: float = 0.0
    serial_start_up: float = 0.0
    gaps: bool = False

    @classmethod
    def of(cls, trace: Trace, *, n_cores: int, start_up: float, serial_start_up: float) -> RunFacts:
        """Return the facts of a run."""
        cpu = trace.notes.get("cpu", {})
        return cls(
            in_threads="workers" not in cpu or any("/" in name for some in lanes(trace) for name in some),
            n_cores=n_cores,
            beside=max(0.0, sum(cpu.values())),
            start_up=start_up,
            serial_start_up=serial_start_up,
            gaps=bool(trace.notes.get("gaps")),
        )


def guilty(rounds: Sequence[Sequence[Cause]], middle: int) -> Cause:
    """Return the cause that saves most in the middle run and is large in two of three rounds; else the kind ``none``.

    Parameters
    ----------
    rounds : the causes of each round
    """
    for cause in sorted(rounds[middle], key=lambda c: (c.kind == "machine", -c.gain)):
        large = [any(c.kind == cause.kind and c.gain >= LEAST_GAIN for c in found) for found in rounds]
        if cause.gain >= LEAST_GAIN and sum(large) >= LEAST_ROUNDS * len(rounds):
            return cause
    return Cause("none")
