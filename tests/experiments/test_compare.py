"""Comparisons: the verdict from numbers made by hand, and measured runs of Graphs made by hand."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import compared_tasks as tasks
import psutil
import pytest
from schedulers import scheduler, worker

import pipeline
from pipeline import cli
from pipeline.backends.options import parse
from pipeline.backends.registry import BACKENDS, COMPARED
from pipeline.config.loader import load, loads
from pipeline.config.model import Output, Reference
from pipeline.errors import Bug, ConfigError, TaskError, WorkerLost
from pipeline.experiments.comparison.compare import (
    ComparisonInterrupted,
    _cases,
    _on_this_machine,
    _usable,
    chosen,
    compare,
    compare_graph,
)
from pipeline.experiments.comparison.loss_accounts import Calls
from pipeline.experiments.comparison.result import Case, Difference, Measurement
from pipeline.experiments.comparison.rounds import Rounds, rotated
from pipeline.experiments.comparison.rows import compared as rows_of
from pipeline.graph.graph import Graph, Policy
from pipeline.graph.nodes import listed, ref, task
from pipeline.graph.value_types import ItemsType, ObjectType
from pipeline.outputs.planners import plan_sink
from pipeline.report.comparison_json import write_report
from pipeline.report.terminal import bold_in, comparison_text
from pipeline.report.verdicts import ComparisonReport
from pipeline.trace.trace import Trace


def compared(*arguments, **fields):
    return ComparisonReport.of(rows_of(*arguments, **fields))


def compared_graph(graph, **options):
    return ComparisonReport.of(compare_graph(graph, **options))


def measurement(backend, number, elapsed, *, start_up=1.0, workers=2, **fields):
    return Measurement(
        case=backend,
        backend=backend,
        round=number,
        elapsed=elapsed,
        start_up=start_up,
        verify=0.01,
        commit=0.0,
        user=elapsed * 0.9,
        system=0.1,
        memory=2e8,
        n_workers=workers,
        process=elapsed + start_up,
        **fields,
    )


def comparison(times, *, differences=None, failures=None):
    """Return a comparison made from elapsed times: back end -> one for each round."""
    runs = [
        measurement(name, i, t, start_up=0.0 if name == "serial" else 1.0, workers=1 if name == "serial" else 2)
        for name, elapsed in times.items()
        for i, t in enumerate(elapsed)
    ]
    if differences is None:
        differences = {name: [Difference("output 'x'", True, True)] for name in times if name != "serial"}
    return compared(
        runs,
        cases=[Case(name, 1 if name == "serial" else 2) for name in (*times, *(failures or {}))],
        differences=differences,
        failures=failures or {},
        name="census",
        fingerprint="0123456789abcdef",
        n_tasks=1234,
        folder="runs/census/2026",
    )


FASTER = {"serial": [12.0, 12.4, 12.2], "threads": [12.1, 12.5, 12.0], "processes": [6.7, 6.9, 6.8]}


def test_the_last_line_has_the_fastest_and_whether_results_agree():
    last = comparison(FASTER).verdict[-1]
    assert last == "Fastest: processes, 1.79x as fast as serial on 2 workers; results equal bit by bit"


def test_speedup_efficiency_and_full_speedup_have_known_values():
    row = {row.backend: row for row in comparison({"serial": [8.0] * 3, "pool": [4.0] * 3}).rows}["pool"]
    assert (row.speedup.value, row.efficiency, row.speedup_all.value) == (2.0, 1.0, 1.6)


def test_overlapping_intervals_are_told_as_no_difference():
    result = comparison(FASTER)
    assert [row.differs for row in result.rows] == [False, False, True]
    assert "Not measurably different from serial: threads." in result.footnotes


def test_two_fastest_that_overlap_are_told_together():
    result = comparison(FASTER | {"pool": [6.75, 6.85, 6.95]})
    assert "Fastest: processes, 1.79x as fast as serial on 2 workers (not measurably slower: pool)" in result.answer


def test_nothing_faster_than_serial_is_said_so():
    assert comparison({"serial": [1.0, 1.1, 1.2], "pool": [2.0, 2.1, 2.2]}).answer.startswith("Fastest: serial;")


def test_a_lead_that_is_not_measurable_is_none():
    result = comparison({"serial": [1.0, 1.1, 1.2], "pool": [0.98, 1.05, 1.3], "dask": [2.0, 2.1, 2.2]})
    assert result.answer.startswith("No back end is measurably faster than serial (fastest: pool, 1.05x as fast as")
    assert result.advice.do == "Use `--backend serial`"


def test_serial_is_not_alone_fastest_among_equals():
    result = comparison({"serial": [1.0, 1.1, 1.2], "pool": [1.15, 1.05, 1.25], "dask": [2.0, 2.1, 2.2]})
    assert result.answer.startswith("Fastest: serial (not measurably slower: pool);")


def test_serial_is_not_called_alike_beside_a_ratio_that_excludes_it():
    slow = {"serial": [1.0, 1.1], "processes": [4.0, 4.4]}
    assert comparison(slow).answer.startswith("Undecided after 2 rounds: serial was fastest;")
    apart = {"serial": [1.0, 2.0, 3.0], "processes": [2.9, 5.8, 8.7]}  # the times overlap, the ratios of rounds do not
    assert comparison(apart).answer.startswith("Fastest: serial;")


def test_items_that_every_run_dropped_are_told_and_are_exit_1():
    runs = [measurement(name, i, 1.0, dropped=2) for name in ("serial", "pool") for i in range(3)]
    result = compared(runs, cases=[Case("serial", 1), Case("pool", 2)], differences={}, failures={})
    assert (result.exit_code, result.problem.partition(",")[0]) == (1, "2 items were dropped")
    said = "2 items were dropped, since they failed, so these times are without what needs them."
    assert f"Find out with `pipeline run` which items fail. {said}" in result.verdict


@pytest.mark.parametrize(("starved", "told"), [(1.1, True), (0.9, False), (None, False)])
def test_serial_without_a_core_for_a_tenth_is_a_busy_machine(starved, told):
    runs = [measurement(name, i, 10.0, starved=starved) for name in ("serial", "pool") for i in range(3)]
    result = compared(runs, cases=[Case("serial", 1), Case("pool", 2)], differences={}, failures={})
    assert (result.advice.do == "Measure again when the machine does nothing else") is told
    assert not result.warnings  # what is on top is not told twice


def test_serial_with_threads_in_its_tasks_shows_no_busy_machine():
    runs = [measurement(name, i, 10.0, starved=5.0) for name in ("serial", "pool") for i in range(3)]
    busy = [replace(one, user=19.0) for one in runs]
    result = compared(busy, cases=[Case("serial", 1), Case("pool", 2)], differences={}, failures={})
    assert result.disturbed == 0


def test_one_round_claims_no_difference():
    result = comparison({"serial": [9.0], "pool": [1.0]})
    assert result.answer.startswith("Undecided after 1 round: pool was fastest, 9.00x as fast as serial on 2 workers;")
    assert result.footnotes[0].startswith("1 round: too few")
    assert result.advice.do == "Measure more rounds: `--repeat 5`"


def test_unequal_results_are_exit_6_and_stand_in_the_verdict():
    wrong = {"processes": [Difference("output 'x'", False, False, 0.5, 1e-9, "3 of 8 cells differ")],
             "threads": [Difference("output 'x'", True, True)]}  # fmt: skip
    result = comparison(FASTER, differences=wrong, failures={"pool": ("no", 4)})
    assert result.exit_code == 6
    assert result.answer.endswith("RESULTS DIFFER: processes")
    assert str(result.advice) == "Find out why processes gives other results. Output 'x': 3 of 8 cells differ."
    assert "3 of 8 cells differ" in result.problem


def test_equality_within_a_tolerance_says_both_numbers():
    near = {name: [Difference("output 'x'", True, False, 3.2e-16, 1e-9)] for name in ("threads", "processes")}
    result = comparison(FASTER, differences=near)
    assert result.answer.endswith("results equal within 3e-16 (relative; 1e-09 is allowed)")
    assert result.exit_code == 0


def test_a_back_end_that_did_not_run_is_a_row_with_its_reason():
    result = comparison(FASTER, failures={"dask": ("fit[a]: ValueError: no", 1)})
    assert result.exit_code == 1
    assert result.verdict[0] == "Read why dask did not run. fit[a]: ValueError: no."
    text = comparison_text(result)
    assert "did not run" in text
    assert text.split("\n")[0].startswith("Fastest: processes")


def test_the_answer_is_first_then_one_thing_to_do_and_two_tables():
    result = comparison(FASTER | {"pool": [6.75, 6.85, 6.95]})
    lines = comparison_text(result).split("\n")
    assert lines[0] == "Fastest: processes, 1.79x as fast as serial on 2 workers (not measurably slower:"
    assert lines[1:4] == ["pool); results equal bit by bit", "", lines[3]]
    assert lines[3].startswith("Use `--backend processes`. No change of the file was found that should save")
    assert [line for line in lines if line.startswith("back end")] == [lines[7]]
    assert lines[-1] == "All tables and a timeline: runs/census/2026/report.html"
    assert bold_in(result) == [result.answer, "Use `--backend processes`"]


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ({"serial": [8.0] * 3, "pool": [4.0] * 3}, "Use `--backend pool`. No change"),
        ({"serial": [1.0, 1.1, 1.2], "pool": [2.0] * 3}, "Use `--backend serial`. No other back end is measurably"),
        (
            {"serial": [0.4] * 3, "pool": [0.2] * 3},
            "Use `--backend serial`. With start-up and commit it takes 400 ms, ",
        ),
    ],
)
def test_what_to_use_is_judged_with_the_start_of_the_workers(times, said):
    assert str(comparison(times).advice).startswith(said)


def test_the_tables_fit_80_columns_and_hold_every_quantity():
    every = comparison(FASTER | {"pool": [123.4, 125.6, 129.9], "dask": [0.0123, 0.0133, 0.0143]})
    assert max(map(len, comparison_text(every).split("\n"))) <= 80
    text = comparison_text(every, tables=True)
    assert max(map(len, text.split("\n"))) <= 80
    for said in ("elapsed", "speedup", "ciency", "real s", "user s", "sys s", "start-up", "commit", "peak",
                 "all included", "equal", "12.2 [12.0, 12.4]", "1.79x [", "200.0 MB", "6.12", "44.3%",
                 "reference"):  # fmt: skip
        assert said in text


def test_the_time_saved_is_of_the_plain_loop_and_of_process_per_task():
    # as an article has it: 4.5 s in a loop, 2.5 s with a process a task, 1.29 s with a pool
    times = {"serial": [4.5] * 3, "process-per-task[start_method=fork]": [2.5] * 3, "pool": [1.29] * 3}
    serial, each, pool = comparison(times).rows
    assert (serial.saved, each.saved_beside_processes) == (None, None)
    assert serial.saved_beside_processes == pytest.approx(-0.8)
    assert (each.saved, pool.saved) == (pytest.approx(4 / 9), pytest.approx(0.713, abs=5e-4))
    assert pool.saved_beside_processes == pytest.approx(0.484, abs=5e-4)
    text = comparison_text(comparison(times), tables=True)
    (line,) = [line for line in text.split("\n") if line.startswith("pool") and "%" in line and "48.4%" in line]
    assert line.split() == ["pool", "1.29", "1.16", "0.100", "71.3%", "48.4%"]
    assert max(map(len, text.split("\n"))) <= 80
    assert "per-task" not in comparison_text(comparison(FASTER), tables=True)


def test_a_comparison_is_a_frame_a_text_html_and_strict_json():
    result = comparison(FASTER, failures={"dask": ("<lost>", 4)})
    frame = result.to_frame()
    assert list(frame.index) == ["serial", "threads", "processes", "dask"]
    assert frame.loc["processes", "speedup_low"] <= frame.loc["processes", "speedup"]
    assert "processes" in repr(result)
    shown = result._repr_html_()
    assert "<lost>" not in shown
    assert shown.index(f"<b>{result.answer}</b>") < shown.index("<table>")
    assert shown.count("<tr>") == 5
    assert "did not run: &lt;lost&gt;" in shown
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["rows"][2]["speedup"]["value"] == pytest.approx(12.2 / 6.8)
    assert plain["exit_code"] == 4


def test_serial_is_always_there_and_first():
    assert chosen(["dask", "pool", "dask"]) == ("serial", "dask", "pool")


def test_an_unknown_back_end_is_refused_by_name():
    with pytest.raises(ConfigError, match="got 'procs'; allowed: serial, threads"):
        chosen(["procs"])


def test_all_stands_for_every_back_end_beside_its_variants():
    named = chosen(["pool[start_method=fork]", "all"])
    assert named[:2] == ("serial", "pool[start_method=fork]")
    assert set(named) - {"pool[start_method=fork]"} == set(BACKENDS)


def test_all_leaves_out_what_the_file_cannot_use():
    text = "version: 1\nmodules: [math]\nsteps: {a: {call: math:sqrt, args: {x: 2}}}\n"
    config = loads(text + "cluster: {start_method: fork, maxtasksperchild: 3}\n")
    told = []
    usable = _usable(chosen(["all"]), ["all"], config, told.append)
    assert set(BACKENDS) - set(usable) == {"pool", "manager"}
    assert [line.partition(": with")[0] for line in told if "pool" in line] == ["pool is left out: maxtasksperchild"]
    assert _usable(chosen(["pool"]), ["pool"], config, told.append) == ("serial", "pool")
    assert len(told) == 2
    assert chosen(None) == COMPARED


@pytest.mark.parametrize("line", ["from pipeline import shared", "import pipeline.shared as s", "x = 'shared'"])
def test_all_leaves_out_back_ends_that_refuse_shared_objects(line):
    told = []
    kept = _on_this_machine(("serial", "dask", "manager", "pool"), ["all"], {"own.py": line.encode()}, told.append)
    assert kept == (("serial", "dask", "manager", "pool") if line.startswith("x") else ("serial", "pool"))
    expected = "own.py uses pipeline.shared, and its workers may be on several machines"
    assert told == [f"{name} is left out: {expected}" for name in ("dask", "manager") if name not in kept]
    assert "dask" in _on_this_machine(("serial", "dask"), ["dask"], {"own.py": line.encode()}, told.append)


def test_a_back_end_with_options_is_a_row_by_that_name(tmp_path):
    backends = ["threads", "pool[start_method=fork]"]
    found = compare_graph(graph_of(pow, 2), folder=tmp_path / "r", backends=backends, workers=1, repeat=1)
    assert [(row.label, row.failure) for row in found.rows] == [(label, "") for label in ("serial", *backends)]
    trace = Trace.load(tmp_path / "r" / "pool-start_method-fork-1" / "trace.parquet")
    assert trace.notes["start_method"] == "fork"


def test_each_round_begins_with_another_back_end():
    assert {next(iter(rotated("abc", i))) for i in range(3)} == set("abc")


# ---------------------------------------------------------------------------------------------------------------------
# Measured runs of Graphs made by hand: every function in them is importable by a fresh process
# ---------------------------------------------------------------------------------------------------------------------


def graph_of(function, *arguments, n=6):
    """``n`` items ``function(*arguments, i)`` and their sorted list; both wanted, the list written as well."""
    nodes = {("item", i): task(("item", i), function, *arguments, i) for i in range(n)}
    nodes[("all",)] = task(("all",), list, listed([ref(key) for key in list(nodes)]))
    items = ItemsType("item", tuple(f"i={i}" for i in range(n)), {}, n)
    value = ObjectType("all")
    output = Output("all", Reference("all", ("all",)), "json", "out/all.json")
    writers, sink = plan_sink(output, value, prefix="all/write")
    nodes |= writers
    owners = {key: "item" if key[0] == "item" else "all" for key in nodes}
    return Graph(
        tasks=nodes,
        wanted=(*items.keys, *sink.records),
        owners=owners,
        policies={"item": Policy("item"), "all": Policy("all")},
        value_types={"item": items, "all": value},
        sinks=(sink,),
        name="made",
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two rounds of serial and threads, and of a reference: the folder they were made in, the result, what was told."""
    top = tmp_path_factory.mktemp("measured")
    told = []
    options = {"backends": ["threads"], "workers": 2, "repeat": 2, "call": BY_HAND, "params": {"n": 6}}
    with contextlib.chdir(top):
        result = compared_graph(graph_of(math.factorial), folder=top / "runs" / "x", tell=told.append, **options)
        write_report(result)
    return top, result, told


