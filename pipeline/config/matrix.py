"""The instances of a step with a matrix, and what a reference means in one of them.

A step has one instance for each combination of its own matrix keys and of the keys that it inherits: those of the steps
that it refers to, unless a reference picks one label of the key or gathers all. Labels are compared as text.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.expressions.references import PickText, ReferenceText
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.model import Reference
from pipeline.config.scalars import label
from pipeline.errors import Location, nearest

__all__ = [
    "AbsentInstance",
    "BoundReference",
    "Instances",
    "effective_matrix",
    "expand",
    "guessed_instance",
    "resolve_reference",
]

MOST_INSTANCES = 1000

Labels = tuple[str, ...]
Positions = tuple[tuple[str, int | tuple[int | None, int | None]], ...]


class AbsentInstance(Exception):
    """A reference means an instance that ``when`` or ``exclude`` has removed."""


@dataclass(frozen=True)
class Instances:
    """The instances of one step.

    Parameters
    ----------
    step : its name
    keys : matrix keys, in order, each with its values by label
    names : the names of the instances by their labels, in the order of ``keys``
    absent : the names of those that do not exist, each with the reason
    valid : False where the step, or one that it needs, has an error, so that the instances are a guess
    """

    step: str
    keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: Mapping[Labels, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    valid: bool = True

    def matrix(self, labels: Labels) -> dict[str, Any]:
        """Return the matrix values of one instance."""
        return {key: values[text] for (key, values), text in zip(self.keys.items(), labels, strict=True)}


def guessed_instance(step: str) -> Instances:
    """Return the instances of a step that has an error: one without matrix keys."""
    return Instances(step, {}, {(): step}, valid=False)


@dataclass(frozen=True)
class BoundReference:
    """A reference as it is written in a step, with the instances of the step that it names."""

    text: ReferenceText
    location: Location
    path: str
    instances: Instances


@dataclass(frozen=True)
class _Picks:
    """The picks of a reference by kind: one label of a key, all labels of a key, positions along a dim."""

    labels: Mapping[str, str]
    gathered: tuple[str, ...]
    positions: Positions


def _picks_by_kind(reference: BoundReference) -> _Picks:
    """Sort the picks of a reference by kind.

    Raises
    ------
    ConfigFault : for a label that the step doesn't have, or a pick that is neither a label nor a position
    """
    step, keys, picks = reference.instances.step, list(reference.instances.keys), reference.text.picks
    labels: dict[str, str] = {}
    gathered: list[str] = []
    positions: list[tuple[str, int | tuple[int | None, int | None]]] = []
    without_key = [pick for pick in picks if pick.key is None]
    named = {pick.key for pick in picks}
    if len(without_key) == 1 and without_key[0].is_gather:
        if not keys:
            raise _fault(reference, f"{step!r} has no matrix, so there is nothing to gather")
        gathered += [key for key in keys if key not in named]
        without_key = []
    free_keys = iter([key for key in keys if key not in named])
    for pick in picks:
        if pick.key is None and pick not in without_key:
            continue
        key = pick.key if pick.key is not None else next(free_keys, None)
        if key is None:
            raise _fault(reference, _too_many_labels(reference, pick))
        if key not in reference.instances.keys:
            positions.append((key, _position(reference, key, pick)))
        elif pick.is_gather:
            gathered.append(key)
        else:
            labels[key] = _label(reference, key, pick)
    return _Picks(labels, tuple(key for key in keys if key in gathered), tuple(positions))


def _too_many_labels(reference: BoundReference, pick: PickText) -> str:
    step, keys = reference.instances.step, reference.instances.keys
    if keys:
        return f"{str(reference.text)!r} has more labels than {step!r} has matrix keys ({', '.join(keys)})"
    return f"{step!r} has no matrix, so no label {pick.value!r}; positions need their dim: [time={pick.value}]"


def _label(reference: BoundReference, key: str, pick: PickText) -> str:
    text, values = str(pick.value), reference.instances.keys[key]
    if pick.is_slice or text not in values or (pick.quoted and not isinstance(values[text], str)):
        got = str(pick).removeprefix(f"{key}=")
        has = f"it has {', '.join(list(values)[:12])}{nearest(got, values)}"
        raise _fault(reference, f"{reference.instances.step!r} has no instance with {key} {got!r}; {has}")
    return text


def _position(reference: BoundReference, key: str, pick: PickText) -> int | tuple[int | None, int | None]:
    step, keys = reference.instances.step, reference.instances.keys
    if pick.is_slice:
        return pick.start, pick.stop
    if pick.position is not None:
        return pick.position
    if pick.is_gather:
        has = f"its matrix keys are {', '.join(keys)}" if keys else "it has no matrix"
        raise _fault(reference, f"{step!r} can't be gathered along {key!r}; {has}{nearest(key, keys)}")
    by_label = f"{{op: sel, input: {step}, labels: {{{key}: {pick.value}}}}}"
    message = f"got {str(pick)!r}; picks along a dim are positions, whole numbers; for labels: {by_label}"
    raise _fault(reference, message)


def _fault(reference: BoundReference, message: str) -> ConfigFault:
    return ConfigFault(reference.location, reference.path, message, consequence=not reference.instances.valid)


def effective_matrix(
    own: Mapping[str, Mapping[str, Any]], references: Iterable[BoundReference], *, at: Location, path: str
) -> Mapping[str, Any]:
    """Return a step's effective matrix: keys inherited from referenced steps, in reference order, then its own keys.

    Raises
    ------
    ConfigFault : if an inherited key is declared again, or two steps have different values of one key
    """
    keys: dict[str, Mapping[str, Any]] = {}
    source: dict[str, str] = {}
    for reference in references:
        picks, step = _picks_by_kind(reference), reference.instances.step
        for key, values in reference.instances.keys.items():
            if key in picks.labels or key in picks.gathered:
                continue
            if key in own:
                pick = f"{step}[{key}={next(iter(values), '…')}]"
                message = f"{step!r} has the key {key!r}, which this step inherits; leave it out here, or pick: {pick}"
                raise ConfigFault(at, f"{path}.matrix.{key}", message)
            if key in keys and list(keys[key]) != list(values):
                these, those = (", ".join(list(some)[:8]) for some in (values, keys[key]))
                message = f"{step!r} has {key} {these}, but {source[key]!r} has {those}"
                raise _fault(reference, f"{message}; a key inherited from two steps must have the same values in both")
            keys.setdefault(key, values)
            source.setdefault(key, step)
    return {**keys, **own}


def expand(
    step: str,
    keys: Mapping[str, Mapping[str, Any]],
    references: Sequence[BoundReference],
    *,
    excluded: Sequence[Mapping[str, Any]],
    when: Callable[[Mapping[str, Any]], bool],
    at: Location,
) -> Instances:
    """Return the instances of a step.

    Parameters
    ----------
    excluded : combinations to leave out; a key that one does not name matches all of its labels
    when : whether the instance with these values exists

    Raises
    ------
    ConfigFault : if there are more than :data:`MOST_INSTANCES`
    """
    n = 1
    for values in keys.values():
        n *= len(values)
    if n > MOST_INSTANCES:
        sizes = " x ".join(f"{len(v)} {k}" for k, v in keys.items())
        message = f"makes {n:,} instances ({sizes}); at most {MOST_INSTANCES:,}; for more use over in a call"
        raise ConfigFault(at, f"steps.{step}", message)
    names: dict[Labels, str] = {}
    absent: dict[str, str] = {}
    needs = [(reference, _picks_by_kind(reference)) for reference in references]
    excluded_labels = [{key: label(value) for key, value in one.items()} for one in excluded]
    for labels in itertools.product(*keys.values()):
        name = instance_name(step, list(keys), labels)
        chosen = dict(zip(keys, labels, strict=True))
        if any(all(chosen.get(key) == text for key, text in one.items()) for one in excluded_labels):
            continue
        if not when({key: keys[key][text] for key, text in chosen.items()}):
            absent[name] = "when is false"
            continue
        missing = next((name for name in (_missing(*need, chosen) for need in needs) if name), "")
        if missing:
            absent[name] = f"needs {missing}, which does not exist"
            continue
        names[labels] = name
    return Instances(step, keys, names, absent, valid=all(one.instances.valid for one in references))


def instance_name(step: str, keys: Sequence[str], labels: Sequence[str]) -> str:
    """Return the name of an instance: ``tas``, ``tas[t2m]``, ``fit[alpha=0.1,fold=2]``."""
    if not keys:
        return step
    inner = labels[0] if len(keys) == 1 else ",".join(f"{k}={t}" for k, t in zip(keys, labels, strict=True))
    return f"{step}[{inner}]"


def _missing(reference: BoundReference, picks: _Picks, chosen: Mapping[str, str]) -> str:
    """Return the name of the instance that a reference needs and that does not exist; empty if all exist."""
    instances = reference.instances
    labels = [
        [picks.labels.get(key) or chosen.get(key, "")] if key not in picks.gathered else list(values)
        for key, values in instances.keys.items()
    ]
    if any(combination in instances.names for combination in itertools.product(*labels)):
        return ""
    return instance_name(
        instances.step, list(instances.keys), ["*" if len(one) > 1 else "".join(one) for one in labels]
    )


def resolve_reference(reference: BoundReference, matrix: Mapping[str, Any]) -> Reference:
    """Return what a reference means in the instance with these matrix values.

    Raises
    ------
    AbsentInstance : if no such instance exists
    """
    picks, instances = _picks_by_kind(reference), reference.instances
    labels = []
    for key, values in instances.keys.items():
        if key in picks.gathered:
            labels.append(list(values))
        else:
            labels.append([picks.labels[key] if key in picks.labels else label(matrix.get(key))])
    found = [one for one in itertools.product(*labels) if one in instances.names]
    if not found:
        raise AbsentInstance(str(reference.text))
    gathered_values = [[instances.matrix(one)[key] for key in picks.gathered] for one in found if picks.gathered]
    return Reference(
        step=instances.step,
        instances=tuple(instances.names[one] for one in found),
        gathered=picks.gathered,
        labels=tuple(map(tuple, gathered_values)),
        part=reference.text.part,
        picks=picks.positions,
        text=str(reference.text),
        location=reference.location,
    )
