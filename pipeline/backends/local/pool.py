"""``multiprocessing.Pool``, as users would write it, but supervised."""

from __future__ import annotations

import contextlib
import multiprocessing.pool
import os
import pickle
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from time import perf_counter, perf_counter_ns
from typing import Any, ClassVar

from pipeline.backends.base import Capabilities
from pipeline.backends.local.child_main import set_idle, set_up, wait_for_others
from pipeline.backends.local.child_processes import Children, count_cores, ended_stopped, kill, reap
from pipeline.backends.local.executor import Finished, Job, LostWorker
from pipeline.backends.local.messages import SegmentMessage, run_message, to_message
from pipeline.backends.local.pool_dispatch import AllAtOnce, Answer, Arrival, Call, Dispatch, OneByOne, Stream
from pipeline.backends.local.process_backend import ProcessBackend
from pipeline.backends.local.serialization import PIPE, to_bytes
from pipeline.errors import BackendError, ConfigError, WorkerLost
from pipeline.graph.segments import Failure, SegmentTask
from pipeline.worker.segment_result import SegmentResult
from pipeline.worker.tracebacks import describe

__all__ = ["Pool"]

_POLL = 0.05  # seconds between two checks of the workers
_LOOK_EVERY = 0.5  # seconds between two looks for workers that are stopped
_END_LIMIT = 5.0  # seconds for the Pool to end; after that its threads, which are daemons, are left running
_CLOSE_LIMIT = 2.0  # seconds for idle workers to end by themselves
_START_LIMIT = 120.0  # seconds for the workers to start
_MOST_STARTS = 3  # of a Pool of which a worker ends while it starts


