"""``read_parquet``: Parquet files as a frame; Arrow reads them inside tasks of our own.

The schema comes from the footers while the graph is built, so every partition has the types that were declared, or its
task fails and names the file, the column and the cure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.tree import Node
from pipeline.errors import DataError
from pipeline.graph.column_types import empty_table, natural_type
from pipeline.ops.collections import Frame
from pipeline.ops.data_movement import note
from pipeline.ops.sources.file_columns import frame_of
from pipeline.ops.sources.file_facts import Fact, facts_of
from pipeline.ops.sources.one_schema import Columns, Files, StoredFile, partition, settled
from pipeline.ops.sources.parquet_scan import is_comparable, leaves_of, scan, scanned
from pipeline.ops.sources.paths import SUFFIXES, is_remote, locate, opened, options_of
from pipeline.ops.sources.scan_conditions import scan_condition
from pipeline.outputs.files import read_errors
from pipeline.worker.statement_chains import Relation, as_statement

__all__ = ["read_parquet", "read_part"]

_LARGE = 128 * 2**20
"""Bytes in memory of the columns that are read, above which a file is several partitions: a sort or a join holds a few
partitions and pieces of them at a time."""

_SAMPLE = 50_000
"""Rows from which the tasks of a row group compute for longer than it takes to begin them."""


def read_parquet(
    *,
    path: str | Sequence[str],
    columns: Columns = None,
    cast: Mapping[str, str] | None = None,
    split: str = "auto",
    storage: Mapping[str, Any] | None = None,
    needed: Collection[str] | None = None,
    where: Expression | None = None,
) -> Frame:
    """Return Parquet files as a frame with the types that they store.

    A column allows missing values unless the statistics of all row groups show that there are none.
    ``key=value`` folders below the path are columns: whole numbers or days where all values are, else text.

    Parameters
    ----------
    columns : to read, in order; ``union``: all that any file has; None: all, which every file must have
    split : ``files``: a partition a file; ``row_groups``: a row group; ``auto``: a file, large ones by row groups
    needed : the columns that later steps use; None: all
    where : what later steps ask of each row; rows for which it is not true may be left out, and files and row groups
        of which the names or the statistics show that they have no other rows are not read

    Raises
    ------
    DataError : a file is missing, is no Parquet, or does not have the columns of the others
    OpError : there is no such column
    """
    names = locate(path, storage, suffixes=SUFFIXES["read_parquet"])
    files = settled(path, facts_of(FooterReader(storage), names), columns, cast, needed, _has_no_missing)
    tasks: list[tuple[Any, ...]] = []
    lengths: list[int | None] = []
    nbytes, asked = 0.0, False
    for i, file in enumerate(files.files):
        condition = True if where is None else scan_condition(where, files.known(i), _comparable(file, files))
        asked = asked or condition is not True
        if condition is False:
            continue
        sizes = _sizes(file, files)
        nbytes += sum(sizes)
        ask = None if condition is True or is_remote(file.path) else condition
        for groups in _split(sizes, split):
            tasks.append((read_part, file.path, file.options, groups, files.schema, files.casts, files.fixed(i), ask))
            lengths.append(sum(file.metadata.row_group(k).num_rows for k in groups) if ask is None else None)
    if asked:
        note(f"rows for which '{where}' is not true are left out while reading, as far as columns tell")
    if not tasks:
        tasks, lengths = [(empty_table, files.schema)], [0]
    known = tuple(n for n in lengths if n is not None)
    return frame_of("read_parquet", tasks, files.schema, nbytes, known if len(known) == len(lengths) else None)


@dataclass
class FooterReader:
    """Reads the footers of Parquet files."""

    storage: Mapping[str, Any] | None
    kind: str = "parquet 1"

    def read(self, path: str) -> StoredFile:
        options = options_of(path, self.storage)
        try:
            with _parquet(path, options) as file:
                return StoredFile(path, options, file.schema_arrow, file.metadata.num_rows, file.metadata)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: is no Parquet file, or a broken one ({error})") from error

    def pack(self, found: StoredFile) -> Fact | None:
        sink = pa.BufferOutputStream()
        found.metadata.write_metadata_file(sink)
        return Fact(sink.getvalue().to_pybytes())

    def unpack(self, path: str, fact: Fact) -> StoredFile:
        with pq.ParquetFile(pa.BufferReader(fact.head)) as file:
            return StoredFile(path, {}, file.schema_arrow, file.metadata.num_rows, file.metadata)


@contextmanager
def _parquet(path: str, options: Mapping[str, Any]) -> Iterator[pq.ParquetFile]:
    if not is_remote(path):
        with pq.ParquetFile(path) as local:
            yield local
        return
    with opened(path, options) as source, pq.ParquetFile(source) as remote:
        yield remote


# ---------------------------------------------------------------------------------------------------------------------
# What footers show
# ---------------------------------------------------------------------------------------------------------------------


def _has_no_missing(file: StoredFile, name: str) -> bool:
    """Return whether the statistics of all row groups show no missing value in a column."""
    if name not in file.schema.names:
        return False
    field, (leaf, *others) = file.schema.field(name), leaves_of(file.schema, name)
    if not field.nullable:
        return True
    if others or pa.types.is_nested(field.type):
        return False  # what is counted there is missing within
    for i in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(i).column(leaf).statistics
        if statistics is None or not statistics.has_null_count or statistics.null_count:
            return False
    return True


def _sizes(file: StoredFile, files: Files) -> list[float]:
    """Return the bytes in memory of each row group, as far as the footer shows."""
    fixed = 0
    leaves: list[int] = []
    for name in files.stored(file):
        try:
            fixed += max(files.schema.field(name).type.bit_width // 8, 1)
        except ValueError:  # of no fixed width
            leaves += leaves_of(file.schema, name)
    groups = (file.metadata.row_group(k) for k in range(file.metadata.num_row_groups))
    return [float(fixed * group.num_rows + sum(_text_bytes(group.column(j)) for j in leaves)) for group in groups]


def _text_bytes(column: Any) -> float:
    """Return about how many bytes a column of values of different lengths has in memory; its dictionary hides them."""
    statistics = column.statistics
    ends = [statistics.min, statistics.max] if statistics is not None and statistics.has_min_max else []
    usual = sum(map(len, ends)) / 2 if ends and all(isinstance(end, str | bytes) for end in ends) else 0.0
    n: int = column.num_values
    return 4.0 * n + max(float(column.total_uncompressed_size), usual * n)


def _comparable(file: StoredFile, files: Files) -> list[str]:
    """Return the columns of a file that a condition may compare while they are read: they have the frame's type."""
    return [
        name
        for name in files.stored(file)
        if name not in files.casts
        and is_comparable(file.schema.field(name).type)
        and natural_type(file.schema.field(name).type) == files.schema.field(name).type
    ]


