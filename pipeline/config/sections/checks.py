"""The checks of a file: what must hold of its results."""

from __future__ import annotations

from typing import Any

from pipeline.config.absolute_paths import located
from pipeline.config.expression_binding import bound
from pipeline.config.expressions.expression import parse
from pipeline.config.expressions.references import ExpressionError, ReferenceText, parse_reference
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import Scope
from pipeline.config.matrix import expanded, following, referred
from pipeline.config.model import Check
from pipeline.config.sections.keys import CheckKeys
from pipeline.config.sections.outside_references import always, kind, use
from pipeline.config.sections.validation import read
from pipeline.config.step_context import Context
from pipeline.config.yaml_nodes import Node

__all__ = ["checks"]


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
    keys = read(CheckKeys, node, path, Scope(context.params), context.faults)
    if keys is None:
        return []
    that = keys.that
    if not isinstance(that.value, str):
        raise ConfigFault(that.location, f"{path}.that", f"got {that.said}; write a step, or an expression in quotes")
    at = f"{path}.that"
    texts, parsed = _that(that, at)
    uses = [use(text, that, at, context) for text in texts]
    kinds = [kind(text, that, at, context) for text in texts]
    options = _options(keys, node, path)
    if {"rows", "columns"} & set(options) and (parsed is not None or kinds[0] not in ("frame", "")):
        raise ConfigFault(that.location, at, f"got {that.said}; rows and columns are checked of a frame")
    matrix_keys = following({}, uses, at=node.location, path=path)
    copies = expanded("", matrix_keys, uses, excluded=(), when=always, at=node.location)
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


_COMPARED_BY = {"abs": ("approx",), "rel": ("approx", "equals_csv"), "sep": ("equals_csv",)}


def _options(keys: CheckKeys, node: Node, path: str) -> dict[str, Any]:
    """Return the keys but ``that``, after a check of those that need another key or exclude it."""
    got = {key: getattr(keys, key) for key in node.value if key != "that"}

    def wrong(key: str, message: str) -> ConfigFault:
        return ConfigFault(node.value[key].location, f"{path}.{key}", f"got {node.value[key].said}; {message}")

    if "approx" in got and not {"abs", "rel"} & set(got):
        raise wrong("approx", "give a tolerance: abs or rel")
    for key, partners in _COMPARED_BY.items():
        if key in got and not set(partners) & set(got):
            raise wrong(key, f"it goes with {' or '.join(partners)}, which is not here")
    kinds = [key for key in ("approx", "equals_csv", "rows", "columns") if key in got]
    if len(kinds) > 1 and set(kinds) != {"rows", "columns"}:
        raise wrong(kinds[1], f"not together with {kinds[0]}; write two checks")
    if isinstance(keys.rows, int):
        got["rows"] = f"== {keys.rows}"
    if "equals_csv" in got:
        got["equals_csv"] = located(got["equals_csv"], node.value["equals_csv"].folder)
    return got
