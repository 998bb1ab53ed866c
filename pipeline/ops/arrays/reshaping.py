"""Array operations that move values and compute none: ``transpose reshape pad roll``."""

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
from pipeline.graph.graph import GraphNode, Key, listed, ref, task
from pipeline.ops.arrays.block_tasks import Part, blocks, cuts, joined, per_block, pieces, placed, rechunked
from pipeline.ops.arrays.dims import Axis, axes_of, dim_number, is_late, one_chunk, rebuilt
from pipeline.ops.arrays.unknown_chunks import merged

__all__ = ["pad", "reshape", "roll", "transpose"]

Block = np.ndarray[Any, Any]
Chunks = tuple[tuple[int, ...], ...]


# ---------------------------------------------------------------------------------------------------------------------
# Dims
# ---------------------------------------------------------------------------------------------------------------------


def transpose(x: xr.DataArray, *, dims: Sequence[str] | None = None) -> xr.DataArray:
    """The same array with its dims in another order; without ``dims`` in the opposite one.

    Raises
    ------
    OpError : if ``dims`` are not all of the array's, each once
    """
    if dims is None:
        return x.transpose()
    for dim in dims:
        dim_number(x, dim, "dims")
    if sorted(dims) != sorted(map(str, x.dims)):
        raise OpError("dims", f"got {', '.join(dims)}; name each of {', '.join(map(str, x.dims))} once")
    return x.transpose(*dims)


def reshape(x: xr.DataArray, *, dims: Mapping[str, int], axis: Axis = None) -> xr.DataArray:
    """The values along ``axis``, read in C order (the last dim fastest), under new dims in the place of the first.

    Labels along ``axis`` are lost; the other dims keep theirs. Chunks that a new row would have to be put together
    from are joined: a rechunk. Where only the run knows how many values there are, they become one chunk, unless there
    is one new dim alone: then each chunk of the first old one becomes one of it.

    Parameters
    ----------
    dims : new dim -> size; one of them may be -1, which is whatever is left
    axis : dims that are replaced, in the order in which they are read; default: all

    Raises
    ------
    OpError : no such dim, or sizes that don't multiply to the old ones
    DataError : in the run, if only that knows the old ones, and the new ones don't multiply to them
    """
    old = [str(dim) for dim in x.dims] if axis is None else [axis] if isinstance(axis, str) else list(axis)
    axes_of(x, old)
    if len(set(old)) < len(old):
        raise OpError("axis", f"got {', '.join(old)}; name each dim once")
    others = [str(dim) for dim in x.dims if dim not in old]
    for dim in dims:
        if dim in others:
            raise OpError("dims", f"{dim!r} is a dim of the array already, and not among those that are replaced")
    free = [dim for dim, n in dims.items() if n == -1]
    if len(free) > 1:
        raise OpError("dims", f"{' and '.join(free)} are -1; only one size can be what is left")
    late = any(is_late(x, dim) for dim in old)
    sizes = (
        () if late else _sizes(dims, math.prod(x.sizes[dim] for dim in old), old, functools.partial(OpError, "dims"))
    )
    at = min((dim_number(x, dim) for dim in old), default=0)
    before = [dim for dim in others if dim_number(x, dim) < at]
    after = [dim for dim in others if dim not in before]
    x = x.transpose(*before, *old, *after)
    if late:
        x = one_chunk(x, old[1:] if list(dims.values()) == [-1] else old)
        data = _reshaped_late(x.data, len(before), len(after), dims, old)
    else:
        data = _reshaped(x.data, len(before), len(after), sizes)
    return rebuilt(x, data, [*before, *dims, *after], gone=[*old, *dims])


def _sizes(
    dims: Mapping[str, int], total: int, old: Sequence[str], fault: Callable[[str], Exception]
) -> tuple[int, ...]:
    """The sizes of ``dims``, -1 being whatever is left of ``total`` values; raises ``fault`` if they don't fit."""
    free = -1 in dims.values()
    fixed = math.prod(n for n in dims.values() if n != -1)
    if free and fixed and total % fixed == 0:
        return tuple(total // fixed if n == -1 else n for n in dims.values())
    if free or fixed != total:
        wanted = " x ".join("?" if n == -1 else str(n) for n in dims.values()) or "1"
        raise fault(f"got {wanted}, and {' x '.join(old) or 'the one number'} has {total:,} values")
    return tuple(dims.values())


def _reshaped_late(
    data: da.Array, n_before: int, n_after: int, dims: Mapping[str, int], old: Sequence[str]
) -> da.Array:
    """Like :func:`_reshaped`, block by block, of which there are several along the first dim that goes at most."""
    name = f"reshape-{tokenize(data.name, n_before, n_after, dims)}"
    before, _, after = _split(data.chunks, n_before, n_after)
    chunks = tuple((np.nan,) * data.numblocks[n_before] if n == -1 else (n,) for n in dims.values())
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*map(range, data.numblocks)):
        head, middle, tail = _split(index, n_before, n_after)
        key = (name, *head, *(middle[0] if n == -1 else 0 for n in dims.values()), *tail)
        tasks[key] = task(key, _whole, ref((data.name, *index)), n_before, n_after, dict(dims), tuple(old))
    return blocks(name, tasks, (*before, *chunks, *after), data.dtype, data)


