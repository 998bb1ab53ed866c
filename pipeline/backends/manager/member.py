"""A process that joins a manager with one or several workers: what ``pipeline worker --join`` runs.

Each worker is a thread here with a child process. The thread gets jobs from the manager, the child runs them: so a task
that ends its process, exceeds its timeout or keeps the GIL costs the child only, which this process replaces, and this
process goes on answering.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import platform
import queue
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing import AuthenticationError
from multiprocessing.managers import RemoteError
from pathlib import Path
from time import monotonic, perf_counter_ns
from typing import Any, NamedTuple

from pipeline.backends import descendants
from pipeline.backends.interrupts import interrupts_blocked
from pipeline.backends.local.child_main import Setup, write_setup
from pipeline.backends.local.child_processes import kill
from pipeline.backends.local.executor import Finished, Job, LostWorker
from pipeline.backends.local.messages import SegmentMessage
from pipeline.backends.local.processes import Processes
from pipeline.backends.manager.connections import Address, arrived, shut_all, to_text
from pipeline.backends.manager.queues import QueueManager, ResultsProxy, TasksProxy
from pipeline.backends.versions import PACKAGES, boot_id, installed
from pipeline.errors import BackendError
from pipeline.graph.segments import Segment
from pipeline.worker.segment_result import SegmentResult
from pipeline.worker.tracebacks import one_line

__all__ = ["Done", "Facts", "Order", "Run", "join", "join_own"]

_CLOCK_REQUESTS = 5
_NOT_YET = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN)  # a machine that is starting, too
_RETRY = 0.5  # seconds between two tries to connect
_END_LIMIT = 10.0  # seconds for the threads to end their children


@dataclass(frozen=True)
class Facts:
    """What a worker reports when it joins.

    Parameters
    ----------
    own : whether the process of the manager has started it
    clock_error : seconds by which its instants may differ from the manager's clock
    """

    member: str
    host: str
    pid: int
    own: bool
    clock_error: float
    versions: Mapping[str, Any]


@dataclass(frozen=True)
class Order:
    """What a worker needs before its first job of a graph.

    Parameters
    ----------
    setup : of its child; its import path holds for workers that the process of the manager has started
    patience : seconds after which a child that is stopped counts as lost
    marker : path and content of a file that it must see; empty where it need not
    """

    setup: Setup
    patience: float
    marker: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Run:
    """A job. ``segment`` has no nodes: only the child unpickles the user's functions."""

    number: int
    attempt: int
    segment: Segment
    message: SegmentMessage


class Done(NamedTuple):
    """What came of a job: see :class:`pipeline.backends.local.executor.Finished`.

    Parameters
    ----------
    position : of the task that a lost child ran, in its segment; -1: it ran none
    """

    number: int
    result: SegmentResult | None
    lost: LostWorker | None
    position: int
    kept: SegmentResult | None


class _Child(Processes):
    """One worker process, for jobs that are pickled already."""

    def __init__(self, name: str, start_method: str, blas_threads: int) -> None:
        super().__init__(workers=1, start_method=start_method, blas_threads=blas_threads)
        self._workers[0].name = name
        self._killed: Any = None

    def get_ready(self, order: Order, *, keep_path: bool) -> Mapping[str, int]:
        """Have it read a set-up; return the threads of its libraries."""
        assert self._folder is not None
        setup = order.setup if keep_path else replace(order.setup, sys_path=tuple(sys.path))
        self._setup, self._patience = write_setup(self._folder.path, setup), order.patience
        self._gaps.clear()
        self._get_ready()
        return self._threads

    def begin(self, job: Job, message: SegmentMessage) -> None:
        """Hand it a job."""
        self._listen(0.0)  # it may have been killed while it had nothing to do
        self._forget_finished(job)
        self._hand_out(job, replace(message, finished=self._finished_path(job)))

    def position(self, number: int) -> int:
        """Return the position of the task that it runs in the segment with this number; -1: of none."""
        process = self._workers[0].process
        if process is None:
            return -1
        segment, position, _ = self._children.slots.read(process.config.slot)
        return position if segment == number else -1

    def stop(self) -> None:
        """Kill it, from any thread, while it has a job; :meth:`settle` comes after that job."""
        self._killed = self._workers[0].process
        with contextlib.suppress(ValueError, AttributeError):  # it has ended meanwhile
            kill(self._killed)

    def settle(self) -> None:
        """Have the end of a child handled that was killed when its job was just done: the next one must not get it."""
        while self._killed is not None and self._workers[0].process is self._killed:
            self._listen(_RETRY)
        self._killed = None


