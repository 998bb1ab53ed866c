"""The items of tests/graph/test_batches.py: each does what its plan says, and notes that it was run."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path


def act(plan: str, n: int, folder: str) -> int:
    """Do the next step of the plan: ``f`` fails, ``h`` hangs, ``s`` is slow, ``k`` kills the worker, else it is done.

    Each run is noted first by a file of the folder.
    """
    tries = sum(name.startswith(f"{n}-") for name in os.listdir(folder))
    Path(folder, f"{n}-{tries}").touch()
    match plan[tries] if tries < len(plan) else ".":
        case "f":
            raise ValueError(f"item {n} fails, try {tries}")
        case "h":
            threading.Event().wait()
        case "s":
            time.sleep(0.6)
        case "k":
            os._exit(3)
    return n * 10


def count(n: int) -> int:
    return n
