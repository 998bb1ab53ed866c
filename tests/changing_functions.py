"""Functions that change their arguments in place, for tests/worker/test_isolation.py; workers import this alone."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import xarray as xr


class Box:
    """An object of the user's."""

    def __init__(self) -> None:
        self.n = [1]
        self.array = np.arange(3.0)


def table() -> pd.DataFrame:
    return pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})


def labelled() -> xr.DataArray:
    return xr.DataArray(np.arange(3.0), {"t": [1, 2, 3], "m": ("t", [1.0, 2.0, 3.0])}, ["t"], attrs={"k": [1]})


MAKERS: dict[str, Any] = {
    "array": lambda: np.arange(3.0),
    "masked": lambda: np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False]),
    "scalar_array": lambda: np.array(5.0),
    "structured": lambda: np.array([(1, 2.0)], [("k", int), ("v", float)]),
    "record": lambda: np.array([(1, 2.0)], [("k", int), ("v", float)])[0],
    "objects": lambda: np.array([[1], [2, 3]], dtype=object),
    "list": lambda: [3, 1, 2],
    "dict": lambda: {"k": 1},
    "set": lambda: {1},
    "nested": lambda: {"k": [1, {"deep": [np.arange(2), table()]}], "t": ([1],)},
    "frame": table,
    "frame_of_objects": lambda: pd.DataFrame({"o": [[1], [2]]}),
    "series": lambda: pd.Series([1.0, 2.0], name="s"),
    "index": lambda: pd.Index([1, 2], name="i"),
    "arrow": lambda: pa.table({"a": [1, 2]}),
    "labelled": labelled,
    "dataset": lambda: xr.Dataset({"v": ("t", np.arange(3.0))}, {"t": [1, 2, 3]}),
    "object": Box,
    "bytes": lambda: bytearray(b"ab"),
    "iterator": lambda: iter([1, 2, 3]),
    "stream": lambda: io.BytesIO(b"abc"),
    "random": lambda: random.Random(1),
    "text": lambda: "unchangeable",
}  # fmt: skip

READ_ONLY = {"array", "masked", "scalar_array", "structured", "objects", "labelled", "dataset"}
"""What a function gets read-only, so that the first attempt to change it fails."""


def make(kind: str) -> Any:
    return MAKERS[kind]()


def shown(value: Any) -> str:
    """What a value is now, as text."""
    if isinstance(value, Box):
        return f"Box {value.n} {value.array}"
    if isinstance(value, io.BytesIO):
        return f"{value.getvalue()!r} at {value.tell()}"
    if isinstance(value, random.Random):
        return str(value.getstate()[1][-1])
    if isinstance(value, pa.Table):
        return str(value.to_pydict())
    if isinstance(value, pd.DataFrame):
        return f"{value.to_dict()} {value.columns.name} {value.attrs}"
    if isinstance(value, pd.Series | pd.Index):
        return f"{value.tolist()} {value.name}"
    if isinstance(value, xr.Dataset | xr.DataArray):
        return str(value.to_dict())
    if type(value).__name__ == "list_iterator":
        return str(list(value))
    return repr(value)


def _change(kind: str, x: Any) -> None:
    if kind in ("array", "scalar_array"):
        x += 1
    elif kind == "masked":
        x[0] = np.ma.masked
    elif kind in ("structured", "record"):
        x["v"] += 1
    elif kind == "objects":
        x[0] = x[0] + [9]
    elif kind == "list":
        x.append(x.pop(0))
        x.sort()
        x += [9]
    elif kind == "dict":
        x["k"] += 1
    elif kind == "set":
        x.add(max(x) + 1)
    elif kind == "nested":
        inner = x["k"][1]["deep"]
        inner[0][0] += 7
        inner[1].loc[0, "a"] += 7
        x["t"][0].append(2)
    elif kind == "frame":
        x.loc[0, "a"] += 1
        x["new"] = x["b"]
        x.columns.name = "c"
        x.attrs["k"] = 1
    elif kind == "frame_of_objects":
        x["o"].iloc[0].append(2)
    elif kind == "series":
        x.iloc[0] += 1
        x.name = "other"
    elif kind == "index":
        x.name = "other"
    elif kind == "labelled":
        x.attrs["k"].append(2)
        x.coords["m"][0] = 9
        x += 1
    elif kind == "dataset":
        x["w"] = x["v"] * 2
        x["v"][0] += 1
    elif kind == "object":
        x.n.append(x.n[-1] + 1)
        x.array[0] += 1
    elif kind == "bytes":
        x += b"c"
    elif kind == "iterator":
        next(x)
    elif kind == "stream":
        x.read(1)
    elif kind == "random":
        x.random()


def change(kind: str, x: Any, n: int = 0) -> str:
    """Change the argument in place and return what it is then."""
    try:
        _change(kind, x)
    except ValueError as error:
        if "read-only" not in str(error) and "is a view" not in str(error):  # numpy, xarray
            raise
        return f"read-only: {shown(x)}"
    return shown(x)


def write(x: np.ndarray, n: int = 0) -> float:
    x[0] = 5.0
    return float(x.sum())


def add_to(numbers: list[int], **more: Any) -> list[int]:
    """A list of the file, changed; what is in the maps beside it, too."""
    for value in more.values():
        value["k"].append(0)
    numbers.append(len(numbers))
    return [*numbers, *(len(value["k"]) for value in more.values())]


def add_to_block(block: np.ndarray, numbers: list[int]) -> np.ndarray:
    numbers.append(1)
    return block + len(numbers)


def add_to_chunk(x: slice, numbers: list[int]) -> np.ndarray:
    numbers.append(1)
    return np.full(x.stop - x.start, float(len(numbers)))


def counter(k: int) -> dict[str, int]:
    return {"k": k}


def joined(parts: list[dict[str, int]], numbers: list[int]) -> dict[str, int]:
    """Changes the first of the parts, and its own argument."""
    numbers.append(1)
    for other in parts[1:]:
        parts[0]["k"] += other["k"]
    parts[0]["k"] += 100 * len(numbers)
    return parts[0]


def fail_once(x: dict[str, list[int]], folder: str, n: int) -> list[int]:
    """Changes its argument and fails, the first time for each n."""
    import os

    x["k"].append(n)
    path = os.path.join(folder, str(n))
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        raise OSError("not now")
    return x["k"]


def fail_first(x: dict[str, list[int]], folder: str) -> list[int]:
    """The same for each list."""
    return fail_once(x, folder, 1000 + x["k"][0])


def boxed(n: int) -> dict[str, list[int]]:
    return {"k": [n]}


def lists() -> list[dict[str, list[int]]]:
    return [{"k": [i]} for i in range(6)]


def numbers() -> dict[str, list[int]]:
    return {"k": [1]}


def wrapped(x: xr.DataArray) -> dict[str, np.ndarray]:
    """Its argument again, which it may not write to, in a map that the next task may change."""
    return {"x": x.values}


def write_inside(x: dict[str, np.ndarray]) -> float:
    x["x"][0] = 7
    return float(x["x"].sum())


def lock() -> object:
    import threading

    return threading.Lock()


def hold(x: object, n: int) -> str:
    return type(x).__name__
