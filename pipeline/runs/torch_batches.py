"""Batches as a dataset of PyTorch, which need not be installed, and the epochs that its workers agree on."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Generator, Iterator
from typing import Any, Protocol

from pipeline.errors import ConfigError, DataError

__all__ = ["SharedEpochs", "dataset"]

_LOADERS = 64  # iterations of DataLoaders that are remembered


class Epochs(Protocol):
    """What is needed of :class:`pipeline.runs.batches.Batches`."""

    def __iter__(self) -> Generator[Any]: ...

    def of_epoch(self, epoch: int, *, first: int, every: int, inline: bool) -> Generator[Any]: ...


class SharedEpochs:
    """The number of the next epoch, shared with the worker processes of DataLoaders.

    A DataLoader makes an iterator in each of its workers, and none here; those of one iteration have a seed in common.

    Parameters
    ----------
    first : number of the next epoch
    """

    def __init__(self, first: int) -> None:
        context = multiprocessing.get_context("spawn")  # forked workers can use what it makes, too
        self._state = context.Array("q", [first, 0, *[0, 0] * _LOADERS])  # next, iterations, (seed, epoch) each

    @property
    def following(self) -> int:
        return int(self._state[0])

    @following.setter
    def following(self, number: int) -> None:
        self._state[0] = number

    def of(self, seed: int, before: int) -> int:
        """Return the epoch of a worker's iterator.

        Parameters
        ----------
        seed : that the workers of one DataLoader have in common
        before : iterators that this worker has made already, with the same seed
        """
        state = self._state
        with state.get_lock():
            known = {state[2 + 2 * i]: state[3 + 2 * i] for i in range(min(state[1], _LOADERS))}
            if seed not in known:
                known[seed] = state[0]
                place = 2 + 2 * (state[1] % _LOADERS)
                state[place], state[place + 1] = seed, state[0]
                state[1] += 1
            epoch = int(known[seed]) + before
            state[0] = max(state[0], epoch + 1)
        return epoch


def dataset(batches: Epochs, epochs: SharedEpochs) -> Any:
    """Return a ``torch.utils.data.IterableDataset`` of batches as tensors.

    Raises
    ------
    ConfigError : torch is not installed
    """
    try:
        data: Any = importlib.import_module("torch.utils.data")
    except ModuleNotFoundError as error:
        raise ConfigError("torch is not installed: pip install torch") from error

    class Dataset(data.IterableDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            self._made = 0  # iterators, in this process

        def __reduce__(self) -> tuple[Any, ...]:
            return dataset, (batches, epochs)

        def __iter__(self) -> Iterator[Any]:
            worker = data.get_worker_info()
            if worker is None:
                return map(_tensors, batches)
            epoch = epochs.of(worker.seed - worker.id, self._made)
            self._made += 1
            return map(_tensors, batches.of_epoch(epoch, first=worker.id, every=worker.num_workers, inline=True))

    return Dataset()


def _tensors(value: Any) -> Any:
    """Return a batch with its numbers as tensors.

    Raises
    ------
    DataError : a column of whole numbers or truth values lacks some, which no tensor of its type can hold
    """
    if isinstance(value, dict):
        return {name: _tensors(inner) for name, inner in value.items()}
    if hasattr(value, "columns"):
        return {name: _tensors(_numbers(value[name])) for name in value.columns}
    if value.dtype.kind in "biufc":
        return importlib.import_module("torch").from_numpy(value if value.flags.writeable else value.copy())
    return value.tolist()


def _numbers(column: Any) -> Any:
    """Return a column of a pandas frame as numpy's array; its dtype does not depend on the values."""
    plain = getattr(column.dtype, "numpy_dtype", None)  # of whole numbers and truth values that may be missing
    if plain is None or plain.kind not in "biu":
        return column.to_numpy()
    if column.isna().any():
        raise DataError(
            f"column {column.name!r}: has missing values, and a tensor of {plain} has none; fill them in a step before "
            "(op fillna), or make the column float64 (op astype)"
        )
    return column.to_numpy(dtype=plain)
