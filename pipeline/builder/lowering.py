"""Turn a collection into named tasks and a value type, and a value type into a collection.

A step's inputs enter as collections over placeholder tasks that have the real keys of the inputs. The tasks that the
step adds are those with other keys; they are renamed to ``(instance/layer, *chunk index)``, without the aliases that
dask puts in between. No optimiser sees more than one step, so every task belongs to one step.

Rejected: one optimised collection for all steps, since fusion and filter push-down move work between steps. The private
parts of dask's task specification that this needs are used here and in ``graph.py`` only.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import Alias, DataNode, GraphNode, List, Task, TaskRef, convert_legacy_graph
from dask.blockwise import Blockwise, _get_coord_mapping, blockwise_token
from dask.highlevelgraph import HighLevelGraph
from dask.utils import key_split

from pipeline.graph.graph import Key, constant
from pipeline.graph.value_types import (
    ArrayType,
    FrameType,
    ItemsType,
    LabelsType,
    ObjectType,
    PartsType,
    ValueType,
)
from pipeline.ops.arrays.deferred_labels import DeferredLabels, deferred_labels, plain_coords, with_labels
from pipeline.ops.collections import Frame, Items, Parts, Single

__all__ = ["building", "enter", "lower"]


def building() -> Any:
    """Set the dask options under which every step is built.

    P2P shuffles and rechunks, which dask chooses when there is a client, can be neither renamed nor run elsewhere.
    """
    return dask.config.set({"dataframe.shuffle.method": "tasks", "array.rechunk.method": "tasks"})


# ---------------------------------------------------------------------------------------------------------------------
# In: a collection of placeholder tasks for a value type
# ---------------------------------------------------------------------------------------------------------------------


def enter(value_type: ValueType) -> Any:
    """Return the collection of a value type; its tasks are placeholders with real keys and must not be run."""
    if isinstance(value_type, ArrayType):
        coords: dict[Any, Any] = {
            n: c for n, c in value_type.template.coords.items() if set(c.dims) <= set(value_type.dims)
        }
        labels: dict[str, DeferredLabels] = {}
        for name, own in value_type.labels.items():
            kind = own.dtype if isinstance(own.dtype, np.dtype) else np.dtype(object)
            data = da.Array(_placeholders(own.keys), own.name, (own.sizes,), dtype=kind)
            labels[name] = DeferredLabels(own.dim, data, own.dtype)
        array = xr.DataArray(_data(value_type), dims=value_type.dims, coords=coords, attrs=value_type.template.attrs)
        return with_labels(array, labels)
    if isinstance(value_type, FrameType):
        keys = value_type.keys
        return Frame(_placeholders(keys), keys, value_type.meta, lengths=value_type.lengths)
    if isinstance(value_type, ItemsType):
        tasks = _placeholders(value_type.keys)
        return Items(
            value_type.name, tasks, value_type.n_tasks, value_type.names, value_type.columns, value_type.droppable
        )
    if isinstance(value_type, ObjectType):
        return Single(value_type.keys[0], _placeholders(value_type.keys))
    return Parts(
        {name: enter(part) for name, part in value_type.parts.items()},
        enter(value_type.whole) if value_type.whole else None,
    )


def _placeholders(keys: Iterable[Key]) -> dict[Key, GraphNode]:
    return {key: constant(key, None) for key in keys}


def _data(value_type: ArrayType) -> da.Array:
    meta = np.empty((0,) * len(value_type.dims), dtype=value_type.dtype)
    return da.Array(_placeholders(value_type.chunk_keys), value_type.name, value_type.chunks, meta=meta)


# ---------------------------------------------------------------------------------------------------------------------
# Out: a collection as tasks of one instance of a step
# ---------------------------------------------------------------------------------------------------------------------


def lower(value: Any, instance: str, known: Mapping[Key, GraphNode], *, ordered: bool = False) -> tuple[
    dict[Key, GraphNode], ValueType
]:  # fmt: skip
    """Return the tasks that a step adds, named after its instance, and the type of its value.

    Parameters
    ----------
    value : what an op returned: DataArray, dask DataFrame, Items, Single or Parts
    known : the tasks of the steps before it; tasks with these keys are not the step's own
    ordered : whether a frame's row order is part of the value
    """
    return _Lowering(instance, known).lower(value, instance, ordered=ordered)


class _Lowering:
    """The lowering of one step; ``names`` grows: first part of a key in dask -> in the Graph."""

    def __init__(self, instance: str, known: Mapping[Key, GraphNode]) -> None:
        self.instance, self.known = instance, known
        self.names: dict[str, str] = {}
        self.taken: set[str] = set()

    def lower(self, value: Any, target: str, *, ordered: bool = False) -> tuple[dict[Key, GraphNode], ValueType]:
        if isinstance(value, xr.DataArray):
            return self._array(value, target)
        if isinstance(value, Frame):
            return self._frame(value, target, ordered=ordered)
        if isinstance(value, Items):
            own, name = self._named(value.tasks, value.name, target)
            return own, ItemsType(name, value.names, value.columns, value.n_tasks, value.droppable)
        if isinstance(value, Single):
            first = value.key[0] if isinstance(value.key, tuple) else value.key
            own, name = self._named(value.tasks, first, target)
            if (name,) != self._key(value.key):
                own[(target,)] = Alias((target,), self._key(value.key))
                name = target
            return own, ObjectType(name)
        own, value_types = {}, {}
        whole = None
        if value.whole is not None:
            tasks, whole = self.lower(value.whole, target)
            own |= tasks
        for name, part in value.parts.items():
            tasks, value_types[name] = self.lower(part, f"{target}.{name}")
            own |= tasks
        return own, PartsType(value_types, whole)

    def _array(self, x: xr.DataArray, target: str) -> tuple[dict[Key, GraphNode], ValueType]:
        data = x.data if isinstance(x.data, da.Array) else da.from_array(np.asarray(x.data), chunks=-1, name=target)
        own, name = self._named(data.dask, data.name, target)
        labels: dict[str, LabelsType] = {}
        for coordinate, found in deferred_labels(x).items():
            tasks, first = self._named(found.data.dask, found.data.name, f"{target}/labels.{coordinate}")
            own |= tasks
            labels[coordinate] = LabelsType(first, found.dim, found.data.chunks[0], found.dtype)
        # variables: a coordinate as an array has those without dims among its own
        kept = {c: v.variable for c, v in plain_coords(x).items()}
        template = xr.Dataset(coords=kept, attrs=x.attrs)
        dims = tuple(str(d) for d in x.dims)
        return own, ArrayType(name, dims, data.chunks, data.dtype, template, labels)

    def _frame(self, x: Frame, target: str, *, ordered: bool) -> tuple[dict[Key, GraphNode], ValueType]:
        name = f"{target}/partition"  # any: it becomes ``target``, or that of tasks in the same order
        keys: list[Key] = [(name, i) for i in range(len(x.keys))]
        aliases = {new: Alias(new, key) for new, key in zip(keys, x.keys, strict=True)}
        own, name = self._named({**x.tasks, **aliases}, name, target, keys=keys)
        meta = x.meta.reset_index(drop=True)
        return own, FrameType(name, len(keys), meta, ordered, x.nbytes, x.lengths)

    # -- names --------------------------------------------------------------------------------------------------------

    def _named(
        self, tasks: Mapping[Key, GraphNode], result: str, target: str, *, keys: list[Key] | None = None
    ) -> tuple[dict[Key, GraphNode], str]:
        """Return the step's own tasks among ``tasks`` under new names, and the new first part of the result's keys."""
        own = {key: node for key, node in _materialized(tasks).items() if key not in self.known}
        old = {key: node for key, node in own.items() if not isinstance(node, GraphNode)}
        if old:  # arrays in memory, and tuples of old
            own |= convert_legacy_graph(old, _Either(own, self.known))
        if result == target and keys is None and self._at_home(own):
            return own, result
        results = keys if keys is not None else [key for key in own if _first(key) == result]
        aliases: dict[Key, Any] = {key: node.target for key, node in own.items() if isinstance(node, Alias)}
        through = {key: _end(key, aliases) for key in aliases}
        ends = [through.get(key, key) for key in results]
        if results and all(_same_place(key, end, ends[0]) for key, end in zip(results, ends, strict=True)):
            # the results are aliases of one layer's chunks in the same order: that layer is the value
            result, results = _first(ends[0]), ends
            if ends[0] in self.known:
                return {}, result
        if result not in self.names and results:
            self.names[result] = target
            self.taken.add(target)
        for key in own:
            first = _first(key)
            if first not in self.names and key not in aliases:
                self.names[first] = self._layer(first)
        kept = set(results) if aliases else set()
        moved = {key: new for key in own if (new := self._key(key)) != key}
        moved |= {key: moved.get(end, end) for key, end in through.items() if key not in kept}
        named: dict[Key, GraphNode] = {}
        for key, node in own.items():
            if key in aliases and key not in kept:
                continue
            new = moved.get(key, key)
            named[new] = _renamed(node, moved, new)
        return named, self.names.get(result, result)

    def _at_home(self, own: Mapping[Key, GraphNode]) -> bool:
        """Return whether all tasks are named after the instance already, as those of calls are."""
        firsts = {key[0] if isinstance(key, tuple) else "" for key in own}
        return all(self._belongs(first) for first in firsts) and not any(
            isinstance(node, Alias) for node in own.values()
        )

    def _key(self, key: Key) -> Key:
        first = _first(key)
        name = self.names.get(first, first)
        return (name, *key[1:]) if isinstance(key, tuple) else (name,)

    def _belongs(self, first: str) -> bool:
        return first == self.instance or first.startswith((f"{self.instance}/", f"{self.instance}."))

    def _layer(self, first: str) -> str:
        """Return the name of an inner layer: the instance, and dask's name for the work."""
        if self._belongs(first):
            return first
        base = f"{self.instance}/{key_split(first)}"
        for number in itertools.count(1):
            name = base if number == 1 else f"{base}.{number}"
            if name not in self.taken:
                self.taken.add(name)
                return name
        raise AssertionError("unreachable")


