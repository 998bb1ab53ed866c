"""What tasks print, by line, with the task that said it: print, logging and warnings, on their way to who listens.

While it is installed, ``sys.stdout`` and ``sys.stderr`` are proxies that look which task runs in the thread that
writes: what a task writes goes to its :class:`OutputBuffer`, everything else where it went before. A line is told when
it ends, or with the task; half lines of two tasks are never mixed. Bytes for ``sys.stdout.buffer`` are lines as well.

What passes through, unheard: what goes past Python's streams (a program that a task starts, C code), what a process
writes that a task has forked, and, where several tasks share a process, what threads write that a task has started.

A task that prints nothing costs two assignments: the timer is made with the first text.

Rejected: redirecting the file descriptors, which catches C code too, but can't tell threads apart; a file a task, which
shows nothing before the task ends.
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pipeline.graph.segments import SegmentTask


__all__ = ["HOLD", "Line", "OutputBuffer", "Tell", "capturing", "install", "listen", "uninstall", "unlisten"]

HOLD = 0.1
"""Seconds that a line may wait for others to travel with, where telling crosses a process border."""

_MOST_LINES = 10_000  # of one task
_MOST_CHARACTERS = 2_000_000  # of one task
_LONGEST = 10_000  # characters of a line


class Line(NamedTuple):
    """One line that a task wrote.

    Parameters
    ----------
    when : seconds since the epoch
    step : the copy of the step that owns the task
    stream : ``stdout`` or ``stderr``
    text : without its end
    """

    when: float
    step: str
    key: str
    item: str
    stream: str
    text: str


Tell = Callable[[Sequence[Line]], None]


# ---------------------------------------------------------------------------------------------------------------------
# What the tasks of one thread say
# ---------------------------------------------------------------------------------------------------------------------


class OutputBuffer:
    """The tasks of a segment, as those who write to the streams of a thread.

    Parameters
    ----------
    tell : gets the lines; called in the thread of the task where ``hold`` is 0, else in any, one call at a time
    hold : seconds that a line may wait
    before : who spoke in this thread before, and does again after it: a task may run a Graph itself

    Attributes
    ----------
    inner : the task that runs; set by who runs it. None: nobody speaks
    spoke : whether the running task wrote anything; then :meth:`end_task` is due after it
    broken : what ``tell`` raised: who runs the segment raises it, since it is no fault of the task
    """

    def __init__(self, tell: Tell, hold: float = 0.0, before: OutputBuffer | None = None) -> None:
        self._tell, self._hold, self.before = tell, hold, before
        self.inner: SegmentTask | None = None
        self.spoke = False
        self.broken: Exception | None = None
        self._lock = threading.RLock()  # threads of the task may speak, too
        self._telling = 0  # the thread that does
        self._lines: list[Line] = []
        self._timer: threading.Timer | None = None

    @property
    def listens(self) -> bool:
        """Whether a task of this thread speaks, and not who listens to it."""
        return self.inner is not None and self._telling != threading.get_ident()

    def write(self, stream: str, data: str | bytes) -> bool:
        """Take what the running task writes; False: there is none any more."""
        with self._lock:
            inner = self.inner
            if inner is None:
                return False
            if not self.spoke:
                self._begin(inner)
            text = data if isinstance(data, str) else self._decoder(stream).decode(data)
            if self._full():
                self._left_out += text.count("\n")
                return True
            before = self._partial.get(stream, "")
            *lines, rest = (before + text).split("\n")
            for line in lines:
                self._say(stream, line)
            self._partial[stream] = _rewritten(rest)[: _LONGEST + 1]
            return True

    def end_task(self) -> None:
        """The task has ended: half lines are lines now, and what was left out is counted."""
        with self._lock:
            for stream, decoder in self._decoders.items():  # half a character at the end
                self._partial[stream] = self._partial.get(stream, "") + decoder.decode(b"", final=True)
            for stream, rest in self._partial.items():
                if rest:
                    self._say(stream, rest)
            if self._left_out:
                self._put("stderr", f"… {self._left_out:,} more lines of this task are left out")
            self.spoke = False

    def close(self) -> None:
        """Tell what still waits; no more is told after it."""
        with self._lock:
            if self.spoke:  # a thread of the task was just about to
                self.end_task()
            if self._timer is not None:
                self._timer.cancel()
            self._flush()

    def _begin(self, inner: SegmentTask) -> None:
        self.spoke, self._speaks = True, inner
        self._n = self._characters = self._left_out = 0
        self._partial: dict[str, str] = {}
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    def _decoder(self, stream: str) -> codecs.IncrementalDecoder:
        if stream not in self._decoders:
            self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        return self._decoders[stream]

    def _full(self) -> bool:
        return self._n >= _MOST_LINES or self._characters >= _MOST_CHARACTERS

    def _say(self, stream: str, line: str) -> None:
        if self._full():
            self._left_out += 1  # of a text of many lines
            return
        text = _rewritten(line).rstrip("\r").expandtabs()
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}…"
        self._n += 1
        self._characters += len(text)
        self._put(stream, text)

    def _put(self, stream: str, text: str) -> None:
        inner = self._speaks
        self._lines.append(Line(time.time(), inner.step, str(inner.key), inner.item, stream, text))
        if not self._hold:
            self._flush()
        elif self._timer is None:
            self._timer = threading.Timer(self._hold, self._time_is_over)
            self._timer.daemon = True
            self._timer.start()

    def _time_is_over(self) -> None:
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        lines, self._lines, self._timer = self._lines, [], None
        if not lines or self.broken is not None:
            return
        self._telling = threading.get_ident()  # what the listener prints, in the thread of the task, is not the task's
        try:
            self._tell(lines)
        except Exception as error:  # noqa: BLE001 - it is raised where it is nobody's fault but the listener's
            self.broken = error
        finally:
            self._telling = 0


def _rewritten(line: str) -> str:
    """A line as a terminal shows it in the end: progress bars go back to its beginning and write over it."""
    if "\r" not in line:
        return line
    kept = line.rstrip("\r")
    return kept.rpartition("\r")[2] + line[len(kept) :][:1]


# ---------------------------------------------------------------------------------------------------------------------
# The streams
# ---------------------------------------------------------------------------------------------------------------------

_speakers: dict[int, OutputBuffer] = {}  # by thread
_lock = threading.Lock()
_installed = 0
_alone = False  # whether every thread of this process is the running task's

# Nobody would hear what a process says that a task has forked, and a lock that another thread held stays locked in it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_speakers.clear)


def listen(tell: Tell, hold: float = 0.0) -> OutputBuffer:
    """Have a new speaker for this thread; what its task writes is told from when ``inner`` is set."""
    thread = threading.get_ident()
    speaker = _speakers[thread] = OutputBuffer(tell, hold, _speakers.get(thread))
    return speaker


def unlisten(speaker: OutputBuffer) -> None:
    """End it: what still waits is told.

    Raises
    ------
    Exception : what telling raised
    """
    if speaker.before is None:
        _speakers.pop(threading.get_ident(), None)  # a process that its task has forked may come here, too
    else:
        _speakers[threading.get_ident()] = speaker.before
    speaker.inner = None
    speaker.close()
    if speaker.broken is not None:
        raise speaker.broken


def _speaking() -> OutputBuffer | None:
    """Who speaks in this thread, if anybody does."""
    speaker = _speakers.get(threading.get_ident())
    if speaker is None and _alone:
        speaker = next(iter(list(_speakers.values())), None)
    while speaker is not None and not speaker.listens:
        speaker = speaker.before
    return speaker


class _Proxy:
    """In the place of a stream of ``sys``: as that stream in everything, but that tasks are heard.

    Handlers of logging that are made while it is there keep it for ever: then it is whatever the stream is.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream: Any = None

    @property
    def _real(self) -> Any:
        if self._stream is not None:
            return self._stream
        now = getattr(sys, self._name)
        return getattr(sys, f"__{self._name}__") if now is self else now

    @property
    def buffer(self) -> Any:
        return _Bytes(self, self._real.buffer)

    def write(self, text: str) -> int:
        speaker = _speaking()
        if speaker is None:
            written: int = self._real.write(text)
            return written
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        return len(text) if speaker.write(self._name, text) else self._real.write(text)

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._real is not None:
            self._real.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Bytes:
    """In the place of the ``buffer`` of a stream."""

    def __init__(self, proxy: _Proxy, real: Any) -> None:
        self._proxy, self._real = proxy, real

    def write(self, data: Any) -> int:
        speaker = _speaking()
        if speaker is None or not speaker.write(self._proxy._name, bytes(data)):
            written: int = self._real.write(data)
            return written
        return memoryview(data).nbytes

    def writelines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


