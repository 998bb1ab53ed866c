"""The ``cluster`` map of a file; starting a cluster, or connecting to one.

==========================  ===========================================================================================
the file's ``cluster`` map  what happens
==========================  ===========================================================================================
``workers`` …               a LocalCluster is started on 127.0.0.1, one process for each worker, and ended
``address``                 connects to a running scheduler, and removes only what it has added
``class``                   an object of that class is made with ``kwargs``, scaled by ``scale`` or ``adapt``, and ended
==========================  ===========================================================================================
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster
from distributed.core import Status, rpc
from distributed.security import Security
from distributed.utils import LoopRunner, sync

from pipeline.backends import descendants
from pipeline.backends.dask.nannies import TendedNanny, Tending
from pipeline.backends.interrupts import interrupts_blocked
from pipeline.backends.local import forkserver
from pipeline.backends.local.attempts import MOST_LOSSES
from pipeline.errors import BackendError, ConfigError
from pipeline.worker.tracebacks import one_line

__all__ = ["Settings", "await_workers", "connect", "restart_workers"]

_PORTS = range(8787, 8887)
_CLOSE_LIMIT = 5.0  # seconds for a client or a cluster to close
_PRELOADED = ("pipeline.backends.dask.remote_task", "xarray")


# ---------------------------------------------------------------------------------------------------------------------
# The map
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The ``cluster`` map of a file, and the options that override it.

    Parameters
    ----------
    workers : number of processes of a LocalCluster; None: one for each core
    threads_per_worker : threads of each process
    memory_limit : of each worker, in bytes or as text (``4GB``); ``auto``: an equal share of the machine
    resources : what each worker of a LocalCluster offers
    dashboard : whether a LocalCluster has one
    page : whether a running scheduler is to show the page ``/pipeline`` while it is used; other clusters always do
    address : of a running scheduler
    insecure : allow an unencrypted address that is not on this machine
    class_, kwargs, scale, adapt : a cluster class ``module:Class``, its arguments, those of its methods
    timeout : seconds to wait for a scheduler to answer, and for workers to appear
    """

    workers: int | None = None
    threads_per_worker: int = 1
    memory_limit: str | int = "auto"
    resources: Mapping[str, float] = field(default_factory=dict)
    dashboard: bool = True
    page: bool = False
    address: str = ""
    insecure: bool = False
    class_: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    scale: int | Mapping[str, Any] | None = None
    adapt: Mapping[str, Any] | None = None
    timeout: float = 30.0

    @classmethod
    def read(cls, cluster: Mapping[str, Any] | None, **over: Any) -> Settings:
        """Return the settings of a map, overridden by those of ``over`` that are not None.

        Raises
        ------
        ConfigError : for an unknown key or a wrong value, or if there are both an address and a class
        """
        values = {("class_" if key == "class" else str(key)): value for key, value in (cluster or {}).items()}
        allowed = set(cls.__dataclass_fields__)
        unknown = sorted(set(values) - allowed)
        if unknown:
            names = ", ".join(sorted(name.rstrip("_") for name in allowed))
            raise ConfigError(f"cluster: got {', '.join(unknown)}; allowed: {names}")
        if over.get("address"):
            values.pop("class_", None)
        values |= {key: value for key, value in over.items() if value is not None}
        if values.get("workers") == "auto":
            values["workers"] = None
        settings = cls(**values)
        if settings.address and settings.class_:
            raise ConfigError("cluster: got address and class; write one of them")
        if settings.workers is not None and settings.workers < 1:
            raise ConfigError(f"cluster: workers: got {settings.workers}; write a whole number >= 1, or auto")
        return settings

    @property
    def local(self) -> bool:
        """Whether the workers are processes that we start on this machine."""
        return not self.address and not self.class_


# ---------------------------------------------------------------------------------------------------------------------
# Starting and connecting
# ---------------------------------------------------------------------------------------------------------------------


