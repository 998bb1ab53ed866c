"""Assemble a step's value in memory from the results of its tasks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError
from pipeline.graph.column_types import empty_table
from pipeline.graph.graph import Key
from pipeline.graph.pandas_frames import FrameForm, as_frame
from pipeline.graph.segments import Dropped
from pipeline.graph.value_types import ArrayType, FrameType, ItemsType, ObjectType, PartsType, ValueType

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["argument", "collect", "fitting_coords", "joined"]


def collect(value_type: ValueType, results: Mapping[Key, Any], *, frames: FrameForm = "pandas") -> Any:
    """Assemble the value of a step.

    Parameters
    ----------
    results : key -> result, for all keys of ``value_type``; there may be others
    frames : what a frame becomes

    Returns
    -------
    ``xarray.DataArray`` for an array; for a frame a ``pandas.DataFrame`` with a new index (its dtypes are those of
    :mod:`pipeline.graph.pandas_frames`), a ``pyarrow.Table`` or a ``polars.DataFrame``; for items (in order, without
    dropped ones) a dict from key to item; the object for a value; for parts the whole value if there is one, else a
    dict of the parts

    Raises
    ------
    KeyError : if a key of the value type has no result
    DataError : if the labels computed in the run are not as many as the places along their dim
    """
    if isinstance(value_type, ArrayType):
        return _array(value_type, results)
    if isinstance(value_type, FrameType):
        return as_frame(joined([results[key] for key in value_type.keys], value_type.schema), frames)
    if isinstance(value_type, ItemsType):
        return _items(value_type, results)
    if isinstance(value_type, ObjectType):
        return results[value_type.keys[0]]
    if isinstance(value_type, PartsType):
        if value_type.whole is not None:
            return collect(value_type.whole, results, frames=frames)
        return {name: collect(part, results, frames=frames) for name, part in value_type.parts.items()}
    raise TypeError(f"got {value_type!r}, which is not a value type")


def argument(value_type: ValueType, results: Sequence[Any], frames: FrameForm = "pandas") -> Any:
    """Assemble the value as the argument of a call: like :func:`collect`, but items as a list.

    Parameters
    ----------
    results : in the order of ``value_type.keys``
    frames : what a frame becomes
    """
    value = collect(value_type, dict(zip(value_type.keys, results, strict=True)), frames=frames)
    return list(value.values()) if isinstance(value_type, ItemsType) else value


def _array(value_type: ArrayType, results: Mapping[Key, Any]) -> xr.DataArray:
    import xarray as xr

    starts: list[list[int]] = []
    for dim, sizes in enumerate(value_type.chunks):
        lengths: Sequence[float] = sizes
        if any(size != size for size in sizes):  # nan: unknown before the run; the chunks along this dim's axis have it
            axis = ((0,) * dim + (i,) + (0,) * (len(value_type.chunks) - dim - 1) for i in range(len(sizes)))
            lengths = [np.shape(results[(value_type.name, *index)])[dim] for index in axis]
        starts.append([int(n) for n in itertools.accumulate(lengths, initial=0)])
    shape = tuple(edges[-1] for edges in starts)
    keys = value_type.chunk_keys
    if len(keys) == 1:
        values = np.asarray(results[keys[0]]).astype(value_type.dtype, copy=False)  # a lone chunk is not copied
    else:
        values = np.empty(shape, value_type.dtype)
        for key in keys:
            place = tuple(slice(edges[i], edges[i + 1]) for edges, i in zip(starts, key[1:], strict=True))
            values[place] = results[key]
    found = dict(zip(value_type.dims, shape, strict=True))
    coords = fitting_coords(value_type.template, found)
    for name, labels in value_type.labels.items():
        along = np.concatenate([np.asarray(results[key]) for key in labels.keys])
        if len(along) != found[labels.dim]:
            raise DataError(f"{labels.dim!r} has the length {found[labels.dim]}, but {name!r} has {len(along)} labels")
        coords[name] = (labels.dim, along)
    return xr.DataArray(values, coords=coords, dims=value_type.dims, attrs=dict(value_type.template.attrs))


def fitting_coords(template: Any, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return the coordinates of a template whose sizes are those of the array, which may be unknown until run time.

    Parameters
    ----------
    template : ``xarray.Dataset``, see :class:`pipeline.graph.value_types.ArrayType`
    sizes : dim -> length in the array
    """
    coords = template.coords.items()
    return {str(name): x for name, x in coords if all(sizes.get(str(dim)) == n for dim, n in x.sizes.items())}


def joined(partitions: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return the rows of partitions as one table."""
    return pa.concat_tables(partitions) if partitions else empty_table(schema)


def _items(value_type: ItemsType, results: Mapping[Key, Any]) -> dict[str, Any]:
    if value_type.names is None:
        pairs = list(itertools.chain.from_iterable(results[key] for key in value_type.keys))
    else:
        pairs = [(name, results[key]) for name, key in zip(value_type.names, value_type.keys, strict=True)]
    return {str(name): item for name, item in pairs if not isinstance(item, Dropped)}
