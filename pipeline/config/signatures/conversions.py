"""The only ops that change the kind of a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import Columns, Dtype, Names, Signature, Type

__all__ = ["ToArray", "ToFrame", "ToItems"]


def _strangers(
    got: Signature, kind: str, allowed: Mapping[str, tuple[str, ...]], required: Mapping[str, tuple[str, ...]]
) -> list[tuple[str, str]]:
    """Parameters that say nothing about ``kind``, and those it lacks."""
    faults = []
    for name in sorted(got.model_fields_set - set(allowed[kind])):
        others = " and ".join(k for k, names in allowed.items() if name in names)
        faults.append((name, f"says nothing about {_one(kind)}; it is for {others}"))
    lacking = [name for name in required[kind] if name not in got.model_fields_set]
    if lacking:
        faults.append(("", f"op {got.op!r} of {_one(kind)} needs {', '.join(lacking)}"))
    return faults


def _one(kind: str) -> str:
    return {"array": "an array", "frame": "a frame", "items": "items", "value": "a value"}[kind]


class Conversion(Signature):
    """An op from one kind to another."""

    group: ClassVar[str] = "conversions"


class ToArray(Conversion):
    """An array from a frame, items, or a value; it states what the data must be, and a difference fails its task.

    Frame: ``columns`` become the second of ``dims``, rows the first. How many a filter leaves, only the run knows: ops
    that must have all of them at once then bring them into one chunk, which ``check`` shows. ``labels`` go with the
    rows, also into netcdf and zarr, and are a column again in ``to_frame``.
    Items: ``along`` is the new first dim with the items' keys as labels, ``dims`` and ``shape`` are those of an
    item; not after ``on_error: drop``. Value: ``dims``, ``shape``, ``dtype``.
    """

    op: ClassVar[str] = "to_array"
    inputs: ClassVar = {"input": ("frame", "items", "value")}
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "conversions:to_array"

    along: str | None = Field(None, description="items: the new dim")
    columns: str | Names | None = Field(None, description="frame: columns, or a pattern with *; default: all numbers")
    dims: list[str] | None = Field(None, description="frame: [row, feature]; items: of one item; value: of it")
    labels: str | None = Field(None, description="frame: column that becomes a coordinate of its name along the rows")
    shape: list[Annotated[int, Field(ge=0)]] | None = Field(None, description="items: of one item; value: of it")
    dtype: Dtype | None = Field(None, description="of the array; a frame's default: the columns' common one")
    chunks: Annotated[int, Field(ge=1)] = Field(1, description="items a chunk")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        allowed = {
            "frame": ("columns", "dims", "labels", "dtype"),
            "items": ("along", "dims", "shape", "dtype", "chunks"),
            "value": ("dims", "shape", "dtype"),
        }
        required = {"frame": ("dims",), "items": ("along", "shape", "dtype"), "value": ("dims", "shape", "dtype")}
        kind = kinds.get("input", "")
        faults = _strangers(self, kind, allowed, required) if kind in allowed else []
        if kind == "frame" and self.dims is not None and len(self.dims) != 2:
            faults.append(("dims", f"got {len(self.dims)} names; a frame has two dims: [row, feature]"))
        if kind == "value" and None not in (self.dims, self.shape) and len(self.dims or ()) != len(self.shape or ()):
            faults.append(("shape", f"got {len(self.shape or ())} sizes for {len(self.dims or ())} dims"))
        if kind == "items" and None not in (self.dims, self.shape) and len(self.dims or ()) != len(self.shape or ()):
            faults.append(("shape", f"got {len(self.shape or ())} sizes for {len(self.dims or ())} dims"))
        return faults

    def needed(self, columns: Columns) -> dict[str, Columns]:
        names = [self.columns] if isinstance(self.columns, str) else self.columns
        if names is None or any(set("*?[") & set(name) for name in names):
            return {"input": None}
        return {"input": frozenset(names) | ({self.labels} if self.labels else set())}


class ToFrame(Conversion):
    """A frame from an array, items, or a value.

    Items and values: an item is a map, a list of maps, a DataFrame, or the value of the one column; ``columns`` names
    the columns and their types, and scalar over and matrix keys, and ``key``, come as columns, too. Array: a row a
    cell with the dims as columns; ``columns: dim`` with ``prefix`` instead makes a column of each label of a dim.
    Several arrays (``bias[*]``): a row each, with the matrix keys as columns.

    Errors: an item without a column, or of another type, fails its task, naming the item.
    """

    op: ClassVar[str] = "to_frame"
    inputs: ClassVar = {"input": ("array*", "items", "value*")}
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "to_frame:to_frame"

    columns: Annotated[dict[str, Type], Field(min_length=1)] | str | None = Field(
        None, description="column: type of items and values; array: the dim whose labels become columns"
    )
    prefix: str | None = Field(None, description="array: what the names of the columns begin with")
    value: str = Field("value", description="array without columns: name of the column of the cells")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        kind = kinds.get("input", "")
        plain = kind.rstrip("*")
        if kind in ("items", "value", "value*", "array*"):
            said = _one(plain) if kind == plain else f"gathered {plain}s"
            faults: list[tuple[str, str]] = [
                (name, f"says nothing about {said}; it is for one array")
                for name in ("prefix", "value")
                if name in self.model_fields_set
            ]
            if not isinstance(self.columns, dict):
                needs = f"op 'to_frame' of {said} needs columns: {{name: type}}"
                faults.append(("columns" if self.columns else "", needs))
            elif kind == "array*" and len(self.columns) != 1:
                faults.append(("columns", f"got {len(self.columns)} columns; the cells of the arrays make one"))
            return faults
        if kind == "array" and isinstance(self.columns, dict):
            return [("columns", "got a map; of one array it is the dim whose labels become columns")]
        if kind == "array" and self.prefix is not None and self.columns is None:
            return [("prefix", "needs columns: the dim whose labels become columns")]
        if kind == "array" and "value" in self.model_fields_set and self.columns is not None:
            return [("value", "stands beside 'columns', which names the columns")]
        return []


class ToItems(Conversion):
    """Items from an array (one a label ``along`` a dim), a frame (``by`` rows or partitions), or a value (a list).

    A list's length is known only in the run: it is dealt into ``split`` tasks.
    """

    op: ClassVar[str] = "to_items"
    inputs: ClassVar = {"input": ("array", "frame", "value")}
    gives: ClassVar[str] = "items"
    home: ClassVar[str] = "conversions:to_items"

    along: str | None = Field(None, description="array: the dim")
    by: Literal["rows", "partitions"] | None = Field(None, description="frame: what becomes an item")
    split: Annotated[int, Field(ge=1, le=100_000)] = Field(
        64, description="value: into how many tasks the list is dealt"
    )

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        allowed = {"array": ("along",), "frame": ("by",), "value": ("split",)}
        kind = kinds.get("input", "")
        return _strangers(self, kind, allowed, {**allowed, "value": ()}) if kind in allowed else []
