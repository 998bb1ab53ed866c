"""The data of a plot: series and grids of plain numpy values, made of an array or a frame.

==========  =====================================================  ==================================================
plot        of an array                                            of a frame
==========  =====================================================  ==================================================
line, bar   ``x``: a dim, by default that of times, else the       ``x``: a column, by default the first of times, of
            longest; 2-D: a series for each label of the other     texts for bars, else the first; ``y``: columns, by
                                                                   default all numbers; ``by``: a series for each value
histogram   all values; 2-D with ``by``: for each of its labels    ``x``: a column of numbers; ``by`` as above
heatmap,    ``x`` and ``y``: its two dims                          ``x`` and ``y``: columns; the cells are the only
map                                                                other column
==========  =====================================================  ==================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError, nearest
from pipeline.graph.calendars import calendar_of
from pipeline.graph.column_types import family
from pipeline.outputs.plot_values import (
    Values,
    column_places,
    is_number,
    numbers,
    numbers_of,
    places,
    texts,
    with_numbers,
)

__all__ = ["LIMITS", "Axis", "Grid", "Series", "data_of"]

LIMITS = {"series": 20, "points": 200_000, "bars": 200, "values": 10_000_000, "cells": 4_000_000}
"""The most that a plot shows: series; points of lines; bars of a series; values of a histogram; cells of a map."""

_CURES = {
    "series": "choose some (sel, filter) or aggregate over 'by'",
    "points": "aggregate first (coarsen, resample, mean), or plot: histogram",
    "bars": "aggregate first (groupby, resample), keep the largest (nlargest), or plot: line",
    "values": "aggregate first, or take a sample",
    "cells": "aggregate first (coarsen, mean)",
}
_LATITUDES = ("lat", "latitude", "nav_lat")
_LONGITUDES = ("lon", "long", "longitude", "nav_lon")


@dataclass(frozen=True, eq=False)
class Axis:
    """Values along an axis: floats, ``datetime64`` or texts; and what they are, with the unit: ``temperature [K]``."""

    values: Values
    label: str = ""


@dataclass(frozen=True, eq=False)
class Series:
    """Lines, bars or histograms: of each its name, and its y (of a histogram: values) at its x.

    Parameters
    ----------
    by : what the names are
    """

    x_label: str
    y_label: str
    members: tuple[tuple[str, Values, Values], ...]
    by: str = ""


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells: ``values[i, j]`` is that at ``y.values[i]`` and ``x.values[j]``, nan where there is none."""

    x: Axis
    y: Axis
    values: Values
    label: str = ""


@dataclass(frozen=True)
class _Keys:
    """The keys of an output that choose what is drawn."""

    plot: str
    x: str = ""
    y: tuple[str, ...] = ()
    by: str = ""
    name: str = "value"


def data_of(value: Any, keys: Mapping[str, Any], name: str) -> Series | Grid:
    """Return what is drawn of an ``xarray.DataArray`` or a ``pyarrow.Table``.

    Parameters
    ----------
    keys : ``plot``, ``x``, ``y``, ``by`` of the output
    name : of the output, for values that have none

    Raises
    ------
    DataError : if the keys do not fit the value, or it is too large; with what to do
    """
    y = keys.get("y") or ()
    wanted = _Keys(
        keys["plot"], keys.get("x") or "", (y,) if isinstance(y, str) else tuple(y), keys.get("by") or "", name
    )
    made = _of_frame(value, wanted) if isinstance(value, pa.Table) else _of_array(value, wanted)
    _require_small(made, wanted.plot)
    return made


def _require_small(made: Series | Grid, plot: str) -> None:
    if isinstance(made, Grid):
        _limit("cells", made.values.size, plot)
        return
    _limit("series", len(made.members), plot)
    if plot == "bar":
        _limit("bars", max((len(x) for _, x, _ in made.members), default=0), plot)
    _limit("values" if plot == "histogram" else "points", sum(len(y) for _, _, y in made.members), plot)


