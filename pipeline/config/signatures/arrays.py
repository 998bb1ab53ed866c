"""Ops from arrays to arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import Axis, Chunks, CoordExpr, Dtype, Function, Names, Signature

__all__ = [
    "All",
    "Any_",
    "Average",
    "GroupbyArray",
    "MapBlocks",
    "Max",
    "Mean",
    "Min",
    "Quantile",
    "Rechunk",
    "Resample",
    "Rolling",
    "Sel",
    "Std",
    "Sum",
    "Svd",
    "Take",
    "Var",
]

Aggregation = Literal["sum", "mean", "min", "max", "count", "first", "last", "any", "all", "std", "var"]
Fraction = Annotated[int | float, Field(ge=0, le=1)]
Label = str | int | float | bool
Labels = Label | Annotated[list[Label | None], Field(min_length=2, max_length=2)]


class ArrayOp(Signature):
    """An op from one array to one."""

    group: ClassVar[str] = "arrays"
    gives: ClassVar[str] = "array"


class Aggregating(ArrayOp):
    """An op that makes one value of several by ``agg``."""

    agg: Aggregation = Field(description="how several values become one")
    ddof: Annotated[int, Field(ge=0)] | None = Field(
        None, description="std, var: taken from the count in the divisor: 0 (numpy) or 1 (pandas); no default"
    )

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        if self.agg in ("std", "var"):
            return [("agg", f"{self.agg} needs ddof: 0 (numpy) or 1 (pandas)")] if self.ddof is None else []
        return [("ddof", f"says nothing about {self.agg}; it is for std and var")] if self.ddof is not None else []


class Reduction(ArrayOp):
    """A reduction over one dim, several, or all."""

    axis: Axis | None = Field(None, description="dim or dims to reduce over; default: all")
    skipna: bool = Field(True, description="leave out missing values of floats")
    keepdims: bool = Field(False, description="keep the reduced dims with size 1")


class Sum(Reduction):
    """The sum; dtype as numpy's (small integers become int64). A sum of nothing is 0.

    The result has the other dims with their coordinates. Errors: no such dim.
    """

    op: ClassVar[str] = "sum"
    home: ClassVar[str] = "arrays.reductions:sum"


class Mean(Reduction):
    """The arithmetic mean; integers and booleans become float64. The mean of nothing is NaN.

    The result has the other dims with their coordinates. Errors: no such dim.
    """

    op: ClassVar[str] = "mean"
    home: ClassVar[str] = "arrays.reductions:mean"


class Min(Reduction):
    """The smallest value, in the array's dtype. Errors: no such dim; a dim of length 0."""

    op: ClassVar[str] = "min"
    home: ClassVar[str] = "arrays.reductions:min"


class Max(Reduction):
    """The largest value, in the array's dtype. Errors: no such dim; a dim of length 0."""

    op: ClassVar[str] = "max"
    home: ClassVar[str] = "arrays.reductions:max"


class _Spread(Reduction):
    ddof: Annotated[int, Field(ge=0)] = Field(
        description="what is taken from the count in the divisor: 0 (numpy) or 1 (pandas); there is no default"
    )


class Std(_Spread):
    """The standard deviation; integers become float64. Errors: no such dim; no ``ddof``."""

    op: ClassVar[str] = "std"
    home: ClassVar[str] = "arrays.reductions:std"


class Var(_Spread):
    """The variance; integers become float64. Errors: no such dim; no ``ddof``."""

    op: ClassVar[str] = "var"
    home: ClassVar[str] = "arrays.reductions:var"


class _Logical(ArrayOp):
    axis: Axis | None = Field(None, description="dim or dims to reduce over; default: all")
    skipna: bool = Field(True, description="leave out missing values of floats")
    keepdims: bool = Field(False, description="keep the reduced dims with size 1")


class Any_(_Logical):  # noqa: N801 - typing has Any
    """Whether any value is true, as bool; of nothing false. Errors: no such dim."""

    op: ClassVar[str] = "any"
    home: ClassVar[str] = "arrays.reductions:any"


class All(_Logical):
    """Whether all values are true, as bool; of nothing true. Errors: no such dim."""

    op: ClassVar[str] = "all"
    home: ClassVar[str] = "arrays.reductions:all"


class Average(ArrayOp):
    """The weighted mean: ``sum(x * w) / sum(w)`` over ``axis``, floats; where ``x`` is missing, so is its weight.

    The dims of ``weights`` are among those of ``input``, with equal coordinates. Errors: other dims or coordinates.
    """

    op: ClassVar[str] = "average"
    inputs: ClassVar = {"input": ("array",), "weights": ("array",)}
    home: ClassVar[str] = "arrays.reductions:average"

    axis: Axis | None = Field(None, description="dim or dims to reduce over; default: all")
    skipna: bool = Field(True, description="leave out missing values of floats")


