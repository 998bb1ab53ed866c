"""Dims whose length is unknown until run time: the rows that a filter of a frame keeps; their chunk sizes are nan.

An op that needs the positions adds a few small tasks: for the start of each chunk (:func:`chunk_starts`), for one chunk
of all positions (:func:`merge_chunks`), or for a slice of them (:func:`slice_in_run`). :func:`rechunk_like` gives two
arrays the same chunks.

Arrays with equally many chunks of unknown size are assumed to have equal chunks, because arrays made of one frame do;
:func:`require_equal_chunks` checks it in the run. (Rejected: rechunking each of them, which brings all rows into one
task wherever two arrays meet.)
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import tokenize

from pipeline.errors import DataError
from pipeline.graph.graph import Key
from pipeline.graph.importing import Deferred
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.ops import data_movement
from pipeline.ops.arrays.block_tasks import array_of_tasks, rechunked, replace_at

if TYPE_CHECKING:
    import dask.array as da
else:
    da = Deferred("dask.array")

__all__ = [
    "any_unknown",
    "check_against_first",
    "chunk_starts",
    "merge_chunks",
    "rechunk_like",
    "require_equal_chunks",
    "slice_in_run",
    "slice_length",
]

Block = np.ndarray[Any, Any]


def any_unknown(sizes: Sequence[float]) -> bool:
    """Return whether the size of a chunk is unknown until run time."""
    return any(n != n for n in sizes)


def chunk_starts(data: da.Array, axis: int, tasks: dict[Key, GraphNode]) -> list[Any]:
    """Return the start of each chunk along an axis, then the total length, as arguments of a task.

    Known sizes give numbers. For unknown sizes two tasks per chunk are added to ``tasks``, one for its length and one
    for the running sum, and the result refers to them.
    """
    sizes = data.chunks[axis]
    if not any_unknown(sizes):
        return [int(n) for n in np.cumsum([0, *sizes])]
    token = tokenize(data.name, axis)
    found: list[Any] = [0]
    for k in range(len(sizes)):
        count, start = (f"count-{token}", k), (f"start-{token}", k + 1)
        tasks[count] = task(count, _length, ref((data.name, *replace_at((0,) * data.ndim, axis, k))), axis)
        tasks[start] = task(start, operator.add, found[-1], ref(count))
        found.append(ref(start))
    return found


def _length(block: Block, axis: int) -> int:
    return int(np.shape(block)[axis])


def merge_chunks(data: da.Array, axis: int) -> da.Array:
    """Return ``data`` with a single chunk along an axis of unknown length."""
    sizes = data.chunks[axis]
    if len(sizes) == 1:
        return data
    data_movement.state("one chunk")
    name = f"one-chunk-{tokenize(data.name, axis)}"
    tasks: dict[Key, GraphNode] = {}
    for index in _indices(data, axis, 1):
        several = listed(ref((data.name, *replace_at(index, axis, k))) for k in range(len(sizes)))
        tasks[name, *index] = task((name, *index), _concatenated, several, axis)
    return array_of_tasks(name, tasks, replace_at(data.chunks, axis, (np.nan,)), data.dtype, data)


def _indices(data: da.Array, axis: int, n: int) -> itertools.product[tuple[int, ...]]:
    """Return the indices of the blocks of an array like ``data`` that has ``n`` blocks along an axis."""
    return itertools.product(*map(range, replace_at(data.numblocks, axis, n)))


def _concatenated(several: Sequence[Block], axis: int) -> Block:
    return several[0] if len(several) == 1 else np.concatenate(several, axis=axis)


def slice_length(start: int | None, stop: int | None) -> int | None:
    """Return the number of positions in ``start:stop`` of a long enough axis; None if it depends on the length.

    >>> slice_length(None, 3), slice_length(-5, -2), slice_length(2, None)
    (3, 3, None)
    """
    start = start or 0
    if stop is None:
        return -start if start < 0 else None
    return stop - start if (start < 0) == (stop < 0) else None


def slice_in_run(data: da.Array, axis: int, start: int | None, stop: int | None, dim: str) -> da.Array:
    """Return the positions ``start:stop`` along an axis of unknown length; negative ones count from the end.

    If the number of positions is known before the run, the result has one chunk; otherwise each chunk is cut.

    Raises
    ------
    DataError : in the run, if the axis is shorter, or the slice is empty
    """
    length = slice_length(start, stop)
    name = f"span-{tokenize(data.name, axis, start, stop)}"
    part = name if length is None else f"{name}-part"
    tasks: dict[Key, GraphNode] = {}
    begins = chunk_starts(data, axis, tasks)
    n = data.numblocks[axis]
    for index in _indices(data, axis, n):
        how = (axis, begins[index[axis]], begins[-1], start, stop, dim)
        tasks[part, *index] = task((part, *index), _within, ref((data.name, *index)), *how)
    if length is None:
        return array_of_tasks(name, tasks, data.chunks, data.dtype, data)
    for index in _indices(data, axis, 1):
        several = listed(ref((part, *replace_at(index, axis, k))) for k in range(n))
        tasks[name, *index] = task((name, *index), _concatenated, several, axis)
    return array_of_tasks(name, tasks, replace_at(data.chunks, axis, (length,)), data.dtype, data)


def _within(block: Block, axis: int, begin: int, total: int, start: int | None, stop: int | None, dim: str) -> Block:
    selected = range(total)[slice(start, stop)]
    inside = all(position is None or -total <= position <= total for position in (start, stop))
    if not selected or not inside:
        text = ":".join("" if position is None else str(position) for position in (start, stop))
        problem = "selects nothing" if inside else "is out of range"
        raise DataError(f"[{text}] {problem}: {dim!r} has {total:,} positions")
    low, high = (min(max(position - begin, 0), block.shape[axis]) for position in (selected.start, selected.stop))
    return block[(slice(None),) * axis + (slice(low, high),)]


# ---------------------------------------------------------------------------------------------------------------------
# Equal chunks of several arrays
# ---------------------------------------------------------------------------------------------------------------------


def rechunk_like(data: da.Array, axis: int, like: da.Array, along: int) -> da.Array:
    """Return ``data`` with the chunks along ``axis`` that ``like`` has along its axis ``along``.

    Raises
    ------
    DataError : in the run, if their lengths differ
    """
    own, wanted = data.chunks[axis], like.chunks[along]
    if not any_unknown(own) and not any_unknown(wanted):
        return data if own == wanted else rechunked(data, {axis: wanted})
    if len(own) == len(wanted) and (len(own) == 1 or any_unknown(own) == any_unknown(wanted)):
        return data
    whole = merge_chunks(data, axis) if any_unknown(own) else rechunked(data, {axis: -1})
    if len(wanted) == 1 and any_unknown(wanted):
        return whole
    tasks: dict[Key, GraphNode] = {}
    begins = chunk_starts(like, along, tasks)
    name = f"rechunk_like-{tokenize(data.name, axis, like.name, along)}"
    for index in _indices(data, axis, len(wanted)):
        k = index[axis]
        bounds = (begins[k], begins[k + 1], begins[-1])
        tasks[name, *index] = task((name, *index), _cut, ref((whole.name, *replace_at(index, axis, 0))), axis, *bounds)
    return array_of_tasks(name, {**dict(like.dask), **tasks}, replace_at(data.chunks, axis, wanted), data.dtype, whole)


def _cut(whole: Block, axis: int, start: int, stop: int, total: int) -> Block:
    n = whole.shape[axis]
    if n != total:
        raise DataError(f"arrays of different lengths along a shared dim: {n:,} and {total:,} positions")
    return whole[(slice(None),) * axis + (slice(start, stop),)]


def require_equal_chunks(
    blocks: Sequence[Block], axes: Sequence[tuple[int, ...]], dims: Sequence[str] | None = None
) -> None:
    """Check that blocks have equal lengths along the axes that they share; numpy would broadcast a length of 1.

    Parameters
    ----------
    axes : for each block the numbers of its axes; a number stands for the same dim in all blocks
    dims : names of the dims by number, for the message

    Raises
    ------
    DataError : with two lengths that differ
    """
    lengths: dict[int, int] = {}
    for block, own in zip(blocks, axes, strict=True):
        for axis, n in zip(own, np.shape(block), strict=True):
            m = lengths.setdefault(axis, n)
            if n != m:
                along = f" along {dims[axis]!r}" if dims else ""
                raise DataError(
                    f"arrays with unknown chunk sizes do not align: chunk sizes {m:,} and {n:,} differ{along}; "
                    "to align them, repartition each frame before to_array: "
                    "{op: repartition, npartitions: 8, count_rows: true}"
                )


def check_against_first(arrays: Sequence[da.Array], axes: Sequence[tuple[int, ...]]) -> list[da.Array]:
    """Return the arrays with tasks that check unknown chunk sizes of each against those of the first array.

    Parameters
    ----------
    axes : as for :func:`require_equal_chunks`; the arrays have equally many chunks along shared axes
    """
    first, first_axes = arrays[0], axes[0]
    checked = [first]
    for data, own in zip(arrays[1:], axes[1:], strict=True):
        unknown = any(any_unknown(sizes) for axis, sizes in zip(own, data.chunks, strict=True) if axis in first_axes)
        compare = unknown and data.name != first.name
        checked.append(_checked(first, first_axes, data, own) if compare else data)
    return checked


def _checked(first: da.Array, first_axes: tuple[int, ...], data: da.Array, axes: tuple[int, ...]) -> da.Array:
    name = f"equal-chunks-{tokenize(first.name, first_axes, data.name, axes)}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*map(range, data.numblocks)):
        numbers = dict(zip(axes, index, strict=True))
        other = ref((first.name, *(numbers.get(axis, 0) for axis in first_axes)))
        tasks[name, *index] = task((name, *index), _check_block, other, ref((data.name, *index)), first_axes, axes)
    return array_of_tasks(name, {**dict(first.dask), **tasks}, data.chunks, data.dtype, data)


def _check_block(first: Block, block: Block, first_axes: tuple[int, ...], axes: tuple[int, ...]) -> Block:
    require_equal_chunks([first, block], [first_axes, axes])
    return block