def test_two_back_ends_are_measured_and_found_equal(measured):
    _, result, told = measured
    assert [row.backend for row in result.rows] == ["serial", "threads"]
    assert result.exit_code == 0
    assert result.equality == "results equal bit by bit"
    assert [m.round for m in result.measurements] == [0, 0, 1, 1]
    assert [m.backend for m in result.measurements] == ["serial", "threads", "threads", "serial"]
    assert all(m.elapsed > 0 and m.memory > 1e7 and m.commit > 0 for m in result.measurements)
    assert {d.what for d in result.differences["threads"]} == {"output 'all'", "'item'"}
    for m in result.measurements:
        trace = Trace.load(m.trace)
        assert trace.elapsed == m.elapsed  # on one clock: what is tiled is what is told
        assert max(trace.tasks["done"].to_pylist()) <= (m.elapsed - m.verify) * 1e9 + 1
    assert graph_of(math.factorial).fingerprint in told[0]
    assert any(line.startswith("serial took") for line in told)


def test_only_the_run_folder_is_written_with_all_that_was_found(measured):
    top, _, _ = measured
    folder = top / "runs" / "x"
    assert [p.name for p in top.iterdir()] == ["runs"]
    runs = {f"{name}-{number}" for name in ("serial", "threads", "reference") for number in (1, 2)}
    assert {p.name for p in folder.iterdir()} == {"graph", "report.json", *runs}
    fingerprint = graph_of(math.factorial).fingerprint
    assert Graph.load(folder / "graph").fingerprint == fingerprint
    assert Trace.load(folder / "serial-1" / "trace.parquet").backend == "serial"
    assert json.loads((folder / "report.json").read_text())["fingerprint"] == fingerprint


