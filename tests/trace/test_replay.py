"""Replays: known answers, and bounds that hold for any work."""

from __future__ import annotations

import operator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import Work, any_work, chained, row, trace

from pipeline.graph.fusion import fuse
from pipeline.graph.graph import CONTEXT, Graph, Policy
from pipeline.graph.nodes import constant, ref, task
from pipeline.trace.critical_path import span
from pipeline.trace.lanes import lanes, placement_of
from pipeline.trace.losses import CLASSES, core_time
from pipeline.trace.replay import ReplaySegment, makespan, place_order, replay, scheduled, segments_of
from pipeline.trace.trace import INSTANTS, Trace

# a fork: 0 first, then 1 and 2, which 3 needs
FORK = [
    ReplaySegment(0, ("context",), ("a",), ("a",), ("load",)),
    ReplaySegment(1, ("a",), ("b",), ("b",), ("fit",)),
    ReplaySegment(2, ("a",), ("d",), ("c", "d"), ("fit", "score")),
    ReplaySegment(3, ("b", "d"), ("e",), ("e",), ("merge",)),
]
SECONDS = {"a": 1.0, "b": 5.0, "c": 2.0, "d": 1.0, "e": 1.0}


def ran(some: Trace) -> dict[str, tuple[str, float, float]]:
    """Task -> worker, start, stop."""
    return {r["key"]: (r["worker"], r["start"] / 1e9, r["stop"] / 1e9) for r in some.tasks.to_pylist()}


def test_without_a_placement_the_scheduler_decides():
    assert ran(replay(FORK, SECONDS, n_workers=2)) == {
        "a": ("worker-0", 0, 1),
        "b": ("worker-0", 1, 6),
        "c": ("worker-1", 1, 3),
        "d": ("worker-1", 3, 4),
        "e": ("worker-0", 6, 7),
    }


def test_a_placement_is_respected_in_worker_and_order():
    found = replay(FORK, SECONDS, n_workers=2, placement=[[0, 2, 1], [3]])
    assert ran(found) == {
        "a": ("worker-0", 0, 1),
        "c": ("worker-0", 1, 3),
        "d": ("worker-0", 3, 4),
        "b": ("worker-0", 4, 9),
        "e": ("worker-1", 9, 10),
    }
    assert (makespan(found), found.elapsed, found.n_workers) == (10, 10, 2)


def test_a_replay_is_a_trace_with_all_instants():
    found = replay(FORK, SECONDS, n_workers=2, overhead=0.5)
    by_key = {r["key"]: r for r in found.tasks.to_pylist()}
    first = {name: by_key["c"][name] / 1e9 for name in ("ready", "submitted", *INSTANTS, "done", "cpu")}
    assert first == {
        "ready": 1.5,
        "submitted": 1.5,
        "received": 1.5,
        "loaded": 1.5,
        "opened": 2,
        "start": 2,
        "stop": 4,
        "packed": 4,
        "sent": 4,
        "done": 5,
        "cpu": 2,
    }
    assert [by_key["d"][name] / 1e9 for name in INSTANTS] == [4, 4, 4, 4, 5, 5, 5]
    assert by_key["d"]["step"] == "score"
    assert core_time(found).total("runtime") == 4 * 5 * 10**8


def test_constants_take_neither_time_nor_a_worker():
    held = [ReplaySegment(0, (), ("one",), (), ()), ReplaySegment(1, ("one",), ("a",), ("a",), ("s",))]
    for placement in (None, [[1]]):
        assert ran(replay(held, {"a": 2.0}, n_workers=1, placement=placement)) == {"a": ("worker-0", 0, 2)}


def test_the_segments_of_a_graph_are_played():
    tasks = {
        ("a", 0): task(("a", 0), operator.neg, 1),
        ("k",): constant(("k",), 3),
        ("b", 0): task(("b", 0), operator.add, ref(("a", 0)), ref(("k",))),
        ("c", 1): task(("c", 1), operator.add, ref(("b", 0)), ref(CONTEXT)),
    }
    graph = Graph(tasks, (("c", 1), ("b", 0)), {key: key[0] for key in tasks}, {name: Policy(name) for name in "abck"})
    segments = fuse(graph, n_workers=2)
    seconds = {str(("a", 0)): 1.0, str(("b", 0)): 2.0, str(("c", 1)): 4.0}
    found = replay(segments, seconds, n_workers=2)
    assert found.elapsed == 7
    assert set(found.tasks["key"].to_pylist()) == set(seconds)
    assert found.tasks["step"].to_pylist() == ["a", "b", "c"]


