"""Speedup as a product of factors, each of which says what one kind of loss costs.

With P workers, each busy (in tasks) for some of the elapsed time::

    speedup = P x computation scaling x load balance x serialization efficiency x transfer efficiency x overhead

            = P x useful / sum of busy       tasks take longer side by side than alone
                x mean of busy / max of busy work is spread unevenly
                x max of busy / ideal        workers wait for each other's results
                x ideal / elapsed            everything but the tasks: transfer, unpickling, scheduling
                x serial elapsed / useful    what serial itself spends beside the tasks

All cancels but serial elapsed / elapsed, so the identity is exact. *ideal* is not measured but a model: the same tasks
replayed where they ran, nothing else taking time. A real run can be faster than that: it may have run a task again in
another place, or clocks may be off. Then transfer efficiency is above 1, and is told so rather than clipped.

References
----------
POP Centre of Excellence, Standard Metrics for Performance Assessment (pop-coe.eu): parallel efficiency = load balance x
communication efficiency (serialization x transfer); global efficiency = parallel efficiency x computation scaling.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.trace.losses import SerialTimes, rectangle, useful_seconds
from pipeline.trace.trace import Trace

__all__ = ["Factors", "factors"]


@dataclass(frozen=True)
class Factors:
    """The factors of a speedup; 1 is no loss. With retries serialization efficiency may exceed 1, since ideal counts
    the last attempt only.

    Parameters
    ----------
    speedup : serial elapsed over elapsed
    n_workers : lanes of the rectangle
    overhead : serial elapsed over the seconds in its tasks: >= 1
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
        """Workers times all factors: the speedup, up to rounding."""
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
        """Whether transfer efficiency is above 1: the replay is then slower than the run was."""
        return self.transfer_efficiency > 1


def factors(trace: Trace, serial: SerialTimes, ideal: float) -> Factors:
    """The factors of one run's speedup.

    Parameters
    ----------
    ideal : seconds of the replay at the measured placement, with the measured times in the tasks; see
        :func:`pipeline.trace.replay.replay`

    Raises
    ------
    ValueError : if no task took any time, here or serially, or serial's time of a task is not known
    """
    busy = [lane["task"] / 1e9 for lane in rectangle(trace).lanes]
    useful = useful_seconds(trace, serial)
    for name, seconds in (
        ("in the tasks", sum(busy)),
        ("in the tasks serially", useful),
        ("in the replay", ideal),
        ("in the run", trace.elapsed),
    ):
        if seconds <= 0:
            raise ValueError(f"no time was spent {name}: there are no factors of a speedup")
    return Factors(
        speedup=serial.elapsed / trace.elapsed,
        n_workers=len(busy),
        computation_scaling=useful / sum(busy),
        load_balance=sum(busy) / len(busy) / max(busy),
        serialization_efficiency=max(busy) / ideal,
        transfer_efficiency=ideal / trace.elapsed,
        overhead=serial.elapsed / useful,
    )
