"""``explode unnest melt``: lists and structs as rows and columns, and columns as rows; one task a partition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import common_type, declared_type, family, field_of, type_name
from pipeline.graph.declared_values import Misfit, fitted
from pipeline.graph.late_pandas import numbers_of
from pipeline.ops.collections import Frame
from pipeline.ops.frames.partitions import Partitions, names_of, require

__all__ = ["explode", "melt", "unnest"]


def explode(
    input: Frame,  # noqa: A002
    *,
    columns: str | Sequence[str],
    position: str | None = None,
    empty: str = "keep",
) -> Frame:
    """A row for each element of lists.

    Parameters
    ----------
    columns : with lists of the same length in each row
    position : name of a new column with the place of the element in its list
    empty : ``keep``: a row without elements is one row, of a missing element; ``drop``: none

    Raises
    ------
    OpError : an unknown column, one that has no lists, or a ``position`` that is a column already
    """
    names = names_of("columns", columns, input.columns)
    new: dict[str, pa.Field] = {}
    for name in names:
        kind = field_of(input.schema, name).type
        if family(kind) != "list":
            raise OpError("columns", f"{name!r} is {type_name(kind)}; rows are made of lists")
        new[name] = pa.field(name, kind.value_type)
    if position in input.columns:
        raise OpError("position", f"{position!r} is a column of the input; choose another name")
    fields = [new.get(field.name, field) for field in input.schema]
    if position is not None:
        fields.append(pa.field(position, pa.int64(), nullable=empty == "keep"))
    schema = pa.schema(fields)
    partitions = Partitions.of(input, parameters=("explode", names, position, empty))
    return partitions.map("explode", one_row_an_element, schema, names, schema, empty == "keep")


def unnest(
    input: Frame,  # noqa: A002
    *,
    columns: str | Sequence[str] | None = None,
    prefix: bool = True,
    deep: bool = False,
    from_json: str | None = None,
) -> Frame:
    """The members of structs as columns, in the place of the struct.

    Parameters
    ----------
    columns : of structs; None: all that are there
    prefix : whether the names of the members begin with that of the column
    deep : also the structs inside structs
    from_json : the columns are text, JSON of this type

    Raises
    ------
    OpError : an unknown column, one without structs, or a name that is there already
    """
    if columns is None:
        names = [field.name for field in input.schema if family(field.type) == "struct"]
        if not names:
            raise OpError("input", "has no column of structs")
    else:
        names = names_of("columns", columns, input.columns)
    read = None if from_json is None else declared_type(from_json, "from_json")
    if read is not None and family(read) != "struct":
        raise OpError("from_json", f"got {from_json}; columns are made of struct[NAME: TYPE, …]")
    fields: list[pa.Field] = []
    for field in input.schema:
        if field.name not in names:
            fields.append(field)
            continue
        want = "text" if read is not None else "struct"
        if family(field.type) != want:
            needs = "JSON is text" if read is not None else "columns are made of structs"
            raise OpError("columns", f"{field.name!r} is {type_name(field.type)}; {needs}")
        fields += _members(pa.field(field.name, read or field.type), prefix, deep)
    for i, field in enumerate(fields):
        if field.name in {other.name for other in fields[:i]}:
            cure = "rename one of them before" if prefix else "rename one of them before, or leave out prefix: false"
            raise OpError("columns", f"{field.name!r} would be the name of two columns; {cure}")
    schema = pa.schema(fields)
    partitions = Partitions.of(input, parameters=("unnest", names, prefix, deep, from_json))
    return partitions.map("unnest", members_as_columns, schema, names, deep, read, schema, same_rows=True)


def _members(field: pa.Field, prefix: bool, deep: bool) -> list[pa.Field]:
    made: list[pa.Field] = []
    for member in field.type:
        new = pa.field(f"{field.name}_{member.name}" if prefix else member.name, member.type)
        made += _members(new, prefix, deep) if deep and pa.types.is_struct(member.type) else [new]
    return made


def melt(
    input: Frame,  # noqa: A002
    *,
    id: str | Sequence[str],  # noqa: A002
    columns: Sequence[str] | None = None,
    name: str = "variable",
    value: str = "value",
) -> Frame:
    """A row for each of several columns: the ``id`` columns, its name, and its value, missing or not.

    Raises
    ------
    OpError : an unknown column, one that is named twice, or types that have nothing in common
    """
    kept = names_of("id", id, input.columns)
    chosen = [c for c in input.columns if c not in kept] if columns is None else list(columns)
    require("columns", chosen, input.columns)
    both = [*kept, *chosen]
    if not chosen:
        raise OpError("columns", "no column is left to become rows")
    if twice := next((c for i, c in enumerate(both) if c in both[:i]), None):
        raise OpError("columns", f"{twice!r} is named twice")
    for key, new in (("name", name), ("value", value)):
        if new in kept or name == value:
            raise OpError(key, f"{new!r} would be the name of two columns")
    fields = [field_of(input.schema, c) for c in chosen]
    common = common_type([field.type for field in fields])
    if common is None:
        types = " and ".join(dict.fromkeys(type_name(field.type) for field in fields))
        raise OpError("columns", f"the columns are {types}; make them one type with astype before")
    made = [pa.field(name, pa.string(), nullable=False), pa.field(value, common, any(f.nullable for f in fields))]
    schema = pa.schema([*(field_of(input.schema, c) for c in kept), *made])
    partitions = Partitions.of(input, parameters=("melt", kept, chosen, name, value))
    frame = partitions.map("melt", one_row_a_column, schema, kept, chosen, schema)
    lengths = None if input.lengths is None else tuple(n * len(chosen) for n in input.lengths)
    return Frame(frame.tasks, frame.keys, schema, lengths=lengths)


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def one_row_an_element(table: pa.Table, names: Sequence[str], schema: pa.Schema, keep: bool) -> pa.Table:
    """The rows of a partition, once for each element of its lists.

    Raises
    ------
    DataError : lists of different lengths in one row
    """
    lengths = _lengths(table, names[0])
    for name in names[1:]:
        others = _lengths(table, name)
        if (differs := np.flatnonzero(others != lengths)).size:
            row = int(differs[0])
            raise DataError(
                f"the lists of one row are not equally long: {names[0]!r} has {lengths[row]}, {name!r} {others[row]}; "
                "explode one after the other, or make them equally long"
            )
    counts = np.maximum(lengths, 1) if keep else lengths
    rows = np.repeat(np.arange(table.num_rows), counts)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    none = lengths[rows] == 0
    parents = pa.array(rows)
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        if name not in names:
            columns[name] = column.take(parents)
            continue
        elements = pc.list_flatten(column.combine_chunks())  # without those of missing lists
        first = np.cumsum(lengths) - lengths
        columns[name] = elements.take(pa.array(first[rows] + places, mask=none))
    if len(schema) > len(columns):
        columns[schema.names[-1]] = pa.array(places, mask=none)
    return pa.Table.from_arrays(list(columns.values()), schema=schema)


def _lengths(table: pa.Table, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many elements each list has; 0 where it is missing."""
    found = pc.list_value_length(table.column(name))
    return np.asarray(numbers_of(pc.fill_null(found, pa.scalar(0, found.type))), dtype=np.int64)


