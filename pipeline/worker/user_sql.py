"""Statements of a user: SELECTs that see their tables and nothing else.

Each thread has a second connection for them, without files, extensions and settings; and before a statement is run,
DuckDB's own parse of it is read: it must be one SELECT over its tables, without functions that tell of the machine or
differ from run to run. So the same rows come out wherever it runs.

While a file is built there is no connection in the process: a child process describes the statement over empty tables,
and ends.
"""

from __future__ import annotations

import functools
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import natural_type
from pipeline.worker.engine_connections import note_connection
from pipeline.worker.sql_engine import connect, entered
from pipeline.worker.statements import Reading, parsed

__all__ = ["Description", "child", "describe", "run_query"]

_DESCRIBE_SECONDS = 60
_KEPT = 200  # statements of a thread
_local = threading.local()
_inherited: list[Any] = []  # of the parent of a fork: dropping a connection crashes the child


@dataclass(frozen=True)
class Description:
    """What a statement gives.

    Parameters
    ----------
    schema : its columns, any of which may be missing
    ordered : whether it orders the rows
    used : the tables that it reads
    whole : why it needs all rows at once; empty: it can be run on any part of its table
    """

    schema: pa.Schema
    ordered: bool
    used: frozenset[str]
    whole: str


# ---------------------------------------------------------------------------------------------------------------------
# While building
# ---------------------------------------------------------------------------------------------------------------------


def describe(query: str, schemas: Mapping[str, pa.Schema]) -> Description:
    """Return what a statement gives, in a child process that ends.

    Raises
    ------
    DataError : it is no SELECT, reaches for other things than its tables, or names what is not there
    """
    return _described(query, tuple(schemas.items()))


