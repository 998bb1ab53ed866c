"""The scheduler's side of the page ``/pipeline``: the steps as a graph, with their progress.

It is a plugin of the scheduler that counts, and two addresses on the scheduler's HTTP server: the page, and
``/pipeline/data.json``, which the page requests every second. :mod:`pipeline.backends.dask.dashboard_client` reports
the runs. Where the numbers come from:

* **done**, dropped: the reports that workers send with every segment, which list the tasks that were run. Dask's own
  counts are of segments, which may hold tasks of several steps. A segment that is run again, since its result was lost,
  is counted once.
* **running**: tasks of segments that the scheduler has assigned to a worker and that have not finished. Dask assigns
  more than there are threads, so some of them wait on the worker; the scheduler does not know which.
* **held**: bytes of the results in the workers' memory by Dask's ``sizeof``, by the step that made them. A result is
  counted once, though several workers may have it, and twice while it is taken apart.
* **retried**, failures and their messages: reported by the client, which masks secrets.
* **left**: the range of :mod:`pipeline.trace.time_left`, from the times of the tasks; earlier runs are unknown here.
"""

# A transition costs one look-up in a dict, also for tasks of others: measured, 5 us for each task of ours, where Dask
# takes 1,300 or more. When a run is over, everything but its counts is dropped. Rejected: a Bokeh page like Dask's own
# (a document for each viewer on the scheduler's event loop, and a canvas that holds no text); counting by Dask's task
# groups (segments again).
#
# Nothing in the page can be executed: text is inserted by ``textContent``, and the policy allows only its own script.

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
from pipeline.units import time_left_text

__all__ = ["PLUGIN", "begin", "end", "enter", "leave", "report_failures"]

PLUGIN = "pipeline-page"
_RUNS, _FAILURES = 6, 20  # number of runs that are kept, and of messages of each
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
    first: float = 0.0  # when its first and its last task ended, in seconds since the epoch
    last: float = 0.0


@dataclass
class _Run:
    """States: running -> done | failed | stopped | left.

    Parameters
    ----------
    outline : see :func:`begin`
    """

    outline: Mapping[str, Any]
    state: str = "running"
    began: float = field(default_factory=time.time)
    ended: float = 0.0
    failures: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=_FAILURES))

    def __post_init__(self) -> None:
        self.id, self.client = str(self.outline["run"]), str(self.outline["client"])
        self.boxes, self.paths, self.size = self.outline["boxes"], self.outline["paths"], self.outline["size"]
        self.steps = [_Step(name, n) for name, n in self.outline["steps"]]
        self.instances: Mapping[str, int] = self.outline["instances"]
        self._segments: Sequence[Sequence[int | None]] = self.outline["segments"]
        self._counts = [Counter(step for step in steps if step is not None) for steps in self._segments]
        self._ended = bytearray(len(self._segments))
        self._estimate = Estimate()
        self._estimate.begin(dict(self.outline["steps"]))

    def assigned(self, segment: int, sign: int) -> None:
        """Count the tasks of a segment as running (sign 1), or no longer (-1)."""
        for step, n in self._counts[segment].items():
            self.steps[step].running += sign * n

    def hold(self, step: int, nbytes: int) -> None:
        """Add to the bytes that a step holds in memory."""
        counts = self.steps[step]
        counts.held += nbytes
        counts.most = max(counts.most, counts.held)

    def report(self, message: Mapping[str, Any]) -> None:
        """Take the report of a segment that has ended on a worker."""
        segment = message["segment"]
        if message["failed"] is not None or self.state != "running" or self._ended[segment]:
            return
        self._ended[segment] = 1
        now, seconds = time.time(), Counter[int | None]()
        for position, start, stop, *_ in message["rows"]:
            seconds[self._segments[segment][position]] += stop - start
        not_done = Counter(self._segments[segment][position] for position in message["missing"])
        for step, n in (self._counts[segment] - not_done).items():
            counts = self.steps[step]
            counts.done, counts.first, counts.last = counts.done + n, counts.first or now, now
            self._estimate.finished(counts.name, n, seconds[step] / 1e9)
        for instance, *_ in message["dropped"]:
            self.steps[self.instances[instance]].dropped += 1

    def close(self, state: str) -> None:
        """End the run; everything but its counts is dropped."""
        self.state, self.ended = state, time.time()
        for step in self.steps:
            step.running = step.held = 0
        self.outline, self._segments, self._counts, self._ended = {}, (), [], bytearray()

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
        left = time_left_text(self._estimate.left()) if self.state == "running" else ""
        return {**self.summary(), **drawing, "steps": steps, "left": left, "failures": list(self.failures)}


class _Place:
    """What a Dask key of ours holds: the result of a segment (``main``), or a part of it.

    ``step`` is the step that made it, ``nbytes`` its size in memory.
    """

    __slots__ = ("main", "nbytes", "run", "segment", "step")

    def __init__(self, run: _Run, segment: int, step: int, main: bool) -> None:
        self.run, self.segment, self.step, self.main = run, segment, step, main
        self.nbytes = 0


# ---------------------------------------------------------------------------------------------------------------------
# All runs of a scheduler
# ---------------------------------------------------------------------------------------------------------------------


