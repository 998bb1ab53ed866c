"""Enforces the timeouts of tasks: stops those that exceed them, by ending their worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

from distributed import Client

from pipeline.backends.dask.health import in_loop
from pipeline.backends.dask.reports import Reports
from pipeline.backends.dask.status_files import mark_late
from pipeline.errors import TaskTimeout
from pipeline.graph.segments import Failure, Segment, SegmentTask

__all__ = ["Timeouts"]


class Timeouts:
    """The deadlines of the running tasks that have a timeout.

    Workers report when such a task begins. State: for each segment and worker the task that began last, when it is due,
    and the process id.

    Parameters
    ----------
    reports : counts the failures, and decides whether a segment is run again
    status_folder : see :mod:`pipeline.backends.dask.status_files`; empty where the workers are not ours to end
    """

    def __init__(self, client: Client, segments: Sequence[Segment], reports: Reports, status_folder: str) -> None:
        self._client, self._segments, self._reports = client, segments, reports
        self._status_folder = status_folder
        self._running: dict[tuple[int, str], tuple[float, SegmentTask, int]] = {}

    def begin(self, report: Mapping[str, Any]) -> None:
        """Take a worker's report that a task has begun."""
        number, address = report["segment"], report["address"]
        task = self._segments[number].tasks[report["began"]]
        self.end(number, address)
        if task.timeout is not None:
            self._running[number, address] = (perf_counter() + task.timeout, task, report["pid"])

    def end(self, number: int, address: str) -> None:
        """Forget a segment that has ended on a worker."""
        self._running.pop((number, address), None)

    def forget_worker(self, address: str) -> None:
        """Forget everything that ran on a worker."""
        self._running = {key: value for key, value in self._running.items() if key[1] != address}

    def enforce(self) -> None:
        """Stop every task that has exceeded its timeout; to be called often.

        Raises
        ------
        TaskTimeout : if such a task may not be run again nor left out, or if its worker is not ours to end
        """
        now = perf_counter()
        for (number, address), (due, task, pid) in list(self._running.items()):
            if now >= due:
                self._stop(self._segments[number], task, address, pid)

    def _stop(self, segment: Segment, task: SegmentTask, address: str, pid: int) -> None:
        """End the worker of a task, since a thread can't be stopped; Dask starts another one."""
        failure = Failure.late(task)
        if not self._status_folder:
            message = f"{failure.error()}; worker {address} still runs it: end that worker if it does not return"
            raise TaskTimeout(message, task.name)
        self.forget_worker(address)
        again, position = self._reports.task_failed(segment, failure), segment.tasks.index(task)
        if not again and not failure.drop:
            _kill(pid)
            raise failure.error()
        if segment.batch or not again:
            mark_late(self._status_folder, segment, position, again=again)
        self._reports.lost.append(address)
        in_loop(self._client, self._end_worker, address, pid)

    async def _end_worker(self, address: str, pid: int) -> None:
        """Remove a worker from the scheduler, so that the tasks that waited there are not blamed, and kill it."""
        cluster: Any = self._client.cluster
        await cluster.scheduler.remove_worker(address, stimulus_id="timeout", expected=True, close=False)
        _kill(pid)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
