"""Read outputs: lazily for a user, or as the value for a comparison."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from dask.base import tokenize

from pipeline.config.sections.formats import FOLDERS, PICTURES, are_lines
from pipeline.graph.calendars import calendar_of, decode_times, encode_times
from pipeline.graph.collect import fitting_coords, joined
from pipeline.graph.column_types import conform, empty_table
from pipeline.graph.graph import Sink
from pipeline.graph.pandas_frames import to_pandas
from pipeline.outputs.files import read_errors, unpacking
from pipeline.outputs.hive_folders import with_folder_columns
from pipeline.outputs.netcdf import StoredVariable
from pipeline.outputs.run_labels import plain_dtype
from pipeline.outputs.target_paths import HIDDEN, fixed_folder, item_pattern
from pipeline.outputs.written_text import csv_table, json_table

__all__ = ["Picture", "files_of", "open_output", "read"]


class Picture(bytes):
    """The file of a plot, which a notebook shows."""

    def _repr_png_(self) -> bytes | None:
        return bytes(self) if self[:4] == b"\x89PNG" else None

    def _repr_svg_(self) -> str | None:
        return None if self[:4] == b"\x89PNG" else self.decode()

    def __repr__(self) -> str:
        return f"<Picture: {'SVG' if self._repr_png_() is None else 'PNG'}, {len(self):,} bytes>"


def files_of(sink: Sink, folder: Path) -> list[str]:
    """Return the files of an output as sorted paths relative to ``folder``, its output root or staging folder."""
    if "${key}" in sink.path:
        pattern = item_pattern(str(PurePosixPath(sink.path)))
        return [name for name in _below(folder, str(fixed_folder(sink.path))) if pattern.fullmatch(name)]
    return _below(folder, sink.path) if sink.format in FOLDERS else [sink.path]


def _below(folder: Path, start: str) -> list[str]:
    found = (Path(place, name) for place, _, names in os.walk(folder / start) for name in names)
    plain = (path for path in found if not (path.name.startswith(".") and path.name.endswith(HIDDEN)))
    return sorted(path.relative_to(folder).as_posix() for path in plain)


def open_output(sink: Sink, folder: Path, *, files: Sequence[str] | None = None) -> Any:
    """Open an output for a user: zarr, netCDF and Parquet lazily (dask), other formats in memory.

    Parameters
    ----------
    folder : the output root, or a staging folder
    files : the files of an output of items, where the folder may hold others; None: all that match its path
    """
    path = folder / sink.path
    if sink.format == "zarr":
        import xarray as xr

        variable = sink.options["variable"]
        value_type: Any = sink.value_type
        types = {variable: value_type.dtype} | {str(name): c.dtype for name, c in value_type.template.coords.items()}
        types |= {name: plain_dtype(own.field) for name, own in value_type.labels.items()}
        calendars = {str(name) for name, c in value_type.template.coords.items() if calendar_of(c.values)}
        # decoded only where it was decoded in the graph: some times are left to the user, here too
        array = xr.open_zarr(
            path,
            consolidated=True,
            decode_times={name: dtype.kind == "M" or name in calendars for name, dtype in types.items()},
            decode_timedelta={name: dtype.kind == "m" for name, dtype in types.items()},
        )[variable]
        return array.rename(None)
    if sink.format in PICTURES:
        return Picture(_load("file", path))
    if sink.value_type.kind == "frame":
        return _lazy(sink, folder) if sink.format == "parquet" else to_pandas(read(sink, folder))
    if sink.format == "netcdf":
        return _netcdf(sink, path)
    if sink.value_type.kind == "items" and "${key}" in sink.path:
        return _items(sink, folder, files_of(sink, folder) if files is None else files)
    if sink.format == "npy":
        return _labelled(sink, _load("npy", path))
    if sink.format in ("parquet", "csv"):
        return _whole_table(sink, path)
    value = _load(sink.format, path)
    if sink.value_type.kind == "items" and isinstance(value, list):  # without their keys
        return {str(i): item for i, item in enumerate(value)}
    if sink.value_type.kind == "array":
        return _labelled(sink, _array_of_json(value, sink.value_type, path))
    return value


def _array_of_json(value: Any, value_type: Any, path: Path) -> np.ndarray[Any, Any]:
    """Return nested lists as the array that they were written from; NaN, NaT and infinity are ``null`` in JSON."""
    dtype = np.dtype(value_type.dtype)
    with read_errors(path):
        if dtype.kind == "m":  # "5 nanoseconds"
            texts = np.array(value, object)
            counts = [None if text is None else int(text.partition(" ")[0]) for text in texts.ravel().tolist()]
            found = np.array([np.timedelta64("NaT") if n is None else n for n in counts], dtype).reshape(texts.shape)
        else:
            found = np.array(value, dtype)
        sizes = [sum(along) for along in value_type.chunks]
        return found if any(n != n for n in sizes) else found.reshape([int(n) for n in sizes])  # no rows, no columns


def read(sink: Sink, folder: Path, *, files: Sequence[str] | None = None) -> Any:
    """Read the value of an output for a comparison: frames as one ``pyarrow.Table`` of their schema, arrays lazily."""
    if sink.value_type.kind != "frame" or sink.format in PICTURES:
        return open_output(sink, folder, files=files)
    path, schema = folder / sink.path, _schema(sink)
    if sink.format == "parquet":
        names = files_of(sink, folder) if files is None else files
        return joined([_partition(folder / name, path, schema) for name in names], schema)
    with read_errors(path):
        if sink.format == "csv":
            return csv_table(path, schema, sink.options)
        return json_table(path, schema, lines=are_lines(sink.path, sink.options))


def _schema(sink: Sink) -> pa.Schema:
    value_type: Any = sink.value_type
    schema: pa.Schema = value_type.schema
    return schema


def _lazy(sink: Sink, folder: Path) -> Any:
    """Return the frame in Parquet files as a dask.dataframe, a partition a file."""
    import dask.dataframe as dd  # heavy, and needed here alone

    schema = _schema(sink)
    meta = to_pandas(empty_table(schema))
    parts = [folder / name for name in files_of(sink, folder)]
    if not parts:
        return dd.from_pandas(meta, npartitions=1)
    # not dd.read_parquet: its types are its own, and it warns with this pandas on every partition
    label = f"open-{sink.name}"
    return dd.from_map(_pandas_partition, parts, top=folder / sink.path, schema=schema, meta=meta, label=label)


def _pandas_partition(path: Path, *, top: Path, schema: pa.Schema) -> Any:
    return to_pandas(_partition(path, top, schema))


def _partition(path: Path, top: Path, schema: pa.Schema) -> pa.Table:
    """Read one Parquet file, with the columns that are in its path, as the partition that was written."""
    import pyarrow.parquet as pq  # heavy, and needed here alone

    # an open file: Arrow would also make columns of a path with = in it
    with read_errors(path), open(path, "rb") as file:
        table = pq.ParquetFile(file).read()
        return conform(with_folder_columns(table, path.relative_to(top), schema), schema)


def _items(sink: Sink, folder: Path, files: Sequence[str]) -> dict[str, Any]:
    pattern = item_pattern(str(PurePosixPath(sink.path)))
    found = {}
    for name in files:
        match = pattern.fullmatch(name)
        if match:
            found[match["key"]] = _load(sink.format, folder / name)
    names = getattr(sink.value_type, "names", None)
    order = {name: i for i, name in enumerate(names)} if names else {}
    return dict(sorted(found.items(), key=lambda pair: (order.get(pair[0], len(order)), pair[0])))


def _whole_table(sink: Sink, path: Path) -> Any:
    """Return the table that a value was as a pandas frame; of CSV the types are found anew."""
    import pandas as pd

    with read_errors(path):
        if sink.format == "parquet":
            return pd.read_parquet(path)
        with unpacking(path) as file:
            return pd.read_csv(file, sep=str(sink.options.get("sep", ",")))


def _load(form: str, path: Path) -> Any:
    """Return what a file holds that is no frame.

    Raises
    ------
    DataError : it can't be read
    """
    with read_errors(path):
        if form == "npy":
            return np.load(path)
        if form == "file":
            return path.read_bytes()
        with unpacking(path) as file:
            if form == "text":
                return file.read().decode()
            if form == "pickle":  # written by our own run; opening a pickle runs code in it
                return pickle.load(file)
            return json.load(file)


def _netcdf(sink: Sink, path: Path) -> Any:
    """Open the variable of a netCDF file that a run wrote, in the chunks of the graph where their sizes were known."""
    import dask.array as da
    import xarray as xr

    value_type: Any = sink.value_type
    main = StoredVariable.of(path, sink.options["variable"], value_type.dtype)
    known = zip(value_type.chunks, main.shape, strict=True)
    chunks = tuple(along if sum(along) == n else (n,) for along, n in known)
    sizes = dict(zip(value_type.dims, main.shape, strict=True))
    coords = {}
    for name, coordinate in fitting_coords(value_type.template, sizes).items():
        stored = StoredVariable.of(path, name, coordinate.dtype)
        values = stored[...]
        if calendar_of(coordinate.values):
            how = encode_times(coordinate.values)[1]
            values = decode_times(values.astype(np.int64), how["units"], how["calendar"])
        coords[name] = (coordinate.dims, values, dict(coordinate.attrs))
    for name, own in value_type.labels.items():
        stored = StoredVariable.of(path, name, plain_dtype(own.field))
        coords[name] = ((own.dim,), stored[...], {})
    data = da.from_array(main, chunks=chunks, name=f"open-{sink.name}-{tokenize(str(path), os.stat(path).st_mtime_ns)}")
    attrs = {**value_type.template.attrs, **sink.options["attrs"]}
    return xr.DataArray(data, coords, value_type.dims, attrs=attrs).rename(None)


def _labelled(sink: Sink, values: np.ndarray[Any, Any]) -> Any:
    """Return the array of an npy file with the dims and coordinates that it had in the graph."""
    import xarray as xr

    value_type: Any = sink.value_type
    sizes = dict(zip(value_type.dims, values.shape, strict=True))
    coords = fitting_coords(value_type.template, sizes)
    return xr.DataArray(values, dims=value_type.dims, coords=coords, attrs=dict(value_type.template.attrs))
