"""Write frames, items and single objects: parquet, csv, json, pickle, npy, text, file.

Each public function is a task's: it gets the value, then constants from the plan, then the :class:`Context`.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from pipeline.graph.file_value import FileValue
from pipeline.graph.segments import Dropped
from pipeline.outputs.files import (
    FRAGMENTS,
    Context,
    FileRecord,
    PartRecord,
    packing,
    read_blocks,
    write_bytes,
    writing,
)

__all__ = [
    "csv_text",
    "item_path",
    "join_text",
    "plain",
    "write_csv_fragment",
    "write_items",
    "write_json_fragment",
    "write_object",
    "write_parquet",
]


# ---------------------------------------------------------------------------------------------------------------------
# Frames
# ---------------------------------------------------------------------------------------------------------------------


def write_parquet(
    partitions: Sequence[pd.DataFrame],
    index: int,
    numbers: Sequence[int],
    digits: int,
    schema: bytes,
    path: str,
    partition_by: Sequence[str],
    attrs: Mapping[str, Any],
    options: Mapping[str, Any],
    context: Context,
) -> PartRecord:
    """Write the rows of some partitions, in order, to some numbered files of a folder.

    Parameters
    ----------
    numbers : of the files, in order; each gets the same number of rows, but for one
    digits : width of the number in the file's name
    schema : serialised Arrow schema; a column of type null gets the type of its values
    partition_by : columns that become folders ``column=value``

    Raises
    ------
    ValueError : if a column of ``partition_by`` has missing values
    """
    frame = partitions[0] if len(partitions) == 1 else pd.concat(partitions, ignore_index=True)
    bounds = np.linspace(0, len(frame), len(numbers) + 1).astype(int)
    files: list[FileRecord] = []
    for number, (start, stop) in zip(numbers, itertools.pairwise(bounds), strict=True):
        name = f"part-{number:0{digits}d}.parquet"
        for folder, part in _by_folder(frame.iloc[start:stop], partition_by):
            where = "/".join([path, *folder, name])
            files.append(_write_table(part, schema, where, attrs, options, context))
    return PartRecord((index,), tuple(files), len(frame))


def _by_folder(frame: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[list[str], pd.DataFrame]]:
    if not columns:
        yield [], frame
        return
    missing = [column for column in columns if frame[column].isna().any()]
    if missing:  # pandas can't read back the folder names that other tools write for them
        raise ValueError(f"partition_by: {' '.join(missing)} has missing values; fill or filter them before")
    groups: Any = frame.groupby(list(columns), observed=True, sort=True)
    for values, part in groups:
        texts = [quote(str(value), safe=" ") for value in values]
        yield [f"{column}={text}" for column, text in zip(columns, texts, strict=True)], part.drop(columns=[*columns])


def _write_table(
    frame: pd.DataFrame,
    schema: bytes,
    path: str,
    attrs: Mapping[str, Any],
    options: Mapping[str, Any],
    context: Context,
) -> FileRecord:
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = frame.reset_index(drop=True)
    frame.attrs.update(attrs)
    planned = pa.ipc.read_schema(pa.py_buffer(schema))
    fields = [field if not pa.types.is_null(field.type) else _found(frame, field.name) for field in planned]
    table = pa.Table.from_pandas(frame, schema=pa.schema(fields), preserve_index=False)
    with writing(context, path) as written:
        pq.write_table(table, written.file, **{"compression": "zstd", **options})
    return written.record


def _found(frame: pd.DataFrame, column: str) -> Any:
    """Return the Arrow field for a column of Python objects; text if it has no values."""
    import pyarrow as pa

    kind = pa.array(frame[column], from_pandas=True).type
    return pa.field(column, pa.large_string() if pa.types.is_null(kind) else kind)


def write_csv_fragment(
    frame: pd.DataFrame, index: int, path: str, options: Mapping[str, Any], context: Context
) -> tuple[str, int]:
    """Write a partition as CSV without a header, for :func:`join_text`; return its path and number of rows."""
    name = f"{FRAGMENTS}/{path}/{index}"
    if "date_format" not in options:
        # pandas omits the hours where a whole column is at midnight, so the text would depend on the partitions
        times = frame.select_dtypes(["datetime", "datetimetz"]).columns
        frame = frame.assign(**{column: [plain(time) for time in frame[column]] for column in times})
    write_bytes(context, name, [csv_text(frame, header=False, options=options).encode()])
    return name, len(frame)


def csv_text(frame: pd.DataFrame, *, header: bool, options: Mapping[str, Any]) -> str:
    """Return a frame as CSV in lines that end in LF; text with a carriage return is quoted: it would end a line."""
    text: str = frame.to_csv(index=False, header=header, lineterminator="\n", **options)
    if "\r" in text:  # csv quotes what is in the end of a line
        pieces = frame.to_csv(index=False, header=header, lineterminator="\r\n", **options).split('"')
        pieces[::2] = [outside.replace("\r\n", "\n") for outside in pieces[::2]]
        text = '"'.join(pieces)
    return text


def write_json_fragment(frame: pd.DataFrame, index: int, path: str, lines: bool, context: Context) -> tuple[str, int]:
    """Write a partition as JSON objects, for :func:`join_text`; return its path and number of rows."""
    name = f"{FRAGMENTS}/{path}/{index}"
    names = [str(column) for column in frame.columns]
    rows = (_json(dict(zip(names, row, strict=True))) for row in frame.itertuples(index=False, name=None))
    text = "\n".join(rows) if lines else ",\n".join(rows)
    write_bytes(context, name, [text.encode()])
    return name, len(frame)


def join_text(
    fragments: Sequence[tuple[str, int]], head: bytes, between: bytes, tail: bytes, path: str, context: Context
) -> PartRecord:
    """Join text fragments in one file, empty ones left out, compressed by the ending of its name."""
    full = [name for name, rows in fragments if rows]

    def blocks() -> Iterator[bytes]:
        yield head
        for i, name in enumerate(full):
            yield between if i else b""
            yield from read_blocks(Path(context.staging, name))
        yield tail if full or head else b""

    with writing(context, path) as written, packing(written.file, path) as file:
        for data in blocks():
            file.write(data)
    return PartRecord((), (written.record,), sum(rows for _, rows in fragments))


# ---------------------------------------------------------------------------------------------------------------------
# Items and single objects
# ---------------------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Convert a value to JSON types: NaN to null, a frame to a list of rows, times to ISO text.

    Raises
    ------
    TypeError : for an object that has no JSON form
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return None if value.dtype.kind in "mM" and np.isnat(value) else plain(_python(value))
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value)]
    return _plain_container(value)


def _python(value: np.generic) -> Any:
    return str(value) if value.dtype.kind in "mM" else value.item()


def _plain_container(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value] if value.ndim else plain(value[()])
    if isinstance(value, pd.DataFrame):
        return [plain(row) for row in value.to_dict("records")]
    if isinstance(value, pd.Series):
        return plain(value.to_dict())
    if value is pd.NaT or value is pd.NA:
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "dims") and hasattr(value, "values"):
        return plain(value.values)
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} has no JSON form; write it as pickle")


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(plain(value), ensure_ascii=False, indent=indent, allow_nan=False)


def _write(value: Any, form: str, path: str, options: Mapping[str, Any], context: Context) -> FileRecord:
    with writing(context, path) as written:
        if form in ("pickle", "json", "text"):
            with packing(written.file, path) as file:
                if form == "pickle":
                    pickle.dump(value, file, protocol=options.get("protocol", 5))
                else:
                    text = _text(value) if form == "text" else _json(value, options.get("indent", 1)) + "\n"
                    file.write(text.encode())
        elif form == "file":
            written.file.write(_bytes(value))
        else:
            array = np.asarray(value)
            if array.dtype.hasobject:
                raise TypeError(
                    f"npy holds numbers, times and text; got {type(value).__qualname__}; write it as pickle"
                )
            np.lib.format.write_array(written.file, array, allow_pickle=False)
    return written.record


def _text(value: Any) -> str:
    """Return a text unchanged, a list of texts as lines."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(line, str) for line in value):
        raise TypeError(f"text takes a text or a list of texts, got {type(value).__qualname__}; write it as json")
    broken = next((line for line in value if "\n" in line), None)
    if broken is not None:
        raise ValueError(f"each text of a list is one line, but {broken[:40]!r} has a line break in it")
    return "".join(f"{line}\n" for line in value)


