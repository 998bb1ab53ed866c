"""One variable of a netCDF, HDF5 or zarr file: its metadata, read while building, and its values, read in tasks.

Metadata of one file don't depend on those of others, so files may be looked at in any order. A file is opened once for
them, and once for each chunk: no open file is pickled or kept between tasks. Rejected:
``xarray.open_dataset(chunks=…)``, whose tasks carry file handles, random tokens and a cache.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from pipeline.errors import DataError, OpError, PipelineError, nearest
from pipeline.graph.calendars import calendar_name, decode_times
from pipeline.ops.sources.paths import is_remote, opened
from pipeline.outputs.files import read_errors

__all__ = [
    "StoredArray",
    "as_declared",
    "inspect",
    "naming_chunks",
    "netcdf_engine",
    "read_slab",
    "text_dtype",
    "zarr_node",
]

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StoredArray:
    """The metadata of one stored variable.

    Parameters
    ----------
    group : path of its group in the file; empty for the outermost
    dtype : of the decoded values
    raw : kind of the dtype that is stored, before scaling and masking
    template : coordinates and attributes, no data
    times : units and calendar, if the values are decoded as times
    durations : whether they are decoded as durations
    grid : the stored chunks
    """

    path: str
    engine: str
    group: str
    variable: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    raw: str = ""
    template: xr.Dataset = field(default_factory=xr.Dataset)
    times: tuple[str, str] | None = None
    durations: bool = False
    grid: tuple[int, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inner(self) -> str:
        """The path of the variable in the file; empty where the file is one array."""
        return "/".join(filter(None, (self.group, self.variable)))


def netcdf_engine(path: str, options: Mapping[str, Any]) -> str:
    """Return xarray's engine for a file, by its first bytes.

    Raises
    ------
    DataError : it is no netCDF or HDF5 file, or a library is missing
    """
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
def _dataset(path: str, engine: str, group: str, options: Mapping[str, Any]) -> Iterator[xr.Dataset]:
    """Open a group of a file as a dataset that reads lazily and decodes nothing; close it at the end."""
    how: dict[str, Any] = {"cache": False, "decode_cf": False, "create_default_indexes": False}
    if group:
        how["group"] = group
    if engine.startswith("zarr"):
        how |= {"consolidated": engine == "zarr-consolidated", "storage_options": dict(options) or None}
        with xr.open_dataset(path, engine="zarr", **how) as dataset:
            yield dataset
        return
    if engine == "h5netcdf":
        how["phony_dims"] = "access"  # names for the dims of plain HDF5
    if is_remote(path):
        with opened(path, options) as file, xr.open_dataset(file, engine=engine, **how) as dataset:
            yield dataset
    else:
        with xr.open_dataset(path, engine=engine, **how) as dataset:
            yield dataset


# ---------------------------------------------------------------------------------------------------------------------
# Metadata
# ---------------------------------------------------------------------------------------------------------------------


def inspect(
    path: str, engine: str, variable: str | None, *, group: str, times: bool, options: Mapping[str, Any]
) -> StoredArray:
    """Return the metadata of a variable.

    Parameters
    ----------
    variable : None: the only one with dims
    group : path of a group; empty: the outermost
    times : whether numbers with units of time become times

    Raises
    ------
    DataError : the file can't be read, or has times that can't be decoded
    OpError : there is no such group or variable
    """
    group = group.strip("/")
    if group and engine == "scipy":  # the classic format has none, and xarray would read the file itself
        _require_group(path, engine, group, options)
    try:
        with read_errors(path), _dataset(path, engine, group, options) as raw:
            return _inspected(raw, path, engine, variable, group, times, options)
    except DataError:
        if group:
            _require_group(path, engine, group, options)
        raise


def _inspected(
    raw: xr.Dataset,
    path: str,
    engine: str,
    variable: str | None,
    group: str,
    times: bool,
    options: Mapping[str, Any],
) -> StoredArray:
    coordinates = _coordinate_names(raw)
    name = variable if variable is not None else _only_variable(raw, coordinates, path)
    if name not in raw.variables:
        known = [str(n) for n in raw.variables if n not in coordinates]
        there = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise OpError("variable", f"{_place(path, group)} has no variable {name!r}; {there}{_groups_hint(raw, known)}")
    stored = _with_own_units(raw, name)
    x = _decoded(name, stored)
    dims = tuple(f"dim_{i}" if str(dim).startswith("phony_dim_") else str(dim) for i, dim in enumerate(x.dims))
    found = {c: raw.variables[c] for c in coordinates if c != name or c in x.dims}
    if group:
        found = _inherited(path, engine, group, options, [dim for dim in dims if dim not in found]) | found
    coords = {}
    for c, own in found.items():
        coordinate = _decoded(c, own)
        if set(coordinate.dims) <= set(dims):
            coords[c] = _loaded(c, coordinate, own, path, times)
    attrs, dtype, how = dict(x.attrs), _text_dtype(stored, x), None
    if times and _has_times(stored.attrs):
        how = (str(attrs["units"]), calendar_name(attrs))
        ends = x[(slice(0, 1),) * x.ndim].values.ravel(), x[(slice(-1, None),) * x.ndim].values.ravel()
        found_dtype = _times(name, np.concatenate(ends), how, path).dtype
        if found_dtype.kind == "M":
            dtype, attrs = found_dtype, {k: v for k, v in attrs.items() if k not in ("units", "calendar")}
        else:
            how = None  # cells stay numbers: numpy computes with them, not with cftime's objects
    return StoredArray(
        path, engine, group, str(name), dims, x.shape, dtype,
        raw=stored.dtype.kind,
        template=xr.Dataset(coords=coords, attrs=attrs),
        times=how,
        durations=_is_duration(stored.attrs),
        grid=_stored_chunks(stored, x),
        options=options,
    )  # fmt: skip


def _stored_chunks(stored: xr.Variable, x: xr.Variable) -> tuple[int, ...] | None:
    grid = stored.encoding.get("chunksizes") or stored.encoding.get("chunks")
    return tuple(grid[: x.ndim]) if grid else None  # characters of text are a dim more


def _coordinate_names(raw: xr.Dataset) -> list[str]:
    """Return the variables named after a dim, or named as coordinates by attributes."""
    named = {str(name) for name in raw.variables if name in raw.dims}
    for attrs in (raw.attrs, *(x.attrs for x in raw.variables.values())):
        named.update(str(attrs.get("coordinates", "")).split())
    return [str(name) for name in raw.variables if name in named]


def _only_variable(raw: xr.Dataset, coordinates: list[str], path: str) -> str:
    others = {x.attrs.get("bounds") for x in raw.variables.values()} | set(coordinates)
    names = [str(name) for name, x in raw.variables.items() if x.ndim and name not in others]
    if len(names) != 1:
        has = f"has the variables {', '.join(sorted(names))}; name one: variable: …" if names else "has no variables"
        raise OpError("variable", f"{path} {has}{_groups_hint(raw, names)}")
    return names[0]


def _groups_hint(raw: xr.Dataset, names: list[str]) -> str:
    return "" if names else "; if they are in a group, name it: group: …"


def _place(path: str, group: str) -> str:
    return f"{path} (group {group})" if group else path


def _with_own_units(raw: xr.Dataset, name: str) -> xr.Variable:
    """Return a variable, with units and calendar of the times whose bounds it holds, as the CF conventions say."""
    own = raw.variables[name]
    owner = next((x for x in raw.variables.values() if x.attrs.get("bounds") == name and _has_times(x.attrs)), None)
    if owner is None or "units" in own.attrs:
        return own
    own = own.copy(deep=False)
    own.attrs |= {key: owner.attrs[key] for key in ("units", "calendar") if key in owner.attrs}
    return own


def _decoded(name: str, stored: xr.Variable) -> xr.Variable:
    """Return a variable, lazily, scaled and masked, its characters joined; times stay numbers."""
    durations = _is_duration(stored.attrs)
    x = xr.conventions.decode_cf_variable(name, stored, decode_times=False, decode_timedelta=durations)
    x.attrs.pop("coordinates", None)  # they are attached
    return x


def _has_times(attrs: Mapping[str, Any]) -> bool:
    return " since " in str(attrs.get("units", ""))


def _is_duration(attrs: Mapping[str, Any]) -> bool:
    """Return whether values were written as durations: the units alone may be those of a plain number."""
    return str(attrs.get("dtype", "")).startswith("timedelta64")


def _text_dtype(stored: xr.Variable, x: xr.Variable) -> np.dtype[Any]:
    """Return the dtype of the values in memory: text for bytes, and for characters that name their encoding."""
    if x.dtype == object and stored.dtype.kind == "S":
        width = stored.shape[-1] if stored.ndim > x.ndim else stored.dtype.itemsize
        return np.dtype(f"U{max(width, 1)}")
    return text_dtype(x.dtype)


def text_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in memory of values of a stored dtype: bytes become text that is as wide."""
    return np.dtype(f"U{max(dtype.itemsize, 1)}") if dtype.kind == "S" else dtype


