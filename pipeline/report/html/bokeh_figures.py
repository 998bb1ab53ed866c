"""What all Bokeh figures of the report share.

All text on them is a ``PlainText``: Bokeh takes a plain string with ``$$`` in it for TeX, and would fetch MathJax. What
is shown where the pointer is, Bokeh escapes itself. No callback in JavaScript is used: a page whose policy forbids
``eval`` could not run it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, PlainText, Range1d, Tool
from bokeh.models.annotations import Title
from bokeh.plotting import figure

from pipeline.graph.boxes import cut

__all__ = ["FONT", "columns", "labelled", "new", "span", "tips"]

FONT = "system-ui, sans-serif"


def new(title: str, height: int, *, tools: Sequence[Tool] = (), x_label: str = "") -> figure:
    """An empty figure in the manner of the page: as wide as there is room, no logo, dark text on white."""
    fig = figure(height=height)
    fig.tools = list(tools)
    fig.sizing_mode = "stretch_width"
    fig.toolbar.logo = None
    fig.toolbar_location = "above" if tools else None
    fig.outline_line_color = None
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
    """What a glyph draws: lists or arrays of one length, by name."""
    return ColumnDataSource(values)


def span(start: float, end: float, *, bounds: tuple[float, float] | None = None) -> Range1d:
    """The part of an axis that is shown, and what it can be moved in."""
    return Range1d(start=start, end=end, bounds=bounds)


def tips(fig: figure, drawn: Any, told: Mapping[str, str], **options: Any) -> None:
    """Show some columns of what is below the pointer: title -> ``@column``."""
    fig.add_tools(HoverTool(renderers=[drawn], tooltips=list(told.items()), visible=False, **options))


def labelled(fig: figure, labels: Sequence[str], *, most: int = 60) -> figure:
    """The figure with names on its rows, the first on top; of more than ``most`` rows some are named."""
    every = -(-len(labels) // most) if labels else 1
    ticks = list(range(0, len(labels), every))
    fig.y_range = span(len(labels) - 0.45, -0.55)
    fig.yaxis.ticker = FixedTicker(ticks=ticks)
    fig.yaxis.major_label_overrides = {i: PlainText(text=cut(labels[i], 24)) for i in ticks}
    fig.ygrid.grid_line_color = None
    return fig


__all__ = ["DARK", "FASTER", "LOSSES", "OTHER", "SLOWER", "UNCLEAR", "of_steps", "step_of"]

DARK = "#1a1a1a"
FASTER, SLOWER, UNCLEAR = "#0072B2", "#D55E00", "#8c8c8c"
OTHER = "#c4c4c4"

# The light ones first: most of what is drawn is of few steps, and the critical path is outlined in black on them.
_STEPS = ("#88CCEE", "#CC6677", "#DDCC77", "#44AA99", "#AA4499", "#999933", "#117733", "#332288", "#882255")

LOSSES: Mapping[str, str] = {
    "useful": "#0072B2",
    "task": "#0072B2",
    "inflation": "#D55E00",
    "runtime": "#CC79A7",
    "transfer": "#E69F00",
    "scheduling": "#F0E442",
    "dependency": "#56B4E9",
    "unexplained": "#333333",
}


def step_of(copy: str) -> str:
    """The step that a copy is of: copies share a colour.

    >>> step_of("fit[A1B]"), step_of("write summary")
    ('fit', 'write summary')
    """
    return copy.partition("[")[0] or copy


def of_steps(steps: Iterable[str]) -> dict[str, str]:
    """Step -> colour; the first nine have one of their own."""
    names = list(dict.fromkeys(steps))
    return {name: _STEPS[i] if i < len(_STEPS) else OTHER for i, name in enumerate(names)}
