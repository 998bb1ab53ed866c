"""The steps and tasks that took longest, and COST."""

from __future__ import annotations

import pytest
from traces import row, trace

from pipeline.trace.costs import StepCost, TaskCost, cost, steps, tasks
from pipeline.trace.losses import SerialTimes

RUN = trace(
    [
        row("a-0", 0, 1, bytes_out=8, bytes_in=1),
        row("a-1", 1, 3, cpu=0.5, bytes_out=8, worker="w1"),
        row("a-1", 3, 4, attempt=1, bytes_out=8, bytes_sent=2, worker="w2"),
        row("b-2", 4, 9),
    ],
    elapsed=9,
    n_workers=3,
)
SERIAL = SerialTimes({"a-0": 1.0, "a-1": 0.5, "b-2": 4.0}, {}, 6.0)


def test_steps_by_what_they_took_all_attempts_counted():
    assert steps(RUN, SERIAL) == (
        StepCost("b", n_tasks=1, seconds=5, useful=4, cpu=5, bytes_out=0, bytes_moved=0),
        StepCost("a", n_tasks=2, seconds=4, useful=1.5, cpu=2.5, bytes_out=24, bytes_moved=3),
    )


def test_tasks_by_what_they_took_all_attempts_counted():
    assert tasks(RUN, SERIAL) == (
        TaskCost("b-2", "b", "w0", seconds=5, useful=4),
        TaskCost("a-1", "a", "w2", seconds=3, useful=0.5),
        TaskCost("a-0", "a", "w0", seconds=1, useful=1),
    )


def test_useful_time_is_unknown_without_serial_times():
    assert [each.useful for each in (*steps(RUN), *tasks(RUN))] == [None] * 5


def test_at_most_so_many_are_told():
    assert [each.step for each in steps(RUN, most=1)] == ["b"]
    assert [each.key for each in tasks(RUN, most=2)] == ["b-2", "a-1"]
    assert steps(trace([], elapsed=1, n_workers=1)) == ()


@pytest.mark.parametrize("function", [steps, tasks])
def test_a_task_that_serial_did_not_run_is_named(function):
    with pytest.raises(ValueError, match="the serial run has no time for task a-1"):
        function(RUN, SerialTimes({"a-0": 1.0, "b-2": 1.0}, {}, 1.0))


@pytest.mark.parametrize(
    ("elapsed", "n"),
    [({1: 9.0, 2: 5.0}, 1), ({4: 6.0, 2: 9.0, 1: 17.0}, 2), ({1: 10.0, 2: 10.0}, None), ({8: 2.0}, 8), ({}, None)],
)
def test_cost_is_the_fewest_workers_that_beat_one_thread(elapsed, n):
    assert cost(10.0, elapsed) == n
