"""``to_array`` and ``to_items``."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.column_types import family, type_name
from pipeline.graph.declared_values import Misfit, fitted
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, constant, listed, ref, task
from pipeline.graph.pandas_frames import to_pandas
from pipeline.graph.segments import Dropped
from pipeline.ops.arrays.deferred_labels import (
    DeferredLabels,
    label_dtype,
    labels_of_column,
    plain_coords,
    with_labels,
)
from pipeline.ops.arrays.dims import one_chunk
from pipeline.ops.calls.mapping import DEALT, deal
from pipeline.ops.collections import Items, Single
from pipeline.ops.to_frame import labels_along
from pipeline.ops.whole_numbers import WholeNumberError, cast, common_dtype

__all__ = ["checked", "matrix_dtype", "matrix_of_rows", "to_array", "to_items"]

# ---------------------------------------------------------------------------------------------------------------------
# to_array
# ---------------------------------------------------------------------------------------------------------------------


def to_array(
    x: Any,
    *,
    name: str,
    along: str | None = None,
    dims: Sequence[str] | None = None,
    shape: Sequence[int] | None = None,
    dtype: str | None = None,
    chunks: int = 1,
    columns: Any = None,
    labels: str | None = None,
) -> xr.DataArray:
    """Return an array of items (stacked along a new dim), of a value, or of a frame's columns.

    Parameters
    ----------
    x : Items, Single, or a frame
    along : items: the new, first dim; the items' keys are its labels
    dims, shape, dtype : items and values: of one item; others fail at run time
    chunks : number of items in a chunk
    columns : frame: names, or a pattern (``f*``) of the columns that become the second of ``dims``
    labels : frame: a column that becomes a coordinate of its name along the first of ``dims``

    Returns
    -------
    items: ``(along, *dims)``; value: ``dims``; frame: ``dims``, the first of unknown length
    """
    if isinstance(x, Items):
        inner = tuple(dims) if dims is not None else tuple(f"dim_{i}" for i in range(len(shape or ())))
        return _stacked(x, along or "item", inner, tuple(shape or ()), np.dtype(dtype), chunks, name)
    if isinstance(x, Single):
        shape = tuple(shape or ())
        key = (f"{name}/array", *(0 for _ in shape))
        node = task(key, checked, shape, np.dtype(dtype), "", ref(x.key))
        data = da.Array({**x.tasks, key: node}, key[0], tuple((n,) for n in shape), dtype=np.dtype(dtype))
        return xr.DataArray(data, dims=tuple(dims or ()))
    return _matrix(x, columns, tuple(dims or ()), labels, dtype, name)


def _stacked(
    x: Items, along: str, dims: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype[Any], chunks: int, name: str
) -> xr.DataArray:
    if x.droppable:
        raise OpError("input", "items of a step with on_error: drop can't become an array: their number is unknown "
                               "until run time; make a frame of them")  # fmt: skip
    own: dict[Key, GraphNode] = {}
    zeros = tuple(0 for _ in shape)
    keys, prefix = x.keys, f"{name}/stack"
    size = chunks if x.names is not None else 1
    sizes: list[float] = []
    for number, start in enumerate(range(0, len(keys), size)):
        members = keys[start : start + size]
        names = x.names[start : start + size] if x.names is not None else (None,)
        key = (prefix, number, *zeros)
        own[key] = task(key, stack, names, shape, dtype, listed(ref(k) for k in members))
        sizes.append(len(members) if x.names is not None else np.nan)
    if not keys:
        own[(prefix, 0, *zeros)] = task((prefix, 0, *zeros), stack, (), shape, dtype, listed(()))
        sizes.append(0)
    grid = (tuple(sizes), *((n,) for n in shape))
    data = da.Array({**x.tasks, **own}, prefix, grid, dtype=dtype)
    coords = {along: np.array(x.names, dtype=object).astype(str)} if x.names else {}
    return xr.DataArray(data, dims=(along, *dims), coords=coords)


def stack(names: tuple[str | None, ...], shape: tuple[int, ...], dtype: Any, items: Sequence[Any]) -> Any:
    """Return one chunk of stacked items, each checked against the shape and dtype that the file declares."""
    if None in names:
        pairs = [pair for group in items for pair in group]
        names, items = tuple(n for n, _ in pairs), [item for _, item in pairs]
    chunk = np.empty((len(items), *shape), dtype)
    for i, (name, item) in enumerate(zip(names, items, strict=True)):
        chunk[i] = checked(shape, dtype, name or "", item)
    return chunk


def checked(shape: tuple[int, ...], dtype: Any, name: str, value: Any) -> Any:
    """Return ``value`` as an array of this shape and dtype.

    Raises
    ------
    DataError : it has another shape, or values that don't fit into the dtype
    """
    got = np.asarray(value)
    place = f"item {name!r}: " if name else ""
    if got.shape != tuple(shape):
        raise DataError(f"{place}got the shape {got.shape}; shape: {list(shape)} is declared")
    found = _cast(got, np.dtype(dtype))
    if found is None:
        raise DataError(f"{place}got {got.dtype} values that don't fit into {np.dtype(dtype)}")
    return found


def _cast(values: Any, dtype: np.dtype[Any]) -> Any:
    """Return the values in a dtype, floats rounded and whole numbers exact; None if they don't all fit."""
    kinds = values.dtype.kind, dtype.kind
    if values.dtype == dtype or not values.size:
        return values.astype(dtype, copy=False)
    if kinds[0] not in "biufc" or (kinds[0] == "c" and kinds[1] != "c"):
        return values.astype(dtype) if np.can_cast(values.dtype, dtype, "safe") else None
    try:
        with np.errstate(all="ignore"):
            found = cast(values, dtype)
    except WholeNumberError:
        return None
    fits = np.isfinite(found) == np.isfinite(values) if kinds[1] in "fc" else found == values
    return found if np.all(fits) else None


