"""Worker processes that a signal has stopped (SIGSTOP): they neither work nor end, and what waits for them waits on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import perf_counter

import psutil

from pipeline.graph.graph import Graph

__all__ = ["StoppedProcesses", "patience"]

_PATIENCE = 30.0
"""Seconds after which a stopped worker counts as lost, and is ended; fewer where a step has a shorter timeout."""

_MORE = 5.0  # seconds more than a timeout, so that a stopped task is late, and not its worker lost
_STEP = 1.0  # seconds that one look adds at most: this process may have been stopped, too (Ctrl-Z)


def patience(graph: Graph) -> float:
    """Return after how many seconds a stopped worker counts as lost: a step's timeout must hold there, too."""
    timeouts = [policy.timeout for policy in graph.policies.values() if policy.timeout is not None]
    return min([_PATIENCE, *timeouts]) + _MORE


class StoppedProcesses:
    """For how long processes have been stopped; state: the seconds of each that was stopped at the last look."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._looked = perf_counter()

    def look(self, processes: Iterable[int | None]) -> Mapping[int, float]:
        """Return the process ids of those that are stopped, with the seconds since; to be called every second."""
        now = perf_counter()
        step, self._looked = min(now - self._looked, _STEP), now
        self._seconds = {p: self._seconds.get(p, -step) + step for p in processes if p is not None and _is_stopped(p)}
        return self._seconds


def _is_stopped(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False
