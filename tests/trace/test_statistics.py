"""Medians and intervals of repeated times: known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.trace.statistics import (
    Interval,
    attained,
    differ,
    median,
    median_interval,
    parallel_efficiency,
    ratio_interval,
)


@pytest.mark.parametrize(
    ("values", "middle"), [([1.0], 1.0), ([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 3.0], 2.5), ([1.0, 1.0, 99.0], 1.0)]
)
def test_the_median_is_the_middle_value(values, middle):
    assert median(values) == middle


@pytest.mark.parametrize("function", [median, median_interval])
def test_no_values_are_refused(function):
    with pytest.raises(ValueError, match="no values"):
        function([])


def test_the_interval_of_three_rounds_is_their_range():
    interval = median_interval([1.2, 1.0, 1.1])
    assert (interval.value, interval.low, interval.high) == (1.1, 1.0, 1.2)
    assert interval.confidence == 0.75


def test_the_same_values_give_the_same_interval():
    values = [1.0, 1.3, 1.1, 1.7, 1.2]
    assert median_interval(values) == median_interval(values)
    assert ratio_interval(values, values[::-1]) == ratio_interval(values, values[::-1])


def test_the_interval_holds_the_true_median_as_often_as_it_says():
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        interval = median_interval(list(rng.lognormal(0, 0.5, size=9)))
        held += interval.low <= 1.0 <= interval.high
    assert held / 200 >= 0.9


@pytest.mark.parametrize(("n", "reached"), [(0, 0.0), (1, 0.0), (2, 0.5), (3, 0.75), (5, 0.9375), (9, 0.95)])
def test_few_values_reach_less_than_95_percent(n, reached):
    assert attained(n) == reached


def test_a_ratio_of_constant_times_has_no_spread():
    interval = ratio_interval([3.0] * 4, [2.0] * 4)
    assert (interval.value, interval.low, interval.high) == (1.5, 1.5, 1.5)


def test_a_disturbance_of_a_round_cancels_in_paired_ratios():
    serial, parallel = [2.0, 20.0, 4.0], [1.0, 10.0, 2.0]
    paired, apart = ratio_interval(serial, parallel), ratio_interval(serial, parallel, paired=False)
    assert (paired.low, paired.high) == (2.0, 2.0)
    assert apart.high - apart.low > 1


def test_one_repeat_has_no_interval_and_shows_no_difference():
    one, other = median_interval([1.0]), median_interval([100.0])
    assert math.isnan(one.low)
    assert not one.known
    assert not differ(one, other)
    assert not ratio_interval([1.0], [2.0]).known


@pytest.mark.parametrize(
    ("a", "b", "shown"),
    [((1.0, 2.0), (2.5, 3.0), True), ((2.5, 3.0), (1.0, 2.0), True), ((1.0, 2.0), (1.5, 3.0), False)],
)
def test_overlapping_intervals_show_no_difference(a, b, shown):
    first, second = (Interval(sum(x) / 2, *x, 5, 0.9) for x in (a, b))
    assert differ(first, second) is shown


@pytest.mark.parametrize(("n", "shown"), [(1, False), (2, False), (3, True)])
def test_fewer_than_three_repeats_show_no_difference(n, shown):
    assert differ(median_interval([1.0] * n), median_interval([2.0] * n)) is shown


def test_efficiency_is_speedup_over_workers():
    assert parallel_efficiency(1.8, 2) == 0.9
