"""Expressions over the columns of a frame: their types while building, their values inside tasks."""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pyarrow as pa

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import Call, Constant, Name, walk
from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import family, type_name
from pipeline.ops.elementwise.sql import Typed, candidates, compiled, run_time_value
from pipeline.ops.frames.partitions import Bound, require
from pipeline.worker.sql_engine import numbered, query, restored

__all__ = [
    "bound_names",
    "column_of",
    "columns_of",
    "condition",
    "field_of_expression",
    "may_warn",
    "plain_message",
    "sql_of",
]


def field_of_expression(place: str, expression: Expression, schema: pa.Schema, name: str = "") -> pa.Field:
    """The name, type and nullability of the column that the expression gives.

    Values that are unknown until the run may be of any kind for which the expression is defined.

    Raises
    ------
    OpError : an unknown column, or types that don't go together
    """
    require(place, sorted(expression.names, key=expression.text_column), schema.names, at=expression.text_column)
    failure: ExpressionError | None = None
    for values in candidates(len(expression.references)):
        try:
            found = _typed(expression, schema, values)
        except ExpressionError as error:  # not defined for a value of this kind
            failure = failure or error
        else:
            return pa.field(name, found.type, found.nullable)
    raise OpError(place, str(failure)) from failure


def condition(place: str, expression: Expression, schema: pa.Schema) -> None:
    """Check that an expression gives true or false.

    Raises
    ------
    OpError : it does not; or as of :func:`field_of_expression`
    """
    kind = field_of_expression(place, expression, schema).type
    if kind != pa.bool_():
        raise OpError(place, f"gives {type_name(kind)}, a condition is true or false; compare it: x != 0")


def bound_names(bound: Bound) -> list[Any]:
    """What run-time values a step reads, as something that tokenises."""
    return [(path, [value.key for value in values]) for path, values in sorted((bound or {}).items())]


# ---------------------------------------------------------------------------------------------------------------------
# Inside tasks
# ---------------------------------------------------------------------------------------------------------------------


def sql_of(expression: Expression, schema: pa.Schema, slots: Sequence[Any] = ()) -> Typed:
    """The expression as SQL over a table as :func:`pipeline.worker.sql_engine.numbered` makes it, and its type.

    Parameters
    ----------
    slots : the values of the expression's references

    Raises
    ------
    DataError : a value of the run for which the expression is not defined
    """
    try:
        return _typed(expression, schema, tuple(run_time_value(value) for value in slots))
    except ExpressionError as error:
        raise DataError(f"'{expression.text}': {error.message}") from error


def columns_of(
    table: pa.Table, columns: Sequence[tuple[Expression, pa.DataType]], slots: Sequence[Sequence[Any]]
) -> list[pa.ChunkedArray]:
    """The values of expressions over one partition, in the types found while building; one statement for all.

    Raises
    ------
    DataError : naming the expression that fails
    """
    found: dict[int, pa.ChunkedArray] = {}
    made: dict[int, str] = {}
    for i, ((expression, kind), values) in enumerate(zip(columns, slots or [()] * len(columns), strict=True)):
        if isinstance(expression.root, Name):
            column = table.column(table.schema.get_field_index(expression.root.name))
            found[i] = column if column.type == kind else restored(column, kind)
        else:
            made[i] = _sql_for(expression, table.schema, values, kind)
    if made:
        names = frozenset().union(*(columns[i][0].names for i in made))
        source = {"t": numbered(table, names)}
        try:
            result = query(f"select {', '.join(f'{sql} as e{i}' for i, sql in made.items())} from t", source)
        except DataError as error:
            for i, sql in made.items():
                _alone(sql, columns[i][0], source)
            raise DataError(plain_message(str(error))) from error
        for i, column in zip(made, result.columns, strict=True):
            try:
                found[i] = restored(column, columns[i][1])
            except DataError as error:
                raise DataError(f"'{columns[i][0].text}': {error}") from error
        for i in made:
            _warn_of_unread(columns[i][0], table.schema, (slots or [()] * len(columns))[i], source)
    return [found[i] for i in range(len(columns))]


def column_of(expression: Expression, table: pa.Table, slots: Sequence[Any], kind: pa.DataType) -> pa.ChunkedArray:
    """The value of one expression over one partition; see :func:`columns_of`."""
    return columns_of(table, [(expression, kind)], [slots])[0]


