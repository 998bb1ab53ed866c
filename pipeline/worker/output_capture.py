"""The streams of this process while tasks run: what a task prints, logs or warns goes to its buffer.

While they are installed, ``sys.stdout`` and ``sys.stderr`` are proxies. What the running task of a thread writes goes
to the :class:`~pipeline.worker.output_buffer.OutputBuffer` of the thread, everything else to the original stream.

Not captured: what bypasses Python's streams (a program that a task starts, C code), what a process writes that a task
has forked, and, where several tasks share a process, what threads write that a task has started.
"""

# Rejected: redirecting the file descriptors, which captures C code too but can't tell threads apart; a file for each
# task, which shows nothing before the task ends.

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline.worker.output_buffer import Emit, OutputBuffer

__all__ = ["capturing", "install", "start", "stop", "uninstall"]


_buffers: dict[int, OutputBuffer] = {}  # thread -> its buffer
_lock = threading.Lock()
_left_behind: dict[str, Any] = {}  # streams with which tasks have replaced the proxies
_installed = 0
_one_task = False  # whether every thread of this process belongs to the running task

# Output of a process that a task has forked could not be sent, and a lock that another thread held stays locked there.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_buffers.clear)


def start(emit: Emit, hold: float = 0.0) -> OutputBuffer:
    """Give this thread a new buffer, which takes output from when its ``task`` is set."""
    thread = threading.get_ident()
    buffer = _buffers[thread] = OutputBuffer(emit, hold, _buffers.get(thread))
    return buffer


def stop(buffer: OutputBuffer) -> None:
    """Emit what still waits, and give this thread back the buffer that it had before.

    Raises
    ------
    Exception : what emitting raised
    """
    if buffer.outer is None:
        _buffers.pop(threading.get_ident(), None)  # absent in a process that the task has forked
    else:
        _buffers[threading.get_ident()] = buffer.outer
    buffer.task = None
    buffer.close()
    if buffer.error is not None:
        raise buffer.error


def current_streams() -> tuple[Any, Any]:
    """Return ``sys.stdout`` and ``sys.stderr`` before a task, for :func:`put_back`."""
    return sys.stdout, sys.stderr


def put_back(streams: tuple[Any, Any]) -> None:
    """Put back the streams that a task has replaced and left so; those of tasks that run beside it when all have ended.

    Parameters
    ----------
    streams : of :func:`current_streams`, before the task
    """
    for name, before in zip(_proxies, streams, strict=True):
        stream = getattr(sys, name)
        if stream is before or before is not _proxies[name]:
            continue
        with contextlib.suppress(Exception):  # it may be anything
            stream.flush()
        if len(_buffers) > 1:
            _left_behind[name] = stream
        else:
            setattr(sys, name, before)


def _active_buffer() -> OutputBuffer | None:
    """Return the buffer that takes what this thread writes now, if there is one."""
    buffer = _buffers.get(threading.get_ident())
    if buffer is None and _one_task:
        buffer = next(iter(list(_buffers.values())), None)
    while buffer is not None and not buffer.is_active:
        buffer = buffer.outer
    return buffer


class _Proxy:
    """Replaces a stream of ``sys`` and behaves as that stream, except for what tasks write.

    A logging handler that is made meanwhile keeps it for ever: once uninstalled, it passes on to the current stream.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream: Any = None

    @property
    def _real(self) -> Any:
        if self._stream is not None:
            return self._stream
        current = getattr(sys, self._name)
        return getattr(sys, f"__{self._name}__") if current is self else current

    @property
    def buffer(self) -> Any:
        return _Bytes(self, self._real.buffer)

    def write(self, text: str) -> int:
        buffer = _active_buffer()
        if buffer is None:
            written: int = self._real.write(text)
            return written
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        return len(text) if buffer.write(self._name, text) else self._real.write(text)

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._real is not None and not getattr(self._real, "closed", False):
            self._real.flush()

    def close(self) -> None:
        """Do nothing in a task: the stream is not its own, and the next task prints, too."""
        if _active_buffer() is None:
            self._real.close()

    def detach(self) -> Any:
        """Return the stream of bytes, to make another stream of; this one goes on."""
        return self.buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Bytes:
    """Replaces the ``buffer`` of a stream."""

    def __init__(self, proxy: _Proxy, real: Any) -> None:
        self._proxy, self._real = proxy, real

    def write(self, data: Any) -> int:
        buffer = _active_buffer()
        if buffer is None or not buffer.write(self._proxy._name, bytes(data)):
            written: int = self._real.write(data)
            return written
        return memoryview(data).nbytes

    def writelines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.write(line)

    def close(self) -> None:
        """Do nothing: a stream that a task made of this one closes it when it goes, at any time."""

    def _dealloc_warn(self, source: Any) -> None:
        """Do nothing: Python calls it when that stream goes, and the file is not its own."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


_proxies = {name: _Proxy(name) for name in ("stdout", "stderr")}


_Handlers = list["logging.StreamHandler[Any]"]

_redirected: dict[str, _Handlers] = {}  # stream -> the handlers that wrote to it before its proxy was installed


def install(*, one_task: bool = False) -> None:
    """Replace the streams by the proxies; each call needs a call of :func:`uninstall`.

    Parameters
    ----------
    one_task : whether this process does nothing but run one task after the other: then what threads write that a task
        has started is captured, too
    """
    global _installed, _one_task
    with _lock:
        _installed += 1
        _one_task = _one_task or one_task
        if _installed == 1:
            for name, proxy in _proxies.items():
                stream = getattr(sys, name)
                if stream is not None and stream is not proxy:
                    proxy._stream = stream
                    setattr(sys, name, proxy)
                    _redirected[name] = _redirect(_handlers_of(stream), proxy)


def uninstall() -> None:
    """Put the streams back, unless they have been replaced by others since."""
    global _installed, _one_task
    with _lock:
        _installed -= 1
        if _installed == 0:
            _one_task = False
            for name, proxy in _proxies.items():
                if getattr(sys, name) in (proxy, _left_behind.pop(name, proxy)):
                    setattr(sys, name, proxy._stream)
                    _redirect(_redirected.pop(name), proxy._stream)
                proxy._stream = None


@contextlib.contextmanager
def capturing() -> Iterator[None]:
    """Install the proxies within the block."""
    install()
    try:
        yield
    finally:
        uninstall()


def _handlers_of(stream: Any) -> _Handlers:
    """Return the logging handlers that write to a stream."""
    loggers = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    handlers = dict.fromkeys(handler for logger in loggers for handler in getattr(logger, "handlers", ()))
    return [h for h in handlers if isinstance(h, logging.StreamHandler) and h.stream is stream]


def _redirect(handlers: _Handlers, stream: Any) -> _Handlers:
    for handler in handlers:
        handler.setStream(stream)
    return handlers
