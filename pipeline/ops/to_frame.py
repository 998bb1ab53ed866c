"""``to_frame``: rows made of arrays, items and values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.calendars import calendar_of, time_texts
from pipeline.graph.graph import GraphNode, Key, listed, ref, task
from pipeline.graph.segments import Dropped
from pipeline.ops.arrays.deferred_labels import deferred_labels
from pipeline.ops.arrays.dims import one_chunk, require_length
from pipeline.ops.collections import Frame, Items, Single
from pipeline.ops.column_types import TEXT, declared_dtype

__all__ = ["labels_along", "to_frame"]

_PARTITIONS = 16
"""Largest number of partitions for items: enough for a few workers, few enough for small frames."""


def to_frame(
    x: Any, *more: Any, name: str, columns: Any = None, prefix: str | None = None, value: str = "value"
) -> Frame:
    """Return a frame of an array, of items, of a value, or of a list of gathered instances.

    Parameters
    ----------
    x : array: a row for each cell, with columns for its dims and ``value``; or a column for each label of the dim
        ``columns``. Items: one or several rows an item. Value: its rows. List of ``(labels, collection)``: one after
        the other, with the labels as columns
    name : of the step instance; the keys of the tasks begin with it
    columns : name -> type of the columns of items and values; for an array, a dim
    prefix : of the names of columns that are made from a dim

    Raises
    ------
    OpError : several inputs that are not the instances of one step, or no columns for items and values
    DataError : at run time, if a value doesn't fit the declared columns
    """
    if more:
        raise OpError("input", "got a list; op 'to_frame' takes one input, or all instances of a step: x[*]")
    if isinstance(x, xr.DataArray):
        return _wide(x, str(columns), prefix or "", name) if columns else _long(x, value, name)
    if not isinstance(columns, Mapping) or not columns:
        raise OpError("columns", "items and values need {name: type} for the columns they hold")
    dtypes = {column: declared_dtype(kind, f"columns.{column}") for column, kind in columns.items()}
    if isinstance(x, list):
        return _gathered(x, dtypes, name)
    return _of_items(x, {}, dtypes, name, 0)


def _of_items(x: Items | Single, labels: Mapping[str, Any], dtypes: Mapping[str, Any], name: str, first: int) -> Frame:
    """Return the frame of some items; ``first`` is the number of its first partition."""
    own: dict[Key, GraphNode] = {}
    groups: list[tuple[pd.DataFrame, list[tuple[str | None, Key]]]]
    if isinstance(x, Single):
        known = pd.DataFrame({k: [v] for k, v in labels.items()}, index=[0])
        groups = [(known, [("", x.key)])]
    elif x.names is None:
        one_row: dict[str, list[Any]] = {k: [v] for k, v in labels.items()}
        known = pd.DataFrame({**one_row, "key": [""]})
        groups = [(known, [(None, key)]) for key in x.keys]
    else:
        n = len(x.names)
        size = max(1, -(-n // _PARTITIONS))
        given: dict[str, list[Any]] = {k: [v] * n for k, v in labels.items()}
        given |= {k: list(v) for k, v in x.columns.items()}
        known = pd.DataFrame(given | {"key": list(x.names)})
        pairs: list[tuple[str | None, Key]] = list(zip(x.names, x.keys, strict=True))
        groups = [
            (known.iloc[start : start + size].reset_index(drop=True), pairs[start : start + size])
            for start in range(0, max(n, 1), size)
        ]
    known_dtypes = {str(c): t for c, t in known.dtypes.to_dict().items() if c not in dtypes}
    columns: dict[str, Any] = {**known_dtypes, **dtypes}
    meta = pd.DataFrame({c: pd.Series(dtype=t) for c, t in columns.items()})
    for number, (rows, members) in enumerate(groups):
        key = (f"{name}/rows", first + number)
        texts = tuple(text for text, _ in members)
        own[key] = task(key, rows_of_items, rows, texts, dtypes, listed(ref(k) for _, k in members))
    return _frame(x.tasks, own, meta)


def _frame(
    tasks: Mapping[Key, GraphNode],
    own: Mapping[Key, GraphNode],
    meta: pd.DataFrame,
    lengths: Sequence[float] = (math.nan,),
) -> Frame:
    """Return the frame whose partitions are the tasks ``own``, which need ``tasks``; a length of nan is unknown."""
    known = None if any(n != n for n in lengths) else tuple(int(n) for n in lengths)
    return Frame({**tasks, **own}, tuple(own), meta, lengths=known)


def _gathered(x: Sequence[tuple[Mapping[str, Any], Any]], dtypes: Mapping[str, Any], name: str) -> Frame:
    frames, first = [], 0
    for labels, member in x:
        single = _as_single(member, f"{name}/cell", first) if isinstance(member, xr.DataArray) else member
        frames.append(_of_items(single, labels, dtypes, name, first))
        first += len(frames[-1].keys)
    tasks: dict[Key, GraphNode] = {}
    keys: list[Key] = []
    for member in frames:
        tasks |= member.tasks
        keys += member.keys
    return Frame(tasks, tuple(keys), frames[0].meta)


def _as_single(x: xr.DataArray, prefix: str, number: int) -> Single:
    if x.size != 1:
        raise OpError("input", f"a gathered array must have one element to become a row; got {dict(x.sizes)}")
    (key,) = [(x.data.name, *index) for index in itertools.product(*(range(n) for n in x.data.numblocks))]
    scalar = (prefix, number)
    return Single(scalar, {**dict(x.data.dask), scalar: task(scalar, only_element, ref(key))})


def only_element(chunk: Any) -> Any:
    """Return the one element of an array as a Python scalar."""
    return np.asarray(chunk).reshape(-1)[0].item()


def rows_of_items(
    known: pd.DataFrame, names: tuple[str | None, ...], declared: Mapping[str, Any], items: Sequence[Any]
) -> pd.DataFrame:
    """Return the rows of some items: columns known while building, then the columns of the items.

    Parameters
    ----------
    known : the columns known while building, a row an item; one row for all if the items are unknown until run time
    names : the items' keys; None for a task that gives ``(key, item)`` pairs
    declared : column -> dtype of the columns of the items

    Raises
    ------
    DataError : a value does not fit its column; with the item, the column, the value and the declared type
    """
    texts: list[str] = []
    at: list[int] = []
    pieces: list[pd.DataFrame] = []
    pooled: dict[str, list[Any]] = {column: [] for column in declared}
    owners: list[str] = []

    def pour() -> None:
        if owners:
            pieces.append(pd.DataFrame({c: _column(c, values, declared[c], owners) for c, values in pooled.items()}))
            owners.clear()
            pooled.update({column: [] for column in declared})

    for i, (name, item) in enumerate(zip(names, items, strict=True)):
        for text, value in item if name is None else [(name, item)]:
            if isinstance(value, Dropped):
                continue
            if isinstance(value, pd.DataFrame):
                pour()
                _require(value.columns, declared, text)
                n = len(value)
                pieces.append(
                    pd.DataFrame({c: _column(c, value[c].tolist(), t, [text] * n) for c, t in declared.items()})
                )
            else:
                n = _pool(value, pooled, declared, text)
                owners += [text] * n
            texts += [text] * n
            at += [i if name is not None else 0] * n
    pour()
    head = known.iloc[at].reset_index(drop=True)
    if "key" in head and None in names:
        head["key"] = pd.Series(texts, dtype=known["key"].dtype)
    empty = {c: pd.Series(dtype=t) for c, t in declared.items()}
    rows = pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(empty)
    return pd.concat([head[[c for c in head if c not in declared]], rows], axis=1)


def _pool(value: Any, pooled: Mapping[str, list[Any]], declared: Mapping[str, Any], text: str) -> int:
    """Add an item's rows to the columns; return their number."""
    rows = value if isinstance(value, list | tuple) else [value]
    for row in rows:
        if isinstance(row, Mapping):
            _require(row, declared, text)
            for column, values in pooled.items():
                values.append(row[column])
        elif len(declared) == 1:
            next(iter(pooled.values())).append(row)
        else:
            raise DataError(
                f"item {text!r}: got a {type(row).__name__}; {len(declared)} columns need a map, a list of maps or a "
                "DataFrame"
            )
    return len(rows)


