"""What the start of a CSV file shows while the graph is built: its columns, and the types of its first rows."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import DataError
from pipeline.ops.sources.csv_rows import Dialect, blanked, fields_of, first_rows, quoted_breaks, require_text, rows_of
from pipeline.ops.sources.csv_tasks import texts_of
from pipeline.ops.sources.text_blocks import (
    ROWS,
    SAMPLE,
    footer_start,
    in_utf8,
    is_cuttable,
    lines_in,
    no_utf8,
    read_up_to,
    unpacked,
)

__all__ = ["Head", "Shown", "head_of"]

_BOM = b"\xef\xbb\xbf"
_HEAD = 2**18  # bytes in which the header ends, and of which most files show enough rows


@dataclass(frozen=True)
class Shown:
    """What a column's first rows show.

    Parameters
    ----------
    has_words : whether some are words that mean missing, or empty quotes
    padded : the first whole number with leading zeros; empty: none has
    """

    type: pa.DataType
    has_words: bool
    padded: str = ""


@dataclass(frozen=True)
class Head:
    """The start of a file.

    Parameters
    ----------
    columns : none: the file is empty
    shown : what the first rows show of each column; empty where there are none
    start, end : where its rows start and end, in bytes of the file as it is read; None: unknown
    can_cut : whether it can be read in several blocks
    """

    path: str
    columns: tuple[str, ...]
    shown: Mapping[str, Shown]
    start: int
    end: int | None
    can_cut: bool
    has_rows: bool = False


def head_of(
    path: str,
    options: Mapping[str, Any],
    dialect: Dialect,
    size: int,
    names: Sequence[str] | None,
    show: Callable[[str, pa.ChunkedArray], Shown],
    *,
    has_header: bool,
) -> Head:
    """Read the start of a file: the header, and the first rows.

    Parameters
    ----------
    size : bytes of a block; larger files are searched for line breaks inside quotes
    show : describes what the texts of a column show

    Raises
    ------
    DataError : if it is no text, has a name twice, or another number of columns than ``names``
    """
    can_cut, end = is_cuttable(path, dialect.encoding), None
    with unpacked(path, options, dialect.encoding) as file:
        if can_cut:
            end = _end(file, dialect.skip_footer)
            file.seek(0)
        is_large = can_cut and end is not None and end > size
        data, wanted = b"", _HEAD
        while True:
            data += read_up_to(file, wanted - len(data))
            is_cut = len(data) == wanted if end is None else len(data) < end
            found = _Start.of(path, data, end, dialect, names, has_header=has_header, is_cut=is_cut)
            done = found.is_enough and not is_large
            if not is_cut or (found.columns and (done or wanted >= SAMPLE)):
                break
            wanted = SAMPLE if wanted < SAMPLE else 4 * wanted
    has_rows = found.is_cut or (bool(found.rows) and not found.rows.isspace())
    shown = {}
    if found.columns and found.rows and not found.rows.isspace():
        texts = texts_of(path, found.rows, found.columns, dialect, lambda: found.lines)
        shown = {name: show(name, column) for name, column in zip(found.columns, texts, strict=True)}
    can_cut = can_cut and not (end is not None and end > size and quoted_breaks(found.text, dialect))
    end = None if end is None else max(end, found.start)
    return Head(path, found.columns, shown, found.start, end, can_cut, has_rows)


@dataclass(frozen=True)
class _Start:
    """The first bytes of a file.

    Parameters
    ----------
    text : what follows the header, comments blank
    rows : the first rows of it
    lines : before these
    start : where they start, in bytes of the file as it is read
    """

    columns: tuple[str, ...]
    text: bytes
    rows: bytes
    lines: int
    start: int
    is_enough: bool
    is_cut: bool

    @classmethod
    def of(
        cls,
        path: str,
        data: bytes,
        end: int | None,
        dialect: Dialect,
        names: Sequence[str] | None,
        *,
        has_header: bool,
        is_cut: bool,
    ) -> _Start:
        part = data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1] if is_cut else data
        if dialect.encoding == "utf-8" and no_utf8(data).startswith("begins"):
            raise DataError(f"{path}: {no_utf8(data)}")
        text = in_utf8(path, part, dialect.encoding, lambda: 0).removeprefix(_BOM)
        skipped = _after_lines(text, dialect.skip_rows)
        text = text[:skipped] + blanked(text[skipped:], dialect)
        stop, columns = skipped, tuple(names or ())
        if has_header:
            stop, columns = _header(path, text, skipped, dialect, names)
        lines = lines_in(text[:stop])
        start = len(part) if stop == len(text) and not is_cut else _after_lines(part, lines)
        text = text[stop:]
        if end is not None and len(part) > end:  # the footer
            text = blanked(in_utf8(path, part[start : max(start, end)], dialect.encoding, lambda: lines), dialect)
        elif end is None and dialect.skip_footer and not is_cut:
            text = text[: footer_start(text, dialect.skip_footer) or 0]
        rows, enough = first_rows(text, dialect, ROWS, is_cut=is_cut)
        require_text(path, rows, dialect, lambda: lines)
        return cls(columns, text, rows, lines, start, enough, is_cut)


def _header(
    path: str, text: bytes, skipped: int, dialect: Dialect, names: Sequence[str] | None
) -> tuple[int, tuple[str, ...]]:
    """Where the header stops, and the columns; none if the file is empty."""
    row = next(((start, stop) for start, stop in rows_of(text, dialect, skipped) if text[start:stop].strip()), None)
    if row is None:
        return len(text), ()
    line = lines_in(text[: row[0]])
    header = text[row[0] : row[1]]
    require_text(path, header, dialect, lambda: line)
    try:
        found = [name or f"Unnamed: {i}" for i, name in enumerate(fields_of(header, dialect))]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{line + 1}: {no_utf8(text)}") from error
    if names:
        if len(names) != len(found):
            raise DataError(f"{path}:{line + 1}: has {len(found)} columns, and names has {len(names)}")
        found = list(names)
    twice = next((name for name, n in Counter(found).items() if n > 1), None)
    if twice is not None:
        raise DataError(f"{path}:{line + 1}: the header has {twice!r} more than once; other names: names: [NAME, …]")
    return row[1], tuple(found)


def _after_lines(data: bytes, n: int) -> int:
    """Where line ``n`` begins, from 0 on."""
    found = re.compile(rb"(?:[^\r\n]*+(?:\r\n|\r|\n)){%d}" % n).match(data)
    return found.end() if found else len(data)


def _end(file: Any, skip_footer: int) -> int:
    """Where the rows of a file end, before its last ``skip_footer`` lines."""
    end = int(file.seek(0, os.SEEK_END))
    window = 2**16 if skip_footer else 0
    while window:
        start = max(end - window, 0)
        file.seek(start)
        found = footer_start(file.read(end - start), skip_footer)
        if found or not start:
            return start + (found or 0)
        window *= 8
    return end
