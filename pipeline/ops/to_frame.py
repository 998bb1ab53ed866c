"""``to_frame``: rows made of arrays, items and values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import xarray as xr

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.calendars import calendar_of, time_texts
from pipeline.graph.column_types import declared_type, empty_table, schema_of
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.graph.pandas_frames import from_pandas, held, is_frame
from pipeline.graph.segments import Dropped
from pipeline.ops.arrays.deferred_labels import column_of_labels, deferred_labels
from pipeline.ops.arrays.dims import one_chunk, require_length
from pipeline.ops.collections import Frame, Items, Single
from pipeline.worker.sql_engine import entered

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
    columns : name -> type of the columns of items and values, any of which may have missing values; for an array, a dim
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
    declared = schema_of({column: declared_type(kind, f"columns.{column}") for column, kind in columns.items()})
    if not isinstance(x, list):
        return _of_items(x, _typed(_known(x, {})), declared, name, 0)
    members = [(labels, _as_single(m, f"{name}/cell", i) if isinstance(m, xr.DataArray) else m)
               for i, (labels, m) in enumerate(x)]  # fmt: skip
    return _gathered(members, declared, name)


# ---------------------------------------------------------------------------------------------------------------------
# Items and values
# ---------------------------------------------------------------------------------------------------------------------


def _known(x: Items | Single, labels: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the columns that are known while building, a row an item; one row if the items are unknown."""
    if isinstance(x, Single):
        return {k: [v] for k, v in labels.items()} or {"": [""]}
    n = 1 if x.names is None else len(x.names)
    known = {k: [v] * n for k, v in labels.items()}
    if x.names is None:
        return {**known, "key": [""]}
    return known | {k: list(v) for k, v in x.columns.items()} | {"key": list(x.names)}