def connect(settings: Settings, stack: ExitStack, *, scratch: str, tending: Tending) -> Client:
    """Return a client of the cluster; closing ``stack`` closes the client, and the cluster if it was started here.

    Parameters
    ----------
    scratch : folder of the workers of a LocalCluster
    tending : shared by their nannies

    Raises
    ------
    BackendError : if it can't be started or reached, is open to others, or has no workers
    """
    stack.enter_context(_logs_silenced())
    if settings.local:
        cluster = _start_local(settings, stack, scratch, tending)
        return _client_of(cluster, settings, stack)
    if settings.class_:
        cluster = _start_class(settings, stack)
        _trust(str(cluster.scheduler_address), settings)
        client = _client_of(cluster, settings, stack)
    else:
        _trust(settings.address, settings)
        client = _client_of(settings.address, settings, stack)
    await_workers(client, settings)
    return client


def _start_local(settings: Settings, stack: ExitStack, scratch: str, tending: Tending) -> LocalCluster:
    port = _free_port() if settings.dashboard else 0
    stack.enter_context(
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": MOST_LOSSES - 1,
                # longer than it takes to start lost workers again
                "distributed.scheduler.no-workers-timeout": f"{max(settings.timeout, 60.0)}s",
                "distributed.deploy.lost-worker-timeout": "60s",  # see restart_workers
                "distributed.worker.multiprocessing-method": _start_method(),
                "temporary-directory": scratch,
            }
        )
    )
    with interrupts_blocked(), warnings.catch_warnings():
        # another run may take the port meanwhile: Dask then uses another one, and the run prints the address
        warnings.filterwarnings("ignore", "Port .* is already in use")
        try:
            cluster = LocalCluster(
                n_workers=settings.workers or max(1, CPU_COUNT // settings.threads_per_worker),
                threads_per_worker=settings.threads_per_worker,
                processes=True,
                host="127.0.0.1",
                protocol="tcp://",
                dashboard_address=f"127.0.0.1:{port}",
                scheduler_kwargs={"dashboard": settings.dashboard},
                silence_logs=logging.CRITICAL,
                memory_limit=settings.memory_limit,
                resources=dict(settings.resources) or None,
                local_directory=scratch,
                loop=_event_loop(stack),
                worker_class=TendedNanny,
                tending=tending,
            )
        except (OSError, RuntimeError, ValueError, TimeoutError) as error:
            raise BackendError(f"the local Dask cluster did not start: {one_line(error)}") from error
        stack.callback(_end_local, cluster)
    return cluster


def _start_method() -> str:
    """Return how nannies start workers: forked from a server where possible, which takes a tenth of the time."""
    if sys.platform != "linux":
        return "spawn"
    for name, value in dask.config.get("distributed.nanny.pre-spawn-environ").items():
        os.environ.setdefault(name, str(value))  # as nannies do
    try:
        forkserver.start(_PRELOADED)
    except OSError:
        return "spawn"
    return "forkserver"


def _end_local(cluster: LocalCluster) -> None:
    """End a LocalCluster: its workers are killed first, since closing waits for one that is just starting."""
    loop: Any = cluster.loop
    with contextlib.suppress(OSError, TimeoutError, RuntimeError):
        sync(loop, _kill_workers, cluster, callback_timeout=_CLOSE_LIMIT)
    _close(cluster)
    descendants.end_strays()


async def _kill_workers(cluster: LocalCluster) -> None:
    """Kill the workers, and what their tasks have started."""
    for nanny in cluster.workers.values():
        process = nanny.process and nanny.process.process
        if process is not None:
            nanny.close_gracefully()  # so it starts no other worker
            descendants.end([process.pid])
            await process.kill()


def restart_workers(cluster: LocalCluster) -> None:
    """Start workers in the place of those that Dask has given up; to be called on the cluster's event loop.

    A nanny restarts a worker that has ended, but gives up when the worker ends while it starts: a task that kills its
    worker does that, if it already waits for one. Dask's ``lost-worker-timeout`` gives up a slow start as well.
    """
    closed = [name for name, nanny in cluster.workers.items() if nanny.status in (Status.closed, Status.failed)]
    for name in closed:
        del cluster.workers[name]
    if closed:
        cluster.scale(len(cluster.worker_spec))


def _start_class(settings: Settings, stack: ExitStack) -> Any:
    module, _, name = settings.class_.partition(":")
    try:
        cluster_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BackendError(
            f"cluster: class: got {settings.class_!r}: {one_line(error)}; write 'module:Class'"
        ) from error
    with interrupts_blocked():
        try:
            cluster = cluster_class(**settings.kwargs)
        except Exception as error:
            raise BackendError(f"cluster: {settings.class_} did not start: {one_line(error)}") from error
        stack.callback(_close, cluster)
    if settings.adapt is not None:
        cluster.adapt(**settings.adapt)
    elif isinstance(settings.scale, Mapping):
        cluster.scale(**settings.scale)
    elif settings.scale is not None:
        cluster.scale(settings.scale)
    return cluster


def _client_of(cluster: Any, settings: Settings, stack: ExitStack) -> Client:
    timeout = min(10.0, settings.timeout)
    with interrupts_blocked():
        loop = cluster.loop if hasattr(cluster, "loop") else _event_loop(stack)
    try:
        if isinstance(cluster, str):
            sync(loop, _greet, cluster, timeout, callback_timeout=timeout)
        client = Client(cluster, timeout=timeout, set_as_default=False, loop=loop)
    except (OSError, TimeoutError, RuntimeError, ValueError) as error:
        raise BackendError(f"no Dask scheduler answers at {cluster}: {one_line(error)}") from error
    stack.callback(_close, client)
    return client


async def _greet(address: str, timeout: float) -> None:
    """Send a scheduler a first request: a client that can't connect leaves a thread behind, this does not."""
    arguments = Security().get_connection_args("client")
    remote: Any = rpc(address, timeout=timeout, connection_args=arguments)
    try:
        await remote.identity(n_workers=0)
    finally:
        await remote.close_rpc()


def _event_loop(stack: ExitStack) -> Any:
    """Start an event loop in a thread: one that a cluster starts itself is left behind when the cluster can't start."""
    runner = LoopRunner(asynchronous=False)
    runner.start()
    stack.callback(runner.stop)
    return runner.loop


def await_workers(client: Client, settings: Settings) -> None:
    """Wait until there is a worker.

    Raises
    ------
    BackendError : if none appears in time
    """
    try:
        client.wait_for_workers(1, timeout=settings.timeout)
    except (TimeoutError, OSError) as error:
        where = client.scheduler.address if client.scheduler else settings.address
        raise BackendError(f"no worker appeared at {where} within {settings.timeout:g} s") from error


def _trust(address: str, settings: Settings) -> None:
    """Refuse to send code and data over an open network, unless that is allowed."""
    scheme, _, rest = address.rpartition("://")
    host = rest.rsplit("@")[-1].rsplit(":", 1)[0].strip("[]")
    if scheme in ("tls", "wss", "inproc") or settings.insecure or _is_loopback(host):
        return
    raise BackendError(
        f"{address} is not on this machine and not encrypted: everybody who can connect to it can run code there. "
        "Use tls:// or a tunnel to 127.0.0.1, or write cluster: {insecure: true}"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _free_port() -> int:
    """Return the first free port from 8787 on; 0, which lets the system choose, if there is none."""
    for port in _PORTS:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return 0


def _close(closable: Any) -> None:
    """Close a client or a cluster; errors are ignored, since the run is over."""
    with contextlib.suppress(OSError, TimeoutError, RuntimeError, KeyError, AttributeError):
        closable.close(timeout=_CLOSE_LIMIT)


@contextlib.contextmanager
def _logs_silenced() -> Iterator[None]:
    """Keep the logs of distributed off the terminal: what went wrong is reported once, by an error of ours."""
    roots = ("distributed", "tornado", "bokeh", "asyncio")
    loggers = [logging.getLogger(name) for name in roots]
    for name, logger in list(logging.root.manager.loggerDict.items()):
        # those without a level of their own have that of their parent; setting one clears what all loggers keep
        if name.partition(".")[0] in roots and isinstance(logger, logging.Logger) and logger.level != logging.NOTSET:
            loggers.append(logger)
    loggers = list(dict.fromkeys(loggers))
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
