"""Row order, and what follows from it: sort_values, set_index, nlargest, nsmallest, drop_duplicates.

All of them use one total order of rows: by the columns asked for, ties by the remaining columns from left to right,
ascending; missing values last, whichever way a column is sorted, unless asked for first. Numbers, times and truth
values are compared by value, text and categories by the bytes of their UTF-8, lists and structs member by member. Rows
that are equal in every column are the same row twice, so results don't depend on how the input was cut into partitions.

A sort takes one task a partition to sort it and one to sample it, one for the splitters, and a static exchange; the
number of partitions stays. Inside a task SQL gives the order of the rows, and Arrow takes them. Rejected: splitters
found while building, which reads data twice.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import OpError
from pipeline.graph.column_types import field_of
from pipeline.graph.graph import Key
from pipeline.graph.late_pandas import numbers_of
from pipeline.graph.nodes import listed, ref
from pipeline.ops.collections import Frame
from pipeline.ops.frames.partitions import (
    Partitions,
    Places,
    equality_sql,
    exchange,
    names_of,
    places_by_hash,
    reduce_tree,
    stack,
    taken,
)
from pipeline.worker.sql_engine import numbered, query

__all__ = [
    "Order",
    "drop_duplicates",
    "in_order",
    "nlargest",
    "nsmallest",
    "set_index",
    "sort_rows",
    "sort_together",
    "sort_values",
    "starts_of_runs",
    "total_order",
]

# Rows sampled from a partition. With n partitions of random rows the largest part of the result is about
# 1 + sqrt(n) / 128 times the mean; of a sorted input every part is within 1 / 128 of it.
SAMPLES = 128


class SortKey(NamedTuple):
    """One column of an order; ``tie``: it only breaks ties of those before it."""

    name: str
    ascending: bool = True
    missing_first: bool = False
    tie: bool = False


Order = tuple[SortKey, ...]


def sort_values(
    input: Frame,  # noqa: A002
    *,
    by: str | Sequence[str],
    ascending: bool | Sequence[bool] = True,
    missing: Literal["first", "last"] = "last",
    n: int | None = None,
) -> Frame:
    """The rows in order; the only other ops whose row order means something are nlargest and nsmallest.

    Parameters
    ----------
    by : the columns, the first one weighs most
    ascending : one for all, or one a column
    missing : where missing values of these columns stand, whichever way they are sorted
    n : only the first so many rows, in one partition

    Raises
    ------
    OpError : an unknown column, or as many directions as there are not columns
    """
    names = names_of("by", by, input.columns, ordered=True)
    directions = [ascending] * len(names) if isinstance(ascending, bool) else list(ascending)
    if len(directions) != len(names):
        raise OpError("ascending", f"got {len(directions)} directions for {len(names)} columns")
    order = total_order(names, directions, input.columns, missing_first=missing == "first")
    if n is not None:
        return _first_of(input, n, [], order)
    partitions = Partitions.of(input, parameters=("sort_values", order))
    return partitions.frame(in_order(partitions, partitions.keys[0], order), input.schema, some_rows=True)


def set_index(input: Frame, *, keys: str | Sequence[str]) -> Frame:  # noqa: A002
    """The rows in order, and all rows with equal keys in one partition.

    Frames have no index: what it is asked for elsewhere is that what belongs together lies together. The number of
    partitions stays; a key that many rows share makes a large one.

    Parameters
    ----------
    keys : the columns, the first one weighs most; ties are in the order of the remaining columns

    Raises
    ------
    OpError : an unknown column
    """
    names = names_of("keys", keys, input.columns)
    order = total_order(names, [True] * len(names), input.columns)
    partitions = Partitions.of(input, parameters=("set_index", order))
    ordered = in_order(partitions, partitions.keys[0], order, cut=order[: len(names)])
    return partitions.frame(ordered, input.schema, some_rows=True)


def in_order(partitions: Partitions, keys: Sequence[Key], order: Order, *, cut: Order | None = None) -> list[Key]:
    """The keys of as many partitions whose rows, one after the other, are in the total order.

    Parameters
    ----------
    cut : the part of the order that says where partitions end: rows that are equal in it stay together
    """
    n, cut = len(keys), cut or order
    ordered = [partitions.add("sort", (i,), sort_rows, ref(key), order) for i, key in enumerate(keys)]
    if n == 1:
        return ordered
    samples = [partitions.add("sample", (i,), sample, ref(key)) for i, key in enumerate(ordered)]
    splitters = partitions.add("splitters", (0,), choose, listed(ref(key) for key in samples), cut, n)
    pieces = exchange(
        partitions,
        "sort",
        ordered,
        n,
        partial(places_by_splitters, order=cut),
        aids=[ref(splitters)],
        gather=partial(sort_together, order=order),
    )
    return [
        partitions.add("sort-gather", (i,), sort_together, listed(ref(key) for key in keys), order)
        for i, keys in enumerate(pieces)
    ]


def nlargest(input: Frame, *, n: int, columns: str | Sequence[str], by: str | Sequence[str] | None = None) -> Frame:  # noqa: A002
    """The ``n`` rows with the largest values, largest first, in one partition.

    Parameters
    ----------
    n : how many, at least 0; all rows where there are fewer
    columns : what is compared, the first one weighs most; missing values come last
    by : columns of groups: ``n`` rows of each, ordered by group (ascending) first
    """
    return _extremes(input, n, columns, by, ascending=False)


def nsmallest(input: Frame, *, n: int, columns: str | Sequence[str], by: str | Sequence[str] | None = None) -> Frame:  # noqa: A002
    """The ``n`` rows with the smallest values, smallest first; otherwise as :func:`nlargest`."""
    return _extremes(input, n, columns, by, ascending=True)


def _extremes(frame: Frame, n: int, columns: Any, by: Any, *, ascending: bool) -> Frame:
    names = names_of("columns", columns, frame.columns)
    groups = names_of("by", by, frame.columns) if by else []
    directions = [True] * len(groups) + [ascending] * len(names)
    order = total_order(groups + [name for name in names if name not in groups], directions, frame.columns)
    return _first_of(frame, n, groups, order)


def _first_of(frame: Frame, n: int, groups: list[str], order: Order) -> Frame:
    partitions = Partitions.of(frame, parameters=("first", n, groups, order))
    (keys,) = partitions.keys
    first = [
        partitions.add("first", (i,), first_rows, listed([ref(key)]), n, groups, order) for i, key in enumerate(keys)
    ]
    if len(first) > 1:
        left = reduce_tree(partitions, "first", first, first_rows, n, groups, order)
        first = [partitions.add("first-last", (0,), first_rows, listed(ref(key) for key in left), n, groups, order)]
    return partitions.frame(first, frame.schema, some_rows=True)


def drop_duplicates(input: Frame, *, subset: str | Sequence[str] | None = None) -> Frame:  # noqa: A002
    """One row of those that are equal in ``subset`` (all columns), missing values being equal to each other.

    Which one: the first by the remaining columns, so that it doesn't depend on any order of the rows. The number of
    partitions stays, rows lying by the hash of ``subset``.
    """
    names = input.columns if subset is None else names_of("subset", subset, input.columns)
    order = total_order(names, [True] * len(names), input.columns)
    partitions = Partitions.of(input, parameters=("drop_duplicates", names))
    (keys,) = partitions.keys
    distinct = [
        partitions.add("distinct", (i,), distinct_rows, listed([ref(key)]), names, order) for i, key in enumerate(keys)
    ]
    if len(keys) == 1:
        return partitions.frame(distinct, input.schema, some_rows=True)
    n = len(keys)
    pieces = exchange(partitions, "distinct", distinct, n, partial(places_by_hash, names=tuple(names), n=n))
    merged = [
        partitions.add("distinct-gather", (i,), distinct_rows, listed(ref(key) for key in some), names, order)
        for i, some in enumerate(pieces)
    ]
    return partitions.frame(merged, input.schema, some_rows=True)


# ---------------------------------------------------------------------------------------------------------------------
# The total order
# ---------------------------------------------------------------------------------------------------------------------


def total_order(
    names: Sequence[str], ascending: Sequence[bool], columns: Sequence[str], *, missing_first: bool = False
) -> Order:
    """The columns asked for, then the remaining ones, which only break ties."""
    return (
        *(SortKey(name, bool(up), missing_first) for name, up in zip(names, ascending, strict=False)),
        *(SortKey(name, tie=True) for name in columns if name not in names),
    )


def sort_rows(table: pa.Table, order: Order) -> pa.Table:
    """The rows in the total order."""
    return taken(table, ranks(table, order))


def sort_together(tables: Sequence[pa.Table], order: Order) -> pa.Table:
    """The rows of several tables in the total order."""
    return sort_rows(stack(tables), order)


def ranks(table: pa.Table, order: Order) -> Places:
    """The positions of the rows in the total order.

    Rows are sorted by the columns asked for; the others, one, two, four, … at a time, are looked at only where rows are
    still equal, as they rarely matter and cost as much each.
    """
    positions = np.arange(table.num_rows, dtype=np.int64)
    places = positions.copy()  # of the rows whose position is not settled
    runs = np.zeros(table.num_rows, dtype=np.int64)  # the run of equal rows that each place lies in
    asked = sum(not key.tie for key in order)
    start, stop, width = 0, max(asked, 1), 1
    while start < len(order) and len(places) > 1:
        some = order[start:stop]
        rows = table.select([key.name for key in some])
        if start:
            rows = taken(rows, positions[places])
        inner = _sorted(rows, some, runs[places] if start else None)
        positions[places] = positions[places][inner]
        if stop < len(order):
            first = starts_of_runs(taken(rows, inner)) | (np.diff(runs[places], prepend=-1) != 0)
            runs[places] = places[np.maximum.accumulate(np.where(first, np.arange(len(places)), 0))]
            places = places[~first | ~np.append(first[1:], True)]
        start, stop, width = stop, stop + width, 2 * width
    return positions


def _sorted(rows: pa.Table, order: Order, runs: Places | None) -> Places:
    """The positions of rows in the order of some columns, within their runs."""
    source = numbered(rows, rows="r")
    keys = ", ".join(f"c{i} {_direction(key)}" for i, key in enumerate(order))
    if runs is not None:
        source, keys = source.append_column("run", pa.array(runs)), f"run, {keys}"
    return np.array(numbers_of(query(f"select r from t order by {keys}", {"t": source}).column(0)))


def _direction(key: SortKey) -> str:
    return f"{'asc' if key.ascending else 'desc'} nulls {'first' if key.missing_first else 'last'}"


def starts_of_runs(table: pa.Table) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """For each row whether it differs from the row before it; missing values are equal to each other."""
    first = np.zeros(table.num_rows, dtype=bool)
    first[:1] = True
    for column in table.columns:
        values = _flat(column)
        one, other = values.slice(0, max(0, len(values) - 1)), values.slice(1)
        different = numbers_of(pc.fill_null(pc.not_equal(one, other), False))
        if values.null_count:
            missing = numbers_of(values.is_null())
            different = different | (missing[1:] != missing[:-1])
        first[1:] |= different
    return first


def _flat(column: pa.ChunkedArray) -> pa.Array:
    """A column as values that Arrow compares: of lists and structs their sort keys."""
    source = numbered(pa.table([column], names=["c"]))
    if pa.types.is_nested(column.type):
        found = query("select case when c0 is not null then create_sort_key(c0, 'asc nulls last') end from t",
                      {"t": source})  # fmt: skip
        return found.column(0).combine_chunks()
    return source.column(0).chunk(0)


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def sample(table: pa.Table) -> tuple[pa.Table, np.ndarray[Any, np.dtype[np.float64]]]:
    """Evenly spaced rows of a sorted partition, and how many rows each stands for."""
    n = min(SAMPLES, table.num_rows)
    rows = ((np.arange(n) + 0.5) * table.num_rows / n).astype(np.int64) if n else np.zeros(0, dtype=np.int64)
    return taken(table, rows), np.full(n, table.num_rows / n if n else 0.0)


def choose(samples: Sequence[Any], order: Order, n: int) -> pa.Table:
    """The ``n - 1`` rows at which the sorted whole is cut (fewer where there are fewer samples)."""
    rows = stack([table for table, _ in samples]).select([key.name for key in order])
    weights = np.concatenate([weight for _, weight in samples])
    positions = ranks(rows, order)
    reached = np.cumsum(weights[positions])
    if not len(reached):
        return rows
    cuts = np.searchsorted(reached, reached[-1] * np.arange(1, n) / n)
    return taken(rows, positions[np.minimum(cuts, len(positions) - 1)])


def places_by_splitters(table: pa.Table, splitters: pa.Table, *, order: Order) -> Places:
    """For each row of a sorted partition how many splitters lie at or before it.

    Rows some way apart are looked at first, then those between two of them in which a splitter lies.
    """
    n = table.num_rows
    rows = table.select([key.name for key in order])
    marks = _sort_keys(splitters, order)
    step = max(1, math.isqrt(n // max(1, len(marks))))
    coarse = np.arange(0, n, step)
    seen = _sort_keys(taken(rows, coarse), order)
    after = [bisect.bisect_left(seen, mark) for mark in marks]  # the first row seen that is not before the splitter
    starts = [max(0, (at - 1) * step + 1) for at in after]
    stops = [coarse[at] if at < len(coarse) else n for at in after]
    near = [np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)]
    fine = _sort_keys(taken(rows, np.concatenate([np.zeros(0, dtype=np.int64), *near])), order)
    bounds, read = [], 0
    for mark, some, start in zip(marks, near, starts, strict=True):
        bounds.append(start + bisect.bisect_left(fine, mark, read, read + len(some)) - read)
        read += len(some)
    return np.searchsorted(np.asarray(bounds, dtype=np.int64), np.arange(n), side="right").astype(np.int64)


def _sort_keys(table: pa.Table, order: Order) -> list[Any]:
    """One value a row that compares as the rows do."""
    if not table.num_rows:
        return []
    keys = ", ".join(f"c{i}, '{_direction(key)}'" for i, key in enumerate(order))
    found = query(f"select create_sort_key({keys}) from t", {"t": numbered(table)})
    return list(found.column(0).to_pylist())


def first_rows(tables: Sequence[pa.Table], n: int, groups: Sequence[str], order: Order) -> pa.Table:
    """The first ``n`` rows in the total order, or of each group."""
    table = stack(tables)
    if not groups:
        return sort_rows(_candidates(table, n, order[0]), order).slice(0, n)
    ordered = sort_rows(table, order)
    rows = np.arange(ordered.num_rows)
    first = np.maximum.accumulate(np.where(starts_of_runs(ordered.select(list(groups))), rows, 0))
    return taken(ordered, rows[rows - first < n])


def _candidates(table: pa.Table, n: int, key: SortKey) -> pa.Table:
    """The rows that are not behind ``n`` others by the first column; all, where that is not easily said."""
    if not 0 < n < table.num_rows // 4 or key.missing_first:
        return table
    source = numbered(table.select([key.name]), rows="r")
    if source.column(0).null_count > table.num_rows - n:
        return table
    compare, last = ("<=", "max") if key.ascending else (">=", "min")
    first = f"select c0 from t where c0 is not null order by c0 {_direction(key)} limit {int(n)}"
    near = query(f"select r from t where c0 {compare} (select {last}(c0) from ({first}))", {"t": source})
    return taken(table, np.sort(numbers_of(near.column(0))))


def distinct_rows(tables: Sequence[pa.Table], names: Sequence[str], order: Order) -> pa.Table:
    """One row of those that are equal in ``names``: the first in the total order."""
    table = stack(tables)
    source = numbered(table.select(list(names)), rows="r")
    keys = ", ".join(equality_sql(f"c{i}", field_of(table.schema, name).type) for i, name in enumerate(names))
    found = query(f"select min(r) as r, count(*) as n from t group by {keys}", {"t": source})
    first, counts = np.array(numbers_of(found.column(0))), numbers_of(found.column(1))
    if len(first) == table.num_rows:
        return table
    if len(names) == len(order):  # they are equal in everything
        return taken(table, np.sort(first))
    alone = np.sort(first[counts == 1])
    repeated = np.ones(table.num_rows, dtype=bool)
    repeated[alone] = False
    again = sort_rows(taken(table, np.flatnonzero(repeated)), order)
    kept = taken(again, np.flatnonzero(starts_of_runs(again.select(list(names)))))
    return stack([taken(table, alone), kept])
