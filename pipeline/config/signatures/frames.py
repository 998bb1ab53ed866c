"""Ops that select and filter frames; the base class of frame ops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import ColumnExpr, Columns, Names, Signature

__all__ = [
    "Assign",
    "Concat",
    "Filter",
    "FrameOp",
    "NameOrNames",
    "Select",
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
    distributions: ClassVar = ("duckdb", "pyarrow")
    inputs: ClassVar = {"input": ("frame",)}
    gives: ClassVar[str] = "frame"


class Select(FrameOp):
    """The given columns, in the given order; in a map each is the value of an expression over the columns of the input.

    Errors: no such column; an operation that is not defined for its types.
    """

    op: ClassVar[str] = "select"
    home: ClassVar[str] = "frames.select:select"

    columns: Names | Annotated[dict[str, ColumnExpr], Field(min_length=1)] = Field(
        description="columns to keep; or column: expression"
    )

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": names_in(self.columns) if isinstance(self.columns, Mapping) else frozenset(self.columns)}


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


class Concat(FrameOp):
    """The rows of several frames with the same columns, one frame after the other.

    For gathered instances (``f[*]``) the matrix keys become the first columns. With ``columns: union`` a column that a
    frame lacks is missing in its rows. Errors: columns or types that differ.
    """

    op: ClassVar[str] = "concat"
    inputs: ClassVar = {"input": ("frame*",)}
    home: ClassVar[str] = "frames.select:concat"

    columns: Literal["same", "union"] = Field(
        "same", description="same: all frames must have the same columns; union: those of all of them, by name"
    )

    def needed(self, columns: Columns) -> dict[str, Columns]:
        return {"input": columns}
