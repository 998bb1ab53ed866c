"""Run a Graph on Dask: one Dask task a segment, submitted at once, watched from here.

Dask schedules, moves results, retries, and recovers from killed workers. We give every task a key that no other
execution has (with keys made from the Graph, a standing scheduler returns old results and skips writers), keep the
results on the workers unless they are wanted, and turn what goes wrong into our errors.

The order in which ready segments run is Dask's own (``dask.order``): rejected is our numbering as a priority, since on
a shared scheduler it would put every task of ours behind those of others.

Timeouts are watched from here, by what the workers tell as tasks begin: a thread that does not come back can't be
stopped, so on workers of ours the process is killed (Dask starts another); elsewhere the task goes on unheard.
"""

from __future__ import annotations

import asyncio
import os
import queue
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from time import perf_counter, perf_counter_ns, sleep
from typing import Any, ClassVar, Self

import dask
from dask.base import annotate
from distributed import Client, Future

from pipeline.backends import cluster as clusters
from pipeline.backends import probing
from pipeline.backends.base import Capabilities, Event, Listener, Outcome, outputs, show_output
from pipeline.backends.keys import Plan, lower
from pipeline.backends.remote import Prepare, late_mark
from pipeline.backends.spans import Spans
from pipeline.backends.timing import ClusterUsage, Rows, offsets
from pipeline.backends.translation import translated
from pipeline.backends.viewing import View
from pipeline.capture import Line
from pipeline.coarsening import coarsen
from pipeline.errors import BackendError, TaskTimeout
from pipeline.graph import Graph, Key
from pipeline.trace import Trace
from pipeline.worker import Failure, Inner, Segment

__all__ = ["Dask"]

_TICK = 0.25  # seconds between two looks at deadlines and at the scheduler, when nothing happens
_PROBE_EVERY = 2.0
_SILENCE = 8.0  # seconds without an answer after which a scheduler counts as lost


