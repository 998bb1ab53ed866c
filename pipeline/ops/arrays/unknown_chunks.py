"""Lengths that only the run knows: those of the rows that a filter leaves, once they are an array's; chunks of nan.

An op that needs to know them while the graph is built does one of three things, each in a few small tasks: it asks
where each chunk begins (:func:`starts`), it takes all positions in one chunk (:func:`merged`), or it is handed some of
them (:func:`span`). Two arrays that go together are cut alike by :func:`rechunk_like`.

Arrays with equally many chunks of unknown lengths are taken to be cut alike, since what comes from one frame is; the
run holds them to it (:func:`require_alike`). (Rejected: to cut each one anew, which brings all rows into one task
wherever two arrays meet.)
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from pipeline.errors import DataError
from pipeline.graph.graph import GraphNode, Key, listed, ref, task
from pipeline.ops import moves
from pipeline.ops.arrays.block_tasks import blocks, placed, rechunked

__all__ = ["like_first", "merged", "n_between", "rechunk_like", "require_alike", "span", "starts", "unknown"]

Block = np.ndarray[Any, Any]


def unknown(sizes: Sequence[float]) -> bool:
    """Whether only the run knows how long some of the chunks are."""
    return any(n != n for n in sizes)


def starts(data: da.Array, axis: int, tasks: dict[Key, GraphNode]) -> list[Any]:
    """Where each chunk along an axis begins, then the length of all, as arguments of a task.

    Numbers where they are known; else what tasks give that are added to ``tasks``: one counts a chunk, one adds it up.
    """
    sizes = data.chunks[axis]
    if not unknown(sizes):
        return [int(n) for n in np.cumsum([0, *sizes])]
    token = tokenize(data.name, axis)
    found: list[Any] = [0]
    for k in range(len(sizes)):
        count, start = (f"count-{token}", k), (f"start-{token}", k + 1)
        tasks[count] = task(count, _length, ref((data.name, *placed((0,) * data.ndim, axis, k))), axis)
        tasks[start] = task(start, operator.add, found[-1], ref(count))
        found.append(ref(start))
    return found


def _length(block: Block, axis: int) -> int:
    return int(np.shape(block)[axis])


def merged(data: da.Array, axis: int) -> da.Array:
    """The same in one chunk along an axis of unknown length."""
    sizes = data.chunks[axis]
    if len(sizes) == 1:
        return data
    moves.state("one chunk")
    name = f"one-chunk-{tokenize(data.name, axis)}"
    tasks: dict[Key, GraphNode] = {}
    for index in _indices(data, axis, 1):
        several = listed(ref((data.name, *placed(index, axis, k))) for k in range(len(sizes)))
        tasks[name, *index] = task((name, *index), _concatenated, several, axis)
    return blocks(name, tasks, placed(data.chunks, axis, (np.nan,)), data.dtype, data)


def _indices(data: da.Array, axis: int, n: int) -> itertools.product[tuple[int, ...]]:
    """The indices of the blocks of an array like ``data`` with ``n`` of them along an axis."""
    return itertools.product(*map(range, placed(data.numblocks, axis, n)))


def _concatenated(several: Sequence[Block], axis: int) -> Block:
    return several[0] if len(several) == 1 else np.concatenate(several, axis=axis)


def n_between(start: int | None, stop: int | None) -> int | None:
    """How many positions ``start:stop`` are of an axis that has them; None where that depends on its length.

    >>> n_between(None, 3), n_between(-5, -2), n_between(2, None)
    (3, 3, None)
    """
    start = start or 0
    if stop is None:
        return -start if start < 0 else None
    return stop - start if (start < 0) == (stop < 0) else None


def span(data: da.Array, axis: int, start: int | None, stop: int | None, dim: str) -> da.Array:
    """The positions ``start:stop`` along an axis of unknown length, counted from the end where negative.

    Where that says how many there are, they are one chunk; else the chunks stay, each less what lies outside.

    Raises
    ------
    DataError : in the run, where the axis is shorter, or nothing lies there
    """
    length = n_between(start, stop)
    name = f"span-{tokenize(data.name, axis, start, stop)}"
    part = name if length is None else f"{name}-part"
    tasks: dict[Key, GraphNode] = {}
    begins = starts(data, axis, tasks)
    n = data.numblocks[axis]
    for index in _indices(data, axis, n):
        how = (axis, begins[index[axis]], begins[-1], start, stop, dim)
        tasks[part, *index] = task((part, *index), _within, ref((data.name, *index)), *how)
    if length is None:
        return blocks(name, tasks, data.chunks, data.dtype, data)
    for index in _indices(data, axis, 1):
        several = listed(ref((part, *placed(index, axis, k))) for k in range(n))
        tasks[name, *index] = task((name, *index), _concatenated, several, axis)
    return blocks(name, tasks, placed(data.chunks, axis, (length,)), data.dtype, data)


def _within(block: Block, axis: int, begin: int, total: int, start: int | None, stop: int | None, dim: str) -> Block:
    wanted = range(total)[slice(start, stop)]
    if not wanted or any(place is not None and not -total <= place <= total for place in (start, stop)):
        asked = ":".join("" if place is None else str(place) for place in (start, stop))
        raise DataError(f"{dim!r} has {total:,} positions, and {asked} is asked for")
    low, high = (min(max(place - begin, 0), block.shape[axis]) for place in (wanted.start, wanted.stop))
    return block[(slice(None),) * axis + (slice(low, high),)]


# ---------------------------------------------------------------------------------------------------------------------
# Arrays that go together
# ---------------------------------------------------------------------------------------------------------------------


def rechunk_like(data: da.Array, axis: int, like: da.Array, along: int) -> da.Array:
    """``data`` cut along an axis as ``like`` is along one of its own.

    Raises
    ------
    DataError : in the run, if one is longer than the other
    """
    own, wanted = data.chunks[axis], like.chunks[along]
    if not unknown(own) and not unknown(wanted):
        return data if own == wanted else rechunked(data, {axis: wanted})
    if len(own) == len(wanted) and (len(own) == 1 or unknown(own) == unknown(wanted)):
        return data
    whole = merged(data, axis) if unknown(own) else rechunked(data, {axis: -1})
    if len(wanted) == 1 and unknown(wanted):
        return whole
    tasks: dict[Key, GraphNode] = {}
    begins = starts(like, along, tasks)
    name = f"rechunk_like-{tokenize(data.name, axis, like.name, along)}"
    for index in _indices(data, axis, len(wanted)):
        k = index[axis]
        bounds = (begins[k], begins[k + 1], begins[-1])
        tasks[name, *index] = task((name, *index), _cut, ref((whole.name, *placed(index, axis, 0))), axis, *bounds)
    return blocks(name, {**dict(like.dask), **tasks}, placed(data.chunks, axis, wanted), data.dtype, whole)


def _cut(whole: Block, axis: int, start: int, stop: int, total: int) -> Block:
    n = whole.shape[axis]
    if n != total:
        raise DataError(f"an array has {n:,} positions along a dim of which another has {total:,}")
    return whole[(slice(None),) * axis + (slice(start, stop),)]


def require_alike(several: Sequence[Block], places: Sequence[tuple[int, ...]]) -> None:
    """Hold blocks to equal lengths along the axes that they share: numpy would spread those of length 1.

    Parameters
    ----------
    places : of the axes of each block

    Raises
    ------
    DataError : naming two lengths that differ
    """
    lengths: dict[int, int] = {}
    for block, place in zip(several, places, strict=True):
        for axis, n in zip(place, np.shape(block), strict=True):
            m = lengths.setdefault(axis, n)
            if n != m:
                cure = "before each becomes an array: repartition: {npartitions: 8, count_rows: true}"
                raise DataError(
                    f"two arrays whose length only the run knows are not as long, or cut differently: a chunk of {m:,} "
                    f"positions meets one of {n:,}; to cut them alike, {cure}"
                )


def like_first(several: Sequence[da.Array], places: Sequence[tuple[int, ...]]) -> list[da.Array]:
    """The arrays, those after the first held in the run to its lengths along the axes that they share.

    Parameters
    ----------
    places : of the axes of each array; they are cut alike along those that they share
    """
    first, own = several[0], places[0]
    found = [first]
    for data, place in zip(several[1:], places[1:], strict=True):
        late = any(unknown(sizes) for axis, sizes in zip(place, data.chunks, strict=True) if axis in own)
        found.append(_held_to(first, own, data, place) if late and data.name != first.name else data)
    return found


def _held_to(first: da.Array, own: tuple[int, ...], data: da.Array, place: tuple[int, ...]) -> da.Array:
    name = f"alike-{tokenize(first.name, own, data.name, place)}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*map(range, data.numblocks)):
        at = dict(zip(place, index, strict=True))
        beside = ref((first.name, *(at.get(axis, 0) for axis in own)))
        tasks[name, *index] = task((name, *index), _alike, beside, ref((data.name, *index)), own, place)
    return blocks(name, {**dict(first.dask), **tasks}, data.chunks, data.dtype, data)


def _alike(first: Block, block: Block, own: tuple[int, ...], place: tuple[int, ...]) -> Block:
    require_alike([first, block], [own, place])
    return block
