"""Arrays from netCDF, zarr and npy files.

Metadata are read while building. Each chunk is one task, which opens its file, reads its part and closes the file.

Chunks: ``{dim: size}``; a dim that is not named is one chunk. ``picks`` are the positions of a reference
(``tas[time=0:40]``): only the chunks that hold them are read, with the chunk borders of the whole array.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.graph import GraphNode, Key, task
from pipeline.ops.build_warnings import warn
from pipeline.ops.data_movement import note
from pipeline.ops.sources.chunking import Chunks, chunk_sizes, require_few, spans
from pipeline.ops.sources.file_joins import Joined, Settled, join, join_plain, sharing
from pipeline.ops.sources.file_order import Overlap
from pipeline.ops.sources.paths import is_remote, locate, opened, options_of, similar, stores
from pipeline.ops.sources.stored_arrays import (
    StoredArray,
    as_declared,
    inspect,
    naming_chunks,
    netcdf_engine,
    read_slab,
    text_dtype,
    zarr_node,
)
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
    found: list[StoredArray] = []
    for name in locate(path, storage, suffixes=(".nc", ".nc4", ".cdf", ".h5")):
        options = options_of(name, storage)
        engine = netcdf_engine(name, options)
        stored = inspect(name, engine, variable, group=group, times=decode_times, options=options)
        found.append(sharing(found[0], stored) if found else stored)
    return _array("from_netcdf", join(found, along=along, overlap=overlap, attrs=attrs), chunks, picks)


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
    found: list[StoredArray] = []
    for name in stores(path, storage):
        stored = _zarr_stored(name, variable, group, decode_times, options_of(name, storage))
        if missing != "allow":
            _tell_missing(stored, missing)
        found.append(sharing(found[0], stored) if found else stored)
    first = found[0]
    own = dict(zip(first.dims, first.grid or first.shape, strict=True))
    joined = join(found, along=along, overlap=overlap, attrs=attrs)
    return _array("from_zarr", joined, own if chunks is None else chunks, picks)


def _zarr_stored(path: str, variable: str | None, group: str, times: bool, options: Mapping[str, Any]) -> StoredArray:
    import zarr

    if not is_remote(path) and not os.path.exists(path):
        raise DataError(f"{path}: no such file{similar(path)}")
    with read_errors(path):
        try:
            node = zarr_node(path, "", options)
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise DataError(f"{path}: is neither a zarr group nor a zarr array ({error})") from error
    if not isinstance(node, zarr.Array):
        engine = "zarr-consolidated" if node.metadata.consolidated_metadata is not None else "zarr"
        return inspect(path, engine, variable, group=group, times=times, options=options)
    if group:
        raise OpError("group", f"{path} has no group {group!r}; it is a single array")
    with read_errors(path):
        dims = tuple(getattr(node.metadata, "dimension_names", None) or (f"dim_{i}" for i in range(node.ndim)))
        how: dict[str, Any] = {"raw": node.dtype.kind, "grid": node.chunks, "options": options}
        return StoredArray(path, "zarr-array", "", "", dims, node.shape, text_dtype(node.dtype), **how)


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
    found = [_npy_stored(name, dims, options_of(name, storage)) for name in names]
    named = [dim for dim in chunks if dim in found[0].dims] if isinstance(chunks, Mapping) else []
    return _array("from_npy", join_plain(found, along, named), chunks, picks)


def _npy_stored(path: str, dims: Sequence[str] | None, options: Mapping[str, Any]) -> StoredArray:
    with opened(path, options) as file:
        shape, _, dtype = npy_head(path, file)
        needed = file.tell() + math.prod(shape) * dtype.itemsize
        nbytes = file.seek(0, os.SEEK_END)
    if nbytes < needed and not dtype.hasobject:
        raise DataError(f"{path}: has {nbytes:,} bytes, and an array of {shape} needs {needed:,}: its end is missing")
    if dtype.hasobject or dtype.names is not None or dtype.kind == "V":
        raise DataError(f"{path}: holds {dtype}; an array is of numbers, truth values, times or text")
    if dims is not None and len(dims) != len(shape):
        raise OpError("dims", f"got {len(dims)} for {path}, which has {len(shape)}: shape {shape}")
    named = tuple(dims) if dims is not None else tuple(f"dim_{i}" for i in range(len(shape)))
    native = text_dtype(dtype.newbyteorder("="))
    return StoredArray(path, "npy", "", "", named, shape, native, dtype.kind, options=options)


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


@dataclass(frozen=True)
class _Piece:
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
    name = f"{op}-{tokenize([x.path for x in found], first.group, first.variable, str(dtype), pieces, kept)}"
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
            left.append(replace(piece, start=piece.start + low, stop=piece.start + high))
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


__all__ = ["npy_head", "read_npy"]


def npy_head(path: str, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran's order, dtype; the file then stands at the first value."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(file)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: is no npy file ({error})") from error


def read_npy(path: str, slab: tuple[int | slice, ...], options: Mapping[str, Any]) -> Any:
    """Some of the values of a file: of a local one its pages, of a remote one the rows that hold them."""
    with opened(path, options) as file:
        shape, backwards, dtype = npy_head(path, file)
        if not math.prod(shape):
            return np.empty(shape, dtype)[slab]
        begin = file.tell()
        if not is_remote(path) and shape:
            return np.memmap(path, dtype, "r", begin, shape, "F" if backwards else "C")[slab]
        if backwards or not shape:
            return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if backwards else "C")[slab]
        first = slab[0]
        start, stop = (first.start, first.stop) if isinstance(first, slice) else (first, first + 1)
        width = math.prod(shape[1:]) * dtype.itemsize
        file.seek(begin + start * width)
        rows = np.frombuffer(file.read((stop - start) * width), dtype).reshape(-1, *shape[1:])
        return rows[(slice(None) if isinstance(first, slice) else 0, *slab[1:])]
