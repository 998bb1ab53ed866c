"""The Dask futures of one run: submitted, watched, gathered, released."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from time import perf_counter_ns
from typing import Any, NamedTuple, Self

import dask
from dask.base import annotate
from distributed import Client, Future

from pipeline.backends.dask.health import in_loop
from pipeline.backends.dask.keep_going import NotComputed
from pipeline.backends.dask.keys import Plan, Spans
from pipeline.backends.dask.remote_task import ByKey
from pipeline.errors import BackendError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, dependencies

__all__ = ["Fetched", "FutureFailed", "Report", "Results", "Submission"]

_OF_ALL = ("remove-worker", "unreadable")  # actions of messages that every run gets


class Report(NamedTuple):
    """A message from a worker or the scheduler, and when it arrived by ``perf_counter_ns``."""

    content: dict[str, Any]
    arrived: int


class FutureFailed(NamedTuple):
    """The exception of a future, and its Dask key; the key is empty where the exception belongs to none."""

    key: Any  # Dask types it as any part of a key
    error: BaseException


class Results(NamedTuple):
    """The results of all futures, in their order."""

    values: list[Any]


class Fetched(NamedTuple):
    """The result of one future that the client takes before the end; ``failed``: it can't be had."""

    key: Key
    value: Any = None
    failed: bool = False


