"""Expressions of a file with what they refer to bound: their ``${…}``, and the steps that they name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.config.expressions.expression import Expression, bind, parse
from pipeline.config.expressions.references import ExpressionError, ReferenceText
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import Placeholder, Scope, fill, fill_hole
from pipeline.config.model import Reference, Secret
from pipeline.config.yaml_nodes import Node

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
