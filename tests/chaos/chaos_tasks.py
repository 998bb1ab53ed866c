"""What the pipelines call: a user's module, copied beside their files and sent to the workers.

Where CHAOS_EVENTS names a file, each task that begins writes a line to it, and takes a while. Without it, as in the run
whose outputs are the right ones, tasks return at once.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def began(what: str) -> bool:
    """Whether this run is watched; then say that a task began, and work for a while, holding the GIL for a part."""
    path = os.environ.get("CHAOS_EVENTS")
    if not path:
        return False
    note(f"task {os.getpid()} {what}")
    time.sleep(0.06)
    stop = time.perf_counter() + 0.03
    while time.perf_counter() < stop:
        pass
    return True


def note(line: str) -> None:
    with open(os.environ["CHAOS_EVENTS"], "a") as file:
        file.write(f"{line}\n")


def block(x: np.ndarray) -> np.ndarray:
    began("block")
    return np.sqrt(x * x + 1)


def rows(partition: int, n_partitions: int) -> pd.DataFrame:
    began("rows")
    k = np.arange(400, dtype="int64") + 400 * partition
    return pd.DataFrame({"k": k % 7, "v": k / 8})


def fit(k: int, edition: int) -> dict[str, Any]:
    """The first time, in a run that is watched, item 3 fails."""
    if began("fit") and k == 3:
        tried = Path(os.environ["CHAOS_EVENTS"] + ".tried")
        if not tried.exists():
            tried.touch()
            raise OSError("not now")
    return {"rmse": edition / (k + 1), "curve": np.arange(50.0) * k * edition}


def half(x: float) -> float:
    began("half")
    return x / 2


def leave_children(k: int, edition: int) -> float:
    """Leave a program and a forked process behind, which must not outlive the run."""
    if began("leave_children"):
        if k == 2:
            note(f"child {subprocess.Popen(['sleep', '600']).pid}")
        if k == 4:
            child = os.fork()
            if child == 0:
                time.sleep(600)
                os._exit(0)
            note(f"child {child}")
    return k * edition / 4
