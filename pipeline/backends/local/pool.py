"""Plain ``multiprocessing.Pool``, as users would write it, but supervised.

By itself a Pool hangs for ever when a worker is killed, a task calls ``sys.exit``, or a result or an exception can't
be unpickled. So only bytes go through it, every exception is caught in the worker, and while no result comes we look at
the processes ourselves, and at the slots in which each says what it runs.

A Pool whose worker died can't be trusted (the worker may have held a lock of its queues): the run ends with
:class:`pipeline.errors.WorkerLost`, and the next one has a new Pool. The same goes for a task that runs too long, but
there we know what was running, so the segments can be run again.
"""

from __future__ import annotations

import contextlib
import multiprocessing.pool
import pickle
import queue
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from time import perf_counter, perf_counter_ns
from typing import Any, ClassVar

from pipeline.backends.base import Capabilities
from pipeline.backends.local import loop
from pipeline.backends.local.child_main import idle, meet, set_up
from pipeline.backends.local.child_processes import Children, bury, count_cores, kill
from pipeline.backends.local.messages import SegmentMessage, order, run_order
from pipeline.backends.local.process_backend import Workers
from pipeline.backends.local.serialization import PIPE, to_bytes
from pipeline.errors import BackendError, ConfigError, WorkerLost
from pipeline.graph.segments import Failure
from pipeline.worker.run_segment import SegmentResult
from pipeline.worker.tracebacks import describe

__all__ = ["Pool"]

_POLL = 0.05  # seconds between two looks at the workers
_END_LIMIT = 5.0  # seconds for the Pool to end; then its threads, which are daemons, are left alone
_START_LIMIT = 120.0


