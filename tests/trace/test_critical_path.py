"""Span and critical path: known answers, and paths of random runs, which cover the elapsed time exactly."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import Work, any_trace, any_work, chained, row, trace

from pipeline.trace.critical_path import CriticalPath, critical_path, longest_path, span
from pipeline.trace.lanes import lanes
from pipeline.trace.replay import replay
from pipeline.trace.trace import Trace

DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
SECONDS = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 1.0}


def parts_of(path: CriticalPath) -> list[tuple[str, str, float, float]]:
    return [(s.key, s.kind, s.start / 1e9, s.stop / 1e9) for s in path.steps]


# ---------------------------------------------------------------------------------------------------------------------
# The span
# ---------------------------------------------------------------------------------------------------------------------


def test_the_span_is_the_time_of_the_longest_path():
    assert span(DIAMOND, SECONDS) == 5
    assert longest_path(DIAMOND, SECONDS) == ("a", "c", "d")


def test_the_span_of_tasks_that_need_nothing_is_the_longest():
    assert span({"a": (), "b": ()}, SECONDS) == 2
    assert longest_path({"a": (), "b": ()}, SECONDS) == ("b",)


def test_no_tasks_take_no_time():
    assert span({}, {}) == 0
    assert longest_path({}, {}) == ()


def test_what_is_no_task_is_there_from_the_start():
    assert span({"a": ("context",)}, SECONDS) == 1
    assert longest_path({"a": ("context",)}, SECONDS) == ("a",)


def test_a_chain_longer_than_python_s_stack_has_a_span():
    keys = [str(i) for i in range(5_000)]
    needs = {key: (before,) for before, key in pairwise(keys)} | {"0": ()}
    assert span(needs, dict.fromkeys(keys, 1.0)) == 5_000
    assert longest_path(needs, dict.fromkeys(keys, 1.0)) == tuple(keys)


def test_a_task_without_a_time_is_named():
    with pytest.raises(ValueError, match="task d has no time"):
        span(DIAMOND, {"a": 1.0, "b": 1.0, "c": 1.0})


def test_a_circle_is_refused():
    with pytest.raises(ValueError, match="2 of 3 tasks are on a cycle or need one"):
        span({"a": (), "b": ("c",), "c": ("b",)}, SECONDS)


@settings(deadline=None)
@given(any_work())
def test_the_longest_path_is_a_path_and_takes_the_span(work: Work):
    path = longest_path(work.needs, work.seconds)
    assert all(earlier in work.needs[later] for earlier, later in pairwise(path))
    assert sum(work.seconds[key] for key in path) == pytest.approx(span(work.needs, work.seconds), abs=1e-15)


# ---------------------------------------------------------------------------------------------------------------------
# The observed critical path
# ---------------------------------------------------------------------------------------------------------------------


def test_a_chain_that_never_waits_is_compute_alone():
    path = critical_path(chained({"a-0": 1.0, "b-1": 2.0}), {"a-0": (), "b-1": ("a-0",)})
    assert parts_of(path) == [("a-0", "compute", 0, 1), ("b-1", "compute", 1, 3)]
    assert (path.seconds("compute"), path.seconds("data-wait"), path.seconds("core-wait")) == (3, 0, 0)


def test_waiting_for_data_and_for_the_worker_are_told_apart():
    rows = [
        row("a-0", 1, 2, worker="w0"),
        row("b-1", 0, 4, worker="w1"),
        row("c-2", 4.5, 6, worker="w1"),  # all it needs was there at 2, its worker at 4
        row("d-3", 7, 9, worker="w0"),
    ]
    needs = {"a-0": (), "b-1": (), "c-2": ("a-0",), "d-3": ("c-2", "a-0")}
    path = critical_path(trace(rows, elapsed=10, n_workers=2), needs)
    assert parts_of(path) == [
        ("b-1", "compute", 0, 4),
        ("c-2", "core-wait", 4, 4.5),
        ("c-2", "compute", 4.5, 6),
        ("d-3", "data-wait", 6, 7),
        ("d-3", "compute", 7, 9),
        ("d-3", "data-wait", 9, 10),
    ]
    assert path.by_step() == {"b": 4, "d": 2, "c": 1.5}
    assert path.by_step("data-wait") == {"d": 2}
    assert path.steps[1].worker == "w1"


def test_a_task_that_waited_for_a_limit_follows_the_one_that_had_it():
    rows = [
        row("a-0", 0, 2, worker="w0"),
        row("b-1", 0, 3, worker="w1"),
        row("a-2", 3, 4, worker="w0", granted=2, limit="db"),
    ]
    needs = {"a-0": (), "b-1": (), "a-2": ()}
    path = critical_path(trace(rows, elapsed=4, n_workers=2), needs, {"a": ("db",)})
    assert parts_of(path) == [("a-0", "compute", 0, 2), ("a-2", "limit-wait", 2, 3), ("a-2", "compute", 3, 4)]
    without = critical_path(trace(rows, elapsed=4, n_workers=2), needs)
    assert [kind for _, kind, *_ in parts_of(without)] == ["compute", "core-wait", "compute"]


def test_what_comes_before_the_first_task_is_waiting_for_data():
    path = critical_path(trace([row("a-0", 1, 2)], elapsed=2, n_workers=1), {"a-0": ()})
    assert parts_of(path) == [("a-0", "data-wait", 0, 1), ("a-0", "compute", 1, 2)]


def test_an_end_on_this_worker_and_elsewhere_at_once_is_data():
    rows = [row("a-0", 0, 2, worker="w0"), row("b-1", 0, 2, worker="w1"), row("c-2", 3, 4, worker="w1")]
    path = critical_path(trace(rows, elapsed=4, n_workers=2), {"a-0": (), "b-1": (), "c-2": ("a-0",)})
    assert parts_of(path)[:2] == [("a-0", "compute", 0, 2), ("c-2", "data-wait", 2, 3)]


def test_a_task_that_ended_after_its_user_began_is_no_cause():
    rows = [row("a-0", 0, 3, worker="w0"), row("b-1", 2, 4, worker="w1")]  # clocks that are off
    path = critical_path(trace(rows, elapsed=4, n_workers=2), {"a-0": (), "b-1": ("a-0",)})
    assert parts_of(path) == [("b-1", "data-wait", 0, 2), ("b-1", "compute", 2, 4)]


def test_of_a_task_that_ran_twice_the_last_before_counts():
    rows = [row("a-0", 0, 1), row("a-0", 1, 3, attempt=1, worker="w1"), row("b-1", 4, 5, worker="w2")]
    path = critical_path(trace(rows, elapsed=5, n_workers=3), {"a-0": (), "b-1": ("a-0",)})
    assert parts_of(path)[-2:] == [("b-1", "data-wait", 3, 4), ("b-1", "compute", 4, 5)]


def test_a_replacement_worker_waits_for_the_same_core():
    rows = [row("a-0", 0, 2, worker="lost"), row("b-1", 3, 5, worker="new")]
    path = critical_path(trace(rows, elapsed=5, n_workers=1), {"a-0": (), "b-1": ()})
    assert [kind for _, kind, *_ in parts_of(path)] == ["compute", "core-wait", "compute"]


def test_a_run_of_no_tasks_is_waiting_alone():
    assert parts_of(critical_path(trace([], elapsed=2, n_workers=1), {})) == [("", "data-wait", 0, 2)]


def test_a_task_that_the_graph_does_not_have_is_named():
    with pytest.raises(ValueError, match="task a-0 is not a task of the graph"):
        critical_path(chained({"a-0": 1.0}), {"b-0": ()})


def tiles(path: CriticalPath, elapsed: int) -> bool:
    edges = [0, *(stretch.stop for stretch in path.steps)]
    return edges[-1] == elapsed and [stretch.start for stretch in path.steps] == edges[:-1]


@settings(deadline=None)
@given(any_trace(), st.data())
def test_the_path_covers_the_elapsed_time_of_any_run_exactly(some: Trace, data: st.DataObject):
    keys = [f"s-{i}" for i in range(6)]
    needs = {key: tuple(data.draw(st.sets(st.sampled_from(keys), max_size=3))) for key in keys}
    elapsed = round(some.elapsed * 1e9)
    path = critical_path(some, needs)
    assert tiles(path, elapsed)
    lane = {name: i for i, names in enumerate(lanes(some)) for name in names}
    rows = some.tasks.to_pylist()
    last = max((min(max(r["stop"], 0), elapsed) for r in rows), default=0)
    for stretch in path.steps:
        clipped = [
            (r["key"], r["worker"], min(max(r["start"], 0), elapsed), min(max(r["stop"], 0), elapsed)) for r in rows
        ]
        if stretch.kind == "compute":
            assert (stretch.key, stretch.worker, stretch.start, stretch.stop) in clipped
        elif stretch.kind == "core-wait":
            assert any(stop == stretch.start and lane[w] == lane[stretch.worker] for _, w, _, stop in clipped)
        elif 0 < stretch.start < last:
            assert any(stop == stretch.start and key in needs[stretch.key] for key, _, _, stop in clipped)


def by_segment(work: Work) -> dict[str, tuple[str, ...]]:
    """What each task waits for in a replay: the task before it in its segment, or all the segments it needs."""
    last = {key: one.keys[-1] for one in work.segments for key in one.outputs if one.keys}
    needs = {}
    for one in work.segments:
        for before, key in zip(("", *one.keys), one.keys, strict=False):
            needs[key] = (before,) if before else tuple({last[k] for k in one.inputs if k in last})
    return needs


@settings(deadline=None)
@given(any_work(), st.integers(1, 4))
def test_if_only_tasks_take_time_the_path_is_compute_alone(work: Work, n_workers: int):
    seconds = {key: value + 1e-9 for key, value in work.seconds.items()}
    run = replay(work.segments, seconds, n_workers=n_workers)
    path = critical_path(run, by_segment(work))
    assert tiles(path, round(run.elapsed * 1e9))
    assert all(stretch.kind == "compute" for stretch in path.steps)


@settings(deadline=None)
@given(any_work())
def test_with_a_worker_per_segment_the_path_is_the_longest_chain(work: Work):
    seconds = {key: value + 1e-9 for key, value in work.seconds.items()}
    run = replay(work.segments, seconds, n_workers=len(work.segments))
    needs = by_segment(work)
    path = critical_path(run, needs)
    assert path.seconds("compute") == pytest.approx(span(needs, seconds), abs=1e-15)
    assert all(earlier.key in needs[later.key] for earlier, later in pairwise(path.steps))


@settings(deadline=None)
@given(any_work(), st.integers(1, 3), st.integers(1, 5))
def test_what_segments_take_besides_is_waited_for(work: Work, n_workers: int, overhead: int):
    seconds = {key: value + 1e-9 for key, value in work.seconds.items()}
    run = replay(work.segments, seconds, n_workers=n_workers, overhead=overhead / 1e9)
    path = critical_path(run, by_segment(work))
    assert tiles(path, round(run.elapsed * 1e9))
    waits = [stretch.stop - stretch.start for stretch in path.steps if stretch.kind != "compute"]
    assert set(waits) <= {overhead}
    assert bool(waits) == bool(work.needs)
