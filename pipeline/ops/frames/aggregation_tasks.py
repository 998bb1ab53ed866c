"""What the tasks of groupby and resample do: the state of some rows by group, states put together, the result.

Each task is one statement. A missing key is a value like others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.expressions.tree import Name
from pipeline.errors import DataError
from pipeline.graph.column_types import type_name
from pipeline.graph.late_pandas import numbers_of
from pipeline.ops.frames.aggregation_plan import Plan
from pipeline.ops.frames.aggregation_sql import aggregated, combined, finished, value_sql
from pipeline.ops.frames.columns import columns_of, may_warn, plain_message
from pipeline.ops.frames.partitions import stack, taken
from pipeline.worker.sql_engine import numbered, query, restored
from pipeline.worker.statement_chains import Relation

__all__ = [
    "aggregate",
    "aggregate_rows",
    "aggregate_statement",
    "combine",
    "finish",
    "in_key_order",
    "is_exact",
    "project",
]

_MANY = 100_000  # groups
_LARGE = 256 * 2**20  # bytes of their states
_EXACT = frozenset({"sum", "count", "min", "max", "any", "all"})
"""States that do not depend on the order of the rows; sums of floats do."""

# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def aggregate(table: pa.Table, plan: Plan, slots: Sequence[Sequence[Any]]) -> pa.Table:
    """The states of one partition."""
    source, tables = _source(table, plan, slots, rows=True)
    try:
        return _named(plan, lambda part: query(aggregated(part, source), tables))
    except DataError:
        _check_values(table, plan, slots)
        raise


def is_exact(plan: Plan) -> bool:
    """Whether the states have the same bits whatever the order in which the rows come."""
    floats = [i for i, value in enumerate(plan.values) if value.form == "double" or pa.types.is_floating(value.type)]
    kinds = {state.kind for _, state in plan.needed}
    in_order = any(state.kind == "sum" and state.values[0] in floats for _, state in plan.needed)
    warns = any(may_warn(value.expression) for value in (*plan.keys, *plan.values))
    return kinds <= _EXACT and not in_order and not plan.counted and not warns


def aggregate_statement(table: Relation, plan: Plan, slots: Sequence[Sequence[Any]]) -> Relation | None:
    """The same as :func:`aggregate`, of a plan that is exact, as a statement; None if not all columns are computed."""
    used = {v.expression.root.name for v in (*plan.keys, *plan.values) if isinstance(v.expression.root, Name)}
    if not table.made <= used:
        return None
    items, _ = _items(table.schema, plan, slots)
    sql = aggregated(
        plan,
        f"select {', '.join(items) or '0 as nothing'} from ({table.sql})",
        counted="n_rows" if table.n_rows else "",
    )
    return replace(table, sql=sql, check=partial(_without_counts, n=table.n_rows))


def _without_counts(states: pa.Table, n: int | None) -> pa.Table:
    if not n:
        return states
    found = pc.sum(states.column("n_rows")).as_py()
    if found != n:
        raise DataError(f"{found:,} rows are read where {n:,} must be")
    return states.drop_columns(["n_rows"])


def project(table: pa.Table, plan: Plan, slots: Sequence[Sequence[Any]]) -> pa.Table:
    """The keys and values of one partition: ``k0``, …, ``v0``, …."""
    source, tables = _source(table, plan, slots, rows=False)
    try:
        return query(source, tables)
    except DataError:
        _check_values(table, plan, slots)
        raise


def aggregate_rows(pieces: Sequence[pa.Table], plan: Plan, slots: Sequence[Sequence[Any]]) -> pa.Table:
    """The result of all rows of some groups, as :func:`project` gives them."""
    names = [*plan.names, *(f"v{i}" for i in range(len(plan.values)))]
    tables = _stacked(pieces)
    source = f"select {', '.join([*names, 'rowno'])} from t"
    return finish([_named(plan, lambda part: query(aggregated(part, source), tables))], plan, slots)


def combine(several: Sequence[pa.Table], plan: Plan) -> pa.Table:
    """The states of the rows of several tables of states, which stand in the order of their rows."""
    if len(several) == 1:
        return several[0]
    tables = _stacked(several)
    return _named(plan, lambda part: query(combined(part), tables))


def finish(several: Sequence[pa.Table], plan: Plan, slots: Sequence[Sequence[Any]]) -> pa.Table:
    """The result, in the order of its keys, missing ones last.

    Parameters
    ----------
    slots : the run-time values of the expressions of aggregates, a list a column
    """
    sorted_states = _one_state_each(several, plan)
    tables = _stacked(several if sorted_states is None else [sorted_states])
    again = sorted_states is None and len(several) > 1
    found = _named(plan, lambda part: query(finished(part, several=again, ordered=sorted_states is None), tables))
    n = len(plan.keys)
    keys = [restored(found.column(i), key.type) for i, key in enumerate(plan.keys)]
    made = []
    for a, column in zip(plan.aggregates, found.columns[n:], strict=True):
        try:
            made.append(restored(column, a.type))
        except DataError as error:
            worst = max((value for value in column.to_pylist() if value is not None), key=abs)
            x = plan.values[a.values[0]].expression.text if a.values else "x"
            call, cure = f"{a.function}({x})", f"write {a.function}(number({x})) to compute with float64"
            place = a.path.removesuffix(f": {call}")  # in op window a column for each call
            raise DataError(f"{place}: {call} is {worst}, which {type_name(a.type)} can't hold; {cure}") from error
    columns = []
    for column, field, given in zip(plan.columns, list(plan.schema)[n:], slots, strict=True):
        if isinstance(column.expression, int):
            columns.append(made[column.expression])
            continue
        aggregates = pa.table(made, schema=plan.made)
        try:
            columns += columns_of(aggregates, [(column.expression, field.type)], [given])
        except DataError as error:
            raise DataError(f"{column.path}: {error}") from error
    return pa.Table.from_arrays([*keys, *columns], schema=plan.schema)


def in_key_order(pieces: Sequence[pa.Table], plan: Plan, slots: Sequence[Sequence[Any]]) -> pa.Table:
    """The rows of several results, whose keys differ, in the order of the keys."""
    table = stack(pieces)
    names = plan.schema.names[: len(plan.keys)]
    order = ", ".join(f"c{i} nulls last" for i in range(len(names)))
    found = query(f"select rowno from t order by {order}", {"t": numbered(table, names, rows="rowno")})
    return table.take(found.column("rowno"))


# ---------------------------------------------------------------------------------------------------------------------
# Inside tasks
# ---------------------------------------------------------------------------------------------------------------------


def _stacked(several: Sequence[pa.Table]) -> dict[str, pa.Table]:
    """The rows of tables with their numbers in ``rowno``, as the table of a statement."""
    table = stack(several).combine_chunks()
    return {"t": table.append_column("rowno", pa.array(np.arange(table.num_rows)))}


def _source(
    table: pa.Table, plan: Plan, slots: Sequence[Sequence[Any]], *, rows: bool
) -> tuple[str, dict[str, pa.Table]]:
    """A statement for the keys and values of a partition (and the numbers of its rows), and its table."""
    items, names = _items(table.schema, plan, slots)
    if rows:
        items.append("rowno")
    return f"select {', '.join(items)} from t", {"t": numbered(table, names, rows="rowno" if rows else None)}


def _one_state_each(several: Sequence[pa.Table], plan: Plan) -> pa.Table | None:
    """The states in the order of a key of whole numbers, one for each group; None where it takes one statement for all.

    Most groups are in one table only where there are many: those need not be combined. (1,500,000 groups of 8 tables:
    0.10 s instead of 0.47.) Large ones are left to the statement, which writes to disk what does not fit.
    """
    n_rows, n_bytes = sum(table.num_rows for table in several), sum(table.nbytes for table in several)
    if n_rows < _MANY or n_bytes > _LARGE or len(plan.keys) != 1 or plan.distinct or plan.gaps:
        return None
    states = stack(several)
    keys = states.column("k0")
    if keys.null_count or not pa.types.is_integer(keys.type):
        return None
    numbers = numbers_of(keys)
    order = np.argsort(numbers, kind="stable")
    places = numbers[order]
    same = places[1:] == places[:-1]
    repeated = np.concatenate([same, [False]]) | np.concatenate([[False], same])
    if np.count_nonzero(repeated) > n_rows // 4:
        return None
    alone, others = (taken(states, order[mask]) for mask in (~repeated, repeated))
    if others.num_rows:
        combined_ones = combine([others.slice(0, 0), others], plan)
        if combined_ones.schema != states.schema:
            return None
        alone = pa.concat_tables([alone, combined_ones])
        alone = taken(alone, np.argsort(numbers_of(alone.column("k0")), kind="stable"))
    return alone


def _items(schema: pa.Schema, plan: Plan, slots: Sequence[Sequence[Any]]) -> tuple[list[str], set[str]]:
    """The keys and values as columns of a statement, and the columns that they are made of."""
    items: list[str] = []
    names: set[str] = set()
    for i, (value, given) in enumerate(zip((*plan.keys, *plan.values), slots, strict=True)):
        label = f"k{i}" if i < len(plan.keys) else f"v{i - len(plan.keys)}"
        items.append(f"{value_sql(value, schema, given)} as {label}")
        names |= value.expression.names | (value.beside.names if value.beside else set())
    return items, names


def _check_values(table: pa.Table, plan: Plan, slots: Sequence[Sequence[Any]]) -> None:
    """Fail with the place of the value that can't be computed."""
    for value, given in zip((*plan.keys, *plan.values), slots, strict=True):
        alone = replace(plan, keys=(value,), values=())
        source, tables = _source(table, alone, [given], rows=False)
        try:
            query(source, tables)
        except DataError as error:
            raise DataError(f"{value.path}: '{value.expression.text}': {plain_message(str(error))}") from None


def _named(plan: Plan, run: Callable[[Plan], pa.Table]) -> pa.Table:
    """What a statement gives; where it fails, the aggregate that fails alone is named."""
    try:
        return run(plan)
    except DataError as error:
        for part in (replace(plan, aggregates=(a,)) for a in plan.aggregates):
            try:
                run(part)
            except DataError as own:
                raise DataError(f"{part.aggregates[0].path}: {own}") from error
        raise
