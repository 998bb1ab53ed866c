"""The key of a task: what determines its value, as a hash; the same wherever and whenever it is planned.

The key holds the function and the constants of the task, the content of the files that it names, what all tasks of its
step have in common (code, versions, …), and the keys of the tasks that it needs. The name of the task is no part of it,
nor is its position among others: one more item changes the keys of no other item.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from dask.base import tokenize

from pipeline.graph.canonical_encoding import combined
from pipeline.graph.column_types import register_tokens
from pipeline.graph.garbage_collection import rarely_collected
from pipeline.graph.graph import Key
from pipeline.graph.importing import is_instance
from pipeline.graph.nodes import GraphNode, dependencies, is_constant, parts_of, target_of, unwrapped, value_of_constant

__all__ = ["StepFacts", "TaskKeys", "combine", "needs_of"]

_FILE = "\0file "
"""Before the digest of a file in the text that describes a task; no ``repr`` has it."""
_LONG = 300  # characters of a description from which on its hash takes its place


def combine(own: str, ids: Sequence[str]) -> str:
    """Return the key of a task, 64 hex digits.

    Parameters
    ----------
    own : of the task itself: its function, constants, code, files, as text or as a hash
    ids : of each value that it needs, in the order of :func:`needs_of`: the digest of the value, or the key of its task
    """
    return combined((own, *ids))


def needs_of(node: GraphNode) -> tuple[Key, ...]:
    """Return the keys whose results a node needs, in an order that is the same in every process."""
    needs = dependencies(node)
    return tuple(needs) if len(needs) < 2 else tuple(sorted(needs, key=repr))


@dataclass(frozen=True)
class StepFacts:
    """What is known of all tasks of one step instance.

    Parameters
    ----------
    digest : of what they have in common; empty: unknown, so that their keys are
    files : path, URL or argument, as its tasks have it -> digest of the content; empty: unknown
    """

    digest: str
    files: Mapping[str, str] = field(default_factory=dict)


class TaskKeys:
    """The keys of some tasks of a Graph; one object for each plan.

    Parameters
    ----------
    tasks : in topological order of their steps: those of a step are not needed by steps before it
    owners : key -> step instance
    facts : step instance -> what is known of its tasks
    root : a folder; paths below it count relative to it
    incomplete : step instances of which items may be left out: of what needs their tasks, no key is known

    Attributes
    ----------
    own : what distinguishes each task itself, as text; empty: unknown
    keys : key of each task; empty: unknown
    """

    def __init__(
        self,
        tasks: Mapping[Key, GraphNode],
        owners: Mapping[Key, str],
        facts: Mapping[str, StepFacts],
        root: str = "",
        incomplete: Collection[str] = (),
    ) -> None:
        self._tasks, self._owners, self._facts = tasks, owners, facts
        self._incomplete = frozenset(incomplete)
        self._root = f"{root.rstrip('/')}/" if root else ""
        self._tokens: dict[int, str] = {}  # of objects seen before, by identity
        self.own: dict[Key, str] = {}
        self.keys: dict[Key, str] = {}

    @rarely_collected()
    def add(self, order: Iterable[Key]) -> None:
        """Compute the keys of tasks, given in topological order; all that they need is among them or known."""
        register_tokens()
        keys = list(order)
        layers: dict[tuple[str, Any], list[Key]] = {}
        for key in keys:
            layers.setdefault((self._owners[key], key[0] if isinstance(key, tuple) else key), []).append(key)
        for (owner, _), some in layers.items():
            self._describe(self._facts.get(owner, StepFacts("")), some)
        for key in keys:
            own, needs = self.own[key], dependencies(self._tasks[key])
            if not own:
                self.keys[key] = ""
            elif not needs:
                self.keys[key] = combined((own,))
            else:
                ids = [self._id(needed) for needed in needs_of(self._tasks[key])]
                self.keys[key] = combine(own, ids) if all(ids) else ""

    def _id(self, key: Key) -> str:
        return "" if self._incomplete and self._owners.get(key) in self._incomplete else self.keys.get(key, "")

    def _describe(self, facts: StepFacts, keys: list[Key]) -> None:
        """Set the hashes of the tasks of one layer."""
        if not facts.digest:
            self.own |= dict.fromkeys(keys, "")
            return
        nodes = [unwrapped(self._tasks[key]) for key in keys]
        places = [_positions(node) if dependencies(node) else _NOWHERE for node in nodes]
        try:
            texts = _Describer(self._tokens, facts.files, self._root).texts(nodes, places)
        except _Unknown:
            self.own |= dict.fromkeys(keys, "")
            return
        every = combined(facts.files.values()) if all(facts.files.values()) else ""
        for key, node, text in zip(keys, nodes, texts, strict=True):
            own = f"{facts.digest} {text}"
            if facts.files and _FILE not in text and not self._is_inner(key, node):
                # it may read any of them, in a way that its constants do not show
                own = f"{own} {every}" if every else ""
            elif f"{_FILE}?" in text:
                own = ""
            self.own[key] = own if len(own) < _LONG else combined((own,))

    def _is_inner(self, key: Key, node: GraphNode) -> bool:
        """Return whether a task needs others of its own step, which have named the files."""
        owner = self._owners[key]
        return any(self._owners.get(needed) == owner for needed in dependencies(node))


class _Unknown(Exception):
    """A constant has no description that is the same in every process."""


_ATOMS = frozenset((int, float, bool, type(None), bytes, complex))
"""Types whose ``repr`` describes a value completely."""


_NOWHERE: Mapping[Key, int] = {}


def _positions(node: GraphNode) -> Mapping[Key, int]:
    return {key: i for i, key in enumerate(needs_of(node))}


@dataclass(frozen=True)
class _Describer:
    """Describes the tasks of a layer together, argument by argument, each by a text of its own.

    Parameters
    ----------
    tokens : of objects seen before, by identity; added to
    files, root : as of :class:`StepFacts` and :class:`TaskKeys`
    """

    tokens: dict[int, str]
    files: Mapping[str, str]
    root: str

    def texts(self, values: Sequence[Any], places: Sequence[Mapping[Key, int]]) -> list[str]:
        """Return a text for each value; ``places``: for each, the position of each key among what its task needs."""
        kinds = set(map(type, values))
        kind = next(iter(kinds)) if len(kinds) == 1 else None
        first = values[0]
        if len(values) > 1 and len(set(map(id, values))) == 1 and not _has_targets(first):
            return self.texts([first], places[:1]) * len(values)
        if kind is str:
            return [self._text(value) for value in values] if self.files or self.root else list(map(repr, values))
        if kind in _ATOMS:
            return list(map(repr, values))
        if kind is None:
            return [self.texts([value], [place])[0] for value, place in zip(values, places, strict=True)]
        if target_of(first) is not None:
            return [f"@{place[target_of(value)]}" for value, place in zip(values, places, strict=True)]  # type: ignore[index]
        if parts_of(first) is not None:
            return self._rows(kind.__name__, [parts_of(value) or () for value in values], places)
        if is_constant(first):
            return [f"value {text}" for text in self.texts([value_of_constant(value) for value in values], places)]
        if kind in (list, tuple):
            return self._rows(kind.__name__, values, places)
        if isinstance(first, dict) and type(first).__module__ in ("builtins", "pipeline.worker.isolation"):
            rows = [[inner for pair in value.items() for inner in pair] for value in values]
            return self._rows(kind.__name__, rows, places)
        if isinstance(first, tuple) and hasattr(kind, "_fields"):
            return self._rows(f"{kind.__module__}.{kind.__qualname__}", values, places)
        if hasattr(kind, "__dataclass_fields__"):
            ours = kind.__module__.startswith("pipeline.")  # of ours, places in files are not compared
            names = [one.name for one in fields(first) if one.compare or not ours]
            rows = [[getattr(value, name) for name in names] for value in values]
            return self._rows(f"{kind.__module__}.{kind.__qualname__}", rows, places)
        return [self._token(value) for value in values]

    def _rows(self, head: str, rows: Sequence[Sequence[Any]], places: Sequence[Mapping[Key, int]]) -> list[str]:
        if len(set(map(len, rows))) != 1:
            return [self._rows(head, [row], [place])[0] for row, place in zip(rows, places, strict=True)]
        columns = [self.texts(column, places) for column in zip(*rows, strict=True)]
        if not columns:
            return [f"{head}()"] * len(rows)
        return [f"{head}({','.join(row)})" for row in zip(*columns, strict=True)]

    def _text(self, value: str) -> str:
        text = repr(value.removeprefix(self.root) if self.root else value)
        digest = self.files.get(value)
        return text if digest is None else f"{text}{_FILE}{digest or '?'}"

    def _token(self, value: Any) -> str:
        if id(value) not in self.tokens:
            try:
                # a slice of Arrow text carries the buffer that it was cut from, until it is pickled
                plain = pickle.loads(pickle.dumps(value)) if is_instance(value, "pandas", "DataFrame") else value
                self.tokens[id(value)] = str(tokenize(plain, ensure_deterministic=True))
            except Exception as error:  # dask raises an error of its own kind, pickling the user's objects any
                raise _Unknown from error
        return self.tokens[id(value)]


def _has_targets(value: Any) -> bool:
    """Return whether an argument stands for results of other tasks, or may hold some."""
    return target_of(value) is not None or parts_of(value) is not None
