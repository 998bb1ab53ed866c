"""Progress displays of a run: a live table, plain lines, or one JSON event per line.

All are listeners (:class:`pipeline.backends.events.Listener`) and context managers: ``begin(graph)`` is called when the
Graph is known, then the listener for each :data:`~pipeline.backends.events.Event`. All instances of a step have one
line. An event costs a few additions, and drawing has a clock of its own, so 100,000 tasks are not slowed down.

Rejected: ``rich.progress.Progress``, which neither sorts and limits its rows nor shows a range of time left.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from pipeline.backends.events import Event, MetadataRead, OutputLine, TasksDone
from pipeline.config.json_values import without_nan
from pipeline.report.metadata_line import MetadataLine, metadata_text
from pipeline.report.people_stream import PeopleStream
from pipeline.report.progress_counts import COUNTED, Counts, Step
from pipeline.report.progress_lines import LineLimit, event_line, table_lines
from pipeline.units import count_text, duration_text, time_left_text

if TYPE_CHECKING:
    from pipeline.graph.graph import Graph


__all__ = ["Counts", "EventLines", "JsonLines", "LiveTable", "PlainLines", "Progress", "dumps", "listener_for"]

_MINUTE = 60.0
_METADATA = 10.0  # seconds between two lines about metadata that are read


class Progress(Protocol):
    """A progress display; a context manager that leaves the terminal as it was."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    @property
    def counts(self) -> Counts: ...

    def begin(self, graph: Graph) -> None: ...

    def __call__(self, event: Event) -> None: ...


class PlainLines:
    """Lines for files and pipes: one when a step ends, one for each unusual event, and one per minute.

    Parameters
    ----------
    beat : seconds between checks, in a thread, whether a minute has passed, so that long tasks cause no silence; None
        for checks at events only
    clock : seconds, monotonic
    runs : folder with the folders of earlier runs, for the time left
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
        self._began = self._printed = clock()
        self._read = False  # whether a line about metadata was printed
        self._limit = LineLimit()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(beat,), daemon=True) if beat is not None else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        for line in self._limit.summary():
            self._print(line)
        self._file.flush()

    def begin(self, graph: Graph) -> None:
        with self._lock:
            self.counts.begin(graph)

    def __call__(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, MetadataRead):
                self._metadata(event)
                return
            if isinstance(event, OutputLine):
                line = self._limit.line(event, self.counts.name_of(event.step))
                if line is not None:
                    self._print(line)
                return
            ended = self.counts.count(event)
            if not isinstance(event, COUNTED):
                self._print(event_line(event))
            if ended is not None:
                extras = f" ({ended.extras()})" if ended.extras() else ""
                part = f"{ended.done:,} of " if ended.failed else ""
                self._print(f"{ended.name}: {part}{count_text(ended.n_tasks, 'task')} done{extras}")
        self.tick()

    def _metadata(self, event: MetadataRead) -> None:
        if event.done < event.n_files and not (self._read and self._clock() - self._printed < _METADATA):
            self._read = True
            self._print(metadata_text(event))

    def tick(self) -> None:
        """Print the progress if nothing was printed for a minute."""
        with self._lock:
            if self.counts.steps and self._clock() - self._printed >= _MINUTE:
                left = time_left_text(self.counts.left())
                done = f"{self.counts.done:,} of {count_text(self.counts.n_tasks, 'task')} done"
                self._print(f"{done}; {left}" if left else done)

    def _beat(self, beat: float) -> None:
        while not self._over.wait(beat):
            self.tick()

    def _print(self, text: str) -> None:
        self._printed = self._clock()
        print(f"{duration_text(self._printed - self._began):>10}  {text}", file=self._file, flush=True)


class EventLines:
    """Lines for ``show`` and ``debug``: what tasks print, and unusual events, but no progress."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.counts = Counts()
        self._metadata = MetadataLine(file)
        self._limit = LineLimit(kept="")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._metadata.clear()
        for line in self._limit.summary():
            print(line, file=self._file)
        self._file.flush()

    def begin(self, graph: Graph) -> None:
        self.counts.begin(graph)

    def __call__(self, event: Event) -> None:
        self._metadata(event)
        if isinstance(event, MetadataRead):
            return
        self.counts.count(event)
        line: str | None = None
        if isinstance(event, OutputLine):
            line = self._limit.line(event, self.counts.name_of(event.step))
        elif not isinstance(event, COUNTED):
            line = event_line(event)
        if line is not None:
            print(line, file=self._file, flush=True)


