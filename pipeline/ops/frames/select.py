"""``select filter assign concat``: columns and rows as they are, one task a partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.expressions.expression import Expression
from pipeline.errors import OpError
from pipeline.graph.column_types import common_type, conform, replaced, type_name
from pipeline.graph.nodes import ref
from pipeline.ops.collections import Frame
from pipeline.ops.frames.columns import (
    bound_names,
    column_of,
    columns_of,
    condition,
    field_of_expression,
    may_warn,
    sql_of,
)
from pipeline.ops.frames.partitions import Bound, Partitions, require
from pipeline.ops.sources.scan_conditions import is_comparison
from pipeline.worker.sql_engine import types_of
from pipeline.worker.statement_chains import Relation, as_statement

__all__ = ["assign", "concat", "filter", "select"]


def select(
    input: Frame,  # noqa: A002
    *,
    columns: str | Sequence[str] | Mapping[str, Expression],
    bound: Bound = None,
) -> Frame:
    """These columns, in this order; in a map each is the value of an expression over the columns of the input.

    Parameters
    ----------
    bound : run-time values of the expressions, under ``columns.NAME``

    Raises
    ------
    OpError : an unknown column, one that is named twice, or types that don't go together
    """
    if isinstance(columns, Mapping):
        return _computed(input, columns, bound)
    names = [columns] if isinstance(columns, str) else list(columns)
    require("columns", names, input.columns)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OpError("columns", f"'{twice[0]}' is named twice")
    schema = pa.schema([input.schema.field(input.columns.index(name)) for name in names])
    partitions = Partitions.of(input, parameters=("select", names))
    return partitions.map("select", keep_columns, schema, names, same_rows=True)


def _computed(input: Frame, columns: Mapping[str, Expression], bound: Bound) -> Frame:  # noqa: A002
    fields = [field_of_expression(f"columns.{name}", e, input.schema, name) for name, e in columns.items()]
    schema = pa.schema(fields)
    partitions = Partitions.of(input, parameters=("select", list(columns.items()), bound_names(bound)))
    slots = partitions.bind_all(bound, [f"columns.{name}" for name in columns])
    return partitions.map("select", only_columns, schema, list(columns.values()), schema, slots, same_rows=True)


def filter(input: Frame, *, where: Expression, bound: Bound = None) -> Frame:  # noqa: A001, A002
    """The rows for which ``where`` is true; missing is not true.

    Parameters
    ----------
    where : a condition over its columns
    bound : run-time values of the expression, under ``where``

    Raises
    ------
    OpError : an unknown column, or a ``where`` that is neither true nor false
    """
    condition("where", where, input.schema)
    partitions = Partitions.of(input, parameters=("filter", where, bound_names(bound)))
    slots = partitions.bind(bound, "where")
    return partitions.map("filter", keep_rows, input.schema, where, slots, some_rows=True)


def assign(input: Frame, *, columns: Mapping[str, Expression], bound: Bound = None) -> Frame:  # noqa: A002
    """The frame with columns added, or replaced in their places; later ones see earlier ones.

    Parameters
    ----------
    columns : an expression a column
    bound : run-time values of the expressions, under ``columns.NAME``

    Raises
    ------
    OpError : an unknown column, or types that don't go together
    """
    schema = input.schema
    new: list[tuple[Expression, pa.Field]] = []
    for name, expression in columns.items():
        field = field_of_expression(f"columns.{name}", expression, schema, name)
        schema = replaced(schema, [field])
        new.append((expression, field))
    partitions = Partitions.of(input, parameters=("assign", list(columns.items()), bound_names(bound)))
    slots = partitions.bind_all(bound, [f"columns.{name}" for name in columns])
    return partitions.map("assign", add_columns, schema, new, slots, same_rows=True)


def concat(*inputs: Any, columns: str = "same") -> Frame:
    """The rows of all inputs, as their partitions lie; columns in the order of the first input.

    Columns of several types get the type that holds the values of all; a partition that already has the types of the
    result costs no task.

    Parameters
    ----------
    inputs : frames with the same columns; one list of them will do; of gathered copies, as ``(labels, frame)``, the
        labels are the first columns
    columns : ``same``: all frames must have the same; ``union``: those of all, missing where a frame lacks them

    Raises
    ------
    OpError : a column that only some have, one named as a label's key, or types that have nothing in common
    """
    given = list(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], list | tuple) else list(inputs)
    mixed = _mixed_numbers([one[0] for one in given if isinstance(one, tuple)])
    frames = [_labelled(one[0], one[1], mixed) if isinstance(one, tuple) else one for one in given]
    first = frames[0]
    names = list(dict.fromkeys(name for frame in frames for name in frame.columns))
    for i, frame in enumerate(frames[1:] if columns == "same" else (), start=2):
        odd = sorted(set(first.columns) ^ set(frame.columns))
        if odd:
            has, lacks = (1, i) if odd[0] in first.columns else (i, 1)
            raise OpError(
                "input",
                f"'{odd[0]}' is a column of input {has} and not of input {lacks}; select the same columns of each, or "
                "write columns: union",
            )
    schema = pa.schema([_common_field(name, [frame.schema for frame in frames]) for name in names])
    partitions = Partitions.of(*frames, parameters=("concat", columns))
    keys = []
    for i, (frame, own) in enumerate(zip(frames, partitions.keys, strict=True)):
        same = frame.schema.equals(schema)
        for j, key in enumerate(own):
            keys.append(key if same else partitions.add("conform", (i, j), united, ref(key), schema))
    known = [lengths for lengths in partitions.lengths if lengths is not None]
    lengths = tuple(n for some in known for n in some) if len(known) == len(frames) else None
    return partitions.frame(keys, schema, lengths=lengths)


def _mixed_numbers(labels: Sequence[Mapping[str, Any]]) -> set[str]:
    """The matrix keys with floats among their values: all of them are floats then."""
    return {key for one in labels for key, value in one.items() if isinstance(value, float)}


def _labelled(labels: Mapping[str, Any], frame: Frame, floats: set[str]) -> Frame:
    """The frame with the labels of its copy as first columns."""
    for key in labels:
        if key in frame.columns:
            raise OpError("input", f"{key!r} is a matrix key and a column; rename one of them")
    scalars = {
        key: pa.scalar(float(value) if key in floats and type(value) is int else value) for key, value in labels.items()
    }
    schema = pa.schema([*(pa.field(key, value.type, nullable=False) for key, value in scalars.items()), *frame.schema])
    partitions = Partitions.of(frame, parameters=("labels", dict(labels)))
    return partitions.map("labels", with_labels, schema, scalars, schema, same_rows=True)


def _common_field(name: str, schemas: Sequence[pa.Schema]) -> pa.Field:
    """The type of a column that holds the values of all frames that have it."""
    fields = [schema.field(name) for schema in schemas if name in schema.names]
    common = common_type([field.type for field in fields])
    if common is not None:
        return pa.field(name, common, len(fields) < len(schemas) or any(field.nullable for field in fields))
    raise OpError(
        "input",
        f"column '{name}' is {' and '.join(dict.fromkeys(type_name(field.type) for field in fields))}; make it one "
        "type: `cast` in the reader, or integer(x), number(x), text(x) in an assign before",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def keep_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The columns ``names`` of one partition."""
    return table.select(list(names))


