"""What the tasks of groupby and resample do: the state of some rows by group, states put together, the result.

A missing key is a value like others. `std` and `var` carry count, mean and squared deviations, and merge them as Chan,
Golub and LeVeque do, since sums of squares lose all digits where the mean is large.

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

from pipeline.config.expressions.expression import Expression
from pipeline.ops.frames.columns import column_of
from pipeline.ops.frames.partitions import conform, require_keys, stack

__all__ = ["Aggregate", "Codes", "Partial", "Plan", "aggregate", "codes_of", "combine", "finish"]

Codes = np.ndarray[Any, np.dtype[np.int64]]


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
    require_keys(keys, keys.columns)
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
