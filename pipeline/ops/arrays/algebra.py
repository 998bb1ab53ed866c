"""Linear algebra and signals: ``matmul tensordot einsum solve fft``; factorisations stand in ``factors.py``.

Dims are named, so what is summed over is said by name. Missing values spread, as numpy's do: a product has no way to
leave one out. Whole numbers are added up as int64, truth values count as 0 and 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from pipeline.errors import DataError, OpError
from pipeline.graph.graph import GraphNode, Key, ref, task
from pipeline.ops.arrays.block_tasks import blocks, per_block, placed
from pipeline.ops.arrays.contraction import contracted
from pipeline.ops.arrays.decompositions import qr, svd_compressed
from pipeline.ops.arrays.deferred_labels import labels_of, plain_coords, with_labels
from pipeline.ops.arrays.dims import Axis, dim_number, is_late, one_chunk, rebuilt, require_numbers
from pipeline.ops.elementwise.alignment import Operand, with_coordinates

__all__ = ["einsum", "fft", "matmul", "qr", "solve", "svd_compressed", "tensordot"]

Block = np.ndarray[Any, Any]

# ---------------------------------------------------------------------------------------------------------------------
# Products
# ---------------------------------------------------------------------------------------------------------------------


def matmul(left: xr.DataArray, right: xr.DataArray, *, axis: str | None = None) -> xr.DataArray:
    """The sum of ``left * right`` over one dim that both have; a further one that both have is kept, place by place.

    The dims are those of ``left``, then what ``right`` has besides.

    Parameters
    ----------
    axis : None: the only dim that both have

    Raises
    ------
    OpError : no such dim, several that could be meant, or other lengths or labels along a shared one
    """
    shared = _shared(left, right)
    if axis is None and len(shared) > 1:
        raise OpError("axis", f"left and right share the dims {', '.join(shared)}; say which one is summed over")
    summed = [shared[0] if axis is None else axis]
    _require_both(left, right, summed)
    return _product_over(left, right, summed)


def tensordot(left: xr.DataArray, right: xr.DataArray, *, axis: Axis = None) -> xr.DataArray:
    """The sum of ``left * right`` over dims that both have; None: over all of them.

    Raises
    ------
    OpError : no such dim, one that both have and ``axis`` has not, other lengths or labels
    """
    shared = _shared(left, right)
    summed = shared if axis is None else [axis] if isinstance(axis, str) else list(dict.fromkeys(axis))
    _require_both(left, right, summed)
    extra = [dim for dim in shared if dim not in summed]
    if extra:
        raise OpError("axis", f"left and right share the dim {extra[0]!r}, too; matmul and einsum can keep it")
    return _product_over(left, right, summed)


def _shared(left: xr.DataArray, right: xr.DataArray) -> list[str]:
    shared = [str(dim) for dim in left.dims if dim in right.dims]
    if not shared:
        dims = [", ".join(map(str, x.dims)) or "no dims" for x in (left, right)]
        raise OpError("left", f"has {dims[0]}, and right {dims[1]}: none that both have")
    return shared


def _require_both(left: xr.DataArray, right: xr.DataArray, axis: Sequence[str]) -> None:
    for dim in axis:
        dim_number(left, dim, "axis")
        if dim not in right.dims:
            raise OpError("axis", f"{dim!r} is no dim of right; it has {', '.join(map(str, right.dims))}")


def _product_over(left: xr.DataArray, right: xr.DataArray, summed: Sequence[str]) -> xr.DataArray:
    dims = [str(dim) for dim in dict.fromkeys([*left.dims, *right.dims]) if dim not in summed]
    return _summed([left, right], dims, ["left", "right"])


def einsum(*inputs: Any, subscripts: str) -> xr.DataArray:
    """A sum of products by names: ``"time y, y x -> time x"`` sums over y.

    Parameters
    ----------
    inputs : arrays, or lists of gathered ``(labels, array)``
    subscripts : a name an axis, one list an input, parted by commas, then the dims of the result; a name that an input
        has not at that place is its dim's new name: ``"row a, row b -> a b"`` of ``[x, x]``

    Raises
    ------
    OpError : a list that doesn't fit its input, a name that is another dim's, other lengths or labels
    """
    arrays = [x for each in inputs for x in ([x for _, x in each] if isinstance(each, list) else [each])]
    given, result = _read(subscripts, arrays)
    named = [_renamed(x, names) for x, names in zip(arrays, given, strict=True)]
    return _summed(named, result, [f"input {i + 1}" for i in range(len(named))])


def _read(subscripts: str, arrays: Sequence[xr.DataArray]) -> tuple[list[list[str]], list[str]]:
    """The names of each input's axes, and those of the result."""
    before, arrow, after = subscripts.partition("->")
    if not arrow or "->" in after:
        raise OpError("subscripts", f"got {subscripts!r}; write the dims of the result: time y, y x -> time x")
    given, result = [part.split() for part in before.split(",")], after.split()
    if len(given) != len(arrays):
        raise OpError("subscripts", f"got {len(given)} lists of names for {len(arrays)} inputs")
    for names in (*given, result):
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise OpError("subscripts", f"got {twice[0]!r} twice in {' '.join(names)!r}; each dim has its own name")
    for number, (names, x) in enumerate(zip(given, arrays, strict=True), 1):
        dims = [str(dim) for dim in x.dims]
        if len(names) != len(dims):
            raise OpError("subscripts", f"got {len(names)} names for input {number}; it has {', '.join(dims)}")
        moved = [name for name, dim in zip(names, dims, strict=True) if name != dim and name in dims]
        if moved:
            order = " ".join(dims)
            raise OpError("subscripts", f"{moved[0]!r} of input {number} stands at another dim's place: {order}")
    known = [name for names in given for name in names]
    for name in [*known, *result]:
        if not name.isidentifier():
            raise OpError("subscripts", f"{name!r} is no name of a dim; names are parted by spaces")
    for name in result:
        if name not in known:
            raise OpError("subscripts", f"{name!r} of the result is in no input; they have {', '.join(known)}")
    return given, result


