"""Write plots of arrays and frames as PNG or SVG, by Matplotlib's Figure and never its global state.

The same value gives the same bytes: no times are written, and a user's settings of Matplotlib do not count.
"""

from __future__ import annotations

import importlib.util
import io
import math
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError, OpError
from pipeline.graph.collect import collect, fitting_coords
from pipeline.graph.column_types import empty_table
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode
from pipeline.graph.value_types import ArrayType, FrameType, ValueType
from pipeline.outputs.files import Context, PartRecord, writing
from pipeline.outputs.plot_data import LIMITS, Axis, Grid, Series, data_of
from pipeline.outputs.plot_values import Values, texts
from pipeline.outputs.whole_values import plan_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["drawn", "plan_plot", "write_plot"]

_INCHES, _DPI = (8.0, 4.5), 150
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pipeline",
    "text.parse_math": False,  # a name may have a $
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_ROWS = 10_000_000  # of a frame that goes whole into the task
_FEW_POINTS = 60  # up to which the points of a line are marked
_MOST_LABELS = 30
_RASTER = 10_000  # cells from which those of an SVG are a picture in it
_lock = threading.Lock()  # Matplotlib's settings are of the process


# ---------------------------------------------------------------------------------------------------------------------
# While building
# ---------------------------------------------------------------------------------------------------------------------


