"""window: columns from the rows of the same group: ranks, rows before and after, running sums, aggregates of the group.

The rows of a group come into one task: they are sent by a hash of ``by``; without ``by`` one task gets all rows. There
they are brought into one order (by group, then as asked for, ties by the remaining columns), so that what a row gets
does not depend on how the input was cut. Functions of windows and aggregates become columns of their own, and what is
computed with them is an expression like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.functions import AGGREGATES, WINDOWS
from pipeline.config.expressions.tree import Call, Constant, Name, Node, map_nodes, render
from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import family, replaced, type_name
from pipeline.graph.late_pandas import numbers_of
from pipeline.graph.nodes import listed, ref
from pipeline.ops import data_movement
from pipeline.ops.collections import Frame
from pipeline.ops.frames.aggregates import aggregate_field, key_of, make_plan
from pipeline.ops.frames.aggregation_plan import Plan
from pipeline.ops.frames.aggregation_tasks import aggregate_rows, project
from pipeline.ops.frames.columns import bound_names, column_of, columns_of, field_of_expression
from pipeline.ops.frames.partitions import Bound, Partitions, exchange, names_of, places_by_hash
from pipeline.ops.frames.sort import Order, sort_together, starts_of_runs, total_order
from pipeline.worker.sql_engine import numbered, query, restored

__all__ = ["window"]

_GROUP = "\0group"  # the number of a row's group; no column of a user's
_ORDERED = frozenset({*WINDOWS, "first", "last", "list", "join"})
_RUNNING = {"cumsum": "sum", "cummin": "min", "cummax": "max"}

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class WindowCall:
    """A call of a function of windows.

    Parameters
    ----------
    path : where it stands in the step
    value : what it is called with; None: nothing
    n : how many rows before or after
    held : the type of the value
    field : the column that holds what it gives
    """

    path: str
    function: str
    value: Expression | None
    n: int
    held: Any
    field: pa.Field


@dataclass(frozen=True)
class Windows:
    """What every task of the step knows.

    Parameters
    ----------
    order : of the rows; ``peers``: the columns in which rows of one rank are equal
    plan : the aggregates of groups
    columns : the new columns, over those of the input, of ``around`` and of ``plan``
    """

    by: tuple[str, ...]
    order: Order
    peers: tuple[str, ...]
    around: tuple[WindowCall, ...]
    plan: Plan | None
    columns: tuple[tuple[Expression, pa.Field], ...]
    schema: pa.Schema


def window(
    input: Frame,  # noqa: A002
    *,
    columns: Mapping[str, Expression],
    by: str | Sequence[str] | None = None,
    order: str | Sequence[str] | None = None,
    ascending: bool | Sequence[bool] = True,
    bound: Bound = None,
) -> Frame:
    """The rows with columns added or replaced; each from the rows of the same group.

    Aggregates are those of the whole group, as in a groupby. ``rank() dense_rank() row_number()`` count from 1;
    ``lag(x, n) lead(x, n)`` are the value n rows (1) before and after, missing beyond the group; ``cumsum cummin
    cummax`` go from the first row of the group to this one, without missing values. All columns are computed from the
    input's.

    Parameters
    ----------
    by : columns of groups, missing values being equal to each other; default: all rows are one group
    order : the columns that rows of a group are in order of; ties are in the order of the remaining columns, but have
        one rank
    ascending : one for all, or one a column
    bound : run-time values of the expressions, under ``columns.NAME``

    Raises
    ------
    OpError : an unknown column, an order that is missing, a value that the function has no meaning for
    DataError : in the run, a sum that its type can't hold
    """
    groups = names_of("by", by, input.columns) if by else []
    names = names_of("order", order, input.columns, ordered=True) if order else []
    directions = [ascending] * len(names) if isinstance(ascending, bool) else list(ascending)
    if len(directions) != len(names):
        raise OpError("ascending", f"got {len(directions)} directions for {len(names)} columns of order")
    both = [name for name in names if name in groups]
    if both:
        raise OpError("order", f"'{both[0]}' is a column of by, too: in a group all its values are equal")
    making = _Making(input.schema, groups, bool(names))
    made = tuple(making.column(name, expression) for name, expression in columns.items())
    windows = Windows(
        tuple(groups),
        total_order([*groups, *names], [True] * len(groups) + directions, input.columns),
        tuple(names),
        tuple(making.around),
        making.plan(),
        made,
        replaced(input.schema, [field for _, field in made]),
    )
    parameters = ("window", groups, names, directions, list(columns.items()), bound_names(bound))
    partitions = Partitions.of(input, parameters=parameters)
    values = [] if windows.plan is None else [value.path for value in (*windows.plan.keys, *windows.plan.values)]
    paths = (
        [a.path for a in windows.around],
        [making.paths.get(p, p) for p in values],
        [f"columns.{n}" for n in columns],
    )
    slots = [partitions.bind_all(bound, some) for some in paths]
    (keys,) = partitions.keys
    n = len(keys)
    if n > 1 and groups:
        pieces = exchange(partitions, "groups", keys, n, partial(places_by_hash, names=tuple(groups), n=n))
    else:
        pieces = [list(keys)]
        if n > 1:
            data_movement.note("window without by: all rows come into one task")
    ends = [
        partitions.add("window", (i,), with_windows, listed(map(ref, some)), windows, *slots)
        for i, some in enumerate(pieces)
    ]
    return partitions.frame(ends, windows.schema, lengths=input.lengths if n == 1 else None)


class _Making:
    """The calls among the expressions of a step, each made a column that holds what it gives."""

    def __init__(self, schema: pa.Schema, by: Sequence[str], ordered: bool) -> None:
        self.schema, self.by, self.ordered = schema, by, ordered
        self.fields: list[pa.Field] = []
        self.around: list[WindowCall] = []
        self.aggregates: dict[str, Expression] = {}
        self.paths: dict[str, str] = {}  # of an aggregate among those of the plan -> in the step

    def column(self, name: str, expression: Expression) -> tuple[Expression, pa.Field]:
        path = f"columns.{name}"

        def held(node: Node) -> Node | None:
            if not isinstance(node, Call) or node.function not in {*AGGREGATES, *WINDOWS}:
                return None
            return Name(self.held(path, name, node, expression), node.column)

        outer = Expression(expression.text, "columns", map_nodes(expression.root, held), expression.references)
        own = pa.schema([*self.schema, *self.fields])
        return outer, field_of_expression(path, outer, own, name)

    def held(self, path: str, name: str, call: Call, whole: Expression) -> str:
        """The column that holds what a call gives; it is called as messages name it."""
        if call.function in _ORDERED and not self.ordered:
            raise OpError("order", f"is missing; {render(call, whole.references)} needs an order of the rows")
        column = f"{name}: {render(call, whole.references)}"
        while column in self.schema.names or column in (field.name for field in self.fields):
            column += " "
        if call.function in AGGREGATES:
            own = Expression(whole.text, "agg", call, whole.references)
            try:
                plan = make_plan([self.group()], {column: own}, self.numbered(), place="columns")
            except OpError as error:
                raise OpError(path, error.message) from error
            self.paths |= {f"columns.{column}": path}
            self.aggregates[column] = own
            self.fields.append(plan.schema.field(1))
        else:
            found = self.called(path, column, call, whole)
            self.around.append(found)
            self.fields.append(found.field)
        return column

    def called(self, path: str, column: str, call: Call, whole: Expression) -> WindowCall:
        function = call.function
        if not call.args:
            return WindowCall(path, function, None, 0, None, pa.field(column, pa.int64(), False))
        value = Expression(whole.text, "columns", call.args[0], whole.references)
        found = field_of_expression(path, value, self.schema)
        if function in ("lag", "lead"):
            given = call.args[1] if len(call.args) > 1 else Constant(1)
            n = given.value if isinstance(given, Constant) else -1
            if n < 0:
                raise OpError(path, f"n of {function}(x, n) is a number of rows, at least 0, known before the run")
            return WindowCall(path, function, value, n, found.type, found.with_name(column).with_nullable(True))
        aggregate = _RUNNING[function]
        try:
            field = aggregate_field(path, aggregate, found, full=True)
        except OpError as error:
            raise OpError(path, error.message.replace(f"{aggregate}(x)", f"{function}(x)")) from error
        return WindowCall(path, function, value, 0, found.type, field.with_name(column))

    def group(self) -> Any:
        return key_of("by", _GROUP, Expression(_GROUP, "columns", Name(_GROUP)), self.numbered())

    def numbered(self) -> pa.Schema:
        return self.schema.append(pa.field(_GROUP, pa.int64(), False))

    def plan(self) -> Plan | None:
        """The aggregates of groups, which are numbered; None: there are none."""
        return make_plan([self.group()], self.aggregates, self.numbered(), place="columns") if self.aggregates else None


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def with_windows(
    tables: Sequence[pa.Table],
    windows: Windows,
    around: Sequence[Sequence[Any]],
    values: Sequence[Sequence[Any]],
    slots: Sequence[Sequence[Any]],
) -> pa.Table:
    """The rows of whole groups with the new columns, in order.

    Parameters
    ----------
    around, values, slots : the run-time values of the calls, of what is aggregated, and of the new columns
    """
    table = sort_together(tables, windows.order)
    new = starts_of_runs(table.select(list(windows.by)))
    groups = np.cumsum(new) - 1
    rows = table
    for call, given in zip(windows.around, around, strict=True):
        try:
            column = _around(call, given, table, new, groups, windows)
        except DataError as error:
            raise DataError(f"{call.path}: {error}") from error
        rows = rows.append_column(call.field, column)
    if windows.plan is not None:
        found = _aggregated(table, groups, windows.plan, values)
        for field, column in zip(found.schema, found.columns, strict=True):
            rows = rows.append_column(field, column)
    made = columns_of(rows, [(expression, field.type) for expression, field in windows.columns], slots)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns |= {field.name: column for (_, field), column in zip(windows.columns, made, strict=True)}
    return pa.Table.from_arrays(list(columns.values()), schema=windows.schema)


def _aggregated(table: pa.Table, groups: Numbers, plan: Plan, values: Sequence[Sequence[Any]]) -> pa.Table:
    """The aggregates of each row's group."""
    source = table.append_column(pa.field(_GROUP, pa.int64(), False), pa.array(groups, pa.int64()))
    none: list[Any] = [()] * len(plan.columns)
    found = aggregate_rows([project(source, plan, values)], plan, none)  # in the order of the groups
    return found.select(found.column_names[1:]).take(pa.array(groups, pa.int64()))


