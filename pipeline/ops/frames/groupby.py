"""groupby: partial aggregates a partition, combined in a tree of eight, finished in one last task.

A missing key is a group of its own; aggregates skip missing values; a sum of nothing is 0. `median`, `quantile` and
`nunique` need the values themselves: those of a group travel to the last task (for `nunique` each once), so they want a
worker that can hold the column. What the tasks do stands in ``groups.py``.

The result is one partition. `first` and `last` follow the order of the rows, which means something after a sort only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.expressions.expression import Expression, parse
from pipeline.config.expressions.tree import Call, Constant, render
from pipeline.errors import OpError
from pipeline.graph.graph import listed, ref
from pipeline.ops.frames.aggregation_tasks import Aggregate, Plan, aggregate, combine, finish
from pipeline.ops.frames.columns import dtype_of
from pipeline.ops.frames.partitions import Partitions, reduce_tree
from pipeline.ops.frames.sort import names_of

__all__ = ["aggregate_dtypes", "bound_names", "groupby", "make_plan", "take_apart", "value_counts", "value_paths"]

# What a partial holds for each aggregate; "values" and "distinct" are frames of their own.
_STATES: Mapping[str, tuple[str, ...]] = {
    "sum": ("sum",),
    "mean": ("sum", "count"),
    "count": ("count",),
    "min": ("min",),
    "max": ("max",),
    "any": ("any",),
    "all": ("all",),
    "first": ("first",),
    "last": ("last",),
    "std": ("count", "centre", "spread"),
    "var": ("count", "centre", "spread"),
    "median": ("values",),
    "quantile": ("values",),
    "nunique": ("distinct",),
}
_COUNT = parse("count()", "agg")
_NUMERIC = frozenset({"sum", "mean", "std", "var", "median", "quantile"})


def groupby(
    input: Any,  # noqa: A002
    *,
    by: str | Sequence[str],
    agg: Mapping[str, Expression],
    bound: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """One row a group: its keys, then a column for each name in ``agg``, in one partition.

    Whole numbers sum to int64 (nullable ones to Int64), counts are int64, means, std, var, median and quantile float64
    (those of times and durations keep the type where they have a meaning), min, max, first and last keep the type.

    Parameters
    ----------
    input : frame
    by : the columns of the keys; an empty list: all rows are one group, also where there are none
    agg : aggregate expressions, ``total: "sum(price * (1 - discount))"``
    bound : run-time values of the expressions, under ``agg.NAME``

    Raises
    ------
    OpError : an unknown column, a name that is a key's already, a value that the aggregate has no meaning for
    """
    names = names_of("by", by, input.columns)
    meta = input.meta
    plan = make_plan(names, agg, meta)
    partitions = Partitions.of(input, parameters=("groupby", plan, bound_names(bound)))
    (keys,) = partitions.keys
    # An expression may be shared by several aggregates; its run-time values are those of the first.
    slots = partitions.bind_all(bound, value_paths(plan))
    partials = [partitions.add("partial", (i,), aggregate, ref(key), plan, slots) for i, key in enumerate(keys)]
    left = reduce_tree(partitions, "partial", partials, combine, plan)
    last = partitions.add("aggregate", (0,), finish, listed(ref(key) for key in left), plan)
    empty = finish([aggregate(meta, plan, None)], plan).iloc[:0]
    return partitions.frame([last], empty)


def bound_names(bound: Mapping[str, Sequence[Any]] | None) -> list[Any]:
    """What run-time values a step reads, as something that tokenises."""
    return [(path, [value.key for value in values]) for path, values in sorted((bound or {}).items())]


def value_paths(plan: Plan) -> list[str]:
    """For each value of the plan the path of the expression it was taken from."""
    return [f"agg.{next(a.name for a in plan.aggregates if a.value == i)}" for i in range(len(plan.values))]


def value_counts(input: Any, *, columns: str | Sequence[str]) -> Any:  # noqa: A002
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


def make_plan(
    by: Sequence[str], agg: Mapping[str, Expression], meta: pd.DataFrame, *, full: bool | None = None
) -> Plan:
    """Take the aggregate expressions apart, and find the dtypes.

    Parameters
    ----------
    full : whether every row of the result has rows behind it; default: where there are keys
    """
    full = bool(by) if full is None else full
    values: list[tuple[Expression, Any]] = []
    aggregates: list[Aggregate] = []
    for name, expression in agg.items():
        place = f"agg.{name}"
        if name in by:
            raise OpError(place, f"'{name}' is a column of the keys already; choose another name")
        function, inner, argument = take_apart(place, expression)
        if inner is None:
            aggregates.append(Aggregate(name, function, -1, argument, np.dtype("int64")))
            continue
        found = dtype_of(place, inner, meta)
        held, dtype = aggregate_dtypes(place, function, found, full=full)
        value = (inner, held)
        if value not in values:
            values.append(value)
        aggregates.append(Aggregate(name, function, values.index(value), argument, dtype))
    wanted = [(a.value, state) for a in aggregates if a.value >= 0 for state in _STATES[a.function]]
    return Plan(
        tuple(by),
        tuple(values),
        tuple(aggregates),
        tuple(dict.fromkeys(pair for pair in wanted if pair[1] not in ("values", "distinct"))),
        tuple(dict.fromkeys((i, state == "distinct") for i, state in wanted if state in ("values", "distinct"))),
    )


def take_apart(place: str, expression: Expression) -> tuple[str, Expression | None, float]:
    """The aggregate's function, the expression it aggregates (None: rows) and its q or ddof."""
    call = expression.root
    if not isinstance(call, Call) or call.function not in _STATES:
        raise OpError(place, f"got '{expression.text}'; an aggregate is a call of {', '.join(_STATES)}")
    if not call.args:
        return call.function, None, 0.0
    text = render(call.args[0], expression.references)  # so that sum(x) and mean(x) share their value
    inner = Expression(text, "columns", call.args[0], expression.references)
    if call.function not in ("quantile", "std", "var"):
        return call.function, inner, 0.0
    parameter = "q" if call.function == "quantile" else "ddof"
    given = call.args[1] if len(call.args) > 1 else dict(call.keywords).get(parameter)
    if not isinstance(given, Constant) or isinstance(given.value, bool) or not isinstance(given.value, int | float):
        raise OpError(place, f"{call.function}(x, {parameter}) needs {parameter} as a number")
    if parameter == "q" and not 0 <= given.value <= 1:
        raise OpError(place, f"q is {given.value}; it lies between 0 and 1")
    return call.function, inner, float(given.value)


