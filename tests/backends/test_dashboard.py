"""The Dask dashboard of a run, looked at in a browser: its pages and ours show the steps of the file by their names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browsing import chromium

TEXT = """
version: 1
modules: [./held.py]
params: {event: none}
steps:
  numbers: {op: arange, start: 0, stop: 80, chunks: 10, dim: row, dtype: float64}
  squares: {expr: "numbers ** 2"}
  total: {op: sum, input: squares}
  held: {call: "held:until_there", over: {number: {range: 2}}, args: {path: "${event}", total: "${total}"}}
  table: {op: to_frame, input: held, columns: {seen: float64}}
  by_seen: {op: groupby, input: table, by: seen, agg: {n: count()}}
outputs:
  by_seen: {to: csv, path: by_seen.csv}
"""
MODULE = """
import os, time

def until_there(number, path, total):
    while not os.path.exists(f"{path}-{number}"):
        time.sleep(0.02)
    return float(total)
"""
# What the page's plots show. Bokeh draws it on a canvas, where there is no text to look for.
SOURCES = """Bokeh.documents.flatMap(doc => [...doc._all_models.values()])
    .filter(model => model.type === 'ColumnDataSource').map(model => model.data)"""
DRAWN = f"() => {SOURCES}.flatMap(data => [...(data['show-name'] ?? []), ...(data['name'] ?? [])])"
PROGRESS = f"() => {SOURCES}.flatMap(data => [...(data['show-name'] ?? [])])"


@contextmanager
def running(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A run that waits in one of its steps until it is left, and the address of its dashboard."""
    (folder / "file.yaml").write_text(TEXT)
    (folder / "held.py").write_text(MODULE)
    event = folder / "event"
    command = [sys.executable, "-m", "pipeline", "run", "file.yaml", "--json", "--workers", "2"]
    with open(folder / "stderr", "w+") as errors:
        process = subprocess.Popen(
            [*command, "--set", f"event={event}"], cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            said = (json.loads(line) for line in process.stdout)
            addresses = (e["message"] for e in said if e.get("message", "").startswith("dashboard: "))
            address = next(addresses, "").removeprefix("dashboard: ").partition(",")[0]
            assert address, (folder / "stderr").read_text()
            yield address.removesuffix("/status"), process
        finally:
            for number in range(2):
                Path(f"{event}-{number}").touch()
            process.communicate()


def test_the_dashboard_of_a_run_shows_its_steps_by_name(tmp_path: Path) -> None:
    with chromium(tmp_path, width=1400, height=900) as context, running(tmp_path) as (address, process):
        browser = context.new_page()
        wrong: list[str] = []
        browser.on("pageerror", lambda error: wrong.append(str(error)))
        assert address.startswith("http://127.0.0.1:")
        for place in ["/individual-progress", "/tasks", "/status"]:
            browser.goto(address + place)
            if place == "/tasks":  # Dask's task stream begins when somebody looks, and shows what ends from then on
                (tmp_path / "event-0").touch()
            browser.wait_for_function(f"() => window.Bokeh && ({DRAWN})().includes('held')")
        browser.wait_for_function(f"() => ({PROGRESS})().includes('held')")
        browser.screenshot(path=tmp_path / "status.png")
        drawn = set(browser.evaluate(PROGRESS))
        browser.goto(address + "/pipeline")
        browser.locator(".box.done[data-step=squares]", has_text="8 / 8").wait_for()
        browser.locator(".box.running[data-step=held]", has_text=re.compile("[12] / 3")).wait_for()
        boxes = browser.locator(".box").evaluate_all("boxes => boxes.map(box => box.dataset.step)")
        browser.screenshot(path=tmp_path / "steps.png")
        assert wrong == []
    assert boxes == ["numbers", "squares", "total", "held", "table", "by_seen", "write by_seen"]
    # each bar is named by a step, or by an output: what was merged into a segment is shown under one of its steps
    assert {"numbers", "held", "total", "by_seen", "write by_seen"} == drawn
    assert process.returncode == 0
    assert (tmp_path / "by_seen.csv").read_text() == "seen,n\n167480.0,2\n"
