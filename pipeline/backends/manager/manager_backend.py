"""The back end ``manager``: a multiprocessing manager in this process; its workers join it, from any machine.

It is there for comparison and for small fleets: every value goes through this process. Dask is the way to scale out.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter, perf_counter_ns
from typing import Any, ClassVar

from pipeline.backends.base import Capabilities, Outcome
from pipeline.backends.events import Listener, Note
from pipeline.backends.local.child_main import setup_of
from pipeline.backends.local.child_processes import count_cores
from pipeline.backends.local.executor import Finished, Job, LostWorker
from pipeline.backends.local.messages import to_message
from pipeline.backends.local.process_backend import ProcessBackend
from pipeline.backends.manager.authkey import read_authkey
from pipeline.backends.manager.connections import Address, to_address, to_text
from pipeline.backends.manager.fleet import TICK, Fleet, Lost
from pipeline.backends.manager.member import Done, Order, Run
from pipeline.backends.manager.queues import Message, Results, Tasks
from pipeline.backends.manager.server import Server
from pipeline.backends.stopped import patience
from pipeline.backends.versions import marker
from pipeline.errors import BackendError, ConfigError
from pipeline.graph.graph import Graph
from pipeline.graph.segments import Failure, Segment
from pipeline.worker.segment_result import SegmentResult

__all__ = ["Manager"]

_START_LIMIT = 120.0  # seconds for the workers of this machine to start
_JOIN_LIMIT = 300.0  # seconds without any worker, where others join
_STOP_LIMIT = 5.0  # seconds for jobs to be stopped, and for members to leave
_MOST_NOTES = 20  # of hosts that were refused


class Manager(ProcessBackend):
    """Workers that get jobs and put results by proxies of a multiprocessing manager's queues.

    The manager is a server in threads of this process. Without ``listen`` it starts workers of its own, which join it
    over the loopback device with a random key. With it, others join by ``pipeline worker --join``, before or during
    the run. A worker that is lost costs what it was running: its segments are run again.

    Parameters
    ----------
    workers : number of workers that this process starts; None: one for each core, or none with ``listen``
    modules : the user's own modules, besides those of the graph
    start_method : of the workers that this process starts: spawn or forkserver
    blas_threads : threads of BLAS, OpenMP and Arrow in each worker
    listen : ``HOST:PORT`` at which workers may join
    authkey_file : of the key that they must have

    Attributes
    ----------
    address : ``HOST:PORT`` while it is open
    """

    name: ClassVar[str] = "manager"
    capabilities: ClassVar[Capabilities] = Capabilities(
        isolates_tasks=True, pickles_results=True, can_stop_tasks=True, recovers_workers=True
    )

    def __init__(
        self,
        *,
        workers: int | None = None,
        modules: Mapping[str, bytes] | None = None,
        start_method: str = "spawn",
        blas_threads: int = 1,
        listen: str | None = None,
        authkey_file: str | None = None,
    ) -> None:
        if start_method == "fork":
            raise ConfigError("back end 'manager': start_method: got 'fork'; its server is threads: use spawn")
        super().__init__(workers, modules, start_method, 0, transport="pickle", slots=4)
        n_own = workers if workers is not None else 0 if listen is not None else count_cores()
        self._listen, self._authkey = _where(listen, authkey_file)
        self._joins, self._n_own = listen is not None, n_own
        self._blas_threads = blas_threads
        self.address = ""
        self._server: Server | None = None
        self._open_queues()
        self._jobs: dict[int, Job] = {}
        self._n_jobs = 0
        self._finished: list[Finished] = []
        self._refusals: Counter[str] = Counter()  # host -> how many of its connections had another key
        self._marked = ("", "")
        self._listener: Listener | None = None

    def sees_folder(self, folder: str) -> bool:
        """Return whether all workers are of this machine: those that join are not asked."""
        return not self._joins

    def _open_queues(self) -> None:
        self._tasks, self._results = Tasks(), Results()
        self._fleet = Fleet(self._children, self._tasks, self._n_own, self._blas_threads, self._note)

    def run(
        self, graph: Graph, *, context: Any = None, listener: Listener | None = None, keep_going: bool = False
    ) -> Outcome:
        """See :meth:`pipeline.backends.base.Backend.run`."""
        self._listener = listener
        if graph.left_out and self._joins:
            self._note(f"modules: too large to be sent to the workers: {', '.join(graph.left_out)}")
        with marker(str(getattr(context, "staging", "") or "") if self._joins else "") as self._marked:
            return super().run(graph, context=context, listener=listener, keep_going=keep_going)

    # ---- start and end

    def _start(self) -> None:
        self._open_queues()
        results = self._results
        try:
            self._server = Server(
                self._listen,
                self._authkey,
                self._tasks,
                results,
                refused=lambda host: results.put("", "refused", host),
                ended=lambda member: results.put(member, "gone"),
            )
        except OSError as error:
            why, cure = error.strerror or str(error), "give an address of this machine and a port that is free"
            raise ConfigError(f"listen: {to_text(self._listen)}: {why.partition(' (')[0]}; {cure}") from error
        self.address = to_text(self._server.listener.address)
        self._server.start()
        self._fleet.open(self._server, self._authkey)

    def prepare(self, graph: Graph) -> float:
        began = perf_counter()
        self._stop_jobs()
        self._fleet.order(Order(setup_of(graph, self._modules), patience(graph), self._marked))
        if self._joins and not self._fleet.workers:
            self._note(f"listening at {self.address}; add workers: {self._invitation}")
        while not self._fleet.is_ready:
            self._take(TICK)
            if self._n_own and perf_counter() - began > _START_LIMIT:
                raise BackendError(f"{self.name}: the workers did not start within {_START_LIMIT:g} s")
        self.n_workers = self._fleet.n_ready
        start_up, self._start_up = self._start_up + perf_counter() - began, 0.0
        return start_up

    def _end(self) -> None:
        if self._server is None:
            return
        self._jobs.clear()
        self._tasks.cancel()
        for worker in self._fleet.workers:
            self._tasks.post(worker, ("end", None))
        deadline = perf_counter() + _STOP_LIMIT
        members = {worker.member for worker in self._fleet.workers.values()}
        with contextlib.suppress(queue.Empty):
            while members and (left := deadline - perf_counter()) > 0:
                message = self._results.get(left)
                if message.kind == "done":
                    self._tasks.over(message.worker, message.content.number)
                elif message.kind == "gone":  # it has read that it is to leave
                    members.discard(message.worker)
        self._tasks.close()
        self._fleet.close(max(0.0, deadline - perf_counter()))
        self._server.close()
        self._server, self.address = None, ""

    def abandon(self) -> None:
        self._finished.clear()
        self._stop_jobs()

    def _stop_jobs(self) -> None:
        """Have all jobs stopped, and wait until they are; a member that does not stop them is lost."""
        self._jobs.clear()
        self._tasks.cancel()
        deadline = perf_counter() + _STOP_LIMIT
        while busy := self._tasks.busy():
            self._take(TICK)
            if perf_counter() > deadline:
                for member in {self._fleet.workers[w].member for w in busy if w in self._fleet.workers}:
                    self._handed_back(self._fleet.lose(member, "the end of its connection: it did not stop its job"))
        self._finished.clear()

    # ---- the executor

    def has_room(self, n_ready: int) -> bool:
        return len(self._jobs) < 2 * self._fleet.n_ready  # all share one queue: a job goes to the next free worker

    def submit(self, job: Job) -> None:
        message = to_message(job.segment, job.inputs, "")
        if isinstance(message, Failure):
            self._finished.append(Finished(job, SegmentResult(failure=message)))
            return
        self._fleet.began = self._fleet.began or perf_counter_ns()
        self._n_jobs += 1
        self._jobs[self._n_jobs] = job
        self._tasks.put(self._n_jobs, ("run", Run(self._n_jobs, job.attempt, _without_nodes(job.segment), message)))

    def wait(self) -> Sequence[Finished]:
        if not self._finished:
            self._take(TICK)
        with contextlib.suppress(queue.Empty):
            while True:
                self._handle(self._results.get(0.0))
        finished, self._finished = self._finished, []
        return finished

    def notes(self) -> Mapping[str, Any]:
        self.n_workers = max(self.n_workers, self._fleet.n_took_part)  # others may have joined meanwhile
        own = {"threads": dict(self._fleet.threads), "gaps": self._fleet.all_gaps()}
        return {**super().notes(), **own, "clock_error": self._fleet.clock_error}

    # ---- messages

    def _take(self, timeout: float) -> None:
        """Handle the next message, if one comes in time; check the workers."""
        with contextlib.suppress(queue.Empty):
            self._handle(self._results.get(timeout))
        self._handed_back(self._fleet.check())
        if self._joins and self._fleet.alone > _JOIN_LIMIT:
            raise BackendError(f"no worker has joined for {_JOIN_LIMIT:g} s; add workers: {self._invitation}")

    def _handle(self, message: Message) -> None:
        """Handle a message; those of workers that were forgotten are dropped."""
        worker, kind, content, arrived = message
        if worker in self._fleet.workers:
            self._fleet.workers[worker].heard = arrived
        if kind == "output":
            number, lines = content
            if number in self._jobs and worker in self._fleet.workers:
                self._jobs[number].emit(self._fleet.workers[worker].name, lines)
        elif kind == "done":
            self._done(worker, content, arrived)
        elif kind == "refused":
            self._refusals[content] += 1
            if self._refusals[content] == 1 and len(self._refusals) <= _MOST_NOTES:
                self._note(f"refused a worker from {content}: AuthenticationError, it has another authkey or none")
        else:
            self._handed_back(self._fleet.handle(message))

    def _done(self, worker: str, done: Done, arrived: int) -> None:
        self._tasks.over(worker, done.number)
        if worker not in self._fleet.workers or done.number not in self._jobs:  # it was lost, or its job cancelled
            return
        job, lost, result = self._jobs.pop(done.number), done.lost, done.result
        if lost is not None:
            lost = replace(lost, task=job.segment.tasks[done.position] if done.position >= 0 else None)
        if result is not None and result.times.packed:
            result.times = result.times._replace(sent=arrived)
        given = sum(job.inputs[key].nbytes for key in job.segment.inputs)
        sent = sum(value.nbytes for value in result.outputs.values()) if result is not None else 0
        self._finished.append(Finished(job, result, lost, bytes_in=given, bytes_sent=sent, kept=done.kept))

    def _handed_back(self, lost: Iterable[Lost]) -> None:
        """Hand the jobs of lost workers back to the loop."""
        for number, position, worker, ended in lost:
            if number in self._jobs:
                job = self._jobs.pop(number)
                self._finished.append(Finished(job, lost=LostWorker(worker, ended, job.segment.tasks[position])))

    @property
    def _invitation(self) -> str:
        """The command that adds workers."""
        host, port = to_address(self.address, "listen")
        host = {"0.0.0.0": "THIS-HOST", "::": "THIS-HOST"}.get(host, host)
        return f"pipeline worker --join {to_text((host, port))} --authkey-file FILE"

    def _note(self, message: str) -> None:
        if self._listener is not None:
            self._listener(Note(message))


def _where(listen: str | None, authkey_file: str | None) -> tuple[Address, bytes]:
    """Return where to listen, and the key."""
    if listen is None:
        if authkey_file is not None:
            raise ConfigError("authkey_file: it is for workers that join; add listen: HOST:PORT")
        return ("127.0.0.1", 0), secrets.token_bytes(32)
    if authkey_file is None:
        raise ConfigError("listen: workers that join must have a key; add authkey_file: FILE")
    return to_address(listen, "listen"), read_authkey(authkey_file)


def _without_nodes(segment: Segment) -> Segment:
    """Return what the process beside a worker needs to know: it does not unpickle the user's functions."""
    tasks = tuple(task._replace(node=None, frees=(), owns=()) for task in segment.tasks)  # type: ignore[arg-type]
    return replace(segment, tasks=tasks, inputs=())
