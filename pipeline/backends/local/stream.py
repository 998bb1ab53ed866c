"""Values of a graph one after the other, in a given order; the workers compute those that come next meanwhile."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

from pipeline.backends.local.attempts import Attempts
from pipeline.backends.local.executor import Executor, Finished, Job
from pipeline.backends.local.loop import Events
from pipeline.errors import PipelineError
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import Graph, Key
from pipeline.graph.limits import ReadySegments
from pipeline.graph.segments import Segment

__all__ = ["in_background", "independent_segments", "stream"]

_POLL = 0.05  # seconds between two looks at whether the reader has left


def independent_segments(graph: Graph, keys: Sequence[Key]) -> dict[Key, Segment] | None:
    """Return the segment of each key; None if one needs another segment or the context of a run."""
    # as many workers as keys: none are put together
    home = {key: segment for segment in fuse(graph, n_workers=max(1, len(keys))) for key in segment.outputs}
    found = {key: home[key] for key in keys}
    alone = all(not segment.inputs and segment.outputs == (key,) for key, segment in found.items())
    return found if alone else None


def stream(
    executor: Executor,
    graph: Graph,
    segments: Sequence[Segment],
    *,
    ahead: int,
    is_left: Callable[[], bool] = lambda: False,
) -> Generator[Any]:
    """Yield the value of each segment, in this order.

    A failed task is tried again as often as its step allows, a lost worker is replaced, and what tasks print is shown.

    Parameters
    ----------
    segments : each has no inputs and one output, see :func:`independent_segments`
    ahead : at most so many are computed, or kept, before they are asked for
    is_left : whether nobody will ask for more, and the rest can be given up

    Raises
    ------
    PipelineError : a task failed; raised in the place of its value
    """
    position = {segment.number: i for i, segment in enumerate(segments)}
    ready = ReadySegments([segment.uses for segment in segments], graph.limits)  # by position
    n_running = 0
    attempts = Attempts(recovers_workers=executor.capabilities.recovers_workers)
    events = Events(graph, None)
    todo, window = deque(range(len(segments))), deque[int]()  # window: those begun and not yielded, in order
    done: dict[int, Any] = {}  # the value of a segment as the executor stores it, or its error
    executor.prepare(graph)
    try:
        while (todo or window) and not is_left():
            while todo and len(window) < ahead:
                window.append(todo.popleft())
                ready.add(window[-1])
            while ready.n_able and executor.has_room(len(ready) + len(todo)):
                if ready.n_limited and n_running >= executor.n_workers:
                    break  # one that has a limit must not wait behind others
                segment = segments[ready.take()]
                n_running += 1
                executor.submit(Job(segment, {}, attempts.n_made(segment), events.output))
            while window and window[0] in done:
                value = done.pop(window.popleft())
                if isinstance(value, PipelineError):
                    raise value
                decoded = executor.decode(value)
                executor.release(value)
                del value
                yield decoded
                del decoded
            if window:
                for finished in executor.wait():
                    place = position[finished.job.segment.number]
                    n_running -= 1
                    ready.release(place)
                    try:
                        value = _value(finished, attempts, events)
                    except PipelineError as error:
                        value = error
                    if value is None:
                        ready.add(place)
                    else:
                        done[place] = value
    finally:
        executor.abandon()


def _value(finished: Finished, attempts: Attempts, events: Events) -> Any:
    """Return the value of a segment; None if it is to be run again.

    Raises
    ------
    PipelineError : it failed, or lost its workers, too often
    """
    segment, result = finished.job.segment, finished.result
    if result is None:
        if finished.lost is not None and finished.blame:
            attempts.lose(segment, finished.lost)
        return None
    events.attempted(result)
    if result.failure is not None:
        attempts.fail(segment, result.failure)
        return None
    return next(iter(result.outputs.values()))


def in_background(start: Callable[[Callable[[], bool]], Generator[Any]], *, ahead: int) -> Generator[Any]:
    """Yield the values of a generator that a thread of its own reads ahead.

    The thread has ended, and the generator is closed, when this one is exhausted or closed.

    Parameters
    ----------
    start : returns the generator; takes a function that returns whether this one was closed
    """
    ready: queue.Queue[tuple[Any, BaseException | None, bool]] = queue.Queue(max(1, ahead))
    left = threading.Event()

    def put(value: Any, error: BaseException | None = None, *, last: bool = False) -> bool:
        while not left.is_set():
            try:
                ready.put((value, error, last), timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        values = start(left.is_set)
        try:
            for value in values:
                if not put(value):
                    break
                del value  # not kept until the next one is there
            else:
                put(None, last=True)
        except BaseException as error:  # noqa: BLE001  (raised where the values are read)
            put(None, error)
        finally:
            values.close()

    thread = threading.Thread(target=read, name="pipeline-batches", daemon=True)
    thread.start()
    try:
        while True:
            value, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            yield value
            del value
    finally:
        left.set()
        thread.join()
