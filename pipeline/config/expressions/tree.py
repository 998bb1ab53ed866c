"""The nodes of a parsed expression, and the arithmetic of its constants.

Nodes are frozen, picklable, and compare by meaning: the column in which something stands does not count. Sizes are
bounded here, so that neither parsing nor folding can take long: ``10**10**10`` is refused, not computed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from pipeline.config.expressions.references import ExpressionError, ReferenceText

__all__ = [
    "ARITHMETIC",
    "COMPARISONS",
    "Binary",
    "Boolean",
    "Bound",
    "Call",
    "Compare",
    "Constant",
    "Membership",
    "Name",
    "Named",
    "Node",
    "Outside",
    "Unary",
    "arithmetic",
    "children",
    "compare",
    "constant_kind",
    "folded",
    "mapped",
    "render",
    "walk",
]

_BITS = 64  # of the largest whole number: more fits no column


@dataclass(frozen=True)
class Constant:
    """A bool, int, float, str, datetime (naive or zoned) or timedelta."""

    value: Any

    def __eq__(self, other: object) -> bool:
        # True == 1 == 1.0 in Python, but they are not the same constant
        return isinstance(other, Constant) and type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


@dataclass(frozen=True)
class Name:
    """A column, or a coordinate."""

    name: str
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Named:
    """A step, in the expression of an ``expr`` step or a check."""

    reference: ReferenceText
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Outside:
    """``${text}``, until it is bound."""

    text: str
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Bound:
    """A value from elsewhere: the position ``slot`` in ``Expression.references``."""

    slot: int


@dataclass(frozen=True)
class Unary:
    """``- + not``."""

    op: str
    operand: Node


@dataclass(frozen=True)
class Binary:
    """``+ - * / // % **``."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Compare:
    """A chain: ``first ops[0] rest[0] ops[1] rest[1] …``, each operand evaluated once."""

    first: Node
    ops: tuple[str, ...]
    rest: tuple[Node, ...]


@dataclass(frozen=True)
class Boolean:
    """``and``, ``or`` of two or more operands."""

    op: str
    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Membership:
    """``in``, ``not in``.

    Parameters
    ----------
    constants : each a Constant, Outside or Bound
    listed : the one element of ``constants`` stands for the whole list: ``in ${names}``
    """

    operand: Node
    constants: tuple[Node, ...]
    negated: bool = False
    listed: bool = False


@dataclass(frozen=True)
class Call:
    """A function of the table; ``keywords`` holds only what has no place among ``args``."""

    function: str
    args: tuple[Node, ...]
    keywords: tuple[tuple[str, Node], ...] = ()
    column: int = field(default=0, compare=False)


