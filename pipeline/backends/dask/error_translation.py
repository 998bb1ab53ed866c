"""What goes wrong on Dask, as one of our errors: whose task it was, and what it had to do with it."""

from __future__ import annotations

from typing import Any

from distributed.scheduler import KilledWorker

from pipeline.backends.dask.keys import Plan
from pipeline.backends.dask.remote_task import SegmentFailed, read_slots
from pipeline.errors import BackendError, PipelineError, TaskError, WorkerLost
from pipeline.graph.graph import Key

__all__ = ["killed", "translated"]


def translated(plan: Plan, slots: str, dask_key: Key, error: BaseException, *, timeout: float) -> PipelineError:
    """An exception that Dask hands on, as one of ours."""
    if isinstance(error, PipelineError):
        return error
    if isinstance(error, KilledWorker):
        return killed(plan, slots, error)
    segment = plan.segments.get(dask_key)
    if isinstance(error, SegmentFailed):
        failure = error.failure
        if failure.step or segment is None:
            return failure.error()
        return TaskError(segment.tasks[-1].step, str(segment.tasks[-1].key), failure.cause, "", failure.traceback)
    cause = f"{type(error).__name__}: {error}"
    if type(error).__name__ in ("NoValidWorkerError", "NoWorkerError"):
        step = segment.step if segment is not None else dask_key
        return BackendError(f"{step}: no worker could run it within {timeout:g} s: {error}")
    if segment is None or isinstance(error, OSError) or "deserialization of the task graph" in str(error):
        return BackendError(f"the Dask cluster failed: {cause}")
    inner = next((i for i in segment.tasks if i.key in segment.outputs), segment.tasks[-1])
    return TaskError(inner.step, str(inner.key), cause, inner.item)


def killed(plan: Plan, slots: str, error: KilledWorker) -> WorkerLost:
    """Name the task that worker after worker ended with, as exactly as can be known.

    Dask blames every segment that a lost worker had, those too that only waited there; the worker's own note, where
    there is one, says what it ran.
    """
    task: Any = error.task  # any part of a key, as Dask sees it
    address = str(error.last_worker.address)
    blamed = plan.segments[task]
    begun = read_slots(slots, address) if slots else []
    ran = [note for note in begun if note[0] == blamed.number] or begun
    number, index = ran[-1] if len(ran) == 1 else (blamed.number, None)  # of several threads nobody knows which it was
    segment = next(s for s in plan.segments.values() if s.number == number)
    inner = segment.tasks[index or 0]
    named = TaskError(inner.step, str(inner.key), "", inner.item)
    one_of = f" or one of {len(segment.tasks) - 1} with it" if index is None and len(segment.tasks) > 1 else ""
    return WorkerLost(
        f"{named.where}: worker {address} ended while it ran task {inner.key}{one_of}, "
        f"as {error.allowed_failures} workers before it. Out of memory is likely, or the task ends its process",
        inner.name,
    )
