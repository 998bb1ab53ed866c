"""graph.garbage_collection."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_RARELY = (100_000, 20, 20)
"""Thresholds of the garbage collector while much is made and hardly anything of it is garbage."""


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Let the garbage collector look less often, as while a Graph is built.

    Each collection goes through all tasks made so far: of 40,000 tasks, every second second went there. It is not put
    off for good, since xarray and dask leave cycles behind with each step.
    """
    before = gc.get_threshold()
    if not 0 < before[0] < _RARELY[0]:  # off, or another build of this process is under way
        yield
        return
    gc.set_threshold(*_RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