@functools.lru_cache(maxsize=256)
def _described(query: str, schemas: tuple[tuple[str, pa.Schema], ...]) -> Description:
    command = [sys.executable, "-c", "from pipeline.worker.user_sql import child; child()"]
    given = pickle.dumps((query, dict(schemas)))
    try:
        found = subprocess.run(command, input=given, capture_output=True, timeout=_DESCRIBE_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        raise DataError(f"describing the query took longer than {_DESCRIBE_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        raise DataError(f"the query can't be described: {error.stderr.decode(errors='replace')[-500:]}") from None
    made = pickle.loads(found.stdout)
    if isinstance(made, str):
        raise DataError(made)
    assert isinstance(made, Description)
    return made


def child() -> None:
    """Describe the statement on stdin, on stdout: what the child process does."""
    query, schemas = pickle.loads(sys.stdin.buffer.read())
    try:
        made: Description | str = _description(query, schemas)
    except DataError as error:
        made = str(error)
    sys.stdout.buffer.write(pickle.dumps(made))


def _description(query: str, schemas: Mapping[str, pa.Schema]) -> Description:
    connection = _connection()
    statement = parsed(connection, query, schemas)
    tables = {name: _carried(schema.empty_table()) for name, schema in schemas.items()}
    relation = _relation(connection, query, tables)
    try:
        types = [str(kind) for kind in relation.types]
        stored = relation.limit(0).to_arrow_table().schema
    except _errors() as error:
        raise DataError(_message(error)) from None
    finally:
        _forget(connection, tables)
    fields: list[pa.Field] = []
    for field, kind in zip(stored, types, strict=True):
        if field.name in {other.name for other in fields}:
            raise DataError(f"the query gives two columns {field.name!r}; name them: select a as b")
        fields.append(pa.field(field.name, _type_of(field, kind)))
    found = Reading(connection, schemas).of(statement)
    return Description(pa.schema(fields), found.ordered, found.used, found.whole)


def _type_of(field: pa.Field, kind: str) -> pa.DataType:
    """The type in a frame: of whole numbers of 128 bits int64, of intervals durations."""
    if kind in ("HUGEINT", "UHUGEINT"):
        return pa.int64() if kind == "HUGEINT" else pa.uint64()
    if kind == "INTERVAL":
        return pa.duration("us")
    if kind in ("TIME WITH TIME ZONE", "BIT") or isinstance(field.type, pa.BaseExtensionType):
        if kind in ("UUID", "JSON"):
            return pa.string()
        raise DataError(f"column {field.name!r} is {kind}, which a frame can't hold; cast it in the query")
    try:
        return natural_type(field.type)
    except OpError as error:
        raise DataError(f"column {field.name!r} {error}; cast it in the query") from None


# ---------------------------------------------------------------------------------------------------------------------
# Inside tasks
# ---------------------------------------------------------------------------------------------------------------------


def run_query(query: str, tables: Mapping[str, pa.Table], schema: pa.Schema) -> pa.Table:
    """Return the rows of a statement over its tables.

    Raises
    ------
    DataError : it fails at their values, or a value does not fit the schema
    """
    connection = _connection()
    asked = query, tuple((name, tuple(table.column_names)) for name, table in tables.items())
    if asked not in _local.parsed:
        parsed(connection, query, {name: table.schema for name, table in tables.items()})
        _local.parsed = {asked, *list(_local.parsed)[-_KEPT:]}
    carried = {name: _carried(table) for name, table in tables.items()}
    try:
        made = _relation(connection, query, carried).to_arrow_table()
    except _errors() as error:
        raise _failure(error) from error
    except RuntimeError as error:
        if "interrupted" in str(error).lower():
            raise KeyboardInterrupt from None
        raise
    finally:
        _forget(connection, carried)
    columns = [_restored(column, field) for column, field in zip(made.columns, schema, strict=True)]
    return entered(pa.table(columns, names=schema.names), schema)


def _restored(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if pa.types.is_interval(column.type):
        return _durations(column, field.name)
    if isinstance(column.type, pa.BaseExtensionType):
        return column.cast(column.type.storage_type)
    if pa.types.is_integer(field.type) and column.type != field.type:  # sums of whole numbers have 128 bits
        try:
            return column.cast(field.type)
        except pa.ArrowInvalid as error:
            worst = max((value for value in column.to_pylist() if value is not None), key=abs)
            cure = f"write it as {field.name}::double, or ::decimal(38, 0), in the query"
            said = f"{worst:.0f} is a value that {field.type} can't hold; {cure}"
            raise DataError(f"column {field.name!r}: {said}") from error
    return column


def _durations(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Intervals of days and times as microseconds.

    Raises
    ------
    DataError : one has months, whose length varies
    """
    made = []
    for value in column.to_pylist():
        if value is not None and value.months:
            raise DataError(f"column {name!r} has an interval of months, whose length varies; add it to a time instead")
        made.append(None if value is None else value.days * 86_400_000_000 + value.nanoseconds // 1000)
    return pa.chunked_array([pa.array(made, pa.duration("us"))])


def _connection() -> Any:
    if getattr(_local, "process", None) != os.getpid():
        if getattr(_local, "connection", None) is not None:
            _inherited.append(_local.connection)
        _local.process, _local.connection = os.getpid(), connect(untrusted=True)
        _local.parsed = set()  # statements that were found to be harmless
        note_connection()
    return _local.connection


def _failure(error: Exception) -> DataError:
    import duckdb  # is loaded: it raised the error

    if isinstance(error, duckdb.InternalException | duckdb.FatalException):
        _local.connection.close()
        _local.process = _local.connection = None
    if isinstance(error, duckdb.InterruptException):
        raise KeyboardInterrupt from None
    return DataError(_message(error))


def _errors() -> type[Exception]:
    import duckdb  # is loaded with the connection

    return duckdb.Error


def _message(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^[A-Z][A-Za-z ]+ Error: ", "", lines[0])


def _carried(table: pa.Table) -> pa.Table:
    """The table as DuckDB takes it: categories as their values, float16 as float32."""
    columns = []
    for column in table.columns:
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
        elif pa.types.is_float16(kind):
            column = column.cast(pa.float32())
        columns.append(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))
    return pa.table(columns, names=table.column_names)


def _relation(connection: Any, query: str, tables: Mapping[str, pa.Table]) -> Any:
    try:
        for name, table in tables.items():
            connection.register(name, table)
        return connection.sql(query)
    except _errors() as error:
        _forget(connection, tables)
        raise _failure(error) from None


def _forget(connection: Any, tables: Mapping[str, pa.Table]) -> None:
    if getattr(_local, "process", None) is not None:
        for name in tables:
            connection.unregister(name)
