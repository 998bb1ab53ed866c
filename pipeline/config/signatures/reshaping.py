"""Ops that reorder, reshape, join or pad arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.arrays import ArrayOp
from pipeline.config.signatures.base import Axis, Names

__all__ = ["Concatenate", "Pad", "Reshape", "Roll", "Stack", "Transpose"]

PadSize = Annotated[int, Field(ge=0, le=10_000_000)]


class Transpose(ArrayOp):
    """The same array with its dims in another order. Errors: a list that is not all of its dims, each once."""

    op: ClassVar[str] = "transpose"
    home: ClassVar[str] = "arrays.reshaping:transpose"

    dims: Names | None = Field(None, description="all dims in their new order; default: reversed")


class Reshape(ArrayOp):
    """The values along some dims, in C order (the last dim fastest), as values of new dims in the place of the first.

    ``{axis: time, dims: {year: -1, month: 12}}`` splits a dim, ``{axis: [y, x], dims: {cell: -1}}`` joins two. The old
    dims lose their labels. Chunks that are not contiguous in this order are rechunked, which ``check`` shows.
    Errors: no such dim; sizes whose product differs from the old one.
    """

    op: ClassVar[str] = "reshape"
    home: ClassVar[str] = "arrays.reshaping:reshape"

    dims: dict[str, Annotated[int, Field(ge=-1)]] = Field(
        description="new dim: size; -1 for at most one: the size that remains"
    )
    axis: Axis | None = Field(None, description="dims to replace, in the order of reading; default: all")


class Stack(ArrayOp):
    """Arrays of the same dims, lengths and labels, along a new first dim.

    For gathered instances (``tas[*]``) the values of the matrix key label the new dim; for several matrix keys the
    names of the instances do, with a coordinate for each key. Errors: dims, lengths or labels that differ.
    """

    op: ClassVar[str] = "stack"
    inputs: ClassVar = {"input": ("array*",)}
    home: ClassVar[str] = "arrays.stacking:stack"

    dim: str = Field(description="name of the new dim", min_length=1)


class Concatenate(ArrayOp):
    """Arrays of the same dims, one after the other along one of them; their lengths along it may differ.

    Labels along it are kept where all arrays have them. Errors: no such dim; lengths or labels that differ along the
    other dims.
    """

    op: ClassVar[str] = "concatenate"
    inputs: ClassVar = {"input": ("array*",)}
    home: ClassVar[str] = "arrays.stacking:concatenate"

    axis: str = Field(description="the dim")


class Pad(ArrayOp):
    """The array with positions added before and after it; padded dims lose their labels.

    Modes are those of numpy: ``constant``; ``edge``: the outermost value; ``reflect``: mirrored without the outermost
    value; ``symmetric``: mirrored with it; ``wrap``: values from the other end. Errors: no such dim; a constant that
    the dtype cannot hold.
    """

    op: ClassVar[str] = "pad"
    home: ClassVar[str] = "arrays.reshaping:pad"

    pad_width: dict[str, Annotated[list[PadSize], Field(min_length=2, max_length=2)]] = Field(
        description="dim: [number of positions before, after]", min_length=1
    )
    mode: Literal["constant", "edge", "reflect", "symmetric", "wrap"] = Field(
        "constant", description="how the new positions are filled"
    )
    constant_values: int | float = Field(0, description="constant: the value, in the dtype of the array")

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        if self.mode == "constant" or "constant_values" not in self.model_fields_set:
            return []
        return [("constant_values", f"has no effect on mode {self.mode}; it is for mode constant")]


class Roll(ArrayOp):
    """The values shifted along dims, with those beyond the end coming in at the start; labels do not move.

    Errors: no such dim.
    """

    op: ClassVar[str] = "roll"
    home: ClassVar[str] = "arrays.reshaping:roll"

    shift: dict[str, int] = Field(description="dim: number of positions; negative: backwards", min_length=1)
