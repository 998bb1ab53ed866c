"""``read_excel``: sheets of workbooks as a frame, a partition each.

A sheet is parsed as a whole by fastexcel, also to learn its types, so these are of all rows, not of the first ones.
Excel stores every number as a float: a column of whole ones is ``int64``. A column with cells of several kinds is text.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import fastexcel
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.column_types import is_integer
from pipeline.ops.build_warnings import recorded, warn
from pipeline.ops.collections import Frame
from pipeline.ops.sources.file_columns import chosen, frame_of
from pipeline.ops.sources.file_facts import Fact, facts_of, kind_of
from pipeline.ops.sources.one_schema import Columns, StoredFile, partition, settled
from pipeline.ops.sources.paths import SUFFIXES, locate, opened, options_of

__all__ = ["read_excel"]

_ERRORS = {
    "Div0": "#DIV/0!",
    "NA": "#N/A",
    "Name": "#NAME?",
    "Null": "#NULL!",
    "Num": "#NUM!",
    "Ref": "#REF!",
    "Value": "#VALUE!",
}
_SHOWN = 100  # rows in which the header is looked for first


def read_excel(
    *,
    path: str | Sequence[str],
    sheet: str | int | Sequence[str | int] = 1,
    columns: Columns = None,
    cast: Mapping[str, str] | None = None,
    header: bool = True,
    names: Sequence[str] | None = None,
    skip_rows: int = 0,
    source_file: str | None = None,
    source_sheet: str | None = None,
    storage: Mapping[str, Any] | None = None,
    needed: Set[str] | None = None,
) -> Frame:
    """Sheets of Excel workbooks as a frame, a partition each; rows without any value mean nothing.

    Parameters
    ----------
    sheet : names, numbers from 1 on, or patterns with ``*``
    source_file, source_sheet : names of columns with the path of the file, and the sheet, of each row
    needed : the columns that later steps use; None: all

    Raises
    ------
    DataError : a file is missing or is no workbook, has no such sheet, a column twice, or other columns than the first
    OpError : there is no such column
    """
    if not header and not names:
        raise OpError("names", "header: false needs names: [NAME, …], one a column")
    files = locate(path, storage, suffixes=SUFFIXES["read_excel"])
    form = _Form(header, tuple(names or ()), skip_rows)
    heads = [head for several in facts_of(SheetsReader(sheet, form, storage), files) for head in several]
    sheets = [head.sheet for head in heads]
    for head in heads:
        for text in head.warnings:
            warn(text)
    extra = {key: each for key, each in (("source_file", source_file), ("source_sheet", source_sheet)) if each}
    stored = []
    wide = _floats(heads)
    for one, head in zip(sheets, heads, strict=True):
        kinds = [
            pa.field(field.name, pa.float64() if field.name in wide and is_integer(field.type) else field.type)
            for field in head.schema
        ]
        stored.append(StoredFile(str(one), {}, pa.schema(kinds), head.rows))
        for key, name in extra.items():
            if name in head.schema.names:
                raise OpError(key, f"{name!r} is a column of {one}; take another name")
    used = heads if columns == "union" else heads[:1]
    known = list(dict.fromkeys(name for head in used for name in head.schema.names))
    chosen(None if columns == "union" else columns, known, path)
    apart = needed - set(extra.values()) if needed is not None else None
    found = settled([str(one) for one in sheets], stored, columns, cast, apart, lambda *_: False)
    fields = [pa.field(name, pa.string(), nullable=False) for name in extra.values()]
    schema = pa.schema([*found.schema, *fields])
    tasks = []
    for one, head in zip(sheets, heads, strict=True):
        fixed = {name: one.path if key == "source_file" else one.name for key, name in extra.items()}
        tasks.append((_read_sheet, one, form, tuple(head.schema.names), schema, found.casts, fixed))
    nbytes = float(sum(head.nbytes for head in heads))
    return frame_of("read_excel", tasks, schema, nbytes, tuple(head.rows for head in heads))


@dataclass(frozen=True)
class _Sheet:
    path: str
    options: Mapping[str, Any]
    name: str

    def __str__(self) -> str:
        return f"{self.path}, sheet {self.name!r}"


@dataclass(frozen=True)
class _Form:
    """Where the rows are: whether there is a header, the names instead of it, rows before it."""

    header: bool
    names: tuple[str, ...]
    skip_rows: int


@dataclass(frozen=True)
class _SheetHead:
    """What is known of a sheet: the types of its columns, the number of its rows, and of bytes in memory."""

    sheet: _Sheet
    schema: pa.Schema
    rows: int
    nbytes: int
    warnings: tuple[str, ...]


@dataclass
class SheetsReader:
    """Reads the sheets of workbooks, of which all cells are needed to know the types."""

    wanted: str | int | Sequence[str | int]
    form: _Form
    storage: Mapping[str, Any] | None

    @property
    def kind(self) -> str:
        return kind_of("excel 1", self.wanted, self.form)

    def read(self, path: str) -> list[_SheetHead]:
        found = []
        for name in _sheets(path, self.storage, self.wanted):
            sheet = _Sheet(path, options_of(path, self.storage), name)
            with recorded() as warnings:
                table = _read(sheet, self.form)
            found.append(_SheetHead(sheet, table.schema, table.num_rows, table.nbytes, tuple(warnings)))
        return found

    def pack(self, found: list[_SheetHead]) -> Fact | None:
        several = [
            (one.sheet.name, one.rows, one.nbytes, one.warnings, one.schema.serialize().to_pybytes().hex())
            for one in found
        ]
        return Fact(json.dumps(several).encode())

    def unpack(self, path: str, fact: Fact) -> list[_SheetHead]:
        return [
            _SheetHead(
                _Sheet(path, {}, name),
                pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(schema))),
                rows,
                n,
                tuple(warnings),
            )
            for name, rows, n, warnings, schema in json.loads(fact.head)
        ]


def _floats(heads: Sequence[_SheetHead]) -> set[str]:
    """The columns of numbers that are not whole in every sheet."""
    return {field.name for head in heads for field in head.schema if field.type == pa.float64() and head.rows}


def _sheets(path: str, storage: Mapping[str, Any] | None, wanted: str | int | Sequence[str | int]) -> Iterator[str]:
    """The names of the sheets that are asked for, in the order in which they are."""
    have = _workbook(path, options_of(path, storage)).sheet_names
    for each in [wanted] if isinstance(wanted, str | int) else wanted:
        if isinstance(each, int):
            if not 1 <= each <= len(have):
                raise DataError(f"{path}: has no sheet number {each}; it has {len(have)}: {', '.join(have)}")
            yield have[each - 1]
            continue
        found = [each] if each in have else fnmatch.filter(have, each) if "*" in each else []
        if not found:
            raise DataError(f"{path}: has no sheet {each!r}{nearest(each, have) or f'; it has {chr(44).join(have)}'}")
        yield from found


def _workbook(path: str, options: Mapping[str, Any]) -> fastexcel.ExcelReader:
    with opened(path, options) as file:
        data = file.read()
    try:
        return fastexcel.read_excel(data)
    except fastexcel.FastExcelError as error:
        raise DataError(f"{path}: is no Excel workbook, or a broken one ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _read(sheet: _Sheet, form: _Form) -> pa.Table:
    """All columns of a sheet, in the types that all of their cells have.

    Raises
    ------
    DataError : it can't be read, has a column twice, or another number of columns than ``names``
    """
    logging.getLogger("fastexcel").setLevel(logging.ERROR)  # it warns of columns without values
    try:
        reader = _workbook(sheet.path, sheet.options)
        names, start = _header(reader, sheet, form)
        if not names:
            return pa.table({})
        batch, errors = _cells(reader, sheet, len(names), start)
    except fastexcel.FastExcelError as error:
        raise DataError(f"{sheet}: can't be read ({_first_line(error)})") from error
    if errors:
        (row, column), kind = errors[0]
        cells = "1 cell is an error" if len(errors) == 1 else f"{len(errors):,} cells are errors"
        warn(f"{sheet}: {cells}, which are missing: {kind} in {_letters(column)}{row + 1}")
    table = pa.table([_natural(column) for column in batch.columns], names=names)
    if table.num_rows:
        full = pc.is_valid(table.column(0))
        for column in table.columns[1:]:
            full = pc.or_(full, pc.is_valid(column))
        table = table.filter(full)
    return table


def _header(reader: fastexcel.ExcelReader, sheet: _Sheet, form: _Form) -> tuple[list[str], int]:
    """The names of the columns, and the row at which the others begin."""
    for n in (_SHOWN, None):
        top = reader.load_sheet(sheet.name, header_row=None, skip_rows=form.skip_rows, n_rows=n, dtypes="string")
        rows = top.to_arrow_with_errors()[0].to_pylist() if top.width else []
        first = next((i for i, row in enumerate(rows) if any(cell is not None for cell in row.values())), None)
        if first is not None or len(rows) < _SHOWN:
            break
    if first is None:
        return list(form.names), form.skip_rows
    width = len(rows[first])
    if form.names and len(form.names) != width:
        raise DataError(f"{sheet}: has {width} columns, and names has {len(form.names)}")
    names = list(form.names) or [str(name or f"Unnamed: {i}") for i, name in enumerate(rows[first].values())]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{sheet}: the header has {twice[0]!r} more than once; other names: names: [NAME, …]")
    return names, form.skip_rows + (first + 1 if form.header else 0)


def _cells(
    reader: fastexcel.ExcelReader, sheet: _Sheet, width: int, start: int
) -> tuple[Any, list[tuple[tuple[int, int], str]]]:
    """The columns from a row on, and the place and kind of cells that are errors."""
    labels = [str(i) for i in range(width)]
    texts: dict[str | int, Any] = {}
    while True:
        try:
            loaded = reader.load_sheet(
                sheet.name,
                header_row=None,
                column_names=labels,
                skip_rows=start,
                schema_sample_rows=None,
                dtype_coercion="strict",
                dtypes=texts or None,
            )
            batch, errors = loaded.to_arrow_with_errors()
        except fastexcel.UnsupportedColumnTypeCombinationError as error:
            mixed = re.search(r"for column (\d+)", str(error))
            if mixed is None or mixed[1] in texts:
                raise
            texts[mixed[1]] = "string"
        except fastexcel.CannotRetrieveCellDataError:  # no rows
            return pa.table({label: pa.nulls(0) for label in labels}), []
        else:
            found = []
            for each in errors.errors if errors else ():
                kind = re.search(r"Error\((\w+)\)", each.detail)
                found.append((each.position, _ERRORS.get(kind[1], kind[1]) if kind else each.detail))
            return batch, sorted(found)


def _natural(column: pa.Array) -> pa.Array:
    """A column in the type that it has in a frame."""
    t = pa.types
    if column.null_count == len(column):
        return pa.nulls(len(column))
    if t.is_timestamp(column.type):
        return column.cast(pa.timestamp("us"))
    if t.is_duration(column.type):
        return column.cast(pa.duration("us"))
    if t.is_floating(column.type):
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**63))
        return column.cast(pa.int64()) if pc.all(whole).as_py() else column
    return column


def _letters(column: int) -> str:
    """The name of a column as Excel shows it.

    >>> _letters(0), _letters(27)
    ('A', 'AB')
    """
    return (_letters(column // 26 - 1) if column >= 26 else "") + chr(65 + column % 26)


# ---------------------------------------------------------------------------------------------------------------------
# Inside tasks
# ---------------------------------------------------------------------------------------------------------------------


def _read_sheet(
    sheet: _Sheet,
    form: _Form,
    names: Sequence[str],
    schema: pa.Schema,
    casts: Mapping[str, str],
    fixed: Mapping[str, str],
) -> pa.Table:
    """One partition: the rows of a sheet."""
    table = _read(sheet, form)
    if table.column_names != list(names):
        raise DataError(f"{sheet}: has changed since the run was planned: its columns are others")
    return partition(str(sheet), table, table.num_rows, schema, casts, fixed)