def _around(
    call: WindowCall, given: Sequence[Any], table: pa.Table, new: Flags, groups: Numbers, windows: Windows
) -> pa.ChunkedArray:
    n = table.num_rows
    rows = np.arange(n)
    starts = np.flatnonzero(new)
    first = starts[groups] if n else rows
    if call.value is None:
        if call.function == "row_number":
            return pa.chunked_array([pa.array(rows - first + 1, pa.int64())])
        ranked = new | starts_of_runs(table.select([*windows.by, *windows.peers]))
        if call.function == "rank":
            found = np.maximum.accumulate(np.where(ranked, rows, 0)) - first + 1 if n else rows
        else:
            reached = np.cumsum(ranked)
            found = reached - reached[first] + 1 if n else rows
        return pa.chunked_array([pa.array(found, pa.int64())])
    values = column_of(call.value, table, given, call.held)
    if call.function in ("lag", "lead"):
        ends = np.append(starts[1:], n)[groups] if n else rows
        places = rows - call.n if call.function == "lag" else rows + call.n
        beyond = (places < first) | (places >= ends)
        return values.take(pa.array(np.where(beyond, 0, places), pa.int64(), mask=beyond))
    return _running(call, values, starts, groups)


def _running(call: WindowCall, values: pa.ChunkedArray, starts: Numbers, groups: Numbers) -> pa.ChunkedArray:
    kind = call.field.type
    if call.function == "cumsum" and pa.types.is_floating(kind):
        # one after the other: sums of SQL's windows depend on where a group lies among others
        numbers = numbers_of(pc.fill_null(values.cast(pa.float64()), pa.scalar(0.0, pa.float64())))
        with np.errstate(all="ignore"):
            pieces = [np.cumsum(piece) for piece in np.split(numbers, starts[1:])]
        sums = np.concatenate(pieces)
        return pa.chunked_array([pa.array(sums, mask=np.isnan(sums))])
    number = "::utinyint" if call.function == "cumsum" and family(call.held) == "true/false" else ""
    source = numbered(pa.table([values, groups], names=["v", "g"]), rows="r")
    found = query(
        f"select {_RUNNING[call.function]}(c0{number}) over "
        "(partition by c1 order by r rows between unbounded preceding and current row) from t order by r",
        {"t": source},
    ).column(0)
    if call.function == "cumsum":
        found = pc.fill_null(found, 0)
    try:
        return restored(found, kind)
    except DataError as error:
        raise DataError(f"a running sum does not fit {type_name(kind)}; take number(x) to sum as float64") from error
