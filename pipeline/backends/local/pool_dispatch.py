"""How segments are handed to a ``multiprocessing.Pool``: its methods, and what each of them gives back when."""

from __future__ import annotations

import queue
import re
from collections.abc import Callable, Sequence
from multiprocessing import TimeoutError as NothingYet
from multiprocessing.pool import IMapIterator, Pool
from time import perf_counter_ns
from typing import Any, NamedTuple

from pipeline.graph.segments import Segment

__all__ = ["AllAtOnce", "Answer", "Arrival", "Call", "Dispatch", "OneByOne", "Stream"]

_MOST_WAITING = 64_000_000  # bytes of segments that wait in the pool, where it takes all that are ready
_KEY = re.compile(r"(?:^|,)\w+=")  # of an ``over``, in the key of an item: alpha=0.1,k=2

Function = Callable[..., Any]


class _Stamp:
    """Arrives in the worker as the instant when the Pool's thread began to pickle the call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (perf_counter_ns(),)


class Arrival:
    """Arrives in the parent as the instant when the Pool's thread unpickles the answer."""

    def __reduce__(self) -> tuple[Any, ...]:
        return perf_counter_ns, ()


class Call(NamedTuple):
    """The arguments of one call in a worker.

    Parameters
    ----------
    number : of the segment
    pickled : in the worker, the instant when it was pickled
    setup : path of the set-up file
    data : the pickled message
    """

    number: int
    pickled: Any
    setup: str
    data: bytes

    @classmethod
    def of(cls, number: int, setup: str, data: bytes) -> Call:
        return cls(number, _Stamp(), setup, data)


class Answer(NamedTuple):
    """What a call gives.

    Parameters
    ----------
    number : of the segment
    data : the pickled result
    arrived : in the parent, the instant when it came
    """

    number: int
    data: bytes
    arrived: Any


class Dispatch:
    """Hands the calls for one Pool to it. What the Pool raises is raised by :meth:`answers`.

    Parameters
    ----------
    function : called in a worker with the fields of a :class:`Call`; gives an :class:`Answer`
    n_workers : of the pool
    chunksize : calls that go to a worker in one message, and come back in one
    """

    method = ""  # of the Pool

    def __init__(self, pool: Pool, function: Function, n_workers: int, chunksize: int) -> None:
        self._pool, self._function, self._chunksize = pool, function, chunksize
        self._most = 2 * n_workers * chunksize
        self._arrived: queue.SimpleQueue[list[Answer] | BaseException] = queue.SimpleQueue()

    def has_room(self, n_calls: int, n_bytes: int) -> bool:
        """Whether one more call may be added, beside so many calls and bytes of them that have no answer yet."""
        return n_calls < self._most  # all share one queue: a waiting call goes to the next free worker

    def add(self, call: Call, segment: Segment) -> None:
        """Take a call."""
        raise NotImplementedError

    def flush(self) -> None:
        """Hand all calls that were taken to the Pool: no more of them are ready now."""

    def answers(self, timeout: float) -> list[Answer]:
        """Return the answers that have come, up to ``timeout`` seconds later if there are none."""
        found: list[Answer] = []
        try:
            while True:
                come = self._arrived.get(timeout=0 if found else timeout)
                if isinstance(come, BaseException):
                    raise come
                found += come
        except queue.Empty:
            return found

    def close(self) -> None:
        """Let go of the Pool, which is about to be terminated."""


class OneByOne(Dispatch):
    """Each call by itself, by ``apply_async``: its answer comes when the call has returned."""

    method = "apply_async"

    def add(self, call: Call, segment: Segment) -> None:
        self._pool.apply_async(
            self._function, call, callback=lambda answer: self._arrived.put([answer]), error_callback=self._arrived.put
        )


class AllAtOnce(Dispatch):
    """The calls of a step that are ready together by one ``map_async``: all answers come when the last has returned.

    A call with effects outside is a group by itself, so that its answer does not wait for others. Where the step has
    several ``over`` keys it is ``starmap_async``, as for a function of several arguments; they differ in nothing else.
    """

    method = "map_async"

    def __init__(self, pool: Pool, function: Function, n_workers: int, chunksize: int) -> None:
        super().__init__(pool, function, n_workers, chunksize)
        self._ready: list[tuple[Call, Segment]] = []

    def has_room(self, n_calls: int, n_bytes: int) -> bool:
        return n_calls < self._most or n_bytes < _MOST_WAITING

    def add(self, call: Call, segment: Segment) -> None:
        self._ready.append((call, segment))

    def flush(self) -> None:
        ready, self._ready = self._ready, []
        groups: dict[tuple[str, int], list[Call]] = {}  # by step, and number of those that must be alone
        several: set[str] = set()
        for call, segment in ready:
            groups.setdefault((segment.step, -1 if segment.pure else segment.number), []).append(call)
            if len(_KEY.findall(segment.tasks[0].item)) > 1:
                several.add(segment.step)
        for (step, _), calls in groups.items():
            how: dict[str, Any] = {"callback": self._arrived.put, "error_callback": self._arrived.put}
            if step in several:
                self._pool.starmap_async(self._function, calls, self._chunksize, **how)
            else:
                self._pool.map_async(_Spread(self._function), calls, self._chunksize, **how)


class _Spread:
    """A function of one argument, the arguments of another."""

    def __init__(self, function: Function) -> None:
        self._function = function

    def __call__(self, arguments: Sequence[Any]) -> Any:
        return self._function(*arguments)


class _Chunk(_Spread):
    """The same for several calls, one after the other."""

    def __call__(self, calls: Sequence[Sequence[Any]]) -> list[Any]:
        return [self._function(*call) for call in calls]


class Stream(Dispatch):
    """All calls of the Pool's life by one ``imap`` or ``imap_unordered``, which waits for more of them.

    The answers of a chunk come together: with ``imap_unordered`` when its calls have returned, with ``imap`` not before
    those of all earlier chunks. A call with effects outside is a chunk by itself, so that its answer does not wait for
    others with which it could be lost.
    """

    # The chunks are made here: with a chunksize, imap returns a generator, which can't be asked for what has come so
    # far, so that a worker that has died would go unnoticed.

    def __init__(self, pool: Pool, function: Function, n_workers: int, chunksize: int, *, ordered: bool) -> None:
        super().__init__(pool, function, n_workers, chunksize)
        self._ready: list[tuple[Call, Segment]] = []
        self._chunks: queue.SimpleQueue[list[Call] | None] = queue.SimpleQueue()
        self.method = "imap" if ordered else "imap_unordered"
        start = pool.imap if ordered else pool.imap_unordered
        self._iterator: IMapIterator[list[Answer]] = start(_Chunk(function), iter(self._chunks.get, None))

    def add(self, call: Call, segment: Segment) -> None:
        self._ready.append((call, segment))

    def flush(self) -> None:
        calls: list[Call] = []
        for call, segment in self._ready:
            if not segment.pure:
                self._chunks.put([call])
                continue
            calls.append(call)
            if len(calls) == self._chunksize:
                self._chunks.put(calls)
                calls = []
        if calls:
            self._chunks.put(calls)
        self._ready.clear()

    def answers(self, timeout: float) -> list[Answer]:
        found: list[Answer] = []
        try:
            while True:
                found += self._iterator.next(timeout=0 if found else timeout)
        except NothingYet:
            return found

    def close(self) -> None:
        self._chunks.put(None)  # the Pool's thread waits for the next chunk
