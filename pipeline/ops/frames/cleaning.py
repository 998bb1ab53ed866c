"""Columns and rows put right: rename, astype, fillna, dropna. One task a partition; rows keep their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.expressions.time_literals import parse_time
from pipeline.errors import OpError
from pipeline.ops.frames.cast import cast_column, family, target_dtype
from pipeline.ops.frames.partitions import Partitions, require
from pipeline.ops.frames.sort import names_of

__all__ = ["astype", "dropna", "fillna", "rename"]

Scalar = bool | int | float | str


def rename(input: Any, *, columns: Mapping[str, str]) -> Any:  # noqa: A002
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
    return partitions.map("rename", name_columns, input.meta.set_axis(names, axis=1), names, same_rows=True)


def astype(input: Any, *, columns: Mapping[str, str]) -> Any:  # noqa: A002
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
    meta = input.meta.copy(deep=False)
    targets = {}
    for name, kind in columns.items():
        targets[name] = target_dtype(f"columns.{name}", meta[name].dtype, kind), kind
        meta[name] = pd.Series([], dtype=targets[name][0], index=meta.index)
    partitions = Partitions.of(input, parameters=("astype", dict(columns)))
    return partitions.map("astype", cast_columns, meta, targets, same_rows=True)


def fillna(input: Any, *, value: Scalar | Mapping[str, Scalar]) -> Any:  # noqa: A002
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
    meta = input.meta
    if isinstance(value, Mapping):
        require("value", value, input.columns)
        fills = {name: _fill_value(f"value.{name}", one, meta[name].dtype) for name, one in value.items()}
    else:
        fits = [str(name) for name in meta.columns if _is_of(value, family(meta[name].dtype))]
        if not fits:
            raise OpError("value", f"no column takes {value!r}; give a value a column: {{column: value}}")
        fills = {name: _fill_value("value", value, meta[name].dtype) for name in fits}
    partitions = Partitions.of(input, parameters=("fillna", fills))
    return partitions.map("fillna", fill_columns, meta, fills, same_rows=True)


def dropna(input: Any, *, subset: str | Sequence[str] | None = None, how: str = "any") -> Any:  # noqa: A002
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
    return partitions.map("dropna", drop_missing, input.meta, names, how)


def _is_of(value: Scalar, kind: str) -> bool:
    """Whether a value of the file fills columns of a family without being read as something else."""
    if isinstance(value, bool):
        return kind == "bool"
    return kind == ("text" if isinstance(value, str) else "number")


def _fill_value(place: str, value: Scalar, dtype: Any) -> Any:
    kind = family(dtype)
    if isinstance(value, str) and kind in ("time", "zoned time", "duration"):
        return _time(place, value, dtype, kind)
    if not _is_of(value, kind):
        raise OpError(place, f"got {value!r} for a column of {dtype}")
    if isinstance(value, float) and value != value:
        raise OpError(place, "got nan, which is missing itself")
    if isinstance(dtype, pd.CategoricalDtype):
        raise OpError(place, f"the column is {dtype}; make it string by op astype before")
    if dtype.kind not in "iu" or isinstance(value, str):
        return value
    info = np.iinfo(dtype.name.lower())  # a nullable type is named as numpy's, but for its first letter
    if not (info.min <= value <= info.max and value == int(value)):
        raise OpError(place, f"got {value!r}, which does not fit {dtype}; op astype makes the column float64")
    return int(value)


def _time(place: str, text: str, dtype: Any, kind: str) -> Any:
    try:
        if kind == "duration":
            return pd.Timedelta(text)
        when = pd.Timestamp(parse_time(text))
    except ValueError as error:  # of pandas; ExpressionError is one
        raise OpError(place, str(error)) from error
    if (when.tzinfo is None) != (kind == "time"):
        raise OpError(place, f"got {text!r} for a column of {dtype}; naive and zoned times never mix")
    return when.tz_convert(dtype.tz) if kind == "zoned time" else when


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def name_columns(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """One partition with its columns called ``names``."""
    return frame.set_axis(list(names), axis=1).reset_index(drop=True)


def cast_columns(frame: pd.DataFrame, targets: Mapping[str, tuple[Any, str]]) -> pd.DataFrame:
    """One partition with some columns in other types (dtype, its name in the language)."""
    new = frame.reset_index(drop=True)
    for name, (dtype, kind) in targets.items():
        new[name] = cast_column(name, new[name], dtype, kind)
    return new


def fill_columns(frame: pd.DataFrame, fills: Mapping[str, Any]) -> pd.DataFrame:
    """One partition with values where some columns have none."""
    new = frame.reset_index(drop=True)
    for name, value in fills.items():
        new[name] = new[name].fillna(value).astype(new[name].dtype)
    return new


def drop_missing(frame: pd.DataFrame, names: Sequence[str], how: str) -> pd.DataFrame:
    """The rows of one partition where none of the columns is missing (``all``: where one is not)."""
    missing = frame[list(names)].isna()
    gone = missing.any(axis=1) if how == "any" else missing.all(axis=1) & bool(len(names))
    return frame[~gone.to_numpy(dtype=bool)].reset_index(drop=True)
