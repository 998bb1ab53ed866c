"""What the back ends with worker processes share: how a child starts, lives and ends, and how it runs a job.

A child ignores Ctrl-C (the parent answers it), leads a process group of its own (ending it ends the programs that its
task started, too), and dies with its parent: by the kernel's signal where the starting thread is the main one (the
signal comes when that *thread* ends), and by a thread that watches the parent in any case.

A child does not import the parent's ``__main__``: cloudpickle sends by value what is defined there, and a script
without ``if __name__ == "__main__"`` would start itself again.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import hashlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext, ForkProcess, ForkServerProcess, SpawnProcess
from multiprocessing.process import BaseProcess
from time import perf_counter_ns, sleep
from types import ModuleType
from typing import Any

import cloudpickle

from pipeline import capture
from pipeline.backends.packing import Packed, load, pack
from pipeline.errors import BackendError, ConfigError
from pipeline.graph import Graph, Key
from pipeline.preparation import install_modules, limit_threads, settle
from pipeline.worker import Around, Completion, Failure, Inner, Segment, describe, run_segment

__all__ = [
    "METHODS",
    "Children",
    "Order",
    "Slots",
    "count_cores",
    "ended_by",
    "idle",
    "kill",
    "meet",
    "order",
    "run_order",
    "set_up",
    "write_setup",
]

METHODS = ("spawn", "forkserver", "fork")
_PR_SET_PDEATHSIG = 1
_MEETING_LIMIT = 20_000_000_000  # ns
_REAPING = 1_000_000_000  # ns
_SAMPLE_LIMIT = 1_000_000  # bytes of a task that is worth sending just to have its modules imported


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---------------------------------------------------------------------------------------------------------------------
# Slots: what each worker does now, readable after its death
# ---------------------------------------------------------------------------------------------------------------------

_FIELDS = 3  # number of the segment, position of the task in it (-1: none), when it started (0: it is not running)


class Slots:
    """Shared memory where each worker writes what it runs before it runs it: no lock, one writer a slot.

    The start is written before the position and read after it: a task is never seen with the start of an earlier one.
    """

    def __init__(self, context: BaseContext, n: int) -> None:
        self.n = n
        self._numbers = context.RawArray("q", _FIELDS * n)

    def write(self, slot: int, segment: int, position: int, start: int) -> None:
        at = _FIELDS * slot
        self._numbers[at + 2] = start
        self._numbers[at] = segment
        self._numbers[at + 1] = position

    def clear(self, slot: int) -> None:
        self.write(slot, -1, -1, 0)

    def read(self, slot: int) -> tuple[int, int, int]:
        """Segment, position and start."""
        at = _FIELDS * slot
        position, segment = self._numbers[at + 1], self._numbers[at]
        return segment, position, self._numbers[at + 2]

    def late(self, slot: int, segment: Segment, now: int) -> Inner | None:
        """The task of ``segment`` that runs in the slot and has run longer than it may."""
        number, position, start = self.read(slot)
        if number != segment.number or position < 0 or not start:
            return None
        inner = segment.tasks[position]
        return inner if inner.timeout is not None and now - start > inner.timeout * 1e9 else None


# ---------------------------------------------------------------------------------------------------------------------
# Starting
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class _Birth:
    """What a child is told when it starts."""

    slots: Slots
    slot: int
    parent: int
    signal_death: bool
    blas_threads: int


class _Child(BaseProcess):
    """A process that settles before it works."""

    birth: _Birth

    def run(self) -> None:
        _settle(self.birth)
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
        if method == "forkserver":
            context.set_forkserver_preload([__name__])
        self.context: BaseContext = context
        self.slots = Slots(context, n_slots)
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
        child = _CLASSES[self.method](*args, **kwargs)
        with self._lock:
            taken = {other.birth.slot for other in self._started}
            slot = next(i for i in range(self.slots.n) if i not in taken)
            main_thread = threading.current_thread() is threading.main_thread()
            child.birth = _Birth(self.slots, slot, os.getpid(), main_thread, self._blas_threads)
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


# ---------------------------------------------------------------------------------------------------------------------
# In the child
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class _Self:
    """What a child knows of itself."""

    slots: Slots | None = None
    slot: int = 0
    blas_threads: int = 1
    setups: dict[str, dict[str, int]] = field(default_factory=dict)  # at most the latest


_self = _Self()


def _settle(birth: _Birth) -> None:
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    capture.install(alone=True)
    _self.slots, _self.slot, _self.blas_threads = birth.slots, birth.slot, birth.blas_threads
    _self.setups = {}
    parent = multiprocessing.parent_process()
    if birth.signal_death and sys.platform == "linux" and os.getppid() == birth.parent:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != birth.parent:
            os.kill(os.getpid(), signal.SIGKILL)  # it ended before the signal was asked for
    if parent is not None:
        threading.Thread(target=_die_after, args=(parent.sentinel,), name="parent-watcher", daemon=True).start()
    limit_threads(birth.blas_threads)


def _die_after(sentinel: int) -> None:
    wait([sentinel])
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class _Setup:
    sys_path: tuple[str, ...]
    modules: Mapping[str, bytes]
    samples: tuple[bytes, ...]


def write_setup(folder: str, graph: Graph, modules: Mapping[str, bytes]) -> str:
    """Write down what a child needs before its first task of a graph; the file, which is named by its content.

    That is where to import from, the shipped modules, and one task a step: opening it imports what the step needs.
    """
    samples: dict[str, bytes] = {}
    for key, node in graph.tasks.items():
        step = graph.policies[graph.owners[key]].step
        if step not in samples:
            samples[step] = b""
            with contextlib.suppress(Exception):  # a task that can't be pickled is reported when it is to run
                data = cloudpickle.dumps(node)
                samples[step] = data if len(data) < _SAMPLE_LIMIT else b""
    setup = _Setup(tuple(sys.path), {**modules, **graph.modules}, tuple(s for s in samples.values() if s))
    data = pickle.dumps(setup)
    path = os.path.join(folder, f"setup-{hashlib.sha256(data).hexdigest()[:32]}")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.write(data)
    return path


def set_up(path: str) -> dict[str, int]:
    """Do in this child what a set-up file says, once; the threads that BLAS, OpenMP and Arrow have after it."""
    if path not in _self.setups:
        with open(path, "rb") as file:
            setup: _Setup = pickle.load(file)
        sys.path[:] = setup.sys_path
        install_modules(setup.modules)
        for sample in setup.samples:
            with contextlib.suppress(Exception):  # if it can't be opened, that is reported when it is to run
                pickle.loads(sample)
        first = not _self.setups
        _self.setups = {path: limit_threads(_self.blas_threads)}
        if first:
            settle()
    return _self.setups[path]


def meet(n_workers: int, token: int) -> None:
    """Wait until so many children are here, but not for long: it is only to have each of them do something once."""
    if _self.slots is None:
        return
    _write(-2 - token, -1, 0)
    deadline = perf_counter_ns() + _MEETING_LIMIT
    while perf_counter_ns() < deadline:
        here = sum(_self.slots.read(slot)[0] == -2 - token for slot in range(_self.slots.n))
        if here >= n_workers:
            return
        sleep(0.002)


@dataclass(frozen=True)
class Order:
    """A job on its way to a child. ``first`` is named if the segment can't be opened."""

    number: int
    segment: bytes
    first: tuple[str, str, str]  # step, key, item
    inputs: Mapping[Key, Packed]


