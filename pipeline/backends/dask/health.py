"""Requests to the scheduler with a deadline; whether it still answers."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from distributed import Client

from pipeline.errors import BackendError
from pipeline.worker.tracebacks import one_line

__all__ = ["Health", "ask", "identity", "in_loop"]


def ask(client: Client, method: str, *arguments: Any, timeout: float = 30.0, **keywords: Any) -> Any:
    """Call a method of the client, with a deadline that also holds when the scheduler is stopped.

    Raises
    ------
    BackendError : if no answer came in time, or the connection broke
    """

    async def call() -> Any:
        return await getattr(client, method)(*arguments, **keywords)

    try:
        return client.sync(call, callback_timeout=timeout)
    except (OSError, TimeoutError) as error:
        raise BackendError(f"the Dask scheduler does not answer ({method}): {one_line(error)}") from error


def identity(client: Client) -> dict[str, Any]:
    """Return what the scheduler reports about itself and its workers."""

    scheduler: Any = client.scheduler

    async def call() -> dict[str, Any]:
        return dict(await scheduler.identity())

    try:
        answer: dict[str, Any] = client.sync(call, callback_timeout=10)
    except (OSError, TimeoutError) as error:
        raise BackendError(f"the Dask scheduler does not answer: {one_line(error)}") from error
    return answer


def in_loop(client: Client, function: Callable[..., Any], *arguments: Any) -> None:
    """Have a function called, or a coroutine started, on the client's event loop; returns without waiting for it."""
    if client.loop is not None:
        client.loop.add_callback(function, *arguments)


class Health:
    """Checks that the scheduler answers, by a request every few seconds, without waiting for the answer.

    States: idle -> asked (``_is_asked``) -> idle, with ``_trouble`` if the request failed; lost after ``silence``.

    Parameters
    ----------
    silence : seconds without any message or answer after which the scheduler counts as lost
    every : seconds between two requests
    no_workers : seconds without a single worker after which the run ends

    Attributes
    ----------
    lost : whether the scheduler was found to be lost
    """

    def __init__(self, client: Client, *, silence: float, every: float, no_workers: float) -> None:
        self._client, self._silence, self._every, self._no_workers = client, silence, every, no_workers
        self._asked = self._checked = perf_counter()
        self._waited = 0.0  # seconds since the request, while this process was awake
        self._is_asked = False
        self._no_workers_since: float | None = None
        self._trouble = ""
        self.lost = False

    def heard(self) -> None:
        """Record that a message has come from the scheduler."""
        self._waited = 0.0

    def check(self) -> None:
        """Send a request if it is time, and check the last one; to be called often.

        Raises
        ------
        BackendError : if the scheduler has been silent, or without workers, for too long
        """
        now = perf_counter()
        self._waited += min(now - self._checked, 1.0)  # this process may have been stopped (Ctrl-Z)
        self._checked = now
        if not self._is_asked and not self._trouble:
            self._waited = 0.0
        if self._waited > self._silence:
            self.lost = True
            reason = self._trouble or "it may be stopped, or the network is down"
            raise BackendError(f"the Dask scheduler has not answered for {self._waited:.0f} s: {reason}")
        if self._no_workers_since is not None and now - self._no_workers_since > self._no_workers:
            raise BackendError(f"the Dask scheduler has had no worker for {self._no_workers:g} s: start workers")
        if not self._is_asked and now - self._asked > self._every:
            self._asked, self._is_asked = now, True
            in_loop(self._client, self._ask)

    async def _ask(self) -> None:
        scheduler: Any = self._client.scheduler
        try:
            answer = await scheduler.identity(n_workers=0)
        except Exception as error:  # noqa: BLE001 - reported if the silence lasts
            self._trouble = one_line(error)
        else:
            self._trouble = ""
            if answer["n_workers"]:
                self._no_workers_since = None
            elif self._no_workers_since is None:
                self._no_workers_since = perf_counter()
        finally:
            self._is_asked = False
