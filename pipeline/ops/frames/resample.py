"""resample of frames: groupby over regular periods of a time column, the periods without rows included.

Where periods begin can depend on the first time of all (``7h``, ``2MS``), so that one is found first; each partition
then finds the periods of its own rows from it, as pandas does for the whole. The rest is groupby's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.expressions.expression import Expression
from pipeline.errors import OpError
from pipeline.graph.graph import listed, ref
from pipeline.ops.frames.aggregation_tasks import Partial, Plan, aggregate, codes_of, combine, finish
from pipeline.ops.frames.cast import family
from pipeline.ops.frames.groupby import bound_names, make_plan, value_paths
from pipeline.ops.frames.partitions import Partitions, reduce_tree
from pipeline.ops.frames.sort import names_of, sort_rows, total_order

__all__ = ["resample"]

_PERIOD = "\0period"  # no column of a user's

Ends = tuple[pd.Timestamp, pd.Timestamp] | None
"""The first and the last time; None where there is none."""


def resample(
    input: Any,  # noqa: A002
    *,
    on: str,
    rule: str,
    agg: Mapping[str, Expression],
    by: str | Sequence[str] | None = None,
    bound: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """A row a period (and group): the columns of ``by``, the start of the period in ``on``, the aggregates; in order.

    There is a row for each period from the first to the last one of a group; of no rows the sum and count are 0, other
    aggregates are missing, so that min, max, first and last of whole numbers become nullable. Rows without a time
    belong to no period. One partition.

    Parameters
    ----------
    input : frame
    on : the column of times
    rule : the period, as pandas writes it: MS, D, 6h
    agg : aggregate expressions, as in groupby
    by : columns of groups; all have the same periods
    bound : run-time values of the expressions, under ``agg.NAME``

    Raises
    ------
    OpError : an unknown column, one that holds no times, no such period
    """
    meta = input.meta
    (time,) = names_of("on", on, meta.columns)
    groups = names_of("by", by, meta.columns) if by else []
    if time in groups:
        raise OpError("on", f"'{time}' is a column of by, too")
    if family(meta[time].dtype) not in ("time", "zoned time"):
        raise OpError("on", f"'{time}' is {meta[time].dtype}; periods need times")
    _check_rule(rule, meta[time].dtype)
    for name in agg:
        if name == time:
            raise OpError(f"agg.{name}", f"'{name}' holds the periods; choose another name")
    plan = make_plan(groups, agg, meta, full=False)
    plan = Plan((*groups, _PERIOD), plan.values, plan.aggregates, plan.states, plan.kept)
    partitions = Partitions.of(input, parameters=("resample", plan, time, rule, bound_names(bound)))
    (keys,) = partitions.keys
    slots = partitions.bind_all(bound, value_paths(plan))
    ends = [partitions.add("ends", (i,), ends_of, ref(key), time) for i, key in enumerate(keys)]
    left = reduce_tree(partitions, "ends", ends, join_ends)
    whole = ref(partitions.add("ends-last", (0,), join_ends, listed(map(ref, left))))
    partials = [
        partitions.add("partial", (i,), aggregate_periods, ref(key), plan, slots, time, rule, whole)
        for i, key in enumerate(keys)
    ]
    left = reduce_tree(partitions, "partial", partials, combine, plan)
    last = partitions.add("aggregate", (0,), finish_periods, listed(map(ref, left)), plan, time, rule, whole)
    empty = finish_periods([aggregate_periods(meta, plan, None, time, rule, None)], plan, time, rule, None)
    return partitions.frame([last], empty)


def _check_rule(rule: str, dtype: Any) -> None:
    try:
        _labels(pd.DatetimeIndex(["2001-01-01"], dtype=dtype), rule)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise OpError("rule", f"got {rule!r}, which is no period that pandas knows (as MS, D, 6h): {error}") from error


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def ends_of(frame: pd.DataFrame, on: str) -> Ends:
    """The first and the last time of one partition."""
    times = frame[on].dropna()
    return (times.min(), times.max()) if len(times) else None


def join_ends(several: Sequence[Ends]) -> Ends:
    """The first and the last time of several."""
    found = [ends for ends in several if ends is not None]
    return (min(first for first, _ in found), max(last for _, last in found)) if found else None


def aggregate_periods(
    frame: pd.DataFrame, plan: Plan, slots: Sequence[Sequence[Any]] | None, on: str, rule: str, ends: Ends
) -> Partial:
    """The state of one partition, by group and period."""
    timed = frame[frame[on].notna().to_numpy(dtype=bool)].reset_index(drop=True)
    timed[_PERIOD] = _periods_of(timed[on], rule, ends)
    return aggregate(timed, plan, slots)


def finish_periods(partials: Sequence[Partial], plan: Plan, on: str, rule: str, ends: Ends) -> pd.DataFrame:
    """The result: groups and periods in order, those without rows put in."""
    found = finish(partials, plan)
    if len(found) and ends is not None:
        found = _with_all(found, plan, _labels(_index(ends, found[_PERIOD].dtype), rule))
    named = found.rename(columns={_PERIOD: on})
    names = [*plan.by[:-1], on]
    return sort_rows(named, total_order(names, [True] * len(names), named.columns))


# ---------------------------------------------------------------------------------------------------------------------
# Inside tasks
# ---------------------------------------------------------------------------------------------------------------------


def _index(times: Any, dtype: Any) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(list(times), dtype=dtype)


def _counts(times: pd.DatetimeIndex, rule: str) -> pd.Series[Any]:
    """How many of some ordered times lie in each period, by its label."""
    return pd.Series(1, index=times).resample(rule).count()


def _labels(times: pd.DatetimeIndex, rule: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(_counts(times, rule).index)


def _periods_of(times: pd.Series[Any], rule: str, ends: Ends) -> pd.Series[Any]:
    """For each time the label of its period."""
    if not len(times) or ends is None:
        return pd.Series([], dtype=times.dtype)
    order = np.argsort(times.to_numpy(), kind="stable")
    ordered = _index([ends[0]], times.dtype).append(pd.DatetimeIndex(times.iloc[order]))
    counts = _counts(pd.DatetimeIndex(ordered), rule)
    labels = np.repeat(np.arange(len(counts)), counts.to_numpy())[1:]
    places = np.empty(len(times), dtype=np.int64)
    places[order] = labels
    return pd.Series(counts.index.take(places)).astype(times.dtype)


def _with_all(found: pd.DataFrame, plan: Plan, labels: pd.DatetimeIndex) -> pd.DataFrame:
    """The rows with those of periods between the first and the last one of their group put in."""
    by = list(plan.by[:-1])
    codes, firsts = codes_of(found[by], len(found))
    places = labels.get_indexer(pd.DatetimeIndex(found[_PERIOD]))
    low = np.full(len(firsts), len(labels))
    high = np.full(len(firsts), -1)
    np.minimum.at(low, codes, places)
    np.maximum.at(high, codes, places)
    lengths = high - low + 1
    starts = np.concatenate([[0], np.cumsum(lengths)])
    group = np.repeat(np.arange(len(firsts)), lengths)
    period = np.arange(starts[-1]) - starts[:-1][group] + low[group]
    source = np.full(starts[-1], -1)
    source[starts[:-1][codes] + places - low[codes]] = np.arange(len(found))
    there = source >= 0
    whole = found.take(np.where(there, source, 0)).reset_index(drop=True)
    for name in by:
        whole[name] = found[name].take(firsts[group]).reset_index(drop=True)
    whole[_PERIOD] = pd.Series(labels.take(period)).astype(found[_PERIOD].dtype)
    for a in plan.aggregates:
        whole[a.name] = whole[a.name].where(there, _of_nothing(a.function, a.dtype)).astype(a.dtype)
    return whole


def _of_nothing(function: str, dtype: Any) -> Any:
    if function in ("any", "all"):
        return function == "all"
    if function in ("sum", "count", "nunique"):
        return pd.Timedelta(0) if dtype.kind == "m" else 0
    return pd.NaT if dtype.kind in "mM" else pd.NA if not isinstance(dtype, np.dtype) else np.nan
