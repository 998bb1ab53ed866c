"""``from_call``: arrays and frames whose chunks and partitions a user's function returns.

The function is called in the tasks, once for each chunk or partition, with its position as arguments. So data can come
from any files or service, and no worker needs more than its own part.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import dask.array as da
import numpy as np
import pyarrow as pa
import xarray as xr
from dask.base import tokenize

from pipeline.errors import OpError
from pipeline.graph.column_types import declared_type, schema_of
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, task
from pipeline.graph.ownership import users_code
from pipeline.ops.collections import Frame
from pipeline.ops.conversions import checked
from pipeline.ops.sources.chunking import Chunks, chunk_sizes, spans
from pipeline.ops.sources.file_columns import frame_of
from pipeline.ops.to_frame import rows_of_items
from pipeline.worker.isolation import fresh
from pipeline.worker.users_function import called

__all__ = ["array_from_call", "frame_from_call"]


def array_from_call(
    *,
    function: str,
    shape: Mapping[str, int],
    dtype: str,
    chunks: Chunks = None,
    args: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Return an array whose chunks are ``function(x=slice(0, 10), y=slice(0, 5), **args)``: positions along its dims.

    Parameters
    ----------
    shape : dim -> size
    dtype : of each chunk; a task fails if its values don't fit into it, or if they have another shape

    Raises
    ------
    OpError : one of ``args`` has the name of a dim
    """
    dims, kind = tuple(shape), np.dtype(dtype)
    _require_free(args, dims)
    grid = chunk_sizes(chunks, dims, tuple(shape.values()), kind)
    name = f"from_call-{tokenize(function, grid, str(kind), dims, dict(args or {}))}"
    tasks: dict[Key, GraphNode] = {}
    edges = [spans(sizes) for sizes in grid]
    for index in itertools.product(*(range(len(sizes)) for sizes in grid)):
        places = tuple(along[i] for along, i in zip(edges, index, strict=True))
        tasks[name, *index] = task((name, *index), _chunk, function, dims, places, kind, dict(args or {}))
    return xr.DataArray(da.Array(tasks, name, grid, dtype=kind), dims=dims)


def frame_from_call(
    *,
    function: str,
    columns: Mapping[str, str],
    partitions: int = 1,
    args: Mapping[str, Any] | None = None,
) -> Frame:
    """Return a frame whose partitions are ``function(partition=0, n_partitions=4, **args)``.

    Parameters
    ----------
    columns : name -> type, in order, any of which may have missing values; other columns that the function returns are
        left out

    Raises
    ------
    OpError : one of ``args`` is named ``partition`` or ``n_partitions``
    """
    _require_free(args, ("partition", "n_partitions"))
    schema = schema_of({name: declared_type(kind, f"columns.{name}") for name, kind in columns.items()})
    tasks = [(_partition, function, i, partitions, schema, dict(args or {})) for i in range(partitions)]
    return frame_of("from_call", tasks, schema, math.nan)


def _require_free(args: Mapping[str, Any] | None, names: tuple[str, ...]) -> None:
    taken = next((name for name in args or {} if name in names), None)
    if taken is not None:
        raise OpError("args", f"{taken!r} is an argument that the function gets already, for its part; rename this one")


@users_code
def _chunk(
    function: str,
    dims: tuple[str, ...],
    places: tuple[tuple[int, int], ...],
    dtype: np.dtype[Any],
    args: Mapping[str, Any],
) -> np.ndarray[Any, Any]:
    where = {dim: slice(*place) for dim, place in zip(dims, places, strict=True)}
    given = called(function, **where, **fresh(args))
    return np.asarray(checked(tuple(stop - start for start, stop in places), dtype, "", given))


@users_code
def _partition(function: str, number: int, n: int, schema: pa.Schema, args: Mapping[str, Any]) -> pa.Table:
    given = called(function, partition=number, n_partitions=n, **fresh(args))
    return rows_of_items(pa.table({"": [0]}), (f"partition {number}",), schema, schema, [given])