class _DashboardPlugin(SchedulerPlugin):
    """The runs of one scheduler, the latest last; removed when no client uses the page any more."""

    name = PLUGIN

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.users: set[str] = set()
        self.runs: dict[str, _Run] = {}
        self._places: dict[Any, _Place] = {}
        anywhere, arguments = "(?:/.*)?", {"plugin": self}  # the pages of a scheduler may have a prefix
        pages = [(f"{anywhere}/pipeline/?", _Page, arguments), (f"{anywhere}/pipeline/data.json", _Data, arguments)]
        self.application = Application(pages)

    def install(self) -> None:
        self.scheduler.add_plugin(self, name=PLUGIN)
        self.scheduler.http_application.applications.insert(0, self.application)

    def remove(self) -> None:
        self.scheduler.remove_plugin(PLUGIN)
        self.scheduler.http_application.applications.remove(self.application)

    def begin(self, outline: Mapping[str, Any]) -> None:
        run = _Run(outline)
        self.runs[run.id] = run
        for key, segment, step, main in outline["places"]:
            self._places[key] = _Place(run, segment, step, main)
        over = [other.id for other in self.runs.values() if other.state != "running"]
        for id_ in over[: max(0, len(self.runs) - _RUNS)]:
            del self.runs[id_]

    def end(self, run: _Run, state: str) -> None:
        if run.state == "running":
            for key, *_ in run.outline["places"]:
                self._places.pop(key, None)
            run.close(state)

    def leave(self, client: str) -> None:
        """Forget a client that has left or is gone; the page is removed with the last one."""
        if client not in self.users:
            return
        self.users.discard(client)
        for run in self.runs.values():
            if run.client == client:
                self.end(run, "left")
        if not self.users:
            self.remove()

    # Called by the scheduler

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
                place.run.assigned(place.segment, 1)
            elif start == "processing":
                place.run.assigned(place.segment, -1)

    def log_event(self, topic: str, msg: Any) -> None:
        if type(msg) is dict and "rows" in msg and (run := self.runs.get(msg.get("run", ""))) is not None:
            run.report(msg)

    def remove_client(self, scheduler: Any, client: str) -> None:
        self.leave(client)

    def restart(self, scheduler: Any) -> None:
        for run in self.runs.values():
            self.end(run, "left")

    # For the page

    def content(self, wanted: str) -> dict[str, Any]:
        """Return all runs in short, the latest first, and the details of one: the wanted one, else the latest."""
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
    def initialize(self, plugin: _DashboardPlugin) -> None:
        self.plugin = plugin

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
        self.finish(json.dumps(self.plugin.content(self.get_query_argument("run", "")), allow_nan=False))


def _hash(tag: str) -> str:
    """Return the hash of the script, or style, of the page, as the security policy names it."""
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
# Functions that a client runs on the scheduler
# ---------------------------------------------------------------------------------------------------------------------


def enter(client: str, *, dask_scheduler: Any) -> None:
    """Show the page for a client; several may share it."""
    plugin = dask_scheduler.plugins.get(PLUGIN)
    if plugin is None:
        plugin = _DashboardPlugin(dask_scheduler)
        plugin.install()
    plugin.users.add(client)


def leave(client: str, *, dask_scheduler: Any) -> None:
    """Take note that a client does not use the page any more."""
    plugin = dask_scheduler.plugins.get(PLUGIN)
    if plugin is not None:
        plugin.leave(client)


def begin(outline: Mapping[str, Any], *, dask_scheduler: Any) -> None:
    """Show a new run.

    Parameters
    ----------
    outline : ``run``, ``client``: their ids · ``steps``: name and number of tasks of each · ``boxes``, ``paths``,
        ``size``: see :func:`pipeline.backends.dask.dashboard_client.drawn` · ``instances``: step instance -> number of
        its step · ``segments``: for each the step of each of its tasks, None where it is not counted · ``places``: for
        each Dask key (key, segment, step that made what it holds, whether it is the segment itself)
    """
    dask_scheduler.plugins[PLUGIN].begin(outline)


def report_failures(
    run: str, retried: Mapping[str, int], failures: Sequence[Mapping[str, Any]], *, dask_scheduler: Any
) -> None:
    """Add to the failures of a run: the number of retries by step instance, and the messages."""
    plugin = dask_scheduler.plugins.get(PLUGIN)
    shown = plugin.runs.get(run) if plugin is not None else None
    if shown is not None:
        for instance, n in retried.items():
            if instance in shown.instances:
                shown.steps[shown.instances[instance]].retried += n
        for failure in failures:
            if failure["kind"] == "failed" and failure["step"] in shown.instances:
                shown.steps[shown.instances[failure["step"]]].failed += 1
        shown.failures.extend(failures)


def end(run: str, state: str, failure: Mapping[str, Any] | None, *, dask_scheduler: Any) -> None:
    """End a run: ``done``, ``failed`` or ``stopped``, and the failure that ended it."""
    plugin = dask_scheduler.plugins.get(PLUGIN)
    shown = plugin.runs.get(run) if plugin is not None else None
    if shown is None:
        return
    if failure is not None:
        shown.failures.append(failure)
        step = shown.instances.get(failure["step"])
        if step is not None:
            shown.steps[step].failed += 1
    plugin.end(shown, state)
