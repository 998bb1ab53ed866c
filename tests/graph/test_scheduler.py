"""Which segment runs next, and which values are freed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.graph.limits import ReadySegments
from pipeline.graph.scheduler import Scheduler

# 0 -> a, 1 -> b, 2: (a, b) -> c, 3: b -> d
DIAMOND = ([[], [], ["a", "b"], ["b"]], [["a"], ["b"], ["c"], ["d"]])


def test_the_lowest_ready_segment_is_next() -> None:
    scheduler = Scheduler(*DIAMOND)
    assert (scheduler.take(), scheduler.take(), scheduler.n_ready) == (0, 1, 0)
    scheduler.finish(1)
    assert scheduler.ready == (3,)
    scheduler.finish(0)
    assert scheduler.take() == 2


def test_a_value_is_released_when_its_last_user_is_done() -> None:
    scheduler = Scheduler(*DIAMOND, wanted=["c"])
    released = []
    while not scheduler.done:
        released.append(scheduler.finish(scheduler.take()).released)
    assert released == [[], [], ["a"], ["d", "b"]]


def test_a_finish_tells_which_segments_can_run_since() -> None:
    scheduler = Scheduler(*DIAMOND)
    scheduler.take()
    scheduler.take()
    assert scheduler.finish(1).ready == [3]
    assert scheduler.finish(0).ready == [2]


def test_a_segment_taken_again_is_next_once_more() -> None:
    scheduler = Scheduler(*DIAMOND)
    first = scheduler.take()
    scheduler.take()
    scheduler.again(first)
    assert (scheduler.n_running, scheduler.take()) == (1, first)


def test_what_no_segment_makes_is_there_from_the_start() -> None:
    scheduler = Scheduler([["context"], ["context"]], [["x"], ["y"]], ["x", "y"])
    assert scheduler.ready == (0, 1)
    assert scheduler.finish(scheduler.take()).released == []
    assert scheduler.finish(scheduler.take()).released == ["context"]
    assert scheduler.done


def test_taking_when_nothing_is_ready_is_an_error() -> None:
    with pytest.raises(IndexError):
        Scheduler([], []).take()


# ---------------------------------------------------------------------------------------------------------------------
# Limits
# ---------------------------------------------------------------------------------------------------------------------


def independent(uses: list[tuple[str, ...]], limits: dict[str, int]) -> Scheduler:
    return Scheduler([()] * len(uses), [(i,) for i in range(len(uses))], uses=uses, limits=limits)


def test_a_segment_without_a_place_waits_and_others_run() -> None:
    scheduler = independent([("db",), ("db",), ()], {"db": 1})
    assert [scheduler.take(), scheduler.take(), scheduler.n_ready] == [0, 2, 0]
    assert (scheduler.ready, scheduler.n_limited) == ((1,), 1)
    scheduler.finish(0)
    assert (scheduler.n_ready, scheduler.take(), dict(scheduler.place_before(1))) == (1, 1, {"db": 0})


def test_a_segment_that_is_run_again_gives_its_place_back() -> None:
    scheduler = independent([("db",), ("db",)], {"db": 1})
    scheduler.again(scheduler.take())
    assert (scheduler.n_ready, scheduler.take()) == (1, 0)


def test_a_place_is_kept_for_the_first_that_waits() -> None:
    # 0 has b; 1 needs both and waits; 2 must not take a before 1, else 1 could wait for ever
    scheduler = independent([("b",), ("a", "b"), ("a",)], {"a": 1, "b": 1})
    assert (scheduler.take(), scheduler.n_ready) == (0, 0)
    scheduler.finish(0)
    assert (scheduler.take(), scheduler.n_ready) == (1, 0)
    scheduler.finish(1)
    assert scheduler.take() == 2


def test_a_place_that_is_not_needed_by_those_before_is_free() -> None:
    scheduler = independent([("b",), ("a", "b"), ("a",)], {"a": 2, "b": 1})
    assert (scheduler.take(), scheduler.take(), scheduler.n_ready) == (0, 2, 0)


def test_a_limit_that_is_not_given_is_none() -> None:
    assert independent([("x",), ("x",)], {}).n_ready == 2
    assert ReadySegments([("x",)], {"y": 1}).n_able == 0


@given(st.data())
def test_limits_hold_and_everything_runs(data: st.DataObject) -> None:
    limits = data.draw(st.dictionaries(st.sampled_from("abc"), st.integers(1, 3)), label="limits")
    n = data.draw(st.integers(1, 25))
    uses = data.draw(st.lists(st.lists(st.sampled_from("abc"), unique=True), min_size=n, max_size=n), label="uses")
    inputs = [data.draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else [] for i in range(n)]
    workers = data.draw(st.integers(1, 6))
    scheduler = Scheduler(inputs, [(i,) for i in range(n)], uses=uses, limits=limits)
    running: list[int] = []
    finished: list[int] = []
    n_again = 0
    while not scheduler.done:
        while scheduler.n_ready and len(running) < workers:
            running.append(scheduler.take())
            assert set(inputs[running[-1]]) <= set(finished)
        held = {name: sum(name in uses[number] for number in running) for name in limits}
        assert all(held[name] <= limits[name] for name in limits)
        # work conserving: the first of the ready ones waits only for a limit that is used up
        if scheduler.ready and len(running) < workers:
            first = scheduler.ready[0]
            assert any(held[name] == limits[name] for name in uses[first] if name in limits)
        assert running, "nothing runs, and not all have finished"
        number = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if n_again < 5 and data.draw(st.booleans()):
            n_again += 1
            scheduler.again(number)
        else:
            finished.append(number)
            scheduler.finish(number)
    assert sorted(finished) == list(range(n))
