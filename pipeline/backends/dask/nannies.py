"""The nannies of a LocalCluster: each keeps one worker going, also one that is killed while it starts, or stopped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from distributed import Nanny
from distributed.core import Status

from pipeline.backends import descendants
from pipeline.backends.stopped import StoppedProcesses

__all__ = ["TendedNanny", "Tending"]

_TICK = 0.25  # seconds between two looks at a worker
_MOST_STARTS = 3  # of a worker that ends while it starts


@dataclass
class Tending:
    """What all nannies of a cluster share.

    Parameters
    ----------
    patience : seconds after which a stopped worker is ended
    stopped : address of each worker that was ended for that -> the seconds that it was stopped
    """

    patience: float = 10.0
    stopped: dict[str, float] = field(default_factory=dict)

    def how_ended(self, address: str) -> str:
        """Return how a worker that was lost has ended, for messages."""
        if address in self.stopped:
            return f"was stopped (SIGSTOP) for {self.stopped[address]:.0f} s, and was ended for that"
        return "ended"


class TendedNanny(Nanny):
    """A nanny that starts its worker again if it ends while it starts, and ends it if it is stopped for too long."""

    def __init__(self, *arguments: Any, tending: Tending, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._tending = tending
        self._looking: asyncio.Task[None] | None = None

    async def instantiate(self) -> Status:
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        for _ in range(_MOST_STARTS):
            status = await super().instantiate()
            if status == Status.running or self.status != Status.init:  # while it runs, Dask starts the worker again
                break
        return status

    async def close(self, *arguments: Any, **options: Any) -> Any:
        if self._looking is not None:
            self._looking.cancel()
        return await super().close(*arguments, **options)

    async def _look(self) -> None:
        stopped = StoppedProcesses()
        while True:
            await asyncio.sleep(_TICK)
            for process, seconds in stopped.look([self.pid]).items():
                if seconds > self._tending.patience:
                    if self.worker_address:
                        self._tending.stopped[self.worker_address] = seconds
                    descendants.end([process])
