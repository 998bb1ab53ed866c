"""Frames as keys and tasks: what the frame ops share below the collections.

A frame op reads the keys of its input's partitions, adds tasks of its own and wraps the result as a collection again.
Nothing here runs a task. Rejected: ``map_partitions`` and the other methods of dask.dataframe, whose optimiser may
move, fuse and rename what a step does, and some of which compute while they are called.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from dask.base import tokenize

from pipeline.config.expressions.functions import name_hint
from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.graph import GraphNode, Key, listed, ref, task
from pipeline.ops import data_movement
from pipeline.ops.collections import Frame

__all__ = [
    "Partitions",
    "UnknownColumn",
    "conform",
    "exchange",
    "places_by_hash",
    "reduce_tree",
    "require",
    "require_keys",
    "stack",
]

SPLIT_EVERY = 8
# Up to this many pieces a shuffle goes in one stage, above it in two: 2 n^1.5 instead of n^2 tasks.
ONE_STAGE = 1024
# More pieces than this are some gigabytes of tasks before anything has run.
_MOST_PIECES = 500_000


class UnknownColumn(OpError):
    """A parameter names a column that the op's first input lacks; :meth:`of` names the step that is that input."""

    def __init__(self, field: str, problem: str, hint: str) -> None:
        super().__init__(field, f"{problem} of the input{hint}")
        self.args = field, problem, hint

    def of(self, step: str) -> OpError:
        """Return the same error with the name of the step in the place of "the input"."""
        field, problem, hint = self.args
        return OpError(field, f"{problem} of {step!r}{hint}")


@dataclass
class Partitions:
    """The partitions of the frames an op reads, and the tasks it adds; made by :meth:`of`.

    Parameters
    ----------
    tasks : the tasks of the inputs, then the op's own
    token : deterministic, of the inputs' names and the op's parameters; the end of every layer's name
    keys : the keys of the partitions, a list an input
    lengths : how many rows each of them has, where that is known
    """

    token: str
    tasks: dict[Key, GraphNode] = field(default_factory=dict)
    keys: list[list[Key]] = field(default_factory=list)
    lengths: list[tuple[int, ...] | None] = field(default_factory=list)

    @classmethod
    def of(cls, *frames: Frame, parameters: Any = ()) -> Partitions:
        """Read the keys of frames."""
        new = cls(tokenize(frames, parameters))
        for frame in frames:
            new.tasks.update(frame.tasks)
            new.keys.append(list(frame.keys))
            new.lengths.append(frame.lengths)
        return new

    def add(self, layer: str, index: tuple[int, ...], function: Callable[..., Any], *arguments: Any) -> Key:
        """One task of the op's own; its key."""
        key = (f"{layer}-{self.token}", *index)
        self.tasks[key] = task(key, function, *arguments)
        return key

    def bind(self, bound: Mapping[str, Sequence[Any]] | None, path: str) -> Any:
        """The argument that carries the run-time values of the expression at ``path`` into a task."""
        values = (bound or {}).get(path, ())
        for value in values:
            self.tasks.update(value.tasks)
        return listed(ref(value.key) for value in values) if values else ()

    def bind_all(self, bound: Mapping[str, Sequence[Any]] | None, paths: Sequence[str]) -> Any:
        """Those of several expressions: a list an expression, in order."""
        return listed([self.bind(bound, path) for path in paths])

    def frame(self, keys: Sequence[Key], meta: pd.DataFrame, *, lengths: tuple[int, ...] | None = None) -> Frame:
        """The frame whose partitions are ``keys``; ``lengths``: how many rows each has, where that is known."""
        return Frame(self.tasks, tuple(keys), meta, lengths=lengths)

    def map(
        self, name: str, function: Callable[..., Any], meta: pd.DataFrame, *arguments: Any, same_rows: bool = False
    ) -> Any:
        """One task a partition of the one input: ``function(partition, *arguments)``.

        Parameters
        ----------
        same_rows : whether a partition has as many rows after it as before
        """
        (keys,) = self.keys
        made = [self.add(name, (i,), function, ref(key), *arguments) for i, key in enumerate(keys)]
        return self.frame(made, meta, lengths=self.lengths[0] if same_rows else None)


