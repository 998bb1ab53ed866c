"""The type of a step's value (array, frame, items, …): the keys of its tasks, and what is known before the run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "ArrayType",
    "FrameType",
    "ItemsType",
    "Key",
    "LabelsType",
    "ObjectType",
    "PartsType",
    "ValueType",
    "whole_of",
]

Key = str | tuple[Any, ...]
"""The key of a task: ``(name, *chunk index)``."""


@dataclass(frozen=True, eq=False)
class LabelsType:
    """Labels along a dim that are computed in the run; task ``(name, i)`` gives those of chunk ``i``.

    Parameters
    ----------
    sizes : of the chunks; nan where the length is unknown until run time
    field : ``pyarrow.Field`` of the column that the labels come from
    """

    name: str
    dim: str
    sizes: tuple[float, ...]
    field: Any

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple((self.name, i) for i in range(len(self.sizes)))


@dataclass(frozen=True, eq=False)
class ArrayType:
    """An array; task ``(name, i, j, …)`` gives chunk ``(i, j, …)``, a numpy array.

    Parameters
    ----------
    name : first part of the keys
    dims : names of the dims, in order
    chunks : sizes along each dim; nan where the length is unknown until run time
    dtype : of every chunk
    template : ``xarray.Dataset`` with the coordinates known before the run (numpy) and the array's attrs, no data
    labels : coordinate -> labels that are computed in the run
    """

    name: str
    dims: tuple[str, ...]
    chunks: tuple[tuple[float, ...], ...]
    dtype: Any
    template: Any
    labels: Mapping[str, LabelsType] = field(default_factory=dict)

    kind: Literal["array"] = field(default="array", init=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys of the chunks, then of the labels."""
        return self.chunk_keys + tuple(key for labels in self.labels.values() for key in labels.keys)

    @property
    def chunk_keys(self) -> tuple[Key, ...]:
        return tuple((self.name, *index) for index in itertools.product(*(range(len(c)) for c in self.chunks)))

    @property
    def nbytes(self) -> float:
        """Bytes of the whole array; nan if a length is unknown until run time."""
        return math.prod(sum(c) for c in self.chunks) * float(self.dtype.itemsize)

    @property
    def largest_chunk(self) -> float:
        """Bytes of the largest chunk; nan if a length is unknown until run time."""
        return math.prod(max(c, default=0) for c in self.chunks) * float(self.dtype.itemsize)


@dataclass(frozen=True, eq=False)
class FrameType:
    """A frame; task ``(name, i)`` gives partition ``i``, a ``pyarrow.Table``.

    Parameters
    ----------
    schema : ``pyarrow.Schema`` of every partition; its fields say whether a column allows missing values
    ordered : whether the order of the rows is part of the value, as after a sort
    nbytes : bytes that a source reads, as far as metadata show; nan for any other frame
    lengths : rows of each partition; None if they are unknown until run time
    at_most : bytes that it does not exceed, as far as metadata of its sources show; nan if unknown
    """

    name: str
    n_partitions: int
    schema: Any
    ordered: bool = False
    nbytes: float = math.nan
    lengths: tuple[int, ...] | None = None
    at_most: float = math.nan

    kind: Literal["frame"] = field(default="frame", init=False)

    @property
    def bound(self) -> float:
        """Bytes that the whole frame does not exceed; nan if unknown."""
        return self.at_most if math.isnan(self.nbytes) else self.nbytes

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple((self.name, i) for i in range(self.n_partitions))


@dataclass(frozen=True, eq=False)
class ItemsType:
    """An ordered list of items, each with a key.

    Parameters
    ----------
    name : first part of the tasks' keys
    names : the items' keys (``alpha=0.1,fold=2``), task ``(name, i)`` giving item ``i``; None if they are unknown until
        run time: then each task ``(name, i)`` gives a list of pairs ``(item key, item)``
    columns : name in ``over`` or ``matrix`` -> its value for each item, where the values are scalars
    n_tasks : number of tasks that give items
    droppable : whether a failed item is replaced by a :class:`pipeline.graph.segments.Dropped` (``on_error: drop``)
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
class ObjectType:
    """One Python object, given by the task ``(name,)``."""

    name: str

    kind: Literal["value"] = field(default="value", init=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        return ((self.name,),)


@dataclass(frozen=True, eq=False)
class PartsType:
    """A value with named parts, each of its own type (``svd.u``); ``whole``: the type of the value itself, if any."""

    parts: Mapping[str, ValueType]
    whole: ValueType | None = None

    kind: Literal["parts"] = field(default="parts", init=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        members = [*([self.whole] if self.whole else []), *self.parts.values()]
        return tuple(key for member in members for key in member.keys)


ValueType = ArrayType | FrameType | ItemsType | ObjectType | PartsType


def whole_of(value_type: ValueType) -> ValueType:
    """Return the type of the value itself where a value with parts has one; else ``value_type`` unchanged."""
    if isinstance(value_type, PartsType) and value_type.whole is not None:
        return value_type.whole
    return value_type
