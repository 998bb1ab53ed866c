"""The Graph: what is to be done, as one flat, closed, acyclic dict of dask task nodes.

A Graph is built once, saved, and handed as it is to every back end. Its keys are deterministic and no path of a run is
in it; what belongs to one execution (where its staging folder is) reaches the writer tasks through the task
``pipeline-context``, which every execution binds anew and which is outside the fingerprint.

A key is ``(name, *chunk index)`` with ``name`` = ``copy/layer``; each key is owned by exactly one copy of a step.

The private parts of dask (``dask._task_spec``) are touched here and in ``lowering.py`` only: everything else calls the
functions below. Rejected: a node class of our own, since collections give dask's; legacy tuples, since they must be
searched for keys again and again.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cloudpickle
import pandas as pd
from dask._task_spec import Alias, DataNode, GraphNode, List, Task, TaskRef
from dask.base import tokenize

from pipeline.errors import Location
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
    "is_constant",
    "listed",
    "ref",
    "task",
    "token",
    "toposort",
]

CONTEXT = "pipeline-context"
"""The key of the task that holds what belongs to one execution; writer tasks depend on it."""

# 2: value_types (before: value_types), value_type of a sink.
# 1: tasks, wanted, owners, policies, value_types, sinks, modules.
_FORMAT = 2


# ---------------------------------------------------------------------------------------------------------------------
# Nodes: the only vocabulary the rest of the code needs of dask's task specification
# ---------------------------------------------------------------------------------------------------------------------


def task(key: Key, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> GraphNode:
    """A node that calls ``function``; arguments made by :func:`ref` or :func:`listed` are other tasks' results."""
    return Task(key, function, *args, **kwargs)


def ref(key: Key) -> TaskRef:
    """The result of the task ``key``, as an argument of :func:`task`."""
    return TaskRef(key)


def listed(arguments: Iterable[Any]) -> List:
    """A list argument that may hold refs (a plain list with refs in it would be passed as it is)."""
    return List(*arguments)


def constant(key: Key, value: Any) -> GraphNode:
    """A node that is ``value`` and costs nothing."""
    return DataNode(key, value)


def alias(key: Key, target: Key) -> GraphNode:
    """A node that is another name for ``target``."""
    return Alias(key, target)


def is_constant(node: GraphNode) -> bool:
    """Whether the node needs no call: a value, or another name for one."""
    return isinstance(node, DataNode)


def dependencies(node: GraphNode) -> frozenset[Key]:
    """The keys that ``node`` needs."""
    return node.dependencies


def execute(node: GraphNode, values: Mapping[Key, Any]) -> Any:
    """Run one node.

    ``values`` may hold more than the node needs: only its own dependencies are handed on, since dask copies what it
    is given (O(n) a task with the whole dict).
    """
    return node({key: values[key] for key in node.dependencies})


def dependents(tasks: Mapping[Key, GraphNode]) -> dict[Key, set[Key]]:
    """For each key the keys that need it; every key is present."""
    needed_by: dict[Key, set[Key]] = {key: set() for key in tasks}
    for key, node in tasks.items():
        for needed in node.dependencies:
            needed_by[needed].add(key)
    return needed_by


def toposort(tasks: Mapping[Key, GraphNode]) -> list[Key]:
    """The keys in an order in which everything comes after what it needs; the dict's order where that leaves a choice.

    Raises
    ------
    ValueError : if there is a cycle, or a key that no task makes
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
        raise ValueError(f"{len(tasks) - len(order)} of {len(tasks)} tasks lie on a cycle")
    return order


def dependents_in_order(tasks: Mapping[Key, GraphNode]) -> dict[Key, list[Key]]:
    """Like :func:`dependents`, the consumers in the order of the dict.

    Raises
    ------
    ValueError : if a node needs a key that is not in ``tasks``
    """
    needed_by: dict[Key, list[Key]] = {key: [] for key in tasks}
    for key, node in tasks.items():
        for needed in node.dependencies:
            if needed not in needed_by:
                raise ValueError(f"{key!r} needs {needed!r}, which no task makes")
            needed_by[needed].append(key)
    return needed_by


def cull(tasks: Mapping[Key, GraphNode], wanted: Iterable[Key]) -> dict[Key, GraphNode]:
    """The tasks that ``wanted`` need, in the order of ``tasks``."""
    keep: set[Key] = set()
    stack = list(wanted)
    while stack:
        key = stack.pop()
        if key not in keep:
            keep.add(key)
            stack.extend(tasks[key].dependencies - keep)
    return {key: node for key, node in tasks.items() if key in keep}


def token(tasks: Mapping[Key, GraphNode]) -> str:
    """Text that tells some tasks, keys included, from any others; the same in every process and session."""
    digest = hashlib.sha256()
    known: dict[int, str] = {}
    for text, key in sorted(((repr(key), key) for key in tasks), key=lambda pair: pair[0]):
        digest.update(f"{text} {_description(tasks[key], known)}".encode())
    return digest.hexdigest()


def _description(value: Any, known: dict[int, str]) -> str:
    """Text that tells a node, or an argument of one, from any other.

    ``known`` holds the tokens of objects seen before, by identity: what 100,000 tasks share is tokenised once. (dask's
    own token of each task takes 0.3 ms.)
    """
    if isinstance(value, str | int | float | bool | None):
        return repr(value)
    if isinstance(value, TaskRef):
        return f"ref {value.key!r}"
    if isinstance(value, Alias):
        return f"alias {value.target!r}"
    if isinstance(value, DataNode):
        return f"data {_description(value.value, known)}"
    if isinstance(value, Task):
        inner = [value.func, *value.args, *(part for pair in sorted(value.kwargs.items()) for part in pair)]
        return f"{type(value).__name__}({', '.join(_description(part, known) for part in inner)})"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(_description(part, known) for part in value)})"
    if type(value) is dict:
        return f"dict({', '.join(f'{k!r}: {_description(part, known)}' for k, part in value.items())})"
    if id(value) not in known:
        # a slice of Arrow text carries the buffer that it was cut from, until it is pickled
        plain = pickle.loads(pickle.dumps(value)) if isinstance(value, pd.DataFrame) else value
        known[id(value)] = str(tokenize(plain))
    return known[id(value)]


# ---------------------------------------------------------------------------------------------------------------------
# The noun
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """How the tasks of one copy of a step are to be run.

    Parameters
    ----------
    step : the step's name in the file, without the copy's labels: what the dashboard shows
    kind : of its value, for progress and plans
    merge : whether coarsening may put its tasks into one segment with others'
    batch : items a segment for an ``over``; None leaves it to coarsening
    items : keys of the items of an ``over`` by position (None: no items), so that a failing item can be named
    over : first part of the keys of the tasks that are the items of an ``over``; empty: none
    retries, timeout : per task; timeout in seconds
    resources : as Dask's
    drop : whether an item that failed, again and again or by its timeout, is left out
    pure : False: its tasks have effects outside, and are never run twice
    location : the step's place in its file, as text
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
    location: str = ""


