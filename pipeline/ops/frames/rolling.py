"""rolling of frames: aggregates over the rows, or the time, that lead up to each row or lie around it.

Rows are brought into one order first (by group, then by the column asked for, ties by the remaining columns). A window
may begin in an earlier partition: of each partition the rows that later windows can reach are cut off as its tail, and
a chain of small tasks hands the tails on. Windows around their rows reach into later partitions, too: the same chain
runs the other way. Every window is computed from its own values: a running sum that adds one
value and takes one away is faster, but what a large value leaves behind would depend on where partitions begin.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import parse_duration
from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import family, field_of, replaced, type_name
from pipeline.graph.graph import Key
from pipeline.graph.late_pandas import numbers_of
from pipeline.graph.nodes import listed, ref
from pipeline.ops.collections import Frame
from pipeline.ops.frames.aggregates import aggregate_field, take_apart
from pipeline.ops.frames.columns import bound_names, column_of, field_of_expression
from pipeline.ops.frames.moving_aggregates import Array, aggregates
from pipeline.ops.frames.partitions import Bound, Partitions, names_of, stack, taken
from pipeline.ops.frames.sort import in_order, starts_of_runs, total_order
from pipeline.worker.sql_engine import restored

__all__ = ["rolling"]

_FLOATS = frozenset({"mean", "std", "var", "median", "quantile"})
_NUMBERS = _FLOATS | {"sum"}
_KNOWN = _NUMBERS | {"min", "max", "first", "last", "count", "nunique", "any", "all"}


@dataclass(frozen=True)
class Moving:
    """One new column: ``value`` None for ``count()``; ``argument``: q or ddof; ``held``: the type of the value."""

    function: str
    value: Expression | None
    argument: Any
    held: Any
    field: pa.Field


@dataclass(frozen=True)
class Window:
    """The window of each row.

    Parameters
    ----------
    by : columns of groups; no window reaches into another group
    on : the column that rows are in order of
    rows : how many rows; None: ``span``
    span : so many microseconds up to and with the row's own, the moment so long before it left out
    center : whether the row, or its time, is the window's middle; an even number of rows reaches one further back
    least : values that a window needs
    """

    by: tuple[str, ...]
    on: str
    rows: int | None
    span: int | None
    center: bool
    least: int

    @property
    def rows_after(self) -> int:
        return (self.rows - 1) // 2 if self.rows is not None and self.center else 0

    @property
    def rows_before(self) -> int:
        return 0 if self.rows is None else self.rows - 1 - self.rows_after


def rolling(
    input: Frame,  # noqa: A002
    *,
    on: str,
    window: int | str,
    columns: Mapping[str, Expression],
    by: str | Sequence[str] | None = None,
    center: bool = False,
    min_periods: int | None = None,
    bound: Bound = None,
) -> Frame:
    """The rows in order of ``by`` and ``on``, with a column for each aggregate of the window that belongs to the row.

    Sums of whole numbers are int64 (of unsigned ones uint64) and exact, of decimals decimals of 38 digits; other sums,
    means, std, var, median and quantile are float64; min, max, first and last keep the type; count and nunique are
    int64, any and all bool. A row whose ``on`` is missing comes last; a window
    of time of it is empty.

    Parameters
    ----------
    on : the column that rows are in order of; ties are in the order of the remaining columns
    window : rows, the row itself among them; or a length of time, ``7d``
    columns : new column -> aggregate expression, as in groupby
    by : columns of groups, each with windows of its own
    center : whether a window has its row in the middle; else it ends there
    min_periods : values a window needs, else it is missing (but for counts, any and all); default: all rows of a window
        of rows, one of a window of time
    bound : run-time values of the expressions, under ``columns.NAME``

    Raises
    ------
    OpError : an unknown column, a value that the aggregate has no meaning for, a window of time over something else
    """
    (order_column,) = names_of("on", on, input.columns)
    groups = names_of("by", by, input.columns) if by else []
    if order_column in groups:
        raise OpError("on", f"'{order_column}' is a column of by, too: in a group all its values are equal")
    made = [_moving(name, expression, input.schema) for name, expression in columns.items()]
    reach = _window(tuple(groups), order_column, window, center, min_periods, input.schema)
    schema = replaced(input.schema, [column.field for column in made])
    parameters = ("rolling", reach, list(columns.items()), bound_names(bound))
    partitions = Partitions.of(input, parameters=parameters)
    slots = partitions.bind_all(bound, [f"columns.{name}" for name in columns])
    how = (made, reach, slots, schema)
    names = [*groups, order_column]
    order = total_order(names, [True] * len(names), input.columns)
    ordered = in_order(partitions, partitions.keys[0], order)
    before = _reached(partitions, "tail", ordered, tail_of, reach)
    after = _reached(partitions, "head", ordered[::-1], head_of, reach)[::-1] if center else [[] for _ in ordered]
    rolled = [
        partitions.add("roll", (i,), roll, listed(map(ref, before[i])), ref(key), listed(map(ref, after[i])), *how)
        for i, key in enumerate(ordered)
    ]
    return partitions.frame(rolled, schema)


def _moving(name: str, expression: Expression, schema: pa.Schema) -> Moving:
    place = f"columns.{name}"
    function, inner, argument = take_apart(place, expression)
    if function not in _KNOWN:
        raise OpError(place, f"{function}(x) has no meaning for a window that moves; use {', '.join(sorted(_KNOWN))}")
    if inner is None:
        return Moving(function, None, argument, None, pa.field(name, pa.int64(), False))
    found = field_of_expression(place, inner, schema)
    holds = family(found.type)
    if function in _NUMBERS and holds not in ("number", "true/false"):
        raise OpError(place, f"{function}(x) of a window needs numbers; got {type_name(found.type)}; take number(x)")
    if function == "nunique" and holds in ("list", "struct"):
        raise OpError(place, f"nunique(x) has no meaning for {type_name(found.type)}")
    field = aggregate_field(place, function, found, full=False)
    return Moving(
        function, inner, argument, found.type, field.with_name(name).with_nullable(function not in _NEVER_MISSING)
    )


_NEVER_MISSING = frozenset({"count", "nunique", "any", "all"})


def _window(
    by: tuple[str, ...], on: str, window: int | str, center: bool, least: int | None, schema: pa.Schema
) -> Window:
    if isinstance(window, int):
        if least is not None and least > window:
            raise OpError("min_periods", f"got {least}, more than the {window} rows of the window")
        return Window(by, on, window, None, center, least or window)
    try:
        length = parse_duration(window)
    except ExpressionError as error:
        raise OpError("window", str(error)) from error
    span = int(np.timedelta64(length, "us").astype(np.int64))
    if span <= 0:
        raise OpError("window", f"got {window!r}; a window is longer than nothing")
    kind = field_of(schema, on).type
    if family(kind) not in ("time", "zoned time", "date"):
        raise OpError("window", f"got {window!r}, but '{on}' is {type_name(kind)}; a length of time needs times")
    return Window(by, on, None, span, center, least or 1)


def _reached(
    partitions: Partitions, layer: str, keys: Sequence[Key], cut: Callable[..., pa.Table], reach: Window
) -> list[list[Key]]:
    """For each partition, on the way along ``keys``, what windows reach of those passed: a key, for the first none."""
    passed: list[list[Key]] = [[]]
    for i, key in enumerate(keys[:-1]):
        own = partitions.add(f"{layer}-own", (i,), cut, listed([ref(key)]), reach)
        both = [*passed[-1], own] if layer == "tail" else [own, *passed[-1]]
        passed.append([partitions.add(layer, (i,), cut, listed(map(ref, both)), reach) if i else own])
    return passed


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def tail_of(tables: Sequence[pa.Table], reach: Window) -> pa.Table:
    """The rows that windows of later rows can reach: of the last group only."""
    table = stack(tables)
    n = table.num_rows
    if not n:
        return table
    first = _firsts(table, reach)[-1]
    if reach.rows is not None:
        return taken(table, np.arange(max(first, n - reach.rows_before), n))
    times, present = _times(table, reach)
    if not present[-1]:  # so are those that follow in the group
        return table.slice(0, 0)
    back, _ = _lengths(table, reach)
    rows = np.arange(first, n)
    return taken(table, rows[times[first:] > _earlier(times[-1:], back)])


def head_of(tables: Sequence[pa.Table], reach: Window) -> pa.Table:
    """The rows that windows of earlier rows can reach: of the first group only."""
    table = stack(tables)
    if not table.num_rows:
        return table
    end = [*_firsts(table, reach)[1:], table.num_rows][0]
    rows = np.arange(end)
    if reach.rows is not None:
        return taken(table, rows[: reach.rows_after])
    times, present = _times(table, reach)
    rows = rows[present[:end]]
    _, ahead = _lengths(table, reach)
    return taken(table, rows[times[rows] <= _later(times[:1], ahead)])


def roll(
    before: Sequence[pa.Table],
    table: pa.Table,
    after: Sequence[pa.Table],
    made: Sequence[Moving],
    reach: Window,
    slots: Sequence[Sequence[Any]],
    schema: pa.Schema,
) -> pa.Table:
    """One ordered partition with the aggregates of the windows of its rows."""
    whole = stack([*before, table, *after])
    n = sum(some.num_rows for some in before)
    starts, stops = (bounds[n : n + table.num_rows] for bounds in _bounds(whole, reach))
    columns = dict(zip(table.column_names, table.columns, strict=True))
    for column, values in zip(made, slots, strict=True):
        if column.value is None:
            found: Any = pa.array(stops - starts, pa.int64())
        else:
            held = column_of(column.value, whole, values, column.held).combine_chunks()
            more = {"least": reach.least, "kind": column.field.type, "argument": column.argument}
            try:
                found = aggregates(column.function, held, starts, stops, **more)
            except DataError as error:
                raise DataError(f"columns.{column.field.name}: {error}") from error
        columns[column.field.name] = restored(pa.chunked_array([found]), column.field.type)
    return pa.Table.from_arrays(list(columns.values()), schema=schema)


def _firsts(table: pa.Table, reach: Window) -> Array:
    """The first row of each group of ordered rows."""
    return np.flatnonzero(starts_of_runs(table.select(list(reach.by)))) if table.num_rows else np.zeros(0, np.int64)


def _times(table: pa.Table, reach: Window) -> tuple[Array, Array]:
    """Times as whole numbers from 0 on, the differences of which fit, and which are there."""
    column = table.column(reach.on)
    present = numbers_of(column.is_valid())
    ticks = column.cast(pa.int32()).cast(pa.int64()) if pa.types.is_date(column.type) else column.cast(pa.int64())
    per = _MICROSECONDS.get(_unit(column.type), 1)
    return (numbers_of(pc.fill_null(ticks, pa.scalar(0, pa.int64()))) * per).view(np.uint64) ^ np.uint64(2**63), present


def _earlier(times: Array, span: int) -> Array:
    """Times less a span, at least 0."""
    length = np.uint64(min(span, _LAST))
    return np.where(times < length, np.uint64(0), times - length)


def _later(times: Array, span: int) -> Array:
    """Times and a span, at most the last one that there is."""
    length = np.uint64(min(span, _LAST))
    return np.where(times > np.uint64(_LAST) - length, np.uint64(_LAST), times + length)


_LAST = 2**64 - 1
_MICROSECONDS = {"day": 86_400_000_000, "s": 1_000_000, "ms": 1000}


def _unit(kind: pa.DataType) -> str:
    return "day" if pa.types.is_date(kind) else str(kind.unit)


def _lengths(table: pa.Table, reach: Window) -> tuple[int, int]:
    """How far a window reaches back and ahead of a time, in the unit of :func:`_times`."""
    span = (reach.span or 0) * (1000 if _unit(table.schema.field(reach.on).type) == "ns" else 1)
    ahead = span // 2 if reach.center else 0
    return span - ahead, ahead


def _bounds(table: pa.Table, reach: Window) -> tuple[Array, Array]:
    """For each row of ordered ones where its window starts, and where it stops."""
    n = table.num_rows
    rows = np.arange(n)
    if not n:
        return rows, rows
    firsts = _firsts(table, reach)
    ends = np.append(firsts[1:], n)
    if reach.rows is not None:
        lengths = np.diff(firsts, append=n)
        starts, stops = rows - reach.rows_before, rows + reach.rows_after + 1
        return np.maximum(np.repeat(firsts, lengths), starts), np.minimum(np.repeat(ends, lengths), stops)
    times, present = _times(table, reach)
    back, ahead = _lengths(table, reach)
    starts, stops = rows + 1, rows + 1  # of a missing time: nothing
    for first, end in itertools.pairwise([*firsts, n]):
        some = slice(first, first + int(present[first:end].sum()))  # missing ones are the last of their group
        starts[some] = first + np.searchsorted(times[some], _earlier(times[some], back), side="right")
        if reach.center:
            stops[some] = first + np.searchsorted(times[some], _later(times[some], ahead), side="right")
    return starts, stops
