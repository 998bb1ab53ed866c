"""Aggregate expressions taken apart: the aggregates among them, what these are of, and the types of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.functions import AGGREGATES
from pipeline.config.expressions.tree import Call, Constant, Name, Node, map_nodes, render
from pipeline.errors import OpError
from pipeline.graph.column_types import family, type_name
from pipeline.ops.frames.aggregation_plan import DISTINCT, WHOLE, Aggregate, Column, Plan, Value, states_of
from pipeline.ops.frames.columns import field_of_expression

__all__ = ["Key", "aggregate_field", "key_of", "make_plan", "take_apart"]

Key = tuple[pa.Field, Value]
"""A key as it is called in the result, and its values."""

_FLOATS = frozenset({"mean", "std", "var", "median", "quantile", "corr", "covar"})
_PAIRS = frozenset({"corr", "covar"})
_NO_KEYS = frozenset({"list", "struct"})


def key_of(place: str, name: str, expression: Expression, schema: pa.Schema) -> Key:
    """Return the key that an expression gives.

    Raises
    ------
    OpError : an unknown column, or lists or structs
    """
    field = field_of_expression(place, expression, schema, name)
    if family(field.type) in _NO_KEYS:
        raise OpError(place, f"'{name}' is {type_name(field.type)}; a key is one value a row")
    return field, Value(place, expression, field.type)


def make_plan(
    keys: Sequence[Key], agg: Mapping[str, Expression], schema: pa.Schema, *, gaps: bool = False, place: str = "agg"
) -> Plan:
    """Take the aggregate expressions apart, and find the types.

    Parameters
    ----------
    gaps : whether there are results without rows behind them: see :class:`Plan`
    place : the parameter that holds the expressions

    Raises
    ------
    OpError : an unknown column, a name that is a key's already, a value that the aggregate has no meaning for
    """
    taken = {field.name for field, _ in keys}
    making = _Making(schema, full=bool(keys) and not gaps)
    columns = []
    for name, expression in agg.items():
        path = f"{place}.{name}"
        if name in taken:
            raise OpError(path, f"'{name}' is a column of the keys already; choose another name")
        columns.append(making.column(path, name, expression))
    aggregates = making.aggregates
    return Plan(
        tuple(value for _, value in keys),
        tuple(making.values),
        tuple(dict.fromkeys(state for a in aggregates for state in states_of(a))),
        tuple(dict.fromkeys(a.values[0] for a in aggregates if a.function in DISTINCT)),
        tuple(aggregates),
        pa.schema(making.fields),
        tuple(column for column, _ in columns),
        pa.schema([*(field for field, _ in keys), *(field for _, field in columns)]),
        gaps,
    )


class _Making:
    """A plan in the making: each value and each aggregate is there once, whatever wants it."""

    def __init__(self, schema: pa.Schema, *, full: bool) -> None:
        self.schema, self.full = schema, full
        self.values: list[Value] = []
        self.aggregates: list[Aggregate] = []
        self.fields: list[pa.Field] = []

    def column(self, path: str, name: str, expression: Expression) -> tuple[Column, pa.Field]:
        found: dict[str, int] = {}

        def replaced(node: Node) -> Node | None:
            if not isinstance(node, Call) or node.function not in AGGREGATES:
                return None
            number = self.aggregate(path, node, expression)
            found[self.fields[number].name] = number
            return Name(self.fields[number].name, node.column)

        root = map_nodes(expression.root, replaced)
        if isinstance(root, Name):
            number = found[root.name]
            return Column(path, number), self.fields[number].with_name(name)
        outer = Expression(expression.text, "columns", root, expression.references)
        return Column(path, outer), field_of_expression(path, outer, pa.schema(self.fields), name)

    def aggregate(self, path: str, call: Call, whole: Expression) -> int:
        """The number of an aggregate; its column is called as it is written."""
        function, inner, argument = _parts(path, call, whole)
        numbers: tuple[int, ...] = ()
        field = pa.field("", pa.int64(), False)
        if inner:
            found = [field_of_expression(path, one, self.schema) for one in inner]
            fields = [aggregate_field(path, function, one, full=self.full) for one in found]
            field = fields[0].with_nullable(any(one.nullable for one in fields))
            form = _form(function, found[0].type)
            others = [None] if len(inner) == 1 else inner[::-1]
            numbers = tuple(
                self.value(Value(path, one, of.type, form, beside))
                for one, of, beside in zip(inner, found, others, strict=True)
            )
            if function in ("median", "quantile"):
                argument = (argument if function == "quantile" else 0.5, form == "ticks")
            if function == "mean" and pa.types.is_decimal(found[0].type):
                argument = found[0].type.scale
        made = Aggregate(path, function, numbers, argument, field.type)
        for i, other in enumerate(self.aggregates):
            if (other.function, other.values, other.argument) == (function, numbers, argument):
                return i
        self.aggregates.append(made)
        self.fields.append(field.with_name(render(call, whole.references)))
        return len(self.aggregates) - 1

    def value(self, value: Value) -> int:
        for i, other in enumerate(self.values):
            if (other.expression, other.form, other.beside) == (value.expression, value.form, value.beside):
                return i
        self.values.append(value)
        return len(self.values) - 1


def take_apart(place: str, expression: Expression) -> tuple[str, Expression | None, Any]:
    """Return the one aggregate's function, the expression it aggregates (None: rows) and its q or ddof.

    Raises
    ------
    OpError : an expression of aggregates, or an aggregate of two values
    """
    call = expression.root
    if not isinstance(call, Call) or call.function not in AGGREGATES or call.function in _PAIRS:
        known = ", ".join(name for name in AGGREGATES if name not in _PAIRS)
        raise OpError(place, f"got '{expression.text}'; it is one aggregate of one value here: {known}")
    function, inner, argument = _parts(place, call, expression)
    return function, inner[0] if inner else None, argument


def _parts(place: str, call: Call, whole: Expression) -> tuple[str, list[Expression], Any]:
    """The function, the expressions it aggregates, and its q, ddof or text between."""
    inner: list[Expression] = []
    argument = None
    for parameter, node in zip(AGGREGATES[call.function].parameters, call.args, strict=False):
        if parameter.kind == "any":
            text = render(node, whole.references)  # so that sum(x) and mean(x) share their value
            inner.append(Expression(text, "columns", node, whole.references))
            continue
        if not isinstance(node, Constant):
            raise OpError(place, f"'{parameter.name}' of {call.function} must be known before the run")
        argument = float(node.value) if parameter.kind == "number" else node.value
    return call.function, inner, argument


def _form(function: str, kind: pa.DataType) -> str:
    """How an aggregate takes values of a type."""
    if function in ("median", "quantile") and family(kind) in ("time", "zoned time", "date", "duration"):
        return "ticks"
    if function in ("std", "var", "median", "quantile", *_PAIRS):
        return "double"
    return "number" if pa.types.is_boolean(kind) and function in ("sum", "mean") else ""


def aggregate_field(place: str, function: str, value: pa.Field, *, full: bool) -> pa.Field:
    """Return the type of an aggregate of some values, and whether it may be missing.

    Parameters
    ----------
    full : whether every result has rows behind it

    Raises
    ------
    OpError : the aggregate has no meaning for such values
    """
    kind, holds = value.type, family(value.type)
    t = pa.types
    if function in ("count", "nunique"):
        if function == "nunique" and holds in _NO_KEYS:
            raise OpError(place, f"nunique(x) has no meaning for {type_name(kind)}; take text(x)")
        return pa.field("", pa.int64(), False)
    if function in ("any", "all"):
        if holds != "true/false":
            raise OpError(place, f"{function}(x) needs true or false; got {type_name(kind)}; compare it: x != 0")
        return pa.field("", pa.bool_(), False)
    nullable = value.nullable or not full
    if function == "list":
        return pa.field("", pa.list_(kind.value_type if t.is_dictionary(kind) else kind), False)
    if function == "join":
        if holds != "text":
            raise OpError(place, f"join(x, sep) needs text; got {type_name(kind)}; take text(x)")
        return pa.field("", pa.string(), nullable)
    if function in ("min", "max", "first", "last", "mode"):
        if holds in _NO_KEYS and function not in ("first", "last"):
            raise OpError(place, f"{function}(x) has no meaning for {type_name(kind)}")
        return pa.field("", kind, nullable)
    if holds in ("number", "true/false"):
        if function in _FLOATS or t.is_floating(kind):
            return pa.field("", pa.float64(), True)
        if t.is_decimal(kind):
            return pa.field("", pa.decimal128(38, kind.scale), False)
        return pa.field("", pa.uint64() if t.is_unsigned_integer(kind) else pa.int64(), False)
    if holds == "duration" and function in ("sum", "mean", "median", "quantile"):
        return pa.field("", kind, nullable and function != "sum")
    if holds in ("time", "zoned time", "date") and function in WHOLE:
        return pa.field("", kind, nullable)
    raise OpError(place, f"{function}(x) has no meaning for {type_name(kind)}; take number(x), or min, max, nunique")
