"""The parts of the wall time add up to it, whatever is marked when; a run, its folder and its report have them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline
from pipeline.cli import main
from pipeline.runs.history.schema import RunFacts
from pipeline.runs.run_report import _advice
from pipeline.runs.wall_time import PARTS, WallTime, process_age

FILE = """
version: 1
name: small
steps:
  x: {op: arange, start: 0, stop: 10, chunks: 5, dim: row}
  total: {op: sum, input: x}
outputs:
  x: {to: npy, path: x.npy}
checks:
  - {that: "total == 45"}
"""

part = st.sampled_from(list(PARTS))
moves = st.lists(st.tuples(part, part, st.floats(-1, 1e6)), max_size=3)


@given(st.integers(0, 10**9), st.lists(st.tuples(part, st.integers(0, 10**12), moves), max_size=20))
def test_whatever_is_marked_the_parts_are_the_whole(before, marks):
    now = 5
    clock = WallTime(before=before / 1e9, clock=lambda: now)
    for name, passed, moved in marks:
        now += passed
        clock.mark(name)
        for source, target, seconds in moved:
            clock.move(seconds, source=source, target=target)
    assert round(clock.total * 1e9) == pytest.approx(before + now - 5, rel=1e-15)
    assert sum(clock.parts.values()) == pytest.approx(clock.total, rel=1e-12, abs=1e-12)
    assert min(clock.parts.values()) >= 0


def test_what_was_measured_inside_a_part_is_moved_out_of_it():
    times = iter([0, 4_000_000_000, 7_000_000_000])
    clock = WallTime(before=1.0, clock=lambda: next(times))
    clock.mark("planning")
    clock.move(1.5, source="planning", target="metadata")
    clock.mark("running")
    assert {k: v for k, v in clock.parts.items() if v} == {
        "loading": 1.0, "metadata": 1.5, "planning": 2.5, "running": 3.0
    }  # fmt: skip
    assert clock.total == 8.0


def test_a_process_is_older_than_what_it_runs():
    code = "import time; a = time.perf_counter(); from pipeline.runs.wall_time import process_age; print(process_age())"
    began = time.perf_counter()
    age = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    whole = time.perf_counter() - began
    assert 0 < age <= whole + 0.011  # the kernel counts in ticks of 10 ms
    assert process_age() > whole


def test_a_run_in_python_has_its_times_from_the_call(tmp_path):
    began = time.perf_counter()
    r = pipeline.run(FILE, backend="serial", out=tmp_path / "o", runs=tmp_path / "runs")
    passed = time.perf_counter() - began
    assert list(r.times) == list(PARTS)
    assert 0 < r.wall <= passed
    assert r.wall == pytest.approx(sum(r.times.values()))
    assert r.times["running"] == pytest.approx(r.elapsed, rel=0.1, abs=0.01)
    assert (r.start_up, r.commit) == (r.times["start-up"], r.times["commit"])
    assert min(r.times[name] for name in PARTS if name != "metadata") > 0
    recorded = json.loads((r.folder / "run.json").read_text())
    assert recorded["wall"] == pytest.approx(sum(recorded["times"].values()))
    assert recorded["times"]["running"] == r.times["running"]


def test_the_command_prints_them_and_its_report_has_them(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(FILE)
    assert main(["run", "small.yaml", "--backend", "serial", "--json", "--report"]) == 0
    result = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
    assert result["wall"] == pytest.approx(sum(result["times"].values()))
    report = json.loads(Path(result["folder"], "report.json").read_text())
    assert [one["part"] for one in report["wall"]["parts"]] == list(PARTS)
    assert report["wall"]["seconds"] == pytest.approx(sum(one["seconds"] for one in report["wall"]["parts"]))
    assert report["wall"]["seconds"] < result["wall"]  # which has the drawing of the report, too
    assert report["advice"]["do"]
    assert "Where the wall time went" in Path(result["report"]).read_text()


TIMES = dict.fromkeys(PARTS, 0.0)


@pytest.mark.parametrize(
    ("times", "backend", "do"),
    [
        ({"running": 1.0, "start-up": 2.0}, "processes", "Try `--backend threads`"),
        ({"running": 1.0, "start-up": 2.0}, "threads", "Make fewer, larger tasks"),
        ({"running": 1.0, "loading": 1.5, "planning": 0.5}, "serial", "Give one run more work"),
        ({"running": 1.0, "metadata": 1.5}, "serial", "Use fewer, larger input files"),
        ({"running": 1.0, "after": 1.5}, "serial", "Write fewer, larger files"),
        ({"running": 1.0, "loading": 0.5}, "serial", "Try other back ends"),  # all of its workers ran tasks
    ],
)
def test_a_run_is_told_what_to_do_about_what_took_most(times, backend, do):
    facts = RunFacts(format=1, kind="run", name="x", backend=backend, workers=2, fingerprint="", n_tasks=1, graph={},
                     elapsed=1.0, wall=sum(times.values()), times=TIMES | times)  # fmt: skip
    assert _advice(facts, [], problem="")["do"].startswith(do)
    assert _advice(facts, [], problem="no")["do"].startswith("Correct this")
    assert _advice(facts.model_copy(update={"wall": None}), [], problem="") is None
