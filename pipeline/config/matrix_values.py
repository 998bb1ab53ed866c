"""The values that a file lists: those of a matrix with their labels, of ``over``, of ``exclude``."""

from __future__ import annotations

from typing import Any

from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Params, Scope, fill
from pipeline.config.scalars import is_name, label, misprinted, no_name, unlabelled
from pipeline.config.yaml_nodes import Node

__all__ = ["excluded", "matrix", "over_names", "shared_keys", "values"]

MOST_VALUES = 1_000_000


def values(node: Node, path: str, scope: Scope, *, most: int = MOST_VALUES) -> list[Any]:
    """The values of a key: a list, ``{range: …}``, or a ``${…}`` that is one.

    Raises
    ------
    Wrong : if it is something else, or has more than ``most`` values
    """
    got = fill(node, path, scope)
    if isinstance(got, dict) and set(got) == {"range"}:
        got = _range(got["range"], node, path, most)
    if not isinstance(got, list):
        raise ConfigFault(
            node.location, path, f"got {node.said}; values are a list, {{range: n}}, or a ${{…}} that is a list"
        )
    if len(got) > most:
        raise ConfigFault(node.location, path, f"got {len(got):,} values; at most {most:,}")
    return got


def _range(given: Any, node: Node, path: str, most: int) -> list[int]:
    bounds = given if isinstance(given, list) else [given]
    if not 1 <= len(bounds) <= 3 or not all(type(b) is int for b in bounds) or (len(bounds) == 3 and not bounds[2]):
        raise ConfigFault(node.location, path, "range takes n, or [start, stop], or [start, stop, step]: whole numbers")
    numbers = range(*bounds)
    if max(numbers.stop - numbers.start, numbers.start - numbers.stop) // abs(numbers.step) > most:
        raise ConfigFault(node.location, path, f"range has more than {most:,} values")
    return list(numbers)


def matrix(
    node: Node | None, path: str, params: Params, steps: frozenset[str], warnings: list[str]
) -> dict[str, dict[str, Any]]:
    """The values of a step's own matrix keys, each by its label.

    Raises
    ------
    Wrong : for a key that is no name, or names something else; for a value that can't be a label
    """
    if node is None:
        return {}
    if not node.is_map:
        raise ConfigFault(node.location, path, f"got {node.said}; write a map: {{key: [values]}}")
    found: dict[str, dict[str, Any]] = {}
    for key, inner in node.value.items():
        here = node.keys[key], f"{path}.{key}"
        if said := no_name(key):
            raise ConfigFault(*here, said)
        if key in params or key in steps:
            raise ConfigFault(
                *here, f"a {'param' if key in params else 'step'} is named {key!r}, too; names are shared"
            )
        found[key] = _labelled(inner, f"{path}.{key}", Scope(params), warnings)
    return found


def _labelled(node: Node, path: str, scope: Scope, warnings: list[str]) -> dict[str, Any]:
    got = values(node, path, scope, most=10_000)
    if not got:
        raise ConfigFault(node.location, path, "got no values; a step without copies is written with when")
    found: dict[str, Any] = {}
    for i, value in enumerate(got):
        item = node.value[i] if node.is_list else node
        if isinstance(value, list | dict):
            raise ConfigFault(
                item.location, path, "got a list or a map as a value; a matrix holds scalars, which become labels"
            )
        text = label(value)
        if bad := unlabelled(text):
            raise ConfigFault(item.location, path, f"the label {text!r} holds {bad!r}, which a label can't")
        if text in found:
            raise ConfigFault(item.location, path, f"the label {text!r} stands twice")
        if item.plain and misprinted(item.text, value):
            warnings.append(
                f"{item.location}: {path}: {item.text} is the number {text}, which is the label; "
                f'for the text write "{item.text}"'
            )
        found[text] = value
    return found


def excluded(node: Node | None, path: str, params: Params) -> list[dict[str, Any]]:
    """The combinations of matrix keys that a step leaves out.

    Raises
    ------
    Wrong : if it is no list of maps
    """
    if node is None:
        return []
    got = fill(node, path, Scope(params))
    if not isinstance(got, list) or not all(isinstance(cut, dict) and cut for cut in got):
        raise ConfigFault(node.location, path, f"got {node.said}; write a list of maps: [{{key: value}}]")
    return got


def over_names(node: Node | None, path: str, faults: FaultCollector) -> frozenset[str]:
    """The keys of an ``over`` that is a map; what can't be a key is noted."""
    if node is None or not node.is_map:
        return frozenset()
    for key in node.value:
        if said := no_name(key):
            faults.add(node.keys[key], f"{path}.{key}", said)
    return frozenset(node.value)


def shared_keys(node: Node | None, path: str, params: Params) -> frozenset[str]:
    """The keys that all maps of an ``over`` have that is a list of maps; what is wrong with it is told elsewhere."""
    if node is None or node.is_map:
        return frozenset()
    try:
        maps = values(node, path, Scope(params))
    except ConfigFault:
        return frozenset()
    if not maps or not all(isinstance(one, dict) for one in maps):
        return frozenset()
    return frozenset(key for key in set.intersection(*map(set, maps)) if is_name(key))
