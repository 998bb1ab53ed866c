"""Open a group of a netCDF, HDF5 or zarr file by xarray, and find what it has.

A file is opened once for its metadata, and once for each chunk: no open file is pickled or kept between tasks.
Rejected: ``xarray.open_dataset(chunks=…)``, whose tasks carry file handles, random tokens and a cache.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.importing import Deferred
from pipeline.ops.sources.paths import is_remote, opened
from pipeline.outputs.files import read_errors

if TYPE_CHECKING:
    import xarray as xr
else:
    xr = Deferred("xarray")  # helper processes that read metadata seldom need it

__all__ = ["inherited", "netcdf_engine", "opened_group", "require_group", "zarr_node"]


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
def opened_group(path: str, engine: str, group: str, options: Mapping[str, Any]) -> Iterator[xr.Dataset]:
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


def inherited(
    path: str, engine: str, group: str, options: Mapping[str, Any], dims: list[str]
) -> dict[str, xr.Variable]:
    """Return the coordinates of dims from the groups around a group, the nearest first, in memory."""
    found: dict[str, xr.Variable] = {}
    while group and any(dim not in found for dim in dims):
        group = group.rpartition("/")[0]
        with opened_group(path, engine, group, options) as raw:
            found = {dim: raw.variables[dim].load() for dim in dims if dim in raw.variables} | found
    return found


def require_group(path: str, engine: str, group: str, options: Mapping[str, Any]) -> None:
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


def zarr_node(path: str, inner: str, options: Mapping[str, Any]) -> Any:
    """Return a group or array of a zarr store; ``inner`` is its path in the store."""
    import zarr

    node: Any = zarr.open(path, mode="r", storage_options=dict(options) or None)
    return node[inner] if inner else node
