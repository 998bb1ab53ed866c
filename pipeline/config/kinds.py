"""The kinds of values that steps give: array, frame, items, value, parts; and which op makes one kind of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.config.expressions.references import ReferenceText
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.matrix import Instances
from pipeline.errors import Location, nearest

__all__ = ["StepInfo", "conversion_hint", "reference_kind", "with_article"]


@dataclass(frozen=True)
class StepInfo:
    """What other steps need to know of a step that they refer to.

    Parameters
    ----------
    kind : array, frame, items, value, parts; empty: unknown, since the step has an error
    parts : the kinds of its parts
    droppable : items of it may be left out, by ``on_error: drop``
    """

    instances: Instances
    kind: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    droppable: bool = False


def with_article(kind: str) -> str:
    """Return the kind with its article: ``an array``."""
    return {"array": "an array", "frame": "a frame", "items": "items", "value": "a value"}.get(kind, kind)


def reference_kind(reference: ReferenceText, info: StepInfo, location: Location, path: str) -> str:
    """Return the kind of value that a reference means; empty where it is unknown.

    Raises
    ------
    ConfigFault : for a part or picks that the step's kind doesn't have
    """
    name, part = reference.name, reference.part
    if not info.kind:
        return ""
    kind = info.kind
    first, _, inner = part.partition(".")
    if part and first in info.parts:
        kind = info.parts[first]
        if inner:
            kind = _kind_of_part(kind, f"{name}.{first}", reference, location, path)
    elif part and info.parts:
        hint = nearest(first, info.parts)
        raise ConfigFault(location, path, f"{name!r} has no part {first!r}; it has {', '.join(info.parts)}{hint}")
    elif part and kind in ("frame", "array"):
        kind = _kind_of_part(kind, name, reference, location, path)
    elif part:
        raise ConfigFault(location, path, f"{name!r} declares no parts; name them there: parts: [{first}]")
    keys = info.instances.keys
    positions = [p for p in reference.picks if p.key is not None and p.key not in keys]
    if positions and kind != "array" and kind != "parts":
        hint = f"; its matrix keys are {', '.join(keys)}" if keys else ""
        message = f"{name!r} is {with_article(kind)}, which has no dim {positions[0].key!r}{hint}"
        raise ConfigFault(location, path, message)
    if kind == "parts":
        first = next(iter(info.parts), "…")
        raise ConfigFault(location, path, f"{name!r} has the parts {', '.join(info.parts)}; name one: {name}.{first}")
    return kind


def _kind_of_part(kind: str, owner: str, reference: ReferenceText, location: Location, path: str) -> str:
    """Return the kind of a part of a value that declares none: of a frame a column of one row, else of a map."""
    if kind == "array":
        raise ConfigFault(location, path, f"{owner!r} is an array, which has no parts; got {str(reference)!r}")
    return "value" if kind == "frame" else kind


_CONVERSIONS = {
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


def conversion_hint(got: str, allowed: tuple[str, ...], text: str) -> str:
    """Return ``; make one: …`` for a value of another kind than is needed; empty where there is no conversion."""
    found = next((_CONVERSIONS[got, kind] for kind in allowed if (got, kind) in _CONVERSIONS), "")
    return f"; make one: {found.format(text)}" if found else ""
