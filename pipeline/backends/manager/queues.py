"""The queues of a manager: jobs for whichever worker is free, and results; and their proxies in the workers."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from multiprocessing import managers
from time import perf_counter_ns
from typing import Any, ClassVar, NamedTuple

from pipeline.backends.manager.connections import Address, Listener, connect
from pipeline.backends.versions import boot_id

__all__ = ["SERIALIZER", "Message", "QueueManager", "Results", "Tasks", "register_serializer", "registry"]

SERIALIZER = "pipeline"
"""The name, in :mod:`multiprocessing.managers`, of our connections."""

_BEAT = 2.0  # seconds between two signs of life of a member


class Message(NamedTuple):
    """What a worker has put into the queue of results, and when it was there, by ``perf_counter_ns``."""

    worker: str
    kind: str
    content: Any
    arrived: int


@dataclass
class _Worker:
    """One worker as the queue of tasks sees it. ``job``: the number of the one that it has taken."""

    letters: deque[Any] = field(default_factory=deque)
    ready: bool = False
    job: int | None = None


class Tasks:
    """Jobs, which go to the first worker that asks for one, and letters to single workers; used from many threads.

    States of a worker: unknown -> admitted -> ready (jobs go to it) -> removed, when it was lost or has left. A job is
    waiting -> taken -> over.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[tuple[int, Any]] = deque()
        self._workers: dict[str, _Worker] = {}
        self._removed: set[str] = set()
        self._cancelled: set[int] = set()
        self._running: dict[str, Mapping[str, tuple[int, int]]] = {}  # member -> worker -> job, position of the task
        self._beats: dict[str, int] = {}
        self._is_closed = False

    # Called by workers, through proxies

    def get(self, worker: str) -> Any:
        """Return the next letter for a worker, or else the next job; waits for one.

        Raises
        ------
        EOFError : if the worker counts as lost, or the server is being closed
        """
        with self._changed:
            while True:
                if self._is_closed or worker in self._removed:
                    raise EOFError("the run does not count this worker any more")
                this = self._workers.get(worker)
                if this is not None and this.letters:
                    return this.letters.popleft()
                if this is not None and this.ready and self._jobs:
                    this.job, message = self._jobs.popleft()
                    return message
                self._changed.wait()

    def beat(self, member: str, running: Mapping[str, tuple[int, int]]) -> frozenset[int]:
        """Count a sign of life of a member; return the jobs that are cancelled, at once or within 2 s.

        Parameters
        ----------
        running : worker -> its job and the position of the task that it runs
        """
        with self._changed:
            self._beats[member] = self._beats.get(member, 0) + 1
            self._running[member] = running
            self._changed.wait_for(lambda: self._cancelled or self._is_closed, _BEAT)
            self._beats[member] += 1
            if self._is_closed:
                raise EOFError("the run is over")
            return frozenset(self._cancelled)

    def clock(self) -> tuple[str, int]:
        """Return the id of this boot of this machine, and its time by ``perf_counter_ns``."""
        return boot_id(), perf_counter_ns()

    # Called where the server is

    def admit(self, worker: str) -> None:
        """Take a worker in."""
        with self._changed:
            self._workers[worker] = _Worker()
            self._changed.notify_all()

    def remove(self, worker: str) -> int | None:
        """Forget a worker; return the number of the job that it had taken."""
        with self._changed:
            self._removed.add(worker)
            this = self._workers.pop(worker, None)
            self._changed.notify_all()
            return this.job if this is not None else None

    def post(self, worker: str, letter: Any) -> None:
        """Send a letter to a worker, which is not ready from now on."""
        with self._changed:
            if worker in self._workers:
                self._workers[worker].letters.append(letter)
                self._workers[worker].ready = False
                self._changed.notify_all()

    def ready(self, worker: str) -> None:
        """Let a worker take jobs."""
        with self._changed:
            if worker in self._workers:
                self._workers[worker].ready = True
                self._changed.notify_all()

    def put(self, number: int, message: Any) -> None:
        """Add a job."""
        with self._changed:
            self._jobs.append((number, message))
            self._changed.notify_all()

    def over(self, worker: str, number: int) -> None:
        """Note that a worker has nothing to do with a job any more."""
        with self._changed:
            self._cancelled.discard(number)
            if worker in self._workers and self._workers[worker].job == number:
                self._workers[worker].job = None

    def cancel(self) -> None:
        """Drop the jobs that wait, and cancel those that were taken."""
        with self._changed:
            self._jobs.clear()
            self._cancelled |= {this.job for this in self._workers.values() if this.job is not None}
            self._changed.notify_all()

    def busy(self) -> Collection[str]:
        """Return the workers that have taken a job."""
        with self._changed:
            return [worker for worker, this in self._workers.items() if this.job is not None]

    def unread(self) -> bool:
        """Whether a letter was not fetched yet."""
        with self._changed:
            return any(this.letters for this in self._workers.values())

    def position(self, member: str, worker: str, number: int) -> int:
        """Return the position of the task that a worker ran in a job at the last sign of life, 0 where unknown."""
        with self._changed:
            job, position = self._running.get(member, {}).get(worker, (number, 0))
            return max(position, 0) if job == number else 0

    def beats(self, member: str) -> int:
        """Return the number of signs of life of a member."""
        with self._changed:
            return self._beats.get(member, 0)

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class Results:
    """What workers report, results and printed lines among it, in the order in which it came."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def put(self, worker: str, kind: str, content: Any = None) -> None:
        """Add a message; called by workers, through proxies."""
        self._messages.put(Message(worker, kind, content, perf_counter_ns()))

    def get(self, timeout: float) -> Message:
        """Return the next message.

        Raises
        ------
        queue.Empty : if there is none in time
        """
        return self._messages.get(timeout=timeout) if timeout else self._messages.get_nowait()


class _Proxy(managers.BaseProxy):
    """A proxy without a count of references: the queues live as long as the server."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "incref": False})


