"""Arrays: checks that dims and labels match, gives operands equal chunks, makes one task per chunk.

``monthly - climatology``, with dims (time, y) and (month, y), is an error here; xarray would return an outer product.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.layers import ArrayBlockIdDep

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import BoundValue, Constant, Node, children, map_nodes, render
from pipeline.errors import DataError
from pipeline.graph.calendars import calendar_name, calendar_of
from pipeline.graph.importing import Deferred
from pipeline.ops.arrays.block_tasks import rechunked
from pipeline.ops.arrays.deferred_labels import labels_of, plain_coords, shared_labels, with_labels
from pipeline.ops.arrays.unknown_chunks import any_unknown, rechunk_like, require_equal_chunks
from pipeline.ops.elementwise.evaluation import SlotLookup, evaluate
from pipeline.ops.whole_numbers import WholeNumberError, cast

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
else:
    da = Deferred("dask.array")
    xr = Deferred("xarray")

__all__ = ["Operand", "align_chunks", "cast_result", "evaluate_blockwise", "missing_message", "with_coordinates"]

_PARTS = ("year", "month", "day", "hour", "weekday", "dayofyear")


@dataclass(frozen=True, eq=False)
class Operand:
    """An array in an expression.

    Parameters
    ----------
    text : how the user wrote it, for messages
    value : the value of a scalar that is known while the graph is built; else None
    sample : a value of an array of objects, whose dtype does not say what they are
    """

    array: xr.DataArray
    text: str
    value: Any = None
    sample: Any = None

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(map(str, self.array.dims))


def evaluate_blockwise(root: Node, operands: Sequence[Operand], text: str) -> tuple[da.Array, tuple[str, ...]]:
    """Return the expression over the operands as a dask array, and its dims; a slot is a position in ``operands``."""
    dims = _dims(root, operands)
    _check_lengths(operands)
    root = map_nodes(root, functools.partial(_inlined, operands))
    arrays = [operand for operand in operands if operand.value is None]
    places = tuple(tuple(dims.index(d) for d in operand.dims) for operand in arrays)
    positions = [i for i, operand in enumerate(operands) if operand.value is None]
    root = map_nodes(root, functools.partial(_renumbered, {old: new for new, old in enumerate(positions)}))
    try:
        dtype = _dtype(root, arrays, places, len(dims))
    except ExpressionError as error:
        raise ExpressionError(f"{error.message}{_calendar_hint(arrays)}", error.column) from None
    calendar = next((c for operand in arrays if (c := calendar_of(operand.sample))), "")
    if dtype.kind == "O" and calendar:
        hint = "month(…) and the like, differences and comparisons give cells"
        raise ExpressionError(f"'{text}' gives times of the calendar {calendar}, which only labels can be; {hint}")
    chunked = align_chunks([_dask(operand.array) for operand in arrays], places)
    chunks = _chunks(chunked, places, len(dims))
    kernel = functools.partial(_chunk, root, places, dims, dtype, text, chunks)
    pairs = [item for array, place in zip(chunked, places, strict=True) for item in (array, place)]
    numbers = tuple(range(len(dims)))
    meta = np.empty((0,) * len(dims), dtype=dtype)
    # aligned above, because dask does not align chunks of unknown size
    data = da.blockwise(
        kernel,
        numbers,
        *(ArrayBlockIdDep(chunks), numbers),
        *pairs,
        dtype=dtype,
        meta=meta,
        token="expr",
        align_arrays=False,
    )
    return data, dims


def _inlined(operands: Sequence[Operand], node: Node) -> Node | None:
    value = operands[node.slot].value if isinstance(node, BoundValue) else None
    return Constant(value) if isinstance(value, bool | int | float | str) else None


def _renumbered(slots: dict[int, int], node: Node) -> Node | None:
    return BoundValue(slots[node.slot]) if isinstance(node, BoundValue) else None


def _dask(array: xr.DataArray) -> da.Array:
    return array.data if isinstance(array.data, da.Array) else da.from_array(array.values, chunks=-1)


def align_chunks(arrays: list[da.Array], places: Sequence[tuple[int, ...]]) -> list[da.Array]:
    """Return the arrays with equal chunks: along dims where they differ, cut at every chunk border of any of them.

    An unknown length gets the chunks of a known one, else those of the array with most chunks. The tasks check that
    blocks have equal lengths: :func:`pipeline.ops.arrays.unknown_chunks.require_equal_chunks`.
    """
    for dim in sorted({d for place in places for d in place}):
        holders = [(i, place.index(dim)) for i, place in enumerate(places) if dim in place]
        sure = [(i, axis) for i, axis in holders if not any_unknown(arrays[i].chunks[axis])]
        known = {arrays[i].chunks[axis] for i, axis in sure}
        if len(known) > 1:
            edges = sorted({int(edge) for chunks in known for edge in np.cumsum(chunks)})
            cut = tuple(int(n) for n in np.diff([0, *edges]))
            for i, axis in sure:
                arrays[i] = rechunked(arrays[i], {axis: cut})
        like, along = max(sure[:1] or holders, key=lambda holder: arrays[holder[0]].numblocks[holder[1]])
        for i, axis in holders:
            arrays[i] = rechunk_like(arrays[i], axis, arrays[like], along)
    return arrays


# ---------------------------------------------------------------------------------------------------------------------
# Dims and coordinates
# ---------------------------------------------------------------------------------------------------------------------


def _dims(node: Node, operands: Sequence[Operand]) -> tuple[str, ...]:
    """Return the dims of the value of the tree.

    Raises
    ------
    ExpressionError : at the first operation whose operands have dims that do not contain each other
    """
    if isinstance(node, BoundValue):
        return operands[node.slot].dims
    largest: tuple[str, ...] = ()
    holder: Node = node
    for child in children(node):
        dims = _dims(child, operands)
        if set(dims) > set(largest):
            if not set(largest) <= set(dims):
                raise ExpressionError(_apart(holder, largest, child, dims, operands))
            largest, holder = dims, child
        elif not set(dims) <= set(largest):
            raise ExpressionError(_apart(holder, largest, child, dims, operands))
        elif not largest:
            holder = child
    return largest


def _apart(a: Node, a_dims: tuple[str, ...], b: Node, b_dims: tuple[str, ...], operands: Sequence[Operand]) -> str:
    texts = [operand.text for operand in operands]
    left, right = _render(a, texts), _render(b, texts)
    message = (
        f"'{left}' has dims ({', '.join(a_dims)}), '{right}' has ({', '.join(b_dims)}), and neither contains the other"
    )
    for large, small, large_dims, small_dims in ((left, right, a_dims, b_dims), (right, left, b_dims, a_dims)):
        part = next((d for d in small_dims if d not in large_dims and d in _PARTS), None)
        time = next((d for d in large_dims if d not in small_dims and _is_time(d, operands)), None)
        if part and time:
            take = f'{{op: take, input: {small}, at: {{{part}: "{part}({time})"}}, like: {large}}}'
            return f"{message}; for the {part} of each {time}: {take}"
    return message


@dataclass(frozen=True)
class _Text:
    text: str


def _render(node: Node, texts: Sequence[str]) -> str:
    return render(node, [_Text(text) for text in texts])


def _is_time(dim: str, operands: Sequence[Operand]) -> bool:
    for operand in operands:
        if dim in operand.array.coords:
            return bool(operand.array.coords[dim].dtype.kind in "MO")
    return False


def _check_lengths(operands: Sequence[Operand]) -> None:
    """Check that lengths and labels are equal along every shared dim."""
    first: dict[str, Operand] = {}
    for operand in operands:
        for dim in operand.dims:
            other = first.setdefault(dim, operand)
            n, m = other.array.sizes[dim], operand.array.sizes[dim]
            if n != m and n == n and m == m:  # nan: unknown until run time
                raise ExpressionError(f"'{other.text}' has length {n:,} along '{dim}', '{operand.text}' has {m:,}")
            if dim in operand.array.indexes:
                if dim not in other.array.indexes:
                    first[dim] = operand
                elif not other.array.indexes[dim].equals(operand.array.indexes[dim]):
                    raise ExpressionError(_differ(dim, other, operand))


def _differ(dim: str, a: Operand, b: Operand) -> str:
    left, right = a.array.indexes[dim], b.array.indexes[dim]
    calendars = [calendar_of(i.values) or ("standard" if i.dtype.kind == "M" else "") for i in (left, right)]
    if all(calendars) and calendars[0] != calendars[1]:
        return f"'{a.text}' and '{b.text}' have the calendars {calendars[0]} and {calendars[1]} along '{dim}'"
    at = next((i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), 0)
    return (
        f"'{a.text}' and '{b.text}' have different coordinates along '{dim}': {left[at]} and {right[at]} at position "
        f"{at}; coordinates must be equal: select the same part of both with op sel"
    )


def with_coordinates(data: da.Array, dims: tuple[str, ...], operands: Sequence[Operand]) -> xr.DataArray:
    """Return ``data`` with the coordinates of all operands, without those that differ, as xarray does."""
    coords: dict[Any, Any] = {}
    arrays = [operand.array for operand in operands]
    dropped: set[Any] = {name for array in arrays for name in labels_of(array)}
    for array in arrays:
        for name, coordinate in plain_coords(array).items():
            if name in dropped or not set(coordinate.dims) <= set(dims):
                continue
            if name not in coords:
                coords[name] = coordinate.variable
            elif name not in dims and not coords[name].equals(coordinate.variable):
                del coords[name]
                dropped.add(name)
    result = xr.DataArray(data, dims=dims, coords=coords)
    result.name = None  # DataArray takes the name of the dask array
    return with_labels(result, shared_labels(arrays, dims))


# ---------------------------------------------------------------------------------------------------------------------
# One chunk
# ---------------------------------------------------------------------------------------------------------------------


def _spread(block: Any, place: tuple[int, ...], ndim: int) -> Any:
    """Return the block with its axes at ``place``, and axes of length 1 for the dims that it lacks."""
    block = np.asarray(block)
    if not place:
        return block.reshape(()) if ndim == 0 else block
    ordered = block.transpose(np.argsort(place))
    shape = [1] * ndim
    for axis, length in zip(sorted(place), ordered.shape, strict=True):
        shape[axis] = length
    return ordered.reshape(shape)


def _dtype(root: Node, arrays: Sequence[Operand], places: Sequence[tuple[int, ...]], ndim: int) -> np.dtype[Any]:
    """Return the dtype of the result from arrays of length 0; 0-d arrays hold 1, which every function takes."""
    blocks = [
        _spread(_example(operand, len(place)), place, ndim) for operand, place in zip(arrays, places, strict=True)
    ]
    dtype: np.dtype[Any] = np.asarray(evaluate(root, SlotLookup(blocks, checked=False))).dtype
    return dtype


def _calendar_hint(operands: Sequence[Operand]) -> str:
    """Return which operand holds times as numbers, because numpy lacks their calendar; empty if none does."""
    for operand in operands:
        units = str(operand.array.attrs.get("units", ""))
        if " since " in units and operand.array.dtype.kind in "iuf":
            calendar = calendar_name(operand.array.attrs)
            return (
                f"; '{operand.text}' holds numbers: {units}, in the calendar {calendar}, whose times only labels can be"
            )
    return ""


def _example(operand: Operand, ndim: int) -> np.ndarray:
    if calendar_of(operand.sample):
        return np.full((1,) * ndim, operand.sample[0], dtype=object)
    return np.ones((0,) * ndim, dtype=operand.array.dtype)


def _chunks(arrays: Sequence[da.Array], places: Sequence[tuple[int, ...]], ndim: int) -> tuple[tuple[int, ...], ...]:
    """Return the chunk sizes along each dim of the result."""
    sizes = {d: array.chunks[axis] for array, place in zip(arrays, places, strict=True) for axis, d in enumerate(place)}
    return tuple(sizes[d] for d in range(ndim))


def _chunk(
    root: Node,
    places: Sequence[tuple[int, ...]],
    dims: Sequence[str],
    dtype: np.dtype[Any],
    text: str,
    chunks: Sequence[tuple[int, ...]],
    index: tuple[int, ...],
    *blocks: Any,
) -> np.ndarray:
    """Evaluate the expression over one chunk of each operand; this is the task.

    Parameters
    ----------
    chunks : chunk sizes of the result along each dim, and ``index``, the number of this one: where an error occurred
    """
    require_equal_chunks(blocks, places, dims)
    spread = [_spread(block, place, len(dims)) for block, place in zip(blocks, places, strict=True)]
    try:
        result = np.asarray(evaluate(root, SlotLookup(spread)))
        return cast_result(result, dtype, text)
    except WholeNumberError as error:
        first = [sum(sizes[:k]) for sizes, k in zip(chunks, index, strict=True)]
        raise DataError(f"'{text}'{_position(dims, first, error.place)}: {error}") from error


def _position(dims: Sequence[str], starts: Sequence[float], place: tuple[int, ...]) -> str:
    """Return `` at [time=3, y=0]`` for the place in a block; empty where it is unknown."""
    if not dims or len(place) != len(dims) or any(start != start for start in starts):
        return ""
    return f" at [{', '.join(f'{d}={start + i}' for d, start, i in zip(dims, starts, place, strict=True))}]"


def missing_message(text: str, n: int, size: int, dtype: Any) -> str:
    """Return the message for an expression of whole numbers that is missing for ``n`` of ``size`` values."""
    return (
        f"'{text}' is missing for {n:,} of {size:,} values, and {dtype} has no missing value; "
        "write fill(…, 0), or number(…) for float64"
    )


def cast_result(result: np.ndarray, dtype: np.dtype[Any], text: str) -> np.ndarray:
    """Return the result as ``dtype``; functions return floats with nan where a whole number is missing.

    Raises
    ------
    DataError : if a whole number is missing
    WholeNumberError : if one can't be held by the dtype
    """
    if result.dtype == dtype:
        return result
    if dtype.kind in "iu" and result.dtype.kind == "f" and np.isnan(result).any():
        raise DataError(missing_message(text, int(np.isnan(result).sum()), result.size, dtype))
    return np.asarray(cast(result, dtype))
