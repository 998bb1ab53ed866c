"""Outputs that one task writes, of the whole value: JSON of items and arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from pipeline.errors import DataError, OpError
from pipeline.graph.collect import collect
from pipeline.graph.graph import CONTEXT, Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.graph.segments import Dropped
from pipeline.graph.value_types import ArrayType, ItemsType, ValueType
from pipeline.outputs.files import Context, PartRecord
from pipeline.outputs.writers import write_object

__all__ = ["MOST_CELLS", "dropped_items", "plan_json", "plan_whole", "write_json"]

MOST_CELLS = 1_000_000
"""An array with more cells is not written as JSON."""


def plan_whole(
    value_type: ValueType, prefix: str, write: Callable[..., PartRecord], *constants: Any
) -> tuple[dict[Key, GraphNode], list[Key]]:
    """Return the task ``write(results, value_type, *constants, context)``, and its key.

    ``results`` are those of all keys of the value type, in order.
    """
    key: Key = (prefix,)
    results = listed([ref(one) for one in value_type.keys])
    return {key: task(key, write, results, value_type, *constants, ref(CONTEXT))}, [key]


def plan_json(
    value_type: ValueType, prefix: str, path: str, options: Mapping[str, Any]
) -> tuple[dict[Key, GraphNode], list[Key]]:
    """Return the task that writes a value as one JSON file, and its key.

    Raises
    ------
    OpError : for an array that is too large, as far as its size is known
    """
    if isinstance(value_type, ArrayType):
        n = math.prod(sum(sizes) for sizes in value_type.chunks)
        if n > MOST_CELLS:  # nan: unknown until run time
            raise OpError("to", _too_large(int(n)))
    return plan_whole(value_type, prefix, write_json, path, dict(options))


def _too_large(n: int) -> str:
    cure = "write netcdf, zarr or npy, or reduce it first"
    return f"json takes arrays of at most {MOST_CELLS:,} cells, and this one has {n:,}; {cure}"


def write_json(
    results: Sequence[Any], value_type: ValueType, path: str, options: Mapping[str, Any], context: Context
) -> PartRecord:
    """Write a whole value as one JSON file: items as a map from key to item, or a list of them (``keys: false``).

    Raises
    ------
    DataError : for an array that is too large
    """
    value = collect(value_type, dict(zip(value_type.keys, results, strict=True)), frames="arrow")
    n = _rows(value_type, value)
    if isinstance(value_type, ArrayType) and n > MOST_CELLS:
        raise DataError(_too_large(n))
    if isinstance(value_type, ItemsType) and not options.get("keys", True):
        value = list(value.values())
    written = write_object(value, "json", path, options, context)
    return PartRecord((), written.files, n, dropped_items(value_type, results))


def _rows(value_type: ValueType, value: Any) -> int:
    """Return the cells of an array, the number of items, else 1."""
    if isinstance(value_type, ArrayType):
        return int(value.size)
    return len(value) if isinstance(value_type, ItemsType) else 1


def dropped_items(value_type: ValueType, results: Sequence[Any]) -> tuple[str, ...]:
    """Return the keys of the items that were dropped."""
    if not isinstance(value_type, ItemsType):
        return ()
    pairs = zip(value_type.names, results, strict=True) if value_type.names else chain.from_iterable(results)
    return tuple(str(key) for key, item in pairs if isinstance(item, Dropped))