def _matrix(
    x: Any, columns: Any, dims: tuple[str, ...], labels: str | None, dtype: str | None, name: str
) -> xr.DataArray:
    known = list(x.columns)
    fields = {field.name: field for field in x.schema}
    numbers = [c for c in known if family(fields[c].type) in ("number", "true/false") and c != labels]
    patterns = [columns] if isinstance(columns, str) else list(columns or numbers)
    chosen = [c for c in known if c in patterns or (c != labels and _matches(c, patterns))]
    absent = [p for p in patterns if not fnmatch.filter([str(c) for c in known], p)]
    if absent or not chosen:
        raise OpError("columns", f"{(absent or patterns)[0]!r} is no column; there are {', '.join(map(str, known))}")
    if len(set(dims)) != 2:
        raise OpError("dims", f"got {list(dims)}; a frame needs two names, of the rows and of the columns")
    if labels is not None and labels not in known:
        raise OpError("labels", f"{labels!r} is no column; there are {', '.join(map(str, known))}")
    if labels in dims:
        raise OpError("labels", f"{labels!r} is a dim, too; name the dim otherwise: dims: [row, {dims[1]}]")
    for c in chosen:
        if family(fields[c].type) not in ("number", "true/false"):
            known_numbers = ", ".join(numbers) or "none"
            raise OpError("columns", f"{c!r} is {type_name(fields[c].type)}; an array takes numbers: {known_numbers}")
    kind = np.dtype(dtype) if dtype else matrix_dtype(fields[c] for c in chosen)
    tasks, keys = x.tasks, x.keys
    own: dict[Key, GraphNode] = {}
    for i, key in enumerate(keys):
        own[f"{name}/matrix", i, 0] = task((f"{name}/matrix", i, 0), matrix_of_rows, tuple(chosen), kind, ref(key))
    lengths = x.lengths or (np.nan,) * len(keys)
    data = da.Array({**tasks, **own}, f"{name}/matrix", (lengths, (len(chosen),)), dtype=kind)
    coords: dict[str, Any] = {dims[1]: np.array([str(c) for c in chosen])}
    deferred: dict[str, DeferredLabels] = {}
    if labels is not None:
        first, of = f"{name}/labels.{labels}", fields[labels]
        column = {(first, i): task((first, i), labels_of_column, labels, ref(key)) for i, key in enumerate(keys)}
        late = da.Array({**tasks, **column}, first, (lengths,), dtype=label_dtype(of))
        deferred[labels] = DeferredLabels(dims[0], late, of)
    return with_labels(xr.DataArray(data, dims=dims, coords=coords), deferred)


def _matches(column: Any, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(str(column), pattern) for pattern in patterns)


def matrix_dtype(fields: Iterable[pa.Field]) -> np.dtype[Any]:
    """Return the dtype of a matrix of columns of numbers: the common one, float64 where a number may be missing."""
    return common_dtype(*map(_plain, fields))