def _limit(what: str, n: int, plot: str) -> None:
    if n > LIMITS[what]:
        raise DataError(f"plot: {plot} shows at most {LIMITS[what]:,} {what}, and there are {n:,}; {_CURES[what]}")


# ---------------------------------------------------------------------------------------------------------------------
# Arrays
# ---------------------------------------------------------------------------------------------------------------------


def _of_array(x: Any, keys: _Keys) -> Series | Grid:
    dims = [str(dim) for dim in x.dims]
    values = numbers(x.values, keys.name)
    label = _described({**x.attrs, **({"units": values[1]} if values[1] else {})}, keys.name)
    if len(dims) > 2:
        cure = "reduce it (mean), or pick positions: x[time=0]"
        raise DataError(f"plot: {keys.plot} takes 0 to 2 dims, and the array has {', '.join(dims)}; {cure}")
    if keys.plot in ("heatmap", "map"):
        return _grid_of_array(x, dims, values, label, keys)
    if keys.y:
        raise DataError(f"y: got {keys.y[0]!r}; an array has its values as y")
    if keys.by:
        _require("by", keys.by, dims)
    if keys.plot == "histogram":
        if keys.x:
            raise DataError(f"x: got {keys.x!r}; a histogram of an array is of its values")
        if not keys.by:
            return Series(label[1], "number", (("", np.zeros(0), values[0].ravel()),))
        rows = np.moveaxis(values[0], dims.index(keys.by), 0)
        names = texts(_coordinate(x, keys.by).values)
        members = tuple((n, np.zeros(0), row.ravel()) for n, row in zip(names, rows, strict=True))
        return Series(label[1], "number", members, keys.by)
    return _series_of_array(x, dims, values[0], label[1], keys)


def _series_of_array(x: Any, dims: list[str], values: Values, label: str, keys: _Keys) -> Series:
    if not dims:
        return Series("", label, (("", np.array([keys.name]), values.reshape(1)),))
    along = keys.x or _first_dim(x, [dim for dim in dims if dim != keys.by])
    _require("x", along, dims)
    axis = _coordinate(x, along)
    if len(dims) == 1:
        return Series(axis.label, label, (("", axis.values, values),))
    other = next(dim for dim in dims if dim != along)
    if keys.by and keys.by != other:
        raise DataError(f"by: got {keys.by!r}, which is x; the other dim is {other!r}")
    _limit("series", x.sizes[other], keys.plot)
    rows = np.moveaxis(values, dims.index(other), 0)
    names = texts(_coordinate(x, other).values)
    return Series(
        axis.label, label, tuple((name, axis.values, row) for name, row in zip(names, rows, strict=True)), other
    )


def _first_dim(x: Any, dims: Sequence[str]) -> str:
    times = [dim for dim in dims if _is_time(x, dim)]
    return times[0] if times else max(dims, key=lambda dim: x.sizes[dim])


def _is_time(x: Any, dim: str) -> bool:
    return dim in x.coords and (x.coords[dim].dtype.kind == "M" or bool(calendar_of(x.coords[dim].values)))


def _grid_of_array(x: Any, dims: list[str], values: tuple[Values, str], label: tuple[str, str], keys: _Keys) -> Grid:
    if len(dims) != 2:
        has = f"it has {', '.join(dims)}" if dims else "it has none"
        raise DataError(f"plot: {keys.plot} needs 2 dims, and {has}; reduce it (mean), or pick positions: x[time=0]")
    across, up = keys.x, keys.y[0] if keys.y else ""
    if keys.plot == "map":
        across = across or next((dim for dim in dims if _is_degrees(x, dim, _LONGITUDES, "east")), "")
        up = up or next((dim for dim in dims if _is_degrees(x, dim, _LATITUDES, "north")), "")
        if not across or not up:
            cure = f"name them: x: {dims[1]}, y: {dims[0]}, or write plot: heatmap"
            raise DataError(f"plot: map needs dims of longitude and latitude, and there are {', '.join(dims)}; {cure}")
    across = across or next(dim for dim in reversed(dims) if dim != up)
    up = up or next(dim for dim in dims if dim != across)
    for key, dim in (("x", across), ("y", up)):
        _require(key, dim, dims)
    if across == up:
        raise DataError(f"x and y are both {up!r}; the dims are {', '.join(dims)}")
    cells = values[0] if dims == [up, across] else values[0].T
    return Grid(_coordinate(x, across), _coordinate(x, up), cells, label[1])


