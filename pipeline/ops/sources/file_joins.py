"""Several files that are one array: what must be equal in them, and the order in which they are joined.

Files that differ are never joined silently. Units, calendars, kinds of dtype and coordinates must be equal, or the step
says what to do. Each file is decoded by itself: its packing, and its times.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.calendars import calendar_name, calendar_of, join_times
from pipeline.ops.sources.file_order import (
    BY_ITSELF,
    KINDS,
    Overlap,
    Run,
    ends_text,
    order_of,
    require_one_calendar,
)
from pipeline.ops.sources.stored_arrays import StoredArray
from pipeline.ops.whole_numbers import concatenated

__all__ = ["Joined", "Settled", "join", "join_plain"]

Settled = Literal["first", "drop"]
Values = np.ndarray[Any, Any]

_MEANING = ("units", "calendar", "standard_name", "positive", "grid_mapping")
"""Attributes that say what the numbers mean; files in which they differ are not joined."""


@dataclass(frozen=True)
class Joined:
    """An array of one or several files.

    Parameters
    ----------
    along : the dim along which they are joined; empty for one file
    runs : what follows what along it
    order : the order as the plan shows it
    """

    found: Sequence[StoredArray]
    template: xr.Dataset
    dtype: np.dtype[Any]
    along: str = ""
    runs: Sequence[Run] = ()
    order: str = ""


def join(
    found: Sequence[StoredArray],
    *,
    along: str | None = None,
    overlap: Overlap | None = None,
    attrs: Settled | None = None,
) -> Joined:
    """Return files as one array.

    They are joined along the dim whose labels differ, in the order of these labels: increasing, or decreasing if they
    decrease in each file. Labels that are text, or in no order within a file, keep the order of the files.

    Parameters
    ----------
    along : the dim; needed if it has no labels: the files are then joined in the order in which they are given
    overlap : of labels that two files have, whose values count: those of the first file that has them, or of the last
    attrs : of attributes and coordinates that differ, keep those of the first file, or drop them

    Raises
    ------
    DataError : the files differ, naming two of them, what differs, and both values
    OpError : ``along`` is no dim
    """
    first = found[0]
    if along is not None and along not in first.dims:
        hint = f"; its dims are {', '.join(first.dims)}{nearest(along, first.dims)}. For a new dim: matrix and op stack"
        raise OpError("along", f"{along!r} is no dim of {first.path}{hint}")
    if len(found) == 1:
        return Joined(found, xr.Dataset(coords=first.coords, attrs=first.attrs), first.dtype)
    for other in found[1:]:
        _require_kind(first, other)
    dim = along or _differing_dim(found)
    for other in found[1:]:
        _require_labels(first, other, dim)
    runs, order = order_of(found, dim, overlap)
    template = xr.Dataset(
        coords=_coordinates(found, dim, runs, attrs),
        attrs=_attributes([x.attrs for x in found], first.variable, found, attrs),
    )
    return Joined(found, template, _common_dtype(found), dim, runs, order)


def join_plain(found: Sequence[StoredArray], along: str | None, named: Sequence[str]) -> Joined:
    """Return files without labels as one array, in the order in which they are given.

    Parameters
    ----------
    along : the dim; None: the one in which sizes differ, else the first of ``named``, else the first

    Raises
    ------
    DataError : they differ in more than the length of that dim
    OpError : ``along`` is no dim
    """
    first = found[0]
    if along is None and len(found) > 1:
        for other in found[1:]:
            _require_dims(first, other)
        sizes = [dim for i, dim in enumerate(first.dims) if len({x.shape[i] for x in found}) > 1]
        along = (sizes if len(sizes) == 1 else [*named, *first.dims])[0]
    return join(found, along=along)


# ---------------------------------------------------------------------------------------------------------------------
# What must be equal
# ---------------------------------------------------------------------------------------------------------------------


def _require_dims(first: StoredArray, other: StoredArray) -> None:
    if not first.dims:
        raise DataError(f"{first.path}: is one number; several files are joined along a dim")
    if other.dims != first.dims:
        raise DataError(f"{other.path}: has dims {other.dims}, {first.path} has {first.dims}")


def _require_kind(first: StoredArray, other: StoredArray) -> None:
    """Check that two files have the same dims and the same kind of values; packing may make floats of whole numbers."""
    _require_dims(first, other)
    kinds = [_kind_text(x) for x in (first, other)]
    packed = first.raw == other.raw and {first.dtype.kind, other.dtype.kind} <= set("iuf")
    lossy = {first.dtype.kind, other.dtype.kind} == {"i", "u"} and np.result_type(first.dtype, other.dtype).kind == "f"
    if (kinds[0] != kinds[1] and not packed) or lossy:
        raise DataError(
            f"{other.path}: {first.variable!r} holds {kinds[1]} ({other.dtype}), in {first.path} {kinds[0]} "
            f"({first.dtype}). {BY_ITSELF}"
        )


def _kind_text(x: StoredArray) -> str:
    """Return the kind of the values; times in a calendar that numpy lacks are numbers with units of time."""
    if x.dtype.kind != "M" and " since " in str(x.attrs.get("units", "")):
        return f"times of the calendar {calendar_name(x.attrs)} as numbers"
    return KINDS.get(x.dtype.kind, str(x.dtype))


def _common_dtype(found: Sequence[StoredArray]) -> np.dtype[Any]:
    dtypes = {x.dtype for x in found}
    if {dtype.kind for dtype in dtypes} == {"M"} and np.dtype("M8[us]") in dtypes:
        return np.dtype("M8[us]")  # numpy's common type is ns, in which they may not fit
    return np.result_type(*dtypes) if len(dtypes) > 1 else found[0].dtype


def _same_labels(first: StoredArray, other: StoredArray, dim: str) -> bool:
    if first.shape[first.dims.index(dim)] != other.shape[first.dims.index(dim)]:
        return False
    mine, its = first.coords.get(dim), other.coords.get(dim)
    return mine is its if mine is None or its is None else _equal(mine, its)


def _equal(mine: xr.Variable, its: xr.Variable) -> bool:
    """Return whether two coordinates have the same values."""
    return mine is its or (calendar_of(mine.values) == calendar_of(its.values) and mine.equals(its))


def _differing_dim(found: Sequence[StoredArray]) -> str:
    """Return the one dim whose labels differ between the files.

    Raises
    ------
    DataError : there is none, or it has no labels to join by
    """
    first = found[0]
    differing = {dim: other for other in found[1:] for dim in first.dims if not _same_labels(first, other, dim)}
    if not differing:
        other, single = found[1], [str(name) for name, x in first.coords.items() if not x.dims]
        scalars = f" ({', '.join(single)} is one value in each file)" if single else ""
        raise DataError(
            f"{other.path} and {first.path} have the same labels along {', '.join(first.dims)}{scalars}, so that "
            f"nothing says along which dim they are joined. For a new dim, read each by itself, with a matrix over the "
            f"files, then op stack with input: x[*]; to join dim {first.dims[0]!r} in the order of the files: "
            f"along: {first.dims[0]}"
        )
    dim = next(iter(differing))
    if dim not in first.coords or dim not in differing[dim].coords:
        raise DataError(
            f"{differing[dim].path}: {dim!r} has another length than in {first.path}, and no labels that give an "
            f"order; to join the files in the order in which they are given: along: {dim}"
        )
    return dim


def _require_labels(first: StoredArray, other: StoredArray, but: str) -> None:
    for i, dim in enumerate(first.dims):
        if dim == but or _same_labels(first, other, dim):
            continue
        if first.shape[i] != other.shape[i]:
            values = f"{other.shape[i]} positions, {first.shape[i]}"
        else:
            values = " and ".join(_difference(x.coords.get(dim)) for x in (other, first))
        raise DataError(
            f"{other.path}: differs from {first.path} along {dim!r}, too ({values}); files are joined along one dim, "
            f"here {but!r}. If the labels differ by rounding alone: op align, for each file by itself"
        )


def _difference(labels: xr.Variable | None) -> str:
    return "no labels" if labels is None else ends_text(labels.values)


def _attributes(
    several: Sequence[Mapping[Any, Any]], name: str, found: Sequence[StoredArray], settled: Settled | None
) -> dict[Hashable, Any]:
    """Return the attributes that all files share.

    Raises
    ------
    DataError : one that says what the numbers mean differs, and the step doesn't settle it
    """
    first = several[0]
    kept = dict(first)
    for number, other in enumerate(several[1:], start=1):
        if other is first:
            continue
        for key in {**first, **other}:
            if _same_attribute(str(key), first.get(key), other.get(key)):
                continue
            if key in _MEANING and settled is None:
                raise DataError(
                    f"{found[number].path}: {key} of {name!r} is {_shown(other.get(key))}, in {found[0].path} "
                    f"{_shown(first.get(key))}. {BY_ITSELF}; or say what counts: attrs: first, or attrs: drop"
                )
            if key not in _MEANING or settled == "drop":
                kept.pop(key, None)
    return kept


def _same_attribute(key: str, mine: Any, its: Any) -> bool:
    if key == "calendar" and mine is not None and its is not None:
        return calendar_name({key: mine}) == calendar_name({key: its})
    return bool(np.array_equal(mine, its)) if mine is not None and its is not None else mine is its


def _shown(value: Any) -> str:
    return "not given" if value is None else repr(str(value))


def _coordinates(
    found: Sequence[StoredArray], dim: str, runs: Sequence[Run], settled: Settled | None
) -> dict[Hashable, xr.Variable]:
    """Return the coordinates of the joined array.

    Raises
    ------
    DataError : one differs, or only some files have it, and the step doesn't settle it
    """
    coords: dict[Hashable, xr.Variable] = {}
    for name in {name: None for x in found for name in x.coords}:
        several = [x.coords.get(name) for x in found]
        mine, odd = several[0], _first_odd(several, dim)
        if odd is not None and settled is None:
            raise DataError(
                f"{found[odd].path}: coordinate {name!r} is {_coordinate_text(several[odd])}, in {found[0].path} "
                f"{_coordinate_text(mine)}. {BY_ITSELF}; or say what counts: attrs: first, or attrs: drop"
            )
        if mine is None or (odd is not None and (settled == "drop" or dim in mine.dims)):
            continue
        same = [own for own in several if own is not None]
        attrs = _attributes([own.attrs for own in same], str(name), found, settled)
        values = mine.values if dim not in mine.dims else _along(same, mine.dims.index(dim), runs, str(name), found)
        coords[name] = xr.Variable(mine.dims, values, attrs)
    return coords


def _first_odd(several: Sequence[xr.Variable | None], dim: str) -> int | None:
    """Return the number of the first file whose coordinate does not go with that of the first file."""
    mine = several[0]
    for number, own in enumerate(several):
        if mine is None or own is None:
            if own is not mine:
                return number
        elif own.dims != mine.dims or (dim not in mine.dims and not _equal(mine, own)):
            return number
    return None


def _coordinate_text(own: xr.Variable | None) -> str:
    if own is None:
        return "missing"
    return f"{ends_text(own.values)}{f' ({calendar})' if (calendar := calendar_of(own.values)) else ''}"


def _along(
    several: Sequence[xr.Variable], axis: int, runs: Sequence[Run], name: str, found: Sequence[StoredArray]
) -> Values:
    """Return a coordinate that has the joined dim, one run after the other."""
    parts = [np.moveaxis(several[run.file].values, axis, 0)[run.start : run.stop] for run in runs]
    parts = parts or [np.moveaxis(several[0].values, axis, 0)]
    require_one_calendar([own.values for own in several], name, found)
    times = any(part.dtype.kind == "M" or calendar_of(part) for part in parts)
    return np.moveaxis(join_times(parts) if times else concatenated(parts), 0, axis)
