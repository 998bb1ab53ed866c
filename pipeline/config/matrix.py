"""Which copies a step has, and what a reference means in one of them.

A step has one copy for each combination of its own matrix keys and of those it follows: the keys of the steps that it
refers to, as far as it neither picks nor gathers along them. Labels are compared as text.
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

__all__ = ["MOST_COPIES", "Absent", "BoundReference", "Instances", "expanded", "following", "referred"]

MOST_COPIES = 1000

Labels = tuple[str, ...]


class Absent(Exception):
    """A reference means a copy that ``when`` or ``exclude`` has taken away."""


@dataclass(frozen=True)
class Instances:
    """The copies of one step.

    Parameters
    ----------
    step : its name
    keys : matrix keys, in order, each with its values by label
    names : the copies that exist, by their labels in the order of ``keys``
    absent : those that don't, each with the reason
    sure : whether that is so; False where the step, or one that it needs, is at fault itself
    """

    step: str
    keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: Mapping[Labels, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    sure: bool = True

    def matrix(self, labels: Labels) -> dict[str, Any]:
        """The values of a copy."""
        return {key: values[text] for (key, values), text in zip(self.keys.items(), labels, strict=True)}


@dataclass(frozen=True)
class BoundReference:
    """A reference in a step, before it is known which copy it stands in."""

    reference: ReferenceText
    location: Location
    path: str
    of: Instances


@dataclass(frozen=True)
class _Picked:
    """The picks of a use, sorted out."""

    fixed: Mapping[str, str]
    gathered: tuple[str, ...]
    picks: tuple[tuple[str, int | tuple[int | None, int | None]], ...]


def _sorted_out(use: BoundReference) -> _Picked:
    """Tell labels, gathers and positions apart.

    Raises
    ------
    Wrong : for a label that the step doesn't have, or a pick that is neither
    """
    keys = list(use.of.keys)
    fixed: dict[str, str] = {}
    gathered: list[str] = []
    picks: list[tuple[str, int | tuple[int | None, int | None]]] = []
    bare = [p for p in use.reference.picks if p.key is None]
    if len(bare) == 1 and bare[0].is_gather:
        if not keys:
            raise _wrong(use, f"{use.of.step!r} has no matrix, so there is nothing to gather")
        gathered += [k for k in keys if k not in {p.key for p in use.reference.picks}]
        bare = []
    free = iter([k for k in keys if k not in {p.key for p in use.reference.picks}])
    for pick in use.reference.picks:
        if pick.key is None and pick not in bare:
            continue
        key = pick.key if pick.key is not None else next(free, None)
        if key is None:
            raise _wrong(use, _no_key(use, pick))
        if key in use.of.keys:
            _along(use, key, pick, fixed, gathered)
        else:
            picks.append((key, _position(use, key, pick)))
    order = tuple(k for k in keys if k in gathered)
    return _Picked(fixed, order, tuple(picks))


def _no_key(use: BoundReference, pick: PickText) -> str:
    n = len(use.of.keys)
    if n:
        return f"{str(use.reference)!r} has more labels than {use.of.step!r} has matrix keys ({', '.join(use.of.keys)})"
    return f"{use.of.step!r} has no matrix, so no label {pick.value!r}; positions need their dim: [time={pick.value}]"


def _along(use: BoundReference, key: str, pick: PickText, fixed: dict[str, str], gathered: list[str]) -> None:
    if pick.is_gather:
        gathered.append(key)
        return
    text, values = str(pick.value), use.of.keys[key]
    if pick.is_slice or text not in values or (pick.quoted and not isinstance(values[text], str)):
        got = str(pick).removeprefix(f"{key}=")
        has = f"it has {', '.join(list(values)[:12])}{nearest(got, values)}"
        raise _wrong(use, f"{use.of.step!r} has no copy with {key} {got!r}; {has}")
    fixed[key] = text


def _position(use: BoundReference, key: str, pick: PickText) -> int | tuple[int | None, int | None]:
    if pick.is_slice:
        return pick.start, pick.stop
    if pick.position is not None:
        return pick.position
    if pick.is_gather:
        has = f"its matrix keys are {', '.join(use.of.keys)}" if use.of.keys else "it has no matrix"
        raise _wrong(use, f"{use.of.step!r} can't be gathered along {key!r}; {has}{nearest(key, use.of.keys)}")
    cure = f"{{op: sel, input: {use.of.step}, labels: {{{key}: {pick.value}}}}}"
    raise _wrong(use, f"got {str(pick)!r}; picks along a dim are positions, whole numbers; for labels: {cure}")


def _wrong(use: BoundReference, message: str) -> ConfigFault:
    return ConfigFault(use.location, use.path, message, consequence=not use.of.sure)


def following(
    own: Mapping[str, Mapping[str, Any]], uses: Iterable[BoundReference], *, at: Location, path: str
) -> Mapping[str, Any]:
    """All matrix keys of a step: those it follows, in the order of its references, then its own.

    Raises
    ------
    Wrong : if a followed key is declared again, or two steps have different lists of one key
    """
    keys: dict[str, Mapping[str, Any]] = {}
    source: dict[str, str] = {}
    for use in uses:
        picked = _sorted_out(use)
        for key, values in use.of.keys.items():
            if key in picked.fixed or key in picked.gathered:
                continue
            if key in own:
                raise ConfigFault(
                    at,
                    f"{path}.matrix.{key}",
                    f"{use.of.step!r} has the key {key!r}, which this step follows; leave it out here, or pick: "
                    f"{use.of.step}[{key}={next(iter(values), '…')}]",
                )
            if key in keys and list(keys[key]) != list(values):
                raise _wrong(
                    use,
                    f"{use.of.step!r} has {key} {', '.join(list(values)[:8])}, but {source[key]!r} has "
                    f"{', '.join(list(keys[key])[:8])}; what is followed together must be equal",
                )
            keys.setdefault(key, values)
            source.setdefault(key, use.of.step)
    return {**keys, **own}


def expanded(
    step: str,
    keys: Mapping[str, Mapping[str, Any]],
    uses: Sequence[BoundReference],
    *,
    excluded: Sequence[Mapping[str, Any]],
    when: Callable[[Mapping[str, Any]], bool],
    at: Location,
) -> Instances:
    """The copies of a step.

    Parameters
    ----------
    excluded : combinations to be left out; a key that is not named matches all of its labels
    when : tells whether the copy with these values exists

    Raises
    ------
    Wrong : if there are more than :data:`MOST_COPIES`
    """
    n = 1
    for values in keys.values():
        n *= len(values)
    if n > MOST_COPIES:
        sizes = " x ".join(f"{len(v)} {k}" for k, v in keys.items())
        raise ConfigFault(
            at, f"steps.{step}", f"makes {n:,} copies ({sizes}); at most {MOST_COPIES:,}; for more use over in a call"
        )
    names: dict[Labels, str] = {}
    absent: dict[str, str] = {}
    picked = [(use, _sorted_out(use)) for use in uses]
    cuts = [{k: label(v) for k, v in cut.items()} for cut in excluded]
    for labels in itertools.product(*keys.values()):
        name = instance_name(step, list(keys), labels)
        chosen = dict(zip(keys, labels, strict=True))
        if any(all(chosen.get(k) == text for k, text in cut.items()) for cut in cuts):
            continue
        if not when({k: keys[k][text] for k, text in chosen.items()}):
            absent[name] = "when is false"
            continue
        lacking = next((r for r in (_lacking(use, p, chosen) for use, p in picked) if r), "")
        if lacking:
            absent[name] = f"needs {lacking}, which does not exist"
            continue
        names[labels] = name
    return Instances(step, keys, names, absent, sure=all(use.of.sure for use in uses))


def instance_name(step: str, keys: Sequence[str], labels: Sequence[str]) -> str:
    """``tas``, ``tas[t2m]``, ``fit[alpha=0.1,fold=2]``."""
    if not keys:
        return step
    inner = labels[0] if len(keys) == 1 else ",".join(f"{k}={t}" for k, t in zip(keys, labels, strict=True))
    return f"{step}[{inner}]"


def _lacking(use: BoundReference, picked: _Picked, chosen: Mapping[str, str]) -> str:
    """The name of what a use needs in a copy and isn't there; empty if all is there."""
    labels = [
        [picked.fixed.get(k) or chosen.get(k, "")] if k not in picked.gathered else list(v)
        for k, v in use.of.keys.items()
    ]
    if any(combination in use.of.names for combination in itertools.product(*labels)):
        return ""
    return instance_name(use.of.step, list(use.of.keys), ["*" if len(some) > 1 else "".join(some) for some in labels])


def referred(use: BoundReference, matrix: Mapping[str, Any]) -> Reference:
    """What a use means in the copy with these matrix values.

    Raises
    ------
    Absent : if no such copy exists
    """
    picked = _sorted_out(use)
    labels = []
    for key, values in use.of.keys.items():
        if key in picked.gathered:
            labels.append(list(values))
        else:
            labels.append([picked.fixed[key] if key in picked.fixed else label(matrix.get(key))])
    found = [c for c in itertools.product(*labels) if c in use.of.names]
    if not found:
        raise Absent(str(use.reference))
    at = [i for i, key in enumerate(use.of.keys) if key in picked.gathered]
    along = [tuple(use.of.matrix(c)[list(use.of.keys)[i]] for i in at) for c in found] if at else []
    return Reference(
        step=use.of.step,
        copies=tuple(use.of.names[c] for c in found),
        gathered=picked.gathered,
        labels=tuple(along),
        part=use.reference.part,
        picks=picked.picks,
        text=str(use.reference),
        location=use.location,
    )
