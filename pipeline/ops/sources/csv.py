"""Delimited text (CSV) as a frame, cut into blocks of lines and parsed by Arrow inside tasks of our own.

Types are settled while the graph is built, from the head of the first file and from ``cast``, so that all blocks agree.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from pipeline.errors import DataError, OpError
from pipeline.ops.collections import Frame
from pipeline.ops.column_types import TEXT, arrow_type, declared_dtype, empty_frame, natural_dtype
from pipeline.ops.sources.parquet import chosen, frame_of, typed
from pipeline.ops.sources.paths import locate, options_of
from pipeline.ops.sources.text_blocks import BLOCK, SAMPLE, block, cuts, is_packed, n_lines, unpacked

__all__ = ["read_csv"]

# What pandas' read_csv takes for missing.
_MISSING_TEXTS = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)

_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")
_HEADER = 2**18  # bytes in which the header line ends
_NO_TEXT = "has what is no UTF-8; write it so, as by: iconv -f latin1 -t utf-8"


def read_csv(
    *,
    path: str | Sequence[str],
    columns: Sequence[str] | None = None,
    sep: str = ",",
    decimal: str = ".",
    cast: Mapping[str, str] | None = None,
    na_values: Sequence[str] | None = None,
    blocksize: int | None = None,
    storage: Mapping[str, Any] | None = None,
) -> Frame:
    """CSV files with a header line, as a frame: a partition a block of about ``blocksize`` bytes, cut at a line's end.

    Columns are those of the first file; others may have them in another order, and more. Blank lines mean nothing.
    Types that ``cast`` does not give are taken from the first 4 MiB of the first file with rows: whole numbers, floats,
    booleans, else text (times too, unless ``cast`` says ``timestamp``). A later value that is not of its column's type
    fails its task. Compressed files, and those with line breaks inside quotes in those first 4 MiB, are one block each;
    where such a line break comes later and a block would cut it, its task fails and says so.

    Raises
    ------
    DataError : a file is missing or is no text, lacks a column, or has one twice
    OpError : there is no such column, or ``sep`` or ``decimal`` is not one character
    """
    if not _is_mark(sep):
        raise OpError("sep", f"got {sep!r}; it is one ASCII character, and no quote or end of a line")
    if not _is_mark(decimal) or decimal == sep:
        raise OpError("decimal", f"got {decimal!r}; it is one ASCII character, no quote or end of a line, and not sep")
    form = _Form(sep, decimal, tuple(dict.fromkeys((*_MISSING_TEXTS, *map(str, na_values or ())))))
    names = locate(path, storage, suffixes=(".csv", ".tsv", ".txt", ".csv.gz", ".csv.bz2", ".csv.xz"))
    heads = {name: _head(name, options_of(name, storage), sep) for name in names}
    named = [name for name in names if heads[name].columns]
    header = heads[named[0]].columns if named else tuple(columns or cast or ())
    wanted = chosen(columns, header, path)
    chosen(tuple(cast or ()), header, path, field="cast")
    for name in named:
        lacking = next((column for column in wanted if column not in heads[name].columns), None)
        if lacking is not None:
            raise DataError(f"{name}: has no column {lacking!r}, {named[0]} has one; it has {heads[name].listing}")
    full = [name for name in named if heads[name].has_rows]
    first = full[0] if full else None
    guessed, whole = _guess(first, options_of(first, storage), heads[first], form) if first else ({}, True)
    dtypes = {
        name: declared_dtype(cast[name], f"cast.{name}") if cast and name in cast else guessed.get(name, TEXT)
        for name in wanted
    }
    tasks: list[tuple[Any, ...]] = []
    for name in full:
        head = heads[name]
        blocks = cuts(head.nbytes if whole else None, blocksize or BLOCK, head.stop)
        for start, stop in blocks:
            where = (name, options_of(name, storage), start, stop, len(blocks) > 1)
            tasks.append((_read_csv, *where, head.columns, form, dtypes))
    stored = sum(math.nan if n is None else n for n in (heads[name].nbytes for name in full))
    nbytes = stored * len(wanted) / max(len(header), 1)  # as text, which is no less than what it means
    return frame_of("read_csv", tasks or [(empty_frame, dtypes)], dtypes, nbytes)


def _is_mark(text: str) -> bool:
    return len(text) == 1 and text.isascii() and text not in '"\r\n\0'


@dataclass(frozen=True)
class _Form:
    """How values are written: what separates them, what stands in a number, which texts mean missing."""

    sep: str
    decimal: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Head:
    """A file's columns (none: it is empty), where its header stops, its size, whether anything comes after it.

    Parameters
    ----------
    nbytes : None for one that can't be cut into blocks
    """

    columns: tuple[str, ...]
    stop: int
    nbytes: int | None
    has_rows: bool

    @property
    def listing(self) -> str:
        return ", ".join(self.columns)


def _head(path: str, options: Mapping[str, Any], sep: str) -> _Head:
    """The first line that is not blank, and what can be told of the rest.

    Raises
    ------
    DataError : if it is no text, or has a name twice
    """
    nbytes = None
    with unpacked(path, options) as file:
        data = file.read(_HEADER)
        if not is_packed(path):
            file.seek(0, os.SEEK_END)
            nbytes = file.tell()
    lines = data.removeprefix(_BOM).splitlines(keepends=True)
    blank = len(list(itertools.takewhile(lambda line: not line.strip(), lines)))
    reader = csv.reader((line.decode() for line in lines[blank:]), delimiter=sep)
    try:
        names = next(reader, [])
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {_NO_TEXT}") from error
    used = b"".join(lines[: blank + reader.line_num])
    _require_text(path, used, sep)
    stop = len(used) + len(data) - len(data.removeprefix(_BOM))
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: the header has {twice[0]!r} more than once")
    return _Head(tuple(names), stop, nbytes, len(data) == _HEADER or bool(data[stop:].strip()))


def _guess(path: str, options: Mapping[str, Any], head: _Head, form: _Form) -> tuple[dict[str, Any], bool]:
    """The dtypes that the head of the file shows, and whether lines there end at line breaks only."""
    with unpacked(path, options) as file:
        data = file.read(SAMPLE)
    is_cut = len(data) == SAMPLE
    if is_cut:
        data = data[: _last_end(data) + 1]
    whole = not _quoted_breaks(data)
    rows = data[head.stop :]
    if not rows.strip():
        return dict.fromkeys(head.columns, TEXT), whole
    if not is_cut:
        _require_text(path, data, form.sep)
    table = _parsed(path, rows, head.columns, form, None, head.columns)
    dtypes = {}
    for name in head.columns:
        kind, n = table[name].type, table[name].null_count
        plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        dtypes[name] = natural_dtype(kind, has_missing=n > 0) if plain or pa.types.is_null(kind) else TEXT
    return dtypes, whole


def _quoted_breaks(data: bytes) -> Any:
    """Positions of line breaks inside quotes."""
    array = np.frombuffer(data, np.uint8)
    inside = np.cumsum(array == ord('"')) % 2 == 1
    return np.flatnonzero(((array == ord("\n")) | (array == ord("\r"))) & inside).tolist()


def _last_end(data: bytes) -> int:
    """Position of the last line break outside quotes; that of the last byte where there is none."""
    array = np.frombuffer(data, np.uint8)
    outside = np.cumsum(array == ord('"')) % 2 == 0
    ends = np.flatnonzero(((array == ord("\n")) | (array == ord("\r"))) & outside)
    return int(ends[-1]) if len(ends) else len(data) - 1


def _require_text(path: str, data: bytes, sep: str, before: Callable[[], int] = lambda: 0) -> None:
    """Check that lines are text in which every quote is closed, so that no row is swallowed by another.

    Parameters
    ----------
    before : returns the number of lines of the file before these

    Raises
    ------
    DataError : naming the line
    """
    found = data.find(b"\0")
    what = "has a zero byte, as damaged files have, and those in UTF-16; write it as UTF-8"
    if found < 0:
        found = _open_quote(data, sep)
        what = "has a quote that is never closed, or that encloses the start of another; close it, or write it twice"
    if found >= 0:
        line = before() + len(_LINE_ENDS.findall(data, 0, found)) + 1
        raise DataError(f"{path}:{line}: {what}")


def _open_quote(data: bytes, sep: str) -> int:
    """Return the position of a quote that encloses all that follows, or lines and then text; -1 if there is none."""
    if not data.count(b'"') or _are_paired(data, sep):
        return -1
    quoted = re.compile(rb'(?:\A|[%b\r\n])("(?:[^"]++|"")*+("?)[^%b\r\n]?)' % ((re.escape(sep.encode()),) * 2))
    for field in quoted.finditer(data):
        text = field[1]
        if not field[2] or (not text.endswith(b'"') and (b"\n" in text or b"\r" in text)):
            return field.start(1)
    return -1


def _are_paired(data: bytes, sep: str) -> bool:
    """Return whether every quote that opens is at a field's start, and every one that closes at its end."""
    array = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    quotes = np.flatnonzero(array == ord('"'))
    if len(quotes) % 2:
        return False
    at_end = np.zeros(256, bool)
    at_end[list(b'"\r\n' + sep.encode())] = True
    return bool(at_end[array[quotes[::2] - 1]].all() and at_end[array[quotes[1::2] + 1]].all())


