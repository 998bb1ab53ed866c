"""Array operations that move values and compute none: ``transpose reshape pad roll``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import ConfigError
from pipeline.graph import GraphNode, Key, listed, ref, task
from pipeline.ops.dims import Axis, axes_of, blocks, dim_number, known_length, rebuilt
from pipeline.ops.pieces import Part, cuts, joined, pieces

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
    ConfigError : if ``dims`` are not all of the array's, each once
    """
    if dims is None:
        return x.transpose()
    for dim in dims:
        dim_number(x, dim, "dims")
    if sorted(dims) != sorted(map(str, x.dims)):
        raise ConfigError(f"dims: got {', '.join(dims)}; name each of {', '.join(map(str, x.dims))} once")
    return x.transpose(*dims)


def reshape(x: xr.DataArray, *, dims: Mapping[str, int], axis: Axis = None) -> xr.DataArray:
    """The values along ``axis``, read in C order (the last dim fastest), under new dims in the place of the first.

    Labels along ``axis`` are lost; the other dims keep theirs. Chunks that a new row would have to be put together
    from are joined: a rechunk.

    Parameters
    ----------
    dims : new dim -> size; one of them may be -1, which is whatever is left
    axis : dims that are replaced, in the order in which they are read; default: all

    Raises
    ------
    ConfigError : no such dim, a size that is known only in the run, or sizes that don't multiply to it
    """
    old = [str(dim) for dim in x.dims] if axis is None else [axis] if isinstance(axis, str) else list(axis)
    axes_of(x, old)
    if len(set(old)) < len(old):
        raise ConfigError(f"axis: got {', '.join(old)}; name each dim once")
    others = [str(dim) for dim in x.dims if dim not in old]
    for dim in dims:
        if dim in others:
            raise ConfigError(f"dims: {dim!r} is a dim of the array already, and not among those that are replaced")
    sizes = _sizes(dims, math.prod(known_length(x, dim, "axis") for dim in old), old)
    at = min((dim_number(x, dim) for dim in old), default=0)
    before = [dim for dim in others if dim_number(x, dim) < at]
    after = [dim for dim in others if dim not in before]
    x = x.transpose(*before, *old, *after)
    data = _reshaped(x.data, len(before), len(after), sizes)
    return rebuilt(x, data, [*before, *dims, *after], gone=[*old, *dims])


def _sizes(dims: Mapping[str, int], total: int, old: Sequence[str]) -> tuple[int, ...]:
    free = [dim for dim, n in dims.items() if n == -1]
    if len(free) > 1:
        raise ConfigError(f"dims: {' and '.join(free)} are -1; only one size can be what is left")
    fixed = math.prod(n for n in dims.values() if n != -1)
    if free and fixed and total % fixed == 0:
        return tuple(total // fixed if n == -1 else n for n in dims.values())
    if free or fixed != total:
        wanted = " x ".join("?" if n == -1 else str(n) for n in dims.values()) or "1"
        raise ConfigError(f"dims: got {wanted}, and {' x '.join(old) or 'the one number'} has {total:,} values")
    return tuple(dims.values())


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
        data = data.rechunk(dict(zip(middle, own, strict=True)), method="tasks")
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

    Raises
    ------
    ConfigError : no such dim, or a length that is known only in the run
    """
    for dim, n in shift.items():
        axis, length = dim_number(x, dim, "shift"), known_length(x, dim, "shift")
        places = (np.arange(length) - n) % max(length, 1)
        x = rebuilt(x, _moved(x.data, axis, places, x.data.chunks[axis], f"roll-{dim}"), x.dims)
    return x


def pad(
    x: xr.DataArray, *, pad_width: Mapping[str, Sequence[int]], mode: str = "constant", constant_values: float = 0
) -> xr.DataArray:
    """The array with positions added before and after it along dims; they have no labels, so these dims lose theirs.

    Parameters
    ----------
    pad_width : dim -> how many before, how many after
    mode : as numpy's: constant, edge, reflect, symmetric, wrap
    constant_values : of ``constant``, in the array's dtype

    Raises
    ------
    ConfigError : no such dim, a constant that the dtype does not hold, or nothing to repeat
    """
    constant = _constant(constant_values, x.dtype) if mode == "constant" else None
    for dim, (before, after) in pad_width.items():
        axis, length = dim_number(x, dim, "pad_width"), known_length(x, dim, "pad_width")
        if not length and before + after and mode != "constant":
            raise ConfigError(f"pad_width: {dim!r} has length 0, and nothing that {mode} could repeat")
        if mode == "constant":
            places = np.concatenate([np.full(before, -1), np.arange(length), np.full(after, -1)])
        else:
            places = np.pad(np.arange(length), (before, after), mode=mode)  # type: ignore[call-overload]
        chunks = tuple(n for n in (before, *x.data.chunks[axis], after) if n) or (0,)
        data = _moved(x.data, axis, places, chunks, f"pad-{dim}", constant)
        x = rebuilt(x, data, x.dims, gone=[dim])
    return x


def _constant(value: float, dtype: np.dtype[Any]) -> Block:
    """The value in the array's dtype.

    Raises
    ------
    ConfigError : if it would be another one there
    """
    with np.errstate(all="ignore"):
        found = np.asarray(value).astype(dtype) if dtype.kind in "biufc" else None
    if found is None or not (dtype.kind in "fc" or found == value):
        raise ConfigError(f"constant_values: got {value}, which an array of {dtype} does not hold")
    return found


def _moved(
    data: da.Array, axis: int, places: Block, chunks: tuple[int, ...], name: str, constant: Block | None = None
) -> da.Array:
    """For each position along ``axis`` the values of the position in ``places``; a chunk of -1 is the constant."""
    name = f"{name}-{tokenize(data.name, axis, places, chunks, constant)}"
    tasks: dict[Key, GraphNode] = {}
    for k, (start, stop) in enumerate(itertools.pairwise(itertools.accumulate(chunks, initial=0))):
        wanted = places[start:stop]
        is_constant = bool(len(wanted)) and wanted[0] < 0
        spans, order = ([], None) if is_constant else _spans(wanted)
        for index in itertools.product(*(range(n) if i != axis else [k] for i, n in enumerate(data.numblocks))):
            key = (name, *index)
            several = pieces(data, index, axis, *spans)
            if is_constant:
                tasks[key] = task(key, _filled, *several, axis, len(wanted), constant)
            else:
                tasks[key] = task(key, _placed, *several, axis, order)
    grid = tuple(chunks if i == axis else own for i, own in enumerate(data.chunks))
    return blocks(name, tasks, grid, data.dtype, data)


def _spans(wanted: Block) -> tuple[list[tuple[int, int]], Block | None]:
    """The spans that hold some positions, rising, and where each of these lies in them; None: in that order."""
    positions, order = np.unique(wanted, return_inverse=True)
    cuts = np.flatnonzero(np.diff(positions) > 1) + 1
    spans = [(int(run[0]), int(run[-1]) + 1) for run in np.split(positions, cuts) if len(run)]
    return spans, None if np.array_equal(order, np.arange(len(order))) else order


def _placed(several: Sequence[Block], parts: Sequence[Part], axis: int, order: Block | None) -> Block:
    found = joined(several, parts, axis)
    return found if order is None else np.take(found, order, axis=axis)


def _filled(several: Sequence[Block], parts: Sequence[Part], axis: int, n: int, constant: Block) -> Block:
    found = joined(several, parts, axis)
    return np.full((*found.shape[:axis], n, *found.shape[axis + 1 :]), constant, found.dtype)
