"""Labels along a dim that only the run knows: the ids of a table's rows, which lie beside the matrix made of them.

An array's coordinates are in memory while a graph is built, but a frame's columns are not. Labels made of a column are
tasks, one a chunk along their dim, and a coordinate without dims stands for them: it goes wherever the array goes,
through every op that carries coordinates on, until :func:`run_labels` asks which of them still fit.

(Rejected: a lazy coordinate along the dim. xarray takes none whose length is unknown, since nan differs from itself.)
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from pipeline.graph import GraphNode, Key

__all__ = ["RunLabels", "as_coordinate", "dims_of", "held", "run_labels"]


@dataclass(frozen=True, eq=False)
class RunLabels:
    """The labels along ``dim``: those of its chunk ``i`` are the task ``(name, i)`` of ``n``, a numpy array, 1-d.

    Parameters
    ----------
    dtype : as pandas has it, of the column that they were
    tasks : the tasks that make them, whatever they need included
    """

    name: str
    dim: str
    n: int
    dtype: Any
    tasks: Mapping[Key, GraphNode]

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple((self.name, i) for i in range(self.n))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunLabels) and (self.name, self.dim) == (other.name, other.dim)

    def __hash__(self) -> int:
        return hash((self.name, self.dim))

    def __deepcopy__(self, memo: Any) -> RunLabels:
        return self  # xarray copies coordinates deeply, and these are tasks

    def __dask_tokenize__(self) -> tuple[str, str]:
        return self.name, self.dim


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
    """The labels of ``x`` that only the run knows, by name of the coordinate; not those of dims that are gone.

    Raises
    ------
    ValueError : if the array is cut otherwise along their dim than they are: nobody could say which label is whose
    """
    found: dict[str, RunLabels] = {}
    for name, coordinate in x.coords.items():
        labels = held(coordinate)
        if labels is None or labels.dim not in x.dims:
            continue
        sizes = x.data.chunks[x.dims.index(labels.dim)]
        if len(sizes) != labels.n or not np.isnan(sizes).all():
            raise ValueError(
                f"the labels {name!r} along {labels.dim!r} are known only in the run, and this step does not carry "
                "them on; leave labels out where the frame becomes an array"
            )
        found[str(name)] = labels
    return found
