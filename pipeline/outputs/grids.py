"""How a chunked array is cut into regions for writers, and regions into chunks of a file with a regular grid.

Dask's chunks may have any sizes, zarr's are all alike. Where dask's are regular a region is a chunk; else regions of
the largest chunk's size are put together from the chunks that overlap them, so that no two writers share a file.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

__all__ = ["Grid", "Region"]

_LARGEST_CHUNK = 2**31 - 1  # bytes that the compressor takes at once

Piece = tuple[tuple[slice, ...], tuple[slice, ...]]
Overlap = tuple[int, slice, slice]  # number of a chunk along a dim, where it goes in the region, what of the chunk


@dataclass(frozen=True)
class Region:
    """What one writer writes: the chunks that overlap it, where they go (None: the one chunk is it), its shape."""

    blocks: tuple[tuple[int, ...], ...]
    pieces: tuple[Piece, ...] | None
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Grid:
    """An array as it will lie in a file.

    Parameters
    ----------
    chunks : dask's, with known sizes
    outer : cells of a region along each dim
    inner : cells of a chunk of the file along each dim; divides ``outer``
    """

    dims: tuple[str, ...]
    chunks: tuple[tuple[int, ...], ...]
    dtype: np.dtype[Any]
    outer: tuple[int, ...]
    inner: tuple[int, ...]

    @classmethod
    def plan(
        cls,
        dims: tuple[str, ...],
        chunks: Any,
        dtype: Any,
        asked: Mapping[str, int] | None = None,
        *,
        alone: bool = False,
    ) -> Self:
        """The grid of an array of known lengths; ``asked``: cells of a chunk of the file by dim.

        Parameters
        ----------
        alone : whether one writer has all regions; they are then as large as is asked for

        Raises
        ------
        ValueError : if the dtype has no place in the file, or ``asked`` cannot be met
        """
        dtype = np.dtype(dtype)
        if dtype.kind not in "biufcmMUS":
            raise ValueError(f"zarr holds numbers, truth values, times and text of fixed width, got {dtype}")
        known = tuple(tuple(int(n) for n in sizes) for sizes in chunks)
        outer = tuple(max(*sizes, 1) for sizes in known)
        if alone:
            outer = tuple((asked or {}).get(dim, n) for dim, n in zip(dims, outer, strict=True))
        return cls(tuple(dims), known, dtype, outer, _inner(dims, outer, dtype.itemsize, dict(asked or {})))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(sum(sizes) for sizes in self.chunks)

    @property
    def times(self) -> tuple[int, ...]:
        """Chunks of the file along each dim of a whole region."""
        return tuple(outer // inner for outer, inner in zip(self.outer, self.inner, strict=True))

    def regions(self) -> Iterator[tuple[tuple[int, ...], Region]]:
        """The regions by their number along each dim."""
        overlaps = [_overlaps(sizes, outer) for sizes, outer in zip(self.chunks, self.outer, strict=True)]
        for index in itertools.product(*(range(len(along)) for along in overlaps)):
            yield index, self._region([overlaps[dim][i] for dim, i in enumerate(index)])

    def _region(self, along: list[list[Overlap]]) -> Region:
        shape = tuple(places[-1][1].stop for places in along)
        combined = list(itertools.product(*along))
        blocks = tuple(tuple(i for i, _, _ in places) for places in combined)
        whole = tuple(self.chunks[dim][i] for dim, i in enumerate(blocks[0]))
        if len(combined) == 1 and whole == shape:
            return Region(blocks, None, shape)
        pieces = tuple((tuple(t for _, t, _ in places), tuple(s for _, _, s in places)) for places in combined)
        return Region(blocks, pieces, shape)


def _inner(dims: tuple[str, ...], outer: tuple[int, ...], itemsize: int, asked: dict[str, int]) -> tuple[int, ...]:
    """Cells of a chunk of the file: as asked for, where that divides a region; divided while it is too large."""
    unknown = sorted(set(asked) - set(dims))
    if unknown:
        raise ValueError(f"options.chunks: no dim {' '.join(unknown)}; dims are {' '.join(dims)}")
    chunks = [int(asked.get(dim, size)) for dim, size in zip(dims, outer, strict=True)]
    for dim, chunk, size in zip(dims, chunks, outer, strict=True):
        if chunk < 1 or size % chunk:
            raise ValueError(f"options.chunks: {dim}: got {chunk}; it must divide the chunks of the array, {size}")
    for i, chunk in enumerate(chunks):
        rest = math.prod(chunks) // chunk * itemsize
        if rest * chunk > _LARGEST_CHUNK:
            smaller = (chunk // n for n in range(2, chunk + 1) if chunk % n == 0)
            chunks[i] = next((size for size in smaller if size * rest <= _LARGEST_CHUNK), 1)
    return tuple(chunks)


def _overlaps(sizes: tuple[int, ...], region: int) -> list[list[Overlap]]:
    """For each region along a dim the chunks that overlap it: number, where in the region, what of the chunk."""
    edges = list(itertools.accumulate(sizes, initial=0))
    regions = []
    for start in range(0, edges[-1], region):
        stop = min(start + region, edges[-1])
        found = []
        first = bisect.bisect_right(edges, start) - 1
        for i in range(first, bisect.bisect_left(edges, stop)):
            low, high = max(edges[i], start), min(edges[i + 1], stop)
            if low < high:
                found.append((i, slice(low - start, high - start), slice(low - edges[i], high - edges[i])))
        regions.append(found)
    return regions
