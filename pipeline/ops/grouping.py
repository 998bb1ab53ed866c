"""groupby: partial aggregates a partition, combined in a tree of eight, finished in one last task.

A missing key is a group of its own; aggregates skip missing values; a sum of nothing is 0. `std` and `var` carry count,
mean and squared deviations and merge them as Chan, Golub and LeVeque do, since sums of squares lose all digits where
the mean is large. `median`, `quantile` and `nunique` need the values themselves: those of a group travel to the last
task (for `nunique` each once), so they want a worker that can hold the column.

The result is one partition. `first` and `last` follow the order of the rows, which means something after a sort only.

References
----------
Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.expressions import Call, Constant, Expression, parse, render
from pipeline.graph import listed, ref
from pipeline.ops.columns import column_of, dtype_of
from pipeline.ops.partitions import FieldError, Partitions, conform, reduce_tree, stack
from pipeline.ops.sorting import names_of

__all__ = ["aggregate_dtypes", "groupby", "make_plan", "take_apart", "value_counts"]

Codes = np.ndarray[Any, np.dtype[np.int64]]

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


@dataclass(frozen=True)
class Aggregate:
    """One column of the result.

    Parameters
    ----------
    name : in the result
    function : sum, mean, …
    value : number of the value it aggregates; -1: rows, for ``count()``
    argument : q or ddof
    dtype : of the column
    """

    name: str
    function: str
    value: int
    argument: float
    dtype: Any


@dataclass(frozen=True)
class Plan:
    """What every task of one groupby knows.

    Parameters
    ----------
    by : the columns of the keys
    values : the expressions that are aggregated, each once, and the dtypes they are held in
    states : what is kept of the values: (number of the value, statistic), without "values" and "distinct"
    kept : the values kept whole: (number of the value, whether each one once)
    """

    by: tuple[str, ...]
    values: tuple[tuple[Expression, Any], ...]
    aggregates: tuple[Aggregate, ...]
    states: tuple[tuple[int, str], ...]
    kept: tuple[tuple[int, bool], ...]


@dataclass(frozen=True, eq=False)
class Partial:
    """The state of some rows: a row a group.

    Parameters
    ----------
    keys : the groups' keys
    states : a column for each of the plan's states, under its position, and the number of rows under -1
    kept : for each of the plan's kept values a frame of keys and ``value``
    """

    keys: pd.DataFrame
    states: pd.DataFrame
    kept: tuple[tuple[pd.DataFrame, pd.Series[Any]], ...]


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
    FieldError : an unknown column, a name that is a key's already, a value that the aggregate has no meaning for
    """
    names = names_of("by", by, input.columns)
    meta = input._meta
    plan = make_plan(names, agg, meta)
    partitions = Partitions.of(input, parameters=("groupby", plan, bound_names(bound)))
    (keys,) = partitions.keys
    # An expression may be shared by several aggregates; its run-time values are those of the first.
    slots = partitions.bind_all(bound, value_paths(plan))
    partials = [partitions.add("partial", (i,), aggregate, ref(key), plan, slots) for i, key in enumerate(keys)]
    left = reduce_tree(partitions, "partial", partials, combine, plan)
    last = partitions.add("aggregate", (0,), finish, listed(ref(key) for key in left), plan)
    empty = finish([aggregate(meta, plan, None)], plan).iloc[:0]
    return partitions.frame("groupby", [last], empty)


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
    FieldError : an unknown column, or one that is named ``count`` itself
    """
    names = names_of("columns", columns, input.columns)
    if "count" in names:
        raise FieldError("columns", "'count' is the column of the numbers; rename it before")
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
            raise FieldError(place, f"'{name}' is a column of the keys already; choose another name")
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
        raise FieldError(place, f"got '{expression.text}'; an aggregate is a call of {', '.join(_STATES)}")
    if not call.args:
        return call.function, None, 0.0
    text = render(call.args[0], expression.references)  # so that sum(x) and mean(x) share their value
    inner = Expression(text, "columns", call.args[0], expression.references)
    if call.function not in ("quantile", "std", "var"):
        return call.function, inner, 0.0
    parameter = "q" if call.function == "quantile" else "ddof"
    given = call.args[1] if len(call.args) > 1 else dict(call.keywords).get(parameter)
    if not isinstance(given, Constant) or isinstance(given.value, bool) or not isinstance(given.value, int | float):
        raise FieldError(place, f"{call.function}(x, {parameter}) needs {parameter} as a number")
    if parameter == "q" and not 0 <= given.value <= 1:
        raise FieldError(place, f"q is {given.value}; it lies between 0 and 1")
    return call.function, inner, float(given.value)


def aggregate_dtypes(place: str, function: str, dtype: Any, *, full: bool) -> tuple[Any, Any]:
    """The dtype in which a value is held, and that of the result; ``full``: each result is of some rows."""
    if function in ("count", "nunique"):
        return dtype, np.dtype("int64")
    kind = dtype.kind if not isinstance(dtype, pd.CategoricalDtype) else "O"
    text = isinstance(dtype, pd.StringDtype | pd.CategoricalDtype)
    if function in ("any", "all"):
        if kind != "b":
            raise FieldError(place, f"{function}(x) needs true or false; got {dtype}; compare it: x != 0")
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
        raise FieldError(place, f"{function}(x) has no meaning for {dtype}; take number(x), or min, max, nunique")
    if function in ("min", "max") and isinstance(dtype, pd.CategoricalDtype) and not dtype.ordered:
        raise FieldError(place, f"{function}(x) has no meaning for categories without an order; take text(x)")
    if not full and isinstance(dtype, np.dtype) and kind in "biu":  # a group may have no row
        name = "boolean" if kind == "b" else dtype.name.replace("u", "U").replace("i", "I")
        return pd.api.types.pandas_dtype(name), pd.api.types.pandas_dtype(name)
    return dtype, dtype


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def aggregate(frame: pd.DataFrame, plan: Plan, slots: Sequence[Sequence[Any]] | None) -> Partial:
    """The state of one partition; without ``slots`` that of no rows, whatever the expressions read."""
    keys = frame[list(plan.by)].reset_index(drop=True)
    codes, firsts = codes_of(keys, len(frame))
    n = len(firsts) if plan.by else 1
    values = [
        pd.Series([], dtype=held) if slots is None else column_of(expression, frame, slots[i], held)
        for i, (expression, held) in enumerate(plan.values)
    ]
    states: dict[int, Any] = {-1: np.bincount(codes, minlength=n)}
    groups = pd.DataFrame(dict(enumerate(values)), index=pd.RangeIndex(len(keys))).groupby(codes)  # one factorisation
    for position, (i, state) in enumerate(plan.states):
        states[position] = _fill(_PARTIAL[state](groups[i]), n, state, values[i].dtype)
    kept = tuple(_keep(keys, values[i], once) for i, once in plan.kept)
    return Partial(_first_of(keys, firsts), pd.DataFrame(states, index=pd.RangeIndex(n)), kept)


def combine(partials: Sequence[Partial], plan: Plan) -> Partial:
    """The state of the rows of several states."""
    if len(partials) == 1:
        return partials[0]
    keys = stack([partial.keys for partial in partials])
    states = stack([partial.states for partial in partials])
    codes, firsts = codes_of(keys, len(states))
    n = len(firsts) if plan.by else 1
    groups = states.groupby(codes)
    merged: dict[int, Any] = {-1: _sums(states[-1], codes, n)}
    for position, (i, state) in enumerate(plan.states):
        if state == "centre":
            count = states[plan.states.index((i, "count"))].to_numpy(dtype=float)
            spread = states[plan.states.index((i, "spread"))].to_numpy(dtype=float)
            merged[position], merged[plan.states.index((i, "spread"))] = _merge_moments(
                count, states[position].to_numpy(dtype=float), spread, codes, n
            )
        elif state != "spread":
            merged[position] = _fill(_COMBINE[state](groups[position]), n, state, states[position].dtype)
    kept = []
    for position, (_, once) in enumerate(plan.kept):
        whole = stack([partial.kept[position][0] for partial in partials])
        value = stack([partial.kept[position][1].to_frame("value") for partial in partials])["value"]
        kept.append(_keep(whole, value, once))
    columns = {position: merged[position] for position in (-1, *range(len(plan.states)))}
    return Partial(_first_of(keys, firsts), pd.DataFrame(columns, index=pd.RangeIndex(n)), tuple(kept))


def finish(partials: Sequence[Partial], plan: Plan) -> pd.DataFrame:
    """The result."""
    whole = combine(partials, plan)
    columns: dict[str, Any] = {name: whole.keys[name] for name in plan.by}
    members = [_codes_among(whole.keys, keys) for keys, _ in whole.kept]
    for a in plan.aggregates:
        columns[a.name] = conform(_finish_one(a, whole, plan, members), a.dtype)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(whole.states)))


def _finish_one(a: Aggregate, whole: Partial, plan: Plan, members: Sequence[Codes]) -> pd.Series[Any]:
    n = len(whole.states)

    def state(name: str) -> pd.Series[Any]:
        return whole.states[plan.states.index((a.value, name))]

    if a.value < 0:
        return whole.states[-1]
    if a.function in ("median", "quantile", "nunique"):
        position = plan.kept.index((a.value, a.function == "nunique"))
        codes, values = members[position], whole.kept[position][1]
        if a.function == "nunique":
            return pd.Series(np.bincount(codes, minlength=n))
        q = 0.5 if a.function == "median" else a.argument
        return values.groupby(codes).quantile(q).reindex(range(n))
    if a.function == "mean":
        return state("sum") / state("count").where(state("count") > 0)
    if a.function in ("std", "var"):
        freedom = state("count") - a.argument
        variance = state("spread") / freedom.where(freedom > 0)
        return variance**0.5 if a.function == "std" else variance
    return state(a.function)


# ---------------------------------------------------------------------------------------------------------------------
# Inside tasks
# ---------------------------------------------------------------------------------------------------------------------


def codes_of(keys: pd.DataFrame, n: int) -> tuple[Codes, Codes]:
    """For each row the number of its group, in order of appearance, and for each group its first row.

    Missing is a value like others. Column by column, so that no type is changed on the way.
    """
    codes = np.zeros(n, dtype=np.int64)
    groups = 1 if n else 0
    for name in keys.columns:
        own, distinct = pd.factorize(keys[name], use_na_sentinel=False)
        if groups > 1:
            own, pairs = pd.factorize(codes * len(distinct) + own)
            groups = len(pairs)
        else:
            groups = len(distinct)
        codes = np.asarray(own, dtype=np.int64)
    firsts = np.full(groups, n, dtype=np.int64)
    np.minimum.at(firsts, codes, np.arange(n))
    return codes, firsts


def _first_of(keys: pd.DataFrame, firsts: Codes) -> pd.DataFrame:
    """The keys of each group; without columns of keys a frame of nothing."""
    return keys.take(firsts).reset_index(drop=True) if len(keys.columns) else keys.iloc[:0]


def _codes_among(groups: pd.DataFrame, keys: pd.DataFrame) -> Codes:
    """For each row of ``keys`` the position of its group in ``groups``, where each group stands once."""
    if not len(groups.columns):
        return np.zeros(len(keys), dtype=np.int64)
    codes, _ = codes_of(stack([groups, keys]), len(groups) + len(keys))
    return codes[len(groups) :]  # the groups come first, so that each has its own position as its number


def _keep(keys: pd.DataFrame, values: pd.Series[Any], once: bool) -> tuple[pd.DataFrame, pd.Series[Any]]:
    present = values.notna().to_numpy(dtype=bool)
    if once:
        pairs = pd.concat([keys, values.rename(_VALUE)], axis=1)
        _, firsts = codes_of(pairs, len(pairs))
        single = np.zeros(len(pairs), dtype=bool)
        single[firsts] = True
        present = present & single
    return keys[present].reset_index(drop=True), values[present].reset_index(drop=True)


_VALUE = "\0value"  # no column of a user's


def _sums(values: pd.Series[Any], codes: Codes, n: int) -> Any:
    return values.groupby(codes).sum().reindex(range(n), fill_value=0).array


def _fill(column: pd.Series[Any], n: int, state: str, dtype: Any) -> Any:
    """The column with a row for each of ``n`` groups; a group lacks one only where all rows are one group of none."""
    if len(column) < n:
        nothing: Mapping[str, Any] = {"sum": 0, "count": 0, "centre": 0.0, "spread": 0.0, "any": False, "all": True}
        value = pd.Timedelta(0) if state == "sum" and column.dtype.kind == "m" else nothing.get(state)
        column = pd.Series([value] * n, dtype=column.dtype)
    return (column if state in ("count", "centre", "spread") else conform(column, dtype)).array


def _centre(groups: Any) -> pd.Series[Any]:
    mean: pd.Series[Any] = groups.mean()
    return mean.fillna(0.0)


def _spread(groups: Any) -> pd.Series[Any]:
    spread: pd.Series[Any] = groups.var(ddof=0) * groups.count()
    return spread.fillna(0.0)


def _merge_moments(count: Any, centre: Any, spread: Any, codes: Codes, n: int) -> tuple[Any, Any]:
    """Means and squared deviations of groups from those of their parts."""
    total = np.bincount(codes, weights=count, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        # around the first part's mean: the weighted sum of large means would lose the digits that tell them apart
        base = np.zeros(n)
        some = count > 0
        base[codes[some][::-1]] = centre[some][::-1]
        shift = np.bincount(codes, weights=count * (centre - base[codes]), minlength=n)
        mean = base + np.where(total > 0, shift / total, 0.0)
    between = np.bincount(codes, weights=count * (centre - mean[codes]) ** 2, minlength=n)
    return mean, np.bincount(codes, weights=spread, minlength=n) + between


_PARTIAL: Mapping[str, Callable[[Any], pd.Series[Any]]] = {
    "sum": lambda g: g.sum(),
    "count": lambda g: g.count(),
    "min": lambda g: g.min(),
    "max": lambda g: g.max(),
    "any": lambda g: g.any(),
    "all": lambda g: g.all(),
    "first": lambda g: g.first(),
    "last": lambda g: g.last(),
    "centre": _centre,
    "spread": _spread,
}
_COMBINE: Mapping[str, Callable[[Any], pd.Series[Any]]] = {
    **{state: _PARTIAL[state] for state in ("sum", "min", "max", "any", "all", "first", "last")},
    "count": lambda g: g.sum(),
}
