"""A measured case from the file to the page: tasks that sleep need no quiet machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pipeline.config.loader import load
from pipeline.experiments.comparison.compare import compare
from pipeline.report.comparison_json import write_report
from pipeline.report.html.page import write
from pipeline.report.terminal import comparison_text
from pipeline.report.verdicts import ComparisonReport
from tests.causes import functions

FILE = """
version: 1
modules: [./functions.py]
steps:
  asked: {call: "functions:wait", over: {i: {range: 12}}, args: {seconds: 0.4}}
  seeds: {call: "functions:seed", over: {i: {range: 4}}}
"""


def test_waiting_is_found_and_more_workers_are_tried(tmp_path: Path) -> None:
    shutil.copy(functions.__file__, tmp_path)
    (tmp_path / "case.yaml").write_text(FILE)
    found = compare(load(tmp_path / "case.yaml"), backends=["threads"], workers=2, repeat=1, runs=tmp_path / "runs")
    cause = found.causes["threads"].cause
    assert (cause.kind, cause.steps) == ("waiting", ("asked",))
    one = found.recommendations[0]
    assert (one.backend, one.n_workers, one.advice.kind) == ("threads", 8, "workers")
    assert one.tried is not None
    assert (one.tried.failure, one.tried.equality) == ("", "equal")
    report = ComparisonReport.of(found)
    write_report(report)
    folder = Path(found.folder)
    said = json.loads((folder / "report.json").read_text())["recommendation"]
    assert said["text"] == str(report.recommended)
    assert said["tried"]["elapsed"] == one.tried.elapsed
    assert " ".join(said["text"].split()) in " ".join(comparison_text(report).split())
    assert write(folder).read_text().count('id="advice"') == 1
    assert not (folder / "graph-tried").exists()
    assert not (folder / "outputs").exists()