def _first(key: Key) -> str:
    return str(key[0]) if isinstance(key, tuple) else str(key)


def _same_place(key: Key, end: Key, first: Key) -> bool:
    """Return whether ``end`` is in the layer of ``first``, at the index of ``key``."""
    return isinstance(key, tuple) and isinstance(end, tuple) and end[1:] == key[1:] and end[0] == first[0]


def _end(key: Key, aliases: Mapping[Key, Key]) -> Key:
    while key in aliases:
        key = aliases[key]
    return key


# ---------------------------------------------------------------------------------------------------------------------
# Nodes
# ---------------------------------------------------------------------------------------------------------------------


class _Either(Container[Key]):
    """The keys of two graphs, without merging them."""

    def __init__(self, one: Container[Key], other: Container[Key]) -> None:
        self.one, self.other = one, other

    def __contains__(self, key: object) -> bool:
        return key in self.one or key in self.other


def _materialized(tasks: Mapping[Key, GraphNode]) -> dict[Key, Any]:
    """Return all tasks as one dict, layer by layer."""
    if not isinstance(tasks, HighLevelGraph):
        return dict(tasks)
    made: dict[Key, Any] = {}
    layers: Mapping[str, Any] = tasks.layers
    for layer in layers.values():
        made |= _chunk_by_chunk(layer) if isinstance(layer, Blockwise) else dict(layer)
    return made


