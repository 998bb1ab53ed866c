"""Rows of delimited text before they are parsed: what separates and quotes them, which are comments, their lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.errors import DataError
from pipeline.ops.sources.text_blocks import lines_in

__all__ = [
    "Dialect",
    "blanked",
    "fields_of",
    "first_rows",
    "has_odd_quotes",
    "last_end",
    "line_of",
    "quoted_breaks",
    "repaired",
    "require_text",
    "rows_of",
]

_ENDS = (b"\n", b"\r\n", b"\r")


@dataclass(frozen=True)
class Dialect:
    """How rows are written.

    Parameters
    ----------
    quote, escape, comment : one ASCII character each; empty: none
    skip_rows, skip_footer : lines at the start, and at the end, that are no rows
    strict : whether a row of another length than the header's fails
    """

    sep: str = ","
    quote: str = '"'
    escape: str = ""
    comment: str = ""
    encoding: str = "utf-8"
    skip_rows: int = 0
    skip_footer: int = 0
    strict: bool = True

    @cached_property
    def row(self) -> re.Pattern[bytes]:
        """One row with the end of its line; no match where a quote is not closed."""
        sep, quote, escape = (re.escape(mark.encode()) for mark in (self.sep, self.quote, self.escape))
        escaped = escape + rb"." if escape and escape != quote else b""
        other = rb"[^%b\r\n%b]" % (sep, escape if escaped else b"")
        rest = rb"(?:%b++%b)*+" % (other, b"|" + escaped if escaped else b"")
        if quote:
            inner = rb"[^%b%b]++|%b%b" % (quote, escape if escaped else b"", quote, quote)
            closed = rb"%b(?:%b%b)*+%b" % (quote, inner, b"|" + escaped if escaped else b"", quote)
            field = rb"(?:%b%b|(?!%b)%b)" % (closed, rest, quote, rest)
        else:
            field = rest
        return re.compile(rb"%b(?:%b%b)*+(?:\r\n|\r|\n|\Z)" % (field, sep, field), re.DOTALL)

    def rows(self, n: int) -> re.Pattern[bytes]:
        """The first ``n`` rows that are not blank."""
        return re.compile(rb"(?:[\r\n]*+(?!\Z)%b){%d}" % (self.row.pattern, n), re.DOTALL)


def rows_of(data: bytes, dialect: Dialect, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the start and the stop of every row that is not blank; a quote that is not closed ends the last one."""
    match = dialect.row.match
    while start < len(data):
        found = match(data, start)
        stop = found.end() if found else len(data)
        if data[start:stop] not in _ENDS:
            yield start, stop
        start = stop


def first_rows(data: bytes, dialect: Dialect, n: int, *, is_cut: bool) -> tuple[bytes, bool]:
    """Return the first ``n`` rows, and whether there are as many; of a text that is cut the last one does not count."""
    if not dialect.escape and (not dialect.quote or dialect.quote.encode() not in data):
        lines = data.splitlines(keepends=True)  # a row each, five times as fast
        full = [i for i, line in enumerate(lines) if line not in _ENDS]
        if len(full) > n or (len(full) == n and not is_cut):
            return b"".join(lines[: full[n - 1] + 1]), True
        return b"".join(lines[: full[-1] + (not is_cut)] if full else []), False
    found = dialect.rows(n).match(data)
    if found and not (is_cut and found.end() == len(data)):
        return data[: found.end()], True
    count, stop, before = 0, 0, 0
    for _, end in rows_of(data, dialect):
        count, before, stop = count + 1, stop, end
    if is_cut and stop == len(data) and count:
        count, stop = count - 1, before
    return data[:stop], count >= n


def line_of(data: bytes, dialect: Dialect, number: int) -> int:
    """Return the line, from 0 on, on which row ``number`` (from 0 on) begins."""
    for i, (start, _) in enumerate(rows_of(data, dialect)):
        if i == number:
            return lines_in(data[:start])
    return lines_in(data)


def fields_of(row: bytes, dialect: Dialect) -> list[str]:
    """Return the texts of one row.

    Raises
    ------
    UnicodeDecodeError : if it is no UTF-8
    """
    return _fields(row.decode(), dialect)


def _fields(row: str, dialect: Dialect) -> list[str]:
    reader = csv.reader(
        [row.rstrip("\r\n")],
        delimiter=dialect.sep,
        quotechar=dialect.quote or None,
        escapechar=dialect.escape if dialect.escape != dialect.quote and dialect.escape else None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
    )
    return next(reader, [])


def blanked(data: bytes, dialect: Dialect) -> bytes:
    """Return lines in which those that begin with the mark of comments are blank."""
    mark = dialect.comment.encode()
    if not mark or mark not in data:
        return data
    comment = re.compile(rb"%b[^\r\n]*+" % re.escape(mark))
    if not dialect.quote or dialect.quote.encode() not in data:
        return re.sub(rb"(?<![^\r\n])" + comment.pattern, b"", data)
    pieces, start = [], 0
    while start < len(data):
        found = comment.match(data, start) or dialect.row.match(data, start)
        stop = found.end() if found else len(data)
        if not found or found.re is not comment:
            pieces.append(data[start:stop])
        start = stop if stop > start else stop + 1
    return b"".join(pieces)


