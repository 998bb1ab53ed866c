"""Persistent worker processes, each with its own pipe: the robust choice on one machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import selectors
from collections import deque
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from time import perf_counter, perf_counter_ns
from typing import Any, ClassVar

from pipeline.backends.base import Capabilities
from pipeline.backends.local.child_main import set_idle, set_up
from pipeline.backends.local.child_processes import count_cores, kill, reap
from pipeline.backends.local.executor import Finished, Job, LostWorker
from pipeline.backends.local.messages import SegmentMessage, run_message, to_message
from pipeline.backends.local.process_backend import ProcessBackend
from pipeline.backends.local.serialization import PIPE, dump, receive, send
from pipeline.errors import BackendError
from pipeline.graph.segments import Failure, SegmentTask
from pipeline.worker.output_buffer import Emit, Line
from pipeline.worker.segment_result import SegmentResult
from pipeline.worker.tracebacks import describe

__all__ = ["Processes"]

_AHEAD = 16_384  # bytes that a pipe certainly takes while nobody reads
_SHORT = 0.01  # seconds up to which a segment is short
_POLL = 0.05  # seconds between two checks of the tasks that have a timeout
_CHECK_EVERY = 1.0  # seconds between two checks of the workers
_MOST_DEATHS = 3  # workers that end in a row while they start
_END_LIMIT = 2.0  # seconds for idle workers to end by themselves


class _Worker:
    """One worker: its process, its pipe, and the jobs that were sent to it, the first of which it runs.

    States: no process -> starting -> asked for a set-up -> ready -> running; lost when the process ended, until the
    one that replaces it is ready.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: Any = None
        self.connection: Connection | None = None
        self.jobs: deque[tuple[Job, int]] = deque()  # with the bytes sent
        self.ready = ""  # the set-up file that it has read
        self.asked = ""  # the set-up file that it was sent
        self.seconds = 1.0  # mean time of its segments, the latest weighted most
        self.heard = 0  # when its last message arrived, by perf_counter_ns
        self.lost = False

    @property
    def label(self) -> str:
        return f"worker {self.name} (pid {self.process.pid})"


