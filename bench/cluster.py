"""``pipeline run`` on a running LocalCluster, compared with the same work written by hand on the same LocalCluster.

Both sides are timed from the file, or the first line of the collections' code, to the written result: connecting a
client and building the graph are included, starting the cluster is not. Both read one partition per file and shuffle by
tasks; the time of Dask's peer-to-peer shuffle, its default on a cluster, is printed beside it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster

import pipeline
from bench import work
from bench.pairs import Aim, Contender, Row, Sizes, ratios, take_turns
from pipeline.runs.run import Run

__all__ = ["array", "batching", "calls", "frame", "standing"]

_HERE = Path(__file__).parent
_CHUNK = 1000
_ROWS_A_NAME = 3  # how many rows of the facts have the same key
_GROUPS = 100
_NAMES = 16  # partitions of the smaller table: so many that it is not sent whole to each of the other's
_AS_FAST = Aim(1.05, by="low")


@contextlib.contextmanager
def standing(sizes: Sizes) -> Iterator[tuple[str, Path]]:
    """Yield the address of a LocalCluster, and an empty folder."""
    with (
        tempfile.TemporaryDirectory(prefix="pipeline-bench-") as folder,
        LocalCluster(
            n_workers=sizes.n_workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
        ) as cluster,
    ):
        yield str(cluster.scheduler_address), Path(folder)


def _ran(file: str, address: str, folder: Path, params: Mapping[str, Any]) -> Run:
    """Do what ``pipeline run FILE --cluster ADDRESS`` does, without starting a process."""
    loaded = pipeline.load(_HERE / file, params=params)
    return loaded.run(cluster=address, out=folder / "out", runs=folder / "runs", force=True)


# ---------------------------------------------------------------------------------------------------------------------
# The cases
# ---------------------------------------------------------------------------------------------------------------------


def array(sizes: Sizes) -> Iterator[Row]:
    """Apply two functions to chunks in turn, then take a mean."""
    stop, half = sizes.n_tasks * _CHUNK, sizes.seconds / 2
    with standing(sizes) as (address, folder):

        def ours() -> Callable[[], Any]:
            run = _ran("array.yaml", address, folder, {"stop": stop, "chunk": _CHUNK, "half": half})
            return lambda: run["result"]

        def theirs() -> Callable[[], Any]:
            with Client(address):
                x = da.arange(stop, chunks=_CHUNK)
                once = x.map_blocks(work.add_one, seconds=half, dtype="int64", meta=np.empty(0, "int64"))
                twice = once.map_blocks(work.add_one, seconds=half, dtype="int64", meta=np.empty(0, "int64"))
                result = twice.mean().compute()
            np.save(folder / "result.npy", result)
            return lambda: result

        taken = take_turns({"ours": ours, "theirs": theirs}, sizes.pairs, warm_up=sizes.warm_up)
    yield ratios(f"array, {sizes.n_tasks} chunks", taken["ours"], taken["theirs"], _AS_FAST)


def frame(sizes: Sizes) -> Iterator[Row]:
    """Arithmetic, a filter, a shuffle join, a group-by."""
    with standing(sizes) as (address, folder):
        _write_tables(folder, sizes.n_partitions, sizes.n_rows)

        def ours() -> Callable[[], Any]:
            run = _ran("frame.yaml", address, folder, {"root": str(folder)})
            return lambda: _sorted(run["result"].compute())

        contenders: dict[str, Contender] = {
            "ours": ours,
            "tasks": partial(_frame_by_hand, address, folder, "tasks"),
            "p2p": partial(_frame_by_hand, address, folder, "p2p"),
        }
        taken = take_turns(contenders, sizes.pairs, warm_up=sizes.warm_up)
    yield ratios(f"frame, {sizes.n_partitions} partitions", taken["ours"], taken["tasks"], _AS_FAST)
    yield ratios("  Dask's P2P shuffle", taken["ours"], taken["p2p"], None)


def calls(sizes: Sizes) -> Iterator[Row]:
    """Call a function for each item, and another with all results."""
    n, seconds = sizes.n_tasks, sizes.seconds
    with standing(sizes) as (address, folder):

        def ours() -> Callable[[], Any]:
            run = _ran("calls.yaml", address, folder, {"n": n, "seconds": seconds})
            return lambda: run["result"]

        def theirs() -> Callable[[], Any]:
            with Client(address) as client:
                burnt = client.map(partial(work.burn, seconds=seconds), range(n), pure=False)
                result = client.submit(work.total, burnt, pure=False).result()
            (folder / "result.json").write_text(json.dumps(result))
            return lambda: result

        taken = take_turns({"ours": ours, "theirs": theirs}, sizes.pairs, warm_up=sizes.warm_up)
    yield ratios(f"{n} calls, dask", taken["ours"], taken["theirs"], _AS_FAST)


def batching(sizes: Sizes) -> Iterator[Row]:
    """Items of 1 ms: automatic batches compared with ``batch: 1``."""
    params = {"n": sizes.n_items, "seconds": 0.001}
    with standing(sizes) as (address, folder):

        def contender(file: str) -> Callable[[], Any]:
            run = _ran(file, address, folder, params)
            return lambda: list(run["burnt"].values())

        contenders = {"auto": partial(contender, "map.yaml"), "one": partial(contender, "unbatched.yaml")}
        taken = take_turns(contenders, sizes.few_pairs, warm_up=sizes.warm_up)
    yield ratios(f"{sizes.n_items:,} x 1 ms / batch: 1", taken["auto"], taken["one"], Aim(0.2))


# ---------------------------------------------------------------------------------------------------------------------
# The frame case
# ---------------------------------------------------------------------------------------------------------------------


def _write_tables(folder: Path, n_partitions: int, n_rows: int) -> None:
    rng = np.random.default_rng(1)
    n_keys = max(_NAMES, n_partitions * n_rows // _ROWS_A_NAME)
    for table in ("facts", "names"):
        (folder / table).mkdir()
    for i in range(n_partitions):
        facts = {
            "key": rng.integers(0, n_keys, n_rows),
            "amount": rng.random(n_rows) * 100,
            "rate": rng.random(n_rows),
        }
        pd.DataFrame(facts).to_parquet(folder / "facts" / f"{i:03}.parquet", row_group_size=n_rows)
    for i, keys in enumerate(np.array_split(np.arange(n_keys), _NAMES)):
        names = pd.DataFrame({"key": keys, "group": keys * 7919 % _GROUPS})
        names.to_parquet(folder / "names" / f"{i:03}.parquet", row_group_size=len(keys))


def _frame_by_hand(address: str, folder: Path, method: str) -> Callable[[], Any]:
    # dask would read several small files in one task, and so have fewer and longer ones than we
    with Client(address), dask.config.set({"dataframe.parquet.minimum-partition-size": 1}):
        facts, names = dd.read_parquet(folder / "facts"), dd.read_parquet(folder / "names")
        amount, rate = facts.amount, facts.rate
        price = np.log(1 + amount) * np.exp(0 - rate) + np.sin(amount) * np.cos(rate) + np.sqrt(amount)
        priced = facts.assign(price=price)
        chosen = priced[priced.rate < 0.2]
        joined = chosen.merge(names, on="key", how="inner", shuffle_method=method, broadcast=False)
        grouped = joined.groupby("group").agg(price=("price", "sum"), n=("price", "count"))
        result = grouped.reset_index().compute()
    result.to_parquet(folder / "result.parquet")
    return lambda: _sorted(result)


def _sorted(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    return frame.sort_values("group")[["group", "price", "n"]].to_numpy(dtype=float)
