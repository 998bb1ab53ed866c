"""Which tasks run code of the user, and which values only one of them sees, so that it may change them."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.nodes import GraphNode, dependencies, function_of, is_constant

__all__ = ["Owners", "is_marked", "runs_users_code", "used_once", "users_code"]

_OURS = frozenset(
    {
        *("pipeline", "dask", "distributed", "numpy", "pandas", "xarray", "scipy", "pyarrow", "duckdb", "zarr"),
        *("operator", "_operator", "builtins", "toolz", "cytoolz", "itertools", "functools", "collections"),
    }
)
"""Packages whose functions do not change their arguments."""

_DEPTH = 20
"""Tasks that a value is followed back through; with more it counts as seen by others."""

_F = TypeVar("_F", bound=Callable[..., Any])
_marked: set[Callable[..., Any]] = set()


def users_code(function: _F) -> _F:
    """Mark a function of ours that calls one of the user's: its tasks get nothing that they could change for others."""
    _marked.add(function)
    return function


def is_marked(node: GraphNode) -> bool:
    """Whether a task calls a function that is marked by :func:`users_code`, and so copies its constants itself."""
    return function_of(node) in _marked


def runs_users_code(node: GraphNode) -> bool:
    """Whether a task calls a function that is not ours, or one that is marked by :func:`users_code`."""
    function = function_of(node)
    return function is not None and _is_users(function)


@functools.lru_cache(maxsize=4096)
def _is_users(function: Any) -> bool:
    if function in _marked:
        return True
    inner = getattr(function, "func", function)  # of a partial
    module = getattr(inner, "__module__", None) or type(inner).__module__
    return module.partition(".")[0] not in _OURS


class Owners:
    """Tells which values a task has for itself.

    A task owns a value if no other task needs it, nobody wants it, and no other value is a part of it: it was made by
    the user's code, which had nothing of others itself, or from values that all were for this task alone. A task that
    may be run again in the same worker owns nothing.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._wanted = frozenset(graph.wanted)
        self._n_consumers: Counter[Key] | None = None  # counted when it is first needed: most graphs have no such task

    def owned_by(self, node: GraphNode, policy: Policy) -> tuple[Key, ...]:
        """Return the dependencies of a task that it owns."""
        if policy.retries or policy.drop or not runs_users_code(node):
            return ()
        return tuple(sorted((key for key in dependencies(node) if self._is_private(key, _DEPTH)), key=repr))

    def _is_private(self, key: Key, depth: int) -> bool:
        node = self._graph.tasks.get(key)
        if node is None or not depth or key in self._wanted or is_constant(node) or self._consumers[key] > 1:
            return False
        return runs_users_code(node) or all(self._is_private(other, depth - 1) for other in dependencies(node))

    @property
    def _consumers(self) -> Counter[Key]:
        if self._n_consumers is None:
            self._n_consumers = Counter(key for node in self._graph.tasks.values() for key in dependencies(node))
        return self._n_consumers


def used_once(nodes: Iterable[GraphNode]) -> frozenset[Key]:
    """Return the keys that a single one of some tasks needs."""
    counted = Counter(key for node in nodes for key in dependencies(node))
    return frozenset(key for key, n in counted.items() if n == 1)
