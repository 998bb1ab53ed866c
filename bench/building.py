"""Building the Graph of a file with many ``over`` items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pipeline
from bench.pairs import Aim, Row, Sizes, measured, take_turns

__all__ = ["building"]

FILE = Path(__file__).with_name("building.yaml")


def building(sizes: Sizes) -> Iterator[Row]:
    """Yield seconds of ``pipeline.build``, including loading the file; the limits are absolute."""
    for n, limit in sizes.build:
        seconds = take_turns({"ours": lambda n=n: _built(n)}, sizes.few_pairs, warm_up=sizes.warm_up)
        yield measured(f"build {n:,} items", seconds["ours"], Aim(limit))


def _built(n: int) -> Callable[[], int]:
    graph = pipeline.build(pipeline.load(FILE, params={"n": n}))
    return lambda: len(graph)
