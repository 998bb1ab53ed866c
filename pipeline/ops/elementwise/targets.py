"""Entry points: evaluate an expression over arrays, coordinates, or scalars; columns are in :mod:`.sql`.

The dtype of a result is the dtype of the same expression over empty inputs, which is known while the graph is built.
It never depends on the values, because partitions and chunks must agree. If a whole number is expected and one is
missing (``month`` of a missing time), the task fails, because int64 has no missing value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import Binary, BoundValue, Call, Name, Node, map_nodes, walk
from pipeline.errors import DataError, nearest
from pipeline.graph.calendars import calendar_of
from pipeline.graph.column_types import type_name
from pipeline.graph.importing import Deferred, is_instance
from pipeline.ops.arrays.deferred_labels import DeferredLabels, deferred_labels, labels_of, number_labels
from pipeline.ops.elementwise.alignment import (
    Operand,
    cast_result,
    evaluate_blockwise,
    missing_message,
    with_coordinates,
)
from pipeline.ops.elementwise.evaluation import SlotLookup, evaluate
from pipeline.ops.elementwise.kinds import TEXT, Value, coordinate_values
from pipeline.ops.elementwise.scalars import as_scalar
from pipeline.ops.whole_numbers import WholeNumberError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
else:
    pd = Deferred("pandas")
    xr = Deferred("xarray")

__all__ = [
    "evaluate_arrays",
    "evaluate_coords",
    "evaluate_numpy",
    "evaluate_scalar",
]


# ---------------------------------------------------------------------------------------------------------------------
# Arrays
# ---------------------------------------------------------------------------------------------------------------------


def evaluate_numpy(e: Expression, bound: Sequence[Any]) -> np.ndarray:
    """Evaluate the expression over numpy arrays or scalars that broadcast against each other."""
    values = [value if isinstance(value, np.ndarray) and value.ndim else as_scalar(value) for value in bound]
    result = np.asarray(evaluate(e.root, SlotLookup(values)))
    empty = [np.empty((0,) * value.ndim, value.dtype) if isinstance(value, np.ndarray) else value for value in values]
    dtype = np.asarray(evaluate(e.root, SlotLookup(empty, checked=False))).dtype
    return cast_result(result, dtype, e.text)


def evaluate_arrays(e: Expression, bound: Sequence[Any]) -> xr.DataArray:
    """Build the expression over named arrays, with one task per chunk; nothing is computed.

    Parameters
    ----------
    bound : for each of ``e.references`` a DataArray (over dask or in memory) or a scalar

    Returns
    -------
    xarray.DataArray : over dask; dims in the order of the larger operand; no name, no attributes

    Raises
    ------
    ExpressionError : if the dims of neither operand of an operation contain those of the other, if lengths or labels
        differ, or if an operation is not defined for its operands
    """
    operands: list[Operand] = []

    def slot(operand: Operand) -> BoundValue:
        for at, known in enumerate(operands):
            if known.array is operand.array:
                return BoundValue(at)
        operands.append(operand)
        return BoundValue(len(operands) - 1)

    def resolved(node: Node) -> Node | None:
        match node:
            case Call("coord", (BoundValue(at), name)):
                return slot(_coordinate(bound[at], name, _label(e, at)))
            case BoundValue(at) if is_instance(bound[at], "xarray", "DataArray"):
                return slot(Operand(bound[at], _label(e, at)))
            case BoundValue(at) if hasattr(bound[at], "dask"):
                return slot(Operand(xr.DataArray(bound[at]), _label(e, at)))
            case BoundValue(at):
                return slot(
                    Operand(xr.DataArray(np.asarray(as_scalar(bound[at]))), _label(e, at), as_scalar(bound[at]))
                )
        return None

    root = map_nodes(e.root, resolved)
    data, dims = evaluate_blockwise(root, operands, e.text)
    return with_coordinates(data, dims, operands)


def _label(e: Expression, slot: int) -> str:
    reference = e.references[slot] if slot < len(e.references) else None
    return str(getattr(reference, "text", "") or getattr(reference, "name", "") or f"operand {slot + 1}")


def _coordinate(array: Any, name: Any, label: str) -> Operand:
    if not isinstance(array, xr.DataArray) or name.value not in array.coords:
        known = [str(c) for c in array.coords] if isinstance(array, xr.DataArray) else []
        has = f"coordinates: {', '.join(known)}" if known else "it has none"
        raise ExpressionError(f"'{label}' has no coordinate '{name.value}'; {has}{nearest(name.value, known)}")
    deferred = deferred_labels(array).get(name.value)
    if deferred is not None:
        return Operand(_labels_array(deferred, name.value), f"coord({label}, '{name.value}')")
    coordinate = array.coords[name.value].copy(deep=False)
    sizes = array.chunksizes
    plain = xr.DataArray(coordinate.values, dims=coordinate.dims, coords=coordinate.coords)
    chunked = plain.chunk({dim: sizes[dim] for dim in coordinate.dims if dim in sizes})
    return Operand(chunked, f"coord({label}, '{name.value}')", sample=coordinate.values.reshape(-1)[:1])


def _labels_array(labels: DeferredLabels, name: str) -> xr.DataArray:
    numbers = number_labels(labels)
    if numbers is None:
        kind = type_name(labels.field.type)
        raise ExpressionError(f"'{name}' has the type {kind}; expressions over arrays take numbers and times")
    return xr.DataArray(numbers, dims=[labels.dim])


# ---------------------------------------------------------------------------------------------------------------------
# Coordinates and scalars
# ---------------------------------------------------------------------------------------------------------------------


def evaluate_coords(e: Expression, x: xr.DataArray) -> xr.DataArray:
    """Evaluate an expression over the coordinates of ``x``, such as ``month(time)``, in memory.

    Returns
    -------
    xarray.DataArray : along the dims of the coordinates used (which must contain each other), with these coordinates

    Raises
    ------
    ExpressionError : an unknown coordinate, or one that is computed in the run
    """
    used: dict[str, xr.DataArray] = {}
    for name in sorted(e.names, key=e.text_column):
        if name not in x.coords:
            known = [str(c) for c in x.coords]
            raise ExpressionError(f"no coordinate '{name}'{nearest(name, known)}", e.text_column(name))
        if name in labels_of(x):
            raise ExpressionError(
                f"'{name}' is unknown until run time, and this must be known before; group the frame that it came from",
                e.text_column(name),
            )
        used[name] = x.coords[name]
    largest = max(used.values(), key=lambda c: c.ndim, default=xr.DataArray(0))
    for name, coordinate in used.items():
        if not set(coordinate.dims) <= set(largest.dims):
            raise ExpressionError(
                f"'{name}' has dims {coordinate.dims}, which are not among the dims {largest.dims} of another one",
                e.text_column(name),
            )
    flat = {
        name: np.broadcast_to(
            coordinate.transpose(*(d for d in largest.dims if d in coordinate.dims))
            .expand_dims([d for d in largest.dims if d not in coordinate.dims])
            .transpose(*largest.dims)
            .values,
            largest.shape,
        ).ravel()
        for name, coordinate in used.items()
    }
    result = _along(e, flat, largest.size)
    if isinstance(result.dtype, pd.DatetimeTZDtype):
        raise ExpressionError("a coordinate cannot have a time zone; use localize and convert inside another function")
    values = result.fillna("").to_numpy(dtype=str) if result.dtype == TEXT else result.to_numpy()
    coords = {name: c for name, c in largest.coords.items() if set(c.dims) <= set(largest.dims)}
    return xr.DataArray(values.reshape(largest.shape), dims=largest.dims, coords=coords)


def _along(e: Expression, coordinates: Mapping[str, np.ndarray[Any, Any]], size: int) -> pd.Series:
    """Evaluate the expression over coordinates of one length.

    Raises
    ------
    ExpressionError : an operation that is not defined for its operands
    DataError : a whole number that is missing, or that its type can't hold
    """
    try:
        result = _as_series(evaluate(e.root, _CoordLookup(coordinates)), size)
        if not size or not any(map(_may_miss, walk(e.root))):
            return result
        if any(map(calendar_of, coordinates.values())):
            return result  # an empty array of objects does not say of what
        empty = {name: coordinate[:0] for name, coordinate in coordinates.items()}
        return _settled(result, _as_series(evaluate(e.root, _CoordLookup(empty)), 0).dtype, e)
    except WholeNumberError as error:
        raise DataError(f"'{e.text}': {error}") from error


class _CoordLookup:
    """Looks up coordinates; text is a column of pandas, which may be missing."""

    columns = checked = True

    def __init__(self, coordinates: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.prepared = {name: coordinate_values(coordinate) for name, coordinate in coordinates.items()}

    def __call__(self, node: Node) -> Value:
        if not isinstance(node, Name):
            raise ExpressionError(f"{node} is not bound")
        return self.prepared[node.name]


def _may_miss(node: Node) -> bool:
    """Return whether whole numbers may be missing from the result: it is then float64, until it is settled."""
    return isinstance(node, Call) or (isinstance(node, Binary) and node.op in ("//", "%"))


def _as_series(value: Value, size: int) -> pd.Series:
    if isinstance(value, pd.Series):
        return value
    if isinstance(value, np.ndarray) and value.ndim == 1:
        dtype = TEXT if value.dtype.kind in "UT" else None
        column = pd.Series(value, dtype=dtype, copy=False)
        return column.where(column != "") if dtype is not None else column
    one = value[()] if isinstance(value, np.ndarray) else value
    if isinstance(one, str):
        return pd.Series([str(one)] * size, dtype=TEXT)
    return pd.Series([one] * size, dtype=pd.Series([one]).dtype)


def _settled(result: pd.Series, expected: Any, e: Expression) -> pd.Series:
    """Return the result as ``expected``; functions return floats with nan where a whole number is missing.

    Raises
    ------
    DataError : if a whole number is missing
    """
    if result.dtype == expected:
        return result
    if expected.kind in "iu" and result.dtype.kind == "f" and result.hasnans:
        raise DataError(missing_message(e.text, int(result.isna().sum()), len(result), expected))
    if expected.kind in "iu" and result.dtype.kind in "iuf":
        return pd.Series(cast_result(result.to_numpy(), expected, e.text))
    return result.astype(expected)


def evaluate_scalar(e: Expression, bound: Sequence[Any] = ()) -> Any:
    """Evaluate the expression over values of one element each, as checks do.

    Returns
    -------
    bool, int, float, str, datetime or timedelta
    """
    values = [[as_scalar(v) for v in value] if isinstance(value, list | tuple) else as_scalar(value) for value in bound]
    result = as_scalar(evaluate(e.root, SlotLookup(values)))
    if isinstance(result, np.datetime64):
        when: datetime = pd.Timestamp(result).to_pydatetime()
        return when
    if isinstance(result, np.timedelta64):
        length: timedelta = pd.Timedelta(result).to_pytimedelta()
        return length
    return result
