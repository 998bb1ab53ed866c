"""Enforces the timeouts of tasks: stops those that exceed them, by ending their worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter_ns
from typing import Any, NamedTuple

from distributed import Client

from pipeline.backends import descendants
from pipeline.backends.dask.health import in_loop
from pipeline.backends.dask.reports import Reports
from pipeline.backends.dask.status_files import forget_status, mark_late, read_status
from pipeline.backends.events import Note
from pipeline.errors import TaskTimeout, where
from pipeline.graph.segments import Failure, Segment, SegmentTask

__all__ = ["Timeouts"]

_NAP = 5_000_000_000  # ns between two checks from which this process was stopped (Ctrl-Z), and its workers with it


_NOT_OURS = "its worker is not ours to end: the run waits until the task returns"


class _Late(NamedTuple):
    """A task that exceeded its timeout, and the worker that runs it; ``pid`` is 0 where the worker is not ours."""

    segment: Segment
    task: SegmentTask
    address: str
    pid: int = 0


class Timeouts:
    """The deadlines of the running tasks that have a timeout.

    What workers of ours run is read from their status files: these hold also for a worker that is stopped, or in C code
    that keeps the GIL. Others report when such a task begins; state: for each segment and worker the task that began
    last, and when, in ns.

    Parameters
    ----------
    reports : counts the failures, and decides whether a segment is run again
    status_folder : see :mod:`pipeline.backends.dask.status_files`; empty where the workers are not ours to end
    """

    def __init__(self, client: Client, segments: Sequence[Segment], reports: Reports, status_folder: str) -> None:
        self._client, self._segments, self._reports = client, segments, reports
        self._status_folder = status_folder
        self._any = any(task.timeout is not None for segment in segments for task in segment.tasks)
        self._running: dict[tuple[int, str], tuple[int, SegmentTask]] = {}
        self._checked = perf_counter_ns()
        self._naps: list[tuple[int, int]] = []  # when this process was stopped, and for how long, in ns

    def begin(self, report: Mapping[str, Any]) -> None:
        """Take a worker's report that a task has begun."""
        number, address = report["segment"], report["address"]
        task = self._segments[number].tasks[report["began"]]
        self.end(number, address)
        if task.timeout is not None:
            self._running[number, address] = (perf_counter_ns(), task)

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
        if not self._any:
            return
        now = perf_counter_ns()
        if now - self._checked > _NAP:
            self._naps.append((self._checked, now - self._checked))
        self._checked = now
        for late in list(self._late_here(now) if self._status_folder else self._late_elsewhere(now)):
            self._stop(late)

    def _late_here(self, now: int) -> Iterator[_Late]:
        cluster: Any = self._client.cluster
        for nanny in list(cluster.workers.values()):
            address, pid = nanny.worker_address, nanny.pid
            for number, position, start in read_status(self._status_folder, address) if address and pid else ():
                segment = self._segments[number]
                if start and self._is_late(segment.tasks[position], start, now):
                    yield _Late(segment, segment.tasks[position], address, pid)

    def _late_elsewhere(self, now: int) -> Iterator[_Late]:
        for (number, address), (start, task) in self._running.items():
            if self._is_late(task, start, now):
                yield _Late(self._segments[number], task, address)

    def _is_late(self, task: SegmentTask, start: int, now: int) -> bool:
        napped = sum(length for when, length in self._naps if when >= start)
        return task.timeout is not None and now - start - napped > task.timeout * 1e9

    def _stop(self, late: _Late) -> None:
        """End the worker of a task, since a thread can't be stopped; Dask starts another one."""
        failure = Failure.late(late.task)
        if not late.pid and late.segment.keep_going:
            self.end(late.segment.number, late.address)
            self._reports.listener(Note(f"{where(late.task.step, late.task.item)}: {failure.cause}; {_NOT_OURS}"))
            return
        if not late.pid:
            message = f"{failure.error()}; worker {late.address} still runs it: end that worker if it does not return"
            raise TaskTimeout(message, late.task.name)
        forget_status(self._status_folder, late.address)
        again, position = self._reports.task_failed(late.segment, failure), late.segment.tasks.index(late.task)
        if not again and not failure.drop and late.segment.keep_going:
            self._reports.fail([failure])
        elif not again and not failure.drop:
            in_loop(self._client, self._give_up, late.pid)
            raise failure.error()
        if late.segment.batch or not again:
            mark_late(self._status_folder, late.segment, position, again=again)
        self._reports.lost.append(late.address)
        in_loop(self._client, self._end_worker, late.address, late.pid)

    async def _give_up(self, pid: int) -> None:
        """Release all results of the run, and then kill the worker of a task: else another one would get the task."""
        scheduler: Any = self._client.cluster.scheduler  # type: ignore[union-attr]
        client = self._client.id
        scheduler.client_releases_keys([state.key for state in scheduler.clients[client].wants_what], client)
        descendants.end([pid])

    async def _end_worker(self, address: str, pid: int) -> None:
        """Remove a worker from the scheduler, so that the tasks that waited there are not blamed, and kill it."""
        cluster: Any = self._client.cluster
        await cluster.scheduler.remove_worker(address, stimulus_id="timeout", expected=True, close=False)
        descendants.end([pid])
