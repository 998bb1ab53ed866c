"""Delimited text (CSV) as a frame, cut into blocks of lines and parsed by Arrow inside tasks of our own.

Types are settled while the graph is built, from the head of the first file and from ``cast``, so that all blocks agree.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from pipeline.errors import ConfigError, DataError
from pipeline.ops.lines import BLOCK, SAMPLE, block, cuts, is_packed, unpacked
from pipeline.ops.paths import locate, options_of
from pipeline.ops.tables import chosen, frame_of, typed
from pipeline.ops.types import TEXT, arrow_type, declared_dtype, empty_frame, natural_dtype

__all__ = ["read_csv"]

# What pandas' read_csv takes for missing.
_MISSING_TEXTS = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)


def read_csv(
    *,
    path: str | Sequence[str],
    columns: Sequence[str] | None = None,
    sep: str = ",",
    cast: Mapping[str, str] | None = None,
    na_values: Sequence[str] | None = None,
    blocksize: int | None = None,
    storage: Mapping[str, Any] | None = None,
) -> dd.DataFrame:
    """CSV files with a header line, as a frame: a partition a block of about ``blocksize`` bytes, cut at a line's end.

    Types that ``cast`` does not give are taken from the first 4 MiB of the first file: whole numbers, floats, booleans,
    else text (times too, unless ``cast`` says ``timestamp``). A later value that is not of its column's type fails its
    task. Compressed files, and those with line breaks inside quotes in those first 4 MiB, are one block each; where
    such a line break comes later and a block would cut it, its task fails and says so.

    Raises
    ------
    DataError : a file is missing, or its header is not the first one's
    ConfigError : there is no such column, or ``sep`` is not one character
    """
    if len(sep) != 1:
        raise ConfigError(f"sep: got {sep!r}; it is one character")
    names = locate(path, storage, suffixes=(".csv", ".tsv", ".txt", ".csv.gz", ".csv.bz2", ".csv.xz"))
    heads = {name: _head(name, options_of(name, storage), sep) for name in names}
    full = [name for name in names if heads[name][0]]
    header = heads[full[0]][0] if full else list(columns or cast or ())
    for name in full[1:]:
        if heads[name][0] != header:
            raise DataError(f"{name}: its header {heads[name][0]} is not that of {full[0]}: {header}")
    wanted = chosen(columns, header, path)
    chosen(tuple(cast or ()), header, path)
    missing = tuple(dict.fromkeys((*_MISSING_TEXTS, *map(str, na_values or ()))))
    options = options_of(full[0], storage) if full else {}
    guessed, whole = _guess(full[0], options, header, sep, missing) if full else ({}, True)
    dtypes = {name: declared_dtype(cast[name]) if cast and name in cast else guessed.get(name, TEXT) for name in wanted}
    size = blocksize or BLOCK
    tasks: list[tuple[Any, ...]] = []
    for name in full:
        n = heads[name][1]
        blocks = cuts(n if whole else None, size)
        for start, stop in blocks:
            where = (name, options_of(name, storage), start, stop, len(blocks) > 1)
            tasks.append((_read_csv, *where, tuple(header), sep, missing, dtypes))
    stored = sum(math.nan if n is None else n for n in (heads[name][1] for name in full))
    nbytes = stored * len(wanted) / max(len(header), 1)  # as text, which is no less than what it means
    return frame_of("read_csv", tasks or [(empty_frame, dtypes)], dtypes, nbytes)


def _head(path: str, options: Mapping[str, Any], sep: str) -> tuple[list[str], int | None]:
    """The names in the header line, and the file's size; None for one that can't be cut into blocks."""
    size = None
    with unpacked(path, options) as file:
        line = file.read(2**16)
        if not is_packed(path):
            file.seek(0, os.SEEK_END)
            size = file.tell()
    names = next(csv.reader([_first_line(line).decode("utf-8-sig")], delimiter=sep), [])
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: the header has {twice[0]!r} more than once")
    return names, size


def _first_line(data: bytes) -> bytes:
    return data.split(b"\n", 1)[0].rstrip(b"\r")


def _guess(
    path: str, options: Mapping[str, Any], header: list[str], sep: str, missing: tuple[str, ...]
) -> tuple[dict[str, Any], bool]:
    """The dtypes that the head of the file shows, and whether lines there end at line breaks only."""
    with unpacked(path, options) as file:
        data = file.read(SAMPLE)
    if len(data) == SAMPLE:
        data = data[: _last_end(data) + 1]
    whole = not _quoted_breaks(data)
    rows = data.split(b"\n", 1)[1] if b"\n" in data else b""
    if not rows.strip():
        return dict.fromkeys(header, TEXT), whole
    table = _parsed(path, rows, header, sep, missing, None, header)
    dtypes = {}
    for name in header:
        kind, n = table[name].type, table[name].null_count
        plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        dtypes[name] = natural_dtype(kind, has_missing=n > 0) if plain or pa.types.is_null(kind) else TEXT
    return dtypes, whole


def _quoted_breaks(data: bytes) -> Any:
    """Positions of line breaks inside quotes."""
    array = np.frombuffer(data, np.uint8)
    inside = np.cumsum(array == ord('"')) % 2 == 1
    return np.flatnonzero((array == ord("\n")) & inside).tolist()


def _last_end(data: bytes) -> int:
    """Position of the last line break outside quotes; that of the last byte where there is none."""
    array = np.frombuffer(data, np.uint8)
    outside = np.cumsum(array == ord('"')) % 2 == 0
    ends = np.flatnonzero((array == ord("\n")) & outside)
    return int(ends[-1]) if len(ends) else len(data) - 1


def _read_csv(
    path: str,
    options: Mapping[str, Any],
    start: int,
    stop: int | None,
    is_cut: bool,
    header: tuple[str, ...],
    sep: str,
    missing: tuple[str, ...],
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
    if not start:
        data = data.split(b"\n", 1)[1] if b"\n" in data else b""
    if not data.strip():
        return empty_frame(dict(dtypes))
    types = {name: arrow_type(dtype) for name, dtype in dtypes.items()}
    table = _parsed(path, data, header, sep, missing, types, list(dtypes))
    return typed(path, table, dtypes)


def _parsed(
    path: str,
    data: bytes,
    header: Sequence[str],
    sep: str,
    missing: tuple[str, ...],
    types: Mapping[str, pa.DataType] | None,
    wanted: Sequence[str],
) -> pa.Table:
    convert = pacsv.ConvertOptions(
        column_types=types, null_values=list(missing), strings_can_be_null=True, include_columns=list(wanted)
    )
    # One Arrow block: else a column's type could change from block to block, and Arrow would start threads.
    read = pacsv.ReadOptions(column_names=list(header), use_threads=False, block_size=len(data) + 1)
    parse = pacsv.ParseOptions(delimiter=sep, newlines_in_values=True)
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
    kind = {"double": "float64", "bool": "bool"}.get(found[2] or "", found[2] or "")
    is_number = re.search(r"'-?[\d.]+(e[-+]?\d+)?'", found[3])
    better = "float64" if kind.startswith(("int", "uint")) and is_number else "string"
    value = found[3].removeprefix("invalid value ")
    return (
        f"column {name!r}: {value} is no {kind}, its type by the first rows or cast; cure: cast: {{{name}: {better}}}"
    )
