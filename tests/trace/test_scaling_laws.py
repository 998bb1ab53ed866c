"""Laws of scaling: points computed from a law are fitted by that law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.trace.scaling_laws import USL, Amdahl, amdahl, curve, karp_flatt, usl

WORKERS = [1, 2, 3, 4, 8, 16]


@settings(deadline=None)
@given(st.floats(0, 1))
def test_points_of_amdahl_s_law_give_its_serial_fraction(fraction: float):
    law = Amdahl(fraction)
    found = amdahl(WORKERS, [law.speedup(n) for n in WORKERS])
    assert found.serial_fraction == pytest.approx(fraction, abs=1e-9)


def test_amdahl_s_law_of_one_half():
    assert Amdahl(0.5).speedup(1) == 1
    assert Amdahl(0.5).speedup(2) == pytest.approx(4 / 3)
    assert Amdahl(0.5).largest_speedup == 2
    assert Amdahl(0.0).largest_speedup == math.inf


@pytest.mark.parametrize(("speedups", "fraction"), [([1.0, 2.5, 5.0], 0.0), ([1.0, 0.5, 0.4], 1.0)])
def test_the_serial_fraction_stays_between_0_and_1(speedups, fraction):
    assert amdahl([1, 2, 4], speedups).serial_fraction == fraction


def test_a_perfect_speedup_has_no_bound():
    assert amdahl([2, 3, 7], [2.0, 3.0, 7.0]).largest_speedup == math.inf


def test_of_noisy_points_no_other_fraction_fits_better():
    workers, speedups = [1, 2, 4, 8], [0.95, 1.7, 2.9, 3.6]

    def off(fraction: float) -> float:
        return sum((1 / s - (fraction + (1 - fraction) / n)) ** 2 for n, s in zip(workers, speedups, strict=True))

    best = amdahl(workers, speedups).serial_fraction
    assert all(off(best) <= off(other) for other in np.linspace(0, 1, 1001))


@pytest.mark.parametrize(
    ("workers", "speedups", "words"),
    [
        ([1], [1.0], "two workers or more"),
        ([], [], "two workers or more"),
        ([1, 2], [1.0], "got 2 numbers of workers and 1 speedups"),
        ([1, 2], [1.0, 0.0], "got a speedup of 0 with 2 workers"),
        ([0, 2], [1.0, 1.0], "with 0 workers"),
        ([1, 2], [1.0, math.nan], "got a speedup of nan"),
    ],
)
def test_points_that_say_nothing_are_refused(workers, speedups, words):
    with pytest.raises(ValueError, match=words):
        amdahl(workers, speedups)


@pytest.mark.parametrize(("speedup", "n", "fraction"), [(2.0, 2, 0.0), (1.0, 2, 1.0), (1.6, 2, 0.25), (4.0, 3, -0.125)])
def test_karp_flatt_is_the_serial_fraction_of_one_point(speedup, n, fraction):
    assert karp_flatt(speedup, n) == pytest.approx(fraction)


@pytest.mark.parametrize(("speedup", "n"), [(1.0, 1), (0.0, 2), (math.nan, 2)])
def test_karp_flatt_needs_two_workers_and_a_speedup(speedup, n):
    with pytest.raises(ValueError, match="2 workers or more"):
        karp_flatt(speedup, n)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 0.1))
def test_points_of_the_usl_give_its_parameters(contention: float, coherency: float):
    law = USL(contention, coherency)
    found = usl(WORKERS, [law.speedup(n) for n in WORKERS])
    assert found.contention == pytest.approx(contention, abs=1e-9)
    assert found.coherency == pytest.approx(coherency, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 20), min_size=len(WORKERS), max_size=len(WORKERS)))
def test_usl_parameters_are_not_negative_and_a_least_square_fit(speedups: list[float]):
    found = usl(WORKERS, speedups)

    def off(contention: float, coherency: float) -> float:
        short = [n / s - 1 for n, s in zip(WORKERS, speedups, strict=True)]
        law = [contention * (n - 1) + coherency * n * (n - 1) for n in WORKERS]
        return sum((a - b) ** 2 for a, b in zip(short, law, strict=True))

    assert found.contention >= 0
    assert found.coherency >= 0
    best = off(found.contention, found.coherency)
    for a in (-0.01, 0, 0.01):
        for b in (-0.001, 0, 0.001):
            if found.contention + a >= 0 and found.coherency + b >= 0:
                assert best <= off(found.contention + a, found.coherency + b) * (1 + 1e-9) + 1e-9


def test_the_usl_falls_beyond_its_peak():
    law = USL(0.04, 0.0024)
    assert law.peak == pytest.approx(20)
    assert law.speedup(20) > max(law.speedup(18), law.speedup(22))
    assert USL(0.1, 0.0).peak == math.inf
    assert USL(2.0, 0.1).peak == 1


def test_the_usl_needs_six_numbers_of_workers():
    with pytest.raises(ValueError, match="needs 6 numbers of workers; got 5"):
        usl([1, 2, 3, 4, 8, 8], [1.0, 1.9, 2.7, 3.5, 6.0, 6.1])


def test_a_curve_goes_to_4x_the_workers_and_marks_predictions():
    rows = curve([1, 2, 4], [1.0, 1.6, 2.2857142857142856])
    assert [row["workers"] for row in rows] == list(range(1, 17))
    assert [row["workers"] for row in rows if row["extrapolated"]] == list(range(5, 17))
    assert {row["model"] for row in rows} == {"amdahl"}
    assert rows[15]["speedup"] == pytest.approx(Amdahl(0.25).speedup(16))


def test_with_six_numbers_of_workers_there_is_a_usl_curve():
    law = USL(0.05, 0.01)
    rows = curve(WORKERS, [law.speedup(n) for n in WORKERS])
    assert [row["model"] for row in rows] == ["amdahl"] * 64 + ["usl"] * 64
    assert all(row["speedup"] == pytest.approx(law.speedup(row["workers"])) for row in rows[64:])


def test_a_long_curve_has_few_points_and_all_measured_ones():
    workers = [1, 7, 300, 1001]
    rows = curve(workers, [1.0, 6.0, 100.0, 150.0])
    counts = [row["workers"] for row in rows]
    assert counts == sorted(set(counts))
    assert set(workers) <= set(counts)
    assert len(counts) < 140
    assert counts[-1] == 4 * 1001
