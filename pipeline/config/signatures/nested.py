"""Ops that turn lists and structs into rows and columns, and columns into rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import Columns, Names, Type
from pipeline.config.signatures.frames import FrameOp, NameOrNames, listed_names

__all__ = ["Explode", "Melt", "Unnest"]


class Explode(FrameOp):
    """A row for each element of a list; a list without elements, or a missing one, is one row.

    Several columns have lists of the same length in each row. Errors: no such column, one that has no lists, or lists
    of different lengths.
    """

    op: ClassVar[str] = "explode"
    home: ClassVar[str] = "frames.nested:explode"

    columns: NameOrNames = Field(description="columns of lists")
    position: str | None = Field(
        None, description="name of a new column with the place of the element in its list: 0, 1"
    )
    empty: Literal["keep", "drop"] = Field(
        "keep", description="what becomes of lists without elements, and missing ones"
    )

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if columns is None:
            return {"input": None}
        return {"input": (columns - {self.position or ""}) | frozenset(listed_names(self.columns))}


class Unnest(FrameOp):
    """The members of structs as columns, in the place of the struct; of a missing struct all are missing.

    They are named ``address_city``, or with ``prefix: false`` ``city``. ``from_json`` first reads text as JSON of a
    type: ``struct[city: string]``; members that the type does not name are left out. Errors: no such column, one
    without structs, or a name that is there already; in the run: text that is no such JSON.
    """

    op: ClassVar[str] = "unnest"
    home: ClassVar[str] = "frames.nested:unnest"

    columns: NameOrNames | None = Field(None, description="columns of structs; default: all that are there")
    prefix: bool = Field(True, description="whether names begin with that of the column")
    deep: bool = Field(False, description="also unnest structs inside structs")
    from_json: Type | None = Field(None, description="the columns are JSON text of this type")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        if self.from_json is not None and self.columns is None:
            return [("from_json", "needs columns: which columns are JSON")]
        return []


class Melt(FrameOp):
    """A row for each of several columns, with its name and its value; missing values stay.

    Errors: no such column; columns whose types have nothing in common.
    """

    op: ClassVar[str] = "melt"
    home: ClassVar[str] = "frames.nested:melt"

    id: str | list[str] = Field(description="columns that stay; []: none")
    columns: Names | None = Field(None, description="columns that become rows; default: all others")
    name: str = Field("variable", description="name of the column of names")
    value: str = Field("value", description="name of the column of values")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if self.columns is None:
            return {"input": None}
        return {"input": frozenset(self.columns) | frozenset(listed_names(self.id))}
