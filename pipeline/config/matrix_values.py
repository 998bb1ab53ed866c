"""The values that a file lists: those of ``matrix`` with their labels, of ``over``, of ``exclude``."""

from __future__ import annotations

from typing import Any

from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Params, Scope, interpolate
from pipeline.config.scalars import forbidden_in_label, is_name, label, name_error, prints_differently
from pipeline.config.secret_values import Secret
from pipeline.config.yaml_nodes import Node

__all__ = ["exclusions", "keys_of_all_maps", "listed_values", "matrix_by_label", "over_keys"]

MOST_VALUES = 1_000_000


def listed_values(node: Node, path: str, scope: Scope, *, most: int = MOST_VALUES) -> list[Any]:
    """Return the values of a key: a list, ``{range: …}``, or a ``${…}`` that is one of them.

    Raises
    ------
    ConfigFault : if it is something else, or has more than ``most`` values
    """
    got = interpolate(node, path, scope)
    if isinstance(got, dict) and set(got) == {"range"}:
        got = _range(got["range"], node, path, most)
    if not isinstance(got, list):
        message = f"got {node.shown}; values are a list, {{range: n}}, or a ${{…}} that is a list"
        raise ConfigFault(node.location, path, message)
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


def matrix_by_label(
    node: Node | None, path: str, params: Params, steps: frozenset[str], warnings: list[str]
) -> dict[str, dict[str, Any]]:
    """Return the values of a step's own matrix keys, each by its label.

    Raises
    ------
    ConfigFault : for a key that can't be a name, or is the name of something else; for a value that can't be a label
    """
    if node is None:
        return {}
    if not node.is_map:
        raise ConfigFault(node.location, path, f"got {node.shown}; write a map: {{key: [values]}}")
    found: dict[str, dict[str, Any]] = {}
    for key, inner in node.value.items():
        if message := name_error(key):
            raise ConfigFault(node.keys[key], f"{path}.{key}", message)
        if key in params or key in steps:
            message = f"a {'param' if key in params else 'step'} is named {key!r}, too; names are shared"
            raise ConfigFault(node.keys[key], f"{path}.{key}", message)
        found[key] = _by_label(inner, f"{path}.{key}", Scope(params), warnings)
    return found


def _by_label(node: Node, path: str, scope: Scope, warnings: list[str]) -> dict[str, Any]:
    got = listed_values(node, path, scope, most=10_000)
    if not got:
        raise ConfigFault(node.location, path, "got no values; for a step without instances write when: false")
    found: dict[str, Any] = {}
    for i, value in enumerate(got):
        item = node.value[i] if node.is_list else node
        if isinstance(value, list | dict):
            message = "got a list or a map as a value; a matrix takes scalars, which become labels"
            raise ConfigFault(item.location, path, message)
        if isinstance(value, Secret):
            cure = 'list names, and use them in args: {token: "${secret:TOKEN_${who}}"}'
            message = f"got a secret, {item.shown}; labels are parts of names, which everyone sees; {cure}"
            raise ConfigFault(item.location, path, message)
        text = label(value)
        if characters := forbidden_in_label(text):
            message = f"the label {text!r} contains {characters!r}, which a label can't contain"
            raise ConfigFault(item.location, path, message)
        if text in found:
            raise ConfigFault(item.location, path, f"the label {text!r} is listed twice")
        if item.plain and prints_differently(item.text, value):
            number = f"{item.text} is the number {text}, which is the label"
            warnings.append(f'{item.location}: {path}: {number}; for the text write "{item.text}"')
        found[text] = value
    return found


def exclusions(node: Node | None, path: str, params: Params) -> list[dict[str, Any]]:
    """Return the combinations of matrix keys that a step leaves out.

    Raises
    ------
    ConfigFault : if it is no list of maps
    """
    if node is None:
        return []
    got = interpolate(node, path, Scope(params))
    if not isinstance(got, list) or not all(isinstance(one, dict) and one for one in got):
        raise ConfigFault(node.location, path, f"got {node.shown}; write a list of maps: [{{key: value}}]")
    return got


def over_keys(node: Node | None, path: str, faults: FaultCollector) -> frozenset[str]:
    """Return the keys of an ``over`` that is a map; a key that can't be a name is noted."""
    if node is None or not node.is_map:
        return frozenset()
    for key in node.value:
        if message := name_error(key):
            faults.add(node.keys[key], f"{path}.{key}", message)
    return frozenset(node.value)


def keys_of_all_maps(node: Node | None, path: str, params: Params) -> frozenset[str]:
    """Return the keys that all maps of an ``over`` have that is a list of maps; its errors are reported elsewhere."""
    if node is None or node.is_map:
        return frozenset()
    try:
        maps = listed_values(node, path, Scope(params))
    except ConfigFault:
        return frozenset()
    if not maps or not all(isinstance(one, dict) for one in maps):
        return frozenset()
    return frozenset(key for key in set.intersection(*map(set, maps)) if is_name(key))
