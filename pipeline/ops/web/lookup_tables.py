"""What SQLite and CSV files have for a value. A file is opened once by each worker, and for reading only."""

from __future__ import annotations

import math
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from pipeline.errors import DataError, OpError, nearest, shortened
from pipeline.ops.sources.text_values import MISSING_TEXTS, Column, Numbers, as_typed, may_be_inexact, misfit
from pipeline.ops.web.connections import connection
from pipeline.ops.web.http_client import NoAnswer

__all__ = ["CsvTable", "Database", "Row"]

Row = dict[str, Any]

_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_MAGIC = b"SQLite format 3\0"
_STEPS = 100_000  # of SQLite's machine between looks at the time
_NOT_NAMES = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_NAME = re.compile(r"[:@$]([A-Za-z_]\w*)")
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,4000}\s*")  # Python reads no longer ones


def _require_distinct(columns: Sequence[str], what: str, cure: str) -> None:
    twice = next((name for name, n in Counter(columns).items() if n > 1), None)
    if twice is not None:
        raise DataError(f"{what} has {twice!r} more than once; {cure}")


@dataclass(frozen=True)
class Database:
    """A SQLite file and a query, which can't write, attach another file, or change a setting.

    Parameters
    ----------
    names : of the values that are bound in the query, ``:id``, each once
    timeout : seconds of one query, with the time that it waits for a lock
    """

    path: str
    query: str
    names: tuple[str, ...]
    timeout: float

    @classmethod
    def opened(cls, path: str, query: str, timeout: float) -> Database:
        """Return the database after a look at the file and at the query, of which at most the first row is computed.

        Raises
        ------
        DataError : if the file is missing, or no SQLite database
        OpError : if SQLite can't prepare the query, it may write, no value is bound in it, or a column is there twice
        """
        bare = _NOT_NAMES.sub(" ", query)
        names = tuple(dict.fromkeys(_NAME.findall(bare)))
        if not names:
            raise OpError("query", 'no value of the item is bound in it: write "… where owner = :id"')
        if "?" in bare:
            raise OpError("query", "got ?; values are bound by name: :id")
        made = cls(path, query, names, timeout)
        connected = made._connect()
        try:
            connected.execute(f"explain {query}", dict.fromkeys(names)).close()
            connected.set_progress_handler(lambda: True, _STEPS)
            with suppress(sqlite3.Error):  # of missing values, or of too many steps: then the run looks at its columns
                _columns(connected.execute(query, dict.fromkeys(names)))
        except DataError as error:
            raise OpError("query", str(error)) from error
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error) or "malformed" in str(error):
                raise DataError(f"{path}: {error}") from error
            if "locked" not in str(error):
                raise OpError("query", _reason(error)) from error
        except sqlite3.Warning as error:  # of several statements
            raise OpError("query", str(error)) from error
        finally:
            connected.close()
        return made

    def rows(self, work: object, value: Any) -> list[Row]:
        """Return the rows for an item: a map whose values are bound by their keys, or the one value.

        Raises
        ------
        DataError : if the item lacks a value, or has one that SQLite doesn't know, or a column is there twice
        NoAnswer : if the query takes too long, or the database is locked
        """
        bound = self._bound(value)
        status = os.stat(self.path)
        key = (self.path, status.st_dev, status.st_ino)
        connected = connection(work, key, self._connect)
        deadline = time.monotonic() + self.timeout
        connected.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        try:
            cursor = connected.execute(self.query, bound)
            columns = _columns(cursor)
            return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        except sqlite3.DatabaseError as error:
            if "interrupted" in str(error) or "locked" in str(error) or "busy" in str(error):
                raise NoAnswer(f"{self.path}: no answer within {self.timeout:g} s ({error})", late=True) from error
            raise DataError(f"{self.path}: {_reason(error)}") from error

    def _bound(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            if len(self.names) > 1:
                raise DataError(f"the item is no map, and the query needs {', '.join(self.names)}")
            return {self.names[0]: _for_sqlite(value)}
        missing = [name for name in self.names if name not in value]
        if missing:
            raise DataError(
                f"the item has no {missing[0]!r}, which the query needs; it has {', '.join(map(str, value))}"
            )
        return {name: _for_sqlite(value[name]) for name in self.names}

    def _connect(self) -> sqlite3.Connection:
        if not os.path.isfile(self.path):
            raise DataError(f"{self.path}: no such file")
        with open(self.path, "rb") as file:  # SQLite looks only if the query names a table, and takes an empty file
            if file.read(len(_MAGIC)) != _MAGIC:
                raise DataError(f"{self.path}: is no SQLite database")
        # another thread may close it, when no task uses it any more
        connected = sqlite3.connect(
            f"{Path(self.path).absolute().as_uri()}?mode=ro", uri=True, timeout=self.timeout, check_same_thread=False
        )
        connected.set_authorizer(_authorize)
        return connected


def _columns(cursor: sqlite3.Cursor) -> list[str]:
    columns = [column[0] for column in cursor.description]
    _require_distinct(columns, "the result", "name one of them: select a.id, b.id as b_id")
    return columns


def _authorize(action: int, *about: Any) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _reason(error: sqlite3.Error) -> str:
    return "a query may only read" if "not authorized" in str(error) else str(error)


def _for_sqlite(value: Any) -> Any:
    """Return a value as SQLite stores it: decimals as whole numbers or floats, times as text in ISO 8601.

    Raises
    ------
    DataError : for a list, a map, and a whole number beyond 64 bits
    """
    value = plain(value)
    if isinstance(value, Decimal):
        value = int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise DataError(
            f"got {shortened(str(value), 40)}, and SQLite has whole numbers of 64 bits; look for it as text"
        )
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise DataError(f"got a {type(value).__name__}; a query takes numbers, text and times")


def plain(value: Any) -> Any:
    """Return a scalar as a Python value: of numpy and pandas as its counterpart, missing as None, times as text.

    Raises
    ------
    DataError : for a text that UTF-8 can't write
    """
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        raise DataError(f"got {shortened(value, 80)!r}, with half of a character (\\ud800 to \\udfff); write all of it")
    if isinstance(value, Decimal):
        return None if value.is_nan() else value
    if hasattr(value, "isoformat"):
        return None if value != value else value.isoformat()  # NaT
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        with suppress(ValueError):
            value = value.item()
    if type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value)):
        return None
    return value


