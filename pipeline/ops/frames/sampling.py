"""head and sample: some of the rows, chosen by their numbers in the frame alone.

The number of a row in the whole frame does not depend on where partitions end, so that the same rows are taken however
the frame is cut. Where the lengths of partitions are unknown, tasks count them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.graph.late_pandas import numbers_of
from pipeline.graph.nodes import listed, ref
from pipeline.ops.collections import Frame
from pipeline.ops.frames.partitions import Partitions, reduce_tree, stack, taken
from pipeline.ops.frames.repartition import n_rows

__all__ = ["head", "sample"]

_SCORE, _NUMBER = "\0score", "\0number"  # of a row; no columns of a user's


def head(input: Frame, *, n: int = 5) -> Frame:  # noqa: A002
    """The first ``n`` rows, in one partition; all of them where there are fewer."""
    partitions = Partitions.of(input, parameters=("head", n))
    keys = list(input.keys)
    lengths = None
    if input.lengths is not None:
        lengths = (min(n, sum(input.lengths)),)
        before = np.cumsum([0, *input.lengths[:-1]])
        keys = [key for key, start in zip(keys, before, strict=True) if start < n] or keys[:1]
    first = [partitions.add("head", (i,), first_of, listed([ref(key)]), n) for i, key in enumerate(keys)]
    if len(first) > 1:
        left = reduce_tree(partitions, "head", first, first_of, n)
        first = [partitions.add("head-last", (0,), first_of, listed(map(ref, left)), n)]
    return partitions.frame(first, input.schema, lengths=lengths, some_rows=True)


def sample(input: Frame, *, fraction: float | None = None, n: int | None = None, seed: int = 0) -> Frame:  # noqa: A002
    """Some of the rows, in the order in which they were.

    Parameters
    ----------
    fraction : the chance of each row, by itself, to be taken; the number of partitions stays
    n : how many, each as likely as the others, in one partition; all rows where there are fewer
    seed : with it and the numbers of the rows in the frame the choice is made
    """
    partitions = Partitions.of(input, parameters=("sample", fraction, n, seed))
    (keys,) = partitions.keys
    counts: Any = list(input.lengths) if input.lengths is not None else None
    if counts is None:
        counts = listed(ref(partitions.add("count", (i,), n_rows, ref(key))) for i, key in enumerate(keys))
    if n is None:
        made = [
            partitions.add("sample", (i,), rows_by_chance, ref(key), counts, i, fraction or 0.0, seed)
            for i, key in enumerate(keys)
        ]
        return partitions.frame(made, input.schema, some_rows=True)
    scored = [partitions.add("score", (i,), with_scores, ref(key), counts, i, n, seed) for i, key in enumerate(keys)]
    left = reduce_tree(partitions, "lowest", scored, lowest, n)
    last = partitions.add("sample", (0,), sampled, listed(map(ref, left)), n)
    known = None if input.lengths is None else (min(n, sum(input.lengths)),)
    return partitions.frame([last], input.schema, lengths=known, some_rows=True)


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def first_of(tables: Sequence[pa.Table], n: int) -> pa.Table:
    """The first rows of some tables; they do not keep the memory of the others."""
    table = stack(tables)
    return table if table.num_rows <= n else taken(table, np.arange(n))


def scores(first: int, n: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A random number of 64 bits for each of ``n`` rows, of which ``first`` is the first one's number: SplitMix64.

    Different rows have different numbers.

    References
    ----------
    Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014).
    """
    z = np.arange(first, first + n, dtype=np.uint64) + np.uint64(1)
    z = np.uint64(_mixed(seed)) + z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def _mixed(seed: int) -> int:
    """The seed as 64 bits that have nothing to do with those of the next seed."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])


def rows_by_chance(table: pa.Table, counts: Sequence[int], i: int, fraction: float, seed: int) -> pa.Table:
    """The rows of partition ``i`` whose score is below the fraction."""
    chances = (scores(sum(counts[:i]), table.num_rows, seed) >> np.uint64(11)).astype(np.float64) / 2**53
    return taken(table, np.flatnonzero(chances < fraction))


def with_scores(table: pa.Table, counts: Sequence[int], i: int, n: int, seed: int) -> pa.Table:
    """The ``n`` rows of partition ``i`` with the lowest scores, with these and their numbers."""
    first = sum(counts[:i])
    tagged = table.append_column(_NUMBER, pa.array(np.arange(first, first + table.num_rows)))
    return lowest([tagged.append_column(_SCORE, pa.array(scores(first, table.num_rows, seed)))], n)


def lowest(tables: Sequence[pa.Table], n: int) -> pa.Table:
    """The ``n`` rows with the lowest scores."""
    table = stack(tables)
    return taken(table, np.argsort(numbers_of(table.column(_SCORE)), kind="stable")[:n])


def sampled(tables: Sequence[pa.Table], n: int) -> pa.Table:
    """The ``n`` rows with the lowest scores, in the order of their numbers, without both."""
    table = lowest(tables, n)
    return taken(table, np.argsort(numbers_of(table.column(_NUMBER)))).drop_columns([_NUMBER, _SCORE])
