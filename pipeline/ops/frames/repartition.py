"""Partitions themselves: how many there are, how long each one is, and a function of the user's over them.

How many rows a filter leaves is known in the run only, and so is the length of an array made of them. ``count_rows``
counts them there and deals them evenly: two frames with as many rows, dealt into as many partitions, are then cut
alike, which is what an expression over their arrays needs. Where the number of rows is known beforehand, from the
files' metadata or because it is said (``count_rows: 1000``; the run holds the frame to it), every length is known while
the graph is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import DataError, OpError
from pipeline.graph.graph import GraphNode, Key, listed, ref
from pipeline.graph.ownership import users_code
from pipeline.ops.collections import Args, args_of_task
from pipeline.ops.column_types import declared_dtype
from pipeline.ops.frames.cast import cast_column
from pipeline.ops.frames.partitions import Partitions, exchange, stack
from pipeline.worker.isolation import fresh
from pipeline.worker.users_function import called

__all__ = ["map_partitions", "repartition"]

_NUMBER = "\0number"  # of a row in the whole frame; no column of a user's


def repartition(input: Any, *, npartitions: int | None = None, count_rows: bool | int = False) -> Any:  # noqa: A002
    """The same rows, in the same order, in other partitions.

    Parameters
    ----------
    input : frame
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
    meta = input.meta
    partitions = Partitions.of(input, parameters=("repartition", npartitions, count_rows))
    (keys,) = partitions.keys
    n = npartitions or len(keys)
    if count_rows is False:
        return partitions.frame(_regrouped(partitions, keys, n), meta)
    counts = listed(ref(partitions.add("count", (i,), len, ref(key))) for i, key in enumerate(keys))
    known = partitions.lengths[0]
    said = count_rows if count_rows is not True else None if known is None else sum(known)
    size = partitions.add("size", (0,), size_of, counts, n, said)
    numbered = [partitions.add("number", (i,), number_rows, ref(key), counts, i) for i, key in enumerate(keys)]
    pieces = exchange(partitions, "deal", numbered, n, places_by_number, aids=[ref(size)])
    dealt = [
        partitions.add("deal-gather", (i,), rows_in_order, listed(ref(key) for key in some))
        for i, some in enumerate(pieces)
    ]
    return partitions.frame(dealt, meta, lengths=None if said is None else dealt_lengths(said, n))


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


def map_partitions(
    input: Any,  # noqa: A002
    *,
    function: str,
    columns: Mapping[str, str],
    args: Args = None,
) -> Any:
    """A function of the user's over each partition: a ``pandas.DataFrame`` in, one with any number of rows out.

    Which rows share a partition is said by op set_index; without it the function must not depend on it. A partition may
    have no rows.

    Parameters
    ----------
    input : frame
    function : ``module:function``, called as ``function(frame, **args)``; looked up inside the task
    args : keyword arguments; or the value that is a map of them
    columns : column -> type of the result

    Raises
    ------
    OpError : no such type
    DataError : in the run, if it gives no DataFrame, other columns, or values that don't fit their type
    """
    targets = {name: (declared_dtype(kind, f"columns.{name}"), kind) for name, kind in columns.items()}
    meta = pd.DataFrame({name: pd.Series([], dtype=dtype) for name, (dtype, _) in targets.items()})
    late: dict[Key, GraphNode] = {}
    given = args_of_task(args, late)
    partitions = Partitions.of(input, parameters=("map_partitions", function, given, dict(columns)))
    partitions.tasks |= late
    return partitions.map("map_partitions", call_function, meta, function, given, targets)


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def cut_rows(frame: pd.DataFrame, i: int, n: int) -> pd.DataFrame:
    """The ``i``-th of ``n`` even parts of a partition."""
    return frame.iloc[i * len(frame) // n : (i + 1) * len(frame) // n].reset_index(drop=True)


def size_of(counts: Sequence[int], n: int, said: int | None) -> int:
    """How many rows each of ``n`` partitions gets.

    Raises
    ------
    DataError : if there are not as many rows as was said
    """
    total = sum(counts)
    if said is not None and total != said:
        raise DataError(f"count_rows: got {total:,} rows; {said:,} are declared")
    return max(1, -(-total // n))


def number_rows(frame: pd.DataFrame, counts: Sequence[int], i: int) -> pd.DataFrame:
    """Partition ``i`` with the number of each row in the whole frame."""
    new = frame.reset_index(drop=True)
    new[_NUMBER] = np.arange(len(frame), dtype=np.int64) + sum(counts[:i])
    return new


def places_by_number(frame: pd.DataFrame, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each row the partition that its number falls into."""
    return frame[_NUMBER].to_numpy(dtype=np.int64) // size


def rows_in_order(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of some pieces by their numbers, which go."""
    return stack(frames).sort_values(_NUMBER, kind="stable").drop(columns=_NUMBER).reset_index(drop=True)


@users_code
def call_function(
    frame: pd.DataFrame, function: str, args: Mapping[str, Any], targets: Mapping[str, tuple[Any, str]]
) -> pd.DataFrame:
    """What the function gives for one partition, held to the columns and types declared."""
    found = called(function, frame.reset_index(drop=True), **fresh(args))
    if not isinstance(found, pd.DataFrame):
        raise DataError(f"{function} gave a {type(found).__name__}; a partition becomes a pandas.DataFrame")
    odd = [str(name) for name in found.columns if name not in targets]
    lacking = [name for name in targets if name not in found.columns]
    if odd or lacking:
        wrong = f"no column {lacking[0]!r}" if lacking else f"the column {odd[0]!r}, which is not among them"
        raise DataError(f"{function} gave {wrong}; columns: says {', '.join(targets)}")
    if not found.columns.is_unique:
        raise DataError(f"{function} gave two columns of one name; columns: says {', '.join(targets)}")
    return pd.DataFrame(
        {name: cast_column(name, found[name], dtype, kind) for name, (dtype, kind) in targets.items()},
        index=pd.RangeIndex(len(found)),
    )
