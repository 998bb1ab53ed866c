"""Arrays from netCDF, zarr and npy files.

Metadata are read while building. Each chunk is one task, which opens its file, reads its part and closes the file.

Chunks: ``{dim: size}``; a dim that is not named is one chunk. ``picks`` are the positions of a reference
(``tas[time=0:40]``): only the chunks that hold them are read, with the chunk borders of the whole array.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, task
from pipeline.ops.build_warnings import warn
from pipeline.ops.data_movement import note
from pipeline.ops.sources.array_readers import NetcdfReader, NpyHead, NpyReader, ZarrReader
from pipeline.ops.sources.chunking import Chunks, chunk_sizes, require_few, spans
from pipeline.ops.sources.file_facts import facts_of
from pipeline.ops.sources.file_joins import Joined, Settled, join, join_plain
from pipeline.ops.sources.file_order import Overlap
from pipeline.ops.sources.npy import read_npy
from pipeline.ops.sources.open_arrays import zarr_node
from pipeline.ops.sources.paths import locate, options_of, stores
from pipeline.ops.sources.stored_arrays import Decoder, StoredArray, text_dtype
from pipeline.ops.sources.stored_values import as_declared, naming_chunks, read_slab
from pipeline.outputs.files import read_errors
from pipeline.units import count_text

__all__ = ["from_netcdf", "from_npy", "from_zarr"]

Pick = int | slice | tuple[int | None, int | None]


def from_netcdf(
    *,
    path: str | Sequence[str],
    variable: str | None = None,
    group: str = "",
    chunks: Chunks = None,
    along: str | None = None,
    overlap: Overlap | None = None,
    attrs: Settled | None = None,
    decode_times: bool = True,
    storage: Mapping[str, Any] | None = None,
    picks: Mapping[str, Pick] | None = None,
) -> xr.DataArray:
    """Return a variable of netCDF or HDF5 files, scaled, masked and with times decoded by the CF conventions.

    Several files are one array, in the order of the labels along the dim in which these differ. No chunk spans two
    files. Labels in a calendar that numpy lacks (``360_day``, ``noleap``) are cftime objects; cells that are such times
    stay numbers, with ``units`` and ``calendar`` among the attributes.

    Parameters
    ----------
    along, overlap, attrs : see :func:`pipeline.ops.sources.file_joins.join`

    Raises
    ------
    DataError : a file is missing, is not netCDF, or does not fit the others
    OpError : there is no such group, variable or dim, or a pick is out of range
    """
    paths = locate(path, storage, suffixes=(".nc", ".nc4", ".cdf", ".h5"))
    found = _arrays(NetcdfReader(variable, group, decode_times, storage), paths)
    return _array("from_netcdf", join(found, along=along, overlap=overlap, attrs=attrs), chunks, picks)


def _arrays(reader: NetcdfReader | ZarrReader, paths: Sequence[str]) -> list[StoredArray]:
    records = facts_of(reader, paths)
    options = {path: options_of(path, reader.storage) for path in paths}
    return Decoder(times=reader.times).arrays(list(zip(paths, records, strict=True)), options)


def from_zarr(
    *,
    path: str | Sequence[str],
    variable: str | None = None,
    group: str = "",
    chunks: Chunks = None,
    along: str | None = None,
    overlap: Overlap | None = None,
    attrs: Settled | None = None,
    decode_times: bool = True,
    missing: str = "allow",
    storage: Mapping[str, Any] | None = None,
    picks: Mapping[str, Pick] | None = None,
) -> xr.DataArray:
    """Return a variable of zarr groups (format 2 or 3), or zarr arrays, scaled and masked by the CF conventions.

    Without ``chunks`` the chunks are the stored ones. The dims of an array without names are ``dim_0``… Several stores
    are joined as the files of :func:`from_netcdf`.

    Parameters
    ----------
    missing : chunks of the variable that are not stored, which are legal and read as the fill value; ``warn`` counts
        them, ``error`` refuses them, ``allow`` does not look

    Raises
    ------
    DataError : there is no zarr group or array, one does not fit the others, or a chunk is missing
    OpError : there is no such group, variable or dim, or a pick is out of range
    """
    found = _arrays(ZarrReader(variable, group, decode_times, storage), stores(path, storage))
    if missing != "allow":
        for stored in found:
            _tell_missing(stored, missing)
    first = found[0]
    own = dict(zip(first.dims, first.grid or first.shape, strict=True))
    joined = join(found, along=along, overlap=overlap, attrs=attrs)
    return _array("from_zarr", joined, own if chunks is None else chunks, picks)


def _tell_missing(stored: StoredArray, missing: str) -> None:
    with read_errors(stored.path):
        array = zarr_node(stored.path, stored.inner, stored.options)
        n_missing = array.nchunks - array.nchunks_initialized
    if not n_missing:
        return
    text = f"{stored.path}: {n_missing:,} of {count_text(array.nchunks, 'chunk')} of {stored.inner or 'the array'!r}"
    text += f" {'is' if n_missing == 1 else 'are'} not stored"
    if missing == "error":
        raise DataError(f"{text}; write them, or read them as the fill value, {array.fill_value}: missing: allow")
    warn(f"{text} and read as the fill value, {array.fill_value}")


def from_npy(
    *,
    path: str | Sequence[str],
    dims: Sequence[str] | None = None,
    chunks: Chunks = None,
    along: str | None = None,
    storage: Mapping[str, Any] | None = None,
    picks: Mapping[str, Pick] | None = None,
) -> xr.DataArray:
    """Return an array of npy files. Local files are memory-mapped, so that a chunk reads only its own pages.

    Several files are one array: joined in the order of ``path`` along ``along``, else the dim in which their sizes
    differ, else the first dim that ``chunks`` names, else the first. No chunk spans two files. Without ``dims`` these
    are ``dim_0``…

    Raises
    ------
    DataError : a file is missing, is not an npy file, holds Python objects, or does not fit the others
    OpError : the number of ``dims`` is not that of the files, or a pick is out of range
    """
    names = locate(path, storage, suffixes=(".npy",))
    heads = zip(names, facts_of(NpyReader(storage), names), strict=True)
    found = [_npy_stored(name, dims, head, options_of(name, storage)) for name, head in heads]
    named = [dim for dim in chunks if dim in found[0].dims] if isinstance(chunks, Mapping) else []
    return _array("from_npy", join_plain(found, along, named), chunks, picks)


def _npy_stored(path: str, dims: Sequence[str] | None, head: NpyHead, options: Mapping[str, Any]) -> StoredArray:
    n = len(head.shape)
    if dims is not None and len(dims) != n:
        raise OpError("dims", f"got {len(dims)} for {path}, which has {n}: shape {head.shape}")
    named = tuple(dims) if dims is not None else tuple(f"dim_{i}" for i in range(n))
    native = text_dtype(head.dtype.newbyteorder("="))
    return StoredArray(path, "npy", "", "", named, head.shape, native, head.dtype.kind, options=options)


def _array(op: str, joined: Joined, chunks: Chunks, picks: Mapping[str, Pick] | None) -> xr.DataArray:
    """Return the array that files are together."""
    first = joined.found[0]
    axis = first.dims.index(joined.along) if joined.along else 0
    shape = list(first.shape)
    if joined.along:
        shape[axis] = sum(run.stop - run.start for run in joined.runs)
    grid = chunk_sizes(chunks, first.dims, tuple(shape), joined.dtype, first.grid)
    pieces: list[list[_Piece]] = [[_Piece(0, a, b) for a, b in spans(sizes)] for sizes in grid]
    if joined.along:
        note(joined.order)
        size = max(grid[axis], default=1) or 1
        pieces[axis] = [
            _Piece(run.file, at, min(at + size, run.stop))
            for run in joined.runs
            for at in range(run.start, run.stop, size)
        ] or [_Piece(0, 0, 0)]
        require_few(math.prod(map(len, pieces)))
    return _assemble(op, joined, pieces, shape=tuple(shape), axis=axis, picks=picks or {})


class _Piece(NamedTuple):
    """Positions ``start`` to ``stop`` along one dim, in file number ``file``."""

    file: int
    start: int
    stop: int


def _assemble(
    op: str,
    joined: Joined,
    pieces: list[list[_Piece]],
    *,
    shape: tuple[int, ...],
    axis: int,
    picks: Mapping[str, Pick],
) -> xr.DataArray:
    found, template, dtype = joined.found, joined.template, joined.dtype
    first = found[0]
    dims, kept, indexers = first.dims, [], {}
    for i, (dim, n) in enumerate(zip(dims, shape, strict=True)):
        if dim in picks:
            indexers[dim], pieces[i] = _cut(dim, n, pieces[i], picks[dim])
        if not isinstance(indexers.get(dim), int):
            kept.append(i)
    unknown = sorted(set(picks) - set(dims))
    if unknown:
        has = f"its dims are {', '.join(dims)}{nearest(unknown[0], dims)}"
        raise OpError("", f"{unknown[0]!r} is no dim of {first.variable!r}; {has}")
    name = f"{op}-{tokenize([x.path for x in found], first.group, first.variable, str(dtype), str(pieces), kept)}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(len(p)) for p in pieces)):
        here = [p[k] for p, k in zip(pieces, index, strict=True)]
        x = found[here[axis].file] if here else first
        slab = tuple(slice(p.start, p.stop) if i in kept else p.start for i, p in enumerate(here))
        key = (name, *(index[i] for i in kept))
        where = (x.path, x.engine, x.group, x.variable)
        tasks[key] = task(key, _read, *where, slab, dtype, x.times, dict(x.options))
    sizes = tuple(tuple(p.stop - p.start for p in pieces[i]) for i in kept)
    data = da.Array(tasks, name, sizes, dtype=dtype)
    coords = template.isel(indexers, missing_dims="ignore").coords
    return xr.DataArray(data, coords, [dims[i] for i in kept], name=first.variable or None, attrs=template.attrs)


def _cut(dim: str, n: int, pieces: list[_Piece], pick: Pick) -> tuple[int | slice, list[_Piece]]:
    """Return the pick with both ends counted from the start, and the pieces that it leaves."""
    if isinstance(pick, int | np.integer):
        at = int(pick) + n if pick < 0 else int(pick)
        start, stop, indexer = at, at + 1, at
        text = str(pick)
    else:
        low, high = (pick.start, pick.stop) if isinstance(pick, slice) else pick
        start = 0 if low is None else low + n if low < 0 else low
        stop = n if high is None else high + n if high < 0 else high
        indexer = slice(start, stop)  # type: ignore[assignment]
        text = f"{'' if low is None else low}:{'' if high is None else high}"
    if not 0 <= start < stop <= n:
        raise OpError("", f"[{dim}={text}] is out of range: {dim!r} has the positions 0 to {n - 1}")
    left, offset = [], 0
    for piece in pieces:
        low, high = max(start - offset, 0), min(stop - offset, piece.stop - piece.start)
        if low < high:
            left.append(piece._replace(start=piece.start + low, stop=piece.start + high))
        offset += piece.stop - piece.start
    return indexer, left


def _read(
    path: str,
    engine: str,
    group: str,
    variable: str,
    slab: tuple[int | slice, ...],
    dtype: np.dtype[Any],
    times: tuple[str, str] | None,
    options: Mapping[str, Any],
) -> np.ndarray[Any, Any]:
    """Return one chunk."""
    with read_errors(path):
        if engine == "npy":
            return as_declared(np.array(read_npy(path, slab, options)), dtype, "the array", path)
        if not engine.startswith("zarr"):
            return read_slab(path, engine, group, variable, slab, dtype, times, options)
        with naming_chunks(path, "/".join(filter(None, (group, variable))), slab, options):
            if engine == "zarr-array":
                return as_declared(np.asarray(zarr_node(path, "", options)[slab]), dtype, "the array", path)
            return read_slab(path, engine, group, variable, slab, dtype, times, options)
