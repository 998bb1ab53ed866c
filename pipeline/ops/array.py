"""Operations from arrays to arrays that stand in no file of their own, and those that do, gathered.

Reductions: ``reductions.py``; what needs values in order: ``quantiles.py``; along labels: ``labelled.py``; windows:
``windows.py``; of linear algebra: ``factors.py``, ``algebra.py``.

Each takes ``xarray.DataArray`` over dask and gives one, with its coordinates in memory; none runs a task. A task calls
a function of a module with numpy blocks: no closures, so that it pickles and has the same token in every process.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize

from pipeline.errors import ConfigError, DataError
from pipeline.graph import GraphNode, Key, ref, task
from pipeline.ops.chunking import chunk_sizes
from pipeline.ops.dims import dim_number, is_late, one_chunk, rebuilt
from pipeline.ops.factors import svd
from pipeline.ops.labelled import groupby, resample, take
from pipeline.ops.pieces import blocks
from pipeline.ops.quantiles import quantile
from pipeline.ops.reductions import all, any, average, max, mean, min, std, sum, var  # noqa: A004
from pipeline.ops.values import Args, handed
from pipeline.ops.windows import rolling
from pipeline.preparation import resolve

__all__ = [
    "all",
    "any",
    "average",
    "groupby",
    "map_blocks",
    "max",
    "mean",
    "min",
    "quantile",
    "rechunk",
    "resample",
    "rolling",
    "sel",
    "std",
    "sum",
    "svd",
    "take",
    "var",
]

Block = np.ndarray[Any, Any]


def rechunk(x: xr.DataArray, *, chunks: Mapping[str, Any]) -> xr.DataArray:
    """The same array in other chunks; a dim that is not named keeps its own.

    Raises
    ------
    ConfigError : if there is no such dim, or the sizes don't add up; if only the run knows the length, any but -1
    """
    for dim, size in chunks.items():
        dim_number(x, dim, "chunks")
        if is_late(x, dim) and size != -1:
            cure = "to deal the rows otherwise, where they are a frame still: repartition"
            raise ConfigError(f"chunks: the length of {dim!r} is known only in the run; -1 makes it one chunk; {cure}")
    x = one_chunk(x, [dim for dim in chunks if is_late(x, dim)])
    chunks = {dim: size for dim, size in chunks.items() if not is_late(x, dim)}
    own = {str(dim): list(sizes) for dim, sizes in zip(x.dims, x.data.chunks, strict=True)}
    grid = chunk_sizes({**own, **chunks}, tuple(own), x.shape, x.dtype)
    return rebuilt(x, x.data.rechunk(grid, method="tasks"), x.dims)


# ---------------------------------------------------------------------------------------------------------------------
# Parts of an array, and the user's own functions
# ---------------------------------------------------------------------------------------------------------------------


def sel(x: xr.DataArray, *, labels: Mapping[str, Any], method: str | None = None) -> xr.DataArray:
    """A part by labels: a single one drops its dim, ``[start, stop]`` keeps it, both ends included.

    Raises
    ------
    ConfigError : no such dim or label, a dim without coordinates, or a range with nothing in it
    """
    for dim, wanted in labels.items():
        dim_number(x, dim, "labels")
        if dim not in x.indexes:
            raise ConfigError(f"labels: {dim!r} has no coordinates; pick positions instead: [{dim}=0:10]")
        index = x.indexes[dim]
        known = f"{dim!r} has the labels {index[0]} to {index[-1]}" if len(index) else f"{dim!r} has no labels"
        try:
            if isinstance(wanted, list | tuple):
                x = x.sel({dim: _range(index, [_label(end) for end in wanted])})
            else:
                x = x.sel({dim: _label(wanted)}, method=method)
        except (KeyError, TypeError, ValueError) as error:
            hint = "" if isinstance(wanted, list | tuple) or method else "; for the nearest one: method: nearest"
            raise ConfigError(f"labels: {wanted!r} can't be found: {known}{hint}") from error
        if dim in x.dims and not x.sizes[dim]:
            raise ConfigError(f"labels: {wanted!r} selects nothing: {known}")
    return x


def _range(index: pd.Index[Any], ends: list[Any]) -> slice:
    start, stop = ends
    backwards = index.is_monotonic_decreasing and not index.is_monotonic_increasing
    if backwards and start is not None and stop is not None and not isinstance(start, str) and start < stop:
        start, stop = stop, start
    return slice(start, stop)


def _label(label: Any) -> Any:
    return pd.Timestamp(label) if isinstance(label, date) else label


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
    ConfigError : if ``dims`` has one that the array has not
    DataError : in the run, if a block has another shape or dtype than was said
    """
    kind = np.dtype(dtype)
    kept = [str(dim) for dim in x.dims] if dims is None else list(dims)
    axes = [dim_number(x, dim, "dims") for dim in kept]
    x = one_chunk(x, [str(dim) for dim in x.dims if dim not in kept])
    tasks: dict[Key, GraphNode] = {}
    given = handed(args, tasks)
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
