"""A line that shows how many files' metadata were read, while commands without another display build a Graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, Self

from pipeline.backends.events import Event, MetadataRead
from pipeline.report.people_stream import PeopleStream
from pipeline.units import count_text

__all__ = ["MetadataLine", "metadata_text"]

_EVERY = 10.0  # seconds between two lines of a file or pipe


def metadata_text(event: MetadataRead) -> str:
    """Return what was read up to now as text.

    >>> metadata_text(MetadataRead(1024, 2128))
    'reading metadata: 1,024 of 2,128 files'
    """
    if event.done < event.n_files:
        return f"reading metadata: {event.done:,} of {count_text(event.n_files, 'file')}"
    return f"reading metadata: {count_text(event.done, 'file')}"  # the next step may read more


class MetadataLine:
    """A listener that rewrites one line of a terminal and removes it at the end; for files and pipes, a line at times.

    Events of other kinds do nothing but remove it.
    """

    def __init__(self, file: IO[str], *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._is_terminal = file.isatty()
        # what is written to a terminal has control sequences; the text has none
        self._file = file.stream if self._is_terminal and isinstance(file, PeopleStream) else file
        self._clock = clock
        self._printed: float | None = None
        self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.clear()

    def __call__(self, event: Event) -> None:
        if not isinstance(event, MetadataRead) or event.done >= event.n_files:
            self.clear()
        elif self._is_terminal:
            self._file.write(f"\r{metadata_text(event)}\x1b[K")
            self._file.flush()
            self._is_shown = True
        elif self._printed is None or self._clock() - self._printed >= _EVERY:
            self._printed = self._clock()
            print(metadata_text(event), file=self._file, flush=True)

    def clear(self) -> None:
        """Remove the line, if there is one."""
        if self._is_shown:
            self._file.write("\r\x1b[K")
            self._file.flush()
            self._is_shown = False
