"""The parameters of an op: filled, their expressions parsed and bound, checked against the op's signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.absolute_paths import located
from pipeline.config.expression_binding import bound
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Scope, fill
from pipeline.config.sections.validation import validated
from pipeline.config.signatures import ExpressionIn, Signature
from pipeline.config.step_syntax import ParsedStep, expression, inner_leftovers
from pipeline.config.yaml_nodes import Node

__all__ = ["parameters", "shapes"]


def parameters(signature: type[Signature], draft: ParsedStep, scope: Scope, faults: FaultCollector) -> Signature | None:
    """The op's parameters in one copy; None if one of them is at fault, which is noted."""
    given: dict[str, Any] = {}
    before = len(faults)
    marks = signature.expression_fields()
    for name in signature.model_fields:
        node = draft.node.value.get(name)
        if node is None:
            continue
        path = f"{draft.path}.{name}"
        if inner_leftovers(node, draft.node.keys[name], path, faults):
            continue
        told = len(faults)
        with faults.caught():
            if name in marks and (node.is_map or name not in signature.map_fields()):
                several = name in signature.map_fields()
                given[name] = _expressions(node, path, marks[name], scope, faults, several=several)
            else:
                given[name] = fill(node, path, scope, run=name == "args" and bool(signature.inputs))
        if len(faults) > told:
            given.pop(name, None)
    if "path" in given and signature.group == "sources":
        given["path"] = _paths(given["path"], draft.node.value["path"])
    owner = f"op {signature.op!r}"
    made = validated(signature, given, draft.node, draft.path, faults, place=draft.location, owner=owner)
    return made if len(faults) == before else None


def shapes(given: Signature, draft: ParsedStep, kinds: Mapping[str, str], faults: FaultCollector) -> None:
    """Note what of the parameters does not fit the kinds of the inputs, or each other."""
    for name, message in given.misfits(kinds):
        node = draft.node.value.get(name) if name else None
        place = node.location if node is not None else draft.location
        faults.add(place, f"{draft.path}.{name}" if name else draft.path, message)


def _expressions(
    node: Node, path: str, mark: ExpressionIn, scope: Scope, faults: FaultCollector, *, several: bool = False
) -> Any:
    if several and node.is_map:
        found = {}
        for key, inner in node.value.items():
            with faults.caught():
                found[key] = _expressions(inner, f"{path}.{key}", mark, scope, faults)
        return found
    if node.is_map or node.is_list or node.value is None:
        raise ConfigFault(node.location, path, f"got {node.said}; write an expression")
    text = str(node.value) if isinstance(node.value, bool) else node.text  # true is True in an expression
    return bound(expression(text, mark.scope, node, path), node, path, scope, {})


def _paths(given: Any, node: Node) -> Any:
    if isinstance(given, str):
        return located(given, node.folder) if given else given
    return [_paths(p, node) for p in given] if isinstance(given, list) else given
