"""The Graph: all tasks of a pipeline, as one flat, closed, acyclic dict of dask task nodes.

A Graph is built once; the same Graph goes to every back end, and can be saved. Its keys are deterministic, and it
contains no path of a run: what belongs to one run (the staging folder) reaches the writer tasks through the task
``pipeline-context``, which each run binds to its own value and which is outside the fingerprint.

A key is ``(name, *chunk index)`` where ``name`` is ``INSTANCE/LAYER``; each key is owned by one instance of a step (a
step without a matrix is its only instance).
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cloudpickle

from pipeline.errors import Location
from pipeline.graph.importing import FunctionValues
from pipeline.graph.metadata import Metadata
from pipeline.graph.nodes import GraphNode, constant, token, toposort
from pipeline.graph.value_types import ItemsType, PartsType, ValueType
from pipeline.graph.value_types import Key as Key
from pipeline.units import count_text

__all__ = [
    "CONTEXT",
    "Graph",
    "Key",
    "Policy",
    "Sink",
    "Whole",
]

CONTEXT = "pipeline-context"
"""The key of the task that gives the context of one run (:class:`pipeline.outputs.files.Context`) to writer tasks."""

# 3: limits, uses of a policy.
# 2: value_types (before: value_types), value_type of a sink.
# 1: tasks, wanted, owners, policies, value_types, sinks, modules.
_FORMAT = 3


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
    uses : names of the limits that each task has a place of while it runs
    drop : whether an item is left out when it has failed finally
    pure : False: its tasks have effects outside the pipeline and must never be run twice
    writable : whether its tasks get copies of arrays, instead of read-only views
    waits : whether its tasks are better run late, beside what needs them, than early: their results take memory
    light : whether each of its tasks has so few rows that a segment of its own would take longer
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
    uses: tuple[str, ...] = ()
    drop: bool = False
    pure: bool = True
    writable: bool = False
    waits: bool = False
    light: bool = False
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
    append : whether its files are added to those that are there
    """

    name: str
    format: str
    path: str
    value_type: ValueType
    records: tuple[Key, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    append: bool = False

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
    limits : name -> how many segments with it in ``uses`` may run at once, in one run of the Graph
    metadata : what building it has read of input files; no part of the fingerprint
    collected : keys of values that the client takes, and writes, as soon as they are there
    part_of : fingerprint of the Graph that this one was cut out of; empty: it is whole
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
    limits: Mapping[str, int] = field(default_factory=dict)
    name: str = "pipeline"
    collected: tuple[Key, ...] = ()
    metadata: Metadata = field(default_factory=Metadata)
    part_of: str = ""

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
        for name, policy in self.policies.items():
            for limit in policy.uses:
                if self.limits.get(limit, 0) < 1:
                    raise ValueError(f"{name!r} uses {limit!r}, which is no limit of the graph")

    def item(self, key: Key) -> str:
        """Return the key of the item that the task ``key`` computes; empty if it computes none."""
        policy = self.policies[self.owners[key]]
        if policy.items is None or not isinstance(key, tuple) or len(key) != 2:
            return ""
        first = str(key[0])
        if first != policy.over and not first.startswith(f"{policy.over}."):
            return ""
        whole = self.value_types.get(self.owners[key])
        if isinstance(whole, PartsType):
            part = whole.parts.get(first.removeprefix(f"{policy.over}."))
            if part is not None and not isinstance(part, ItemsType):
                return ""
        return policy.items[key[1]] if key[1] < len(policy.items) else ""

    @cached_property
    def structure(self) -> str:
        """A hash of keys, dependencies, functions and constants alone, whatever is wanted of them."""
        return token(self.tasks, self.owners)

    @cached_property
    def fingerprint(self) -> str:
        """64 bits, in hex, over keys, dependencies, functions and constants; the same in every process and session.

        A part of a Graph has the fingerprint of the whole.
        """
        if self.part_of:
            return self.part_of
        digest = hashlib.sha256(self.structure.encode())
        digest.update(repr(sorted(map(repr, self.wanted))).encode())
        for name in sorted(self.modules):
            content = self.modules[name]
            digest.update(
                name.encode() + b"\0" + (content.identity if isinstance(content, FunctionValues) else content)
            )
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
