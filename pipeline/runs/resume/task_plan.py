"""Which tasks load their value, and which keep it for later runs: the Graph is rewritten before it runs.

The tasks of a kept step that give its value are looked up by their keys. Where there is an entry, a task that loads it
takes the place of the one that computes it, and what that one alone needed is not run. Where there is none, the task
keeps what it computes. If the values that it needs are kept themselves and are computed in this run, its key is only
known when they are there: it is found by their digests then, so that an equal result stops what would follow.

Without a cache or checkpoints, the items of ``over`` steps are logged in the run folder; the next run takes them from
there if this one does not end. So are the files that writer tasks complete, of outputs of which nothing has changed: a
part counts by the key of its output, the fingerprint of the Graph, and its own place.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.config.model import Config
from pipeline.graph.canonical_encoding import combined
from pipeline.graph.garbage_collection import rarely_collected
from pipeline.graph.graph import CONTEXT, Graph, Key
from pipeline.graph.nodes import GraphNode, constant, cull, dependencies, function_of, toposort
from pipeline.graph.task_keys import StepFacts, TaskKeys, combine, needs_of
from pipeline.outputs.written_parts import WrittenParts
from pipeline.runs.resume.records import StepRecord
from pipeline.worker.cache_entries import Store
from pipeline.worker.item_logs import LEAST_OF_ITEMS, ItemLog, LoggedItem
from pipeline.worker.kept_tasks import KeepRule, KeptTask, kept, loaded

__all__ = ["KeptValues", "Stores", "plan_values", "with_parts"]


@dataclass(frozen=True)
class Stores:
    """Where values are kept, and where those of earlier runs are.

    Parameters
    ----------
    cache : of all steps; None: only steps with ``checkpoint: true`` are kept
    checkpoints : of those, where there is no cache
    log : of the items of this run; None: they are not logged
    earlier : logs of runs that did not end, the newest last
    parts : of the outputs of this run, and those that the last run has left; None: they are not kept
    """

    cache: Store | None = None
    checkpoints: Store | None = None
    log: ItemLog | None = None
    earlier: tuple[ItemLog, ...] = ()
    parts: WrittenParts | None = None

    @property
    def folders(self) -> frozenset[str]:
        """The folders that tasks write to."""
        used = (self.cache, self.checkpoints, self.log, self.parts)
        return frozenset(store.folder for store in used if store is not None)


@dataclass(frozen=True)
class KeptValues:
    """The tasks that load or keep their values.

    Parameters
    ----------
    nodes : the nodes that take the place of those of the Graph
    digests : task whose value is loaded -> digest of the value; None: it has none
    keys : task that is kept in a store -> the key of its value; empty: it is not known before the run
    value_keys : task that loads its value from a store -> the key of the entry
    places : task that keeps or loads its value in a store -> that store
    undecided : tasks of which the run decides whether they load their value
    parts : output -> the tasks that write it from the values of steps
    part_keys : of all parts of outputs that are loaded or kept
    """

    nodes: Mapping[Key, GraphNode] = field(default_factory=dict)
    digests: Mapping[Key, str | None] = field(default_factory=dict)
    keys: Mapping[Key, str] = field(default_factory=dict)
    value_keys: Mapping[Key, str] = field(default_factory=dict)
    places: Mapping[Key, Store] = field(default_factory=dict)
    undecided: frozenset[Key] = frozenset()
    parts: Mapping[str, Sequence[Key]] = field(default_factory=dict)
    part_keys: frozenset[str] = frozenset()

    @property
    def stores(self) -> tuple[Store, ...]:
        """The stores in use."""
        return tuple({store.folder: store for store in self.places.values()}.values())

    def cut(self, graph: Graph) -> Graph:
        """Return a part of the Graph with these nodes, without what only the replaced ones needed."""
        if not self.nodes:
            return graph
        tasks = {key: self.nodes.get(key, node) for key, node in graph.tasks.items()}
        if not self.digests:  # nothing is loaded, so that every task is needed
            return replace(graph, tasks=tasks, part_of=graph.fingerprint)
        tasks = cull({**tasks, CONTEXT: constant(CONTEXT, None)}, graph.wanted)
        tasks.pop(CONTEXT, None)
        owners = {key: graph.owners[key] for key in tasks}
        return replace(graph, tasks=tasks, owners=owners, part_of=graph.fingerprint)

    def reusable_parts(self, output: str) -> tuple[int, int]:
        """Return how many parts of an output are there already, and how many it has."""
        own = self.parts.get(output, ())
        return sum(key in self.digests for key in own), len(own)

    def reusable_by_step(self, graph: Graph) -> Counter[str]:
        """Return for each step instance how many values of the Graph need not be computed, loaded or not needed."""
        return Counter(graph.owners[key] for key in self.digests if key in graph.tasks)

    def digests_after(self, keys: Sequence[Key]) -> list[str] | None:
        """Return the digests of the values of some tasks, when the run is over; None if one is unknown."""
        found = []
        for key in keys:
            digest = self.digests.get(key)
            if digest is None and self.keys.get(key):
                entry = self.places[key].find(self.keys[key])
                digest = entry.digest if entry is not None else None
            if digest is None:
                return None
            found.append(digest)
        return found

    def loaded_entries(self) -> Iterator[tuple[Store, str]]:
        """Yield each store and key of a value that is loaded from a store."""
        for key in self.digests:
            if key in self.places:
                yield self.places[key], self.value_keys[key]

    def forget(self, keys: Iterable[Key]) -> None:
        """Remove the entries of some tasks, whose inputs have changed while they were read, and what they lead to."""
        for key in keys:
            if self.keys.get(key):
                entry = self.places[key].find(self.keys[key])
                for name in {self.keys[key], *((entry.key,) if entry is not None else ())}:
                    self.places[key].remove(name)


@rarely_collected()
def plan_values(
    config: Config,
    graph: Graph,
    records: Mapping[str, StepRecord],
    stores: Stores,
    *,
    again: Collection[str] = (),
    forced: Collection[str] = (),
) -> KeptValues:
    """Return the tasks of a Graph that load their values or keep them.

    Parameters
    ----------
    graph : what is to be run
    again : step instances that depend on forced ones: a value of theirs is loaded if the values that it needs are equal
    forced : step instances whose values are computed, whatever was kept
    """
    rules = _rules(config, graph, records, stores)
    if not rules:
        return KeptValues()
    values = {key: name for name, (_, keys) in rules.items() for key in keys}
    needed = cull({**graph.tasks, CONTEXT: constant(CONTEXT, None)}, values)
    needed.pop(CONTEXT, None)
    facts = {name: StepFacts(record.task_digest, record.files) for name, record in records.items()}
    dropping = frozenset(name for name, policy in graph.policies.items() if policy.drop)
    keys = TaskKeys(needed, graph.owners, facts, os.path.abspath(config.root), dropping)
    order = toposort(needed)
    keys.add(order)
    made = _Made(graph, keys, {name: rule for name, (rule, _) in rules.items()}, _Lookup(stores), dropping)
    if not any(isinstance(rule.store, Store) for rule, _ in rules.values()):
        for name, (rule, own) in rules.items():  # the keys of all tasks are known
            for key in own:
                made.logged(key, keys.keys[key], rule, look=name not in again)
        order = []
    for key in order:
        if key in values and function_of(needed[key]) is not None:
            made.value(key, values[key], look=values[key] not in again, forced=values[key] in forced)
        else:
            made.inner(key)
    return KeptValues(made.nodes, made.digests, made.kept, made.value_keys, made.places, frozenset(made.undecided))


def with_parts(
    values: KeptValues,
    graph: Graph,
    outputs: Mapping[str, tuple[str, str]],
    store: WrittenParts,
    *,
    structure: str,
    pipeline: str,
    forced: Collection[str],
) -> KeptValues:
    """Return the plan with the writer tasks, too: those load their record whose files are there, the others keep them.

    Parameters
    ----------
    graph : what is to be run
    outputs : name of an output whose parts are kept -> the owner of its tasks, and its key
    structure : of the whole Graph: the key of an output does not say how it is divided into parts
    forced : outputs that are written anew, whatever is there
    """
    there = store.keys()
    nodes, digests = dict(values.nodes), dict(values.digests)
    parts: dict[str, list[Key]] = {}
    part_keys: set[str] = set()
    for sink in graph.sinks:
        if sink.name not in outputs:
            continue
        writer, output_key = outputs[sink.name]
        rule = KeepRule(store, writer, pipeline, always=True)
        own = parts[sink.name] = []
        todo, seen = list(sink.records), set(sink.records)
        while todo:
            key = todo.pop()
            earlier = [needed for needed in dependencies(graph.tasks[key]) if graph.owners.get(needed) == writer]
            todo += [needed for needed in earlier if needed not in seen]
            seen.update(earlier)
            if not earlier:  # the others join what was written
                own.append(key)
            part_key = combined(["part", output_key, structure, repr(key)])
            part_keys.add(part_key)
            if part_key in there and sink.name not in forced:
                nodes[key], digests[key] = loaded(key, store, part_key), None
            else:
                nodes[key] = kept(graph.tasks[key], KeptTask(rule, part_key))
    return replace(values, nodes=nodes, digests=digests, parts=parts, part_keys=frozenset(part_keys))


def _rules(
    config: Config, graph: Graph, records: Mapping[str, StepRecord], stores: Stores
) -> dict[str, tuple[KeepRule, list[Key]]]:
    """Return for each step instance that is kept how, and the tasks that give its value."""
    found = {}
    for name, step in config.steps.items():
        if not records[name].task_digest or not step.pure:
            continue
        policy = graph.policies[name]
        value_keys: Iterable[Key] = graph.value_types[name].keys
        store: Any = stores.cache if stores.cache is not None else stores.checkpoints if step.checkpoint else None
        if store is not None:
            rule = KeepRule(store, name, config.name, always=step.checkpoint)
        elif stores.log is not None and policy.over and policy.items:
            rule = KeepRule(stores.log, name, config.name, least=LEAST_OF_ITEMS)
            value_keys = ((policy.over, i) for i in range(len(policy.items)))
        else:
            continue
        keys = [key for key in value_keys if key in graph.tasks]
        if keys:
            found[name] = rule, keys
    return found


class _Lookup:
    """What there is: entries of stores, whose folders are listed once, and items of logs."""

    def __init__(self, stores: Stores) -> None:
        self._names: dict[str, frozenset[str]] = {}
        self._items: dict[str, tuple[ItemLog, LoggedItem]] = {}
        for log in stores.earlier:
            self._items |= {key: (log, item) for key, item in log.index().items()}

    def entry(self, store: Store, key: str) -> Any:
        """Return the entry of a key; None if there is none that can be used."""
        folder = os.path.dirname(store.path(key))
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._names[folder] = frozenset()
        return store.find(key) if key in self._names[folder] else None

    def item(self, key: str) -> tuple[ItemLog, LoggedItem] | None:
        return self._items.get(key)


class _Made:
    """The plan, task by task in topological order.

    What stands for a task in the key of another one: the digest of its value, where that is loaded; its own key, where
    nothing that it needs is kept; else nothing before the run. Nor does anything for an item that may be left out.
    """

    def __init__(
        self,
        graph: Graph,
        keys: TaskKeys,
        rules: Mapping[str, KeepRule],
        lookup: _Lookup,
        dropping: frozenset[str],
    ) -> None:
        self._graph, self._keys, self._rules, self._lookup, self._dropping = graph, keys, rules, lookup, dropping
        self._ids: dict[Key, str | None] = {}
        self._whole = {name: rule._replace(always=True) for name, rule in rules.items()}
        self.nodes: dict[Key, GraphNode] = {}
        self.digests: dict[Key, str | None] = {}
        self.kept: dict[Key, str] = {}
        self.value_keys: dict[Key, str] = {}
        self.places: dict[Key, Store] = {}
        self.undecided: set[Key] = set()

    def inner(self, key: Key) -> str | None:
        """Plan a task whose value is not kept; return its key, if that is known."""
        plain = self._keys.keys[key]
        needs = dependencies(self._graph.tasks[key])
        is_plain = bool(plain) and all(self._ids[needed] == self._keys.keys[needed] for needed in needs)
        self._ids[key] = plain if is_plain and self._graph.owners[key] not in self._dropping else None
        return plain if is_plain else None

    def value(self, key: Key, name: str, *, look: bool, forced: bool) -> None:
        """Plan a task whose value is kept as that of a step instance; the task may be one of another step."""
        rule = self._rules[name]
        if isinstance(rule.store, Store):
            self._stored(key, name, rule.store, look=look, forced=forced)
        else:
            self.logged(key, self.inner(key), rule, look=look)

    def logged(self, key: Key, plain: str | None, rule: KeepRule, *, look: bool) -> None:
        """Plan a task that computes an item, whose key is known or not."""
        if not plain:
            return
        there = self._lookup.item(plain) if look else None
        if there is not None:
            log, item = there
            self.nodes[key] = loaded(key, log, item.place)
            self.digests[key] = item.digest
        else:
            self.nodes[key] = kept(self._graph.tasks[key], KeptTask(rule, plain))

    def _stored(self, key: Key, name: str, store: Store, *, look: bool, forced: bool) -> None:
        plain, own = self._keys.keys[key], self._keys.own[key]
        node = self._graph.tasks[key]
        if look and plain and self._load(key, store, plain):
            return
        self._ids[key] = None
        if not own:
            return
        ids = tuple(self._ids[needed] for needed in needs_of(node))
        are_plain = all(known == self._keys.keys[needed] for known, needed in zip(ids, needs_of(node), strict=True))
        if are_plain and plain:
            ids = ()
        elif None not in ids and not forced and self._load(key, store, combine(own, ids)):  # type: ignore[arg-type]
            return
        owner = self._graph.owners[key]
        ends_step = any(self._graph.owners.get(needed) == owner for needed in dependencies(node))
        rule = (self._whole if ends_step else self._rules)[name]
        self.nodes[key] = kept(node, KeptTask(rule, plain, own if ids else "", ids, look=not forced))
        self.kept[key], self.places[key] = plain, store
        if ids and not forced:
            self.undecided.add(key)

    def _load(self, key: Key, store: Store, value_key: str) -> bool:
        entry = self._lookup.entry(store, value_key)
        if entry is None:
            return False
        self.nodes[key] = loaded(key, store, value_key)
        self.digests[key], self.places[key], self.value_keys[key] = entry.digest, store, value_key
        plain = "" if self._graph.owners[key] in self._dropping else self._keys.keys[key]
        self._ids[key] = entry.digest if entry.digest is not None else plain or None
        return True
