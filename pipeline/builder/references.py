"""Return what a reference means while building: a collection, a part of one, positions of an array."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.builder.blockwise import Layers
from pipeline.builder.lowering import enter
from pipeline.config.model import Reference
from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.importing import Deferred, is_instance
from pipeline.graph.late_pandas import python_value
from pipeline.graph.nodes import listed, ref, task
from pipeline.graph.pandas_frames import is_frame
from pipeline.graph.value_types import ValueType
from pipeline.ops import data_movement
from pipeline.ops.arrays.dims import has_unknown_length, pick_positions
from pipeline.ops.arrays.unknown_chunks import slice_length
from pipeline.ops.calls import mapping
from pipeline.ops.collections import Frame, Items, Parts, Single

if TYPE_CHECKING:
    import xarray as xr
else:
    xr = Deferred("xarray")

__all__ = ["ONE_ROW", "one_value", "only_value", "picked", "refer", "require_one", "scalar_of"]

ONE_ROW = "filter it, aggregate it, or take one row with op nlargest or nsmallest and n: 1"


def refer(
    value_types: Mapping[str, ValueType],
    reference: Reference,
    prefix: str,
    *,
    number: int = 0,
    layers: Layers | None = None,
) -> Any:
    """Return the collection that one instance of a reference means; keys of added tasks begin with ``prefix``.

    Parameters
    ----------
    layers : the layers that this build has met

    Raises
    ------
    OpError : there is no such part or dim, or a position is out of range; without a field, which the caller knows
    """
    value_type = value_types[reference.instances[number]]
    value = enter(value_type, layers)
    for i, name in enumerate(reference.parts):
        if isinstance(value, Parts):
            if name not in value.parts:
                raise OpError("", f"{reference.text!r}: there is no part {name!r}; there are {', '.join(value.parts)}")
            value = value.parts[name]
        else:
            value = _part(value, name, reference, ".".join((prefix, *reference.parts[: i + 1], str(number))))
    if isinstance(value, Parts):
        if value.whole is None:
            raise OpError("", f"{reference.text!r} has parts only: {', '.join(value.parts)}")
        value = value.whole
    return picked(value, reference) if reference.picks else value


def _part(value: Any, name: str, reference: Reference, prefix: str) -> Any:
    if isinstance(value, Frame):
        if name not in value.columns:
            known, near = ", ".join(value.columns), nearest(name, list(map(str, value.columns)))
            raise OpError("", f"{reference.text!r}: there is no column {name!r}; there are {known}{near}")
        if value.lengths is None:
            data_movement.note(f"{reference.text!r} needs one row: the run fails if there are more, or none")
        elif sum(value.lengths) != 1:
            raise OpError("", _not_one_row(reference.text, sum(value.lengths)))
        partitions = listed(ref(key) for key in value.keys)
        node = task((prefix,), only_cell, reference.text, name, partitions)
        return Single((prefix,), {**value.tasks, (prefix,): node})
    if isinstance(value, Items | Single):
        return mapping.part(value, name, prefix, dict(value.tasks))
    raise OpError("", f"{reference.text!r}: an array has no parts")


def only_cell(text: str, column: str, partitions: list[pa.Table]) -> Any:
    """Return the value of a column in a frame that must have one row; see :func:`one_value`.

    Raises
    ------
    DataError : there are more rows, or none
    """
    n = sum(p.num_rows for p in partitions)
    if n != 1:
        raise DataError(_not_one_row(text, n))
    (table,) = [p for p in partitions if p.num_rows]
    return one_value(table.column(column))


def one_value(column: pa.ChunkedArray) -> Any:
    """Return the only value of a column as a Python object; a missing number is nan, any other missing value None."""
    value = python_value(column[0])
    return math.nan if value is None and pa.types.is_floating(column.type) else value


def _not_one_row(text: str, n: int) -> str:
    return f"{text!r} needs a frame of one row; it has {n:,}: {ONE_ROW}"


def only_value(text: str, value: Any) -> float:
    """Return a value that is used in an expression over arrays as a number."""
    array = np.asarray(float(value) if isinstance(value, Decimal) else value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise ValueError(f"{text!r} must be one number to be used in an expression; got {type(value).__name__}")
    return float(array.reshape(())) if array.dtype.kind == "f" else array.reshape(()).item()


def picked(value: Any, reference: Reference) -> Any:
    """Return the positions of an array that a reference picks.

    Raises
    ------
    OpError : if there is no such dim, or a position is out of range, or there is nothing between two of them
    DataError : at run time, if a dim of unknown length is too short
    """
    if not is_instance(value, "xarray", "DataArray"):
        raise OpError("", f"{reference.text!r}: only arrays have positions to pick")
    found = value
    for dim, pick in reference.picks:
        if dim not in value.dims:
            known, near = ", ".join(map(str, value.dims)), nearest(dim, list(map(str, value.dims)))
            raise OpError("", f"{reference.text!r}: there is no dim {dim!r}; there are {known}{near}")
        _require_there(value, dim, pick, reference)
        found = pick_positions(found, dim, pick)
    return found


def _require_there(value: xr.DataArray, dim: str, pick: Any, reference: Reference) -> None:
    """Refuse positions that are not there, as far as the length of the dim is known."""
    late, size = has_unknown_length(value, dim), value.sizes[dim]
    span = "its length is unknown until run time"
    if not late:
        cure = f"for labels: {{op: sel, input: {reference.step}, labels: {{{dim}: {_as_labels(value, dim, pick)}}}}}"
        if dim not in value.indexes:
            cure = f"{dim} has no labels"
        span = f"picks are positions, 0 to {size - 1} here; {cure}"
    if isinstance(pick, int):
        if not late and not -size <= pick < size:
            raise OpError("", f"{reference.text!r}: {span}")
        return
    if not late and any(p is not None and not -size <= p <= size for p in pick):
        raise OpError("", f"{reference.text!r}: {span}")
    n = slice_length(*pick) if late else len(range(size)[slice(*pick)])
    if n is not None and n <= 0:
        raise OpError("", f"{reference.text!r}: it selects nothing: start:stop is half-open; {span}")


def _as_labels(value: xr.DataArray, dim: str, pick: Any) -> str:
    """Return positions as the labels of a sel would be written: as text, unless the labels are numbers."""
    index = value.indexes.get(dim)
    quote = "" if index is not None and index.dtype.kind in "iuf" else '"'
    if isinstance(pick, int):
        return f"{quote}{pick}{quote}"
    return f"[{', '.join('null' if p is None else f'{quote}{p}{quote}' for p in pick)}]"


def scalar_of(text: str, value: Any) -> Any:
    """Return the one element of a whole value, for an expression over columns."""
    if is_frame(value):
        table = value if isinstance(value, pa.Table) else None
        if value.shape != (1, 1):
            raise ValueError(f"{text!r} must be one value; it is a frame of {value.shape[0]} x {value.shape[1]}")
        return one_value(table.column(0)) if table is not None else value.to_numpy()[0, 0]
    if isinstance(value, np.ndarray) or is_instance(value, "xarray", "DataArray"):
        if value.size != 1:
            raise ValueError(f"{text!r} must be one value; it is an array of {value.size}")
        return np.asarray(value).reshape(())[()]
    return value


def require_one(value: Any, reference: Reference) -> None:
    """Refuse the value of a check if it is known to be more than one.

    Raises
    ------
    OpError : with what it is instead
    """
    text, got = repr(reference.text), ""
    if is_instance(value, "xarray", "DataArray") and value.size != 1 and value.size == value.size:
        got = f"{text} is an array of {value.size:,}: pick one, or reduce it in a step"
    elif isinstance(value, Frame) and len(value.columns) != 1:
        one = f"{reference.text}.{value.columns[0]}"
        got = f"{text} is a frame of {len(value.columns)} columns: write {one} if it has one row"
        got += ", or one of rows, columns, equals_csv"
    elif isinstance(value, Items):
        got = f"{text} is items"
    if got:
        raise OpError("", f"a check needs one value; {got}")
