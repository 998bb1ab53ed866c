"""A task saved with its real inputs: the serial run writes the file, the probes read it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cloudpickle

from pipeline.backends.local.serialization import Packed, load, pack
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, dependencies
from pipeline.worker.atomic_write import write_errors

__all__ = ["SavedInputs", "SavedTask"]


@dataclass(frozen=True)
class SavedTask:
    """One saved task.

    Parameters
    ----------
    key : as text
    step : the step's name in the file
    layer : the first part of the key
    path : file with its :class:`SavedInputs`
    nbytes : bytes of the inputs, pickled
    moved : the inputs that another segment makes, which a back end sends to a worker process
    used_elsewhere : whether another segment, or the caller, needs the result, so that it is sent back
    """

    key: str
    step: str
    layer: str
    path: str
    nbytes: int
    moved: tuple[Key, ...] = ()
    used_elsewhere: bool = False


@dataclass(frozen=True)
class SavedInputs:
    """Contents of the file of a saved task: its node, pickled, and all its inputs by key, each pickled by itself.

    ``writable``: whether it gets copies of arrays, instead of read-only views.
    """

    node: bytes
    inputs: Mapping[Key, Packed]
    writable: bool = False

    @classmethod
    def of(cls, node: GraphNode, values: Mapping[Key, Any], *, writable: bool = False) -> SavedInputs:
        """Pickle a node and the values that it needs. What pickling raises passes through."""
        return cls(cloudpickle.dumps(node), {key: pack(values[key]) for key in dependencies(node)}, writable)

    @property
    def nbytes(self) -> int:
        """Bytes of the pickled inputs."""
        return sum(packed.nbytes for packed in self.inputs.values())

    def task(self) -> tuple[GraphNode, dict[Key, Any]]:
        """Return the node and its inputs. Call it once: arrays share the memory of the pickles."""
        return pickle.loads(self.node), {key: load(packed) for key, packed in self.inputs.items()}

    def save(self, path: str) -> None:
        """Write a new file."""
        with write_errors(path), open(path, "wb") as file:
            pickle.dump(self, file, protocol=5)

    @classmethod
    def load(cls, path: str) -> SavedInputs:
        """Read what :meth:`save` wrote, in the scratch folder of this explanation."""
        with open(path, "rb") as file:
            found: SavedInputs = pickle.load(file)
        return found
