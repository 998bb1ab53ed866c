"""Progress in a notebook: one place of the cell's output, redrawn while a run, a comparison or an explanation goes on.

It is an IPython display that is updated: every front end of Jupyter shows it, and a saved notebook keeps it as HTML.
Rejected: ipywidgets and the live display of rich, which needs them: another package, and nothing is left in the file.
"""

from __future__ import annotations

import contextvars
import html
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipeline.backends.events import Event, Listener, OutputLine
from pipeline.backends.options import with_options
from pipeline.config.notebook_cells import in_notebook
from pipeline.report.progress import listener_for
from pipeline.report.progress_counts import COUNTED, Counts
from pipeline.report.progress_lines import LineLimit, event_line, table_lines
from pipeline.units import duration_text

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph

__all__ = ["NotebookLines", "NotebookTable", "lines_display", "run_display"]

_WIDTH, _HEIGHT = 100, 20  # of the table, in characters and lines
_MOST_LINES = 12
_EVERY = 0.5  # seconds
_SOON = 1.0  # seconds in which nothing is shown of what does not last
_PATIENCE = 10.0  # seconds of cleaning up in which further interrupts are ignored

Tell = Callable[[str], None]


class Interrupted(KeyboardInterrupt):
    """The interrupt of the kernel, shown as one line instead of the calls that it came into."""

    def _render_traceback_(self) -> list[str]:
        return ["KeyboardInterrupt: all that was started has ended; nothing was committed"]


@contextmanager
def run_display(
    config: Config,
    listener: Listener | None,
    progress: bool | None,
    *,
    backend: str,
    options: Mapping[str, Any] | None = None,
    runs: Any = None,
    lasting: bool = True,
) -> Iterator[Listener | None]:
    """Show the progress of a run within the block, and yield its listener.

    Parameters
    ----------
    listener : of the caller; it is used as it is, and nothing is shown
    progress : None: shown in a notebook alone
    options : of the back end, besides those in ``backend``
    runs : folder of earlier runs, for the time left
    lasting : False: in a notebook it is shown only while it takes long, and one line of it is left
    """
    if listener is not None or progress is False or (progress is None and not in_notebook()):
        with _one_interrupt():
            yield listener
        return
    _, given = with_options(backend, config.cluster)
    threads = {**given, **(options or {})}.get("start_method") != "fork"
    if in_notebook():
        with _one_interrupt(), NotebookTable(threads=threads, runs=runs, lasting=lasting) as table:
            yield table
    else:
        with listener_for(sys.stdout, as_json=False, runs=runs, threads=threads) as shown:
            yield shown


@contextmanager
def lines_display(tell: Tell | None) -> Iterator[Tell | None]:
    """Show lines about the progress within the block in a notebook, and yield the function that gets them."""
    if tell is not None or not in_notebook():
        with _one_interrupt():
            yield tell
        return
    with _one_interrupt(), NotebookLines() as lines:
        yield lines


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """Have the first interrupt of the kernel end the block, and ignore others for some seconds while it is cleaned up.

    Impatient users press the button twice; outside a notebook nothing is changed.
    """
    if not in_notebook() or threading.current_thread() is not threading.main_thread():
        yield
        return
    last = -_PATIENCE

    def handle(number: int, frame: Any) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PATIENCE:
            last = now
            raise Interrupted

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Display:
    """A block of text in the output of the running cell. States: not shown -> shown, redrawn -> final.

    Parameters
    ----------
    drawn : returns the lines that it has now; called from any thread
    threads : whether a thread redraws it twice a second; else it is redrawn when :meth:`redraw` is called
    lasting : False: it is not shown in the first second, and only its last line is left, if it was shown
    """

    def __init__(self, drawn: Callable[[], list[str]], *, threads: bool = True, lasting: bool = True) -> None:
        self._drawn, self._lasting = drawn, lasting
        self._shown_from = time.monotonic() + (0.0 if lasting else _SOON)
        self._handle: Any = None
        self._text = ""
        self._last = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if threads:  # in the context of the cell, whose output it belongs to
            context = contextvars.copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._run,), name="progress", daemon=True)

    def begin(self) -> None:
        if self._thread is not None:
            self._thread.start()

    def end(self) -> None:
        """Draw it for the last time."""
        self._over.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        if self._lasting or self._handle is not None:
            self.redraw()

    def redraw(self, *, at_most_every: float = 0.0) -> None:
        """Draw it anew if its text has changed."""
        with self._lock:
            now = time.monotonic()
            if now - self._last < at_most_every or now < self._shown_from:
                return
            self._last = now
            lines = self._drawn()
            text = "\n".join(lines if self._lasting or not self._over.is_set() else lines[-1:])
            if text == self._text:
                return
            self._text = text
            style = "margin: 0; line-height: 1.2; overflow-x: auto; white-space: pre"
            data = {"text/plain": text, "text/html": f'<pre style="{style}">{html.escape(text)}</pre>'}
            if self._handle is None:
                display = sys.modules["IPython"].display.display
                self._handle = display(data, raw=True, display_id=True)
            else:
                self._handle.update(data, raw=True)

    def _run(self) -> None:
        while not self._over.wait(_EVERY):
            self.redraw()


class NotebookTable:
    """The steps of a run as a table in the cell's output; what tasks print and unusual events are lines below it."""

    def __init__(
        self,
        *,
        threads: bool = True,
        lasting: bool = True,
        clock: Callable[[], float] = time.perf_counter,
        runs: str | Path | None = None,
    ) -> None:
        self.counts = Counts(clock, runs)
        self._limit = LineLimit()
        self._lock = threading.Lock()
        self._display = _Display(self._lines, threads=threads, lasting=lasting)

    def __enter__(self) -> Self:
        self._display.begin()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self.counts.fail(exc[1] if len(exc) > 1 else None)
        self._display.end()
        for line in self._limit.summary():
            print(line)

    def begin(self, graph: Graph) -> None:
        with self._lock:
            self.counts.begin(graph)
        self._display.redraw()

    def __call__(self, event: Event) -> None:
        if isinstance(event, OutputLine):
            line = self._limit.line(event, self.counts.name_of(event.step))
            if line is not None:
                print(line)
            return
        with self._lock:
            self.counts.count(event)
        if not isinstance(event, COUNTED):
            print(event_line(event))
        self._display.redraw(at_most_every=_EVERY)

    def _lines(self) -> list[str]:
        with self._lock:
            return table_lines(self.counts, height=_HEIGHT, width=_WIDTH)


class NotebookLines:
    """The last lines about the progress of a comparison or an explanation, and the time since it began."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._began = clock, clock()
        self._lines: list[str] = []
        self._over = False
        self._display = _Display(self._drawn)

    def __enter__(self) -> Self:
        self._display.begin()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over = True
        self._display.end()

    def __call__(self, line: str) -> None:
        self._lines.append(line)
        self._display.redraw()

    def _drawn(self) -> list[str]:
        lines = self._lines[-_MOST_LINES:]
        took = duration_text(int(self._clock() - self._began))
        return lines if self._over else [*lines, f"… {took}"]