def _chunk_by_chunk(layer: Blockwise) -> dict[Key, Any]:
    """Return the tasks of a layer that works chunk by chunk; dask's own conversion makes each node several times.

    Layers that contract a dim, or whose tasks get the chunk's position, are left to dask.
    """
    maps, contracted, ends = _get_coord_mapping(
        layer.dims, layer.output_indices, layer.numblocks, layer.indices, layer.concatenate
    )
    if layer.io_deps or layer.output_blocks or any(contracted) or layer.is_materialized():
        return dict(layer)
    work: GraphNode = layer.task
    chunked = []
    for number, ((argument, along), places) in enumerate(zip(layer.indices, maps, strict=True)):
        token = blockwise_token(number)
        if along is not None:
            chunked.append((token, argument, places))
        elif token in work.dependencies:
            literal: Any = argument if isinstance(argument, GraphNode | TaskRef) else DataNode(None, argument)
            work = work.substitute({token: literal})
    made: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(layer.dims[i]) for i in layer.output_indices)):
        key, at = (layer.output, *index), index + ends
        made[key] = _renamed(work, {token: (name, *[at[p] for p in places]) for token, name, places in chunked}, key)
    return made


def _renamed(node: GraphNode, moved: Mapping[Key, Key], key: Key) -> GraphNode:
    """Return the node with another key and its dependencies renamed; the node itself if nothing changes.

    dask's ``substitute`` gives the same in three times the time, and all tasks of a step are renamed.
    """
    changes = not moved.keys().isdisjoint(node.dependencies)
    if not changes and key == node.key:
        return node
    if type(node) is not Task:
        return node.substitute({d: moved[d] for d in node.dependencies if d in moved}, key=key)
    new = Task.__new__(Task)
    new.key, new.func, new._data_producer = key, node.func, node._data_producer
    new._is_coro = new._token = new._repr = None
    new.args, new.kwargs, new._dependencies = node.args, node.kwargs, node._dependencies
    if changes:
        new.args = tuple([_rerefered(value, moved) for value in node.args])
        if node.kwargs:
            new.kwargs = {name: _rerefered(value, moved) for name, value in node.kwargs.items()}
        new._dependencies = frozenset([moved.get(d, d) for d in node._dependencies])
    return new


def _rerefered(value: Any, moved: Mapping[Any, Key]) -> Any:
    """Return an argument of a node with the keys in it renamed."""
    if type(value) is TaskRef:
        return TaskRef(moved[value.key]) if value.key in moved else value
    if type(value) is List:
        return List(*[_rerefered(inner, moved) for inner in value.args])
    if isinstance(value, GraphNode):
        return value.substitute({d: moved[d] for d in value.dependencies if d in moved})
    return value
