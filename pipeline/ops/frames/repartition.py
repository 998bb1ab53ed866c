"""Partitions themselves: how many there are, and how long each one is.

How many rows a filter leaves is known in the run only, and so is the length of an array made of them. ``count_rows``
counts them there and deals them evenly: two frames with as many rows, dealt into as many partitions, are then cut
alike, which is what an expression over their arrays needs. Where the number of rows is known beforehand, from the
files' metadata or declared (``count_rows: 1000``; the run holds the frame to it), every length is known while the graph
is built.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError, OpError
from pipeline.graph.graph import Key
from pipeline.graph.late_pandas import numbers_of
from pipeline.graph.nodes import listed, ref
from pipeline.ops.collections import Frame
from pipeline.ops.frames.partitions import Partitions, Places, exchange, stack, taken

__all__ = ["repartition"]

_NUMBER = "\0number"  # of a row in the whole frame; no column of a user's


def repartition(input: Frame, *, npartitions: int | None = None, count_rows: bool | int = False) -> Frame:  # noqa: A002
    """The same rows, in the same order, in other partitions.

    Parameters
    ----------
    npartitions : how many; default: as many as there are
    count_rows : deal the rows evenly: all partitions are equally long but the last ones, which may be shorter. A
        number: there are so many rows. Without, neighbours are put together, or each partition is cut by itself.

    Raises
    ------
    OpError : neither of the two
    DataError : in the run, if there are more or fewer rows than ``count_rows`` says
    """
    if npartitions is None and count_rows is False:
        raise OpError("npartitions", "is missing; give how many, or count_rows: true to deal the rows evenly")
    partitions = Partitions.of(input, parameters=("repartition", npartitions, count_rows))
    (keys,) = partitions.keys
    n = npartitions or len(keys)
    if count_rows is False:
        return partitions.frame(_regrouped(partitions, keys, n), input.schema, some_rows=True)
    counts = listed(ref(partitions.add("count", (i,), n_rows, ref(key))) for i, key in enumerate(keys))
    known = input.lengths
    declared = count_rows if count_rows is not True else None if known is None else sum(known)
    size = partitions.add("size", (0,), size_of, counts, n, declared)
    numbered = [partitions.add("number", (i,), number_rows, ref(key), counts, i) for i, key in enumerate(keys)]
    pieces = exchange(partitions, "deal", numbered, n, places_by_number, aids=[ref(size)])
    dealt = [
        partitions.add("deal-gather", (i,), rows_in_order, listed(ref(key) for key in some))
        for i, some in enumerate(pieces)
    ]
    return partitions.frame(
        dealt, input.schema, lengths=None if declared is None else dealt_lengths(declared, n), some_rows=True
    )


def _regrouped(partitions: Partitions, keys: Sequence[Key], n: int) -> list[Key]:
    """Neighbours put together, or each partition cut evenly: every task needs its own rows only."""
    m = len(keys)
    if n <= m:
        groups = [keys[i * m // n : (i + 1) * m // n] for i in range(n)]
        return [
            partitions.add("regroup", (i,), stack, listed(ref(key) for key in group)) for i, group in enumerate(groups)
        ]
    parts = [(i + 1) * n // m - i * n // m for i in range(m)]
    pieces = [(key, j, some) for key, some in zip(keys, parts, strict=True) for j in range(some)]
    return [partitions.add("regroup", (k,), cut_rows, ref(key), j, some) for k, (key, j, some) in enumerate(pieces)]


def dealt_lengths(n_rows: int, n: int) -> tuple[int, ...]:
    """How long each of ``n`` partitions is that ``n_rows`` are dealt into.

    >>> dealt_lengths(10, 4)
    (3, 3, 3, 1)
    """
    size = max(1, -(-n_rows // n))
    return tuple(max(0, min(size, n_rows - i * size)) for i in range(n))


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def cut_rows(table: pa.Table, i: int, n: int) -> pa.Table:
    """The ``i``-th of ``n`` even parts of a partition."""
    return taken(table, np.arange(i * table.num_rows // n, (i + 1) * table.num_rows // n))


def n_rows(table: pa.Table) -> int:
    """How many rows a partition has."""
    return int(table.num_rows)


def size_of(counts: Sequence[int], n: int, declared: int | None) -> int:
    """How many rows each of ``n`` partitions gets.

    Raises
    ------
    DataError : if there are not as many rows as was declared
    """
    total = sum(counts)
    if declared is not None and total != declared:
        raise DataError(f"count_rows: got {total:,} rows; {declared:,} are declared")
    return max(1, -(-total // n))


def number_rows(table: pa.Table, counts: Sequence[int], i: int) -> pa.Table:
    """Partition ``i`` with the number of each row in the whole frame."""
    return table.append_column(_NUMBER, pa.array(np.arange(table.num_rows, dtype=np.int64) + sum(counts[:i])))


def places_by_number(table: pa.Table, size: int) -> Places:
    """For each row the partition that its number falls into."""
    return np.asarray(numbers_of(table.column(_NUMBER)), dtype=np.int64) // size


def rows_in_order(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of some pieces, which are in the order of their numbers already; the numbers go."""
    return stack(tables).drop_columns([_NUMBER])
