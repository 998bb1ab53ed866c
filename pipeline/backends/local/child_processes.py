"""How worker processes are started and ended; what they do: :mod:`pipeline.backends.local.child_main`.

A child does not import the parent's ``__main__``: cloudpickle sends by value what is defined there, and a script
without ``if __name__ == "__main__"`` would start itself again.
"""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from multiprocessing.context import BaseContext, ForkProcess, ForkServerProcess, SpawnProcess
from multiprocessing.process import BaseProcess
from time import perf_counter_ns, sleep
from types import ModuleType
from typing import Any

import psutil

from pipeline.backends.local import forkserver
from pipeline.backends.local.child_main import ChildConfig, begin
from pipeline.backends.local.status_slots import StatusSlots
from pipeline.errors import BackendError, ConfigError

__all__ = ["METHODS", "Children", "bury", "count_cores", "ended_by", "kill"]

METHODS = ("spawn", "forkserver", "fork")
_REAPING = 1_000_000_000  # ns


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Child(BaseProcess):
    """A process that settles before it works."""

    birth: ChildConfig

    def run(self) -> None:
        begin(self.birth)
        super().run()


class SpawnChild(_Child, SpawnProcess):
    """A child of a fresh interpreter."""

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:  # noqa: N802 - multiprocessing's name
        with _quiet_start():
            return SpawnProcess._Popen(process)


class ForkServerChild(_Child, ForkServerProcess):
    """A child forked from a server that runs nothing else."""

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:  # noqa: N802 - multiprocessing's name
        with _quiet_start():
            return ForkServerProcess._Popen(process)


class ForkChild(_Child, ForkProcess):
    """A child forked from this process."""

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:  # noqa: N802 - multiprocessing's name
        with _quiet_start(hide_main=False):
            return ForkProcess._Popen(process)


_CLASSES: Mapping[str, type[_Child]] = {"spawn": SpawnChild, "forkserver": ForkServerChild, "fork": ForkChild}


@contextlib.contextmanager
def _quiet_start(*, hide_main: bool = True) -> Iterator[None]:
    """Start a child that is deaf to Ctrl-C from its first instruction on, and that sees no ``__main__``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a child inherits it, also through exec
    main = sys.modules["__main__"]
    if hide_main:
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _StandIn:
    """In the place of a process that must not be started: a Pool replaces a dead worker before we can end the Pool."""

    name, daemon, pid, exitcode = "stand-in", True, None, None

    def start(self) -> None:
        pass

    terminate = kill = join = start

    def is_alive(self) -> bool:
        return False


class Children:
    """Starts processes by one method, and knows every one that it started.

    ``context`` is a multiprocessing context whose ``Process`` is ours: ``Pool`` starts its workers by it as well, the
    ones that replace others included, from a thread of its own.
    """

    def __init__(self, method: str, *, blas_threads: int, n_slots: int) -> None:
        if method not in METHODS:
            raise ConfigError(f"start_method: got {method!r}; allowed: {', '.join(METHODS)}")
        self.method = method
        self._blas_threads = blas_threads
        context: Any = copy.copy(multiprocessing.get_context(method))
        context.Process = self.process
        self.context: BaseContext = context
        self.slots = StatusSlots(context, n_slots)
        self.complete = False  # no more may be started: who asks for one gets a stand-in
        self._started: list[_Child] = []
        self._lock = threading.Lock()

    def process(self, *args: Any, **kwargs: Any) -> Any:
        """A process, not yet started, with a slot that no living one has."""
        if self.complete:
            return _StandIn()
        if self.method == "fork" and threading.active_count() > 1:
            others = ", ".join(t.name for t in threading.enumerate() if t is not threading.current_thread())
            raise BackendError(
                f"start method 'fork' while other threads run ({others}) can hang the child; use 'spawn'"
            )
        if self.method == "forkserver":
            try:
                forkserver.start([__name__, "pipeline.backends.local.messages"])
            except OSError as error:
                raise BackendError(f"start method 'forkserver' can't be used here: {error}; use 'spawn'") from error
        child = _CLASSES[self.method](*args, **kwargs)
        with self._lock:
            taken = {other.birth.slot for other in self._started}
            slot = next(i for i in range(self.slots.n) if i not in taken)
            main_thread = threading.current_thread() is threading.main_thread()
            child.birth = ChildConfig(self.slots, slot, os.getpid(), main_thread, self._blas_threads)
            self._started.append(child)
        self.slots.clear(slot)
        return child

    def known(self) -> list[_Child]:
        """The children that were started and not forgotten, ended ones included."""
        with self._lock:
            return [child for child in self._started if child.pid is not None]

    def living(self) -> list[_Child]:
        """The children that run."""
        return [child for child in self.known() if child.exitcode is None]

    def forget(self, child: _Child) -> None:
        """Give the slot of an ended child to others, and what the system holds for it back."""
        with self._lock:
            self._started.remove(child)

    def end(self) -> None:
        """Kill every child, with whatever its tasks started, and reap it."""
        for child in self.living():
            kill(child)
        for child in self.known():
            child.join()
        with self._lock:
            self._started.clear()


def kill(child: BaseProcess) -> None:
    """Kill a child and its process group. It is reaped by whoever joins it: until then its id is nobody else's."""
    if child.pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()


def bury(child: BaseProcess) -> str:
    """End a child that is not heard any more, with whatever its tasks started, and reap it; how it ended.

    It may live: a task that closes the files of its process closes what we hear of it by.
    """
    lives = _lives(child)
    kill(child)
    child.join()
    return "SIGKILL from here, since it had closed its files," if lives else ended_by(child)


def _lives(child: BaseProcess) -> bool:
    deadline = perf_counter_ns() + _REAPING
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(child.pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            if perf_counter_ns() > deadline:
                return True
            sleep(0.001)
    return False


def ended_by(child: BaseProcess) -> str:
    """How an ended child ended: ``SIGKILL``, ``exit code 1``.

    A thread of a Pool may be just about to reap it: until it has, the code is not known here.
    """
    deadline = perf_counter_ns() + _REAPING
    while child.exitcode is None and perf_counter_ns() < deadline:
        sleep(0.001)
    code = child.exitcode
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"
