"""What users see: formats, tables, progress lines and JSON lines, drawn from numbers made by hand."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest

from pipeline.analysis.statistics import Interval
from pipeline.backends.base import Event
from pipeline.graph import Graph, Policy, constant, ref, task
from pipeline.report.progress import Counts, JsonLines, LiveTable, PlainLines, Step, dumps, listener_for, step_lines
from pipeline.report.terminal import (
    Column,
    bytes_text,
    duration,
    interval_text,
    plan_text,
    ratio_text,
    run_text,
    table_text,
)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def graph():
    """Two copies of ``load`` with two tasks each, a constant, and ``total`` with one task."""
    tasks, owners = {("zero", 0): constant(("zero", 0), 0)}, {("zero", 0): "load[a]"}
    for copy in ("a", "b"):
        for i in range(2):
            key = (f"load[{copy}]", i)
            tasks[key], owners[key] = task(key, int, ref(("zero", 0))), f"load[{copy}]"
    tasks[("total",)] = task(("total",), max, ref(("load[a]", 0)), ref(("load[b]", 1)))
    owners[("total",)] = "total"
    policies = {"load[a]": Policy("load"), "load[b]": Policy("load"), "total": Policy("total")}
    return Graph(tasks, (("total",),), owners, policies)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (0.01234, "0.012 s"), (9.876, "9.88 s"), (59.94, "59.9 s"), (75, "1 min 15 s"), (None, "-")],
)
def test_durations_have_three_digits_or_minutes(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_999, "1.0 MB"), (41e9, "41.0 GB"), (None, "-")]
)
def test_bytes_are_in_powers_of_1000(n, text):
    assert bytes_text(n) == text


def test_an_interval_without_bounds_is_shown_as_its_value():
    nan = float("nan")
    assert interval_text(Interval(2.0, nan, nan, 1, 0.0)) == "2.00"
    assert interval_text(Interval(2.0, 1.9, 2.25, 3, 0.75)) == "2.00 [1.90, 2.25]"
    assert ratio_text(Interval(2.0, 1.903, 2.25, 3, 0.75)) == "2.00x [1.90, 2.25]"


def test_a_table_leaves_out_columns_without_values_and_never_reads_markup():
    text = table_text((Column("a", "A"), Column("b", "B", True)), [{"a": "[red]fit[a]", "b": "-"}])
    assert "[red]fit[a]" in text
    assert "B" not in text


def test_a_plan_with_long_names_fits_80_columns_and_says_everything():
    rows = [
        SimpleNamespace(step="a_step_with_quite_a_long_name", kind="array", copies=2, tasks=2_000, notes=["has a note"],
                        shape="time: 1,020 in 5 chunks, latitude: 721, longitude: 1,440 float32",
                        largest_chunk=128e6, moved=41e9, whole=None),
        SimpleNamespace(step="t", kind="frame", copies=1, tasks=7, notes=(), shape="a int64, b string",
                        largest_chunk=None, moved=0, whole=2e9),
    ]  # fmt: skip
    text = plan_text(SimpleNamespace(rows=rows, absent={}))
    assert max(map(len, text.split("\n"))) <= 80
    for said in ("2 x 1,000", "41.0 GB", "2.0 GB", "has a note", "2 steps, 2,007 tasks", "float32"):
        assert said in text


def test_counts_take_copies_together_and_leave_out_constants(graph):
    counts = Counts(Clock())
    counts.begin(graph)
    assert {name: step.n_tasks for name, step in counts.steps.items()} == {"load": 4, "total": 1}
    ended = [counts.count(Event("task", step=s)) for s in ("load[a]", "load[b]", "load[a]", "load[b]", "load[b]")]
    assert [step and step.name for step in ended] == [None, None, None, "load", None]
    assert (counts.done, counts.n_tasks) == (4, 5)


def test_an_item_with_parts_counts_once():
    tasks = {(name, i): task((name, i), abs, i) for name in ("fit", "fit.u", "fit.v") for i in range(4)}
    policies = {"fit": Policy("fit", items=("a", "b", "c", "d"), over="fit")}
    counts = Counts(Clock())
    counts.begin(Graph(tasks, tuple(tasks), dict.fromkeys(tasks, "fit"), policies))
    for _ in range(3):
        counts.count(Event("task", step="fit", count=2))
    assert counts.of("fit").units() == (2, 4)


def test_plain_lines_speak_when_a_step_ends_and_once_a_minute(graph):
    file, clock = io.StringIO(), Clock()
    with PlainLines(file, clock=clock) as lines:
        lines.begin(graph)
        lines(Event("task", step="load[a]"))
        assert file.getvalue() == ""
        clock.now = 61.0
        lines(Event("task", step="load[a]"))
        lines(Event("retry", step="load[b]"))
        lines(Event("task", step="load[b]", count=2))
        lines(Event("worker lost", message="worker 1 (pid 7) ended by SIGKILL"))
    said = [line.strip() for line in file.getvalue().splitlines()]
    assert said == [
        "1 min 01 s  2 of 5 tasks done",
        "1 min 01 s  load: 4 tasks done (1 retried)",
        "1 min 01 s  worker lost: worker 1 (pid 7) ended by SIGKILL",
    ]


def test_json_lines_are_thinned_but_tell_the_last_task_of_a_step(graph):
    file, clock = io.StringIO(), Clock()
    with JsonLines(file, clock=clock) as lines:
        lines.begin(graph)
        for _ in range(4):
            lines(Event("task", step="load[a]"))
        lines(Event("dropped", step="load[a]", item="x", message="ValueError"))
        lines.emit("result", ok=True)
    events = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [e["event"] for e in events] == ["graph", "progress", "progress", "dropped", "result"]
    assert events[0]["steps"] == {"load": 4, "total": 1}
    assert events[0]["fingerprint"] == graph.fingerprint
    assert events[2] == {"event": "progress", "step": "load", "done": 4, "n_tasks": 4}
    assert events[3] == {"event": "dropped", "step": "load[a]", "item": "x", "message": "ValueError"}


def test_json_is_strict():
    assert json.loads(dumps({"a": float("nan"), "b": [float("inf"), 1.0], "c": {1, }})) == {
        "a": None, "b": [None, 1.0], "c": "{1}"}  # fmt: skip


@pytest.mark.parametrize("height", [2, 5, 9])
def test_no_more_lines_than_the_terminal_has_and_running_steps_are_among_them(height):
    steps = [Step(f"s{i}", 10, done=10 if i < 10 else 0, last=float(i)) for i in range(20)]
    steps[15].done = 5
    lines = step_lines(steps, height=height, width=60)
    assert len(lines) == height
    assert any(line.startswith("s15") for line in lines)
    assert lines[-1] == f"… {21 - height} more steps, {sum(s.ended for s in steps) - _ended(lines)} of them done"
    assert max(map(len, lines)) <= 60


def _ended(lines):
    return sum("10/10" in line for line in lines)


def test_the_live_table_leaves_its_last_state_on_the_terminal(graph):
    file = io.StringIO()
    with LiveTable(file) as table:
        table.begin(graph)
        table(Event("task", step="load[a]", count=4))
        table(Event("note", message="dashboard: http://127.0.0.1:8787/status"))
    text = file.getvalue()
    assert "dashboard: http://127.0.0.1:8787/status" in text
    assert "4/4" in text
    assert "0/1" in text


def test_the_listener_suits_where_the_text_goes():
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    assert isinstance(listener_for(terminal, as_json=False), LiveTable)
    assert isinstance(listener_for(terminal, as_json=True), JsonLines)
    assert isinstance(listener_for(io.StringIO(), as_json=False), PlainLines)


def test_a_run_ends_with_what_was_dropped_checked_and_written_and_the_time():
    told = {
        "name": "census", "backend": "dask", "workers": 2, "tasks": 1234, "elapsed": 12.34, "start_up": 1.5,
        "commit": 0.02, "folder": "runs/census/1", "checks": [{"check": "x", "ok": True, "message": ""}],
        "outputs": [{"name": "u", "format": "zarr", "path": "/o/u.zarr", "files": 3, "rows": 8, "bytes": 1500}],
        "dropped": [{"step": "parse", "item": f"i{i}", "cause": "SyntaxError: no"} for i in range(12)],
    }  # fmt: skip
    lines = run_text(SimpleNamespace(to_dict=lambda: told)).split("\n")
    assert lines[0] == "dropped parse, item i0: SyntaxError: no"
    assert lines[10:] == [
        "… 2 more; all of them are in runs/census/1",
        "1 check held",
        "u: /o/u.zarr (zarr, 3 files, 1.5 kB)",
        "run folder: runs/census/1",
        "census: 12.3 s on 2 workers of 'dask', 1,234 tasks; start-up 1.50 s, commit 0.020 s",
    ]
