"""The steps of a run as spans of Dask, by which its Fine Performance Metrics and its spans are grouped.

A span of the name ``pipeline`` holds one for each step that segments are named by. Dask has one span a task group, and
a task group of ours is what segments of one step share: so nothing is put under another's span. The annotation is
worked out on the scheduler, from the first part of each key; what travels is one entry a step.

A scheduler keeps its spans as long as it lives, as it keeps its task groups: a few hundred bytes a step and run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.graph import Key

__all__ = ["Spans"]


class Spans(dict[Any, Mapping[str, Any]]):
    """An annotation ``span`` for each key of a run: Dask calls it with each.

    Parameters
    ----------
    steps : key -> the step that its segment is named by
    run : an id that no other run has
    """

    @classmethod
    def of(cls, steps: Mapping[Key, str], run: str) -> Spans:
        """The spans of a run."""
        return cls({k[0]: {"name": ("pipeline", step), "ids": (run, f"{run}-{step}")} for k, step in steps.items()})

    def __call__(self, key: Key) -> Mapping[str, Any] | None:
        return self.get(key[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)
