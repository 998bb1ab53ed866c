"""Ops of linear algebra and signal processing, and ops that see values beyond their chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import Axis, Dtype, Function, Signature

__all__ = ["Einsum", "Fft", "MapOverlap", "Matmul", "Qr", "Solve", "Svd", "SvdCompressed", "Tensordot", "TreeReduce"]


class Algebra(Signature):
    """An op from arrays to an array, or to parts that are arrays."""

    family: ClassVar[str] = "algebra"
    distributions: ClassVar = ("dask", "numpy", "xarray")
    gives: ClassVar[str] = "array"


class Matmul(Algebra):
    """The sum of ``left * right`` over one dim that both have.

    The result has the other dims of ``left``, then those that only ``right`` has. A further dim that both have is kept:
    its positions are multiplied pairwise. A missing value makes the sums that contain it missing; whole numbers become
    int64. Errors: no such dim; several shared dims and no ``axis``; lengths or labels that differ.
    """

    op: ClassVar[str] = "matmul"
    inputs: ClassVar = {"left": ("array",), "right": ("array",)}
    home: ClassVar[str] = "arrays.algebra:matmul"

    axis: str | None = Field(None, description="dim to sum over; default: the only one that both have")


class Tensordot(Algebra):
    """The sum of ``left * right`` over dims that both have; the result has the other dims, those of ``left`` first.

    A missing value makes the sums that contain it missing; whole numbers become int64. Errors: a shared dim that is not
    in ``axis``; lengths or labels that differ.
    """

    op: ClassVar[str] = "tensordot"
    inputs: ClassVar = {"left": ("array",), "right": ("array",)}
    home: ClassVar[str] = "arrays.algebra:tensordot"

    axis: Axis | None = Field(None, description="dim or dims to sum over; default: all that both have")


class Einsum(Algebra):
    """A sum of products of arrays by names of dims: ``"time y, y x -> time x"`` sums over y.

    ``subscripts`` names each dim of each input, in the order of its dims, then the dims of the result. A name that the
    input does not have renames the dim at that position: ``"row a, row b -> a b"`` of ``[x, x]`` multiplies x with
    itself. A missing value makes the sums that contain it missing; whole numbers become int64. Errors: a wrong number
    of names; a name in the result that no input has; lengths or labels that differ.
    """

    op: ClassVar[str] = "einsum"
    inputs: ClassVar = {"input": ("array*",)}
    home: ClassVar[str] = "arrays.algebra:einsum"

    subscripts: str = Field(description="dims of each input, separated by commas, -> dims of the result")


class Qr(Algebra):
    """The thin QR decomposition of a matrix: parts ``q`` and ``r`` with ``q @ r == input``.

    For dims (row, col) and k the smaller of their sizes: q (row, component) has orthonormal columns, r (component, col)
    is upper triangular with a diagonal >= 0; both are floats with k components. The columns are rechunked to one chunk.

    Errors: not two dims; missing values.
    """

    op: ClassVar[str] = "qr"
    gives: ClassVar[str] = "parts"
    parts: ClassVar[tuple[str, ...]] = ("q", "r")
    home: ClassVar[str] = "arrays.decompositions:qr"


class Svd(Algebra):
    """The thin singular value decomposition of a matrix: parts ``u``, ``s``, ``v`` with ``u * s @ v == input``.

    For dims (row, col) and k the smaller of their sizes: u (row, component), s (component), v (component, col); floats.
    s is in descending order; the entry of largest magnitude in each column of u is positive. One of the two dims is
    rechunked to one chunk.

    Errors: not two dims; missing values.
    """

    op: ClassVar[str] = "svd"
    gives: ClassVar[str] = "parts"
    parts: ClassVar[tuple[str, ...]] = ("u", "s", "v")
    home: ClassVar[str] = "arrays.decompositions:svd"


class SvdCompressed(Algebra):
    """The ``k`` largest singular values of a matrix and their vectors, by random projection; parts as of ``svd``.

    u (row, component), s (component), v (component, col): floats, with signs as of ``svd``. The input is read
    ``2 * n_power_iter + 2`` times, one chunk per task; its number of rows may be unknown before the run. The same seed
    and step name give the same numbers.

    Errors: not two dims; k larger than one of them; missing values.
    """

    op: ClassVar[str] = "svd_compressed"
    gives: ClassVar[str] = "parts"
    parts: ClassVar[tuple[str, ...]] = ("u", "s", "v")
    home: ClassVar[str] = "arrays.decompositions:svd_compressed"

    k: Annotated[int, Field(ge=1)] = Field(description="number of components")
    axis: Annotated[list[str], Field(min_length=2, max_length=2)] | None = Field(
        None, description="[row, col]: the dims of rows and columns; default: the dims of the array in order"
    )
    n_power_iter: Annotated[int, Field(ge=0, le=1000)] = Field(
        2, description="power iterations; more are needed where singular values decrease slowly"
    )
    n_oversamples: Annotated[int, Field(ge=0)] = Field(10, description="random directions in addition to k")


class Solve(Algebra):
    """The solution x of the linear equations ``left @ x == right``.

    ``left`` is a square matrix. ``right`` has the row dim of ``left`` and may have others; in the result the column dim
    of ``left`` replaces it. Each task gets the whole of ``left``. Errors: ``left`` is not a square matrix; ``right``
    has both of its dims, or neither; a singular matrix.
    """

    op: ClassVar[str] = "solve"
    inputs: ClassVar = {"left": ("array",), "right": ("array",)}
    home: ClassVar[str] = "arrays.algebra:solve"


class Fft(Algebra):
    """The discrete Fourier transform along a dim; complex128, or complex64 of float32.

    The dim ``time`` becomes ``freq_time``, labelled with cycles per position in the order of numpy's fftfreq;
    ``inverse`` turns ``freq_time`` back into ``time``, without labels. The dim is rechunked to one chunk, which
    ``check`` shows. A missing value makes all values along the dim missing. Errors: no such dim; a dim of length 0.
    """

    op: ClassVar[str] = "fft"
    home: ClassVar[str] = "arrays.algebra:fft"

    axis: str = Field(description="the dim")
    n: Annotated[int, Field(ge=1)] | None = Field(
        None, description="length of the transform: the input is cut to it, or padded with 0; default: its length"
    )
    inverse: bool = Field(False, description="the inverse transform, divided by the number of frequencies")


class MapOverlap(Algebra):
    """The results of a function of yours, called with each chunk and ``depth`` positions of its neighbours per side.

    It gets a numpy array and returns one of the same shape, from which the positions beyond the chunk are cut off. At
    the ends of the array ``boundary`` says what takes the place of a neighbour: nothing (``none``), the array mirrored
    (``reflect``, the last value included), its last value (``nearest``), its other end (``periodic``), or a number.
    Dims, chunks and coordinates stay the same.

    Errors: no such dim, or one shorter than ``depth``; a result with a shape or dtype other than declared fails the
    task.
    """

    op: ClassVar[str] = "map_overlap"
    home: ClassVar[str] = "arrays.overlap:map_overlap"

    function: Function = Field(description='"module:function"; gets the block, then args as keywords')
    args: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")
    depth: Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        description="dim: number of positions of the neighbours on each side"
    )
    boundary: Literal["none", "reflect", "nearest", "periodic"] | int | float = Field(
        "none", description="what the function sees beyond the ends of the array"
    )
    dtype: Dtype = Field(description="of the result")

    def function_gets(self) -> tuple[int, tuple[str, ...]]:
        return 1, ()


class TreeReduce(Signature):
    """One value of all items: a function of yours combines lists of items, then lists of its own results, until one is
    left.

    The function must be associative: items come in order, but how they are grouped is not specified. Items that were
    dropped are left out. Errors: no items.
    """

    family: ClassVar[str] = "algebra"
    op: ClassVar[str] = "tree_reduce"
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"input": ("items",)}
    gives: ClassVar[str] = "value"
    home: ClassVar[str] = "calls.trees:tree_reduce"

    function: Function = Field(
        description='"module:function"; gets a list, then args as keywords, and returns one value'
    )
    args: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")
    fan_in: Annotated[int, Field(ge=2)] = Field(8, description="number of values that one task combines")

    def function_gets(self) -> tuple[int, tuple[str, ...]]:
        return 1, ()