class _Member:
    """A joined process. States: made -> joined -> over; a thread a worker, and one that shows that this process lives.

    Parameters
    ----------
    report : called with lines for the user
    own : whether the process of the manager has started this one
    """

    def __init__(
        self,
        address: Address,
        authkey: bytes,
        workers: int,
        start_method: str,
        report: Callable[[str], None],
        own: bool,
    ) -> None:
        self._address, self._authkey, self._n_workers = address, authkey, workers
        self._start_method, self._report, self._own = start_method, report, own
        self.name = str(secrets.randbits(63))
        self._stopping, self._leaving = threading.Event(), threading.Event()
        self._done = 0  # jobs
        self._lock = threading.Lock()  # of the two maps: a child is killed only while it has the job
        self._over: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()  # what each thread ended with
        self._running: dict[str, tuple[int, _Child]] = {}  # worker -> number of the segment, and of the job
        self._jobs: dict[str, int] = {}
        self._offset = self._error = 0  # ns
        self._tasks: TasksProxy
        self._results: ResultsProxy
        self._facts: Facts

    def join(self, wait: float) -> None:
        """Connect, waiting up to ``wait`` seconds for the server.

        Raises
        ------
        BackendError : if there is none in time, or it refuses this process
        """
        deadline, waiting = monotonic() + wait, False
        where = to_text(self._address)
        while True:
            try:
                manager: Any = QueueManager(self._address, self._authkey)
                manager.connect()
                self._tasks, self._results = manager.tasks(), manager.results()
                break
            except AuthenticationError:
                cure = "use the file that it was started with"
                raise BackendError(f"AuthenticationError: the run at {where} has another authkey; {cure}") from None
            except (EOFError, OSError) as error:
                # one that is full ends the connection, too
                known = isinstance(error, (EOFError, ConnectionError, TimeoutError)) or error.errno in _NOT_YET
                if not known or monotonic() > deadline:
                    raise BackendError(_why_not(where, error, wait)) from error
                if not waiting:
                    self._report(f"no run listens at {where} yet; waiting up to {wait:g} s for it")
                    waiting = True
                self._stopping.wait(_RETRY)
        self._set_clock()
        inexact, versions = self._error / 1e9, installed(PACKAGES, "")
        self._facts = Facts(self.name, platform.node(), os.getpid(), self._own, inexact, versions)

    def _set_clock(self) -> None:
        """Estimate the offset of this machine's clock; half of the shortest round trip is its error."""
        best = -1
        for _ in range(_CLOCK_REQUESTS):
            asked = perf_counter_ns()
            boot, there = self._tasks.clock()
            answered = perf_counter_ns()
            if boot == boot_id():
                return
            if best < 0 or answered - asked < best:
                best = answered - asked
                self._offset, self._error = (asked + answered) // 2 - there, best // 2

    def work(self) -> int:
        """Run jobs until the run is over; return how many.

        Raises
        ------
        BackendError : if the server is gone, or refuses this process
        """
        names = [f"{self.name}/{i}" for i in range(self._n_workers)]
        threads = [threading.Thread(target=self._guarded, args=("",), name=f"{self.name}/beat", daemon=True)]
        threads += [threading.Thread(target=self._guarded, args=(name,), name=name, daemon=True) for name in names]
        try:
            with interrupts_blocked():
                for thread in threads:
                    thread.start()
            for _ in names:
                failed = self._over.get()
                if failed is not None:
                    raise self._explained(failed) from failed
        finally:
            self._stopping.set()
            shut_all()
            deadline = monotonic() + _END_LIMIT
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - monotonic()))
        return self._done

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, (EOFError, OSError)):
            return BackendError(
                f"the run at {to_text(self._address)} is gone: its process or machine has ended, or the network is down"
            )
        if isinstance(error, RemoteError):
            return BackendError(f"the run at {to_text(self._address)} failed to answer: {one_line(error)}")
        return error

    def _guarded(self, worker: str) -> None:
        try:
            self._serve(worker) if worker else self._beat()
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            if worker or not self._leaving.is_set():  # the server is closed once workers have been sent its end
                self._over.put(error)
        else:
            self._over.put(None)

    def _beat(self) -> None:
        """Show that this process lives, and stop the children whose jobs are cancelled."""
        while not self._stopping.is_set():
            with self._lock:
                running = {w: (self._jobs[w], child.position(number)) for w, (number, child) in self._running.items()}
            cancelled = self._tasks.beat(self.name, running)
            with self._lock:
                for worker, (_, child) in self._running.items():
                    if self._jobs[worker] in cancelled:
                        child.stop()
            if cancelled:
                self._stopping.wait(0.05)

    # ---- one worker

    def _serve(self, worker: str) -> None:
        self._results.put(worker, "join", self._facts)
        kind, content = self._tasks.get(worker)
        if kind == "refused":
            raise BackendError(f"the run at {to_text(self._address)} refuses this worker: {content}")
        with _Child(content[0], self._start_method, content[1]) as child:
            while kind != "end":
                kind, content = self._tasks.get(worker)
                if kind == "set up":
                    self._set_up(worker, child, content)
                elif kind == "run":
                    self._run(worker, child, content)
            self._leaving.set()

    def _set_up(self, worker: str, child: _Child, order: Order) -> None:
        path, text = order.marker
        try:
            if path and _read(path) != text:
                raise BackendError(f"does not see {Path(path).parent}: outputs need a folder that every worker shares")
            threads = child.get_ready(order, keep_path=self._own)
        except BackendError as error:
            self._results.put(worker, "broken", str(error))
            raise
        self._results.put(worker, "ready", threads)

    def _run(self, worker: str, child: _Child, run: Run) -> None:
        received = arrived()

        def emit(_: str, lines: Any) -> None:
            self._results.put(worker, "output", (run.number, lines))

        job = Job(run.segment, {}, run.attempt, emit)
        child.begin(job, run.message)
        with self._lock:
            self._jobs[worker] = run.number
            self._running[worker] = run.segment.number, child
        while not (finished := child.wait()):
            if self._stopping.is_set():
                raise EOFError
        with self._lock:
            del self._running[worker], self._jobs[worker]
        child.settle()
        self._done += 1
        self._results.put(worker, "done", self._what_came(run, finished[0], received))

    def _what_came(self, run: Run, finished: Finished, received: int) -> Done:
        result, kept, lost, position = finished.result, finished.kept, finished.lost, -1
        if lost is not None:
            position = run.segment.tasks.index(lost.task) if lost.task is not None else -1
            lost = replace(lost, task=None)
        if result is not None:
            if result.times.received:
                result.times = result.times._replace(received=received)
            self._shift(result)
        if kept is not None:
            self._shift(kept)
        return Done(run.number, result, lost, position, kept)

    def _shift(self, result: SegmentResult) -> None:
        """Convert instants to the clock of the manager."""
        by = self._offset
        if by:
            result.timings = [
                timing._replace(start=timing.start - by, stop=timing.stop - by) for timing in result.timings
            ]
            result.times = type(result.times)(*(instant - by if instant else 0 for instant in result.times))


