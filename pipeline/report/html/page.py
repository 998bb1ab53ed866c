"""``report.html``: the ``report.json`` and the Traces of a run folder as one page without other files.

The page loads nothing. Its Content-Security-Policy allows the two scripts that are part of the page, by their hashes,
and no others: a script in a name would not run even if it were not escaped. Jinja2 escapes all text; the data of the
charts is one block of JSON in which ``<``, ``>`` and ``&`` are written as numbers, so that no name can end it.

Rejected: ``bokeh.embed.file_html`` (its template has no policy, and scripts contain the data); Bokeh's tables and tabs
(0.7 MB of scripts for what HTML can do, and unreadable without scripts).
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
from pipeline.graph import drawing_layout
from pipeline.report.html import bokeh_figures, charts, tables
from pipeline.report.html.timelines import Timeline, timeline
from pipeline.report.text_tables import Sentence
from pipeline.runs import report_schema
from pipeline.runs.folders import REPORT
from pipeline.runs.report_model import LOSS_MEANINGS
from pipeline.trace.trace import Trace
from pipeline.units import count_text, duration_text, ratio_text
from pipeline.worker.atomic_write import replacing

__all__ = ["LARGEST", "write"]

LARGEST = 10_000_000
"""Largest number of bytes of a page."""

_NAME = "report.html"
_DIFFERENT = 6  # exit code of a comparison with other results
_BARS = 40_000  # of all runs of a page
_MOST_STEPS = 400  # larger graphs of steps are not drawn
_MOST_YAML = 200_000  # characters
_HERE = Path(__file__).parent


def write(folder: Path) -> Path:
    """Write ``report.html`` into a run folder, completely or not at all, and return its path.

    Parameters
    ----------
    folder : has ``report.json`` and the Traces that it refers to; the page has a note for each missing Trace

    Raises
    ------
    DataError : if ``report.json`` is missing or does not match its schema
    """
    report = report_schema.read(folder / REPORT)
    traces = [_trace(folder, account["trace"]) for account in report["accounts"]]
    n_bars = _BARS // max(sum(trace is not None for trace in traces), 1)
    page = _page(report, traces, n_bars).encode("utf-8")
    while len(page) > LARGEST and n_bars > 1:  # long names of many tasks
        n_bars //= 2
        page = _page(report, traces, n_bars).encode("utf-8")
    path = folder / _NAME
    with replacing(path) as partial:
        partial.write_bytes(page)
    return path


def _trace(folder: Path, name: str) -> Trace | None:
    """Return a Trace of the folder, None if it cannot be read; nothing outside of the folder is read."""
    try:
        path = (folder / name).resolve()
        return Trace.load(path) if name and path.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError, KeyError):
        return None


# ---------------------------------------------------------------------------------------------------------------------
# The content of the page
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bold:
    """A text of which the beginning is bold: what to do."""

    do: str
    rest: str

    @classmethod
    def of(cls, sentence: Mapping[str, str]) -> _Bold:
        """Return the text of a sentence of ``report.json``."""
        text = str(Sentence(sentence["do"], sentence["why"]))
        return cls(sentence["do"], text.removeprefix(sentence["do"]))

    @classmethod
    def reason(cls, row: Mapping[str, Any]) -> _Bold:
        """Return the reason of a row; reports of earlier versions begin with something else, and have nothing bold."""
        text, do = row.get("reason", ""), (row.get("cause") or {}).get("advice", "")
        return cls(do, text.removeprefix(do)) if do and text.startswith(do) else cls("", text)


@dataclass(frozen=True)
class _Warning:
    """What limits the result; bad is a back end that failed."""

    sentence: _Bold
    is_bad: bool


@dataclass(frozen=True)
class _Line:
    """One back end at the top of the page; positions on its bar are percentages."""

    label: str
    workers: int
    speedup: str
    elapsed: str
    reason: _Bold
    bounds: str = ""
    failure: str = ""
    colour: str = bokeh_figures.UNCLEAR
    value: float | None = None
    low: float | None = None
    high: float | None = None
    ideal: float | None = None


@dataclass(frozen=True)
class _Panel:
    """The chart and tables of one run."""

    number: int
    label: str
    round: int
    chosen: bool
    timeline: Timeline | None
    missing: str
    tables: Sequence[tuple[str, tables.Table]]


def _page(report: Mapping[str, Any], traces: Sequence[Trace | None], n_bars: int) -> str:
    accounts = report["accounts"]
    tints = bokeh_figures.step_colours(_by_cost(report, traces))
    panels = _panels(report, traces, tints, n_bars)
    models: dict[str, Model] = {}
    if report["kind"] == "comparison" and any(row.get("elapsed") for row in report["rows"]):
        models["elapsed"] = charts.elapsed(report["rows"])
    if any(row.get("speedup") for row in report["rows"]):
        models["speedup"] = charts.speedup(report["rows"])
    accounted = [account for account in accounts if account["losses"]]
    if accounted:
        models["losses"] = charts.losses(accounted)
    models |= {f"scaling-{i}": charts.scaling(law) for i, law in enumerate(report["scaling"])}
    models |= {f"timeline-{p.number}": p.timeline.model for p in panels if p.timeline is not None}
    script, bokeh = _inline((_HERE / "page.js").read_text(encoding="utf-8")), _bokeh()
    steps = [step["step"] for step in report["graph"]["steps"]]
    lines = _lines(report["rows"])
    return _template().render(
        report=report,
        policy=_policy([bokeh, script]),
        bokeh=Markup(bokeh),
        script=Markup(script),
        figures=_json({name: _item(model, name) for name, model in models.items()}),
        drawn=set(models),
        lines=lines,
        advice=_advice(report),
        warnings=_warnings(report),
        # of a comparison only results that differ: they may be equal although it was interrupted, or a back end failed
        is_bad=report["exit_code"] == _DIFFERENT if report["kind"] == "comparison" else bool(report["exit_code"]),
        one=next((line.value for line in lines if line.speedup == "reference"), None),
        accounted=accounted,
        meanings={n: LOSS_MEANINGS[n] for n in bokeh_figures.LOSSES if any(a["losses"].get(n) for a in accounted)},
        is_negative=any((a["losses"].get("inflation") or {"seconds": 0})["seconds"] < 0 for a in accounted),
        panels=panels,
        steps={step: tint for step, tint in tints.items() if tint != bokeh_figures.OTHER},
        n_others=sum(tint == bokeh_figures.OTHER for tint in tints.values()),
        tints=tints,
        graph=drawing_layout.place_boxes(steps, report["graph"]["edges"]) if len(steps) <= _MOST_STEPS else None,
        steps_by_name={step["step"]: step for step in report["graph"]["steps"]},
        tables=tables,
        yaml=report["config"][:_MOST_YAML],
        is_cut=len(report["config"]) > _MOST_YAML,
        other=bokeh_figures.OTHER,
        words=tables.LOSS_NAMES,
        losses=bokeh_figures.LOSSES,
    )


def _advice(report: Mapping[str, Any]) -> _Bold | None:
    """Return the one thing to do."""
    if report.get("advice"):
        return _Bold.of(report["advice"])
    older = report.get("recommendation")
    return _Bold("", older["text"]) if older else None


def _warnings(report: Mapping[str, Any]) -> list[_Warning]:
    """Return what limits the result; in reports of earlier versions that is the verdict but for its last line."""
    failures = {row.get("failure") for row in report["rows"]}
    if report.get("advice"):
        return [_Warning(_Bold.of(one), one["why"] in failures) for one in report.get("warnings", ())]
    return [_Warning(_Bold("", line), is_bad=False) for line in report["verdict"][:-1]]


def _by_cost(report: Mapping[str, Any], traces: Sequence[Trace | None]) -> list[str]:
    """Return all steps, by their seconds over all runs; the first ones have distinct colours."""
    seconds = {step["step"]: 0.0 for step in report["graph"]["steps"]}
    for account, trace in zip(report["accounts"], traces, strict=True):
        if trace is None:
            costs = [(cost["step"], cost["seconds"]) for cost in account["steps"]]
        else:
            table = trace.tasks.select(["step", "start", "stop"]).group_by("step")
            sums = table.aggregate([("start", "sum"), ("stop", "sum")]).to_pydict()
            costs = [
                (step, (stop - start) / 1e9)
                for step, start, stop in zip(sums["step"], sums["start_sum"], sums["stop_sum"], strict=True)
            ]
        for instance, value in costs:
            step = bokeh_figures.step_of(instance)
            seconds[step] = seconds.get(step, 0.0) + value
    return sorted(seconds, key=lambda step: -seconds[step])


def _panels(
    report: Mapping[str, Any], traces: Sequence[Trace | None], tints: Mapping[str, str], n_bars: int
) -> list[_Panel]:
    speedups = {tables.label(r): r["speedup"]["value"] for r in report["rows"] if r.get("speedup")}
    accounts = report["accounts"]
    best = max(range(len(accounts)), key=lambda i: speedups.get(tables.label(accounts[i]), 0.0), default=0)
    found = []
    for i, (account, trace) in enumerate(zip(accounts, traces, strict=True)):
        shown = [
            ("Limits", tables.limits(account)),
            ("Critical path", tables.critical(account)),
            ("", tables.critical_steps(account)),
            ("Most expensive steps", tables.expensive_steps(account)),
            ("Most expensive tasks", tables.expensive_tasks(account)),
        ]
        missing = "" if trace is not None else f"Its Trace is missing: {account['trace'] or 'none was kept'}."
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
    """Return the rows at the top of the page, on one scale."""
    speedups = [row["speedup"] for row in rows if row.get("speedup")]
    if not speedups and not any(row.get("failure") for row in rows):
        return []
    ends = [x for s in speedups for x in (s["value"], s["high"]) if x is not None]
    most = max([1.0, *ends, *(float(row["workers"]) for row in rows if row.get("speedup"))]) * 1.04
    found = []
    for row in rows:
        head = (tables.label(row), row["workers"])
        if row.get("failure"):
            none = _Bold("", "")
            found.append(_Line(*head, speedup="did not run", elapsed="", reason=none, failure=row["failure"]))
            continue
        seconds = duration_text(row["elapsed"]["value"]) if row["elapsed"] else ""
        speedup = row.get("speedup")
        if speedup is None:
            text, one = ("reference", 100 / most) if row.get("reference") else ("", None)
            found.append(_Line(*head, speedup=text, elapsed=seconds, reason=_Bold.reason(row), value=one))
            continue
        low, high = (None if speedup[end] is None else 100 * speedup[end] / most for end in ("low", "high"))
        found.append(
            _Line(
                *head,
                speedup=tables.ratio(speedup).partition(" ")[0],
                bounds=tables.ratio(speedup).partition(" ")[2],
                elapsed=seconds,
                reason=_Bold.reason(row),
                colour=charts.row_colour(row),
                value=100 * speedup["value"] / most,
                low=low,
                high=high,
                ideal=100 * row["workers"] / most,
            )
        )
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Rendering
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
    env.filters |= {"quoted": _quoted, "bold": _bold, "count": count_text, "ratio": ratio_text}
    return env.get_template("page.html")


def _visible(value: Any) -> Any:
    """Return text with characters that hide or reorder other text as escapes; our own markup is unchanged."""
    if type(value) is not str or value.isprintable():
        return value
    return "".join(c if c in "\n\t" else printable(c) for c in value)


def _quoted(text: str) -> Markup:
    """Return escaped text, with text between backticks as code."""
    pieces = re.split(r"`([^`]+)`", _visible(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if i % 2 else escape(piece) for i, piece in enumerate(pieces)
    )


def _bold(text: _Bold) -> Markup:
    """Return what to do in bold, and the rest; code as in :func:`_quoted`."""
    do = Markup("<b>{}</b>").format(_quoted(text.do)) if text.do else Markup("")
    return do + _quoted(text.rest)


def _bokeh() -> str:
    """Return the part of Bokeh that draws figures, as an inline script."""
    return _inline("\n".join(Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw))


def _inline(script: str) -> str:
    return script.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(scripts: Sequence[str]) -> str:
    """Return a policy that allows these scripts and inline styles, and no loading or sending."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{found}'" for found in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _item(model: Model, place: str) -> Any:
    """Return a figure as JSON, with the id of its element."""
    return json_item(model, ID(place))


def _json(value: Any) -> Markup:
    """Return JSON in which no text can end the element that contains it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)