def _require(columns: Any, declared: Mapping[str, Any], text: str) -> None:
    missing = [column for column in declared if column not in columns]
    if missing:
        raise DataError(f"item {text!r} has no column {missing[0]!r}; it has {', '.join(map(str, columns)) or 'none'}")


def _column(column: str, values: list[Any], dtype: Any, owners: Sequence[str]) -> pd.Series:
    """Return the values as ``dtype``; an error names the first item that does not fit."""
    whole = isinstance(dtype, np.dtype) and dtype.kind in "iub"
    try:
        if not whole or not any(_missing(v) for v in values):
            if isinstance(dtype, pd.StringDtype) and not all(isinstance(v, str) or _missing(v) for v in values):
                raise ValueError("not text")
            column_values: pd.Series = pd.Series(values, dtype=dtype)
            return column_values
    except (ValueError, TypeError, OverflowError):
        pass
    for value, owner in zip(values, owners, strict=True):
        if _missing(value) and whole:
            raise DataError(
                f"item {owner!r}: column {column!r} got {value!r}; declared {dtype}, which has no missing value. "
                "Declare float64, or leave the row out"
            )
        try:
            if isinstance(dtype, pd.StringDtype) and not (isinstance(value, str) or _missing(value)):
                raise ValueError("not text")
            pd.Series([value], dtype=dtype)
        except (ValueError, TypeError, OverflowError) as error:
            declared = "string" if isinstance(dtype, pd.StringDtype) else str(dtype)
            raise DataError(
                f"item {owner!r}: column {column!r} got {str(value)[:60]!r} ({type(value).__name__}); "
                f"declared {declared}"
            ) from error
    raise DataError(f"column {column!r}: the values don't fit {dtype} together")


