"""Folders ``column=value`` of a partitioned output: which rows go into which, and the values that a path says."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa

from pipeline.errors import OpError
from pipeline.graph.column_types import declared_type, field_of, type_name
from pipeline.graph.late_pandas import numbers_of
from pipeline.outputs.column_text import from_text, plain_texts

__all__ = ["MISSING", "kept_types", "missing_folders", "recorded_types", "rows_by_folder", "with_folder_columns"]

MISSING = "__HIVE_DEFAULT_PARTITION__"
"""The value in the name of a folder that stands for a missing one, as Hive, Spark and DuckDB write it."""

_KEY = "pipeline.folders"


def recorded_types(schema: pa.Schema, columns: Sequence[str]) -> dict[str, str]:
    """Return what each file records of the types of the columns that only the names of its folders have."""
    types = {name: type_name(field_of(schema, name).type) for name in columns}
    return {_KEY: json.dumps(types)} if types else {}


def kept_types(metadata: Mapping[bytes, bytes] | None) -> dict[str, pa.DataType]:
    """Return the types that :func:`recorded_types` put into the metadata of a file; none if others wrote it."""
    try:
        types = json.loads((metadata or {}).get(_KEY.encode(), b"{}"))
        return {name: declared_type(kind, name) for name, kind in types.items()}
    except (ValueError, AttributeError, TypeError, OpError):
        return {}


def rows_by_folder(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[list[str], pa.Table]]:
    """Yield the names of nested folders, and the rows that belong there without the columns that the names say.

    The text of a value is that of CSV, with all but letters, digits and ``_.-~`` and blanks percent-encoded.
    """
    if not columns:
        yield [], table
        return
    codes = np.zeros(table.num_rows, np.int64)
    names: list[list[str]] = []
    for column in columns:
        texts = plain_texts(table.column(column)).dictionary_encode(null_encoding="encode")
        names.append([_folder(column, text) for text in texts.dictionary.to_pylist()])
        own = numbers_of(texts.indices).astype(np.int64)
        _, codes = np.unique(codes * max(len(names[-1]), 1) + own, return_inverse=True)  # compact: no overflow
        names[-1] = [names[-1][code] for code in own.tolist()]
    order = np.argsort(codes, kind="stable")
    cuts = np.searchsorted(codes[order], np.arange(codes.max(initial=-1) + 2))
    held = table.drop_columns(list(columns))
    for start, stop in itertools.pairwise(cuts.tolist()):
        yield [of_rows[order[start]] for of_rows in names], held.take(pa.array(order[start:stop]))


def missing_folders(columns: Sequence[str]) -> list[str]:
    """Return the names of the nested folders for rows in which all of these columns are missing."""
    return [_folder(column, None) for column in columns]


def _folder(column: str, text: str | None) -> str:
    if text is None:
        value = MISSING
    elif text == MISSING:
        value = "%5F" + MISSING[1:]
    else:
        value = quote(text, safe=" ")
    return f"{_name(column)}={value}"


def _name(column: str) -> str:
    return re.sub(r"""[\x00-\x1f\x7f"#%'*/:=?\\{}\[\]^]""", lambda found: f"%{ord(found[0]):02X}", column)


def with_folder_columns(table: pa.Table, below: PurePath, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns that the folders of its file say, in the order of the schema.

    Parameters
    ----------
    below : path of the file below the output
    """
    columns = dict(zip(table.column_names, table.columns, strict=True))
    for part in below.parent.parts:
        name, _, text = part.partition("=")
        name = unquote(name)
        value = None if text == MISSING else unquote(text)
        kind = field_of(schema, name).type
        columns[name] = pa.chunked_array([pa.repeat(from_text(pa.array([value], pa.string()), kind)[0], len(table))])
    return pa.table([columns[name] for name in schema.names], names=schema.names)
