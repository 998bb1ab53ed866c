"""Values of one variable of a netCDF, HDF5 or zarr file, read in tasks: a file is opened for each chunk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr

from pipeline.errors import DataError, PipelineError
from pipeline.ops.sources.hdf5_parts import numbers_of
from pipeline.ops.sources.open_arrays import opened_group, zarr_node
from pipeline.ops.sources.paths import is_remote
from pipeline.ops.sources.stored_arrays import decoded, decoded_times, text_of
from pipeline.outputs.files import read_errors

__all__ = ["as_declared", "naming_chunks", "read_slab"]

Values = np.ndarray[Any, Any]


def read_slab(
    path: str,
    engine: str,
    group: str,
    variable: str,
    slab: tuple[int | slice, ...],
    dtype: np.dtype[Any],
    times: tuple[str, str] | None,
    options: Mapping[str, Any],
) -> Values:
    """Return one chunk. Only the variable itself is decoded: its coordinates are in the graph already.

    Raises
    ------
    DataError : times or text that can't be decoded
    """
    part = numbers_of(path, group, variable, slab) if engine == "h5netcdf" and not is_remote(path) else None
    if part is not None:
        stored, attrs = part
        dims = [f"dim_{i}" for i in range(stored.ndim)]
        values = np.asarray(decoded(variable, xr.Variable(dims, stored, attrs)).values)
    else:
        with opened_group(path, engine, group, options) as raw:
            values = np.asarray(decoded(variable, raw.variables[variable])[slab].values)
    if times is not None:
        values = decoded_times(variable, values, times, path)
        if values.dtype != dtype and (values.dtype == object or dtype == "M8[ns]"):
            limits = "1678 to 2262" if dtype == "M8[ns]" else "the Gregorian calendar"
            raise DataError(f"{path}: {variable!r} has times outside of {limits}; to read numbers: decode_times: false")
    return as_declared(values, dtype, variable, path)


@contextmanager
def naming_chunks(path: str, inner: str, slab: tuple[int | slice, ...], options: Mapping[str, Any]) -> Iterator[None]:
    """Name the damaged chunk of a part of a zarr array that can't be read; several chunks are then read one by one.

    Raises
    ------
    DataError : instead of what zarr raises
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception:  # codecs raise errors of many kinds; raised again, by name if a chunk is at fault
        array = zarr_node(path, inner, options)
        chunk = array.shards or array.chunks
        ends = [(i, i + 1) if isinstance(i, int) else (i.start, i.stop) for i in slab]
        ranges = [range(a // n, -(-b // n)) for (a, b), n in zip(ends, chunk, strict=False)]
        ranges += [range(-(-n // size)) for n, size in zip(array.shape, chunk, strict=True)][len(ranges) :]
        places = list(itertools.product(*ranges))  # the characters of text are a dim more
        for place in places:
            with read_errors("/".join(filter(None, (path, inner, array.metadata.encode_chunk_key(place))))):
                if len(places) == 1:
                    raise
                array[tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, chunk, strict=True))]
        raise


def as_declared(values: Values, dtype: np.dtype[Any], name: str, path: str) -> Values:
    """Return values that were read in the declared dtype, bytes as text.

    Raises
    ------
    DataError : bytes that are not UTF-8
    """
    return np.asarray(text_of(name, values, path) if values.dtype.kind == "S" else values, dtype=dtype, order="C")
