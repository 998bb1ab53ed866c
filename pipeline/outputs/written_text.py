"""Read frames that a run wrote as CSV or JSON; their types are those of the schema they were written with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError
from pipeline.graph.column_types import empty_table
from pipeline.outputs.column_text import from_json, from_text
from pipeline.outputs.files import unpacking

__all__ = ["csv_table", "json_table"]


def csv_table(path: Path, schema: pa.Schema, options: Mapping[str, Any]) -> pa.Table:
    """Return the rows of a CSV file.

    Parameters
    ----------
    options : with which it was written

    Raises
    ------
    DataError : it has other columns
    ValueError : a value is none of the type that was written
    """
    from pyarrow import csv  # heavy, and needed here alone

    absent = str(options.get("na_rep", ""))
    lone = len(schema) == 1 and not absent  # there a missing value is written in quotes
    with unpacking(path) as file:
        found = csv.read_csv(
            file,
            parse_options=csv.ParseOptions(delimiter=options.get("sep", ","), newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(schema.names, pa.string()),
                null_values=[absent],
                strings_can_be_null=True,
                quoted_strings_can_be_null=lone,
            ),
        )
    _require_columns(found.column_names, schema)
    columns = [_column(found.column(i).combine_chunks(), field.type, options) for i, field in enumerate(schema)]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(texts: pa.Array, kind: pa.DataType, options: Mapping[str, Any]) -> pa.Array:
    if "decimal" in options and (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        texts = pc.replace_substring(texts, options["decimal"], ".")
    return from_text(texts, kind, time_format=options.get("date_format"))


def json_table(path: Path, schema: pa.Schema, *, lines: bool) -> pa.Table:
    """Return the rows of a JSON file: an object a line, or a list of objects.

    Raises
    ------
    DataError : it has other columns
    ValueError : it is no JSON, or a value is none of the type that was written
    """
    with unpacking(path) as file:
        rows = [json.loads(line) for line in file] if lines else json.load(file)
    if not rows:
        return empty_table(schema)
    _require_columns(list(rows[0]), schema)
    columns = [from_json([row[field.name] for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _require_columns(found: list[str], schema: pa.Schema) -> None:
    if found != schema.names:
        raise DataError(f"has the columns {' '.join(found)}; it was written with {' '.join(schema.names)}")
