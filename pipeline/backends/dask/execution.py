"""One run of one Graph: timeouts, retries and events, from what workers and scheduler report."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import perf_counter, perf_counter_ns
from typing import Any

from distributed import Client

from pipeline.backends.dask import health
from pipeline.backends.dask.attempts import Attempts, Deadlines, Overdue
from pipeline.backends.dask.clock import ClusterUsage, Rows, offsets
from pipeline.backends.dask.cluster import Settings, restart_workers
from pipeline.backends.dask.dashboard_client import DashboardClient
from pipeline.backends.dask.error_translation import translated
from pipeline.backends.dask.keys import Plan, lower
from pipeline.backends.dask.probe import versions
from pipeline.backends.dask.status_files import late_mark
from pipeline.backends.dask.submission import FutureFailed, Report, Results, Submission
from pipeline.backends.events import (
    ItemDropped,
    Listener,
    TaskRetry,
    TasksDone,
    WorkerLoss,
    output_events,
    show_output,
)
from pipeline.errors import TaskTimeout
from pipeline.graph.graph import Graph, Key
from pipeline.graph.segments import Failure, Segment
from pipeline.trace.trace import Trace
from pipeline.worker.output_buffer import Line

__all__ = ["DaskExecution"]

_TICK = 0.25  # seconds between two checks of deadlines and scheduler, when nothing arrives
_PROBE_EVERY = 2.0
_SILENCE = 8.0  # seconds without an answer after which a scheduler counts as lost


class DaskExecution:
    """One run of one graph; lives as long as one call of ``run``. States: made -> running -> over.

    Dask schedules, moves results, retries and recovers from killed workers. This submits the graph at once, handles
    the reports of the workers, stops tasks that exceed their timeout, and checks that the scheduler answers.

    Parameters
    ----------
    scratch : folder for files that outlive the workers; empty where the workers are on other machines
    """

    def __init__(
        self,
        client: Client,
        graph: Graph,
        segments: Sequence[Segment],
        context: Any,
        listener: Listener | None,
        settings: Settings,
        scratch: str,
        dashboard: DashboardClient,
    ) -> None:
        self._client, self._graph, self._segments = client, graph, segments
        self._context, self._settings, self._dashboard = context, settings, dashboard
        self._id = secrets.token_hex(8)
        self._scratch, self._status_folder = scratch, ""
        self._reports = _Reports(segments, listener or show_output)
        self._deadlines = Deadlines(segments)
        silence = _SILENCE + len(segments) / 5000  # the scheduler does not answer while it takes in a large graph
        self.health = health.Health(client, silence=silence, every=_PROBE_EVERY, no_workers=settings.timeout)
        self._usage = ClusterUsage(client)
        self._began = self._elapsed = 0  # ns

    @property
    def dropped(self) -> tuple[tuple[str, str, str], ...]:
        """Step, item and cause of each item that was left out."""
        return tuple(self._reports.dropped.values())

    def run(self) -> dict[Key, Any]:
        """Run the graph; return the wanted results."""
        if self._scratch:
            self._status_folder = tempfile.mkdtemp(prefix="status-", dir=self._scratch)
        try:
            return self._run()
        finally:
            if self._status_folder:
                shutil.rmtree(self._status_folder, ignore_errors=True)

    def _run(self) -> dict[Key, Any]:
        graph = self._graph
        plan = lower(self._segments, graph.wanted, self._context, self._id, self._client.id, self._status_folder)
        wanted = list(dict.fromkeys(plan.places[key][0] for key in graph.wanted))
        self._dashboard.begin(graph, plan, self._id)
        self._reports.listener = self._dashboard.observing(self._reports.listener)
        with Submission(self._client, self._id, direct=True if self._settings.local else None) as submission:
            self._began = perf_counter_ns()
            submission.submit(plan, wanted)
            values = dict(zip(wanted, self._wait(submission, plan), strict=True))
            self._elapsed = perf_counter_ns() - self._began
        results = {}
        for key in graph.wanted:
            holder, place = plan.places[key]
            results[key] = values[holder] if place is None else values[holder][place]
        return results

    def trace(self, *, backend: str, n_workers: int, start_up: float) -> Trace:
        """Return the Trace of the run that is over; asks the workers for their clocks."""
        rows = self._reports.rows
        records = rows.records(offsets(self._client, rows.boots), self._began)
        notes = {
            "n_segments": len(self._segments),
            "lost_workers": list(self._reports.lost),
            "clock_error": rows.clock_error,
            "versions": versions(),
            "cpu": self._usage.beside(tasks=sum(row.cpu for row in records) / 1e9),
            "gaps": rows.gaps(records, self._reports.lost, self._elapsed),
            "measuring": rows.measuring / 1e9 / max(1, len(records)),
        }
        elapsed = self._elapsed / 1e9
        return Trace.from_records(
            records, elapsed=elapsed, backend=backend, n_workers=n_workers, start_up=start_up, notes=notes
        )

    def _wait(self, submission: Submission, plan: Plan) -> list[Any]:
        """Handle what arrives until all results are there."""
        checked = perf_counter()
        while True:
            if perf_counter() - checked > _TICK:
                checked = perf_counter()
                self._check()
            arrived = submission.receive(_TICK)
            if arrived is None:
                continue
            self.health.heard()
            if isinstance(arrived, Results):
                return arrived.values
            if isinstance(arrived, FutureFailed):
                raise translated(plan, self._status_folder, *arrived, timeout=self._settings.timeout)
            self._handle(arrived)

    def _check(self) -> None:
        self.health.check()
        self._dashboard.flush()
        for overdue in self._deadlines.overdue():
            self._stop(overdue)
        if self._settings.local:
            health.in_loop(self._client, restart_workers, self._client.cluster)

    def _handle(self, report: Report) -> None:
        content = report.content
        if "action" in content:  # remove-worker
            if not content.get("expected"):
                self._deadlines.forget_worker(str(content["worker"]))
                self._reports.worker_ended(str(content["worker"]))
        elif "output" in content:
            self._reports.output(content)
        elif "began" in content:
            self._deadlines.begin(content)
        else:
            self._deadlines.end(content["segment"], content["address"])
            self._reports.segment_ended(content, report.arrived)

    # ---- timeouts

    def _stop(self, overdue: Overdue) -> None:
        """Stop a task that exceeds its timeout, by ending its worker; Dask runs what else that had on another.

        A thread can't be stopped, so the process is killed, and Dask starts another one.

        Raises
        ------
        TaskTimeout : if the task may not be run again nor left out, or if its worker is not ours to end
        """
        number, address, task, pid = overdue
        segment, failure = self._segments[number], Failure.late(task)
        if not self._settings.local:
            message = f"{failure.error()}; worker {address} still runs it: end that worker if it does not return"
            raise TaskTimeout(message, task.name)
        self._deadlines.forget_worker(address)
        if not self._reports.task_failed(segment, failure):
            if not failure.drop:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                raise failure.error()
            late_mark(self._status_folder, segment, segment.tasks.index(task)).touch()
        self._reports.lost.append(address)
        health.in_loop(self._client, self._end_worker, address, pid)

    async def _end_worker(self, address: str, pid: int) -> None:
        """Remove a worker from the scheduler, so that the tasks that waited there are not blamed, and end it."""
        cluster: Any = self._client.cluster
        await cluster.scheduler.remove_worker(address, stimulus_id="timeout", expected=True, close=False)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class _Reports:
    """Turns what the workers report into events, rows of the Trace, and the list of dropped items.

    State: ``rows``, one for each task that ran; ``dropped``; ``lost``, the addresses of the workers that ended; how
    often each segment has failed.
    """

    def __init__(self, segments: Sequence[Segment], listener: Listener) -> None:
        self._segments = segments
        self.listener = listener
        self.rows = Rows(segments)
        self.dropped: dict[tuple[str, str], tuple[str, str, str]] = {}
        self.lost: list[str] = []
        self._attempts = Attempts()

    def output(self, report: Mapping[str, Any]) -> None:
        for event in output_events(report["name"], (Line(*line) for line in report["output"])):
            self.listener(event)

    def task_failed(self, segment: Segment, failure: Failure) -> bool:
        """Count a failure; return whether the segment is run again."""
        again = self._attempts.fail(segment)
        if again:
            self.listener(TaskRetry(failure.step, failure.key, failure.item, failure.cause))
        return again

    def segment_ended(self, report: Mapping[str, Any], arrived: int) -> None:
        segment = self._segments[report["segment"]]
        self.rows.add(report, arrived)
        if report["failed"] is not None:
            self.task_failed(segment, Failure(*report["failed"]))
            return
        if not self._attempts.finish(segment):
            return
        for position, start, stop, *_ in report["rows"]:
            task = segment.tasks[position]
            self.listener(TasksDone(task.step, str(task.key), task.item, seconds=(stop - start) / 1e9))
        for step, item, cause in report["dropped"]:
            self.dropped[step, item] = (step, item, cause)
            self.listener(ItemDropped(step, item, cause))

    def worker_ended(self, address: str) -> None:
        self.lost.append(address)
        self.listener(WorkerLoss(message=f"worker {address} ended; its tasks are run again elsewhere"))
