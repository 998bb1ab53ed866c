"""Row order, and what follows from it: sort_values, set_index, nlargest, nsmallest, drop_duplicates.

All of them use one total order of rows: by the columns asked for, ties by the remaining columns from left to right,
ascending; missing values last, whichever way a column is sorted. Rows that are equal in every column are the same row
twice, so results don't depend on how the input was cut into partitions.

A sort takes one task a partition to sort it and one to sample it, one for the splitters, and a static exchange; the
number of partitions stays. Rejected: dask's ``sort_values``, which computes the splitters while building.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import OpError
from pipeline.graph.graph import Key, listed, ref
from pipeline.ops.frames.partitions import (
    Partitions,
    exchange,
    places_by_hash,
    reduce_tree,
    require,
    require_keys,
    stack,
)

__all__ = [
    "drop_duplicates",
    "in_order",
    "nlargest",
    "nsmallest",
    "set_index",
    "sort_rows",
    "sort_values",
    "total_order",
]

# Rows sampled from a partition. With n partitions of random rows the largest part of the result is about
# 1 + sqrt(n) / 128 times the mean; of a sorted input every part is within 1 / 128 of it.
SAMPLES = 128


def sort_values(input: Any, *, by: str | Sequence[str], ascending: bool | Sequence[bool] = True) -> Any:  # noqa: A002
    """The rows in order; the only other ops whose row order means something are nlargest and nsmallest.

    Parameters
    ----------
    input : frame
    by : the columns, the first one weighs most
    ascending : one for all, or one a column

    Raises
    ------
    OpError : an unknown column, or as many directions as there are not columns
    """
    names = names_of("by", by, input.columns)
    directions = [ascending] * len(names) if isinstance(ascending, bool) else list(ascending)
    if len(directions) != len(names):
        raise OpError("ascending", f"got {len(directions)} directions for {len(names)} columns")
    meta = input.meta
    order = total_order(names, directions, meta.columns)
    partitions = Partitions.of(input, parameters=("sort_values", order))
    return partitions.frame(in_order(partitions, partitions.keys[0], order), meta)


def set_index(input: Any, *, keys: str | Sequence[str]) -> Any:  # noqa: A002
    """The rows in order, and all rows with equal keys in one partition.

    Frames have no index: what pandas' or dask's ``set_index`` is asked for is that what belongs together lies together.
    After it ``map_partitions`` gets every key whole, and its row order means something. The number of partitions stays;
    a key that many rows share makes a large one.

    Parameters
    ----------
    input : frame
    keys : the columns, the first one weighs most; ties are in the order of the remaining columns

    Raises
    ------
    OpError : an unknown column
    """
    meta = input.meta
    names = names_of("keys", keys, meta.columns)
    order = total_order(names, [True] * len(names), meta.columns)
    partitions = Partitions.of(input, parameters=("set_index", order))
    ordered = in_order(partitions, partitions.keys[0], order, cut=order[: len(names)])
    return partitions.frame(ordered, meta)


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


def nlargest(input: Any, *, n: int, columns: str | Sequence[str], by: str | Sequence[str] | None = None) -> Any:  # noqa: A002
    """The ``n`` rows with the largest values, largest first, in one partition.

    Parameters
    ----------
    input : frame
    n : how many, at least 0; all rows where there are fewer
    columns : what is compared, the first one weighs most; missing values come last
    by : columns of groups: ``n`` rows of each, ordered by group (ascending) first
    """
    return _first_rows(input, n, columns, by, ascending=False)


def nsmallest(input: Any, *, n: int, columns: str | Sequence[str], by: str | Sequence[str] | None = None) -> Any:  # noqa: A002
    """The ``n`` rows with the smallest values, smallest first; otherwise as :func:`nlargest`."""
    return _first_rows(input, n, columns, by, ascending=True)


def drop_duplicates(input: Any, *, subset: str | Sequence[str] | None = None) -> Any:  # noqa: A002
    """One row of those that are equal in ``subset`` (all columns), missing values being equal to each other.

    Which one: the first by the remaining columns, so that it doesn't depend on any order of the rows. The number of
    partitions stays, rows lying by the hash of ``subset``.
    """
    meta = input.meta
    names = list(meta.columns) if subset is None else names_of("subset", subset, meta.columns)
    order = total_order(names, [True] * len(names), meta.columns)
    partitions = Partitions.of(input, parameters=("drop_duplicates", names))
    (keys,) = partitions.keys
    distinct = [
        partitions.add("distinct", (i,), drop_in, listed([ref(key)]), names, order) for i, key in enumerate(keys)
    ]
    if len(keys) == 1:
        return partitions.frame(distinct, meta)
    n = len(keys)
    pieces = exchange(partitions, "distinct", distinct, n, partial(places_by_hash, names=tuple(names), n=n))
    merged = [
        partitions.add("distinct-gather", (i,), drop_in, listed(ref(key) for key in some), names, order)
        for i, some in enumerate(pieces)
    ]
    return partitions.frame(merged, meta)


def _first_rows(frame: Any, n: int, columns: Any, by: Any, *, ascending: bool) -> Any:
    meta = frame.meta
    names = names_of("columns", columns, meta.columns)
    groups = names_of("by", by, meta.columns) if by else []
    directions = [True] * len(groups) + [ascending] * len(names)
    order = total_order(groups + [name for name in names if name not in groups], directions, meta.columns)
    partitions = Partitions.of(frame, parameters=("first", n, groups, order))
    (keys,) = partitions.keys
    first = [
        partitions.add("first", (i,), first_rows, listed([ref(key)]), n, groups, order) for i, key in enumerate(keys)
    ]
    if len(first) > 1:
        left = reduce_tree(partitions, "first", first, first_rows, n, groups, order)
        first = [partitions.add("first-last", (0,), first_rows, listed(ref(key) for key in left), n, groups, order)]
    return partitions.frame(first, meta)


def names_of(place: str, given: str | Sequence[str], columns: Any, *, of: str = "") -> list[str]:
    """One name or several as a list of columns that are there, each once."""
    names = list(dict.fromkeys([given] if isinstance(given, str) else given))
    require(place, names, columns, of=of)
    return names


# ---------------------------------------------------------------------------------------------------------------------
# The total order
# ---------------------------------------------------------------------------------------------------------------------

Order = tuple[tuple[str, bool, bool], ...]


def total_order(names: Sequence[str], ascending: Sequence[bool], columns: Any) -> Order:
    """The columns asked for, then the remaining ones: (column, ascending, whether it only breaks ties)."""
    return (
        *((name, bool(up), False) for name, up in zip(names, ascending, strict=False)),
        *((str(name), True, True) for name in columns if name not in names),
    )


def comparable(column: pd.Series[Any], tie: bool) -> pd.Series[Any]:
    """A column that sorts by value in every partition alike.

    Categories sort by their own order where they have one, else by their values: the codes of two partitions need not
    agree. Python objects that only break ties sort by their text, since they need not be comparable.
    """
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        if not dtype.ordered:
            return column.astype(dtype.categories.dtype)
        codes = pd.Series(column.cat.codes.to_numpy(dtype="int64"), index=column.index, dtype="Int64")
        return codes.mask(codes < 0)
    if tie and pd.api.types.is_object_dtype(dtype):
        return column.map(repr, na_action="ignore").astype("str")
    return column


def sort_rows(frame: pd.DataFrame, order: Order) -> pd.DataFrame:
    """The rows in the total order.

    The first column alone is sorted; the others are looked at only where it ties, as they rarely matter and cost as
    much each.
    """
    return frame.take(ranks(frame, order)).reset_index(drop=True)


def ranks(frame: pd.DataFrame, order: Order) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The positions of the rows in the total order."""
    positions = np.arange(len(frame), dtype=np.int64)
    tied = np.ones(len(frame), dtype=bool)  # by the columns so far, with a neighbour
    runs = np.zeros(len(frame), dtype=np.int64)  # number of the run of ties a row lies in
    for depth, (name, up, tie) in enumerate(order):
        places = np.flatnonzero(tied)
        if not len(places):
            break
        key = comparable(frame[name].iloc[positions[places]], tie).reset_index(drop=True)
        if depth == 0:
            inner = key.sort_values(ascending=up, na_position="last", kind="stable").index.to_numpy()
        else:
            both = pd.DataFrame({"run": runs[places], "key": key})
            inner = both.sort_values(
                ["run", "key"], ascending=[True, up], na_position="last", kind="stable"
            ).index.to_numpy()
        positions[places] = positions[places][inner]
        key = key.take(inner).reset_index(drop=True)
        same = np.zeros(len(places), dtype=bool)  # as the row before it
        same[1:] = _equal(key.iloc[1:], key.iloc[:-1]) & (np.diff(runs[places]) == 0)
        tied[places] = same | np.append(same[1:], False)
        runs[places] = places[np.maximum.accumulate(np.where(same, 0, np.arange(len(places))))]
    return positions


