"""The back ends ``processes`` and ``pool``, compared with ``multiprocessing.Pool.map`` written by hand."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pipeline
from bench import work
from bench.pairs import Aim, Row, Sizes, ratios, take_turns
from pipeline.backends import registry
from pipeline.graph.graph import Graph

__all__ = ["pool", "processes"]

FILE = Path(__file__).with_name("map.yaml")


def processes(sizes: Sizes) -> Iterator[Row]:
    """Time runs of a built Graph, with warm workers on both sides."""
    yield _against_pool("processes", sizes)


def pool(sizes: Sizes) -> Iterator[Row]:
    """Do the same as :func:`processes` on the back end ``pool``."""
    yield _against_pool("pool", sizes)


def _against_pool(name: str, sizes: Sizes) -> Row:
    n, seconds = sizes.n_tasks, sizes.seconds
    graph = pipeline.build(pipeline.load(FILE, params={"n": n, "seconds": seconds}))
    by_hand = multiprocessing.get_context("spawn").Pool(sizes.n_workers)
    try:
        with registry.create(name, workers=sizes.n_workers) as opened:

            def ours() -> Callable[[], Any]:
                outcome = opened.run(graph)
                return lambda: _numbers(graph, outcome.results)

            def theirs() -> Callable[[], Any]:
                numbers = by_hand.map(partial(work.burn, seconds=seconds), range(n))
                return lambda: numbers

            taken = take_turns({"ours": ours, "theirs": theirs}, sizes.pairs, warm_up=sizes.warm_up)
    finally:
        by_hand.terminate()
        by_hand.join()
    return ratios(f"{n} calls, {name}", taken["ours"], taken["theirs"], Aim(1.05, by="low"))


def _numbers(graph: Graph, results: Any) -> list[int]:
    return [results[key] for key in graph.value_types["burnt"].keys]
