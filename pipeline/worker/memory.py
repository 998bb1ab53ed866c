"""The bytes that a value and this process take.

Both are measured after every task, so they must be cheap beside a task of 10 ms. Arrays, frames and texts are exact.
Of a list or dict up to eight elements are sampled, fewer of what is nested in them: about a hundred objects at most.
"""

# Rejected: Dask's ``sizeof``, which samples ten elements of every list in a list, at random; the length of the pickle,
# which is not made where a result stays in its process.

from __future__ import annotations

import os
import sys
from itertools import islice
from typing import Any

from dask.sizeof import sizeof

from pipeline.graph.importing import is_instance

__all__ = ["nbytes", "resident", "without_rest"]

_SAMPLES = (8, 3, 2, 1, 1)  # sampled elements of a container, by its depth of nesting
_MEMORY_EVERY = 20_000_000  # ns between two readings of the resident size, which cost as much as a small task
_SCALARS = frozenset({int, float, bool, complex, str, bytes, type(None)})


def nbytes(value: Any) -> int:
    """Return the bytes of a value, estimated from a sample where it is nested; 0 where that fails.

    >>> nbytes([bytes(1000)] * 100) > 100_000
    True
    """
    try:
        return _size(value, 0)
    except Exception:  # noqa: BLE001 - a user's object may raise anything, and its size is only reported
        return 0


def _size(value: Any, depth: int) -> int:
    """Return the bytes of a value at this depth of nesting."""
    if type(value) in _SCALARS:  # a container may have a million of them, and the checks below are slow
        return sys.getsizeof(value)
    if isinstance(value, (list, tuple, dict, set, frozenset)):
        return sys.getsizeof(value) + (_contents(value, depth) if depth < len(_SAMPLES) and value else 0)
    n = getattr(value, "nbytes", None)
    return n if type(n) is int else int(sizeof(value))


def _contents(value: Any, depth: int) -> int:
    """Return the bytes of the elements, from a sample: of a list in even steps, of a set or dict the first ones."""
    n = min(len(value), _SAMPLES[depth])
    if isinstance(value, (list, tuple)):
        sample = [value[i * len(value) // n] for i in range(n)]
    else:
        sample = list(islice(value, n))
    if isinstance(value, dict):
        sample += islice(value.values(), n)
    total = sum([sys.getsizeof(v) if type(v) in _SCALARS else _size(v, depth + 1) for v in sample])
    return total * len(value) // n


def without_rest(value: Any) -> Any:
    """Return a table without memory that its rows don't use; any other value as it is.

    A slice of a table is pickled with all that it was cut from, and keeps it in memory.
    """
    if not is_instance(value, "pyarrow", "Table"):
        return value
    used = value.nbytes
    if value.get_total_buffer_size() <= 2 * used + 65_536:
        return value
    import numpy as np  # both are loaded, since there is a table
    import pyarrow as pa

    return value.take(pa.array(np.arange(value.num_rows)))


_resident_seen: tuple[int, int] = (0, 0)  # when (ns), bytes


def resident(now: int) -> int:
    """Return the resident bytes of this process, at most 20 ms old at ``now`` (ns); 0 where they can't be read."""
    global _resident_seen
    when, size = _resident_seen
    if now - when > _MEMORY_EVERY or not when:
        try:
            with open("/proc/self/statm", "rb") as file:
                size = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        except OSError:
            size = 0
        _resident_seen = (now, size)
    return size
