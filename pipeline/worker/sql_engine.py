"""Run SQL statements over Arrow tables in this thread: DuckDB, one thread a task.

Each thread has a connection of its own, made when it is first needed and never shared. The settings are the same on all
back ends, because some results depend on them: when a statement spills to disk, grouped sums of floats and ties change.

Tables are registered under short names, their columns under ``c0``, ``c1``, … (``a`` and ``A`` are one name in SQL), so
that no name of a user becomes SQL. Types that DuckDB changes are carried as others and restored afterwards: times with
a zone as UTC without one, durations as whole numbers of their unit, float16 as float32, categories as their values.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError
from pipeline.graph.declared_values import without_nan
from pipeline.graph.importing import Deferred
from pipeline.worker.engine_connections import note_connection
from pipeline.worker.temp_folders import Folder

if TYPE_CHECKING:
    import duckdb
else:
    duckdb = Deferred("duckdb")  # not while a graph is built, and not in the server of forks

__all__ = ["MEMORY_LIMIT", "carrier", "connect", "entered", "make_ready", "numbered", "query", "restored", "types_of"]

MEMORY_LIMIT = "1GB"
"""Memory of one statement; beyond it DuckDB writes to disk. One constant: results depend on it in their last bits."""

_SMALL = 100_000  # rows, up to which a statement is kept: reading it again costs more than running it
_KEPT = 200  # statements of a thread

_local = threading.local()
_spill: dict[int, Folder] = {}  # by process, since a fork inherits it
_spill_lock = threading.Lock()
_inherited: list[Any] = []  # of the parent of a fork: dropping a connection crashes the child


def query(statement: str, tables: Mapping[str, pa.Table], parameters: Mapping[str, Any] | None = None) -> pa.Table:
    """Run a statement over tables, and return its result.

    Parameters
    ----------
    statement : one SELECT; made by Pipeline, never a user's text. The same text for all partitions of a step is read
        once for small ones
    tables : by name; as :func:`numbered` makes them
    parameters : the values of ``$name``

    Raises
    ------
    DataError : the statement fails at its values: the message is DuckDB's, without its kind
    """
    engine = _engine()
    try:
        if not parameters and sum(table.num_rows for table in tables.values()) <= _SMALL:
            return engine.again(statement, tables)
        return engine.once(statement, tables, parameters)
    except Exception as error:
        translated = _translated(error)
        if translated is error:
            raise
        raise translated from error


def make_ready() -> None:
    """Make the connection of this thread, so that the time for it is not that of the first statement."""
    _engine()


def types_of(
    statement: str, tables: Mapping[str, pa.Table], parameters: Mapping[str, Any] | None = None
) -> list[pa.DataType]:
    """The types of the columns that a statement gives; nothing is computed, and the statement is read once a thread."""
    engine = _engine()
    key = statement, tuple((name, table.schema) for name, table in tables.items())
    if key not in engine.types:
        if len(engine.types) >= _KEPT:
            engine.types.clear()
        none = {name: table.slice(0, 0) for name, table in tables.items()}
        engine.types[key] = query(f"select * from ({statement}) limit 0", none, parameters).schema.types
    return engine.types[key]


def _translated(error: Exception) -> BaseException:
    """The error as the rest of Pipeline knows it: of the data, an interrupt, or itself, which is a bug."""
    if isinstance(error, duckdb.InternalException | duckdb.FatalException):
        _drop()
        return DataError(f"the database engine failed: {_message(error)}")
    if isinstance(error, duckdb.InterruptException) or (
        isinstance(error, RuntimeError) and "interrupted" in str(error).lower()
    ):
        return _Interrupted()
    if isinstance(error, duckdb.DataError | duckdb.OperationalError | duckdb.InvalidInputException):
        return DataError(_message(error))
    return error


class _Interrupted(KeyboardInterrupt):
    """Ctrl-C while a statement ran: DuckDB has called the program's handler, and kept what that raised to itself."""


