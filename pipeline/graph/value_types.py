"""Layouts: where the parts of a step's value lie in the Graph, and what is known of it without running anything."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["ArrayLayout", "FrameLayout", "ItemsLayout", "Key", "LabelsLayout", "Layout", "PartsLayout", "ValueLayout"]

Key = str | tuple[Any, ...]
"""The key of a task: ``(name, *chunk index)``."""


@dataclass(frozen=True, eq=False)
class LabelsLayout:
    """Labels along a dim that only the run knows: those of chunk ``i`` are the task ``(name, i)``.

    Parameters
    ----------
    sizes : of the chunks; nan where the length is known only in the run
    dtype : as pandas has it, of the column that they were
    """

    name: str
    dim: str
    sizes: tuple[float, ...]
    dtype: Any

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple((self.name, i) for i in range(len(self.sizes)))


@dataclass(frozen=True, eq=False)
class ArrayLayout:
    """An array: chunk ``(i, j, …)`` is the task ``(name, i, j, …)``, a numpy array.

    Parameters
    ----------
    name : first part of the keys
    chunks : sizes along each dim; nan where the length is known only in the run
    dtype : of every chunk
    template : an ``xarray.Dataset`` with the coordinates in memory (numpy), no data variable, and the array's attrs
    dims : names of the dims, in order
    labels : by the coordinate's name those whose values only the run knows
    """

    name: str
    dims: tuple[str, ...]
    chunks: tuple[tuple[float, ...], ...]
    dtype: Any
    template: Any
    labels: Mapping[str, LabelsLayout] = field(default_factory=dict)

    kind: Literal["array"] = field(default="array", init=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Of the chunks, then of the labels."""
        return self.chunk_keys + tuple(key for labels in self.labels.values() for key in labels.keys)

    @property
    def chunk_keys(self) -> tuple[Key, ...]:
        return tuple((self.name, *index) for index in itertools.product(*(range(len(c)) for c in self.chunks)))

    @property
    def nbytes(self) -> float:
        """Of the whole array; nan where a length is known only in the run."""
        return math.prod(sum(c) for c in self.chunks) * float(self.dtype.itemsize)

    @property
    def largest_chunk(self) -> float:
        """Bytes of the largest chunk; nan where a length is known only in the run."""
        return math.prod(max(c, default=0) for c in self.chunks) * float(self.dtype.itemsize)


@dataclass(frozen=True, eq=False)
class FrameLayout:
    """A frame: partition ``i`` is the task ``(name, i)``: pandas, like ``meta``; its index means nothing.

    Parameters
    ----------
    ordered : row order is part of the value: after a sort
    nbytes : of what a source reads, as far as metadata tell; nan of any other frame
    lengths : rows of each partition; None where they are known only in the run
    """

    name: str
    n_partitions: int
    meta: Any
    ordered: bool = False
    nbytes: float = math.nan
    lengths: tuple[int, ...] | None = None

    kind: Literal["frame"] = field(default="frame", init=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple((self.name, i) for i in range(self.n_partitions))


@dataclass(frozen=True, eq=False)
class ItemsLayout:
    """Items: in order, each with a key.

    Parameters
    ----------
    name : first part of the tasks' keys
    names : the items' keys (``alpha=0.1,fold=2``), item ``i`` being the task ``(name, i)``; None where they are known
        only in the run: then task ``(name, i)`` of ``n_tasks`` is a list of ``(item key, item)`` pairs
    columns : scalar over and matrix values by name, one value an item
    n_tasks : how many tasks hold the items
    droppable : a failed item is a :class:`pipeline.graph.segments.Dropped` in its place (``on_error: drop``)
    """

    name: str
    names: tuple[str, ...] | None
    columns: Mapping[str, tuple[Any, ...]]
    n_tasks: int
    droppable: bool = False

    kind: Literal["items"] = field(default="items", init=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple((self.name, i) for i in range(self.n_tasks))


@dataclass(frozen=True, eq=False)
class ValueLayout:
    """One Python object: the task ``(name,)``."""

    name: str

    kind: Literal["value"] = field(default="value", init=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        return ((self.name,),)


@dataclass(frozen=True, eq=False)
class PartsLayout:
    """Named parts, each a layout of its own (``svd.u``); ``whole`` where the value itself can be had too."""

    parts: Mapping[str, Layout]
    whole: Layout | None = None

    kind: Literal["parts"] = field(default="parts", init=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        layouts = [*([self.whole] if self.whole else []), *self.parts.values()]
        return tuple(key for layout in layouts for key in layout.keys)


Layout = ArrayLayout | FrameLayout | ItemsLayout | ValueLayout | PartsLayout