class Pool(Workers):
    """See the module.

    Parameters
    ----------
    workers : processes; None: a process a core that this process may use
    modules : the user's own modules, besides those of the graph
    start_method : spawn, forkserver or fork; fork is refused while other threads run
    maxtasksperchild : segments after which a process is replaced, as in ``multiprocessing.Pool``
    blas_threads : threads of BLAS, OpenMP and Arrow in each process
    """

    name: ClassVar[str] = "pool"
    capabilities: ClassVar[Capabilities] = Capabilities(
        isolates_tasks=True, pickles_results=True, can_stop_tasks=True, recovers_workers=False
    )

    def __init__(
        self,
        *,
        workers: int | None = None,
        modules: Mapping[str, bytes] | None = None,
        start_method: str = "spawn",
        maxtasksperchild: int | None = None,
        blas_threads: int = 1,
    ) -> None:
        if start_method == "fork" and maxtasksperchild is not None:
            raise ConfigError(
                "maxtasksperchild: with start_method 'fork', Pool forks while its threads run; use 'spawn'"
            )
        slots = 4 * (workers or count_cores()) + 32
        super().__init__(workers, modules, start_method, blas_threads, slots=slots)
        self._maxtasksperchild = maxtasksperchild
        self._pool: multiprocessing.pool.Pool | None = None
        self._warm = ""  # the set-up that the workers have done
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()  # number, bytes or exception, when it came
        self._jobs: dict[int, tuple[loop.Job, int]] = {}  # in flight, with the bytes sent
        self._failed: list[loop.Finished] = []
        self._looked = 0.0
        self._runs = 0
        self._heard: dict[str, int] = {}  # when the last result of each worker came

    # ---- the life of the back end

    def _get_ready(self) -> None:
        self._heard.clear()
        if self._pool is None:
            self._start()
        if self._warm != self._setup:
            self._warm_up()

    def _end(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        """End the Pool, its children first: what they run can take long, and ``terminate`` waits for them."""
        pool, self._pool = self._pool, None
        self._jobs.clear()
        self._failed.clear()
        self._results = queue.SimpleQueue()
        if pool is not None:
            _terminate(pool, self._children)

    def _start(self) -> None:
        self._warm = ""
        self._children.complete = False
        try:
            self._pool = multiprocessing.pool.Pool(
                self.n_workers, maxtasksperchild=self._maxtasksperchild, context=self._children.context
            )
        except BaseException:
            self._children.end()
            raise
        self._children.complete = self._children.method == "fork"  # the Pool's own threads run from now on

    def _warm_up(self) -> None:
        """One task for each worker, which holds on to it until all have one."""
        assert self._pool is not None
        token = self._runs = self._runs + 1
        answers = [self._pool.apply_async(_warm, (self._setup, self.n_workers, token)) for _ in range(self.n_workers)]
        deadline = perf_counter() + _START_LIMIT
        for answer in answers:
            while not answer.ready():
                answer.wait(_POLL)
                self._look_for_deaths()
                if perf_counter() > deadline:
                    raise BackendError(f"{self.name}: the workers did not come up within {_START_LIMIT:g} s")
            found = answer.get()
            if isinstance(found, str):
                raise BackendError(f"{self.name}: a worker could not be set up: {found}")
            self._threads = found
        self._warm = self._setup

    # ---- the executor

    def has_room(self, n_ready: int) -> bool:
        return len(self._jobs) < 2 * self.n_workers  # the queue is one for all: what waits goes to who is free

    def submit(self, job: loop.Job) -> None:
        given = order(job.segment, job.inputs)
        if isinstance(given, Failure):
            self._failed.append(loop.Finished(job, SegmentResult(failure=given)))
            return
        assert self._pool is not None
        data, number, results = to_bytes(given), job.segment.number, self._results
        self._jobs[number] = (job, len(data))

        def back(result: Any) -> None:
            results.put((number, result, perf_counter_ns()))

        self._pool.apply_async(_run, (_Stamp(), self._setup, data), callback=back, error_callback=back)

    def wait(self) -> Sequence[loop.Finished]:
        finished, self._failed = self._failed, []
        with contextlib.suppress(queue.Empty):
            if not finished:
                finished.append(self._take(*self._results.get(timeout=_POLL)))
            while True:
                finished.append(self._take(*self._results.get_nowait()))
        if perf_counter() - self._looked > _POLL / 2:
            self._looked = perf_counter()
            self._look_for_deaths()
            finished.extend(self._stop_late())
        return finished

    def notes(self) -> Mapping[str, Any]:
        return {**super().notes(), "maxtasksperchild": self._maxtasksperchild}

    # ---- supervision

    def _take(self, number: int, result: Any, heard: int) -> loop.Finished:
        job, bytes_in = self._jobs.pop(number)
        if isinstance(result, BaseException):
            raise BackendError(f"{self.name}: the pool failed: {describe(result)}") from result
        completion: SegmentResult = pickle.loads(result)
        if len(result) > PIPE:  # the worker wrote until we had read
            completion.around = completion.around._replace(sent=heard)
        self._heard[completion.worker] = heard
        return loop.Finished(job, completion, bytes_in=bytes_in, bytes_sent=len(result))

    def _look_for_deaths(self) -> None:
        """Raise if a worker ended that should not have."""
        for child in self._children.known():
            # what a task forked may hold the file that would tell of its end, and a task may have closed it
            if not wait([child.sentinel], timeout=0) and child.exitcode is None:
                continue
            ended = bury(child)
            number, position, _ = self._children.slots.read(child.birth.slot)
            running = position >= 0
            self._children.forget(child)
            if ended == "exit code 0" and not running:
                continue  # maxtasksperchild
            inner = self._jobs[number][0].segment.tasks[position] if running and number in self._jobs else None
            lost = loop.Lost(f"worker {child.name} (pid {child.pid})", ended, inner)
            message = f"{lost.message()}; back end 'processes' goes on after that"
            raise WorkerLost(message, inner.name if inner is not None else "")

    def _stop_late(self) -> list[loop.Finished]:
        """If a task runs too long: start a new Pool, hand that task back as failed and the others to be run again."""
        now = perf_counter_ns()
        for number, (job, _) in self._jobs.items():
            for child in self._children.living():
                inner = self._children.slots.late(child.birth.slot, job.segment, now)
                if inner is not None:
                    failed = loop.Finished(job, SegmentResult(failure=Failure.late(inner), worker=child.name))
                    others = [self._interrupted(other) for n, (other, _) in self._jobs.items() if n != number]
                    last = {other.name: self._heard.get(other.name, now) for other in self._children.living()}
                    self.abandon()
                    self._start()
                    self._gaps += [(name, since, perf_counter_ns()) for name, since in last.items()]
                    return [failed, *others]
        return []

    def _interrupted(self, job: loop.Job) -> loop.Finished:
        """A job that a new Pool is to run again; one that must not be run twice is lost, if it runs."""
        for child in self._children.living() if not job.segment.pure else ():
            number, position, start = self._children.slots.read(child.birth.slot)
            if number == job.segment.number and start:
                inner = job.segment.tasks[max(position, 0)]
                worker = f"worker {child.name} (pid {child.pid})"
                return loop.Finished(job, lost=loop.Lost(worker, "the timeout of another task", inner))
        return loop.Finished(job, blame=False)


def _terminate(pool: multiprocessing.pool.Pool, children: Children) -> None:
    """End a Pool: kill its workers, the ones it still starts as well, while ``terminate`` runs in a thread.

    A killed worker may have held a lock of the Pool's queues, which ``terminate`` then waits for: once no worker lives,
    whoever holds it is dead, and we release it.
    """
    ending = threading.Thread(target=pool.terminate, name="pool-end", daemon=True)
    ending.start()
    deadline = perf_counter() + _END_LIMIT
    while ending.is_alive() and perf_counter() < deadline:
        for child in children.living():
            kill(child)
        ending.join(0.01)
        if not children.living():
            _release(getattr(getattr(pool, "_inqueue", None), "_rlock", None))
            _release(getattr(getattr(pool, "_outqueue", None), "_wlock", None))
    children.end()


def _release(lock: Any) -> None:
    if lock is not None:
        lock.acquire(block=False)
        with contextlib.suppress(ValueError):  # released in the meantime
            lock.release()


def _warm(setup: str, n_workers: int, token: int) -> Mapping[str, int] | str:
    try:
        threads = set_up(setup)
    except Exception as error:  # noqa: BLE001 - it is raised in the parent
        return describe(error)
    meet(n_workers, token)
    return threads


class _Stamp:
    """An argument that arrives as the moment when the Pool's thread began to pickle the call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (perf_counter_ns(),)


_ended = 0  # when this worker's last call returned


def _run(pickled: int, setup: str, data: bytes) -> bytes:
    global _ended
    set_up(setup)
    given: SegmentMessage = pickle.loads(data)
    # it read from the pipe since there was something in it and it had nothing else to do
    received, loaded = max(pickled, _ended), perf_counter_ns()
    completion = run_order(given)
    completion.worker = multiprocessing.current_process().name
    completion.around = completion.around._replace(received=received, loaded=loaded)
    answer = to_bytes(completion)
    idle()
    _ended = perf_counter_ns()
    return answer
