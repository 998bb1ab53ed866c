"""Frames as keys and tasks: what the frame ops share below the collections.

A frame op reads the keys of its input's partitions, adds tasks of its own and wraps the result as a collection again.
Partitions are ``pyarrow.Table`` of the frame's schema: a task computes what is new by one SQL statement, and keeps the
other columns as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from dask.base import tokenize

from pipeline.config.expressions.functions import name_hint
from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.column_types import empty_table, register_tokens
from pipeline.graph.graph import Key
from pipeline.graph.late_pandas import numbers_of
from pipeline.graph.nodes import GraphNode, listed, part, ref, task
from pipeline.ops import data_movement
from pipeline.ops.collections import Frame
from pipeline.worker.sql_engine import numbered, query

__all__ = [
    "Bound",
    "Partitions",
    "Places",
    "UnknownColumn",
    "equality_sql",
    "exchange",
    "key_as",
    "names_of",
    "places_by_hash",
    "reduce_tree",
    "require",
    "scatter",
    "stack",
    "taken",
]

Bound = Mapping[str, Sequence[Any]] | None
"""The run-time values of a step's expressions, by the path of the expression."""

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
    inputs : the frames
    """

    token: str
    tasks: dict[Key, GraphNode] = field(default_factory=dict)
    keys: list[list[Key]] = field(default_factory=list)
    lengths: list[tuple[int, ...] | None] = field(default_factory=list)
    inputs: tuple[Frame, ...] = ()

    @classmethod
    def of(cls, *frames: Frame, parameters: Any = ()) -> Partitions:
        """Read the keys of frames."""
        register_tokens()
        new = cls(tokenize(frames, parameters), inputs=frames)
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

    def bind(self, bound: Bound, path: str) -> Any:
        """The argument that carries the run-time values of the expression at ``path`` into a task."""
        values = (bound or {}).get(path, ())
        for value in values:
            self.tasks.update(value.tasks)
        return listed(ref(value.key) for value in values) if values else ()

    def bind_all(self, bound: Bound, paths: Sequence[str]) -> Any:
        """Those of several expressions: a list an expression, in order."""
        return listed([self.bind(bound, path) for path in paths])

    def frame(
        self,
        keys: Sequence[Key],
        schema: pa.Schema,
        *,
        lengths: tuple[int, ...] | None = None,
        some_rows: bool = False,
        at_most: float = math.nan,
    ) -> Frame:
        """The frame whose partitions are ``keys``.

        Parameters
        ----------
        lengths : how many rows each has, where that is known
        some_rows : whether its rows are all or some of the first input's, each at most once
        at_most : bytes that it does not exceed, where the op knows it
        """
        at_most = self._at_most(schema) if some_rows else at_most
        return Frame(self.tasks, tuple(keys), schema, lengths=lengths, at_most=at_most)

    def _at_most(self, schema: pa.Schema) -> float:
        """The bytes that rows of the first input do not exceed with these columns."""
        first, lengths = self.inputs[0], self.lengths[0]
        known = {field.name: field.type for field in first.schema}
        total = first.bound
        for column in schema:
            if known.get(column.name) != column.type:
                fixed = pa.types.is_primitive(column.type) and lengths is not None
                total += column.type.bit_width / 8 * sum(lengths or ()) if fixed else math.nan
        return total

    def map(
        self,
        name: str,
        function: Callable[..., Any],
        schema: pa.Schema,
        *arguments: Any,
        same_rows: bool = False,
        some_rows: bool = False,
    ) -> Frame:
        """One task a partition of the one input: ``function(partition, *arguments)``.

        Parameters
        ----------
        same_rows : whether a partition has as many rows after it as before
        some_rows : whether it has some of them
        """
        (keys,) = self.keys
        made = [self.add(name, (i,), function, ref(key), *arguments) for i, key in enumerate(keys)]
        lengths = self.lengths[0] if same_rows else None
        return self.frame(made, schema, lengths=lengths, some_rows=same_rows or some_rows)


def require(
    place: str,
    names: Iterable[str],
    columns: Iterable[str],
    *,
    at: Callable[[str], int] | None = None,
    of: str = "",
    ordered: bool = False,
) -> None:
    """Check that every one of ``names`` is a column.

    Parameters
    ----------
    ordered : whether a direction can be given beside them, as ``ascending``

    Raises
    ------
    OpError : naming the first that is not, and the column nearest to it
    """
    known = list(columns)
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"; its columns: {', '.join(known) or 'none'}."
            hint = (name_hint(name) + "." if at and name_hint(name) else "") or hint
            hint = (_written_apart(place, name, known) if ordered else "") or hint
            start = f"column {at(name)}: " if at else ""
            end = " A param or a step is written ${…} here" if at else ""
            problem, hint = f"{start}'{name}' is no column", f"{hint}{end}"
            raise OpError(place, f"{problem} of {of}{hint}") if of else UnknownColumn(place, problem, hint)


def _written_apart(place: str, name: str, known: Sequence[str]) -> str:
    """What to write for ``date desc``, which SQL takes as the name of a column in an order."""
    words = name.split()
    if len(words) == 2 and words[0] in known and words[1].lower() in ("asc", "desc"):
        return f"; write {place}: {words[0]} and ascending: {'true' if words[1].lower() == 'asc' else 'false'}"
    return ""


def names_of(
    place: str, given: str | Sequence[str], columns: Iterable[str], *, of: str = "", ordered: bool = False
) -> list[str]:
    """One name or several as a list of columns that are there, each once."""
    names = list(dict.fromkeys([given] if isinstance(given, str) else given))
    require(place, names, columns, of=of, ordered=ordered)
    return names


# ---------------------------------------------------------------------------------------------------------------------
# Inside tasks
# ---------------------------------------------------------------------------------------------------------------------


def stack(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of tables of one schema."""
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def taken(table: pa.Table, rows: Any) -> pa.Table:
    """The rows with these numbers, in this order, each column in one chunk; missing numbers give missing ones.

    Column by column: Arrow takes rows out of one chunk much faster than out of many, and only one column is put
    together at a time.
    """
    places = pa.array(rows, pa.int64())
    columns = []
    for column in table.columns:
        whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        columns.append(whole.take(places))
    return pa.Table.from_arrays(columns, schema=table.schema)