class TasksProxy(_Proxy):
    """:class:`Tasks` as workers see it."""

    _exposed_: ClassVar[tuple[str, ...]] = ("get", "beat", "clock")

    def get(self, worker: str) -> Any:
        return self._callmethod("get", (worker,))

    def beat(self, member: str, running: Mapping[str, tuple[int, int]]) -> frozenset[int]:
        found: Any = self._callmethod("beat", (member, running))  # type: ignore[func-returns-value]
        return frozenset(found)

    def clock(self) -> tuple[str, int]:
        found: Any = self._callmethod("clock")  # type: ignore[func-returns-value]
        return found[0], found[1]


class ResultsProxy(_Proxy):
    """:class:`Results` as workers see it."""

    _exposed_: ClassVar[tuple[str, ...]] = ("put",)

    def put(self, worker: str, kind: str, content: Any = None) -> None:
        self._callmethod("put", (worker, kind, content))


class QueueManager(managers.BaseManager):
    """The client of a manager.

    Parameters
    ----------
    address : of the server
    authkey : the key that both sides have
    """

    def __init__(self, address: Address, authkey: bytes) -> None:
        register_serializer()
        super().__init__(address, authkey, SERIALIZER)


QueueManager.register("tasks", proxytype=TasksProxy)
QueueManager.register("results", proxytype=ResultsProxy)


def register_serializer() -> None:
    """Have :mod:`multiprocessing.managers` use our connections for :data:`SERIALIZER`."""
    managers.listener_client[SERIALIZER] = Listener, connect  # type: ignore[attr-defined]


def registry(tasks: Tasks, results: Results) -> dict[str, Any]:
    """Return what a server has of the two queues, as :class:`multiprocessing.managers.Server` takes it."""
    return {
        "tasks": (lambda: tasks, TasksProxy._exposed_, None, TasksProxy),
        "results": (lambda: results, ResultsProxy._exposed_, None, ResultsProxy),
    }
