"""Nodes of a Graph: all that the rest of the code needs of dask's task specification.

Only this file and :mod:`pipeline.builder.lowering` and :mod:`pipeline.builder.blockwise` use private parts of dask
(``dask._task_spec``); all others call the functions below. Rejected: an own class of nodes, since dask's collections
give dask's nodes; tuples as nodes, dask's older form, since finding the keys in them means searching all their members.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from dask._task_spec import Alias, DataNode, GraphNode, List, Task, TaskRef
from dask.base import tokenize

from pipeline.graph.column_types import register_tokens
from pipeline.graph.garbage_collection import rarely_collected
from pipeline.graph.importing import is_instance
from pipeline.graph.value_types import Key

__all__ = [
    "GraphNode",
    "about",
    "alias",
    "arguments_of",
    "constant",
    "cull",
    "dependencies",
    "dependents",
    "dependents_in_order",
    "execute",
    "for_any_worker",
    "function_of",
    "is_constant",
    "listed",
    "part",
    "parts_of",
    "ref",
    "target_of",
    "task",
    "token",
    "toposort",
    "unwrapped",
    "value_of_constant",
    "with_constants",
    "with_function",
    "wrapped",
]


def task(key: Key, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> GraphNode:
    """Return a node that calls ``function``; :func:`ref` and :func:`listed` make arguments of other tasks' results."""
    return Task(key, function, *args, **kwargs)


def ref(key: Key) -> TaskRef:
    """Return an argument for :func:`task` that stands for the result of the task ``key``."""
    return TaskRef(key)


def listed(arguments: Iterable[Any]) -> List:
    """Return a list argument that may contain refs; in a plain list they would not be replaced by results."""
    return List(*arguments)


def part(values: Sequence[Any], i: int) -> Any:
    """Return ``values[i]``, as the function of a task: it runs where the values were made, and no others are moved."""
    return values[i]


def for_any_worker(node: GraphNode) -> GraphNode:
    """Return a node of :func:`task` so that Dask gives it to a worker that is free, wherever what it needs is."""
    return Task(node.key, node.func, *node.args, _data_producer=True, **node.kwargs)


def constant(key: Key, value: Any) -> GraphNode:
    """Return a node whose result is ``value``, without a call."""
    return DataNode(key, value)


def alias(key: Key, target: Key) -> GraphNode:
    """Return a node whose result is that of the task ``target``."""
    return Alias(key, target)


def is_constant(node: GraphNode) -> bool:
    """Return whether the node is a value, so that nothing has to be called."""
    return isinstance(node, DataNode)


def dependencies(node: GraphNode) -> frozenset[Key]:
    """Return the keys whose results ``node`` needs."""
    return node.dependencies


def execute(node: GraphNode, values: Mapping[Key, Any]) -> Any:
    """Run one node and return its result.

    Parameters
    ----------
    values : the results of its dependencies, by key; there may be others
    """
    # only the dependencies are passed on: dask copies the dict it gets, which is O(n) per task with all values
    return node({key: values[key] for key in node.dependencies})


def function_of(node: GraphNode) -> Callable[..., Any] | None:
    """Return the function that a node calls; None if it is a value, another name of one, or a list of some.

    Of a node around another one: the function of that one.
    """
    node = unwrapped(node)
    return node.func if type(node) is Task else None


def parts_of(node: Any) -> tuple[Any, ...] | None:
    """Return what a node, or an argument of one, calls, and its arguments; None if it is no call.

    Keywords are among the arguments, in order of their names, each before its value. A list of refs is a call, too.
    """
    node = unwrapped(node)
    if not isinstance(node, Task):
        return None
    return (node.func, *node.args, *chain.from_iterable(sorted(node.kwargs.items())))


def target_of(node: Any) -> Key | None:
    """Return the key of the task whose result an argument, or a node, stands for; None if it stands for none."""
    found: Any = node.key if isinstance(node, TaskRef) else node.target if isinstance(node, Alias) else None
    return found


def value_of_constant(node: Any) -> Any:
    """Return the value of a node for which :func:`is_constant` is true."""
    return node.value