def test_results_that_depend_on_the_process_are_found_unequal(tmp_path):
    graph = graph_of(tasks.process_id)
    result = compared_graph(graph, folder=tmp_path, backends=["threads"], workers=1, repeat=1)
    assert result.exit_code == 6
    assert {d.what for _, d in result.unequal} == {"output 'all'", "'item'"}


def test_a_back_end_that_fails_is_a_row_and_the_others_go_on(tmp_path):
    graph = graph_of(tasks.fails_off_the_main_thread)
    result = compared_graph(graph, folder=tmp_path, backends=["threads", "processes"], workers=1, repeat=1)
    failed = {row.backend: row for row in result.rows}["threads"]
    assert "ValueError: not here" in failed.failure
    assert result.exit_code == 1
    assert [row.backend for row in result.ran] == ["serial", "processes"]


def test_what_serial_raises_is_raised_with_its_step_and_item(tmp_path):
    with pytest.raises(TaskError, match="ValueError") as caught:
        compared_graph(graph_of(tasks.refuses), folder=tmp_path, workers=1, repeat=1)
    assert caught.value.step == "item"


def test_a_task_that_ends_serials_process_is_no_fault_of_ours(tmp_path):
    rounds = Rounds(graph_of(tasks.refuses), tmp_path, [Case("serial", 1)], {}, {}, tell=lambda message: None)
    with pytest.raises(WorkerLost, match=r"serial did not run: the process was ended by SIGKILL.*memory was short"):
        rounds._failed(rounds.cases[0], "the process was ended by SIGKILL and left no report", 4, None)
    with pytest.raises(Bug, match="serial did not run: KeyError"):
        rounds._failed(rounds.cases[0], "KeyError: 1", 70, KeyError(1))


