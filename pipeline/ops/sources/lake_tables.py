"""``read_delta read_iceberg``: versions of tables of many Parquet files as a frame, a partition a file.

The libraries of the formats know which files belong to a version, and what is deleted in them.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.tree import Node
from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import empty_table, natural_type
from pipeline.graph.late_pandas import numbers_of
from pipeline.ops.collections import Frame
from pipeline.ops.frames.cast import target_type
from pipeline.ops.sources.file_columns import chosen, frame_of, narrowed, typed
from pipeline.ops.sources.parquet import read_part
from pipeline.ops.sources.parquet_scan import is_comparable
from pipeline.ops.sources.paths import is_remote, similar
from pipeline.ops.sources.scan_conditions import scan_condition
from pipeline.outputs.files import read_errors

__all__ = ["read_delta", "read_iceberg"]

_READ = frozenset({"deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "appendOnly"})
"""Features of Delta tables that change nothing in how files are read, or that are obeyed here."""


def _library(name: str, op: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        missing = str(error.name).partition(".")[0]
        raise OpError("op", f"{op} needs {missing}, which is not installed: pip install 'pipeline[{extra}]'") from error


def _require_local(path: str, op: str) -> None:
    if is_remote(path):
        raise OpError("path", f"{op} reads local tables")
    if not os.path.exists(path):
        raise DataError(f"{path}: no such table{similar(path)}")


def _schema(
    of: str, stored: pa.Schema, names: Sequence[str], cast: Mapping[str, str], full: Collection[str] = ()
) -> tuple[pa.Schema, dict[str, str]]:
    """The schema of some columns and their casts; ``full``: columns known to have no missing values."""
    chosen(tuple(cast), stored.names, of, field="cast")
    casts = {name: kind for name, kind in cast.items() if name in names}
    fields = []
    for name in names:
        field = stored.field(name)
        try:
            kind = natural_type(field.type)
        except OpError as error:
            raise DataError(f"{of}: column {name!r} {error.message}") from error
        kind = target_type(f"cast.{name}", kind, casts[name]) if name in casts else kind
        missing = (field.nullable and name not in full) or pa.types.is_floating(kind)
        fields.append(pa.field(name, kind, missing))
    return pa.schema(fields), casts


# ---------------------------------------------------------------------------------------------------------------------
# Delta
# ---------------------------------------------------------------------------------------------------------------------


def read_delta(
    *,
    path: str,
    version: int | None = None,
    columns: Sequence[str] | None = None,
    cast: Mapping[str, str] | None = None,
    needed: Collection[str] | None = None,
    where: Expression | None = None,
) -> Frame:
    """Return a version of a Delta table in a local folder.

    Parameters
    ----------
    version : its number; None: the newest
    needed : the columns that later steps use; None: all
    where : what later steps ask of each row; rows for which it is not true may be left out

    Raises
    ------
    DataError : there is no such table or version, or it can't be read
    OpError : there is no such column, or the library is missing
    """
    library = _library("deltalake", "read_delta", "delta")
    _require_local(path, "read_delta")
    try:
        table = library.DeltaTable(path, version=version)
        stored = pa.schema(table.schema().to_arrow())
        _require_readable(path, table)
        added = pa.table(table.get_add_actions(flatten=True))
        deleted = _deleted(table)
    except (library.exceptions.DeltaError, OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read as a Delta table ({error})") from error
    by = {name.removeprefix("partition."): name for name in added.column_names if name.startswith("partition.")}
    names = narrowed(chosen(columns, stored.names, path), needed)
    full = [name for name in names if _is_full(added, name, by)]
    schema, casts = _schema(path, stored, names, cast or {}, full)
    comparable = [n for n in names if n not in by and n not in casts and is_comparable(stored.field(n).type)]
    tasks: list[tuple[Any, ...]] = []
    lengths: list[int | None] = []
    for action in added.to_pylist():
        file = os.path.join(path, unquote(action["path"]))
        known = {name: action[key] for name, key in by.items()}
        condition = True if where is None else scan_condition(where, known, comparable)
        if condition is False:
            continue
        gone = deleted.get(os.path.abspath(file))
        asked = None if condition is True or gone is not None else condition
        fixed = {name: value for name, value in known.items() if name in names}
        tasks.append((_read_delta, file, schema, stored, casts, fixed, asked, gone))
        rows = action["num_records"]
        lengths.append(None if asked is not None or rows is None else rows - (0 if gone is None else len(gone)))
    if not tasks:
        tasks, lengths = [(empty_table, schema)], [0]
    exact = tuple(n for n in lengths if n is not None)
    return frame_of("read_delta", tasks, schema, float("nan"), exact if len(exact) == len(lengths) else None)


def _require_readable(path: str, table: Any) -> None:
    protocol, configuration = table.protocol(), table.metadata().configuration
    odd = sorted(set(protocol.reader_features or ()) - _READ)
    if not odd and configuration.get("delta.columnMapping.mode", "none") != "none":
        odd = ["columnMapping"]
    if odd:
        raise DataError(f"{path}: has the feature {odd[0]}, which is not read here; write a copy without it")


def _deleted(table: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The numbers of the deleted rows of each file that has some, by its path."""
    found = pa.table(table.deletion_vectors().read_all())
    return {
        unquote(file.removeprefix("file://")): np.flatnonzero(~np.asarray(kept, bool))
        for file, kept in zip(found.column("filepath").to_pylist(), found.column("selection_vector"), strict=True)
        for kept in [numbers_of(kept.values)]
    }