def _plain(field: pa.Field) -> np.dtype[Any]:
    """Return the numpy dtype for a column of numbers: float64 if values may be missing, and for decimals."""
    whole = not field.nullable and not pa.types.is_decimal(field.type)
    keeps = whole or pa.types.is_floating(field.type)
    return np.dtype(field.type.to_pandas_dtype()) if keeps else np.dtype(np.float64)


def matrix_of_rows(columns: tuple[str, ...], dtype: Any, rows: pa.Table) -> Any:
    """Return some columns of a partition as a C-contiguous matrix, shape (rows, columns).

    Raises
    ------
    DataError : a column has values that don't fit into the dtype, or missing ones that it can't hold
    """
    dtype = np.dtype(dtype)
    found = np.empty((rows.num_rows, len(columns)), dtype)
    for i, name in enumerate(columns):
        column = rows.column(name)
        place = f"column {name!r} ({type_name(column.type)})"
        missing = column.null_count
        if missing and dtype.kind not in "fc":
            raise DataError(
                f"{place} has missing values; dtype: {dtype} is declared, which has none: fill or drop them before, or "
                "write dtype: float64"
            )
        plain = _numbers(column, dtype)
        cast = None if plain is None else _cast(plain, dtype)
        if cast is None:
            lost = (
                "; some are beyond 2**53, write dtype: int64 if none is missing" if _is_default(column, dtype) else ""
            )
            raise DataError(f"{place} has values that don't fit; dtype: {dtype} is declared{lost}")
        found[:, i] = cast
        if missing:
            found[column.is_null().to_numpy(), i] = np.nan
    return found


