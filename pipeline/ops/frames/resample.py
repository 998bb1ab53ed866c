"""resample of frames: groupby over regular periods of a time column, the periods without rows included.

Where periods begin can depend on the first time of all (``7h``, ``2MS``): then that one is found first. The rest is
groupby's, with the number of the period as the last key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.tree import Name
from pipeline.errors import OpError
from pipeline.graph.column_types import family, type_name
from pipeline.graph.late_pandas import numbers_of
from pipeline.graph.nodes import listed, ref
from pipeline.ops.collections import Frame
from pipeline.ops.frames.aggregates import make_plan
from pipeline.ops.frames.aggregation_plan import Value
from pipeline.ops.frames.columns import bound_names
from pipeline.ops.frames.groupby import column_keys, planned
from pipeline.ops.frames.partitions import Bound, Partitions, names_of, reduce_tree
from pipeline.ops.frames.periods import Rule, period_numbers, rule_of, starts_of

__all__ = ["resample"]

_PERIOD = "\0period"  # no column of a user's


def resample(
    input: Frame,  # noqa: A002
    *,
    on: str,
    rule: str,
    agg: Mapping[str, Expression],
    by: str | Sequence[str] | None = None,
    bound: Bound = None,
) -> Frame:
    """A row a period (and group): the columns of ``by``, the start of the period in ``on``, the aggregates; in order.

    There is a row for each period from the first to the last one of a group; of no rows the sum and count are 0, other
    aggregates are missing. Rows without a time belong to no period. One partition.

    Parameters
    ----------
    input : frame
    on : the column of times or days
    rule : the period: D, 6h, MS, 10YS, or by name: month, 2 weeks, 15 minutes
    agg : aggregate expressions, as in groupby
    by : columns of groups; all have the same periods
    bound : run-time values of the expressions, under ``agg.NAME``

    Raises
    ------
    OpError : an unknown column, one that holds no times, no such period
    """
    (time,) = names_of("on", on, input.columns)
    groups = names_of("by", by, input.columns) if by else []
    if time in groups:
        raise OpError("on", f"'{time}' is a column of by, too")
    kind = input.schema.field(input.columns.index(time)).type
    if family(kind) not in ("time", "zoned time", "date"):
        raise OpError("on", f"'{time}' is {type_name(kind)}; periods need times")
    period = rule_of(rule, kind)
    for name in agg:
        if name == time:
            raise OpError(f"agg.{name}", f"'{name}' holds the periods; choose another name")
    number = Value("on", Expression(time, "columns", Name(_PERIOD)), pa.int64())
    keys = [*column_keys("by", groups, input), (pa.field(_PERIOD, pa.int64(), False), number)]
    plan = make_plan(keys, agg, input.schema, gaps=True)
    partitions = Partitions.of(
        input, parameters=("resample", groups, list(agg.items()), time, rule, bound_names(bound))
    )
    (own,) = partitions.keys
    first = None
    if period.counted:
        ends = [partitions.add("first", (i,), first_of, ref(key), time) for i, key in enumerate(own)]
        left = reduce_tree(partitions, "first", ends, join_firsts)
        first = ref(partitions.add("first-of-all", (0,), join_firsts, listed(map(ref, left))))
    place = len(groups)
    schema = plan.schema.set(place, pa.field(time, kind, False))
    return planned(
        partitions,
        own,
        plan,
        bound,
        before=(with_numbers, time, period, first),
        after=(with_starts, place, period, first, schema),
        schema=schema,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def first_of(table: pa.Table, on: str) -> int | None:
    """The first time of one partition, as it is stored."""
    times = table.column(on)
    found = pc.min(times.cast(pa.int32() if pa.types.is_date(times.type) else pa.int64())).as_py()
    return None if found is None else int(found)


def join_firsts(several: Sequence[int | None]) -> int | None:
    """The first of several times."""
    return min((first for first in several if first is not None), default=None)


def with_numbers(table: pa.Table, on: str, rule: Rule, first: int | None) -> pa.Table:
    """The rows of a partition that have a time, with the numbers of their periods."""
    timed = table.filter(table.column(on).is_valid()) if table.column(on).null_count else table
    return timed.append_column(_PERIOD, pa.array(period_numbers(timed.column(on), rule, first), pa.int64()))


def with_starts(table: pa.Table, place: int, rule: Rule, first: int | None, schema: pa.Schema) -> pa.Table:
    """The result with the starts of the periods in the place of their numbers."""
    numbers = np.asarray(numbers_of(table.column(place)), dtype=np.int64)
    starts = starts_of(numbers, rule, first, schema.field(place).type)
    columns = [*table.columns[:place], pa.chunked_array([starts]), *table.columns[place + 1 :]]
    return pa.Table.from_arrays(columns, schema=schema)
