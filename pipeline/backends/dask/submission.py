"""The Dask futures of one run: submitted, watched, gathered, released."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter_ns
from typing import Any, NamedTuple, Self

import dask
from dask.base import annotate
from distributed import Client, Future

from pipeline.backends.dask.health import in_loop
from pipeline.backends.dask.keys import Plan, Spans
from pipeline.errors import BackendError
from pipeline.graph.graph import Key

__all__ = ["FutureFailed", "Report", "Results", "Submission"]


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


class Submission:
    """The futures of one run. States: entered (reports are received) -> submitted -> left (futures are released).

    What arrives on the client's event loop is put into a queue, which the calling thread empties by :meth:`receive`: so
    the listener is called in the thread that called ``run``, and Ctrl-C is noticed.

    Parameters
    ----------
    run : the id of the run
    direct : whether results are fetched from the workers themselves; None lets the client decide
    """

    def __init__(self, client: Client, run: str, *, direct: bool | None) -> None:
        self._client, self._run, self._direct = client, run, direct
        self._queue: queue.SimpleQueue[Report | FutureFailed | Results] = queue.SimpleQueue()
        self._futures: Sequence[Future[Any]] = []
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        for topic in (self._client.id, "all"):
            self._client.subscribe_topic(topic, self._on_event)
        return self

    def __exit__(self, *exc: object) -> None:
        """Release everything on the scheduler: what waits is forgotten, what runs ends unobserved."""
        if self._watcher is not None:
            in_loop(self._client, self._watcher.cancel)
        with suppress(Exception):  # a scheduler that is gone has nothing to release
            for future in self._futures:
                future.release()
            for topic in (self._client.id, "all"):
                self._client.unsubscribe_topic(topic)

    def submit(self, plan: Plan, wanted: list[Key]) -> None:
        """Submit the whole graph; the results are received as soon as all are there."""
        if wanted:
            spans = Spans.of({key: segment.step for key, segment in plan.segments.items()}, self._run)
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}), annotate(span=spans):
                self._futures = self._client.get(
                    dict(plan.tasks),
                    wanted,
                    sync=False,
                    retries=plan.annotation("retries", 0),
                    resources=plan.annotation("resources", {}),
                )
        in_loop(self._client, self._watch)

    def receive(self, timeout: float) -> Report | FutureFailed | Results | None:
        """Return what arrived next; None if nothing has within ``timeout`` seconds."""
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    # ---- on the client's event loop

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if isinstance(message, dict) and (message.get("run") == self._run or message.get("action") == "remove-worker"):
            self._queue.put(Report(message, perf_counter_ns()))

    async def _watch(self) -> None:
        """Put the results into the queue when all are there, and each exception as soon as it is."""
        self._watcher = asyncio.current_task()
        try:
            await asyncio.gather(*map(self._watch_one, self._futures))
            if all(future.status in ("finished", "lost") for future in self._futures):
                self._queue.put(Results(await self._gather()))
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - raised in the calling thread
            self._queue.put(FutureFailed("", error))

    async def _watch_one(self, future: Future[Any]) -> None:
        error = await future.exception()
        if error is None and future.status not in ("finished", "lost"):
            error = BackendError(
                f"the Dask scheduler gave up {future.key} ({future.status}): the scheduler ended, or was asked to"
            )
        if error is not None:
            self._queue.put(FutureFailed(future.key, error))

    async def _gather(self) -> list[Any]:
        try:
            values: list[Any] = await self._client.gather(list(self._futures), direct=self._direct)
        except Exception:  # unpickling may raise anything; raised again below, after the future that it belongs to
            for future in self._futures:
                try:
                    await self._client.gather([future], direct=self._direct)
                except Exception as error:  # noqa: BLE001 - raised in the calling thread
                    self._queue.put(FutureFailed(future.key, error))
                    break
            raise
        return values
