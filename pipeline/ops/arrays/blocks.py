"""``rechunk map_blocks``: chunks themselves, and a function of the user's over each of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError
from pipeline.graph.graph import GraphNode, Key, ref, task
from pipeline.graph.importing import resolve
from pipeline.ops.arrays.block_tasks import blocks, rechunked
from pipeline.ops.arrays.dims import dim_number, is_late, one_chunk, rebuilt
from pipeline.ops.collections import Args, args_of_task
from pipeline.ops.sources.chunking import chunk_sizes

__all__ = ["map_blocks", "rechunk"]

Block = np.ndarray[Any, Any]


def rechunk(x: xr.DataArray, *, chunks: Mapping[str, Any]) -> xr.DataArray:
    """The same array in other chunks; a dim that is not named keeps its own.

    Raises
    ------
    OpError : if there is no such dim, or the sizes don't add up; if only the run knows the length, any but -1
    """
    for dim, size in chunks.items():
        dim_number(x, dim, "chunks")
        if is_late(x, dim) and size != -1:
            cure = "to deal the rows otherwise, where they are a frame still: repartition"
            raise OpError("chunks", f"the length of {dim!r} is known only in the run; -1 makes it one chunk; {cure}")
    x = one_chunk(x, [dim for dim in chunks if is_late(x, dim)])
    chunks = {dim: size for dim, size in chunks.items() if not is_late(x, dim)}
    own = {str(dim): list(sizes) for dim, sizes in zip(x.dims, x.data.chunks, strict=True)}
    grid = chunk_sizes({**own, **chunks}, tuple(own), x.shape, x.dtype)
    return rebuilt(x, rechunked(x.data, grid), x.dims)


# ---------------------------------------------------------------------------------------------------------------------
# Parts of an array, and the user's own functions
# ---------------------------------------------------------------------------------------------------------------------


def map_blocks(
    x: xr.DataArray,
    *,
    function: str,
    dtype: Any,
    args: Args = None,
    dims: Sequence[str] | None = None,
) -> xr.DataArray:
    """A function of the user's over each chunk: a numpy block in, a numpy block out.

    Parameters
    ----------
    function : ``module:function``, called as ``function(block, **args)``; looked up inside the task
    dims : of the result, in the order the function gives them; a dim that is left out is brought into one chunk

    Raises
    ------
    OpError : if ``dims`` has one that the array has not, or one twice
    DataError : in the run, if a block has another shape or dtype than was said
    """
    kind = np.dtype(dtype)
    kept = [str(dim) for dim in x.dims] if dims is None else list(dims)
    axes = [dim_number(x, dim, "dims") for dim in kept]
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
    data = blocks(name, tasks, tuple(x.data.chunks[axis] for axis in axes), kind, x.data)
    return rebuilt(x, data, kept, attrs=False)


def _apply(text: str, args: Mapping[str, Any], shape: tuple[float, ...], dtype: np.dtype[Any], block: Block) -> Block:
    result = np.asarray(resolve(text)(block, **args))
    fits = result.ndim == len(shape) and not [n for n, m in zip(shape, result.shape, strict=False) if n == n and n != m]
    if not fits:
        raise DataError(f"{text} gave a block of shape {result.shape}; its dims say {shape}")
    if result.dtype != dtype:
        raise DataError(f"{text} gave a block of {result.dtype}; the step says dtype: {dtype}")
    return result
