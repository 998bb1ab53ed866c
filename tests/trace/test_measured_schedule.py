"""Measured schedules: replays with nothing taken away are replays; overlaps are those of each pair of tasks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from traces import Work, any_work, row, trace

from pipeline.trace.losses import serial_times
from pipeline.trace.measured_schedule import MeasuredSchedule
from pipeline.trace.replay import makespan, replay
from pipeline.trace.shape import Shape
from pipeline.trace.slowdown import blame, overlaps

works = any_work().map(lambda work: work._replace(seconds={key: s + 1e-9 for key, s in work.seconds.items()}))
"""Work in which each task takes some time: one that takes none needs no worker here."""


def shape(work: Work) -> Shape:
    owners = dict.fromkeys(work.needs, "s") | {key: f"s{len(key) % 3}" for key in work.needs}
    return Shape(work.needs, owners, {step: step for step in owners.values()}, {}, ())


@settings(deadline=None, max_examples=25)
@given(works, st.integers(1, 4))
def test_with_nothing_taken_away_it_takes_as_long_as_a_replay(work: Work, n_workers: int) -> None:
    planned = MeasuredSchedule.planned(work.segments, work.seconds, shape(work), n_workers)
    whole = makespan(replay(work.segments, work.seconds, n_workers=n_workers))
    assert planned.replayed == pytest.approx(whole, abs=1e-9)
    assert planned.without(n_workers=1) == pytest.approx(work.total, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(works, st.integers(1, 4), st.data())
def test_less_work_and_pieces_add_up_on_one_worker(work: Work, n_workers: int, data: st.DataObject) -> None:
    planned = MeasuredSchedule.planned(work.segments, work.seconds, shape(work), n_workers)
    assume(planned.n_segments)
    g = data.draw(st.integers(0, planned.n_segments - 1))
    half = float(planned.lengths[g]) / 2
    split = planned.without(pieces={g: [half]}, n_workers=1)
    assert split == pytest.approx(work.total, abs=1e-8)
    less = np.zeros(planned.n_segments)
    less[g] = half
    assert planned.without(less, n_workers=1) == pytest.approx(work.total - half, abs=1e-8)
    assert planned.without(longest_first=True, n_workers=1) == pytest.approx(work.total, abs=1e-8)


@settings(deadline=None, max_examples=25)
@given(works, st.integers(1, 4))
def test_overlaps_are_those_of_each_pair_on_different_workers(work: Work, n_workers: int) -> None:
    played = replay(work.segments, work.seconds, n_workers=n_workers)
    rows = played.tasks.to_pylist()
    assume(rows)
    renamed = [
        row(r["key"], r["start"] / 1e9, r["stop"] / 1e9, worker=r["worker"], step=f"s{i % 3}", segment=r["segment"])
        for i, r in enumerate(rows)
    ]
    again = trace(renamed, elapsed=played.elapsed, n_workers=n_workers)
    tasks = MeasuredSchedule.of(again, shape(work), serial_times([again])).tasks
    beside = overlaps(tasks)
    for step, found in beside.items():
        for i in range(len(tasks.keys)):
            others = [j for j in range(len(tasks.keys)) if tasks.lane[j] != tasks.lane[i] and tasks.step[j] == step]
            pairs = (min(tasks.stop[i], tasks.stop[j]) - max(tasks.start[i], tasks.start[j]) for j in others)
            assert found[i] == pytest.approx(sum(max(0.0, pair) for pair in pairs), abs=1e-12)
    extra = tasks.seconds * 0.5
    caused = sum(blame(tasks, extra, beside).values(), np.zeros(len(tasks.keys)))
    assert caused.sum() == pytest.approx(extra.sum(), rel=1e-6, abs=1e-12)  # no second is lost, none counts twice