def _loaded(name: str, coordinate: xr.Variable, stored: xr.Variable, path: str, times: bool) -> xr.Variable:
    """Return a coordinate in memory: times as times, bytes as text."""
    values, attrs = coordinate.values, dict(coordinate.attrs)
    if times and _has_times(stored.attrs):
        values = _times(name, values, (str(attrs.pop("units")), calendar_name(attrs)), path)
        attrs.pop("calendar", None)
    elif values.dtype.kind == "S":
        values = _text(name, values, path)
    return xr.Variable(coordinate.dims, values, attrs)


def _inherited(
    path: str, engine: str, group: str, options: Mapping[str, Any], dims: list[str]
) -> dict[str, xr.Variable]:
    """Return the coordinates of dims from the groups around a group, the nearest first, in memory."""
    found: dict[str, xr.Variable] = {}
    while group and any(dim not in found for dim in dims):
        group = group.rpartition("/")[0]
        with _dataset(path, engine, group, options) as raw:
            found = {dim: raw.variables[dim].load() for dim in dims if dim in raw.variables} | found
    return found


def _require_group(path: str, engine: str, group: str, options: Mapping[str, Any]) -> None:
    """Check that a file has a group.

    Raises
    ------
    OpError : with the groups that it has
    """
    with read_errors(path):
        groups = list(_groups(path, engine, options))
    if group in groups:
        return
    known = f"it has {', '.join(groups)}{nearest(group, groups)}" if groups else "it has no groups"
    raise OpError("group", f"{path} has no group {group!r}; {known}")


