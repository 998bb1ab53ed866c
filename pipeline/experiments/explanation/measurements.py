"""What the probes of one step measured: the same batch of its tasks by one worker, by threads, by processes.

A batch is some sampled tasks with the inputs that they had in the serial run, one after the other, several times over
where they are short. Each worker of a probe runs the whole batch, and all begin together; so a probe of n workers does
n times the work of one worker, and takes as long where nothing is shared.

The control is the same for tasks that share nothing by construction (counting, in pure Python, one process each): what
it falls short of n is what the machine lacks now, not the step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["NOISE", "SMALL", "MovingCost", "ProbeTimes", "StepMeasurements"]

NOISE = 0.25
"""Two repeats that differ by more say nothing: ratios of 1 and 2 are told apart by less than that on either side."""


SMALL = 65_536
"""Bytes that a pipe holds."""


@dataclass(frozen=True)
class ProbeTimes:
    """One probe.

    Parameters
    ----------
    n_workers : began together
    n_tasks : that each of them ran in one repeat, one after the other
    seconds : of each repeat, until the last worker was done
    cpu : CPU seconds of each repeat: all workers, with the threads and the programs that their tasks start
    """

    n_workers: int
    n_tasks: int
    seconds: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def best(self) -> float:
        """Seconds a task, as one worker sees it, in the fastest repeat: what disturbs only ever slows down."""
        return min(self.seconds) / self.n_tasks

    @property
    def cpu_best(self) -> float:
        """CPU seconds a task in the repeat with the least of them."""
        return min(self.cpu) / (self.n_tasks * self.n_workers)

    @property
    def busy(self) -> float:
        """CPU seconds a second of one worker, in the fastest repeat: 1 computes, 0 waits, more has threads below it."""
        i = self.seconds.index(min(self.seconds))
        return self.cpu[i] / (self.seconds[i] * self.n_workers) if self.seconds[i] else 0.0

    @property
    def spread(self) -> float:
        """By what fraction the two fastest repeats differ; 0 of one repeat."""
        first, *others = sorted(self.seconds)
        return others[0] / first - 1 if others and first else 0.0


@dataclass(frozen=True)
class MovingCost:
    """What the way of one task's inputs to a worker process and of its result back costs, on the real values.

    Parameters
    ----------
    seconds : in the worker, for reading, unpickling, pickling and writing, a task; of the fastest repeat
    nbytes : that go through the pipe, a task
    """

    seconds: float
    nbytes: float


@dataclass(frozen=True)
class StepMeasurements:
    """Everything that was measured of one step.

    Parameters
    ----------
    n_workers : the n of "n threads" and "n processes"
    n_cores : of this machine
    one : a single worker, BLAS on one thread, as in all where nothing else is said
    threads, processes : n workers each
    counting, counting_processes : the control, by one worker and by n processes; None: not measured
    blas : a single worker, BLAS on n threads
    blas_processes : n processes with BLAS on n threads each; None where BLAS was seen to start no threads
    many : more threads than cores, where one worker mostly waits
    moved : None where nothing of the step's tasks crosses to another worker, or it can't be pickled
    together : the steps whose tasks were one batch, this one among them: links of a chain; empty: it was probed alone
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

    def ratio(self, reading: ProbeTimes) -> float:
        """How many times as many tasks a second as by one worker."""
        return reading.n_workers * self.one.best / reading.best if reading.best else float(reading.n_workers)

    def growth(self, reading: ProbeTimes) -> float:
        """CPU seconds a task over those that it takes alone, beyond what n workers that only count show of that.

        Cores that share more than memory (hardware threads, a clock that falls when all are busy) make any task take
        more CPU time. 1 where a task takes none.
        """
        if not self.one.cpu_best:
            return 1.0
        grown = reading.cpu_best / self.one.cpu_best
        if self.counting is None or self.counting_processes is None or not self.counting.cpu_best:
            return grown
        return grown / max(1.0, self.counting_processes.cpu_best / self.counting.cpu_best)

    @property
    def control(self) -> float | None:
        """The ratio of n processes that only count."""
        if self.counting is None or self.counting_processes is None or not self.counting_processes.best:
            return None
        return self.n_workers * self.counting.best / self.counting_processes.best

    @property
    def gives(self) -> float:
        """How many workers' worth of computing this machine gives n workers now: what was seen at best; at least 1."""
        cores = float(min(self.n_workers, self.n_cores))
        if self.control is None:
            return cores
        return max(1.0, min(cores, max(self.control, self.ratio(self.threads), self.ratio(self.processes))))

    @property
    def busy(self) -> float:
        """CPU seconds a second of the lone worker, over those that one gets that only counts: 1 computes, 0 waits.

        On a machine that others use, a worker that never waits gets less than a core.
        """
        got = min(1.0, self.counting.busy) if self.counting is not None else 1.0
        return self.one.busy / got if got else self.one.busy

    @property
    def moved_share(self) -> float:
        """Seconds of moving a task's values over the seconds that it takes alone.

        0 of values that are smaller than what a pipe holds: what they cost is the overhead that every task has.
        """
        if self.moved is None or self.moved.nbytes < SMALL or not self.one.best:
            return 0.0
        return self.moved.seconds / self.one.best

    def scaling(self, reading: ProbeTimes) -> float:
        """The ratio that all of the machine's cores would give, if the step got as much of them as it got of these."""
        cores = float(min(self.n_workers, self.n_cores))
        return min(float(reading.n_workers), self.ratio(reading) * cores / self.gives)

    @property
    def processes_with_moving(self) -> float:
        """The ratio of n processes if the values are moved as well."""
        ratio = self.ratio(self.processes)
        return self.n_workers / (self.n_workers / ratio + self.moved_share) if ratio else 0.0

    def to_dict(self) -> dict[str, Any]:
        """In the types that JSON has."""
        told: dict[str, Any] = {"n_workers": self.n_workers, "n_cores": self.n_cores, "control": self.control,
                                "together": list(self.together)}  # fmt: skip
        for name in ("one", "threads", "processes", "counting", "counting_processes", "blas", "blas_processes", "many"):
            reading: ProbeTimes | None = getattr(self, name)
            told[name] = None if reading is None else _told(reading)
            if reading is not None and not name.startswith("counting"):
                told[name]["ratio"] = self.ratio(reading)
        return told | {"moved": None if self.moved is None else asdict(self.moved) | {"share": self.moved_share}}


def _told(reading: ProbeTimes) -> dict[str, Any]:
    return asdict(reading) | {"task": reading.best, "busy": reading.busy, "spread": reading.spread}
