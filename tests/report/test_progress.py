"""How a run is watched: counts, lines, JSON events, and what is said of the time left; time passes when told to."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from conftest import until

from pipeline.backends.events import ItemDropped, Note, TaskRetry, TasksDone, WorkerLoss
from pipeline.errors import TaskError
from pipeline.graph.graph import Graph, Policy
from pipeline.graph.nodes import constant, is_constant, ref, task
from pipeline.report.progress import JsonLines, LiveTable, PlainLines, dumps, listener_for
from pipeline.report.progress_counts import Counts, Step, earlier_run
from pipeline.report.progress_lines import event_line, step_lines, table_lines
from pipeline.trace.time_left import Estimate, PreviousRun, TimeLeft
from pipeline.units import time_left_text


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def graph() -> Graph:
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


def steps_graph(n_steps: int, n_tasks: int) -> Graph:
    """Steps ``s0``, ``s1``, …, none of which needs another."""
    tasks = {(f"s{s}", i): task((f"s{s}", i), abs, i) for s in range(n_steps) for i in range(n_tasks)}
    owners = {key: key[0] for key in tasks}
    return Graph(tasks, tuple(tasks), owners, {name: Policy(name) for name in dict.fromkeys(owners.values())})


# ---------------------------------------------------------------------------------------------------------------------
# Counting
# ---------------------------------------------------------------------------------------------------------------------


def test_counts_take_copies_together_and_leave_out_constants(graph: Graph) -> None:
    counts = Counts(Clock())
    counts.begin(graph)
    assert {name: step.n_tasks for name, step in counts.steps.items()} == {"load": 4, "total": 1}
    ended = [counts.count(TasksDone(s)) for s in ("load[a]", "load[b]", "load[a]", "load[b]", "load[b]")]
    assert [step and step.name for step in ended] == [None, None, None, "load", None]
    assert (counts.done, counts.n_tasks) == (4, 5)


def test_what_tasks_took_is_what_the_time_left_is_told_by(graph: Graph) -> None:
    clock = Clock()
    counts = Counts(clock)
    counts.begin(steps_graph(1, 100))
    for second in range(10, 41):
        clock.now = float(second)
        counts.count(TasksDone("s0", count=2, seconds=4.0))  # four at a time, two seconds each
    assert holds(counts.left(), (100 - 62) / 2)


def test_an_item_with_parts_counts_once() -> None:
    tasks = {(name, i): task((name, i), abs, i) for name in ("fit", "fit.u", "fit.v") for i in range(4)}
    policies = {"fit": Policy("fit", items=("a", "b", "c", "d"), over="fit")}
    counts = Counts(Clock())
    counts.begin(Graph(tasks, tuple(tasks), dict.fromkeys(tasks, "fit"), policies))
    for _ in range(3):
        counts.count(TasksDone("fit", count=2))
    fit = counts.of("fit")
    assert fit is not None
    assert fit.units() == (2, 4)


def test_what_went_wrong_is_counted_by_step(graph: Graph) -> None:
    counts = Counts(Clock())
    counts.begin(graph)
    for kind in (TaskRetry, TaskRetry, ItemDropped, WorkerLoss):
        counts.count(kind("load[b]"))
    counts.fail(TaskError("load[a]", "('load[a]', 0)", "ValueError: no"))
    counts.fail(KeyboardInterrupt())
    assert counts.steps["load"].extras() == "1 failed, 1 worker lost, 2 retried, 1 dropped"
    assert counts.steps["total"].extras() == ""


# ---------------------------------------------------------------------------------------------------------------------
# What is left
# ---------------------------------------------------------------------------------------------------------------------


def played(
    ends: Iterable[tuple[float, str] | tuple[float, str, float]],
    until: float,
    earlier: PreviousRun | None = None,
    **n_tasks: int,
) -> TimeLeft:
    """What is left at ``until``, after the ends of tasks before it, as (when, step) or (when, step, what it took)."""
    clock = Clock()
    estimate = Estimate(clock)
    estimate.begin(n_tasks, earlier)
    for when, step, *took in sorted(ends):
        if when <= until:
            clock.now = when
            estimate.finished(step, 1, *took)
    clock.now = until
    return estimate.left()


def holds(left: TimeLeft, truth: float) -> bool:
    return left.low is not None and left.high is not None and left.low <= truth <= left.high


@pytest.mark.parametrize("until", [10.0, 50.0, 99.0, 150.5, 199.0])
def test_a_constant_rate_gives_a_narrow_and_true_range(until: float) -> None:
    left = played([(float(i + 1), "fit") for i in range(200)], until, fit=200)
    assert holds(left, 200 - until)
    assert left.high is not None
    assert left.low is not None
    assert left.high - left.low <= 0.15 * (200 - until) + 1


@pytest.mark.parametrize("until", [60.0, 120.0, 300.0])
def test_a_step_that_slows_down_still_ends_within_the_range(until: float) -> None:
    costs = [0.2 + 0.01 * i for i in range(400)]  # seconds; the last costs 20 times the first
    ends = [(sum(costs[: i + 1]), "fit") for i in range(400)]
    left = played(ends, until, fit=400)
    assert holds(left, sum(costs) - until)
    steady = played([(0.2 * (i + 1), "fit") for i in range(400)], 60.0, fit=400)
    assert left.high is not None
    assert steady.high is not None
    assert left.high > steady.high


@pytest.mark.parametrize("until", [30.0, 60.0, 90.0])
def test_scattered_durations_widen_the_range(until: float) -> None:
    def after(costs: Callable[[random.Random], float]) -> tuple[list[tuple[float, str]], float]:
        source, now, ends = random.Random(1), 0.0, []
        for _ in range(200):
            now += costs(source)
            ends.append((now, "fit"))
        return ends, now

    ends, total = after(lambda source: source.expovariate(1.0))
    scattered = played(ends, until, fit=200)
    ends, _ = after(lambda _: 1.0)
    steady = played(ends, until, fit=200)
    assert holds(scattered, total - until)
    width = [(left.high or 0.0) - (left.low or 0.0) for left in (scattered, steady)]
    assert width[0] > width[1]


@pytest.mark.parametrize("until", [50.5, 75.0, 99.9, 150.0])
def test_tasks_that_end_in_waves_of_all_workers_are_no_hurry(until: float) -> None:
    ends = [(10.0 * (i // 4 + 1) + 0.01 * (i % 4), "fit") for i in range(80)]
    assert holds(played(ends, until, fit=80), 200.03 - until)


def side_by_side() -> list[tuple[float, str, float]]:
    """Two workers: one ends an ``a`` every second, the other a ``b`` every 3; when the a are done both take b."""
    return [(float(i + 1), "a", 1.0) for i in range(90)] + [(3.0 * i + 3.0, "b", 3.0) for i in range(30)]


def test_two_steps_side_by_side_are_estimated_by_task_times() -> None:
    left = played(side_by_side(), 90.0, a=90, b=50)
    assert holds(left, 30.0)
    assert left.high is not None
    assert left.low is not None
    assert left.high - left.low <= 0.2 * 30


def test_what_was_before_the_first_task_is_no_work() -> None:
    ends = [(100.0 + 2.0 * (i // 4 + 1), "fit", 2.0) for i in range(40)]  # four at a time, after 100 s
    left = played(ends, 110.0, fit=40)
    assert holds(left, 10.0)
    assert (left.high or 0.0) <= 20


def test_a_last_task_takes_its_whole_time() -> None:
    ends = [(float(8 * (i // 4 + 1)), "fit", 8.0) for i in range(40)]
    assert holds(played(ends, 80.0, fit=41), 8.0)


def test_a_phase_of_one_task_at_a_time_is_noticed() -> None:
    wide = [(float(i // 4 + 1), "wide", 1.0) for i in range(200)]
    narrow = [(50.0 + 2 * (i + 1), "narrow", 2.0) for i in range(100)]
    left = played(wide + narrow, 150.0, wide=200, narrow=100)
    assert holds(left, 100.0)


EARLIER = PreviousRun({"load": 1.0, "fit": 4.0, "total": 10.0}, at_work=2.0)


def test_before_any_task_ended_an_earlier_run_is_the_estimate() -> None:
    left = played([], 0.0, EARLIER, load=100, fit=20, total=1)
    assert holds(left, 100 / 2 + 80 / 2 + 10)
    assert left.earlier == 3
    assert time_left_text(left) == "about 45 s to 3 min left, 3 steps as in an earlier run"
    assert holds(played([], 20.0, EARLIER, load=100, fit=20, total=1), 80.0)


def test_waiting_steps_of_an_earlier_run_have_an_upper_bound() -> None:
    ends = [(float(i // 2 + 1), "load", 1.0) for i in range(100)]
    left = played(ends, 20.0, EARLIER, load=100, fit=20, total=1)
    assert holds(left, 30 + 40 + 10)
    assert (left.waiting, left.earlier) == (0, 2)
    assert played(ends[:1], 1.0, EARLIER, load=100, fit=20, total=1).earlier == 3
    other = played(ends, 20.0, EARLIER, load=100, fit=20, new=1)
    assert (other.high, other.waiting, other.earlier) == (None, 1, 1)
    assert other.low is not None
    assert 45 <= other.low <= 30 + 40
    assert time_left_text(other).endswith("left, and 1 step not begun")


def test_times_of_an_earlier_run_give_way_to_those_of_this_run() -> None:
    ends = [(10.0 * (i + 1), "fit", 10.0) for i in range(50)]
    assert played(ends, 200.0, EARLIER, fit=50) == played(ends, 200.0, fit=50)


def test_start_up_does_not_count_for_good() -> None:
    left = played([(30.0 + i, "fit") for i in range(1, 101)], 60.0, fit=100)
    assert holds(left, 70.0)


def test_steps_that_are_not_begun_leave_a_lower_bound() -> None:
    left = played([(float(i + 1), "load") for i in range(100)], 40.0, load=100, fit=7, total=1)
    assert left.high is None
    assert left.waiting == 2
    assert left.low is not None
    assert 50 < left.low <= 60
    assert time_left_text(left) == "at least 55 s left, and 2 steps not begun"


def test_nothing_is_said_before_enough_is_known() -> None:
    assert time_left_text(played([], 100.0, fit=10)) == "time left unknown: 1 step not begun"
    left = played([(1.0, "fit"), (2.0, "fit")], 2.0, fit=10)
    assert (left.low, left.high, left.early) == (None, None, ("fit",))
    assert time_left_text(left) == "time left unknown: too early to say for 'fit'"
    assert played([(float(i), "fit") for i in range(1, 6)], 5.0, fit=10).early == ()


def test_between_steps_nothing_is_known() -> None:
    left = played([(float(i + 1), "load") for i in range(10)], 20.0, load=10, fit=7)
    assert (left.low, left.high, left.waiting) == (None, None, 1)


@pytest.mark.parametrize(("n_tasks", "ends"), [({}, []), ({"fit": 0}, []), ({"fit": 3}, [1.0, 2.0, 3.0])])
def test_nothing_is_left_without_tasks_and_when_all_are_done(n_tasks: dict[str, int], ends: list[float]) -> None:
    left = played([(when, "fit") for when in ends], 50.0, **n_tasks)
    assert (left.low, left.high) == (0.0, 0.0)
    assert time_left_text(left) == ""


def test_while_no_task_ends_the_range_follows_the_silence() -> None:
    ends = [(float(i + 1), "fit") for i in range(90)]
    assert holds(played(ends, 92.0, fit=100), 8.0)
    silent = played(ends, 150.0, fit=100)
    assert (silent.low, silent.high) == (0.0, 60.0)


def test_repeated_tasks_and_unknown_steps_change_nothing() -> None:
    ends = [(float(i + 1), "fit") for i in range(12)]
    assert played([*ends, (11.5, "other")], 12.0, fit=10) == played(ends, 12.0, fit=10)


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (TimeLeft(0.0, 0.0), ""),
        (TimeLeft(41.0, 44.0), "about 40 s to 45 s left"),
        (TimeLeft(40.0, 40.0), "about 40 s left"),
        (TimeLeft(61.0, 119.0), "about 1 min to 2 min left"),
        (TimeLeft(400.0, 5000.0), "about 6 min to 1 h 30 min left"),
        (TimeLeft(7200.0, 90_000.0), "about 2 h to 25 h left"),
        (
            TimeLeft(3.0, None, ("a", "b"), 1),
            "at least 3 s left, too early to say for 'a' and 1 more, 1 step not begun",
        ),
    ],
)  # fmt: skip
def test_a_range_is_rounded_outwards(left: TimeLeft, text: str) -> None:
    assert time_left_text(left) == text


def left_behind(runs: Path, graph: Graph, name: str, fingerprint: str = "") -> None:
    """The folder of a run of ``graph`` in which every task took 2 s, on two workers."""
    folder = runs / graph.name / name
    folder.mkdir(parents=True)
    steps: dict[str, dict[str, float]] = {}
    for key, node in graph.tasks.items():
        if not is_constant(node):
            step = steps.setdefault(graph.policies[graph.owners[key]].step, {"n_tasks": 0, "seconds": 0.0})
            step["n_tasks"] += 1
            step["seconds"] += 2.0
    facts = {"format": 1, "kind": "run", "name": "n", "backend": "b", "workers": 2, "n_tasks": len(graph), "graph": {}}
    facts |= {"fingerprint": fingerprint or graph.fingerprint, "steps": steps}
    facts |= {"elapsed": sum(step["seconds"] for step in steps.values()) / 2}
    (folder / "run.json").write_text(json.dumps(facts))


def test_the_latest_run_of_the_same_graph_is_found(graph: Graph, tmp_path: Path) -> None:
    assert earlier_run(tmp_path, graph) is None
    left_behind(tmp_path, graph, "1")
    left_behind(tmp_path, graph, "2", fingerprint="another")
    (tmp_path / graph.name / "3").mkdir()
    (tmp_path / graph.name / "3" / "run.json").write_text("no JSON")
    assert earlier_run(tmp_path, graph) == PreviousRun({"load": 2.0, "total": 2.0}, 2.0)


def test_a_second_run_has_an_estimate_from_its_start(graph: Graph, tmp_path: Path) -> None:
    left_behind(tmp_path, graph, "1")
    counts = Counts(Clock(), tmp_path)
    counts.begin(graph)
    assert holds(counts.left(), 2 * 2 / 2 * 2 / 2 + 2)
    assert counts.left().earlier == 2


# ---------------------------------------------------------------------------------------------------------------------
# Lines
# ---------------------------------------------------------------------------------------------------------------------


def test_plain_lines_speak_when_a_step_ends_and_once_a_minute(graph: Graph) -> None:
    file, clock = io.StringIO(), Clock()
    with PlainLines(file, beat=None, clock=clock) as lines:
        lines.begin(graph)
        lines(TasksDone("load[a]"))
        assert file.getvalue() == ""
        clock.now = 61.0
        lines(TasksDone("load[a]"))
        lines(TaskRetry("load[b]"))
        lines(TasksDone("load[b]", count=2))
        lines(WorkerLoss(message="worker 1 (pid 7) ended by SIGKILL"))
    said = [line.strip() for line in file.getvalue().splitlines()]
    assert said == [
        "1 min 01 s  2 of 5 tasks done; time left unknown: too early to say for 'load', 1 step not begun",
        "1 min 01 s  load: 4 tasks done (1 retried)",
        "1 min 01 s  worker lost: worker 1 (pid 7) ended by SIGKILL",
    ]


def test_plain_lines_speak_once_a_minute_though_nothing_happens() -> None:
    file, clock = io.StringIO(), Clock()
    with PlainLines(file, beat=None, clock=clock) as lines:
        lines.begin(steps_graph(1, 100))
        for second in range(1, 51):
            clock.now = float(second)
            lines(TasksDone("s0"))
        for second in range(51, 140):
            clock.now = float(second)
            lines.tick()
    said = [line.strip() for line in file.getvalue().splitlines()]
    assert said == [
        "1 min  50 of 100 tasks done; about 35 s to 45 s left",
        "2 min  50 of 100 tasks done; less than 1 min 30 s left",
    ]


def test_the_beat_of_plain_lines_is_a_thread_that_ends_with_them(graph: Graph) -> None:
    file, clock = io.StringIO(), Clock()
    with PlainLines(file, beat=0.001, clock=clock) as lines:
        lines.begin(graph)
        clock.now = 60.0
        assert until(lambda: bool(file.getvalue()))
    assert "0 of 5 tasks done" in file.getvalue()


def test_json_lines_are_thinned_but_tell_the_last_task_of_a_step(graph: Graph) -> None:
    file, clock = io.StringIO(), Clock()
    with JsonLines(file, clock=clock) as lines:
        lines.begin(graph)
        for _ in range(4):
            lines(TasksDone("load[a]"))
        lines(ItemDropped("load[a]", item="x", message="ValueError"))
        lines.emit("result", ok=True)
    events = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [e["event"] for e in events] == ["graph", "progress", "progress", "dropped", "result"]
    assert events[0]["steps"] == {"load": 4, "total": 1}
    assert events[0]["fingerprint"] == graph.fingerprint
    unknown = {"eta_low": None, "eta_high": None}
    assert events[2] == {"event": "progress", "step": "load", "done": 4, "n_tasks": 4, **unknown}
    assert events[3] == {"event": "dropped", "step": "load[a]", "item": "x", "message": "ValueError"}


def test_json_progress_says_what_is_left_in_seconds() -> None:
    file, clock = io.StringIO(), Clock()
    with JsonLines(file, clock=clock) as lines:
        lines.begin(steps_graph(1, 20))
        for second in range(1, 21):
            clock.now = float(second)
            lines(TasksDone("s0"))
    events = [json.loads(line) for line in file.getvalue().splitlines()][1:]
    assert (events[0]["eta_low"], events[0]["eta_high"]) == (None, None)
    assert all(e["eta_low"] <= 20 - e["done"] <= e["eta_high"] for e in events[4:])
    assert (events[-1]["eta_low"], events[-1]["eta_high"]) == (0, 0)


def test_json_is_strict() -> None:
    assert json.loads(dumps({"a": float("nan"), "b": [float("inf"), 1.0], "c": {1, }})) == {
        "a": None, "b": [None, 1.0], "c": "{1}"}  # fmt: skip


@pytest.mark.parametrize("height", [2, 5, 9])
def test_the_table_fits_the_terminal_and_has_running_steps(height: int) -> None:
    steps = [Step(f"s{i}", 10, done=10 if i < 10 else 0, last=float(i)) for i in range(20)]
    steps[15].done = 5
    lines = step_lines(steps, height=height, width=60)
    assert len(lines) == height
    assert lines[0].startswith("s15")
    assert lines[-1].startswith(f"… {21 - height} more steps: 10 done")
    assert max(map(len, lines)) <= 60


def test_steps_are_sorted_failed_running_waiting_ended() -> None:
    done, next_, running, retried, failed = (Step(name, 10) for name in ("done", "next", "run", "retried", "failed"))
    done.done, running.done, retried.retried, failed.failed = 10, 3, 3, 1
    lines = step_lines([done, next_, running, retried, failed], height=20, width=80)
    assert [line.split()[0] for line in lines] == ["failed", "retried", "run", "next", "done"]
    assert lines[0].endswith("1 failed")
    assert lines[1].endswith("0/10       0 s  3 retried")


def test_100_steps_with_long_names_fit_into_20_lines() -> None:
    counts = Counts(Clock())
    counts.begin(steps_graph(100, 3))
    for i, step in enumerate(counts.steps.values()):
        step.name = f"a_step_with_quite_a_long_name_{i}"
        step.n_tasks = 1_000_000
        step.retried = step.dropped = step.lost = 12 if i == 70 else 0
    lines = table_lines(counts, height=19, width=80)
    assert len(lines) == 19
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("a_step_with_quite_… ")
    assert lines[0].endswith("0/1,000,000  12 workers lost, 12 retried, 12 dropped")
    assert lines[-2] == "… 83 more steps: 83 waiting"
    assert lines[-1] == "0 of 100,000,000 tasks; time left unknown: 100 steps not begun"


def test_the_live_table_leaves_its_last_state_on_the_terminal(graph: Graph) -> None:
    file = io.StringIO()
    with LiveTable(file) as table:
        table.begin(graph)
        table(TasksDone("load[a]", count=4))
        table(Note("dashboard: http://127.0.0.1:8787/status"))
    text = file.getvalue()
    assert "dashboard: http://127.0.0.1:8787/status" in text
    assert "4/4" in text
    assert "0/1" in text
    assert "4 of 5 tasks; time left unknown: 1 step not begun" in text


def test_the_live_table_marks_the_step_that_ended_the_run(graph: Graph) -> None:
    file = io.StringIO()
    table = LiveTable(file)
    table.begin(graph)
    error = TaskError("total", "('total',)", "ValueError: no")
    with pytest.raises(TaskError), table:
        raise error
    assert "1 failed" in file.getvalue()


def test_a_message_of_a_task_cannot_move_the_terminal() -> None:
    assert event_line(TaskRetry("fit", item="a", message="\x1b[2Jgone\nbad")) == "retry: fit[a]: \\x1b[2Jgone\\nbad"


def test_the_listener_suits_where_the_text_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    assert isinstance(listener_for(terminal, as_json=False), LiveTable)
    assert isinstance(listener_for(terminal, as_json=True), JsonLines)
    assert isinstance(listener_for(io.StringIO(), as_json=False), PlainLines)
