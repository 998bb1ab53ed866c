"""What a run shows while it goes on: a live table, plain lines, or one JSON event a line.

All three are listeners (:data:`pipeline.backends.base.Listener`) with the same members: ``begin(graph)`` when the
Graph is known, a call per :class:`~pipeline.backends.base.Event`, ``close()`` at the end. A step has one line, its
copies together. Counting is cheap (two dict entries an event) and drawing is on a clock of its own, so a run of 100,000
tasks is not slowed down by being watched.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from pipeline.report.terminal import duration

if TYPE_CHECKING:
    from pipeline.backends.base import Event
    from pipeline.graph import Graph

__all__ = ["Counts", "JsonLines", "LiveTable", "PlainLines", "Progress", "Step", "dumps", "listener_for", "step_lines"]

_MINUTE = 60.0


class Progress(Protocol):
    """Something that shows how a run goes; a context manager that leaves the terminal as it was."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    @property
    def counts(self) -> Counts: ...

    def begin(self, graph: Graph) -> None: ...

    def __call__(self, event: Event) -> None: ...


@dataclass
class Step:
    """How far one step is, all its copies together; times are of the clock that the counts use."""

    name: str
    n_tasks: int
    n_items: int = 0
    done: int = 0
    retried: int = 0
    dropped: int = 0
    first: float | None = None
    last: float | None = None

    @property
    def ended(self) -> bool:
        return self.done >= self.n_tasks

    @property
    def elapsed(self) -> float:
        """Seconds between its first and its last finished task."""
        return 0.0 if self.first is None or self.last is None else self.last - self.first

    def units(self) -> tuple[int, int]:
        """Done, and in all: items where it makes some, of which one with parts is several tasks; else tasks."""
        each = max(1, self.n_tasks // self.n_items) if self.n_items else 1
        return self.done // each, self.n_tasks // each

    def extras(self) -> str:
        """What else happened: retries and dropped items."""
        said = [f"{n} {what}" for n, what in ((self.retried, "retried"), (self.dropped, "dropped")) if n]
        return ", ".join(said)


@dataclass
class Counts:
    """How many tasks of each step are done. States: nothing known -> begun -> all ended; one run long.

    Parameters
    ----------
    clock : seconds, monotonic
    """

    clock: Callable[[], float] = time.perf_counter
    steps: dict[str, Step] = field(default_factory=dict)
    _step_of: dict[str, str] = field(default_factory=dict)

    def begin(self, graph: Graph) -> None:
        """Learn the steps, in the order of the file, and their numbers of tasks (constants cost nothing: left out)."""
        from pipeline.graph import is_constant

        self._step_of = {copy: policy.step for copy, policy in graph.policies.items()}
        for copy, name in self._step_of.items():
            self.steps.setdefault(name, Step(name, 0)).n_items += len(graph.policies[copy].items or ())
        for key, node in graph.tasks.items():
            if not is_constant(node):
                self.steps[self._step_of[graph.owners[key]]].n_tasks += 1
        for name in [name for name, step in self.steps.items() if not step.n_tasks]:
            del self.steps[name]

    def count(self, event: Event) -> Step | None:
        """Take one event into account; gives the step that this event ended."""
        step = self.of(event.step)
        if step is None:
            return None
        if event.kind == "task":
            return step if self._finished(step, event.count) else None
        if event.kind == "retry":
            step.retried += event.count
        elif event.kind == "dropped":
            step.dropped += event.count
        return None

    def _finished(self, step: Step, n: int) -> bool:
        step.last = self.clock()
        step.first = step.last if step.first is None else step.first
        was = step.ended
        step.done = min(step.done + n, step.n_tasks)  # a task that a lost worker had done is done twice
        return step.ended and not was

    def of(self, copy: str) -> Step | None:
        """The step that a copy is of; None where it has no tasks."""
        return self.steps.get(self._step_of.get(copy, copy))

    @property
    def n_tasks(self) -> int:
        return sum(step.n_tasks for step in self.steps.values())

    @property
    def done(self) -> int:
        return sum(step.done for step in self.steps.values())


class PlainLines:
    """For files and pipes: a line when a step ends, one for each thing out of the ordinary, and one a minute."""

    def __init__(self, file: IO[str], *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._file, self._clock = file, clock
        self.counts = Counts(clock)
        self._began = self._spoke = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.flush()

    def begin(self, graph: Graph) -> None:
        self.counts.begin(graph)

    def __call__(self, event: Event) -> None:
        ended = self.counts.count(event)
        if ended is not None:
            extras = f" ({ended.extras()})" if ended.extras() else ""
            self._say(f"{ended.name}: {ended.n_tasks:,} tasks done{extras}")
        elif event.kind not in ("task", "retry", "dropped"):
            self._say(_told(event))
        elif self._clock() - self._spoke >= _MINUTE:
            self._say(f"{self.counts.done:,} of {self.counts.n_tasks:,} tasks done")

    def _say(self, text: str) -> None:
        self._spoke = self._clock()
        print(f"{duration(self._spoke - self._began):>10}  {text}", file=self._file, flush=True)


class JsonLines:
    """For programs: one event a line; ``task`` lines are thinned to a few a second a step, the last of each told."""

    def __init__(self, file: IO[str], *, every: float = 0.2, clock: Callable[[], float] = time.perf_counter) -> None:
        self._file, self._every, self._clock = file, every, clock
        self.counts = Counts(clock)
        self._told: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.flush()

    def begin(self, graph: Graph) -> None:
        self.counts.begin(graph)
        steps = {step.name: step.n_tasks for step in self.counts.steps.values()}
        self.emit("graph", fingerprint=graph.fingerprint, n_tasks=len(graph), steps=steps)

    def __call__(self, event: Event) -> None:
        ended = self.counts.count(event)
        if event.kind == "task":
            self._task(event, ended)
            return
        named = {"step": event.step, "key": event.key, "item": event.item, "message": event.message}
        self.emit(event.kind, **{k: v for k, v in named.items() if v})

    def _task(self, event: Event, ended: Step | None) -> None:
        step = ended or self.counts.of(event.step)
        now = self._clock()
        if step is None or (ended is None and now - self._told.get(step.name, -1e9) < self._every):
            return
        self._told[step.name] = now
        self.emit("progress", step=step.name, done=step.done, n_tasks=step.n_tasks)

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event; strict JSON, so not-a-number becomes null."""
        print(dumps({"event": event, **fields}), file=self._file, flush=True)


class LiveTable:
    """For terminals: a line a step that is drawn four times a second, at most as many as the terminal has."""

    def __init__(self, file: IO[str], *, clock: Callable[[], float] = time.perf_counter) -> None:
        from rich.console import Console
        from rich.live import Live

        self.counts = Counts(clock)
        self._lock = threading.Lock()
        self._console = Console(file=file)
        self._live = Live(get_renderable=self._drawn, console=self._console, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def begin(self, graph: Graph) -> None:
        with self._lock:
            self.counts.begin(graph)

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.counts.count(event)
        if event.kind not in ("task", "retry", "dropped"):
            self._live.console.print(_told(event), markup=False, highlight=False)

    def _drawn(self) -> Any:
        from rich.text import Text

        with self._lock:
            lines = step_lines(
                list(self.counts.steps.values()), height=self._console.height - 2, width=self._console.width
            )
        return Text("\n".join(lines))


def step_lines(steps: list[Step], *, height: int, width: int) -> list[str]:
    """A line a step, no more than ``height``: the running ones first, then the next, then what ended last.

    The lines stay in the order of the file; a last line says how many are not shown.
    """
    height = max(2, height)
    shown = steps
    if len(steps) > height:
        rank = sorted(steps, key=_interest)[: height - 1]
        chosen = {step.name for step in rank}
        shown = [step for step in steps if step.name in chosen]
    name_width = min(max((len(step.name) for step in shown), default=0), max(8, width // 3))
    count_width = max((len(f"{step.n_tasks:,}") for step in shown), default=1)
    lines = [_step_line(step, name_width, count_width, width) for step in shown]
    hidden = len(steps) - len(shown)
    if hidden:
        ended = sum(step.ended for step in steps if step not in shown)
        lines.append(f"… {hidden} more steps, {ended} of them done"[:width])
    return lines


def _interest(step: Step) -> tuple[int, float]:
    if step.done and not step.ended:
        return (0, 0.0)
    return (2, -(step.last or 0.0)) if step.ended else (1, 0.0)


def _step_line(step: Step, name_width: int, count_width: int, width: int) -> str:
    name = step.name if len(step.name) <= name_width else f"{step.name[: name_width - 1]}…"
    tail = f" {step.done:>{count_width},}/{step.n_tasks:>{count_width},}  {duration(step.elapsed):>8}"
    extras = f"  {step.extras()}" if step.extras() else ""
    room = max(4, min(40, width - name_width - len(tail) - len(extras) - 2))
    full = room * step.done // step.n_tasks if step.n_tasks else room
    return f"{name:<{name_width}} {'━' * full}{'╌' * (room - full)}{tail}{extras}"[:width]


def _told(event: Event) -> str:
    if event.message.startswith(("dashboard", "pipeline")):
        return event.message
    where = f"{event.step}[{event.item}]" if event.item and event.step else event.step
    return ": ".join(part for part in ("" if event.kind == "note" else event.kind, where, event.message) if part)


def dumps(value: Any) -> str:
    """One line of strict JSON; nan and infinity become null, what JSON can't say becomes its text."""
    return json.dumps(_strict(value), default=str, allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(k): _strict(v) for k, v in value.items()}
    return [_strict(v) for v in value] if isinstance(value, (list, tuple)) else value


def listener_for(file: IO[str], *, as_json: bool) -> LiveTable | PlainLines | JsonLines:
    """The listener that suits where the text goes."""
    if as_json:
        return JsonLines(file)
    return LiveTable(file) if file.isatty() else PlainLines(file)
