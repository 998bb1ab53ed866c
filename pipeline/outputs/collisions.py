"""Whether an output path is, contains or is inside a file or folder that the run reads.

Paths are compared by device and inode, so that links, hard links, ``..``, trailing slashes and, on a file system that
ignores case, other spellings of a name make no difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Input", "Inputs", "absolute", "folders_above"]

_Identity = tuple[int, int]


@dataclass(frozen=True)
class Input:
    """A file or folder that a run reads: its path, and what reads it, as messages name it."""

    path: str
    reader: str


class Inputs:
    """The files and folders that a run reads, to compare output paths with.

    The state of the file system is read once for each folder: make a new object for each comparison.
    """

    def __init__(self, inputs: Iterable[Input]) -> None:
        self._above: dict[str, frozenset[_Identity]] = {}
        self._own: dict[_Identity, Input] = {}
        self._inside: dict[_Identity, Input] = {}  # folder -> an input in it
        for found in inputs:
            path = absolute(found.path)
            own = _identity(path)
            if own is not None:
                self._own.setdefault(own, found)
            for folder in self._folders(path):
                self._inside.setdefault(folder, found)

    def collision(self, target: str) -> tuple[str, Input] | None:
        """Return how a target and an input collide ("is", "contains", "is inside"), and the input; else None."""
        path = absolute(target)
        own = _identity(path)
        if own is not None and own in self._own:
            return "is", self._own[own]
        if own is not None and own in self._inside:
            return "contains", self._inside[own]
        for folder in self._folders(path):
            if folder in self._own:
                return "is inside", self._own[folder]
        return None

    def _folders(self, path: str) -> frozenset[_Identity]:
        """Return the folders that a path is in, as it is written and with its links resolved."""
        found = self._folder_and_above(os.path.dirname(path))
        if os.path.islink(path):
            found |= self._folder_and_above(os.path.dirname(os.path.realpath(path)))
        return found

    def _folder_and_above(self, folder: str) -> frozenset[_Identity]:
        found = self._above.get(folder)
        if found is None:
            own, parent = _identity(folder), os.path.dirname(folder)
            found = frozenset([own] if own is not None else ())
            if parent != folder:
                found |= self._folder_and_above(parent)
            real = os.path.realpath(folder)
            if real != folder:
                found |= self._folder_and_above(real)
            self._above[folder] = found
        return found


def absolute(path: str) -> str:
    """Return an absolute path without ``..``; links that come before a ``..`` are resolved, as the system does it."""
    path = os.path.join(os.getcwd(), path)
    head, up, rest = path.rpartition("/../")
    if up:
        return os.path.normpath(os.path.join(os.path.realpath(f"{head}/.."), rest))
    return os.path.realpath(path) if path.endswith("/..") else os.path.normpath(path)


def folders_above(path: str) -> Iterable[tuple[str, str]]:
    """Yield each folder above a path and the rest of the path below it, as written and with its links resolved."""
    for whole in dict.fromkeys((absolute(path), os.path.realpath(path))):
        folder, rest = os.path.split(whole)
        yield folder, rest
        while folder != os.path.dirname(folder):
            folder, name = os.path.split(folder)
            rest = f"{name}/{rest}"
            yield folder, rest


def _identity(path: str) -> _Identity | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
