"""Persistent worker processes, a pipe each, watched by their sentinels: the robust choice on one machine.

The values lie in the parent, pickled, so a killed worker costs what it was running and nothing else: its segments are
run again, and another worker is started.

**No pipe can deadlock, without a thread.** A large message goes only to a worker that has nothing to do, which
therefore is reading or about to read. While a worker runs something, it is sent at most one more segment, and that is
so small that the pipe takes it whole. A worker writes its results when it likes: the parent reads whenever it doesn't
write, and what it writes is read by a worker that doesn't write.

That one segment more hides the way there and back when segments are short; a long one must not hold up another, so it
is sent only to a worker whose last segments were short, and only while there is plenty for everybody.
"""

from __future__ import annotations

import contextlib
import select
import selectors
from collections import deque
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from time import perf_counter, perf_counter_ns
from typing import Any, ClassVar

from pipeline.backends.base import Capabilities
from pipeline.backends.local import loop
from pipeline.backends.local.child_main import idle, set_up
from pipeline.backends.local.child_processes import bury, count_cores, kill
from pipeline.backends.local.messages import SegmentMessage, order, run_order
from pipeline.backends.local.process_backend import Workers
from pipeline.backends.local.serialization import PIPE, dump, receive, send
from pipeline.errors import BackendError
from pipeline.graph.segments import Failure
from pipeline.worker.output_capture import Line, Tell
from pipeline.worker.run_segment import SegmentResult
from pipeline.worker.tracebacks import describe

__all__ = ["Processes"]

_AHEAD = 16_384  # bytes that a pipe surely takes while nobody reads
_SHORT = 0.01  # seconds of a segment that is short
_POLL = 0.05  # seconds between two looks at the tasks that may run too long
_LOOK = 1.0  # seconds between two counts of the workers
_MOST_DEATHS = 3  # workers lost one after the other while they started
_END_LIMIT = 2.0  # seconds for idle workers to end by themselves


