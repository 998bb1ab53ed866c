"""Entry points: evaluate an expression over arrays, columns of a partition, coordinates, or scalars.

The dtype of a result is the dtype of the same expression over empty inputs, which is known while the graph is built.
It never depends on the values, because partitions and chunks must agree. If a whole number is expected and one is
missing (``month`` of a missing time), the task fails, because int64 has no missing value.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import Binary, BoundValue, Call, Name, Node, map_nodes, walk
from pipeline.errors import DataError, nearest
from pipeline.graph.calendars import calendar_of
from pipeline.ops.arrays.deferred_labels import DeferredLabels, deferred_labels, labels_of
from pipeline.ops.elementwise.alignment import (
    Operand,
    cast_result,
    evaluate_blockwise,
    missing_message,
    with_coordinates,
)
from pipeline.ops.elementwise.evaluation import SlotLookup, evaluate
from pipeline.ops.elementwise.kinds import TEXT, Value, as_scalar, column_values
from pipeline.ops.whole_numbers import WholeNumberError

__all__ = [
    "columns_dtype",
    "evaluate_arrays",
    "evaluate_columns",
    "evaluate_coords",
    "evaluate_numpy",
    "evaluate_scalar",
]


# ---------------------------------------------------------------------------------------------------------------------
# Columns
# ---------------------------------------------------------------------------------------------------------------------


def evaluate_columns(e: Expression, frame: pd.DataFrame, bound: Sequence[Any] = ()) -> pd.Series:
    """Evaluate the expression over one partition.

    Parameters
    ----------
    frame : pandas, of any length; the result gets its index, which is otherwise ignored
    bound : the value for each of ``e.references``: a scalar, or a frame, column or array of one element. Whole numbers
        among them are converted to float64, because their type is unknown when the dtype of the result is determined

    Returns
    -------
    pandas.Series : of the length of the frame, with the dtype of :func:`columns_dtype`

    Raises
    ------
    ExpressionError : an unknown column, or an operation that is not defined for its operands
    DataError : if the dtype of the result is whole numbers and one is missing, or passes it
    """
    values = [_run_value(value) for value in bound]
    if isinstance(e.root, Name):
        return _column(frame, e.root.name).rename(None)
    try:
        lookup = _ColumnLookup(frame, values)
        result = _as_series(evaluate(e.root, lookup), frame.index)
        if not len(frame) or not any(map(_may_miss, walk(e.root))):
            return result
        if any(map(calendar_of, lookup.prepared.values())):
            return result  # coordinates: an empty column of objects does not say of what
        empty = frame.iloc[:0]
        expected = _as_series(evaluate(e.root, _ColumnLookup(empty, values)), empty.index).dtype
        return _settled(result, expected, e)
    except WholeNumberError as error:
        raise DataError(f"'{e.text}': {error}") from error


def _may_miss(node: Node) -> bool:
    """Return whether whole numbers may be missing from the result: it is then float64, until it is settled."""
    return isinstance(node, Call) or (isinstance(node, Binary) and node.op in ("//", "%"))


def columns_dtype(e: Expression, meta: pd.DataFrame, bound: Sequence[Any] = ()) -> Any:
    """Return the dtype of the column that :func:`evaluate_columns` returns for partitions like ``meta``.

    Values that are unknown until run time are omitted from ``bound``, or Delayed: kinds of values are tried for them
    until the expression is defined.
    """
    n = len(e.references)
    given = [bound[i] if i < len(bound) else None for i in range(n)]
    known = [None if value is None or _is_lazy(value) else [_run_value(value)] for value in given]
    empty = meta.iloc[:0]
    failure: Exception | None = None
    for values in itertools.product(*(choices or _CANDIDATES for choices in known)):
        try:
            return evaluate_columns(e, empty, values).dtype
        except (ValueError, TypeError, AttributeError) as error:  # not defined for a value of this kind
            failure = failure or error
    assert failure is not None, "there is always a first combination"
    raise failure


_CANDIDATES: list[Any] = [
    1.0,
    "2000-01-01",
    True,
    np.datetime64("2000-01-01", "us"),
    pd.Timestamp("2000-01-01", tz="UTC"),
    np.timedelta64(1, "us"),
    "1h",
]


def _is_lazy(value: Any) -> bool:
    return hasattr(value, "__dask_graph__") and value.__dask_graph__() is not None


def _run_value(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [as_scalar(v) for v in value]
    one = as_scalar(value)
    if type(one) is int and float(one) != one:
        raise DataError(f"got {one}, and a number from another step counts as float64 here, which can't hold it")
    return float(one) if type(one) is int else one


class _ColumnLookup:
    """Looks up columns and bound values; each column is converted once."""

    columns = checked = True

    def __init__(self, frame: pd.DataFrame, bound: Sequence[Any]) -> None:
        self.frame, self.bound = frame, bound
        self.prepared: dict[str, Value] = {}

    def __call__(self, node: Node) -> Value:
        if isinstance(node, BoundValue):
            return self.bound[node.slot]
        if not isinstance(node, Name):
            raise ExpressionError(f"{node} is not bound")
        if node.name not in self.prepared:
            self.prepared[node.name] = column_values(_column(self.frame, node.name, node.column))
        return self.prepared[node.name]


def _column(frame: pd.DataFrame, name: str, column: int = 0) -> pd.Series:
    if name not in frame.columns:
        raise ExpressionError(f"no column '{name}'{nearest(name, map(str, frame.columns))}", column)
    found = frame[name]
    if not isinstance(found, pd.Series):
        raise ExpressionError(f"'{name}' is the name of {found.shape[1]} columns; names must be unique", column)
    return found


def _as_series(value: Value, index: pd.Index) -> pd.Series:
    if isinstance(value, pd.Series):
        return pd.Series(value.array, index=index, copy=False)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        dtype = TEXT if value.dtype.kind in "UT" else None
        column = pd.Series(value, index=index, dtype=dtype, copy=False)
        return column.where(column != "") if dtype is not None else column
    one = value[()] if isinstance(value, np.ndarray) else value
    if isinstance(one, str):
        return pd.Series([str(one)] * len(index), index=index, dtype=TEXT)
    return pd.Series([one] * len(index), index=index, dtype=pd.Series([one]).dtype)


def _settled(result: pd.Series, expected: Any, e: Expression) -> pd.Series:
    """Return the result as ``expected``; functions return floats with nan where a whole number is missing.

    Raises
    ------
    DataError : if a whole number is missing
    """
    if result.dtype == expected:
        return result
    if expected.kind in "iu" and result.dtype.kind == "f" and result.hasnans:
        message = missing_message(e.text, int(result.isna().sum()), len(result), expected)
        raise DataError(f"{message}, or filter these rows out")
    if expected.kind in "iu" and result.dtype.kind in "iuf":
        return pd.Series(cast_result(result.to_numpy(), expected, e.text), index=result.index)
    return result.astype(expected)


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
            case BoundValue(at) if isinstance(bound[at], xr.DataArray):
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
    if not isinstance(labels.dtype, np.dtype) or labels.dtype.kind not in "biufmM":
        raise ExpressionError(f"'{name}' has dtype {labels.dtype}; expressions over arrays take numbers and times")
    return xr.DataArray(labels.data, dims=[labels.dim])


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
    result = evaluate_columns(e, pd.DataFrame(flat, index=range(largest.size)))
    if isinstance(result.dtype, pd.DatetimeTZDtype):
        raise ExpressionError("a coordinate cannot have a time zone; use localize and convert inside another function")
    values = result.fillna("").to_numpy(dtype=str) if result.dtype == TEXT else result.to_numpy()
    coords = {name: c for name, c in largest.coords.items() if set(c.dims) <= set(largest.dims)}
    return xr.DataArray(values.reshape(largest.shape), dims=largest.dims, coords=coords)


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
