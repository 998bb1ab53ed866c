"""The keys that only a call has: its arguments, parts and seed; and ``over``, which a command may have, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import Scope, interpolate
from pipeline.config.matrix_values import listed_values
from pipeline.config.model import Over, Reference
from pipeline.config.secret_values import holds_secret
from pipeline.config.sections.keys import CallKeys
from pipeline.config.step_context import InstanceReader
from pipeline.config.step_syntax import existing_step, parse_bare_reference
from pipeline.config.yaml_nodes import Node

__all__ = ["call_fields", "read_over"]

_MOST_CALLS = 1_000_000


def call_fields(reader: InstanceReader) -> dict[str, Any]:
    """Return the fields of :class:`pipeline.config.model.Step` that only a call has; errors are noted."""
    faults = reader.context.faults
    args: dict[str, Any] = {}
    node = reader.node.value.get("args")
    if node is not None and not node.is_map:
        faults.add(node.location, f"{reader.path}.args", f"got {node.shown}; write a map: {{name: value}}")
    elif node is not None:
        for key, value in node.value.items():
            path = f"{reader.path}.args.{key}"
            if not key.isidentifier():
                faults.add(node.keys[key], path, f"{key!r} can't be a keyword argument")
            with faults.caught():
                args[key] = interpolate(value, path, reader.scope, run=True)
    over = None
    with faults.caught():
        over = read_over(reader)
    item_keys = set(reader.parsed.over)
    if over is not None and isinstance(over.maps, tuple):
        item_keys |= {name for one in over.maps for name in one}
    for key in args:
        if key in item_keys:
            place = reader.node.at("args").keys[key]
            faults.add(place, f"{reader.path}.args.{key}", f"{key!r} is a key of over already")
    keys = reader.keys(CallKeys)
    return {
        "args": args,
        "over": over,
        "batch": None if keys.batch == "auto" else keys.batch,
        "parts": tuple(keys.parts),
        "seed": keys.seed,
    }


def read_over(reader: InstanceReader) -> Over | None:
    """Return what an instance is mapped over; None if it is not.

    Raises
    ------
    ConfigFault : for a value that over does not take, or one that makes too many items
    """
    node = reader.node.value.get("over")
    if node is None:
        return None
    path = f"{reader.path}.over"
    if not node.is_map:
        maps = _values(reader, node, path)
        if not isinstance(maps, Reference) and not all(isinstance(one, dict) for one in maps):
            message = f"got {node.shown}; write {{name: values}}, a list of maps, or a step"
            raise ConfigFault(node.location, path, message)
        return Over(maps=maps)
    if not node.value:
        raise ConfigFault(node.location, path, "got an empty map; write {name: values}")
    axes = tuple((key, _values(reader, value, f"{path}.{key}")) for key, value in node.value.items())
    n = 1
    for _, values in axes:
        n *= 1 if isinstance(values, Reference) else len(values)
    if n > _MOST_CALLS:
        raise ConfigFault(node.location, path, f"makes {n:,} calls; at most {_MOST_CALLS:,}")
    return Over(axes=axes)


def _values(reader: InstanceReader, node: Node, path: str) -> Any:
    """Return the values of one key of ``over``, or a reference to them."""
    scope = reader.scope
    if isinstance(node.value, str) and "${" not in node.value:
        text = parse_bare_reference(node, path)
        return reader.resolve(existing_step(text, node, path, reader.context.steps, "over"))
    if isinstance(node.value, str):
        outer = replace(scope, over=frozenset())
        got = interpolate(node, path, outer, run=True)
        if isinstance(got, Reference):
            if got.gathered:
                raise ConfigFault(node.location, path, f"got {node.shown}; over takes one instance, not all")
            return got
        if not isinstance(got, list | dict):
            raise ConfigFault(node.location, path, f"got {node.shown}; values are a list, {{range: n}}, or items")
    values = tuple(listed_values(node, path, Scope(scope.params, scope.matrix, unsure=scope.unsure)))
    if holds_secret(list(values)):
        cure = 'give it to each call: args: {token: "${secret:…}"}'
        message = f"got a secret among {node.shown}; values of over become names of items and of files; {cure}"
        raise ConfigFault(node.location, path, message)
    return values
