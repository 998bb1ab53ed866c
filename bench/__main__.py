"""``python -m bench [--only NAME]... [--pairs N] [--quick]``: run the cases and print the table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter

from bench import (
    accounting,
    building,
    cluster,
    counts,
    fixed,
    loading,
    local,
    metadata,
    row_ops,
    tpch,
    training,
    transport,
    whole,
)
from bench.pairs import Row, Sizes, Skipped
from pipeline.trace.statistics import Interval

__all__ = ["CASES", "main"]

CASES: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "building": building.building,
    "metadata": metadata.metadata,
    "counts": counts.counts,
    "array": cluster.array,
    "frame": cluster.frame,
    "rows": row_ops.row_ops,
    "tpch": tpch.tpch,
    "memory": tpch.memory,
    "calls": cluster.calls,
    "processes": local.processes,
    "pool": local.pool,
    "transport": transport.transport,
    "fixed": fixed.fixed,
    "batching": cluster.batching,
    "whole": whole.whole,
    "training": training.training,
    "blas": training.blas_threads,
    "loading": loading.loading,
    "accounting": accounting.accounting,
}

_WORKERS = max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
FULL = Sizes(
    pairs=7,
    few_pairs=3,
    n_workers=_WORKERS,
    n_tasks=48 * _WORKERS,
    seconds=0.1,
    n_partitions=min(32, 16 * _WORKERS),  # from 33 on, Dask shuffles by tasks in two stages
    n_rows=1_000_000,
    n_items=10_000,
    n_many=100_000,
    build=((10_000, 1.0), (100_000, 10.0)),
)
QUICK = replace(
    FULL,
    pairs=3,
    n_tasks=12 * _WORKERS,
    n_partitions=4 * _WORKERS,
    n_items=1_000,
    n_many=10_000,
    build=((10_000, 1.0),),
    n_small=100,
    tpch=0.1,
    accounted=("climate",),
)

_HEAD = ("case", "ours", "theirs", "ratio or difference", "aim", "")
_LINE = "{:<26}{:>8}{:>9}{:>22}{:>10}{:>5}"  # 80 columns


def main(argv: Sequence[str] | None = None) -> int:
    """Run the selected cases; return 1 if an aim is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast Pipeline is; see bench/README.md.")
    parser.add_argument("--only", action="append", choices=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--pairs", type=int, metavar="N", help="rounds of each case [7; of the long ones 3]")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer: to see that it works, not how fast")
    options = parser.parse_args(argv)
    sizes = QUICK if options.quick else FULL
    if options.pairs:
        sizes = replace(sizes, pairs=options.pairs, few_pairs=min(options.pairs, sizes.few_pairs))
    began = perf_counter()
    print(_LINE.format(*_HEAD).rstrip(), flush=True)
    print("-" * 80, flush=True)
    missed = 0
    for name in options.only or CASES:
        try:
            for row in CASES[name](sizes):
                missed += row.aim is not None and not row.aim.met(row.figure)
                print(line(row), flush=True)
        except Skipped as reason:
            print(f"{name}: skipped, {reason}", flush=True)
    print(f"\n{sizes.n_workers} workers, {sizes.pairs} pairs, {perf_counter() - began:.0f} s in all; ", end="")
    print("all aims met" if not missed else f"{missed} missed")
    return 1 if missed else 0


def line(row: Row) -> str:
    """Return a row of the table, at most 80 columns wide."""
    aim = verdict = ""
    if row.aim is not None:
        aim = f"<= {row.aim.at_most:g}{row.unit and ' ' + row.unit}"
        verdict = "met" if row.aim.met(row.figure) else "MISS"
    return _LINE.format(row.case, row.ours, row.theirs, _figure(row.figure, row.unit), aim, verdict).rstrip()


def _figure(figure: Interval, unit: str) -> str:
    text = f"{figure.value:.2f}"
    if figure.known and figure.low < figure.high:
        text += f" [{figure.low:.2f}, {figure.high:.2f}]"
    return f"{text} {unit}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
