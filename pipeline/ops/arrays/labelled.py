"""The ops ``sel``, ``take``, ``groupby`` and ``resample``.

Labels are in memory while the graph is built, so the blocks that each task needs are known. The tasks are built here
because xarray's group-by makes several times as many, and other chunks.
"""

from __future__ import annotations

import itertools
import re
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
from pipeline.graph.calendars import calendar_of, in_calendar
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.ops.arrays.block_tasks import Part, array_of_tasks, join_parts, merge_in_tree, parts_of_blocks, replace_at
from pipeline.ops.arrays.dims import axis_of, one_chunk, rebuild
from pipeline.ops.arrays.partial_aggregates import (
    aggregate_dtype,
    finish_aggregate,
    merge_partials,
    partial_aggregate,
    require_aggregate,
)
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
    """Return aggregates of groups that an expression over one coordinate defines.

    The sorted groups replace the dim of the coordinate, under the name of the outermost function of the expression
    (``month(time)``: ``month``) or of the coordinate. Missing labels form the last group.

    Raises
    ------
    OpError : an expression with no dim or several, or ``std`` or ``var`` without ``ddof``
    """
    require_aggregate(x, agg, ddof)
    labels = _labels(by, x, "by")
    dim = str(labels.dims[0])
    axis = axis_of(x, dim)
    groups, codes = _coded(labels.values)
    name = f"groupby-{tokenize(x.data.name, codes, agg, skipna, ddof)}"
    kind = aggregate_dtype(x.dtype, agg, empty=False)
    tasks: dict[Key, GraphNode] = {}
    others = [range(n) if i != axis else range(1) for i, n in enumerate(x.data.numblocks)]
    ends = np.cumsum([0, *x.data.chunks[axis]])
    for index in itertools.product(*others):
        level: list[Key] = []
        for k in range(x.data.numblocks[axis]):
            key = (f"{name}-part", *replace_at(index, axis, k))
            slab = codes[ends[k] : ends[k + 1]]
            tasks[key] = task(key, partial_aggregate, ref((x.data.name, *key[1:])), axis, slab, agg, skipna)
            level.append(key)
        level = merge_in_tree(tasks, level, f"{name}-merge", index, axis, merge_partials, agg)
        tasks[name, *index] = task(
            (name, *index), finish_aggregate, listed(map(ref, level)), axis, len(groups), agg, ddof, kind
        )
    chunks = tuple((len(groups),) if i == axis else sizes for i, sizes in enumerate(x.data.chunks))
    label = _label(by)
    dims = [label if i == axis else d for i, d in enumerate(x.dims)]
    return rebuild(x, array_of_tasks(name, tasks, chunks, kind, x.data), dims, coords={label: groups}, gone=[dim])


def resample(
    x: xr.DataArray, *, rule: Mapping[str, str], agg: str, skipna: bool = True, ddof: int | None = None
) -> xr.DataArray:
    """Return aggregates of regular periods of a time coordinate, labelled with the starts of the periods.

    A chunk of the result holds the periods that begin in a chunk of the input. A period without data gives NaN (sum and
    count: 0), so whole numbers become float64 if there is one.

    Raises
    ------
    OpError : no such dim, labels that are not times in increasing order, or an invalid period
    """
    require_aggregate(x, agg, ddof)
    ((dim, freq),) = rule.items()
    axis = axis_of(x, dim, "rule")
    index = x.indexes.get(dim)
    if not isinstance(index, pd.DatetimeIndex | xr.CFTimeIndex) or not index.is_monotonic_increasing:
        raise OpError("rule", f"the labels of {dim!r} are not times in increasing order")
    if not len(index):
        raise DataError(f"there are no periods along {dim!r}, which has length 0")
    counts = _counts_of_periods(index, freq)
    edges = np.concatenate([[0], np.cumsum(counts.to_numpy())])
    kind = aggregate_dtype(x.dtype, agg, empty=bool((counts == 0).any()))
    name = f"resample-{tokenize(x.data.name, axis, edges, agg, skipna, ddof)}"
    ends = np.cumsum(x.data.chunks[axis])
    # the chunk of the input in which each period begins; an empty period goes with the next one
    home = np.searchsorted(ends, np.minimum(edges[:-1], len(index) - 1), side="right")
    tasks: dict[Key, GraphNode] = {}
    sizes = []
    for k, chunk in enumerate(np.unique(home)):
        first, last = np.flatnonzero(home == chunk)[[0, -1]]
        bounds = edges[first : last + 2]
        codes = np.repeat(np.arange(last - first + 1), np.diff(bounds))
        sizes.append(int(last - first + 1))
        for at in itertools.product(*(range(n) if i != axis else [k] for i, n in enumerate(x.data.numblocks))):
            several = parts_of_blocks(x.data, at, axis, (int(bounds[0]), int(bounds[-1])))
            how = (axis, codes, sizes[-1], agg, skipna, ddof, kind)
            tasks[name, *at] = task((name, *at), _resampled, *several, *how)
    chunks = tuple(tuple(sizes) if i == axis else own for i, own in enumerate(x.data.chunks))
    data = array_of_tasks(name, tasks, chunks, kind, x.data)
    return rebuild(x, data, x.dims, coords={dim: (dim, counts.index, x[dim].attrs)}, gone=[dim])


