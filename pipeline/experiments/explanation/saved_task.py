"""A task kept with the inputs that it had, in a file: written by the serial run, read by the probes."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.backends.local.serialization import Packed
from pipeline.graph.graph import Key

__all__ = ["Content", "SavedTask"]


@dataclass(frozen=True)
class SavedTask:
    """Which task lies in a file.

    Parameters
    ----------
    key : as text
    step, layer : the step's name in the file, the first part of the key
    nbytes : of the inputs, pickled
    """

    key: str
    step: str
    layer: str
    path: str
    nbytes: int


@dataclass(frozen=True)
class Content:
    """What the file of a kept task holds. Its parts stay pickled until a probe needs them.

    Parameters
    ----------
    node : the pickled node
    inputs : by key, all that it needs
    moved : the keys of the inputs that come from another segment: those a worker process is sent
    gives : the result is needed elsewhere
    """

    node: bytes
    inputs: Mapping[Key, Packed]
    moved: tuple[Key, ...]
    gives: bool

    def save(self, path: str) -> None:
        """Write it to a new file."""
        with open(path, "wb") as file:
            pickle.dump(self, file, protocol=5)

    @classmethod
    def load(cls, path: str) -> Content:
        """Read what :meth:`save` wrote, in this explanation's own scratch folder."""
        with open(path, "rb") as file:
            found: Content = pickle.load(file)
        return found
