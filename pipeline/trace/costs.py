"""Find the steps and tasks that took longest, and how many workers are faster than one thread (COST).

References
----------
McSherry, Isard and Murray, "Scalability! But at what COST?", HotOS XV, 2015: the configuration that outperforms a
single thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.trace.losses import SerialTimes
from pipeline.trace.trace import Trace

__all__ = ["StepCost", "TaskCost", "cost", "steps", "tasks"]


@dataclass(frozen=True)
class StepCost:
    """The cost of a step, over all attempts.

    Parameters
    ----------
    step : the step instance
    n_tasks : number of its tasks that ran, each counted once
    seconds, cpu : seconds in its tasks; CPU seconds
    useful : seconds that the same tasks take serially; None: unknown
    bytes_out : size of its results
    bytes_moved : bytes sent to workers for its tasks, and from them
    """

    step: str
    n_tasks: int
    seconds: float
    useful: float | None
    cpu: float
    bytes_out: int
    bytes_moved: int


@dataclass(frozen=True)
class TaskCost:
    """The cost of a task, over all attempts.

    Parameters
    ----------
    worker : the worker that ran it last
    seconds : in the task
    useful : seconds that it takes serially; None: unknown
    """

    key: str
    step: str
    worker: str
    seconds: float
    useful: float | None


def steps(trace: Trace, serial: SerialTimes | None = None, *, most: int = 10) -> tuple[StepCost, ...]:
    """Return the ``most`` steps whose tasks took longest, the longest first.

    Raises
    ------
    ValueError : if a task has no time in ``serial``
    """
    keys: dict[str, dict[str, None]] = {}
    sums: dict[str, list[int]] = {}
    names = ("step", "key", "start", "stop", "cpu", "bytes_out", "bytes_in", "bytes_sent")
    columns = [trace.tasks[name].to_pylist() for name in names]
    for step, key, start, stop, cpu, bytes_out, bytes_in, bytes_sent in zip(*columns, strict=True):
        keys.setdefault(step, {})[key] = None
        found = sums.setdefault(step, [0, 0, 0, 0])
        found[0] += stop - start
        found[1] += cpu
        found[2] += bytes_out
        found[3] += bytes_in + bytes_sent
    longest = sorted(sums, key=lambda step: (-sums[step][0], step))[:most]
    return tuple(
        StepCost(
            step=step,
            n_tasks=len(keys[step]),
            seconds=sums[step][0] / 1e9,
            useful=None if serial is None else sum(_useful(serial, key) for key in keys[step]),
            cpu=sums[step][1] / 1e9,
            bytes_out=sums[step][2],
            bytes_moved=sums[step][3],
        )
        for step in longest
    )


def tasks(trace: Trace, serial: SerialTimes | None = None, *, most: int = 10) -> tuple[TaskCost, ...]:
    """Return the ``most`` tasks that took longest, the longest first.

    Raises
    ------
    ValueError : if a task has no time in ``serial``
    """
    seconds: dict[str, int] = {}
    where: dict[str, tuple[str, str]] = {}
    columns = [trace.tasks[name].to_pylist() for name in ("key", "step", "worker", "start", "stop")]
    for key, step, worker, start, stop in zip(*columns, strict=True):  # in the order of start
        seconds[key] = seconds.get(key, 0) + stop - start
        where[key] = (step, worker)
    longest = sorted(seconds, key=lambda key: (-seconds[key], key))[:most]
    return tuple(
        TaskCost(key, *where[key], seconds[key] / 1e9, None if serial is None else _useful(serial, key))
        for key in longest
    )


def _useful(serial: SerialTimes, key: str) -> float:
    if key not in serial.seconds:
        raise ValueError(f"the serial run has no time for task {key}: it ran another graph")
    return serial.seconds[key]


def cost(reference_seconds: float, elapsed: Mapping[int, float]) -> int | None:
    """Return the smallest number of workers that is faster than a single-threaded reference; None if none is.

    Parameters
    ----------
    reference_seconds : of the whole job as a plain single-threaded program
    elapsed : number of workers -> seconds

    >>> cost(10.0, {1: 17.0, 2: 11.0, 4: 6.0, 8: 4.0})
    4
    """
    return min((n for n, seconds in elapsed.items() if seconds < reference_seconds), default=None)
