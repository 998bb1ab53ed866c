"""What the tasks of a segment write, cut into whole lines, each with its task."""

from __future__ import annotations

import codecs
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipeline.graph.segments import SegmentTask

__all__ = ["HOLD", "Emit", "Line", "OutputBuffer"]

HOLD = 0.1
"""Seconds that a line may wait to be sent together with others, where sending crosses a process border."""

_MOST_LINES = 10_000  # of one task
_MOST_CHARACTERS = 2_000_000  # of one task
_LONGEST = 10_000  # characters of a line


class Line(NamedTuple):
    """One line that a task wrote.

    Parameters
    ----------
    when : seconds since the epoch
    step : the instance of the step that owns the task
    stream : ``stdout`` or ``stderr``
    text : without the line end
    """

    when: float
    step: str
    key: str
    item: str
    stream: str
    text: str


Emit = Callable[[Sequence[Line]], None]


class OutputBuffer:
    """Takes what the tasks of a segment write and emits it line by line.

    States: no task -> a silent task -> a task that has written (``has_output``) -> no task … -> closed.
    Thread-safe: threads of a task may write, too.

    Parameters
    ----------
    emit : gets the lines; called in the thread of the task where ``hold`` is 0, else in any, one call at a time
    hold : seconds that a line may wait
    outer : the buffer of this thread before, in use again after this one: a task may itself run a Graph

    Attributes
    ----------
    task : the task that runs, set by the caller; None: nothing is taken
    """

    def __init__(self, emit: Emit, hold: float = 0.0, outer: OutputBuffer | None = None) -> None:
        self.outer = outer
        self.task: SegmentTask | None = None
        self._lock = threading.RLock()
        self._outbox = _Outbox(emit, hold, self._lock)
        self._text: _TaskText | None = None

    @property
    def is_active(self) -> bool:
        """Whether a task runs and this thread is not inside ``emit``, which may print, too."""
        return self.task is not None and self._outbox.emitting_thread != threading.get_ident()

    @property
    def has_output(self) -> bool:
        """Whether the running task has written anything; then :meth:`end_task` must be called after it."""
        return self._text is not None

    @property
    def error(self) -> Exception | None:
        """What ``emit`` raised; the task is not to blame for it."""
        return self._outbox.error

    def write(self, stream: str, data: str | bytes) -> bool:
        """Take what the running task writes; False if no task runs any more."""
        with self._lock:
            if self.task is None:
                return False
            if self._text is None:
                self._text = _TaskText(self.task)
            self._outbox.put(self._text.write(stream, data))
            return True

    def end_task(self) -> None:
        """Emit what is left of the task's output: lines without an end, and how many lines were left out."""
        with self._lock:
            if self._text is not None:
                self._outbox.put(self._text.end())
                self._text = None

    def close(self) -> None:
        """Emit what still waits; nothing is emitted after it."""
        with self._lock:
            if self.has_output:  # a thread of the task has written since the task ended
                self.end_task()
            self._outbox.close()


class _TaskText:
    """The output of one task, cut into lines.

    States: open -> full, when the task has written as much as is kept: then further lines are only counted.
    """

    def __init__(self, task: SegmentTask) -> None:
        self._task = task
        self._n_lines = self._n_characters = self._n_left_out = 0
        self._partial: dict[str, str] = {}  # stream -> the line that has not ended
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    def write(self, stream: str, data: str | bytes) -> list[Line]:
        """Add to a stream; return the lines that have ended."""
        text = data if isinstance(data, str) else self._decoder(stream).decode(data)
        if self._is_full():
            self._n_left_out += text.count("\n")
            return []
        *ended, rest = (self._partial.get(stream, "") + text).split("\n")
        self._partial[stream] = _rewritten(rest)[: _LONGEST + 1]
        return self._lines(stream, ended)

    def end(self) -> list[Line]:
        """Return the lines that have no end, then one that counts what was left out."""
        for stream, decoder in self._decoders.items():  # half a character at the end
            self._partial[stream] = self._partial.get(stream, "") + decoder.decode(b"", final=True)
        lines = [line for stream, rest in self._partial.items() if rest for line in self._lines(stream, [rest])]
        if self._n_left_out:
            lines.append(self._line("stderr", f"… {self._n_left_out:,} more lines of this task are left out"))
        return lines

    def _decoder(self, stream: str) -> codecs.IncrementalDecoder:
        if stream not in self._decoders:
            self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        return self._decoders[stream]

    def _is_full(self) -> bool:
        return self._n_lines >= _MOST_LINES or self._n_characters >= _MOST_CHARACTERS

    def _lines(self, stream: str, texts: Sequence[str]) -> list[Line]:
        lines = []
        for raw in texts:
            if self._is_full():
                self._n_left_out += 1
                continue
            text = _rewritten(raw).rstrip("\r").expandtabs()
            if len(text) > _LONGEST:
                text = f"{text[:_LONGEST]}…"
            self._n_lines += 1
            self._n_characters += len(text)
            lines.append(self._line(stream, text))
        return lines

    def _line(self, stream: str, text: str) -> Line:
        return Line(time.time(), self._task.step, str(self._task.key), self._task.item, stream, text)


class _Outbox:
    """Lines on their way to ``emit``: at once, or together with those that come within ``hold`` seconds.

    States: open -> failed (``error``): ``emit`` raised, and is not called again. ``lock`` is held by every caller.
    """

    def __init__(self, emit: Emit, hold: float, lock: threading.RLock) -> None:
        self._emit, self._hold, self._lock = emit, hold, lock
        self._lines: list[Line] = []
        self._timer: threading.Timer | None = None  # made with the first line: a silent task costs no thread
        self.emitting_thread = 0
        self.error: Exception | None = None

    def put(self, lines: Sequence[Line]) -> None:
        self._lines += lines
        if not self._hold:
            self._flush()
        elif self._lines and self._timer is None:
            self._timer = threading.Timer(self._hold, self._hold_is_over)
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._flush()

    def _hold_is_over(self) -> None:
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        lines, self._lines, self._timer = self._lines, [], None
        if not lines or self.error is not None:
            return
        self.emitting_thread = threading.get_ident()
        try:
            self._emit(lines)
        except Exception as error:  # noqa: BLE001 - raised by output_capture.stop, when the task has ended
            self.error = error
        finally:
            self.emitting_thread = 0


def _rewritten(line: str) -> str:
    """Return a line as a terminal shows it in the end: progress bars return to its beginning and write over it."""
    if "\r" not in line:
        return line
    kept = line.rstrip("\r")
    return kept.rpartition("\r")[2] + line[len(kept) :][:1]