class _Wrapped(GraphNode):
    """A node around another one, whose key and dependencies it has. Pickled, it takes little more than that one."""

    __slots__ = ("about", "function", "node")

    def __init__(self, node: GraphNode, function: Callable[..., Any], about: Any) -> None:
        self.key, self._dependencies = node.key, node.dependencies
        self.node, self.function, self.about = node, function, about

    def __call__(self, values: Mapping[Key, Any]) -> Any:
        return self.function(self.node, values, self.about)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Wrapped, (self.node, self.function, self.about)

    def __repr__(self) -> str:
        return repr(self.node)


def wrapped(node: GraphNode, function: Callable[[GraphNode, Mapping[Key, Any], Any], Any], about: Any) -> GraphNode:
    """Return a node that calls ``function(node, values, about)``, which may run ``node`` with the values that it needs.

    It has the key of ``node`` and needs the same values; :func:`function_of` and :func:`token` see ``node``.
    """
    return _Wrapped(node, function, about)


def about(node: GraphNode) -> Any:
    """Return what :func:`wrapped` was given for a node; None for any other node."""
    return node.about if type(node) is _Wrapped else None


def unwrapped(node: GraphNode) -> GraphNode:
    """Return the node that a node of :func:`wrapped` is around; any other node as it is."""
    return node.node if type(node) is _Wrapped else node


def arguments_of(node: GraphNode) -> tuple[Any, ...]:
    """Return the arguments without a name of a node that calls a function; empty for any other."""
    return tuple(node.args) if type(node) is Task else ()


def with_constants(node: GraphNode, change: Callable[[Any], Any]) -> GraphNode:
    """Return a node that calls the same function with ``change(argument)`` for each argument that is a constant."""
    if type(node) is _Wrapped:
        return _Wrapped(with_constants(node.node, change), node.function, node.about)
    if type(node) is not Task and not isinstance(node, List):
        return node

    def changed(argument: Any) -> Any:
        if isinstance(argument, TaskRef):
            return argument
        return with_constants(argument, change) if isinstance(argument, GraphNode) else change(argument)

    arguments = [changed(argument) for argument in node.args]
    if isinstance(node, List):
        return List(*arguments)
    return Task(node.key, node.func, *arguments, **{name: changed(value) for name, value in node.kwargs.items()})


def with_function(node: GraphNode, function: Callable[..., Any]) -> GraphNode:
    """Return a node that calls another function with the same arguments."""
    return Task(node.key, function, *node.args, **node.kwargs)


def dependents(tasks: Mapping[Key, GraphNode]) -> dict[Key, set[Key]]:
    """Return for each key the set of keys that need its result, empty where there is none."""
    needed_by: dict[Key, set[Key]] = {key: set() for key in tasks}
    for key, node in tasks.items():
        for needed in node.dependencies:
            needed_by[needed].add(key)
    return needed_by


def toposort(tasks: Mapping[Key, GraphNode]) -> list[Key]:
    """Return the keys in topological order; tasks that are ready at the same time stay in the order of the dict.

    Raises
    ------
    ValueError : if there is a cycle, or a task needs a key that is not in ``tasks``
    """
    missing = {key: len(node.dependencies) for key, node in tasks.items()}
    needed_by = dependents_in_order(tasks)
    ready = [key for key, n in missing.items() if n == 0]
    order: list[Key] = []
    position = 0
    while position < len(ready):
        key = ready[position]
        position += 1
        order.append(key)
        for consumer in needed_by[key]:
            missing[consumer] -= 1
            if not missing[consumer]:
                ready.append(consumer)
    if len(order) != len(tasks):
        raise ValueError(f"{len(tasks) - len(order)} of {len(tasks)} tasks are on a cycle or need one")
    return order


def dependents_in_order(tasks: Mapping[Key, GraphNode]) -> dict[Key, list[Key]]:
    """Return for each key the keys that need its result, in the order of the dict.

    Raises
    ------
    ValueError : if a node needs a key that is not in ``tasks``
    """
    needed_by: dict[Key, list[Key]] = {key: [] for key in tasks}
    for key, node in tasks.items():
        for needed in node.dependencies:
            if needed not in needed_by:
                raise ValueError(f"{key!r} needs {needed!r}, which no task computes")
            needed_by[needed].append(key)
    return needed_by


