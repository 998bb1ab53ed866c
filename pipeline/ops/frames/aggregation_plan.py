"""What the tasks of groupby and resample know: keys, values, what is kept of them, what is made of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.config.expressions.expression import Expression

__all__ = ["DISTINCT", "STATES", "WHOLE", "Aggregate", "Column", "Plan", "State", "Value", "states_of"]


@dataclass(frozen=True)
class Value:
    """An expression whose values are keys, or are aggregated.

    Parameters
    ----------
    path : where it stands in the step
    type : of its values
    form : ``""``: as they are; ``double``: as floats; ``ticks``: times and days as whole numbers
    beside : only the values beside which this one is not missing, either
    """

    path: str
    expression: Expression
    type: pa.DataType
    form: str = ""
    beside: Expression | None = None


@dataclass(frozen=True)
class State:
    """A column of a table of states.

    Parameters
    ----------
    kind : sum, count, …
    values : numbers of the values that it is of
    argument : of the aggregate that needs it
    """

    kind: str
    values: tuple[int, ...]
    argument: Any = None


@dataclass(frozen=True)
class Aggregate:
    """An aggregate of some values.

    Parameters
    ----------
    path : where it stands in the step
    values : numbers of its values; empty: rows, for ``count()``
    argument : q, ddof or the scale of decimals
    type : of the result
    """

    path: str
    function: str
    values: tuple[int, ...]
    argument: Any
    type: pa.DataType


@dataclass(frozen=True)
class Column:
    """A column of the result: an aggregate by its number, or an expression over columns of aggregates."""

    path: str
    expression: Expression | int


@dataclass(frozen=True)
class Plan:
    """What every task of one groupby knows.

    Parameters
    ----------
    keys : the keys
    values : what is aggregated, each once
    states : what is kept of the values
    distinct : numbers of the values whose different ones are kept
    aggregates : what is made of that
    made : their columns
    columns : what is made of the aggregates
    schema : of the result: the keys, then the columns
    gaps : whether the last key is whole numbers, and the result has those between that have no rows, too
    """

    keys: tuple[Value, ...]
    values: tuple[Value, ...]
    states: tuple[State, ...]
    distinct: tuple[int, ...]
    aggregates: tuple[Aggregate, ...]
    made: pa.Schema
    columns: tuple[Column, ...]
    schema: pa.Schema
    gaps: bool = False

    @property
    def names(self) -> list[str]:
        """The columns of the keys in a table of states."""
        return [f"k{i}" for i in range(len(self.keys))]

    @property
    def needed(self) -> list[tuple[str, State]]:
        """The columns of a table of states that the aggregates need, and what they hold."""
        wanted = {state for a in self.aggregates for state in states_of(a)}
        return [(f"s{i}", state) for i, state in enumerate(self.states) if state in wanted]

    @property
    def counted(self) -> list[tuple[int, int]]:
        """Of the values whose different ones the aggregates need the place in ``distinct``, and the number."""
        wanted = {a.values[0] for a in self.aggregates if a.function in DISTINCT}
        return [(i, v) for i, v in enumerate(self.distinct) if v in wanted]

    def state(self, kind: str, values: tuple[int, ...], argument: Any = None) -> str:
        """The column of a state."""
        return f"s{self.states.index(State(kind, values, argument))}"


STATES: Mapping[str, tuple[str, ...]] = {
    "sum": ("sum",),
    "mean": ("sum", "count"),
    "count": ("count",),
    "min": ("min",),
    "max": ("max",),
    "any": ("any",),
    "all": ("all",),
    "first": ("first",),
    "last": ("last",),
    "std": ("count", "centre", "shift", "spread"),
    "var": ("count", "centre", "shift", "spread"),
    "median": ("quantile",),
    "quantile": ("quantile",),
    "corr": ("count", "centre", "shift", "spread", "cross"),
    "covar": ("count", "centre", "shift", "cross"),
    "list": ("list",),
    "join": ("join",),
    "nunique": (),
    "mode": (),
}
"""What is kept for each aggregate."""
DISTINCT = frozenset({"nunique", "mode"})
"""The aggregates that need the different values."""
WHOLE = frozenset({"median", "quantile", "list", "join"})
"""The aggregates that need all values of a group at once."""


def states_of(aggregate: Aggregate) -> list[State]:
    """The states that an aggregate needs; of two values those of each, in turn."""
    argument = aggregate.argument if aggregate.function in WHOLE else None
    found = []
    for kind in STATES[aggregate.function]:
        of_all = kind == "cross" or len(aggregate.values) < 2
        found += [
            State(kind, v, argument) for v in ([aggregate.values] if of_all else [(i,) for i in aggregate.values])
        ]
    return found
