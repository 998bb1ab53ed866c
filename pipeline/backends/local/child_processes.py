"""Start worker processes, and end them with everything that their tasks have started."""

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

from pipeline.backends import descendants
from pipeline.backends.interrupts import interrupts_blocked
from pipeline.backends.local import forkserver
from pipeline.backends.local.child_main import ChildConfig, begin
from pipeline.backends.local.status_slots import StatusSlots
from pipeline.errors import BackendError, ConfigError
from pipeline.worker.closed_files import FILES_CLOSED, end_without_files
from pipeline.worker.engine_connections import has_connection

__all__ = ["METHODS", "Children", "count_cores", "ended_by", "ended_stopped", "kill", "reap"]

METHODS = ("spawn", "forkserver", "fork")
_MOST_STARTS = 3
_REAPING_LIMIT = 1_000_000_000  # ns


def _modules_of_tasks() -> list[str]:
    """Return what this process has imported for its tasks, and what each worker would otherwise import anew."""
    return [name for name in sys.modules if name.startswith(("pipeline.ops.", "pipeline.outputs."))]


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Child(BaseProcess):
    """A process that prepares itself before it works."""

    config: ChildConfig

    def run(self) -> None:
        begin(self.config)
        try:
            super().run()
        except OSError:
            end_without_files()
            raise


class SpawnChild(_Child, SpawnProcess):
    """A child with a fresh interpreter."""

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:  # noqa: N802 - multiprocessing's name
        with interrupts_blocked(), descendants.marked(), _main_hidden():
            return SpawnProcess._Popen(process)


class ForkServerChild(_Child, ForkServerProcess):
    """A child forked from a server that runs nothing else."""

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:  # noqa: N802 - multiprocessing's name
        with interrupts_blocked(), descendants.marked(), _main_hidden():
            for _ in range(_MOST_STARTS - 1):
                with contextlib.suppress(OSError, EOFError):  # the server was killed; then it is started again
                    return ForkServerProcess._Popen(process)
            return ForkServerProcess._Popen(process)


class ForkChild(_Child, ForkProcess):
    """A child forked from this process."""

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:  # noqa: N802 - multiprocessing's name
        with interrupts_blocked(), descendants.marked():
            return ForkProcess._Popen(process)


_CLASSES: Mapping[str, type[_Child]] = {"spawn": SpawnChild, "forkserver": ForkServerChild, "fork": ForkChild}


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Start a child that does not import this process's ``__main__``.

    A script without ``if __name__ == "__main__"`` would start itself again; what is defined there is sent by value.
    Used within :func:`descendants.marked`, in one thread at a time.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _NoProcess:
    """Takes the place of a process that must not be started: a Pool replaces a dead worker before it can be ended."""

    name, daemon, pid, exitcode = "no process", True, None, None

    def start(self) -> None:
        pass

    terminate = kill = join = start

    def is_alive(self) -> bool:
        return False


class Children:
    """Starts processes by one method, and keeps every one that it has started until it has ended.

    Attributes
    ----------
    context : a multiprocessing context whose ``Process`` is :meth:`process`: a ``Pool`` starts its workers by it, also
        those that replace others, from a thread of its own
    complete : whether no more processes may be started; :meth:`process` then returns one that does nothing
    """

    def __init__(self, method: str, *, blas_threads: int, n_slots: int) -> None:
        if method not in METHODS:
            raise ConfigError(f"start_method: got {method!r}; allowed: {', '.join(METHODS)}")
        there = multiprocessing.get_all_start_methods()
        if method not in there:
            raise ConfigError(f"start_method: got {method!r}, which this system lacks; it has {', '.join(there)}")
        self.method = method
        self._blas_threads = blas_threads
        context: Any = copy.copy(multiprocessing.get_context(method))
        context.Process = self.process
        self.context: BaseContext = context
        self.slots = StatusSlots(context, n_slots)
        self.complete = False
        self._children: list[_Child] = []
        self._lock = threading.Lock()

    def process(self, *args: Any, **kwargs: Any) -> Any:
        """Return a process, not yet started, with a free status slot."""
        if self.complete:
            return _NoProcess()
        if self.method == "fork" and threading.active_count() > 1:
            others = ", ".join(t.name for t in threading.enumerate() if t is not threading.current_thread())
            raise BackendError(
                f"start method 'fork' while other threads run ({others}) can hang the child; use 'spawn'"
            )
        if self.method == "fork" and has_connection():
            raise ConfigError(
                "start_method: got 'fork', but this process has run frames (on serial or threads), and a process that "
                "is forked from it would crash; use spawn or forkserver, or run this in a new process"
            )
        if self.method == "forkserver":
            try:
                forkserver.start([__name__, "pipeline.backends.local.messages", *_modules_of_tasks()])
            except OSError as error:
                raise BackendError(f"start method 'forkserver' can't be used here: {error}; use 'spawn'") from error
        child = _CLASSES[self.method](*args, **kwargs)
        with self._lock:
            taken = {other.config.slot for other in self._children}
            slot = next(i for i in range(self.slots.n) if i not in taken)
            in_main_thread = threading.current_thread() is threading.main_thread()
            child.config = ChildConfig(
                self.slots, slot, os.getpid(), in_main_thread, descendants.mark(), self._blas_threads
            )
            self._children.append(child)
        self.slots.clear(slot)
        return child

    def started(self) -> list[_Child]:
        """Return the children that were started and not forgotten, ended ones included."""
        with self._lock:
            return [child for child in self._children if child.pid is not None]

    def living(self) -> list[_Child]:
        """Return the children that run."""
        return [child for child in self.started() if child.exitcode is None]

    def forget(self, child: _Child) -> None:
        """Free the slot of a child that has ended."""
        with self._lock:
            self._children.remove(child)

    def end_below(self) -> None:
        """Kill what the tasks of living children have started, and not the children."""
        descendants.end_below([child.pid for child in self.living() if child.pid is not None])

    def end(self) -> None:
        """Kill every child, with everything that its tasks have started, and reap it."""
        for child in self.living():
            kill(child)
        for child in self.started():
            child.join()
        descendants.end_strays()
        with self._lock:
            self._children.clear()


def kill(child: BaseProcess) -> None:
    """Kill a child, what stands below it, and its process group.

    It must be joined afterwards: until then its id can't be used again.
    """
    if child.pid is None:
        return
    descendants.end([child.pid])
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()


def reap(child: BaseProcess) -> str:
    """End a child whose pipe is closed, with everything that its tasks have started; return how it ended.

    It may be alive: a task that closes the files of its process closes the pipe, too.
    """
    lives = _lives(child)
    kill(child)
    child.join()
    descendants.end_strays()
    return "SIGKILL from the parent, since a task had closed its files," if lives else ended_by(child)


def ended_stopped(seconds: float) -> str:
    """Return how a child has ended that was killed since it was stopped."""
    return f"SIGKILL from the parent, since it had been stopped (SIGSTOP) for {seconds:.0f} s,"


def _lives(child: BaseProcess) -> bool:
    deadline = perf_counter_ns() + _REAPING_LIMIT
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(child.pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            if perf_counter_ns() > deadline:
                return True
            sleep(0.001)
    return False


def ended_by(child: BaseProcess) -> str:
    """Return what a child was ended by: ``SIGKILL``, ``exit code 1``."""
    deadline = perf_counter_ns() + _REAPING_LIMIT
    while child.exitcode is None and perf_counter_ns() < deadline:  # a thread of a Pool may be about to reap it
        sleep(0.001)
    code = child.exitcode
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return "a task that had closed its files, or left it none to open," if code == FILES_CLOSED else f"exit code {code}"