def _renamed(x: xr.DataArray, names: Sequence[str]) -> xr.DataArray:
    """``x`` with these dims in the place of its own, coordinates included."""
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
    """The sum of the products over all dims that are not in ``dims``; ``places``: what messages call the arrays."""
    first: dict[Any, tuple[str, xr.DataArray]] = {}
    for x, place in zip(arrays, places, strict=True):
        require_numbers(x, "a product", key=place)
        for dim in x.dims:
            other, y = first.setdefault(dim, (place, x))
            n, m = y.sizes[dim], x.sizes[dim]
            if n != m and n == n and m == m:  # nan: known only in the run
                raise OpError(place, f"has {m} positions along {str(dim)!r}, {other} has {n}")
            if dim in x.indexes and dim in y.indexes and not x.indexes[dim].equals(y.indexes[dim]):
                raise OpError(place, f"has other labels along {str(dim)!r} than {other}; take the same part of both")
            if dim in x.indexes and dim not in y.indexes:
                first[dim] = (place, x)
    data = contracted([x.data for x in arrays], [list(map(str, x.dims)) for x in arrays], dims)
    return with_coordinates(data, tuple(dims), [Operand(x, place) for x, place in zip(arrays, places, strict=True)])


# ---------------------------------------------------------------------------------------------------------------------
# Equations
# ---------------------------------------------------------------------------------------------------------------------


