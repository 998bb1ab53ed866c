"""What a run shows while it goes on: a live table, plain lines, or one JSON event a line.

All three are listeners (:class:`pipeline.backends.events.Listener`) with the same members: ``begin(graph)`` when the
Graph is known, a call per :data:`~pipeline.backends.events.Event`, ``close()`` at the end. A step has one line, its
copies together. Counting is cheap (a few additions an event) and drawing is on a clock of its own, so a run of 100,000
tasks is not slowed down by being watched.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from pipeline.backends.events import Event, OutputLine, TasksDone
from pipeline.config.resolved_yaml import without_nan
from pipeline.report.progress_counts import COUNTED, Counts, Step
from pipeline.report.progress_lines import Outspoken, table_lines, told
from pipeline.units import duration_text

if TYPE_CHECKING:
    from pipeline.graph.graph import Graph


__all__ = ["Counts", "JsonLines", "LiveTable", "OddLines", "PlainLines", "Progress", "dumps", "listener_for"]

_MINUTE = 60.0


class Progress(Protocol):
    """Something that shows how a run goes; a context manager that leaves the terminal as it was."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    @property
    def counts(self) -> Counts: ...

    def begin(self, graph: Graph) -> None: ...

    def __call__(self, event: Event) -> None: ...


class PlainLines:
    """For files and pipes: a line when a step ends, one for each thing out of the ordinary, and one a minute.

    Parameters
    ----------
    beat : seconds between two looks at whether a minute is over, in a thread, so that a task of an hour is no silence;
        None: only as things happen
    clock : seconds, monotonic
    runs : where the folders of earlier runs are, for what is said of the time left
    """

    def __init__(
        self,
        file: IO[str],
        *,
        beat: float | None = 1.0,
        clock: Callable[[], float] = time.perf_counter,
        runs: str | Path | None = None,
    ) -> None:
        self._file, self._clock = file, clock
        self.counts = Counts(clock, runs)
        self._began = self._spoke = clock()
        self._outspoken = Outspoken()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(beat,), daemon=True) if beat is not None else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        for line in self._outspoken.summary():
            self._say(line)
        self._file.flush()

    def begin(self, graph: Graph) -> None:
        with self._lock:
            self.counts.begin(graph)

    def __call__(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, OutputLine):
                line = self._outspoken.line(event, self.counts.name_of(event.step))
                if line is not None:
                    self._say(line)
                return
            ended = self.counts.count(event)
            if ended is not None:
                extras = f" ({ended.extras()})" if ended.extras() else ""
                self._say(f"{ended.name}: {ended.n_tasks:,} tasks done{extras}")
            elif not isinstance(event, COUNTED):
                self._say(told(event))
        self.tick()

    def tick(self) -> None:
        """Say how far it is, if nothing was said for a minute."""
        with self._lock:
            if self.counts.steps and self._clock() - self._spoke >= _MINUTE:
                left = self.counts.left().text()
                self._say(f"{self.counts.done:,} of {self.counts.n_tasks:,} tasks done{f'; {left}' if left else ''}")

    def _look(self, beat: float) -> None:
        while not self._over.wait(beat):
            self.tick()

    def _say(self, text: str) -> None:
        self._spoke = self._clock()
        print(f"{duration_text(self._spoke - self._began):>10}  {text}", file=self._file, flush=True)


class OddLines:
    """For what is computed to be looked at: what tasks write, and what is out of the ordinary, but no progress."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.counts = Counts()
        self._outspoken = Outspoken(kept="")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for line in self._outspoken.summary():
            print(line, file=self._file)
        self._file.flush()

    def begin(self, graph: Graph) -> None:
        self.counts.begin(graph)

    def __call__(self, event: Event) -> None:
        self.counts.count(event)
        line: str | None = None
        if isinstance(event, OutputLine):
            line = self._outspoken.line(event, self.counts.name_of(event.step))
        elif not isinstance(event, COUNTED):
            line = told(event)
        if line is not None:
            print(line, file=self._file, flush=True)


class JsonLines:
    """For programs: one event a line; ``task`` lines are thinned to a few a second a step, the last of each told.

    An ``output`` event is a line that a task wrote: ``step``, ``item``, ``worker``, ``stream``, ``when`` (seconds since
    the epoch), ``line``. A ``progress`` event says of the whole run what is left: ``eta_low`` and ``eta_high``,
    seconds, null where it is not known; ``eta_low`` alone is a lower bound.
    """

    def __init__(
        self,
        file: IO[str],
        *,
        every: float = 0.2,
        clock: Callable[[], float] = time.perf_counter,
        runs: str | Path | None = None,
    ) -> None:
        self._file, self._every, self._clock = file, every, clock
        self.counts = Counts(clock, runs)
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
        if isinstance(event, TasksDone):
            self._task(event, ended)
            return
        if isinstance(event, OutputLine):
            self.emit("output", step=event.step, item=event.item, worker=event.worker, stream=event.stream,
                      when=event.when, line=event.message)  # fmt: skip
            return
        self.emit(event.kind, **{name: value for name, value in vars(event).items() if value})

    def _task(self, event: TasksDone, ended: Step | None) -> None:
        step = ended or self.counts.of(event.step)
        now = self._clock()
        if step is None or (ended is None and now - self._told.get(step.name, -1e9) < self._every):
            return
        self._told[step.name] = now
        left = self.counts.left()
        self.emit(
            "progress", step=step.name, done=step.done, n_tasks=step.n_tasks, eta_low=left.low, eta_high=left.high
        )

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event; strict JSON, so not-a-number becomes null."""
        print(dumps({"event": event, **fields}), file=self._file, flush=True)


class LiveTable:
    """For terminals: a line a step that is drawn four times a second, at most as many as the terminal has."""

    def __init__(
        self, file: IO[str], *, clock: Callable[[], float] = time.perf_counter, runs: str | Path | None = None
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self.counts = Counts(clock, runs)
        self._lock = threading.Lock()
        self._outspoken = Outspoken()
        self._console = Console(file=file)
        self._live = Live(get_renderable=self._drawn, console=self._console, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self.counts.fail(exc[1] if len(exc) > 1 else None)
        for line in self._outspoken.summary():
            self._show(line)
        self._live.stop()

    def begin(self, graph: Graph) -> None:
        with self._lock:
            self.counts.begin(graph)

    def __call__(self, event: Event) -> None:
        if isinstance(event, OutputLine):
            line = self._outspoken.line(event, self.counts.name_of(event.step))
            if line is not None:
                self._show(line)
            return
        with self._lock:
            self.counts.count(event)
        if not isinstance(event, COUNTED):
            self._show(told(event))

    def _show(self, line: str) -> None:
        """A line above the table."""
        self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _drawn(self) -> Any:
        from rich.text import Text

        with self._lock:
            lines = table_lines(self.counts, height=self._console.height - 1, width=self._console.width)
        return Text("\n".join(lines), no_wrap=True)


def dumps(value: Any) -> str:
    """One line of strict JSON; nan and infinity become null, what JSON can't say becomes its text."""
    return json.dumps(without_nan(value), default=str, allow_nan=False)


def listener_for(file: IO[str], *, as_json: bool, runs: str | Path | None = None) -> LiveTable | PlainLines | JsonLines:
    """The listener that suits where the text goes; ``runs`` is where the folders of earlier runs are."""
    if as_json:
        return JsonLines(file, runs=runs)
    return LiveTable(file, runs=runs) if file.isatty() else PlainLines(file, runs=runs)
