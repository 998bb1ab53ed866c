"""What the tasks of merge do: pairs of row numbers, then the rows.

A task is one SQL statement, or, by whole numbers that lie close together, a table with a place for each number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.expressions.expression import Expression
from pipeline.graph.late_pandas import numbers_of
from pipeline.ops.frames.columns import sql_of
from pipeline.ops.frames.pairing import keys_of, rows_of_side
from pipeline.ops.frames.partitions import Places, equality_sql, key_as, taken
from pipeline.worker.sql_engine import numbered, query
from pipeline.worker.statement_chains import Relation, as_relation, as_statement

__all__ = ["Join", "Renamed", "join_rows"]

Renamed = tuple[tuple[str, str], ...]
"""Columns with their names in the result."""

_SQL = {"inner": "join", "left": "left join", "right": "right join", "outer": "full join", "cross": "cross join"}
_PLACES = {"semi": 32, "anti": 32, "inner": 8, "left": 8}  # for each row, at most: a byte, or four


@dataclass(frozen=True)
class Join:
    """What every task of one join knows: keys pair by pair, the types they are compared in, the result's columns.

    Parameters
    ----------
    left, right : the schemas of the sides
    left_names, right_names : what is taken of each; shared keys are the left's
    shared : left key -> right key, where they are one column of the result
    schema : of the result
    both : the columns of the result of an inner join, which ``where`` is about
    """

    how: str
    left: pa.Schema
    right: pa.Schema
    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    types: tuple[pa.DataType, ...]
    left_names: Renamed
    right_names: Renamed
    shared: tuple[tuple[str, str], ...]
    schema: pa.Schema
    both: pa.Schema
    where: Expression | None


def join_rows(
    lefts: Sequence[pa.Table], rights: Sequence[pa.Table], join: Join, slots: Sequence[Any], checked: Any
) -> pa.Table:
    """The rows of some left tables joined with those of some right tables; ``checked`` came before."""
    left, right = rows_of_side(lefts, join.left), rows_of_side(rights, join.right)
    at_left, at_right = _pairs(left, right, join, slots)
    if at_right is None:
        own = left.select([name for name, _ in join.left_names])
        kept = own if len(at_left) == left.num_rows else taken(own, at_left)  # each row at most once
        return pa.Table.from_arrays(kept.columns, schema=join.schema)
    shared = dict(join.shared)
    columns = []
    for (name, _), field in zip(join.left_names, join.schema, strict=False):
        key = shared.get(name) if join.how in ("right", "outer") else None
        columns.append(
            _rows(left, name, at_left)
            if key is None
            else _rows(right, key, at_right)
            if join.how == "right"
            else _either(_rows(left, name, at_left), _rows(right, key, at_right), field.type)
        )
    columns += [_rows(right, name, at_right) for name, _ in join.right_names]
    return pa.Table.from_arrays(columns, schema=join.schema)


@as_statement(join_rows)
def _joined_rows(
    lefts: Sequence[Relation | pa.Table], rights: Sequence[Relation | pa.Table], join: Join, slots: Any, checked: Any
) -> Relation | None:
    plain = join.how in ("inner", "left", "semi", "anti") and join.where is None and bool(join.types)
    sides = [_side(lefts, join.left), _side(rights, join.right)]
    n_tables = sum(len(side.tables) for side in sides if isinstance(side, Relation))
    left, right = (None if side is None else as_relation(side, f"t{n_tables + i}") for i, side in enumerate(sides))
    if not plain or left is None or right is None or left.made or right.made:
        return None
    tests = []
    for a, b, kind in zip(join.left_on, join.right_on, join.types, strict=True):
        places = left.schema.get_field_index(a), right.schema.get_field_index(b)
        if left.schema.field(places[0]).type != kind or right.schema.field(places[1]).type != kind:
            return None
        tests.append(" = ".join(equality_sql(f"{s}.c{i}", kind) for s, i in zip("lr", places, strict=True)))
    picked = [f"l.c{left.schema.get_field_index(name)}" for name, _ in join.left_names]
    if join.how not in ("semi", "anti"):
        picked += [f"r.c{right.schema.get_field_index(name)}" for name, _ in join.right_names]
    columns = ", ".join(f"{column} as c{i}" for i, column in enumerate(picked))
    word = {"inner": "join", "left": "left join"}.get(join.how, f"{join.how} join")
    ends = [f"({left.sql}) as l", f"({right.sql}) as r"]  # of the latter a hash table is made
    if join.how == "inner" and right.rows > left.rows:
        ends.reverse()
    return Relation(
        f"select {columns} from {ends[0]} {word} {ends[1]} on {' and '.join(tests)}",
        join.schema,
        max(left.rows, right.rows) if join.how in ("inner", "left") else left.rows,
        {**left.tables, **right.tables},
        {**left.parameters, **right.parameters},
    )


def _side(tables: Sequence[Relation | pa.Table], schema: pa.Schema) -> Relation | pa.Table | None:
    """A side of a join: the one Relation, or the rows of its tables."""
    if any(isinstance(table, Relation) for table in tables):
        return tables[0] if len(tables) == 1 else None
    return rows_of_side(tables, schema)


def _pairs(left: pa.Table, right: pa.Table, join: Join, slots: Sequence[Any]) -> tuple[pa.Array, pa.Array | None]:
    """The numbers of the rows that belong together; missing where there is none."""
    numbers = _whole_numbers(left, right, join)
    if numbers is not None and join.how in ("semi", "anti"):
        is_there = np.isin(*numbers, kind="table")
        return pa.array(np.flatnonzero(is_there if join.how == "semi" else ~is_there)), None
    if numbers is not None and _ascends(numbers[1]):
        places = _places(*numbers)
        rows = np.flatnonzero(places >= 0) if join.how == "inner" else np.arange(len(places))
        return pa.array(rows), pa.array(places[rows], mask=places[rows] < 0)
    tests = [" = ".join(equality_sql(f"{side}.k{i}", kind) for side in ("l", "r")) for i, kind in enumerate(join.types)]
    names: frozenset[str] = frozenset()
    if join.where is not None:
        names = join.where.names
        tests.append(sql_of(join.where, join.both, slots).sql)
    sources = {
        "l": _source(left, join.left_on, join, [name if new in names else None for name, new in join.left_names], 0),
        "r": _source(right, join.right_on, join, [name if new in names else None for name, new in join.right_names],
                     len(join.left_names)),
    }  # fmt: skip
    matched = f" on {' and '.join(tests)}" if tests else ""
    if join.how in ("semi", "anti"):
        found = query(f"select l.r as a from l {join.how} join r{matched}", sources)
        return pa.array(np.sort(numbers_of(found.column(0)))), None
    word = "join" if join.how == "cross" and tests else _SQL[join.how]
    ends = ["l", "r"]  # of the latter a hash table is made
    if join.how == "inner" and right.num_rows > left.num_rows:
        ends.reverse()
    found = query(f"select l.r as a, r.r as b from {ends[0]} {word} {ends[1]}{matched}", sources)
    one, other = (found.column(i).combine_chunks() for i in (0, 1))
    # where a row is missing the other one decides: those of the right alone come last
    at = numbers_of(pc.fill_null(one, left.num_rows)), numbers_of(pc.fill_null(other, -1))
    steps = np.diff(at[0])
    if (steps < 0).any() or (np.diff(at[1])[steps == 0] < 0).any():
        order = pa.array(np.lexsort((at[1], at[0])))
        one, other = one.take(order), other.take(order)
    return one, other


def _whole_numbers(left: pa.Table, right: pa.Table, join: Join) -> tuple[Places, Places] | None:
    """The keys of both sides where they are whole numbers that lie close together, and none is missing.

    A table with a place for each number is quicker then than a statement: 19 and 64 ms for 750,000 rows that are looked
    up in 730,000.
    """
    if len(join.types) != 1 or join.where is not None or not right.num_rows or not left.num_rows:
        return None
    if join.how not in _PLACES:
        return None
    if not pa.types.is_integer(join.types[0]) or join.types[0] == pa.uint64():
        return None
    probed, keys = (key_as(t, on[0], join.types[0]) for t, on in ((left, join.left_on), (right, join.right_on)))
    if probed.null_count or keys.null_count:
        return None
    numbers = numbers_of(keys)
    if int(numbers.max()) - int(numbers.min()) > _PLACES[join.how] * (left.num_rows + right.num_rows):
        return None
    return numbers_of(probed).astype(np.int64, copy=False), numbers.astype(np.int64, copy=False)


def _ascends(keys: Places) -> bool:
    """Whether each key is larger than the one before, as of a table of things that are numbered."""
    return bool((keys[1:] > keys[:-1]).all()) and len(keys) < 2**31


def _places(probed: Places, keys: Places) -> Places:
    """Where each number stands among keys that ascend; -1 where it does not."""
    least, most = int(keys[0]), int(keys[-1])
    table = np.full(most - least + 1, -1, np.int32)
    table[keys - least] = np.arange(len(keys), dtype=np.int32)
    inside = (probed >= least) & (probed <= most)
    found: Places = np.where(inside, table[np.where(inside, probed, least) - least], -1).astype(np.int64)
    return found


def _source(table: pa.Table, on: Sequence[str], join: Join, names: Sequence[str | None], first: int) -> pa.Table:
    """What a statement needs of one side: keys, row numbers, and the columns of the condition."""
    source = keys_of(table, on, join.types) if on else pa.table({})
    columns = dict(zip(source.column_names, source.columns, strict=True))
    for i, name in enumerate(names, start=first):
        if name is not None:
            columns[f"c{i}"] = numbered(table.select([name])).column(0)
    return pa.table(columns | {"r": np.arange(table.num_rows)})


def _rows(table: pa.Table, name: str, rows: pa.Array) -> pa.ChunkedArray:
    return taken(table.select([name]), rows).column(0)


def _either(one: pa.ChunkedArray, other: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pc.coalesce(one.cast(plain), other.cast(plain)).cast(kind)
