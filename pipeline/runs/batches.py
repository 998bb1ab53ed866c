"""Rows in batches, read ahead by worker processes: what a training loop needs.

The rows are read in blocks (a row group or file of Parquet, a block of lines, some chunks of an array). A block is a
task of the Graph that a run would have, too; workers compute the next blocks while the loop works on a batch.
"""

from __future__ import annotations

import atexit
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self
from weakref import WeakSet

import numpy as np
import pyarrow as pa

from pipeline.backends import registry
from pipeline.backends.local.stream import in_background, stream
from pipeline.errors import ConfigError, DataError
from pipeline.graph.pandas_frames import to_pandas
from pipeline.graph.segments import Segment
from pipeline.runs.batch_sources import Blocks, blocks_of
from pipeline.runs.torch_batches import SharedEpochs, dataset

__all__ = ["Batches", "batches"]


def batches(
    source: Any,
    batch_size: int,
    *,
    step: str | None = None,
    output: str | None = None,
    workers: int = 2,
    prefetch: int = 2,
    shuffle: bool = False,
    seed: int = 0,
    buffer: int = 8,
    drop_last: bool = False,
    **options: Any,
) -> Batches:
    """Return the rows of a source in batches, which worker processes read ahead.

    A batch of a frame is a pandas frame; of an array, a numpy array whose first dim has the rows; of several arrays, a
    dict of these. The batches depend on the source, ``batch_size``, ``shuffle``, ``seed``, ``buffer`` and the epoch,
    not on the number of workers.

    Parameters
    ----------
    source : a path, pattern or folder, or a list of them: Parquet, CSV, JSON, npy, zarr, netCDF. Or a map name ->
        array file, all with the same number of rows. Or a Run. Or a Config, with ``step``
    step : the step of a Config whose value is read: a source, or steps that work on each of its chunks by itself
    output : the output of a Run; it may be left out if there is one
    workers : processes that read; 0: this process reads by itself
    prefetch : blocks that each worker reads ahead
    shuffle : whether the blocks, and then the rows of each ``buffer`` blocks, come in a random order, another one in
        each epoch. The memory needed is that of ``buffer`` blocks, and of those that are read ahead
    drop_last : whether the last batch is left out if it has fewer rows than the others
    options : parameters of the op that reads the source: ``columns``, ``split``, ``variable``, ``chunks``, …

    Raises
    ------
    ConfigError : the source or an option can't be read so
    DataError : a file is missing, or is not what its name promises
    """
    numbers = {"batch_size": (batch_size, 1), "workers": (workers, 0), "prefetch": (prefetch, 1), "buffer": (buffer, 1)}
    for name, (value, least) in {**numbers, "seed": (seed, 0)}.items():
        if type(value) is not int or value < least:
            raise ConfigError(f"{name}: got {value!r}; allowed: whole numbers from {least} on")
    return Batches(
        blocks_of(source, batch_size, step=step, output=output, options=options),
        batch_size,
        workers=workers,
        prefetch=prefetch,
        shuffle=shuffle,
        seed=seed,
        buffer=buffer,
        drop_last=drop_last,
    )


_open: WeakSet[ExitStack] = WeakSet()  # of iterators


@atexit.register
def _close() -> None:
    """End the workers of iterators that are open when the program ends: later there is nothing left to end them by."""
    for stack in list(_open):
        stack.close()


