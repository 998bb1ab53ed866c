"""Chunk sizes of sources, from the file's ``chunks``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np

from pipeline.errors import OpError, nearest

__all__ = ["Chunks", "chunk_sizes", "require_few", "spans"]

Chunks = int | str | Mapping[str, Any] | None

_MOST_CHUNKS = 1_000_000  # building a graph of more takes minutes and gigabytes
_AUTO = 128 * 2**20  # approximate bytes of an automatic chunk


def spans(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the start and stop of each chunk of these sizes."""
    ends = list(itertools.accumulate(sizes))
    return list(zip([0, *ends[:-1]], ends, strict=True))


def require_few(n_chunks: int) -> None:
    """Check that so many chunks can be planned.

    Raises
    ------
    OpError : they can't
    """
    if n_chunks > _MOST_CHUNKS:
        raise OpError("chunks", f"got {n_chunks:,} of them; at most {_MOST_CHUNKS:,} can be planned")


def chunk_sizes(
    chunks: Chunks, dims: tuple[str, ...], shape: tuple[int, ...], dtype: Any, stored: tuple[int, ...] | None = None
) -> tuple[tuple[int, ...], ...]:
    """Return the sizes along each dim; the default are automatic multiples of the stored chunks.

    Raises
    ------
    OpError : a size for an unknown dim, or sizes that don't fit
    """
    if isinstance(chunks, Mapping):
        unknown = [dim for dim in chunks if dim not in dims]
        if unknown:
            raise OpError(
                "chunks", f"{unknown[0]!r} is no dim; the dims are {', '.join(dims)}{nearest(unknown[0], dims)}"
            )
        sizes = tuple(tuple(size) if isinstance(size := chunks.get(dim, -1), list) else size for dim in dims)
    else:
        sizes = ("auto" if chunks is None else chunks,) * len(dims)
    for size in sizes:
        if isinstance(size, int) and (size == 0 or size < -1):
            raise OpError("chunks", f"got {size}; a size is a whole number >= 1, -1 (all in one) or auto")
    if max(shape, default=0) >= 2**63:
        raise OpError("shape", f"got {max(shape)}; a dim is shorter than 2**63")
    sizes = tuple(min(size, max(n, 1)) if isinstance(size, int) else size for size, n in zip(sizes, shape, strict=True))
    n_chunks = math.prod(
        -(-n // size) for size, n in zip(sizes, shape, strict=True) if isinstance(size, int) and size > 0
    )
    if "auto" in sizes:
        n_chunks = max(n_chunks, math.prod(shape) * np.dtype(dtype).itemsize // _AUTO)
    require_few(n_chunks)
    if 0 in shape:  # dask would divide by 0 sizing them automatically
        sizes = tuple(-1 if size == "auto" else size for size in sizes)
    try:
        normalized: tuple[tuple[int, ...], ...] = da.core.normalize_chunks(
            sizes, shape=shape, dtype=np.dtype(dtype), previous_chunks=stored if 0 not in shape else None
        )
    except ValueError as error:
        raise OpError("chunks", f"{error}") from error
    return normalized
