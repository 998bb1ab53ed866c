"""A new process for each segment, which puts its result into a queue: ``multiprocessing.Process`` by itself."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.queues import Queue
from time import perf_counter, perf_counter_ns
from typing import Any, ClassVar

from pipeline.backends.base import Capabilities
from pipeline.backends.local.child_processes import count_cores, kill, reap
from pipeline.backends.local.executor import Finished, Job, LostWorker
from pipeline.backends.local.messages import END_OF_QUEUE, run_alone, to_message
from pipeline.backends.local.process_backend import ProcessBackend
from pipeline.backends.local.serialization import PIPE, dump, send
from pipeline.errors import BackendError
from pipeline.graph.segments import Failure, SegmentTask
from pipeline.worker.segment_result import SegmentResult

__all__ = ["ProcessPerTask"]

_POLL = 0.05  # seconds between two looks at tasks that have a timeout, and at processes that are about to end
_CHECK_EVERY = 1.0  # seconds between two looks for processes that are stopped, or whose end was not noticed
_MOST_DEATHS = 3  # processes that end in a row while they start
_START_LIMIT = 120.0  # seconds for the first process to start
_END_LIMIT = 2.0  # seconds for a process to end after the end of its queue


class _Place:
    """A place for one process at a time.

    States: free -> starting -> running (it was sent its segment) -> ending (its queue has ended) -> free; free as well
    after its process was lost.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: Any = None
        self.queue: Queue[Any] | None = None  # what the process puts there
        self.connection: Connection | None = None  # to send it its segment by
        self.message: tuple[bytes, list[memoryview]] | None = None  # of its segment, until it is sent
        self.job: Job | None = None  # until its result has come
        self.n_sent = 0  # bytes
        self.started = False
        self.heard = 0  # when it was started or its last message came, by perf_counter_ns
        self.ending = 0.0  # since when its queue has ended, by perf_counter

    @property
    def label(self) -> str:
        return f"worker {self.name} (pid {self.process.pid})"


