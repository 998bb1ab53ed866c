"""``read_feather read_orc``: files of whole tables as a frame, a partition a file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.ops.collections import Frame
from pipeline.ops.sources.file_columns import frame_of
from pipeline.ops.sources.file_facts import Fact, facts_of, with_schema, without_schema
from pipeline.ops.sources.one_schema import Columns, StoredFile, partition, settled
from pipeline.ops.sources.paths import SUFFIXES, is_remote, locate, opened, options_of
from pipeline.outputs.files import read_errors

__all__ = ["read_feather", "read_orc"]


def read_feather(
    *,
    path: str | Sequence[str],
    columns: Columns = None,
    cast: Mapping[str, str] | None = None,
    storage: Mapping[str, Any] | None = None,
    needed: Collection[str] | None = None,
) -> Frame:
    """Return Feather files (version 2), which are Arrow IPC files, or streams of Arrow IPC, as a frame.

    Parameters
    ----------
    columns : to read, in order; ``union``: all that any file has; None: all, which every file must have
    needed : the columns that later steps use; None: all

    Raises
    ------
    DataError : a file is missing, is not of this kind, or does not have the columns of the others
    OpError : there is no such column
    """
    return _frame("read_feather", (path, columns, cast, storage, needed), _ipc_schema, _ipc_table)


def read_orc(
    *,
    path: str | Sequence[str],
    columns: Columns = None,
    cast: Mapping[str, str] | None = None,
    storage: Mapping[str, Any] | None = None,
    needed: Collection[str] | None = None,
) -> Frame:
    """Return ORC files as a frame; see :func:`read_feather`."""
    return _frame("read_orc", (path, columns, cast, storage, needed), _orc_schema, _orc_table)


def _frame(
    op: str,
    given: tuple[Any, ...],
    describe: Callable[[Any], tuple[pa.Schema, int | None]],
    load: Callable[[Any, Sequence[str]], pa.Table],
) -> Frame:
    path, columns, cast, storage, needed = given
    found = facts_of(SchemaReader(op, describe, storage), locate(path, storage, suffixes=SUFFIXES[op]))
    files = settled(path, found, columns, cast, needed, _is_required)
    tasks = [
        (_read, load, file.path, file.options, files.stored(file), files.schema, files.casts, files.fixed(i))
        for i, file in enumerate(files.files)
    ]
    rows_of = [file.rows for file in found]
    known = tuple(n for n in rows_of if n is not None)
    return frame_of(op, tasks, files.schema, float("nan"), known if len(known) == len(rows_of) else None)


@dataclass
class SchemaReader:
    """Reads the schemas of files of one format, and their numbers of rows, where these are known."""

    op: str
    describe: Callable[[Any], tuple[pa.Schema, int | None]]
    storage: Mapping[str, Any] | None

    @property
    def kind(self) -> str:
        return f"{self.op} 1"

    def read(self, path: str) -> StoredFile:
        options = options_of(path, self.storage)
        with read_errors(path), _source(path, options) as source:
            schema, rows = self.describe(source)
        return StoredFile(path, options, schema, rows)

    def pack(self, found: StoredFile) -> Fact | None:
        return with_schema(found.schema, found.rows)

    def unpack(self, path: str, fact: Fact) -> StoredFile:
        schema, (rows,) = without_schema(fact)
        return StoredFile(path, {}, schema, rows)


@contextmanager
def _source(path: str, options: Mapping[str, Any]) -> Iterator[Any]:
    if not is_remote(path):
        with pa.OSFile(path) as local:
            yield local
        return
    with opened(path, options) as remote:
        yield pa.PythonFile(remote, "r")


def _is_required(file: StoredFile, name: str) -> bool:
    return name in file.schema.names and not file.schema.field(name).nullable


def _read(
    load: Callable[[Any, Sequence[str]], pa.Table],
    path: str,
    options: Mapping[str, Any],
    names: Sequence[str],
    schema: pa.Schema,
    casts: Mapping[str, str],
    fixed: Mapping[str, Any],
) -> pa.Table:
    """One partition: a file."""
    with read_errors(path), _source(path, options) as source:
        read = load(source, names)
    return partition(path, read, read.num_rows, schema, casts, fixed)


# ---------------------------------------------------------------------------------------------------------------------
# Arrow IPC
# ---------------------------------------------------------------------------------------------------------------------


def _ipc(source: Any, names: Sequence[str] | None = None) -> Any:
    """A reader of a file or a stream, of the columns ``names``."""
    magic = source.read(6)
    source.seek(0)
    if magic[:4] == b"FEA1":
        raise ValueError("it is Feather version 1; write it as version 2")
    make = pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream
    options = None
    if names is not None:
        schema = make(source).schema
        source.seek(0)
        places = sorted(schema.get_field_index(name) for name in names)
        options = pa.ipc.IpcReadOptions(included_fields=places, use_threads=False)
    return make(source, options=options)


def _ipc_schema(source: Any) -> tuple[pa.Schema, int | None]:
    reader = _ipc(source)
    return reader.schema, 0 if getattr(reader, "num_record_batches", 1) == 0 else None


def _ipc_table(source: Any, names: Sequence[str]) -> pa.Table:
    return _ipc(source, names or None).read_all()


# ---------------------------------------------------------------------------------------------------------------------
# ORC
# ---------------------------------------------------------------------------------------------------------------------


def _orc_schema(source: Any) -> tuple[pa.Schema, int | None]:
    from pyarrow import orc  # not imported where no file is ORC

    file = orc.ORCFile(source)
    return file.schema, file.nrows


def _orc_table(source: Any, names: Sequence[str]) -> pa.Table:
    from pyarrow import orc

    return orc.ORCFile(source).read(columns=list(names))
