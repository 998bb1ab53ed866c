"""The tasks of a Graph by their position in a topological order: fusion works with these numbers instead of keys.

A key is hashed and compared each time it is looked up, which was most of the time that fusion took.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.graph.graph import CONTEXT, Graph, Key, Policy
from pipeline.graph.nodes import GraphNode, dependencies, is_constant

__all__ = ["IN_CONTEXT", "NumberedTasks"]

IN_CONTEXT = -1
"""The number of :data:`pipeline.graph.graph.CONTEXT`, which comes before all others."""


@dataclass(frozen=True, eq=False)
class NumberedTasks:
    """The tasks of a graph in topological order; those that are ready at the same time in the order of the graph.

    Parameters
    ----------
    keys, nodes, owners, policies : of each task
    needs : for each task the numbers of those that it needs, in ascending order
    constants : numbers of the tasks that are values
    """

    keys: list[Key]
    nodes: list[GraphNode]
    owners: list[str]
    policies: list[Policy]
    needs: list[tuple[int, ...]]
    constants: frozenset[int]

    @classmethod
    def of(cls, graph: Graph) -> NumberedTasks:
        """Number the tasks of a graph.

        Raises
        ------
        ValueError : if there is a cycle, or a task needs a key that is not in the graph
        """
        given = [key for key in graph.tasks if key != CONTEXT]
        index: dict[Key, int] = {key: i for i, key in enumerate(given)}
        index[CONTEXT] = len(given)
        needed = [tuple([index.get(k, -1) for k in dependencies(graph.tasks[key])]) for key in given]
        order = _topological(given, needed, graph)
        position = [0] * (len(given) + 1)
        for place, i in enumerate(order):
            position[i] = place
        position[-1] = IN_CONTEXT
        keys = [given[i] for i in order]
        nodes = [graph.tasks[key] for key in keys]
        owners = [graph.owners[key] for key in keys]
        return cls(
            keys=keys,
            nodes=nodes,
            owners=owners,
            policies=[graph.policies[owner] for owner in owners],
            needs=[tuple(sorted([position[k] for k in needed[i]])) for i in order],
            constants=frozenset([i for i, node in enumerate(nodes) if is_constant(node)]),
        )

    def key(self, number: int) -> Key:
        """Return the key of a task, or that of the context."""
        return CONTEXT if number == IN_CONTEXT else self.keys[number]

    def producers(self, number: int) -> tuple[int, ...]:
        """Return the tasks that a task needs, without constants and the context, in ascending order."""
        needs = self.needs[number]
        if needs and (needs[0] == IN_CONTEXT or self.constants):
            return tuple([k for k in needs if k != IN_CONTEXT and k not in self.constants])
        return needs


def _topological(keys: list[Key], needed: list[tuple[int, ...]], graph: Graph) -> list[int]:
    """Return the tasks in topological order; the context is the last of those that need nothing."""
    users: list[list[int]] = [[] for _ in range(len(keys) + 1)]
    missing = list(map(len, needed))
    for i, needs in enumerate(needed):
        for k in needs:
            if k < 0:
                lacking = next(k for k in dependencies(graph.tasks[keys[i]]) if k not in graph.tasks and k != CONTEXT)
                raise ValueError(f"{keys[i]!r} needs {lacking!r}, which no task computes")
            users[k].append(i)
    ready = [i for i, n in enumerate(missing) if not n]
    ready.append(len(keys))
    for i in ready:  # it grows
        for user in users[i]:
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    if len(ready) != len(users):
        raise ValueError(f"{len(users) - len(ready)} of {len(keys)} tasks are on a cycle or need one")
    ready.remove(len(keys))
    return ready