class Batches:
    """Batches of rows; each iteration is one epoch. :func:`batches` makes it, and documents its parameters.

    >>> for batch in pipeline.batches("train.parquet", 256, shuffle=True):   # doctest: +SKIP
    ...     learn(batch["x"], batch["y"])

    In a ``with`` block the workers stay for the next epoch; without one they end with each iteration, also when the
    loop is left by ``break`` or an exception. An error in a block is raised where the loop gets to it.

    Parameters
    ----------
    epoch : number of the next iteration, which decides with ``seed`` the order of its rows. It may be set; iterations
        of DataLoaders count, too
    """

    def __init__(
        self,
        blocks: Blocks,
        batch_size: int,
        *,
        workers: int,
        prefetch: int,
        shuffle: bool,
        seed: int,
        buffer: int,
        drop_last: bool,
    ) -> None:
        self._blocks = blocks
        self.batch_size, self.workers, self.prefetch = batch_size, workers, prefetch
        self.shuffle, self.seed, self.buffer, self.drop_last = shuffle, seed, buffer, drop_last
        self._epoch = 0
        self._shared: SharedEpochs | None = None  # with the workers of DataLoaders
        self._stack: ExitStack | None = None  # of the ``with`` block
        self._idle: list[Any] = []  # executors that stay until its end; each open iterator has one

    def __len__(self) -> int:
        if self._blocks.lengths is None:
            raise TypeError("the number of batches is unknown: how many rows a block has shows when it is read")
        n_rows = sum(self._blocks.lengths)
        return n_rows // self.batch_size if self.drop_last else math.ceil(n_rows / self.batch_size)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stack": None, "_idle": []}  # workers stay where they were started

    @property
    def epoch(self) -> int:
        return self._epoch if self._shared is None else self._shared.following

    @epoch.setter
    def epoch(self, number: int) -> None:
        if self._shared is None:
            self._epoch = number
        else:
            self._shared.following = number

    def __iter__(self) -> Generator[Any]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self.of_epoch(epoch)

    def __enter__(self) -> Self:
        if self._stack is not None:
            raise ConfigError("these batches are in a with block already; make others by pipeline.batches")
        self._stack = ExitStack()
        return self

    def __exit__(self, *exc: object) -> None:
        stack, self._stack, self._idle = self._stack, None, []
        if stack is not None:
            stack.close()

    def torch(self) -> Any:
        """Return a ``torch.utils.data.IterableDataset`` of the same batches, as tensors.

        For ``DataLoader(dataset, batch_size=None, num_workers=n)``: each of its workers gets every n-th block, so that
        each row comes once an epoch, and makes batches of their rows by itself. Columns that are not numbers are lists;
        whole numbers and truth values must not be missing.

        Raises
        ------
        ConfigError : torch is not installed
        """
        if self._shared is None:
            self._shared = SharedEpochs(self._epoch)
        return dataset(self, self._shared)

    def of_epoch(self, epoch: int, *, first: int = 0, every: int = 1, inline: bool = False) -> Generator[Any]:
        """Yield the batches of one epoch, of every n-th block; ``inline``: no process is started for it.

        Raises
        ------
        ConfigError : the ``with`` block in which it began has ended
        """
        block = self._stack
        rng = np.random.default_rng((self.seed, epoch))
        n = len(self._blocks.segments)
        order = rng.permutation(n) if self.shuffle else np.arange(n)
        blocks = [self._blocks.segments[i] for i in order[first::every]]
        with self._read(blocks, inline=inline or self.workers == 0) as values:
            rows = _shuffled(values, self.buffer, rng) if self.shuffle else values
            for batch in _in_batches(rows, self.batch_size, drop_last=self.drop_last):
                names = self._blocks.names
                yield batch[0] if names == ("",) else dict(zip(names, batch, strict=True))
                if self._stack is not block:
                    raise ConfigError("the with block in which this loop over batches began has ended")

    @contextmanager
    def _read(self, blocks: Sequence[Sequence[Segment]], *, inline: bool) -> Iterator[Iterator[list[Any]]]:
        """Give the values of one block after the other; the reading ends with the context."""
        segments = [segment for block in blocks for segment in block]
        n, graph = len(self._blocks.names), self._blocks.graph
        with ExitStack() as stack:
            _open.add(stack)
            executor = self._workers(stack, inline=inline)
            if inline:
                values = stream(executor, graph, segments, ahead=1)
            else:
                ahead = n * self.prefetch * self.workers
                values = in_background(
                    lambda is_left: stream(executor, graph, segments, ahead=ahead, is_left=is_left), ahead=n
                )
            stack.callback(values.close)
            yield map(list, zip(*[values] * n, strict=True))

    def _workers(self, stack: ExitStack, *, inline: bool) -> Any:
        """Return the workers: those of the ``with`` block, or new ones that end with ``stack``."""
        if inline:
            return stack.enter_context(registry.create("serial"))
        if self._stack is None:
            return stack.enter_context(registry.create("processes", workers=self.workers))
        idle = self._idle
        executor = idle.pop() if idle else self._stack.enter_context(registry.create("processes", workers=self.workers))
        stack.callback(idle.append, executor)
        return executor


def _in_batches(blocks: Iterator[list[Any]], size: int, *, drop_last: bool) -> Iterator[list[Any]]:
    """Yield ``size`` rows at a time, across the borders of blocks; slices of one block are views of it.

    Tables become pandas frames: a block as a whole, since that takes as long as for a few of its rows.
    """
    pending: list[list[Any]] = []
    n_pending = 0  # rows
    for block in blocks:
        n_rows, start = _n_rows(block), 0
        if pending and n_pending + n_rows >= size:
            start = size - n_pending
            yield _shown(_joined([*pending, [value[:start] for value in block]]))
            pending, n_pending = [], 0
        if n_rows - start >= size:
            shown = _shown(block)
            whole = (n_rows - start) // size * size
            for first in range(start, start + whole, size):
                yield [_rows(value, first, first + size) for value in shown]
            start += whole
        if start < n_rows:
            pending.append([value[start:] for value in block])
            n_pending += n_rows - start
    if pending and not drop_last:
        yield _shown(_joined(pending))


def _shown(block: Sequence[Any]) -> list[Any]:
    return [to_pandas(value) if isinstance(value, pa.Table) else value for value in block]


def _rows(value: Any, start: int, stop: int) -> Any:
    """Return some rows of an array or of a pandas frame, there with an index from 0."""
    if isinstance(value, np.ndarray):
        return value[start:stop]
    rows = value.iloc[start:stop]
    rows.index = value.index[: stop - start]
    return rows


def _shuffled(blocks: Iterator[list[Any]], buffer: int, rng: np.random.Generator) -> Iterator[list[Any]]:
    """Yield the rows of ``buffer`` blocks at a time, in a random order."""
    held: list[list[Any]] = []
    for block in blocks:
        held.append(block)
        if len(held) == buffer:
            yield _permuted(held, rng)
            held = []
    if held:
        yield _permuted(held, rng)


def _permuted(blocks: Sequence[Sequence[Any]], rng: np.random.Generator) -> list[Any]:
    rows = _joined(blocks)
    order = rng.permutation(_n_rows(rows))
    return [value.take(pa.array(order)) if isinstance(value, pa.Table) else value[order] for value in rows]


def _joined(pieces: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the rows of some pieces as one piece."""
    joined: list[Any] = []
    for several in zip(*pieces, strict=True):
        if isinstance(several[0], pa.Table):
            joined.append(pa.concat_tables(several))
        else:
            joined.append(several[0] if len(several) == 1 else np.concatenate(several))
    return joined


def _n_rows(values: Sequence[Any]) -> int:
    """Return the number of rows, which all values of a block have.

    Raises
    ------
    DataError : they have different numbers of rows
    """
    lengths = {len(value) for value in values}
    if len(lengths) > 1:
        raise DataError(f"the values of a block have different numbers of rows: {', '.join(map(str, sorted(lengths)))}")
    return lengths.pop()
