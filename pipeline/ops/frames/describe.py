"""``describe``: a row a column, with what its values are like."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.tree import Call, Constant, Name
from pipeline.errors import OpError
from pipeline.graph.column_types import family, type_name
from pipeline.graph.graph import Key
from pipeline.graph.nodes import listed, ref
from pipeline.ops.collections import Frame
from pipeline.ops.frames.aggregates import make_plan
from pipeline.ops.frames.groupby import planned
from pipeline.ops.frames.partitions import Partitions, names_of

__all__ = ["describe"]

_NUMBERS = ("mean", "std", "q25", "median", "q75")
SCHEMA = pa.schema(
    [
        pa.field("column", pa.string(), False),
        pa.field("type", pa.string(), False),
        pa.field("count", pa.int64(), False),
        pa.field("missing", pa.int64(), False),
        pa.field("min", pa.string()),
        pa.field("max", pa.string()),
        *(pa.field(name, pa.float64()) for name in _NUMBERS),
    ]
)


def describe(input: Frame, *, columns: str | Sequence[str] | None = None) -> Frame:  # noqa: A002
    """A row a column, in their order: name, type, how many values are there and are missing, the least and the largest
    one as text, of numbers mean, std (ddof 1), quartiles and median.

    Each column is read by tasks of its own: the quartiles of one need all its values at once.

    Parameters
    ----------
    columns : default: all

    Raises
    ------
    OpError : an unknown column, or a frame without columns
    """
    names = list(input.columns) if columns is None else names_of("columns", columns, input.columns)
    if not names:
        raise OpError("columns", "the frame has no columns")
    rows: list[Key] = []
    tasks = dict(input.tasks)
    for name in names:
        kind = input.schema.field(input.columns.index(name)).type
        agg = _aggregates(name, kind)
        plan = make_plan([], agg, input.schema)
        partitions = Partitions.of(input, parameters=("describe", name))
        described = (row_of, name, type_name(kind))
        own = planned(partitions, partitions.keys[0], plan, None, after=described, schema=SCHEMA)
        tasks.update(own.tasks)
        rows += own.keys
    partitions = Partitions.of(input, parameters=("described", names))
    partitions.tasks.update(tasks)
    last = partitions.add("describe", (0,), pa.concat_tables, listed(map(ref, rows)))
    return partitions.frame([last], SCHEMA, lengths=(len(names),))


def _aggregates(name: str, kind: pa.DataType) -> dict[str, Expression]:
    def call(function: str, *more: float) -> Expression:
        return Expression(name, "agg", Call(function, (Name(name), *map(Constant, more))))

    found = {"rows": Expression(name, "agg", Call("count", ())), "count": call("count")}
    if family(kind) not in ("list", "struct", "binary"):
        found |= {"min": call("min"), "max": call("max")}
    if family(kind) == "number":
        found |= {"mean": call("mean"), "std": call("std", 1), "median": call("median")}
        found |= {"q25": call("quantile", 0.25), "q75": call("quantile", 0.75)}
    return found


def row_of(table: pa.Table, name: str, kind: str) -> pa.Table:
    """The row of a column, of its aggregates."""
    count = table.column("count")[0].as_py()
    row = {"column": name, "type": kind, "count": count, "missing": table.column("rows")[0].as_py() - count}
    row |= {end: _text(table.column(end)) for end in ("min", "max") if end in table.column_names}
    row |= {label: table.column(label)[0].as_py() for label in _NUMBERS if label in table.column_names}
    return pa.Table.from_pylist([row], schema=SCHEMA)


def _text(column: pa.ChunkedArray) -> str | None:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    elif pa.types.is_duration(kind):
        value = column[0].as_py()
        return None if value is None else str(value)
    found: str | None = column.cast(pa.string())[0].as_py()
    return found
