"""``read_parquet``, and what all sources of frames share; Arrow reads inside tasks of our own.

The schema is taken from metadata (Parquet) or from the head of the first file (CSV) while the graph is built, so every
partition has the dtypes that were declared, or its task fails and names the file, the column and the cure. (Rejected:
``dask.dataframe.read_parquet``, whose readers fuse at once, and which gives decimals and dates Arrow types that don't
compare with timestamps.)

Dtypes: numbers as they are stored, text pandas' ``str``, decimals float64, dates and timestamps ``datetime64``. A
whole number column that has missing values is float64, a boolean one pandas' ``boolean``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from dask.base import tokenize

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.graph import GraphNode, Key, task
from pipeline.ops.collections import Frame
from pipeline.ops.column_types import TEXT, common_dtype, converted, declared_dtype, empty_frame, natural_dtype
from pipeline.ops.sources.paths import below, fixed_folder, is_remote, locate, opened, options_of
from pipeline.outputs.files import read_errors

__all__ = ["chosen", "frame_of", "read_parquet", "typed"]

_MISSING_FOLDER = "__HIVE_DEFAULT_PARTITION__"


def frame_of(
    op: str,
    tasks: Sequence[tuple[Any, ...]],
    dtypes: dict[str, Any],
    nbytes: float,
    lengths: tuple[int, ...] | None = None,
) -> Frame:
    """A frame whose partition ``i`` is the call ``tasks[i]``.

    Parameters
    ----------
    nbytes : of all of it, as far as metadata tell
    lengths : rows of each partition, if metadata tell
    """
    name = f"{op}-{tokenize([tuple(map(str, t[1:])) for t in tasks])}"
    layer: dict[Key, GraphNode] = {(name, i): task((name, i), *call) for i, call in enumerate(tasks)}
    return Frame(layer, tuple(layer), empty_frame(dtypes), nbytes, lengths)


def chosen(columns: Sequence[str] | None, known: Sequence[str], path: Any, *, field: str = "columns") -> list[str]:
    """The columns to read, in order.

    Raises
    ------
    OpError : naming the first that is none
    """
    for name in columns or ():
        if name not in known:
            hint = nearest(name, known) or f"; they are {', '.join(known)}"
            raise OpError(field, f"{name!r} is no column of {path}{hint}")
    return list(known if columns is None else columns)


def typed(path: str, table: pa.Table, dtypes: Mapping[str, Any]) -> pd.DataFrame:
    """The columns that ``dtypes`` has as pandas has them.

    Raises
    ------
    DataError : naming the file and the column that is not what was declared
    """
    columns = {name: _typed_column(path, name, table[name], dtype) for name, dtype in dtypes.items()}
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))


def _typed_column(path: str, name: str, column: pa.ChunkedArray, dtype: Any) -> pd.Series[Any]:
    try:
        return converted(column, dtype)
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise DataError(f"{path}: column {name!r}: {error}") from error


def read_parquet(
    *,
    path: str | Sequence[str],
    columns: Sequence[str] | None = None,
    cast: Mapping[str, str] | str | None = None,
    split: str = "files",
    storage: Mapping[str, Any] | None = None,
) -> Frame:
    """Parquet files as a frame: a partition a file, or a row group (``split: row_groups``).

    ``key=value`` folders below the path are columns, whole numbers where all values are, else text.

    Raises
    ------
    DataError : a file is missing, is no Parquet, or lacks a column of the first
    OpError : there is no such column
    """
    names = locate(path, storage, suffixes=(".parquet", ".parq", ".pq"))
    footers = [_footer(name, options_of(name, storage)) for name in names]
    schema = footers[0][0]
    folders = _folder_columns(path, names)
    casts = cast if isinstance(cast, Mapping) else {}
    stored = [name for name in schema.names if name not in folders and not name.startswith("__index_level_")]
    wanted = chosen(columns, [*stored, *folders], path)
    chosen(tuple(casts), [*stored, *folders], path, field="cast")
    dtypes: dict[str, Any] = {}
    for name in wanted:
        types = [] if name in folders else _stored_types(name, names, footers)
        if name in casts:
            dtypes[name] = declared_dtype(casts[name], f"cast.{name}")
        elif name in folders:
            dtypes[name] = _folder_dtype(folders[name])
        else:
            dtypes[name] = _parquet_dtype(name, names[0], types, footers, keep=cast == "none")
    tasks, lengths = [], []
    for i, (name, (_, metadata)) in enumerate(zip(names, footers, strict=True)):
        fixed = {key: values[i] for key, values in folders.items() if key in dtypes}
        n = metadata.num_row_groups
        groups = [(k,) for k in range(n)] if split == "row_groups" and n else [tuple(range(n))]
        tasks += [(_read_parquet, name, options_of(name, storage), group, dtypes, fixed) for group in groups]
        lengths += [sum(metadata.row_group(k).num_rows for k in group) for group in groups]
    nbytes = sum(_nbytes(metadata, dtypes) for _, metadata in footers)
    return frame_of("read_parquet", tasks, dtypes, nbytes, tuple(lengths))


def _footer(path: str, options: Mapping[str, Any]) -> tuple[pa.Schema, pq.FileMetaData]:
    try:
        with _parquet(path, options) as file:
            return file.schema_arrow, file.metadata
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: is no Parquet file, or a broken one ({error})") from error


@contextmanager
def _parquet(path: str, options: Mapping[str, Any]) -> Any:
    if not is_remote(path):
        with pq.ParquetFile(path) as local:
            yield local
        return
    with opened(path, options) as source, pq.ParquetFile(source) as remote:
        yield remote


Footer = tuple[pa.Schema, pq.FileMetaData]


def _stored_types(name: str, paths: Sequence[str], footers: Sequence[Footer]) -> list[pa.DataType]:
    """The type of a column in each of the files.

    Raises
    ------
    DataError : if one has no column of this name, or several
    """
    types = []
    for path, (schema, _) in zip(paths, footers, strict=True):
        found = schema.get_all_field_indices(name)
        if len(found) > 1:
            raise DataError(f"{path}: has {len(found)} columns {name!r}")
        if not found:
            shared = [each for each in footers[0][0].names if all(each in other.names for other, _ in footers)]
            cure = f"; those that all files have: columns: [{', '.join(shared)}]" if shared else ""
            raise DataError(f"{path}: has no column {name!r}, {paths[0]} has one{cure}")
        types.append(schema.field(found[0]).type)
    return types


def _parquet_dtype(
    name: str, first: str, types: Sequence[pa.DataType], footers: Sequence[Footer], *, keep: bool
) -> Any:
    """The dtype that holds the column of every file; those without rows, or without a type, have no say."""
    full = [(stored, metadata) for stored, (_, metadata) in zip(types, footers, strict=True) if metadata.num_rows]
    told = list(dict.fromkeys(stored for stored, _ in full if not pa.types.is_null(stored)))
    whole = any(pa.types.is_integer(stored) or pa.types.is_boolean(stored) for stored in told)
    has_missing = whole and any(pa.types.is_null(stored) or _has_missing(metadata, name) for stored, metadata in full)
    dtypes = [natural_dtype(stored, has_missing=has_missing, keep=keep) for stored in told or types[:1]]
    common = common_dtype(dtypes)
    if common is None:
        kinds = ", ".join(sorted({str(d) for d in dtypes}))
        raise DataError(f"{first} …: column {name!r} is {kinds} in different files; it needs a cast")
    return common


def _nbytes(metadata: pq.FileMetaData, dtypes: Mapping[str, Any]) -> float:
    """Bytes of these columns in memory; of text as it is stored, uncompressed."""
    fixed = sum(dtype.itemsize for dtype in dtypes.values() if isinstance(dtype, np.dtype))
    total = float(fixed * metadata.num_rows)
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for j in range(group.num_columns):
            dtype = dtypes.get(group.column(j).path_in_schema)
            if dtype is not None and not isinstance(dtype, np.dtype):
                total += group.column(j).total_uncompressed_size
    return total


def _has_missing(metadata: pq.FileMetaData, name: str) -> bool:
    """Whether the statistics count a missing value; without statistics the task will notice."""
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for j in range(group.num_columns):
            column = group.column(j)
            if column.path_in_schema == name:
                statistics = column.statistics
                if statistics is not None and statistics.has_null_count and statistics.null_count:
                    return True
                break
    return False


def _folder_columns(path: str | Sequence[str], names: Sequence[str]) -> dict[str, list[str | None]]:
    """Column -> its text a file, of the ``key=value`` folders below the path."""
    if not isinstance(path, str):
        return {}
    root = path if not re.search(r"[*?\[]", path) and (is_remote(path) or os.path.isdir(path)) else fixed_folder(path)
    found: dict[str, list[str | None]] = {}
    for i, name in enumerate(names):
        for part in below(root, name).split("/")[:-1]:
            key, equals, value = part.partition("=")
            if equals:
                values = found.setdefault(key, [None] * len(names))
                values[i] = None if value == _MISSING_FOLDER else unquote(value)
    return found


def _folder_dtype(values: Sequence[str | None]) -> Any:
    known = [v for v in values if v is not None]
    if known and all(re.fullmatch(r"-?\d{1,18}", v) and str(int(v)) == v for v in known):
        return np.dtype("int64" if len(known) == len(values) else "float64")
    return TEXT


def _read_parquet(
    path: str,
    options: Mapping[str, Any],
    groups: tuple[int, ...],
    dtypes: Mapping[str, Any],
    fixed: Mapping[str, str | None],
) -> pd.DataFrame:
    """One partition: some row groups of one file. Arrow's own threads stay out of it: tasks are the parallelism."""
    with read_errors(path), _parquet(path, options) as file:
        n = sum(file.metadata.row_group(k).num_rows for k in groups)
        if not n:
            return empty_frame(dict(dtypes))  # its types had no say
        table = file.read_row_groups(list(groups), columns=[c for c in dtypes if c not in fixed], use_threads=False)
    columns = {}
    for name, dtype in dtypes.items():
        column = pa.chunked_array([pa.array([fixed[name]] * n, pa.string())]) if name in fixed else table[name]
        columns[name] = _typed_column(path, name, column, dtype)
    return pd.DataFrame(columns, index=pd.RangeIndex(n), columns=list(dtypes))