def _is_degrees(x: Any, dim: str, names: Sequence[str], towards: str) -> bool:
    units = str(x.coords[dim].attrs.get("units", "")) if dim in x.coords else ""
    return dim.lower() in names or units.lower().rstrip("s").replace("degree_", "degrees_") in (f"degrees_{towards}",)


def _coordinate(x: Any, dim: str) -> Axis:
    """Return the labels of a dim, or its positions."""
    if dim not in x.coords or x.coords[dim].ndim != 1:
        return Axis(np.arange(x.sizes[dim], dtype=float), dim)
    coordinate = x.coords[dim]
    values, unit = places(coordinate.values)
    return Axis(values, _described({**coordinate.attrs, **({"units": unit} if unit else {})}, dim)[1])


def _described(attrs: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return what values are, and the same with their unit: ``air temperature [K]``."""
    what = str(attrs.get("long_name") or attrs.get("standard_name", "").replace("_", " ") or name)
    unit = str(attrs.get("units", ""))
    return what, f"{what} [{unit}]" if unit and unit != "1" and " since " not in unit else what


# ---------------------------------------------------------------------------------------------------------------------
# Frames
# ---------------------------------------------------------------------------------------------------------------------


def _of_frame(table: pa.Table, keys: _Keys) -> Series | Grid:
    table, labels = with_numbers(table)
    made = _drawn_of_frame(table, keys)
    if isinstance(made, Grid):
        x, y = (replace(axis, label=labels.get(axis.label, axis.label)) for axis in (made.x, made.y))
        return replace(made, x=x, y=y, label=labels.get(made.label, made.label))
    return replace(made, x_label=labels.get(made.x_label, made.x_label), y_label=labels.get(made.y_label, made.y_label))


def _drawn_of_frame(table: pa.Table, keys: _Keys) -> Series | Grid:
    for key, names in (("x", [keys.x]), ("y", keys.y), ("by", [keys.by])):
        for name in filter(None, names):
            _require(key, name, table.column_names, "column")
    if keys.plot in ("heatmap", "map"):
        return _grid_of_frame(table, keys)
    numeric = [
        name for name in table.column_names if name not in (keys.by,) and is_number(table.schema.field(name).type)
    ]
    if keys.plot == "histogram":
        x = keys.x or (keys.y[0] if len(keys.y) == 1 else numeric[0] if len(numeric) == 1 else "")
        if not x:
            raise DataError(f"plot: histogram needs a column: x: {_either(numeric)}")
        made = [(name, np.zeros(0), numbers_of(part, x)) for name, part in _parts(table, keys.by)]
        return Series(x, "number", tuple(made), keys.by)
    x = keys.x or _first_column(table, keys)
    y = list(keys.y) or [name for name in numeric if name != x]
    if not y:
        raise DataError(
            f"plot: {keys.plot} needs a column of numbers: y; the columns are {', '.join(table.column_names)}"
        )
    if keys.by and len(y) > 1:
        raise DataError(f"by: needs one column as y; there are {', '.join(y)}: y: {y[0]}")
    members = []
    for name, part in _parts(table, keys.by):
        places_, given = _sorted_places(part, x, keys.plot)
        members += [(name or column, places_, numbers_of(given, column)) for column in y]
    if len(y) == 1 and not keys.by:
        members = [("", at, found) for _, at, found in members]
    return Series(x, y[0] if len(y) == 1 else "", tuple(members), keys.by)


def _first_column(table: pa.Table, keys: _Keys) -> str:
    free = [field for field in table.schema if field.name not in (*keys.y, keys.by)]
    wanted = ("time", "zoned time", "date") if keys.plot == "line" else ("text", "time", "zoned time", "date")
    chosen = next((field.name for field in free if family(field.type) in wanted), "")
    if not chosen and not free:
        raise DataError(f"plot: {keys.plot} needs a column as x; the columns are {', '.join(table.column_names)}")
    return chosen or str(free[0].name)


def _sorted_places(table: pa.Table, x: str, plot: str) -> tuple[Values, pa.Table]:
    """Return the places along x in ascending order, texts in that of the rows, and the rows in the same order.

    Rows without a place are left out.
    """
    table = table.filter(pc.is_valid(table.column(x)))
    values = column_places(table, x)
    order = np.arange(len(values)) if values.dtype.kind == "U" else np.argsort(values, kind="stable")
    order = order[~np.isnan(values[order])] if values.dtype.kind == "f" else order
    values, table = values[order], table.take(pa.array(order))
    if plot == "bar":
        found, counts = np.unique(values, return_counts=True)
        repeated = found[counts > 1]
        if len(repeated):
            cure = "aggregate first (groupby), or name the column that tells them apart: by"
            name = texts(repeated[:1])[0]
            raise DataError(f"plot: bar needs one row for each {x!r}, and {name!r} has several; {cure}")
    return values, table


def _parts(table: pa.Table, by: str) -> list[tuple[str, pa.Table]]:
    """Return the rows of each value of a column, in the order of the values, the missing one last."""
    if not by:
        return [("", table)]
    column = table.column(by)
    found = column.unique()
    _limit("series", len(found), "series of one")
    order = sorted(found.to_pylist(), key=lambda value: (value is None, value))
    masks = [
        pc.is_null(column) if value is None else pc.equal(column, pa.scalar(value, column.type)) for value in order
    ]
    names = ["missing" if value is None else str(value) for value in order]
    return [(name, table.filter(mask)) for name, mask in zip(names, masks, strict=True)]


def _grid_of_frame(table: pa.Table, keys: _Keys) -> Grid:
    names = {name.lower(): name for name in table.column_names}
    x, y = keys.x, keys.y[0] if keys.y else ""
    if keys.plot == "map":
        x = x or next((names[name] for name in _LONGITUDES if name in names), "")
        y = y or next((names[name] for name in _LATITUDES if name in names), "")
    if not x or not y:
        raise DataError(
            f"plot: {keys.plot} of a frame needs two columns: x and y; there are {', '.join(names.values())}"
        )
    rest = [f.name for f in table.schema if f.name not in (x, y) and is_number(f.type)]
    if len(rest) != 1:
        cure = f"choose the columns: {{op: select, columns: [{x}, {y}, …]}}"
        has = f"there are {', '.join(rest) or 'none'}"
        raise DataError(f"plot: {keys.plot} needs one column of numbers besides {x} and {y}, and {has}; {cure}")
    table = table.filter(pc.and_(pc.is_valid(table.column(x)), pc.is_valid(table.column(y))))
    across, column = _distinct(column_places(table, x))
    up, row = _distinct(column_places(table, y))
    _limit("cells", len(across) * len(up), keys.plot)
    cells = row * len(across) + column
    if len(np.unique(cells)) < len(cells):
        raise DataError(f"plot: {keys.plot} needs one row for each {x} and {y}, and some have several; aggregate first "
                        "(groupby)")  # fmt: skip
    values = np.full(len(across) * len(up), np.nan)
    values[cells] = numbers_of(table, rest[0])
    return Grid(Axis(across, x), Axis(up, y), values.reshape(len(up), len(across)), rest[0])


def _distinct(values: Values) -> tuple[Values, Values]:
    """Return the different values in ascending order, texts in that of the rows, and of each value its position."""
    found, first, position = np.unique(values, return_index=True, return_inverse=True)
    if values.dtype.kind != "U":
        return found, position
    order = np.argsort(first)
    return found[order], np.argsort(order)[position]


def _require(key: str, name: str, known: Sequence[str], what: str = "dim") -> None:
    if name not in known:
        raise DataError(f"{key}: {name!r} is no {what}; there are {', '.join(known) or 'none'}{nearest(name, known)}")


def _either(names: Sequence[str]) -> str:
    return " or ".join(names[:5]) or "there is none of numbers"
