"""Step functions that scale badly for a known cause, and files that call them; the files ship this module."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import numpy as np

__all__ = ["FILES", "file"]


def count(i: int, n: int) -> int:
    """Count in pure Python: holds the GIL, shares nothing else."""
    total = 0
    for k in range(n):
        total += (k ^ i) & 7
    return total


def wait(i: int, seconds: float) -> int:
    """Sleep, as a task does that waits for I/O."""
    time.sleep(seconds)
    return i


def full(i: int, nbytes: int) -> np.ndarray:
    """Return an array that takes longer to move than to fill."""
    return np.full(nbytes // 8, float(i))


def lengths(values: list[Any]) -> int:
    """Return the total length of many values: much is moved here, little leaves."""
    return sum(len(value) for value in values)


def one_long(i: int, n: int, many: int) -> int:
    """Count; item 6 takes many times as long as the others."""
    return count(i, n * (many if i == 6 else 1))


def link(before: Any, n: int) -> int:
    """Run one link of a chain: it needs the result of the link before it."""
    return count(int(before) & 1, n)


def start() -> int:
    """Return the first value of a chain."""
    return 0


def product(i: int, size: int, repeats: int) -> float:
    """Multiply matrices in BLAS, with the threads that it is given."""
    a = np.ones((size, size))
    total = 0.0
    for _ in range(repeats):
        total += float((a @ a)[0, 0])
    return total


def nested(i: int, size: int, repeats: int) -> float:
    """Multiply matrices in four BLAS threads, whatever the worker was given."""
    import threadpoolctl

    with threadpoolctl.threadpool_limits(4):
        return product(i, size, repeats)


def field(i: int, nbytes: int) -> np.ndarray:
    """Return an array that does not fit into a cache."""
    return np.full(nbytes // 8, float(i))


def stream(part: np.ndarray, passes: int) -> float:
    """Read and write memory, and compute next to nothing."""
    out = np.empty_like(part)
    for k in range(passes):
        np.add(part, float(k), out=out)
    return float(out[0])


def fail(i: int) -> int:
    """Raise for item 2."""
    if i == 2:
        raise ValueError("not this one")
    return i


def note(i: int, folder: str) -> int:
    """Have an effect outside: write one file for each call."""
    import uuid
    from pathlib import Path

    Path(folder, uuid.uuid4().hex).touch()
    return i


def lock(i: int) -> Any:
    """Return a value that can't be sent to another process."""
    return threading.Lock()


def use(lock: Any) -> bool:
    """Use a value that can't be sent to another process."""
    with lock:
        return True


def fill(i: int) -> list[int]:
    """Return a list of one number."""
    return [i]


_left = list(range(100))  # of this process


def empty(items: list[int]) -> int:
    """Take the number from a list of this process, so that the task can't run twice there."""
    time.sleep(0.05)
    return _left.pop(_left.index(items[0]))


def die(i: int) -> int:
    """Kill the process for item 2."""
    if i == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return i


def process_id(seconds: float) -> int:
    """Return the id of the process after some time."""
    time.sleep(seconds)
    return os.getpid()


def pooled(i: int) -> int:
    """Start a pool of processes within the task."""
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(1) as pool:
        return sum(pool.map(abs, [i, i]))


def tell_and_wait(path: str) -> None:
    """Write the process id into a pipe and wait for ever."""
    from pathlib import Path

    Path(path).write_text(str(os.getpid()))
    threading.Event().wait()


FILES = {
    "gil": """
  step: {call: "slowly:count", over: {i: {range: 12}}, args: {n: 2000000}}
""",
    "waiting": """
  step: {call: "slowly:wait", over: {i: {range: 12}}, args: {seconds: 0.1}}
""",
    "transfer": """
  step: {call: "slowly:full", over: {i: {range: 12}}, args: {nbytes: 40000000}}
  size: {call: "slowly:lengths", input: step}
""",
    "long": """
  step: {call: "slowly:one_long", over: {i: {range: 8}}, args: {n: 100000, many: 60}}
""",
    "chain": """
  step: {call: "slowly:start"}
"""
    + "".join(
        f'  link{k}: {{call: "slowly:link", args: {{before: "${{{f"link{k - 1}" if k else "step"}}}", n: 1500000}}}}\n'
        for k in range(8)
    ),
    "blas": """
  step: {call: "slowly:product", over: {i: {range: 8}}, args: {size: 700, repeats: 8}}
""",
    "nested": """
  step: {call: "slowly:nested", over: {i: {range: 8}}, args: {size: 600, repeats: 4}}
""",
    "bandwidth": """
  part: {call: "slowly:field", over: {i: {range: 8}}, args: {nbytes: 128000000}}
  step: {call: "slowly:stream", over: {part: part}, args: {passes: 4}}
""",
    "tiny": """
  step: {call: "slowly:count", over: {i: {range: 2000}}, args: {n: 5}, batch: 1}
""",
}


def file(cause: str) -> str:
    """Return the text of a file whose step ``step`` has the cause."""
    return f"version: 1\nname: {cause}\nmodules: [./slowly.py]\nsteps:{FILES[cause]}"
