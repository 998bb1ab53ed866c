"""The factors of a speedup: known answers, and their product for any work."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import Work, any_work, row, trace

from pipeline.trace.efficiency import factors
from pipeline.trace.lanes import placement_of
from pipeline.trace.losses import SerialTimes
from pipeline.trace.replay import makespan, replay

SERIAL = SerialTimes({"a-0": 3.0, "b-1": 2.0}, {"a-0": 3.0, "b-1": 2.0}, 5.5)
RUN = trace([row("a-0", 0, 4, worker="w0"), row("b-1", 0, 2, worker="w1")], elapsed=5, n_workers=2)


def test_the_factors_of_a_run_and_their_product():
    found = factors(RUN, SERIAL, 4.0)
    assert found.n_workers == 2
    assert found.computation_scaling == pytest.approx(5 / 6)
    assert found.load_balance == 0.75
    assert found.serialization_efficiency == 1
    assert found.transfer_efficiency == 0.8
    assert found.overhead == 1.1
    assert found.speedup == 1.1
    assert found.product == pytest.approx(1.1)
    assert not found.transfer_is_model


def test_a_run_that_was_faster_than_its_replay_says_so():
    found = factors(RUN, SERIAL, 6.0)
    assert found.transfer_efficiency == 1.2
    assert found.transfer_is_model
    assert found.product == pytest.approx(found.speedup)


def test_workers_that_ran_nothing_are_counted():
    found = factors(trace([row("a-0", 0, 3)], elapsed=3, n_workers=4), SERIAL, 3.0)
    assert (found.n_workers, found.load_balance, found.computation_scaling) == (4, 0.25, 1)


def test_waiting_is_serialization_and_overhead_is_transfer():
    chain = trace([row("a-0", 0, 2, worker="w0"), row("b-1", 3, 5, worker="w1")], elapsed=5, n_workers=2)
    found = factors(chain, SERIAL, 4.0)
    assert (found.load_balance, found.serialization_efficiency, found.transfer_efficiency) == (1, 0.5, 0.8)


@pytest.mark.parametrize(
    ("some", "serial", "ideal", "words"),
    [
        (trace([], elapsed=5, n_workers=2), SERIAL, 1.0, "no time was spent in the tasks,"),
        (RUN, SerialTimes(dict.fromkeys(("a-0", "b-1"), 0.0), {}, 1.0), 1.0, "in the tasks serially"),
        (RUN, SERIAL, 0.0, "in the replay"),
        (RUN, SerialTimes({"a-0": 1.0}, {}, 1.0), 1.0, "the serial run has no time for task b-1"),
    ],
)
def test_factors_without_meaning_are_refused(some, serial, ideal, words):
    with pytest.raises(ValueError, match=words):
        factors(some, serial, ideal)


@settings(deadline=None)
@given(any_work(), st.integers(1, 4), st.integers(0, 5), st.integers(1, 40))
def test_the_product_is_the_speedup_for_any_work(work: Work, n_workers: int, overhead: int, serial: int):
    if not work.needs:
        return
    seconds = {key: value + 1e-9 for key, value in work.seconds.items()}
    run = replay(work.segments, seconds, n_workers=n_workers, overhead=overhead / 1e9)
    times = dict.fromkeys(work.needs, serial / 1e9)
    ideal = makespan(replay(work.segments, seconds, n_workers=n_workers, placement=placement_of(run)))
    found = factors(run, SerialTimes(times, times, 1.1 * sum(times.values())), ideal)
    assert found.product == pytest.approx(found.speedup)
    assert found.overhead == pytest.approx(1.1)
    rounding = 1 + 1e-9
    assert found.load_balance <= rounding
    assert found.serialization_efficiency <= rounding
    assert found.transfer_efficiency <= rounding
    if not overhead:
        assert found.transfer_efficiency == 1
