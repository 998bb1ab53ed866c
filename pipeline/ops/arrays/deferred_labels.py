"""Labels along a dim that only the run knows: the ids of a table's rows, which lie beside the matrix made of them.

An array's coordinates are in memory while a graph is built, but a frame's columns are not. Labels made of a column are
an array over dask, and a coordinate without dims stands for them: it goes wherever the array goes, through every op
that carries coordinates on, until :func:`run_labels` asks which of them are still there, in the array's chunks.

(Rejected: a lazy coordinate along the dim. xarray takes none whose length is unknown, since nan differs from itself.)
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from pipeline.ops.arrays.unknown_chunks import recut

__all__ = ["RunLabels", "as_coordinate", "dims_of", "held", "run_labels"]


@dataclass(frozen=True, eq=False)
class RunLabels:
    """The labels along ``dim``.

    Parameters
    ----------
    data : 1-d; of columns that numpy has no dtype for, the objects that pandas gives
    dtype : as pandas has it, of the column that they were
    """

    dim: str
    data: da.Array
    dtype: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunLabels) and (self.data.name, self.dim) == (other.data.name, other.dim)

    def __hash__(self) -> int:
        return hash((self.data.name, self.dim))

    def __deepcopy__(self, memo: Any) -> RunLabels:
        return self  # xarray copies coordinates deeply, and these are tasks

    def __dask_tokenize__(self) -> tuple[str, str]:
        return self.data.name, self.dim


def as_coordinate(labels: RunLabels) -> xr.Variable:
    """The coordinate that stands for labels."""
    cell = np.empty((), object)
    cell[()] = labels
    return xr.Variable((), cell)


def held(coordinate: Any) -> RunLabels | None:
    """The labels that a coordinate stands for, or None where it is one in memory."""
    if coordinate.ndim or coordinate.dtype != object:
        return None
    found = coordinate.values[()]
    return found if isinstance(found, RunLabels) else None


def dims_of(coordinate: Any) -> tuple[Hashable, ...]:
    """The dims along which a coordinate has values."""
    labels = held(coordinate)
    return tuple(coordinate.dims) if labels is None else (labels.dim,)


def run_labels(x: xr.DataArray) -> dict[str, RunLabels]:
    """The labels of ``x`` that only the run knows, cut as ``x`` is, by name; not those of dims that are gone."""
    found: dict[str, RunLabels] = {}
    for name, coordinate in x.coords.items():
        labels = held(coordinate)
        if labels is not None and labels.dim in x.dims:
            data = recut(labels.data, 0, x.data, x.dims.index(labels.dim))
            found[str(name)] = RunLabels(labels.dim, data, labels.dtype)
    return found
