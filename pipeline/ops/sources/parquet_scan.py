"""Columns of one Parquet file inside a task: DuckDB reads text, and other plain types where rows are left out.

Measured with TPC-H's lineitem (8 files, CPU seconds on one thread): DuckDB takes 0.17 where Arrow and then a filter
take 0.33 for four columns and 2 % of the rows. It passes over row groups and pages whose statistics exclude every row.
Of all rows, Arrow reads numbers and days in half of DuckDB's time (0.14 and 0.25 for four columns), and DuckDB columns
with few different texts in half of Arrow's. What DuckDB would change, as times in nanoseconds or categories, Arrow
reads, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import Node
from pipeline.errors import DataError
from pipeline.graph.column_types import is_text, natural_type
from pipeline.graph.late_pandas import numbers_of
from pipeline.ops.elementwise.sql import Typed, compiled
from pipeline.ops.sources.scan_conditions import holds_missing, names_in, without_nan
from pipeline.worker.sql_engine import query
from pipeline.worker.statement_chains import Relation

__all__ = ["is_comparable", "leaves_of", "scan", "scanned"]

_GLOB = re.compile(r"[*?\[\]{}]")
_ROW = "rowno"
_LARGE = 16 << 20  # bytes


def is_plain(kind: pa.DataType) -> bool:
    """Return whether DuckDB reads a stored type as it is."""
    t = pa.types
    if t.is_timestamp(kind):
        return bool(kind.unit in ("ms", "us"))
    if t.is_decimal(kind):  # up to 4 digits DuckDB keeps in 16 bits, where larger ones, of a damaged file, wrap around
        return bool(t.is_decimal128(kind) and kind.precision > 4)
    tests = (t.is_boolean, t.is_integer, t.is_float32, t.is_float64, is_text, t.is_date32, t.is_binary)
    return any(test(kind) for test in tests)


def _is_long(kind: pa.DataType) -> bool:
    """Return whether the values of a type have no fixed length."""
    return is_text(kind) or pa.types.is_binary(kind)


def is_comparable(kind: pa.DataType) -> bool:
    """Return whether a condition may compare a column of a stored type while it is read."""
    return is_plain(kind) and not (pa.types.is_timestamp(kind) and kind.tz is not None)


def scanned(
    path: str, file: pq.ParquetFile, groups: Sequence[int], names: Sequence[str], condition: Node | None
) -> pa.Table:
    """Return columns of some row groups, in the order of the file; without rows that ``condition`` excludes.

    Parameters
    ----------
    path : of a local file
    file : the same, opened by Arrow
    groups : consecutive numbers
    condition : compares columns whose types are comparable; rows for which it is not true may be left out

    Raises
    ------
    DataError, or what Arrow raises : the file is damaged
    """
    schema = file.schema_arrow
    asked = None if condition is None or not _are_known(file, names_in(condition)) else _sql(schema, condition)
    kinds = {name: schema.field(name).type for name in names}
    plain = [name for name, kind in kinds.items() if is_plain(kind) and (asked is not None or _is_long(kind))]
    others = [name for name in names if name not in plain]
    if not plain or not groups or _GLOB.search(path):
        return _read(file, groups, names)
    sizes = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    first, stop = int(starts[groups[0]]), int(starts[groups[-1] + 1])
    where = [] if len(groups) == len(sizes) else [f"{_ROW} >= {first}", f"{_ROW} < {stop}"]
    numbered = bool(where) or (asked is not None and bool(others))
    if numbered and _has_row_number(schema):
        return _read(file, groups, names)
    where += [] if asked is None else [asked]
    picked = [f"c{schema.get_field_index(name)}" for name in plain] + [_ROW] * bool(asked and others)
    labels = [f"c{i}" for i in range(len(schema))] + [_ROW] * numbered
    try:
        read = query(
            f"select {', '.join(picked)} from read_parquet($path, hive_partitioning = false, "
            f"file_row_number = {str(numbered).lower()}) as t({', '.join(labels)})"
            + (f" where {' and '.join(where)}" if where else ""),
            {},
            {"path": path},
        )
    except DataError:  # Arrow reads it, or says what is wrong with the file
        return _read(file, groups, names)
    columns = dict(zip(plain, read.columns, strict=False))
    if others:
        rows = numbers_of(read.column(len(plain))) if asked else None
        columns |= _by_arrow(file, groups, others, starts, rows)
    return pa.table({name: columns[name] for name in names})


def scan(
    path: str, file: pq.ParquetFile, groups: Sequence[int], schema: pa.Schema, condition: Node | None
) -> Relation | None:
    """Return what :func:`scanned` reads as part of a statement; None where DuckDB does not read the very same.

    Parameters
    ----------
    schema : of the table: columns of the file, in the types that they have there
    """
    stored = file.schema_arrow
    places = [stored.get_field_index(field.name) for field in schema]
    if _GLOB.search(path) or not groups or not places or min(places) < 0:
        return None
    if any(not _is_the_same(stored.field(i).type, field.type) for i, field in zip(places, schema, strict=True)):
        return None
    if not _are_known(file, [*schema.names, *(names_in(condition) if condition is not None else ())]):
        return None
    sizes = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
    whole = len(groups) == len(sizes)
    if not whole and _has_row_number(stored):
        return None
    asked = None if condition is None else _sql(stored, condition)
    where = [] if whole else [f"{_ROW} >= $first", f"{_ROW} < $stop"]
    where += [] if asked is None else [asked]
    labels = [f"c{i}" for i in range(len(stored))] + [_ROW] * (not whole)
    picked = [
        # that a column has no missing value may only be known from statistics, which tell what they like
        f"case when c{i} is null then error('a missing value') else c{i} end as c{k}"
        if stored.field(i).nullable and not field.nullable
        else f"c{i} as c{k}"
        for k, (i, field) in enumerate(zip(places, schema, strict=True))
    ]
    sql = (
        f"select {', '.join(picked)} from read_parquet($path, hive_partitioning = false, "
        f"file_row_number = {str(not whole).lower()}) as t({', '.join(labels)})"
        + (f" where {' and '.join(where)}" if where else "")
    )
    parameters: dict[str, Any] = {"path": path}
    if not whole:
        parameters |= {"first": sum(sizes[: groups[0]]), "stop": sum(sizes[: groups[-1] + 1])}
    n = sum(sizes[k] for k in groups)
    return Relation(sql, schema, n, parameters=parameters, n_rows=n if condition is None else None)


def _is_the_same(stored: pa.DataType, kind: pa.DataType) -> bool:
    """Return whether DuckDB reads a stored type as a column of a frame has it, whatever its values.

    Floats are not: NaN is missing in a frame, and DuckDB 2.0 takes ``isnan(x)`` for false where the statistics of the
    file, which know nothing of NaN, have a least and a largest number. Times are checked when they enter a frame.
    """
    t = pa.types
    checked = t.is_floating(kind) or t.is_timestamp(kind) or t.is_binary(kind)
    return is_plain(stored) and natural_type(stored) == kind and not checked


def _has_row_number(stored: pa.Schema) -> bool:
    """Return whether a file has a column of the name under which DuckDB numbers rows."""
    return any(name.lower() == "file_row_number" for name in stored.names)


def _are_known(file: pq.ParquetFile, names: Iterable[str]) -> bool:
    """Return whether Arrow knows the extremes of columns where the file has statistics of them.

    Else they are of an old writer that compared text, or unsigned numbers, as signed bytes; DuckDB believes them.
    """
    stored = file.schema_arrow
    for name in {name for name in names if name in stored.names}:
        for leaf in leaves_of(stored, name):
            for k in range(file.metadata.num_row_groups):
                found = file.metadata.row_group(k).column(leaf).statistics
                if found is not None and not found.has_min_max and found.num_values:
                    return False
    return True


def leaves_of(schema: pa.Schema, name: str) -> range:
    """Return the numbers of the stored columns that a column of a table is made of."""
    before = sum(_n_leaves(schema.field(i).type) for i in range(schema.get_field_index(name)))
    return range(before, before + _n_leaves(schema.field(name).type))


def _n_leaves(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _n_leaves(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _n_leaves(kind.value_type)
    return sum(_n_leaves(kind.field(i).type) for i in range(kind.num_fields)) if kind.num_fields else 1


def _sql(schema: pa.Schema, condition: Node) -> str | None:
    """The condition over the columns of a file; None where it is not defined for them, or nothing of it is left."""
    left = without_nan(condition, [field.name for field in schema if pa.types.is_floating(field.type)])
    if isinstance(left, bool):
        return None
    condition = left
    nullable = holds_missing(condition)
    columns = {
        field.name: Typed(f"c{i}", natural_type(field.type), nullable, nan=pa.types.is_floating(field.type))
        for i, field in enumerate(schema)
        if is_comparable(field.type)
    }
    try:
        return compiled(condition, columns).sql
    except ExpressionError:
        return None


def _read(file: pq.ParquetFile, groups: Sequence[int], names: Sequence[str]) -> pa.Table:
    """Columns of some row groups; large ones one by one, since all together need twice the memory for a while."""
    if sum(file.metadata.row_group(k).total_byte_size for k in groups) < _LARGE or not names:
        return file.read_row_groups(list(groups), columns=list(names), use_threads=False)
    return pa.table(
        {name: file.read_row_groups(list(groups), columns=[name], use_threads=False).column(name) for name in names}
    )


def _by_arrow(
    file: pq.ParquetFile, groups: Sequence[int], names: Sequence[str], starts: Any, rows: Any
) -> dict[str, pa.ChunkedArray]:
    """Columns of some row groups, of those only that have one of the rows; ``rows``: numbers in the file, None: all."""
    if rows is None:
        read = _read(file, groups, names)
        return {name: read.column(name) for name in names}
    hit = sorted(set((np.searchsorted(starts, rows, side="right") - 1).tolist()))
    read = _read(file, hit, names)
    before = np.concatenate([[0], np.cumsum([starts[k + 1] - starts[k] for k in hit])])[:-1]
    places = np.searchsorted(np.asarray([starts[k] for k in hit]), rows, side="right") - 1
    offsets = np.asarray([starts[k] for k in hit], np.int64)
    at = rows - offsets[places] + before[places] if len(rows) else np.zeros(0, np.int64)
    return {name: read.column(name).take(pa.array(at, pa.int64())) for name in names}
