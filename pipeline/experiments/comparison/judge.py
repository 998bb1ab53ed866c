"""Judge one run: replay it with something taken away, one thing at a time, and say what each would have saved.

Taken away are what a step inflicts on the tasks beside it, its overhead, the moving of its values, that its tasks are
whole, that the tasks of the longest path need each other, waiting without a core. What kind of slowdown a step causes
is read from what the system counted in the same run: CPU time, waiting for a core, switches, disk, page faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.experiments.comparison.causes import LEAST_GAIN, Cause, Kind, RunFacts
from pipeline.trace.measured_schedule import MeasuredSchedule, Tasks
from pipeline.trace.slowdown import blame, overlaps

__all__ = ["causes", "structural"]

_MOSTLY = 0.5
_ALONE = 0.6  # share of the longest path from which one step on it is the cause, not the chain
_HANDED = 1e-3  # seconds that handing a segment to a thread takes at most, where it need not wait for the GIL
_SWITCHES = 50  # a second of waiting: who waits for the GIL looks again every 5 ms, who waits for a lock does not
_MORE_CORES = 1.3  # cores that a task keeps busy by itself, from which it has threads or programs of its own
_BESIDE = 0.01  # CPU seconds a task from which threads beside it are its own, not the worker's
_GROWN = 1.2  # CPU time over that of the serial run from which memory is shared
_LONG_PATH = 0.6  # share of the elapsed time from which the longest path can be what bounds it
_FAULT = 1e-6  # seconds that a page fault costs, about
_TO_DISK = 1e5  # bytes a second of waiting from which a disk is waited for
_FINE = 10  # times its overhead that a task should take at least
_MANY = 4  # times as many workers as cores where tasks wait
_FIRST = 3  # times as much longer than usual as any other call that the first one takes, where it loads something
_LONG = 2  # times the median of its step from which a task is long
_LEAST_WAIT = 0.02  # share of the elapsed time

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


def causes(schedule: MeasuredSchedule, facts: RunFacts) -> list[Cause]:
    """Return what could have made a run shorter, each with what it would have saved."""
    if not len(schedule.tasks.keys) or not schedule.elapsed:
        return []
    calm, disturbed = _undisturbed(schedule, facts)
    found = [cause for cause in _Judge(calm, facts).all() if cause.gain > 0]
    if disturbed:
        after = calm.replayed
        found.append(Cause("machine", (), 1 - after / schedule.replayed, after, {"seconds": disturbed}))
    return found


def structural(schedule: MeasuredSchedule) -> list[Cause]:
    """Return the causes in the graph alone: long tasks, few tasks, chains."""
    if not schedule.elapsed:
        return []
    return [cause for cause in _Judge(schedule, RunFacts(), is_plan=True).structure() if cause.gain > 0]


def _undisturbed(run: MeasuredSchedule, facts: RunFacts) -> tuple[MeasuredSchedule, float]:
    """Return the schedule without the time for which other programs had the cores, and the seconds of that.

    Tasks were ready and had no core: for as long as the parent, the scheduler or threads of the tasks computed, those
    had it; the rest is other programs'.
    """
    tasks = run.tasks
    late = np.maximum(tasks.delay - tasks.useful_delay, 0.0)
    own_threads = (_own_cores(tasks, facts) >= _MORE_CORES).any()
    if run.n_workers > facts.n_cores or own_threads or late.sum() <= facts.beside:
        return run, 0.0
    others = late * (1 - facts.beside / late.sum())
    calm = replace(tasks, stop=tasks.stop - others, delay=tasks.delay - others)
    return replace(run, tasks=calm), float(others.sum())


def _own_cores(tasks: Tasks, facts: RunFacts) -> _Floats:
    """Return for each step the cores that one of its tasks keeps busy, with its own threads and programs.

    Those of the serial run count; those of this run where its threads did most of the work, as if BLAS was given more.
    """
    found = tasks.by_step(tasks.useful_cpu + tasks.useful_beside)
    found /= np.maximum(tasks.by_step(tasks.useful - tasks.useful_delay), 1e-9)
    if facts.in_threads:
        return found
    on_core, beside = tasks.by_step(tasks.cpu), tasks.by_step(tasks.cpu_beside)
    mostly = (beside >= on_core) & (beside >= _BESIDE * np.bincount(tasks.step, minlength=tasks.n_steps))
    return np.where(mostly, np.maximum(found, 1 + beside / np.maximum(on_core, 1e-9)), found)


@dataclass(frozen=True, eq=False)
class _Judge:
    """The counterfactuals of one run, which nothing else on the machine disturbed.

    Parameters
    ----------
    is_plan : the run was not made, so that nothing is known of its order
    """

    run: MeasuredSchedule
    facts: RunFacts
    is_plan: bool = False

    def all(self) -> Iterator[Cause]:
        held = list(self.slowdowns())
        yield from held
        yield from self.overheads(self._held_up if any(cause.kind == "gil" for cause in held) else 0.0)
        yield from self.transfers()
        yield from self.structure()
        busy = {cause.step for cause in held if cause.kind in ("lock", "disk") and cause.gain >= LEAST_GAIN}
        yield from self.waiting(busy)
        yield from self.outside()

    def _cause(self, kind: Kind, steps: Sequence[int], after: float, **numbers: Any) -> Cause:
        """Return a cause with what it would save; relative to the replay, whose model errs on both sides alike."""
        names = tuple(self.run.tasks.steps[step] for step in steps)
        before = self.run.replayed
        gain = 1 - after / before if before else 0.0
        bound = max(after, self._least()) * self.run.elapsed / before if before else after
        return Cause(kind, names, gain, bound, numbers)

    def _least(self) -> float:
        """Return the seconds in which the cores could do the CPU work of all tasks."""
        tasks = self.run.tasks
        return float(tasks.useful_cpu.sum() + tasks.useful_beside.sum()) / min(self.facts.n_cores, self.run.n_workers)

    # ---- what a step does to the tasks beside it

    def slowdowns(self) -> Iterator[Cause]:
        tasks = self.run.tasks
        beside = overlaps(tasks)
        extra = {
            "wait": tasks.waited - tasks.useful_waited,
            "cpu": tasks.cpu - tasks.useful_cpu,
            "delay": tasks.delay - tasks.useful_delay,
        }
        for cause, alone in [*self._first_calls(), *self._stopped(extra["wait"])]:
            yield cause
            for seconds in extra.values():  # what happens to a task by itself is nobody else's doing
                seconds[alone] = np.minimum(seconds[alone], 0.0)
        found = {name: blame(tasks, seconds, beside) for name, seconds in extra.items()}
        for name, by_step in found.items():
            whole = sum(float(caused.sum()) for caused in by_step.values())
            for step, caused in by_step.items():
                if caused.sum() < _LEAST_WAIT * self.run.elapsed:
                    continue
                kind = self._kind(name, step, caused)
                if kind is None:
                    continue
                rows = caused > 0
                grown = float(tasks.seconds[rows].sum() / max(tasks.useful[rows].sum(), 1e-9))
                beside_tasks = self._held_up * float(caused.sum() / whole) if kind == "gil" else 0.0
                yield self._cause(
                    kind,
                    [step],
                    self.run.without(self.run.per_segment(caused) + beside_tasks),
                    seconds=float(caused.sum()),
                    growth=grown,
                    victims=self._names(caused),
                    cores=float(self._own_cores[step]),
                    in_threads=self.facts.in_threads,
                    n_cores=self.facts.n_cores,
                    disk=float(tasks.disk[tasks.step == step].sum()),
                )

    def _kind(self, name: str, step: int, caused: _Floats) -> Kind | None:
        """Return what a step does to others, from what the system counted for those."""
        tasks, facts = self.run.tasks, self.facts
        own = tasks.step == step
        if name != "cpu" and self._own_cores[step] >= _MORE_CORES:
            return "own threads"
        elsewhere = tasks.useful_beside[own].sum()
        if name == "wait" and elsewhere >= max(tasks.useful_cpu[own].sum(), 0.1 * tasks.useful[own].sum()):
            return None  # it waits for its threads or its program, which get no core
        share = caused / np.maximum(tasks.seconds, 1e-9)
        if name == "cpu":
            useful = float((tasks.useful_cpu * (caused > 0)).sum())
            if caused.sum() < (_GROWN - 1) * useful:
                return None
            faults = float((tasks.faults * share).sum())
            return "page faults" if faults * _FAULT >= _MOSTLY * caused.sum() else "memory"
        if name == "delay":
            if self.run.n_workers > facts.n_cores:
                return "few cores"
            return None
        busy = float(tasks.useful_cpu[own].sum() / max(tasks.useful[own].sum() - tasks.useful_delay[own].sum(), 1e-9))
        waited = np.maximum(tasks.waited, 1e-9)
        switches = float((tasks.switches * caused / waited).sum()) / caused.sum()
        if facts.in_threads:
            return "gil" if switches >= _SWITCHES and busy >= 0.3 else "lock"
        if tasks.disk[own].sum() >= _TO_DISK * caused.sum() and busy < _MOSTLY:
            return "disk"
        beside = float((tasks.cpu_beside * share).sum())  # who holds the GIL computes
        return "worker threads" if switches >= _SWITCHES and beside >= _MOSTLY * caused.sum() else "lock"

    @cached_property
    def _own_cores(self) -> _Floats:
        """Return for each step the cores that a task of it keeps busy by itself."""
        return _own_cores(self.run.tasks, self.facts)

    def _names(self, caused: _Floats) -> tuple[str, ...]:
        by_step = self.run.tasks.by_step(caused)
        order = np.argsort(-by_step, kind="stable")
        return tuple(self.run.tasks.steps[s] for s in order.tolist() if by_step[s] >= 0.1 * caused.sum())

    # ---- what happens to tasks by themselves

    def _stopped(self, extra: _Floats) -> Iterator[tuple[Cause, _Ints]]:
        """Yield the one task that did nothing for long while others like it did not wait, if there is one."""
        tasks = self.run.tasks
        longest = int(extra.argmax())
        if self.facts.in_threads:  # one thread can't be stopped alone
            return
        alike = tasks.step == tasks.step[longest]
        others = np.maximum(extra, 0.0).sum() - extra[longest]
        if extra[longest] < LEAST_GAIN * self.run.elapsed or alike.sum() < 3 or others > _MOSTLY * extra[longest]:
            return
        alone = np.array([longest])
        numbers = {"seconds": float(extra[longest]), "key": tasks.keys[longest]}
        yield self._alone("stopped worker", alone, extra[alone], numbers), alone

    def _first_calls(self) -> Iterator[tuple[Cause, _Ints]]:
        """Yield the steps whose first calls take longer than the others, with those calls.

        The serial run shows by how much: one of its calls stands out.
        """
        tasks = self.run.tasks
        seconds = tasks.cpu + tasks.waited
        for step in range(tasks.n_steps):
            own = np.flatnonzero(tasks.step == step)
            first = np.array([own[tasks.lane[own] == lane][0] for lane in np.unique(tasks.lane[own])])
            others = np.setdiff1d(own, first)
            if len(others) < 2 * len(first):
                continue
            usual = float(np.median(seconds[others]))
            serial = (tasks.useful - tasks.useful_delay)[own]  # like ``seconds``, without waiting for a core
            *_, second, longest = np.sort(serial) - np.median(serial)
            loading = float(longest)  # in the serial run one call was the first
            if loading < _FIRST * max(float(second), 0.0):
                continue
            late = first[seconds[first] - usual >= _MOSTLY * loading]  # who waits for the one that loads is late, too
            if len(late) < max(2, len(first)):
                continue
            more = seconds[late] - usual
            if more.sum() >= _LEAST_WAIT * self.run.elapsed:
                numbers = {"seconds": float(np.median(more)), "n": len(late)}
                yield self._alone("first calls", late, more, numbers), late

    def _alone(self, kind: Kind, rows: _Ints, seconds: _Floats, numbers: Mapping[str, Any]) -> Cause:
        """Return a cause of some tasks that took ``seconds`` too long."""
        less = np.zeros(len(self.run.tasks.keys))
        less[rows] = seconds
        step = int(self.run.tasks.step[rows[0]])
        return self._cause(kind, [step], self.run.without(self.run.per_segment(less)), **numbers)

    # ---- what a segment costs beside its tasks

    @cached_property
    def _held_up(self) -> _Floats:
        """Return the seconds that each segment waits for the GIL beside its tasks, if one of them holds it."""
        return np.maximum(self.run.overhead - _HANDED, 0.0)

    def overheads(self, held_up: _Floats | float) -> Iterator[Cause]:
        """Yield the steps whose segments cost more beside their tasks, without ``held_up``, than is worth it."""
        run = self.run
        overhead = run.overhead - held_up
        for step in np.unique(run.owner).tolist():
            own = (run.owner == step) & (run.lengths > 0)
            n, seconds = int(own.sum()), float(overhead[own].sum())
            if n < 2 * run.n_workers or seconds < _LEAST_WAIT * run.elapsed:
                continue
            work = float(run.in_tasks[own].sum())
            if work > _FINE * seconds:
                continue
            each = seconds / n
            together = min(max(2, int(np.ceil(_FINE * each * n / max(work, 1e-9)))), -(-n // run.n_workers))
            fewer = -(-n // together)
            less = np.where(own, overhead * (1 - fewer / n), 0.0)
            yield self._cause(
                "tiny tasks",
                [step],
                run.without(less),
                n=n,
                overhead=each,
                mean=work / n,
                together=together,
                n_tasks=int((run.tasks.step == step).sum()),
            )

    def transfers(self) -> Iterator[Cause]:
        run = self.run
        total: dict[int, float] = {}
        for by_step in run.moved_by.values():
            for step, seconds in by_step.items():
                total[step] = total.get(step, 0.0) + seconds
        for step, seconds in total.items():
            if seconds < _LEAST_WAIT * run.elapsed:
                continue
            less = np.zeros(run.n_segments)
            for g, by_step in run.moved_by.items():
                less[g] = by_step.get(step, 0.0)
            nbytes = float(run.tasks.nbytes[run.tasks.step == step].sum())
            yield self._cause("transfer", [step], run.without(less), seconds=seconds, nbytes=nbytes)

    # ---- the structure of the graph

    def structure(self) -> Iterator[Cause]:
        run, tasks = self.run, self.run.tasks
        for step in range(tasks.n_steps):
            seconds = run.per_segment(np.where(tasks.step == step, tasks.seconds, 0.0))
            large = np.flatnonzero(seconds >= _LEAST_WAIT * run.elapsed)
            if not len(large) or len(large) > 8 * run.n_workers:
                continue
            n = run.n_workers  # one of the pieces stays where the tasks are, between those before and after them
            after = self._rebuilt(pieces={int(g): [float(seconds[g]) / n] * (n - 1) for g in large})
            yield self._split(step, seconds, after)
        yield from self._limits()
        yield from self._chain()

    def _limits(self) -> Iterator[Cause]:
        """Yield each limit of the file that the run could do without sooner, with the steps that use it."""
        run, tasks = self.run, self.run.tasks
        for name, n in run.limits.items():
            own = [name in run.uses[g] for g in tasks.segment.tolist()]
            steps = [int(step) for step in np.unique(tasks.step[own])]
            yield self._cause("limit", steps, self._rebuilt(unlimited=[name]), name=name, n=n)

    def _rebuilt(self, least: float = 0.0, **changes: Any) -> float:
        """Return the seconds of the run with another graph, in the order of the run or in the best one.

        A better order alone is not counted as a gain.
        """
        run = self.run
        in_order = max(least, run.without(**changes))
        best = max(least, run.without(**changes, longest_first=True)) * run.replayed / max(self._in_best_order, 1e-9)
        return best if self.is_plan else min(in_order, best)

    @cached_property
    def _in_best_order(self) -> float:
        return self.run.without(longest_first=True)

    def _split(self, step: int, seconds: _Floats, after: float) -> Cause:
        tasks = self.run.tasks
        own = np.flatnonzero(tasks.step == step)
        longest = own[int(tasks.seconds[own].argmax())]
        pieces = seconds[seconds > 0]
        alone = len(pieces) == 1 or pieces.max() >= _LONG * np.median(pieces)
        numbers = {
            "seconds": float(pieces.max()),
            "key": tasks.keys[longest],
            "n": len(pieces),
            "elapsed": self.run.elapsed,
            "median": float(np.median(pieces)) if len(pieces) > 1 else None,
        }
        return self._cause("long task" if alone else "few tasks", [step], after, **numbers)

    def _chain(self) -> Iterator[Cause]:
        """Yield the longest path as a cause, if no single step takes most of it."""
        run, tasks = self.run, self.run.tasks
        path = list(run.path)
        seconds = tasks.seconds[path]
        length = float(seconds.sum())
        by_step = np.bincount(tasks.step[path], seconds, minlength=tasks.n_steps)
        steps = [s for s in dict.fromkeys(tasks.step[path].tolist()) if by_step[s] >= 0.05 * length]
        if len(path) < 2 or by_step.max() >= _ALONE * length or length < _LONG_PATH * run.replayed:
            return
        less = np.zeros(len(tasks.keys))
        less[path] = seconds
        # the rest of the run, and all of its work divided among the workers, wherever the links would run
        work = float(run.in_tasks.sum()) / run.n_workers + run.closing
        after = self._rebuilt(work, less=run.per_segment(less))
        most = float(tasks.useful.sum()) / length if length else 0.0
        yield self._cause("chain", steps, after, seconds=length, n=len(path), elapsed=run.elapsed, most=most)

    # ---- waiting, first calls, what is outside the tasks

    def waiting(self, one_at_a_time: set[str]) -> Iterator[Cause]:
        run, tasks = self.run, self.run.tasks
        idle = np.maximum(tasks.useful_waited - tasks.useful_beside, 0.0)
        by_step, useful = tasks.by_step(idle), tasks.by_step(tasks.useful)
        for step in range(tasks.n_steps):
            if by_step[step] < _MOSTLY * useful[step] or by_step[step] < LEAST_GAIN * run.elapsed:
                continue
            if tasks.steps[step] in one_at_a_time:
                continue
            n = _MANY * run.n_workers
            # only its own waiting gets more workers: that is how many of its tasks can wait at a time
            others = float(run.lengths.sum() - run.per_segment(np.where(tasks.step == step, idle, 0.0)).sum())
            after = max(run.without(n_workers=n), others / run.n_workers)
            yield self._cause("waiting", [step], after, seconds=float(by_step[step]), n=n,
                              on_core=1 - float(by_step[step] / useful[step]))  # fmt: skip

    def outside(self) -> Iterator[Cause]:
        run, facts = self.run, self.facts
        if facts.gaps:
            lost = float(run.elapsed - run.replayed)
            yield Cause("lost worker", (), max(lost / run.elapsed, LEAST_GAIN), run.replayed)
        if run.closing:
            yield self._cause("outputs", [], run.replayed - run.closing, seconds=run.closing)