_proxies = {name: _Proxy(name) for name in ("stdout", "stderr")}


_Handlers = list["logging.StreamHandler[Any]"]

_redirected: dict[str, _Handlers] = {}  # what wrote to a stream before its proxy was there


def install(*, alone: bool = False) -> None:
    """Put the proxies in the place of the streams; as often as it was installed it must be uninstalled.

    Parameters
    ----------
    alone : whether this process runs nothing but one task after the other: then threads that a task started speak for
        it, too
    """
    global _installed, _alone
    with _lock:
        _installed += 1
        _alone = _alone or alone
        if _installed == 1:
            for name, proxy in _proxies.items():
                stream = getattr(sys, name)
                if stream is not None and stream is not proxy:
                    proxy._stream = stream
                    setattr(sys, name, proxy)
                    _redirected[name] = _redirect(_handlers_of(stream), proxy)


def uninstall() -> None:
    """Put the streams back, unless somebody has put others there since."""
    global _installed, _alone
    with _lock:
        _installed -= 1
        if _installed == 0:
            _alone = False
            for name, proxy in _proxies.items():
                if getattr(sys, name) is proxy:
                    setattr(sys, name, proxy._stream)
                    _redirect(_redirected.pop(name), proxy._stream)
                proxy._stream = None


@contextlib.contextmanager
def capturing() -> Iterator[None]:
    """The streams are proxies within."""
    install()
    try:
        yield
    finally:
        uninstall()


def _handlers_of(stream: Any) -> _Handlers:
    """The handlers of logging that write to a stream."""
    loggers = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    handlers = dict.fromkeys(handler for logger in loggers for handler in getattr(logger, "handlers", ()))
    return [h for h in handlers if isinstance(h, logging.StreamHandler) and h.stream is stream]


def _redirect(handlers: _Handlers, stream: Any) -> _Handlers:
    for handler in handlers:
        handler.setStream(stream)
    return handlers
