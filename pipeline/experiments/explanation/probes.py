"""Probe one batch of saved tasks: run it again with one worker, with threads and with processes, before a deadline.

Every probe is a small graph. Probes take turns in each repeat, so that a second in which the machine is slow does not
fall on one of them alone. There are two repeats, and more where those two differ by more than can be told apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from time import perf_counter
from typing import Any

from pipeline.experiments.explanation import probe_tasks
from pipeline.experiments.explanation.measurements import NOISE, MovingCost, ProbeTimes, StepMeasurements
from pipeline.experiments.explanation.probe_backend import Failed, Late, Lost, ProbeBackend
from pipeline.experiments.explanation.probe_tasks import ProbeResult
from pipeline.experiments.explanation.saved_task import SavedTask
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.units import duration_text

__all__ = ["probe"]

# Seconds that one worker takes for a batch: the less, the more workers there are, within these limits.
_LONGEST, _SHORTEST = 0.3, 0.1
_COUNTING = 0.1  # seconds of the control
_REPEATS, _MOST_REPEATS = 2, 4
_MANY = 4  # times as many threads as cores, where tasks wait
_WAITING = 0.5  # CPU seconds a second below which that is tried
_NESTED = 1.3  # CPU seconds a second above which BLAS is seen to use threads


def probe(
    backend: ProbeBackend, step: str, saved: Sequence[SavedTask], *, n_cores: int, deadline: float
) -> StepMeasurements:
    """Run the probes of one batch.

    Parameters
    ----------
    backend : its workers are the n of "n threads" and "n processes"
    step : the step, or the first of several, that the batch stands for
    saved : the tasks of the batch, at least one
    deadline : on the clock of ``perf_counter``

    Raises
    ------
    Late : if the probes of a single repeat could not be made in time
    Failed : if a task failed when it was run again, or ended its process
    """
    probes = _Probes(backend, step, saved, n_cores, deadline)
    probes.prepare()
    probes.repeat()
    moved = probes.moved()
    probes.repeat_while_noisy()
    return probes.measurements(moved)


@dataclass
class _Probes:
    """The probes of one batch. States: prepared -> one repeat -> as many repeats as are needed and fit.

    Parameters
    ----------
    rounds : how often a probe runs the batch
    counting : rounds of the control
    one_batch : seconds of one worker for ``rounds`` rounds
    last : seconds of the last repeat
    results : of each probe, one a repeat
    blas_is_serial : BLAS was seen to start no threads
    """

    backend: ProbeBackend
    step: str
    saved: Sequence[SavedTask]
    n_cores: int
    deadline: float
    rounds: int = 1
    counting: int = 1
    one_batch: float = 0.0
    last: float = 0.0
    results: dict[str, list[ProbeResult]] = field(default_factory=lambda: defaultdict(list))
    blas_is_serial: bool = False

    @property
    def n(self) -> int:
        return self.backend.n_workers

    @property
    def left(self) -> float:
        return self.deadline - perf_counter()

    def prepare(self) -> None:
        """Load the batch in every worker; choose the rounds, so that a probe lasts long enough.

        Raises
        ------
        Late : if one repeat would take longer than there is time
        """
        self.backend.start(deadline=self.deadline)
        self._together(self.n, probe_tasks.prepare, [one.path for one in self.saved])
        once = self._together(1, probe_tasks.run_batch, 1).seconds
        least = min(_LONGEST, max(_SHORTEST, 1.0 / self.n))
        self.rounds = max(1, round(least / max(once, 1e-6) + 0.5))
        self.one_batch = self.rounds * once
        self.counting = max(1, round(10 * _COUNTING / self._together(1, probe_tasks.count, 10).seconds))
        needed = self.one_batch * (2 + self.n)  # one worker, n processes, and n threads where they hold a lock
        if needed > self.left:
            raise Late(f"one repeat of its probes takes up to {duration_text(needed)}")

    def repeat(self) -> None:
        """Make every probe once."""
        began = perf_counter()
        n, rounds = self.n, self.rounds
        self._probe("counting", 1, probe_tasks.count, self.counting)
        self._probe("counting_processes", n, probe_tasks.count, self.counting)
        self._probe("one", 1, probe_tasks.run_batch, rounds)
        self._probe("threads", 1, probe_tasks.hosted, "threads", n, 1, rounds)
        self._probe("processes", n, probe_tasks.run_batch, rounds)
        if self._waits():
            if 2 * self.one_batch < self.left:
                self._probe("many", 1, probe_tasks.hosted, "threads", _MANY * self.n_cores, 1, rounds)
        elif self.n_cores > 1 and not self.blas_is_serial and 2 * self.one_batch < self.left:
            self._probe_blas()
        self.last = perf_counter() - began

    def _probe_blas(self) -> None:
        """Give BLAS n threads in one worker, and in all workers if it was seen to use them."""
        self._probe("blas", 1, probe_tasks.hosted, "serial", 1, self.n, self.rounds)
        if self._times("blas").busy > _NESTED > self._times("one").busy:
            if self.n * self.one_batch < self.left:
                self._probe("blas_processes", self.n, probe_tasks.hosted, "serial", 1, self.n, self.rounds)
        else:
            self.blas_is_serial = True

    def repeat_while_noisy(self) -> None:
        """Repeat as often as the noise asks for and the time allows."""
        while len(self.results["one"]) < _MOST_REPEATS and self.left > 1.3 * self.last:
            noisy = any(self._times(name).spread > NOISE for name in ("one", "threads", "processes"))
            if len(self.results["one"]) >= _REPEATS and not noisy:
                return
            self.repeat()

    def _waits(self) -> bool:
        """Whether a single worker waits for most of the time that the machine gives it."""
        return self._times("one").busy < _WAITING * min(1.0, self._times("counting").busy)

    def moved(self) -> MovingCost | None:
        """Move the inputs and the results of the tasks between processes; None if nothing is moved, or nothing can be.

        Raises
        ------
        Lost : if a task ended its process
        """
        costs = []
        try:
            for one in self.saved:
                if one.moved or one.used_elsewhere:
                    repeats = [self._move(one) for _ in range(_REPEATS)]
                    costs.append(min(repeats, key=lambda cost: cost.seconds))
        except Lost:
            raise
        except Failed:
            return None  # its result can't be pickled: a back end with processes can't run it at all
        if not costs:
            return None
        return MovingCost(mean(cost.seconds for cost in costs), mean(cost.nbytes for cost in costs))

    def _move(self, saved: SavedTask) -> MovingCost:
        """Run a task whose inputs come from other tasks and whose result goes to another; what that took is traced."""
        inputs: list[Key] = [("input", i) for i in range(len(saved.moved))]
        tasks: dict[Key, GraphNode] = {
            new: task(new, probe_tasks.saved_input, saved.path, old)
            for new, old in zip(inputs, saved.moved, strict=True)
        }
        values = listed([ref(key) for key in inputs])
        tasks["moved"] = task("moved", probe_tasks.run_with, saved.path, saved.moved, values, saved.used_elsewhere)
        tasks["end"] = task("end", probe_tasks.unused, ref("moved"))
        trace = self.backend.run(self.step, tasks, wanted=["end"], deadline=self.deadline).trace.to_frame()
        row = trace[trace["key"] == "moved"].iloc[0]
        seconds = row["transfer"] + row["deserialization"] + row["serialization"]
        nbytes = row[["bytes_in", "bytes_sent", "shared_in", "shared_sent"]].sum()
        return MovingCost(float(seconds), float(nbytes))

    def _probe(self, name: str, n_processes: int, function: Any, *arguments: Any) -> None:
        self.results[name].append(self._together(n_processes, function, *arguments))

    def _together(self, n_processes: int, function: Any, *arguments: Any) -> ProbeResult:
        """Run a function in some worker processes at the same time."""
        tasks: dict[Key, GraphNode] = {
            ("probe", i): task(("probe", i), function, *arguments) for i in range(n_processes)
        }
        return probe_tasks.result_of(self.backend.run(self.step, tasks, deadline=self.deadline))

    def _times(self, name: str) -> ProbeTimes:
        n_workers = dict.fromkeys(("threads", "processes", "blas_processes", "counting_processes"), self.n)
        n_workers["many"] = _MANY * self.n_cores
        seconds, cpu = zip(*self.results[name], strict=True)
        return ProbeTimes(n_workers.get(name, 1), self.rounds * len(self.saved), seconds, cpu)

    def measurements(self, moved: MovingCost | None) -> StepMeasurements:
        """Return what was measured."""
        times: dict[str, Any] = {name: self._times(name) for name in self.results}
        return StepMeasurements(self.step, self.n, self.n_cores, moved=moved, **times)