def _equal(left: pd.Series[Any], right: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Row by row whether the values are equal, missing ones being equal to each other."""
    left, right = left.reset_index(drop=True), right.reset_index(drop=True)
    same = left.eq(right).astype("boolean").fillna(False).to_numpy(dtype=bool)
    return same | (left.isna() & right.isna()).to_numpy(dtype=bool)


def sort_together(frames: Sequence[pd.DataFrame], order: Order) -> pd.DataFrame:
    """The rows of several frames in the total order."""
    return sort_rows(stack(frames), order)


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def sample(frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray[Any, np.dtype[np.float64]]]:
    """Evenly spaced rows of a sorted partition, and how many rows each stands for."""
    n = min(SAMPLES, len(frame))
    rows = ((np.arange(n) + 0.5) * len(frame) / n).astype(np.int64) if n else np.zeros(0, dtype=np.int64)
    return frame.iloc[rows].reset_index(drop=True), np.full(n, len(frame) / n if n else 0.0)


def choose(samples: Sequence[Any], order: Order, n: int) -> pd.DataFrame:
    """The ``n - 1`` rows at which the sorted whole is cut (fewer where there are fewer samples)."""
    rows = stack([frame for frame, _ in samples])
    weights = np.concatenate([weight for _, weight in samples])
    positions = ranks(rows, order)
    reached = np.cumsum(weights[positions])
    if not len(reached):
        return rows
    cuts = np.searchsorted(reached, reached[-1] * np.arange(1, n) / n)
    return rows.take(positions[np.minimum(cuts, len(positions) - 1)]).reset_index(drop=True)


def places_by_splitters(
    frame: pd.DataFrame, splitters: pd.DataFrame, *, order: Order
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each row of a sorted partition how many splitters lie at or before it."""
    keys = [comparable(frame[name], tie).array for name, _, tie in order]
    marks = [comparable(splitters[name], tie).array for name, _, tie in order]
    ups = [up for _, up, _ in order]
    starts = [_position(keys, ups, [mark[i] for mark in marks], len(frame)) for i in range(len(splitters))]
    return np.searchsorted(np.asarray(starts, dtype=np.int64), np.arange(len(frame)), side="right").astype(np.int64)


def _position(keys: Sequence[Any], ups: Sequence[bool], row: Sequence[Any], n: int) -> int:
    """Where ``row`` would be inserted into sorted columns: before its equals. Reads log(n) values a column."""
    start, stop = 0, n
    for key, up, value in zip(keys, ups, row, strict=True):
        present = _first(key, start, stop, pd.isna)
        if pd.isna(value):
            start = present
            continue
        not_before, after = (operator.le, operator.lt) if up else (operator.ge, operator.gt)  # value first
        start = _first(key, start, present, partial(not_before, value))
        stop = _first(key, start, present, partial(after, value))
        if start == stop:
            break
    return start


def _first(key: Any, start: int, stop: int, test: Callable[[Any], Any]) -> int:
    """The first position whose value passes the test, all behind it passing too; ``stop`` where none does."""
    while start < stop:
        middle = (start + stop) // 2
        if test(key[middle]):
            stop = middle
        else:
            start = middle + 1
    return start


def first_rows(frames: Sequence[pd.DataFrame], n: int, groups: Sequence[str], order: Order) -> pd.DataFrame:
    """The first ``n`` rows in the total order, or of each group."""
    frame = stack(frames)
    if groups:
        ordered = sort_rows(frame, order)
        kept = ordered.groupby(list(groups), dropna=False, sort=False, observed=True).cumcount() < n
        return ordered[kept.to_numpy(dtype=bool)].reset_index(drop=True)
    name, up, _ = order[0]
    column = frame[name]
    if 0 < n < len(frame) // 4 and isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufmM":
        near = column.nsmallest(n, keep="all") if up else column.nlargest(n, keep="all")
        if len(near) >= n:  # else missing values are needed as well
            frame = frame.take(near.index.to_numpy())
    return sort_rows(frame, order).head(n)


def drop_in(frames: Sequence[pd.DataFrame], names: Sequence[str], order: Order) -> pd.DataFrame:
    """One row of those that are equal in ``names``: the first in the total order."""
    frame = stack(frames)
    require_keys(frame, names)
    repeated = frame.duplicated(names, keep=False).to_numpy(dtype=bool)
    if not repeated.any():
        return frame
    again = sort_rows(frame[repeated].reset_index(drop=True), order).drop_duplicates(names)
    return stack([frame[~repeated].reset_index(drop=True), again.reset_index(drop=True)])
