"""The overhead of ``pipeline run`` of a tiny file over a minimal script on a LocalCluster."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.pairs import Aim, Row, Sizes, differences, take_turns

__all__ = ["fixed"]

_HERE = Path(__file__).parent


def fixed(sizes: Sizes) -> Iterator[Row]:
    """Time whole processes, from start to end."""
    workers = str(sizes.n_workers)
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as folder:

        def ours() -> Callable[[], int]:
            command = ("run", str(_HERE / "tiny.yaml"), "--workers", workers, "--force")
            return _ended("-m", "pipeline", *command, cwd=folder)

        def theirs() -> Callable[[], int]:
            return _ended(str(_HERE / "minimal.py"), workers, cwd=folder)

        seconds = take_turns({"ours": ours, "theirs": theirs}, sizes.pairs, warm_up=sizes.warm_up)
    yield differences("run of a tiny file", seconds["ours"], seconds["theirs"], Aim(1.0))


def _ended(*arguments: str, cwd: str) -> Callable[[], int]:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return lambda: done.returncode
