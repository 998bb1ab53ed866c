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
    names: tuple[str, ...] = ()
    if node is not None and node.is_list and "over" in reader.node.value:
        with faults.caught():
            names = _names_of_lists(node, f"{reader.path}.args")
    elif node is not None and not node.is_map:
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
        over = read_over(reader, names)
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


def _names_of_lists(node: Node, path: str) -> tuple[str, ...]:
    """Return the names that ``args`` lists: those of the elements of each list of ``over``.

    Raises
    ------
    ConfigFault : if they are no names, or one is there twice
    """
    names = [one.value for one in node.value]
    if not names or not all(isinstance(name, str) and name.isidentifier() for name in names):
        message = f"got {node.shown}; write a map, {{name: value}}, or the names of the elements of over: [a, b]"
        raise ConfigFault(node.location, path, message)
    if len(set(names)) < len(names):
        raise ConfigFault(node.location, path, f"got {node.shown}; a name is there twice")
    return tuple(names)


def read_over(reader: InstanceReader, names: tuple[str, ...] = ()) -> Over | None:
    """Return what an instance is mapped over; None if it is not.

    Parameters
    ----------
    names : of the elements of lists, each of which has the arguments of one call (starmap); empty: there are no lists

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
        if isinstance(maps, Reference):
            return Over(maps=maps, names=names)
        if names:
            return Over(maps=_named(maps, names, node, path))
        if not all(isinstance(one, dict) for one in maps):
            lists = any(isinstance(one, list) for one in maps)
            cure = "name the elements of its lists: args: [a, b]" if lists and reader.parsed.kind == "call" else ""
            message = f"got {node.shown}; {cure or 'write {name: values}, a list of maps, or a step'}"
            raise ConfigFault(node.location, path, message)
        return Over(maps=maps)
    if names:
        message = f"got the names {', '.join(names)}; they are for lists: over: [[1, 2], [3, 4]]"
        raise ConfigFault(reader.node.at("args").location, f"{reader.path}.args", message)
    if not node.value:
        raise ConfigFault(node.location, path, "got an empty map; write {name: values}")
    axes = tuple((key, _values(reader, value, f"{path}.{key}")) for key, value in node.value.items())
    n = 1
    for _, values in axes:
        n *= 1 if isinstance(values, Reference) else len(values)
    if n > _MOST_CALLS:
        raise ConfigFault(node.location, path, f"makes {n:,} calls; at most {_MOST_CALLS:,}")
    return Over(axes=axes)


def _named(lists: tuple[Any, ...], names: tuple[str, ...], node: Node, path: str) -> tuple[dict[str, Any], ...]:
    """Return the lists as maps of keywords.

    Raises
    ------
    ConfigFault : for one that is no list, or of another length
    """
    for i, one in enumerate(lists):
        if not isinstance(one, list) or len(one) != len(names):
            place = node.value[i].location if node.is_list else node.location
            shown = node.value[i].shown if node.is_list else repr(one)
            message = f"got {shown}; with args: [{', '.join(names)}] each is a list of {len(names)}"
            raise ConfigFault(place, f"{path}[{i}]", message)
    return tuple(dict(zip(names, one, strict=True)) for one in lists)


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
