"""The node classes; walking, printing and constant folding of trees.

Nodes are frozen and picklable, and their equality ignores columns in the text. Sizes of numbers are limited so that
folding stays fast: ``10**10**10`` is refused, not computed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from pipeline.config.expressions.references import ExpressionError, ReferenceText
from pipeline.config.expressions.time_literals import Months

__all__ = [
    "ARITHMETIC",
    "COMPARISONS",
    "Binary",
    "Boolean",
    "BoundValue",
    "Call",
    "Compare",
    "Constant",
    "Membership",
    "Missing",
    "Name",
    "Node",
    "Placeholder",
    "StepReference",
    "Unary",
    "arithmetic",
    "check_size",
    "children",
    "compare",
    "constant_kind",
    "fold",
    "map_nodes",
    "mismatch_message",
    "render",
    "walk",
]

_MAX_BITS = 64  # no dtype of a column holds a larger whole number


@dataclass(frozen=True)
class Constant:
    """A bool, int, float, str, datetime (naive or zoned), timedelta, Months, or a tuple of texts."""

    value: Any

    def __eq__(self, other: object) -> bool:
        # True == 1 == 1.0 in Python, but they are different constants; nan is the same constant as nan
        if not isinstance(other, Constant) or type(self.value) is not type(other.value):
            return False
        both_nan = self.value != self.value and other.value != other.value
        return bool(self.value == other.value) or both_nan

    def __hash__(self) -> int:
        return hash((type(self.value), self.value if self.value == self.value else "nan"))


@dataclass(frozen=True)
class Missing:
    """``missing``: a missing value of the type of the other choice of ``where``; ``column`` is where in the text."""

    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Name:
    """A bare name: a column or a coordinate; ``column`` is where in the text."""

    name: str
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class StepReference:
    """An unbound reference to a step."""

    reference: ReferenceText
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Placeholder:
    """An unbound ``${text}``."""

    text: str
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class BoundValue:
    """A value computed in the run: ``slot`` is its position in ``Expression.references``."""

    slot: int


@dataclass(frozen=True)
class Unary:
    """``-x``, ``+x``, ``not x``."""

    op: str
    operand: Node


@dataclass(frozen=True)
class Binary:
    """``left op right`` with ``op`` one of ``+ - * / // % **``."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Compare:
    """A chain of comparisons: ``first ops[0] rest[0] ops[1] rest[1] …``; each operand is evaluated once."""

    first: Node
    ops: tuple[str, ...]
    rest: tuple[Node, ...]


@dataclass(frozen=True)
class Boolean:
    """``and`` or ``or`` of two or more operands."""

    op: str
    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Membership:
    """``operand in constants``, or ``not in``.

    Parameters
    ----------
    constants : each a Constant, Placeholder or BoundValue
    listed : whether the single element of ``constants`` stands for the whole list: ``in ${names}``
    """

    operand: Node
    constants: tuple[Node, ...]
    negated: bool = False
    listed: bool = False


@dataclass(frozen=True)
class Call:
    """A call of a function of the table; ``keywords`` holds only keyword-only arguments."""

    function: str
    args: tuple[Node, ...]
    keywords: tuple[tuple[str, Node], ...] = ()
    column: int = field(default=0, compare=False)


Node = (
    Constant
    | Missing
    | Name
    | StepReference
    | Placeholder
    | BoundValue
    | Unary
    | Binary
    | Compare
    | Boolean
    | Membership
    | Call
)


def children(node: Node) -> tuple[Node, ...]:
    """Return the operands of ``node``, from left to right."""
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
    """Yield ``node`` and all nodes below it, depth first, from left to right."""
    yield node
    for child in children(node):
        yield from walk(child)


def map_nodes(node: Node, function: Callable[[Node], Node | None]) -> Node:
    """Return the tree with each node replaced by ``function(node)``, top down; None keeps it and goes on below it."""
    replaced = function(node)
    if replaced is not None:
        return replaced
    match node:
        case Unary(op, operand):
            return Unary(op, map_nodes(operand, function))
        case Binary(op, left, right):
            return Binary(op, map_nodes(left, function), map_nodes(right, function))
        case Compare(first, ops, rest):
            return Compare(map_nodes(first, function), ops, tuple(map_nodes(x, function) for x in rest))
        case Boolean(op, operands):
            return Boolean(op, tuple(map_nodes(x, function) for x in operands))
        case Membership(operand, constants, negated, listed):
            values = tuple(map_nodes(x, function) for x in constants)
            return Membership(map_nodes(operand, function), values, negated, listed)
        case Call(name, args, keywords, column):
            given = tuple((k, map_nodes(x, function)) for k, x in keywords)
            return Call(name, tuple(map_nodes(x, function) for x in args), given, column)
    return node


# ---------------------------------------------------------------------------------------------------------------------
# Printing
# ---------------------------------------------------------------------------------------------------------------------


