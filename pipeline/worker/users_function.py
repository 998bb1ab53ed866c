"""Call a function of the user's in a task."""

from __future__ import annotations

import asyncio
import inspect
import io
import threading
from collections.abc import Coroutine
from typing import Any

from pipeline.errors import DataError
from pipeline.graph.importing import resolve

__all__ = ["called"]


def called(function: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call a function and return its result; that of an ``async def`` is awaited.

    Parameters
    ----------
    function : ``module:function``

    Raises
    ------
    DataError : if it gives a generator or an open file, which can be read only once, and in its own process
    """
    result = resolve(function)(*args, **kwargs)
    if inspect.iscoroutine(result):
        result = _awaited(result)
    if inspect.isgenerator(result):
        raise DataError(f"{function} gives a generator, which other tasks can't read; return a list: list(…)")
    if inspect.isasyncgen(result):
        raise DataError(f"{function} gives an async generator, which tasks can't read; return [x async for x in …]")
    if isinstance(result, io.IOBase) and not isinstance(result, io.BytesIO | io.StringIO):
        result.close()
        raise DataError(f"{function} gives an open file, which other tasks can't read; return its path or content")
    return result


def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a new event loop: in a new thread where this one has a loop that runs, as in notebooks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    found: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the task
            failed.append(error)

    thread = threading.Thread(target=run, name="task-event-loop", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]