class Dask:
    """A LocalCluster, a scheduler that stands, or a cluster class.

    Parameters
    ----------
    workers : processes of a LocalCluster; None: one a core
    modules : the user's modules, installed on every worker, besides those of each Graph
    address : of a scheduler; goes before the map's own way to a cluster
    cluster : the file's ``cluster`` map, see :class:`pipeline.backends.cluster.Settings`
    dashboard : whether a LocalCluster has one; costs about a second
    blas_threads : threads of BLAS, OpenMP and Arrow a worker; None leaves them alone
    timeout : seconds to wait for a scheduler, and for workers to appear when there are none
    masked : takes out of what a failed task says what must not be shown on the page ``/pipeline``

    Attributes
    ----------
    pages : while it is open, the addresses of what can be looked at: ``dashboard``, ``steps``
    """

    name: ClassVar[str] = "dask"
    capabilities: ClassVar[Capabilities] = Capabilities(
        isolates_tasks=True, pickles_results=True, can_stop_tasks=True, recovers_workers=True
    )

    def __init__(
        self,
        *,
        workers: int | None = None,
        modules: Mapping[str, bytes] | None = None,
        address: str | None = None,
        cluster: Mapping[str, Any] | None = None,
        dashboard: bool | None = None,
        blas_threads: int | None = 1,
        timeout: float | None = None,
        masked: Callable[[Any], Any] | None = None,
    ) -> None:
        self.settings = clusters.Settings.read(
            cluster, workers=workers, address=address, dashboard=dashboard, timeout=timeout
        )
        self.n_workers = 0
        self.start_up = 0.0
        self.dashboard_url = ""
        self.pages: dict[str, str] = {}
        self._view = View(masked)
        self._modules = dict(modules or {})
        self._blas_threads = blas_threads
        self._client: Client | None = None
        self._stack = ExitStack()
        self._plugins: list[str] = []
        self._installed: set[str] = set()
        self._scratch = ""
        self._deaf = False  # the scheduler does not answer any more

    def __enter__(self) -> Self:
        start = perf_counter()
        with ExitStack() as stack:
            if self.settings.local:
                self._scratch = tempfile.mkdtemp(prefix="pipeline-dask-")
                stack.callback(shutil.rmtree, self._scratch, ignore_errors=True)
            client = clusters.join(self.settings, stack, scratch=self._scratch)
            stack.callback(self._leave, client)
            self._client = client
            if not self.settings.local:
                self._plugins += probing.probe(client)
            self._prepare(client, self._modules)
            self._count_workers(client)
            if self.settings.dashboard or not self.settings.local:
                self.dashboard_url = str(client.dashboard_link or "")
                self.pages = {"dashboard": self.dashboard_url} if self.dashboard_url else {}
            if self.dashboard_url and (self.settings.page or not self.settings.address) and self._view.open(client):
                self.pages["steps"] = f"{self.dashboard_url.removesuffix('/').removesuffix('/status')}/pipeline"
            self._stack = stack.pop_all()
        self.start_up = perf_counter() - start
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def run(self, graph: Graph, *, context: Any = None, listener: Listener | None = None) -> Outcome:
        """Run the graph; see :meth:`pipeline.backends.base.Backend.run`."""
        client = self._client
        if client is None:
            raise BackendError("the back end 'dask' is not open: use it in a with statement")
        if self.settings.local:
            probing.in_loop(client, clusters.mend, client.cluster)
        clusters.await_workers(client, self.settings)
        if not self.settings.local:
            self._plugins += probing.probe(client, staging=str(getattr(context, "staging", "") or ""))
        self._prepare(client, {**self._modules, **graph.modules})
        workers = self._living(client)
        segments = coarsen(graph, n_workers=self.n_workers)
        _check_resources(segments, workers)
        execution = _Execution(client, graph, segments, context, listener, self.settings, self._scratch, self._view)
        usage = ClusterUsage(client)
        try:
            with self._view.watched():
                results = execution.run()
        finally:
            self._deaf = execution.health.deaf
        records = execution.rows.records(offsets(client, execution.rows.boots), execution.began)
        tasks = sum(row.cpu for row in records) / 1e9
        notes = {
            **execution.notes(),
            "cpu": usage.beside(tasks=tasks),
            "gaps": execution.rows.gaps(records, execution.lost, round(execution.elapsed * 1e9)),
            "measuring": execution.rows.measuring / 1e9 / max(1, len(records)),
        }
        trace = Trace.from_records(
            records,
            elapsed=execution.elapsed,
            backend=self.name,
            n_workers=self.n_workers,
            start_up=self.start_up,
            notes=notes,
        )
        return Outcome(results, trace, tuple(execution.dropped.values()), notes)

    def _prepare(self, client: Client, modules: Mapping[str, bytes]) -> None:
        """Make all workers, those still to come included, ready for tasks that use these modules."""
        content = probing.fingerprint(modules)
        if content in self._installed:
            return
        name = f"pipeline-{client.id}"
        plugin = Prepare(name, modules, self._blas_threads, ours=not self.settings.address)
        try:
            probing.ask(client, "register_plugin", plugin, name=name)
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(f"the workers can't be prepared: {type(error).__name__}: {error}") from error
        self._installed = {content}
        if name not in self._plugins:
            self._plugins.append(name)

    def _living(self, client: Client) -> Mapping[str, Any]:
        """The workers by address, one at least: what the client knows of them may be older than their end.

        Raises
        ------
        BackendError : if none appears in time
        """
        deadline = perf_counter() + self.settings.timeout
        while not (workers := self._count_workers(client)):
            if perf_counter() > deadline:
                raise BackendError(f"every worker ended, and none appeared within {self.settings.timeout:g} s")
            if self.settings.local:
                probing.in_loop(client, clusters.mend, client.cluster)
            sleep(_TICK)
        return workers

    def _count_workers(self, client: Client) -> Mapping[str, Any]:
        workers: Mapping[str, Any] = probing.identity(client)["workers"]
        self.n_workers = sum(int(worker["nthreads"]) for worker in workers.values())
        return workers

    def _leave(self, client: Client) -> None:
        self._client = None
        if not self.settings.local and not self._deaf and client.status == "running":
            self._view.close()
            probing.unregister(client, self._plugins)


