"""Ops that put the columns and rows of a frame right, and those that say how it lies."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import AggExpr, Columns, Function, Type
from pipeline.config.signatures.frames import FrameOp, NameOrNames, listed_names, names_in

__all__ = [
    "Astype",
    "Dropna",
    "Fillna",
    "MapPartitions",
    "Rename",
    "Repartition",
    "ResampleFrame",
    "RollingFrame",
    "SetIndex",
    "ValueCounts",
]

Scalar = bool | int | float | str


class Rename(FrameOp):
    """The frame with other names for some columns. Errors: no such column; two columns of one name."""

    op: ClassVar[str] = "rename"
    home: ClassVar[str] = "frames.cleaning:rename"

    columns: dict[str, str] = Field(description="old name: new name", min_length=1)

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if columns is None:
            return {"input": None}
        old = {new: name for name, new in self.columns.items()}
        return {"input": frozenset(old.get(name, name) for name in columns).union(self.columns)}


class Astype(FrameOp):
    """The frame with some columns in other types. No value changes: what does not fit fails the run, and is named.

    Numbers, true and false, times and durations may come from text, and text from anything. Errors: no such column or
    type; types of which one does not become the other.
    """

    op: ClassVar[str] = "astype"
    home: ClassVar[str] = "frames.cleaning:astype"

    columns: dict[str, Type] = Field(description="column: type", min_length=1)

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": None if columns is None else columns.union(self.columns)}


class Fillna(FrameOp):
    """The frame with a value where columns have none; types stay.

    One value fills the columns of its kind (a number: numbers), the others stay as they are. Errors: no such column; a
    value that does not fit its column.
    """

    op: ClassVar[str] = "fillna"
    home: ClassVar[str] = "frames.cleaning:fillna"

    value: Scalar | Annotated[dict[str, Scalar], Field(min_length=1)] = Field(
        description="value, or column: value; times as text"
    )

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if columns is None:
            return {"input": None}
        return {"input": columns.union(self.value) if isinstance(self.value, dict) else columns}


class Dropna(FrameOp):
    """The rows without missing values. Errors: no such column."""

    op: ClassVar[str] = "dropna"
    home: ClassVar[str] = "frames.cleaning:dropna"

    subset: NameOrNames | None = Field(None, description="columns that are looked at; default: all")
    how: Literal["any", "all"] = Field("any", description="which rows go: with any of them missing, or with all")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if columns is None or self.subset is None:
            return {"input": None}
        return {"input": columns.union(listed_names(self.subset))}


class ValueCounts(FrameOp):
    """The different values of some columns, and in ``count`` (int64) how many rows have them.

    Missing is a value like others. Errors: no such column; one that is named count.
    """

    op: ClassVar[str] = "value_counts"
    home: ClassVar[str] = "frames.groupby:value_counts"

    columns: NameOrNames = Field(description="columns that are counted together")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": frozenset(listed_names(self.columns))}


class SetIndex(FrameOp):
    """The rows in order of some columns, ties by the remaining columns, rows with equal keys in one partition.

    Frames have no index: this is for map_partitions, which then gets every key whole. Errors: no such column.
    """

    op: ClassVar[str] = "set_index"
    home: ClassVar[str] = "frames.sort:set_index"

    keys: NameOrNames = Field(description="columns to sort and partition by")


class Repartition(FrameOp):
    """The same rows, in the same order, in other partitions.

    Rows that are counted are dealt evenly, so that frames of as many rows are cut alike. They are counted in the run,
    where metadata don't tell how many there are. A number says so, too, else the run fails: the length of an array made
    of them is then known before it. Errors: neither of the two.
    """

    op: ClassVar[str] = "repartition"
    home: ClassVar[str] = "frames.repartition:repartition"

    npartitions: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="how many; default: as many as there are"
    )
    count_rows: bool | Annotated[int, Field(ge=0)] = Field(
        False, description="count the rows and deal them evenly; or how many rows there are"
    )

    def misfits(self, kinds: Any) -> list[tuple[str, str]]:
        if self.npartitions is None and self.count_rows is False:
            return [("", "needs npartitions, or count_rows: true to deal the rows evenly")]
        return []

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": columns}


class MapPartitions(FrameOp):
    """A function of the user's, called with each partition as a ``pandas.DataFrame``; it returns another one.

    Which rows share a partition is said by op set_index; no result should depend on it otherwise. Errors: other columns
    than said, or values that do not fit their types, fail the task.
    """

    op: ClassVar[str] = "map_partitions"
    home: ClassVar[str] = "frames.repartition:map_partitions"

    function: Function = Field(description='"module:function"; gets the partition, then args as keywords')
    args: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")
    columns: dict[str, Type] = Field(description="column: type, of the result", min_length=1)


class ResampleFrame(FrameOp):
    """A row a period: the columns of by, the start of the period in the column of on, the aggregates; in order.

    Periods without rows between the first and the last one are there, too: counts and sums 0, the others missing. Rows
    without a time are left out. Errors: no such column; one that holds no times.
    """

    op: ClassVar[str] = "resample"
    home: ClassVar[str] = "frames.resample:resample"

    on: str = Field(description="column of times")
    rule: str = Field(description="period, as pandas writes it (MS, D, 6h)")
    agg: dict[str, AggExpr] = Field(description="column: aggregate, as n: count() or x: mean(x)", min_length=1)
    by: NameOrNames | None = Field(None, description="columns that make groups")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": frozenset({self.on, *listed_names(self.by or [])}) | names_in(self.agg)}


class RollingFrame(FrameOp):
    """The rows in order of by and on, with a column for each aggregate of the window that ends at the row, or has it in
    its middle.

    Ties are in the order of the remaining columns. Floats, but for counts (int64), any and all, and min, max, first and
    last, which keep the type. Errors: no such column; values that the aggregate has no meaning for.
    """

    op: ClassVar[str] = "rolling"
    home: ClassVar[str] = "frames.rolling:rolling"

    on: str = Field(description="column that rows are in order of")
    window: Annotated[int, Field(ge=1)] | str = Field(description="rows, or a length of time (7d) up to the row's own")
    columns: dict[str, AggExpr] = Field(description="column: aggregate, as n: count() or x: mean(x)", min_length=1)
    by: NameOrNames | None = Field(None, description="columns that make groups")
    center: bool = Field(
        False, description="have the row in the middle of its window; an even number of rows reaches one further back"
    )
    min_periods: Annotated[int, Field(ge=1)] | None = Field(
        None, description="values a window needs; default: all of its rows; of a length of time: one"
    )
