"""The Shape of a Graph: which task of which step needs which tasks; all that the analysis needs to know of a Graph.

A run writes it beside its Trace, so that reports are made without opening a pickle.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.graph.graph import Graph
from pipeline.graph.nodes import dependencies, is_constant

__all__ = ["SCHEMA", "Shape"]

# 2: uses, limits.
# 1: a row a task: key, step, needs.
_FORMAT = 2

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), metadata={"what": "the task's key, as text"}),
        pa.field("step", pa.dictionary(pa.int32(), pa.string()), metadata={"what": "the step instance that owns it"}),
        pa.field("needs", pa.list_(pa.int64()), metadata={"what": "row numbers of the tasks it needs"}),
    ]
)


@dataclass(frozen=True)
class Shape:
    """The tasks of a Graph by their keys as text, without constants.

    Parameters
    ----------
    needs : task -> the tasks it needs
    owners : task -> the step instance that owns it
    steps : step instance -> the step's name in the file
    kinds : step -> kind of its value
    edges : pairs of steps; the second needs the first
    uses : step instance -> names of the limits that its tasks use; none where it is not here
    limits : name -> how many segments may use it at once
    """

    needs: Mapping[str, tuple[str, ...]]
    owners: Mapping[str, str]
    steps: Mapping[str, str]
    kinds: Mapping[str, str]
    edges: tuple[tuple[str, str], ...]
    uses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def n_tasks(self) -> Mapping[str, int]:
        """Number of tasks of each step that has any."""
        found: Counter[str] = Counter()
        for instance, n in Counter(self.owners.values()).items():
            found[self.steps[instance]] += n
        return found

    @classmethod
    def of(cls, graph: Graph) -> Shape:
        """Return the shape of a Graph; O(tasks + edges)."""
        owners = graph.owners
        steps = {instance: policy.step for instance, policy in graph.policies.items()}
        names = {key: str(key) for key, node in graph.tasks.items() if not is_constant(node)}
        needs: dict[str, tuple[str, ...]] = {}
        pairs: set[tuple[str, str]] = set()  # of step instances
        for key, name in names.items():
            needed = [k for k in dependencies(graph.tasks[key]) if k in owners]
            needs[name] = tuple(names[k] for k in needed if k in names)
            pairs.update((owners[k], owners[key]) for k in needed)
        edges = {(steps[a], steps[b]) for a, b in pairs if steps[a] != steps[b]}
        order = {step: i for i, step in enumerate(dict.fromkeys(steps.values()))}
        return cls(
            needs=needs,
            owners={name: owners[key] for key, name in names.items()},
            steps=steps,
            kinds={policy.step: policy.kind for policy in graph.policies.values()},
            edges=tuple(sorted(edges, key=lambda edge: (order[edge[0]], order[edge[1]]))),
            uses={instance: policy.uses for instance, policy in graph.policies.items() if policy.uses},
            limits=dict(graph.limits),
        )

    def only(self, keys: Collection[str]) -> Shape:
        """Return the shape of some of the tasks, such as those that ran."""
        kept = {key: needed for key, needed in self.needs.items() if key in keys}
        needs = {key: tuple(k for k in needed if k in kept) for key, needed in kept.items()}
        return replace(self, needs=needs, owners={key: self.owners[key] for key in needs})

    def save(self, path: str | Path) -> None:
        """Write the shape as one Parquet file: a row a task, what belongs to the steps in its metadata."""
        row = {key: i for i, key in enumerate(self.needs)}
        offsets = np.cumsum([0, *map(len, self.needs.values())], dtype=np.int32)
        needed = np.fromiter((row[k] for needed in self.needs.values() for k in needed), np.int64, int(offsets[-1]))
        columns = [
            pa.array(list(self.needs), pa.string()),
            pa.array([self.owners[key] for key in self.needs], pa.string()).dictionary_encode(),
            pa.ListArray.from_arrays(offsets, needed),
        ]
        head = {"format": _FORMAT, "steps": dict(self.steps), "kinds": dict(self.kinds), "edges": self.edges}
        head |= {"uses": {step: list(names) for step, names in self.uses.items()}, "limits": dict(self.limits)}
        schema = SCHEMA.with_metadata({"pipeline": json.dumps(head)})
        pq.write_table(pa.table(columns, names=SCHEMA.names).cast(schema), path)

    @classmethod
    def load(cls, path: str | Path) -> Shape:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ValueError : if the file is not a shape, or has another format
        """
        table = pq.read_table(path, partitioning=None)
        head = json.loads((table.schema.metadata or {}).get(b"pipeline", b"{}"))
        if head.get("format") not in range(1, _FORMAT + 1):
            raise ValueError(f"{path}: not a shape of format {_FORMAT}")
        keys = table["key"].to_pylist()
        needs = table["needs"].combine_chunks()
        needed = [keys[row] for row in needs.values.to_pylist()]
        ends = needs.offsets.to_pylist()
        return cls(
            needs={key: tuple(needed[a:b]) for key, (a, b) in zip(keys, itertools.pairwise(ends), strict=True)},
            owners=dict(zip(keys, table["step"].to_pylist(), strict=True)),
            steps=head["steps"],
            kinds=head["kinds"],
            edges=tuple((a, b) for a, b in head["edges"]),
            uses={step: tuple(names) for step, names in head.get("uses", {}).items()},
            limits=head.get("limits", {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the graph of the steps as plain values, as ``report.json`` has it."""
        steps = [{"step": s, "kind": kind, "n_tasks": self.n_tasks.get(s, 0)} for s, kind in self.kinds.items()]
        return {"steps": steps, "edges": [list(edge) for edge in self.edges]}
