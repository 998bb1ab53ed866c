"""The page ``/pipeline`` of a Dask dashboard: the steps of the file as a graph, and how far each of them is.

This is the scheduler's side: a plugin that counts, and two addresses on the scheduler's own HTTP server, the page and
``/pipeline/data.json``, which the page asks for each second. :mod:`pipeline.backends.dask.dashboard_client` tells it
what is run.

Where the numbers come from:

* **done**, dropped: the reports that workers send with every segment, which name the tasks of the file that it ran.
  Dask's own counts are of segments, and a segment may hold tasks of several steps. A segment that is run again, since
  its result was lost, is counted once.
* **running**: tasks of segments that the scheduler has handed to a worker and that are not back. Dask hands out more
  than there are threads, so some of them wait on the worker; which these are the scheduler does not know.
* **held**: bytes of the results in the workers' memory as Dask's ``sizeof`` has them, by the step that made them; each
  once, though several workers may have it. While a segment's results are taken apart they count twice.
* **retried**, failures and their messages: told by the client, which masks what must not be shown.
* **left**: the range of time of :mod:`pipeline.trace.time_left`, by what the tasks took; earlier runs are not known
here.

A transition costs one look into a dict, for tasks of others too: measured, 5 us a task of ours in all, where Dask takes
1,300 or more. What is told of a run is forgotten when it is over, but for its counts. Rejected: a Bokeh page like
Dask's own (a document for each viewer on the scheduler's event loop, and a canvas that holds no text); counting by
Dask's task groups (segments again).

Nothing in the page can be run: text goes in by ``textContent``, and the policy allows the page's own script alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import pkgutil
import re
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed import SchedulerPlugin
from tornado.web import Application, RequestHandler

from pipeline.trace.time_left import Estimate

__all__ = ["PLUGIN", "begin", "end", "enter", "leave", "tell"]

PLUGIN = "pipeline-page"
_RUNS, _FAILURES = 6, 20  # kept: runs, and messages of each
_PAGE = (pkgutil.get_data(__package__, "dashboard_page.html") or b"").decode()


# ---------------------------------------------------------------------------------------------------------------------
# One run
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class _Step:
    name: str
    n_tasks: int
    done: int = 0
    running: int = 0
    retried: int = 0
    dropped: int = 0
    failed: int = 0
    held: int = 0  # bytes
    most: int = 0
    first: float = 0.0  # wall clock of its first and its last end
    last: float = 0.0


@dataclass
class _Run:
    """States: running -> done | failed | stopped | left.

    Parameters
    ----------
    told : see :func:`begin`
    """

    told: Mapping[str, Any]
    state: str = "running"
    began: float = field(default_factory=time.time)
    ended: float = 0.0
    failures: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=_FAILURES))

    def __post_init__(self) -> None:
        self.id, self.client = str(self.told["run"]), str(self.told["client"])
        self.boxes, self.paths, self.size = self.told["boxes"], self.told["paths"], self.told["size"]
        self.steps = [_Step(name, n) for name, n in self.told["steps"]]
        self.copies: Mapping[str, int] = self.told["copies"]
        self._segments: Sequence[Sequence[int | None]] = self.told["segments"]
        self._counts = [Counter(step for step in steps if step is not None) for steps in self._segments]
        self._over = bytearray(len(self._segments))
        self._estimate = Estimate()
        self._estimate.begin(dict(self.told["steps"]))

    def handed_out(self, segment: int, sign: int) -> None:
        for step, n in self._counts[segment].items():
            self.steps[step].running += sign * n

    def hold(self, step: int, nbytes: int) -> None:
        one = self.steps[step]
        one.held += nbytes
        one.most = max(one.most, one.held)

    def report(self, message: Mapping[str, Any]) -> None:
        """Take what a worker says of a segment that has ended."""
        segment = message["segment"]
        if message["failed"] is not None or self.state != "running" or self._over[segment]:
            return
        self._over[segment] = 1
        now, seconds = time.time(), Counter[int | None]()
        for position, start, stop, *_ in message["rows"]:
            seconds[self._segments[segment][position]] += stop - start
        for step, n in self._counts[segment].items():
            one = self.steps[step]
            one.done, one.first, one.last = one.done + n, one.first or now, now
            self._estimate.finished(one.name, n, seconds[step] / 1e9)
        for copy, *_ in message["dropped"]:
            self.steps[self.copies[copy]].dropped += 1

    def close(self, state: str) -> None:
        """It is over; what it takes to follow it is forgotten."""
        self.state, self.ended = state, time.time()
        for step in self.steps:
            step.running = step.held = 0
        self.told, self._segments, self._counts, self._over = {}, (), [], bytearray()

    def summary(self) -> dict[str, Any]:
        done, n_tasks = (sum(getattr(step, name) for step in self.steps) for name in ("done", "n_tasks"))
        return {"id": self.id, "state": self.state, "began": self.began, "ended": self.ended, "done": done,
                "n_tasks": n_tasks}  # fmt: skip

    def content(self) -> dict[str, Any]:
        steps = [
            {**vars(step), "running": min(step.running, step.n_tasks - step.done), "box": box}
            for step, box in zip(self.steps, self.boxes, strict=True)
        ]
        drawing = {"paths": self.paths, "size": self.size}
        left = self._estimate.left().text() if self.state == "running" else ""
        return {**self.summary(), **drawing, "steps": steps, "left": left, "failures": list(self.failures)}


class _Place:
    """What a Dask key of ours is: a segment of a run, or a part of its result."""

    __slots__ = ("main", "nbytes", "run", "segment", "step")

    def __init__(self, run: _Run, segment: int, step: int, main: bool) -> None:
        self.run, self.segment, self.step, self.main = run, segment, step, main
        self.nbytes = 0


# ---------------------------------------------------------------------------------------------------------------------
# All runs of a scheduler
# ---------------------------------------------------------------------------------------------------------------------


class _DashboardPlugin(SchedulerPlugin):
    """The runs of one scheduler, the latest last; on it as long as a client uses it."""

    name = PLUGIN

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.users: set[str] = set()
        self.runs: dict[str, _Run] = {}
        self._places: dict[Any, _Place] = {}
        anywhere, given = "(?:/.*)?", {"board": self}  # a scheduler's pages may have a prefix
        pages = [(f"{anywhere}/pipeline/?", _Page, given), (f"{anywhere}/pipeline/data.json", _Data, given)]
        self.application = Application(pages)

    def install(self) -> None:
        self.scheduler.add_plugin(self, name=PLUGIN)
        self.scheduler.http_application.applications.insert(0, self.application)

    def remove(self) -> None:
        self.scheduler.remove_plugin(PLUGIN)
        self.scheduler.http_application.applications.remove(self.application)

    def begin(self, told: Mapping[str, Any]) -> None:
        run = _Run(told)
        self.runs[run.id] = run
        for key, segment, step, main in told["places"]:
            self._places[key] = _Place(run, segment, step, main)
        over = [one.id for one in self.runs.values() if one.state != "running"]
        for id_ in over[: max(0, len(self.runs) - _RUNS)]:
            del self.runs[id_]

    def end(self, run: _Run, state: str) -> None:
        if run.state == "running":
            for key, *_ in run.told["places"]:
                self._places.pop(key, None)
            run.close(state)

    def leave(self, client: str) -> None:
        """A client is gone, in order or not; the last one takes the page with it."""
        if client not in self.users:
            return
        self.users.discard(client)
        for run in self.runs.values():
            if run.client == client:
                self.end(run, "left")
        if not self.users:
            self.remove()

    # What the scheduler calls

    def transition(self, key: Any, start: str, finish: str, *args: Any, **_: Any) -> None:
        place = self._places.get(key)
        if place is None:
            return
        if finish == "memory":
            nbytes = self.scheduler.tasks[key].get_nbytes()
            place.run.hold(place.step, nbytes - place.nbytes)
            place.nbytes = nbytes
        elif start == "memory":
            place.run.hold(place.step, -place.nbytes)
            place.nbytes = 0
        if place.main:
            if finish == "processing":
                place.run.handed_out(place.segment, 1)
            elif start == "processing":
                place.run.handed_out(place.segment, -1)

    def log_event(self, topic: str, msg: Any) -> None:
        if type(msg) is dict and "rows" in msg and (run := self.runs.get(msg.get("run", ""))) is not None:
            run.report(msg)

    def remove_client(self, scheduler: Any, client: str) -> None:
        self.leave(client)

    def restart(self, scheduler: Any) -> None:
        for run in self.runs.values():
            self.end(run, "left")

    # What the page is told

    def content(self, wanted: str) -> dict[str, Any]:
        """All runs in short, the latest first, and one of them whole: the wanted one, else the latest."""
        runs = list(reversed(self.runs.values()))
        shown = self.runs.get(wanted) or next(iter(runs), None)
        return {
            "now": time.time(),
            "workers": len(self.scheduler.workers),
            "threads": sum(worker.nthreads for worker in self.scheduler.workers.values()),
            "runs": [run.summary() for run in runs],
            "run": shown.content() if shown is not None else None,
        }


class _Handler(RequestHandler):
    def initialize(self, board: _DashboardPlugin) -> None:
        self.board = board

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)


class _Page(_Handler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(_PAGE)


class _Data(_Handler):
    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(self.board.content(self.get_query_argument("run", "")), allow_nan=False))


def _hash(tag: str) -> str:
    """The one script, or style, of the page, as the policy names it."""
    inner = re.search(f"<{tag}>(.*?)</{tag}>", _PAGE, re.DOTALL)
    digest = hashlib.sha256(inner[1].encode() if inner else b"").digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; script-src {_hash('script')}; style-src {_hash('style')}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


# ---------------------------------------------------------------------------------------------------------------------
# What a client has run on the scheduler
# ---------------------------------------------------------------------------------------------------------------------


def enter(client: str, *, dask_scheduler: Any) -> None:
    """Have the page there for a client; several may share it."""
    board = dask_scheduler.plugins.get(PLUGIN)
    if board is None:
        board = _DashboardPlugin(dask_scheduler)
        board.install()
    board.users.add(client)


def leave(client: str, *, dask_scheduler: Any) -> None:
    """A client uses the page no longer."""
    board = dask_scheduler.plugins.get(PLUGIN)
    if board is not None:
        board.leave(client)


def begin(told: Mapping[str, Any], *, dask_scheduler: Any) -> None:
    """A run begins.

    Parameters
    ----------
    told : ``run``, ``client``: their ids · ``steps``: name and number of tasks of each · ``boxes``, ``paths``,
        ``size``: see :func:`pipeline.backends.dask.dashboard_client.drawn` · ``copies``: copy -> number of its step ·
        ``segments``:
        for each the step of each of its tasks, None where it is not counted · ``places``: for each Dask key (key,
        segment, step that made what it holds, whether it is the segment itself)
    """
    dask_scheduler.plugins[PLUGIN].begin(told)


def tell(run: str, retried: Mapping[str, int], failures: Sequence[Mapping[str, Any]], *, dask_scheduler: Any) -> None:
    """Something went wrong in a run: retries by copy of a step, and the messages."""
    board = dask_scheduler.plugins.get(PLUGIN)
    one = board.runs.get(run) if board is not None else None
    if one is not None:
        for copy, n in retried.items():
            if copy in one.copies:
                one.steps[one.copies[copy]].retried += n
        one.failures.extend(failures)


def end(run: str, state: str, failure: Mapping[str, Any] | None, *, dask_scheduler: Any) -> None:
    """A run is over: ``done``, ``failed`` or ``stopped``, and what failed."""
    board = dask_scheduler.plugins.get(PLUGIN)
    one = board.runs.get(run) if board is not None else None
    if one is None:
        return
    if failure is not None:
        one.failures.append(failure)
        step = one.copies.get(failure["step"])
        if step is not None:
            one.steps[step].failed += 1
    board.end(one, state)
