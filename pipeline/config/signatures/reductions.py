"""Ops that reduce dims of an array to fewer values, and running sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.config.signatures.arrays import ArrayOp
from pipeline.config.signatures.base import Axis

__all__ = [
    "All",
    "Any_",
    "Argmax",
    "Argmin",
    "Average",
    "Cumsum",
    "Histogram",
    "Max",
    "Mean",
    "Median",
    "Min",
    "Quantile",
    "Std",
    "Sum",
    "Topk",
    "Var",
]

Fraction = Annotated[int | float, Field(ge=0, le=1)]
Pair = Annotated[list[int | float], Field(min_length=2, max_length=2)]


class Reduction(ArrayOp):
    """A reduction over one dim, several, or all."""

    axis: Axis | None = Field(None, description="dim or dims to reduce over; default: all")
    skipna: bool = Field(True, description="ignore missing values of floats")
    keepdims: bool = Field(False, description="keep the reduced dims with size 1")


class Sum(Reduction):
    """The sum; dtype as in numpy (small integers become int64). The sum of no values is 0.

    The result has the other dims with their coordinates. Errors: no such dim; in the run, a sum of whole numbers
    that 64 bits can't hold.
    """

    op: ClassVar[str] = "sum"
    home: ClassVar[str] = "arrays.reductions:sum"


class Mean(Reduction):
    """The arithmetic mean; integers and booleans become float64. The mean of no values is NaN.

    The result has the other dims with their coordinates. Errors: no such dim.
    """

    op: ClassVar[str] = "mean"
    home: ClassVar[str] = "arrays.reductions:mean"


class Min(Reduction):
    """The smallest value, in the dtype of the array. Errors: no such dim; a dim of length 0."""

    op: ClassVar[str] = "min"
    home: ClassVar[str] = "arrays.reductions:min"


class Max(Reduction):
    """The largest value, in the dtype of the array. Errors: no such dim; a dim of length 0."""

    op: ClassVar[str] = "max"
    home: ClassVar[str] = "arrays.reductions:max"


class _Deviation(Reduction):
    ddof: Annotated[int, Field(ge=0)] = Field(
        description="the divisor is the count minus ddof; 0 (numpy) or 1 (pandas), no default"
    )


class Std(_Deviation):
    """The standard deviation; integers become float64. Errors: no such dim; no ``ddof``."""

    op: ClassVar[str] = "std"
    home: ClassVar[str] = "arrays.reductions:std"


class Var(_Deviation):
    """The variance; integers become float64. Errors: no such dim; no ``ddof``."""

    op: ClassVar[str] = "var"
    home: ClassVar[str] = "arrays.reductions:var"


class Any_(Reduction):  # noqa: N801 - typing has Any
    """Whether any value is true, as bool; of no values false. Errors: no such dim."""

    op: ClassVar[str] = "any"
    home: ClassVar[str] = "arrays.reductions:any"


class All(Reduction):
    """Whether all values are true, as bool; of no values true. Errors: no such dim."""

    op: ClassVar[str] = "all"
    home: ClassVar[str] = "arrays.reductions:all"


class Average(ArrayOp):
    """The weighted mean, ``sum(x * w) / sum(w)`` over ``axis``, as floats; weights of missing values are ignored.

    The dims of ``weights`` are among those of ``input``, with equal labels. Errors: other dims or labels.
    """

    op: ClassVar[str] = "average"
    inputs: ClassVar = {"input": ("array",), "weights": ("array",)}
    home: ClassVar[str] = "arrays.reductions:average"

    axis: Axis | None = Field(None, description="dim or dims to reduce over; default: all")
    skipna: bool = Field(True, description="ignore missing values of floats")


class Quantile(ArrayOp):
    """Quantiles by linear interpolation, float64.

    A list ``q`` adds a first dim ``quantile``, labelled with ``q``. The dims are rechunked to one chunk, which
    ``check`` shows. Errors: no such dim.
    """

    op: ClassVar[str] = "quantile"
    home: ClassVar[str] = "arrays.quantiles:quantile"

    q: Fraction | Annotated[list[Fraction], Field(min_length=1)] = Field(description="one or several, each in [0, 1]")
    axis: Axis = Field(description="dim or dims to reduce over")
    skipna: bool = Field(True, description="ignore missing values")


class Median(Reduction):
    """The middle value, or the mean of the two middle values of an even number; of no values NaN.

    Floats keep their dtype, others become float64. The dims are rechunked to one chunk, which ``check`` shows.
    Errors: no such dim; complex numbers.
    """

    op: ClassVar[str] = "median"
    home: ClassVar[str] = "arrays.quantiles:median"


class Histogram(ArrayOp):
    """The number of values in each bin, int64: a first dim ``bin``, then the dims that are not counted over.

    A bin includes its left edge and excludes its right edge; the last bin includes both. Missing values and values
    outside all bins are not counted. ``bin`` is labelled with the left edges, its coordinate ``right`` holds the right
    edges. Edges must be known before the run, so a number of bins needs ``range``. Errors: no such dim; edges that do
    not increase.
    """

    op: ClassVar[str] = "histogram"
    home: ClassVar[str] = "arrays.histograms:histogram"

    bins: Annotated[int, Field(ge=1, le=1_000_000)] | Annotated[list[int | float], Field(min_length=2)] = Field(
        description="number of bins of equal width; or all edges, increasing"
    )
    range: Pair | None = Field(None, description="for a number of bins: left edge of the first, right edge of the last")
    axis: Axis | None = Field(None, description="dim or dims to count over; default: all")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        if isinstance(self.bins, int) and self.range is None:
            return [("bins", "a number of bins needs range: [low, high]; the edges must be known before the run")]
        if not isinstance(self.bins, int) and self.range is not None:
            return [("range", "has no effect where bins is a list of edges; it is for a number of bins")]
        return []


class _ArgExtreme(ArrayOp):
    axis: str = Field(description="the dim")
    skipna: bool = Field(True, description="ignore missing values; false: return the position of the first missing one")
    keepdims: bool = Field(False, description="keep the dim with size 1")


class Argmax(_ArgExtreme):
    """The position, counted from 0, of the first largest value along a dim, int64.

    Errors: no such dim, a dim of length 0; in the run, where all values along the dim are missing.
    """

    op: ClassVar[str] = "argmax"
    home: ClassVar[str] = "arrays.scans:argmax"


class Argmin(_ArgExtreme):
    """The position, counted from 0, of the first smallest value along a dim, int64.

    Errors: no such dim, a dim of length 0; in the run, where all values along the dim are missing.
    """

    op: ClassVar[str] = "argmin"
    home: ClassVar[str] = "arrays.scans:argmin"


class Topk(ArrayOp):
    """The ``k`` largest values along a dim, largest first; for a negative ``k`` the smallest, smallest first.

    Missing values come last. A dim shorter than ``k`` gives all its values. The dim loses its labels.
    Errors: no such dim; complex numbers.
    """

    op: ClassVar[str] = "topk"
    home: ClassVar[str] = "arrays.scans:topk"

    k: int = Field(description="how many of the largest; -k: of the smallest")
    axis: str = Field(description="the dim")


class Cumsum(ArrayOp):
    """The cumulative sum along a dim; same dims and coordinates, small integers become int64.

    A missing value counts as 0: its position holds the sum so far. Errors: no such dim; in the run, a sum of whole
    numbers that 64 bits can't hold.
    """

    op: ClassVar[str] = "cumsum"
    home: ClassVar[str] = "arrays.scans:cumsum"

    axis: str = Field(description="the dim")
    skipna: bool = Field(True, description="ignore missing values of floats; false: all sums after one are missing")
