"""Medians and their intervals, from few repeats, without a distribution being assumed.

Percentile bootstrap of the median: with the handful of rounds that anybody waits for, its interval is the range of
the values or close to it, and the range of n values holds the true median with probability 1 - 2^(1-n) only: 75 % for
3 rounds, 94 % for 5. So each interval says what confidence it has reached instead of the one that was wished for.

Rejected: mean and standard deviation (one disturbed round drags both), the minimum (it hides what users see), and
Student's t (times are skewed).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "attained", "differ", "median", "median_interval", "parallel_efficiency", "ratio_interval"]

_RESAMPLES = 4_000
_FEWEST = 3
_SEED = 20_260_101  # fixed: the same times give the same interval, today and tomorrow


@dataclass(frozen=True)
class Interval:
    """A value, the bounds it lies between with ``confidence``, and of how many repeats.

    ``low`` and ``high`` are nan where one repeat alone was made: then nothing is known about the spread.
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float

    @property
    def known(self) -> bool:
        """Whether there are bounds at all."""
        return not math.isnan(self.low)

    def scaled(self, factor: float) -> Interval:
        """The interval of ``factor`` times the quantity, for a factor > 0.

        >>> Interval(2.0, 1.0, 3.0, 5, 0.9).scaled(0.5)
        Interval(value=1.0, low=0.5, high=1.5, n=5, confidence=0.9)
        """
        return Interval(self.value * factor, self.low * factor, self.high * factor, self.n, self.confidence)


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle.

    >>> median([3.0, 1.0, 2.0, 10.0])
    2.5

    Raises
    ------
    ValueError : of no values
    """
    if not values:
        raise ValueError("no values have no median")
    return float(np.median(np.asarray(values, dtype=float)))


def attained(n: int, confidence: float = 0.95) -> float:
    """The confidence that an interval for a median can have with ``n`` values, at most ``confidence``.

    >>> attained(3), attained(10)
    (0.75, 0.95)
    """
    return min(confidence, 1 - 2.0 ** (1 - n)) if n else 0.0


def median_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The median with its percentile bootstrap interval; deterministic.

    Raises
    ------
    ValueError : of no values
    """
    x = np.asarray(values, dtype=float)
    middle = median(values)
    if len(x) == 1:
        return Interval(middle, math.nan, math.nan, 1, 0.0)
    return _interval(middle, np.median(x[_resamples(len(x))], axis=1), n=len(x), confidence=confidence)


def ratio_interval(
    numerator: Sequence[float], denominator: Sequence[float], *, paired: bool = True, confidence: float = 0.95
) -> Interval:
    """Median of ``numerator`` over median of ``denominator``, with its percentile bootstrap interval.

    Parameters
    ----------
    numerator, denominator : values, each > 0
    paired : value i of both was measured in the same round, so rounds are drawn, not values: what disturbed a
        whole round cancels. Of different lengths, they are drawn apart

    Raises
    ------
    ValueError : of no values

    >>> ratio_interval([4.0, 4.0, 4.0], [2.0, 2.0, 2.0]).value
    2.0
    """
    x, y = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    value = median(numerator) / median(denominator)
    n = min(len(x), len(y))
    if n == 1:
        return Interval(value, math.nan, math.nan, 1, 0.0)
    of_x = _resamples(len(x))
    of_y = of_x if paired and len(x) == len(y) else _resamples(len(y), seed=_SEED + 1)
    ratios = np.median(x[of_x], axis=1) / np.median(y[of_y], axis=1)
    return _interval(value, ratios, n=n, confidence=confidence)


def differ(a: Interval, b: Interval) -> bool:
    """Whether a difference is shown: the intervals do not overlap, and each is of 3 repeats at least.

    The ranges of two repeats each lie apart in one of three comparisons of things that are the same; of three repeats
    in one of ten.
    """
    return min(a.n, b.n) >= _FEWEST and (a.high < b.low or b.high < a.low)


def parallel_efficiency(speedup: float, n_workers: int) -> float:
    """Speedup over workers; 1 is perfect.

    >>> parallel_efficiency(1.5, 2)
    0.75
    """
    return speedup / n_workers


def _resamples(n: int, *, seed: int = _SEED) -> npt.NDArray[np.int64]:
    """Indices of the bootstrap's samples, shape (resamples, n)."""
    return np.random.default_rng(seed).integers(0, n, size=(_RESAMPLES, n))


def _interval(value: float, replicates: npt.NDArray[np.float64], *, n: int, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n, attained(n, confidence))
