"""What building a Graph has read of its input files."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Metadata"]


@dataclass(frozen=True)
class Metadata:
    """The metadata of input files that building a Graph needed: headers, footers, coordinates, first rows.

    Parameters
    ----------
    files : how many files they are of; a file counts again for each step that reads it
    read : how many of these were opened; metadata of the others were kept by an earlier build
    seconds : wall-clock time that it took
    """

    files: int = 0
    read: int = 0
    seconds: float = 0.0
