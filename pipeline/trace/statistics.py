"""Medians of few repeats with confidence intervals, without assuming a distribution.

The interval is the percentile bootstrap of the median. For few values it is their range or close to it, and the range
of n values contains the true median with a probability of only 1 - 2^(1-n): 75 % for 3 rounds, 94 % for 5. Each
interval therefore records the confidence that it reaches, which may be less than was asked for.

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
_SEED = 20_260_101  # fixed: the same times always give the same interval


@dataclass(frozen=True)
class Interval:
    """A value with a confidence interval.

    Parameters
    ----------
    low, high : bounds; nan after a single repeat, which shows nothing about the spread
    n : number of repeats
    confidence : probability that the bounds contain the true value
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float

    @property
    def known(self) -> bool:
        """Whether there are bounds."""
        return not math.isnan(self.low)

    def scaled(self, factor: float) -> Interval:
        """Return the interval of the quantity times ``factor``, which is > 0.

        >>> Interval(2.0, 1.0, 3.0, 5, 0.9).scaled(0.5)
        Interval(value=1.0, low=0.5, high=1.5, n=5, confidence=0.9)
        """
        return Interval(self.value * factor, self.low * factor, self.high * factor, self.n, self.confidence)


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two in the middle.

    >>> median([3.0, 1.0, 2.0, 10.0])
    2.5

    Raises
    ------
    ValueError : if there are no values
    """
    if not values:
        raise ValueError("there are no values to take the median of")
    return float(np.median(np.asarray(values, dtype=float)))


def attained(n: int, confidence: float = 0.95) -> float:
    """Return the confidence that an interval of a median reaches with ``n`` values, at most ``confidence``.

    >>> attained(3), attained(10)
    (0.75, 0.95)
    """
    return min(confidence, 1 - 2.0 ** (1 - n)) if n else 0.0


def median_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return the median with its percentile bootstrap interval; deterministic.

    Raises
    ------
    ValueError : if there are no values
    """
    x = np.asarray(values, dtype=float)
    middle = median(values)
    if len(x) == 1:
        return Interval(middle, math.nan, math.nan, 1, 0.0)
    return _interval(middle, np.median(x[_resamples(len(x))], axis=1), n=len(x), confidence=confidence)


def ratio_interval(
    numerator: Sequence[float], denominator: Sequence[float], *, paired: bool = True, confidence: float = 0.95
) -> Interval:
    """Return the median of ``numerator`` divided by that of ``denominator``, with its percentile bootstrap interval.

    Parameters
    ----------
    numerator, denominator : values, each > 0
    paired : values with the same index are from the same round; the bootstrap then draws rounds, so that a disturbance
        of a whole round cancels. Ignored if the lengths differ

    Raises
    ------
    ValueError : if there are no values

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
    """Return whether two quantities differ: their intervals do not overlap, and each has 3 repeats or more.

    If there is no difference, the ranges of two repeats each are still apart in one of three comparisons; those of
    three repeats in one of ten.
    """
    return min(a.n, b.n) >= _FEWEST and (a.high < b.low or b.high < a.low)


def parallel_efficiency(speedup: float, n_workers: int) -> float:
    """Return speedup divided by workers; 1 is perfect.

    >>> parallel_efficiency(1.5, 2)
    0.75
    """
    return speedup / n_workers


def _resamples(n: int, *, seed: int = _SEED) -> npt.NDArray[np.int64]:
    """Return the indices of the bootstrap samples, shape (resamples, n)."""
    return np.random.default_rng(seed).integers(0, n, size=(_RESAMPLES, n))


def _interval(value: float, replicates: npt.NDArray[np.float64], *, n: int, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n, attained(n, confidence))
