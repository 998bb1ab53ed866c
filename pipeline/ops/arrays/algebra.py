"""The ops ``matmul``, ``tensordot``, ``einsum``, ``solve`` and ``fft``.

Missing values propagate as in numpy. Whole numbers are summed as int64; booleans count as 0 and 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, ref, task
from pipeline.ops.arrays.block_tasks import array_of_tasks, per_block, replace_at
from pipeline.ops.arrays.contraction import contract
from pipeline.ops.arrays.decompositions import qr, svd_compressed
from pipeline.ops.arrays.deferred_labels import labels_of, plain_coords, with_labels
from pipeline.ops.arrays.dims import Axis, axis_of, has_unknown_length, one_chunk, rebuild, require_numbers
from pipeline.ops.elementwise.alignment import Operand, with_coordinates

__all__ = ["einsum", "fft", "matmul", "qr", "solve", "svd_compressed", "tensordot"]

Block = np.ndarray[Any, Any]

# ---------------------------------------------------------------------------------------------------------------------
# Products
# ---------------------------------------------------------------------------------------------------------------------


def matmul(left: xr.DataArray, right: xr.DataArray, *, axis: str | None = None) -> xr.DataArray:
    """Return the sum of ``left * right`` over one dim that both have; other shared dims are multiplied pairwise.

    The dims of the result are those of ``left``, then the other dims of ``right``.

    Parameters
    ----------
    axis : None: the only dim that both have

    Raises
    ------
    OpError : no such dim, several shared dims and no ``axis``, or lengths or labels that differ along a shared dim
    """
    shared = _shared(left, right)
    if axis is None and len(shared) > 1:
        raise OpError("axis", f"left and right share the dims {', '.join(shared)}; name the one to sum over")
    summed = [shared[0] if axis is None else axis]
    _require_both(left, right, summed)
    return _product_over(left, right, summed)


def tensordot(left: xr.DataArray, right: xr.DataArray, *, axis: Axis = None) -> xr.DataArray:
    """Return the sum of ``left * right`` over dims that both have; None: over all of them.

    Raises
    ------
    OpError : no such dim, a shared dim that is not in ``axis``, or lengths or labels that differ
    """
    shared = _shared(left, right)
    summed = shared if axis is None else [axis] if isinstance(axis, str) else list(dict.fromkeys(axis))
    _require_both(left, right, summed)
    extra = [dim for dim in shared if dim not in summed]
    if extra:
        raise OpError("axis", f"left and right also share the dim {extra[0]!r}; to keep it use matmul or einsum")
    return _product_over(left, right, summed)


def _shared(left: xr.DataArray, right: xr.DataArray) -> list[str]:
    shared = [str(dim) for dim in left.dims if dim in right.dims]
    if not shared:
        dims = [", ".join(map(str, x.dims)) or "no dims" for x in (left, right)]
        raise OpError("left", f"shares no dim with right: left has {dims[0]}, right has {dims[1]}")
    return shared


def _require_both(left: xr.DataArray, right: xr.DataArray, axis: Sequence[str]) -> None:
    for dim in axis:
        axis_of(left, dim, "axis")
        if dim not in right.dims:
            dims = list(map(str, right.dims))
            raise OpError("axis", f"right has no dim {dim!r}; dims: {', '.join(dims)}{nearest(dim, dims)}")


def _product_over(left: xr.DataArray, right: xr.DataArray, summed: Sequence[str]) -> xr.DataArray:
    dims = [str(dim) for dim in dict.fromkeys([*left.dims, *right.dims]) if dim not in summed]
    return _summed([left, right], dims, ["left", "right"])


def einsum(*inputs: Any, subscripts: str) -> xr.DataArray:
    """Return a sum of products by names of dims: ``"time y, y x -> time x"`` sums over y.

    Parameters
    ----------
    inputs : arrays, or lists of gathered ``(labels, array)``
    subscripts : the names of the dims of each input, separated by commas, then those of the result; a name that the
        input does not have renames the dim at that position: ``"row a, row b -> a b"`` of ``[x, x]``

    Raises
    ------
    OpError : a wrong number of names, a name of another dim of the input, or lengths or labels that differ
    """
    arrays = [x for each in inputs for x in ([x for _, x in each] if isinstance(each, list) else [each])]
    given, result = _read(subscripts, arrays)
    named = [_renamed(x, names) for x, names in zip(arrays, given, strict=True)]
    return _summed(named, result, [f"input {i + 1}" for i in range(len(named))])


def _read(subscripts: str, arrays: Sequence[xr.DataArray]) -> tuple[list[list[str]], list[str]]:
    """Return the names of the dims of each input, and those of the result."""
    before, arrow, after = subscripts.partition("->")
    if not arrow or "->" in after:
        raise OpError("subscripts", f"got {subscripts!r}; write the dims of the result: time y, y x -> time x")
    given, result = [part.split() for part in before.split(",")], after.split()
    if len(given) != len(arrays):
        raise OpError("subscripts", f"got {len(given)} lists of names for {len(arrays)} inputs")
    for names in (*given, result):
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise OpError("subscripts", f"got {twice[0]!r} twice in {' '.join(names)!r}; names must be unique")
    for number, (names, x) in enumerate(zip(given, arrays, strict=True), 1):
        dims = [str(dim) for dim in x.dims]
        if len(names) != len(dims):
            raise OpError("subscripts", f"got {len(names)} names for input {number}; its dims: {', '.join(dims)}")
        moved = [name for name, dim in zip(names, dims, strict=True) if name != dim and name in dims]
        if moved:
            order = " ".join(dims)
            raise OpError(
                "subscripts", f"{moved[0]!r} is another dim of input {number}; the order of its dims: {order}"
            )
    known = [name for names in given for name in names]
    for name in [*known, *result]:
        if not name.isidentifier():
            raise OpError("subscripts", f"{name!r} is not a valid name of a dim; separate names by spaces")
    for name in result:
        if name not in known:
            raise OpError("subscripts", f"no input has the dim {name!r} of the result; dims: {', '.join(known)}")
    return given, result


def _renamed(x: xr.DataArray, names: Sequence[str]) -> xr.DataArray:
    """Return ``x`` with its dims renamed, and its coordinates with them."""
    new: Mapping[Any, str] = dict(zip(x.dims, names, strict=True))
    if all(dim == name for dim, name in new.items()):
        return x
    coords: dict[Any, Any] = {}
    for name, coordinate in plain_coords(x).items():
        if name in new or name not in names:
            dims = [new[dim] for dim in coordinate.dims]
            coords[new.get(name, name)] = xr.Variable(dims, coordinate.values, coordinate.attrs)
    labels = {name: own.along(new[own.dim]) for name, own in labels_of(x).items() if name not in names}
    return with_labels(xr.DataArray(x.data, coords, list(names)), labels)


def _summed(arrays: Sequence[xr.DataArray], dims: Sequence[str], places: Sequence[str]) -> xr.DataArray:
    """Return the sum of the products over all dims that are not in ``dims``; ``places``: names of the arrays."""
    first: dict[Any, tuple[str, xr.DataArray]] = {}
    for x, place in zip(arrays, places, strict=True):
        require_numbers(x, "a product", key=place)
        for dim in x.dims:
            other, y = first.setdefault(dim, (place, x))
            n, m = y.sizes[dim], x.sizes[dim]
            if n != m and n == n and m == m:  # nan: unknown until run time
                raise OpError(place, f"has {m} positions along {str(dim)!r}, {other} has {n}")
            if dim in x.indexes and dim in y.indexes and not x.indexes[dim].equals(y.indexes[dim]):
                hint = "select the same part of both with op sel"
                raise OpError(place, f"labels along {str(dim)!r} differ from those of {other}; {hint}")
            if dim in x.indexes and dim not in y.indexes:
                first[dim] = (place, x)
    data = contract([x.data for x in arrays], [list(map(str, x.dims)) for x in arrays], dims)
    return with_coordinates(data, tuple(dims), [Operand(x, place) for x, place in zip(arrays, places, strict=True)])


# ---------------------------------------------------------------------------------------------------------------------
# Equations
# ---------------------------------------------------------------------------------------------------------------------


def solve(left: xr.DataArray, right: xr.DataArray) -> xr.DataArray:
    """Return the array x with ``matmul(left, x) == right``.

    ``left`` is a square matrix; the dim that it shares with ``right`` is its rows. In the result the dim of its columns
    replaces that dim. Each task gets the whole of ``left``.

    Raises
    ------
    OpError : not a square matrix, both or none of its dims in ``right``, lengths or labels that differ
    DataError : in the run, if the matrix is singular
    """
    for x, key in ((left, "left"), (right, "right")):
        require_numbers(x, "solve", key=key)
    if left.ndim != 2 or left.shape[0] != left.shape[1]:
        raise OpError("left", f"solve needs a square matrix, got {dict(left.sizes)}")
    shared = [str(dim) for dim in left.dims if dim in right.dims]
    if len(shared) != 1:
        both = ", ".join(map(str, left.dims))
        raise OpError("right", f"has {len(shared)} of the dims of left ({both}); it must have one, the dim of its rows")
    (row,) = shared
    (col,) = [str(dim) for dim in left.dims if dim != row]
    if right.sizes[row] != left.sizes[row]:
        raise OpError("right", f"has {right.sizes[row]} positions along {row!r}, left has {left.sizes[row]}")
    if row in left.indexes and row in right.indexes and not left.indexes[row].equals(right.indexes[row]):
        raise OpError("right", f"labels along {row!r} differ from those of left")
    matrix = one_chunk(left.transpose(row, col), [row, col])
    right = one_chunk(right, [row])
    axis = axis_of(right, row)
    kind = np.linalg.solve(np.eye(1, dtype=left.dtype), np.ones((1, 1), right.dtype)).dtype
    name = f"solve-{tokenize(matrix.data.name, right.data.name)}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(n) for n in right.data.numblocks)):
        needed = ref((matrix.data.name, 0, 0)), ref((right.data.name, *index))
        tasks[name, *index] = task((name, *index), _solved, *needed, axis, kind)
    data = array_of_tasks(name, {**dict(matrix.data.dask), **tasks}, right.data.chunks, kind, right.data)
    dims = [col if dim == row else dim for dim in right.dims]
    coords = {str(name): c for name, c in left.coords.items() if c.dims == (col,)}
    return rebuild(right, data, dims, coords=coords, attrs=False)


def _solved(matrix: Block, block: Block, axis: int, dtype: np.dtype[Any]) -> Block:
    moved = np.moveaxis(block, axis, 0)
    try:
        columns = moved.reshape(len(moved), int(np.prod(moved.shape[1:])))
        found = np.linalg.solve(matrix, columns).reshape(moved.shape)
    except np.linalg.LinAlgError as error:
        raise DataError("left is a singular matrix: the equations have no solution, or more than one") from error
    return np.ascontiguousarray(np.moveaxis(found, 0, axis), dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Frequencies
# ---------------------------------------------------------------------------------------------------------------------

_FREQUENCY = "freq_"
"""Prefix of the names of dims of frequencies."""


def fft(x: xr.DataArray, *, axis: str, n: int | None = None, inverse: bool = False) -> xr.DataArray:
    """Return the discrete Fourier transform along a dim, which is rechunked to one chunk; complex.

    The dim ``time`` becomes ``freq_time``, labelled with cycles per position as in ``numpy.fft.fftfreq``. The inverse
    turns ``freq_time`` into ``time``, without labels. A dim of unknown length gets no labels either.

    Parameters
    ----------
    n : length of the transform: the input is cut to it, or padded with 0; None: the length of the dim

    Raises
    ------
    OpError : no such dim, or a dim of length 0
    DataError : in the run, if a dim of unknown length has length 0
    """
    number = axis_of(x, axis, "axis")
    require_numbers(x, "fft")
    if n is None and not has_unknown_length(x, axis):
        n = x.sizes[axis]
    if n == 0:
        raise OpError("axis", f"{_no_frequencies(axis)}")
    name = axis.removeprefix(_FREQUENCY) if inverse else _FREQUENCY + axis
    if name != axis and name in x.dims:
        raise OpError("axis", f"the dim of the result would be {name!r}, and the array already has a dim of this name")
    x = one_chunk(x, [axis])
    kind = np.fft.fft(np.zeros(1, x.dtype)).dtype
    chunks = replace_at(x.data.chunks, number, (np.nan if n is None else n,))
    data = per_block(x.data, "fft", _transformed, n, number, axis, inverse, kind, chunks=chunks, dtype=kind)
    labels = {} if inverse or n is None else {name: np.fft.fftfreq(n)}
    dims = [name if dim == axis else dim for dim in x.dims]
    return rebuild(x, data, dims, coords=labels, gone=[axis], attrs=False)


def _no_frequencies(dim: str) -> str:
    return f"{dim!r} has length 0, so there are no frequencies; n pads it with 0"


def _transformed(block: Block, n: int | None, axis: int, dim: str, inverse: bool, dtype: np.dtype[Any]) -> Block:
    if not (block.shape[axis] or n):
        raise DataError(_no_frequencies(dim))
    with np.errstate(invalid="ignore", over="ignore"):
        found = np.fft.ifft(block, n, axis) if inverse else np.fft.fft(block, n, axis)
    return np.asarray(found, dtype)
