"""One graph on its way through a cluster, watched from here.

Timeouts are watched by what the workers tell as tasks begin: a thread that does not come back can't be stopped, so on
workers of ours the process is killed (Dask starts another); elsewhere the task goes on unheard.
"""

from __future__ import annotations

import asyncio
import os
import queue
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import perf_counter, perf_counter_ns
from typing import Any

import dask
from dask.base import annotate
from distributed import Client, Future

from pipeline.backends.dask import cluster as clusters
from pipeline.backends.dask import health
from pipeline.backends.dask.clock import Rows
from pipeline.backends.dask.dashboard_client import DashboardClient
from pipeline.backends.dask.error_translation import translated
from pipeline.backends.dask.keys import Plan, Spans, lower
from pipeline.backends.dask.remote_task import late_mark
from pipeline.backends.events import (
    ItemDropped,
    Listener,
    TaskRetry,
    TasksDone,
    WorkerLoss,
    output_events,
    show_output,
)
from pipeline.errors import BackendError, TaskTimeout
from pipeline.graph.graph import Graph, Key
from pipeline.graph.segments import Failure, Segment, SegmentTask
from pipeline.worker.output_capture import Line

__all__ = ["DaskExecution"]

_TICK = 0.25  # seconds between two looks at deadlines and at the scheduler, when nothing happens
_PROBE_EVERY = 2.0
_SILENCE = 8.0  # seconds without an answer after which a scheduler counts as lost


