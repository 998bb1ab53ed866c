"""Sums of products of arrays over named axes, for ``matmul``, ``tensordot``, ``einsum`` and the decompositions.

A task multiplies the chunks at one position. If an axis that is summed over has several chunks, the products are summed
in a tree, always in the same order. Sums of whole numbers are exact, as in :mod:`pipeline.ops.arrays.sums`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from pipeline.ops.arrays.dims import take_first
from pipeline.ops.arrays.sums import settled, sum_dtype, sum_of_blocks
from pipeline.ops.arrays.unknown_chunks import require_equal_chunks
from pipeline.ops.elementwise.alignment import align_chunks
from pipeline.ops.whole_numbers import bounds, common_dtype

__all__ = ["contract", "product_dtype"]

Block = np.ndarray[Any, Any]


def product_dtype(arrays: Sequence[Any]) -> np.dtype[Any]:
    """Return the dtype of a sum of products: the common dtype, or int64 for small integers and booleans."""
    return sum_dtype(common_dtype(*(x.dtype for x in arrays)))


def contract(arrays: Sequence[da.Array], labels: Sequence[Sequence[str]], result: Sequence[str]) -> da.Array:
    """Return the sum of the products over all axes whose names are not in ``result``.

    Parameters
    ----------
    labels : names of the axes of each array; unique within an array
    result : names of the axes of the result, in order; each is in one of the arrays

    Raises
    ------
    DataError : in the run, if lengths that are unknown before it differ
    """
    names = list(dict.fromkeys([*result, *(label for own in labels for label in own)]))
    places = [tuple(names.index(label) for label in own) for own in labels]
    kind = product_dtype(arrays)
    kept, gone = tuple(range(len(result))), tuple(range(len(result), len(names)))
    arrays = align_chunks(list(arrays), places)
    several = tuple(i for i in gone if any(i in p and x.numblocks[p.index(i)] > 1 for x, p in _pairs(arrays, places)))
    products: da.Array = da.blockwise(
        _product,
        (*kept, *several),
        *(item for pair in _pairs(arrays, places) for item in pair),
        places=tuple(places),
        dims=tuple(names),
        kept=kept,
        width=len(several),
        kind=kind,
        concatenate=True,
        adjust_chunks=dict.fromkeys(several, 1),
        align_arrays=False,
        dtype=kind,
        meta=np.empty((0,) * (len(kept) + len(several)), kind),
    )
    if not several:
        return products
    axes = tuple(range(len(kept), products.ndim))
    return take_first(sum_of_blocks(products, axes, dtype=kind), axes)


def _pairs(arrays: Sequence[da.Array], places: Sequence[tuple[int, ...]]) -> list[tuple[da.Array, tuple[int, ...]]]:
    return list(zip(arrays, places, strict=True))


def _product(
    *several: Block,
    places: tuple[tuple[int, ...], ...],
    dims: tuple[str, ...],
    kept: tuple[int, ...],
    width: int,
    kind: np.dtype[Any],
) -> Block:
    """Return the sum of products of one chunk of each array, with ``width`` axes of length 1 at the end."""
    require_equal_chunks(several, places, dims)
    multiply = partial(_multiplied, places=places, kept=kept)
    blocks = [np.asarray(block) for block in several]
    if kind.kind in "iu":
        lengths = {
            i: n for block, place in zip(blocks, places, strict=True) for i, n in zip(place, block.shape, strict=True)
        }
        found = _exact_product(blocks, multiply, math.prod(n for i, n in lengths.items() if i not in kept), kind)
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            found = multiply([block.astype(kind, copy=False) for block in blocks])
    return (found if width else settled(found, kind)).reshape((*found.shape, *(1,) * width))


def _exact_product(
    blocks: Sequence[Block], multiply: Callable[[list[Block]], Block], n: int, kind: np.dtype[Any]
) -> Block:
    """Return sums of ``n`` products of whole numbers in ``kind``, or as Python ints if one does not fit.

    Those that wrapped are exact modulo 2**64, and so are right together with the same sums in floats.
    """
    largest = n * math.prod(max(map(abs, bounds(block))) for block in blocks)
    wrapped = multiply([block.astype(kind) for block in blocks])
    if largest <= np.iinfo(kind).max:
        return wrapped
    if largest * max(n, 1) >= 2**113:  # floats may be wrong by 2**62 and more
        return np.asarray(multiply([block.astype(object) for block in blocks]), dtype=object)
    near = multiply([block.astype(np.float64) for block in blocks])
    turns = np.rint((near - wrapped.astype(np.float64)) / 2.0**64)
    if not turns.any():
        return wrapped
    return np.asarray(wrapped.astype(object) + turns.astype(np.int64).astype(object) * 2**64, dtype=object)


def _multiplied(blocks: list[Block], places: tuple[tuple[int, ...], ...], kept: tuple[int, ...]) -> Block:
    if len(blocks) == 2:
        return _pair(blocks[0], places[0], blocks[1], places[1], kept)
    pairs = [item for pair in zip(blocks, places, strict=True) for item in pair]
    optimize = len(blocks) > 2 and blocks[0].dtype.kind != "O"  # it turns Python ints into int64
    return np.asarray(np.einsum(*pairs, kept, optimize=optimize))


def _pair(a: Block, a_axes: tuple[int, ...], b: Block, b_axes: tuple[int, ...], kept: tuple[int, ...]) -> Block:
    """Multiply two blocks as (batches of) matrices: BLAS does this; ``einsum`` does not where both keep an axis."""
    both = [i for i in a_axes if i in b_axes and i in kept]
    summed = [i for i in a_axes if i in b_axes and i not in kept]
    left = [i for i in a_axes if i not in b_axes and i in kept]
    right = [i for i in b_axes if i not in a_axes and i in kept]
    a = _grouped(a, a_axes, both, left, summed)
    b = _grouped(b, b_axes, both, summed, right)
    sizes = [*a.shape[: len(both) + len(left)], *b.shape[len(both) + len(summed) :]]
    batch, n = a.shape[: len(both)], int(np.prod(a.shape[len(both) + len(left) :], dtype=np.int64))
    wide = int(np.prod(b.shape[len(both) + len(summed) :], dtype=np.int64))
    tall = int(np.prod(a.shape[len(both) : len(both) + len(left)], dtype=np.int64))
    product = np.matmul(a.reshape(*batch, tall, n), b.reshape(*batch, n, wide)).reshape(sizes)
    order = [*both, *left, *right]
    return np.asarray(product.transpose([order.index(i) for i in kept]), order="C")


def _grouped(block: Block, axes: tuple[int, ...], *groups: list[int]) -> Block:
    """Return the block with its axes in the order of ``groups``, summed over the axes that are in none of them."""
    order = [i for group in groups for i in group]
    lost = tuple(k for k, i in enumerate(axes) if i not in order)
    if lost:
        block = block.sum(axis=lost)
        axes = tuple(i for i in axes if i in order)
    return block.transpose([axes.index(i) for i in order])
