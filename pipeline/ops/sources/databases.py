"""``read_sql``: a table or the result of a query of SQLite or PostgreSQL as a frame, over ADBC.

While building, the types of the columns are asked for, and the ends of ``partition_by``; rows are read in tasks, each
over a connection of its own that may only read. The first and the last partition have no outer end, so that rows that
were added in the meantime are read as well.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import quote, urlsplit

import pyarrow as pa

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import family, is_text, natural_type, type_name
from pipeline.ops.collections import Frame
from pipeline.ops.frames.cast import target_type
from pipeline.ops.sources.file_columns import chosen, frame_of, narrowed, typed

__all__ = ["read_sql"]

_SAMPLE = 1000
"""Rows of SQLite that tell the types: its columns have none."""


def read_sql(
    *,
    uri: str,
    table: str | None = None,
    query: str | None = None,
    columns: Sequence[str] | None = None,
    cast: Mapping[str, str] | None = None,
    partition_by: str | None = None,
    npartitions: int = 1,
    root: str = "",
    needed: Collection[str] | None = None,
) -> Frame:
    """Return a table or the result of a query; a partition a range of ``partition_by``.

    Parameters
    ----------
    uri : ``sqlite:shop.db``, ``postgresql://user:password@host/database``
    table : name, with its schema if that is needed: ``sales.orders``; or ``query``
    query : one SELECT; it is evaluated once for each partition
    partition_by : column of whole numbers, by which rows are divided; missing ones are in the first partition
    npartitions : number of ranges of equal length between its smallest and largest value
    root : folder to which a path in ``uri`` is relative
    needed : the columns that later steps use; None: all

    Raises
    ------
    OpError : another database, or a parameter that is missing; there is no such column
    DataError : the database does not answer, or refuses the query
    """
    if (table is None) == (query is None):
        raise OpError("table" if table else "query", "write either the table or the query")
    if npartitions > 1 and partition_by is None:
        raise OpError("partition_by", f"{npartitions} partitions need the column by which rows are divided")
    database = _Database.of(uri, root)
    rows = _table_name(table) if table is not None else f"({_one_select(str(query))}) as pipeline_rows"
    stored = database.types(rows)
    twice = sorted({name for name in stored.names if stored.names.count(name) > 1})
    if twice:
        raise DataError(f"{database}: the result has {stored.names.count(twice[0])} columns {twice[0]!r}; name them")
    of = table or "the query"
    wanted = narrowed(chosen(columns, stored.names, of), needed)
    casts = {name: kind for name, kind in {**_decimals(stored), **(cast or {})}.items() if name in wanted}
    chosen(tuple(cast or ()), stored.names, of, field="cast")
    fields = [_field(database, stored.field(name), casts) for name in wanted]
    conditions = [""]
    if partition_by is not None:
        chosen([partition_by], stored.names, of, field="partition_by")
        divided = stored.field(partition_by).type
        if not pa.types.is_integer(divided) and not pa.types.is_null(divided):
            raise OpError("partition_by", f"'{partition_by}' does not hold whole numbers, by which rows are divided")
        conditions = _ranges(database, rows, partition_by, npartitions)
    schema = pa.schema(fields)
    selected = (_selected(database, stored.field(field.name), field.type) for field in fields)
    text = f"select {', '.join(selected)} from {rows}"
    tasks = [(_read, database, f"{text} where {c}" if c else text, schema, casts) for c in conditions]
    return frame_of("read_sql", tasks, schema, float("nan"))


class _Database:
    """A database that can be read.

    Parameters
    ----------
    kind : ``sqlite`` or ``postgresql``
    place : what the driver connects to; it may hold a password
    """

    def __init__(self, kind: str, place: str, state: tuple[int, int] | None = None) -> None:
        self.kind, self.place, self.state = kind, place, state

    @classmethod
    def of(cls, uri: str, root: str) -> _Database:
        """Return the database of a URI."""
        kind, _, rest = uri.partition(":")
        if kind in ("postgresql", "postgres") and rest.startswith("//"):
            return cls("postgresql", str(uri))
        if kind == "sqlite" and rest.strip("/"):
            path = os.path.join(root, re.sub("^//(?=/)", "", rest))
            if not os.path.isfile(path):
                raise DataError(f"{path}: no such file")
            found = os.stat(path)
            return cls("sqlite", path, (found.st_size, found.st_mtime_ns))
        raise OpError("uri", "begins with sqlite: and a path, or with postgresql://")

    def __str__(self) -> str:
        """Return the name for messages, without a password."""
        if self.kind == "sqlite":
            return self.place
        parts = urlsplit(self.place)
        return f"postgresql://{parts.hostname or ''}{parts.path}"

    def __dask_tokenize__(self) -> Any:
        return self.kind, self.place, self.state

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Open a connection that may only read.

        Raises
        ------
        DataError : naming the database, for whatever it reports within the block
        """
        manager, dbapi = _drivers(self.kind)
        try:
            if self.kind == "sqlite":
                place = f"file:{quote(os.path.abspath(self.place))}?mode=ro"
                with dbapi.connect(place, autocommit=True) as connection, connection.cursor() as cursor:
                    yield cursor
            else:
                with dbapi.connect(self.place, autocommit=True) as connection, connection.cursor() as cursor:
                    cursor.execute("set default_transaction_read_only = on")
                    yield cursor
        except manager.Error as error:
            said = " ".join(str(error).replace(self.place, str(self)).split())
            raise DataError(f"{self}: {said}") from error

    def types(self, rows: str) -> pa.Schema:
        """Return the columns of a table or subquery; PostgreSQL reads no row for it, SQLite a thousand."""
        with self.cursor() as cursor:
            if self.kind == "postgresql":
                return cursor.adbc_execute_schema(f"select * from {rows}")
            cursor.execute(f"select * from {rows} limit {_SAMPLE}")
            found = cursor.fetch_arrow_table()
        # the driver calls a column whole numbers that has no value there
        kinds = [
            pa.null() if found.column(i).null_count == found.num_rows else field.type
            for i, field in enumerate(found.schema)
        ]
        return pa.schema(list(zip(found.schema.names, kinds, strict=True)))


