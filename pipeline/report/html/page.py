"""``report.html``: a run folder's ``report.json`` and Traces as one page that needs nothing else.

The page loads nothing: its policy (a Content-Security-Policy in its head) allows the two scripts that are written into
it, by their hashes, and no others, so that a script that got in by a name would not run even if it were not escaped.
All text goes through Jinja2's escaping; what the charts draw is one block of JSON in which ``<``, ``>`` and ``&`` are
written as numbers, so that no name can end it.

Rejected: ``bokeh.embed.file_html`` (its template has no policy, and scripts that hold the data), Bokeh's tables and
tabs (0.7 MB of scripts for what HTML can do, and unreadable without them).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import Model
from bokeh.resources import Resources
from markupsafe import Markup, escape

from pipeline.errors import printable
from pipeline.graph import boxes
from pipeline.report.html import bokeh_figures, charts, tables
from pipeline.report.html.timelines import Timeline, timeline
from pipeline.runs import report_schema
from pipeline.runs.folders import REPORT
from pipeline.runs.report_model import LOSS_MEANINGS
from pipeline.trace.trace import Trace
from pipeline.units import duration_text
from pipeline.worker.atomic_write import replacing

__all__ = ["LARGEST", "write"]

LARGEST = 10_000_000
"""Bytes of a page, at most."""

_NAME = "report.html"
_BARS = 40_000  # of all runs together
_MOST_STEPS = 400  # above that no step graph is drawn
_MOST_YAML = 200_000  # letters
_HERE = Path(__file__).parent


def write(folder: Path) -> Path:
    """Draw a run folder; the page is written whole or not at all.

    Parameters
    ----------
    folder : holds ``report.json``, and the Traces that it names; what is missing of these is said in the page

    Returns
    -------
    the path of the page, ``report.html`` in the folder

    Raises
    ------
    DataError : if ``report.json`` is missing or is not what the schema says
    """
    told = report_schema.read(folder / REPORT)
    traces = [_trace(folder, account["trace"]) for account in told["accounts"]]
    n_bars = _BARS // max(sum(trace is not None for trace in traces), 1)
    page = _page(told, traces, n_bars).encode("utf-8")
    while len(page) > LARGEST and n_bars > 1:  # long names of many tasks
        n_bars //= 2
        page = _page(told, traces, n_bars).encode("utf-8")
    path = folder / _NAME
    with replacing(path) as partial:
        partial.write_bytes(page)
    return path


def _trace(folder: Path, name: str) -> Trace | None:
    """A Trace of the folder; None: there is none, or it cannot be read. Nothing outside of the folder is read."""
    try:
        path = (folder / name).resolve()
        return Trace.load(path) if name and path.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError, KeyError):
        return None


# ---------------------------------------------------------------------------------------------------------------------
# What is on the page
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """One back end on the first screen; places on the bar in per cents."""

    label: str
    workers: int
    said: str
    elapsed: str
    reason: str
    bounds: str = ""
    failure: str = ""
    colour: str = bokeh_figures.UNCLEAR
    value: float | None = None
    low: float | None = None
    high: float | None = None
    ideal: float | None = None


@dataclass(frozen=True)
class _Panel:
    """One run: its chart and tables."""

    number: int
    label: str
    round: int
    chosen: bool
    timeline: Timeline | None
    missing: str
    tables: Sequence[tuple[str, tables.Table]]


def _page(told: Mapping[str, Any], traces: Sequence[Trace | None], n_bars: int) -> str:
    accounts = told["accounts"]
    tints = bokeh_figures.of_steps(_by_cost(told, traces))
    panels = _panels(told, traces, tints, n_bars)
    models: dict[str, Model] = {}
    if told["kind"] == "comparison" and any(row.get("elapsed") for row in told["rows"]):
        models["elapsed"] = charts.elapsed(told["rows"])
    if any(row.get("speedup") for row in told["rows"]):
        models["speedup"] = charts.speedup(told["rows"])
    accounted = [account for account in accounts if account["losses"]]
    if accounted:
        models["losses"] = charts.losses(accounted)
    models |= {f"scaling-{i}": charts.scaling(law) for i, law in enumerate(told["scaling"])}
    models |= {f"timeline-{p.number}": p.timeline.model for p in panels if p.timeline is not None}
    script, bokeh = _inline((_HERE / "page.js").read_text(encoding="utf-8")), _bokeh()
    steps = [step["step"] for step in told["graph"]["steps"]]
    lines = _lines(told["rows"])
    return _template().render(
        told=told,
        policy=_policy([bokeh, script]),
        bokeh=Markup(bokeh),
        script=Markup(script),
        figures=_json({name: _item(model, name) for name, model in models.items()}),
        drawn=set(models),
        lines=lines,
        one=next((line.value for line in lines if line.said == "reference"), None),
        accounted=accounted,
        meanings={n: LOSS_MEANINGS[n] for n in bokeh_figures.LOSSES if any(a["losses"].get(n) for a in accounted)},
        is_negative=any((a["losses"].get("inflation") or {"seconds": 0})["seconds"] < 0 for a in accounted),
        panels=panels,
        steps={step: tint for step, tint in tints.items() if tint != bokeh_figures.OTHER},
        n_others=sum(tint == bokeh_figures.OTHER for tint in tints.values()),
        tints=tints,
        graph=boxes.place_boxes(steps, told["graph"]["edges"]) if len(steps) <= _MOST_STEPS else None,
        described={step["step"]: step for step in told["graph"]["steps"]},
        tables=tables,
        yaml=told["config"][:_MOST_YAML],
        is_cut=len(told["config"]) > _MOST_YAML,
        other=bokeh_figures.OTHER,
        words=tables.LOSS_NAMES,
        losses=bokeh_figures.LOSSES,
    )


def _by_cost(told: Mapping[str, Any], traces: Sequence[Trace | None]) -> list[str]:
    """All steps, those first that took longest over all runs: they get colours of their own."""
    seconds = {step["step"]: 0.0 for step in told["graph"]["steps"]}
    for account, trace in zip(told["accounts"], traces, strict=True):
        if trace is None:
            costs = [(cost["step"], cost["seconds"]) for cost in account["steps"]]
        else:
            table = trace.tasks.select(["step", "start", "stop"]).group_by("step")
            sums = table.aggregate([("start", "sum"), ("stop", "sum")]).to_pydict()
            costs = [
                (step, (stop - start) / 1e9)
                for step, start, stop in zip(sums["step"], sums["start_sum"], sums["stop_sum"], strict=True)
            ]
        for copy, value in costs:
            step = bokeh_figures.step_of(copy)
            seconds[step] = seconds.get(step, 0.0) + value
    return sorted(seconds, key=lambda step: -seconds[step])


def _panels(
    told: Mapping[str, Any], traces: Sequence[Trace | None], tints: Mapping[str, str], n_bars: int
) -> list[_Panel]:
    speedups = {tables.label(r): r["speedup"]["value"] for r in told["rows"] if r.get("speedup")}
    accounts = told["accounts"]
    best = max(range(len(accounts)), key=lambda i: speedups.get(tables.label(accounts[i]), 0.0), default=0)
    found = []
    for i, (account, trace) in enumerate(zip(accounts, traces, strict=True)):
        shown = [
            ("Critical path", tables.critical(account)),
            ("", tables.critical_steps(account)),
            ("Steps that cost most", tables.expensive_steps(account)),
            ("Tasks that cost most", tables.expensive_tasks(account)),
        ]
        missing = "" if trace is not None else f"Its Trace is not here: {account['trace'] or 'none was kept'}."
        drawn = timeline(trace, account["critical_path"], tints, most=n_bars) if trace is not None else None
        found.append(
            _Panel(
                number=i,
                label=tables.label(account),
                round=account.get("round", 1),
                chosen=i == best,
                timeline=drawn,
                missing=missing,
                tables=[(title, table) for title, table in shown if table.rows],
            )
        )
    return found


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[_Line]:
    """The rows of the first screen, on one scale."""
    speedups = [row["speedup"] for row in rows if row.get("speedup")]
    if not speedups and not any(row.get("failure") for row in rows):
        return []
    ends = [x for s in speedups for x in (s["value"], s["high"]) if x is not None]
    most = max([1.0, *ends, *(float(row["workers"]) for row in rows if row.get("speedup"))]) * 1.04
    found = []
    for row in rows:
        head = (tables.label(row), row["workers"])
        if row.get("failure"):
            found.append(_Line(*head, said="did not run", elapsed="", reason="", failure=row["failure"]))
            continue
        seconds = duration_text(row["elapsed"]["value"]) if row["elapsed"] else ""
        speedup = row.get("speedup")
        if speedup is None:
            said = "reference" if row.get("reference") else ""
            one = 100 / most if row.get("reference") else None
            found.append(_Line(*head, said=said, elapsed=seconds, reason=row.get("reason", ""), value=one))
            continue
        low, high = (None if speedup[end] is None else 100 * speedup[end] / most for end in ("low", "high"))
        found.append(
            _Line(
                *head,
                said=tables.ratio(speedup).partition(" ")[0],
                bounds=tables.ratio(speedup).partition(" ")[2],
                elapsed=seconds,
                reason=row.get("reason", ""),
                colour=charts.tone(row),
                value=100 * speedup["value"] / most,
                low=low,
                high=high,
                ideal=100 * row["workers"] / most,
            )
        )
    return found


# ---------------------------------------------------------------------------------------------------------------------
# How it gets there
# ---------------------------------------------------------------------------------------------------------------------


def _template() -> jinja2.Template:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["quoted"] = _quoted
    return env.get_template("page.html")


def _visible(value: Any) -> Any:
    """Text with what would hide or turn round other text written as in Python; lines and markup of ours stay."""
    if type(value) is not str or value.isprintable():
        return value
    return "".join(c if c in "\n\t" else printable(c) for c in value)


def _quoted(text: str) -> Markup:
    """Escaped text, in which what stands between backticks is shown as code."""
    pieces = re.split(r"`([^`]+)`", _visible(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if i % 2 else escape(piece) for i, piece in enumerate(pieces)
    )


def _bokeh() -> str:
    """The one part of Bokeh that draws figures, as a script that can stand in a page."""
    return _inline("\n".join(Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw))


def _inline(script: str) -> str:
    return script.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(scripts: Sequence[str]) -> str:
    """What the page may do: run these scripts, style itself; load and send nothing."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{found}'" for found in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _item(model: Model, place: str) -> Any:
    """A figure as JSON, and the id of the element that it is drawn in."""
    return json_item(model, ID(place))


def _json(value: Any) -> Markup:
    """JSON that no text in it can end, wherever it stands in a page."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)
