"""The streams that people read: what is written to them has its secrets masked and its control characters escaped."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from pipeline.errors import printable

__all__ = ["PeopleStream", "cleaned", "print_bold"]

_BOLD, _NORMAL = "\033[1m", "\033[22m"


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


def print_bold(text: str, phrases: Iterable[str]) -> None:
    """Print a text; on a terminal the phrases in it are bold, also where they are broken into lines."""
    stream = sys.stdout
    if not isinstance(stream, PeopleStream) or not stream.isatty() or "NO_COLOR" in os.environ:
        print(text)
        return
    longest_first = sorted({stream.clean(phrase) for phrase in phrases if phrase.strip()}, key=len, reverse=True)
    pattern = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in longest_first)
    shown = stream.clean(text)
    if pattern:
        shown = re.sub(rf"(?<!\w)(?:{pattern})", lambda found: f"{_BOLD}{found[0]}{_NORMAL}", shown)
    stream.stream.write(f"{shown}\n")


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