def _whole(block: Block, n_before: int, n_after: int, dims: Mapping[str, int], old: Sequence[str]) -> Block:
    before, middle, after = _split(block.shape, n_before, n_after)
    return block.reshape(
        (*before, *_sizes(dims, math.prod(middle), old, lambda text: DataError(f"dims: {text}")), *after)
    )


def _reshaped(data: da.Array, n_before: int, n_after: int, sizes: tuple[int, ...]) -> da.Array:
    """``data`` with the dims between the first ``n_before`` and the last ``n_after`` of these sizes.

    Its blocks are made to hold runs of the values in C order; then each block of the result is a run, too, put together
    from those that overlap it. (Rejected: ``dask.array.reshape``, which takes only shapes that split or join whole
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
        found = cuts(starts, int(ends[k]), int(ends[k + 1])) or [(0, (0, 0))]
        here = tuple(c[i] for c, i in zip(new, place, strict=True))
        for before, after in itertools.product(befores, afters):
            several = listed(ref((data.name, *before, *indices[i], *after)) for i, _ in found)
            key = (name, *before, *place, *after)
            tasks[key] = task(key, _run, several, tuple(part for _, part in found), n_before, n_after, here)
    around = _split(data.chunks, n_before, n_after)
    return blocks(name, tasks, (*around[0], *new, *around[2]), data.dtype, data)


def _run(several: Sequence[Block], parts: Sequence[Part], n_before: int, n_after: int, shape: tuple[int, ...]) -> Block:
    flat = []
    for block in several:
        before, middle, after = _split(block.shape, n_before, n_after)
        flat.append(block.reshape((*before, math.prod(middle), *after)))
    before, _, after = _split(flat[0].shape, n_before, n_after)
    return joined(flat, parts, n_before).reshape((*before, *shape, *after))


def _split(values: Sequence[Any], n_before: int, n_after: int) -> tuple[tuple[Any, ...], ...]:
    stop = len(values) - n_after
    return tuple(values[:n_before]), tuple(values[n_before:stop]), tuple(values[stop:])


def _in_runs(chunks: Chunks) -> bool:
    """Whether blocks in the order of their indices hold the values in C order."""
    lone = 0  # dims at the front whose chunks have size 1
    while lone < len(chunks) and set(chunks[lone]) == {1}:
        lone += 1
    return all(len(sizes) == 1 for sizes in chunks[lone + 1 :])


def _runs(shape: tuple[int, ...], most: int) -> Chunks:
    """Chunks that hold runs of the values in C order, about ``most`` each: 1, 1, …, so many, all, all, …"""
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
# Places
# ---------------------------------------------------------------------------------------------------------------------


def roll(x: xr.DataArray, *, shift: Mapping[str, int]) -> xr.DataArray:
    """The values moved on along dims, those beyond the end coming in at the start; labels stay where they are.

    A dim whose length only the run knows becomes one chunk.

    Raises
    ------
    OpError : no such dim
    """
    for dim, n in shift.items():
        axis = dim_number(x, dim, "shift")
        if is_late(x, dim):
            data = per_block(merged(x.data, axis), f"roll-{dim}", np.roll, n, axis)
        else:
            places = (np.arange(x.sizes[dim]) - n) % max(x.sizes[dim], 1)
            data = _moved(x.data, axis, places, x.data.chunks[axis], f"roll-{dim}")
        x = rebuilt(x, data, x.dims)
    return x


def pad(
    x: xr.DataArray, *, pad_width: Mapping[str, Sequence[int]], mode: str = "constant", constant_values: float = 0
) -> xr.DataArray:
    """The array with positions added before and after it along dims; they have no labels, so these dims lose theirs.

    For another mode than ``constant`` a dim whose length only the run knows becomes one chunk.

    Parameters
    ----------
    pad_width : dim -> how many before, how many after
    mode : as numpy's: constant, edge, reflect, symmetric, wrap
    constant_values : of ``constant``, in the array's dtype

    Raises
    ------
    OpError : no such dim, a constant that the dtype does not hold, or nothing to repeat
    DataError : in the run, if only that knows that there is nothing to repeat
    """
    constant = _constant(constant_values, x.dtype) if mode == "constant" else None
    for dim, widths in pad_width.items():
        axis = dim_number(x, dim, "pad_width")
        before, after = widths
        if constant is not None:
            data = _between(x.data, axis, before, after, constant, f"pad-{dim}")
        elif is_late(x, dim):
            data = per_block(merged(x.data, axis), f"pad-{dim}", _padded, axis, (before, after), mode, dim)
        else:
            if not x.sizes[dim] and before + after:
                raise OpError("pad_width", f"{_no_repeating(dim, mode)}")
            places = np.pad(np.arange(x.sizes[dim]), (before, after), mode=mode)  # type: ignore[call-overload]
            chunks = tuple(n for n in (before, *x.data.chunks[axis], after) if n) or (0,)
            data = _moved(x.data, axis, places, chunks, f"pad-{dim}")
        x = rebuilt(x, data, x.dims, gone=[dim])
    return x


def _no_repeating(dim: str, mode: str) -> str:
    return f"{dim!r} has length 0, and nothing that {mode} could repeat"


def _padded(block: Block, axis: int, widths: tuple[int, int], mode: str, dim: str) -> Block:
    if not block.shape[axis] and any(widths):
        raise DataError(_no_repeating(dim, mode))
    around = [widths if i == axis else (0, 0) for i in range(block.ndim)]
    return np.asarray(np.pad(block, around, mode=mode))  # type: ignore[call-overload]


def _between(data: da.Array, axis: int, before: int, after: int, constant: Block, name: str) -> da.Array:
    """The array between two chunks of the constant, of so many positions; none of 0."""
    name = f"{name}-{tokenize(data.name, axis, before, after, constant)}"
    own = [(n, k) for k, n in enumerate(data.chunks[axis]) if n]
    chunks = [(before, -1)] * (before > 0) + own + [(after, -1)] * (after > 0) or [(0, 0)]
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*map(range, placed(data.numblocks, axis, len(chunks)))):
        n, k = chunks[index[axis]]
        block = ref((data.name, *placed(index, axis, max(k, 0))))
        tasks[name, *index] = task((name, *index), *((_filled, block, axis, n, constant) if k < 0 else (_same, block)))
    return blocks(name, tasks, placed(data.chunks, axis, tuple(n for n, _ in chunks)), data.dtype, data)


def _same(block: Block) -> Block:
    return block


def _filled(block: Block, axis: int, n: int, constant: Block) -> Block:
    return np.full(placed(block.shape, axis, n), constant, block.dtype)


def _constant(value: float, dtype: np.dtype[Any]) -> Block:
    """The value in the array's dtype.

    Raises
    ------
    OpError : if it would be another one there
    """
    with np.errstate(all="ignore"):
        found = np.asarray(value).astype(dtype) if dtype.kind in "biufc" else None
    if found is None or not (dtype.kind in "fc" or found == value):
        raise OpError("constant_values", f"got {value}, which an array of {dtype} does not hold")
    return found


def _moved(data: da.Array, axis: int, places: Block, chunks: tuple[int, ...], name: str) -> da.Array:
    """For each position along ``axis`` the values of the position in ``places``."""
    name = f"{name}-{tokenize(data.name, axis, places, chunks)}"
    tasks: dict[Key, GraphNode] = {}
    for k, (start, stop) in enumerate(itertools.pairwise(itertools.accumulate(chunks, initial=0))):
        spans, order = _spans(places[start:stop])
        for index in itertools.product(*(range(n) if i != axis else [k] for i, n in enumerate(data.numblocks))):
            key = (name, *index)
            tasks[key] = task(key, _placed, *pieces(data, index, axis, *spans), axis, order)
    return blocks(name, tasks, placed(data.chunks, axis, chunks), data.dtype, data)


def _spans(wanted: Block) -> tuple[list[tuple[int, int]], Block | None]:
    """The spans that hold some positions, rising, and where each of these lies in them; None: in that order."""
    positions, order = np.unique(wanted, return_inverse=True)
    cuts = np.flatnonzero(np.diff(positions) > 1) + 1
    spans = [(int(run[0]), int(run[-1]) + 1) for run in np.split(positions, cuts) if len(run)]
    return spans, None if np.array_equal(order, np.arange(len(order))) else order


def _placed(several: Sequence[Block], parts: Sequence[Part], axis: int, order: Block | None) -> Block:
    found = joined(several, parts, axis)
    return found if order is None else np.take(found, order, axis=axis)