def repaired(data: bytes, dialect: Dialect, n: int) -> tuple[bytes, list[int], list[int]]:
    """Return lines in which every row has ``n`` fields, and where the short and the long rows begin.

    Short rows get empty fields at their end, long ones are left out.
    """
    sep, quote, last = dialect.sep.encode(), dialect.quote.encode(), 0
    pieces: list[bytes] = []
    short: list[int] = []
    long: list[int] = []
    for start, stop in rows_of(data, dialect):
        row = data[start:stop]
        count = row.count(sep) + 1
        if (quote and quote in row) or dialect.escape:
            count = len(_fields(row.decode("latin-1"), dialect))
        if count != n:
            (short if count < n else long).append(start)
            text = row.rstrip(b"\r\n")
            pieces += [data[last:start], text + sep * (n - count) if count < n else b"", row[len(text) :]]
            if count > n:
                pieces.append(b"\n" * lines_in(text))
            last = stop
    return b"".join([*pieces, data[last:]]), short, long


# ---------------------------------------------------------------------------------------------------------------------
# Quotes
# ---------------------------------------------------------------------------------------------------------------------


def _without_escapes(data: bytes, dialect: Dialect) -> bytes:
    """The text with each escaped character replaced, in as many bytes."""
    escape = dialect.escape.encode()
    if not escape or dialect.escape == dialect.quote or escape not in data:
        return data
    return re.sub(re.escape(escape) + rb".", b"__", data, flags=re.DOTALL)


def quoted_breaks(data: bytes, dialect: Dialect) -> bool:
    """Return whether there is a line break inside quotes."""
    if not dialect.quote or dialect.quote.encode() not in data:
        return False
    array = np.frombuffer(_without_escapes(data, dialect), np.uint8)
    inside = np.cumsum(array == ord(dialect.quote)) % 2 == 1
    return bool((((array == ord("\n")) | (array == ord("\r"))) & inside).any())


def last_end(data: bytes, dialect: Dialect) -> int:
    """Return the position of the last line break outside quotes; that of the last byte where there is none."""
    array = np.frombuffer(_without_escapes(data, dialect), np.uint8)
    ends = (array == ord("\n")) | (array == ord("\r"))
    if dialect.quote:
        ends &= np.cumsum(array == ord(dialect.quote)) % 2 == 0
    found = np.flatnonzero(ends)
    return int(found[-1]) if len(found) else len(data) - 1


def has_odd_quotes(data: bytes, dialect: Dialect) -> bool:
    """Return whether quotes are not in pairs."""
    return bool(dialect.quote) and _without_escapes(data, dialect).count(dialect.quote.encode()) % 2 == 1


def require_text(path: str, data: bytes, dialect: Dialect, before: Callable[[], int] = lambda: 0) -> None:
    """Check that lines are text in which every quote is closed, so that no row is swallowed by another.

    Parameters
    ----------
    before : returns the number of lines of the file before these

    Raises
    ------
    DataError : naming the line
    """
    found = data.find(b"\0")
    what = "has a zero byte, as damaged files have, and those in UTF-16 (encoding: utf-16)"
    if found < 0 and dialect.quote:
        found = _open_quote(_without_escapes(data, dialect), dialect)
        what = "has a quote that is never closed, or that encloses the start of another; close it, or write it twice"
    if found >= 0:
        raise DataError(f"{path}:{before() + lines_in(data[:found]) + 1}: {what}")


def _open_quote(data: bytes, dialect: Dialect) -> int:
    """Return the position of a quote that encloses all that follows, or lines and then text; -1 if there is none."""
    quote, sep = dialect.quote.encode(), re.escape(dialect.sep.encode())
    if quote not in data or _are_paired(data, dialect):
        return -1
    q = re.escape(quote)
    quoted = re.compile(rb"(?:\A|[%b\r\n])(%b(?:[^%b]++|%b%b)*+(%b?)[^%b\r\n]?)" % (sep, q, q, q, q, q, sep))
    for field in quoted.finditer(data):
        text = field[1]
        if not field[2] or (not text.endswith(quote) and (b"\n" in text or b"\r" in text)):
            return field.start(1)
    return -1


def _are_paired(data: bytes, dialect: Dialect) -> bool:
    """Return whether every quote that opens is at a field's start, and every one that closes at its end."""
    array = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    quotes = np.flatnonzero(array == ord(dialect.quote))
    if len(quotes) % 2:
        return False
    at_end = np.zeros(256, bool)
    at_end[list(f"{dialect.quote}\r\n{dialect.sep}".encode())] = True
    return bool(at_end[array[quotes[::2] - 1]].all() and at_end[array[quotes[1::2] + 1]].all())
