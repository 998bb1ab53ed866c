"""Warnings of an op about its data, given while it is built; ``check`` and runs show them.

They belong to the step that is being built, so they are kept in a context variable, as in ``data_movement.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["recorded", "warn"]

_current: ContextVar[dict[str, None] | None] = ContextVar("warnings", default=None)


@contextmanager
def recorded() -> Iterator[dict[str, None]]:
    """Collect the warnings that are given inside the block, each once, as the keys of the map that is given."""
    warnings: dict[str, None] = {}
    token = _current.set(warnings)
    try:
        yield warnings
    finally:
        _current.reset(token)


def warn(text: str) -> None:
    """Give a warning about the data of the op being built; outside of a build nothing happens."""
    warnings = _current.get()
    if warnings is not None:
        warnings[text] = None
