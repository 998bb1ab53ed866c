"""The part of a filter's condition that a source can apply while it reads.

It is a necessary condition: the filter decides, after the source, about each row that is read. So only what can't fail,
and compares columns with each other and with constants, is applied there: the parts of ``a > 1 and f(b) and c in [2]``
that have no function and no arithmetic.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.config.expressions.expression import Expression, bind
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import (
    Boolean,
    Compare,
    Constant,
    Membership,
    Name,
    Node,
    Placeholder,
    Unary,
    map_nodes,
    walk,
)

__all__ = ["any_of", "holds_missing", "is_comparison", "names_in", "scan_condition", "without_nan"]


def any_of(conditions: Sequence[Expression]) -> Expression:
    """Return the condition that is true where one of these is."""
    if len(conditions) == 1:
        return conditions[0]
    own = [_usable(condition.root) for condition in conditions]
    root = Constant(True) if None in own else Boolean("or", tuple(node for node in own if node is not None))
    return Expression(" or ".join(f"({condition.text})" for condition in conditions), conditions[0].scope, root)


def scan_condition(where: Expression, known: Mapping[str, Any], columns: Collection[str]) -> Node | bool:
    """Return what can be asked of a file's rows: True if nothing, False if no row of it can pass.

    Parameters
    ----------
    known : columns with one value in all rows of the file
    columns : those that can be compared while reading
    """
    kept = []
    for node in _conjuncts(where.root):
        node = _with_values(node, where, known)
        if node == Constant(False):
            return False
        if node != Constant(True) and is_comparison(node) and names_in(node) <= set(columns):
            kept.append(node)
    return _all_of(kept) or True


def holds_missing(condition: Node) -> bool:
    """Return whether missing values must be distinguished from false in it, as ``not`` does."""
    return any(isinstance(node, Unary) or (isinstance(node, Membership) and node.negated) for node in walk(condition))


def without_nan(condition: Node, floats: Collection[str]) -> Node | bool:
    """Return the part of a condition by which DuckDB leaves no row with NaN out that passes; True if nothing is left.

    The statistics of Parquet files know nothing of NaN, and DuckDB 2.0 trusts them: of ``not (x > 0)``, which NaN
    passes, it drops whole row groups. A plain comparison, or several joined by ``and`` and ``or``, NaN never passes.
    """
    kept = [node for node in _conjuncts(condition) if not names_in(node) & set(floats) or _is_plain(node)]
    return _all_of(kept) or True


def _is_plain(node: Node) -> bool:
    if isinstance(node, Boolean):
        return all(map(_is_plain, node.operands))
    if isinstance(node, Membership):
        return not node.negated
    return isinstance(node, Compare) and all(isinstance(one, Name | Constant) for one in walk(node) if one is not node)


def _usable(root: Node) -> Node | None:
    return _all_of([node for node in _conjuncts(root) if is_comparison(node)])


def _all_of(nodes: Sequence[Node]) -> Node | None:
    return Boolean("and", tuple(nodes)) if len(nodes) > 1 else next(iter(nodes), None)


def _conjuncts(node: Node) -> Iterator[Node]:
    if isinstance(node, Boolean) and node.op == "and":
        for operand in node.operands:
            yield from _conjuncts(operand)
    else:
        yield node


def is_comparison(node: Node) -> bool:
    """Return whether a condition only compares columns with each other and with constants, so that it can't fail."""
    plain = (Name, Constant, Compare, Boolean, Membership)
    return all(isinstance(x, plain) or (isinstance(x, Unary) and x.op == "not") for x in walk(node))


def names_in(node: Node) -> set[str]:
    """Return the columns that a condition names."""
    return {x.name for x in walk(node) if isinstance(x, Name)}


def _with_values(node: Node, where: Expression, known: Mapping[str, Any]) -> Node:
    """The node with the known columns as constants, folded; the node itself where that is not defined."""
    values = {name: value for name, value in known.items() if value is not None}
    if not values or not names_in(node) & set(values):
        return node
    placed = map_nodes(node, lambda x: Placeholder(x.name) if isinstance(x, Name) and x.name in values else None)
    try:
        return bind(replace(where, root=placed, references=()), values).root
    except ExpressionError:
        return node
