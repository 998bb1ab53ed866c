"""Return what a reference means while building: a collection, a part of one, positions of an array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from pipeline.builder.lowering import enter
from pipeline.config.model import Reference
from pipeline.errors import OpError, nearest
from pipeline.graph.graph import listed, ref, task
from pipeline.graph.value_types import ValueType
from pipeline.ops.arrays.dims import has_unknown_length, pick_positions
from pipeline.ops.arrays.unknown_chunks import slice_length
from pipeline.ops.calls import mapping
from pipeline.ops.collections import Frame, Items, Parts, Single

__all__ = ["only_value", "picked", "refer", "require_one", "scalar_of"]


def refer(value_types: Mapping[str, ValueType], reference: Reference, prefix: str, *, number: int = 0) -> Any:
    """Return the collection that one instance of a reference means; keys of added tasks begin with ``prefix``.

    Raises
    ------
    OpError : there is no such part or dim, or a position is out of range; without a field, which the caller knows
    """
    value_type = value_types[reference.instances[number]]
    value = enter(value_type)
    if isinstance(value, Parts):
        if reference.part:
            if reference.part not in value.parts:
                raise OpError("", f"{reference.text!r}: there is no such part; there are {', '.join(value.parts)}")
            value = value.parts[reference.part]
        elif value.whole is not None:
            value = value.whole
        else:
            raise OpError("", f"{reference.text!r} has parts only: {', '.join(value.parts)}")
    elif reference.part:
        value = _part(value, reference, f"{prefix}.{reference.part}.{number}")
    return picked(value, reference) if reference.picks else value


def _part(value: Any, reference: Reference, prefix: str) -> Any:
    if isinstance(value, Frame):
        if reference.part not in value.columns:
            known, near = ", ".join(value.columns), nearest(reference.part, list(map(str, value.columns)))
            raise OpError("", f"{reference.text!r}: there is no column {reference.part!r}; there are {known}{near}")
        partitions = listed(ref(key) for key in value.keys)
        node = task((prefix,), only_cell, reference.text, reference.part, partitions)
        return Single((prefix,), {**value.tasks, (prefix,): node})
    if isinstance(value, Items | Single):
        return mapping.part(value, reference.part, prefix, dict(value.tasks))
    raise OpError("", f"{reference.text!r}: an array has no parts")


def only_cell(text: str, column: str, partitions: list[Any]) -> Any:
    """Return the value of a column in a frame that must have one row."""
    n = sum(len(p) for p in partitions)
    if n != 1:
        raise ValueError(f"{text!r} needs a frame of one row; it has {n}")
    (value,) = [v for p in partitions for v in p[column].tolist()]
    return value


def only_value(text: str, value: Any) -> float:
    """Return a value that is used in an expression over arrays as a number."""
    array = np.asarray(value)
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
    if not isinstance(value, xr.DataArray):
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
    if hasattr(value, "columns"):
        if value.shape != (1, 1):
            raise ValueError(f"{text!r} must be one value; it is a frame of {value.shape[0]} x {value.shape[1]}")
        return value.iloc[0, 0]
    if isinstance(value, xr.DataArray | np.ndarray):
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
    if isinstance(value, xr.DataArray) and value.size != 1 and value.size == value.size:
        got = f"{text} is an array of {value.size:,}: pick one, or reduce it in a step"
    elif isinstance(value, Frame) and len(value.columns) != 1:
        one = f"{reference.text}.{value.columns[0]}"
        got = f"{text} is a frame of {len(value.columns)} columns: write {one} if it has one row"
        got += ", or one of rows, columns, equals_csv"
    elif isinstance(value, Items):
        got = f"{text} is items"
    if got:
        raise OpError("", f"a check needs one value; {got}")
