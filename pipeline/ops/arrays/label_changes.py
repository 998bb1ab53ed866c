"""The ops ``align`` and ``set_labels``, which change labels. Labels are in memory while the graph is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import xarray as xr

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import parse_duration
from pipeline.errors import OpError, nearest
from pipeline.graph.calendars import calendar_of, map_times
from pipeline.ops.arrays.block_tasks import at_positions
from pipeline.ops.arrays.deferred_labels import labels_of
from pipeline.ops.arrays.dims import axis_of, rebuild, require_length
from pipeline.ops.elementwise.targets import evaluate_coords

__all__ = ["align", "set_labels"]

Labels = np.ndarray[Any, Any]


def align(x: xr.DataArray, like: xr.DataArray, *, tolerance: Mapping[str, float | str]) -> xr.DataArray:
    """Return ``x`` with exactly the labels of ``like`` along dims, in their order, where those of ``x`` are near them.

    For each label of ``like`` the nearest label of ``x`` is taken, which must be within the tolerance. Positions of
    ``x`` that are near no label of ``like`` are left out.

    Parameters
    ----------
    tolerance : dim -> largest difference of two labels that are the same; a duration for times

    Raises
    ------
    OpError : no such dim, a dim without labels, or a label of ``like`` that no label, or that another one's, is near
    """
    for dim, most in tolerance.items():
        key = f"tolerance.{dim}"
        mine, wanted = (_labels_along(each, dim, key, role) for each, role in ((x, "input"), (like, "like")))
        places = _nearest(mine, wanted, most, dim, key)
        along = {str(c): x.coords[c].variable.isel({dim: places}) for c in x.coords if dim in x.coords[c].dims}
        along[dim] = xr.Variable((dim,), wanted, like[dim].attrs)
        data = x.data
        if not np.array_equal(places, np.arange(len(mine))):
            chunks = like.chunksizes.get(dim, (len(wanted),))
            data = at_positions(data, axis_of(x, dim), places, chunks, f"align-{dim}")
        x = rebuild(x, data, x.dims, coords=along, gone=[dim])
    return x


def set_labels(
    x: xr.DataArray,
    *,
    labels: Mapping[str, Sequence[Any]] | None = None,
    by: Mapping[str, Expression] | None = None,
    drop: Sequence[str] | None = None,
    bound: Mapping[str, Sequence[Any]] | None = None,
) -> xr.DataArray:
    """Return the array with other labels.

    Parameters
    ----------
    labels : dim -> all its labels, in order: numbers, truth values or texts
    by : dim -> an expression over coordinates along it, whose values become its labels
    drop : coordinates that are left out; a dim is then without labels

    Raises
    ------
    OpError : no such dim or coordinate; labels that are not as many as the dim is long, or not of one kind
    """
    for name in drop or ():
        if name not in x.coords:
            known = [str(c) for c in x.coords]
            raise OpError(
                "drop", f"no coordinate {name!r}; there are {', '.join(known) or 'none'}{nearest(name, known)}"
            )
    new: dict[str, Labels] = {}
    for dim, values in (labels or {}).items():
        n = require_length(x, dim, f"labels.{dim}")
        kinds = {bool if isinstance(v, bool) else float if isinstance(v, int | float) else type(v) for v in values}
        if len(kinds) > 1:
            raise OpError(f"labels.{dim}", "got labels of several kinds; write all as numbers, or all as texts")
        if len(values) != n:
            raise OpError(f"labels.{dim}", f"got {len(values)} labels; {dim!r} has {n} positions")
        new[dim] = np.array(list(values))
        changed = next((v for v, held in zip(values, new[dim].tolist(), strict=True) if held != v and v == v), None)
        if changed is not None:
            raise OpError(f"labels.{dim}", f"{changed!r} can't be held exactly beside the other labels; write texts")
    for dim, expression in (by or {}).items():
        new[dim] = _computed(x, dim, expression)
    x = x.drop_vars([name for name in (*(drop or ()), *new) if name in x.coords])
    return x.assign_coords({dim: (dim, values) for dim, values in new.items()})


def _computed(x: xr.DataArray, dim: str, expression: Expression) -> Labels:
    key = f"by.{dim}"
    axis_of(x, dim, key)
    if expression.references:
        raise OpError(key, f"{expression.text!r} has a value that is unknown until run time")
    try:
        found = evaluate_coords(expression, x)
    except ExpressionError as error:
        raise OpError(key, f"{error}") from error
    if found.dims != (dim,):
        dims = f"the dims {', '.join(map(str, found.dims))}" if found.dims else "no dims"
        raise OpError(key, f"{expression.text!r} has {dims}; write an expression over coordinates along {dim!r}")
    return np.asarray(found.values)


# ---------------------------------------------------------------------------------------------------------------------
# Nearest labels
# ---------------------------------------------------------------------------------------------------------------------


def _labels_along(x: xr.DataArray, dim: str, key: str, role: str) -> Labels:
    axis_of(x, dim, key)
    if dim not in x.indexes or dim in labels_of(x):
        raise OpError(key, f"{dim!r} of {role} has no labels; give it some: op set_labels")
    return np.asarray(x.coords[dim].values)


def _nearest(mine: Labels, wanted: Labels, most: float | str, dim: str, key: str) -> Labels:
    """Return for each wanted label the position of the label that is nearest to it."""
    kinds = [_kind(mine), _kind(wanted)]
    if kinds[0] != kinds[1]:
        raise OpError(key, f"labels of input are {kinds[0]}, those of like {kinds[1]}")
    if kinds[0] in ("text", "others"):
        raise OpError(key, f"the labels are {kinds[0]}; only numbers and times can be near each other")
    limit = _limit(most, kinds[0] != "numbers", key)
    start = mine[0] if len(mine) else None
    numbers, targets = (_numbers(each, start) for each in (mine, wanted))
    if np.isnan(numbers).any() or np.isnan(targets).any():
        raise OpError(key, f"a label of {dim!r} is missing")
    order = np.argsort(numbers, kind="stable")
    after = np.clip(np.searchsorted(numbers[order], targets), 1, max(len(mine) - 1, 1))
    around = [order[np.minimum(after - back, len(mine) - 1)] for back in (1, 0)] if len(mine) else [after, after]
    if not len(mine) and len(wanted):
        raise OpError(key, f"{dim!r} of input has length 0")
    nearer = np.abs(numbers[around[1]] - targets) < np.abs(numbers[around[0]] - targets)
    places = np.where(nearer, around[1], around[0])
    far = np.abs(numbers[places] - targets) > limit
    if far.any():
        at = int(np.flatnonzero(far)[0])
        raise OpError(key, f"no label of input is within {most} of {wanted[at]}; the nearest is {mine[places[at]]}")
    used, counts = np.unique(places, return_counts=True)
    if (counts > 1).any():
        twice = used[counts > 1][0]
        labels = " and ".join(map(str, wanted[places == twice][:2]))
        raise OpError(key, f"the labels {labels} of like are both nearest to {mine[twice]} of input")
    return places


def _kind(labels: Labels) -> str:
    calendar = calendar_of(labels) or ("standard" if labels.dtype.kind == "M" else "")
    if calendar:
        return f"times of the calendar {calendar}"
    return {"f": "numbers", "i": "numbers", "u": "numbers", "U": "text", "T": "text", "O": "text"}.get(
        labels.dtype.kind, "others"
    )


def _limit(most: float | str, times: bool, key: str) -> float:
    """Return the tolerance in the units of labels: of times in microseconds."""
    if not times:
        if isinstance(most, str):
            raise OpError(key, f"got {most!r}; the labels are numbers, so the tolerance is one: 1e-6")
        limit = float(most)
    else:
        try:
            limit = parse_duration(str(most)) / timedelta(microseconds=1)
        except ExpressionError as error:
            raise OpError(key, f"the labels are times: {error}") from error
    if not limit >= 0:
        raise OpError(key, f"got {most}; a tolerance is not negative")
    return limit


def _numbers(labels: Labels, start: Any) -> Labels:
    """Return labels as floats; times as microseconds after ``start``, which floats hold exactly for 285 years."""
    if calendar_of(labels):
        return map_times(lambda time: (time - start) / timedelta(microseconds=1), labels).astype(float)
    if labels.dtype.kind == "M":
        lengths = labels.astype("M8[us]") - np.datetime64(start).astype("M8[us]")
        return np.where(np.isnat(lengths), np.nan, lengths.astype(float))
    return labels.astype(np.longdouble if labels.dtype.kind in "iu" else float)  # whole numbers beyond 2**53, too
