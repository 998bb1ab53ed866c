"""A file as a value: what a task left in its folder, carried as bytes to whichever worker needs it.

A path would mean something on one machine only, and only as long as the task's folder is there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DataError

__all__ = ["LARGEST_FILE", "FileValue"]

LARGEST_FILE = 100_000_000
"""Bytes of the largest file that is carried from task to task."""


@dataclass(frozen=True)
class FileValue:
    """One file: the last part of its path, and all its bytes. Two are equal where their bytes are.

    Raises
    ------
    DataError : if it has more than 100 MB
    """

    name: str = field(compare=False)
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _admit(self.name, len(self.data))

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + len(self.data)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> FileValue:
        """The file at ``path``, read after a look at its size."""
        _admit(os.fspath(path), os.path.getsize(path))
        return cls(os.path.basename(os.fspath(path)), Path(path).read_bytes())


def _admit(name: str, n: int) -> None:
    if n > LARGEST_FILE:
        raise DataError(
            f"{name!r} has {n:,} bytes; a file that goes from task to task has at most {LARGEST_FILE:,}: write it to "
            "where all workers see it, and give its path"
        )
