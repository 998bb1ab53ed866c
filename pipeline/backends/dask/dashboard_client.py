"""The client's side of the page ``/pipeline``: reports runs to the scheduler that shows it.

No run fails because of the page: what goes wrong with it becomes a note. Failures of tasks are sent a few times a
second at most, without waiting for an answer.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from distributed import Client

from pipeline.backends.dask import dashboard_page
from pipeline.backends.dask.health import ask, in_loop
from pipeline.backends.dask.keys import Plan
from pipeline.backends.events import Event, ItemDropped, Listener, Note, TaskFailed, TaskRetry, WorkerLoss
from pipeline.errors import BackendError
from pipeline.graph.drawing_layout import Sizes, place_boxes
from pipeline.graph.graph import Graph
from pipeline.graph.nodes import dependencies, is_constant
from pipeline.worker.tracebacks import one_line

__all__ = ["DashboardClient"]

_LONGEST = 2_000  # characters of a message
_FEW = 12  # steps up to which boxes are high: all of them still fit on a screen
_HIGH = Sizes(width=1_200, height=74, between=30, narrowest=196, letter=8.8)
_LOW = Sizes(width=1_200, height=42, between=22, narrowest=168, letter=7.9)


class DashboardClient:
    """The page of one open back end. States: off -> on -> off; while it is off, its methods do nothing.

    Parameters
    ----------
    masked : removes secrets from a text
    """

    def __init__(self, masked: Callable[[Any], Any] | None = None) -> None:
        self._masked = masked or (lambda text: text)
        self._client: Client | None = None
        self._problem = ""
        self._run = ""
        self._retried: Counter[str] = Counter()
        self._failures: deque[Mapping[str, Any]] = deque(maxlen=20)

    def open(self, client: Client) -> bool:
        """Have the scheduler show the page; return whether it does."""
        try:
            ask(client, "run_on_scheduler", dashboard_page.enter, client.id)
        except Exception as error:  # noqa: BLE001 - unpickling on the scheduler may raise anything
            self._problem = f"no page of the steps: {one_line(error)}"
            return False
        self._client = client
        return True

    def close(self) -> None:
        """Remove the page from the scheduler, unless others use it."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # the page is removed with its client anyway
                ask(client, "run_on_scheduler", dashboard_page.leave, client.id, timeout=3)

    def begin(self, graph: Graph, plan: Plan, run: str) -> None:
        """Show a new run."""
        if self._client is None:
            return
        self._run = run
        self._retried.clear()
        self._failures.clear()
        try:
            ask(self._client, "run_on_scheduler", dashboard_page.begin, outline(graph, plan, run, self._client.id))
        except Exception as error:  # noqa: BLE001 - as above
            self._problem, self._client = f"no page of the steps: {one_line(error)}", None

    def observing(self, listener: Listener) -> Listener:
        """Return a listener that calls ``listener``, and sends failures to the page as well."""
        if self._problem:
            listener(Note(self._problem))
            self._problem = ""
        if self._client is None:
            return listener

        def observe(event: Event) -> None:
            listener(event)
            if isinstance(event, TaskRetry):
                self._retried[event.step] += 1
                self._failures.append(self._failure("retried", event.step, event.item, event.message, event.key))
            elif isinstance(event, TaskFailed):
                self._failures.append(self._failure("failed", event.step, event.item, event.message, event.key))
            elif isinstance(event, ItemDropped):
                self._failures.append(self._failure("dropped", event.step, event.item, event.message))
            elif isinstance(event, WorkerLoss):
                self._failures.append(self._failure("worker lost", event.step, event.item, event.message, event.key))

        return observe

    def flush(self) -> None:
        """Send the failures since the last call; to be called often."""
        if self._client is not None and (self._failures or self._retried):
            arguments = self._run, dict(self._retried), list(self._failures)
            self._retried.clear()
            self._failures.clear()
            in_loop(self._client, functools.partial(_send, self._client, dashboard_page.report_failures, *arguments))

    @contextlib.contextmanager
    def run_shown(self) -> Iterator[None]:
        """Show how the run within the block ended."""
        try:
            yield
        except Exception as error:
            self._end("failed", error)
            raise
        except BaseException:
            self._end("stopped", None)
            raise
        self._end("done", None)

    def _end(self, state: str, error: Exception | None) -> None:
        self.flush()
        client, run, self._run = self._client, self._run, ""
        if client is None or not run:
            return
        failure = None
        if error is not None:
            step, key, item = (str(getattr(error, name, "")) for name in ("step", "key", "item"))
            failure = self._failure("failed", step, item, str(getattr(error, "cause", error)), key)
        if isinstance(error, BackendError):  # it may not answer
            in_loop(client, functools.partial(_send, client, dashboard_page.end, run, state, failure))
            return
        with contextlib.suppress(Exception):
            ask(client, "run_on_scheduler", dashboard_page.end, run, state, failure, timeout=3)

    def _failure(self, kind: str, step: str, item: str, message: str, key: str = "") -> dict[str, Any]:
        texts = {"step": step, "key": key, "item": item, "message": message}
        return {"kind": kind, "at": time.time()} | {k: str(self._masked(v))[:_LONGEST] for k, v in texts.items()}


async def _send(client: Client, function: Callable[..., Any], *arguments: Any) -> None:
    with contextlib.suppress(Exception):  # no run fails because of the page
        await client.run_on_scheduler(function, *arguments)


def outline(graph: Graph, plan: Plan, run: str, client: str) -> dict[str, Any]:
    """Return the argument of :func:`pipeline.backends.dask.dashboard_page.begin` for a graph. O(tasks + edges).

    Steps are in the order of the file; those whose tasks are all constants are left out.
    """
    step_of = {instance: policy.step for instance, policy in graph.policies.items()}
    tasks = {key: node for key, node in graph.tasks.items() if not is_constant(node)}
    used = Counter(step_of[graph.owners[key]] for key in tasks)
    number = {name: i for i, name in enumerate(name for name in dict.fromkeys(step_of.values()) if name in used)}
    owner = {key: number[step_of[graph.owners[key]]] for key in tasks}
    edges: dict[tuple[int, int], None] = {}
    for key, node in tasks.items():
        edges |= {(owner[other], owner[key]): None for other in dependencies(node) if other in owner}
    names = list(number)
    segments: dict[int, list[int | None]] = {}
    places = []
    held = {holder: key for key, (holder, _) in reversed(list(plan.places.items()))}
    for key, segment in plan.segments.items():
        main = segment.number not in segments
        if main:
            segments[segment.number] = [owner.get(task.key) for task in segment.tasks]
        step = owner.get(held.get(key, ""), number.get(segment.step))
        if step is not None:
            places.append((key, segment.number, step, main))
    return {
        "run": run,
        "client": client,
        "steps": [(name, used[name]) for name in number],
        **drawn(names, [(names[a], names[b]) for a, b in edges]),
        "instances": {instance: number[name] for instance, name in step_of.items() if name in number},
        "segments": [segments[i] for i in sorted(segments)],
        "places": places,
    }


def drawn(steps: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the drawing of the steps, in pixels: ``boxes``, one for each step, ``paths``, and ``size``."""
    drawing = place_boxes(steps, edges, _HIGH if len(steps) <= _FEW else _LOW)
    boxes = [{k: v for k, v in asdict(box).items() if k != "step"} for box in drawing.boxes]
    return {"boxes": boxes, "paths": drawing.paths, "size": (drawing.width, drawing.height)}