def aggregate_dtypes(place: str, function: str, dtype: Any, *, full: bool) -> tuple[Any, Any]:
    """The dtype in which a value is held, and that of the result; ``full``: each result is of some rows."""
    if function in ("count", "nunique"):
        return dtype, np.dtype("int64")
    kind = dtype.kind if not isinstance(dtype, pd.CategoricalDtype) else "O"
    text = isinstance(dtype, pd.StringDtype | pd.CategoricalDtype)
    if function in ("any", "all"):
        if kind != "b":
            raise OpError(place, f"{function}(x) needs true or false; got {dtype}; compare it: x != 0")
        return "boolean", np.dtype("bool")
    if function in _NUMERIC:
        if kind in "biuf" and not text:
            nullable = not isinstance(dtype, np.dtype)
            if function != "sum" or kind == "f":
                return np.dtype("float64"), np.dtype("float64")
            whole = "uint64" if kind == "u" else "int64"
            held = pd.api.types.pandas_dtype(whole.replace("u", "U").replace("i", "I") if nullable else whole)
            return held, held
        if kind == "m" and function in ("sum", "mean", "median", "quantile"):
            return dtype, dtype
        if kind == "M" and function in ("median", "quantile"):
            return dtype, dtype
        raise OpError(place, f"{function}(x) has no meaning for {dtype}; take number(x), or min, max, nunique")
    if function in ("min", "max") and isinstance(dtype, pd.CategoricalDtype) and not dtype.ordered:
        raise OpError(place, f"{function}(x) has no meaning for categories without an order; take text(x)")
    if not full and isinstance(dtype, np.dtype) and kind in "biu":  # a group may have no row
        name = "boolean" if kind == "b" else dtype.name.replace("u", "U").replace("i", "I")
        return pd.api.types.pandas_dtype(name), pd.api.types.pandas_dtype(name)
    return dtype, dtype
