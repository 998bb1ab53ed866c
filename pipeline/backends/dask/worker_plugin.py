"""The plugin that gets every worker ready and records when its tasks arrive."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

from distributed import Worker, WorkerPlugin

from pipeline.graph.graph import Key
from pipeline.worker import shared_store
from pipeline.worker.output_capture import install, uninstall
from pipeline.worker.process_setup import freeze_objects, install_modules, limit_threads

__all__ = ["Arrival", "Prepare", "arrival"]

# Of this worker process, by Dask key; the instants are of ``perf_counter_ns``, the clock of the tasks.
_fetched: dict[Key, tuple[int, int]] = {}  # a result from another worker: when its transfer began, its bytes
_entered: dict[Key, dict[str, int]] = {}  # a task of this worker: state -> when it entered the state


@dataclass(frozen=True)
class Arrival:
    """When a task reached this worker and its arguments were there, and the bytes that came from other workers."""

    received: int
    loaded: int
    bytes_in: int


def arrival(worker: Worker, key: Key) -> Arrival:
    """Return what was recorded about the arrival of a task that runs now; 0 where nothing was. To be called once."""
    entered = _entered.pop(key, {})
    fetched = [_fetched.pop(other, (0, 0)) for other in _dependencies(worker, key)]
    begins = [begin for begin, _ in fetched if begin]
    ready = entered.get("ready", 0) or entered.get("executing", 0)
    waiting = entered.get("waiting", 0)
    return Arrival(
        received=min(begins, default=0) or waiting or ready,
        loaded=ready if begins else waiting or ready,
        bytes_in=sum(n for _, n in fetched),
    )


def _dependencies(worker: Worker, key: Key) -> list[Key]:
    with contextlib.suppress(KeyError, ValueError):  # the task has been cancelled
        dependencies: Any = worker.state.tasks[key].dependencies
        return [state.key for state in dependencies]
    return []


@dataclass
class Prepare(WorkerPlugin):
    """Gets every present and future worker ready to run segments.

    Parameters
    ----------
    name : under which it is registered, and unregistered
    modules : the user's modules, to be made importable
    blas_threads : threads of BLAS and OpenMP of each worker; None leaves them alone
    ours : whether the worker processes are used by nobody else
    environment : of this process, to be taken over; None leaves that of the worker alone. A worker that is forked from
        a server has the environment of when the server was started
    """

    name: str
    modules: Mapping[str, bytes] = field(default_factory=dict)
    blas_threads: int | None = None
    ours: bool = False
    environment: Mapping[str, str] | None = None

    def setup(self, worker: Worker) -> None:
        if self.environment is not None:
            for name in os.environ.keys() - self.environment:
                del os.environ[name]
            os.environ.update(self.environment)
            tempfile.tempdir = None
        shared_store.refuse("dask")
        if self.modules:
            install_modules(self.modules)
        if self.blas_threads is not None:
            limit_threads(self.blas_threads)
        if self.ours:
            freeze_objects()
        self.worker = worker
        install()

    def teardown(self, worker: Worker) -> None:
        """Give the streams back: the process may belong to others."""
        shared_store.refuse("")
        uninstall()

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """Record when a task arrived, was ready and was handed to a thread, and when its inputs were fetched.

        An input that arrived and can't be read (memory is short, its module is not there) is reported to all clients:
        Dask 2026.8 keeps the error to itself, and the task waits for its input for ever. The connection is given up,
        since the other worker still waits on it to hear that the input has arrived, and the next transfer would fail.
        """
        if start == "flight" and finish == "error":
            state = self.worker.state.tasks[key]
            for address in state.who_has:
                self.worker.rpc.remove(address)
            content = {"action": "unreadable", "key": str(key), "cause": str(state.exception_text)}
            self.worker.log_event("all", content)
        if finish == "flight":
            _fetched[key] = (perf_counter_ns(), 0)
        elif start == "flight" and finish == "memory":
            _fetched[key] = (_fetched.get(key, (0, 0))[0], int(self.worker.state.tasks[key].nbytes or 0))
        elif finish in ("waiting", "ready", "executing"):
            _entered.setdefault(key, {})[finish] = perf_counter_ns()
        elif finish in ("memory", "error", "released", "forgotten"):
            _entered.pop(key, None)
            if finish in ("released", "forgotten"):
                _fetched.pop(key, None)
