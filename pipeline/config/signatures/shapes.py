"""Ops that move an array's values, order them, or put arrays together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.arrays import Aggregating, ArrayOp, Reduction
from pipeline.config.signatures.base import Axis, Names

__all__ = [
    "Argmax",
    "Argmin",
    "Coarsen",
    "Concatenate",
    "Cumsum",
    "Histogram",
    "Median",
    "Pad",
    "Reshape",
    "Roll",
    "Stack",
    "Topk",
    "Transpose",
]

Count = Annotated[int, Field(ge=0)]
Added = Annotated[int, Field(ge=0, le=10_000_000)]
Positive = Annotated[int, Field(ge=1)]
Pair = Annotated[list[int | float], Field(min_length=2, max_length=2)]


class Median(Reduction):
    """The middle value, of an even number the mean of the two middle ones; of nothing NaN.

    Floats keep their dtype, others become float64. The axis is rechunked to one chunk, which ``check`` shows.
    Errors: no such dim; complex numbers.
    """

    op: ClassVar[str] = "median"
    home: ClassVar[str] = "arrays.quantiles:median"


class Histogram(ArrayOp):
    """How many values lie in each of some bins: int64, a first dim ``bin``, then the dims that are not counted over.

    A bin holds its left edge and not its right one, the last bin both. Missing values and those outside count nowhere.
    The labels of ``bin`` are the left edges, its coordinate ``right`` holds the right ones. They are known before the
    run, so a number of bins needs ``range``. Errors: no such dim; edges that do not rise.
    """

    op: ClassVar[str] = "histogram"
    home: ClassVar[str] = "arrays.histograms:histogram"

    bins: Annotated[int, Field(ge=1, le=1_000_000)] | Annotated[list[int | float], Field(min_length=2)] = Field(
        description="how many, of equal width; or all edges, rising"
    )
    range: Pair | None = Field(None, description="for a number of bins: left edge of the first, right edge of the last")
    axis: Axis | None = Field(None, description="dim or dims to count over; default: all")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        if isinstance(self.bins, int) and self.range is None:
            return [("bins", "a number of bins needs range: [low, high]; the edges must be known before the run")]
        if not isinstance(self.bins, int) and self.range is not None:
            return [("range", "says nothing beside the edges in bins; it is for a number of bins")]
        return []


class Cumsum(ArrayOp):
    """The sum of all positions up to each one; same dims and coordinates, small integers become int64.

    A missing value adds nothing; the sum up to it stands in its place. Errors: no such dim.
    """

    op: ClassVar[str] = "cumsum"
    home: ClassVar[str] = "arrays.scans:cumsum"

    axis: str = Field(description="the dim")
    skipna: bool = Field(True, description="leave out missing values of floats; false: all after one are missing")


class _Position(ArrayOp):
    axis: str = Field(description="the dim")
    skipna: bool = Field(True, description="leave out missing values; false: the first of them is what is found")
    keepdims: bool = Field(False, description="keep the dim with size 1")


class Argmax(_Position):
    """The position, counted from 0, of the first largest value along a dim, int64.

    Errors: no such dim, a dim of length 0; in the run, where all values along it are missing.
    """

    op: ClassVar[str] = "argmax"
    home: ClassVar[str] = "arrays.scans:argmax"


class Argmin(_Position):
    """The position, counted from 0, of the first smallest value along a dim, int64.

    Errors: no such dim, a dim of length 0; in the run, where all values along it are missing.
    """

    op: ClassVar[str] = "argmin"
    home: ClassVar[str] = "arrays.scans:argmin"


class Topk(ArrayOp):
    """The ``k`` largest values along a dim, largest first; for a negative ``k`` the smallest, smallest first.

    Missing values come last; where the dim is shorter than ``k``, all its values. It has no labels then.
    Errors: no such dim; complex numbers.
    """

    op: ClassVar[str] = "topk"
    home: ClassVar[str] = "arrays.scans:topk"

    k: int = Field(description="how many of the largest; -k: of the smallest")
    axis: str = Field(description="the dim")


class Transpose(ArrayOp):
    """The same array with its dims in another order. Errors: not all of its dims, each once."""

    op: ClassVar[str] = "transpose"
    home: ClassVar[str] = "arrays.reshaping:transpose"

    dims: Names | None = Field(None, description="all dims in their new order; default: the opposite one")


class Reshape(ArrayOp):
    """The values along some dims, read in C order (the last fastest), under new dims in the place of the first.

    ``{axis: time, dims: {year: -1, month: 12}}`` splits a dim, ``{axis: [y, x], dims: {cell: -1}}`` joins two. The old
    dims' labels are lost. Chunks that don't hold runs of the values are rechunked, which ``check`` shows.
    Errors: no such dim; sizes that don't multiply to the old ones.
    """

    op: ClassVar[str] = "reshape"
    home: ClassVar[str] = "arrays.reshaping:reshape"

    dims: dict[str, Annotated[int, Field(ge=-1)]] = Field(
        description="new dim: size; -1 for one of them: whatever is left"
    )
    axis: Axis | None = Field(None, description="dims that are replaced, in the order to be read; default: all")


class Stack(ArrayOp):
    """Arrays of the same dims, lengths and labels, one beside the other along a new first dim.

    Of gathered copies (``tas[*]``) the values of the matrix key are the labels of the new dim; of several keys the
    texts that name the copies, with a coordinate for each key. Errors: dims, lengths or labels that differ.
    """

    op: ClassVar[str] = "stack"
    inputs: ClassVar = {"input": ("array*",)}
    home: ClassVar[str] = "arrays.stacking:stack"

    dim: str = Field(description="name of the new dim", min_length=1)


class Concatenate(ArrayOp):
    """Arrays of the same dims one after the other along one of them, where their lengths may differ.

    Labels along it are joined where all have them. Errors: no such dim; other lengths or labels along the other dims.
    """

    op: ClassVar[str] = "concatenate"
    inputs: ClassVar = {"input": ("array*",)}
    home: ClassVar[str] = "arrays.stacking:concatenate"

    axis: str = Field(description="the dim")


class Pad(ArrayOp):
    """The array with positions added before and after it along dims, which lose their labels.

    Modes are numpy's: ``constant``; ``edge``, the outermost value; ``reflect``, mirrored at it; ``symmetric``, mirrored
    beside it; ``wrap``, from the other end. Errors: no such dim; a constant that the dtype does not hold.
    """

    op: ClassVar[str] = "pad"
    home: ClassVar[str] = "arrays.reshaping:pad"

    pad_width: dict[str, Annotated[list[Added], Field(min_length=2, max_length=2)]] = Field(
        description="dim: [before, after]", min_length=1
    )
    mode: Literal["constant", "edge", "reflect", "symmetric", "wrap"] = Field("constant", description="what is added")
    constant_values: int | float = Field(0, description="constant: the value, in the array's dtype")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        if self.mode == "constant" or "constant_values" not in self.model_fields_set:
            return []
        return [("constant_values", f"says nothing about {self.mode}; it is for constant")]


class Roll(ArrayOp):
    """The values moved on along dims, those beyond the end coming in at the start; labels stay where they are.

    Errors: no such dim.
    """

    op: ClassVar[str] = "roll"
    home: ClassVar[str] = "arrays.reshaping:roll"

    shift: dict[str, int] = Field(description="dim: positions, backwards where negative", min_length=1)


class Coarsen(Aggregating):
    """Aggregates of windows side by side: along each dim of ``window`` one value for so many positions.

    Several dims make one window together. Labels are the means of a window's, where they are numbers or times, else the
    first. dtype as the reduction's. Errors: no such dim; a length that is no multiple of the window.
    """

    op: ClassVar[str] = "coarsen"
    home: ClassVar[str] = "arrays.windows:coarsen"

    window: dict[str, Positive] = Field(description="dim: positions", min_length=1)
    boundary: Literal["exact", "trim"] = Field(
        "exact", description="trim: what is left at the end, shorter than a window, is left out"
    )
    skipna: bool = Field(True, description="leave out missing values of floats")