def require(
    place: str,
    names: Iterable[str],
    columns: Iterable[Any],
    *,
    at: Callable[[str], int] | None = None,
    of: str = "",
) -> None:
    """Check that every one of ``names`` is a column.

    Raises
    ------
    OpError : naming the first that is not, and the column nearest to it
    """
    known = [str(column) for column in columns]
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"; its columns: {', '.join(known) or 'none'}."
            hint = (name_hint(name) + "." if at and name_hint(name) else "") or hint
            start = f"column {at(name)}: " if at else ""
            end = " A param or a step is written ${…} here" if at else ""
            problem, hint = f"{start}'{name}' is no column", f"{hint}{end}"
            raise OpError(place, f"{problem} of {of}{hint}") if of else UnknownColumn(place, problem, hint)


# ---------------------------------------------------------------------------------------------------------------------
# Inside tasks
# ---------------------------------------------------------------------------------------------------------------------


def stack(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of frames with equal columns; categories that differ between partitions are united."""
    if len(frames) == 1:
        return frames[0].reset_index(drop=True)
    first = frames[0]
    mixed = [
        name
        for name in first.columns
        if isinstance(first[name].dtype, pd.CategoricalDtype)
        and any(frame[name].dtype != first[name].dtype for frame in frames[1:])
    ]
    whole = pd.concat([frame.drop(columns=mixed) for frame in frames] if mixed else list(frames), ignore_index=True)
    for name in mixed:
        some = [frame[name] for frame in frames if len(frame)] or [first[name]]  # no rows may mean untyped categories
        whole[name] = pd.Series(pd.api.types.union_categoricals(some), index=whole.index)
    return whole[list(first.columns)] if mixed else whole


def conform(column: pd.Series[Any], dtype: Any) -> pd.Series[Any]:
    """The column with the dtype that was found while building, whatever this partition's rows would give."""
    if column.dtype == dtype or isinstance(dtype, pd.CategoricalDtype):
        return column
    return column.astype(dtype)


def hashes(frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """64 bits a row, equal for equal rows in every process."""
    comparable = {}
    for i, name in enumerate(frame.columns):
        column = frame[name]
        if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
            column = column.where(column.notna(), np.nan) + 0.0  # -0.0 equals 0.0, every NaN every other
        comparable[i] = column
    rows = pd.DataFrame(comparable, index=frame.index)
    return np.asarray(pd.util.hash_pandas_object(rows, index=False), dtype=np.uint64)


def require_keys(frame: pd.DataFrame, names: Iterable[Any]) -> None:
    """Refuse columns of lists, maps and the like as keys.

    Raises
    ------
    DataError : naming the column
    """
    for name in names:
        if frame[name].dtype == object and any(value.__hash__ is None for value in frame[name]):
            raise DataError(f"column {name!r} holds lists or maps; keys are single values, as text(x) in an assign is")


def places_by_hash(frame: pd.DataFrame, names: Sequence[str], n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each row which of ``n`` parts it belongs to, by the values of some columns."""
    return (hashes(frame[list(names)]) % np.uint64(n)).astype(np.int64)


def scatter(
    frame: pd.DataFrame, places: Callable[..., Any], aids: Sequence[Any], first: int, width: int, count: int
) -> list[pd.DataFrame]:
    """The rows by destination: ``count`` frames, each for ``width`` destinations from ``first`` on."""
    buckets = (places(frame, *aids) - first) // width
    if len(buckets) and (np.diff(buckets) < 0).any():
        order = np.argsort(buckets, kind="stable")
        frame, buckets = frame.take(order), buckets[order]
    cuts = np.searchsorted(buckets, np.arange(count + 1))
    return [frame.iloc[start:stop].reset_index(drop=True) for start, stop in itertools.pairwise(cuts)]


def pick(values: Sequence[Any], i: int) -> Any:
    """``values[i]``, as a task."""
    return values[i]


# ---------------------------------------------------------------------------------------------------------------------
# Patterns of tasks
# ---------------------------------------------------------------------------------------------------------------------


def reduce_tree(
    partitions: Partitions, layer: str, keys: Sequence[Key], function: Callable[..., Any], *arguments: Any
) -> list[Key]:
    """Combine until at most eight are left, for the caller's last task: ``function([values], *arguments)``."""
    level = 0
    left = list(keys)
    while len(left) > SPLIT_EVERY:
        left = [
            partitions.add(
                f"{layer}-combine",
                (level, i),
                function,
                listed(ref(key) for key in left[i * SPLIT_EVERY : (i + 1) * SPLIT_EVERY]),
                *arguments,
            )
            for i in range(-(-len(left) // SPLIT_EVERY))
        ]
        level += 1
    return left


def exchange(
    partitions: Partitions,
    layer: str,
    keys: Sequence[Key],
    n: int,
    places: Callable[..., Any],
    *,
    aids: Sequence[Any] = (),
    gather: Callable[[Sequence[pd.DataFrame]], pd.DataFrame] = stack,
) -> list[list[Key]]:
    """Send each row to one of ``n`` destinations; for each the keys of the pieces it gets, some of them empty.

    Parameters
    ----------
    places : ``places(partition, *aids)`` gives the destination of each row, in [0, n)
    aids : further arguments of ``places``, refs allowed
    gather : puts pieces together between two stages, so that ``places`` understands the result

    Raises
    ------
    OpError : if that takes more tasks than can be planned
    """
    n_pieces = len(keys) * n if len(keys) * n <= ONE_STAGE else 2 * len(keys) * math.isqrt(n)
    if n_pieces > _MOST_PIECES:
        raise OpError(
            "",
            f"moving rows between {len(keys):,} partitions takes some {n_pieces:,} tasks; at most {_MOST_PIECES:,} can "
            "be planned: make fewer partitions first, with op repartition, or larger blocks where the rows are read",
        )
    data_movement.state("shuffle")
    extra = listed(aids)
    if len(keys) * n <= ONE_STAGE:
        return _stage(partitions, f"{layer}-split", keys, places, extra, first=0, width=1, count=n)
    width = int(np.ceil(np.sqrt(n)))
    block = int(np.ceil(np.sqrt(len(keys))))
    groups = -(-n // width)
    coarse: list[list[Key]] = [[] for _ in range(groups)]  # the middle frames of each group of destinations
    for b, start in enumerate(range(0, len(keys), block)):
        some = keys[start : start + block]
        arrivals = _stage(partitions, f"{layer}-split-{b}", some, places, extra, first=0, width=width, count=groups)
        for group, pieces in enumerate(arrivals):
            middle = partitions.add(f"{layer}-gather", (b, group), gather, listed(ref(key) for key in pieces))
            coarse[group].append(middle)
    ends: list[list[Key]] = []
    for group, middles in enumerate(coarse):
        first = group * width
        ends += _stage(
            partitions,
            f"{layer}-spread-{group}",
            middles,
            places,
            extra,
            first=first,
            width=1,
            count=min(width, n - first),
        )
    return ends


def _stage(
    partitions: Partitions,
    layer: str,
    keys: Sequence[Key],
    places: Callable[..., Any],
    extra: Any,
    *,
    first: int,
    width: int,
    count: int,
) -> list[list[Key]]:
    ends: list[list[Key]] = [[] for _ in range(count)]
    for i, key in enumerate(keys):
        pieces = partitions.add(layer, (i,), scatter, ref(key), places, extra, first, width, count)
        for j in range(count):
            ends[j].append(partitions.add(f"{layer}-piece", (i, j), pick, ref(pieces), j))
    return ends
