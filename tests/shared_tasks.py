"""The tasks of test_shared_memory.py, apart from it: a worker imports this alone, not what the test imports."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

SHARED = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) .*/dev/shm/pipeline-shared-", re.MULTILINE)

kept: list[np.ndarray] = []  # by a worker, from task to task


def make_array(n: int) -> np.ndarray:
    return np.arange(n, dtype="f8")


def make_table(n: int) -> pa.Table:
    return pa.table({"a": np.arange(n), "b": pa.array(["x" * 20] * n)})


def make_frame(n: int) -> pd.DataFrame:
    return pd.DataFrame({"a": np.arange(n), "b": np.ones(n)})


def make_lists(n: int) -> dict[str, list[np.ndarray]]:
    return {"two": [np.zeros(n), np.ones(n)]}


def in_shared_memory(address: int) -> bool:
    """Whether an address of this process is in a file of ours."""
    ranges = SHARED.findall(Path("/proc/self/maps").read_text())
    return any(int(low, 16) <= address < int(high, 16) for low, high in ranges)


def about_array(x: np.ndarray) -> tuple[bool, bool, bool, float]:
    return in_shared_memory(x.ctypes.data), x.flags.writeable, x.flags.owndata, float(x[-1])


def about_table(table: pa.Table) -> tuple[bool, bool, int]:
    """Whether all columns are in shared memory, whether Arrow had to allocate them, and the number of rows."""
    buffers = [b for column in table.columns for chunk in column.chunks for b in chunk.buffers() if b is not None]
    large = [buffer.address for buffer in buffers if buffer.size > 65_536]
    return all(map(in_shared_memory, large)), pa.total_allocated_bytes() >= table.nbytes, table.num_rows


def about_frame(frame: pd.DataFrame) -> tuple[bool, int]:
    """Whether the columns are in shared memory, and the sum of one, which is changed first."""
    before = all(in_shared_memory(frame[name].to_numpy().ctypes.data) for name in frame)
    frame.loc[0, "a"] = 5  # pandas copies the column
    return before, int(frame["a"].sum())


def add_in_place(x: np.ndarray) -> float:
    x += 1.0
    return float(x[0])


def add_in_lists(lists: dict[str, list[np.ndarray]], x: int) -> float:
    """What is in lists and maps may be changed: nobody else sees it."""
    seen = float(sum(one.sum() for one in lists["two"]))
    lists["two"][0] += 1.0
    return seen


def keep(x: np.ndarray, *before: Any) -> list[float]:
    """The sums of what this worker has kept earlier."""
    found = [float(one.sum()) for one in kept]
    kept.append(x)
    return found


def files_left(*needed: Any) -> list[str]:
    """The files of values that are there while this runs: those of the back end that this worker belongs to."""
    family = {os.getppid()}
    with open(f"/proc/{os.getppid()}/stat") as stat:  # of a server of forks, its parent
        family.add(int(stat.read().rpartition(")")[2].split()[1]))
    files = [path for process in family for path in Path("/dev/shm").glob(f"pipeline-shared-{process}_*/*")]
    return sorted(file.name for file in files)


def folder_of(x: np.ndarray) -> str:
    """The folder of the file in which an array is."""
    found = re.search(r"(/dev/shm/pipeline-shared-\S+)/", Path("/proc/self/maps").read_text())
    assert found is not None
    return found[1]


def die_while_writing(x: np.ndarray, folder: str) -> str:
    """The first time, as if it were killed while it writes a value."""
    place = folder_of(x)
    if not os.listdir(folder):
        Path(folder, "tried").touch()
        Path(place, f"{os.getpid()}-12345").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return place


def hold(x: np.ndarray) -> None:
    os.write(1, b"holding\n")
    threading.Event().wait()


def touch_all(x: np.ndarray) -> float:
    return float(ctypes.c_double.from_address(x.ctypes.data + 8 * (x.size - 1)).value)
