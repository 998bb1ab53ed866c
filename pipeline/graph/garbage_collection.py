"""Run Python's garbage collector less often while many tasks are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_RARELY = (100_000, 20, 20)
"""Thresholds of the garbage collector while many objects are made and hardly any becomes garbage."""


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Make the garbage collector run less often within the block.

    Each collection goes through all tasks made so far, which took half of the time of building 40,000 tasks. It is not
    turned off: xarray and dask leave reference cycles with each step.
    """
    before = gc.get_threshold()
    if not 0 < before[0] < _RARELY[0]:  # it is off, or another thread has done this already
        yield
        return
    gc.set_threshold(*_RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def passed_over() -> Iterator[None]:
    """Keep the garbage collector from going through what exists now, such as a Graph of 100,000 tasks, during a block.

    What is made in the block is collected as ever.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
