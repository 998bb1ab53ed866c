"""The Graph: all tasks of a pipeline, as one flat, closed, acyclic dict of dask task nodes.

A Graph is built once; the same Graph goes to every back end, and can be saved. Its keys are deterministic, and it
contains no path of a run: what belongs to one run (the staging folder) reaches the writer tasks through the task
``pipeline-context``, which each run binds to its own value and which is outside the fingerprint.

A key is ``(name, *chunk index)`` where ``name`` is ``INSTANCE/LAYER``; each key is owned by one instance of a step (a
step without a matrix is its only instance).

Only this file and ``build/lowering.py`` use private parts of dask (``dask._task_spec``); all others call the functions
below. Rejected: an own class of nodes, since dask's collections give dask's nodes; tuples as nodes, dask's older form,
since finding the keys in them means searching all their members.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import cloudpickle
import pandas as pd
from dask._task_spec import Alias, DataNode, GraphNode, List, Task, TaskRef
from dask.base import tokenize

from pipeline.errors import Location
from pipeline.graph.garbage_collection import rarely_collected
from pipeline.graph.value_types import Key as Key
from pipeline.graph.value_types import ValueType
from pipeline.units import count_text

__all__ = [
    "CONTEXT",
    "Graph",
    "GraphNode",
    "Key",
    "Policy",
    "Sink",
    "Whole",
    "alias",
    "constant",
    "cull",
    "dependencies",
    "dependents",
    "execute",
    "function_of",
    "is_constant",
    "listed",
    "ref",
    "task",
    "token",
    "toposort",
    "with_constants",
]

CONTEXT = "pipeline-context"
"""The key of the task that gives the context of one run (:class:`pipeline.outputs.files.Context`) to writer tasks."""

# 2: value_types (before: value_types), value_type of a sink.
# 1: tasks, wanted, owners, policies, value_types, sinks, modules.
_FORMAT = 2


# ---------------------------------------------------------------------------------------------------------------------
# Nodes: all that the rest of the code needs of dask's task specification
# ---------------------------------------------------------------------------------------------------------------------


def task(key: Key, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> GraphNode:
    """Return a node that calls ``function``; :func:`ref` and :func:`listed` make arguments of other tasks' results."""
    return Task(key, function, *args, **kwargs)


def ref(key: Key) -> TaskRef:
    """Return an argument for :func:`task` that stands for the result of the task ``key``."""
    return TaskRef(key)


def listed(arguments: Iterable[Any]) -> List:
    """Return a list argument that may contain refs; in a plain list they would not be replaced by results."""
    return List(*arguments)


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
    """Return the function that a node calls; None if it is a value, another name of one, or a list of some."""
    return node.func if type(node) is Task else None


def with_constants(node: GraphNode, change: Callable[[Any], Any]) -> GraphNode:
    """Return a node that calls the same function with ``change(argument)`` for each argument that is a constant."""
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
    stack = list(wanted)
    while stack:
        key = stack.pop()
        if key not in keep:
            keep.add(key)
            stack.extend(tasks[key].dependencies - keep)
    return {key: node for key, node in tasks.items() if key in keep}


@rarely_collected()
def token(tasks: Mapping[Key, GraphNode], owners: Mapping[Key, str] | None = None) -> str:
    """Return a hash of some tasks with their keys, and their owners; the same in every process and session.

    The tasks of a layer (the first part of a key) are described together, argument by argument: of 100,000 tasks that
    differ in a number, that is five times as fast as one after the other. (dask's own token of a task takes 0.3 ms.)
    """
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
"""Types whose ``repr`` says everything."""


def _described(values: list[Any], tokens: dict[int, str]) -> str:
    """Return text that distinguishes a list of nodes, or of arguments, from any other list."""
    kinds = set(map(type, values))
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind in _ATOMS:
        return repr(values)
    if kind is TaskRef:
        return f"refs {[value.key for value in values]!r}"
    if kind is Alias:
        return f"aliases {[value.target for value in values]!r}"
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
        plain = pickle.loads(pickle.dumps(value)) if isinstance(value, pd.DataFrame) else value
        tokens[id(value)] = str(tokenize(plain))
    return tokens[id(value)]


# ---------------------------------------------------------------------------------------------------------------------
# The Graph
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """How the tasks of one instance of a step must be run.

    Parameters
    ----------
    step : name of the step in the file, without the matrix keys of the instance
    kind : kind of its value, for progress and plans
    merge : whether fusion may put its tasks into one segment with tasks of other steps
    batch : items per segment, for an ``over``; None: chosen by fusion
    items : keys of the items of an ``over``, by position, to name an item that fails; None: it has no items
    over : first part of the keys of the tasks that compute items; empty: there are none
    retries, timeout : of each task; the timeout in seconds, None: no limit
    resources : abstract resources that each task needs, as Dask has them
    drop : whether an item is left out when it has failed finally
    pure : False: its tasks have effects outside the pipeline and must never be run twice
    writable : whether its tasks get copies of arrays, instead of read-only views
    location : place of the step in its file, ``FILE:LINE``
    """

    step: str
    kind: str = "value"
    merge: bool = True
    batch: int | None = None
    items: tuple[str, ...] | None = None
    over: str = ""
    retries: int = 0
    timeout: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    drop: bool = False
    pure: bool = True
    writable: bool = False
    location: str = ""


