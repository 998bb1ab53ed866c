"""The kinds of values that steps give: what is known of a step by its kind, and how one kind becomes another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.config.expressions.references import ReferenceText
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.matrix import Instances
from pipeline.errors import Location, nearest

__all__ = ["StepInfo", "cure", "kind_of", "one"]


@dataclass(frozen=True)
class StepInfo:
    """What is known of a step when others refer to it.

    Parameters
    ----------
    kind : array, frame, items, value, parts; empty: unknown, since the step itself is at fault
    parts : the kinds of its parts
    droppable : items of it may be left out, by ``on_error: drop``
    """

    copies: Instances
    kind: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    droppable: bool = False


def one(kind: str) -> str:
    """The kind with its article."""
    return {"array": "an array", "frame": "a frame", "items": "items", "value": "a value"}.get(kind, kind)


def kind_of(reference: ReferenceText, known: StepInfo, location: Location, path: str) -> str:
    """The kind of what a reference means; empty where it is unknown.

    Raises
    ------
    Wrong : for a part or picks that the step's kind doesn't have
    """
    name, part = reference.name, reference.part
    if not known.kind:
        return ""
    kind = known.kind
    if part and part in known.parts:
        kind = known.parts[part]
    elif part and known.parts:
        hint = nearest(part, known.parts)
        raise ConfigFault(location, path, f"{name!r} has no part {part!r}; it has {', '.join(known.parts)}{hint}")
    elif part and kind == "frame":
        kind = "value"  # a column of one row
    elif part and kind == "array":
        raise ConfigFault(location, path, f"{name!r} is an array, which has no parts; got {str(reference)!r}")
    elif part:
        raise ConfigFault(location, path, f"{name!r} declares no parts; name them there: parts: [{part}]")
    positions = [p for p in reference.picks if p.key is not None and p.key not in known.copies.keys]
    if positions and kind != "array" and kind != "parts":
        keys = f"; its matrix keys are {', '.join(known.copies.keys)}" if known.copies.keys else ""
        raise ConfigFault(location, path, f"{name!r} is {one(kind)}, which has no dim {positions[0].key!r}{keys}")
    if kind == "parts":
        parts = ", ".join(known.parts)
        raise ConfigFault(
            location, path, f"{name!r} has the parts {parts}; name one: {name}.{next(iter(known.parts), '…')}"
        )
    return kind


_CURES = {
    ("items", "frame"): "{{op: to_frame, input: {0}, columns: {{…: type}}}}",
    ("value", "frame"): "{{op: to_frame, input: {0}, columns: {{…: type}}}}",
    ("array", "frame"): "{{op: to_frame, input: {0}}}",
    ("items", "array"): "{{op: to_array, input: {0}, along: …, dims: […], shape: […], dtype: …}}",
    ("value", "array"): "{{op: to_array, input: {0}, dims: […], shape: […], dtype: …}}",
    ("frame", "array"): "{{op: to_array, input: {0}, dims: [row, feature]}}",
    ("array", "items"): "{{op: to_items, input: {0}, along: …}}",
    ("frame", "items"): "{{op: to_items, input: {0}, by: rows}}",
    ("value", "items"): "{{op: to_items, input: {0}}}",
}


def cure(got: str, allowed: tuple[str, ...], text: str) -> str:
    """``; make one: …`` for a value of another kind than is needed; empty where there is no conversion."""
    found = next((_CURES[got, kind] for kind in allowed if (got, kind) in _CURES), "")
    return f"; make one: {found.format(text)}" if found else ""