class _Worker:
    """One worker: its process, its pipe, and the jobs it was given, the first of which it runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: Any = None
        self.connection: Connection | None = None
        self.jobs: deque[tuple[loop.Job, int]] = deque()  # with the bytes sent for it
        self.ready = ""  # the set-up it has done
        self.asked = ""  # the set-up it was told to do
        self.seconds = 1.0  # that its segments take, the last ones most
        self.heard = 0  # when its last message came, by perf_counter_ns
        self.lost = False  # the process ended, and the one in its place is not ready

    @property
    def label(self) -> str:
        return f"worker {self.name} (pid {self.process.pid})"


class Processes(Workers):
    """See the module.

    Parameters
    ----------
    workers : processes; None: a process a core that this process may use
    modules : the user's own modules, besides those of the graph
    start_method : spawn, forkserver or fork; fork is refused while other threads run
    blas_threads : threads of BLAS, OpenMP and Arrow in each
    """

    name: ClassVar[str] = "processes"
    capabilities: ClassVar[Capabilities] = Capabilities(
        isolates_tasks=True, pickles_results=True, can_stop_tasks=True, recovers_workers=True
    )
    start_limit = 120.0  # seconds after which a worker that has not come up is given up

    def __init__(
        self,
        *,
        workers: int | None = None,
        modules: Mapping[str, bytes] | None = None,
        start_method: str = "spawn",
        blas_threads: int = 1,
    ) -> None:
        super().__init__(workers, modules, start_method, blas_threads, slots=2 * (workers or count_cores()))
        self._workers = [_Worker(f"processes-{i}") for i in range(self.n_workers)]
        self._selector: selectors.BaseSelector | None = None
        self._deaths = 0  # of starting workers, in a row
        self._held: tuple[loop.Job, bytes, list[memoryview]] | None = None
        self._finished: list[loop.Finished] = []
        self._looked = 0.0  # when the tasks with a timeout were looked at last
        self._counted = 0.0  # when the workers were counted last

    # ---- the life of the back end

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
                raise BackendError(f"{self.name}: the workers did not come up within {self.start_limit:g} s")
            self._listen(1.0)

    def _end(self) -> None:
        for worker in self._workers:
            if worker.process is None:
                continue
            if worker.jobs or not worker.ready:
                kill(worker.process)
            if worker.connection is not None:
                self._unwatch(worker)  # an idle worker ends when nobody can write to it any more
        deadline = perf_counter() + _END_LIMIT
        for worker in self._workers:
            if worker.process is not None:
                wait([worker.process.sentinel], max(0.0, deadline - perf_counter()))
                kill(worker.process)  # and what its tasks have forked
                self._bury(worker)
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
                self._bury(worker)

    # ---- the executor

    def has_room(self, n_ready: int) -> bool:
        if self._held is not None:
            return False
        return any(self._is_free(worker) for worker in self._workers) or any(
            self._may_queue(worker, n_ready) for worker in self._workers
        )

    def submit(self, job: loop.Job) -> None:
        given = order(job.segment, job.inputs)
        if isinstance(given, Failure):
            self._finished.append(loop.Finished(job, SegmentResult(failure=given)))
            return
        head, buffers = dump(("run", given))
        free = next((worker for worker in self._workers if self._is_free(worker)), None)
        if free is not None:
            self._send(free, job, head, buffers)
            return
        short = [worker for worker in self._workers if self._may_queue(worker, self.n_workers + 1)]
        if short and not buffers and len(head) <= _AHEAD:
            self._send(min(short, key=lambda worker: worker.seconds), job, head, buffers)
        else:
            self._held = (job, head, buffers)  # for the first that is free

    def wait(self) -> Sequence[loop.Finished]:
        timed = [worker for worker in self._workers if worker.jobs and _has_timeout(worker.jobs[0][0])]
        if not self._finished:
            self._listen(_POLL if timed else _LOOK)
        if timed and perf_counter() - self._looked > _POLL / 2:
            self._looked = perf_counter()
            for worker in timed:
                self._stop_if_late(worker)
        if self._held is not None:
            free = next((worker for worker in self._workers if self._is_free(worker)), None)
            if free is not None:
                held, self._held = self._held, None
                self._send(free, *held)
        finished, self._finished = self._finished, []
        return finished

    def notes(self) -> Mapping[str, Any]:
        late = [(worker.name, worker.heard, perf_counter_ns()) for worker in self._workers if worker.lost]
        return {**super().notes(), "gaps": [*self._gaps, *late]}

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
        """Have a worker do the set-up; it says when it is ready."""
        if worker.asked != self._setup and worker.connection is not None:
            worker.asked = self._setup
            with contextlib.suppress(OSError):  # it is gone: its sentinel says so
                send(worker.connection, *dump(("set up", self._setup)))

    def _send(self, worker: _Worker, job: loop.Job, head: bytes, buffers: list[memoryview]) -> None:
        assert worker.connection is not None
        worker.jobs.append((job, len(head) + sum(buffer.nbytes for buffer in buffers)))
        with contextlib.suppress(OSError):  # it is gone: its sentinel says so
            send(worker.connection, head, buffers)

    def _listen(self, timeout: float | None) -> None:
        """Wait for the workers' messages and deaths, and take them in."""
        assert self._selector is not None
        events = self._selector.select(timeout)
        for entry, _ in events:
            worker, process, is_sentinel = entry.data
            if process is worker.process and (is_sentinel or not self._take_message(worker)):
                self._lose(worker)
        if perf_counter() - self._counted > _LOOK:  # what a task forked may hold the files that would tell of its end
            self._counted = perf_counter()
            for worker in self._workers:
                if worker.process is not None and worker.process.exitcode is not None:
                    self._lose(worker)

    def _take_message(self, worker: _Worker) -> bool:
        """Take in one message; False if the worker is gone."""
        assert worker.connection is not None
        try:
            (kind, *content), size = receive(worker.connection)
        except (EOFError, OSError):
            return False
        gone, worker.heard = worker.heard, perf_counter_ns()
        if kind == "broken":
            raise BackendError(f"{worker.label} could not be set up: {content[0]}")
        if kind == "ready":
            worker.ready, self._threads = content
            self._deaths = 0
            if worker.lost:
                self._gaps.append((worker.name, gone, worker.heard))
                worker.lost = False
            return True
        if kind == "said":
            worker.jobs[0][0].tell(worker.name, content[0])
            return True
        completion: SegmentResult = content[0]
        job, bytes_in = worker.jobs.popleft()
        if completion.measured:
            seconds = (completion.measured[-1].stop - completion.measured[0].start) / 1e9
            worker.seconds = seconds if seconds > _SHORT else (worker.seconds + seconds) / 2
        if size > PIPE:  # it wrote until we had read
            completion.around = completion.around._replace(sent=worker.heard)
        self._finished.append(loop.Finished(job, completion, bytes_in=bytes_in, bytes_sent=size))
        return True

    def _lose(self, worker: _Worker, late: Failure | None = None) -> None:
        """A worker ended: take in what it had finished, hand back the rest, start another."""
        ended = bury(worker.process)
        while worker.connection is not None and worker.connection.poll() and self._take_message(worker):
            pass
        lost = loop.Lost(worker.label, ended, self._running(worker))
        jobs = [job for job, _ in worker.jobs]
        starting = not worker.ready
        worker.jobs.clear()
        self._bury(worker)
        worker.lost = True
        for i, job in enumerate(jobs):
            if late is not None and i == 0:
                self._finished.append(loop.Finished(job, SegmentResult(failure=late, worker=worker.name)))
            else:
                self._finished.append(loop.Finished(job, lost=lost, blame=i == 0))
        if starting:
            self._deaths += 1
            if self._deaths >= _MOST_DEATHS:
                raise BackendError(f"{lost.worker} ended by {lost.ended} while it started; so did those before it")
        self._begin(worker)
        self._ask(worker)

    def _running(self, worker: _Worker) -> Any:
        """The task that a worker runs, or ran when it ended."""
        if not worker.jobs:
            return None
        segment = worker.jobs[0][0].segment
        number, position, _ = self._children.slots.read(worker.process.birth.slot)
        return segment.tasks[max(position, 0) if number == segment.number else 0]

    def _stop_if_late(self, worker: _Worker) -> None:
        if not worker.jobs or worker.connection is None:
            return
        segment = worker.jobs[0][0].segment
        inner = self._children.slots.late(worker.process.birth.slot, segment, perf_counter_ns())
        if inner is not None and not worker.connection.poll():
            kill(worker.process)
            self._lose(worker, late=Failure.late(inner))

    def _unwatch(self, worker: _Worker) -> None:
        assert worker.connection is not None
        if self._selector is not None:
            self._selector.unregister(worker.connection)
            self._selector.unregister(worker.process.sentinel)
        worker.connection.close()
        worker.connection = None

    def _bury(self, worker: _Worker) -> None:
        if worker.connection is not None:
            self._unwatch(worker)
        worker.process.join()
        self._children.forget(worker.process)
        worker.process.close()
        worker.process, worker.ready, worker.asked = None, "", ""


def _has_timeout(job: loop.Job) -> bool:
    return any(inner.timeout is not None for inner in job.segment.tasks)


def _work(connection: Connection, name: str) -> None:
    """What a worker does: one message after the other, until the parent closes the pipe."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)

    def tell(lines: Sequence[Line]) -> None:
        send(connection, *dump(("said", lines)))  # none is under way when the answer is sent: the speaker is closed

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
            answer = ("done", _run(content, name, received, perf_counter_ns(), tell))
        del content
        send(connection, *dump(answer))
        idle()
        del answer


def _set_up(path: str) -> tuple[Any, ...]:
    try:
        return "ready", path, set_up(path)
    except Exception as error:  # noqa: BLE001 - it is raised in the parent
        return "broken", describe(error)


def _run(given: SegmentMessage, name: str, received: int, loaded: int, tell: Tell) -> SegmentResult:
    completion = run_order(given, tell)
    completion.worker = name
    completion.around = completion.around._replace(received=received, loaded=loaded)
    return completion
