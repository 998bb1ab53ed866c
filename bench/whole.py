"""The ratio of a whole ``pipeline run`` of very many small tasks to the part in which its tasks run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from bench.pairs import Aim, Row, Sizes, ratios

__all__ = ["whole"]

_HERE = Path(__file__).parent


def whole(sizes: Sizes) -> Iterator[Row]:
    """Time a process on the serial back end from start to end; ``theirs`` is the ``elapsed`` of its run."""
    command = ["run", str(_HERE / "many.yaml"), "--backend", "serial", "--set", f"n={sizes.n_many}"]
    whole, inner = [], []
    for _ in range(sizes.few_pairs):
        with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as folder:
            began = perf_counter()
            subprocess.run([sys.executable, "-m", "pipeline", *command], cwd=folder, capture_output=True, check=True)
            whole.append(perf_counter() - began)
            (facts,) = Path(folder).glob("runs/*/*/run.json")
            inner.append(json.loads(facts.read_text())["elapsed"])
    aim = Aim(3.2) if sizes.n_many >= 100_000 else None  # of fewer tasks, most of the time is the start of Python
    yield ratios(f"{sizes.n_many:,} tasks, whole run", whole, inner, aim)