def _split(sizes: Sequence[float], split: str) -> list[tuple[int, ...]]:
    """Return the numbers of the row groups of each partition of a file."""
    n = len(sizes)
    if split == "row_groups" and n:
        return [(k,) for k in range(n)]
    if split == "files" or sum(sizes) <= _LARGE:
        return [tuple(range(n))]
    parts: list[list[int]] = [[] for _ in range(math.ceil(sum(sizes) / _LARGE))]
    before = 0.0
    for k, size in enumerate(sizes):
        parts[int((before + size / 2) / sum(sizes) * len(parts))].append(k)
        before += size
    return [tuple(part) for part in parts if part]


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def read_part(
    path: str,
    options: Mapping[str, Any],
    groups: tuple[int, ...] | None,
    schema: pa.Schema,
    casts: Mapping[str, str],
    fixed: Mapping[str, Any],
    condition: Node | None,
) -> pa.Table:
    """Return some row groups of one file, None: all. Arrow's own threads stay out of it: tasks are the parallelism.

    Parameters
    ----------
    casts, fixed : see :func:`pipeline.ops.sources.one_schema.partition`
    condition : rows for which it is not true may be left out
    """
    with read_errors(path), _parquet(path, options) as file:
        groups = tuple(range(file.metadata.num_row_groups)) if groups is None else groups
        own = [name for name in schema.names if name not in fixed and name in file.schema_arrow.names]
        n = sum(file.metadata.row_group(k).num_rows for k in groups)
        if is_remote(path):
            table = file.read_row_groups(list(groups), columns=own, use_threads=False)
        else:
            table = scanned(path, file, groups, own, condition)
        if own and table.num_rows != n and condition is None:
            raise DataError(f"{path}: has {table.num_rows:,} rows where its footer says {n:,}; write it again")
    return partition(path, table, n if condition is None else table.num_rows, schema, casts, fixed)


def _sample_of_part(
    path: str, options: Mapping[str, Any], groups: tuple[int, ...] | None, *others: Any
) -> pa.Table | None:
    """Return the row group in the middle of some; None if it has many of their rows, or few."""
    with _parquet(path, options) as file:
        groups = tuple(range(file.metadata.num_row_groups)) if groups is None else groups
        middle = groups[len(groups) // 2]
        sizes = {k: file.metadata.row_group(k).num_rows for k in groups}
    if not _SAMPLE <= sizes[middle] <= sum(sizes.values()) / 3:
        return None
    return read_part(path, options, (middle,), *others)


@as_statement(read_part, sample=_sample_of_part)
def _scan_part(
    path: str,
    options: Mapping[str, Any],
    groups: tuple[int, ...] | None,
    schema: pa.Schema,
    casts: Mapping[str, str],
    fixed: Mapping[str, Any],
    condition: Node | None,
) -> Relation | None:
    if is_remote(path) or casts or fixed:
        return None
    with _parquet(path, options) as file:
        return scan(path, file, range(file.metadata.num_row_groups) if groups is None else groups, schema, condition)