def _read_csv(
    path: str,
    options: Mapping[str, Any],
    start: int,
    stop: int | None,
    is_cut: bool,
    header: tuple[str, ...],
    form: _Form,
    dtypes: Mapping[str, Any],
) -> pd.DataFrame:
    """One partition: some lines of one file."""
    with unpacked(path, options) as file:
        data = block(file, start, stop)
    if is_cut and data.count(b'"') % 2:
        raise DataError(
            f"{path}: a line break inside quotes, or a lone quote, lies near byte {start + len(data)}, where a block "
            "ends; make the file one block: blocksize: 1000000000000"
        )
    _require_text(path, data, form.sep, lambda: n_lines(path, options, start))
    if not data.strip():
        return empty_frame(dict(dtypes))
    types = {name: arrow_type(dtype) for name, dtype in dtypes.items()}
    table = _parsed(path, data, header, form, types, list(dtypes))
    return typed(path, table, dtypes)


def _parsed(
    path: str,
    data: bytes,
    header: Sequence[str],
    form: _Form,
    types: Mapping[str, pa.DataType] | None,
    wanted: Sequence[str],
) -> pa.Table:
    convert = pacsv.ConvertOptions(
        column_types=types,
        null_values=list(form.missing),
        strings_can_be_null=True,
        include_columns=list(wanted),
        decimal_point=form.decimal,
    )
    # One Arrow block: else a column's type could change from block to block, and Arrow would start threads.
    read = pacsv.ReadOptions(column_names=list(header), use_threads=False, block_size=len(data) + 1)
    parse = pacsv.ParseOptions(delimiter=form.sep, newlines_in_values=True)
    try:
        return pacsv.read_csv(pa.BufferReader(data), read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: {_cure(str(error), header)}") from error


def _cure(message: str, header: Sequence[str]) -> str:
    """Arrow's message with the column named, and what to do."""
    found = re.match(r"In CSV column #(\d+):(?: Row #\d+:)? (?:CSV conversion error to (\w+): )?(.*)", message, re.S)
    if not found or int(found[1]) >= len(header):
        return message
    name = header[int(found[1])]
    if "invalid UTF8" in found[3]:
        return f"column {name!r}: {_NO_TEXT}"
    kind = {"double": "float64", "bool": "bool"}.get(found[2] or "", found[2] or "")
    better = "string"
    if kind.startswith(("int", "uint")) and re.search(r"'-?[\d.]+(e[-+]?\d+)?'", found[3]):
        better = "int64" if kind != "int64" and re.search(r"'-?\d{1,18}'", found[3]) else "float64"
    value = found[3].removeprefix("invalid value ")
    return (
        f"column {name!r}: {value} is no {kind}, its type by the first rows or cast; cure: cast: {{{name}: {better}}}"
    )
