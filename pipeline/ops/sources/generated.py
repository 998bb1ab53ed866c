"""``random arange zeros ones``: generated arrays, one task a chunk."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import OpError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, task
from pipeline.ops.sources.chunking import Chunks, chunk_sizes, spans
from pipeline.ops.whole_numbers import cast

__all__ = ["arange", "ones", "random", "zeros"]


def random(
    *,
    shape: Mapping[str, int],
    chunks: Chunks = None,
    distribution: str = "normal",
    loc: float = 0.0,
    scale: float = 1.0,
    low: float | None = None,
    high: float | None = None,
    dtype: Any = None,
    seed: int = 0,
) -> xr.DataArray:
    """Return random numbers with named dims, the same for the same seed and chunks on every machine.

    Each chunk has its own generator (Philox, from the seed and the chunk's position). ``normal`` takes ``loc`` and
    ``scale``, ``uniform`` ``low`` and ``high`` (0 and 1), ``integers`` ``low`` (0) and ``high``, which is exclusive.

    Raises
    ------
    OpError : an unknown distribution, limits with no number between them, or integers that the dtype can't hold
    DataError : in the run, if ``dtype`` is whole numbers and can't hold one that is drawn
    """
    if distribution not in _DISTRIBUTIONS:
        raise OpError("distribution", f"got {distribution!r}; there are {', '.join(sorted(_DISTRIBUTIONS))}")
    if distribution == "integers" and (high is None or (low or 0) >= high):
        raise OpError("high", f"integers are drawn from low to high, without high: got low {low or 0}, high {high}")
    kind = np.dtype(dtype or (np.int64 if distribution == "integers" else np.float64))
    first, second = (loc, scale) if distribution == "normal" else (low or 0, 1 if high is None else high)
    if distribution == "integers":
        _require_drawn(first, second, kind)
    dims = tuple(shape)
    grid = chunk_sizes(chunks, dims, tuple(shape.values()), kind)
    name = f"random-{tokenize(grid, distribution, first, second, str(kind), seed)}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(len(sizes)) for sizes in grid)):
        size = tuple(sizes[i] for sizes, i in zip(grid, index, strict=True))
        key = (name, *index)
        tasks[key] = task(key, _draw, distribution, seed, index, size, first, second, kind)
    return xr.DataArray(da.Array(tasks, name, grid, dtype=kind), dims=dims)


def _require_drawn(low: float, high: float, dtype: np.dtype[Any]) -> None:
    """Check that all integers from ``low`` to ``high``, without ``high``, are numbers of int64 and of the dtype."""
    for name, value in (("low", int(low)), ("high", int(high) - 1)):
        for kind in (np.dtype(np.int64), dtype):
            if kind.kind in "iu" and not np.iinfo(kind).min <= value <= np.iinfo(kind).max:
                raise OpError(name, f"integers from {int(low)} to {int(high) - 1} are drawn, which {kind} can't hold")


def _normal(generator: np.random.Generator, size: tuple[int, ...], loc: float, scale: float) -> Any:
    return generator.normal(loc, scale, size)


def _uniform(generator: np.random.Generator, size: tuple[int, ...], low: float, high: float) -> Any:
    return generator.uniform(low, high, size)


def _integers(generator: np.random.Generator, size: tuple[int, ...], low: float, high: float) -> Any:
    return generator.integers(int(low), int(high), size)


_DISTRIBUTIONS: Mapping[str, Callable[..., Any]] = {"normal": _normal, "uniform": _uniform, "integers": _integers}


def _draw(
    distribution: str,
    seed: int,
    index: tuple[int, ...],
    size: tuple[int, ...],
    first: float,
    second: float,
    dtype: np.dtype[Any],
) -> np.ndarray[Any, Any]:
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=index)))
    drawn = np.asarray(_DISTRIBUTIONS[distribution](generator, size, first, second))
    return np.asarray(cast(np.trunc(drawn) if dtype.kind in "iu" and drawn.dtype.kind == "f" else drawn, dtype))


def arange(
    *,
    stop: float,
    start: float = 0,
    step: float = 1,
    chunks: Chunks = None,
    dim: str = "dim_0",
    dtype: Any = None,
) -> xr.DataArray:
    """Return evenly spaced numbers from ``start`` by ``step`` up to, not including, ``stop``; one dim.

    Raises
    ------
    OpError : ``step`` is 0, or a number is too large, also for ``dtype``
    """
    for name, value in (("start", start), ("stop", stop), ("step", step)):
        if not abs(value) < 2**63:
            raise OpError(name, f"got {value}; write a number below 2**63")
    if step == 0:
        raise OpError("step", "got 0; the numbers would never reach stop")
    kind = np.dtype(dtype) if dtype is not None else np.result_type(*(np.asarray(v).dtype for v in (start, stop, step)))
    whole = all(isinstance(value, int) for value in (start, stop, step))
    n = max(int(-((start - stop) // step) if whole else np.ceil((stop - start) / step)), 0)
    grid = chunk_sizes(chunks, (dim,), (n,), kind)
    if kind.kind in "iu" and n:
        for value in (start, start + (n - 1) * step):
            if not np.iinfo(kind).min <= int(value) <= np.iinfo(kind).max:
                raise OpError("dtype" if dtype else "stop", f"the numbers reach {int(value)}, which {kind} can't hold")
    layer = f"arange-{tokenize(start, step, grid, str(kind))}"
    tasks: dict[Key, GraphNode] = {}
    for i, (low, high) in enumerate(spans(grid[0])):
        tasks[layer, i] = task((layer, i), _ramp, start, step, low, high, kind)
    return xr.DataArray(da.Array(tasks, layer, grid, dtype=kind), dims=[dim])


def _ramp(start: float, step: float, low: int, high: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if isinstance(start, int) and isinstance(step, int):  # exact: where a product wraps, the sum wraps back
        return (np.arange(high - low) * step + (start + low * step)).astype(dtype, copy=False)
    return (start + np.arange(low, high) * step).astype(dtype, copy=False)


def zeros(*, shape: Mapping[str, int], chunks: Chunks = None, dtype: Any = "float64") -> xr.DataArray:
    """Return zeros with named dims.

    Raises
    ------
    OpError : a chunk size for an unknown dim, or sizes that don't fit
    """
    return _filled("zeros", 0, shape, chunks, dtype)


def ones(*, shape: Mapping[str, int], chunks: Chunks = None, dtype: Any = "float64") -> xr.DataArray:
    """Return ones with named dims.

    Raises
    ------
    OpError : a chunk size for an unknown dim, or sizes that don't fit
    """
    return _filled("ones", 1, shape, chunks, dtype)


def _filled(op: str, value: int, shape: Mapping[str, int], chunks: Chunks, dtype: Any) -> xr.DataArray:
    kind, dims = np.dtype(dtype), tuple(shape)
    grid = chunk_sizes(chunks, dims, tuple(shape.values()), kind)
    name = f"{op}-{tokenize(grid, str(kind))}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(len(sizes)) for sizes in grid)):
        size = tuple(sizes[i] for sizes, i in zip(grid, index, strict=True))
        tasks[name, *index] = task((name, *index), np.full, size, value, kind)
    return xr.DataArray(da.Array(tasks, name, grid, dtype=kind), dims=dims)
