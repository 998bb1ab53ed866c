"""A summary of a value, as a map and as text: its kind, types, sizes, first elements, and statistics of its numbers."""

from __future__ import annotations

import math
import reprlib
import textwrap
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import cftime  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from pipeline.errors import printable
from pipeline.graph.calendars import calendar_of
from pipeline.graph.column_types import family, type_name
from pipeline.graph.late_pandas import python_value
from pipeline.report.text_tables import WIDTH, Column, table_text
from pipeline.units import bytes_text, count_text

if TYPE_CHECKING:
    from pipeline.runs.inspect import Preview


__all__ = ["preview_dict", "preview_text"]

_LONGEST = 60  # characters of the text of one element
_MINUTES = len("2001-01-01 00:00")  # characters of a time in a table
_MOST_COLUMNS = 100  # columns with statistics
_MOST_SHOWN = 20  # columns with first values

_COLUMNS = (
    Column("name", "", folded=8),
    Column("type", "type", folded=10),
    Column("missing", "missing", True),
    Column("min", "min", True),
    Column("mean", "mean", True),
    Column("max", "max", True),
)


# ---------------------------------------------------------------------------------------------------------------------
# As a map
# ---------------------------------------------------------------------------------------------------------------------


def preview_dict(preview: Preview, *, rows: int) -> dict[str, Any]:
    """Return a summary of a value in the types that JSON has.

    Parameters
    ----------
    rows : number of rows, cells or items to include

    Returns
    -------
    ``name``, ``kind``; of an array ``dims``, ``sizes``, ``dtype``, ``bytes``, ``labels`` (first and last of each
    coordinate), ``values`` (its ``type``, ``missing``, ``min``, ``mean``, ``max``), ``first`` (cells with their
    labels); of a frame ``rows``, ``bytes``, ``columns``, ``first``; of items ``n_items``, ``n_dropped``, ``keys`` (the
    first and the last), ``values`` where all are numbers, ``first``; of any other object ``type`` and ``text``
    """
    summary = {"name": preview.name, "kind": preview.kind}
    if preview.kind == "items":
        return summary | _items(preview.value, preview.n_dropped, rows)
    return summary | _object(preview.value, rows)


def _object(value: Any, rows: int) -> dict[str, Any]:
    if isinstance(value, np.ndarray):
        value = xr.DataArray(value)
    if isinstance(value, xr.DataArray):
        return {"type": "array"} | _array(value, rows)
    if isinstance(value, pd.DataFrame):
        return {"type": "frame"} | _pandas_frame(value, rows)
    if isinstance(value, pa.Table):
        return {"type": "frame"} | _table_summary(value, rows)
    return {"type": type(value).__name__, "text": _text(value, 20 * max(rows, 1))}


def _array(x: xr.DataArray, rows: int) -> dict[str, Any]:
    return {
        "dims": [str(dim) for dim in x.dims],
        "sizes": {str(dim): size for dim, size in x.sizes.items()},
        "dtype": str(x.dtype),
        "bytes": int(x.nbytes),
        "labels": {str(name): _ends(coordinate) for name, coordinate in x.coords.items()},
        "values": _statistics(x.values),
        "first": _cells(x, rows),
    }


def _ends(coordinate: xr.DataArray) -> dict[str, Any]:
    values = np.ravel(coordinate.values)
    ends = [_plain(values[0]), _plain(values[-1])] if values.size else []
    calendar = calendar_of(coordinate.values)
    dtype = f"time ({calendar})" if calendar else str(coordinate.dtype)
    return {"dtype": dtype, "dims": [str(dim) for dim in coordinate.dims], "ends": ends}


def _cells(x: xr.DataArray, rows: int) -> list[dict[str, Any]]:
    """Return the first cells, each with its labels, or positions along dims without labels."""
    cells = []
    for number in range(min(rows, x.size)):
        place = np.unravel_index(number, x.shape) if x.ndim else ()
        at = {str(dim): int(i) for dim, i in zip(x.dims, place, strict=True)}
        labels = {dim: _plain(x.indexes[dim][i]) if dim in x.indexes else i for dim, i in at.items()}
        cells.append({**labels, "value": _plain(x.values[place] if x.ndim else x.values[()])})
    return cells