def _check_resources(segments: Iterable[Segment], workers: Mapping[str, Any]) -> None:
    """Say at once what Dask would wait for without an end."""
    for segment in segments:
        needed = segment.resources
        if needed and not any(
            all((worker.get("resources") or {}).get(name, 0) >= amount for name, amount in needed.items())
            for worker in workers.values()
        ):
            wanted = ", ".join(f"{name}: {amount:g}" for name, amount in needed.items())
            raise BackendError(
                f"step {segment.step!r} needs {wanted}, which no worker offers. "
                f"Start workers with --resources, or here: cluster: {{resources: {{{wanted}}}}}"
            )


# ---------------------------------------------------------------------------------------------------------------------
# One execution
# ---------------------------------------------------------------------------------------------------------------------


class _Execution:
    """One graph on its way through a cluster; lives as long as one call of ``run``.

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
        view: View,
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
        self.deadlines: dict[tuple[int, str], tuple[float, Inner, int]] = {}
        self.queue: queue.SimpleQueue[tuple[str, int, Any]] = queue.SimpleQueue()
        silence = _SILENCE + len(segments) / 5000  # it is deaf while it takes in a large graph
        self.slots = ""  # folder for the notes of the workers, which outlive them
        self.health = probing.Health(client, silence=silence, every=_PROBE_EVERY, no_workers=settings.timeout)
        self.began = 0
        self.elapsed = 0.0
        self._watcher: asyncio.Task[None] | None = None

    def notes(self) -> dict[str, Any]:
        """What the Trace should keep besides its rows."""
        return {
            "n_segments": len(self.segments),
            "lost_workers": list(self.lost),
            "clock_error": self.rows.clock_error,
            "versions": probing.versions(),
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
            probing.in_loop(self.client, self._watch, futures)
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
            probing.in_loop(self.client, self._watcher.cancel)
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
                for event in outputs(content["name"], (Line(*line) for line in content["said"])):
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
            probing.in_loop(self.client, clusters.mend, self.client.cluster)

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
                self.tell(Event("retry", step, key, item, cause))
            else:
                self.failures[number] = 0  # the item is left out, or the run ends; others may fail as often
            return
        if number in self.finished:  # again, since a worker was lost with its result
            return
        self.finished.add(number)
        for row in message["rows"]:
            inner = segment.tasks[row[0]]
            self.tell(Event("task", inner.step, str(inner.key), inner.item))
        for step, item, cause in message["dropped"]:
            self.dropped[step, item] = (step, item, cause)
            self.tell(Event("dropped", step, item=item, message=cause))

    def _worker_gone(self, message: Mapping[str, Any]) -> None:
        if message.get("expected"):
            return
        address = str(message["worker"])
        self.lost.append(address)
        self.deadlines = {k: v for k, v in self.deadlines.items() if k[1] != address}
        self.tell(Event("worker lost", message=f"worker {address} ended; its tasks are run again elsewhere"))

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
            self.tell(Event("retry", failure.step, failure.key, failure.item, failure.cause))
        else:
            index = next(i for i, inner in enumerate(segment.tasks) if str(inner.key) == failure.key)
            late_mark(self.slots, segment, index).touch()
            self.failures[number] = 0
        self.lost.append(address)
        probing.in_loop(self.client, self._end_worker, address, pid)

    async def _end_worker(self, address: str, pid: int) -> None:
        """Have the scheduler let go of a worker, which is no fault of the tasks that waited there, and end it."""
        cluster: Any = self.client.cluster
        await cluster.scheduler.remove_worker(address, stimulus_id="timeout", expected=True, close=False)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
