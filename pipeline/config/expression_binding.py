"""Expressions of a file bound to what they refer to: the values of their ``${…}``, and the steps that they name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.config.expressions.expression import Expression, bind
from pipeline.config.expressions.references import ExpressionError, ReferenceText
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import Placeholder, Scope, interpolate, placeholder_value
from pipeline.config.model import Reference
from pipeline.config.secret_values import Secret
from pipeline.config.step_syntax import parse_expression
from pipeline.config.yaml_nodes import Node

__all__ = ["bind_expression", "is_true"]

_ONE_PLACEHOLDER = re.compile(r"\s*\$\{[^{}]*\}\s*")


def bind_expression(
    expression: Expression, node: Node, path: str, scope: Scope, named: Mapping[ReferenceText, Reference]
) -> Expression:
    """Return an expression with its ``${…}`` and its steps bound.

    Parameters
    ----------
    named : the steps that its names mean

    Raises
    ------
    ConfigFault : for an unknown name, or a value that can't be in an expression
    """
    values = {}
    for text in expression.placeholders:
        placeholder = Placeholder(text, expression.text_column(text))
        values[text] = placeholder_value(placeholder, node, path, scope, run=scope.resolve is not None)
    secret = next((text for text, value in values.items() if isinstance(value, Secret)), None)
    if secret is not None:
        raise ConfigFault(node.location, path, f'"${{{secret}}}": a secret can\'t be in an expression')
    try:
        return bind(expression, values, named)
    except ExpressionError as error:
        raise ConfigFault(node.location, path, str(error)) from None


def is_true(node: Node, path: str, scope: Scope) -> bool:
    """Return whether an expression of params and matrix keys is true.

    Raises
    ------
    ConfigFault : if it is neither true nor false, or uses anything else
    """
    if isinstance(node.value, bool):
        return node.value
    got: Any = None
    if isinstance(node.value, str) and _ONE_PLACEHOLDER.fullmatch(node.value):
        got = interpolate(node, path, scope)
    elif isinstance(node.value, str):
        expression = parse_expression(node.value, "columns", node, path)
        if expression.names:
            name = sorted(expression.names)[0]
            message = f"got the name {name!r}; params and matrix keys are written ${{{name}}}"
            raise ConfigFault(node.location, path, message)
        constant = bind_expression(expression, node, path, scope, {}).constant
        got = constant.value if constant is not None else None
    if not isinstance(got, bool):
        raise ConfigFault(node.location, path, f"got {node.shown}; write something that is true or false: ${{n}} > 1")
    return got
