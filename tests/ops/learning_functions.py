"""Rows to learn from, and estimators of the user's own, for the tests of op train."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin

NAMES = ("a", "b", "c")


def points(n: int = 120, seed: int = 0) -> pd.DataFrame:
    """Rows of three numbers, with a class (``kind``), a number (``level``) and a group."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    noise = rng.normal(size=n)
    return pd.DataFrame(x, columns=list(NAMES)).assign(
        kind=np.where(x[:, 0] + 0.4 * noise > 0, "high", "low"),
        level=x @ [1.0, -2.0, 0.5] + 0.1 * noise,
        group=np.arange(n) % 7,
    )


def rows(partition: int, n_partitions: int) -> pd.DataFrame:
    whole = points()
    return whole.iloc[partition * len(whole) // n_partitions : (partition + 1) * len(whole) // n_partitions]


def flawed(partition: int, n_partitions: int) -> pd.DataFrame:
    """The rows with a missing number, a missing class, and a rare class."""
    part = rows(partition, n_partitions).assign(hole=1.0, torn="x", rare="x")
    if partition == 0:
        part.loc[part.index[2:5], "hole"] = np.nan
        part.loc[part.index[1], "torn"] = None
        part.loc[part.index[:2], "rare"] = "y"
    return part


class Picky(ClassifierMixin, BaseEstimator):
    """Predicts one class; fails where it is told to."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def fit(self, x: Any, y: Any) -> Picky:
        if self.fails:
            raise ArithmeticError("told to fail")
        self.classes_ = np.unique(y)
        return self

    def predict(self, x: Any) -> Any:
        return np.repeat(self.classes_[:1], len(x))


def no_estimator() -> int:
    return 7


def same(x: Any) -> Any:
    return x
