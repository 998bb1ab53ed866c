"""The op ``map_overlap``: a user's function over each chunk and a halo of its neighbours.

The halo is added one dim after the other, which gives the corners without tasks of their own. For each dim, a task per
neighbour cuts off what is needed, so that only this is moved, and one task concatenates it with the chunk. (Rejected:
``dask.array.map_overlap``, with a task for each of ``3 ** n`` directions, and needs chunks as long as the halo.)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.graph.ownership import users_code
from pipeline.ops.arrays.block_tasks import array_of_tasks, per_block
from pipeline.ops.arrays.dims import axis_of, constant_of, has_unknown_length, one_chunk, rebuild
from pipeline.ops.collections import Args, args_of_task
from pipeline.worker.isolation import fresh
from pipeline.worker.users_function import called

__all__ = ["BOUNDARIES", "map_overlap"]

Block = np.ndarray[Any, Any]

BOUNDARIES = ("none", "reflect", "nearest", "periodic")


def map_overlap(
    x: xr.DataArray,
    *,
    function: str,
    depth: Mapping[str, int],
    dtype: Any,
    boundary: str | float = "none",
    args: Args = None,
) -> xr.DataArray:
    """Return the results of a user's function for each chunk with a halo, which is cut off the results.

    Parameters
    ----------
    function : ``module:function``, called as ``function(block, **args)``, returns a block of the same shape; imported
        inside the task
    depth : dim -> width of the halo on each side
    boundary : halo beyond the ends of the array: none (``none``), the array mirrored with its last value (``reflect``),
        the last value (``nearest``), the other end (``periodic``), or a number

    Raises
    ------
    OpError : no such dim, one shorter than ``depth``, or a number as ``boundary`` that the dtype of ``x`` can't hold
    DataError : in the run, if a block has another shape or dtype than declared, or a dim of unknown length is shorter
    """
    kind = np.dtype(dtype)
    if not isinstance(boundary, str):
        boundary = constant_of(boundary, x.dtype, "boundary").item()
    tasks: dict[Key, GraphNode] = {}
    given = args_of_task(args, tasks)
    for dim in depth:
        axis_of(x, dim, "depth")
    x = one_chunk(x, [dim for dim, n in depth.items() if n and has_unknown_length(x, dim)])
    data = x.data
    trims: list[tuple[int, ...]] = [(0,) * data.numblocks[axis] for axis in range(x.ndim)]
    tails = list(trims)
    for dim, n in depth.items():
        axis, length = axis_of(x, dim), x.sizes[dim]
        if n > length:
            raise OpError("depth", f"{_too_deep(n, dim, length)}")
        if n and has_unknown_length(x, dim):
            data = per_block(data, "halo", _around, axis, n, boundary, dim)
            trims[axis] = tails[axis] = (0 if boundary == "none" else n,)
        elif n and length:
            data, trims[axis], tails[axis] = _widened(data, axis, n, boundary)
    name = f"map_overlap-{tokenize(data.name, function, given, str(kind), trims)}"
    for index in itertools.product(*(range(n) for n in data.numblocks)):
        cut = tuple((trims[axis][i], tails[axis][i]) for axis, i in enumerate(index))
        tasks[name, *index] = task((name, *index), _applied, function, given, cut, kind, ref((data.name, *index)))
    return rebuild(x, array_of_tasks(name, tasks, x.data.chunks, kind, data), x.dims, attrs=False)


def _too_deep(n: int, dim: str, length: int) -> str:
    return f"got {n}, but {dim!r} has {length} positions"


def _around(block: Block, axis: int, n: int, boundary: str | float, dim: str) -> Block:
    """Add a halo to a block that is the only one along an axis."""
    length = block.shape[axis]
    if n > length:
        raise DataError(f"depth: {_too_deep(n, dim, length)}")
    sides = []
    for start in (-n, length):
        runs = _by_block(_places(start, start + n, length, boundary), np.array([0, length]))
        sides.append([local if number >= 0 else len(local) for number, local in runs])
    return _beside(sides[0], block, sides[1], axis, boundary if not isinstance(boundary, str) else 0)


def _widened(x: Any, axis: int, n: int, boundary: str | float) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """Return the array with a halo along one axis in each chunk, and its width before and after each chunk."""
    sizes = x.chunks[axis]
    ends = np.cumsum([0, *sizes])
    name = f"halo-{tokenize(x.name, axis, n, boundary)}"
    fill = boundary if not isinstance(boundary, str) else 0
    around = [
        (_places(ends[k] - n, ends[k], ends[-1], boundary), _places(ends[k + 1], ends[k + 1] + n, ends[-1], boundary))
        for k in range(len(sizes))
    ]
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(m) for m in x.numblocks)):
        sides = []
        for places in around[index[axis]]:
            pieces: list[Any] = []
            for block, local in _by_block(places, ends):
                at = (*index[:axis], block, *index[axis + 1 :])
                if block < 0:
                    pieces.append(len(local))
                elif block == index[axis]:
                    pieces.append(local)
                else:
                    key = (f"{name}-edge-{local[0]}-{local[-1]}-{len(local)}", *at)
                    tasks[key] = task(key, _edge, ref((x.name, *at)), axis, local)
                    pieces.append(ref(key))
            sides.append(listed(pieces))
        tasks[name, *index] = task((name, *index), _beside, sides[0], ref((x.name, *index)), sides[1], axis, fill)
    before = tuple(len(low) for low, _ in around)
    after = tuple(len(high) for _, high in around)
    wide = tuple(a + size + b for a, size, b in zip(before, sizes, after, strict=True))
    chunks = tuple(wide if i == axis else own for i, own in enumerate(x.chunks))
    return array_of_tasks(name, tasks, chunks, x.dtype, x), before, after


def _places(start: int, stop: int, length: int, boundary: str | float) -> Block:
    """Return the positions whose values fill ``start`` to ``stop``; -1 where ``boundary`` is a number."""
    places = np.arange(start, stop)
    if boundary == "none":
        return places[(places >= 0) & (places < length)]
    if boundary == "reflect":
        return np.where(places < 0, -1 - places, np.where(places < length, places, 2 * length - 1 - places))
    if boundary == "nearest":
        return np.clip(places, 0, length - 1)
    if boundary == "periodic":
        return places % length
    return np.where((places < 0) | (places >= length), -1, places)


def _by_block(places: Block, ends: Block) -> list[tuple[int, tuple[int, ...]]]:
    """Split positions into runs within one block, counted from its start; block -1 is outside of all blocks."""
    numbers = np.where(places < 0, -1, np.searchsorted(ends, places, side="right") - 1)
    runs: list[tuple[int, tuple[int, ...]]] = []
    for block, run in itertools.groupby(zip(numbers.tolist(), places.tolist(), strict=True), key=lambda pair: pair[0]):
        start = int(ends[block]) if block >= 0 else 0
        runs.append((block, tuple(place - start for _, place in run)))
    return runs


def _edge(block: Block, axis: int, local: tuple[int, ...]) -> Block:
    return np.take(block, local, axis)


def _beside(low: list[Any], block: Block, high: list[Any], axis: int, fill: float) -> Block:
    """Concatenate a block with its halo, which is given as blocks, as positions of the block, or as counts to fill."""
    if not low and not high:
        return block
    parts = [_part(piece, block, axis, fill) for piece in low]
    return np.concatenate([*parts, block, *(_part(piece, block, axis, fill) for piece in high)], axis=axis)


def _part(piece: Any, block: Block, axis: int, fill: float) -> Block:
    if isinstance(piece, int):
        return np.full((*block.shape[:axis], piece, *block.shape[axis + 1 :]), fill, block.dtype)
    return np.take(block, piece, axis) if isinstance(piece, tuple) else np.asarray(piece)


@users_code
def _applied(
    text: str, args: Mapping[str, Any], cut: tuple[tuple[int, int], ...], dtype: np.dtype[Any], block: Block
) -> Block:
    """Call the function for a block and cut the halo off its result; it is not called for an empty block.

    Raises
    ------
    DataError : if the result has another shape or dtype than declared
    """
    own = tuple(slice(low, size - high) for (low, high), size in zip(cut, block.shape, strict=True))
    if not block[own].size:
        return block[own].astype(dtype)
    result = np.asarray(called(text, block, **fresh(args)))
    if result.shape != block.shape:
        raise DataError(f"{text} returned a block of shape {result.shape} for one of shape {block.shape}")
    if result.dtype != dtype:
        raise DataError(f"{text} returned a block of dtype {result.dtype}; the step declares dtype: {dtype}")
    return np.asarray(result[own], order="C")