def test_a_segment_recomputed_after_its_use_is_replayed():
    chain = [ReplaySegment(0, (), ("a",), ("a",), ("s",)), ReplaySegment(1, ("a",), ("b",), ("b",), ("s",))]
    assert ran(replay(chain, {"a": 1.0, "b": 2.0}, n_workers=1, placement=[[1, 0]])) == {
        "a": ("worker-0", 0, 1),
        "b": ("worker-0", 1, 3),
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seconds": {"a": 1.0}}, "task b has no time"),
        ({"placement": [[0, 1, 2]]}, r"segment 3 \(e, …\) is missing from the placement"),
        ({"placement": [[0, 1, 2, 3, 4]]}, "segment 4 is in the placement, but there are only 4"),
        ({"placement": [[0, 1], [1, 2, 3]]}, "a segment is in the placement twice"),
        ({"n_workers": 0}, "got 0 workers"),
        ({"segments": FORK[1:]}, "segment 1 is at position 0"),
    ],
)
def test_what_cannot_be_played_is_refused(change: dict, words: str):
    asked = {"segments": FORK, "seconds": SECONDS, "n_workers": 2, **change}
    with pytest.raises(ValueError, match=words):
        replay(asked.pop("segments"), asked.pop("seconds"), **asked)


@pytest.mark.parametrize("placement", [None, [[0, 1]]])
def test_segments_that_need_each_other_are_refused(placement):
    circle = [ReplaySegment(0, ("b",), ("a",), ("a",), ("s",)), ReplaySegment(1, ("a",), ("b",), ("b",), ("s",))]
    with pytest.raises(ValueError, match="form a cycle"):
        replay(circle, {"a": 1.0, "b": 1.0}, n_workers=1, placement=placement)


# ---------------------------------------------------------------------------------------------------------------------
# Placements
# ---------------------------------------------------------------------------------------------------------------------


def test_a_placement_has_the_last_attempts_in_order_of_start():
    rows = [
        row("a-0", 0, 1, worker="w1"),
        row("a-1", 0, 3, worker="w2"),
        row("a-2", 1, 2, worker="w1"),
        row("a-0", 3, 4, worker="w2", attempt=1),
        row("a-3", 2, 3, worker="w1"),
    ]
    assert placement_of(trace(rows, elapsed=4, n_workers=3)) == ((2, 3), (1, 0))


def test_a_replacement_worker_does_not_add_to_the_workers():
    rows = [row("a-0", 0, 1, worker="p"), row("a-1", 2, 3, worker="q")]
    found = trace(rows, elapsed=3, n_workers=1)
    assert lanes(found) == (("p", "q"),)
    assert placement_of(found) == ((0, 1),)


def test_lanes_that_nothing_ran_on_are_empty():
    assert lanes(trace([row("a-0", 0, 1)], elapsed=1, n_workers=2)) == (("w0",), ())
    assert placement_of(trace([], elapsed=1, n_workers=2)) == ()


# ---------------------------------------------------------------------------------------------------------------------
# Any work
# ---------------------------------------------------------------------------------------------------------------------


def keeps_the_order(work: Work, some: Trace) -> bool:
    """Whether each task came after all it needs, and each worker did one thing at a time."""
    times = ran(some)
    lines: dict[str, list[tuple[float, float]]] = {}
    for worker, start, stop in times.values():
        lines.setdefault(worker, []).append((start, stop))
    alone = all(a[1] <= b[0] for line in map(sorted, lines.values()) for a, b in pairwise(line))
    return alone and all(times[other][2] <= times[key][1] for key, needed in work.needs.items() for other in needed)


@settings(deadline=None)
@given(any_work(), st.integers(1, 4))
def test_any_work_takes_at_least_its_span_and_at_most_its_sum(work: Work, n_workers: int):
    found = replay(work.segments, work.seconds, n_workers=n_workers)
    assert keeps_the_order(work, found)
    assert set(ran(found)) == set(work.needs)
    assert makespan(found) >= span(work.needs, work.seconds) - 1e-15
    assert makespan(found) >= work.total / n_workers - 1e-15
    assert makespan(found) <= work.total + 1e-15
    divided = core_time(found)
    assert divided.total("task") == round(work.total * 1e9)
    assert all(divided.total(name) == 0 for name in CLASSES if name not in ("task", "dependency"))


@settings(deadline=None)
@given(any_work())
def test_on_one_worker_any_work_takes_the_sum_of_its_tasks(work: Work):
    assert makespan(replay(work.segments, work.seconds, n_workers=1)) == pytest.approx(work.total, abs=1e-15)


