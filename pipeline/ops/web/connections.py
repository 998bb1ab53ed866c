"""Connections of a worker, kept from one task to the next: each thread has its own.

In a worker process they are kept until it ends, the eight used last. In the user's own process they end with the work
that they were made for, so that no run leaves files or sockets open there.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

__all__ = ["connection"]

_MOST = 8  # in a worker process


class _Closes(Protocol):
    def close(self) -> None: ...


_T = TypeVar("_T", bound=_Closes)


class _Kept(threading.local):
    def __init__(self) -> None:
        self.by_key: OrderedDict[Hashable, Any] = OrderedDict()


_kept = _Kept()


def connection(work: object, key: Hashable, connect: Callable[[], _T]) -> _T:
    """Return this thread's connection for ``key``; make it if there is none.

    Parameters
    ----------
    work : what the tasks of a step share; in the user's process the connection is closed when nothing refers to it
    """
    lasting = multiprocessing.parent_process() is not None
    own = (os.getpid(), None if lasting else id(work), key)  # a forked process must not use those of its parent
    found: _T | None = _kept.by_key.get(own)
    if found is not None:
        _kept.by_key.move_to_end(own)
        return found
    made = connect()
    _kept.by_key[own] = made
    if lasting:
        while len(_kept.by_key) > _MOST:
            _close(_kept.by_key, next(iter(_kept.by_key)))
    else:
        weakref.finalize(work, _close, _kept.by_key, own)
    return made


def _close(by_key: OrderedDict[Hashable, Any], key: Any) -> None:
    found = by_key.pop(key, None)
    if found is not None and key[0] == os.getpid():
        found.close()
