"""Eight ops a partition over many small partitions: what a statement costs beside pandas' calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dask
import numpy as np
import pandas as pd
import pyarrow as pa

from bench.pairs import Aim, Row, Sizes, ratios, take_turns
from pipeline.config.expressions.expression import parse
from pipeline.graph.nodes import constant
from pipeline.ops.collections import Frame
from pipeline.ops.frames.cleaning import astype, dropna, fillna, rename
from pipeline.ops.frames.select import assign, filter, select  # noqa: A004

__all__ = ["row_ops"]

_ROWS = 1000


def row_ops(sizes: Sizes) -> Iterator[Row]:
    """``sizes.n_small`` partitions of 1,000 rows: both sides one task after the other, in this process."""
    rng = np.random.default_rng(1)
    n = sizes.n_small
    tables = [
        pa.table({"k": rng.integers(0, 9, _ROWS), "x": rng.random(_ROWS), "y": rng.random(_ROWS)}) for _ in range(n)
    ]
    frames = [table.to_pandas() for table in tables]
    frame = Frame({("t", i): constant(("t", i), table) for i, table in enumerate(tables)}, _keys(n), tables[0].schema)
    made = _steps(frame)

    def ours() -> Callable[[], Any]:
        found = dask.get(dict(made.tasks), list(made.keys))
        return lambda: [sum(table.num_rows for table in found), sum(table["z"].to_numpy().sum() for table in found)]

    def theirs() -> Callable[[], Any]:
        found = [_by_hand(one) for one in frames]
        return lambda: [sum(map(len, found)), sum(one["z"].sum() for one in found)]

    taken = take_turns({"ours": ours, "theirs": theirs}, sizes.few_pairs, warm_up=sizes.warm_up)
    yield ratios(f"8 ops x {n:,} x 1,000 rows", taken["ours"], taken["theirs"], Aim(1.0, by="low"))


def _keys(n: int) -> tuple[Any, ...]:
    return tuple(("t", i) for i in range(n))


def _steps(frame: Frame) -> Frame:
    priced = assign(frame, columns={"price": parse("x * (1 - y)", "columns")})
    chosen = filter(priced, where=parse("price > 0.1 and k != 3", "columns"))
    taxed = assign(chosen, columns={"tax": parse("price * 0.1", "columns"), "twice": parse("k * 2", "columns")})
    named = rename(taxed, columns={"x": "amount"})
    filled = fillna(named, value={"tax": 0.0})
    typed = astype(filled, columns={"twice": "float64"})
    present = dropna(typed, subset=["price"])
    last = assign(present, columns={"z": parse("price + tax + twice", "columns")})
    return select(last, columns=["k", "amount", "z"])


def _by_hand(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(price=frame.x * (1 - frame.y))
    frame = frame[(frame.price > 0.1) & (frame.k != 3)]
    frame = frame.assign(tax=frame.price * 0.1, twice=frame.k * 2)
    frame = frame.rename(columns={"x": "amount"})
    frame = frame.fillna({"tax": 0.0})
    frame = frame.astype({"twice": "float64"})
    frame = frame.dropna(subset=["price"])
    frame = frame.assign(z=frame.price + frame.tax + frame.twice)
    return frame[["k", "amount", "z"]]