def _groups(path: str, engine: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the groups of a file, at any depth, by their paths."""
    if engine.startswith("zarr"):
        import zarr

        root: Any = zarr.open_group(path, mode="r", storage_options=dict(options) or None)
        yield from sorted(name for name, node in root.members(max_depth=None) if isinstance(node, zarr.Group))
    elif engine == "h5netcdf":
        import h5netcdf

        with opened(path, options) as raw, h5netcdf.File(raw, "r", phony_dims="access") as file:
            todo = [("", file)]
            while todo:
                above, here = todo.pop(0)
                for name, inner in here.groups.items():
                    yield f"{above}{name}"
                    todo.append((f"{above}{name}/", inner))


# ---------------------------------------------------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------------------------------------------------


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
    with _dataset(path, engine, group, options) as raw:
        values = np.asarray(_decoded(variable, raw.variables[variable])[slab].values)
    if times is not None:
        values = _times(variable, values, times, path)
        if values.dtype != dtype and (values.dtype == object or dtype == "M8[ns]"):
            limits = "1678 to 2262" if dtype == "M8[ns]" else "the Gregorian calendar"
            raise DataError(f"{path}: {variable!r} has times outside of {limits}; to read numbers: decode_times: false")
    return as_declared(values, dtype, variable, path)


def zarr_node(path: str, inner: str, options: Mapping[str, Any]) -> Any:
    """Return a group or array of a zarr store; ``inner`` is its path in the store."""
    import zarr

    node: Any = zarr.open(path, mode="r", storage_options=dict(options) or None)
    return node[inner] if inner else node


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


def _times(name: str, values: Values, how: tuple[str, str], path: str) -> Values:
    units, calendar = how
    try:
        return decode_times(values, units, calendar)
    except (ValueError, OverflowError) as error:
        hint = "; to read numbers: decode_times: false"
        raise DataError(f"{path}: {name!r} has the units {units!r} ({calendar}): {error}{hint}") from error


def as_declared(values: Values, dtype: np.dtype[Any], name: str, path: str) -> Values:
    """Return values that were read in the declared dtype, bytes as text.

    Raises
    ------
    DataError : bytes that are not UTF-8
    """
    return np.asarray(_text(name, values, path) if values.dtype.kind == "S" else values, dtype=dtype, order="C")


def _text(name: str, values: Values, path: str) -> Values:
    try:
        return np.strings.decode(values, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {name!r} holds bytes that are no text in UTF-8 ({error})") from error