def may_warn(expression: Expression) -> bool:
    """Whether it counts what it can't read: ``parse_time(…, errors='missing')``."""
    return bool(_counting(expression))


def _counting(expression: Expression) -> list[Call]:
    calls = [node for node in walk(expression.root) if isinstance(node, Call)]
    return [call for call in calls if ("errors", Constant("missing")) in call.keywords]


def _sql_for(expression: Expression, schema: pa.Schema, values: Sequence[Any], kind: pa.DataType) -> str:
    typed = sql_of(expression, schema, values)
    if family(typed.type) != family(kind):
        raise DataError(
            f"'{expression.text}' gives {type_name(typed.type)} for the values that other steps gave, and "
            f"{type_name(kind)} was expected"
        )
    return typed.sql


def _warn_of_unread(
    expression: Expression, schema: pa.Schema, slots: Sequence[Any], source: dict[str, pa.Table]
) -> None:
    """Warn how many texts ``parse_time(…, errors='missing')`` could not read, and of the first of them."""
    for call in _counting(expression):
        text, time = (sql_of(replace(expression, root=node), schema, slots).sql for node in (call.args[0], call))
        bad = f"filter (where {text} is not null and {time} is null)"
        found = query(f"select count(*) {bad} as n, first({text}) {bad} as x from t", source)
        n, first = (column[0].as_py() for column in found.columns)
        if n:
            place = f"{n:,} of {next(iter(source.values())).num_rows:,}"
            warning = f"'{expression.text}': {place} texts are no times and missing now, as {first!r}"
            print(f"warning: {warning}", file=sys.stderr)


def _alone(sql: str, expression: Expression, source: dict[str, pa.Table]) -> None:
    try:
        query(f"select {sql} as e from t", source)
    except DataError as error:
        raise DataError(f"'{expression.text}': {plain_message(str(error))}") from None


_SIGNS = {"addition": "+", "subtraction": "-", "multiplication": "*", "division": "//"}
_EXACT = {"+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv}
_TO_FLOAT = "write number(x) to compute with float64"


def plain_message(text: str) -> str:
    """An error of the engine in the words of the language: what was computed, and what to write instead.

    >>> plain_message("Overflow in addition of INT64 (9223372036854775807 + 1)!")
    "9223372036854775807 + 1 is 9223372036854775808, which int64 can't hold; write number(x) to compute with float64"
    """
    if found := re.search(r"Overflow in (\w+) of (U?INT)(\d+) \((-?\d+) . (-?\d+)\)", text):
        op, a, b = _SIGNS.get(found[1], found[1]), int(found[4]), int(found[5])
        kind = f"{found[2].lower()}{found[3]}" if found[3] != "128" else "a whole number of 128 bits"
        return f"{a} {op} {b} is {_EXACT[op](a, b)}, which {kind} can't hold; {_TO_FLOAT}"
    if found := re.search(r"Overflow in division of (-?\d+) / (-?\d+)", text):
        a, b = int(found[1]), int(found[2])
        return f"{a} // {b} is {a // b}, which its type can't hold; write integer(x) for int64, or number(x)"
    if found := re.search(r"Overflow on abs\((-\d+)\)", text):
        return f"-({found[1]}) is {found[1][1:]}, which int64 can't hold; {_TO_FLOAT}"
    if found := re.search(r"Type U?INT\d+ with value (-?\d+) can't be cast .* type (U?INT\d+)", text):
        return f"{found[1]} is a value that {found[2].lower()} can't hold; {_TO_FLOAT}"
    return text


def _typed(expression: Expression, schema: pa.Schema, values: tuple[Any, ...]) -> Typed:
    return _compiled(expression.root, schema, values, repr(values))


@lru_cache(maxsize=512)
def _compiled(root: Any, schema: pa.Schema, values: tuple[Any, ...], exact: str) -> Typed:  # 1.0 equals True
    return compiled(root, columns_in(schema), values)


def columns_in(schema: pa.Schema) -> dict[str, Typed]:
    """The columns of a schema as :func:`pipeline.worker.sql_engine.numbered` names them."""
    return {field.name: Typed(f"c{i}", field.type, field.nullable) for i, field in enumerate(schema)}
