"""Inside the tasks of ``read_csv``: some lines of a file as a table, or what is wrong with them, and in which line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from pipeline.errors import DataError
from pipeline.graph.column_types import empty_table
from pipeline.ops.sources.csv_rows import Dialect, blanked, has_odd_quotes, last_end, line_of, repaired, require_text
from pipeline.ops.sources.text_blocks import (
    block,
    footer_start,
    in_utf8,
    is_cuttable,
    lines_in,
    n_lines,
    no_utf8,
    unpacked,
)
from pipeline.ops.sources.text_values import Column, Numbers, as_typed, exact_floats, may_be_inexact, misfit
from pipeline.worker.sql_engine import entered

__all__ = ["Piece", "Reading", "read_piece", "texts_of"]

_BOM = b"\xef\xbb\xbf"
_LARGEST = 2**30  # bytes that Arrow's parser gets at once: it counts them, and those of texts, with 32 bits


@dataclass(frozen=True)
class Piece:
    """The lines of a file that begin at ``start`` or later and before ``stop``; None: all to its end.

    Parameters
    ----------
    is_cut : whether the file has other pieces
    header : its columns, in their order
    """

    path: str
    options: Mapping[str, Any]
    start: int
    stop: int | None
    is_cut: bool
    header: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """How all pieces are read; written as text once, for the names of tasks."""

    dialect: Dialect
    numbers: Numbers
    columns: tuple[Column, ...]
    schema: pa.Schema

    @cached_property
    def _text(self) -> str:
        return repr(self)

    def __str__(self) -> str:
        return self._text


def read_piece(piece: Piece, reading: Reading) -> pa.Table:
    """Return one partition: some lines of one file.

    Raises
    ------
    DataError : naming the file and the line
    """
    path, dialect = piece.path, reading.dialect

    def before() -> int:
        return n_lines(path, piece.options, piece.start, dialect.encoding)

    with unpacked(path, piece.options, dialect.encoding) as file:
        data = block(file, piece.start, piece.stop)
    data = in_utf8(path, data, dialect.encoding, before).removeprefix(b"" if piece.start else _BOM)
    if dialect.skip_footer and piece.stop is None and not is_cuttable(path, dialect.encoding):
        data = data[: footer_start(data, dialect.skip_footer) or 0]
    data = blanked(data, dialect)
    has_quotes = bool(dialect.quote) and dialect.quote.encode() in data
    if piece.is_cut and has_quotes and has_odd_quotes(data, dialect):
        raise DataError(
            f"{path}: a line break inside quotes, or a lone quote, lies near byte {piece.start + len(data)}, where a "
            "block ends; make the file one block: blocksize: 1000000000000"
        )
    require_text(path, data, dialect, before)
    tables = []
    for part, lines in _parts(data, dialect):
        if part and not part.isspace():
            tables.append(_table(piece, part, reading, _later(before, lines)))
    return pa.concat_tables(tables) if tables else empty_table(reading.schema)


def _later(before: Callable[[], int], lines: int) -> Callable[[], int]:
    return lambda: before() + lines


def _parts(data: bytes, dialect: Dialect) -> Iterator[tuple[bytes, int]]:
    """Parts of a block that are not too large, and the lines before each."""
    if len(data) <= _LARGEST:
        yield data, 0
        return
    start = lines = 0
    while start < len(data):
        part = data[start : start + _LARGEST]
        if start + len(part) < len(data):
            part = part[: last_end(part, dialect) + 1]
        yield part, lines
        start, lines = start + len(part), lines + lines_in(part)


def _table(piece: Piece, data: bytes, reading: Reading, before: Callable[[], int]) -> pa.Table:
    path, numbers = piece.path, reading.numbers
    columns = [column for column in reading.columns if column.name in piece.header]
    types = {column.name: pa.string() if column.as_text else column.type for column in columns}
    parser = _Parser(path, piece.header, reading.dialect, before)
    try:
        table = parser.parse(data, types, numbers.decimal)
    except _Unfit:  # a value that is none of its column: all as text, to see which
        types = dict.fromkeys(types, pa.string())
        table = parser.parse(data, types, numbers.decimal)
    data = parser.repaired or data
    made: dict[str, pa.ChunkedArray] = {}
    for column in columns:
        found = table.column(column.name)
        try:
            if types[column.name] != column.type or column.as_text:
                found = as_typed(found, column, numbers)
            elif column.type == pa.float64() and may_be_inexact(found):
                texts = parser.parse(data, {column.name: pa.string()}).column(0)
                found = exact_floats(found, texts)
        except (pa.ArrowInvalid, ValueError, DataError) as error:
            texts = parser.parse(data, {column.name: pa.string()}).column(0)
            row, said = misfit(texts, column, numbers, can_have_formats=True)
            raise DataError(f"{path}:{before() + line_of(data, reading.dialect, row) + 1}: {said}") from error
        made[column.name] = found
    n = table.num_rows
    for field in reading.schema:
        if field.name not in made:
            is_source = not field.nullable
            made[field.name] = pa.repeat(pa.scalar(path), n) if is_source else pa.nulls(n, field.type)
    try:
        return entered(pa.table(made), reading.schema)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def texts_of(
    path: str, data: bytes, header: Sequence[str], dialect: Dialect, before: Callable[[], int]
) -> list[pa.ChunkedArray]:
    """Return lines as columns of texts, in which an empty field without quotes is missing."""
    return list(
        _Parser(path, header, dialect, before, is_quiet=True).parse(data, dict.fromkeys(header, pa.string())).columns
    )


class _Unfit(Exception):
    """A value is not of the type of its column."""


@dataclass
class _Parser:
    """Arrow's parser, whose errors name the line.

    Parameters
    ----------
    before : returns the number of lines of the file before those that are parsed
    is_quiet : whether rows of a wrong length are not counted in a warning
    repaired : the lines with all rows in the right length, once one was not
    """

    path: str
    header: Sequence[str]
    dialect: Dialect
    before: Callable[[], int]
    is_quiet: bool = False
    repaired: bytes = b""

    def parse(self, data: bytes, types: Mapping[str, pa.DataType], decimal: str = ".") -> pa.Table:
        """Return the columns of ``types``.

        Raises
        ------
        DataError : the lines are no rows of this length, or no UTF-8
        _Unfit : a value is not of its column's type
        """
        data = self.repaired or data
        mark = self.dialect
        convert = pacsv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            include_columns=list(types),
            decimal_point=decimal,
        )
        # One Arrow block: else its errors would not count rows from the start, and Arrow would start threads.
        read = pacsv.ReadOptions(column_names=list(self.header), use_threads=False, block_size=len(data) + 1)
        parse = pacsv.ParseOptions(
            delimiter=mark.sep,
            quote_char=mark.quote or False,
            escape_char=mark.escape if mark.escape and mark.escape != mark.quote else False,
            newlines_in_values=True,
        )
        try:
            source = pa.BufferReader(data)
            return pacsv.read_csv(source, read_options=read, parse_options=parse, convert_options=convert)
        except pa.ArrowInvalid as error:
            message = str(error)
            if found := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", message):
                return self._wrong_length(data, types, decimal, *map(int, found.groups()))
            if "invalid UTF8" in message:
                raise DataError(self._no_text(data, message)) from error
            if message.startswith("In CSV column"):
                raise _Unfit from error
            raise DataError(f"{self.path}: {message}") from error

    def _wrong_length(
        self, data: bytes, types: Mapping[str, pa.DataType], decimal: str, row: int, n: int, got: int
    ) -> pa.Table:
        if self.dialect.strict or self.repaired:
            line = self.before() + line_of(data, self.dialect, row - 1) + 1
            raise DataError(
                f"{self.path}:{line}: has {got} fields, and there are {n} columns; rows of another length are filled "
                "or left out by strict: false"
            )
        self.repaired, short, long = repaired(data, self.dialect, n)
        kinds = [(short, "short", "filled with missing values"), (long, "long", "left out")]
        for starts, kind, done in kinds if not self.is_quiet else ():
            if starts:
                which = f"{len(starts):,} rows" if len(starts) > 1 else "1 row"
                first = self.before() + lines_in(data[: starts[0]]) + 1
                warning = f"{self.path}:{first}: {which} too {kind}, {done} (strict: false)"
                print(f"warning: {warning}", file=sys.stderr)
        return self.parse(self.repaired, types, decimal)

    def _no_text(self, data: bytes, message: str) -> str:
        found = re.search(r"In CSV column #(\d+)", message)
        where = f" column {self.header[int(found[1])]!r}:" if found else ""
        try:
            data.decode()
        except UnicodeDecodeError as error:
            line = self.before() + lines_in(data[: error.start]) + 1
            return f"{self.path}:{line}:{where} {no_utf8(b'')}"
        return f"{self.path}:{where} {no_utf8(b'')}"