@dataclass(frozen=True, eq=False)
class Sink:
    """One output that the Graph writes.

    Parameters
    ----------
    name : name of the output in the file, with matrix keys
    format : a key of :data:`pipeline.config.sections.formats.FORMATS`
    path : below the output root; with ``${key}``, which stands for the key of an item
    value_type : of the value that is written
    records : keys of the tasks that give a :class:`pipeline.outputs.files.PartRecord`
    options : attrs, files, partition_by and the options of the format
    overwrite : whether files at its path may be replaced that no manifest of it names
    """

    name: str
    format: str
    path: str
    value_type: ValueType
    records: tuple[Key, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False

    @property
    def item_names(self) -> tuple[str, ...]:
        """Return the keys of its items, as far as they are known before the run."""
        return getattr(self.value_type, "names", None) or ()


@dataclass(frozen=True)
class Whole:
    """A value that is passed whole to one task, so that it must fit into memory.

    Parameters
    ----------
    copy : instance of the step that gets it
    reference, path, location : the reference in the file, and where it is
    nbytes : size of the value; nan if unknown until run time
    """

    copy: str
    reference: str
    path: str
    location: Location
    nbytes: float


@dataclass(frozen=True, eq=False)
class Graph:
    """All tasks of a pipeline. Frozen; the same object, or the same file, goes to every back end.

    Parameters
    ----------
    tasks : key -> node; acyclic, and closed except for :data:`CONTEXT`
    wanted : keys whose results a run returns
    owners : key -> the step instance that owns it, for every key
    policies : step instance -> how its tasks must be run, in the order of the file
    value_types : step instance -> type of its value, for every instance in the file
    sinks : the outputs
    kept : step instances whose values are among ``wanted``
    modules : the user's own modules: file name below a modules folder -> content; workers on other machines get them
    left_out : data files of modules that are too large to be sent
    wholes : the values that are passed whole to one task
    moves : step instance -> how its tasks move data among them, if they do: ``rechunk``, ``shuffle``, ``one chunk``;
        any other text is a sentence for the plan
    warnings : what the sources say about their data
    """

    tasks: Mapping[Key, GraphNode]
    wanted: tuple[Key, ...]
    owners: Mapping[Key, str]
    policies: Mapping[str, Policy]
    value_types: Mapping[str, ValueType] = field(default_factory=dict)
    sinks: tuple[Sink, ...] = ()
    kept: tuple[str, ...] = ()
    modules: Mapping[str, bytes] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    wholes: tuple[Whole, ...] = ()
    moves: Mapping[str, frozenset[str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    name: str = "pipeline"

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return (
            f"<Graph {self.name!r}: {count_text(len(self.tasks), 'task')} of "
            f"{count_text(len(self.policies), 'step')}, {count_text(len(self.sinks), 'output')}>"
        )

    def validate(self) -> None:
        """Check that the Graph is closed and acyclic, and that each key is owned by one step instance.

        Raises
        ------
        ValueError : naming the first key for which this is not so
        """
        toposort({**self.tasks, CONTEXT: constant(CONTEXT, None)})
        for key in self.tasks:
            if self.owners.get(key) not in self.policies:
                raise ValueError(f"{key!r} is owned by {self.owners.get(key)!r}, which is not a step of the graph")
        for key in self.wanted:
            if key not in self.tasks:
                raise ValueError(f"{key!r} is wanted, but no task computes it")

    def item(self, key: Key) -> str:
        """Return the key of the item that the task ``key`` computes; empty if it computes none."""
        policy = self.policies[self.owners[key]]
        if policy.items is None or not isinstance(key, tuple) or len(key) != 2:
            return ""
        if key[0] != policy.over and not str(key[0]).startswith(f"{policy.over}."):
            return ""
        return policy.items[key[1]] if key[1] < len(policy.items) else ""

    @cached_property
    def fingerprint(self) -> str:
        """64 bits, in hex, over keys, dependencies, functions and constants; the same in every process and session."""
        digest = hashlib.sha256(token(self.tasks, self.owners).encode())
        digest.update(repr(sorted(map(repr, self.wanted))).encode())
        for name in sorted(self.modules):
            digest.update(name.encode() + b"\0" + self.modules[name])
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write the Graph to a file that :meth:`load` reads on any machine with the same package versions."""
        with open(path, "wb") as file:
            pickle.dump(_FORMAT, file)
            cloudpickle.dump(self, file)

    @classmethod
    def load(cls, path: str | Path) -> Graph:
        """Read a Graph that :meth:`save` wrote. It is a pickle, which can run any code: only load your own files.

        Raises
        ------
        ValueError : if the file has another format
        """
        with open(path, "rb") as file:
            version = pickle.load(file)
            if version != _FORMAT:
                raise ValueError(f"{path}: got graph format {version}; this version reads {_FORMAT}: build it again")
            graph: Graph = pickle.load(file)
            return graph
