"""Ops that join frames: merge, merge_asof."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from pipeline.config.signatures.base import ColumnExpr, Columns
from pipeline.config.signatures.frames import FrameOp, NameOrNames, listed_names
from pipeline.units import count_text

__all__ = ["Merge", "MergeAsof"]

_Suffixes = Annotated[list[str], Field(min_length=2)]


def _sources(columns: frozenset[str], suffixes: list[str]) -> frozenset[str]:
    """The columns of the inputs that may be these columns of the result."""
    names = set(columns)
    for suffix in filter(None, suffixes):
        names |= {name.removesuffix(suffix) for name in columns if name.endswith(suffix)}
    return frozenset(names)


with warnings.catch_warnings():
    # the parameter is named as in pandas; it hides a deprecated method of pydantic
    warnings.filterwarnings("ignore", message='Field name "validate"', category=UserWarning)

    class Merge(FrameOp):
        """The rows of two or more frames, joined where their keys are equal; missing keys never match.

        The result has the columns of left, then those of right (columns of ``on`` once); names that several have get
        the suffixes. ``how: left`` keeps rows of left without a match, with missing values, ``right`` those of right,
        ``outer`` both. ``semi`` and ``anti`` give the rows of left alone, those with and those without a match;
        ``cross`` gives all pairs of rows. Several frames as ``right`` are joined one after the other. Errors: no such
        column; keys whose types cannot be compared.
        """

        op: ClassVar[str] = "merge"
        inputs: ClassVar = {"left": ("frame",), "right": ("frame*",)}
        home: ClassVar[str] = "frames.merge:merge"

        how: Literal["inner", "left", "right", "outer", "cross", "semi", "anti"] = Field(
            "inner", description="which rows are kept"
        )
        on: NameOrNames | None = Field(None, description="key columns, with the same names in all")
        left_on: NameOrNames | None = Field(None, description="key columns of left")
        right_on: NameOrNames | None = Field(None, description="key columns of right, in the same order")
        where: ColumnExpr | None = Field(
            None, description="a further condition for rows to match, over the columns of the result, suffixes included"
        )
        validate: Literal["one_to_one", "one_to_many", "many_to_one", "many_to_many"] | None = Field(  # type: ignore[assignment]
            None, description="fail the run if a key repeats on a side declared as one"
        )
        suffixes: _Suffixes | None = Field(
            None, description="one for each frame, for names of other columns that several have; default: _x, _y"
        )

        @field_validator("how", mode="before")
        @classmethod
        def _word_of_sql(cls, how: object) -> object:
            if how in ("full", "full outer", "full_outer"):
                raise ValueError(f"got {how!r}; write how: outer")
            return how

        def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
            apart = [name for name in ("left_on", "right_on") if getattr(self, name) is not None]
            if self.how == "cross":
                given = (*(["on"] if self.on is not None else []), *apart)
                return [(name, "how: cross pairs all rows, without keys") for name in given]
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
            asked = self.where.names if self.where is not None else frozenset()
            suffixes = self.suffixes or ["_x", "_y", *(f"_{i}" for i in range(1, 100))]
            tested = _sources(asked, suffixes)
            if self.how in ("semi", "anti"):
                own = None if columns is None else columns.union(left, tested)
                return {"left": own, "right": frozenset(right) | tested}
            if columns is None:
                return {"left": None, "right": None}
            both = _sources(columns, suffixes) | tested
            return {"left": both.union(left), "right": both.union(right)}


class MergeAsof(FrameOp):
    """The rows of left, each with the row of right that is nearest in ``on``, among those equal in ``by``.

    ``backward``: the last one at or before it, ``forward``: the first one at or after it, ``nearest``: the nearer of
    both, of two as near the earlier. Rows of left without one have missing values. Of rows of right that are equal in
    ``by`` and ``on`` the first by their remaining columns counts. Columns and suffixes are as of merge, with the ``on``
    of left. Errors: no such column; types without distances.
    """

    op: ClassVar[str] = "merge_asof"
    inputs: ClassVar = {"left": ("frame",), "right": ("frame",)}
    home: ClassVar[str] = "frames.merge_asof:merge_asof"

    on: str | None = Field(None, description="the column that is near: numbers, dates, times or durations")
    left_on: str | None = Field(None, description="the column of left, where it has another name there")
    right_on: str | None = Field(None, description="the column of right")
    by: NameOrNames | None = Field(None, description="key columns that must be equal, with the same names in both")
    direction: Literal["backward", "forward", "nearest"] = Field("backward", description="which way to look")
    tolerance: str | int | float | None = Field(
        None, description="how far at most, the distance itself included: a duration (10min), or a number"
    )
    suffixes: Annotated[list[str], Field(min_length=2, max_length=2)] | None = Field(
        None, description="for names of other columns that both frames have; default: _x, _y"
    )

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        apart = [name for name in ("left_on", "right_on") if getattr(self, name) is not None]
        if self.on is not None:
            return [(name, "cannot be combined with 'on'; give on, or left_on and right_on") for name in apart]
        return [] if len(apart) == 2 else [("", "needs the column that is near: on, or left_on and right_on")]

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if columns is None:
            return {"left": None, "right": None}
        keys = [*listed_names(self.by or []), *filter(None, (self.on, self.left_on))]
        # of the right all: which of equal rows counts is said by the remaining columns
        return {"left": _sources(columns, self.suffixes or ["_x", "_y"]).union(keys), "right": None}
