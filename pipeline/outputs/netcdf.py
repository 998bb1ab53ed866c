"""Write netCDF-4 files (encoding, joining the chunks in one task), and read them back.

One task per chunk writes it as a fragment; one task joins the fragments, chunk by chunk, so that an array may be larger
than memory. Only one process can write an HDF5 file, so compression would all be in that one task: it is off unless
``level`` is given. Rejected: ``to_netcdf``, which holds the whole array in memory when it encodes times or truth
values, and chooses the unit of time by the values.

Times and durations are stored as whole numbers with CF attributes, truth values as int8, text as strings of any
length. A missing float is NaN, and so is ``_FillValue``. Attributes that netCDF has no type for are stored as JSON.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import OpError
from pipeline.graph.collect import fitting_coords
from pipeline.outputs.array_writers import ArraySpec, coded, coordinate_values, fragments_of, plain_attribute
from pipeline.outputs.files import FRAGMENTS, Context, PartRecord, final_path, read_blocks, read_errors, write_bytes
from pipeline.outputs.run_labels import plain_dtype, with_labels
from pipeline.worker.atomic_write import write_errors

__all__ = ["StoredVariable", "join_netcdf", "require_netcdf", "restored"]

_LARGEST_CHUNK = 4 * 2**20  # bytes of a chunk of the file: what is read for one value of it


def require_netcdf(spec: ArraySpec) -> None:
    """Check that a netCDF file can hold an array.

    Raises
    ------
    OpError : naming the dtype, the name or the dim
    """
    named = {spec.name: np.dtype(spec.dtype), **{str(k): c.dtype for k, c in spec.template.coords.items()}}
    named |= {name: plain_dtype(own.field) for name, own in spec.labels.items()}
    for name, dtype in named.items():
        text = dtype.kind in "UT" or (name != spec.name and dtype.kind == "O")
        if not (text or dtype.kind in "biumM" or (dtype.kind == "f" and dtype.itemsize in (4, 8))):
            holds = "numbers (floats of 32 and 64 bits), truth values, times and text"
            raise OpError("", f"netcdf holds {holds}; {name!r} is {dtype}")
    for name in [*named, *spec.dims]:
        if "/" in name or not name.strip():
            raise OpError("", f"netcdf: {name!r} can't be a name in a netCDF file")
    unknown = sorted(set(spec.chunks) - set(spec.dims))
    if unknown:
        dims = ", ".join(spec.dims) or "none"
        raise OpError("options.chunks", f"{unknown[0]!r} is not a dim; the dims are {dims}")


# ---------------------------------------------------------------------------------------------------------------------
# Encoding and decoding
# ---------------------------------------------------------------------------------------------------------------------


def _stored(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if values.dtype.kind in "mM":
        return values.astype(values.dtype.newbyteorder("=")).view(np.int64)
    if values.dtype.kind == "b":
        return values.view(np.int8)
    return values.astype(object) if values.dtype.kind in "UT" else values


def restored(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Convert stored values back to the dtype that was written."""
    if dtype.kind in "mM":
        return values.astype(np.int64, copy=False).view(dtype.newbyteorder("="))
    return values.astype(dtype, copy=False)


def _attribute(value: Any) -> Any:
    """Convert an attribute to what netCDF can hold: a number, a text, or several of either; else to JSON text."""
    value = plain_attribute(value)
    if isinstance(value, bool):
        return np.int8(value)
    if isinstance(value, str):
        return value
    members = value if isinstance(value, list) else [value]
    texts = all(isinstance(member, str) for member in members)
    numbers = all(isinstance(member, int | float) and not isinstance(member, bool) for member in members)
    if members and (texts or (numbers and np.asarray(value).dtype.kind in "iuf")):
        return value if texts else np.asarray(value)[()]
    return json.dumps(value, default=str)


