"""The charts of a comparison as Bokeh figures: elapsed time, speedup, core-seconds, scaling laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.core.properties import value
from bokeh.plotting import figure

from pipeline.graph.drawing_layout import cut
from pipeline.report.html.bokeh_figures import (
    DARK,
    FASTER,
    FONT,
    LOSSES,
    ON_LIGHT,
    SLOWER,
    UNCLEAR,
    add_tooltip,
    axis_range,
    columns,
    label_rows,
    new,
)
from pipeline.units import digits, ratio_text

__all__ = ["elapsed", "losses", "row_colour", "scaling", "speedup"]

_ROW, _MARGIN = 26, 70  # heights in pixels: a bar with its gap; title and axis


def elapsed(rows: Sequence[Mapping[str, Any]]) -> figure:
    """Draw the elapsed seconds of each row that ran, with intervals."""
    drawn = [row for row in rows if row.get("elapsed")]
    colours = [row_colour(row) if row.get("speedup") else UNCLEAR for row in drawn]
    return _bars(drawn, [row["elapsed"] for row in drawn], colours, title="elapsed, seconds", suffix=" s")


def speedup(rows: Sequence[Mapping[str, Any]]) -> figure:
    """Draw the speedup of each row over the reference, with intervals, and a mark at the number of workers."""
    drawn = [row for row in rows if row.get("speedup")]
    colours = [row_colour(row) for row in drawn]
    fig = _bars(drawn, [row["speedup"] for row in drawn], colours, title="speedup over the reference", suffix="x")
    most = max([1.0, *(float(row["workers"]) for row in drawn), *(_high(row["speedup"]) for row in drawn)])
    fig.x_range = axis_range(0, most * 1.06)
    fig.vspan(x=[1], line_color=DARK, line_dash="dashed", line_width=1)
    y = list(range(len(drawn)))
    fig.segment(
        x0=[row["workers"] for row in drawn],
        x1=[row["workers"] for row in drawn],
        y0=[i - 0.42 for i in y],
        y1=[i + 0.42 for i in y],
        line_color=DARK,
        line_width=2,
    )
    return fig


def row_colour(row: Mapping[str, Any]) -> str:
    """Return the colour of a row: grey if no difference to the reference is shown."""
    if not row.get("differs"):
        return UNCLEAR
    return FASTER if row["speedup"]["value"] >= 1 else SLOWER


def losses(accounts: Sequence[Mapping[str, Any]]) -> figure:
    """Draw the core-seconds of each account, stacked by class; negative inflation is left of 0."""
    labels = [account.get("case", account["backend"]) for account in accounts]
    fig = new("core-seconds: the parts of workers x elapsed", _MARGIN + _ROW * len(labels))
    left, right = [0.0] * len(labels), [0.0] * len(labels)
    for name, colour in LOSSES.items():
        bars = []
        for i, account in enumerate(accounts):
            loss = (account["losses"] or {}).get(name)
            if not loss or not loss["seconds"]:
                continue
            side = right if loss["seconds"] > 0 else left
            bars.append((i, side[i], side[i] + loss["seconds"], f"{loss['percent']}%", loss["seconds"]))
            side[i] += loss["seconds"]
        if bars:
            _stack(fig, name, colour, bars, labels)
    whole = [account["workers"] * account["elapsed"] for account in accounts]
    y = list(range(len(labels)))
    fig.segment(x0=whole, x1=whole, y0=[i - 0.45 for i in y], y1=[i + 0.45 for i in y], line_color=DARK, line_width=2)
    least, most = min([0.0, *left]), max([*right, *whole, 1e-9])
    fig.x_range = axis_range(least * 1.05, most * 1.03)
    _percents(fig, accounts, most - least)
    return label_rows(fig, labels)


def _stack(
    fig: figure, name: str, colour: str, bars: Sequence[tuple[int, float, float, str, float]], labels: Sequence[str]
) -> None:
    source = columns(
        y=[bar[0] for bar in bars],
        left=[min(bar[1], bar[2]) for bar in bars],
        right=[max(bar[1], bar[2]) for bar in bars],
        percent=[bar[3] for bar in bars],
        seconds=[f"{digits(bar[4])} s" for bar in bars],
        what=[name] * len(bars),
        case=[labels[bar[0]] for bar in bars],
    )
    drawn = fig.hbar(
        y="y", left="left", right="right", height=0.72, source=source, fill_color=colour, line_color="white"
    )
    rows = {"back end": "@case", "what": "@what", "core-seconds": "@seconds", "of workers x elapsed": "@percent"}
    add_tooltip(fig, drawn, rows)


def _percents(fig: figure, accounts: Sequence[Mapping[str, Any]], whole: float) -> None:
    """Write percentages into the bars that are wide enough."""
    x, y, text, colour = [], [], [], []
    for i, account in enumerate(accounts):
        at = 0.0
        for name, tint in LOSSES.items():
            loss = (account["losses"] or {}).get(name)
            if not loss or loss["seconds"] <= 0:
                continue
            if loss["seconds"] > 0.045 * whole:
                x.append(at + loss["seconds"] / 2)
                y.append(i)
                text.append(f"{loss['percent']}%")
                colour.append("white" if tint in ("#0072B2", "#5a5a5a", "#D55E00") else ON_LIGHT)
            at += loss["seconds"]
    source = columns(x=x, y=y, text=text, colour=colour)
    fig.text(
        x="x", y="y", text="text", text_color="colour", source=source, text_align="center", text_baseline="middle",
        text_font_size="12px", text_font=value(FONT),
    )  # fmt: skip


def scaling(law: Mapping[str, Any]) -> figure:
    """Draw the measured speedups of one back end, and the fitted laws, dashed beyond the measurements."""
    fig = new(cut(f"{law['backend']}: speedup by workers", 60), 330, x_label="workers")
    most = max([1, *(point["workers"] for point in law["points"]), *(point["workers"] for point in law["curve"])])
    fig.line([1, most], [1, most], line_color=UNCLEAR, line_dash="dotted", legend_label="linear speedup")
    for model, colour, name in (("amdahl", "#D55E00", "Amdahl"), ("usl", "#009E73", "USL")):
        curve = sorted((p for p in law["curve"] if p["model"] == model), key=lambda p: p["workers"])
        inside = [p for p in curve if not p["extrapolated"]]
        beyond = [*inside[-1:], *(p for p in curve if p["extrapolated"])]
        for part, dash, more in ((inside, "solid", ""), (beyond, "dashed", ", extrapolated")):
            if len(part) > 1:
                x, y = [p["workers"] for p in part], [p["speedup"] for p in part]
                fig.line(x, y, line_color=colour, line_width=2, line_dash=dash, legend_label=f"{name}{more}")
    speedups = [p["speedup"] for p in law["points"]]
    source = columns(x=[p["workers"] for p in law["points"]], y=speedups, text=[ratio_text(s) for s in speedups])
    drawn = fig.scatter("x", "y", source=source, size=9, color=FASTER, legend_label="measured")
    add_tooltip(fig, drawn, {"workers": "@x", "speedup": "@text"})
    top = max([1.0, *speedups, *(p["speedup"] for p in law["curve"])])
    fig.x_range, fig.y_range = axis_range(0, most * 1.03), axis_range(0, top * 1.3)
    fig.add_layout(fig.legend[0], "right")  # beside the chart, where it does not cover lines
    fig.legend.label_text_font_size = "12px"
    fig.legend.label_text_color = DARK
    fig.legend.border_line_color = fig.legend.background_fill_color = None
    return fig


def _bars(
    rows: Sequence[Mapping[str, Any]],
    intervals: Sequence[Mapping[str, Any]],
    colours: Sequence[str],
    *,
    title: str,
    suffix: str,
) -> figure:
    fig = new(title, _MARGIN + _ROW * len(rows))
    labels = [row.get("label", row["backend"]) for row in rows]
    known = [(i, x) for i, x in enumerate(intervals) if x["low"] is not None and x["high"] is not None]
    source = columns(
        y=list(range(len(rows))),
        value=[x["value"] for x in intervals],
        colour=list(colours),
        label=labels,
        median=[f"{digits(x['value'])}{suffix}" for x in intervals],
        bounds=["-" if x["low"] is None else f"{digits(x['low'])} to {digits(x['high'])}" for x in intervals],
        confidence=["-" if x["low"] is None else f"{x['confidence']:.0%}" for x in intervals],
        n=[x["n"] for x in intervals],
    )
    drawn = fig.hbar(y="y", right="value", height=0.66, color="colour", source=source)
    shown = {
        "back end": "@label",
        "median": "@median",
        "interval": "@bounds",
        "confidence": "@confidence",
        "runs": "@n",
    }
    add_tooltip(fig, drawn, shown)
    low, high, y = [x["low"] for _, x in known], [x["high"] for _, x in known], [i for i, _ in known]
    fig.segment(x0=low, x1=high, y0=y, y1=y, line_color=DARK, line_width=2)
    for end in (low, high):
        fig.segment(x0=end, x1=end, y0=[i - 0.18 for i in y], y1=[i + 0.18 for i in y], line_color=DARK, line_width=2)
    fig.x_range = axis_range(0, max([1e-9, *(_high(x) for x in intervals)]) * 1.06)
    return label_rows(fig, labels)


def _high(interval: Mapping[str, Any]) -> float:
    return float(interval["value"] if interval["high"] is None else interval["high"])
