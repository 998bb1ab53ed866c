"""Three ways to a cluster.

==========================  ===========================================================================================
the file's ``cluster`` map  what happens
==========================  ===========================================================================================
``workers`` …               a LocalCluster, a process a worker, everything on 127.0.0.1; ours, ended with us
``address``                 a scheduler that stands already; only what is ours is taken off it again
``class``                   an object of that class, made with ``kwargs``, then ``scale`` or ``adapt``; ours
==========================  ===========================================================================================

Ctrl-C reaches every process of the terminal's group. The threads that start workers therefore block SIGINT, which
processes inherit, also those that are started anew later: the workers never see it, and only we end them.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster
from distributed.core import Status, rpc
from distributed.security import Security
from distributed.utils import LoopRunner, sync

from pipeline.backends.local import forkserver
from pipeline.backends.local.loop import MOST_LOSSES
from pipeline.errors import BackendError, ConfigError

__all__ = ["Settings", "await_workers", "join", "mend", "named", "quiet"]

_PORTS = range(8787, 8887)
_CLOSING = 5.0  # seconds for a client or a cluster to close
_PRELOADED = ("pipeline.backends.dask.remote_task", "xarray")


# ---------------------------------------------------------------------------------------------------------------------
# What was asked
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The ``cluster`` map of a file, and what the command line says over it.

    Parameters
    ----------
    workers : processes of a LocalCluster; None: one a core
    threads_per_worker : threads of each
    memory_limit : bytes or text (``4GB``) a worker; ``auto``: an equal share of the machine
    resources : what each worker of a LocalCluster offers
    dashboard : whether a LocalCluster has one
    page : whether a scheduler that stands is to show the page ``/pipeline``, while we use it; a cluster of ours does
    address : of a scheduler that stands
    insecure : allow an unencrypted address that is not on this machine
    class_, kwargs, scale, adapt : a cluster class ``module:Class``, its arguments, and what to call then
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
        """The map's settings, those of ``over`` that are not None on top.

        Raises
        ------
        ConfigError : for a key that is none, or two ways to a cluster at once
        """
        given = {("class_" if key == "class" else str(key)): value for key, value in (cluster or {}).items()}
        allowed = set(cls.__dataclass_fields__)
        unknown = sorted(set(given) - allowed)
        if unknown:
            names = ", ".join(sorted(name.rstrip("_") for name in allowed))
            raise ConfigError(f"cluster: got {', '.join(unknown)}; allowed: {names}")
        if over.get("address"):
            given.pop("class_", None)
        given |= {key: value for key, value in over.items() if value is not None}
        if given.get("workers") == "auto":
            given["workers"] = None
        settings = cls(**given)
        if settings.address and settings.class_:
            raise ConfigError("cluster: got address and class; give one of them")
        if settings.workers is not None and settings.workers < 1:
            raise ConfigError(f"cluster: workers: got {settings.workers}; a whole number >= 1, or auto")
        return settings

    @property
    def local(self) -> bool:
        """Whether the workers are processes that we start on this machine."""
        return not self.address and not self.class_


# ---------------------------------------------------------------------------------------------------------------------
# Starting and joining
# ---------------------------------------------------------------------------------------------------------------------


def join(settings: Settings, stack: ExitStack, *, scratch: str) -> Client:
    """A client of the cluster that is asked for; leaving ``stack`` closes the client, and the cluster if it is ours.

    Raises
    ------
    BackendError : if it can't be started or reached, is not to be trusted, or has no workers
    """
    stack.enter_context(quiet())
    if settings.local:
        cluster = _start_local(settings, stack, scratch)
        return _connect(cluster, settings, stack)
    if settings.class_:
        cluster = _start_class(settings, stack)
        _trust(str(cluster.scheduler_address), settings)
        client = _connect(cluster, settings, stack)
    else:
        _trust(settings.address, settings)
        client = _connect(settings.address, settings, stack)
    await_workers(client, settings)
    return client


def _start_local(settings: Settings, stack: ExitStack, scratch: str) -> LocalCluster:
    port = _free_port() if settings.dashboard else 0
    stack.enter_context(
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": MOST_LOSSES - 1,
                "distributed.scheduler.no-workers-timeout": f"{max(settings.timeout, 60.0)}s",  # they are started anew
                "distributed.deploy.lost-worker-timeout": "60s",  # see mend
                "distributed.worker.multiprocessing-method": _start_method(),
                "temporary-directory": scratch,
            }
        )
    )
    with _interrupts_blocked():
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
            )
        except (OSError, RuntimeError, ValueError, TimeoutError) as error:
            raise BackendError(f"the local Dask cluster did not start: {named(error)}") from error
        stack.callback(_end_local, cluster)
    return cluster


def _start_method() -> str:
    """How nannies start their workers: forked from a server, which takes a tenth of the time, also after a loss."""
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
    """End a cluster of ours: its workers are killed first, since one that is just starting would be waited for."""
    loop: Any = cluster.loop
    with contextlib.suppress(OSError, TimeoutError, RuntimeError):
        sync(loop, _kill_workers, cluster, callback_timeout=_CLOSING)
    _close(cluster)


async def _kill_workers(cluster: LocalCluster) -> None:
    for nanny in cluster.workers.values():
        process = nanny.process and nanny.process.process
        if process is not None:
            nanny.close_gracefully()  # it starts no other
            await process.kill()


def mend(cluster: LocalCluster) -> None:
    """Start workers in the place of those that Dask has given up; to be called on the cluster's event loop.

    A nanny starts its worker anew when that ends, but gives up when it ends while it starts: a task that kills its
    worker does so if it is waiting for one. With the cluster's own ``lost-worker-timeout`` a slow start is given up
    as well.
    """
    gone = [name for name, nanny in cluster.workers.items() if nanny.status in (Status.closed, Status.failed)]
    for name in gone:
        del cluster.workers[name]
    if gone:
        cluster.scale(len(cluster.worker_spec))


def _start_class(settings: Settings, stack: ExitStack) -> Any:
    module, _, name = settings.class_.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BackendError(f"cluster: class: got {settings.class_!r}: {named(error)}; write 'module:Class'") from error
    with _interrupts_blocked():
        try:
            cluster = kind(**settings.kwargs)
        except Exception as error:
            raise BackendError(f"cluster: {settings.class_} did not start: {named(error)}") from error
        stack.callback(_close, cluster)
    if settings.adapt is not None:
        cluster.adapt(**settings.adapt)
    elif isinstance(settings.scale, Mapping):
        cluster.scale(**settings.scale)
    elif settings.scale is not None:
        cluster.scale(settings.scale)
    return cluster


def _connect(cluster: Any, settings: Settings, stack: ExitStack) -> Client:
    timeout = min(10.0, settings.timeout)
    with _interrupts_blocked():
        loop = cluster.loop if hasattr(cluster, "loop") else _event_loop(stack)
    try:
        if isinstance(cluster, str):
            sync(loop, _greet, cluster, timeout, callback_timeout=timeout)
        client = Client(cluster, timeout=timeout, set_as_default=False, loop=loop)
    except (OSError, TimeoutError, RuntimeError, ValueError) as error:
        raise BackendError(f"no Dask scheduler answers at {cluster}: {named(error)}") from error
    stack.callback(_close, client)
    return client


async def _greet(address: str, timeout: float) -> None:
    """Ask a scheduler who it is: a client that can't connect leaves a thread behind, this does not."""
    arguments = Security().get_connection_args("client")
    remote: Any = rpc(address, timeout=timeout, connection_args=arguments)
    try:
        await remote.identity(n_workers=0)
    finally:
        await remote.close_rpc()