def _fill(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "f":
        return dtype.type(np.nan)
    return coded(dtype)[1]


# ---------------------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------------------


def join_netcdf(
    fragments: Sequence[PartRecord],
    indices: Sequence[tuple[int, ...]],
    labels: Sequence[Sequence[np.ndarray[Any, Any]]],
    spec: ArraySpec,
    path: str,
    context: Context,
) -> PartRecord:
    """Join the fragments of an array in one netCDF file; see :func:`pipeline.outputs.array_writers.join_npy`.

    A coordinate that does not fit the shape, which may be unknown until now, is left out.
    """
    import h5netcdf

    blocks, sizes = fragments_of(fragments, indices, context)
    template = with_labels(spec.template, spec.labels, labels)
    shape = dict(zip(spec.dims, (sum(along) for along in sizes), strict=True))
    starts = [list(itertools.accumulate(along, initial=0)) for along in sizes]
    whole = Path(context.staging, f"{FRAGMENTS}/{path}/whole.nc")
    with write_errors(final_path(context, path)), _NewFile(whole) as raw, h5netcdf.File(raw, "w") as file:
        file.attrs["Conventions"] = "CF-1.10"
        # None, an unlimited dim, may be empty; a fixed one can't have the length 0
        file.dimensions = {dim: n or None for dim, n in shape.items()}
        attrs = {key: value for key, value in spec.attrs.items() if value is not None}
        others = [str(key) for key in fitting_coords(template, shape) if key not in spec.dims]
        if others:
            attrs["coordinates"] = " ".join(sorted(others))
        dtype = np.dtype(spec.dtype)
        chunks = _chunks(spec, shape, sizes, dtype)
        variable = _variable(file, spec.name, spec.dims, dtype, attrs, chunks=chunks, level=spec.level)
        for index, block in blocks.items():
            if block.size:
                place = tuple(slice(edges[i], edges[i + 1]) for edges, i in zip(starts, index, strict=True))
                variable[place] = _stored(np.asarray(block, dtype))
                raw.require_written()
        for key, coordinate in fitting_coords(template, shape).items():
            values, attrs = coordinate_values(coordinate)
            made = _variable(file, str(key), tuple(map(str, coordinate.dims)), values.dtype, attrs)
            if values.size:
                made[...] = _stored(values)
    record = write_bytes(context, path, read_blocks(whole))
    whole.unlink()
    return PartRecord((), (record,), math.prod(shape.values()))


class _NewFile(io.RawIOBase):
    """A new file for HDF5, which ends the process when it closes a file after an error of the disk.

    An error is therefore kept, what HDF5 writes after it is discarded, and :meth:`require_written` or leaving the
    ``with`` block raises it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115 - closed by close()
        self._error: OSError | None = None

    def require_written(self) -> None:
        """Raise the first error of the disk, if there was one."""
        if self._error is not None:
            raise self._error

    def __exit__(self, *exc: object) -> None:
        self.close()
        if exc[0] is None:
            self.require_written()

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):
                done += self._file.write(view[done:]) or 0
        except OSError as error:
            self._error = self._error or error
            self._file.seek(len(view) - done, os.SEEK_CUR)
        return len(view)


def _variable(
    file: Any,
    name: str,
    dims: tuple[str, ...],
    dtype: np.dtype[Any],
    attrs: Mapping[Any, Any],
    *,
    chunks: tuple[int, ...] | None = None,
    level: int = 0,
) -> Any:
    import h5py

    kind = h5py.string_dtype() if dtype.kind in "UT" else _stored(np.empty(0, dtype)).dtype
    fill = _fill(dtype) if name not in dims else None  # CF: a coordinate of a dim has no missing values
    packing: dict[str, Any] = {"chunks": chunks} if chunks else {}
    if chunks and level and dtype.kind not in "UT":
        packing |= {"compression": "gzip", "compression_opts": level, "shuffle": True}
    variable = file.create_variable(name, dims, kind, fillvalue=fill, **packing)
    own = dict(coded(dtype)[0]) | ({"dtype": "bool"} if dtype.kind == "b" else {})
    for key, value in {**{str(k): v for k, v in attrs.items()}, **own}.items():
        variable.attrs[key] = _attribute(value)
    return variable


def _chunks(
    spec: ArraySpec, shape: Mapping[str, int], sizes: Sequence[Sequence[int]], dtype: np.dtype[Any]
) -> tuple[int, ...] | None:
    """Return the cells of a file's chunk along each dim: as asked for, else dask's chunks, halved while too large."""
    if not shape:
        return None
    longest = (max(along, default=1) for along in sizes)
    found = [max(min(spec.chunks.get(dim, size), n), 1) for (dim, n), size in zip(shape.items(), longest, strict=True)]
    free = [i for i, dim in enumerate(shape) if dim not in spec.chunks]
    while free and math.prod(found) * dtype.itemsize > _LARGEST_CHUNK:
        widest = max(free, key=lambda i: found[i])
        if found[widest] == 1:
            break
        found[widest] = -(-found[widest] // 2)
    return tuple(found)


# ---------------------------------------------------------------------------------------------------------------------
# Reading back
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredVariable:
    """A variable in a file that a run wrote, for dask's ``from_array``; the file is only open while a part is read."""

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @classmethod
    def of(cls, path: Path, name: str, dtype: np.dtype[Any]) -> StoredVariable:
        import h5netcdf

        with read_errors(path), open(path, "rb") as raw, h5netcdf.File(raw, "r") as file:
            return cls(str(path), name, tuple(file[name].shape), np.dtype(dtype))

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        import h5netcdf

        with read_errors(self.path), open(self.path, "rb") as raw, h5netcdf.File(raw, "r") as file:
            return restored(np.asarray(file[self.name][key]), self.dtype)
