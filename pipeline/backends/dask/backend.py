"""Run a Graph on Dask: one Dask task a segment, submitted at once, watched from here.

Dask schedules, moves results, retries, and recovers from killed workers. We give every task a key that no other
execution has (with keys made from the Graph, a standing scheduler returns old results and skips writers), keep the
results on the workers unless they are wanted, and turn what goes wrong into our errors.

The order in which ready segments run is Dask's own (``dask.order``): rejected is our numbering as a priority, since on
a shared scheduler it would put every task of ours behind those of others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from time import perf_counter, sleep
from typing import Any, ClassVar, Self

from distributed import Client

from pipeline.backends.base import Capabilities, Outcome
from pipeline.backends.dask import cluster as clusters
from pipeline.backends.dask import health
from pipeline.backends.dask.clock import ClusterUsage, offsets
from pipeline.backends.dask.dashboard_client import DashboardClient
from pipeline.backends.dask.execution import DaskExecution
from pipeline.backends.dask.remote_task import Prepare
from pipeline.backends.events import Listener
from pipeline.errors import BackendError
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import Graph
from pipeline.graph.segments import Segment
from pipeline.trace.trace import Trace
from pipeline.worker.temp_folders import Folder

__all__ = ["Dask"]

_TICK = 0.25  # seconds between two looks at a cluster without workers


class Dask:
    """A LocalCluster, a scheduler that stands, or a cluster class.

    Parameters
    ----------
    workers : processes of a LocalCluster; None: one a core
    modules : the user's modules, installed on every worker, besides those of each Graph
    address : of a scheduler; goes before the map's own way to a cluster
    cluster : the file's ``cluster`` map, see :class:`pipeline.backends.dask.cluster.Settings`
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
        self._view = DashboardClient(masked)
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
                self._scratch = stack.enter_context(Folder()).path
            client = clusters.join(self.settings, stack, scratch=self._scratch)
            stack.callback(self._leave, client)
            self._client = client
            if not self.settings.local:
                self._plugins += health.probe(client)
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
            health.in_loop(client, clusters.mend, client.cluster)
        clusters.await_workers(client, self.settings)
        if not self.settings.local:
            self._plugins += health.probe(client, staging=str(getattr(context, "staging", "") or ""))
        self._prepare(client, {**self._modules, **graph.modules})
        workers = self._living(client)
        segments = fuse(graph, n_workers=self.n_workers)
        _check_resources(segments, workers)
        course = DaskExecution(client, graph, segments, context, listener, self.settings, self._scratch, self._view)
        usage = ClusterUsage(client)
        try:
            with self._view.watched():
                results = course.run()
        finally:
            self._deaf = course.health.deaf
        records = course.rows.records(offsets(client, course.rows.boots), course.began)
        tasks = sum(row.cpu for row in records) / 1e9
        notes = {
            **course.notes(),
            "cpu": usage.beside(tasks=tasks),
            "gaps": course.rows.gaps(records, course.lost, round(course.elapsed * 1e9)),
            "measuring": course.rows.measuring / 1e9 / max(1, len(records)),
        }
        trace = Trace.from_records(
            records,
            elapsed=course.elapsed,
            backend=self.name,
            n_workers=self.n_workers,
            start_up=self.start_up,
            notes=notes,
        )
        return Outcome(results, trace, segments, tuple(course.dropped.values()), notes)

    def _prepare(self, client: Client, modules: Mapping[str, bytes]) -> None:
        """Make all workers, those still to come included, ready for tasks that use these modules."""
        content = health.fingerprint(modules)
        if content in self._installed:
            return
        name = f"pipeline-{client.id}"
        environment = dict(os.environ) if self.settings.local else None
        plugin = Prepare(name, modules, self._blas_threads, not self.settings.address, environment)
        try:
            health.ask(client, "register_plugin", plugin, name=name)
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
                health.in_loop(client, clusters.mend, client.cluster)
            sleep(_TICK)
        return workers

    def _count_workers(self, client: Client) -> Mapping[str, Any]:
        workers: Mapping[str, Any] = health.identity(client)["workers"]
        self.n_workers = sum(int(worker["nthreads"]) for worker in workers.values())
        return workers

    def _leave(self, client: Client) -> None:
        self._client = None
        if not self.settings.local and not self._deaf and client.status == "running":
            self._view.close()
            health.unregister(client, self._plugins)


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
