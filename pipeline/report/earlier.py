"""What an earlier run of the same graph took, for the range of time that is told of the one that goes on."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.estimate import Earlier
from pipeline.trace import Trace

if TYPE_CHECKING:
    from pipeline.graph import Graph

__all__ = ["earlier_run"]

_LOOKED_AT = 20  # run folders, from the latest back


def earlier_run(runs: str | Path, graph: Graph) -> Earlier | None:
    """What the latest run of this very graph took whose trace is in a folder of ``runs``; None if there is none.

    A trace that can't be read is none: the range is not worth a run.
    """
    for path in islice(_traces(Path(runs, graph.name)), _LOOKED_AT):
        with suppress(OSError, ValueError, TypeError, pa.ArrowException):
            if _graph_of(path) == graph.fingerprint:
                return _taken(Trace.load(path), {copy: policy.step for copy, policy in graph.policies.items()})
    return None


def _traces(folder: Path) -> list[Path]:
    """The traces of the runs of a pipeline, the latest first."""
    return sorted(folder.glob("*/trace.parquet"), reverse=True)


def _graph_of(path: Path) -> str:
    """The fingerprint that stands in the head of a trace; empty where there is none, as in those of older versions."""
    head = json.loads((pq.read_schema(path).metadata or {}).get(b"pipeline", b"{}"))
    return str(head["notes"].get("graph", "")) if head else ""


def _taken(trace: Trace, steps: dict[str, str]) -> Earlier | None:
    sums: dict[str, list[float]] = {}
    for copy, start, stop in zip(*(trace.tasks[name].to_pylist() for name in ("step", "start", "stop")), strict=True):
        one = sums.setdefault(steps.get(copy, copy), [0.0, 0])
        one[0], one[1] = one[0] + (stop - start) / 1e9, one[1] + 1
    total = sum(seconds for seconds, _ in sums.values())
    if not total or not trace.elapsed:
        return None
    return Earlier({step: seconds / n for step, (seconds, n) in sums.items()}, total / trace.elapsed)