def _why_not(where: str, error: EOFError | OSError, waited: float) -> str:
    """Return the message about a server that can't be joined."""
    if isinstance(error, EOFError):
        return f"{where} does not answer as a run of pipeline does"
    if isinstance(error, (ConnectionError, TimeoutError)) or error.errno in _NOT_YET:
        return f"no run listens at {where} ({error.strerror or 'no answer'}); waited {waited:g} s for it"
    return f"{where} can't be joined: {error.strerror or 'it is no run of pipeline'}"


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except OSError:
        return None


def join(address: Address, authkey: bytes, *, workers: int, wait: float, report: Callable[[str], None]) -> int:
    """Join a manager with some workers and run jobs until its run is over; return how many.

    Parameters
    ----------
    wait : seconds to wait for a server at that address
    report : called with lines for the user

    Raises
    ------
    BackendError : if there is no such server, it refuses this process, or it is gone
    """
    descendants.watch()
    member = _Member(address, authkey, workers, "spawn", report, own=False)
    member.join(wait)
    report(f"joined the run at {to_text(address)}")
    try:
        return member.work()
    finally:
        descendants.end_strays()


def join_own(address: Address, authkey: bytes, workers: int, start_method: str) -> None:
    """Join the manager of the process that has started this one: the main function of its child."""
    multiprocessing.current_process().daemon = False  # only the start of processes looks at it
    member = _Member(address, authkey, workers, start_method, lambda line: None, own=True)
    try:
        member.join(0.0)
        member.work()
    except (BackendError, EOFError, OSError):  # reported, or gone
        sys.exit(1)
