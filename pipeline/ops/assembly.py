"""Whole values from their parts: what a call gets, and what a run gives back.

The functions take what the tasks of a layout gave, in the order of ``layout.keys``; they run inside tasks and, for
results, in the caller's process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pipeline.graph import ArrayLayout, FrameLayout, ItemsLayout, Layout, PartsLayout
from pipeline.worker import Dropped

__all__ = ["array", "frame", "item_pairs", "items", "whole"]


def array(
    template: xr.Dataset, dims: tuple[str, ...], grid: tuple[int, ...], dtype: Any, chunks: Sequence[Any]
) -> xr.DataArray:
    """One in-memory array from its chunks in C order over a ``grid`` of chunks.

    Returns
    -------
    DataArray of ``dtype`` with the dims, coordinates and attrs of the layout; a lone chunk is not copied
    """
    blocks: Any = [np.asarray(chunk) for chunk in chunks]
    if len(blocks) != 1:
        nested = np.empty(len(blocks), dtype=object)
        nested[:] = blocks
        blocks = np.block(nested.reshape(grid).tolist()) if blocks else np.empty((0,) * len(dims), dtype)
    else:
        blocks = blocks[0]
    coords = {name: c for name, c in template.coords.items() if _fits(c, dims, blocks.shape)}
    return xr.DataArray(blocks.astype(dtype, copy=False), dims=dims, coords=coords, attrs=template.attrs)


def _fits(coordinate: xr.DataArray, dims: tuple[str, ...], shape: tuple[int, ...]) -> bool:
    sizes = dict(zip(dims, shape, strict=True))
    return all(sizes.get(str(dim)) == n for dim, n in coordinate.sizes.items())


def frame(meta: pd.DataFrame, partitions: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One in-memory frame from its partitions, with a fresh index and the dtypes of ``meta``."""
    filled = [part for part in partitions if len(part)]
    if not filled:
        return meta.iloc[:0].reset_index(drop=True)
    return pd.concat(filled, ignore_index=True) if len(filled) > 1 else filled[0].reset_index(drop=True)


def item_pairs(names: tuple[str, ...] | None, results: Sequence[Any]) -> list[tuple[str, Any]]:
    """The items with their keys, dropped ones left out."""
    pairs = zip(names, results, strict=True) if names is not None else (pair for group in results for pair in group)
    return [(name, item) for name, item in pairs if not isinstance(item, Dropped)]


def items(names: tuple[str, ...] | None, results: Sequence[Any]) -> list[Any]:
    """The items in order, dropped ones left out."""
    return [item for _, item in item_pairs(names, results)]


def whole(layout: Layout, results: Sequence[Any]) -> Any:
    """The in-memory value of a layout from the results of its keys; parts come as a dict of their values."""
    if isinstance(layout, ArrayLayout):
        return array(layout.template, layout.dims, tuple(len(c) for c in layout.chunks), layout.dtype, results)
    if isinstance(layout, FrameLayout):
        return frame(layout.meta, results)
    if isinstance(layout, ItemsLayout):
        return items(layout.names, results)
    if isinstance(layout, PartsLayout):
        values, rest = {}, list(results)
        if layout.whole is not None:
            rest = rest[len(layout.whole.keys) :]
        for name, part in layout.parts.items():
            values[name] = whole(part, rest[: len(part.keys)])
            rest = rest[len(part.keys) :]
        return values
    return results[0]
