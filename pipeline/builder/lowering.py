"""Turn a collection into named tasks and a value type, and a value type into a collection.

A step's inputs enter as collections over placeholder tasks that have the real keys of the inputs. The tasks that the
step adds are those with other keys; they are renamed to ``(instance/layer, *chunk index)``, without the aliases that
dask puts in between. No optimiser sees more than one step, so every task belongs to one step.

Rejected: one optimised collection for all steps, since fusion and filter push-down move work between steps. The private
parts of dask's task specification that this needs are used here and in ``graph.py`` only.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from dask._task_spec import Alias, GraphNode, convert_legacy_graph
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph
from dask.utils import key_split

from pipeline.builder.blockwise import (
    LayerKeys,
    Layers,
    blockwise_nodes,
    renamed,
    works_by_chunk,
)
from pipeline.graph.graph import Key
from pipeline.graph.importing import Deferred, is_instance
from pipeline.graph.nodes import constant
from pipeline.graph.value_types import (
    ArrayType,
    FrameType,
    ItemsType,
    LabelsType,
    ObjectType,
    PartsType,
    ValueType,
)
from pipeline.ops.arrays.deferred_labels import DeferredLabels, deferred_labels, label_dtype, plain_coords, with_labels
from pipeline.ops.collections import Frame, Items, Parts, Single

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
else:
    da = Deferred("dask.array")
    xr = Deferred("xarray")

__all__ = ["building", "enter", "lower"]


def building() -> Any:
    """Set the dask options under which every step is built.

    P2P shuffles and rechunks, which dask chooses when there is a client, can be neither renamed nor run elsewhere.
    """
    return dask.config.set({"dataframe.shuffle.method": "tasks", "array.rechunk.method": "tasks"})


# ---------------------------------------------------------------------------------------------------------------------
# In: a collection of placeholder tasks for a value type
# ---------------------------------------------------------------------------------------------------------------------


class _Placeholders(dict[Key, GraphNode]):
    """The tasks of an input: of each only the key is real."""


_PLACEHOLDER = constant("placeholder", None)


def enter(value_type: ValueType, layers: Layers | None = None) -> Any:
    """Return the collection of a value type; its tasks are placeholders with real keys and must not be run.

    Parameters
    ----------
    layers : the layers that this build has met
    """
    layers = layers or Layers()
    if isinstance(value_type, ArrayType):
        coords: dict[Any, Any] = {
            n: c for n, c in value_type.template.coords.items() if set(c.dims) <= set(value_type.dims)
        }
        labels: dict[str, DeferredLabels] = {}
        for name, own in value_type.labels.items():
            data = da.Array(_placeholders(own.keys), own.name, (own.sizes,), dtype=label_dtype(own.field))
            labels[name] = DeferredLabels(own.dim, data, own.field)
        data, attrs = _data(value_type, layers), value_type.template.attrs
        return with_labels(xr.DataArray(data, dims=value_type.dims, coords=coords, attrs=attrs), labels)
    if isinstance(value_type, FrameType):
        keys = tuple(layers.of(value_type.name, (value_type.n_partitions,)).keys)
        schema, known = value_type.schema, value_type.lengths
        return Frame(_placeholders(keys), keys, schema, value_type.nbytes, known, at_most=value_type.at_most)
    if isinstance(value_type, ItemsType):
        tasks = _placeholders(layers.of(value_type.name, (value_type.n_tasks,)).keys)
        return Items(
            value_type.name, tasks, value_type.n_tasks, value_type.names, value_type.columns, value_type.droppable
        )
    if isinstance(value_type, ObjectType):
        return Single(value_type.keys[0], _placeholders(value_type.keys))
    return Parts(
        {name: enter(part, layers) for name, part in value_type.parts.items()},
        enter(value_type.whole, layers) if value_type.whole else None,
    )


def _placeholders(keys: Iterable[Key]) -> _Placeholders:
    return _Placeholders(dict.fromkeys(keys, _PLACEHOLDER))


def _data(value_type: ArrayType, layers: Layers) -> da.Array:
    meta = np.empty((0,) * len(value_type.dims), dtype=value_type.dtype)
    keys = layers.of(value_type.name, tuple(map(len, value_type.chunks))).keys
    return da.Array(_placeholders(keys), value_type.name, value_type.chunks, meta=meta)


# ---------------------------------------------------------------------------------------------------------------------
# Out: a collection as tasks of one instance of a step
# ---------------------------------------------------------------------------------------------------------------------


def lower(
    value: Any, instance: str, known: Mapping[Key, GraphNode], *, ordered: bool = False, layers: Layers | None = None
) -> tuple[dict[Key, GraphNode], ValueType]:
    """Return the tasks that a step adds, named after its instance, and the type of its value.

    Parameters
    ----------
    value : what an op returned: DataArray, Frame, Items, Single or Parts
    known : the tasks of the steps before it; tasks with these keys are not the step's own
    ordered : whether a frame's row order is part of the value
    layers : the layers that this build has met; the value's are added
    """
    return _Lowering(instance, known, layers or Layers()).lower(value, instance, ordered=ordered)


class _Lowering:
    """The lowering of one step; ``names`` grows: first part of a key in dask -> in the Graph."""

    def __init__(self, instance: str, known: Mapping[Key, GraphNode], layers: Layers) -> None:
        self.instance, self.known, self.layers = instance, known, layers
        self.names: dict[str, str] = {}
        self.taken: set[str] = set()

    def lower(self, value: Any, target: str, *, ordered: bool = False) -> tuple[dict[Key, GraphNode], ValueType]:
        if is_instance(value, "xarray", "DataArray"):
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
            labels[coordinate] = LabelsType(first, found.dim, found.data.chunks[0], found.field)
        # variables: a coordinate as an array has those without dims among its own
        kept = {c: v.variable for c, v in plain_coords(x).items()}
        template = xr.Dataset(coords=kept, attrs=x.attrs)
        dims = tuple(str(d) for d in x.dims)
        return own, ArrayType(name, dims, data.chunks, data.dtype, template, labels)

    def _frame(self, x: Frame, target: str, *, ordered: bool) -> tuple[dict[Key, GraphNode], ValueType]:
        first = _first(x.keys[0])
        if all(_same_place(("", i), key, x.keys[0]) for i, key in enumerate(x.keys)):
            own, name = self._named(x.tasks, first, target, keys=list(x.keys))
        else:
            name = f"{target}/partition"  # any: it becomes ``target``, or that of tasks in the same order
            keys: list[Key] = [(name, i) for i in range(len(x.keys))]
            aliases = {new: Alias(new, key) for new, key in zip(keys, x.keys, strict=True)}
            own, name = self._named({**x.tasks, **aliases}, name, target, keys=keys)
        return own, FrameType(name, len(x.keys), x.schema, ordered, x.nbytes, x.lengths, x.at_most)

    # -- names --------------------------------------------------------------------------------------------------------

    def _named(
        self, tasks: Mapping[Key, GraphNode], result: str, target: str, *, keys: list[Key] | None = None
    ) -> tuple[dict[Key, GraphNode], str]:
        """Return the step's own tasks among ``tasks`` under new names, and the new first part of the result's keys."""
        own = _OwnTasks(tasks, self.known)
        aliases: dict[Key, Any] = {key: node.target for key, node in own.made.items() if type(node) is Alias}
        if result == target and keys is None and not aliases and all(map(self._belongs, own.firsts)):
            return self._moved(own, {}), result
        through = {key: _end(key, aliases) for key in aliases}
        kept: frozenset[Key] = frozenset()
        if keys is not None or aliases:
            results = keys if keys is not None else own.keys_of(result)
            ends = [through.get(key, key) for key in results]
            if results and all(_same_place(key, end, ends[0]) for key, end in zip(results, ends, strict=True)):
                # the results are aliases of one layer's chunks in the same order: that layer is the value
                result, results = _first(ends[0]), ends
                if ends[0] in self.known:
                    return {}, result
            kept = frozenset(results)
        if result in own.firsts and result not in self.names:
            self.names[result] = target
            self.taken.add(target)
        collapsed = through.keys() - kept
        for first in own.firsts_without(collapsed) if collapsed else own.firsts:
            if first not in self.names:
                self.names[first] = self._layer(first)
        moved = {key: new for key in own.made if (new := self._key(key)) != key}
        if own.made:  # they may need tasks of the other layers
            moved |= {key: self._key(key) for name in own.by_chunk for key in own.keys_of(name)}
        moved |= {key: moved.get(through[key], through[key]) for key in collapsed}
        return self._moved(own, moved, collapsed), self.names.get(result, result)

    def _moved(self, own: _OwnTasks, moved: dict[Key, Key], collapsed: Set[Key] = frozenset()) -> dict[Key, GraphNode]:
        """Return the step's own tasks under their new keys.

        Parameters
        ----------
        moved : key -> its new key, or for an alias that is left out the key that it leads to
        """

        def keys_of(name: str, n_blocks: tuple[int, ...]) -> LayerKeys:
            if name in own.by_chunk or name not in own.firsts:
                return self.layers.of(self.names.get(name, name), n_blocks)
            old: list[Key] = [(name, *index) for index in self.layers.indices(n_blocks)]
            return LayerKeys([moved.get(key, key) for key in old])

        def end_of(key: Key) -> Key:
            return moved.get(key) or (self._key(key) if _first(key) in own.by_chunk else key)

        named: dict[Key, GraphNode] = {}
        for part in own.parts:
            if isinstance(part, str):
                layer = own.by_chunk[part]
                keys = self.layers.named(layer, self.names.get(part, part))
                named |= blockwise_nodes(layer, keys, self.layers, keys_of, end_of)
            else:
                for key in part:
                    if key not in collapsed:
                        new = moved.get(key, key)
                        named[new] = renamed(own.made[key], moved, new)
        return named

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


class _OwnTasks:
    """The tasks of a collection that no step before has.

    Attributes
    ----------
    by_chunk : layers whose tasks are made under their new names at once
    made : the other tasks
    parts : name of one of the layers, or the keys of other tasks, in the order of the collection
    """

    def __init__(self, tasks: Mapping[Key, GraphNode], known: Container[Key]) -> None:
        self.by_chunk: dict[str, Blockwise] = {}
        self.made: dict[Key, Any] = {}
        self.parts: list[str | list[Key]] = []
        layers: Mapping[str, Any] = tasks.layers if isinstance(tasks, HighLevelGraph) else {"": tasks}
        for name, layer in layers.items():
            if type(getattr(layer, "mapping", layer)) is _Placeholders:
                continue
            if works_by_chunk(layer):
                self.by_chunk[name] = layer
                self.parts.append(name)
            else:
                own = {key: node for key, node in dict(layer).items() if key not in known}
                self.made |= own
                self.parts.append(list(own))
        old = {key: node for key, node in self.made.items() if not isinstance(node, GraphNode)}
        if old:  # arrays in memory, and tuples of old
            keys = dict.fromkeys(key for name in self.by_chunk for key in self.keys_of(name))
            self.made |= convert_legacy_graph(old, _AnyOf(self.made, keys, known))
        self.firsts = self.firsts_without(())

    def firsts_without(self, keys: Container[Key]) -> dict[str, None]:
        """Return the first parts of all keys but those of ``keys``, in the order of the collection."""
        firsts: dict[str, None] = {}
        for part in self.parts:
            firsts |= dict.fromkeys([part] if isinstance(part, str) else [_first(k) for k in part if k not in keys])
        return firsts

    def keys_of(self, first: str) -> list[Key]:
        """Return the keys with this first part."""
        found: dict[Key, None] = {}
        if first in self.by_chunk:
            found |= dict.fromkeys(Layers().named(self.by_chunk[first], first).keys)
        return list(found | dict.fromkeys(key for key in self.made if _first(key) == first))


class _AnyOf(Container[Key]):
    """The keys of several graphs, without merging them."""

    def __init__(self, *graphs: Container[Key]) -> None:
        self.graphs = graphs

    def __contains__(self, key: object) -> bool:
        return any(key in graph for graph in self.graphs)