@settings(deadline=None)
@given(any_work(), st.integers(1, 4), st.data())
def test_any_placement_is_kept_where_it_can_be_and_never_stops(work: Work, n_workers: int, data: st.DataObject):
    numbers = [one.number for one in work.segments if one.keys]
    placement: list[list[int]] = [[] for _ in range(n_workers)]
    for number in data.draw(st.permutations(numbers)):
        placement[data.draw(st.integers(0, n_workers - 1))].append(number)
    found = replay(work.segments, work.seconds, n_workers=n_workers, placement=placement)
    assert keeps_the_order(work, found)
    workers = {r["segment"]: r["worker"] for r in found.tasks.to_pylist()}
    assert workers == {number: f"worker-{i}" for i, some in enumerate(placement) for number in some}
    ascending = replay(work.segments, work.seconds, n_workers=n_workers, placement=[sorted(p) for p in placement])
    assert keeps_the_order(work, ascending)
    for worker, numbers in enumerate(placement):
        rows = [r for r in ascending.tasks.to_pylist() if r["worker"] == f"worker-{worker}"]
        began = {number: min(r["start"] for r in rows if r["segment"] == number) for number in numbers}
        assert [began[number] for number in sorted(numbers)] == sorted(began.values())


@settings(deadline=None)
@given(any_work(), st.integers(1, 4))
def test_a_replay_at_the_placement_of_a_replay_is_the_same(work: Work, n_workers: int):
    # tasks of no length may stand in another order at one moment
    seconds = {key: value + 1e-9 for key, value in work.seconds.items()}
    first = replay(work.segments, seconds, n_workers=n_workers)
    again = replay(work.segments, seconds, n_workers=n_workers, placement=placement_of(first))
    assert makespan(again) == makespan(first)
    assert sorted(times[1:] for times in ran(again).values()) == sorted(times[1:] for times in ran(first).values())


@settings(deadline=None)
@given(any_work(), st.integers(1, 4))
def test_segments_of_a_trace_replay_like_those_that_ran(work: Work, n_workers: int):
    ran_once = replay(work.segments, work.seconds, n_workers=n_workers)
    found = segments_of(ran_once, work.needs)
    assert {one.number: set(one.keys) for one in found if one.keys} == {
        one.number: set(one.keys) for one in work.segments if one.keys
    }
    placement = placement_of(ran_once)
    again = [replay(some, work.seconds, n_workers=n_workers, placement=placement) for some in (work.segments, found)]
    # a lone number at the end may be missing: segments of constants have no row
    assert makespan(again[0]) == makespan(again[1])


def test_segments_of_a_trace_of_another_graph_are_refused():
    with pytest.raises(ValueError, match="are not those of the graph"):
        segments_of(chained({"a-0": 1.0, "b-1": 1.0}), {"a-0": (), "c-1": ()})


def test_the_makespan_of_no_tasks_is_0():
    assert makespan(trace([], elapsed=1, n_workers=1)) == 0
    assert makespan(chained({"a-0": 2.0, "b-1": 0.5})) == 2.5


def test_a_replay_keeps_to_limits_with_and_without_a_placement():
    segments = [ReplaySegment(i, keys=(f"s-{i}",), steps=("s",), uses=("db",) if i < 3 else ()) for i in range(4)]
    seconds = {"s-0": 1.0, "s-1": 2.0, "s-2": 3.0, "s-3": 1.0}
    found = replay(segments, seconds, n_workers=4, limits={"db": 2})
    assert ran(found) == {
        "s-0": ("worker-0", 0, 1), "s-1": ("worker-1", 0, 2), "s-3": ("worker-2", 0, 1), "s-2": ("worker-0", 1, 4),
    }  # fmt: skip
    waited = {row["key"]: (row["limit"], row["granted"]) for row in found.tasks.to_pylist() if row["limit"]}
    assert waited == {"s-2": ("db", 10**9)}
    after = place_order(found, segments, {"db": 2})
    assert after == {2: {0}}
    placed = replay(segments, seconds, n_workers=4, placement=((0,), (1,), (2,), (3,)), after=after)
    assert makespan(placed) == 4
    assert makespan(replay(segments, seconds, n_workers=4)) == 3


def test_a_schedule_without_a_limit_is_no_longer():
    assert scheduled([(), ()], [1.0, 2.0], [True] * 2, 2, uses=[("db",), ("db",)], limits={"db": 2}) == 2