def _drivers(kind: str) -> tuple[Any, Any]:
    try:
        return import_module("adbc_driver_manager"), import_module(f"adbc_driver_{kind}.dbapi")
    except ImportError as error:
        raise OpError("op", f"read_sql needs {error.name}: pip install 'pipeline[sql]'") from error


def _one_select(query: str) -> str:
    text = query.strip().rstrip(";").rstrip()
    if not re.match(r"(?is)(\s|--[^\n]*\n|/\*.*?\*/|\()*(select|with|values)\b", text):
        raise OpError("query", "is one SELECT")
    return f"{text}\n"  # it may end with a comment


def _table_name(table: str) -> str:
    return ".".join(map(_quoted, table.split(".")))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _field(database: _Database, stored: pa.Field, casts: Mapping[str, str]) -> pa.Field:
    """The column of a frame; any may have missing values."""
    if stored.name not in casts and _typname(stored) == "numeric":
        raise DataError(
            f"{database}: column {stored.name!r} is numeric of any number of digits; say what it becomes: cast: "
            f"{{{stored.name}: decimal(20, 4)}}, or float64"
        )
    have = pa.string() if _as_text(stored) else stored.type
    if stored.name in casts:
        have = pa.string() if pa.types.is_null(have) else natural_type(have)
        return pa.field(stored.name, target_type(f"cast.{stored.name}", have, casts[stored.name]))
    return pa.field(stored.name, natural_type(have))


def _as_text(stored: pa.Field) -> bool:
    """Whether PostgreSQL writes a column as text: numeric, uuid, json, interval and what else Arrow has no type for."""
    return isinstance(stored.type, pa.BaseExtensionType) or pa.types.is_interval(stored.type)


def _selected(database: _Database, stored: pa.Field, kind: pa.DataType) -> str:
    name = _quoted(stored.name)
    any_kind = database.kind == "sqlite" and is_text(kind)  # a value of SQLite may be of any kind
    return f"cast({name} as text) as {name}" if any_kind or _as_text(stored) else name


def _typname(stored: pa.Field) -> str:
    return str((stored.metadata or {}).get(b"POSTGRESQL:type", b"").decode())


def _decimals(stored: pa.Schema) -> dict[str, str]:
    """The types of the columns that PostgreSQL has as numeric(12, 2): up to 38 digits."""
    found = {}
    for field in stored:
        modifier = int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1")) - 4
        digits, scale = modifier >> 16, modifier & 0x7FF
        if _typname(field) == "numeric" and 0 < digits <= 38 and scale <= digits:
            found[field.name] = f"decimal({digits}, {scale})"
    return found


def _ranges(database: _Database, rows: str, by: str, n: int) -> list[str]:
    """The conditions of the partitions."""
    name = _quoted(by)
    with database.cursor() as cursor:
        cursor.execute(f"select min({name}), max({name}) from {rows}")
        low, high = (cell.as_py() for cell in (column[0] for column in cursor.fetch_arrow_table().columns))
    if low is None or n == 1:
        return [""]
    edges = sorted({low + (high - low + 1) * i // n for i in range(1, n)} - {low, high + 1})
    if not edges:
        return [""]
    inner = [f"{name} >= {start} and {name} < {stop}" for start, stop in itertools.pairwise(edges)]
    return [f"{name} < {edges[0]} or {name} is null", *inner, f"{name} >= {edges[-1]}"]


def _read(database: _Database, query: str, schema: pa.Schema, casts: Mapping[str, str]) -> pa.Table:
    """One partition: the rows of one query."""
    with database.cursor() as cursor:
        cursor.execute(query)
        try:
            read = cursor.fetch_arrow_table()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{database}: {_misfit(str(error), schema)}") from error
    # of a range without a value SQLite's driver says that they are whole numbers
    columns = {
        field.name: pa.nulls(read.num_rows, field.type) if column.null_count == len(column) else column
        for field, column in zip(schema, read.columns, strict=True)
    }
    for field in schema:
        have, want = natural_type(columns[field.name].type), field.type
        if field.name not in casts and family(have) != family(want):
            raise DataError(f"{database}: {_misfit('', schema, field.name, type_name(have))}")
    return typed(str(database), pa.table(columns), schema, casts)


def _misfit(message: str, schema: pa.Schema, name: str = "", have: str = "") -> str:
    """What to say of a value of SQLite that is not of its column's type."""
    found = re.search(r"column (\d+): expected \w+ but got ([\w/]+)", message)
    if found:
        name, have = schema.names[int(found[1])], found[2].lower()
    if not name:
        return message
    kind = type_name(schema.field(name).type)
    return f"column {name!r} has a value that is {have}, and is {kind} by the first rows: cast: {{{name}: string}}"