class Submission:
    """The futures of one run. States: entered (reports are received) -> submitted -> left (futures are released).

    What arrives on the client's event loop is put into a queue, which the calling thread empties by :meth:`receive`: so
    the listener is called in the thread that called ``run``, and Ctrl-C is noticed.

    Parameters
    ----------
    run : the id of the run
    direct : whether results are fetched from the workers themselves; None lets the client decide
    keep_going : whether the results are received although some are missing: a :class:`NotComputed` is in their place
    """

    def __init__(self, client: Client, run: str, *, direct: bool | None, keep_going: bool) -> None:
        self._client, self._run, self._direct, self._keep_going = client, run, direct, keep_going
        self._queue: queue.SimpleQueue[Report | FutureFailed | Results | Fetched] = queue.SimpleQueue()
        self._futures: dict[Key, Future[Any]] = {}
        self._users: dict[Key, int] = {}  # of a key that has a future: those that need it and are not submitted
        self._released: set[Any] = set()  # keys whose futures were released since all that need them are submitted
        self._watchers: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        for topic in (self._client.id, "all"):
            self._client.subscribe_topic(topic, self._on_event)
        return self

    def __exit__(self, *exc: object) -> None:
        """Release everything on the scheduler: what waits is forgotten, what runs ends unobserved."""
        for watcher in self._watchers:
            in_loop(self._client, watcher.cancel)
        with suppress(Exception):  # a scheduler that is gone has nothing to release
            for future in self._futures.values():
                future.release()
            for topic in (self._client.id, "all"):
                self._client.unsubscribe_topic(topic)

    def submit(self, plan: Plan, wanted: list[Key], collected: Collection[Key] = ()) -> None:
        """Submit the whole graph; the results are received as soon as all are there.

        Parameters
        ----------
        collected : other keys whose results are kept until :meth:`fetch` or :meth:`leave`
        """
        if wanted:
            self._send(plan, plan.tasks, [*wanted, *collected], plan.tasks)
        in_loop(self._client, self._watch, [self._futures[key] for key in wanted], True)

    def submit_part(
        self, plan: Plan, wanted: list[Key], collected: Collection[Key], numbers: Sequence[int], *, last: bool
    ) -> None:
        """Submit some segments, after those that they need; the results are received when the last are there.

        Those that use limits run before all others, since they have places of them, and what follows from them next.
        What others need is kept until these were submitted.
        """
        keys = [key for number in numbers for key in plan.keys[number]]
        tasks = {key: plan.tasks[key] for key in keys}
        needed = {other for node in tasks.values() for other in dependencies(node) if other not in tasks}
        outside = {key: sum(user not in tasks for user in plan.dependents[key]) for key in keys}
        lasting = {*wanted, *collected}
        keep = [key for key in keys if outside[key] or key in lasting]
        priority = {key: 2 if plan.segments[key].uses else 1 for key in keys} if self._users else {}
        self._send(plan, tasks, keep, [*keys, *needed], ByKey(priority, 0))
        self._users |= {key: n + (key in wanted) + (key in collected) for key, n in outside.items()}
        for node in tasks.values():
            for other in dependencies(node) - tasks.keys():
                self._used(other)
        in_loop(self._client, self._watch, [self._futures[key] for key in (wanted if last else keep)], last)

    def _send(
        self,
        plan: Plan,
        tasks: Mapping[Key, GraphNode],
        keep: Sequence[Key],
        annotated: Collection[Key],
        priority: ByKey | None = None,
    ) -> None:
        """Send tasks to the scheduler, which keeps the results of ``keep``."""
        spans = Spans.of({key: plan.segments[key].step for key in annotated}, self._run)
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}), annotate(span=spans):
            futures = self._client.get(
                dict(tasks),
                keep,
                sync=False,
                retries=plan.annotation("retries", 0, annotated),
                resources=plan.annotation("resources", {}, annotated),
                priority=priority,
            )
        self._futures |= dict(zip(keep, futures, strict=True))

    def fetch(self, key: Key) -> None:
        """Have a result received as :class:`Fetched`, once; after that :meth:`leave` it."""
        in_loop(self._client, self._fetch, key, self._futures[key])

    def leave(self, key: Key) -> None:
        """Release a result that nobody takes any more."""
        if self._users:
            self._used(key)
        elif key in self._futures:
            self._released.add(key)
            self._futures.pop(key).release()

    def _used(self, key: Key) -> None:
        """Count one use less of a result; the last one releases it."""
        self._users[key] -= 1
        if not self._users[key]:
            self._released.add(key)
            self._futures.pop(key).release()

    def receive(self, timeout: float) -> Report | FutureFailed | Results | Fetched | None:
        """Return what arrived next; None if nothing has within ``timeout`` seconds."""
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    # ---- on the client's event loop

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if isinstance(message, dict) and (message.get("run") == self._run or message.get("action") in _OF_ALL):
            self._queue.put(Report(message, perf_counter_ns()))

    async def _watch(self, futures: Sequence[Future[Any]], results: bool) -> None:
        """Put each exception into the queue as soon as it is there, and the results when all are."""
        watcher = asyncio.current_task()
        assert watcher is not None, "it runs in a loop"
        self._watchers.append(watcher)
        try:
            await asyncio.gather(*map(self._watch_one, futures))
            there = [future for future in futures if future.status in ("finished", "lost")]
            if results and (self._keep_going or len(there) == len(futures)):
                values = dict(zip((future.key for future in there), await self._gather(there), strict=True))
                self._queue.put(Results([values.get(future.key, NotComputed()) for future in futures]))
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - raised in the calling thread
            self._queue.put(FutureFailed("", error))

    async def _watch_one(self, future: Future[Any]) -> None:
        error = await future.exception()
        if future.key in self._released:
            return
        if error is None and future.status not in ("finished", "lost"):
            error = BackendError(
                f"the Dask scheduler gave up {future.key} ({future.status}): the scheduler ended, or was asked to"
            )
        if error is not None:
            self._queue.put(FutureFailed(future.key, error))

    async def _fetch(self, key: Key, future: Future[Any]) -> None:
        try:
            (value,) = await self._client.gather([future], direct=self._direct)
        except Exception:  # noqa: BLE001 - it is not needed: whoever needs it reports what is wrong
            self._queue.put(Fetched(key, failed=True))
        else:
            self._queue.put(Fetched(key, value))

    async def _gather(self, futures: Sequence[Future[Any]]) -> list[Any]:
        try:
            values: list[Any] = await self._client.gather(list(futures), direct=self._direct)
        except Exception:  # unpickling may raise anything; raised again below, after the future that it belongs to
            values = []
            for future in futures:
                try:
                    values += await self._client.gather([future], direct=self._direct)
                except Exception as error:  # noqa: BLE001 - raised in the calling thread
                    self._queue.put(FutureFailed(future.key, error))
                    values.append(NotComputed())
                    if not self._keep_going:
                        break
            if not self._keep_going:
                raise
        return values
