"""Rename the tasks of one instance of a step for its siblings, instead of building each of them.

Two instances of a step are siblings if their parameters are equal and the types of their inputs are, but for the names
of the keys: a step that only inherits its matrix has such instances. That an op's tasks depend on nothing else is not
believed: the second sibling is built as well, and if its tasks are not those of the first under other names (a seed
that is derived from the instance's name, say), every instance is built. Parameters that a matrix key changes are never
guessed: such instances are no siblings.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from pipeline.builder.blockwise import LayerKeys, Layers, renamed_all
from pipeline.config.model import Config, Reference, Step
from pipeline.errors import Location
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, token
from pipeline.graph.value_types import ArrayType, FrameType, ItemsType, LabelsType, ObjectType, PartsType, ValueType

__all__ = ["Lowered", "Siblings"]

_FEW = 3
"""A step with fewer instances is built: the second one is built in any case."""

_MOST_KINDS = 4
"""After so many instances of a step that are no siblings, none of it is looked for any more."""

_NOT_COMPARED = frozenset({"name", "matrix", "location", "locations"})
"""Fields of a step that are its own; the tasks may depend on the first two, as the second sibling shows."""


@dataclass(frozen=True, eq=False)
class Lowered:
    """What one instance of a step adds to a build: its own tasks, the type of its value, how its tasks move data.

    ``alone``: it adds more, such as a warning, so that others can't be renamed from it.
    """

    name: str
    tasks: dict[Key, GraphNode]
    value_type: ValueType
    moves: frozenset[str] = frozenset()
    alone: bool = False


@dataclass
class _Kind:
    """Instances that look like siblings; ``verified``: whether the second one was the first under other names."""

    first: Lowered
    inputs: tuple[ValueType, ...]
    verified: bool | None = None


@dataclass
class Siblings:
    """The instances of one build that others can be renamed from.

    Parameters
    ----------
    value_types : instance -> type of its value, of all instances so far
    layers : the layers that the build has met; those of renamed instances are added
    """

    config: Config
    value_types: Mapping[str, ValueType]
    layers: Layers
    _kinds: dict[str, dict[Any, _Kind]] = field(default_factory=dict)
    _templates: dict[int, tuple[Any, bytes]] = field(default_factory=dict)  # by identity, which they keep alive

    def __post_init__(self) -> None:
        self._n_instances = Counter(step.step for step in self.config.steps.values())

    def build(self, step: Step, slices: Container[str], build: Callable[[], Lowered]) -> Lowered:
        """Return what an instance adds: that of a sibling under other names, or what ``build`` returns.

        Parameters
        ----------
        slices : the sources that have applied the picks of the references to them
        build : builds the instance
        """
        kinds = self._kinds.setdefault(step.step, {})
        is_source = step.kind == "op" and type(step.parameters).family == "sources"
        if self._n_instances[step.step] < _FEW or is_source or _is_hopeless(kinds):
            return build()
        references = step.references()
        own = tuple([name in slices for r in references for name in r.instances])
        inputs = tuple(self.value_types[name] for r in references for name in r.instances)
        try:
            shape = (own, _shape(step, references), tuple([self._type_shape(each) for each in inputs]))
        except _NoShapeError:
            return build()
        kind = kinds.get(shape)
        if kind is not None and kind.verified:
            found = self._renamed(kind, step.name, inputs)
            if found is not None:
                return found
        made = build()
        if kind is None:
            kinds[shape] = _Kind(made, inputs)
        elif kind.verified is None:
            same = not (kind.first.alone or made.alone)
            kind.verified = same and self._is_same(self._renamed(kind, step.name, inputs), made)
        return made

    def _is_same(self, found: Lowered | None, made: Lowered) -> bool:
        if found is None or found.moves != made.moves or found.tasks.keys() != made.tasks.keys():
            return False
        try:
            types = [(self._type_shape(each.value_type), _names(each.value_type)) for each in (found, made)]
        except _NoShapeError:
            return False
        return types[0] == types[1] and token(found.tasks) == token(made.tasks)

    # -- renaming -----------------------------------------------------------------------------------------------------

    def _renamed(self, kind: _Kind, name: str, inputs: Sequence[ValueType]) -> Lowered | None:
        """Return the tasks of the first sibling for the instance ``name``; None if the names don't correspond."""
        first = kind.first
        names: dict[str, str] = {}
        for old, new in zip(_all_names(kind.inputs), _all_names(inputs), strict=True):
            if names.setdefault(old, new) != new:  # one input twice here, two inputs there
                return None
        if len(set(names.values())) != len(names):
            return None
        moved: dict[Key, Key] = {}
        for old_type, new_type in zip(kind.inputs, inputs, strict=True):
            for old_layer, new_layer in zip(self._layers(old_type), self._layers(new_type), strict=True):
                if old_layer is not new_layer:
                    moved |= zip(old_layer.keys, new_layer.keys, strict=True)
        for key in first.tasks:
            layer = key[0] if isinstance(key, tuple) else key
            if layer not in names:
                rest = layer.removeprefix(first.name)
                if rest == layer or rest[:1] not in ("", "/", "."):
                    return None
                names[layer] = name + rest
            moved[key] = (names[layer], *key[1:]) if isinstance(key, tuple) else names[layer]
        value_type = _renamed_type(first.value_type, names)
        if value_type is None:
            return None
        for old_layer, (new_name, n_blocks) in zip(self._layers(first.value_type), _blocks(value_type), strict=True):
            self.layers.add(new_name, n_blocks, LayerKeys([moved.get(key, key) for key in old_layer.keys]))
        return Lowered(name, renamed_all(first.tasks, moved), value_type, first.moves)

    def _layers(self, value_type: ValueType) -> list[LayerKeys]:
        return [self.layers.of(name, n_blocks) for name, n_blocks in _blocks(value_type)]

    # -- what makes siblings ------------------------------------------------------------------------------------------

    def _type_shape(self, value_type: ValueType) -> Any:
        """Return the type of an input without the names of its keys, as a value that can be compared."""
        match value_type:
            case ArrayType(dims=dims, chunks=chunks, dtype=dtype, labels=labels):
                own = tuple((name, each.dim, each.sizes, self._template(each.field)) for name, each in labels.items())
                return "array", dims, chunks, dtype, self._template(value_type.template), own
            case FrameType():
                schema = self._template(value_type.schema)
                known = repr((value_type.nbytes, value_type.at_most))
                return "frame", value_type.n_partitions, schema, value_type.ordered, value_type.lengths, known
            case ItemsType():
                columns = _shape(dict(value_type.columns), ())
                return "items", value_type.names, columns, value_type.n_tasks, value_type.droppable
            case ObjectType():
                return ("value",)
        parts = tuple((name, self._type_shape(part)) for name, part in value_type.parts.items())
        return "parts", parts, value_type.whole and self._type_shape(value_type.whole)

    def _template(self, template: Any) -> bytes:
        """Return the bytes of what is known of a value: coordinates and attributes of an array, schema of a frame."""
        if id(template) not in self._templates:
            self._templates[id(template)] = template, _pickled(template)
        return self._templates[id(template)][1]