class _Source:
    """What a kept statement reads: another table each time it is run."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> Any:
        return self.table.schema.__arrow_c_schema__()


class _Engine:
    """The connection of one thread, and the statements that it keeps.

    Kept are relations: one is run again in about half the time of ``execute`` on what ``prepare`` has made (0.40 and
    0.75 ms for an expression over 1,000 rows, 1.2 and 1.5 for a join), and in two thirds of a new statement's.
    """

    def __init__(self) -> None:
        self.connection = connect()
        self.kept: OrderedDict[Any, tuple[Any, str, dict[str, _Source]]] = OrderedDict()
        self.types: dict[Any, list[pa.DataType]] = {}
        self.n_made = 0

    def once(self, statement: str, tables: Mapping[str, pa.Table], parameters: Mapping[str, Any] | None) -> pa.Table:
        try:
            for name, table in tables.items():
                self.connection.register(name, table)
            # not execute(), whose result is kept a second time
            made = self.connection.sql(statement, params=dict(parameters) if parameters else None)
            return made.to_arrow_table()
        finally:
            for name in tables:
                self.connection.unregister(name)

    def again(self, statement: str, tables: Mapping[str, pa.Table]) -> pa.Table:
        key = statement, tuple((name, table.schema) for name, table in tables.items())
        if key not in self.kept:
            self.kept[key] = self._keep(statement, tables)
            if len(self.kept) > _KEPT:
                self._forget(next(iter(self.kept)))
        self.kept.move_to_end(key)
        relation, _, sources = self.kept[key]
        for label, table in tables.items():
            sources[label].table = table
        try:
            return relation.to_arrow_table()
        finally:
            for label, table in tables.items():
                sources[label].table = table.schema.empty_table()  # the rows are freed

    def _keep(self, statement: str, tables: Mapping[str, pa.Table]) -> tuple[Any, str, dict[str, _Source]]:
        self.n_made += 1
        name = f"q{self.n_made}"
        sources = {label: _Source(table) for label, table in tables.items()}
        named = ", ".join(f"{label} as not materialized (from {name}_{label})" for label in tables)
        has_own = re.match(r"\s*with\s+(?!recursive)", statement, re.IGNORECASE)
        rest = f", {statement[has_own.end() :]}" if has_own else f" {statement}"
        try:
            for label, source in sources.items():
                self.connection.register(f"{name}_{label}", source)
            return self.connection.sql(f"with {named}{rest}" if tables else statement), name, sources
        except Exception:  # constants alone may fail here
            self._unregister(name, sources)
            raise

    def _forget(self, key: Any) -> None:
        _, name, sources = self.kept.pop(key)
        self._unregister(name, sources)

    def _unregister(self, name: str, labels: Iterable[str]) -> None:
        for label in labels:
            self.connection.unregister(f"{name}_{label}")


def _engine() -> _Engine:
    found: _Engine | None = getattr(_local, "engine", None)
    if found is not None and _local.process == os.getpid():
        return found
    if found is not None:
        _inherited.append(found)
    _local.process = os.getpid()
    _local.engine = made = _Engine()
    note_connection()
    return made


_NOT_OPTIMIZED = ("join_order", "build_side_probe_side", "partial_aggregate_pushdown", "statistics_propagation")
"""Joins stay as written, since DuckDB does not know how many rows tables of Arrow have. With the statistics of files
it answers instead of computing: for ``count(i * 4)`` without missing values it counts rows, and misses an overflow.
"""


def connect(*, untrusted: bool = False) -> duckdb.DuckDBPyConnection:
    """Make a connection with the settings of all; the caller uses it in one thread.

    Parameters
    ----------
    untrusted : for statements of a user: they reach no file and no extension
    """
    options: dict[str, Any] = {
        "threads": 1,
        "async_threads": 0,
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": _spill_folder(),
        "preserve_insertion_order": True,
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    connection = duckdb.connect(":memory:", config=options)
    connection.execute("set TimeZone = 'UTC'")
    if not untrusted:
        connection.execute(f"set disabled_optimizers = '{','.join(_NOT_OPTIMIZED)}'")
    if untrusted:
        connection.execute("set allow_community_extensions = false")
        connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def _spill_folder() -> str:
    """The folder of this process for what does not fit in memory; removed when it ends, or was killed."""
    process = os.getpid()
    with _spill_lock:
        if process not in _spill:
            _spill[process] = folder = Folder("spill")
            Finalize(None, folder.close, exitpriority=0)  # of workers, too, which run no atexit
        return _spill[process].path


def _drop() -> None:
    """Throw the connection of this thread away: after such an error its whole database refuses every statement."""
    _local.engine.connection.close()
    _local.engine = None


def _message(error: Exception) -> str:
    """DuckDB's message without its kind and its hints about SQL."""
    text = str(error).strip().splitlines()[0]
    return re.sub(r"^[A-Z][A-Za-z ]+ Error: ", "", text)