def text_of(value: Any) -> str | None:
    """Return a scalar as it is compared with text, and written into a URL; None if it is missing.

    Raises
    ------
    DataError : for a list or a map
    """
    value = plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise DataError(f"got a {type(value).__name__}; a lookup takes numbers, text and times")


@dataclass(frozen=True)
class CsvTable:
    """A CSV file and the column that is compared with items, as text."""

    path: str
    key: str
    sep: str

    @classmethod
    def opened(cls, path: str, key: str, sep: str) -> CsvTable:
        """Return the table after a look at its header.

        Raises
        ------
        DataError : if the file is missing, no CSV, or has two columns of one name
        OpError : if there is no such column
        """
        try:
            with pacsv.open_csv(path, parse_options=pacsv.ParseOptions(delimiter=sep)) as reader:
                columns: Sequence[str] = reader.schema.names
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}") from error
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: {error}") from error
        _require_distinct(columns, f"{path}: the header", "rename one of them")
        if key not in columns:
            known = ", ".join(columns)
            raise OpError("key", f"{key!r} is no column of the file; there are {known}{nearest(key, columns)}")
        return cls(path, key, sep)

    def rows(self, work: object, value: Any) -> list[Row]:
        """Return the rows whose key is ``value``, in the order of the file, with ``value`` as their key."""
        wanted = text_of(value)
        status = os.stat(self.path)
        key = (self.path, self.key, self.sep, status.st_ino, status.st_size, status.st_mtime_ns)
        index = connection(work, key, self._index)
        return [{**row, self.key: plain(value)} for row in index.by_text.get(wanted, ())]

    def _index(self) -> _Index:
        table = self._read({self.key: pa.string()})
        _require_distinct(table.column_names, f"{self.path}: the header", "rename one of them")
        rows: list[Row] = table.to_pylist()
        floats = [name for name in table.column_names if table.schema.field(name).type == pa.float64()]
        large = [name for name in floats if may_be_inexact(table.column(name))]
        if large:
            texts = self._read(dict.fromkeys(large, pa.string()))
            for name in large:
                for row, value in zip(rows, self._exact(name, texts.column(name)), strict=True):
                    row[name] = value
        by_text: dict[str | None, list[Row]] = {}
        for row in rows:
            by_text.setdefault(row[self.key], []).append(row)
        return _Index(by_text)

    def _read(self, types: Mapping[str, pa.DataType]) -> pa.Table:
        try:
            return pacsv.read_csv(
                self.path,
                read_options=pacsv.ReadOptions(use_threads=False),
                parse_options=pacsv.ParseOptions(delimiter=self.sep, newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(column_types=types, strings_can_be_null=False),
            )
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{self.path}: {error}") from error

    def _exact(self, name: str, texts: pa.ChunkedArray) -> list[int | float | None]:
        """Return the numbers of a column that Arrow takes for floats: as int if all are whole.

        Raises
        ------
        DataError : if there are others, and one of them has no float
        """
        found = [None if text in MISSING_TEXTS else text for text in texts.to_pylist()]
        if all(text is None or _WHOLE.fullmatch(text) for text in found):
            return [None if text is None else int(text) for text in found]
        column = Column(name, pa.float64(), missing=MISSING_TEXTS)
        try:
            floats: list[int | float | None] = as_typed(texts, column, Numbers()).to_pylist()
        except ValueError as error:
            text = texts[misfit(texts, column, Numbers())[0]].as_py()
            cure = f"read the file with read_csv, cast: {{{name}: string}}, and merge"
            raise DataError(f"{self.path}: column {name!r}: {text[:80]} {error}; cure: {cure}") from error
        return floats


@dataclass
class _Index:
    """The rows of a table by the text of their key."""

    by_text: dict[str | None, list[Row]]

    def close(self) -> None:
        """Release the rows."""
        self.by_text = {}
