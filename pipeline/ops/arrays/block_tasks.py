"""Arrays made of tasks: a task a block, and spans of positions put together from the blocks that hold them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from pipeline.graph.graph import GraphNode, Key, listed, ref, task
from pipeline.ops import moves

__all__ = ["FAN_IN", "Part", "blocks", "cuts", "joined", "per_block", "pieces", "placed", "rechunked", "tree"]

Block = np.ndarray[Any, Any]
Part = tuple[int, int]

FAN_IN = 8
"""How many partial results one task merges."""


def blocks(name: str, tasks: dict[Key, GraphNode], chunks: Any, dtype: Any, source: da.Array) -> da.Array:
    """The array whose block ``(i, …)`` is the task ``(name, i, …)``; the tasks need blocks of ``source``."""
    graph: Any = HighLevelGraph.from_collections(name, tasks, dependencies=[source])  # type: ignore[arg-type, list-item]
    return da.Array(graph, name, chunks, dtype=dtype)


def per_block(
    data: da.Array, layer: str, function: Callable[..., Block], *args: Any, chunks: Any = None, dtype: Any = None
) -> da.Array:
    """``function(block, *args)`` of each block; without ``chunks`` and ``dtype`` those of ``data``."""
    name = f"{layer}-{tokenize(data.name, args)}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*map(range, data.numblocks)):
        tasks[name, *index] = task((name, *index), function, ref((data.name, *index)), *args)
    return blocks(name, tasks, data.chunks if chunks is None else chunks, data.dtype if dtype is None else dtype, data)


def rechunked(data: da.Array, chunks: Any) -> da.Array:
    """Return ``data`` in other chunks, and state that values move if they do; ``chunks`` as ``dask.array.rechunk``."""
    # by tasks: dask's P2P, which it takes where a client is connected, can't be renamed nor run elsewhere
    other: da.Array = data.rechunk(chunks, method="tasks")
    if other.name != data.name:
        moves.state("rechunk")
    return other


def placed(index: tuple[Any, ...], axis: int, k: Any) -> tuple[Any, ...]:
    """``index`` with ``k`` at ``axis``."""
    return (*index[:axis], k, *index[axis + 1 :])


def pieces(data: da.Array, index: tuple[int, ...], axis: int, *spans: tuple[int, int]) -> tuple[Any, tuple[Part, ...]]:
    """What a task hands to :func:`joined` to get the positions of ``spans`` (half-open), one after the other.

    Parameters
    ----------
    index : of a block; its numbers along the other axes say which blocks are meant

    Returns
    -------
    the blocks, as an argument of the task, and the part of each: its start and stop along ``axis``
    """
    ends = np.cumsum([0, *data.chunks[axis]])
    found = [cut for span in spans for cut in cuts(ends, *span)] or [(0, (0, 0))]  # nothing, of the right dtype
    return listed(ref((data.name, *placed(index, axis, k))) for k, _ in found), tuple(part for _, part in found)


def cuts(ends: Block, start: int, stop: int) -> list[tuple[int, Part]]:
    """The numbers of the blocks that hold some positions, each with the part of it; ``ends``: 0, then their ends."""
    found = []
    for k in range(int(np.searchsorted(ends[1:], start, side="right")), int(np.searchsorted(ends, stop, side="left"))):
        low, high = max(start, int(ends[k])), min(stop, int(ends[k + 1]))
        if low < high:
            found.append((k, (int(low - ends[k]), int(high - ends[k]))))
    return found


def joined(blocks: Sequence[Block], parts: Sequence[Part], axis: int) -> Block:
    """The parts of some blocks, one after the other along ``axis``."""
    cut = [
        block[(slice(None),) * axis + (slice(start, stop),)] for block, (start, stop) in zip(blocks, parts, strict=True)
    ]
    return cut[0] if len(cut) == 1 else np.concatenate(cut, axis=axis)


def tree(
    tasks: dict[Key, GraphNode],
    level: Sequence[Key],
    name: str,
    index: tuple[int, ...],
    axis: int,
    merge: Callable[..., Any],
    *args: Any,
) -> list[Key]:
    """The keys of at most :data:`FAN_IN` partial results, of however many: merged in levels, in their order.

    ``merge`` gets a list of partial results and ``args``; the tasks go into ``tasks``, under names that begin with
    ``name``, with ``index`` of the result's block but for the number along ``axis``.
    """
    keys, depth = list(level), 0
    while len(keys) > FAN_IN:
        several = [keys[i : i + FAN_IN] for i in range(0, len(keys), FAN_IN)]
        keys = []
        for k, some in enumerate(several):
            key = (f"{name}-{depth}", *placed(index, axis, k))
            tasks[key] = task(key, merge, listed(map(ref, some)), *args)
            keys.append(key)
        depth += 1
    return keys
