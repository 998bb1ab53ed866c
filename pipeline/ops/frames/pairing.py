"""Which rows of two frames meet in one task: all of a small side, or what has the same keys.

A side of one partition, or a small one, goes whole to every partition of the other, where the op allows it; else both
sides are dealt out by the hash of their keys. What is small is one constant. Where the metadata of files show the
bytes, that is decided while building; else tasks of the same static graph measure the partitions, and a task that deals
rows out leaves them where they are if the other side turns out to be small. Nothing depends on the machine, so that
the plan, and with it the order of rows, is the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import common_type, empty_table, family, is_text, type_name
from pipeline.graph.graph import Key
from pipeline.graph.late_pandas import numbers_of
from pipeline.graph.nodes import listed, ref
from pipeline.ops.frames.partitions import Partitions, Places, exchange, key_as, places_by_hash, stack
from pipeline.worker.sql_engine import numbered, query

__all__ = ["SMALL", "Side", "compared_type", "keys_of", "paired", "required_once", "rows_of_side"]

SMALL = 64 * 2**20
"""Bytes up to which a side goes whole to every partition of the other."""

_PLACE = "\0place"  # where a row goes; no column of a user's


@dataclass(frozen=True)
class Side:
    """One of the two frames.

    Parameters
    ----------
    on : its key columns; both sides have as many
    nbytes : at most so many bytes; nan if unknown
    may_go_whole : whether all of its rows may be in several tasks
    """

    on: tuple[str, ...]
    nbytes: float
    may_go_whole: bool


def compared_type(left: pa.Field, right: pa.Field, place: str) -> pa.DataType:
    """The type in which two keys are compared: every value of both fits it exactly.

    Raises
    ------
    OpError : there is none, as for whole numbers and floats
    """
    one, other = left.type, right.type
    kinds = [family(kind) for kind in (one, other)]
    if "list" in kinds or "struct" in kinds:
        column = left if kinds[0] in ("list", "struct") else right
        raise OpError(place, f"column '{column.name}' holds {type_name(column.type)}; keys are single values")
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        return common_type([one, other]) or pa.decimal128(20, 0)
    floats = pa.types.is_floating(one), pa.types.is_floating(other)
    found = None
    if kinds[0] == kinds[1] == "zoned time":
        found = common_type([pa.timestamp(one.unit, "UTC"), pa.timestamp(other.unit, "UTC")])
    elif kinds[0] == kinds[1] and floats[0] == floats[1]:
        found = common_type([one, other])
    if found is None:
        raise OpError(
            place,
            f"the keys '{left.name}' of the left ({type_name(one)}) and '{right.name}' of the right "
            f"({type_name(other)}) never compare equal; make them one type: `cast` in the reader, or integer(x), "
            "number(x), text(x) in an assign before",
        )
    return found.value_type if pa.types.is_dictionary(found) else found


def paired(partitions: Partitions, sides: tuple[Side, Side], types: Sequence[pa.DataType]) -> list[tuple[Any, Any]]:
    """For each task of a join what holds the left's rows, and what the right's: arguments that are lists of tables.

    Parameters
    ----------
    partitions : of two frames
    types : what the keys are compared in; none: every row meets all rows of the right, which must be allowed to go
        whole
    """
    keys = partitions.keys
    alone = [len(some) == 1 for some in keys]
    for whole in (1, 0):
        other = 1 - whole
        if alone[whole] and (sides[whole].may_go_whole or alone[other]):
            return _beside(keys[other], keys[whole][0], whole)
    small = [i for i in (1, 0) if sides[i].may_go_whole and sides[i].nbytes <= SMALL]
    if small or not types:
        whole = min(small, key=lambda i: sides[i].nbytes) if small else 1
        gathered = partitions.add("whole", (0,), in_one_chunk, listed(ref(key) for key in keys[whole]))
        return _beside(keys[1 - whole], gathered, whole)
    n = max(map(len, keys))
    measured = [side.may_go_whole and not side.nbytes > SMALL for side in sides]
    if any(measured):
        return _measured(partitions, sides, types, measured, n)
    ends = [
        exchange(partitions, name, some, n, partial(places_by_hash, names=side.on, n=n, types=types))
        for name, some, side in zip(("left", "right"), keys, sides, strict=True)
    ]
    return [(listed(map(ref, one)), listed(map(ref, other))) for one, other in zip(*ends, strict=True)]


def _beside(keys: Sequence[Key], whole: Key, place: int) -> list[tuple[Any, Any]]:
    pairs = [(listed([ref(key)]), listed([ref(whole)])) for key in keys]
    return pairs if place else [(all_of, one) for one, all_of in pairs]


def _measured(
    partitions: Partitions, sides: Sequence[Side], types: Sequence[pa.DataType], measured: Sequence[bool], n: int
) -> list[tuple[Any, Any]]:
    """Tasks for every plan: what the run does not choose moves no rows."""
    sizes = [
        listed(ref(partitions.add("measure", (s, i), n_bytes, ref(key))) for i, key in enumerate(keys))
        if measured[s]
        else None
        for s, keys in enumerate(partitions.keys)
    ]
    chosen = partitions.add("plan", (0,), small_side, sizes[0], sizes[1])
    ends: list[list[Any]] = []
    for s, (name, keys, side) in enumerate(zip(("left", "right"), partitions.keys, sides, strict=True)):
        placed = [
            partitions.add(f"place-{name}", (i,), with_places, ref(key), ref(chosen), s, i, side.on, types, n)
            for i, key in enumerate(keys)
        ]
        pieces: list[list[Key]] = exchange(partitions, name, placed, n, places_of)
        if measured[s]:
            kept = [
                partitions.add(f"kept-{name}", (i,), kept_whole, ref(key), ref(chosen), s) for i, key in enumerate(keys)
            ]
            together = partitions.add(f"whole-{name}", (0,), in_one_chunk, listed(map(ref, kept)))
            pieces = [[*some, together] for some in pieces]
        ends.append([listed(map(ref, some)) for some in pieces])
    return list(zip(*ends, strict=True))


def required_once(
    partitions: Partitions, side: int, name: str, on: tuple[str, ...], types: Sequence[pa.DataType]
) -> Key:
    """The key of a task that fails if a key of one side repeats; only the keys move."""
    keys = [
        partitions.add(f"keys-{name}", (i,), keys_of, ref(key), on, types)
        for i, key in enumerate(partitions.keys[side])
    ]
    pieces = [[key] for key in keys]
    if len(keys) > 1:
        labels = tuple(f"k{i}" for i in range(len(on)))
        pieces = exchange(
            partitions, f"keys-{name}", keys, len(keys), partial(places_by_hash, names=labels, n=len(keys))
        )
    found = [
        partitions.add(f"repeated-{name}", (i,), first_repeated, listed(map(ref, some)))
        for i, some in enumerate(pieces)
    ]
    return partitions.add(f"validate-{name}", (0,), require_once, listed(map(ref, found)), name, on, types)


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def n_bytes(table: pa.Table) -> float:
    """Bytes of a partition, from its rows alone: the same however it got here."""
    total = 0.0
    for column in table.columns:
        t, kind = pa.types, column.type
        if t.is_dictionary(kind):
            total += 4.0 * len(column)
        elif t.is_string(kind) or t.is_binary(kind):
            total += 4.0 * len(column) + (pc.sum(pc.binary_length(column)).as_py() or 0)
        elif t.is_list(kind):
            total += 4.0 * len(column) + 16.0 * (pc.sum(pc.list_value_length(column)).as_py() or 0)
        else:
            total += len(column) * (16.0 * kind.num_fields if t.is_struct(kind) else kind.bit_width / 8)
    return total


def small_side(lefts: Sequence[float] | None, rights: Sequence[float] | None) -> int | None:
    """Which side goes whole, 0 or 1: the smaller one that may and is small; None: neither."""
    totals = [math.inf if sizes is None else sum(sizes) for sizes in (lefts, rights)]
    small = [i for i in (1, 0) if totals[i] <= SMALL]
    return min(small, key=totals.__getitem__) if small else None


def with_places(
    table: pa.Table, chosen: int | None, side: int, own: int, on: Sequence[str], types: Sequence[pa.DataType], n: int
) -> pa.Table:
    """A partition with the destination of each row: by its key, or its own; no row if the side goes whole."""
    if chosen is None:
        places = places_by_hash(table, on, n, types)
    elif chosen == side:
        table = table.slice(0, 0)
        places = np.zeros(0, dtype=np.int64)
    else:
        places = np.full(table.num_rows, own, dtype=np.int64)
    return table.append_column(_PLACE, pa.array(places.astype(np.int32)))


def places_of(table: pa.Table) -> Places:
    """The destination of each row."""
    return np.asarray(numbers_of(table.column(_PLACE)), dtype=np.int64)


def in_one_chunk(tables: Sequence[pa.Table]) -> pa.Table:
    """All rows of a side, put together once instead of in every task of the join."""
    return stack(tables).combine_chunks()


def kept_whole(table: pa.Table, chosen: int | None, side: int) -> pa.Table:
    """The partition, if its side goes whole; else nothing of it."""
    return table if chosen == side else empty_table(table.schema)


def rows_of_side(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """The rows that a task got of one side, without their destinations."""
    return stack([table if table.num_columns == len(schema) else table.select(schema.names) for table in tables])


def keys_of(table: pa.Table, on: Sequence[str], types: Sequence[pa.DataType]) -> pa.Table:
    """The keys as both sides compare them, ``k0``, ``k1``, … as SQL gets them.

    Raises
    ------
    DataError : a time that the finer unit of the other side can't hold
    """
    columns = [key_as(table, name, kind) for name, kind in zip(on, types, strict=True)]
    labels = [f"k{i}" for i in range(len(columns))]
    return numbered(pa.table(columns, names=labels)).rename_columns(labels)


def first_repeated(tables: Sequence[pa.Table]) -> pa.Table:
    """The smallest key without a missing value that repeats: one row, or none."""
    keys = stack(tables)
    names = ", ".join(keys.column_names)
    present = " and ".join(f"{name} is not null" for name in keys.column_names)
    found = query(
        f"select {names} from t where {present} group by {names} having count(*) > 1 order by {names} limit 1",
        {"t": pa.table([column.combine_chunks() for column in keys.columns], names=keys.column_names)},
    )
    return found.cast(keys.schema)


def require_once(found: Sequence[pa.Table], side: str, on: Sequence[str], types: Sequence[pa.DataType]) -> None:
    """Fail, naming the smallest key that repeats.

    Raises
    ------
    DataError : a key repeats
    """
    keys = stack(found)
    if keys.num_rows:
        names = ", ".join(keys.column_names)
        first = query(f"select {names} from t order by {names} limit 1", {"t": keys.combine_chunks()}).cast(keys.schema)
        texts = [
            f"{name}={_text(column.cast(kind))}" for name, column, kind in zip(on, first.columns, types, strict=True)
        ]
        raise DataError(f"validate: the key {', '.join(texts)} repeats on the {side}")


def _text(column: pa.ChunkedArray) -> str:
    try:
        return str(column.cast(pa.string())[0].as_py()) if not is_text(column.type) else str(column[0].as_py())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return str(column[0].as_py())
