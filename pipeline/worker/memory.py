"""Memory that a value and this process take: asked after every task, so it must cost little of a task of 10 ms.

An array, a frame or a text says what it takes, exactly. A list or a dict stands on a few of its elements, all of them
where it has no more than eight, and what is nested in them on fewer: about a hundred objects at most, however deep and
long it is. Rejected: Dask's ``sizeof``, which looks at ten elements of every list in a list, chosen by chance; the
length of the pickle, which is not made where a result stays in its process.
"""

from __future__ import annotations

import os
import sys
from itertools import islice
from typing import Any

from dask.sizeof import sizeof

__all__ = ["nbytes", "resident"]

_SAMPLES = (8, 3, 2, 1, 1)  # elements of a container that are looked at, by how deep it is nested
_MEMORY_EVERY = 20_000_000  # ns between two looks at the resident size, which cost as much as a small task
_SCALARS = frozenset({int, float, bool, complex, str, bytes, type(None)})


def nbytes(value: Any) -> int:
    """Bytes of a value, of a nested one by a sample of what is in it; 0 where it can't say.

    >>> nbytes([bytes(1000)] * 100) > 100_000
    True
    """
    try:
        return _size(value, 0)
    except Exception:  # noqa: BLE001 - a user's object may break in any way, and its size is only told, never used
        return 0


def _size(value: Any, depth: int) -> int:
    """Bytes of a value that is nested so deep."""
    if type(value) in _SCALARS:  # of which there may be a million, and looking up how to ask takes longer than the task
        return sys.getsizeof(value)
    if isinstance(value, (list, tuple, dict, set, frozenset)):
        return sys.getsizeof(value) + (_contents(value, depth) if depth < len(_SAMPLES) and value else 0)
    n = getattr(value, "nbytes", None)
    return n if type(n) is int else int(sizeof(value))


def _contents(value: Any, depth: int) -> int:
    """Bytes of the elements of a container, of a list in even steps, of what has no order the first."""
    n = min(len(value), _SAMPLES[depth])
    if isinstance(value, (list, tuple)):
        some = [value[i * len(value) // n] for i in range(n)]
    else:
        some = list(islice(value, n))
    if isinstance(value, dict):
        some += islice(value.values(), n)
    total = sum([sys.getsizeof(one) if type(one) in _SCALARS else _size(one, depth + 1) for one in some])
    return total * len(value) // n


_resident_seen: tuple[int, int] = (0, 0)  # when (ns), bytes


def resident(now: int) -> int:
    """Resident bytes of this process, at most 20 ms old at ``now`` (ns); 0 where the system doesn't say."""
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
