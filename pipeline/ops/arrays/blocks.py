"""The ops ``rechunk`` and ``map_blocks``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, ref, task
from pipeline.graph.ownership import users_code
from pipeline.ops.arrays.block_tasks import array_of_tasks, rechunked
from pipeline.ops.arrays.dims import axis_of, has_unknown_length, one_chunk, rebuild
from pipeline.ops.collections import Args, args_of_task
from pipeline.ops.sources.chunking import chunk_sizes
from pipeline.worker.isolation import fresh
from pipeline.worker.users_function import called

__all__ = ["map_blocks", "rechunk"]

Block = np.ndarray[Any, Any]


def rechunk(x: xr.DataArray, *, chunks: Mapping[str, Any]) -> xr.DataArray:
    """Return the same array with other chunk sizes; a dim that ``chunks`` does not name keeps its own.

    Raises
    ------
    OpError : no such dim; sizes that do not add up; for a dim of unknown length, any size but -1
    """
    for dim, size in chunks.items():
        axis_of(x, dim, "chunks")
        if has_unknown_length(x, dim) and size != -1:
            hint = "-1 makes it one chunk; for other sizes repartition the frame before to_array"
            raise OpError("chunks", f"the length of {dim!r} is unknown until run time; {hint}")
    x = one_chunk(x, [dim for dim in chunks if has_unknown_length(x, dim)])
    chunks = {dim: size for dim, size in chunks.items() if not has_unknown_length(x, dim)}
    own = {str(dim): list(sizes) for dim, sizes in zip(x.dims, x.data.chunks, strict=True)}
    grid = chunk_sizes({**own, **chunks}, tuple(own), x.shape, x.dtype)
    return rebuild(x, rechunked(x.data, grid), x.dims)


def map_blocks(
    x: xr.DataArray,
    *,
    function: str,
    dtype: Any,
    args: Args = None,
    dims: Sequence[str] | None = None,
) -> xr.DataArray:
    """Return the results of a user's function for each chunk: a numpy block in, a numpy block out.

    Parameters
    ----------
    function : ``module:function``, called as ``function(block, **args)``; imported inside the task
    dims : dims of the result, in the order of its axes; a dim that is left out is rechunked to one chunk

    Raises
    ------
    OpError : if ``dims`` has an unknown dim, or one twice
    DataError : in the run, if a block has another shape or dtype than declared
    """
    kind = np.dtype(dtype)
    kept = [str(dim) for dim in x.dims] if dims is None else list(dims)
    axes = [axis_of(x, dim, "dims") for dim in kept]
    if len(set(kept)) < len(kept):
        raise OpError("dims", f"got {', '.join(kept)}; name each dim once")
    x = one_chunk(x, [str(dim) for dim in x.dims if dim not in kept])
    tasks: dict[Key, GraphNode] = {}
    given = args_of_task(args, tasks)
    name = f"map_blocks-{tokenize(x.data.name, function, given, str(kind), kept)}"
    for index in itertools.product(*(range(n) for n in x.data.numblocks)):
        key = (name, *(index[axis] for axis in axes))
        shape = tuple(x.data.chunks[axis][index[axis]] for axis in axes)
        tasks[key] = task(key, _apply, function, given, shape, kind, ref((x.data.name, *index)))
    data = array_of_tasks(name, tasks, tuple(x.data.chunks[axis] for axis in axes), kind, x.data)
    return rebuild(x, data, kept, attrs=False)


@users_code
def _apply(text: str, args: Mapping[str, Any], shape: tuple[float, ...], dtype: np.dtype[Any], block: Block) -> Block:
    result = np.asarray(called(text, block, **fresh(args)))
    fits = result.ndim == len(shape) and not [n for n, m in zip(shape, result.shape, strict=False) if n == n and n != m]
    if not fits:
        raise DataError(f"{text} returned a block of shape {result.shape}; expected {shape}")
    if result.dtype != dtype:
        raise DataError(f"{text} returned a block of dtype {result.dtype}; the step declares dtype: {dtype}")
    return result
