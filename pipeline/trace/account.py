"""Where the core-seconds of one back end went: all that is known of its runs, put together once for every report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.trace import costs
from pipeline.trace.critical_path import CriticalPath, PathSegment, critical_path, span
from pipeline.trace.efficiency import Factors, factors
from pipeline.trace.losses import (
    CLASSES,
    LOSSES,
    CoreTime,
    Losses,
    SerialTimes,
    inflation_interval,
    losses,
    moved,
    rectangle,
    whole_percents,
)
from pipeline.trace.replay import makespan, placement_of, replay, segments_of
from pipeline.trace.shape import Shape
from pipeline.trace.statistics import Interval
from pipeline.trace.trace import Trace

__all__ = ["Account", "Runs", "StepTimes", "account"]

MOST = 10
"""So many of the steps and tasks that cost most are told."""

MOST_STRETCHES = 1_000
"""So many stretches of the critical path go into a document, the longest; its sums are of all."""


@dataclass(frozen=True)
class Runs:
    """Which runs an account is of: the back end, the workers it was asked for, and where the traces lie."""

    label: str
    backend: str
    workers: int
    files: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Account:
    """The account of one back end; seconds and bytes; of the run in the middle, where nothing else is said.

    Parameters
    ----------
    round : number of the run in the middle, from 1
    every : the losses of each round, where serial's times are known
    inflation : the median of the rounds' inflation with its interval
    cpu_beside : CPU seconds of everything but the tasks, by where
    by_step : step -> seconds in its tasks, useful seconds, CPU seconds, seconds that its serial tasks took of CPU
    moved : step -> bytes that went to its tasks and came from them
    n_segments : what was handed to workers
    ideal : seconds of the same placement if nothing took time but the tasks; like ``span``, nan where a task has no row
    measuring : seconds that measuring one task cost
    """

    runs: Runs
    n_workers: int
    round: int
    elapsed: float
    rectangle: CoreTime
    losses: Losses | None
    every: tuple[Losses, ...]
    inflation: Interval | None
    cpu_beside: Mapping[str, float]
    factors: Factors | None
    span: float
    critical: CriticalPath
    steps: tuple[costs.StepCost, ...]
    tasks: tuple[costs.TaskCost, ...]
    by_step: Mapping[str, StepTimes]
    moved: Mapping[str, int]
    n_tasks: int
    n_segments: int
    ideal: float
    measuring: float
    clock_error: float
    gaps: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measuring_share(self) -> float:
        """Of the core-seconds, what the measuring took."""
        return self.measuring * self.n_tasks / (self.n_workers * self.elapsed) if self.elapsed else 0.0

    def to_dict(self) -> dict[str, Any]:
        """In the types that JSON has; instants in seconds since the run began."""
        by_step = self.critical.by_step()
        return {
            "case": self.runs.label,
            "backend": self.runs.backend,
            "workers": self.n_workers,
            "round": self.round,
            "trace": self.runs.files[self.round - 1] if self.runs.files else "",
            "elapsed": self.elapsed,
            "losses": self._losses(),
            "cpu_beside": dict(self.cpu_beside),
            "factors": self.factors and asdict(self.factors) | {"transfer_is_model": self.factors.transfer_is_model},
            "span": self.span,
            "critical_path": [
                {**vars(stretch), "start": stretch.start / 1e9, "stop": stretch.stop / 1e9}
                for stretch in _longest(self.critical.steps)
            ],
            "critical": {
                **{kind: self.critical.seconds(kind) for kind in ("compute", "data-wait", "core-wait")},
                "steps": dict(sorted(by_step.items(), key=lambda item: -item[1])),
            },
            "steps": [asdict(step) for step in self.steps],
            "tasks": [asdict(task) for task in self.tasks],
            "measuring": {"per_task": self.measuring, "share": self.measuring_share},
            "clock_error": self.clock_error,
        }

    def _losses(self) -> dict[str, Any]:
        if self.losses is None:
            cells = {name: self.rectangle.total(name) / 1e9 for name in CLASSES}
            shares = whole_percents(cells)
            told = {name: {"seconds": cells[name], "percent": shares[name]} for name in CLASSES}
            return {"useful": None, "inflation": None, **told}
        percents = self.losses.percents()
        told = {name: {"seconds": getattr(self.losses, name), "percent": percents[name]} for name in LOSSES}
        if self.inflation is not None:
            told["inflation"] |= {"low": self.inflation.low, "high": self.inflation.high}
        return told


@dataclass(frozen=True)
class StepTimes:
    """A step in one run, over all its tasks: seconds in them, serially, CPU seconds of both; in how many segments."""

    seconds: float
    useful: float
    cpu: float
    useful_cpu: float
    n_segments: int = 1


def _longest(stretches: Sequence[PathSegment]) -> list[PathSegment]:
    """The longest ones, in time."""
    kept = sorted(stretches, key=lambda stretch: stretch.start - stretch.stop)[:MOST_STRETCHES]
    return sorted(kept, key=lambda stretch: stretch.start)


def account(traces: Sequence[Trace], runs: Runs, *, shape: Shape, serial: SerialTimes | None = None) -> Account:
    """Put everything that is known of some runs of one back end together.

    Parameters
    ----------
    traces : one a round
    serial : what the same tasks take serially; None: unknown, then nothing is said of useful time and inflation

    Raises
    ------
    ValueError : of no traces
    """
    if not traces:
        raise ValueError("no runs have no account")
    middle = sorted(range(len(traces)), key=lambda i: traces[i].elapsed)[(len(traces) - 1) // 2]
    trace = traces[middle]
    seen = rectangle(trace)
    frame = trace.to_frame()
    seconds = dict(zip(frame["key"], frame["seconds"], strict=True))
    whole = 0 < len(seconds) == len(shape.needs)  # a report may have been lost with its worker
    ideal = math.nan
    if whole:
        segments = segments_of(trace, shape.needs)
        ideal = makespan(replay(segments, seconds, n_workers=trace.n_workers, placement=placement_of(trace)))
    times = seconds if serial is None else serial.seconds
    return Account(
        runs=runs,
        n_workers=trace.n_workers,
        round=middle + 1,
        elapsed=trace.elapsed,
        rectangle=seen,
        losses=losses(trace, serial) if serial else None,
        every=tuple(losses(each, serial) for each in traces) if serial else (),
        inflation=inflation_interval(traces, serial) if serial else None,
        cpu_beside=dict(trace.notes.get("cpu", {})),
        factors=factors(trace, serial, ideal) if serial and whole else None,
        span=span(shape.needs, times) if whole else math.nan,
        critical=critical_path(trace, shape.needs),
        steps=tuple(costs.steps(trace, serial, most=MOST)),
        tasks=tuple(costs.tasks(trace, serial, most=MOST)),
        by_step=_by_step(frame, shape, serial),
        moved=moved(trace),
        n_tasks=trace.tasks.num_rows,
        n_segments=int(trace.notes.get("n_segments", frame["segment"].nunique())),
        ideal=ideal,
        measuring=float(trace.notes.get("measuring", 0.0)),
        clock_error=float(trace.notes.get("clock_error", 0.0)),
        gaps=bool(trace.notes.get("gaps")),
        notes=trace.notes,
    )


def _by_step(frame: Any, shape: Shape, serial: SerialTimes | None) -> dict[str, StepTimes]:
    step = frame["step"].map(lambda copy: shape.steps.get(copy, copy))
    once = ~frame["key"].duplicated()
    found = {}
    for name, rows in frame.groupby(step, sort=False):
        keys = rows["key"][once[rows.index]]
        useful, useful_cpu = (
            (sum(serial.seconds[key] for key in keys), sum(serial.cpu[key] for key in keys)) if serial else (0.0, 0.0)
        )
        found[str(name)] = StepTimes(
            seconds=float(rows["seconds"].sum()),
            useful=useful,
            cpu=float(rows["cpu"].sum()),
            useful_cpu=useful_cpu,
            n_segments=int(rows["segment"].nunique()),
        )
    return found