class Processes(ProcessBackend):
    """Worker processes that go on after one of them was killed.

    The values are in this process, pickled. So a killed worker costs only what it was running: its segments are run
    again, and another worker is started.

    Parameters
    ----------
    workers : number of processes; None: one for each core that this process may use
    modules : the user's own modules, besides those of the graph
    start_method : spawn, forkserver or fork; fork is refused while other threads run
    blas_threads : threads of BLAS, OpenMP and Arrow in each process
    transport : how values go from worker to worker: pickle, shared-memory, or auto, which takes what is faster here for
        a value of this size
    """

    # No pipe can deadlock, though there is no thread. A large message is sent only to a worker that has nothing to do,
    # and so is reading or about to read. A worker that runs something is sent at most one more segment, which is small
    # enough for the pipe to take it whole. A worker may write its result at any time: this process reads whenever it
    # does not write, and what it writes is read by a worker that does not write.
    #
    # The one segment more hides the time of the messages when segments are short. A long segment must not hold up
    # another, so only a worker whose latest segments were short gets one more, and only while there are enough for all.

    name: ClassVar[str] = "processes"
    capabilities: ClassVar[Capabilities] = Capabilities(
        isolates_tasks=True, pickles_results=True, can_stop_tasks=True, recovers_workers=True
    )
    start_limit = 120.0  # seconds for the workers to start

    def __init__(
        self,
        *,
        workers: int | None = None,
        modules: Mapping[str, bytes] | None = None,
        start_method: str = "spawn",
        blas_threads: int = 1,
        transport: str = "pickle",
    ) -> None:
        slots = 2 * (workers or count_cores())
        super().__init__(workers, modules, start_method, blas_threads, transport=transport, slots=slots)
        self._workers = [_Worker(f"processes-{i}") for i in range(self.n_workers)]
        self._selector: selectors.BaseSelector | None = None
        self._deaths = 0  # workers that ended in a row while they started
        self._held: tuple[Job, bytes, list[memoryview]] | None = None  # a job for the first free worker
        self._finished: list[Finished] = []
        self._timeouts_checked = 0.0
        self._workers_checked = 0.0

    # ---- start and end

    def _start(self) -> None:
        self._selector = selectors.DefaultSelector()
        for worker in self._workers:
            self._begin(worker)

    def _get_ready(self) -> None:
        began = perf_counter()
        for worker in self._workers:
            worker.lost = False
            if worker.process is None:
                self._begin(worker)
            self._ask(worker)
        while any(worker.ready != self._setup for worker in self._workers):
            if perf_counter() - began > self.start_limit:
                raise BackendError(f"{self.name}: the workers did not start within {self.start_limit:g} s")
            self._listen(1.0)

    def _end(self) -> None:
        for worker in self._workers:
            if worker.process is None:
                continue
            if worker.jobs or not worker.ready:
                kill(worker.process)
            if worker.connection is not None:
                self._close_pipe(worker)  # an idle worker ends when its pipe is closed
        deadline = perf_counter() + _END_LIMIT
        for worker in self._workers:
            if worker.process is not None:
                wait([worker.process.sentinel], max(0.0, deadline - perf_counter()))
                kill(worker.process)  # with what its tasks have forked
                self._forget(worker)
        if self._selector is not None:
            self._selector.close()
            self._selector = None

    def abandon(self) -> None:
        self._finished.clear()
        self._held = None
        for worker in self._workers:
            if worker.jobs and worker.process is not None:
                kill(worker.process)
                worker.jobs.clear()
                self._forget(worker)
        self._clear_values()

    # ---- the executor

    def has_room(self, n_ready: int) -> bool:
        if self._held is not None:
            return False
        return any(self._is_free(worker) for worker in self._workers) or any(
            self._may_queue(worker, n_ready) for worker in self._workers
        )

    def submit(self, job: Job) -> None:
        self._forget_finished(job)
        message = to_message(job.segment, job.inputs, self._finished_path(job))
        if isinstance(message, Failure):
            self._finished.append(Finished(job, SegmentResult(failure=message)))
            return
        self._hand_out(job, message)

    def _hand_out(self, job: Job, message: SegmentMessage) -> None:
        """Send a job to a worker, or keep it for the first that is free."""
        head, buffers = dump(("run", message))
        free = next((worker for worker in self._workers if self._is_free(worker)), None)
        if free is not None:
            self._send(free, job, head, buffers)
            return
        short = [worker for worker in self._workers if self._may_queue(worker, self.n_workers + 1)]
        if short and not buffers and len(head) <= _AHEAD:
            self._send(min(short, key=lambda worker: worker.seconds), job, head, buffers)
        else:
            self._held = (job, head, buffers)

    def wait(self) -> Sequence[Finished]:
        timed = [worker for worker in self._workers if worker.jobs and _has_timeout(worker.jobs[0][0])]
        if not self._finished:
            self._listen(_POLL if timed else _CHECK_EVERY)
        if timed and perf_counter() - self._timeouts_checked > _POLL / 2:
            self._timeouts_checked = perf_counter()
            for worker in timed:
                self._stop_if_overdue(worker)
        if self._held is not None:
            free = next((worker for worker in self._workers if self._is_free(worker)), None)
            if free is not None:
                held, self._held = self._held, None
                self._send(free, *held)
        finished, self._finished = self._finished, []
        return finished

    def notes(self) -> Mapping[str, Any]:
        lost = [(worker.name, worker.heard, perf_counter_ns()) for worker in self._workers if worker.lost]
        return {**super().notes(), "gaps": [*self._gaps, *lost]}

    # ---- workers

    def _is_free(self, worker: _Worker) -> bool:
        return worker.process is not None and worker.ready == self._setup and not worker.jobs

    def _may_queue(self, worker: _Worker, n_ready: int) -> bool:
        return (
            n_ready > self.n_workers
            and worker.process is not None
            and len(worker.jobs) == 1
            and worker.seconds < _SHORT
            and not _has_timeout(worker.jobs[0][0])
        )

    def _begin(self, worker: _Worker) -> None:
        assert self._selector is not None
        ours, theirs = self._children.context.Pipe()
        try:
            process = self._children.process(target=_work, args=(theirs, worker.name), name=worker.name, daemon=True)
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker.process, worker.connection = process, ours
        worker.ready, worker.asked, worker.seconds = "", "", 1.0
        self._selector.register(ours, selectors.EVENT_READ, (worker, process, False))
        self._selector.register(process.sentinel, selectors.EVENT_READ, (worker, process, True))

    def _ask(self, worker: _Worker) -> None:
        """Send a worker the set-up file, unless it has it; it answers when it is ready."""
        if worker.asked != self._setup and worker.connection is not None:
            worker.asked = self._setup
            with contextlib.suppress(OSError):  # it has ended, and will be found by its sentinel
                send(worker.connection, *dump(("set up", self._setup)))

    def _send(self, worker: _Worker, job: Job, head: bytes, buffers: list[memoryview]) -> None:
        assert worker.connection is not None
        worker.jobs.append((job, len(head) + sum(buffer.nbytes for buffer in buffers)))
        with contextlib.suppress(OSError):  # it has ended, and will be found by its sentinel
            send(worker.connection, head, buffers)

    def _listen(self, timeout: float | None) -> None:
        """Wait until a worker sends a message or ends; handle what has happened."""
        assert self._selector is not None
        events = self._selector.select(timeout)
        for entry, _ in events:
            worker, process, is_sentinel = entry.data
            if process is worker.process and (is_sentinel or not self._take_message(worker)):
                self._lose(worker)
        # a process that a task has forked may hold the pipe and the sentinel of its worker open
        if perf_counter() - self._workers_checked > _CHECK_EVERY:
            self._workers_checked = perf_counter()
            self._check_processes(self._workers, self._lose)

    def _take_message(self, worker: _Worker) -> bool:
        """Handle one message; False if the worker has ended."""
        assert worker.connection is not None
        try:
            (kind, *content), size = receive(worker.connection)
        except (EOFError, OSError):
            return False
        last_heard, worker.heard = worker.heard, perf_counter_ns()
        if kind == "broken":
            raise BackendError(f"{worker.label} could not be set up: {content[0]}")
        if kind == "ready":
            worker.ready, self._threads = content
            self._deaths = 0
            if worker.lost:
                self._gaps.append((worker.name, last_heard, worker.heard))
                worker.lost = False
            return True
        if kind == "output":
            worker.jobs[0][0].emit(worker.name, content[0])
            return True
        result: SegmentResult = self._arrived(content[0])
        job, bytes_in = worker.jobs.popleft()
        self._forget_finished(job)
        if result.timings:
            seconds = (result.timings[-1].stop - result.timings[0].start) / 1e9
            worker.seconds = seconds if seconds > _SHORT else (worker.seconds + seconds) / 2
        if size > PIPE:  # the worker wrote until it had been read
            result.times = result.times._replace(sent=worker.heard)
        self._finished.append(Finished(job, result, bytes_in=bytes_in, bytes_sent=size))
        return True

    def _lose(self, worker: _Worker, overdue: Failure | None = None, ended: str = "") -> None:
        """Handle the end of a worker: read what it had finished, hand back its other jobs, start another.

        Parameters
        ----------
        overdue : the failure of the task that it was ended for
        ended : how it ended, where that is known
        """
        found = reap(worker.process)
        ended = ended or found
        while worker.connection is not None and worker.connection.poll() and self._take_message(worker):
            pass
        lost = LostWorker(worker.label, ended, self._running(worker))
        jobs = [job for job, _ in worker.jobs]
        starting = not worker.ready
        worker.jobs.clear()
        self._forget(worker)
        worker.lost = True
        for i, job in enumerate(jobs):
            kept = self._finished_items(job)
            if overdue is not None and i == 0:
                self._finished.append(Finished(job, SegmentResult(failure=overdue, worker=worker.name), kept=kept))
            else:
                self._finished.append(Finished(job, lost=lost, blame=i == 0, kept=kept))
        self._sweep_values()
        if starting:
            self._deaths += 1
            if self._deaths >= _MOST_DEATHS:
                before = f"so did {_MOST_DEATHS - 1} before it"
                raise BackendError(f"{lost.worker} ended by {lost.ended_by} while it started; {before}")
        self._begin(worker)
        self._ask(worker)

    def _running(self, worker: _Worker) -> SegmentTask | None:
        """Return the task that a worker runs, or ran when it ended."""
        if not worker.jobs:
            return None
        segment = worker.jobs[0][0].segment
        number, position, _ = self._children.slots.read(worker.process.config.slot)
        return segment.tasks[max(position, 0) if number == segment.number else 0]

    def _stop_if_overdue(self, worker: _Worker) -> None:
        if not worker.jobs or worker.connection is None:
            return
        segment = worker.jobs[0][0].segment
        task = self._children.slots.overdue(worker.process.config.slot, segment, perf_counter_ns())
        if task is not None and not worker.connection.poll():
            kill(worker.process)
            self._lose(worker, overdue=Failure.late(task))

    def _close_pipe(self, worker: _Worker) -> None:
        assert worker.connection is not None
        if self._selector is not None:
            self._selector.unregister(worker.connection)
            self._selector.unregister(worker.process.sentinel)
        worker.connection.close()
        worker.connection = None

    def _forget(self, worker: _Worker) -> None:
        if worker.connection is not None:
            self._close_pipe(worker)
        worker.process.join()
        self._children.forget(worker.process)
        worker.process.close()
        worker.process, worker.ready, worker.asked = None, "", ""