def _table_summary(table: pa.Table, rows: int) -> dict[str, Any]:
    return {
        "rows": len(table),
        "bytes": int(table.nbytes),
        "columns": {
            field.name: _column_statistics(table.column(i), field.type) for i, field in enumerate(table.schema)
        },
        "first": [
            {
                name: _plain(python_value(column[i]))
                for name, column in zip(table.column_names, table.columns, strict=True)
            }
            for i in range(min(rows, len(table)))
        ],
    }


def _column_statistics(column: pa.ChunkedArray, kind: pa.DataType) -> dict[str, Any]:
    summary: dict[str, Any] = {"type": type_name(kind), "missing": column.null_count}
    is_time = pa.types.is_timestamp(kind) or pa.types.is_duration(kind)
    is_number = family(kind) in ("number", "true/false") and not pa.types.is_dictionary(kind)
    if column.null_count < len(column) and (is_time or is_number or pa.types.is_date(kind)):
        values = column.cast(pa.float32()) if pa.types.is_float16(kind) else column
        length = pa.types.is_duration(kind)  # whose ends Arrow does not find
        ends = pc.min_max(values.cast(pa.int64()) if length else values)
        least, most = (ends[end].cast(kind) if length else ends[end] for end in ("min", "max"))
        summary["min"] = _plain(python_value(least))
        if not pa.types.is_date(kind):
            mean = float(pc.mean(values.cast(pa.int64()) if is_time else values).as_py())
            moment = pa.scalar(round(mean), pa.int64()).cast(kind) if is_time else None
            summary["mean"] = mean if moment is None else _plain(python_value(moment))
        summary["max"] = _plain(python_value(most))
    return summary


def _pandas_frame(frame: pd.DataFrame, rows: int) -> dict[str, Any]:
    return {
        "rows": len(frame),
        "bytes": int(frame.memory_usage(deep=False).sum()),
        "columns": {str(name): _statistics(frame[name]) for name in frame.columns},
        "first": [{str(k): _plain(v) for k, v in row.items()} for row in frame.head(rows).to_dict("records")],
    }


def _items(items: Mapping[str, Any], n_dropped: int, rows: int) -> dict[str, Any]:
    keys = list(items)
    summary: dict[str, Any] = {
        "n_items": len(items),
        "n_dropped": n_dropped,
        "keys": [keys[0], keys[-1]] if keys else [],
        "first": {key: _plain(items[key]) for key in keys[:rows]},
    }
    values = list(items.values())
    if values and all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values):
        summary["values"] = _statistics(np.asarray(values))
    return summary


def _statistics(values: np.ndarray | pd.Series[Any]) -> dict[str, Any]:
    """Return the type, the number of missing values, and the min, mean and max of numbers and times."""
    series = pd.Series(np.ravel(values)) if isinstance(values, np.ndarray) else values
    summary: dict[str, Any] = {"type": str(values.dtype), "missing": int(series.isna().sum())}
    valid = series.dropna()
    kind = valid.dtype.kind if isinstance(valid.dtype, np.dtype) else getattr(valid.dtype, "kind", "O")
    if len(valid) and kind in "biufmM":
        found = {"min": valid.min(), "mean": valid.mean(), "max": valid.max()}
        summary |= {name: _plain(value) for name, value in found.items()}
    return summary


def _plain(value: Any) -> Any:
    """Return a value in the types of JSON; others become text, cut to one line."""
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    elif isinstance(value, np.generic) and value.dtype.kind in "biufSU":
        value = value.item()
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, cftime.datetime):
        return value.isoformat(" ").removesuffix(" 00:00:00")
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date | time) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, datetime) and value is not pd.NaT:
        value = pd.Timestamp(value)
        return str(value.date()) if value.tz is None and value == value.normalize() else str(value)
    if isinstance(value, timedelta | np.timedelta64):
        return str(pd.Timedelta(value))
    return _text(value, 1)


def _text(value: Any, lines: int) -> str:
    """Return the repr of an object, cut to a number of lines of a terminal."""
    if isinstance(value, xr.DataArray | np.ndarray | pd.DataFrame | pa.Table):
        sizes = " x ".join(map(str, value.shape))
        return f"{type(value).__name__} of {sizes or 'one element'}"
    cut = reprlib.Repr()
    cut.maxstring = cut.maxother = cut.maxlong = _LONGEST if lines == 1 else WIDTH * lines
    cut.maxdict = cut.maxlist = cut.maxtuple = cut.maxset = 10 if lines == 1 else 5 * lines
    try:
        text = cut.repr(value)
    except Exception:  # noqa: BLE001 - the __repr__ of a user's object may break in any way
        return f"<{type(value).__name__}>"
    most = 2 * _LONGEST if lines == 1 else WIDTH * lines
    return text if len(text) <= most else f"{text[: most - 1]}…"


