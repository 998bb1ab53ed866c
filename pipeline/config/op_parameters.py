"""The parameters of an op: filled, their expressions parsed and bound, checked against the op's signature."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.config.expressions.expression import Expression, bind, parse
from pipeline.config.expressions.references import ExpressionError, ReferenceText
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Placeholder, Scope, fill, fill_hole
from pipeline.config.model import Reference, Secret
from pipeline.config.signatures import ExpressionIn, Signature
from pipeline.config.signatures.wording import wanted
from pipeline.config.step_syntax import ParsedStep, expression, inner_leftovers
from pipeline.config.yaml_nodes import Node
from pipeline.errors import nearest

__all__ = ["located", "parameters", "shapes"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


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
    try:
        made = signature.model_validate(given)
    except ValidationError as error:
        _note(error, signature, draft, set(given), faults)
        return None
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


def located(path: str, folder: str) -> str:
    """An input path as an absolute one; URLs stay."""
    return path if _URL.match(path) else os.path.normpath(os.path.join(folder, path))


def _paths(given: Any, node: Node) -> Any:
    if isinstance(given, str):
        return located(given, node.folder) if given else given
    return [_paths(p, node) for p in given] if isinstance(given, list) else given


# ---------------------------------------------------------------------------------------------------------------------
# pydantic's faults in our words
# ---------------------------------------------------------------------------------------------------------------------


def _note(
    error: ValidationError, signature: type[Signature], draft: ParsedStep, given: set[str], faults: FaultCollector
) -> None:
    for name, one in _one_each(error, draft).items():
        if one["type"] == "missing":
            if name not in draft.node.value:
                info = signature.model_fields[name]
                message = f"op {signature.op!r} needs {name}: {info.description or wanted(signature, name)}"
                faults.add(draft.location, draft.path, message)
            continue
        if name in given:
            _note_value(one, signature, name, draft, faults)


def _one_each(error: ValidationError, draft: ParsedStep) -> dict[str, Any]:
    """One fault a parameter: of the branches of a union the one that came deepest into what was written."""
    found: dict[str, Any] = {}
    deepest: dict[str, int] = {}
    for one in error.errors(include_url=False):
        name = str(one["loc"][0]) if one["loc"] else ""
        node = draft.node.at(name)
        depth = 0
        for part in one["loc"][1:]:
            inner = node.at(part)
            depth += inner is not node
            node = inner
        if name not in found or depth > deepest[name]:
            found[name], deepest[name] = one, depth
    return found


def _note_value(one: Any, signature: type[Signature], name: str, draft: ParsedStep, faults: FaultCollector) -> None:
    whole = draft.node.value[name]
    path, node = f"{draft.path}.{name}", whole
    for part in one["loc"][1:]:
        inner = node.at(part)
        if inner is not node:
            node = inner
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
    if one["type"] == "value_error":
        faults.add(node.location, path, str(one["ctx"]["error"]))
        return
    got = node.said
    if isinstance(node.value, str) and "${" in node.value:
        got += f", which is {reprlib.repr(one['input'])}"
    choices = _choices(one)
    hint = nearest(str(one["input"]), choices) if choices else ""
    faults.add(node.location, path, f"got {got}; {name} takes {wanted(signature, name)}{hint}")


def _choices(one: Any) -> list[str]:
    expected = one.get("ctx", {}).get("expected", "") if one["type"] == "literal_error" else ""
    return re.findall(r"'([^']*)'", expected)


__all__ = ["bound", "truth"]


def truth(node: Node, path: str, scope: Scope) -> bool:
    """Whether an expression of params and matrix keys is true.

    Raises
    ------
    Wrong : if it is neither true nor false, or uses anything else
    """
    if isinstance(node.value, bool):
        return node.value
    if isinstance(node.value, str) and re.fullmatch(r"\s*\$\{[^{}]*\}\s*", node.value):
        got: Any = fill(node, path, scope)
    else:
        expression = _parsed(node, path)
        if expression.names:
            name = sorted(expression.names)[0]
            raise ConfigFault(
                node.location, path, f"got the name {name!r}; params and matrix keys are written ${{{name}}}"
            )
        root = bound(expression, node, path, scope, {}).constant
        got = root.value if root is not None else None
    if not isinstance(got, bool):
        raise ConfigFault(node.location, path, f"got {node.said}; write something that is true or false: ${{n}} > 1")
    return got


def _parsed(node: Node, path: str) -> Expression:
    if not isinstance(node.value, str):
        raise ConfigFault(node.location, path, f"got {node.said}; write something that is true or false: ${{n}} > 1")
    try:
        return parse(node.value, "columns")
    except ExpressionError as error:
        raise ConfigFault(node.location, path, str(error)) from None


def bound(
    expression: Expression, node: Node, path: str, scope: Scope, named: Mapping[ReferenceText, Reference]
) -> Expression:
    """An expression with its ``${…}`` and its steps bound.

    Raises
    ------
    Wrong : for an unknown name, or a value that has no place in an expression
    """
    outside = {
        text: fill_hole(
            Placeholder(text, expression.text_column(text)), node, path, scope, run=scope.resolve is not None
        )
        for text in expression.placeholders
    }
    secret = next((text for text, value in outside.items() if isinstance(value, Secret)), None)
    if secret is not None:
        raise ConfigFault(node.location, path, f'"${{{secret}}}": a secret has no place in an expression')
    try:
        return bind(expression, outside, named)
    except ExpressionError as error:
        raise ConfigFault(node.location, path, str(error)) from None