class Pool(ProcessBackend):
    """A supervised ``multiprocessing.Pool``.

    By itself a Pool hangs for ever when a worker is killed, when a task calls ``sys.exit``, or when a result or an
    exception can't be unpickled. Therefore only bytes pass through it, every exception is caught in the worker, and
    while no result comes the processes and their status slots are checked.

    A Pool whose worker has died can't be used further, since the worker may have held a lock of its queues: the run
    ends with :class:`pipeline.errors.WorkerLost`, and the next run starts a new Pool. A task that exceeds its timeout
    costs the Pool as well, but there it is known what was running, and the segments are run again.

    Segments are handed to it by its methods, and their results handed on as these give them:

    ============================  ========================  ============================================================
    ``chunksize``, ``ordered``    method                    a result is handed on
    ============================  ========================  ============================================================
    neither                       ``apply_async``           when its segment has returned
    ``chunksize: n``              ``map_async``, or         with those of all segments of its step that were ready at
                                  ``starmap_async`` [1]_    the same time, when the last of them has returned
    ``ordered: false``            ``imap_unordered``        when its chunk has returned
    ``ordered: true``             ``imap``                  when its chunk and all that were begun before have returned
    ============================  ========================  ============================================================

    A chunk is ``chunksize`` segments, 1 unless said, that go to a worker together and are lost together. The results
    are the same by all of them; what differs is when a segment that needs one can begin. ``map``, ``starmap`` and
    ``apply`` are the async forms and a wait, which would keep this process from looking after the workers. The Pool
    ends by ``close`` and ``join`` where it has nothing to do, else by ``terminate`` with its workers killed.

    .. [1] Of a step with several ``over`` keys.

    Parameters
    ----------
    workers : number of processes; None: one for each core that this process may use
    modules : the user's own modules, besides those of the graph
    start_method : spawn, forkserver or fork; fork is refused while other threads run
    maxtasksperchild : segments, or chunks of them, after which a process is replaced, as in ``multiprocessing.Pool``
    chunksize : segments that go to a worker in one message; they are lost together
    ordered : whether results are handed on in the order in which their segments were begun; None: see above
    blas_threads : threads of BLAS, OpenMP and Arrow in each process
    transport : how values go from worker to worker: pickle, shared-memory, or auto, which takes what is faster here for
        a value of this size
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
        chunksize: int | None = None,
        ordered: bool | None = None,
        blas_threads: int = 1,
        transport: str = "pickle",
    ) -> None:
        if start_method == "fork" and maxtasksperchild is not None:
            raise ConfigError(
                "maxtasksperchild: with start_method 'fork', Pool forks while its threads run; use 'spawn'"
            )
        for name, number in (("maxtasksperchild", maxtasksperchild), ("chunksize", chunksize)):
            if number is not None and (type(number) is not int or number < 1):
                raise ConfigError(f"{name}: got {number!r}; write a whole number >= 1")
        if ordered is not None and type(ordered) is not bool:
            raise ConfigError(f"ordered: got {ordered!r}; allowed: true, false")
        slots = 4 * (workers or count_cores()) + 32
        super().__init__(workers, modules, start_method, blas_threads, transport=transport, slots=slots)
        self._maxtasksperchild = maxtasksperchild
        self._chunksize, self._ordered = chunksize, ordered
        self._pool: multiprocessing.pool.Pool | None = None
        self._warm = ""  # the set-up file that the workers have read
        self._dispatch: Dispatch | None = None
        self._jobs: dict[int, tuple[Job, int]] = {}  # in flight, with the bytes sent
        self._n_bytes = 0  # of all of them
        self._unsent: list[Finished] = []  # jobs that could not be pickled
        self._checked = self._stops_checked = 0.0  # when the workers were checked
        self._n_warm_ups = 0
        self._heard: dict[str, int] = {}  # worker -> when its last result arrived

    # ---- start and end

    def _get_ready(self) -> None:
        self._heard.clear()
        for i in range(_MOST_STARTS):
            try:
                if self._pool is None:
                    self._start()
                if self._warm != self._setup:
                    self._close_dispatch()
                    self._warm_up()
                self._open_dispatch()
                return
            except WorkerLost as lost:  # killed from outside, for it runs no task yet
                self.abandon()
                if i == _MOST_STARTS - 1:
                    raise BackendError(
                        f"{self.name}: the workers did not start, {_MOST_STARTS} times: {lost}"
                    ) from lost

    def _end(self) -> None:
        if self._pool is not None and not self._jobs:
            self._close_dispatch()
            self._children.end_below()
            _close(self._pool)
        self.abandon()

    def abandon(self) -> None:
        """End the Pool, its children first: ``terminate`` waits for what they run, which can take long."""
        pool, self._pool = self._pool, None
        self._close_dispatch()
        self._jobs.clear()
        self._n_bytes = 0
        self._unsent.clear()
        if pool is not None:
            _terminate(pool, self._children)

    def _start(self) -> None:
        self._warm = ""
        self._children.complete = False
        try:
            self._pool = multiprocessing.pool.Pool(
                self.n_workers, maxtasksperchild=self._maxtasksperchild, context=self._children.context
            )
        except OSError as error:
            self._children.end()
            raise BackendError(
                f"{self.name}: a multiprocessing.Pool can't be made: {error}. Its locks are files in /dev/shm; "
                "--backend processes works without"
            ) from error
        except BaseException:
            self._children.end()
            raise
        self._children.complete = self._children.method == "fork"  # the Pool's own threads run from now on

    def _open_dispatch(self) -> None:
        """Choose the method of the Pool for the run that begins."""
        if self._dispatch is not None:
            return
        assert self._pool is not None
        how = (self._pool, _run, self.n_workers, self._chunksize or 1)
        if self._ordered is not None:
            self._dispatch = Stream(*how, ordered=self._ordered)
        else:
            self._dispatch = (OneByOne if self._chunksize is None else AllAtOnce)(*how)

    def _close_dispatch(self) -> None:
        if self._dispatch is not None:
            self._dispatch.close()
            self._dispatch = None

    def _warm_up(self) -> None:
        """Have each worker read the set-up file, by one call for each, which returns when all workers have one."""
        assert self._pool is not None
        token = self._n_warm_ups = self._n_warm_ups + 1
        answers = [self._pool.apply_async(_warm, (self._setup, self.n_workers, token)) for _ in range(self.n_workers)]
        deadline = perf_counter() + _START_LIMIT
        for answer in answers:
            while not answer.ready():
                answer.wait(_POLL)
                self._check_workers()
                if perf_counter() > deadline:
                    raise BackendError(f"{self.name}: the workers did not start within {_START_LIMIT:g} s")
            threads = answer.get()
            if isinstance(threads, str):
                raise BackendError(f"{self.name}: a worker could not be set up: {threads}")
            self._threads = threads
        self._warm = self._setup

    # ---- the executor

    def has_room(self, n_ready: int) -> bool:
        return self._dispatch is None or self._dispatch.has_room(len(self._jobs), self._n_bytes)

    def submit(self, job: Job) -> None:
        self._forget_finished(job)
        message = to_message(job.segment, job.inputs, self._finished_path(job))
        if isinstance(message, Failure):
            self._unsent.append(Finished(job, SegmentResult(failure=message)))
            return
        assert self._dispatch is not None
        data, number = to_bytes(message), job.segment.number
        self._jobs[number] = (job, len(data))
        self._n_bytes += len(data)
        self._dispatch.add(Call.of(number, self._setup, data), job.segment)

    def wait(self) -> Sequence[Finished]:
        assert self._dispatch is not None
        finished, self._unsent = self._unsent, []
        self._dispatch.flush()
        finished += self._come(0.0 if finished else _POLL)
        if perf_counter() - self._checked > _POLL / 2:
            self._checked = perf_counter()
            finished.extend(self._stop_overdue())  # first: a worker may be stopped while it runs such a task
            self._check_workers()
        return finished

    def notes(self) -> Mapping[str, Any]:
        options = {"chunksize": self._chunksize, "ordered": self._ordered, "maxtasksperchild": self._maxtasksperchild}
        return {**super().notes(), **options, "method": self._dispatch.method if self._dispatch is not None else ""}

    # ---- supervision

    def _come(self, timeout: float) -> list[Finished]:
        """Return the jobs whose results have come, up to ``timeout`` seconds later if there are none."""
        assert self._dispatch is not None
        try:
            answers = self._dispatch.answers(timeout)
        except Exception as error:
            raise BackendError(f"{self.name}: the pool failed: {describe(error)}") from error
        return [self._take(answer) for answer in answers]

    def _take(self, answer: Answer) -> Finished:
        job, bytes_in = self._jobs.pop(answer.number)
        self._n_bytes -= bytes_in
        result: SegmentResult = self._arrived(pickle.loads(answer.data))
        # the worker wrote until it had been read; the results of a chunk are sent together
        if len(answer.data) > PIPE or self._chunksize is not None:
            result.times = result.times._replace(sent=answer.arrived)
        self._heard[result.worker] = answer.arrived
        self._forget_finished(job)
        return Finished(job, result, bytes_in=bytes_in, bytes_sent=len(answer.data))

    def _check_workers(self) -> None:
        """Raise if a worker has ended that should not have, or is stopped: it may hold the lock of the Pool's queue."""
        self._check_stopped()
        for child in self._children.started():
            # the sentinel may not tell: a process that a task forked can hold it open, and a task can have closed it
            if not wait([child.sentinel], timeout=0) and child.exitcode is None:
                continue
            ended = reap(child)
            number, position, _ = self._children.slots.read(child.config.slot)
            was_running = position >= 0
            self._children.forget(child)
            if ended == "exit code 0" and not was_running:
                continue  # maxtasksperchild
            task = self._jobs[number][0].segment.tasks[position] if was_running and number in self._jobs else None
            raise _lost(child, ended, task)

    def _check_stopped(self) -> None:
        if perf_counter() - self._stops_checked < _LOOK_EVERY:
            return
        self._stops_checked = perf_counter()
        children = {child.pid: child for child in self._children.living()}
        for pid, seconds in self._stopped.look(children).items():
            if seconds > self._patience:
                number, position, _ = self._children.slots.read(children[pid].config.slot)
                segment = self._jobs[number][0].segment if position >= 0 and number in self._jobs else None
                task = segment.tasks[position] if segment is not None else None
                raise _lost(children[pid], ended_stopped(seconds), task)

    def _stop_overdue(self) -> list[Finished]:
        """If a task exceeds its timeout, start a new Pool; return that job as failed and the others to run again."""
        now = perf_counter_ns()
        for number, (job, _) in self._jobs.items():
            for child in self._children.living():
                task = self._children.slots.overdue(child.config.slot, job.segment, now)
                if task is not None:
                    come = self._come(0.0)  # it is not run again
                    if number not in self._jobs:
                        return come
                    jobs = dict(self._jobs)
                    heard = {other.name: self._heard.get(other.name, now) for other in self._children.living()}
                    lost = {n: self._interrupted(other) for n, (other, _) in jobs.items() if n != number}
                    self.abandon()
                    self._start()
                    self._open_dispatch()
                    self._gaps += [(name, since, perf_counter_ns()) for name, since in heard.items()]
                    failed = Finished(job, SegmentResult(failure=Failure.late(task), worker=child.name))
                    ended = [failed, *lost.values()]
                    ended = [replace(one, kept=self._finished_items(one.job)) for one in ended]
                    self._sweep_values()
                    return come + ended
        return []

    def _interrupted(self, job: Job) -> Finished:
        """Return a job that a new Pool is to run again, as lost if it has begun and must not run twice."""
        if job.segment.pure or not os.path.exists(self._finished_path(job)):
            return Finished(job, blame=False)
        segment, worker, task = job.segment, "its worker", job.segment.tasks[0]
        for child in self._children.living():
            number, position, _ = self._children.slots.read(child.config.slot)
            if number == segment.number:
                worker, task = f"worker {child.name} (pid {child.pid})", segment.tasks[max(position, 0)]
        return Finished(job, lost=LostWorker(worker, "the timeout of another task", task))


