"""Values of arrays and columns as plain numbers, times and texts for a plot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError
from pipeline.graph.calendars import calendar_of
from pipeline.graph.column_types import family, type_name

__all__ = ["Values", "column_places", "is_number", "numbers", "numbers_of", "places", "texts", "with_numbers"]

Values = np.ndarray[Any, Any]

_SPANS = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0))


def is_number(kind: pa.DataType) -> bool:
    """Return whether a column can be drawn along an axis of numbers."""
    return family(kind) in ("number", "true/false")


def numbers(values: Values, name: str) -> tuple[Values, str]:
    """Return values as floats, infinite ones as nan, and their unit if they are durations."""
    if values.dtype.kind == "m":
        return _spans(values)
    if values.dtype.kind not in "biuf":
        raise DataError(f"{name}: {values.dtype} can't be drawn; a plot takes numbers, true and false, and durations")
    found = values.astype(float)
    found[~np.isfinite(found)] = np.nan
    return found, ""


def _spans(values: Values) -> tuple[Values, str]:
    seconds = np.where(np.isnat(values), np.nan, values / np.timedelta64(1, "s"))
    most = np.nanmax(np.abs(seconds), initial=0.0) if seconds.size else 0.0
    unit, size = next((pair for pair in _SPANS if most >= pair[1]), _SPANS[-1])
    return seconds / size, unit


def with_numbers(table: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """Return a frame with its durations as numbers of one unit, and the names of these columns with it."""
    labels = {}
    for i, one in enumerate(table.schema):
        if family(one.type) == "duration":
            values, unit = _spans(table.column(i).to_numpy())
            table = table.set_column(i, one.name, pa.array(values, from_pandas=True))
            labels[one.name] = f"{one.name} [{unit}]"
    return table, labels


def numbers_of(table: pa.Table, name: str) -> Values:
    """Return a column of numbers as floats, nan where one is missing."""
    column = table.column(name)
    if not is_number(column.type):
        raise DataError(f"{name!r} is {type_name(column.type)}; a plot takes numbers, true and false, and durations")
    return numbers(np.asarray(column.cast(pa.float64()).to_numpy()), name)[0].copy()


def column_places(table: pa.Table, name: str) -> Values:
    """Return a column without missing values as places on an axis."""
    column = table.column(name)
    kind = family(column.type)
    if kind in ("number", "true/false"):
        return numbers_of(table, name)
    if kind == "zoned time":
        column = pc.local_timestamp(column)
    if kind in ("time", "zoned time", "date"):
        return np.asarray(column.to_numpy()).astype("datetime64[us]")
    return np.array([str(value) for value in column.to_pylist()], dtype=str)


def places(values: Values) -> tuple[Values, str]:
    """Return labels as places on an axis, and their unit: times of other calendars as years."""
    calendar = calendar_of(values) if values.dtype.kind == "O" else ""
    if calendar:
        return np.array([_year(time) for time in values]), f"years, calendar {calendar}"
    if values.dtype.kind == "M":
        return values.astype("datetime64[us]"), ""
    if values.dtype.kind == "m":
        return _spans(values)
    if values.dtype.kind in "biuf":
        return values.astype(float), ""
    return values.astype(str), ""


def _year(time: Any) -> float:
    return float(time.year + (time.dayofyr - 1 + time.hour / 24) / 366)


def texts(values: Values) -> list[str]:
    """Return labels as texts, times without what they do not need."""
    if values.dtype.kind == "M":
        seconds = values.astype("datetime64[s]")
        days = seconds.astype("datetime64[D]")
        return [str(v) for v in (days if (days == seconds).all() else seconds)]
    if values.dtype.kind == "f" and (values == np.round(values)).all():
        return [str(int(v)) for v in values]
    return [str(v) for v in values]