def _is_full(added: pa.Table, name: str, by: Mapping[str, str]) -> bool:
    """Whether no file has a missing value in a column, as the statistics show."""
    if name in by:
        return not added.column(by[name]).null_count
    key = f"null_count.{name}"
    return key in added.column_names and not any(count != 0 for count in added.column(key).to_pylist())


def _read_delta(
    path: str,
    schema: pa.Schema,
    stored: pa.Schema,
    casts: Mapping[str, str],
    fixed: Mapping[str, Any],
    condition: Node | None,
    deleted: np.ndarray[Any, Any] | None,
) -> pa.Table:
    """One partition: a file, with the values of its partition columns."""
    plain = pa.schema([_plain(stored.field(f.name)) if f.name in casts else f for f in schema])
    read = read_part(path, {}, None, plain, {}, fixed, condition)
    if deleted is not None:
        kept = np.ones(read.num_rows, bool)
        kept[deleted] = False
        read = read.filter(pa.array(kept))
    return typed(path, read, schema, casts) if casts else read


def _plain(field: pa.Field) -> pa.Field:
    return pa.field(field.name, natural_type(field.type))


# ---------------------------------------------------------------------------------------------------------------------
# Iceberg
# ---------------------------------------------------------------------------------------------------------------------


def read_iceberg(
    *,
    path: str,
    snapshot: int | None = None,
    columns: Sequence[str] | None = None,
    cast: Mapping[str, str] | None = None,
    needed: Collection[str] | None = None,
) -> Frame:
    """Return a snapshot of an Iceberg table.

    Parameters
    ----------
    path : a metadata file, or the local folder of a table, whose newest metadata count
    snapshot : its id; None: the current one
    needed : the columns that later steps use; None: all

    Raises
    ------
    DataError : there is no such table or snapshot, or it can't be read
    OpError : there is no such column, or the library is missing
    """
    tables = _library("pyiceberg.table", "read_iceberg", "iceberg")
    _require_local(path, "read_iceberg")
    metadata = _newest(path) if os.path.isdir(path) else path
    with read_errors(metadata):
        table = tables.StaticTable.from_metadata(metadata)
        if snapshot is not None and table.snapshot_by_id(snapshot) is None:
            ids = ", ".join(str(one.snapshot_id) for one in table.metadata.snapshots)
            raise DataError(f"{path}: has no snapshot {snapshot}; it has {ids or 'none'}")
        stored = table.scan(snapshot_id=snapshot).projection().as_arrow()
    names = narrowed(chosen(columns, stored.names, path), needed)
    schema, casts = _schema(path, stored, names, cast or {})
    with read_errors(metadata):
        scan = table.scan(snapshot_id=snapshot, selected_fields=tuple(names))
        files = sorted(scan.plan_files(), key=lambda file: str(file.file.file_path))
        shared = pickle.dumps((table.metadata, table.io, scan.projection()))
        tasks: list[tuple[Any, ...]] = [
            (_read_iceberg, file.file.file_path, shared, pickle.dumps(file), schema, casts) for file in files
        ]
    lengths = [None if file.delete_files else int(file.file.record_count) for file in files]
    if not tasks:
        tasks, lengths = [(empty_table, schema)], [0]
    exact = tuple(n for n in lengths if n is not None)
    return frame_of("read_iceberg", tasks, schema, float("nan"), exact if len(exact) == len(lengths) else None)


def _newest(folder: str) -> str:
    """The metadata file with the highest number in the folder of a table."""
    place = os.path.join(folder, "metadata")
    found = []
    for name in os.listdir(place) if os.path.isdir(place) else []:
        number = re.fullmatch(r"v?(\d+)(?:-.*)?\.metadata\.json", name)
        if number:
            found.append((int(number[1]), name))
    if not found:
        raise DataError(f"{folder}: has no metadata/….metadata.json, as the folder of an Iceberg table has")
    return os.path.join(place, max(found)[1])


def _read_iceberg(path: str, shared: bytes, file: bytes, schema: pa.Schema, casts: Mapping[str, str]) -> pa.Table:
    """One partition: a data file without the rows that are deleted in it."""
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan

    with read_errors(path):
        metadata, io, projection = pickle.loads(shared)
        read = ArrowScan(metadata, io, projection, AlwaysTrue()).to_table([pickle.loads(file)])
    return typed(path, read, schema, casts)
