"""Step functions whose cause is known by construction, and files that call them; the files ship this module."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import numpy as np

__all__ = ["FILES", "file"]


def count(i: int, n: int) -> int:
    """Pure Python: holds the GIL, shares nothing else."""
    total = 0
    for k in range(n):
        total += (k ^ i) & 7
    return total


def wait(i: int, seconds: float) -> int:
    """I/O that sleeps."""
    time.sleep(seconds)
    return i


def full(i: int, nbytes: int) -> np.ndarray:
    """A result of one block of bytes, that takes longer to move than to fill."""
    return np.full(nbytes // 8, float(i))


def lengths(values: list[Any]) -> int:
    """Needs all of them, and gives little."""
    return sum(len(value) for value in values)


def one_long(i: int, n: int, many: int) -> int:
    """The last but one of them takes many times as long as the others."""
    return count(i, n * (many if i == 6 else 1))


def link(before: Any, n: int) -> int:
    """A task that needs the one before it."""
    return count(int(before) & 1, n)


def start() -> int:
    """What a chain begins with."""
    return 0


def product(i: int, size: int, repeats: int) -> float:
    """A product of matrices: BLAS, with the threads that it is given."""
    a = np.ones((size, size))
    total = 0.0
    for _ in range(repeats):
        total += float((a @ a)[0, 0])
    return total


def nested(i: int, size: int, repeats: int) -> float:
    """Products of matrices in BLAS threads of its own, whatever the worker was given."""
    import threadpoolctl

    with threadpoolctl.threadpool_limits(4):
        return product(i, size, repeats)


def field(i: int, nbytes: int) -> np.ndarray:
    """Part of an array that fits no cache."""
    return np.full(nbytes // 8, float(i))


def stream(part: np.ndarray, passes: int) -> float:
    """Reads and writes memory, and computes next to nothing."""
    out = np.empty_like(part)
    for k in range(passes):
        np.add(part, float(k), out=out)
    return float(out[0])


def fail(i: int) -> int:
    """A task that raises."""
    if i == 2:
        raise ValueError("not this one")
    return i


def note(i: int, folder: str) -> int:
    """An effect outside: one file a call."""
    import uuid
    from pathlib import Path

    Path(folder, uuid.uuid4().hex).touch()
    return i


def lock(i: int) -> Any:
    """A value that no process can hand to another."""
    return threading.Lock()


def use(lock: Any) -> bool:
    """Needs such a value."""
    with lock:
        return True


def fill(i: int) -> list[int]:
    """A list of one number."""
    return [i]


def empty(items: list[int]) -> int:
    """Changes its input, so it can't be run twice on it."""
    time.sleep(0.05)
    return items.pop()


def die(i: int) -> int:
    """A task that ends its process."""
    if i == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return i


def process_id(seconds: float) -> int:
    """Which process it ran in."""
    time.sleep(seconds)
    return os.getpid()


def pooled(i: int) -> int:
    """A task that has processes of its own."""
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(1) as pool:
        return sum(pool.map(abs, [i, i]))


def tell_and_wait(path: str) -> None:
    """Writes its process id into a pipe, and never comes back."""
    from pathlib import Path

    Path(path).write_text(str(os.getpid()))
    threading.Event().wait()


FILES = {
    "gil": """
  step: {call: "causes:count", over: {i: {range: 12}}, args: {n: 2000000}}
""",
    "waiting": """
  step: {call: "causes:wait", over: {i: {range: 12}}, args: {seconds: 0.1}}
""",
    "transfer": """
  step: {call: "causes:full", over: {i: {range: 12}}, args: {nbytes: 40000000}}
  size: {call: "causes:lengths", input: step}
""",
    "long": """
  step: {call: "causes:one_long", over: {i: {range: 8}}, args: {n: 100000, many: 60}}
""",
    "chain": """
  step: {call: "causes:start"}
"""
    + "".join(
        f'  link{k}: {{call: "causes:link", args: {{before: "${{{f"link{k - 1}" if k else "step"}}}", n: 1500000}}}}\n'
        for k in range(8)
    ),
    "blas": """
  step: {call: "causes:product", over: {i: {range: 8}}, args: {size: 700, repeats: 8}}
""",
    "nested": """
  step: {call: "causes:nested", over: {i: {range: 8}}, args: {size: 600, repeats: 4}}
""",
    "bandwidth": """
  part: {call: "causes:field", over: {i: {range: 8}}, args: {nbytes: 128000000}}
  step: {call: "causes:stream", over: {part: part}, args: {passes: 4}}
""",
    "tiny": """
  step: {call: "causes:count", over: {i: {range: 2000}}, args: {n: 5}, batch: 1}
""",
}


def file(cause: str) -> str:
    """The text of a file whose step ``step`` has the cause."""
    return f"version: 1\nname: {cause}\nmodules: [./causes.py]\nsteps:{FILES[cause]}"
