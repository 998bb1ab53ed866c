"""Which segment runs next, and which values are freed."""

from __future__ import annotations

import pytest

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
