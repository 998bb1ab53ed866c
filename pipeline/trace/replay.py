"""Replay the segments of a run with given task times, in which nothing but the tasks takes time.

With the placement of a measured run, each worker runs its segments in the order of that run; without one, the scheduler
decides, as in a real run. The result is a Trace, so that all analyses of measured runs apply to it.

Times are whole nanoseconds, so that a replay on one worker takes exactly the sum of its tasks.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline.graph.graph import Key
from pipeline.graph.nodes import is_constant
from pipeline.graph.scheduler import Scheduler
from pipeline.graph.segments import Segment
from pipeline.trace.trace import Record, Trace
from pipeline.units import count_text

__all__ = [
    "Placement",
    "ReplaySegment",
    "makespan",
    "place_order",
    "replay",
    "scheduled",
    "segments_of",
]

Placement = Sequence[Sequence[int]]
"""For each worker the numbers of the segments it runs, in order."""


class ReplaySegment(NamedTuple):
    """What a replay needs to know about a segment.

    Parameters
    ----------
    number : its position among the segments
    inputs, outputs : keys of the values it needs from other segments, and of those that others need
    keys : its tasks in order, as text, without constants
    steps : the step instance of each task
    uses : names of the limits that it has a place of while it runs
    """

    number: int
    inputs: tuple[Key, ...] = ()
    outputs: tuple[Key, ...] = ()
    keys: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()

    @classmethod
    def of(cls, segment: Segment) -> ReplaySegment:
        """Return the part of ``segment`` that a replay needs."""
        tasks = [inner for inner in segment.tasks if not is_constant(inner.node)]
        keys = tuple(str(inner.key) for inner in tasks)
        steps = tuple(inner.step for inner in tasks)
        return cls(segment.number, segment.inputs, segment.outputs, keys, steps, segment.uses)


class _Run(NamedTuple):
    """A segment in a replay: its worker; when it was ready, begun, had its limits, in ns; which limit it waited for."""

    segment: int
    worker: int
    ready: int
    begin: int
    granted: int = 0
    limit: str = ""


# ---------------------------------------------------------------------------------------------------------------------
# Replaying
# ---------------------------------------------------------------------------------------------------------------------


def replay(
    segments: Sequence[Segment | ReplaySegment],
    seconds: Mapping[str, float],
    *,
    n_workers: int,
    placement: Placement | None = None,
    overhead: float = 0.0,
    limits: Mapping[str, int] | None = None,
    after: Mapping[int, Collection[int]] | None = None,
) -> Trace:
    """Return the Trace of a run in which the tasks take ``seconds``. O(tasks + edges), and a heap of ready segments.

    Parameters
    ----------
    segments : ``segments[i].number == i``; a segment without tasks (of constants) takes no time and no worker
    seconds : task's key as text -> seconds, each >= 0
    n_workers : number of workers; more if the placement has more
    placement : each worker runs its segments in this order, each as soon as its inputs are there. If the order is
        impossible (a segment needs a later one on the same worker, which had been run twice), the lowest segment that
        can run is next. None: a free worker gets the lowest ready segment, as in a run
    overhead : seconds that each segment takes before its first task; counted as runtime
    limits : name -> how many segments that use it run at once; without a placement
    after : with a placement: segment -> segments that must have ended before it begins, see :func:`place_order`

    Raises
    ------
    ValueError : if a task has no time, the placement does not fit the segments, there is no worker, or the segments
        form a cycle
    """
    played = [s if isinstance(s, ReplaySegment) else ReplaySegment.of(s) for s in segments]
    for i, one in enumerate(played):
        if one.number != i:
            raise ValueError(f"segment {one.number} is at position {i}; segments must be numbered in their order")
    if n_workers < 1:
        raise ValueError(f"got {count_text(n_workers, 'worker')}; at least one must run the tasks")
    before = round(overhead * 1e9)
    times = [[_ns(seconds, key) for key in one.keys] for one in played]
    lengths = [before + sum(each) if each else 0 for each in times]
    needs = _needs(played)
    if placement is None:
        uses = [one.uses for one in played]
        runs = _by_policy(needs, lengths, [bool(one.keys) for one in played], n_workers, uses, limits)
    else:
        for number, others in (after or {}).items():
            needs[number] |= set(others)
        runs = _by_placement(played, needs, lengths, placement)
        n_workers = max(n_workers, len(placement))
    rows = [row for run in runs for row in _rows(run, played[run.segment], times[run.segment], before)]
    elapsed = max((row.stop for row in rows), default=0) / 1e9
    notes = {"n_segments": len(played), **({"limits": dict(limits)} if limits else {})}
    return Trace.from_records(rows, elapsed=elapsed, backend="replay", n_workers=n_workers, notes=notes)


def segments_of(
    trace: Trace, needs: Mapping[str, Sequence[str]], uses: Mapping[str, tuple[str, ...]] | None = None
) -> list[ReplaySegment]:
    """Return the segments of a measured run, as :func:`replay` takes them; O(tasks + edges).

    Parameters
    ----------
    trace : of a run in which every task ran; where a task ran more than once, its last row counts
    needs : task's key as text -> keys of the tasks it needs
    uses : step instance -> names of the limits that its tasks use

    Returns
    -------
    Item ``i`` is the segment with the number ``i``. Numbers without a task (segments of constants) give empty segments.

    Raises
    ------
    ValueError : if the tasks of the Trace are not those of ``needs``
    """
    columns = (trace.tasks[name].to_pylist() for name in ("key", "segment", "step"))  # in the order of their start
    segment_of = {key: (segment, step) for key, segment, step in zip(*columns, strict=True)}
    if segment_of.keys() != needs.keys():
        raise ValueError("the tasks of the run are not those of the graph")
    keys: dict[int, list[str]] = {}
    inputs: dict[int, dict[str, None]] = {}
    outputs: dict[int, dict[str, None]] = {}
    for key, (number, _) in segment_of.items():
        keys.setdefault(number, []).append(key)
        for needed in needs[key]:
            maker, _ = segment_of[needed]
            if maker != number:
                inputs.setdefault(number, {})[needed] = None
                outputs.setdefault(maker, {})[needed] = None
    found = []
    for number in range(max(keys, default=-1) + 1):
        steps = tuple(segment_of[key][1] for key in keys.get(number, ()))
        limits = sorted({name for step in steps for name in uses.get(step, ())}) if uses else ()
        found.append(
            ReplaySegment(
                number,
                tuple(inputs.get(number, ())),
                tuple(outputs.get(number, ())),
                tuple(keys.get(number, ())),
                steps,
                tuple(limits),
            )
        )
    return found


def place_order(trace: Trace, segments: Sequence[ReplaySegment], limits: Mapping[str, int]) -> dict[int, set[int]]:
    """Return segment -> the segments whose places of limits it took over in a measured run, in their last attempts.

    Where clocks differ, a segment seems to have begun before a place was free: it then took over none.
    """
    limited = {one.number for one in segments if one.uses}
    if not limited:
        return {}
    columns = [trace.tasks[name].to_pylist() for name in ("segment", "attempt", "start", "stop")]
    spans: dict[int, tuple[int, int, int]] = {}  # attempt, start, stop
    for number, attempt, start, stop in zip(*columns, strict=True):
        if number in limited:
            last = spans.get(number, (-1, 0, 0))
            same = last[0] == attempt
            if attempt >= last[0]:
                spans[number] = (attempt, min(start, last[1]) if same else start, max(stop, last[2]) if same else stop)
    held: dict[str, list[tuple[int, int]]] = {name: [] for name in limits}  # heaps: when it ended, segment
    after: dict[int, set[int]] = {}
    for number, (_, start, stop) in sorted(spans.items(), key=lambda item: (item[1][1], item[1][2], item[0])):
        for name in segments[number].uses:
            if name not in held:
                continue
            if len(held[name]) >= limits[name]:
                ended, other = heapq.heappop(held[name])
                if ended <= start:
                    after.setdefault(number, set()).add(other)
            heapq.heappush(held[name], (stop, number))
    return after


def makespan(trace: Trace) -> float:
    """Return the seconds until the last task of a Trace ended; 0 if it has no tasks."""
    return float(trace.tasks["stop"].to_numpy().max(initial=0)) / 1e9


def _ns(seconds: Mapping[str, float], key: str) -> int:
    if key not in seconds:
        raise ValueError(f"task {key} has no time")
    return round(seconds[key] * 1e9)


def _needs(played: Sequence[ReplaySegment]) -> list[set[int]]:
    """Return for each segment the segments that compute its inputs; the context has none and is always there."""
    maker = {key: one.number for one in played for key in one.outputs}
    return [{maker[key] for key in one.inputs if key in maker} for one in played]


def scheduled(
    needs: Sequence[Collection[int]],
    seconds: Sequence[float],
    works: Sequence[bool],
    n_workers: int,
    *,
    uses: Sequence[Sequence[str]] = (),
    limits: Mapping[str, int] | None = None,
) -> float:
    """Return the seconds in which the workers run all segments, a free worker the lowest ready one, as in a run.

    Parameters
    ----------
    needs : for each segment the segments that it needs
    seconds : of each segment
    works : False: it takes no time and no worker
    uses, limits : of each segment the limits that it uses; name -> how many segments may use it at once

    >>> scheduled([(), ()], [1.0, 2.0], [True] * 2, 2, uses=[("db",)] * 2, limits={"db": 1})
    3.0
    >>> scheduled([(), (), (0,)], [1.0, 2.0, 3.0], [True] * 3, 2)
    4.0
    """
    lengths = [round(each * 1e9) for each in seconds]
    runs = _by_policy(needs, lengths, works, n_workers, uses, limits)
    return max((run.begin + lengths[run.segment] for run in runs), default=0) / 1e9


def _by_policy(
    needs: Sequence[Collection[int]],
    lengths: Sequence[int],
    works: Sequence[bool],
    n_workers: int,
    uses: Sequence[Sequence[str]] = (),
    limits: Mapping[str, int] | None = None,
) -> Iterator[_Run]:
    outputs = [(number,) for number in range(len(needs))]
    scheduler = Scheduler([tuple(needed) for needed in needs], outputs, uses=uses, limits=limits)
    made = [0] * len(needs)
    free = list(range(n_workers))  # a heap
    running: list[tuple[int, int, int]] = []  # a heap: when it ends, segment, worker
    now = 0
    while not scheduler.done:
        while scheduler.n_ready and free:
            number = scheduler.take()
            if not works[number]:
                scheduler.finish(number)
                continue
            worker = heapq.heappop(free)
            heapq.heappush(running, (now + lengths[number], number, worker))
            ready = max((made[n] for n in needs[number]), default=0)
            before = scheduler.place_before(number).items()
            granted, limit = max(((made[n], name) for name, n in before), default=(0, ""))
            yield _Run(number, worker, ready, now, *((granted, limit) if granted > ready else ()))
        if running:
            now = running[0][0]
        elif not scheduler.done:
            raise ValueError("the segments form a cycle")
        while running and running[0][0] == now:
            _, number, worker = heapq.heappop(running)
            made[number] = now
            heapq.heappush(free, worker)
            scheduler.finish(number)


def _by_placement(
    played: Sequence[ReplaySegment], needs: Sequence[set[int]], lengths: Sequence[int], placement: Placement
) -> Iterator[_Run]:
    worker_of = _workers(played, placement)
    users: list[list[int]] = [[] for _ in played]
    for number, needed in enumerate(needs):
        for other in needed:
            users[other].append(number)
    missing = [len(needed) for needed in needs]
    made, begun = [0] * len(played), [False] * len(played)
    free = [0] * len(placement)
    position = [0] * len(placement)
    able = [number for number, n in enumerate(missing) if not n]  # a heap: segments whose inputs are all there
    timeless = [number for number in able if not played[number].keys]  # without tasks, and not yet run
    waiting = list(range(len(placement)))  # workers that may be able to run their next segment

    def play(number: int) -> Iterator[_Run]:
        begun[number] = True
        ready = made[number] = max((made[n] for n in needs[number]), default=0)
        if played[number].keys:
            worker = worker_of[number]
            begin = max(ready, free[worker])
            made[number] = free[worker] = begin + lengths[number]
            yield _Run(number, worker, ready, begin)
        for user in users[number]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(able, user)
                if played[user].keys:
                    waiting.append(worker_of[user])
                else:
                    timeless.append(user)

    while True:
        while timeless:
            yield from play(timeless.pop())
        if waiting:
            worker = waiting.pop()
            queue = placement[worker]
            while position[worker] < len(queue):
                number = queue[position[worker]]
                if not begun[number]:
                    if missing[number]:
                        break
                    yield from play(number)
                position[worker] += 1
            continue
        while able and begun[able[0]]:
            heapq.heappop(able)
        if not able:
            break
        yield from play(able[0])  # the order of the placement is impossible
    if not all(begun):
        raise ValueError("the segments form a cycle")


def _workers(played: Sequence[ReplaySegment], placement: Placement) -> dict[int, int]:
    """Return segment -> the worker that runs it."""
    found = {number: worker for worker, numbers in enumerate(placement) for number in numbers}
    if len(found) != sum(len(numbers) for numbers in placement):
        raise ValueError("a segment is in the placement twice")
    for number in found:
        if not 0 <= number < len(played):
            raise ValueError(f"segment {number} is in the placement, but there are only {len(played)} segments")
    for one in played:
        if one.keys and one.number not in found:
            raise ValueError(f"segment {one.number} ({one.keys[0]}, …) is missing from the placement")
    return found


def _rows(run: _Run, played: ReplaySegment, times: Sequence[int], before: int) -> Iterator[Record]:
    name, done = f"worker-{run.worker}", run.begin + before + sum(times)
    received, start = run.begin, run.begin + before
    for key, step, length in zip(played.keys, played.steps, times, strict=True):
        stop = start + length
        yield Record(
            key=key, step=step, worker=name, segment=run.segment, attempt=0, ready=run.ready, submitted=run.begin,
            received=received, loaded=received, opened=start, start=start, stop=stop, packed=stop, sent=stop,
            done=done, cpu=length, bytes_in=0, bytes_out=0, bytes_sent=0, memory=0, granted=run.granted,
            limit=run.limit,
        )  # fmt: skip
        received = start = stop
