"""Ops that take an array apart by chunks, labels, groups and windows; the base classes of all array ops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import Chunks, CoordExpr, Dtype, Function, Names, Signature

__all__ = [
    "Aggregating",
    "Align",
    "ArrayOp",
    "Coarsen",
    "GroupbyArray",
    "MapBlocks",
    "Rechunk",
    "Resample",
    "Rolling",
    "Sel",
    "SetLabels",
    "Take",
]

Aggregation = Literal["sum", "mean", "min", "max", "count", "first", "last", "any", "all", "std", "var"]
Label = str | int | float | bool
Labels = Label | Annotated[list[Label | None], Field(min_length=2, max_length=2)]
Positive = Annotated[int, Field(ge=1)]


class ArrayOp(Signature):
    """An op from one array to one array."""

    family: ClassVar[str] = "arrays"
    distributions: ClassVar = ("dask", "numpy", "xarray")
    gives: ClassVar[str] = "array"


class Aggregating(ArrayOp):
    """An op that combines several values into one by the reduction ``agg``."""

    agg: Aggregation = Field(description="the reduction")
    ddof: Annotated[int, Field(ge=0)] | None = Field(
        None, description="std, var: the divisor is the count minus ddof; 0 (numpy) or 1 (pandas), no default"
    )

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        if self.agg in ("std", "var"):
            return [("agg", f"{self.agg} needs ddof: 0 (numpy) or 1 (pandas)")] if self.ddof is None else []
        return [("ddof", f"has no effect on {self.agg}; only std and var take it")] if self.ddof is not None else []


class Rechunk(ArrayOp):
    """The same array with other chunk sizes.

    A dim whose chunk sizes are unknown until run time can become one chunk (-1). Errors: no such dim; sizes that do not
    add up to the length of the dim.
    """

    op: ClassVar[str] = "rechunk"
    home: ClassVar[str] = "arrays.blocks:rechunk"

    chunks: Chunks = Field(description="dim: size, -1 for the whole dim, auto, or a list of all sizes")


class MapBlocks(ArrayOp):
    """The results of a function of yours, called with each chunk as a numpy array; it returns one of the same shape.

    With ``dims`` the result has these dims in this order. A dim that is left out must be a single chunk, and the
    function removes it. Dims that stay keep their coordinates. Errors: a result with a shape or dtype other than
    declared fails the task.
    """

    op: ClassVar[str] = "map_blocks"
    home: ClassVar[str] = "arrays.blocks:map_blocks"

    function: Function = Field(description='"module:function"; gets the block, then args as keywords')
    args: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")
    dtype: Dtype = Field(description="of the result")
    dims: Names | None = Field(None, description="of the result; default: the input's")

    def function_gets(self) -> tuple[int, tuple[str, ...]]:
        return 1, ()


class Sel(ArrayOp):
    """The part of an array that labels select.

    A single label removes its dim. ``[start, stop]`` keeps it, and includes both ends (null: open). ``"2001-06"``
    selects the whole month. Errors: no such dim or label; a dim without labels.
    """

    op: ClassVar[str] = "sel"
    home: ClassVar[str] = "arrays.labelled:sel"

    labels: dict[str, Labels] = Field(description="dim: label, or [start, stop], both ends included", min_length=1)
    method: Literal["nearest", "pad", "backfill"] | None = Field(
        None, description="for a single label that does not exist: take the nearest, the one before, the one after"
    )


class Take(ArrayOp):
    """For each position along the dims of ``like``, the part of ``input`` whose label an expression computes.

    ``{input: clim, at: {month: "month(time)"}, like: monthly}`` looks up each time of ``monthly`` in the climatology
    ``clim``: where clim has dims (month, …), the result has (time, …) with the labels of time. Errors: a label that
    ``input`` does not have.
    """

    op: ClassVar[str] = "take"
    inputs: ClassVar = {"input": ("array",), "like": ("array",)}
    home: ClassVar[str] = "arrays.labelled:take"

    at: dict[str, CoordExpr] = Field(description="dim of input: expression over coordinates of like", min_length=1)


class Align(ArrayOp):
    """The array with exactly the labels of ``like`` along some dims, in their order, where its own are near them.

    For each label of ``like`` the nearest one of ``input`` is taken, which must be within the tolerance: labels that
    differ by rounding become equal, so that both arrays can be used together. Positions of ``input`` that are near no
    label of ``like`` are left out. Errors: no such dim; a dim without labels; a label of ``like`` without a near one.
    """

    op: ClassVar[str] = "align"
    inputs: ClassVar = {"input": ("array",), "like": ("array",)}
    home: ClassVar[str] = "arrays.label_changes:align"

    tolerance: dict[str, int | float | str] = Field(
        description="dim: largest difference of labels that are the same (1e-6; of times: 12h)", min_length=1
    )


class SetLabels(ArrayOp):
    """The array with other labels: listed, computed from the old ones, or none.

    ``{by: {latitude: "round(latitude, 4)"}}`` computes labels of a dim from coordinates along it. Errors: no such dim
    or coordinate; another number of labels than positions.
    """

    op: ClassVar[str] = "set_labels"
    home: ClassVar[str] = "arrays.label_changes:set_labels"

    labels: dict[str, list[Label]] = Field(default_factory=dict, description="dim: all its labels, in order")
    by: dict[str, CoordExpr] = Field(default_factory=dict, description="dim: expression over coordinates along it")
    drop: Names | None = Field(
        None, description="coordinates to leave out: dims, which are then without labels, or others"
    )

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        if not (self.labels or self.by or self.drop):
            return [("", "changes nothing: give labels, by or drop")]
        twice = sorted(set(self.labels) & set(self.by))
        return [("by", f"{twice[0]!r} has labels, too; write one of both")] if twice else []


class GroupbyArray(Aggregating):
    """Reductions of groups that an expression over one coordinate defines.

    ``by: "month(time)"`` replaces the dim time by a dim month at the same place, labelled with the sorted groups; the
    other dims stay. The dtype is that of the reduction. Errors: an expression with no coordinate or several.
    """

    op: ClassVar[str] = "groupby"
    home: ClassVar[str] = "arrays.labelled:groupby"

    by: CoordExpr = Field(description="expression over one coordinate")
    skipna: bool = Field(True, description="ignore missing values of floats")


class Resample(Aggregating):
    """Reductions of regular periods of a time coordinate; labels are the starts of the periods.

    A period without data gives NaN; its sum and count are 0. Errors: no such dim; labels that are not times.
    """

    op: ClassVar[str] = "resample"
    home: ClassVar[str] = "arrays.labelled:resample"

    rule: dict[str, str] = Field(description="dim: period as in pandas (MS, D, 6h)", min_length=1, max_length=1)
    skipna: bool = Field(True, description="ignore missing values of floats")


class Rolling(Aggregating):
    """Reductions of a moving window: floats with the same dims, shape and coordinates.

    A window with fewer than ``min_periods`` values gives NaN. Errors: no such dim; a window longer than the dim.
    """

    op: ClassVar[str] = "rolling"
    home: ClassVar[str] = "arrays.windows:rolling"

    window: dict[str, Positive] = Field(description="dim: number of positions", min_length=1, max_length=1)
    center: bool = Field(False, description="whether a label is the middle of its window; default: the end")
    min_periods: Positive | None = Field(None, description="number of values a window needs; default: all of them")


class Coarsen(Aggregating):
    """Reductions of adjacent windows: one value for every ``window`` positions along a dim.

    Several dims make one window together. Its label is the mean of its labels if these are numbers or times, else the
    first one. The dtype is that of the reduction. Errors: no such dim; a length that is not a multiple of the window.
    """

    op: ClassVar[str] = "coarsen"
    home: ClassVar[str] = "arrays.windows:coarsen"

    window: dict[str, Positive] = Field(description="dim: number of positions", min_length=1)
    boundary: Literal["exact", "trim"] = Field(
        "exact", description="trim: drop positions at the end that do not fill a window"
    )
    skipna: bool = Field(True, description="ignore missing values of floats")