def _counts_of_periods(index: pd.Index[Any], freq: str) -> pd.Series[Any]:
    """Return the number of times in each period, labelled with the starts of the periods."""
    if isinstance(index, pd.DatetimeIndex):
        try:
            return pd.Series(1, index=index).resample(freq).count()
        except ValueError as error:
            raise OpError("rule", f"{freq!r} is not a valid period of pandas ({error})") from error
    ones = xr.DataArray(np.ones(len(index), np.int64), {"time": index.rename("time")}, ["time"])
    try:
        found = ones.resample(time=freq).count()
    except ValueError as error:
        calendar = calendar_of(index.values)
        raise OpError("rule", f"{freq!r} is not a period in the calendar {calendar}; periods are MS, D, 6h") from error
    return pd.Series(found.fillna(0).values.astype(np.int64), index=found.indexes["time"])


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
    found = partial_aggregate(join_parts(several, parts, axis), axis, codes, agg, skipna)
    return finish_aggregate([found], axis, n, agg, ddof, dtype)


def _labels(by: Expression, x: xr.DataArray, key: str) -> xr.DataArray:
    if by.references:
        raise OpError(key, f"{by.text!r} has a value that is unknown until run time; groups must be known before")
    try:
        labels = evaluate_coords(by, x)
    except ExpressionError as error:
        raise OpError(key, f"{error}") from error
    if labels.ndim != 1:
        raise OpError(key, f"{by.text!r} has {labels.ndim} dims; write an expression of one coordinate along one dim")
    return labels


def _label(by: Expression) -> str:
    root = by.root
    return root.function if isinstance(root, Call) else root.name if isinstance(root, Name) else "group"


def _coded(values: Block) -> tuple[Block, Block]:
    """Return the sorted distinct labels, a missing one last, and for each value the number of its label."""
    codes, groups = pd.factorize(values, sort=True, use_na_sentinel=True)
    found = np.asarray(groups)
    if (codes < 0).any():
        missing = np.array([None if found.dtype == object else np.nan if found.dtype.kind == "f" else "NaT"])
        found = np.concatenate([found, missing.astype(found.dtype)])
        codes = np.where(codes < 0, len(found) - 1, codes)
    return found, codes


# ---------------------------------------------------------------------------------------------------------------------
# Lookup
# ---------------------------------------------------------------------------------------------------------------------


def take(x: xr.DataArray, like: xr.DataArray, *, at: Mapping[str, Expression], bound: Bound = None) -> xr.DataArray:
    """Return for each position along dims of ``like`` the part of ``x`` whose labels expressions compute.

    Dims are in the order of ``like``. Along the dims that are looked up the result has the chunks of ``like``, along
    the others those of ``x``, which is rechunked to one chunk along the dims of ``at``.

    Raises
    ------
    OpError : no such dim, a dim without labels, or a label that ``x`` does not have
    """
    found = {dim: _labels(expression, like, f"at.{dim}") for dim, expression in at.items()}
    sources: dict[str, list[str]] = {}
    for dim, labels in found.items():
        axis_of(x, dim, "at")
        sources.setdefault(str(labels.dims[0]), []).append(dim)
    for target, dims in sources.items():
        if target in x.dims and target not in dims:
            raise OpError("at", f"input already has a dim {target!r}")
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
        raise OpError("at", f"labels of {dim!r} of input are not unique")
    places: Block = index.get_indexer(pd.Index(wanted))
    if (places < 0).any():
        raise OpError("at", f"{dim!r} of input has no label {wanted[places < 0][0]!s}")
    return places


def _taken(
    x: xr.DataArray, dims: list[str], target: str, positions: list[Block], sizes: tuple[int, ...]
) -> xr.DataArray:
    """Return ``x`` with ``dims`` replaced by a first dim ``target``."""
    x = one_chunk(x, dims)
    axes = [axis_of(x, dim) for dim in dims]
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
    return rebuild(x, array_of_tasks(name, tasks, chunks, x.dtype, x.data), dims_left, gone=dims)