def order(segment: Segment, inputs: Mapping[Key, Packed]) -> Order | Failure:
    """The order for a segment, or what keeps it from being pickled."""
    first = segment.tasks[0]
    try:
        data = cloudpickle.dumps(segment)
    except Exception as error:  # noqa: BLE001 - the constants of a task are the user's: anything can happen
        return Failure.of(first, f"the task can't be pickled: {describe(error)}")
    return Order(segment.number, data, (first.step, str(first.key), first.item), inputs)


def run_order(given: Order, tell: capture.Tell | None = None) -> Completion:
    """Run a job in this child: its outputs come packed, and whatever goes wrong comes as a Failure.

    ``tell`` gets what its tasks write as it comes, from any thread; without it the Completion has it. Of what is around
    the tasks the Completion tells when the segment had been opened, and when the outputs were packed.
    """
    _write(given.number, 0, 0)  # opening it may end this process, too
    try:
        segment: Segment = pickle.loads(given.segment)
    except BaseException as error:  # noqa: BLE001 - the user's code runs here
        return _failed(given, f"the task can't be unpickled in a worker: {describe(error)}")
    opened = perf_counter_ns()
    inputs = {}
    for key, packed in given.inputs.items():
        try:
            inputs[key] = load(packed)
        except BaseException as error:  # noqa: BLE001 - the user's code runs here
            return _failed(given, f"the result of {key} that it needs can't be unpickled: {describe(error)}")
    positions = {inner.key: i for i, inner in enumerate(segment.tasks)}

    def started(inner: Inner) -> None:
        _write(given.number, positions[inner.key], perf_counter_ns())

    completion = run_segment(segment, inputs, started=started, tell=tell, hold=capture.HOLD if tell else 0.0)
    _write(given.number, len(segment.tasks) - 1, 0)
    for key in segment.outputs if completion.failure is None else ():
        try:
            completion.outputs[key] = pack(completion.outputs[key])
        except BaseException as error:  # noqa: BLE001 - the user's code runs here
            cause = f"its result ({type(completion.outputs[key]).__name__}) can't be pickled: {describe(error)}"
            completion.failure = Failure.of(segment.tasks[positions[key]], cause)
            completion.outputs = {}
            break
    completion.around = Around(opened=opened, packed=perf_counter_ns())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a task may have closed or replaced it; what it printed must not be lost
            stream.flush()
    return completion


def _failed(given: Order, cause: str) -> Completion:
    step, key, item = given.first
    return Completion(failure=Failure(step, key, item, cause))


def _write(segment: int, position: int, start: int) -> None:
    if _self.slots is not None:
        _self.slots.write(_self.slot, segment, position, start)


def idle() -> None:
    """Say that this child runs nothing now."""
    _write(-1, -1, 0)