def _missing(value: Any) -> bool:
    return value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and value != value)


def _long(x: xr.DataArray, value: str, name: str) -> Frame:
    """Return a row for each cell, in C order within each chunk, with a column of labels or positions for each dim."""
    if value in x.dims:
        raise OpError("value", f"{value!r} is a dim of the array, too; choose another name for the column of the cells")
    labels = [_known_labels(x, dim) for dim in x.dims]
    kinds = [np.dtype(np.int64) if known is None else pd.Series(known[:0]).dtype for known in labels]
    dtypes = {str(dim): kind for dim, kind in zip(x.dims, kinds, strict=True)} | {value: _column_dtype(x.dtype)}
    meta = pd.DataFrame({c: pd.Series(dtype=t) for c, t in dtypes.items()})
    starts = [np.concatenate([[0], np.cumsum(np.nan_to_num(c))]).astype(int) for c in x.data.chunks]
    own: dict[Key, GraphNode] = {}
    counts = {axis: _counted(x, axis, name, own) for axis, known in enumerate(labels) if known is None}
    for i, index in enumerate(itertools.product(*(range(n) for n in x.data.numblocks))):
        axes = listed(
            listed(map(ref, counts[axis][:j])) if known is None else known[starts[axis][j] : starts[axis][j + 1]]
            for axis, (known, j) in enumerate(zip(labels, index, strict=True))
        )
        key = (f"{name}/cells", i)
        own[key] = task(key, cells_of_chunk, axes, meta, ref((x.data.name, *index)))
    cells = {key: own[key] for key in own if key[0] == f"{name}/cells"}
    return _frame(dict(x.data.dask) | own, cells, meta, _n_cells(x.data.chunks))


def _known_labels(x: xr.DataArray, dim: Any) -> Any:
    """Return the labels of a dim, or its positions; None if its length is unknown until run time."""
    return None if np.isnan(x.sizes[dim]) else labels_along(x, dim)


def _counted(x: xr.DataArray, axis: int, name: str, own: dict[Key, GraphNode]) -> list[Key]:
    """Add tasks to ``own`` that give the length of each chunk along an axis; return their keys."""
    keys: list[Key] = [(f"{name}/count.{axis}", j) for j in range(x.data.numblocks[axis])]
    for j, key in enumerate(keys):
        place = (j if i == axis else 0 for i in range(x.ndim))
        own[key] = task(key, length_along, axis, ref((x.data.name, *place)))
    return keys


def length_along(axis: int, chunk: Any) -> int:
    """Return the length of a chunk along an axis."""
    return int(np.shape(chunk)[axis])


def _n_cells(chunks: Sequence[Sequence[float]]) -> list[float]:
    """Return the number of cells of each chunk, in the order of their indices."""
    return [math.prod(sizes) for sizes in itertools.product(*chunks)]


def labels_along(x: xr.DataArray, dim: Any) -> Any:
    """Return the labels of a dim, or its positions if it has none.

    Raises
    ------
    OpError : its length is unknown until run time
    """
    require_length(x, str(dim), "input")
    return _as_columns_hold(x.coords[dim].values) if dim in x.coords else np.arange(x.sizes[dim])


def _as_columns_hold(labels: Any) -> Any:
    """Return labels as a column can hold them: times of a calendar that pandas lacks become text in ISO 8601."""
    if not calendar_of(labels):
        return labels
    texts = time_texts(labels)
    return np.where(texts == None, "", texts).astype("U")  # noqa: E711  (elementwise)