def _gathered(block: Block, axes: tuple[int, ...], positions: tuple[Block, ...]) -> Block:
    return np.asarray(np.moveaxis(block, axes, range(len(axes)))[positions])


# ---------------------------------------------------------------------------------------------------------------------
# Selection
# ---------------------------------------------------------------------------------------------------------------------


def sel(x: xr.DataArray, *, labels: Mapping[str, Any], method: str | None = None) -> xr.DataArray:
    """Return a part by labels: a single label drops its dim, ``[start, stop]`` keeps it and includes both ends.

    Raises
    ------
    OpError : no such dim or label, a dim without labels, or an empty range
    """
    for dim, wanted in labels.items():
        axis_of(x, dim, "labels")
        if dim not in x.indexes:
            raise OpError("labels", f"{dim!r} has no labels; select by positions: [{dim}=0:10]")
        index = x.indexes[dim]
        known = f"{dim!r} has the labels {index[0]} to {index[-1]}" if len(index) else f"{dim!r} has no labels"
        try:
            if isinstance(wanted, list | tuple) and _is_wide(index):
                x = x.sel({dim: _wide_range(index, *wanted)})
            elif isinstance(wanted, str) and method is None and _is_wide(index):
                x = x.sel({dim: _wide_label(index, wanted)})
            elif isinstance(wanted, list | tuple):
                x = x.sel({dim: _range(index, [_as_time(end, index) for end in wanted])})
            else:
                x = x.sel({dim: _as_time(wanted, index, exact=method is not None)}, method=method)
        except (KeyError, TypeError, ValueError) as error:
            hint = "" if isinstance(wanted, list | tuple) or method else "; for the nearest label: method: nearest"
            raise OpError("labels", f"{wanted!r} is not among the labels: {known}{hint}") from error
        if dim in x.dims and not x.sizes[dim]:
            raise OpError("labels", f"{wanted!r} selects nothing: {known}")
    return x


def _is_wide(index: pd.Index[Any]) -> bool:
    """Return whether labels may be beyond the range of nanoseconds, where pandas takes no part of a date."""
    return isinstance(index, pd.DatetimeIndex) and index.tz is None and index.unit != "ns"


def _wide_label(index: pd.Index[Any], text: str) -> Any:
    start, stop = _period(text)
    whole = _precision(text) >= max(map(_clock_precision, index))
    return start if whole else slice(*((stop, start) if _is_backwards(index) else (start, stop)))


def _wide_range(index: pd.Index[Any], first: Any, last: Any) -> slice:
    if _is_backwards(index):
        start, stop = (None if end is None else _period(end) for end in (first, last))
        if start is not None and stop is not None and start < stop:
            start, stop = stop, start
        return slice(start and start[1], stop and stop[0])
    return slice(None if first is None else _period(first)[0], None if last is None else _period(last)[1])


def _period(label: Any) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the first and the last microsecond of a time, which may be a part of a date: ``3000-12``."""
    try:
        start = np.datetime64(label.strip())
    except (AttributeError, ValueError):  # no text, or none in ISO 8601
        return pd.Timestamp(label), pd.Timestamp(label)
    return pd.Timestamp(start.astype("M8[us]")), pd.Timestamp((start + 1).astype("M8[us]") - np.timedelta64(1, "us"))


def _is_backwards(index: pd.Index[Any]) -> bool:
    return bool(index.is_monotonic_decreasing and not index.is_monotonic_increasing)


def _range(index: pd.Index[Any], ends: list[Any]) -> slice:
    start, stop = ends
    if _is_backwards(index) and start is not None and stop is not None and not isinstance(start, str) and start < stop:
        start, stop = stop, start
    return slice(start, stop)


def _as_time(label: Any, index: pd.Index[Any], *, exact: bool = False) -> Any:
    """Return a label as the index takes it: a text that is less precise than the labels stays, for a whole period."""
    if not isinstance(index, xr.CFTimeIndex):
        return pd.Timestamp(label) if isinstance(label, date) else label
    if not isinstance(label, str | date):
        return label
    calendar = calendar_of(index.values)
    whole = exact or not isinstance(label, str) or _precision(label) >= max(map(_clock_precision, index))
    return in_calendar(label, calendar) if whole else label


def _precision(text: str) -> int:
    """Return how many parts a text in ISO 8601 gives: 1 the year, 3 the day, 6 the second."""
    return len(re.split(r"[-T :]", text.strip().lstrip("-")))


def _clock_precision(time: Any) -> int:
    return 6 if time.second or time.microsecond else 5 if time.minute else 4 if time.hour else 3
