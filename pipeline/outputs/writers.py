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
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.graph.column_types import conform
from pipeline.graph.file_value import FileValue
from pipeline.graph.importing import is_instance
from pipeline.graph.segments import Dropped
from pipeline.outputs.column_text import csv_field, csv_rows, json_rows
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
from pipeline.outputs.hive_folders import missing_folders, recorded_types, rows_by_folder

__all__ = [
    "csv_header",
    "item_path",
    "join_text",
    "plain",
    "write_csv_fragment",
    "write_items",
    "write_json_fragment",
    "write_object",
    "write_parquet",
    "write_whole_table",
]

_BLOCK_ROWS = 1 << 16  # rows whose text is made at once


# ---------------------------------------------------------------------------------------------------------------------
# Frames
# ---------------------------------------------------------------------------------------------------------------------


def write_parquet(
    partitions: Sequence[pa.Table],
    index: int,
    numbers: Sequence[int],
    names: str,
    schema: pa.Schema,
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
    names : of the files, with ``{run}`` and ``{number}``
    schema : of the partitions; it may allow missing values where they do not
    partition_by : columns that become folders ``column=value``
    """
    table = conform(pa.concat_tables(partitions), schema)
    bounds = np.linspace(0, len(table), len(numbers) + 1).astype(int).tolist()
    files: list[FileRecord] = []
    about = recorded_types(schema, partition_by)
    about |= _attrs(attrs)
    for number, (start, stop) in zip(numbers, itertools.pairwise(bounds), strict=True):
        name = names.format(run=context.run, number=number)
        for folder, part in rows_by_folder(table.slice(start, stop - start), partition_by):
            files.append(_write_table(part, "/".join([path, *folder, name]), about, options, context))
    return PartRecord((index,), tuple(files), len(table))


def write_no_rows(
    records: Sequence[PartRecord],
    names: str,
    schema: pa.Schema,
    path: str,
    partition_by: Sequence[str],
    attrs: Mapping[str, Any],
    options: Mapping[str, Any],
    context: Context,
) -> PartRecord:
    """Write a file without rows into the folder of missing values, if there is no other, so that it tells the columns.

    Parameters
    ----------
    records : of the tasks that have written all rows
    names, schema, path, partition_by : see :func:`write_parquet`
    """
    if any(record.files for record in records):
        return PartRecord((), (), 0)
    table = schema.empty_table().drop_columns(list(partition_by))
    name = "/".join([path, *missing_folders(partition_by), names.format(run=context.run, number=0)])
    about = recorded_types(schema, partition_by) | _attrs(attrs)
    return PartRecord((), (_write_table(table, name, about, options, context),), 0)


def _attrs(attrs: Mapping[str, Any]) -> dict[str, str]:
    """Return attributes as pandas keeps and looks for them in a Parquet file."""
    return {"PANDAS_ATTRS": json.dumps(plain(attrs))} if attrs else {}


def _write_table(
    table: pa.Table, path: str, about: Mapping[str, str], options: Mapping[str, Any], context: Context
) -> FileRecord:
    import pyarrow.parquet as pq  # heavy, and needed here alone

    table = table.replace_schema_metadata(dict(about)) if about else table
    with writing(context, path) as written:
        pq.write_table(table, written.file, **{"compression": "zstd", **options})
    return written.record


def write_whole_table(
    value: Any, form: str, path: str, options: Mapping[str, Any], attrs: Mapping[str, Any], context: Context
) -> PartRecord:
    """Write a value that is a frame of pandas, polars or Arrow as one file: CSV, or Parquet in a folder.

    Raises
    ------
    TypeError : it is no frame
    """
    table = _table_of(value)
    if table is None:
        raise TypeError(f"{form} takes a frame, got {type(value).__qualname__}; write it as json or pickle")
    if form == "parquet":
        record = _write_table(table, f"{path}/part-00000.parquet", _attrs(attrs), options, context)
    else:
        with writing(context, path) as written, packing(written.file, path) as file:
            file.write(csv_header(table.column_names, options))
            for block in _blocks(table):
                file.write(csv_rows(block, options))
        record = written.record
    return PartRecord((), (record,), len(table))


def _table_of(value: Any) -> pa.Table | None:
    """Return a frame as an Arrow table, the named levels of an index as columns; None: it is no frame."""
    if is_instance(value, "pandas", "DataFrame"):
        named = any(name is not None for name in value.index.names)
        return pa.Table.from_pandas(value.reset_index(drop=not named), preserve_index=False).replace_schema_metadata()
    if is_instance(value, "polars", "DataFrame"):
        return value.to_arrow()
    return value if isinstance(value, pa.Table) else None


def write_csv_fragment(
    table: pa.Table, index: int, path: str, options: Mapping[str, Any], context: Context
) -> PartRecord:
    """Write a partition as CSV without a header, for :func:`join_text`."""
    rows = (csv_rows(block, options) for block in _blocks(table))
    return PartRecord((index,), (write_bytes(context, f"{FRAGMENTS}/{path}/{index}", rows),), len(table))


def csv_header(names: Sequence[str], options: Mapping[str, Any]) -> bytes:
    """Return the first line of a CSV file."""
    fields = (csv_field(name, options) for name in names)
    return (str(options.get("sep", ",")).join(fields) + "\n").encode()


def write_json_fragment(table: pa.Table, index: int, path: str, lines: bool, context: Context) -> PartRecord:
    """Write a partition as JSON objects, for :func:`join_text`."""
    between = "\n" if lines else ",\n"

    def blocks() -> Iterator[bytes]:
        for i, block in enumerate(_blocks(table)):
            yield ((between if i else "") + between.join(json_rows(block).to_pylist())).encode()

    return PartRecord((index,), (write_bytes(context, f"{FRAGMENTS}/{path}/{index}", blocks()),), len(table))


def _blocks(table: pa.Table) -> Iterator[pa.Table]:
    """Yield rows in blocks whose text fits into memory."""
    for start in range(0, len(table), _BLOCK_ROWS):
        yield table.slice(start, _BLOCK_ROWS)


def join_text(
    fragments: Sequence[PartRecord], head: bytes, between: bytes, tail: bytes, path: str, context: Context
) -> PartRecord:
    """Join text fragments in one file, empty ones left out, compressed by the ending of its name."""
    full = [fragment.files[0].path for fragment in fragments if fragment.rows]

    def blocks() -> Iterator[bytes]:
        yield head
        for i, name in enumerate(full):
            yield between if i else b""
            yield from read_blocks(Path(context.staging, name))
        yield tail if full or head else b""

    with writing(context, path) as written, packing(written.file, path) as file:
        for data in blocks():
            file.write(data)
    return PartRecord((), (written.record,), sum(fragment.rows for fragment in fragments))


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
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, pa.Table):
        return [json.loads(row) for row in json_rows(value).to_pylist()]
    if is_instance(value, "pandas", "DataFrame"):
        return [plain(row) for row in value.to_dict("records")]
    if is_instance(value, "pandas", "Series"):
        return plain(value.to_dict())
    if type(value).__name__ in ("NaTType", "NAType"):  # of pandas, whose import takes longer than a short run
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
                elif form == "json" and isinstance(value, pa.Table):
                    file.writelines(_json_rows(value))
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


def _json_rows(table: pa.Table) -> Iterator[bytes]:
    """Yield the rows of a table as a JSON list of objects."""
    yield b"["
    for i, block in enumerate(_blocks(table)):
        yield b",\n" if i else b"\n"
        yield ",\n".join(json_rows(block).to_pylist()).encode()
    yield b"\n]\n"


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
