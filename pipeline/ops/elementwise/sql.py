"""Expressions over columns as SQL: walks the tree.

The meaning is that of docs/language.md and, for arrays, of :mod:`pipeline.ops.elementwise.operators` and
``functions``: a comparison with a missing value is false; whole numbers and decimals are exact, or the run fails; NaN
is missing. Types follow from types alone, never from values, so that they are known while building.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import (
    Binary,
    Boolean,
    BoundValue,
    Call,
    Compare,
    Constant,
    Membership,
    Missing,
    Name,
    Node,
    Unary,
    render,
)
from pipeline.errors import DataError
from pipeline.ops.elementwise.scalars import as_scalar
from pipeline.ops.elementwise.sql_arithmetic import apply_arithmetic, apply_sign
from pipeline.ops.elementwise.sql_choices import CHOICES, MISSING, condition
from pipeline.ops.elementwise.sql_comparisons import compare_values, is_in
from pipeline.ops.elementwise.sql_functions import NUMBERS, TEXTS
from pipeline.ops.elementwise.sql_times import TIMES
from pipeline.ops.elementwise.sql_types import Typed, literal, settled, true_only

__all__ = ["Typed", "candidates", "compiled", "run_time_value"]

_FUNCTIONS: dict[str, Callable[..., Typed]] = {**NUMBERS, **TEXTS, **CHOICES, **TIMES}


def candidates(n: int) -> Iterator[tuple[Any, ...]]:
    """Values of all kinds for ``n`` references whose values are unknown until the run, one after the other."""
    one: list[Any] = [
        1.0,
        "2000-01-01",
        True,
        datetime(2000, 1, 1),
        datetime(2000, 1, 1, tzinfo=UTC),
        timedelta(1),
        "1h",
    ]
    return itertools.product(one, repeat=n)


def run_time_value(value: Any) -> Any:
    """Return a value that another step gave, as :func:`compiled` takes it: a Python scalar, or a tuple of some.

    A whole number counts as float64, because its type is unknown while building.

    Raises
    ------
    DataError : a whole number that float64 can't hold
    ExpressionError : more than one value, or one of a kind that an expression cannot hold
    """
    if isinstance(value, float | str | bool):
        return value
    if isinstance(value, list | tuple):
        return tuple(run_time_value(one) for one in value)
    if isinstance(value, pa.Table):
        if value.num_rows * value.num_columns != 1:
            raise ExpressionError(f"one value is needed, got {value.num_rows * value.num_columns}")
        value = value.column(0)[0]
    value = value.as_py() if isinstance(value, pa.Scalar) else value
    if isinstance(value, Decimal):
        value = float(value)
    one = as_scalar(datetime(value.year, value.month, value.day) if type(value) is date else value)
    if isinstance(one, np.datetime64 | np.timedelta64):
        exact = one.astype(f"{one.dtype.kind}8[us]")
        return exact.item() if exact == one and not np.isnat(one) else one
    if isinstance(one, datetime):  # of pandas
        return one.to_pydatetime(warn=False) if hasattr(one, "to_pydatetime") else one
    if type(one) is int:
        if float(one) != one:
            raise DataError(f"got {one}, and a number from another step counts as float64 here, which can't hold it")
        return float(one)
    return one


def compiled(root: Node, columns: Mapping[str, Typed], values: Sequence[Any] = ()) -> Typed:
    """Return the expression as SQL.

    Parameters
    ----------
    columns : the columns by name
    values : for each BoundValue by its slot

    Raises
    ------
    ExpressionError : an operation that is not defined for its operands
    """
    try:
        found = settled(_value(root, columns, values))
        if not found.sql:
            raise ExpressionError(f"{render(root)} is no value of a column; add it to a time")
        return found
    except (OverflowError, pa.ArrowInvalid) as error:
        raise ExpressionError(f"{render(root)}: {error}") from None


def _value(node: Node, columns: Mapping[str, Typed], values: Sequence[Any]) -> Typed:
    def value(inner: Node) -> Typed:
        return _value(inner, columns, values)

    match node:
        case Name(name, at):
            if name not in columns:
                raise ExpressionError(f"no column '{name}'", at)
            return columns[name]
        case Constant(constant):
            return literal(constant)
        case Missing():
            return MISSING
        case BoundValue(slot):
            return literal(values[slot], bound=True)
        case Unary("not", operand):
            return Typed(f"(not {true_only(condition(value(operand), 'not'))})", pa.bool_(), False)
        case Unary(op, operand):
            return apply_sign(op, value(operand))
        case Binary(op, left, right):
            return apply_arithmetic(op, *(settled(v) if v.loose else v for v in (value(left), value(right))))
        case Compare(first, ops, rest):
            operands = [value(first), *map(value, rest)]
            links = [compare_values(op, a, b) for op, a, b in zip(ops, operands, operands[1:], strict=False)]
            return _joined("and", links)
        case Boolean(op, operands):
            return _joined(op, [condition(value(x), op) for x in operands])
        case Membership(operand, constants, negated, listed):
            found = [x for constant in constants for x in _constants(constant, values, listed)]
            return is_in(value(operand), found, negated)
        case Call(function, args, keywords):
            given = {name: _keyword(x, values) for name, x in keywords}
            return _FUNCTIONS[function](*map(value, args), **given)
    raise ExpressionError(f"{render(node)} is not bound")


def _keyword(node: Node, values: Sequence[Any]) -> Any:
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, BoundValue):
        return values[node.slot]
    raise ExpressionError(f"{render(node)} is not bound")


def _joined(op: str, links: Sequence[Typed]) -> Typed:
    if len(links) == 1:
        return links[0]
    return Typed(f"({f' {op} '.join(x.sql for x in links)})", pa.bool_(), any(x.nullable for x in links), loose=True)


def _constants(node: Node, values: Sequence[Any], listed: bool) -> Sequence[Any]:
    if isinstance(node, Constant):
        return (node.value,)
    if not isinstance(node, BoundValue):
        raise ExpressionError(f"{render(node)} is not bound")
    found = values[node.slot]
    if isinstance(found, tuple) and not listed:
        raise ExpressionError("got a list; a list is only allowed after 'in'")
    return found if isinstance(found, tuple) else (found,)
