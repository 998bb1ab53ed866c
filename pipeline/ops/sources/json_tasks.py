"""Inside the tasks of ``read_json``: some lines of a file as a table, or what is wrong with them, and in which line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipeline.errors import DataError
from pipeline.graph.column_types import empty_table, is_integer, is_text, type_name
from pipeline.ops.frames.cast import cast_column
from pipeline.ops.sources.json_types import inexact, parsed, with_texts
from pipeline.ops.sources.text_blocks import block, lines_in, n_lines, unpacked
from pipeline.ops.sources.text_values import Column, Numbers, as_typed, is_plain, may_be_inexact, misfit
from pipeline.worker.sql_engine import entered

__all__ = ["Lines", "ReadingJson", "is_direct", "lines_of_list", "read_lines"]

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Lines:
    """The lines of a file that begin at ``start`` or later and before ``stop``; of a list all of it."""

    path: str
    options: Mapping[str, Any]
    start: int
    stop: int | None
    is_list: bool


@dataclass(frozen=True)
class ReadingJson:
    """How all lines are read; written as text once, for the names of tasks.

    Parameters
    ----------
    columns : those with ``as_text`` are read as texts, whatever their values are
    known : all keys that objects may have; empty: any
    """

    columns: tuple[Column, ...]
    schema: pa.Schema
    known: tuple[str, ...]

    @cached_property
    def _text(self) -> str:
        return repr(self)

    def __str__(self) -> str:
        return self._text

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        """As which type Arrow reads each column."""
        return {c.name: pa.string() if c.as_text else read_as(c.type) for c in self.columns}


def read_as(kind: pa.DataType) -> pa.DataType:
    """Return the type as which Arrow reads a column that becomes ``kind``: text for times and categories."""
    if pa.types.is_list(kind):
        return pa.list_(read_as(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(member.name, read_as(member.type)) for member in kind])
    return kind if is_plain(kind) or pa.types.is_decimal(kind) else pa.string()


def is_direct(kind: pa.DataType) -> bool:
    """Return whether Arrow reads a type as what it is; text is none, since whatever has a JSON becomes text."""
    return pa.types.is_nested(kind) or (read_as(kind) == kind and not is_text(kind))


def lines_of_list(path: str, data: bytes) -> list[bytes]:
    """Return the objects of a list, one a line.

    Raises
    ------
    DataError : if it is no JSON, or has something else than objects
    """
    try:
        rows = json.loads(data)
    except json.JSONDecodeError as error:
        line = lines_in(data[: len(error.doc[: error.pos].encode())]) + 1
        raise DataError(f"{path}:{line}: is no JSON ({error.msg})") from error
    except ValueError as error:
        raise DataError(f"{path}: is no JSON ({error})") from error
    other = next((i for i, row in enumerate(rows) if not isinstance(row, dict)), None)
    if other is not None:
        raise DataError(f"{path}: member {other} of the list is no object, but {type(rows[other]).__name__}")
    return [(json.dumps(row, separators=(",", ":")) + "\n").encode() for row in rows]


def read_lines(lines: Lines, reading: ReadingJson) -> pa.Table:
    """Return one partition: some lines of a file, or a list.

    Raises
    ------
    DataError : naming the file, and the line or the member of the list
    """
    with unpacked(lines.path, lines.options) as file:
        data = file.read() if lines.is_list else block(file, lines.start, lines.stop)
    data = data.removeprefix(_BOM)
    if lines.is_list:
        data = b"".join(lines_of_list(lines.path, data))
    if not data or data.isspace():
        return empty_table(reading.schema)
    rows = _Rows(lines, data, reading)
    table = rows.table()
    made = dict(zip(table.column_names, table.columns, strict=True))
    for column in reading.columns:
        if made[column.name].type != column.type:
            made[column.name] = rows.typed(made[column.name], column)
    for field in reading.schema:
        if field.name not in made:
            made[field.name] = pa.repeat(pa.scalar(lines.path), table.num_rows)
    try:
        return entered(pa.table(made), reading.schema)
    except DataError as error:
        raise DataError(rows.no_text() or f"{lines.path}: {error}") from error


@dataclass(frozen=True)
class _Rows:
    """Lines of objects, and where they are."""

    lines: Lines
    data: bytes
    reading: ReadingJson

    def place(self, i: int) -> str:
        """Where line ``i`` of these is."""
        path = self.lines.path
        if self.lines.is_list:
            return f"{path}: member {i} of the list"
        return f"{path}:{n_lines(path, self.lines.options, self.lines.start) + i + 1}"

    def table(self) -> pa.Table:
        """The columns as Arrow reads them.

        Raises
        ------
        DataError : naming the line of the first row that does not fit
        """
        types = self.reading.types
        schema = pa.schema(list(types.items()))
        texts = [column.name for column in self.reading.columns if column.as_text]
        data = self.data
        try:
            table = self._parsed(data, schema)
        except pa.ArrowInvalid as error:
            try:
                data = with_texts(data, texts) if texts else data
                table = self._parsed(data, schema)
            except (pa.ArrowInvalid, ValueError, AttributeError):
                raise DataError(self._fault(schema, texts, error)) from error
        floats = [(name, kind) for name, kind in types.items() if _may_be_inexact(table.column(name))]
        if floats:
            self._require_exact(floats)
        return table

    def _parsed(self, data: bytes, schema: pa.Schema) -> pa.Table:
        known = self.reading.known
        nested = any(pa.types.is_nested(kind) for kind in schema.types)
        table = parsed(data, schema, "infer" if known or nested else "ignore")
        wrong = [name for name in table.column_names if known and name not in known]
        narrower = [field.name for field in schema if table.schema.field(field.name).type != field.type]
        if wrong or narrower:
            raise pa.ArrowInvalid("unexpected field")
        return table.select(schema.names)

    def _fault(self, schema: pa.Schema, texts: Sequence[str], error: Exception) -> str:
        """What to say of the first row that does not fit, which is found by halves."""
        rows = self.data.splitlines(keepends=True)

        def fits(start: int, stop: int) -> bool:
            data = b"".join(rows[start:stop])
            try:
                return not data.strip() or bool(self._parsed(with_texts(data, texts) if texts else data, schema))
            except (pa.ArrowInvalid, ValueError, AttributeError):
                return False

        start, stop = 0, len(rows)
        while stop - start > 1:
            middle = (start + stop) // 2
            start, stop = (middle, stop) if fits(start, middle) else (start, middle)
        row = rows[start]
        try:
            values = json.loads(row)
        except json.JSONDecodeError as no_json:
            return f"{self.place(start)}: is no JSON of objects, one a line ({no_json.msg}: column {no_json.colno})"
        if not isinstance(values, dict):
            return f"{self.place(start)}: is no object, but {type(values).__name__}"
        new = [name for name in values if self.reading.known and name not in self.reading.known]
        if new:
            return (
                f"{self.place(start)}: has a key {new[0]!r}, which no object has among the first 1,000; cure: cast: "
                f"{{{new[0]}: TYPE}}, or name the columns that you need"
            )
        for field in schema:
            if field.name in values and field.name not in texts:
                try:
                    one = json.dumps({field.name: values[field.name]}).encode()
                    found = parsed(one, pa.schema([field]), "infer")
                    fitting = found.schema.field(0).type == field.type
                except pa.ArrowInvalid:
                    fitting = False
                if not fitting:
                    return f"{self.place(start)}: {self._misfit(field, values[field.name])}"
        said = re.sub(r"\.? in row \d+$", "", str(error).removeprefix("JSON parse error: "))
        return f"{self.place(start)}: is no JSON of objects, one a line ({said})"

    def _misfit(self, field: pa.Field, value: Any) -> str:
        shown = json.dumps(value, ensure_ascii=False)
        kind = (
            "by cast"
            if any(c.kind for c in self.reading.columns if c.name == field.name)
            else "by the first 1,000 rows"
        )
        better = "string"
        if is_integer(field.type) and isinstance(value, float):
            better = "float64"
        elif is_integer(field.type) and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**38:
            better = "int64" if abs(value) < 2**63 and field.type != pa.int64() else "decimal(38, 0)"
        return (
            f"column {field.name!r}: {shown[:60]} is no {type_name(field.type)}, its type {kind}; cure: cast: "
            f"{{{field.name}: {better}}}"
        )

    def _require_exact(self, floats: Sequence[tuple[str, pa.DataType]]) -> None:
        for i, row in enumerate(self.data.splitlines()):
            if row.strip() and (name := inexact(row, floats)):
                raise DataError(
                    f"{self.place(i)}: column {name!r}: has a whole number that no float64 equals; cure: cast: "
                    f"{{{name}: string}}, or decimal(38, 0) where all are whole"
                )

    def typed(self, found: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
        """What Arrow has read in the type of its column.

        Raises
        ------
        DataError : naming the line of the first value that does not fit
        """
        nested = pa.types.is_nested(column.type)
        try:
            if nested:
                return cast_column(column.name, found, column.type, column.kind)
            return as_typed(found, column, Numbers())
        except (pa.ArrowInvalid, ValueError, DataError) as error:
            if (no_text := self.no_text()) is not None:
                raise DataError(no_text) from error
            if nested:
                raise DataError(f"{self.lines.path}: {error}") from error
            row, said = misfit(found, column, Numbers())
            full = [i for i, line in enumerate(self.data.splitlines()) if line.strip()]
            place = self.place(full[row]) if len(full) == len(found) else self.lines.path
            raise DataError(f"{place}: {said}") from error

    def no_text(self) -> str | None:
        """What to say of the first bytes that are no UTF-8; None if all are."""
        try:
            self.data.decode()
        except UnicodeDecodeError as error:
            return f"{self.place(lines_in(self.data[: error.start]))}: has what is no UTF-8, as JSON is; write it so"
        return None


def _may_be_inexact(column: pa.ChunkedArray) -> bool:
    if pa.types.is_struct(column.type):
        members = (pa.chunked_array(part) for part in zip(*(c.flatten() for c in column.chunks), strict=True))
        return any(_may_be_inexact(member) for member in members)
    if pa.types.is_list(column.type):
        return _may_be_inexact(pa.chunked_array([c.flatten() for c in column.chunks], column.type.value_type))
    return column.type == pa.float64() and may_be_inexact(column)
