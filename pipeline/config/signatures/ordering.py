"""Ops about the order of rows: sort_values and what follows from it, windows, and some of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from pipeline.config.signatures.base import Columns, WindowExpr
from pipeline.config.signatures.frames import FrameOp, NameOrNames, listed_names, names_in
from pipeline.units import count_text

__all__ = ["DropDuplicates", "Head", "Nlargest", "Nsmallest", "Sample", "SortValues", "Window"]


def _without_directions(value: Any) -> Any:
    if isinstance(value, dict) and value:
        falls = [str(way).lower().startswith("desc") for way in value.values()]
        ways = ", ".join("false" if down else "true" for down in falls)
        raise ValueError(f"got a map; name the columns, [{', '.join(map(str, value))}], with ascending: [{ways}]")
    return value


_InOrder = Annotated[NameOrNames, BeforeValidator(_without_directions)]
_Ascending = bool | Annotated[list[bool], Field(min_length=1)]


def _directions(ascending: bool | list[bool], names: str | list[str], of: str) -> list[tuple[str, str]]:
    if isinstance(ascending, bool) or len(ascending) == len(listed_names(names)):
        return []
    columns = count_text(len(listed_names(names)), "column")
    return [("ascending", f"got {count_text(len(ascending), 'value')} for {columns} of {of}")]


class _Ordered(FrameOp):
    """An op whose result depends on the order of rows: ties are broken by the other columns, so it needs them all."""


class SortValues(_Ordered):
    """The rows sorted by some columns, ties by the remaining columns, or the first ``n`` of them.

    Missing values are last, whichever way a column is sorted, unless ``missing: first``. Errors: no such column.
    """

    op: ClassVar[str] = "sort_values"
    home: ClassVar[str] = "frames.sort:sort_values"

    by: _InOrder = Field(description="columns to sort by")
    ascending: _Ascending = Field(True, description="smallest first; a list: one for each column of by")

    missing: Literal["first", "last"] = Field("last", description="where missing values are placed")
    n: Annotated[int, Field(ge=1)] | None = Field(None, description="only the first so many rows, in one partition")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        return _directions(self.ascending, self.by, "by")


class _Extremes(_Ordered):
    n: Annotated[int, Field(ge=1)] = Field(description="number of rows")
    columns: NameOrNames = Field(description="columns to order by")
    by: NameOrNames | None = Field(None, description="columns that define groups: n rows of each group, in their order")


class Nlargest(_Extremes):
    """The ``n`` rows with the largest values, largest first, ties by the remaining columns. Errors: no such column."""

    op: ClassVar[str] = "nlargest"
    home: ClassVar[str] = "frames.sort:nlargest"


class Nsmallest(_Extremes):
    """The ``n`` rows with the smallest values, smallest first, ties by the remaining columns.

    Errors: no such column.
    """

    op: ClassVar[str] = "nsmallest"
    home: ClassVar[str] = "frames.sort:nsmallest"


class DropDuplicates(_Ordered):
    """The distinct rows, or one row for each distinct value of ``subset``: the first when sorted by all columns.

    Errors: no such column.
    """

    op: ClassVar[str] = "drop_duplicates"
    home: ClassVar[str] = "frames.sort:drop_duplicates"

    subset: NameOrNames | None = Field(None, description="columns to compare; default: all")


class Head(FrameOp):
    """The first ``n`` rows, in one partition; of a frame without an order any: one file always gives the same.

    All rows where there are fewer.
    """

    op: ClassVar[str] = "head"
    home: ClassVar[str] = "frames.sampling:head"

    n: Annotated[int, Field(ge=0)] = Field(5, description="number of rows")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": columns}


class Sample(FrameOp):
    """Some of the rows, at random, in the order in which they were.

    Which ones follows from the seed of the file, the step, and the number of each row in the frame, so that partitions
    do not matter. Rows of a large join have no order: give them one first, if the same must be taken by other files.
    """

    op: ClassVar[str] = "sample"
    home: ClassVar[str] = "frames.sampling:sample"

    fraction: Annotated[int | float, Field(ge=0, le=1)] | None = Field(
        None, description="the chance of each row to be taken"
    )
    n: Annotated[int, Field(ge=0)] | None = Field(
        None, description="number of rows, in one partition; or all there are"
    )

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        if (self.fraction is None) == (self.n is None):
            return [("", "needs fraction or n")]
        return []

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": columns}


class Window(FrameOp):
    """The rows with columns added or replaced, each computed from the rows of the same group.

    ``x / sum(x)``: aggregates are those of the group. ``rank() dense_rank() row_number() lag(x, n) lead(x, n) cumsum(x)
    cummin(x) cummax(x)`` follow the order; ties are in the order of the remaining columns, but have one rank. For
    aggregates of so many rows, or so much time, see op rolling. Errors: no such column; no order for a function that
    needs one.
    """

    op: ClassVar[str] = "window"
    home: ClassVar[str] = "frames.window:window"

    columns: dict[str, WindowExpr] = Field(description="column: expression", min_length=1)
    by: str | list[str] | None = Field(
        None, description="columns that define groups; default, as none of them: one group, in one task"
    )
    order: Annotated[NameOrNames | None, BeforeValidator(_without_directions)] = Field(
        None, description="columns that the rows of a group are in order of"
    )
    ascending: _Ascending = Field(True, description="smallest first; a list: one for each column of order")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        return _directions(self.ascending, self.order or [], "order")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if columns is None or self.order is not None:
            return {"input": None}  # the other columns break ties
        own = names_in(self.columns) | set(listed_names(self.by or []))
        return {"input": (columns - self.columns.keys()) | own}
