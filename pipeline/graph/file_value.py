"""A file as the value of a task: the bytes that a command wrote, sent to the worker that needs them.

A path would only be valid on one machine, and only while the folder of the task exists.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DataError

__all__ = ["LARGEST_FILE", "FileValue"]

LARGEST_FILE = 100_000_000
"""Bytes of the largest file that is sent from task to task."""


@dataclass(frozen=True)
class FileValue:
    """A file: the last part of its path, and all its bytes. Two are equal if their bytes are.

    Raises
    ------
    DataError : if it has more than 100 MB
    """

    name: str = field(compare=False)
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_size(self.name, len(self.data))

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + len(self.data)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> FileValue:
        """Read the file at ``path``; its size is checked first."""
        _check_size(os.fspath(path), os.path.getsize(path))
        return cls(os.path.basename(os.fspath(path)), Path(path).read_bytes())


def _check_size(name: str, n: int) -> None:
    if n > LARGEST_FILE:
        raise DataError(
            f"{name!r} has {n:,} bytes; a file that goes from task to task has at most {LARGEST_FILE:,}: write it to "
            "a folder that all workers share, and return its path"
        )
