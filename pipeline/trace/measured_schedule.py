"""A measured run as a schedule that can be replayed with something changed: how long would it have taken without it?

The tasks of each segment, what the segment cost beside them, and which segments it needs are taken from the Trace. A
replay hands the segments to the workers in the order of the run: a free worker gets the first ready one. Changes are
given as seconds that each segment is shorter, or as pieces that segments are split into.

The cost of a segment beside its tasks is *moving* its values where they are larger than what fits into a pipe, and else
*overhead*: it would be the same for the smallest values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.graph.segments import Segment
from pipeline.trace.lanes import lanes
from pipeline.trace.losses import SerialTimes
from pipeline.trace.replay import ReplaySegment, replay, scheduled
from pipeline.trace.shape import Shape
from pipeline.trace.trace import Trace

__all__ = ["SMALL", "MeasuredSchedule", "Tasks"]

SMALL = 65_536
"""Bytes that fit into a pipe: moving them costs no more than moving nothing."""

_LATE = 3  # times the usual wait for being handed out, from which a segment was queued at another worker
_HANDING_ON = 1e-3  # seconds in which a task makes no large value

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tasks:
    """The last attempt of each task, in order of start; times in seconds, sizes in bytes.

    Parameters
    ----------
    keys : as text
    steps : names in the file
    step, segment, lane : numbers: of ``steps``, of the segment in the order in which the run began them, of the lane
    useful, useful_cpu, useful_delay, useful_beside : seconds of the same task in a serial run: all, on its core,
        without a core, and CPU seconds of threads and programs that it starts
    """

    keys: Sequence[str]
    steps: Sequence[str]
    step: _Ints
    segment: _Ints
    lane: _Ints
    start: _Floats
    stop: _Floats
    useful: _Floats
    useful_cpu: _Floats
    useful_delay: _Floats
    useful_beside: _Floats
    cpu: _Floats
    delay: _Floats
    switches: _Floats
    faults: _Floats
    disk: _Floats
    cpu_beside: _Floats
    nbytes: _Floats

    @property
    def seconds(self) -> _Floats:
        found: _Floats = np.subtract(self.stop, self.start)
        return found

    @property
    def waited(self) -> _Floats:
        """Seconds for which the thread was neither on a core nor ready to be."""
        return np.maximum(self.seconds - self.cpu - self.delay, 0.0)

    @property
    def useful_waited(self) -> _Floats:
        """The same in a serial run."""
        return np.maximum(self.useful - self.useful_cpu - self.useful_delay, 0.0)

    @property
    def n_steps(self) -> int:
        return len(self.steps)

    def by_step(self, values: _Floats) -> _Floats:
        """Return the sums of a column for each step."""
        found: _Floats = np.bincount(self.step, values, minlength=self.n_steps).astype(float)
        return found


@dataclass(frozen=True, eq=False)
class MeasuredSchedule:
    """The segments of one run.

    Parameters
    ----------
    tasks : those that ran
    task_needs, needs : for each task the tasks that it needs, for each segment the segments
    owner : for each segment the number of the step of its first task, which sets how large the segment is
    overhead, moving : seconds that each segment cost beside its tasks
    moved_by : segment -> for each step whose values it moved, the seconds; they add up to ``moving``
    n_workers, n_cores : of the run, of its machine
    closing : seconds from the last result to the end of the run
    uses, limits : for each segment the limits that it uses; name -> how many segments may use it at once
    """

    tasks: Tasks
    task_needs: Sequence[Sequence[int]]
    needs: Sequence[Collection[int]]
    owner: _Ints
    overhead: _Floats
    moving: _Floats
    moved_by: Mapping[int, Mapping[int, float]]
    n_workers: int
    closing: float
    elapsed: float
    uses: Sequence[tuple[str, ...]] = ()
    limits: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, trace: Trace, shape: Shape, serial: SerialTimes) -> MeasuredSchedule:
        """Return the schedule of a run in which every task ran; O(n log n) in its rows.

        Raises
        ------
        ValueError : if the tasks of the run are not those of the graph
        """
        table = trace.tasks
        last = {key: i for i, key in enumerate(table["key"].to_pylist())}
        if last.keys() != shape.needs.keys():
            raise ValueError("the tasks of the run are not those of the graph")
        rows = np.fromiter(last.values(), np.intp, len(last))
        rows.sort()
        tasks = _tasks(trace, rows, shape, serial)
        return _schedule(trace, rows, tasks, shape)

    @classmethod
    def planned(
        cls, segments: Sequence[Segment | ReplaySegment], seconds: Mapping[str, float], shape: Shape, n_workers: int
    ) -> MeasuredSchedule:
        """Return the schedule of a run that was not made: with these task times, where nothing else takes time."""
        trace = replay(segments, seconds, n_workers=n_workers, limits=shape.limits)
        return cls.of(trace, shape, SerialTimes(seconds, seconds, sum(seconds.values())))

    @property
    def n_segments(self) -> int:
        return len(self.needs)

    @cached_property
    def in_tasks(self) -> _Floats:
        """Seconds of the tasks of each segment."""
        return self.per_segment(self.tasks.seconds)

    @cached_property
    def lengths(self) -> _Floats:
        """Seconds that each segment keeps a worker."""
        return self.in_tasks + self.overhead + self.moving

    @cached_property
    def replayed(self) -> float:
        """Seconds of the run as a replay has them; less than ``elapsed`` where the placement was not the best."""
        return self.without()

    def per_segment(self, values: _Floats) -> _Floats:
        """Return the sums of a column of the tasks for each segment."""
        found: _Floats = np.bincount(self.tasks.segment, values, minlength=self.n_segments).astype(float)
        return found

    def without(
        self,
        less: _Floats | float = 0.0,
        *,
        pieces: Mapping[int, Sequence[float]] | None = None,
        n_workers: int = 0,
        longest_first: bool = False,
        unlimited: Collection[str] = (),
    ) -> float:
        """Return the seconds of the run with something taken away.

        Parameters
        ----------
        less : seconds by which each segment is shorter
        pieces : segment -> the seconds of parts of it that become segments of their own
        n_workers : instead of the measured number
        longest_first : a free worker gets the ready segment with the longest path after it, not the lowest
        unlimited : limits that are left out
        """
        lengths = np.maximum(self.lengths - less, 0.0)
        needs: list[Collection[int]] = list(self.needs)
        limits = {name: n for name, n in self.limits.items() if name not in unlimited}
        uses = list(self.uses) if limits else []
        if pieces:
            uses = [names for g, names in enumerate(uses) for _ in range(1 + len(pieces.get(g, ())))]
            needs, lengths = _split(needs, lengths, pieces)
        if longest_first:
            needs, lengths, order = _by_path_after(needs, lengths)
            uses = [uses[g] for g in order] if uses else []
        works, n = lengths > 0, n_workers or self.n_workers
        return scheduled(needs, lengths.tolist(), works.tolist(), n, uses=uses, limits=limits) + self.closing

    @cached_property
    def path(self) -> tuple[int, ...]:
        """The tasks of the longest path, in order: their positions."""
        tasks = self.tasks
        seconds = tasks.seconds
        n = len(tasks.keys)
        ends, before = np.zeros(n), [-1] * n
        for i, needed in enumerate(self.task_needs):  # in the order of their start
            for other in needed:
                if before[i] < 0 or ends[other] > ends[before[i]]:
                    before[i] = other
            ends[i] = seconds[i] + (ends[before[i]] if before[i] >= 0 else 0.0)
        found = [int(ends.argmax())] if n else []
        while found and before[found[-1]] >= 0:
            found.append(before[found[-1]])
        return tuple(reversed(found))


def _tasks(trace: Trace, rows: npt.NDArray[np.intp], shape: Shape, serial: SerialTimes) -> Tasks:
    table = trace.tasks.take(rows)
    keys = table["key"].to_pylist()
    names = [shape.steps.get(name, name) for name in table["step"].to_pylist()]
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    lane = {name: i for i, some in enumerate(lanes(trace)) for name in some}
    segments = table["segment"].to_pylist()
    order = {number: i for i, number in enumerate(dict.fromkeys(segments))}  # in which the run began them
    missing = next((key for key in keys if key not in serial.seconds), None)
    if missing is not None:
        raise ValueError(f"the serial run has no time for task {missing}: it ran another graph")

    def seconds(name: str) -> _Floats:
        found: _Floats = table[name].to_numpy().astype(float) / 1e9
        return found

    return Tasks(
        keys=keys,
        steps=list(number),
        step=np.array([number[name] for name in names], dtype=np.int64),
        segment=np.array([order[number] for number in segments], dtype=np.int64),
        lane=np.array([lane[name] for name in table["worker"].to_pylist()], dtype=np.int64),
        start=seconds("start"),
        stop=seconds("stop"),
        useful=np.array([serial.seconds[key] for key in keys]),
        useful_cpu=np.array([serial.cpu[key] for key in keys]),
        useful_delay=np.array([serial.delay.get(key, 0.0) for key in keys]),
        useful_beside=np.array([serial.cpu_beside.get(key, 0.0) for key in keys]),
        cpu=seconds("cpu"),
        delay=seconds("delay"),
        switches=table["switches"].to_numpy().astype(float),
        faults=table["faults"].to_numpy().astype(float),
        disk=table["disk"].to_numpy().astype(float),
        cpu_beside=seconds("cpu_beside"),
        nbytes=table["bytes_out"].to_numpy().astype(float),
    )


@dataclass(frozen=True)
class _Around:
    """What a segment cost its worker beside its tasks, in seconds: waiting to be handed out, taking in, sending."""

    handed: float
    runtime: float
    into: float
    out: float

    def handed_soon(self, most: float) -> _Around:
        """Return it with a wait of at most so many seconds: a longer one is of a segment that was given to another."""
        return replace(self, handed=min(self.handed, most))


def _around(trace: Trace, rows: npt.NDArray[np.intp], tasks: Tasks) -> dict[int, _Around]:
    """Return the costs of each segment.

    A worker may take in a segment while it runs another one, or send results while the next one runs: only the time
    counts in which it could have run something else.
    """
    table = trace.tasks.take(rows)
    at = {name: table[name].to_numpy() / 1e9 for name in ("ready", "received", "loaded", "opened", "packed", "sent")}
    at["ready"] = np.maximum(at["ready"], table["granted"].to_numpy() / 1e9)  # waiting for a limit costs no worker
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    by_lane: dict[int, list[int]] = {}
    for i, (g, lane) in enumerate(zip(tasks.segment.tolist(), tasks.lane.tolist(), strict=True)):
        if g not in first:
            first[g] = i
            by_lane.setdefault(lane, []).append(g)
        last[g] = i
    in_tasks = np.bincount(tasks.segment, tasks.stop - tasks.start)
    found = {}
    for segments in by_lane.values():
        free = 0.0
        for k, g in enumerate(segments):
            a, b = first[g], last[g]
            start, stop = tasks.start[a], tasks.stop[b]
            received, loaded, opened = (min(start, max(at[name][a], free)) for name in ("received", "loaded", "opened"))
            handed = max(0.0, received - max(at["ready"][a], free))
            until = tasks.start[first[segments[k + 1]]] if k + 1 < len(segments) else at["sent"][b]
            sent = max(stop, min(at["sent"][b], until))
            gaps = max(0.0, stop - start - float(in_tasks[g]))
            found[g] = _Around(
                handed, max(0.0, opened - loaded) + gaps, (loaded - received) + (start - opened), sent - stop
            )
            free = sent
    return found


def _schedule(trace: Trace, rows: npt.NDArray[np.intp], tasks: Tasks, shape: Shape) -> MeasuredSchedule:
    table = trace.tasks.take(rows)
    of = {key: i for i, key in enumerate(tasks.keys)}
    task_needs = [[of[needed] for needed in shape.needs[key]] for key in tasks.keys]
    n = int(tasks.segment.max(initial=-1)) + 1
    segment = tasks.segment.tolist()
    origin = _origins(tasks, task_needs)
    values: list[dict[int, float]] = [{} for _ in range(n)]  # segment -> step -> bytes that it got from its tasks
    needs: list[set[int]] = [set() for _ in range(n)]
    for g, needed in zip(segment, task_needs, strict=True):
        for made in needed:
            if segment[made] != g:
                needs[g].add(segment[made])
                values[g][origin[made]] = values[g].get(origin[made], 0.0) + float(tasks.nbytes[made])
    sizes = [table[name].to_numpy() for name in ("bytes_in", "bytes_sent", "shared_in", "shared_sent")]
    nbytes = np.bincount(tasks.segment, np.sum(sizes, axis=0), minlength=n)
    overhead, moving, owner = np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64)
    owner[segment[::-1]] = tasks.step[::-1]  # the first task of each is assigned last
    sender = dict(zip(segment, origin, strict=True))  # the last task of each is assigned last
    moved_by: dict[int, dict[int, float]] = {}
    around_each = _around(trace, rows, tasks)
    usual = float(np.median([around.handed for around in around_each.values()] or [0.0]))
    for g, around in around_each.items():
        if max(nbytes[g], sum(values[g].values())) < SMALL:  # values may be copied within one process, too
            around = around.handed_soon(_LATE * usual)
            overhead[g] = around.handed + around.runtime + around.into + around.out
            continue
        if values[g]:  # its worker had to wait for what is moved, wherever that was packed and sent
            around = replace(around, handed=0.0, into=around.into + around.handed)
        else:
            around = around.handed_soon(_LATE * usual)
        overhead[g], moving[g] = around.handed + around.runtime, around.into + around.out
        moved_by[g] = _moved_by(around, values[g], sender[g])
    return MeasuredSchedule(
        tasks=tasks,
        task_needs=task_needs,
        needs=[sorted(needed) for needed in needs],
        owner=owner,
        overhead=overhead,
        moving=moving,
        moved_by=moved_by,
        n_workers=max(trace.n_workers, int(tasks.lane.max(initial=0)) + 1),
        closing=max(0.0, trace.elapsed - float(table["sent"].to_numpy().max(initial=0)) / 1e9),
        elapsed=trace.elapsed,
        uses=_uses(tasks, shape, n) if shape.limits else (),
        limits=shape.limits,
    )


def _uses(tasks: Tasks, shape: Shape, n: int) -> list[tuple[str, ...]]:
    """Return the limits that each segment uses."""
    found: list[set[str]] = [set() for _ in range(n)]
    for key, g in zip(tasks.keys, tasks.segment.tolist(), strict=True):
        found[g].update(shape.uses.get(shape.owners[key], ()))
    return [tuple(sorted(names)) for names in found]


def _origins(tasks: Tasks, task_needs: Sequence[Sequence[int]]) -> list[int]:
    """Return for each task the step whose values its result consists of: its own, unless it only hands on."""
    found: list[int] = tasks.step.tolist()
    for i, needed in enumerate(task_needs):  # in the order of their start
        if needed and tasks.useful[i] < _HANDING_ON:
            nbytes = tasks.nbytes[list(needed)]
            if tasks.nbytes[i] >= SMALL and nbytes.sum() >= 0.9 * tasks.nbytes[i]:
                found[i] = found[needed[int(nbytes.argmax())]]
    return found


def _moved_by(around: _Around, values: Mapping[int, float], own: int) -> dict[int, float]:
    """Return the seconds of moving by the steps whose values were moved, in proportion to their bytes."""
    found = {own: around.out}
    whole = sum(values.values())
    for step, nbytes in (values if whole else {own: 1.0}).items():
        found[step] = found.get(step, 0.0) + around.into * nbytes / (whole or 1.0)
    return found


def _split(
    needs: Sequence[Collection[int]], lengths: _Floats, pieces: Mapping[int, Sequence[float]]
) -> tuple[list[Collection[int]], _Floats]:
    """Return needs and lengths with parts of segments as segments of their own; what is left of one needs the same."""
    numbers: list[range] = []
    count = 0
    for g in range(len(needs)):
        size = 1 + len(pieces.get(g, ()))
        numbers.append(range(count, count + size))
        count += size
    found_needs: list[Collection[int]] = []
    found: list[float] = []
    for g, needed in enumerate(needs):
        renamed = [piece for other in needed for piece in numbers[other]]
        parts = pieces.get(g, ())
        for seconds in (max(0.0, lengths[g] - sum(parts)), *parts):
            found_needs.append(renamed)
            found.append(seconds)
    return found_needs, np.array(found)


def _by_path_after(
    needs: Sequence[Collection[int]], lengths: _Floats
) -> tuple[list[Collection[int]], _Floats, list[int]]:
    """Return needs and lengths, numbered by the length of the longest path from each segment to the end; that order."""
    after = lengths.copy()
    for g in range(len(needs) - 1, -1, -1):  # those that it needs have lower numbers
        for other in needs[g]:
            after[other] = max(after[other], lengths[other] + after[g])
    order = np.argsort(-after, kind="stable")
    number = np.empty(len(needs), dtype=np.int64)
    number[order] = np.arange(len(needs))
    return [[int(number[other]) for other in needs[g]] for g in order.tolist()], lengths[order], order.tolist()
