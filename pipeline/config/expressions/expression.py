"""Parsed expressions: ``parse`` checks a text before any data is read, ``bind`` puts values in for its placeholders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from pipeline.config.expressions.functions import Scope, bind_arguments, fold_time_literal
from pipeline.config.expressions.parser import parse_tree
from pipeline.config.expressions.references import ExpressionError, ReferenceText
from pipeline.config.expressions.time_literals import parse_time
from pipeline.config.expressions.tree import (
    Binary,
    Boolean,
    BoundValue,
    Call,
    Compare,
    Constant,
    Membership,
    Name,
    Node,
    Placeholder,
    StepReference,
    Unary,
    check_size,
    constant_kind,
    fold,
    render,
    walk,
)

__all__ = ["Expression", "bind", "parse"]


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Parameters
    ----------
    text : the source text
    scope : what its bare names refer to: steps (``arrays``), columns (``columns``, ``agg``) or coordinates (``coords``)
    root : the syntax tree
    references : the values that :class:`BoundValue` nodes point to by position; filled by :func:`bind`
    """

    text: str = field(compare=False)
    scope: Scope
    root: Node
    references: tuple[Any, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The columns or coordinates that the expression uses."""
        return frozenset(node.name for node in walk(self.root) if isinstance(node, Name))

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The unbound ``${…}``, as the text between the braces, in order of appearance, without duplicates."""
        return tuple(dict.fromkeys(node.text for node in walk(self.root) if isinstance(node, Placeholder)))

    @property
    def step_references(self) -> tuple[ReferenceText, ...]:
        """The unbound references to steps, in order of appearance, without duplicates."""
        return tuple(dict.fromkeys(node.reference for node in walk(self.root) if isinstance(node, StepReference)))

    @property
    def constant(self) -> Constant | None:
        """The value of the expression if it is constant, such as ``${smooth} > 1`` after :func:`bind`; else None."""
        return self.root if isinstance(self.root, Constant) else None

    def text_column(self, name: str) -> int:
        """Return where a name, placeholder or reference first appears in the text, counted from 1; 0 if it does not."""
        for node in walk(self.root):
            match node:
                case Name(text, column) | Placeholder(text, column) if text == name:
                    return column
                case StepReference(reference, column) if name in (str(reference), reference.name):
                    return column
        return 0

    def __str__(self) -> str:
        return self.text


def parse(text: str, scope: Scope) -> Expression:
    """Parse and check an expression.

    Raises
    ------
    ExpressionError : with the column in ``text``, what is there, and what to write instead

    >>> parse("a > 1 and b in ['x', 'y']", "columns").names == {"a", "b"}
    True
    """
    return Expression(text, scope, parse_tree(text, scope))


def bind(
    expression: Expression, placeholders: Mapping[str, Any], steps: Mapping[ReferenceText, Any] | None = None
) -> Expression:
    """Replace placeholders and references to steps by their values, and fold what becomes constant.

    Placeholders and references that are in neither map stay unbound; a later call may bind them.

    Parameters
    ----------
    placeholders : text between the braces -> a constant (bool int float str date datetime timedelta; a list of these
        after ``in``), or any other object, which stands for a value computed in the run: it is added to ``references``
    steps : reference -> the same

    Raises
    ------
    ExpressionError : if a value is not allowed where its placeholder is
    """
    binder = _Binder(placeholders, steps or {}, list(expression.references))
    return replace(expression, root=binder.rebuild(expression.root), references=tuple(binder.references))


class _Binder:
    """Rebuilds a tree with values in place of placeholders; collects the objects that are no constants."""

    def __init__(
        self, placeholders: Mapping[str, Any], steps: Mapping[ReferenceText, Any], references: list[Any]
    ) -> None:
        self.placeholders, self.steps, self.references = placeholders, steps, references

    def rebuild(self, node: Node) -> Node:
        match node:
            case Unary(op, operand):
                return fold(Unary(op, self.rebuild(operand)))
            case Binary(op, left, right):
                return fold(Binary(op, self.rebuild(left), self.rebuild(right)))
            case Compare(first, ops, rest):
                return fold(Compare(self.rebuild(first), ops, tuple(map(self.rebuild, rest))))
            case Boolean(op, operands):
                return fold(Boolean(op, tuple(map(self.rebuild, operands))))
            case Membership():
                return fold(replace(self.list_elements(node), operand=self.rebuild(node.operand)))
            case Call(function, args, keywords, column):
                rebuilt = tuple((name, self.rebuild(x)) for name, x in keywords)
                return fold_time_literal(
                    bind_arguments(Call(function, tuple(map(self.rebuild, args)), rebuilt, column))
                )
        return self.leaf(node)

    def leaf(self, node: Node) -> Node:
        if isinstance(node, StepReference) and node.reference in self.steps:
            return self.value_node(self.steps[node.reference], node.column, str(node.reference))
        if isinstance(node, Placeholder) and node.text in self.placeholders:
            return self.value_node(self.placeholders[node.text], node.column, f"${{{node.text}}}")
        return node

    def list_elements(self, node: Membership) -> Membership:
        """Bind the list after ``in``: each element, or the placeholder that stands for the whole list."""
        whole = node.constants[0] if node.listed else None
        if not isinstance(whole, Placeholder) or whole.text not in self.placeholders:
            return replace(node, constants=tuple(_list_element(self.leaf(x)) for x in node.constants))
        value, text = self.placeholders[whole.text], f"${{{whole.text}}}"
        if isinstance(value, list | tuple):
            constants = tuple(self.value_node(v, whole.column, text) for v in value)
            return replace(node, constants=constants, listed=False)
        if _is_constant(value):
            raise ExpressionError(f"{text} is {value!r}; 'in' needs a list: [1, 2]", whole.column)
        return replace(node, constants=(self.reference_to(value),))

    def value_node(self, value: Any, column: int, text: str) -> Node:
        """Return the node that replaces ``text``, the placeholder or reference at ``column``."""
        if not _is_constant(value) and not isinstance(value, tuple):
            return self.reference_to(value)
        if isinstance(value, list | tuple):
            raise ExpressionError(f"{text} is a list; a list is only allowed after 'in'", column)
        if isinstance(value, dict):
            raise ExpressionError(f"{text} is a map; write one of its values: ${{name.key}}", column)
        try:
            constant_kind(value)
            return Constant(parse_time(value) if isinstance(value, date) else check_size(value))
        except ExpressionError as error:
            raise ExpressionError(f"{text}: {error.message}", column) from None

    def reference_to(self, value: Any) -> BoundValue:
        if value not in self.references:
            self.references.append(value)
        return BoundValue(self.references.index(value))


def _is_constant(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | date | datetime | timedelta | list | dict)


def _list_element(node: Node) -> Node:
    if not isinstance(node, Constant | Placeholder | BoundValue):
        raise ExpressionError(f"got {render(node)} in the list after 'in'; its elements must be constants: [1, 2]")
    return node
