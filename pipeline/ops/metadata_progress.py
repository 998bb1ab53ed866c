"""Counts the files whose metadata sources read while a Graph is built, and reports this if it takes long.

Both belong to the build that goes on, however deep in an op's helpers a file is opened, so they are kept in context
variables, as in ``data_movement.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline.backends.events import Listener, MetadataRead
from pipeline.graph.metadata import Metadata

__all__ = ["FilesRead", "each", "reading", "recorded", "reported"]

T = TypeVar("T")

_AFTER = 1.0  # seconds of reading before the first report
_EVERY = 0.25  # seconds between two

_listener: ContextVar[Listener | None] = ContextVar("metadata listener", default=None)
_current: ContextVar[FilesRead | None] = ContextVar("metadata", default=None)


@dataclass
class FilesRead:
    """The files whose metadata were read in one build; grows while it goes on.

    Parameters
    ----------
    listener : gets an event for what goes on, once that has taken a second; called in the thread that builds
    clock : seconds, monotonic
    """

    listener: Listener | None = None
    clock: Callable[[], float] = time.perf_counter
    _files: int = 0
    _done: int = 0
    _opened: int = 0
    _seconds: float = 0.0
    _began: float | None = None
    _reported: float = field(default_factory=lambda: _AFTER - _EVERY)

    @contextmanager
    def of(self, n: int) -> Iterator[FilesRead]:
        """Count ``n`` more files, and the time inside the block."""
        self._files += n
        self._began = self.clock()
        try:
            yield self
        finally:
            self._seconds += self.clock() - self._began
            self._began = None

    def done(self, n: int = 1, *, opened: int | None = None) -> None:
        """Count files whose metadata are there, ``opened`` of them by opening them; default: all."""
        self._done += n
        self._opened += n if opened is None else opened
        passed = self._seconds + (self.clock() - self._began if self._began is not None else 0.0)
        if self.listener is not None and passed - self._reported >= _EVERY:
            self._reported = passed
            self.listener(MetadataRead(self._done, self._files))

    def end(self) -> None:
        """Report that all were read, if anything was reported."""
        if self.listener is not None and self._reported >= _AFTER:
            self.listener(MetadataRead(self._files, self._files))

    @property
    def metadata(self) -> Metadata:
        """What was read up to now."""
        return Metadata(self._files, self._opened, self._seconds)


@contextmanager
def reported(listener: Listener | None) -> Iterator[None]:
    """Report what builds inside the block read to a listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def recorded() -> Iterator[FilesRead]:
    """Count what one build reads inside the block."""
    files = FilesRead(_listener.get())
    token = _current.set(files)
    try:
        yield files
        files.end()
    finally:
        _current.reset(token)


@contextmanager
def reading(n: int) -> Iterator[FilesRead]:
    """Count ``n`` files whose metadata are read inside the block; its ``done`` is called as they are there."""
    with (_current.get() or FilesRead()).of(n) as files:
        yield files


def each(names: Iterable[T]) -> Iterator[T]:
    """Yield files one by one; the time until the next is asked for is that of reading the metadata of one."""
    names = list(names)
    with reading(len(names)) as files:
        for name in names:
            yield name
            files.done()
