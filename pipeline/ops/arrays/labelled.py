"""Array operations along labels: ``sel take groupby resample``.

Labels are coordinates, which are in memory, so that which block goes where is settled while the graph is built. The
tasks are our own: xarray's group-by gives several times as many, over chunks that nobody asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import Call, Name
from pipeline.errors import DataError, OpError
from pipeline.graph.graph import GraphNode, Key, listed, ref, task
from pipeline.ops.arrays.block_tasks import Part, blocks, joined, pieces, placed, tree
from pipeline.ops.arrays.dims import dim_number, one_chunk, rebuilt
from pipeline.ops.arrays.partial_aggregates import aggregate_dtype, aggregated, merged, partial, require_aggregate
from pipeline.ops.elementwise.targets import evaluate_coords

__all__ = ["groupby", "resample", "sel", "take"]

Block = np.ndarray[Any, Any]
Bound = Mapping[str, Sequence[Any]] | None

# ---------------------------------------------------------------------------------------------------------------------
# Groups
# ---------------------------------------------------------------------------------------------------------------------


def groupby(
    x: xr.DataArray, *, by: Expression, agg: str, skipna: bool = True, ddof: int | None = None, bound: Bound = None
) -> xr.DataArray:
    """Aggregates of the groups that an expression over one coordinate makes.

    The groups, sorted, take the place of the coordinate's dim, under the name of the expression's outermost function
    (``month(time)``: ``month``) or coordinate. A missing label is a group of its own, the last.

    Raises
    ------
    OpError : an expression of no or several dims, or ``std`` or ``var`` without ``ddof``
    """
    require_aggregate(x, agg, ddof)
    labels = _labels(by, x, "by")
    dim = str(labels.dims[0])
    axis = dim_number(x, dim)
    groups, codes = _coded(labels.values)
    name = f"groupby-{tokenize(x.data.name, codes, agg, skipna, ddof)}"
    kind = aggregate_dtype(x.dtype, agg, empty=False)
    tasks: dict[Key, GraphNode] = {}
    others = [range(n) if i != axis else range(1) for i, n in enumerate(x.data.numblocks)]
    ends = np.cumsum([0, *x.data.chunks[axis]])
    for index in itertools.product(*others):
        level: list[Key] = []
        for k in range(x.data.numblocks[axis]):
            key = (f"{name}-part", *placed(index, axis, k))
            slab = codes[ends[k] : ends[k + 1]]
            tasks[key] = task(key, partial, ref((x.data.name, *key[1:])), axis, slab, agg, skipna)
            level.append(key)
        level = tree(tasks, level, f"{name}-merge", index, axis, merged, agg)
        tasks[name, *index] = task(
            (name, *index), aggregated, listed(map(ref, level)), axis, len(groups), agg, ddof, kind
        )
    chunks = tuple((len(groups),) if i == axis else sizes for i, sizes in enumerate(x.data.chunks))
    label = _label(by)
    dims = [label if i == axis else d for i, d in enumerate(x.dims)]
    return rebuilt(x, blocks(name, tasks, chunks, kind, x.data), dims, coords={label: groups}, gone=[dim])


def resample(
    x: xr.DataArray, *, rule: Mapping[str, str], agg: str, skipna: bool = True, ddof: int | None = None
) -> xr.DataArray:
    """Aggregates of regular periods of a time coordinate, labelled with their starts.

    A chunk of the result holds the periods that begin in a chunk of the input. A period without data gives NaN, its sum
    and count 0; so whole numbers become float64 where there is one.

    Raises
    ------
    OpError : no such dim, a dim whose labels are no times in rising order, or no such period
    """
    require_aggregate(x, agg, ddof)
    ((dim, freq),) = rule.items()
    axis = dim_number(x, dim, "rule")
    index = x.indexes.get(dim)
    if not isinstance(index, pd.DatetimeIndex) or not index.is_monotonic_increasing:
        raise OpError("rule", f"{dim!r} has no times in rising order as labels")
    if not len(index):
        raise DataError(f"there are no periods along {dim!r}, which has length 0")
    try:
        counts = pd.Series(1, index=index).resample(freq).count()
    except ValueError as error:
        raise OpError("rule", f"{freq!r} is no period that pandas knows ({error})") from error
    edges = np.concatenate([[0], np.cumsum(counts.to_numpy())])
    kind = aggregate_dtype(x.dtype, agg, empty=bool((counts == 0).any()))
    name = f"resample-{tokenize(x.data.name, axis, edges, agg, skipna, ddof)}"
    ends = np.cumsum(x.data.chunks[axis])
    # The chunk of the input in which each period begins; empty ones go with what follows them.
    home = np.searchsorted(ends, np.minimum(edges[:-1], len(index) - 1), side="right")
    tasks: dict[Key, GraphNode] = {}
    sizes = []
    for k, chunk in enumerate(np.unique(home)):
        first, last = np.flatnonzero(home == chunk)[[0, -1]]
        bounds = edges[first : last + 2]
        codes = np.repeat(np.arange(last - first + 1), np.diff(bounds))
        sizes.append(int(last - first + 1))
        for at in itertools.product(*(range(n) if i != axis else [k] for i, n in enumerate(x.data.numblocks))):
            several = pieces(x.data, at, axis, (int(bounds[0]), int(bounds[-1])))
            how = (axis, codes, sizes[-1], agg, skipna, ddof, kind)
            tasks[name, *at] = task((name, *at), _resampled, *several, *how)
    chunks = tuple(tuple(sizes) if i == axis else own for i, own in enumerate(x.data.chunks))
    data = blocks(name, tasks, chunks, kind, x.data)
    return rebuilt(x, data, x.dims, coords={dim: (dim, counts.index, x[dim].attrs)}, gone=[dim])


def _resampled(
    several: list[Block],
    parts: tuple[Part, ...],
    axis: int,
    codes: Block,
    n: int,
    agg: str,
    skipna: bool,
    ddof: int | None,
    dtype: Any,
) -> Block:
    found = partial(joined(several, parts, axis), axis, codes, agg, skipna)
    return aggregated([found], axis, n, agg, ddof, dtype)


def _labels(by: Expression, x: xr.DataArray, key: str) -> xr.DataArray:
    if by.references:
        raise OpError(key, f"{by.text!r} holds a value that is known only in the run; groups must be known before")
    try:
        labels = evaluate_coords(by, x)
    except ExpressionError as error:
        raise OpError(key, f"{error}") from error
    if labels.ndim != 1:
        raise OpError(key, f"{by.text!r} has {labels.ndim} dims; it must be of one coordinate along one dim")
    return labels


def _label(by: Expression) -> str:
    root = by.root
    return root.function if isinstance(root, Call) else root.name if isinstance(root, Name) else "group"


def _coded(values: Block) -> tuple[Block, Block]:
    """The sorted labels, a missing one last, and for each value the number of its label."""
    codes, groups = pd.factorize(values, sort=True, use_na_sentinel=True)
    found = np.asarray(groups)
    if (codes < 0).any():
        missing = np.array([None if found.dtype == object else np.nan if found.dtype.kind == "f" else "NaT"])
        found = np.concatenate([found, missing.astype(found.dtype)])
        codes = np.where(codes < 0, len(found) - 1, codes)
    return found, codes


# ---------------------------------------------------------------------------------------------------------------------
# Gathering
# ---------------------------------------------------------------------------------------------------------------------


def take(x: xr.DataArray, like: xr.DataArray, *, at: Mapping[str, Expression], bound: Bound = None) -> xr.DataArray:
    """For each place along dims of ``like`` the slab of ``x`` that expressions over its coordinates name.

    The dims come in the order of ``like``; its chunks along the dims gathered for, and those of ``x`` along the others.
    ``x`` is brought into one chunk along the dims of ``at``.

    Raises
    ------
    OpError : no such dim, a dim without labels, or a label that ``x`` has not
    """
    found = {dim: _labels(expression, like, f"at.{dim}") for dim, expression in at.items()}
    sources: dict[str, list[str]] = {}
    for dim, labels in found.items():
        dim_number(x, dim, "at")
        sources.setdefault(str(labels.dims[0]), []).append(dim)
    for target, dims in sources.items():
        if target in x.dims and target not in dims:
            raise OpError("at", f"input has the dim {target!r} already")
        positions = [_positions(x, dim, found[dim].values) for dim in dims]
        sizes = like.chunksizes[target] if target in like.chunksizes else (like.sizes[target],)
        x = _taken(x, dims, target, positions, sizes)
        x = x.assign_coords({name: c for name, c in like.coords.items() if c.dims == (target,)})
    order = [dim for dim in like.dims if dim in x.dims]
    return x.transpose(*order, *(dim for dim in x.dims if dim not in order))


def _positions(x: xr.DataArray, dim: str, wanted: Block) -> Block:
    if dim not in x.indexes:
        raise OpError("at", f"{dim!r} of input has no labels")
    index = x.indexes[dim]
    if not index.is_unique:
        raise OpError("at", f"{dim!r} of input has a label more than once")
    places: Block = index.get_indexer(pd.Index(wanted))
    if (places < 0).any():
        raise OpError("at", f"{dim!r} of input has no label {wanted[places < 0][0]!s}")
    return places


def _taken(
    x: xr.DataArray, dims: list[str], target: str, positions: list[Block], sizes: tuple[int, ...]
) -> xr.DataArray:
    """``x`` with ``target`` as its first dim, in place of ``dims``."""
    x = one_chunk(x, dims)
    axes = [dim_number(x, dim) for dim in dims]
    kept = [i for i in range(x.ndim) if i not in axes]
    name = f"take-{tokenize(x.data.name, axes, positions, sizes)}"
    ends = np.cumsum([0, *sizes])
    tasks: dict[Key, GraphNode] = {}
    for k in range(len(sizes)):
        here = tuple(p[ends[k] : ends[k + 1]] for p in positions)
        for rest in itertools.product(*(range(x.data.numblocks[i]) for i in kept)):
            block = [0] * x.ndim
            for i, at in zip(kept, rest, strict=True):
                block[i] = at
            key = (name, k, *rest)
            tasks[key] = task(key, _gathered, ref((x.data.name, *block)), tuple(axes), here)
    chunks = (tuple(sizes), *(x.data.chunks[i] for i in kept))
    dims_left = [target, *(x.dims[i] for i in kept)]
    return rebuilt(x, blocks(name, tasks, chunks, x.dtype, x.data), dims_left, gone=dims)


def _gathered(block: Block, axes: tuple[int, ...], positions: tuple[Block, ...]) -> Block:
    return np.asarray(np.moveaxis(block, axes, range(len(axes)))[positions])


# ---------------------------------------------------------------------------------------------------------------------
# A part
# ---------------------------------------------------------------------------------------------------------------------


def sel(x: xr.DataArray, *, labels: Mapping[str, Any], method: str | None = None) -> xr.DataArray:
    """A part by labels: a single one drops its dim, ``[start, stop]`` keeps it, both ends included.

    Raises
    ------
    OpError : no such dim or label, a dim without coordinates, or a range with nothing in it
    """
    for dim, wanted in labels.items():
        dim_number(x, dim, "labels")
        if dim not in x.indexes:
            raise OpError("labels", f"{dim!r} has no coordinates; pick positions instead: [{dim}=0:10]")
        index = x.indexes[dim]
        known = f"{dim!r} has the labels {index[0]} to {index[-1]}" if len(index) else f"{dim!r} has no labels"
        try:
            if isinstance(wanted, list | tuple):
                x = x.sel({dim: _range(index, [_as_time(end) for end in wanted])})
            else:
                x = x.sel({dim: _as_time(wanted)}, method=method)
        except (KeyError, TypeError, ValueError) as error:
            hint = "" if isinstance(wanted, list | tuple) or method else "; for the nearest one: method: nearest"
            raise OpError("labels", f"{wanted!r} can't be found: {known}{hint}") from error
        if dim in x.dims and not x.sizes[dim]:
            raise OpError("labels", f"{wanted!r} selects nothing: {known}")
    return x


def _range(index: pd.Index[Any], ends: list[Any]) -> slice:
    start, stop = ends
    backwards = index.is_monotonic_decreasing and not index.is_monotonic_increasing
    if backwards and start is not None and stop is not None and not isinstance(start, str) and start < stop:
        start, stop = stop, start
    return slice(start, stop)


def _as_time(label: Any) -> Any:
    return pd.Timestamp(label) if isinstance(label, date) else label