def _event_loop(stack: ExitStack) -> Any:
    """An event loop in a thread of ours: one that a cluster starts itself stays behind when it can't start."""
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
    """Refuse to send code and data over an open network unless told to."""
    scheme, _, rest = address.rpartition("://")
    host = rest.rsplit("@")[-1].rsplit(":", 1)[0].strip("[]")
    if scheme in ("tls", "wss", "inproc") or settings.insecure or _is_loopback(host):
        return
    raise BackendError(
        f"{address} is not on this machine and not encrypted: whoever reaches it can run code there. "
        "Use tls://, a tunnel to 127.0.0.1, or say cluster: {insecure: true}"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _free_port() -> int:
    """The first port from 8787 on that nobody listens at; 0 lets the system choose."""
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
    """Close a client or a cluster; what goes wrong while everything ends anyway is of no use to anybody."""
    with contextlib.suppress(OSError, TimeoutError, RuntimeError, KeyError, AttributeError):
        closable.close(timeout=_CLOSING)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Threads and processes started within never see SIGINT; one that comes meanwhile reaches us at the end."""
    resource_tracker.ensure_running()  # it unblocks SIGINT in the thread that starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the logs of distributed off the terminal: what they have to say, we say once and in our words."""
    names = [
        name
        for name in list(logging.root.manager.loggerDict)
        if name.partition(".")[0] in ("distributed", "tornado", "bokeh", "asyncio")
    ]
    loggers = [logging.getLogger(name) for name in {*names, "distributed", "tornado", "bokeh", "asyncio"}]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def named(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
