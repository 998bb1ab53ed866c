"""``pivot dummies cut``: columns or labels for values that are known before the run, so that the schema is, too.

Each is written as expressions of the language: a column of a pivot is an aggregate of the rows that have its value.
Only ``names: auto`` finds the values in the run; what it gives is one table, of which nothing is known before.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.functions import AGGREGATES
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import parse_time
from pipeline.config.expressions.tree import (
    Boolean,
    Call,
    Compare,
    Constant,
    Membership,
    Missing,
    Name,
    Node,
    constant_kind,
    map_nodes,
    render,
)
from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import family
from pipeline.graph.late_pandas import numbers_of
from pipeline.graph.nodes import ref, task
from pipeline.ops.collections import Frame, Single
from pipeline.ops.frames.aggregates import make_plan
from pipeline.ops.frames.columns import bound_names, field_of_expression
from pipeline.ops.frames.groupby import column_keys, planned
from pipeline.ops.frames.partitions import Bound, Partitions, require
from pipeline.ops.frames.select import assign, select
from pipeline.ops.frames.sort import starts_of_runs

__all__ = ["cut", "dummies", "pivot"]

_REST = "\0rest"  # no column of a user's
_NO_VALUE = "\0missing"  # no value of a user's
_VALUE, _OF_NONE = "\0value", "\0of none"  # no columns of a user's
_MOST = 10_000  # columns of a pivot whose values are found in the run

Names = Sequence[Any] | Mapping[str, Any]
"""Values, or what their columns are called and the values."""


def pivot(
    input: Frame,  # noqa: A002
    *,
    index: str | Sequence[str],
    columns: str,
    names: Names | Literal["auto"],
    agg: Expression,
    rest: str = "fail",
    bound: Bound = None,
) -> Frame | Single:
    """One row a group: its keys, then for each value of a column the aggregate of the rows that have it.

    Parameters
    ----------
    index : the columns of the keys
    columns : the column whose values become columns; rows where it is missing belong to none
    names : its values; of a map the keys are the names of the columns. ``auto``: those that there are, ascending; then
        the result is one ``pyarrow.Table``
    agg : an expression of aggregates
    rest : what other values do: ``fail``, or ``drop``
    bound : run-time values of the expression, under ``agg``

    Raises
    ------
    OpError : an unknown column, two columns of one name, a value that can't be compared with the column
    """
    require("columns", [columns], input.columns)
    if names == "auto":
        return _pivoted(input, index, columns, agg, bound)
    values = _called("names", names, _kind(input, columns))
    for value in values.values():
        field_of_expression("names", _expression(Compare(Name(columns), ("==",), (value,))), input.schema)
    of = {name: _only(agg, Compare(Name(columns), ("==",), (value,))) for name, value in values.items()}
    known = Membership(Name(columns), tuple(values.values()))
    text = Call("fill", (Call("text", (Name(columns),)), Constant(_NO_VALUE)))
    other = Call("first", (Call("where", (known, Missing(), text)),))
    keys = column_keys("index", index, input)
    plan = make_plan(keys, {**of, **({_REST: _expression(other)} if rest == "fail" else {})}, input.schema)
    parameters = ("pivot", index, columns, list(of), agg, rest, bound_names(bound))
    partitions = Partitions.of(input, parameters=parameters)
    given = dict.fromkeys((f"agg.{name}" for name in values), (bound or {}).get("agg", ()))
    schema = pa.schema([field for field in plan.schema if field.name != _REST])
    after = (without_rest, columns) if rest == "fail" else ()
    return planned(partitions, partitions.keys[0], plan, given, after=after, schema=schema)


def _pivoted(frame: Frame, index: str | Sequence[str], columns: str, agg: Expression, bound: Bound) -> Single:
    """One task makes the table of a group-by of the keys and the column; it has the aggregate of no rows as well."""
    keys = [index] if isinstance(index, str) else list(index)
    if columns in keys:
        raise OpError("columns", f"{columns!r} is one of the keys; name another column")
    given = {_VALUE: agg, _OF_NONE: _only(agg, Constant(False))}
    slots = dict.fromkeys((f"agg.{name}" for name in given), (bound or {}).get("agg", ()))
    plan = make_plan(column_keys("index", [*keys, columns], frame), given, frame.schema)
    partitions = Partitions.of(frame, parameters=("pivot auto", keys, columns, agg, bound_names(bound)))
    long = planned(partitions, partitions.keys[0], plan, slots)
    key = (f"table-{long.keys[0][0]}",)
    return Single(key, {**long.tasks, key: task(key, spread, ref(long.keys[0]), keys, columns)})


def dummies(input: Frame, *, column: str, names: Names) -> Frame:  # noqa: A002
    """The frame with a column replaced by one for each of its values: true where a row has it.

    Parameters
    ----------
    column : any column that can be compared
    names : its values, for columns ``COLUMN_VALUE``; of a map the keys are the names of the columns

    Raises
    ------
    OpError : an unknown column, a column that is there already, a value that can't be compared with the column
    """
    require("column", [column], input.columns)
    values = _called("names", names, _kind(input, column))
    if not isinstance(names, Mapping):
        values = {f"{column}_{name}": value for name, value in values.items()}
    kept = [name for name in input.columns if name != column]
    _absent("names", values, kept)
    made = {name: _expression(Compare(Name(column), ("==",), (value,))) for name, value in values.items()}
    return select(_assigned("names", input, made), columns=[*kept, *values])


def cut(
    input: Frame,  # noqa: A002
    *,
    column: str,
    bins: Sequence[Any],
    into: str,
    labels: Sequence[Any] | None = None,
    closed: str = "left",
) -> Frame:
    """The frame with a column that has the bin of each value; outside of all bins it is missing.

    Parameters
    ----------
    column : numbers or times
    bins : the edges of the bins, in ascending order
    into : name of the new column
    labels : of the bins, text or numbers; default: ``[0, 10)``
    closed : which edge belongs to a bin: ``left`` or ``right``

    Raises
    ------
    OpError : an unknown column, edges that don't ascend, as many labels as there are not bins
    """
    require("column", [column], input.columns)
    edges = [_constant("bins", edge, _kind(input, column)) for edge in bins]
    values = [edge.value for edge in edges]
    kinds = {constant_kind(value) for value in values}
    if len(kinds) > 1 or any(a >= b for a, b in itertools.pairwise(values)):
        raise OpError("bins", f"got {list(bins)}; edges are in ascending order")
    n = len(edges) - 1
    if labels is not None and len(labels) != n:
        raise OpError("labels", f"got {len(labels)}; {len(edges)} edges make {n} bins")
    marks = ("[{}, {})" if closed == "left" else "({}, {}]").format
    texts = [marks(a, b) for a, b in itertools.pairwise(bins)]
    of = [_constant("labels", label) for label in (texts if labels is None else labels)]
    below, above = ("<", ">=") if closed == "left" else ("<=", ">")

    def bin_of(first: int, last: int) -> Node:
        """The label of a value that lies in one of some bins."""
        if last - first == 1:
            return of[first]
        middle = (first + last) // 2
        left = Compare(Name(column), (below,), (edges[middle],))
        return Call("where", (left, bin_of(first, middle), bin_of(middle, last)))

    inside = Boolean(
        "and",
        (Compare(Name(column), (above,), (edges[0],)), Compare(Name(column), (below,), (edges[-1],))),
    )
    return _assigned("bins", input, {into: _expression(Call("where", (inside, bin_of(0, n), Missing())))})


# ---------------------------------------------------------------------------------------------------------------------
# Expressions
# ---------------------------------------------------------------------------------------------------------------------


def _expression(root: Node) -> Expression:
    return Expression(render(root), "columns", root)


def _kind(frame: Frame, column: str) -> str:
    return family(frame.schema.field(frame.columns.index(column)).type)


def _constant(place: str, value: Any, kind: str = "") -> Constant:
    """A value as a constant; of a column of times text is a time."""
    try:
        if hasattr(value, "isoformat") or (isinstance(value, str) and kind in ("time", "zoned time", "date")):
            return Constant(parse_time(value))
        constant_kind(value)
        return Constant(value)
    except ExpressionError as error:
        raise OpError(place, error.message) from error


def _called(place: str, names: Names, kind: str) -> dict[str, Constant]:
    """What the columns are called, and their values."""
    pairs = list(names.items()) if isinstance(names, Mapping) else [(_text(value), value) for value in names]
    found: dict[str, Constant] = {}
    for name, value in pairs:
        if name in found:
            raise OpError(place, f"two columns would be called {name!r}; write a map of names and values")
        found[name] = _constant(place, value, kind)
    return found


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _absent(place: str, names: Mapping[str, Any], columns: Sequence[str]) -> None:
    for name in names:
        if name in columns:
            raise OpError(place, f"{name!r} is a column already; write a map of names and values")


def _only(agg: Expression, condition: Node) -> Expression:
    """An expression of aggregates, of the rows for which a condition is true."""

    def restricted(node: Node) -> Node | None:
        if not isinstance(node, Call) or node.function not in AGGREGATES:
            return None
        kinds = [parameter.kind for parameter in AGGREGATES[node.function].parameters]
        given = node.args or (Constant(1),)
        args = [
            Call("where", (condition, arg, Missing())) if kind == "any" else arg
            for kind, arg in zip(kinds, given, strict=False)
        ]
        return Call(node.function, tuple(args), node.keywords, node.column)

    return Expression(agg.text, "agg", map_nodes(agg.root, restricted), agg.references)


def _assigned(place: str, frame: Frame, columns: Mapping[str, Expression]) -> Frame:
    """What ``assign`` gives; its errors stand at a parameter of this op."""
    try:
        return assign(frame, columns=columns)
    except OpError as error:
        raise OpError(place, error.message) from error


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def without_rest(table: pa.Table, columns: str) -> pa.Table:
    """The result, if every row had one of the values.

    Raises
    ------
    DataError : naming a value that is none of them
    """
    others = table.column(_REST).drop_null()
    if len(others):
        if others[0].as_py() == _NO_VALUE:
            cure = "give it a value by op fillna before, or write rest: drop"
            raise DataError(f"names: {columns!r} is missing in some rows; {cure}")
        raise DataError(f"names: {columns!r} is {others[0].as_py()!r} too; name it, or write rest: drop")
    return table.drop_columns([_REST])


def spread(table: pa.Table, keys: Sequence[str], columns: str) -> pa.Table:
    """A row for each group of keys, in their order, and a column for each value of ``columns``, in ascending order.

    Parameters
    ----------
    table : a row for each group of the keys and the column, in their order

    Raises
    ------
    DataError : too many values, or two that would be columns of one name
    """
    firsts = starts_of_runs(table.select(list(keys))) if keys else np.arange(table.num_rows) == 0
    starts, groups = np.flatnonzero(firsts), np.cumsum(firsts) - 1
    encoded = table.column(columns).combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    if len(values) > _MOST:
        cure = f"keep it long: op groupby, by: {[*keys, columns]}"
        raise DataError(
            f"columns: {columns!r} has {len(values):,} values; auto makes {_MOST:,} columns at most; {cure}"
        )
    codes = numbers_of(pc.fill_null(encoded.indices, pa.scalar(-1, encoded.indices.type)))
    rows = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[rows], np.arange(len(values) + 1))
    of_none = table.column(_OF_NONE)[0] if table.num_rows else None
    made = {name: table.column(name).take(pa.array(starts)) for name in keys}
    for place in sorted(range(len(values)), key=values.__getitem__):
        name, own = _text(values[place]), rows[bounds[place] : bounds[place + 1]]
        if name in made:
            raise DataError(f"columns: {columns!r} has a value for a column {name!r}, and there is one of this name")
        at = np.full(len(starts), -1)
        at[groups[own]] = own
        found = table.column(_VALUE).take(pa.array(at, pa.int64(), mask=at < 0))
        made[name] = pc.if_else(pa.array(at < 0), of_none, found)
    return pa.table(made)
