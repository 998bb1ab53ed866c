"""What a netCDF, HDF5 or zarr file has of one variable, read by xarray.

Metadata of one file don't depend on those of others, so files may be looked at in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError, OpError
from pipeline.ops.sources.array_records import ArrayRecord, RawVariable, raw_variable
from pipeline.ops.sources.open_arrays import inherited, opened_group, require_group
from pipeline.ops.sources.stored_arrays import decoded, has_times
from pipeline.outputs.files import read_errors

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["recorded"]


def recorded(
    path: str, engine: str, variable: str | None, *, group: str, times: bool, options: Mapping[str, Any]
) -> ArrayRecord:
    """Return the metadata of a variable as they are stored.

    Parameters
    ----------
    variable : None: the only one with dims
    group : path of a group; empty: the outermost
    times : whether numbers with units of time are going to be decoded as times

    Raises
    ------
    DataError : the file can't be read
    OpError : there is no such group or variable
    """
    group = group.strip("/")
    if group and engine == "scipy":  # the classic format has none, and xarray would read the file itself
        require_group(path, engine, group, options)
    try:
        with read_errors(path), opened_group(path, engine, group, options) as raw:
            return _record(raw, path, engine, variable, group, times, options)
    except DataError:
        if group:
            require_group(path, engine, group, options)
        raise


def _record(
    raw: xr.Dataset,
    path: str,
    engine: str,
    variable: str | None,
    group: str,
    times: bool,
    options: Mapping[str, Any],
) -> ArrayRecord:
    coordinates = _coordinate_names(raw)
    name = variable if variable is not None else _only_variable(raw, coordinates, path)
    if name not in raw.variables:
        known = [str(n) for n in raw.variables if n not in coordinates]
        there = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise OpError("variable", f"{_place(path, group)} has no variable {name!r}; {there}{_groups_hint(raw, known)}")
    stored = _with_own_units(raw, name)
    own_dims = decoded(name, stored).dims
    dims = tuple(f"dim_{i}" if str(dim).startswith("phony_dim_") else str(dim) for i, dim in enumerate(own_dims))
    found = {c: raw.variables[c] for c in coordinates if c != name or c in own_dims}
    if group:
        found = inherited(path, engine, group, options, [dim for dim in dims if dim not in found]) | found
    ends = None
    if times and has_times(stored.attrs):
        ends = np.concatenate([stored[(part,) * stored.ndim].values.ravel() for part in (slice(0, 1), slice(-1, None))])
    return ArrayRecord(
        engine, group,
        raw_variable(str(name), tuple(map(str, stored.dims)), stored.dtype, stored.shape, stored.attrs, None),
        tuple(_raw(c, own) for c, own in found.items() if set(decoded(c, own).dims) <= set(dims)),
        chunks=_stored_chunks(stored),
        ends=ends,
    )  # fmt: skip


def _raw(name: str, own: xr.Variable) -> RawVariable:
    values = own.values
    return raw_variable(name, tuple(map(str, own.dims)), values.dtype, own.shape, own.attrs, values)


def _stored_chunks(stored: xr.Variable) -> tuple[int, ...] | None:
    grid = stored.encoding.get("chunksizes") or stored.encoding.get("chunks")
    return tuple(grid) if grid else None


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
    owner = next((x for x in raw.variables.values() if x.attrs.get("bounds") == name and has_times(x.attrs)), None)
    if owner is None or "units" in own.attrs:
        return own
    own = own.copy(deep=False)
    own.attrs |= {key: owner.attrs[key] for key in ("units", "calendar") if key in owner.attrs}
    return own