@dataclass(frozen=True, eq=False)
class Sink:
    """One output of the file as the Graph writes it.

    Parameters
    ----------
    name : the output's name in the file, with the copy's labels
    format : parquet, zarr, npy, csv, json or pickle
    path : below the output root, matrix keys filled in
    value_type : what is written
    records : the keys of the writer tasks; each gives a :class:`pipeline.outputs.files.PartRecord`
    options : attrs, files, partition_by and the format's own
    """

    name: str
    format: str
    path: str
    value_type: ValueType
    records: tuple[Key, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Whole:
    """A value that goes whole into one task: which, of which copy, where the file says so, and its bytes (or nan)."""

    copy: str
    reference: str
    path: str
    location: Location
    nbytes: float


@dataclass(frozen=True, eq=False)
class Graph:
    """What is to be done. Frozen; the same object, or the same file, goes to every back end.

    Parameters
    ----------
    tasks : key -> node; closed but for :data:`CONTEXT`, acyclic
    wanted : the keys whose results are asked for
    owners : key -> the copy of a step that owns it, for every key
    policies : copy -> how its tasks are to be run, in the order of the file
    value_types : copy -> where its value lies, for every copy of the file
    sinks : the outputs
    kept : the copies whose values are among ``wanted``
    modules : the user's own modules, shipped: file name below a modules folder -> source
    wholes : the values that go whole into one task
    moves : copy -> how its tasks move data between them, where they do: ``rechunk``, ``shuffle``, ``one chunk``
    """

    tasks: Mapping[Key, GraphNode]
    wanted: tuple[Key, ...]
    owners: Mapping[Key, str]
    policies: Mapping[str, Policy]
    value_types: Mapping[str, ValueType] = field(default_factory=dict)
    sinks: tuple[Sink, ...] = ()
    kept: tuple[str, ...] = ()
    modules: Mapping[str, bytes] = field(default_factory=dict)
    wholes: tuple[Whole, ...] = ()
    moves: Mapping[str, frozenset[str]] = field(default_factory=dict)
    name: str = "pipeline"

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return (
            f"<Graph {self.name!r}: {count_text(len(self.tasks), 'task')} of "
            f"{count_text(len(self.policies), 'step')}, {count_text(len(self.sinks), 'output')}>"
        )

    def validate(self) -> None:
        """Hold the Graph to its promises: closed, acyclic, each key owned by one known copy.

        Raises
        ------
        ValueError : naming the first key that breaks one
        """
        toposort({**self.tasks, CONTEXT: constant(CONTEXT, None)})
        for key in self.tasks:
            if self.owners.get(key) not in self.policies:
                raise ValueError(f"{key!r} is owned by {self.owners.get(key)!r}, which is no step of the graph")
        for key in self.wanted:
            if key not in self.tasks:
                raise ValueError(f"{key!r} is wanted, but no task makes it")

    def item(self, key: Key) -> str:
        """The key of the item that the task ``key`` computes; empty where it computes none."""
        policy = self.policies[self.owners[key]]
        if policy.items is None or not isinstance(key, tuple) or len(key) != 2:
            return ""
        if key[0] != policy.over and not str(key[0]).startswith(f"{policy.over}."):
            return ""
        return policy.items[key[1]] if key[1] < len(policy.items) else ""

    @cached_property
    def fingerprint(self) -> str:
        """64 bits, in hex, over keys, dependencies, functions and constants; the same in every process and session."""
        digest = hashlib.sha256(token(self.tasks).encode())
        digest.update(repr(sorted(self.owners.items(), key=repr)).encode())
        digest.update(repr(sorted(self.wanted, key=repr)).encode())
        for name in sorted(self.modules):
            digest.update(name.encode() + b"\0" + self.modules[name])
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write the Graph to a file that :meth:`load` reads, on any machine with the same versions."""
        with open(path, "wb") as file:
            pickle.dump(_FORMAT, file)
            cloudpickle.dump(self, file)

    @classmethod
    def load(cls, path: str | Path) -> Graph:
        """Read a Graph that :meth:`save` wrote. Reading runs code in the file: open only your own.

        Raises
        ------
        ValueError : if the file was written in another format
        """
        with open(path, "rb") as file:
            version = pickle.load(file)
            if version != _FORMAT:
                raise ValueError(f"{path}: got graph format {version}; this version reads {_FORMAT}: build it again")
            graph: Graph = pickle.load(file)
            return graph