def cull(tasks: Mapping[Key, GraphNode], wanted: Iterable[Key]) -> dict[Key, GraphNode]:
    """Return the tasks that are needed for the keys ``wanted``, in the order of ``tasks``."""
    keep: set[Key] = set()
    found = set(wanted)
    while found:
        keep |= found
        found = set[Key]().union(*[tasks[key].dependencies for key in found]) - keep
    return dict(tasks) if len(keep) == len(tasks) else {key: node for key, node in tasks.items() if key in keep}


@rarely_collected()
def token(tasks: Mapping[Key, GraphNode], owners: Mapping[Key, str] | None = None) -> str:
    """Return a hash of some tasks with their keys, and their owners; the same in every process and session.

    The tasks of a layer (the first part of a key) are described together, argument by argument: of 100,000 tasks that
    differ in a number, that is five times as fast as one after the other. (dask's own token of a task takes 0.3 ms.)
    """
    register_tokens()
    layers: dict[str, list[Key]] = {}
    for key in tasks:
        layers.setdefault(key[0] if isinstance(key, tuple) else key, []).append(key)
    digest = hashlib.sha256()
    tokens: dict[int, str] = {}  # of objects seen before, by identity
    for layer in sorted(layers):
        keys = sorted(layers[layer], key=repr)
        described = [repr(keys), _described([tasks[key] for key in keys], tokens)]
        if owners is not None:
            described.append(_described([owners[key] for key in keys], tokens))
        digest.update("\n".join(described).encode())
    return digest.hexdigest()


_ATOMS = frozenset((str, int, float, bool, type(None)))
"""Types whose ``repr`` describes a value completely."""


def _described(values: list[Any], tokens: dict[int, str]) -> str:
    """Return text that distinguishes a list of nodes, or of arguments, from any other list."""
    kinds = set(map(type, values))
    kind = next(iter(kinds)) if len(kinds) == 1 else None
    if kind in _ATOMS:
        return repr(values)
    if kind is TaskRef:
        return f"refs {[value.key for value in values]!r}"
    if kind is Alias:
        return f"aliases {[value.target for value in values]!r}"
    if _Wrapped in kinds:
        return _described([unwrapped(value) for value in values], tokens)
    if kind is DataNode:
        return f"data {_described([value.value for value in values], tokens)}"
    if kind is Task and not any(value.kwargs for value in values):
        return _by_column("tasks", [(value.func, *value.args) for value in values], tokens)
    if kind is tuple or kind is list:
        return _by_column(kind.__name__, values, tokens)
    if kind is dict:
        return _by_column("dict", [tuple(chain.from_iterable(value.items())) for value in values], tokens)
    distinct = {id(value): value for value in values}
    text = {one: _description(value, tokens) for one, value in distinct.items()}
    if len(set(text.values())) == 1:
        return f"{len(values)} x {text[id(values[0])]}"
    return f"[{', '.join([text[id(value)] for value in values])}]"


def _by_column(head: str, rows: Sequence[Sequence[Any]], tokens: dict[int, str]) -> str:
    if len(set(map(len, rows))) == 1:
        columns = [_described(list(column), tokens) for column in zip(*rows, strict=True)]
        return f"{len(rows)} {head}({', '.join(columns)})"
    return f"{len(rows)} {head}[{', '.join([_described(list(row), tokens) for row in rows])}]"


def _description(value: Any, tokens: dict[int, str]) -> str:
    """Return text that distinguishes a node, or an argument of one, from any other."""
    kind = type(value)
    if kind in _ATOMS:
        return repr(value)
    if isinstance(value, Task):  # its subclasses are List, Dict and others
        keywords = chain.from_iterable(sorted(value.kwargs.items()))
        return f"{kind.__name__}{_described([value.func, *value.args, *keywords], tokens)}"
    if kind in (TaskRef, Alias, DataNode, dict):
        return _described([value], tokens)
    if isinstance(value, list | tuple):
        return f"{kind.__name__}{_described(list(value), tokens)}"
    if id(value) not in tokens:
        # a slice of Arrow text carries the buffer that it was cut from, until it is pickled
        plain = pickle.loads(pickle.dumps(value)) if is_instance(value, "pandas", "DataFrame") else value
        tokens[id(value)] = str(tokenize(plain))
    return tokens[id(value)]