def _has_timeout(job: Job) -> bool:
    return any(task.timeout is not None for task in job.segment.tasks)


def _work(connection: Connection, name: str) -> None:
    """Handle one message after the other, until the parent closes the pipe: the main function of a worker."""
    multiprocessing.current_process().daemon = False  # only the start of processes looks at it: tasks may start some
    poll = select.poll()
    poll.register(connection, select.POLLIN)

    def emit(lines: Sequence[Line]) -> None:
        send(connection, *dump(("output", lines)))  # never while a result is sent: by then the buffer is closed

    while True:
        try:
            poll.poll()
            received = perf_counter_ns()
            (kind, content), _ = receive(connection)
        except (EOFError, OSError):
            return
        if kind == "set up":
            answer = _set_up(content)
        else:
            answer = ("done", _run(content, name, received, perf_counter_ns(), emit))
        del content
        send(connection, *dump(answer))
        set_idle()
        del answer


def _set_up(path: str) -> tuple[Any, ...]:
    try:
        return "ready", path, set_up(path)
    except Exception as error:  # noqa: BLE001 - raised in the parent
        return "broken", describe(error)


def _run(message: SegmentMessage, name: str, received: int, loaded: int, emit: Emit) -> SegmentResult:
    result = run_message(message, emit)
    result.worker = name
    result.times = result.times._replace(received=received, loaded=loaded)
    return result
