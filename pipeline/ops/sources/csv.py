"""Delimited text (CSV) as a frame, cut into blocks of lines and parsed by Arrow inside tasks of our own.

Types are settled while the graph is built, from the first 1,000 rows of every file and from ``cast``, so that all
blocks agree. Arrow's parser makes values of whole numbers, decimals and texts exactly, in their types, from the block
that we give it. (Rejected: DuckDB's ``read_csv``, which can't read a part of a file and rounds 1.6 to a whole number.)
What Arrow's parser does not know (thousands, formats of dates, texts that mean missing in one column only) it gives as
text, from which ``text_values`` makes values; so it does where a value does not fit, to name its line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import empty_table, family
from pipeline.ops.build_warnings import warn
from pipeline.ops.collections import Frame
from pipeline.ops.sources.csv_heads import Head, Shown, head_of
from pipeline.ops.sources.csv_options import Formats, Missing, dialect_of, formats_of, missing_texts, numbers_of
from pipeline.ops.sources.csv_rows import Dialect
from pipeline.ops.sources.csv_tasks import Piece, Reading, read_piece
from pipeline.ops.sources.file_columns import chosen, frame_of
from pipeline.ops.sources.file_facts import Fact, facts_of, kind_of, with_schema, without_schema
from pipeline.ops.sources.one_schema import Columns, StoredFile, settled
from pipeline.ops.sources.paths import SUFFIXES, locate, options_of
from pipeline.ops.sources.text_blocks import BLOCK, cuts
from pipeline.ops.sources.text_values import MISSING_TEXTS, Column, Numbers, common, is_plain, shown_type
from pipeline.units import count_text, names_text

__all__ = ["read_csv"]


def read_csv(
    *,
    path: str | Sequence[str],
    columns: Columns = None,
    sep: str = ",",
    decimal: str = ".",
    cast: Mapping[str, str] | None = None,
    na_values: Missing = None,
    blocksize: int | None = None,
    header: bool = True,
    names: Sequence[str] | None = None,
    skip_rows: int = 0,
    skip_footer: int = 0,
    comment: str = "",
    encoding: str = "utf-8",
    thousands: str = "",
    quote: str = '"',
    escape: str = "",
    date_format: Any = None,
    strict: bool = True,
    source_file: str | None = None,
    storage: Mapping[str, Any] | None = None,
    needed: Set[str] | None = None,
) -> Frame:
    """CSV files as a frame: a partition a block of about ``blocksize`` bytes, cut at a line's end.

    Files may have their columns in any order. Blank lines mean nothing. Types that ``cast`` does not give are those
    that the first 1,000 rows of all files have in common: whole numbers, floats, truth values, else text (times too,
    unless ``cast`` or ``date_format`` names them). A later value that is not of its column's type fails its task, which
    names file, line and column. Among texts only an empty field without quotes is missing, in other columns the usual
    words are (``NA``, ``null``, …); those of ``na_values`` are in both. Compressed files, those of encodings that
    can't be cut, and those with line breaks inside quotes in their first 4 MiB are one block each; where such a line
    break comes later and a block would cut it, its task fails and says so.

    Parameters
    ----------
    source_file : name of a column with the path of the file of each row
    needed : the columns that later steps use; None: all

    Raises
    ------
    DataError : a file is missing or is no text, has a column twice, or other columns than the first
    OpError : there is no such column, or an option that makes no sense
    """
    dialect = dialect_of(sep, quote, escape, comment, encoding, skip_rows, skip_footer, strict=strict)
    numbers = numbers_of(sep, decimal, thousands)
    formats = formats_of(date_format)
    if not header and not names:
        raise OpError("names", "header: false needs names: [NAME, …], one a column")
    if names and len(set(names)) < len(names):
        raise OpError("names", f"{next(n for n in names if list(names).count(n) > 1)!r} is named twice")
    casts = {**dict.fromkeys(formats[0], "timestamp"), **(cast or {})}

    reader = HeadReader(dialect, numbers, na_values, blocksize or BLOCK, tuple(names or ()), header, storage)
    heads = facts_of(reader, locate(path, storage, suffixes=SUFFIXES["read_csv"]))
    asked = None if columns == "union" else columns
    without = [head.path for head in heads if not head.columns]
    if without:
        which = f"{len(without):,} of {count_text(len(heads), 'file')}" if len(heads) > 1 else "1 file"
        verb = "has" if len(without) == 1 else "have"
        warn(f"{which} {verb} no header, and so no rows: {names_text(without, 3)}")
    if len(without) == len(heads) and not (names or asked or casts):
        raise DataError(
            f"{names_text(without, 3)}: {'all files are' if len(heads) > 1 else 'the file is'} empty; to read no rows "
            "name the columns: columns: [NAME, …]"
        )
    heads = [head for head in heads if head.columns] or [Head("", tuple(names or asked or casts), {}, 0, None, False)]
    known = list(dict.fromkeys(c for head in (heads if columns == "union" else heads[:1]) for c in head.columns))
    chosen(asked, known, path)
    chosen(tuple(casts), known, path, field="cast")
    chosen(tuple(na_values) if isinstance(na_values, Mapping) else (), known, path, field="na_values")
    if source_file in known:
        raise OpError("source_file", f"{source_file!r} is a column of the files; take another name")
    inferred = {
        name: pa.string() if name in casts else common([head.shown[name].type for head in heads if name in head.shown])
        for name in {name: None for head in heads for name in head.columns}
    }
    stored = [StoredFile(h.path, {}, pa.schema([(c, inferred[c]) for c in h.columns]), None) for h in heads]
    apart = needed - {source_file} if needed is not None else None
    schema = settled([head.path for head in heads], stored, columns, casts, apart, lambda *_: False).schema
    by_words = {name for head in heads for name, one in head.shown.items() if one.has_words}
    plan = tuple(
        _column(field, casts.get(field.name, ""), formats, na_values, bool(thousands), field.name in by_words)
        for field in schema
    )
    _warn_of_zeros(heads, schema, casts)
    if formats[1] and not any(kind.startswith(("date", "time")) for kind in casts.values()):
        warn("date_format means nothing, since cast makes no column a date or time: cast: {NAME: date}")
    if source_file:
        schema = schema.append(pa.field(source_file, pa.string(), nullable=False))
    reading = Reading(dialect, numbers, plan, schema)
    tasks: list[tuple[Any, ...]] = []
    for head in heads:
        if head.has_rows:
            pieces = _pieces(head, options_of(head.path, storage), blocksize or BLOCK, skip_footer > 0)
            tasks += [(read_piece, piece, reading) for piece in pieces]
    stored_bytes = sum(math.nan if head.end is None else head.end for head in heads if head.has_rows)
    nbytes = stored_bytes * len(plan) / max(len(known), 1)  # as text, which is no less than what it means
    return frame_of("read_csv", tasks or [(empty_table, schema)], schema, nbytes)


def _warn_of_zeros(heads: Sequence[Head], schema: pa.Schema, casts: Mapping[str, str]) -> None:
    """Warn of columns of numbers whose values lose leading zeros; ``cast`` says that they are numbers."""
    for field in schema:
        padded = next((p for h in heads if field.name in h.shown and (p := h.shown[field.name].padded)), "")
        if padded and family(field.type) == "number" and field.name not in casts:
            warn(
                f"column {field.name!r}: {padded} is read as a number, without its leading zeros; "
                f"cast: {{{field.name}: string}} keeps it as written"
            )


@dataclass
class HeadReader:
    """Reads the heads of CSV files.

    Parameters
    ----------
    size : bytes of a block
    names : of the columns; empty: those in the file
    """

    dialect: Dialect
    numbers: Numbers
    na_values: Missing
    size: int
    names: tuple[str, ...]
    has_header: bool
    storage: Mapping[str, Any] | None

    @property
    def kind(self) -> str:
        return kind_of("csv 2", self.dialect, self.numbers, self.na_values, self.size, self.names, self.has_header)

    def read(self, path: str) -> Head:
        how = options_of(path, self.storage), self.dialect, self.size, self.names, self._shown
        return head_of(path, *how, has_header=self.has_header)

    def _shown(self, name: str, texts: pa.ChunkedArray) -> Shown:
        return Shown(*shown_type(texts, missing_texts(name, self.na_values, is_text=False), self.numbers))

    def pack(self, found: Head) -> Fact | None:
        shown = {name: (one.has_words, one.padded) for name, one in found.shown.items()}
        places = found.start, found.end, found.can_cut, found.has_rows
        schema = pa.schema([(name, one.type) for name, one in found.shown.items()])
        return with_schema(schema, found.columns, list(shown.values()), *places)

    def unpack(self, path: str, fact: Fact) -> Head:
        schema, (columns, more, *places) = without_schema(fact)
        shown = {field.name: Shown(field.type, *one) for field, one in zip(schema, more, strict=True)}
        return Head(path, tuple(columns), shown, *places)


def _column(field: pa.Field, kind: str, formats: Formats, na_values: Missing, grouped: bool, by_words: bool) -> Column:
    """How a column is read.

    Parameters
    ----------
    kind : of ``cast``
    grouped : whether numbers have marks between thousands
    by_words : whether words among the first rows mean missing, where it is no text
    """
    is_word = family(field.type) == "text"
    is_date = family(field.type) in ("date", "time", "zoned time", "time of day")
    own = formats[0].get(field.name, formats[1] if is_date else ())
    words = missing_texts(field.name, na_values, is_text=is_word)
    as_text = not is_plain(field.type) or (
        len(words) > 1 if is_word else grouped or by_words or len(words) > len(MISSING_TEXTS)
    )
    return Column(field.name, field.type, kind, own, words, as_text)


def _pieces(head: Head, options: Mapping[str, Any], size: int, has_footer: bool) -> Iterator[Piece]:
    blocks = cuts(head.end if head.can_cut else None, size, head.start)
    if head.can_cut and has_footer:
        blocks[-1] = (blocks[-1][0], head.end)
    for start, stop in blocks:
        yield Piece(head.path, options, start, stop, len(blocks) > 1, head.columns)