class ProcessPerTask(ProcessBackend):
    """A ``multiprocessing.Process`` for each segment, at most ``workers`` at a time.

    A process starts, gets ready for the graph, receives its segment, runs it, puts the result into a
    ``multiprocessing.Queue`` and after it the sentinel -1, joins the queue's thread, so that all of it is written, and
    ends. This process reads the queue before it joins the process, which would otherwise wait for ever for a reader. A
    process that ends before its result is there is lost, and its segment is run again. It ends with its process group;
    a thread that a task has left running gets two seconds.

    Starting a process is what a segment waits for here: with a server of forks, which has imported the ops of the
    graph, some 20 ms and the imports of the user's modules; with ``spawn`` the imports of all; with ``fork`` of none.

    Parameters
    ----------
    workers : number of processes at a time; None: one for each core that this process may use
    modules : the user's own modules, besides those of the graph
    start_method : spawn, forkserver or fork; fork is refused while other threads run
    blas_threads : threads of BLAS, OpenMP and Arrow in each process
    transport : how values go from process to process: pickle, shared-memory, or auto, which takes what is faster here
        for a value of this size
    """

    # Each process has a queue of its own. Rejected: one for all, as in tutorials. All writers of a queue share a lock,
    # and a process that is killed while it writes keeps it for ever: no other result would ever come. And half a result
    # in a pipe looks like the beginning of the next one. The end of a pipe that a single process writes to is
    # found by any reader, in the middle of a result, too, since this process closes its own end for writing.
    #
    # The segment goes to a process by a pipe when it is up, and not among its arguments: starting a process with large
    # arguments takes until it has read them, and here all would wait for that.

    name: ClassVar[str] = "process-per-task"
    capabilities: ClassVar[Capabilities] = Capabilities(
        isolates_tasks=True, pickles_results=True, can_stop_tasks=True, recovers_workers=True
    )

    def __init__(
        self,
        *,
        workers: int | None = None,
        modules: Mapping[str, bytes] | None = None,
        start_method: str = "forkserver",
        blas_threads: int = 1,
        transport: str = "pickle",
    ) -> None:
        slots = 2 * (workers or count_cores())
        super().__init__(workers, modules, start_method, blas_threads, transport=transport, slots=slots)
        self._places = [_Place(f"{self.name}-{i}") for i in range(self.n_workers)]
        self._deaths = 0  # processes that ended in a row while they started
        self._finished: list[Finished] = []
        self._checked = self._timeouts_checked = 0.0

    # ---- start and end

    def _start(self) -> None:
        """Start a process that runs nothing: the server of forks is then up, and what can't be started is known."""
        self._setup = ""
        place, began = self._places[0], perf_counter()
        while self._deaths < _MOST_DEATHS:
            self._begin(place)
            while place.process is not None:
                if perf_counter() - began > _START_LIMIT:
                    raise BackendError(f"{self.name}: no process started within {_START_LIMIT:g} s")
                self._listen(_POLL)
            if not self._deaths:
                return

    def _get_ready(self) -> None:
        """Nothing: each process gets ready by itself."""

    def _end(self) -> None:
        """Let those end whose results are there, by themselves."""
        deadline = perf_counter() + _END_LIMIT
        while perf_counter() < deadline and any(
            place.process is not None and place.job is None for place in self._places
        ):
            self._listen(_POLL)
        self.abandon()

    def abandon(self) -> None:
        for place in self._places:
            if place.process is not None:
                kill(place.process)
                self._free(place)
        self._children.end()  # a process that an exception has kept from its place, and what tasks have started
        self._clear_values()
        self._finished.clear()
        self._deaths = 0

    # ---- the executor

    def has_room(self, n_ready: int) -> bool:
        return any(place.process is None for place in self._places)

    def submit(self, job: Job) -> None:
        self._forget_finished(job)
        message = to_message(job.segment, job.inputs, self._finished_path(job))
        if isinstance(message, Failure):
            self._finished.append(Finished(job, SegmentResult(failure=message)))
            return
        place = next(place for place in self._places if place.process is None)
        place.job, place.message = job, dump(message)
        self._begin(place)

    def wait(self) -> Sequence[Finished]:
        if not self._finished:
            quick = any(place.ending or _has_timeout(place.job) for place in self._places)
            self._listen(_POLL if quick else _CHECK_EVERY)
        if perf_counter() - self._timeouts_checked > _POLL / 2:
            self._timeouts_checked = perf_counter()
            for place in self._places:
                self._stop_if_overdue(place)
        finished, self._finished = self._finished, []
        return finished

    # ---- processes

    def _begin(self, place: _Place) -> None:
        """Start a process in a free place, for the segment that is there, or for nothing."""
        context = self._children.context
        try:
            queue = context.Queue()
        except OSError as error:
            raise BackendError(
                f"{self.name}: a multiprocessing.Queue can't be made: {error}. Its locks are files in /dev/shm; "
                "--backend processes works without"
            ) from error
        theirs, ours = context.Pipe(duplex=False)
        try:
            args = (queue, theirs, self._setup, place.name)
            process = self._children.process(target=run_alone, args=args, name=place.name, daemon=True)
            process.start()
        except BaseException as error:
            ours.close()
            _close(queue)
            if isinstance(error, OSError):
                raise BackendError(f"{self.name}: a process can't be started: {error}") from error
            raise
        finally:
            theirs.close()
        queue._writer.close()  # type: ignore[attr-defined]  # so that the end of the process is the end of the queue
        place.process, place.queue, place.connection = process, queue, ours
        place.started, place.heard, place.ending = False, perf_counter_ns(), 0.0

    def _listen(self, timeout: float) -> None:
        """Wait until a process has put something into its queue or has ended; handle what has happened."""
        sources: dict[Any, _Place] = {}
        for place in self._places:
            if place.process is not None:
                sources[place.process.sentinel] = place
                if not place.ending:
                    sources[place.queue._reader] = place  # type: ignore[union-attr]
        for source in wait(list(sources), timeout):
            place = sources[source]
            if place.process is None:
                continue  # both are ready, and the other one came first
            if isinstance(source, int) or not self._take(place):
                self._over(place)
        for place in self._places:
            # a process that a task has forked may hold the sentinel open
            if place.ending and (place.process.exitcode is not None or perf_counter() - place.ending > _END_LIMIT):
                self._over(place)
        if perf_counter() - self._checked > _CHECK_EVERY:
            self._checked = perf_counter()
            self._check_processes(self._places, self._over)

    def _take(self, place: _Place) -> bool:
        """Handle one message of a process; False if its queue has ended without the sentinel."""
        assert place.queue is not None
        try:
            message = place.queue.get()
        except (EOFError, OSError):
            return False
        place.heard = perf_counter_ns()
        if message == END_OF_QUEUE:
            place.ending = perf_counter()
            return True
        kind, content = message
        if kind == "broken":
            raise BackendError(f"{place.label} could not be set up: {content}")
        if kind == "ready":
            place.started, self._threads, self._deaths = True, content, 0
            self._send(place)
        elif kind == "output" and place.job is not None:
            place.job.emit(place.name, content)
        elif kind == "done" and place.job is not None:
            result: SegmentResult = self._arrived(pickle.loads(content))
            if len(content) > PIPE:  # it was written until it had been read
                result.times = result.times._replace(sent=place.heard)
            job, place.job = place.job, None
            self._forget_finished(job)
            self._finished.append(Finished(job, result, bytes_in=place.n_sent, bytes_sent=len(content)))
        return True

    def _send(self, place: _Place) -> None:
        """Send a process its segment, for which it waits, or None."""
        assert place.connection is not None
        (head, buffers), place.message = place.message or dump(None), None
        place.n_sent = len(head) + sum(buffer.nbytes for buffer in buffers)
        with contextlib.suppress(OSError):  # it has ended, and will be found by its sentinel
            send(place.connection, head, buffers)
        place.connection.close()

    def _over(self, place: _Place, overdue: Failure | None = None, ended: str = "") -> None:
        """Handle the end of a process; if its result is missing, hand back its segment.

        Parameters
        ----------
        overdue : the failure of the task that it was ended for
        ended : how it ended, where that is known
        """
        if place.ending and not ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(place.process.pid, signal.SIGKILL)  # it was not joined yet: this id can't be another's
            place.process.kill()
            place.process.join()
        else:
            found = reap(place.process)
            ended = ended or found
            while place.queue is not None and place.queue._reader.poll() and self._take(place):  # type: ignore[attr-defined]
                pass  # what it had written is whole
        job, started, name, since = place.job, place.started, place.name, place.heard
        ended = ended or f"exit code {place.process.exitcode}"
        lost = LostWorker(place.label, ended, self._running(place))
        self._free(place)
        if not started:
            self._deaths += 1
            if self._deaths >= _MOST_DEATHS:
                before = f"so did {_MOST_DEATHS - 1} before it"
                raise BackendError(f"{lost.worker} ended by {ended} while it started; {before}")
        if job is None:
            return
        self._gaps.append((name, since, perf_counter_ns()))
        kept = self._finished_items(job)
        if overdue is not None:
            self._finished.append(Finished(job, SegmentResult(failure=overdue, worker=name), kept=kept))
        else:
            self._finished.append(Finished(job, lost=lost, blame=started, kept=kept))
        self._sweep_values()

    def _running(self, place: _Place) -> SegmentTask | None:
        """Return the task that a process runs, or ran when it ended."""
        if place.job is None or not place.started:
            return None
        segment = place.job.segment
        number, position, _ = self._children.slots.read(place.process.config.slot)
        return segment.tasks[max(position, 0) if number == segment.number else 0]

    def _stop_if_overdue(self, place: _Place) -> None:
        if place.job is None or place.process is None or not _has_timeout(place.job):
            return
        slot = place.process.config.slot
        task = self._children.slots.overdue(slot, place.job.segment, perf_counter_ns())
        if task is not None and not place.queue._reader.poll():  # type: ignore[union-attr]
            kill(place.process)
            self._over(place, overdue=Failure.late(task))

    def _free(self, place: _Place) -> None:
        place.process.join()
        self._children.forget(place.process)
        place.process.close()
        if place.connection is not None:
            place.connection.close()
        if place.queue is not None:
            _close(place.queue)
        place.process = place.queue = place.connection = place.message = place.job = None
        place.ending = 0.0


def _close(queue: Queue[Any]) -> None:
    queue.close()
    queue._reader.close()  # type: ignore[attr-defined]
    queue._writer.close()  # type: ignore[attr-defined]


def _has_timeout(job: Job | None) -> bool:
    return job is not None and any(task.timeout is not None for task in job.segment.tasks)
