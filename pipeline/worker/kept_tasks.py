"""Tasks whose values are kept between runs: they load their value where an earlier run kept it, else keep it.

A kept task is a node like any other, around the node that it runs: see :func:`pipeline.graph.nodes.unwrapped`. It has
the key of the node, needs the same values, and gives the same value.
"""

# What is kept, where and under which key is decided by runs/resume, when it plans a run.

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from pipeline.errors import EntryDamaged
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, arguments_of, execute, function_of, task, wrapped
from pipeline.graph.segments import Dropped, Group
from pipeline.graph.task_keys import combine, needs_of
from pipeline.worker.memory import nbytes
from pipeline.worker.value_digest import digest

__all__ = [
    "KeepRule",
    "KeptTask",
    "ValueStore",
    "is_worth_it",
    "keep_task",
    "kept",
    "load_arguments",
    "load_task",
    "loaded",
    "take_outcome",
]

LEAST_SECONDS = 0.002
BYTES_A_SECOND = 500e6
"""A value is worth keeping if computing it took longer than ``LEAST_SECONDS`` and its bytes at this rate: reading it
takes 0.7 s a GB (its hash is compared), keeping it 2 s a GB."""


class ValueStore(Protocol):
    """Where values are kept: a cache, or the log of the items of one run."""

    def load(self, key: str) -> Any:
        """Return a value.

        Raises
        ------
        EntryDamaged : there is none, or it can't be read
        """

    def keep(self, key: str, value: Any, *, seconds: float, step: str, pipeline: str) -> str:
        """Keep a value; return why it was not kept, empty if it was."""

    def outcome(self, key: str, seconds: float) -> str:
        """Return what a task reports of a value that it has kept: ``kept``."""

    def link(self, key: str, target: str) -> str:
        """Make the value of ``target`` that of ``key``, too; return why that failed."""

    def remove(self, key: str) -> bool:
        """Remove a value; return whether there was one."""


class KeepRule(NamedTuple):
    """How the values of a step are kept; one object for all its tasks.

    Parameters
    ----------
    store : where
    step, pipeline : the instance of the step and the name of the pipeline, for lists of what was kept
    always : whether values are kept that are sooner computed than read: of a step with ``checkpoint: true``, and of
        tasks that need other tasks of their own step, such as the end of a reduction
    least : seconds; what takes less is not kept, unless ``always``
    rate : bytes a second, as in :data:`BYTES_A_SECOND`
    """

    store: ValueStore
    step: str = ""
    pipeline: str = ""
    always: bool = False
    least: float = LEAST_SECONDS
    rate: float = BYTES_A_SECOND


class KeptTask(NamedTuple):
    """How the value of one task is kept.

    Parameters
    ----------
    rule : of its step
    key : of the value, as far as it can be known before the run: then the next run can know it as well. Empty: unknown
    own : hash of the task itself, for :func:`pipeline.graph.task_keys.combine`; empty where ``ids`` is
    ids : what stands for each value that the task needs, in the order of :func:`pipeline.graph.task_keys.needs_of`;
        None for one that is not known before the run: the task finds its digest. Then the value is kept under the key
        that results, and ``key`` leads to it as well. Empty: the key of the value is ``key``, and there was no such
    value look : whether a value that is there is taken, once its key is known; False: it is computed anew and replaced
    """

    rule: KeepRule
    key: str
    own: str = ""
    ids: tuple[str | None, ...] = ()
    look: bool = True


def kept(node: GraphNode, spec: KeptTask) -> GraphNode:
    """Return a node that gives the value of ``node``, and keeps it."""
    return wrapped(node, keep_task, spec)


def loaded(key: Key, store: ValueStore, value_key: str) -> GraphNode:
    """Return a node that loads a value and needs no others."""
    return task(key, load_task, store, value_key)


def keep_task(node: GraphNode, values: Mapping[Key, Any], spec: KeptTask) -> Any:
    """Return the value of a task, loaded if it was kept before; else it is computed, and kept if that is worth it.

    Parameters
    ----------
    values : that ``node`` needs, by key
    """
    rule, key = spec.rule, spec.key
    if spec.ids:
        key = _decided(node, values, spec)
        if key and spec.look:
            with suppress(EntryDamaged):
                value = rule.store.load(key)
                _link(spec, key)
                _current.outcome = "loaded"
                return value
    began = perf_counter()
    value = execute(node, values)
    seconds = perf_counter() - began
    if not rule.always and (seconds < rule.least or not is_worth_it(seconds, nbytes(value), rule)):
        _current.outcome = "cheap"
    elif not key:
        _current.outcome = "computed: its key is unknown"
    elif not _is_complete(value):
        _current.outcome = "computed: items were left out"
    else:
        why = rule.store.keep(key, value, seconds=seconds, step=rule.step, pipeline=rule.pipeline)
        if not why:
            _link(spec, key)
        _current.outcome = f"computed: {why}" if why else rule.store.outcome(key, seconds)
    return value


def load_task(store: ValueStore, key: str) -> Any:
    """Return a value that was kept.

    Raises
    ------
    EntryDamaged : it is gone, or can't be read: then it is removed, and has to be computed again
    """
    try:
        value = store.load(key)
    except EntryDamaged as error:
        store.remove(key)
        raise EntryDamaged(f"entry {key}: {error}") from error
    _current.outcome = "loaded"
    return value


def load_arguments(node: GraphNode) -> tuple[ValueStore, str] | None:
    """Return the store and the key of a node of :func:`loaded`; None for any other."""
    if function_of(node) is not load_task:
        return None
    store, key = arguments_of(node)
    return store, key


def is_worth_it(seconds: float, size: int, rule: KeepRule) -> bool:
    """Return whether a value of ``size`` bytes that took ``seconds`` is sooner read than computed.

    >>> is_worth_it(0.1, 1_000, KeepRule(None)), is_worth_it(0.1, 10**9, KeepRule(None))
    (True, False)
    """
    return seconds > rule.least + size / rule.rate


def take_outcome() -> str:
    """Return what the task that this thread ran last did about its value, once; empty where it is not a kept one.

    ``loaded``, ``kept``, ``cheap`` (sooner computed than read), or ``computed: WHY`` it was not kept; ``sent …``: the
    client is to keep it (:mod:`pipeline.worker.client_entries`).
    """
    outcome, _current.outcome = _current.outcome, ""
    return outcome


class _Current(threading.local):
    outcome = ""


_current = _Current()


def _decided(node: GraphNode, values: Mapping[Key, Any], spec: KeptTask) -> str:
    """Return the key of the value, now that all that the task needs is there."""
    needs = needs_of(node)
    ids = [digest(values[one]) if known is None else known for one, known in zip(needs, spec.ids, strict=True)]
    return spec.key if None in ids else combine(spec.own, ids)  # type: ignore[arg-type]


def _link(spec: KeptTask, key: str) -> None:
    if spec.key and spec.key != key:
        spec.rule.store.link(spec.key, key)


def _is_complete(value: Any) -> bool:
    """Whether nothing was left out of a value under ``on_error: drop``."""
    return type(value) is not Dropped and not (type(value) is Group and value.dropped)