# ---------------------------------------------------------------------------------------------------------------------
# Columns in, columns out
# ---------------------------------------------------------------------------------------------------------------------


def carrier(kind: pa.DataType) -> pa.DataType:
    """Return the type as which DuckDB gets a column."""
    t = pa.types
    if t.is_timestamp(kind) and kind.tz:
        return pa.timestamp(kind.unit)
    if t.is_duration(kind):
        return pa.int64()
    if t.is_float16(kind):
        return pa.float32()
    if t.is_dictionary(kind):
        return carrier(kind.value_type)
    if t.is_struct(kind):
        return pa.struct([pa.field(member.name, carrier(member.type)) for member in kind])
    if t.is_list(kind):
        return pa.list_(carrier(kind.value_type))
    return kind


def numbered(table: pa.Table, names: Iterable[str] | None = None, *, rows: str | None = None) -> pa.Table:
    """Return columns as DuckDB gets them: column ``i`` of the table under the name ``c{i}``, in one chunk.

    Parameters
    ----------
    names : the columns that are needed; None: all
    rows : name of a column with the number of each row, int64
    """
    wanted = range(table.num_columns) if names is None else sorted({table.schema.get_field_index(n) for n in names})
    columns, labels = [], []
    for i in wanted:
        column = table.column(i)
        target = carrier(column.type)
        column = column if column.type == target else column.cast(target)
        columns.append(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))
        labels.append(f"c{i}")
    if rows is not None or not columns:  # a table without columns has no rows in Arrow
        columns.append(pa.array(np.arange(table.num_rows)))
        labels.append(rows or "rowno")  # one letter would hide the parameter of a lambda of ours
    return pa.table(columns, names=labels)


def restored(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a result in the type of the schema.

    Raises
    ------
    DataError : if a value does not fit, as a sum of whole numbers beyond 64 bits
    """
    if column.type == kind:
        return column
    try:
        carried = carrier(kind)
        if column.type != carried:
            column = column.cast(carried, safe=not pa.types.is_floating(carried))
        return column if carried == kind else column.cast(kind)
    except pa.ArrowInvalid as error:
        raise DataError(str(error)) from error


# ---------------------------------------------------------------------------------------------------------------------
# Entry of a partition
# ---------------------------------------------------------------------------------------------------------------------


def entered(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a partition that comes from outside (a file, a call) in the types of its schema, fit for every statement.

    A float that is not a number is missing, inside lists and structs, too. Text is UTF-8, times of day lie within a
    day and timestamps in the years that can be computed with: DuckDB's whole database fails at others.

    Raises
    ------
    DataError : naming the column and what is wrong with it
    """
    columns: list[pa.ChunkedArray] = []
    for field in schema:
        column = table.column(table.schema.get_field_index(field.name))
        try:
            if column.type != field.type:
                column = column.cast(field.type)
            column.validate(full=True)
            columns.append(_checked(column))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"column {field.name!r}: {error}") from error
    return pa.Table.from_arrays(columns, schema=schema)


def _checked(column: pa.ChunkedArray) -> pa.ChunkedArray:
    t = pa.types
    if t.is_floating(column.type) or t.is_nested(column.type):
        return pa.chunked_array([without_nan(chunk) for chunk in column.chunks], column.type)
    if t.is_time(column.type) or t.is_timestamp(column.type):
        low, high = _range(column.type)
        ends = pc.min_max(column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64()))
        least, most = ends["min"].as_py(), ends["max"].as_py()
        if least is not None and (least < low or most > high):
            bounds = "of 0 to 24 h" if t.is_time(column.type) else "of the years -290000 to 290000"
            raise pa.ArrowInvalid(f"has a time outside {bounds}")
    return column


def _range(kind: pa.DataType) -> tuple[int, int]:
    ticks = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    if pa.types.is_time(kind):
        return 0, 86_400 * ticks
    if kind.unit == "ns":
        return -(2**63) + 2, 2**63 - 2  # beyond are DuckDB's infinities
    return -9_151_000_000_000 * ticks, 9_151_000_000_000 * ticks
