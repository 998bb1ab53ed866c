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
from typing import TYPE_CHECKING, Any

from pipeline.graph.column_types import least_bytes
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, ref

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Args", "Frame", "Items", "Parts", "Single", "args_of_task"]


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame whose partition ``i`` is the result of the task ``keys[i]``, a ``pyarrow.Table`` of the frame's schema.

    Parameters
    ----------
    keys : at least one
    schema : names, types, and whether a column allows missing values; the same for every partition
    nbytes : of a source, bytes of the whole frame as far as its metadata show; else nan
    lengths : number of rows of each partition; None if unknown until run time
    ordered : whether the order of its rows is part of the value
    at_most : bytes that the whole frame does not exceed, as far as metadata of its sources show; nan if unknown
    """

    tasks: Mapping[Key, GraphNode]
    keys: tuple[Key, ...]
    schema: pa.Schema
    nbytes: float = math.nan
    lengths: tuple[int, ...] | None = None
    ordered: bool = False
    at_most: float = math.nan

    @property
    def columns(self) -> list[str]:
        return list(self.schema.names)

    @property
    def bound(self) -> float:
        """Bytes that the whole frame does not exceed; nan if unknown."""
        return self.at_most if math.isnan(self.nbytes) else self.nbytes

    @property
    def most_rows(self) -> float:
        """Rows that the whole frame does not exceed; nan if unknown."""
        if self.lengths is not None:
            return float(sum(self.lengths))
        width = sum(least_bytes(field.type) for field in self.schema)
        return self.bound / width if width else math.nan

    def __dask_tokenize__(self) -> Any:
        """What distinguishes this frame from others in one build: names of keys are unique there."""
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
