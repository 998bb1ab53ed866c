"""Walks the tree of an expression over values in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Protocol

import numpy as np

from pipeline.config.expressions.functions import FUNCTIONS
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
    Node,
    Unary,
    render,
)
from pipeline.ops.elementwise.functions import IMPLEMENTATIONS, MISSING
from pipeline.ops.elementwise.kinds import Value, as_bool
from pipeline.ops.elementwise.operators import apply_arithmetic, apply_sign, compare_values, is_in
from pipeline.ops.elementwise.scalars import as_scalar

__all__ = ["Lookup", "SlotLookup", "evaluate"]


class Lookup(Protocol):
    """Returns the value of a Name or a BoundValue.

    Parameters
    ----------
    columns : whether text is a pandas column, else a numpy array
    checked : false: only the dtype of the result matters, so no whole number is too large
    """

    columns: bool
    checked: bool

    def __call__(self, node: Node) -> Value: ...


class SlotLookup:
    """Looks up bound values by slot; text is a numpy array."""

    columns = False

    def __init__(self, values: Sequence[Value], *, checked: bool = True) -> None:
        self.values, self.checked = values, checked

    def __call__(self, node: Node) -> Value:
        if not isinstance(node, BoundValue):
            raise ExpressionError(f"{render(node)} has no value")
        return self.values[node.slot]


def evaluate(node: Node, lookup: Lookup) -> Value:
    """Return the value of the tree.

    Raises
    ------
    ExpressionError : if an operation is not defined for its operands
    """
    with np.errstate(all="ignore"):
        return _value(node, lookup)


def _value(node: Node, lookup: Lookup) -> Value:
    match node:
        case Constant(value):
            return as_scalar(value) if isinstance(value, datetime | timedelta) else value
        case Missing():
            return MISSING
        case Unary("not", operand):
            return np.logical_not(as_bool(_value(operand, lookup), "not"))
        case Unary(op, operand):
            return apply_sign(op, _value(operand, lookup), checked=lookup.checked)
        case Binary(op, left, right):
            how = {"columns": lookup.columns, "checked": lookup.checked}
            return apply_arithmetic(op, _value(left, lookup), _value(right, lookup), **how)
        case Compare(first, ops, rest):
            values = [_value(first, lookup), *(_value(x, lookup) for x in rest)]
            links = (compare_values(op, a, b) for op, a, b in zip(ops, values, values[1:], strict=False))
            return reduce(np.logical_and, links)
        case Boolean(op, operands):
            truths = (as_bool(_value(x, lookup), op) for x in operands)
            return reduce(np.logical_and if op == "and" else np.logical_or, truths)
        case Membership(operand, constants, negated, listed):
            found = [_value(x, lookup) for x in constants]
            return is_in(_value(operand, lookup), list(found[0]) if listed else found, negated)
        case Call(function, args, keywords):
            given = {name: _value(x, lookup) for name, x in keywords}
            if function in {"text", "where"}:
                given["columns"] = lookup.columns
            values = [_value(x, lookup) for x in args]
            for at, parameter in enumerate(FUNCTIONS[function].parameters[: len(values)]):
                if parameter.kind == "int":
                    values[at] = int(values[at])  # a value from the run is a float
            return IMPLEMENTATIONS[function](*values, **given)
    return lookup(node)
