"""The arguments of the tasks of calls and commands, with slots for the results of other tasks.

A file that a command wrote (:class:`~pipeline.graph.file_value.FileValue`) is passed as the path of a local copy, which
exists while the task runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pipeline.config.model import ItemKey, Reference, Template
from pipeline.errors import DataError
from pipeline.graph.file_value import FileValue
from pipeline.graph.graph import Key
from pipeline.ops.elementwise.scalars import as_scalar
from pipeline.worker import temp_folders
from pipeline.worker.atomic_write import write_errors
from pipeline.worker.isolation import Keywords

__all__ = ["Arguments", "Folder", "Joined", "Slot", "filled", "filled_args", "label", "text_of"]


@dataclass(frozen=True)
class Slot:
    """The place of the result with this number among those that a task gets."""

    number: int


@dataclass(frozen=True)
class Joined:
    """Text with pieces that are unknown until run time."""

    pieces: tuple[Any, ...]


def label(value: Any) -> str | None:
    """Return a scalar as it is written in an item's key; None if the value is not a scalar."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if value is None or isinstance(value, str | int | float) else None


class Folder:
    """A folder of one task, created when it is first used and deleted when the task ends."""

    def __init__(self) -> None:
        self._scratch: temp_folders.Folder | None = None
        self._n = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._scratch is not None:
            self._scratch.close()

    @property
    def path(self) -> str:
        """Its path; creates it."""
        if self._scratch is None:
            self._scratch = temp_folders.Folder()
        return self._scratch.path

    def new(self, name: str) -> str:
        """Create a folder below it and return its path."""
        self._n += 1
        path = os.path.join(self.path, f"{name}-{self._n}")
        os.mkdir(path)
        return path

    def local(self, value: Any) -> Any:
        """Return ``value`` with its files written here and replaced by their paths: one, or those in a list or map.

        The elements of a list are of one kind, so the first one shows whether there are files in it.
        """
        if not _holds_files(value):
            return value
        if isinstance(value, FileValue):
            path = os.path.join(self.new("file"), value.name)
            with write_errors(path), open(path, "wb") as file:
                file.write(value.data)
            return path
        if isinstance(value, dict):
            return {name: self.local(one) for name, one in value.items()}
        return [self.local(one) for one in value]


def _holds_files(value: Any) -> bool:
    """Return whether there are files in a value; of a list only the first is looked at, since every task does this."""
    if isinstance(value, list):
        return bool(value) and _holds_files(value[0])
    if type(value) is dict and "returncode" in value:  # all results of a command
        return any(isinstance(one, FileValue) for one in value.values())
    return isinstance(value, FileValue)


def filled(value: Any, item: Mapping[str, Any], values: Sequence[Any]) -> Any:
    """Return ``value`` with its slots, item keys and text pieces replaced by their values, at any depth."""
    if isinstance(value, Slot):
        return values[value.number]
    if isinstance(value, ItemKey):
        found: Any = item[value.name]
        for name in value.path:
            found = found[name]
        return found
    if isinstance(value, Joined):
        return "".join(p if isinstance(p, str) else text_of(filled(p, item, values)) for p in value.pieces)
    if isinstance(value, Mapping):
        return {name: filled(v, item, values) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [filled(v, item, values) for v in value]
    return value


def filled_args(args: Mapping[str, Any], *values: Any) -> Keywords:
    """Return the keyword arguments of an op's function, the same for all its tasks.

    Raises
    ------
    DataError : if there is a file among them: it would have to be on the machine of each task
    """
    for value in values:
        if _holds_files(value):
            raise DataError("args: an op can't take a file that a command wrote; pass it to a call")
    return Keywords({name: filled(value, {}, values) for name, value in args.items()})


def text_of(value: Any) -> str:
    """Return the text that replaces ``${…}`` inside a text: a scalar, written as in YAML.

    Raises
    ------
    DataError : if the value is not a scalar
    """
    try:
        one = as_scalar(value)
    except ValueError:
        one = None
    if value is None or one is None:
        raise DataError(f"got a {type(value).__name__} for ${{…}} inside a text; it must be a scalar")
    return label(one) or str(one)


class Arguments:
    """Collects the results that the tasks of a call get, each once, in the order of their slots."""

    def __init__(self, whole: Callable[[Reference], Key]) -> None:
        self._whole = whole
        self.keys: list[Key] = []

    def slot(self, reference: Reference) -> Slot:
        """Return the slot of the whole value of a reference."""
        key = self._whole(reference)
        if key not in self.keys:
            self.keys.append(key)
        return Slot(self.keys.index(key))

    def slotted(self, value: Any) -> Any:
        """Return ``value`` with every reference in it replaced by its slot."""
        if isinstance(value, Reference):
            return self.slot(value)
        if isinstance(value, Template):
            return Joined(tuple(self.slotted(p) for p in value.pieces))
        if isinstance(value, Mapping):
            return {name: self.slotted(v) for name, v in value.items()}
        if isinstance(value, list | tuple):
            return tuple(self.slotted(v) for v in value)
        return value