def members_as_columns(
    table: pa.Table, names: Sequence[str], deep: bool, read: pa.DataType | None, schema: pa.Schema
) -> pa.Table:
    """One partition with the members of structs in the places of the structs.

    Raises
    ------
    DataError : text that is no JSON of the type ``read``, naming it
    """
    columns: list[Any] = []
    for name in table.column_names:
        column = table.column(name)
        if name not in names:
            columns.append(column)
            continue
        struct = column.combine_chunks() if read is None else parsed_json(name, column, read)
        columns += _flattened(struct, deep)
    return pa.Table.from_arrays(columns, schema=schema)


def _flattened(struct: pa.StructArray, deep: bool) -> list[pa.Array]:
    """The members; missing where the struct is."""
    made: list[pa.Array] = []
    for member in struct.flatten():
        made += _flattened(member, deep) if deep and pa.types.is_struct(member.type) else [member]
    return made


def parsed_json(name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """JSON texts as values of a type; what the type does not name is left out.

    Raises
    ------
    DataError : naming the column and the text
    """
    texts = column.to_pylist()
    try:
        values = [None if text is None else _chosen(_loaded(text), kind) for text in texts]
    except (ValueError, RecursionError):
        wrong = next(text for text in texts if text is not None and not _is_json(text))
        raise DataError(f"column {name!r} got {wrong[:60]!r}, which is no JSON") from None
    try:
        return fitted(values, kind)
    except Misfit as error:
        text = texts[error.position]
        raise DataError(f"column {name!r} got {text[:60]!r}, which does not fit {type_name(kind)}") from None


_WRONG = object()  # fits no type


def _loaded(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, object_pairs_hook=_Pairs)  # a float64 of 0.1 is no decimal of it


class _Pairs(list[tuple[str, Any]]):
    """The members of an object of JSON as they are written, a key maybe twice."""


def _is_json(text: str) -> bool:
    try:
        _loaded(text)
    except (ValueError, RecursionError):
        return False
    return True


def _chosen(value: Any, kind: pa.DataType) -> Any:
    """What a type names of a value of JSON; ``_WRONG`` for what read_json refuses as well."""
    if isinstance(value, _Pairs):
        members = dict(value)
        if not pa.types.is_struct(kind) or any(
            member.name in members and sum(name == member.name for name, _ in value) > 1 for member in kind
        ):
            return _WRONG
        return {member.name: _chosen(members.get(member.name), member.type) for member in kind}
    if pa.types.is_list(kind) and isinstance(value, list):
        return [_chosen(one, kind.value_type) for one in value]
    kinds = "true/false" if isinstance(value, bool) else "number" if isinstance(value, int | Decimal) else ""
    return _WRONG if {kinds, family(kind)} == {"true/false", "number"} else value


def one_row_a_column(table: pa.Table, kept: Sequence[str], chosen: Sequence[str], schema: pa.Schema) -> pa.Table:
    """The rows of a partition once for each of some columns."""
    n, value = table.num_rows, schema.field(len(kept) + 1)
    rows = pa.array(np.tile(np.arange(n), len(chosen)))
    columns: list[Any] = [table.column(name).take(rows) for name in kept]
    places = pa.array(np.repeat(np.arange(len(chosen)), n))
    columns.append(pa.array(list(chosen), pa.string()).take(places))
    chunks = [chunk for name in chosen for chunk in _as_type(table.column(name), value.type).chunks]
    columns.append(pa.chunked_array(chunks, value.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _as_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return column if column.type == kind else column.cast(kind)
