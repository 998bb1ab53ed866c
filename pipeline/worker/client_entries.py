"""Kept values that the client writes and reads, for workers that don't see the folder of the cache as the same user.

A task decides about its value as everywhere, and reports ``sent``; the value leaves the worker, and the client writes
it when it arrives. What an earlier run kept goes along with the Graph. So a task can't look for a value itself: what is
only known in the run is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import EntryDamaged
from pipeline.graph.graph import Graph, Key
from pipeline.graph.nodes import GraphNode, about, constant, unwrapped
from pipeline.worker.kept_tasks import KeptTask, ValueStore, kept, load_arguments

__all__ = ["ClientStore", "is_sent", "kept_by_client", "write_sent"]

_SENT = "sent"


@dataclass(frozen=True)
class ClientStore:
    """A store as the workers have it: nothing can be read, and what is kept is sent to the client.

    Parameters
    ----------
    store : the one of the client
    """

    store: ValueStore

    def outcome(self, key: str, seconds: float) -> str:
        """Return what a task reports of a value that the client is to write."""
        return f"{_SENT} {key} {seconds!r}"

    def load(self, key: str) -> Any:
        """Raise: only the client can read.

        Raises
        ------
        EntryDamaged : always
        """
        raise EntryDamaged("only the client sees the cache")

    def keep(self, key: str, value: Any, *, seconds: float, step: str, pipeline: str) -> str:
        """Do nothing: the value is an output of its segment, and the client writes it."""
        return ""

    def link(self, key: str, target: str) -> str:
        """Do nothing, as for :meth:`keep`."""
        return ""

    def remove(self, key: str) -> bool:
        """Do nothing, as for :meth:`keep`."""
        return False


def kept_by_client(graph: Graph) -> Graph:
    """Return a Graph whose kept values the client writes, and in which those that are loaded are constants.

    Raises
    ------
    EntryDamaged : a value that is to be loaded is gone or damaged; its entry is removed
    """
    stores: dict[int, ClientStore] = {}
    tasks: dict[Key, GraphNode] = dict(graph.tasks)
    collected = []
    for key, node in graph.tasks.items():
        spec = about(node)
        if isinstance(spec, KeptTask):
            store = stores.setdefault(id(spec.rule), ClientStore(spec.rule.store))
            tasks[key] = kept(unwrapped(node), spec._replace(rule=spec.rule._replace(store=store)))
            collected.append(key)
        elif (arguments := load_arguments(node)) is not None:
            tasks[key] = constant(key, _loaded(*arguments))
    return replace(graph, tasks=tasks, collected=tuple(collected))


def _loaded(store: ValueStore, key: str) -> Any:
    try:
        return store.load(key)
    except EntryDamaged:
        store.remove(key)
        raise


def is_sent(outcome: str) -> bool:
    """Return whether a task has reported that the client is to write its value."""
    return outcome.startswith(f"{_SENT} ")


def write_sent(tasks: Mapping[Key, GraphNode], key: Key, outcome: str, value: Any) -> str:
    """Write a value that has arrived; return why it was not kept, empty if it was.

    Parameters
    ----------
    tasks : of the Graph that was run
    outcome : what its task has reported, see :func:`is_sent`
    """
    spec = about(tasks[key])
    assert isinstance(spec, KeptTask), f"{key} is no kept task"
    store = spec.rule.store
    assert isinstance(store, ClientStore), f"{key} is kept by its worker"
    _, value_key, seconds = outcome.split(" ")
    names = {"step": spec.rule.step, "pipeline": spec.rule.pipeline}
    why = store.store.keep(value_key, value, seconds=float(seconds), **names)
    if not why and spec.key and spec.key != value_key:
        why = store.store.link(spec.key, value_key)
    return why
