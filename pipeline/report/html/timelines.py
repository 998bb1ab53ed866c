"""The timeline of a run: tasks by worker, the critical path, and the memory of workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import BoxZoomTool, Model, PanTool, Range1d, ResetTool, WheelZoomTool
from bokeh.plotting import figure
from bokeh.transform import linear_cmap

from pipeline.graph.drawing_layout import cut
from pipeline.report.html.bokeh_figures import DARK, OTHER, add_tooltip, axis_range, columns, label_rows, new
from pipeline.report.html.merged_bars import PIXELS, Bars, around, bars, memory
from pipeline.trace.lanes import lanes
from pipeline.trace.trace import Trace
from pipeline.units import bytes_text, duration_text

__all__ = ["Timeline", "timeline"]

_TOOLTIP = {
    "task": "@task",
    "step": "@step",
    "worker": "@worker",
    "start": "@start",
    "stop": "@stop",
    "in task": "@seconds",
    "bytes moved in": "@bytes_in",
    "bytes of the result": "@bytes_out",
}
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")


@dataclass(frozen=True)
class Timeline:
    """The drawn timeline of a run.

    Parameters
    ----------
    model : layout of Bokeh figures
    drawn : bars of the tasks
    has_memory : whether there is a figure of the memory
    """

    model: Model
    drawn: Bars
    has_memory: bool

    @property
    def merged(self) -> str:
        """Which bars were merged, in words; empty if none were."""
        drawn = self.drawn
        if not drawn.width:
            return ""
        neighbours = "neighbours on one worker" if drawn.mixed else "neighbours of one step on one worker"
        colour = " in the colour of the step with most seconds in it" if drawn.mixed else ""
        path = " and all tasks on the critical path" if drawn.path else ""
        return (
            f"{drawn.n_tasks:,} tasks are drawn as {len(drawn.n):,} bars: {neighbours} that are shorter than "
            f"{duration_text(drawn.width / 1e9)} share a bar{colour}; the {drawn.longest:,} longest tasks{path} have "
            "their own bars"
        )


def timeline(
    trace: Trace, path: Sequence[Mapping[str, Any]], colours: Mapping[str, str], *, most: int
) -> Timeline | None:
    """Draw tasks by worker, coloured by step, the critical path on them, and memory below; None without tasks.

    Parameters
    ----------
    path : segments of the critical path, as in ``report.json``
    colours : step -> colour
    most : largest number of bars
    """
    if not trace.tasks.num_rows:
        return None
    lines = lanes(trace)
    critical = {(s["key"], round(s["start"] * 1e9)) for s in path if s["kind"] == "compute"}
    drawn = bars(trace, lines, critical, most=most)
    first = min(0.0, trace.tasks["start"].to_numpy().min() / 1e9)
    last = max(trace.elapsed, trace.tasks["stop"].to_numpy().max() / 1e9)
    shown = axis_range(first, last * 1.002, bounds=(first, last * 1.05))
    fig = _tasks(trace, lines, drawn, colours, shown, most)
    _critical_path(fig, path, lines)
    figures = [fig]
    of_memory = _memory(trace, lines, shown, most)
    if of_memory is not None:
        figures.append(of_memory)
    return Timeline(column(*figures, sizing_mode="stretch_width"), drawn, of_memory is not None)


def _tasks(
    trace: Trace,
    lines: Sequence[Sequence[str]],
    drawn: Bars,
    colours: Mapping[str, str],
    shown: Range1d,
    most: int,
) -> figure:
    height = 80 + int(min(max(len(lines) * 26, 90), 900))
    fig = _in_time(height, "tasks by worker", shown)
    lane, start, stop = around(trace, lines, most=max(most // 3, 100))
    beside = columns(lane=lane.astype(np.int32), left=start / 1e9, right=stop / 1e9)
    fig.hbar(
        y="lane", left="left", right="right", height=0.24, source=beside,
        fill_color="#9a9a9a", line_color="#9a9a9a", line_width=0.3,
    )  # fmt: skip
    palette = [colours.get(step, OTHER) for step in drawn.steps]
    outline = 1.4 if drawn.critical.sum() < 150 else 0.8  # thinner for many tasks, which would be all black
    for on_path in (False, True):
        rows = np.flatnonzero(drawn.critical == on_path)
        if not len(rows):
            continue
        fill = linear_cmap("colour", palette, low=-0.5, high=len(palette) - 0.5)
        bar = fig.hbar(
            y="lane", left="left", right="right", height=0.78, source=_source(trace, drawn, rows),
            fill_color=fill, line_color=DARK if on_path else fill, line_width=outline if on_path else 0.5,
            name="critical" if on_path else "tasks",
        )  # fmt: skip
        add_tooltip(fig, bar, _TOOLTIP, point_policy="follow_mouse")
    return label_rows(fig, [", ".join(names) or "(idle)" for names in lines])


def _source(trace: Trace, drawn: Bars, rows: Any) -> Any:
    taken = trace.tasks.select(["key", "step", "worker"]).take(drawn.row[rows])
    keys, instances, workers = (taken[name].to_pylist() for name in ("key", "step", "worker"))
    counts, steps = drawn.n[rows].tolist(), drawn.step[rows].tolist()
    start, stop = drawn.start[rows], drawn.stop[rows]
    mostly = "mostly " if drawn.mixed else ""
    return columns(
        lane=drawn.lane[rows].astype(np.int32),
        left=start / 1e9,
        right=stop / 1e9,
        colour=drawn.step[rows].astype(np.int32),
        task=[cut(key, 60) if n == 1 else f"{n:,} tasks" for key, n in zip(keys, counts, strict=True)],
        step=[
            cut(instance, 40) if n == 1 else f"{mostly}{cut(drawn.steps[step], 40)}"
            for instance, n, step in zip(instances, counts, steps, strict=True)
        ],
        worker=[cut(worker, 30) for worker in workers],
        start=[_instant(t) for t in start.tolist()],
        stop=[_instant(t) for t in stop.tolist()],
        seconds=[duration_text(t / 1e9) for t in drawn.seconds[rows].tolist()],
        bytes_in=[bytes_text(n) for n in drawn.bytes_in[rows].tolist()],
        bytes_out=[bytes_text(n) for n in drawn.bytes_out[rows].tolist()],
    )


def _instant(ns: int) -> str:
    return f"{ns / 1e9:.6g} s"


def _critical_path(fig: figure, path: Sequence[Mapping[str, Any]], lines: Sequence[Sequence[str]]) -> None:
    """Draw the path as a line: solid in tasks and between workers, dashed while it waits."""
    lane_of = {name: i for i, names in enumerate(lines) for name in names}
    segments = [s for s in path if s["worker"] in lane_of]
    if not segments:
        return
    width = max(path[-1]["stop"] / PIXELS, 1e-9)
    if len(segments) > PIXELS:  # one in each pixel
        segments = list({int(s["start"] / width): s for s in segments}.values())
    solid: list[tuple[float, float, float, float]] = []
    waits: list[Mapping[str, Any]] = []
    before: int | None = None
    for segment in segments:
        lane = lane_of[segment["worker"]]
        if before is not None and before != lane:
            solid.append((segment["start"], segment["start"], before, lane))
        if segment["kind"] == "compute":
            solid.append((segment["start"], segment["stop"], lane, lane))
        else:
            waits.append(segment)
        before = lane
    ends = np.array(solid, dtype=np.float64).reshape(-1, 4)
    line = columns(x0=ends[:, 0], x1=ends[:, 1], y0=ends[:, 2], y1=ends[:, 3])
    fig.segment(x0="x0", x1="x1", y0="y0", y1="y1", source=line, line_color=DARK, line_width=1.6)
    source = columns(
        x0=np.array([s["start"] for s in waits], dtype=np.float64),
        x1=np.array([s["stop"] for s in waits], dtype=np.float64),
        y=np.array([lane_of[s["worker"]] for s in waits], dtype=np.int32),
        kind=[s["kind"] for s in waits],
        task=[cut(s["key"], 60) for s in waits],
        seconds=[duration_text(s["stop"] - s["start"]) for s in waits],
    )
    drawn = fig.segment(
        x0="x0", x1="x1", y0="y", y1="y", source=source, line_color=DARK, line_width=2, line_dash=[3, 2]
    )
    add_tooltip(fig, drawn, {"critical path": "@kind", "of task": "@task", "for": "@seconds"}, line_policy="interp")


def _memory(trace: Trace, lines: Sequence[Sequence[str]], shown: Range1d, most: int) -> figure | None:
    found = memory(trace, lines, most=most)
    if found is None:
        return None
    top = max(int(values.max()) for values in found.values if len(values))
    unit, name = next((unit, name) for unit, name in _UNITS if top >= unit)
    fig = _in_time(220, f"memory of the workers after each task, {name}", shown)
    some = [i for i, values in enumerate(found.values) if len(values)]
    source = columns(
        xs=[found.times[i] / 1e9 for i in some],
        ys=[found.values[i] / unit for i in some],
        worker=[cut(", ".join(lines[i]), 60) for i in some],
        colour=[_LINES[i % len(_LINES)] for i in some],
        most=[bytes_text(int(found.values[i].max())) for i in some],
    )
    drawn = fig.multi_line(
        xs="xs", ys="ys", source=source, line_color="colour", line_width=1.6, line_alpha=0.9 if len(some) < 20 else 0.4
    )
    short = [i for i in some if len(found.times[i]) < 3]  # too few points for a visible line
    dots = columns(
        x=[t / 1e9 for i in short for t in found.times[i].tolist()],
        y=[n / unit for i in short for n in found.values[i].tolist()],
    )
    fig.scatter("x", "y", source=dots, size=5, color=DARK)
    add_tooltip(fig, drawn, {"worker": "@worker", "at most": "@most", "here": f"$snap_y{{0.00}} {name}"})
    fig.y_range = axis_range(0, top / unit * 1.1)
    return fig


def _in_time(height: int, title: str, shown: Range1d) -> figure:
    """Return a figure over the time of a run: dragging or Ctrl + wheel zooms; the wheel alone scrolls the page."""
    zoom = BoxZoomTool(dimensions="width")
    tools = [
        zoom,
        PanTool(dimensions="width"),
        WheelZoomTool(dimensions="width", modifiers={"ctrl": True}),
        ResetTool(),
    ]
    fig = new(title, height, tools=tools, x_label="seconds since the first task was handed out")
    fig.x_range = shown
    fig.toolbar.active_drag = zoom
    fig.min_border_left = 110
    return fig