def _bytes(value: Any) -> bytes:
    if isinstance(value, FileValue):
        return value.data
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    hint = "; a path is only valid on one worker: return the contents of the file, as bytes" if _is_path(value) else ""
    raise TypeError(f"file takes a file of a command, or bytes; got {type(value).__qualname__}{hint}")


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def write_object(value: Any, form: str, path: str, options: Mapping[str, Any], context: Context) -> PartRecord:
    """Write one object as one file."""
    return PartRecord((), (_write(value, form, path, options, context),), 1)


def item_path(path: str, key: str) -> str:
    """Return the path of one item's file: ``path`` with ``${key}`` replaced by the item's key.

    Raises
    ------
    ValueError : for a key that can't be part of a path, or would lead out of the folder
    """
    parts = key.split("/")
    if not key or key.startswith("/") or "\0" in key or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"the item key {key!r} can't be part of a file's name")
    return path.replace("${key}", key)


def write_items(
    items: Sequence[Any],
    keys: Sequence[str] | None,
    index: int,
    form: str,
    path: str,
    options: Mapping[str, Any],
    context: Context,
) -> PartRecord:
    """Write one file per item.

    Parameters
    ----------
    keys : of the items; None: each of ``items`` is a list of pairs (key, item)

    Raises
    ------
    ValueError : naming the item that can't be written in the format
    """
    pairs = zip(keys, items, strict=True) if keys is not None else itertools.chain.from_iterable(items)
    files, dropped = [], []
    for key, item in pairs:
        if isinstance(item, Dropped):
            dropped.append(key)
        else:
            try:
                files.append(_write(item, form, item_path(path, key), options, context))
            except (TypeError, ValueError, AttributeError, RecursionError, pickle.PicklingError) as error:
                message = f"item {key!r} can't be written to {form}: {type(error).__name__}: {error}"
                raise ValueError(message) from error
    return PartRecord((index,), tuple(files), len(files), tuple(dropped))
