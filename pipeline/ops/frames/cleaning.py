"""Columns and rows put right: rename, astype, fillna, dropna. One task a partition; rows keep their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.expressions.time_literals import parse_duration, parse_time
from pipeline.errors import OpError
from pipeline.graph.column_types import family, field_of, replaced, type_name
from pipeline.ops.collections import Frame
from pipeline.ops.elementwise.sql_types import decimal_of, digits, ticks_of
from pipeline.ops.frames.cast import cast_column, target_type
from pipeline.ops.frames.partitions import Partitions, names_of, require

__all__ = ["astype", "dropna", "fillna", "rename"]

Scalar = bool | int | float | str


def rename(input: Frame, *, columns: Mapping[str, str]) -> Frame:  # noqa: A002
    """The frame with other names for some columns; all at once, so that two may change places.

    Parameters
    ----------
    input : frame
    columns : old name -> new name

    Raises
    ------
    OpError : an unknown column, or two columns that would have one name
    """
    require("columns", columns, input.columns)
    names = [columns.get(str(name), str(name)) for name in input.columns]
    for old, new in columns.items():
        if names.count(new) > 1:
            raise OpError(f"columns.{old}", f"'{new}' would be the name of two columns; choose another")
    partitions = Partitions.of(input, parameters=("rename", names))
    schema = pa.schema([field.with_name(name) for field, name in zip(input.schema, names, strict=True)])
    return partitions.map("rename", name_columns, schema, names, same_rows=True)


def astype(input: Frame, *, columns: Mapping[str, str]) -> Frame:  # noqa: A002
    """The frame with some columns in other types; every value fits, or the run fails.

    Parameters
    ----------
    input : frame
    columns : column -> type of the language

    Raises
    ------
    OpError : an unknown column or type, or a type that such a column can't become
    """
    require("columns", columns, input.columns)
    targets, fields = {}, []
    for name, kind in columns.items():
        have = field_of(input.schema, name)
        target = target_type(f"columns.{name}", have.type, kind)
        targets[name] = target, kind
        nan = pa.types.is_floating(target) and family(have.type) == "text"  # the text nan is missing
        fields.append(pa.field(name, target, have.nullable or nan))
    partitions = Partitions.of(input, parameters=("astype", dict(columns)))
    schema = replaced(input.schema, fields)
    return partitions.map("astype", cast_columns, schema, targets, schema, same_rows=True)


def fillna(input: Frame, *, value: Scalar | Mapping[str, Scalar]) -> Frame:  # noqa: A002
    """The frame with a value where columns have none. Types stay.

    Parameters
    ----------
    input : frame
    value : for all columns of its kind (a number for numbers, text for text, true or false for booleans), the others
        staying as they are; or a value a column, where text may also say a time

    Raises
    ------
    OpError : an unknown column, a value of another kind than its column, or one that is of no column's kind
    """
    types = {field.name: field.type for field in input.schema}
    if isinstance(value, Mapping):
        require("value", value, input.columns)
        fills = {name: _fill_value(f"value.{name}", one, types[name]) for name, one in value.items()}
    else:
        fits = [name for name, kind in types.items() if _is_of(value, family(kind))]
        if not fits:
            raise OpError("value", f"no column takes {value!r}; give a value a column: {{column: value}}")
        fills = {name: _fill_value("value", value, types[name]) for name in fits}
    partitions = Partitions.of(input, parameters=("fillna", sorted((name, str(v)) for name, v in fills.items())))
    schema = replaced(input.schema, [pa.field(name, types[name], nullable=False) for name in fills])
    return partitions.map("fillna", fill_columns, schema, fills, schema, same_rows=True)


def dropna(input: Frame, *, subset: str | Sequence[str] | None = None, how: str = "any") -> Frame:  # noqa: A002
    """The rows without missing values.

    Parameters
    ----------
    input : frame
    subset : the columns that are looked at; default: all
    how : any: a row goes where one of them is missing; all: where all of them are

    Raises
    ------
    OpError : an unknown column
    """
    names = list(input.columns) if subset is None else names_of("subset", subset, input.columns)
    partitions = Partitions.of(input, parameters=("dropna", names, how))
    schema = input.schema
    if how == "any" or len(names) == 1:
        schema = replaced(schema, [field_of(schema, name).with_nullable(False) for name in names])
    return partitions.map("dropna", drop_missing, schema, names, how, schema, some_rows=True)


def _is_of(value: Scalar, kind: str) -> bool:
    """Whether a value of the file fills columns of a family without being read as something else."""
    if isinstance(value, bool):
        return kind == "true/false"
    return kind == ("text" if isinstance(value, str) else "number")


def _fill_value(place: str, value: Scalar, kind: pa.DataType) -> pa.Scalar:
    """The value in the type of the column.

    Raises
    ------
    OpError : it is of another kind, or does not fit the type
    """
    held = family(kind)
    if isinstance(value, str) and held in ("date", "time", "zoned time", "duration", "time of day"):
        return _time(place, value, kind, held)
    if not _is_of(value, held):
        raise OpError(place, f"got {value!r} for a column of {type_name(kind)}")
    if isinstance(value, float) and value != value:
        raise OpError(place, "got nan, which is missing itself")
    cure = "; op astype makes the column float64" if held == "number" else ""
    misfit = OpError(place, f"got {value!r}, which does not fit {type_name(kind)}{cure}")
    if pa.types.is_decimal(kind) and not isinstance(value, str):
        exact = decimal_of(value)
        if exact is None or digits(exact)[0] > kind.precision - kind.scale or digits(exact)[1] > kind.scale:
            raise misfit
        return pa.scalar(exact, kind)
    if pa.types.is_integer(kind) and not isinstance(value, str) and value != value // 1:
        raise misfit
    if pa.types.is_dictionary(kind):
        return pa.scalar(value, kind.value_type)
    try:
        return pa.scalar(int(value) if pa.types.is_integer(kind) else value).cast(kind)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise misfit from error


def _time(place: str, text: str, kind: pa.DataType, held: str) -> pa.Scalar:
    when: datetime | timedelta | date | time
    try:
        if held == "time of day":
            return pa.scalar(time.fromisoformat(text), pa.time64("us")).cast(kind)
        when = parse_duration(text) if held == "duration" else parse_time(text)
    except (ValueError, pa.ArrowInvalid) as error:  # ExpressionError is one
        raise OpError(place, str(error)) from error
    if isinstance(when, datetime):
        if (when.tzinfo is None) != (held != "zoned time"):
            raise OpError(place, f"got {text!r} for a column of {type_name(kind)}; naive and zoned times never mix")
        if held == "date":
            if when != datetime(when.year, when.month, when.day):
                raise OpError(place, f"got {text!r} for a column of {type_name(kind)}; it has a time of day")
            return pa.scalar(when.date(), kind)
    count = ticks_of(when, kind.unit)
    if count is None:
        raise OpError(place, f"got {text!r}, which does not fit {type_name(kind)}: it has a fraction of its unit")
    return pa.scalar(count, pa.int64()).cast(kind)


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def name_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """One partition with its columns called ``names``."""
    return table.rename_columns(list(names))


def cast_columns(table: pa.Table, targets: Mapping[str, tuple[pa.DataType, str]], schema: pa.Schema) -> pa.Table:
    """One partition with some columns in other types (the type, its name in the language)."""
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns |= {name: cast_column(name, columns[name], target, kind) for name, (target, kind) in targets.items()}
    return pa.Table.from_arrays(list(columns.values()), schema=schema)


def fill_columns(table: pa.Table, fills: Mapping[str, pa.Scalar], schema: pa.Schema) -> pa.Table:
    """One partition with values where some columns have none."""
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns |= {name: filled(columns[name], value) for name, value in fills.items() if columns[name].null_count}
    return pa.Table.from_arrays(list(columns.values()), schema=schema)


def filled(column: pa.ChunkedArray, value: pa.Scalar) -> pa.ChunkedArray:
    """A column with a value where it is missing."""
    if pa.types.is_dictionary(column.type):
        return column.cast(value.type).fill_null(value).cast(column.type)
    if pa.types.is_float16(column.type):
        return column.cast(pa.float32()).fill_null(value.cast(pa.float32())).cast(column.type)
    return column.fill_null(value)


def drop_missing(table: pa.Table, names: Sequence[str], how: str, schema: pa.Schema) -> pa.Table:
    """The rows of one partition where none of the columns is missing (``all``: where one is not)."""
    there = [pc.is_valid(table.column(name)) for name in names if how == "all" or table.column(name).null_count]
    if there:
        table = table.filter(reduce(pc.and_ if how == "any" else pc.or_, there))
    return pa.Table.from_arrays(table.columns, schema=schema)
