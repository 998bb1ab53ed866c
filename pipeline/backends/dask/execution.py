"""One run of one Graph: submits it, handles what workers and scheduler report, and returns results and Trace."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter, perf_counter_ns
from typing import Any

from distributed import Client

from pipeline.backends.dask import health
from pipeline.backends.dask.admission import Admission
from pipeline.backends.dask.clock import ClusterUsage, offsets
from pipeline.backends.dask.cluster import Settings, restart_workers
from pipeline.backends.dask.collected_values import CollectedValues
from pipeline.backends.dask.dashboard_client import DashboardClient
from pipeline.backends.dask.error_translation import translated
from pipeline.backends.dask.keep_going import NotComputed
from pipeline.backends.dask.keys import Plan, lower
from pipeline.backends.dask.nannies import Tending
from pipeline.backends.dask.probe import versions
from pipeline.backends.dask.reports import Reports
from pipeline.backends.dask.submission import Fetched, FutureFailed, Report, Results, Submission
from pipeline.backends.dask.timeouts import Timeouts
from pipeline.backends.events import Listener, show_output
from pipeline.errors import BackendError, TaskEntryDamaged, TaskError, WorkerLost
from pipeline.graph.graph import Graph, Key
from pipeline.graph.segments import Failure, Segment
from pipeline.trace.trace import Trace

__all__ = ["DaskExecution"]

_TICK = 0.25  # seconds between two checks of deadlines and scheduler, when nothing arrives
_PROBE_EVERY = 2.0
_SILENCE = 8.0  # seconds without an answer after which a scheduler counts as lost


class DaskExecution:
    """One run of one graph; lives as long as one call of ``run``. States: made -> running -> over.

    Dask schedules, moves results, retries and recovers from killed workers. This submits the graph at once, passes on
    the reports of the workers (:class:`Reports`), has tasks stopped that exceed their timeout (:class:`Timeouts`), and
    checks that the scheduler answers (:class:`Health`).

    Parameters
    ----------
    status_folder : see :mod:`pipeline.backends.dask.status_files`; empty where the workers are not ours
    tending : of the nannies of a LocalCluster
    """

    def __init__(
        self,
        client: Client,
        graph: Graph,
        segments: Sequence[Segment],
        context: Any,
        listener: Listener | None,
        settings: Settings,
        status_folder: str,
        dashboard: DashboardClient,
        tending: Tending,
        keep_going: bool,
    ) -> None:
        self._keep_going = keep_going
        self._client, self._graph, self._segments = client, graph, segments
        self._context, self._settings, self._dashboard, self._tending = context, settings, dashboard, tending
        self._id = secrets.token_hex(8)
        self._status_folder = status_folder
        self._reports = Reports(segments, listener or show_output)
        self._timeouts = Timeouts(client, segments, self._reports, status_folder)
        silence = _SILENCE + len(segments) / 5000  # the scheduler does not answer while it takes in a large graph
        self.health = health.Health(client, silence=silence, every=_PROBE_EVERY, no_workers=settings.timeout)
        self._usage = ClusterUsage(client)
        self._admission: Admission | None = None
        self._plan: Plan
        self._collected: CollectedValues
        self._submit: Callable[..., None]
        self._began = self._elapsed = 0  # ns

    @property
    def dropped(self) -> tuple[tuple[str, str, str], ...]:
        """Step, item and cause of each item that was left out."""
        return tuple(self._reports.dropped.values())

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Of the tasks that were given up."""
        return tuple(self._reports.failed.values())

    def run(self) -> dict[Key, Any]:
        """Run the graph; return the wanted results that could be computed."""
        graph = self._graph
        plan = self._plan = lower(
            self._segments, graph.wanted, self._context, self._id, self._client.id, self._status_folder
        )
        wanted = list(dict.fromkeys(plan.places[key][0] for key in graph.wanted))
        self._dashboard.begin(graph, plan, self._id)
        self._reports.listener = self._dashboard.observing(self._reports.listener)
        direct = True if self._settings.local else None
        with Submission(self._client, self._id, direct=direct, keep_going=self._keep_going) as submission:
            self._began = perf_counter_ns()
            self._collected = CollectedValues(graph, plan, wanted)
            self._submit = partial(submission.submit_part, plan, wanted, self._collected.keys)
            if any(segment.uses for segment in self._segments) and wanted:
                self._admission = Admission(self._client, self._segments, plan, graph, self._id)
                self._admit(self._admission.begin())
            else:
                submission.submit(plan, wanted, self._collected.keys)
            values = dict(zip(wanted, self._wait(submission), strict=True))
            self._elapsed = perf_counter_ns() - self._began
            self._await_collected(submission)
            if self._admission is not None:
                self._admission.close()
        results = {}
        for key in graph.wanted:
            holder, place = plan.places[key]
            value = values[holder] if place is None else values[holder][place]
            if type(value) is not NotComputed:
                results[key] = value
        return results

    def trace(self, *, backend: str, n_workers: int, start_up: float) -> Trace:
        """Return the Trace of the run that is over; asks the workers for their clocks."""
        rows = self._reports.rows
        places = {"before": self._admission.before} if self._admission is not None else {}
        records = rows.records(offsets(self._client, rows.boots), self._began, **places)
        notes = {
            "n_segments": len(self._segments),
            **({"limits": dict(self._graph.limits)} if self._graph.limits else {}),
            "lost_workers": list(self._reports.lost),
            "shared": sorted(map(list, self._reports.shared)),
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

    def _wait(self, submission: Submission) -> list[Any]:
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
                self._future_failed(arrived)
            else:
                self._handle(arrived, submission)

    def _future_failed(self, failed: FutureFailed) -> None:
        """Raise our error for it; in a run that keeps going only if it is none of a task."""
        plan = self._plan
        error = translated(plan, self._status_folder, self._tending, *failed, timeout=self._settings.timeout)
        is_tasks = isinstance(error, TaskError | WorkerLost) and failed.key in plan.segments
        if not self._keep_going or not is_tasks or isinstance(error, TaskEntryDamaged):
            raise error
        blamed: Any = getattr(failed.error, "task", failed.key)  # by Dask: those that need it have the same error
        number = plan.segments.get(blamed, plan.segments[failed.key]).number
        if isinstance(error, TaskError):
            failure = Failure(error.step, error.key, error.item, error.cause, error.traceback)
        else:
            failure = Failure("", "", "", str(error), kind="lost")
        self._segment_lost(number, failure)

    def _segment_lost(self, number: int, failure: Failure) -> None:
        self._reports.segment_lost(number, failure)
        if self._admission is not None:
            self._admit(self._admission.ended(number))

    def _await_collected(self, submission: Submission) -> None:
        """Wait for the values that the client writes; a cluster that is gone meanwhile does not send them."""
        with suppress(BackendError):
            while self._collected.on_the_way:
                self._check()
                arrived = submission.receive(_TICK)
                if isinstance(arrived, (Report, Fetched)):
                    self.health.heard()
                    self._handle(arrived, submission)

    def _check(self) -> None:
        self._timeouts.enforce()
        self.health.check()
        self._dashboard.flush()
        if self._admission is not None:
            self._admit(self._admission.check())
        if self._settings.local:
            health.in_loop(self._client, restart_workers, self._client.cluster)

    def _handle(self, report: Report | Fetched, submission: Submission) -> None:
        if isinstance(report, Fetched):
            self._collected.arrived(submission, report)
            return
        content = report.content
        if content.get("action") == "unreadable":
            self._unreadable(content)
        elif "action" in content:  # remove-worker
            if not content.get("expected"):
                address = str(content["worker"])
                self._timeouts.forget_worker(address)
                self._reports.worker_ended(address, self._tending.how_ended(address))
        elif "output" in content:
            self._reports.output(content)
        elif "segment failed" in content:
            self._segment_lost(content["segment"], Failure(*content["segment failed"]))
        elif "item failed" in content:
            self._reports.item_failed(content)
        elif "asks" in content and self._admission is not None:
            self._admit(self._admission.asked(content["asks"]))
        elif "goes on" in content and self._admission is not None:
            self._admission.goes_on(content["goes on"])
        elif "began" in content:
            self._timeouts.begin(content)
        else:
            if not content["partial"]:
                self._timeouts.end(content["segment"], content["address"])
            self._reports.segment_ended(content, report.arrived)
            self._collected.reported(submission, self._segments[content["segment"]], content)
            if self._admission is not None and content["failed"] is None and not content["partial"]:
                self._admit(self._admission.ended(content["segment"]))

    def _unreadable(self, content: Mapping[str, Any]) -> None:
        """Raise the error for a result that arrived at another worker and can't be read there, if it is one of ours."""
        for key, segment in self._plan.segments.items():
            if str(key) == content["key"]:
                task = segment.tasks[-1]
                raise TaskError(task.step, str(task.key), f"another worker can't read the result: {content['cause']}")

    def _admit(self, numbers: Sequence[int]) -> None:
        if numbers and self._admission is not None:
            self._submit(numbers, last=self._admission.all_sent)
