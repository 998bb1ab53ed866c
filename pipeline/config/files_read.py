"""The files that are read while a Config is loaded: the file itself, included files, params files, ``${file:…}``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["note", "recorded"]

_FILES: ContextVar[dict[str, None] | None] = ContextVar("files_read", default=None)


@contextmanager
def recorded() -> Iterator[dict[str, None]]:
    """Collect the absolute paths of the files that are read inside the block, as keys in the order of reading."""
    files: dict[str, None] = {}
    token = _FILES.set(files)
    try:
        yield files
    finally:
        _FILES.reset(token)


def note(path: str) -> None:
    """Note that a file is read."""
    files = _FILES.get()
    if files is not None:
        files[os.path.abspath(path)] = None