def test_a_back_end_whose_process_dies_is_told_with_the_signal(tmp_path):
    graph = graph_of(tasks.dies_in_threads)
    result = compared_graph(graph, folder=tmp_path, backends=["threads"], workers=1, repeat=1)
    assert "was ended by SIGKILL" in result.rows[1].failure
    assert result.exit_code == 4


def test_a_budget_lowers_the_rounds_but_not_the_back_ends(tmp_path):
    told = []
    result = compared_graph(
        graph_of(math.factorial),
        folder=tmp_path,
        backends=["threads"],
        workers=1,
        repeat=9,
        budget=1e-3,
        tell=told.append,
    )
    assert [row.n_rounds for row in result.rows] == [1, 1]
    assert any(line.startswith("stopped after 1 of 9 rounds") for line in told)


def test_each_back_end_is_measured_with_each_number_of_workers(tmp_path):
    graph = graph_of(math.factorial)
    result = compared_graph(graph, folder=tmp_path, backends=["threads"], workers=[2, 1], repeat=1)
    assert [(row.label, row.workers) for row in result.rows] == [("serial", 1), ("threads x1", 1), ("threads x2", 2)]
    assert [(law.backend, [point["workers"] for point in law.points]) for law in result.scaling] == [
        ("threads", [1, 2])
    ]
    assert set(result.causes) == {"threads x1", "threads x2"}
    assert (tmp_path / "threads-x2-1" / "trace.parquet").is_file()
    assert "threads: workers" in comparison_text(result, tables=True)
    assert "threads with more workers, by Amdahl's law: " in " ".join(comparison_text(result).split())