def solve(left: xr.DataArray, right: xr.DataArray) -> xr.DataArray:
    """The array ``x`` with ``matmul(left, x) == right``; ``left`` is square, its rows are the dim that ``right`` has.

    The dim of the columns of ``left`` takes that one's place. ``left`` goes whole into each task.

    Raises
    ------
    OpError : no square matrix, none or both of its dims in ``right``, other lengths or labels
    DataError : in the run, if the matrix is singular
    """
    for x, key in ((left, "left"), (right, "right")):
        require_numbers(x, "solve", key=key)
    if left.ndim != 2 or left.shape[0] != left.shape[1]:
        raise OpError("left", f"solve needs a square matrix, got {dict(left.sizes)}")
    shared = [str(dim) for dim in left.dims if dim in right.dims]
    if len(shared) != 1:
        both = ", ".join(map(str, left.dims))
        raise OpError("right", f"has {len(shared)} of the dims of left ({both}); it must have one, that of the rows")
    (row,) = shared
    (col,) = [str(dim) for dim in left.dims if dim != row]
    if right.sizes[row] != left.sizes[row]:
        raise OpError("right", f"has {right.sizes[row]} positions along {row!r}, left has {left.sizes[row]}")
    if row in left.indexes and row in right.indexes and not left.indexes[row].equals(right.indexes[row]):
        raise OpError("right", f"has other labels along {row!r} than left")
    matrix = one_chunk(left.transpose(row, col), [row, col])
    right = one_chunk(right, [row])
    axis = dim_number(right, row)
    kind = np.linalg.solve(np.eye(1, dtype=left.dtype), np.ones((1, 1), right.dtype)).dtype
    name = f"solve-{tokenize(matrix.data.name, right.data.name)}"
    tasks: dict[Key, GraphNode] = {}
    for index in itertools.product(*(range(n) for n in right.data.numblocks)):
        needed = ref((matrix.data.name, 0, 0)), ref((right.data.name, *index))
        tasks[name, *index] = task((name, *index), _solved, *needed, axis, kind)
    data = blocks(name, {**dict(matrix.data.dask), **tasks}, right.data.chunks, kind, right.data)
    dims = [col if dim == row else dim for dim in right.dims]
    coords = {str(name): c for name, c in left.coords.items() if c.dims == (col,)}
    return rebuilt(right, data, dims, coords=coords, attrs=False)


def _solved(matrix: Block, block: Block, axis: int, dtype: np.dtype[Any]) -> Block:
    moved = np.moveaxis(block, axis, 0)
    try:
        columns = moved.reshape(len(moved), int(np.prod(moved.shape[1:])))
        found = np.linalg.solve(matrix, columns).reshape(moved.shape)
    except np.linalg.LinAlgError as error:
        raise DataError("left is singular: there is no solution, or more than one") from error
    return np.ascontiguousarray(np.moveaxis(found, 0, axis), dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Frequencies
# ---------------------------------------------------------------------------------------------------------------------

_FREQUENCY = "freq_"
"""What the name of a dim of frequencies begins with."""


def fft(x: xr.DataArray, *, axis: str, n: int | None = None, inverse: bool = False) -> xr.DataArray:
    """The discrete Fourier transform along a dim, which is brought into one chunk; complex.

    The dim ``time`` becomes ``freq_time``, its labels cycles a position, as ``numpy.fft.fftfreq`` has them. Backwards
    ``freq_time`` becomes ``time``, without labels. There are none either where only the run knows how many there are.

    Parameters
    ----------
    n : positions to take: more are filled with 0, fewer cut off; None: all

    Raises
    ------
    OpError : no such dim, or one of length 0
    DataError : in the run, if only that knows that it is
    """
    number = dim_number(x, axis, "axis")
    require_numbers(x, "fft")
    if n is None and not is_late(x, axis):
        n = x.sizes[axis]
    if n == 0:
        raise OpError("axis", f"{_no_frequencies(axis)}")
    name = axis.removeprefix(_FREQUENCY) if inverse else _FREQUENCY + axis
    if name != axis and name in x.dims:
        raise OpError("axis", f"the dim of the result would be {name!r}, which the array has already")
    x = one_chunk(x, [axis])
    kind = np.fft.fft(np.zeros(1, x.dtype)).dtype
    chunks = placed(x.data.chunks, number, (np.nan if n is None else n,))
    data = per_block(x.data, "fft", _transformed, n, number, axis, inverse, kind, chunks=chunks, dtype=kind)
    labels = {} if inverse or n is None else {name: np.fft.fftfreq(n)}
    dims = [name if dim == axis else dim for dim in x.dims]
    return rebuilt(x, data, dims, coords=labels, gone=[axis], attrs=False)


def _no_frequencies(dim: str) -> str:
    return f"{dim!r} has length 0, which has no frequencies; n: fills it with 0"


def _transformed(block: Block, n: int | None, axis: int, dim: str, inverse: bool, dtype: np.dtype[Any]) -> Block:
    if not (block.shape[axis] or n):
        raise DataError(_no_frequencies(dim))
    found = np.fft.ifft(block, n, axis) if inverse else np.fft.fft(block, n, axis)
    return np.asarray(found, dtype)
