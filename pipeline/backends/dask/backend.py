"""The back end ``dask``: connects to a cluster, gets its workers ready, runs Graphs on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any, ClassVar, Self

from distributed import Client

from pipeline.backends import descendants
from pipeline.backends.base import Capabilities, Outcome
from pipeline.backends.dask import health, lease
from pipeline.backends.dask.cluster import Settings, await_workers, connect, restart_workers
from pipeline.backends.dask.dashboard_client import DashboardClient
from pipeline.backends.dask.execution import DaskExecution
from pipeline.backends.dask.nannies import Tending
from pipeline.backends.dask.probe import fingerprint, probe, unregister
from pipeline.backends.dask.worker_plugin import Prepare
from pipeline.backends.events import Listener, Note
from pipeline.backends.local.attempts import MOST_LOSSES
from pipeline.backends.stopped import patience
from pipeline.errors import BackendError
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import Graph
from pipeline.graph.segments import Segment
from pipeline.worker.folder_probe import is_seen_by, look
from pipeline.worker.process_setup import install_modules
from pipeline.worker.temp_folders import Folder
from pipeline.worker.tracebacks import one_line

__all__ = ["Dask"]

_TICK = 0.25  # seconds between two checks of a cluster without workers

# Ready segments run in Dask's own order (``dask.order``). Rejected: the numbers of the segments as priorities, since on
# a shared scheduler they would put every task of ours behind those of others.


class Dask:
    """Runs Graphs on a LocalCluster, a running scheduler, or a cluster class.

    Parameters
    ----------
    workers : number of processes of a LocalCluster; None: one for each core
    modules : the user's modules, installed on every worker, besides those of each Graph
    address : of a scheduler; used instead of ``cluster``
    cluster : the file's ``cluster`` map, see :class:`pipeline.backends.dask.cluster.Settings`
    dashboard : whether a LocalCluster has one; costs about a second
    blas_threads : threads of BLAS, OpenMP and Arrow of each worker; None leaves them alone
    timeout : seconds to wait for a scheduler, and for workers to appear when there are none
    masked : removes secrets from the messages that the page ``/pipeline`` shows

    Attributes
    ----------
    pages : while it is open, the addresses of its web pages: ``dashboard``, ``steps``
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
        self.settings = Settings.read(cluster, workers=workers, address=address, dashboard=dashboard, timeout=timeout)
        self.n_workers = 0
        self.start_up = 0.0
        self.dashboard_url = ""
        self.pages: dict[str, str] = {}
        self._dashboard = DashboardClient(masked)
        self._modules = dict(modules or {})
        self._blas_threads = blas_threads
        self._client: Client | None = None
        self._stack = ExitStack()
        self._plugins: list[str] = []
        self._installed: set[str] = set()
        self._scratch = ""
        self._scheduler_lost = False
        self._tending = Tending()

    def __enter__(self) -> Self:
        start = perf_counter()
        with ExitStack() as stack:
            if self.settings.local:
                self._scratch = stack.enter_context(Folder()).path
                descendants.watch()
            client = connect(self.settings, stack, scratch=self._scratch, tending=self._tending)
            stack.callback(self._leave, client)
            self._client = client
            if not self.settings.local:
                self._plugins += probe(client)
            self._prepare(client, self._modules)
            self._count_workers(client)
            if self.settings.dashboard or not self.settings.local:
                self.dashboard_url = str(client.dashboard_link or "")
                self.pages = {"dashboard": self.dashboard_url} if self.dashboard_url else {}
            wants_page = self.settings.page or not self.settings.address
            if self.dashboard_url and wants_page and self._dashboard.open(client):
                self.pages["steps"] = f"{self.dashboard_url.removesuffix('/').removesuffix('/status')}/pipeline"
            self._stack = stack.pop_all()
        self.start_up = perf_counter() - start
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def run(
        self, graph: Graph, *, context: Any = None, listener: Listener | None = None, keep_going: bool = False
    ) -> Outcome:
        """Run the graph; see :meth:`pipeline.backends.base.Backend.run`."""
        client = self._client
        if client is None:
            raise BackendError("the back end 'dask' is not open: use it in a with statement")
        if self.settings.local:
            health.in_loop(client, restart_workers, client.cluster)
        await_workers(client, self.settings)
        if not self.settings.local:
            self._plugins += probe(client, staging=str(getattr(context, "staging", "") or ""))
        self._prepare(client, {**self._modules, **graph.modules})
        workers = self._living(client)
        if graph.left_out and not self.settings.local and listener is not None:
            listener(Note(f"modules: too large to be sent to the workers: {', '.join(graph.left_out)}"))
        segments = fuse(graph, n_workers=self.n_workers, keep_going=keep_going)
        if (
            self.settings.local
        ):  # a task that ends workers is given up by the last one, before Dask gives up its segment
            allowed = MOST_LOSSES if keep_going else MOST_LOSSES - 1
            health.in_loop(client, setattr, client.cluster.scheduler, "allowed_failures", allowed)  # type: ignore[union-attr]
        self._tending.patience = patience(graph)
        _check_resources(segments, workers)
        with self._status_folder() as folder:
            execution = DaskExecution(
                client,
                graph,
                segments,
                context,
                listener,
                self.settings,
                folder,
                self._dashboard,
                self._tending,
                keep_going,
            )
            try:
                with self._dashboard.run_shown():
                    results = execution.run()
            finally:
                self._scheduler_lost = execution.health.lost
        trace = execution.trace(backend=self.name, n_workers=self.n_workers, start_up=self.start_up)
        return Outcome(results, trace, segments, execution.dropped, trace.notes, execution.failures)

    def sees_folder(self, folder: str) -> bool:
        """Return whether all workers see a folder, and write to it, as this user does."""
        if self._client is None or self.settings.local:
            return self._client is not None
        client = self._client

        def ask(token: str, content: str, uid: int) -> list[str]:
            found: dict[str, Any] = health.ask(client, "run", look, token, content, uid, on_error="return")
            return [name if isinstance(name, str) else "" for name in found.values()]

        try:
            return is_seen_by(folder, ask)
        except BackendError:  # the run will report it
            return False

    def _status_folder(self) -> AbstractContextManager[str]:
        """Return a folder for one run, in which the workers write what they begin; empty where they are not ours."""
        if not self._scratch:
            return nullcontext("")
        return TemporaryDirectory(prefix="status-", dir=self._scratch, ignore_cleanup_errors=True)

    def _prepare(self, client: Client, modules: Mapping[str, bytes]) -> None:
        """Get all workers, also those still to come, ready for tasks that use these modules."""
        content = fingerprint(modules)
        if content in self._installed:
            return
        name = lease.NAME.format(client.id)
        environment = {**os.environ, descendants.VARIABLE: descendants.mark()} if self.settings.local else None
        plugin = Prepare(name, modules, self._blas_threads, not self.settings.address, environment)
        for last in (False, False, True) if self.settings.local else (True,):
            try:
                self._install(client, plugin, modules)
                break
            except BackendError:  # a worker was lost meanwhile; the one in its place gets the plugin
                if last:
                    raise
            except Exception as error:
                raise BackendError(f"the workers can't be prepared: {one_line(error)}") from error
        self._installed = {content}
        if name not in self._plugins:
            self._plugins.append(name)
        if not self.settings.local:
            with suppress(Exception):  # another version of this package on the scheduler may have no leases
                health.ask(client, "run_on_scheduler", lease.take, client.id, self._plugins)

    def _install(self, client: Client, plugin: Prepare, modules: Mapping[str, bytes]) -> None:
        # the scheduler unpickles the graphs that tasks submit: of functions of the user's modules
        if self.settings.local:
            install_modules(modules)  # it runs in this process
        elif modules:
            health.ask(client, "run_on_scheduler", install_modules, modules)
        health.ask(client, "register_plugin", plugin, name=plugin.name)

    def _living(self, client: Client) -> Mapping[str, Any]:
        """Wait for at least one worker; return the workers by address.

        The client may still list a worker that has ended, so this asks the scheduler.

        Raises
        ------
        BackendError : if none appears in time
        """
        deadline = perf_counter() + self.settings.timeout
        while not (workers := self._count_workers(client)):
            if perf_counter() > deadline:
                raise BackendError(f"every worker ended, and none appeared within {self.settings.timeout:g} s")
            if self.settings.local:
                health.in_loop(client, restart_workers, client.cluster)
            sleep(_TICK)
        return workers

    def _count_workers(self, client: Client) -> Mapping[str, Any]:
        workers: Mapping[str, Any] = health.identity(client)["workers"]
        self.n_workers = sum(int(worker["nthreads"]) for worker in workers.values())
        return workers

    def _leave(self, client: Client) -> None:
        self._client = None
        if not self.settings.local and not self._scheduler_lost and client.status == "running":
            self._dashboard.close()
            unregister(client, self._plugins)


def _check_resources(segments: Iterable[Segment], workers: Mapping[str, Any]) -> None:
    """Raise if no worker offers what a segment needs: Dask would wait for such a worker without end."""
    for segment in segments:
        needed = segment.resources
        if needed and not any(
            all((worker.get("resources") or {}).get(name, 0) >= amount for name, amount in needed.items())
            for worker in workers.values()
        ):
            listed = ", ".join(f"{name}: {amount:g}" for name, amount in needed.items())
            raise BackendError(
                f"step {segment.step!r} needs {listed}, which no worker offers. "
                f"Start workers with --resources, or here: cluster: {{resources: {{{listed}}}}}"
            )
