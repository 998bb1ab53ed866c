"""Numbers of tasks for a scheduler: our segments compared with Dask's fused graphs of the same work."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import pyarrow.parquet as pq

import pipeline
from bench.pairs import Aim, Row, Sizes, counted
from pipeline.config.loader import loads
from pipeline.config.model import Config
from pipeline.graph.fusion import fuse
from pipeline.graph.nodes import is_constant

__all__ = ["counts"]

_REPOSITORY = Path(__file__).parents[1]
_FILES = 16
_AIM = Aim(1.1)
_NUMBERS = ["l_quantity", "l_extendedprice", "l_discount", "l_tax"]
_COLUMNS = [*_NUMBERS, "l_returnflag", "l_linestatus", "l_shipdate"]

_NORMALISED = """
version: 1
steps:
  x: {op: random, shape: {row: 4000, column: 40}, chunks: {row: 200, column: 40}}
  mean: {op: mean, input: x, axis: row}
  std: {op: std, input: x, axis: row, ddof: 0}
  z: {expr: "(x - mean) / std"}
"""


def counts(sizes: Sizes) -> Iterator[Row]:
    """Yield numbers of tasks, without timing; constants and aliases are not counted on either side."""
    x = da.random.default_rng(1).standard_normal((4000, 40), chunks=(200, 40))
    (z,) = dask.optimize((x - x.mean(axis=0)) / x.std(axis=0))
    config = loads(_NORMALISED, name="normalised", root=".")
    yield counted("tasks of (x - m) / s", _ours(config, sizes.n_workers), _theirs(z.__dask_graph__()), _AIM)
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as folder:
        lineitem = _lineitem(Path(folder))
        q1 = pipeline.load(_REPOSITORY / "configs" / "tpch_q1.yaml", params={"root": folder})
        config = replace(q1.config, outputs=(), checks=())  # the query alone, on both sides
        theirs = _pricing_summary(lineitem)
        yield counted("tasks of TPC-H 1", _ours(config, sizes.n_workers), _theirs(theirs), _AIM)


def _ours(config: Config, n_workers: int) -> int:
    return len(fuse(pipeline.build(config), n_workers=n_workers))


def _theirs(graph: Mapping[Any, Any]) -> int:
    nodes = dask._task_spec.convert_legacy_graph(dict(graph))
    return sum(not is_constant(node) for node in nodes.values())


def _lineitem(folder: Path) -> Path:
    """Write the synthetic table of the repository as more files.

    Only the columns of the query are kept: with others, Dask would read two files in one task.
    """
    table = pq.read_table(_REPOSITORY / "data" / "tpch" / "lineitem").select(_COLUMNS)
    (folder / "lineitem").mkdir()
    for i in range(_FILES):
        pq.write_table(table, folder / "lineitem" / f"lineitem.{i:02}.parquet")
    return folder / "lineitem"


def _pricing_summary(path: Path) -> Any:
    """Return the fused graph of TPC-H 1, written by hand."""
    with dask.config.set({"dataframe.parquet.minimum-partition-size": 1}):  # a partition a file, as on our side
        lineitem = dd.read_parquet(path)
        shipped = lineitem[lineitem.l_shipdate <= dt.date(1998, 9, 2)].astype(dict.fromkeys(_NUMBERS, "float64"))
        price = shipped.l_extendedprice * (1 - shipped.l_discount)
        priced = shipped.assign(disc_price=price, charge=price * (1 + shipped.l_tax))
        summary = priced.groupby(["l_returnflag", "l_linestatus"]).agg(
            sum_qty=("l_quantity", "sum"),
            sum_base_price=("l_extendedprice", "sum"),
            sum_disc_price=("disc_price", "sum"),
            sum_charge=("charge", "sum"),
            avg_qty=("l_quantity", "mean"),
            avg_price=("l_extendedprice", "mean"),
            avg_disc=("l_discount", "mean"),
            count_order=("l_quantity", "count"),
            split_out=1,  # the few groups are one partition; Dask would shuffle them, which makes 34 tasks
        )
        q1 = summary.reset_index().sort_values(["l_returnflag", "l_linestatus"])
        return q1.optimize(fuse=True).__dask_graph__()
