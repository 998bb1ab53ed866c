"""Parts that all Bokeh figures of the report share: an empty figure, axes, tooltips, and colours.

All text on figures is a ``PlainText``: Bokeh would treat a string that contains ``$$`` as TeX and fetch MathJax. Bokeh
escapes the text of tooltips itself. There are no JavaScript callbacks, since the page's policy forbids ``eval``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, PlainText, Range1d, Tool
from bokeh.models.annotations import Title
from bokeh.plotting import figure

from pipeline.graph.drawing_layout import cut

__all__ = ["DARK", "FASTER", "FONT", "LOSSES", "ON_LIGHT", "OTHER", "SLOWER", "UNCLEAR", "add_tooltip",
           "axis_range", "columns", "label_rows", "new", "step_colours", "step_of"]  # fmt: skip

FONT = "system-ui, sans-serif"


def new(title: str, height: int, *, tools: Sequence[Tool] = (), x_label: str = "") -> figure:
    """Return an empty figure in the style of the page, as wide as its container."""
    fig = figure(height=height)
    fig.tools = list(tools)
    fig.sizing_mode = "stretch_width"
    fig.toolbar.logo = None
    fig.toolbar_location = "above" if tools else None
    fig.outline_line_color = fig.background_fill_color = fig.border_fill_color = None
    fig.title = Title(
        text=PlainText(text=title), text_font=FONT, text_font_size="13px", text_color=DARK, text_font_style="bold"
    )
    for axis in (*fig.xaxis, *fig.yaxis):
        axis.major_label_text_font = axis.axis_label_text_font = FONT
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "12px"
        axis.major_label_text_color = axis.axis_label_text_color = DARK
        axis.axis_label_text_font_style = "normal"
        axis.minor_tick_line_color = None
        axis.axis_line_color = "#888888"
    fig.xaxis.axis_label = PlainText(text=x_label) if x_label else None
    fig.xgrid.grid_line_color = fig.ygrid.grid_line_color = "#e4e4e4"
    return fig


def columns(**values: Any) -> ColumnDataSource:
    """Return the data of a glyph: lists or arrays of equal length, by name."""
    return ColumnDataSource(values)


def axis_range(start: float, end: float, *, bounds: tuple[float, float] | None = None) -> Range1d:
    """Return the visible part of an axis, and the bounds within which it can be moved."""
    return Range1d(start=start, end=end, bounds=bounds)


def add_tooltip(fig: figure, glyph: Any, rows: Mapping[str, str], **options: Any) -> None:
    """Add a tooltip to a glyph; ``rows`` maps titles to ``@column``."""
    fig.add_tools(HoverTool(renderers=[glyph], tooltips=list(rows.items()), visible=False, **options))


def label_rows(fig: figure, labels: Sequence[str], *, most: int = 60) -> figure:
    """Label the rows of a figure, the first at the top, with at most about ``most`` labels; return the figure."""
    every = -(-len(labels) // most) if labels else 1
    ticks = list(range(0, len(labels), every))
    fig.y_range = axis_range(len(labels) - 0.45, -0.55)
    fig.yaxis.ticker = FixedTicker(ticks=ticks)
    fig.yaxis.major_label_overrides = {i: PlainText(text=cut(labels[i], 24)) for i in ticks}
    fig.ygrid.grid_line_color = None
    return fig


DARK = "#1a1a1a"
"""Text and lines; the page draws them light if the reader prefers a dark one."""
ON_LIGHT = "#111111"
"""Text on light bars, on every page."""
FASTER, SLOWER, UNCLEAR = "#0072B2", "#D55E00", "#8c8c8c"
OTHER = "#c4c4c4"

# Light colours first: most graphs have few steps, and the critical path is outlined in black.
_STEPS = ("#88CCEE", "#CC6677", "#DDCC77", "#44AA99", "#AA4499", "#999933", "#117733", "#332288", "#882255")

LOSSES: Mapping[str, str] = {
    "useful": "#0072B2",
    "task": "#0072B2",
    "inflation": "#D55E00",
    "runtime": "#CC79A7",
    "transfer": "#E69F00",
    "scheduling": "#F0E442",
    "limit": "#009E73",
    "dependency": "#56B4E9",
    "unexplained": "#5a5a5a",
}


def step_of(instance: str) -> str:
    """Return the step of an instance; all instances of a step have the same colour.

    >>> step_of("fit[A1B]"), step_of("write summary")
    ('fit', 'write summary')
    """
    return instance.partition("[")[0] or instance


def step_colours(steps: Iterable[str]) -> dict[str, str]:
    """Return step -> colour; the first nine steps have distinct colours, the others share one."""
    names = list(dict.fromkeys(steps))
    return {name: _STEPS[i] if i < len(_STEPS) else OTHER for i, name in enumerate(names)}