# ---------------------------------------------------------------------------------------------------------------------
# As text
# ---------------------------------------------------------------------------------------------------------------------


def preview_text(summary: Mapping[str, Any]) -> str:
    """Return the result of :func:`preview_dict` as lines of 80 columns."""
    kind = summary.get("type", summary["kind"])
    if summary["kind"] == "items":
        blocks = _items_blocks(summary)
    elif kind == "array" and "dims" in summary:
        blocks = _array_blocks(summary)
    elif kind == "frame" and "columns" in summary:
        blocks = _frame_blocks(summary)
    else:
        blocks = [_title(summary, kind), _wrapped(summary["text"])]
    return "\n\n".join(block for block in blocks if block)


def _title(summary: Mapping[str, Any], *facts: str) -> str:
    return _wrapped(f"{summary['name']}: {', '.join(text for text in facts if text)}")


def _array_blocks(summary: Mapping[str, Any]) -> list[str]:
    sizes = ", ".join(f"{dim}: {size:,}" for dim, size in summary["sizes"].items())
    title = _title(summary, "array", summary["dtype"], f"({sizes})", bytes_text(summary["bytes"]))
    rows = [{"name": "values", **summary["values"]}]
    labels = [
        _cut(f"{name}: {found['dtype']}, {' … '.join(map(_shown, found['ends'])) or 'none'}")
        for name, found in summary["labels"].items()
    ]
    return [title, "\n".join(labels), _numbers(rows), _table(summary["first"])]


def _frame_blocks(summary: Mapping[str, Any]) -> list[str]:
    columns = summary["columns"]
    size = f"{count_text(summary['rows'], 'row')} x {count_text(len(columns), 'column')}"
    title = _title(summary, "frame", size, bytes_text(summary["bytes"]))
    rows = [{"name": name, **found} for name, found in list(columns.items())[:_MOST_COLUMNS]]
    more = len(columns) - len(rows)
    return [title, _numbers(rows), f"… {count_text(more, 'more column')}" if more else "", _table(summary["first"])]


def _items_blocks(summary: Mapping[str, Any]) -> list[str]:
    dropped = f"{summary['n_dropped']:,} dropped" if summary["n_dropped"] else ""
    title = _title(summary, count_text(summary["n_items"], "item"), dropped)
    keys = _cut(f"keys: {' … '.join(dict.fromkeys(summary['keys']))}") if summary["keys"] else ""
    numbers = _numbers([{"name": "values", **summary["values"]}]) if "values" in summary else ""
    first = "\n".join(_cut(f"{key}: {_shown(item)}") for key, item in summary["first"].items())
    return [title, keys, numbers, first]


def _numbers(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of types, missing counts and statistics, a row for each column; empty columns are left out."""
    filled = [{name: f"{v:,}" if name == "missing" else _shown(v) for name, v in row.items()} for row in rows]
    for row in filled:
        if row["type"].startswith(
            ("datetime", "timedelta", "timestamp", "duration")
        ):  # three times do not fit beside each other
            row.pop("mean", None)
            row |= {end: row[end][:_MINUTES] for end in ("min", "max") if end in row}
    used = [column for column in _COLUMNS if any(column.name in row for row in filled)]
    return table_text(used, [{c.name: row.get(c.name, "") for c in used} for row in filled]).rstrip("\n")


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as pandas shows them, folded to the width."""
    if not rows:
        return ""
    names = list(rows[0])[:_MOST_SHOWN]
    frame = pd.DataFrame(
        [[_shown(row[name]) for name in names] for row in rows], columns=[printable(n) for n in names], dtype=object
    )
    with pd.option_context("display.max_colwidth", 40):
        text = frame.to_string(index=False, line_width=WIDTH)
    more = len(rows[0]) - len(names)
    lines = [_cut(line.rstrip()) for line in text.split("\n")]
    return "\n".join([*lines, f"… {more:,} more columns"] if more else lines)


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "missing"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value))


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(printable(text), WIDTH, subsequent_indent="  ")) or "''"


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
