"""JSON as a frame: objects, one a line (JSON Lines), or one list of them.

Arrow parses blocks of lines inside tasks of our own, with the types that were settled while the graph was built: from
the first 1,000 rows of every file and from ``cast``. All blocks agree, then. A line break inside a JSON text is written
``\\n``, so that lines can be cut anywhere. (Rejected: DuckDB's ``read_json``, which can't read a part of a file, and
whose errors name no line of it.)
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import declared_type, empty_table
from pipeline.ops.collections import Frame
from pipeline.ops.sources.file_columns import chosen, frame_of, narrowed
from pipeline.ops.sources.file_facts import Fact, facts_of, with_schema, without_schema
from pipeline.ops.sources.json_tasks import Lines, ReadingJson, is_direct, lines_of_list, read_lines
from pipeline.ops.sources.json_types import merged, shown_types
from pipeline.ops.sources.one_schema import Columns
from pipeline.ops.sources.paths import SUFFIXES, locate, options_of
from pipeline.ops.sources.text_blocks import (
    BLOCK,
    ROWS,
    SAMPLE,
    cuts,
    is_packed,
    lines_in,
    no_utf8,
    read_up_to,
    unpacked,
    whole_lines,
)
from pipeline.ops.sources.text_values import Column
from pipeline.outputs.files import read_errors

__all__ = ["read_json"]

_HEAD = 2**18  # bytes of which most files show enough rows
_BOM = b"\xef\xbb\xbf"


def read_json(
    *,
    path: str | Sequence[str],
    columns: Columns = None,
    cast: Mapping[str, str] | None = None,
    blocksize: int | None = None,
    source_file: str | None = None,
    storage: Mapping[str, Any] | None = None,
    needed: Set[str] | None = None,
) -> Frame:
    """JSON files as a frame: a partition a block of about ``blocksize`` bytes of lines, or a file that is one list.

    Columns and their types are those of the first 1,000 objects of all files, and of ``cast``, which may name a column
    that comes later. Objects are structs, lists are lists. What an object lacks, and null, is missing. Times are text
    unless ``cast`` says otherwise. With ``cast: string`` whatever is no text becomes its JSON.

    Parameters
    ----------
    source_file : name of a column with the path of the file of each row
    needed : the columns that later steps use; None: all

    Raises
    ------
    DataError : a file is missing, or its head is no JSON; a column has values of several kinds and is not cast to
        string; only a later file has a column
    OpError : there is no such column
    """
    files = locate(path, storage, suffixes=SUFFIXES["read_json"])
    heads = facts_of(JsonReader(storage), files)
    full = [head for head in heads if head.first]
    casts = dict(cast or {})
    asked = None if columns == "union" else columns
    types = _types(full, asked, columns == "union", casts) or dict.fromkeys(asked or (), pa.string())
    for name, kind in casts.items():
        types[name] = declared_type(kind, f"cast.{name}")
    if asked is not None:
        _require(asked, types, path)
    names = chosen(asked, list(types), path)
    if source_file in types:
        raise OpError("source_file", f"{source_file!r} is a column of the files; take another name")
    is_all = asked is None
    names = narrowed(names, needed - {source_file} if needed is not None else None)
    plan = tuple(Column(n, types[n], casts.get(n, ""), (), (), n in casts and not is_direct(types[n])) for n in names)
    schema = pa.schema([pa.field(column.name, column.type) for column in plan])
    if source_file:
        schema = schema.append(pa.field(source_file, pa.string(), nullable=False))
    reading = ReadingJson(plan, schema, tuple(types) if is_all else ())
    tasks: list[tuple[Any, ...]] = []
    for head in full:
        options = options_of(head.path, storage)
        for start, stop in cuts(head.nbytes if head.first == b"{" else None, blocksize or BLOCK):
            tasks.append((read_lines, Lines(head.path, options, start, stop, head.first == b"["), reading))
    stored = sum(math.nan if head.nbytes is None else head.nbytes for head in full)
    nbytes = stored * len(plan) / max(len(types), 1)  # as text, which is no less than what it means
    return frame_of("read_json", tasks or [(empty_table, schema)], schema, nbytes)


@dataclass(frozen=True)
class _Head:
    """The start of a file.

    Parameters
    ----------
    first : its first character that is no blank; empty where there is none
    nbytes : None for a file that can't be cut
    types : the columns of its first rows; None for values of several kinds
    """

    path: str
    first: bytes
    nbytes: int | None
    types: Mapping[str, pa.DataType | None]


@dataclass
class JsonReader:
    """Reads the heads of files of JSON."""

    storage: Mapping[str, Any] | None
    kind: str = "json 1"

    def read(self, path: str) -> _Head:
        return _head(path, options_of(path, self.storage))

    def pack(self, found: _Head) -> Fact | None:
        known = [(name, pa.null() if kind is None else kind) for name, kind in found.types.items()]
        mixed = [kind is None for kind in found.types.values()]
        return with_schema(pa.schema(known), found.first.decode(), found.nbytes, mixed)

    def unpack(self, path: str, fact: Fact) -> _Head:
        schema, (first, nbytes, mixed) = without_schema(fact)
        types = {field.name: None if one else field.type for field, one in zip(schema, mixed, strict=True)}
        return _Head(path, first.encode(), nbytes, types)


def _head(path: str, options: Mapping[str, Any]) -> _Head:
    """Read the first rows of a file.

    Raises
    ------
    DataError : if the file begins as no JSON of objects does, or a row is no JSON
    """
    nbytes = None
    with unpacked(path, options) as file:
        data, wanted = b"", _HEAD
        while True:
            data += read_up_to(file, wanted - len(data))
            is_cut = len(data) == wanted
            lines = lines_in(data)
            if not is_cut or lines > ROWS or (lines and wanted >= SAMPLE):
                break
            wanted = SAMPLE if wanted < SAMPLE else 4 * wanted
        first = _first(path, data, file)
        if first == b"[":
            data += file.read()
        if not is_packed(path):
            nbytes = file.seek(0, os.SEEK_END)
    if not first:
        return _Head(path, first, nbytes, {})
    data = data.removeprefix(_BOM)
    rows = lines_of_list(path, data) if first == b"[" else (whole_lines(data) if is_cut else data).splitlines(True)
    full = [i for i, row in enumerate(rows) if row.strip()]
    rows = rows[: full[ROWS - 1] + 1] if len(full) >= ROWS else rows
    with read_errors(path):  # the names of columns may be no text in UTF-8
        return _Head(path, first, nbytes, shown_types(path, rows, is_list=first == b"["))


def _first(path: str, data: bytes, file: Any) -> bytes:
    if (wrong := no_utf8(data)).startswith("begins"):
        raise DataError(f"{path}: {wrong.partition(';')[0]}; JSON is UTF-8: write it so")
    first = data.removeprefix(_BOM).lstrip()[:1]
    while not first and data:
        data = file.read(2**16)
        first = data.lstrip()[:1]
    if first not in (b"", b"{", b"["):
        raise DataError(
            f"{path}: begins with {first.decode(errors='replace')!r}; JSON of rows is objects, one a line, "
            "or one list of them"
        )
    return bytes(first)


def _types(
    heads: Sequence[_Head], asked: Sequence[str] | None, is_union: bool, casts: Mapping[str, str]
) -> dict[str, pa.DataType]:
    """The columns that can be read, and their types.

    Raises
    ------
    DataError : a column that only a later file has, or that has values of several kinds
    """
    heads = [head for head in heads if head.types]
    if not heads:
        return {}
    first = heads[0]
    for head in heads[1:]:
        more = [name for name in head.types if name not in first.types and name not in casts]
        if more and asked is None and not is_union:
            raise DataError(
                f"{head.path}: has a column {more[0]!r}, {first.path} has none; read what you need, columns: "
                f"[{', '.join(first.types)}], or all with missing values where a file has none, columns: union"
            )
    known = {name: [(head.path, head.types[name]) for head in heads if name in head.types]
             for name in dict.fromkeys(name for head in heads for name in head.types)}  # fmt: skip
    found: dict[str, pa.DataType | None] = {name: merged([kind for _, kind in seen]) for name, seen in known.items()}
    needed = [name for name in (found if asked is None else asked) if name not in casts]
    mixed = next((name for name in needed if name in found and found[name] is None), None)
    if mixed is not None:
        paths = [path for path, kind in known[mixed] if kind is None] or [path for path, _ in known[mixed]][-1:]
        plain = ", ".join(name for name in needed if found[name] is not None)
        raise DataError(
            f"{paths[0]}: column {mixed!r} holds values of several kinds; for their JSON cast: {{{mixed}: string}}; "
            f"without it columns: [{plain}]"
        )
    return {name: kind or pa.string() for name, kind in found.items()}


def _require(columns: Sequence[str], known: Mapping[str, Any], path: Any) -> None:
    """Refuse a column that is not there, with the cure for one that comes later in the file."""
    try:
        chosen(columns, list(known), path)
    except OpError as error:
        raise OpError(
            error.field, f"{error.message}; one that comes after the first {ROWS:,} rows needs a cast"
        ) from error
