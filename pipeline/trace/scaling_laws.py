"""Fit laws of scaling (Amdahl, USL, Karp-Flatt) to the speedups measured with several numbers of workers.

Amdahl's law has one parameter, the serial fraction, and never falls; the universal scalability law (USL) has two,
contention and coherency, and falls beyond a peak. A few noisy points don't determine two parameters, so the USL is only
fitted to six numbers of workers or more.

Both are fitted by least squares in a form that is linear in the parameters: Amdahl's law to elapsed / serial elapsed,
the USL to workers / speedup - 1. Rejected: fitting the curves themselves, which needs an optimiser and weighs points
differently, not better.

References
----------
Amdahl, "Validity of the single processor approach to achieving large scale computing capabilities", AFIPS 1967.
Karp and Flatt, "Measuring parallel processor performance", Communications of the ACM 33(5), 1990.
Gunther, "Guerrilla Capacity Planning", Springer 2007, chapters 4 to 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.units import count_text

__all__ = ["FEWEST_USL", "USL", "Amdahl", "amdahl", "curve", "is_fraction", "karp_flatt", "usl"]

FEWEST_USL = 6
"""Fewest numbers of workers that the USL is fitted to."""

_BEYOND = 4  # a curve goes to so many times the most workers that were measured
_MOST_POINTS = 128  # of a curve


@dataclass(frozen=True)
class Amdahl:
    """Amdahl's law: a fraction of the serial time can't be divided among the workers.

    >>> Amdahl(0.25).speedup(3), Amdahl(0.25).largest_speedup
    (2.0, 4.0)
    """

    serial_fraction: float

    def speedup(self, n_workers: float) -> float:
        """Return the predicted speedup."""
        return 1 / (self.serial_fraction + (1 - self.serial_fraction) / n_workers)

    @property
    def largest_speedup(self) -> float:
        """The limit of the speedup for many workers; infinite if nothing is serial."""
        return 1 / self.serial_fraction if self.serial_fraction else math.inf


@dataclass(frozen=True)
class USL:
    """The universal scalability law: ``n / (1 + contention (n - 1) + coherency n (n - 1))``.

    Parameters
    ----------
    contention : share of the work for which workers wait in a queue, >= 0
    coherency : cost of each pair of workers that exchange data, >= 0
    """

    contention: float
    coherency: float

    def speedup(self, n_workers: float) -> float:
        """Return the predicted speedup."""
        n = n_workers
        return n / (1 + self.contention * (n - 1) + self.coherency * n * (n - 1))

    @property
    def peak(self) -> float:
        """Number of workers with the highest speedup; infinite without coherency."""
        if not self.coherency:
            return math.inf
        return max(1.0, math.sqrt(max(0.0, 1 - self.contention) / self.coherency))


def amdahl(workers: Sequence[int], speedups: Sequence[float]) -> Amdahl:
    """Return Amdahl's law with the serial fraction in [0, 1] that fits best.

    Parameters
    ----------
    workers, speedups : each >= 1; each > 0. Points with one worker have no influence

    Raises
    ------
    ValueError : if there is no point with two workers or more, or a value is out of range

    >>> amdahl([1, 2, 4], [1.0, 1.6, 2.2857142857142856])
    Amdahl(serial_fraction=0.25)
    """
    n, s = _points(workers, speedups)
    x = 1 - 1 / n
    if not x.any():
        raise ValueError("Amdahl's law needs a speedup of two workers or more")
    # elapsed over serial = fraction + (1 - fraction) / n, so 1/s - 1/n = fraction x
    fraction = float(x @ (1 / s - 1 / n) / (x @ x))
    # rounded: an error like 1e-17 would limit the speedup
    return Amdahl(min(1.0, max(0.0, round(fraction, 12))))


def is_fraction(serial: float | None) -> bool:
    """Return whether Karp and Flatt's number can be the serial fraction that it is meant to be.

    It is above 1 where more workers are slower than one, and below 0 where the speedup exceeds the number of workers.
    """
    return serial is not None and 0 <= serial <= 1


def karp_flatt(speedup: float, n_workers: int) -> float:
    """Return the experimentally determined serial fraction of one point; negative if the speedup exceeds the workers.

    If it grows with the number of workers, the cause is not a serial part but overhead, transfer or contention.

    Raises
    ------
    ValueError : for fewer than two workers, or a speedup that is not above 0

    >>> karp_flatt(1.6, 2)
    0.25
    """
    if n_workers < 2 or not speedup > 0:
        raise ValueError(
            f"got a speedup of {speedup:g} with {count_text(n_workers, 'worker')}; the fraction needs 2 workers or more"
        )
    return (1 / speedup - 1 / n_workers) / (1 - 1 / n_workers)


def usl(workers: Sequence[int], speedups: Sequence[float]) -> USL:
    """Return the USL with the contention and coherency, each >= 0, that fit best.

    Raises
    ------
    ValueError : for fewer than six numbers of workers, or if a value is out of range
    """
    n, s = _points(workers, speedups)
    if len(np.unique(n)) < FEWEST_USL:
        raise ValueError(f"the USL needs {FEWEST_USL} numbers of workers; got {len(np.unique(n))}")
    short = n / s - 1
    contention, coherency = _non_negative(np.column_stack([n - 1, n * (n - 1)]), short)
    return USL(contention, coherency)


def curve(workers: Sequence[int], speedups: Sequence[float]) -> list[dict[str, Any]]:
    """Return points of the fitted laws, from one worker to four times the most that were measured.

    Returns
    -------
    rows of ``workers``, ``speedup``, ``model`` (``amdahl``, and ``usl`` if it can be fitted) and ``extrapolated``
    (whether there are more workers than were measured)

    Raises
    ------
    ValueError : as :func:`amdahl`
    """
    most = max(workers, default=0)
    laws: dict[str, Amdahl | USL] = {"amdahl": amdahl(workers, speedups)}
    if len(set(workers)) >= FEWEST_USL:
        laws["usl"] = usl(workers, speedups)
    counts = np.unique(np.linspace(1, _BEYOND * most, min(_MOST_POINTS, _BEYOND * most)).round().astype(int)).tolist()
    counts = sorted({*counts, *workers})
    return [
        {"workers": n, "speedup": law.speedup(n), "model": name, "extrapolated": n > most}
        for name, law in laws.items()
        for n in counts
    ]


def _points(
    workers: Sequence[int], speedups: Sequence[float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    n, s = np.asarray(workers, dtype=float), np.asarray(speedups, dtype=float)
    if len(n) != len(s):
        raise ValueError(f"got {len(n)} numbers of workers and {len(s)} speedups")
    for count, speedup in zip(n, s, strict=True):
        if not count >= 1 or not 0 < speedup < math.inf:
            raise ValueError(f"got a speedup of {speedup:g} with {count:g} workers; it must be above 0, with 1 or more")
    return n, s


def _non_negative(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the least-squares solution of ``a x = b`` for two unknowns >= 0, each of them free or 0.

    (scipy.optimize.nnls does the same for any number of unknowns; scipy is not a dependency.)
    """
    both = np.linalg.lstsq(a, b, rcond=None)[0]
    if (both >= 0).all():
        return float(both[0]), float(both[1])
    alone = [max(0.0, float(column @ b / (column @ column))) for column in a.T]
    found = [(alone[0], 0.0), (0.0, alone[1])]
    return min(found, key=lambda x: float(np.sum((a @ np.array(x) - b) ** 2)))
