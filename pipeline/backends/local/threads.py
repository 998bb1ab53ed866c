"""Threads of this process: no copies of data, but one GIL."""

from __future__ import annotations

import contextlib
import ctypes
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, ClassVar, Self

import threadpoolctl

from pipeline.backends.base import Capabilities, Outcome
from pipeline.backends.events import Listener
from pipeline.backends.local import loop
from pipeline.backends.local.child_processes import count_cores
from pipeline.backends.local.executor import Executor, Finished, Job
from pipeline.errors import BackendError
from pipeline.graph.graph import Graph
from pipeline.worker import shared_store, subprocesses
from pipeline.worker.output_buffer import Emit, Line
from pipeline.worker.output_capture import capturing
from pipeline.worker.process_setup import folder_kept, install_modules
from pipeline.worker.run_segment import Hooks, run_segment
from pipeline.worker.segment_result import SegmentResult

__all__ = ["Threads"]

_Message = tuple[str, Job, SegmentResult | Sequence[Line]]


class Threads(Executor):
    """Threads that take jobs from one queue.

    A thread can't be stopped: a timeout is noticed when the task has returned, and leaving waits for the tasks that
    still run; at Ctrl-C only for those that are in compiled code. The programs of commands are ended.

    Parameters
    ----------
    workers : number of threads; None: one for each core that this process may use
    modules : the user's own modules, besides those of the graph
    blas_threads : threads of BLAS and OpenMP that each thread may use while it runs
    """

    name: ClassVar[str] = "threads"
    capabilities: ClassVar[Capabilities] = Capabilities(
        isolates_tasks=False, pickles_results=False, can_stop_tasks=False, recovers_workers=False
    )

    def __init__(
        self, *, workers: int | None = None, modules: Mapping[str, bytes] | None = None, blas_threads: int = 1
    ) -> None:
        self.n_workers = workers or count_cores()
        self._modules = dict(modules or {})
        self._blas_threads = blas_threads
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._in_flight = 0
        self._threads: list[threading.Thread] = []
        self._start_up = 0.0

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.abandon()

    def run(
        self, graph: Graph, *, context: Any = None, listener: Listener | None = None, keep_going: bool = False
    ) -> Outcome:
        """See :meth:`pipeline.backends.base.Backend.run`."""
        blas = threadpoolctl.threadpool_limits(self._blas_threads)
        with blas, folder_kept(), capturing(), shared_store.during():
            return loop.run(self, graph, context=context, listener=listener, keep_going=keep_going)

    def prepare(self, graph: Graph) -> float:
        install_modules({**self._modules, **graph.modules})
        self._start()
        start_up, self._start_up = self._start_up, 0.0
        return start_up

    def has_room(self, n_ready: int) -> bool:
        return self._in_flight < 2 * self.n_workers  # all share one queue: a waiting job goes to the next free thread

    def submit(self, job: Job) -> None:
        self._in_flight += 1
        self._jobs.put(job)

    def wait(self) -> Sequence[Finished]:
        if not self._in_flight:
            return []
        messages = [self._finished.get()]
        while not self._finished.empty():
            messages.append(self._finished.get())
        finished = []
        for worker, job, content in messages:
            if isinstance(content, SegmentResult):
                finished.append(Finished(job, content))
            else:
                job.emit(worker, content)
        self._in_flight -= len(finished)
        return finished

    def abandon(self) -> None:
        """Take waiting jobs off the queue, end the programs that tasks run, and wait for the threads to end.

        Ctrl-C also ends the tasks that run, each at its next instruction of Python.
        """
        with contextlib.suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)
        with subprocesses.stopping([thread.ident for thread in self._threads if thread.ident is not None]):
            interrupted = isinstance(sys.exc_info()[1], KeyboardInterrupt)
            while self._threads:
                thread = self._threads[-1]
                while interrupted and thread.is_alive():
                    _raise_in(thread)
                    thread.join(_AGAIN)
                thread.join()
                self._threads.pop()
        self._in_flight = 0

    def _start(self) -> None:
        if self._threads:
            return
        began = perf_counter()
        self._jobs, self._finished = queue.SimpleQueue(), queue.SimpleQueue()
        for i in range(self.n_workers):
            name = f"threads-{i}"
            thread = threading.Thread(target=_work, args=(name, self._jobs, self._finished), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self.abandon()
                raise BackendError(
                    f"thread {i + 1:,} of {self.n_workers:,} can't be started; use fewer workers"
                ) from error
            self._threads.append(thread)
        self._start_up += perf_counter() - began

    def notes(self) -> Mapping[str, Any]:
        return {"blas_threads": self._blas_threads}


def _emitter(name: str, job: Job, finished: queue.SimpleQueue[_Message]) -> Emit:
    return lambda lines: finished.put((name, job, lines))


class _Interrupted(BaseException):
    """Raised in a thread whose run was ended by Ctrl-C."""


_AGAIN = 0.2  # seconds after which it is raised again, since a task may have caught it


def _raise_in(thread: threading.Thread) -> None:
    """Have a thread raise :class:`_Interrupted` when it runs Python again; a long call of compiled code ends first."""
    number = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(_Interrupted))


def _work(name: str, jobs: queue.SimpleQueue[Any], finished: queue.SimpleQueue[_Message]) -> None:
    with contextlib.suppress(_Interrupted):
        while (job := jobs.get()) is not None:
            result = run_segment(job.segment, job.inputs, Hooks(emit=_emitter(name, job, finished)))
            result.worker = name
            finished.put((name, job, result))
            del job, result  # a waiting thread must not keep values alive