Node = Constant | Name | Named | Outside | Bound | Unary | Binary | Compare | Boolean | Membership | Call


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below ``node``, from left to right."""
    match node:
        case Unary():
            return (node.operand,)
        case Binary():
            return (node.left, node.right)
        case Compare():
            return (node.first, *node.rest)
        case Boolean():
            return node.operands
        case Membership():
            return (node.operand, *node.constants)
        case Call():
            return (*node.args, *(value for _, value in node.keywords))
    return ()


def walk(node: Node) -> Iterator[Node]:
    """``node`` and everything below it, from left to right."""
    yield node
    for child in children(node):
        yield from walk(child)


def mapped(node: Node, function: Callable[[Node], Node | None]) -> Node:
    """The tree with every node for which ``function`` gives another one replaced by it; from the top down."""
    replaced = function(node)
    if replaced is not None:
        return replaced
    match node:
        case Unary(op, operand):
            return Unary(op, mapped(operand, function))
        case Binary(op, left, right):
            return Binary(op, mapped(left, function), mapped(right, function))
        case Compare(first, ops, rest):
            return Compare(mapped(first, function), ops, tuple(mapped(x, function) for x in rest))
        case Boolean(op, operands):
            return Boolean(op, tuple(mapped(x, function) for x in operands))
        case Membership(operand, constants, negated, listed):
            values = tuple(mapped(x, function) for x in constants)
            return Membership(mapped(operand, function), values, negated, listed)
        case Call(name, args, keywords, column):
            given = tuple((k, mapped(x, function)) for k, x in keywords)
            return Call(name, tuple(mapped(x, function) for x in args), given, column)
    return node


# ---------------------------------------------------------------------------------------------------------------------
# As text, for messages
# ---------------------------------------------------------------------------------------------------------------------


def render(node: Node, references: Sequence[Any] = ()) -> str:
    """The expression as a user would write it; every operation inside another one in parentheses."""

    def inner(part: Node) -> str:
        text = render(part, references)
        return f"({text})" if isinstance(part, Binary | Compare | Boolean | Membership | Unary) else text

    match node:
        case Constant(value):
            return _render_constant(value)
        case Name(name):
            return name if name.isidentifier() else f"`{name}`"
        case Named(reference):
            return str(reference)
        case Outside(text):
            return f"${{{text}}}"
        case Bound(slot):
            return _render_reference(references[slot]) if slot < len(references) else f"${{{slot}}}"
        case Unary(op, operand):
            return f"{op} {inner(operand)}" if op == "not" else f"{op}{inner(operand)}"
        case Binary(op, left, right):
            return f"{inner(left)} {op} {inner(right)}"
        case Compare(first, ops, rest):
            return " ".join([inner(first), *(f"{op} {inner(x)}" for op, x in zip(ops, rest, strict=True))])
        case Boolean(op, operands):
            return f" {op} ".join(inner(x) for x in operands)
        case Membership(operand, constants, negated, listed):
            values = ", ".join(render(x, references) for x in constants)
            return f"{inner(operand)} {'not in' if negated else 'in'} {values if listed else f'[{values}]'}"
        case Call(function, args, keywords):
            given = [*(render(x, references) for x in args), *(f"{k}={render(x, references)}" for k, x in keywords)]
            return f"{function}({', '.join(given)})"


def _render_constant(value: Any) -> str:
    if isinstance(value, datetime):
        return f"timestamp('{value}')"
    if isinstance(value, timedelta):
        return f"duration('{value.total_seconds():g}s')"
    return repr(value)


def _render_reference(reference: Any) -> str:
    text = getattr(reference, "text", "")
    return str(text) if text else f"${{{getattr(reference, 'name', reference)}}}"


# ---------------------------------------------------------------------------------------------------------------------
# Constants
# ---------------------------------------------------------------------------------------------------------------------

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


def constant_kind(value: Any) -> str:
    """What a Python value is, in the words of messages: ``number``, ``text``, ``zoned time`` ….

    Raises
    ------
    ExpressionError : if it has no place in an expression
    """
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, datetime):
        return "time" if value.tzinfo is None else "zoned time"
    if isinstance(value, date):
        return "time"
    if isinstance(value, timedelta):
        return "duration"
    if value is None:
        raise ExpressionError("got no value (null); for what is missing write missing(x)")
    raise ExpressionError(f"got a {type(value).__name__}; an expression takes numbers, text, true/false and times")


def compare(op: str, left: Any, right: Any) -> bool:
    """Compare two Python values of one kind; a missing number (nan) makes it false, ``!=`` too.

    Raises
    ------
    ExpressionError : if they are of two kinds
    """
    kinds = constant_kind(left), constant_kind(right)
    if kinds[0] != kinds[1] and not set(kinds) <= {"number", "true/false"}:
        raise ExpressionError(unlike(*kinds))
    if left != left or right != right:
        return False
    return bool(COMPARISONS[op](left, right))


def unlike(left: str, right: str) -> str:
    """The message for two kinds that never compare or combine, with the cure."""
    kinds = {left, right}
    if kinds == {"time", "zoned time"}:
        return "a naive and a zoned time never compare; write localize(t, 'Europe/Paris') for the naive one"
    if kinds == {"time", "text"} or kinds == {"zoned time", "text"}:
        return "a time and text never compare; write date('1995-03-15') or timestamp('…') for the text"
    if kinds == {"number", "text"}:
        return "a number and text never compare; write number(x) for the text, or text(x) for the number"
    if kinds == {"number", "duration"}:
        return "a number and a duration never compare; write duration('5min') for the number"
    return f"{left} and {right} never compare"


def arithmetic(op: str, left: Any, right: Any) -> Any:
    """``left op right`` for two Python values, of bounded size.

    Raises
    ------
    ExpressionError : if they don't go together, or the result is too large
    """
    if isinstance(left, str) or isinstance(right, str):
        raise ExpressionError(f"got text beside '{op}'; to join text write concat(a, b)")
    if op == "**" and isinstance(left, int) and isinstance(right, int):
        if right >= 0 and left.bit_length() * right > 4 * _BITS and abs(left) > 1:
            raise ExpressionError(f"the number {left}**{right} has more than {_BITS} bits")
        if right < 0:
            left = float(left)
    try:
        return bounded(ARITHMETIC[op](left, right))
    except ZeroDivisionError:
        raise ExpressionError(f"'{op}' divides by zero") from None
    except OverflowError:
        raise ExpressionError(f"the result of '{op}' is too large") from None
    except TypeError:
        kinds = constant_kind(left), constant_kind(right)
        raise ExpressionError(f"'{op}' has no meaning between {kinds[0]} and {kinds[1]}") from None


def bounded(value: Any) -> Any:
    """``value``, if it is a constant of bounded size.

    Raises
    ------
    ExpressionError : if a whole number has more than 64 bits, or a number is complex
    """
    if isinstance(value, complex):
        raise ExpressionError("the result is a complex number")
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise ExpressionError(f"a whole number has more than {_BITS} bits")
    return value


def folded(node: Node) -> Node:
    """``node`` as one Constant, where all below it are Constants; calls are left as they are.

    Raises
    ------
    ExpressionError : if the constants don't go together
    """
    values = [child.value for child in children(node) if isinstance(child, Constant)]
    if isinstance(node, Call) or not values or len(values) != len(children(node)):
        return node
    match node:
        case Unary("not"):
            return Constant(not _truth("not", values[0]))
        case Unary(op):
            return Constant(arithmetic("*", values[0], -1 if op == "-" else 1))
        case Binary(op):
            return Constant(arithmetic(op, *values))
        case Compare(_, ops):
            return Constant(all(compare(op, a, b) for op, a, b in zip(ops, values, values[1:], strict=False)))
        case Boolean(op):
            truths = [_truth(op, value) for value in values]
            return Constant(all(truths) if op == "and" else any(truths))
        case Membership(negated=negated, listed=False):
            found = any(compare("==", values[0], value) for value in values[1:])
            return Constant(found != negated and values[0] == values[0])
    return node


def _truth(op: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ExpressionError(f"'{op}' needs true or false; got {value!r}; compare it: x != 0")
    return value
