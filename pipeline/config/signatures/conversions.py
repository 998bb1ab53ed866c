"""Ops that change the kind of a value: to_array, to_frame, to_items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import Columns, Dtype, Names, Signature, Type

__all__ = ["ToArray", "ToFrame", "ToItems"]


def _misplaced_parameters(
    signature: Signature, kind: str, allowed: Mapping[str, tuple[str, ...]], required: Mapping[str, tuple[str, ...]]
) -> list[tuple[str, str]]:
    """Return a message for each parameter that is not for this kind of input, and one for those that it lacks."""
    errors = []
    for name in sorted(signature.model_fields_set - set(allowed[kind])):
        others = " and ".join(k for k, names in allowed.items() if name in names)
        errors.append((name, f"has no effect on {_with_article(kind)}; it is for {others}"))
    lacking = [name for name in required[kind] if name not in signature.model_fields_set]
    if lacking:
        errors.append(("", f"op {signature.op!r} of {_with_article(kind)} needs {', '.join(lacking)}"))
    return errors


def _with_article(kind: str) -> str:
    return {"array": "an array", "frame": "a frame", "items": "items", "value": "a value"}[kind]


class Conversion(Signature):
    """An op from one kind to another."""

    family: ClassVar[str] = "conversions"
    distributions: ClassVar = ("numpy", "pyarrow")


class ToArray(Conversion):
    """An array from a frame, items or a value; data with another shape or dtype than declared fail the task.

    Frame: rows become the first of ``dims``, ``columns`` the second. After a filter the number of rows is unknown until
    run time; ops that need all rows at once then rechunk them to one chunk, which ``check`` shows. ``labels`` become a
    coordinate along the rows, which is written to netcdf and zarr, and is a column again after ``to_frame``. Whole
    numbers that may be missing become float64, if it holds them; with ``dtype: int64`` a missing one fails the run.
    Items: ``along`` is the new first dim, labelled with the keys of the items; ``dims`` and ``shape`` are those of one
    item. Not allowed after ``on_error: drop``. Value: ``dims``, ``shape``, ``dtype``.
    """

    op: ClassVar[str] = "to_array"
    inputs: ClassVar = {"input": ("frame", "items", "value")}
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "conversions:to_array"

    along: str | None = Field(None, description="items: name of the new dim")
    columns: str | Names | None = Field(
        None, description="frame: columns, or a pattern with *; default: all columns of numbers"
    )
    dims: list[str] | None = Field(
        None, description="frame: [row, feature]; items: dims of one item; value: dims of the value"
    )
    labels: str | None = Field(None, description="frame: column that becomes a coordinate along the rows")
    shape: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, description="items: shape of one item; value: shape of the value"
    )
    dtype: Dtype | None = Field(None, description="of the array; default for a frame: the common dtype of its columns")
    chunks: Annotated[int, Field(ge=1)] = Field(1, description="number of items in a chunk")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        allowed = {
            "frame": ("columns", "dims", "labels", "dtype"),
            "items": ("along", "dims", "shape", "dtype", "chunks"),
            "value": ("dims", "shape", "dtype"),
        }
        required = {"frame": ("dims",), "items": ("along", "shape", "dtype"), "value": ("dims", "shape", "dtype")}
        kind = kinds.get("input", "")
        errors = _misplaced_parameters(self, kind, allowed, required) if kind in allowed else []
        if kind == "frame" and self.dims is not None and len(self.dims) != 2:
            errors.append(("dims", f"got {len(self.dims)} names; a frame has two dims: [row, feature]"))
        shaped = kind in ("value", "items") and self.dims is not None and self.shape is not None
        if shaped and len(self.dims or ()) != len(self.shape or ()):
            errors.append(("shape", f"got {len(self.shape or ())} sizes for {len(self.dims or ())} dims"))
        return errors

    def needed(self, columns: Columns) -> dict[str, Columns]:
        names = [self.columns] if isinstance(self.columns, str) else self.columns
        if names is None or any(set("*?[") & set(name) for name in names):
            return {"input": None}
        return {"input": frozenset(names) | ({self.labels} if self.labels else set())}


class ToFrame(Conversion):
    """A frame from an array, items or a value.

    Items and values: ``columns`` declares the columns and their types. An item is a map, a list of maps, a
    DataFrame, or the value of the only column; any may be missing. ``key`` and the scalar keys of ``over`` and
    ``matrix`` are added as columns. Array: one row per cell, with the dims as columns; with ``columns: dim`` each
    label of that dim becomes a column instead, whose name begins with ``prefix``. Several arrays (``bias[*]``): one
    row each, with the matrix keys as columns.

    Errors: an item that lacks a column, or has another type, fails its task; the message names the item.
    """

    op: ClassVar[str] = "to_frame"
    inputs: ClassVar = {"input": ("array*", "items", "value*")}
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "to_frame:to_frame"

    columns: Annotated[dict[str, Type], Field(min_length=1)] | str | None = Field(
        None, description="items and values: column: type; array: the dim whose labels become columns"
    )
    prefix: str | None = Field(None, description="array with columns: prefix of the column names")
    value: str = Field("value", description="array without columns: name of the column of cell values")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        kind = kinds.get("input", "")
        plain = kind.rstrip("*")
        if kind in ("items", "value", "value*", "array*"):
            source = _with_article(plain) if kind == plain else f"gathered {plain}s"
            errors: list[tuple[str, str]] = [
                (name, f"has no effect on {source}; it is for one array")
                for name in ("prefix", "value")
                if name in self.model_fields_set
            ]
            if not isinstance(self.columns, dict):
                needs = f"op 'to_frame' of {source} needs columns: {{name: type}}"
                errors.append(("columns" if self.columns else "", needs))
            elif kind == "array*" and len(self.columns) != 1:
                errors.append(("columns", f"got {len(self.columns)} columns; the values of the arrays make one column"))
            return errors
        if kind == "array" and isinstance(self.columns, dict):
            return [("columns", "got a map; for one array write the dim whose labels become columns")]
        if kind == "array" and self.prefix is not None and self.columns is None:
            return [("prefix", "needs columns: the dim whose labels become columns")]
        if kind == "array" and "value" in self.model_fields_set and self.columns is not None:
            return [("value", "has no effect beside 'columns', which names the columns")]
        return []


class ToItems(Conversion):
    """Items from an array (one per position ``along`` a dim), a frame (one per row or partition), or a list.

    The length of a list is unknown until run time; its elements are spread over ``split`` tasks. With ``size`` each
    item is a list of so many consecutive ones, the last of the rest; items, paths of files too, are put together like
    this. Items that were dropped are in no list.
    """

    op: ClassVar[str] = "to_items"
    inputs: ClassVar = {"input": ("array", "frame", "value", "items")}
    gives: ClassVar[str] = "items"
    home: ClassVar[str] = "conversions:to_items"

    along: str | None = Field(None, description="array: the dim")
    by: Literal["rows", "partitions"] | None = Field(None, description="frame: what becomes an item")
    split: Annotated[int, Field(ge=1, le=100_000)] = Field(64, description="value: number of tasks for the list")
    size: Annotated[int, Field(ge=1)] | None = Field(None, description="number of elements of each list")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        required: dict[str, tuple[str, ...]] = {"array": ("along",), "frame": ("by",), "value": (), "items": ("size",)}
        own = {**required, "value": ("split",), "items": ()}
        allowed = {kind: (*names, "size") for kind, names in own.items()}
        kind = kinds.get("input", "")
        return _misplaced_parameters(self, kind, allowed, required) if kind in allowed else []
