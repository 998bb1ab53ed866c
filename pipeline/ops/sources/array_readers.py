"""What is read of each file of a source of arrays while a Graph is built."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import DataError, OpError
from pipeline.ops.sources.array_records import ArrayRecord, packed, raw_variable, unpacked_record
from pipeline.ops.sources.file_facts import Fact
from pipeline.ops.sources.hdf5_pattern import Pattern, pattern_of
from pipeline.ops.sources.inspected_arrays import recorded
from pipeline.ops.sources.npy import npy_head
from pipeline.ops.sources.open_arrays import netcdf_engine, zarr_node
from pipeline.ops.sources.paths import is_remote, opened, options_of, similar
from pipeline.outputs.files import read_errors

__all__ = ["NetcdfReader", "NpyHead", "NpyReader", "ZarrReader"]

_PATTERNS = 4  # of files that are made in different ways


@dataclass
class _Records:
    """A reader of records of one variable.

    Parameters
    ----------
    variable, group, times : see :func:`pipeline.ops.sources.inspected_arrays.recorded`
    """

    variable: str | None
    group: str
    times: bool
    storage: Mapping[str, Any] | None

    def pack(self, found: ArrayRecord) -> Fact | None:
        return packed(found)

    def unpack(self, path: str, fact: Fact) -> ArrayRecord:
        return unpacked_record(fact)


@dataclass
class NetcdfReader(_Records):
    """Reads netCDF and HDF5 files: the first by xarray, those that are made as it is by h5py alone."""

    _patterns: list[Pattern] = field(default_factory=list)
    _n_patterns: int = 0
    _last: tuple[str, ArrayRecord] | None = None  # read by xarray: the next pattern, if there is another file

    @property
    def kind(self) -> str:
        return f"netcdf 1 {json.dumps([self.variable, self.group.strip('/'), self.times])}"

    def read(self, path: str) -> ArrayRecord:
        if not is_remote(path):
            self._learn()
            for i, pattern in enumerate(self._patterns):
                if (record := pattern.read(path)) is not None:
                    self._patterns.insert(0, self._patterns.pop(i))
                    return record
        options = options_of(path, self.storage)
        engine = netcdf_engine(path, options)
        record = recorded(path, engine, self.variable, group=self.group, times=self.times, options=options)
        if not is_remote(path) and self._n_patterns < _PATTERNS:
            self._n_patterns += 1
            self._last = path, record
        return record

    def _learn(self) -> None:
        if self._last is not None:
            pattern = pattern_of(*self._last)
            self._patterns[:0] = [pattern] if pattern is not None else []
            self._last = None


@dataclass
class ZarrReader(_Records):
    """Reads zarr stores, each time: no stamp of a file shows whether the chunks of a coordinate have changed."""

    kind: str = ""

    def read(self, path: str) -> ArrayRecord:
        import zarr

        options = options_of(path, self.storage)
        if not is_remote(path) and not os.path.exists(path):
            raise DataError(f"{path}: no such file{similar(path)}")
        with read_errors(path):
            try:
                node = zarr_node(path, "", options)
            except (FileNotFoundError, ValueError, KeyError) as error:
                raise DataError(f"{path}: is neither a zarr group nor a zarr array ({error})") from error
        if not isinstance(node, zarr.Array):
            engine = "zarr-consolidated" if node.metadata.consolidated_metadata is not None else "zarr"
            return recorded(path, engine, self.variable, group=self.group, times=self.times, options=options)
        if self.group:
            raise OpError("group", f"{path} has no group {self.group!r}; it is a single array")
        with read_errors(path):
            dims = tuple(getattr(node.metadata, "dimension_names", None) or (f"dim_{i}" for i in range(node.ndim)))
            variable = raw_variable("", dims, node.dtype, node.shape, {}, None)
            return ArrayRecord("zarr-array", "", variable, chunks=node.chunks)


@dataclass(frozen=True)
class NpyHead:
    """What an npy file is of: the shape, and the dtype as stored."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass
class NpyReader:
    """Reads the heads of npy files."""

    storage: Mapping[str, Any] | None
    kind: str = "npy 1"

    def read(self, path: str) -> NpyHead:
        with opened(path, options_of(path, self.storage)) as file:
            shape, _, dtype = npy_head(path, file)
            needed = file.tell() + math.prod(shape) * dtype.itemsize
            nbytes = file.seek(0, os.SEEK_END)
        if nbytes < needed and not dtype.hasobject:
            raise DataError(
                f"{path}: has {nbytes:,} bytes, and an array of {shape} needs {needed:,}: its end is missing"
            )
        if dtype.hasobject or dtype.names is not None or dtype.kind == "V":
            raise DataError(f"{path}: holds {dtype}; an array is of numbers, truth values, times or text")
        return NpyHead(shape, dtype)

    def pack(self, found: NpyHead) -> Fact | None:
        return Fact(json.dumps([found.shape, found.dtype.str]).encode())

    def unpack(self, path: str, fact: Fact) -> NpyHead:
        shape, dtype = json.loads(fact.head)
        return NpyHead(tuple(shape), np.dtype(dtype))
