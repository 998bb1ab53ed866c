"""Comparisons: the verdict from numbers made by hand, and measured runs of Graphs made by hand."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipeline.config.loader import load
from pipeline.config.model import Output, Reference
from pipeline.errors import Bug, ConfigError, TaskError, WorkerLost
from pipeline.experiments.comparison.compare import Rounds, chosen, compare, compare_graph, rotated
from pipeline.experiments.comparison.result import Case, Difference, Measurement
from pipeline.experiments.comparison.rows import compared as rows_of
from pipeline.graph.graph import Graph, Policy, listed, ref, task
from pipeline.graph.value_types import ItemsType, ObjectType
from pipeline.outputs.planners import plan_sink
from pipeline.report.comparison_json import write_report
from pipeline.report.terminal import comparison_text
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
    assert last == "fastest: processes, 1.79x of serial on 2 workers; results equal bit by bit"


def test_speedup_efficiency_and_full_speedup_have_known_values():
    row = {row.backend: row for row in comparison({"serial": [8.0] * 3, "pool": [4.0] * 3}).rows}["pool"]
    assert (row.speedup.value, row.efficiency, row.speedup_all.value) == (2.0, 1.0, 1.6)


def test_overlapping_intervals_are_told_as_no_difference():
    result = comparison(FASTER)
    assert [row.differs for row in result.rows] == [False, False, True]
    assert any("no difference to serial is shown" in line and "threads" in line for line in result.footnotes)


def test_two_fastest_that_overlap_are_told_together():
    result = comparison(FASTER | {"pool": [6.75, 6.85, 6.95]})
    assert "fastest: processes, 1.79x of serial on 2 workers (no difference shown to pool)" in result.verdict[-1]


def test_nothing_faster_than_serial_is_said_so():
    assert comparison({"serial": [1.0, 1.1, 1.2], "pool": [2.0, 2.1, 2.2]}).verdict[-1].startswith("fastest: serial;")


def test_serial_is_not_alone_fastest_among_equals():
    result = comparison({"serial": [1.0, 1.1, 1.2], "pool": [1.15, 1.05, 1.25], "dask": [2.0, 2.1, 2.2]})
    assert result.verdict[-1].startswith("fastest: serial (no difference shown to pool);")


def test_serial_is_not_called_alike_beside_a_ratio_that_excludes_it():
    slow = {"serial": [1.0, 1.1], "processes": [4.0, 4.4]}
    assert comparison(slow).verdict[-1].startswith("undecided after 2 rounds: serial was fastest;")
    apart = {"serial": [1.0, 2.0, 3.0], "processes": [2.9, 5.8, 8.7]}  # the times overlap, the ratios of rounds do not
    assert comparison(apart).verdict[-1].startswith("fastest: serial;")


def test_items_that_every_run_dropped_are_told_and_are_exit_1():
    runs = [measurement(name, i, 1.0, dropped=2) for name in ("serial", "pool") for i in range(3)]
    result = compared(runs, cases=[Case("serial", 1), Case("pool", 2)], differences={}, failures={})
    assert (result.exit_code, result.problem.partition(",")[0]) == (1, "2 items were dropped")
    assert "2 items were dropped, since they failed: these times are without what needs them" in result.verdict


@pytest.mark.parametrize(("starved", "told"), [(1.1, True), (0.9, False), (None, False)])
def test_serial_without_a_core_for_a_tenth_is_a_busy_machine(starved, told):
    runs = [measurement(name, i, 10.0, starved=starved) for name in ("serial", "pool") for i in range(3)]
    result = compared(runs, cases=[Case("serial", 1), Case("pool", 2)], differences={}, failures={})
    assert any("something else used this machine" in line for line in result.verdict) is told


def test_serial_with_threads_in_its_tasks_shows_no_busy_machine():
    runs = [measurement(name, i, 10.0, starved=5.0) for name in ("serial", "pool") for i in range(3)]
    busy = [replace(one, user=19.0) for one in runs]
    result = compared(busy, cases=[Case("serial", 1), Case("pool", 2)], differences={}, failures={})
    assert result.disturbed == 0


def test_one_round_claims_no_difference():
    result = comparison({"serial": [9.0], "pool": [1.0]})
    assert result.verdict[-1].startswith("undecided after 1 round: pool was fastest, 9.00x of serial on 2 workers;")
    assert result.footnotes[0].startswith("1 round: too few")


def test_unequal_results_are_exit_6_and_stand_in_the_verdict():
    wrong = {"processes": [Difference("output 'x'", False, False, 0.5, 1e-9, "3 of 8 cells differ")],
             "threads": [Difference("output 'x'", True, True)]}  # fmt: skip
    result = comparison(FASTER, differences=wrong, failures={"pool": ("no", 4)})
    assert result.exit_code == 6
    assert result.verdict[-1].endswith("RESULTS DIFFER: processes")
    assert "3 of 8 cells differ" in result.problem


def test_equality_within_a_tolerance_says_both_numbers():
    near = {name: [Difference("output 'x'", True, False, 3.2e-16, 1e-9)] for name in ("threads", "processes")}
    result = comparison(FASTER, differences=near)
    assert result.verdict[-1].endswith("results equal within 3e-16 (relative; 1e-09 is allowed)")
    assert result.exit_code == 0


def test_a_back_end_that_did_not_run_is_a_row_with_its_reason():
    result = comparison(FASTER, failures={"dask": ("fit[a]: ValueError: no", 1)})
    assert result.exit_code == 1
    assert result.verdict[0] == "dask did not run: fit[a]: ValueError: no"
    text = comparison_text(result)
    assert "did not run" in text
    assert text.split("\n")[-1].startswith("fastest: processes")


def test_the_tables_fit_80_columns_and_hold_every_quantity():
    text = comparison_text(comparison(FASTER | {"pool": [123.4, 125.6, 129.9], "dask": [0.0123, 0.0133, 0.0143]}))
    assert max(map(len, text.split("\n"))) <= 80
    for said in ("elapsed", "speedup", "ciency", "CPU", "start-up", "commit", "peak", "all included", "equal",
                 "12.2 [12.0, 12.4]", "1.79x [", "200.0 MB", "6.12 + 0.10", "reference"):  # fmt: skip
        assert said in text


def test_a_comparison_is_a_frame_a_text_html_and_strict_json():
    result = comparison(FASTER, failures={"dask": ("<lost>", 4)})
    frame = result.to_frame()
    assert list(frame.index) == ["serial", "threads", "processes", "dask"]
    assert frame.loc["processes", "speedup_low"] <= frame.loc["processes", "speedup"]
    assert "processes" in repr(result)
    assert "<lost>" not in result._repr_html_()
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["rows"][2]["speedup"]["value"] == pytest.approx(12.2 / 6.8)
    assert plain["exit_code"] == 4


def test_serial_is_always_there_and_first():
    assert chosen(["dask", "pool", "dask"]) == ("serial", "dask", "pool")


def test_an_unknown_back_end_is_refused_by_name():
    with pytest.raises(ConfigError, match="no back end 'procs'"):
        chosen(["procs"])


def test_each_round_begins_with_another_back_end():
    assert {next(iter(rotated("abc", i))) for i in range(3)} == set("abc")


# ---------------------------------------------------------------------------------------------------------------------
# Measured runs of Graphs made by hand: every function in them is importable by a fresh process
# ---------------------------------------------------------------------------------------------------------------------


def graph_of(function, *arguments, n=6):
    """``n`` items ``function(*arguments, i)`` and their sorted list; both wanted, the list written as well."""
    tasks = {("item", i): task(("item", i), function, *arguments, i) for i in range(n)}
    tasks[("all",)] = task(("all",), list, listed([ref(key) for key in list(tasks)]))
    items = ItemsType("item", tuple(f"i={i}" for i in range(n)), {}, n)
    value = ObjectType("all")
    output = Output("all", Reference("all", ("all",)), "json", "out/all.json")
    writers, sink = plan_sink(output, value, prefix="all/write")
    tasks |= writers
    owners = {key: "item" if key[0] == "item" else "all" for key in tasks}
    return Graph(
        tasks=tasks,
        wanted=(*items.keys, *sink.records),
        owners=owners,
        policies={"item": Policy("item"), "all": Policy("all")},
        value_types={"item": items, "all": value},
        sinks=(sink,),
        name="made",
    )


def test_two_back_ends_are_measured_and_found_equal(tmp_path):
    told = []
    graph = graph_of(math.factorial)
    result = compared_graph(graph, folder=tmp_path, backends=["threads"], workers=2, repeat=2, tell=told.append)
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
    assert graph.fingerprint in told[0]
    assert any(line.startswith("serial took") for line in told)


def test_only_the_run_folder_is_written_with_all_that_was_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "x"
    graph = graph_of(math.factorial)
    write_report(compared_graph(graph, folder=folder, backends=["threads"], workers=1, repeat=1))
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]
    assert sorted(p.name for p in folder.iterdir()) == ["graph", "report.json", "serial-1", "threads-1"]
    assert Graph.load(folder / "graph").fingerprint == graph.fingerprint
    assert Trace.load(folder / "serial-1" / "trace.parquet").backend == "serial"
    assert json.loads((folder / "report.json").read_text())["fingerprint"] == graph.fingerprint


def test_results_that_depend_on_the_process_are_found_unequal(tmp_path):
    graph = graph_of(_process_id)
    result = compared_graph(graph, folder=tmp_path, backends=["threads"], workers=1, repeat=1)
    assert result.exit_code == 6
    assert {d.what for _, d in result.unequal} == {"output 'all'", "'item'"}


def _process_id(i):
    return os.getpid()


def test_a_back_end_that_fails_is_a_row_and_the_others_go_on(tmp_path):
    graph = graph_of(_fails_off_the_main_thread)
    result = compared_graph(graph, folder=tmp_path, backends=["threads", "processes"], workers=1, repeat=1)
    failed = {row.backend: row for row in result.rows}["threads"]
    assert "ValueError: not here" in failed.failure
    assert result.exit_code == 1
    assert [row.backend for row in result.ran] == ["serial", "processes"]


def _fails_off_the_main_thread(i):
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("not here")
    return i


def test_what_serial_raises_is_raised_with_its_step_and_item(tmp_path):
    with pytest.raises(TaskError, match="ValueError") as caught:
        compared_graph(graph_of(_refuses), folder=tmp_path, workers=1, repeat=1)
    assert caught.value.step == "item"


def test_a_task_that_ends_serials_process_is_no_fault_of_ours(tmp_path):
    rounds = Rounds(graph_of(_refuses), tmp_path, [Case("serial", 1)], {}, {}, tell=lambda message: None)
    with pytest.raises(WorkerLost, match=r"serial did not run: the process was ended by SIGKILL.*memory was short"):
        rounds._failed(rounds.cases[0], "the process was ended by SIGKILL and left no report", 4, None)
    with pytest.raises(Bug, match="serial did not run: KeyError"):
        rounds._failed(rounds.cases[0], "KeyError: 1", 70, KeyError(1))


def _refuses(i):
    raise ValueError("no")


def test_a_back_end_whose_process_dies_is_told_with_the_signal(tmp_path):
    graph = graph_of(_dies_in_threads)
    result = compared_graph(graph, folder=tmp_path, backends=["threads"], workers=1, repeat=1)
    assert "was ended by SIGKILL" in result.rows[1].failure
    assert result.exit_code == 4


def _dies_in_threads(i):
    if threading.current_thread() is not threading.main_thread():
        os.kill(os.getpid(), signal.SIGKILL)
    return i


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
    assert "threads: workers" in comparison_text(result)


@pytest.mark.parametrize("counts", [[], [0], [1, -2]])
def test_a_scale_is_of_whole_numbers(tmp_path, counts):
    with pytest.raises(ConfigError, match="scale"):
        compared_graph(graph_of(math.factorial), folder=tmp_path, backends=["threads"], workers=counts)


def test_core_seconds_add_up_and_are_told_with_a_sentence(tmp_path):
    result = compared_graph(graph_of(math.factorial), folder=tmp_path, backends=["processes"], workers=2, repeat=1)
    account = {a.runs.label: a for a in result.accounts}["processes"]
    assert sum(account.losses.percents().values()) == 100
    assert sum(account.core_time.total(name) for name in account.core_time.lanes[0]) == 2 * round(account.elapsed * 1e9)
    assert result.reasons["processes"].startswith("processes: ")
    assert {step: times.n_tasks for step, times in account.by_step.items()} == {"item": 6, "all": 2}
    text = comparison_text(result)
    assert max(map(len, text.split("\n"))) <= 80
    # of one line or two, as the times make it long; a busy machine is told before it
    assert [line.startswith("undecided after 1 round: ") for line in text.split("\n\n")[-1].split("\n")].count(
        True
    ) == 1
    for said in ("core-seconds", "dependency wait", "unexplained", "CPU of the parent", "critical path", "= workers"):
        assert said in text


def test_a_reference_is_timed_and_compared_with_serials_outputs(tmp_path):
    graph = graph_of(math.factorial)
    call = "test_compare:by_hand"
    result = compared_graph(
        graph, folder=tmp_path, backends=["threads"], workers=1, repeat=2, call=call, params={"n": 6}
    )
    assert result.exit_code == 0
    assert result.reference.equality == "equal"
    assert result.reference.elapsed.n == 2
    assert set(result.reference.cost) == {"serial", "threads"}
    write_report(result)
    assert json.loads((tmp_path / "report.json").read_text())["reference"]["call"] == call
    assert "(COST)" in comparison_text(result)


def by_hand(n):
    return {"all": [math.factorial(i) for i in range(n)]}


@pytest.mark.parametrize(
    ("n", "call", "code", "said"),
    [
        (5, "test_compare:by_hand", 6, "the reference gave other results than serial"),
        (6, "test_compare:by_no_hand", 1, "the reference test_compare:by_no_hand did not run"),
        (6, "test_compare:graph_of", 1, "did not run"),
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


def test_an_interrupted_comparison_leaves_no_process(tmp_path):
    def interrupt(line):
        if line.startswith("serial took"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compared_graph(graph_of(math.factorial), folder=tmp_path, workers=1, repeat=1, tell=interrupt)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_children_end_when_the_one_who_compares_is_killed(tmp_path, number):
    script = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
import test_compare as t
from pathlib import Path
t.compare_graph(t.graph_of(t._waits, {str(tmp_path)!r}, n=1), folder=Path({str(tmp_path / "run")!r}), workers=1)
"""
    os.mkfifo(tmp_path / "started")
    parent = subprocess.Popen([sys.executable, "-c", script])
    child = psutil.Process(int((tmp_path / "started").read_text()))  # waits for who writes
    parent.send_signal(number)
    parent.wait(timeout=120)
    child.wait(timeout=120)


def _waits(folder, i):
    Path(folder, "started").write_text(str(os.getpid()))
    signal.pause()
