"""The processes that have joined a manager, ours and others', and their workers: who is there, ready, silent, lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from time import perf_counter, perf_counter_ns
from typing import Any, NamedTuple

from pipeline.backends.local.child_processes import Children, ended_stopped, kill, reap
from pipeline.backends.manager.member import Facts, Order, join_own
from pipeline.backends.manager.queues import Message, Tasks
from pipeline.backends.manager.server import Server
from pipeline.backends.stopped import StoppedProcesses
from pipeline.backends.versions import PACKAGES, differences, installed
from pipeline.errors import BackendError, printable

__all__ = ["TICK", "Fleet", "Lost", "Worker"]

TICK = 1.0
"""Seconds between two checks."""

_SILENCE = 30.0  # seconds without a sign of life after which a member counts as lost: it may be stopped
_MOST_DEATHS = 3  # processes of ours that end in a row while they start
_EXACT = ("dask",)  # its private parts change with every release


class Lost(NamedTuple):
    """What was lost with a worker: the number of its job, the position of the task in it that it ran, how it ended."""

    number: int
    position: int
    worker: str
    ended_by: str


@dataclass
class _Member:
    """A joined process. ``silent``: seconds since its last sign of life; ``refused``: why its workers get no jobs."""

    facts: Facts
    own: bool
    refused: str
    beats: int = 0
    silent: float = 0.0


@dataclass
class Worker:
    """A worker of a member. States: asked for a set-up -> ready, again for each graph; forgotten when it is lost.

    Parameters
    ----------
    member : id of its process
    label : its name, process and host, for messages
    heard : when its last message arrived, by ``perf_counter_ns``
    """

    name: str
    member: str
    label: str
    ready: bool = False
    heard: int = 0


class Fleet:
    """Who has joined. Its methods are called from one thread. States: made -> opened -> closed.

    Parameters
    ----------
    n_own : number of workers that this process starts, in one process of theirs
    blas_threads : of each worker
    note : called with messages for the user

    Attributes
    ----------
    workers : id of each worker -> what is known of it
    threads : library -> its threads in the worker that was ready last
    gaps : worker, begin and end of when it was not observed, in ns of ``perf_counter_ns``
    began : when the first job of a run was submitted; 0: none was
    alone : seconds without any worker that is ready
    """

    def __init__(
        self, children: Children, tasks: Tasks, n_own: int, blas_threads: int, note: Callable[[str], None]
    ) -> None:
        self._children, self._tasks, self._note = children, tasks, note
        self._n_own, self._blas_threads = n_own, blas_threads
        self._server: Server | None = None
        self._authkey = b""
        self._process: Any = None  # of our own workers
        self._deaths = 0  # of it, in a row, while it started
        self._members: dict[str, _Member] = {}
        self._names: Counter[str] = Counter()  # host -> how many of its workers have had a name
        self._order: Order | None = None
        self._here = installed(PACKAGES, "")
        self._stopped = StoppedProcesses()
        self._checked = perf_counter()
        self._lost: dict[str, int] = {}  # name of a worker that is lost -> when it was heard for the last time
        self._took_part: set[str] = set()
        self.workers: dict[str, Worker] = {}
        self.threads: Mapping[str, int] = {}
        self.gaps: list[tuple[str, int, int]] = []
        self.began = 0
        self.alone = 0.0

    # ---- begin and end

    def open(self, server: Server, authkey: bytes) -> None:
        """Start our own workers."""
        self._server, self._authkey = server, authkey
        if self._n_own:
            self._start()

    def _start(self) -> None:
        assert self._server is not None
        host, port = self._server.listener.address
        reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        arguments = ((reached, port), self._authkey, self._n_own, self._children.method)
        self._process = self._children.process(target=join_own, args=arguments, name="manager-workers", daemon=True)
        self._process.start()

    def order(self, order: Order) -> None:
        """Have all workers get ready for a graph, also those still to come."""
        self.gaps.clear()
        self._lost.clear()
        self._took_part.clear()
        self._order, self.began, self.alone, self._checked = order, 0, 0.0, perf_counter()
        for worker in self.workers:
            self._ask(worker)

    def close(self, seconds: float) -> None:
        """End our own process, after it was asked to leave, at the latest after some seconds."""
        self._server = None  # it is not replaced
        if self._process is not None:
            wait([self._process.sentinel], seconds)
            self._forget_process()
        self.workers.clear()
        self._members.clear()

    def _forget_process(self) -> None:
        process, self._process = self._process, None
        kill(process)
        process.join()
        self._children.forget(process)
        process.close()

    # ---- what is asked

    @property
    def n_ready(self) -> int:
        """Number of workers that may get jobs."""
        return sum(worker.ready for worker in self.workers.values())

    @property
    def is_ready(self) -> bool:
        """Whether our own workers are ready, and those that have joined; at least one."""
        own = sum(self._members[worker.member].own for worker in self.workers.values())
        return bool(self.workers) and own >= self._n_own and self.n_ready == len(self.workers)

    @property
    def n_took_part(self) -> int:
        """Number of workers that were ready at some time of the run."""
        names = {worker.name for worker in self.workers.values() if worker.ready}
        return len(self._took_part | names)

    @property
    def clock_error(self) -> float:
        """Seconds by which instants of the workers may differ from the clock here."""
        return max((member.facts.clock_error for member in self._members.values()), default=0.0)

    def all_gaps(self) -> list[tuple[str, int, int]]:
        """Return the gaps, and those of workers that are still lost."""
        now = perf_counter_ns()
        return [*self.gaps, *((name, since, now) for name, since in self._lost.items())]

    # ---- what happens

    def handle(self, message: Message) -> Iterator[Lost]:
        """Handle a message about workers that come, are ready, or go; yield what was lost."""
        worker, kind, content, arrived = message
        if kind == "join":
            self._admit(worker, content)
        elif kind == "gone" and worker in self._members:
            yield from self.lose(worker, "the loss of its connection")
        elif kind == "ready" and worker in self.workers:
            self._is_ready(worker, arrived, content)
        elif kind == "broken" and worker in self.workers:
            this = self.workers[worker]
            if self._members[this.member].own:
                raise BackendError(f"{this.label} could not be set up: {content}")
            self._note(f"{this.label} could not be set up: {content}")
            yield from self.lose(this.member, "a failure of its set-up")

    def _admit(self, worker: str, facts: Facts) -> None:
        member = self._members.get(facts.member)
        if member is None:
            own = facts.own and self._process is not None and facts.pid == self._process.pid
            refused = "; ".join(differences(facts.versions, self._here, _EXACT))
            member = self._members[facts.member] = _Member(facts, own, refused)
            if refused:
                self._note(f"refused workers of {printable(facts.host)} (pid {facts.pid}): {refused}")
            elif not own:
                self._note(f"workers of {printable(facts.host)} (pid {facts.pid}) have joined")
        self._tasks.admit(worker)
        if member.refused:
            self._tasks.post(worker, ("refused", member.refused))
            return
        name = self._free_name(member)
        label = f"worker {name} (pid {facts.pid})" if member.own else f"worker {name} (pid {facts.pid} there)"
        self.workers[worker] = Worker(name, facts.member, label)
        self._tasks.post(worker, ("welcome", (name, self._blas_threads)))
        self._ask(worker)

    def _free_name(self, member: _Member) -> str:
        """Return ``manager-0`` for a worker of ours, which has the name of the one it replaces, else ``HOST-0``."""
        if member.own:
            taken = {this.name for this in self.workers.values()}
            return next(name for i in range(len(taken) + 1) if (name := f"manager-{i}") not in taken)
        host = printable(member.facts.host) or "host"
        self._names[host] += 1
        return f"{host}-{self._names[host] - 1}"

    def _ask(self, worker: str) -> None:
        """Send a worker the set-up; it answers when it is ready."""
        self.workers[worker].ready = False
        if self._order is not None:
            self._tasks.post(worker, ("set up", self._order))

    def _is_ready(self, worker: str, arrived: int, threads: Mapping[str, int]) -> None:
        this = self.workers[worker]
        this.ready, this.heard, self.threads, self.alone = True, arrived, threads, 0.0
        self._tasks.ready(worker)
        if self._members[this.member].own:
            self._deaths = 0
        if self.began and (this.name in self._lost or this.name not in self._took_part):
            self.gaps.append((this.name, self._lost.get(this.name, self.began), arrived))
        self._lost.pop(this.name, None)
        self._took_part.add(this.name)

    def lose(self, member: str, ended: str) -> Iterator[Lost]:
        """Forget a member, yield what was lost with it, and replace it if it is our own."""
        lost = self._members.pop(member)
        workers = {worker: this for worker, this in self.workers.items() if this.member == member}
        if lost.own and self._process is not None:
            found = reap(self._process)
            ended = found if ended.startswith("the loss") else ended
            self._forget_process()
        elif workers:
            self._note(f"lost the workers of {printable(lost.facts.host)} (pid {lost.facts.pid}): {ended}")
        for worker, this in workers.items():
            del self.workers[worker]
            number = self._tasks.remove(worker)
            if self.began:
                self._lost[this.name] = max(this.heard, self.began)
            if number is not None:
                yield Lost(number, self._tasks.position(member, worker, number), this.label, ended)
        if self._server is not None:
            self._server.shut(member)
            if lost.own:
                self._replace(not any(this.ready for this in workers.values()), ended)

    def _replace(self, starting: bool, ended: str) -> None:
        self._deaths += starting
        if self._deaths >= _MOST_DEATHS:
            before = f"so did {_MOST_DEATHS - 1} before it"
            raise BackendError(f"the process of the workers ended by {ended} while it started; {before}")
        self._start()

    def check(self) -> Iterator[Lost]:
        """Look for members that are silent, and whether our own process is stopped or has ended; every second."""
        now = perf_counter()
        if now - self._checked < TICK:
            return
        step, self._checked = min(now - self._checked, 2 * TICK), now  # this process may have been stopped (Ctrl-Z)
        self.alone = 0.0 if self.n_ready else self.alone + step
        for name, member in list(self._members.items()):
            beats = self._tasks.beats(name)
            member.silent = 0.0 if beats != member.beats else member.silent + step
            member.beats = beats
            if member.silent > _SILENCE and not member.own:
                yield from self.lose(name, f"the end of its connection: it had been silent for {member.silent:.0f} s,")
        if self._process is not None:
            yield from self._check_own()

    def _check_own(self) -> Iterator[Lost]:
        seconds = self._stopped.look([self._process.pid]).get(self._process.pid, 0.0)
        member = next((name for name, this in self._members.items() if this.own), None)
        if member is not None and self._order is not None and seconds > self._order.patience:
            kill(self._process)
            yield from self.lose(member, ended_stopped(seconds))
        elif member is None and self._process.exitcode is not None:
            ended = reap(self._process)
            self._forget_process()
            self._replace(True, ended)
