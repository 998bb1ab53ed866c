"""Make the tasks of dask's layers that work chunk by chunk, under the names that they have in the Graph.

dask's own conversion makes each node several times: once for each argument, once more for its key; and then it would be
renamed. The private parts of dask that this needs are those of :mod:`pipeline.builder.lowering`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from dask._task_spec import DataNode, GraphNode, List, Task, TaskRef, parse_input
from dask.blockwise import Blockwise, _get_coord_mapping, blockwise_token
from dask.layers import ArrayBlockIdDep

from pipeline.graph.graph import Key

__all__ = ["LayerKeys", "Layers", "blockwise_nodes", "renamed", "renamed_all", "works_by_chunk"]

Index = tuple[int, ...]


class LayerKeys:
    """The keys of a layer in the order of their indices, and what nodes that need them refer to them by.

    Nodes share these objects: a million nodes that each had their own would take twice the memory.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = keys

    @cached_property
    def refs(self) -> list[TaskRef]:
        """A reference to each key."""
        return [TaskRef(key) for key in self.keys]

    @cached_property
    def alone(self) -> list[frozenset[Key]]:
        """For each key the dependencies of a node that needs nothing else."""
        return [frozenset((key,)) for key in self.keys]


class Layers:
    """The layers that a build has met: those that are the values of steps, and the numbers of the blocks of a shape."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Index], LayerKeys] = {}
        self._indices: dict[Index, list[Index]] = {}
        self._constants: dict[Index, list[GraphNode]] = {}

    def of(self, name: str, n_blocks: Index) -> LayerKeys:
        """Return the keys of a layer with so many blocks along each axis."""
        if (name, n_blocks) not in self._known:
            self._known[name, n_blocks] = LayerKeys([(name, *index) for index in self.indices(n_blocks)])
        return self._known[name, n_blocks]

    def named(self, layer: Blockwise, name: str) -> LayerKeys:
        """Return the keys of a layer's tasks under a name."""
        return self.of(name, tuple(layer.dims[i] for i in layer.output_indices))

    def add(self, name: str, n_blocks: Index, keys: LayerKeys) -> None:
        """Record the keys of a layer, which are then those that its users share."""
        self._known.setdefault((name, n_blocks), keys)

    def indices(self, n_blocks: Index) -> list[Index]:
        """Return the index of each block, the last axis fastest; all keys share these numbers."""
        if n_blocks not in self._indices:
            self._indices[n_blocks] = list(itertools.product(*map(range, n_blocks)))
        return self._indices[n_blocks]

    def constants(self, n_blocks: Index) -> list[GraphNode]:
        """Return each index as a constant: most tasks get that of their block."""
        if n_blocks not in self._constants:
            self._constants[n_blocks] = [DataNode(None, index) for index in self.indices(n_blocks)]
        return self._constants[n_blocks]


def works_by_chunk(layer: Any) -> bool:
    """Return whether :func:`blockwise_nodes` can make the tasks of a layer; dask does where a dim is contracted."""
    if not isinstance(layer, Blockwise) or layer.output_blocks or layer.is_materialized():
        return False
    if any(dep.produces_keys for dep in layer.io_deps.values()) or type(layer.task) is not Task:
        return False
    outer = set(layer.output_indices)
    return all(along is None or outer.issuperset(along) for _, along in layer.indices)


