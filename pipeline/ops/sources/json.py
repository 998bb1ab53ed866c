"""JSON as a frame: objects one a line, cut into blocks of lines; or one list of objects, which is one block.

Arrow parses, inside tasks of our own, with the types that were settled while the graph was built: from the head of the
first file and from ``cast``. All blocks agree, then. A line break inside a JSON text is written ``\\n``, so that lines
can be cut anywhere.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json as pajson

from pipeline.errors import DataError, OpError
from pipeline.ops.collections import Frame
from pipeline.ops.column_types import TEXT, arrow_type, declared_dtype, empty_frame, natural_dtype
from pipeline.ops.sources.parquet import chosen, frame_of, typed
from pipeline.ops.sources.paths import locate, options_of
from pipeline.ops.sources.text_blocks import BLOCK, SAMPLE, block, cuts, is_packed, unpacked, whole_lines
from pipeline.outputs.files import read_errors

__all__ = ["read_json"]

_SUFFIXES = tuple(f".{kind}{packed}" for kind in ("json", "jsonl", "ndjson") for packed in ("", ".gz", ".bz2", ".xz"))


def read_json(
    *,
    path: str | Sequence[str],
    columns: Sequence[str] | None = None,
    cast: Mapping[str, str] | None = None,
    blocksize: int | None = None,
    storage: Mapping[str, Any] | None = None,
) -> Frame:
    """JSON files as a frame: a partition a block of about ``blocksize`` bytes of lines, or a file that is one list.

    Columns and their types are those of the objects in the first 4 MiB of the first file that has any, and of
    ``cast``, which may name a column that comes later. What an object lacks, and null, is missing. Times are text
    unless ``cast`` says otherwise. Whole numbers of which some are missing there become float64. With ``cast: string``
    whatever is no text becomes its JSON, lists and maps too.

    Raises
    ------
    DataError : a file is missing, or its head is no JSON; a column that is wanted holds lists or maps, or
        values of several kinds, and is not cast to string
    OpError : there is no such column
    """
    names = locate(path, storage, suffixes=_SUFFIXES)
    heads = {name: _head(name, options_of(name, storage)) for name in names}
    full = [name for name in names if heads[name][0]]
    guessed: dict[str, Any] = {}
    for name in full:
        with read_errors(name):  # the names of columns may be no text in UTF-8
            guessed = guessed or _guess(name, options_of(name, storage), is_list=heads[name][0] == b"[")
    declared = {name: declared_dtype(kind, f"cast.{name}") for name, kind in (cast or {}).items()}
    known = {**(guessed or dict.fromkeys(columns or (), TEXT)), **declared}
    if columns is not None and guessed:
        _require(columns, known, path)
    dtypes = {name: known[name] for name in chosen(columns, list(known), path)}
    mixed = next((name for name, dtype in dtypes.items() if dtype is None), None)
    if mixed is not None:
        plain = ", ".join(name for name, dtype in known.items() if dtype is not None)
        raise DataError(
            f"{full[0]}: column {mixed!r} holds lists, maps, or values of several kinds; for their JSON cast: "
            f"{{{mixed}: string}}; without it columns: [{plain}]"
        )
    texts = tuple(name for name in declared if name in dtypes and declared[name] == TEXT)
    tasks: list[tuple[Any, ...]] = []
    for name in full:
        first, n = heads[name]
        blocks = cuts(n if first == b"{" else None, blocksize or BLOCK)
        tasks += [(_read_json, name, options_of(name, storage), *ends, first == b"[", texts, dtypes) for ends in blocks]
    stored = sum(math.nan if n is None else n for _, n in (heads[name] for name in full))
    nbytes = stored * len(dtypes) / max(len(known), 1)  # as text, which is no less than what it means
    return frame_of("read_json", tasks or [(empty_frame, dtypes)], dtypes, nbytes)


def _require(columns: Sequence[str], known: Mapping[str, Any], path: Any) -> None:
    """Refuse a column that is not there, with the cure for one that comes later in the file."""
    try:
        chosen(columns, list(known), path)
    except OpError as error:
        raise OpError(
            error.field, f"{error.message}; one that comes after the first {SAMPLE // 2**20} MiB needs a cast"
        ) from error


def _head(path: str, options: Mapping[str, Any]) -> tuple[bytes, int | None]:
    """The first character that is no blank, empty where there is none, and the size; None for a packed file.

    Raises
    ------
    DataError : if the file begins as no JSON of objects does
    """
    size = None
    with unpacked(path, options) as file:
        first = _first(file)
        if not is_packed(path):
            file.seek(0, os.SEEK_END)
            size = file.tell()
    if first not in (b"", b"{", b"["):
        raise DataError(f"{path}: begins with {first.decode(errors='replace')!r}; JSON of rows is objects, one a line, "
                        "or one list of them")  # fmt: skip
    return first, size


def _first(file: Any) -> bytes:
    while data := file.read(2**12):
        stripped: bytes = data.removeprefix(b"\xef\xbb\xbf").lstrip()
        if stripped:
            return stripped[:1]
    return b""


def _guess(path: str, options: Mapping[str, Any], *, is_list: bool) -> dict[str, Any]:
    """Column -> dtype, as the head of the file shows; None for one of lists, maps, or values of several kinds."""
    with unpacked(path, options) as file:
        data = file.read() if is_list else file.read(SAMPLE)
    if is_list:
        data = _lines_of_list(path, data)
    elif len(data) == SAMPLE:
        data = whole_lines(data)
    data = data.removeprefix(b"\xef\xbb\xbf")
    mixed: list[str] = []
    while data.strip():
        try:
            table = _table(data, None)
        except pa.ArrowInvalid as error:
            changed = re.search(r"Column\(/([^/)]+).*\) changed from", str(error))
            if not changed or changed[1] in mixed:
                raise _no_json(path, error) from error
            mixed.append(changed[1])
            data = _with_texts(data, mixed[-1:])
        else:
            kinds = {field.name: _dtype(field.type, table[field.name].null_count > 0) for field in table.schema}
            return kinds | dict.fromkeys(mixed)
    return {}


def _dtype(stored: pa.DataType, has_missing: bool) -> Any:
    if pa.types.is_nested(stored):
        return None
    plain = any(is_kind(stored) for is_kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean))
    return natural_dtype(stored, has_missing=has_missing) if plain or pa.types.is_null(stored) else TEXT


def _lines_of_list(path: str, data: bytes) -> bytes:
    """The objects of a list, one a line.

    Raises
    ------
    DataError : if it is no JSON, or has something else than objects
    """
    try:
        rows = json.loads(data)
    except ValueError as error:
        raise DataError(f"{path}: is no JSON ({error})") from error
    other = next((i for i, row in enumerate(rows) if not isinstance(row, dict)), None)
    if other is not None:
        raise DataError(f"{path}: member {other} of the list is no object, but {type(rows[other]).__name__}")
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()


def _with_texts(data: bytes, names: Sequence[str]) -> bytes:
    """The lines with the values of some keys as texts: those that are none, and not null, as the JSON they were."""
    rows = [json.loads(line) for line in data.splitlines() if line.strip()]
    for row in rows:
        for name in names:
            if row.get(name) is not None and not isinstance(row[name], str):
                row[name] = json.dumps(row[name], ensure_ascii=False)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _read_json(
    path: str,
    options: Mapping[str, Any],
    start: int,
    stop: int | None,
    is_list: bool,
    texts: Sequence[str],
    dtypes: Mapping[str, Any],
) -> pd.DataFrame:
    """One partition: some lines of a file, or a list; ``texts``: columns whose values are text, whatever they were."""
    with unpacked(path, options) as file:
        data = file.read() if is_list else block(file, start, stop)
    data = _lines_of_list(path, data) if is_list else data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        return empty_frame(dict(dtypes))
    return typed(path, _parsed(path, data, texts, dtypes), dtypes)


def _parsed(path: str, data: bytes, texts: Sequence[str], dtypes: Mapping[str, Any]) -> pa.Table:
    """Lines as a table of the columns that ``dtypes`` has.

    Raises
    ------
    DataError : naming the column whose values are of another type, where the lines are JSON
    """
    try:
        return _table(data, dtypes)
    except pa.ArrowInvalid as error:
        if texts:
            try:
                data = _with_texts(data, texts)
            except (ValueError, AttributeError):
                raise _no_json(path, error) from error
            return _parsed(path, data, (), dtypes)
        for name, dtype in dtypes.items():
            try:
                _table(data, {name: dtype})
            except pa.ArrowInvalid as one:
                if found := _misfit(str(one), name, dtype):
                    raise DataError(f"{path}: {found}") from one
        raise _no_json(path, error) from error


def _no_json(path: str, error: Exception) -> DataError:
    said = str(error).removeprefix("JSON parse error: ")
    return DataError(f"{path}: is no JSON of objects, one a line ({said})")


def _table(data: bytes, dtypes: Mapping[str, Any] | None) -> pa.Table:
    schema = None if dtypes is None else pa.schema([(name, arrow_type(dtype)) for name, dtype in dtypes.items()])
    read = pajson.ReadOptions(use_threads=False, block_size=len(data) + 1)  # one block: types can't change within it
    others = "infer" if schema is None else "ignore"
    parse = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others)
    return pajson.read_json(pa.BufferReader(data), read_options=read, parse_options=parse)


def _misfit(message: str, name: str, dtype: Any) -> str:
    """What to say of a value that is not of its column's type; empty where that is not what is wrong."""
    value = re.search(r"couldn't parse: ?(.*)", message, re.S)
    if value:
        better = "float64" if isinstance(dtype, np.dtype) and dtype.kind in "iu" else "string"
        cure = f"; cure: cast: {{{name}: {better}}}"
        return f"column {name!r}: {value[1]} is no {dtype}, its type by the first rows or cast{cure}"
    changed = re.search(r"changed from \w+ to (\w+)", message)
    if changed:
        cure = f"; cure: cast: {{{name}: string}}"
        return f"column {name!r}: has a {changed[1]}, which is no {dtype}, its type by the first rows or cast{cure}"
    return ""
