"""What property tests draw: arrays of any chunking and dtype, frames of any partitioning, missing values among both."""

from __future__ import annotations

import itertools
import os
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import xarray as xr
from dask.base import tokenize
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pipeline.graph.nodes import constant
from pipeline.ops.collections import Frame

__all__ = ["SETTINGS", "arrays", "cut", "frames", "partitioned"]

EXAMPLES = int(os.environ.get("PIPELINE_EXAMPLES", "15"))
SETTINGS = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
"""For every property test: few examples, always the same ones; PIPELINE_EXAMPLES=500 looks harder."""

FLOATS = ("float64", "float32")
NUMBERS = (*FLOATS, "int64", "int32", "uint8", "bool")


@st.composite
def cut(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    """The sizes of chunks that add up to ``size``; now and then one is empty."""
    if not size:
        return (0,)
    edges = sorted(draw(st.lists(st.integers(0, size), max_size=3)))
    sizes = np.diff([0, *edges, size]).tolist()
    return tuple(sizes) if draw(st.booleans()) else tuple(n for n in sizes if n)


@st.composite
def arrays(
    draw: st.DrawFn,
    dims: tuple[str, ...] = ("x", "y"),
    dtypes: tuple[str, ...] = NUMBERS,
    *,
    smallest: int = 0,
    largest: int = 7,
    missing: bool = True,
    coords: bool = True,
    empty_chunks: bool = False,
) -> xr.DataArray:
    """A DataArray over dask with ``dims``; ``x.compute(scheduler="sync")`` gives what it was made of.

    Parameters
    ----------
    smallest, largest : of each dim's size
    missing : whether floats may be NaN, some or all of them
    coords : whether a dim has labels now and then: 0, 10, 20, …
    empty_chunks : whether chunks of size 0 may lie among the others
    """
    shape = tuple(draw(st.integers(smallest, largest)) for _ in dims)
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = np.asarray(rng.integers(0, 2, shape) if dtype.kind == "b" else rng.integers(0, 9, shape))
    values = values.astype(dtype)
    if dtype.kind == "f":
        values = np.asarray((values - 4 + rng.integers(0, 4, shape) / 4).astype(dtype))
        lost = draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])) if missing else 0.0
        values[rng.random(shape) < lost] = np.nan
    chunks = tuple(draw(cut(n)) for n in shape)
    if not empty_chunks:
        chunks = tuple(tuple(n for n in sizes if n) or (0,) for sizes in chunks)
    data = da.from_array(values, chunks=chunks, name=f"x-{tokenize(values, chunks)}")
    labels = {d: np.arange(n) * 10 for d, n in zip(dims, shape, strict=True) if coords and draw(st.booleans())}
    return xr.DataArray(data, labels, dims)


@st.composite
def frames(draw: st.DrawFn, columns: dict[str, str], *, largest: int = 12, missing: bool = True) -> pd.DataFrame:
    """A pandas frame with these columns; types: int64 float64 string bool timestamp. Few different values each."""
    n = draw(st.integers(0, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    lost = draw(st.sampled_from([0.0, 0.3, 1.0])) if missing else 0.0
    made: dict[str, Any] = {}
    for name, kind in columns.items():
        drawn = rng.integers(0, 4, n)
        gone = rng.random(n) < lost
        if kind == "string":
            made[name] = pd.Series(np.array(list("abcd"), object)[drawn], dtype=pd.StringDtype(na_value=np.nan))
        elif kind == "timestamp":
            made[name] = pd.Series(pd.to_datetime("2001-01-01") + pd.to_timedelta(drawn, "D")).astype("datetime64[us]")
        elif kind == "float64":
            made[name] = pd.Series(drawn / 2 - 1.0)
        else:
            made[name] = pd.Series(drawn).astype(kind)
        if kind in ("string", "timestamp", "float64"):
            made[name] = made[name].mask(gone)
    return pd.DataFrame(made)


@st.composite
def partitioned(draw: st.DrawFn, frame: pd.DataFrame) -> Frame:
    """The frame in partitions, as a step's input is; some may be empty. Numbers and truth values are never missing."""
    kinds = {"i": pa.int64(), "b": pa.bool_(), "f": pa.float64(), "M": pa.timestamp("us")}
    found = {str(name): kinds.get(frame[name].dtype.kind, pa.string()) for name in frame.columns}
    schema = pa.schema([pa.field(name, kind, kind not in (pa.int64(), pa.bool_())) for name, kind in found.items()])
    sizes = draw(cut(len(frame)))
    edges = np.cumsum([0, *sizes])
    table = pa.Table.from_pandas(frame, schema, preserve_index=False).replace_schema_metadata(None)
    name = f"input-{tokenize(frame, sizes)}"
    pieces = [table.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    tasks = {(name, i): constant((name, i), piece) for i, piece in enumerate(pieces)}
    return Frame(tasks, tuple(tasks), schema)
