"""Write arrays as zarr (whole chunks, without the zarr library) and npy.

The files of zarr version 2 are encoded here: so each writer task knows the hashes of what it wrote, needs no thread of
the zarr library in the worker, and each file appears complete. Rejected: version 3, whose text coordinates and
consolidated metadata have no specification yet and warn on every reading.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.graph.calendars import calendar_of, encode_times
from pipeline.graph.collect import fitting_coords
from pipeline.graph.value_types import LabelsType
from pipeline.outputs.files import (
    FRAGMENTS,
    Context,
    FileRecord,
    PartRecord,
    final_path,
    read_blocks,
    write_bytes,
    writing,
)
from pipeline.outputs.grids import Grid, Piece
from pipeline.outputs.run_labels import with_labels
from pipeline.worker.atomic_write import write_errors

__all__ = [
    "ArraySpec",
    "coded",
    "coordinate_values",
    "fragments_of",
    "join_npy",
    "join_zarr",
    "plain_attribute",
    "write_npy_fragment",
    "write_zarr_chunks",
    "write_zarr_head",
]

_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_NAT = int(np.iinfo(np.int64).min)


@dataclass(frozen=True, eq=False)
class ArraySpec:
    """The description of an array that is written to a file or group.

    Parameters
    ----------
    name, dims, dtype, attrs : of the variable in the file
    template : ``xarray.Dataset`` with the coordinates known before the run
    labels : the coordinates that are computed in the run
    chunks : dim -> cells of a chunk of the file; chosen for dims that are missing
    level : of compression; 0: none
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    attrs: Mapping[str, Any]
    template: Any
    labels: Mapping[str, LabelsType]
    chunks: Mapping[str, int]
    level: int


