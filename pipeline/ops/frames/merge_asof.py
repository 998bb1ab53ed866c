"""merge_asof: each row of the left with the row of the right that is nearest in one column.

Rows of the right that are equal in ``by`` and ``on`` are made one first, so that what is found does not depend on the
order of rows. Each task is one SQL statement, which gives pairs of row numbers; Arrow takes the rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
import pyarrow as pa

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import parse_duration
from pipeline.errors import OpError
from pipeline.graph.column_types import family, field_of, type_name
from pipeline.graph.late_pandas import numbers_of
from pipeline.ops.collections import Frame
from pipeline.ops.frames.join_tasks import Renamed
from pipeline.ops.frames.merge import named_apart
from pipeline.ops.frames.pairing import Side, compared_type, keys_of, paired, rows_of_side
from pipeline.ops.frames.partitions import Partitions, equality_sql, names_of, taken
from pipeline.ops.frames.sort import distinct_rows, total_order
from pipeline.worker.sql_engine import numbered, query

__all__ = ["merge_asof"]

Direction = Literal["backward", "forward", "nearest"]
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a second


@dataclass(frozen=True)
class Near:
    """What every task of one join knows.

    Parameters
    ----------
    by : keys that are equal; ``types``: what they are compared in
    on : the near column of the left and of the right; ``kind``: what they are compared in
    farthest : the largest distance, in ticks of ``kind`` where it is a time or a duration; None: any
    """

    left: pa.Schema
    right: pa.Schema
    by: tuple[str, ...]
    types: tuple[pa.DataType, ...]
    on: tuple[str, str]
    kind: pa.DataType
    direction: Direction
    farthest: str | None
    left_names: Renamed
    right_names: Renamed
    schema: pa.Schema


def merge_asof(
    left: Frame,
    right: Frame,
    *,
    on: str | None = None,
    left_on: str | None = None,
    right_on: str | None = None,
    by: str | Sequence[str] | None = None,
    direction: Direction = "backward",
    tolerance: str | float | None = None,
    suffixes: Sequence[str] | None = None,
) -> Frame:
    """All rows of the left, each with the nearest row of the right, or with missing values.

    Rows without a value in ``on`` or a key match nothing. The rows of a task are in the order of the left's. The
    columns are named as :func:`pipeline.ops.frames.merge.merge` names them; those of the right allow missing values.

    Parameters
    ----------
    on : the near column, if both sides call it the same; else ``left_on`` and ``right_on``
    by : keys that must be equal, with the same names on both sides
    direction : ``backward``: the last row at or before the left's; ``forward``: the first at or after it; ``nearest``:
        the nearer of these two, of two as near the one before
    tolerance : the largest distance: a duration, or a number
    suffixes : for columns of both that are no keys

    Raises
    ------
    OpError : an unknown column, types that have no distances or never compare equal, a tolerance of another kind
    """
    if (on is None) == (left_on is None or right_on is None) or (on is not None and (left_on or right_on)):
        raise OpError("on", "give `on`, or `left_on` and `right_on`")
    near = on or str(left_on), on or str(right_on)
    keys = [] if by is None else names_of("by", by, left.columns)
    names_of("by", keys, right.columns, of="the right side")
    names_of("on" if on else "left_on", near[0], left.columns)
    names_of("on" if on else "right_on", near[1], right.columns, of="the right side")
    if near[0] in keys or near[1] in keys:
        raise OpError("on", f"'{near[0]}' is a column of by, too: rows that are equal in it are never apart")
    place = "on" if on else "right_on"
    kind = compared_type(field_of(left.schema, near[0]), field_of(right.schema, near[1]), place)
    if family(kind) not in ("number", "time", "zoned time", "date", "duration"):
        raise OpError(place, f"'{near[0]}' is {type_name(kind)}, which has no distances; use numbers or times")
    types = [compared_type(field_of(left.schema, key), field_of(right.schema, key), "by") for key in keys]
    left_names, right_names = named_apart([left.columns, right.columns], [[*keys, near[0]], [*keys, near[1]]], suffixes)
    fields = [field_of(left.schema, name).with_name(new) for name, new in left_names]
    fields += [field_of(right.schema, name).with_name(new).with_nullable(True) for name, new in right_names]
    join = Near(
        left.schema,
        right.schema,
        tuple(keys),
        tuple(types),
        near,
        kind,
        direction,
        None if tolerance is None else _farthest(tolerance, kind),
        left_names,
        right_names,
        pa.schema(fields),
    )
    parameters = ("merge_asof", keys, near, direction, tolerance, left_names, right_names)
    partitions = Partitions.of(left, right, parameters=parameters)
    sides = Side(join.by, left.bound, False), Side(join.by, right.bound, True)
    joined = [
        partitions.add("join", (i,), join_nearest, one, other, join)
        for i, (one, other) in enumerate(paired(partitions, sides, join.types))
    ]
    return partitions.frame(joined, join.schema)


def _farthest(tolerance: str | float, kind: pa.DataType) -> str:
    """The tolerance as SQL, in the unit of the distances."""
    if family(kind) == "number":
        if isinstance(tolerance, str) or not 0 <= tolerance < math.inf:
            raise OpError("tolerance", f"got {tolerance!r}; between numbers it is a number, at least 0")
        return f"'{tolerance!r}'::{'double' if pa.types.is_floating(kind) else 'decimal(38, 9)'}"
    if not isinstance(tolerance, str):
        raise OpError("tolerance", f"got {tolerance!r}; between times it is a duration: 10min")
    try:
        length: timedelta = parse_duration(tolerance)
    except ExpressionError as error:
        raise OpError("tolerance", str(error)) from error
    if length < timedelta(0):
        raise OpError("tolerance", f"got {tolerance!r}; it is at least 0")
    microseconds = length // timedelta(microseconds=1)
    if pa.types.is_date(kind):
        return f"{microseconds // (86_400 * 10**6)}::hugeint"
    return f"{microseconds * _TICKS[kind.unit] // 10**6}::hugeint"  # a part of a tick makes no difference


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def join_nearest(lefts: Sequence[pa.Table], rights: Sequence[pa.Table], join: Near) -> pa.Table:
    """The rows of some left tables, each with the nearest one of some right tables."""
    left, right = rows_of_side(lefts, join.left), rows_of_side(rights, join.right)
    names = [*join.by, join.on[1]]
    right = distinct_rows([right], names, total_order(names, [True] * len(names), right.column_names))
    sources = {"l": _source(left, join, 0), "r": _source(right, join, 1)}
    found = query(_statement(join), sources)
    at_left, at_right = (found.column(i).combine_chunks() for i in (0, 1))
    order = np.argsort(numbers_of(at_left))
    columns = left.select([name for name, _ in join.left_names]).columns
    others = taken(right.select([name for name, _ in join.right_names]), at_right.take(pa.array(order)))
    return pa.Table.from_arrays([*columns, *others.columns], schema=join.schema)


def _source(table: pa.Table, join: Near, side: int) -> pa.Table:
    """Keys, the near column as a number, and row numbers."""
    source = keys_of(table, join.by, join.types) if join.by else pa.table({})
    near = keys_of(table, [join.on[side]], [join.kind]).column(0)
    if not pa.types.is_floating(near.type) and not pa.types.is_decimal(near.type) and near.type != pa.uint64():
        near = near.cast(pa.int32()).cast(pa.int64()) if pa.types.is_date(near.type) else near.cast(pa.int64())
    columns = dict(zip(source.column_names, source.columns, strict=True))
    return numbered(pa.table(columns | {"v": near, "r": np.arange(table.num_rows)})).rename_columns(
        [*columns, "v", "r"]
    )


def _statement(join: Near) -> str:
    wide = "" if pa.types.is_floating(join.kind) or pa.types.is_decimal(join.kind) else "::hugeint"
    keys = [" = ".join(equality_sql(f"{s}.k{i}", kind) for s in "lr") for i, kind in enumerate(join.types)]
    found = []
    for test in ("<=", ">="):  # right to left
        matched = " and ".join([*keys, f"r.v {test} l.v"])
        away = f"abs(l.v{wide} - r.v{wide})"
        if pa.types.is_floating(join.kind):  # inf - inf is no number
            away = f"case when l.v = r.v then 0 else {away} end"
        found.append(f"select l.r as a, r.r as b, {away} as d from l asof left join r on {matched}")
    if join.direction == "nearest":
        nearer = "f.b is not null and (p.b is null or f.d < p.d)"
        found.append(
            f"select p.a, case when {nearer} then f.b else p.b end as b, case when {nearer} then f.d else p.d end as d "
            f"from ({found[0]}) p join ({found[1]}) f on p.a = f.a"
        )
    chosen = found[{"backward": 0, "forward": 1, "nearest": -1}[join.direction]]
    return f"select a, {'b' if join.farthest is None else f'case when d <= {join.farthest} then b end'} from ({chosen})"
