"""The section ``checks``: what must hold of the results."""

from __future__ import annotations

from typing import Any

from pipeline.config.absolute_paths import absolute_path
from pipeline.config.expression_binding import bind_expression
from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.references import ExpressionError, ReferenceText, parse_reference
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import Scope
from pipeline.config.matrix import resolve_reference
from pipeline.config.model import Check
from pipeline.config.sections.keys import CheckKeys
from pipeline.config.sections.step_references import bind_reference, instances_of_references, kind_of
from pipeline.config.sections.validation import read
from pipeline.config.step_context import Context
from pipeline.config.step_syntax import parse_expression
from pipeline.config.yaml_nodes import Node

__all__ = ["checks"]


def checks(node: Node | None, context: Context) -> tuple[Check, ...]:
    """Return the checks, one for each combination of the matrix keys of what they check."""
    made: list[Check] = []
    if node is None or node.is_empty:
        return ()
    if not node.is_list:
        raise ConfigFault(node.location, "checks", f"got {node.shown}; write a list: [{{that: …, rows: '>= 1'}}]")
    for i, inner in enumerate(node.value):
        with context.faults.caught():
            made += _instances(inner, f"checks[{i}]", context)
    return tuple(made)


def _instances(node: Node, path: str, context: Context) -> list[Check]:
    if not node.is_map:
        message = f"got {node.shown}; a check is a map with that: {{that: …, rows: '>= 1'}}"
        raise ConfigFault(node.location, path, message)
    keys = read(CheckKeys, node, path, Scope(context.params), context.faults)
    if keys is None:
        return []
    that, at = keys.that, f"{path}.that"
    options = None
    with context.faults.caught():
        options = _options(keys, node, path)
    if not isinstance(that.value, str):
        raise ConfigFault(that.location, at, f"got {that.shown}; write a step, or an expression in quotes")
    texts, expression = _parse_that(that, at)
    n_faults = len(context.faults)
    for text in texts:
        with context.faults.caught():
            bind_reference(text, that, at, context)
            kind_of(text, that, at, context)
    if len(context.faults) > n_faults or options is None:
        return []
    references = [bind_reference(text, that, at, context) for text in texts]
    kinds = [kind_of(text, that, at, context) for text in texts]
    if {"rows", "columns"} & set(options) and (expression is not None or kinds[0] not in ("frame", "")):
        raise ConfigFault(that.location, at, f"got {that.shown}; rows and columns are checked of a frame")
    instances = instances_of_references("", references, node.location, path)
    made = []
    for labels in instances.names:
        matrix = instances.matrix(labels)
        given = {text: resolve_reference(one, matrix) for text, one in zip(texts, references, strict=True)}
        if any(reference.gathered for reference in given.values()):
            message = f"got {that.shown}; a check is of one instance: gather in a step"
            raise ConfigFault(that.location, at, message)
        checked: Any = next(iter(given.values()), None)
        if expression is not None:
            scope = context.scope(None, matrix, is_sure=instances.valid)
            checked = bind_expression(expression, that, at, scope, given)
        made.append(Check(checked, that.value, location=node.location, **options))
    return made


def _parse_that(node: Node, path: str) -> tuple[list[ReferenceText], Expression | None]:
    """Return the references of ``that``, and the expression if it is more than one reference alone."""
    try:
        return [parse_reference(node.value)], None
    except ExpressionError:
        expression = parse_expression(node.value, "arrays", node, path)
        return list(expression.step_references), expression


_COMPARED_BY = {"abs": ("approx",), "rel": ("approx", "equals_csv"), "sep": ("equals_csv",)}


def _options(keys: CheckKeys, node: Node, path: str) -> dict[str, Any]:
    """Return the keys but ``that``, after a check of those that need another key or exclude it."""
    got = {key: getattr(keys, key) for key in node.value if key != "that"}

    def fault(key: str, message: str) -> ConfigFault:
        return ConfigFault(node.value[key].location, f"{path}.{key}", f"got {node.value[key].shown}; {message}")

    if "approx" in got and not {"abs", "rel"} & set(got):
        raise fault("approx", "give a tolerance: abs or rel")
    for key, partners in _COMPARED_BY.items():
        if key in got and not set(partners) & set(got):
            raise fault(key, f"it goes with {' or '.join(partners)}, which is not here")
    kinds = [key for key in ("approx", "equals_csv", "rows", "columns") if key in got]
    if len(kinds) > 1 and set(kinds) != {"rows", "columns"}:
        raise fault(kinds[1], f"not together with {kinds[0]}; write two checks")
    if isinstance(keys.rows, int):
        got["rows"] = f"== {keys.rows}"
    if "equals_csv" in got:
        got["equals_csv"] = absolute_path(got["equals_csv"], node.value["equals_csv"].folder)
    return got