def equality_sql(name: str, kind: pa.DataType) -> str:
    """SQL that is equal, and has one hash, for values of a column that are equal: -0.0 equals 0.0."""
    return f"({name} + 0::{'double' if kind == pa.float64() else 'float'})" if pa.types.is_floating(kind) else name


def key_as(table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    """A key column in the type that both sides of a join compare it in.

    Raises
    ------
    DataError : a time that the finer unit of the other side can't hold
    """
    column = table.column(name)
    try:
        return column if column.type == kind else column.cast(kind)
    except pa.ArrowInvalid as error:
        raise DataError(f"key '{name}': {error}") from error


Places = np.ndarray[Any, np.dtype[np.int64]]


def places_by_hash(table: pa.Table, names: Sequence[str], n: int, types: Sequence[pa.DataType] | None = None) -> Places:
    """For each row which of ``n`` parts it belongs to, by the values of some columns; missing is a value like others.

    The same in every process: the number is DuckDB's hash, whose version is that of all workers.

    Parameters
    ----------
    types : in which the columns are hashed; default: their own

    Raises
    ------
    DataError : as of :func:`key_as`
    """
    if not names:
        return np.zeros(table.num_rows, dtype=np.int64)
    if types is None:
        keys = [table.column(name) for name in names]
    else:
        keys = [key_as(table, name, kind) for name, kind in zip(names, types, strict=True)]
    hashed = numbered(pa.table(keys, names=[str(i) for i in range(len(keys))]))
    columns = ", ".join(equality_sql(name, hashed.schema.field(name).type) for name in hashed.schema.names)
    found = query(f"select (hash({columns}) % {n})::bigint as place from t", {"t": hashed})
    return np.asarray(numbers_of(found.column(0)), dtype=np.int64)


def scatter(
    table: pa.Table, places: Callable[..., Any], aids: Sequence[Any], first: int, width: int, count: int
) -> list[pa.Table]:
    """The rows by destination: ``count`` tables, each for ``width`` destinations from ``first`` on; rows keep order."""
    buckets = (places(table, *aids) - first) // width
    counts = np.bincount(buckets, minlength=count)
    if counts.max() == table.num_rows:  # as where a join moves no rows of this side
        return [table if n else empty_table(table.schema) for n in counts]
    # numpy sorts small whole numbers by their digits, five times as fast
    order = np.argsort(buckets.astype(np.uint16) if count <= 2**16 else buckets, kind="stable")
    cuts = np.concatenate([[0], np.cumsum(counts)])
    # each piece a copy: a slice would be sent with all that it was cut from
    return [taken(table, order[start:stop]) for start, stop in itertools.pairwise(cuts)]


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
    gather: Callable[[Sequence[pa.Table]], pa.Table] = stack,
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
            ends[j].append(partitions.add(f"{layer}-piece", (i, j), part, ref(pieces), j))
    return ends
