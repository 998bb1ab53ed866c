"""Ops that aggregate frames: by groups, by periods of time, by column; labels and columns for known values."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import AggExpr, ColumnExpr, Columns
from pipeline.config.signatures.frames import FrameOp, NameOrNames, listed_names, names_in

__all__ = ["Cut", "Describe", "Dummies", "GroupbyFrame", "Pivot", "ResampleFrame", "ValueCounts"]

Known = Annotated[list[Any], Field(min_length=1)] | Annotated[dict[str, Any], Field(min_length=1)]


class GroupbyFrame(FrameOp):
    """One row per group: the keys of the group, then the aggregates, in the order written.

    Groups are in the order of their keys; missing keys form the last one. Without keys (``by: []``) there is one row,
    even for an empty frame. Counts are int64, means float64, sums exact but for floats. Errors: no such column; a sum
    that its type can't hold.
    """

    op: ClassVar[str] = "groupby"
    home: ClassVar[str] = "frames.groupby:groupby"

    by: str | list[str] | dict[str, ColumnExpr] = Field(
        description="columns that define the groups, or column: expression; []: all rows are one group"
    )
    agg: dict[str, AggExpr] = Field(
        description="column: aggregates, as n: count() or share: sum(x) / sum(y)", min_length=1
    )

    def needed(self, columns: Columns) -> dict[str, Columns]:
        keys = names_in(self.by) if isinstance(self.by, dict) else frozenset(listed_names(self.by))
        return {"input": keys | names_in(self.agg)}


class ResampleFrame(FrameOp):
    """One row per period, in order: the columns of ``by``, the start of the period in column ``on``, the aggregates.

    Periods without rows between the first and the last one are included: their counts and sums are 0, other aggregates
    are missing. Rows without a time are ignored. Weeks begin on Monday; days and longer are those of the column's zone,
    shorter periods are lengths of time from midnight. Errors: no such column; a column ``on`` without times.
    """

    op: ClassVar[str] = "resample"
    home: ClassVar[str] = "frames.resample:resample"

    on: str = Field(description="column of times")
    rule: str = Field(description="period: D, 6h, 15 minutes, week, MS or month, 2 quarters, 10YS")
    agg: dict[str, AggExpr] = Field(description="column: aggregates, as in groupby", min_length=1)
    by: NameOrNames | None = Field(None, description="columns that define groups")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": frozenset({self.on, *listed_names(self.by or [])}) | names_in(self.agg)}


class ValueCounts(FrameOp):
    """The distinct values of some columns, with the number of rows of each in ``count`` (int64).

    Missing counts as a value, the last one. Errors: no such column; a column named count.
    """

    op: ClassVar[str] = "value_counts"
    home: ClassVar[str] = "frames.groupby:value_counts"

    columns: NameOrNames = Field(description="columns whose combinations are counted")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": frozenset(listed_names(self.columns))}


class Pivot(FrameOp):
    """One row per group, with a column for each of the given values of a column: the aggregate of the rows with it.

    A sum or count of no rows is 0, other aggregates are missing. With ``names: auto`` the values are found in the run:
    the result is one Arrow table, for an output (csv, json, parquet) or a call. Errors: no such column; with ``rest:
    fail`` a value that is not among ``names``.
    """

    op: ClassVar[str] = "pivot"
    home: ClassVar[str] = "frames.known_values:pivot"

    index: str | list[str] = Field(description="columns that define the groups; []: one row")
    columns: str = Field(description="column whose values become columns")
    names: Known | Literal["auto"] = Field(
        description="its values, known before the run; or a map, column: value; auto: those that there are"
    )
    agg: AggExpr = Field(description="aggregates, as sum(x)")
    rest: Literal["fail", "drop"] = Field("fail", description="what rows with other values do")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": frozenset({*listed_names(self.index), self.columns}) | self.agg.names}


class Dummies(FrameOp):
    """The frame with a column replaced by one for each of its given values: true where a row has that value.

    The new columns are called COLUMN_VALUE. Errors: no such column; a name that is a column already.
    """

    op: ClassVar[str] = "dummies"
    home: ClassVar[str] = "frames.known_values:dummies"

    column: str = Field(description="column whose values become columns")
    names: Known = Field(description="its values, known before the run; or a map, column: value")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": None if columns is None else columns | {self.column}}


class Cut(FrameOp):
    """The frame with a column that has the bin of each value; values outside of all bins, and missing ones, are
    missing there.

    Errors: no such column; edges that don't ascend.
    """

    op: ClassVar[str] = "cut"
    home: ClassVar[str] = "frames.known_values:cut"

    column: str = Field(description="column of numbers or times")
    bins: Annotated[list[Any], Field(min_length=2, max_length=1000)] = Field(description="edges of the bins, ascending")
    into: str = Field(description="name of the new column")
    labels: list[Any] | None = Field(None, description='labels of the bins; default: "[0, 10)"')
    closed: Literal["left", "right"] = Field("left", description="which edge belongs to a bin")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": None if columns is None else (columns - {self.into}) | {self.column}}


class Describe(FrameOp):
    """One row per column: name, type, count, missing, min and max as text; of numbers mean, std, quartiles and median.

    Errors: no such column.
    """

    op: ClassVar[str] = "describe"
    home: ClassVar[str] = "frames.describe:describe"

    columns: NameOrNames | None = Field(None, description="columns to describe; default: all")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": None if self.columns is None else frozenset(listed_names(self.columns))}