def blockwise_nodes(
    layer: Blockwise,
    named: LayerKeys,
    layers: Layers,
    keys_of: Callable[[str, Index], LayerKeys],
    moved: Callable[[Key], Key],
) -> dict[Key, GraphNode]:
    """Return the tasks of a layer.

    Parameters
    ----------
    named : the keys that they get
    keys_of : returns the keys of a layer that it needs, from its name and its number of blocks along each axis
    moved : returns the key of any other task that it needs
    """
    work = _with_constants(layer, moved)
    shape = tuple(layer.dims[i] for i in layer.output_indices)
    columns: dict[Any, _Column] = {}
    maps, _, _ = _get_coord_mapping(layer.dims, layer.output_indices, layer.numblocks, layer.indices, layer.concatenate)
    argument: Any
    for number, ((argument, along), places) in enumerate(zip(layer.indices, maps, strict=True)):
        token = blockwise_token(number)
        if along is None or token not in work.dependencies:
            continue
        # a place beyond the output's axes is that of an axis with one block
        at = [p if 0 <= p < len(shape) else None for p in places]
        if argument in layer.io_deps:
            columns[token] = _Constants(_values(layer.io_deps[argument], shape, at, layers))
        else:
            n_blocks = tuple(layer.numblocks[argument])
            columns[token] = _Results(keys_of(argument, n_blocks), _positions(shape, n_blocks, at))
    simple = all(_is_simple(value, columns) for value in work.args) and columns.keys().isdisjoint(_needed(work.kwargs))
    if simple and all(column.is_plain for column in columns.values()):
        return _all_at_once(work, named.keys, columns)
    return _one_by_one(work, named.keys, columns)


def _is_simple(value: Any, columns: Mapping[Any, _Column]) -> bool:
    """Return whether an argument is one of the columns, or has none of them in it."""
    return isinstance(value, TaskRef) or not isinstance(value, GraphNode) or value.dependencies.isdisjoint(columns)


def _needed(keywords: Mapping[str, Any]) -> set[Key]:
    refs: set[Any] = {value.key for value in keywords.values() if isinstance(value, TaskRef)}
    return refs.union(*[value.dependencies for value in keywords.values() if isinstance(value, GraphNode)])


def _with_constants(layer: Blockwise, moved: Callable[[Key], Key]) -> Task:
    """Return the work of a layer with the arguments that are the same for all its tasks."""
    work: Task = layer.task
    for number, (argument, along) in enumerate(layer.indices):
        token = blockwise_token(number)
        if along is None and token in work.dependencies:
            literal: Any = argument if isinstance(argument, GraphNode | TaskRef) else DataNode(None, argument)
            work = work.substitute({token: literal})
    tokens = {blockwise_token(number) for number in range(len(layer.indices))}
    others: dict[Any, Any] = {key: moved(key) for key in work.dependencies if key not in tokens}
    return work.substitute(others) if others else work


@dataclass(frozen=True, eq=False)
class _Constants:
    """One argument of all tasks of a layer: a constant for each."""

    each: list[GraphNode]

    @property
    def is_plain(self) -> bool:
        return all(type(node) is DataNode for node in self.each)

    def arguments(self) -> Sequence[GraphNode]:
        return self.each

    def substitutes(self) -> Sequence[GraphNode]:
        """Return what dask's ``substitute`` takes for each task."""
        return self.each


@dataclass(frozen=True, eq=False)
class _Results:
    """One argument of all tasks of a layer: results of another layer.

    ``positions``: for each task which of that layer's keys; None: one after the other.
    """

    layer: LayerKeys
    positions: list[int] | None
    is_plain: ClassVar[bool] = True

    def _each(self, what: Sequence[Any]) -> Sequence[Any]:
        return what if self.positions is None else [what[i] for i in self.positions]

    def arguments(self) -> Sequence[Any]:
        return self._each(self.layer.refs)

    def substitutes(self) -> Sequence[Key]:
        return self._each(self.layer.keys)

    def alone(self) -> Sequence[frozenset[Key]]:
        return self._each(self.layer.alone)


_Column = _Constants | _Results


def _values(dep: Any, shape: Index, at: Sequence[int | None], layers: Layers) -> list[GraphNode]:
    """Return the constant of each task that depends on the position of its block."""
    places = layers.indices(shape)
    if at != list(range(len(shape))):
        places = [tuple([0 if p is None else index[p] for p in at]) for index in places]
    elif type(dep) is ArrayBlockIdDep:  # the position itself
        return layers.constants(shape)
    values = [parse_input(dep.get(place, place)) for place in places]
    return [value if isinstance(value, GraphNode) else DataNode(None, value) for value in values]


