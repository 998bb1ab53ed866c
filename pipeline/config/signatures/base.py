"""What a signature is: the parameters of an op, the kinds it takes, the kind it gives.

Everything that is said about an op outside its function is said here once: the loader checks a step against it,
``pipeline ops`` prints it, and the JSON Schema is made from it. No numpy and no dask: a bad file is answered quickly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from pipeline.errors import nearest

__all__ = [
    "COMMON_KEYS",
    "AggExpr",
    "Axis",
    "Chunk",
    "ColumnExpr",
    "Columns",
    "CoordExpr",
    "ExpressionIn",
    "Function",
    "Path",
    "Role",
    "Signature",
    "Type",
    "is_type",
    "role",
]

COMMON_KEYS = (
    *("input", "matrix", "exclude", "when", "checkpoint", "retries", "timeout", "resources", "pure", "on_error"),
)
"""The keys that a step of any kind may have; no parameter of an op is named as one of them."""

Columns = frozenset[str] | None
"""Columns of a frame that somebody needs; None: all of them."""


@dataclass(frozen=True)
class ExpressionIn:
    """Marks a field whose text is an expression, and says in which scope it is read."""

    scope: Literal["arrays", "columns", "agg", "coords"]


def _expression(scope: Literal["arrays", "columns", "agg", "coords"], example: str) -> tuple[Any, ...]:
    schema = {"type": ["string", "number", "boolean"], "examples": [example]}
    return ExpressionIn(scope), WithJsonSchema(schema)


ColumnExpr = Annotated[Any, *_expression("columns", "price * (1 - discount)")]
"""An expression over the columns of a frame; loaded: a :class:`pipeline.config.expressions.expression.Expression`."""
AggExpr = Annotated[Any, *_expression("agg", "mean(delay)")]
"""An expression whose outermost function aggregates a group."""
CoordExpr = Annotated[Any, *_expression("coords", "month(time)")]
"""An expression over the coordinates of an array."""

_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_TYPES = (*_DTYPES, "string", "timestamp", "date", "duration")


def is_type(text: str) -> bool:
    """Whether ``text`` names a type of columns."""
    return text in _TYPES or re.fullmatch(r"timestamp\[[^\[\]]+\]", text) is not None


def _type(text: str) -> str:
    if is_type(text):
        return text
    if text == "category":
        raise ValueError("a category is a way to store text, and its values differ by partition; write string")
    raise ValueError(f"got {text!r}, which is no type{nearest(text, _TYPES)}; types: {', '.join(_TYPES)}")


def _number_type(text: str) -> str:
    if text in _DTYPES:
        return text
    raise ValueError(f"got {text!r}, which is no dtype{nearest(text, _DTYPES)}; dtypes: {', '.join(_DTYPES)}")


def _function(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        return text
    raise ValueError(f'got {text!r}; a function is written "module:function"')


def _size(value: int) -> int:
    if value >= 1 or value == -1:
        return value
    raise ValueError(f"got {value}; a chunk size is a whole number >= 1, or -1 for the whole dim")


Type = Annotated[str, AfterValidator(_type)]
"""A column's type: numpy's names, ``string``, ``timestamp``, ``timestamp[UTC]``."""
Dtype = Annotated[str, AfterValidator(_number_type)]
"""An array's dtype: numpy's names."""
Function = Annotated[str, AfterValidator(_function)]
Path = Annotated[str, Field(min_length=1)]
"""An input path or URL; relative to the folder of the file that writes it. Absolute after loading."""
Size = Annotated[int, AfterValidator(_size)]
Chunk = Size | Literal["auto"] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
"""A size, -1 for the whole dim, ``auto``, or every size in order."""
Chunks = Annotated[dict[str, Chunk], Field(min_length=1)]
Names = Annotated[list[str], Field(min_length=1)]
Axis = str | Names
"""One dim, or several."""


@dataclass(frozen=True)
class Role:
    """What one reference key of an op takes.

    Parameters
    ----------
    kinds : allowed kinds of value: array, frame, items, value
    many : whether it takes a list, or a gathered reference (``bias[*]``)
    optional : whether it may be left out
    gathered : kinds that may come as a list; empty: all of ``kinds``, if ``many``
    """

    kinds: tuple[str, ...]
    many: bool = False
    optional: bool = False
    gathered: tuple[str, ...] = ()


def role(kinds: Iterable[str]) -> Role:
    """A :class:`Role` from its short form: ``("array", "items*")``; ``*`` marks kinds of which there may be many."""
    names = tuple(k.rstrip("*?") for k in kinds)
    several = tuple(k.rstrip("*?") for k in kinds if "*" in k)
    return Role(names, bool(several), any("?" in k for k in kinds), several)


class Signature(BaseModel):
    """The parameters of one op as fields; the docstring is the op's own.

    ``inputs`` maps the keys that hold references to the kinds they take (``"array"``; ``"array*"``: a list of them;
    ``"array?"``: may be left out); ``gives`` is the kind of the result (``parts`` with the names in ``parts``);
    ``home`` is where the function lies: ``module:function`` below ``pipeline.ops``, or in full where another
    distribution brings the op.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        defer_build=True,
    )

    op: ClassVar[str]
    group: ClassVar[str]
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"input": ("array",)}
    gives: ClassVar[str]
    home: ClassVar[str]
    parts: ClassVar[tuple[str, ...]] = ()
    later: ClassVar[bool] = False

    @classmethod
    def function_path(cls) -> str:
        """``package.module:function`` of the function that makes the value."""
        owner = next(c for c in cls.__mro__ if "home" in vars(c))
        return f"pipeline.ops.{cls.home}" if owner.__module__.startswith("pipeline.config.signatures.") else cls.home

    @classmethod
    def roles(cls) -> dict[str, Role]:
        """The reference keys in order."""
        return {name: role(kinds) for name, kinds in cls.inputs.items()}

    @classmethod
    def expression_fields(cls) -> dict[str, ExpressionIn]:
        """The fields that hold an expression, or a map or list of them."""
        found = {}
        for name, info in cls.model_fields.items():
            marks = [m for m in info.metadata if isinstance(m, ExpressionIn)]
            marks += [m for a in getattr(info.annotation, "__args__", ()) for m in getattr(a, "__metadata__", ())]
            for mark in marks:
                if isinstance(mark, ExpressionIn):
                    found[name] = mark
        return found

    @classmethod
    def map_fields(cls) -> frozenset[str]:
        """The fields that take a map and nothing else."""
        return frozenset(name for name, info in cls.model_fields.items() if get_origin(info.annotation) is dict)

    def keywords(self) -> dict[str, Any]:
        """The parameters, to be handed to the op's function."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def needed(self, columns: Columns) -> dict[str, Columns]:
        """Which columns of each frame input are needed when ``columns`` of the result are; None: all."""
        return dict.fromkeys(self.inputs)

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        """What does not fit the kinds of the inputs, as ``(parameter, message)``."""
        return []
