"""The unexplained part of core-seconds, and the cost of measuring."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pipeline
from bench.pairs import Aim, Row, Sizes
from pipeline.backends.trace_records import measuring_cost
from pipeline.trace.statistics import median_interval

__all__ = ["accounting"]

_CONFIGS = Path(__file__).parents[1] / "configs"
_TASK = 0.01  # seconds: of a task from which the stricter aims hold
_ANYWHERE, _LONG_TASKS, _MEASURING = Aim(5.0), Aim(2.0), Aim(1.0)  # per cent


def accounting(sizes: Sizes) -> Iterator[Row]:
    """Yield the cost of measuring as a percentage of a 10 ms task, and the percentage of unexplained core-seconds."""
    costs = [100 * measuring_cost() / _TASK for _ in range(max(3, sizes.pairs))]
    each = median_interval(costs)
    yield Row("measuring 10 ms tasks", f"{each.value / 100 * _TASK * 1e6:.1f} us", "10 ms", each, "%", _MEASURING)
    for name in sizes.accounted:
        with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as folder:
            p = pipeline.load(_CONFIGS / f"{name}.yaml", params=_params(name))
            result = p.compare(repeat=sizes.few_pairs, workers=sizes.n_workers, runs=folder)
        for account in result.accounts:
            if not account.every:
                continue
            figure = median_interval([100 * each.share("unexplained") for each in account.every])
            mean = sum(times.seconds for times in account.by_step.values()) / max(1, account.n_segments)
            aim = _LONG_TASKS if mean >= _TASK else _ANYWHERE
            yield Row(f"{name}, {account.runs.label}"[:26], f"{mean * 1e3:.1f} ms", "", figure, "%", aim)


def _params(name: str) -> dict[str, object]:
    """Return the params of a file; climate uses the real files if they are available."""
    shared = os.environ.get("PIPELINE_DATA")
    if name != "climate" or not shared:
        return {}
    return {"root": f"{shared}/climate", "expected": {"A1B": 4.853, "E1": 2.373}}