class JsonLines:
    """JSON for programs, one event per line.

    ``progress`` events of a step are limited to a few per second; the one that ends the step is always written.
    ``eta_low`` and ``eta_high`` bound the time left of the whole run, in seconds, null if not known; ``eta_low`` alone
    is a lower bound. An ``output`` event is a line that a task printed: ``step``, ``item``, ``worker``, ``stream``,
    ``when`` (seconds since the epoch), ``line``.
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
        self._written: dict[str, float] = {}

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
        if isinstance(event, MetadataRead):
            self.emit(event.kind, done=event.done, n_files=event.n_files)
            return
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
        if step is None or (ended is None and now - self._written.get(step.name, -1e9) < self._every):
            return
        self._written[step.name] = now
        left = self.counts.left()
        self.emit(
            "progress", step=step.name, done=step.done, n_tasks=step.n_tasks, eta_low=left.low, eta_high=left.high
        )

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event as strict JSON; nan becomes null."""
        print(dumps({"event": event, **fields}), file=self._file, flush=True)


class LiveTable:
    """A table for terminals, drawn four times a second: a line for each step, as far as the terminal has room."""

    def __init__(
        self, file: IO[str], *, clock: Callable[[], float] = time.perf_counter, runs: str | Path | None = None
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self.counts = Counts(clock, runs)
        self._lock = threading.Lock()
        self._limit = LineLimit()
        self._stream = file if isinstance(file, PeopleStream) else PeopleStream(file, str)
        self._console = Console(file=self._stream.stream)  # for its own control sequences; all text is cleaned before
        self._live = Live(get_renderable=self._drawn, console=self._console, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        from rich.file_proxy import FileProxy

        self._live.start()  # from now on, what is printed is shown above the table
        for name in ("stdout", "stderr"):
            if isinstance(getattr(sys, name), FileProxy):  # the console's stream is below what cleans
                setattr(sys, name, PeopleStream(getattr(sys, name), self._stream.masked))
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self.counts.fail(exc[1] if len(exc) > 1 else None)
        for line in self._limit.summary():
            self._show(line)
        self._live.stop()

    def begin(self, graph: Graph) -> None:
        with self._lock:
            self.counts.begin(graph)

    def __call__(self, event: Event) -> None:
        if isinstance(event, OutputLine):
            line = self._limit.line(event, self.counts.name_of(event.step))
            if line is not None:
                self._show(line)
            return
        with self._lock:
            self.counts.count(event)
        if not isinstance(event, COUNTED):
            self._show(event_line(event))

    def _show(self, line: str) -> None:
        """Print a line above the table."""
        self._live.console.print(self._stream.clean(line), markup=False, highlight=False, soft_wrap=True)

    def _drawn(self) -> Any:
        from rich.text import Text

        with self._lock:
            lines = table_lines(self.counts, height=self._console.height - 1, width=self._console.width)
        return Text(self._stream.clean("\n".join(lines)), no_wrap=True)


def dumps(value: Any) -> str:
    """Return one line of strict JSON; nan and infinity become null, other objects that JSON lacks their text."""
    return json.dumps(without_nan(value), default=str, allow_nan=False)


def listener_for(
    file: IO[str], *, as_json: bool, runs: str | Path | None = None, threads: bool = True
) -> LiveTable | PlainLines | JsonLines:
    """Return the progress display that suits a file.

    Parameters
    ----------
    runs : folder of earlier runs
    threads : False: the display starts no thread, since workers are to be forked from this process; then it is lines
    """
    if as_json:
        return JsonLines(file, runs=runs)
    if not threads:
        return PlainLines(file, beat=None, runs=runs)
    return LiveTable(file, runs=runs) if file.isatty() else PlainLines(file, runs=runs)