def stored(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Convert values to what zarr stores: times to whole numbers, text to a fixed width, all little endian."""
    if values.dtype.kind in "mM":
        return values.view("int64")
    if values.dtype.kind in "OT":
        return values.astype("U")
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


def coded(dtype: np.dtype[Any]) -> tuple[dict[str, Any], int | None]:
    """Return the CF attributes and the fill value for times and durations, which are stored as numbers."""
    if dtype.kind not in "mM":
        return {}, None
    units = _UNITS[np.datetime_data(dtype)[0]]
    if dtype.kind == "M":
        return {"units": f"{units} since 1970-01-01", "calendar": "proleptic_gregorian"}, _NAT
    return {"units": units, "dtype": str(dtype)}, _NAT


def coordinate_values(coordinate: Any) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Return the values of a coordinate as a file holds them, and its attributes.

    Text gets a fixed width; times of a calendar that numpy lacks become numbers with ``units`` and ``calendar``.
    """
    values, attrs = np.asarray(coordinate.values), dict(coordinate.attrs)
    if calendar_of(values):
        numbers, own = encode_times(values)
        return numbers, {**attrs, **own}
    return (values.astype("U") if values.dtype.kind in "OT" else values), attrs


def plain_attribute(value: Any) -> Any:
    """Convert numpy values in an attribute to types of JSON."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain_attribute(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_attribute(item) for item in value]
    return value


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _encode(block: np.ndarray[Any, Any], level: int) -> bytes:
    from numcodecs import Zstd  # type: ignore[import-untyped]

    return bytes(Zstd(level=level).encode(np.ascontiguousarray(block)))


def _array_head(
    shape: Sequence[int], chunks: Sequence[int], dtype: np.dtype[Any], attrs: Mapping[str, Any], level: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    own, fill = coded(dtype)
    held = stored(np.empty(0, dtype)).dtype
    array = {
        "zarr_format": 2,
        "shape": [int(n) for n in shape],
        "chunks": [int(n) for n in chunks],
        "dtype": held.str,
        "compressor": {"id": "zstd", "level": level, "checksum": False},
        "fill_value": fill,
        "filters": None,
        "order": "C",
        "dimension_separator": ".",
    }
    return array, {**{str(k): plain_attribute(v) for k, v in attrs.items()}, **own}


def _zarr_head(spec: ArraySpec, grid: Grid, coords: Mapping[Any, Any]) -> dict[str, bytes]:
    """Return all files of a zarr group except the values of its array: path in the group -> bytes."""
    name, level = spec.name, spec.level
    metadata: dict[str, Any] = {".zgroup": {"zarr_format": 2}, ".zattrs": {}}
    head, own = _array_head(grid.shape, grid.inner, grid.dtype, spec.attrs, level)
    metadata[f"{name}/.zarray"] = head
    metadata[f"{name}/.zattrs"] = own | {"_ARRAY_DIMENSIONS": list(grid.dims)}
    known = {*coords} - {*grid.dims}
    if known:
        metadata[f"{name}/.zattrs"]["coordinates"] = " ".join(sorted(map(str, known)))
    files: dict[str, bytes] = {}
    for key, coordinate in coords.items():
        values, attrs = coordinate_values(coordinate)
        size = [max(n, 1) for n in values.shape]
        head, own = _array_head(values.shape, size, values.dtype, attrs, level)
        metadata[f"{key}/.zarray"] = head
        metadata[f"{key}/.zattrs"] = own | {"_ARRAY_DIMENSIONS": [str(dim) for dim in coordinate.dims]}
        if values.size:
            files[f"{key}/{'.'.join('0' * values.ndim) or '0'}"] = _encode(stored(values), level)
    files |= {path: _text(value) for path, value in metadata.items()}
    files[".zmetadata"] = _text({"zarr_consolidated_format": 1, "metadata": metadata})
    return files


def write_zarr_head(
    labels: Sequence[Sequence[np.ndarray[Any, Any]]], spec: ArraySpec, grid: Grid, path: str, context: Context
) -> PartRecord:
    """Write all files of a zarr group except the values of its array.

    Parameters
    ----------
    labels : for each of ``spec.labels``, in order, the labels of each chunk
    """
    template = with_labels(spec.template, spec.labels, labels)
    files = _zarr_head(spec, grid, fitting_coords(template, dict(zip(grid.dims, grid.shape, strict=True))))
    records = tuple(write_bytes(context, f"{path}/{name}", [files[name]]) for name in sorted(files))
    return PartRecord((), records, 0)


def _assemble(blocks: Sequence[Any], pieces: Sequence[Piece] | None, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return one region, assembled from the dask chunks that overlap it."""
    if pieces is None:
        return np.asarray(blocks[0])
    region = np.empty(tuple(shape), np.asarray(blocks[0]).dtype)
    for block, (target, source) in zip(blocks, pieces, strict=True):
        region[target] = block[source]
    return region


def write_zarr_chunks(
    blocks: Sequence[Any],
    pieces: Sequence[Piece] | None,
    index: tuple[int, ...],
    shape: tuple[int, ...],
    grid: tuple[tuple[int, ...], tuple[int, ...]],
    dtype: str,
    path: str,
    level: int,
    context: Context,
) -> PartRecord:
    """Write one region of an array as whole zarr chunks.

    Parameters
    ----------
    blocks : the dask chunks that overlap the region
    pieces : for each block its place in the region and the part of it to take; None: the one block is the region
    index, shape : number and cells of the region along each dim
    grid : cells of a zarr chunk, and zarr chunks of a whole region, along each dim
    path : of the array, below the output root

    Raises
    ------
    ValueError : if the region does not have the planned shape or dtype
    """
    region = _assemble(blocks, pieces, shape)
    if region.shape != shape or not np.can_cast(region.dtype, np.dtype(dtype), "same_kind"):
        got = f"{region.shape} of {region.dtype}"
        raise ValueError(f"{path}: chunk {index}: got {got}; it must be {shape} of {dtype}")
    region = stored(region.astype(dtype, copy=False))
    chunk, times = grid
    counts = [-(-n // size) for n, size in zip(shape, chunk, strict=True)]
    files: list[FileRecord] = []
    for inner in itertools.product(*(range(n) for n in counts)):
        block = region[tuple(slice(i * size, (i + 1) * size) for i, size in zip(inner, chunk, strict=True))]
        block = np.asarray(block, region.dtype)  # one text alone has lost the dtype's width
        if block.shape != chunk:  # the last chunks along a dim are stored in full size
            block = np.pad(block, [(0, size - n) for n, size in zip(block.shape, chunk, strict=True)])
        place = (i * n + k for i, n, k in zip(index, times, inner, strict=True))
        name = ".".join(str(i) for i in place) or "0"
        files.append(write_bytes(context, f"{path}/{name}", [_encode(block, level)]))
    return PartRecord(index, tuple(files), int(region.size))


def join_zarr(
    fragments: Sequence[PartRecord],
    indices: Sequence[tuple[int, ...]],
    labels: Sequence[Sequence[np.ndarray[Any, Any]]],
    spec: ArraySpec,
    path: str,
    context: Context,
) -> PartRecord:
    """Join the fragments of an array whose shape was unknown until now in one zarr group, region by region."""
    blocks, sizes = fragments_of(fragments, indices, context)
    grid = Grid.plan(spec.dims, sizes, spec.dtype, spec.chunks, alone=True)
    head = write_zarr_head(labels, spec, grid, path, context)
    files = list(head.files)
    place, how = f"{path}/{spec.name}", ((grid.inner, grid.times), grid.dtype.str)
    for index, region in grid.regions():
        several = [blocks[at] for at in region.blocks]
        found = write_zarr_chunks(several, region.pieces, index, region.shape, *how, place, spec.level, context)
        files += found.files
    return PartRecord((), tuple(files), math.prod(grid.shape))


def write_npy_fragment(block: Any, index: tuple[int, ...], path: str, dtype: str, context: Context) -> PartRecord:
    """Write one chunk as a fragment for :func:`join_npy`."""
    name = f"{FRAGMENTS}/{path}/{'.'.join(map(str, index)) or '0'}.npy"
    values = np.asarray(block).astype(dtype, copy=False)
    with writing(context, name) as written:
        np.lib.format.write_array(written.file, values, allow_pickle=False)
    return PartRecord(index, (written.record,), values.size)


def join_npy(
    fragments: Sequence[PartRecord],
    indices: Sequence[tuple[int, ...]],
    labels: Sequence[Sequence[np.ndarray[Any, Any]]],
    spec: ArraySpec,
    path: str,
    context: Context,
) -> PartRecord:
    """Join the fragments of an array in one npy file. Files are memory-mapped, so the array may exceed the memory.

    Parameters
    ----------
    fragments : what :func:`write_npy_fragment` has returned
    indices : for each fragment the number of its chunk along each dim; the shape is found from the fragments
    labels : ignored, since npy has no labels
    """
    dtype = np.dtype(spec.dtype)
    blocks, sizes = fragments_of(fragments, indices, context)
    shape = tuple(sum(s) for s in sizes)
    starts = [list(itertools.accumulate(s, initial=0)) for s in sizes]
    whole = Path(context.staging, f"{FRAGMENTS}/{path}/whole.npy")
    with write_errors(final_path(context, path)):
        if 0 in shape or not shape:
            np.save(whole, next(iter(blocks.values())).reshape(shape).astype(dtype))
        else:
            target = np.lib.format.open_memmap(whole, mode="w+", dtype=dtype, shape=shape)
            _reserve(whole)
            for index, block in blocks.items():
                target[tuple(slice(s[i], s[i + 1]) for s, i in zip(starts, index, strict=True))] = block
            target.flush()
            del target
    record = write_bytes(context, path, read_blocks(whole))
    whole.unlink()
    return PartRecord((), (record,), int(np.prod(shape, dtype=np.int64)))


def _reserve(path: Path) -> None:
    """Reserve the disk space of a sparse file: a full disk would end the process at a write to mapped memory."""
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # of the file system
                raise


def fragments_of(
    fragments: Sequence[PartRecord], indices: Sequence[tuple[int, ...]], context: Context
) -> tuple[dict[tuple[int, ...], np.ndarray[Any, Any]], list[list[int]]]:
    """Return the chunks of an array by their index, memory-mapped, and the sizes of the chunks along each dim."""
    paths = [Path(context.staging, fragment.files[0].path) for fragment in fragments]
    blocks = {
        index: np.load(path, mmap_mode="r" if _mappable(path) else None)
        for index, path in zip(indices, paths, strict=True)
    }
    return blocks, _sizes(blocks)


def _mappable(path: Path) -> bool:
    """Return whether an npy file has data after its header; an empty one can't be mapped."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, _ = read(file)
    return bool(np.prod(shape, dtype=np.int64)) and shape != ()


def _sizes(blocks: Mapping[tuple[int, ...], np.ndarray[Any, Any]]) -> list[list[int]]:
    """Return the sizes of the chunks along each dim."""
    n_dims = len(next(iter(blocks)))
    sizes = []
    for dim in range(n_dims):
        along = {index[dim]: block.shape[dim] for index, block in blocks.items()}
        sizes.append([along[i] for i in range(len(along))])
    return sizes