def _is_default(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> bool:
    return pa.types.is_integer(column.type) and dtype == np.float64


def _numbers(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
    """Return a column as numpy has it, 0 where a value is missing; None if its decimals don't fit into the dtype."""
    if pa.types.is_decimal(column.type):
        kind = pa.float64() if dtype.kind in "fc" else pa.from_numpy_dtype(dtype)
        try:
            column = pa.chunked_array([fitted(column, kind)])
        except Misfit:
            return None
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(False if pa.types.is_boolean(column.type) else 0, column.type))
    return np.asarray(column.to_numpy())


# ---------------------------------------------------------------------------------------------------------------------
# to_items
# ---------------------------------------------------------------------------------------------------------------------


def to_items(
    x: Any,
    *,
    name: str,
    along: str | None = None,
    by: str | None = None,
    split: int | None = None,
    size: int | None = None,
) -> Items:
    """Return items of an array (a slice for each position along a dim), a frame (rows or partitions) or a list.

    Parameters
    ----------
    x : array, frame, Items, or Single whose value is a list
    along : dim of an array; the items' keys are its labels, or positions
    by : ``rows``: each row, a map; ``partitions``: each partition, a DataFrame
    split : number of tasks for the elements of a list, whose length is unknown until run time
    size : number of elements of the lists that become the items; None: each element is an item
    """
    if isinstance(x, Single):
        n = split or DEALT
        own: dict[Key, GraphNode] = {(name, i): task((name, i), deal, ref(x.key), i, n, size) for i in range(n)}
        return Items(name, {**x.tasks, **own}, n)
    if size is None:
        return _elements(x, name, along, by)
    return in_lists(x if isinstance(x, Items) else _elements(x, f"{name}/element", along, by), name, size)


def _elements(x: Any, name: str, along: str | None, by: str | None) -> Items:
    if isinstance(x, xr.DataArray):
        return _slices(x, along or "", name)
    own: dict[Key, GraphNode] = {}
    tasks, keys = x.tasks, x.keys
    if by == "partitions":
        own |= {(name, i): task((name, i), to_pandas, ref(key)) for i, key in enumerate(keys)}
        return Items(name, {**tasks, **own}, len(keys), tuple(map(str, range(len(keys)))))
    counts = [(f"{name}/count", i) for i in range(len(keys))]
    for i, key in enumerate(keys):
        own[counts[i]] = task(counts[i], len, ref(key))
        own[name, i] = task((name, i), maps_of_rows, ref(key), listed(ref(c) for c in counts[:i]))
    return Items(name, {**tasks, **own}, len(keys))


def in_lists(items: Items, name: str, size: int) -> Items:
    """Return items that are lists of ``size`` consecutive items, the last of the rest; their keys are their positions.

    Where the number of items is unknown, those that are left of one task are handed on to the next.
    """
    own: dict[Key, GraphNode] = {}
    if items.names is not None:
        starts = range(0, len(items.keys), size)
        for i, start in enumerate(starts):
            own[name, i] = task((name, i), list_of, listed(ref(key) for key in items.keys[start : start + size]))
        return Items(name, {**items.tasks, **own}, len(starts), tuple(map(str, range(len(starts)))))
    carried: Key = (f"{name}/rest", 0)
    own[carried] = constant(carried, (0, []))
    for i, key in enumerate(items.keys):
        last = i == items.n_tasks - 1
        own[name, i] = task((name, i), whole_lists, ref(carried), ref(key), size, last)
        if not last:
            own[f"{name}/rest", i + 1] = task((f"{name}/rest", i + 1), rest_of_lists, ref(carried), ref(key), size)
            carried = (f"{name}/rest", i + 1)
    return Items(name, {**items.tasks, **own}, items.n_tasks)


def list_of(items: Sequence[Any]) -> list[Any]:
    """Return the items that were not dropped as a list."""
    return [item for item in items if not isinstance(item, Dropped)]


def rest_of_lists(before: tuple[int, list[Any]], group: Sequence[tuple[str, Any]], size: int) -> tuple[int, list[Any]]:
    """Return how many lists are whole up to a group of items, and what is left of it: fewer items than ``size``."""
    n, rest = before
    items = [*rest, *list_of([item for _, item in group])]
    return n + len(items) // size, items[len(items) - len(items) % size :]


def whole_lists(
    before: tuple[int, list[Any]], group: Sequence[tuple[str, Any]], size: int, last: bool
) -> list[tuple[str, list[Any]]]:
    """Return the lists that end in a group of items, with their positions as keys; of the ``last`` also the rest."""
    n, rest = before
    items = [*rest, *list_of([item for _, item in group])]
    stop = len(items) if last else len(items) - len(items) % size
    return [(str(n + i), items[start : start + size]) for i, start in enumerate(range(0, stop, size))]


def maps_of_rows(rows: pa.Table, before: Sequence[int]) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows as maps of Python objects, each with its number in the whole frame as key.

    A missing float is nan, any other missing value None.
    """
    first = sum(before)
    columns = [
        column.to_numpy().tolist() if pa.types.is_floating(column.type) else column.to_pylist()
        for column in rows.columns
    ]
    maps = zip(*columns, strict=True) if columns else ()
    return [(str(first + i), dict(zip(rows.column_names, row, strict=True))) for i, row in enumerate(maps)]


def _to_the_second(labels: Any) -> Any:
    """Return times in whole seconds if none has a fraction: they become keys of items."""
    seconds = labels.astype("datetime64[s]")
    return seconds if (seconds.astype(labels.dtype) == labels).all() else labels


def _slices(x: xr.DataArray, along: str, name: str) -> Items:
    if along not in x.dims:
        dims = list(map(str, x.dims))
        raise OpError("along", f"{along!r} is no dim; the array has {', '.join(dims) or 'none'}{nearest(along, dims)}")
    labels = labels_along(x, along)
    texts = tuple(str(v) for v in (_to_the_second(labels) if labels.dtype.kind == "M" else labels))
    x = one_chunk(x, [str(dim) for dim in x.dims if dim != along])
    data = x.data
    axis = x.dims.index(along)
    if not x.sizes[along]:
        return Items(name, dict(data.dask), 0, ())
    rest = x.isel({along: 0}, drop=True)
    kept = {c: v.variable for c, v in plain_coords(rest).items()}
    template = xr.Dataset(coords=kept, attrs=x.attrs)
    own: dict[Key, GraphNode] = {}
    number = 0
    for i, n in enumerate(data.chunks[axis]):
        source = (data.name, *(i if d == axis else 0 for d in range(x.ndim)))
        for position in range(int(n)):
            own[name, number] = task((name, number), slice_of_chunk, template, rest.dims, axis, position, ref(source))
            number += 1
    return Items(name, {**dict(data.dask), **own}, number, texts)


def slice_of_chunk(template: xr.Dataset, dims: tuple[str, ...], axis: int, position: int, chunk: Any) -> xr.DataArray:
    """Return one position along an axis of a chunk, with its coordinates."""
    return xr.DataArray(np.take(chunk, position, axis), dims=dims, coords=template.coords, attrs=template.attrs)
