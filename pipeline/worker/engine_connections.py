"""Whether this process has made a connection of the database engine: a fork of it is not safe then.

The child of such a process crashes when it ends, or when it drops what it has inherited.
"""

from __future__ import annotations

import os

__all__ = ["has_connection", "note_connection"]

_connected: set[int] = set()  # process ids: a child that was forked before has none


def has_connection() -> bool:
    """Return whether a thread of this process has made a connection."""
    return os.getpid() in _connected


def note_connection() -> None:
    """Remember that a thread of this process makes one."""
    _connected.add(os.getpid())
