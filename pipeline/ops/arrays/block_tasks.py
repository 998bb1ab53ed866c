"""Builds dask arrays from tasks: one task per block, tree reductions, and blocks joined from parts of other blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from pipeline.graph.graph import Key
from pipeline.graph.importing import Deferred
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.ops import data_movement

if TYPE_CHECKING:
    import dask.array as da
else:
    da = Deferred("dask.array")

__all__ = [
    "FAN_IN",
    "Part",
    "array_of_tasks",
    "at_positions",
    "join_parts",
    "merge_in_tree",
    "overlapping_blocks",
    "parts_of_blocks",
    "per_block",
    "rechunked",
    "replace_at",
]

Block = np.ndarray[Any, Any]
Part = tuple[int, int]

FAN_IN = 8
"""Number of partial results that one task merges."""


def array_of_tasks(name: str, tasks: dict[Key, GraphNode], chunks: Any, dtype: Any, source: da.Array) -> da.Array:
    """Return the array whose block ``(i, …)`` is the task ``(name, i, …)``; they depend on blocks of ``source``."""
    graph: Any = HighLevelGraph.from_collections(name, tasks, dependencies=[source])  # type: ignore[arg-type, list-item]
    return da.Array(graph, name, chunks, dtype=dtype)


def per_block(
    data: da.Array, layer: str, function: Callable[..., Block], *args: Any, chunks: Any = None, dtype: Any = None
) -> da.Array:
    """Return the array of ``function(block, *args)``, a task per block; default ``chunks``, ``dtype``: as ``data``."""
    name = f"{layer}-{tokenize(data.name, args)}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*map(range, data.numblocks)):
        tasks[name, *index] = task((name, *index), function, ref((data.name, *index)), *args)
    return array_of_tasks(
        name, tasks, data.chunks if chunks is None else chunks, data.dtype if dtype is None else dtype, data
    )


def rechunked(data: da.Array, chunks: Any) -> da.Array:
    """Return ``data`` in other chunks, and state that values move if they do; ``chunks`` as ``dask.array.rechunk``."""
    # by tasks: dask's P2P, which it takes where a client is connected, can't be renamed nor run elsewhere
    other: da.Array = data.rechunk(chunks, method="tasks")
    if other.name != data.name:
        data_movement.state("rechunk")
    return other


def replace_at(index: tuple[Any, ...], axis: int, k: Any) -> tuple[Any, ...]:
    """Return ``index`` with ``k`` at ``axis``."""
    return (*index[:axis], k, *index[axis + 1 :])


def parts_of_blocks(
    data: da.Array, index: tuple[int, ...], axis: int, *spans: tuple[int, int]
) -> tuple[Any, tuple[Part, ...]]:
    """Return the arguments of :func:`join_parts` that give the positions in ``spans`` (half-open), one after the other.

    Parameters
    ----------
    index : index of a block; its entries along the other axes select the blocks

    Returns
    -------
    the blocks, as an argument of a task, and the start and stop of the part of each along ``axis``
    """
    ends = np.cumsum([0, *data.chunks[axis]])
    parts = [part for span in spans for part in overlapping_blocks(ends, *span)]
    parts = parts or [(0, (0, 0))]  # no positions, with the dtype of the array
    return listed(ref((data.name, *replace_at(index, axis, k))) for k, _ in parts), tuple(part for _, part in parts)


def overlapping_blocks(ends: Block, start: int, stop: int) -> list[tuple[int, Part]]:
    """Return the numbers of the blocks that hold positions from ``start`` to ``stop``, each with its part of them.

    Parameters
    ----------
    ends : 0, then the end of each block
    """
    found = []
    for k in range(int(np.searchsorted(ends[1:], start, side="right")), int(np.searchsorted(ends, stop, side="left"))):
        low, high = max(start, int(ends[k])), min(stop, int(ends[k + 1]))
        if low < high:
            found.append((k, (int(low - ends[k]), int(high - ends[k]))))
    return found


def join_parts(blocks: Sequence[Block], parts: Sequence[Part], axis: int) -> Block:
    """Concatenate parts of blocks along ``axis``."""
    cut = [
        block[(slice(None),) * axis + (slice(start, stop),)] for block, (start, stop) in zip(blocks, parts, strict=True)
    ]
    return cut[0] if len(cut) == 1 else np.concatenate(cut, axis=axis)


def merge_in_tree(
    tasks: dict[Key, GraphNode],
    level: Sequence[Key],
    name: str,
    index: tuple[int, ...],
    axis: int,
    merge: Callable[..., Any],
    *args: Any,
) -> list[Key]:
    """Add tasks that merge partial results level by level, in order; return the keys of the last level.

    Parameters
    ----------
    tasks : the new tasks are added here
    level : keys of the partial results
    name : prefix of the names of the new tasks; their indices are ``index`` with a number along ``axis``
    merge : called as ``merge(partial_results, *args)``

    Returns
    -------
    at most :data:`FAN_IN` keys
    """
    keys, depth = list(level), 0
    while len(keys) > FAN_IN:
        several = [keys[i : i + FAN_IN] for i in range(0, len(keys), FAN_IN)]
        keys = []
        for k, some in enumerate(several):
            key = (f"{name}-{depth}", *replace_at(index, axis, k))
            tasks[key] = task(key, merge, listed(map(ref, some)), *args)
            keys.append(key)
        depth += 1
    return keys


def at_positions(data: da.Array, axis: int, places: Block, chunks: tuple[int, ...], name: str) -> da.Array:
    """Return the array whose values at each position along ``axis`` are those at the position in ``places``."""
    name = f"{name}-{tokenize(data.name, axis, places, chunks)}"
    tasks: dict[Key, GraphNode] = {}
    for k, (start, stop) in enumerate(itertools.pairwise(itertools.accumulate(chunks, initial=0))):
        spans, order = _spans(places[start:stop])
        for index in itertools.product(*(range(n) if i != axis else [k] for i, n in enumerate(data.numblocks))):
            key = (name, *index)
            tasks[key] = task(key, _placed, *parts_of_blocks(data, index, axis, *spans), axis, order)
    return array_of_tasks(name, tasks, replace_at(data.chunks, axis, chunks), data.dtype, data)


def _spans(wanted: Block) -> tuple[list[tuple[int, int]], Block | None]:
    """Return increasing spans that cover the positions, and the index of each position in them; None: in this order."""
    positions, order = np.unique(wanted, return_inverse=True)
    overlapping_blocks = np.flatnonzero(np.diff(positions) > 1) + 1
    spans = [(int(run[0]), int(run[-1]) + 1) for run in np.split(positions, overlapping_blocks) if len(run)]
    return spans, None if np.array_equal(order, np.arange(len(order))) else order


def _placed(several: Sequence[Block], parts: Sequence[Part], axis: int, order: Block | None) -> Block:
    found = join_parts(several, parts, axis)
    return found if order is None else np.take(found, order, axis=axis)
