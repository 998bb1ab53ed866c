"""The kinds of values while a Graph is being built.

======  ==============================================================================================================
kind    collection
======  ==============================================================================================================
array   ``xarray.DataArray`` over a ``dask.array.Array``, coordinates in memory
frame   ``dask.dataframe.DataFrame`` without a meaningful index
items   :class:`Items`
value   :class:`Single`
======  ==============================================================================================================

An op may also give :class:`Parts`. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.graph.graph import GraphNode, Key, ref

__all__ = ["LENGTHS", "NBYTES", "Args", "Items", "Parts", "Single", "handed"]

NBYTES = "pipeline-nbytes"
"""Where the meta of a source's frame says (in its ``attrs``) how many bytes the whole frame has."""
LENGTHS = "pipeline-lengths"
"""Where the meta of a frame says (in its ``attrs``) how many rows each partition has, if that is known."""


@dataclass(frozen=True, eq=False)
class Items:
    """Items, one task each: task ``i`` is ``(name, i)``. ``names``, ``columns``: see its ``ItemsType``.

    ``tasks`` holds the tasks that make them, whatever they need included (the tasks of the inputs, too).
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
    """One Python object, the result of the task ``key``; ``tasks`` as in :class:`Items`."""

    key: Key
    tasks: Mapping[Key, GraphNode]


@dataclass(frozen=True, eq=False)
class Parts:
    """Named collections that one op gives together; ``whole`` where the value itself can be referred to as well."""

    parts: Mapping[str, Any]
    whole: Any = None


Args = Mapping[str, Any] | Single | None
"""Keyword arguments of a function of the user's: known while building, or the result of a task."""


def handed(args: Args, tasks: dict[Key, GraphNode]) -> Any:
    """The argument that brings ``args`` into a task; what makes those that only the run knows joins ``tasks``."""
    if isinstance(args, Single):
        tasks.update(args.tasks)
        return ref(args.key)
    return dict(args or {})
