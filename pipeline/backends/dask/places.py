"""On a worker: whether a segment that uses limits may begin; see :mod:`pipeline.backends.dask.admission`."""

from __future__ import annotations

from time import perf_counter, sleep

from distributed import Reschedule, Worker
from distributed.utils import sync

from pipeline.graph.segments import Segment

__all__ = ["BEGUN", "MAY_BEGIN", "METADATA", "begin_on_worker"]

METADATA = "pipeline-limits"
"""The key of the scheduler's metadata: run -> segment -> :data:`BEGUN` and :data:`MAY_BEGIN`."""

BEGUN, MAY_BEGIN = "begun", "may begin"
"""How often a segment has begun, counted by workers, at first 0; how often it may, set by the client, at first 1."""

_PATIENCE, _POLL = 0.1, 0.01  # seconds for which a worker keeps a segment without a place, and between two looks


def begin_on_worker(worker: Worker, segment: Segment, run: str, topic: str) -> None:
    """Count that a segment begins; to be called on the worker.

    Raises
    ------
    Reschedule : if it has no place
    """
    if not segment.uses:
        return
    keys = [METADATA, run, str(segment.number)]

    def numbers() -> tuple[int, int]:
        found = sync(worker.loop, worker.scheduler.get_metadata, keys=keys, default={})
        return found.get(BEGUN, 0), found.get(MAY_BEGIN, 1)

    begun, may_begin = numbers()
    if begun >= may_begin:
        worker.log_event(topic, {"run": run, "asks": segment.number})
        deadline = perf_counter() + _PATIENCE
        while begun >= may_begin:
            if perf_counter() > deadline:
                raise Reschedule
            sleep(_POLL)
            begun, may_begin = numbers()
        worker.log_event(topic, {"run": run, "goes on": segment.number})
    sync(worker.loop, worker.scheduler.set_metadata, keys=[*keys, BEGUN], value=begun + 1)
