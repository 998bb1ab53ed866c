"""The streams that people read: what is written to them has its secrets masked and its control characters escaped."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

from pipeline.errors import printable

__all__ = ["PeopleStream", "cleaned"]


class PeopleStream:
    """Replaces a text stream and behaves as it, except that every text is cleaned first.

    Names, messages and data may come from anywhere; on a terminal an escape sequence in them could move the cursor,
    hide text or set the title. The program writes all of its text through such a stream, tracebacks too.

    Parameters
    ----------
    masked : removes secrets from a text
    """

    def __init__(self, stream: IO[str], masked: Callable[[str], str]) -> None:
        self.stream, self.masked = stream, masked

    def clean(self, text: str) -> str:
        """Return the text without secrets, and with control characters escaped except ends of lines and tabs."""
        return printable(self.masked(text), keep="\n\t")

    def write(self, text: str) -> int:
        self.stream.write(self.clean(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __iter__(self) -> Iterator[str]:
        return iter(self.stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def cleaned(masked: Callable[[str], str]) -> Iterator[None]:
    """Clean what is written to ``sys.stdout`` and ``sys.stderr`` within the block."""
    before = sys.stdout, sys.stderr
    made: list[Any] = [stream and PeopleStream(stream, masked) for stream in before]
    sys.stdout, sys.stderr = made
    try:
        yield
    finally:
        for name, old, new in zip(("stdout", "stderr"), before, made, strict=True):
            if getattr(sys, name) is new:
                setattr(sys, name, old)
