"""Combine all analyses of one back end's runs (losses, factors, critical path, costs) in one record for reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.trace import costs
from pipeline.trace.critical_path import PATH_KINDS, CriticalPath, PathSegment, critical_path, span
from pipeline.trace.efficiency import Factors, factors
from pipeline.trace.lanes import placement_of
from pipeline.trace.losses import (
    CLASSES,
    LOSSES,
    CoreTime,
    LimitWait,
    Losses,
    SerialTimes,
    bytes_moved,
    core_time,
    inflation_interval,
    limit_waits,
    losses,
    whole_percents,
)
from pipeline.trace.replay import makespan, place_order, replay, segments_of
from pipeline.trace.shape import Shape
from pipeline.trace.statistics import Interval
from pipeline.trace.trace import Trace
from pipeline.trace.transfers import Transfers, transfers

__all__ = ["Account", "Runs", "StepTimes", "account"]

MOST = 10
"""Number of steps and of tasks that are listed, those that took longest."""

MOST_PATH_SEGMENTS = 1_000
"""Number of segments of the critical path that go into a report, the longest; its sums are over all."""


@dataclass(frozen=True)
class Runs:
    """The runs that an account describes.

    Parameters
    ----------
    label : name of the case in a comparison
    workers : the number asked for
    files : paths of the traces, relative to the report
    """

    label: str
    backend: str
    workers: int
    files: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Account:
    """All analyses of one back end's runs; of the run with the median elapsed time, where not said otherwise.

    Parameters
    ----------
    n_workers, elapsed : workers; seconds
    round : number of the median run, from 1
    core_time : workers x elapsed, divided into classes
    losses : None without serial times; then ``factors`` is None, too
    every : the losses of each round; empty without serial times
    inflation : median of all rounds' inflation with its interval
    cpu_beside : CPU seconds outside tasks: process -> seconds
    span : seconds of the longest path through the graph; nan if the trace lacks a task
    steps, tasks : those that took longest
    by_step : step -> its times
    moved : step -> bytes sent to and from workers
    n_tasks, n_segments : attempts of tasks; segments
    ideal : seconds of a replay with the same placement; nan if the trace lacks a task
    measuring : seconds that measuring one task takes
    clock_error : seconds by which instants of different machines may differ
    gaps : whether a worker was lost, so that the Trace has gaps
    transfers : None if nothing went through shared memory
    limits : limit -> what it cost
    """

    runs: Runs
    n_workers: int
    round: int
    elapsed: float
    core_time: CoreTime
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
    transfers: Transfers | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, LimitWait] = field(default_factory=dict)

    @property
    def measuring_share(self) -> float:
        """Share of the core-seconds that measuring took."""
        return self.measuring * self.n_tasks / (self.n_workers * self.elapsed) if self.elapsed else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the account in JSON types; instants in seconds since the run began."""
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
                {**vars(part), "start": part.start / 1e9, "stop": part.stop / 1e9}
                for part in _longest(self.critical.steps)
            ],
            "limits": {name: asdict(wait) for name, wait in self.limits.items()},
            "critical": {
                **{kind: self.critical.seconds(kind) for kind in PATH_KINDS},
                "steps": dict(sorted(by_step.items(), key=lambda item: -item[1])),
            },
            "steps": [asdict(step) for step in self.steps],
            "tasks": [asdict(task) for task in self.tasks],
            "measuring": {"per_task": self.measuring, "share": self.measuring_share},
            "clock_error": self.clock_error,
            "transfers": self.transfers and asdict(self.transfers),
        }

    def _losses(self) -> dict[str, Any]:
        if self.losses is None:
            cells = {name: self.core_time.total(name) / 1e9 for name in CLASSES}
            shares = whole_percents(cells)
            names = [name for name in CLASSES if name != "limit" or self.limits]
            known = {name: {"seconds": cells[name], "percent": shares[name]} for name in names}
            return {"useful": None, "inflation": None, **known}
        percents = self.losses.percents()
        names = [name for name in LOSSES if name != "limit" or self.limits]
        found = {name: {"seconds": getattr(self.losses, name), "percent": percents[name]} for name in names}
        if self.inflation is not None:
            found["inflation"] |= {"low": self.inflation.low, "high": self.inflation.high}
        return found


@dataclass(frozen=True)
class StepTimes:
    """The times of a step in one run, over all its tasks.

    Parameters
    ----------
    seconds, cpu : seconds in its tasks; CPU seconds of them
    useful, useful_cpu : the same in a serial run; 0 if unknown
    n_segments : number of segments that its tasks were in
    n_tasks : number of its tasks
    """

    seconds: float
    useful: float
    cpu: float
    useful_cpu: float
    n_segments: int = 1
    n_tasks: int = 1


def _longest(path: Sequence[PathSegment]) -> list[PathSegment]:
    """Return the longest segments of a path, in order of time."""
    kept = sorted(path, key=lambda part: part.start - part.stop)[:MOST_PATH_SEGMENTS]
    return sorted(kept, key=lambda part: part.start)


def account(traces: Sequence[Trace], runs: Runs, *, shape: Shape, serial: SerialTimes | None = None) -> Account:
    """Analyse the runs of one back end.

    Parameters
    ----------
    traces : one for each round
    serial : times of the same tasks in serial runs; None: unknown, so that task time is not divided further

    Raises
    ------
    ValueError : if there is no trace
    """
    if not traces:
        raise ValueError("there are no runs to analyse")
    middle = sorted(range(len(traces)), key=lambda i: traces[i].elapsed)[(len(traces) - 1) // 2]
    trace = traces[middle]
    frame = trace.to_frame()
    seconds = dict(zip(frame["key"], frame["seconds"], strict=True))
    whole = 0 < len(seconds) == len(shape.needs)  # a worker that was lost may have had tasks without a row
    ideal = math.nan
    if whole:
        segments = segments_of(trace, shape.needs, shape.uses)
        after = place_order(trace, segments, shape.limits)
        replayed = replay(segments, seconds, n_workers=trace.n_workers, placement=placement_of(trace), after=after)
        ideal = makespan(replayed)
    times = seconds if serial is None else serial.seconds
    return Account(
        runs=runs,
        n_workers=trace.n_workers,
        round=middle + 1,
        elapsed=trace.elapsed,
        core_time=core_time(trace),
        losses=losses(trace, serial) if serial else None,
        every=tuple(losses(each, serial) for each in traces) if serial else (),
        inflation=inflation_interval(traces, serial) if serial else None,
        cpu_beside=dict(trace.notes.get("cpu", {})),
        factors=factors(trace, serial, ideal) if serial and whole else None,
        span=span(shape.needs, times) if whole else math.nan,
        critical=critical_path(trace, shape.needs, shape.uses),
        limits=limit_waits(trace),
        steps=tuple(costs.steps(trace, serial, most=MOST)),
        tasks=tuple(costs.tasks(trace, serial, most=MOST)),
        by_step=_by_step(frame, shape, serial),
        moved=bytes_moved(trace),
        n_tasks=trace.tasks.num_rows,
        n_segments=int(trace.notes.get("n_segments", frame["segment"].nunique())),
        ideal=ideal,
        measuring=float(trace.notes.get("measuring", 0.0)),
        clock_error=float(trace.notes.get("clock_error", 0.0)),
        gaps=bool(trace.notes.get("gaps")),
        transfers=transfers(trace),
        notes=trace.notes,
    )


def _by_step(frame: Any, shape: Shape, serial: SerialTimes | None) -> dict[str, StepTimes]:
    step = frame["step"].map(lambda instance: shape.steps.get(instance, instance))
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
            n_tasks=len(keys),
        )
    return found
