"""``sql``: a statement of the user's over frames, by partition where its parse shows that it may be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from pipeline.errors import DataError, OpError
from pipeline.graph.nodes import listed, ref
from pipeline.ops import data_movement
from pipeline.ops.collections import Frame
from pipeline.ops.frames.partitions import Partitions, stack
from pipeline.worker.user_sql import describe, run_query

__all__ = ["sql"]


def sql(*inputs: Frame, names: Sequence[str], query: str) -> Frame:
    """The rows of a SELECT.

    Parameters
    ----------
    names : of the inputs, as the query has them

    Raises
    ------
    OpError : it is no SELECT over the inputs, or two names differ in case only
    """
    for name in names:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise OpError(f"inputs.{name}", "a name of a table is letters, digits and _")
    _require_different("inputs", names)
    for name, frame in zip(names, inputs, strict=True):
        _require_different(f"inputs.{name}", frame.columns)
    try:
        found = describe(query, {name: frame.schema for name, frame in zip(names, inputs, strict=True)})
    except DataError as error:
        raise OpError("query", str(error)) from error
    unused = [name for name in names if name not in found.used]
    if unused:
        raise OpError(f"inputs.{unused[0]}", "the query does not read it; leave it out")
    if not len(found.schema):
        raise OpError("query", "gives no column")
    partitions = Partitions.of(*inputs, parameters=("sql", list(names), query))
    if not found.whole:
        return partitions.map("sql", query_of_part, found.schema, query, names[0], found.schema)
    data_movement.note(f"one task gets all rows: the query {found.whole}")
    tables = listed(listed(map(ref, keys)) for keys in partitions.keys)
    key = partitions.add("sql", (0,), query_of_all, tables, tuple(names), query, found.schema)
    return Frame(partitions.tasks, (key,), found.schema, ordered=found.ordered)


def _require_different(place: str, names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other is not name:
            raise OpError(place, f"{other!r} and {name!r} are one name in SQL; rename one of them before")


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def query_of_part(table: pa.Table, query: str, name: str, schema: pa.Schema) -> pa.Table:
    """The rows of a query over one partition of its only table."""
    return run_query(query, {name: table}, schema)


def query_of_all(tables: Sequence[Sequence[pa.Table]], names: Sequence[str], query: str, schema: pa.Schema) -> pa.Table:
    """The rows of a query over all rows of its tables."""
    whole: Mapping[str, pa.Table] = {name: stack(parts) for name, parts in zip(names, tables, strict=True)}
    return run_query(query, whole, schema)
