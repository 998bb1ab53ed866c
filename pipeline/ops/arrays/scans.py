"""The ops ``cumsum``, ``argmin``, ``argmax`` and ``topk``, which go along one axis block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.ops.arrays.block_tasks import array_of_tasks, merge_in_tree, replace_at
from pipeline.ops.arrays.dims import axis_of, is_missing, rebuild, require_numbers, require_real
from pipeline.ops.arrays.sums import added, cumulated, sum_dtype, total
from pipeline.ops.arrays.unknown_chunks import chunk_starts

__all__ = ["argmax", "argmin", "cumsum", "topk"]

Block = np.ndarray[Any, Any]
Found = tuple[Block, Block]
"""The extreme values of some blocks, and their positions along the axis; -1 where no value is valid."""


# ---------------------------------------------------------------------------------------------------------------------
# Cumulative sums
# ---------------------------------------------------------------------------------------------------------------------


def cumsum(x: xr.DataArray, *, axis: str, skipna: bool = True) -> xr.DataArray:
    """Return the cumulative sum along an axis; same dims, chunks and coordinates, small integers become int64.

    A missing value counts as 0. Floats are summed in float64, so that results for different chunks agree up to its
    rounding.

    Raises
    ------
    DataError : in the run, if a sum of whole numbers passes 64 bits
    """
    along = axis_of(x, axis, "axis")
    require_numbers(x, "cumsum")
    kind = sum_dtype(x.dtype)
    skips = skipna and x.dtype.kind in "fc"
    name = f"cumsum-{tokenize(x.data.name, along, skips)}"
    tasks: dict[Key, GraphNode] = {}
    for index in _lanes(x, along):
        before = None
        for k in range(x.data.numblocks[along]):
            at = replace_at(index, along, k)
            block = ref((x.data.name, *at))
            tasks[name, *at] = task((name, *at), _running, block, before, along, skips, kind)
            if k + 1 < x.data.numblocks[along]:
                own, carried = (f"{name}-total", *at), (f"{name}-carried", *at)
                tasks[own] = task(own, _total, block, along, skips)
                if before is not None:
                    tasks[carried] = task(carried, added, before, ref(own))
                before = ref(own if before is None else carried)
    return rebuild(x, array_of_tasks(name, tasks, x.data.chunks, kind, x.data), x.dims)


def _total(block: Block, axis: int, skips: bool) -> Block:
    return total(block, axis, skipna=skips)


def _running(block: Block, before: Block | None, axis: int, skips: bool, dtype: Any) -> Block:
    filled = np.where(np.isnan(block), np.zeros((), block.dtype), block) if skips else block
    return cumulated(filled, before, axis, dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Positions of extremes
# ---------------------------------------------------------------------------------------------------------------------


def argmax(x: xr.DataArray, *, axis: str, skipna: bool = True, keepdims: bool = False) -> xr.DataArray:
    """Return the position along an axis, counted from 0, of the first largest value, int64.

    Without ``skipna`` the first missing value counts as the largest.

    Raises
    ------
    OpError : no such dim, or values without an order
    DataError : a dim of length 0; in the run, where all values along the dim are missing
    """
    return _positions(x, axis, skipna, keepdims, largest=True)


def argmin(x: xr.DataArray, *, axis: str, skipna: bool = True, keepdims: bool = False) -> xr.DataArray:
    """Return the position along an axis, counted from 0, of the first smallest value, int64; see :func:`argmax`."""
    return _positions(x, axis, skipna, keepdims, largest=False)


def _positions(x: xr.DataArray, axis: str, skipna: bool, keepdims: bool, *, largest: bool) -> xr.DataArray:
    along = axis_of(x, axis, "axis")
    require_real(x, "argmax" if largest else "argmin", times=True)
    if x.sizes[axis] == 0:
        raise DataError(_nothing(axis, largest))
    name = f"{'argmax' if largest else 'argmin'}-{tokenize(x.data.name, along, skipna, keepdims)}"
    tasks: dict[Key, GraphNode] = {}
    begins = chunk_starts(x.data, along, tasks)
    for index in _lanes(x, along):
        level: list[Key] = []
        for k in range(x.data.numblocks[along]):
            key = (f"{name}-part", *replace_at(index, along, k))
            tasks[key] = task(key, _extreme, ref((x.data.name, *key[1:])), along, begins[k], skipna, largest)
            level.append(key)
        level = merge_in_tree(tasks, level, f"{name}-merge", index, along, _merged, skipna, largest)
        own = index if keepdims else (*index[:along], *index[along + 1 :])
        how = (begins[-1], skipna, largest, axis, along if keepdims else None)
        tasks[name, *own] = task((name, *own), _places, listed(map(ref, level)), *how)
    kept = [i for i in range(x.ndim) if keepdims or i != along]
    chunks = tuple((1,) if i == along else x.data.chunks[i] for i in kept)
    data = array_of_tasks(name, tasks, chunks, np.dtype(np.int64), x.data)
    return rebuild(x, data, [x.dims[i] for i in kept], gone=[axis], attrs=False)


_WORDS = {True: "largest", False: "smallest"}


def _nothing(axis: str, largest: bool) -> str:
    return f"there is no {_WORDS[largest]} value along {axis!r}, which has length 0"


def _lanes(x: xr.DataArray, along: int) -> Iterator[tuple[int, ...]]:
    """Return the indices of the first blocks along an axis."""
    return itertools.product(*(range(n if i != along else 1) for i, n in enumerate(x.data.numblocks)))


def _extreme(block: Block, axis: int, start: int, skipna: bool, largest: bool) -> Found:
    values = np.moveaxis(block, axis, 0)
    positions = np.arange(start, start + len(values)).reshape(-1, *(1 for _ in values.shape[1:]))
    return _first(values, np.broadcast_to(positions, values.shape), skipna, largest)


def _merged(several: Sequence[Found], skipna: bool, largest: bool) -> Found:
    values, positions = (np.stack(each) for each in zip(*several, strict=True))
    return _first(values, positions, skipna, largest)


def _first(values: Block, positions: Block, skipna: bool, largest: bool) -> Found:
    """Return the first extreme value over the first axis, and its position; values at position -1 are ignored."""
    if not len(values):
        return np.zeros(values.shape[1:], values.dtype), np.full(values.shape[1:], -1)
    there = positions >= 0
    lost = there & is_missing(values)
    valid = there & ~lost
    some = np.take_along_axis(values, np.argmax(valid, axis=0)[None], 0)
    best = (np.maximum if largest else np.minimum).reduce(np.where(valid, values, some), axis=0)
    place = np.argmax(valid & (values == best), axis=0)
    if not skipna:
        place = np.where(lost.any(axis=0), np.argmax(lost, axis=0), place)
    found = (valid if skipna else there).any(axis=0)
    value, position = (np.take_along_axis(each, place[None], 0)[0] for each in (values, positions))
    return value, np.where(found, position, -1)


def _places(several: Sequence[Found], n_along: int, skipna: bool, largest: bool, axis: str, kept: int | None) -> Block:
    if not n_along:
        raise DataError(_nothing(axis, largest))
    _, positions = _merged(several, skipna, largest)
    n = int((positions < 0).sum())
    if n:
        where = "all are missing" if positions.ndim == 0 else f"all are missing in {n:,} of {positions.size:,} cases"
        raise DataError(
            f'there is no {_WORDS[largest]} value along {axis!r}: {where}; fill them first: {{expr: "fill(x, 0)"}}'
        )
    return np.asarray(positions if kept is None else np.expand_dims(positions, kept), dtype=np.int64)


# ---------------------------------------------------------------------------------------------------------------------
# Largest and smallest values
# ---------------------------------------------------------------------------------------------------------------------


def topk(x: xr.DataArray, *, k: int, axis: str) -> xr.DataArray:
    """Return the ``k`` largest values along an axis, largest first; for a negative ``k`` the smallest, smallest first.

    Missing values come last. An axis shorter than ``k`` gives all its values. The axis loses its labels.

    Raises
    ------
    OpError : no such dim, ``k`` 0, or values without an order
    """
    along = axis_of(x, axis, "axis")
    require_real(x, "topk", times=True)
    if k == 0:
        raise OpError("k", "got 0; write the number of largest values, or -k for the smallest")
    name = f"topk-{tokenize(x.data.name, along, k)}"
    tasks: dict[Key, GraphNode] = {}
    for index in _lanes(x, along):
        level: list[Key] = []
        for i in range(x.data.numblocks[along]):
            key = (f"{name}-part", *replace_at(index, along, i))
            tasks[key] = task(key, _top, listed([ref((x.data.name, *key[1:]))]), k, along)
            level.append(key)
        level = merge_in_tree(tasks, level, f"{name}-merge", index, along, _top, k, along)
        tasks[name, *index] = task((name, *index), _top, listed(map(ref, level)), k, along)
    n = x.shape[along]
    chunks = tuple((min(abs(k), n) if n == n else n,) if i == along else c for i, c in enumerate(x.data.chunks))
    return rebuild(x, array_of_tasks(name, tasks, chunks, x.dtype, x.data), x.dims, gone=[axis])


def _top(several: Sequence[Block], k: int, axis: int) -> Block:
    values = several[0] if len(several) == 1 else np.concatenate(several, axis=axis)
    ordered = _reversed(values) if k > 0 else values
    n = abs(k)
    if values.shape[axis] > n:
        ordered = np.partition(ordered, n - 1, axis=axis)[(slice(None),) * axis + (slice(0, n),)]
    ordered = np.sort(ordered, axis=axis)
    return _reversed(ordered) if k > 0 else ordered


def _reversed(values: Block) -> Block:
    """Return values in reversed order, with missing ones still last; twice gives the values again."""
    if values.dtype.kind == "f":
        return np.negative(values)
    if values.dtype.kind in "mM":  # NaT is stored as the smallest int64
        return (~values.view(np.int64)).view(values.dtype)
    return np.invert(values)