class DaskExecution:
    """One run of one graph; lives as long as one call of ``run``.

    What comes from the workers and the scheduler arrives on the client's event loop and is put into one queue, which
    the calling thread empties: so the listener is called in the thread that called ``run``, and Ctrl-C is heard.
    """

    def __init__(
        self,
        client: Client,
        graph: Graph,
        segments: Sequence[Segment],
        context: Any,
        listener: Listener | None,
        settings: clusters.Settings,
        scratch: str,
        view: DashboardClient,
    ) -> None:
        self.client, self.graph, self.segments, self.settings = client, graph, segments, settings
        self.context, self.scratch, self.view = context, scratch, view
        self.tell: Listener = listener or show_output
        self.id = secrets.token_hex(8)
        self.rows = Rows(segments)
        self.dropped: dict[tuple[str, str], tuple[str, str, str]] = {}
        self.lost: list[str] = []
        self.failures: dict[int, int] = {}
        self.finished: set[int] = set()
        self.deadlines: dict[tuple[int, str], tuple[float, SegmentTask, int]] = {}
        self.queue: queue.SimpleQueue[tuple[str, int, Any]] = queue.SimpleQueue()
        silence = _SILENCE + len(segments) / 5000  # it is deaf while it takes in a large graph
        self.slots = ""  # folder for the notes of the workers, which outlive them
        self.health = health.Health(client, silence=silence, every=_PROBE_EVERY, no_workers=settings.timeout)
        self.began = 0
        self.elapsed = 0.0
        self._watcher: asyncio.Task[None] | None = None

    def notes(self) -> dict[str, Any]:
        """What the Trace should keep besides its rows."""
        return {
            "n_segments": len(self.segments),
            "lost_workers": list(self.lost),
            "clock_error": self.rows.clock_error,
            "versions": health.versions(),
        }

    def run(self) -> dict[Key, Any]:
        topic = self.client.id
        slots = self.slots = self.scratch and tempfile.mkdtemp(prefix="slots-", dir=self.scratch)
        plan = lower(self.segments, self.graph.wanted, self.context, self.id, topic, slots)
        wanted = list(dict.fromkeys(plan.places[key][0] for key in self.graph.wanted))
        self.view.begin(self.graph, plan, self.id)
        self.tell = self.view.telling(self.tell)
        futures: list[Future[Any]] = []
        for name in (topic, "all"):
            self.client.subscribe_topic(name, self._heard)
        try:
            self.began = perf_counter_ns()
            futures = self._submit(plan, wanted)
            health.in_loop(self.client, self._watch, futures)
            found = self._wait(plan, slots)
            self.elapsed = (perf_counter_ns() - self.began) / 1e9
        finally:
            self._let_go(futures, topic, slots)
        values = dict(zip(wanted, found, strict=True))
        results = {}
        for key in self.graph.wanted:
            source, place = plan.places[key]
            results[key] = values[source] if place is None else values[source][place]
        return results

    def _submit(self, plan: Plan, wanted: list[Key]) -> list[Future[Any]]:
        if not wanted:
            return []
        spans = Spans.of({key: segment.step for key, segment in plan.segments.items()}, self.id)
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}), annotate(span=spans):
            futures: list[Future[Any]] = self.client.get(
                dict(plan.tasks),
                wanted,
                sync=False,
                retries=plan.annotation("retries", 0),
                resources=plan.annotation("resources", {}),
            )
        return futures

    def _let_go(self, futures: Sequence[Future[Any]], topic: str, slots: str) -> None:
        """Nothing of ours stays wanted on the scheduler: what runs ends unheard, what waits is forgotten."""
        if self._watcher is not None:
            health.in_loop(self.client, self._watcher.cancel)
        with suppress(Exception):  # a scheduler that is gone has nothing to let go
            for future in futures:
                future.release()
            for name in (topic, "all"):
                self.client.unsubscribe_topic(name)
        if slots:
            shutil.rmtree(slots, ignore_errors=True)

    # -- on the event loop --------------------------------------------------------------------------------------------

    def _heard(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if isinstance(message, dict) and (message.get("run") == self.id or message.get("action") == "remove-worker"):
            self.queue.put(("report", perf_counter_ns(), message))

    async def _watch(self, futures: Sequence[Future[Any]]) -> None:
        """Put the results into the queue when all are there, or the first exception with the key that has it."""

        async def one(future: Future[Any]) -> None:
            error = await future.exception()
            if error is None and future.status not in ("finished", "lost"):
                error = BackendError(
                    f"the Dask scheduler gave up {future.key} ({future.status}): it ended, or was told to"
                )
            if error is not None:
                self.queue.put(("error", 0, (future.key, error)))

        self._watcher = asyncio.current_task()
        try:
            await asyncio.gather(*map(one, futures))
            if all(future.status in ("finished", "lost") for future in futures):
                self.queue.put(("results", 0, await self._gather(futures)))
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - told in the thread that waits
            self.queue.put(("error", 0, ("", error)))

    async def _gather(self, futures: Sequence[Future[Any]]) -> list[Any]:
        direct = True if self.settings.local else None
        try:
            found: list[Any] = await self.client.gather(list(futures), direct=direct)
        except Exception:  # whatever unpickling raises; it goes on, below, when it is known whose it is
            for future in futures:
                try:
                    await self.client.gather([future], direct=direct)
                except Exception as error:  # noqa: BLE001 - told in the thread that waits
                    self.queue.put(("error", 0, (future.key, error)))
                    break
            raise
        return found

    # -- in the calling thread ----------------------------------------------------------------------------------------

    def _wait(self, plan: Plan, slots: str) -> list[Any]:
        looked = perf_counter()
        while True:
            if perf_counter() - looked > _TICK:
                looked = perf_counter()
                self._look_after()
            try:
                kind, when, content = self.queue.get(timeout=_TICK)
            except queue.Empty:
                continue
            self.health.heard()
            if kind == "results":
                found: list[Any] = content
                return found
            if kind == "error":
                raise translated(plan, slots, *content, timeout=self.settings.timeout)
            if "action" in content:
                self._worker_gone(content)
            elif "said" in content:
                for event in output_events(content["name"], (Line(*line) for line in content["said"])):
                    self.tell(event)
            elif "began" in content:
                self._task_began(content)
            else:
                self._segment_over(content, when)

    def _look_after(self) -> None:
        self.health.check()
        self.view.flush()
        self._check_deadlines()
        if self.settings.local:
            health.in_loop(self.client, clusters.mend, self.client.cluster)

    def _task_began(self, message: Mapping[str, Any]) -> None:
        inner = self.segments[message["segment"]].tasks[message["began"]]
        self.deadlines.pop((message["segment"], message["address"]), None)
        if inner.timeout is not None:
            due = perf_counter() + inner.timeout
            self.deadlines[message["segment"], message["address"]] = (due, inner, message["pid"])

    def _segment_over(self, message: Mapping[str, Any], when: int) -> None:
        number = message["segment"]
        segment = self.segments[number]
        self.deadlines.pop((number, message["address"]), None)
        self.rows.add(message, when)
        if message["failed"] is not None:
            step, key, item, cause = message["failed"]
            self.failures[number] = self.failures.get(number, 0) + 1
            if self.failures[number] <= segment.retries:
                self.tell(TaskRetry(step, key, item, cause))
            else:
                self.failures[number] = 0  # the item is left out, or the run ends; others may fail as often
            return
        if number in self.finished:  # again, since a worker was lost with its result
            return
        self.finished.add(number)
        for row in message["rows"]:
            inner = segment.tasks[row[0]]
            seconds = (row[2] - row[1]) / 1e9
            self.tell(TasksDone(inner.step, str(inner.key), inner.item, seconds=seconds))
        for step, item, cause in message["dropped"]:
            self.dropped[step, item] = (step, item, cause)
            self.tell(ItemDropped(step, item, cause))

    def _worker_gone(self, message: Mapping[str, Any]) -> None:
        if message.get("expected"):
            return
        address = str(message["worker"])
        self.lost.append(address)
        self.deadlines = {k: v for k, v in self.deadlines.items() if k[1] != address}
        self.tell(WorkerLoss(message=f"worker {address} ended; its tasks are run again elsewhere"))

    def _check_deadlines(self) -> None:
        now = perf_counter()
        for (number, address), (due, inner, pid) in list(self.deadlines.items()):
            if now < due:
                continue
            failure = Failure.late(inner)
            error = failure.error()
            if self.settings.local:
                self._stop(number, address, failure, pid)
                continue
            message = f"{error}; worker {address} still runs it: end that worker if it does not come back"
            raise TaskTimeout(message, inner.name)

    def _stop(self, number: int, address: str, failure: Failure, pid: int) -> None:
        """End a task of ours that runs too long, with its worker; Dask runs what it had again, on another.

        Raises
        ------
        TaskTimeout : if that was once too often
        """
        segment = self.segments[number]
        self.deadlines = {k: v for k, v in self.deadlines.items() if k[1] != address}
        self.failures[number] = self.failures.get(number, 0) + 1
        again = self.failures[number] <= segment.retries
        if not again and not failure.drop:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise failure.error()
        if again:
            self.tell(TaskRetry(failure.step, failure.key, failure.item, failure.cause))
        else:
            index = next(i for i, inner in enumerate(segment.tasks) if str(inner.key) == failure.key)
            late_mark(self.slots, segment, index).touch()
            self.failures[number] = 0
        self.lost.append(address)
        health.in_loop(self.client, self._end_worker, address, pid)

    async def _end_worker(self, address: str, pid: int) -> None:
        """Have the scheduler let go of a worker, which is no fault of the tasks that waited there, and end it."""
        cluster: Any = self.client.cluster
        await cluster.scheduler.remove_worker(address, stimulus_id="timeout", expected=True, close=False)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
