"""What all sources of frames share: the frame of their tasks, the columns that are read, and the types of these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
from dask.base import tokenize

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.column_types import natural_type
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, task
from pipeline.ops.collections import Frame
from pipeline.ops.frames.cast import cast_column
from pipeline.worker.sql_engine import entered

__all__ = ["chosen", "frame_of", "narrowed", "typed"]


def frame_of(
    op: str,
    tasks: Sequence[tuple[Any, ...]],
    schema: pa.Schema,
    nbytes: float,
    lengths: tuple[int, ...] | None = None,
) -> Frame:
    """Return a frame whose partition ``i`` is the call ``tasks[i]``, a table of the schema.

    Parameters
    ----------
    nbytes : of all of it, as far as metadata show
    lengths : rows of each partition, if metadata show
    """
    texts: dict[int, str] = {}  # of the arguments that tasks share, each written once

    def text(value: Any) -> str:
        return texts.setdefault(id(value), str(value)) if isinstance(value, pa.Schema) else str(value)

    name = f"{op}-{tokenize([tuple(map(text, call[1:])) for call in tasks])}"
    layer: dict[Key, GraphNode] = {(name, i): task((name, i), *call) for i, call in enumerate(tasks)}
    return Frame(layer, tuple(layer), schema, nbytes, lengths)


def chosen(columns: Sequence[str] | None, known: Sequence[str], path: Any, *, field: str = "columns") -> list[str]:
    """Return the columns to read, in order; None: all.

    Raises
    ------
    OpError : naming the first that is none
    """
    twice = next((name for i, name in enumerate(columns or ()) if name in (columns or ())[:i]), None)
    if twice is not None:
        raise OpError(field, f"{twice!r} is named twice")
    for name in columns or ():
        if name not in known:
            hint = nearest(name, known) or f"; they are {', '.join(known)}"
            raise OpError(field, f"{name!r} is no column of {path}{hint}")
    return list(known if columns is None else columns)


def narrowed(names: Sequence[str], needed: Collection[str] | None) -> list[str]:
    """Return those of the columns that later steps use; the first if they use none, since rows are counted by it."""
    if needed is None:
        return list(names)
    return [name for name in names if name in needed] or list(names[:1])


def typed(path: str, table: pa.Table, schema: pa.Schema, casts: Mapping[str, str] | None = None) -> pa.Table:
    """Return the columns of the schema from what was read of a file.

    Parameters
    ----------
    casts : column -> type of the language, of the columns that ``cast`` names

    Raises
    ------
    DataError : naming the file and the column that is not what was declared
    """
    casts = casts or {}
    kinds = [
        pa.field(field.name, natural_type(_column(table, field.name).type)) if field.name in casts else field
        for field in schema
    ]
    try:
        found = entered(table, pa.schema(kinds))
        columns = [
            cast_column(field.name, column, field.type, casts[field.name]) if field.name in casts else column
            for field, column in zip(schema, found.columns, strict=True)
        ]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    for field, column in zip(schema, columns, strict=True):
        if not field.nullable and column.null_count:
            raise DataError(
                f"{path}: column {field.name!r} has {column.null_count:,} missing values, and the file says that it "
                "has none; write the file again"
            )
    return pa.Table.from_arrays(columns, schema=schema)


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    return table.column(table.schema.get_field_index(name))