def only_columns(
    table: pa.Table, expressions: Sequence[Expression], schema: pa.Schema, slots: Sequence[Sequence[Any]]
) -> pa.Table:
    """The values of expressions over one partition, and no other columns."""
    columns = [(e, field.type) for e, field in zip(expressions, schema, strict=True)]
    return pa.Table.from_arrays(columns_of(table, columns, slots), schema=schema)


def keep_rows(table: pa.Table, where: Expression, slots: Sequence[Any]) -> pa.Table:
    """The rows of one partition for which ``where`` is true."""
    kept = column_of(where, table, slots, pa.bool_())
    return table if pc.all(kept, skip_nulls=False).as_py() else table.filter(kept)


@as_statement(keep_columns)
def _columns_kept(table: Relation, names: Sequence[str]) -> Relation | None:
    if not table.made <= set(names):
        return None
    schema = pa.schema([table.schema.field(name) for name in names])
    picked = ", ".join(f"c{table.schema.get_field_index(name)} as c{i}" for i, name in enumerate(names))
    return replace(table, sql=f"select {picked} from ({table.sql})", schema=schema)


@as_statement(keep_rows)
def _rows_kept(table: Relation, where: Expression, slots: Sequence[Any]) -> Relation | None:
    if table.made or not is_comparison(where.root):  # what can fail must see the rows that it sees by itself
        return None
    condition = sql_of(where, table.schema, slots).sql
    return replace(table, sql=f"select * from ({table.sql}) where {condition}", n_rows=None)


def add_columns(
    table: pa.Table, columns: Sequence[tuple[Expression, pa.Field]], slots: Sequence[Sequence[Any]]
) -> pa.Table:
    """One partition with columns added in order; those that need none of each other are one statement."""
    waiting: list[tuple[Expression, pa.Field, Sequence[Any]]] = []
    for (expression, field), values in zip(columns, slots, strict=True):
        if any(other.name in expression.names for _, other, _ in waiting):
            table, waiting = _with_columns(table, waiting), []
        waiting.append((expression, field, values))
    return _with_columns(table, waiting)


@as_statement(add_columns)
def _columns_added(
    table: Relation, columns: Sequence[tuple[Expression, pa.Field]], slots: Sequence[Sequence[Any]]
) -> Relation | None:
    for (expression, field), values in zip(columns, slots, strict=True):
        if field.name in table.made or may_warn(expression):
            return None
        made = sql_of(expression, table.schema, values)
        schema = replaced(table.schema, [field])
        place = schema.get_field_index(field.name)
        picked = ", ".join(f"{made.sql if i == place else f'c{i}'} as c{i}" for i in range(len(schema)))
        sql = f"select {picked} from ({table.sql})"
        if types_of(f"select c{place} from ({sql})", table.tables, table.parameters) != [field.type]:
            return None
        table = replace(table, sql=sql, schema=schema, made=table.made | {field.name})
    return table


def _with_columns(table: pa.Table, new: Sequence[tuple[Expression, pa.Field, Sequence[Any]]]) -> pa.Table:
    made = columns_of(table, [(e, field.type) for e, field, _ in new], [values for _, _, values in new])
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns |= {field.name: column for (_, field, _), column in zip(new, made, strict=True)}
    return pa.Table.from_arrays(list(columns.values()), schema=replaced(table.schema, [field for _, field, _ in new]))


def united(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of a schema; those that the partition lacks are missing."""
    for field in schema:
        if field.name not in table.schema.names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return conform(table, schema)


def with_labels(table: pa.Table, labels: Mapping[str, pa.Scalar], schema: pa.Schema) -> pa.Table:
    """The rows with the same values in each as first columns."""
    new = [pa.chunked_array([pa.repeat(value, table.num_rows)]) for value in labels.values()]
    return pa.Table.from_arrays([*new, *table.columns], schema=schema)
