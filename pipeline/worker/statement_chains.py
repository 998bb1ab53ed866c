"""Tasks of a segment that run as one SQL statement, when each is the only one to need the value of the one before.

A file that is read, filtered and aggregated at once takes a third of the time that it takes with a table in memory
between the steps (TPC-H 1 on two workers: 0.75 instead of 2.2 s of their CPU time). It is done where the result has the
same bits, and where no other rows are computed with, so that no task tells whether it was part of a statement.

The time of a statement is known, that of its tasks is not. So in each process the tasks run one by one the first time,
with some of the rows where there are many, and the time of their statements is split in the same proportion. Where a
statement fails its tasks run one by one, then and later, so that the one at fault is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import pyarrow as pa

from pipeline.graph.graph import Key
from pipeline.graph.nodes import about, arguments_of, dependencies, execute, function_of, with_function
from pipeline.graph.segments import Segment, SegmentTask
from pipeline.worker.sql_engine import carrier, numbered, query

__all__ = ["Relation", "as_relation", "as_statement", "chains_of", "learn_proportions", "proportions", "relation_of",
           "sample_times"]  # fmt: skip

_forms: dict[Callable[..., Any], Callable[..., Any]] = {}
_samples: dict[Callable[..., Any], Callable[..., pa.Table | None]] = {}
_ends: dict[Callable[..., Any], Callable[..., bool]] = {}
_proportions: dict[Any, tuple[float, ...]] = {}
_MOST_KNOWN = 1_000


@dataclass(frozen=True)
class Relation:
    """A table that is not computed: part of a statement.

    Parameters
    ----------
    sql : one SELECT; its columns have the names of :func:`pipeline.worker.sql_engine.numbered`
    schema : of the table
    rows : how many rows it has, or more
    tables : what it reads, by name
    parameters : the values of ``$name``
    made : columns of expressions, which may fail at their values, and must be computed for all rows
    n_rows : how many rows it has, where that must be checked
    check : makes of what the statement gives the value of its task, or fails
    """

    sql: str
    schema: pa.Schema
    rows: int
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    made: frozenset[str] = frozenset()
    n_rows: int | None = None
    check: Callable[[pa.Table], pa.Table] | None = None

    def computed(self) -> pa.Table:
        """Run the statement.

        Raises
        ------
        DataError : it fails at its values, or what it gives is not what must be
        """
        table = query(self.sql, self.tables, self.parameters)
        return table if self.check is None else self.check(table)


def as_relation(table: Relation | pa.Table, name: str) -> Relation | None:
    """A table as part of a statement; None if SQL would not get its columns as they are."""
    if isinstance(table, Relation):
        return table
    if any(carrier(kind) != kind for kind in table.schema.types):
        return None
    return Relation(f"from {name}", table.schema, table.num_rows, {name: numbered(table)})


def as_statement(
    function: Callable[..., Any],
    *,
    ends: Callable[..., bool] | None = None,
    sample: Callable[..., pa.Table | None] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare the form of a task's function that gives a :class:`Relation`, or None where there is no equal one.

    Its arguments are those of the function, with the Relation of the task before in the place of that one's value.

    Parameters
    ----------
    ends : called with the arguments of a task, whether a statement may end with it; None: never
    sample : called with the arguments of a task, gives some rows of its value; None where that is not much quicker
    """

    def declare(form: Callable[..., Any]) -> Callable[..., Any]:
        _forms[function] = form
        if ends is not None:
            _ends[function] = ends
        if sample is not None:
            _samples[function] = sample
        return form

    return declare


def chains_of(segment: Segment) -> dict[Key, tuple[SegmentTask, ...]]:
    """The tasks that may run as one statement, by the first of them."""
    found: dict[Key, tuple[SegmentTask, ...]] = {}
    chain: list[SegmentTask] = []
    for task in segment.tasks:
        function = function_of(task.node)
        if function not in _forms or not _can_be_part(task) or segment.batch:
            chain = [] if function is not None else chain  # a constant may stand between
            continue
        before = chain[-1].key if chain else None
        goes_on = before in dependencies(task.node) and before in task.frees
        chain = [*chain, task] if goes_on else [task]
        if len(chain) > 1 and function in _ends and _ends[function](*arguments_of(task.node)):
            found[chain[0].key] = tuple(chain)
    return found


def _can_be_part(task: SegmentTask) -> bool:
    return task.timeout is None and task.pure and not task.item and about(task.node) is None


def relation_of(chain: Sequence[SegmentTask], values: Mapping[Key, Any]) -> Relation | None:
    """The statement of a chain; None if there is none with the same result."""
    made: dict[Key, Any] = dict(values)
    for task in chain:
        made[task.key] = execute(with_function(task.node, _forms[_function(task)]), made)
        if made[task.key] is None:
            return None
    relation: Relation = made[chain[-1].key]
    return relation


def sample_times(chain: Sequence[SegmentTask], values: Mapping[Key, Any], relation: Relation) -> list[int] | None:
    """Run the tasks of a chain one by one with some of its rows; return the nanoseconds of each.

    None where there is no sample, or where it has fewer rows than the tables that it is joined with: these would take
    a larger part of the time than of that for all rows.
    """
    made: dict[Key, Any] = dict(values)
    sample = _samples.get(_function(chain[0]))
    if sample is None:
        return None
    nodes = [with_function(chain[0].node, sample), *(task.node for task in chain[1:])]
    least = sum(table.num_rows for table in relation.tables.values())
    times = []
    for task, node in zip(chain, nodes, strict=True):
        start = perf_counter_ns()
        made[task.key] = execute(node, made)
        times.append(perf_counter_ns() - start)
        if task is chain[0] and (made[task.key] is None or made[task.key].num_rows < least):
            return None
    return times


def proportions(chain: Sequence[SegmentTask], relation: Relation) -> tuple[float, ...] | None:
    """What part of a statement's time its tasks take; None if this process has not learned it, empty if it failed."""
    return _proportions.get(_name(chain, relation))


def learn_proportions(chain: Sequence[SegmentTask], relation: Relation, times: Sequence[int]) -> tuple[float, ...]:
    """Note the times of the tasks when they ran one by one, none of a statement that failed; return their shares."""
    if len(_proportions) >= _MOST_KNOWN:
        _proportions.clear()
    found = _proportions[_name(chain, relation)] = tuple(time / (sum(times) or 1) for time in times)
    return found


def _function(task: SegmentTask) -> Callable[..., Any]:
    function = function_of(task.node)
    assert function is not None, task
    return function


def _name(chain: Sequence[SegmentTask], relation: Relation) -> Any:
    return relation.sql, tuple(task.step for task in chain)