def plan_plot(
    value_type: ValueType, prefix: str, form: str, path: str, name: str, keys: Mapping[str, Any]
) -> tuple[dict[Key, GraphNode], list[Key]]:
    """Return the task that draws a value, and its key.

    Parameters
    ----------
    name : of the output
    keys : ``plot``, ``x``, ``y``, ``by``, ``title``

    Raises
    ------
    OpError : Matplotlib is missing, the keys do not fit the value, or it is too large, as far as its size is known
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise OpError("to", f"{form} needs Matplotlib: pip install 'pipeline[plot]'")
    if isinstance(value_type, ArrayType):
        n, most = math.prod(sum(sizes) for sizes in value_type.chunks), LIMITS["values"]
        if n > most:
            raise OpError("plot", _too_large("an array", n, most, "values", "aggregate first (coarsen, mean)"))
    if isinstance(value_type, FrameType) and value_type.lengths and sum(value_type.lengths) > _ROWS:
        cure = "aggregate first (groupby, resample), or take a sample"
        raise OpError("plot", _too_large("a frame", sum(value_type.lengths), _ROWS, "rows", cure))
    sample = _sample(value_type)
    if sample is not None:
        try:
            data_of(sample, keys, name)
        except DataError as error:
            raise OpError("plot", str(error)) from error
    return plan_whole(value_type, prefix, write_plot, form, path, name, dict(keys))


def _sample(value_type: ValueType) -> Any:
    """Return a value with the dims, coordinates and columns of a type, and hardly any data; None of another kind."""
    if isinstance(value_type, FrameType):
        return empty_table(value_type.schema)
    if not isinstance(value_type, ArrayType):
        return None
    import xarray as xr

    first = {str(dim): slice(0, 1) for dim in value_type.template.dims}
    coords = fitting_coords(value_type.template.isel(first), dict.fromkeys(value_type.dims, 1))
    return xr.DataArray(np.zeros([1] * len(value_type.dims), value_type.dtype), coords, value_type.dims)


def _too_large(what: str, n: float, most: int, unit: str, cure: str) -> str:
    return f"a plot takes {what} of at most {most:,} {unit}, and this one has {int(n):,}; {cure}"


# ---------------------------------------------------------------------------------------------------------------------
# In the task
# ---------------------------------------------------------------------------------------------------------------------


def write_plot(
    results: Sequence[Any],
    value_type: ValueType,
    form: str,
    path: str,
    name: str,
    keys: Mapping[str, Any],
    context: Context,
) -> PartRecord:
    """Draw a whole value, and write it as one file.

    Raises
    ------
    DataError : if the keys do not fit the value, or it is too large
    """
    value = collect(value_type, dict(zip(value_type.keys, results, strict=True)), frames="arrow")
    if isinstance(value, pa.Table) and len(value) > _ROWS:
        raise DataError(_too_large("a frame", len(value), _ROWS, "rows", "aggregate first (groupby, resample)"))
    data = drawn(value, form, name, keys)
    with writing(context, path) as written:
        written.file.write(data)
    return PartRecord((), (written.record,), len(value) if isinstance(value, pa.Table) else int(value.size))


def drawn(value: Any, form: str, name: str, keys: Mapping[str, Any]) -> bytes:
    """Return the picture of an ``xarray.DataArray`` or a ``pyarrow.Table``, ``form``: png or svg."""
    data = data_of(value, keys, name)
    import matplotlib as mpl  # heavy, and an extra
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith(("backend", "interactive", "toolbar"))
    }
    with _lock, warnings.catch_warnings(), mpl.rc_context():
        warnings.simplefilter("ignore")  # of glyphs that the font lacks, and of settings that will go
        mpl.rcParams.update(settings | _SETTINGS)
        figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
        axes = figure.add_subplot()
        missing = (
            _grid(figure, axes, data, keys["plot"]) if isinstance(data, Grid) else _series(axes, data, keys["plot"])
        )
        if keys.get("title"):
            axes.set_title(str(keys["title"]))
        if missing:
            figure.supxlabel(missing, fontsize=7, color="0.45", x=0.995, ha="right")
        file = io.BytesIO()
        # neither the time nor the version is written
        about = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
        figure.savefig(file, format=form, metadata=about)
    return file.getvalue()


# ---- lines, bars, histograms


def _series(axes: Axes, data: Series, plot: str) -> str:
    """Draw series; return how many values are missing, as text."""
    axes.set_xlabel(data.x_label)
    axes.set_ylabel(data.y_label)
    everything = np.concatenate([y for _, _, y in data.members]) if data.members else np.zeros(0)
    if not np.isfinite(everything).any():
        _no_data(axes, everything.size)
        return ""
    {"line": _lines, "bar": _bars, "histogram": _histograms}[plot](axes, data)
    if any(name for name, _, _ in data.members):
        outside: dict[str, Any] = {}
        if len(data.members) > 5:
            outside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        axes.legend(title=data.by or None, fontsize="small", frameon=False, **outside)
    return _missing(everything)


def _lines(axes: Axes, data: Series) -> None:
    at = _categories(data)
    for i, (name, x, y) in enumerate(data.members):
        where: Any = np.array([at[text] for text in x]) if at else x
        marker: dict[str, Any] = (
            {"marker": "o", "markersize": 3.5} if len(y) <= _FEW_POINTS or _has_lone_points(y) else {}
        )
        axes.plot(where, y, label=name or None, linewidth=1.3, color=_color(i), **marker)
    axes.margins(x=0.02)
    axes.grid(color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    _label(axes, data, at)


def _has_lone_points(y: Values) -> bool:
    """Return whether a value has a missing one on both sides: a line alone would not show it."""
    there = np.concatenate([[False], np.isfinite(y), [False]])
    return bool((there[1:-1] & ~there[:-2] & ~there[2:]).any())


def _bars(axes: Axes, data: Series) -> None:
    at = _categories(data) or {x: float(i) for i, x in enumerate(sorted({x for _, xs, _ in data.members for x in xs}))}
    width = 0.8 / len(data.members)
    for i, (name, x, y) in enumerate(data.members):
        where = np.array([at[one] for one in x]) + (i - (len(data.members) - 1) / 2) * width
        axes.bar(where, np.nan_to_num(y), width=width, label=name or None, color=_color(i))
    axes.axhline(0, color="0.2", linewidth=0.8)
    axes.grid(axis="y", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    keys = np.array(list(at))
    _ticks(axes, [at[one] for one in at], texts(keys))


def _histograms(axes: Axes, data: Series) -> None:
    values = [y[np.isfinite(y)] for _, _, y in data.members]
    together = np.concatenate(values)
    edges = np.histogram_bin_edges(together, bins=min(100, max(5, round(2 * len(together) ** (1 / 3)))))
    several = len(values) > 1
    for i, ((name, _, _), some) in enumerate(zip(data.members, values, strict=True)):
        counts, _ = np.histogram(some, edges)
        axes.stairs(counts, edges, fill=not several, label=name or None, color=_color(i), linewidth=1.5)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)


def _color(i: int) -> str:
    return (
        f"C{i}"
        if i < 10
        else ("0.2", "0.5", "gold", "navy", "lime", "salmon", "teal", "indigo", "tan", "crimson")[i - 10]
    )


def _categories(data: Series) -> dict[Any, float]:
    """Return text -> its place along x, in the order of the series; empty where x has numbers or times."""
    if not any(x.dtype.kind == "U" for _, x, _ in data.members):
        return {}
    return {text: float(i) for i, text in enumerate(dict.fromkeys(str(one) for _, x, _ in data.members for one in x))}


def _label(axes: Axes, data: Series, at: Mapping[Any, float]) -> None:
    if at:
        _ticks(axes, list(at.values()), list(at))
    elif any(x.dtype.kind == "M" for _, x, _ in data.members):
        _dates(axes.xaxis)


def _dates(axis: Any) -> None:
    from matplotlib import dates

    locator: Any = dates.AutoDateLocator()
    axis.set_major_locator(locator)
    axis.set_major_formatter(dates.ConciseDateFormatter(locator))


def _ticks(axes: Axes, where: Sequence[float], labels: Sequence[str], *, y: bool = False) -> None:
    """Label places by texts, not more than there is room for."""
    step = -(-len(labels) // _MOST_LABELS) or 1
    chosen = [text if len(text) <= 24 else f"{text[:23]}…" for text in labels[::step]]
    long = not y and sum(map(len, chosen)) > 70
    rotation: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
    (axes.set_yticks if y else axes.set_xticks)(list(where[::step]), chosen, **rotation)


# ---- heat maps and maps


def _grid(figure: Figure, axes: Axes, data: Grid, plot: str) -> str:
    """Draw cells; return how many values are missing, as text."""
    axes.set_xlabel(data.x.label)
    axes.set_ylabel(data.y.label)
    there = data.values[np.isfinite(data.values)]
    if not there.size:
        _no_data(axes, data.values.size)
        return ""
    import matplotlib as mpl

    low, high = float(there.min()), float(there.max())
    changes_sign = low < 0 < high
    most = max(-low, high)
    limits = (-most, most) if changes_sign else (low, high) if low < high else (low - 0.5, high + 0.5)
    colors = mpl.colormaps["RdBu_r" if changes_sign else "viridis"].copy()
    colors.set_bad("0.85")
    cells = axes.pcolormesh(
        _edges(data.x),
        _edges(data.y),
        np.ma.masked_invalid(data.values),
        cmap=colors,
        vmin=limits[0],
        vmax=limits[1],
        rasterized=data.values.size > _RASTER,
    )
    figure.colorbar(cells, ax=axes, label=data.label)
    axes.set_facecolor("0.85")
    for axis, edge, is_y in ((data.x, axes.xaxis, False), (data.y, axes.yaxis, True)):
        if axis.values.dtype.kind == "M":
            _dates(edge)
        elif axis.values.dtype.kind == "U":
            _ticks(axes, list(range(len(axis.values))), list(axis.values), y=is_y)
    if plot == "map":
        middle = math.radians(float(np.nanmean(data.y.values))) if data.y.values.dtype.kind == "f" else 0.0
        axes.set_aspect(1 / max(math.cos(middle), 0.2))
    return _missing(data.values)


def _edges(axis: Axis) -> Values:
    """Return the edges of the cells along an axis: halfway between their centres."""
    values = axis.values
    if values.dtype.kind == "U":
        return np.arange(len(values) + 1) - 0.5
    if values.dtype.kind == "M":
        from matplotlib import dates

        values = np.asarray(dates.date2num(values))
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    between = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - between[0]], between, [2 * values[-1] - between[-1]]])


# ---- both


def _no_data(axes: Axes, n: int) -> None:
    """Say that there is nothing to see."""
    axes.set_xticks([])
    axes.set_yticks([])
    text = f"all {n:,} values are missing" if n else "no data"
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.4")


def _missing(values: Values) -> str:
    n = int(values.size - np.isfinite(values).sum())
    return f"{n:,} of {values.size:,} values are missing" if n else ""
