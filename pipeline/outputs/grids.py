"""Divide a chunked array into regions, one per writer task, and regions into the chunks of a file.

Chunks of dask may have any sizes, chunks of zarr have all the same. Where dask's are regular, each is a region. Else
regions of the largest chunk's size are assembled from the chunks that overlap them: no two writers share a file.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from pipeline.errors import OpError

__all__ = ["Grid", "Region"]

_LARGEST_CHUNK = 2**31 - 1  # bytes that the compressor takes at once

Piece = tuple[tuple[slice, ...], tuple[slice, ...]]
Overlap = tuple[int, slice, slice]  # number of a chunk along a dim, its place in the region, the part of the chunk


@dataclass(frozen=True)
class Region:
    """What one writer task writes: the chunks that overlap it, their places (None: it is one chunk), its shape."""

    blocks: tuple[tuple[int, ...], ...]
    pieces: tuple[Piece, ...] | None
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Grid:
    """The division of an array into regions and chunks of a file.

    Parameters
    ----------
    chunks : sizes of dask's chunks along each dim, all known
    outer : cells of a region along each dim
    inner : cells of a file's chunk along each dim; each divides ``outer``
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
        """Choose regions and file chunks for an array.

        Parameters
        ----------
        chunks : sizes of dask's chunks along each dim, all known
        asked : dim -> cells of a file's chunk, where the user gave it
        alone : whether one task writes all regions; they then have the size that the user asked for

        Raises
        ------
        OpError : if zarr can't hold the dtype, or ``asked`` does not divide the chunks of the array
        """
        dtype = np.dtype(dtype)
        if dtype.kind not in "biufcmMUS":
            raise OpError("", f"zarr holds numbers, truth values, times and text of fixed width, got {dtype}")
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
        """Return how many chunks of the file a whole region has along each dim."""
        return tuple(outer // inner for outer, inner in zip(self.outer, self.inner, strict=True))

    def regions(self) -> Iterator[tuple[tuple[int, ...], Region]]:
        """Yield the regions with their number along each dim."""
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
    """Return the cells of a file's chunk along each dim: as asked for or a whole region, divided while too large."""
    unknown = sorted(set(asked) - set(dims))
    if unknown:
        raise OpError("options.chunks", f"no dim {' '.join(unknown)}; dims are {' '.join(dims)}")
    chunks = [int(asked.get(dim, size)) for dim, size in zip(dims, outer, strict=True)]
    for dim, chunk, size in zip(dims, chunks, outer, strict=True):
        if chunk < 1 or size % chunk:
            raise OpError("options.chunks", f"{dim}: got {chunk}; it must divide the chunks of the array, {size}")
    for i, chunk in enumerate(chunks):
        rest = math.prod(chunks) // chunk * itemsize
        if rest * chunk > _LARGEST_CHUNK:
            smaller = (chunk // n for n in range(2, chunk + 1) if chunk % n == 0)
            chunks[i] = next((size for size in smaller if size * rest <= _LARGEST_CHUNK), 1)
    return tuple(chunks)


def _overlaps(sizes: tuple[int, ...], region: int) -> list[list[Overlap]]:
    """Return for each region along a dim the chunks that overlap it."""
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
