"""The parameters of an op: interpolated, their expressions parsed and bound, validated against the op's signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.absolute_paths import absolute_path
from pipeline.config.expression_binding import bind_expression
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Scope, interpolate
from pipeline.config.sections.validation import validated
from pipeline.config.signatures import ExpressionIn, Signature
from pipeline.config.step_syntax import ParsedStep, note_comma_leftovers, parse_expression
from pipeline.config.yaml_nodes import Node

__all__ = ["check_kinds", "read_parameters"]


def read_parameters(
    signature: type[Signature], parsed: ParsedStep, scope: Scope, faults: FaultCollector
) -> Signature | None:
    """Return the op's parameters in one instance; None if one has an error, which is noted."""
    given: dict[str, Any] = {}
    n_faults = len(faults)
    marks = signature.expression_fields()
    for name in signature.model_fields:
        node = parsed.node.value.get(name)
        if node is None:
            continue
        path = f"{parsed.path}.{name}"
        if note_comma_leftovers(node, parsed.node.keys[name], path, faults):
            continue
        n_before = len(faults)
        with faults.caught():
            in_map = name in signature.maps_of_expressions()
            if name in marks and (node.is_map or not in_map):
                given[name] = _expressions(node, path, marks[name], scope, faults, in_map=in_map)
            else:
                given[name] = interpolate(node, path, scope, run=name == "args" and bool(signature.inputs))
        if len(faults) > n_before:
            given.pop(name, None)
    for name in signature.paths():
        if name in given:
            given[name] = _absolute_paths(given[name], parsed.node.value[name])
    owner = f"op {signature.op!r}"
    made = validated(signature, given, parsed.node, parsed.path, faults, place=parsed.location, owner=owner)
    return made if len(faults) == n_faults else None


def check_kinds(given: Signature, parsed: ParsedStep, kinds: Mapping[str, str], faults: FaultCollector) -> None:
    """Note the parameters that do not fit the kinds of the inputs, or each other."""
    for name, message in given.misfits(kinds):
        node = parsed.node.value.get(name) if name else None
        place = node.location if node is not None else parsed.location
        faults.add(place, f"{parsed.path}.{name}" if name else parsed.path, message)


def _expressions(
    node: Node, path: str, mark: ExpressionIn, scope: Scope, faults: FaultCollector, *, in_map: bool = False
) -> Any:
    if in_map and node.is_map:
        found = {}
        for key, inner in node.value.items():
            with faults.caught():
                found[key] = _expressions(inner, f"{path}.{key}", mark, scope, faults)
        return found
    if node.is_map or node.is_list or node.value is None:
        raise ConfigFault(node.location, path, f"got {node.shown}; write an expression")
    text = str(node.value) if isinstance(node.value, bool) else node.text  # true is True in an expression
    return bind_expression(parse_expression(text, mark.scope, node, path), node, path, scope, {})


def _absolute_paths(given: Any, node: Node) -> Any:
    if isinstance(given, str):
        return absolute_path(given, node.folder) if given else given
    return [_absolute_paths(one, node) for one in given] if isinstance(given, list) else given
