"""A made-up table of measurements: three groups that lie apart along one direction, wide noise along another."""

import numpy as np

COLUMNS = 400
"""More than any table asks for: the two directions are parts of the same ones, however many columns there are."""


def measured(row: slice, feature: slice, lost: int) -> np.ndarray:
    """Some rows, their numbers in the first column; of each ``lost`` rows one lacks a value."""
    n = feature.stop
    number = np.arange(row.start, row.stop)
    rng = np.random.default_rng(row.start)
    directions, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(COLUMNS, 2))[: n - 1])
    along = np.stack([4.0 * (number % 3 - 1), 2 * rng.normal(size=number.size)], axis=1)
    table = np.empty((number.size, n))
    table[:, 0] = number
    table[:, 1:] = along @ directions.T + rng.normal(size=(number.size, n - 1)) / 2
    table[number % lost == 0, 1] = np.nan
    return table