def _typed(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Return columns of scalars as a table; values of several kinds become text."""
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values, pa.string() if not values else None)
        except (pa.ArrowException, OverflowError):
            arrays[name] = pa.array([str(value) for value in values])
    schema = schema_of({name: array.type for name, array in arrays.items()}, nullable=False)
    return pa.Table.from_arrays(list(arrays.values()), schema=schema)


def _of_items(x: Items | Single, known: pa.Table, declared: pa.Schema, name: str, first: int) -> Frame:
    """Return the frame of some items; ``first`` is the number of its first partition."""
    groups: list[tuple[pa.Table, list[tuple[str | None, Key]]]]
    if isinstance(x, Single):
        groups = [(known, [("", x.key)])]
        known = known.select([c for c in known.column_names if c])
    elif x.names is None:
        groups = [(known, [(None, key)]) for key in x.keys]
    else:
        size = max(1, -(-len(x.names) // _PARTITIONS))
        pairs: list[tuple[str | None, Key]] = list(zip(x.names, x.keys, strict=True))
        starts = range(0, max(len(pairs), 1), size)
        groups = [(_copied(known.slice(start, size)), pairs[start : start + size]) for start in starts]
    schema = pa.schema([*(field for field in known.schema if field.name not in declared.names), *declared])
    own: dict[Key, GraphNode] = {}
    for number, (rows, members) in enumerate(groups):
        key = (f"{name}/rows", first + number)
        texts = tuple(text for text, _ in members)
        own[key] = task(key, rows_of_items, rows, texts, declared, schema, listed(ref(k) for _, k in members))
    return _frame(x.tasks, own, schema)


def _copied(table: pa.Table) -> pa.Table:
    """Return a slice without the table that it was cut from."""
    return table.take(pa.array(range(table.num_rows), pa.int64()))


def _frame(
    tasks: Mapping[Key, GraphNode],
    own: Mapping[Key, GraphNode],
    schema: pa.Schema,
    lengths: Sequence[float] = (math.nan,),
) -> Frame:
    """Return the frame whose partitions are the tasks ``own``, which need ``tasks``; a length of nan is unknown."""
    known = None if any(n != n for n in lengths) else tuple(int(n) for n in lengths)
    return Frame({**tasks, **own}, tuple(own), schema, lengths=known)


def _gathered(members: Sequence[tuple[Mapping[str, Any], Items | Single]], declared: pa.Schema, name: str) -> Frame:
    """Return the frames of several instances, one after the other; the types of their labels hold all of them."""
    parts = [_known(x, labels) for labels, x in members]
    lengths = [len(next(iter(part.values()))) for part in parts]
    whole = _typed({k: [v for part in parts for v in part[k]] for k in parts[0]})
    tasks: dict[Key, GraphNode] = {}
    keys: list[Key] = []
    start = 0
    for (_, x), n in zip(members, lengths, strict=True):
        frame = _of_items(x, _copied(whole.slice(start, n)), declared, name, len(keys))
        tasks |= frame.tasks
        keys += frame.keys
        start += n
    return Frame(tasks, tuple(keys), frame.schema)


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
    known: pa.Table, names: tuple[str | None, ...], declared: pa.Schema, schema: pa.Schema, items: Sequence[Any]
) -> pa.Table:
    """Return the rows of some items: columns known while building, then the columns of the items.

    Parameters
    ----------
    known : the columns known while building, a row an item; one row for all if the items are unknown until run time
    names : the items' keys; None for a task that gives ``(key, item)`` pairs
    declared : the columns of the items
    schema : of the result

    Raises
    ------
    DataError : a value does not fit its column; with the item, the column, the value and the declared type
    """
    texts: list[str] = []
    at: list[int] = []
    pieces: list[pa.Table] = []
    pooled: dict[str, list[Any]] = {column: [] for column in declared.names}
    owners: list[str] = []

    def pour() -> None:
        if owners:
            arrays = [held(pooled[field.name], field, owners) for field in declared]
            pieces.append(pa.Table.from_arrays(arrays, schema=declared))
            owners.clear()
            pooled.update({column: [] for column in declared.names})

    for i, (name, item) in enumerate(zip(names, items, strict=True)):
        for text, value in item if name is None else [(name, item)]:
            if isinstance(value, Dropped):
                continue
            if is_frame(value):
                pour()
                pieces.append(from_pandas(value, declared, _named(text)))
                n = pieces[-1].num_rows
            else:
                n = _pool(value, pooled, text)
                owners += [_named(text)] * n
            texts += [text] * n
            at += [i if name is not None else 0] * n
    pour()
    rows = entered(pa.concat_tables(pieces), declared) if pieces else empty_table(declared)
    head = known.take(pa.array(at, pa.int64()))
    columns = {name: head.column(name) for name in known.column_names}
    if None in names:
        columns["key"] = pa.chunked_array([pa.array(texts, pa.string())])
    columns |= dict(zip(declared.names, rows.columns, strict=True))
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _named(item: str) -> str:
    return f"item {item!r}" if item else "the value"


def _pool(value: Any, pooled: Mapping[str, list[Any]], text: str) -> int:
    """Add an item's rows to the columns; return their number."""
    rows = value if isinstance(value, list | tuple) else [value]
    for row in rows:
        if isinstance(row, Mapping):
            missing = [column for column in pooled if column not in row]
            if missing:
                has = ", ".join(map(str, row)) or "none"
                raise DataError(f"{_named(text)} has no column {missing[0]!r}; it has {has}")
            for column, values in pooled.items():
                values.append(row[column])
        elif len(pooled) == 1:
            next(iter(pooled.values())).append(row)
        else:
            raise DataError(
                f"{_named(text)}: got a {type(row).__name__}; {len(pooled)} columns need a map, a list of maps or a "
                "DataFrame"
            )
    return len(rows)


# ---------------------------------------------------------------------------------------------------------------------
# Arrays
# ---------------------------------------------------------------------------------------------------------------------


def _long(x: xr.DataArray, value: str, name: str) -> Frame:
    """Return a row for each cell, in C order within each chunk, with a column of labels or positions for each dim."""
    if value in x.dims:
        raise OpError("value", f"{value!r} is a dim of the array, too; choose another name for the column of the cells")
    labels = [_known_labels(x, dim) for dim in x.dims]
    fields = [
        pa.field(str(dim), pa.int64(), nullable=False) if known is None else _labels_field(str(dim), known)
        for dim, known in zip(x.dims, labels, strict=True)
    ]
    schema = pa.schema([*fields, _cells_field(value, x.dtype)])
    starts = [np.concatenate([[0], np.cumsum(np.nan_to_num(c))]).astype(int) for c in x.data.chunks]
    own: dict[Key, GraphNode] = {}
    counts = {axis: _counted(x, axis, name, own) for axis, known in enumerate(labels) if known is None}
    for i, index in enumerate(itertools.product(*(range(n) for n in x.data.numblocks))):
        axes = listed(
            listed(map(ref, counts[axis][:j])) if known is None else known[starts[axis][j] : starts[axis][j + 1]]
            for axis, (known, j) in enumerate(zip(labels, index, strict=True))
        )
        key = (f"{name}/cells", i)
        own[key] = task(key, cells_of_chunk, axes, schema, ref((x.data.name, *index)))
    cells = {key: own[key] for key in own if key[0] == f"{name}/cells"}
    return _frame(dict(x.data.dask) | own, cells, schema, _n_cells(x.data.chunks))


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
    """Return labels as a column can hold them: times of a calendar that numpy lacks become text in ISO 8601."""
    if not calendar_of(labels):
        return labels
    texts = time_texts(labels)
    return np.where(texts == None, "", texts).astype("U")  # noqa: E711  (elementwise)


def _labels_field(name: str, labels: np.ndarray[Any, Any]) -> pa.Field:
    """Return the column of labels that are known while building; some may be missing where they are."""
    kind = _cells_field(name, labels.dtype).type
    return pa.field(name, kind, nullable=bool(_column(labels, kind).null_count))


def _cells_field(name: str, dtype: np.dtype[Any]) -> pa.Field:
    """Return the column of an array's cells; objects are text of any length, as files hold it."""
    if dtype.kind in "UTO":
        return pa.field(name, pa.string())
    if dtype.kind == "S":
        return pa.field(name, pa.binary())
    if dtype.kind in "mM":
        unit = np.datetime_data(dtype)[0]
        unit = unit if unit in ("s", "ms", "us", "ns") else "s"
        return pa.field(name, pa.timestamp(unit) if dtype.kind == "M" else pa.duration(unit))
    try:
        return pa.field(name, pa.from_numpy_dtype(dtype), nullable=dtype.kind == "f")
    except pa.ArrowNotImplementedError:
        cure = "take abs(x), or its real part" if dtype.kind == "c" else "make it float64"
        raise OpError("input", f"{dtype} is no type of a column; {cure} before") from None


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    """Return cells or labels as a column; a float that is not a number is missing."""
    values = np.asarray(values)
    if values.dtype.kind in "TO":
        return held(values.tolist(), pa.field("value", kind), "the array")
    if values.dtype.kind in "mM":
        values = values.astype(f"{values.dtype.kind}8[{kind.unit}]")
    return pa.array(np.ascontiguousarray(values), from_pandas=True).cast(kind)


def _spread(labels: pa.Array, axis: int, shape: Sequence[int]) -> pa.Array:
    """Return the labels along an axis for each place of a shape, in C order."""
    across = [-1 if i == axis else 1 for i in range(len(shape))]
    places = np.broadcast_to(np.arange(len(labels)).reshape(across), shape).reshape(-1)
    return labels.take(pa.array(places))


def cells_of_chunk(axes: Sequence[Any], schema: pa.Schema, chunk: Any) -> pa.Table:
    """Return a row for each cell of a chunk: its labels along each dim, then its value.

    Parameters
    ----------
    axes : for each dim the chunk's labels; or, if the labels are positions, a list of the lengths of the chunks before
    """
    shape = np.shape(chunk)
    columns = []
    for i, given in enumerate(axes):
        labels = np.arange(shape[i]) + sum(given) if isinstance(given, list) else given
        columns.append(_spread(_column(labels, schema.field(i).type), i, shape))
    columns.append(_column(np.asarray(chunk).reshape(-1), schema.field(len(axes)).type))
    return entered(pa.Table.from_arrays(columns, schema=schema), schema)


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
    fields = {str(c): _labels_field(str(c), values[c]) for c, _ in along}
    fields |= {c: found.field.with_name(c) for c, found in labels.items()}
    fields |= {c: _cells_field(c, x.dtype) for c in names}
    if len(fields) < len(along) + len(late) + len(names):
        twice = next(c for i, c in enumerate(names) if c in [*map(str, values), *labels, *names[:i]])
        raise OpError("columns", f"{twice!r} would be the name of two columns; give another prefix")
    schema = pa.schema(list(fields.values()))
    starts = [np.concatenate([[0], np.cumsum(np.nan_to_num(sizes))]).astype(int) for sizes in x.data.chunks]
    own: dict[Key, GraphNode] = {}
    for number, index in enumerate(itertools.product(*(range(n) for n in x.data.numblocks[:-1]))):
        head = [values[c][starts[i][index[i]] : starts[i][index[i] + 1]] for c, i in along]
        head += [ref((found.data.name, index[i])) for found, i in late]
        axes = tuple(i for _, i in [*along, *late])
        key = (f"{name}/rows", number)
        own[key] = task(key, rows_of_chunk, schema, axes, len(along), listed(head), ref((x.data.name, *index, 0)))
    tasks = dict(x.data.dask)
    for found, _ in late:
        tasks |= dict(found.data.dask)
    return _frame(tasks, own, schema, _n_cells(x.data.chunks[:-1]))


def rows_of_chunk(schema: pa.Schema, axes: Sequence[int], known: int, head: Sequence[Any], chunk: Any) -> pa.Table:
    """Return a row for each place along all dims of a chunk but the last.

    Parameters
    ----------
    axes, head : of the first columns: the dim of each, and its labels there
    known : how many of these are known while building; the others come from columns of frames

    Raises
    ------
    DataError : there are more or fewer labels than places
    """
    shape = chunk.shape[:-1]
    columns = []
    for i, (axis, labels) in enumerate(zip(axes, head, strict=True)):
        field = schema.field(i)
        if len(labels) != shape[axis]:
            raise DataError(f"there are {len(labels)} labels {field.name!r} for {shape[axis]} rows")
        column = _column(labels, field.type) if i < known else column_of_labels(labels, field.type)
        columns.append(_spread(column, axis, shape))
    cells = chunk.reshape(math.prod(shape), chunk.shape[-1])
    columns += [_column(cells[:, i], field.type) for i, field in enumerate(list(schema)[len(axes) :])]
    return entered(pa.Table.from_arrays(columns, schema=schema), schema)
