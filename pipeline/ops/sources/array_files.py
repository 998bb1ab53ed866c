"""Arrays from netCDF, zarr and npy files.

Metadata are read while building. Each chunk is one task, which opens its file, reads its part and closes the file, so
that no open file is pickled or kept between tasks. Rejected: ``xarray.open_dataset(chunks=…)``, whose tasks carry file
handles, random tokens and a cache.

Chunks: ``{dim: size}``; a dim that is not named is one chunk. ``picks`` are the positions of a reference
(``tas[time=0:40]``): only the chunks that hold them are read, with the chunk borders of the whole array.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError
from pipeline.graph.graph import GraphNode, Key, task
from pipeline.ops.sources.chunking import Chunks, chunk_sizes, spans
from pipeline.ops.sources.paths import is_remote, locate, opened, options_of

__all__ = ["from_netcdf", "from_npy", "from_zarr"]

Pick = int | slice | tuple[int | None, int | None]


@dataclass(frozen=True)
class _Stored:
    """The metadata of one stored variable; ``template`` holds coordinates and attributes, no data."""

    path: str
    engine: str
    variable: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    template: xr.Dataset
    times: tuple[str, ...]  # variables that are decoded as times
    durations: tuple[str, ...]  # and as durations
    grid: tuple[int, ...] | None  # the stored chunks
    options: Mapping[str, Any]


def from_netcdf(
    *,
    path: str | Sequence[str],
    variable: str | None = None,
    chunks: Chunks = None,
    storage: Mapping[str, Any] | None = None,
    picks: Mapping[str, Pick] | None = None,
) -> xr.DataArray:
    """Return a variable of netCDF files, scaled, masked and with times decoded by the CF conventions.

    Several files are one array: joined, in the order of their names, along the dim in which their coordinates differ
    (or the first dim that ``chunks`` names). No chunk spans two files. Times of a calendar that numpy lacks
    (``360_day``, ``noleap``) stay numbers, with ``units`` and ``calendar`` among their attributes.

    Raises
    ------
    DataError : a file is missing, is not netCDF, or does not fit the others
    OpError : there is no such variable or dim, or a pick is out of range
    """
    found = [_inspect(name, _netcdf_engine(name, options_of(name, storage)), variable, storage)
             for name in locate(path, storage, suffixes=(".nc", ".nc4", ".cdf", ".h5"))]  # fmt: skip
    return _array("from_netcdf", found, chunks, picks)


def from_zarr(
    *,
    path: str,
    variable: str | None = None,
    chunks: Chunks = None,
    storage: Mapping[str, Any] | None = None,
    picks: Mapping[str, Pick] | None = None,
) -> xr.DataArray:
    """Return a variable of a zarr group (format 2 or 3), or a zarr array, scaled and masked by the CF conventions.

    Without ``chunks`` the chunks are the stored ones. The dims of an array without names are ``dim_0``…

    Raises
    ------
    DataError : there is no zarr group or array
    OpError : there is no such variable or dim, or a pick is out of range
    """
    import zarr

    options = options_of(path, storage)
    if not is_remote(path) and not os.path.exists(path):
        raise DataError(f"{path}: no such file")
    try:
        node: Any = zarr.open(path, mode="r", storage_options=options or None)
    except ImportError as error:  # the library of a protocol
        raise DataError(f"{path}: {error}") from error
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise DataError(f"{path}: is neither a zarr group nor a zarr array ({error})") from error
    if isinstance(node, zarr.Array):
        dims = tuple(getattr(node.metadata, "dimension_names", None) or (f"dim_{i}" for i in range(node.ndim)))
        stored = _Stored(
            path, "zarr-array", "", dims, node.shape, node.dtype, xr.Dataset(), (), (), node.chunks, options
        )
    else:
        engine = "zarr-consolidated" if node.metadata.consolidated_metadata is not None else "zarr"
        stored = _inspect(path, engine, variable, storage)
    own = dict(zip(stored.dims, stored.grid or stored.shape, strict=True))
    return _array("from_zarr", [stored], own if chunks is None else chunks, picks)


def from_npy(
    *,
    path: str | Sequence[str],
    dims: Sequence[str] | None = None,
    chunks: Chunks = None,
    storage: Mapping[str, Any] | None = None,
    picks: Mapping[str, Pick] | None = None,
) -> xr.DataArray:
    """Return an array of npy files. Local files are memory-mapped, so that a chunk reads only its own pages.

    Several files are one array: joined, in the order of their names, along the dim in which their sizes differ (or the
    first dim that ``chunks`` names, or the first). No chunk spans two files. Without ``dims`` these are ``dim_0``…

    Raises
    ------
    DataError : a file is missing, is not an npy file, holds Python objects, or does not fit the others
    OpError : the number of ``dims`` is not that of the files, or a pick is out of range
    """
    names = locate(path, storage, suffixes=(".npy",))
    found = [_npy_stored(name, dims, options_of(name, storage)) for name in names]
    return _array("from_npy", found, chunks, picks)


def _npy_stored(path: str, dims: Sequence[str] | None, options: Mapping[str, Any]) -> _Stored:
    with opened(path, options) as file:
        shape, _, dtype = npy_head(path, file)
    if dtype.hasobject or dtype.names is not None or dtype.kind == "V":
        raise DataError(f"{path}: holds {dtype}; an array is of numbers, truth values, times or text")
    if dims is not None and len(dims) != len(shape):
        raise OpError("dims", f"got {len(dims)} for {path}, which has {len(shape)}: shape {shape}")
    named = tuple(dims) if dims is not None else tuple(f"dim_{i}" for i in range(len(shape)))
    native = dtype.newbyteorder("=")
    return _Stored(path, "npy", "", named, shape, native, xr.Dataset(), (), (), None, options)


def _netcdf_engine(path: str, options: Mapping[str, Any]) -> str:
    with opened(path, options) as file:
        head = file.read(8)
    if head.startswith(b"CDF"):
        if importlib.util.find_spec("scipy") is None:
            raise DataError(f"{path}: is a classic netCDF file, which needs scipy: pip install 'pipeline[netcdf3]'")
        return "scipy"
    if head.startswith(b"\x89HDF"):
        return "h5netcdf"
    raise DataError(f"{path}: is not a netCDF file")


@contextmanager
def _dataset(path: str, engine: str, options: Mapping[str, Any], **decoding: Any) -> Any:
    """Open the file as an ``xarray.Dataset`` that reads lazily; close it at the end."""
    if engine.startswith("zarr"):
        consolidated = engine == "zarr-consolidated"
        how = {**decoding, "consolidated": consolidated, "storage_options": dict(options) or None}
        with xr.open_dataset(path, engine="zarr", cache=False, **how) as dataset:
            yield dataset
    elif is_remote(path):
        with opened(path, options) as file, xr.open_dataset(file, engine=engine, cache=False, **decoding) as dataset:
            yield dataset
    else:
        with xr.open_dataset(path, engine=engine, cache=False, **decoding) as dataset:
            yield dataset


def _inspect(path: str, engine: str, variable: str | None, storage: Mapping[str, Any] | None) -> _Stored:
    options = options_of(path, storage)
    try:
        with _dataset(path, engine, options, decode_times=False, decode_coords=False) as raw:
            times = tuple(str(name) for name, x in raw.variables.items() if _has_numpy_times(x.attrs))
            durations = tuple(str(name) for name, x in raw.variables.items() if _is_duration(x.attrs))
            everything = list(raw.variables)
        decoding: dict[str, Any] = {
            "decode_times": {name: name in times for name in everything},
            "decode_timedelta": {name: name in durations for name in everything},
        }
        with _dataset(path, engine, options, **decoding) as dataset:
            name = variable if variable is not None else _only_variable(dataset, path)
            if name not in dataset.variables:
                known = ", ".join(sorted(map(str, dataset.data_vars)))
                raise OpError("variable", f"{path} has no variable {name!r}; it has {known}")
            x = dataset[name]
            template = x.coords.to_dataset()
            template = (
                template.drop_vars([] if name in x.dims else [name], errors="ignore").load().assign_attrs(x.attrs)
            )
            dims = tuple(map(str, x.dims))
            grid = x.encoding.get("chunksizes") or x.encoding.get("chunks")
            return _Stored(path, engine, str(name), dims, x.shape, x.dtype, template, times, durations, grid, options)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: can't be read ({type(error).__name__}: {error})") from error


def _has_numpy_times(attrs: Mapping[str, Any]) -> bool:
    calendar = str(attrs.get("calendar", "standard")).lower()
    known = calendar in ("standard", "gregorian", "proleptic_gregorian")
    return known and " since " in str(attrs.get("units", ""))


def _is_duration(attrs: Mapping[str, Any]) -> bool:
    """Return whether values were written as durations: the units alone may be those of a plain number."""
    return str(attrs.get("dtype", "")).startswith("timedelta64")


def _only_variable(dataset: xr.Dataset, path: str) -> str:
    bounds = {x.attrs.get("bounds") for x in dataset.variables.values()}
    names = [str(name) for name, x in dataset.data_vars.items() if x.ndim and name not in bounds]
    if len(names) != 1:
        raise OpError("variable", f"{path} has the variables {', '.join(sorted(names))}; name one: variable: …")
    return names[0]


def _array(op: str, found: Sequence[_Stored], chunks: Chunks, picks: Mapping[str, Pick] | None) -> xr.DataArray:
    """Return one array from files that are joined along one dim."""
    first = found[0]
    along = _joined_dim(found, chunks) if len(found) > 1 else None
    for other in found[1:]:
        _must_fit(first, other, along)
    axis = first.dims.index(along) if along is not None else 0
    shape = list(first.shape)
    if along is not None:
        shape[axis] = sum(x.shape[axis] for x in found)
    dtype = np.result_type(*(x.dtype for x in found)) if len(found) > 1 else first.dtype
    grid = chunk_sizes(chunks, first.dims, tuple(shape), dtype, first.grid)
    pieces: list[list[_Piece]] = [[_Piece(0, a, b) for a, b in spans(sizes)] for sizes in grid]
    if along is not None:
        size = max(grid[axis])
        pieces[axis] = [
            _Piece(i, a, b)
            for i, x in enumerate(found)
            for a, b in spans(tuple(min(size, x.shape[axis] - at) for at in range(0, x.shape[axis], size)))
        ]
    template = first.template
    if along is not None:
        how: dict[str, Any] = {"coords": "minimal", "data_vars": "all", "compat": "override", "join": "override"}
        template = xr.concat([x.template for x in found], along, combine_attrs="override", **how)
    return _assemble(op, found, pieces, template, shape=tuple(shape), axis=axis, dtype=dtype, picks=picks or {})


def _joined_dim(found: Sequence[_Stored], chunks: Chunks) -> str:
    first = found[0]
    if not first.dims:
        raise DataError(f"{first.path}: is one number; several files are joined along a dim")

    def same(dim: str, other: _Stored) -> bool:
        mine, its = first.template.get(dim), other.template.get(dim)
        if other.dims != first.dims:
            raise DataError(f"{other.path}: has dims {other.dims}, {first.path} has {first.dims}")
        sizes = first.shape[first.dims.index(dim)] == other.shape[first.dims.index(dim)]
        return sizes and (mine is its if mine is None or its is None else np.array_equal(mine.values, its.values))

    differing = [dim for dim in first.dims if not all(same(dim, other) for other in found[1:])]
    if len(differing) == 1:
        return differing[0]
    named = [dim for dim in chunks if dim in first.dims] if isinstance(chunks, Mapping) else []
    return (named or list(first.dims))[0]


def _must_fit(first: _Stored, other: _Stored, along: str | None) -> None:
    for i, dim in enumerate(first.dims):
        if dim == along:
            continue
        mine, its = first.template.get(dim), other.template.get(dim)
        labels = mine is its if mine is None or its is None else np.array_equal(mine.values, its.values)
        if first.shape[i] != other.shape[i] or not labels:
            message = f"{other.path}: differs from {first.path} along {dim!r}, too; files are joined along one dim"
            raise DataError(message)


@dataclass(frozen=True)
class _Piece:
    """Positions ``start`` to ``stop`` along one dim, in file number ``file``."""

    file: int
    start: int
    stop: int


def _assemble(
    op: str,
    found: Sequence[_Stored],
    pieces: list[list[_Piece]],
    template: xr.Dataset,
    *,
    shape: tuple[int, ...],
    axis: int,
    dtype: np.dtype[Any],
    picks: Mapping[str, Pick],
) -> xr.DataArray:
    first = found[0]
    dims, kept, indexers = first.dims, [], {}
    for i, (dim, n) in enumerate(zip(dims, shape, strict=True)):
        if dim in picks:
            indexers[dim], pieces[i] = _cut(dim, n, pieces[i], picks[dim])
        if not isinstance(indexers.get(dim), int):
            kept.append(i)
    unknown = sorted(set(picks) - set(dims))
    if unknown:
        raise OpError("", f"{unknown[0]!r} is no dim of {first.variable!r}; its dims are {', '.join(dims)}")
    name = f"{op}-{tokenize([x.path for x in found], first.variable, pieces, kept)}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(len(p)) for p in pieces)):
        here = [p[k] for p, k in zip(pieces, index, strict=True)]
        x = found[here[axis].file] if here else first
        slab = tuple(slice(p.start, p.stop) if i in kept else p.start for i, p in enumerate(here))
        key = (name, *(index[i] for i in kept))
        coding = (x.variable in x.times, x.variable in x.durations)
        tasks[key] = task(key, _read, x.path, x.engine, x.variable, slab, dtype, coding, dict(x.options))
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
    variable: str,
    slab: tuple[int | slice, ...],
    dtype: np.dtype[Any],
    coding: tuple[bool, bool],
    options: Mapping[str, Any],
) -> np.ndarray[Any, Any]:
    """One chunk. Only the variable itself is decoded: its coordinates are in the graph already.

    ``coding``: whether it is times, and whether durations.
    """
    if engine == "npy":
        return np.array(read_npy(path, slab, options), dtype=dtype, order="C")
    if engine == "zarr-array":
        import zarr

        return np.asarray(zarr.open_array(path, mode="r", storage_options=dict(options) or None)[slab])
    times, durations = coding
    decoding = {"decode_times": times, "decode_timedelta": durations, "decode_coords": False}
    with _dataset(path, engine, options, **decoding) as dataset:
        return np.asarray(dataset.variables[variable][slab].values, dtype=dtype)


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
