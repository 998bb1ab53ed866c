"""A model for the sweep: how long a ride takes by its length, as a polynomial whose coefficients are held small."""

from __future__ import annotations

import numpy as np
import pandas as pd

N_SAMPLES = 8  # fits that are averaged, each to rides drawn anew


def fit(rides: pd.DataFrame, alpha: float, degree: int, fold: int, folds: int, seed: int) -> tuple[np.ndarray, float]:
    """Fit to all rides but those of one fold: the coefficients, shape (degree + 1,), and the error on that fold."""
    km, minutes = rides["km"].to_numpy(), rides["minutes"].to_numpy()
    left_out = np.arange(len(rides)) % folds == fold
    model = averaged(km[~left_out], minutes[~left_out], alpha, degree, seed)
    error = minutes[left_out] - powers(km[left_out], degree) @ model
    return model, float(np.sqrt(np.mean(error**2)))


def fit_all(rides: pd.DataFrame, alpha: float, degree: int, seed: int) -> dict[str, float]:
    """Fit to all rides: the coefficients up to the square, whatever the degree."""
    model = averaged(rides["km"].to_numpy(), rides["minutes"].to_numpy(), alpha, degree, seed)
    return dict(zip(("start", "pace", "bend"), [*map(float, model), 0.0, 0.0], strict=False))


def averaged(x: np.ndarray, y: np.ndarray, alpha: float, degree: int, seed: int) -> np.ndarray:
    """The mean of fits to samples of the rides, drawn with replacement.

    Raises
    ------
    ValueError : if there are more coefficients than rides
    """
    if degree >= len(x):
        raise ValueError(f"degree {degree} has {degree + 1} coefficients for {len(x)} rides")
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(len(x), size=len(x)) for _ in range(N_SAMPLES)]
    return np.mean([ridge(powers(x[some], degree), y[some], alpha) for some in drawn], axis=0)


def ridge(a: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
    """Least squares with ``alpha`` times the squared coefficients added; the first one is free."""
    held = alpha * np.eye(a.shape[1])
    held[0, 0] = 0
    return np.linalg.solve(a.T @ a + held, a.T @ y)


def powers(x: np.ndarray, degree: int) -> np.ndarray:
    """``1, x, x**2, …``: shape (len(x), degree + 1)."""
    return np.vander(x, degree + 1, increasing=True)
