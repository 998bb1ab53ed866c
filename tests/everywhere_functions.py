"""Functions that the snippets call: the user's part of the Graph that runs on every back end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "added",
    "as_given",
    "described",
    "largest",
    "n_lines",
    "nested",
    "norms",
    "places",
    "power_maps",
    "powers",
    "smoothed",
    "some_rows",
]


def n_lines(path: str) -> int:
    with open(path, encoding="utf-8") as file:
        return sum(1 for _ in file)


def powers(x: float) -> list[float]:
    return [float(x) ** n for n in range(4)]


def power_maps(x: int) -> list[dict[str, Any]]:
    return [{"square": x * x, "name": f"x{x}"}, {"square": -x * x, "name": "less"}]


def nested() -> list[dict[str, Any]]:
    at = {"x": 1.5, "y": {"z": "deep"}}
    return [{"k": 1, "tags": ["a", "b"], "at": at}, {"k": 2, "tags": [], "at": None}, {"k": 3, "tags": None, "at": at}]


def norms(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.sqrt((block**2).sum(axis=1))


def described(frame: Any) -> str:
    """What kind of frame it is, its shape, and the sum of a column."""
    kind = type(frame).__module__.partition(".")[0]
    temps = frame["temp"].to_pylist() if kind == "pyarrow" else frame["temp"].to_list()
    return f"{kind} {frame.shape} {sum(x for x in temps if x is not None and x == x):.6f}"


def as_given(frame: Any) -> Any:
    return frame


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
