"""Express a speedup as a product of factors, one for each kind of loss.

With P workers, each of which is busy (in tasks) for a part of the elapsed time::

    speedup = P x computation scaling x load balance x serialization efficiency x transfer efficiency x overhead

            = P x useful / sum of busy       tasks take longer side by side than alone
                x mean of busy / max of busy work is spread unevenly
                x max of busy / ideal        workers wait for each other's results
                x ideal / elapsed            everything but the tasks: transfer, unpickling, scheduling
                x serial elapsed / useful    what the serial run spends beside its tasks

Everything but serial elapsed / elapsed cancels, so this is exact. *ideal* is a model: a replay of the same tasks on the
workers where they ran, in which nothing else takes time. A real run can be faster than its replay: a task may have run
a second time on another worker, or clocks differ. Transfer efficiency is then above 1, and is not clipped.

References
----------
POP Centre of Excellence, Standard Metrics for Performance Assessment (pop-coe.eu): parallel efficiency = load balance x
communication efficiency (serialization x transfer); global efficiency = parallel efficiency x computation scaling.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.trace.losses import SerialTimes, core_time, useful_seconds
from pipeline.trace.trace import Trace

__all__ = ["Factors", "factors"]


@dataclass(frozen=True)
class Factors:
    """The factors of a speedup; 1 means no loss.

    With retries serialization efficiency may be above 1, since only the last attempt counts in ideal.

    Parameters
    ----------
    speedup : serial elapsed divided by elapsed
    n_workers : number of lanes
    overhead : serial elapsed divided by the seconds in its tasks, >= 1
    """

    speedup: float
    n_workers: int
    computation_scaling: float
    load_balance: float
    serialization_efficiency: float
    transfer_efficiency: float
    overhead: float

    @property
    def product(self) -> float:
        """Workers times all factors, which is the speedup, up to rounding."""
        return (
            self.n_workers
            * self.computation_scaling
            * self.load_balance
            * self.serialization_efficiency
            * self.transfer_efficiency
            * self.overhead
        )

    @property
    def transfer_is_model(self) -> bool:
        """Whether transfer efficiency is above 1: the replay took longer than the run."""
        return self.transfer_efficiency > 1


def factors(trace: Trace, serial: SerialTimes, ideal: float) -> Factors:
    """Return the factors of one run's speedup.

    Parameters
    ----------
    ideal : seconds of a replay with the measured placement and the measured task times; see
        :func:`pipeline.trace.replay.replay`

    Raises
    ------
    ValueError : if no task took any time, here or serially, or a task has no time in ``serial``
    """
    busy = [lane["task"] / 1e9 for lane in core_time(trace).lanes]
    useful = useful_seconds(trace, serial)
    for name, seconds in (
        ("in the tasks", sum(busy)),
        ("in the tasks serially", useful),
        ("in the replay", ideal),
        ("in the run", trace.elapsed),
    ):
        if seconds <= 0:
            raise ValueError(f"no time was spent {name}, so the speedup has no factors")
    return Factors(
        speedup=serial.elapsed / trace.elapsed,
        n_workers=len(busy),
        computation_scaling=useful / sum(busy),
        load_balance=sum(busy) / len(busy) / max(busy),
        serialization_efficiency=max(busy) / ideal,
        transfer_efficiency=ideal / trace.elapsed,
        overhead=serial.elapsed / useful,
    )
