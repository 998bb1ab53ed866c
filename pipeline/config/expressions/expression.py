"""The expression language: a text becomes a checked tree, before any data is known.

Python's own parser builds the tree, and a whitelist turns it into our nodes: what is not on it is refused, with the
cure named. Names, ``${…}``, references and strings are replaced by placeholders first, so that Python never sees
them: any name can be a column, a string has no prefixes, and columns of messages are those of the text as written.

Rejected: ``DataFrame.query`` (a hostile text runs shell commands), asteval (reads files), a parser of our own from
the ground up (precedence, chains and numbers would all have to be shown equal to Python's).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from pipeline.config.expressions.functions import (
    AGGREGATES,
    FUNCTIONS,
    Function,
    Parameter,
    Scope,
    arguments,
    evaluated,
    habit,
    moment,
)
from pipeline.config.expressions.parser import parse_tree
from pipeline.config.expressions.references import ExpressionError, PickText, ReferenceText, parse_reference
from pipeline.config.expressions.tree import (
    Binary,
    Boolean,
    Bound,
    Call,
    Compare,
    Constant,
    Membership,
    Name,
    Named,
    Node,
    Outside,
    Unary,
    bounded,
    children,
    constant_kind,
    folded,
    render,
    walk,
)

__all__ = [
    "AGGREGATES",
    "FUNCTIONS",
    "Binary",
    "Boolean",
    "Bound",
    "Call",
    "Compare",
    "Constant",
    "Expression",
    "ExpressionError",
    "Function",
    "Membership",
    "Name",
    "Named",
    "Node",
    "Outside",
    "Parameter",
    "PickText",
    "ReferenceText",
    "Scope",
    "Unary",
    "bind",
    "children",
    "habit",
    "parse",
    "parse_reference",
    "render",
    "walk",
]


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Parameters
    ----------
    text : as it was written
    scope : what its bare names are: steps (``arrays``), columns (``columns``, ``agg``) or coordinates (``coords``)
    root : the tree
    references : what the slots of :class:`Bound` nodes point at, put there by :func:`bind`
    """

    text: str = field(compare=False)
    scope: Scope
    root: Node
    references: tuple[Any, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The columns, or the coordinates, it uses."""
        return frozenset(node.name for node in walk(self.root) if isinstance(node, Name))

    @property
    def outside(self) -> tuple[str, ...]:
        """The texts of the ``${…}`` that are not bound yet, in order, without repeats."""
        return tuple(dict.fromkeys(node.text for node in walk(self.root) if isinstance(node, Outside)))

    @property
    def named(self) -> tuple[ReferenceText, ...]:
        """The references to steps that are not bound yet, in order, without repeats."""
        return tuple(dict.fromkeys(node.reference for node in walk(self.root) if isinstance(node, Named)))

    @property
    def constant(self) -> Constant | None:
        """The whole, where it is known already: ``${smooth} > 1`` after :func:`bind`."""
        return self.root if isinstance(self.root, Constant) else None

    def columns_at(self, name: str) -> int:
        """Where the name, ``${name}`` or the reference stands first, from 1; 0 if it does not occur."""
        for node in walk(self.root):
            match node:
                case Name(found, column) | Outside(found, column) if found == name:
                    return column
                case Named(reference, column) if name in (str(reference), reference.name):
                    return column
        return 0

    def __str__(self) -> str:
        return self.text


def parse(text: str, scope: Scope) -> Expression:
    """Parse and check an expression.

    Raises
    ------
    ExpressionError : with the column in ``text``, what was got, and what to write

    >>> parse("a > 1 and b in ['x', 'y']", "columns").names == {"a", "b"}
    True
    """
    return Expression(text, scope, parse_tree(text, scope))


def bind(
    expression: Expression, outside: Mapping[str, Any], named: Mapping[ReferenceText, Any] | None = None
) -> Expression:
    """Put values and references in the places of ``${…}`` and of steps.

    Parameters
    ----------
    outside : text between the braces -> a constant (bool int float str date datetime timedelta; a list of them behind
        ``in``), or any other object, which is a value from the run: it gets a slot in ``references``
    named : reference -> the same

    Texts that are not in the maps are left for a later bind. What is constant is folded.

    Raises
    ------
    ExpressionError : if a value does not fit its place
    """
    references = list(expression.references)

    def slot(value: Any) -> Bound:
        if value not in references:
            references.append(value)
        return Bound(references.index(value))

    def leaf(node: Node) -> Node:
        if isinstance(node, Named) and named is not None and node.reference in named:
            return _valued(named[node.reference], slot, node.column, str(node.reference))
        if isinstance(node, Outside) and node.text in outside:
            return _valued(outside[node.text], slot, node.column, f"${{{node.text}}}")
        return node

    def elements(node: Membership) -> Membership:
        only = node.constants[0] if node.listed else None
        if not isinstance(only, Outside) or only.text not in outside:
            constants = tuple(_element(leaf(x), node) for x in node.constants)
            return replace(node, constants=constants)
        value = outside[only.text]
        if isinstance(value, list | tuple):
            text = f"${{{only.text}}}"
            return replace(node, constants=tuple(_valued(v, slot, only.column, text) for v in value), listed=False)
        if _is_constant(value):
            raise ExpressionError(f"${{{only.text}}} is {value!r}; after 'in' stands a list: [1, 2]", only.column)
        return replace(node, constants=(slot(value),))

    def rebuilt(node: Node) -> Node:
        match node:
            case Unary(op, operand):
                return folded(Unary(op, rebuilt(operand)))
            case Binary(op, left, right):
                return folded(Binary(op, rebuilt(left), rebuilt(right)))
            case Compare(first, ops, rest):
                return folded(Compare(rebuilt(first), ops, tuple(map(rebuilt, rest))))
            case Boolean(op, operands):
                return folded(Boolean(op, tuple(map(rebuilt, operands))))
            case Membership():
                return folded(replace(elements(node), operand=rebuilt(node.operand)))
            case Call(function, args, keywords, column):
                given = tuple((name, rebuilt(x)) for name, x in keywords)
                return evaluated(arguments(Call(function, tuple(map(rebuilt, args)), given, column)))
        return leaf(node)

    return replace(expression, root=rebuilt(expression.root), references=tuple(references))


def _is_constant(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | date | datetime | timedelta | list | dict)


def _valued(value: Any, slot: Callable[[Any], Bound], column: int, text: str) -> Node:
    """The node for a value that takes the place of ``text``."""
    if not _is_constant(value) and not isinstance(value, tuple):
        return slot(value)
    if isinstance(value, list | tuple):
        raise ExpressionError(f"{text} is a list; a list stands only behind 'in'", column)
    if isinstance(value, dict):
        raise ExpressionError(f"{text} is a map; pick one of its values: ${{name.key}}", column)
    try:
        constant_kind(value)
        return Constant(moment(value) if isinstance(value, date) else bounded(value))
    except ExpressionError as error:
        raise ExpressionError(f"{text}: {error.message}", column) from None


def _element(node: Node, membership: Membership) -> Node:
    """An element of a list behind ``in``; the list as a whole may be bound to a value from the run."""
    if not isinstance(node, Constant | Outside | Bound):
        raise ExpressionError(f"got {render(node)} behind 'in', where constants stand: [1, 2]")
    return node