@pytest.mark.parametrize("counts", [[], [0], [1, -2]])
def test_a_scale_is_of_whole_numbers(tmp_path, counts):
    with pytest.raises(ConfigError, match="scale"):
        compared_graph(graph_of(math.factorial), folder=tmp_path, backends=["threads"], workers=counts)


def test_core_seconds_add_up_and_are_told_with_a_sentence(tmp_path):
    result = compared_graph(graph_of(math.factorial), folder=tmp_path, backends=["processes"], workers=2, repeat=1)
    account = {a.runs.label: a for a in result.accounts}["processes"]
    assert sum(account.losses.percents().values()) == 100
    assert sum(account.core_time.total(name) for name in account.core_time.lanes[0]) == 2 * round(account.elapsed * 1e9)
    assert result.reasons["processes"].do
    assert {step: times.n_tasks for step, times in account.by_step.items()} == {"item": 6, "all": 2}
    *lines, _ = comparison_text(result).split("\n")  # the last one has a path
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("Undecided after 1 round: ")
    assert any(line.startswith("of workers went") for line in lines)
    text = comparison_text(result, tables=True)
    for said in ("core-seconds", "dependency wait", "unexplained", "CPU of the parent", "critical path", "= workers"):
        assert said in text


def test_a_reference_is_timed_and_compared_with_serials_outputs(measured):
    top, result, _ = measured
    assert result.exit_code == 0
    assert result.reference.equality == "equal"
    assert result.reference.elapsed.n == 2
    assert set(result.reference.cost) == {"serial", "threads"}
    assert json.loads((top / "runs" / "x" / "report.json").read_text())["reference"]["call"] == BY_HAND
    assert "(COST)" in comparison_text(result)


