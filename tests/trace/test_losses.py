"""Losses: known answers for Traces made by hand, and random Traces, whose classes must add up."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import any_trace, chained, row, trace

from pipeline.trace.losses import (
    CLASSES,
    LOSSES,
    LimitWait,
    Losses,
    SerialTimes,
    bytes_moved,
    core_time,
    inflation_interval,
    limit_waits,
    losses,
    serial_times,
    useful_seconds,
)
from pipeline.trace.trace import Trace


def totals(some: Trace) -> dict[str, float]:
    """Class -> seconds over all lanes, of those that have any."""
    divided = core_time(some)
    return {name: divided.total(name) / 1e9 for name in CLASSES if divided.total(name)}


def serial(**seconds: float) -> SerialTimes:
    """Serial times of the tasks ``a-0``, given as ``a_0``; the CPU is busy all the time."""
    times = {name.replace("_", "-"): value for name, value in seconds.items()}
    return SerialTimes(times, times, sum(times.values()))


# ---------------------------------------------------------------------------------------------------------------------
# The core_time
# ---------------------------------------------------------------------------------------------------------------------


def test_each_instant_of_a_task_has_its_class():
    one = row("a", 4, 8, ready=0, received=1, loaded=2, opened=3, packed=9, sent=11)
    found = totals(trace([one], elapsed=12, n_workers=1))
    assert found == {
        "scheduling": 1,  # ready at 0, and taken in from 1 on
        "transfer": 1 + 1 + 1 + 2,  # taken in, inputs unpickled, results pickled, handed out
        "runtime": 1,
        "task": 4,
        "dependency": 1,  # nothing is left to do
    }


def test_between_two_tasks_of_a_segment_is_runtime():
    first = row("a", 0, 2, segment=0)
    second = row("b", 3, 5, segment=0, received=2, loaded=2, opened=3)
    assert totals(trace([first, second], elapsed=5, n_workers=1)) == {"task": 4, "runtime": 1}


def test_an_idle_worker_waits_for_the_scheduler_or_for_data():
    rows = [row("a-0", 0, 2, worker="w0"), row("b-1", 5, 6, worker="w0", ready=2)]
    divided = core_time(trace(rows, elapsed=6, n_workers=2))
    assert divided.names == (("w0",), ())
    busy, idle = divided.lanes
    assert {name: ns for name, ns in busy.items() if ns} == {"task": 3 * 10**9, "scheduling": 3 * 10**9}
    assert {name: ns for name, ns in idle.items() if ns} == {"scheduling": 3 * 10**9, "dependency": 3 * 10**9}


def test_a_segment_being_received_is_not_ready_for_others():
    rows = [row("a-0", 0, 1), row("b-1", 4, 5, ready=1, received=2)]
    idle = core_time(trace(rows, elapsed=5, n_workers=2)).lanes[1]
    assert (idle["scheduling"], idle["dependency"]) == (10**9, 4 * 10**9)


def test_a_segment_queued_at_a_busy_worker_is_ready_for_others():
    rows = [row("a-0", 0, 3), row("b-1", 4, 5, ready=0, received=1)]  # with the first worker from 1 on
    idle = core_time(trace(rows, elapsed=5, n_workers=2)).lanes[1]
    assert (idle["scheduling"], idle["dependency"]) == (3 * 10**9, 2 * 10**9)


def test_only_the_wait_for_a_segments_first_task_is_scheduling():
    rows = [row("a", 0, 2, segment=0), row("b", 2, 4, segment=0)]
    assert core_time(trace(rows, elapsed=4, n_workers=2)).lanes[1]["dependency"] == 4 * 10**9


def test_a_second_attempt_is_ready_when_the_first_has_ended():
    rows = [row("a", 0, 2, segment=0), row("a", 3, 4, segment=0, attempt=1)]
    idle = core_time(trace(rows, elapsed=4, n_workers=2)).lanes[1]
    assert (idle["scheduling"], idle["dependency"]) == (10**9, 3 * 10**9)


def test_a_worker_that_idles_while_all_wait_for_a_limit_is_a_class():
    # w1 idles: until 3 b-1 waits for db, until 4 for the scheduler, then nothing is ready
    rows = [row("a-0", 0, 3), row("b-1", 4, 5, granted=3, limit="db")]
    found = trace(rows, elapsed=5, n_workers=2, limits={"db": 1, "api": 2})
    idle = core_time(found).lanes[1]
    assert (idle["limit"], idle["scheduling"], idle["dependency"]) == (3 * 10**9, 10**9, 10**9)
    assert limit_waits(found) == {"db": LimitWait(1, 1, 3.0, 3.0), "api": LimitWait(2, 0, 0.0, 0.0)}
    serial = serial_times([chained({"a-0": 3, "b-1": 1})])
    assert (losses(found, serial).limit, losses(found, serial).percents()["limit"]) == (3, 30)


def test_what_else_is_ready_counts_as_scheduling_not_as_the_limit():
    rows = [row("a-0", 0, 3), row("b-1", 3, 4, granted=3, limit="db"), row("c-2", 4, 5)]
    found = trace(rows, elapsed=5, n_workers=2, limits={"db": 1})
    idle = core_time(found).lanes[1]
    assert (idle["limit"], idle["scheduling"], idle["dependency"]) == (0, 4 * 10**9, 10**9)
    assert limit_waits(found)["db"].idle == 0


def test_tasks_that_overlap_on_a_worker_count_once():
    rows = [row("a-0", 0, 3), row("a-1", 1, 2), row("a-2", 2, 4)]
    assert totals(trace(rows, elapsed=4, n_workers=1)) == {"task": 4}


def test_what_lies_outside_of_the_run_is_cut_off():
    rows = [row("a-0", -1, 1), row("a-1", 3, 9)]
    assert totals(trace(rows, elapsed=4, n_workers=1)) == {"task": 2, "scheduling": 2}


def test_unseen_time_of_a_lost_worker_is_unexplained():
    lost = trace([row("a-0", 1, 3)], elapsed=5, n_workers=1, gaps=[["w0", 2 * 10**9, 4 * 10**9]])
    assert totals(lost) == {"scheduling": 1, "task": 2, "unexplained": 1, "dependency": 1}


def test_a_worker_lost_before_it_ran_anything_has_a_lane():
    lost = trace([row("a-0", 0, 4)], elapsed=4, n_workers=2, gaps=[["other", 1 * 10**9, 4 * 10**9]])
    assert core_time(lost).lanes[1]["unexplained"] == 3 * 10**9


def test_a_run_of_no_tasks_waited_all_the_time():
    divided = core_time(trace([], elapsed=2, n_workers=3))
    assert divided.total("dependency") == 6 * 10**9
    assert len(divided.lanes) == 3


def test_a_replaced_worker_shares_a_lane_with_its_replacement():
    rows = [row("a-0", 0, 2, worker="p1"), row("a-1", 0, 5, worker="p2"), row("a-2", 3, 5, worker="p3")]
    divided = core_time(trace(rows, elapsed=5, n_workers=2))
    assert divided.names == (("p1", "p3"), ("p2",))
    assert [lane["task"] for lane in divided.lanes] == [4 * 10**9, 5 * 10**9]


def test_a_late_worker_does_not_get_the_lane_of_a_lost_one():
    rows = [
        row("a-0", 0, 2, worker="lost"),
        row("a-1", 3, 4, worker="new"),
        row("a-2", 5, 6, worker="late"),
    ]
    divided = core_time(trace(rows, elapsed=6, n_workers=2, gaps=[["lost", 2 * 10**9, 3 * 10**9]]))
    assert divided.names == (("late",), ("lost", "new"))
    assert divided.total("unexplained") == 10**9


def test_a_cluster_that_grew_has_more_lanes():
    rows = [row(f"a-{i}", 0, 2, worker=f"w{i}") for i in (10, 2, 1)]
    divided = core_time(trace(rows, elapsed=2, n_workers=2))
    assert divided.names == (("w1",), ("w2",), ("w10",))
    assert divided.total("task") == 6 * 10**9


def slowly(some: Trace) -> list[dict[str, int]]:
    """Return the core time by its rule, one nanosecond at a time."""
    rows, elapsed, names = some.tasks.to_pylist(), round(some.elapsed * 1e9), core_time(some).names
    lane_of = {name: lane for lane, shown in enumerate(names) for name in shown}
    unused = [lane for lane, shown in enumerate(names) if not shown]
    for name, *_ in some.notes["gaps"]:
        if name not in lane_of:
            lane_of[name] = unused.pop(0) if unused else -1
    tries: dict[int, list[list[dict[str, int]]]] = {}
    for number in sorted({r["segment"] for r in rows}):
        for attempt in (0, 1):
            own = [r for r in rows if (r["segment"], r["attempt"]) == (number, attempt)]
            tries.setdefault(number, []).append(sorted(own, key=lambda r: r["start"]))
    waits, limited = [], []
    for first, second in tries.values():
        for own, before in ((first, []), (second, first)):
            if own:
                of_worker = [r for r in rows if r["worker"] == own[0]["worker"]]
                earlier = [r["stop"] for r in of_worker[: of_worker.index(own[0])]]
                begun = min(own[0]["start"], max([own[0]["received"], *earlier]))
                ready = max([own[0]["ready"], *(r["stop"] for r in before[-1:])])
                granted = min(max(own[0]["granted"], ready), max(begun, ready))
                waits.append((granted, begun))
                limited.append((ready, granted))
    found = []
    for lane in range(len(names)):
        tile = dict.fromkeys(CLASSES, 0)
        own = [r for r in rows if lane_of[r["worker"]] == lane]
        gaps = [(a, b) for name, a, b in some.notes["gaps"] if lane_of[name] == lane]
        stretches = [
            ("task", [(r["start"], r["stop"]) for r in own]),
            ("runtime", [(r["loaded"], r["opened"]) for r in own]),
            ("transfer", [(r[a], r[b]) for r in own for a, b in (("received", "loaded"), ("opened", "start"))]),
            ("transfer", [(r[a], r[b]) for r in own for a, b in (("stop", "packed"), ("packed", "sent"))]),
            ("unexplained", gaps),
            ("scheduling", waits),
            ("limit", limited),
            ("dependency", [(0, elapsed)]),
        ]
        for moment in range(elapsed):
            tile[next(name for name, pairs in stretches if any(a <= moment < b for a, b in pairs))] += 1
        found.append(tile)
    return found


@settings(deadline=None)
@given(any_trace())
def test_the_classes_add_up_and_follow_the_rule_at_each_moment(some: Trace):
    divided = core_time(some)
    assert all(sum(lane.values()) == divided.elapsed for lane in divided.lanes)
    assert sum(divided.total(name) for name in CLASSES) == len(divided.lanes) * divided.elapsed
    assert [dict(lane) for lane in divided.lanes] == slowly(some)


@settings(deadline=None)
@given(any_trace())
def test_workers_at_the_same_time_share_no_lane_without_need(some: Trace):
    names = core_time(some).names
    seen = {r["worker"]: [] for r in some.tasks.to_pylist()}
    assert sorted(name for shown in names for name in shown) == sorted(seen)
    assert len(names) >= some.n_workers
    for r in some.tasks.to_pylist():
        seen[r["worker"]] += [r["received"], r["start"], r["stop"], r["sent"]]
    for shown in names:
        for earlier, later in pairwise(shown):
            assert max(seen[earlier]) <= min(seen[later])


# ---------------------------------------------------------------------------------------------------------------------
# Losses
# ---------------------------------------------------------------------------------------------------------------------


def test_the_time_in_tasks_is_useful_time_and_inflation():
    run = trace([row("a-0", 0, 3, worker="w0"), row("a-1", 0, 2, worker="w1")], elapsed=4, n_workers=2)
    found = losses(run, serial(a_0=2, a_1=2))
    assert (found.n_workers, found.elapsed) == (2, 4)
    assert (found.useful, found.inflation) == (4, 1)
    assert (found.dependency, found.scheduling) == (3, 0)


def test_tasks_faster_than_serially_have_a_negative_inflation():
    found = losses(trace([row("a-0", 0, 1)], elapsed=1, n_workers=1), serial(a_0=1.5))
    assert found.inflation == -0.5
    assert found.percents() == dict.fromkeys(LOSSES, 0) | {"useful": 150, "inflation": -50}


def test_a_task_that_was_tried_again_is_useful_once():
    run = trace([row("a-0", 0, 1), row("a-0", 1, 2, attempt=1)], elapsed=2, n_workers=1)
    found = losses(run, serial(a_0=1))
    assert (found.useful, found.inflation, found.inflation_cpu) == (1, 1, 1)
    assert useful_seconds(run, serial(a_0=1)) == 1


def test_inflation_is_cpu_beyond_serial_s_and_the_rest_waited():
    run = trace([row("a-0", 0, 4, cpu=2.5)], elapsed=4, n_workers=1)
    found = losses(run, SerialTimes({"a-0": 2.0}, {"a-0": 1.5}, 2.0))
    assert (found.inflation, found.inflation_cpu, found.inflation_wait) == (2, 1, 1)


def test_a_task_that_serial_did_not_run_is_named():
    with pytest.raises(ValueError, match="the serial run has no time for task b-0"):
        losses(trace([row("b-0", 0, 1)], elapsed=1, n_workers=1), serial(a_0=1))


@settings(deadline=None)
@given(any_trace(), st.floats(0, 1e-7))
def test_losses_add_up_to_the_core_seconds_whatever_serial_took(some: Trace, seconds: float):
    times = dict.fromkeys((f"s-{i}" for i in range(6)), seconds)
    found = losses(some, SerialTimes(times, times, 1.0))
    assert sum(getattr(found, name) for name in LOSSES) == pytest.approx(found.n_workers * found.elapsed, abs=1e-15)
    assert found.inflation_cpu + found.inflation_wait == pytest.approx(found.inflation, abs=1e-15)
    assert sum(found.percents().values()) == 100


@settings(deadline=None)
@given(st.lists(st.integers(-(10**6), 10**6), min_size=len(LOSSES), max_size=len(LOSSES)).filter(lambda n: sum(n) > 0))
def test_per_cents_add_up_to_100_and_are_off_by_less_than_one(parts: list[int]):
    seconds = dict(zip(LOSSES, map(float, parts), strict=True))
    found = Losses(1, float(sum(parts)), **seconds, inflation_cpu=0.0, inflation_wait=0.0).percents()
    assert sum(found.values()) == 100
    for name, part in zip(LOSSES, parts, strict=True):
        assert abs(found[name] - Fraction(100 * part, sum(parts))) < 1 + Fraction(1, 10**6)


def test_a_run_that_took_no_time_has_no_shares():
    with pytest.raises(ValueError, match="no time"):
        Losses(2, 0.0, *[0.0] * 9).percents()


# ---------------------------------------------------------------------------------------------------------------------
# Serial times, inflation, bytes
# ---------------------------------------------------------------------------------------------------------------------


def test_serial_times_are_medians_over_the_rounds():
    found = serial_times([chained({"a-0": a, "b-1": b}) for a, b in ((1, 5), (3, 4), (2, 9))])
    assert found.seconds == {"a-0": 2, "b-1": 5}
    assert found.cpu == {"a-0": 2, "b-1": 5}
    assert found.elapsed == 7


def test_of_two_rounds_the_median_is_the_mean():
    assert serial_times([chained({"a-0": 1}), chained({"a-0": 4})]).seconds == {"a-0": 2.5}


def test_the_last_attempt_is_what_a_task_takes_serially():
    again = trace([row("a-0", 0, 5), row("a-0", 5, 6, attempt=1)], elapsed=6, n_workers=1)
    assert serial_times([again]).seconds == {"a-0": 1}


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 1000), min_size=3, max_size=3), min_size=1, max_size=5))
def test_serial_times_are_those_of_numpy(rounds: list[list[int]]):
    found = serial_times([chained({f"a-{i}": n / 1e6 for i, n in enumerate(times)}) for times in rounds])
    expected = np.median(np.array(rounds), axis=0) / 1e6
    assert [found.seconds[f"a-{i}"] for i in range(3)] == pytest.approx(expected.tolist(), abs=2e-9)


def test_no_serial_runs_have_no_times():
    with pytest.raises(ValueError, match="no serial runs"):
        serial_times([])


def test_the_interval_of_inflation_may_include_zero():
    runs = [trace([row("a-0", 0, stop)], elapsed=4, n_workers=1) for stop in (1, 2, 4)]
    found = inflation_interval(runs, serial(a_0=2))
    assert (found.value, found.low, found.high, found.n) == (0, -1, 2, 3)


def test_bytes_moved_are_summed_per_step_without_zeros():
    rows = [
        row("a-0", 0, 1, bytes_out=99),
        row("b-1", 1, 2, bytes_in=5),
        row("b-2", 2, 3, bytes_in=1, bytes_sent=10),
    ]
    assert bytes_moved(trace(rows, elapsed=3, n_workers=1)) == {"b": 16}
