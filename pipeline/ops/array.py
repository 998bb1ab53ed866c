"""Operations from arrays to arrays that stand in no file of their own, and those that do, gathered.

Reductions: ``reductions.py``; what needs values in order: ``quantiles.py``; along labels: ``labelled.py``; windows:
``windows.py``.

Each takes ``xarray.DataArray`` over dask and gives one, with its coordinates in memory; none runs a task. A task calls
a function of a module with numpy blocks: no closures, so that it pickles and has the same token in every process.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Hashable, Mapping, Sequence
from datetime import date
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize

from pipeline.errors import ConfigError, DataError
from pipeline.graph import GraphNode, Key, listed, ref, task
from pipeline.ops.dims import blocks, dim_number, one_chunk, rebuilt, require_numbers
from pipeline.ops.labelled import groupby, resample, take
from pipeline.ops.quantiles import quantile
from pipeline.ops.reductions import all, any, average, max, mean, min, std, sum, var  # noqa: A004
from pipeline.ops.stored import chunk_sizes
from pipeline.ops.values import Parts
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

# ---------------------------------------------------------------------------------------------------------------------
# One chunk along a dim
# ---------------------------------------------------------------------------------------------------------------------


def rechunk(x: xr.DataArray, *, chunks: Mapping[str, Any]) -> xr.DataArray:
    """The same array in other chunks; a dim that is not named keeps its own.

    Raises
    ------
    ConfigError : if there is no such dim, or the sizes don't add up
    """
    for dim in chunks:
        dim_number(x, dim, "chunks")
    own = {str(dim): list(sizes) for dim, sizes in zip(x.dims, x.data.chunks, strict=True)}
    grid = chunk_sizes({**own, **chunks}, tuple(own), x.shape, x.dtype)
    return x.copy(data=x.data.rechunk(grid, method="tasks"))


def svd(x: xr.DataArray) -> Parts:
    """The thin singular value decomposition: parts ``u`` (row, component), ``s`` (component), ``v`` (component, col).

    The columns are brought into one chunk. Of each column of ``u`` the entry that is largest in size is positive (the
    first of those that are as large up to rounding), so the signs don't depend on the chunks.

    Raises
    ------
    ConfigError : if the array has not two dims
    """
    if x.ndim != 2:
        raise ConfigError(f"input: svd needs two dims, got {', '.join(map(str, x.dims)) or 'none'}")
    require_numbers(x, "svd")
    row, col = x.dims
    x = one_chunk(x, [str(col)])
    kind = x.dtype if x.dtype in (np.float32, np.float64) or x.dtype.kind == "c" else np.dtype(np.float64)
    u, s, v = _factors(x.data.astype(kind))
    signs = _signs(u)
    u = da.blockwise(np.multiply, "rc", u, "rc", signs, "c", dtype=u.dtype)
    v = da.blockwise(_times_rows, "ck", v, "ck", signs, "c", dtype=v.dtype)
    parts = {"u": u, "s": s, "v": v}
    dims: dict[str, list[Hashable]] = {"u": [row, "component"], "s": ["component"], "v": ["component", col]}
    return Parts({name: rebuilt(x, part, dims[name], attrs=False).rename(None) for name, part in parts.items()})


def _factors(x: da.Array) -> list[da.Array]:
    """``u, s, v`` of any signs: dask's, but for a single chunk, which dask hands to ``delayed``: one opaque graph."""
    if x.npartitions > 1:
        return list(da.linalg.svd(x, coerce_signs=False))
    (row,), (col,) = x.chunks
    k = np.nan if np.isnan(row) else row if row < col else col  # the number of rows may be known only in the run
    token = tokenize(x.name)
    whole: Key = f"svd-whole-{token}"
    tasks: dict[Key, GraphNode] = {whole: task(whole, np.linalg.svd, ref((x.name, 0, 0)), full_matrices=False)}
    single = np.dtype(x.dtype.char.lower()) if x.dtype.kind == "c" else x.dtype
    parts = ((((row,), (k,)), x.dtype), (((k,),), single), (((k,), (col,)), x.dtype))
    found = []
    for i, (chunks, dtype) in enumerate(parts):
        name = f"svd-{'usv'[i]}-{token}"
        key = (name, *(0 for _ in chunks))
        found.append(blocks(name, {**tasks, key: task(key, operator.getitem, ref(whole), i)}, chunks, dtype, x))
    return found


def _signs(u: da.Array) -> da.Array:
    """For each column of ``u`` the sign that its largest entry has."""
    n = u.numblocks[0]
    token = tokenize(u.name)
    tasks: dict[Key, GraphNode] = {}
    for i in range(n):
        key = (f"svd-sizes-{token}", i)
        tasks[key] = task(key, _sizes, ref((u.name, i, 0)))
    largest = (f"svd-largest-{token}", 0)
    tasks[largest] = task(largest, _largest, listed(ref((f"svd-sizes-{token}", i)) for i in range(n)))
    for i in range(n):
        key = (f"svd-first-{token}", i)
        tasks[key] = task(key, _first_signs, ref((u.name, i, 0)), ref(largest))
    name = f"svd-signs-{token}"
    tasks[name, 0] = task((name, 0), _first_found, listed(ref((f"svd-first-{token}", i)) for i in range(n)))
    return blocks(name, tasks, (u.chunks[1],), u.dtype, u)


def _sizes(u: Block) -> Block:
    return np.asarray(np.max(np.abs(u), axis=0, initial=0))


def _largest(sizes: list[Block]) -> Block:
    return np.asarray(np.max(np.stack(sizes), axis=0))


def _first_signs(u: Block, largest: Block) -> Block:
    """The sign of the first entry that is as large as the largest; 0 where this block has none."""
    large = np.abs(u) >= largest * (1 - np.sqrt(np.finfo(u.dtype).eps))
    first = np.argmax(large, axis=0) if len(u) else np.zeros(u.shape[1], int)
    found = large.any(axis=0)
    entries = np.take_along_axis(u, first[None], 0)[0] if len(u) else np.zeros(u.shape[1], u.dtype)
    return np.where(found, np.sign(entries), 0).astype(u.dtype)


def _first_found(signs: list[Block]) -> Block:
    stacked = np.stack(signs)
    chosen = np.take_along_axis(stacked, np.argmax(stacked != 0, axis=0)[None], 0)[0]
    return np.where(chosen == 0, 1, np.conj(chosen)).astype(stacked.dtype)


def _times_rows(v: Block, signs: Block) -> Block:
    return np.asarray(v * np.conj(signs)[:, None])


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
    args: Mapping[str, Any] | None = None,
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
    name = f"map_blocks-{tokenize(x.data.name, function, dict(args or {}), str(kind), kept)}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(n) for n in x.data.numblocks)):
        key = (name, *(index[axis] for axis in axes))
        shape = tuple(x.data.chunks[axis][index[axis]] for axis in axes)
        tasks[key] = task(key, _apply, function, dict(args or {}), shape, kind, ref((x.data.name, *index)))
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
