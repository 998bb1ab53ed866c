"""Values of every kind that tasks give, each made by a call; no two are equal."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import xarray as xr

from pipeline.graph.file_value import FileValue
from pipeline.graph.segments import Group

__all__ = ["VALUES"]


class Pair(NamedTuple):
    x: int
    y: Any


class Level(enum.Enum):
    LOW = 1


@dataclasses.dataclass(frozen=True)
class Fit:
    rmse: float
    weights: Any


VALUES: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "true": lambda: True,
    "int": lambda: 3,
    "large int": lambda: 10**400,
    "float": lambda: 0.1,
    "minus zero": lambda: -0.0,
    "nan": lambda: float("nan"),
    "other nan": lambda: -float("nan"),
    "inf": lambda: float("inf"),
    "complex": lambda: 1 + 2j,
    "text": lambda: "été\ud800\0",
    "bytes": lambda: b"\0\xff",
    "list": lambda: [1, "a", None, [2.5]],
    "map": lambda: {"b": 1, "a": [1, 2]},
    "map of numbers": lambda: {1: "a", 2.0: "b"},
    "tuple": lambda: (1, (2, "x")),
    "set": lambda: {"a", "b", 1},
    "records": lambda: [{"a": i, "b": str(i)} for i in range(30)],
    "long list": lambda: list(range(5_000)),
    "named tuple": lambda: Pair(1, [2]),
    "enum": lambda: Level.LOW,
    "dataclass": lambda: Fit(0.5, np.ones(3)),
    "decimal": lambda: decimal.Decimal("1.10"),
    "time": lambda: datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.UTC),
    "range": lambda: range(0, 10, 3),
    "file": lambda: FileValue("a.txt", b"text"),
    "group": lambda: Group([("a", 1), ("b", 2)]),
    "array": lambda: np.arange(12.0).reshape(3, 4),
    "array in columns": lambda: np.asfortranarray(np.arange(12.0).reshape(4, 3)),
    "array with gaps": lambda: np.arange(24)[::2],
    "0-d array": lambda: np.array(2.5),
    "empty array": lambda: np.empty((0, 3), "f4"),
    "scalar": lambda: np.float32(1.5),
    "other byte order": lambda: np.arange(3, dtype=">i4"),
    "times": lambda: np.array(["2020-01-01", "NaT"], "M8[ns]"),
    "texts": lambda: np.array(["a", "été"]),
    "texts of numpy 2": lambda: np.array(["a", "été"], np.dtypes.StringDType()),
    "objects": lambda: np.array([1, "a", None], object),
    "records of numpy": lambda: np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]),
    "records with gaps": lambda: np.array([(1, 2.5)], np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "long double": lambda: np.array([1, 3], np.longdouble),
    "masked array": lambda: np.ma.masked_array([1, 2, 3], [0, 1, 0]),
    "record array": lambda: np.rec.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]),
    "large array": lambda: np.arange(200_000),
    "map of arrays": lambda: {"w": np.arange(100_000), "b": np.zeros(2)},
    "table": lambda: pa.table({"a": [1, None, 3], "b": ["x", None, "z"]}),
    "table in chunks": lambda: pa.table({"a": pa.chunked_array([[1, 2], [3]])}),
    "table of types": lambda: pa.table(
        {
            "d": pa.array(["a", "b", "a"]).dictionary_encode(),
            "l": [[1], None, []],
            "s": [{"q": 1}, None, {"q": None}],
            "t": pa.array([1, 2, None], pa.timestamp("us", "Africa/Cairo")),
            "n": pa.nulls(3),
        }
    ),
    "slice of a table": lambda: pa.table({"a": list(range(100))}).slice(10, 5),
    "table without rows": lambda: pa.table({"a": pa.array([], pa.int8())}),
    "table without columns": lambda: pa.table({}),
    "array of arrow": lambda: pa.array([1, None]),
    "frame": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])}),
    "frame of types": lambda: pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="Int64"),
            "t": pd.to_datetime(["2020", "2021"]).tz_localize("Africa/Cairo"),
            "p": pd.period_range("2020", periods=2, freq="M"),
            "o": [1, "x"],
        },
        index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["k", None]),
    ),
    "series": lambda: pd.Series([1.5, 2.5], name="s", index=["a", "b"]),
    "index": lambda: pd.interval_range(0, 3),
    "timestamp": lambda: pd.Timestamp("2020-01-01", tz="UTC"),
    "polars": lambda: pl.DataFrame({"a": [1, None], "e": pl.Series(["u", "v"], dtype=pl.Enum(["u", "v"]))}),
    "data array": lambda: xr.DataArray(
        np.ones((2, 3)), dims=("x", "t"), coords={"x": [1, 2], "lab": ("x", ["a", "b"])}, attrs={"units": "K"}
    ),
    "dataset": lambda: xr.Dataset(
        {"v": ("t", [1.0, 2.0])}, coords={"t": xr.date_range("2000", periods=2, calendar="noleap", use_cftime=True)}
    ),
}
