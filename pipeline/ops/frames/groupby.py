"""``groupby value_counts``: partial aggregates a partition, combined in a tree of eight, finished in one last task.

A missing key is a group of its own; aggregates skip missing values; a sum of nothing is 0. Aggregates that need all
values of a group at once (`median`, `quantile`) bring the rows of a group together first: rows are sent by a hash of
their keys, and each destination makes the result of its groups. What the tasks do stands in ``aggregation_tasks.py``.

The result is one partition, in the order of its keys, missing ones last. `first` and `last` follow the order of the
rows, which means something after a sort only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.config.expressions.expression import Expression, parse
from pipeline.config.expressions.tree import Name
from pipeline.errors import OpError
from pipeline.graph.nodes import listed, ref
from pipeline.ops.collections import Frame
from pipeline.ops.frames.aggregates import Key, key_of, make_plan
from pipeline.ops.frames.aggregation_plan import WHOLE, Plan
from pipeline.ops.frames.aggregation_tasks import (
    aggregate,
    aggregate_rows,
    aggregate_statement,
    combine,
    finish,
    in_key_order,
    is_exact,
    project,
)
from pipeline.ops.frames.columns import bound_names
from pipeline.ops.frames.partitions import Bound, Partitions, exchange, names_of, places_by_hash, reduce_tree
from pipeline.worker.statement_chains import Relation, as_statement

__all__ = ["column_keys", "groupby", "planned", "value_counts"]

_COUNT = parse("count()", "agg")


def groupby(
    input: Frame,  # noqa: A002
    *,
    by: str | Sequence[str] | Mapping[str, Expression],
    agg: Mapping[str, Expression],
    bound: Bound = None,
) -> Frame:
    """One row a group: its keys, then a column for each name in ``agg``, in one partition.

    Whole numbers sum to int64 (unsigned ones to uint64), decimals to 38 digits of their scale; counts are int64; means,
    std, var, corr, covar, median and quantile float64 (those of times and durations keep the type where they have a
    meaning); min, max, first, last and mode keep the type, list gives lists of it.

    Parameters
    ----------
    input : frame
    by : the columns of the keys, or an expression for each of them; an empty list: all rows are one group, also where
        there are none
    agg : expressions of aggregates, ``share: "sum(price * (1 - discount)) / sum(price)"``
    bound : run-time values of the expressions, under ``agg.NAME`` and ``by.NAME``

    Raises
    ------
    OpError : an unknown column, a name that is a key's already, a value that the aggregate has no meaning for
    """
    if isinstance(by, Mapping):
        keys = [key_of(f"by.{name}", name, expression, input.schema) for name, expression in by.items()]
    else:
        keys = column_keys("by", by, input)
    plan = make_plan(keys, agg, input.schema)
    given = list(by.items()) if isinstance(by, Mapping) else by
    partitions = Partitions.of(input, parameters=("groupby", given, list(agg.items()), bound_names(bound)))
    return planned(partitions, partitions.keys[0], plan, bound)


def planned(
    partitions: Partitions,
    keys: Sequence[Any],
    plan: Plan,
    bound: Bound,
    *,
    before: Sequence[Any] = (),
    after: Sequence[Any] = (),
    schema: pa.Schema | None = None,
) -> Frame:
    """The frame that a plan makes of partitions.

    Parameters
    ----------
    before, after : a function, and its arguments after the table: what is done with each partition in the first tasks,
        and with the result in the last one
    schema : of the frame; default: the plan's
    """
    slots = partitions.bind_all(bound, [value.path for value in (*plan.keys, *plan.values)])
    outer = partitions.bind_all(bound, [column.path for column in plan.columns])
    whole = any(a.function in WHOLE for a in plan.aggregates)
    n, prepare, polish = len(keys), listed(before), listed(after)
    make: Callable[..., pa.Table] = finish
    first = project if whole and n > 1 else aggregate
    ends = [
        partitions.add("partial", (i,), prepared, ref(key), prepare, first, plan, slots) for i, key in enumerate(keys)
    ]
    together = plan.names[:-1] if plan.gaps else plan.names
    if first is aggregate:
        ends = reduce_tree(partitions, "partial", ends, combine, plan)
    elif together:
        pieces = exchange(partitions, "groups", ends, n, places_by_hash, aids=[together, n])
        ends = [
            partitions.add("group", (i,), aggregate_rows, listed(map(ref, some)), plan, outer)
            for i, some in enumerate(pieces)
        ]
        make = in_key_order
    else:
        make = aggregate_rows
    end = partitions.add("aggregate", (0,), polished, listed(map(ref, ends)), make, plan, outer, polish)
    return partitions.frame([end], schema or plan.schema, lengths=None if plan.keys else (1,))


def prepared(
    table: pa.Table, before: Sequence[Any], first: Callable[..., pa.Table], plan: Plan, slots: Sequence[Any]
) -> pa.Table:
    """What is known of one partition, as a task."""
    return first(before[0](table, *before[1:]) if before else table, plan, slots)


def _can_end_statement(_: Any, before: Any, first: Any, plan: Plan, __: Any) -> bool:
    return first is aggregate and is_exact(plan)


@as_statement(prepared, ends=_can_end_statement)
def _prepared_statement(
    table: Relation, before: Sequence[Any], first: Callable[..., pa.Table], plan: Plan, slots: Sequence[Sequence[Any]]
) -> Relation | None:
    return None if before else aggregate_statement(table, plan, slots)


def polished(
    several: Sequence[pa.Table], make: Callable[..., pa.Table], plan: Plan, slots: Sequence[Any], after: Sequence[Any]
) -> pa.Table:
    """The result, as a task."""
    found = make(several, plan, slots)
    return after[0](found, *after[1:]) if after else found


def column_keys(place: str, names: str | Sequence[str], frame: Frame) -> list[Key]:
    """Columns as keys.

    Raises
    ------
    OpError : an unknown column, or one of lists or structs
    """
    for name in [names] if isinstance(names, str) else names:
        call = re.fullmatch(r"(\w+)\(.*\)", name)
        if place == "by" and call and name not in frame.columns:
            raise OpError(place, f"'{name}' is no column; of an expression write by: {{{call[1]}: \"{name}\"}}")
    known = names_of(place, names, frame.columns)
    return [key_of(place, name, Expression(name, "columns", Name(name)), frame.schema) for name in known]


def value_counts(input: Frame, *, columns: str | Sequence[str]) -> Frame:  # noqa: A002
    """The different values of some columns, and in ``count`` (int64) how many rows have them; in one partition.

    Parameters
    ----------
    input : frame
    columns : the columns; what is missing is a value like others

    Raises
    ------
    OpError : an unknown column, or one that is named ``count`` itself
    """
    names = names_of("columns", columns, input.columns)
    if "count" in names:
        raise OpError("columns", "'count' is the column of the numbers; rename it before")
    return groupby(input, by=names, agg={"count": _COUNT})
