"""What an op moves between tasks, or does with its files, stated by the op while it is built; the plan shows it.

A statement belongs to the step that is being built, however deep in an op's helpers it is made, so it is kept in a
context variable. Rejected: annotations of dask's layers, which are lost where an op puts tasks into a plain dict; names
of keys, which a step of the user's may have as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

__all__ = ["Move", "note", "recorded", "state"]

Move = Literal["rechunk", "shuffle", "one chunk"]
"""``rechunk``: values go to other chunks; ``shuffle``: each row goes to one of several partitions; ``one chunk``: all
that is along a dim of unknown length comes into one task."""

_current: ContextVar[set[str] | None] = ContextVar("moves", default=None)


@contextmanager
def recorded() -> Iterator[set[str]]:
    """Collect what the op built inside states, into the set that is given."""
    moves: set[str] = set()
    token = _current.set(moves)
    try:
        yield moves
    finally:
        _current.reset(token)


def state(move: Move) -> None:
    """Record that the op being built moves data this way; outside of a build nothing happens."""
    moves = _current.get()
    if moves is not None:
        moves.add(move)


def note(text: str) -> None:
    """Record a sentence for the plan, such as the order of joined files; outside of a build nothing happens."""
    moves = _current.get()
    if moves is not None:
        moves.add(text)
