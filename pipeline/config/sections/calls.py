"""What is a call's own: its arguments, parts and seed; and ``over``, which a command may have, too."""

from __future__ import annotations

from typing import Any

from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import Scope, fill
from pipeline.config.matrix_values import values
from pipeline.config.model import Over, Reference
from pipeline.config.sections.keys import CallKeys
from pipeline.config.step_context import InstanceReader
from pipeline.config.step_syntax import looked_up
from pipeline.config.step_syntax import reference as bare_reference
from pipeline.config.yaml_nodes import Node

__all__ = ["call", "over"]

_MOST_CALLS = 1_000_000


def call(copy: InstanceReader) -> dict[str, Any]:
    """The fields of :class:`pipeline.config.model.Step` that only a call has; what is wrong is noted."""
    faults = copy.context.faults
    args: dict[str, Any] = {}
    node = copy.node.value.get("args")
    if node is not None and not node.is_map:
        faults.add(node.location, f"{copy.path}.args", f"got {node.said}; write a map: {{name: value}}")
    elif node is not None:
        for key, value in node.value.items():
            path = f"{copy.path}.args.{key}"
            if not key.isidentifier():
                faults.add(node.keys[key], path, f"{key!r} can't be a keyword argument")
            with faults.caught():
                args[key] = fill(value, path, copy.scope, run=True)
    mapped = None
    with faults.caught():
        mapped = over(copy)
    given = set(copy.draft.over)
    if mapped is not None and isinstance(mapped.maps, tuple):
        given |= {name for one in mapped.maps for name in one}
    for key in (key for key in args if key in given):
        place = copy.node.at("args").keys[key]
        faults.add(place, f"{copy.path}.args.{key}", f"{key!r} is a key of over already")
    keys = copy.keys(CallKeys)
    return {
        "args": args,
        "over": mapped,
        "batch": None if keys.batch == "auto" else keys.batch,
        "parts": tuple(keys.parts),
        "seed": keys.seed,
    }


def over(copy: InstanceReader) -> Over | None:
    """What a copy is mapped over; None: nothing.

    Raises
    ------
    Wrong : if it is no such thing, or makes too many items
    """
    node = copy.node.value.get("over")
    if node is None:
        return None
    path = f"{copy.path}.over"
    if not node.is_map:
        maps = _axis(copy, node, path)
        if not isinstance(maps, Reference) and not all(isinstance(m, dict) for m in maps):
            raise ConfigFault(
                node.location, path, f"got {node.said}; write {{name: values}}, a list of maps, or a step"
            )
        return Over(maps=maps)
    if not node.value:
        raise ConfigFault(node.location, path, "got an empty map; write {name: values}")
    axes = tuple((key, _axis(copy, value, f"{path}.{key}")) for key, value in node.value.items())
    n = 1
    for _, given in axes:
        n *= 1 if isinstance(given, Reference) else len(given)
    if n > _MOST_CALLS:
        raise ConfigFault(node.location, path, f"makes {n:,} calls; at most {_MOST_CALLS:,}")
    return Over(axes=axes)


def _axis(copy: InstanceReader, node: Node, path: str) -> Any:
    if isinstance(node.value, str) and "${" not in node.value:
        text = bare_reference(node, path)
        return copy.referred(looked_up(text, node, path, copy.context.steps, "over"))
    if isinstance(node.value, str):
        outer = Scope(copy.scope.params, copy.scope.matrix, frozenset(), copy.scope.steps, copy.scope.resolve)
        got = fill(node, path, outer, run=True)
        if isinstance(got, Reference):
            if got.gathered:
                raise ConfigFault(node.location, path, f"got {node.said}; over takes one copy, not all")
            return got
        if not isinstance(got, list | dict):
            raise ConfigFault(node.location, path, f"got {node.said}; values are a list, {{range: n}}, or items")
    return tuple(values(node, path, Scope(copy.scope.params, copy.scope.matrix)))
