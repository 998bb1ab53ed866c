"""Exceptions from Dask as errors of this package, with the task that they belong to."""

from __future__ import annotations

from typing import Any

from distributed.scheduler import KilledWorker

from pipeline.backends.dask.keys import Plan
from pipeline.backends.dask.nannies import Tending
from pipeline.backends.dask.remote_task import SegmentFailed
from pipeline.backends.dask.status_files import read_status
from pipeline.errors import BackendError, PipelineError, TaskError, WorkerLost, where
from pipeline.graph.graph import Key
from pipeline.worker.tracebacks import one_line

__all__ = ["translated", "worker_lost"]


def translated(
    plan: Plan, status_folder: str, tending: Tending, dask_key: Key, error: BaseException, *, timeout: float
) -> PipelineError:
    """Return our error for an exception that a Dask future has.

    Parameters
    ----------
    timeout : seconds that Dask has waited for a worker, for the message
    """
    if isinstance(error, PipelineError):
        return error
    if isinstance(error, KilledWorker):
        return worker_lost(plan, status_folder, error, tending)
    segment = plan.segments.get(dask_key)
    if isinstance(error, SegmentFailed):
        failure = error.failure
        if failure.step or segment is None:
            return failure.error()
        return TaskError(segment.tasks[-1].step, str(segment.tasks[-1].key), failure.cause, "", failure.traceback)
    if type(error).__name__ in ("NoValidWorkerError", "NoWorkerError"):
        step = segment.step if segment is not None else dask_key
        return BackendError(f"{step}: no worker could run it within {timeout:g} s: {error}")
    if segment is None or isinstance(error, OSError) or "deserialization of the task graph" in str(error):
        return BackendError(f"the Dask cluster failed: {one_line(error)}")
    task = next((t for t in segment.tasks if t.key in segment.outputs), segment.tasks[-1])
    return TaskError(task.step, str(task.key), one_line(error), task.item)


def worker_lost(plan: Plan, status_folder: str, error: KilledWorker, tending: Tending) -> WorkerLost:
    """Return the error for a task that ended one worker after the other, as exactly as the task is known.

    Dask blames every segment that a lost worker had, also those that only waited there; the status file of the worker,
    if there is one, names the task that it ran.
    """
    dask_key: Any = error.task  # Dask types it as any part of a key
    address = str(error.last_worker.address)
    blamed = plan.segments[dask_key]
    begun = read_status(status_folder, address) if status_folder else []
    candidates = [status for status in begun if status.segment == blamed.number] or begun
    # where several threads ran tasks, it is unknown which of them it was
    position: int | None = None
    number = blamed.number
    if len(candidates) == 1:
        number, position, _ = candidates[0]
    segment = next(s for s in plan.segments.values() if s.number == number)
    task = segment.tasks[position or 0]
    n_others = len(segment.tasks) - 1
    or_others = f" or one of {n_others} with it" if position is None and n_others else ""
    how = tending.how_ended(address)
    likely = ". Out of memory is likely, or the task ends its process" if how == "ended" else ""
    return WorkerLost(
        f"{where(task.step, task.item)}: worker {address} {how} while it ran task {task.key}{or_others}, "
        f"as {error.allowed_failures} workers before it{likely}",
        task.name,
    )
