"""Ops that select, filter, join, group and sort frames; the base class of frame ops."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import AggExpr, ColumnExpr, Columns, Names, Signature
from pipeline.units import count_text

__all__ = [
    "Assign",
    "Concat",
    "DropDuplicates",
    "Filter",
    "FrameOp",
    "GroupbyFrame",
    "Merge",
    "NameOrNames",
    "Nlargest",
    "Nsmallest",
    "Select",
    "SortValues",
    "listed_names",
    "names_in",
]

NameOrNames = str | Names


def listed_names(names: str | list[str]) -> list[str]:
    """Return one name, or several, as a list."""
    return [names] if isinstance(names, str) else names


def names_in(expressions: Mapping[str, Any]) -> frozenset[str]:
    """Return the columns that the expressions use."""
    return frozenset().union(*(e.names for e in expressions.values()))


class FrameOp(Signature):
    """An op from one frame to one frame. Rows have no order, except after a sort."""

    family: ClassVar[str] = "frames"
    inputs: ClassVar = {"input": ("frame",)}
    gives: ClassVar[str] = "frame"


class Select(FrameOp):
    """The given columns, in the given order. Errors: no such column."""

    op: ClassVar[str] = "select"
    home: ClassVar[str] = "frames.select:select"

    columns: Names = Field(description="columns to keep")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": frozenset(self.columns)}


class Filter(FrameOp):
    """The rows for which a condition is true; a comparison with a missing value is false. Errors: no such column."""

    op: ClassVar[str] = "filter"
    home: ClassVar[str] = "frames.select:filter"

    where: ColumnExpr = Field(description="condition over the columns")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": None if columns is None else columns | self.where.names}


class Assign(FrameOp):
    """The frame with columns added or replaced, in the order written; an expression may use the columns before it.

    Types are those of the expressions. Errors: no such column; an operation that is not defined for its types.
    """

    op: ClassVar[str] = "assign"
    home: ClassVar[str] = "frames.select:assign"

    columns: dict[str, ColumnExpr] = Field(description="column: expression", min_length=1)

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if columns is None:
            return {"input": None}
        names: set[str] = set()
        made: set[str] = set()
        for column, expression in self.columns.items():
            names |= names_in({column: expression}) - made
            made.add(column)
        return {"input": frozenset((columns - made) | names)}


class GroupbyFrame(FrameOp):
    """One row per group: the keys of the group, then the aggregates, in the order written.

    Missing keys form a group. Without keys (``by: []``) there is one row, even for an empty frame. Counts are int64,
    means float64. Errors: no such column.
    """

    op: ClassVar[str] = "groupby"
    home: ClassVar[str] = "frames.groupby:groupby"

    by: str | list[str] = Field(description="columns that define the groups; []: all rows are one group")
    agg: dict[str, AggExpr] = Field(description="column: aggregate, as n: count() or x: mean(x)", min_length=1)

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": frozenset(listed_names(self.by)) | names_in(self.agg)}


with warnings.catch_warnings():
    # the parameter is named as in pandas; it hides a deprecated method of pydantic
    warnings.filterwarnings("ignore", message='Field name "validate"', category=UserWarning)

    class Merge(FrameOp):
        """The rows of two frames, joined where their keys are equal; missing keys never match.

        The result has the columns of left, then those of right (columns of ``on`` once); names that both have get the
        suffixes. ``how: left`` keeps rows of left without a match, with missing values. ``semi`` and ``anti`` give the
        rows of left alone, those with and those without a match. Errors: no such column; keys whose types cannot be
        compared.
        """

        op: ClassVar[str] = "merge"
        inputs: ClassVar = {"left": ("frame",), "right": ("frame",)}
        home: ClassVar[str] = "frames.merge:merge"

        how: Literal["inner", "left", "semi", "anti"] = Field("inner", description="which rows are kept")
        on: NameOrNames | None = Field(None, description="key columns, with the same names in both")
        left_on: NameOrNames | None = Field(None, description="key columns of left")
        right_on: NameOrNames | None = Field(None, description="key columns of right, in the same order")
        validate: Literal["one_to_one", "one_to_many", "many_to_one", "many_to_many"] | None = Field(  # type: ignore[assignment]
            None, description="fail the run if a key repeats on a side declared as one"
        )
        suffixes: Annotated[list[str], Field(min_length=2, max_length=2)] = Field(
            default_factory=lambda: ["_x", "_y"], description="for names of other columns that both frames have"
        )

        def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
            apart = [name for name in ("left_on", "right_on") if getattr(self, name) is not None]
            if self.on is not None:
                return [(name, "cannot be combined with 'on'; give on, or left_on and right_on") for name in apart]
            if len(apart) < 2:
                return [("", "needs the key columns: on, or left_on and right_on")]
            n_left, n_right = len(listed_names(self.left_on or [])), len(listed_names(self.right_on or []))
            return (
                [("right_on", f"got {count_text(n_right, 'column')}; left_on has {n_left}")]
                if n_left != n_right
                else []
            )

        def needed(self, columns: Columns) -> dict[str, Columns]:
            left = listed_names(self.on or self.left_on or [])
            right = listed_names(self.on or self.right_on or [])
            if self.how in ("semi", "anti"):
                return {"left": None if columns is None else columns.union(left), "right": frozenset(right)}
            if columns is None:
                return {"left": None, "right": None}
            both = set(columns)
            for suffix in filter(None, self.suffixes):
                both |= {name.removesuffix(suffix) for name in columns if name.endswith(suffix)}
            return {"left": frozenset(both.union(left)), "right": frozenset(both.union(right))}


class Concat(FrameOp):
    """The rows of several frames with the same columns, one frame after the other.

    For gathered instances (``f[*]``) the matrix keys become the first columns. Errors: columns or types that differ.
    """

    op: ClassVar[str] = "concat"
    inputs: ClassVar = {"input": ("frame*",)}
    home: ClassVar[str] = "frames.select:concat"

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": columns}


class _Ordered(FrameOp):
    """An op whose result depends on the order of rows: ties are broken by the other columns, so it needs them all."""


class SortValues(_Ordered):
    """The rows sorted by some columns, ties by the remaining columns; missing values last. Errors: no such column."""

    op: ClassVar[str] = "sort_values"
    home: ClassVar[str] = "frames.sort:sort_values"

    by: NameOrNames = Field(description="columns to sort by")
    ascending: bool | Annotated[list[bool], Field(min_length=1)] = Field(
        True, description="smallest first; a list: one for each column of by"
    )

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        if isinstance(self.ascending, bool) or len(self.ascending) == len(listed_names(self.by)):
            return []
        columns = count_text(len(listed_names(self.by)), "column")
        return [("ascending", f"got {count_text(len(self.ascending), 'value')} for {columns} of by")]


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