class Quantile(ArrayOp):
    """Quantiles by linear interpolation, float64.

    A list of ``q`` gives a first dim ``quantile`` with ``q`` as its labels. The axis is rechunked to one chunk, which
    ``check`` shows. Errors: no such dim.
    """

    op: ClassVar[str] = "quantile"
    home: ClassVar[str] = "arrays.quantiles:quantile"

    q: Fraction | Annotated[list[Fraction], Field(min_length=1)] = Field(description="one or several, each in [0, 1]")
    axis: Axis = Field(description="dim or dims to reduce over")
    skipna: bool = Field(True, description="leave out missing values")


class Rechunk(ArrayOp):
    """The same array in other chunks; a dim whose length only the run knows can become one chunk (-1).

    Errors: no such dim; sizes that don't add up to the dim.
    """

    op: ClassVar[str] = "rechunk"
    home: ClassVar[str] = "arrays.blocks:rechunk"

    chunks: Chunks = Field(description="dim: size, -1 for the whole dim, auto, or all sizes")


class Svd(ArrayOp):
    """The thin singular value decomposition of a matrix: parts ``u``, ``s``, ``v`` with ``u * s @ v == input``.

    For dims (row, col) and k = min of their sizes: u (row, component), s (component), v (component, col), floats; s
    falls; the largest entry of each column of u in size is positive. One dim must be a single chunk: it is rechunked.

    Errors: not two dims; missing values.
    """

    op: ClassVar[str] = "svd"
    gives: ClassVar[str] = "parts"
    parts: ClassVar[tuple[str, ...]] = ("u", "s", "v")
    home: ClassVar[str] = "arrays.decompositions:svd"


class Sel(ArrayOp):
    """A part of an array by the labels of its coordinates.

    A single label drops its dim; ``[start, stop]`` keeps it, both ends included (null: open); ``"2001-06"`` means that
    month. Errors: no such dim or label; a dim without coordinates.
    """

    op: ClassVar[str] = "sel"
    home: ClassVar[str] = "arrays.labelled:sel"

    labels: dict[str, Labels] = Field(description="dim: label, or [start, stop], both ends included", min_length=1)
    method: Literal["nearest", "pad", "backfill"] | None = Field(
        None, description="for single labels that are not there: the nearest, the one before, the one after"
    )


class Take(ArrayOp):
    """For each place along the dims of ``like`` the slab of ``input`` that an expression over its coordinates names.

    ``{input: clim, at: {month: "month(time)"}, like: monthly}`` gives the climatology of each time: dims (time, …)
    with time's labels, where clim has (month, …). Errors: a label that ``input`` doesn't have.
    """

    op: ClassVar[str] = "take"
    inputs: ClassVar = {"input": ("array",), "like": ("array",)}
    home: ClassVar[str] = "arrays.labelled:take"

    at: dict[str, CoordExpr] = Field(description="dim of input: expression over coordinates of like", min_length=1)


class GroupbyArray(Aggregating):
    """Aggregates of the groups that an expression over one coordinate makes.

    ``by: "month(time)"`` replaces the dim time by month, in its place, with the groups as sorted labels; the other
    dims stay. dtype as the reduction's. Errors: an expression of no or several coordinates.
    """

    op: ClassVar[str] = "groupby"
    home: ClassVar[str] = "arrays.labelled:groupby"

    by: CoordExpr = Field(description="expression over one coordinate")
    skipna: bool = Field(True, description="leave out missing values of floats")


class Resample(Aggregating):
    """Aggregates of regular periods of a time coordinate; labels are the starts of the periods.

    A period without data gives NaN, its sum and count 0. Errors: no such dim; its labels are no times.
    """

    op: ClassVar[str] = "resample"
    home: ClassVar[str] = "arrays.labelled:resample"

    rule: dict[str, str] = Field(description="dim: period, as pandas writes it (MS, D, 6h)", min_length=1, max_length=1)
    skipna: bool = Field(True, description="leave out missing values of floats")


class Rolling(Aggregating):
    """Aggregates of a moving window; same dims, shape and coordinates, floats.

    Where a window has fewer than ``min_periods`` values the result is NaN.
    Errors: no such dim; a window longer than it.
    """

    op: ClassVar[str] = "rolling"
    home: ClassVar[str] = "arrays.windows:rolling"

    window: dict[str, Annotated[int, Field(ge=1)]] = Field(description="dim: positions", min_length=1, max_length=1)
    center: bool = Field(False, description="whether the label is the window's middle, not its end")
    min_periods: Annotated[int, Field(ge=1)] | None = Field(
        None, description="values a window needs; default: all of them"
    )


class MapBlocks(ArrayOp):
    """A function of the user's, called with each chunk as a numpy array; it returns one of the same shape.

    With ``dims`` the result has these dims in this order; a dim that is left out is gone from each chunk, and must be
    a single chunk. Coordinates of the dims that stay are kept. Errors: another shape or dtype than said fails the task.
    """

    op: ClassVar[str] = "map_blocks"
    home: ClassVar[str] = "arrays.blocks:map_blocks"

    function: Function = Field(description='"module:function"; gets the block, then args as keywords')
    args: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")
    dtype: Dtype = Field(description="of the result")
    dims: Names | None = Field(None, description="of the result; default: the input's")
