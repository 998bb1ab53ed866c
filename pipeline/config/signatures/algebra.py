"""Ops of linear algebra and signals, and those that see beyond their chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import Axis, Dtype, Function, Signature

__all__ = ["Einsum", "Fft", "MapOverlap", "Matmul", "Qr", "Solve", "SvdCompressed", "Tensordot", "TreeReduce"]


class Algebra(Signature):
    """An op from arrays to an array."""

    group: ClassVar[str] = "algebra"
    gives: ClassVar[str] = "array"


class Matmul(Algebra):
    """The sum of ``left * right`` over one dim that both have.

    The result has the other dims of ``left``, then those that only ``right`` has; a further dim that both have is kept,
    place by place. Missing values spread; whole numbers become int64. Errors: no such dim; several that both have and
    no ``axis``; other lengths or labels.
    """

    op: ClassVar[str] = "matmul"
    inputs: ClassVar = {"left": ("array",), "right": ("array",)}
    home: ClassVar[str] = "arrays.algebra:matmul"

    axis: str | None = Field(None, description="dim that is summed over; default: the only one that both have")


class Tensordot(Algebra):
    """The sum of ``left * right`` over dims that both have; the result has the others, those of ``left`` first.

    Missing values spread; whole numbers become int64. Errors: a dim that both have is not in ``axis``; other lengths or
    labels.
    """

    op: ClassVar[str] = "tensordot"
    inputs: ClassVar = {"left": ("array",), "right": ("array",)}
    home: ClassVar[str] = "arrays.algebra:tensordot"

    axis: Axis | None = Field(None, description="dim or dims that are summed over; default: all that both have")


class Einsum(Algebra):
    """A sum of products of arrays by names of dims: ``"time y, y x -> time x"`` sums over y.

    ``subscripts`` has a name for each dim of each input, in their order, then the dims of the result. A name that the
    input does not have is its dim's new name: ``"row a, row b -> a b"`` of ``[x, x]`` is the product of x with itself.
    Missing values spread; whole numbers become int64. Errors: names that don't fit; other lengths or labels.
    """

    op: ClassVar[str] = "einsum"
    inputs: ClassVar = {"input": ("array*",)}
    home: ClassVar[str] = "arrays.algebra:einsum"

    subscripts: str = Field(description="names of the dims of each input, parted by commas, -> those of the result")


class Qr(Algebra):
    """The thin QR decomposition of a matrix: parts ``q`` and ``r`` with ``q @ r == input``.

    For dims (row, col) and k = min of their sizes: q (row, component) with orthonormal columns, r (component, col),
    upper triangular with a diagonal >= 0; floats. The columns are rechunked to one chunk.

    Errors: not two dims; missing values.
    """

    op: ClassVar[str] = "qr"
    gives: ClassVar[str] = "parts"
    parts: ClassVar[tuple[str, ...]] = ("q", "r")
    home: ClassVar[str] = "arrays.decompositions:qr"


class SvdCompressed(Algebra):
    """The ``k`` largest singular values of a matrix and their vectors, by random projection: parts as of ``svd``.

    u (row, component), s (component), v (component, col), floats, signs as of ``svd``. The input is gone through
    ``2 * n_power_iter + 2`` times, a chunk a task; the number of rows may be known only in the run. The same numbers
    for the same seed and step.

    Errors: not two dims; k larger than one of them; missing values.
    """

    op: ClassVar[str] = "svd_compressed"
    gives: ClassVar[str] = "parts"
    parts: ClassVar[tuple[str, ...]] = ("u", "s", "v")
    home: ClassVar[str] = "arrays.decompositions:svd_compressed"

    k: Annotated[int, Field(ge=1)] = Field(description="how many components")
    axis: Annotated[list[str], Field(min_length=2, max_length=2)] | None = Field(
        None, description="[row, col]: dims of the rows and of the columns; default: the array's, in order"
    )
    n_power_iter: Annotated[int, Field(ge=0, le=1000)] = Field(
        2, description="passes that make values which fall slowly exact"
    )
    n_oversamples: Annotated[int, Field(ge=0)] = Field(10, description="directions beyond k that are looked into")


class Solve(Algebra):
    """The solution of linear equations: the x with ``left @ x == right``.

    ``left`` is a square matrix, ``right`` has the dim of its rows, and may have others; the result has the dim of the
    columns of ``left`` in its place. ``left`` goes whole into each task. Errors: no square matrix; ``right`` has both
    of its dims, or none; a singular matrix.
    """

    op: ClassVar[str] = "solve"
    inputs: ClassVar = {"left": ("array",), "right": ("array",)}
    home: ClassVar[str] = "arrays.algebra:solve"


class Fft(Algebra):
    """The discrete Fourier transform along a dim, complex (of float32 in single precision).

    The dim ``time`` becomes ``freq_time`` with cycles a position as labels, in the order of numpy's fftfreq;
    ``inverse`` takes ``freq_time`` back to ``time``, without labels. The axis is rechunked to one chunk, which
    ``check`` shows. Missing values spread. Errors: no such dim, or one of length 0.
    """

    op: ClassVar[str] = "fft"
    home: ClassVar[str] = "arrays.algebra:fft"

    axis: str = Field(description="the dim")
    n: Annotated[int, Field(ge=1)] | None = Field(
        None, description="positions: more than there are are filled with 0, fewer cut off; default: all"
    )
    inverse: bool = Field(False, description="back from frequencies, divided by their number")


class MapOverlap(Algebra):
    """A function of the user's, called with each chunk and ``depth`` places more on both sides, as a numpy array.

    It returns an array of the same shape, of which the places beyond the chunk are cut off. At the ends of the array
    there are no such places (``none``), or they are its values backwards beginning with the last one (``reflect``), the
    last one (``nearest``), those of the other end (``periodic``), or a number. Dims, chunks and coordinates stay.

    Errors: no such dim, or one shorter than ``depth``; another shape or dtype than said fails the task.
    """

    op: ClassVar[str] = "map_overlap"
    home: ClassVar[str] = "arrays.overlap:map_overlap"

    function: Function = Field(description='"module:function"; gets the block, then args as keywords')
    args: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")
    depth: Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        description="dim: places that the function sees beyond the chunk"
    )
    boundary: Literal["none", "reflect", "nearest", "periodic"] | int | float = Field(
        "none", description="what lies beyond the ends of the array"
    )
    dtype: Dtype = Field(description="of the result")


class TreeReduce(Signature):
    """One value of all items: a function of the user's makes one of a list of items, then of what it made, and so on.

    The function must be associative: the items come in order, but which ones come together is not said. Items that were
    dropped are left out. Errors: no items.
    """

    group: ClassVar[str] = "algebra"
    op: ClassVar[str] = "tree_reduce"
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"input": ("items",)}
    gives: ClassVar[str] = "value"
    home: ClassVar[str] = "calls.trees:tree_reduce"

    function: Function = Field(description='"module:function"; gets a list, then args as keywords, and gives one value')
    args: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")
    fan_in: Annotated[int, Field(ge=2)] = Field(8, description="values that one task takes")