def _is_hopeless(kinds: Mapping[Any, _Kind]) -> bool:
    return len(kinds) >= _MOST_KINDS and not any(kind.verified for kind in kinds.values())


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:  # of any kind: a value that can't be compared
        raise _NoShapeError from error


# ---------------------------------------------------------------------------------------------------------------------
# Parameters
# ---------------------------------------------------------------------------------------------------------------------


class _NoShapeError(Exception):
    """A value that can't be compared with another."""


_ATOMS = frozenset((str, int, float, bool, complex, bytes, type(None)))


def _shape(value: Any, references: Sequence[Reference]) -> Any:
    """Return a value that equals that of another instance only if all parameters are equal.

    References are equal if they are written alike; their instances are compared as inputs.

    Raises
    ------
    _NoShapeError : there is a value of another kind in it
    """
    kind = type(value)
    if kind in _ATOMS:
        return kind, repr(value)  # 1 and 1.0 differ, nan is nan
    if kind is Reference:
        about = (value.step, value.gathered, _shape(value.labels, ()), value.part, value.picks, value.text)
        return "reference", references.index(value), about, len(value.instances)
    if kind is Location:
        return ()
    if isinstance(value, Mapping):
        return kind, tuple([(name, _shape(each, references)) for name, each in value.items()])
    if kind in (list, tuple):
        return kind, tuple([_shape(each, references) for each in value])
    if isinstance(value, set | frozenset):
        return kind, frozenset(_shape(each, references) for each in value)
    if hasattr(value, "model_fields_set"):  # the parameters of an op
        given = {**value.__dict__, **(value.__pydantic_extra__ or {})}
        return kind, tuple([(name, _shape(each, references)) for name, each in given.items()])
    if is_dataclass(value) and not isinstance(value, type):
        skipped = _NOT_COMPARED if kind is Step else ()
        members = [f.name for f in fields(value) if f.name not in skipped]
        return kind, tuple([(name, _shape(getattr(value, name), references)) for name in members])
    raise _NoShapeError


# ---------------------------------------------------------------------------------------------------------------------
# Names of value types
# ---------------------------------------------------------------------------------------------------------------------


def _blocks(value_type: ValueType) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the layers of a value, in a fixed order: first part of the keys, and number of blocks along each axis."""
    match value_type:
        case ArrayType(name=name, chunks=chunks, labels=labels):
            yield name, tuple(map(len, chunks))
            for each in labels.values():
                yield each.name, (len(each.sizes),)
        case FrameType(name=name, n_partitions=n) | ItemsType(name=name, n_tasks=n):
            yield name, (n,)
        case ObjectType(name=name):
            yield name, ()
        case PartsType(parts=parts, whole=whole):
            for part in (*parts.values(), *([whole] if whole else [])):
                yield from _blocks(part)


def _names(value_type: ValueType) -> list[str]:
    return [name for name, _ in _blocks(value_type)]


def _all_names(value_types: Sequence[ValueType]) -> Iterator[str]:
    return (name for value_type in value_types for name in _names(value_type))


def _renamed_type(value_type: ValueType, names: Mapping[str, str]) -> ValueType | None:
    """Return the type with other names; None if one of them has no other."""
    if isinstance(value_type, PartsType):
        parts = {part: _renamed_type(each, names) for part, each in value_type.parts.items()}
        whole = value_type.whole and _renamed_type(value_type.whole, names)
        known = {part: each for part, each in parts.items() if each is not None}
        if len(known) < len(parts) or (value_type.whole and whole is None):
            return None
        return PartsType(known, whole)
    if not names.keys() >= set(_names(value_type)):
        return None
    name = names[value_type.name]
    if isinstance(value_type, ArrayType):
        labels: dict[str, LabelsType] = {
            coordinate: replace(each, name=names[each.name]) for coordinate, each in value_type.labels.items()
        }
        return replace(value_type, name=name, labels=labels)
    return replace(value_type, name=name)
