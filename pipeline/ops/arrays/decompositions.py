"""Factorisations of matrices: ``svd svd_compressed qr``.

All three bring the rows together in a tree: each chunk of rows is factorised, the small factors of up to eight are
stacked and factorised again, and what the last one finds is multiplied back down (Demmel et al., "Communication-optimal
parallel and sequential QR"). So the number of rows may be known in the run only, and no task holds more than one chunk
or eight small factors. (Rejected: dask's ``tsqr``, which stacks the factors of all chunks in one task, and hands a
single chunk to ``delayed``.)

Factors are unique up to signs only, so signs are fixed: what chunks there are does not show.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.ops.arrays.block_tasks import array_of_tasks, rechunked
from pipeline.ops.arrays.contraction import contract
from pipeline.ops.arrays.dims import axis_of, has_unknown_length, one_chunk, rebuild, require_numbers
from pipeline.ops.collections import Parts

__all__ = ["qr", "svd", "svd_compressed"]

Block = np.ndarray[Any, Any]

_FAN_IN = 8
"""Number of small factors that one task stacks."""
_OVERSAMPLES = 10
"""Random directions beyond ``k``: Halko, Martinsson, Tropp, "Finding structure with randomness", section 4.2."""


def qr(x: xr.DataArray) -> Parts:
    """Return the thin QR: parts ``q`` (row, component) and ``r`` (component, col), the diagonal of r >= 0.

    The columns are rechunked to one chunk.

    Raises
    ------
    OpError : if the array does not have two dims
    """
    row, col = _two_dims(x, "qr")
    x = one_chunk(x, [col])
    q, r = _tree(_floats(x), _qr_root, ("q", "r"))
    return _parts(x, {"q": (q, [row, "component"]), "r": (r, ["component", col])})


def svd(x: xr.DataArray) -> Parts:
    """Return the thin SVD: parts ``u`` (row, component), ``s`` (component), ``v`` (component, col).

    The columns are rechunked to one chunk. In each column of ``u`` the entry of largest magnitude (the first of those
    equal up to rounding) is positive, so that signs do not depend on the chunks.

    Raises
    ------
    OpError : if the array does not have two dims
    """
    row, col = _two_dims(x, "svd")
    x = one_chunk(x, [col])
    u, s, v = _signed(*_tree(_floats(x), _svd_root, ("u", "s", "v")))
    return _parts(x, {"u": (u, [row, "component"]), "s": (s, ["component"]), "v": (v, ["component", col])})


def svd_compressed(
    x: xr.DataArray,
    *,
    k: int,
    axis: Sequence[str] | None = None,
    n_power_iter: int = 2,
    n_oversamples: int = _OVERSAMPLES,
    seed: int = 0,
) -> Parts:
    """Return the ``k`` largest singular values and their vectors, with parts as :func:`svd`, by random projection.

    The input is read ``2 * n_power_iter + 2`` times, and no task holds more than one chunk of it. The random matrix
    depends on ``seed`` alone. The number of columns must be known before the run.

    Parameters
    ----------
    axis : the dims of rows and of columns; None: the dims of the array in order
    n_power_iter : power iterations; more are needed where singular values decrease slowly

    Raises
    ------
    OpError : not two dims, or ``k`` larger than one of them
    DataError : in the run, if there are fewer rows than ``k``, or values are missing
    """
    row, col = _two_dims(x, "svd_compressed", axis)
    x = x.transpose(row, col)
    if has_unknown_length(x, col):
        hint = f"make it the dim of the rows: axis: [{col}, {row}]"
        raise OpError("axis", f"the length of {col!r}, the dim of the columns, is unknown until run time; {hint}")
    n = x.sizes[col]
    for size, dim in zip(x.shape, (row, col), strict=True):
        if k > size:
            raise OpError("k", f"got {k}, but {dim!r} has {int(size)} positions")
    data = _floats(x)
    width = min(k + n_oversamples, n)
    q = _orthonormal(contract([data, _directions(data, width, seed)], ["rc", "cq"], "rq"))
    for _ in range(n_power_iter):
        across = _orthonormal(contract([_conjugated(data), q], ["rc", "rq"], "cq"))
        q = _orthonormal(contract([data, across], ["rc", "cq"], "rq"))
    small = rechunked(contract([_conjugated(q), data], ["rq", "rc"], "qc"), {1: -1})
    turned, s, v = _truncated(small, k)
    u, s, v = _signed(contract([q, turned], ["rq", "qk"], "rk"), s, v)
    return _parts(x, {"u": (u, [row, "component"]), "s": (s, ["component"]), "v": (v, ["component", col])})


def _two_dims(x: xr.DataArray, op: str, axis: Sequence[str] | None = None) -> tuple[str, str]:
    if x.ndim != 2:
        raise OpError("input", f"{op} needs two dims, got {', '.join(map(str, x.dims)) or 'none'}")
    require_numbers(x, op)
    row, col = axis or map(str, x.dims)
    for dim in (row, col):
        axis_of(x, dim, "axis")
    if row == col:
        raise OpError("axis", f"got {row!r} twice; write the dim of the rows, then the dim of the columns")
    return row, col


def _floats(x: xr.DataArray) -> da.Array:
    kept = x.dtype in (np.float32, np.float64) or x.dtype.kind == "c"
    data: da.Array = x.data if kept else x.data.astype(np.float64)
    return data


def _conjugated(x: da.Array) -> da.Array:
    return da.conj(x) if x.dtype.kind == "c" else x


def _parts(x: xr.DataArray, parts: dict[str, tuple[da.Array, list[Hashable]]]) -> Parts:
    found = {name: rebuild(x, data, dims, attrs=False) for name, (data, dims) in parts.items()}
    return Parts({name: part.rename(None) for name, part in found.items()})


# ---------------------------------------------------------------------------------------------------------------------
# The tree
# ---------------------------------------------------------------------------------------------------------------------


def _tree(x: da.Array, root: Callable[[Block], tuple[Block, ...]], names: tuple[str, ...]) -> list[da.Array]:
    """Decompose a matrix whose columns are one chunk: QR of stacked blocks level by level, ``root`` at the last.

    Parameters
    ----------
    root : decomposes the last stack, shape (rows, columns), into a factor with as many rows and others

    Returns
    -------
    the first factor of the whole matrix, in the chunks of its rows, then the other factors of the root
    """
    token = tokenize(x.name, names)
    tasks: dict[Key, GraphNode] = {}
    stacks: list[list[Key]] = [[(x.name, i, 0)] for i in range(x.numblocks[0])]
    climbed: list[tuple[list[Key], list[int]]] = []  # per level the decompositions, and how many blocks each one stacks
    while True:
        depth, last = len(climbed), len(stacks) == 1
        made: list[Key] = [(f"{names[0]}-climb-{depth}-{token}", number) for number in range(len(stacks))]
        for key, members in zip(made, stacks, strict=True):
            tasks[key] = task(key, _climbed, listed(map(ref, members)), root if last else _qr_root)
        climbed.append((made, [len(members) for members in stacks]))
        if last:
            return _descended(x, tasks, climbed, names, token)
        small: list[Key] = [(f"{names[0]}-small-{depth}-{token}", number) for number in range(len(made))]
        tasks |= {own: task(own, operator.getitem, ref(key), 1) for own, key in zip(small, made, strict=True)}
        stacks = [small[i : i + _FAN_IN] for i in range(0, len(small), _FAN_IN)]


def _climbed(several: list[Block], function: Callable[[Block], tuple[Block, ...]]) -> tuple[Any, ...]:
    """Return the factors of a stack of blocks, the first one split into the rows of each block."""
    stack = several[0] if len(several) == 1 else np.concatenate(several)
    first, *others = function(stack)
    ends = np.cumsum([len(each) for each in several])[:-1]
    return (np.split(first, ends), *others)


def _descended(
    x: da.Array,
    tasks: dict[Key, GraphNode],
    climbed: list[tuple[list[Key], list[int]]],
    names: tuple[str, ...],
    token: str,
) -> list[da.Array]:
    """Multiply the first factors from the root down to the chunks; return arrays of all factors."""
    above: list[tuple[Key, int]] = []  # for each decomposition of a level: its parent's key, and which piece of it
    for depth in reversed(range(len(climbed))):
        made, sizes = climbed[depth]
        pieces: list[tuple[Key, int]] = []
        for number, (key, size) in enumerate(zip(made, sizes, strict=True)):
            whole: Key = key
            if above and depth:
                whole = (f"{names[0]}-descend-{depth}-{token}", number)
                tasks[whole] = task(whole, _multiplied, ref(key), ref(above[number][0]), above[number][1])
            pieces += [(whole, i) for i in range(size)]
        above = pieces if depth else above
    first = f"{names[0]}-{token}"
    leaves = climbed[0][0]
    for i, key in enumerate(leaves):
        further = (ref(above[i][0]), above[i][1]) if above else ()
        tasks[first, i, 0] = task((first, i, 0), _rows, ref(key), *further)
    n = x.shape[1]
    k = x.shape[0] if x.shape[0] < n else n if x.shape[0] >= n else np.nan
    (root,) = climbed[-1][0]
    real = np.dtype(x.dtype.char.lower()) if x.dtype.kind == "c" else x.dtype
    found = [array_of_tasks(first, tasks, (x.chunks[0], (k,)), x.dtype, x)]
    for place, name in enumerate(names[1:], 1):
        layer, flat = f"{name}-{token}", name == "s"
        key = (layer, 0) if flat else (layer, 0, 0)
        own = {**tasks, key: task(key, operator.getitem, ref(root), place)}
        found.append(array_of_tasks(layer, own, ((k,),) if flat else ((k,), (n,)), real if flat else x.dtype, x))
    return found


def _multiplied(own: tuple[Any, ...], above: tuple[Any, ...], piece: int) -> tuple[list[Block]]:
    factor = above[0][piece]
    return ([each @ factor for each in own[0]],)


def _rows(own: tuple[Any, ...], above: tuple[Any, ...] | None = None, piece: int = 0) -> Block:
    """Return the rows of one chunk in the first factor."""
    (rows,) = own[0] if above is None else _multiplied(own, above, piece)[0]
    return np.asarray(rows)


def _qr_root(stack: Block) -> tuple[Block, ...]:
    """Return Q and R of a matrix, the diagonal of R >= 0."""
    _require_finite(stack)
    q, r = np.linalg.qr(stack)
    diagonal = np.diagonal(r)
    signs = np.where(diagonal == 0, 1, np.sign(diagonal)).astype(r.dtype)
    return q * signs, r * np.conj(signs)[:, None]


def _svd_root(stack: Block) -> tuple[Block, ...]:
    _require_finite(stack)
    u, s, v = np.linalg.svd(stack, full_matrices=False)
    return u, s, v


def _require_finite(matrix: Block) -> None:
    if not np.isfinite(matrix).all():
        raise DataError("the matrix has missing or infinite values; fill them, or drop these rows")


def _orthonormal(x: da.Array) -> da.Array:
    """Return an orthonormal basis of the columns; it has fewer columns where there are fewer rows, known in the run."""
    q = _tree(x, _qr_root, ("q", "r"))[0]
    return q if x.shape[0] == x.shape[0] else da.Array(q.dask, q.name, (q.chunks[0], x.chunks[1]), dtype=q.dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Random directions
# ---------------------------------------------------------------------------------------------------------------------


def _directions(x: da.Array, width: int, seed: int) -> da.Array:
    """Return random directions, shape (columns, width); the numbers do not depend on the chunks."""
    sizes = x.chunks[1]
    edges = np.cumsum([0, *sizes])
    name = f"directions-{tokenize(sizes, width, seed, str(x.dtype))}"
    tasks: dict[Key, GraphNode] = {}
    for i in range(len(sizes)):
        span = (int(edges[i]), int(edges[i + 1]))
        tasks[name, i, 0] = task((name, i, 0), _drawn, seed, int(edges[-1]), width, span, x.dtype)
    return da.Array(tasks, name, (sizes, (width,)), dtype=x.dtype)


def _drawn(seed: int, n: int, width: int, span: tuple[int, int], dtype: np.dtype[Any]) -> Block:
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    drawn: Block = generator.normal(size=(n, width))[slice(*span)].astype(dtype)
    return drawn


def _truncated(small: da.Array, k: int) -> tuple[da.Array, da.Array, da.Array]:
    """Return the ``k`` largest singular values and their vectors of a matrix in one chunk."""
    token = tokenize(small.name, k)
    whole: Key = (f"svd-small-{token}",)
    tasks: dict[Key, GraphNode] = {whole: task(whole, _largest_values, ref((small.name, 0, 0)), k)}
    rows, columns = small.chunks
    real = np.dtype(small.dtype.char.lower()) if small.dtype.kind == "c" else small.dtype
    found = []
    grids = {"turned": (rows, (k,)), "s": ((k,),), "v": ((k,), columns)}
    for place, (name, chunks) in enumerate(grids.items()):
        layer = f"{name}-{token}"
        key = (layer, *(0 for _ in chunks))
        dtype = real if name == "s" else small.dtype
        own = {**tasks, key: task(key, operator.getitem, ref(whole), place)}
        found.append(array_of_tasks(layer, own, chunks, dtype, small))
    turned, s, v = found
    return turned, s, v


def _largest_values(small: Block, k: int) -> tuple[Block, ...]:
    u, s, v = _svd_root(small)
    if len(s) < k:
        raise DataError(f"got {len(s)} rows, too few for k: {k} components")
    return u[:, :k], s[:k], v[:k]


# ---------------------------------------------------------------------------------------------------------------------
# Signs
# ---------------------------------------------------------------------------------------------------------------------


def _signed(u: da.Array, s: da.Array, v: da.Array) -> tuple[da.Array, da.Array, da.Array]:
    signs = _signs(u)
    u = da.blockwise(np.multiply, "rc", u, "rc", signs, "c", dtype=u.dtype, align_arrays=False)
    v = da.blockwise(_times_rows, "ck", v, "ck", signs, "c", dtype=v.dtype, align_arrays=False)
    return u, s, v


def _signs(u: da.Array) -> da.Array:
    """Return for each column of ``u`` the sign of its entry of largest magnitude."""
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
    return array_of_tasks(name, tasks, (u.chunks[1],), u.dtype, u)


def _sizes(u: Block) -> Block:
    return np.asarray(np.max(np.abs(u), axis=0, initial=0))


def _largest(sizes: list[Block]) -> Block:
    return np.asarray(np.max(np.stack(sizes), axis=0))


def _first_signs(u: Block, largest: Block) -> Block:
    """Return the sign of the first entry of largest magnitude; 0 for a column without one in this block."""
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