def _column_dtype(dtype: np.dtype[Any]) -> Any:
    """Return the dtype of a column of an array's cells; objects are text of any length, as files hold it."""
    return TEXT if dtype.kind in "UTO" else dtype


def cells_of_chunk(axes: Sequence[Any], meta: pd.DataFrame, chunk: Any) -> pd.DataFrame:
    """Return a row for each cell of a chunk: its labels along each dim, then its value.

    Parameters
    ----------
    axes : for each dim the chunk's labels; or, if the labels are positions, a list of the lengths of the chunks before
    """
    shape = np.shape(chunk)
    columns = {}
    for i, (column, given) in enumerate(zip(meta.columns, axes, strict=False)):
        labels = np.arange(shape[i]) + sum(given) if isinstance(given, list) else given
        across = [1] * len(axes)
        across[i] = -1
        columns[column] = np.broadcast_to(np.asarray(labels).reshape(across), shape).reshape(-1)
    columns[meta.columns[-1]] = np.asarray(chunk).reshape(-1)
    return pd.DataFrame(columns).astype(meta.dtypes.to_dict())


def _wide(x: xr.DataArray, dim: str, prefix: str, name: str) -> Frame:
    """Return a column for each label of ``dim``, a row for each place along the others, with their coordinates."""
    if dim not in x.dims:
        dims = list(map(str, x.dims))
        raise OpError("columns", f"{dim!r} is no dim; the array has {', '.join(dims) or 'none'}{nearest(dim, dims)}")
    others = [d for d in x.dims if d != dim]
    x = one_chunk(x.transpose(*others, dim), [dim])
    names = [f"{prefix}{label}" for label in labels_along(x, dim)]
    along = [(c, i) for c in x.coords for i, other in enumerate(others) if x.coords[c].dims == (other,)]
    values = {c: _as_columns_hold(x.coords[c].values) for c, _ in along}
    labels = {c: found for c, found in deferred_labels(x).items() if found.dim != dim}
    late = [(found, others.index(found.dim)) for found in labels.values()]
    dtypes = {str(c): pd.Series(values[c][:0]).dtype for c, _ in along}
    dtypes |= {c: found.dtype for c, found in labels.items()} | dict.fromkeys(names, _column_dtype(x.dtype))
    meta = pd.DataFrame({c: pd.Series(dtype=t) for c, t in dtypes.items()})
    starts = [np.concatenate([[0], np.cumsum(np.nan_to_num(sizes))]).astype(int) for sizes in x.data.chunks]
    own: dict[Key, GraphNode] = {}
    for number, index in enumerate(itertools.product(*(range(n) for n in x.data.numblocks[:-1]))):
        head = [values[c][starts[i][index[i]] : starts[i][index[i] + 1]] for c, i in along]
        head += [ref((found.data.name, index[i])) for found, i in late]
        axes = tuple(i for _, i in [*along, *late])
        key = (f"{name}/rows", number)
        own[key] = task(key, rows_of_chunk, meta, axes, listed(head), ref((x.data.name, *index, 0)))
    tasks = dict(x.data.dask)
    for found, _ in late:
        tasks |= dict(found.data.dask)
    return _frame(tasks, own, meta, _n_cells(x.data.chunks[:-1]))


def rows_of_chunk(meta: pd.DataFrame, axes: Sequence[int], head: Sequence[Any], chunk: Any) -> pd.DataFrame:
    """Return a row for each place along all dims of a chunk but the last.

    Parameters
    ----------
    axes, head : of the first columns: the dim of each, and its labels there

    Raises
    ------
    DataError : there are more or fewer labels than places
    """
    shape = chunk.shape[:-1]
    columns = {}
    for column, axis, labels in zip(meta.columns, axes, head, strict=False):
        if len(labels) != shape[axis]:
            raise DataError(f"there are {len(labels)} labels {column!r} for {shape[axis]} rows")
        across = [-1 if i == axis else 1 for i in range(len(shape))]
        columns[column] = np.broadcast_to(np.asarray(labels).reshape(across), shape).reshape(-1)
    n = math.prod(shape)
    cells = chunk.reshape(n, chunk.shape[-1])
    columns |= {c: cells[:, i] for i, c in enumerate(meta.columns[len(head) :])}
    return pd.DataFrame(columns, index=pd.RangeIndex(n)).astype(meta.dtypes.to_dict())
