"""Read outputs: lazily for a user, or as the value for a comparison."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
from dask.base import tokenize

from pipeline.config.sections.formats import FOLDERS, are_lines
from pipeline.graph.calendars import calendar_of, decode_times, encode_times
from pipeline.graph.collect import fitting_coords, join_partitions
from pipeline.graph.graph import Sink
from pipeline.graph.value_types import FrameType
from pipeline.outputs.files import read_errors, unpacking
from pipeline.outputs.netcdf import StoredVariable
from pipeline.outputs.run_labels import plain_dtype
from pipeline.outputs.target_paths import HIDDEN, fixed_folder, item_pattern

__all__ = ["files_of", "open_output", "read"]


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
        types |= {name: plain_dtype(own.dtype) for name, own in value_type.labels.items()}
        calendars = {str(name) for name, c in value_type.template.coords.items() if calendar_of(c.values)}
        # decoded only where it was decoded in the graph: some times are left to the user, here too
        array = xr.open_zarr(
            path,
            consolidated=True,
            decode_times={name: dtype.kind == "M" or name in calendars for name, dtype in types.items()},
            decode_timedelta={name: dtype.kind == "m" for name, dtype in types.items()},
        )[variable]
        return array.rename(None)
    if sink.format == "parquet":
        import dask.dataframe as dd

        # not dd.read_parquet: it warns with this pandas on every partition
        parts = [folder / name for name in files_of(sink, folder)]
        if not parts:
            return dd.from_pandas(_meta(sink), npartitions=1)
        return dd.from_map(_partition, parts, sink=sink, folder=folder, meta=_meta(sink), label=f"open-{sink.name}")
    if sink.format == "netcdf":
        return _netcdf(sink, path)
    if sink.value_type.kind == "items":
        return _items(sink, folder, files_of(sink, folder) if files is None else files)
    if sink.format == "npy":
        return _labelled(sink, _load("npy", path, None))
    return _load(sink.format, path, sink)


def read(sink: Sink, folder: Path) -> Any:
    """Read the value of an output for a comparison: frames in memory, arrays lazily."""
    if sink.format != "parquet":
        return open_output(sink, folder)
    parts = [_partition(folder / name, sink=sink, folder=folder) for name in files_of(sink, folder)]
    return join_partitions(parts, _meta(sink))


def _meta(sink: Sink) -> pd.DataFrame:
    value_type: Any = sink.value_type
    meta: pd.DataFrame = value_type.meta
    return meta


def _partition(path: Path, *, sink: Sink, folder: Path) -> pd.DataFrame:
    """Read one Parquet file, with the columns that are in its path, in the order of the frame that was written."""
    import pyarrow.parquet as pq

    meta = _meta(sink)
    with (
        read_errors(path),
        open(path, "rb") as file,
    ):  # an open file: Arrow would also make columns of a path with = in it
        frame: pd.DataFrame = pq.read_table(file).to_pandas()
    for part in path.relative_to(folder / sink.path).parent.parts:
        column, _, text = part.partition("=")
        values = pd.Series([unquote(text)] * len(frame), index=frame.index, dtype="str")
        frame[column] = _typed(values.to_frame(column), meta)[column]
    return frame[list(meta.columns)]


def _items(sink: Sink, folder: Path, files: Sequence[str]) -> dict[str, Any]:
    pattern = item_pattern(str(PurePosixPath(sink.path)))
    found = {}
    for name in files:
        match = pattern.fullmatch(name)
        if match:
            found[match["key"]] = _load(sink.format, folder / name, None)
    names = getattr(sink.value_type, "names", None)
    order = {name: i for i, name in enumerate(names)} if names else {}
    return dict(sorted(found.items(), key=lambda pair: (order.get(pair[0], len(order)), pair[0])))


def _load(form: str, path: Path, sink: Sink | None) -> Any:
    """Return what a file holds.

    Raises
    ------
    DataError : it can't be read
    """
    with read_errors(path):
        return _loaded(form, path, sink)


def _loaded(form: str, path: Path, sink: Sink | None) -> Any:
    if form == "npy":
        return np.load(path)
    if form == "file":
        return path.read_bytes()
    if form == "text":
        with unpacking(path) as file:
            return file.read().decode()
    if form == "pickle":  # written by our own run; opening a pickle runs code in it
        with unpacking(path) as file:
            return pickle.load(file)
    value_type = sink.value_type if sink is not None else None
    if form == "csv":
        options = dict(sink.options) if sink is not None else {}
        types = dict(value_type.meta.dtypes) if isinstance(value_type, FrameType) else {}
        texts = {name: dtype for name, dtype in types.items() if isinstance(dtype, pd.StringDtype)}  # 007 stays 007
        frame = pd.read_csv(path, sep=options.get("sep", ","), decimal=options.get("decimal", "."), dtype=texts)
        return _typed(frame, value_type.meta) if isinstance(value_type, FrameType) else frame
    with unpacking(path) as file:
        if not isinstance(value_type, FrameType):
            return json.load(file)
        lines = sink is not None and are_lines(sink.path, sink.options)
        rows = [json.loads(line) for line in file] if lines else json.load(file)
    return _typed(pd.DataFrame(rows, columns=list(value_type.meta.columns)), value_type.meta)


def _typed(frame: pd.DataFrame, meta: pd.DataFrame) -> pd.DataFrame:
    """Convert columns of text to the types that were written, where the values allow it."""
    for name, dtype in meta.dtypes.items():
        if name not in frame.columns:
            continue
        column: Any = frame[name]
        if pd.api.types.is_bool_dtype(dtype) and pd.api.types.is_string_dtype(column.dtype):
            frame[name] = column.map({"True": True, "False": False, "true": True, "false": False}).astype(dtype)
        elif pd.api.types.is_datetime64_any_dtype(dtype):
            frame[name] = pd.to_datetime(column, format="ISO8601", utc=getattr(dtype, "tz", None) is not None)
        elif not (
            pd.api.types.is_object_dtype(dtype) or (column.isna().any() and pd.api.types.is_integer_dtype(dtype))
        ):
            try:
                frame[name] = column.astype(dtype)
            except (TypeError, ValueError):  # a duration, a category with other text: stays as it was read
                continue
    return frame


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
        stored = StoredVariable.of(path, name, plain_dtype(own.dtype))
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
