"""Functions that the snippets call: the user's part of the Graph that runs on every back end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["added", "largest", "n_lines", "norms", "places", "power_maps", "powers", "smoothed", "some_rows"]


def n_lines(path: str) -> int:
    with open(path, encoding="utf-8") as file:
        return sum(1 for _ in file)


def powers(x: float) -> list[float]:
    return [float(x) ** n for n in range(4)]


def power_maps(x: int) -> list[dict[str, Any]]:
    return [{"square": x * x, "name": f"x{x}"}, {"square": -x * x, "name": "less"}]


def norms(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.sqrt((block**2).sum(axis=1))


def largest(frame: pd.DataFrame, column: str, by: list[str]) -> pd.DataFrame:
    found: pd.DataFrame = frame.groupby(by)[column].max().reset_index()
    return found


def smoothed(block: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    """The mean over ``n`` places before and after, along the first axis."""
    kernel = np.ones(2 * n + 1) / (2 * n + 1)
    return np.apply_along_axis(np.convolve, 0, block, kernel, mode="same")


def added(parts: list[list[float]]) -> list[float]:
    return [sum(values) for values in zip(*parts, strict=True)]


def places(x: slice, y: slice, factor: int) -> np.ndarray[Any, Any]:
    return factor * np.arange(x.start, x.stop, dtype=float)[:, None] + np.arange(y.start, y.stop)


def some_rows(partition: int, n_partitions: int) -> list[dict[str, Any]]:
    return [{"k": n_partitions * i + partition} for i in range(4)]