def render(node: Node, references: Sequence[Any] = ()) -> str:
    """Return the expression as text, with parentheses around nested operations.

    Parameters
    ----------
    references : ``Expression.references``, for the names of bound values
    """

    def inner(part: Node) -> str:
        text = render(part, references)
        return f"({text})" if isinstance(part, Binary | Compare | Boolean | Membership | Unary) else text

    match node:
        case Constant(value):
            return _render_constant(value)
        case Missing():
            return "missing"
        case Name(name):
            return name if name.isidentifier() and name not in ("nan", "missing") else f"`{name}`"
        case StepReference(reference):
            return str(reference)
        case Placeholder(text):
            return f"${{{text}}}"
        case BoundValue(slot):
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
    if isinstance(value, Months):
        return f"duration(months={value.n})"
    if isinstance(value, tuple):
        return f"[{', '.join(map(repr, value))}]"
    return repr(value)


def _render_reference(reference: Any) -> str:
    text = getattr(reference, "text", "")
    return str(text) if text else f"${{{getattr(reference, 'name', reference)}}}"


# ---------------------------------------------------------------------------------------------------------------------
# Constant folding
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
    """Return the kind of a value as messages name it: ``number``, ``text``, ``zoned time`` ….

    Raises
    ------
    ExpressionError : if an expression cannot hold such a value
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
    if isinstance(value, Months):
        return "months"
    if value is None:
        raise ExpressionError("got null; to ask for missing values write missing(x), for one of them missing or nan")
    raise ExpressionError(f"got a {type(value).__name__}; an expression takes numbers, text, true/false and times")


def compare(op: str, left: Any, right: Any) -> bool:
    """Compare two constants. Any comparison with nan is false, ``!=`` included.

    Raises
    ------
    ExpressionError : if they are of different kinds
    """
    kinds = constant_kind(left), constant_kind(right)
    if kinds[0] != kinds[1] and not set(kinds) <= {"number", "true/false"}:
        raise ExpressionError(mismatch_message(*kinds))
    if left != left or right != right:
        return False
    return bool(COMPARISONS[op](left, right))


def mismatch_message(left: str, right: str) -> str:
    """Return the message for two kinds that cannot be compared, with how to convert one of them."""
    kinds = {left, right}
    if kinds == {"time", "zoned time"}:
        return (
            "a time without and one with a time zone cannot be compared; "
            "write localize(t, 'Europe/Paris') for the one without"
        )
    if kinds == {"time", "text"} or kinds == {"zoned time", "text"}:
        return "a time and text cannot be compared; write date('1995-03-15') or timestamp('…') for the text"
    if kinds == {"number", "text"}:
        return "a number and text cannot be compared; write number(x) for the text, or text(x) for the number"
    if kinds == {"number", "duration"}:
        return "a number and a duration cannot be compared; write duration('5min') for the number"
    return f"{left} and {right} cannot be compared"


def arithmetic(op: str, left: Any, right: Any) -> Any:
    """Return ``left op right`` for two constants.

    Raises
    ------
    ExpressionError : if ``op`` is not defined for their kinds, or the result is too large
    """
    if isinstance(left, str) or isinstance(right, str):
        raise ExpressionError(f"'{op}' does not take text; to join text write concat(a, b)")
    if op == "**" and isinstance(left, int) and isinstance(right, int):
        if right >= 0 and left.bit_length() * right > 4 * _MAX_BITS and abs(left) > 1:  # cheap bound before computing
            raise ExpressionError(f"the number {left}**{right} has more than {_MAX_BITS} bits")
        if right < 0:
            left = float(left)
    try:
        return check_size(ARITHMETIC[op](left, right))
    except ZeroDivisionError:
        raise ExpressionError(f"'{op}' divides by zero") from None
    except OverflowError:
        raise ExpressionError(f"the result of '{op}' is too large") from None
    except TypeError:
        kinds = constant_kind(left), constant_kind(right)
        raise ExpressionError(f"'{op}' is not defined for {kinds[0]} and {kinds[1]}") from None


def check_size(value: Any) -> Any:
    """Return ``value`` unchanged.

    Raises
    ------
    ExpressionError : if it is a whole number of more than 64 bits, or complex
    """
    if isinstance(value, complex):
        raise ExpressionError("the result is a complex number")
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise ExpressionError(f"a whole number has more than {_MAX_BITS} bits")
    return value


def fold(node: Node) -> Node:
    """Return the Constant that ``node`` evaluates to if all its operands are Constants, else ``node``. Calls stay.

    Raises
    ------
    ExpressionError : if the operation is not defined for the constants
    """
    values = [child.value for child in children(node) if isinstance(child, Constant)]
    if isinstance(node, Call) or not values or len(values) != len(children(node)):
        return node
    match node:
        case Unary("not"):
            return Constant(not _require_bool("not", values[0]))
        case Unary(op):
            return Constant(arithmetic("*", values[0], -1 if op == "-" else 1))
        case Binary(op):
            return Constant(arithmetic(op, *values))
        case Compare(_, ops):
            return Constant(all(compare(op, a, b) for op, a, b in zip(ops, values, values[1:], strict=False)))
        case Boolean(op):
            truths = [_require_bool(op, value) for value in values]
            return Constant(all(truths) if op == "and" else any(truths))
        case Membership(negated=negated, listed=False):
            found = any(compare("==", values[0], value) for value in values[1:])
            return Constant(found != negated and values[0] == values[0])
    return node


def _require_bool(op: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ExpressionError(f"'{op}' needs true or false; got {value!r}; compare it: x != 0")
    return value