def _lost(child: BaseProcess, ended: str, task: SegmentTask | None) -> WorkerLost:
    message = LostWorker(f"worker {child.name} (pid {child.pid})", ended, task).message()
    message += "; back end 'processes' goes on after that" if task is not None else ""
    return WorkerLost(message, task.name if task is not None else "")


def _close(pool: multiprocessing.pool.Pool) -> None:
    """End a Pool that has nothing to do by ``close`` and ``join``; give up if a worker does not end."""
    pool.close()
    closing = threading.Thread(target=pool.join, name="pool-close", daemon=True)
    closing.start()
    closing.join(_CLOSE_LIMIT)


def _terminate(pool: multiprocessing.pool.Pool, children: Children) -> None:
    """End a Pool: kill its workers, also those that it still starts, while ``terminate`` runs in a thread.

    A killed worker may have held a lock of the Pool's queues, for which ``terminate`` then waits. Once no worker lives,
    the holder of the lock is dead, and the lock is released here.
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


# ---------------------------------------------------------------------------------------------------------------------
# In the worker
# ---------------------------------------------------------------------------------------------------------------------


def _warm(setup: str, n_workers: int, token: int) -> Mapping[str, int] | str:
    try:
        threads = set_up(setup)
    except Exception as error:  # noqa: BLE001 - raised in the parent
        return describe(error)
    wait_for_others(n_workers, token)
    return threads


_returned = 0  # when the last call in this worker returned


def _run(number: int, pickled: int, setup: str, data: bytes) -> Answer:
    global _returned
    set_up(setup)
    message: SegmentMessage = pickle.loads(data)
    # receiving began when there was a message in the pipe and the worker had nothing else to do
    received, loaded = max(pickled, _returned), perf_counter_ns()
    result = run_message(message)
    result.worker = multiprocessing.current_process().name
    result.times = result.times._replace(received=received, loaded=loaded)
    answer = Answer(number, to_bytes(result), Arrival())
    set_idle()
    _returned = perf_counter_ns()
    return answer
