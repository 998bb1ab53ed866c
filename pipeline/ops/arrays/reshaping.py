"""The ops ``transpose``, ``reshape``, ``roll`` and ``pad``."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.ops.arrays.block_tasks import (
    Part,
    array_of_tasks,
    at_positions,
    join_parts,
    overlapping_blocks,
    per_block,
    rechunked,
    replace_at,
)
from pipeline.ops.arrays.dims import Axis, axes_of, axis_of, constant_of, has_unknown_length, one_chunk, rebuild
from pipeline.ops.arrays.unknown_chunks import merge_chunks

__all__ = ["pad", "reshape", "roll", "transpose"]

Block = np.ndarray[Any, Any]
Chunks = tuple[tuple[int, ...], ...]


# ---------------------------------------------------------------------------------------------------------------------
# Dims
# ---------------------------------------------------------------------------------------------------------------------


def transpose(x: xr.DataArray, *, dims: Sequence[str] | None = None) -> xr.DataArray:
    """Return the array with its dims in another order; default: reversed.

    Raises
    ------
    OpError : if ``dims`` is not all dims of the array, each once
    """
    if dims is None:
        return x.transpose()
    for dim in dims:
        axis_of(x, dim, "dims")
    if sorted(dims) != sorted(map(str, x.dims)):
        raise OpError("dims", f"got {', '.join(dims)}; name each of {', '.join(map(str, x.dims))} once")
    return x.transpose(*dims)


def reshape(x: xr.DataArray, *, dims: Mapping[str, int], axis: Axis = None) -> xr.DataArray:
    """Return the values along ``axis``, in C order (the last dim fastest), as new dims in the place of the first.

    Labels along ``axis`` are lost; other dims keep theirs. Chunks that are not contiguous in C order are rechunked. If
    the number of values is unknown until run time they become one chunk; for a single new dim, the chunks of the first
    old dim stay.

    Parameters
    ----------
    dims : new dim -> size; one size may be -1: the size that remains
    axis : dims that are replaced, in the order of reading; default: all

    Raises
    ------
    OpError : no such dim, or sizes whose product differs from the old one
    DataError : in the run, if old sizes are unknown before it, and the products differ
    """
    old = [str(dim) for dim in x.dims] if axis is None else [axis] if isinstance(axis, str) else list(axis)
    axes_of(x, old)
    if len(set(old)) < len(old):
        raise OpError("axis", f"got {', '.join(old)}; name each dim once")
    others = [str(dim) for dim in x.dims if dim not in old]
    for dim in dims:
        if dim in others:
            raise OpError("dims", f"the array already has a dim {dim!r}, which is not among the dims in axis")
    free = [dim for dim, n in dims.items() if n == -1]
    if len(free) > 1:
        raise OpError("dims", f"{' and '.join(free)} are -1; only one size can be -1")
    late = any(has_unknown_length(x, dim) for dim in old)
    sizes = (
        () if late else _sizes(dims, math.prod(x.sizes[dim] for dim in old), old, functools.partial(OpError, "dims"))
    )
    at = min((axis_of(x, dim) for dim in old), default=0)
    before = [dim for dim in others if axis_of(x, dim) < at]
    after = [dim for dim in others if dim not in before]
    x = x.transpose(*before, *old, *after)
    if late:
        x = one_chunk(x, old[1:] if list(dims.values()) == [-1] else old)
        data = _reshaped_late(x.data, len(before), len(after), dims, old)
    else:
        data = _reshaped(x.data, len(before), len(after), sizes)
    return rebuild(x, data, [*before, *dims, *after], gone=[*old, *dims])


def _sizes(
    dims: Mapping[str, int], total: int, old: Sequence[str], error: Callable[[str], Exception]
) -> tuple[int, ...]:
    """Return the sizes of ``dims``, with -1 replaced by the size that remains; raise ``error`` if they do not fit."""
    free = -1 in dims.values()
    fixed = math.prod(n for n in dims.values() if n != -1)
    if free and fixed and total % fixed == 0:
        return tuple(total // fixed if n == -1 else n for n in dims.values())
    if free or fixed != total:
        sizes = " x ".join("?" if n == -1 else str(n) for n in dims.values()) or "1"
        raise error(f"got {sizes}, but {' x '.join(old) or 'the single number'} has {total:,} values")
    return tuple(dims.values())


def _reshaped_late(
    data: da.Array, n_before: int, n_after: int, dims: Mapping[str, int], old: Sequence[str]
) -> da.Array:
    """Reshape each block on its own; only the first of the replaced dims may have several chunks."""
    name = f"reshape-{tokenize(data.name, n_before, n_after, dims)}"
    before, _, after = _split(data.chunks, n_before, n_after)
    chunks = tuple((np.nan,) * data.numblocks[n_before] if n == -1 else (n,) for n in dims.values())
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*map(range, data.numblocks)):
        head, middle, tail = _split(index, n_before, n_after)
        key = (name, *head, *(middle[0] if n == -1 else 0 for n in dims.values()), *tail)
        tasks[key] = task(key, _whole, ref((data.name, *index)), n_before, n_after, dict(dims), tuple(old))
    return array_of_tasks(name, tasks, (*before, *chunks, *after), data.dtype, data)


def _whole(block: Block, n_before: int, n_after: int, dims: Mapping[str, int], old: Sequence[str]) -> Block:
    before, middle, after = _split(block.shape, n_before, n_after)
    return block.reshape(
        (*before, *_sizes(dims, math.prod(middle), old, lambda text: DataError(f"dims: {text}")), *after)
    )


def _reshaped(data: da.Array, n_before: int, n_after: int, sizes: tuple[int, ...]) -> da.Array:
    """Return ``data`` with the dims between the first ``n_before`` and the last ``n_after`` replaced by these sizes.

    The data is rechunked so that each block is contiguous in C order. Each block of the result is then contiguous, too,
    and is joined from the blocks that overlap it. (Rejected: ``dask.array.reshape``, which only splits or joins whole
    dims.)
    """
    middle = range(n_before, data.ndim - n_after)
    shape = tuple(data.shape[i] for i in middle)
    most = math.prod(max(data.chunks[i], default=1) for i in middle)
    own = tuple(data.chunks[i] for i in middle)
    if not _in_runs(own):
        own = _runs(shape, most)
        data = rechunked(data, dict(zip(middle, own, strict=True)))
    new = _runs(sizes, most)
    name = f"reshape-{tokenize(data.name, n_before, n_after, new)}"
    starts, ends = (np.cumsum([0, *map(math.prod, itertools.product(*c))]) for c in (own, new))
    n_blocks = _split(data.numblocks, n_before, n_after)
    befores, indices, afters = (list(itertools.product(*map(range, numbers))) for numbers in n_blocks)
    tasks: dict[Key, GraphNode] = {}
    for k, place in enumerate(itertools.product(*(range(len(c)) for c in new))):
        found = overlapping_blocks(starts, int(ends[k]), int(ends[k + 1])) or [(0, (0, 0))]
        here = tuple(c[i] for c, i in zip(new, place, strict=True))
        for before, after in itertools.product(befores, afters):
            several = listed(ref((data.name, *before, *indices[i], *after)) for i, _ in found)
            key = (name, *before, *place, *after)
            tasks[key] = task(key, _run, several, tuple(part for _, part in found), n_before, n_after, here)
    around = _split(data.chunks, n_before, n_after)
    return array_of_tasks(name, tasks, (*around[0], *new, *around[2]), data.dtype, data)


def _run(several: Sequence[Block], parts: Sequence[Part], n_before: int, n_after: int, shape: tuple[int, ...]) -> Block:
    flat = []
    for block in several:
        before, middle, after = _split(block.shape, n_before, n_after)
        flat.append(block.reshape((*before, math.prod(middle), *after)))
    before, _, after = _split(flat[0].shape, n_before, n_after)
    return join_parts(flat, parts, n_before).reshape((*before, *shape, *after))


def _split(values: Sequence[Any], n_before: int, n_after: int) -> tuple[tuple[Any, ...], ...]:
    stop = len(values) - n_after
    return tuple(values[:n_before]), tuple(values[n_before:stop]), tuple(values[stop:])


def _in_runs(chunks: Chunks) -> bool:
    """Return whether each block is contiguous in C order."""
    lone = 0  # number of first dims whose chunks have size 1
    while lone < len(chunks) and set(chunks[lone]) == {1}:
        lone += 1
    return all(len(sizes) == 1 for sizes in chunks[lone + 1 :])


def _runs(shape: tuple[int, ...], most: int) -> Chunks:
    """Return chunks of at most about ``most`` values that are contiguous in C order: sizes 1, 1, …, n, all, all, …"""
    if 0 in shape:
        return tuple((n,) for n in shape)
    rests = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    cut = next((i for i, rest in enumerate(rests) if rest <= most), 0)
    rows = max(most // rests[cut], 1) if shape else 1
    chunks = []
    for i, n in enumerate(shape):
        size = 1 if i < cut else rows if i == cut else n
        chunks.append(tuple(min(size, n - start) for start in range(0, n, size)))
    return tuple(chunks)


# ---------------------------------------------------------------------------------------------------------------------
# Positions
# ---------------------------------------------------------------------------------------------------------------------


def roll(x: xr.DataArray, *, shift: Mapping[str, int]) -> xr.DataArray:
    """Return the values shifted along dims, with those beyond the end coming in at the start; labels do not move.

    A dim of unknown length becomes one chunk.

    Raises
    ------
    OpError : no such dim
    """
    for dim, n in shift.items():
        axis = axis_of(x, dim, "shift")
        if has_unknown_length(x, dim):
            data = per_block(merge_chunks(x.data, axis), f"roll-{dim}", np.roll, n, axis)
        else:
            length = max(x.sizes[dim], 1)
            places = (np.arange(x.sizes[dim]) - n % length) % length
            data = at_positions(x.data, axis, places, x.data.chunks[axis], f"roll-{dim}")
        x = rebuild(x, data, x.dims)
    return x


def pad(
    x: xr.DataArray, *, pad_width: Mapping[str, Sequence[int]], mode: str = "constant", constant_values: float = 0
) -> xr.DataArray:
    """Return the array with positions added before and after it along dims, which lose their labels.

    For modes other than ``constant`` a dim of unknown length becomes one chunk.

    Parameters
    ----------
    pad_width : dim -> number of positions before and after
    mode : as in numpy: constant, edge, reflect, symmetric, wrap
    constant_values : the value of mode ``constant``

    Raises
    ------
    OpError : no such dim, a constant that the dtype cannot hold, or no values to repeat
    DataError : in the run, if a dim of unknown length has no values to repeat
    """
    constant = constant_of(constant_values, x.dtype, "constant_values") if mode == "constant" else None
    for dim, widths in pad_width.items():
        axis = axis_of(x, dim, "pad_width")
        before, after = widths
        if constant is not None:
            data = _between(x.data, axis, before, after, constant, f"pad-{dim}")
        elif has_unknown_length(x, dim):
            data = per_block(merge_chunks(x.data, axis), f"pad-{dim}", _padded, axis, (before, after), mode, dim)
        else:
            if not x.sizes[dim] and before + after:
                raise OpError("pad_width", f"{_no_repeating(dim, mode)}")
            places = np.pad(np.arange(x.sizes[dim]), (before, after), mode=mode)  # type: ignore[call-overload]
            chunks = tuple(n for n in (before, *x.data.chunks[axis], after) if n) or (0,)
            data = at_positions(x.data, axis, places, chunks, f"pad-{dim}")
        x = rebuild(x, data, x.dims, gone=[dim])
    return x


def _no_repeating(dim: str, mode: str) -> str:
    return f"{dim!r} has length 0, so there are no values for mode {mode}"


def _padded(block: Block, axis: int, widths: tuple[int, int], mode: str, dim: str) -> Block:
    if not block.shape[axis] and any(widths):
        raise DataError(_no_repeating(dim, mode))
    around = [widths if i == axis else (0, 0) for i in range(block.ndim)]
    return np.asarray(np.pad(block, around, mode=mode))  # type: ignore[call-overload]


def _between(data: da.Array, axis: int, before: int, after: int, constant: Block, name: str) -> da.Array:
    """Return the array with a chunk of the constant before and after it, of these lengths; no chunk of length 0."""
    name = f"{name}-{tokenize(data.name, axis, before, after, constant)}"
    own = [(n, k) for k, n in enumerate(data.chunks[axis]) if n]
    chunks = [(before, -1)] * (before > 0) + own + [(after, -1)] * (after > 0) or [(0, 0)]
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*map(range, replace_at(data.numblocks, axis, len(chunks)))):
        n, k = chunks[index[axis]]
        block = ref((data.name, *replace_at(index, axis, max(k, 0))))
        tasks[name, *index] = task((name, *index), *((_filled, block, axis, n, constant) if k < 0 else (_same, block)))
    return array_of_tasks(name, tasks, replace_at(data.chunks, axis, tuple(n for n, _ in chunks)), data.dtype, data)


def _same(block: Block) -> Block:
    return block


def _filled(block: Block, axis: int, n: int, constant: Block) -> Block:
    return np.full(replace_at(block.shape, axis, n), constant, block.dtype)
