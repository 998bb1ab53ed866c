"""The kinds of values while a Graph is being built: what ops take and return.

=====  ===============================================================================================================
kind   collection
=====  ===============================================================================================================
array  ``xarray.DataArray`` over a ``dask.array.Array``, coordinates in memory
frame  :class:`Frame`
items  :class:`Items`
value  :class:`Single`
=====  ===============================================================================================================

An op may also return :class:`Parts`. Nothing here computes. In each class ``tasks`` holds the tasks that make the value
and everything that they need, the tasks of the op's inputs included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from pipeline.graph.graph import GraphNode, Key, ref

__all__ = ["Args", "Frame", "Items", "Parts", "Single", "args_of_task"]


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame whose partition ``i`` is the result of the task ``keys[i]``, a pandas frame without a meaningful index.

    Parameters
    ----------
    keys : at least one
    meta : an empty frame with the columns and dtypes of every partition
    nbytes : of a source, bytes of the whole frame as far as its metadata show; else nan
    lengths : number of rows of each partition; None if unknown until run time
    """

    tasks: Mapping[Key, GraphNode]
    keys: tuple[Key, ...]
    meta: pd.DataFrame
    nbytes: float = math.nan
    lengths: tuple[int, ...] | None = None

    @property
    def columns(self) -> list[str]:
        return [str(name) for name in self.meta.columns]

    def __dask_tokenize__(self) -> Any:
        """What tells this frame from others in one build: names of keys are unique there."""
        return self.keys[0], len(self.keys), self.columns


@dataclass(frozen=True, eq=False)
class Items:
    """Items; the task ``(name, i)`` gives item ``i``.

    Parameters
    ----------
    names, columns, droppable : as of :class:`pipeline.graph.value_types.ItemsType`
    """

    name: str
    tasks: Mapping[Key, GraphNode]
    n_tasks: int
    names: tuple[str, ...] | None = None
    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    droppable: bool = False

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple((self.name, i) for i in range(self.n_tasks))


@dataclass(frozen=True, eq=False)
class Single:
    """One Python object, the result of the task ``key``."""

    key: Key
    tasks: Mapping[Key, GraphNode]


@dataclass(frozen=True, eq=False)
class Parts:
    """Named collections that one op returns together; ``whole`` if the value itself can be referred to as well."""

    parts: Mapping[str, Any]
    whole: Any = None


Args = Mapping[str, Any] | Single | None
"""Keyword arguments of a user's function: known while building, or the result of a task."""


def args_of_task(args: Args, tasks: dict[Key, GraphNode]) -> Any:
    """Return the task argument that carries ``args``; tasks that make them at run time are added to ``tasks``."""
    if isinstance(args, Single):
        tasks.update(args.tasks)
        return ref(args.key)
    return dict(args or {})
