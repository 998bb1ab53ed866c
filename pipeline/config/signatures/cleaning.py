"""Ops that clean the columns and rows of frames, and repartition them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import AggExpr, Columns, Function, Type
from pipeline.config.signatures.frames import FrameOp, NameOrNames, listed_names

__all__ = [
    "Astype",
    "Dropna",
    "Fillna",
    "MapPartitions",
    "Rename",
    "Repartition",
    "RollingFrame",
    "SetIndex",
]

Scalar = bool | int | float | str


class Rename(FrameOp):
    """The frame with some columns renamed. Errors: no such column; two columns with the same name."""

    op: ClassVar[str] = "rename"
    home: ClassVar[str] = "frames.cleaning:rename"

    columns: dict[str, str] = Field(description="old name: new name", min_length=1)

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if columns is None:
            return {"input": None}
        old = {new: name for name, new in self.columns.items()}
        return {"input": frozenset(old.get(name, name) for name in columns).union(self.columns)}


class Astype(FrameOp):
    """The frame with some columns converted to other types; a value that does not fit fails the run with its place.

    Text can be converted to numbers, booleans, times and durations, and anything to text. Errors: no such column or
    type; two types without a conversion.
    """

    op: ClassVar[str] = "astype"
    home: ClassVar[str] = "frames.cleaning:astype"

    columns: dict[str, Type] = Field(description="column: type", min_length=1)

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": None if columns is None else columns.union(self.columns)}


class Fillna(FrameOp):
    """The frame with missing values replaced; types stay the same.

    A single value fills all columns of its kind (a number: all columns of numbers). Errors: no such column; a value
    that does not fit its column.
    """

    op: ClassVar[str] = "fillna"
    home: ClassVar[str] = "frames.cleaning:fillna"

    value: Scalar | Annotated[dict[str, Scalar], Field(min_length=1)] = Field(
        description="one value, or column: value; times as text"
    )

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if columns is None:
            return {"input": None}
        return {"input": columns.union(self.value) if isinstance(self.value, dict) else columns}


class Dropna(FrameOp):
    """The rows without missing values. Errors: no such column."""

    op: ClassVar[str] = "dropna"
    home: ClassVar[str] = "frames.cleaning:dropna"

    subset: NameOrNames | None = Field(None, description="columns to look at; default: all")
    how: Literal["any", "all"] = Field("any", description="drop a row if any of the columns is missing, or if all are")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if columns is None or self.subset is None:
            return {"input": None}
        return {"input": columns.union(listed_names(self.subset))}


class SetIndex(FrameOp):
    """The rows sorted by some columns (ties by the remaining columns), with equal keys in the same partition.

    Frames have no index: this is for map_partitions, which then gets all rows of a key together. Errors: no such
    column.
    """

    op: ClassVar[str] = "set_index"
    home: ClassVar[str] = "frames.sort:set_index"

    keys: NameOrNames = Field(description="columns to sort and partition by")


class Repartition(FrameOp):
    """The same rows, in the same order, in other partitions.

    With ``count_rows`` the rows are spread evenly, so that frames with the same number of rows are partitioned the same
    way. ``true`` counts the rows in the run if the metadata of the files do not give their number. A number declares
    how many rows there are, so that arrays made of the frame have a known length; the run fails if it is wrong.
    Errors: neither ``npartitions`` nor ``count_rows``.
    """

    op: ClassVar[str] = "repartition"
    home: ClassVar[str] = "frames.repartition:repartition"

    npartitions: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="number of partitions; default: as in the input"
    )
    count_rows: bool | Annotated[int, Field(ge=0)] = Field(
        False, description="count the rows and spread them evenly; or the number of rows"
    )

    def misfits(self, kinds: Any) -> list[tuple[str, str]]:
        if self.npartitions is None and self.count_rows is False:
            return [("", "needs npartitions, or count_rows: true to spread the rows evenly")]
        return []

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": columns}


class MapPartitions(FrameOp):
    """The results of a function of yours, called with each partition; both are frames of pandas, polars or Arrow.

    What it gets says ``frames``, by default pandas; its columns may have missing values.

    Results should not depend on how rows are partitioned, except after op set_index, which puts equal keys together.
    Errors: columns other than declared, or values that do not fit their types, fail the task.
    """

    op: ClassVar[str] = "map_partitions"
    home: ClassVar[str] = "frames.map_partitions:map_partitions"

    function: Function = Field(description='"module:function"; gets the partition, then args as keywords')
    args: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")
    columns: dict[str, Type] = Field(description="column: type, of the result", min_length=1)

    def function_gets(self) -> tuple[int, tuple[str, ...]]:
        return 1, ()


class RollingFrame(FrameOp):
    """The rows sorted by ``by`` and ``on``, with added columns: aggregates of the window that ends at each row.

    Ties are sorted by the remaining columns. Sums of whole numbers are int64 (of unsigned ones uint64) and exact, of
    decimals decimals; other sums, means, medians, quantiles, std and var are floats. Counts are int64, any and all
    bool; min, max, first and last keep the type.

    Errors: no such column; an aggregate that is not defined for its values.
    """

    op: ClassVar[str] = "rolling"
    home: ClassVar[str] = "frames.rolling:rolling"

    on: str = Field(description="column to sort by")
    window: Annotated[int, Field(ge=1)] | str = Field(
        description="number of rows, or a duration (7d), which ends at the time of the row"
    )
    columns: dict[str, AggExpr] = Field(description="column: aggregate, as n: count() or x: mean(x)", min_length=1)
    by: NameOrNames | None = Field(None, description="columns that define groups")
    center: bool = Field(
        False, description="put the row in the middle of its window; an even window has one row more before it"
    )
    min_periods: Annotated[int, Field(ge=1)] | None = Field(
        None, description="number of values a window needs; default: all of its rows; for a duration: one"
    )
