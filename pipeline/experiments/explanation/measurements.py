"""The measurements of one step: the same batch of its tasks run by one worker, by threads, by processes.

A batch is some saved tasks with the inputs of the serial run, run one after the other, several times if they are short.
Each worker of a probe runs the whole batch, and all begin together: a probe of n workers does n times the work of one
worker, and takes as long as one worker if nothing is shared.

The control does the same with tasks that share nothing (counting in pure Python, one process each): where its ratio is
below n, the machine lacks cores now, not the step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["NOISE", "SMALL", "MovingCost", "ProbeTimes", "StepMeasurements"]

NOISE = 0.25
"""Relative difference of two repeats from which they show nothing: ratios of 1 and 2 could not be told apart."""


SMALL = 65_536
"""Bytes that fit into a pipe."""


@dataclass(frozen=True)
class ProbeTimes:
    """The times of one probe.

    Parameters
    ----------
    n_workers : number of workers that began together
    n_tasks : tasks that each worker ran in one repeat, one after the other
    seconds : of each repeat, until the last worker was done
    cpu : CPU seconds of each repeat: of all workers, with the threads and programs that their tasks start
    """

    n_workers: int
    n_tasks: int
    seconds: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def best(self) -> float:
        """Return the seconds a task of one worker in the fastest repeat: a disturbance can only slow it down."""
        return min(self.seconds) / self.n_tasks

    @property
    def cpu_best(self) -> float:
        """Return the CPU seconds a task in the repeat with the fewest."""
        return min(self.cpu) / (self.n_tasks * self.n_workers)

    @property
    def busy(self) -> float:
        """Return the CPU seconds a second of a worker in the fastest repeat: 1 computes, 0 waits, more has threads."""
        i = self.seconds.index(min(self.seconds))
        return self.cpu[i] / (self.seconds[i] * self.n_workers) if self.seconds[i] else 0.0

    @property
    def spread(self) -> float:
        """Return the relative difference of the two fastest repeats; 0 if there is one repeat."""
        first, *others = sorted(self.seconds)
        return others[0] / first - 1 if others and first else 0.0


@dataclass(frozen=True)
class MovingCost:
    """The cost of moving one task's inputs to a worker process and its result back, with the real values.

    Parameters
    ----------
    seconds : of the worker for reading, unpickling, pickling and writing, in the fastest repeat
    nbytes : moved through the pipe
    """

    seconds: float
    nbytes: float


@dataclass(frozen=True)
class StepMeasurements:
    """All measurements of one step.

    Parameters
    ----------
    n_workers : the n of "n threads" and "n processes"
    n_cores : of this machine
    one : a single worker; BLAS has one thread in all probes but the two with ``blas`` in their names
    threads, processes : n workers
    counting, counting_processes : the control, with one worker and with n processes; None: not measured
    blas : a single worker, BLAS on n threads
    blas_processes : n processes with BLAS on n threads each; None if BLAS was seen to start no threads
    many : more threads than cores; None if one worker does not mostly wait
    moved : None if no value of the step's tasks goes to another worker, or none can be pickled
    together : the steps, this one included, whose tasks were one batch (links of a chain); empty if it was probed alone
    """

    step: str
    n_workers: int
    n_cores: int
    one: ProbeTimes
    threads: ProbeTimes
    processes: ProbeTimes
    counting: ProbeTimes | None = None
    counting_processes: ProbeTimes | None = None
    blas: ProbeTimes | None = None
    blas_processes: ProbeTimes | None = None
    many: ProbeTimes | None = None
    moved: MovingCost | None = None
    together: tuple[str, ...] = ()

    def ratio(self, times: ProbeTimes) -> float:
        """Return the tasks a second of a probe over those of one worker."""
        return times.n_workers * self.one.best / times.best if times.best else float(times.n_workers)

    def growth(self, times: ProbeTimes) -> float:
        """Return the CPU seconds a task over those of a single worker, beyond the growth of n workers that only count.

        Cores that share more than memory (hardware threads, a clock that slows down when all are busy) make any task
        take more CPU time. 1 if a task takes none.
        """
        if not self.one.cpu_best:
            return 1.0
        grown = times.cpu_best / self.one.cpu_best
        if self.counting is None or self.counting_processes is None or not self.counting.cpu_best:
            return grown
        return grown / max(1.0, self.counting_processes.cpu_best / self.counting.cpu_best)

    @property
    def control(self) -> float | None:
        """Return the ratio of n processes that only count; None if it was not measured."""
        if self.counting is None or self.counting_processes is None or not self.counting_processes.best:
            return None
        return self.n_workers * self.counting.best / self.counting_processes.best

    @property
    def gives(self) -> float:
        """Return the largest ratio that was measured: the cores that this machine gives n workers now; at least 1."""
        cores = float(min(self.n_workers, self.n_cores))
        if self.control is None:
            return cores
        return max(1.0, min(cores, max(self.control, self.ratio(self.threads), self.ratio(self.processes))))

    @property
    def busy(self) -> float:
        """Return the CPU seconds a second of a single worker, over those of one that only counts: 1 computes, 0 waits.

        On a machine that is used by others, a worker that never waits gets less than a core.
        """
        got = min(1.0, self.counting.busy) if self.counting is not None else 1.0
        return self.one.busy / got if got else self.one.busy

    @property
    def moved_share(self) -> float:
        """Return the seconds of moving a task's values over the seconds that the task takes alone.

        0 for values that fit into a pipe: their cost is part of the overhead of every task.
        """
        if self.moved is None or self.moved.nbytes < SMALL or not self.one.best:
            return 0.0
        return self.moved.seconds / self.one.best

    def scaling(self, times: ProbeTimes) -> float:
        """Return the ratio that all cores of the machine would give, if the step used them as well as those it got."""
        cores = float(min(self.n_workers, self.n_cores))
        return min(float(times.n_workers), self.ratio(times) * cores / self.gives)

    @property
    def processes_with_moving(self) -> float:
        """Return the ratio of n processes if the values are moved as well."""
        ratio = self.ratio(self.processes)
        return self.n_workers / (self.n_workers / ratio + self.moved_share) if ratio else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types that JSON has."""
        found: dict[str, Any] = {"n_workers": self.n_workers, "n_cores": self.n_cores, "control": self.control,
                                "together": list(self.together)}  # fmt: skip
        for name in ("one", "threads", "processes", "counting", "counting_processes", "blas", "blas_processes", "many"):
            times: ProbeTimes | None = getattr(self, name)
            found[name] = None if times is None else _times_dict(times)
            if times is not None and not name.startswith("counting"):
                found[name]["ratio"] = self.ratio(times)
        return found | {"moved": None if self.moved is None else asdict(self.moved) | {"share": self.moved_share}}


def _times_dict(times: ProbeTimes) -> dict[str, Any]:
    return asdict(times) | {"task": times.best, "busy": times.busy, "spread": times.spread}
