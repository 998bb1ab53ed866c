"""``predict``: a model applied to a frame, partition by partition, or to an array, chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import xarray as xr

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.column_types import declared_type, empty_table, family, schema_of
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, ref, task
from pipeline.graph.pandas_frames import held
from pipeline.ops.arrays.block_tasks import array_of_tasks
from pipeline.ops.arrays.deferred_labels import deferred_labels, plain_coords, with_labels
from pipeline.ops.arrays.dims import one_chunk
from pipeline.ops.collections import Frame, Single
from pipeline.ops.conversions import checked, matrix_dtype
from pipeline.ops.frames.partitions import Partitions, require
from pipeline.ops.learning.estimators import takes
from pipeline.ops.learning.tables import features_of, require_no_missing
from pipeline.worker.sql_engine import entered

__all__ = ["predict_array", "predict_frame"]

Block = np.ndarray[Any, Any]


def predict_frame(
    x: Frame, model: Single, *, columns: Mapping[str, str], features: Sequence[str] | None = None, method: str
) -> Any:
    """Return the frame with columns that a model gives for its rows.

    Parameters
    ----------
    columns : name -> type; any of them may have missing values
    features : columns that the model gets, in order; None: those that it was trained on

    Raises
    ------
    OpError : no such column or type, or a new column that is there already
    """
    require("features", features or (), x.columns)
    for name in columns:
        if name in x.columns:
            raise OpError(f"columns.{name}", f"the input has a column {name!r}; choose another name")
    new = schema_of({name: declared_type(kind, f"columns.{name}") for name, kind in columns.items()})
    schema = pa.schema([*x.schema, *new])
    chosen = tuple(features) if features is not None else None
    partitions = Partitions.of(x, parameters=("predict", model.key, method, chosen, dict(columns)))
    partitions.tasks |= model.tasks
    return partitions.map("predict", with_predictions, schema, ref(model.key), method, chosen, new, same_rows=True)


def predict_array(
    x: xr.DataArray, model: Single, *, dtype: str, shape: Mapping[str, int] | None = None, method: str, name: str
) -> xr.DataArray:
    """Return what a model gives for the rows of an array with dims (row, feature), which become (row,) or (row, …).

    Parameters
    ----------
    shape : the second dim of the result, and its length; None: there is none

    Raises
    ------
    OpError : an array without two dims, or of no numbers
    """
    if x.ndim != 2:
        raise OpError("input", f"needs two dims, of rows and features; got {', '.join(map(str, x.dims)) or 'none'}")
    if x.dtype.kind not in "biuf":
        raise OpError("input", f"models take numbers; the array has {x.dtype}")
    rows, features = map(str, x.dims)
    second = dict(shape or {})
    if rows in second:
        raise OpError("shape", f"{rows!r} is the dim of the rows; choose another name")
    x = one_chunk(x, [features])
    layer = f"{name}/predict"
    tasks: dict[Key, GraphNode] = dict(model.tasks)
    zeros = tuple(0 for _ in second)
    for i in range(x.data.numblocks[0]):
        arguments = ref((x.data.name, i, 0)), ref(model.key), method, tuple(second.values()), np.dtype(dtype)
        tasks[layer, i, *zeros] = task((layer, i, *zeros), predictions_of_rows, *arguments)
    data = array_of_tasks(layer, tasks, (x.data.chunks[0], *((n,) for n in second.values())), np.dtype(dtype), x.data)
    coords = {name: c.variable for name, c in plain_coords(x).items() if set(c.dims) <= {rows}}
    late = {name: labels for name, labels in deferred_labels(x).items() if labels.dim == rows}
    return with_labels(xr.DataArray(data, dims=(rows, *second), coords=coords), late)


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def with_predictions(
    partition: pa.Table, model: Any, method: str, features: tuple[str, ...] | None, new: pa.Schema
) -> pa.Table:
    """Return a partition with the columns that a model gives.

    Raises
    ------
    DataError : the model needs other columns, or gives another number of them, or values that don't fit their types
    """
    schema = pa.schema([*partition.schema, *new])
    if not partition.num_rows:
        return empty_table(schema)
    trained_on = getattr(model, "feature_names_in_", None)
    names = list(features if features is not None else trained_on if trained_on is not None else partition.schema.names)
    for name in names:
        if name not in partition.schema.names:
            near = nearest(name, partition.schema.names)
            raise DataError(f"the model was trained on a column {name!r}, which the input lacks{near}")
    if not takes(model, "missing"):
        require_no_missing(partition, names, type(model).__name__)
    fields = [partition.schema.field(name) for name in names]
    numbers = all(family(field.type) in ("number", "true/false") for field in fields)
    x: Any = features_of(partition, names, matrix_dtype(fields) if numbers else None)
    x = x if trained_on is not None else x.to_numpy()
    found = _called(model, method, x)
    found = found[:, np.newaxis] if found.ndim == 1 else found
    if found.shape[1:] != (len(new),):
        got = f"{found.shape[1]} columns" if found.ndim == 2 else f"an array with {found.ndim} dims"
        raise DataError(f"{method} of {type(model).__name__} gives {got}; columns: {', '.join(new.names)} are declared")
    made = [held(_values(found[:, i]), field, method) for i, field in enumerate(new)]
    entering = entered(pa.Table.from_arrays(made, schema=new), new)
    return pa.Table.from_arrays([*partition.columns, *entering.columns], schema=schema)


def _values(found: Block) -> Any:
    return pa.array(np.ascontiguousarray(found), from_pandas=True) if found.dtype.kind in "biuf" else found.tolist()


def predictions_of_rows(block: Block, model: Any, method: str, shape: tuple[int, ...], dtype: Any) -> Block:
    """Return what a model gives for some rows, shape ``(rows, *shape)``.

    Raises
    ------
    DataError : it gives another shape, or values that don't fit the dtype
    """
    if not len(block):
        return np.empty((0, *shape), dtype)
    if not takes(model, "missing") and block.dtype.kind == "f" and np.isnan(block).any():
        cure = "fill them: {expr: fill(x, 0)}"
        raise DataError(f"missing values in the input, which {type(model).__name__} does not take; {cure}")
    names = getattr(model, "feature_names_in_", ())
    x = pd.DataFrame(block, columns=list(names), copy=False) if len(names) == block.shape[1] else block
    found: Block = checked((len(block), *shape), dtype, "", _called(model, method, x))
    return found


def _called(model: Any, method: str, x: Any) -> Block:
    """Return what a method of the model gives, as a numpy array.

    Raises
    ------
    DataError : there is no such method, or the rows have other features than those that it was trained on
    """
    function = getattr(model, method, None)
    if function is None:
        raise DataError(f"the model, a {type(model).__name__}, has no {method}")
    expected = getattr(model, "n_features_in_", x.shape[1])
    if x.shape[1] != expected:
        raise DataError(f"{type(model).__name__} was trained on {expected} features; the input has {x.shape[1]}")
    found = function(x)
    return np.asarray(found.toarray() if hasattr(found, "toarray") else found)
