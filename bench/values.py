"""Functions that make and use the values of the transport case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

__all__ = ["array", "frame", "table", "use"]


def array(nbytes: int, number: int) -> Any:
    """An array of so many bytes, with one number in all cells."""
    return np.full(nbytes // 8, float(number))


def table(nbytes: int, number: int) -> Any:
    """The same as an Arrow table of three columns."""
    return pa.table({name: np.full(nbytes // 24, float(number)) for name in "abc"})


def frame(nbytes: int, number: int) -> Any:
    """A frame of about so many bytes, with a column of text."""
    n = nbytes // 40
    return pd.DataFrame({"a": np.full(n, float(number)), "b": np.arange(n), "c": ["some text of it"] * n})


def use(one: Any, other: Any) -> float:
    """The sum of all cells of two arrays, or of the first columns of two tables."""
    first, second = (x if isinstance(x, np.ndarray) else np.asarray(x["a"]) for x in (one, other))
    return float(first.sum() + second.sum())
