"""The checks of a file: what must hold of its results."""

from __future__ import annotations

import re
from typing import Any

from pipeline.config.expressions.expression import parse
from pipeline.config.expressions.references import ExpressionError, ReferenceText, parse_reference
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import Scope, fill
from pipeline.config.matrix import expanded, following, referred
from pipeline.config.model import Check
from pipeline.config.op_parameters import bound, located
from pipeline.config.sections.outputs import always, kind, no_other_keys, use
from pipeline.config.signatures.base import is_type
from pipeline.config.step_context import Context
from pipeline.config.yaml_nodes import Node

__all__ = ["checks"]

_KEYS = ("that", "approx", "abs", "rel", "equals_csv", "sep", "rows", "columns")
_ROWS = re.compile(r"\s*(==|!=|>=|<=|>|<)\s*(\d+)\s*")


def checks(node: Node | None, context: Context) -> tuple[Check, ...]:
    """The checks, one for each combination of the matrix keys that they follow."""
    made: list[Check] = []
    if node is None or node.is_empty:
        return ()
    if not node.is_list:
        raise ConfigFault(node.location, "checks", f"got {node.said}; write a list: [{{that: …, rows: '>= 1'}}]")
    for i, inner in enumerate(node.value):
        with context.faults.caught():
            made += _check(inner, f"checks[{i}]", context)
    return tuple(made)


def _check(node: Node, path: str, context: Context) -> list[Check]:
    if not node.is_map:
        raise ConfigFault(
            node.location, path, f"got {node.said}; a check is a map with that: {{that: …, rows: '>= 1'}}"
        )
    no_other_keys(node, path, _KEYS, context.faults)
    if "that" not in node.value:
        raise ConfigFault(node.location, path, "needs that: a step, or an expression: {that: …, rows: '>= 1'}")
    that = node.value["that"]
    if not isinstance(that.value, str):
        raise ConfigFault(that.location, f"{path}.that", f"got {that.said}; write a step, or an expression in quotes")
    at = f"{path}.that"
    texts, parsed = _that(that, at)
    uses = [use(text, that, at, context) for text in texts]
    kinds = [kind(text, that, at, context) for text in texts]
    options = _check_options(node, path, context)
    if {"rows", "columns"} & set(options) and (parsed is not None or kinds[0] not in ("frame", "")):
        raise ConfigFault(that.location, at, f"got {that.said}; rows and columns are checked of a frame")
    keys = following({}, uses, at=node.location, path=path)
    copies = expanded("", keys, uses, excluded=(), when=always, at=node.location)
    made = []
    for labels in copies.names:
        matrix = copies.matrix(labels)
        given = {text: referred(meant, matrix) for text, meant in zip(texts, uses, strict=True)}
        if any(g.gathered for g in given.values()):
            raise ConfigFault(that.location, at, f"got {that.said}; a check is of one copy: gather in a step")
        what: Any = next(iter(given.values()), None)
        if parsed is not None:
            what = bound(parsed, that, at, context.scope(None, matrix), given)
        made.append(Check(what, that.value, location=node.location, **options))
    return made


def _that(node: Node, path: str) -> tuple[list[ReferenceText], Any]:
    """The references of ``that``, and the expression if it is more than one reference alone."""
    try:
        return [parse_reference(node.value)], None
    except ExpressionError:
        pass
    try:
        parsed = parse(node.value, "arrays")
    except ExpressionError as error:
        raise ConfigFault(node.location, path, str(error)) from None
    extra = []
    for text in parsed.placeholders:
        try:
            extra.append(parse_reference(text))
        except ExpressionError:
            continue
    return list(parsed.step_references), parsed


def _check_options(node: Node, path: str, context: Context) -> dict[str, Any]:
    scope = Scope(context.params)
    got = {key: fill(node.value[key], f"{path}.{key}", scope) for key in _KEYS if key in node.value and key != "that"}

    def wrong(key: str, said: str) -> ConfigFault:
        return ConfigFault(node.value[key].location, f"{path}.{key}", f"got {node.value[key].said}; {said}")

    for key in ("approx", "abs", "rel"):
        if key in got and (isinstance(got[key], bool) or not isinstance(got[key], int | float)):
            raise wrong(key, "write a number")
    if "approx" in got and not {"abs", "rel"} & set(got):
        raise wrong("approx", "say how near: abs or rel")
    for key, partners in (("abs", ("approx",)), ("rel", ("approx", "equals_csv")), ("sep", ("equals_csv",))):
        if key in got and not set(partners) & set(got):
            raise wrong(key, f"it says how {' or '.join(partners)} compares, which is not here")
    if type(got.get("rows")) is int:
        got["rows"] = f"== {got['rows']}"
    if "rows" in got and not (isinstance(got["rows"], str) and _ROWS.fullmatch(got["rows"])):
        raise wrong("rows", 'write a comparison: ">= 1"')
    for key in ("equals_csv", "sep"):
        if key in got and (not isinstance(got[key], str) or not got[key]):
            raise wrong(key, "write a text")
    if "equals_csv" in got:
        got["equals_csv"] = located(got["equals_csv"], node.value["equals_csv"].folder)
    if "columns" in got:
        columns = got["columns"]
        if not isinstance(columns, dict) or not all(isinstance(t, str) and is_type(t) for t in columns.values()):
            raise wrong("columns", "write a map of types: {name: float64}")
    kinds = [k for k in ("approx", "equals_csv", "rows", "columns") if k in got]
    if len(kinds) > 1 and set(kinds) != {"rows", "columns"}:
        raise wrong(kinds[1], f"stands beside {kinds[0]}; write two checks")
    return got
