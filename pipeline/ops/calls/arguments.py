"""What a task of a call or a command gets: values with slots in them, where the results of other tasks go.

A file that a command has left (:class:`~pipeline.graph.file_value.FileValue`) comes as the path of a local copy, which
is there as long as the task runs.
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
from pipeline.ops.elementwise.kinds import scalar
from pipeline.worker import temp_folders

__all__ = ["Arguments", "Folder", "Joined", "Slot", "filled", "filled_args", "label", "text_of"]


@dataclass(frozen=True)
class Slot:
    """Where the value with this number among a task's results goes."""

    number: int


@dataclass(frozen=True)
class Joined:
    """Text whose pieces are known only in the run."""

    pieces: tuple[Any, ...]


def label(value: Any) -> str | None:
    """The text of a scalar as it stands in an item's key; None for what is no scalar."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if value is None or isinstance(value, str | int | float) else None


class Folder:
    """A folder of one task, made when something is first put into it, and gone when the task has ended."""

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
        """Where it is."""
        if self._scratch is None:
            self._scratch = temp_folders.Folder()
        return self._scratch.path

    def new(self, name: str) -> str:
        """The path of a new folder below it."""
        self._n += 1
        path = os.path.join(self.path, f"{name}-{self._n}")
        os.mkdir(path)
        return path

    def local(self, value: Any) -> Any:
        """``value`` with paths in the place of files: of one, of those in a list or a map.

        The elements of a list are of one kind, those of a step: its first one tells whether there are files in it.
        """
        if not _holds_files(value):
            return value
        if isinstance(value, FileValue):
            path = os.path.join(self.new("file"), value.name)
            with open(path, "wb") as file:
                file.write(value.data)
            return path
        if isinstance(value, dict):
            return {name: self.local(one) for name, one in value.items()}
        return [self.local(one) for one in value]


def _holds_files(value: Any) -> bool:
    """Whether there are files in a value; asked of every argument of every task, so it looks at a list's first only."""
    if isinstance(value, list):
        return bool(value) and _holds_files(value[0])
    if type(value) is dict and "returncode" in value:  # all that a command left
        return any(isinstance(one, FileValue) for one in value.values())
    return isinstance(value, FileValue)


def filled(value: Any, item: Mapping[str, Any], values: Sequence[Any]) -> Any:
    """``value`` with what its slots, keys of the item and pieces of text stand for, at any depth."""
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


def filled_args(args: Mapping[str, Any], *values: Any) -> dict[str, Any]:
    """The keyword arguments of an op's function; all its tasks get the same.

    Raises
    ------
    DataError : if there is a file among them, which would have to be where each task runs
    """
    for value in values:
        if _holds_files(value):
            raise DataError("args: a file that a command has left has no place in an op's args; hand it to a call")
    return {name: filled(value, {}, values) for name, value in args.items()}


def text_of(value: Any) -> str:
    """What stands for ``${…}`` inside a text: a scalar, written as in YAML.

    Raises
    ------
    DataError : if it is none
    """
    try:
        one = scalar(value)
    except ValueError:
        one = None
    if value is None or one is None:
        raise DataError(f"got a {type(value).__name__} for ${{…}} inside a text; it must be a scalar")
    return label(one) or str(one)


class Arguments:
    """The results that a call's tasks get, each once, in the order of their slots."""

    def __init__(self, whole: Callable[[Reference], Key]) -> None:
        self._whole = whole
        self.keys: list[Key] = []

    def slot(self, reference: Reference) -> Slot:
        """The slot of the whole value that ``reference`` means."""
        key = self._whole(reference)
        if key not in self.keys:
            self.keys.append(key)
        return Slot(self.keys.index(key))

    def slotted(self, value: Any) -> Any:
        """``value`` with every reference in it replaced by its slot."""
        if isinstance(value, Reference):
            return self.slot(value)
        if isinstance(value, Template):
            return Joined(tuple(self.slotted(p) for p in value.pieces))
        if isinstance(value, Mapping):
            return {name: self.slotted(v) for name, v in value.items()}
        if isinstance(value, list | tuple):
            return tuple(self.slotted(v) for v in value)
        return value
