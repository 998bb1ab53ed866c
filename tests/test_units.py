"""Durations, bytes, ratios and counts as text."""

from __future__ import annotations

import doctest

import pytest

import pipeline.units
from pipeline.trace.statistics import Interval
from pipeline.units import bytes_text, count_text, duration_text, interval_text, ratio_text


def test_the_examples_are_true():
    assert doctest.testmod(pipeline.units).failed == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (12e-6, "12.0 µs"),
        (0.01234, "12.3 ms"),
        (0.9999, "1.00 s"),
        (9.876, "9.88 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (75, "1 min 15 s"),
        (250, "4 min 10 s"),
        (3599.7, "1 h"),
        (7169, "1 h 59 min"),
        (None, "-"),
        (float("nan"), "-"),
    ],
)
def test_durations_have_three_digits_or_minutes(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_999, "1.0 MB"), (41e9, "41.0 GB"), (None, "-")]
)
def test_bytes_are_in_powers_of_1000(n, text):
    assert bytes_text(n) == text


def test_an_interval_without_bounds_is_shown_as_its_value():
    nan = float("nan")
    assert interval_text(Interval(2.0, nan, nan, 1, 0.0)) == "2.00"
    assert interval_text(Interval(2.0, 1.9, 2.25, 3, 0.75)) == "2.00 [1.90, 2.25]"
    assert ratio_text(Interval(2.0, 1.903, 2.25, 3, 0.75)) == "2.00x [1.90, 2.25]"


@pytest.mark.parametrize(
    ("n", "noun", "text"),
    [
        (0, "worker", "0 workers"),
        (1, "worker", "1 worker"),
        (1000, "worker", "1,000 workers"),
        (2, "process", "2 processes"),
        (2, "copy", "2 copies"),
        (2, "array", "2 arrays"),
        (2, "more batch", "2 more batches"),
    ],
)
def test_a_count_has_its_noun_in_the_right_number(n, noun, text):
    assert count_text(n, noun) == text