def _positions(shape: Index, n_blocks: Index, at: Sequence[int | None]) -> list[int] | None:
    """Return for each task the position of the block that it needs; None if they are those of the tasks themselves."""
    if list(at) == list(range(len(shape))) and n_blocks == shape:
        return None
    flat = np.zeros(shape, dtype=np.int64)
    stride = 1
    for p, n in zip(reversed(at), reversed(n_blocks), strict=True):
        if p is not None:
            flat += (np.arange(shape[p]) * stride).reshape([-1 if axis == p else 1 for axis in range(len(shape))])
        stride *= n
    positions: list[int] = flat.ravel().tolist()
    return positions


def _all_at_once(work: Task, keys: Sequence[Key], columns: Mapping[Any, _Column]) -> dict[Key, GraphNode]:
    """Return a node for each key, argument by argument."""
    arguments = [
        columns[a.key].arguments() if isinstance(a, TaskRef) and a.key in columns else itertools.repeat(a, len(keys))
        for a in work.args
    ]
    results = [column for column in columns.values() if isinstance(column, _Results)]
    others = [d for d in work.dependencies if d not in columns]
    needs: Iterable[frozenset[Key]]
    if not others and len(results) == 1:
        needs = results[0].alone()
    elif not results:
        needs = itertools.repeat(frozenset(others), len(keys))
    else:
        keyed = [column.substitutes() for column in results]
        needs = map(frozenset, zip(*keyed, *map(itertools.repeat, others)))  # noqa: B905  # repeats without end
    function, keywords, produces = work.func, work.kwargs, work._data_producer
    new, made = Task.__new__, dict[Key, GraphNode]()
    for key, args, needed in zip(keys, zip(*arguments, strict=True), needs, strict=True):
        node = new(Task)
        node.key, node.func, node.args, node.kwargs = key, function, args, keywords
        node._dependencies, node._data_producer = needed, produces
        node._is_coro = node._token = node._repr = None
        made[key] = node
    return made


def _one_by_one(work: Task, keys: Sequence[Key], columns: Mapping[Any, _Column]) -> dict[Key, GraphNode]:
    """Return a node for each key, by dask's ``substitute``: some arguments are lists of results."""
    each = zip(keys, *[column.substitutes() for column in columns.values()], strict=True)
    tokens = list(columns)
    return {key: work.substitute(dict(zip(tokens, values, strict=True)), key=key) for key, *values in each}


# ---------------------------------------------------------------------------------------------------------------------
# Nodes under other names
# ---------------------------------------------------------------------------------------------------------------------


def renamed(node: GraphNode, moved: Mapping[Key, Key], key: Key) -> GraphNode:
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


class _Refs(dict[Any, TaskRef]):
    """Key -> a reference to its new key, made when it is first used."""

    def __init__(self, moved: Mapping[Key, Key]) -> None:
        super().__init__()
        self._moved = moved

    def __missing__(self, key: Any) -> TaskRef:
        self[key] = new = TaskRef(self._moved.get(key, key))
        return new


def renamed_all(tasks: Mapping[Key, GraphNode], moved: Mapping[Key, Key]) -> dict[Key, GraphNode]:
    """Return nodes with other keys and dependencies, as :func:`renamed` does; they share references."""
    refs, new, made = _Refs(moved), Task.__new__, dict[Key, GraphNode]()
    for key, node in tasks.items():
        to = moved[key]
        if type(node) is not Task or node.kwargs:
            made[to] = renamed(node, moved, to)
            continue
        made[to] = other = new(Task)
        other.key, other.func, other.args, other.kwargs = to, node.func, node.args, node.kwargs
        other._dependencies, other._data_producer = node._dependencies, node._data_producer
        other._is_coro = other._token = other._repr = None
        if not moved.keys().isdisjoint(node._dependencies):
            other.args = tuple([refs[a.key] if type(a) is TaskRef else _rerefered(a, moved) for a in node.args])
            other._dependencies = frozenset([moved.get(d, d) for d in node._dependencies])
    return made


def _rerefered(value: Any, moved: Mapping[Any, Key]) -> Any:
    """Return an argument of a node with the keys in it renamed."""
    if type(value) is TaskRef:
        return TaskRef(moved[value.key]) if value.key in moved else value
    if type(value) is List:
        return List(*[_rerefered(inner, moved) for inner in value.args])
    if isinstance(value, GraphNode):
        return value.substitute({d: moved[d] for d in value.dependencies if d in moved})
    return value