BY_HAND = "compared_tasks:by_hand"


@pytest.mark.parametrize(
    ("n", "call", "code", "said"),
    [
        (5, BY_HAND, 6, "the reference gave other results than serial"),
        (6, "compared_tasks:by_no_hand", 1, "the reference compared_tasks:by_no_hand did not run"),
        (6, "compared_tasks:process_id", 1, "did not run"),
    ],
)
def test_a_reference_that_is_wrong_or_fails_is_told(tmp_path, n, call, code, said):
    graph = graph_of(math.factorial)
    result = compared_graph(
        graph, folder=tmp_path, backends=["serial"], workers=1, repeat=1, call=call, params={"n": n}
    )
    assert result.exit_code == code
    assert said in result.problem


def test_no_file_of_a_comparison_holds_a_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "open-sesame")
    (tmp_path / "mine.py").write_text("def f(x, t): return len(t)\ndef ref(token): return {'a': len(token)}\n")
    (tmp_path / "a.yaml").write_text(
        'version: 1\nmodules: [./mine.py]\nparams: {token: "${secret:TOKEN}"}\n'
        'steps:\n  a: {call: "mine:f", args: {x: 1, t: "${token}"}}\n'
        "outputs: {a: {to: pickle, path: a.pkl}}\n"
        'compare: {reference: {call: "mine:ref"}}\n'
    )
    result = compare(load(tmp_path / "a.yaml"), backends=["serial"], repeat=1, runs=tmp_path / "runs")
    assert result.reference.elapsed is not None
    write_report(result)
    files = [path for path in Path(result.folder).rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert [path.name for path in files if b"open-sesame" in path.read_bytes()] == []


def test_no_file_of_a_comparison_that_failed_holds_a_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", 'ouvre "sésame"')
    (tmp_path / "mine.py").write_text("def f(t):\n    print(t)\n    raise ValueError(t)\n")
    (tmp_path / "a.yaml").write_text(
        'version: 1\nmodules: [./mine.py]\nstorage: {s3: {secret: "${secret:TOKEN}"}}\n'
        'steps: {a: {call: "mine:f", args: {t: "${secret:TOKEN}"}}}\n'
    )
    with pytest.raises(TaskError):
        compare(load(tmp_path / "a.yaml"), backends=["serial"], repeat=1, runs=tmp_path / "runs")
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"failure.json", "log.txt", "report.json"}
    assert [path.name for path in files if b"ouvre" in path.read_bytes()] == []
    assert all(b"***" in path.read_bytes() for path in files)


def interrupted_at(start):
    """Return a function that is told of the progress, and interrupts it at a line."""

    def tell(line):
        if line.startswith(start):
            raise KeyboardInterrupt

    return tell


def test_an_interrupt_before_anything_can_be_compared_is_raised(tmp_path):
    with pytest.raises(KeyboardInterrupt) as raised:
        compared_graph(graph_of(math.factorial), folder=tmp_path, workers=1, repeat=1, tell=interrupted_at("serial"))
    assert raised.type is KeyboardInterrupt
    assert not (tmp_path / "outputs").exists()
    assert json.loads((tmp_path / "failure.json").read_text())["exit_code"] == 130


SMALL = """
version: 1
name: small
steps:
  x: {op: arange, start: 0, stop: 10, chunks: 5, dim: row}
outputs: {x: {to: npy, path: x.npy}}
"""


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A comparison that was interrupted when serial and threads were measured, and processes were not."""
    runs = tmp_path_factory.mktemp("interrupted")
    return pipeline.load(SMALL).compare(
        backends=["threads", "processes"], workers=1, runs=runs, tell=interrupted_at("round 1: threads")
    )


def test_an_interrupted_comparison_has_what_was_measured(interrupted):
    assert [(row.label, row.n_rounds, row.failure) for row in interrupted.rows] == [
        ("serial", 1, ""), ("threads", 1, ""), ("processes", 0, "it was interrupted before")
    ]  # fmt: skip
    assert (interrupted.exit_code, interrupted.unequal) == (130, [])
    assert interrupted.answer.startswith("Undecided after 1 round: ")
    folder = Path(interrupted.folder)
    report = json.loads((folder / "report.json").read_text())
    assert (report["exit_code"], [row["label"] for row in report["rows"]]) == (130, ["serial", "threads", "processes"])
    assert (folder / "report.html").is_file()
    assert not (folder / "failure.json").exists()
    assert not (folder / "outputs").exists()


def test_the_command_prints_what_was_measured_with_the_exit_code(interrupted, tmp_path, monkeypatch, capsys):
    def compare(*arguments, **options):
        raise ComparisonInterrupted(interrupted)

    (tmp_path / "a.yaml").write_text(SMALL)
    monkeypatch.setattr("pipeline.experiments.comparison.compare.compare", compare)
    assert cli.main(["compare", str(tmp_path / "a.yaml")]) == 130
    shown = capsys.readouterr()
    assert interrupted.answer[:40] in shown.out
    assert shown.err.startswith("pipeline: error: ended by Ctrl-C after 1 round; this is what was measured")


@pytest.mark.parametrize(
    ("rounds", "kept"),
    [
        ({"serial": 3, "pool": 2, "dask": 2}, {"serial": 2, "pool": 2, "dask": 2}),  # the third is not complete
        ({"serial": 1, "pool": 1, "dask": 0}, {"serial": 1, "pool": 1}),  # there is only a first
        ({"serial": 1, "pool": 0, "dask": 0}, None),  # nothing to compare with
        ({"serial": 0, "pool": 0, "dask": 0}, None),
    ],
)
def test_complete_rounds_are_kept_of_the_first_all(tmp_path, rounds, kept):
    made = Rounds(graph_of(pow, 2), tmp_path, [Case(name, 1) for name in rounds], {}, {}, tell=lambda line: None)
    made.calls = Calls("a:b", [1.0, 1.0, 1.0])
    made.measurements = [measurement(name, i, 1.0) for name, n in rounds.items() for i in range(n)]
    assert made.keep_complete() is (kept is not None)
    if kept is not None:
        assert Counter(m.case for m in made.measurements) == kept
        assert set(made.failures) == set(rounds) - set(kept)


def test_a_case_that_failed_does_not_hold_back_the_rounds(tmp_path):
    made = Rounds(graph_of(pow, 2), tmp_path, [Case("serial", 1), Case("pool", 1)], {}, {}, tell=lambda line: None)
    made.measurements, made.failures = [measurement("serial", i, 1.0) for i in (0, 1)], {"pool": ("no", 1)}
    assert made.keep_complete()
    assert len(made.measurements) == 2


# ---------------------------------------------------------------------------------------------------------------------
# A running cluster beside the local back ends
# ---------------------------------------------------------------------------------------------------------------------

CLUSTER = "dask[address=tcp://10.0.0.1:8786]"


def test_a_cluster_is_one_more_back_end_with_its_own_workers():
    assert _cases(chosen(["pool", CLUSTER]), [1, 2]) == [
        Case("serial", 1), Case("pool", 1, True), Case("pool", 2, True), Case(CLUSTER, 0)
    ]  # fmt: skip
    runs = [measurement(name, i, t, workers=n) for name, t, n in (("serial", 8.0, 1), (CLUSTER, 1.0, 16))
            for i in range(3)]  # fmt: skip
    result = compared(runs, cases=[Case("serial", 1), Case(CLUSTER, 0)], differences={}, failures={})
    assert (result.rows[1].workers, result.rows[1].efficiency) == (16, 0.5)
    assert math.isnan(result.rows[1].memory)  # that of its workers is not known here
    assert result.advice.do == "Use `--cluster tcp://10.0.0.1:8786`"
    assert "10.0.0.1" in comparison_text(result)
    assert max(map(len, comparison_text(result).split("\n"))) <= 80


def test_an_address_may_have_brackets_and_is_of_dask_alone():
    assert parse("dask[address=tcp://[::1]:8786]") == ("dask", {"address": "tcp://[::1]:8786"})
    with pytest.raises(ConfigError, match="unknown option 'address'"):
        parse("pool[address=tcp://10.0.0.1:8786]")


def test_the_environment_changes_no_comparison(interrupted, tmp_path, monkeypatch, capsys):
    seen = []

    def compare(*arguments, **options):
        seen.append(options["cluster"])
        raise ComparisonInterrupted(interrupted)

    (tmp_path / "a.yaml").write_text(SMALL)
    monkeypatch.setattr("pipeline.experiments.comparison.compare.compare", compare)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://10.0.0.1:8786")
    cli.main(["compare", str(tmp_path / "a.yaml")])
    assert "DASK_SCHEDULER_ADDRESS is not used by compare" in capsys.readouterr().out
    cli.main(["compare", str(tmp_path / "a.yaml"), "--cluster", "tcp://10.0.0.2:8786"])
    assert seen == [None, "tcp://10.0.0.2:8786"]


def test_a_running_cluster_is_measured_beside_threads(tmp_path):
    with scheduler() as found, worker(found):
        result = pipeline.load(SMALL).compare(
            backends=["threads"], workers=1, repeat=1, runs=tmp_path, cluster=found.address
        )
    label = f"dask[address={found.address}]"
    assert [(row.label, row.failure, row.equality) for row in result.rows] == [
        ("serial", "", "reference"), ("threads", "", "equal"), (label, "", "equal")
    ]  # fmt: skip


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_children_end_when_the_one_who_compares_is_killed(tmp_path, number):
    script = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
import test_compare as t
from pathlib import Path
t.compare_graph(t.graph_of(t.tasks.waits, {str(tmp_path)!r}, n=1), folder=Path({str(tmp_path / "run")!r}), workers=1)
"""
    os.mkfifo(tmp_path / "started")
    parent = subprocess.Popen([sys.executable, "-c", script])
    child = psutil.Process(int((tmp_path / "started").read_text()))  # waits for who writes
    parent.send_signal(number)
    parent.wait(timeout=120)
    child.wait(timeout=120)
